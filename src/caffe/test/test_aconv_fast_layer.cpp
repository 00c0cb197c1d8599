#include <cmath>
#include <string>
#include <vector>

#include "google/protobuf/text_format.h"
#include "gtest/gtest.h"

#include "caffe/blob.hpp"
#include "caffe/common.hpp"
#include "caffe/filler.hpp"
#include "caffe/layers/aconv_fast_layer.hpp"
#include "caffe/layers/conv_layer.hpp"
#include "caffe/util/math_functions.hpp"

#include "caffe/test/caffes_loops.hpp"
#include "caffe/test/test_caffe_main.hpp"
#include "caffe/test/test_gradient_check_util.hpp"

namespace caffe {

template <typename TypeParam>
class AConvFastLayerTest : public MultiDeviceTest<TypeParam> {
  typedef typename TypeParam::Dtype Dtype;

 protected:
  AConvFastLayerTest() : bottom_(2, 2, 6, 7), bottom_vec_(1, &bottom_), top_vec_(1, &top_) {
    Caffe::set_random_seed(1701);
    GaussianFiller<Dtype>(FillerParameter()).Fill(&bottom_);
  }

  static LayerParameter Parse(const std::string& text) {
    LayerParameter param;
    CHECK(google::protobuf::TextFormat::ParseFromString("name: 'acf' type: 'AConvFast' " + text, &param)) << text;
    return param;
  }

  shared_ptr<AConvFastLayer<Dtype> > Make(const std::string& text) {
    shared_ptr<AConvFastLayer<Dtype> > layer(new AConvFastLayer<Dtype>(Parse(text)));
    layer->SetUp(bottom_vec_, top_vec_);
    return layer;
  }

  void ExpectPositions(const AConvFastLayer<Dtype>& layer, const std::vector<shared_ptr<Blob<Dtype> > >& blobs,
                       const double* x, const double* y, int count) {
    ASSERT_EQ(count, blobs[2]->count());
    for (int i = 0; i < count; ++i) {
      EXPECT_NEAR(x[i], blobs[2]->cpu_data()[i], 1e-6) << i;
      EXPECT_NEAR(y[i], blobs[3]->cpu_data()[i], 1e-6) << i;
    }
  }

