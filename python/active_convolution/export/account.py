"""What an export or a conversion did, for people (a table) and for programs (JSON)."""

import dataclasses
import json
import os
from pathlib import Path

from ..caffe.messages import by
from ..columns import aligned
from ..errors import BadValue
from ..files import whole_file


@dataclasses.dataclass(frozen=True)
class LayerReport:
    """One active convolution and the ordinary ones in its place; kernels and dilations are (vertical, horizontal).

    ``kernel`` and ``dilation`` are those of the first convolution, ``parts`` [(kernel, dilation)] those of all, whose
    sum it is. Costs are multiply-adds an image: those of the ACU count its interpolation. ``difference`` is the largest
    one between the two networks after this layer (and what went into it), on random input; ``largest`` the largest
    value there.
    """

    name: str
    active_kernel: tuple
    kernel: tuple
    dilation: tuple
    parts: list
    active_cost: int
    cost: int
    difference: float
    largest: float


@dataclasses.dataclass(frozen=True)
class Report:
    """``outputs`` maps the network's outputs to (largest difference, largest value); ``folded`` a convolution's name to
    those of the layers that went into it; ``cost_size`` and ``size`` the inputs to the shapes that the costs are for, and
    that the differences were found with; ``unread`` are the layers in which a synapse reads nothing at that size;
    ``engines`` maps what ran the files to (version, largest difference), or to why it could not; ``runs`` is a line that
    says where the result runs."""

    layers: list
    outputs: dict
    folded: dict
    cost_size: dict
    size: dict
    unread: list = dataclasses.field(default_factory=list)
    engines: dict = dataclasses.field(default_factory=dict)
    runs: str = ""

    def text(self):
        lines = []
        if self.layers:
            cells = [
                ("layer", "kernel", "multiply-adds", "ratio", "difference"),
                *map(_cells, self.layers),
            ]
            before, after = (
                sum(getattr(layer, name) for layer in self.layers)
                for name in ("active_cost", "cost")
            )
            cells.append(("together", "", *_costs(before, after), ""))
            lines += ["  ".join(row).rstrip() for row in aligned(cells)]
        lines += [
            f"output {name}: largest difference {difference:.1e} (largest value {largest:.3g})"
            for name, (difference, largest) in self.outputs.items()
        ]
        if self.cost_size == self.size:
            lines.append("costs and differences: random input of " + sizes_text(self.size))
        else:
            lines.append(
                f"costs: input of {sizes_text(self.cost_size)}; differences: random input of {sizes_text(self.size)}"
            )
        lines += unread_text(self.unread)
        if self.folded:
            count = sum(map(len, self.folded.values()))
            lines.append(
                f"{count} BatchNorm and Scale layers folded into {len(self.folded)} convolutions"
            )
        return "\n".join([*lines, self.runs]) + "\n"

    def write(self, folder):
        """Writes report.txt and report.json."""
        with whole_file(folder / "report.txt", encoding="utf-8") as file:
            file.write(self.text())
        write_json(folder / "report.json", self)


def check_place(report, output):
    """Raises BadValue where ``report``, a path or None, is the folder ``output`` that is yet to appear, or would be in it."""
    places = report and Path(os.path.realpath(report))
    if places and Path(os.path.realpath(output)) in (places, *places.parents):
        raise BadValue(
            f"--report {report} lies in --output {output}, which appears whole: name another place"
        )


def write_json(path, report):
    """Writes a dataclass as JSON, whole or not at all."""
    with whole_file(path, encoding="utf-8") as file:
        json.dump(dataclasses.asdict(report), file, indent=2)
        file.write("\n")


def sizes_text(size):
    """The inputs' shapes: data 1×3×32×32."""
    return ", ".join(f"{name} {by(shape)}" for name, shape in size.items())


def unread_text(unread):
    """A line that names the layers that the comparison says less of, or none."""
    return (
        [f"not every synapse reads a pixel at that size in {', '.join(unread)}"] if unread else []
    )


def _cells(layer):
    kernels = [
        by(kernel) + ("" if tuple(dilation) == (1, 1) else f", dilation {by(dilation)}")
        for kernel, dilation in layer.parts
    ]
    after = " + ".join(kernels) if len(kernels) < 4 else f"{kernels[0]} + {len(kernels) - 1} more"
    return (
        layer.name,
        f"{by(layer.active_kernel)} → {after}",
        *_costs(layer.active_cost, layer.cost),
        f"{layer.difference:.1e} of {layer.largest:.3g}",
    )


def _costs(before, after):
    return f"{before / 1e6:.2f} M → {after / 1e6:.2f} M", f"{after / before:.2f}"
