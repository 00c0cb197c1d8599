#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

#include "caffe/test/active_random_test.hpp"
#include "caffe/util/active_gpu_pass.hpp"
#include "caffe/util/math_functions.hpp"

#include "caffe/test/test_caffe_main.hpp"

namespace caffe {

namespace {

int launches = 0;    // of kernels, and of products
double indices = 0;  // that kernels were called with

/// Runs the kernels on the host: index after index, upwards or downwards. Buffers start as the worst a GPU may hold.
template <bool kDownwards>
struct HostDevice {
  template <typename Element>
  static Element* Data(Blob<Element>* blob) {
    caffe_set(blob->count(), std::numeric_limits<Element>::quiet_NaN(), blob->mutable_cpu_data());
    return blob->mutable_cpu_data();
  }

  template <typename Element>
  static void Zero(size_t count, Element* data) {
    ++launches;
    std::fill(data, data + count, Element(0));
  }

  template <typename Element>
  static void Fetch(int count, const Element* data, Element* to) { std::copy(data, data + count, to); }

  template <typename Kernel>
  static void Launch(const Kernel& kernel) {
    ++launches;
    const int count = kernel.count();
    indices += count;
    for (int i = 0; i < count; ++i) { kernel(kDownwards ? count - 1 - i : i); }
  }

  template <typename Dtype>
  static void Gemm(int count, CBLAS_TRANSPOSE trans_a, CBLAS_TRANSPOSE trans_b, int m, int n, int k,
                   const ActiveMatrices<const Dtype>& a, const ActiveMatrices<const Dtype>& b, Dtype beta,
                   const ActiveMatrices<Dtype>& c) {
    ++launches;
    const auto at = [](const ActiveMatrices<const Dtype>& x, CBLAS_TRANSPOSE trans, int of, int row, int column) {
      return x.data[of * x.stride + (trans == CblasNoTrans ? row * x.step + column : column * x.step + row)];
    };
    for (int i = 0; i < count * m * n; ++i) {
      const int of = i / (m * n), row = i / n % m, column = i % n;
      Dtype sum = 0;
      for (int j = 0; j < k; ++j) { sum += at(a, trans_a, of, row, j) * at(b, trans_b, of, j, column); }
      Dtype* result = c.data + of * c.stride + row * c.step + column;
      *result = beta == 0 ? sum : sum + beta * *result;
    }
  }
};

}  // namespace

/// The GPU's whole passes, chunks and all, against the CPU's, over random layers, batches and chunks: on the host, and
/// where there is a GPU on that, too.
template <typename Dtype>
class ActiveGpuPassTest : public ActiveRandomTest<Dtype> {
 protected:
  enum { kTop, kWeight, kBias, kX, kY, kBottom, kResults };
  typedef std::vector<Dtype> Vector;
  typedef std::vector<Vector> Results;

  using ActiveRandomTest<Dtype>::Random;
  using ActiveRandomTest<Dtype>::RandomGeometry;
  using ActiveRandomTest<Dtype>::RandomPosition;
  using ActiveRandomTest<Dtype>::RandomVector;

  void MakeRandomCase() {
    g_ = RandomGeometry(9, 12);
    g_.group = Random(1, 3);
    g_.position_group = Random(1, 3);
    g_.num_output = g_.group * g_.position_group * Random(1, 3);
    g_.channels = g_.group * Random(1, Random(0, 3) ? 4 : 2 * kActiveChannels + 1);
    num_ = Random(1, 5);
    MakeData();
  }

  /// Blobs for the geometry and the batch, and gradients that hold something already.
  void MakeData() {
    const int positions = g_.position_group * g_.synapses();
    weight_ = RandomVector(g_.num_output * g_.group_channels() * g_.synapses());
    bias_ = RandomVector(g_.num_output);
    x_.clear();
    y_.clear();
    for (int i = 0; i < positions; ++i) {
      x_.push_back(RandomPosition(1 << 30));
      y_.push_back(RandomPosition(1 << 30));
    }
    bottom_ = RandomVector(num_ * g_.channels * g_.image_size());
    top_diff_ = RandomVector(num_ * g_.num_output * g_.out_size());
    before_.assign(kResults, Vector());
    before_[kTop] = RandomVector(top_diff_.size());
    before_[kWeight] = RandomVector(weight_.size());
    before_[kBias] = RandomVector(bias_.size());
    before_[kX] = RandomVector(positions);
    before_[kY] = RandomVector(positions);
    before_[kBottom] = RandomVector(bottom_.size());
    for (int i = 0; i < kResults; ++i) { wanted_[i] = true; }
  }

