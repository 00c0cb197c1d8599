#include <algorithm>
#include <vector>

#include "caffe/util/active_cpu_frames.hpp"

namespace caffe {

namespace {

/// Bytes of a strip of outputs in the weights' product, whose terms are pixels: they are read again for each block of
/// rows, from the first cache where that has room for them.
const int kStripBytes = 24 << 10;

template <typename Dtype>
class ActiveCpuBackward : ActiveCpuFrames<Dtype> {
 public:
  ActiveCpuBackward(const ActiveGeometry& geometry, int num, const ActiveParameters<Dtype>& parameters,
                    const Dtype* bottom, ActiveCpuWorkspace<Dtype>* workspace)
      : Frames(geometry, num, parameters, bottom, workspace) {}

  /// ActiveGradients says what is overwritten and what is added to.
  void Run(const Dtype* top_diff, const ActiveGradients<Dtype>& wanted) {
    if (wanted.bias) { AddBias(top_diff, wanted.bias); }
    if (!wanted.weight && !wanted.x && !wanted.bottom) { return; }
    for (const Round& round : plan_.Rounds()) {
      if (wanted.bottom || wanted.x) {
        this->PackWeights(round, [&](const Segment& segment, int block, Dtype* to) { Pack(segment, block, to); });
      }
      std::vector<Task> tasks = plan_.BackwardTasks(round, wanted.weight != NULL);
      GiveBuffers(wanted, &tasks);
      ActiveForEach(tasks.size(), [&](int i) { RunTask(tasks[i], top_diff, wanted); });
      if (wanted.bottom) { AddOverhangs(tasks, wanted.bottom); }
      if (wanted.weight) { AddWeights(round, tasks, wanted.weight); }
      if (wanted.x) { AddPositions(tasks, wanted); }
    }
  }

 private:
  typedef ActiveCpuFrames<Dtype> Frames;
  using typename Frames::Block;
  using typename Frames::Round;
  using typename Frames::Segment;
  using typename Frames::Task;
  using typename Frames::Thread;
  using Frames::g_;
  using Frames::kernels_;
  using Frames::num_;
  using Frames::parameters_;
  using Frames::plan_;
  using Frames::synapses_;
  using Frames::workspace_;

  void AddBias(const Dtype* top_diff, Dtype* bias_diff) const {
    ActiveForEach(g_.num_output, [&](int d) {
      double sum = 0;
      for (int n = 0; n < num_; ++n) {
        sum += kernels_.sum(g_.out_size(), top_diff + (static_cast<size_t>(n) * g_.num_output + d) * g_.out_size());
      }
      bias_diff[d] += sum;
    });
  }

  /// For each strip of a block's rows: outputs x rows of the strip.
  void Pack(const Segment& segment, int block, Dtype* packed) const {
    const int channels = plan_.Channels(segment, block), rows = channels * synapses_;
    const int strip = ActiveStrip(rows, kernels_.lanes);
    std::vector<Dtype> row(RoundUp(rows, strip), Dtype(0));
    for (int d = 0; d < segment.outputs; ++d) {
      const Dtype* from = parameters_.weight + this->WeightAt(segment, d, block, 0);
      for (int c = 0; c < channels; ++c) {
        for (int k = 0; k < synapses_; ++k) { row[k * channels + c] = from[c * synapses_ + k]; }
      }
      Dtype* to = packed + plan_.BackwardWeightAt(segment, block) + d * strip;
      for (int first = 0; first < rows; first += strip, to += static_cast<size_t>(segment.outputs) * strip) {
        std::copy_n(&row[first], strip, to);
      }
    }
  }

  void GiveBuffers(const ActiveGradients<Dtype>& wanted, std::vector<Task>* tasks) const {
    size_t weights = 0, overhangs = 0;
    bool of_positions = false;  // a splat's positions get their gradients from the same sums
    for (const Task& task : *tasks) {
      of_positions |= wanted.x && task.segment->splat;
      weights += plan_.SumSize(*task.segment) * task.blocks;
      overhangs += plan_.OverhangSize(task);
    }
    Dtype* weight_sums = wanted.weight || of_positions ? ActiveBuffer(&workspace_->weight_sums, weights) : NULL;
    Dtype* overhang = wanted.bottom ? ActiveBuffer(&workspace_->overhangs, overhangs) : NULL;
    double* position_sums = ActiveBuffer(&workspace_->position_sums, tasks->size() * 2 * synapses_);
    for (Task& task : *tasks) {
      task.weight_sums = weight_sums;
      task.overhang_diff = overhang;
      task.x_sums = position_sums;
      task.y_sums = position_sums + synapses_;
      position_sums += 2 * synapses_;
      if (weight_sums) { weight_sums += plan_.SumSize(*task.segment) * task.blocks; }
      if (overhang) { overhang += plan_.OverhangSize(task); }
    }
  }

