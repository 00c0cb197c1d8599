#ifndef CAFFE_ACTIVE_CONVOLUTION_LAYER_HPP_
#define CAFFE_ACTIVE_CONVOLUTION_LAYER_HPP_

#include <memory>
#include <string>
#include <vector>

#include "caffe/blob.hpp"
#include "caffe/layer.hpp"
#include "caffe/proto/caffe.pb.h"
#include "caffe/util/active_convolution.hpp"
#include "caffe/util/active_update.hpp"

namespace caffe {

/**
 * @brief The active convolution unit of Jeon and Kim (CVPR 2017): a convolution whose K synapses sit at real-valued
 *        positions p_k = (alpha_k, beta_k) relative to the base pixel, in pixels, and move during training.
 *
 *     y[d,m,n] = sum_c sum_k w[d,c,k] x~[c, m + beta_k, n + alpha_k] + b[d]                         (m row, n column)
 *
 * x~ is the input read by bilinear interpolation, zero outside the image (eq. 6-9). Gradients are eq. 10-13; at a
 * lattice point the positions see the one-sided difference towards +1. Where each equation stands: its formula once, in
 * active_sampling.hpp and active_update.hpp, and the kernel that applies it to some pixels of the batch; on the CPU
 * active_cpu_forward and _backward, on the GPU active_gpu_pass go from one lot of pixels to the next.
 *
 *     equation                 function                       active_cpu_kernels       active_gpu_kernels
 *     5       y                                               multiply                 (cuBLAS)
 *     6-9     x~               ActiveBilinear::Sample         sample                   ActiveSampleKernel
 *     10      dL/dw                                           multiply                 (cuBLAS)
 *     11      dL/db                                           sum                      ActiveBiasKernel
 *     12, 13  dL/dp            ActiveSlopeX, ActiveSlopeY     spread                   ActiveSlopeKernel
 *     14      dL/dx            ActiveBilinear                 multiply, spread         ActiveGatherKernel
 *     15, 16  dL/dp, unit      ActiveSetAsideKernel           (this layer's .cpp)      (active_update.cu)
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
 *   - position_limit [0]: |x| and |y| of every synapse are at most so many pixels after every update, whatever the solver;
 *     0: no limit. Where a weights file brings one from beyond, the first update takes it to the limit.
 *   - position: the starting shape. By default it is the kernel's grid: synapse (i, j), in row-major order, at
 *     x = (j - floor((kernel_w - 1) / 2)) dilation_w, y = (i - floor((kernel_h - 1) / 2)) dilation_h, and the output
 *     has the size of Convolution's. With explicit positions kernel_h x kernel_w only counts them (all sets alike, or
 *     set by set), and the output has the size of a 1x1 kernel's.
 *
 * Blobs, always four, in the order of the authors' code: [0] weight num_output x (channels / group) x kernel_h x
 * kernel_w; [1] bias num_output, or without bias_term a 1x1x1x1 zero that is never updated; [2] x and [3] y positions,
 * position_group x 1 x kernel_h x kernel_w each.
 *
 * Updates. Backward leaves the raw gradient of the positions. Every update passes the solver's ApplyUpdate, whether
 * Step, pycaffe's apply_update, several GPUs or ranks call it; there BeforeClipping and AfterClipping get the finished
 * gradient (summed over iter_size passes and over GPUs) and the iteration that the solver's learning rate follows, too.
 *   - What is frozen has no gradient, and no part in clip_gradients: all synapses during the warm-up, a synapse that
 *     starts at the origin, a coordinate whose lr_mult is 0. The other coordinate is then normalised by itself, to +-1.
 *   - Normalised gradients have no part in clip_gradients either, neither in the norm nor in the scaling: weights learn
 *     as beside frozen positions, positions as without clipping.
 *   - SGD and Nesterov apply their momentum. The first step after the warm-up is rate x lr_mult long (Nesterov's 1 +
 *     momentum times that), and without momentum every step.
 *   - Any other solver is taken for an adaptive one (AdaGrad, RMSProp, AdaDelta, Adam). Its rule looks for the scale of
 *     a gradient, which a direction does not have, from averages that a warm-up leaves empty. So normalised positions
 *     pass it by: every step is rate x lr_mult long, without momentum, and nothing is kept from one to the next.
 *   - With normalize_gradient false, positions are clipped and updated as any other parameter. Adaptive solvers then
 *     begin with steps that are, in units of rate x lr_mult (measured on noise, after a warm-up of 500 iterations):
 *     Adam 2.8, up to 4.5 within ten iterations (its bias correction does not wait for the warm-up); RMSProp 14;
 *     AdaGrad 1.4, but 0.06 after 400 iterations; AdaDelta 0.001.
 *   - A decay_mult that a user gives acts as on any other parameter, during the warm-up as well.
 *
 * Layers may share positions by `param { name: }`, both blobs or none. All that concerns positions is then as the first
 * of these layers has it, lr_mult and decay_mult included; another one that explicitly says something else is refused.
 */
template <typename Dtype>
class ActiveConvolutionLayer : public Layer<Dtype> {
 public:
  explicit ActiveConvolutionLayer(const LayerParameter& param) : Layer<Dtype>(param) {}
  virtual void LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void BeforeClipping(int iter);
  virtual void AfterClipping(int iter_size, bool adaptive, Dtype rate);
  virtual void AfterUpdate();
  virtual void ParamShared(int param_id, const Layer<Dtype>& owner, int owner_param_id);

