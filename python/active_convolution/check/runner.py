"""The layer of the fork against the oracle: single layers run in float or double, which pycaffe
(float alone) cannot."""

import contextlib
import struct
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..caffe import guard, locate
from ..errors import UserError
from . import cases

_LENGTH = struct.Struct("=I")  # of a message, before it


def check_all(count, first, gpu, build):
    """Checks ``count`` random cases from the seed ``first`` on in both precisions, and prints what
    they differ by. Returns the exit status."""
    seeds, failed = range(first, first + count), 0
    for precision in cases.TOLERANCE:
        with LayerRunner(precision, gpu, build) as runner:
            failed += _check(seeds, precision, runner)
    print(f"{2 * count - failed} passed, {failed} failed")
    return 1 if failed else 0


def _check(seeds, precision, runner):
    """How many of the cases fail in one precision; prints the worst differences."""
    worst, failed = {}, []
    for seed in tqdm(seeds, desc=precision, unit="case"):
        differences = cases.check(seed, runner)
        for name, difference in differences.items():
            worst[name] = max(worst.get(name, (0, 0)), (difference, seed))
        if max(differences.values()) > cases.TOLERANCE[precision]:
            failed.append(seed)
    for name, (difference, seed) in worst.items():
        print(f"{precision:6} {name:6} worst relative difference {difference:.1e} (case {seed})")
    for seed in failed[:1]:
        print(
            f"case {seed} (--cases 1 --seed {seed}) exceeds {cases.TOLERANCE[precision]} in "
            f"{precision}:\n{cases.random_case(seed, largest=cases.LARGEST).net()}"
        )
    return len(failed)


class LayerRunner:
    """A running ``run_layer``; a context manager.

    ``precision`` is "float" or "double", ``gpu`` a device number or None for the CPU, ``build`` a
    build folder.
    """

    def __init__(self, precision, gpu=locate.GPU, build=locate.BUILD):
        program = Path(build) / "out/tools/run_layer"
        self._net = locate.caffe_pb2().NetParameter
        self._log = tempfile.TemporaryFile()  # since a full pipe would stop a talkative Caffe
        try:
            arguments = [precision] if gpu is None else [precision, str(gpu)]
            self._process = subprocess.Popen(
                [program, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
            )
        except OSError as error:
            raise UserError(
                f"cannot run {program} ({error.strerror}): build the fork with ./scripts/build.sh"
            ) from error

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(BrokenPipeError):  # where it has ended, with a request unread
            self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()
        self._log.close()

    def run(self, layer, parameters, bottom, top_diff):
        """One pass of ``layer`` (LayerParameter) with arrays for blobs and one bottom.

        Returns (top, gradient of the bottom, list of the parameters' gradients), float64. Raises
        UserError with Caffe's own words where it refuses the layer.
        """
        request = self._net(layer=[layer])
        for array in parameters:
            _put(request.layer[0].blobs.add(), "double_data", array)
        _put(request.layer.add(name="bottom").blobs.add(), "double_data", bottom)
        _put(request.layer.add(name="top").blobs.add(), "double_diff", top_diff)
        answer = self._exchange(request)
        top, bottom, parameters = ([_array(blob) for blob in part.blobs] for part in answer.layer)
        return top[0], bottom[0], parameters

    def _exchange(self, request):
        content = request.SerializeToString()
        try:
            self._process.stdin.write(_LENGTH.pack(len(content)) + content)
            self._process.stdin.flush()
            return self._net.FromString(self._read(*_LENGTH.unpack(self._read(_LENGTH.size))))
        except (BrokenPipeError, EOFError) as error:
            self._process.wait()
            self._log.seek(0)
            said = self._log.read().decode(errors="replace")
            raise UserError(
                f"Caffe ended the layer's process: {guard.last_words(said) or said}"
            ) from error

    def _read(self, count):
        content = self._process.stdout.read(count)
        if len(content) < count:
            raise EOFError
        return content


def _put(blob, field, array):
    blob.shape.dim.extend(array.shape)
    getattr(blob, field).extend(np.ravel(array).tolist())


def _array(blob):
    return np.array(blob.double_data).reshape(tuple(blob.shape.dim))
