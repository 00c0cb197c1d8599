"""Snapshots: a damaged one is never taken for whole, and a whole one brings everything back. And
the weights that a training begins with: which are copied, and what is said of the others."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from active_convolution.caffe import locate, messages
from active_convolution.errors import UserError
from active_convolution.training import run_folder, snapshots, trainer
from active_convolution.training.changes import Changes
from active_convolution.training.run_folder import RunFolder
from active_convolution.training.trainer import train
from training_runs import blobs, rows, run_script, snapshot, write_model


def make_solver(folder, model, data):
    """A pycaffe solver on a new run folder."""
    run = RunFolder(folder)
    found = trainer.resolve(run, model, "acu", data)
    with run_folder.opened(run, found):
        return locate.caffe().get_solver(str(run.solver)), found.solver.snapshot_prefix


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny, digits_data):
    """A solver with whole snapshots after 2, 9 and 10 iterations, and their prefix; leave its
    files."""
    solver, prefix = make_solver(tmp_path_factory.mktemp("trained") / "run", tiny, digits_data)
    for iterations in (2, 7, 1):
        solver.step(iterations)
        solver.snapshot()
    return solver, prefix


@pytest.fixture
def solver(trained):
    return trained[0]


@pytest.fixture
def prefix(trained, tmp_path):
    """The prefix of a copy of the snapshots that may be damaged."""
    folder = shutil.copytree(Path(trained[1]).parent, tmp_path / "snapshots")
    return str(folder / Path(trained[1]).name)


def newest(prefix, solver):
    """(iteration of the newest whole snapshot, the warnings)"""
    warnings = []
    snapshot = snapshots.newest_whole(prefix, solver, warnings.append)
    return snapshot and snapshot.iteration, warnings


def file(prefix, iteration, kind):
    return Path(f"{prefix}_iter_{iteration}.{kind}")


def read(path):
    pb2 = locate.caffe_pb2()
    kind = pb2.SolverState if path.suffix == ".solverstate" else pb2.NetParameter
    return kind.FromString(path.read_bytes())


def field_ends(path):
    """Where the repeated fields of a snapshot's file end: there a cut leaves a valid message."""
    message = read(path)
    message.ClearField("current_step" if path.suffix == ".solverstate" else "state")
    fields = message.history if path.suffix == ".solverstate" else message.layer
    ends = []
    while fields:
        assert path.read_bytes().startswith(message.SerializeToString())
        ends.append(message.ByteSize())
        del fields[-1]
    return ends[::-1]


def test_newest_by_number(prefix, solver):
    """10 comes after 9, and a file of another prefix or kind is none."""
    for name in ("_iter_11.solverstate.h5", "_iter_x.solverstate", "2_iter_12.solverstate"):
        Path(prefix + name).touch()
    assert [snapshot.iteration for snapshot in snapshots.found(prefix)] == [10, 9, 2]
    assert newest(prefix, solver) == (10, [])


