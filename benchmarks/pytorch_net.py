"""A network of ours in PyTorch: built from its NetParameter, with the same weights, and trained by
the same method."""

import numpy as np
from active_convolution.caffe import locate
from active_convolution.errors import UserError

from . import pytorch

if pytorch.available():
    import torch
    from torch import nn

# Relative, in the L2 norm. Rounding moves some values across a ReLU's kink, which gradients show in
# the third digit (they differ by so much from those in double precision); in another network, all
# would be others.
TOLERANCE = 5e-2


class Iteration:
    """Both passes and the update of ``net``, a caffe.Net, with ordinary convolutions and an input
    that stays in place.

    ``memory_format``: torch.contiguous_format, PyTorch's default, or torch.channels_last. At a rate
    of 0, as ours."""

    def __init__(self, net, proto, solver, memory_format):
        self._net, self._format = net, memory_format
        self.image = torch.tensor(net.blobs["data"].data).to(memory_format=memory_format)
        self.label = torch.tensor(net.blobs["label"].data.astype(np.int64)).flatten()
        self.model = _Model(net, proto).to(memory_format=memory_format).train()
        parameters = list(self.model.parameters())
        decayed = [each for each in parameters if each.ndim > 1]
        others = [each for each in parameters if each.ndim == 1]
        self.optimizer = torch.optim.SGD(
            [{"params": decayed}, {"params": others, "weight_decay": 0}],
            lr=0,
            momentum=solver.momentum,
            weight_decay=solver.weight_decay,
            nesterov=solver.type == "Nesterov",
        )

    def __call__(self):
        self.optimizer.zero_grad()
        self.loss().backward()
        self.optimizer.step()

    def loss(self):
        return nn.functional.cross_entropy(self.model(self.image), self.label)

    def check(self):
        """UserError unless loss and weights' gradients are those that ``net`` has after its own
        passes."""
        expected = {"loss": self._net.blobs["loss"].data} | {
            name: self._net.params[name][0].diff for name in self.model.weights
        }
        self.optimizer.zero_grad()
        loss = self.loss()
        loss.backward()
        found = {"loss": loss.detach().numpy()} | {
            name: weight.grad.numpy() for name, weight in self.model.weights.items()
        }
        for name, array in expected.items():
            difference = np.linalg.norm(found[name].reshape(array.shape) - array) / np.linalg.norm(
                array
            )
            if not difference <= TOLERANCE:
                raise UserError(
                    f"PyTorch's network differs from ours by {difference:.1e} in {name}: "
                    "nothing is timed"
                )


class _Model(nn.Module if pytorch.available() else object):
    """The layers of ``proto`` from the data to the loss, run in its order. Scale belongs to the
    BatchNorm before it."""

    def __init__(self, net, proto):
        super().__init__()
        self._steps, self.weights = [], {}
        self._layers = nn.ModuleList()
        makers = {
            "Convolution": _convolution,
            "InnerProduct": _inner_product,
            "BatchNorm": _batch_norm,
            "ReLU": lambda layer, _: nn.ReLU(inplace=layer.bottom[0] == layer.top[0]),
            "Pooling": _pooling,
            "LRN": _lrn,
            "Dropout": lambda layer, _: nn.Dropout(layer.dropout_param.dropout_ratio),
            "Eltwise": lambda *_: None,
        }
        for layer in proto.layer:
            if layer.type in ("Input", "Data", "Scale", "SoftmaxWithLoss"):
                continue
            if layer.type not in makers:
                raise UserError(
                    f"layer {layer.name}: type {layer.type} has no counterpart in PyTorch here"
                )
            made = makers[layer.type](layer, net)
            if made is not None:
                self._layers.append(made)
            if layer.type in ("Convolution", "InnerProduct"):
                self.weights[layer.name] = [
                    each for each in made.modules() if hasattr(each, "weight")
                ][0].weight
            self._steps.append((made, list(layer.bottom), layer.top[0]))

    def forward(self, image):
        blobs = {"data": image}
        for module, bottoms, top in self._steps:
            inputs = [blobs[name] for name in bottoms]
            blobs[top] = module(*inputs) if module is not None else inputs[0] + inputs[1]
        return blobs[top].flatten(1)


def _first(values, default):
    return values[0] if len(values) else default


def _filled(module, net, layer):
    for parameter, blob in zip((module.weight, module.bias), net.params[layer.name]):
        if parameter is not None:
            parameter.data.copy_(torch.tensor(blob.data).reshape(parameter.shape))
    return module


def _convolution(layer, net):
    p = layer.convolution_param
    outputs, channels = net.params[layer.name][0].data.shape[:2]
    return _filled(
        nn.Conv2d(
            channels * p.group,
            outputs,
            p.kernel_size[0],
            _first(p.stride, 1),
            _first(p.pad, 0),
            groups=p.group,
            bias=p.bias_term,
        ),
        net,
        layer,
    )


def _inner_product(layer, net):
    outputs, inputs = net.params[layer.name][0].data.shape
    return nn.Sequential(nn.Flatten(), _filled(nn.Linear(inputs, outputs), net, layer))


def _batch_norm(layer, net):
    p = layer.batch_norm_param
    return nn.BatchNorm2d(net.params[layer.name][0].data.size, p.eps, 1 - p.moving_average_fraction)


def _pooling(layer, _):
    p = layer.pooling_param
    average = p.pool == locate.caffe_pb2().PoolingParameter.AVE
    if p.global_pooling:
        return nn.AdaptiveAvgPool2d(1) if average else nn.AdaptiveMaxPool2d(1)
    return (nn.AvgPool2d if average else nn.MaxPool2d)(
        p.kernel_size, p.stride, p.pad, ceil_mode=True
    )


def _lrn(layer, _):
    p = layer.lrn_param
    return nn.LocalResponseNorm(p.local_size, p.alpha, p.beta, p.k)
