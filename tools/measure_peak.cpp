// Prints how many billion floating-point operations per second this machine's cores do at most: multiply-adds of floats
// in its longest vectors, whose operands all stay in registers. Threads of its own: Caffe compiles no tool for OpenMP.
//
//   measure_peak THREADS
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include "caffe/util/active_vector.hpp"

namespace {

const int kSums = 12;  // independent ones: more than a multiply-add takes cycles times how many start in one
const int kSteps = 1 << 21, kRepeats = 20;  // 4 ms, beside which starting the threads is nothing

template <int kBytes>
ACTIVE_INLINE float MultiplyAdd(float factor) {
  typedef typename caffe::ActiveVector<float, kBytes>::Type Vector;
  Vector sums[kSums], a = {}, b = {};
  a += factor;
  b += factor;
  for (int i = 0; i < kSums; ++i) { sums[i] = a * static_cast<float>(i); }  // all different: none can stand for another
  for (int step = 0; step < kSteps; ++step) {
    for (int i = 0; i < kSums; ++i) { sums[i] = sums[i] * a + b; }
  }
  for (int i = 1; i < kSums; ++i) { sums[0] += sums[i]; }
  return sums[0][0];
}

struct Loop {
  float (*run)(float factor);
  int lanes;
};

#ifdef ACTIVE_AVX2
ACTIVE_AVX512 float RunAvx512(float factor) { return MultiplyAdd<64>(factor); }
ACTIVE_AVX2 float RunAvx2(float factor) { return MultiplyAdd<32>(factor); }
#endif
float RunPlain(float factor) { return MultiplyAdd<16>(factor); }

Loop Choose() {
#ifdef ACTIVE_AVX2
  if (caffe::ActiveVectorBytes() >= 64) { return Loop{RunAvx512, 16}; }
  if (caffe::ActiveVectorBytes() >= 32) { return Loop{RunAvx2, 8}; }
#endif
  return Loop{RunPlain, 4};
}

/// Of one repeat by all threads.
double Seconds(const Loop& loop, int threads, std::vector<float>* results) {
  const auto start = std::chrono::steady_clock::now();
  std::vector<std::thread> running;
  for (int i = 0; i < threads; ++i) {
    running.push_back(std::thread([&loop, results, i] { (*results)[i] += loop.run(0.5f); }));
  }
  for (std::thread& thread : running) { thread.join(); }
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

int main(int argc, char** argv) {
  const int threads = argc == 2 ? std::atoi(argv[1]) : 0;
  if (threads < 1) {
    std::fprintf(stderr, "error: usage: measure_peak THREADS\n");
    return 2;
  }
  const Loop loop = Choose();
  std::vector<float> results(threads);
  double best = Seconds(loop, threads, &results);
  for (int i = 0; i < kRepeats; ++i) { best = std::min(best, Seconds(loop, threads, &results)); }
  std::printf("%.1f\n", 2e-9 * kSums * kSteps * loop.lanes * threads / best);
  return 0;
}
