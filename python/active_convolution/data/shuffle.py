"""The order of the images in a database."""
import numpy as np

from ..errors import UserError


def check_seed(seed):
    if not 0 <= seed < 2 ** 32:
        raise UserError(f"--seed {seed} is out of range: give one from 0 to {2 ** 32 - 1}")


def order(count, seed):
    """The image at each place: a permutation of range(count)."""
    # RandomState's stream is frozen by NumPy's compatibility policy: a seed gives one order, for good.
    return np.random.RandomState(seed).permutation(count)
