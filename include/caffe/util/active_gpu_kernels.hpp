#ifndef CAFFE_UTIL_ACTIVE_GPU_KERNELS_HPP_
#define CAFFE_UTIL_ACTIVE_GPU_KERNELS_HPP_

#include <cstddef>

#include "caffe/util/active_geometry.hpp"
#include "caffe/util/active_sampling.hpp"

/**
 * The GPU's kernels, as objects that a host can run too: kernel(i) for every i in [0, kernel.count()), in any order or
 * all at once. Each index writes to places of its own and sums in a fixed order, so that two runs give the same bits.
 *
 * The outputs fall into segments of equal size, each of which reads one set of channels at one set of positions. A kernel
 * works for all of them. The columns of a chunk are laid out as one matrix for each segment over all images of the chunk:
 * row c * K + k, one column per output pixel. Outputs of a chunk are packed alike, one row per output.
 *
 * Indices count columns or pixels fastest: neighbouring threads read and write neighbouring elements, and see the same
 * synapse, so that they branch alike. A thread works for kActiveChannels channels: finding where a synapse reads takes
 * divisions, which cost more than the reading does, and is the same for all channels.
 */
namespace caffe {

const int kActiveChannels = 8;
const int kActiveFold = 32;  // terms that one thread reads at once

/// Where a synapse reads for one column: the first channel that it reads, and offsets in any channel; -1 outside the image.
struct ActiveSite {
  size_t image;
  int at00, at01, at10, at11;

  template <typename Dtype>
  static ACTIVE_HOST_DEVICE Dtype Pixel(const Dtype* channel, int at) { return at < 0 ? Dtype(0) : channel[at]; }
};

/// Of equal size, as few as there can be: the least number that group and position_group both divide.
inline int ActiveEqualSegments(const ActiveGeometry& g) {
  int segments = g.group;
  while (segments % g.position_group) { segments += g.group; }
  return segments;
}

/// What a kernel works on: all segments, over one chunk of the batch.
template <typename Dtype>
struct ActiveTask {
  ActiveGeometry geometry;
  ActiveChunk chunk;
  const Dtype* x;  // position_group x K
  const Dtype* y;
  int segments, of_group, of_set;  // all, those that read one set of channels, those that read at one set of positions
  int channels;                    // of a set
  int blocks;                      // of kActiveChannels channels in a set; the last one may be smaller

  ActiveTask(const ActiveGeometry& g, const ActiveChunk& chunk, const Dtype* x, const Dtype* y)
      : geometry(g), chunk(chunk), x(x), y(y), segments(ActiveEqualSegments(g)), of_group(segments / g.group),
        of_set(segments / g.position_group), channels(g.group_channels()),
        blocks(CeilDivide(channels, kActiveChannels)) {}

  ACTIVE_HOST_DEVICE ActiveTap<Dtype> Tap(int segment, int k) const {
    const int at = segment / of_set * geometry.synapses() + k;
    return MakeActiveTap(x[at], y[at]);
  }

  /// The channels of a block are [FirstChannel(block), FirstChannel(block + 1)).
  ACTIVE_HOST_DEVICE int FirstChannel(int block) const {
    return block < blocks ? block * kActiveChannels : channels;
  }

  /// Element of the columns.
  ACTIVE_HOST_DEVICE size_t ColumnAt(int segment, int channel, int k, int column) const {
    const size_t row = (static_cast<size_t>(segment) * channels + channel) * geometry.synapses() + k;
    return row * chunk.columns() + column;
  }

  /// Element of the bottom where a group's first channel of the chunk's `image`-th image starts.
  ACTIVE_HOST_DEVICE size_t ImageAt(int image, int group) const {
    const size_t first = static_cast<size_t>(chunk.image + image) * geometry.channels + group * channels;
    return first * geometry.image_size();
  }

