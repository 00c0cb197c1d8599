"""The runs under results/: the table is written from them again, and the first iterations of each
train as they did."""

import re
import shutil
import subprocess

import pytest
from active_convolution import cli
from active_convolution.paper import tables
from active_convolution.training import trainer
from active_convolution.training.changes import Changes
from active_convolution.training.record import LOSSES
from active_convolution.training.run_folder import RunFolder
from conftest import ROOT

pytestmark = pytest.mark.slow

RESULTS = ROOT / "results"
RUNS = sorted(path.parent for path in RESULTS.glob("table*/*/run.json"))


def assert_trains_the_same(path, data, folder, monkeypatch, model=None):
    """Trains the first iterations of the published run in ``path`` on the data set ``data`` into
    ``folder``, and compares the losses to six digits."""
    said = RunFolder(path).said
    dataset, network, variant = re.match(r"(\w+)-(\w+)-(baseline|acu)", path.name).groups()
    options = {name: said["options"].get(name) for name in ("max_iter", "epochs")}
    changes = {name: said["options"][name] for name in vars(Changes()) if name in said["options"]}
    changes["set"] = [*changes.get("set", ()), "solver.test_iter=0"]
    monkeypatch.setattr(trainer.Trainer, "at_end", lambda self: self.solver.iter >= LOSSES)
    status = trainer.train(
        model or f"{dataset}/{network}",
        variant,
        data,
        folder / "again",
        seed=said["seed"],
        changes=Changes(**changes),
        **options,
    )
    again = RunFolder(folder / "again").said
    assert status == 0 and again["sha256"]["weights"] == said["sha256"]["weights"]
    assert again["first_losses"] == pytest.approx(said["first_losses"], rel=1e-6)


@pytest.fixture(scope="module")
def data(shared_data, tmp_path_factory):
    """cifar10/ and cifar100/, from the original pixels."""
    folder, above = tmp_path_factory.mktemp("pixels"), tmp_path_factory.mktemp("data")
    for name in {path.name.split("-")[0] for path in RUNS}:
        unpack = ["/usr/bin/python3", shared_data / "unpack.py", name, folder / f"{name}.npz"]
        subprocess.run(unpack, check=True)
        source = ["--source", folder / f"{name}.npz", "--output", above / name]
        subprocess.run([ROOT / "scripts/acu", "data", name, *source], check=True)
    return above


@pytest.mark.parametrize("path", RUNS, ids=[path.name for path in RUNS])
def test_the_first_iterations_train_as_they_did(path, data, tmp_path, monkeypatch, one_thread):
    if "first_losses" not in RunFolder(path).said:
        pytest.skip("trained before run.json had them")
    assert_trains_the_same(path, data / path.name.split("-")[0], tmp_path, monkeypatch)


@pytest.mark.parametrize("number", tables.TABLES)
def test_tables_are_those_of_the_runs(number, tmp_path, capsys):
    if not (RESULTS / f"table{number}.csv").exists():
        pytest.skip("nothing published")
    copy = shutil.copytree(RESULTS, tmp_path / "results")
    arguments = ["--table", str(number), "--show", "--runs", str(copy)]
    assert cli._module("reproduce").run(cli.parser("reproduce").parse_args(arguments)) == 0
    assert (copy / f"table{number}.csv").read_text() == (RESULTS / f"table{number}.csv").read_text()
