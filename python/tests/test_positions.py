"""Positions from snapshots and from live nets."""

import types

import numpy as np
import pytest
from active_convolution import geometry
from active_convolution.caffe import locate, positions
from active_convolution.errors import UserError

# In AConvFast's order.
RING = [(0, 0), (1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1)]


@pytest.fixture(scope="session")
def pb2():
    return locate.caffe_pb2()


def add_layer(net, name, kind, x, y, old_style=False):
    """Adds a layer whose positions ``x`` and ``y`` are nested lists (position_group, 1, kh, kw)."""
    layer = net.layer.add(name=name, type=kind)
    for values in (
        np.ones((2, 1, *np.shape(x)[2:])),
        np.zeros((1, 1, 1, 1)),
        np.array(x),
        np.array(y),
    ):
        blob = layer.blobs.add(data=values.ravel())
        if old_style:
            blob.num, blob.channels, blob.height, blob.width = values.shape
        else:
            blob.shape.dim.extend(values.shape)
    return layer


def add_at_grid(net, name, kind, kernel, position_group=1):
    xy = np.tile(geometry.grid(kernel), (position_group, 1, 1)).reshape(
        position_group, 1, *kernel, 2
    )
    return add_layer(net, name, kind, xy[..., 0], xy[..., 1])


@pytest.fixture
def write(tmp_path):
    def write(net):
        path = tmp_path / "some.caffemodel"
        path.write_bytes(net.SerializeToString())
        return path

    return write


# ---- Snapshots


@pytest.mark.parametrize("old_style", [False, True])
def test_snapshot_gives_layers_in_network_order(pb2, write, old_style):
    net = pb2.NetParameter()
    add_layer(net, "b/2", "AConvFast", [[[[1, 2, 3]]]], [[[[4, 5, 6]]]], old_style)
    net.layer.add(name="relu", type="ReLU")
    add_layer(
        net,
        "a/1",
        "ActiveConvolution",
        [[[[0.5], [-1]]], [[[2], [3]]]],
        [[[[7], [8]]], [[[9], [10]]]],
        old_style,
    )
    fast, ours = positions.from_caffemodel(write(net))
    assert (fast.name, fast.type, fast.kernel) == ("b/2", "AConvFast", (1, 3))
    assert (ours.name, ours.type, ours.kernel) == ("a/1", "ActiveConvolution", (2, 1))
    assert ours.xy.dtype == np.float32
    np.testing.assert_array_equal(fast.xy, [[(1, 4), (2, 5), (3, 6)]])
    np.testing.assert_array_equal(ours.xy, [[(0.5, 7), (-1, 8)], [(2, 9), (3, 10)]])


def test_snapshot_in_double_precision(pb2, write):
    net = pb2.NetParameter()
    for blob in add_layer(net, "a", "ActiveConvolution", [[[[0, 1.25]]]], [[[[0, 2.5]]]]).blobs:
        blob.double_data.extend(blob.data)
        blob.ClearField("data")
    np.testing.assert_array_equal(
        positions.from_caffemodel(write(net))[0].xy, [[(0, 0), (1.25, 2.5)]]
    )


def test_start_is_the_dilated_grid(pb2, write):
    net = pb2.NetParameter()
    add_at_grid(
        net, "a", "ActiveConvolution", (3, 3), position_group=2
    ).convolution_param.dilation.extend([1, 2])
    (found,) = positions.from_caffemodel(write(net))
    np.testing.assert_array_equal(found.start, [geometry.grid((3, 3), (1, 2))] * 2)
    np.testing.assert_array_equal(found.displacement(), [[1, 0, 1] * 3] * 2)
    np.testing.assert_array_equal(found.farthest(), (-1, -1))


@pytest.mark.parametrize(
    "explicit, expected",
    [
        ([(0, 0), (0.5, 2)], [[(0, 0), (0.5, 2)]] * 2),
        ([(0, 0), (0.5, 2), (1, 1), (3, 4)], [[(0, 0), (0.5, 2)], [(1, 1), (3, 4)]]),
    ],
)
def test_start_is_the_explicit_shape(pb2, write, explicit, expected):
    net = pb2.NetParameter()
    message = add_at_grid(net, "a", "ActiveConvolution", (1, 2), position_group=2)
    for x, y in explicit:
        message.active_convolution_param.position.add(x=x, y=y)
    np.testing.assert_array_equal(positions.from_caffemodel(write(net))[0].start, expected)


