#ifndef CAFFE_ACONV_FAST_LAYER_HPP_
#define CAFFE_ACONV_FAST_LAYER_HPP_

#include "caffe/layers/active_convolution_layer.hpp"

namespace caffe {

/**
 * @brief The layer type of the paper's published code: its prototxt and .caffemodel files, on ActiveConvolutionLayer.
 *
 * aconv_param:
 *   - type [SQUARE]: with SQUARE the pad stands in convolution_param, and the base pixel is the kernel's centre. With
 *     CIRCLE and RANDOM it stands here, may be negative, and is that of a 1x1 kernel.
 *   - pad, pad_h, pad_w [0]: for CIRCLE and RANDOM only.
 *   - base_radius [1], in pixels; base_angle [0], in radians; pos_filler_std [0.05]: the shape at rest. Synapse 0 sits at
 *     the origin, synapse i >= 1 at base_radius (cos t, sin t), t = 2 pi (i-1) / (K-1) + base_angle: rounded to whole
 *     pixels where pos_filler_std is negative, else with Gaussian noise of standard deviation
 *     pos_filler_std * base_radius in both coordinates.
 *   - normalize [false] and position_group [1] mean what they mean for ActiveConvolution; the origin never moves.
 *
 * Without `param` entries of their own the position blobs learn as those of ActiveConvolution do.
 */
template <typename Dtype>
class AConvFastLayer : public ActiveConvolutionLayer<Dtype> {
 public:
  explicit AConvFastLayer(const LayerParameter& param) : ActiveConvolutionLayer<Dtype>(Translate(param)) {}

  virtual inline const char* type() const { return "AConvFast"; }

 protected:
  virtual void ReadPositions();

 private:
  static LayerParameter Translate(LayerParameter param);
  void CheckParameters() const;
  void ReadBase();
};

}  // namespace caffe

#endif  // CAFFE_ACONV_FAST_LAYER_HPP_
