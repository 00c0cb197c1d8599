"""What the networks must know of each data set, and how long and fast they train on it: sections
3.1, 4 and 5."""

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class Task:
    """The images of a data set as a network sees them, and its training on them (in iterations)."""

    name: str
    classes: int
    channels: int
    size: (
        int  # of the image that the network sees, in pixels; the training database holds it padded
    )
    mirror: bool
    test_batch: int
    test_iter: int  # test_batch * test_iter = all test images, once
    max_iter: int
    steps: tuple  # where the learning rate is divided by 10
    warmup_iter: int
    test_interval: int
    snapshot: int
    display: int
    batch: int = 64  # training images of an iteration, on each GPU
    gpus: int = 1  # that the paper trained on
    base_lr: float = 0.1
    weight_decay: float = 0.0001
    mean: tuple = ()  # per channel, where both databases hold larger images with values from 0 to 255
    crops: bool = False  # whether the test database may hold larger images, too, without a mean
    top5: bool = False  # whether the top-5 accuracy is tested, too


def one_pass(images, largest):
    """(batch, passes) that see each of so many test images once, in batches of at most ``largest``:
    or, where that would take tiny ones, see some of them twice."""
    most = min(images, largest)
    batch = max(size for size in range(1, most + 1) if images % size == 0)
    batch = batch if 10 * batch >= most else most
    return batch, math.ceil(images / batch)


# §3.1: 64k iterations, the rate divided by 10 at 32k and 48k, positions frozen for the first 10k.
CIFAR10 = Task(
    "cifar10",
    classes=10,
    channels=3,
    size=32,
    mirror=True,
    test_batch=100,
    test_iter=100,
    max_iter=64000,
    steps=(32000, 48000),
    warmup_iter=10000,
    test_interval=1000,
    snapshot=4000,
    display=100,
)
CIFAR100 = dataclasses.replace(CIFAR10, name="cifar100", classes=100)
# The same schedule in proportion. A mirrored digit is no digit.
DIGITS = Task(
    "digits",
    classes=10,
    channels=1,
    size=8,
    mirror=False,
    test_batch=99,
    test_iter=3,
    max_iter=1000,
    steps=(500, 750),
    warmup_iter=156,
    test_interval=100,
    snapshot=250,
    display=10,
)
# Enlarged digits, a sixth of them to test on, for the demo: the same in 400 iterations.
DIGITS_16 = dataclasses.replace(
    DIGITS,
    size=16,
    test_batch=299,
    test_iter=1,
    max_iter=400,
    steps=(200, 300),
    warmup_iter=62,
    snapshot=100,
    display=4,
)

# §4, §5: 400k iterations on 4 GPUs with 32 images each, the rate divided by 10 at 200k and 300k,
# positions frozen for the first 50k. The databases hold 256×256 pixels, blue first, as Caffe's own
# tools make them; crop sizes, and the mean of ImageNet's channels to subtract, are what Caffe's
# users give these networks. The test images are Places' 36,500 for validation, which have labels.
# An image takes 6 MB of blobs in AlexNet and 77 MB in the residual network, twice that in training:
# where a GPU, or the machine that trains on its CPU, has less memory, lower batch_size and raise
# iter_size.
PLACES365_ALEXNET = Task(
    "places365",
    classes=365,
    channels=3,
    size=227,
    mirror=True,
    test_batch=50,
    test_iter=730,
    max_iter=400000,
    steps=(200000, 300000),
    warmup_iter=50000,
    test_interval=10000,
    snapshot=10000,
    display=100,
    batch=32,
    gpus=4,
    base_lr=0.01,
    weight_decay=0.0005,
    mean=(104, 117, 123),
    top5=True,
)
# The paper stopped this one at 350k.
PLACES365_RESIDUAL = dataclasses.replace(
    PLACES365_ALEXNET, size=224, max_iter=350000, base_lr=0.1, weight_decay=0.0001
)
