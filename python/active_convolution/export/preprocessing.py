"""What an image has to become before an exported network may see it: as its data set was made
(data.manifest.Preprocessing), then as Caffe's transform_param says for a test."""

import json

import numpy as np

from ..caffe import locate, messages
from ..caffe.messages import by
from ..files import reading, whole_file

FILE, ARRAYS = "preprocessing.json", "preprocessing.npz"


def of(trained, shape):
    """(the content of preprocessing.json, {name: array}) for a training.trained.Trained whose
    network takes ``shape`` (C, H, W); None where nobody knows its data set.

    To a picture of values 0 to 255 this is done, in order: its channels in ``channel_order``;
    ``resize`` to ``size`` (height, width), "stretch", "crop" (covers it, the middle) or "pad"
    (fits, black around), bilinear, or where it shrinks and ``smooth`` is set the mean of areas;
    ``contrast_scale``: less the image's mean, then to this L2 norm; ``whitening``: less
    whitening_mean, times whitening_matrix; less ``mean`` (a number per channel, or an array in the
    .npz); times ``scale``; the middle of ``shape``."""
    if trained.data is None:
        return None
    data, how, layer = trained.data, trained.data.preprocessing, trained.test_layer()
    transform = (layer or locate.caffe_pb2().LayerParameter()).transform_param
    low, high = data.value_range or (0, 255)
    size = data.test.shape[1:] if transform.crop_size and data.test else shape[1:]
    # (factor·x + offset − own − less)·scale, where own is the data set's mean and less Caffe's
    factor, offset = how.scale * (high - low) / 255, how.scale * low
    arrays, folder = {}, data.folder
    mean = np.reshape(list(transform.mean_value) or [0.0], (-1, 1, 1)).astype(float)
    if transform.mean_file:
        mean = _mean_blob(transform.mean_file)
    if how.whitening:
        with reading(f"{folder}/{how.whitening}", "is damaged", "make the data set anew"):
            with np.load(f"{folder}/{how.whitening}") as stored:
                arrays = {f"whitening_{name}": stored[name] for name in ("mean", "matrix")}
    if how.mean_file:
        with reading(f"{folder}/{how.mean_file}", "is no array", "make the data set anew"):
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
    content = {
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
    }
    return content, arrays


def _mean_blob(path):
    """The mean_file of a transform_param, (C, H, W)."""
    with reading(path, "is no mean file", "give the one of the training"):
        with open(path, "rb") as file:
            blob = locate.caffe_pb2().BlobProto.FromString(file.read())
        return messages.values(blob).reshape(messages.shape(blob)[-3:]).astype(float)


def write(folder, prepared):
    """Writes what ``of`` gives into ``folder``; returns a line about it."""
    if prepared is None:
        return "images: nobody said how they were prepared (export a RUN, or give --data)"
    content, arrays = prepared
    with whole_file(folder / FILE) as file:
        json.dump(content, file, indent=2, ensure_ascii=False)
        file.write("\n")
    if arrays:
        with whole_file(folder / ARRAYS, "wb") as file:
            np.savez(file, **arrays)
    said = "" if content["channel_order_known"] else " (nobody said; so Caffe's tools store them)"
    mean, norm = content["mean"], content["contrast_scale"]
    steps = [
        f"{content['channel_order']}{said}, 0 to 255",
        f"{content['resize']} to {by(content['size'])}",
        f"contrast normalised to {norm:g}" if norm else None,
        "whitened" if content["whitening"] else None,
        f"less {'the mean image' if mean == ARRAYS else [round(each, 4) for each in mean]}",
        f"times {content['scale']:.4g}",
        f"the middle {by(content['shape'][1:])}",
    ]
    return f"images: {', '.join(filter(None, steps))} ({FILE})"


TORCH = '''

classes = {classes!r}
_how = {how!r}


def preprocess(image):
    """A picture, RGB (H, W, 3) or grey (H, W), 0 to 255, as Network has to see it: (1, {shape})."""
    arrays = Path(__file__).with_name("preprocessing.npz")
    return prepared(image, **_how, arrays=numpy.load(arrays) if arrays.exists() else {{}})
'''


def torch_text(content):
    """The end of a PyTorch module: ``classes`` and ``preprocess``."""
    how = {
        name: content[name]
        for name in ("channel_order", "resize", "smooth", "size", "contrast_scale")
    }
    how.update(mean=content["mean"], scale=content["scale"], shape=content["shape"])
    shape = ", ".join(map(str, content["shape"]))
    return TORCH.format(classes=content["classes"], how=how, shape=shape)
