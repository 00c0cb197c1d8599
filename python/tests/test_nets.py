"""Networks whose layers get nothing to read are refused by name."""

import pytest
from active_convolution.caffe import messages
from active_convolution.caffe.nets import check_fed
from active_convolution.errors import UserError


def test_stages_are_named(shared_cases):
    path = shared_cases / "33-stages/net.prototxt"
    net = messages.read_net(path)
    with pytest.raises(
        UserError, match="no layer of .* gives data, .* conv .*: give --stage, .* deploy, train"
    ):
        check_fed(net, path)
    check_fed(net, path, ["deploy"])
    check_fed(net, path, ["train"])
    with pytest.raises(UserError, match="with the stages other, no layer .*: give --stage"):
        check_fed(net, path, ["other"])


def test_a_phase_without_data_is_named(shared_cases):
    path = shared_cases / "31-no-test-data/net.prototxt"
    check_fed(messages.read_net(path), path, phase="TRAIN")
    with pytest.raises(UserError, match="in TEST, no layer .* let layer data .* in TEST, too$"):
        check_fed(messages.read_net(path), path)


def test_a_name_that_nothing_gives(tmp_path):
    (tmp_path / "net").write_text('input: "data" layer { name: "a" bottom: "dada" top: "b" }')
    with pytest.raises(UserError, match="gives dada, which layer a reads: mend the file"):
        check_fed(messages.read_net(tmp_path / "net"), "net")
