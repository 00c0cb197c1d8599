#include <algorithm>
#include <cmath>
#include <limits>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "google/protobuf/text_format.h"
#include "gtest/gtest.h"

#include "caffe/blob.hpp"
#include "caffe/common.hpp"
#include "caffe/filler.hpp"
#include "caffe/layers/active_convolution_layer.hpp"
#include "caffe/layers/conv_layer.hpp"
#include "caffe/net.hpp"
#include "caffe/util/active_machine.hpp"
#include "caffe/util/math_functions.hpp"

#include "caffe/test/caffes_loops.hpp"
#include "caffe/test/test_caffe_main.hpp"
#include "caffe/test/test_gradient_check_util.hpp"

namespace caffe {

namespace {

LayerParameter Parse(const std::string& text) {
  LayerParameter param;
  CHECK(google::protobuf::TextFormat::ParseFromString("name: 'acu' type: 'ActiveConvolution' " + text, &param)) << text;
  return param;
}

const char kOffLattice[] =
    "position { x: -1.3 y: -0.7 } position { x: 0.2 y: -1.4 } position { x: 1.6 y: -0.8 } position { x: -0.6 y: 0.3 } "
    "position { x: 0.4 y: 0.6 } position { x: 1.3 y: 0.2 } position { x: -1.7 y: 1.6 } position { x: 0.7 y: 1.2 } "
    "position { x: 2.4 y: 1.7 } ";

}  // namespace

template <typename TypeParam>
class ActiveConvolutionLayerTest : public MultiDeviceTest<TypeParam> {
  typedef typename TypeParam::Dtype Dtype;

 protected:
  ActiveConvolutionLayerTest() : bottom_vec_(1, &bottom_), top_vec_(1, &top_) {
    Caffe::set_random_seed(1701);
  }

  void FillBottom(int num, int channels, int height, int width) {
    bottom_.Reshape(num, channels, height, width);
    Fill(&bottom_);
  }

  void Fill(Blob<Dtype>* blob) {
    FillerParameter param;
    param.set_min(-1);
    param.set_max(1);
    UniformFiller<Dtype>(param).Fill(blob);
  }

  shared_ptr<ActiveConvolutionLayer<Dtype> > Make(const std::string& text) {
    shared_ptr<ActiveConvolutionLayer<Dtype> > layer(new ActiveConvolutionLayer<Dtype>(Parse(text)));
    layer->SetUp(bottom_vec_, top_vec_);
    return layer;
  }

  /// Moves every synapse off the lattice, some of them outside the image.
  void Scatter(ActiveConvolutionLayer<Dtype>* layer) {
    for (int blob = 2; blob < 4; ++blob) {
      Dtype* position = layer->blobs()[blob]->mutable_cpu_data();
      for (int i = 0; i < layer->blobs()[blob]->count(); ++i) {
        position[i] += (static_cast<int>(caffe_rng_rand() % 301) - 150) / Dtype(100) + Dtype(0.003);
      }
    }
  }

  /// The gradient of synapse k is (3, -4) (k + 1), but that of synapse 8 is zero.
  static void FillPositionDiff(ActiveConvolutionLayer<Dtype>* layer) {
    for (int k = 0; k < 9; ++k) {
      layer->blobs()[2]->mutable_cpu_diff()[k] = k == 8 ? 0 : 3 * (k + 1);
      layer->blobs()[3]->mutable_cpu_diff()[k] = k == 8 ? 0 : -4 * (k + 1);
    }
  }

  /// That of each synapse is (x, y), but those of the origin and of synapse 8 are zero.
  static void ExpectPositionDiff(ActiveConvolutionLayer<Dtype>* layer, double x, double y) {
    for (int k = 0; k < 9; ++k) {
      EXPECT_NEAR(k == 4 || k == 8 ? 0 : x, layer->blobs()[2]->cpu_diff()[k], 1e-5) << k;
      EXPECT_NEAR(k == 4 || k == 8 ? 0 : y, layer->blobs()[3]->cpu_diff()[k], 1e-5) << k;
    }
  }

  /// The output by the definition: every pixel, weighted by its distance from where the synapse is.
  double Reference(const ActiveConvolutionLayer<Dtype>& layer, const std::vector<shared_ptr<Blob<Dtype> > >& blobs,
                   int n, int d, int m, int column) const {
    const ConvolutionParameter& p = layer.layer_param().convolution_param();
    const int stride = p.stride_size() ? p.stride(0) : 1, pad = p.pad_size() ? p.pad(0) : 0;
    const int dilation = p.dilation_size() ? p.dilation(0) : 1;
    const int kh = blobs[0]->shape(2), kw = blobs[0]->shape(3), synapses = kh * kw;
    const bool grid = layer.layer_param().active_convolution_param().position_size() == 0;
    const int centre_y = grid ? (kh - 1) / 2 * dilation : 0, centre_x = grid ? (kw - 1) / 2 * dilation : 0;
    const int outputs = p.num_output(), group_channels = blobs[0]->shape(1);
    const int set = d / (outputs / blobs[2]->shape(0)), group = d / (outputs / p.group());
    double sum = p.bias_term() ? blobs[1]->cpu_data()[d] : 0;
    for (int k = 0; k < synapses; ++k) {
      const double y = m * stride - pad + centre_y + blobs[3]->cpu_data()[set * synapses + k];
      const double x = column * stride - pad + centre_x + blobs[2]->cpu_data()[set * synapses + k];
      for (int i = 0; i < bottom_.shape(2); ++i) {
        const double wy = 1 - std::fabs(y - i);
        if (wy <= 0) { continue; }
        for (int j = 0; j < bottom_.shape(3); ++j) {
          const double wx = 1 - std::fabs(x - j);
          if (wx <= 0) { continue; }
          for (int c = 0; c < group_channels; ++c) {
            sum += wy * wx * bottom_.data_at(n, group * group_channels + c, i, j) *
                   blobs[0]->cpu_data()[(d * group_channels + c) * synapses + k];
          }
        }
      }
    }
    return sum;
  }

  void ExpectTopIsReference(ActiveConvolutionLayer<Dtype>* layer) {
    layer->Forward(bottom_vec_, top_vec_);
    for (int n = 0; n < top_.num(); ++n) {
      for (int d = 0; d < top_.channels(); ++d) {
        for (int m = 0; m < top_.height(); ++m) {
          for (int column = 0; column < top_.width(); ++column) {
            ASSERT_NEAR(Reference(*layer, layer->blobs(), n, d, m, column), top_.data_at(n, d, m, column), 1e-4)
                << "n " << n << " d " << d << " m " << m << " n " << column;
          }
        }
      }
    }
  }

  /// Forward and backward with one to three threads, and once more with one.
  void ExpectSameBits(const std::string& conv) {
    const int threads = ActiveMaxThreads();
    auto layer = Make("convolution_param { " + conv + " weight_filler { type: 'msra' } }");
    Scatter(layer.get());
    vector<Dtype> first;
    for (int run = 0; run < 4; ++run) {
      ActiveSetThreads(std::max(1, run));
      Caffe::set_random_seed(7);
      layer->Forward(bottom_vec_, top_vec_);
      FillDiff(&top_);
      for (int i = 0; i < 4; ++i) { caffe_set(layer->blobs()[i]->count(), Dtype(0), layer->blobs()[i]->mutable_cpu_diff()); }
      layer->Backward(top_vec_, vector<bool>(1, true), bottom_vec_);
      vector<Dtype> all(top_.cpu_data(), top_.cpu_data() + top_.count());
      all.insert(all.end(), bottom_.cpu_diff(), bottom_.cpu_diff() + bottom_.count());
      for (int i = 0; i < 4; ++i) {
        const Dtype* diff = layer->blobs()[i]->cpu_diff();
        all.insert(all.end(), diff, diff + layer->blobs()[i]->count());
      }
      if (run == 0) { first = all; }
      EXPECT_TRUE(first == all) << conv << ", run " << run;
    }
    ActiveSetThreads(threads);
  }

