#include <algorithm>
#include <vector>

#include "caffe/util/fast_layers.hpp"
#include "caffe/util/fast_parallel.hpp"

namespace caffe {

namespace {

/// Blobs' memory, and what one channel's elements are multiplied by.
template <typename Dtype>
struct Memory {
  const Dtype* scale;  // NULL: 1
  const Dtype* bias;   // NULL: 0
  const Dtype* from;
  Dtype* to;
  Dtype* kept;         // NULL: a copy is not wanted

  ACTIVE_INLINE Dtype ScaleOf(int d) const { return scale ? scale[d] : Dtype(1); }
  ACTIVE_INLINE Dtype BiasOf(int d) const { return bias ? bias[d] : Dtype(0); }
};

/// The plane of one channel, from element `at` on. kKeep: a copy is wanted.
template <bool kKeep, typename Dtype>
ACTIVE_INLINE void ScalePlane(int inner, size_t at, Dtype scale, Dtype bias, const Memory<Dtype>& memory) {
  const Dtype* from = memory.from + at;
  Dtype* to = memory.to + at;
  Dtype* kept = kKeep ? memory.kept + at : NULL;
#pragma omp simd
  for (int i = 0; i < inner; ++i) {
    const Dtype x = from[i];
    if (kKeep) { kept[i] = x; }
    to[i] = x * scale + bias;
  }
}

/// Elements of all channels, side by side, from element `at` on.
template <bool kKeep, typename Dtype>
ACTIVE_INLINE void ScaleRow(int first, int last, size_t at, const Memory<Dtype>& memory) {
  const Dtype* from = memory.from + at;
  Dtype* to = memory.to + at;
  Dtype* kept = kKeep ? memory.kept + at : NULL;
#pragma omp simd
  for (int d = first; d < last; ++d) {
    const Dtype x = from[d];
    if (kKeep) { kept[d] = x; }
    to[d] = x * memory.ScaleOf(d) + memory.BiasOf(d);
  }
}

template <bool kKeep, typename Dtype>
void Forward(const FastScale<Dtype>& l, const Memory<Dtype>& memory) {
  const size_t elements = static_cast<size_t>(l.outer) * l.dim * l.inner;
  if (l.inner == 1) {
    const int blocks = (l.dim + kFastRun - 1) / kFastRun;
    FastParts(l.outer * blocks, elements, [=](int part) FAST_LOOP {
      const int first = part % blocks * kFastRun;
      ScaleRow<kKeep>(first, first + std::min(kFastRun, l.dim - first), part / blocks * static_cast<size_t>(l.dim),
                      memory);
    });
  } else {
    FastParts(l.outer * l.dim, elements, [=](int part) FAST_LOOP {
      const int d = part % l.dim;
      ScalePlane<kKeep>(l.inner, static_cast<size_t>(part) * l.inner, memory.ScaleOf(d), memory.BiasOf(d), memory);
    });
  }
}

/// The gradients of one channel's scale and bias.
struct Sums {
  double scale, bias;
};

/// Adds a plane's part to its channel's sums (that of the scale where kData says so), and writes the gradient of what was
/// scaled (kDiff); block by block, so that the sum of a long plane stays exact.
template <bool kDiff, bool kData, typename Dtype>
ACTIVE_INLINE void BackwardPlane(int inner, Dtype scale, const Dtype* data, const Dtype* top_diff, Dtype* bottom_diff,
                               Sums* sums) {
  for (int first = 0; first < inner; first += kFastRun) {
    const int last = first + std::min(kFastRun, inner - first);
    Dtype of_scale = 0, of_bias = 0;
#pragma omp simd reduction(+ : of_scale, of_bias)
    for (int i = first; i < last; ++i) {
      const Dtype g = top_diff[i];
      if (kData) { of_scale += g * data[i]; }
      of_bias += g;
      if (kDiff) { bottom_diff[i] = g * scale; }
    }
    sums->scale += of_scale;
    sums->bias += of_bias;
  }
}

template <typename Dtype>
struct BackwardMemory {
  const Dtype* scale;    // NULL: 1
  const Dtype* data;     // NULL: the gradient of the scale is not wanted
  const Dtype* top_diff;
  Dtype* bottom_diff;    // NULL: not wanted
  Dtype* scale_diff;     // NULL: not wanted
  Dtype* bias_diff;      // NULL: not wanted
  bool add_scale, add_bias;

