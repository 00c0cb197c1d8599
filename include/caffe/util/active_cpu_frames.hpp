#ifndef CAFFE_UTIL_ACTIVE_CPU_FRAMES_HPP_
#define CAFFE_UTIL_ACTIVE_CPU_FRAMES_HPP_

#include <algorithm>
#include <cstdint>
#include <vector>

#include "caffe/common.hpp"
#include "caffe/util/active_convolution.hpp"
#include "caffe/util/active_cpu_kernels.hpp"
#include "caffe/util/active_cpu_plan.hpp"
#include "caffe/util/active_machine.hpp"

namespace caffe {

/// `size` elements at the start of a cache line; a buffer keeps the largest of the sizes it was ever asked for.
template <typename Dtype>
Dtype* ActiveBuffer(std::vector<Dtype>* buffer, size_t size) {
  const size_t kLine = 64, spare = kLine / sizeof(Dtype);
  if (buffer->size() < size + spare) { buffer->resize(size + spare); }
  const uintptr_t start = reinterpret_cast<uintptr_t>(buffer->data());
  return reinterpret_cast<Dtype*>((start + kLine - 1) / kLine * kLine);
}

/**
 * What both of the CPU's passes do: they work round by round, as active_cpu_plan.hpp cuts them, and move what a tile reads
 * and writes between blobs and the frames and outputs that the kernels see.
 */
template <typename Dtype>
class ActiveCpuFrames {
 protected:
  typedef typename ActiveCpuPlan<Dtype>::Segment Segment;
  typedef typename ActiveCpuPlan<Dtype>::Round Round;
  typedef typename ActiveCpuPlan<Dtype>::Block Block;
  typedef typename ActiveCpuPlan<Dtype>::Task Task;
  typedef typename ActiveCpuWorkspace<Dtype>::PerThread Thread;

  ActiveCpuFrames(const ActiveGeometry& geometry, int num, const ActiveParameters<Dtype>& parameters,
                  const Dtype* bottom, ActiveCpuWorkspace<Dtype>* workspace)
      : g_(geometry), num_(num), synapses_(geometry.synapses()), parameters_(parameters), bottom_(bottom),
        workspace_(workspace), kernels_(*workspace->kernels),
        plan_(geometry, num, parameters.x, parameters.y, kernels_) {
    workspace_->threads.resize(ActiveMaxThreads());
  }

  Thread* ThisThread() const { return &workspace_->threads[ActiveThisThread()]; }

  size_t BottomAt(int image, int channel) const {
    return (static_cast<size_t>(image) * g_.channels + channel) * g_.image_size();
  }

  /// Where the weights of output d of a segment for the c-th channel of a block start.
  size_t WeightAt(const Segment& segment, int d, int block, int c) const {
    return (segment.output + d) * plan_.WeightSize() + static_cast<size_t>(block * segment.block + c) * synapses_;
  }

  /// Room for the packed weights of a round.
  Dtype* PackedWeights(const Round& round) const {
    return ActiveBuffer(&workspace_->weight, round.back().weight + plan_.PackedSize(round.back()));
  }

  const Dtype* PackedWeights(const Segment& segment) const {
    return ActiveBuffer(&workspace_->weight, 0) + segment.weight;
  }

  /// Packs the weights of all blocks of a round: those of groups side by side, or pack(segment, block, to).
  template <typename Pack>
  void PackWeights(const Round& round, const Pack& pack) const {
    Dtype* packed = PackedWeights(round);
    const std::vector<Block> blocks = plan_.Blocks(round);
    ActiveForEach(blocks.size(), [&](int i) {
      const Segment& segment = *blocks[i].segment;
      if (segment.turns) {
        PackTurned(segment, packed + segment.weight);
      } else {
        pack(segment, blocks[i].block, packed + segment.weight);
      }
    });
  }

  /// K x turns vectors, or those of a splat's pixels; zero in lanes without a channel.
  void PackTurned(const Segment& segment, Dtype* packed) const {
    std::fill_n(packed, plan_.PackedSize(segment), Dtype(0));
    if (segment.splat) {
      ForEachSplat(segment, [&](int lane, int k, size_t in_blob) {
        segment.splat->AddWeight(k, parameters_.weight[in_blob], kernels_.lanes, packed + lane);
      });
      return;
    }
    ForEachTurned(segment, [&](size_t at, size_t in_blob) { packed[at] = parameters_.weight[in_blob]; });
  }

