#ifndef CAFFE_UTIL_ACTIVE_GPU_PASS_HPP_
#define CAFFE_UTIL_ACTIVE_GPU_PASS_HPP_

#include <algorithm>
#include <vector>

#include "caffe/blob.hpp"
#include "caffe/util/active_convolution.hpp"
#include "caffe/util/active_geometry.hpp"
#include "caffe/util/active_gpu_kernels.hpp"
#include "caffe/util/mkl_alternate.hpp"

namespace caffe {

/**
 * Forward and backward pass of an active convolution, chunk by chunk, on any Device that has
 *
 *   Data(blob)             where the blob's data is on the device, to be written
 *   Zero(count, data)
 *   Fetch(count, data, to)  copies from the device to the host
 *   Launch(kernel)         kernel(i) for every i in [0, kernel.count())
 *   Gemm(trans_a, trans_b, m, n, k, a, b, beta, c)      c (m x n) = op(a) (m x k) * op(b) (k x n) + beta * c
 *
 * Each chunk takes the same few launches and products, whose size is bounded by the workspace, not by the batch.
 */
template <typename Device, typename Dtype>
class ActiveGpuPass {
 public:
  /// All pointers are the device's. What is referred to must outlive the pass.
  ActiveGpuPass(const ActiveGeometry& geometry, int num, const ActiveParameters<Dtype>& parameters,
                const Dtype* bottom, ActiveGpuWorkspace<Dtype>* workspace)
      : g_(geometry), num_(num), rows_(geometry.group_channels() * geometry.synapses()), parameters_(parameters),
        bottom_(bottom), workspace_(workspace) {}

  void Forward(Dtype* top) {
    for (const ActiveSegment& segment : ActiveSegments(g_)) {
      for (const ActiveChunk& chunk : Chunks(segment)) {
        const Task task = TaskOf(segment, chunk);
        Device::Launch(ActiveSampleKernel<Dtype>{task, bottom_, columns_});
        Device::Gemm(CblasNoTrans, CblasNoTrans, segment.outputs, chunk.columns(), rows_,
                     parameters_.weight + WeightAt(segment), columns_, Dtype(0), packed_);
        Device::Launch(ActiveUnpackKernel<Dtype>{task, packed_, parameters_.bias, top});
      }
    }
  }

  /// ActiveGradients says what is overwritten and what is added to.
  void Backward(const Dtype* top_diff, const ActiveGradients<Dtype>& gradients) {
    if (gradients.bias) { BackwardBias(top_diff, gradients.bias); }
    if (!gradients.weight && !gradients.x && !gradients.bottom) { return; }
    if (gradients.bottom) { Device::Zero(static_cast<size_t>(num_) * g_.channels * g_.image_size(), gradients.bottom); }
    for (const ActiveSegment& segment : ActiveSegments(g_)) {
      const std::vector<ActiveChunk> chunks = Chunks(segment);
      if (gradients.bottom) { FindTaps(segment, chunks); }
      const SlopeSums sums = gradients.x ? StartSlopes(chunks) : SlopeSums();
      for (const ActiveChunk& chunk : chunks) {
        BackwardChunk(TaskOf(segment, chunk), top_diff, gradients, sums);
      }
      if (gradients.x) { FinishSlopes(segment, sums, gradients); }
    }
  }

 private:
  typedef ActiveTask<Dtype> Task;

  /// Partial sums of the gradient of one set of positions: K x lanes of a synapse, for x and then for y.
  struct SlopeSums {
    double* x;
    double* y;
    int lanes;  // of one block of channels
    int terms;  // of one synapse: blocks x lanes
  };

  /// The chunks of one segment. The columns and the outputs packed beside them stay within the workspace's limit.
  std::vector<ActiveChunk> Chunks(const ActiveSegment& segment) {
    if (num_ == 0) { return std::vector<ActiveChunk>(); }
    const int most_outputs = g_.num_output / std::max(g_.group, g_.position_group);  // of any segment
    const size_t column_bytes = (rows_ + most_outputs) * sizeof(Dtype);
    const std::vector<ActiveChunk> chunks =
        ActiveChunks(g_, num_, std::max<int>(1, workspace_->limit / column_bytes));
    columns_ = Reserve(&workspace_->columns, rows_ * chunks[0].columns());
    packed_ = Reserve(&workspace_->packed, segment.outputs * chunks[0].columns());
    return chunks;
  }

  /// A buffer keeps the largest of the sizes it was ever asked for.
  template <typename Element>
  static Element* Reserve(Blob<Element>* blob, int count) {
    if (blob->count() < count) { blob->Reshape(std::vector<int>(1, count)); }
    return Device::Data(blob);
  }

  Task TaskOf(const ActiveSegment& segment, const ActiveChunk& chunk) const {
    return Task(g_, segment, chunk, parameters_.x, parameters_.y);
  }

  size_t WeightAt(const ActiveSegment& segment) const { return static_cast<size_t>(segment.output) * rows_; }

