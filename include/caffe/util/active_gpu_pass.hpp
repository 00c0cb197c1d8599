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

/// Threads that keep a large GPU busy. Those of slopes read more at once, and one thread adds up all that they made of a synapse.
const int kSlopeThreads = 1 << 15, kBiasThreads = 1 << 16;
/// An image of so many output pixels makes a product that fills the tiles of cuBLAS, up to 256 wide, on its own.
const int kWideProduct = 256;

/// Matrices of one shape, row by row: rows lie `step` elements apart, matrices `stride`.
template <typename Element>
struct ActiveMatrices {
  Element* data;
  int step;
  size_t stride;
};

/**
 * Forward and backward pass of an active convolution, chunk by chunk, on any Device that has
 *
 *   Data(blob)             where the blob's data is on the device, to be written
 *   Zero(count, data)
 *   Fetch(count, data, to)  copies from the device to the host
 *   Launch(kernel)         kernel(i) for every i in [0, kernel.count())
 *   Gemm(count, trans_a, trans_b, m, n, k, a, b, beta, c)    `count` products of ActiveMatrices,
 *                                                            c (m x n) = op(a) (m x k) * op(b) (k x n) + beta * c
 *
 * A chunk takes the same few of these calls whatever the groups, and its size is bounded by the workspace.
 */
template <typename Device, typename Dtype>
class ActiveGpuPass {
 public:
  /// All pointers are the device's. What is referred to must outlive the pass.
  ActiveGpuPass(const ActiveGeometry& geometry, int num, const ActiveParameters<Dtype>& parameters,
                const Dtype* bottom, ActiveGpuWorkspace<Dtype>* workspace)
      : g_(geometry), num_(num), segments_(ActiveEqualSegments(geometry)), outputs_(geometry.num_output / segments_),
        rows_(geometry.group_channels() * geometry.synapses()), parameters_(parameters), bottom_(bottom),
        workspace_(workspace) {}

  void Forward(Dtype* top) {
    for (const ActiveChunk& chunk : Chunks()) {
      const Task task(g_, chunk, parameters_.x, parameters_.y);
      Device::Launch(ActiveSampleKernel<Dtype>{task, bottom_, columns_});
      Multiply(task, top);
    }
    if (parameters_.bias) { Device::Launch(ActiveAddBiasKernel<Dtype>{g_, num_, parameters_.bias, top}); }
  }

  /// ActiveGradients says what is overwritten and what is added to.
  void Backward(const Dtype* top_diff, const ActiveGradients<Dtype>& gradients) {
    if (gradients.bias) { BackwardBias(top_diff, gradients.bias); }
    if (!gradients.weight && !gradients.x && !gradients.bottom) { return; }
    if (gradients.bottom) { Device::Zero(static_cast<size_t>(num_) * g_.channels * g_.image_size(), gradients.bottom); }
    const std::vector<ActiveChunk> chunks = Chunks();
    if (gradients.bottom) { FindTaps(chunks); }
    const SlopeSums sums = gradients.x ? StartSlopes(chunks) : SlopeSums();
    for (const ActiveChunk& chunk : chunks) {
      BackwardChunk(Task(g_, chunk, parameters_.x, parameters_.y), top_diff, gradients, sums);
    }
    if (gradients.x) { Device::Launch(ActiveFoldKernel<Dtype>{sums.x, sums.rows, sums.terms, gradients.x, gradients.y}); }
  }

 private:
  typedef ActiveTask<Dtype> Task;
  typedef ActiveMatrices<const Dtype> ConstMatrices;

  /// Partial sums of the gradient of the positions: rows x terms for x, then as many for y.
  struct SlopeSums {
    double* x;
    double* y;
    int rows;   // synapses of all sets
    int lanes;  // of a block of channels in a segment
    int terms;  // of a synapse
  };

  /// The columns and the outputs packed beside them stay within the workspace's limit, unless one column does not.
  std::vector<ActiveChunk> Chunks() {
    if (num_ == 0) { return std::vector<ActiveChunk>(); }
    const size_t column_bytes = (static_cast<size_t>(segments_) * rows_ + g_.num_output) * sizeof(Dtype);
    const std::vector<ActiveChunk> chunks =
        ActiveChunks(g_, num_, std::max<int>(1, workspace_->limit / column_bytes));
    columns_ = Reserve(&workspace_->columns, segments_ * rows_ * chunks[0].columns());
    packed_ = Reserve(&workspace_->packed, g_.num_output * chunks[0].columns());
    return chunks;
  }

  /// A buffer keeps the largest of the sizes it was ever asked for.
  template <typename Element>
  static Element* Reserve(Blob<Element>* blob, int count) {
    if (blob->count() < count) { blob->Reshape(std::vector<int>(1, count)); }
    return Device::Data(blob);
  }

  /// Those of all segments, one behind the other.
  template <typename Element>
  static ActiveMatrices<Element> Matrices(Element* data, int rows, int step) {
    return {data, step, static_cast<size_t>(rows) * step};
  }

  /// Outputs of the chunk's first image, where they lie in the top or its gradient.
  template <typename Element>
  ActiveMatrices<Element> OfImage(const Task& task, Element* top) const {
    return Matrices(top + task.OutputAt(0, 0), outputs_, g_.out_size());
  }

