#include "caffe/util/active_gpu_launch.hpp"
#include "caffe/util/active_update.hpp"

namespace caffe {

template <typename Kernel>
void active_update_gpu(const Kernel& kernel) { ActiveLaunch(kernel); }

template void active_update_gpu(const ActiveSetAsideKernel<float>&);
template void active_update_gpu(const ActiveSetAsideKernel<double>&);
template void active_update_gpu(const ActiveLimitKernel<float>&);
template void active_update_gpu(const ActiveLimitKernel<double>&);

}  // namespace caffe
