"""The layers to time, and what each of them has to compute and to move at least."""

import dataclasses

import numpy as np
from active_convolution.check import oracle
from active_convolution.check.cases import Case, Values
from active_convolution.errors import BadValue

BYTES = 4  # of a float


@dataclasses.dataclass(frozen=True)
class Layer:
    """A square convolution without bias; positions move from the kernel's grid."""

    name: str
    channels: int
    size: int  # of the input image, in pixels
    outputs: int
    stride: int = 1
    kernel: int = 3
    group: int = 1

    @property
    def pad(self):
        return self.kernel // 2

    @property
    def out_size(self):
        return (self.size + 2 * self.pad - self.kernel) // self.stride + 1

    @property
    def weights(self):
        return self.outputs * self.channels // self.group * self.kernel**2

    def gflop(self, batch):
        """Of the forward pass's products; the backward pass has twice as many."""
        return 2e-9 * batch * self.out_size**2 * self.weights

    def gigabytes(self, batch):
        """What (the forward pass, the backward pass) must read and write once: the input, the
        output, the weights."""
        image, output = self.channels * self.size**2, self.outputs * self.out_size**2
        forward = batch * (image + output) + self.weights
        backward = batch * (2 * image + output) + 2 * self.weights
        return 1e-9 * BYTES * forward, 1e-9 * BYTES * backward

    def case(self, batch):
        shape = oracle.Shape(
            self.outputs, (self.kernel,) * 2, (self.stride,) * 2, (self.pad,) * 2, group=self.group
        )
        return Case(shape, (batch, self.channels, self.size, self.size), bias=False)

    def values(self, batch, reach=1.5, seed=0):
        """Random Values, float32; positions are up to ``reach`` pixels off the grid in both
        directions."""
        draw, case = np.random.default_rng(seed), self.case(batch)
        of_a_set = (1, 1, self.kernel, self.kernel)
        x, y = (
            start.reshape(of_a_set) + draw.uniform(-reach, reach, of_a_set)
            for start in case.shape.grid()
        )
        weight = draw.normal(
            size=(self.outputs, self.channels // self.group, self.kernel, self.kernel)
        )
        arrays = (
            draw.standard_normal(case.image, np.float32),
            weight,
            np.zeros((1, 1, 1, 1)),
            x,
            y,
            draw.standard_normal((batch, self.outputs, self.out_size, self.out_size), np.float32),
        )
        image, *parameters, top_diff = (array.astype(np.float32) for array in arrays)
        return Values(image, tuple(parameters), top_diff)


@dataclasses.dataclass(frozen=True)
class Set:
    """Layers that are timed and summed together."""

    name: str
    title: str
    batches: tuple
    layers: tuple


def _residual():
    """Each of these stands twice in the network."""
    return tuple(
        Layer(f"conv{stage}", width, 224 >> stage + 1, width)
        for stage, width in enumerate((64, 128, 256, 512), start=1)
    )


def _grouped():
    return tuple(
        Layer(f"conv{stage}", width, 224 >> stage, width, group=32)
        for stage, width in enumerate((128, 256, 512, 1024), start=2)
    )


def _ordinary():
    """Of well-known networks: network and layer, channels, size, outputs, kernel, stride, group."""
    table = """
        VGG-16 conv1_1        3 224   64  3 1 1
        VGG-16 conv2_1       64 112  128  3 1 1
        VGG-16 conv3_1      128  56  256  3 1 1
        VGG-16 conv4_1      256  28  512  3 1 1
        VGG-16 conv4_2      512  28  512  3 1 1
        VGG-16 conv5_1      512  14  512  3 1 1
        ResNet-50 conv1       3 224   64  7 2 1
        ResNet-50 2a,1×1     64  56   64  1 1 1
        ResNet-50 2b,3×3     64  56   64  3 1 1
        ResNet-50 2c,1×1     64  56  256  1 1 1
        ResNet-50 3a,1×1/2  256  56  128  1 2 1
        ResNet-50 3b,3×3    128  28  128  3 1 1
        ResNet-50 4b,3×3    256  14  256  3 1 1
        ResNet-50 4c,1×1    256  14 1024  1 1 1
        ResNet-50 5a,1×1   2048   7  512  1 1 1
        ResNet-50 5b,3×3    512   7  512  3 1 1
        GoogLeNet 3a,1×1    192  28   64  1 1 1
        GoogLeNet 3a,3×3     96  28  128  3 1 1
        GoogLeNet 3a,5×5     16  28   32  5 1 1
        GoogLeNet 4a,1×1    480  14  192  1 1 1
        GoogLeNet 5b,1×1    832   7  384  1 1 1
        GoogLeNet 5b,3×3    192   7  384  3 1 1
        AlexNet conv1         3 224   96 11 4 1
        AlexNet conv2        96  27  256  5 1 2
        AlexNet conv3       256  13  384  3 1 1
        MobileNet conv1       3 224   32  3 2 1
        MobileNet 2,depth    64 112   64  3 2 64
        MobileNet 3,1×1     128  56  128  1 1 1
        MobileNet 7,depth   512  14  512  3 1 512
        MobileNet 7,1×1     512  14  512  1 1 1
    """
    rows = (line.split() for line in table.strip().splitlines())
    for network, name, *numbers in rows:
        channels, size, outputs, kernel, stride, group = map(int, numbers)
        yield Layer(f"{network} {name}", channels, size, outputs, stride, kernel, group)


SETS = {
    each.name: each
    for each in (
        Set(
            "table1",
            "the six 3×3 layers of the paper's Table 1",
            (64, 1),
            (
                Layer("conv1/1", 16, 32, 48),
                Layer("conv1/2", 48, 32, 48),
                Layer("conv2/1", 48, 32, 96, stride=2),
                Layer("conv2/2", 96, 16, 96),
                Layer("conv3/1", 96, 16, 192, stride=2),
                Layer("conv3/2", 192, 8, 192),
            ),
        ),
        Set(
            "alexnet",
            "AlexNet's conv3 to conv5",
            (32,),
            (
                Layer("conv3", 256, 13, 384),
                Layer("conv4", 384, 13, 384, group=2),
                Layer("conv5", 384, 13, 256, group=2),
            ),
        ),
        Set("residual", "the 3×3 layers of the 26-layer residual network", (32,), _residual()),
        Set(
            "depthwise",
            "3×3 layers of one channel per group",
            (1, 32),
            (
                Layer("512", 512, 14, 512, group=512),
                Layer("512/2", 512, 14, 512, stride=2, group=512),
                Layer("1024", 1024, 7, 1024, group=1024),
                Layer("1024, 14×14", 1024, 14, 1024, group=1024),
            ),
        ),
        Set("grouped", "the 3×3 layers of ResNeXt-50, in 32 groups", (1, 32), _grouped()),
        Set(
            "tiny",
            "two small layers, to try the benchmark",
            (2,),
            (Layer("small", 8, 9, 12), Layer("grouped", 8, 12, 16, stride=2, group=2)),
        ),
        Set(
            "ordinary",
            "ordinary convolutions of well-known networks",
            (1, 16),
            tuple(_ordinary()),
        ),
    )
}
DEFAULT = ("table1", "alexnet", "residual")


def choose(names):
    """The Sets that ``names`` lists: names of sets, or set:layer for one of a set's layers.
    BadValue names a wrong one."""
    chosen = {}
    for name in names:
        of_set, _, layer = name.partition(":")
        found = (
            [each for each in SETS[of_set].layers if layer in ("", each.name)]
            if of_set in SETS
            else []
        )
        if not found:
            known = ", ".join(SETS)
            raise BadValue(
                f"--layers {name}: no such layers; there are {known}, and their layers as in "
                "table1:conv1/1"
            )
        chosen.setdefault(of_set, []).extend(
            each for each in found if each not in chosen.get(of_set, [])
        )
    return [
        dataclasses.replace(SETS[name], layers=tuple(layers)) for name, layers in chosen.items()
    ]
