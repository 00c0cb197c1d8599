"""Caffe's own files as protocol buffers: prototxt and .caffemodel, read with errors that a user can act on, and
written.

Networks and weights may be in whichever of Caffe's formats: V0 and V1 (``layers { … }``) are brought up to date.
"""

import codecs
import math
import re
import subprocess
import tempfile
import warnings
from pathlib import Path

import numpy as np
from google.protobuf import text_format
from google.protobuf.message import DecodeError, Message

from ..command import libraries_unheard
from ..errors import UserError
from ..files import DAMAGE, content, reading, whole_file
from . import guard, hdf5, locate

_OLD_SHAPE = ("num", "channels", "height", "width")
_WITHOUT_BLOBS = (
    "AbsVal",
    "Concat",
    "Dropout",
    "Eltwise",
    "ELU",
    "Flatten",
    "LRN",
    "Pooling",
    "Power",
    "ReLU",
    "Reshape",
    "Sigmoid",
    "Slice",
    "Softmax",
    "SoftmaxWithLoss",
    "Split",
    "TanH",
)
_ELSEWHERE = {  # fields of LayerParameter, and who brought them
    **dict.fromkeys(
        (
            "permute_param",
            "norm_param",
            "prior_box_param",
            "multibox_loss_param",
            "detection_output_param",
            "detection_evaluate_param",
            "annotated_data_param",
            "video_data_param",
        ),
        "SSD's Caffe (weiliu89/caffe, branch ssd)",
    ),
    **dict.fromkeys(
        ("roi_pooling_param", "smooth_l1_loss_param"),
        "Fast R-CNN's Caffe (rbgirshick/caffe-fast-rcnn)",
    ),
    **dict.fromkeys(
        ("interp_param", "seg_accuracy_param"), "DeepLab's or PSPNet's Caffe (hszhao/PSPNet)"
    ),
    **dict.fromkeys(
        ("upsample_param", "bn_param", "dense_image_data_param"),
        "SegNet's Caffe (alexgkendall/caffe-segnet)",
    ),
    **dict.fromkeys(
        ("psroi_pooling_param", "box_annotator_ohem_param"),
        "R-FCN's Caffe (daijifeng001/caffe-rfcn)",
    ),
    **dict.fromkeys(
        ("shuffle_channel_param", "conv_dw_param"), "ShuffleNet's Caffe (farmingyard/ShuffleNet)"
    ),
    **dict.fromkeys(
        ("cpm_transform_param", "imresize_param"), "OpenPose's Caffe (CMU-Perceptual-Computing-Lab)"
    ),
}
MOST_BYTES = _MOST_VALUES = 2**31 - 1  # of a message, by protocol buffers, and of a blob, by Caffe


# ---- Reading


def read_net(path):
    """The NetParameter of a prototxt, in today's format. Raises UserError where it cannot be read or upgraded."""
    return _up_to_date(_read_net(path), path, "upgrade_net_proto_text", _read_net)


def _read_net(path):
    return _read_text(path, locate.caffe_pb2().NetParameter(), "a network")


def read_solver(path):
    """The SolverParameter of a prototxt. Raises UserError where the file cannot be read or is none."""
    return _read_text(path, locate.caffe_pb2().SolverParameter(), "a solver")


def read_weights(path):
    """The NetParameter of a .caffemodel, binary or HDF5, in today's format. Raises UserError where the file cannot be read
    or upgraded, or is damaged."""
    return _up_to_date(_read_weights(path), path, "upgrade_net_proto_binary", _read_weights)


def _read_weights(path):
    with reading(
        path, "is damaged or no binary .caffemodel", "name another snapshot", (*DAMAGE, DecodeError)
    ):
        stored = content(path, MOST_BYTES)
        if stored.startswith(hdf5.MAGIC):
            return hdf5.read(path)
        net = _named(parsed(locate.caffe_pb2().NetParameter, stored))
    for layer in (*net.layer, *net.layers):
        if not all(map(_is_whole, layer.blobs)):
            raise UserError(
                f"layer {_shown(layer.name)} of {path} has other values than the shapes of its blobs say: the file "
                "is damaged, name another snapshot"
            )
    return net