  void RunTask(const Task& task, const Dtype* top_diff, const ActiveGradients<Dtype>& wanted) {
    const Segment& segment = *task.segment;
    Thread* thread = &workspace_->threads[ActiveThisThread()];
    if (task.weight_sums) { std::fill_n(task.weight_sums, plan_.SumSize(segment) * task.blocks, Dtype(0)); }
    if (wanted.bottom) { std::fill_n(task.overhang_diff, plan_.OverhangSize(task), Dtype(0)); }
    std::fill_n(task.x_sums, 2 * synapses_, 0.);
    for (const ActiveTile& tile : ActiveTiles(task.pixels, task.tile)) {
      const Dtype* outputs = LoadOutputs(segment, tile, top_diff, thread);
      if (wanted.bottom) { ZeroBottom(tile, task, wanted.bottom); }
      if (segment.splat) {
        RunSplat(tile, task, wanted, outputs, thread);
        continue;
      }
      Dtype* columns = this->Columns(segment, tile, thread);
      if (plan_.WorksByRows(task, tile)) {
        RunRows(tile, task, wanted, outputs, columns, thread);
        continue;
      }
      for (int block = task.block; block < task.block + task.blocks; ++block) {
        if (wanted.weight) {
          this->SampleBlock(task, tile, block, thread, columns);
          MultiplyForWeights(tile, task, block, columns, outputs);
        }
        if (wanted.bottom || wanted.x) {
          MultiplyForColumns(segment, tile, block, outputs, columns);
          SpreadBlock(tile, task, block, wanted, columns, thread);
        }
      }
    }
    if (segment.splat && wanted.x) { AddSlopes(task); }
  }

  void RunSplat(const ActiveTile& tile, const Task& task, const ActiveGradients<Dtype>& wanted,
                     const Dtype* outputs, Thread* thread) const {
    const Segment& segment = *task.segment;
    const ActiveFrame<Dtype> frame = plan_.Frame(segment, tile, 0, synapses_, 0);
    ActiveDepthwise depthwise = this->Depthwise(segment, frame, segment.splat->pixels().size(), thread);
    if (!wanted.x) { depthwise.pixels = segment.splat->used(); }  // the others matter for slopes alone
    if (task.weight_sums) { kernels_.correlate(depthwise, outputs, this->LoadFrame(frame, thread), task.weight_sums); }
    if (wanted.bottom) {
      Dtype* frame_diff = ActiveBuffer(&thread->frame_diff, frame.size());
      std::fill_n(frame_diff, frame.size(), Dtype(0));
      depthwise.pixels = segment.splat->used();
      kernels_.scatter(depthwise, this->PackedWeights(segment), outputs, frame_diff);
      AddFrame(frame, task, frame_diff, wanted.bottom);
    }
  }

  /// The gradients of the positions, from the sums of a splat's task.
  void AddSlopes(const Task& task) const {
    const Segment& segment = *task.segment;
    this->ForEachSplat(segment, [&](int lane, int k, size_t in_blob) {
      const double weight = parameters_.weight[in_blob];
      task.x_sums[k] += weight * segment.splat->SlopeX(k, kernels_.lanes, task.weight_sums + lane);
      task.y_sums[k] += weight * segment.splat->SlopeY(k, kernels_.lanes, task.weight_sums + lane);
    });
  }

