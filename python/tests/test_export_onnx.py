"""ONNX models: every layer type in onnxruntime against Caffe, at two image sizes and two batch
sizes."""

import re
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from active_convolution.caffe import locate
from active_convolution.errors import UserError
from active_convolution.export import free_axes, onnx_model
from caffe_nets import INPUT, live
from engines import onnxruntime_outputs
from google.protobuf import text_format

pytestmark = pytest.mark.slow

IMAGE = INPUT.format("dim: 2 dim: 6 dim: 9 dim: 11")
VECTOR = INPUT.format("dim: 2 dim: 7")
INDICES = INPUT.format("dim: 3 dim: 4")


def layer(text, name="l", bottom="image", top="l"):
    tops = " ".join(f'top: "{each}"' for each in top.split())
    bottoms = " ".join(f'bottom: "{each}"' for each in bottom.split())
    return f'layer {{ name: "{name}" {bottoms} {tops} {text} }}\n'


def randomise(net, seed):
    """Every blob random, variances and their count positive."""
    draw = np.random.default_rng(seed)
    for each in net.layers:
        for index, blob in enumerate(each.blobs):
            blob.data[...] = draw.normal(size=blob.data.shape)
            if each.type == "BatchNorm" and index:
                blob.data[...] = draw.uniform(0.5, 2, blob.data.shape)


def exported(text, folder, seed=0, table=onnx_model.TABLE):
    """(the pycaffe Net of a prototxt's text, the ModelProto, the free axes of its blobs)."""
    net = live(folder / "net.prototxt", text)
    randomise(net, seed)
    message = text_format.Parse(text, locate.caffe_pb2().NetParameter())
    shapes = {name: tuple(blob.shape) for name, blob in net.blobs.items()}
    free = free_axes.free_axes(message, shapes)
    return net, onnx_model.build(message, net, free, table), free


def variants(net, free):
    """The network's own input size, another batch, another image, and both, as far as the axes are
    free."""
    own = {name: tuple(net.blobs[name].shape) for name in net.inputs}
    for more_images, more_pixels in ((0, 0), (2, 0), (0, (5, 8)), (4, (2, 3))):
        change = {0: more_images, **dict(zip((2, 3), more_pixels or (0, 0)))}
        yield {
            name: tuple(
                size + (change.get(axis, 0) if axis in free[name] else 0)
                for axis, size in enumerate(shape)
            )
            for name, shape in own.items()
        }


def assert_same_outputs(net, model, free, feed=None, tolerance=1e-5):
    """Caffe's and onnxruntime's outputs, within ``tolerance`` of the largest value, at all
    variants."""
    draw = np.random.default_rng(1)
    feed = feed or (lambda name, shape: draw.normal(size=shape))
    for shapes in list(variants(net, free)):
        inputs = {name: np.float32(feed(name, shape)) for name, shape in shapes.items()}
        for name, values in inputs.items():
            net.blobs[name].reshape(*values.shape)
            net.blobs[name].data[...] = values
        net.reshape()
        expected = {name: values.copy() for name, values in net.forward().items()}
        found = onnxruntime_outputs(model, inputs)
        assert list(found) == list(net.outputs)
        for name, values in expected.items():
            assert found[name].shape == values.shape, shapes
            assert np.isfinite(values).all() and values.any()
            np.testing.assert_allclose(
                found[name],
                values,
                rtol=0,
                atol=tolerance * np.abs(values).max(),
                err_msg=str(shapes),
            )


