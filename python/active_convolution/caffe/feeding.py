"""Whether every layer of a network gets what it reads, in a phase and with its stages: Caffe would
say "Unknown bottom blob" and end the process."""

from ..errors import UserError
from . import locate, messages


def check_fed(net, called, stages=(), phase="TEST"):
    """Raises UserError unless each layer of the NetParameter ``net``, which messages name
    ``called``, finds its bottoms in ``phase`` ("TRAIN" or "TEST") with ``stages``: it names the
    blob and the layer, and the stages that would bring it, or the phase."""
    number = getattr(locate.caffe_pb2(), phase)
    stages = [*net.state.stage, *stages]
    given = set(net.input)
    for layer in net.layer:
        if messages.takes_part(layer, number, stages, net.state.level):
            missing = next((name for name in layer.bottom if name not in given), None)
            if missing is not None:
                of = f"{phase}, with the stages {', '.join(stages)}" if stages else phase
                raise UserError(
                    f"in {of}, no layer of {called} gives {missing}, which layer {layer.name} "
                    f"reads: {_remedy(net, missing, phase, stages)}"
                )
            given.update(layer.top)


def _remedy(net, missing, phase, stages):
    givers = [layer for layer in net.layer if missing in layer.top]
    rules = [rule for layer in givers for rule in (*layer.include, *layer.exclude)]
    others = sorted({stage for rule in rules for stage in (*rule.stage, *rule.not_stage)})
    if others and others != sorted(stages):
        return f"give --stage, the file knows {', '.join(others)}"
    if givers:
        return f"let layer {givers[0].name} or another one give it in {phase}, too"
    return "mend the file, or give another"
