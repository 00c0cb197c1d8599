#ifdef _OPENMP
#include <omp.h>
#endif

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "caffe/util/active_convolution.hpp"
#include "caffe/util/active_cpu_kernels.hpp"
#include "caffe/util/active_geometry.hpp"

namespace caffe {

namespace {

int MaxThreads() {
#ifdef _OPENMP
  return omp_get_max_threads();
#else
  return 1;
#endif
}

int ThisThread() {
#ifdef _OPENMP
  return omp_get_thread_num();
#else
  return 0;
#endif
}

/// `size` elements at the start of a cache line; a buffer keeps the largest of the sizes it was ever asked for.
template <typename Dtype>
Dtype* Buffer(std::vector<Dtype>* buffer, size_t size) {
  const size_t kLine = 64, spare = kLine / sizeof(Dtype);
  if (buffer->size() < size + spare) { buffer->resize(size + spare); }
  const uintptr_t start = reinterpret_cast<uintptr_t>(buffer->data());
  return reinterpret_cast<Dtype*>((start + kLine - 1) / kLine * kLine);
}

int RoundUp(int count, int unit) { return CeilDivide(count, unit) * unit; }

/// Bytes of a layer's packed weights, and of the parts of their gradient, at a time: together half of the workspace's
/// limit, with the other half left to the threads.
const size_t kWeightBytes = 16 << 20;
/// Terms of a product at a time, which is rows of the columns: enough to hide the sums' way to memory and back.
const int kTerms = 288;
/// Bytes of a strip of outputs in the weights' product, whose terms are pixels: they are read again for each block of
/// rows, from the first cache where that has room for them.
const int kStripBytes = 12 << 10;
/// Bytes of the columns and outputs of a chunk, and of its frame, for which a core's second cache should have room.
const int kChunkBytes = 512 << 10, kFrameBytes = 512 << 10;
/// Parts of the backward pass: enough for many threads, few enough to add up quickly.
const int kParts = 16;

/// Forward and backward pass, segment by segment. All cuts but the forward pass's chunks, which do not show in the
/// result, depend on the layer and the batch alone.
template <typename Dtype>
class ActiveCpuPass {
 public:
  ActiveCpuPass(const ActiveGeometry& geometry, int num, const ActiveParameters<Dtype>& parameters,
                const Dtype* bottom, ActiveCpuWorkspace<Dtype>* workspace)
      : g_(geometry), num_(num), synapses_(geometry.synapses()), parameters_(parameters), bottom_(bottom),
        workspace_(workspace), kernels_(*workspace->kernels) {
    workspace_->taps = ActiveFrameTaps(g_, parameters.x, parameters.y, g_.position_group * synapses_);
    workspace_->threads.resize(MaxThreads());
  }

  void Forward(Dtype* top) {
    for (const ActiveSegment& segment : Segments()) {
      Begin(segment);
      const int per_thread = CeilDivide(num_ * g_.out_size(), MaxThreads());
      CutPixels(num_, RoundUp(per_thread, kernels_.rows));
      PackForward();
      const std::vector<ActiveChunk> chunks = ActiveChunks(g_, num_, chunk_columns_);
#pragma omp parallel for schedule(dynamic)
      for (int i = 0; i < chunks.size(); ++i) { ForwardChunk(chunks[i], top); }
    }
  }

  /// ActiveGradients says what is overwritten and what is added to; the bias is somebody else's.
  void Backward(const Dtype* top_diff, const ActiveGradients<Dtype>& wanted) {
    for (const ActiveSegment& segment : Segments()) {
      Begin(segment);
      if (wanted.bottom || wanted.x) { PackBackward(); }
      const std::vector<Part> parts = Parts(wanted);
      CutPixels(parts[0].images, parts[0].images * g_.out_size());
#pragma omp parallel for schedule(dynamic)
      for (int i = 0; i < parts.size(); ++i) { BackwardPart(parts[i], top_diff, wanted); }
      if (wanted.weight) { AddWeights(parts, wanted.weight); }
      if (wanted.x) { AddPositions(parts, wanted); }
    }
  }

