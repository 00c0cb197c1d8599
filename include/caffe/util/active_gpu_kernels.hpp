#ifndef CAFFE_UTIL_ACTIVE_GPU_KERNELS_HPP_
#define CAFFE_UTIL_ACTIVE_GPU_KERNELS_HPP_

#include <cstddef>

#include "caffe/util/active_geometry.hpp"
#include "caffe/util/active_sampling.hpp"

/**
 * The GPU's kernels, as objects that a host can run too: kernel(i) for every i in [0, kernel.count()), in any order or
 * all at once. Each index writes to places of its own and sums in a fixed order, so that two runs give the same bits.
 *
 * Columns of a chunk are laid out as one matrix over all its images: row c * K + k, one column per output pixel.
 * Outputs of a chunk are packed alike, one row per output, so that one product serves the whole chunk.
 *
 * Indices count columns or pixels fastest: neighbouring threads read and write neighbouring elements, and see the same
 * synapse, so that they branch alike. A thread works for kActiveChannels channels: finding where a synapse reads takes
 * divisions, which cost more than the reading does, and is the same for all channels.
 */
namespace caffe {

const int kActiveChannels = 8;
/// Terms of a sum, one per thread of a warp, that the last kernel of a reduction adds up.
const int kActiveFold = 32;

/// Where a synapse reads for one column: the image's first channel, and offsets in any channel; -1 outside the image.
struct ActiveSite {
  size_t image;
  int at00, at01, at10, at11;

  template <typename Dtype>
  static ACTIVE_HOST_DEVICE Dtype Pixel(const Dtype* channel, int at) { return at < 0 ? Dtype(0) : channel[at]; }
};

/// What a kernel works on: one segment of the outputs, over one chunk of the batch.
template <typename Dtype>
struct ActiveTask {
  ActiveGeometry geometry;
  ActiveSegment segment;
  ActiveChunk chunk;
  const Dtype* x;  // the K positions of the segment's set
  const Dtype* y;
  int channels;  // of the segment's group
  int blocks;    // of kActiveChannels channels; the last one may be smaller

  ActiveTask(const ActiveGeometry& g, const ActiveSegment& segment, const ActiveChunk& chunk, const Dtype* x,
             const Dtype* y)
      : geometry(g), segment(segment), chunk(chunk), x(x + segment.position_group * g.synapses()),
        y(y + segment.position_group * g.synapses()), channels(g.group_channels()),
        blocks(CeilDivide(channels, kActiveChannels)) {}

  ACTIVE_HOST_DEVICE ActiveTap<Dtype> Tap(int k) const { return MakeActiveTap(x[k], y[k]); }

  /// The channels of a block are [FirstChannel(block), FirstChannel(block + 1)).
  ACTIVE_HOST_DEVICE int FirstChannel(int block) const {
    return block < blocks ? block * kActiveChannels : channels;
  }

  /// Element of the columns.
  ACTIVE_HOST_DEVICE size_t ColumnAt(int channel, int k, int column) const {
    return (static_cast<size_t>(channel) * geometry.synapses() + k) * chunk.columns() + column;
  }

  /// Element of the bottom where the group's first channel of the chunk's `image`-th image starts.
  ACTIVE_HOST_DEVICE size_t ImageAt(int image) const {
    const size_t first = static_cast<size_t>(chunk.image + image) * geometry.channels + segment.group * channels;
    return first * geometry.image_size();
  }

  /// Element of the top that stands in a column of the segment's `output`-th output.
  ACTIVE_HOST_DEVICE size_t OutputAt(int output, int column) const {
    const int image = column / chunk.pixels(), pixel = chunk.begin + column - image * chunk.pixels();
    const size_t channel = static_cast<size_t>(chunk.image + image) * geometry.num_output + segment.output + output;
    return channel * geometry.out_size() + pixel;
  }

  ACTIVE_HOST_DEVICE ActiveSite SiteOf(int column, const ActiveTap<Dtype>& tap) const {
    const ActiveGeometry& g = geometry;
    const int image = column / chunk.pixels(), pixel = chunk.begin + column - image * chunk.pixels();
    const int m = pixel / g.out_width, n = pixel - m * g.out_width;
    const int row = g.base_h + m * g.stride_h + tap.y, x = g.base_w + n * g.stride_w + tap.x;
    const ActiveSite site = {ImageAt(image), PixelAt(row, x), PixelAt(row, x + 1), PixelAt(row + 1, x),
                             PixelAt(row + 1, x + 1)};
    return site;
  }

