#ifdef _OPENMP
#include <omp.h>
#endif

#include <algorithm>
#include <cstring>
#include <vector>

#include "caffe/util/active_convolution.hpp"
#include "caffe/util/active_partition.hpp"
#include "caffe/util/active_tile.hpp"
#include "caffe/util/strided_gemm.hpp"

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

/// Output pixels per tile: columns of `rows` rows that fit a core's cache, and work for every thread.
template <typename Dtype>
int TilePixels(const ActiveGeometry& g, int rows, int tiles_wanted) {
  const int kCacheBytes = 512 << 10, kFewest = 32;
  int pixels = std::max<int>(kFewest, kCacheBytes / sizeof(Dtype) / rows);
  pixels = std::min(pixels, std::max(kFewest, CeilDivide(g.out_size(), tiles_wanted)));
  if (pixels > g.out_width) { pixels -= pixels % g.out_width; }  // whole rows are sampled faster
  return std::min(pixels, g.out_size());
}

template <typename Dtype>
void Prepare(const ActiveGeometry& g, const ActiveParameters<Dtype>& p, ActiveWorkspace<Dtype>* workspace) {
  workspace->taps.resize(g.position_group * g.synapses());
  for (int i = 0; i < workspace->taps.size(); ++i) {
    workspace->taps[i] = MakeActiveTap(p.x[i], p.y[i]);
  }
  workspace->zeros.assign(g.width, Dtype(0));
  workspace->threads.resize(MaxThreads());
}

/// Keeps the larger of the sizes a buffer was ever asked for.
template <typename Dtype>
Dtype* Buffer(std::vector<Dtype>* buffer, size_t size) {
  if (buffer->size() < size) { buffer->resize(size); }
  return buffer->data();
}

/// The tile of a segment's pixels [begin, end), reading `channels` channels of its group from the `channel`-th on.
template <typename Dtype>
ActiveTile<Dtype> MakeTile(const ActiveGeometry& g, const ActiveWorkspace<Dtype>& workspace, const ActiveSegment& s,
                           const Dtype* image, int channel, int channels, int begin, int end) {
  ActiveTile<Dtype> tile;
  tile.geometry = &g;
  tile.taps = &workspace.taps[s.position_group * g.synapses()];
  tile.zeros = workspace.zeros.data();
  tile.image = image + (s.group * g.group_channels() + channel) * g.image_size();
  tile.channels = channels;
  tile.begin = begin;
  tile.end = end;
  return tile;
}

template <typename Dtype>
Strided<Dtype> MakeStrided(Dtype* data, int stride) {
  Strided<Dtype> matrix = {data, stride};
  return matrix;
}

/// One tile of the output of one image, all outputs.
template <typename Dtype>
void ForwardTile(const ActiveGeometry& g, const std::vector<ActiveSegment>& segments, const ActiveParameters<Dtype>& p,
                 const Dtype* image, int begin, int end, const ActiveWorkspace<Dtype>& workspace, Dtype* columns,
                 Dtype* output) {
  const int rows = g.group_channels() * g.synapses();
  for (const ActiveSegment& s : segments) {
    const ActiveTile<Dtype> tile = MakeTile(g, workspace, s, image, 0, g.group_channels(), begin, end);
    active_sample_tile(tile, columns);
    Dtype* out = output + s.output * g.out_size() + begin;
    strided_gemm(CblasNoTrans, CblasNoTrans, s.outputs, tile.pixels(), rows,
                 MakeStrided(p.weight + static_cast<size_t>(s.output) * rows, rows),
                 MakeStrided<const Dtype>(columns, tile.pixels()), Dtype(0), MakeStrided(out, g.out_size()));
    if (p.bias) {
      for (int d = 0; d < s.outputs; ++d) {
        for (int i = 0; i < tile.pixels(); ++i) { out[d * g.out_size() + i] += p.bias[s.output + d]; }
      }
    }
  }
}

/// A part of the backward pass that writes to places of its own: some channels of one group of one image.
struct BackwardPart {
  int image, group, channel, channels;
};