  /// Element of the top that stands in a column of an output.
  ACTIVE_HOST_DEVICE size_t OutputAt(int output, int column) const {
    const int image = column / chunk.pixels(), pixel = chunk.begin + column - image * chunk.pixels();
    const size_t channel = static_cast<size_t>(chunk.image + image) * geometry.num_output + output;
    return channel * geometry.out_size() + pixel;
  }

  ACTIVE_HOST_DEVICE ActiveSite SiteOf(int segment, int column, const ActiveTap<Dtype>& tap) const {
    const ActiveGeometry& g = geometry;
    const int image = column / chunk.pixels(), pixel = chunk.begin + column - image * chunk.pixels();
    const int m = pixel / g.out_width, n = pixel - m * g.out_width;
    const int row = g.base_h + m * g.stride_h + tap.y, x = g.base_w + n * g.stride_w + tap.x;
    const ActiveSite site = {ImageAt(image, segment / of_group), PixelAt(row, x), PixelAt(row, x + 1),
                             PixelAt(row + 1, x), PixelAt(row + 1, x + 1)};
    return site;
  }

  ACTIVE_HOST_DEVICE int PixelAt(int row, int x) const {
    const bool inside = row >= 0 && row < geometry.height && x >= 0 && x < geometry.width;
    return inside ? row * geometry.width + x : -1;
  }
};

/// columns (segments x channels*K x columns) = the interpolated input (eq. 6-9). An index: one synapse and column, of a
/// segment's block.
template <typename Dtype>
struct ActiveSampleKernel {
  ActiveTask<Dtype> task;
  const Dtype* bottom;
  Dtype* columns;

  int count() const { return task.chunk.columns() * task.geometry.synapses() * task.blocks * task.segments; }

  ACTIVE_HOST_DEVICE void operator()(int index) const {
    const int width = task.chunk.columns(), row = index / width, column = index - row * width;
    const int rest = row / task.geometry.synapses(), k = row - rest * task.geometry.synapses();
    const int segment = rest / task.blocks, block = rest - segment * task.blocks;
    const ActiveTap<Dtype> tap = task.Tap(segment, k);
    const ActiveBilinear<Dtype> weights(tap);
    const ActiveSite site = task.SiteOf(segment, column, tap);
    for (int c = task.FirstChannel(block); c < task.FirstChannel(block + 1); ++c) {
      const Dtype* channel = bottom + site.image + c * task.geometry.image_size();
      columns[task.ColumnAt(segment, c, k, column)] =
          weights.Sample(site.Pixel(channel, site.at00), site.Pixel(channel, site.at01),
                         site.Pixel(channel, site.at10), site.Pixel(channel, site.at11));
    }
  }
};

/// Copies between a packed matrix (num_output x columns) and the chunk's columns of the top, or of its gradient: with kPack to
/// the matrix, else from it. An index: one element.
template <typename Dtype, bool kPack>
struct ActivePackKernel {
  ActiveTask<Dtype> task;
  const Dtype* from;
  Dtype* to;

  int count() const { return task.geometry.num_output * task.chunk.columns(); }

  ACTIVE_HOST_DEVICE void operator()(int index) const {
    const int output = index / task.chunk.columns(), column = index - output * task.chunk.columns();
    const size_t at = task.OutputAt(output, column);
    to[kPack ? index : at] = from[kPack ? at : index];
  }
};

/// Adds bias (num_output) to the top. An index: one element.
template <typename Dtype>
struct ActiveAddBiasKernel {
  ActiveGeometry geometry;
  int num;
  const Dtype* bias;
  Dtype* top;

  int count() const { return num * geometry.num_output * geometry.out_size(); }