 private:
  /// A part of a segment's backward pass that writes to places of its own: a block of channels of some images.
  struct Part {
    int image, images;
    int block;
    Dtype* weight_sums;  // rows of the block x outputs
    double* x_sums;      // K
    double* y_sums;
  };

  /// The segments, cut where their weights exceed the limit.
  std::vector<ActiveSegment> Segments() const {
    std::vector<ActiveSegment> segments;
    const size_t bytes_of_output = sizeof(Dtype) * g_.group_channels() * synapses_;
    const int most = std::max<int>(kernels_.lanes, kWeightBytes / bytes_of_output / kernels_.lanes * kernels_.lanes);
    for (const ActiveSegment& whole : ActiveSegments(g_)) {
      for (int first = 0; first < whole.outputs; first += most) {
        ActiveSegment segment = whole;
        segment.output += first;
        segment.outputs = std::min(most, whole.outputs - first);
        segments.push_back(segment);
      }
    }
    return segments;
  }

  void Begin(const ActiveSegment& segment) {
    segment_ = segment;
    const int vectors = CeilDivide(g_.group_channels(), kernels_.lanes);
    block_ = EvenShare(vectors, std::max(1, kTerms / (synapses_ * kernels_.lanes))) * kernels_.lanes;
    block_ = std::min(block_, g_.group_channels());
    blocks_ = CeilDivide(g_.group_channels(), block_);
    column_size_ = PixelSize(synapses_ * block_);
    output_size_ = PixelSize(segment.outputs);
  }

  /// Elements from pixel to pixel where each has `count`: whole vectors, and room for what kernels touch beyond.
  int PixelSize(int count) const { return RoundUp(count, kernels_.lanes) + std::max(kernels_.lanes, kernels_.rows); }

  /// Chooses how many pixels of `images` images make a chunk: at most `most`, and what caches hold. Where positions
  /// are so far apart that the frame of a small chunk is too large, each synapse gets a frame of its own.
  void CutPixels(int images, int most) {
    const int kFewest = 4 * kernels_.rows;
    const int fitting = kChunkBytes / sizeof(Dtype) / (column_size_ + output_size_) / kernels_.rows * kernels_.rows;
    int columns = chunk_columns_ = std::min(std::max(fitting, kFewest), most);
    while (columns / 2 >= kFewest && FrameBytes(images, columns) > kFrameBytes) { columns /= 2; }
    const bool fits = FrameBytes(images, columns) <= kFrameBytes;
    if (fits) { chunk_columns_ = columns; }
    frame_synapses_ = fits ? synapses_ : 1;
  }

  size_t FrameBytes(int images, int columns) const {
    return sizeof(Dtype) * Frame(ActiveChunks(g_, images, columns)[0], 0, synapses_, 0).size();
  }

  int Channel(int block) const { return segment_.group * g_.group_channels() + block * block_; }
  int Channels(int block) const { return std::min(block_, g_.group_channels() - block * block_); }

  ActiveFrame<Dtype> Frame(const ActiveChunk& chunk, int synapse, int synapses, int block) const {
    return ActiveFrame<Dtype>(g_, &workspace_->taps[segment_.position_group * synapses_], chunk, synapse, synapses,
                              Channel(block), Channels(block), kernels_.lanes);
  }

  size_t BottomAt(int image, int channel) const {
    return (static_cast<size_t>(image) * g_.channels + channel) * g_.image_size();
  }

  size_t TopAt(int image, int pixel) const {
    return (static_cast<size_t>(image) * g_.num_output + segment_.output) * g_.out_size() + pixel;
  }

