"""A shorter training keeps its shape."""

import math
import re
from types import SimpleNamespace

import pytest
from active_convolution.caffe import locate
from active_convolution.errors import UserError
from active_convolution.networks import models
from active_convolution.training import schedule

CIFAR10 = next(model for model in models.MODELS if model.folder == "cifar10/plain")


def shortened(model, max_iter, variant="acu", **solver):
    """What ``shorten`` makes of a model: its SolverParameter, and the NetParameter's warm-ups."""
    message, net = models.solver(model, variant), models.train_val(model, variant)
    message.MergeFrom(type(message)(**solver))
    schedule.shorten(message, net, max_iter)
    warmups = [
        layer.active_convolution_param.warmup_iter
        for layer in net.layer
        if layer.type == "ActiveConvolution"
    ]
    return SimpleNamespace(solver=message, net=net, warmups=warmups)


def test_everything_moves_in_proportion():
    short = shortened(CIFAR10, 1500)
    assert short.solver.max_iter == 1500
    assert list(short.solver.stepvalue) == [750, 1125]
    assert short.warmups == [234] * 6  # 10000 · 1500 / 64000


def test_a_training_that_was_to_stop_early_keeps_its_own_proportions():
    """The paper stopped the residual network on Places365 at 350k of the 400k iterations of its schedule."""
    residual = next(model for model in models.MODELS if model.folder == "places365/residual")
    short = shortened(residual, 3500)
    assert (short.solver.max_iter, list(short.solver.stepvalue)) == (3500, [2000, 3000])
    assert short.warmups == [500] * 8


@pytest.mark.parametrize("max_iter", [1, 2, 3, 10, 100])
@pytest.mark.parametrize("model", models.MODELS, ids=lambda model: model.folder)
def test_the_first_iteration_has_the_whole_rate(model, max_iter):
    steps = shortened(model, max_iter).solver.stepvalue
    assert len(steps) == 2 and 1 <= steps[0] <= steps[1] <= max_iter


def test_tests_snapshots_and_lines_come_often_enough():
    short = shortened(CIFAR10, 1500).solver
    assert (short.test_interval, short.snapshot, short.display) == (375, 375, 15)


def test_intervals_never_grow():
    long = shortened(CIFAR10, 128000).solver
    assert list(long.stepvalue) == [64000, 96000]
    assert (long.test_interval, long.snapshot, long.display) == (1000, 4000, 100)


@pytest.mark.parametrize("model", models.MODELS, ids=lambda model: model.folder)
def test_the_whole_length_changes_nothing(model):
    whole = shortened(model, model.dataset.max_iter)
    assert whole.solver == models.solver(model, "acu")
    assert whole.net == models.train_val(model, "acu")


def test_one_iteration_is_a_schedule_too():
    short = shortened(CIFAR10, 1)
    assert short.warmups == [0] * 6
    assert list(short.solver.stepvalue) == [
        1,
        1,
    ]  # at 0, Caffe would lower the rate before the iteration
    assert (short.solver.test_interval, short.solver.snapshot, short.solver.display) == (1, 1, 1)


def test_what_is_switched_off_stays_off():
    assert shortened(CIFAR10, 100, snapshot=0).solver.snapshot == 0


def test_stepsize_moves_and_stays_positive():
    assert shortened(CIFAR10, 6400, stepsize=50).solver.stepsize == 5
    assert shortened(CIFAR10, 64, stepsize=50).solver.stepsize == 1


@pytest.mark.parametrize(
    "policy, rate",
    [
        ("exp", lambda solver, i: solver.gamma**i),
        ("inv", lambda solver, i: (1 + solver.gamma * i) ** -solver.power),
        ("sigmoid", lambda solver, i: 1 / (1 + math.exp(-solver.gamma * (i - solver.stepsize)))),
    ],
)
def test_smooth_rates_move_in_proportion(policy, rate):
    settings = dict(
        lr_policy=policy, gamma=0.99995 if policy == "exp" else 0.0001, power=0.75, stepsize=32000
    )
    whole, short = (shortened(CIFAR10, max_iter, **settings).solver for max_iter in (64000, 1600))
    for part in (0, 0.25, 1):
        assert rate(short, 1600 * part) == pytest.approx(rate(whole, 64000 * part), rel=1e-3)
    assert rate(short, 1600) != pytest.approx(rate(short, 0), rel=0.1)


def test_a_network_without_active_convolutions_is_shortened_alike():
    short = shortened(CIFAR10, 1500, "baseline")
    assert list(short.solver.stepvalue) == [750, 1125]
    assert short.net == models.train_val(CIFAR10, "baseline")


def test_the_longest_warm_up_counts():
    net = locate.caffe_pb2().NetParameter()
    assert schedule.warmup_iter(net) == 0
    for warmup_iter in (3, 7, 5):
        net.layer.add().active_convolution_param.warmup_iter = warmup_iter
    net.layer.add(type="Convolution")
    assert schedule.warmup_iter(net) == 7


def test_no_length_leads_out_of_an_integer():
    most = 2**31 - 1
    long = shortened(CIFAR10, most, stepsize=128_000, stepvalue=[most]).solver
    assert long.stepsize == max(long.stepvalue) == most
    solver, net = models.solver(CIFAR10, "acu"), models.train_val(CIFAR10, "acu")
    active = next(
        layer for layer in net.layer if layer.type == "ActiveConvolution"
    ).active_convolution_param
    active.warmup_iter = 2**32 - 1
    schedule.shorten(solver, net, 128_000)
    assert active.warmup_iter == most


@pytest.mark.parametrize("gamma, max_iter", [(-0.5, 96_000), (1e38, 32_000), (1.1, 1)])
def test_a_rate_that_knows_no_other_length_is_refused(gamma, max_iter):
    """gamma ** iter: -0.5 ** 1.5 is no real number, and the others' powers are no float32."""
    with pytest.raises(
        UserError,
        match=f"lr_policy exp with gamma {re.escape(f'{gamma:g}')} cannot be brought to another number",
    ):
        shortened(CIFAR10, max_iter, lr_policy="exp", gamma=gamma)
