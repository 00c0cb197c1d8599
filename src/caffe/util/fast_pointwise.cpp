#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "caffe/util/active_cpu_kernels.hpp"
#include "caffe/util/active_geometry.hpp"
#include "caffe/util/active_threads.hpp"
#include "caffe/util/fast_parallel.hpp"
#include "caffe/util/fast_pointwise.hpp"

/**
 * 1x1 convolutions as products of the active convolution's kernels. A batch is a matrix of channels x columns, where the
 * columns are the pixels of all its images:
 *
 *   top          outputs x columns   = weight  * bottom       summed over channels
 *   bottom diff  channels x columns  = weight' * top diff     summed over outputs
 *   weight diff  outputs x channels += top diff * bottom'     summed over columns
 *
 * A tile of columns is copied into a buffer that a core's second cache holds, and multiplied there.
 */
namespace caffe {

namespace {

/// Bytes of a tile and its product.
const int kTileBytes = 512 << 10;
/// Columns of a tile whose product is summed over them: a strip of the transposed tile stays in the first cache.
const int kSummed = 128;
/// Parts of the weights' gradient, the outputs of one, and bytes of them all.
const int kParts = 16, kPartOutputs = 256;
const size_t kPartBytes = 16 << 20;

int RoundUp(int count, int unit) { return CeilDivide(count, unit) * unit; }

/// Memory from the start of a cache line on, that only grows; zeros at first, so that what nobody wrote is no NaN.
template <typename Dtype>
class Buffer {
 public:
  Buffer() : data_(NULL), size_(0) {}
  ~Buffer() { std::free(data_); }

  Dtype* Get(size_t size) {
    if (size > size_) {
      std::free(data_);
      size_ = size;
      void* memory = NULL;
      CHECK_EQ(posix_memalign(&memory, 64, size_ * sizeof(Dtype)), 0) << "out of memory";
      data_ = static_cast<Dtype*>(memory);
      std::fill_n(data_, size_, Dtype(0));
    }
    return data_;
  }

 private:
  Buffer(const Buffer&);
  Buffer& operator=(const Buffer&);

  Dtype* data_;
  size_t size_;
};

/// What a thread works in.
template <typename Dtype>
struct Buffers {
  Buffer<Dtype> tile, product, transposed;

  static Buffers& OfThread() {
    static thread_local Buffers buffers;
    return buffers;
  }
};

/// One of the two blobs: num x planes x pixels, of which a convolution with strides sees only some.
struct Side {
  int planes, plane_size;       // of all groups; in elements
  int width, stride_h, stride_w;
  int pixels, out_width;        // seen

