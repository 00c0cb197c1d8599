"""The preprocessing of section 3.1: global contrast normalisation, ZCA whitening (Goodfellow et
al., 2013) and padding. It reproduces the input of the networks that the paper's authors published.
"""

import sys
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from ..errors import UserError
from ..files import save_npz
from . import database
from .manifest import database_path

SCALE = 55  # the L2 norm of an image after contrast normalisation
REGULARISATION = 0.1  # what whitening adds to every eigenvalue
PADDING = 4  # pixels on each side of a training image, for Caffe's random crop
_CHUNK = 1000  # images at a time: float64 copies stay small beside the data
_TINY = 1e-8


def global_contrast_normalise(images):
    """Subtracts from each image of ``images`` (N, C, H, W) its mean and scales it to L2 norm 55;
    float32. A constant image has no contrast to normalise and becomes zero."""
    result = np.empty(images.shape, np.float32)
    for part in _chunks(len(images), "normalising contrast"):
        rows = images[part].reshape(len(images[part]), -1).astype(np.float64)
        rows -= rows.mean(axis=1, keepdims=True)
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        norms[norms < _TINY] = 1
        result[part] = (SCALE / norms * rows).reshape(images[part].shape)
    return result


class Whitening(NamedTuple):
    """ZCA whitening of images with P = C·H·W values: x ↦ W (x − mean), W = U diag(1/√(λ + 0.1)) Uᵀ.

    λ and U are the eigenvalues and eigenvectors of the covariance (divided by N) of the images it
    was fitted on. ``mean`` (P,) and ``matrix`` W (P, P), symmetric, are float32.
    """

    mean: np.ndarray
    matrix: np.ndarray

    @classmethod
    def fit(cls, images):
        """Fits on ``images`` (N, C, H, W), in float64: the normalised training images."""
        rows = images.reshape(len(images), -1)
        mean = rows.mean(axis=0, dtype=np.float64)
        eigenvalues, vectors = _few(rows - mean) if len(rows) < len(mean) else _many(rows, mean)
        others = 1 / np.sqrt(REGULARISATION)  # of the eigenvectors with eigenvalue 0
        scales = 1 / np.sqrt(eigenvalues + REGULARISATION) - others
        matrix = vectors * scales @ vectors.T + others * np.eye(len(mean))
        return cls(mean.astype(np.float32), matrix.astype(np.float32))

    def __call__(self, images):
        """The whitened ``images`` (N, C, H, W), float32."""
        result = np.empty(images.shape, np.float32)
        for part in _chunks(len(images), "whitening"):
            rows = images[part].reshape(len(images[part]), -1)
            result[part] = ((rows - self.mean) @ self.matrix).reshape(images[part].shape)
        return result

    def save(self, path):
        """Writes an .npz file with ``mean`` and ``matrix``."""
        save_npz(path, **self._asdict())

    @classmethod
    def load(cls, path):
        """Reads what ``save`` wrote. Raises UserError for anything else."""
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return cls(*(arrays[name] for name in cls._fields))
        except Exception as error:  # a damaged zip can raise nearly anything
            raise UserError(
                f"{path} is not a whitening ({error}): make the data set again"
            ) from error


def _many(rows, mean):
    """The eigenvalues and eigenvectors (in columns) of the covariance of ``rows`` (N, P)."""
    covariance = np.zeros((len(mean), len(mean)))
    for part in _chunks(len(rows), "covariance"):
        centred = rows[part] - mean
        covariance += centred.T @ centred
    print(f"eigenvectors of the {len(mean)}x{len(mean)} covariance ...", file=sys.stderr)
    return np.linalg.eigh(covariance / len(rows))


def _few(centred):
    """The same of N < P rows, without a covariance: the N that need not be zero."""
    _, singular, vectors = np.linalg.svd(centred, full_matrices=False)
    return singular**2 / len(centred), vectors.T


def write_whitened(folder, manifest, splits):
    """Writes a data set of ``splits``, {"train": (images (N, 3, H, W) uint8 RGB, labels), "test":
    ...}, as section 3.1 has it, into ``folder``, with the ``manifest`` and the whitening, which is
    fitted on the training images."""
    images = {split: global_contrast_normalise(part[0]) for split, part in splits.items()}
    whitening = Whitening.fit(images["train"])
    whitening.save(folder / "whitening.npz")
    splits = {split: (whitening(images[split]), splits[split][1]) for split in splits}
    said, manifest.channel_order = manifest.preprocessing, "RGB"
    said.contrast_scale, said.whitening = SCALE, "whitening.npz"
    write(folder, manifest, splits, PADDING)


def write(folder, manifest, splits, padding):
    """Writes the databases of ``splits``, {split: (images, labels)}, training images with
    ``padding`` pixels of zeros on all sides, and then the ``manifest``."""
    manifest.versions = database.VERSIONS
    for split, (images, labels) in splits.items():
        border = 2 * ((padding, padding) if split == "train" else (0, 0),)
        images = np.pad(images, ((0, 0), (0, 0), *border))
        path = database_path(folder, split)
        database.write(path, images, labels, manifest.seed)
        part = database.part_of(path, labels, images.shape[1:], manifest.classes)
        setattr(manifest, split, part)
    manifest.write(folder)


def _chunks(count, description):
    """Slices that together cover range(count), with a progress bar."""
    with tqdm(desc=description, total=count, unit="image") as bar:
        for start in range(0, count, _CHUNK):
            part = slice(start, min(start + _CHUNK, count))
            yield part
            bar.update(part.stop - part.start)