  /// Forward, input gradient and weight gradient of an untrained ACU against Caffe's own Convolution.
  void ExpectEqualsConvolution(const std::string& conv) {
    const std::string filled = conv + " weight_filler { type: 'gaussian' std: 0.3 } bias_filler { type: 'uniform' }";
    shared_ptr<ActiveConvolutionLayer<Dtype> > active = Make("convolution_param { " + filled + " }");
    LayerParameter param = active->layer_param();
    ConvolutionLayer<Dtype> convolution(param);
    Blob<Dtype> bottom, top;
    bottom.CopyFrom(bottom_, false, true);
    vector<Blob<Dtype>*> bottoms(1, &bottom), tops(1, &top);
    convolution.SetUp(bottoms, tops);
    for (int i = 0; i < convolution.blobs().size(); ++i) {
      convolution.blobs()[i]->CopyFrom(*active->blobs()[i]);
    }
    ASSERT_EQ(top.shape_string(), top_.shape_string()) << conv;
    active->Forward(bottom_vec_, top_vec_);
    convolution.Forward(bottoms, tops);
    ExpectNear(top.cpu_data(), top_.cpu_data(), top.count(), conv + ": output");
    FillDiff(&top_);
    caffe_copy(top_.count(), top_.cpu_diff(), top.mutable_cpu_diff());
    for (int i = 0; i < convolution.blobs().size(); ++i) {
      caffe_set(convolution.blobs()[i]->count(), Dtype(0), convolution.blobs()[i]->mutable_cpu_diff());
      caffe_set(active->blobs()[i]->count(), Dtype(0), active->blobs()[i]->mutable_cpu_diff());
    }
    active->Backward(top_vec_, vector<bool>(1, true), bottom_vec_);
    convolution.Backward(tops, vector<bool>(1, true), bottoms);
    ExpectNear(bottom.cpu_diff(), bottom_.cpu_diff(), bottom.count(), conv + ": input gradient");
    for (int i = 0; i < convolution.blobs().size(); ++i) {
      ExpectNear(convolution.blobs()[i]->cpu_diff(), active->blobs()[i]->cpu_diff(), active->blobs()[i]->count(),
                 conv + ": parameter gradient");
    }
  }

  void FillDiff(Blob<Dtype>* blob) {
    Blob<Dtype> random(blob->shape());
    Fill(&random);
    caffe_copy(blob->count(), random.cpu_data(), blob->mutable_cpu_diff());
  }

  void ExpectNear(const Dtype* expected, const Dtype* found, int count, const std::string& what) {
    for (int i = 0; i < count; ++i) {
      ASSERT_NEAR(expected[i], found[i], 5e-5 * std::max(Dtype(1), std::fabs(expected[i]))) << what << ", element " << i;
    }
  }

  /// On a thread of its own, which has its own workspace: others' layers may have made this one's larger.
  template <typename Body>
  static void OnAThread(const Body& body) {
    const Caffe::Brew mode = Caffe::mode();
    std::thread thread([&] {
      Caffe::set_mode(mode);
      ActiveSetThreads(1);  // with more, one may get no work and need no buffers
      body();
    });
    thread.join();
  }

  void ExpectGradients(const std::string& text) {
    ActiveConvolutionLayer<Dtype> layer(Parse(text));
    GradientChecker<Dtype> checker(1e-2, 1e-3);
    checker.CheckGradientExhaustive(&layer, bottom_vec_, top_vec_);
  }

