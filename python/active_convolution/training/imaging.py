"""What an image has to become before a trained network may see it: as its data set was made
(data.manifest.Preprocessing), then as Caffe's transform_param says for a test."""

from pathlib import Path

import numpy as np
from google.protobuf.message import DecodeError

from ..caffe import locate, messages
from ..caffe.messages import by
from ..data.manifest import Manifest
from ..errors import UserError
from ..files import DAMAGE, reading

ARRAYS = "preprocessing.npz"  # of the dictionary: this is in the arrays


def steps(trained, shape):
    """What is to be done to a picture for a training.trained.Trained whose network takes ``shape``
    (C, H, W): (a dictionary that JSON holds, {name: array}).

    To a picture of values 0 to 255 this is done, in order: its channels in ``channel_order``;
    ``resize`` to ``size`` (height, width), "stretch", "crop" (covers it, the middle) or "pad"
    (fits, black around), bilinear, or where it shrinks and ``smooth`` is set the mean of areas;
    ``contrast_scale``: less the image's mean, then to this L2 norm; ``whitening``: less
    whitening_mean, times whitening_matrix; less ``mean`` (a number per channel, or an array in the
    .npz); times ``scale``; the middle of ``shape``. Where nobody said how large the stored images
    are, they have the network's size. Raises UserError where a file of these is missing or damaged,
    or does not fit.
    """
    data, layer = trained.data or Manifest("unknown", 0), trained.test_layer()
    how = data.preprocessing
    transform = (layer or locate.caffe_pb2().LayerParameter()).transform_param
    low, high = data.value_range or (0, 255)
    size = data.test.shape[1:] if transform.crop_size and data.test else shape[1:]
    # (factor·x + offset − own − less)·scale, where own is the data set's mean and less Caffe's
    factor, offset = how.scale * (high - low) / 255, how.scale * low
    arrays, folder = {}, data.folder
    mean = np.reshape(list(transform.mean_value) or [0.0], (-1, 1, 1)).astype(float)
    if transform.mean_file:
        mean = _mean_blob(transform.mean_file)
        if mean.shape != (shape[0], *size):
            raise UserError(
                f"{transform.mean_file} is {by(mean.shape)}, and the images are "
                f"{by((shape[0], *size))}: give the mean_file of this data"
            )
    if how.whitening:
        with reading(f"{folder}/{how.whitening}", "is damaged", "make the data set anew"):
            with np.load(f"{folder}/{how.whitening}", allow_pickle=False) as stored:
                arrays = {f"whitening_{name}": stored[name] for name in ("mean", "matrix")}
    if how.mean_file:
        with reading(f"{folder}/{how.mean_file}", "is not an array", "make the data set anew"):
            mean = mean + np.load(f"{folder}/{how.mean_file}")
    if not how.contrast_scale:  # which undoes factor and offset
        mean, transform_scale = (mean - offset) / factor, factor * transform.scale
    else:
        transform_scale = transform.scale
    if mean.size > shape[0]:
        arrays["mean"], mean = np.float32(np.broadcast_to(mean, (shape[0], *size))), ARRAYS
    else:
        mean = np.broadcast_to(mean.ravel(), shape[:1]).tolist()
    order = "grey" if shape[0] == 1 else data.channel_order or "BGR"
    return {
        "channel_order": order,
        "channel_order_known": bool(data.channel_order),
        "resize": how.resize or "stretch",
        "smooth": how.smooth,
        "size": list(size),
        "contrast_scale": how.contrast_scale,
        "whitening": ARRAYS if how.whitening else None,
        "mean": mean,
        "scale": transform_scale,
        "shape": list(shape),
        "classes": data.label_names,
    }, arrays


def _mean_blob(path):
    """The mean_file of a transform_param, (C, H, W)."""
    with reading(
        path, "is not a mean file", "give the one of the training", (*DAMAGE, DecodeError)
    ):
        blob = messages.parsed(locate.caffe_pb2().BlobProto, Path(path).read_bytes())
        return messages.values(blob).reshape(messages.shape(blob)[-3:]).astype(float)
