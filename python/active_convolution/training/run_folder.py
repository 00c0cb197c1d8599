"""The folder of one training run: what is resolved before it starts, and what it leaves."""
from pathlib import Path

from ..data.folder import check_manifest, database_path
from ..errors import BadValue, UserError
from ..networks import models
from ..positions import RUN_FILE
from ..pycaffe import locate, messages
from . import schedule

# Where a solver may also have its networks from; and HDF5, which the other tools do not read.
_REPLACED = ("train_net", "test_net", "net_param", "train_net_param", "test_net_param", "snapshot_format")


class RunFolder:
    """``solver.prototxt``, ``train_val.prototxt`` and ``deploy.prototxt`` as this run uses them, ``train.log``
    (Caffe's), ``metrics.csv``, ``positions.npz`` and ``snapshots/``."""

    def __init__(self, path):
        self.path = Path(path).resolve()
        self.solver, self.train_val, self.deploy = (
            self.path / f"{name}.prototxt" for name in ("solver", "train_val", "deploy"))
        self.log = self.path / "train.log"
        self.metrics = self.path / "metrics.csv"
        self.positions = self.path / RUN_FILE
        self.snapshots = self.path / "snapshots"


def resolve(run, model, variant, data, max_iter=None, seed=None):
    """The SolverParameter and the NetParameter of a run: those in ``model/variant``, with ``data`` as the databases'
    folder, everything written below ``run``, and shortened to ``max_iter`` iterations where that is given."""
    _check_range("--max-iter", max_iter, 1, 2 ** 31 - 1)
    _check_range("--seed", seed, 0, 2 ** 32 - 1)
    folder = Path(model) / variant
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}: give a folder such as models/digits/plain and one of its variants "
                        f"({', '.join(models.VARIANTS)})")
    solver, net = messages.read_solver(folder / "solver.prototxt"), messages.read_net(folder / "train_val.prototxt")
    _check_tests(folder, solver, net)
    _set_databases(folder, solver, net, data)
    if max_iter is not None:
        schedule.shorten(solver, net, max_iter)
    if seed is not None:
        solver.random_seed = seed
    for name in _REPLACED:
        solver.ClearField(name)
    solver.net = str(run.train_val)
    solver.snapshot_prefix = str(run.snapshots / net.name.replace("/", "_"))
    return solver, net


def load(run):
    """The SolverParameter and the NetParameter in a run folder."""
    return messages.read_solver(run.solver), messages.read_net(run.train_val)


def _check_range(option, value, least, most):
    if value is not None and not least <= value <= most:
        raise BadValue(f"{option} {value} is out of range: give one from {least} to {most}")


def _check_tests(folder, solver, net):
    accuracy = any("accuracy" in layer.top for layer in schedule.layers(solver, net, locate.caffe_pb2().TEST))
    if solver.max_iter < 1 or len(solver.test_iter) != 1 or not accuracy:
        raise UserError(f"{folder} cannot be trained and tested: give its solver.prototxt max_iter and one test_iter, "
                        "and its train_val.prototxt a layer with the top accuracy for testing")


def _set_databases(model, solver, net, folder):
    dataset, pb2 = check_manifest(folder)["dataset"], locate.caffe_pb2()
    if not net.name.startswith(f"{dataset}_"):
        raise UserError(f"{folder} holds {dataset}, and the network is {net.name}: give the --data that fits it")
    train, test = (schedule.data_layers(solver, net, phase) for phase in (pb2.TRAIN, pb2.TEST))
    for layer in train:
        if layer in test:
            raise UserError(f"layer {layer.name} of {model}/train_val.prototxt reads data for training and for testing, "
                            "and these are two databases: give two layers, one for each phase")
    for split, layers in (("train", train), ("test", test)):
        for layer in layers:
            layer.data_param.source = str(database_path(Path(folder).resolve(), split))


def start(run, solver, net, model, variant):
    """Fills a new run folder. Raises UserError where there is one already."""
    if run.solver.exists():
        raise UserError(f"{run.path} holds a run already: go on with --resume, or name another --output")
    deploy = messages.read_net(Path(model) / variant / "deploy.prototxt")
    try:
        run.snapshots.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {run.path}: {error.strerror}") from error
    messages.write(run.deploy, deploy)
    _write_resolved(run, solver, net)


def go_on(run, solver, net):
    """Makes ``run`` ready to be resumed, wherever its folders lay before.

    Raises UserError unless it was started with these very settings.
    """
    if not run.solver.exists():
        raise UserError(f"{run.path} holds no run to go on with: leave --resume out")
    check_settings(run, solver, net)
    run.snapshots.mkdir(exist_ok=True)
    _write_resolved(run, solver, net)


def check_settings(run, solver, net):
    """Raises UserError unless ``run``, which holds a run, was started with these very settings."""
    for path, before, now in zip((run.solver, run.train_val), load(run), (solver, net)):
        if _without_paths(before) != _without_paths(now):
            raise UserError(f"{path} is not what this command would train: resume with the model, --variant, --data, "
                            "--max-iter and --seed that the run was started with, or name another --output")


def _write_resolved(run, solver, net):
    messages.write(run.train_val, net)
    messages.write(run.solver, solver)  # last: its presence says that the others are there


def _without_paths(message):
    copy = type(message)()
    copy.CopyFrom(message)
    for layer in getattr(copy, "layer", ()):
        layer.data_param.ClearField("source")
    for name in ("net", "snapshot_prefix"):
        if name in copy.DESCRIPTOR.fields_by_name:
            copy.ClearField(name)
    return copy
