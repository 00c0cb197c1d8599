#include <algorithm>
#include <cmath>

#include "caffe/util/fast_layers.hpp"
#include "caffe/util/fast_parallel.hpp"

namespace caffe {

namespace {

/// Neighbours in the innermost dimension that are worked on together.
const int kTogether = 64;

/// The shape around a softmax, cut into parts: outer x channels x inner, some of the inner elements at a time.
struct Cut {
  int outer, channels, inner, pieces;

  Cut(int outer, int channels, int inner)
      : outer(outer), channels(channels), inner(inner), pieces((inner + kTogether - 1) / kTogether) {}

  int parts() const { return outer * pieces; }
  size_t elements() const { return static_cast<size_t>(outer) * channels * inner; }
  ACTIVE_INLINE int Count(int part) const { return std::min(kTogether, inner - part % pieces * kTogether); }
  ACTIVE_INLINE size_t At(int part) const {
    return static_cast<size_t>(part / pieces) * channels * inner + part % pieces * kTogether;
  }
};

/// Of `count` neighbours.
template <typename Dtype>
ACTIVE_INLINE void Softmax(const Cut& cut, int count, const Dtype* from, Dtype* to) {
  Dtype largest[kTogether], sum[kTogether] = {};
  std::copy_n(from, count, largest);
  for (int c = 1; c < cut.channels; ++c) {
    const Dtype* x = from + static_cast<size_t>(c) * cut.inner;
    for (int i = 0; i < count; ++i) { largest[i] = largest[i] < x[i] ? x[i] : largest[i]; }
  }
  for (int c = 0; c < cut.channels; ++c) {
    const size_t at = static_cast<size_t>(c) * cut.inner;
    for (int i = 0; i < count; ++i) { sum[i] += to[at + i] = std::exp(from[at + i] - largest[i]); }
  }
  for (int c = 0; c < cut.channels; ++c) {
    Dtype* y = to + static_cast<size_t>(c) * cut.inner;
    for (int i = 0; i < count; ++i) { y[i] /= sum[i]; }
  }
}

/// diff = (top_diff - sum(top_diff * top)) * top
template <typename Dtype>
ACTIVE_INLINE void SoftmaxDiff(const Cut& cut, int count, const Dtype* top, const Dtype* top_diff, Dtype* diff) {
  Dtype sum[kTogether] = {};
  for (int c = 0; c < cut.channels; ++c) {
    const size_t at = static_cast<size_t>(c) * cut.inner;
    for (int i = 0; i < count; ++i) { sum[i] += top_diff[at + i] * top[at + i]; }
  }
  for (int c = 0; c < cut.channels; ++c) {
    const size_t at = static_cast<size_t>(c) * cut.inner;
    for (int i = 0; i < count; ++i) { diff[at + i] = (top_diff[at + i] - sum[i]) * top[at + i]; }
  }
}

}  // namespace

template <typename Dtype>
bool FastSoftmaxForward(int axis, Blob<Dtype>* bottom, Blob<Dtype>* top) {
  if (!UseFastLayers()) { return false; }
  const Cut cut(bottom->count(0, axis), bottom->shape(axis), bottom->count(axis + 1));
  const Dtype* from = bottom->cpu_data();
  Dtype* to = top->mutable_cpu_data();
  FastParts(cut.parts(), cut.elements(), [=](int part) FAST_LOOP {
    Softmax(cut, cut.Count(part), from + cut.At(part), to + cut.At(part));
  });
  return true;
}

template <typename Dtype>
bool FastSoftmaxBackward(int axis, Blob<Dtype>* top, Blob<Dtype>* bottom) {
  if (!UseFastLayers()) { return false; }
  const Cut cut(top->count(0, axis), top->shape(axis), top->count(axis + 1));
  const Dtype* data = top->cpu_data();
  const Dtype* top_diff = top->cpu_diff();
  Dtype* diff = bottom->mutable_cpu_diff();
  FastParts(cut.parts(), cut.elements(), [=](int part) FAST_LOOP {
    const size_t at = cut.At(part);
    SoftmaxDiff(cut, cut.Count(part), data + at, top_diff + at, diff + at);
  });
  return true;
}

#define INSTANTIATE(Dtype) \
  template bool FastSoftmaxForward<Dtype>(int, Blob<Dtype>*, Blob<Dtype>*); \
  template bool FastSoftmaxBackward<Dtype>(int, Blob<Dtype>*, Blob<Dtype>*)

INSTANTIATE(float);
INSTANTIATE(double);

}  // namespace caffe
