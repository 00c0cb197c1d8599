#ifndef CAFFE_ACTIVE_CONVOLUTION_LAYER_HPP_
#define CAFFE_ACTIVE_CONVOLUTION_LAYER_HPP_

#include <memory>
#include <string>
#include <vector>

#include "caffe/blob.hpp"
#include "caffe/layer.hpp"
#include "caffe/proto/caffe.pb.h"
#include "caffe/util/active_convolution.hpp"

namespace caffe {

/**
 * @brief The active convolution unit of Jeon and Kim (CVPR 2017): a convolution whose K synapses sit at real-valued
 *        positions p_k = (alpha_k, beta_k) relative to the base pixel, in pixels, and move during training.
 *
 *     y[d,m,n] = sum_c sum_k w[d,c,k] x~[c, m + beta_k, n + alpha_k] + b[d]                         (m row, n column)
 *
 * x~ is the input read by bilinear interpolation, zero outside the image (eq. 6-9). Gradients are eq. 10-13; at a
 * lattice point the positions see the one-sided difference towards +1. BeforeUpdate always runs on the CPU, on two small
 * blobs. Where each equation stands: its formula once, in active_sampling.hpp, and what applies it to a chunk of the
 * batch; active_cpu_pass and active_gpu_pass go from chunk to chunk.
 *
 *     equation                 function                       active_cpu_kernels       active_gpu_kernels
 *     5       y                                               multiply                 (cuBLAS)
 *     6-9     x~               ActiveBilinear::Sample         sample                   ActiveSampleKernel
 *     10      dL/dw                                           multiply                 (cuBLAS)
 *     11      dL/db                                           (active_cpu_pass.cpp)    ActiveBiasKernel
 *     12, 13  dL/dp            ActiveSlopeX, ActiveSlopeY     spread                   ActiveSlopeKernel
 *     14      dL/dx            ActiveBilinear                 multiply, spread         ActiveGatherKernel
 *     15, 16  dL/dp, unit      BeforeUpdate, of the layer
 *
 * convolution_param means what it means for Convolution: num_output, bias_term, pad, kernel_size, stride, dilation,
 * group, fillers. Not supported: axis other than 1, force_nd_im2col, engine CUDNN.
 *
 * active_convolution_param:
 *   - warmup_iter [0]: solver iterations with frozen positions (section 2.6).
 *   - normalize_gradient [true]: each synapse's position gradient is brought to unit length (eq. 15-16).
 *   - position_lr_mult [0.01]: lr_mult of both position blobs, whose decay_mult is 0 (section 3.1). `param` entries for
 *     blobs 2 and 3 win, field by field.
 *   - position_group [1]: sets of positions; each serves num_output / position_group consecutive outputs.
 *   - fix_origin [true]: a synapse that starts at (0, 0) never moves (section 2.7).
 *   - position: the starting shape. By default it is the kernel's grid: synapse (i, j), in row-major order, at
 *     x = (j - floor((kernel_w - 1) / 2)) dilation_w, y = (i - floor((kernel_h - 1) / 2)) dilation_h, and the output
 *     has the size of Convolution's. With explicit positions kernel_h x kernel_w only counts them (all sets alike, or
 *     set by set), and the output has the size of a 1x1 kernel's.
 *
 * Blobs, always four, in the order of the authors' code: [0] weight num_output x (channels / group) x kernel_h x
 * kernel_w; [1] bias num_output, or without bias_term a 1x1x1x1 zero that is never updated; [2] x and [3] y positions,
 * position_group x 1 x kernel_h x kernel_w each.
 *
 * Backward leaves the raw gradient of the positions. BeforeUpdate, which the solver calls with the finished gradient
 * (summed over iter_size passes and GPUs), freezes and normalises it: to length iter_size, since the solver divides by
 * that afterwards.
 */
template <typename Dtype>
class ActiveConvolutionLayer : public Layer<Dtype> {
 public:
  explicit ActiveConvolutionLayer(const LayerParameter& param) : Layer<Dtype>(param) {}
  virtual void LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void BeforeUpdate(int iter, int iter_size);

  virtual inline const char* type() const { return "ActiveConvolution"; }
  virtual inline int MinBottomBlobs() const { return 1; }
  virtual inline int MinTopBlobs() const { return 1; }
  virtual inline bool EqualNumBottomTopBlobs() const { return true; }

  /// Bytes of buffers beside the blobs: on the CPU those of all layers that the same thread has run, independent of the
  /// batch, on the GPU limited whatever the batch.
  size_t workspace_bytes() const { return (cpu_workspace_ ? cpu_workspace_->bytes() : 0) + gpu_workspace_.bytes(); }

 protected:
  enum { kWeight, kBias, kX, kY, kBlobs };

  virtual void Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Backward_cpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
                            const vector<Blob<Dtype>*>& bottom);
  virtual void Forward_gpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Backward_gpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
                            const vector<Blob<Dtype>*>& bottom);

  /// Sets what the layer is at rest: start_x_, start_y_, extent_h_, extent_w_, and the base pixel in geometry_.
  virtual void ReadPositions();
  /// How every error message of this layer begins.
  std::string Where() const;

  ActiveGeometry geometry_;
  int pad_h_, pad_w_, dilation_h_, dilation_w_;
  int extent_h_, extent_w_;            // of the kernel at rest, in pixels; sets the output size
  vector<Dtype> start_x_, start_y_;    // position_group x K, in pixels

 private:
  /// How a blob gives its data or takes its gradient: on the CPU or on the GPU.
  typedef const Dtype* (Blob<Dtype>::*Data)() const;
  typedef Dtype* (Blob<Dtype>::*MutableDiff)();

  void ReadGeometry(const Blob<Dtype>& bottom);
  void CheckGeometry() const;
  void SetUpBlobs();
  void CheckBlobs() const;
  void FillBlobs();
  void SetUpParamSpecs();
  vector<int> BlobShape(int blob) const;
  bool Learns(int blob) const;
  ActiveParameters<Dtype> Parameters(Data data) const;
  ActiveGradients<Dtype> Gradients(MutableDiff diff, Blob<Dtype>* bottom) const;

  std::shared_ptr<ActiveCpuWorkspace<Dtype> > cpu_workspace_;  // of the thread that ran the layer last
  ActiveGpuWorkspace<Dtype> gpu_workspace_;
};

}  // namespace caffe

#endif  // CAFFE_ACTIVE_CONVOLUTION_LAYER_HPP_
