#include <algorithm>
#include <cmath>
#include <vector>

#include "caffe/util/fast_layers.hpp"
#include "caffe/util/fast_parallel.hpp"

namespace caffe {

namespace {

/// Mean and sum of squared distances to it of some values.
struct Moments {
  double count, mean, squares;

  /// Those of both sets of values together.
  FAST_INLINE void Add(double other_count, double other_mean, double other_squares) {
    const double distance = other_mean - mean, share = other_count / (count + other_count);
    squares += other_squares + distance * distance * count * share;
    mean += distance * share;
    count += other_count;
  }
};

/// Of a plane: block by block, whose second reading finds it in the first cache.
template <typename Dtype>
FAST_INLINE void AddPlane(int inner, const Dtype* data, Moments* moments) {
  for (int first = 0; first < inner; first += kFastBlock) {
    const int count = std::min(kFastBlock, inner - first);
    const Dtype* block = data + first;
    const double mean = FastSum<Dtype>(count, [=](int i) FAST_LOOP { return block[i]; }) / count;
    const Dtype about = static_cast<Dtype>(mean);
    const double squares = FastSum<Dtype>(count, [=](int i) FAST_LOOP {
      return (block[i] - about) * (block[i] - about);
    });
    moments->Add(count, mean, squares);
  }
}

/// to = (from - mean) / deviation, and the same to `copy` where kCopy says so.
template <bool kCopy, typename Dtype>
FAST_INLINE void NormalizePlane(int inner, Dtype mean, Dtype deviation, const Dtype* from, Dtype* to, Dtype* copy) {
  const Dtype factor = 1 / deviation;
#pragma omp simd
  for (int i = 0; i < inner; ++i) {
    const Dtype y = (from[i] - mean) * factor;
    to[i] = y;
    if (kCopy) { copy[i] = y; }
  }
}

/// The channels' planes: all of a channel are one part of the work, so that they are still in the second cache when
/// they are read again.
struct Planes {
  int num, channels, inner;

  size_t elements() const { return static_cast<size_t>(num) * channels * inner; }
  FAST_INLINE size_t At(int n, int c) const { return (static_cast<size_t>(n) * channels + c) * inner; }
};

template <typename Dtype>
Planes PlanesOf(const FastBatchNorm<Dtype>& layer, const Blob<Dtype>& blob) {
  const int num = blob.shape(0);
  const Planes planes = {num, layer.channels, blob.count() / (layer.channels * num)};
  return planes;
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
  FastParts(planes.channels, planes.elements(), [=](int c) FAST_LOOP {
    Moments moments = {0, 0, 0};
    for (int n = 0; n < planes.num; ++n) { AddPlane(planes.inner, from + planes.At(n, c), &moments); }
    const double variance = moments.squares / count;
    const Dtype mean = means[c] = static_cast<Dtype>(moments.mean);
    const Dtype deviation = deviations[c] = static_cast<Dtype>(std::sqrt(variance + eps));
    mean_sums[c] = fraction * mean_sums[c] + mean;
    variance_sums[c] = fraction * variance_sums[c] + static_cast<Dtype>(unbiased * variance);
    for (int n = 0; n < planes.num; ++n) {
      const size_t at = planes.At(n, c);
      NormalizePlane<true>(planes.inner, mean, deviation, from + at, to + at, normalized + at);
    }
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
FAST_INLINE void AddSums(int inner, const Dtype* diff, const Dtype* normalized, double* sum, double* product) {
  for (int first = 0; first < inner; first += kFastBlock) {
    const int last = first + std::min(kFastBlock, inner - first);
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
FAST_INLINE void CenterPlane(int inner, Dtype mean, Dtype product, Dtype factor, const Dtype* diff,
                             const Dtype* normalized, Dtype* to) {
#pragma omp simd
  for (int i = 0; i < inner; ++i) { to[i] = (diff[i] - mean - product * normalized[i]) * factor; }
}

/// to = diff * factor
template <typename Dtype>
FAST_INLINE void MultiplyPlane(int inner, Dtype factor, const Dtype* diff, Dtype* to) {
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
  FastParts(planes.channels, planes.elements(), [=](int c) FAST_LOOP {
    const Dtype factor = 1 / deviations[c];
    double sum = 0, product = 0;
    for (int n = 0; n < planes.num && !constant; ++n) {
      AddSums(planes.inner, diff + planes.At(n, c), normalized + planes.At(n, c), &sum, &product);
    }
    const double count = static_cast<double>(planes.num) * planes.inner;
    const Dtype mean = static_cast<Dtype>(sum / count), mean_product = static_cast<Dtype>(product / count);
    for (int n = 0; n < planes.num; ++n) {
      const size_t at = planes.At(n, c);
      if (constant) {
        MultiplyPlane(planes.inner, factor, diff + at, to + at);
      } else {
        CenterPlane(planes.inner, mean, mean_product, factor, diff + at, normalized + at, to + at);
      }
    }
  });
  return true;
}

#define INSTANTIATE(Dtype) \
  template bool FastBatchNormForward<Dtype>(const FastBatchNorm<Dtype>&, Blob<Dtype>*, Blob<Dtype>*); \
  template bool FastBatchNormBackward<Dtype>(const FastBatchNorm<Dtype>&, Blob<Dtype>*, Blob<Dtype>*)

INSTANTIATE(float);
INSTANTIATE(double);

}  // namespace caffe
