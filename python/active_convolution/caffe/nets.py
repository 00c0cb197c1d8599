"""Networks that run: built by Caffe from a prototxt, with the weights of a .caffemodel."""

import collections
import importlib
import os

from ..errors import UserError
from . import locate, messages
from .guard import doing
from .messages import by


def build(model, called=None, stages=()):
    """The pycaffe Net of a prototxt for testing, with ``stages``; messages name it ``called``.

    Raises UserError where the file cannot be read, a layer gets nothing to read, or the class of a
    Python layer cannot be imported. What else Caffe does not like ends the process (see guard).
    """
    net = messages.read_net(model)
    check_fed(net, called or model, stages)
    check_python_layers(net, called or model)
    with doing(f"building the network {called or model}"):
        return locate.caffe().Net(
            os.fsencode(model), locate.caffe().TEST, stages=list(stages) or None
        )


def load(model, weights, called=None, stages=()):
    """As ``build``, with the weights of a .caffemodel, every layer of the network matched.

    Raises UserError, too, where the weights are missing or damaged, or are none, or others, for a
    layer, or where its name does not tell a layer: Caffe would leave it as it was filled.
    """
    live = build(model, called, stages)
    _check_weights(live, called or model, weights)
    with doing(f"reading the weights {weights}"):
        live.copy_from(os.fsencode(weights))
    return live


def resize(live, size):
    """Gives the inputs of a pycaffe Net these shapes, {name: shape}."""
    for name, shape in size.items():
        live.blobs[name].reshape(*shape)
    live.reshape()


def check_python_layers(net, called):
    """Raises UserError where the class of a Python layer of a NetParameter cannot be imported."""
    for layer in net.layer:
        if layer.type == "Python":
            module, name = layer.python_param.module, layer.python_param.layer
            try:
                getattr(importlib.import_module(module), name)
            except Exception as error:  # whatever the user's code raises
                raise UserError(
                    f"layer {layer.name} of {called} is a Python layer, and its class "
                    f"{module}.{name} cannot be imported ({error}): put its folder on PYTHONPATH"
                ) from error


# ---- What layers read


def check_fed(net, called, stages=(), phase="TEST"):
    """Raises UserError unless each layer of the NetParameter ``net``, which messages name
    ``called``, finds its bottoms in ``phase`` ("TRAIN" or "TEST") with ``stages``: it names the
    blob and the layer, and the stages that would bring it, or the phase."""
    number = getattr(locate.caffe_pb2(), phase)
    stages = [*net.state.stage, *stages]
    given = set(net.input)
    for layer in net.layer:
        if messages.takes_part(layer, number, stages, net.state.level):
            missing = next((name for name in layer.bottom if name not in given), None)
            if missing is not None:
                of = f"{phase}, with the stages {', '.join(stages)}" if stages else phase
                raise UserError(
                    f"in {of}, no layer of {called} gives {missing}, which layer {layer.name} "
                    f"reads: {_remedy(net, missing, phase, stages)}"
                )
            given.update(layer.top)


def _remedy(net, missing, phase, stages):
    givers = [layer for layer in net.layer if missing in layer.top]
    rules = [rule for layer in givers for rule in (*layer.include, *layer.exclude)]
    others = sorted({stage for rule in rules for stage in (*rule.stage, *rule.not_stage)})
    if others and others != sorted(stages):
        return f"give --stage, the file knows {', '.join(others)}"
    if givers:
        return f"let layer {givers[0].name} or another one give it in {phase}, too"
    return "mend the file, or give another"


# ---- Weights, which are stored by name


def _check_weights(live, model, weights):
    """Raises UserError where the blobs of a .caffemodel are not those of each layer of a pycaffe
    Net that has any."""
    layers = [
        (name, [blob.data.shape for blob in layer.blobs])
        for name, layer in zip(live._layer_names, live.layers)
    ]
    _check_names(layers, f"{model} has", "give each a name of its own")
    known = dict(layers)
    read = messages.read_weights(weights).layer
    stored = [(layer.name, layer.blobs) for layer in read if layer.name in known]
    _check_names(stored, f"{weights} holds", "name another snapshot")
    stored = dict(stored)
    for name, expected in layers:
        found = stored.get(name, [])
        if len(found) != len(expected) or not all(map(messages.holds, found, expected)):
            has = f"blobs {', '.join(map(by, expected))}" if expected else "no blobs"
            seen = ", ".join(by(messages.shape(blob)) for blob in found) or "none"
            raise UserError(
                f"layer {name} of {model} has {has}, and {weights} holds {seen}: give the weights "
                "of this network"
            )


def _check_names(layers, where, remedy):
    """Raises UserError where one of ``layers``, [(name, blobs)], has blobs and its name not
    alone."""
    counts = collections.Counter(name for name, _ in layers)
    for name, blobs in layers:
        if len(blobs) and counts[name] > 1:
            raise UserError(
                f"{where} {counts[name]} layers called {name}, and weights are stored by name: "
                f"{remedy}"
            )
