"""Where Caffe's CPU layers call the loops of include/caffe/util/fast_layers.hpp.

Each function of a layer starts with a call of its counterpart, which says whether it has done the
work; if not, Caffe's own loop below does it. A tree whose layers look otherwise keeps its loops.
"""

HEADER = "caffe/util/fast_layers.hpp"

SCALE = """FastScale<Dtype>{
      outer_dim_, scale_dim_, inner_dim_, bottom.size() > 1 ? bottom[1] : this->blobs_[0].get(),
      bias_layer_ ? this->blobs_[bias_param_id_].get() : NULL, bottom[0], top[0], &temp_}"""
BIAS = """FastScale<Dtype>{
      outer_dim_, bias_dim_, inner_dim_, NULL,
      bottom.size() > 1 ? bottom[1] : this->blobs_[0].get(),
      bottom[0], top[0], NULL}"""
# Caffe overwrites the gradient of its scale instead of adding to it where it needs no sum, or no
# second one.
SCALE_WANTED = """FastScaleWanted{
      propagate_down[0],
      bottom.size() > 1 ? propagate_down[1] : bool(this->param_propagate_down_[0]),
      bottom.size() == 1 && (outer_dim_ != 1 || (scale_dim_ == 1 && inner_dim_ != 1)),
      bias_layer_ && this->param_propagate_down_.back(), true}"""
BIAS_WANTED = """FastScaleWanted{
      propagate_down[0], false, false,
      bottom.size() > 1 ? propagate_down[1] : bool(this->param_propagate_down_[0]),
      bottom.size() == 1}"""
BATCH_NORM = """FastBatchNorm<Dtype>{
      channels_, use_global_stats_, moving_average_fraction_, eps_, &mean_, &variance_, &x_norm_,
      this->blobs_}"""
POOLING = """FastPooling{
      this->layer_param_.pooling_param().pool(), bottom[0]->num() * channels_, height_, width_,
      pooled_height_, pooled_width_, kernel_h_, kernel_w_, stride_h_, stride_w_, pad_h_, pad_w_}"""
CONVOLUTION = """FastConvolution{
      this->channel_axis_, this->num_spatial_axes_, this->group_, this->bias_term_,
      this->kernel_shape_, this->stride_, this->pad_, this->dilation_}"""
UPDATE = """FastSgdUpdate(
      rate * Dtype(this->net_->params_lr()[param_id]), Dtype(this->param_.momentum()), {nesterov},
      this->net_->learnable_params()[param_id], this->history_[param_id].get())"""
SLOPE = "Dtype(this->layer_param_.relu_param().negative_slope())"
IS_SUM = "op_ == EltwiseParameter_EltwiseOp_SUM"

