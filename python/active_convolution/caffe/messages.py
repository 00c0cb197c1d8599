"""Caffe's own files as protocol buffers: prototxt and .caffemodel, read with errors that a user can
act on, and written.

Networks and weights may be in whichever of Caffe's formats: V0 and V1 (``layers { … }``) are
brought up to date by Caffe's own tools.
"""

import codecs
import math
import tempfile

import numpy as np
from google.protobuf import text_format
from google.protobuf.internal import encoder
from google.protobuf.message import Message

from ..errors import UserError
from ..files import DAMAGE, content, reading, whole_file
from . import locate
from .mistaken import HDF5, foreign, mistaken, parsed, parsed_as, state  # noqa: F401

_OLD_SHAPE = ("num", "channels", "height", "width")
_WITHOUT_BLOBS = (
    "AbsVal Concat Dropout Eltwise ELU Flatten LRN Pooling Power ReLU Reshape Sigmoid Slice "
    "Softmax SoftmaxWithLoss Split TanH"
).split()


# ---- Prototxt


def read_net(path):
    """The NetParameter of a prototxt, in today's format. Raises UserError where it cannot be read
    or upgraded."""
    net = _read_text(path, locate.caffe_pb2().NetParameter(), "network")
    if net.layer and net.layers:
        raise UserError(
            f"{path} has both `layer` and `layers`, and Caffe takes one form in a file: "
            "write all with `layer`"
        )
    return _up_to_date(net, path, "upgrade_net_proto_text", read_net)


def read_solver(path):
    """The SolverParameter of a prototxt. Raises UserError where the file cannot be read or is
    none."""
    return _read_text(path, locate.caffe_pb2().SolverParameter(), "solver")


def _read_text(path, message, what):
    with reading(path, f"is not a valid prototxt of a {what}", "mend the file", reason=True):
        stored = content(path)
        text = stored.removeprefix(codecs.BOM_UTF8).decode(errors="replace")  # comments are bytes
        try:
            return text_format.Parse(text, message)
        except text_format.ParseError as error:
            why = str(error)
            raise UserError(
                mistaken(path, stored, what)
                or foreign(path, text, why)
                or f"{path} is not a valid prototxt of a {what}: {why}"
            ) from error


def _up_to_date(net, path, tool, read):
    if not net.layers:
        return net
    with tempfile.TemporaryDirectory() as folder:
        try:
            locate.tool(tool, path, f"{folder}/net")
        except UserError as error:
            raise UserError(
                f"{path} is in an old format that cannot be brought up to date ({error}): write it "
                "with `layer` instead of `layers`"
            ) from error
        return read(f"{folder}/net")


def text(message):
    """The text of a message with every digit of its numbers: read again, it is the same message."""
    return text_format.MessageToString(message, as_utf8=True)


def write(path, message):
    """Writes a message as prototxt, whole or not at all."""
    with whole_file(path) as file:
        file.write(text(message))


def write_to_run(path, net):
    """Writes a NetParameter whose weights will come from elsewhere: without their fillers, which
    take a while."""
    lean = type(net)()
    lean.CopyFrom(net)
    for layer in lean.layer:
        for _, param in layer.ListFields():
            for name in ("weight_filler", "bias_filler"):
                if isinstance(param, Message) and name in param.DESCRIPTOR.fields_by_name:
                    param.ClearField(name)
    write(path, lean)


# ---- Weights


def read_weights(path):
    """The NetParameter of a .caffemodel, binary or HDF5, in today's format. Raises UserError where
    the file cannot be read or upgraded, or is damaged.

    HDF5 has layers with names and blobs alone, in no particular order: those with the blobs of an
    active convolution are taken for one.
    """
    wrong, remedy = "is damaged or no .caffemodel", "fetch it again, or name another snapshot"
    damage = *DAMAGE, RuntimeError  # the latter is how h5py says it
    with reading(path, wrong, remedy, damage, reason=True):
        stored = content(path)
        if stored.startswith(HDF5):
            net = _from_hdf5(path)
        else:
            net = parsed_as(locate.caffe_pb2().NetParameter, stored)
            if not net.layer and not net.layers:
                raise UserError(mistaken(path, stored, "weights") or f"{path} {wrong}: {remedy}")
        for layer in (*net.layer, *net.layers):
            for blob in layer.blobs:
                if not _is_whole(blob):
                    raise ValueError(f"a blob of {layer.name} has other values than its shape says")
    return _up_to_date(net, path, "upgrade_net_proto_binary", read_weights)


