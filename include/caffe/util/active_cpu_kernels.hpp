#ifndef CAFFE_UTIL_ACTIVE_CPU_KERNELS_HPP_
#define CAFFE_UTIL_ACTIVE_CPU_KERNELS_HPP_

#include <cstddef>
#include <vector>

#include "caffe/util/active_cpu_tiles.hpp"
#include "caffe/util/active_geometry.hpp"
#include "caffe/util/active_sampling.hpp"

/**
 * The CPU's kernels. They work on a block, some channels of one group, over a tile of the output pixels, and hold
 * channels (or outputs) side by side in vectors, one pixel after the other:
 *
 *   frame     images x rows x columns x channels: what a tile reads of the input, with zeros around the image, so that
 *             no sample asks where the border is, and what a sample reads are whole vectors for any position and stride
 *   columns   pixels x (K x channels): the interpolated input, row k * channels + c of each pixel
 *   outputs   pixels x outputs: the tile's part of the top
 *
 * All three products of an active convolution multiply such matrices as they are, without packing them:
 *
 *   top           outputs = columns  * weight      summed over K x channels
 *   weight diff   weight  = columns' * outputs     summed over pixels
 *   column diff   columns = outputs  * weight'     summed over outputs
 *
 * Groups of q channels and q outputs each, where a vector holds several, are one block side by side. Each lane has
 * products of its own: with the weight of channel c to output (c + j) % q of its group for each turn j < q, and with the
 * outputs turned as much,
 *
 *   outputs   pixels x q vectors: lane c of the j-th belongs to output (c + j) % q of its group
 *   weight    K x q vectors
 *
 * Where q is 1, no columns are needed: the layer is the dense convolution of active_splat.hpp, pixel by pixel of the kernel,
 * and the frame has as many rows as any sample reads, outside the image, too, so that all lie as far apart.
 */
namespace caffe {

/// Columns of a product that are computed at once, in at most three vectors, of `lanes` elements each, a row.
inline int ActiveStrip(int columns, int lanes) { return EvenShare(CeilDivide(columns, lanes), 3) * lanes; }

/// Where the frame of one block and tile stands in the input, and how it lies in memory.
template <typename Dtype>
struct ActiveFrame {
  const ActiveGeometry* geometry;
  const ActiveTap<Dtype>* taps;  // of the segment's set, K; see ActiveFrameTaps
  ActiveTile tile;
  int synapse, synapses;         // the first one to work on, how many
  int channel, channels;         // of the input: the first one, how many
  int lanes;                     // channels, rounded up to whole vectors
  int row, rows;                 // of the input: the first one, how many; outside the image only where they are even
  int column, columns;           // the same, but reaching as far outside as any sample does
  int step;                      // elements of a pixel's columns from synapse to synapse: as many as channels

  /// Of `channels` channels from the `channel`-th on, as synapses [synapse, synapse + synapses) see them; with rows outside
  /// the image where they are `even`.
  ActiveFrame(const ActiveGeometry& geometry, const ActiveTap<Dtype>* taps, const ActiveTile& tile, int synapse,
              int synapses, int channel, int channels, int vector_lanes, bool even = false);