def parsed(kind, stored):
    """The message of the class ``kind`` in the bytes ``stored``, all of which it must be. Raises DecodeError."""
    with (
        warnings.catch_warnings(record=True) as said,
        libraries_unheard(),
    ):  # of names that are not UTF-8
        warnings.simplefilter("always")
        message = kind.FromString(stored)
    if said:  # that it ends in the middle, or that something follows
        raise DecodeError(str(said[0].message))
    return message


def _is_whole(blob):
    """Whether a BlobProto has as many values as its shape says, and a shape that a blob can have; or neither."""
    dimensions, values = shape(blob), len(blob.data) or len(blob.double_data)
    count = math.prod(dimensions) if dimensions or values else 0
    return min(dimensions, default=0) >= 0 and count <= _MOST_VALUES and count == values


def _shown(name):
    return " ".join(name.split())[:100] or "without a name"


def _named(message):
    """``message`` with every text in it, such as a layer's name, taken as one of a prototxt is."""
    for field, value in message.ListFields():
        values = value if is_repeated(value) else [value]
        if field.type == field.TYPE_MESSAGE and field.message_type.name != "BlobProto":
            for each in values:
                _named(each)
        if field.type == field.TYPE_STRING and any(isinstance(each, bytes) for each in values):
            texts = [_text(each) if isinstance(each, bytes) else each for each in values]
            if value is values:
                value[:] = texts
            else:
                setattr(message, field.name, texts[0])
    return message


def _read_text(path, message, what):
    try:
        return text_format.Parse(_decoded(content(path)), message)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (text_format.ParseError, *DAMAGE) as error:
        raise UserError(
            _foreign(path, str(error)) or f"{path} is no valid prototxt of {what}: {error}"
        ) from error


def _decoded(stored):
    """The text of a prototxt, whose comments and names are bytes to Caffe: a line that is not UTF-8 is taken as Latin-1,
    byte by byte. A byte-order mark is passed over, and the ends of lines are as they may be."""
    lines = stored.removeprefix(codecs.BOM_UTF8).splitlines()
    return "\n".join(map(_text, lines))


def _text(stored):
    try:
        return stored.decode()
    except UnicodeDecodeError:
        return stored.decode("latin-1")


def _foreign(path, error):
    """What to do about a field that this Caffe does not know; None for any other error."""
    found = re.search(r'(\d+):\d+ : .*"caffe\.(\w+)" has no field named "(\w+)"', error)
    if not found or found[2] in ("NetParameter", "SolverParameter"):  # then it is no network at all
        return None
    line, _, field = found.groups()
    tree = _ELSEWHERE.get(field)
    known = f"which {tree} knows" if tree else "which this Caffe does not know: correct it, or"
    return (
        f"{path} has the field {field} in line {line}, {known}{':' if tree else ''} build the fork from the tree that it was "
        "written for (./scripts/build.sh --caffe DIR)"
    )


def _up_to_date(net, path, tool, read):
    if not net.layers:
        return net
    program = locate.BUILD / "out/tools" / tool
    with tempfile.TemporaryDirectory() as folder:
        upgraded = Path(folder) / "net"
        try:
            done = subprocess.run(
                [program, path, upgraded], capture_output=True, text=True, errors="replace"
            )
        except OSError as error:
            raise UserError(
                f"cannot run {program} ({error.strerror}): build the fork with ./scripts/build.sh"
            ) from error
        if done.returncode != 0:
            why = guard.last_words(done.stderr)
            raise UserError(
                f"{path} is in an old format that Caffe's {tool} cannot bring up to date"
                f"{f' ({why})' if why else ''}: write it with `layer` instead of `layers`"
            )
        return read(upgraded)


# ---- What they say


def shape(blob):
    """The shape of a BlobProto, whose old style (num, channels, height, width) Caffe, too, prefers where it is set."""
    return (
        tuple(getattr(blob, name) for name in _OLD_SHAPE) if _old(blob) else tuple(blob.shape.dim)
    )


def values(blob):
    """The numbers of a BlobProto: (n,), float32 or, where it has those, float64. By its stored form, for speed."""
    field, dtype = ("double_data", "<f8") if blob.double_data and not blob.data else ("data", "<f4")
    alone = type(blob)()
    getattr(alone, field).MergeFrom(getattr(blob, field))
    size = len(getattr(alone, field)) * np.dtype(dtype).itemsize
    return np.frombuffer(alone.SerializeToString()[-size:] if size else b"", dtype)


def _old(blob):
    return any(map(blob.HasField, _OLD_SHAPE))