def _from_hdf5(path):
    try:
        import h5py
    except ImportError as error:
        raise UserError(
            f"{path} is HDF5, which needs h5py: install python3-h5py, or pip install "
            "'active-convolution[hdf5]'"
        ) from error
    net = locate.caffe_pb2().NetParameter()
    with h5py.File(path, "r") as file:
        if "learned_net" in file:
            raise UserError(state(path, file["learned_net"][()].decode()))
        for name, blobs in file["data"].items():
            layer = net.layer.add(name=name.replace("\\", "/"))  # "/" would be a path to HDF5
            fill(layer, layer, [blobs[str(index)][()] for index in range(len(blobs))])
            shapes = list(map(shape, layer.blobs))
            if len(shapes) == 4 and len(shapes[0]) == 4 and shapes[2] == shapes[3] != shapes[0]:
                if shapes[2][1:] == (1, *shapes[0][2:]):
                    layer.type = "ActiveConvolution"
    return net


def write_weights(path, net):
    """Writes a NetParameter as .caffemodel, whole or not at all."""
    with whole_file(path, "wb") as file:
        file.write(net.SerializeToString())


def fill(stored, layer, blobs):
    """Makes the LayerParameter ``stored`` that of ``layer``, with these arrays as its blobs."""
    if stored is not layer:
        stored.CopyFrom(layer)
    stored.ClearField("blobs")
    for array in blobs:
        blob = stored.blobs.add()
        blob.shape.dim.extend(np.shape(array))
        values = np.asarray(array, "<f4").tobytes()
        # As it is stored: number by number, as Python would add them, VGG-16 takes half a minute.
        tag = encoder.TagBytes(blob.DESCRIPTOR.fields_by_name["data"].number, 2)
        blob.MergeFromString(tag + encoder._VarintBytes(len(values)) + values)


# ---- What they say


def shape(blob):
    """The shape of a BlobProto, whose old style (num, channels, height, width) Caffe, too, prefers
    where it is set."""
    return (
        tuple(getattr(blob, name) for name in _OLD_SHAPE) if _old(blob) else tuple(blob.shape.dim)
    )


def _is_whole(blob):
    """Whether a BlobProto has as many values as its shape says; or neither."""
    dimensions, count = shape(blob), _count(blob)
    return min(dimensions, default=0) >= 0 and (
        count == math.prod(dimensions) or not dimensions and not count
    )


def _old(blob):
    return any(map(blob.HasField, _OLD_SHAPE))


def _count(blob):
    return len(blob.data) or len(blob.double_data)


def values(blob):
    """The numbers of a BlobProto: (n,), float32 or, where it has those, float64. By its stored
    form, for speed."""
    field, dtype = ("double_data", "<f8") if blob.double_data and not blob.data else ("data", "<f4")
    alone = type(blob)()
    getattr(alone, field).MergeFrom(getattr(blob, field))
    size = len(getattr(alone, field)) * np.dtype(dtype).itemsize
    return np.frombuffer(alone.SerializeToString()[-size:] if size else b"", dtype)


def holds(blob, expected):
    """Whether a BlobProto has the values of a blob of shape ``expected``, so that Caffe can copy
    them."""
    found, expected = shape(blob), tuple(expected)
    if _old(blob):
        expected = (1,) * (4 - len(expected)) + expected
    return found == expected and _count(blob) == math.prod(expected)


def by(shape):
    """A shape as one reads it: 3×32×32."""
    return "×".join(map(str, shape)) or "scalar"


def is_repeated(value):
    """Whether this is the value of a repeated field: protobuf 7 has no FieldDescriptor.label."""
    return hasattr(value, "extend")


def takes_part(layer, phase, stages=(), level=0):
    """Whether the include and exclude rules of a LayerParameter leave it in in ``phase`` (TRAIN,
    TEST)."""

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
    """Removes from a NetParameter what a Caffe without cuDNN, or without tolerance, would not take:
    the fields that choose an engine, and ``param`` entries for blobs that a layer does not have."""
    for layer in net.layer:
        for _, param in layer.ListFields():
            if isinstance(param, Message) and "engine" in param.DESCRIPTOR.fields_by_name:
                param.ClearField("engine")
        del layer.param[_most_params(layer) :]


def _most_params(layer):
    """How many ``param`` entries Caffe takes of a LayerParameter, as far as its type alone
    tells."""
    if layer.type in ("Convolution", "Deconvolution"):
        return 1 + layer.convolution_param.bias_term
    if layer.type == "InnerProduct":
        return 1 + layer.inner_product_param.bias_term
    return 0 if layer.type in _WITHOUT_BLOBS else len(layer.param)


def forget_blobs(net):
    """Removes from a NetParameter the weights that a prototxt may hold as text: those that count
    come from a .caffemodel."""
    for layer in net.layer:
        layer.ClearField("blobs")
