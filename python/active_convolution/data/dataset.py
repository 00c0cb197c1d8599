"""What every reader of images returns."""
from typing import NamedTuple

import numpy as np


class Split(NamedTuple):
    """One part of a data set: ``images`` (N, C, H, W) and their ``labels`` (N,), integers from 0."""
    images: np.ndarray
    labels: np.ndarray


class Dataset(NamedTuple):
    """A data set as it was read, before any preprocessing. ``source`` says in words what it was read from."""
    classes: int
    source: str
    train: Split
    test: Split
