#!/usr/bin/python3
"""Draws the synapse positions that a network of active convolutions learned."""
import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))

from active_convolution import command, plotting, positions  # noqa: E402


def main():
    arguments = _arguments()
    source, output = arguments.source, arguments.output
    plotting.output_format(output)
    history = positions.load_run(source) if source.is_dir() else None
    layers = history.layers() if history else positions.from_caffemodel(source)
    pictures = {output: plotting.draw_positions(layers)}
    if history and len(history.iterations) > 1:
        pictures[output.with_stem(output.stem + "-movement")] = plotting.draw_movement(history)
    for layer in layers:
        print(_summary(layer))
    for path, figure in pictures.items():
        plotting.save(figure, path)
        print(f"wrote {path}")


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, metavar="RUN_OR_CAFFEMODEL",
                        help="the --output folder of train.py, or a .caffemodel (the authors' own ones, too)")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE",
                        help="the picture, .png, .pdf or .svg: a panel per layer with its newest positions, as in the "
                        "paper's Fig. 5; for a RUN with more than one record, how they moved there (Fig. 6) goes "
                        "beside it, as FILE with -movement before the suffix")
    return parser.parse_args()


def _summary(layer):
    """One line: the synapse farthest from the base pixel and, where the start is known, the longest way moved."""
    count = layer.xy.shape[1]
    if count == 1:
        return f"{layer.name}: a single synapse, not drawn"
    x, y = layer.farthest()
    moved = "" if layer.start is None else f", moved up to {layer.displacement().max():.2f} pixel"
    return f"{layer.name}: {count} synapses, the farthest at ({x:.2f}, {y:.2f}){moved}"


command.run(main)