CONVOLUTION = 'convolution_param { num_output: 4 %s } type: "Convolution"'
DECONVOLUTION = 'convolution_param { num_output: 4 %s } type: "Deconvolution"'
POOL = 'type: "Pooling" pooling_param { pool: %s %s }'
POOLS = [
    POOL % (kind, shape)
    for kind in ("MAX", "AVE")
    for shape in (
        "kernel_size: 3 stride: 2",
        "kernel_size: 2 stride: 2",
        "kernel_size: 3 stride: 1 pad: 1",
        "kernel_size: 3 stride: 2 pad: 1",
        "kernel_size: 2 stride: 2 pad: 1",
        "kernel_size: 4 stride: 3 pad: 2",
        "kernel_h: 1 kernel_w: 3 stride_h: 1 stride_w: 2 pad_h: 0 pad_w: 2",
        "kernel_size: 5 stride: 5 pad: 3",
        "kernel_size: 3 stride: 2 pad: 1 round_mode: FLOOR",
        "global_pooling: true",
        "kernel_size: 3 stride: 3 round_mode: FLOOR",
    )
]
EACH = [  # the layer behind an image
    *(
        CONVOLUTION % shape
        for shape in (
            "kernel_size: 3",
            "kernel_size: 3 pad: 1 stride: 2 group: 2",
            "kernel_h: 1 kernel_w: 4 pad_h: 0 pad_w: 2 bias_term: false",
            "kernel_size: 2 dilation: 3",
            "kernel_size: 3 kernel_size: 2 stride: 2 stride: 1 dilation: 1 dilation: 2",
        )
    ),
    *(
        DECONVOLUTION % shape
        for shape in (
            "kernel_size: 4 stride: 2 pad: 1",
            "kernel_size: 3 group: 2 bias_term: false",
            "kernel_size: 2 stride: 3 dilation: 2",
        )
    ),
    DECONVOLUTION.replace("4", "6", 1) % "group: 6 kernel_size: 4 stride: 2 bias_term: false",
    *POOLS,
    'type: "InnerProduct" inner_product_param { num_output: 5 }',
    'type: "InnerProduct" inner_product_param { num_output: 5 axis: 2 bias_term: false }',
    'type: "InnerProduct" inner_product_param { num_output: 5 axis: -1 transpose: true }',
    'type: "InnerProduct" inner_product_param { num_output: 5 transpose: true }',
    'type: "InnerProduct" inner_product_param { num_output: 5 axis: 0 }',
    'type: "BatchNorm"',
    'type: "BatchNorm" batch_norm_param { use_global_stats: true eps: 0.01 }',
    *(
        f'type: "Scale" scale_param {{ {how} }}'
        for how in (
            "",
            "bias_term: true",
            "axis: 2 num_axes: 2",
            "axis: 1 num_axes: 2 bias_term: true",
            "axis: -1",
            "num_axes: 0 bias_term: true",
            "axis: 1 num_axes: -1",
        )
    ),
    'type: "Bias"',
    'type: "Bias" bias_param { axis: 2 num_axes: 1 }',
    'type: "Bias" bias_param { num_axes: 0 }',
    'type: "ReLU"',
    'type: "ReLU" relu_param { negative_slope: 0.1 }',
    'type: "PReLU"',
    'type: "PReLU" prelu_param { channel_shared: true }',
    'type: "ELU" elu_param { alpha: 0.7 }',
    'type: "Sigmoid"',
    'type: "TanH"',
    'type: "AbsVal"',
    'type: "BNLL"',
    'type: "Clip" clip_param { min: -0.5 max: 0.7 }',
    'type: "Swish"',
    'type: "Swish" swish_param { beta: 1.5 }',
    'type: "Threshold" threshold_param { threshold: 0.2 }',
    'type: "Exp"',
    'type: "Exp" exp_param { base: 2 scale: 0.5 shift: -1 }',
    'type: "Power" power_param { power: 2 scale: 0.5 shift: 1 }',
    'type: "Power" power_param { power: 3 }',
    'type: "Power" power_param { scale: -2 shift: 3 }',
    'type: "Power"',
    'type: "Power" power_param { power: 0 }',
    'type: "Power" power_param { scale: 0 shift: 3 power: 2 }',
    'type: "Clip" clip_param { min: -0.5 max: inf }',
    'type: "LRN"',
    'type: "LRN" lrn_param { local_size: 3 alpha: 0.3 beta: 0.6 k: 2 }',
    'type: "LRN" lrn_param { local_size: 3 alpha: 0.3 norm_region: WITHIN_CHANNEL }',
    'type: "MVN"',
    'type: "MVN" mvn_param { across_channels: true eps: 0.01 }',
    'type: "MVN" mvn_param { normalize_variance: false }',
    *(
        f'type: "Reduction" reduction_param {{ {how} }}'
        for how in (
            "axis: 1",
            "operation: ASUM axis: 2",
            "operation: SUMSQ axis: -1 coeff: 0.5",
            "operation: MEAN axis: 1",
            "",
        )
    ),
    'type: "Softmax"',
    'type: "Softmax" softmax_param { axis: 2 }',
    'type: "Softmax" softmax_param { axis: -1 }',
    'type: "ArgMax"',
    'type: "ArgMax" argmax_param { top_k: 3 }',
    'type: "ArgMax" argmax_param { axis: 1 }',
    'type: "ArgMax" argmax_param { axis: 1 top_k: 2 }',
    'type: "ArgMax" argmax_param { out_max_val: true }',
    'type: "ArgMax" argmax_param { out_max_val: true top_k: 2 }',
    'type: "ArgMax" argmax_param { out_max_val: true axis: 2 top_k: 2 }',
    'type: "Dropout"',
    'type: "Flatten"',
    'type: "Flatten" flatten_param { axis: 2 }',
    'type: "Flatten" flatten_param { axis: 1 end_axis: 2 }',
    'type: "Flatten" flatten_param { axis: 0 end_axis: 1 }',
    'type: "Reshape" reshape_param { shape { dim: 0 dim: -1 } }',
    'type: "Reshape" reshape_param { shape { dim: 0 dim: 2 dim: 3 } axis: 0 num_axes: 2 }',
    'type: "Reshape" reshape_param { shape { dim: 3 dim: 2 } axis: 1 num_axes: 1 }',
    'type: "Reshape" reshape_param { shape { dim: 1 } axis: -1 num_axes: 0 }',
    'type: "Tile" tile_param { axis: 1 tiles: 3 }',
    'type: "Tile" tile_param { axis: 0 tiles: 2 }',
]


