#include "caffe/util/active_machine.hpp"

#include <algorithm>
#include <cstdlib>
#include <string>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "caffe/common.hpp"
#include "caffe/util/active_vector.hpp"

namespace caffe {

#ifdef _OPENMP
int ActiveMaxThreads() { return omp_get_max_threads(); }
void ActiveSetThreads(int threads) { omp_set_num_threads(threads); }
int ActiveThisThread() { return omp_get_thread_num(); }
#else
int ActiveMaxThreads() { return 1; }
void ActiveSetThreads(int) {}
int ActiveThisThread() { return 0; }
#endif

void ActiveFail(const std::exception& exception) {
  LOG(FATAL) << "A thread of a layer's loop failed, most likely for want of memory: " << exception.what();
}

namespace {

int BytesOfMachine() {
#ifdef ACTIVE_AVX2
  return ActiveHasAvx512() ? 64 : ActiveHasAvx2() ? 32 : 16;
#else
  return 16;
#endif
}

int BytesWanted() {
  const char* name = std::getenv("ACTIVE_CONVOLUTION_VECTORS");
  const std::string wanted = name ? name : "avx512";
  CHECK(wanted == "plain" || wanted == "avx2" || wanted == "avx512") << "ACTIVE_CONVOLUTION_VECTORS is " << wanted
      << "; allowed: plain, avx2, avx512";
  return wanted == "plain" ? 16 : wanted == "avx2" ? 32 : 64;
}

}  // namespace

int ActiveVectorBytes() {
  static const int bytes = std::min(BytesOfMachine(), BytesWanted());
  return bytes;
}

}  // namespace caffe
