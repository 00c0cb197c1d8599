"""Prototxt, as Caffe itself takes it."""
import pytest

from active_convolution import fork, prototxt

RULES = ["", "include { phase: TEST }", "exclude { phase: TEST }", "include { phase: TRAIN } include { phase: TEST }",
         "include { stage: 's' }", "include { phase: TEST not_stage: 's' }", "exclude { phase: TEST stage: 's' }",
         "include { min_level: 1 }", "include { min_level: -1 max_level: 0 }", "exclude { max_level: -1 }",
         "exclude { phase: TRAIN } exclude { min_level: 0 }", "include { }"]


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
def test_layers_take_part_as_in_caffe(phase, tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text("".join('layer { name: "%d" type: "DummyData" top: "%d" dummy_data_param { shape { dim: 1 } } %s }\n'
                            % (index, index, rules) for index, rules in enumerate(RULES)))
    phase = getattr(fork.caffe(), phase)
    taken = [layer.name for layer in prototxt.read_net(path).layer if prototxt.takes_part(layer, phase)]
    assert taken == list(fork.caffe().Net(str(path), phase)._layer_names) and 0 < len(taken) < len(RULES)
