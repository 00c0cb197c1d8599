"""Runs single layers of the fork in float or double, which pycaffe (float alone) cannot."""
import contextlib
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from .. import fork
from ..errors import UserError


class LayerRunner:
    """A running ``run_layer``; a context manager.

    ``precision`` is "float" or "double", ``gpu`` a device number or None for the CPU, ``build`` a build folder.
    """

    def __init__(self, precision, gpu=fork.GPU, build=fork.BUILD):
        program = Path(build) / "out/tools/run_layer"
        self._net = fork.caffe_pb2().NetParameter
        self._log = tempfile.TemporaryFile()  # a pipe that nobody reads would stop a talkative Caffe when it is full
        try:
            arguments = [precision] if gpu is None else [precision, str(gpu)]
            self._process = subprocess.Popen([program, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                             stderr=self._log)
        except OSError as error:
            raise UserError(f"cannot run {program} ({error.strerror}): build the fork with ./scripts/build.sh") from error

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

        Returns (top, gradient of the bottom, list of the parameters' gradients), float64. Raises UserError with
        Caffe's own words where it refuses the layer.
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
            self._process.stdin.write(_varint(len(content)) + content)
            self._process.stdin.flush()
            answer = self._net()
            answer.ParseFromString(self._process.stdout.read(self._read_varint()))
            return answer
        except (BrokenPipeError, EOFError) as error:
            self._process.wait()
            self._log.seek(0)
            said = self._log.read().decode(errors="replace")
            raise UserError(f"Caffe ended the layer's process: {fork.last_words(said) or said}") from error

    def _read_varint(self):
        value = shift = 0
        while True:
            byte = self._process.stdout.read(1)
            if not byte:
                raise EOFError
            value |= (byte[0] & 0x7F) << shift
            shift += 7
            if byte[0] < 0x80:
                return value


def _put(blob, field, array):
    blob.shape.dim.extend(array.shape)
    getattr(blob, field).extend(np.ravel(array).tolist())


def _array(blob):
    return np.array(blob.double_data).reshape(tuple(blob.shape.dim))


def _varint(value):
    """Protocol buffers' variable-length integer: seven bits a byte, the lowest first."""
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