  /// top = weights * columns: straight into it where a chunk is of one image, or each image makes a product of its own.
  void Multiply(const Task& task, Dtype* top) {
    const int images = task.chunk.images, pixels = task.chunk.pixels(), columns = task.chunk.columns();
    const bool by_image = segments_ == 1 && pixels >= kWideProduct, straight = images == 1 || by_image;
    ConstMatrices weights = Matrices(parameters_.weight, outputs_, rows_);
    ConstMatrices samples = Matrices<const Dtype>(columns_, rows_, columns);
    if (by_image) {
      weights.stride = 0;
      samples.stride = pixels;
    }
    Device::Gemm(by_image ? images : segments_, CblasNoTrans, CblasNoTrans, outputs_, by_image ? pixels : columns, rows_,
                 weights, samples, Dtype(0), straight ? OfImage(task, top) : Matrices(packed_, outputs_, columns));
    if (!straight) { Device::Launch(ActivePackKernel<Dtype, false>{task, packed_, top}); }
  }

  /// Columns and their gradient take turns in one buffer.
  void BackwardChunk(const Task& task, const Dtype* top_diff, const ActiveGradients<Dtype>& gradients,
                     const SlopeSums& sums) {
    const int columns = task.chunk.columns();
    ConstMatrices outputs = OfImage(task, top_diff);
    if (task.chunk.images > 1) {
      Device::Launch(ActivePackKernel<Dtype, true>{task, top_diff, packed_});
      outputs = Matrices<const Dtype>(packed_, outputs_, columns);
    }
    if (gradients.weight) {
      Device::Launch(ActiveSampleKernel<Dtype>{task, bottom_, columns_});
      Device::Gemm(segments_, CblasNoTrans, CblasTrans, outputs_, rows_, columns, outputs,
                   Matrices<const Dtype>(columns_, rows_, columns), Dtype(1),
                   Matrices(gradients.weight, outputs_, rows_));
    }
    if (!gradients.bottom && !gradients.x) { return; }
    Device::Gemm(segments_, CblasTrans, CblasNoTrans, rows_, columns, outputs_,
                 Matrices(parameters_.weight, outputs_, rows_), outputs, Dtype(0), Matrices(columns_, rows_, columns));
    if (gradients.bottom) {
      Device::Launch(ActiveGatherKernel<Dtype>{task, WindowOf(task.chunk), columns_, gradients.bottom});
    }
    if (gradients.x) {
      Device::Launch(ActiveSlopeKernel<Dtype>{task, bottom_, columns_, sums.x, sums.y, sums.lanes});
    }
  }

  bool WholeImages(const ActiveChunk& chunk) const { return chunk.pixels() == g_.out_size(); }

  /// Waits for the device, to know what parts of images read; whole images need no such knowledge.
  void FindTaps(const std::vector<ActiveChunk>& chunks) {
    if (chunks.empty() || WholeImages(chunks[0])) { return; }
    const int synapses = g_.position_group * g_.synapses();
    std::vector<Dtype> x(synapses), y(synapses);
    Device::Fetch(synapses, parameters_.x, x.data());
    Device::Fetch(synapses, parameters_.y, y.data());
    for (int k = 0; k < synapses; ++k) { taps_.push_back(MakeActiveTap(x[k], y[k])); }
  }

  ActiveRectangle WindowOf(const ActiveChunk& chunk) const {
    const ActiveRectangle image = {{0, g_.height}, {0, g_.width}};
    return WholeImages(chunk) ? image : ActiveWindow(g_, chunk, taps_);
  }

  /// Threads for each of `sums` sums of so many terms, `threads` altogether: whole warps, unless there are fewer terms than
  /// that, and at most one thread per term. No more than a single thread can fold soon.
  static int Lanes(int threads, int sums, int terms) {
    const int kWarp = 32, kMost = 4096;
    if (terms < kWarp) { return std::max(1, terms); }
    return std::max(1, CeilDivide(std::min(std::min(terms, kMost), threads / sums), kWarp)) * kWarp;
  }

  SlopeSums StartSlopes(const std::vector<ActiveChunk>& chunks) {
    const int blocks = CeilDivide(g_.group_channels(), kActiveChannels);
    SlopeSums sums;
    sums.rows = g_.position_group * g_.synapses();
    sums.lanes = Lanes(kSlopeThreads, segments_ * g_.synapses() * blocks, chunks.empty() ? 0 : chunks[0].columns());
    sums.terms = segments_ / g_.position_group * blocks * sums.lanes;
    sums.x = Reserve(&workspace_->sums, 2 * sums.rows * sums.terms);
    sums.y = sums.x + static_cast<size_t>(sums.rows) * sums.terms;
    Device::Zero(static_cast<size_t>(2) * sums.rows * sums.terms, sums.x);
    return sums;
  }

  void BackwardBias(const Dtype* top_diff, Dtype* bias_diff) {
    const int lanes = Lanes(kBiasThreads, g_.num_output, num_ * g_.out_size());
    double* sums = Reserve(&workspace_->sums, g_.num_output * lanes);
    Device::Launch(ActiveBiasKernel<Dtype>{g_, num_, top_diff, sums, lanes});
    Device::Launch(ActiveFoldKernel<Dtype>{sums, g_.num_output, lanes, bias_diff, NULL});
  }

  const ActiveGeometry& g_;
  const int num_;
  const int segments_, outputs_;  // how many, of how many outputs each
  const int rows_;                // of a segment's columns: its channels x K
  const ActiveParameters<Dtype>& parameters_;
  const Dtype* bottom_;
  ActiveGpuWorkspace<Dtype>* workspace_;
  Dtype* columns_;  // segments x rows x columns of a chunk
  Dtype* packed_;   // num_output x columns of a chunk
  std::vector<ActiveTap<Dtype> > taps_;  // of all sets; none where chunks are whole images
};

}  // namespace caffe

#endif  // CAFFE_UTIL_ACTIVE_GPU_PASS_HPP_
