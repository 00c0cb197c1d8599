#include <algorithm>
#include <cmath>

#include "caffe/layers/aconv_fast_layer.hpp"
#include "caffe/util/math_functions.hpp"

namespace caffe {

namespace {

const float kLeastRadius = 1e-6f, kMostRadius = 1e6f;  // pixels
const int kMostPad = 1 << 20;                           // as convolution_param.pad's

}  // namespace

template <typename Dtype>
LayerParameter AConvFastLayer<Dtype>::Translate(LayerParameter param) {
  ActiveConvolutionParameter* active = param.mutable_active_convolution_param();
  active->set_normalize_gradient(param.aconv_param().normalize());
  active->set_position_group(param.aconv_param().position_group());
  return param;
}

template <typename Dtype>
void AConvFastLayer<Dtype>::ReadPositions() {
  CheckParameters();
  ReadBase();
  const AConvParameter& p = this->layer_param_.aconv_param();
  const int synapses = this->geometry_.synapses(), count = synapses * this->geometry_.position_group;
  const bool on_lattice = p.pos_filler_std() < 0;
  this->start_x_.assign(count, 0);
  this->start_y_.assign(count, 0);
  const Dtype deviation = p.pos_filler_std() * p.base_radius();
  if (deviation > 0) {
    caffe_rng_gaussian<Dtype>(count, 0, deviation, &this->start_x_[0]);
    caffe_rng_gaussian<Dtype>(count, 0, deviation, &this->start_y_[0]);
  }
  for (int i = 0; i < count; ++i) {
    const int k = i % synapses;
    const double angle = 2 * M_PI * (k - 1) / (synapses - 1) + p.base_angle();
    const double x = p.base_radius() * std::cos(angle), y = p.base_radius() * std::sin(angle);
    if (k == 0) {
      this->start_x_[i] = this->start_y_[i] = 0;
    } else {
      this->start_x_[i] += on_lattice ? std::nearbyint(x) : x;
      this->start_y_[i] += on_lattice ? std::nearbyint(y) : y;
    }
  }
}

template <typename Dtype>
void AConvFastLayer<Dtype>::CheckParameters() const {
  const AConvParameter& p = this->layer_param_.aconv_param();
  const ConvolutionParameter& conv = this->layer_param_.convolution_param();
  const bool square = p.type() == AConvParameter_FilterType_SQUARE;
  CHECK(p.base_radius() >= kLeastRadius && p.base_radius() <= kMostRadius) << this->Where()
      << "aconv_param.base_radius is " << p.base_radius() << "; allowed: " << kLeastRadius << " to " << kMostRadius
      << " pixels";
  CHECK(std::isfinite(p.base_angle())) << this->Where() << "aconv_param.base_angle is " << p.base_angle()
      << "; allowed: finite numbers";
  CHECK(std::isfinite(p.pos_filler_std()) && p.pos_filler_std() <= kMostRadius) << this->Where()
      << "aconv_param.pos_filler_std is " << p.pos_filler_std() << "; allowed: finite numbers up to " << kMostRadius;
  CHECK(this->dilation_h_ == 1 && this->dilation_w_ == 1) << this->Where() << "convolution_param.dilation is "
      << this->dilation_h_ << " x " << this->dilation_w_ << "; allowed: 1 (give aconv_param.base_radius instead)";
  CHECK(!square || !(conv.has_kernel_h() || conv.has_kernel_w())) << this->Where()
      << "convolution_param.kernel_h and kernel_w are given; allowed with aconv_param.type SQUARE: kernel_size";
  CHECK(!square || !(p.has_pad() || p.has_pad_h() || p.has_pad_w())) << this->Where()
      << "aconv_param.pad is given; allowed with aconv_param.type SQUARE: convolution_param.pad";
  CHECK(square || !(conv.pad_size() || conv.has_pad_h() || conv.has_pad_w())) << this->Where()
      << "convolution_param.pad is given; allowed with this aconv_param.type: aconv_param.pad";
}

/// The output has the size of a 1x1 kernel's with this pad, for SQUARE less half the kernel.
template <typename Dtype>
void AConvFastLayer<Dtype>::ReadBase() {
  const AConvParameter& p = this->layer_param_.aconv_param();
  const bool both = p.has_pad_h() || p.has_pad_w();
  ActiveGeometry& g = this->geometry_;
  if (p.type() == AConvParameter_FilterType_SQUARE) {
    this->pad_h_ -= g.kernel_h / 2;
    this->pad_w_ -= g.kernel_w / 2;
  } else {
    this->pad_h_ = both ? p.pad_h() : p.pad();
    this->pad_w_ = both ? p.pad_w() : p.pad();
    const int least = std::min(this->pad_h_, this->pad_w_), most = std::max(this->pad_h_, this->pad_w_);
    CHECK(least >= -kMostPad && most <= kMostPad) << this->Where() << "aconv_param.pad is " << this->pad_h_
        << " x " << this->pad_w_ << "; allowed: " << -kMostPad << " to " << kMostPad << " in each dimension";
  }
  this->extent_h_ = this->extent_w_ = 1;
  g.base_h = -this->pad_h_;
  g.base_w = -this->pad_w_;
}

INSTANTIATE_CLASS(AConvFastLayer);
REGISTER_LAYER_CLASS(AConvFast);

}  // namespace caffe