  ACTIVE_HOST_DEVICE void operator()(int index) const {
    top[index] += bias[index / geometry.out_size() % geometry.num_output];
  }
};

/**
 * Adds the gradient of the columns to that of the bottom: each pixel looks for the output pixels that read it, instead
 * of these adding to it, whose order would show. Only pixels of the window are looked at. An index: one pixel, of a
 * block.
 */
template <typename Dtype>
struct ActiveGatherKernel {
  ActiveTask<Dtype> task;
  ActiveRectangle window;  // holds all pixels that the chunk reads
  const Dtype* column_diff;
  Dtype* bottom_diff;

  int count() const { return task.chunk.images * task.geometry.group * task.blocks * window.size(); }

  ACTIVE_HOST_DEVICE void operator()(int index) const {
    const ActiveGeometry& g = task.geometry;
    const int rest = index / window.size(), pixel = index - rest * window.size();
    const int set = rest / task.blocks, block = rest - set * task.blocks;
    const int image = set / g.group, group = set - image * g.group;
    const int row_in_window = pixel / window.columns.count;
    const int row = window.rows.first + row_in_window;
    const int x = window.columns.first + pixel - row_in_window * window.columns.count;
    Dtype sums[kActiveChannels] = {};
    for (int segment = group * task.of_group; segment < (group + 1) * task.of_group; ++segment) {
      for (int k = 0; k < g.synapses(); ++k) {
        const ActiveTap<Dtype> tap = task.Tap(segment, k);
        const ActiveBilinear<Dtype> w(tap);
        const int dm = row - g.base_h - tap.y, dn = x - g.base_w - tap.x;
        const int m0 = Reading(dm, g.stride_h, g.out_height), m1 = Reading(dm - 1, g.stride_h, g.out_height);
        const int n0 = Reading(dn, g.stride_w, g.out_width), n1 = Reading(dn - 1, g.stride_w, g.out_width);
        const Dtype* diffs = column_diff + task.ColumnAt(segment, task.FirstChannel(block), k, 0);
        Add(w.w00, m0, n0, image, block, diffs, sums);
        Add(w.w01, m0, n1, image, block, diffs, sums);
        Add(w.w10, m1, n0, image, block, diffs, sums);
        Add(w.w11, m1, n1, image, block, diffs, sums);
      }
    }
    const int first = task.FirstChannel(block), channels = task.FirstChannel(block + 1) - first;
    Dtype* diff = bottom_diff + task.ImageAt(image, group) + first * g.image_size() + row * g.width + x;
    for (int c = 0; c < kActiveChannels; ++c) {
      if (c < channels) { diff[c * g.image_size()] += sums[c]; }
    }
  }

  /// The output row (or column) whose base pixel is `distance` from that of the first one; -1 where there is none.
  static ACTIVE_HOST_DEVICE int Reading(int distance, int stride, int size) {
    const int at = stride == 1 ? distance : distance / stride;
    return distance >= 0 && at < size && at * stride == distance ? at : -1;
  }

  /// Adds weight times a block's gradients at output pixel (m, n), if that exists and stands in the chunk, from `diffs`,
  /// those of a synapse at the chunk's first column.
  ACTIVE_HOST_DEVICE void Add(Dtype weight, int m, int n, int image, int block, const Dtype* diffs, Dtype* sums) const {
    if (weight == 0 || m < 0 || n < 0) { return; }
    const int pixel = m * task.geometry.out_width + n;
    if (pixel < task.chunk.begin || pixel >= task.chunk.end) { return; }
    const int channels = task.FirstChannel(block + 1) - task.FirstChannel(block);
    const Dtype* diff = diffs + image * task.chunk.pixels() + pixel - task.chunk.begin;
    const size_t step = task.ColumnAt(0, 1, 0, 0);
    for (int c = 0; c < kActiveChannels; ++c) {  // of constant length, so that the sums stay in registers
      if (c < channels) { sums[c] += weight * diff[c * step]; }
    }
  }
};

/**
 * Adds to x_sums and y_sums (position_group x K x parts) parts of the gradient of the positions (eq. 12 and 13): a part is
 * of one segment, block and lane, which takes every lanes-th column. In double but for the few channels of a block. An
 * index: one part.
 */
template <typename Dtype>
struct ActiveSlopeKernel {
  ActiveTask<Dtype> task;
  const Dtype* bottom;
  const Dtype* column_diff;
  double* x_sums;
  double* y_sums;
  int lanes;

