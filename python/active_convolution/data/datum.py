"""Images as Caffe's Datum: raw pixels, or an encoded file that Caffe's Data layer decodes with OpenCV."""
import numpy as np

from ..cv import cv2
from ..fork import caffe_pb2
from .image_file import decode, decode_as_stored

QUALITY = 95  # of a JPEG that has to be encoded anew


def from_file(data, label, size, raw):
    """The bytes of a Datum with the image file ``data``, resized to ``size`` × ``size`` (bilinear, the aspect ratio
    is not kept), or None where ``data`` is no whole image.

    ``raw``: pixels, (3, size, size) uint8, BGR. Otherwise the file as it is where Caffe decodes it to those very
    pixels, and else a JPEG of them.
    """
    stored = None if raw else decode_as_stored(data)
    if _fits(stored, size) and b"EXIF" not in data.upper():
        return _encoded(data, label, size)
    image = decode(data)
    if image is None:
        return None
    image = cv2.resize(image, (size, size)) if image.shape[:2] != (size, size) else image
    if raw:
        return _datum(label, size, data=image.transpose(2, 0, 1).tobytes())
    if _fits(stored, size) and np.array_equal(stored, image):
        return _encoded(data, label, size)
    return _encoded(cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, QUALITY))[1].tobytes(), label, size)


def pixels(datum):
    """The values of a Datum, (C, H, W), float32 or uint8, as Caffe's Data layer reads them. Raises ValueError where they
    are not whole."""
    if datum.encoded:
        image = decode_as_stored(datum.data)
        if image is None:
            raise ValueError("no whole image")
        return np.atleast_3d(image).transpose(2, 0, 1)
    shape = datum.channels, datum.height, datum.width
    if len(datum.float_data):
        return np.array(datum.float_data, np.float32).reshape(shape)
    return np.frombuffer(datum.data, np.uint8).reshape(shape)


def _fits(image, size):
    return image is not None and image.shape == (size, size, 3) and image.dtype == np.uint8


def _encoded(data, label, size):
    return _datum(label, size, data=data, encoded=True)


def _datum(label, size, **content):
    return caffe_pb2().Datum(channels=3, height=size, width=size, label=label, **content).SerializeToString()
