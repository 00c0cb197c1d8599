"""The handwritten digits that come with scikit-learn: 1797 real images of 8x8 pixels (Alpaydin and Kaynak, 1998)."""
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from .dataset import Dataset, Split

TRAIN, TEST = 1500, 297
_MAXIMUM = 16  # the set's pixels count the set dots of a 4x4 block


def read(split_seed=0):
    """The digits as a Dataset: images (N, 1, 8, 8) float32 in [0, 1], 1500 to train and 297 to test.

    The set has no test part of its own, so one is drawn, with every digit in proportion. ``split_seed`` chooses
    which; leave it alone to test on the same images everywhere.
    """
    digits = load_digits()
    images = (digits.images / _MAXIMUM).astype(np.float32)[:, None]
    train, test, train_labels, test_labels = train_test_split(
        images, digits.target, train_size=TRAIN, test_size=TEST, stratify=digits.target, random_state=split_seed)
    return Dataset(10, "scikit-learn's load_digits", Split(train, train_labels), Split(test, test_labels))
