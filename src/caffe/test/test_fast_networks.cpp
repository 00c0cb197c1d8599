#include <algorithm>
#include <cmath>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "glog/logging.h"
#include "gtest/gtest.h"

#include "google/protobuf/text_format.h"

#include "caffe/net.hpp"
#include "caffe/solver.hpp"
#include "caffe/solver_factory.hpp"
#include "caffe/util/fast_layers.hpp"

#include "caffe/test/test_caffe_main.hpp"

namespace caffe {

namespace {

/// Draws small networks of the layers that the fork touches, as prototxt.
class RandomNetwork {
 public:
  explicit RandomNetwork(unsigned seed) : random_(seed), layers_(0), needs_images_(false) {
    const bool large = Int(0, 9) == 0;  // of images that are cut
    shape_ = {Int(2, 5), Int(1, 12), Int(6, 12), Int(6, 12)};
    if (large) { shape_ = {2, 32, 28, 28}; }
    first_ = shape_;
    text_ << "force_backward: true layer { name: 'data' type: 'Input' top: 'data' input_param { shape {";
    for (int size : shape_) { text_ << " dim: " << size; }
    text_ << " } } }\n";
    x_ = "data";
    for (int i = large ? 3 : Int(2, 7); i > 0; --i) { AddLayer(); }
    pooled_ = Bool();
    if (pooled_) { Add("Pooling", Fresh(), "pooling_param { pool: AVE global_pooling: true }"); }
    Add("InnerProduct", "scores", "inner_product_param { num_output: 3 weight_filler { type: 'xavier' } }");
    // Of Caffe's losses the one that takes an empty batch.
    Add("Reduction", "loss", "reduction_param { operation: SUMSQ } loss_weight: 0.01");
  }

  std::string text() const { return text_.str(); }

  /// num x channels x height x width of the data for an iteration; the network takes empty batches, and images of other
  /// sizes, where its layers do.
  std::vector<int> Shape(int iteration) {
    std::vector<int> shape = first_;
    if (iteration == 0) { return shape; }
    shape[0] = !needs_images_ && Int(0, 5) == 0 ? 0 : Int(2, 5);
    if (pooled_) {
      shape[2] += Int(0, 3);
      shape[3] += Int(0, 3);
    }
    return shape;
  }

  std::string Solver() {
    std::ostringstream solver;
    solver << "type: '" << (Bool() ? "SGD" : "Nesterov") << "' base_lr: 0.001 lr_policy: 'fixed' momentum: " << 0.5 * Int(0, 1)
           << " weight_decay: " << 0.01 * Int(0, 1) << " iter_size: " << Int(1, 3) << " solver_mode: CPU max_iter: 3";
    if (Bool()) { solver << " clip_gradients: 0.3"; }
    return solver.str();
  }

  int Int(int least, int most) { return least + static_cast<int>(random_() % (most - least + 1)); }
  bool Bool() { return Int(0, 1); }

 private:
  std::string Fresh() { return "blob" + std::to_string(layers_); }
  /// In place now and then.
  std::string Top() { return x_ != "data" && Bool() ? x_ : Fresh(); }

  /// From the present blob, and perhaps another one, to `top`, which is then the present one.
  void Add(const std::string& type, const std::string& top, const std::string& parameters,
           const std::string& second = "") {
    text_ << "layer { name: 'layer" << layers_++ << "' type: '" << type << "' bottom: '" << x_ << "' ";
    if (second.size()) { text_ << "bottom: '" << second << "' "; }
    text_ << "top: '" << top << "' " << parameters << " }\n";
    x_ = top;
  }

  void AddLayer() {
    switch (Int(0, 10)) {
      case 0: return AddConvolution("Convolution");
      case 1: return AddConvolution("Convolution");
      case 2: return AddConvolution("ActiveConvolution");
      case 3: return AddSharers();
      case 4: return Add("ReLU", Top(), Bool() ? "relu_param { negative_slope: 0.25 }" : "");
      case 5: return AddBatchNorm();
      case 6: return AddScale();
      case 7: return AddPooling();
      case 8: return AddSum();
      case 9: return AddSqueeze();
      case 10: return AddSoftmax();
    }
  }

