"""HDF5 weights, as Caffe's solver writes them with `snapshot_format: HDF5`, as a NetParameter."""
import numpy as np

from ..errors import UserError
from . import locate

MAGIC = b"\x89HDF\r\n\x1a\n"


def read(path):
    """The NetParameter of the weights in ``path``: layers with names and blobs alone, in no particular order."""
    h5py = _h5py()
    net = locate.caffe_pb2().NetParameter()
    try:
        with h5py.File(path, "r") as file:
            for name, blobs in file["data"].items():
                layer = net.layer.add(name=name.replace("\\", "/"))     # "/" would be a path to HDF5
                for index in range(len(blobs)):
                    array = np.asarray(blobs[str(index)][...], np.float32)
                    blob = layer.blobs.add()
                    blob.shape.dim.extend(array.shape)
                    blob.data.extend(array.ravel())
    except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise UserError(f"{path} is damaged, or HDF5 with something else than Caffe's weights: name another snapshot") from error
    return net


def _h5py():
    try:
        import h5py
    except ImportError as error:
        raise UserError("weights in HDF5 need h5py: apt-get install python3-h5py, or pip install h5py") from error
    return h5py
