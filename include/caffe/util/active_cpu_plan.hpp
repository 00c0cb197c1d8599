#ifndef CAFFE_UTIL_ACTIVE_CPU_PLAN_HPP_
#define CAFFE_UTIL_ACTIVE_CPU_PLAN_HPP_

#include <algorithm>
#include <cstddef>
#include <vector>

#include "caffe/util/active_cpu_kernels.hpp"
#include "caffe/util/active_cpu_tiles.hpp"
#include "caffe/util/active_geometry.hpp"
#include "caffe/util/active_splat.hpp"

/**
 * How the CPU cuts a pass into what its threads do, and how what they work on lies in memory. Each word has one meaning:
 *
 *   outputs of the layer    segments  outputs that read the same channels at the same positions; or groups side by side in
 *                                     one vector. As many as have room for their packed weights are a round.
 *   channels of a segment   blocks    whose K samples of a pixel are the terms of a product
 *   pixels of the batch     tiles     rows x columns of some images, whose columns and outputs stay in cache
 *   a round                 tasks     what a thread does by itself, and writes to places of its own:
 *                                       forward, a segment over one tile;
 *                                       backward, some blocks of one over the tiles of some images, or of a band of one
 *   the input of a tile     frame     what its synapses read, with zeros outside of the image
 *   columns of a product    strips    at most three vectors each, whose sums stay in registers
 *
 * All of it but the forward pass's tiles, which do not show in the result, depends on the layer and the batch alone.
 */
namespace caffe {

template <typename Dtype>
class ActiveCpuPlan {
 public:
  /// A segment, and how what it reads and writes lies in memory.
  struct Segment : ActiveSegment {
    int turns;                      // of groups side by side in one vector, channels and outputs of each; else 0
    const ActiveSplat<Dtype>* splat;  // with one turn, unless positions are far apart: then no columns are made; else NULL
    int block, blocks;              // channels of a block, of which the last one may be smaller; how many blocks
    int column_size, output_size;   // elements from pixel to pixel
    size_t weight;                  // where its packed weights start

    bool IsCutLike(const Segment& other) const {
      return position_group == other.position_group && output_size == other.output_size;
    }
  };
  typedef std::vector<Segment> Round;

  struct Task {
    const Segment* segment;
    ActiveTile pixels;              // all of them, which are cut
    ActiveTile tile;                // into tiles of this size, at most
    int frame_synapses;             // of a frame: all, or one
    int block, blocks;              // the first one, how many
    ActiveRectangle own, overhang;  // of the input, where gradients go: into the blob, and what is other bands' there,
    Dtype* overhang_diff;           // channels of the blocks x overhang
    Dtype* weight_sums;             // rows of the blocks x outputs
    double* x_sums;                 // K
    double* y_sums;
  };

  /// A block of channels of a segment.
  struct Block {
    const Segment* segment;
    int block;
  };

  /// x and y: position_group x K positions.
  ActiveCpuPlan(const ActiveGeometry& geometry, int num, const Dtype* x, const Dtype* y,
                const ActiveCpuKernels<Dtype>& kernels)
      : g_(geometry), num_(num), synapses_(geometry.synapses()), kernels_(kernels),
        taps_(ActiveFrameTaps(geometry, x, y, geometry.position_group * geometry.synapses())) {
    for (int i = 0; Turns() == 1 && i < geometry.position_group; ++i) {
      splats_.push_back(ActiveSplat<Dtype>(&taps_[i * synapses_], synapses_));
    }
  }

  /// All segments in rounds. Those of a round have channels of their own and weights that keep the limit, for which
  /// large segments are cut.
  std::vector<Round> Rounds() const;

  /// Of the forward pass of a round, for so many threads.
  std::vector<Task> ForwardTasks(const Round& round, int threads) const;

  /// Of the backward pass; see kTasks, kWeightBytes and kSumBytes.
  std::vector<Task> BackwardTasks(const Round& round, bool of_weights) const;

  static std::vector<Block> Blocks(const Round& round);

  int Channel(const Segment& segment, int block) const {
    return segment.group * g_.group_channels() + block * segment.block;
  }
  int Channels(const Segment& segment, int block) const {
    return segment.turns ? segment.outputs : std::min(segment.block, g_.group_channels() - block * segment.block);
  }

  /// The first channel after those of a task.
  int EndChannel(const Task& task) const {
    const int last = task.block + task.blocks - 1;
    return Channel(*task.segment, last) + Channels(*task.segment, last);
  }

  const ActiveTap<Dtype>* Taps(const Segment& segment) const {
    return &taps_[segment.position_group * synapses_];
  }

  ActiveFrame<Dtype> Frame(const Segment& segment, const ActiveTile& tile, int synapse, int synapses, int block) const;

  ActiveRectangle WholeImage() const {
    const ActiveRectangle whole = {{0, g_.height}, {0, g_.width}};
    return whole;
  }

  /// Elements of the sums of a block's weights (with a splat, of its pixels'), and bytes of those of all blocks.
  size_t SumSize(const Segment& segment) const {
    if (segment.splat) { return SplatSize(segment); }
    if (segment.turns) { return TurnedSize(segment); }
    return static_cast<size_t>(RoundUp(synapses_ * segment.block, kernels_.rows)) * segment.output_size;
  }
  size_t SumBytes(const Segment& segment) const { return SumSize(segment) * segment.blocks * sizeof(Dtype); }

