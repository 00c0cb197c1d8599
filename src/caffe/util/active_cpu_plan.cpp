#include <algorithm>
#include <cmath>
#include <vector>

#include "caffe/util/active_cpu_plan.hpp"

namespace caffe {

namespace {

/// Bytes of the packed weights at a time, and of the sums of their gradient: together half of the workspace's limit,
/// with the other half left to the threads.
const size_t kWeightBytes = 16 << 20;
/// Terms of a product at a time, which is rows of the columns: enough to hide the sums' way to memory and back.
const int kTerms = 288;
/// Bytes of the columns and outputs of a tile, and of its frame, for which a core's second cache should have room.
const int kTileBytes = 512 << 10, kFrameBytes = 512 << 10;
/// Pixels of a tile, at least, before its synapses get frames of their own.
const int kFewestPixels = 32;
/// Tasks of the backward pass: enough for many threads, few enough to add up quickly.
const int kTasks = 16;
/// Bytes of the sums of one task, which should stay in a core's second cache from tile to tile.
const size_t kSumBytes = 512 << 10;
/// Pixels of a band of an image, at least: it reads and writes as many pixels beyond as its synapses reach.
const int kBandPixels = 256;
/// Bytes of what bands of an image add to each other's pixels.
const size_t kOverhangBytes = 8 << 20;

}  // namespace

template <typename Dtype>
std::vector<typename ActiveCpuPlan<Dtype>::Round> ActiveCpuPlan<Dtype>::Rounds() const {
  std::vector<Round> rounds;
  size_t size = 0;
  for (Segment segment : Segments()) {
    const size_t more = PackedSize(segment);
    const bool fits = size > 0 && (size + more) * sizeof(Dtype) <= kWeightBytes;
    if (!fits || rounds.back().back().group == segment.group) {
      rounds.push_back(Round());
      size = 0;
    }
    segment.weight = size;
    size += more;
    rounds.back().push_back(segment);
  }
  return rounds;
}

template <typename Dtype>
std::vector<typename ActiveCpuPlan<Dtype>::Task> ActiveCpuPlan<Dtype>::ForwardTasks(const Round& round,
                                                                                    int threads) const {
  const int all = num_ * g_.out_size();
  const int most = std::min<size_t>(all, CeilDivide(all, threads) * round.size());
  std::vector<Task> tasks;
  Task task = Task();
  for (const Segment& segment : round) {
    task.segment = &segment;
    task.blocks = segment.blocks;
    if (&segment == &round[0] || !segment.IsCutLike((&segment)[-1])) {
      task.pixels = WholeBatch();
      ChooseTile(std::min(all, RoundUp(most, kernels_.rows)), &task);
    }
    for (const ActiveTile& tile : ActiveTiles(WholeBatch(), task.tile)) {
      tasks.push_back(task);
      tasks.back().pixels = tile;
    }
  }
  return tasks;
}

template <typename Dtype>
std::vector<typename ActiveCpuPlan<Dtype>::Task> ActiveCpuPlan<Dtype>::BackwardTasks(const Round& round,
                                                                                     bool of_weights) const {
  size_t sums = 0;
  for (const Segment& segment : round) { sums += of_weights ? SumBytes(segment) : 0; }
  const int count = CeilDivide(kTasks, round.size());
  std::vector<Task> tasks, of_segment;
  for (const Segment& segment : round) {
    const int cuts = std::min<size_t>(CutsOfPixels(segment, count), std::max<size_t>(1, kWeightBytes / (sums + 1)));
    if (&segment == &round[0] || !segment.IsCutLike((&segment)[-1])) {
      of_segment = CutPixels(segment, cuts, kOverhangBytes / round.size());
      Task first = of_segment[0];
      first.segment = &segment;
      ChooseTile(first.pixels.size(), &first);
      for (Task& task : of_segment) {
        task.tile = first.tile;
        task.frame_synapses = first.frame_synapses;
      }
    }
    const int ranges = std::max<int>(CeilDivide(count, of_segment.size()), CeilDivide(SumBytes(segment), kSumBytes));
    const int blocks = CeilDivide(segment.blocks, ranges);
    for (Task task : of_segment) {
      task.segment = &segment;
      for (task.block = 0; task.block < segment.blocks; task.block += blocks) {
        task.blocks = std::min(blocks, segment.blocks - task.block);
        tasks.push_back(task);
      }
    }
  }
  return tasks;
}

template <typename Dtype>
std::vector<typename ActiveCpuPlan<Dtype>::Block> ActiveCpuPlan<Dtype>::Blocks(const Round& round) {
  std::vector<Block> blocks;
  for (const Segment& segment : round) {
    for (int i = 0; i < segment.blocks; ++i) {
      const Block block = {&segment, i};
      blocks.push_back(block);
    }
  }
  return blocks;
}

template <typename Dtype>
ActiveFrame<Dtype> ActiveCpuPlan<Dtype>::Frame(const Segment& segment, const ActiveTile& tile, int synapse,
                                               int synapses, int block) const {
  ActiveFrame<Dtype> frame(g_, Taps(segment), tile, synapse, synapses, Channel(segment, block),
                           Channels(segment, block), kernels_.lanes, segment.splat);
  if (segment.turns) { frame.step = kernels_.lanes; }
  return frame;
}

template <typename Dtype>
std::vector<typename ActiveCpuPlan<Dtype>::Segment> ActiveCpuPlan<Dtype>::Segments() const {
  std::vector<Segment> segments;
  const int turns = Turns();
  const size_t bytes_of_output = sizeof(Dtype) * WeightSize();
  const int most = std::max<int>(kernels_.lanes, kWeightBytes / bytes_of_output / kernels_.lanes * kernels_.lanes);
  for (const ActiveSegment& whole : ActiveSegments(g_)) {
    Segment* last = turns && segments.size() ? &segments.back() : NULL;
    if (last && last->position_group == whole.position_group && last->outputs + turns <= kernels_.lanes) {
      last->outputs += turns;
      continue;
    }
    for (int first = 0; first < whole.outputs; first += most) {
      segments.push_back(MakeSegment(whole, first, std::min(most, whole.outputs - first), turns));
    }
  }
  return segments;
}

template <typename Dtype>
int ActiveCpuPlan<Dtype>::Turns() const {
  const int channels = g_.group_channels(), most = std::min(8, kernels_.lanes);
  const bool power_of_2 = (channels & (channels - 1)) == 0;
  const bool square = g_.group > 1 && g_.num_output == g_.channels && power_of_2 && channels <= most;
  return square && g_.num_output / g_.position_group % channels == 0 ? channels : 0;
}

template <typename Dtype>
typename ActiveCpuPlan<Dtype>::Segment ActiveCpuPlan<Dtype>::MakeSegment(const ActiveSegment& whole, int first,
                                                                            int outputs, int turns) const {
  Segment segment;
  static_cast<ActiveSegment&>(segment) = whole;
  segment.output += first;
  segment.outputs = outputs;
  segment.turns = turns;
  const int vectors = CeilDivide(g_.group_channels(), kernels_.lanes);
  const int block = EvenShare(vectors, std::max(1, kTerms / (synapses_ * kernels_.lanes))) * kernels_.lanes;
  segment.block = turns ? kernels_.lanes : std::min(block, g_.group_channels());
  segment.blocks = turns ? 1 : CeilDivide(g_.group_channels(), segment.block);
  segment.column_size = PixelSize(synapses_ * segment.block);
  segment.output_size = PixelSize(turns ? turns * kernels_.lanes : outputs);
  segment.splat = splats_.empty() ? NULL : &splats_[segment.position_group];
  if (segment.splat && !IsNear(segment)) { segment.splat = NULL; }
  return segment;
}

template <typename Dtype>
void ActiveCpuPlan<Dtype>::ChooseTile(int most, Task* task) const {
  const Segment& segment = *task->segment;
  const int of_pixel = (segment.splat ? 0 : segment.column_size) + segment.output_size;
  const int fitting = kTileBytes / sizeof(Dtype) / of_pixel;
  most = std::min(most, std::max(kernels_.rows, fitting / kernels_.rows * kernels_.rows));
  const bool by_image = segment.splat || (segment.turns && g_.out_size() >= kFewestPixels);  // see WorksByRows
  if (by_image) { most = std::min(most, g_.out_size()); }
  task->frame_synapses = synapses_;
  for (int pixels = most;; pixels /= 2) {
    task->tile = ActiveTileSize(task->pixels, pixels, Footprint(segment, task->frame_synapses), kernels_.lanes);
    if (pixels == 1 || FrameBytes(*task) <= kFrameBytes) { return; }
    if (!segment.splat && task->frame_synapses > 1 && pixels < 2 * kFewestPixels) {
      task->frame_synapses = 1;
      pixels = 2 * most;
    }
  }
}

template <typename Dtype>
ActiveFootprint ActiveCpuPlan<Dtype>::Footprint(const Segment& segment, int synapses) const {
  const ActiveTap<Dtype>* taps = Taps(segment);
  int left = taps->x, right = taps->x, above = taps->y, below = taps->y;
  for (int k = 1; k < synapses; ++k) {
    left = std::min(left, taps[k].x);
    right = std::max(right, taps[k].x);
    above = std::min(above, taps[k].y);
    below = std::max(below, taps[k].y);
  }
  const ActiveFootprint footprint = {g_.stride_h, below - above + 2, g_.stride_w, right - left + 2};
  return footprint;
}

template <typename Dtype>
bool ActiveCpuPlan<Dtype>::IsNear(const Segment& segment) const {
  Task few = Task();
  few.segment = &segment;
  few.tile = {0, 1, {{0, 1}, {0, std::min(g_.out_width, kFewestPixels)}}};
  few.frame_synapses = synapses_;
  return FrameBytes(few) <= kFrameBytes;
}

template <typename Dtype>
size_t ActiveCpuPlan<Dtype>::FrameBytes(const Task& task) const {
  const Segment& segment = *task.segment;
  const ActiveFootprint footprint = Footprint(segment, task.frame_synapses);
  const double row = footprint.Pixels(1, task.tile.at.columns.count) / footprint.span_h;
  double rows = footprint.Pixels(task.tile.at.rows.count, 1) / footprint.span_w;
  if (!segment.splat) { rows = std::min<double>(g_.height, rows); }
  return row * (1 + task.tile.images * rows) * RoundUp(segment.block, kernels_.lanes) * sizeof(Dtype);
}

template <typename Dtype>
int ActiveCpuPlan<Dtype>::CutsOfPixels(const Segment& segment, int tasks) const {
  if (segment.blocks == 1) { return tasks; }
  const double outputs = static_cast<double>(num_) * g_.out_size() * segment.outputs * sizeof(Dtype);
  return std::max(1, std::min<int>(tasks, std::lround(std::sqrt(tasks * outputs / SumBytes(segment)))));
}

template <typename Dtype>
std::vector<typename ActiveCpuPlan<Dtype>::Task> ActiveCpuPlan<Dtype>::CutPixels(const Segment& segment, int count,
                                                                                 size_t overhang_bytes) const {
  std::vector<Task> tasks;
  for (int bands = std::min(count / num_, g_.out_size() / kBandPixels); bands > 1; bands /= 2) {
    const std::vector<Task> of_image = Bands(segment, bands);
    size_t overhangs = 0;
    for (const Task& band : of_image) { overhangs += static_cast<size_t>(band.overhang.size()) * g_.group_channels(); }
    if (overhangs * num_ * sizeof(Dtype) > overhang_bytes) { continue; }
    for (int image = 0; image < num_; ++image) {
      for (Task band : of_image) {
        band.pixels.image = image;
        tasks.push_back(band);
      }
    }
    return tasks;
  }
  Task task = Task();
  task.pixels = WholeBatch();
  task.own = WholeImage();
  task.pixels.images = CeilDivide(num_, count);
  for (; task.pixels.image < num_; task.pixels.image += task.pixels.images) {
    tasks.push_back(task);
    tasks.back().pixels.images = std::min(task.pixels.images, num_ - task.pixels.image);
  }
  return tasks;
}

template <typename Dtype>
std::vector<typename ActiveCpuPlan<Dtype>::Task> ActiveCpuPlan<Dtype>::Bands(const Segment& segment, int count) const {
  const bool down = g_.out_height >= g_.out_width;
  const int length = down ? g_.out_height : g_.out_width;
  const int size = RoundUp(CeilDivide(length, count), down ? 1 : kernels_.lanes);
  std::vector<Task> bands(CeilDivide(length, size));
  int end = down ? g_.height : g_.width;
  for (int i = bands.size() - 1; i >= 0; --i) {
    const ActiveInterval outputs = {i * size, std::min(size, length - i * size)}, reach = Reach(segment, outputs, down);
    const int first = i == 0 ? 0 : reach.count == 0 ? end : std::min(end, reach.first);
    const ActiveInterval own = {first, end - first}, overhang = {end, std::max(0, reach.end() - end)};
    Task& band = bands[i];
    band.pixels = WholeBatch();
    band.pixels.images = 1;
    band.own = band.overhang = WholeImage();
    (down ? band.pixels.at.rows : band.pixels.at.columns) = outputs;
    (down ? band.own.rows : band.own.columns) = own;
    (down ? band.overhang.rows : band.overhang.columns) = overhang;
    end = first;
  }
  return bands;
}

template <typename Dtype>
ActiveInterval ActiveCpuPlan<Dtype>::Reach(const Segment& segment, const ActiveInterval& outputs, bool down) const {
  const ActiveInterval image = {0, down ? g_.height : g_.width};
  ActiveInterval all = {0, 0};
  for (int k = 0; k < synapses_; ++k) {
    const ActiveTap<Dtype>& tap = Taps(segment)[k];
    all = all | (image & (down ? ActiveReach(outputs, g_.base_h, g_.stride_h, tap.y, tap.y)
                               : ActiveReach(outputs, g_.base_w, g_.stride_w, tap.x, tap.x)));
  }
  return all;
}

template class ActiveCpuPlan<float>;
template class ActiveCpuPlan<double>;

}  // namespace caffe
