#include "caffe/common.hpp"
#include "caffe/util/active_convolution.hpp"
#include "caffe/util/active_gpu_launch.hpp"
#include "caffe/util/active_gpu_pass.hpp"
#include "caffe/util/math_functions.hpp"

namespace caffe {

namespace {

cublasOperation_t Op(CBLAS_TRANSPOSE transposed) { return transposed == CblasNoTrans ? CUBLAS_OP_N : CUBLAS_OP_T; }

decltype(&cublasSgemmStridedBatched) Products(float) { return cublasSgemmStridedBatched; }
decltype(&cublasDgemmStridedBatched) Products(double) { return cublasDgemmStridedBatched; }

/// Caffe's current GPU: its default stream, its cuBLAS handle. Everything runs in order and without atomics.
struct CudaDevice {
  template <typename Element>
  static Element* Data(Blob<Element>* blob) { return blob->mutable_gpu_data(); }

  template <typename Element>
  static void Zero(size_t count, Element* data) { caffe_gpu_memset(count * sizeof(Element), 0, data); }

  template <typename Element>
  static void Fetch(int count, const Element* data, Element* to) {
    caffe_gpu_memcpy(count * sizeof(Element), data, to);
  }

  template <typename Kernel>
  static void Launch(const Kernel& kernel) { ActiveLaunch(kernel); }

  /// cuBLAS counts columns first: it makes the transposed product of what it takes for transposed matrices.
  template <typename Dtype>
  static void Gemm(int count, CBLAS_TRANSPOSE trans_a, CBLAS_TRANSPOSE trans_b, int m, int n, int k,
                   const ActiveMatrices<const Dtype>& a, const ActiveMatrices<const Dtype>& b, Dtype beta,
                   const ActiveMatrices<Dtype>& c) {
    const Dtype one = 1;
    CUBLAS_CHECK(Products(Dtype())(Caffe::cublas_handle(), Op(trans_b), Op(trans_a), n, m, k, &one, b.data, b.step,
                                   b.stride, a.data, a.step, a.stride, &beta, c.data, c.step, c.stride, count));
  }
};

}  // namespace

template <typename Dtype>
void active_convolution_forward_gpu(const ActiveGeometry& geometry, int num, const ActiveParameters<Dtype>& parameters,
                                    const Dtype* bottom, Dtype* top, ActiveGpuWorkspace<Dtype>* workspace) {
  ActiveGpuPass<CudaDevice, Dtype>(geometry, num, parameters, bottom, workspace).Forward(top);
}

template <typename Dtype>
void active_convolution_backward_gpu(const ActiveGeometry& geometry, int num, const ActiveParameters<Dtype>& parameters,
                                     const Dtype* bottom, const Dtype* top_diff,
                                     const ActiveGradients<Dtype>& gradients, ActiveGpuWorkspace<Dtype>* workspace) {
  ActiveGpuPass<CudaDevice, Dtype>(geometry, num, parameters, bottom, workspace).Backward(top_diff, gradients);
}

#define INSTANTIATE(Dtype) \
  template void active_convolution_forward_gpu<Dtype>(const ActiveGeometry&, int, const ActiveParameters<Dtype>&, \
                                                      const Dtype*, Dtype*, ActiveGpuWorkspace<Dtype>*); \
  template void active_convolution_backward_gpu<Dtype>(const ActiveGeometry&, int, const ActiveParameters<Dtype>&, \
                                                       const Dtype*, const Dtype*, const ActiveGradients<Dtype>&, \
                                                       ActiveGpuWorkspace<Dtype>*)

INSTANTIATE(float);
INSTANTIATE(double);

}  // namespace caffe
