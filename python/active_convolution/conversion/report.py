"""What an export did to each layer, for people and for programs."""
import dataclasses
import json

from ..files import whole_file
from ..prototxt import by


@dataclasses.dataclass(frozen=True)
class LayerReport:
    """One active convolution and the ordinary one in its place; kernels are (vertical, horizontal).

    Costs are multiply-adds an image: those of the ACU count its interpolation. ``difference`` is the largest one between
    the two networks after this layer (and what went into it), on random input; ``largest`` the largest value there.
    """
    name: str
    active_kernel: tuple
    kernel: tuple
    dilation: tuple
    active_cost: int
    cost: int
    difference: float
    largest: float


@dataclasses.dataclass(frozen=True)
class Report:
    """``outputs`` maps the network's outputs to (largest difference, largest value); ``folded`` a convolution's name to
    those of the layers that went into it."""
    layers: list
    outputs: dict
    folded: dict

    def text(self):
        cells = [("layer", "kernel", "multiply-adds", "ratio", "difference")] + [_cells(layer) for layer in self.layers]
        before, after = (sum(getattr(layer, name) for layer in self.layers) for name in ("active_cost", "cost"))
        cells.append(("together", "", *_costs(before, after), ""))
        widths = [max(map(len, column)) for column in zip(*cells)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in cells]
        lines += [f"output {name}: largest difference {difference:.1e} (largest value {largest:.3g})"
                  for name, (difference, largest) in self.outputs.items()]
        if self.folded:
            count = sum(map(len, self.folded.values()))
            lines.append(f"{count} BatchNorm and Scale layers folded into {len(self.folded)} convolutions")
        return "\n".join(lines) + "\n"

    def write(self, folder):
        """Writes report.txt and report.json."""
        with whole_file(folder / "report.txt", encoding="utf-8") as file:
            file.write(self.text())
        with whole_file(folder / "report.json", encoding="utf-8") as file:
            json.dump(dataclasses.asdict(self), file, indent=2)
            file.write("\n")


def _cells(layer):
    dilated = "" if layer.dilation == (1, 1) else f", dilation {by(layer.dilation)}"
    return (layer.name, f"{by(layer.active_kernel)} → {by(layer.kernel)}{dilated}", *_costs(layer.active_cost, layer.cost),
            f"{layer.difference:.1e} of {layer.largest:.3g}")


def _costs(before, after):
    return f"{before / 1e6:.2f} M → {after / 1e6:.2f} M", f"{after / before:.2f}"
