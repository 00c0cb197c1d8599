"""The process that trains: started by ``trainer.train``, at rank 0 on a run folder that is ready."""

from ..caffe.process import end_with_parent, log_to, stop_at_once

end_with_parent()
stop_at_once()  # until the Worker handles them; before the slow imports

import argparse  # noqa: E402
import sys  # noqa: E402
import traceback  # noqa: E402
from pathlib import Path  # noqa: E402

from .. import command  # noqa: E402
from ..caffe import locate  # noqa: E402
from ..errors import UserError, explained  # noqa: E402
from . import ranks  # noqa: E402
from .run_folder import RunFolder  # noqa: E402
from .trainer import Trainer, Worker  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", help="rank 0's folder")
    parser.add_argument("--log", type=int, required=True, metavar="DESCRIPTOR")
    parser.add_argument("--gpu", type=int, nargs="*", default=[])
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--tensorboard", action="store_true")
    parser.add_argument(
        "--nccl",
        type=int,
        nargs="+",
        metavar="N",
        help="rank, number of ranks and pipes of ranks.Nccl",
    )
    arguments = parser.parse_args()
    log_to(arguments.log)
    rank, size = arguments.nccl[:2] if arguments.nccl else ranks.under_mpirun()
    try:
        return train(arguments)
    except BrokenPipeError:
        raise
    except Exception as error:
        line = explained(error)
        if (
            line is None and type(error) is RuntimeError and not _of_a_users_layer(error)
        ):  # one of Caffe's C++, by pycaffe
            line = f"Caffe ended the training: {' '.join(str(error).split())[:300]}"
        if line is None:
            print(f"{ranks.name(rank, size)}the training ends with this error:", file=sys.stderr)
            raise
        raise UserError(f"{ranks.name(rank, size)}{line}") from error


def _of_a_users_layer(error):
    """Whether it was raised neither in this package nor in pycaffe: that one needs its traceback."""
    raised = Path(traceback.extract_tb(error.__traceback__)[-1].filename).resolve()
    return not any(
        raised.is_relative_to(home)
        for home in (Path(__file__).resolve().parents[1], locate.BUILD.resolve())
    )


def train(arguments):
    mine = ranks.mine(arguments.nccl)
    if mine.rank == 0:
        status = Trainer(
            RunFolder(arguments.run), mine, arguments.gpu, arguments.tensorboard
        ).train(arguments.resume)
    else:
        status = Worker(mine, arguments.gpu).train()
    mine.leave()
    return status


command.run(main)