  /// Columns and their gradient take turns in one buffer.
  void BackwardChunk(const Task& task, const Dtype* top_diff, const ActiveGradients<Dtype>& gradients,
                     const SlopeSums& sums) {
    const int outputs = task.segment.outputs, columns = task.chunk.columns();
    Device::Launch(ActivePackKernel<Dtype>{task, top_diff, packed_});
    if (gradients.weight) {
      Device::Launch(ActiveSampleKernel<Dtype>{task, bottom_, columns_});
      Device::Gemm(CblasNoTrans, CblasTrans, outputs, rows_, columns, packed_, columns_, Dtype(1),
                   gradients.weight + WeightAt(task.segment));
    }
    if (!gradients.bottom && !gradients.x) { return; }
    Device::Gemm(CblasTrans, CblasNoTrans, rows_, columns, outputs, parameters_.weight + WeightAt(task.segment),
                 packed_, Dtype(0), columns_);
    if (gradients.bottom) {
      Device::Launch(ActiveGatherKernel<Dtype>{task, WindowOf(task.chunk), columns_, gradients.bottom});
    }
    if (gradients.x) {
      Device::Launch(ActiveSlopeKernel<Dtype>{task, bottom_, columns_, sums.x, sums.y, sums.lanes});
    }
  }

  bool WholeImages(const ActiveChunk& chunk) const { return chunk.pixels() == g_.out_size(); }

  /// Waits for the device, to know what parts of images read; whole images need no such knowledge.
  void FindTaps(const ActiveSegment& segment, const std::vector<ActiveChunk>& chunks) {
    taps_.clear();
    if (chunks.empty() || WholeImages(chunks[0])) { return; }
    const int synapses = g_.synapses(), set = segment.position_group * synapses;
    std::vector<Dtype> x(synapses), y(synapses);
    Device::Fetch(synapses, parameters_.x + set, x.data());
    Device::Fetch(synapses, parameters_.y + set, y.data());
    for (int k = 0; k < synapses; ++k) { taps_.push_back(MakeActiveTap(x[k], y[k])); }
  }

  ActiveWindow WindowOf(const ActiveChunk& chunk) const {
    const ActiveWindow image = {{0, g_.height}, {0, g_.width}};
    return WholeImages(chunk) ? image : ActiveWindowOf(g_, chunk, taps_);
  }

  /// Threads for each of `sums` sums of so many terms: whole warps, enough altogether to fill a large GPU, but at most
  /// one thread per term, or one warp.
  static int Lanes(int sums, int terms) {
    const int kThreads = 1 << 16;
    return std::max(1, CeilDivide(std::min(terms, kThreads / sums), kActiveFold)) * kActiveFold;
  }

  SlopeSums StartSlopes(const std::vector<ActiveChunk>& chunks) {
    const int synapses = g_.synapses(), blocks = CeilDivide(g_.group_channels(), kActiveChannels);
    SlopeSums sums;
    sums.lanes = Lanes(synapses * blocks, chunks.empty() ? 0 : chunks[0].columns());
    sums.terms = blocks * sums.lanes;
    sums.x = Reserve(&workspace_->sums, 2 * synapses * sums.terms);
    sums.y = sums.x + synapses * sums.terms;
    Device::Zero(2 * synapses * sums.terms, sums.x);
    return sums;
  }

  void FinishSlopes(const ActiveSegment& segment, const SlopeSums& sums, const ActiveGradients<Dtype>& gradients) {
    const int synapses = g_.synapses(), set = segment.position_group * synapses;
    Device::Launch(ActiveFoldKernel{sums.x, 2 * synapses, sums.terms});
    Device::Launch(ActiveAddKernel<Dtype>{sums.x, synapses, sums.terms, gradients.x + set});
    Device::Launch(ActiveAddKernel<Dtype>{sums.y, synapses, sums.terms, gradients.y + set});
  }

  void BackwardBias(const Dtype* top_diff, Dtype* bias_diff) {
    const int lanes = Lanes(g_.num_output, num_ * g_.out_size());
    double* sums = Reserve(&workspace_->sums, g_.num_output * lanes);
    Device::Launch(ActiveBiasKernel<Dtype>{g_, num_, top_diff, sums, lanes});
    Device::Launch(ActiveFoldKernel{sums, g_.num_output, lanes});
    Device::Launch(ActiveAddKernel<Dtype>{sums, g_.num_output, lanes, bias_diff});
  }

  const ActiveGeometry& g_;
  const int num_;
  const int rows_;  // of the columns: the channels of a group x K
  const ActiveParameters<Dtype>& parameters_;
  const Dtype* bottom_;
  ActiveGpuWorkspace<Dtype>* workspace_;
  Dtype* columns_;  // rows x columns of a chunk
  Dtype* packed_;   // outputs of a segment x columns of a chunk
  std::vector<ActiveTap<Dtype> > taps_;  // K of a segment's set; none where chunks are whole images
};

}  // namespace caffe

#endif  // CAFFE_UTIL_ACTIVE_GPU_PASS_HPP_