  ActiveParameters<Dtype> Parameters() const {
    ActiveParameters<Dtype> p = {weight_.data(), wanted_[kBias] ? bias_.data() : NULL, x_.data(), y_.data()};
    return p;
  }

  /// `at` says where a result lies.
  template <typename At>
  ActiveGradients<Dtype> Gradients(const At& at) const {
    Dtype* data[kResults];
    for (int i = 0; i < kResults; ++i) { data[i] = wanted_[i] ? at(i) : NULL; }
    ActiveGradients<Dtype> gradients = {data[kWeight], data[kBias], data[kX], data[kY], data[kBottom]};
    return gradients;
  }

  ActiveGradients<Dtype> Gradients(Results* results) const {
    return Gradients([results](int i) { return (*results)[i].data(); });
  }

  Results ByCpu() const {
    Results results = before_;
    ActiveCpuWorkspace<Dtype> workspace;
    active_convolution_forward_cpu(g_, num_, Parameters(), bottom_.data(), results[kTop].data(), &workspace);
    active_convolution_backward_cpu(g_, num_, Parameters(), bottom_.data(), top_diff_.data(), Gradients(&results),
                                    &workspace);
    return results;
  }

  template <typename Device>
  Results ByKernels(ActiveGpuWorkspace<Dtype>* workspace) const {
    Results results = before_;
    const ActiveParameters<Dtype> parameters = Parameters();
    ActiveGpuPass<Device, Dtype> pass(g_, num_, parameters, bottom_.data(), workspace);
    pass.Forward(results[kTop].data());
    pass.Backward(top_diff_.data(), Gradients(&results));
    return results;
  }

#ifndef CPU_ONLY
  typedef std::vector<shared_ptr<Blob<Dtype> > > Blobs;

  static Blobs OnGpu(const Results& vectors) {
    Blobs blobs;
    for (const Vector& vector : vectors) {
      blobs.push_back(shared_ptr<Blob<Dtype> >(new Blob<Dtype>(std::vector<int>(1, vector.size() + 1))));
      std::copy(vector.begin(), vector.end(), blobs.back()->mutable_cpu_data());
    }
    return blobs;
  }

  /// Buffers that are large enough for any chunk below the limit start as the worst a GPU may hold.
  template <typename Element>
  static void Spoil(size_t count, Blob<Element>* buffer) {
    buffer->Reshape(std::vector<int>(1, count));
    caffe_set(buffer->count(), std::numeric_limits<Element>::quiet_NaN(), buffer->mutable_cpu_data());
  }

  Results ByGpu(size_t limit) const {
    const Blobs given = OnGpu({weight_, bias_, x_, y_, bottom_, top_diff_}), made = OnGpu(before_);
    ActiveGpuWorkspace<Dtype> workspace;
    workspace.limit = limit;
    const int one_column = Rows() + g_.num_output;
    Spoil(limit / sizeof(Dtype) + one_column, &workspace.columns);
    Spoil(limit / sizeof(Dtype) + one_column, &workspace.packed);
    Spoil(1 << 18, &workspace.sums);
    const ActiveParameters<Dtype> parameters = {given[0]->gpu_data(), wanted_[kBias] ? given[1]->gpu_data() : NULL,
                                                given[2]->gpu_data(), given[3]->gpu_data()};
    active_convolution_forward_gpu(g_, num_, parameters, given[4]->gpu_data(), made[kTop]->mutable_gpu_data(),
                                   &workspace);
    active_convolution_backward_gpu(g_, num_, parameters, given[4]->gpu_data(), given[5]->gpu_data(),
                                    Gradients([&made](int i) { return made[i]->mutable_gpu_data(); }), &workspace);
    Results results;
    for (int i = 0; i < kResults; ++i) {
      results.push_back(Vector(made[i]->cpu_data(), made[i]->cpu_data() + before_[i].size()));
    }
    return results;
  }
#endif

  /// Of the columns.
  int Rows() const { return ActiveEqualSegments(g_) * g_.group_channels() * g_.synapses(); }

