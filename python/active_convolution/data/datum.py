"""Image files as Caffe's Datum: pixels, or a JPEG or PNG file that Caffe decodes with OpenCV."""

from pathlib import Path
from typing import NamedTuple, Optional

import cv2
import numpy as np

from ..caffe.locate import caffe_pb2

SUFFIXES = {
    f".{name}" for name in "jpg jpeg jpe jfif png bmp dib webp tif tiff ppm pgm pbm".split()
}
_ENCODERS = {"jpeg": (".jpg", (cv2.IMWRITE_JPEG_QUALITY, 95)), "png": (".png", ())}
_JPEG, _PNG = b"\xff\xd8", b"\x89PNG"


class Recipe(NamedTuple):
    """What is made of an image file: ``width`` × ``height`` pixels, by ``resize``:

    - "stretch": the aspect ratio is not kept, as in convert_imageset;
    - "crop": it is kept, and the middle of the image fills the size;
    - "pad": it is kept, and the whole image lies in the middle of black;
    - None: only files of this size are taken.

    ``encode``: "raw" stores pixels, (3, H, W) uint8, BGR. With "jpeg" or "png" a JPEG or PNG file
    stays as it is where Caffe decodes it to those very pixels, and else they become one.
    ``smooth``: shrinking averages areas, in place of bilinear interpolation, convert_imageset's.
    """

    width: int
    height: int
    resize: Optional[str] = "stretch"
    encode: str = "jpeg"
    smooth: bool = False


def from_file(path, label, recipe):
    """The bytes of a Datum with the image file ``path``; or a text, why there is none."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        return error.strerror
    stored = _decoded(data, cv2.IMREAD_UNCHANGED)  # as Caffe does
    plain = stored is not None and stored.dtype == np.uint8 and stored.shape[2:] == (3,)
    image = stored if plain and b"Exif" not in data else decode(data)
    if image is None:
        return "no whole image"
    height, width = image.shape[:2]
    if recipe.resize is None and (width, height) != (recipe.width, recipe.height):
        return f"{width}x{height} pixels, not {recipe.width}x{recipe.height}: give a --size"
    image = resized(image, recipe)
    fields = dict(channels=3, height=recipe.height, width=recipe.width, label=label)
    if recipe.encode == "raw":
        fields["data"] = image.transpose(2, 0, 1).tobytes()
    elif data.startswith((_JPEG, _PNG)) and np.array_equal(stored, image):
        fields.update(data=data, encoded=True)
    else:
        ending, quality = _ENCODERS[recipe.encode]
        fields.update(data=cv2.imencode(ending, image, quality)[1].tobytes(), encoded=True)
    return caffe_pb2().Datum(**fields).SerializeToString()


def decode(data):
    """The image in ``data``, the bytes of a file, (H, W, 3) uint8, BGR; None where it is not whole.

    It is what cv2.imread gives: grey becomes three equal channels, 16 bits become 8, transparency
    is dropped, and a photograph is turned upright where its EXIF says how the camera was held.
    """
    return _decoded(data, cv2.IMREAD_COLOR)


def _decoded(data, flag):
    # OpenCV fills up a truncated JPEG or PNG without a word. (An EXIF thumbnail lies before the
    # scan of the image itself; 0xFFDA does not occur inside of one.)
    if data.startswith(_JPEG) and data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):
        return None
    if data.startswith(_PNG) and b"IEND" not in data:
        return None
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), flag) if data else None
    except cv2.error:  # a header of absurd size
        return None


def resized(image, recipe):
    """``image`` (H, W, 3) uint8 in the size of a Recipe."""
    scales = recipe.width / image.shape[1], recipe.height / image.shape[0]
    if recipe.resize != "stretch":  # one scale for both sides
        scales = 2 * ((min if recipe.resize == "pad" else max)(scales),)
    size = tuple(max(1, round(scale * side)) for scale, side in zip(scales, image.shape[1::-1]))
    if size != image.shape[1::-1]:
        area = recipe.smooth and max(scales) < 1
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if area else cv2.INTER_LINEAR)
    left, top = max(0, size[0] - recipe.width) // 2, max(0, size[1] - recipe.height) // 2
    image = image[top : top + recipe.height, left : left + recipe.width]
    missing = recipe.height - image.shape[0], recipe.width - image.shape[1]
    border = [(side // 2, side - side // 2) for side in missing] + [(0, 0)]
    return np.pad(image, border) if any(missing) else image
