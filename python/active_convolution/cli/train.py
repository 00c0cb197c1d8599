"""``acu train``: everything it does is in active_convolution.training."""
from . import options

DESCRIPTION = """\
Trains MODEL_DIR/VARIANT on a data set made by acu data, and fills the folder --output with

  solver.prototxt, train_val.prototxt, deploy.prototxt   as this run uses them
  metrics.csv     iteration, loss, learning rate, test loss and error, seconds
  positions.npz   where the synapses were, over the iterations: see acu plot
  snapshots/      Caffe's .caffemodel and .solverstate files
  train.log       Caffe's log

Ctrl-C takes a snapshot and stops; --resume goes on from the newest whole one.

Started by mpirun, or with several GPUs, that many processes train together: each reads its part of the data at the
network's batch_size, so an iteration sees so many times as many images, and the gradients are averaged. Rank 0 alone
tests and fills --output."""
EXAMPLES = """\
  acu train models/digits/plain --variant acu --data data/digits --output runs/digits_acu
  mpirun -n 2 acu train models/digits/plain --variant acu --data data/digits --output runs/digits_2_ranks
  acu train models/cifar10/plain --variant acu --data data/cifar10 --output runs/acu --gpu 0,1,2,3"""


def parser(prog):
    from ..networks.models import VARIANTS
    parser = options.Parser(prog, DESCRIPTION, EXAMPLES)
    parser.add_argument("model", type=options.path, metavar="MODEL_DIR", help="a folder such as models/cifar10/plain")
    parser.add_argument("--variant", required=True, choices=VARIANTS)
    options.data(parser)
    options.output(parser, "the run's folder", "RUN")
    parser.add_argument("--max-iter", type=options.integer(1, options.ITERATIONS - 1), metavar="N",
                        help="shorten the whole schedule in proportion, warm-up and learning-rate steps included")
    options.seed(parser, "Caffe's random_seed (default: the solver's)", default=None)
    options.gpus(parser, "train on this GPU, or on these together; under mpirun, the ranks of a machine take one each "
                         "(default: on the CPU)")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --output")
    return parser


def run(arguments):
    from ..training.trainer import train
    return train(**vars(arguments))
