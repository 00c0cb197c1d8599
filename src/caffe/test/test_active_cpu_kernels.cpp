#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "gtest/gtest.h"

#include "caffe/test/active_random_test.hpp"
#include "caffe/util/active_cpu_kernels.hpp"
#include "caffe/util/active_splat.hpp"

#include "caffe/test/test_caffe_main.hpp"

namespace caffe {

/// Every instruction set that this machine has, on random shapes, against one formula per element in double.
template <typename Dtype>
class ActiveCpuKernelsTest : public ActiveRandomTest<Dtype> {
 protected:
  typedef std::vector<Dtype> Vector;

  /// A layer, a tile of its output pixels, a block of its channels, and the frame that these see.
  void MakeRandomCase(const ActiveCpuKernels<Dtype>& kernels) {
    g_ = this->RandomGeometry(9, 30);
    g_.base_w = this->Random(-20, 20);
    g_.channels = this->Random(1, this->Random(0, 2) ? 5 : 20);
    alpha_.clear();
    beta_.clear();
    for (int k = 0; k < g_.synapses(); ++k) {
      alpha_.push_back(this->RandomPosition(60));
      beta_.push_back(this->RandomPosition(60));
    }
    taps_ = ActiveFrameTaps(g_, &alpha_[0], &beta_[0], g_.synapses());
    tile_.images = this->Random(1, 3);
    tile_.image = 0;
    tile_.at.rows = RandomInterval(g_.out_height);
    tile_.at.columns = RandomInterval(g_.out_width);
    channel_ = this->Random(0, g_.channels - 1);
    channels_ = this->Random(1, g_.channels - channel_);
    pixel_size_ = CeilDivide(Terms(), kernels.lanes) * kernels.lanes + kernels.lanes;
    input_ = this->RandomVector(tile_.images * g_.channels * g_.image_size());
  }

  ActiveInterval RandomInterval(int size) {
    const int first = this->Random(0, size - 1);
    const ActiveInterval interval = {first, this->Random(1, size - first)};
    return interval;
  }

  int Terms() const { return g_.synapses() * channels_; }

  /// The frame of all synapses, or of one.
  ActiveFrame<Dtype> Frame(const ActiveCpuKernels<Dtype>& kernels, int synapse, int synapses) const {
    return ActiveFrame<Dtype>(g_, &taps_[0], tile_, synapse, synapses, channel_, channels_, kernels.lanes);
  }

  double Pixel(int image, int c, int y, int x) const {
    const bool inside = y >= 0 && y < g_.height && x >= 0 && x < g_.width;
    return inside ? input_[((image * g_.channels + c) * g_.height + y) * g_.width + x] : 0;
  }

  /// The input as the frame should hold it.
  Vector FrameData(const ActiveFrame<Dtype>& f) const {
    Vector data(f.size(), 0);
    for (int image = 0; image < tile_.images; ++image) {
      for (int y = f.row; y < f.row + f.rows; ++y) {
        for (int x = 0; x < f.columns; ++x) {
          for (int c = 0; c < channels_; ++c) {
            data[f.RowAt(image, y) + x * f.lanes + c] = Pixel(image, channel_ + c, y, f.column + x);
          }
        }
      }
    }
    return data;
  }

  /// x~ by the tent functions, max(0, 1-|dx|) max(0, 1-|dy|), over all pixels: no floor, no cases.
  double Reference(int c, int k, int column, double shift_x = 0, double shift_y = 0) const {
    const int image = column / tile_.at.size(), pixel = column % tile_.at.size(), width = tile_.at.columns.count;
    const int n = tile_.at.columns.first + pixel % width, m = tile_.at.rows.first + pixel / width;
    const double x = g_.base_w + n * g_.stride_w + static_cast<double>(alpha_[k]) + shift_x;
    const double y = g_.base_h + m * g_.stride_h + static_cast<double>(beta_[k]) + shift_y;
    double sum = 0;
    for (int i = 0; i < g_.height; ++i) {
      for (int j = 0; j < g_.width; ++j) {
        sum += std::max(0., 1 - std::fabs(x - j)) * std::max(0., 1 - std::fabs(y - i)) *
               Pixel(image, channel_ + c, i, j);
      }
    }
    return sum;
  }

