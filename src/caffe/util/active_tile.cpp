#include <algorithm>

#include "caffe/util/active_tile.hpp"

// One binary for every x86-64: the kernels exist once per instruction set and the loader picks one. Sanitizers start
// only after the loader's choice, so their builds have the plain version alone.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12 && !defined(__SANITIZE_ADDRESS__)
#define ACTIVE_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define ACTIVE_CLONES
#endif
// What a clone calls must be compiled into it to use its instructions.
#define ACTIVE_INLINE inline __attribute__((always_inline))

namespace caffe {

namespace {

/// The pixels of a tile in one output row, and where one synapse reads for them.
struct Run {
  int length;  // output pixels
  int column;  // the first one's column in the tile
  int row;     // of the upper two neighbours; may lie outside the image
  int x;       // of the first pixel's left neighbours; may lie outside
  int lo, hi;  // for pixels [lo, hi) the left and the right neighbours lie inside

  /// The run that starts at output pixel `pixel` of the tile, as the synapse of `tap` sees it.
  template <typename Dtype>
  ACTIVE_INLINE Run(const ActiveTile<Dtype>& tile, const ActiveTap<Dtype>& tap, int pixel) {
    const ActiveGeometry& g = *tile.geometry;
    const int m = pixel / g.out_width, n = pixel % g.out_width;
    length = std::min(g.out_width - n, tile.end - pixel);
    column = pixel - tile.begin;
    row = g.base_h + m * g.stride_h + tap.y;
    x = g.base_w + n * g.stride_w + tap.x;
    lo = Reaching(0, g.stride_w);
    hi = std::max(lo, Reaching(g.width - 1, g.stride_w));
  }

  /// The first pixel whose left neighbour is at `target` or right of it.
  ACTIVE_INLINE int Reaching(int target, int stride) const {
    return x >= target ? 0 : std::min(length, (target - x + stride - 1) / stride);
  }
};

/// Calls body(j) for the pixels of a run that have a neighbour left or right of the image.
template <typename Body>
ACTIVE_INLINE void ForEachEdge(const Run& run, const Body& body) {
  for (int j = 0; j < run.lo; ++j) { body(j); }
  for (int j = run.hi; j < run.length; ++j) { body(j); }
}

/// The upper and lower neighbours of a run in one channel: rows of the image, or of zeros outside it.
template <typename Dtype>
struct Rows {
  const Dtype* above;
  const Dtype* below;
  int width;

  ACTIVE_INLINE Rows(const ActiveTile<Dtype>& tile, const Run& run, int channel)
      : above(Row(tile, run.row, channel)), below(Row(tile, run.row + 1, channel)), width(tile.geometry->width) {}

  static ACTIVE_INLINE const Dtype* Row(const ActiveTile<Dtype>& tile, int row, int channel) {
    const ActiveGeometry& g = *tile.geometry;
    return row >= 0 && row < g.height ? tile.image + channel * g.image_size() + row * g.width : tile.zeros;
  }

  /// formula(x00, x01, x10, x11) of the neighbours with the left ones at x, all inside.
  template <typename Formula>
  ACTIVE_INLINE Dtype Inside(int x, const Formula& formula) const {
    return formula(above[x], above[x + 1], below[x], below[x + 1]);
  }

  /// The same wherever x is: a neighbour outside is zero.
  template <typename Formula>
  ACTIVE_INLINE Dtype Anywhere(int x, const Formula& formula) const {
    return formula(Pixel(above, x), Pixel(above, x + 1), Pixel(below, x), Pixel(below, x + 1));
  }

