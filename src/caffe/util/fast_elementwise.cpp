#include <vector>

#include "caffe/util/fast_layers.hpp"
#include "caffe/util/fast_parallel.hpp"

namespace caffe {

namespace {

template <typename Dtype>
ACTIVE_INLINE void Rectify(int first, int last, Dtype slope, const Dtype* from, Dtype* to) {
#pragma omp simd
  for (int i = first; i < last; ++i) {
    const Dtype x = from[i];  // NaN stays NaN
    to[i] = (x < 0 ? Dtype(0) : x) + slope * (0 < x ? Dtype(0) : x);
  }
}

template <typename Dtype>
ACTIVE_INLINE void RectifyDiff(int first, int last, Dtype slope, const Dtype* data, const Dtype* from, Dtype* to) {
#pragma omp simd
  for (int i = first; i < last; ++i) {
    const Dtype x = data[i];
    const Dtype d = from[i];  // GCC makes vectors of AVX2, too, of this form: 0 for NaN
    to[i] = (x > 0 ? d : Dtype(0)) + slope * (x <= 0 ? d : Dtype(0));
  }
}

/// to = a * x + b * y; x or y may be `to`.
template <typename Dtype>
ACTIVE_INLINE void Combine(int first, int last, Dtype a, const Dtype* x, Dtype b, const Dtype* y, Dtype* to) {
#pragma omp simd
  for (int i = first; i < last; ++i) { to[i] = a * x[i] + b * y[i]; }
}

/// to = a * x
template <typename Dtype>
ACTIVE_INLINE void Multiply(int first, int last, Dtype a, const Dtype* x, Dtype* to) {
#pragma omp simd
  for (int i = first; i < last; ++i) { to[i] = a * x[i]; }
}

/// to = the weighted sum of all `from`, run by run: what has been added up stays in the cache.
template <typename Dtype>
void Sum(int count, const std::vector<Dtype>& weights, const std::vector<const Dtype*>& from, Dtype* to) {
  FastRuns(count, [=, &weights, &from](int first, int last) FAST_LOOP {
    if (from.size() == 1) { return Multiply(first, last, weights[0], from[0], to); }
    Combine(first, last, weights[0], from[0], weights[1], from[1], to);
    for (int j = 2; j < from.size(); ++j) { Combine(first, last, weights[j], from[j], Dtype(1), to, to); }
  });
}

}  // namespace

template <typename Dtype>
bool FastReluForward(Dtype negative_slope, const std::vector<Blob<Dtype>*>& bottom,
                     const std::vector<Blob<Dtype>*>& top) {
  if (!UseFastLayers()) { return false; }
  const Dtype* from = bottom[0]->cpu_data();
  Dtype* to = top[0]->mutable_cpu_data();
  FastRuns(bottom[0]->count(),
             [=](int first, int last) FAST_LOOP { Rectify(first, last, negative_slope, from, to); });
  return true;
}

template <typename Dtype>
bool FastReluBackward(Dtype negative_slope, const std::vector<Blob<Dtype>*>& top,
                      const std::vector<bool>& propagate_down, const std::vector<Blob<Dtype>*>& bottom) {
  if (!UseFastLayers()) { return false; }
  if (!propagate_down[0]) { return true; }
  const Dtype* data = bottom[0]->cpu_data();
  const Dtype* from = top[0]->cpu_diff();
  Dtype* to = bottom[0]->mutable_cpu_diff();
  FastRuns(bottom[0]->count(),
             [=](int first, int last) FAST_LOOP { RectifyDiff(first, last, negative_slope, data, from, to); });
  return true;
}

template <typename Dtype>
bool FastEltwiseForward(bool sum, const std::vector<Dtype>& coefficients, const std::vector<Blob<Dtype>*>& bottom,
                        const std::vector<Blob<Dtype>*>& top) {
  if (!UseFastLayers() || !sum || FastInPlace(bottom, top)) { return false; }
  std::vector<const Dtype*> from;
  for (const Blob<Dtype>* blob : bottom) { from.push_back(blob->cpu_data()); }
  Sum(top[0]->count(), coefficients, from, top[0]->mutable_cpu_data());
  return true;
}

template <typename Dtype>
bool FastEltwiseBackward(bool sum, const std::vector<Dtype>& coefficients, const std::vector<Blob<Dtype>*>& top,
                         const std::vector<bool>& propagate_down, const std::vector<Blob<Dtype>*>& bottom) {
  if (!UseFastLayers() || !sum || FastInPlace(bottom, top)) { return false; }
  for (int i = 0; i < bottom.size(); ++i) {
    if (!propagate_down[i]) { continue; }
    const Dtype* from = top[0]->cpu_diff();
    Dtype* to = bottom[i]->mutable_cpu_diff();
    const Dtype weight = coefficients[i];
    FastRuns(top[0]->count(), [=](int first, int last) FAST_LOOP { Multiply(first, last, weight, from, to); });
  }
  return true;
}

template <typename Dtype>
bool FastSplitBackward(const std::vector<Blob<Dtype>*>& top, const std::vector<bool>& propagate_down,
                       const std::vector<Blob<Dtype>*>& bottom) {
  if (!UseFastLayers()) { return false; }
  if (!propagate_down[0]) { return true; }
  std::vector<const Dtype*> from;
  for (const Blob<Dtype>* blob : top) { from.push_back(blob->cpu_diff()); }
  Sum(bottom[0]->count(), std::vector<Dtype>(top.size(), 1), from, bottom[0]->mutable_cpu_diff());
  return true;
}

#define INSTANTIATE(Dtype) \
  template bool FastReluForward<Dtype>(Dtype, const std::vector<Blob<Dtype>*>&, const std::vector<Blob<Dtype>*>&); \
  template bool FastReluBackward<Dtype>(Dtype, const std::vector<Blob<Dtype>*>&, const std::vector<bool>&, \
                                        const std::vector<Blob<Dtype>*>&); \
  template bool FastEltwiseForward<Dtype>(bool, const std::vector<Dtype>&, const std::vector<Blob<Dtype>*>&, \
                                          const std::vector<Blob<Dtype>*>&); \
  template bool FastEltwiseBackward<Dtype>(bool, const std::vector<Dtype>&, const std::vector<Blob<Dtype>*>&, \
                                           const std::vector<bool>&, const std::vector<Blob<Dtype>*>&); \
  template bool FastSplitBackward<Dtype>(const std::vector<Blob<Dtype>*>&, const std::vector<bool>&, \
                                         const std::vector<Blob<Dtype>*>&)

INSTANTIATE(float);
INSTANTIATE(double);

}  // namespace caffe
