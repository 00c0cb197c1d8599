#include <algorithm>
#include <cmath>
#include <limits>
#include <sstream>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "google/protobuf/text_format.h"

#include "caffe/layer_factory.hpp"
#include "caffe/test/active_random_test.hpp"
#include "caffe/util/active_machine.hpp"
#include "caffe/util/fast_layers.hpp"
#include "caffe/util/fast_parallel.hpp"

#include "caffe/test/test_caffe_main.hpp"

namespace caffe {

/// Caffe's layers with our loops against the same layers with Caffe's own, on random shapes: everything that a forward
/// and a backward pass write, and the same bits for any number of threads.
template <typename Dtype>
class FastLayersTest : public ActiveRandomTest<Dtype> {
 protected:
  typedef std::vector<int> Shape;
  typedef std::vector<Dtype> Vector;

  using ActiveRandomTest<Dtype>::Random;
  using ActiveRandomTest<Dtype>::Uniform;
  using ActiveRandomTest<Dtype>::RandomVector;

  FastLayersTest() : threads_(ActiveMaxThreads()) {}
  virtual ~FastLayersTest() {
    UseFastLayers() = true;
    ActiveSetThreads(threads_);
  }

  /// A layer, what it gets, and how it is run.
  struct Case {
    std::string layer;            // its prototxt
    std::vector<Shape> bottoms;
    int tops;
    bool in_place;
    int classes;                  // if not 0, the last bottom holds labels below that
    std::vector<bool> propagate;  // one per bottom

    Case(const std::string& layer, const std::vector<Shape>& bottoms)
        : layer(layer), bottoms(bottoms), tops(1), in_place(false), classes(0), propagate(bottoms.size(), true) {}
  };

  /// Names and values of all that a run has written.
  struct Written {
    std::vector<std::string> names;
    std::vector<Vector> values;

    void Add(const std::string& name, const Dtype* from, int count) {
      names.push_back(name);
      values.push_back(Vector(from, from + count));
    }
  };

  void Fill(int count, Dtype* to) {
    for (int i = 0; i < count; ++i) { to[i] = Uniform(); }
  }

  /// Two rounds of both passes, with values that `seed` draws.
  Written Run(const Case& c, int seed, bool fast, int threads) {
    UseFastLayers() = fast;
    ActiveSetThreads(threads);
    CHECK_EQ(threads, ActiveMaxThreads()) << "libcaffe was built without OpenMP";
    Caffe::set_random_seed(seed);
    LayerParameter parameter;
    CHECK(google::protobuf::TextFormat::ParseFromString(c.layer, &parameter)) << c.layer;
    shared_ptr<Layer<Dtype> > layer = LayerRegistry<Dtype>::CreateLayer(parameter);
    std::vector<shared_ptr<Blob<Dtype> > > blobs;
    std::vector<Blob<Dtype>*> bottoms, tops;
    for (const Shape& shape : c.bottoms) {
      blobs.push_back(shared_ptr<Blob<Dtype> >(new Blob<Dtype>(shape)));
      bottoms.push_back(blobs.back().get());
    }
    for (int i = 0; i < c.tops; ++i) {
      blobs.push_back(shared_ptr<Blob<Dtype> >(new Blob<Dtype>()));
      tops.push_back(c.in_place ? bottoms[0] : blobs.back().get());
    }
    layer->SetUp(bottoms, tops);
    for (const shared_ptr<Blob<Dtype> >& blob : layer->blobs()) {
      Fill(blob->count(), blob->mutable_cpu_data());
      Fill(blob->count(), blob->mutable_cpu_diff());
      for (int i = 0; i < blob->count(); ++i) { blob->mutable_cpu_data()[i] += 2; }  // variances are positive
    }
    Written written;
    for (int round = 0; round < 2; ++round) {
      for (int i = 0; i < bottoms.size(); ++i) { Fill(bottoms[i]->count(), bottoms[i]->mutable_cpu_data()); }
      if (c.classes) {
        Blob<Dtype>* labels = bottoms.back();
        for (int i = 0; i < labels->count(); ++i) { labels->mutable_cpu_data()[i] = Random(0, c.classes - 1); }
      }
      layer->Forward(bottoms, tops);
      for (int i = 0; i < tops.size(); ++i) {
        written.Add("top", tops[i]->cpu_data(), tops[i]->count());
        Fill(tops[i]->count(), tops[i]->mutable_cpu_diff());
      }
      layer->Backward(tops, c.propagate, bottoms);
      for (int i = 0; i < bottoms.size(); ++i) {
        if (c.propagate[i]) { written.Add("gradient of a bottom", bottoms[i]->cpu_diff(), bottoms[i]->count()); }
      }
      for (const shared_ptr<Blob<Dtype> >& blob : layer->blobs()) {
        written.Add("parameter", blob->cpu_data(), blob->count());
        written.Add("gradient of a parameter", blob->cpu_diff(), blob->count());
      }
    }
    return written;
  }