  CaffesLoops caffes_loops_;
  Blob<Dtype> bottom_, top_;
  vector<Blob<Dtype>*> bottom_vec_, top_vec_;
};

TYPED_TEST_CASE(AConvFastLayerTest, TestDtypesAndDevices);

TYPED_TEST(AConvFastLayerTest, TestSquareStartsAroundTheBase) {
  auto layer = this->Make("convolution_param { num_output: 2 kernel_size: 3 pad: 1 } aconv_param { pos_filler_std: -1 }");
  const double x[] = {0, 1, 1, 0, -1, -1, -1, 0, 1}, y[] = {0, 0, 1, 1, 1, 0, -1, -1, -1};
  this->ExpectPositions(*layer, layer->blobs(), x, y, 9);
  EXPECT_EQ("2 2 6 7 (168)", this->top_.shape_string());
}

TYPED_TEST(AConvFastLayerTest, TestSquareEqualsConvolutionWithReorderedWeights) {
  typedef typename TypeParam::Dtype Dtype;
  const char* shapes[] = {"pad: 1", "", "stride: 2 pad: 1", "stride: 2 pad: 2"};
  const int row_major[] = {4, 5, 8, 7, 6, 3, 0, 1, 2};  // of the synapses, base first
  for (int i = 0; i < 4; ++i) {
    const std::string conv = std::string("convolution_param { num_output: 3 kernel_size: 3 weight_filler { type: 'gaussian' "
                                         "} bias_filler { type: 'gaussian' } ") + shapes[i] + " } ";
    auto layer = this->Make(conv + "aconv_param { pos_filler_std: -1 }");
    ConvolutionLayer<Dtype> convolution(this->Parse(conv));
    Blob<Dtype> top;
    vector<Blob<Dtype>*> tops(1, &top);
    convolution.SetUp(this->bottom_vec_, tops);
    for (int dc = 0; dc < 6; ++dc) {
      for (int k = 0; k < 9; ++k) {
        convolution.blobs()[0]->mutable_cpu_data()[dc * 9 + row_major[k]] = layer->blobs()[0]->cpu_data()[dc * 9 + k];
      }
    }
    convolution.blobs()[1]->CopyFrom(*layer->blobs()[1]);
    layer->Forward(this->bottom_vec_, this->top_vec_);
    convolution.Forward(this->bottom_vec_, tops);
    ASSERT_EQ(top.shape_string(), this->top_.shape_string()) << shapes[i];
    for (int j = 0; j < top.count(); ++j) {
      ASSERT_NEAR(top.cpu_data()[j], this->top_.cpu_data()[j], 1e-4) << shapes[i];
    }
  }
}

TYPED_TEST(AConvFastLayerTest, TestCircle) {
  auto layer = this->Make("convolution_param { num_output: 2 kernel_h: 1 kernel_w: 5 } aconv_param { type: CIRCLE pad: -1 "
                          "base_radius: 2 base_angle: 0.5 pos_filler_std: 0 }");
  double x[] = {0, 2 * std::cos(.5), -2 * std::sin(.5), -2 * std::cos(.5), 2 * std::sin(.5)};
  double y[] = {0, 2 * std::sin(.5), 2 * std::cos(.5), -2 * std::sin(.5), -2 * std::cos(.5)};
  this->ExpectPositions(*layer, layer->blobs(), x, y, 5);
  EXPECT_EQ("2 2 4 5 (80)", this->top_.shape_string());
}

TYPED_TEST(AConvFastLayerTest, TestNegativePadCutsTheBorder) {
  typedef typename TypeParam::Dtype Dtype;
  auto layer = this->Make("convolution_param { num_output: 1 kernel_size: 1 weight_filler { type: 'constant' value: 1 } } "
                          "aconv_param { type: RANDOM pad_h: -2 pad_w: -1 }");
  layer->Forward(this->bottom_vec_, this->top_vec_);
  ASSERT_EQ("2 1 2 5 (20)", this->top_.shape_string());
  for (int m = 0; m < 2; ++m) {
    for (int n = 0; n < 5; ++n) {
      const Dtype expected = this->bottom_.data_at(1, 0, m + 2, n + 1) + this->bottom_.data_at(1, 1, m + 2, n + 1);
      EXPECT_NEAR(expected, this->top_.data_at(1, 0, m, n), 1e-5);
    }
  }
}

TYPED_TEST(AConvFastLayerTest, TestNoiseHasItsDeviationAndLeavesTheOrigin) {
  auto layer = this->Make("convolution_param { num_output: 20 kernel_size: 7 pad: 3 } aconv_param { base_radius: 2 pos_filler_std: 0.1 "
                          "position_group: 20 }");
  double square = 0;
  for (int i = 0; i < 20 * 49; ++i) {
    const int k = i % 49;
    const double x = layer->blobs()[2]->cpu_data()[i], y = layer->blobs()[3]->cpu_data()[i];
    if (k == 0) {
      EXPECT_EQ(0, x);
      EXPECT_EQ(0, y);
    } else {
      const double angle = (k - 1) * 2 * M_PI / 48;
      square += std::pow(x - 2 * std::cos(angle), 2) + std::pow(y - 2 * std::sin(angle), 2);
    }
  }
  EXPECT_NEAR(0.2, std::sqrt(square / (2 * 20 * 48)), 0.02);
}

TYPED_TEST(AConvFastLayerTest, TestDefaultsOfThePublishedCode) {
  auto layer = this->Make("convolution_param { num_output: 2 kernel_size: 3 }");
  layer->blobs()[2]->mutable_cpu_diff()[1] = 30;
  layer->blobs()[3]->mutable_cpu_diff()[1] = 40;
  layer->blobs()[2]->mutable_cpu_diff()[0] = 50;
  layer->BeforeClipping(0);
  layer->AfterClipping(1, false, 0);
  EXPECT_EQ(30, layer->blobs()[2]->cpu_diff()[1]);  // normalize: false
  EXPECT_EQ(0, layer->blobs()[2]->cpu_diff()[0]);   // the origin never moves
  layer = this->Make("convolution_param { num_output: 2 kernel_size: 3 } aconv_param { normalize: true }");
  layer->blobs()[2]->mutable_cpu_diff()[1] = 30;
  layer->blobs()[3]->mutable_cpu_diff()[1] = 40;
  layer->BeforeClipping(0);
  layer->AfterClipping(1, false, 0);
  EXPECT_NEAR(0.6, layer->blobs()[2]->cpu_diff()[1], 1e-6);
}

TYPED_TEST(AConvFastLayerTest, TestGradient) {
  typedef typename TypeParam::Dtype Dtype;
  this->bottom_.Reshape(1, 2, 4, 4);
  GaussianFiller<Dtype>(FillerParameter()).Fill(&this->bottom_);
  AConvFastLayer<Dtype> layer(this->Parse("convolution_param { num_output: 2 kernel_size: 2 pad: 1 weight_filler { type: "
      "'gaussian' } } aconv_param { base_radius: 1.3 base_angle: 0.4 pos_filler_std: 0 }"));
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  // Off the lattice, the base too: there the gradient has no two sides.
  layer.blobs()[2]->mutable_cpu_data()[0] = layer.blobs()[3]->mutable_cpu_data()[0] = 0.3;
  GradientChecker<Dtype> checker(1e-2, 1e-3);
  for (int i = 0; i < this->top_.count(); i += 3) {
    checker.CheckGradientSingle(&layer, this->bottom_vec_, this->top_vec_, -1, 0, i);
  }
}

class AConvFastErrorTest : public ::testing::Test {
 protected:
  AConvFastErrorTest() { ::testing::FLAGS_gtest_death_test_style = "threadsafe"; }

