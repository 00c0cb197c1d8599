#ifndef CAFFE_UTIL_FAST_PARALLEL_HPP_
#define CAFFE_UTIL_FAST_PARALLEL_HPP_

#include <algorithm>
#include <cstddef>
#include <vector>

#include "caffe/blob.hpp"
#include "caffe/util/active_vector.hpp"

/**
 * Loops of the fast CPU layers: cut into parts, shared by the threads, and compiled for the machine's vectors.
 *
 * What a part is depends on the blobs' shapes alone, and one thread works on all of it, so that results do not depend
 * on the number of threads. The loops' bodies must be inlined (FAST_LOOP) into a function for each instruction set; a loop
 * whose iterations are independent, in place, too, says so to the compiler by `omp simd`.
 */
#define FAST_LOOP __attribute__((always_inline))

namespace caffe {

/// Elements that a thread works through before it pays to share them with others: about as long as waking those takes.
const size_t kFastSerial = 1 << 16;
/// Elements of a part where elements are independent, and of a sum that is kept in vectors until it goes into a double.
const int kFastRun = 1 << 12;

#ifdef ACTIVE_AVX2
template <typename Body>
ACTIVE_AVX512 void FastPartAvx512(const Body& body, int part) { body(part); }
template <typename Body>
ACTIVE_AVX2 void FastPartAvx2(const Body& body, int part) { body(part); }
#endif
template <typename Body>
void FastPartPlain(const Body& body, int part) { body(part); }

template <typename Body>
struct FastPart {
  typedef void (*Function)(const Body& body, int part);

  static Function Choose() {
#ifdef ACTIVE_AVX2
    if (ActiveVectorBytes() >= 64) { return FastPartAvx512<Body>; }
    if (ActiveVectorBytes() >= 32) { return FastPartAvx2<Body>; }
#endif
    return FastPartPlain<Body>;
  }
};

/// Calls body(part) for each of `parts` parts, which have `elements` elements together.
template <typename Body>
void FastParts(int parts, size_t elements, const Body& body) {
  static const typename FastPart<Body>::Function run = FastPart<Body>::Choose();
  if (elements < kFastSerial || parts == 1) {
    for (int part = 0; part < parts; ++part) { run(body, part); }
    return;
  }
#pragma omp parallel for schedule(static)
  for (int part = 0; part < parts; ++part) { run(body, part); }
}

/// Calls body(first, last) for runs [first, last) of `count` independent elements.
template <typename Body>
void FastRuns(int count, const Body& body) {
  const int parts = count / kFastRun + (count % kFastRun != 0);
  FastParts(parts, count, [=](int part) FAST_LOOP {
    const int first = part * kFastRun;
    body(first, first + std::min(kFastRun, count - first));
  });
}

/// The sum of term(i), i < count, in so many sums side by side that they hide each other's latency in any vectors.
template <typename Dtype, typename Term>
ACTIVE_INLINE double FastSum(int count, const Term& term) {
  const int kSums = 64;
  double total = 0;
  for (int first = 0; first < count; first += kFastRun) {
    const int last = first + std::min(kFastRun, count - first);
    Dtype sums[kSums] = {}, sum = 0;
    int i = first;
    for (; i + kSums <= last; i += kSums) {
#pragma omp simd
      for (int j = 0; j < kSums; ++j) { sums[j] += term(i + j); }
    }
    for (; i < last; ++i) { sum += term(i); }
#pragma omp simd reduction(+ : sum)
    for (int j = 0; j < kSums; ++j) { sum += sums[j]; }
    total += sum;
  }
  return total;
}

/// Whether a top is a bottom, or shares its memory. Where ours would read what it wrote, Caffe's loop says what that gives.
template <typename Dtype>
bool FastInPlace(const std::vector<Blob<Dtype>*>& bottom, const std::vector<Blob<Dtype>*>& top) {
  for (const Blob<Dtype>* blob : bottom) {
    for (const Blob<Dtype>* other : top) {
      if (blob->data() == other->data() || blob->diff() == other->diff()) { return true; }
    }
  }
  return false;
}

}  // namespace caffe

#endif  // CAFFE_UTIL_FAST_PARALLEL_HPP_
