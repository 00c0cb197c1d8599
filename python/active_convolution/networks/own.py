"""Networks of a user's own to begin with: one of the paper's, for other images."""

import dataclasses
import os
from pathlib import Path

from ..caffe import nets
from ..errors import BadValue, UserError
from ..files import whole_folder
from . import models
from .schedules import one_pass

_LARGEST_BATCH = 100


def new(output, like, classes=None, size=None, channels=None, test_images=None, mean=()):
    """Writes ``output``/<variant>/{train_val,deploy,solver}.prototxt in both variants, whole or not
    at all: the network ``like``, such as "cifar10/plain", for images of ``size``×``size`` pixels
    with ``channels`` of ``classes`` classes, less the ``mean`` of each channel; tests see
    ``test_images``. None leaves what that network has.

    Training crops at random where the database holds larger images, testing takes their middle.
    Raises UserError where Caffe cannot build the network, as for images that are too small for it.
    """
    output = Path(output)
    model = _model(
        like,
        os.path.basename(os.path.realpath(output)),
        classes=classes,
        size=size,
        channels=channels,
        mean=tuple(mean) or None,
        **_tests(test_images),
    )
    with whole_folder(output) as folder:
        for variant in models.VARIANTS:
            solver = models.solver(model, variant)
            solver.net = str(output / variant / "train_val.prototxt")
            solver.snapshot_prefix = f"runs/{model.dataset.name}_{variant}"
            for kind, message in (
                ("train_val", models.train_val(model, variant)),
                ("deploy", models.deploy(model, variant)),
                ("solver", solver),
            ):
                path = folder / variant / f"{kind}.prototxt"
                path.parent.mkdir(exist_ok=True)
                path.write_text(
                    f"# From acu models new --like {like}: yours to change.\n{models.text(message)}",
                    encoding="utf-8",
                )
        nets.check_net(
            folder / models.VARIANTS[1] / "deploy.prototxt",
            f"{like} for {model.dataset.size}×{model.dataset.size}",
        )


def _model(like, name, **changes):
    """The Model ``like`` with a Task called ``name`` and with those of ``changes`` that are not
    None."""
    found = next((model for model in models.MODELS if model.folder == like), None)
    if found is None:
        raise BadValue(
            f"--like {like} is none of the networks here: give one of "
            + ", ".join(model.folder for model in models.MODELS)
        )
    given = {field: value for field, value in changes.items() if value is not None}
    task = dataclasses.replace(found.dataset, name=name, crops=True, **given)
    if len(task.mean) not in (0, 1, task.channels):
        task = dataclasses.replace(task, mean=())
    if task.top5 and task.classes <= 5:
        task = dataclasses.replace(task, top5=False)
    if task.classes < 2:
        raise UserError("--classes 1 leaves nothing to tell apart: give 2 or more")
    return dataclasses.replace(found, dataset=task)


def _tests(images):
    """test_batch and test_iter that see each of so many ``images`` once, or, where that takes tiny
    batches, some twice."""
    if images is None:
        return {}
    return dict(zip(("test_batch", "test_iter"), one_pass(images, _LARGEST_BATCH)))
