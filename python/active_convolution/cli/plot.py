"""``acu plot``: what is drawn is in active_convolution.look."""

from . import options

DESCRIPTION = "Draws the synapse positions that a network of active convolutions learned."
EXAMPLES = """\
  acu plot runs/acu
  acu plot runs/acu --animate positions.gif
  acu plot acu_plain_cifar10_iter_64000.caffemodel --by-stage --output positions.pdf"""
_LITTLE = 0.1  # pixels


def parser(prog):
    parser = options.Parser(prog, DESCRIPTION, EXAMPLES)
    parser.add_argument(
        "source",
        type=options.path,
        metavar="RUN_OR_CAFFEMODEL",
        help="the --output of acu train, or a .caffemodel (the authors' own ones, too)",
    )
    options.output(
        parser,
        "the picture, .png, .pdf or .svg (default: RUN/positions.png): a panel per layer with its "
        "newest positions, as in the paper's Fig. 5; for a RUN with more than one record, how they "
        "moved there (Fig. 6) goes beside it, as FILE with -movement before the suffix",
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
        help="instead, or with --output too: the synapses of a RUN, moving, a row per stage: .gif, "
        "or .mp4 where ffmpeg is installed",
    )
    return parser


def run(arguments):
    from ..caffe import positions
    from ..errors import BadValue
    from ..look import animation, style, synapses

    source, output, film = arguments.source, arguments.output, arguments.animate
    is_run = source.is_dir()
    if not is_run and (film or not output):
        raise BadValue(f"{source} is a single moment, no folder of a run: give --output alone")
    if not (output or film):
        output = source / "positions.png"
    if output:
        style.output_format(output)
    if film:
        animation.check_format(film)
    history = positions.load_run(source) if is_run else None
    layers = history.layers() if history else positions.from_caffemodel(source)
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
    if film:
        animation.animate(history, stages, film)
    style.save_all(pictures)
    for path in [*pictures, *([film] if film else [])]:
        print(f"wrote {path}")
    if history:
        _say_why(source, layers)
        options.say_next("report", source)


def _network(source):
    """The NetParameter that tells the stages of a run or a .caffemodel; None where a run's folder
    lacks it."""
    from ..caffe import messages
    from ..training.run_folder import RunFolder

    if not source.is_dir():
        return messages.read_weights(source)
    deploy = RunFolder(source).deploy
    return messages.read_net(deploy) if deploy.exists() else None


def _summary(layer):
    """One line: the synapse farthest from the base pixel and, where the start is known, the longest
    way moved."""
    from ..look.common import plain

    count, name = layer.xy.shape[1], plain(layer.name)
    if count == 1:
        return f"{name}: a single synapse, not drawn"
    x, y = layer.farthest()
    moved = "" if layer.start is None else f", moved up to {layer.displacement().max():.2f} pixel"
    return f"{name}: {count} synapses, the farthest at ({x:.2f}, {y:.2f}){moved}"


def _say_why(source, layers):
    """Why positions hardly moved, where they did not."""
    from ..caffe import messages
    from ..training.run_folder import RunFolder

    moved = [layer.displacement().max() for layer in layers if layer.start is not None]
    run = RunFolder(source)
    if not moved or max(moved) >= _LITTLE or not run.solver.exists():
        return
    rate = messages.read_solver(run.solver).base_lr
    net = messages.read_net(run.train_val)
    active = [layer for layer in net.layer if layer.type == "ActiveConvolution"]
    mult = max((layer.active_convolution_param.position_lr_mult for layer in active), default=0)
    print(
        f"hint: no synapse moved {_LITTLE} pixel; a normalised step is base_lr × position_lr_mult, "
        f"{rate:g} × {mult:g} = {rate * mult:g} pixel: train longer, or with a larger "
        "--position-lr-mult (docs/training.md)"
    )