  int count() const { return task.geometry.synapses() * task.segments * task.blocks * lanes; }

  ACTIVE_HOST_DEVICE void operator()(int index) const {
    const int rest = index / lanes, lane = index - rest * lanes;
    const int above = rest / task.blocks, block = rest - above * task.blocks;
    const int synapse = above / task.of_set, of_set = above - synapse * task.of_set;
    const int set = synapse / task.geometry.synapses(), k = synapse - set * task.geometry.synapses();
    const int segment = set * task.of_set + of_set;
    const ActiveTap<Dtype> tap = task.Tap(segment, k);
    double x_sum = 0, y_sum = 0;
    for (int column = lane; column < task.chunk.columns(); column += lanes) {
      const ActiveSite site = task.SiteOf(segment, column, tap);
      Dtype along_x = 0, along_y = 0;
      for (int c = task.FirstChannel(block); c < task.FirstChannel(block + 1); ++c) {
        const Dtype* channel = bottom + site.image + c * task.geometry.image_size();
        const Dtype x00 = site.Pixel(channel, site.at00), x01 = site.Pixel(channel, site.at01);
        const Dtype x10 = site.Pixel(channel, site.at10), x11 = site.Pixel(channel, site.at11);
        const Dtype diff = column_diff[task.ColumnAt(segment, c, k, column)];
        along_x += diff * ActiveSlopeX(tap, x00, x01, x10, x11);
        along_y += diff * ActiveSlopeY(tap, x00, x01, x10, x11);
      }
      x_sum += along_x;
      y_sum += along_y;
    }
    x_sums[index] += x_sum;
    y_sums[index] += y_sum;
  }
};

/// sums (num_output x lanes) = parts of the gradient of the bias: a lane takes every lanes-th pixel of the batch.
template <typename Dtype>
struct ActiveBiasKernel {
  ActiveGeometry geometry;
  int num;
  const Dtype* top_diff;
  double* sums;
  int lanes;

  int count() const { return geometry.num_output * lanes; }

  ACTIVE_HOST_DEVICE void operator()(int index) const {
    const unsigned output = index / lanes, size = geometry.out_size(), pixels = num * size;
    double sum = 0;
    for (unsigned i = index - output * lanes; i < pixels; i += lanes) {
      const unsigned image = i / size;
      sum += top_diff[(static_cast<size_t>(image) * geometry.num_output + output) * size + i - image * size];
    }
    sums[index] = sum;
  }
};

/**
 * Adds the sum of each row of sums to first (rows) and, unless that is NULL, second (rows): sums is rows x terms or 2 rows x
 * terms. An index: one row, many terms of which are on their way at once.
 */
template <typename Dtype>
struct ActiveFoldKernel {
  const double* sums;
  int rows, terms;
  Dtype* first;
  Dtype* second;

  int count() const { return second ? 2 * rows : rows; }

  ACTIVE_HOST_DEVICE void operator()(int index) const {
    const double* row = sums + static_cast<size_t>(index) * terms;
    double parts[kActiveFold] = {};
    int i = 0;
    for (; i + kActiveFold <= terms; i += kActiveFold) {
      for (int j = 0; j < kActiveFold; ++j) { parts[j] += row[i + j]; }
    }
    for (; i < terms; ++i) { parts[0] += row[i]; }
    for (int j = 1; j < kActiveFold; ++j) { parts[0] += parts[j]; }
    (index < rows ? first[index] : second[index - rows]) += parts[0];
  }
};

}  // namespace caffe

#endif  // CAFFE_UTIL_ACTIVE_GPU_KERNELS_HPP_
