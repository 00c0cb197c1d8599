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
        help="a row per stage: layers of the same resolution beside each other",
    )
    parser.add_argument(
        "--animate",
        type=options.result,
        metavar="FILE",
        help="instead, or with --output too: the synapses of a RUN, moving, as a GIF",
    )
    return parser


def run(arguments):
    from ..caffe import positions
    from ..errors import BadValue, UserError
    from ..look import animation, style, synapses

    source, output, film = arguments.source, arguments.output, arguments.animate
    if not source.exists():
        raise UserError(f"there is no {source}: give the folder of a run, or a .caffemodel")
    if not source.is_dir() and (film or not output):
        raise BadValue(f"{source} is a file, not the folder of a run: give --output, no --animate")
    output = output or (None if film else source / "positions.png")
    if output:
        style.check_name(output)
    if film:
        animation.check_name(film)
    history = positions.load_run(source) if source.is_dir() else None
    layers = history.layers() if history else positions.from_caffemodel(source)
    stages = positions.by_stage(layers, _network(source))
    for layer in layers:
        print(_summary(layer))
    if output:
        by_stage = arguments.by_stage
        _save(synapses.draw_stages(stages) if by_stage else synapses.draw_positions(layers), output)
        if history and len(history.iterations) > 1:
            beside = output.with_stem(output.stem + "-movement")
            _save(synapses.draw_movement(history), beside)
    if film:
        animation.animate(history, film, stages if arguments.by_stage else None)
        print(f"wrote {film}")
    if history:
        _say_why(source, layers)
        options.say_next("report", source)


def _save(figure, path):
    from ..look import style

    style.save(figure, path)
    print(f"wrote {path}")


def _network(source):
    """The NetParameter that tells the stages of a run or a .caffemodel; None where a run's folder
    lacks it."""
    from ..caffe import messages

    if not source.is_dir():
        return messages.read_weights(source)
    deploy = source / "deploy.prototxt"
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
    if moved and max(moved) < _LITTLE and run.solver.exists():
        rate = messages.read_solver(run.solver).base_lr
        net = messages.read_net(run.train_val)
        active = [layer for layer in net.layer if layer.type == "ActiveConvolution"]
        mult = max((each.active_convolution_param.position_lr_mult for each in active), default=0)
        print(
            f"hint: no synapse moved {_LITTLE} pixel; a normalised step is base_lr × "
            f"position_lr_mult, {rate:g} × {mult:g} = {rate * mult:g} pixel: train longer, or with "
            "a larger --position-lr-mult (docs/training.md)"
        )