  static void SetUpLayer(const std::string& text) {
    Caffe::set_mode(Caffe::CPU);
    LayerParameter param;
    CHECK(google::protobuf::TextFormat::ParseFromString("name: 'acf' " + text, &param));
    Blob<float> bottom(1, 2, 5, 5), top;
    vector<Blob<float>*> bottoms(1, &bottom), tops(1, &top);
    AConvFastLayer<float>(param).SetUp(bottoms, tops);
  }
};

TEST_F(AConvFastErrorTest, TestParameters) {
  const char* cases[][2] = {
      {"convolution_param { num_output: 2 kernel_size: 3 } aconv_param { base_radius: 0 }",
       "aconv_param.base_radius is 0; allowed: 1e-06 to 1e\\+06 pixels"},
      {"convolution_param { num_output: 2 kernel_size: 3 } aconv_param { base_radius: 1e-45 }", "base_radius is 1.*e-45"},
      {"convolution_param { num_output: 2 kernel_size: 3 } aconv_param { base_radius: 1e7 }", "base_radius is 1e\\+07"},
      {"convolution_param { num_output: 2 kernel_size: 3 } aconv_param { base_radius: nan }", "base_radius is nan"},
      {"convolution_param { num_output: 2 kernel_size: 3 } aconv_param { base_angle: nan }",
       "aconv_param.base_angle is nan; allowed: finite numbers"},
      {"convolution_param { num_output: 2 kernel_size: 3 } aconv_param { base_angle: -inf }", "base_angle is -inf"},
      {"convolution_param { num_output: 2 kernel_size: 3 } aconv_param { pos_filler_std: nan }",
       "aconv_param.pos_filler_std is nan; allowed: finite numbers up to 1e\\+06"},
      {"convolution_param { num_output: 2 kernel_size: 3 } aconv_param { pos_filler_std: inf }", "pos_filler_std is inf"},
      {"convolution_param { num_output: 2 kernel_size: 3 } aconv_param { pos_filler_std: -inf }", "pos_filler_std is -inf"},
      {"convolution_param { num_output: 2 kernel_size: 3 } aconv_param { type: CIRCLE pad: 2147483647 }",
       "aconv_param.pad is 2147483647 x 2147483647; allowed: -1048576 to 1048576"},
      {"convolution_param { num_output: 2 kernel_size: 3 } aconv_param { type: CIRCLE pad_h: -2147483648 pad_w: 0 }",
       "aconv_param.pad is -2147483648 x 0"},
      {"convolution_param { num_output: 2 kernel_size: 3 dilation: 2 }",
       "convolution_param.dilation is 2 x 2; allowed: 1"},
      {"convolution_param { num_output: 2 kernel_h: 3 kernel_w: 3 }", "convolution_param.kernel_h and kernel_w are given"},
      {"convolution_param { num_output: 2 kernel_size: 3 } aconv_param { pad: 1 }", "aconv_param.pad is given"},
      {"convolution_param { num_output: 2 kernel_size: 3 pad: 1 } aconv_param { type: CIRCLE }",
       "convolution_param.pad is given"},
      {"convolution_param { num_output: 2 kernel_size: 3 } aconv_param { position_group: 4 }", "position_group is 4"}};
  for (int i = 0; i < sizeof(cases) / sizeof(cases[0]); ++i) {
    EXPECT_DEATH(SetUpLayer(cases[i][0]), std::string("Layer 'acf' \\(AConvFast\\): .*") + cases[i][1]);
  }
}

TEST_F(AConvFastErrorTest, TestNoiseTooSmallForANumberIsNone) {
  SetUpLayer("convolution_param { num_output: 2 kernel_size: 3 } aconv_param { base_radius: 1e-6 pos_filler_std: 1e-45 }");
}

}  // namespace caffe
