// The forward pass of an active convolution on the CPU in three steps: plain loops, tiles, vectors. Each is compared with
// the first and timed. docs/kernel.md explains them, and leads to the code that layers use.
//
//   g++ -O2 -std=c++11 -Iinclude tools/kernel_steps.cpp -o kernel_steps && ./kernel_steps
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <vector>

#include "caffe/util/active_vector.hpp"  // before what it uses

#include "caffe/util/active_sampling.hpp"

namespace {

typedef std::vector<float> Floats;

// A layer without a bias, over one image; the output has the input's size.
const int kChannels = 64, kOutputs = 64, kSynapses = 9, kHeight = 32, kWidth = 32;
const int kPixels = kHeight * kWidth, kTerms = kChannels * kSynapses;  // of an image; of the sum for one output pixel
const int kReach = 3;               // from the base pixel to a synapse, at most, in x and in y
const int kTile = 48;               // output pixels at a time: their columns, 108 KiB, stay in the second cache
const int kRows = 6, kVectors = 2;  // of sums that fill the registers

struct Layer {
  Floats bottom, weight, x, y;  // channels x pixels, outputs x channels x K, K, K

  Layer() : bottom(kChannels * kPixels), weight(kOutputs * kTerms), x(kSynapses), y(kSynapses) {
    Fill(1, &bottom);
    Fill(0.1f, &weight);
    Fill(kReach, &x);
    Fill(kReach, &y);
  }

  /// Numbers at random between -most and most, the same in every run.
  void Fill(float most, Floats* values) {
    for (float& value : *values) { value = most * ((state = state * 1664525 + 1013904223) / 2147483648.f - 1); }
  }
  unsigned state = 1;
};

// Step 1: equations 1 and 6 to 9, word for word. Every output takes every sample anew.

float Pixel(const float* channel, int row, int column) {
  return row < 0 || row >= kHeight || column < 0 || column >= kWidth ? 0 : channel[row * kWidth + column];
}

float Sample(const float* channel, float row, float column) {
  const int m = static_cast<int>(std::floor(row)), n = static_cast<int>(std::floor(column));
  const float dy = row - m, dx = column - n;
  return (1 - dy) * (1 - dx) * Pixel(channel, m, n) + (1 - dy) * dx * Pixel(channel, m, n + 1) +
         dy * (1 - dx) * Pixel(channel, m + 1, n) + dy * dx * Pixel(channel, m + 1, n + 1);
}

Floats Plain(const Layer& layer) {
  Floats top(kOutputs * kPixels);
  for (int i = 0; i < kOutputs * kPixels; ++i) {
    const int d = i / kPixels, m = i / kWidth % kHeight, n = i % kWidth;
    for (int term = 0; term < kTerms; ++term) {
      const int c = term / kSynapses, k = term % kSynapses;
      top[i] += layer.weight[d * kTerms + term] * Sample(&layer.bottom[c * kPixels], m + layer.y[k], n + layer.x[k]);
    }
  }
  return top;
}

// Step 2: the samples of a tile of pixels, its columns, are taken once, for all outputs. What is left is a product of
// matrices, weight (outputs x terms) * columns (terms x pixels), and the columns stay in cache.

Floats Tiles(const Layer& layer) {
  Floats top(kOutputs * kPixels), columns(kTerms * kTile);
  for (int first = 0; first < kPixels; first += kTile) {
    const int pixels = std::min(kTile, kPixels - first);
    for (int term = 0; term < kTerms; ++term) {
      const int c = term / kSynapses, k = term % kSynapses;
      for (int i = 0; i < pixels; ++i) {
        const int m = (first + i) / kWidth, n = (first + i) % kWidth;
        columns[term * kTile + i] = Sample(&layer.bottom[c * kPixels], m + layer.y[k], n + layer.x[k]);
      }
    }
    for (int d = 0; d < kOutputs; ++d) {
      for (int term = 0; term < kTerms; ++term) {
        const float weight = layer.weight[d * kTerms + term];
        for (int i = 0; i < pixels; ++i) { top[d * kPixels + first + i] += weight * columns[term * kTile + i]; }
      }
    }
  }
  return top;
}

// Step 3: the channels of a pixel lie together, and so do its outputs: a vector holds several of them. A frame of zeros
// around the image answers for what lies outside. Columns are pixels x terms, weights terms x outputs; term k * channels + c.

const int kBorder = kReach + 1, kFrameWidth = kWidth + 2 * kBorder, kFrameHeight = kHeight + 2 * kBorder;

Floats Frame(const Layer& layer) {
  Floats frame(kFrameHeight * kFrameWidth * kChannels);
  for (int i = 0; i < kChannels * kPixels; ++i) {
    const int c = i / kPixels, row = i / kWidth % kHeight + kBorder, column = i % kWidth + kBorder;
    frame[(row * kFrameWidth + column) * kChannels + c] = layer.bottom[i];
  }
  return frame;
}

Floats Packed(const Layer& layer) {
  Floats packed(kTerms * kOutputs);
  for (int i = 0; i < kOutputs * kTerms; ++i) {
    const int d = i / kTerms, c = i / kSynapses % kChannels, k = i % kSynapses;
    packed[(k * kChannels + c) * kOutputs + d] = layer.weight[i];
  }
  return packed;
}

template <int kBytes>
struct Vectors {
  typedef caffe::ActiveVector<float, kBytes> Vector;
  typedef typename Vector::Type V;
  static constexpr int kLanes = Vector::kLanes;

