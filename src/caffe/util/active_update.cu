#include "caffe/util/active_gpu_launch.hpp"
#include "caffe/util/active_update.hpp"

namespace caffe {

template <typename Dtype>
void active_set_aside_gpu(const ActiveSetAsideKernel<Dtype>& kernel) { ActiveLaunch(kernel); }

template void active_set_aside_gpu<float>(const ActiveSetAsideKernel<float>&);
template void active_set_aside_gpu<double>(const ActiveSetAsideKernel<double>&);

}  // namespace caffe
