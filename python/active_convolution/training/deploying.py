"""The deploy network of one that trains, where nobody wrote it: images in, class probabilities out."""

from ..caffe import locate
from . import schedule


def of(found, shape):
    """The NetParameter of a Definition's first test network (or, without one, the training network) for images of
    ``shape`` (C, H, W); None where it has no single layer that reads a data set, or nothing is left without labels."""
    pb2 = locate.caffe_pb2()
    phase = pb2.TEST if found.solver.test_iter else pb2.TRAIN
    layers, data = (
        take(found.solver, found.net, phase) for take in (schedule.layers, schedule.data_layers)
    )
    if len(data) != 1 or not data[0].top:
        return None
    crop = data[0].transform_param.crop_size
    net = pb2.NetParameter(name=found.net.name)
    images = net.layer.add(name=data[0].top[0], type="Input", top=data[0].top[:1])
    images.input_param.shape.add(dim=[1, shape[0], *((crop, crop) if crop else shape[1:])])
    labelled = set(data[0].top[1:])
    for layer in layers:
        if labelled.isdisjoint(layer.bottom):
            if layer != data[0]:
                _add(net, layer)
        else:
            labelled.update(layer.top)
            if layer.type == "SoftmaxWithLoss" and not any(
                other.type == "Softmax" for other in net.layer
            ):
                net.layer.add(name="prob", type="Softmax", bottom=layer.bottom[:1], top=["prob"])
    return net if len(net.layer) > 1 else None


def _add(net, layer):
    copy = net.layer.add()
    copy.CopyFrom(layer)
    for name in ("include", "exclude", "param"):
        copy.ClearField(name)
