// libFuzzer's target: parameters and blob shapes of both layers, and a forward and backward pass where they are accepted and
// small. scripts/fuzz_layers.sh builds it with Clang's sanitizers, and runs it. A refusal, which elsewhere ends the process,
// is an exception here; whatever else ends it, one of Caffe's own checks too, is a finding.
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "caffe/caffe.hpp"

struct Refused {};

/// In the place of glog's message of a failed check.
struct Refusal {
  template <typename Value>
  const Refusal& operator<<(const Value&) const { return *this; }
  ~Refusal() noexcept(false) { throw Refused(); }
};

#undef CHECK
#undef CHECK_EQ
#undef CHECK_GE
#undef CHECK_LE
#undef REGISTER_LAYER_CLASS
#define CHECK(condition) if (condition) {} else Refusal()
#define CHECK_EQ(a, b) CHECK((a) == (b))
#define CHECK_GE(a, b) CHECK((a) >= (b))
#define CHECK_LE(a, b) CHECK((a) <= (b))
#define REGISTER_LAYER_CLASS(type)  // the library has

// The layers themselves, with these checks and under the sanitizers.
#include "../../../src/caffe/layers/active_convolution_layer.cpp"
#include "../../../src/caffe/layers/aconv_fast_layer.cpp"

namespace caffe {

namespace {

const size_t kTried = 1 << 16;  // elements of a blob that is allocated

/// What libFuzzer gives, as numbers; zeros after its end.
class Source {
 public:
  Source(const uint8_t* data, size_t size) : data_(data), end_(data + size) {}

  int Byte() { return data_ < end_ ? *data_++ : 0; }
  bool Chance() { return Byte() & 1; }

  /// Mostly small, now and then at a limit of something.
  uint32_t Whole() {
    const uint32_t limits[] = {0, 46341, 1 << 16, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 1 << 30, 0x7FFFFFFF, 0x80000000,
                               0xFFFFFFFF};
    const int byte = Byte();
    return byte < 224 ? byte % 8 : limits[byte % 10];
  }

  float Number() {
    const float limits[] = {0, -0.f, 1e-45f, 1e-7f, 1e6f, 1e7f, 1e38f, -1e38f, NAN, INFINITY, -INFINITY, 1 << 24, 0.05f, -1};
    const int byte = Byte();
    return byte < 128 ? (byte - 64) / 16.f : limits[byte % 14];
  }

 private:
  const uint8_t *data_, *end_;
};

/// One of the layers, which refuses what is accepted but too large to be tried.
template <typename Base>
class Tried : public Base {
 public:
  explicit Tried(const LayerParameter& param) : Base(param) {}

