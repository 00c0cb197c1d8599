"""Small experiments: the tiny network of training_runs.py under the names of table 2, and made runs
of it."""

import dataclasses
import json
import shutil

import training_runs
from active_convolution import geometry
from active_convolution.caffe import messages, positions
from active_convolution.networks import models
from active_convolution.training.metrics import Metrics
from active_convolution.training.run_folder import RunFolder, write_json

SCALE, ITERATIONS = 0.0002, 13  # of the runs that a test waits for: of 64,000


def write_models(folder):
    """The tiny network as cifar10/plain; returns ``folder``."""
    dataset = dataclasses.replace(training_runs.TINY.dataset, name="cifar10")
    small = dataclasses.replace(training_runs.TINY, network="plain", dataset=dataset)
    training_runs.write_model(folder / "cifar10/plain", small)
    return folder


def write_data(folder, digits):
    """A copy of the data set ``digits`` as cifar10; returns ``folder``."""
    shutil.copytree(digits, folder / "cifar10")
    manifest = json.loads((digits / "manifest.json").read_text())
    (folder / "cifar10/manifest.json").write_text(json.dumps({**manifest, "dataset": "cifar10"}))
    return folder


def make_run(run, errors, seconds=60):
    """The folder of a paper.runs.Run as if it had been trained: metrics.csv has ``errors``,
    {iteration: error}, and a falling loss; no times where ``seconds`` is None."""
    folder = RunFolder(run.folder.path)
    folder.path.mkdir(parents=True)
    folder.solver.write_text(f"max_iter: {run.max_iter} random_seed: {run.seed}\n")
    metrics, last = Metrics(), max([*errors, 1])
    for iteration in sorted({1, last // 2 or 1, *errors, last}):
        tested = {"test_error": errors[iteration], "test_loss": 1} if iteration in errors else {}
        time = seconds and seconds * iteration / last
        metrics.append(iteration, loss=3 / iteration, seconds=time, **tested)
    metrics.save(folder.metrics)
    machine = {"cpu": "EPYC", "threads": 1}
    write_json(folder.record, {"code": {"commit": "c0ffee" * 6 + "abcd"}, "machine": machine})
    if run.variant != "baseline":
        grid = geometry.grid((3, 3))[None]
        history = positions.History(warmup_iter=1)
        for iteration in (0, 10, 20):
            moved = grid * (1 + 0.01 * iteration)
            layer = ("ActiveConvolution", (3, 3), moved, grid)
            names = [f"conv{stage}/{index}" for stage in (1, 2, 3) for index in (1, 2)]
            history.append(iteration, [positions.LayerPositions(name, *layer) for name in names])
        history.save(folder.positions)
    return folder


def give_network(folder, name, variant, **active):
    """Writes the paper's network into a made run's folder, with these parameters of its ACUs."""
    net = models.train_val(models.named(name), variant)
    for layer in net.layer:
        for field, value in active.items() if layer.type == "ActiveConvolution" else ():
            setattr(layer.active_convolution_param, field, value)
    messages.write(folder.train_val, net)