/// Parts enough for every thread: whole groups of whole images where there are many images, else fewer channels each.
std::vector<BackwardPart> BackwardParts(const ActiveGeometry& g, int num) {
  const int blocks = std::min(g.group_channels(), CeilDivide(MaxThreads(), num * g.group));
  const int channels = CeilDivide(g.group_channels(), blocks);
  std::vector<BackwardPart> parts;
  for (int image = 0; image < num; ++image) {
    for (int group = 0; group < g.group; ++group) {
      for (int channel = 0; channel < g.group_channels(); channel += channels) {
        BackwardPart part = {image, group, channel, std::min(channels, g.group_channels() - channel)};
        parts.push_back(part);
      }
    }
  }
  return parts;
}

/// Adds one tile of one part to the thread's gradients; bottom_diff is that of the part's channels.
template <typename Dtype>
void BackwardTile(const ActiveGeometry& g, const ActiveSegment& s, const BackwardPart& part,
                  const ActiveTile<Dtype>& tile, const Dtype* weight, const Dtype* top_diff,
                  const ActiveGradients<Dtype>& wanted, typename ActiveWorkspace<Dtype>::PerThread* thread,
                  Dtype* weight_diff, Dtype* bottom_diff) {
  const int rows = part.channels * g.synapses(), weight_stride = g.group_channels() * g.synapses();
  const size_t first_weight = static_cast<size_t>(s.output) * weight_stride + part.channel * g.synapses();
  const Strided<const Dtype> diff = MakeStrided(top_diff + s.output * g.out_size() + tile.begin, g.out_size());
  if (wanted.weight) {
    Dtype* columns = Buffer(&thread->columns, static_cast<size_t>(rows) * tile.pixels());
    active_sample_tile(tile, columns);
    strided_gemm(CblasNoTrans, CblasTrans, s.outputs, rows, tile.pixels(), diff,
                 MakeStrided<const Dtype>(columns, tile.pixels()), Dtype(1),
                 MakeStrided(weight_diff + first_weight, weight_stride));
  }
  if (!wanted.bottom && !wanted.x) { return; }
  Dtype* column_diff = Buffer(&thread->column_diff, static_cast<size_t>(rows) * tile.pixels());
  strided_gemm(CblasTrans, CblasNoTrans, rows, tile.pixels(), s.outputs,
               MakeStrided(weight + first_weight, weight_stride), diff, Dtype(0),
               MakeStrided(column_diff, tile.pixels()));
  if (wanted.bottom) { active_scatter_tile(tile, column_diff, bottom_diff); }
  if (wanted.x) {
    const int set = s.position_group * g.synapses();
    active_slope_tile(tile, column_diff, &thread->x_diff[set], &thread->y_diff[set]);
  }
}

/// Adds what the threads found, in their order, to the gradients of the parameters.
template <typename Dtype>
void Reduce(const ActiveGeometry& g, const ActiveWorkspace<Dtype>& workspace, const ActiveGradients<Dtype>& gradients) {
  for (const auto& thread : workspace.threads) {
    if (gradients.weight) {
      for (size_t i = 0; i < thread.weight_diff.size(); ++i) { gradients.weight[i] += thread.weight_diff[i]; }
    }
    if (gradients.x) {
      for (int i = 0; i < g.position_group * g.synapses(); ++i) {
        gradients.x[i] += thread.x_diff[i];
        gradients.y[i] += thread.y_diff[i];
      }
    }
  }
}

template <typename Dtype>
void BackwardBias(const ActiveGeometry& g, int num, const Dtype* top_diff, Dtype* bias_diff) {
#pragma omp parallel for
  for (int d = 0; d < g.num_output; ++d) {
    double sum = 0;
    for (int n = 0; n < num; ++n) {
      const Dtype* diff = top_diff + (n * g.num_output + d) * g.out_size();
      for (int i = 0; i < g.out_size(); ++i) { sum += diff[i]; }
    }
    bias_diff[d] += sum;
  }
}

}  // namespace

template <typename Dtype>
size_t ActiveWorkspace<Dtype>::bytes() const {
  size_t total = taps.size() * sizeof(taps[0]) + zeros.size() * sizeof(Dtype);
  for (const PerThread& thread : threads) {
    total += (thread.columns.size() + thread.column_diff.size() + thread.weight_diff.size()) * sizeof(Dtype) +
             (thread.x_diff.size() + thread.y_diff.size()) * sizeof(double);
  }
  return total;
}

