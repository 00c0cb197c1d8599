#ifndef CAFFE_UTIL_ACTIVE_SAMPLING_HPP_
#define CAFFE_UTIL_ACTIVE_SAMPLING_HPP_

#include <cmath>

/**
 * The mathematics of one sample of an active convolution (Jeon and Kim, CVPR 2017, eq. 6-13), written once for CPU and
 * GPU. A synapse at p = (alpha, beta) pixels from the base pixel reads the four pixels around that point:
 *
 *   x~ = (1-dx)(1-dy) x00 + dx(1-dy) x01 + (1-dx)dy x10 + dx dy x11,   (dx, dy) = p - floor(p)
 *
 * where xij is the pixel i rows below and j columns right of floor(p), zero where *it* lies outside the image.
 */
#ifdef __CUDACC__
#define ACTIVE_HOST_DEVICE __host__ __device__
#else
#define ACTIVE_HOST_DEVICE
#endif
/// For what takes vectors: it must be compiled into code that may use the machine's instructions for them.
#define ACTIVE_INLINE inline __attribute__((always_inline))

namespace caffe {

/// A position, split into the pixel up and left of it and the fraction of a pixel beyond that.
template <typename Dtype>
struct ActiveTap {
  int x, y;
  Dtype dx, dy;

  /// The same point, where rounding has brought a fraction to 1, as that of -1e-9: fractions below 1.
  ACTIVE_HOST_DEVICE ActiveTap carried() const {
    const ActiveTap tap = {x + (dx == 1), y + (dy == 1), dx == 1 ? Dtype(0) : dx, dy == 1 ? Dtype(0) : dy};
    return tap;
  }
};

/// A share of something: nothing where the weight is 0, whatever it is a share of, NaN and infinity included.
template <typename Dtype, typename Value>
ACTIVE_HOST_DEVICE ACTIVE_INLINE Value ActiveShare(Dtype weight, Value value) {
  return weight == 0 ? Value{} : weight * value;
}

/// The bilinear weights of the four pixels around a point (eq. 6-9).
template <typename Dtype>
struct ActiveBilinear {
  Dtype w00, w01, w10, w11;

  ACTIVE_HOST_DEVICE explicit ActiveBilinear(const ActiveTap<Dtype>& tap)
      : w00((1 - tap.dx) * (1 - tap.dy)), w01(tap.dx * (1 - tap.dy)), w10((1 - tap.dx) * tap.dy), w11(tap.dx * tap.dy) {}

  /// Of single values, or of vectors of them.
  template <typename Value>
  ACTIVE_HOST_DEVICE ACTIVE_INLINE Value Sample(Value x00, Value x01, Value x10, Value x11) const {
    return ActiveShare(w00, x00) + ActiveShare(w01, x01) + ActiveShare(w10, x10) + ActiveShare(w11, x11);
  }
};

/// d x~ / d alpha (eq. 12): at a lattice point the one-sided difference towards +1.
template <typename Dtype, typename Value>
ACTIVE_HOST_DEVICE ACTIVE_INLINE Value ActiveSlopeX(const ActiveTap<Dtype>& tap, Value x00, Value x01, Value x10,
                                                    Value x11) {
  return ActiveShare(1 - tap.dy, x01 - x00) + ActiveShare(tap.dy, x11 - x10);
}

/// d x~ / d beta (eq. 13).
template <typename Dtype, typename Value>
ACTIVE_HOST_DEVICE ACTIVE_INLINE Value ActiveSlopeY(const ActiveTap<Dtype>& tap, Value x00, Value x01, Value x10,
                                                    Value x11) {
  return ActiveShare(1 - tap.dx, x10 - x00) + ActiveShare(tap.dx, x11 - x01);
}

/**
 * Splits one coordinate into its floor (returned) and *fraction. Any value is safe: beyond 2^24 pixels, infinities
 * included, it is pinned there with fraction 0, outside every image and far from overflow; NaN stays in the fraction.
 */
template <typename Dtype>
ACTIVE_HOST_DEVICE inline int ActiveFloor(Dtype coordinate, Dtype* fraction) {
  const int kFar = 1 << 24;
  *fraction = 0;
  if (coordinate >= kFar) { return kFar; }
  if (coordinate <= -kFar) { return -kFar; }
  if (coordinate != coordinate) {
    *fraction = coordinate;
    return 0;
  }
  const Dtype floor = std::floor(coordinate);
  *fraction = coordinate - floor;
  return static_cast<int>(floor);
}

template <typename Dtype>
ACTIVE_HOST_DEVICE inline ActiveTap<Dtype> MakeActiveTap(Dtype alpha, Dtype beta) {
  ActiveTap<Dtype> tap;
  tap.x = ActiveFloor(alpha, &tap.dx);
  tap.y = ActiveFloor(beta, &tap.dy);
  return tap;
}

}  // namespace caffe

#endif  // CAFFE_UTIL_ACTIVE_SAMPLING_HPP_