  void RunRows(const ActiveTile& tile, const Task& task, const ActiveGradients<Dtype>& wanted,
                     const Dtype* outputs, Dtype* columns, Thread* thread) const {
    const Segment& segment = *task.segment;
    const ActiveFrame<Dtype> whole = plan_.Frame(segment, tile, 0, synapses_, 0);
    const Dtype* data = wanted.weight || wanted.x ? this->LoadFrame(whole, thread) : NULL;
    Dtype* frame_diff = wanted.bottom ? ActiveBuffer(&thread->frame_diff, whole.size()) : NULL;
    if (frame_diff) { std::fill_n(frame_diff, whole.size(), Dtype(0)); }
    this->ForEachRows(segment, whole, [&](const ActiveFrame<Dtype>& frame, size_t in_outputs) {
      if (wanted.weight) {
        kernels_.sample(frame, data, segment.column_size, columns);
        MultiplyForWeights(frame.tile, task, 0, columns, outputs + in_outputs);
      }
      if (wanted.bottom || wanted.x) {
        MultiplyForColumns(segment, frame.tile, 0, outputs + in_outputs, columns);
        kernels_.spread(frame, Spread(segment, task, wanted, data, columns, frame_diff));
      }
    });
    if (frame_diff) { AddFrame(whole, task, frame_diff, wanted.bottom); }
  }

  ActiveSpread<Dtype> Spread(const Segment& segment, const Task& task, const ActiveGradients<Dtype>& wanted,
                             const Dtype* frame, const Dtype* column_diff, Dtype* frame_diff) const {
    const ActiveSpread<Dtype> spread = {frame, column_diff, static_cast<size_t>(segment.column_size), frame_diff,
                                        wanted.x ? task.x_sums : NULL, wanted.x ? task.y_sums : NULL};
    return spread;
  }

  /// The first tile of an image, in the first segment of its channels.
  void ZeroBottom(const ActiveTile& tile, const Task& task, Dtype* bottom_diff) const {
    const Segment& segment = *task.segment;
    const bool first = tile.at.rows.first == task.pixels.at.rows.first &&
                       tile.at.columns.first == task.pixels.at.columns.first;
    if (!first || !plan_.IsFirst(segment)) { return; }
    if (plan_.Overwrites(plan_.Frame(segment, tile, 0, task.frame_synapses, task.block), segment)) { return; }
    const bool whole_rows = task.own.columns.count == g_.width;
    const ActiveInterval rows = task.own.rows, columns = task.own.columns;
    for (int image = tile.image; image < tile.image + tile.images; ++image) {
      for (int c = plan_.Channel(segment, task.block); c < plan_.EndChannel(task); ++c) {
        for (int row = rows.first; row < rows.end(); row += whole_rows ? rows.count : 1) {
          std::fill_n(bottom_diff + this->BottomAt(image, c) + static_cast<size_t>(row) * g_.width + columns.first,
                      whole_rows ? task.own.size() : columns.count, Dtype(0));
        }
      }
    }
  }

  const Dtype* LoadOutputs(const Segment& segment, const ActiveTile& tile, const Dtype* top_diff, Thread* thread) const {
    Dtype* outputs = this->Outputs(segment, tile, thread);
    this->ForEachOutputs(segment, tile, [&](const ActivePlanes<Dtype>& planes, size_t in_outputs, size_t in_top) {
      kernels_.load_planes(planes, top_diff + in_top, outputs + in_outputs);
    });
    if (segment.turns) { kernels_.turn(segment.turns, tile.size(), segment.output_size, outputs); }
    return outputs;
  }

  void MultiplyForWeights(const ActiveTile& tile, const Task& task, int block, const Dtype* columns,
                          const Dtype* outputs) const {
    const Segment& segment = *task.segment;
    const size_t strip = ActiveStrip(segment.outputs, kernels_.lanes), row = segment.output_size, lanes = kernels_.lanes;
    if (segment.turns) {
      const ActiveLaneProduct<Dtype> product = {
          synapses_, segment.turns, tile.size(), columns, lanes, static_cast<size_t>(segment.column_size),
          outputs, row, lanes, task.weight_sums, segment.turns * lanes, lanes, true};
      kernels_.multiply_lanes(product);
      return;
    }
    const int pixels = tile.size(), piece = EvenShare(pixels, kStripBytes / sizeof(Dtype) / strip);
    for (int first = 0; first < pixels; first += piece) {
      const ActiveProduct<Dtype> product = {
          synapses_ * plan_.Channels(segment, block), segment.outputs, std::min(piece, pixels - first),
          columns + static_cast<size_t>(first) * segment.column_size, 1, static_cast<size_t>(segment.column_size),
          outputs + first * row, strip, row, task.weight_sums + plan_.SumSize(segment) * (block - task.block), row, true};
      kernels_.multiply(product);
    }
  }