def test_start_of_aconvfast_is_its_rounded_circle_or_unknown(pb2, write):
    rounded = (
        b"\x55" + np.float32(-1).tobytes() + b"\x58\x01"
    )  # field 10 = −1, 11 = 1, as the authors' files
    noisy = b"\x55" + np.float32(0.05).tobytes()
    net = pb2.NetParameter()
    for name, parameters in (
        ("rounded", rounded),
        ("noisy", noisy),
        ("silent", b""),
        ("other", rounded + b"\x18\x01"),
        ("text", b"\x52\x01x"),
        ("long", b"\x51" + bytes(7) + b"\xbf"),
        ("whole", b"\x50\x01"),
    ):
        add_at_grid(net, name, "AConvFast", (3, 3)).swish_param.MergeFromString(parameters)
    known, *unknown = positions.from_caffemodel(write(net))
    np.testing.assert_array_equal(known.start, [RING])
    assert [layer.start for layer in unknown] == [None] * 6 and unknown[0].displacement() is None


@pytest.mark.parametrize(
    "parameters, known",
    [
        ("pos_filler_std: -1", True),
        ("pos_filler_std: 0 base_radius: 1.7 base_angle: 0.3 position_group: 2", True),
        ("pos_filler_std: -1 base_radius: 2.2 type: CIRCLE", True),
        ("pos_filler_std: 0.05", False),
        ("", False),
    ],
)
def test_start_of_aconvfast_is_where_the_untrained_layer_puts_its_synapses(
    tmp_path, parameters, known
):
    model, snapshot = tmp_path / "net.prototxt", tmp_path / "net.caffemodel"
    model.write_text(f"""
        layer {{ name: "data" type: "Input" top: "data"
                input_param {{ shape {{ dim: [1, 1, 5, 5] }} }} }}
        layer {{ name: "a" type: "AConvFast" bottom: "data" top: "a"
                convolution_param {{ num_output: 2 kernel_size: 3 bias_term: false }}
                aconv_param {{ {parameters} }} }}""")
    locate.caffe().Net(str(model), locate.caffe().TEST).save(str(snapshot))
    (layer,) = positions.from_caffemodel(snapshot)
    if known:
        np.testing.assert_allclose(layer.start, layer.xy, atol=1e-6)
    else:
        assert layer.start is None


@pytest.mark.parametrize("iteration", [10000, 30000, 64000])
def test_authors_networks(shared_reference, iteration):
    layers = positions.from_caffemodel(
        shared_reference / f"acu_plain_cifar10_iter_{iteration}.caffemodel"
    )
    assert [layer.name for layer in layers] == [
        "conv1_1",
        "conv1_1/1",
        "conv1_1/2",
        "conv2_1/1",
        "conv2_1/2",
        "conv3_1/1",
        "conv3_1/2",
    ]
    assert [layer.kernel for layer in layers] == [(1, 1)] + 6 * [(3, 3)]
    moved = [layer.displacement().max() for layer in layers]
    if iteration == 10000:
        assert moved == [0] * 7
        np.testing.assert_array_equal(
            sorted(map(tuple, layers[3].xy[0])), sorted(map(tuple, geometry.grid((3, 3))))
        )
    else:
        assert moved[0] == 0 and all(0.02 < distance < 1 for distance in moved[1:])
    if iteration == 64000:
        assert max(np.abs(layer.xy).max() for layer in layers) == pytest.approx(1.64, abs=0.005)


# ---- Snapshots that are none


def _truncated(net):
    return net.SerializeToString()[:-3]


def _without_active_layer(net):
    net.layer[0].type = "Convolution"
    return net.SerializeToString()


def _three_blobs(net):
    del net.layer[0].blobs[3]
    return net.SerializeToString()


def _no_blobs(net):
    del net.layer[0].blobs[:]
    return net.SerializeToString()


def _other_shape(net):
    net.layer[0].blobs[3].shape.dim[2:] = [1, 9]
    return net.SerializeToString()


def _two_channels(net):
    for blob in net.layer[0].blobs[2:]:
        blob.shape.dim[:] = [1, 9, 1, 1]
    return net.SerializeToString()


def _no_synapse(net):
    for blob in net.layer[0].blobs[2:]:
        blob.shape.dim[2:] = [3, 0]
        blob.ClearField("data")
    return net.SerializeToString()


def _fewer_values(net):
    del net.layer[0].blobs[2].data[5:]
    return net.SerializeToString()


def _a_shape_below_zero(net):
    net.layer[0].blobs[2].shape.dim[:] = net.layer[0].blobs[3].shape.dim[:] = [1, 1, -3, -3]
    return net.SerializeToString()


