#!/usr/bin/python3
"""Trains a network; everything it does is in active_convolution.training."""
import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))
from active_convolution import command  # noqa: E402
from active_convolution.networks import models  # noqa: E402
from active_convolution.training.trainer import train  # noqa: E402

_DESCRIPTION = """\
Trains MODEL_DIR/VARIANT on a data set made by create_lmdb.py, and fills RUN with

  solver.prototxt, train_val.prototxt, deploy.prototxt   as this run uses them
  metrics.csv     iteration, loss, learning rate, test loss and error, seconds
  positions.npz   where the synapses were, over the iterations: see plot_positions.py
  snapshots/      Caffe's .caffemodel and .solverstate files
  train.log       Caffe's log

Ctrl-C takes a snapshot and stops; --resume goes on from the newest whole one.

Started by mpirun, or with several GPUs, that many processes train together: each reads its part of the data at the
network's batch_size, so an iteration sees so many times as many images, and the gradients are averaged. Rank 0 alone
tests and fills RUN."""
_EXAMPLE = """\
examples:
  ./scripts/train.py models/digits/plain --variant acu --data data/digits --output runs/digits_acu
  mpirun -n 2 ./scripts/train.py models/digits/plain --variant acu --data data/digits --output runs/digits_2_ranks
  ./scripts/train.py models/cifar10/plain --variant acu --data data/cifar10 --output runs/acu --gpu 0,1,2,3"""


def gpus(text):
    """The device numbers in an option such as 0,1."""
    numbers = text.split(",")
    if not all(number.isdecimal() for number in numbers):
        raise argparse.ArgumentTypeError(f"'{text}' is no list of device numbers such as 0 or 0,1,2,3")
    return [int(number) for number in numbers]


def main():
    parser = argparse.ArgumentParser(description=_DESCRIPTION, epilog=_EXAMPLE,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, metavar="MODEL_DIR", help="a folder such as models/cifar10/plain")
    parser.add_argument("--variant", required=True, choices=models.VARIANTS)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the --output of create_lmdb.py")
    parser.add_argument("--output", type=Path, required=True, metavar="RUN", help="the run's folder")
    parser.add_argument("--max-iter", type=int, metavar="N",
                        help="shorten the whole schedule in proportion, warm-up and learning-rate steps included")
    parser.add_argument("--seed", type=int, metavar="N", help="Caffe's random_seed (default: the solver's)")
    parser.add_argument("--gpu", type=gpus, metavar="ID[,ID...]",
                        help="train on this GPU, or on these together; under mpirun, the ranks of a machine take one each "
                             "(default: on the CPU)")
    parser.add_argument("--resume", action="store_true", help="go on with the run in RUN")
    return train(**vars(parser.parse_args()))


if __name__ == "__main__":
    command.run(main)
