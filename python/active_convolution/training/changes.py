"""What a command line changes in the network and the solver that it trains: checked against Caffe's own schema."""

import dataclasses
import difflib
import fnmatch
import re

from google.protobuf import text_format

from ..caffe import locate, messages
from ..errors import BadValue, UserError
from . import schedule

# How many blobs with a learning rate a layer has.
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
_PASSES = (
    "Softmax",
    "Dropout",
    "Pooling",
    "Flatten",
    "BatchNorm",
    "Scale",
    "Bias",
    "Split",
    "ReLU",
)  # change no channel
_JUDGES = (
    "SoftmaxWithLoss",
    "Accuracy",
    "MultinomialLogisticLoss",
    "InfogainLoss",
    "HingeLoss",
)  # (scores, labels)


@dataclasses.dataclass(frozen=True)
class Changes:
    """``classes``: num_output of the layers that give the scores. ``freeze``: patterns, as in a shell, of the names of
    layers that do not learn. ``lr``: the solver's base_lr. ``batch``: images of a training pass. ``set``: texts such as
    "solver.momentum=0.95" and "conv1.convolution_param.pad=2"."""

    classes: int = None
    freeze: tuple = ()
    lr: float = None
    batch: int = None
    set: tuple = ()

    def apply(self, definition):
        """Makes them in a Definition, in place. Raises UserError for what its network does not have, BadValue for what no
        network has."""
        if self.classes is not None:
            _set_classes(definition, self.classes)
        if self.lr is not None:
            definition.solver.base_lr = self.lr
        if self.batch is not None:
            layers = schedule.data_layers(
                definition.solver, definition.net, locate.caffe_pb2().TRAIN
            )
            if not layers:
                raise UserError(
                    f"{definition.source} has no layer of {', '.join(schedule.READERS)} for training: leave "
                    "--batch out, and set what its own layers have with --set"
                )
            for layer in layers:
                schedule.reader(layer).batch_size = self.batch
        for text in self.set:
            _set(definition, text)
        for pattern in self.freeze:
            _freeze(definition, pattern)


# ---- How many classes there are


def classifiers(solver, net):
    """The LayerParameters whose num_output is the number of classes: those from which the scores come that a loss or an
    accuracy compares with labels, through layers that change no channel."""
    pb2, found = locate.caffe_pb2(), []
    for phase in (pb2.TRAIN, pb2.TEST):
        layers = schedule.layers(solver, net, phase)
        for index, layer in enumerate(layers):
            if layer.type in _JUDGES and len(layer.bottom) > 1:
                source = _source(layers[:index], layer.bottom[0])
                if source is not None and source not in found:
                    found.append(source)
    return found


def _source(layers, blob):
    """The layer with num_output that ``blob`` comes from; None where it comes from another kind."""
    for layer in reversed(layers):
        if blob in layer.top:
            if layer.type in _CLASSIFIERS:
                return layer
            if layer.type not in _PASSES or not layer.bottom:
                return None
            blob = layer.bottom[0]
    return None


def outputs(layer):
    """The message of a classifier that has its num_output."""
    return layer.inner_product_param if layer.type == "InnerProduct" else layer.convolution_param


def check_classes(definition, manifest, data):
    """Raises UserError unless the scores are as many as the classes of the data set folder ``data`` with this ``manifest``."""
    for layer in classifiers(definition.solver, definition.net):
        number = outputs(layer).num_output
        classes = manifest.classes
        if number < classes or number > classes and not manifest.adopted:
            raise UserError(
                f"layer {layer.name} of {definition.source} has {number} outputs, and {data} has {classes} "
                f"classes: give --classes {classes}, or the --data that fits it"
            )


def _set_classes(definition, classes):
    layers = classifiers(definition.solver, definition.net)
    if not layers:
        raise UserError(
            f"{definition.source} compares no scores with labels: leave --classes out, and set what gives its "
            "outputs with --set LAYER.FIELD=VALUE"
        )
    for layer in _named(definition, {layer.name for layer in layers}):
        outputs(layer).num_output = classes


def _named(definition, names):
    """The layers of these names, in the network and in its deploy."""
    nets = [definition.net, *([definition.deploy] if definition.deploy else [])]
    return [layer for net in nets for layer in net.layer if layer.name in names]


# ---- What does not learn


