"""``acu plot``: what is drawn is in active_convolution.look."""

from . import options

DESCRIPTION = "Draws the synapse positions that a network of active convolutions learned."
EXAMPLES = """\
  acu plot runs/acu --output positions.png --animate positions.gif
  acu plot acu_plain_cifar10_iter_64000.caffemodel --by-stage --output positions.pdf"""


def parser(prog):
    parser = options.Parser(prog, DESCRIPTION, EXAMPLES, check=_check)
    parser.add_argument(
        "source",
        type=options.path,
        metavar="RUN_OR_CAFFEMODEL",
        help="the --output folder of acu train, or a .caffemodel (the authors' own ones, too)",
    )
    options.output(
        parser,
        "the picture, .png, .pdf or .svg: a panel per layer, of 64 at most, with its newest "
        "positions, as in the paper's Fig. 5; for a RUN with more than one record, how they moved there "
        "(Fig. 6) goes beside it, as FILE with -movement before the suffix",
        "FILE",
        required=False,
    )
    parser.add_argument(
        "--by-stage",
        action="store_true",
        help="a row per stage in the picture: layers of the same resolution beside each other",
    )
    parser.add_argument(
        "--animate",
        type=options.result,
        metavar="FILE",
        help="the synapses of a RUN, moving, a row per stage: .gif, or .mp4 where ffmpeg is installed",
    )
    return parser


def _check(arguments):
    return (
        None
        if arguments.output or arguments.animate
        else "nothing to draw: give --output, --animate or both"
    )


def run(arguments):
    from ..caffe import positions
    from ..errors import UserError
    from ..look import animation, style, synapses

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
        pictures[output] = (
            synapses.draw_stages(stages) if arguments.by_stage else synapses.draw_positions(layers)
        )
        if history and len(history.iterations) > 1:
            pictures[output.with_stem(output.stem + "-movement")] = synapses.draw_movement(history)
    for layer in layers:
        print(_summary(layer))
    shaped = [layer for layer in layers if layer.xy.shape[1] > 1]
    if len(shaped) > synapses.PANELS:
        print(f"drawn: {synapses.PANELS} of these {len(shaped)} layers, spread over the network")
    if film:  # all of them or none
        animation.animate(history, stages, film, lambda: style.save_all(pictures))
    else:
        style.save_all(pictures)
    for path in [*pictures, *([film] if film else [])]:
        print(f"wrote {path}")


def _network(source):
    """The NetParameter that tells the stages of a run or a .caffemodel; None where a run's folder lacks it."""
    from ..caffe import messages
    from ..training.run_folder import RunFolder

    if not source.is_dir():
        return messages.read_weights(source)
    deploy = RunFolder(source).deploy
    return messages.read_net(deploy) if deploy.exists() else None


def _summary(layer):
    """One line: the synapse farthest from the base pixel and, where the start is known, the longest way moved."""
    from ..look.common import plain

    count, name = layer.xy.shape[1], plain(layer.name)
    if count == 1:
        return f"{name}: a single synapse, not drawn"
    x, y = layer.farthest()
    moved = "" if layer.start is None else f", moved up to {layer.displacement().max():.2f} pixel"
    return f"{name}: {count} synapses, the farthest at ({x:.2f}, {y:.2f}){moved}"
