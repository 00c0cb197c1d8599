"""Which network a run trains, and how: what a model folder, or a solver's prototxt, says in any of
Caffe's ways."""

import dataclasses
from pathlib import Path

from ..caffe import locate, messages
from ..errors import BadValue, UserError
from ..networks import models
from . import schedule

_TRAINS = ("net", "net_param", "train_net", "train_net_param")  # a solver has one of these


@dataclasses.dataclass
class Definition:
    """A SolverParameter, and the one NetParameter that trains and tests: several are merged into
    one, each test network having a stage of its own. ``deploy`` is a NetParameter, or None;
    ``source`` is what messages name, ``weights`` a .caffemodel that the solver begins with, or
    None; ``data`` the data.manifest.Manifest of what it trains on, None where the network names its
    own sources."""

    source: Path
    solver: object
    net: object
    deploy: object = None
    weights: str = None
    data: object = None


def of_model(model, variant=None, solver=None):
    """The Definition in the folder ``model/variant``, or ``model`` itself, or of one of the paper's
    networks by its name, such as cifar10/plain. It trains as solver.prototxt there says, or the
    file ``solver``; the network is that of the folder whatever a ``solver`` names.

    Without ``variant`` the active network is taken where there are both.
    """
    folder = Path(model)
    named = None if folder.is_dir() else models.named(model)
    if named:
        variant = variant or models.VARIANTS[1]
        own = messages.read_solver(solver) if solver else models.solver(named, variant)
        made = models.train_val(named, variant), models.deploy(named, variant)
        return checked(Definition(Path(model) / variant, _without_nets(own), *made))
    if folder.is_file():
        raise BadValue(f"{model} is a file: give the folder of a network, or --solver {model}")
    both = [folder / name for name in models.VARIANTS if (folder / name).is_dir()]
    if variant or both and not (folder / "solver.prototxt").exists():
        folder = folder / (variant or both[-1].name)
    if not folder.is_dir():
        known = ", ".join(models.VARIANTS)
        raise UserError(
            f"there is no folder {folder}: give one of a network (or of {known}), "
            "or one of acu models list"
        )
    own = folder / "solver.prototxt"
    if not (solver or own.is_file()):
        raise BadValue(f"{folder} holds no solver.prototxt: give a folder with one, or --solver")
    read = messages.read_solver(solver or own)
    if solver or (folder / "train_val.prototxt").exists() or not _nets(read):
        _without_nets(read).net = str(_network_in(folder))
    return _definition(folder, read, folder)


def of_solver(path):
    """The Definition that the solver prototxt ``path`` names, with deploy.prototxt beside it where
    there is one. Its networks are looked for from the working directory, as Caffe does, and then
    from the solver's own folder."""
    return _definition(Path(path), messages.read_solver(path), Path(path).parent)


def _network_in(folder):
    """The prototxt of the one network in ``folder`` that is for training."""
    if (folder / "train_val.prototxt").exists():
        return folder / "train_val.prototxt"
    found = []
    for path in sorted(folder.glob("*.prototxt")):
        try:
            net = messages.read_net(path)
        except UserError:  # a solver, for one
            continue
        if any(layer.type.endswith("Loss") or layer.loss_weight for layer in net.layer):
            found.append(path)
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise UserError(
            f"{folder} needs a train_val.prototxt, or exactly one other network for training "
            f"(there: {names}): call the one to train train_val.prototxt"
        )
    return found[0]


def _definition(source, solver, folder):
    net, deploy = _one_net(source, solver, folder), folder / "deploy.prototxt"
    read = messages.read_net(deploy) if deploy.exists() else None
    weights = [*getattr(solver, "weights", ()), None][0]  # which newer Caffes know
    return checked(Definition(source, solver, net, read, weights))


def checked(found):
    """``found``, unless it does not say how long to train, or a layer has no input in a phase."""
    solver, net, source = found.solver, found.net, found.source
    if solver.max_iter < 1:
        raise UserError(f"{source} does not say how long to train: give its solver max_iter")
    for phase, test in schedule.phases(solver):
        known = set(net.input)
        for layer in schedule.layers(solver, net, phase, test):
            missing = next((bottom for bottom in layer.bottom if bottom not in known), None)
            known.update(layer.top)
            if missing:
                name = "TEST" if phase else "TRAIN"
                remedy = ", or take test_iter out of the solver" if phase else ""
                raise UserError(
                    f"no layer of {source} gives {missing} in the phase {name}, which layer "
                    f"{layer.name} reads: give one with include {{ phase: {name} }}{remedy}"
                )
    return found