  static constexpr bool kFloat = sizeof(Dtype) == sizeof(float);

  /// Where results are sums over many elements, or come from such.
  void CheckSums(const Case& c) { Check(c, kFloat ? 2e-4 : 1e-12); }

  void Check(const Case& c, double tolerance = kFloat ? 2e-6 : 1e-14) {
    const int seed = Random(1, 1 << 20);
    std::ostringstream name;
    name << c.layer << (c.in_place ? ", in place" : "");
    for (const Shape& shape : c.bottoms) {
      name << ", bottom";
      for (int size : shape) { name << " " << size; }
    }
    const Written expected = Run(c, seed, false, 1), found = Run(c, seed, true, 1);
    ASSERT_EQ(expected.names, found.names) << name.str();
    for (int i = 0; i < found.values.size(); ++i) {
      ASSERT_EQ(expected.values[i].size(), found.values[i].size());
      double largest = 1;
      for (Dtype value : expected.values[i]) { largest = std::max<double>(largest, std::abs(value)); }
      for (int j = 0; j < found.values[i].size(); ++j) {
        ASSERT_NEAR(expected.values[i][j], found.values[i][j], largest * tolerance)
            << found.names[i] << ", element " << j << " of " << name.str();
      }
    }
    ASSERT_EQ(found.values, Run(c, seed, true, 3).values) << "3 threads, " << name.str();
    Caffe::set_random_seed(seed + 1);
  }

  /// Of 1 to `most_axes` axes; now and then of so many elements that threads share them.
  Shape RandomShape(int least_axes, int most_axes) {
    Shape shape(Random(least_axes, most_axes));
    for (int& size : shape) { size = Random(1, 9); }
    if (Random(0, 5) == 0) { shape[Random(0, shape.size() - 1)] = Random(10, 99); }
    if (Random(0, 9) == 0) {
      int count = 1;
      for (int size : shape) { count *= size; }
      shape[Random(0, shape.size() - 1)] *= kFastSerial / count + 1;
    }
    return shape;
  }

  std::string RandomPhase() { return Random(0, 1) ? "phase: TRAIN " : "phase: TEST "; }
  bool RandomBool() { return Random(0, 1); }

  template <typename... Parts>
  static std::string Text(const Parts&... parts) {
    std::ostringstream text;
    const int ignored[] = {(text << parts, 0)...};
    (void)ignored;
    return text.str();
  }