FIX_THE_IMAGE = ("InnerProduct", "Scale", "Bias", "Reshape")  # may stop it from having another size
FIX_THE_BATCH = "axis: 0"


@pytest.mark.parametrize(
    "some",
    [
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
    ],
)
def test_layers(some, tmp_path):
    """Side by side, so that Caffe is asked once what sizes they take."""
    text = "".join(layer(text, f"l{index}", top=f"l{index}") for index, text in enumerate(some))
    assert_same_outputs(*exported(IMAGE + text, tmp_path))


VECTORS = [
    'type: "InnerProduct" inner_product_param { num_output: 5 }',
    'type: "BatchNorm"',
    'type: "Scale" scale_param { bias_term: true }',
    'type: "PReLU"',
    'type: "Softmax"',
    'type: "ArgMax" argmax_param { top_k: 2 }',
    'type: "Reshape" reshape_param { shape { dim: 0 dim: -1 dim: 1 dim: 1 } }',
    'type: "Flatten"',
]


@pytest.mark.parametrize("text", VECTORS)
def test_layer_on_vectors(text, tmp_path):
    assert_same_outputs(*exported(VECTOR + layer(text), tmp_path))


@pytest.mark.parametrize(
    "text",
    [
        'type: "Log"',
        'type: "Log" log_param { base: 10 scale: 2 shift: 1 }',
        'type: "Power" power_param { power: 0.5 }',
        'type: "Power" power_param { power: -0.75 shift: 1 }',
    ],
)
def test_layer_on_positive_numbers(text, tmp_path):
    draw = np.random.default_rng(0)
    assert_same_outputs(
        *exported(IMAGE + layer(text), tmp_path),
        feed=lambda name, shape: draw.uniform(0.1, 3, shape),
    )


def test_equal_maxima(tmp_path):
    """Caffe takes the last of equals first, and so it goes in a network full of zeros."""
    for how in ("", "axis: 1", "top_k: 4", "axis: 2 top_k: 3"):
        exports = exported(IMAGE + layer(f'type: "ArgMax" argmax_param {{ {how} }}'), tmp_path)
        draw = np.random.default_rng(0)
        assert_same_outputs(
            *exports, feed=lambda name, shape, draw=draw: draw.integers(0, 2, shape)
        )


@pytest.mark.parametrize("bias", ["", "bias_term: false"])
def test_embed(bias, tmp_path):
    draw = np.random.default_rng(0)
    text = INDICES + layer(f'type: "Embed" embed_param {{ num_output: 5 input_dim: 9 {bias} }}')
    assert_same_outputs(
        *exported(text, tmp_path), feed=lambda name, shape: draw.integers(0, 9, shape)
    )