# ---- One network out of several


def _nets(solver):
    return [name for name in _TRAINS if solver.HasField(name)]


def _without_nets(solver):
    for name in (*_TRAINS, "test_net", "test_net_param"):
        solver.ClearField(name)
    return solver


def _one_net(source, solver, folder):
    """The NetParameter that trains and tests as ``solver`` says, whose own names of it go."""
    given = _nets(solver)
    if len(given) != 1:
        names = " and ".join(given) or "no network"
        raise UserError(f"{source} names {names} to train: give it one of {', '.join(_TRAINS)}")
    trains = _read(getattr(solver, given[0]), folder, source)
    tests = [_read(net, folder, source) for net in (*solver.test_net_param, *solver.test_net)]
    if not given[0].startswith("train_"):  # the network that trains has the other tests
        tests += [trains] * (len(solver.test_iter) - len(tests))
    if len(tests) != len(solver.test_iter):
        counts = f"{len(solver.test_iter)} test_iter for {len(tests)} test networks"
        raise UserError(f"{source} has {counts}: give one for each")
    if given[0].startswith("train_") or solver.test_net_param or solver.test_net:
        trains = _merged(solver, trains, tests)
    _without_nets(solver)
    return trains


def _read(net, folder, source):
    """A network that a solver holds, or names."""
    if not isinstance(net, str):
        return net
    for path in (Path(net), folder / net, folder / Path(net).name):
        if path.is_file():
            return messages.read_net(path)
    raise UserError(
        f"there is no {net}, which {source} names, neither here nor beside it: mend the path, or "
        "run this in another folder"
    )


def _merged(solver, trains, tests):
    """One network of those that train and test, whose layers then say in which they take part;
    Caffe's stages, with which that was said before, are resolved."""
    pb2 = locate.caffe_pb2()
    merged = pb2.NetParameter(name=trains.name)
    stages = [[f"test-{index}"] if len(tests) > 1 else [] for index in range(len(tests))]
    for layer in schedule.layers(solver, trains, pb2.TRAIN):
        _add(merged, layer).include.add(phase=pb2.TRAIN)
    for index, net in enumerate(tests):
        for layer in schedule.layers(solver, net, pb2.TEST, index):
            _add(merged, layer).include.add(phase=pb2.TEST, stage=stages[index])
    solver.ClearField("train_state")
    del solver.test_state[:]
    if len(tests) > 1:
        solver.test_state.extend(pb2.NetState(stage=stage) for stage in stages)
    return merged


def _add(net, layer):
    """A copy of ``layer`` in ``net``, for all phases."""
    copy = net.layer.add()
    copy.CopyFrom(layer)
    copy.ClearField("include")
    copy.ClearField("exclude")
    return copy


# ---- The deploy network, where nobody wrote it


def deploy(found, shape):
    """The NetParameter, images in and class probabilities out, of a Definition's first test network
    (or, without one, of its training network) for images of ``shape`` (C, H, W); None where it has
    no single layer that reads a data set, or nothing is left without labels."""
    pb2 = locate.caffe_pb2()
    phase = pb2.TEST if found.solver.test_iter else pb2.TRAIN
    data = schedule.data_layers(found.solver, found.net, phase)
    if len(data) != 1 or not data[0].top:
        return None
    crop = data[0].transform_param.crop_size
    net = pb2.NetParameter(name=found.net.name)
    images = net.layer.add(name=data[0].top[0], type="Input", top=data[0].top[:1])
    images.input_param.shape.add(dim=[1, shape[0], *((crop, crop) if crop else shape[1:])])
    labelled = set(data[0].top[1:])
    for layer in schedule.layers(found.solver, found.net, phase):
        if labelled.isdisjoint(layer.bottom):
            if layer != data[0]:
                _add(net, layer).ClearField("param")
            continue
        labelled.update(layer.top)
        known = any(other.type == "Softmax" for other in net.layer)
        if layer.type == "SoftmaxWithLoss" and not known:
            net.layer.add(name="prob", type="Softmax", bottom=layer.bottom[:1], top=["prob"])
    return net if len(net.layer) > 1 else None
