#include <algorithm>
#include <vector>

#include "caffe/common.hpp"
#include "caffe/util/fast_layers.hpp"
#include "caffe/util/fast_parallel.hpp"

namespace caffe {

namespace {

/// The momentum's part of an update, over a block: history = rate * diff + momentum * history, and what kNesterov then
/// makes of the histories before and after.
template <bool kNesterov, typename Dtype>
ACTIVE_INLINE void Update(int first, int last, Dtype rate, Dtype momentum, Dtype* diff, Dtype* history) {
#pragma omp simd
  for (int i = first; i < last; ++i) {
    const Dtype before = history[i], after = rate * diff[i] + momentum * before;
    history[i] = after;
    diff[i] = kNesterov ? (1 + momentum) * after - momentum * before : after;
  }
}

}  // namespace

template <typename Dtype>
bool FastSgdUpdate(Dtype rate, Dtype momentum, bool nesterov, Blob<Dtype>* parameter, Blob<Dtype>* history) {
  if (!UseFastLayers() || Caffe::mode() != Caffe::CPU) { return false; }
  Dtype* diff = parameter->mutable_cpu_diff();
  Dtype* kept = history->mutable_cpu_data();
  FastRuns(parameter->count(), [=](int first, int last) FAST_LOOP {
    if (nesterov) {
      Update<true>(first, last, rate, momentum, diff, kept);
    } else {
      Update<false>(first, last, rate, momentum, diff, kept);
    }
  });
  return true;
}

template <typename Dtype>
bool FastClearDiffs(const std::vector<Blob<Dtype>*>& parameters) {
  if (!UseFastLayers() || Caffe::mode() != Caffe::CPU) { return false; }
  for (Blob<Dtype>* parameter : parameters) {
    Dtype* diff = parameter->mutable_cpu_diff();
    FastRuns(parameter->count(),
               [=](int first, int last) FAST_LOOP { std::fill(diff + first, diff + last, Dtype(0)); });
  }
  return true;
}

#define INSTANTIATE(Dtype) \
  template bool FastSgdUpdate<Dtype>(Dtype, Dtype, bool, Blob<Dtype>*, Blob<Dtype>*); \
  template bool FastClearDiffs<Dtype>(const std::vector<Blob<Dtype>*>&)

INSTANTIATE(float);
INSTANTIATE(double);

}  // namespace caffe