ANOTHER = layer(CONVOLUTION % "kernel_size: 3 pad: 1", "a", top="a") + layer(
    CONVOLUTION % "kernel_size: 1", "b", top="b"
)
SEVERAL = [  # networks around layers of several bottoms or tops
    *(
        ANOTHER + layer(f'type: "Eltwise" eltwise_param {{ {how} }}', bottom=bottoms)
        for bottoms, how in (
            ("a b", ""),
            ("a b", "operation: PROD"),
            ("a b", "operation: MAX"),
            ("a b", "coeff: 1 coeff: -1"),
            ("a b a", "operation: MAX"),
            ("a b b", "coeff: 0.5 coeff: 2 coeff: 1"),
        )
    ),
    *(
        ANOTHER + layer(f'type: "Concat" concat_param {{ {how} }}', bottom="a b")
        for how in ("", "axis: 2", "concat_dim: 1", "axis: -1")
    ),
    layer('type: "Slice" slice_param { axis: 1 }', top="p q"),
    layer('type: "Slice" slice_param { slice_point: 1 slice_point: 4 }', top="p q r"),
    layer('type: "Slice" slice_param { axis: 2 slice_point: 4 }', top="p q"),
    layer('type: "Slice" slice_param { slice_dim: 0 }', top="p q"),
    layer('type: "Split"', top="p q"),
    ANOTHER + layer('type: "Split"', bottom="a", top="p q"),
    *(
        layer(CONVOLUTION % "kernel_size: 5", "a", top="a")
        + layer(f'type: "Crop" crop_param {{ {how} }}', bottom="image a")
        for how in ("axis: 2 offset: 2", "offset: 1 offset: 3", "axis: -1 offset: 2", "")
    ),
    layer(DECONVOLUTION % "kernel_size: 4 stride: 2", "a", top="a")
    + layer('type: "Crop" crop_param { offset: 1 offset: 2 }', bottom="a image"),
    layer(POOL % ("AVE", "global_pooling: true"), "g", top="g")
    + layer('type: "Reshape" reshape_param { shape { dim: 0 dim: 6 } }', "r", "g", "r")
    + layer('type: "Scale" scale_param { axis: 0 }', bottom="image r"),
    layer(POOL % ("AVE", "global_pooling: true"), "g", top="g")
    + layer('type: "Flatten"', "r", "g", "r")
    + layer('type: "Bias" bias_param { axis: 0 }', bottom="image r"),
    layer('type: "ReLU"', "r", top="image")
    + layer(CONVOLUTION % "kernel_size: 3"),  # in place, onto the input
    layer(CONVOLUTION % "kernel_size: 1", "c", top="c")
    + layer('type: "ReLU"', "r", "c", "c")
    + layer('type: "Scale"', "s", "c", "c"),
    layer('type: "Dropout"', "d", "image", "image") + layer('type: "Power"', bottom="image"),
    layer(CONVOLUTION % "kernel_size: 1", "c", "image image", "c1 c2"),
    layer(CONVOLUTION % "kernel_size: 1", "c", top="c")
    + layer('type: "ReLU"', "r", "c", "c")
    + layer('type: "AbsVal"', "a", "image", "c::1")
    + layer('type: "Scale"', "s", "c", "c"),  # a name that a version could have
    layer('type: "Silence"', "s", "image", "").replace('top: ""', "") + layer('type: "ReLU"'),
]


@pytest.mark.parametrize("text", SEVERAL, ids=range(len(SEVERAL)))
def test_several(text, tmp_path):
    assert_same_outputs(*exported(IMAGE + text, tmp_path))


def test_the_input_of_old_prototxts(tmp_path):
    """`input` and `input_dim`; and a size that its InnerProduct fixes, but for the batch."""
    text = (
        'name: "old" input: "image" input_dim: 2 input_dim: 6 input_dim: 9 input_dim: 11\n'
        + layer('type: "InnerProduct" inner_product_param { num_output: 5 }')
    )
    net, model, free = exported(text, tmp_path)
    assert_same_outputs(net, model, free)
    dims = [
        dim.dim_param or dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim
    ]
    assert dims == ["batch", 6, 9, 11] and model.graph.name == "old"


def test_what_the_model_says(tmp_path):
    _, model, _ = exported(
        IMAGE
        + layer(CONVOLUTION % "kernel_size: 3", top="conv")
        + layer('type: "ReLU"', "r", "conv", "conv"),
        tmp_path,
    )
    assert (model.producer_name, model.opset_import[0].version, model.ir_version) == (
        "active-convolution",
        13,
        7,
    )
    assert [each.name for each in (*model.graph.input, *model.graph.output)] == ["image", "conv"]
    for each, channels in ((model.graph.input[0], 6), (model.graph.output[0], 4)):
        dims = [dim.dim_param or dim.dim_value for dim in each.type.tensor_type.shape.dim]
        assert (
            dims[0] == "batch"
            and dims[1] == channels
            and all(isinstance(dim, str) for dim in dims[2:])
        )


def test_no_part_of_the_table_is_untested():
    """Each type that the fork knows stands in a network above; those of other trees are below."""
    known = set(locate.caffe().layer_type_list()) & set(onnx_model.TABLE)
    seen = set(re.findall(r'type: "(\w+)"', "".join([*EACH, *VECTORS, *SEVERAL]))) | {
        "Log",
        "Embed",
    }
    assert known - seen <= {"BatchReindex", "Parameter"}