  /// Where a synapse reads, and with which weights, is the same for all channels: a vector of them from each neighbour.
  static ACTIVE_INLINE void SamplePixel(const caffe::ActiveBilinear<float>& weights, const float* above, float* column) {
    const float* below = above + kFrameWidth * kChannels;
    for (int c = 0; c < kChannels; c += kLanes) {
      const V x00 = Vector::Load(above + c), x01 = Vector::Load(above + kChannels + c);
      const V x10 = Vector::Load(below + c), x11 = Vector::Load(below + kChannels + c);
      Vector::Store(column + c, weights.Sample(x00, x01, x10, x11));
    }
  }

  /// kRows pixels x kVectors vectors of outputs, whose sums stay in registers through all terms: each loads kVectors
  /// vectors of weights and kRows samples for kRows * kVectors multiply-adds.
  static ACTIVE_INLINE void MultiplyBlock(const float* columns, const float* weight, float* outputs) {
    V sums[kRows][kVectors] = {};
    for (int term = 0; term < kTerms; ++term, weight += kOutputs) {
      V factors[kVectors];
      ACTIVE_UNROLL
      for (int j = 0; j < kVectors; ++j) { factors[j] = Vector::Load(weight + j * kLanes); }
      ACTIVE_UNROLL
      for (int i = 0; i < kRows; ++i) {
        ACTIVE_UNROLL
        for (int j = 0; j < kVectors; ++j) { sums[i][j] += columns[i * kTerms + term] * factors[j]; }
      }
    }
    for (int i = 0; i < kRows; ++i) {
      for (int j = 0; j < kVectors; ++j) { Vector::Store(outputs + i * kOutputs + j * kLanes, sums[i][j]); }
    }
  }

  static ACTIVE_INLINE Floats Run(const Layer& layer) {
    const Floats frame = Frame(layer), packed = Packed(layer);
    Floats top(kOutputs * kPixels), columns(kTile * kTerms), outputs(kTile * kOutputs);
    for (int first = 0; first < kPixels; first += kTile) {
      const int pixels = std::min(kTile, kPixels - first);
      for (int k = 0; k < kSynapses; ++k) {
        const caffe::ActiveTap<float> tap = caffe::MakeActiveTap(layer.x[k], layer.y[k]);
        const caffe::ActiveBilinear<float> weights(tap);
        for (int i = 0; i < pixels; ++i) {
          const int row = (first + i) / kWidth + kBorder + tap.y, column = (first + i) % kWidth + kBorder + tap.x;
          SamplePixel(weights, &frame[(row * kFrameWidth + column) * kChannels], &columns[i * kTerms + k * kChannels]);
        }
      }
      for (int i = 0; i < pixels; i += kRows) {
        for (int d = 0; d < kOutputs; d += kVectors * kLanes) {
          MultiplyBlock(&columns[i * kTerms], &packed[d], &outputs[i * kOutputs + d]);
        }
      }
      for (int i = 0; i < pixels * kOutputs; ++i) { top[i % kOutputs * kPixels + first + i / kOutputs] = outputs[i]; }
    }
    return top;
  }
};

#ifdef ACTIVE_AVX2
ACTIVE_AVX512 Floats RunAvx512(const Layer& layer) { return Vectors<64>::Run(layer); }
ACTIVE_AVX2 Floats RunAvx2(const Layer& layer) { return Vectors<32>::Run(layer); }
#endif
Floats RunShort(const Layer& layer) { return Vectors<16>::Run(layer); }

struct Step {
  const char* name;
  Floats (*run)(const Layer& layer);
};

Step WithVectors() {
#ifdef ACTIVE_AVX2
  if (caffe::ActiveHasAvx512()) { return {"vectors of 16", RunAvx512}; }
  if (caffe::ActiveHasAvx2()) { return {"vectors of 8", RunAvx2}; }
#endif
  return {"vectors of 4", RunShort};
}

}  // namespace

int main() {
  const Layer layer;
  Floats expected, top;
  for (const Step& step : {Step{"plain loops", Plain}, Step{"tiles", Tiles}, WithVectors()}) {
    double best = 1e9, all = 0;
    for (int i = 0; i < 100 && all < 300; ++i) {
      const auto start = std::chrono::steady_clock::now();
      top = step.run(layer);
      const double ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
      best = std::min(best, ms);
      all += ms;
    }
    if (expected.empty()) { expected = top; }
    float difference = 0;
    for (size_t i = 0; i < top.size(); ++i) { difference = std::max(difference, std::fabs(top[i] - expected[i])); }
    std::printf("%-15s%9.2f ms%8.2f GFLOP/s, off by %.0e at most\n", step.name, best,
                2e-6 * kOutputs * kPixels * kTerms / best, difference);
    if (!(difference < 1e-5f)) { return 1; }  // of outputs that are some 1 large
  }
  return 0;
}