  /// The columns of the case, synapse by synapse where `one_by_one`.
  Vector Sample(const ActiveCpuKernels<Dtype>& kernels, bool one_by_one) const {
    Vector columns(tile_.size() * pixel_size_, 7);
    const int synapses = one_by_one ? 1 : g_.synapses();
    for (int k = 0; k < g_.synapses(); k += synapses) {
      const ActiveFrame<Dtype> frame = Frame(kernels, k, synapses);
      kernels.sample(frame, &FrameData(frame)[0], pixel_size_, &columns[0]);
    }
    return columns;
  }

  /// Makes a random case one of a vector of channels with an output each: the first of its images, and what a splat reads.
  ActiveFrame<Dtype> MakeDepthwise(const ActiveCpuKernels<Dtype>& kernels, const ActiveSplat<Dtype>& splat) {
    tile_.images = 1;
    channels_ = std::min(channels_, kernels.lanes);
    const ActiveFrame<Dtype> frame(g_, &taps_[0], tile_, 0, g_.synapses(), channel_, channels_, kernels.lanes, true);
    reads_.clear();
    for (const auto& pixel : splat.pixels()) {
      const int y = g_.base_h + tile_.at.rows.first * g_.stride_h + pixel.y;
      const int x = g_.base_w + tile_.at.columns.first * g_.stride_w + pixel.x;
      reads_.push_back(frame.RowAt(0, y) + static_cast<size_t>(x - frame.column) * kernels.lanes);
    }
    pixel_size_ = kernels.lanes + this->Random(0, 3);
    return frame;
  }

  /// The shape of the same, for the first `pixels` pixels of the kernel.
  ActiveDepthwise Depthwise(const ActiveFrame<Dtype>& frame, int pixels) const {
    const ActiveDepthwise shape = {tile_.at.rows.count, tile_.at.columns.count, pixels, &reads_[0],
                                   g_.stride_h * frame.row_size(), static_cast<size_t>(g_.stride_w) * frame.lanes,
                                   pixel_size_};
    return shape;
  }