  /// Weights of one output, and where those of output d of the segment for the c-th channel of a block start.
  size_t WeightSize() const { return static_cast<size_t>(g_.group_channels()) * synapses_; }
  size_t WeightAt(int d, int block, int c) const {
    return (segment_.output + d) * WeightSize() + static_cast<size_t>(block * block_ + c) * synapses_;
  }

  /// Columns of a packed matrix that has `columns`: whole strips.
  int PackedColumns(int columns) const { return RoundUp(columns, ActiveStrip(columns, kernels_.lanes)); }

  /// weight = for each block and each strip of outputs: rows of the block x outputs of the strip.
  void PackForward() {
    const int strip = ActiveStrip(segment_.outputs, kernels_.lanes), columns = PackedColumns(segment_.outputs);
    Dtype* packed = Buffer(&workspace_->weight, static_cast<size_t>(g_.group_channels()) * synapses_ * columns);
#pragma omp parallel for collapse(2)
    for (int block = 0; block < blocks_; ++block) {
      for (int first = 0; first < columns; first += strip) {
        const int channels = Channels(block), outputs = std::min(strip, segment_.outputs - first);
        Dtype* to = packed + ForwardWeightAt(block) + static_cast<size_t>(first) * channels * synapses_;
        for (int i = 0; i < channels * synapses_; ++i) {  // as they lie in the blob
          const Dtype* from = parameters_.weight + WeightAt(first, block, 0) + i;
          Dtype* row = to + (i % synapses_ * channels + i / synapses_) * strip;
          for (int d = 0; d < outputs; ++d) { row[d] = from[d * WeightSize()]; }
          std::fill(row + outputs, row + strip, Dtype(0));
        }
      }
    }
  }

  size_t ForwardWeightAt(int block) const {
    return static_cast<size_t>(block) * block_ * synapses_ * PackedColumns(segment_.outputs);
  }

  /// weight = for each block and each strip of its rows: outputs x rows of the strip.
  void PackBackward() {
    Dtype* packed = Buffer(&workspace_->weight, BackwardWeightAt(blocks_));
#pragma omp parallel for
    for (int block = 0; block < blocks_; ++block) {
      const int channels = Channels(block), rows = channels * synapses_, strip = ActiveStrip(rows, kernels_.lanes);
      std::vector<Dtype> row(PackedColumns(rows), Dtype(0));
      for (int d = 0; d < segment_.outputs; ++d) {
        const Dtype* from = parameters_.weight + WeightAt(d, block, 0);
        for (int c = 0; c < channels; ++c) {
          for (int k = 0; k < synapses_; ++k) { row[k * channels + c] = from[c * synapses_ + k]; }
        }
        Dtype* to = packed + BackwardWeightAt(block) + d * strip;
        for (int first = 0; first < rows; first += strip, to += static_cast<size_t>(segment_.outputs) * strip) {
          std::copy_n(&row[first], strip, to);
        }
      }
    }
  }

  size_t BackwardWeightAt(int block) const {
    return static_cast<size_t>(block) * segment_.outputs * PackedColumns(block_ * synapses_);
  }

  typedef typename ActiveCpuWorkspace<Dtype>::PerThread Thread;

  /// Columns and outputs of a chunk, with rows to spare for the last block of a product.
  Dtype* Columns(const ActiveChunk& chunk, Thread* thread) const {
    return Buffer(&thread->columns, static_cast<size_t>(RoundUp(chunk.columns(), kernels_.rows)) * column_size_);
  }

  Dtype* Outputs(const ActiveChunk& chunk, Thread* thread) const {
    return Buffer(&thread->outputs, static_cast<size_t>(RoundUp(chunk.columns(), kernels_.rows)) * output_size_);
  }

  /// The part of the segment's outputs that stands in one image of a chunk.
  ActivePlanes<Dtype> OutputPlanes(const ActiveChunk& chunk) const {
    const int pixels = chunk.pixels();
    const ActivePlanes<Dtype> planes = {segment_.outputs, pixels, static_cast<size_t>(g_.out_size()), pixels,
                                        static_cast<size_t>(output_size_), 0};
    return planes;
  }

