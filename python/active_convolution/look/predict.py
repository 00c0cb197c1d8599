"""What a trained network sees in images that somebody has: read, and prepared as the network's own
were."""

from pathlib import Path

import cv2
import numpy as np
from google.protobuf.message import DecodeError
from tqdm import tqdm

from ..caffe import locate
from ..caffe.messages import by, parsed, values
from ..caffe.messages import shape as blob_shape
from ..data.datum import Recipe, decode, resized
from ..data.manifest import Manifest
from ..data.preprocess import Whitening, global_contrast_normalise
from ..errors import UserError
from ..files import DAMAGE, content, reading
from ..training.trained import Trained
from .classifier import Classifier, softmax

_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
_BATCH = 50  # images


def load(run, iteration=None):
    """The Predictor of a run folder of acu train, with its newest snapshot, or that after
    ``iteration`` iterations. Raises UserError where the folder holds no run with a snapshot.

    >>> network = active_convolution.load("runs/flowers")
    >>> probabilities = network.predict(["rose.jpg", "tulip.jpg"])
    >>> network.classes[probabilities[0].argmax()]
    """
    return Predictor(Trained.of_run(run, iteration))


class Predictor:
    """A trained network (training.trained.Trained) for images. ``classes`` are the names of its
    outputs, their numbers where nobody named them."""

    def __init__(self, trained):
        self._network = Classifier(trained)
        self._prepare = Preparation(trained, self._network.shape)
        names = (trained.data and trained.data.label_names) or []
        self.classes = [*names, *map(str, range(len(names), self._network.classes))]

    def predict(self, images):
        """The probability of each class, (N, classes), of N ``images``: files' paths, or arrays
        (H, W, 3), RGB, or (H, W), grey, with values 0 to 255, of any size.

        They become what the network was tested with: size, colours and normalisation as the run's
        data set had them, mean, scale and crop of its data layer.
        """
        found = [np.empty((0, len(self.classes)))]
        for start in tqdm(range(0, len(images), _BATCH), desc="predicting", delay=2):
            views = self._prepare(images[start : start + _BATCH])
            found.append(softmax(self._network.scores(views)))
        return np.concatenate(found)


def files(paths):
    """The images among ``paths``: files as they are, and of a folder those that lie in it. Raises
    UserError where there is none."""
    found = []
    for path in map(Path, paths):
        inside = sorted(path.iterdir()) if path.is_dir() else [path]
        kept = [each for each in inside if each == path or each.suffix.lower() in _SUFFIXES]
        if not kept:
            raise UserError(f"{path} holds no images ({', '.join(_SUFFIXES)}): name another folder")
        found += kept
    return found


class Preparation:
    """What images have to become for a network that takes ``shape`` (C, H, W): first as its data
    set was made (data.manifest.Preprocessing), then as Caffe's transform_param says for a test.
    Where nobody said how large the stored images are, they have the network's size."""

    def __init__(self, trained, shape):
        self._shape, layer = shape, trained.test_layer()
        self._transform = (layer or locate.caffe_pb2().LayerParameter()).transform_param
        self._data = trained.data or Manifest("unknown", 0)
        self._how, folder = self._data.preprocessing, Path(self._data.folder)
        part = self._data.test if self._transform.crop_size else None
        height, width = part.shape[1:] if part else shape[1:]
        self._recipe = Recipe(width, height, self._how.resize or "stretch", smooth=self._how.smooth)
        self._less = self._file_mean = self._whitening = None
        if self._how.mean_file:
            with reading(folder / self._how.mean_file, "is no array", "make the data set anew"):
                self._less = np.load(folder / self._how.mean_file)
        if self._how.whitening:
            self._whitening = Whitening.load(folder / self._how.whitening)
        if self._transform.mean_file:
            self._file_mean = _mean_blob(self._transform.mean_file, (shape[0], height, width))

    def __call__(self, images):
        """The network's input (N, C, H, W), float32, of N files' paths or arrays (H, W, 3), RGB, or
        (H, W), grey, 0 to 255."""
        low, high = self._data.value_range or (0, 255)
        pixels = low + np.stack([self._pixels(image) for image in images]) * ((high - low) / 255)
        pixels *= self._how.scale
        if self._less is not None:
            pixels -= self._less
        if self._how.contrast_scale:
            pixels = global_contrast_normalise(pixels)
        if self._whitening is not None:
            pixels = self._whitening(pixels)
        pixels = np.float32((pixels - self._mean()) * self._transform.scale)
        (height, width), (h, w) = pixels.shape[2:], self._shape[1:]
        top, left = (height - h) // 2, (width - w) // 2
        return pixels[..., top : top + h, left : left + w]

    def _mean(self):
        if self._file_mean is not None:
            return self._file_mean
        return np.reshape(list(self._transform.mean_value) or [0], (-1, 1, 1))

    def _pixels(self, image):
        """Those of an image, (C, H, W), 0 to 255, in the size and with the colours of the data."""
        found = resized(_bgr(image), self._recipe)
        if self._shape[0] == 1:
            found = cv2.cvtColor(found, cv2.COLOR_BGR2GRAY)[..., None]
        elif self._data.channel_order == "RGB":
            found = found[..., ::-1]
        return np.moveaxis(found, -1, 0).astype(np.float64)


def _bgr(image):
    """An image file or array as (H, W, 3) uint8, blue first, upright."""
    if isinstance(image, np.ndarray):
        return np.ascontiguousarray(
            image[..., ::-1] if image.ndim == 3 else np.stack([image] * 3, axis=-1), np.uint8
        )
    try:
        found = decode(Path(image).read_bytes())
    except OSError as error:
        raise UserError(f"cannot read {image}: {error.strerror}") from error
    if found is None:
        raise UserError(f"{image} is no whole image: name another file")
    return found


def _mean_blob(path, shape):
    """The mean_file of a transform_param, (C, H, W)."""
    with reading(path, "is no mean file", "give the one of the training", (*DAMAGE, DecodeError)):
        blob = parsed(locate.caffe_pb2().BlobProto, content(path))
        found = values(blob).reshape(blob_shape(blob)[-3:])
    if found.shape != shape:
        raise UserError(
            f"{path} is {by(found.shape)}, and the images are {by(shape)}: give another"
        )
    return found