  void AddConvolution(const std::string& type) {
    int group = Int(0, 2) ? 1 : Int(2, 12);
    while (shape_[1] % group) { --group; }
    const int kernel = Int(1, 3), dilation = kernel == 2 ? Int(1, 2) : 1, extent = (kernel - 1) * dilation + 1;
    const int pad = Int(0, kernel - 1), stride = Int(0, 2) ? 1 : 2, outputs = Bool() ? shape_[1] : group * Int(1, 9);
    const int height = (shape_[2] + 2 * pad - extent) / stride + 1, width = (shape_[3] + 2 * pad - extent) / stride + 1;
    if (height < 1 || width < 1) { return; }
    std::ostringstream p;
    p << "convolution_param { engine: CAFFE num_output: " << outputs << " kernel_size: " << kernel << " pad: " << pad
      << " stride: " << stride << " dilation: " << dilation << " group: " << group << " bias_term: "
      << (Bool() ? "true" : "false") << " weight_filler { type: 'xavier' } }";
    if (type == "ActiveConvolution") {  // a direction of unit length would make a step of what is mere rounding
      p << " active_convolution_param { position_lr_mult: 1 position_limit: " << (Bool() ? 0 : 2)
        << " normalize_gradient: false warmup_iter: " << Int(0, 2) << " }";
    }
    const bool same = outputs == shape_[1] && height == shape_[2] && width == shape_[3];
    Add(type, same && type == "Convolution" ? Top() : Fresh(), p.str());
    shape_ = {shape_[0], outputs, height, width};
  }

  /// Two layers with the same weights.
  void AddSharers() {
    const std::string name = "weights" + std::to_string(layers_);
    std::ostringstream p;
    p << "param { name: '" << name << "' } convolution_param { engine: CAFFE bias_term: false kernel_size: 3 pad: 1 "
      << "num_output: " << shape_[1] << " weight_filler { type: 'xavier' } }";
    Add("Convolution", Top(), p.str());
    Add("Convolution", Top(), p.str());
  }

  void AddBatchNorm() {
    const char* stored[] = {"", "use_global_stats: true", "use_global_stats: false"};
    needs_images_ = true;
    Add("BatchNorm", Top(), std::string("batch_norm_param { eps: 0.1 ") + stored[Int(0, 2)] + " }");
  }

  void AddSoftmax() {
    needs_images_ = true;
    Add("Softmax", Top(), Bool() ? "softmax_param { axis: 3 }" : "");
  }

  void AddScale() {
    const bool scale = Bool();
    needs_images_ = needs_images_ || scale;
    Add(scale ? "Scale" : "Bias", Top(), scale && Bool() ? "scale_param { bias_term: true }" : "");
  }

  void AddPooling() {
    const int kernel = Int(2, 3), stride = Int(1, kernel), pad = Int(0, kernel - 1);
    if (std::min(shape_[2], shape_[3]) < kernel) { return; }
    std::ostringstream p;
    p << "pooling_param { pool: " << (Bool() ? "MAX" : "AVE") << " kernel_size: " << kernel << " stride: " << stride
      << " pad: " << pad << " }";
    for (int axis = 2; axis < 4; ++axis) {
      int size = (shape_[axis] + 2 * pad - kernel + stride - 1) / stride + 1;
      if (pad && (size - 1) * stride >= shape_[axis] + pad) { --size; }
      shape_[axis] = size;
    }
    Add("Pooling", Fresh(), p.str());
  }

  /// What is there, and a convolution of it.
  void AddSum() {
    needs_images_ = true;
    const std::string before = x_;
    std::ostringstream p;
    p << "convolution_param { engine: CAFFE kernel_size: 3 pad: 1 num_output: " << shape_[1]
      << " weight_filler { type: 'xavier' } }";
    Add("Convolution", Fresh(), p.str());
    Add("Eltwise", Top(), Bool() ? "eltwise_param { coeff: 0.5 coeff: -1.5 }" : "", before);
  }

  /// Each channel of each image scaled, or shifted, by its mean: two bottoms.
  void AddSqueeze() {
    needs_images_ = true;
    const std::string before = x_;
    Add("Pooling", Fresh(), "pooling_param { pool: AVE global_pooling: true }");
    Add("Reshape", Fresh(), "reshape_param { shape { dim: 0 dim: " + std::to_string(shape_[1]) + " } }");
    const std::string means = x_, top = Fresh();
    x_ = before;
    Add(Bool() ? "Scale" : "Bias", top, "scale_param { axis: 0 } bias_param { axis: 0 }", means);
  }