 protected:
  virtual void ReadPositions() {
    const ActiveGeometry& g = this->geometry_;
    const double weights = double(g.synapses()) * g.group_channels() * g.num_output;
    CHECK_LE(weights, kTried);
    CHECK_LE(double(g.synapses()) * g.position_group, kTried);
    Base::ReadPositions();
  }
};

void FillConvolution(Source* source, ConvolutionParameter* p) {
  p->set_num_output(source->Whole());
  p->set_bias_term(source->Chance());
  for (int i = source->Byte() % 4; i > 0; --i) { p->add_kernel_size(source->Whole()); }
  for (int i = source->Byte() % 3; i > 0; --i) { p->add_pad(source->Whole()); }
  for (int i = source->Byte() % 3; i > 0; --i) { p->add_stride(source->Whole()); }
  for (int i = source->Byte() % 3; i > 0; --i) { p->add_dilation(source->Whole()); }
  const int given = source->Byte();
  if (given & 1) { p->set_kernel_h(source->Whole()); }
  if (given & 2) { p->set_kernel_w(source->Whole()); }
  if (given & 4) { p->set_pad_h(source->Whole()); }
  if (given & 8) { p->set_pad_w(source->Whole()); }
  if (given & 16) { p->set_stride_h(source->Whole()); }
  if (given & 32) { p->set_stride_w(source->Whole()); }
  if (given & 64) { p->set_group(source->Whole()); }
  if (given & 128) { p->set_axis(source->Byte() % 6 - 3); }
}

void FillActive(Source* source, ActiveConvolutionParameter* p) {
  p->set_position_lr_mult(source->Number());
  p->set_position_group(source->Chance() ? source->Whole() : 1);
  p->set_fix_origin(source->Chance());
  for (int i = source->Chance() ? source->Byte() % 16 : 0; i > 0; --i) {
    ActiveConvolutionParameter::Position* position = p->add_position();
    position->set_x(source->Number());
    position->set_y(source->Number());
  }
}

void FillFast(Source* source, AConvParameter* p) {
  p->set_type(AConvParameter_FilterType(source->Byte() % 3));
  p->set_position_group(source->Chance() ? source->Whole() : 1);
  const int given = source->Byte();
  if (given & 1) { p->set_pad(source->Whole()); }
  if (given & 2) { p->set_pad_h(source->Whole()); }
  if (given & 4) { p->set_pad_w(source->Whole()); }
  if (given & 8) { p->set_base_radius(source->Number()); }
  if (given & 16) { p->set_base_angle(source->Number()); }
  if (given & 32) { p->set_pos_filler_std(source->Number()); }
}

void FillBlobs(Source* source, LayerParameter* param) {
  for (int i = source->Chance() ? source->Byte() % 6 : 0; i > 0; --i) {
    BlobProto* blob = param->add_blobs();
    int count = 1;
    for (int axis = source->Byte() % 5; axis > 0; --axis) {
      const int size = 1 + source->Byte() % 4;  // of an empty one Caffe itself, which reads it, ends the process
      blob->mutable_shape()->add_dim(size);
      count *= size;
    }
    for (int j = 0; j < count; ++j) { blob->add_data(source->Number()); }
  }
}

template <typename Layer>
void Try(Source* source, const LayerParameter& param) {
  const bool tall = source->Byte() % 32 == 0;  // as tall as a blob may be, without a pixel in memory
  vector<int> shape(source->Byte() % 16 ? 4 : source->Byte() % 6, 1);
  for (int i = 0; i < shape.size(); ++i) { shape[i] = source->Byte() % 9; }
  if (tall && shape.size() == 4) {
    shape[0] = 0;
    shape[2] = source->Whole() & 0x7FFFFFFF;
  }
  Blob<float> bottom(shape), top;
  vector<Blob<float>*> bottoms(1, &bottom), tops(1, &top);
  Layer layer(param);
  layer.SetUp(bottoms, tops);
  if (bottom.count() > kTried || top.count() > kTried) { return; }
  if (bottom.count() == 0 || top.count() == 0) { return; }  // Caffe's blobs give no memory then
  for (int i = 0; i < bottom.count(); ++i) { bottom.mutable_cpu_data()[i] = source->Number(); }
  layer.Forward(bottoms, tops);
  for (int i = 0; i < top.count(); ++i) { top.mutable_cpu_diff()[i] = source->Number(); }
  layer.Backward(tops, vector<bool>(1, true), bottoms);
}

}  // namespace

}  // namespace caffe

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  caffe::Source source(data, size);
  caffe::LayerParameter param;
  const bool fast = source.Chance();
  param.set_name("fuzzed");
  caffe::FillConvolution(&source, param.mutable_convolution_param());
  if (fast) {
    caffe::FillFast(&source, param.mutable_aconv_param());
  } else {
    caffe::FillActive(&source, param.mutable_active_convolution_param());
  }
  caffe::FillBlobs(&source, &param);
  try {
    if (fast) {
      caffe::Try<caffe::Tried<caffe::AConvFastLayer<float> > >(&source, param);
    } else {
      caffe::Try<caffe::Tried<caffe::ActiveConvolutionLayer<float> > >(&source, param);
    }
  } catch (const Refused&) {
  }
  return 0;
}
