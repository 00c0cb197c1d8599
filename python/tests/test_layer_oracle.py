"""The layer on random configurations of the whole contract: against the paper's equations, and
against Convolution.

Every case is a net of one layer, in float; what it computes may differ from the oracle's double
precision by ``TOLERANCE`` of the largest number in the array. A case that fails prints its
prototxt.
"""

import numpy as np
import pytest
from active_convolution.caffe import locate
from active_convolution.check import oracle
from active_convolution.check.cases import FAR, random_case

CASES = 150
UNTRAINED_CASES = 60
TOLERANCE = 1e-5


def load(case, path, layer_type="ActiveConvolution"):
    """The case's net, with zeros for gradients. Prints the prototxt, which pytest shows where the
    test fails."""
    text = case.net(layer_type)
    print(text)
    path.write_text(text)
    net = locate.caffe().Net(str(path), locate.caffe().TEST)
    net.clear_param_diffs()
    return net


def fill(net, case, seed):
    """Random images, weights, bias where there is one, and gradient of the output."""
    draw = np.random.default_rng(seed)
    blobs = net.params["layer"][:2] if case.bias else net.params["layer"][:1]
    for array in (net.blobs["image"].data, net.blobs["top"].diff, *(blob.data for blob in blobs)):
        array[...] = draw.normal(size=array.shape)


def move(net, seed):
    """Leaves some synapses where they started, and puts others on the lattice, anywhere near, and
    far outside."""
    draw = np.random.default_rng(seed)
    for blob in net.params["layer"][2:]:
        start = blob.data.copy()
        places = [
            start,
            draw.integers(-4, 5, start.shape),
            draw.choice(FAR, start.shape),
            *draw.uniform(-3, 3, (4, *start.shape)),
        ]
        blob.data[...] = np.choose(draw.integers(0, len(places), start.shape), places)


def results(net):
    """The output and all gradients of one pass, as a dict of copies."""
    net.forward()
    net.backward()
    gradients = dict(
        zip(("weight", "bias", "x", "y"), net.params["layer"]), image=net.blobs["image"]
    )
    return {
        "top": net.blobs["top"].data.copy(),
        **{name: blob.diff.copy() for name, blob in gradients.items()},
    }


def expected(net, case):
    """The oracle's ``results``, from what is in the net."""
    image = net.blobs["image"].data.astype(float)
    weight, bias, x, y = (blob.data.astype(float) for blob in net.params["layer"])
    gradients = oracle.backward(
        case.shape, image, weight, x, y, net.blobs["top"].diff.astype(float)
    )
    if not case.bias:
        gradients["bias"] = np.zeros(bias.shape)  # a blob of zero that is never updated
    return {"top": oracle.forward(case.shape, image, weight, bias, x, y), **gradients}


def assert_close(name, array, reference):
    """Within TOLERANCE of the largest number; where all are zero, exactly zero."""
    assert array.shape == reference.shape, name
    largest = np.abs(reference).max(initial=0, where=np.isfinite(reference))
    np.testing.assert_allclose(array, reference, rtol=0, atol=TOLERANCE * largest, err_msg=name)


@pytest.mark.parametrize("seed", range(CASES))
def test_layer_computes_the_papers_equations(seed, tmp_path):
    """Output, and gradients of weight, bias, x, y and input, with synapses on the lattice, off it,
    and far outside."""
    case = random_case(seed)
    net = load(case, tmp_path / "net.prototxt")
    fill(net, case, seed)
    move(net, seed)
    found, reference = results(net), expected(net, case)
    for name in reference:
        assert_close(name, found[name], reference[name])


@pytest.mark.parametrize("seed", range(10))
def test_nan_position_gives_nan(seed, tmp_path):
    """All that the lost synapse reads is NaN, and so are its gradients; what has no part in it
    stays as it should be.

    Where such a synapse would put its share of the input's gradient is nobody's promise: that is
    not compared.
    """
    case = random_case(1000 + seed)
    net = load(case, tmp_path / "net.prototxt")
    fill(net, case, seed)
    x, y = net.params["layer"][2:]
    lost = tuple(np.random.default_rng(seed).integers(0, x.data.shape))
    (x, y)[seed % 2].data[lost] = np.nan
    found, reference = results(net), expected(net, case)
    assert np.isnan(found["top"]).any() and np.isnan(found["weight"]).any()
    assert np.isnan(found["x"][lost]) or np.isnan(found["y"][lost])
    for name in ("top", "weight", "bias", "x", "y"):
        if name in ("x", "y"):
            found[name][lost] = reference[name][lost] = 0
        assert_close(name, found[name], reference[name])


@pytest.mark.parametrize("seed", range(UNTRAINED_CASES))
def test_untrained_layer_is_convolution(seed, tmp_path):
    """Caffe's own Convolution with the same weights gives the same output, its shape included, and
    the same gradients."""
    case = random_case(2000 + seed, untrained=True)
    nets = [
        load(case, tmp_path / "active.prototxt"),
        load(case, tmp_path / "plain.prototxt", "Convolution"),
    ]
    for net in nets:
        fill(net, case, seed)
    found, reference = map(results, nets)
    for name in ("top", "image", "weight", *(["bias"] if case.bias else [])):
        assert_close(name, found[name], reference[name])


@pytest.mark.parametrize("seed", range(20))
def test_positions_start_where_the_prototxt_says(seed, tmp_path):
    """On the grid, or at the explicit positions: one list for all sets, or set by set."""
    case = random_case(3000 + seed)
    net = load(case, tmp_path / "net.prototxt")
    start = case.shape.grid() if case.positions is None else case.positions.T
    for blob, values in zip(net.params["layer"][2:], start):
        listed = values.reshape(-1, 1, *case.shape.kernel)
        np.testing.assert_array_equal(blob.data, np.broadcast_to(listed, blob.data.shape))


def test_the_cases_cover_the_contract():
    """The random draws meet every feature that the equations are claimed for, also where two of
    them meet."""
    cases = [random_case(seed) for seed in range(CASES)]
    shapes = [case.shape for case in cases]
    for feature in (
        [s.group > 1 and s.position_group > 1 and s.group != s.position_group for s in shapes],
        [s.group > 1 and s.position_group == s.group for s in shapes],
        [s.kernel[0] % 2 == 0 for s in shapes],
        [s.kernel[1] % 2 == 0 for s in shapes],
        [s.kernel[0] != s.kernel[1] for s in shapes],
        [s.stride[0] != s.stride[1] for s in shapes],
        [s.dilation[0] != s.dilation[1] and min(s.kernel) > 1 for s in shapes],
        [s.pad[0] != s.pad[1] for s in shapes],
        [not case.bias for case in cases],
        [s.explicit and s.position_group > 1 for s in shapes],
        [1 in case.image[2:] for case in cases],
    ):
        assert sum(feature) >= 5