  /// A limit that makes anything from one column to the whole batch a chunk.
  size_t RandomLimit() {
    const int columns = Random(0, 1) ? Random(1, std::max(1, num_) * g_.out_size()) : Random(1, g_.out_width + 1);
    return sizeof(Dtype) * columns * (Rows() + g_.num_output);
  }

  void ExpectKernelsLikeCpu(const std::string& what) {
    ActiveGpuWorkspace<Dtype> workspace;
    workspace.limit = RandomLimit();
    const Results expected = ByCpu();
    ExpectNear(expected, ByKernels<HostDevice<false> >(&workspace), what);
#ifndef CPU_ONLY
    if (Caffe::CheckDevice(0)) { ExpectNear(expected, ByGpu(workspace.limit), what + ", on the GPU"); }
#endif
  }

  void ExpectNear(const Results& expected, const Results& found, const std::string& what) {
    const char* names[kResults] = {"top", "weight", "bias", "x", "y", "bottom"};
    for (int i = 0; i < kResults; ++i) { ExpectNear(expected[i], found[i], what + ", " + names[i]); }
  }

  void ExpectNear(const Vector& expected, const Vector& found, const std::string& what) {
    ASSERT_EQ(expected.size(), found.size());
    Dtype scale = 1;
    for (int i = 0; i < expected.size(); ++i) { scale = std::max(scale, std::fabs(expected[i])); }
    for (int i = 0; i < expected.size(); ++i) {
      if (std::isnan(expected[i])) {
        ASSERT_TRUE(std::isnan(found[i])) << what << ", element " << i;
      } else {
        ASSERT_NEAR(expected[i], found[i], 100 * std::numeric_limits<Dtype>::epsilon() * scale)
            << what << ", element " << i;
      }
    }
  }

  /// One output for each channel.
  void MakeDepthwise(int channels) {
    g_.channels = g_.num_output = g_.group = channels;
    g_.position_group = this->Random(0, 1) ? channels : 1;
  }

