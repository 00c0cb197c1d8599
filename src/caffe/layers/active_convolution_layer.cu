#include <vector>

#include "caffe/layers/active_convolution_layer.hpp"

namespace caffe {

namespace {

template <typename Dtype>
shared_ptr<ActiveGpuWorkspace<Dtype> > Workspace() {
  int device;
  CUDA_CHECK(cudaGetDevice(&device));
  return SharedActiveGpuWorkspace<Dtype>(device);
}

}  // namespace

template <typename Dtype>
void ActiveConvolutionLayer<Dtype>::Forward_gpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  gpu_workspace_ = Workspace<Dtype>();
  for (int i = 0; i < bottom.size(); ++i) {
    active_convolution_forward_gpu(geometry_, bottom[i]->shape(0), Parameters(&Blob<Dtype>::gpu_data),
                                   bottom[i]->gpu_data(), top[i]->mutable_gpu_data(), gpu_workspace_.get());
  }
}

template <typename Dtype>
void ActiveConvolutionLayer<Dtype>::Backward_gpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
                                                 const vector<Blob<Dtype>*>& bottom) {
  gpu_workspace_ = Workspace<Dtype>();
  for (int i = 0; i < top.size(); ++i) {
    const ActiveGradients<Dtype> gradients =
        Gradients(&Blob<Dtype>::mutable_gpu_diff, propagate_down[i] ? bottom[i] : NULL);
    active_convolution_backward_gpu(geometry_, bottom[i]->shape(0), Parameters(&Blob<Dtype>::gpu_data),
                                    bottom[i]->gpu_data(), top[i]->gpu_diff(), gradients, gpu_workspace_.get());
  }
}

INSTANTIATE_LAYER_GPU_FUNCS(ActiveConvolutionLayer);

}  // namespace caffe