  void ForwardChunk(const ActiveChunk& chunk, Dtype* top) {
    Thread* thread = &workspace_->threads[ThisThread()];
    Dtype* columns = Columns(chunk, thread);
    Dtype* outputs = Outputs(chunk, thread);
    const int strip = ActiveStrip(segment_.outputs, kernels_.lanes);
    for (int block = 0; block < blocks_; ++block) {
      SampleBlock(chunk, block, thread, columns);
      const int terms = synapses_ * Channels(block);
      const ActiveProduct<Dtype> product = {
          chunk.columns(), segment_.outputs, terms, columns, static_cast<size_t>(column_size_), 1,
          Buffer(&workspace_->weight, 0) + ForwardWeightAt(block), static_cast<size_t>(terms) * strip,
          static_cast<size_t>(strip), outputs, static_cast<size_t>(output_size_), block > 0};
      kernels_.multiply(product);
    }
    const ActivePlanes<Dtype> planes = OutputPlanes(chunk);
    const Dtype* bias = parameters_.bias ? parameters_.bias + segment_.output : NULL;
    for (int i = 0; i < chunk.images; ++i) {
      kernels_.store_planes(planes, outputs + static_cast<size_t>(i) * chunk.pixels() * output_size_, bias,
                            top + TopAt(chunk.image + i, chunk.begin));
    }
  }

  void SampleBlock(const ActiveChunk& chunk, int block, Thread* thread, Dtype* columns) const {
    for (int k = 0; k < synapses_; k += frame_synapses_) {
      const ActiveFrame<Dtype> frame = Frame(chunk, k, frame_synapses_, block);
      kernels_.sample(frame, LoadFrame(frame, thread), column_size_, columns);
    }
  }

  /// Calls body(planes, element of the frame, element of the bottom) for each piece of the input inside a frame.
  template <typename Body>
  void ForEachPiece(const ActiveFrame<Dtype>& f, const Body& body) const {
    const int first = std::max(0, f.column), end = std::min(g_.width, f.column + f.columns);
    if (end <= first || f.rows == 0) { return; }
    const bool whole_rows = end - first == g_.width;  // then they follow each other in the input
    const int pieces = whole_rows ? 1 : f.rows;
    const ActivePlanes<Dtype> planes = {f.channels, (end - first) * (whole_rows ? f.rows : 1),
                                        static_cast<size_t>(g_.image_size()), end - first,
                                        static_cast<size_t>(f.lanes), f.row_size()};
    for (int image = 0; image < f.chunk.images; ++image) {
      for (int piece = 0; piece < pieces; ++piece) {
        body(planes, f.RowAt(image, f.row + piece) + (first - f.column) * f.lanes,
             BottomAt(f.chunk.image + image, f.channel) + (f.row + piece) * g_.width + first);
      }
    }
  }

  const Dtype* LoadFrame(const ActiveFrame<Dtype>& frame, Thread* thread) const {
    Dtype* data = Buffer(&thread->frame, frame.size());
    const int left = std::min(frame.columns, std::max(0, -frame.column));
    const int inside_end = std::max(left, std::min(frame.columns, g_.width - frame.column));
    std::fill(data, data + frame.row_size(), Dtype(0));
    for (size_t at = frame.row_size(); at < frame.size(); at += frame.row_size()) {
      std::fill(data + at, data + at + left * frame.lanes, Dtype(0));
      std::fill(data + at + inside_end * frame.lanes, data + at + frame.row_size(), Dtype(0));
    }
    ForEachPiece(frame, [&](const ActivePlanes<Dtype>& planes, size_t in_frame, size_t in_bottom) {
      kernels_.load_planes(planes, bottom_ + in_bottom, data + in_frame);
    });
    return data;
  }

