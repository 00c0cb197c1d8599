"""What a command takes as a trained network."""

import pytest
from active_convolution.errors import UserError
from active_convolution.training.trained import Trained
from active_convolution.training.trainer import train


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny, digits_data):
    folder = tmp_path_factory.mktemp("run") / "run"
    assert train(tiny, "acu", digits_data, folder, max_iter=8) == 0
    return folder


def test_a_run_is_its_deploy_its_newest_snapshot_and_its_data(run, digits_data):
    found = Trained.of_run(run)
    assert found == Trained.of_run(run, 8)
    assert found.model == run / "deploy.prototxt"
    assert found.weights == run / "snapshots/digits_tiny_acu_iter_8.caffemodel"
    assert found.data.folder == str(digits_data)
    assert found.test_layer().data_param.source == str(digits_data / "test_lmdb")
    with pytest.raises(UserError, match="no snapshot of iteration 7: give one of .*8$"):
        Trained.of_run(run, 7)


def test_files_take_the_network_beside_them(run, tmp_path):
    found = Trained.of_files(run / "deploy.prototxt", "w")
    assert found.train_val == run / "train_val.prototxt" and found.data is None
    assert Trained.of_files(tmp_path / "deploy.prototxt").test_layer() is None


def test_a_folder_that_is_no_run(run, tmp_path):
    with pytest.raises(UserError, match="not a run of acu train.* acu train --solver"):
        Trained.of_run(tmp_path)
    with pytest.raises(UserError, match="there is no .*missing"):
        Trained.of_run(tmp_path / "missing")


def test_a_network_without_test_data(shared_cases):
    net = shared_cases / "31-no-test-data/net.prototxt"
    with pytest.raises(UserError, match="reads data in TEST: .*--train-val$"):
        Trained.of_files(net, train_val=net).test_layer()


def test_stages_say_which_layer_reads_the_data(tmp_path, shared_cases):
    net = shared_cases / "33-stages/net.prototxt"
    for stages in ((), ("train",), ("deploy",)):
        found = Trained.of_files(net, stages=stages, train_val=net)
        assert found.test_layer().name == "train", "the only one"
    layer = 'layer {{ name: "{0}" type: "Data" include {{ stage: "{0}" }} }}'
    (tmp_path / "net.prototxt").write_text("".join(map(layer.format, "ab")))
    for stage in "ab":
        found = Trained.of_files(net, stages=[stage], train_val=tmp_path / "net.prototxt")
        assert found.test_layer().name == stage
    with pytest.raises(UserError, match="--stage, one of a, b$"):
        Trained.of_files(net, train_val=tmp_path / "net.prototxt").test_layer()