  virtual inline const char* type() const { return "ActiveConvolution"; }
  virtual inline int MinBottomBlobs() const { return 1; }
  virtual inline int MinTopBlobs() const { return 1; }
  virtual inline bool EqualNumBottomTopBlobs() const { return true; }

  /// Bytes of buffers beside the blobs: on the CPU those of all layers that the same thread has run, independent of the
  /// batch; on the GPU those of all layers together, limited whatever the batch.
  size_t workspace_bytes() const {
    return (cpu_workspace_ ? cpu_workspace_->bytes() : 0) + (gpu_workspace_ ? gpu_workspace_->bytes() : 0);
  }

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
  /// How a blob gives its data, or takes data or its gradient: on the CPU or on the GPU.
  typedef const Dtype* (Blob<Dtype>::*Data)() const;
  typedef Dtype* (Blob<Dtype>::*Mutable)();

  void ReadGeometry(const Blob<Dtype>& bottom);
  void CheckGeometry() const;
  void CheckSize() const;
  void SetUpBlobs();
  void CheckBlobs() const;
  void FillBlobs();
  void SetUpParamSpecs();
  void SetUpUpdates();
  void CheckLimit() const;
  void CheckTop(const vector<int>& shape) const;
  vector<int> BlobShape(int blob) const;
  bool Learns(int blob) const;
  ActiveParameters<Dtype> Parameters(Data data) const;
  ActiveGradients<Dtype> Gradients(Mutable diff, Blob<Dtype>* bottom) const;
  ActiveSetAsideKernel<Dtype> SetAside(bool frozen, const int* fixed, Mutable diff, Mutable data);
  void ShareSpec(int blob, const LayerParameter& theirs);
  template <typename Value>
  void CheckShared(const char* field, bool given, Value mine, Value theirs, const std::string& owner) const;

  ParamSpec given_specs_[2];              // of x and y, before the layer completes them
  bool owns_positions_;                   // not another layer's, which then updates them
  Blob<int> fixed_;                       // position_group x K: 1 for a synapse that never moves, else 0
  Blob<Dtype> directions_[2];             // of x and y, position_group x K each: set aside from the clipping

  std::shared_ptr<ActiveCpuWorkspace<Dtype> > cpu_workspace_;  // of the thread that ran the layer last
  shared_ptr<ActiveGpuWorkspace<Dtype> > gpu_workspace_;       // that of the last call
};

}  // namespace caffe

#endif  // CAFFE_ACTIVE_CONVOLUTION_LAYER_HPP_
