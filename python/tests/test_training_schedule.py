"""A shorter training keeps its shape; rates, and how far a synapse can go."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from active_convolution.caffe import locate
from active_convolution.errors import UserError
from active_convolution.networks import models
from active_convolution.networks.schedules import shorten
from active_convolution.training import schedule

CIFAR10 = models.named("cifar10/plain")


def shortened(model, max_iter, variant="acu", **solver):
    """What ``shorten`` makes of a model: its SolverParameter, and the NetParameter's warm-ups."""
    message, net = models.solver(model, variant), models.train_val(model, variant)
    message.MergeFrom(type(message)(**solver))
    shorten(message, max_iter, net)
    active = [layer for layer in net.layer if layer.type == "ActiveConvolution"]
    warmups = [layer.active_convolution_param.warmup_iter for layer in active]
    return SimpleNamespace(solver=message, net=net, warmups=warmups)


def test_everything_moves_in_proportion():
    short = shortened(CIFAR10, 1500)
    assert (short.solver.max_iter, list(short.solver.stepvalue)) == (1500, [750, 1125])
    assert short.warmups == [234] * 6  # 10000 · 1500 / 64000
    intervals = short.solver.test_interval, short.solver.snapshot, short.solver.display
    assert intervals == (375, 375, 15), "often enough"


def test_a_training_that_was_to_stop_early_keeps_its_own_proportions():
    """The paper stopped the residual network on Places365 at 350k of its schedule's 400k."""
    short = shortened(models.named("places365/residual"), 3500)
    assert (short.solver.max_iter, list(short.solver.stepvalue)) == (3500, [2000, 3000])
    assert short.warmups == [500] * 8


@pytest.mark.parametrize("max_iter", [1, 2, 3, 10, 100])
@pytest.mark.parametrize("model", models.MODELS, ids=lambda model: model.folder)
def test_the_first_iteration_has_the_whole_rate(model, max_iter):
    """At a step of 0, Caffe would lower the rate before it."""
    short = shortened(model, max_iter).solver
    assert len(short.stepvalue) == 2 and 1 <= short.stepvalue[0] <= short.stepvalue[1] <= max_iter
    assert min(short.test_interval, short.snapshot, short.display) >= 1


def test_intervals_never_grow_and_what_is_off_stays_off():
    long = shortened(CIFAR10, 128000).solver
    assert list(long.stepvalue) == [64000, 96000]
    assert (long.test_interval, long.snapshot, long.display) == (1000, 4000, 100)
    assert shortened(CIFAR10, 100, snapshot=0).solver.snapshot == 0


@pytest.mark.parametrize("model", models.MODELS, ids=lambda model: model.folder)
def test_the_whole_length_changes_nothing(model):
    whole = shortened(model, model.dataset.max_iter)
    assert whole.solver == models.solver(model, "acu")
    assert whole.net == models.train_val(model, "acu")


RATES = {
    "fixed": lambda solver, i: 1,
    "step": lambda solver, i: solver.gamma ** (i // solver.stepsize),
    "exp": lambda solver, i: solver.gamma**i,
    "inv": lambda solver, i: (1 + solver.gamma * i) ** -solver.power,
    "poly": lambda solver, i: (1 - i / solver.max_iter) ** solver.power,
    "sigmoid": lambda solver, i: 1 / (1 + math.exp(-solver.gamma * (i - solver.stepsize))),
}


@pytest.mark.parametrize("policy", RATES)
def test_rates_are_caffes_and_move_in_proportion(policy, tmp_path):
    """As Caffe's own solver has them, iteration by iteration."""
    settings = dict(lr_policy=policy, gamma=0.9 if policy in ("exp", "step") else 0.1)
    solver = models.solver(CIFAR10, "acu")
    solver.MergeFrom(type(solver)(power=0.75, stepsize=4, max_iter=12, **settings))
    found = schedule.rates(solver)
    wanted = [solver.base_lr * RATES[policy](solver, i) for i in range(12)]
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    if policy in ("exp", "inv", "sigmoid"):
        short = type(solver).FromString(solver.SerializeToString())
        shorten(short, 6, models.train_val(CIFAR10, "acu"))
        np.testing.assert_allclose(schedule.rates(short), wanted[::2], rtol=1e-5)


def test_a_synapse_can_go_as_far_as_its_steps_add_up():
    """With momentum 0.9 each is repeated up to ten times; Adam's and raw ones have no such
    bound."""
    solver, net = models.solver(CIFAR10, "acu"), models.train_val(CIFAR10, "acu")
    rates = 22000 * 0.1 + 16000 * 0.01 + 16000 * 0.001  # after the warm-up
    assert schedule.reach(solver, net) == pytest.approx(10 * 0.01 * rates, rel=1e-5)
    assert schedule.reach(solver, models.train_val(CIFAR10, "baseline")) is None
    for layer in net.layer:
        if layer.type == "ActiveConvolution":
            layer.active_convolution_param.normalize_gradient = False
    assert schedule.reach(solver, net) is None
    solver.type = "Adam"
    assert schedule.reach(solver, models.train_val(CIFAR10, "acu")) is None


def test_the_longest_warm_up_counts():
    net = locate.caffe_pb2().NetParameter()
    assert schedule.warmup_iter(net) == 0
    for warmup_iter in (3, 7, 5):
        net.layer.add().active_convolution_param.warmup_iter = warmup_iter
    assert schedule.warmup_iter(net) == 7


@pytest.mark.parametrize("gamma, max_iter", [(-0.5, 96_000), (1e38, 32_000), (1.1, 1)])
def test_a_rate_that_knows_no_other_length_is_refused(gamma, max_iter):
    """gamma ** iter: -0.5 ** 1.5 is not real, and the others' powers are no float32."""
    with pytest.raises(UserError, match="lr_policy exp .* cannot be brought to another number"):
        shortened(CIFAR10, max_iter, lr_policy="exp", gamma=gamma)
