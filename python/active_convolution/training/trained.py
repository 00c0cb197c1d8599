"""A trained network, as the commands take it that evaluate, predict, export and convert: the files
that are named, or those of a RUN."""

import dataclasses
from pathlib import Path
from typing import Optional

from ..caffe import locate, messages
from ..data.manifest import Manifest
from ..errors import UserError
from . import schedule
from .run_folder import existing, load


@dataclasses.dataclass(frozen=True)
class Trained:
    """``model`` is a prototxt, read with ``stages``, and ``weights`` its .caffemodel (None: those
    that its fillers draw). ``train_val`` is the prototxt that it was trained and tested with, None
    where nobody knows, with ``test_stages`` in its test; ``data`` the Manifest of its data set, or
    None."""

    model: Path
    weights: Optional[Path] = None
    stages: tuple = ()
    train_val: Optional[Path] = None
    test_stages: tuple = ()
    data: Optional[Manifest] = None

    @classmethod
    def of_run(cls, path, iteration=None):
        """The deploy network of the run folder ``path`` after ``iteration`` iterations (default:
        its newest snapshot). Raises UserError where there is none."""
        run = existing(path)
        if not run.deploy.exists():
            raise UserError(
                f"{path} has no deploy.prototxt, since its network reads no images by one data "
                "layer: write one, and give it as --model with --weights"
            )
        solver, net = load(run)
        state = schedule.state(solver, net, locate.caffe_pb2().TEST)
        return cls(
            run.deploy, run.snapshot(iteration), (), run.train_val, tuple(state.stage), run.data
        )

    @classmethod
    def of_files(cls, model, weights=None, stages=(), train_val=None):
        """These files, and by default the train_val.prototxt beside ``model``."""
        beside = Path(model).with_name("train_val.prototxt")
        train_val = train_val or (beside if beside.exists() else None)
        return cls(Path(model), weights, tuple(stages), train_val, tuple(stages))

    def test_layer(self):
        """The LayerParameter that reads its test images: where its stages leave none, the only one
        of other stages. None where no train_val is known. Raises UserError where that has no such
        layer."""
        if self.train_val is None:
            return None
        net, test = messages.read_net(self.train_val), locate.caffe_pb2().TEST
        readers = [layer for layer in net.layer if layer.type in schedule.READERS]
        stages = {*net.state.stage, *self.test_stages}
        fits = [layer for layer in readers if messages.takes_part(layer, test, stages)]
        others = [layer for layer in readers if messages.takes_part(layer, test, _stages(layer))]
        if fits or len(others) == 1:
            return (fits or others)[0]
        known = sorted(set().union(*map(_stages, others)))
        raise UserError(
            f"no layer of {self.train_val} reads data in TEST: give one that does with --train-val"
            + (f", or --stage, one of {', '.join(known)}" if known else "")
        )


def _stages(layer):
    """Those that its include rules name."""
    return {name for rule in layer.include for name in rule.stage}
