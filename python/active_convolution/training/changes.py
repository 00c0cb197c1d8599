"""What a command line changes in the network and the solver that it trains: checked against Caffe's
own schema."""

import dataclasses
import difflib
import fnmatch
import json
import re

from google.protobuf import text_format

from ..caffe import locate, messages
from ..errors import BadValue, UserError
from . import schedule

# How many blobs with a learning rate a layer has; None: as many as it has ``param`` entries.
_BLOBS = {
    "ActiveConvolution": lambda layer: 4,
    "AConvFast": lambda layer: 4,
    "Convolution": lambda layer: 1 + layer.convolution_param.bias_term,
    "Deconvolution": lambda layer: 1 + layer.convolution_param.bias_term,
    "InnerProduct": lambda layer: 1 + layer.inner_product_param.bias_term,
    "Embed": lambda layer: 1 + layer.embed_param.bias_term,
    "Scale": lambda layer: (len(layer.bottom) == 1) + layer.scale_param.bias_term,
    "Bias": lambda layer: int(len(layer.bottom) == 1),
    "PReLU": lambda layer: 1,
    "BatchNorm": lambda layer: 3,
    "Parameter": lambda layer: 1,
}
_CLASSIFIERS = ("Convolution", "ActiveConvolution", "AConvFast", "InnerProduct")
_PASSES = "Softmax Dropout Pooling Flatten BatchNorm Scale Bias Split ReLU"  # change no channel
_JUDGES = (
    "SoftmaxWithLoss Accuracy MultinomialLogisticLoss InfogainLoss HingeLoss"  # scores, labels
)


@dataclasses.dataclass(frozen=True)
class Changes:
    """``classes``: num_output of the layers that give the scores. ``freeze``: patterns, as in a
    shell, of the names of layers that do not learn. ``lr``: the solver's base_lr. ``batch``: images
    of a training pass. ``position_lr_mult`` and ``warmup_iter``: of every ActiveConvolution.
    ``set``: texts such as "solver.momentum=0.95" and "conv*.convolution_param.pad=2"."""

    classes: int = None
    freeze: tuple = ()
    lr: float = None
    batch: int = None
    position_lr_mult: float = None
    warmup_iter: int = None
    set: tuple = ()

    def apply(self, found):
        """Makes them in a Definition, in place. Raises UserError for what its network does not
        have, BadValue for what no network has."""
        if self.classes is not None:
            _set_classes(found, self.classes)
        if self.lr is not None:
            found.solver.base_lr = self.lr
        if self.batch is not None:
            _set_batch(found, self.batch)
        for name in ("position_lr_mult", "warmup_iter"):
            if getattr(self, name) is not None:
                _set_active(found, name, getattr(self, name))
        for text in self.set:
            _set(found, text)
        for pattern in self.freeze:
            _freeze(found, pattern)


def _set_batch(found, batch):
    layers = schedule.data_layers(found.solver, found.net, locate.caffe_pb2().TRAIN)
    if not layers:
        raise UserError(f"{found.source} trains on no data set: leave --batch out, or use --set")
    for layer in layers:
        schedule.reader(layer).batch_size = batch


def _set_active(found, name, value):
    active = [layer for layer in _both(found) if layer.type == "ActiveConvolution"]
    if not active:
        option = f"--{name.replace('_', '-')}"
        raise UserError(f"{found.source} has no ActiveConvolution: leave {option} out")
    for layer in active:
        setattr(layer.active_convolution_param, name, value)


def _both(found):
    """The layers of the network and of its deploy."""
    return [*found.net.layer, *(found.deploy.layer if found.deploy else ())]


# ---- How many classes there are


def judged(found):
    """[(layer, labels, judge)]: the LayerParameters whose num_output is the number of classes, the
    blob of labels that a loss or an accuracy compares their scores with, and that one. Between them
    are layers that change no channel."""
    pairs = []
    for phase, test in schedule.phases(found.solver):
        layers = schedule.layers(found.solver, found.net, phase, test)
        for index, layer in enumerate(layers):
            if layer.type in _JUDGES.split() and len(layer.bottom) > 1:
                source = _source(layers[:index], layer.bottom[0])
                if source is not None:
                    pairs.append((source, layer.bottom[1], layer))
    return pairs


