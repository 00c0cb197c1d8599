#include <algorithm>
#include <cmath>
#include <vector>

#include "caffe/util/fast_layers.hpp"
#include "caffe/util/fast_parallel.hpp"

namespace caffe {

namespace {

/// to = (from - mean) / deviation, and the same to `copy` where kCopy says so.
template <bool kCopy, typename Dtype>
ACTIVE_INLINE void NormalizePlane(int inner, Dtype mean, Dtype deviation, const Dtype* from, Dtype* to, Dtype* copy) {
  const Dtype factor = 1 / deviation;
#pragma omp simd
  for (int i = 0; i < inner; ++i) {
    const Dtype y = (from[i] - mean) * factor;
    to[i] = y;
    if (kCopy) { copy[i] = y; }
  }
}

/// The channels' planes. A part of the work are all images' planes of some channels: so few that they are still in the
/// second cache when they are read again, so many that neighbouring planes make a run of memory worth loading.
struct Planes {
  enum { kMostTogether = 256, kRun = 4096 };  // channels, elements

  int num, channels, inner, together;

  Planes(int num, int channels, int inner)
      : num(num), channels(channels), inner(inner),
        together(std::min<int>(kMostTogether, std::max<int>(1, kRun / std::max(1, inner)))) {}

  int parts() const { return (channels + together - 1) / together; }
  size_t elements() const { return static_cast<size_t>(num) * channels * inner; }
  ACTIVE_INLINE int First(int part) const { return part * together; }
  ACTIVE_INLINE int Count(int part) const { return std::min(together, channels - First(part)); }

