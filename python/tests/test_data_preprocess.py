"""Preprocessing against its definition, and against the input of the networks that the paper's
authors published."""

import numpy as np
import pytest
from active_convolution.data.preprocess import Whitening, global_contrast_normalise
from active_convolution.errors import UserError


@pytest.fixture(scope="module")
def correlated():
    """(2500, 3, 2, 3) images, more than a chunk, whose pixels depend on each other, far from zero
    mean."""
    random = np.random.RandomState(0)
    mixing = random.randn(18, 18) * np.logspace(-2, 1, 18)
    return (random.randn(2500, 18) @ mixing.T + 5).reshape(-1, 3, 2, 3)


def test_contrast_is_normalised_image_by_image():
    images = np.random.RandomState(0).randint(0, 256, (1001, 3, 4, 4), np.uint8)
    result = global_contrast_normalise(images)
    assert result.dtype == np.float32 and result.shape == images.shape
    rows = result.reshape(1001, -1)
    np.testing.assert_allclose(rows.mean(axis=1), 0, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 55, rtol=1e-5)
    assert np.corrcoef(rows[1000], images[1000].ravel())[0, 1] == pytest.approx(1)


def test_constant_image_becomes_zero():
    images = np.full((2, 3, 4, 4), 200, np.uint8)
    images[1, 0, 0, 0] = 201
    result = global_contrast_normalise(images)
    assert not result[0].any()
    assert np.linalg.norm(result[1]) == pytest.approx(55, rel=1e-5)


@pytest.mark.parametrize("count", [2500, 18, 17, 5, 1])  # of images with 18 values each
def test_whitening_leaves_each_eigenvector_lambda_over_lambda_plus_regularisation(
    correlated, count
):
    images = correlated[:count]
    whitened = Whitening.fit(images)(images)
    assert whitened.dtype == np.float32 and whitened.shape == images.shape
    eigenvalues, vectors = np.linalg.eigh(np.cov(images.reshape(count, -1).T, bias=True))
    expected = vectors @ np.diag(eigenvalues / (eigenvalues + 0.1)) @ vectors.T
    rows = whitened.reshape(count, -1).astype(np.float64)
    np.testing.assert_allclose(np.cov(rows.T, bias=True), expected, atol=1e-4)
    np.testing.assert_allclose(rows.mean(axis=0), 0, atol=1e-4)


@pytest.mark.parametrize("count", [2500, 5])
def test_whitening_is_the_zca_one(correlated, count):
    """Of all the matrices that whiten, ZCA's is the symmetric one, which changes images least."""
    matrix = Whitening.fit(correlated[:count]).matrix
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-5)
    assert np.linalg.eigvalsh(matrix).min() > 0


def test_whitening_comes_back_from_its_file(correlated, tmp_path):
    fitted = Whitening.fit(correlated)
    fitted.save(tmp_path / "whitening.npz")
    np.testing.assert_array_equal(
        Whitening.load(tmp_path / "whitening.npz")(correlated), fitted(correlated)
    )


@pytest.mark.parametrize("content", [None, b"text", "truncated", "other arrays"])
def test_damaged_whitening_is_refused(correlated, tmp_path, content):
    path = tmp_path / "whitening.npz"
    if content == "truncated":
        Whitening.fit(correlated).save(path)
        path.write_bytes(path.read_bytes()[:-100])
    elif content == "other arrays":
        np.savez(path, mean=np.zeros(3))
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match="make the data set again"):
        Whitening.load(path)


def test_what_fewer_images_than_values_do_not_show_is_left_in_proportion(correlated):
    """Directions in which the images do not differ have the eigenvalue 0, as in the whole
    covariance."""
    images = correlated[:5].reshape(5, -1).astype(np.float64)
    eigenvalues, vectors = np.linalg.eigh(np.cov(images.T, bias=True))
    expected = vectors / np.sqrt(eigenvalues.clip(0) + 0.1) @ vectors.T
    np.testing.assert_allclose(Whitening.fit(correlated[:5]).matrix, expected, atol=1e-5)


@pytest.mark.slow
def test_reproduces_the_authors_input(shared_data, shared_reference):
    """The first 16 test images of the lossless part, whitened with its X, are the published golden
    inputs."""
    images = np.load(shared_data / "cifar10-lossless-part.npz")
    whitening = Whitening.fit(global_contrast_normalise(images["X"]))
    result = whitening(global_contrast_normalise(images["xt"][:16]))
    np.testing.assert_allclose(
        result, np.load(shared_reference / "golden.npz")["inputs"], atol=2e-5
    )