  /// Cuts the backward pass of the segment; see kParts and kWeightBytes.
  std::vector<Part> Parts(const ActiveGradients<Dtype>& wanted) const {
    const size_t weights = wanted.weight ? static_cast<size_t>(synapses_ * block_ + kernels_.rows) * output_size_ : 0;
    const int affordable = weights ? std::max<int>(1, kWeightBytes / sizeof(Dtype) / weights / blocks_) : num_;
    const int slices = std::min(num_, std::min(affordable, CeilDivide(kParts, blocks_)));
    const int images = CeilDivide(num_, slices);
    std::vector<Part> parts;
    for (int image = 0; image < num_; image += images) {
      for (int block = 0; block < blocks_; ++block) {
        const Part part = {image, std::min(images, num_ - image), block, NULL, NULL, NULL};
        parts.push_back(part);
      }
    }
    Dtype* weight_sums = Buffer(&workspace_->weight_sums, weights * parts.size());
    double* position_sums = Buffer(&workspace_->position_sums, parts.size() * 2 * synapses_);
    for (int i = 0; i < parts.size(); ++i) {
      parts[i].weight_sums = weight_sums + i * weights;
      parts[i].x_sums = position_sums + i * 2 * synapses_;
      parts[i].y_sums = parts[i].x_sums + synapses_;
    }
    return parts;
  }

  void BackwardPart(const Part& part, const Dtype* top_diff, const ActiveGradients<Dtype>& wanted) {
    Thread* thread = &workspace_->threads[ThisThread()];
    if (wanted.weight) { std::fill_n(part.weight_sums, synapses_ * Channels(part.block) * output_size_, Dtype(0)); }
    std::fill_n(part.x_sums, 2 * synapses_, 0.);
    for (ActiveChunk chunk : ActiveChunks(g_, part.images, chunk_columns_)) {
      chunk.image += part.image;
      Dtype* columns = Columns(chunk, thread);
      const Dtype* outputs = LoadOutputs(chunk, top_diff, thread);
      if (wanted.bottom && chunk.begin == 0) { ZeroBottom(chunk, part, wanted.bottom); }
      if (wanted.weight) {
        SampleBlock(chunk, part.block, thread, columns);
        MultiplyForWeights(chunk, part, columns, outputs);
      }
      if (wanted.bottom || wanted.x) {
        MultiplyForColumns(chunk, part, outputs, columns);
        SpreadBlock(chunk, part, wanted, columns, thread);
      }
    }
  }

  /// The first chunk of an image, in the first segment of a group, finds there what the blob held before.
  void ZeroBottom(const ActiveChunk& chunk, const Part& part, Dtype* bottom_diff) const {
    if (segment_.output % (g_.num_output / g_.group)) { return; }
    for (int image = chunk.image; image < chunk.image + chunk.images; ++image) {
      std::fill_n(bottom_diff + BottomAt(image, Channel(part.block)), Channels(part.block) * g_.image_size(), Dtype(0));
    }
  }

  const Dtype* LoadOutputs(const ActiveChunk& chunk, const Dtype* top_diff, Thread* thread) const {
    const ActivePlanes<Dtype> planes = OutputPlanes(chunk);
    Dtype* outputs = Outputs(chunk, thread);
    for (int i = 0; i < chunk.images; ++i) {
      kernels_.load_planes(planes, top_diff + TopAt(chunk.image + i, chunk.begin),
                           outputs + static_cast<size_t>(i) * chunk.pixels() * output_size_);
    }
    return outputs;
  }