  void MultiplyForColumns(const Segment& segment, const ActiveTile& tile, int block, const Dtype* outputs,
                          Dtype* columns) const {
    const size_t output_size = segment.output_size, column_size = segment.column_size, lanes = kernels_.lanes;
    if (segment.turns) {
      const ActiveLaneProduct<Dtype> product = {
          tile.size(), synapses_, segment.turns, outputs, output_size, lanes,
          this->PackedWeights(segment), lanes, segment.turns * lanes, columns, column_size, lanes, false};
      kernels_.multiply_lanes(product);
      return;
    }
    const int rows = synapses_ * plan_.Channels(segment, block), strip = ActiveStrip(rows, kernels_.lanes);
    const ActiveProduct<Dtype> product = {
        tile.size(), rows, segment.outputs, outputs, output_size, 1,
        this->PackedWeights(segment) + plan_.BackwardWeightAt(segment, block), static_cast<size_t>(segment.outputs) * strip,
        static_cast<size_t>(strip), columns, column_size, false};
    kernels_.multiply(product);
  }

  /// From the gradient of a block's columns to those of the input and of the positions.
  void SpreadBlock(const ActiveTile& tile, const Task& task, int block, const ActiveGradients<Dtype>& wanted,
                   const Dtype* column_diff, Thread* thread) const {
    const int frame_synapses = task.frame_synapses;
    for (int k = 0; k < synapses_; k += frame_synapses) {
      const ActiveFrame<Dtype> frame = plan_.Frame(*task.segment, tile, k, frame_synapses, block);
      const bool loaded = wanted.weight && frame_synapses == synapses_;  // it still holds what was sampled last
      const Dtype* data = loaded || !wanted.x ? ActiveBuffer(&thread->frame, 0) : this->LoadFrame(frame, thread);
      Dtype* frame_diff = wanted.bottom ? ActiveBuffer(&thread->frame_diff, frame.size()) : NULL;
      if (frame_diff) { std::fill_n(frame_diff, frame.size(), Dtype(0)); }
      kernels_.spread(frame, Spread(*task.segment, task, wanted, data, column_diff, frame_diff));
      if (frame_diff) { AddFrame(frame, task, frame_diff, wanted.bottom); }
    }
  }

  /// Adds the gradient of a frame to the blob's where that is the task's own, else to the overhang.
  void AddFrame(const ActiveFrame<Dtype>& frame, const Task& task, const Dtype* frame_diff, Dtype* bottom_diff) const {
    const bool overwrites = plan_.Overwrites(frame, *task.segment);
    for (int i = 0; i < frame.tile.images; ++i) {
      const auto add_to = [&](const ActiveRectangle& rectangle, int pitch, size_t plane_size, Dtype* to) {
        this->ForEachPlanes(frame, i, rectangle, pitch, plane_size,
                     [&](const ActivePlanes<Dtype>& planes, size_t in_frame, size_t pixel) {
                       if (overwrites) {
                         kernels_.store_planes(planes, frame_diff + in_frame, NULL, to + pixel);
                       } else {
                         kernels_.add_planes(planes, frame_diff + in_frame, to + pixel);
                       }
                     });
      };
      const size_t first = static_cast<size_t>(task.own.rows.first) * g_.width + task.own.columns.first;
      add_to(task.own, g_.width, g_.image_size(), bottom_diff + this->BottomAt(frame.tile.image + i, frame.channel) + first);
      const size_t plane_size = task.overhang.size();
      add_to(task.overhang, task.overhang.columns.count, plane_size,
             task.overhang_diff + plane_size * (frame.channel - plan_.Channel(*task.segment, task.block)));
    }
  }

  /// Adds what overhangs, task after task, to the gradient of the input.
  void AddOverhangs(const std::vector<Task>& tasks, Dtype* bottom_diff) const {
    size_t overhangs = 0;
    for (const Task& task : tasks) { overhangs += task.overhang.size(); }
    if (overhangs == 0) { return; }
    ActiveForEach(g_.channels, [&](int c) {
      for (const Task& task : tasks) {
        const int first = plan_.Channel(*task.segment, task.block);
        if (c < first || c >= plan_.EndChannel(task)) { continue; }
        const ActiveRectangle at = task.overhang;
        const Dtype* from = task.overhang_diff + static_cast<size_t>(at.size()) * (c - first);
        Dtype* plane = bottom_diff + this->BottomAt(task.pixels.image, c) + at.columns.first;
        for (int row = at.rows.first; row < at.rows.end(); ++row, from += at.columns.count) {
          Dtype* to = plane + static_cast<size_t>(row) * g_.width;
          for (int i = 0; i < at.columns.count; ++i) { to[i] += from[i]; }
        }
      }
    });
  }