  CaffesLoops caffes_loops_;
  Blob<Dtype> bottom_, top_;
  vector<Blob<Dtype>*> bottom_vec_, top_vec_;
};

TYPED_TEST_CASE(ActiveConvolutionLayerTest, TestDtypesAndDevices);

TYPED_TEST(ActiveConvolutionLayerTest, TestBlobsAndShapes) {
  this->FillBottom(2, 4, 7, 6);
  auto layer = this->Make("convolution_param { num_output: 6 kernel_size: 3 stride: 2 group: 2 } "
                          "active_convolution_param { position_group: 3 }");
  ASSERT_EQ(4, layer->blobs().size());
  EXPECT_EQ("6 2 3 3 (108)", layer->blobs()[0]->shape_string());
  EXPECT_EQ("6 (6)", layer->blobs()[1]->shape_string());
  EXPECT_EQ("3 1 3 3 (27)", layer->blobs()[2]->shape_string());
  EXPECT_EQ("3 1 3 3 (27)", layer->blobs()[3]->shape_string());
  EXPECT_EQ("2 6 3 2 (72)", this->top_.shape_string());
}

TYPED_TEST(ActiveConvolutionLayerTest, TestGridInRowMajorOrder) {
  this->FillBottom(1, 1, 9, 9);
  auto layer = this->Make("convolution_param { num_output: 1 kernel_h: 2 kernel_w: 3 dilation: 2 dilation: 3 }");
  const int x[] = {-3, 0, 3, -3, 0, 3}, y[] = {0, 0, 0, 2, 2, 2};
  for (int k = 0; k < 6; ++k) {
    EXPECT_EQ(x[k], layer->blobs()[2]->cpu_data()[k]);
    EXPECT_EQ(y[k], layer->blobs()[3]->cpu_data()[k]);
  }
}

TYPED_TEST(ActiveConvolutionLayerTest, TestNoBiasKeepsTheOrderOfBlobs) {
  this->FillBottom(1, 2, 5, 5);
  auto layer = this->Make("param { lr_mult: 1 } param { lr_mult: 2 } "
                          "convolution_param { num_output: 2 kernel_size: 3 bias_term: false }");
  EXPECT_EQ("1 1 1 1 (1)", layer->blobs()[1]->shape_string());
  EXPECT_EQ(0, layer->blobs()[1]->cpu_data()[0]);
  EXPECT_EQ(0, layer->layer_param().param(1).lr_mult());
  EXPECT_EQ(0, layer->layer_param().param(1).decay_mult());
}

TYPED_TEST(ActiveConvolutionLayerTest, TestHalfPixelsOnARamp) {
  // Input 10 row + column, 4 x 4. One synapse half a pixel right and half a pixel down: inside the image it sees
  // 10 (m + 0.5) + (n + 0.5); beyond the last column and row it loses the neighbours there.
  typedef typename TypeParam::Dtype Dtype;
  this->FillBottom(1, 1, 4, 4);
  for (int i = 0; i < 16; ++i) { this->bottom_.mutable_cpu_data()[i] = 10 * (i / 4) + i % 4; }
  auto layer = this->Make("convolution_param { num_output: 1 kernel_size: 1 weight_filler { type: 'constant' value: 1 } } "
                          "active_convolution_param { position { x: 0.5 y: 0.5 } }");
  layer->Forward(this->bottom_vec_, this->top_vec_);
  const Dtype expected[] = {5.5, 6.5, 7.5, 4, 15.5, 16.5, 17.5, 9, 25.5, 26.5, 27.5, 14, 15.25, 15.75, 16.25, 8.25};
  for (int i = 0; i < 16; ++i) { EXPECT_EQ(expected[i], this->top_.cpu_data()[i]) << i; }
}

TYPED_TEST(ActiveConvolutionLayerTest, TestNegativeHalfPixelsAndPad) {
  typedef typename TypeParam::Dtype Dtype;
  this->FillBottom(1, 1, 2, 2);
  const Dtype image[] = {1, 2, 3, 4};
  std::copy(image, image + 4, this->bottom_.mutable_cpu_data());
  auto layer = this->Make("convolution_param { num_output: 1 kernel_size: 1 pad: 1 weight_filler { type: 'constant' value: 2 }"
                          " bias_filler { type: 'constant' value: 10 } } "
                          "active_convolution_param { position { x: -0.5 y: 0 } }");
  layer->Forward(this->bottom_vec_, this->top_vec_);
  // Output column n stands at n - 1 - 0.5 of the input: 0, half of the first, the mean, half of the last.
  const Dtype expected[] = {10, 10, 10, 10, 10, 11, 13, 12, 10, 13, 17, 14, 10, 10, 10, 10};
  for (int i = 0; i < 16; ++i) { EXPECT_EQ(expected[i], this->top_.cpu_data()[i]) << i; }
}

TYPED_TEST(ActiveConvolutionLayerTest, TestUntrainedEqualsConvolution) {
  const char* kernels[] = {"kernel_size: 3", "kernel_size: 1", "kernel_size: 2", "kernel_h: 3 kernel_w: 5",
                           "kernel_h: 4 kernel_w: 1"};
  const char* shapes[] = {"", "pad: 1", "stride: 2", "pad: 2 stride: 3", "pad_h: 0 pad_w: 3 stride_h: 2 stride_w: 1",
                          "dilation: 2 pad: 2", "dilation: 1 dilation: 2 stride: 2 pad: 3"};
  const char* groups[] = {"", "group: 2", "group: 4 bias_term: false"};
  this->FillBottom(3, 4, 9, 11);
  for (int i = 0; i < 5; ++i) {
    for (int j = 0; j < 7; ++j) {
      for (int k = 0; k < 3; ++k) {
        this->ExpectEqualsConvolution(std::string("num_output: 8 ") + kernels[i] + " " + shapes[j] + " " + groups[k]);
      }
    }
  }
}

TYPED_TEST(ActiveConvolutionLayerTest, TestUntrainedEqualsConvolutionInManyChunks) {
  this->FillBottom(1, 40, 33, 47);  // one image: threads share it; columns exceed a chunk
  this->ExpectEqualsConvolution("num_output: 5 kernel_size: 3 pad: 1");
  this->ExpectEqualsConvolution("num_output: 5 kernel_size: 3 pad: 1 stride: 2");
}

TYPED_TEST(ActiveConvolutionLayerTest, TestUntrainedEqualsConvolutionInManyBlocks) {
  this->FillBottom(9, 72, 4, 5);  // channels and outputs exceed a block, and images share a chunk
  this->ExpectEqualsConvolution("num_output: 108 kernel_size: 3 pad: 1");
  this->ExpectEqualsConvolution("num_output: 108 kernel_size: 4 group: 2 bias_term: false");
}

TYPED_TEST(ActiveConvolutionLayerTest, TestUntrainedEqualsConvolutionInManyGroups) {
  this->FillBottom(3, 40, 9, 7);  // more than one vector of channels, and no whole number of them
  for (int channels = 1; channels <= 8; channels *= 2) {
    const std::string group = "num_output: 40 group: " + std::to_string(40 / channels);
    this->ExpectEqualsConvolution(group + " kernel_size: 3 pad: 1");
    this->ExpectEqualsConvolution(group + " kernel_size: 5 pad: 2 stride: 2 bias_term: false");
  }
  this->ExpectEqualsConvolution("num_output: 80 group: 40 kernel_size: 3 pad: 1");  // two outputs for each channel
}

TYPED_TEST(ActiveConvolutionLayerTest, TestManyGroupsMovedAgainstReference) {
  const char* configurations[] = {
      "convolution_param { num_output: 20 kernel_size: 3 pad: 1 group: 20 }",
      "convolution_param { num_output: 20 kernel_size: 3 group: 5 }",
      "convolution_param { num_output: 20 kernel_size: 3 group: 20 stride: 2 } active_convolution_param { position_group: 20 }",
      "convolution_param { num_output: 20 kernel_size: 2 pad: 1 group: 10 } active_convolution_param { position_group: 5 }",
      "convolution_param { num_output: 20 kernel_size: 2 pad: 1 group: 5 } active_convolution_param { position_group: 10 }"};
  this->FillBottom(2, 20, 6, 7);
  for (int i = 0; i < 5; ++i) {
    auto layer = this->Make(configurations[i]);
    this->Fill(layer->blobs()[0].get());
    this->Fill(layer->blobs()[1].get());
    this->Scatter(layer.get());
    this->ExpectTopIsReference(layer.get());
  }
}

TYPED_TEST(ActiveConvolutionLayerTest, TestMovedAgainstReference) {
  const char* configurations[] = {
      "convolution_param { num_output: 4 kernel_size: 3 pad: 1 }",
      "convolution_param { num_output: 4 kernel_size: 3 pad: 2 stride: 2 dilation: 2 bias_term: false }",
      "convolution_param { num_output: 4 kernel_size: 2 group: 2 }",
      "convolution_param { num_output: 4 kernel_h: 2 kernel_w: 3 pad: 1 } active_convolution_param { position_group: 2 }",
      "convolution_param { num_output: 12 kernel_size: 3 group: 2 } active_convolution_param { position_group: 3 }",
      "convolution_param { num_output: 12 kernel_size: 3 group: 4 } active_convolution_param { position_group: 2 }"};
  this->FillBottom(2, 4, 7, 8);
  for (int i = 0; i < 6; ++i) {
    auto layer = this->Make(configurations[i]);
    this->Fill(layer->blobs()[0].get());
    this->Fill(layer->blobs()[1].get());
    if (!layer->layer_param().convolution_param().bias_term()) { layer->blobs()[1]->mutable_cpu_data()[0] = 0; }
    this->Scatter(layer.get());
    this->ExpectTopIsReference(layer.get());
  }
}

TYPED_TEST(ActiveConvolutionLayerTest, TestExplicitPositionsAgainstReference) {
  this->FillBottom(2, 2, 6, 7);
  const char* sizes[] = {"", "pad: 1", "stride: 2 pad: 1"};
  for (int i = 0; i < 3; ++i) {
    auto layer = this->Make(std::string("convolution_param { num_output: 2 kernel_h: 1 kernel_w: 9 ") + sizes[i] +
                            " weight_filler { type: 'uniform' min: -1 } } active_convolution_param { " + kOffLattice + "}");
    EXPECT_FLOAT_EQ(-1.3, layer->blobs()[2]->cpu_data()[0]);
    EXPECT_FLOAT_EQ(1.7, layer->blobs()[3]->cpu_data()[8]);
    this->ExpectTopIsReference(layer.get());
  }
}

TYPED_TEST(ActiveConvolutionLayerTest, TestPositionsSetBySet) {
  this->FillBottom(1, 1, 3, 3);
  const std::string conv = "convolution_param { num_output: 4 kernel_h: 1 kernel_w: 2 } ";
  auto layer = this->Make(conv + "active_convolution_param { position_group: 2 position { x: 1 } position { x: 2 } "
                          "position { y: 3 } position { y: 4 } }");
  const int x[] = {1, 2, 0, 0}, y[] = {0, 0, 3, 4};
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(x[i], layer->blobs()[2]->cpu_data()[i]);
    EXPECT_EQ(y[i], layer->blobs()[3]->cpu_data()[i]);
  }
  layer = this->Make(conv + "active_convolution_param { position_group: 2 position { x: 1 } position { x: 2 } }");
  for (int i = 0; i < 4; ++i) { EXPECT_EQ(1 + i % 2, layer->blobs()[2]->cpu_data()[i]); }
}

