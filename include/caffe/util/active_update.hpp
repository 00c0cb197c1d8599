#ifndef CAFFE_UTIL_ACTIVE_UPDATE_HPP_
#define CAFFE_UTIL_ACTIVE_UPDATE_HPP_

#include <cmath>

#include "caffe/util/active_sampling.hpp"

namespace caffe {

/**
 * What an update does to the finished gradient of the positions before the solver clips (Jeon and Kim, CVPR 2017): that
 * of what does not move becomes zero. Where it is normalised, its direction d / |d| is set aside (eq. 15 and 16) and
 * zero is left; the direction of no gradient is zero, and that of NaN is NaN.
 *
 * Written once for CPU and GPU: kernel(i) for every i in [0, count()), in any order or all at once. An index: one synapse.
 */
template <typename Dtype>
struct ActiveSetAsideKernel {
  int synapses;           // of all sets
  bool x_moves, y_moves;  // each coordinate of all synapses
  bool normalize;
  const int* fixed;       // 1 for a synapse that never moves, else 0
  Dtype* x_diff;
  Dtype* y_diff;
  Dtype* x_direction;     // written where normalize says so
  Dtype* y_direction;

  int count() const { return synapses; }

  ACTIVE_HOST_DEVICE void operator()(int i) const {
    const Dtype x = x_moves && !fixed[i] ? x_diff[i] : Dtype(0);
    const Dtype y = y_moves && !fixed[i] ? y_diff[i] : Dtype(0);
    if (normalize) {
      const Dtype length = std::hypot(x, y);
      x_direction[i] = length == 0 ? Dtype(0) : x / length;
      y_direction[i] = length == 0 ? Dtype(0) : y / length;
    }
    x_diff[i] = normalize ? Dtype(0) : x;
    y_diff[i] = normalize ? Dtype(0) : y;
  }
};

/// What an update leaves of the positions: x and y within `limit` pixels of the base pixel. NaN stays NaN.
template <typename Dtype>
struct ActiveLimitKernel {
  int synapses;  // of all sets
  Dtype limit;
  Dtype* x;
  Dtype* y;

  int count() const { return synapses; }

  ACTIVE_HOST_DEVICE void operator()(int i) const {
    x[i] = Limited(x[i]);
    y[i] = Limited(y[i]);
  }

 private:
  ACTIVE_HOST_DEVICE Dtype Limited(Dtype p) const { return p > limit ? limit : p < -limit ? -limit : p; }
};

/// Runs one of these kernels on the GPU; all its arrays are there.
template <typename Kernel>
void active_update_gpu(const Kernel& kernel);

}  // namespace caffe

#endif  // CAFFE_UTIL_ACTIVE_UPDATE_HPP_
