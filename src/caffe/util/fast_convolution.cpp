#include <memory>
#include <vector>

#include "caffe/util/active_convolution.hpp"
#include "caffe/util/active_geometry.hpp"
#include "caffe/util/fast_layers.hpp"
#include "caffe/util/fast_parallel.hpp"

namespace caffe {

namespace {

/// An ordinary convolution of images is an active one whose synapses rest on the kernel's grid.
template <typename Dtype>
class Planar {
 public:
  Planar(const FastConvolution& c, const Blob<Dtype>& bottom, const Blob<Dtype>& top)
      : num_(bottom.count(0, c.channel_axis)), geometry_(Geometry(c, bottom, top)) {
    const int dilation_h = c.dilation.cpu_data()[0], dilation_w = c.dilation.cpu_data()[1];
    for (int k = 0; k < geometry_.synapses(); ++k) {
      x_.push_back(k % geometry_.kernel_w * dilation_w);
      y_.push_back(k / geometry_.kernel_w * dilation_h);
    }
  }

  void Forward(const Dtype* weight, const Dtype* bias, const Dtype* bottom, Dtype* top) const {
    active_convolution_forward_cpu(geometry_, num_, Parameters(weight, bias), bottom, top, Workspace());
  }

  void Backward(const Dtype* weight, const Dtype* bottom, const Dtype* top_diff,
                const ActiveGradients<Dtype>& gradients) const {
    active_convolution_backward_cpu(geometry_, num_, Parameters(weight, NULL), bottom, top_diff, gradients, Workspace());
  }

 private:
  static ActiveGeometry Geometry(const FastConvolution& c, const Blob<Dtype>& bottom, const Blob<Dtype>& top) {
    ActiveGeometry g;
    g.channels = bottom.shape(c.channel_axis);
    g.height = bottom.shape(-2);
    g.width = bottom.shape(-1);
    g.num_output = top.shape(c.channel_axis);
    g.out_height = top.shape(-2);
    g.out_width = top.shape(-1);
    g.kernel_h = c.kernel.cpu_data()[0];
    g.kernel_w = c.kernel.cpu_data()[1];
    g.stride_h = c.stride.cpu_data()[0];
    g.stride_w = c.stride.cpu_data()[1];
    g.base_h = -c.pad.cpu_data()[0];
    g.base_w = -c.pad.cpu_data()[1];
    g.group = c.group;
    g.position_group = 1;
    return g;
  }

  ActiveParameters<Dtype> Parameters(const Dtype* weight, const Dtype* bias) const {
    const ActiveParameters<Dtype> parameters = {weight, bias, x_.data(), y_.data()};
    return parameters;
  }

  /// That of the thread's active layers. It then lives as long as the thread: Caffe's layers cannot hold it.
  static ActiveCpuWorkspace<Dtype>* Workspace() {
    static thread_local const std::shared_ptr<ActiveCpuWorkspace<Dtype> > workspace =
        ActiveCpuWorkspace<Dtype>::OfThisThread();
    return workspace.get();
  }

  const int num_;
  const ActiveGeometry geometry_;
  std::vector<Dtype> x_, y_;  // K
};

/// Where ours are faster; benchmark.py --layers ordinary shows both. Caffe's loop copies each pixel once per tap, but for
/// 1x1 kernels, and packs the weights for each image; ours pack them, and sum up their gradient, once per batch. Groups of
/// one channel fill vectors where they stand side by side in them, as those of depthwise layers do.
template <typename Dtype>
bool Pays(const FastConvolution& c, const Blob<Dtype>& bottom, const Blob<Dtype>& top) {
  const int channels = bottom.shape(c.channel_axis) / c.group, outputs = top.shape(c.channel_axis) / c.group;
  if (c.kernel.cpu_data()[0] == 1 && c.kernel.cpu_data()[1] == 1) { return false; }
  if (channels == 1) { return c.group > 1 && outputs == 1; }
  const int kManyImages = 4, kSmallProduct = 128;
  const int num = bottom.count(0, c.channel_axis), pixels = num * top.shape(-2) * top.shape(-1);
  return num >= kManyImages || (pixels >= 2 * outputs && (c.group > 1 || channels * outputs >= kSmallProduct));
}

template <typename Dtype>
bool Covers(const FastConvolution& c, const std::vector<Blob<Dtype>*>& bottom, const std::vector<Blob<Dtype>*>& top) {
  return UseFastLayers() && c.spatial_axes == 2 && !FastInPlace(bottom, top) && Pays(c, *bottom[0], *top[0]);
}

}  // namespace

template <typename Dtype>
bool FastConvolutionForward(const FastConvolution& convolution, const FastBlobs<Dtype>& blobs,
                            const std::vector<Blob<Dtype>*>& bottom, const std::vector<Blob<Dtype>*>& top) {
  if (!Covers(convolution, bottom, top)) { return false; }
  const Dtype* weight = blobs[0]->cpu_data();
  const Dtype* bias = convolution.bias ? blobs[1]->cpu_data() : NULL;
  for (int i = 0; i < bottom.size(); ++i) {
    Planar<Dtype>(convolution, *bottom[i], *top[i])
        .Forward(weight, bias, bottom[i]->cpu_data(), top[i]->mutable_cpu_data());
  }
  return true;
}

template <typename Dtype>
bool FastConvolutionBackward(const FastConvolution& convolution, const FastBlobs<Dtype>& blobs,
                             const std::vector<bool>& wanted, const std::vector<Blob<Dtype>*>& top,
                             const std::vector<bool>& propagate_down, const std::vector<Blob<Dtype>*>& bottom) {
  if (!Covers(convolution, bottom, top)) { return false; }
  const Dtype* weight = blobs[0]->cpu_data();
  for (int i = 0; i < top.size(); ++i) {
    const ActiveGradients<Dtype> gradients = {
        wanted[0] ? blobs[0]->mutable_cpu_diff() : NULL,
        convolution.bias && wanted[1] ? blobs[1]->mutable_cpu_diff() : NULL, NULL, NULL,
        propagate_down[i] ? bottom[i]->mutable_cpu_diff() : NULL};
    Planar<Dtype>(convolution, *bottom[i], *top[i])
        .Backward(weight, bottom[i]->cpu_data(), top[i]->cpu_diff(), gradients);
  }
  return true;
}

#define INSTANTIATE(Dtype) \
  template bool FastConvolutionForward<Dtype>(const FastConvolution&, const FastBlobs<Dtype>&, \
                                              const std::vector<Blob<Dtype>*>&, const std::vector<Blob<Dtype>*>&); \
  template bool FastConvolutionBackward<Dtype>(const FastConvolution&, const FastBlobs<Dtype>&, \
                                               const std::vector<bool>&, const std::vector<Blob<Dtype>*>&, \
                                               const std::vector<bool>&, const std::vector<Blob<Dtype>*>&)

INSTANTIATE(float);
INSTANTIATE(double);

}  // namespace caffe