  bool strided() const { return stride_h != 1 || stride_w != 1; }
  size_t At(int image, int plane) const { return (static_cast<size_t>(image) * planes + plane) * plane_size; }
  size_t PixelAt(int pixel) const {
    return static_cast<size_t>(pixel / out_width * stride_h) * width + pixel % out_width * stride_w;
  }
};

/// Calls body(image, pixel, column of the tile, how many) for the runs of neighbours in columns [first, first + count).
template <typename Body>
void ForEachRun(const Side& side, int first, int count, const Body& body) {
  for (int column = 0; column < count;) {
    const int image = (first + column) / side.pixels, pixel = (first + column) % side.pixels;
    const int length = std::min(side.pixels - pixel, count - column);
    body(image, pixel, column, length);
    column += length;
  }
}

/// tile (planes x columns, rows of `row` elements) = planes [plane, plane + planes), columns [first, first + count).
template <typename Dtype>
void Gather(const Side& side, const Dtype* blob, int plane, int planes, int first, int count, int row, Dtype* tile) {
  ForEachRun(side, first, count, [&](int image, int pixel, int column, int length) {
    for (int c = 0; c < planes; ++c) {
      const Dtype* from = blob + side.At(image, plane + c);
      Dtype* to = tile + static_cast<size_t>(c) * row + column;
      if (side.strided()) {
        for (int i = 0; i < length; ++i) { to[i] = from[side.PixelAt(pixel + i)]; }
      } else {
        std::memcpy(to, from + pixel, length * sizeof(Dtype));
      }
    }
  });
}

/// The way back, to pixels that hold zeros where there are strides; plus `bias`, one per plane, or NULL.
template <typename Dtype>
void Scatter(const Side& side, const Dtype* tile, int plane, int planes, int first, int count, int row,
             const Dtype* bias, Dtype* blob) {
  ForEachRun(side, first, count, [&](int image, int pixel, int column, int length) {
    for (int c = 0; c < planes; ++c) {
      const Dtype* from = tile + static_cast<size_t>(c) * row + column;
      Dtype* to = blob + side.At(image, plane + c);
      const Dtype offset = bias ? bias[c] : Dtype(0);
      if (side.strided()) {
        for (int i = 0; i < length; ++i) { to[side.PixelAt(pixel + i)] = from[i] + offset; }
      } else if (bias) {
        for (int i = 0; i < length; ++i) { to[pixel + i] = from[i] + offset; }
      } else {
        std::memcpy(to + pixel, from, length * sizeof(Dtype));
      }
    }
  });
}

template <typename Dtype>
class Pointwise {
 public:
  Pointwise(const FastConvolution& c, const Blob<Dtype>& bottom, const Blob<Dtype>& top)
      : num_(bottom.count(0, c.channel_axis)), group_(c.group), kernels_(AllActiveCpuKernels<Dtype>()[0]),
        input_(SideOf(c, bottom)), output_(SideOf(c, top)) {
    const bool two = c.spatial_axes == 2;
    input_.pixels = output_.pixels = output_.plane_size;
    input_.out_width = output_.out_width = two ? top.shape(-1) : output_.plane_size;
    input_.stride_h = two ? c.stride.cpu_data()[0] : 1;
    input_.stride_w = two ? c.stride.cpu_data()[1] : 1;
    channels_ = input_.planes / group_;
    outputs_ = output_.planes / group_;
  }

  void Forward(const Dtype* weight, const Dtype* bias, const Dtype* bottom, Dtype* top) {
    const Matrix matrix = {weight, static_cast<size_t>(channels_), 1};
    const Product product = {input_, output_, channels_, outputs_, matrix, bottom, bias, top};
    Multiply(product);
  }

  void BackwardBottom(const Dtype* weight, const Dtype* top_diff, Dtype* bottom_diff) {
    if (input_.strided()) {
      std::memset(bottom_diff, 0, static_cast<size_t>(num_) * input_.planes * input_.plane_size * sizeof(Dtype));
    }
    const Matrix transposed = {weight, 1, static_cast<size_t>(channels_)};
    const Product product = {output_, input_, outputs_, channels_, transposed, top_diff, NULL, bottom_diff};
    Multiply(product);
  }

  /// Adds to weight_diff.
  void BackwardWeight(const Dtype* bottom, const Dtype* top_diff, Dtype* weight_diff) {
    const int block = std::min(outputs_, EvenShare(RoundUp(outputs_, kernels_.rows), kPartOutputs));
    const int blocks = CeilDivide(outputs_, block), row = RoundUp(channels_, kernels_.lanes) + kernels_.lanes;
    const size_t size = static_cast<size_t>(RoundUp(block, kernels_.rows)) * row;
    const int affordable = std::max<size_t>(1, kPartBytes / sizeof(Dtype) / size / (blocks * group_));
    const int images = CeilDivide(num_, std::min(num_, std::min(affordable, CeilDivide(kParts, blocks * group_))));
    const int slices = CeilDivide(num_, images), rows = blocks * group_;
    static thread_local Buffer<Dtype> buffer;
    Dtype* sums = buffer.Get(size * slices * rows);
#pragma omp parallel for schedule(dynamic) if (work() > kFastSerial)
    for (int part = 0; part < slices * rows; ++part) {
      const int slice = part / rows, g = part % rows / blocks, first = part % blocks * block;
      const int last_image = std::min(num_, (slice + 1) * images);
      SumOverColumns(g, first, std::min(block, outputs_ - first), slice * images * output_.pixels,
                     last_image * output_.pixels, bottom, top_diff, row, sums + part * size);
    }
#pragma omp parallel for if (size * slices * rows > kFastSerial)
    for (int d = 0; d < outputs_ * group_; ++d) {
      const int in_group = d % outputs_, line = d / outputs_ * blocks + in_group / block;
      Dtype* to = weight_diff + static_cast<size_t>(d) * channels_;
      for (int slice = 0; slice < slices; ++slice) {
        const Dtype* from = sums + (slice * rows + line) * size + static_cast<size_t>(in_group % block) * row;
        for (int c = 0; c < channels_; ++c) { to[c] += from[c]; }
      }
    }
  }

