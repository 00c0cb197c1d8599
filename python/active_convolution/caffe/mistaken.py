"""What to say of a file that is not a network, solver or weights, or that another Caffe knows:
what it is, and what to give."""

import re
import warnings

from google.protobuf import text_format
from google.protobuf.message import DecodeError

from . import locate

HDF5 = b"\x89HDF\r\n\x1a\n"
_SMOOTH = "roi_pooling_param smooth_l1_loss_param"
_FIELDS = {  # of LayerParameter, in other Caffes
    "SSD's Caffe (weiliu89/caffe, branch ssd)": "permute_param norm_param prior_box_param "
    "multibox_loss_param detection_output_param detection_evaluate_param annotated_data_param "
    "video_data_param",
    "Fast R-CNN's Caffe (rbgirshick/caffe-fast-rcnn)": _SMOOTH,
    "R-FCN's Caffe (daijifeng001/caffe-rfcn)": f"{_SMOOTH} psroi_pooling_param "
    "box_annotator_ohem_param",
    "DeepLab's or PSPNet's Caffe (hszhao/PSPNet)": "interp_param seg_accuracy_param bn_param",
    "SegNet's Caffe (alexgkendall/caffe-segnet)": "upsample_param bn_param dense_image_data_param",
    "ShuffleNet's Caffe (farmingyard/ShuffleNet)": "shuffle_channel_param conv_dw_param",
    "OpenPose's Caffe (CMU-Perceptual-Computing-Lab)": "cpm_transform_param imresize_param",
}
_BEGINNINGS = {  # of files that people take for a network or its weights
    b"MATLAB": "a MATLAB file: give a .caffemodel",
    b"PK\x03\x04": "a zip archive, as .npz and PyTorch's .pth are: give a .caffemodel",
    b"version https://git-lfs": "a pointer of Git LFS: fetch the file itself with git lfs pull",
    b"<": "a web page: fetch the file itself",
}


def mistaken(path, stored, wanted):
    """What the file ``path`` with the content ``stored`` is instead of ``wanted`` ("network",
    "solver" or "weights"), and what to give; None where that cannot be told."""
    for beginning, what in _BEGINNINGS.items():
        if stored.startswith(beginning):
            return f"{path} is {what}"
    pb2 = locate.caffe_pb2()
    give = "give its .caffemodel" if wanted == "weights" else f"give the prototxt of a {wanted}"
    solver_state = parsed_as(pb2.SolverState, stored)
    if solver_state.HasField("learned_net"):
        return state(path, solver_state.learned_net, "give those" if wanted == "weights" else give)
    if wanted == "weights" and parsed_as(pb2.BlobProto, stored).data:
        return f"{path} is a mean image: {give}"
    if wanted != "weights" and (
        stored.startswith(HDF5) or parsed_as(pb2.NetParameter, stored).layer
    ):
        return f"{path} holds weights: {give}"
    net = parsed_as(pb2.NetParameter, stored, True)
    solver = parsed_as(pb2.SolverParameter, stored, True)
    if wanted != "network" and (net.layer or net.layers):
        return f"{path} is the prototxt of a network: {give}"
    if wanted != "solver" and solver.ListFields() and not net.ListFields():
        named = solver.net or solver.train_net
        if named and wanted == "network":
            return f"{path} is a solver, and its network is {named}: give that"
        return f"{path} is a solver: {give}"
    return None


def state(path, weights, give="give those"):
    """... of a solver state, which names its ``weights``."""
    return f"{path} is a solver state, and its weights are {weights}: {give}"


def parsed_as(kind, stored, as_text=False):
    """The message of the class ``kind`` in the bytes ``stored``, empty where it is another one."""
    try:
        return (
            text_format.Parse(stored.decode("utf-8-sig", "replace"), kind())
            if as_text
            else parsed(kind, stored)
        )
    except (text_format.ParseError, DecodeError):
        return kind()


def foreign(path, text, why):
    """What to do about fields that this Caffe does not know; None for any other error."""
    found = re.search(r'(\d+):\d+ : .*"caffe\.(\w+)" has no field named "(\w+)"', why)
    if not found or found[2] in (
        "NetParameter",
        "SolverParameter",
    ):  # then it is not a network at all
        return None
    there = set(re.findall(r"(\w+)\s*:?\s*\{", text))
    trees = {tree: set(fields.split()) for tree, fields in _FIELDS.items()}
    theirs = there & set().union(*trees.values())
    knowing = [tree for tree, fields in trees.items() if theirs <= fields and found[3] in fields]
    knowing += [tree for tree, fields in trees.items() if found[3] in fields]  # or one of several
    return (
        f"{path} has the field {found[3]} in line {found[1]}, which "
        + (f"{knowing[0]} knows: " if knowing else "this Caffe does not know: correct it, or ")
        + "build the fork from the tree that it was written for (./scripts/build.sh --caffe DIR)"
    )


def parsed(kind, stored):
    """The message of the class ``kind`` in the bytes ``stored``, all of which it must be. Raises
    DecodeError."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        message = kind.FromString(stored)
    if said:  # that it ends in the middle, or that something follows
        raise DecodeError(str(said[0].message))
    return message