@pytest.mark.parametrize(
    "spoil, complaint",
    [
        (_truncated, "damaged or no .caffemodel"),
        (lambda net: net.SerializeToString() + b"\x00 appended", "damaged or no .caffemodel"),
        (lambda net: b"", "damaged or no .caffemodel"),
        (lambda net: b"layer { type: 'ActiveConvolution' }\n", "the prototxt of a network"),
        (_without_active_layer, "no ActiveConvolution or AConvFast layer"),
        (lambda net: b"\x89HDF\r\n\x1a\n and more", "cannot read"),
        (_three_blobs, "conv/1 of .* has blobs 2×1×3×3, 1×1×1×1, 1×1×3×3:"),
        (_no_blobs, "conv/1 of .* has blobs none"),
        (_other_shape, "conv/1 of .* 1×1×1×9"),
        (_two_channels, "conv/1 of .* 1×9×1×1"),
        (_no_synapse, "conv/1 of .* 1×1×3×0"),
        (_fewer_values, "a blob of conv/1 has other values"),
        (_a_shape_below_zero, "a blob of conv/1 has other values"),
    ],
)
def test_bad_snapshot_is_named(pb2, tmp_path, spoil, complaint):
    net = pb2.NetParameter()
    add_at_grid(net, "conv/1", "ActiveConvolution", (3, 3))
    path = tmp_path / "bad.caffemodel"
    path.write_bytes(spoil(net))
    with pytest.raises(UserError, match=complaint) as raised:
        positions.from_caffemodel(path)
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)


def test_a_start_that_no_layer_can_have_is_unknown(pb2, write):
    net = pb2.NetParameter()
    add_at_grid(net, "conv/1", "ActiveConvolution", (3, 3)).convolution_param.dilation.extend(
        [1, 2, 3]
    )
    layer = add_at_grid(net, "conv/2", "ActiveConvolution", (1, 2))
    layer.active_convolution_param.position.extend(
        [pb2.ActiveConvolutionParameter.Position(x=np.inf)] * 2
    )
    assert all(layer.start is None for layer in positions.from_caffemodel(write(net)))


def test_snapshot_that_cannot_be_read(tmp_path):
    for path in (tmp_path / "missing.caffemodel", tmp_path):
        with pytest.raises(UserError, match=f"cannot read {path}: "):
            positions.from_caffemodel(path)


# ---- Live nets


def fake_net(*layers):
    """What from_net touches of a pycaffe Net; a layer is (name, type, blob arrays)."""
    return types.SimpleNamespace(
        _layer_names=[name for name, _, _ in layers],
        layers=[
            types.SimpleNamespace(
                type=kind, blobs=[types.SimpleNamespace(data=data) for data in blobs]
            )
            for _, kind, blobs in layers
        ],
    )


def test_live_net():
    x, y = np.arange(12.0).reshape(2, 1, 2, 3), -np.arange(12.0).reshape(2, 1, 2, 3)
    active = ("conv/1", "ActiveConvolution", [np.ones((4, 3, 2, 3)), np.ones(4), x, y])
    (found,) = positions.from_net(fake_net(("data", "Data", []), active))
    assert (found.name, found.kernel, found.start, found.xy.dtype) == (
        "conv/1",
        (2, 3),
        None,
        np.float32,
    )
    x += 100
    np.testing.assert_array_equal(found.xy[1], [(k, -k) for k in range(6, 12)], "must be a copy")


def test_live_net_without_active_convolution_is_empty():
    assert positions.from_net(fake_net(("conv", "Convolution", [np.ones((4, 3, 2, 3))]))) == []


def test_live_net_with_other_blobs():
    with pytest.raises(UserError, match="layer conv has blobs 4×3×2×3: "):
        positions.from_net(fake_net(("conv", "AConvFast", [np.ones((4, 3, 2, 3))])))


def test_pycaffe_net_and_its_snapshot_agree(tmp_path):
    caffe = locate.caffe()
    (tmp_path / "net.prototxt").write_text("""
        layer { name: "data" type: "Input" top: "data" input_param { shape { dim: [1, 2, 8, 8] } } }
        layer { name: "conv/1" type: "ActiveConvolution" bottom: "data" top: "a"
                convolution_param { num_output: 4 kernel_h: 2 kernel_w: 3 dilation: 2
                                    weight_filler { type: "xavier" } }
                active_convolution_param { position_group: 2 } }
        layer { name: "conv/2" type: "ActiveConvolution" bottom: "a" top: "b"
                convolution_param { num_output: 4 kernel_h: 1 kernel_w: 2 }
                active_convolution_param { position { x: 0 y: 0 } position { x: -1.5 y: 0.5 } } }
        """)
    net = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST)
    net.save(str(tmp_path / "net.caffemodel"))
    from_file = positions.from_caffemodel(tmp_path / "net.caffemodel")
    from_net = positions.from_net(net)
    assert len(from_net) == len(from_file)
    for live, saved in zip(from_net, from_file):
        assert (live.name, live.type, live.kernel) == (saved.name, saved.type, saved.kernel)
        np.testing.assert_array_equal(live.xy, saved.xy)
        np.testing.assert_array_equal(live.xy, saved.start, "an untrained layer is where it starts")
