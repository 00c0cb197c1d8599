"""Positions from snapshots and nets, and their history over a run."""

import types

import numpy as np
import pytest
from active_convolution import geometry
from active_convolution.caffe import locate, messages, positions
from active_convolution.caffe.positions import History, LayerPositions
from active_convolution.errors import UserError

RING = [
    (0, 0),
    (1, 0),
    (1, 1),
    (0, 1),
    (-1, 1),
    (-1, 0),
    (-1, -1),
    (0, -1),
    (1, -1),
]  # AConvFast's order


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


def layer(name="conv1/1", xy=((0, 0), (1, 2)), kernel=(1, 2)):
    return LayerPositions(name, "ActiveConvolution", kernel, np.array([xy], np.float32))


# ---- The grid


@pytest.mark.parametrize(
    "kernel, dilation, expected",
    [
        ((1, 1), 1, [(0, 0)]),
        ((1, 3), 1, [(-1, 0), (0, 0), (1, 0)]),
        ((3, 1), 2, [(0, -2), (0, 0), (0, 2)]),
        ((2, 2), 1, [(0, 0), (1, 0), (0, 1), (1, 1)]),
        ((2, 3), (5, 2), [(-2, 0), (0, 0), (2, 0), (-2, 5), (0, 5), (2, 5)]),
    ],
)
def test_grid_is_the_taps_of_a_convolution_row_by_row(kernel, dilation, expected):
    np.testing.assert_array_equal(geometry.grid(kernel, dilation), np.array(expected, np.float32))


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


# ---- Stages


def named(*names):
    return [
        LayerPositions(name, "ActiveConvolution", (3, 3), geometry.grid((3, 3))[None])
        for name in names
    ]


def names(stages):
    return [[layer.name for layer in stage] for stage in stages]


def test_a_stage_has_one_resolution(pb2):
    """Strides add up along the way, whatever they are called and whichever layer has them; names
    say nothing."""
    net = pb2.NetParameter()
    net.layer.add(name="data", type="Input", top=["data"])
    for name, bottom, parameter in (
        ("a", "data", dict(stride=[1])),
        ("b", "a", dict(stride=[2])),
        ("c", "b", {}),
        ("d", "c", dict(stride_h=2, stride_w=2)),
        ("e", "d", dict(stride=[1, 1])),
    ):
        net.layer.add(
            name=name,
            type="ActiveConvolution",
            bottom=[bottom],
            top=[name],
            convolution_param=parameter,
        )
    net.layer.add(
        name="pool", type="Pooling", bottom=["e"], top=["pool"], pooling_param=dict(stride=2)
    )
    net.layer.add(name="relu", type="ReLU", bottom=["pool"], top=["pool"])
    net.layer.add(name="sum", type="Eltwise", bottom=["pool", "pool"], top=["sum"])
    net.layer.add(name="f", type="ActiveConvolution", bottom=["sum"], top=["f"])
    assert names(positions.by_stage(named(*"abcdef"), net)) == [
        ["a"],
        ["b", "c"],
        ["d", "e"],
        ["f"],
    ]


def test_without_a_network_all_are_in_one_stage(pb2):
    for net in (None, pb2.NetParameter()):
        assert names(positions.by_stage(named("conv1", "conv2"), net)) == [["conv1", "conv2"]]


def test_the_authors_stages(shared_reference):
    path = shared_reference / "acu_plain_cifar10_iter_64000.caffemodel"
    assert names(
        positions.by_stage(positions.from_caffemodel(path), messages.read_weights(path))
    ) == [
        ["conv1_1", "conv1_1/1", "conv1_1/2"],
        ["conv2_1/1", "conv2_1/2"],
        ["conv3_1/1", "conv3_1/2"],
    ]


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
    for live, saved in zip(positions.from_net(net), from_file, strict=True):
        assert (live.name, live.type, live.kernel) == (saved.name, saved.type, saved.kernel)
        np.testing.assert_array_equal(live.xy, saved.xy)
        np.testing.assert_array_equal(live.xy, saved.start, "an untrained layer is where it starts")


# ---- History


def moving(history, iterations):
    for iteration in iterations:
        history.append(
            iteration,
            [
                layer(xy=((0, 0), (1 + iteration / 100, 2))),
                layer("conv1/2", ((0, iteration), (5, 5), (6, 6), (7, 7)), (2, 2)),
            ],
        )
    return history


def test_history_round_trip(tmp_path):
    moving(History(warmup_iter=10), [0, 20, 30]).save(tmp_path / positions.RUN_FILE)
    again = positions.load_run(tmp_path)
    assert again.warmup_iter == 10 and again.names == ["conv1/1", "conv1/2"]
    assert again.iterations.dtype == np.int64 and list(again.iterations) == [0, 20, 30]
    first, second = again.layers()
    assert (first.name, first.type, first.kernel) == ("conv1/1", "ActiveConvolution", (1, 2))
    np.testing.assert_array_equal(second.xy[0, 0], (0, 30))
    np.testing.assert_array_equal(second.start[0, 0], (0, 0))
    with np.load(tmp_path / positions.RUN_FILE) as file:
        assert file["conv1/2"].shape == (3, 1, 4, 2) and file["conv1/2"].dtype == np.float32
    assert [path.name for path in tmp_path.iterdir()] == [positions.RUN_FILE]


