#!/usr/bin/python3
"""Draws the synapse positions that a network of active convolutions learned."""
import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))

from active_convolution import command, positions  # noqa: E402
from active_convolution.errors import UserError  # noqa: E402
from active_convolution.plotting import animation, style, synapses  # noqa: E402
from active_convolution.pycaffe import messages  # noqa: E402
from active_convolution.training.run_folder import RunFolder  # noqa: E402


def main():
    arguments = _arguments()
    source, output, film = arguments.source, arguments.output, arguments.animate
    if output:
        style.output_format(output)
    if film:
        animation.writer(film)
    history = positions.load_run(source) if source.is_dir() else None
    layers = history.layers() if history else positions.from_caffemodel(source)
    if film and not history:
        raise UserError(f"{source} is a single moment: name the folder of a run for --animate")
    stages = positions.by_stage(layers, _network(source))
    pictures = {}
    if output:
        pictures[output] = synapses.draw_stages(stages) if arguments.by_stage else synapses.draw_positions(layers)
        if history and len(history.iterations) > 1:
            pictures[output.with_stem(output.stem + "-movement")] = synapses.draw_movement(history)
    for layer in layers:
        print(_summary(layer))
    for path, figure in pictures.items():
        style.save(figure, path)
        print(f"wrote {path}")
    if film:
        animation.animate(history, stages, film)
        print(f"wrote {film}")


def _network(source):
    """The NetParameter that tells the stages of a run or a .caffemodel; None where a run's folder lacks it."""
    if not source.is_dir():
        return messages.read_weights(source)
    deploy = RunFolder(source).deploy
    return messages.read_net(deploy) if deploy.exists() else None


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, metavar="RUN_OR_CAFFEMODEL",
                        help="the --output folder of train.py, or a .caffemodel (the authors' own ones, too)")
    parser.add_argument("--output", type=Path, metavar="FILE",
                        help="the picture, .png, .pdf or .svg: a panel per layer with its newest positions, as in the "
                        "paper's Fig. 5; for a RUN with more than one record, how they moved there (Fig. 6) goes "
                        "beside it, as FILE with -movement before the suffix")
    parser.add_argument("--by-stage", action="store_true",
                        help="a row per stage in the picture: layers of the same resolution beside each other")
    parser.add_argument("--animate", type=Path, metavar="FILE",
                        help="the synapses of a RUN, moving, a row per stage: .gif, or .mp4 where ffmpeg is installed")
    arguments = parser.parse_args()
    if not (arguments.output or arguments.animate):
        parser.error("nothing to draw: give --output, --animate or both")
    return arguments


def _summary(layer):
    """One line: the synapse farthest from the base pixel and, where the start is known, the longest way moved."""
    count = layer.xy.shape[1]
    if count == 1:
        return f"{layer.name}: a single synapse, not drawn"
    x, y = layer.farthest()
    moved = "" if layer.start is None else f", moved up to {layer.displacement().max():.2f} pixel"
    return f"{layer.name}: {count} synapses, the farthest at ({x:.2f}, {y:.2f}){moved}"


command.run(main)