TYPED_TEST(ActiveConvolutionLayerTest, TestEqualsTheDenseKernelItSplatsTo) {
  typedef typename TypeParam::Dtype Dtype;
  this->FillBottom(2, 3, 8, 8);
  auto layer = this->Make(std::string("convolution_param { num_output: 2 kernel_size: 3 pad: 0 weight_filler { type: "
                          "'uniform' min: -1 } } active_convolution_param { ") + kOffLattice + "}");
  layer->Forward(this->bottom_vec_, this->top_vec_);
  LayerParameter param = Parse("convolution_param { num_output: 2 kernel_size: 7 pad: 3 }");
  ConvolutionLayer<Dtype> dense(param);
  Blob<Dtype> top;
  vector<Blob<Dtype>*> tops(1, &top);
  dense.SetUp(this->bottom_vec_, tops);
  Dtype* kernel = dense.blobs()[0]->mutable_cpu_data();
  caffe_set(dense.blobs()[0]->count(), Dtype(0), kernel);
  for (int dc = 0; dc < 2 * 3; ++dc) {
    for (int k = 0; k < 9; ++k) {
      const Dtype x = layer->blobs()[2]->cpu_data()[k], y = layer->blobs()[3]->cpu_data()[k];
      for (int i = 0; i < 7; ++i) {
        for (int j = 0; j < 7; ++j) {
          kernel[(dc * 7 + i) * 7 + j] += std::max(Dtype(0), 1 - std::fabs(y - (i - 3))) *
                                          std::max(Dtype(0), 1 - std::fabs(x - (j - 3))) *
                                          layer->blobs()[0]->cpu_data()[dc * 9 + k];
        }
      }
    }
  }
  dense.Forward(this->bottom_vec_, tops);
  this->ExpectNear(top.cpu_data(), this->top_.cpu_data(), top.count(), "dense");
}

TYPED_TEST(ActiveConvolutionLayerTest, TestReshapeBetweenForwards) {
  this->FillBottom(2, 3, 6, 5);
  auto layer = this->Make("convolution_param { num_output: 2 kernel_size: 3 pad: 1 weight_filler { type: 'msra' } }");
  this->Scatter(layer.get());
  this->ExpectTopIsReference(layer.get());
  const int shapes[][3] = {{5, 6, 5}, {1, 12, 17}, {3, 2, 3}, {2, 1, 1}};
  for (int i = 0; i < 4; ++i) {
    this->FillBottom(shapes[i][0], 3, shapes[i][1], shapes[i][2]);
    layer->Reshape(this->bottom_vec_, this->top_vec_);
    this->ExpectTopIsReference(layer.get());
  }
}

TYPED_TEST(ActiveConvolutionLayerTest, TestTwoBottoms) {
  typedef typename TypeParam::Dtype Dtype;
  this->FillBottom(2, 3, 6, 5);
  Blob<Dtype> other_bottom(2, 3, 6, 5), other_top;
  other_bottom.CopyFrom(this->bottom_);
  this->bottom_vec_.push_back(&other_bottom);
  this->top_vec_.push_back(&other_top);
  auto layer = this->Make("convolution_param { num_output: 2 kernel_size: 3 weight_filler { type: 'msra' } }");
  layer->Forward(this->bottom_vec_, this->top_vec_);
  this->ExpectNear(this->top_.cpu_data(), other_top.cpu_data(), this->top_.count(), "second top");
}

TYPED_TEST(ActiveConvolutionLayerTest, TestWorkspaceIsLimitedWhateverTheBatch) {
  this->OnAThread([&] {
    size_t bytes[2];
    for (int i = 0; i < 2; ++i) {
      this->FillBottom(i ? 256 : 64, 16, 16, 16);
      auto layer = this->Make("convolution_param { num_output: 16 kernel_size: 3 pad: 1 }");
      layer->Forward(this->bottom_vec_, this->top_vec_);
      this->FillDiff(&this->top_);
      layer->Backward(this->top_vec_, vector<bool>(1, true), this->bottom_vec_);
      bytes[i] = layer->workspace_bytes();
    }
    EXPECT_GT(bytes[0], 0);
    EXPECT_LE(bytes[1], 64 << 20);
    if (Caffe::mode() == Caffe::CPU) { EXPECT_LE(bytes[1], 1.1 * bytes[0]); }
  });
}

TYPED_TEST(ActiveConvolutionLayerTest, TestLayersOnAGpuShareOneWorkspace) {
  if (Caffe::mode() == Caffe::CPU) { return; }
  this->FillBottom(2, 3, 6, 5);
  auto small = this->Make("convolution_param { num_output: 2 kernel_size: 3 }");
  small->Forward(this->bottom_vec_, this->top_vec_);
  const size_t bytes = small->workspace_bytes();
  auto large = this->Make("convolution_param { num_output: 64 kernel_size: 3 }");
  large->Forward(this->bottom_vec_, this->top_vec_);
  EXPECT_GT(large->workspace_bytes(), bytes);
  EXPECT_EQ(large->workspace_bytes(), small->workspace_bytes());
}

TYPED_TEST(ActiveConvolutionLayerTest, TestWorkspaceOfALargeLayer) {
  this->OnAThread([&] {
    this->FillBottom(2, 512, 7, 7);
    auto layer = this->Make("convolution_param { num_output: 512 kernel_size: 3 pad: 1 }");
    layer->Forward(this->bottom_vec_, this->top_vec_);
    this->FillDiff(&this->top_);
    layer->Backward(this->top_vec_, vector<bool>(1, true), this->bottom_vec_);
    EXPECT_LE(layer->workspace_bytes(), 64 << 20);
  });
}

/// What another thread does with a layer of its own.
template <typename Dtype>
void RunElsewhere(int num, size_t* bytes) {
  ActiveSetThreads(1);
  LayerParameter param = Parse("convolution_param { num_output: 8 kernel_size: 3 pad: 1 }");
  Blob<Dtype> bottom(num, 8, 9, 9), top;
  vector<Blob<Dtype>*> bottoms(1, &bottom), tops(1, &top);
  ActiveConvolutionLayer<Dtype> layer(param);
  layer.SetUp(bottoms, tops);
  layer.Forward(bottoms, tops);
  *bytes = layer.workspace_bytes();
}