  ActiveGeometry g_;
  ActiveTile tile_;
  std::vector<size_t> reads_;
  int channel_, channels_;
  size_t pixel_size_;
  Vector alpha_, beta_, input_;
  std::vector<ActiveTap<Dtype> > taps_;
};

TYPED_TEST_CASE(ActiveCpuKernelsTest, TestDtypes);

TYPED_TEST(ActiveCpuKernelsTest, TestThereIsAPlainVersion) {
  EXPECT_EQ(16 / sizeof(TypeParam), AllActiveCpuKernels<TypeParam>().back().lanes);
}

TYPED_TEST(ActiveCpuKernelsTest, TestSampleAgainstTents) {
  for (const auto& kernels : AllActiveCpuKernels<TypeParam>()) {
    for (int round = 0; round < 150; ++round) {
      this->MakeRandomCase(kernels);
      const auto columns = this->Sample(kernels, round % 2);
      for (int i = 0; i < this->tile_.size() * this->Terms(); ++i) {
        const int column = i / this->Terms(), k = i % this->Terms() / this->channels_, c = i % this->channels_;
        ASSERT_NEAR(this->Reference(c, k, column), columns[column * this->pixel_size_ + i % this->Terms()], 1e-5)
            << kernels.name << ", round " << round;
      }
    }
  }
}

TYPED_TEST(ActiveCpuKernelsTest, TestSpreadIsTheAdjointOfSample) {
  for (const auto& kernels : AllActiveCpuKernels<TypeParam>()) {
    for (int round = 0; round < 150; ++round) {
      this->MakeRandomCase(kernels);
      const auto columns = this->Sample(kernels, false), diff = this->RandomVector(columns.size());
      const auto frame = this->Frame(kernels, 0, this->g_.synapses());
      const auto data = this->FrameData(frame);
      std::vector<TypeParam> frame_diff(frame.size(), 0);
      const ActiveSpread<TypeParam> spread = {&data[0], &diff[0], this->pixel_size_, &frame_diff[0], NULL, NULL};
      kernels.spread(frame, spread);
      double by_columns = 0, by_frame = 0;
      for (size_t i = 0; i < columns.size(); ++i) {
        if (i % this->pixel_size_ < this->Terms()) { by_columns += columns[i] * diff[i]; }
      }
      for (size_t i = 0; i < data.size(); ++i) { by_frame += data[i] * frame_diff[i]; }
      ASSERT_NEAR(by_columns, by_frame, 1e-3) << kernels.name << ", round " << round;
    }
  }
}

TYPED_TEST(ActiveCpuKernelsTest, TestSlopeIsTheDifferenceOfSamples) {
  const double step = 1e-4;  // samples are linear between lattice points: any step inside the cell gives the slope
  for (const auto& kernels : AllActiveCpuKernels<TypeParam>()) {
    for (int round = 0; round < 50; ++round) {
      this->MakeRandomCase(kernels);
      const int synapses = this->g_.synapses();
      const auto diff = this->RandomVector(this->tile_.size() * this->pixel_size_);
      const auto frame = this->Frame(kernels, 0, synapses);
      const auto data = this->FrameData(frame);
      std::vector<double> x_diff(synapses, 1), y_diff(synapses, 1);  // the kernel adds
      const ActiveSpread<TypeParam> spread = {&data[0], &diff[0], this->pixel_size_, NULL, &x_diff[0], &y_diff[0]};
      kernels.spread(frame, spread);
      for (int k = 0; k < synapses; ++k) {
        TypeParam fx, fy;
        ActiveFloor(this->alpha_[k], &fx);
        ActiveFloor(this->beta_[k], &fy);
        if (fx > 1 - step || fy > 1 - step) { continue; }
        double expected_x = 1, expected_y = 1;
        for (int i = 0; i < this->channels_ * this->tile_.size(); ++i) {
          const int c = i % this->channels_, column = i / this->channels_;
          const double weight = diff[column * this->pixel_size_ + k * this->channels_ + c] / step;
          const double here = this->Reference(c, k, column);
          expected_x += weight * (this->Reference(c, k, column, step, 0) - here);
          expected_y += weight * (this->Reference(c, k, column, 0, step) - here);
        }
        ASSERT_NEAR(expected_x, x_diff[k], 1e-3) << kernels.name << ", round " << round << ", synapse " << k;
        ASSERT_NEAR(expected_y, y_diff[k], 1e-3) << kernels.name << ", round " << round << ", synapse " << k;
      }
    }
  }
}

TYPED_TEST(ActiveCpuKernelsTest, TestConvolveASplatAgainstTents) {
  for (const auto& kernels : AllActiveCpuKernels<TypeParam>()) {
    for (int round = 0; round < 100; ++round) {
      this->MakeRandomCase(kernels);
      const int synapses = this->g_.synapses(), lanes = kernels.lanes;
      const ActiveSplat<TypeParam> splat(&this->taps_[0], synapses);
      const auto frame = this->MakeDepthwise(kernels, splat);
      const auto weight = this->RandomVector(synapses * lanes), data = this->FrameData(frame);
      std::vector<TypeParam> of_pixels(splat.pixels().size() * lanes, 0);
      for (int i = 0; i < synapses * lanes; ++i) { splat.AddWeight(i / lanes, weight[i], lanes, &of_pixels[i % lanes]); }
      std::vector<TypeParam> outputs(this->tile_.size() * this->pixel_size_, 7);
      kernels.convolve(this->Depthwise(frame, splat.used()), &of_pixels[0], &data[0], &outputs[0]);
      for (int i = 0; i < this->tile_.size() * this->channels_; ++i) {
        const int pixel = i / this->channels_, c = i % this->channels_;
        double expected = 0;
        for (int k = 0; k < synapses; ++k) { expected += weight[k * lanes + c] * this->Reference(c, k, pixel); }
        ASSERT_NEAR(expected, outputs[pixel * this->pixel_size_ + c], 2e-5) << kernels.name << ", round " << round;
      }
      for (int i = 0; i < outputs.size(); ++i) {
        if (i % this->pixel_size_ >= lanes) { ASSERT_EQ(7, outputs[i]) << "beyond a pixel, round " << round; }
      }
    }
  }
}

TYPED_TEST(ActiveCpuKernelsTest, TestScatterAndCorrelateAreTheGradientsOfConvolve) {
  for (const auto& kernels : AllActiveCpuKernels<TypeParam>()) {
    for (int round = 0; round < 100; ++round) {
      this->MakeRandomCase(kernels);
      const ActiveSplat<TypeParam> splat(&this->taps_[0], this->g_.synapses());
      const auto frame = this->MakeDepthwise(kernels, splat);
      const int pixels = splat.pixels().size(), lanes = kernels.lanes;
      const auto shape = this->Depthwise(frame, pixels);
      const auto weight = this->RandomVector(pixels * lanes), data = this->FrameData(frame);
      const auto diff = this->RandomVector(this->tile_.size() * this->pixel_size_);
      std::vector<TypeParam> outputs(diff.size(), 0), frame_diff(frame.size(), 0), sums(weight.size(), 1);
      kernels.convolve(shape, &weight[0], &data[0], &outputs[0]);
      kernels.scatter(shape, &weight[0], &diff[0], &frame_diff[0]);
      kernels.correlate(shape, &diff[0], &data[0], &sums[0]);  // adds
      double by_outputs = 0, by_frame = 0, by_weights = 0;
      for (size_t i = 0; i < diff.size(); ++i) { by_outputs += outputs[i] * diff[i]; }
      for (size_t i = 0; i < data.size(); ++i) { by_frame += data[i] * frame_diff[i]; }
      for (size_t i = 0; i < sums.size(); ++i) { by_weights += weight[i] * (sums[i] - 1); }
      const double tolerance = 1e-5 * this->tile_.size() * pixels;
      ASSERT_NEAR(by_outputs, by_frame, tolerance) << kernels.name << ", round " << round;
      ASSERT_NEAR(by_outputs, by_weights, tolerance) << kernels.name << ", round " << round;
    }
  }
}

/// From sums over pixels to the gradients of one channel's weights and positions.
TYPED_TEST(ActiveCpuKernelsTest, TestGradientsFromTheSumsOfASplat) {
  const double step = 1e-4;  // as above
  const auto& kernels = AllActiveCpuKernels<TypeParam>()[0];
  for (int round = 0; round < 50; ++round) {
    this->MakeRandomCase(kernels);
    const ActiveSplat<TypeParam> splat(&this->taps_[0], this->g_.synapses());
    const auto frame = this->MakeDepthwise(kernels, splat);
    const int pixels = splat.pixels().size(), lanes = kernels.lanes, c = this->channels_ - 1;
    const auto diff = this->RandomVector(this->tile_.size() * this->pixel_size_), data = this->FrameData(frame);
    std::vector<TypeParam> sums(pixels * lanes, 0);
    kernels.correlate(this->Depthwise(frame, pixels), &diff[0], &data[0], &sums[0]);
    for (int k = 0; k < this->g_.synapses(); ++k) {
      TypeParam fx, fy;
      ActiveFloor(this->alpha_[k], &fx);
      ActiveFloor(this->beta_[k], &fy);
      if (fx > 1 - step || fy > 1 - step) { continue; }
      double of_weight = 0, of_x = 0, of_y = 0;
      for (int i = 0; i < this->tile_.size(); ++i) {
        const double g = diff[i * this->pixel_size_ + c], here = this->Reference(c, k, i);
        of_weight += g * here;
        of_x += g * (this->Reference(c, k, i, step, 0) - here) / step;
        of_y += g * (this->Reference(c, k, i, 0, step) - here) / step;
      }
      ASSERT_NEAR(of_weight, splat.Sample(k, lanes, &sums[c]), 1e-4) << "round " << round << ", synapse " << k;
      ASSERT_NEAR(of_x, splat.SlopeX(k, lanes, &sums[c]), 1e-3) << "round " << round << ", synapse " << k;
      ASSERT_NEAR(of_y, splat.SlopeY(k, lanes, &sums[c]), 1e-3) << "round " << round << ", synapse " << k;
    }
  }
}

TYPED_TEST(ActiveCpuKernelsTest, TestFarPositionsNeedNoLargeFrame) {
  for (const auto& kernels : AllActiveCpuKernels<TypeParam>()) {
    this->MakeRandomCase(kernels);
    const TypeParam far[] = {TypeParam(1e30), -std::numeric_limits<TypeParam>::infinity(), TypeParam(1 << 20)};
    for (int i = 0; i < 3; ++i) {
      this->alpha_[0] = far[i];
      this->beta_[0] = far[(i + 1) % 3];
      this->taps_ = ActiveFrameTaps(this->g_, &this->alpha_[0], &this->beta_[0], this->g_.synapses());
      const auto frame = this->Frame(kernels, 0, 1);
      EXPECT_EQ(0, frame.rows);
      EXPECT_LE(frame.columns, (this->g_.out_width - 1) * this->g_.stride_w + 2);
      for (const TypeParam value : this->Sample(kernels, true)) { ASSERT_TRUE(std::isfinite(value)); }
    }
  }
}

TYPED_TEST(ActiveCpuKernelsTest, TestProducts) {
  for (const auto& kernels : AllActiveCpuKernels<TypeParam>()) {
    for (int round = 0; round < 60; ++round) {
      const int rows = this->Random(1, 20), columns = this->Random(1, 70), depth = this->Random(0, 20);
      const int strip = ActiveStrip(columns, kernels.lanes), all_rows = CeilDivide(rows, kernels.rows) * kernels.rows;
      const bool transposed = round % 2;  // elements of a row of a follow each other, or those of a column
      const size_t a_row = transposed ? 1 : depth + 3, a_step = transposed ? all_rows + 3 : 1;
      const size_t b_strip = depth * strip, c_row = CeilDivide(columns, kernels.lanes) * kernels.lanes + 2;
      const auto a = this->RandomVector(all_rows * a_row + depth * a_step);
      const auto b = this->RandomVector(CeilDivide(columns, strip) * b_strip + 1);
      const auto before = this->RandomVector(all_rows * c_row);
      auto c = before;
      const ActiveProduct<TypeParam> product = {rows,    columns, depth, &a[0], a_row, a_step,
                                                &b[0],   b_strip, static_cast<size_t>(strip), &c[0], c_row,
                                                round % 3 > 0};
      kernels.multiply(product);
      for (int i = 0; i < rows; ++i) {
        for (int j = 0; j < columns; ++j) {
          double expected = product.add ? before[i * c_row + j] : 0;
          for (int k = 0; k < depth; ++k) {
            expected += static_cast<double>(a[i * a_row + k * a_step]) * b[j / strip * b_strip + k * strip + j % strip];
          }
          ASSERT_NEAR(expected, c[i * c_row + j], 1e-5) << kernels.name << ", round " << round;
        }
      }
    }
  }
}

TYPED_TEST(ActiveCpuKernelsTest, TestProductsLaneByLane) {
  for (const auto& kernels : AllActiveCpuKernels<TypeParam>()) {
    for (int round = 0; round < 60; ++round) {
      const int rows = this->Random(1, 40), columns = this->Random(1, 9), depth = this->Random(0, 20);
      const size_t lanes = kernels.lanes, a_step = lanes + 1, a_row = depth * a_step + 2, c_column = lanes + 1;
      const auto a = this->RandomVector(rows * a_row + lanes), b = this->RandomVector((depth + 1) * columns * lanes);
      const auto before = this->RandomVector(rows * columns * c_column);
      auto c = before;
      const ActiveLaneProduct<TypeParam> product = {rows,  columns, depth, &a[0], a_row, a_step, &b[0], columns * lanes,
                                                    lanes, &c[0], columns * c_column, c_column, round % 2 > 0};
      kernels.multiply_lanes(product);
      for (size_t at = 0; at < c.size(); ++at) {
        const size_t row = at / c_column / columns, column = at / c_column % columns, lane = at % c_column;
        double expected = product.add || lane == lanes ? before[at] : 0;
        for (int t = 0; t < depth && lane < lanes; ++t) {
          expected += static_cast<double>(a[row * a_row + t * a_step + lane]) * b[(t * columns + column) * lanes + lane];
        }
        ASSERT_NEAR(expected, c[at], 1e-5) << kernels.name << ", round " << round;
      }
    }
  }
}

TYPED_TEST(ActiveCpuKernelsTest, TestTurnsAndBack) {
  for (const auto& kernels : AllActiveCpuKernels<TypeParam>()) {
    for (int unit = 1; unit <= std::min(8, kernels.lanes); unit *= 2) {
      const size_t pixel_size = (unit + 1) * kernels.lanes;
      const auto before = this->RandomVector(3 * pixel_size);
      auto turned = before, back = before;
      kernels.turn(unit, 3, pixel_size, &turned[0]);
      kernels.turn_back(unit, 3, pixel_size, &back[0]);
      for (size_t at = 0; at < before.size(); ++at) {
        const int j = at % pixel_size / kernels.lanes, lane = at % kernels.lanes, c = lane % unit;
        const size_t pixel = at / pixel_size * pixel_size;
        const size_t from = pixel + lane - c + (c + j) % unit;
        ASSERT_EQ(j < unit ? before[from] : before[at], turned[at]) << kernels.name << ", " << unit;
        if (j > 0) { continue; }
        double sum = 0;  // the j-th vector's element c belongs to element (c + j) % unit
        for (int i = 0; i < unit; ++i) { sum += before[pixel + i * kernels.lanes + lane - c + (c + unit - i) % unit]; }
        ASSERT_NEAR(sum, back[at], 1e-5) << kernels.name << ", " << unit;
      }
    }
  }
}

TYPED_TEST(ActiveCpuKernelsTest, TestPlanesToVectorsAndBack) {
  for (const auto& kernels : AllActiveCpuKernels<TypeParam>()) {
    for (int round = 0; round < 60; ++round) {
      const int count = this->Random(1, 40), pixels = this->Random(1, 40), row_pixels = this->Random(1, pixels);
      const int lanes = CeilDivide(count, kernels.lanes) * kernels.lanes;
      const ActivePlanes<TypeParam> shape = {count, pixels, static_cast<size_t>(pixels + this->Random(0, 3)), row_pixels,
                                             static_cast<size_t>(lanes), static_cast<size_t>(lanes * row_pixels + 5)};
      const auto planes = this->RandomVector(count * shape.plane_size), offset = this->RandomVector(count);
      std::vector<TypeParam> vectors(CeilDivide(pixels, row_pixels) * shape.row_size + lanes, 7);
      auto stored = planes, added = planes;
      kernels.load_planes(shape, &planes[0], &vectors[0]);
      kernels.store_planes(shape, &vectors[0], &offset[0], &stored[0]);
      kernels.add_planes(shape, &vectors[0], &added[0]);
      for (int pixel = 0; pixel < pixels; ++pixel) {
        const size_t at = pixel / row_pixels * shape.row_size + pixel % row_pixels * shape.pixel_size;
        for (int i = 0; i < lanes; ++i) {
          const size_t in_plane = i * shape.plane_size + pixel;
          ASSERT_EQ(i < count ? planes[in_plane] : TypeParam(0), vectors[at + i]) << kernels.name << ", round " << round;
          if (i >= count) { continue; }
          ASSERT_EQ(planes[in_plane] + offset[i], stored[in_plane]) << kernels.name << ", round " << round;
          ASSERT_EQ(2 * planes[in_plane], added[in_plane]) << kernels.name << ", round " << round;
        }
      }
      for (size_t i = 0; i < planes.size(); ++i) {  // nothing between the planes
        if (i % shape.plane_size >= pixels) { ASSERT_EQ(planes[i], stored[i] + added[i] - planes[i]); }
      }
    }
  }
}

}  // namespace caffe
