"""Networks that run: built by Caffe from a prototxt, with the weights of a .caffemodel, after a check of both."""

import collections
import os

from google.protobuf.message import Message

from ..errors import UserError
from ..files import check_entries, content, open_regular, reading
from . import locate, messages
from .feeding import check_fed
from .guard import doing
from .messages import by
from .process import failure

_BUILD = "net = caffe.Net(os.fsencode(given[0]), caffe.TEST)"
_RESIZE = f"from active_convolution.caffe import nets; {_BUILD}; [nets.resize(net, size) for size in given[1]]"
_IMPORT = "import importlib; getattr(importlib.import_module(given[0]), given[1])"


def load(model, weights, called=None, stages=()):
    """The pycaffe Net of a deploy prototxt for testing, with ``stages`` and the weights of a
    .caffemodel, every layer of it matched.

    Raises UserError where a file is missing or damaged, or has no weights, or others, for a layer
    of the network, or where its name does not tell a layer: Caffe itself would leave such a layer
    as it was filled, or end the process. Messages name the prototxt ``called``.
    """
    check_fed(messages.read_net(model), called or model, stages)
    with doing(f"building the network {called or model}"):
        live = locate.caffe().Net(
            os.fsencode(model), locate.caffe().TEST, stages=list(stages) or None
        )
    stored = _check_weights(live, called or model, weights)
    if all(name.isascii() for name in stored):
        live.copy_from(os.fsencode(weights))
    else:  # the file may have the names in other bytes
        for name, blobs in live.params.items():
            for blob, found in zip(blobs, stored[name]):
                blob.data[...] = messages.values(found).reshape(blob.data.shape)
    return live


def check_deploy(model):
    """Raises UserError unless ``model`` is a deploy prototxt of one input that Caffe can build."""
    check_inputs(model)
    check_net(model)


def check_net(model, called=None):
    """Raises UserError unless Caffe can build the prototxt ``model``, which messages name ``called``: asks in a process
    that may die of it."""
    net = messages.read_net(model)
    check_python_layers(net, called or model)
    check_sources(net, called or model)
    reason = why_not_built(model)
    if reason:
        raise UserError(
            f"Caffe cannot build the network {called or model} ({reason}): mend the file, or give another"
        )


def check_run(model, sizes, called):
    """Raises UserError as ``why_not_run`` says; messages name the prototxt ``called``."""
    reason = why_not_run(model, sizes)
    if reason:
        raise UserError(
            f"Caffe cannot run the network {called} ({reason}): mend the file, or give another"
        )


def why_not_built(model, sizes=()):
    """Why Caffe cannot build the prototxt ``model`` and give its inputs the shapes of ``sizes``, [{name: shape}], one after the
    other, in a line; None if it can. Asks in a process that may die of it."""
    return failure(_RESIZE, [os.fspath(model), list(sizes)])


def why_not_run(model, sizes):
    """As ``why_not_built``, and whether an input of the last size passes through it."""
    return failure(f"{_RESIZE}; net.forward()", [os.fspath(model), list(sizes)])


def load_checked(model, weights, called=None):
    """As ``load``; raises UserError, too, where Caffe cannot build the network. Messages name it ``called``."""
    check_net(model, called)
    return load(model, weights, called)


def resize(live, size):
    """Gives the inputs of a pycaffe Net these shapes, {name: shape}."""
    for name, shape in size.items():
        live.blobs[name].reshape(*shape)
    live.reshape()


def check_inputs(model):
    """Raises UserError unless the prototxt ``model`` has one input."""
    net = messages.read_net(model)
    inputs = list(net.input) or [
        top for layer in net.layer if layer.type == "Input" for top in layer.top
    ]
    if len(inputs) != 1:
        raise UserError(
            f"{model} has {len(inputs)} inputs, not one: give the network's deploy prototxt"
        )


def check_sources(net, called):
    """Raises UserError where a layer of the NetParameter ``net``, which messages name ``called``, reads what is no file, or may
    not be read: there Caffe would wait for ever, or end the process. What is missing is not looked for."""
    for layer in net.layer:
        for _, parameter in layer.ListFields():
            for name in ("source", "mean_file"):
                if isinstance(parameter, Message) and getattr(parameter, name, ""):
                    _check_source(getattr(parameter, name), f"layer {layer.name} of {called}")
        if layer.type == "HDF5Data" and os.path.isfile(layer.hdf5_data_param.source):
            with reading(
                layer.hdf5_data_param.source, "is no list of HDF5 files", "give one, a path a line"
            ):
                listed = os.fsdecode(content(layer.hdf5_data_param.source)).split("\n")
            for name in filter(None, map(str.strip, listed)):
                _check_source(name, f"layer {layer.name} of {called}")


def _check_source(source, where):
    path = os.path.join(source, "data.mdb") if os.path.isdir(source) else source
    if os.path.exists(source):
        try:
            if path != source:
                check_entries(source)
            if os.path.exists(path):
                open_regular(path).close()
        except OSError as error:
            raise UserError(f"{where} reads {path}: {error.strerror}") from error
        except UserError as error:
            raise UserError(f"{where} reads {error}") from error


def check_python_layers(net, called):
    """Raises UserError where the class of a Python layer of the NetParameter ``net``, which messages name ``called``, cannot be
    imported, as a process tries that may die of it."""
    first = {}  # of several layers of one class
    for layer in net.layer:
        if layer.type == "Python":
            first.setdefault((layer.python_param.module, layer.python_param.layer), layer.name)
    for (module, name), layer in first.items():
        reason = failure(_IMPORT, [module, name])
        if reason:
            raise UserError(
                f"layer {layer} of {called} is a Python layer, and its class {module}.{name} cannot be imported "
                f"({reason}): put its folder on PYTHONPATH, or mend it"
            )


# ---- Weights, which are stored by name


def _check_weights(live, model, weights):
    """{layer: blobs} of a .caffemodel. Raises UserError where that is not what the layer of a pycaffe Net has, for each that
    both know and each that has any."""
    layers = [
        (name, [blob.data.shape for blob in layer.blobs])
        for name, layer in zip(live._layer_names, live.layers)
    ]
    _check_names(layers, f"{model} has", " in one phase", "give each a name of its own")
    known = dict(layers)
    stored = [
        (layer.name, layer.blobs)
        for layer in messages.read_weights(weights).layer
        if layer.name in known
    ]
    _check_names(stored, f"{weights} holds", "", "name another snapshot")
    stored = dict(stored)
    for name, expected in layers:
        found = stored.get(name, [])
        if len(found) != len(expected) or not all(map(messages.holds, found, expected)):
            seen = ", ".join(by(messages.shape(blob)) for blob in found) or "none"
            raise UserError(
                f"layer {name} of {model} has {_blobs(expected)}, and {weights} holds {seen}: give the weights "
                "of this network"
            )
    return stored


def shared_name(layers):
    """(name, how many have it) of one of ``layers``, [(name, blobs)], that has blobs and its name not alone; None without any."""
    counts = collections.Counter(name for name, _ in layers)
    return next(
        ((name, counts[name]) for name, blobs in layers if len(blobs) and counts[name] > 1), None
    )


def _check_names(layers, where, among, remedy):
    """Raises UserError where there is a ``shared_name``."""
    shared = shared_name(layers)
    if shared:
        raise UserError(
            f"{where} {shared[1]} layers called {shared[0]}{among}, and weights are stored by name: {remedy}"
        )


def _blobs(shapes):
    return f"blobs {', '.join(map(by, shapes))}" if shapes else "no blobs"
