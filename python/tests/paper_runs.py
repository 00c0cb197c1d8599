"""Small experiments: the tiny network of training_runs.py under the names of table 2, and made runs of it."""

import dataclasses
import json
import shutil

import training_runs
from active_convolution.networks import models
from active_convolution.training.metrics import Metrics
from active_convolution.training.run_folder import RunFolder

TIMES = 100  # as long as in training_runs.py: a full run takes many seconds
MAX_ITER = TIMES * training_runs.MAX_ITER
SCALE, ITERATIONS = 0.0005, 12  # of the runs that a test waits for


def write_models(folder):
    """The tiny network as cifar10/plain; returns ``folder``."""
    digits = training_runs.TINY.dataset
    dataset = dataclasses.replace(
        digits,
        name="cifar10",
        max_iter=MAX_ITER,
        warmup_iter=TIMES * digits.warmup_iter,
        steps=tuple(TIMES * step for step in digits.steps),
    )
    small = dataclasses.replace(training_runs.TINY, network="plain", dataset=dataset)
    for variant in models.VARIANTS:
        (folder / "cifar10/plain" / variant).mkdir(parents=True)
        for kind in models.KINDS:
            (folder / "cifar10/plain" / variant / f"{kind}.prototxt").write_text(
                models.text(getattr(models, kind)(small, variant))
            )
    return folder


def write_data(folder, digits):
    """A copy of the data set ``digits`` as cifar10; returns ``folder``."""
    shutil.copytree(digits, folder / "cifar10")
    manifest = json.loads((digits / "manifest.json").read_text())
    (folder / "cifar10/manifest.json").write_text(json.dumps({**manifest, "dataset": "cifar10"}))
    return folder


def make_run(folder, errors, seconds=60, max_iter=MAX_ITER):
    """A run folder as if it had been trained: metrics.csv has ``errors``, {iteration: error}, and a falling loss; no times
    where ``seconds`` is None."""
    run = RunFolder(folder)
    run.path.mkdir(parents=True)
    run.solver.write_text(f"max_iter: {max_iter}\n")
    run.train_val.write_text('name: "cifar10_plain_acu"\n')
    metrics = Metrics()
    for iteration in range(1, max([*errors, 1]) + 1):
        tested = {"test_error": errors[iteration], "test_loss": 1} if iteration in errors else {}
        metrics.append(
            iteration,
            loss=3 / iteration,
            seconds=seconds and seconds * iteration / max(errors),
            **tested,
        )
    metrics.save(run.metrics)
    return run
