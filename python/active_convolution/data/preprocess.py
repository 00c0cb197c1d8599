"""The preprocessing of section 3.1: global contrast normalisation, ZCA whitening (Goodfellow et al., 2013) and padding.

It reproduces the input of the networks that the paper's authors published.
"""

import sys
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from ..arrays import Array, read_npz, write_npz
from ..errors import UserError

SCALE = 55  # the L2 norm of an image after contrast normalisation
REGULARISATION = 0.1  # what whitening adds to every eigenvalue
_CHUNK = 1000  # images at a time: float64 copies stay small beside the data
_TINY = 1e-8


def global_contrast_normalise(images):
    """Subtracts from each image of ``images`` (N, C, H, W) its mean and scales it to L2 norm 55; float32.

    A constant image has no contrast to normalise and becomes zero.
    """
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

    λ and U are the eigenvalues and eigenvectors of the covariance (divided by N) of the images it was fitted on.
    ``mean`` (P,) and ``matrix`` W (P, P), symmetric, are float32.
    """

    mean: np.ndarray
    matrix: np.ndarray

    @classmethod
    def fit(cls, images):
        """Fits on ``images`` (N, C, H, W), in float64; the usual choice is the normalised training images."""
        rows = images.reshape(len(images), -1)
        mean = rows.mean(axis=0, dtype=np.float64)
        eigenvalues, vectors = _few(rows - mean) if len(rows) < len(mean) else _many(rows, mean)
        others = 1 / np.sqrt(REGULARISATION)  # of the eigenvectors with eigenvalue 0
        matrix = vectors * (
            1 / np.sqrt(eigenvalues + REGULARISATION) - others
        ) @ vectors.T + others * np.eye(len(mean))
        return cls(mean.astype(np.float32), matrix.astype(np.float32))

    def __call__(self, images):
        """The whitened ``images`` (N, C, H, W), float32."""
        result = np.empty(images.shape, np.float32)
        for part in _chunks(len(images), "whitening"):
            rows = images[part].reshape(len(images[part]), -1)
            result[part] = ((rows - self.mean) @ self.matrix).reshape(images[part].shape)
        return result

    def save(self, path):
        """Writes an .npz file with ``mean`` and ``matrix``. Raises UserError where that fails."""
        write_npz(path, **self._asdict())

    @classmethod
    def load(cls, path):
        """Reads what ``save`` wrote. Raises UserError for anything else."""
        declared = {"mean": Array("f", (None,)), "matrix": Array("f", (None, None))}
        whitening = cls(**read_npz(path, declared, "make the data set again with acu data"))
        if whitening.matrix.shape != 2 * whitening.mean.shape:
            raise UserError(
                f"{path}: matrix is {whitening.matrix.shape}, and mean has {len(whitening.mean)} values: make the "
                "data set again with acu data"
            )
        return whitening


def _many(rows, mean):
    """The eigenvalues and eigenvectors (in columns) of the covariance of ``rows`` (N, D), all D of them."""
    covariance = np.zeros((len(mean), len(mean)))
    for part in _chunks(len(rows), "covariance"):
        centred = rows[part] - mean
        covariance += centred.T @ centred
    print(f"eigenvectors of the {len(mean)}x{len(mean)} covariance ...", file=sys.stderr)
    return np.linalg.eigh(covariance / len(rows))


def _few(centred):
    """The same of fewer rows than D, without a covariance: the N that need not be zero."""
    _, singular, vectors = np.linalg.svd(centred, full_matrices=False)
    return singular**2 / len(centred), vectors.T


def whitened(train, test, folder):
    """The preprocessing of section 3.1 but for the padding, fitted on ``train``: ``train`` and ``test`` (N, C, H, W), of
    any type, as float32, and what the manifest says of it. The whitening is written to ``folder``/whitening.npz."""
    train, test = map(global_contrast_normalise, (train, test))
    whitening = Whitening.fit(train)
    whitening.save(folder / "whitening.npz")
    return (
        whitening(train),
        whitening(test),
        {
            "steps": [
                "channels in the order red, green, blue",
                f"global contrast normalisation: each image less its mean, times {SCALE} over its L2 norm",
                "ZCA whitening fitted on the training images (whitening.npz): less their mean, then along each "
                f"eigenvector of their covariance divided by sqrt(eigenvalue + {REGULARISATION})",
            ],
            "contrast_scale": SCALE,
            "whitening": "whitening.npz",
            "whitening_regularisation": REGULARISATION,
        },
    )


def pad(images, pixels):
    """``images`` (N, C, H, W) with ``pixels`` zeros on all four sides: (N, C, H + 2·pixels, W + 2·pixels)."""
    return np.pad(images, ((0, 0), (0, 0), (pixels, pixels), (pixels, pixels)))


def _chunks(count, description):
    """Slices that together cover range(count), with a progress bar."""
    with tqdm(desc=description, total=count, unit="image") as bar:
        for start in range(0, count, _CHUNK):
            part = slice(start, min(start + _CHUNK, count))
            yield part
            bar.update(part.stop - part.start)
