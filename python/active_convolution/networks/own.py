"""Networks of a user's own to begin with: one of the paper's, for other images."""

import dataclasses
import os
import tempfile
from pathlib import Path

from ..caffe import guard, locate, messages
from ..errors import BadValue
from ..files import whole_folder
from . import models, schedules

_LARGEST_BATCH = 100
_OF_POSITIONS = ("position_lr_mult", "warmup_iter", "position_limit")


def new(output, like, images=None, test_images=None, **given):
    """Writes ``output``/<variant>/{train_val,deploy,solver}.prototxt in both variants, whole or not
    at all: the network ``like``, such as "cifar10/plain", for other images, with a schedule for as
    many training ``images`` and a test that sees each of ``test_images`` once. Returns the
    SolverParameter and the warm-up, in iterations.

    ``given`` are, None for what that network has: ``classes``, ``size`` (height and width, pixels),
    ``channels``, and the ``mean`` of each to subtract; and of every active convolution
    ``position_lr_mult``, ``warmup_iter`` and ``position_limit`` (pixels). Training crops at random
    where the database holds larger images, testing takes their middle. Caffe ends the process where
    it cannot build the network, as for images that are too small for it.
    """
    given = {name: value for name, value in given.items() if value is not None}
    positions = {name: given.pop(name) for name in _OF_POSITIONS if name in given}
    model, output = _model(like, output, test_images, given), Path(output)
    size = f"{model.dataset.size}×{model.dataset.size}"
    with guard.doing(f"building {like} for {size} pixels"), tempfile.TemporaryFile("w+") as file:
        print(models.text(models.deploy(model, "acu")), file=file, flush=True)
        locate.caffe().Net(f"/proc/self/fd/{file.fileno()}", locate.caffe().TEST)
    with whole_folder(output) as folder:
        for variant in models.VARIANTS:
            solver, net = models.solver(model, variant), models.train_val(model, variant)
            deploy = models.deploy(model, variant)
            solver.net = str(output / variant / "train_val.prototxt")
            solver.snapshot_prefix = f"runs/{model.dataset.name}_{variant}"
            if images is not None:
                length = schedules.proposed(model.dataset, images)
                schedules.shorten(solver, length, net, deploy)
            for layer in [*net.layer, *deploy.layer]:
                for name, value in positions.items() if layer.type == "ActiveConvolution" else ():
                    setattr(layer.active_convolution_param, name, value)
            for kind, message in zip(models.KINDS, (net, deploy, solver)):
                path = folder / variant / f"{kind}.prototxt"
                path.parent.mkdir(exist_ok=True)
                head = f"# From acu models new --like {like}: yours to change.\n"
                path.write_text(head + models.text(message), encoding="utf-8")
    active = messages.read_net(output / "acu/train_val.prototxt").layer
    return solver, max(layer.active_convolution_param.warmup_iter for layer in active)


def _model(like, output, test_images, given):
    """The Model ``like`` for other images."""
    found = models.named(like)
    if found is None:
        known = ", ".join(model.folder for model in models.MODELS)
        raise BadValue(f"--like {like} is not one of the networks here: give one of {known}")
    name = os.path.basename(os.path.realpath(output))
    task = dataclasses.replace(found.dataset, name=name, crops=True, **given)
    if test_images is not None:
        batch, rounds = schedules.one_pass(test_images, _LARGEST_BATCH)
        task = dataclasses.replace(task, test_batch=batch, test_iter=rounds)
    if len(task.mean) not in (0, 1, task.channels):
        task = dataclasses.replace(task, mean=())
    return dataclasses.replace(
        found, dataset=dataclasses.replace(task, top5=task.top5 and task.classes > 5)
    )
