"""What the tables of the paper (arXiv:1703.09076) compare, and the figures that they report.

Tables 2 and 3 give test errors, Table 4 the accuracies on Places' validation images, ten crops
each.
"""

import dataclasses

NAMES = {"baseline": "ordinary convolutions", "acu": "active convolutions"}


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One network on one data set, with ordinary convolutions and with active ones. ``baseline``
    and ``acu`` are what the paper reports, per cent, in the order of the table's measures."""

    dataset: str
    network: str
    baseline: tuple
    acu: tuple

    @property
    def name(self):
        return f"{self.dataset}/{self.network}"

    @property
    def paper(self):
        return {"baseline": self.baseline, "acu": self.acu}


@dataclasses.dataclass(frozen=True)
class Table:
    """``measures`` names the figures of each network: errors, or with ``accuracies`` what is
    missing to 100 %. ``ten_crop``: they are taken on ten crops of each test image, from the
    network's last snapshot; else the error is that of the training's last test."""

    number: int
    title: str
    measures: tuple
    comparisons: tuple
    ten_crop: bool = False
    accuracies: bool = False

    @property
    def datasets(self):
        return tuple(dict.fromkeys(comparison.dataset for comparison in self.comparisons))


TABLES = {
    table.number: table
    for table in (
        Table(
            2,
            "the plain network",
            ("test error",),
            (
                Comparison("cifar10", "plain", baseline=(8.01,), acu=(7.33,)),
                Comparison("cifar100", "plain", baseline=(27.85,), acu=(27.11,)),
            ),
        ),
        Table(
            3,
            "the residual networks",
            ("test error",),
            (
                Comparison("cifar10", "basic", baseline=(8.01,), acu=(7.54,)),
                Comparison("cifar100", "basic", baseline=(30.06,), acu=(29.38,)),
                Comparison("cifar10", "bottleneck", baseline=(7.64,), acu=(7.12,)),
                Comparison("cifar100", "bottleneck", baseline=(27.93,), acu=(27.47,)),
            ),
        ),
        Table(
            4,
            "Places365",
            ("top-1 accuracy", "top-5 accuracy"),
            (
                Comparison("places365", "alexnet", baseline=(51.68, 81.29), acu=(52.28, 82.08)),
                Comparison("places365", "residual", baseline=(55.33, 85.24), acu=(55.71, 85.73)),
            ),
            ten_crop=True,
            accuracies=True,
        ),
    )
}
