"""``acu train``: everything it does is in active_convolution.training."""

from . import options

DESCRIPTION = """\
Trains a network, MODEL_DIR/VARIANT or that of any --solver, on a data set made by acu data or on the sources that the
network names itself, and fills the folder --output with

  solver.prototxt, train_val.prototxt, deploy.prototxt   as this run uses them
  metrics.csv     iteration, loss, learning rate, test loss and error, seconds; other outputs by name
  positions.npz   where the synapses were, over the iterations: see acu plot
  snapshots/      Caffe's .caffemodel and .solverstate files
  train.log       Caffe's log
  weights.json    with --weights: what was copied

Ctrl-C takes a snapshot and stops; --resume goes on from the newest whole one as if there had been no stop.

Started by mpirun, or with several GPUs, that many processes train together: each reads its part of the data at the
network's batch_size, so an iteration sees so many times as many images, and the gradients are averaged. Rank 0 alone
tests and fills --output."""
EXAMPLES = """\
  acu train models/digits/plain --variant acu --data data/digits --output runs/digits_acu
  acu train --solver examples/lenet_solver.prototxt --output runs/lenet
  acu train models/cifar10/plain --variant acu --data data/flowers --classes 17 --lr 0.01 --freeze 'conv0*' \\
      --weights cifar10.caffemodel --set solver.weight_decay=0.001 --output runs/flowers
  acu train --resume --output runs/flowers
  mpirun -n 2 acu train models/digits/plain --variant acu --data data/digits --output runs/digits_2_ranks
  acu train models/cifar10/plain --variant acu --data data/cifar10 --output runs/acu --gpu 0,1,2,3"""

_CHANGES = ("classes", "freeze", "lr", "batch", "set")
_OF_A_START = ("variant", "data", "max_iter", "seed", "weights", *_CHANGES)


def parser(prog):
    from ..networks.models import VARIANTS

    parser = options.Parser(prog, DESCRIPTION, EXAMPLES, check=_check)
    parser.add_argument(
        "model",
        type=options.path,
        nargs="?",
        metavar="MODEL_DIR",
        help="a folder such as models/cifar10/plain, or one that holds solver.prototxt itself",
    )
    parser.add_argument("--variant", choices=VARIANTS, help="which of the folder's networks")
    parser.add_argument(
        "--solver",
        type=options.path,
        metavar="FILE",
        help="without MODEL_DIR: a solver as caffe train takes it, with net, train_net and test_net, or "
        "net_param, and several test networks or stages; deploy.prototxt beside it is taken along. "
        "With MODEL_DIR: how to train that network, instead of its own solver.prototxt",
    )
    parser.add_argument(
        "--data",
        type=options.path,
        metavar="DIR",
        help="a data set, as acu data makes it (default: the sources that the network names)",
    )
    options.output(parser, "the run's folder", "RUN")
    parser.add_argument(
        "--max-iter",
        type=options.integer(1, options.ITERATIONS - 1),
        metavar="N",
        help="shorten the whole schedule in proportion, warm-up and learning-rate steps included",
    )
    options.seed(parser, "Caffe's random_seed (default: the solver's, 1 without one)", default=None)
    options.gpus(
        parser,
        "train on this GPU, or on these together; under mpirun, the ranks of a machine take one each "
        "(default: on the CPU)",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with the run in --output: with the same options, or with none of them",
    )
    parser.add_argument(
        "--tensorboard",
        action="store_true",
        help="also write event files for TensorBoard, which must be installed, in RUN/tensorboard",
    )
    group = parser.add_argument_group("finetuning, and changes in the network")
    options.weights(
        group,
        "begin with these weights, a .caffemodel in any of Caffe's formats or HDF5: copied by the layers' "
        "names, an ordinary convolution's into an active one, too; what was not copied is listed",
    )
    group.add_argument(
        "--classes",
        type=options.integer(1, options.ITERATIONS - 1),
        metavar="N",
        help="how many outputs the layer before the loss has",
    )
    group.add_argument(
        "--freeze",
        action="append",
        metavar="PATTERN",
        default=[],
        help="layers of such a name, as in a shell, do not learn; may be repeated",
    )
    group.add_argument("--lr", type=options.positive, metavar="RATE", help="the solver's base_lr")
    group.add_argument(
        "--batch",
        type=options.integer(1, options.ITERATIONS - 1),
        metavar="N",
        help="images of a training pass",
    )
    group.add_argument(
        "--set",
        action="append",
        metavar="NAME.FIELD=VALUE",
        default=[],
        help="a field of the solver (solver.momentum=0.95) or of a layer "
        "(conv1.convolution_param.weight_filler.std=0.1); may be repeated",
    )
    return parser


def _check(arguments):
    if arguments.model is None and arguments.variant is not None and not arguments.resume:
        return "--variant is for a MODEL_DIR, not for --solver: leave it out"
    if arguments.model is None and arguments.solver is None:
        if not arguments.resume:
            return "there is nothing to train: give MODEL_DIR, or --solver FILE"
        given = [name for name in _OF_A_START if getattr(arguments, name) not in (None, [])]
        return given and (
            f"--resume without MODEL_DIR or --solver goes on with what the run was started with: leave "
            f"--{given[0].replace('_', '-')} out"
        )
    return None


def run(arguments):
    from ..training.changes import Changes
    from ..training.trainer import train

    given = vars(arguments)
    changes = Changes(**{name: given.pop(name) for name in _CHANGES})
    return train(**given, changes=changes)