  /// Calls body(element of K x turns vectors, element of the blob) for each weight of groups side by side.
  template <typename Body>
  void ForEachTurned(const Segment& segment, const Body& body) const {
    const int turns = segment.turns;
    for (int lane = 0; lane < segment.outputs; ++lane) {
      const int c = lane % turns;
      for (int j = 0; j < turns; ++j) {
        const size_t of_channel = (segment.output + lane - c + (c + j) % turns) * plan_.WeightSize() + c * synapses_;
        for (int k = 0; k < synapses_; ++k) { body((k * turns + j) * kernels_.lanes + lane, of_channel + k); }
      }
    }
  }

  /// Calls body(lane, synapse, element of the blob) for each weight of channels with one output each.
  template <typename Body>
  void ForEachSplat(const Segment& segment, const Body& body) const {
    for (int lane = 0; lane < segment.outputs; ++lane) {
      for (int k = 0; k < synapses_; ++k) { body(lane, k, (segment.output + lane) * plan_.WeightSize() + k); }
    }
  }

  /// Columns and outputs of a tile, with rows to spare for the last block of a product.
  Dtype* Columns(const Segment& segment, const ActiveTile& tile, Thread* thread) const {
    return ActiveBuffer(&thread->columns, static_cast<size_t>(RoundUp(tile.size(), kernels_.rows)) * segment.column_size);
  }

  Dtype* Outputs(const Segment& segment, const ActiveTile& tile, Thread* thread) const {
    return ActiveBuffer(&thread->outputs, static_cast<size_t>(RoundUp(tile.size(), kernels_.rows)) * segment.output_size);
  }

  /// Calls body(planes, element of the outputs, element of the top) for pixels of a tile that follow each other in
  /// the top.
  template <typename Body>
  void ForEachOutputs(const Segment& segment, const ActiveTile& tile, const Body& body) const {
    const ActiveInterval rows = tile.at.rows, columns = tile.at.columns;
    const bool whole_rows = columns.count == g_.out_width;
    const int pixels = whole_rows ? tile.at.size() : columns.count;
    const ActivePlanes<Dtype> planes = {segment.outputs, pixels, static_cast<size_t>(g_.out_size()), pixels,
                                        static_cast<size_t>(segment.output_size), 0};
    size_t in_outputs = 0;
    for (int image = tile.image; image < tile.image + tile.images; ++image) {
      for (int row = rows.first; row < rows.end(); row += pixels / columns.count) {
        const size_t plane = static_cast<size_t>(image) * g_.num_output + segment.output;
        body(planes, in_outputs, plane * g_.out_size() + static_cast<size_t>(row) * g_.out_width + columns.first);
        in_outputs += static_cast<size_t>(pixels) * segment.output_size;
      }
    }
  }

  /// What the first `pixels` pixels of a splat read of a frame.
  ActiveDepthwise Depthwise(const Segment& segment, const ActiveFrame<Dtype>& frame, int pixels, Thread* thread) const {
    const ActiveRectangle at = frame.tile.at;
    const size_t lanes = frame.lanes, row_step = g_.stride_h * frame.row_size();
    thread->reads.resize(pixels);
    for (int i = 0; i < pixels; ++i) {
      const typename ActiveSplat<Dtype>::Pixel& pixel = segment.splat->pixels()[i];
      const int y = g_.base_h + at.rows.first * g_.stride_h + pixel.y;
      const int x = g_.base_w + at.columns.first * g_.stride_w + pixel.x - frame.column;
      thread->reads[i] = frame.RowAt(0, y) + x * lanes;
    }
    const ActiveDepthwise depthwise = {at.rows.count, at.columns.count, pixels, thread->reads.data(), row_step,
                                       g_.stride_w * lanes, static_cast<size_t>(segment.output_size)};
    return depthwise;
  }

