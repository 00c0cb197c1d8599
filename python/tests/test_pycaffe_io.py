"""pycaffe's own reading of images, its Classifier, and its conversions between arrays and messages,
which the fork mends for the NumPy and scikit-image of today."""

import subprocess
import sys

import cv2
import numpy as np
import pytest
from active_convolution.caffe import locate

caffe = locate.caffe()
messages = locate.caffe_pb2()


@pytest.fixture
def picture(tmp_path):
    """(path, pixels as RGB uint8) of a small PNG."""
    pixels = np.random.default_rng(1).integers(0, 256, (6, 5, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "picture.png"), pixels[..., ::-1])
    return str(tmp_path / "picture.png"), pixels


def test_load_image_in_colour(picture):
    path, pixels = picture
    image = caffe.io.load_image(path)
    assert image.dtype == np.float32
    np.testing.assert_allclose(image, pixels / 255, atol=1e-6)


def test_load_image_in_grey(picture):
    """Luminance, as scikit-image weighs it."""
    path, pixels = picture
    image = caffe.io.load_image(path, color=False)
    assert image.shape == (6, 5, 1) and image.dtype == np.float32
    np.testing.assert_allclose(image[..., 0], pixels / 255 @ [0.2125, 0.7154, 0.0721], atol=1e-5)


def test_load_image_of_a_grey_file(tmp_path):
    pixels = np.arange(30, dtype=np.uint8).reshape(6, 5)
    cv2.imwrite(str(tmp_path / "grey.png"), pixels)
    np.testing.assert_allclose(
        caffe.io.load_image(str(tmp_path / "grey.png")), np.dstack([pixels / 255] * 3), atol=1e-6
    )
    assert caffe.io.load_image(str(tmp_path / "grey.png"), color=False).shape == (6, 5, 1)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_datum_and_back(dtype):
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    datum = messages.Datum.FromString(caffe.io.array_to_datum(array, 7).SerializeToString())
    assert datum.label == 7 and len(datum.data) == (24 if dtype is np.uint8 else 0)
    back = caffe.io.datum_to_array(datum)
    np.testing.assert_array_equal(back, array)
    back += 1  # a copy of its own
    np.testing.assert_array_equal(caffe.io.datum_to_array(datum), array)


def test_blob_and_back():
    array = np.random.default_rng(2).normal(size=(2, 3, 4)).astype(np.float32)
    blob = caffe.io.array_to_blobproto(array, diff=array + 1)
    blob = messages.BlobProto.FromString(blob.SerializeToString())
    np.testing.assert_array_equal(caffe.io.blobproto_to_array(blob), array)
    np.testing.assert_array_equal(caffe.io.blobproto_to_array(blob, return_diff=True), array + 1)
    old = messages.BlobProto(num=1, channels=2, height=1, width=3, data=range(6))
    assert caffe.io.blobproto_to_array(old).shape == (1, 2, 1, 3)


def test_lists_of_arrays_and_back():
    arrays = [np.full((2, 2), number, np.float32) for number in range(3)]
    back = caffe.io.blobprotovector_str_to_arraylist(
        caffe.io.arraylist_to_blobprotovector_str(arrays)
    )
    np.testing.assert_array_equal(back, arrays)


# A network that tells the mean of an active convolution's output, channel by channel: its answer
# can be computed by hand.
NET = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: [10, 3, 4, 4] } } }
layer { name: "conv" type: "ActiveConvolution" bottom: "data" top: "conv"
  convolution_param { num_output: 3 kernel_size: 1 bias_term: false } }
layer { name: "prob" type: "Pooling" bottom: "conv" top: "prob"
  pooling_param { pool: AVE global_pooling: true } }
"""


@pytest.fixture
def classifier(tmp_path):
    """A Classifier of NET whose convolution copies its channels, with images of 8×8 cropped to
    4×4."""
    (tmp_path / "deploy.prototxt").write_text(NET)
    net = caffe.Net(str(tmp_path / "deploy.prototxt"), caffe.TEST)
    net.params["conv"][0].data[:, :, 0, 0] = np.eye(3)
    net.save(str(tmp_path / "net.caffemodel"))
    return caffe.Classifier(
        str(tmp_path / "deploy.prototxt"),
        str(tmp_path / "net.caffemodel"),
        image_dims=(8, 8),
        mean=np.array([1, 2, 3], np.float32),
        raw_scale=255,
        channel_swap=(2, 1, 0),
    )


def test_classifier_takes_the_middle(classifier):
    image = np.random.default_rng(3).random((8, 8, 3)).astype(np.float32)
    means = 255 * image[2:6, 2:6].mean((0, 1))[::-1] - [1, 2, 3]  # BGR
    answers = classifier.predict([image], oversample=False)
    np.testing.assert_allclose(answers.reshape(-1, 3), [means], rtol=1e-4)


def test_classifier_averages_ten_crops(classifier):
    image = np.random.default_rng(4).random((8, 8, 3)).astype(np.float32)
    crops = [
        image[top : top + 4, left : left + 4]
        for top, left in ((0, 0), (0, 4), (4, 0), (4, 4), (2, 2))
    ]
    means = 255 * np.mean(crops, (0, 1, 2))[::-1] - [1, 2, 3]
    np.testing.assert_allclose(classifier.predict([image]), [means], rtol=1e-4)


def test_classifier_resizes(classifier):
    """A flat image of another size stays flat."""
    answers = classifier.predict([np.full((13, 21, 3), 0.5, np.float32)], oversample=False)
    np.testing.assert_allclose(answers.reshape(-1, 3), [[126.5, 125.5, 124.5]], rtol=1e-4)


def test_scikit_image_is_imported_where_an_image_is_read(picture):
    """To import it takes longer than all the rest of pycaffe, and most programs read no image with
    it."""
    code = (
        "import sys\nfrom active_convolution.caffe import locate\ncaffe = locate.caffe()\n"
        "assert not {'skimage', 'scipy'} & {*sys.modules}\n"
        f"print(caffe.io.load_image({picture[0]!r}).shape, caffe.io.skimage.img_as_float([1.]), "
        "'skimage' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "(6, 5, 3) [1.] True\n"), done.stderr