  size_t OverhangSize(const Task& task) const {
    return static_cast<size_t>(task.overhang.size()) * task.blocks * task.segment->block;
  }

  /// Weights of one output.
  size_t WeightSize() const { return static_cast<size_t>(g_.group_channels()) * synapses_; }

  size_t PackedSize(const Segment& segment) const {
    if (segment.splat) { return SplatSize(segment); }
    if (segment.turns) { return TurnedSize(segment); }
    return std::max(ForwardWeightAt(segment, segment.blocks), BackwardWeightAt(segment, segment.blocks));
  }

  /// Elements of the weights of groups side by side: K x turns vectors.
  size_t TurnedSize(const Segment& segment) const { return synapses_ * segment.turns * kernels_.lanes; }

  /// Elements of one vector per pixel.
  size_t SplatSize(const Segment& segment) const { return segment.splat->pixels().size() * kernels_.lanes; }

  size_t ForwardWeightAt(const Segment& segment, int block) const {
    const int rows = std::min(block * segment.block, g_.group_channels()) * synapses_;
    return static_cast<size_t>(rows) * PackedColumns(segment.outputs);
  }

  size_t BackwardWeightAt(const Segment& segment, int block) const {
    return static_cast<size_t>(block) * segment.outputs * PackedColumns(segment.block * synapses_);
  }

  /// Whether a segment is the first one of its channels: it finds in their gradient what the blob held before.
  bool IsFirst(const Segment& segment) const { return segment.output % (g_.num_output / g_.group) == 0; }

  /// Whether a frame overwrites the gradient, since nothing else adds to these images, and it holds all of their
  /// pixels.
  bool Overwrites(const ActiveFrame<Dtype>& frame, const Segment& segment) const {
    return IsFirst(segment) && frame.tile.at.size() == g_.out_size() && frame.synapses == synapses_ &&
           frame.row <= 0 && frame.row + frame.rows >= g_.height && frame.column <= 0 && frame.column + frame.columns >= g_.width;
  }

  /// Whether some rows of a tile after each other go through all that is done with their columns.
  bool WorksByRows(const Task& task, const ActiveTile& tile) const {
    return task.segment->turns && !task.segment->splat && tile.images == 1 && task.frame_synapses == synapses_;
  }

 private:
  std::vector<Segment> Segments() const;

  /// Channels of each group, where groups work side by side: those have as many outputs, fit a vector, and have one set
  /// of positions each.
  int Turns() const;

  Segment MakeSegment(const ActiveSegment& whole, int first, int outputs, int turns) const;

  /// Elements from pixel to pixel where each has `count`: whole vectors, and room for what kernels touch beyond.
  int PixelSize(int count) const { return RoundUp(count, kernels_.lanes) + std::max(kernels_.lanes, kernels_.rows); }

  /// Columns of a packed matrix that has `columns`: whole strips.
  int PackedColumns(int columns) const { return RoundUp(columns, ActiveStrip(columns, kernels_.lanes)); }

  ActiveTile WholeBatch() const {
    const ActiveTile whole = {0, num_, {{0, g_.out_height}, {0, g_.out_width}}};
    return whole;
  }

  /// Chooses the tiles of a task: of at most `most` pixels, and of what caches hold. Where positions are so far apart that
  /// the frame of a small tile is too large, each synapse gets a frame of its own.
  void ChooseTile(int most, Task* task) const;

  /// What the synapses of a frame read: all, or one.
  ActiveFootprint Footprint(const Segment& segment, int synapses) const;

  /// Whether a splat's frame has room for a few pixels of a row; if not, each synapse gets a frame of its own.
  bool IsNear(const Segment& segment) const;

  /// Of a task's largest tile.
  size_t FrameBytes(const Task& task) const;

  /// Into how many tasks the pixels are cut, of the `tasks` of a segment: each has sums of all weights, and where there are
  /// fewer, blocks of channels are tasks, too, which read the top's gradient once each. The number with the least of both.
  int CutsOfPixels(const Segment& segment, int tasks) const;

  /// `count` tasks of some images each; or, where there are fewer images, of bands of an image, as many as their overhangs
  /// leave.
  std::vector<Task> CutPixels(const Segment& segment, int count, size_t overhang_bytes) const;

  /// Cuts an image across its longer side. A band owns the input's pixels from the first that it or any later one
  /// reaches to where the next one's begin; what it reaches there overhangs.
  std::vector<Task> Bands(const Segment& segment, int count) const;

  /// The pixels of one axis of the input that any synapse reads for some output pixels.
  ActiveInterval Reach(const Segment& segment, const ActiveInterval& outputs, bool down) const;

  const ActiveGeometry& g_;
  const int num_, synapses_;
  const ActiveCpuKernels<Dtype>& kernels_;
  const std::vector<ActiveTap<Dtype> > taps_;  // position_group x K
  std::vector<ActiveSplat<Dtype> > splats_;    // position_group, or none
};

}  // namespace caffe

#endif  // CAFFE_UTIL_ACTIVE_CPU_PLAN_HPP_
