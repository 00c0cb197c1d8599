"""A tiny network on the digits, for tests of the training: one 3×3 convolution, active in the
variant ``acu``."""

import dataclasses
import os
import subprocess

from active_convolution.caffe import locate
from active_convolution.networks import models, schedules
from active_convolution.training.metrics import Metrics
from conftest import ROOT

MAX_ITER, WARMUP_ITER = 240, 80


def _body(net, data, dataset, variant):
    layers = locate.caffe().layers
    kernel = dict(num_output=4, kernel_size=3, pad=1, weight_filler=dict(type="msra"))
    if variant == "acu":
        net["conv"] = layers.ActiveConvolution(
            data,
            convolution_param=kernel,
            active_convolution_param=dict(warmup_iter=dataset.warmup_iter),
        )
    else:
        net["conv"] = layers.Convolution(data, convolution_param=kernel)
    net["bn"] = layers.BatchNorm(net["conv"], in_place=True)
    net["relu"] = layers.ReLU(net["bn"], in_place=True)
    net["score"] = layers.InnerProduct(
        net["relu"], num_output=dataset.classes, weight_filler=dict(type="msra")
    )
    return net["score"]


TINY = models.Model(
    dataclasses.replace(
        schedules.DIGITS,
        max_iter=MAX_ITER,
        steps=(120, 180),
        warmup_iter=WARMUP_ITER,
        intervals=(60, 60, 10),
    ),
    "tiny",
    _body,
)


def write_model(folder, model=TINY, **solver):
    """Writes both variants of ``model`` below ``folder``, the fields ``solver`` changed in
    solver.prototxt; returns the folder."""
    for variant in models.VARIANTS:
        (folder / variant).mkdir(parents=True)
        for kind in models.KINDS:
            message = getattr(models, kind)(model, variant)
            if kind == "solver":
                for name in solver:
                    message.ClearField(name)
                message.MergeFrom(type(message)(**solver))
            (folder / variant / f"{kind}.prototxt").write_text(models.text(message))
    return folder


def train_script(*arguments, **options):
    """Starts scripts/train.py as a user would; a Popen. One thread: there is next to nothing to
    compute."""
    return subprocess.Popen(
        [ROOT / "scripts/train.py", *map(str, arguments)],
        text=True,
        encoding="utf-8",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        **options,
    )


def run_script(*arguments, **options):
    """Runs scripts/train.py to its end; returns (exit status, stdout, stderr)."""
    process = train_script(*arguments, **options)
    stdout, stderr = process.communicate(timeout=120)
    return process.returncode, stdout, stderr


def rows(folder):
    """Of a run folder's metrics.csv."""
    return Metrics.load(folder / "metrics.csv").rows


def column(folder, name):
    return [row[name] for row in rows(folder)]


def snapshot(folder, iteration=12, variant="acu"):
    return folder / "snapshots" / f"digits_tiny_{variant}_iter_{iteration}.caffemodel"


def blobs(path):
    """{layer: its blobs} of a .caffemodel."""
    net = locate.caffe_pb2().NetParameter.FromString(path.read_bytes())
    return {layer.name: [list(blob.data) for blob in layer.blobs] for layer in net.layer}