  /// The frame starts with one row for all rows outside the image: zeros, or gradients that nobody wants.
  size_t size() const { return row_size() * (1 + static_cast<size_t>(tile.images) * rows); }
  size_t row_size() const { return static_cast<size_t>(columns) * lanes; }
  /// Element where row y of the input starts, in the tile's `image`-th image.
  size_t RowAt(int image, int y) const {
    const bool inside = y >= row && y < row + rows;
    return inside ? row_size() * (1 + static_cast<size_t>(image) * rows + y - row) : 0;
  }
};

/// The taps of K positions, with those that see no pixel of the image from anywhere brought near it, above or below.
template <typename Dtype>
std::vector<ActiveTap<Dtype> > ActiveFrameTaps(const ActiveGeometry& geometry, const Dtype* x, const Dtype* y,
                                               int positions);

/// Planes of `pixels` pixels, as blobs hold them, and the same pixels as vectors of all planes.
template <typename Dtype>
struct ActivePlanes {
  int planes, pixels;
  size_t plane_size;                // elements from plane to plane
  int row_pixels;                   // of the vectors: so many stand side by side,
  size_t pixel_size, row_size;      // so many elements from one to the next, and from row to row
};

/// c (rows x columns) = a (rows x depth) * b (depth x columns), or adds that to c.
template <typename Dtype>
struct ActiveProduct {
  int rows, columns, depth;
  const Dtype* a;
  size_t a_row, a_step;   // elements from row to row, and from one term of the sum to the next
  const Dtype* b;
  size_t b_strip, b_step; // elements from one ActiveStrip to the next, and from term to term
  Dtype* c;
  size_t c_row;
  bool add;
};

/// The same of matrices of vectors, lane by lane: c[i][j] = sum over t of a[i][t] * b[t][j], or adds that.
template <typename Dtype>
struct ActiveLaneProduct {
  int rows, columns, depth;
  const Dtype* a;
  size_t a_row, a_step;         // elements from row to row, and from one term of the sum to the next
  const Dtype* b;
  size_t b_step, b_column;      // elements from term to term, and from column to column
  Dtype* c;
  size_t c_row, c_column;
  bool add;
};

/// A convolution of one vector of channels with one output each, of one image: rows x columns output pixels read `pixels`
/// pixels of the frame each.
struct ActiveDepthwise {
  int rows, columns, pixels;
  const size_t* reads;          // pixels: elements of the frame, for the first output pixel
  size_t row_step, step;        // elements of the frame from output row to row, and from output pixel to pixel
  size_t pixel_size;            // elements of the outputs from pixel to pixel
};

/// The gradient of a block's columns, and where it goes; NULL where it is not wanted.
template <typename Dtype>
struct ActiveSpread {
  const Dtype* frame;
  const Dtype* column_diff;
  size_t pixel_size;         // elements of column_diff from pixel to pixel
  Dtype* frame_diff;         // added to
  double* x_diff;            // K each, added to
  double* y_diff;
};

/**
 * The kernels for one instruction set. Vectors are written whole: columns, outputs and products have room for one
 * vector more than they say at the end of each row, and for `rows - 1` rows more at their end.
 */
template <typename Dtype>
struct ActiveCpuKernels {
  const char* name;
  int lanes;  // elements of a vector
  int rows;   // of a product, computed at once

  /// c = a * b; rows and columns are rounded up to whole blocks.
  void (*multiply)(const ActiveProduct<Dtype>& product);
  /// c = a * b, lane by lane; nothing is rounded up.
  void (*multiply_lanes)(const ActiveLaneProduct<Dtype>& product);
  /// Writes behind each of `pixels` vectors what it becomes by turns of 1 ... unit - 1 in each run of `unit` lanes.
  void (*turn)(int unit, int pixels, size_t pixel_size, Dtype* vectors);
  /// The way back: adds to each vector those behind it, turned back.
  void (*turn_back)(int unit, int pixels, size_t pixel_size, Dtype* vectors);
  /// vectors = planes; lanes beyond the last plane are zero.
  void (*load_planes)(const ActivePlanes<Dtype>& shape, const Dtype* planes, Dtype* vectors);
  /// planes = vectors + offset (one per plane; or NULL).
  void (*store_planes)(const ActivePlanes<Dtype>& shape, const Dtype* vectors, const Dtype* offset, Dtype* planes);
  /// planes += vectors.
  void (*add_planes)(const ActivePlanes<Dtype>& shape, const Dtype* vectors, Dtype* planes);
  double (*sum)(int count, const Dtype* data);
  /// columns = the interpolated input (eq. 6-9), of the neighbours that have a share in it alone.
  void (*sample)(const ActiveFrame<Dtype>& frame, const Dtype* data, size_t pixel_size, Dtype* columns);
  /// The gradient of the columns to those of the input and of the positions (eq. 12 and 13), read once for both.
  void (*spread)(const ActiveFrame<Dtype>& frame, const ActiveSpread<Dtype>& spread);
  /// outputs = the sum over the kernel's pixels of weight (pixels vectors) * frame.
  void (*convolve)(const ActiveDepthwise& shape, const Dtype* weight, const Dtype* frame, Dtype* outputs);
  /// The way back: frame += weight * outputs, for each of the kernel's pixels.
  void (*scatter)(const ActiveDepthwise& shape, const Dtype* weight, const Dtype* outputs, Dtype* frame);
  /// sums (pixels vectors) += the sum over output pixels of outputs * frame.
  void (*correlate)(const ActiveDepthwise& shape, const Dtype* outputs, const Dtype* frame, Dtype* sums);
};

/// Those that this machine can run, the fastest first. The last one needs nothing beyond the compiler's target.
template <typename Dtype>
const std::vector<ActiveCpuKernels<Dtype> >& AllActiveCpuKernels();

}  // namespace caffe

#endif  // CAFFE_UTIL_ACTIVE_CPU_KERNELS_HPP_
