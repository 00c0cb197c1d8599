"""Images as Caffe's Datum: raw pixels, or an encoded file that Caffe's Data layer decodes with OpenCV."""

import math
import os
import re
from typing import NamedTuple, Optional

_MOST_PIXELS = 2**28
os.environ.setdefault(
    "OPENCV_IO_MAX_IMAGE_PIXELS", str(_MOST_PIXELS)
)  # read at the import: a bound on memory for hostile files
import cv2
import numpy as np

from ..caffe.locate import caffe_pb2
from ..command import libraries_unheard

QUALITY = 95  # of a JPEG that has to be encoded anew
RESIZE = ("stretch", "crop", "pad")
ENCODE = ("jpeg", "png", "raw")
_ENCODERS = {"jpeg": (".jpg", (cv2.IMWRITE_JPEG_QUALITY, QUALITY)), "png": (".png", ())}
_JPEG, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_FILL = re.compile(rb"\xff+")
_PNG, _PNG_END = b"\x89PNG", b"IEND"


class Recipe(NamedTuple):
    """What is made of an image file: ``width`` × ``height`` pixels, by ``resize``:

    - "stretch": the aspect ratio is not kept, as in convert_imageset;
    - "crop": it is kept, and the middle of the image fills the size;
    - "pad": it is kept, and the whole image lies in the middle of black;
    - None: only files of this size are taken.

    ``encode``: "raw" stores pixels, (3, H, W) uint8, BGR. Otherwise a JPEG or PNG file stays as it is where Caffe decodes
    it to those very pixels, and else they become one. ``smooth``: shrinking averages areas, in place of bilinear
    interpolation, which is convert_imageset's.
    """

    width: int
    height: int
    resize: Optional[str] = "stretch"
    encode: str = "jpeg"
    smooth: bool = False


def from_file(data, label, recipe):
    """The bytes of a Datum with the image file ``data``, made by ``recipe``; or a text, why there is none."""
    stored = None if recipe.encode == "raw" else decode_as_stored(data)
    if _kept(data, stored, recipe) and b"EXIF" not in data.upper():
        return _encoded(data, label, recipe)
    image = decode(data)
    if image is None:
        return "no whole image"
    height, width = image.shape[:2]
    if recipe.resize is None and (width, height) != (recipe.width, recipe.height):
        return f"{width}x{height} pixels, not {recipe.width}x{recipe.height} as the others"
    if math.prod(_scales(image, recipe)) * width * height > _MOST_PIXELS:
        return (
            f"{width}x{height} pixels, too narrow to be cropped to {recipe.width}x{recipe.height}"
        )
    image = resized(image, recipe)
    if recipe.encode == "raw":
        return _datum(label, recipe, data=image.transpose(2, 0, 1).tobytes())
    if _kept(data, stored, recipe) and np.array_equal(stored, image):
        return _encoded(data, label, recipe)
    ending, quality = _ENCODERS[recipe.encode]
    try:
        return _encoded(cv2.imencode(ending, image, quality)[1].tobytes(), label, recipe)
    except cv2.error:
        return f"{width}x{height} pixels, more than a {recipe.encode.upper()} can have"


def resized(image, recipe):
    """``image`` (H, W, 3) uint8 in the size of ``recipe``."""
    scales = _scales(image, recipe)
    size = tuple(max(1, round(scale * side)) for scale, side in zip(scales, image.shape[1::-1]))
    if size != image.shape[1::-1]:
        shrinks = recipe.smooth and max(scales) < 1
        image = cv2.resize(
            image, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        )
    left, top = (size[0] - recipe.width) // 2, (size[1] - recipe.height) // 2  # negative: to pad
    if left > 0 or top > 0:
        image = image[
            max(top, 0) : max(top, 0) + recipe.height, max(left, 0) : max(left, 0) + recipe.width
        ]
    missing = recipe.height - image.shape[0], recipe.width - image.shape[1]
    return (
        np.pad(image, [(side // 2, side - side // 2) for side in missing] + [(0, 0)])
        if any(missing)
        else image
    )


def _scales(image, recipe):
    """By how much ``image`` is stretched, (horizontally, vertically), before what is too much is cut off, or what is missing padded."""
    scales = recipe.width / image.shape[1], recipe.height / image.shape[0]
    if recipe.resize in ("crop", "pad"):
        return 2 * ((max if recipe.resize == "crop" else min)(scales),)
    return scales


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


def _kept(data, image, recipe):
    """Whether the file ``data``, which decodes to ``image`` or None, may stay as it is."""
    return (
        image is not None
        and image.shape == (recipe.height, recipe.width, 3)
        and image.dtype == np.uint8
        and data.startswith((_JPEG, _PNG))
    )


def _encoded(data, label, recipe):
    return _datum(label, recipe, data=data, encoded=True)


def _datum(label, recipe, **content):
    return (
        caffe_pb2()
        .Datum(channels=3, height=recipe.height, width=recipe.width, label=label, **content)
        .SerializeToString()
    )


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
        with libraries_unheard():
            return cv2.imdecode(np.frombuffer(data, np.uint8), flag) if data else None
    except cv2.error:  # absurd sizes in a damaged header
        return None


def _first_scan(data):
    """Where the first scan of a JPEG begins: an EXIF thumbnail before it has an end mark of its own.

    Any number of 0xFF may fill up the space before a marker.
    """
    place = len(_JPEG)
    while (fill := _FILL.match(data, place)) and data[fill.end() : fill.end() + 1] not in (
        b"\xda",
        b"",
    ):
        place = fill.end() + 1 + int.from_bytes(data[fill.end() + 1 : fill.end() + 3], "big")
    return place
