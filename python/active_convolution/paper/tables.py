"""What the tables of the paper (arXiv:1703.09076) compare, and the errors that they report.

Table 2's errors are those that the authors' published code, too, states; their differences, 0.68 and 0.74, are the
improvements that the paper speaks of. The figures of Tables 3 and 4 could not be verified, and are None here.
"""
import dataclasses


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One network on one data set, with ordinary convolutions and with active ones. ``baseline`` and ``acu`` are the
    errors that the paper reports, per cent, in the order of the table's measures; None: not known here."""
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
    """``measures`` names the errors of each network. ``ten_crop``: they are taken on ten crops of each test image, from
    the network's last snapshot; else the error is that of the training's last test."""
    number: int
    title: str
    measures: tuple
    comparisons: tuple
    ten_crop: bool = False

    @property
    def datasets(self):
        return tuple(dict.fromkeys(comparison.dataset for comparison in self.comparisons))


TABLES = {table.number: table for table in (
    Table(2, "the plain network", ("test error",), (
        Comparison("cifar10", "plain", baseline=(8.01,), acu=(7.33,)),
        Comparison("cifar100", "plain", baseline=(27.85,), acu=(27.11,)))),
    Table(3, "the residual networks", ("test error",), tuple(
        Comparison(dataset, network, baseline=(None,), acu=(None,))
        for network in ("basic", "bottleneck") for dataset in ("cifar10", "cifar100"))),
    Table(4, "Places365", ("top-1 error", "top-5 error"), tuple(
        Comparison("places365", network, baseline=(None, None), acu=(None, None))
        for network in ("alexnet", "residual")), ten_crop=True),
)}
