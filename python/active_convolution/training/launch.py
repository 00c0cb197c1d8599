"""Which processes train: one, one per GPU, or those that mpirun has started."""

import multiprocessing

from ..caffe import locate
from ..caffe.process import INTERRUPTED, Process, check_gpu, guarded
from ..errors import BadValue, UserError
from . import ranks


def follows():
    """Whether this process is another rank than 0 of an mpirun, and only has to ``follow``."""
    return ranks.under_mpirun()[0] > 0


def check(gpus):
    """Raises UserError unless training can run on these ``gpus``, a list of device numbers (empty: on the CPU)."""
    for gpu in gpus:
        check_gpu(gpu)
    if len(set(gpus)) < len(gpus):
        raise BadValue(f"--gpu {','.join(map(str, gpus))} names a GPU twice: name each once")
    if _over_nccl(gpus) and not locate.caffe().has_nccl():
        raise UserError(
            "this build of Caffe has no NCCL, over which several GPUs train: build it with "
            "./scripts/build.sh --gpu --nccl, start a process per GPU with mpirun, or name one GPU"
        )


def lead(run, log, gpus, *options):
    """Trains on a run folder that is ready, whose log is open at the descriptor ``log``, as rank 0 or with all ranks;
    ``options`` are rank 0's. Returns the exit status, as ``guarded``."""
    options, log = (
        ("--run", run.path, *options, *_gpu_option(gpus)),
        dict(log=log, log_path=run.log),
    )
    if _over_nccl(gpus):
        return _one_per_gpu(gpus, options, log)
    return guarded([Process(__package__, options, **log, name=ranks.name(*ranks.under_mpirun()))])


def follow(gpus):
    """Trains as another rank than 0, on what that one says; returns the exit status."""
    try:
        return guarded(
            [Process(__package__, _gpu_option(gpus), name=ranks.name(*ranks.under_mpirun()))]
        )
    except KeyboardInterrupt:  # rank 0 says so
        return INTERRUPTED


def _over_nccl(gpus):
    return len(gpus) > 1 and ranks.under_mpirun()[1] == 1


def _gpu_option(gpus):
    return ("--gpu", *gpus) if gpus else ()


def _one_per_gpu(gpus, options, log):
    """Trains in the processes that ranks.Nccl describes, ``options`` and ``log`` being rank 0's."""
    size = len(gpus)
    ends = [
        multiprocessing.Pipe() for _ in gpus[1:]
    ]  # stay open here: no rank is to notice before this process does
    processes = [_gpu_process(0, size, options, [leader for leader, _ in ends], log)]
    processes += [
        _gpu_process(rank, size, _gpu_option(gpus), [end], {})
        for rank, (_, end) in enumerate(ends, start=1)
    ]
    return guarded(processes)


def _gpu_process(rank, size, options, ends, log):
    pipes = tuple(end.fileno() for end in ends)
    return Process(
        __package__,
        (*options, "--nccl", rank, size, *pipes),
        **log,
        keep=pipes,
        name=ranks.name(rank, size),
    )
