#include "caffe/common.hpp"
#include "caffe/util/active_update.hpp"

namespace caffe {

namespace {

template <typename Dtype>
__global__ void SetAside(int count, ActiveSetAsideKernel<Dtype> kernel) {
  CUDA_KERNEL_LOOP(i, count) { kernel(i); }
}

}  // namespace

template <typename Dtype>
void active_set_aside_gpu(const ActiveSetAsideKernel<Dtype>& kernel) {
  SetAside<Dtype><<<CAFFE_GET_BLOCKS(kernel.count()), CAFFE_CUDA_NUM_THREADS>>>(kernel.count(), kernel);
  CUDA_POST_KERNEL_CHECK;
}

template void active_set_aside_gpu<float>(const ActiveSetAsideKernel<float>&);
template void active_set_aside_gpu<double>(const ActiveSetAsideKernel<double>&);

}  // namespace caffe
