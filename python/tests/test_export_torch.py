"""PyTorch modules: what the exported file computes, from torch alone, and the class whose positions
learn."""

import importlib.util
import re
import subprocess
import sys

import numpy as np
import pytest
from active_convolution import geometry
from active_convolution.caffe import locate
from active_convolution.check import oracle
from active_convolution.check.cases import random_case
from active_convolution.export import torch_module
from caffe_nets import INPUT, assert_same, live, run, shake
from conftest import ROOT
from engines import engine
from exports import export, parsed, random_blobs
from google.protobuf import text_format
from test_export_networks import PUBLISHED
from test_export_onnx import (
    EACH,
    FIX_THE_BATCH,
    FIX_THE_IMAGE,
    IMAGE,
    SEVERAL,
    exported,
    layer,
    variants,
)

pytestmark = pytest.mark.slow

torch = None
IMPORT = re.compile("(import|from) ")


@pytest.fixture(autouse=True)
def _torch():
    global torch
    torch = engine("torch")
    torch.set_num_threads(1)


def loaded(folder, whole=False):
    """The Network of an exported folder, or the ``whole`` module."""
    spec = importlib.util.spec_from_file_location("network", folder / torch_module.MODEL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module if whole else module.load()


def outputs(net, inputs):
    with torch.no_grad():
        found = net(*[torch.from_numpy(np.float32(inputs[name])) for name in net.inputs])
    return dict(
        zip(
            net.outputs, [each.numpy() for each in (found if isinstance(found, tuple) else [found])]
        )
    )


# ---- Networks

GROUPS = [
    [
        text
        for text in EACH
        if not any(kind in text for kind in FIX_THE_IMAGE) and FIX_THE_BATCH not in text
    ],
    *(
        [text]
        for text in EACH
        if any(kind in text for kind in FIX_THE_IMAGE) or FIX_THE_BATCH in text
    ),
]
NETWORKS = [
    "".join(layer(text, f"l{index}", top=f"l{index}") for index, text in enumerate(group))
    for group in GROUPS
] + SEVERAL


@pytest.mark.parametrize("text", NETWORKS, ids=range(len(NETWORKS)))
def test_layers(text, tmp_path):
    """Every layer type, at two image sizes and two batch sizes."""
    net, model, free = exported(IMAGE + text, tmp_path, table=torch_module.TABLE)
    torch_module.write(tmp_path, model)
    module = loaded(tmp_path)
    for shapes in list(variants(net, free)):
        image = np.float32(np.random.default_rng(1).normal(size=shapes["image"]))
        net.blobs["image"].reshape(*image.shape)
        net.blobs["image"].data[...] = image
        net.reshape()
        expected, found = net.forward(), outputs(module, {"image": image})
        assert list(found) == list(net.outputs)
        for name, values in expected.items():
            np.testing.assert_allclose(
                found[name], values, rtol=0, atol=1e-5 * np.abs(values).max(), err_msg=name
            )


@pytest.mark.parametrize("learnable", [False, True])
@pytest.mark.parametrize("fold", [False, True])
def test_the_authors_network(learnable, fold, shared_reference, tmp_path):
    golden = np.load(shared_reference / "golden.npz")
    export(
        PUBLISHED,
        shared_reference / "acu_plain_cifar10_iter_64000.caffemodel",
        tmp_path / "out",
        fold=fold,
        format="torch",
        learnable=learnable,
    )
    net = loaded(tmp_path / "out")
    kinds = [type(each).__name__ for each in net.layers.values()]
    assert kinds.count("ActiveConv2d") == 7 * learnable
    assert_same(
        outputs(net, {"data": golden["inputs"]})["score"].reshape(16, 10),
        golden["logits_64000"],
        1e-4,
    )


@pytest.mark.quick
def test_torch_alone_is_needed(tmp_path):
    """In a Python that sees torch and nothing of ours; names of all kinds become attributes."""
    text = IMAGE + "".join(
        layer(
            'type: "Convolution" convolution_param { weight_filler { type: "msra" } '
            f"num_output: 6 kernel_size: {size} pad: {size // 2} }}",
            name,
            before,
            name,
        )
        for name, before, size in (
            ("1x1/reduce", "image", 1),
            ("class", "1x1/reduce", 3),
            ("forward", "class", 1),
            ("x²", "forward", 1),
            ("__s", "x²", 1),
            ("_parameters", "__s", 1),
        )
    )
    own = "convolution_param { num_output: 2 kernel_size: 3 }"
    text += layer(f'type: "ActiveConvolution" {own}', "acu", "_parameters", "acu")
    net = live(tmp_path / "net.prototxt", text)
    shake(net, 0)
    net.save(str(tmp_path / "net.caffemodel"))
    export(
        tmp_path / "net.prototxt",
        tmp_path / "net.caffemodel",
        tmp_path / "out",
        format="torch",
        learnable=True,
    )
    image = np.random.default_rng(0).normal(size=(2, 6, 9, 11)).astype(np.float32)
    np.save(tmp_path / "image.npy", image)
    program = (
        "import sys, torch, numpy; import network; net = network.load()\n"
        "assert not {'caffe', 'active_convolution'} & {name.split('.')[0] for name in "
        "sys.modules}\nnumpy.save('found.npy', "
        "net(torch.from_numpy(numpy.load('../image.npy'))).detach().numpy())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path / "out",
        capture_output=True,
        text=True,
        env={
            "PYTHONPATH": ":".join(
                [".", *(path for path in sys.path if path.endswith("-packages"))]
            )
        },
    )
    assert done.returncode == 0, done.stderr
    assert_same(np.load(tmp_path / "out/found.npy"), run(net, image))


# ---- ActiveConv2d


def active_module(layer, blobs, dtype):
    """The class from the package's own file, as the export makes it of a layer."""
    from active_convolution.export import torch_network

    rows, columns = geometry.axes(layer)
    weight, bias, x, y = blobs
    tensors = [
        torch.tensor(array, dtype=dtype)
        for array in (
            weight.reshape(*weight.shape[:2], -1),
            bias.ravel(),
            x.reshape(len(x), -1),
            y.reshape(len(y), -1),
        )
    ]
    if not layer.convolution_param.bias_term:
        tensors[1] = None
    return torch_network.ActiveConv2d(
        *tensors,
        (rows.base, columns.base),
        tuple(2 * axis.pad - axis.extent for axis in (rows, columns)),
        (rows.stride, columns.stride),
        layer.convolution_param.group,
    )


@pytest.mark.parametrize("seed", range(80))
def test_forward_and_all_gradients(seed):
    """Against the paper's equations, in double precision; at lattice points, too, where the
    gradient is one-sided."""
    case, draw = random_case(seed), np.random.default_rng(seed)
    layer, blobs = parsed(case.layer()), random_blobs(case, seed)
    module = active_module(layer, blobs, torch.float64)
    image = torch.tensor(draw.normal(size=case.image), requires_grad=True)
    top = module(image)
    expected = oracle.forward(case.shape, image.detach().numpy(), *blobs)
    assert top.shape == expected.shape
    np.testing.assert_allclose(top.detach().numpy(), expected, rtol=0, atol=1e-10)
    above = draw.normal(size=expected.shape)
    top.backward(torch.tensor(above))
    diff = oracle.backward(case.shape, image.detach().numpy(), blobs[0], *blobs[2:], above)
    found = {"weight": module.weight, "x": module.x, "y": module.y, "image": image}
    if module.bias is not None:
        found["bias"] = module.bias
    for name, tensor in found.items():
        np.testing.assert_allclose(
            tensor.grad.numpy().reshape(diff[name].shape),
            diff[name],
            rtol=0,
            atol=1e-9,
            err_msg=name,
        )


def test_gradients_of_the_layer_itself(tmp_path):
    """Caffe's layer, in float: output and the gradients of weight, bias, positions and input."""
    text = (
        'name: "c" type: "ActiveConvolution" bottom: "image" top: "c" '
        "convolution_param { num_output: 6 kernel_size: 3 pad: 1 stride: 2 group: 2 } "
        "active_convolution_param { position_group: 3 }"
    )
    parameter = text_format.Parse(text, locate.caffe_pb2().LayerParameter())
    draw = np.random.default_rng(0)
    blobs = [
        draw.normal(size=(6, 2, 3, 3)),
        draw.normal(size=6),
        *draw.uniform(-2, 2, (2, 3, 1, 3, 3)),
    ]
    image, above = draw.normal(size=(2, 4, 9, 8)), draw.normal(size=(2, 6, 5, 4))
    dims = " ".join(f"dim: {size}" for size in image.shape)
    net = live(
        tmp_path / "net.prototxt",
        "force_backward: true\n" + INPUT.format(dims) + f"layer {{ {text} }}",
    )
    assert len(net.params["c"]) == len(blobs)
    for blob, values in zip(net.params["c"], blobs):
        blob.data[...] = np.reshape(values, blob.data.shape)
    module = active_module(parameter, blobs, torch.float32)
    seen = torch.tensor(image, dtype=torch.float32, requires_grad=True)
    top = module(seen)
    assert_same(top.detach().numpy(), run(net, image))
    top.backward(torch.tensor(above, dtype=torch.float32))
    net.blobs["c"].diff[...] = above
    net.backward()
    for tensor, blob in zip((module.weight, module.bias, module.x, module.y), net.params["c"]):
        assert_same(tensor.grad.numpy().reshape(blob.diff.shape), blob.diff, 1e-4)
    assert_same(seen.grad.numpy(), net.blobs["image"].diff, 1e-4)


def test_positions_learn_as_in_the_layer():
    """Unit gradients but at the origin, which stays; a step of SGD then moves each of the others by
    the rate."""
    layer = text_format.Parse(
        'type: "ActiveConvolution" convolution_param { num_output: 2 kernel_size: 3 pad: 1 }',
        locate.caffe_pb2().LayerParameter(),
    )
    x, y = geometry.grid((3, 3)).astype(float).T.reshape(2, 1, 1, 3, 3)
    draw = np.random.default_rng(0)
    module = active_module(
        layer, [draw.normal(size=(2, 4, 3, 3)), np.zeros(2), x, y], torch.float64
    )
    before = [module.x.detach().clone(), module.y.detach().clone()]
    optimizer = torch.optim.SGD([module.x, module.y], lr=0.25)
    module(torch.tensor(draw.normal(size=(1, 4, 8, 8)))).square().sum().backward()
    module.finish_gradients()
    optimizer.step()
    moved = torch.hypot(module.x - before[0], module.y - before[1])[0]
    np.testing.assert_allclose(moved.detach().numpy(), [0.25] * 4 + [0] + [0.25] * 4, atol=1e-12)


def test_the_parts_need_torch_and_numpy_alone():
    text = (ROOT / "python/active_convolution/export/torch_network.py").read_text()
    names = {line.split()[1].split(".")[0] for line in text.splitlines() if IMPORT.match(line)}
    assert names == {"math", "numpy", "operator", "pathlib", "torch"}
