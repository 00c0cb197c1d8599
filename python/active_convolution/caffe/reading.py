"""What Caffe's data layers read: a network of one of them hands out images and labels as training
sees them, from LMDB, LevelDB, HDF5 or a list of image files."""

import os
import re
import tempfile
from pathlib import Path

from ..errors import UserError
from ..files import reading
from . import locate, messages
from .guard import doing

_PARAMETERS = {"Data": "data_param", "HDF5Data": "hdf5_data_param", "ImageData": "image_data_param"}


def layer(source, backend="LMDB", transform=None, **images):
    """The LayerParameter that reads ``source``, its tops called data and label: the folder of an
    LMDB or a LEVELDB, a list of HDF5 files (HDF5), or of images (IMAGES), for which ``images`` are
    fields of image_data_param. ``transform`` is a TransformationParameter."""
    types = {"HDF5": "HDF5Data", "IMAGES": "ImageData"}
    made = locate.caffe_pb2().LayerParameter(name="data", type=types.get(backend, "Data"))
    made.top.extend(["data", "label"])
    parameter = getattr(made, _PARAMETERS[made.type])
    parameter.MergeFrom(type(parameter)(source=os.fspath(source), **images))
    if made.type == "Data":
        parameter.backend = getattr(parameter, backend)
    if transform is not None:
        made.transform_param.CopyFrom(transform)
    return made


def source(layer):
    """What the data layer ``layer`` reads, a path; None where it is not a data layer."""
    name = _PARAMETERS.get(layer.type)
    return getattr(layer, name).source if name else None


def batches(layer, size=50, phase="TEST"):
    """Yields {top: array} of the data layer ``layer``: every record once, in the order of its
    source, ``size`` at a time and fewer at the end, as float32 (n, C, H, W) and (n,).

    They are what Caffe makes of them in ``phase``, "TEST" or "TRAIN": less the mean, scaled and
    cropped, as transform_param says. Raises UserError where the source is missing or empty.
    """
    total = count(layer)
    with doing(f"reading {source(layer)}"):
        net = _net(layer, min(size, total), phase)
    for begin in range(0, total, size):
        with doing(f"reading {source(layer)}"):
            tops = net.forward()
        yield {top: array[: total - begin].copy() for top, array in tops.items()}


def count(layer):
    """How many records the source of the data layer ``layer`` has. Raises UserError for none."""
    path, backend = Path(source(layer)), layer.data_param.backend
    if not path.exists():
        raise UserError(f"there is no {path}, which layer {layer.name} reads: give another path")
    with doing(f"reading {path}"):
        if layer.type == "HDF5Data":
            found = sum(_rows(name, layer.top[0]) for name in path.read_text().split())
        elif layer.type == "ImageData":
            found = len(path.read_bytes().splitlines())
        elif backend == layer.data_param.LEVELDB:
            found = _in_leveldb(path)
        else:
            found = _in_lmdb(path)
    if not found:
        raise UserError(f"{path} is empty: make it anew")
    return found


def _in_lmdb(path):
    import lmdb

    if not (path / "data.mdb").is_file():
        raise UserError(f"{path} is not an LMDB, it has no data.mdb: give the folder of one")
    with reading(path, "is not an LMDB", "make it anew", lmdb.Error, reason=True):
        with lmdb.open(os.fspath(path), readonly=True, lock=False) as opened:
            return opened.stat()["entries"]


def _in_leveldb(path):
    """As Caffe's own tool counts, since no library but Caffe's is there to read it."""
    if not (path / "CURRENT").is_file():
        raise UserError(f"{path} is not a LevelDB, it has no CURRENT: give the folder of one")
    try:
        log = locate.tool("compute_image_mean", "-backend=leveldb", path)
    except UserError as error:
        raise UserError(f"{path} cannot be read ({error}): make it anew") from error
    return int(re.findall(r"Processed (\d+) files", log)[-1])


def _rows(name, dataset):
    import h5py

    damage = KeyError, RuntimeError  # h5py's
    with reading(name, "is not an HDF5 file of data", "make it anew", damage, reason=True):
        with h5py.File(name, "r") as file:
            return len(file[dataset])


def _net(layer, size, phase):
    """The pycaffe Net of ``layer`` alone, from the first record on."""
    net = locate.caffe_pb2().NetParameter()
    alone = net.layer.add()
    alone.CopyFrom(layer)
    for field in ("include", "exclude", "phase"):
        alone.ClearField(field)
    parameter = getattr(alone, _PARAMETERS[layer.type])
    parameter.batch_size = size
    for field in ("rand_skip", "shuffle"):
        if field in parameter.DESCRIPTOR.fields_by_name:
            parameter.ClearField(field)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.prototxt"
        path.write_text(messages.text(net), encoding="utf-8")
        return locate.caffe().Net(os.fspath(path), getattr(locate.caffe(), phase))