def test_permute():
    """A layer of SSD's Caffe, which this one does not know."""
    x = np.random.default_rng(3).normal(size=(2, 6, 5, 7))
    for order, axes in (([0, 2, 3, 1], (0, 2, 3, 1)), ([0, 2], (0, 2, 1, 3))):
        param = SimpleNamespace(name="l", permute_param=SimpleNamespace(order=order))
        own = onnx_model.Layer(param, [], [onnx_model.Value("x", x.shape)], [])
        own.finish(onnx_model.TABLE["Permute"](own), ["y"])
        shapes = x.shape, x.transpose(axes).shape
        graph = onnx.helper.make_graph(
            own.nodes, "g", *([onnx_model._info(n, s)] for n, s in zip("xy", shapes))
        )
        opset = [onnx.helper.make_opsetid("", onnx_model.OPSET)]
        model = onnx.helper.make_model(graph, ir_version=7, opset_imports=opset)
        found = onnxruntime_outputs(model, {"x": x})["y"]
        np.testing.assert_allclose(found, x.transpose(axes), rtol=1e-6)


# ---- What cannot be expressed


@pytest.mark.parametrize(
    "text, message",
    [
        (
            layer('type: "SPP" spp_param { pyramid_height: 2 }')
            + layer('type: "Im2col" convolution_param { kernel_size: 2 }', "i", top="i"),
            "these layers cannot be expressed in ONNX: l (SPP), i (Im2col)",
        ),
        (
            layer('type: "BatchNorm" batch_norm_param { use_global_stats: false }'),
            "layer l of type BatchNorm cannot be expressed in ONNX: it uses the statistics of the "
            "batch",
        ),
        (
            layer(POOL % ("MAX", "kernel_size: 2 stride: 2"), top="l m"),
            "layer l of type Pooling cannot be expressed in ONNX: its second top",
        ),
        (
            layer(POOL % ("MAX", "kernel_size: 1 stride: 3"), bottom="image"),
            "layer l of type Pooling cannot be expressed in ONNX: with a stride larger than its "
            "kernel",
        ),
        (
            layer('type: "Flatten"', "f", top="f") + layer('type: "MVN"', bottom="f"),
            "layer l of type MVN cannot be expressed in ONNX: it does not read images",
        ),
        (
            layer('type: "Flatten"', "f", top="f")
            + layer(
                'type: "Convolution" convolution_param { num_output: 4 kernel_size: 1 }', bottom="f"
            ),
            "layer l of type Convolution cannot be expressed in ONNX: it reads vectors",
        ),
        (
            layer('type: "Flatten" flatten_param { axis: 0 }', "f", top="f")
            + layer('type: "Convolution" convolution_param { num_output: 4 axis: 0 }', bottom="f"),
            "layer l of type Convolution cannot be expressed in ONNX: its axis is not 1",
        ),
        (layer('type: "LSTM" recurrent_param { num_output: 2 }', bottom="image c"), "l (LSTM)"),
    ],
)
def test_refused(text, message, tmp_path):
    sequence = INPUT.format("dim: 2 dim: 6").replace('"image"', '"c"') if "LSTM" in text else ""
    with pytest.raises(UserError, match=re.escape(message)) as error:
        exported(IMAGE + sequence + text, tmp_path)
    assert "\n" not in str(error.value)


def test_what_onnx_itself_refuses_is_named(tmp_path):
    def wrong(layer):
        return layer.op("Relu", layer.bottom, alpha=1.0)

    table = {"ReLU": wrong}
    with pytest.raises(UserError, match="ONNX's checker refuses the result .*: give --format caf"):
        onnx_model.TABLE.update(was := dict(onnx_model.TABLE), **table)
        try:
            exported(IMAGE + layer('type: "ReLU"'), tmp_path)
        finally:
            onnx_model.TABLE.update(was)


@pytest.mark.parametrize("shift, power, expected", [(0, -1, np.inf), (-2, 0.5, np.nan)])
def test_a_constant_that_is_no_number(shift, power, expected, tmp_path):
    """Infinite, or none at all, as in Caffe."""
    text = layer(f'type: "Power" power_param {{ scale: 0 shift: {shift} power: {power} }}')
    net, model, _ = exported(IMAGE + text, tmp_path)
    ones = np.ones(net.blobs["image"].data.shape, np.float32)
    found = onnxruntime_outputs(model, {"image": ones})["l"]
    np.testing.assert_array_equal(found, np.full_like(found, expected))
    np.testing.assert_array_equal(net.forward()["l"], found)