TYPED_TEST(ActiveConvolutionLayerTest, TestLayersOfAThreadShareAWorkspace) {
  if (Caffe::mode() != Caffe::CPU) { return; }
  typedef typename TypeParam::Dtype Dtype;
  this->OnAThread([&] {
    this->FillBottom(2, 8, 9, 9);
    auto first = this->Make("convolution_param { num_output: 8 kernel_size: 3 pad: 1 }");
    auto second = this->Make("convolution_param { num_output: 8 kernel_size: 3 pad: 1 }");
    first->Forward(this->bottom_vec_, this->top_vec_);
    const size_t bytes = first->workspace_bytes();
    second->Forward(this->bottom_vec_, this->top_vec_);
    EXPECT_GT(bytes, 0);
    EXPECT_EQ(bytes, second->workspace_bytes());
    this->FillDiff(&this->top_);
    second->Backward(this->top_vec_, vector<bool>(1, true), this->bottom_vec_);
    EXPECT_GT(second->workspace_bytes(), bytes);
    EXPECT_EQ(second->workspace_bytes(), first->workspace_bytes());  // one and the same
    size_t elsewhere = 0;
    std::thread(RunElsewhere<Dtype>, 2, &elsewhere).join();
    EXPECT_GT(elsewhere, 0);
    EXPECT_LT(elsewhere, second->workspace_bytes());  // another one
    first.reset();
    second.reset();
    auto third = this->Make("convolution_param { num_output: 8 kernel_size: 3 pad: 1 }");
    third->Forward(this->bottom_vec_, this->top_vec_);
    EXPECT_EQ(bytes, third->workspace_bytes());  // nobody held it any more
  });
}

TYPED_TEST(ActiveConvolutionLayerTest, TestWorkspaceOfWideImages) {
  if (Caffe::mode() != Caffe::CPU) { return; }
  this->OnAThread([&] {
    const int shapes[][3] = {{3, 2, 200000}, {64, 4, 16384}, {2, 20000, 3}};
    for (int i = 0; i < 3; ++i) {
      this->FillBottom(1, shapes[i][0], shapes[i][1], shapes[i][2]);
      auto layer = this->Make("convolution_param { num_output: 2 kernel_size: 3 pad: 1 stride: 2 }");
      this->Scatter(layer.get());
      layer->Forward(this->bottom_vec_, this->top_vec_);
      this->FillDiff(&this->top_);
      layer->Backward(this->top_vec_, vector<bool>(1, true), this->bottom_vec_);
      // Tile, frame and its gradient of the thread; the rest are weights and what bands of the image add to each other.
      EXPECT_LE(layer->workspace_bytes(), 4 << 20) << shapes[i][1] << " x " << shapes[i][2];
    }
  });
}

TYPED_TEST(ActiveConvolutionLayerTest, TestTwoRunsGiveTheSameBitsWithAnyNumberOfThreads) {
  this->FillBottom(7, 5, 9, 8);
  this->ExpectSameBits("num_output: 6 kernel_size: 3 pad: 1");
}

TYPED_TEST(ActiveConvolutionLayerTest, TestBandsOfOneImageGiveTheSameBits) {
  this->FillBottom(1, 20, 90, 40);
  this->ExpectSameBits("num_output: 6 kernel_size: 3 pad: 1");
  this->FillBottom(2, 4, 20, 200);
  this->ExpectSameBits("num_output: 6 kernel_size: 3 pad: 1 stride: 2 group: 2");
}

TYPED_TEST(ActiveConvolutionLayerTest, TestUntrainedEqualsConvolutionInManyBands) {
  this->FillBottom(1, 4, 67, 17);  // the backward pass cuts the image
  this->ExpectEqualsConvolution("num_output: 5 kernel_size: 3 pad: 1");
  this->ExpectEqualsConvolution("num_output: 5 kernel_size: 3 pad: 30 dilation: 30");  // bands reach over each other
  this->FillBottom(2, 4, 5, 700);
  this->ExpectEqualsConvolution("num_output: 4 kernel_size: 3 pad: 1");
  this->ExpectEqualsConvolution("num_output: 4 kernel_size: 5 pad: 2 stride: 2 group: 2");
}

TYPED_TEST(ActiveConvolutionLayerTest, TestFarPositionsContributeNothing) {
  typedef typename TypeParam::Dtype Dtype;
  this->FillBottom(1, 2, 5, 5);
  auto layer = this->Make("convolution_param { num_output: 2 kernel_size: 3 pad: 1 weight_filler { type: 'msra' } "
                          "bias_filler { type: 'constant' value: 3 } }");
  const Dtype far[] = {1e30f, -1e30f, std::numeric_limits<Dtype>::infinity(), 7, -7, 3e9f, -3e9f, 5.5, -5.5};
  std::copy(far, far + 9, layer->blobs()[2]->mutable_cpu_data());
  layer->Forward(this->bottom_vec_, this->top_vec_);
  for (int i = 0; i < this->top_.count(); ++i) { ASSERT_EQ(3, this->top_.cpu_data()[i]); }
  this->FillDiff(&this->top_);
  caffe_set(9, Dtype(0), layer->blobs()[2]->mutable_cpu_diff());
  caffe_set(9, Dtype(0), layer->blobs()[3]->mutable_cpu_diff());
  layer->Backward(this->top_vec_, vector<bool>(1, true), this->bottom_vec_);
  for (int k = 0; k < 9; ++k) {
    EXPECT_EQ(0, layer->blobs()[2]->cpu_diff()[k]) << k;
    EXPECT_EQ(0, layer->blobs()[3]->cpu_diff()[k]) << k;
  }
  for (int i = 0; i < this->bottom_.count(); ++i) { ASSERT_EQ(0, this->bottom_.cpu_diff()[i]); }
}

TYPED_TEST(ActiveConvolutionLayerTest, TestNaNPositionGivesNaN) {
  typedef typename TypeParam::Dtype Dtype;
  this->FillBottom(1, 1, 5, 5);
  auto layer = this->Make("convolution_param { num_output: 1 kernel_size: 3 weight_filler { type: 'msra' } }");
  layer->blobs()[2]->mutable_cpu_data()[4] = std::numeric_limits<Dtype>::quiet_NaN();
  layer->Forward(this->bottom_vec_, this->top_vec_);
  for (int i = 0; i < this->top_.count(); ++i) { ASSERT_TRUE(std::isnan(this->top_.cpu_data()[i])); }
}

/// A neighbour without a share in a sample does not show, in either pass, whatever computes it: a group of many channels,
/// groups side by side, groups of one channel.
TYPED_TEST(ActiveConvolutionLayerTest, TestANeighbourOfWeightZeroIsNotRead) {
  typedef typename TypeParam::Dtype Dtype;
  const Dtype infinity = std::numeric_limits<Dtype>::infinity();
  for (int group = 1; group <= 4; group *= 2) {
    for (int across = 0; across < 2; ++across) {
      this->FillBottom(1, 4, 3, 4);
      caffe_set(this->bottom_.count(), Dtype(1), this->bottom_.mutable_cpu_data());
      std::ostringstream text;
      text << "convolution_param { num_output: 4 kernel_size: 1 bias_term: false group: " << group
           << " weight_filler { type: 'constant' value: " << group * 0.25 << " } } active_convolution_param { position { "
           << (across ? "x" : "y") << ": 0.5 } }";
      auto layer = this->Make(text.str());
      caffe_set(this->top_.count(), Dtype(1), this->top_.mutable_cpu_diff());
      for (int c = 0; c < 4; ++c) {
        this->bottom_.mutable_cpu_data()[this->bottom_.offset(0, c, 1, 2)] = infinity;
        this->top_.mutable_cpu_diff()[this->top_.offset(0, c, 1, 2)] = infinity;
      }
      layer->Forward(this->bottom_vec_, this->top_vec_);
      layer->Backward(this->top_vec_, vector<bool>(1, true), this->bottom_vec_);
      for (int m = 0; m < 3; ++m) {
        for (int n = 0; n < 4; ++n) {
          const bool reads = across ? m == 1 && (n == 1 || n == 2) : n == 2 && (m == 0 || m == 1);
          const bool is_read = across ? m == 1 && (n == 2 || n == 3) : n == 2 && (m == 1 || m == 2);
          EXPECT_EQ(reads, std::isinf(this->top_.data_at(0, 0, m, n))) << text.str() << m << n;
          EXPECT_EQ(is_read, std::isinf(this->bottom_.diff_at(0, 0, m, n))) << text.str() << m << n;
          EXPECT_FALSE(std::isnan(this->top_.data_at(0, 0, m, n))) << text.str() << m << n;
          EXPECT_FALSE(std::isnan(this->bottom_.diff_at(0, 0, m, n))) << text.str() << m << n;
        }
      }
    }
  }
}