template <typename Dtype>
void active_convolution_forward_cpu(const ActiveGeometry& g, int num, const ActiveParameters<Dtype>& parameters,
                                    const Dtype* bottom, Dtype* top, ActiveWorkspace<Dtype>* workspace) {
  Prepare(g, parameters, workspace);
  const std::vector<ActiveSegment> segments = ActiveSegments(g);
  const int rows = g.group_channels() * g.synapses();
  const int tile = TilePixels<Dtype>(g, rows, CeilDivide(MaxThreads(), std::max(num, 1)));
  const int tiles = CeilDivide(g.out_size(), tile);
  const SingleThreadedBlas single;
#pragma omp parallel for schedule(static)
  for (int i = 0; i < num * tiles; ++i) {
    const int image = i / tiles, begin = i % tiles * tile;
    Dtype* columns = Buffer(&workspace->threads[ThisThread()].columns, static_cast<size_t>(rows) * tile);
    ForwardTile(g, segments, parameters, bottom + image * g.channels * g.image_size(), begin,
                std::min(begin + tile, g.out_size()), *workspace, columns, top + image * g.num_output * g.out_size());
  }
}

template <typename Dtype>
void active_convolution_backward_cpu(const ActiveGeometry& g, int num, const ActiveParameters<Dtype>& parameters,
                                     const Dtype* bottom, const Dtype* top_diff,
                                     const ActiveGradients<Dtype>& gradients, ActiveWorkspace<Dtype>* workspace) {
  if (gradients.bias) { BackwardBias(g, num, top_diff, gradients.bias); }
  if (num == 0 || (!gradients.weight && !gradients.x && !gradients.bottom)) { return; }
  Prepare(g, parameters, workspace);
  const std::vector<ActiveSegment> segments = ActiveSegments(g);
  const std::vector<BackwardPart> parts = BackwardParts(g, num);
  const size_t weights = gradients.weight ? static_cast<size_t>(g.num_output) * g.group_channels() * g.synapses() : 0;
  for (auto& thread : workspace->threads) {
    thread.weight_diff.assign(weights, Dtype(0));
    thread.x_diff.assign(workspace->taps.size(), 0);
    thread.y_diff.assign(workspace->taps.size(), 0);
  }
  const int tile_pixels = TilePixels<Dtype>(g, parts[0].channels * g.synapses(), 1);
  const SingleThreadedBlas single;
#pragma omp parallel for schedule(static)
  for (int i = 0; i < parts.size(); ++i) {
    const BackwardPart& part = parts[i];
    auto* thread = &workspace->threads[ThisThread()];
    const Dtype* image = bottom + part.image * g.channels * g.image_size();
    const int first_channel = part.image * g.channels + part.group * g.group_channels() + part.channel;
    Dtype* bottom_diff = gradients.bottom ? gradients.bottom + first_channel * g.image_size() : NULL;
    if (bottom_diff) { std::memset(bottom_diff, 0, sizeof(Dtype) * part.channels * g.image_size()); }
    for (const ActiveSegment& s : segments) {
      if (s.group != part.group) { continue; }
      for (int begin = 0; begin < g.out_size(); begin += tile_pixels) {
        const ActiveTile<Dtype> tile = MakeTile(g, *workspace, s, image, part.channel, part.channels, begin,
                                                std::min(begin + tile_pixels, g.out_size()));
        BackwardTile(g, s, part, tile, parameters.weight, top_diff + part.image * g.num_output * g.out_size(),
                     gradients, thread, thread->weight_diff.data(), bottom_diff);
      }
    }
  }
  Reduce(g, *workspace, gradients);
}

#define INSTANTIATE(Dtype) \
  template struct ActiveWorkspace<Dtype>; \
  template void active_convolution_forward_cpu<Dtype>(const ActiveGeometry&, int, const ActiveParameters<Dtype>&, \
                                                      const Dtype*, Dtype*, ActiveWorkspace<Dtype>*); \
  template void active_convolution_backward_cpu<Dtype>(const ActiveGeometry&, int, const ActiveParameters<Dtype>&, \
                                                       const Dtype*, const Dtype*, const ActiveGradients<Dtype>&, \
                                                       ActiveWorkspace<Dtype>*)

INSTANTIATE(float);
INSTANTIATE(double);

}  // namespace caffe