  ACTIVE_INLINE void Store(int d, const Sums& sums) const {
    if (scale_diff) { scale_diff[d] = (add_scale ? scale_diff[d] : Dtype(0)) + static_cast<Dtype>(sums.scale); }
    if (bias_diff) { bias_diff[d] = (add_bias ? bias_diff[d] : Dtype(0)) + static_cast<Dtype>(sums.bias); }
  }
};

/// A part of the work are some channels: so many that what each image has of them makes a run worth loading.
template <bool kDiff, bool kData, typename Dtype>
void Backward(const FastScale<Dtype>& l, const BackwardMemory<Dtype>& m) {
  const int kMostTogether = 64, kRun = 4096;  // channels, elements
  const int together = std::min(kMostTogether, std::max(1, kRun / std::max(1, l.inner)));
  FastParts((l.dim + together - 1) / together, static_cast<size_t>(l.outer) * l.dim * l.inner, [=](int part) FAST_LOOP {
    const int first = part * together, channels = std::min(together, l.dim - first);
    Sums sums[kMostTogether] = {};
    for (int n = 0; n < l.outer; ++n) {
      for (int d = 0; d < channels; ++d) {
        const size_t at = (static_cast<size_t>(n) * l.dim + first + d) * l.inner;
        BackwardPlane<kDiff, kData>(l.inner, m.scale ? m.scale[first + d] : Dtype(1), kData ? m.data + at : NULL,
                                    m.top_diff + at, kDiff ? m.bottom_diff + at : NULL, &sums[d]);
      }
    }
    for (int d = 0; d < channels; ++d) { m.Store(first + d, sums[d]); }
  });
}

}  // namespace

template <typename Dtype>
bool FastScaleForward(const FastScale<Dtype>& l, bool keep) {
  if (!UseFastLayers()) { return false; }
  const bool in_place = l.bottom == l.top;
  if (in_place && !l.scale && !l.bias) { return true; }
  const Memory<Dtype> memory = {l.scale ? l.scale->cpu_data() : NULL, l.bias ? l.bias->cpu_data() : NULL,
                                l.bottom->cpu_data(), l.top->mutable_cpu_data(),
                                in_place && keep ? l.kept->mutable_cpu_data() : NULL};
  if (memory.kept) {
    Forward<true>(l, memory);
  } else {
    Forward<false>(l, memory);
  }
  return true;
}

template <typename Dtype>
bool FastScaleBackward(const FastScale<Dtype>& l, const FastScaleWanted& wanted) {
  if (!UseFastLayers()) { return false; }
  const bool in_place = l.bottom == l.top;
  const bool diff = wanted.bottom && !(in_place && !l.scale);  // in place, Bias leaves it as it is
  if (!diff && !wanted.scale && !wanted.bias) { return true; }
  const BackwardMemory<Dtype> memory = {
      l.scale ? l.scale->cpu_data() : NULL,
      wanted.scale ? (in_place ? l.kept : l.bottom)->cpu_data() : NULL,
      l.top->cpu_diff(), diff ? l.bottom->mutable_cpu_diff() : NULL,
      wanted.scale ? l.scale->mutable_cpu_diff() : NULL, wanted.bias ? l.bias->mutable_cpu_diff() : NULL,
      wanted.add_scale, wanted.add_bias};
  if (diff && wanted.scale) { Backward<true, true>(l, memory); }
  if (diff && !wanted.scale) { Backward<true, false>(l, memory); }
  if (!diff && wanted.scale) { Backward<false, true>(l, memory); }
  if (!diff && !wanted.scale) { Backward<false, false>(l, memory); }
  return true;
}

#define INSTANTIATE(Dtype) \
  template bool FastScaleForward<Dtype>(const FastScale<Dtype>&, bool); \
  template bool FastScaleBackward<Dtype>(const FastScale<Dtype>&, const FastScaleWanted&)

INSTANTIATE(float);
INSTANTIATE(double);

}  // namespace caffe