  ACTIVE_INLINE Dtype Pixel(const Dtype* row, int x) const { return x >= 0 && x < width ? row[x] : Dtype(0); }
};

/// out[j] = the interpolated input; a constant kStride lets the compiler use whole vectors, 0 means `stride`.
template <int kStride, typename Dtype>
ACTIVE_INLINE void SampleRun(const Run& run, const Rows<Dtype>& rows, const ActiveTap<Dtype>& tap, int stride,
                             Dtype* __restrict out) {
  const int step = kStride ? kStride : stride;
  const ActiveWeights<Dtype> w(tap);
  const auto blend = [&w](Dtype x00, Dtype x01, Dtype x10, Dtype x11) { return w.Sample(x00, x01, x10, x11); };
  const auto copy = [](Dtype x00, Dtype, Dtype, Dtype) { return x00; };
  if (tap.on_lattice()) {
#pragma omp simd
    for (int j = run.lo; j < run.hi; ++j) { out[j] = rows.Inside(run.x + j * step, copy); }
    ForEachEdge(run, [&](int j) { out[j] = rows.Anywhere(run.x + j * step, copy); });
  } else {
#pragma omp simd
    for (int j = run.lo; j < run.hi; ++j) { out[j] = rows.Inside(run.x + j * step, blend); }
    ForEachEdge(run, [&](int j) { out[j] = rows.Anywhere(run.x + j * step, blend); });
  }
}

/// Adds weight * diff to the neighbour of each pixel that is `right` pixels right of its left neighbour.
template <typename Dtype>
ACTIVE_INLINE void ScatterRun(const Run& run, const ActiveGeometry& g, int right, Dtype weight,
                              const Dtype* __restrict diff, Dtype* __restrict row) {
  const int first = run.Reaching(-right, g.stride_w), last = run.Reaching(g.width - right, g.stride_w);
  Dtype* target = row + run.x + right;
  if (g.stride_w == 1) {
#pragma omp simd
    for (int j = first; j < last; ++j) { target[j] += weight * diff[j]; }
  } else {
    for (int j = first; j < last; ++j) { target[j * g.stride_w] += weight * diff[j]; }
  }
}

/// The sums over a run of diff times the slopes; float within a row at most, so that few roundings add up.
template <int kStride, typename Dtype>
ACTIVE_INLINE void SlopeRun(const Run& run, const Rows<Dtype>& rows, const ActiveTap<Dtype>& tap, int stride,
                            const Dtype* diff, double* x_diff, double* y_diff) {
  const int step = kStride ? kStride : stride;
  const auto along_x = [&tap](Dtype a, Dtype b, Dtype c, Dtype d) { return ActiveSlopeX(tap, a, b, c, d); };
  const auto along_y = [&tap](Dtype a, Dtype b, Dtype c, Dtype d) { return ActiveSlopeY(tap, a, b, c, d); };
  Dtype sum_x = 0, sum_y = 0;
#pragma omp simd reduction(+ : sum_x, sum_y)
  for (int j = run.lo; j < run.hi; ++j) {
    sum_x += diff[j] * rows.Inside(run.x + j * step, along_x);
    sum_y += diff[j] * rows.Inside(run.x + j * step, along_y);
  }
  ForEachEdge(run, [&](int j) {
    sum_x += diff[j] * rows.Anywhere(run.x + j * step, along_x);
    sum_y += diff[j] * rows.Anywhere(run.x + j * step, along_y);
  });
  *x_diff += sum_x;
  *y_diff += sum_y;
}

}  // namespace

template <typename Dtype>
ACTIVE_CLONES void active_sample_tile(const ActiveTile<Dtype>& tile, Dtype* columns) {
  const int synapses = tile.geometry->synapses(), stride = tile.geometry->stride_w;
  for (int k = 0; k < synapses; ++k) {
    const ActiveTap<Dtype> tap = tile.taps[k];
    for (int pixel = tile.begin, length; pixel < tile.end; pixel += length) {
      const Run run(tile, tap, pixel);
      length = run.length;
      for (int c = 0; c < tile.channels; ++c) {
        Dtype* out = columns + static_cast<size_t>(c * synapses + k) * tile.pixels() + run.column;
        const Rows<Dtype> rows(tile, run, c);
        if (stride == 1) {
          SampleRun<1>(run, rows, tap, stride, out);
        } else {
          SampleRun<0>(run, rows, tap, stride, out);
        }
      }
    }
  }
}

template <typename Dtype>
ACTIVE_CLONES void active_scatter_tile(const ActiveTile<Dtype>& tile, const Dtype* column_diff, Dtype* image_diff) {
  const ActiveGeometry& g = *tile.geometry;
  for (int k = 0; k < g.synapses(); ++k) {
    const ActiveTap<Dtype> tap = tile.taps[k];
    const ActiveWeights<Dtype> w(tap);
    const Dtype weight[2][2] = {{w.w00, w.w01}, {w.w10, w.w11}};
    for (int pixel = tile.begin, length; pixel < tile.end; pixel += length) {
      const Run run(tile, tap, pixel);
      length = run.length;
      for (int below = 0; below < 2; ++below) {
        const int row = run.row + below;
        if (row < 0 || row >= g.height) { continue; }
        for (int right = 0; right < 2; ++right) {
          if (weight[below][right] == 0) { continue; }
          for (int c = 0; c < tile.channels; ++c) {
            const Dtype* diff = column_diff + static_cast<size_t>(c * g.synapses() + k) * tile.pixels() + run.column;
            ScatterRun(run, g, right, weight[below][right], diff, image_diff + c * g.image_size() + row * g.width);
          }
        }
      }
    }
  }
}

template <typename Dtype>
ACTIVE_CLONES void active_slope_tile(const ActiveTile<Dtype>& tile, const Dtype* column_diff,
                                     double* x_diff, double* y_diff) {
  const int synapses = tile.geometry->synapses(), stride = tile.geometry->stride_w;
  for (int k = 0; k < synapses; ++k) {
    const ActiveTap<Dtype> tap = tile.taps[k];
    for (int pixel = tile.begin, length; pixel < tile.end; pixel += length) {
      const Run run(tile, tap, pixel);
      length = run.length;
      for (int c = 0; c < tile.channels; ++c) {
        const Dtype* diff = column_diff + static_cast<size_t>(c * synapses + k) * tile.pixels() + run.column;
        const Rows<Dtype> rows(tile, run, c);
        if (stride == 1) {
          SlopeRun<1>(run, rows, tap, stride, diff, x_diff + k, y_diff + k);
        } else {
          SlopeRun<0>(run, rows, tap, stride, diff, x_diff + k, y_diff + k);
        }
      }
    }
  }
}

#define INSTANTIATE(Dtype) \
  template void active_sample_tile<Dtype>(const ActiveTile<Dtype>&, Dtype*); \
  template void active_scatter_tile<Dtype>(const ActiveTile<Dtype>&, const Dtype*, Dtype*); \
  template void active_slope_tile<Dtype>(const ActiveTile<Dtype>&, const Dtype*, double*, double*)

INSTANTIATE(float);
INSTANTIATE(double);

}  // namespace caffe
