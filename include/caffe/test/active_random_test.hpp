#ifndef CAFFE_TEST_ACTIVE_RANDOM_TEST_HPP_
#define CAFFE_TEST_ACTIVE_RANDOM_TEST_HPP_

#include <vector>

#include "gtest/gtest.h"

#include "caffe/common.hpp"
#include "caffe/util/active_geometry.hpp"
#include "caffe/util/math_functions.hpp"

namespace caffe {

/// Draws layers for tests of what computes them, the same ones in every run.
template <typename Dtype>
class ActiveRandomTest : public ::testing::Test {
 protected:
  typedef std::vector<Dtype> Vector;

  ActiveRandomTest() { Caffe::set_random_seed(1701); }

  int Random(int least, int most) { return least + static_cast<int>(caffe_rng_rand() % (most - least + 1)); }
  Dtype Uniform() { return Random(-1000, 1000) / Dtype(1000); }

  Vector RandomVector(size_t size) {
    Vector vector(size);
    for (size_t i = 0; i < size; ++i) { vector[i] = Uniform(); }
    return vector;
  }

  /// One channel, one output, and images and outputs of at most `rows` x `columns`, which need not fit each other.
  ActiveGeometry RandomGeometry(int rows, int columns) {
    ActiveGeometry g;
    g.channels = g.num_output = g.group = g.position_group = 1;
    g.height = Random(1, rows);
    g.width = Random(1, columns);
    g.out_height = Random(1, rows);
    g.out_width = Random(1, columns);
    g.kernel_h = Random(1, 3);
    g.kernel_w = Random(1, 3);
    g.stride_h = Random(1, 3);
    g.stride_w = Random(1, 3);
    g.base_h = Random(-3, 3);
    g.base_w = Random(-3, 3);
    return g;
  }

  /// On the lattice, off it, and now and then far away: up to `far` pixels.
  Dtype RandomPosition(int far) {
    const int reach = Random(0, 9) ? 4 : Random(0, 1) ? 60 : far;
    return Random(0, 2) ? reach * Uniform() : Dtype(Random(-3, 3));
  }
};

}  // namespace caffe

#endif  // CAFFE_TEST_ACTIVE_RANDOM_TEST_HPP_