# (file in src/caffe, class, function, call)
CALLS = [
    ("layers/relu_layer.cpp", "ReLULayer", "Forward_cpu", f"FastReluForward({SLOPE}, bottom, top)"),
    (
        "layers/relu_layer.cpp",
        "ReLULayer",
        "Backward_cpu",
        f"FastReluBackward({SLOPE}, top, propagate_down, bottom)",
    ),
    (
        "layers/eltwise_layer.cpp",
        "EltwiseLayer",
        "Forward_cpu",
        f"FastEltwiseForward({IS_SUM}, coeffs_, bottom, top)",
    ),
    (
        "layers/eltwise_layer.cpp",
        "EltwiseLayer",
        "Backward_cpu",
        f"FastEltwiseBackward({IS_SUM}, coeffs_, top, propagate_down, bottom)",
    ),
    (
        "layers/split_layer.cpp",
        "SplitLayer",
        "Backward_cpu",
        "FastSplitBackward(top, propagate_down, bottom)",
    ),
    (
        "layers/scale_layer.cpp",
        "ScaleLayer",
        "Forward_cpu",
        f"FastScaleForward({SCALE},\n      bottom.size() > 1 || this->param_propagate_down_[0])",
    ),
    (
        "layers/scale_layer.cpp",
        "ScaleLayer",
        "Backward_cpu",
        f"FastScaleBackward({SCALE}, {SCALE_WANTED})",
    ),
    ("layers/bias_layer.cpp", "BiasLayer", "Forward_cpu", f"FastScaleForward({BIAS}, false)"),
    (
        "layers/bias_layer.cpp",
        "BiasLayer",
        "Backward_cpu",
        f"FastScaleBackward({BIAS}, {BIAS_WANTED})",
    ),
    (
        "layers/batch_norm_layer.cpp",
        "BatchNormLayer",
        "Forward_cpu",
        f"FastBatchNormForward({BATCH_NORM}, bottom[0], top[0])",
    ),
    (
        "layers/batch_norm_layer.cpp",
        "BatchNormLayer",
        "Backward_cpu",
        f"FastBatchNormBackward({BATCH_NORM}, top[0], bottom[0])",
    ),
    (
        "layers/pooling_layer.cpp",
        "PoolingLayer",
        "Forward_cpu",
        f"FastPoolingForward({POOLING}, &max_idx_, bottom, top)",
    ),
    (
        "layers/pooling_layer.cpp",
        "PoolingLayer",
        "Backward_cpu",
        f"FastPoolingBackward({POOLING}, max_idx_, top, propagate_down, bottom)",
    ),
    (
        "layers/softmax_layer.cpp",
        "SoftmaxLayer",
        "Forward_cpu",
        "FastSoftmaxForward(softmax_axis_, bottom[0], top[0])",
    ),
    (
        "layers/softmax_layer.cpp",
        "SoftmaxLayer",
        "Backward_cpu",
        "FastSoftmaxBackward(softmax_axis_, top[0], bottom[0])",
    ),
    (
        "layers/conv_layer.cpp",
        "ConvolutionLayer",
        "Forward_cpu",
        f"FastConvolutionForward({CONVOLUTION}, this->blobs_, bottom, top)",
    ),
    (
        "layers/conv_layer.cpp",
        "ConvolutionLayer",
        "Backward_cpu",
        f"FastConvolutionBackward({CONVOLUTION}, this->blobs_,\n"
        "      this->param_propagate_down_, top, propagate_down, bottom)",
    ),
    ("solvers/sgd_solver.cpp", "SGDSolver", "ComputeUpdateValue", UPDATE.format(nesterov="false")),
    (
        "solvers/nesterov_solver.cpp",
        "NesterovSolver",
        "ComputeUpdateValue",
        UPDATE.format(nesterov="true"),
    ),
    ("net.cpp", "Net", "ClearParamDiffs", "FastClearDiffs(learnable_params_)"),
]


# What a file must mention: older layers of the same name keep less than the calls hand over.
MARKS = {
    "layers/batch_norm_layer.cpp": "x_norm_",
    "layers/conv_layer.cpp": "dilation_",
    "layers/scale_layer.cpp": "bias_param_id_",
    "layers/softmax_layer.cpp": "softmax_axis_",
    "solvers/sgd_solver.cpp": "params_lr",
    "solvers/nesterov_solver.cpp": "params_lr",
}


def edits(make):
    """A list of make(name, file, anchor, new, done, required=False) for all CALLS; see
    edits.Edit."""
    made, included = [], set()
    for source, layer, function, call in CALLS:
        file, name = f"src/caffe/{source}", f"fast CPU layers: {layer}::{function}"
        if file not in included:
            made.append(
                make(
                    f"{name}, header",
                    file,
                    anchor=r"\A([\s\S]*?^#include [^\n]*\n)",
                    new=rf'\1#include "{HEADER}"\n',
                    done=HEADER,
                    required=False,
                )
            )
            included.add(file)
        anchor = (
            rf"\A(?=[\s\S]*{MARKS.get(source, '')})"
            rf"([\s\S]*?^void {layer}<Dtype>::{function}\([^{{}}]*\{{\n)"
        )
        made.append(
            make(
                name,
                file,
                anchor=anchor,
                new=rf"\1  if ({call}) {{ return; }}\n",
                done=call.split("(")[0] + r"\(",
                required=False,
            )
        )
    return made
