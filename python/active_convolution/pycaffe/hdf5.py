"""HDF5 weights, as Caffe's solver writes them with `snapshot_format: HDF5`, as a NetParameter."""
import math
import os

import numpy as np

from ..errors import UserError
from . import locate

MAGIC = b"\x89HDF\r\n\x1a\n"
_LEAST_LIMIT, _RATIO = 2 ** 30, 100     # bytes; and how often its size a file may unpack to: numbers hardly shrink


def read(path):
    """The NetParameter of the weights in ``path``: layers with names and blobs, in no particular order; of their types the
    file says nothing, and those with the blobs of an active convolution are taken for one."""
    h5py = _h5py(path)
    net = locate.caffe_pb2().NetParameter()
    try:
        with h5py.File(path, "r") as file:
            for name, blobs in file["data"].items():
                layer = net.layer.add(name=name.replace("\\", "/"))     # "/" would be a path to HDF5
                for index in range(len(blobs)):
                    array = np.asarray(checked(blobs[str(index)])[...], np.float32)
                    blob = layer.blobs.add()
                    blob.shape.dim.extend(array.shape)
                    blob.data.extend(array.ravel())
                layer.type = "ActiveConvolution" if _active([tuple(blob.shape.dim) for blob in layer.blobs]) else ""
    except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise UserError(f"{path} is damaged, or HDF5 with something else than Caffe's weights: name another snapshot") from error
    return net


def checked(dataset):
    """``dataset`` (h5py), an array of numbers. Raises ValueError where it is something else, or asks for more memory than its
    file makes likely: what was never written takes no room there."""
    asked = math.prod(dataset.shape) * dataset.dtype.itemsize
    if dataset.dtype.kind not in "fiu":
        raise ValueError(f"{dataset.name} is of {dataset.dtype}, not of numbers")
    if asked > max(_LEAST_LIMIT, _RATIO * os.path.getsize(dataset.file.filename)):
        raise ValueError(f"{dataset.name} asks for {asked / 2 ** 30:,.0f} GiB, more than is sensible")
    return dataset


def _active(shapes):
    """Whether these are the shapes of a weight, a bias and two sets of positions."""
    return len(shapes) == 4 and len(shapes[0]) == 4 and shapes[2] == shapes[3] and shapes[2][1:] == (1, *shapes[0][2:])


def _h5py(path):
    try:
        import h5py
    except ImportError as error:
        raise UserError(f"{path} is HDF5, which needs h5py: apt-get install python3-h5py, or pip install h5py") from error
    return h5py