def _freeze(definition, pattern):
    found = [layer for layer in definition.net.layer if fnmatch.fnmatchcase(layer.name, pattern)]
    learning = [layer for layer in found if layer.type in _BLOBS or layer.param]
    if not learning:
        names = ", ".join(layer.name for layer in definition.net.layer if layer.type in _BLOBS)
        raise UserError(
            f"no layer of {definition.source} that learns is called {pattern}: --freeze knows {names}"
        )
    for layer in learning:
        count = max(_BLOBS.get(layer.type, lambda layer: 0)(layer), len(layer.param))
        layer.param.extend(locate.caffe_pb2().ParamSpec() for _ in range(count - len(layer.param)))
        for param in layer.param:
            param.lr_mult = param.decay_mult = 0
        if layer.type == "BatchNorm":
            layer.batch_norm_param.use_global_stats = True


# ---- --set


def _set(definition, text):
    path, equals, value = text.partition("=")
    if not equals or not value.strip():
        raise BadValue(f"--set {text} is no setting: give solver.FIELD=VALUE or LAYER.FIELD=VALUE")
    if path.startswith("solver."):
        _assign(definition.solver, path.removeprefix("solver."), value.strip(), text)
        return
    names = sorted(
        {layer.name for layer in definition.net.layer if path.startswith(f"{layer.name}.")}, key=len
    )
    if not names:
        known = ", ".join(dict.fromkeys(layer.name for layer in definition.net.layer))
        raise BadValue(
            f"--set {text} names no layer of {definition.source}: give solver, or one of {known}"
        )
    for layer in _named(definition, {names[-1]}):
        _assign(layer, path.removeprefix(f"{names[-1]}."), value.strip(), text)


def _assign(message, path, value, text):
    """Sets the field ``path`` of a message: names with dots between, [index] after one that is repeated."""
    name, _, rest = path.partition(".")
    name, index = re.fullmatch(r"(.*?)(?:\[(\d{1,6})\])?", name, re.DOTALL).groups()
    field = message.DESCRIPTOR.fields_by_name.get(name)
    if field is None:
        near = difflib.get_close_matches(name, message.DESCRIPTOR.fields_by_name, 1)
        raise BadValue(
            f"--set {text}: Caffe's {message.DESCRIPTOR.name} has no field {name}"
            + (f", there is {near[0]}" if near else ": see src/caffe/proto/caffe.proto")
        )
    repeated = messages.is_repeated(getattr(message, name))
    if rest:
        _assign(_inner(message, field, index, repeated, text), rest, value, text)
        return
    if index is not None:
        raise BadValue(f"--set {text}: give all values of {name}, with commas between")
    parsed = _parsed(message, field, repeated, value, text)
    message.ClearField(name)
    message.MergeFrom(parsed)


def _inner(message, field, index, repeated, text):
    if field.type != field.TYPE_MESSAGE:
        raise BadValue(f"--set {text}: {field.name} has no fields of its own")
    if not repeated:
        return getattr(message, field.name)
    entries = getattr(message, field.name)
    if index is None or int(index) > len(entries):
        raise BadValue(
            f"--set {text}: {field.name} is repeated, and there are {len(entries)}: say which, {field.name}[0] "
            "being the first"
        )
    return entries.add() if int(index) == len(entries) else entries[int(index)]


def _parsed(message, field, repeated, value, text):
    """A message of the same type that has this field alone."""
    if field.type in (field.TYPE_STRING, field.TYPE_BYTES) and value[0] not in "\"'[":
        quoted = value.replace("\\", "\\\\").replace('"', '\\"')
        written = f'{field.name}: "{quoted}"'
    elif field.type == field.TYPE_MESSAGE:
        written = f"{field.name} {value}"
    else:
        written = f"{field.name}: [{value.strip('[]')}]" if repeated else f"{field.name}: {value}"
    try:
        parsed = text_format.Parse(written, type(message)())
    except text_format.ParseError as error:
        reason = re.sub(r"^\d+:\d+ : ", "", " ".join(str(error).split()))
        raise BadValue(f"--set {text}: {field.name} does not take that ({reason})") from error
    other = next((found.name for found, _ in parsed.ListFields() if found.name != field.name), None)
    if other:
        raise BadValue(
            f"--set {text}: {field.name} does not take that (it is followed by {other}): give another --set for it"
        )
    return parsed
