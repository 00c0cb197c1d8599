"""Where a network reads its images, a data set's folder or what its own layers name, and whether
its outputs are enough for their labels."""

from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..caffe import locate, reading
from ..caffe.messages import by
from ..errors import UserError
from ..networks.schedules import one_pass
from . import schedule
from .changes import judged, outputs

_TYPES = {"LMDB": "Data", "LEVELDB": "Data", "HDF5": "HDF5Data", "IMAGES": "ImageData"}


def point(found, manifest):
    """Lets the layers of a Definition that read a data set read the splits of the one with this
    Manifest. Raises UserError where they do not fit."""
    pb2, solver = locate.caffe_pb2(), found.solver
    train = schedule.data_layers(solver, found.net, pb2.TRAIN)
    _check_one(found, train, "training")
    for index in range(len(solver.test_iter)):
        layers = schedule.data_layers(solver, found.net, pb2.TEST, index)
        _check_one(found, layers, "testing")
        if layers[0] in train:
            raise UserError(
                f"layer {layers[0].name} of {found.source} reads data for both training and "
                "testing: give two layers, one for each phase"
            )
        _read(layers[0], manifest.test)
    _read(train[0], manifest.train)


def see_once(found, manifest):
    """Lets each test of a Definition see the test images of this Manifest once."""
    test = locate.caffe_pb2().TEST
    for index, rounds in enumerate(found.solver.test_iter):
        if rounds > 0:  # else there is no test
            (layer,) = schedule.data_layers(found.solver, found.net, test, index)
            reader = schedule.reader(layer)
            reader.batch_size, found.solver.test_iter[index] = one_pass(
                manifest.test.images, reader.batch_size
            )


def _check_one(found, layers, phase):
    if len(layers) != 1:
        raise UserError(
            f"{found.source} has {len(layers)} data layers for {phase}, and --data is for one: "
            "give it one, or leave --data out"
        )


def _read(layer, part):
    """Makes ``layer`` one that reads this Part of a Manifest, in passes as large as before."""
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
    """Makes the sources absolute that the layers of a Definition name, as seen from here. Raises
    UserError where one is missing."""
    for phase, test in schedule.phases(found.solver):
        for layer in schedule.data_layers(found.solver, found.net, phase, test):
            reader = schedule.reader(layer)
            if not reader.source or not Path(reader.source).exists():
                raise UserError(
                    f"there is no {reader.source or 'source'} here, which layer {layer.name} of "
                    f"{found.source} reads: give --data, or run this in another folder"
                )
            reader.source = str(Path(reader.source).resolve())


# ---- What there is to learn from


def images(found):
    """How many images there are to train on; None where no single layer reads a data set."""
    if found.data:
        return found.data.train.images
    layers = schedule.data_layers(found.solver, found.net, locate.caffe_pb2().TRAIN)
    if len(layers) != 1:
        return None
    return reading.count(layers[0])


def iterations(found, epochs, size):
    """How many iterations of ``size`` ranks see every training image ``epochs`` times."""
    count = images(found)
    if not count:
        raise UserError(f"{found.source} has no one data set to count epochs of: give --max-iter")
    seen = size * schedule.images_per_iteration(found.solver, found.net)
    return max(1, round(epochs * count / seen))


def check(found):
    """Raises UserError where images would be cropped to more than they have, and where a label is
    none of a classifier's outputs: Caffe would read beyond them. Labels of a data set that the
    Definition names itself are read once, through Caffe."""
    for phase, test in schedule.phases(found.solver):
        for layer in schedule.data_layers(found.solver, found.net, phase, test):
            if found.data:
                _check_crop(found, layer, found.data.test if phase else found.data.train)
            elif len(layer.top) > 1:
                _check_labels(found, layer)
    classes = found.data and found.data.classes
    for layer, _, _ in judged(found) if classes else ():
        number = outputs(layer).num_output
        if number < classes:
            raise UserError(
                f"layer {layer.name} of {found.source} has {number} outputs, and "
                f"{found.data.folder} has {classes} classes: give --classes {classes}"
            )


def _check_crop(found, layer, part):
    crop = layer.transform_param.crop_size
    if crop > min(part.shape[1:]):
        raise UserError(
            f"layer {layer.name} of {found.source} crops images to {crop}×{crop}, and those in "
            f"{found.data.folder} are {by(part.shape)}: set transform_param.crop_size, or give "
            "other data"
        )


def _check_labels(found, layer):
    name, source = layer.top[1], schedule.reader(layer).source
    judges = [each for each in judged(found) if each[1] == name]
    if not judges:
        return
    labels = np.unique(np.concatenate([np.unique(batch[name]) for batch in _batches(layer)]))
    for scores, _, judge in judges:
        number = outputs(scores).num_output
        ignored = [
            param.ignore_label
            for param in (judge.loss_param, judge.accuracy_param)
            if param.HasField("ignore_label")
        ]
        wrong = [label for label in labels if not (0 <= label < number or label in ignored)]
        if wrong:
            raise UserError(
                f"{source}, which layer {layer.name} of {found.source} reads, has the label "
                f"{wrong[-1]:g}, and layer {scores.name} has {number} outputs, for labels from 0 "
                f"to {number - 1}: give --classes {labels[-1] + 1:g}, or mend the labels"
            )


def _batches(layer):
    """All that a data layer reads, once."""
    reader = schedule.reader(layer)
    batches = reading.batches(layer, reader.batch_size)
    return tqdm(batches, f"reading {reader.source}", unit="batch", leave=False, delay=2)