  ACTIVE_HOST_DEVICE int PixelAt(int row, int x) const {
    const bool inside = row >= 0 && row < geometry.height && x >= 0 && x < geometry.width;
    return inside ? row * geometry.width + x : -1;
  }
};

/// columns (channels*K x columns) = the interpolated input (eq. 6-9). An index: one synapse and column, of a block.
template <typename Dtype>
struct ActiveSampleKernel {
  ActiveTask<Dtype> task;
  const Dtype* bottom;
  Dtype* columns;

  int count() const { return task.chunk.columns() * task.geometry.synapses() * task.blocks; }

  ACTIVE_HOST_DEVICE void operator()(int index) const {
    const int width = task.chunk.columns(), row = index / width, column = index - row * width;
    const int block = row / task.geometry.synapses(), k = row - block * task.geometry.synapses();
    const ActiveTap<Dtype> tap = task.Tap(k);
    const ActiveBilinear<Dtype> weights(tap);
    const ActiveSite site = task.SiteOf(column, tap);
    for (int c = task.FirstChannel(block); c < task.FirstChannel(block + 1); ++c) {
      const Dtype* channel = bottom + site.image + c * task.geometry.image_size();
      const Dtype x00 = site.Pixel(channel, site.at00);
      columns[task.ColumnAt(c, k, column)] =
          tap.on_lattice() ? x00 : weights.Sample(x00, site.Pixel(channel, site.at01), site.Pixel(channel, site.at10),
                                                  site.Pixel(channel, site.at11));
    }
  }
};

/// packed (outputs x columns) = the chunk's part of the top's gradient. An index: one element.
template <typename Dtype>
struct ActivePackKernel {
  ActiveTask<Dtype> task;
  const Dtype* top_diff;
  Dtype* packed;

  int count() const { return task.segment.outputs * task.chunk.columns(); }

  ACTIVE_HOST_DEVICE void operator()(int index) const {
    const int output = index / task.chunk.columns(), column = index - output * task.chunk.columns();
    packed[index] = top_diff[task.OutputAt(output, column)];
  }
};

/// The chunk's part of the top = packed (outputs x columns) + bias (num_output, or NULL). An index: one element.
template <typename Dtype>
struct ActiveUnpackKernel {
  ActiveTask<Dtype> task;
  const Dtype* packed;
  const Dtype* bias;
  Dtype* top;

  int count() const { return task.segment.outputs * task.chunk.columns(); }

