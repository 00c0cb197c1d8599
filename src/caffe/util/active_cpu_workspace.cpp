#include <memory>

#include "caffe/util/active_convolution.hpp"

namespace caffe {

template <typename Dtype>
std::shared_ptr<ActiveCpuWorkspace<Dtype> > ActiveCpuWorkspace<Dtype>::OfThisThread() {
  static thread_local std::weak_ptr<ActiveCpuWorkspace> kept;
  std::shared_ptr<ActiveCpuWorkspace> workspace = kept.lock();
  if (!workspace) { kept = workspace = std::make_shared<ActiveCpuWorkspace>(); }
  return workspace;
}

template <typename Dtype>
size_t ActiveCpuWorkspace<Dtype>::bytes() const {
  size_t total = position_sums.size() * sizeof(double) +
                 (weight.size() + weight_sums.size() + overhangs.size()) * sizeof(Dtype);
  for (const PerThread& thread : threads) {
    total += sizeof(Dtype) *
             (thread.frame.size() + thread.frame_diff.size() + thread.columns.size() + thread.outputs.size()) +
             sizeof(size_t) * thread.reads.size();
  }
  return total;
}

template struct ActiveCpuWorkspace<float>;
template struct ActiveCpuWorkspace<double>;

}  // namespace caffe