TYPED_TEST(ActiveConvolutionLayerTest, TestGradient) {
  this->FillBottom(2, 2, 5, 4);
  this->ExpectGradients(std::string("convolution_param { num_output: 2 kernel_size: 3 weight_filler { type: 'gaussian' } "
      "bias_filler { type: 'gaussian' } } active_convolution_param { ") + kOffLattice + "}");
}

TYPED_TEST(ActiveConvolutionLayerTest, TestGradientManyGroups) {
  this->FillBottom(1, 4, 3, 2);
  for (const int group : {2, 4}) {
    this->ExpectGradients("convolution_param { num_output: 4 kernel_h: 2 kernel_w: 1 group: " + std::to_string(group) +
        " weight_filler { type: 'gaussian' std: 1 } } active_convolution_param { position { x: -0.4 y: 0.3 } "
        "position { x: 0.7 y: -0.6 } }");
  }
}

TYPED_TEST(ActiveConvolutionLayerTest, TestGradientStridedGroupedSets) {
  this->FillBottom(2, 4, 5, 4);
  this->ExpectGradients("convolution_param { num_output: 4 group: 2 kernel_h: 1 kernel_w: 2 stride: 2 pad: 1 "
      "weight_filler { type: 'gaussian' } bias_term: false } active_convolution_param { position_group: 4 "
      "position { x: 0.3 y: -0.4 } position { x: 1.5 y: 0.8 } position { x: -1.2 y: 0.6 } position { x: 2.5 y: 1.8 } "
      "position { x: 0.7 y: -1.4 } position { x: -2.5 y: 0.2 } position { x: 0.4 y: 0.4 } position { x: 9.5 y: 0.5 } }");
}

TYPED_TEST(ActiveConvolutionLayerTest, TestParametersGetTheirRates) {
  this->FillBottom(1, 2, 5, 5);
  const std::string conv = " convolution_param { num_output: 2 kernel_size: 3 } ";
  auto layer = this->Make("param { lr_mult: 3 decay_mult: 4 }" + conv);
  ASSERT_EQ(4, layer->layer_param().param_size());
  EXPECT_EQ(3, layer->layer_param().param(0).lr_mult());
  EXPECT_EQ(1, layer->layer_param().param(1).lr_mult());
  for (int i = 2; i < 4; ++i) {
    EXPECT_FLOAT_EQ(0.01, layer->layer_param().param(i).lr_mult());
    EXPECT_EQ(0, layer->layer_param().param(i).decay_mult());
  }
  layer = this->Make("param {} param {} param { lr_mult: 5 } param { decay_mult: 6 }" + conv +
                     "active_convolution_param { position_lr_mult: 0.5 }");
  EXPECT_EQ(5, layer->layer_param().param(2).lr_mult());
  EXPECT_EQ(0, layer->layer_param().param(2).decay_mult());
  EXPECT_FLOAT_EQ(0.5, layer->layer_param().param(3).lr_mult());
  EXPECT_EQ(6, layer->layer_param().param(3).decay_mult());
}

TYPED_TEST(ActiveConvolutionLayerTest, TestFrozenPositionsGetNoGradient) {
  typedef typename TypeParam::Dtype Dtype;
  this->FillBottom(1, 2, 5, 5);
  auto layer = this->Make("convolution_param { num_output: 2 kernel_size: 3 weight_filler { type: 'msra' } } "
                          "active_convolution_param { position_lr_mult: 0 }");
  this->FillDiff(&this->top_);
  for (int i = 0; i < 4; ++i) { caffe_set(layer->blobs()[i]->count(), Dtype(0), layer->blobs()[i]->mutable_cpu_diff()); }
  layer->Backward(this->top_vec_, vector<bool>(1, true), this->bottom_vec_);
  EXPECT_EQ(0, layer->blobs()[2]->asum_diff());
  EXPECT_EQ(0, layer->blobs()[3]->asum_diff());
  EXPECT_GT(layer->blobs()[0]->asum_diff(), 0);
}

TYPED_TEST(ActiveConvolutionLayerTest, TestNormalisedGradientsAreKeptFromTheClipping) {
  this->FillBottom(1, 1, 5, 5);
  auto layer = this->Make("convolution_param { num_output: 1 kernel_size: 3 } active_convolution_param { warmup_iter: 10 }");
  this->FillPositionDiff(layer.get());
  layer->BeforeClipping(9);
  this->ExpectPositionDiff(layer.get(), 0, 0);
  layer->AfterClipping(4, false, 0.5);
  this->ExpectPositionDiff(layer.get(), 0, 0);  // warming up

  this->FillPositionDiff(layer.get());
  layer->BeforeClipping(10);
  this->ExpectPositionDiff(layer.get(), 0, 0);
  layer->AfterClipping(4, false, 0.5);
  this->ExpectPositionDiff(layer.get(), 4 * 0.6, 4 * -0.8);
}

TYPED_TEST(ActiveConvolutionLayerTest, TestAdaptiveSolversTakePlainSteps) {
  this->FillBottom(1, 1, 5, 5);
  auto layer = this->Make("convolution_param { num_output: 1 kernel_size: 3 } active_convolution_param { position_lr_mult: 0.2 }");
  this->FillPositionDiff(layer.get());
  layer->BeforeClipping(0);
  layer->AfterClipping(4, true, 0.5);
  this->ExpectPositionDiff(layer.get(), 0, 0);
  for (int k = 0; k < 9; ++k) {
    const bool moves = k != 4 && k != 8;  // the origin, and no gradient
    EXPECT_NEAR(k % 3 - 1 - (moves ? 0.5 * 0.2 * 0.6 : 0), layer->blobs()[2]->cpu_data()[k], 1e-6) << k;
    EXPECT_NEAR(k / 3 - 1 + (moves ? 0.5 * 0.2 * 0.8 : 0), layer->blobs()[3]->cpu_data()[k], 1e-6) << k;
  }
}

TYPED_TEST(ActiveConvolutionLayerTest, TestRawGradientsAreClippedAsTheyAre) {
  this->FillBottom(1, 1, 5, 5);
  auto layer = this->Make("convolution_param { num_output: 1 kernel_size: 3 } "
                          "active_convolution_param { warmup_iter: 10 normalize_gradient: false fix_origin: false }");
  for (int adaptive = 0; adaptive < 2; ++adaptive) {
    this->FillPositionDiff(layer.get());
    layer->BeforeClipping(10);
    layer->AfterClipping(4, adaptive, 0.5);
    for (int k = 0; k < 8; ++k) {
      EXPECT_EQ(3 * (k + 1), layer->blobs()[2]->cpu_diff()[k]);
      EXPECT_EQ(-4 * (k + 1), layer->blobs()[3]->cpu_diff()[k]);
      EXPECT_EQ(k % 3 - 1, layer->blobs()[2]->cpu_data()[k]);
    }
    layer->BeforeClipping(9);
    this->ExpectPositionDiff(layer.get(), 0, 0);
  }
}