  /// Adds to bias_diff.
  void BackwardBias(const Dtype* top_diff, Dtype* bias_diff) const {
    const Side side = output_;
    const int num = num_;
    FastParts(side.planes, static_cast<size_t>(num) * side.planes * side.plane_size, [=](int d) FAST_LOOP {
      double sum = 0;
      for (int n = 0; n < num; ++n) {
        const Dtype* diff = top_diff + side.At(n, d);
        sum += FastSum<Dtype>(side.plane_size, [=](int i) FAST_LOOP { return diff[i]; });
      }
      bias_diff[d] += static_cast<Dtype>(sum);
    });
  }

 private:
  /// The weights of one group: elements from row to row, and from one term of the sum to the next.
  struct Matrix {
    const Dtype* data;
    size_t row, step;
  };

  /// to = matrix (rows x depth; the next group's follows) * from + bias
  struct Product {
    Side from_side, to_side;
    int depth, rows;
    Matrix matrix;
    const Dtype* from;
    const Dtype* bias;
    Dtype* to;
  };

  static Side SideOf(const FastConvolution& c, const Blob<Dtype>& blob) {
    const Side side = {blob.shape(c.channel_axis), blob.count(c.channel_axis + 1), blob.shape(-1), 1, 1, 0, 0};
    return side;
  }

  int columns() const { return num_ * output_.pixels; }
  /// In what takes as long as an element of a loop over memory.
  size_t work() const { return static_cast<size_t>(columns()) * group_ * channels_ * outputs_ / 16; }

  void Multiply(Product p) const {
    const int rows = RoundUp(p.rows, kernels_.rows), unit = 3 * kernels_.lanes;
    const size_t matrix_size = static_cast<size_t>(rows) * p.depth;
    if (p.rows < rows) { PadRows(rows, &p); }
    const int fitting = kTileBytes / static_cast<int>(sizeof(Dtype)) / (p.depth + rows) / unit * unit;
    const int tile = std::max(unit, std::min(fitting, RoundUp(CeilDivide(columns(), ActiveMaxThreads()), unit)));
    const int tiles = CeilDivide(columns(), tile);
#pragma omp parallel for schedule(dynamic) if (work() > kFastSerial)
    for (int i = 0; i < tiles * group_; ++i) {
      const int g = i % group_, first = i / group_ * tile;
      MultiplyTile(p, p.matrix.data + g * matrix_size, g, first, std::min(tile, columns() - first));
    }
  }

  /// Copies the matrices of all groups to where each has `rows` rows: the kernels read whole blocks of them.
  void PadRows(int rows, Product* p) const {
    static thread_local Buffer<Dtype> buffer;
    Dtype* padded = buffer.Get(static_cast<size_t>(group_) * rows * p->depth);
    for (int g = 0; g < group_; ++g) {
      const Dtype* from = p->matrix.data + static_cast<size_t>(g) * p->rows * p->depth;
      for (int i = 0; i < p->rows; ++i) {
        Dtype* to = padded + (static_cast<size_t>(g) * rows + i) * p->depth;
        for (int step = 0; step < p->depth; ++step) { to[step] = from[i * p->matrix.row + step * p->matrix.step]; }
      }
    }
    const Matrix matrix = {padded, static_cast<size_t>(p->depth), 1};
    p->matrix = matrix;
  }

  void MultiplyTile(const Product& p, const Dtype* weights, int g, int first, int count) const {
    Buffers<Dtype>& buffers = Buffers<Dtype>::OfThread();
    const int row = RoundUp(count, kernels_.lanes) + kernels_.lanes;  // no power of two, for the caches' sets
    Dtype* tile = buffers.tile.Get(static_cast<size_t>(p.depth) * row);
    Dtype* result = buffers.product.Get(static_cast<size_t>(RoundUp(p.rows, kernels_.rows)) * row);
    Gather(p.from_side, p.from, g * p.depth, p.depth, first, count, row, tile);
    const ActiveProduct<Dtype> product = {
        p.rows, count, p.depth, weights, p.matrix.row, p.matrix.step,
        tile, static_cast<size_t>(ActiveStrip(count, kernels_.lanes)), static_cast<size_t>(row),
        result, static_cast<size_t>(row), false};
    kernels_.multiply(product);
    Scatter(p.to_side, result, g * p.rows, p.rows, first, count, row, p.bias ? p.bias + g * p.rows : NULL, p.to);
  }

