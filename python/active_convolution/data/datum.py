"""Images as Caffe's Datum: raw pixels, or an encoded file that Caffe's Data layer decodes with OpenCV."""
import cv2
import numpy as np

from ..pycaffe.locate import caffe_pb2

QUALITY = 95  # of a JPEG that has to be encoded anew
_JPEG, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_PNG, _PNG_END = b"\x89PNG", b"IEND"


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


# ---- Image files to pixels; what was cut off is not taken for an image

def decode(data):
    """The image in ``data``, the bytes of a file, (H, W, 3) uint8, BGR, or None where there is no whole one.

    It is what cv2.imread gives: grey becomes three equal channels, transparency is dropped, and a photograph is turned
    upright where its EXIF says how the camera was held.
    """
    return _decode(data, cv2.IMREAD_COLOR) if is_whole(data) else None


def decode_as_stored(data):
    """The same without a change to what the file holds: (H, W) or (H, W, C), not turned. Caffe decodes so."""
    return _decode(data, cv2.IMREAD_UNCHANGED) if is_whole(data) else None


def is_whole(data):
    """Whether a JPEG or PNG goes on to its end mark. OpenCV fills up a truncated JPEG without a word."""
    if data.startswith(_JPEG):
        return data.find(_JPEG_END, _first_scan(data)) >= 0
    return not data.startswith(_PNG) or _PNG_END in data


def _decode(data, flag):
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), flag) if data else None
    except cv2.error:  # absurd sizes in a damaged header
        return None


def _first_scan(data):
    """Where the first scan of a JPEG begins: an EXIF thumbnail before it has an end mark of its own.

    Any number of 0xFF may fill up the space before a marker.
    """
    place = len(_JPEG)
    while data[place:place + 1] == b"\xff" and (marker := data[place + 1:place + 2]) not in (b"\xda", b""):
        place += 1 if marker == b"\xff" else 2 + int.from_bytes(data[place + 2:place + 4], "big")
    return place
