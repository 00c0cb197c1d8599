#include <algorithm>
#include <vector>

#include "caffe/util/active_cpu_frames.hpp"

namespace caffe {

namespace {

template <typename Dtype>
class ActiveCpuForward : ActiveCpuFrames<Dtype> {
 public:
  ActiveCpuForward(const ActiveGeometry& geometry, int num, const ActiveParameters<Dtype>& parameters,
                   const Dtype* bottom, ActiveCpuWorkspace<Dtype>* workspace)
      : Frames(geometry, num, parameters, bottom, workspace) {}

  void Run(Dtype* top) {
    for (const Round& round : plan_.Rounds()) {
      this->PackWeights(round, [&](const Segment& segment, int block, Dtype* to) { Pack(segment, block, to); });
      const std::vector<Task> tasks = plan_.ForwardTasks(round, ActiveMaxThreads());
      ActiveForEach(tasks.size(), [&](int i) { RunTask(tasks[i], top); });
    }
  }

 private:
  typedef ActiveCpuFrames<Dtype> Frames;
  using typename Frames::Round;
  using typename Frames::Segment;
  using typename Frames::Task;
  using typename Frames::Thread;
  using Frames::kernels_;
  using Frames::parameters_;
  using Frames::plan_;
  using Frames::synapses_;

  /// For each strip of a segment's outputs: rows of the block x outputs of the strip.
  void Pack(const Segment& segment, int block, Dtype* packed) const {
    const int strip = ActiveStrip(segment.outputs, kernels_.lanes);
    for (int first = 0; first < segment.outputs; first += strip) {
      PackStrip(segment, block, first, std::min(strip, segment.outputs - first),
                packed + plan_.ForwardWeightAt(segment, block) +
                    static_cast<size_t>(first) * plan_.Channels(segment, block) * synapses_);
    }
  }

  /// rows of a block x outputs: row k * channels + c has what lies in the blob at c * K + k.
  void PackStrip(const Segment& segment, int block, int first, int outputs, Dtype* packed) const {
    const int channels = plan_.Channels(segment, block);
    const size_t strip = ActiveStrip(segment.outputs, kernels_.lanes);
    const ActivePlanes<Dtype> planes = {outputs, channels * synapses_, plan_.WeightSize(), synapses_, channels * strip,
                                        strip};
    kernels_.load_planes(planes, parameters_.weight + this->WeightAt(segment, first, block, 0), packed);
  }

  void RunTask(const Task& task, Dtype* top) {
    const Segment& segment = *task.segment;
    Thread* thread = this->ThisThread();
    Dtype* outputs = this->Outputs(segment, task.pixels, thread);
    if (segment.splat) {
      Convolve(task, thread, outputs);
    } else if (plan_.WorksByRows(task, task.pixels)) {
      RunRows(task, thread, outputs);
    } else {
      Dtype* columns = this->Columns(segment, task.pixels, thread);
      for (int block = 0; block < segment.blocks; ++block) {
        this->SampleBlock(task, task.pixels, block, thread, columns);
        Multiply(segment, task.pixels, block, columns, outputs);
      }
    }
    const Dtype* bias = parameters_.bias ? parameters_.bias + segment.output : NULL;
    this->ForEachOutputs(segment, task.pixels,
                         [&](const ActivePlanes<Dtype>& planes, size_t in_outputs, size_t in_top) {
                           kernels_.store_planes(planes, outputs + in_outputs, bias, top + in_top);
                         });
  }

  void Convolve(const Task& task, Thread* thread, Dtype* outputs) const {
    const Segment& segment = *task.segment;
    const ActiveFrame<Dtype> frame = plan_.Frame(segment, task.pixels, 0, synapses_, 0);
    const Dtype* data = this->LoadFrame(frame, thread);
    kernels_.convolve(this->Depthwise(segment, frame, segment.splat->used(), thread), this->PackedWeights(segment), data,
                      outputs);
  }

  void RunRows(const Task& task, Thread* thread, Dtype* outputs) const {
    const Segment& segment = *task.segment;
    const ActiveFrame<Dtype> whole = plan_.Frame(segment, task.pixels, 0, synapses_, 0);
    const Dtype* data = this->LoadFrame(whole, thread);
    Dtype* columns = this->Columns(segment, task.pixels, thread);
    this->ForEachRows(segment, whole, [&](const ActiveFrame<Dtype>& frame, size_t in_outputs) {
      kernels_.sample(frame, data, segment.column_size, columns);
      Multiply(segment, frame.tile, 0, columns, outputs + in_outputs);
    });
  }

  void Multiply(const Segment& segment, const ActiveTile& tile, int block, const Dtype* columns, Dtype* outputs) const {
    const size_t row = segment.output_size, lanes = kernels_.lanes;
    const Dtype* weight = this->PackedWeights(segment);
    if (segment.turns) {
      const ActiveLaneProduct<Dtype> product = {
          tile.size(), segment.turns, synapses_, columns, static_cast<size_t>(segment.column_size), lanes,
          weight, segment.turns * lanes, lanes, outputs, row, lanes, false};
      kernels_.multiply_lanes(product);
      kernels_.turn_back(segment.turns, tile.size(), row, outputs);
      return;
    }
    const int terms = synapses_ * plan_.Channels(segment, block);
    const size_t strip = ActiveStrip(segment.outputs, kernels_.lanes);
    const ActiveProduct<Dtype> product = {
        tile.size(), segment.outputs, terms, columns, static_cast<size_t>(segment.column_size), 1,
        weight + plan_.ForwardWeightAt(segment, block), terms * strip, strip, outputs, row, block > 0};
    kernels_.multiply(product);
  }
};

}  // namespace

template <typename Dtype>
void active_convolution_forward_cpu(const ActiveGeometry& geometry, int num, const ActiveParameters<Dtype>& parameters,
                                    const Dtype* bottom, Dtype* top, ActiveCpuWorkspace<Dtype>* workspace) {
  if (num == 0) { return; }
  ActiveCpuForward<Dtype>(geometry, num, parameters, bottom, workspace).Run(top);
}

#define INSTANTIATE(Dtype) \
  template void active_convolution_forward_cpu<Dtype>(const ActiveGeometry&, int, const ActiveParameters<Dtype>&, \
                                                      const Dtype*, Dtype*, ActiveCpuWorkspace<Dtype>*)

INSTANTIATE(float);
INSTANTIATE(double);

}  // namespace caffe