  /// Calls body(frame, element of the outputs) for some rows of a frame's tile after each other.
  template <typename Body>
  void ForEachRows(const Segment& segment, ActiveFrame<Dtype> frame, const Body& body) const {
    const ActiveInterval rows = frame.tile.at.rows;
    const size_t of_row = static_cast<size_t>(frame.tile.at.columns.count) * segment.column_size * sizeof(Dtype);
    const int some = EvenShare(rows.count, std::max<int>(1, kRowBytes / of_row));
    size_t in_outputs = 0;
    for (int row = rows.first; row < rows.end(); row += some) {
      frame.tile.at.rows.first = row;
      frame.tile.at.rows.count = std::min(some, rows.end() - row);
      body(frame, in_outputs);
      in_outputs += static_cast<size_t>(frame.tile.size()) * segment.output_size;
    }
  }

  /// Calls body(planes, element of the frame, pixel of the rectangle) for what a frame and a rectangle share of one of
  /// the tile's images, whose rows lie `pitch` elements and whose planes `plane_size` elements
  /// apart.
  template <typename Body>
  void ForEachPlanes(const ActiveFrame<Dtype>& f, int image, const ActiveRectangle& rectangle, int pitch,
                    size_t plane_size, const Body& body) const {
    const ActiveRectangle of_frame = {{f.row, f.rows}, {f.column, f.columns}}, at = of_frame & rectangle;
    if (at.size() == 0) { return; }
    const bool whole_rows = at.columns.count == pitch;  // then they follow each other
    const ActivePlanes<Dtype> planes = {f.channels, whole_rows ? at.size() : at.columns.count, plane_size,
                                        at.columns.count, static_cast<size_t>(f.lanes), f.row_size()};
    for (int row = at.rows.first; row < at.rows.end(); row += whole_rows ? at.rows.count : 1) {
      body(planes, f.RowAt(image, row) + (at.columns.first - f.column) * f.lanes,
           static_cast<size_t>(row - rectangle.rows.first) * pitch + at.columns.first - rectangle.columns.first);
    }
  }

  const Dtype* LoadFrame(const ActiveFrame<Dtype>& frame, Thread* thread) const {
    Dtype* data = ActiveBuffer(&thread->frame, frame.size());
    const int left = std::min(frame.columns, std::max(0, -frame.column));
    const int inside_end = std::max(left, std::min(frame.columns, g_.width - frame.column));
    const bool small = frame.size() * sizeof(Dtype) < kLittle;  // then filled at once
    std::fill_n(data, small ? frame.size() : frame.row_size(), Dtype(0));
    for (int i = 0; !small && i < frame.tile.images * frame.rows; ++i) {
      Dtype* row = data + (1 + i) * frame.row_size();
      const int y = frame.row + i % frame.rows;
      const bool outside = y < 0 || y >= g_.height;
      std::fill(row, row + (outside ? frame.columns : left) * frame.lanes, Dtype(0));
      std::fill(row + inside_end * frame.lanes, row + frame.row_size(), Dtype(0));
    }
    for (int i = 0; i < frame.tile.images; ++i) {
      const Dtype* bottom = bottom_ + BottomAt(frame.tile.image + i, frame.channel);
      ForEachPlanes(frame, i, plan_.WholeImage(), g_.width, g_.image_size(),
                   [&](const ActivePlanes<Dtype>& planes, size_t in_frame, size_t pixel) {
                     kernels_.load_planes(planes, bottom + pixel, data + in_frame);
                   });
    }
    return data;
  }

  /// The columns of a block for a tile of a task.
  void SampleBlock(const Task& task, const ActiveTile& tile, int block, Thread* thread, Dtype* columns) const {
    for (int k = 0; k < synapses_; k += task.frame_synapses) {
      const ActiveFrame<Dtype> frame = plan_.Frame(*task.segment, tile, k, task.frame_synapses, block);
      kernels_.sample(frame, LoadFrame(frame, thread), task.segment->column_size, columns);
    }
  }

  const ActiveGeometry& g_;
  const int num_, synapses_;
  const ActiveParameters<Dtype>& parameters_;
  const Dtype* bottom_;
  ActiveCpuWorkspace<Dtype>* workspace_;
  const ActiveCpuKernels<Dtype>& kernels_;
  const ActiveCpuPlan<Dtype> plan_;

 private:
  /// Bytes of columns at a time of groups side by side, which compute so little with them that they should stay in the
  /// first cache.
  static const size_t kRowBytes = 24 << 10;
  /// Bytes that are filled faster than their borders are found.
  static const size_t kLittle = 16 << 10;
};

}  // namespace caffe

#endif  // CAFFE_UTIL_ACTIVE_CPU_FRAMES_HPP_
