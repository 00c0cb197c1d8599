"""What a trained network sees in images that somebody has: read, and prepared as the network's own
were."""

from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from ..data.datum import SUFFIXES, Recipe, decode, resized
from ..data.preprocess import Whitening, global_contrast_normalise
from ..errors import UserError
from ..training import imaging
from ..training.trained import Trained
from .classifier import Classifier, softmax

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
        kept = [each for each in inside if each == path or each.suffix.lower() in SUFFIXES]
        if not kept:
            raise UserError(f"{path} holds no images: name another folder")
        found += kept
    return found


class Preparation:
    """Makes of images what a network that takes ``shape`` (C, H, W) may see: see imaging.steps."""

    def __init__(self, trained, shape):
        self._how, self._arrays = imaging.steps(trained, shape)
        height, width = self._how["size"]
        self._recipe = Recipe(width, height, self._how["resize"], smooth=self._how["smooth"])

    def __call__(self, images):
        """The network's input (N, C, H, W), float32, of N files' paths or arrays (H, W, 3), RGB, or
        (H, W), grey, 0 to 255."""
        how, arrays = self._how, self._arrays
        pixels = np.stack([self._pixels(image) for image in images])
        if how["contrast_scale"]:
            pixels = global_contrast_normalise(pixels)
        if how["whitening"]:
            whitening = Whitening(arrays["whitening_mean"], arrays["whitening_matrix"])
            pixels = whitening(pixels)
        mean = arrays.get("mean", how["mean"])
        mean = mean if "mean" in arrays else np.reshape(mean, (-1, 1, 1))
        pixels = np.float32((pixels - mean) * how["scale"])
        (height, width), (h, w) = pixels.shape[2:], how["shape"][1:]
        top, left = (height - h) // 2, (width - w) // 2
        return pixels[..., top : top + h, left : left + w]

    def _pixels(self, image):
        """Those of an image, (C, H, W), 0 to 255, in the size and with the colours of the data."""
        found, order = resized(_bgr(image), self._recipe), self._how["channel_order"]
        if order == "grey":
            found = cv2.cvtColor(found, cv2.COLOR_BGR2GRAY)[..., None]
        found = found[..., ::-1] if order == "RGB" else found
        return np.moveaxis(found, -1, 0).astype(np.float64)


def _bgr(image):
    """An image file or array as (H, W, 3) uint8, blue first, upright."""
    if isinstance(image, np.ndarray):
        colours = image[..., ::-1] if image.ndim == 3 else np.stack([image] * 3, axis=-1)
        return np.ascontiguousarray(colours, np.uint8)
    try:
        found = decode(Path(image).read_bytes())
    except OSError as error:
        raise UserError(f"cannot read {image}: {error.strerror}") from error
    if found is None:
        raise UserError(f"{image} is not a complete image: name another file")
    return found
