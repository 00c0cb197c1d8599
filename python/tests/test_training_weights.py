"""A training that begins with weights: which are copied, and what is said of the others."""

import json
import re
import subprocess

import numpy as np
import pytest
from active_convolution.caffe import locate, messages
from active_convolution.errors import UserError
from active_convolution.training import weights
from active_convolution.training.changes import Changes
from active_convolution.training.trainer import train
from training_runs import run_script

LAYER = 'layer {{ name: "{name}" type: "{kind}" bottom: "{bottom}" top: "{name}" {param} }}\n'
CONVOLUTION = (
    'convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "gaussian" std: 1 } }'
)


def net(tmp_path, *layers, name="net"):
    """A live net of (name, type, parameters), each on top of the one before."""
    text = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 6 dim: 6 } } }\n'
    bottom = "data"
    for layer, kind, param in layers:
        text += LAYER.format(name=layer, kind=kind, bottom=bottom, param=param)
        bottom = layer
    (tmp_path / f"{name}.prototxt").write_text(text)
    return locate.caffe().Net(str(tmp_path / f"{name}.prototxt"), locate.caffe().TEST)


def score(outputs):
    return (
        "score",
        "InnerProduct",
        f'inner_product_param {{ num_output: {outputs} weight_filler {{ type: "xavier" }} }}',
    )


@pytest.fixture
def ordinary(tmp_path):
    """Its live net; its weights are in ordinary.caffemodel, and in ordinary.h5."""
    made = net(
        tmp_path,
        ("a/1", "Convolution", CONVOLUTION),
        ("old", "Convolution", CONVOLUTION),
        score(5),
        name="ordinary",
    )
    made.params["a/1"][1].data[...] = 3
    made.save(str(tmp_path / "ordinary.caffemodel"))
    made.save_hdf5(str(tmp_path / "ordinary.h5"))
    return made


@pytest.mark.parametrize("file", ["ordinary.caffemodel", "ordinary.h5"])
def test_an_ordinary_networks_weights_come_into_its_active_twin(ordinary, tmp_path, file):
    if file.endswith(".h5"):
        pytest.importorskip("h5py")
    twin = net(
        tmp_path,
        ("a/1", "ActiveConvolution", CONVOLUTION),
        ("new", "Convolution", CONVOLUTION),
        score(7),
    )
    fresh = twin.params["score"][0].data.copy()
    copied = weights.copy(twin, tmp_path / file)
    assert (copied.copied, copied.activated, copied.unused) == (["a/1"], ["a/1"], ["old"])
    assert list(copied.lines()) == [
        f"{file}: weights of 1 layers copied, 1 of them ordinary ones into active convolutions",
        f"  not copied: new (not in {file}), score (5×16, 5 there, 7×16, 7 here)",
        "  not in this network: old",
    ]
    for index in (0, 1):
        assert (twin.params["a/1"][index].data == ordinary.params["a/1"][index].data).all()
    assert (twin.params["score"][0].data == fresh).all()
    images = np.random.default_rng(0).normal(size=(2, 3, 6, 6))
    for live in (twin, ordinary):
        live.blobs["data"].data[...] = images
        live.forward()
    np.testing.assert_allclose(twin.blobs["a/1"].data, ordinary.blobs["a/1"].data, atol=1e-4)


def test_active_weights_are_copied_whole_and_from_hdf5_known_as_active(tmp_path):
    pytest.importorskip("h5py")
    active = net(tmp_path, ("a", "ActiveConvolution", CONVOLUTION))
    active.params["a"][2].data[...] += 0.25
    active.save_hdf5(str(tmp_path / "a.h5"))
    other = net(tmp_path, ("a", "ActiveConvolution", CONVOLUTION), score(2), name="other")
    assert weights.copy(other, tmp_path / "a.h5").copied == ["a"]
    assert (other.params["a"][2].data == active.params["a"][2].data).all()
    assert [
        layer.type for layer in messages.read_weights(tmp_path / "a.h5").layer if layer.blobs
    ] == ["ActiveConvolution"]
    (tmp_path / "damaged.h5").write_bytes((tmp_path / "a.h5").read_bytes()[:600])
    with pytest.raises(UserError, match="damaged.h5 is damaged, or HDF5 with something else"):
        messages.read_weights(tmp_path / "damaged.h5")