  /// sums (outputs x channels, rows of `row` elements) = top diff * bottom' over columns [first, last).
  void SumOverColumns(int g, int output, int outputs, int first, int last, const Dtype* bottom, const Dtype* top_diff,
                      int row, Dtype* sums) const {
    Buffers<Dtype>& buffers = Buffers<Dtype>::OfThread();
    const int stride = kSummed + kernels_.lanes;
    Dtype* tile = buffers.tile.Get(static_cast<size_t>(channels_) * stride);
    Dtype* diff = buffers.product.Get(static_cast<size_t>(RoundUp(outputs, kernels_.rows)) * stride);
    Dtype* transposed = buffers.transposed.Get(static_cast<size_t>(kSummed) * row);
    std::fill_n(sums, static_cast<size_t>(outputs) * row, Dtype(0));
    for (int column = first; column < last; column += kSummed) {
      const int count = std::min(kSummed, last - column);
      Gather(input_, bottom, g * channels_, channels_, column, count, stride, tile);
      Gather(output_, top_diff, g * outputs_ + output, outputs, column, count, stride, diff);
      const ActivePlanes<Dtype> planes = {channels_, count, static_cast<size_t>(stride), count,
                                          static_cast<size_t>(row), 0};
      kernels_.load_planes(planes, tile, transposed);
      const ActiveProduct<Dtype> product = {
          outputs, channels_, count, diff, static_cast<size_t>(stride), 1,
          transposed, static_cast<size_t>(ActiveStrip(channels_, kernels_.lanes)), static_cast<size_t>(row),
          sums, static_cast<size_t>(row), true};
      kernels_.multiply(product);
    }
  }

  const int num_, group_;
  const ActiveCpuKernels<Dtype>& kernels_;
  Side input_, output_;
  int channels_, outputs_;  // of a group
};

}  // namespace

bool FastIsPointwise(const FastConvolution& c) {
  bool pointwise = true, strided = false;
  for (int i = 0; i < c.spatial_axes; ++i) {
    pointwise = pointwise && c.kernel.cpu_data()[i] == 1 && c.pad.cpu_data()[i] == 0;
    strided = strided || c.stride.cpu_data()[i] != 1;
  }
  return pointwise && (!strided || c.spatial_axes == 2);
}

template <typename Dtype>
void FastPointwiseForward(const FastConvolution& convolution, const Dtype* weight, const Dtype* bias,
                          const Blob<Dtype>& bottom, Blob<Dtype>* top) {
  Pointwise<Dtype>(convolution, bottom, *top).Forward(weight, bias, bottom.cpu_data(), top->mutable_cpu_data());
}

template <typename Dtype>
void FastPointwiseBackward(const FastConvolution& convolution, const Dtype* weight, const Blob<Dtype>& bottom,
                           const Blob<Dtype>& top, const ActiveGradients<Dtype>& gradients) {
  Pointwise<Dtype> pass(convolution, bottom, top);
  if (gradients.bias) { pass.BackwardBias(top.cpu_diff(), gradients.bias); }
  if (gradients.weight) { pass.BackwardWeight(bottom.cpu_data(), top.cpu_diff(), gradients.weight); }
  if (gradients.bottom) { pass.BackwardBottom(weight, top.cpu_diff(), gradients.bottom); }
}

#define INSTANTIATE(Dtype) \
  template void FastPointwiseForward<Dtype>(const FastConvolution&, const Dtype*, const Dtype*, const Blob<Dtype>&, \
                                            Blob<Dtype>*); \
  template void FastPointwiseBackward<Dtype>(const FastConvolution&, const Dtype*, const Blob<Dtype>&, \
                                             const Blob<Dtype>&, const ActiveGradients<Dtype>&)

INSTANTIATE(float);
INSTANTIATE(double);

}  // namespace caffe
