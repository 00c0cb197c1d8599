#ifndef CAFFE_UTIL_FAST_POINTWISE_HPP_
#define CAFFE_UTIL_FAST_POINTWISE_HPP_

#include "caffe/blob.hpp"
#include "caffe/util/active_convolution.hpp"
#include "caffe/util/fast_layers.hpp"

/// 1x1 convolutions without padding, of any number of spatial axes, as matrix products.
namespace caffe {

bool FastIsPointwise(const FastConvolution& convolution);

/// `bias`: NULL where there is none.
template <typename Dtype>
void FastPointwiseForward(const FastConvolution& convolution, const Dtype* weight, const Dtype* bias,
                          const Blob<Dtype>& bottom, Blob<Dtype>* top);

/// The gradients that are asked for, which are none of positions, from the top's.
template <typename Dtype>
void FastPointwiseBackward(const FastConvolution& convolution, const Dtype* weight, const Blob<Dtype>& bottom,
                           const Blob<Dtype>& top, const ActiveGradients<Dtype>& gradients);

}  // namespace caffe

#endif  // CAFFE_UTIL_FAST_POINTWISE_HPP_