def test_loaded_history_goes_on(tmp_path):
    path = tmp_path / "h.npz"
    moving(History(), [0, 20]).save(path)
    again = History.load(path)
    moving(again, [40]).save(path)
    np.testing.assert_allclose(History.load(path).positions("conv1/1")[:, 0, 1, 0], [1, 1.2, 1.4])


def test_history_keeps_copies():
    history, mine = History(), layer()
    history.append(0, [mine])
    mine.xy[:] = 9
    assert history.positions("conv1/1").max() == 2


def test_history_goes_back():
    history = moving(History(), [0, 20, 40, 60])
    history.truncate(39)
    assert list(history.iterations) == [0, 20]
    moving(history, [30, 10])
    assert list(history.iterations) == [0, 10]
    moving(history, [10])
    assert list(history.iterations) == [0, 10]


def test_history_of_nothing(tmp_path):
    assert History().layers() == []
    emptied = moving(History(), [10])
    emptied.truncate(0)
    emptied.save(tmp_path / "h.npz")
    again = History.load(tmp_path / "h.npz")
    assert again.names == ["conv1/1", "conv1/2"] and again.layers() == []
    assert list(moving(again, [5]).iterations) == [5]


@pytest.mark.parametrize("first, known", [(0, True), (10, True), (11, False)])
def test_start_is_known_only_from_a_record_of_the_warmup(first, known):
    history = moving(History(warmup_iter=10), [first, 50])
    assert [layer.start is not None for layer in history.layers()] == [known] * 2


def test_history_refuses_another_network():
    history = moving(History(), [0])
    for other in (
        [layer()],
        [layer(), layer("conv9", ((0, 0),) * 4, (2, 2))],
        [layer(), layer("conv1/2")],
    ):
        with pytest.raises(UserError, match="another folder"):
            history.append(10, other)
    assert list(history.iterations) == [0]


@pytest.mark.parametrize("name", ["iterations", "about", "file"])
def test_history_refuses_names_that_its_file_cannot_have(name):
    with pytest.raises(UserError, match=f"layer called {name} "):
        History().append(0, [layer(name)])


def test_history_of_a_layer_called_path(tmp_path):
    moving(History(), [10]).save(tmp_path / "h.npz")
    history = History()
    history.append(0, [layer("path")])
    history.save(tmp_path / "h.npz")
    assert History.load(tmp_path / "h.npz").names == ["path"]


def _about(path, about):
    np.savez(path, **{**np.load(path), "about": about})


def _with(path, **arrays):
    np.savez(path, **{**np.load(path), **arrays})


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-200]),
        lambda path: path.write_bytes(
            path.read_bytes().replace(np.float32(1.2).tobytes(), b"spam")
        ),
        lambda path: path.write_text("no archive"),
        lambda path: np.savez(path, other=np.zeros(3)),
        lambda path: np.savez(path, iterations=np.arange(2), about='{"warmup_iter": 0}'),
        lambda path: _with(path, iterations=np.arange(5)),
        lambda path: _with(path, iterations=np.array([20, 0])),
        lambda path: _with(path, **{"conv1/1": np.load(path)["conv1/1"].astype(complex)}),
        lambda path: _with(path, **{"conv1/1": np.load(path)["conv1/1"].astype(object)}),
        lambda path: _with(path, **{"conv1/1": np.load(path)["conv1/1"][..., :1]}),
        lambda path: _with(path, **{"conv1/1": np.load(path)["conv1/1"][:, :, :-1]}),
        lambda path: _about(path, "{"),
        lambda path: _about(path, '{"warmup_iter": 0, "layers": []}'),
        lambda path: _about(path, '{"warmup_iter": 0, "layers": [{"name": "conv1/1"}]}'),
    ],
)
def test_damaged_history_is_named(tmp_path, spoil):
    path = tmp_path / "h.npz"
    moving(History(), [0, 20]).save(path)
    spoil(path)
    with pytest.raises(UserError, match=f"^{path} is .*: remove it, or name another run$"):
        History.load(path)


def test_positions_of_a_training_that_diverged_are_read(tmp_path):
    history = moving(History(), [0, 20])
    history._records[20][0][0, 0] = np.nan, np.inf
    history.save(tmp_path / "h.npz")
    np.testing.assert_array_equal(
        History.load(tmp_path / "h.npz").positions("conv1/1")[1, 0, 0], [np.nan, np.inf]
    )


def test_folder_that_is_no_run(tmp_path):
    with pytest.raises(UserError, match=f"{tmp_path} has no positions.npz"):
        positions.load_run(tmp_path)
    with pytest.raises(UserError, match="cannot read .*missing.npz"):
        History.load(tmp_path / "missing.npz")
