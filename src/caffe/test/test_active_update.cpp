#include <cmath>
#include <limits>

#include "gtest/gtest.h"

#include "caffe/util/active_update.hpp"

#include "caffe/test/test_caffe_main.hpp"

namespace caffe {

/// What the GPU runs, on the host: synapse 0 ordinary, 1 without a gradient, 2 fixed, 3 not finite, 4 tiny, 5 huge.
template <typename Dtype>
class ActiveUpdateTest : public ::testing::Test {
 protected:
  typedef std::numeric_limits<Dtype> Limits;
  enum { kSynapses = 6 };

  void Run(bool x_moves, bool y_moves, bool normalize) {
    const Dtype nan = Limits::quiet_NaN(), tiny = Limits::denorm_min(), huge = Limits::max() / 4;
    const Dtype x[] = {3, 0, 3, nan, 8 * tiny, 3 * huge}, y[] = {-4, 0, -4, 1, 0, 2 * huge};
    const int fixed[] = {0, 0, 1, 0, 0, 0};
    for (int i = 0; i < kSynapses; ++i) {
      x_diff_[i] = x[i];
      y_diff_[i] = y[i];
      x_direction_[i] = y_direction_[i] = -7;
    }
    const ActiveSetAsideKernel<Dtype> kernel = {kSynapses, x_moves, y_moves, normalize, fixed,
                                                x_diff_, y_diff_, x_direction_, y_direction_};
    ASSERT_EQ(kSynapses, kernel.count());
    for (int i = kSynapses - 1; i >= 0; --i) { kernel(i); }
  }

  Dtype x_diff_[kSynapses], y_diff_[kSynapses], x_direction_[kSynapses], y_direction_[kSynapses];
};

TYPED_TEST_CASE(ActiveUpdateTest, TestDtypes);

TYPED_TEST(ActiveUpdateTest, TestDirectionsAreSetAside) {
  this->Run(true, true, true);
  for (int i = 0; i < this->kSynapses; ++i) {
    EXPECT_EQ(0, this->x_diff_[i]) << i;
    EXPECT_EQ(0, this->y_diff_[i]) << i;
  }
  EXPECT_NEAR(0.6, this->x_direction_[0], 1e-6);
  EXPECT_NEAR(-0.8, this->y_direction_[0], 1e-6);
  for (int i = 1; i < 3; ++i) {
    EXPECT_EQ(0, this->x_direction_[i]) << i;
    EXPECT_EQ(0, this->y_direction_[i]) << i;
  }
  EXPECT_TRUE(std::isnan(this->x_direction_[3]));  // a network that diverged should show it
  EXPECT_EQ(1, this->x_direction_[4]);
  EXPECT_NEAR(1, std::hypot(this->x_direction_[5], this->y_direction_[5]), 1e-6);
}

TYPED_TEST(ActiveUpdateTest, TestOneFrozenCoordinateLeavesTheOtherByItself) {
  this->Run(false, true, true);
  EXPECT_EQ(0, this->x_direction_[0]);
  EXPECT_EQ(-1, this->y_direction_[0]);
  EXPECT_EQ(1, this->y_direction_[3]);  // whatever the frozen one's gradient is
  this->Run(true, false, true);
  EXPECT_EQ(1, this->x_direction_[0]);
  EXPECT_EQ(0, this->y_direction_[0]);
}

TYPED_TEST(ActiveUpdateTest, TestFrozenOnesGetNothing) {
  for (int normalize = 0; normalize < 2; ++normalize) {
    this->Run(false, false, normalize);
    for (int i = 0; i < this->kSynapses; ++i) {
      EXPECT_EQ(0, this->x_diff_[i]) << i;
      EXPECT_EQ(0, this->y_diff_[i]) << i;
      EXPECT_EQ(normalize ? 0 : -7, this->x_direction_[i]) << i;
    }
  }
}

TYPED_TEST(ActiveUpdateTest, TestRawGradientsStay) {
  this->Run(true, true, false);
  EXPECT_EQ(3, this->x_diff_[0]);
  EXPECT_EQ(-4, this->y_diff_[0]);
  EXPECT_EQ(0, this->x_diff_[2]);
  EXPECT_EQ(0, this->y_diff_[2]);
  EXPECT_TRUE(std::isnan(this->x_diff_[3]));
  this->Run(false, true, false);
  EXPECT_EQ(0, this->x_diff_[0]);
  EXPECT_EQ(-4, this->y_diff_[0]);
}

TYPED_TEST(ActiveUpdateTest, TestLimit) {
  typedef TypeParam Dtype;
  const Dtype infinity = std::numeric_limits<Dtype>::infinity();
  Dtype x[] = {-3, -2, 0.5, 2, 2.5, infinity}, y[] = {9, 2, -2, -2.25, -infinity, std::numeric_limits<Dtype>::quiet_NaN()};
  const ActiveLimitKernel<Dtype> kernel = {6, 2, x, y};
  ASSERT_EQ(6, kernel.count());
  for (int i = 0; i < 6; ++i) { kernel(i); }
  const Dtype x_limited[] = {-2, -2, 0.5, 2, 2, 2}, y_limited[] = {2, 2, -2, -2, -2};
  for (int i = 0; i < 6; ++i) { EXPECT_EQ(x_limited[i], x[i]) << i; }
  for (int i = 0; i < 5; ++i) { EXPECT_EQ(y_limited[i], y[i]) << i; }
  EXPECT_TRUE(std::isnan(y[5]));
}

}  // namespace caffe
