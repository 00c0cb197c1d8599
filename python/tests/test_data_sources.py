"""The digits: real ones, split in proportion and always the same way."""
import numpy as np
from sklearn.datasets import load_digits

from active_convolution.data import sources


def as_rows(images):
    return sorted(map(tuple, images.reshape(len(images), -1)))


def test_every_digit_is_in_one_of_the_two_parts():
    data = sources.read_digits()
    assert data.train.images.shape == (1500, 1, 8, 8) and data.test.images.shape == (297, 1, 8, 8)
    together = np.concatenate([data.train.images, data.test.images])
    assert together.dtype == np.float32 and together.min() == 0 and together.max() == 1
    assert as_rows(together * 16) == as_rows(load_digits().images)


def test_images_keep_their_labels():
    original = load_digits()
    label_of = {image.tobytes(): label for image, label in zip(original.images, original.target)}
    for images, labels in sources.read_digits()[2:]:
        assert [label_of[image.astype(np.float64).tobytes()] for image in images * 16] == labels.tolist()


def test_split_is_in_proportion_and_fixed():
    first, again, other = sources.read_digits(), sources.read_digits(), sources.read_digits(split_seed=1)
    share = np.bincount(first.test.labels) / np.bincount(load_digits().target)
    np.testing.assert_allclose(share, 297 / 1797, atol=0.005)
    np.testing.assert_array_equal(first.test.images, again.test.images)
    assert not np.array_equal(first.test.images, other.test.images)


def test_every_fold_tests_on_images_of_its_own():
    folds = [sources.read_digits(fold=fold) for fold in range(1, sources.DIGITS_FOLDS + 1)]
    assert all(data.train.images.shape == (1498, 1, 8, 8) and data.test.images.shape == (299, 1, 8, 8) for data in folds)
    for data in folds:
        assert as_rows(np.concatenate([data.train.images, data.test.images]) * 16) == as_rows(load_digits().images)
        assert np.bincount(data.test.labels).min() >= 28                    # of each digit, in proportion
    tested = np.concatenate([data.test.images for data in folds])
    assert len(np.unique(tested, axis=0)) == 6 * 299                        # no two of the 1,797 are equal


def test_digits_are_enlarged_bilinearly():
    small, large = sources.read_digits(fold=2).test, sources.read_digits(fold=2, size=(32, 16)).test
    assert large.images.shape == (299, 1, 16, 32) and large.labels.tolist() == small.labels.tolist()
    # twice as high: a row a quarter of a pixel from the one before
    between = 0.75 * small.images[:, :, 3] + 0.25 * small.images[:, :, 4]
    np.testing.assert_allclose(large.images[:, :, 7, 0], between[:, :, 0], atol=1e-6)
