#include <cmath>
#include <vector>

#include "gtest/gtest.h"

#include "caffe/common.hpp"
#include "caffe/util/active_tile.hpp"
#include "caffe/util/math_functions.hpp"

#include "caffe/test/test_caffe_main.hpp"

namespace caffe {

/// Random geometries, tiles and positions, against one formula per pixel in double.
template <typename Dtype>
class ActiveTileTest : public ::testing::Test {
 protected:
  ActiveTileTest() { Caffe::set_random_seed(1701); }

  int Random(int least, int most) { return least + static_cast<int>(caffe_rng_rand() % (most - least + 1)); }
  Dtype Uniform() { return Random(-1000, 1000) / Dtype(1000); }

  void MakeRandomCase() {
    g_ = ActiveGeometry();
    g_.height = Random(1, 9);
    g_.width = Random(1, 40);
    g_.out_height = Random(1, 6);
    g_.out_width = Random(1, 40);
    g_.kernel_h = Random(1, 3);
    g_.kernel_w = Random(1, 3);
    g_.stride_h = Random(1, 3);
    g_.stride_w = Random(1, 3);
    g_.base_h = Random(-3, 3);
    g_.base_w = Random(-20, 20);
    g_.channels = Random(1, 3);
    g_.group = g_.position_group = g_.num_output = 1;
    taps_.clear();
    alpha_.clear();
    beta_.clear();
    for (int k = 0; k < g_.synapses(); ++k) {
      const int reach = Random(0, 4) ? 3 : 60;
      alpha_.push_back(Random(0, 2) ? reach * Uniform() : Random(-3, 3));
      beta_.push_back(Random(0, 2) ? reach * Uniform() : Random(-3, 3));
      taps_.push_back(MakeActiveTap(alpha_[k], beta_[k]));
    }
    image_.resize(g_.channels * g_.image_size());
    for (int i = 0; i < image_.size(); ++i) { image_[i] = Uniform(); }
    zeros_.assign(g_.width, 0);
    tile_.geometry = &g_;
    tile_.taps = &taps_[0];
    tile_.zeros = &zeros_[0];
    tile_.image = &image_[0];
    tile_.channels = g_.channels;
    tile_.begin = Random(0, g_.out_size() - 1);
    tile_.end = Random(tile_.begin + 1, g_.out_size());
  }

  int Rows() const { return g_.channels * g_.synapses(); }

  double Pixel(int c, int y, int x) const {
    return y >= 0 && y < g_.height && x >= 0 && x < g_.width ? image_[(c * g_.height + y) * g_.width + x] : 0;
  }

  /// x~ by the tent functions, max(0, 1-|dx|) max(0, 1-|dy|), over all pixels: no floor, no cases.
  double Reference(int c, int k, int pixel, double shift_x = 0, double shift_y = 0) const {
    const double x = g_.base_w + pixel % g_.out_width * g_.stride_w + static_cast<double>(alpha_[k]) + shift_x;
    const double y = g_.base_h + pixel / g_.out_width * g_.stride_h + static_cast<double>(beta_[k]) + shift_y;
    double sum = 0;
    for (int i = 0; i < g_.height; ++i) {
      for (int j = 0; j < g_.width; ++j) {
        sum += std::max(0., 1 - std::fabs(x - j)) * std::max(0., 1 - std::fabs(y - i)) * Pixel(c, i, j);
      }
    }
    return sum;
  }

  ActiveGeometry g_;
  std::vector<Dtype> alpha_, beta_, image_, zeros_;
  std::vector<ActiveTap<Dtype> > taps_;
  ActiveTile<Dtype> tile_;
};

TYPED_TEST_CASE(ActiveTileTest, TestDtypes);

TYPED_TEST(ActiveTileTest, TestSampleAgainstTents) {
  for (int round = 0; round < 200; ++round) {
    this->MakeRandomCase();
    std::vector<TypeParam> columns(this->Rows() * this->tile_.pixels(), 7);
    active_sample_tile(this->tile_, &columns[0]);
    for (int i = 0; i < columns.size(); ++i) {
      const int row = i / this->tile_.pixels(), pixel = this->tile_.begin + i % this->tile_.pixels();
      const int synapses = this->g_.synapses();
      ASSERT_NEAR(this->Reference(row / synapses, row % synapses, pixel), columns[i], 1e-5) << "round " << round;
    }
  }
}

TYPED_TEST(ActiveTileTest, TestScatterIsTheAdjointOfSample) {
  for (int round = 0; round < 200; ++round) {
    this->MakeRandomCase();
    std::vector<TypeParam> columns(this->Rows() * this->tile_.pixels()), diff(columns.size());
    std::vector<TypeParam> image_diff(this->image_.size(), 0);
    for (int i = 0; i < diff.size(); ++i) { diff[i] = this->Uniform(); }
    active_sample_tile(this->tile_, &columns[0]);
    active_scatter_tile(this->tile_, &diff[0], &image_diff[0]);
    double by_columns = 0, by_image = 0;
    for (int i = 0; i < diff.size(); ++i) { by_columns += columns[i] * diff[i]; }
    for (int i = 0; i < image_diff.size(); ++i) { by_image += image_diff[i] * this->image_[i]; }
    ASSERT_NEAR(by_columns, by_image, 1e-4) << "round " << round;
  }
}

TYPED_TEST(ActiveTileTest, TestSlopeIsTheDifferenceOfSamples) {
  for (int round = 0; round < 50; ++round) {
    this->MakeRandomCase();
    const int synapses = this->g_.synapses(), pixels = this->tile_.pixels();
    std::vector<TypeParam> diff(this->Rows() * pixels);
    for (int i = 0; i < diff.size(); ++i) { diff[i] = this->Uniform(); }
    std::vector<double> x_diff(synapses, 1), y_diff(synapses, 1);  // the kernel adds
    active_slope_tile(this->tile_, &diff[0], &x_diff[0], &y_diff[0]);
    for (int k = 0; k < synapses; ++k) {
      const double step = 1e-4;  // samples are linear between lattice points: any step inside the cell gives the slope
      const TypeParam fx = this->taps_[k].dx, fy = this->taps_[k].dy;
      if (fx > 1 - step || fy > 1 - step) { continue; }
      double expected_x = 1, expected_y = 1;
      for (int i = 0; i < this->g_.channels * pixels; ++i) {
        const int c = i / pixels, pixel = this->tile_.begin + i % pixels;
        const double weight = diff[(c * synapses + k) * pixels + i % pixels] / step, here = this->Reference(c, k, pixel);
        expected_x += weight * (this->Reference(c, k, pixel, step, 0) - here);
        expected_y += weight * (this->Reference(c, k, pixel, 0, step) - here);
      }
      ASSERT_NEAR(expected_x, x_diff[k], 2e-4) << "round " << round << " synapse " << k;
      ASSERT_NEAR(expected_y, y_diff[k], 2e-4) << "round " << round << " synapse " << k;
    }
  }
}

}  // namespace caffe