def test_hdf5_weights_that_ask_for_more_than_they_hold(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("data/a/0", (2**20, 2**20), "f4", chunks=(8, 8))
    with pytest.raises(UserError, match="a.h5 is damaged, or HDF5 with something else"):
        messages.read_weights(tmp_path / "a.h5")


def test_weights_in_the_old_format(ordinary, tmp_path):
    old = locate.caffe_pb2().NetParameter()
    for layer in messages.read_weights(tmp_path / "ordinary.caffemodel").layer:
        if layer.blobs:
            entry = old.layers.add(name=layer.name, type=4 if layer.type == "Convolution" else 14)
            for blob in layer.blobs:
                dims = (1,) * (4 - len(blob.shape.dim)) + tuple(blob.shape.dim)
                entry.blobs.add(
                    num=dims[0], channels=dims[1], height=dims[2], width=dims[3], data=blob.data
                )
    (tmp_path / "old.caffemodel").write_bytes(old.SerializeToString())
    twin = net(
        tmp_path,
        ("a/1", "ActiveConvolution", CONVOLUTION),
        ("old", "Convolution", CONVOLUTION),
        score(5),
    )
    assert weights.copy(twin, tmp_path / "old.caffemodel").copied == ["a/1", "old", "score"]


def test_weights_of_quite_another_network_are_refused(ordinary, tmp_path):
    with pytest.raises(
        UserError,
        match="has no weights for any layer of this network: give the weights of one that shares",
    ):
        weights.copy(net(tmp_path, score(9)), tmp_path / "ordinary.caffemodel")


# ---- Whole trainings


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny, digits_data):
    """The .caffemodel of a short training with ordinary convolutions."""
    run = tmp_path_factory.mktemp("trained") / "run"
    assert train(tiny, "baseline", digits_data, run, max_iter=40) == 0
    return run / "snapshots/digits_tiny_baseline_iter_40.caffemodel"


def test_finetuning_starts_where_the_weights_left_off(trained, tiny, digits_data, tmp_path):
    run = tmp_path / "run"
    status, stdout, stderr = run_script(
        tiny,
        "--variant",
        "acu",
        "--data",
        digits_data,
        "--output",
        run,
        "--weights",
        trained,
        "--max-iter",
        4,
        "--lr",
        "1e-9",
        "--set",
        "solver.test_initialization=true",
        "--freeze",
        "bn",
    )
    assert status == 0, stderr
    assert (
        f"{trained.name}: weights of 3 layers copied, 1 of them ordinary ones into active convolutions\n"
        in stderr
    )
    lines = (run / "metrics.csv").read_text().splitlines()
    before = (trained.parents[1] / "metrics.csv").read_text().splitlines()[-1].split(",")
    assert lines[1].startswith("0,") and float(lines[1].split(",")[4]) == pytest.approx(
        float(before[4]), abs=1e-6
    )
    assert float(lines[-1].split(",")[4]) == pytest.approx(float(before[4]), abs=0.004)
    listed = json.loads((run / "weights.json").read_text())
    assert listed["copied"] == ["conv", "bn", "score"] and listed["file"] == str(trained)
    with pytest.raises(UserError, match=f"began with {trained}, not with .*: leave --weights out"):
        train(
            tiny,
            "acu",
            digits_data,
            run,
            4,
            resume=True,
            weights=run / "snapshots/digits_tiny_acu_iter_4.caffemodel",
            changes=Changes(lr=1e-9, set=["solver.test_initialization=true"], freeze=["bn"]),
        )


def test_a_frozen_layer_stays(trained, tiny, digits_data, tmp_path):
    changes = Changes(freeze=["conv", "bn"])
    assert (
        train(tiny, "acu", digits_data, tmp_path / "run", 8, weights=trained, changes=changes) == 0
    )
    now, before = (
        {
            layer.name: [list(blob.data) for blob in layer.blobs]
            for layer in messages.read_weights(path).layer
        }
        for path in (tmp_path / "run/snapshots/digits_tiny_acu_iter_8.caffemodel", trained)
    )
    assert (
        now["conv"][:2] == before["conv"]
        and now["bn"] == before["bn"]
        and now["score"] != before["score"]
    )


@pytest.mark.parametrize(
    "content, expected",
    [(None, "cannot read .*none.caffemodel"), (b"no weights", "is damaged or no")],
)
def test_bad_weights_leave_nothing(tiny, digits_data, tmp_path, content, expected):
    path = tmp_path / "none.caffemodel"
    if content:
        path.write_bytes(content)
    with pytest.raises(UserError, match=expected):
        train(tiny, "acu", digits_data, tmp_path / "run", 4, weights=path)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_weights_that_do_not_fit_block_nothing(tiny, digits_data, tmp_path):
    net(tmp_path, ("other", "Convolution", CONVOLUTION)).save(str(tmp_path / "other.caffemodel"))
    command = (
        tiny,
        "--variant",
        "acu",
        "--data",
        digits_data,
        "--output",
        tmp_path / "run",
        "--max-iter",
        2,
    )
    status, _, stderr = run_script(*command, "--weights", tmp_path / "other.caffemodel")
    assert status == 1 and re.fullmatch(
        "error: .*other.caffemodel has no weights for any layer of this network: .*\n", stderr
    )
    status, _, stderr = run_script(*command)
    assert status == 0, stderr
    assert not (tmp_path / "run/weights.json").exists()


@pytest.mark.slow
def test_caffes_own_tool_takes_what_was_finetuned(trained, tiny, digits_data, tmp_path):
    """A run folder's prototxts are Caffe's."""
    assert train(tiny, "acu", digits_data, tmp_path / "run", 2, weights=trained) == 0
    done = subprocess.run(
        [
            locate.BUILD / "out/tools/caffe",
            "test",
            "--model",
            tmp_path / "run/train_val.prototxt",
            "--weights",
            tmp_path / "run/snapshots/digits_tiny_acu_iter_2.caffemodel",
            "--iterations",
            "1",
        ],
        capture_output=True,
    )
    assert done.returncode == 0