  void MultiplyForWeights(const ActiveChunk& chunk, const Part& part, const Dtype* columns,
                          const Dtype* outputs) const {
    const size_t strip = ActiveStrip(segment_.outputs, kernels_.lanes);
    const int pixels = chunk.columns(), piece = EvenShare(pixels, kStripBytes / sizeof(Dtype) / strip);
    for (int first = 0; first < pixels; first += piece) {
      const ActiveProduct<Dtype> product = {
          synapses_ * Channels(part.block), segment_.outputs, std::min(piece, pixels - first),
          columns + static_cast<size_t>(first) * column_size_, 1, static_cast<size_t>(column_size_),
          outputs + static_cast<size_t>(first) * output_size_, strip, static_cast<size_t>(output_size_),
          part.weight_sums, static_cast<size_t>(output_size_), true};
      kernels_.multiply(product);
    }
  }

  void MultiplyForColumns(const ActiveChunk& chunk, const Part& part, const Dtype* outputs, Dtype* columns) const {
    const int rows = synapses_ * Channels(part.block), strip = ActiveStrip(rows, kernels_.lanes);
    const ActiveProduct<Dtype> product = {
        chunk.columns(), rows, segment_.outputs, outputs, static_cast<size_t>(output_size_), 1,
        Buffer(&workspace_->weight, 0) + BackwardWeightAt(part.block), static_cast<size_t>(segment_.outputs) * strip,
        static_cast<size_t>(strip), columns, static_cast<size_t>(column_size_), false};
    kernels_.multiply(product);
  }

  /// From the gradient of a block's columns to those of the input and of the positions.
  void SpreadBlock(const ActiveChunk& chunk, const Part& part, const ActiveGradients<Dtype>& wanted,
                   const Dtype* column_diff, Thread* thread) const {
    for (int k = 0; k < synapses_; k += frame_synapses_) {
      const ActiveFrame<Dtype> frame = Frame(chunk, k, frame_synapses_, part.block);
      const bool loaded = wanted.weight && frame_synapses_ == synapses_;  // it still holds what was sampled last
      const Dtype* data = loaded || !wanted.x ? Buffer(&thread->frame, 0) : LoadFrame(frame, thread);
      Dtype* frame_diff = wanted.bottom ? Buffer(&thread->frame_diff, frame.size()) : NULL;
      if (frame_diff) { std::fill_n(frame_diff, frame.size(), Dtype(0)); }
      const ActiveSpread<Dtype> spread = {data, column_diff, static_cast<size_t>(column_size_), frame_diff,
                                          wanted.x ? part.x_sums : NULL, wanted.x ? part.y_sums : NULL};
      kernels_.spread(frame, spread);
      if (!frame_diff) { continue; }
      ForEachPiece(frame, [&](const ActivePlanes<Dtype>& planes, size_t in_frame, size_t in_bottom) {
        kernels_.add_planes(planes, frame_diff + in_frame, wanted.bottom + in_bottom);
      });
    }
  }

  /// Adds the parts' sums, part after part, to the gradient of the weights.
  void AddWeights(const std::vector<Part>& parts, Dtype* weight_diff) const {
    const int kTogether = 16;  // outputs, side by side in the sums, far apart in the gradient
#pragma omp parallel for collapse(2)
    for (int block = 0; block < blocks_; ++block) {
      for (int first = 0; first < segment_.outputs; first += kTogether) {
        const int channels = Channels(block), outputs = std::min(kTogether, segment_.outputs - first);
        for (int i = 0; i < channels * synapses_; ++i) {  // as they lie in the blob
          const size_t at = static_cast<size_t>(i % synapses_ * channels + i / synapses_) * output_size_ + first;
          Dtype sums[kTogether] = {};
          for (int part = block; part < parts.size(); part += blocks_) {
            for (int d = 0; d < outputs; ++d) { sums[d] += parts[part].weight_sums[at + d]; }
          }
          Dtype* to = weight_diff + WeightAt(first, block, 0) + i;
          for (int d = 0; d < outputs; ++d) { to[d * WeightSize()] += sums[d]; }
        }
      }
    }
  }

