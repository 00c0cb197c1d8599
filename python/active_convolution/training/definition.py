"""Which network a run trains, and how: what a model folder, or a solver's prototxt, says in any of Caffe's ways."""

import dataclasses
import tempfile
from pathlib import Path

from ..caffe import locate, messages
from ..errors import BadValue, UserError
from ..networks.models import VARIANTS
from . import schedule

_TRAINS = ("net", "net_param", "train_net", "train_net_param")  # a solver has one of these


@dataclasses.dataclass
class Definition:
    """A SolverParameter, and the one NetParameter that trains and tests: several are merged into one, each test network
    having a stage of its own. ``deploy`` is a NetParameter, or None where there is none; ``source`` is the file or the
    folder that messages name, ``weights`` a .caffemodel that the solver begins with, or None, ``data`` the Manifest of
    its data set, or None where the network names its own sources."""

    source: Path
    solver: object
    net: object
    deploy: object = None
    weights: str = None
    data: object = None


def of_model(model, variant=None, solver=None):
    """The Definition in the folder ``model/variant``, or ``model`` itself: solver.prototxt (or the file ``solver``), beside
    it train_val.prototxt (else the networks that the solver names) and deploy.prototxt."""
    folder = Path(model) / (variant or "")
    if not folder.is_dir():
        raise UserError(
            f"there is no folder {folder}: give a folder such as models/digits/plain and one of its variants "
            f"({', '.join(VARIANTS)})"
        )
    if variant is None and not (solver or (folder / "solver.prototxt").is_file()):
        inside = sorted(path.parent.name for path in folder.glob("*/solver.prototxt"))
        remedy = (
            f"give --variant, one of {', '.join(inside)}"
            if inside
            else "give a folder that holds one, or --solver"
        )
        raise BadValue(f"{folder} holds no solver.prototxt: {remedy}")
    solver, own = (
        messages.read_solver(solver or folder / "solver.prototxt"),
        folder / "train_val.prototxt",
    )
    if own.exists() or not any(map(solver.HasField, _TRAINS)):
        for name in (*_TRAINS, "test_net", "test_net_param"):
            solver.ClearField(name)
        solver.net = str(own)
    return _definition(folder, solver, folder)


def of_solver(path):
    """The Definition that the solver prototxt ``path`` names, with deploy.prototxt beside it where there is one. Its
    networks are looked for from the working directory, as Caffe does, and then from the solver's own folder."""
    return _definition(Path(path), messages.read_solver(path), Path(path).parent)


def _definition(source, solver, folder):
    net = _one_net(source, solver, folder)
    deploy = folder / "deploy.prototxt"
    return Definition(
        source,
        solver,
        net,
        messages.read_net(deploy) if deploy.exists() else None,
        _weights(source, solver),
    )


def _weights(source, solver):
    """The file that a solver's own ``weights`` name (newer Caffes know the field), as ``caffe train --weights``."""
    given = [file for entry in getattr(solver, "weights", ()) for file in entry.split(",") if file]
    if len(given) > 1:
        raise UserError(
            f"{source} names {len(given)} files of weights, and a training begins with one: merge them, or leave "
            "some out"
        )
    return given[0] if given else None


# ---- One network out of several


def _one_net(source, solver, folder):
    """The NetParameter that trains and tests as ``solver`` says; its fields that name networks are cleared."""
    given = [name for name in _TRAINS if solver.HasField(name)]
    if len(given) != 1:
        raise UserError(
            f"{source} names {' and '.join(given) or 'no network'} to train: give its solver one of "
            f"{', '.join(_TRAINS)}"
        )
    trains = _read(getattr(solver, given[0]), folder, source)
    tests = [_read(net, folder, source) for net in (*solver.test_net_param, *solver.test_net)]
    own = len(solver.test_iter) - len(
        tests
    )  # tests of the network that trains, as Caffe counts them
    if own < 0 or own > 0 and given[0].startswith("train_"):
        raise UserError(
            f"{source} has {len(solver.test_iter)} test_iter for {len(tests)} test networks: give one for each"
        )
    if solver.test_state and len(solver.test_state) != len(solver.test_iter):
        raise UserError(
            f"{source} has {len(solver.test_state)} test_state and {len(solver.test_iter)} test_iter: give as "
            "many, or no test_state"
        )
    if tests or given[0].startswith("train_"):
        trains = _merged(solver, trains, tests + [trains] * own)
    for name in (*_TRAINS, "test_net", "test_net_param"):
        solver.ClearField(name)
    return trains


def _read(net, folder, source):
    """A network that a solver holds, or names."""
    if not isinstance(net, str):
        with tempfile.TemporaryDirectory() as temporary:
            path = Path(temporary) / "net.prototxt"
            messages.write(path, net)
            return messages.read_net(path)
    for path in (Path(net), folder / net, folder / Path(net).name):
        if path.is_file():
            return messages.read_net(path)
    raise UserError(
        f"{source} names the network {net}, and neither from here nor beside it is there such a file: run this "
        "where that path leads somewhere, or mend it"
    )


def _merged(solver, trains, tests):
    """One network of those that train and test, whose layers then say in which they take part; Caffe's stages, with which
    that was said before, are resolved."""
    pb2 = locate.caffe_pb2()
    merged = pb2.NetParameter(name=trains.name)
    for layer in schedule.layers(solver, trains, pb2.TRAIN):
        _add(merged, layer, phase=pb2.TRAIN)
    for index, net in enumerate(tests):
        for layer in schedule.layers(solver, net, pb2.TEST, index):
            _add(
                merged,
                layer,
                phase=pb2.TEST,
                **dict(stage=[f"test-{index}"]) if len(tests) > 1 else {},
            )
    solver.ClearField("train_state")
    del solver.test_state[:]
    if len(tests) > 1:
        solver.test_state.extend(
            pb2.NetState(stage=[f"test-{index}"]) for index in range(len(tests))
        )
    return merged


def _add(net, layer, **rule):
    copy = net.layer.add()
    copy.CopyFrom(layer)
    copy.ClearField("include")
    copy.ClearField("exclude")
    copy.include.add(**rule)
