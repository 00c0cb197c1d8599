#ifndef CAFFE_UTIL_ACTIVE_TILE_HPP_
#define CAFFE_UTIL_ACTIVE_TILE_HPP_

#include "caffe/util/active_sampling.hpp"

/**
 * CPU kernels on a tile: the output pixels [begin, end) of one image, in row-major order. Columns of a tile are laid
 * out as im2col lays out those of an image: row c * K + k, one column per pixel, end - begin columns.
 */
namespace caffe {

/// Some channels of one image and the output pixels to compute from them.
template <typename Dtype>
struct ActiveTile {
  const ActiveGeometry* geometry;
  const ActiveTap<Dtype>* taps;  // K positions of one set
  const Dtype* zeros;            // a row of geometry->width zeros, for rows outside the image
  const Dtype* image;            // channels x height x width
  int channels;
  int begin, end;

  int pixels() const { return end - begin; }
};

/// columns (channels*K x pixels) = the interpolated input (eq. 6-9); a copy where a position is on the lattice.
template <typename Dtype>
void active_sample_tile(const ActiveTile<Dtype>& tile, Dtype* columns);

/// Adds the gradient of the columns (channels*K x pixels) to that of the image (channels x height x width).
template <typename Dtype>
void active_scatter_tile(const ActiveTile<Dtype>& tile, const Dtype* column_diff, Dtype* image_diff);

/// Adds to x_diff and y_diff (K each) the gradient of the positions, from that of the columns (eq. 12 and 13).
template <typename Dtype>
void active_slope_tile(const ActiveTile<Dtype>& tile, const Dtype* column_diff, double* x_diff, double* y_diff);

}  // namespace caffe

#endif  // CAFFE_UTIL_ACTIVE_TILE_HPP_