  std::mt19937 random_;
  std::ostringstream text_;
  std::string x_;                  // the present blob
  std::vector<int> shape_, first_;  // of the present blob and of the data
  int layers_;
  bool needs_images_;               // Caffe's own loops die of an empty batch
  bool pooled_;
};

}  // namespace

/// Three iterations of random networks, by our loops and by Caffe's: every blob and every parameter. `--gtest_repeat=N`
/// draws others each time.
template <typename Dtype>
class FastNetworksTest : public ::testing::Test {
 protected:
  typedef std::vector<std::vector<Dtype> > Values;

  FastNetworksTest() : log_level_(FLAGS_minloglevel) { FLAGS_minloglevel = google::WARNING; }
  virtual ~FastNetworksTest() {
    FLAGS_minloglevel = log_level_;
    UseFastLayers() = true;
  }

  static Values Train(unsigned seed, bool fast, std::string* description) {
    UseFastLayers() = fast;
    RandomNetwork network(seed);
    SolverParameter parameter;
    const std::string solver_text = network.Solver();
    CHECK(google::protobuf::TextFormat::ParseFromString(solver_text, &parameter));
    CHECK(google::protobuf::TextFormat::ParseFromString(network.text(), parameter.mutable_net_param()));
    parameter.set_random_seed(seed);
    *description = solver_text + "\n" + network.text();
    shared_ptr<Solver<Dtype> > solver(SolverRegistry<Dtype>::CreateSolver(parameter));
    Net<Dtype>& net = *solver->net();
    Values values;
    for (int iteration = 0; iteration < 3; ++iteration) {
      const std::vector<int> shape = network.Shape(iteration);
      Blob<Dtype>* data = net.blob_by_name("data").get();
      data->Reshape(shape);
      net.Reshape();
      for (int i = 0; i < data->count(); ++i) { data->mutable_cpu_data()[i] = network.Int(-1000, 1000) / Dtype(1000); }
      solver->Step(1);
      for (const shared_ptr<Blob<Dtype> >& blob : net.blobs()) {
        values.push_back(std::vector<Dtype>(blob->cpu_data(), blob->cpu_data() + blob->count()));
      }
      values.push_back(std::vector<Dtype>(data->cpu_diff(), data->cpu_diff() + data->count()));
      for (const shared_ptr<Blob<Dtype> >& blob : net.params()) {
        values.push_back(std::vector<Dtype>(blob->cpu_data(), blob->cpu_data() + blob->count()));
      }
    }
    return values;
  }

  /// In float, rounding decides now and then what ReLU lets through; a wrong loop gives differences near 1.
  static double Tolerance() { return sizeof(Dtype) == sizeof(float) ? 0.05 : 1e-6; }

  static void Compare(unsigned seed) {
    std::string description;
    const Values expected = Train(seed, false, &description), found = Train(seed, true, &description);
    ASSERT_EQ(expected.size(), found.size());
    for (int i = 0; i < found.size(); ++i) {
      ASSERT_EQ(expected[i].size(), found[i].size());
      double length = 0, difference = 0;
      for (int j = 0; j < found[i].size(); ++j) {
        length = std::hypot(length, expected[i][j]);
        difference = std::hypot(difference, expected[i][j] - found[i][j]);
      }
      if (!std::isfinite(length)) { return; }  // it diverged
      ASSERT_LE(difference, (length + 1e-3) * Tolerance()) << "seed " << seed << ", blob " << i << " of\n" << description;
    }
  }

  const int log_level_;
};

typedef ::testing::Types<float, double> FastNetworkTypes;
TYPED_TEST_CASE(FastNetworksTest, FastNetworkTypes);

TYPED_TEST(FastNetworksTest, TrainAsByCaffesLoops) {
  static unsigned seed = 0;
  for (const unsigned end = seed + 150; seed < end && !this->HasFatalFailure(); ++seed) { this->Compare(seed); }
}

}  // namespace caffe