  /// Calls body(channel of the part, element where its plane starts) for all planes of a part.
  template <typename Body>
  ACTIVE_INLINE void ForEach(int part, const Body& body) const {
    for (int n = 0; n < num; ++n) {
      const size_t at = (static_cast<size_t>(n) * channels + First(part)) * inner;
      for (int c = 0; c < Count(part); ++c) { body(c, at + static_cast<size_t>(c) * inner); }
    }
  }
};

template <typename Dtype>
Planes PlanesOf(const FastBatchNorm<Dtype>& layer, const Blob<Dtype>& blob) {
  const int num = blob.shape(0);
  return Planes(num, layer.channels, blob.count() / (layer.channels * num));
}

template <typename Dtype>
void NormalizeByBatch(const FastBatchNorm<Dtype>& l, const Planes& planes, const Dtype* from, Dtype* to) {
  Dtype* means = l.mean->mutable_cpu_data();
  Dtype* deviations = l.deviation->mutable_cpu_data();
  Dtype* normalized = l.normalized->mutable_cpu_data();
  Dtype* mean_sums = l.blobs[0]->mutable_cpu_data();
  Dtype* variance_sums = l.blobs[1]->mutable_cpu_data();
  const Dtype fraction = l.moving_average_fraction, eps = l.eps;
  const double count = static_cast<double>(planes.num) * planes.inner;
  const double unbiased = count > 1 ? count / (count - 1) : 1;
  FastParts(planes.parts(), planes.elements(), [=](int part) FAST_LOOP {
    const int first = planes.First(part);
    double sums[Planes::kMostTogether] = {}, squares[Planes::kMostTogether] = {};
    planes.ForEach(part, [&](int c, size_t at) FAST_LOOP {
      const Dtype* plane = from + at;
      sums[c] += FastSum<Dtype>(planes.inner, [=](int i) FAST_LOOP { return plane[i]; });
    });
    for (int c = 0; c < planes.Count(part); ++c) { means[first + c] = static_cast<Dtype>(sums[c] / count); }
    planes.ForEach(part, [&](int c, size_t at) FAST_LOOP {
      const Dtype* plane = from + at;
      const Dtype mean = means[first + c];
      squares[c] +=
          FastSum<Dtype>(planes.inner, [=](int i) FAST_LOOP { return (plane[i] - mean) * (plane[i] - mean); });
    });
    for (int c = 0; c < planes.Count(part); ++c) {
      const double variance = squares[c] / count;
      const int channel = first + c;
      deviations[channel] = static_cast<Dtype>(std::sqrt(variance + eps));
      mean_sums[channel] = fraction * mean_sums[channel] + means[channel];
      variance_sums[channel] = fraction * variance_sums[channel] + static_cast<Dtype>(unbiased * variance);
    }
    planes.ForEach(part, [&](int c, size_t at) FAST_LOOP {
      NormalizePlane<true>(planes.inner, means[first + c], deviations[first + c], from + at, to + at, normalized + at);
    });
  });
  Dtype* weight = l.blobs[2]->mutable_cpu_data();
  weight[0] = fraction * weight[0] + 1;
}

template <typename Dtype>
void NormalizeByStored(const FastBatchNorm<Dtype>& l, const Planes& planes, const Dtype* from, Dtype* to) {
  Dtype* means = l.mean->mutable_cpu_data();
  Dtype* deviations = l.deviation->mutable_cpu_data();
  const Dtype weight = l.blobs[2]->cpu_data()[0], factor = weight == 0 ? Dtype(0) : 1 / weight;
  for (int c = 0; c < planes.channels; ++c) {
    means[c] = factor * l.blobs[0]->cpu_data()[c];
    deviations[c] = std::sqrt(factor * l.blobs[1]->cpu_data()[c] + l.eps);
  }
  FastParts(planes.num * planes.channels, planes.elements(), [=](int part) FAST_LOOP {
    const int c = part % planes.channels;
    const size_t at = static_cast<size_t>(part) * planes.inner;
    NormalizePlane<false>(planes.inner, means[c], deviations[c], from + at, to + at, static_cast<Dtype*>(NULL));
  });
}

/// What a plane adds to the sums of its channel: of the top's gradient, and of that times the top.
template <typename Dtype>
ACTIVE_INLINE void AddSums(int inner, const Dtype* diff, const Dtype* normalized, double* sum, double* product) {
  for (int first = 0; first < inner; first += kFastRun) {
    const int last = first + std::min(kFastRun, inner - first);
    Dtype some = 0, products = 0;
#pragma omp simd reduction(+ : some, products)
    for (int i = first; i < last; ++i) {
      some += diff[i];
      products += diff[i] * normalized[i];
    }
    *sum += some;
    *product += products;
  }
}

/// to = (diff - mean - product * normalized) * factor
template <typename Dtype>
ACTIVE_INLINE void CenterPlane(int inner, Dtype mean, Dtype product, Dtype factor, const Dtype* diff,
                             const Dtype* normalized, Dtype* to) {
#pragma omp simd
  for (int i = 0; i < inner; ++i) { to[i] = (diff[i] - mean - product * normalized[i]) * factor; }
}

/// to = diff * factor
template <typename Dtype>
ACTIVE_INLINE void MultiplyPlane(int inner, Dtype factor, const Dtype* diff, Dtype* to) {
#pragma omp simd
  for (int i = 0; i < inner; ++i) { to[i] = diff[i] * factor; }
}

}  // namespace

template <typename Dtype>
bool FastBatchNormForward(const FastBatchNorm<Dtype>& layer, Blob<Dtype>* bottom, Blob<Dtype>* top) {
  if (!UseFastLayers()) { return false; }
  const Planes planes = PlanesOf(layer, *bottom);
  const Dtype* from = bottom->cpu_data();
  Dtype* to = top->mutable_cpu_data();
  if (layer.use_global_stats) {
    NormalizeByStored(layer, planes, from, to);
  } else {
    NormalizeByBatch(layer, planes, from, to);
  }
  return true;
}

/// With y = (x - mean(x)) / deviation(x), of which the means are of a channel:
///   dE/dx = (dE/dy - mean(dE/dy) - mean(dE/dy * y) * y) / deviation(x)
/// With stored means and deviations, these are constants: dE/dx = dE/dy / deviation.
template <typename Dtype>
bool FastBatchNormBackward(const FastBatchNorm<Dtype>& layer, Blob<Dtype>* top, Blob<Dtype>* bottom) {
  if (!UseFastLayers()) { return false; }
  const Planes planes = PlanesOf(layer, *bottom);
  const bool constant = layer.use_global_stats;
  const Dtype* normalized = constant ? NULL : layer.normalized->cpu_data();
  const Dtype* deviations = layer.deviation->cpu_data();
  const Dtype* diff = top->cpu_diff();
  Dtype* to = bottom->mutable_cpu_diff();
  FastParts(planes.parts(), planes.elements(), [=](int part) FAST_LOOP {
    const int first = planes.First(part);
    if (constant) {
      planes.ForEach(part, [&](int c, size_t at) FAST_LOOP {
        MultiplyPlane(planes.inner, 1 / deviations[first + c], diff + at, to + at);
      });
      return;
    }
    double sums[Planes::kMostTogether] = {}, products[Planes::kMostTogether] = {};
    planes.ForEach(part, [&](int c, size_t at) FAST_LOOP {
      AddSums(planes.inner, diff + at, normalized + at, &sums[c], &products[c]);
    });
    const double count = static_cast<double>(planes.num) * planes.inner;
    planes.ForEach(part, [&](int c, size_t at) FAST_LOOP {
      CenterPlane(planes.inner, static_cast<Dtype>(sums[c] / count), static_cast<Dtype>(products[c] / count),
                  1 / deviations[first + c], diff + at, normalized + at, to + at);
    });
  });
  return true;
}

#define INSTANTIATE(Dtype) \
  template bool FastBatchNormForward<Dtype>(const FastBatchNorm<Dtype>&, Blob<Dtype>*, Blob<Dtype>*); \
  template bool FastBatchNormBackward<Dtype>(const FastBatchNorm<Dtype>&, Blob<Dtype>*, Blob<Dtype>*)

INSTANTIATE(float);
INSTANTIATE(double);

}  // namespace caffe
