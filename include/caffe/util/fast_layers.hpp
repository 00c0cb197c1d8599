#ifndef CAFFE_UTIL_FAST_LAYERS_HPP_
#define CAFFE_UTIL_FAST_LAYERS_HPP_

#include <vector>

#include "caffe/blob.hpp"
#include "caffe/proto/caffe.pb.h"

/**
 * Threaded, vectorised loops for Caffe's own CPU layers, in as few passes over memory as there can be.
 *
 * The fork lets each layer's Forward_cpu or Backward_cpu first call the function of the same name here, with what that
 * layer keeps. It returns true if it has done all the work, and false, having done nothing, where it leaves the work to
 * Caffe's loop: for what it does not cover, and everywhere while UseFastLayers() is false. Results are Caffe's but for
 * rounding, and do not depend on the number of threads.
 */
namespace caffe {

/// Starts as true, unless the environment has FAST_CPU_LAYERS=0. Not to be changed between a forward and a backward pass.
bool& UseFastLayers();

/// A layer's parameters.
template <typename Dtype>
using FastBlobs = std::vector<shared_ptr<Blob<Dtype> > >;

template <typename Dtype>
bool FastReluForward(Dtype negative_slope, const std::vector<Blob<Dtype>*>& bottom,
                     const std::vector<Blob<Dtype>*>& top);
template <typename Dtype>
bool FastReluBackward(Dtype negative_slope, const std::vector<Blob<Dtype>*>& top,
                      const std::vector<bool>& propagate_down, const std::vector<Blob<Dtype>*>& bottom);

/// Eltwise's weighted sum; `sum` says that this is its operation.
template <typename Dtype>
bool FastEltwiseForward(bool sum, const std::vector<Dtype>& coefficients, const std::vector<Blob<Dtype>*>& bottom,
                        const std::vector<Blob<Dtype>*>& top);
template <typename Dtype>
bool FastEltwiseBackward(bool sum, const std::vector<Dtype>& coefficients, const std::vector<Blob<Dtype>*>& top,
                         const std::vector<bool>& propagate_down, const std::vector<Blob<Dtype>*>& bottom);

/// Split's gradient, the sum of its tops'.
template <typename Dtype>
bool FastSplitBackward(const std::vector<Blob<Dtype>*>& top, const std::vector<bool>& propagate_down,
                       const std::vector<Blob<Dtype>*>& bottom);

/// What Scale or Bias multiplies by and adds, for each of `dim` channels of `outer` x dim x `inner` elements.
template <typename Dtype>
struct FastScale {
  int outer, dim, inner;
  Blob<Dtype>* scale;     // NULL: 1
  Blob<Dtype>* bias;      // NULL: 0
  Blob<Dtype>* bottom;    // in place where it is the top
  Blob<Dtype>* top;
  Blob<Dtype>* kept;      // of an in-place Scale, what stood there before: the gradient of the scale needs it
};

/// top = scale * bottom + bias. `keep`: the gradient of the scale may be asked for.
template <typename Dtype>
bool FastScaleForward(const FastScale<Dtype>& layer, bool keep);

/// What FastScaleBackward computes; a gradient that is not added to is overwritten.
struct FastScaleWanted {
  bool bottom, scale, add_scale, bias, add_bias;
};
template <typename Dtype>
bool FastScaleBackward(const FastScale<Dtype>& layer, const FastScaleWanted& wanted);

/// What BatchNorm keeps, over num x channels x (the rest) elements.
template <typename Dtype>
struct FastBatchNorm {
  int channels;
  bool use_global_stats;
  Dtype moving_average_fraction, eps;
  Blob<Dtype>* mean;
  Blob<Dtype>* deviation;   // sqrt(variance + eps), for the backward pass
  Blob<Dtype>* normalized;  // the top, for the backward pass
  const FastBlobs<Dtype>& blobs;  // sums of means, of variances, of their weights
};
template <typename Dtype>
bool FastBatchNormForward(const FastBatchNorm<Dtype>& layer, Blob<Dtype>* bottom, Blob<Dtype>* top);
template <typename Dtype>
bool FastBatchNormBackward(const FastBatchNorm<Dtype>& layer, Blob<Dtype>* top, Blob<Dtype>* bottom);

/// A Pooling layer over `planes` images of one channel each; sizes in pixels.
struct FastPooling {
  PoolingParameter_PoolMethod method;
  int planes;
  int height, width, out_height, out_width;
  int kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w;

  int image_size() const { return height * width; }
  int out_size() const { return out_height * out_width; }
  size_t elements() const { return static_cast<size_t>(planes) * image_size(); }
};

/// `mask` is where maxima stood, unless a second top holds that.
template <typename Dtype>
bool FastPoolingForward(const FastPooling& pooling, Blob<int>* mask, const std::vector<Blob<Dtype>*>& bottom,
                        const std::vector<Blob<Dtype>*>& top);
template <typename Dtype>
bool FastPoolingBackward(const FastPooling& pooling, const Blob<int>& mask, const std::vector<Blob<Dtype>*>& top,
                         const std::vector<bool>& propagate_down, const std::vector<Blob<Dtype>*>& bottom);

template <typename Dtype>
bool FastSoftmaxForward(int axis, Blob<Dtype>* bottom, Blob<Dtype>* top);
template <typename Dtype>
bool FastSoftmaxBackward(int axis, Blob<Dtype>* top, Blob<Dtype>* bottom);

/// A Convolution; what is covered has two spatial axes and larger kernels than 1x1, and is not in place.
struct FastConvolution {
  int channel_axis, spatial_axes, group;
  bool bias;
  const Blob<int>& kernel;  // an element per spatial axis, if there are any
  const Blob<int>& stride;
  const Blob<int>& pad;
  const Blob<int>& dilation;
};

template <typename Dtype>
bool FastConvolutionForward(const FastConvolution& convolution, const FastBlobs<Dtype>& blobs,
                            const std::vector<Blob<Dtype>*>& bottom, const std::vector<Blob<Dtype>*>& top);
/// `wanted`: which parameters' gradients are added to.
template <typename Dtype>
bool FastConvolutionBackward(const FastConvolution& convolution, const FastBlobs<Dtype>& blobs,
                             const std::vector<bool>& wanted, const std::vector<Blob<Dtype>*>& top,
                             const std::vector<bool>& propagate_down, const std::vector<Blob<Dtype>*>& bottom);

/// ComputeUpdateValue of the solvers SGD and Nesterov, in one pass: the parameter's gradient becomes its update.
template <typename Dtype>
bool FastSgdUpdate(Dtype rate, Dtype momentum, bool nesterov, Blob<Dtype>* parameter, Blob<Dtype>* history);
/// Net's ClearParamDiffs.
template <typename Dtype>
bool FastClearDiffs(const std::vector<Blob<Dtype>*>& parameters);

}  // namespace caffe

#endif  // CAFFE_UTIL_FAST_LAYERS_HPP_
