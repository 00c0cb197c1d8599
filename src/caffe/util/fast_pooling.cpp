#include <algorithm>
#include <cfloat>
#include <vector>

#include "caffe/util/fast_layers.hpp"
#include "caffe/util/fast_parallel.hpp"

namespace caffe {

namespace {

/// Pixels [begin, end) of one axis that an output pixel pools, and how many of them and of the padding there are.
struct Window {
  int begin, end, padded;

  ACTIVE_INLINE Window(int at, int kernel, int stride, int pad, int size) {
    begin = at * stride - pad;
    end = std::min(begin + kernel, size + pad);
    padded = end - begin;
    begin = std::max(begin, 0);
    end = std::min(end, size);
  }
};

/// Calls body(pixel of the output, its rows, its columns) for a plane's pixels.
template <typename Body>
ACTIVE_INLINE void ForEachWindow(const FastPooling& p, const Body& body) {
  for (int m = 0; m < p.out_height; ++m) {
    const Window rows(m, p.kernel_h, p.stride_h, p.pad_h, p.height);
    for (int n = 0; n < p.out_width; ++n) {
      body(m * p.out_width + n, rows, Window(n, p.kernel_w, p.stride_w, p.pad_w, p.width));
    }
  }
}

/// The one window is the whole plane.
bool IsGlobal(const FastPooling& p) {
  return p.out_height == 1 && p.out_width == 1 && p.pad_h == 0 && p.pad_w == 0 && p.kernel_h >= p.height &&
         p.kernel_w >= p.width;
}

template <typename Dtype>
ACTIVE_INLINE void AveragePlane(const FastPooling& p, const Dtype* data, Dtype* top) {
  ForEachWindow(p, [&](int pixel, const Window& rows, const Window& columns) FAST_LOOP {
    Dtype sum = 0;
    for (int y = rows.begin; y < rows.end; ++y) {
      for (int x = columns.begin; x < columns.end; ++x) { sum += data[y * p.width + x]; }
    }
    top[pixel] = sum / (rows.padded * columns.padded);
  });
}

template <typename Dtype>
ACTIVE_INLINE void SpreadPlane(const FastPooling& p, const Dtype* top_diff, Dtype* diff) {
  std::fill_n(diff, p.image_size(), Dtype(0));
  ForEachWindow(p, [&](int pixel, const Window& rows, const Window& columns) FAST_LOOP {
    const Dtype share = top_diff[pixel] / (rows.padded * columns.padded);
    for (int y = rows.begin; y < rows.end; ++y) {
      for (int x = columns.begin; x < columns.end; ++x) { diff[y * p.width + x] += share; }
    }
  });
}

/// The first of the largest values of each window, and its pixel; -1 where none is above -FLT_MAX.
template <typename Dtype, typename Index>
ACTIVE_INLINE void MaximumPlane(const FastPooling& p, const Dtype* data, Dtype* top, Index* mask) {
  ForEachWindow(p, [&](int pixel, const Window& rows, const Window& columns) FAST_LOOP {
    Dtype largest = -FLT_MAX;
    int at = -1;
    for (int y = rows.begin; y < rows.end; ++y) {
      for (int x = columns.begin; x < columns.end; ++x) {
        const Dtype value = data[y * p.width + x];
        if (value > largest) {
          largest = value;
          at = y * p.width + x;
        }
      }
    }
    top[pixel] = largest;
    mask[pixel] = static_cast<Index>(at);
  });
}

template <typename Dtype, typename Index>
void Maximum(const FastPooling& p, const Dtype* data, Dtype* top, Index* mask) {
  FastParts(p.planes, p.elements(), [=](int plane) FAST_LOOP {
    const size_t out = static_cast<size_t>(plane) * p.out_size();
    MaximumPlane(p, data + static_cast<size_t>(plane) * p.image_size(), top + out, mask + out);
  });
}

template <typename Dtype, typename Index>
void ReturnMaximum(const FastPooling& p, const Dtype* top_diff, const Index* mask, Dtype* diff) {
  FastParts(p.planes, p.elements(), [=](int plane) FAST_LOOP {
    Dtype* to = diff + static_cast<size_t>(plane) * p.image_size();
    const size_t out = static_cast<size_t>(plane) * p.out_size();
    std::fill_n(to, p.image_size(), Dtype(0));
    for (int i = 0; i < p.out_size(); ++i) {
      const int pixel = static_cast<int>(mask[out + i]);
      if (pixel >= 0) { to[pixel] += top_diff[out + i]; }
    }
  });
}

template <typename Dtype>
void Average(const FastPooling& p, const Dtype* data, Dtype* top) {
  const bool global = IsGlobal(p);
  const int size = p.image_size();
  FastParts(p.planes, p.elements(), [=](int plane) FAST_LOOP {
    const Dtype* from = data + static_cast<size_t>(plane) * size;
    Dtype* to = top + static_cast<size_t>(plane) * p.out_size();
    if (global) {
      *to = static_cast<Dtype>(FastSum<Dtype>(size, [=](int i) FAST_LOOP { return from[i]; }) / size);
    } else {
      AveragePlane(p, from, to);
    }
  });
}

template <typename Dtype>
void ReturnAverage(const FastPooling& p, const Dtype* top_diff, Dtype* diff) {
  const bool global = IsGlobal(p);
  const int size = p.image_size();
  FastParts(p.planes, p.elements(), [=](int plane) FAST_LOOP {
    const Dtype* from = top_diff + static_cast<size_t>(plane) * p.out_size();
    Dtype* to = diff + static_cast<size_t>(plane) * size;
    if (global) {
      std::fill_n(to, size, *from / size);
    } else {
      SpreadPlane(p, from, to);
    }
  });
}

template <typename Dtype>
bool Covers(const FastPooling& pooling, const std::vector<Blob<Dtype>*>& bottom, const std::vector<Blob<Dtype>*>& top) {
  return UseFastLayers() && pooling.method != PoolingParameter_PoolMethod_STOCHASTIC && !FastInPlace(bottom, top);
}

}  // namespace

template <typename Dtype>
bool FastPoolingForward(const FastPooling& pooling, Blob<int>* mask, const std::vector<Blob<Dtype>*>& bottom,
                        const std::vector<Blob<Dtype>*>& top) {
  if (!Covers(pooling, bottom, top)) { return false; }
  const Dtype* data = bottom[0]->cpu_data();
  Dtype* to = top[0]->mutable_cpu_data();
  if (pooling.method == PoolingParameter_PoolMethod_AVE) {
    Average(pooling, data, to);
  } else if (top.size() > 1) {
    Maximum(pooling, data, to, top[1]->mutable_cpu_data());
  } else {
    Maximum(pooling, data, to, mask->mutable_cpu_data());
  }
  return true;
}

template <typename Dtype>
bool FastPoolingBackward(const FastPooling& pooling, const Blob<int>& mask, const std::vector<Blob<Dtype>*>& top,
                         const std::vector<bool>& propagate_down, const std::vector<Blob<Dtype>*>& bottom) {
  if (!Covers(pooling, bottom, top)) { return false; }
  if (!propagate_down[0]) { return true; }
  const Dtype* top_diff = top[0]->cpu_diff();
  Dtype* diff = bottom[0]->mutable_cpu_diff();
  if (pooling.method == PoolingParameter_PoolMethod_AVE) {
    ReturnAverage(pooling, top_diff, diff);
  } else if (top.size() > 1) {
    ReturnMaximum(pooling, top_diff, top[1]->cpu_data(), diff);
  } else {
    ReturnMaximum(pooling, top_diff, mask.cpu_data(), diff);
  }
  return true;
}

#define INSTANTIATE(Dtype) \
  template bool FastPoolingForward<Dtype>(const FastPooling&, Blob<int>*, const std::vector<Blob<Dtype>*>&, \
                                          const std::vector<Blob<Dtype>*>&); \
  template bool FastPoolingBackward<Dtype>(const FastPooling&, const Blob<int>&, const std::vector<Blob<Dtype>*>&, \
                                           const std::vector<bool>&, const std::vector<Blob<Dtype>*>&)

INSTANTIATE(float);
INSTANTIATE(double);

}  // namespace caffe
