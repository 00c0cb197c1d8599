"""What the networks must know of each data set, and how long and fast they train on it: sections
3.1, 4 and 5. And a training that is shorter, with the same shape."""

import dataclasses
import math

from ..errors import UserError

_MOST, _MOST_FLOAT = 2**31 - 1, 3.4e38
_LOOKS = 4  # tests and snapshots of a run, at least
_LINES = 100  # lines of metrics.csv, at least
_LEAST = 2000  # iterations of a proposed schedule: in fewer, positions hardly move


@dataclasses.dataclass(frozen=True)
class Task:
    """The images of a data set as a network sees them, and its training on them (in iterations).

    ``images`` are those to train on; training databases hold them larger than ``size`` (pixels), to
    be cropped at random. ``crops``: test images may be larger, too; ``mean``, per channel, is
    subtracted from values from 0 to 255. ``batch`` is of an iteration on each of ``gpus``; the
    learning rate is divided by 10 at ``steps``."""

    name: str
    classes: int
    channels: int
    size: int
    images: int
    max_iter: int
    steps: tuple
    warmup_iter: int
    intervals: tuple  # of tests, of snapshots, of lines in metrics.csv
    test_batch: int
    test_iter: int  # test_batch × test_iter = all test images, once
    mirror: bool = True
    batch: int = 64
    gpus: int = 1
    base_lr: float = 0.1
    weight_decay: float = 0.0001
    mean: tuple = ()
    crops: bool = False
    top5: bool = False  # whether the top-5 accuracy is tested, too


# §3.1: 64k iterations, the rate divided by 10 at 32k and 48k, positions frozen for the first 10k.
CIFAR10 = Task(
    *("cifar10", 10, 3, 32, 50000),
    *(64000, (32000, 48000), 10000, (1000, 4000, 100)),
    *(100, 100),
)
CIFAR100 = dataclasses.replace(CIFAR10, name="cifar100", classes=100)
# The same schedule in proportion. A mirrored digit is not a digit.
DIGITS = Task(
    *("digits", 10, 1, 8, 1500),
    *(1000, (500, 750), 156, (100, 250, 10)),
    *(99, 3),
    mirror=False,
)
# Enlarged digits, a sixth of them to test on, for the demo: the same in 400 iterations.
_SHORT = dict(max_iter=400, steps=(200, 300), warmup_iter=62, intervals=(100, 100, 4))
DIGITS_16 = dataclasses.replace(DIGITS, size=16, test_batch=299, test_iter=1, **_SHORT)

# §4, §5: 400k iterations on 4 GPUs with 32 images each, the rate divided by 10 at 200k and 300k,
# positions frozen for the first 50k. The databases hold 256×256 pixels, blue first, as Caffe's own
# tools make them; crop sizes, and the mean of ImageNet's channels to subtract, are what Caffe's
# users give these networks. The test images are Places' 36,500 for validation, which have labels.
# An image takes 6 MB of blobs in AlexNet and 77 MB in the residual network, twice that in training:
# where there is less memory, lower batch_size and raise iter_size.
PLACES365_ALEXNET = Task(
    *("places365", 365, 3, 227, 1803460),
    *(400000, (200000, 300000), 50000, (10000, 10000, 100)),
    *(50, 730),
    **dict(batch=32, gpus=4, base_lr=0.01, weight_decay=0.0005, mean=(104, 117, 123), top5=True),
)
# The paper stopped this one at 350k.
PLACES365_RESIDUAL = dataclasses.replace(
    PLACES365_ALEXNET, size=224, max_iter=350000, base_lr=0.1, weight_decay=0.0001
)


def one_pass(images, largest):
    """(batch, passes) that see each of so many test images once, in batches of at most ``largest``:
    or, where that would take tiny ones, see some of them twice."""
    most = min(images, largest)
    batch = max(size for size in range(1, most + 1) if images % size == 0)
    batch = batch if 10 * batch >= most else most
    return batch, math.ceil(images / batch)


def proposed(task, images):
    """How many iterations on one device to train on so many ``images``: as many epochs as ``task``
    has of its own, and at least 2,000 iterations."""
    epochs = task.max_iter * task.batch * task.gpus / task.images
    return max(_LEAST, round(epochs * images / task.batch))


def shorten(solver, max_iter, *nets):
    """Brings the SolverParameter ``solver``, and ``nets`` (NetParameter), to ``max_iter``
    iterations.

    The learning rate, whatever its policy, and the warm-up of every active convolution move in
    proportion. Tests, snapshots and recorded lines keep their intervals, but come at least 4, 4 and
    100 times. Raises UserError where the learning rate's policy knows no other length.
    """
    scale = max_iter / solver.max_iter
    solver.max_iter = max_iter
    solver.stepvalue[:] = [_step(step, scale) for step in solver.stepvalue]
    if solver.HasField("stepsize"):
        solver.stepsize = _step(solver.stepsize, scale)
    if solver.lr_policy == "exp":  # gamma ** iter
        solver.gamma = _root(solver.gamma, scale)
    elif solver.lr_policy in ("inv", "sigmoid"):  # functions of gamma * iter
        solver.gamma /= scale
    for name, times in (("test_interval", _LOOKS), ("snapshot", _LOOKS), ("display", _LINES)):
        if solver.HasField(name):
            setattr(solver, name, min(getattr(solver, name), max(1, max_iter // times)))
    for layer in [layer for net in nets for layer in net.layer]:
        if layer.HasField("active_convolution_param"):
            parameter = layer.active_convolution_param
            parameter.warmup_iter = min(round(parameter.warmup_iter * scale), _MOST)


def _step(iteration, scale):
    """Where a step of the learning rate comes. Not at 0: there Caffe would lower the first rate."""
    return min(max(1, round(iteration * scale)), _MOST)


def _root(gamma, scale):
    """gamma ** (1 / scale), which is not real for a negative one, and too large for some."""
    try:
        root = gamma ** (1 / scale)
        if not isinstance(root, complex) and abs(root) < _MOST_FLOAT:
            return root
    except OverflowError:
        pass
    raise UserError(
        f"lr_policy exp with gamma {gamma:g} cannot be brought to another number of iterations: "
        "give a gamma from 0 to 1, or leave the length as it is"
    )
