"""How a network sees a stored image when it is tested: less the mean, scaled, and cropped once or ten times."""
import dataclasses

import numpy as np

from . import fork, formats, prototxt
from .errors import UserError
from .prototxt import by


@dataclasses.dataclass(frozen=True)
class Transform:
    """Caffe's transform_param for testing: ``(pixel − mean) · scale``, then the crop. ``mean`` is one number or one per
    channel; ``crop_size`` is in pixels, 0 for none; ``source`` says where they stand."""
    mean: tuple = (0,)
    scale: float = 1
    crop_size: int = 0
    source: str = "no train_val"

    def __call__(self, images):
        """Images (N, C, H, W) float32, without the crop. Raises UserError where the mean has other channels."""
        if len(self.mean) not in (1, images.shape[1]):
            raise UserError(f"{self.source} has {len(self.mean)} values mean_value, and the images have {images.shape[1]} "
                            "channels: give one value, or one for each channel")
        return (images - np.array(self.mean, np.float32)[:, None, None]) * np.float32(self.scale)


def read_transform(train_val):
    """The Transform of the data layer that the prototxt ``train_val`` tests with. Raises UserError where it has none."""
    test = fork.caffe_pb2().TEST
    net = formats.read_net(train_val)
    for layer in net.layer:
        if layer.HasField("data_param") and prototxt.takes_part(layer, test, net.state.stage):
            return _transform(layer.transform_param, train_val)
    raise UserError(f"{train_val} has no Data layer for testing: give the train_val prototxt of the network")


def _transform(parameter, source):
    if parameter.HasField("mean_file"):
        raise UserError(f"{source} subtracts the mean_file {parameter.mean_file}, which is not supported here: "
                        "give mean_value, one for each channel")
    return Transform(tuple(parameter.mean_value) or (0,), parameter.scale, parameter.crop_size, str(source))


def centre(images, size):
    """The middle of images (N, C, H, W), where Caffe's test phase crops: (N, C, *size)."""
    (height, width), (h, w) = images.shape[2:], size
    top, left = (height - h) // 2, (width - w) // 2
    return images[:, :, top:top + h, left:left + w]


def ten(images, size):
    """The four corners and the middle of images (N, C, H, W), and their mirror images: (10, N, C, *size)."""
    h, w = size
    five = [images[:, :, :h, :w], images[:, :, :h, -w:], images[:, :, -h:, :w], images[:, :, -h:, -w:],
            centre(images, size)]
    return np.stack([*five, *(view[..., ::-1] for view in five)])


def check_sizes(stored, seen, transform, ten_crop):
    """Raises UserError unless images of shape ``stored`` (C, H, W) give views of shape ``seen``, in the way asked for."""
    sizes = f"the test images are {by(stored)}, and the network takes {by(seen)}"
    if stored[0] != seen[0] or stored[1] < seen[1] or stored[2] < seen[2]:
        raise UserError(f"{sizes}: give the --data that fits it")
    if stored != seen and (transform.crop_size, transform.crop_size) != seen[1:]:
        raise UserError(f"{sizes}, and {transform.source} crops them to {transform.crop_size or 'no size'}: give the "
                        "--data that fits it, or the network's own train_val prototxt with --train-val")
    if stored == seen and transform.crop_size not in (0, seen[1]):
        raise UserError(f"{sizes}, and {transform.source} crops them to {transform.crop_size}: give the network's own "
                        "train_val prototxt with --train-val")
    if ten_crop and stored[1:] == seen[1:]:
        raise UserError(f"{sizes}: there is nothing to crop, leave --ten-crop out")
