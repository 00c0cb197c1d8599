"""Image files to pixels; what was cut off is not taken for an image."""
import numpy as np

from ..cv import cv2

_JPEG, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_PNG, _PNG_END = b"\x89PNG", b"IEND"


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
