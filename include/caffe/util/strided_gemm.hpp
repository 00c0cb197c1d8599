#ifndef CAFFE_UTIL_STRIDED_GEMM_HPP_
#define CAFFE_UTIL_STRIDED_GEMM_HPP_

#include "caffe/common.hpp"
#include "caffe/util/mkl_alternate.hpp"

// OpenBLAS's own; absent (null) with another BLAS.
extern "C" {
int openblas_get_parallel(void) __attribute__((weak));
int openblas_get_num_threads(void) __attribute__((weak));
void openblas_set_num_threads(int) __attribute__((weak));
}

namespace caffe {

/// A row-major matrix inside a larger one: `stride` elements from row to row.
template <typename Dtype>
struct Strided {
  Dtype* data;
  int stride;
};

/// c (m x n) = op(a) (m x k) * op(b) (k x n) + beta * c. Caffe's own gemm knows whole matrices only.
inline void strided_gemm(CBLAS_TRANSPOSE trans_a, CBLAS_TRANSPOSE trans_b, int m, int n, int k,
                         Strided<const float> a, Strided<const float> b, float beta, Strided<float> c) {
  cblas_sgemm(CblasRowMajor, trans_a, trans_b, m, n, k, 1, a.data, a.stride, b.data, b.stride, beta, c.data, c.stride);
}

inline void strided_gemm(CBLAS_TRANSPOSE trans_a, CBLAS_TRANSPOSE trans_b, int m, int n, int k,
                         Strided<const double> a, Strided<const double> b, double beta, Strided<double> c) {
  cblas_dgemm(CblasRowMajor, trans_a, trans_b, m, n, k, 1, a.data, a.stride, b.data, b.stride, beta, c.data, c.stride);
}

/// While it lives, products called from our own threads use one thread each. The OpenMP variant of OpenBLAS does that by
/// itself inside a parallel region; the pthreads variant would start all its threads from each of ours.
class SingleThreadedBlas {
 public:
  SingleThreadedBlas() : threads_(0) {
    const int kPthreads = 1;
    if (openblas_get_parallel && openblas_get_parallel() == kPthreads) {
      threads_ = openblas_get_num_threads();
      openblas_set_num_threads(1);
    }
  }
  ~SingleThreadedBlas() {
    if (threads_) { openblas_set_num_threads(threads_); }
  }

 private:
  SingleThreadedBlas(const SingleThreadedBlas&);
  SingleThreadedBlas& operator=(const SingleThreadedBlas&);
  int threads_;
};

}  // namespace caffe

#endif  // CAFFE_UTIL_STRIDED_GEMM_HPP_
