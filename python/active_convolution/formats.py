"""Networks and weights in whichever of Caffe's formats they are: V0 and V1 (``layers { … }``) are brought up to date."""
import subprocess
import tempfile
from pathlib import Path

from . import fork, prototxt
from .errors import UserError


def read_net(path):
    """The NetParameter of a prototxt, in today's format. Raises UserError where it cannot be read or upgraded."""
    return _up_to_date(prototxt.read_net(path), path, "upgrade_net_proto_text", prototxt.read_net)


def read_weights(path):
    """The NetParameter of a .caffemodel, in today's format. Raises UserError where it cannot be read or upgraded."""
    return _up_to_date(prototxt.read_weights(path), path, "upgrade_net_proto_binary", prototxt.read_weights)


def _up_to_date(net, path, tool, read):
    if not net.layers:
        return net
    program = fork.BUILD / "out/tools" / tool
    with tempfile.TemporaryDirectory() as folder:
        upgraded = Path(folder) / "net"
        try:
            done = subprocess.run([program, path, upgraded], capture_output=True, text=True)
        except OSError as error:
            raise UserError(f"cannot run {program} ({error.strerror}): build the fork with ./scripts/build.sh") from error
        if done.returncode != 0:
            raise UserError(f"{path} is in an old format that Caffe's {tool} cannot bring up to date: "
                            "write it with `layer` instead of `layers`")
        return read(upgraded)