  ACTIVE_HOST_DEVICE void operator()(int index) const {
    const int output = index / task.chunk.columns(), column = index - output * task.chunk.columns();
    top[task.OutputAt(output, column)] = bias ? packed[index] + bias[task.segment.output + output] : packed[index];
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
  ActiveWindow window;  // holds all pixels that the chunk reads
  const Dtype* column_diff;
  Dtype* bottom_diff;

  int count() const { return task.chunk.images * task.blocks * window.pixels(); }

  ACTIVE_HOST_DEVICE void operator()(int index) const {
    const ActiveGeometry& g = task.geometry;
    const int rest = index / window.pixels(), pixel = index - rest * window.pixels();
    const int image = rest / task.blocks, block = rest - image * task.blocks;
    const int row_in_window = pixel / window.columns.size();
    const int row = window.rows.first + row_in_window;
    const int x = window.columns.first + pixel - row_in_window * window.columns.size();
    Dtype sums[kActiveChannels] = {};
    for (int k = 0; k < g.synapses(); ++k) {
      const ActiveTap<Dtype> tap = task.Tap(k);
      const ActiveBilinear<Dtype> w(tap);
      const int dm = row - g.base_h - tap.y, dn = x - g.base_w - tap.x;
      const int m0 = Reading(dm, g.stride_h, g.out_height), m1 = Reading(dm - 1, g.stride_h, g.out_height);
      const int n0 = Reading(dn, g.stride_w, g.out_width), n1 = Reading(dn - 1, g.stride_w, g.out_width);
      Add(w.w00, m0, n0, image, block, k, sums);
      Add(w.w01, m0, n1, image, block, k, sums);
      Add(w.w10, m1, n0, image, block, k, sums);
      Add(w.w11, m1, n1, image, block, k, sums);
    }
    const int first = task.FirstChannel(block), channels = task.FirstChannel(block + 1) - first;
    Dtype* diff = bottom_diff + task.ImageAt(image) + first * g.image_size() + row * g.width + x;
    for (int c = 0; c < kActiveChannels; ++c) {
      if (c < channels) { diff[c * g.image_size()] += sums[c]; }
    }
  }

  /// The output row (or column) whose base pixel is `distance` from that of the first one; -1 where there is none.
  static ACTIVE_HOST_DEVICE int Reading(int distance, int stride, int size) {
    const int at = stride == 1 ? distance : distance / stride;
    return distance >= 0 && at < size && at * stride == distance ? at : -1;
  }

  /// Adds weight times the gradients of synapse k at output pixel (m, n), if that exists and stands in the chunk.
  ACTIVE_HOST_DEVICE void Add(Dtype weight, int m, int n, int image, int block, int k, Dtype* sums) const {
    if (weight == 0 || m < 0 || n < 0) { return; }
    const int pixel = m * task.geometry.out_width + n;
    if (pixel < task.chunk.begin || pixel >= task.chunk.end) { return; }
    const int first = task.FirstChannel(block), channels = task.FirstChannel(block + 1) - first;
    const Dtype* diff = column_diff + task.ColumnAt(first, k, image * task.chunk.pixels() + pixel - task.chunk.begin);
    const size_t step = task.ColumnAt(1, 0, 0);
    for (int c = 0; c < kActiveChannels; ++c) {  // of constant length, so that the sums stay in registers
      if (c < channels) { sums[c] += weight * diff[c * step]; }
    }
  }
};

/**
 * Adds to x_sums and y_sums (K x blocks x lanes) parts of the gradient of the positions (eq. 12 and 13): a lane takes
 * every lanes-th column. Lanes come in whole warps, so that a warp sees one synapse. In double but for the few channels
 * of a block. An index: one part.
 */
template <typename Dtype>
struct ActiveSlopeKernel {
  ActiveTask<Dtype> task;
  const Dtype* bottom;
  const Dtype* column_diff;
  double* x_sums;
  double* y_sums;
  int lanes;

  int count() const { return task.geometry.synapses() * task.blocks * lanes; }

  ACTIVE_HOST_DEVICE void operator()(int index) const {
    const int rest = index / lanes, lane = index - rest * lanes;
    const int k = rest / task.blocks, block = rest - k * task.blocks;
    const ActiveTap<Dtype> tap = task.Tap(k);
    double x_sum = 0, y_sum = 0;
    for (int column = lane; column < task.chunk.columns(); column += lanes) {
      const ActiveSite site = task.SiteOf(column, tap);
      Dtype along_x = 0, along_y = 0;
      for (int c = task.FirstChannel(block); c < task.FirstChannel(block + 1); ++c) {
        const Dtype* channel = bottom + site.image + c * task.geometry.image_size();
        const Dtype x00 = site.Pixel(channel, site.at00), x01 = site.Pixel(channel, site.at01);
        const Dtype x10 = site.Pixel(channel, site.at10), x11 = site.Pixel(channel, site.at11);
        const Dtype diff = column_diff[task.ColumnAt(c, k, column)];
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

/// Brings each row of sums (rows x terms) down to its first kActiveFold terms. An index: one of these.
struct ActiveFoldKernel {
  double* sums;
  int rows, terms;

  int count() const { return rows * kActiveFold; }

  ACTIVE_HOST_DEVICE void operator()(int index) const {
    const int row = index / kActiveFold, first = index - row * kActiveFold;
    double* terms_of_row = sums + static_cast<size_t>(row) * terms;
    double sum = 0;
    for (int i = first; i < terms; i += kActiveFold) { sum += terms_of_row[i]; }
    terms_of_row[first] = sum;
  }
};

/// Adds the first kActiveFold terms of each row of sums (rows x terms) to diff (rows). An index: one row.
template <typename Dtype>
struct ActiveAddKernel {
  const double* sums;
  int rows, terms;
  Dtype* diff;

  int count() const { return rows; }

  ACTIVE_HOST_DEVICE void operator()(int index) const {
    double sum = 0;
    for (int i = 0; i < kActiveFold; ++i) { sum += sums[static_cast<size_t>(index) * terms + i]; }
    diff[index] += sum;
  }
};

}  // namespace caffe

#endif  // CAFFE_UTIL_ACTIVE_GPU_KERNELS_HPP_
