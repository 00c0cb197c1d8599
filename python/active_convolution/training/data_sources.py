"""Where a network reads its images: the parts of a data set folder, or what its own layers name."""

from pathlib import Path

from ..caffe import locate
from ..caffe.messages import by
from ..errors import UserError
from . import schedule

_TYPES = {
    "LMDB": "Data",
    "LEVELDB": "Data",
    "HDF5": "HDF5Data",
    "IMAGES": "ImageData",
}  # of a manifest's backends


def point(found, manifest, folder):
    """Lets the layers of a Definition that read a data set read the parts of the one in ``folder``, with this ``manifest``,
    in place. Raises UserError where they do not fit."""
    pb2 = locate.caffe_pb2()
    train = schedule.data_layers(found.solver, found.net, pb2.TRAIN)
    _check_one(found, train, "training")
    tests = [_test_layer(found, index, train) for index in range(len(found.solver.test_iter))]
    for split, layers in (("train", train), ("test", tests)):
        for layer in layers:
            _check_crop(layer, getattr(manifest, split), found.source, folder)
            _read(layer, getattr(manifest, split))


def _test_layer(found, index, train):
    layers = schedule.data_layers(found.solver, found.net, locate.caffe_pb2().TEST, index)
    if train[0] in layers:
        raise UserError(
            f"layer {train[0].name} of {found.source} reads data for training and for testing, "
            "and these are two databases: give two layers, one for each phase"
        )
    _check_one(found, layers, "testing")
    return layers[0]


def _check_one(found, layers, phase):
    if len(layers) != 1:
        raise UserError(
            f"{found.source} has {len(layers)} layers of {', '.join(schedule.READERS)} for {phase}, and --data is "
            "for one: give it one, or leave --data out where it names its own sources"
        )


def _check_crop(layer, part, source, folder):
    crop = layer.transform_param.crop_size
    if crop > min(part.shape[1:]):
        raise UserError(
            f"layer {layer.name} of {source} crops images to {crop}×{crop}, and those in {folder} are "
            f"{by(part.shape)}: give the --data that fits it, or set {layer.name}.transform_param.crop_size"
        )


def _read(layer, part):
    """Makes ``layer`` one that reads this part of a manifest, in passes as large as before."""
    kind, batch = _TYPES[part.backend], schedule.reader(layer).batch_size
    if kind != layer.type:
        layer.ClearField(schedule.READERS[layer.type])
        layer.type = kind
    reader = schedule.reader(layer)
    reader.source, reader.batch_size = part.path, batch
    if kind == "Data":
        reader.backend = getattr(reader, part.backend)
    for name, value in part.image_data.items() if kind == "ImageData" else ():
        setattr(reader, name, value)


def find(found):
    """Makes the sources absolute that the layers of a Definition name, as seen from here. Raises UserError where one is
    missing: there Caffe would end the process."""
    for layer in schedule.all_data_layers(found.solver, found.net):
        reader = schedule.reader(layer)
        if not reader.source or not Path(reader.source).exists():
            raise UserError(
                f"layer {layer.name} of {found.source} reads {reader.source or 'no source'}, and from here there is "
                "no such thing: give --data, or run this where that path leads somewhere"
            )
        reader.source = str(Path(reader.source).resolve())
