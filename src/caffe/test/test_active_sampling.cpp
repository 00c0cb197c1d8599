#include <cmath>
#include <limits>

#include "gtest/gtest.h"

#include "caffe/util/active_sampling.hpp"

#include "caffe/test/test_caffe_main.hpp"

namespace caffe {

template <typename Dtype>
class ActiveSamplingTest : public ::testing::Test {};

TYPED_TEST_CASE(ActiveSamplingTest, TestDtypes);

TYPED_TEST(ActiveSamplingTest, TestTapSplitsTowardsMinusInfinity) {
  const ActiveTap<TypeParam> tap = MakeActiveTap<TypeParam>(1.25, -0.75);
  EXPECT_EQ(1, tap.x);
  EXPECT_EQ(-1, tap.y);
  EXPECT_EQ(TypeParam(0.25), tap.dx);
  EXPECT_EQ(TypeParam(0.25), tap.dy);
}

TYPED_TEST(ActiveSamplingTest, TestAFractionRoundedToOneIsCarried) {
  const ActiveTap<TypeParam> tap = MakeActiveTap<TypeParam>(TypeParam(-1e-18), 0.5), carried = tap.carried();
  EXPECT_EQ(-1, tap.x);
  EXPECT_EQ(1, tap.dx);
  EXPECT_EQ(0, carried.x);
  EXPECT_EQ(0, carried.dx);
  EXPECT_EQ(0, carried.y);
  EXPECT_EQ(TypeParam(0.5), carried.dy);
}

/// What has no share does not show, whatever it is.
TYPED_TEST(ActiveSamplingTest, TestAWeightOfZeroHidesNaN) {
  typedef TypeParam Dtype;
  const Dtype nan = std::numeric_limits<Dtype>::quiet_NaN();
  const ActiveTap<Dtype> down = MakeActiveTap<Dtype>(0, 0.5), across = MakeActiveTap<Dtype>(0.5, 0);
  EXPECT_EQ(2, (ActiveBilinear<Dtype>(down).Sample(Dtype(1), nan, Dtype(3), nan)));
  EXPECT_EQ(2, (ActiveBilinear<Dtype>(across).Sample(Dtype(1), Dtype(3), nan, nan)));
  EXPECT_EQ(2, (ActiveSlopeX<Dtype, Dtype>(across, 1, 3, nan, nan)));
  EXPECT_EQ(2, (ActiveSlopeY<Dtype, Dtype>(down, 1, nan, 3, nan)));
}

TYPED_TEST(ActiveSamplingTest, TestFarTapStaysFarWithoutOverflow) {
  const TypeParam infinity = std::numeric_limits<TypeParam>::infinity();
  const TypeParam far[] = {TypeParam(1e30), infinity, std::numeric_limits<TypeParam>::max(), TypeParam(3e9)};
  for (int i = 0; i < 4; ++i) {
    const ActiveTap<TypeParam> tap = MakeActiveTap<TypeParam>(far[i], -far[i]);
    EXPECT_EQ(1 << 24, tap.x);
    EXPECT_EQ(-(1 << 24), tap.y);
    EXPECT_EQ(0, tap.dx);
    EXPECT_EQ(0, tap.dy);
  }
}

TYPED_TEST(ActiveSamplingTest, TestNaNStaysInTheWeights) {
  const ActiveTap<TypeParam> tap = MakeActiveTap<TypeParam>(std::numeric_limits<TypeParam>::quiet_NaN(), 0);
  EXPECT_EQ(0, tap.x);
  const TypeParam one = 1;
  EXPECT_TRUE(std::isnan(ActiveBilinear<TypeParam>(tap).Sample(one, one, one, one)));
}

TYPED_TEST(ActiveSamplingTest, TestWeightsAreEquationSevenToNine) {
  const ActiveBilinear<TypeParam> w(MakeActiveTap<TypeParam>(0.25, 0.5));
  EXPECT_EQ(TypeParam(0.375), w.w00);
  EXPECT_EQ(TypeParam(0.125), w.w01);
  EXPECT_EQ(TypeParam(0.375), w.w10);
  EXPECT_EQ(TypeParam(0.125), w.w11);
}

TYPED_TEST(ActiveSamplingTest, TestSlopesOfAPlaneAreItsGradient) {
  // x[row][column] = 5 + 3 column - 2 row
  const ActiveTap<TypeParam> tap = MakeActiveTap<TypeParam>(0.3, 0.7);
  EXPECT_NEAR(3, (ActiveSlopeX<TypeParam, TypeParam>(tap, 5, 8, 3, 6)), 1e-5);
  EXPECT_NEAR(-2, (ActiveSlopeY<TypeParam, TypeParam>(tap, 5, 8, 3, 6)), 1e-5);
}

TYPED_TEST(ActiveSamplingTest, TestSlopeAtALatticePointLooksTowardsPlusOne) {
  const ActiveTap<TypeParam> tap = MakeActiveTap<TypeParam>(0, 0);
  EXPECT_EQ(TypeParam(10), (ActiveSlopeX<TypeParam, TypeParam>(tap, 1, 11, 101, 1001)));
  EXPECT_EQ(TypeParam(100), (ActiveSlopeY<TypeParam, TypeParam>(tap, 1, 11, 101, 1001)));
}

}  // namespace caffe
