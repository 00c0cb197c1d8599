"""The process in which readers are tried alone: a line "reader path" in, a line with what came of it out."""

import resource
import signal
import sys
from pathlib import Path

from active_convolution.caffe import messages, positions
from active_convolution.data import datum, folder, preprocess, sources
from active_convolution.errors import UserError
from active_convolution.look import confusion
from active_convolution.training.metrics import Metrics

MEMORY = 8 * 2**30  # bytes of addresses, of which libraries reserve some


def archive(path):
    with sources.open_source(path) as source:
        for _ in source.read(source.names):
            pass


def decoded(path):
    datum.decode(path.read_bytes())
    datum.decode_as_stored(path.read_bytes())


READERS = {
    "weights": positions.from_caffemodel,
    "net": messages.read_net,
    "solver": messages.read_solver,
    "positions": positions.History.load,
    "metrics": Metrics.load,
    "whitening": preprocess.Whitening.load,
    "manifest": lambda path: folder.check_manifest(path.parent),
    "confusion": confusion.load,
    "archive": archive,
    "image": decoded,
}


def outcome(reader, path):
    try:
        READERS[reader](Path(path))
    except UserError as error:
        return "refused" if str(error).strip() else "an empty message"
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return "read"


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for line in sys.stdin:
        print(outcome(*line.rstrip("\n").split(" ", 1)), flush=True)
