"""HDF5 weights, as Caffe's solver writes them with `snapshot_format: HDF5`, as a NetParameter."""

import importlib.util
import math
import os
import subprocess
import sys

import numpy as np

from ..errors import UserError
from . import locate
from .process import end_with_parent, start

MAGIC = b"\x89HDF\r\n\x1a\n"
_LEAST_LIMIT, _RATIO = (
    2**30,
    100,
)  # bytes; and how often its size a file may unpack to: numbers hardly shrink


def read(path):
    """The NetParameter of the weights in ``path``: layers with names and blobs, in no particular order; of their types the
    file says nothing, and those with the blobs of an active convolution are taken for one.

    The HDF5 library may die of a damaged file, so a process of its own reads it. Raises UserError where that fails."""
    _need_h5py(path)
    with start(
        __name__,
        [path],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as reader:
        message = reader.stdout.read()
    if reader.returncode:
        raise UserError(
            f"{path} is damaged, or HDF5 with something else than Caffe's weights: name another snapshot"
        )
    return locate.caffe_pb2().NetParameter.FromString(message)


def _read(path):
    """As ``read``, in this process; raises what comes."""
    import h5py

    net = locate.caffe_pb2().NetParameter()
    with h5py.File(path, "r") as file:
        layers = member(file, "data")
        for (
            name
        ) in layers.keys():  # of a group: a data set has none, and to go through one would read it
            blobs = member(layers, name)
            layer = net.layer.add(name=name.replace("\\", "/"))  # "/" would be a path to HDF5
            for index in range(len(blobs.keys())):
                array = np.asarray(checked(member(blobs, str(index)))[...], np.float32)
                blob = layer.blobs.add()
                blob.shape.dim.extend(array.shape)
                blob.data.extend(array.ravel())
            layer.type = (
                "ActiveConvolution"
                if _active([tuple(blob.shape.dim) for blob in layer.blobs])
                else ""
            )
    return net


def member(group, name):
    """What ``group`` (h5py) holds under ``name``. Raises ValueError for a link, since another file may be a pipe, and KeyError
    where there is nothing."""
    import h5py

    link = group.get(name, getlink=True)
    if link is None:
        raise KeyError(name)
    if not isinstance(link, h5py.HardLink):
        raise ValueError(f"{name} is a link to something else")
    return group[name]


def checked(dataset):
    """``dataset`` (h5py), an array of numbers. Raises ValueError where it is something else, has its numbers in other files, or
    asks for more memory than its file makes likely: what was never written takes no room there."""
    if dataset.is_virtual or dataset.external:
        raise ValueError(f"{dataset.name} has its numbers in other files")
    asked = math.prod(dataset.shape) * dataset.dtype.itemsize
    if dataset.dtype.kind not in "fiu":
        raise ValueError(f"{dataset.name} is of {dataset.dtype}, not of numbers")
    if asked > max(_LEAST_LIMIT, _RATIO * os.path.getsize(dataset.file.filename)):
        raise ValueError(f"{dataset.name} asks for {asked / 2**30:,.0f} GiB, more than is sensible")
    return dataset


def _active(shapes):
    """Whether these are the shapes of a weight, a bias and two sets of positions."""
    return (
        len(shapes) == 4
        and len(shapes[0]) == 4
        and shapes[2] == shapes[3]
        and shapes[2][1:] == (1, *shapes[0][2:])
    )


def _need_h5py(path):
    if importlib.util.find_spec("h5py") is None:
        raise UserError(
            f"{path} is HDF5, which needs h5py: apt-get install python3-h5py, or pip install h5py"
        )


if __name__ == "__main__":
    end_with_parent()
    sys.stdout.buffer.write(_read(sys.argv[1]).SerializeToString())
