#ifndef CAFFE_UTIL_ACTIVE_CONVOLUTION_HPP_
#define CAFFE_UTIL_ACTIVE_CONVOLUTION_HPP_

#include <map>
#include <memory>
#include <vector>

#include <boost/weak_ptr.hpp>

#include "caffe/blob.hpp"
#include "caffe/util/active_cpu_kernels.hpp"
#include "caffe/util/active_geometry.hpp"

/**
 * Forward and backward pass of an active convolution, over a batch.
 *
 * On the CPU (active_cpu_forward.cpp, active_cpu_backward.cpp), the output pixels are cut into tiles and the channels into
 * blocks whose columns stay in cache, as active_cpu_plan.hpp says. The workspace is limited whatever the batch, and grows
 * with the number of threads.
 * Two runs on machines with the same vector instructions give the same bits, whatever the number of threads.
 *
 * On the GPU (active_gpu_pass, active_gpu_kernels.hpp), a batch is cut into chunks whose columns fit a workspace of
 * limited size. Two runs on GPUs of one kind give the same bits.
 */
namespace caffe {

/// The four blobs: weight num_output x channels/group x K, bias num_output (or NULL), x and y position_group x K.
template <typename Dtype>
struct ActiveParameters {
  const Dtype* weight;
  const Dtype* bias;
  const Dtype* x;
  const Dtype* y;
};

/// Where gradients go; NULL where none is wanted. bottom is overwritten, the others are added to. x and y go together.
template <typename Dtype>
struct ActiveGradients {
  Dtype* weight;
  Dtype* bias;
  Dtype* x;
  Dtype* y;
  Dtype* bottom;
};

/// Buffers of the CPU, kept between calls.
template <typename Dtype>
struct ActiveCpuWorkspace {
  struct PerThread {
    std::vector<Dtype> frame, frame_diff, columns, outputs;
    std::vector<size_t> reads;               // of a splat's pixels
  };
  const ActiveCpuKernels<Dtype>* kernels;  // the fastest
  std::vector<Dtype> weight;                 // packed for products
  std::vector<Dtype> weight_sums;            // of its gradient, of each task
  std::vector<Dtype> overhangs;              // of the input's gradient
  std::vector<double> position_sums;
  std::vector<PerThread> threads;

  ActiveCpuWorkspace() : kernels(&AllActiveCpuKernels<Dtype>()[0]) {}

  /// The calling thread's, for all layers, which run one after the other. It lives as long as anybody holds it.
  static std::shared_ptr<ActiveCpuWorkspace> OfThisThread();

  /// Bytes held at present.
  size_t bytes() const;
};

/// Buffers of the GPU. Nothing in them is needed after a call.
template <typename Dtype>
struct ActiveGpuWorkspace {
  Blob<Dtype> columns, packed;
  Blob<double> sums;
  /// Bytes of columns and packed outputs together. Half of the L2 cache of a large GPU (40 to 50 MiB), so that the kernel
  /// that reads columns finds them there; the other half is for the images. One launch for so much still fills the GPU.
  size_t limit;

  ActiveGpuWorkspace() : limit(24 << 20) {}

  /// Bytes held at present.
  size_t bytes() const { return (columns.count() + packed.count()) * sizeof(Dtype) + sums.count() * sizeof(double); }
};

/// The buffers of all layers that this thread runs on one device, one after the other. (Caffe drives each GPU from a
/// thread of its own.) They are freed with the last layer that holds them.
template <typename Dtype>
shared_ptr<ActiveGpuWorkspace<Dtype> > SharedActiveGpuWorkspace(int device) {
  static thread_local std::map<int, boost::weak_ptr<ActiveGpuWorkspace<Dtype> > > workspaces;
  shared_ptr<ActiveGpuWorkspace<Dtype> > workspace = workspaces[device].lock();
  if (!workspace) {
    workspace.reset(new ActiveGpuWorkspace<Dtype>());
    workspaces[device] = workspace;
  }
  return workspace;
}

/// top (num x num_output x out_height x out_width) = the active convolution of bottom (num x channels x height x width).
template <typename Dtype>
void active_convolution_forward_cpu(const ActiveGeometry& geometry, int num, const ActiveParameters<Dtype>& parameters,
                                    const Dtype* bottom, Dtype* top, ActiveCpuWorkspace<Dtype>* workspace);

/// The gradients that `gradients` asks for, from top_diff (eq. 10-13, and their sum over channels and pixels).
template <typename Dtype>
void active_convolution_backward_cpu(const ActiveGeometry& geometry, int num, const ActiveParameters<Dtype>& parameters,
                                     const Dtype* bottom, const Dtype* top_diff,
                                     const ActiveGradients<Dtype>& gradients, ActiveCpuWorkspace<Dtype>* workspace);

#ifndef CPU_ONLY
/// The same on the GPU: all pointers are the GPU's.
template <typename Dtype>
void active_convolution_forward_gpu(const ActiveGeometry& geometry, int num, const ActiveParameters<Dtype>& parameters,
                                    const Dtype* bottom, Dtype* top, ActiveGpuWorkspace<Dtype>* workspace);

template <typename Dtype>
void active_convolution_backward_gpu(const ActiveGeometry& geometry, int num, const ActiveParameters<Dtype>& parameters,
                                     const Dtype* bottom, const Dtype* top_diff,
                                     const ActiveGradients<Dtype>& gradients, ActiveGpuWorkspace<Dtype>* workspace);
#endif

}  // namespace caffe

#endif  // CAFFE_UTIL_ACTIVE_CONVOLUTION_HPP_
