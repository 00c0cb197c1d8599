"""Which layers train and which test, in networks that say so in unusual ways."""

import pytest
from active_convolution.caffe import locate, messages
from active_convolution.errors import UserError
from active_convolution.training import run_folder, schedule
from active_convolution.training.run_folder import RunFolder
from active_convolution.training.trainer import train
from training_runs import write_model

TRAIN, TEST = "include {\n    phase: TRAIN\n  }", "include {\n    phase: TEST\n  }"


@pytest.fixture
def model(tmp_path):
    """Writes the tiny network with other rules for its two Data layers, and other lines in its solver; the folder."""

    def write(train=TRAIN, test=TEST, net="", solver=""):
        folder = write_model(tmp_path / "tiny")
        path = folder / "acu/train_val.prototxt"
        text = path.read_text()
        assert text.count(TRAIN) == 1 and text.index(TEST) > text.index(TRAIN)
        path.write_text(text.replace(TEST, test, 1).replace(TRAIN, train) + net)
        with open(folder / "acu/solver.prototxt", "a") as file:
            file.write(solver)
        return folder

    return write


STAGED = [
    dict(train="include { phase: TRAIN stage: 's' }", solver="train_state { stage: 's' }"),
    dict(train="include { phase: TRAIN stage: 's' }", net="state { stage: 's' }"),
    dict(train="exclude { phase: TEST }", test="exclude { phase: TRAIN }"),
    dict(
        train="include { min_level: 2 }",
        test="include { max_level: 1 }",
        solver="train_state { level: 2 }",
    ),
    dict(
        train="exclude { stage: 'u' }",
        test="include { stage: 'u' }",
        solver="test_state { stage: 'u' }",
    ),
]


@pytest.mark.parametrize("changes", STAGED)
def test_each_phase_reads_its_own_data(changes, model, digits_data, tmp_path):
    found = run_folder.resolve(RunFolder(tmp_path / "run"), model(**changes), "acu", digits_data)
    solver, net = found.solver, found.net
    sources = [layer.data_param.source for layer in net.layer if layer.HasField("data_param")]
    assert sources == [f"{digits_data}/{split}_lmdb" for split in ("train", "test")]
    for phase, split in ((locate.caffe().TRAIN, "train"), (locate.caffe().TEST, "test")):
        read = [
            layer.data_param.source
            for layer in schedule.layers(solver, net, phase)
            if layer.HasField("data_param")
        ]
        assert read == [f"{digits_data}/{split}_lmdb"]


@pytest.mark.parametrize("changes", STAGED)
def test_caffe_agrees(changes, model, digits_data, tmp_path):
    """Each phase of a training opens one database, its own."""
    run = tmp_path / "run"
    assert train(model(**changes), "acu", digits_data, run, max_iter=1) == 0
    opened = [
        line.split("lmdb ")[1]
        for line in (run / "train.log").read_text().splitlines()
        if "Opened lmdb" in line
    ]
    assert opened == [f"{digits_data}/{split}_lmdb" for split in ("train", "test")]


def test_a_layer_that_neither_phase_has_is_left_alone(model, digits_data, tmp_path):
    extra = 'layer { name: "x" type: "Data" top: "x" data_param { source: "elsewhere" } include { stage: "never" } }'
    net = run_folder.resolve(RunFolder(tmp_path / "run"), model(net=extra), "acu", digits_data).net
    assert [layer.data_param.source for layer in net.layer if layer.name == "x"] == ["elsewhere"]


def test_data_for_both_phases_is_refused(model, digits_data, tmp_path):
    with pytest.raises(
        UserError,
        match="layer data of .*/tiny/acu reads data for training and for "
        "testing, and these are two databases: give two layers, one for each phase",
    ):
        run_folder.resolve(RunFolder(tmp_path / "run"), model(train=""), "acu", digits_data)


def test_a_solver_with_other_nets_trains_this_one(model, digits_data, tmp_path):
    run = tmp_path / "run"
    text = (
        "train_net: 'nowhere' test_net: 'nowhere' test_state { stage: 'v' } snapshot_format: HDF5"
    )
    assert train(model(solver=text), "acu", digits_data, run, max_iter=1) == 0
    assert messages.read_solver(run / "solver.prototxt").net == str(run / "train_val.prototxt")
    assert [path.suffix for path in sorted((run / "snapshots").iterdir())] == [
        ".caffemodel",
        ".solverstate",
    ]