def is_repeated(value):
    """Whether this is the value of a repeated field: protobuf 7 has no FieldDescriptor.label any more."""
    return hasattr(value, "extend")


def unknown_fields(message):
    """Those that the message has and its type does not: each with a ``field_number`` and ``data``."""
    try:
        return message.UnknownFields()
    except (NotImplementedError, AttributeError):  # of protobuf 4.22 and later
        from google.protobuf.unknown_fields import UnknownFieldSet

        return UnknownFieldSet(message)


def by(shape):
    """A shape as one reads it: 3×32×32."""
    return "×".join(map(str, shape)) or "scalar"


def holds(blob, expected):
    """Whether a BlobProto has the values of a blob of shape ``expected``, so that Caffe can copy them."""
    found, expected = shape(blob), tuple(expected)
    if _old(blob):
        expected = (1,) * (4 - len(expected)) + expected
    return found == expected and (len(blob.data) or len(blob.double_data)) == math.prod(expected)


def takes_part(layer, phase, stages=(), level=0):
    """Whether the include and exclude rules of a LayerParameter leave it in in ``phase`` (TRAIN or TEST)."""

    def met(rule):
        return (
            (not rule.HasField("phase") or rule.phase == phase)
            and (not rule.HasField("min_level") or rule.min_level <= level)
            and (not rule.HasField("max_level") or rule.max_level >= level)
            and set(rule.stage) <= set(stages)
            and not set(rule.not_stage) & set(stages)
        )

    return any(map(met, layer.include)) if layer.include else not any(map(met, layer.exclude))


# ---- What ties a network to one build of Caffe


def forget_build(net):
    """Removes from a NetParameter what a Caffe without cuDNN, or without tolerance, would not take: the fields that
    choose an engine, and ``param`` entries for blobs that a layer does not have."""
    for layer in net.layer:
        for _, param in layer.ListFields():
            if isinstance(param, Message) and "engine" in param.DESCRIPTOR.fields_by_name:
                param.ClearField("engine")
        del layer.param[most_params(layer) :]


def forget_blobs(net):
    """Removes from a NetParameter the weights that a prototxt may hold as text: those that count come from a .caffemodel."""
    for layer in net.layer:
        layer.ClearField("blobs")


def write_to_run(path, net):
    """Writes a NetParameter whose weights will come from elsewhere: without their fillers, which take a while."""
    lean = type(net)()
    lean.CopyFrom(net)
    for layer in lean.layer:
        for _, param in layer.ListFields():
            for name in ("weight_filler", "bias_filler"):
                if isinstance(param, Message) and name in param.DESCRIPTOR.fields_by_name:
                    param.ClearField(name)
    write(path, lean)


def most_params(layer):
    """How many ``param`` entries Caffe takes of a LayerParameter, as far as its type alone tells."""
    if layer.type in ("Convolution", "Deconvolution"):
        return 1 + layer.convolution_param.bias_term
    if layer.type == "InnerProduct":
        return 1 + layer.inner_product_param.bias_term
    return 0 if layer.type in _WITHOUT_BLOBS else len(layer.param)


# ---- Writing


def text(message):
    """The text of a message with every digit of its numbers: read again, it is the same message."""
    return text_format.MessageToString(message, as_utf8=True)


def write(path, message):
    """Writes a message as prototxt, whole or not at all."""
    with whole_file(path, encoding="utf-8") as file:
        file.write(text(message))


def fill(stored, layer, blobs):
    """Makes the LayerParameter ``stored`` that of ``layer``, with these arrays as its blobs."""
    stored.CopyFrom(layer)
    stored.ClearField("blobs")
    for array in blobs:
        blob = stored.blobs.add()
        blob.shape.dim.extend(array.shape)
        blob.MergeFromString(
            _packed(
                blob.DESCRIPTOR.fields_by_name["data"].number, np.asarray(array, "<f4").tobytes()
            )
        )


def _packed(number, content):
    """A packed repeated field as it is stored. Number by number, as Python would add them, a large layer takes
    minutes."""
    size, length = len(content), b""
    while size > 127:
        length += bytes([size & 127 | 128])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


def write_weights(path, net):
    """Writes a NetParameter as .caffemodel, whole or not at all: on a full disk, Caffe itself would end the process."""
    with whole_file(path, "wb") as file:
        file.write(net.SerializeToString())
