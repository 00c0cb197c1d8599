#include <vector>

#include "caffe/layers/active_convolution_layer.hpp"

namespace caffe {

template <typename Dtype>
void ActiveConvolutionLayer<Dtype>::Forward_gpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  for (int i = 0; i < bottom.size(); ++i) {
    active_convolution_forward_gpu(geometry_, bottom[i]->shape(0), Parameters(&Blob<Dtype>::gpu_data),
                                   bottom[i]->gpu_data(), top[i]->mutable_gpu_data(), &gpu_workspace_);
  }
}

template <typename Dtype>
void ActiveConvolutionLayer<Dtype>::Backward_gpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
                                                 const vector<Blob<Dtype>*>& bottom) {
  for (int i = 0; i < top.size(); ++i) {
    const ActiveGradients<Dtype> gradients =
        Gradients(&Blob<Dtype>::mutable_gpu_diff, propagate_down[i] ? bottom[i] : NULL);
    active_convolution_backward_gpu(geometry_, bottom[i]->shape(0), Parameters(&Blob<Dtype>::gpu_data),
                                    bottom[i]->gpu_data(), top[i]->gpu_diff(), gradients, &gpu_workspace_);
  }
}

INSTANTIATE_LAYER_GPU_FUNCS(ActiveConvolutionLayer);

}  // namespace caffe
