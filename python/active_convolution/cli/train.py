"""``acu train``: everything it does is in active_convolution.training."""

from . import options

DESCRIPTION = """\
Trains a network, MODEL_DIR/VARIANT or that of any --solver, on a data set made by acu data or on
the sources that the network names itself, and fills the folder --output with

  solver.prototxt, train_val.prototxt, deploy.prototxt   as this run uses them
  metrics.csv     loss, learning rate, test loss and error, seconds; other outputs by name
  positions.npz   where the synapses were, over the iterations: see acu plot
  snapshots/      Caffe's .caffemodel and .solverstate files
  train.log       Caffe's log
  run.json        what ran, of which code, on which machine, when; with --weights: what was copied
  data.json       with --data: what the data set's manifest says

Ctrl-C takes a snapshot and stops; --resume goes on from the newest whole one as if there had been
no stop.

Started by mpirun, that many processes train together: each reads its part of the data at the
network's batch_size, so an iteration sees so many times as many images, and the gradients are
averaged. Rank 0 alone tests and fills --output."""
EXAMPLES = """\
  acu train cifar10/plain --data data/cifar10 --output runs/acu
  acu train digits/plain --variant baseline --data data/digits --epochs 20 --output runs/digits
  acu train --solver examples/lenet_solver.prototxt --output runs/lenet
  acu train cifar10/plain --data data/flowers --classes 17 --lr 0.01 --freeze 'conv0*' \\
      --weights cifar10.caffemodel --set solver.weight_decay=0.001 --output runs/flowers
  acu train --resume --output runs/flowers
  mpirun -n 2 acu train digits/plain --data data/digits --output runs/digits_2_ranks"""

_CHANGES = ("classes", "freeze", "lr", "batch", "position_lr_mult", "warmup_iter", "set")
_OF_A_START = ("variant", "data", "max_iter", "epochs", "seed", "weights", *_CHANGES)


def parser(prog):
    from ..networks.models import VARIANTS

    parser = options.Parser(prog, DESCRIPTION, EXAMPLES, check=_check)
    add = parser.add_argument
    add(
        "model",
        type=options.path,
        nargs="?",
        metavar="MODEL_DIR",
        help="one of acu models list, such as cifar10/plain, or the folder of a network",
    )
    add("--variant", choices=VARIANTS, help="of these networks in the folder (default: acu)")
    add(
        "--solver",
        type=options.path,
        metavar="FILE",
        help="a solver as caffe train takes it, instead of MODEL_DIR: it names the networks. With "
        "MODEL_DIR: how to train the network there, instead of its own solver.prototxt",
    )
    add(
        "--data",
        type=options.path,
        metavar="DIR",
        help="a data set, as acu data makes it (default: the sources that the network names)",
    )
    options.output(parser, "the run's folder", "RUN")
    length = parser.add_mutually_exclusive_group()
    for name, kind, help in (
        ("--max-iter", options.integer(1, options.ITERATIONS - 1), "shorten the whole schedule in"),
        ("--epochs", options.positive, "passes over the training images: the schedule likewise in"),
    ):
        help += " proportion, warm-up and learning-rate steps included"
        length.add_argument(name, type=kind, metavar="N", help=help)
    options.seed(parser, "Caffe's random_seed (default: the solver's, or 1)", default=None)
    options.gpus(parser, "the GPU to train on; under mpirun one for each rank (default: the CPU)")
    add("--resume", action="store_true", help="go on with the run in --output, which is enough")
    add("--tensorboard", action="store_true", help="also write TensorBoard's files in RUN")
    _add_changes(parser.add_argument_group("finetuning, and changes in the network"))
    return parser


def _add_changes(group):
    number = options.integer(1, options.ITERATIONS - 1)
    options.weights(
        group,
        "begin with these, of any of Caffe's formats or HDF5: copied by the layers' names, an "
        "ordinary convolution's into an active one, too",
    )
    for name, kind, metavar, help in (
        ("--classes", number, "N", "how many outputs the layer before the loss has"),
        ("--lr", options.positive, "RATE", "the solver's base_lr"),
        ("--batch", number, "N", "images of a training pass"),
    ):
        group.add_argument(name, type=kind, metavar=metavar, help=help)
    options.active(group)
    for name, metavar, help in (
        ("--freeze", "PATTERN", "layers of such a name, as in a shell, do not learn"),
        (
            "--set",
            "NAME.FIELD=VALUE",
            "a field of the solver (solver.momentum=0.95), or of the layers of such a name "
            "('conv*.convolution_param.weight_filler.std=0.1')",
        ),
    ):
        help += "; may be repeated"
        group.add_argument(name, action="append", metavar=metavar, default=[], help=help)


def _check(arguments):
    if arguments.model is None and arguments.variant is not None and not arguments.resume:
        return "--variant is for a MODEL_DIR, not for --solver: leave it out"
    if arguments.model is None and arguments.solver is None:
        if not arguments.resume:
            return "there is nothing to train: give MODEL_DIR, or --solver FILE"
        given = [name for name in _OF_A_START if getattr(arguments, name) not in (None, [])]
        return given and (
            "--resume without MODEL_DIR or --solver goes on with what the run was started with: "
            f"leave --{given[0].replace('_', '-')} out"
        )
    return None


def run(arguments):
    from ..training.changes import Changes
    from ..training.trainer import train

    given = vars(arguments)
    changes = Changes(**{name: given.pop(name) for name in _CHANGES})
    return train(**given, changes=changes)