  void AddPositions(const std::vector<Part>& parts, const ActiveGradients<Dtype>& gradients) const {
    const int set = segment_.position_group * synapses_;
    for (int k = 0; k < synapses_; ++k) {
      double x = 0, y = 0;
      for (const Part& part : parts) {
        x += part.x_sums[k];
        y += part.y_sums[k];
      }
      gradients.x[set + k] += x;
      gradients.y[set + k] += y;
    }
  }

  const ActiveGeometry& g_;
  const int num_, synapses_;
  const ActiveParameters<Dtype>& parameters_;
  const Dtype* bottom_;
  ActiveCpuWorkspace<Dtype>* workspace_;
  const ActiveCpuKernels<Dtype>& kernels_;
  ActiveSegment segment_;           // the one at work, and how it is cut:
  int block_, blocks_;              // channels of a block; the last one may be smaller
  int chunk_columns_;               // pixels of a chunk, at most
  int frame_synapses_;              // synapses of a frame: all, or one
  int column_size_, output_size_;   // elements from pixel to pixel
};

template <typename Dtype>
void BackwardBias(const ActiveGeometry& g, int num, const Dtype* top_diff, Dtype* bias_diff) {
#pragma omp parallel for
  for (int d = 0; d < g.num_output; ++d) {
    double sum = 0;
    for (int n = 0; n < num; ++n) {
      const Dtype* diff = top_diff + (static_cast<size_t>(n) * g.num_output + d) * g.out_size();
#pragma omp simd reduction(+ : sum)
      for (int i = 0; i < g.out_size(); ++i) { sum += diff[i]; }
    }
    bias_diff[d] += sum;
  }
}

}  // namespace

template <typename Dtype>
size_t ActiveCpuWorkspace<Dtype>::bytes() const {
  size_t total = taps.size() * sizeof(ActiveTap<Dtype>) + (weight.size() + weight_sums.size()) * sizeof(Dtype) +
                 position_sums.size() * sizeof(double);
  for (const PerThread& thread : threads) {
    total += sizeof(Dtype) *
             (thread.frame.size() + thread.frame_diff.size() + thread.columns.size() + thread.outputs.size());
  }
  return total;
}

template <typename Dtype>
void active_convolution_forward_cpu(const ActiveGeometry& geometry, int num, const ActiveParameters<Dtype>& parameters,
                                    const Dtype* bottom, Dtype* top, ActiveCpuWorkspace<Dtype>* workspace) {
  if (num == 0) { return; }
  ActiveCpuPass<Dtype>(geometry, num, parameters, bottom, workspace).Forward(top);
}

template <typename Dtype>
void active_convolution_backward_cpu(const ActiveGeometry& geometry, int num, const ActiveParameters<Dtype>& parameters,
                                     const Dtype* bottom, const Dtype* top_diff,
                                     const ActiveGradients<Dtype>& gradients, ActiveCpuWorkspace<Dtype>* workspace) {
  if (gradients.bias) { BackwardBias(geometry, num, top_diff, gradients.bias); }
  if (num == 0 || (!gradients.weight && !gradients.x && !gradients.bottom)) { return; }
  ActiveCpuPass<Dtype>(geometry, num, parameters, bottom, workspace).Backward(top_diff, gradients);
}

#define INSTANTIATE(Dtype) \
  template struct ActiveCpuWorkspace<Dtype>; \
  template void active_convolution_forward_cpu<Dtype>(const ActiveGeometry&, int, const ActiveParameters<Dtype>&, \
                                                      const Dtype*, Dtype*, ActiveCpuWorkspace<Dtype>*); \
  template void active_convolution_backward_cpu<Dtype>(const ActiveGeometry&, int, const ActiveParameters<Dtype>&, \
                                                       const Dtype*, const Dtype*, const ActiveGradients<Dtype>&, \
                                                       ActiveCpuWorkspace<Dtype>*)

INSTANTIATE(float);
INSTANTIATE(double);

}  // namespace caffe
