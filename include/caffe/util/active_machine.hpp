#ifndef CAFFE_UTIL_ACTIVE_MACHINE_HPP_
#define CAFFE_UTIL_ACTIVE_MACHINE_HPP_

#include <exception>

/// What the CPU's loops run on: threads, as the library knows them, which alone is compiled for OpenMP, and vectors.
namespace caffe {

/// How many the calling thread's next loop has; 1 without OpenMP.
int ActiveMaxThreads();
void ActiveSetThreads(int threads);

/// The number of the calling thread in its loop, from 0 on.
int ActiveThisThread();

/// Ends the process with Caffe's own message.
void ActiveFail(const std::exception& exception);

/// Calls body(i) for each i in [0, count), on several threads if there are more. No exception may leave an OpenMP loop, and
/// memory may run out in it.
template <typename Body>
void ActiveForEach(int count, const Body& body) {
#pragma omp parallel for schedule(dynamic) if (count > 1)
  for (int i = 0; i < count; ++i) {
    try {
      body(i);
    } catch (const std::exception& exception) {
      ActiveFail(exception);
    }
  }
}

/// Bytes of the longest vectors to use: 64 with AVX-512, 32 with AVX2, else 16. ACTIVE_CONVOLUTION_VECTORS=avx2 or plain
/// in the environment asks for shorter ones than the machine has.
int ActiveVectorBytes();

}  // namespace caffe

#endif  // CAFFE_UTIL_ACTIVE_MACHINE_HPP_