def _source(layers, blob):
    """The layer with num_output that ``blob`` comes from; None where another kind gives it."""
    for layer in reversed(layers):
        if blob in layer.top:
            if layer.type in _CLASSIFIERS:
                return layer
            if layer.type not in _PASSES.split() or not layer.bottom:
                return None
            blob = layer.bottom[0]
    return None


def outputs(layer):
    """The message of a classifier that has its num_output."""
    return layer.inner_product_param if layer.type == "InnerProduct" else layer.convolution_param


def _set_classes(found, classes):
    names = {layer.name for layer, _, _ in judged(found)}
    if not names:
        raise UserError(f"{found.source} compares no scores with labels: leave --classes out")
    for layer in _both(found):
        if layer.name in names:
            outputs(layer).num_output = classes


# ---- What does not learn


def _freeze(found, pattern):
    layers = [layer for layer in found.net.layer if layer.type in _BLOBS or layer.param]
    frozen = [layer for layer in layers if fnmatch.fnmatchcase(layer.name, pattern)]
    if not frozen:
        known = ", ".join(layer.name for layer in layers)
        raise UserError(f"no layer that learns is called {pattern}: --freeze knows {known}")
    for layer in frozen:
        count = max(_BLOBS.get(layer.type, lambda layer: 0)(layer), len(layer.param))
        while len(layer.param) < count:
            layer.param.add()
        for param in layer.param:
            param.lr_mult = param.decay_mult = 0
        if layer.type == "BatchNorm":
            layer.batch_norm_param.use_global_stats = True


# ---- --set


def _set(found, text):
    path, equals, value = text.partition("=")
    if not equals or not value.strip():
        raise BadValue(
            f"--set {text} is not a setting: give solver.FIELD=VALUE or LAYER.FIELD=VALUE"
        )
    if path.startswith("solver."):
        _assign(found.solver, path.removeprefix("solver."), value.strip(), text)
        return
    for dot in reversed([index for index, letter in enumerate(path) if letter == "."]):
        pattern, field = path[:dot], path[dot + 1 :]
        layers = [layer for layer in _both(found) if fnmatch.fnmatchcase(layer.name, pattern)]
        layers = [layer for layer in layers if layer.name == pattern or _has(layer, field)]
        if layers:
            for layer in layers:
                _assign(layer, field, value.strip(), text)
            return
    known = ", ".join(dict.fromkeys(layer.name for layer in found.net.layer))
    raise BadValue(f"--set {text} names no layer of {found.source}: give solver, or one of {known}")


def _has(layer, path):
    """Whether a layer that a pattern found has a use for the field: its own kind's parameters."""
    name = re.split(r"[.\[]", path)[0]
    own = name.endswith("_param") and name not in ("transform_param", "loss_param")
    return not own or layer.HasField(name) or name == _parameters(layer.type)


def _parameters(kind):
    return re.sub("(?<=[a-z])(?=[A-Z])", "_", kind).lower() + "_param"


def _assign(message, path, value, text):
    """Sets the field ``path`` of a message: dots between names, [index] after a repeated one's."""
    *outer, name = path.split(".")
    try:
        for each in outer:
            field, _, index = each.removesuffix("]").partition("[")
            message = getattr(message, field)
            if index:  # one more than there are makes another
                message = message.add() if int(index) == len(message) else message[int(index)]
        parsed = text_format.Parse(_written(message, name, value), type(message)())
    except (AttributeError, LookupError, TypeError, ValueError, text_format.ParseError) as error:
        fields = getattr(getattr(message, "DESCRIPTOR", None), "fields_by_name", ())
        near = difflib.get_close_matches(name, fields, 1)
        raise BadValue(
            f"--set {text} is not in Caffe's schema ({' '.join(str(error).split())})"
            + (f": there is {near[0]}" if near else ": see src/caffe/proto/caffe.proto")
        ) from error
    message.ClearField(name)
    message.MergeFrom(parsed)


def _written(message, name, value):
    """The field with this value, as prototxt has it."""
    field = message.DESCRIPTOR.fields_by_name[name]
    if field.type == field.TYPE_MESSAGE:
        return f"{name} {value}"
    if field.type in (field.TYPE_STRING, field.TYPE_BYTES) and value[0] not in "\"'[":
        return f"{name}: {json.dumps(value, ensure_ascii=False)}"
    repeated = messages.is_repeated(getattr(message, name))
    return f"{name}: [{value.strip('[]')}]" if repeated else f"{name}: {value}"