  static const int kCases = 60;
  const int threads_;
};

typedef ::testing::Types<float, double> FastTypes;
TYPED_TEST_CASE(FastLayersTest, FastTypes);

#define FAST_TYPES \
  typedef typename FastLayersTest<TypeParam>::Case Case; \
  typedef std::vector<int> Shape

TYPED_TEST(FastLayersTest, ReLU) {
  FAST_TYPES;
  for (int i = 0; i < this->kCases; ++i) {
    Case c(this->Text("type: 'ReLU' relu_param { negative_slope: ", this->Random(0, 2) * 0.125, " }"),
           {this->RandomShape(1, 4)});
    c.in_place = this->RandomBool();
    c.propagate[0] = this->Random(0, 4) > 0;
    this->Check(c);
  }
}

/// A lost network shows.
TYPED_TEST(FastLayersTest, ReLUKeepsNaN) {
  LayerParameter parameter;
  parameter.set_type("ReLU");
  shared_ptr<Layer<TypeParam> > layer = LayerRegistry<TypeParam>::CreateLayer(parameter);
  Blob<TypeParam> bottom(std::vector<int>(1, 40)), top;
  const std::vector<Blob<TypeParam>*> bottoms(1, &bottom), tops(1, &top);
  layer->SetUp(bottoms, tops);
  for (int i = 0; i < 40; ++i) { bottom.mutable_cpu_data()[i] = std::numeric_limits<TypeParam>::quiet_NaN(); }
  layer->Forward(bottoms, tops);
  for (int i = 0; i < 40; ++i) { EXPECT_TRUE(std::isnan(top.cpu_data()[i])); }
}

TYPED_TEST(FastLayersTest, Eltwise) {
  FAST_TYPES;
  for (int i = 0; i < this->kCases; ++i) {
    const char* operations[] = {"SUM", "SUM", "PROD", "MAX"};
    const std::string operation = operations[this->Random(0, 3)];
    const std::vector<Shape> bottoms(this->Random(2, 4), this->RandomShape(1, 4));
    std::string coefficients;
    for (int j = 0; j < bottoms.size() && operation == "SUM" && i % 2; ++j) {
      coefficients += this->Text(" coeff: ", this->Random(-4, 4) * 0.5);
    }
    Case c(this->Text("type: 'Eltwise' eltwise_param { operation: ", operation, coefficients, " }"), bottoms);
    c.propagate[0] = this->RandomBool();
    this->Check(c);
  }
}

TYPED_TEST(FastLayersTest, Split) {
  FAST_TYPES;
  for (int i = 0; i < this->kCases; ++i) {
    Case c("type: 'Split'", {this->RandomShape(1, 4)});
    c.tops = this->Random(1, 4);
    c.propagate[0] = this->Random(0, 4) > 0;
    this->Check(c);
  }
}

TYPED_TEST(FastLayersTest, ScaleAndBias) {
  FAST_TYPES;
  for (int i = 0; i < 3 * this->kCases; ++i) {
    const Shape shape = this->RandomShape(1, 4);
    const int axis = this->Random(0, shape.size() - 1), axes = this->Random(0, shape.size() - axis);
    const bool scale = this->Random(0, 2), learnt = this->RandomBool();
    std::vector<Shape> bottoms(1, shape);
    if (!learnt) { bottoms.push_back(Shape(shape.begin() + axis, shape.begin() + axis + axes)); }
    std::string text = this->Text(scale ? "type: 'Scale' scale_param" : "type: 'Bias' bias_param", " { axis: ", axis,
                                  " num_axes: ", axes);
    if (scale && this->RandomBool()) { text += " bias_term: true"; }
    Case c(text + " }", bottoms);
    c.in_place = this->RandomBool();
    for (int j = 0; j < bottoms.size(); ++j) { c.propagate[j] = this->Random(0, 4) > 0; }
    this->CheckSums(c);
  }
}

TYPED_TEST(FastLayersTest, BatchNorm) {
  FAST_TYPES;
  for (int i = 0; i < 2 * this->kCases; ++i) {
    const Shape shape = this->RandomShape(2, 4);
    int count = 1;
    for (int size : shape) { count *= size; }
    const char* stored[] = {"", " use_global_stats: true", " use_global_stats: false"};
    std::string text = this->RandomPhase() + "type: 'BatchNorm' batch_norm_param { moving_average_fraction: 0.9";
    text += count / shape[1] < 8 ? " eps: 1" : this->RandomBool() ? " eps: 0.01" : "";  // of few values, rounding decides
    Case c(text + stored[this->Random(0, 2)] + " }", {shape});
    c.in_place = this->RandomBool();
    this->CheckSums(c);
  }
}

TYPED_TEST(FastLayersTest, Pooling) {
  FAST_TYPES;
  for (int i = 0; i < 2 * this->kCases; ++i) {
    Shape shape = this->RandomShape(4, 4);
    shape[2] += 2;
    shape[3] += 2;
    const bool average = this->RandomBool(), global = this->Random(0, 4) == 0;
    std::string text = this->Text("type: 'Pooling' pooling_param { pool: ", average ? "AVE" : "MAX");
    if (global) {
      text += " global_pooling: true }";
    } else {
      const int kernel_h = this->Random(1, 3), kernel_w = this->Random(1, 3);
      text += this->Text(" kernel_h: ", kernel_h, " kernel_w: ", kernel_w, " stride_h: ", this->Random(1, kernel_h),
                         " stride_w: ", this->Random(1, kernel_w), " pad_h: ", this->Random(0, kernel_h - 1),
                         " pad_w: ", this->Random(0, kernel_w - 1), " }");
    }
    Case c(text, {shape});
    c.tops = average ? 1 : this->Random(1, 2);
    c.propagate[0] = this->Random(0, 4) > 0;
    this->CheckSums(c);
  }
}

TYPED_TEST(FastLayersTest, Convolution) {
  FAST_TYPES;
  for (int i = 0; i < this->kCases; ++i) {
    const int group = this->Random(0, 3) ? 1 : this->Random(2, 3), images = this->Random(1, 3);
    const bool large = this->Random(0, 9) == 0;
    Shape shape(this->Random(2, 4));
    for (int& size : shape) { size = this->Random(1, 9); }
    shape[0] = large ? this->Random(20, 40) : this->Random(1, 4);
    shape[1] = group * (large ? this->Random(100, 200) : this->Random(1, 40));
    const std::vector<Shape> bottoms(images, shape);
    std::string text = this->Text("type: 'Convolution' convolution_param { engine: CAFFE num_output: ",
                                  group * this->Random(1, this->Random(0, 9) ? 30 : 300), " group: ", group);
    if (this->RandomBool()) { text += " bias_term: false"; }
    if (shape.size() > 2) { text += " kernel_size: 1"; }
    if (shape.size() == 4) { text += this->Text(" stride_h: ", this->Random(1, 2), " stride_w: ", this->Random(1, 3)); }
    Case c(text + " weight_filler { type: 'xavier' } }", bottoms);
    c.tops = images;
    for (int j = 0; j < images; ++j) { c.propagate[j] = this->Random(0, 4) > 0; }
    this->CheckSums(c);
  }
}

/// Of images: groups of one channel and of many, strides, dilation; now and then 11x11 with stride 4.
TYPED_TEST(FastLayersTest, PlanarConvolution) {
  FAST_TYPES;
  for (int i = 0; i < this->kCases; ++i) {
    const bool large = this->Random(0, 9) == 0, far = this->Random(0, 9) == 0, depthwise = this->Random(0, 3) == 0;
    const int group = depthwise ? this->Random(1, 40) : this->Random(0, 3) ? 1 : this->Random(2, 3);
    const int channels = depthwise ? this->Random(1, 2) : large ? this->Random(20, 70) : this->Random(1, 20);
    const int images = this->Random(1, 3), kernel_h = far ? 11 : this->Random(1, 5), kernel_w = this->Random(1, 5);
    const int dilation = far ? 1 : this->Random(1, 3);
    const Shape shape = {this->Random(1, large ? 20 : 4), group * channels,
                         (kernel_h - 1) * dilation + this->Random(1, large ? 30 : 9),
                         (kernel_w - 1) * dilation + this->Random(1, large ? 30 : 9)};
    std::string text = this->Text(
        "type: 'Convolution' convolution_param { engine: CAFFE num_output: ",
        group * (depthwise ? this->Random(1, 2) : this->Random(1, this->Random(0, 9) ? 30 : 100)), " group: ", group,
        " kernel_h: ", kernel_h, " kernel_w: ", kernel_w, " pad_h: ", this->Random(0, 2), " pad_w: ", this->Random(0, 2),
        " dilation: ", dilation, " stride_h: ", this->Random(1, 4), " stride_w: ", this->Random(1, 4));
    if (this->RandomBool()) { text += " bias_term: false"; }
    Case c(text + " weight_filler { type: 'xavier' } }", std::vector<Shape>(images, shape));
    c.tops = images;
    for (int j = 0; j < images; ++j) { c.propagate[j] = this->Random(0, 4) > 0; }
    this->CheckSums(c);
  }
}

/// Weights without a gradient of their own, as of a layer that a solver leaves as it is.
TYPED_TEST(FastLayersTest, FrozenConvolution) {
  for (int fast = 0; fast <= 1; ++fast) {
    UseFastLayers() = fast;
    LayerParameter parameter;
    CHECK(google::protobuf::TextFormat::ParseFromString(
        "type: 'Convolution' convolution_param { engine: CAFFE num_output: 3 kernel_size: 3 "
        "weight_filler { type: 'xavier' } }", &parameter));
    shared_ptr<Layer<TypeParam> > layer = LayerRegistry<TypeParam>::CreateLayer(parameter);
    Blob<TypeParam> bottom(std::vector<int>{2, 4, 6, 7}), top;
    const std::vector<Blob<TypeParam>*> bottoms(1, &bottom), tops(1, &top);
    layer->SetUp(bottoms, tops);
    layer->set_param_propagate_down(0, false);
    layer->set_param_propagate_down(1, false);
    layer->Forward(bottoms, tops);
    this->Fill(top.count(), top.mutable_cpu_diff());
    layer->Backward(tops, std::vector<bool>(1, true), bottoms);
    EXPECT_EQ(0, layer->blobs()[0]->asum_diff());
    EXPECT_EQ(0, layer->blobs()[1]->asum_diff());
    EXPECT_GT(bottom.asum_diff(), 0);
  }
}

TYPED_TEST(FastLayersTest, Softmax) {
  FAST_TYPES;
  for (int i = 0; i < this->kCases; ++i) {
    const Shape shape = this->RandomShape(1, 4);
    Case c(this->Text("type: 'Softmax' softmax_param { axis: ", this->Random(0, shape.size() - 1), " }"), {shape});
    this->CheckSums(c);
  }
}

TYPED_TEST(FastLayersTest, SoftmaxWithLoss) {
  FAST_TYPES;
  for (int i = 0; i < this->kCases; ++i) {
    const Shape shape = this->RandomShape(2, 4);
    Shape labels = shape;
    labels[1] = 1;
    Case c(this->Text("type: 'SoftmaxWithLoss' loss_param { ", i % 2 ? "ignore_label: 0 " : "", "}"), {shape, labels});
    c.classes = shape[1];
    c.propagate[1] = false;
    this->CheckSums(c);
  }
}

}  // namespace caffe