  ActiveGeometry g_;
  int num_;
  Vector weight_, bias_, x_, y_, bottom_, top_diff_;
  Results before_;  // what the results hold before they are computed
  bool wanted_[kResults];
};

TYPED_TEST_CASE(ActiveGpuPassTest, TestDtypes);

TYPED_TEST(ActiveGpuPassTest, TestLikeCpu) {
  for (int round = 0; round < 300; ++round) {
    this->MakeRandomCase();
    this->ExpectKernelsLikeCpu("round " + std::to_string(round));
  }
}

TYPED_TEST(ActiveGpuPassTest, TestDepthwiseLikeCpu) {
  // Which the CPU computes in a way of its own.
  for (int round = 0; round < 200; ++round) {
    this->MakeRandomCase();
    this->MakeDepthwise(this->Random(2, 20));
    this->MakeData();
    for (int i = 0; i < this->kResults; ++i) { this->wanted_[i] = this->Random(0, 3); }
    this->wanted_[this->kY] = this->wanted_[this->kX];
    this->ExpectKernelsLikeCpu("round " + std::to_string(round));
  }
}

TYPED_TEST(ActiveGpuPassTest, TestPositionsFarApartInALargeImage) {
  // So far that the CPU gives each synapse a frame of its own.
  for (const bool depthwise : {false, true}) {
    this->MakeRandomCase();
    if (depthwise) { this->MakeDepthwise(3); }
    this->g_.height = this->g_.out_height = 90;
    this->g_.width = this->g_.out_width = 110;
    this->g_.stride_h = this->g_.stride_w = 1;
    this->g_.base_h = this->g_.base_w = 0;
    this->num_ = 2;
    this->MakeData();
    for (int i = 0; i < this->x_.size(); ++i) {
      this->x_[i] = 100 * this->Uniform();
      this->y_[i] = 80 * this->Uniform();
    }
    this->ExpectKernelsLikeCpu(depthwise ? "far apart, depthwise" : "far apart");
  }
}

TYPED_TEST(ActiveGpuPassTest, TestImagesThatMakeProductsOfTheirOwn) {
  for (int round = 0; round < 8; ++round) {
    this->MakeRandomCase();
    this->g_.height = this->g_.width = this->g_.out_height = this->g_.out_width = 17;
    this->g_.group = this->g_.position_group = round % 4 ? 1 : 2;
    this->g_.channels = this->g_.num_output = 4;
    this->num_ = 3;
    this->MakeData();
    this->wanted_[this->kBias] = round % 2;
    this->ExpectKernelsLikeCpu("round " + std::to_string(round));
  }
}

TYPED_TEST(ActiveGpuPassTest, TestOnlyWhatIsWanted) {
  for (int round = 0; round < 100; ++round) {
    this->MakeRandomCase();
    for (int i = 0; i < this->kResults; ++i) { this->wanted_[i] = this->Random(0, 1); }
    this->wanted_[this->kY] = this->wanted_[this->kX];
    this->ExpectKernelsLikeCpu("round " + std::to_string(round));
  }
}

TYPED_TEST(ActiveGpuPassTest, TestEmptyBatch) {
  this->MakeRandomCase();
  this->num_ = 0;
  this->MakeData();
  this->ExpectKernelsLikeCpu("empty batch");
}

TYPED_TEST(ActiveGpuPassTest, TestPositionsThatAreNoNumbers) {
  const TypeParam infinity = std::numeric_limits<TypeParam>::infinity();
  const TypeParam values[] = {infinity, -infinity, std::numeric_limits<TypeParam>::quiet_NaN(), TypeParam(1e30)};
  for (int round = 0; round < 100; ++round) {
    this->MakeRandomCase();
    this->x_[this->Random(0, this->x_.size() - 1)] = values[this->Random(0, 3)];
    this->y_[this->Random(0, this->y_.size() - 1)] = values[this->Random(0, 3)];
    this->ExpectKernelsLikeCpu("round " + std::to_string(round));
  }
}

TYPED_TEST(ActiveGpuPassTest, TestInfinityDoesNotSpreadOnTheLattice) {
  // A pixel that a synapse reads with weight 0 is not read: 0 times infinity is no number.
  for (int round = 0; round < 100; ++round) {
    this->MakeRandomCase();
    for (int i = 0; i < this->x_.size(); ++i) {
      this->x_[i] = this->Random(-3, 3);
      this->y_[i] = this->Random(-3, 3);
    }
    this->bottom_[this->Random(0, this->bottom_.size() - 1)] = std::numeric_limits<TypeParam>::infinity();
    this->top_diff_[this->Random(0, this->top_diff_.size() - 1)] = std::numeric_limits<TypeParam>::infinity();
    ActiveGpuWorkspace<TypeParam> workspace;
    workspace.limit = this->RandomLimit();
    const auto expected = this->ByCpu(), found = this->template ByKernels<HostDevice<false> >(&workspace);
    const int results[] = {this->kTop, this->kBottom};
    for (const int result : results) {
      for (int i = 0; i < expected[result].size(); ++i) {
        ASSERT_EQ(std::isfinite(expected[result][i]), std::isfinite(found[result][i])) << "round " << round;
      }
    }
  }
}

TYPED_TEST(ActiveGpuPassTest, TestOrderOfIndicesDoesNotShow) {
  // What one index writes no other reads or writes: the same bits in any order, and so with threads.
  for (int round = 0; round < 100; ++round) {
    this->MakeRandomCase();
    ActiveGpuWorkspace<TypeParam> workspace;
    workspace.limit = this->RandomLimit();
    const auto upwards = this->template ByKernels<HostDevice<false> >(&workspace);
    const auto downwards = this->template ByKernels<HostDevice<true> >(&workspace);
    ASSERT_TRUE(upwards == downwards) << "round " << round;
#ifndef CPU_ONLY
    if (Caffe::CheckDevice(0)) { ASSERT_TRUE(this->ByGpu(workspace.limit) == this->ByGpu(workspace.limit)); }
#endif
  }
}

TYPED_TEST(ActiveGpuPassTest, TestWorkspaceKeepsItsLimit) {
  for (int round = 0; round < 100; ++round) {
    this->MakeRandomCase();
    ActiveGpuWorkspace<TypeParam> workspace;
    workspace.limit = this->RandomLimit();
    this->template ByKernels<HostDevice<false> >(&workspace);
    const int one_column = this->Rows() + this->g_.num_output;
    const size_t limit = std::max(workspace.limit, one_column * sizeof(TypeParam));
    EXPECT_LE((workspace.columns.count() + workspace.packed.count()) * sizeof(TypeParam), limit) << "round " << round;
  }
}

TYPED_TEST(ActiveGpuPassTest, TestOneWorkspaceForEachThreadAndDevice) {
  typedef shared_ptr<ActiveGpuWorkspace<TypeParam> > Workspace;
  Workspace first = SharedActiveGpuWorkspace<TypeParam>(0), second = SharedActiveGpuWorkspace<TypeParam>(0), other;
  EXPECT_EQ(first, second);
  EXPECT_NE(first, SharedActiveGpuWorkspace<TypeParam>(1));
  std::thread([&other] { other = SharedActiveGpuWorkspace<TypeParam>(0); }).join();
  EXPECT_NE(first, other);
  const boost::weak_ptr<ActiveGpuWorkspace<TypeParam> > watched = first;
  first.reset();
  EXPECT_EQ(second, SharedActiveGpuWorkspace<TypeParam>(0));
  second.reset();
  EXPECT_TRUE(watched.expired());  // nobody holds it
}

TYPED_TEST(ActiveGpuPassTest, TestWorkspaceServesLayersInTurns) {
  // What one layer leaves there is garbage for the next.
  ActiveGpuWorkspace<TypeParam> shared;
  for (int round = 0; round < 50; ++round) {
    this->MakeRandomCase();
    shared.limit = this->RandomLimit();
    ActiveGpuWorkspace<TypeParam> own;
    own.limit = shared.limit;
    ASSERT_TRUE(this->template ByKernels<HostDevice<false> >(&own) ==
                this->template ByKernels<HostDevice<false> >(&shared)) << "round " << round;
  }
}

TYPED_TEST(ActiveGpuPassTest, TestWorkGrowsWithTheAreaOfAnImage) {
  // Images too large for one chunk, higher and wider: no chunk of them may look at pixels that it cannot reach.
  const int shapes[][4] = {{12, 16, 48, 16}, {12, 16, 192, 16}, {2, 64, 2, 256}, {2, 64, 2, 1024}};
  for (const auto& shape : shapes) {
    double counts[2];
    for (int i = 0; i < 2; ++i) {
      this->MakeRandomCase();
      this->g_.channels = this->g_.num_output = this->g_.group = this->g_.position_group = 1;
      this->g_.kernel_h = this->g_.kernel_w = 3;
      this->g_.stride_h = this->g_.stride_w = 1;
      this->g_.base_h = this->g_.base_w = 0;
      this->g_.height = this->g_.out_height = shape[2 * i];
      this->g_.width = this->g_.out_width = shape[2 * i + 1];
      this->num_ = 1;
      this->MakeData();
      for (int k = 0; k < 9; ++k) {
        this->x_[k] = k % 3 - 0.7;
        this->y_[k] = k / 3 - 1.3;
      }
      ActiveGpuWorkspace<TypeParam> workspace;
      workspace.limit = sizeof(TypeParam) * 32 * 10;  // 32 columns: two rows, or half of one
      indices = 0;
      this->template ByKernels<HostDevice<false> >(&workspace);
      counts[i] = indices;
    }
    const double growth = shape[2] * shape[3] / (shape[0] * shape[1]);
    EXPECT_LT(counts[1], 1.1 * growth * counts[0]) << shape[2] << " x " << shape[3];
  }
}

TYPED_TEST(ActiveGpuPassTest, TestFewLaunches) {
  // For any number of groups, of images, and for each further chunk.
  for (int round = 0; round < 40; ++round) {
    this->MakeRandomCase();
    if (round % 5 == 0) { this->MakeDepthwise(512); }
    this->num_ = this->Random(1, 9);
    this->MakeData();
    auto results = this->before_;
    const auto parameters = this->Parameters();
    ActiveGpuWorkspace<TypeParam> workspace;
    if (round % 2) { workspace.limit = this->RandomLimit(); }
    const int chunks = ActiveChunks(this->g_, this->num_, std::max<int>(1, workspace.limit / sizeof(TypeParam) /
                                                                              (this->Rows() + this->g_.num_output))).size();
    ActiveGpuPass<HostDevice<false>, TypeParam> pass(this->g_, this->num_, parameters, this->bottom_.data(), &workspace);
    launches = 0;
    pass.Forward(results[this->kTop].data());
    EXPECT_LE(launches, 3 + 3 * chunks) << "round " << round;
    launches = 0;
    pass.Backward(this->top_diff_.data(), this->Gradients(&results));
    EXPECT_LE(launches, 6 + 6 * chunks) << "round " << round;
  }
}

}  // namespace caffe