@pytest.mark.parametrize("kind", ["solverstate", "caffemodel"])
def test_a_file_that_ends_anywhere_is_passed_over(prefix, solver, kind):
    """Also between two fields, where it still parses."""
    path = file(prefix, 10, kind)
    content = path.read_bytes()
    between = [end for end in field_ends(path) if end < len(content)]
    assert len(between) > 4
    anywhere = [len(content) * part // 40 for part in range(40)]
    for end in sorted({*between, *anywhere, 1, 2, len(content) - 1}):
        path.write_bytes(content[:end])
        iteration, (warning,) = newest(prefix, solver)
        assert iteration == 9, f"{kind} cut at byte {end} of {len(content)} was taken for whole"
        assert f"passing over {file(prefix, 10, 'solverstate')}: {path.stem}" in warning
    path.write_bytes(content[: between[3]])
    read(path)


def test_what_does_not_belong_together_is_passed_over(prefix, solver):
    for kind in ("solverstate", "caffemodel"):
        shutil.copy(file(prefix, 9, kind), file(prefix, 11, kind))
    file(prefix, 10, "caffemodel").unlink()
    model = read(file(prefix, 9, "caffemodel"))
    conv = next(layer for layer in model.layer if layer.name == "conv")
    conv.blobs[0].data.pop()
    file(prefix, 9, "caffemodel").write_bytes(model.SerializeToString())
    iteration, warnings = newest(prefix, solver)
    assert iteration == 2
    for warning, expected in zip(
        warnings,
        (
            "_iter_11.solverstate is of iteration 9",
            "_iter_10.caffemodel (No such file",
            "of layer conv",
        ),
    ):
        assert expected in warning
    assert newest(str(Path(prefix).parent / "nowhere/tiny"), solver) == (None, [])


@pytest.mark.parametrize("kind", ["SGD", "Adam", "AdaDelta"])
def test_other_solvers_remember_more_or_less(tmp_path, digits_data, kind):
    """Adam and AdaDelta keep two numbers for each parameter: both are needed."""
    model = write_model(tmp_path / "tiny", type=kind, delta=1e-6)
    solver, prefix = make_solver(tmp_path / "run", model, digits_data)
    solver.step(1)
    solver.snapshot()
    assert newest(prefix, solver) == (1, [])
    path = file(prefix, 1, "solverstate")
    state = read(path)
    del state.history[len(state.history) // 2 :]
    path.write_bytes(state.SerializeToString())
    assert newest(prefix, solver)[0] is None


def test_restore_brings_everything_back_where_the_folder_has_moved(
    prefix, tiny, digits_data, tmp_path
):
    """Weights, positions, statistics, momentum, iteration: a snapshot at once is the one
    restored."""
    for path in Path(prefix).parent.glob("*.solverstate"):  # the place they name is gone
        state = read(path)
        state.learned_net = str(tmp_path / "gone" / Path(state.learned_net).name)
        path.write_bytes(state.SerializeToString())
    other, again = make_solver(tmp_path / "run", tiny, digits_data)
    other.step(1)
    found = snapshots.newest_whole(prefix, other, pytest.fail)
    snapshots.restore(other, 10, found.state.read_bytes(), found.model.read_bytes())
    assert other.iter == 10
    other.snapshot()
    now, before = (read(file(folder, 10, "solverstate")) for folder in (again, prefix))
    assert (now.history, now.current_step) == (before.history, before.current_step)
    now, before = (blobs(file(folder, 10, "caffemodel")) for folder in (again, prefix))
    assert now == before


def test_a_name_that_reads_like_a_pattern(digits_data, tmp_path):
    model = write_model(tmp_path / "tiny")
    path = model / "acu/train_val.prototxt"
    path.write_text(path.read_text().replace('name: "digits_tiny_acu"', 'name: "digits_[a]/*?"'))
    solver, prefix = make_solver(tmp_path / "run", model, digits_data)
    solver.step(1)
    solver.snapshot()
    assert newest(prefix, solver) == (1, [])


# ---- Weights

LAYER = 'layer {{ name: "{name}" type: "{kind}" bottom: "{bottom}" top: "{name}" {param} }}\n'
CONVOLUTION = (
    'convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "gaussian" std: 1 } }'
)


def net(tmp_path, *layers, name="net"):
    """A live net of (name, type, parameters), each on top of the one before."""
    text = """layer { name: "data" type: "Input" top: "data"
              input_param { shape { dim: 2 dim: 3 dim: 6 dim: 6 } } }\n"""
    bottom = "data"
    for layer, kind, param in layers:
        text += LAYER.format(name=layer, kind=kind, bottom=bottom, param=param)
        bottom = layer
    (tmp_path / f"{name}.prototxt").write_text(text)
    return locate.caffe().Net(str(tmp_path / f"{name}.prototxt"), locate.caffe().TEST)


def score(outputs):
    param = f'num_output: {outputs} weight_filler {{ type: "xavier" }}'
    return "score", "InnerProduct", f"inner_product_param {{ {param} }}"


@pytest.fixture
def ordinary(tmp_path):
    """Its live net; its weights are in ordinary.caffemodel, and in ordinary.h5."""
    layers = [(name, "Convolution", CONVOLUTION) for name in ("a/1", "old")]
    made = net(tmp_path, *layers, score(5), name="ordinary")
    made.params["a/1"][1].data[...] = 3
    made.save(str(tmp_path / "ordinary.caffemodel"))
    made.save_hdf5(str(tmp_path / "ordinary.h5"))
    return made


@pytest.mark.parametrize("file", ["ordinary.caffemodel", "ordinary.h5"])
def test_an_ordinary_networks_weights_come_into_its_active_twin(ordinary, tmp_path, file):
    if file.endswith(".h5"):
        pytest.importorskip("h5py")
    active, new = ("a/1", "ActiveConvolution", CONVOLUTION), ("new", "Convolution", CONVOLUTION)
    twin = net(tmp_path, active, new, score(7))
    fresh = twin.params["score"][0].data.copy()
    copied = snapshots.copy_weights(twin, tmp_path / file)
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


def test_active_weights_are_copied_whole(tmp_path):
    active = net(tmp_path, ("a", "ActiveConvolution", CONVOLUTION))
    active.params["a"][2].data[...] += 0.25
    active.save(str(tmp_path / "a.caffemodel"))
    other = net(tmp_path, ("a", "ActiveConvolution", CONVOLUTION), score(2), name="other")
    assert snapshots.copy_weights(other, tmp_path / "a.caffemodel").copied == ["a"]
    assert (other.params["a"][2].data == active.params["a"][2].data).all()


def test_weights_of_quite_another_network_are_refused(ordinary, tmp_path):
    other = net(tmp_path, score(9))
    with pytest.raises(UserError, match="has no weights for any layer of this network: give"):
        snapshots.copy_weights(other, tmp_path / "ordinary.caffemodel")


@pytest.fixture(scope="module")
def ordinary_run(tmp_path_factory, tiny, digits_data):
    """A short training with ordinary convolutions."""
    run = tmp_path_factory.mktemp("trained") / "run"
    assert train(tiny, "baseline", digits_data, run, max_iter=40) == 0
    return run


@pytest.mark.slow
def test_finetuning_starts_where_the_weights_left_off(ordinary_run, tiny, digits_data, tmp_path):
    run, given = tmp_path / "run", snapshot(ordinary_run, 40, "baseline")
    start = "--set", "solver.test_initialization=true", "--freeze", "bn"
    options = "--data", digits_data, "--output", run, "--max-iter", 4, "--lr", "1e-9"
    status, _, stderr = run_script(tiny, *options, "--weights", given, *start)
    assert status == 0, stderr
    assert f"{given.name}: weights of 3 layers copied, 1 of them ordinary ones into" in stderr
    before, after = rows(ordinary_run)[-1]["test_error"], rows(run)
    assert after[0]["iteration"] == 0
    assert after[0]["test_error"] == pytest.approx(before, abs=1e-6)
    assert after[-1]["test_error"] == pytest.approx(before, abs=0.004)
    listed = json.loads((run / "run.json").read_text())["weights"]
    assert listed["copied"] == ["conv", "bn", "score"] and listed["file"] == str(given)


@pytest.mark.slow
def test_a_frozen_layer_stays(ordinary_run, tiny, digits_data, tmp_path):
    given = snapshot(ordinary_run, 40, "baseline")
    options = dict(max_iter=8, weights=given, changes=Changes(freeze=["conv", "bn"]))
    assert train(tiny, "acu", digits_data, tmp_path / "run", **options) == 0
    now, before = blobs(snapshot(tmp_path / "run", 8)), blobs(given)
    assert now["conv"][:2] == before["conv"] and now["bn"] == before["bn"]
    assert now["score"] != before["score"]


@pytest.mark.slow
def test_weights_that_do_not_fit_block_nothing(tiny, digits_data, tmp_path):
    other = tmp_path / "other.caffemodel"
    net(tmp_path, ("other", "Convolution", CONVOLUTION)).save(str(other))
    options = dict(max_iter=2, output=tmp_path / "run", data=digits_data)
    with pytest.raises(UserError, match="other.caffemodel has no weights for any layer of this"):
        train(tiny, weights=other, **options)
    assert train(tiny, **options) == 0
    assert "weights" not in RunFolder(tmp_path / "run").said


def test_messages_of_bad_weights(tmp_path):
    (tmp_path / "none.caffemodel").write_bytes(b"no weights")
    with pytest.raises(UserError, match="is damaged or no"):
        messages.read_weights(tmp_path / "none.caffemodel")