TYPED_TEST(ActiveConvolutionLayerTest, TestOneFrozenCoordinateLeavesTheOtherByItself) {
  this->FillBottom(1, 1, 5, 5);
  auto layer = this->Make("param { } param { } param { } param { lr_mult: 0 } convolution_param { num_output: 1 kernel_size: 3 }");
  this->FillPositionDiff(layer.get());
  layer->BeforeClipping(0);
  layer->AfterClipping(4, false, 0.5);
  this->ExpectPositionDiff(layer.get(), 4, 0);
}

TYPED_TEST(ActiveConvolutionLayerTest, TestUpdateOfTinyGradients) {
  typedef typename TypeParam::Dtype Dtype;
  this->FillBottom(1, 1, 5, 5);
  auto layer = this->Make("convolution_param { num_output: 1 kernel_size: 3 }");
  layer->blobs()[2]->mutable_cpu_diff()[0] = std::numeric_limits<Dtype>::denorm_min() * 8;
  layer->blobs()[3]->mutable_cpu_diff()[0] = 0;
  layer->BeforeClipping(0);
  layer->AfterClipping(1, false, 0);
  EXPECT_EQ(1, layer->blobs()[2]->cpu_diff()[0]);
}

TYPED_TEST(ActiveConvolutionLayerTest, TestPositionsStayWithinTheLimit) {
  this->FillBottom(1, 1, 5, 5);
  auto layer = this->Make("convolution_param { num_output: 1 kernel_size: 3 } active_convolution_param { position_limit: 2 }");
  layer->blobs()[2]->mutable_cpu_data()[0] = -3;
  layer->blobs()[3]->mutable_cpu_data()[0] = 7.5;
  layer->AfterUpdate();
  for (int k = 0; k < 9; ++k) {
    EXPECT_EQ(k ? k % 3 - 1 : -2, layer->blobs()[2]->cpu_data()[k]) << k;
    EXPECT_EQ(k ? k / 3 - 1 : 2, layer->blobs()[3]->cpu_data()[k]) << k;
  }
}

TYPED_TEST(ActiveConvolutionLayerTest, TestLayerIsRegistered) {
  this->FillBottom(1, 1, 5, 5);
  shared_ptr<Layer<typename TypeParam::Dtype> > layer =
      LayerRegistry<typename TypeParam::Dtype>::CreateLayer(Parse("convolution_param { num_output: 1 kernel_size: 3 }"));
  EXPECT_STREQ("ActiveConvolution", layer->type());
}

/// Messages name the layer, the parameter and what is allowed.
class ActiveConvolutionErrorTest : public ::testing::Test {
 protected:
  ActiveConvolutionErrorTest() : bottom_(2, 4, 5, 5) {
    ::testing::FLAGS_gtest_death_test_style = "threadsafe";
    Caffe::set_mode(Caffe::CPU);
  }

  void ExpectDeath(const std::string& text, const std::string& message) {
    EXPECT_DEATH(SetUpLayer(text), "Layer 'acu' \\(ActiveConvolution\\): " + message) << text;
  }

  void SetUpLayer(const std::string& text) {
    Blob<float> top;
    vector<Blob<float>*> bottoms(1, &bottom_), tops(1, &top);
    ActiveConvolutionLayer<float> layer(Parse(text));
    layer.SetUp(bottoms, tops);
  }

  Blob<float> bottom_;
};

TEST_F(ActiveConvolutionErrorTest, TestConvolutionParam) {
  const char* cases[][2] = {
      {"num_output: 4", "convolution_param.kernel_size is 0 x 0; allowed: 1 to"},
      {"num_output: 4 kernel_size: 0", "convolution_param.kernel_size is 0 x 0"},
      {"num_output: 4 kernel_h: 3", "convolution_param.kernel_size_h and _w must be given together"},
      {"num_output: 4 kernel_size: 3 kernel_h: 3 kernel_w: 3", "convolution_param.kernel_size and its _h, _w forms"},
      {"num_output: 4 kernel_size: 3 kernel_size: 3 kernel_size: 3", "convolution_param.kernel_size is given 3 times"},
      {"num_output: 4 kernel_size: 3 stride: 0", "convolution_param.stride is 0 x 0; allowed: 1 to"},
      {"num_output: 4 kernel_size: 3 pad: 4294967295", "convolution_param.pad is 4294967295 x 4294967295; allowed: 0 to"},
      {"num_output: 4 kernel_size: 3 dilation: 0", "convolution_param.dilation is 0 x 0"},
      {"kernel_size: 3", "convolution_param.num_output is 0; allowed: 1 to 2147483647"},
      {"num_output: 4 kernel_size: 3 group: 3", "convolution_param.group is 3; allowed: divisors of both the 4 input"},
      {"num_output: 6 kernel_size: 3 group: 4", "convolution_param.group is 4"},
      {"num_output: 4 kernel_size: 3 group: 0", "convolution_param.group is 0"},
      {"num_output: 4 kernel_size: 3 axis: 2", "convolution_param.axis is 2; allowed: 1"},
      {"num_output: 4 kernel_size: 3 force_nd_im2col: true", "convolution_param.force_nd_im2col is true"},
      {"num_output: 4 kernel_size: 3 engine: CUDNN", "convolution_param.engine is CUDNN; allowed: DEFAULT, CAFFE"},
      {"num_output: 4294967295 kernel_size: 3", "convolution_param.num_output is 4294967295; allowed: 1 to 2147483647"},
      {"num_output: 4 kernel_size: 46341", "convolution_param.kernel_size is 46341 x 46341, which is 2147488281 synapses; allowed: at most 1048576"},
      {"num_output: 4 kernel_h: 1048576 kernel_w: 2", "convolution_param.kernel_size is 1048576 x 2, which is 2097152 synapses"},
      {"num_output: 1073741824 kernel_size: 1", "the weights are 1073741824 x 4 x 1 x 1; allowed: at most 2147483647 of them"},
      {"num_output: 4 kernel_size: 1024 dilation: 1048576", "the kernel covers 1072693249 x 1072693249 pixels"},
      {"num_output: 4 kernel_size: 1025 dilation: 1048576", "convolution_param.kernel_size is 1025 x 1025"},
      {"num_output: 4 kernel_h: 2000 kernel_w: 1 dilation: 1048576", "convolution_param.dilation is 1048576 x 1048576, and the"},
      {"num_output: 4 kernel_size: 1 pad: 1048576", "the top is 2 x 4 x 2097157 x 2097157; allowed: at most 2147483647 elem"},
      {"num_output: 4 kernel_size: 7", "the kernel covers 7 x 7 pixels; allowed: at most the padded input, 5 x 5"}};
  for (int i = 0; i < sizeof(cases) / sizeof(cases[0]); ++i) {
    ExpectDeath(std::string("convolution_param { ") + cases[i][0] + " }", cases[i][1]);
  }
}

