// The products of cuBLAS that the emulator of GPUs lacks, one by one with those that it has.
#define EMULATED_BATCHES(X, T) \
  extern "C" __attribute__((weak)) cublasStatus_t cublas##X##gemmStridedBatched( \
      cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, int m, int n, int k, const T* alpha, \
      const T* a, int lda, long long stride_a, const T* b, int ldb, long long stride_b, const T* beta, T* c, int ldc, \
      long long stride_c, int count) { \
    cublasStatus_t status = count < 0 ? CUBLAS_STATUS_INVALID_VALUE : CUBLAS_STATUS_SUCCESS; \
    for (int i = 0; i < count && status == CUBLAS_STATUS_SUCCESS; ++i) { \
      status = cublas##X##gemm(handle, op_a, op_b, m, n, k, alpha, a + i * stride_a, lda, b + i * stride_b, ldb, beta, \
                               c + i * stride_c, ldc); \
    } \
    return status; \
  }
EMULATED_BATCHES(S, float)
EMULATED_BATCHES(D, double)
#undef EMULATED_BATCHES
