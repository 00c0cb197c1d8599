"""Layers with their weights, as Caffe stores them in a .caffemodel."""
import numpy as np

from ..files import whole_file


def fill(stored, layer, blobs):
    """Makes the LayerParameter ``stored`` that of ``layer``, with these arrays as its blobs."""
    stored.CopyFrom(layer)
    for array in blobs:
        blob = stored.blobs.add()
        blob.shape.dim.extend(array.shape)
        blob.data.extend(np.float32(array).flat)


def write(path, net):
    """Writes a NetParameter as .caffemodel, whole or not at all: on a full disk, Caffe itself would end the process."""
    with whole_file(path, "wb") as file:
        file.write(net.SerializeToString())
