"""Files given as something else, or of another Caffe: a line that says what they are and what to
give."""

import subprocess
import sys

import numpy as np
import pytest
from active_convolution.caffe import locate, messages, mistaken
from active_convolution.errors import UserError
from conftest import ROOT


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with a file of each kind."""
    h5py = pytest.importorskip("h5py")
    folder, pb2 = tmp_path_factory.mktemp("files"), locate.caffe_pb2()
    (folder / "net.prototxt").write_text('layer { name: "a" type: "ReLU" }')
    (folder / "solver.prototxt").write_text('net: "train_val.prototxt" base_lr: 0.01')
    net = pb2.NetParameter(layer=[pb2.LayerParameter(name="a", blobs=[pb2.BlobProto(data=[1])])])
    (folder / "net.caffemodel").write_bytes(net.SerializeToString())
    state = pb2.SolverState(iter=5, learned_net="net_iter_5.caffemodel", current_step=0)
    (folder / "net.solverstate").write_bytes(state.SerializeToString())
    with h5py.File(folder / "net.solverstate.h5", "w") as file:
        file["iter"], file["learned_net"] = 5, np.bytes_("net_iter_5.caffemodel.h5")
    mean = pb2.BlobProto(num=1, channels=1, height=1, width=2, data=[1, 2])
    (folder / "mean.binaryproto").write_bytes(mean.SerializeToString())
    (folder / "vgg.mat").write_bytes(b"MATLAB 5.0 MAT-file, Platform: GLNXA64\0")
    np.savez(folder / "weights.pth", a=np.zeros(3))
    (folder / "weights.pth.npz").rename(folder / "weights.pth")
    (folder / "page.caffemodel").write_text("<!DOCTYPE html><title>Not found</title>")
    return folder


@pytest.mark.parametrize(
    "name, wanted, said",
    [
        ("solver.prototxt", "net", "a solver, and its network is train_val.prototxt: give that"),
        ("solver.prototxt", "weights", "a solver: give its .caffemodel"),
        ("net.prototxt", "solver", "the prototxt of a network: give the prototxt of a solver"),
        ("net.prototxt", "weights", "the prototxt of a network: give its .caffemodel"),
        ("net.solverstate", "weights", "a solver state, and its weights are net_iter_5.caffemodel"),
        ("net.solverstate.h5", "weights", "a solver state.* net_iter_5.caffemodel.h5: give those"),
        ("net.solverstate", "net", "a solver state.*: give the prototxt of a network"),
        ("net.caffemodel", "net", "holds weights: give the prototxt of a network"),
        ("mean.binaryproto", "weights", "a mean image: give its .caffemodel"),
        ("vgg.mat", "weights", "a MATLAB file: give a .caffemodel"),
        ("weights.pth", "weights", "a zip archive, as .*PyTorch's"),
        ("page.caffemodel", "weights", "a web page: fetch the file itself"),
    ],
)
def test_what_a_file_is(files, name, wanted, said):
    with pytest.raises(UserError, match=f"^{files / name} (is )?{said}") as raised:
        getattr(messages, f"read_{wanted}")(files / name)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("case", ["01-bom", "02-gbk-comment"])
def test_comments_are_bytes_and_a_mark_is_passed_over(shared_cases, case):
    assert len(messages.read_net(shared_cases / case / "net.prototxt").layer) == 2


@pytest.mark.parametrize(
    "case, said",
    [
        ("03-mixed", "has both `layer` and `layers`"),
        ("13-ssd", "has the field permute_param in line 3, which SSD's Caffe .* --caffe DIR"),
    ],
)
def test_what_this_caffe_does_not_read(shared_cases, case, said):
    with pytest.raises(UserError, match=said):
        messages.read_net(shared_cases / case / "net.prototxt")


@pytest.mark.parametrize(
    "fields, tree",
    [
        (["roi_pooling_param"], "Fast R-CNN"),
        (["roi_pooling_param", "psroi_pooling_param"], "R-FCN"),
        (["bn_param", "upsample_param"], "SegNet"),
        (["bn_param", "interp_param"], "PSPNet"),
        (["upsample_param", "permute_param"], "SegNet"),  # no tree knows both
        (["rol_pooling_param"], "this Caffe does not know"),
    ],
)
def test_the_tree_is_named_that_knows_all_fields(tmp_path, fields, tree):
    layers = [f'layer {{ name: "{field}" {field} {{ a: 1 }} }}' for field in fields]
    (tmp_path / "net.prototxt").write_text("\n".join(layers))
    with pytest.raises(UserError, match=f"the field {fields[0]} in line 1, which .*{tree}"):
        messages.read_net(tmp_path / "net.prototxt")


def test_a_message_is_all_of_its_bytes():
    pb2 = locate.caffe_pb2()
    stored = pb2.NetParameter(name="net").SerializeToString()
    assert mistaken.parsed_as(pb2.NetParameter, stored).name == "net"
    for spoiled in (stored[:-1], stored + b"\x0c"):
        assert not mistaken.parsed_as(pb2.NetParameter, spoiled).ListFields()


# ---- Whatever ends Caffe, through the command


def acu(*arguments):
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/acu", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1 and done.stdout == "", done
    return done.stderr


def test_what_caffe_says_of_a_network_is_the_line(tmp_path):
    (tmp_path / "net.prototxt").write_text("""
        layer { name: "data" type: "Input" top: "data" input_param { shape { dim: [1, 3, 8, 8] } } }
        layer { name: "conv" type: "ActiveConvolution" bottom: "data" top: "conv"
                convolution_param { num_output: 2 kernel_size: 3 } }
        layer { name: "a" type: "Axpy" bottom: "conv" top: "a" }""")
    (tmp_path / "net.caffemodel").write_bytes(
        locate.caffe_pb2().NetParameter(layer=[{"name": "conv"}]).SerializeToString()
    )
    model, weights = tmp_path / "net.prototxt", tmp_path / "net.caffemodel"
    said = acu("export", "--model", model, "--weights", weights, "--output", tmp_path / "out")
    assert said.startswith("error: ") and "Axpy" in said and said.count("\n") == 1
    assert not (tmp_path / "out").exists()