TEST_F(ActiveConvolutionErrorTest, TestActiveConvolutionParam) {
  const std::string conv = "convolution_param { num_output: 4 kernel_size: 2 } active_convolution_param { ";
  ExpectDeath(conv + "position_group: 3 }", "active_convolution_param.position_group is 3; allowed: divisors of num_output 4");
  ExpectDeath(conv + "position_group: 0 }", "active_convolution_param.position_group is 0");
  ExpectDeath(conv + "position_lr_mult: -1 }", "active_convolution_param.position_lr_mult is -1; allowed: 0 and more");
  ExpectDeath(conv + "position_limit: -1 }", "active_convolution_param.position_limit is -1; allowed: 0 \\(none\\) and more");
  ExpectDeath(conv + "position_limit: 0.5 }", "active_convolution_param.position_limit is 0.5, and synapse 1 starts at \\(1, 0\\); allowed: 0");
  ExpectDeath(conv + "position { x: 1 } }", "active_convolution_param has 1 positions; allowed: none, the 4 synapses");
  ExpectDeath(conv + "position { x: nan } position { } position { } position { } }",
              "active_convolution_param.position 0 is \\(-?nan, 0\\); allowed: finite numbers");
  ExpectDeath("convolution_param { num_output: 4 kernel_size: 1 dilation: 2 } active_convolution_param { position { } }",
              "convolution_param.dilation is 2 x 2; allowed with explicit positions: 1");
}

TEST_F(ActiveConvolutionErrorTest, TestBlobs) {
  const std::string conv = "convolution_param { num_output: 4 kernel_size: 1 } ";
  ExpectDeath(conv + "blobs { shape { dim: 4 } data: [0, 0, 0, 0] }", "has 1 blobs; expected: 4");
  const std::string weight = "blobs { shape { dim: 4 dim: 4 dim: 1 dim: 1 } data: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, "
                             "0, 0, 0] } ";
  const std::string bias = "blobs { shape { dim: 4 } data: [0, 0, 0, 0] } ";
  const std::string two = "blobs { shape { dim: 2 dim: 1 dim: 1 dim: 1 } data: [0, 0] } ";
  ExpectDeath(conv + weight + bias + two + two, "blob 2 has shape 2 1 1 1 \\(2\\); expected: 1 1 1 1 \\(1\\)");
}

/// Two layers on one input, with these `param` entries for x and y and this active_convolution_param.
NetParameter TwoLayers(const std::string& first, const std::string& second) {
  const std::string conv = "bottom: 'in' convolution_param { num_output: 2 kernel_size: 3 } param { } param { } ";
  NetParameter net;
  CHECK(google::protobuf::TextFormat::ParseFromString(
      "layer { name: 'in' type: 'Input' top: 'in' input_param { shape { dim: 1 dim: 2 dim: 5 dim: 5 } } } "
      "layer { name: 'first' type: 'ActiveConvolution' top: 'a' " + conv + first + " } "
      "layer { name: 'second' type: 'ActiveConvolution' top: 'b' " + conv + second + " }", &net));
  return net;
}

TEST_F(ActiveConvolutionErrorTest, TestSharingOnePositionBlob) {
  const char* cases[][3] = {
      {"param { name: 'x' } param { name: 'y' }", "param { name: 'x' }", "2 with layer 'first', but not blob 3"},
      {"param { name: 'x' } param { name: 'y' }", "param { } param { name: 'y' }", "3 with layer 'first', but not blob 2"},
      {"param { name: 'x' } param { name: 'y' }", "param { name: 'x' } param { name: 'z' }", "2 with .* but not blob 3"},
      {"param { name: 'x' } param { name: 'y' }", "param { name: 'y' } param { name: 'x' }", "2 with .* but not blob 3"},
      {"param { name: 'x' }", "param { name: 'x' }", "2 with layer 'first', but not blob 3"},
      {"", "param { name: 'x' } param { name: 'x' }", "3 with layer 'second', but not blob 2"}};
  for (int i = 0; i < sizeof(cases) / sizeof(cases[0]); ++i) {
    EXPECT_DEATH(Net<float> net(TwoLayers(cases[i][0], cases[i][1])),
                 std::string("Layer 'second' \\(ActiveConvolution\\): shares blob ") + cases[i][2] +
                 "; allowed: both position blobs or none \\(give `param` entries 2 and 3 the same names") << i;
  }
  Net<float> named(TwoLayers("param { name: 'x' }", "param { name: 'z' }"));  // shares none
}

TEST_F(ActiveConvolutionErrorTest, TestSharersThatSayOtherwise) {
  const std::string names = "param { name: 'x' } param { name: 'y' } ", active = "active_convolution_param { ";
  const std::string rated = "param { name: 'x' } param { name: 'y' lr_mult: 3 } ";
  const std::string cases[][3] = {
      {names, rated, "lr_mult of the positions is 3; allowed: 0.01, as in layer 'first'"},
      {rated, names + active + "position_lr_mult: 0.2 }", "lr_mult of the positions is 0.2; allowed: 0.01"},
      {names, "param { name: 'x' decay_mult: 1 } param { name: 'y' }", "decay_mult of the positions is 1; allowed: 0"},
      {names + active + "warmup_iter: 5 }", names + active + "warmup_iter: 6 }", "warmup_iter .* is 6; allowed: 5"},
      {names, names + active + "normalize_gradient: false }", "normalize_gradient of the positions is 0; allowed: 1"},
      {names, names + active + "fix_origin: false }", "fix_origin of the positions is 0; allowed: 1"}};
  for (int i = 0; i < sizeof(cases) / sizeof(cases[0]); ++i) {
    EXPECT_DEATH(Net<float> net(TwoLayers(cases[i][0], cases[i][1])),
                 "Layer 'second' \\(ActiveConvolution\\): " + cases[i][2]) << i;
  }
}

TEST_F(ActiveConvolutionErrorTest, TestASharerTakesRateAndDecayOfTheOwner) {
  const std::string names = "param { name: 'x' } param { name: 'y' } ";
  Net<float> net(TwoLayers("param { name: 'x' lr_mult: 0.1 } param { name: 'y' decay_mult: 2 } "
                           "active_convolution_param { position_lr_mult: 0.5 }", names));
  ASSERT_STREQ("ActiveConvolution", net.layers().back()->type());
  for (int i = 1; i <= 2; ++i) {
    const LayerParameter& param = net.layers()[net.layers().size() - i]->layer_param();
    EXPECT_FLOAT_EQ(0.1, param.param(2).lr_mult());
    EXPECT_FLOAT_EQ(0, param.param(2).decay_mult());
    EXPECT_FLOAT_EQ(0.5, param.param(3).lr_mult());
    EXPECT_FLOAT_EQ(2, param.param(3).decay_mult());
  }
}

TEST_F(ActiveConvolutionErrorTest, TestInPlace) {
  vector<Blob<float>*> blobs(1, &bottom_);
  ActiveConvolutionLayer<float> layer(Parse("convolution_param { num_output: 4 kernel_size: 3 pad: 1 }"));
  EXPECT_DEATH(layer.SetUp(blobs, blobs), "Layer 'acu' \\(ActiveConvolution\\): bottom 0 is a top, too; allowed: a top of");
}

TEST_F(ActiveConvolutionErrorTest, TestBottomShape) {
  bottom_.Reshape(vector<int>(3, 4));
  ExpectDeath("convolution_param { num_output: 4 kernel_size: 1 }", "the bottom has shape 4 4 4 \\(64\\); allowed: num x");
  bottom_.Reshape(2, 0, 5, 5);
  ExpectDeath("convolution_param { num_output: 4 kernel_size: 1 }", "the bottom has no channels; allowed: 1 and more");
  bottom_.Reshape(0, 4, 1 << 30, 1);
  ExpectDeath("convolution_param { num_output: 4 kernel_size: 1 pad: 1 }",
              "the padded input is 1073741826 x 3 pixels; allowed: at most 1073741824 in each dimension");
}

}  // namespace caffe