  /// Adds the tasks' sums, task after task, to the gradient of the weights.
  void AddWeights(const Round& round, const std::vector<Task>& tasks, Dtype* weight_diff) const {
    const std::vector<Block> blocks = plan_.Blocks(round);
    const int kTogether = 4 * kernels_.lanes;  // outputs
    int most = 0;
    for (const Segment& segment : round) { most = std::max(most, CeilDivide(segment.outputs, kTogether)); }
    ActiveForEach(blocks.size() * most, [&](int i) {
      const Block& block = blocks[i / most];
      const int first = i % most * kTogether, outputs = std::min(kTogether, block.segment->outputs - first);
      if (outputs > 0) { AddWeights(tasks, block, first, outputs, weight_diff); }
    });
  }

  /// The same for some outputs of a block; the sums come together in those of the first task.
  void AddWeights(const std::vector<Task>& tasks, const Block& block, int first, int outputs, Dtype* weight_diff) const {
    const Segment& segment = *block.segment;
    const int channels = plan_.Channels(segment, block.block);
    const size_t row_size = segment.output_size;
    if (segment.turns) {
      for (const Task& task : tasks) {
        if (task.segment != &segment) { continue; }
        if (segment.splat) {
          this->ForEachSplat(segment, [&](int lane, int k, size_t in_blob) {
            weight_diff[in_blob] += segment.splat->Sample(k, kernels_.lanes, task.weight_sums + lane);
          });
          continue;
        }
        this->ForEachTurned(segment, [&](size_t at, size_t in_blob) { weight_diff[in_blob] += task.weight_sums[at]; });
      }
      return;
    }
    Dtype* sums = NULL;
    for (const Task& task : tasks) {
      if (task.segment != &segment || block.block < task.block || block.block >= task.block + task.blocks) { continue; }
      Dtype* more = task.weight_sums + plan_.SumSize(segment) * (block.block - task.block) + first;
      if (!sums) {
        sums = more;
        continue;
      }
      for (size_t row = 0; row < channels * synapses_ * row_size; row += row_size) {
        for (int d = 0; d < outputs; ++d) { sums[row + d] += more[row + d]; }
      }
    }
    const ActivePlanes<Dtype> planes = {outputs, channels * synapses_, plan_.WeightSize(), synapses_, channels * row_size,
                                        row_size};  // as they lie in the blob: row k * channels + c at c * K + k
    kernels_.add_planes(planes, sums, weight_diff + this->WeightAt(segment, first, block.block, 0));
  }

  /// Adds the tasks' sums to the gradients of the positions; all in double before.
  void AddPositions(const std::vector<Task>& tasks, const ActiveGradients<Dtype>& gradients) const {
    std::vector<double> x(g_.position_group * synapses_, 0.), y(x);
    for (const Task& task : tasks) {
      const int set = task.segment->position_group * synapses_;
      for (int k = 0; k < synapses_; ++k) {
        x[set + k] += task.x_sums[k];
        y[set + k] += task.y_sums[k];
      }
    }
    for (int i = 0; i < x.size(); ++i) {
      gradients.x[i] += x[i];
      gradients.y[i] += y[i];
    }
  }
};

}  // namespace

template <typename Dtype>
void active_convolution_backward_cpu(const ActiveGeometry& geometry, int num, const ActiveParameters<Dtype>& parameters,
                                     const Dtype* bottom, const Dtype* top_diff,
                                     const ActiveGradients<Dtype>& gradients, ActiveCpuWorkspace<Dtype>* workspace) {
  if (num == 0) { return; }
  ActiveCpuBackward<Dtype>(geometry, num, parameters, bottom, workspace).Run(top_diff, gradients);
}

#define INSTANTIATE(Dtype) \
  template void active_convolution_backward_cpu<Dtype>(const ActiveGeometry&, int, const ActiveParameters<Dtype>&, \
                                                       const Dtype*, const Dtype*, const ActiveGradients<Dtype>&, \
                                                       ActiveCpuWorkspace<Dtype>*)

INSTANTIATE(float);
INSTANTIATE(double);

}  // namespace caffe
