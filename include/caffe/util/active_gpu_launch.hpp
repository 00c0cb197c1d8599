#ifndef CAFFE_UTIL_ACTIVE_GPU_LAUNCH_HPP_
#define CAFFE_UTIL_ACTIVE_GPU_LAUNCH_HPP_

#include <cstddef>

#include "caffe/common.hpp"
#include "caffe/util/active_geometry.hpp"

/// How .cu files run kernels that a host can run, too: kernel(i) for every i in [0, kernel.count()).
namespace caffe {

const int kActiveThreads = 256;  // of a block

/// The bound lets a thread have all the registers that the sums of a kernel ask for.
template <typename Kernel>
__global__ void __launch_bounds__(kActiveThreads) ActiveRun(int count, Kernel kernel) {
  const size_t index = static_cast<size_t>(blockIdx.x) * kActiveThreads + threadIdx.x;
  if (index < count) { kernel(static_cast<int>(index)); }
}

/// On Caffe's current GPU and its default stream.
template <typename Kernel>
void ActiveLaunch(const Kernel& kernel) {
  const int count = kernel.count();
  if (count == 0) { return; }  // no grid is empty
  ActiveRun<<<CeilDivide(count, kActiveThreads), kActiveThreads>>>(count, kernel);
  CUDA_POST_KERNEL_CHECK;
}

}  // namespace caffe

#endif  // CAFFE_UTIL_ACTIVE_GPU_LAUNCH_HPP_
