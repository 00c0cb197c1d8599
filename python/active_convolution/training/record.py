"""run.json: what ran, of which code and data, on which machine, and when.

``options`` (those of acu train), ``seed``, ``images`` to train on; ``code``: ``commit`` and whether
files of it were ``changed``; ``machine``: ``cpu``, ``vector`` (its instructions for vectors),
``cores``, ``threads``, ``ranks``, ``gpu``; ``versions``: of Python, of what it uses, and of the
``build`` of Caffe; ``sha256`` of the data set's manifest, of the prototxts without the paths of
this machine, and of the initial weights; ``weights``: what was copied from --weights
(snapshots.Copied); ``first_losses``: of the first ten iterations; ``sessions``: ``start`` and
``end`` of each part, the iterations between which it trained, and how it ended: "finished",
"stopped", or nothing where it was killed.
"""

import ctypes
import datetime
import hashlib
import os
import platform
import re
import subprocess
from pathlib import Path

import google.protobuf
import numpy as np

from .. import __version__
from ..caffe import locate, messages
from ..caffe.positions import TYPES
from . import changes, schedule
from .run_folder import without_paths, write_json

LOSSES = 10  # of the first iterations, that a run keeps
_VECTORS = ("sse4_2", "avx", "avx2", "fma", "avx512f", "avx512bw", "avx512vl", "neon", "sve")


class Record:
    """The content of a run's run.json, a dictionary, kept on the disk."""

    def __init__(self, run, options=None):
        """``options``: those of a run that begins; otherwise it goes on."""
        self._path = run.record
        self.content = run.said or {}
        if options is not None:
            self.content = {"options": _plain(options), "sessions": [], "first_losses": []}

    def begin(self, solver, found, ranks, gpus):
        """At the start of a session of the Definition ``found`` with pycaffe's ``solver``."""
        if not self.content.get("sha256"):
            self.content.update(
                seed=found.solver.random_seed,
                code=_code(),
                machine=_machine(ranks, gpus),
                versions=_versions(),
                sha256={
                    "manifest": _manifest(found.data),
                    "solver": _sha256(messages.text(without_paths(found.solver))),
                    "train_val": _sha256(messages.text(without_paths(found.net))),
                    "weights": _weights(solver.net),
                },
            )
        session = {"start": _now(), "from": solver.iter}
        code = _code()
        if code != self.content.get("code"):
            session["code"] = code
        self.content.setdefault("sessions", []).append(session)
        self.save()

    def losses(self, iteration, loss):
        """Hears of the loss of each iteration."""
        if iteration <= LOSSES:
            self.content.setdefault("first_losses", [])[iteration - 1 :] = [loss]
            self.save()

    def end(self, iteration, how):
        self.content["sessions"][-1].update(end=_now(), to=iteration, ended=how)
        self.save()

    def save(self):
        write_json(self._path, self.content)


def _plain(options):
    """``options`` as JSON holds them, without those that were not given."""
    given = {name: each for name, each in options.items() if each or type(each) in (int, float)}
    return {name: str(value) if isinstance(value, Path) else value for name, value in given.items()}


def _now():
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def _sha256(text):
    return hashlib.sha256(text if isinstance(text, bytes) else text.encode()).hexdigest()


def _weights(net):
    digest = hashlib.sha256()
    for blobs in net.params.values():
        for blob in blobs:
            digest.update(np.ascontiguousarray(blob.data, "<f4"))
    return digest.hexdigest()


def _manifest(data):
    return data and _sha256((Path(data.folder) / "manifest.json").read_bytes())


# ---- Code and machine


def _code():
    """{} where the package does not lie in its repository."""

    def git(*arguments):
        command = ["git", "-C", str(locate.ROOT), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return {"commit": git("rev-parse", "HEAD"), "changed": bool(changed)}
    except (OSError, subprocess.CalledProcessError):
        return {}


def _machine(ranks, gpus):
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text()
    except OSError:
        cpuinfo = ""
    model = re.search(r"model name\s*: (.*)", cpuinfo)
    flags = set((re.search(r"(?:flags|Features)\s*: (.*)", cpuinfo) or [0, ""])[1].split())
    cores = len(os.sched_getaffinity(0))
    threads = re.match(r"\d+", os.environ.get("OMP_NUM_THREADS", ""))  # "4,2": of a level each
    return {
        "cpu": model[1] if model else platform.machine(),
        "vector": [name for name in _VECTORS if name in flags],
        "cores": cores,
        "threads": int(threads[0]) if threads else cores,
        "ranks": ranks,
        "gpu": list(gpus),
    }


def _versions():
    return {
        "active_convolution": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "protobuf": google.protobuf.__version__,
        "openblas": _openblas(),
        "compiler": _compiler(),
        "build": {
            **locate.built(),
            "caffe": locate.built().get("CAFFE_SOURCE_DIR") or "BVLC 99bd997",
        },
    }


def _compiler():
    """What CMake wrote down of it; None where the build is not here."""
    for path in locate.BUILD.glob("out/CMakeFiles/*/CMakeCXXCompiler.cmake"):
        found = re.findall(
            r'^set\(CMAKE_CXX_COMPILER_(?:ID|VERSION) "(.*)"\)', path.read_text(), re.M
        )
        return " ".join(found)


def _openblas():
    """What the library that Caffe has loaded says of itself; None where it is another BLAS."""
    try:
        config = ctypes.CDLL("libopenblas.so.0", os.RTLD_NOLOAD | os.RTLD_LAZY).openblas_get_config
    except (OSError, AttributeError):
        return None
    config.restype = ctypes.c_char_p
    return config().decode()


def what_trains(net, found, ranks, images):
    """A line: the network, its data, the length, and how far a synapse can go. ``net`` is
    pycaffe's, ``found`` a Definition, ``images`` those to train on, or None."""
    solver, data = found.solver, found.data
    active = sum(layer.type in TYPES for layer in net.layers)
    learned = sum(
        blob.count
        for layer in net.layers
        for blob in layer.blobs
        if layer.type != "BatchNorm" and (blob.count > 1 or layer.type not in TYPES)
    )
    layers = schedule.data_layers(solver, found.net, locate.caffe_pb2().TRAIN)
    outputs = {changes.outputs(layer).num_output for layer, _, _ in changes.judged(found)}
    seen = ranks * schedule.images_per_iteration(solver, found.net)
    source = ", ".join(schedule.reader(layer).source for layer in layers) or "data of its own"
    reach = schedule.reach(solver, found.net)
    parts = [
        (f"{found.net.name or 'a network'}, {learned:,} parameters", True),
        (f", {active} active convolution{'' if active == 1 else 's'}", True),
        (f"; {data.dataset if data else source}", True),
        (f", {images or 0:,} images", images),
        (f" of {data and data.classes} classes", data),
        (f", {'/'.join(map(str, sorted(outputs)))} outputs", outputs),
        (f"; {solver.max_iter:,} iterations", True),
        (f" of {seen:,} images", seen),
        (f" over {ranks} ranks", ranks > 1),
        (f", {solver.max_iter * seen / (images or 1):.3g} epochs", images),
        (f"; a synapse can go {_short(reach or 0)} pixels at most", reach is not None),
    ]
    return "training " + "".join(text for text, told in parts if told)


def _short(number):
    return f"{number:,.0f}" if number >= 10 else f"{number:.2g}"
