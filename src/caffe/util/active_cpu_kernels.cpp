#include <algorithm>
#include <cstring>

#include "caffe/util/active_vector.hpp"  // before what it uses

#include "caffe/util/active_cpu_kernels.hpp"

namespace caffe {

namespace {

/// An interval of pixels of one axis.
struct Reach {
  int first, count;

  /// What `outputs` output pixels read, the first one's base at `base`, through taps from `least` to `most`.
  Reach(int base, int outputs, int stride, int least, int most)
      : first(base + least), count((outputs - 1) * stride + most + 1 - least + 1) {}

  /// The part of it inside [0, size); empty at 0 where there is none.
  void Clip(int size) {
    const int last = std::min(first + count, size);
    first = std::max(first, 0);
    count = std::max(last - first, 0);
    if (count == 0) { first = 0; }
  }
};

}  // namespace

template <typename Dtype>
ActiveFrame<Dtype>::ActiveFrame(const ActiveGeometry& geometry, const ActiveTap<Dtype>* taps, const ActiveChunk& chunk,
                                int synapse, int synapses, int channel, int channels, int vector_lanes)
    : geometry(&geometry), taps(taps), chunk(chunk), synapse(synapse), synapses(synapses), channel(channel),
      channels(channels), lanes(CeilDivide(channels, vector_lanes) * vector_lanes) {
  const auto compare_x = [](const ActiveTap<Dtype>& a, const ActiveTap<Dtype>& b) { return a.x < b.x; };
  const auto compare_y = [](const ActiveTap<Dtype>& a, const ActiveTap<Dtype>& b) { return a.y < b.y; };
  const auto x = std::minmax_element(taps + synapse, taps + synapse + synapses, compare_x);
  const auto y = std::minmax_element(taps + synapse, taps + synapse + synapses, compare_y);
  const ActiveGeometry& g = geometry;
  const Reach across(g.base_w + first_n() * g.stride_w, last_n() - first_n() + 1, g.stride_w, x.first->x, x.second->x);
  Reach down(g.base_h + first_m() * g.stride_h, last_m() - first_m() + 1, g.stride_h, y.first->y, y.second->y);
  down.Clip(g.height);
  column = across.first;
  columns = across.count;
  row = down.first;
  rows = down.count;
}

template <typename Dtype>
std::vector<ActiveTap<Dtype> > ActiveFrameTaps(const ActiveGeometry& g, const Dtype* x, const Dtype* y, int positions) {
  std::vector<ActiveTap<Dtype> > taps(positions);
  const int above = -2 - g.base_h - (g.out_height - 1) * g.stride_h, below = g.height - g.base_h;
  const int left = -2 - g.base_w - (g.out_width - 1) * g.stride_w, right = g.width - g.base_w;
  for (int i = 0; i < positions; ++i) {
    ActiveTap<Dtype>& tap = taps[i] = MakeActiveTap(x[i], y[i]);
    if (tap.x <= left || tap.x >= right) {
      tap.x = 0;
      tap.y = below;
    }
    tap.y = std::max(above, std::min(below, tap.y));
  }
  return taps;
}

namespace {

/// The kernels with vectors of kBytes, kRows rows of a product at once.
template <typename Dtype, int kBytes, int kRows>
struct Kernels {
  typedef ActiveVector<Dtype, kBytes> Vector;
  typedef typename Vector::Type V;
  static constexpr int kLanes = Vector::kLanes;

  /// A block of kRows x kVectors: its sums stay in registers. Each term takes one vector of b per column of the block,
  /// and one element of a, spread over a vector, per row.
  template <int kVectors>
  static ACTIVE_INLINE void MultiplyBlock(const ActiveProduct<Dtype>& p, const Dtype* a, const Dtype* b, Dtype* c) {
    V sums[kRows][kVectors] = {};
    for (int step = 0; step < p.depth; ++step, a += p.a_step, b += p.b_step) {
      V factors[kVectors];
      for (int j = 0; j < kVectors; ++j) { factors[j] = Vector::Load(b + j * kLanes); }
      for (int i = 0; i < kRows; ++i) {
        for (int j = 0; j < kVectors; ++j) { sums[i][j] += a[i * p.a_row] * factors[j]; }
      }
    }
    for (int i = 0; i < kRows; ++i) {
      for (int j = 0; j < kVectors; ++j) {
        Dtype* to = c + i * p.c_row + j * kLanes;
        Vector::Store(to, p.add ? Vector::Load(to) + sums[i][j] : sums[i][j]);
      }
    }
  }

  static ACTIVE_INLINE void Multiply(const ActiveProduct<Dtype>& p) {
    const int strip = ActiveStrip(p.columns, kLanes);
    for (int column = 0; column < p.columns; column += strip) {
      const Dtype* b = p.b + column / strip * p.b_strip;
      const int vectors = CeilDivide(std::min(strip, p.columns - column), kLanes);
      for (int row = 0; row < p.rows; row += kRows) {
        const Dtype* a = p.a + row * p.a_row;
        Dtype* c = p.c + row * p.c_row + column;
        if (vectors == 1) { MultiplyBlock<1>(p, a, b, c); }
        if (vectors == 2) { MultiplyBlock<2>(p, a, b, c); }
        if (vectors == 3) { MultiplyBlock<3>(p, a, b, c); }
      }
    }
  }

  /// Walks along the pixels of the vectors.
  template <typename Pointer>
  struct Cursor {
    Pointer at;  // the present pixel's first element
    int column;

    ACTIVE_INLINE void Advance(const ActivePlanes<Dtype>& s) {
      at += s.pixel_size;
      if (++column == s.row_pixels) {
        at += s.row_size - s.row_pixels * s.pixel_size;
        column = 0;
      }
    }
  };

  /// kLanes planes x kLanes pixels, of which only `planes` and `pixels` exist.
  static ACTIVE_INLINE void LoadSquare(const ActivePlanes<Dtype>& s, int planes, int pixels, const Dtype* from,
                                       Cursor<Dtype*>* to) {
    V square[kLanes];
    for (int i = 0; i < kLanes; ++i, from += s.plane_size) {
      if (planes == kLanes) { __builtin_prefetch(from + kLanes); }  // the next square
      square[i] = V{};
      if (i < planes && pixels == kLanes) { square[i] = Vector::Load(from); }
      if (i < planes && pixels < kLanes) { std::memcpy(&square[i], from, pixels * sizeof(Dtype)); }
    }
    Vector::Transpose(square);
    for (int j = 0; j < pixels; ++j, to->Advance(s)) { Vector::Store(to->at, square[j]); }
  }

  static ACTIVE_INLINE void LoadPlanes(const ActivePlanes<Dtype>& s, const Dtype* planes, Dtype* vectors) {
    for (int plane = 0; plane < s.planes; plane += kLanes) {
      Cursor<Dtype*> to = {vectors + plane, 0};
      for (int pixel = 0; pixel < s.pixels; pixel += kLanes) {
        const Dtype* from = planes + plane * s.plane_size + pixel;
        const int some_planes = std::min(kLanes, s.planes - plane), some_pixels = std::min(kLanes, s.pixels - pixel);
        if (some_planes == kLanes && some_pixels == kLanes) {
          LoadSquare(s, kLanes, kLanes, from, &to);
        } else {
          LoadSquare(s, some_planes, some_pixels, from, &to);
        }
      }
    }
  }

  /// The way back: planes = vectors + offset, or planes += vectors.
  template <bool kAdd>
  static ACTIVE_INLINE void StoreSquare(const ActivePlanes<Dtype>& s, int planes, int pixels, const Dtype* offset,
                                        Cursor<const Dtype*>* from, Dtype* to) {
    V square[kLanes] = {};
    for (int j = 0; j < pixels; ++j, from->Advance(s)) { square[j] = Vector::Load(from->at); }
    Vector::Transpose(square);
    for (int i = 0; i < planes; ++i, to += s.plane_size) {
      if (!kAdd && offset) { square[i] += offset[i]; }
      if (pixels == kLanes) {
        Vector::Store(to, kAdd ? Vector::Load(to) + square[i] : square[i]);
      } else {
        for (int j = 0; j < pixels; ++j) { to[j] = kAdd ? to[j] + square[i][j] : square[i][j]; }
      }
    }
  }

  template <bool kAdd>
  static ACTIVE_INLINE void StorePlanes(const ActivePlanes<Dtype>& s, const Dtype* vectors, const Dtype* offset,
                                        Dtype* planes) {
    for (int plane = 0; plane < s.planes; plane += kLanes) {
      Cursor<const Dtype*> from = {vectors + plane, 0};
      for (int pixel = 0; pixel < s.pixels; pixel += kLanes) {
        const Dtype* some_offset = offset ? offset + plane : NULL;
        Dtype* to = planes + plane * s.plane_size + pixel;
        const int some_planes = std::min(kLanes, s.planes - plane), some_pixels = std::min(kLanes, s.pixels - pixel);
        if (some_planes == kLanes && some_pixels == kLanes) {
          StoreSquare<kAdd>(s, kLanes, kLanes, some_offset, &from, to);
        } else {
          StoreSquare<kAdd>(s, some_planes, some_pixels, some_offset, &from, to);
        }
      }
    }
  }

  /// The pixels of a chunk in one output row of one image.
  struct Row {
    int image, m, n;      // the first pixel's
    int length;
    size_t pixel;         // the first one, in the chunk
  };

  /// Calls body(row) for each output row of each image of the chunk.
  template <typename Body>
  static ACTIVE_INLINE void ForEachRow(const ActiveFrame<Dtype>& f, const Body& body) {
    const ActiveGeometry& g = *f.geometry;
    const int first_m = f.first_m(), last_m = f.last_m();
    size_t pixel = 0;
    for (int image = 0; image < f.chunk.images; ++image) {
      for (int m = first_m; m <= last_m; ++m) {
        const int n = m == first_m ? f.chunk.begin - m * g.out_width : 0;
        const int end = std::min(g.out_width, f.chunk.end - m * g.out_width);
        const Row row = {image, m, n, end - n, pixel};
        body(row);
        pixel += row.length;
      }
    }
  }

  /// Where in the frame one synapse reads for the pixels of a row.
  struct Run {
    int length;           // the row's
    size_t pixel;
    size_t above, below;  // elements of its left neighbours
    size_t step;          // from output pixel to output pixel
    size_t next;          // from a left neighbour to the right one

    ACTIVE_INLINE Run(const ActiveFrame<Dtype>& f, const ActiveTap<Dtype>& tap, const Row& row)
        : length(row.length), pixel(row.pixel), step(static_cast<size_t>(f.geometry->stride_w) * f.lanes),
          next(f.lanes) {
      const ActiveGeometry& g = *f.geometry;
      const int y = g.base_h + row.m * g.stride_h + tap.y, x = g.base_w + row.n * g.stride_w + tap.x - f.column;
      above = f.RowAt(row.image, y) + x * next;
      below = f.RowAt(row.image, y + 1) + x * next;
    }
  };

  /// columns = the input between four neighbours. With kUnit, stride 1, right ones are the next pixel's left ones.
  template <bool kUnit>
  static ACTIVE_INLINE void SampleRun(const Run& run, const ActiveBilinear<Dtype>& w, const Dtype* data,
                                      size_t pixel_size, Dtype* columns) {
    const Dtype* above = data + run.above;
    const Dtype* below = data + run.below;
    V x00 = Vector::Load(above), x10 = Vector::Load(below);
    for (int j = 0; j < run.length; ++j, columns += pixel_size, above += run.step, below += run.step) {
      if (!kUnit) {
        x00 = Vector::Load(above);
        x10 = Vector::Load(below);
      }
      const V x01 = Vector::Load(above + run.next), x11 = Vector::Load(below + run.next);
      Vector::Store(columns, w.Sample(x00, x01, x10, x11));
      x00 = x01;
      x10 = x11;
    }
  }

  static ACTIVE_INLINE void CopyRun(const Run& run, const Dtype* data, size_t pixel_size, Dtype* columns) {
    const Dtype* from = data + run.above;
    for (int j = 0; j < run.length; ++j) { Vector::Store(columns + j * pixel_size, Vector::Load(from + j * run.step)); }
  }

  /// Row by row: what all synapses write of a row, its pixels' columns, lies together.
  static ACTIVE_INLINE void Sample(const ActiveFrame<Dtype>& f, const Dtype* data, size_t pixel_size, Dtype* columns) {
    ForEachRow(f, [&](const Row& row) __attribute__((always_inline)) {
      for (int k = f.synapse; k < f.synapse + f.synapses; ++k) {
        const ActiveTap<Dtype> tap = f.taps[k];
        const ActiveBilinear<Dtype> w(tap);
        const Run run(f, tap, row);
        for (int lane = 0; lane < f.lanes; lane += kLanes) {
          Dtype* to = columns + run.pixel * pixel_size + k * f.channels + lane;
          if (tap.on_lattice()) {
            CopyRun(run, data + lane, pixel_size, to);
          } else if (f.geometry->stride_w == 1) {
            SampleRun<true>(run, w, data + lane, pixel_size, to);
          } else {
            SampleRun<false>(run, w, data + lane, pixel_size, to);
          }
        }
      }
    });
  }

  /// Terms of the gradient of a position.
  struct Slopes {
    V x, y;
  };

  /// What the columns of a run give to their position, from their gradient. kUnit as in SampleRun.
  template <bool kUnit>
  static ACTIVE_INLINE Slopes SlopeRun(const Run& run, const ActiveTap<Dtype>& tap, const ActiveSpread<Dtype>& s,
                                       const Dtype* diff, int lane) {
    const Dtype* above = s.frame + run.above + lane;
    const Dtype* below = s.frame + run.below + lane;
    V x00 = Vector::Load(above), x10 = Vector::Load(below);
    Slopes sum = {};
    for (int j = 0; j < run.length; ++j, diff += s.pixel_size, above += run.step, below += run.step) {
      if (!kUnit) {
        x00 = Vector::Load(above);
        x10 = Vector::Load(below);
      }
      const V g = Vector::Load(diff), x01 = Vector::Load(above + run.next), x11 = Vector::Load(below + run.next);
      sum.x += g * ActiveSlopeX(tap, x00, x01, x10, x11);
      sum.y += g * ActiveSlopeY(tap, x00, x01, x10, x11);
      x00 = x01;
      x10 = x11;
    }
    return sum;
  }

  static ACTIVE_INLINE void Add(Dtype* to, V value) { Vector::Store(to, Vector::Load(to) + value); }

  /// Gives the gradient of the columns to the four neighbours. With kUnit a pixel's right neighbours get what the next
  /// pixel gives them as its left ones in the same addition.
  template <bool kUnit>
  static ACTIVE_INLINE void ScatterRun(const Run& run, const ActiveBilinear<Dtype>& w, const ActiveSpread<Dtype>& s,
                                       const Dtype* diff, int lane) {
    Dtype* above = s.frame_diff + run.above + lane;
    Dtype* below = s.frame_diff + run.below + lane;
    V above_right = {}, below_right = {};
    for (int j = 0; j < run.length; ++j, diff += s.pixel_size, above += run.step, below += run.step) {
      const V g = Vector::Load(diff);
      Add(above, kUnit ? above_right + w.w00 * g : w.w00 * g);
      Add(below, kUnit ? below_right + w.w10 * g : w.w10 * g);
      above_right = w.w01 * g;
      below_right = w.w11 * g;
      if (!kUnit) {
        Add(above + run.next, above_right);
        Add(below + run.next, below_right);
      }
    }
    if (kUnit) {
      Add(above, above_right);
      Add(below, below_right);
    }
  }

  static ACTIVE_INLINE void ReturnRun(const Run& run, const ActiveSpread<Dtype>& s, const Dtype* diff, int lane) {
    Dtype* to = s.frame_diff + run.above + lane;
    for (int j = 0; j < run.length; ++j) { Add(to + j * run.step, Vector::Load(diff + j * s.pixel_size)); }
  }

  static ACTIVE_INLINE double Sum(V terms, int lanes) {
    double sum = 0;
    for (int i = 0; i < lanes; ++i) { sum += terms[i]; }
    return sum;
  }

  static ACTIVE_INLINE void Spread(const ActiveFrame<Dtype>& f, const ActiveSpread<Dtype>& s) {
    for (int k = f.synapse; k < f.synapse + f.synapses; ++k) {
      const ActiveTap<Dtype> tap = f.taps[k];
      const ActiveBilinear<Dtype> w(tap);
      const bool unit = f.geometry->stride_w == 1;
      Slopes slopes[2] = {};  // of whole vectors, and of the last one where that holds lanes that are no channels
      ForEachRow(f, [&](const Row& row) __attribute__((always_inline)) {
        const Run run(f, tap, row);
        for (int lane = 0; lane < f.lanes; lane += kLanes) {
          const Dtype* diff = s.column_diff + run.pixel * s.pixel_size + k * f.channels + lane;
          if (s.x_diff) {
            const Slopes some =
                unit ? SlopeRun<true>(run, tap, s, diff, lane) : SlopeRun<false>(run, tap, s, diff, lane);
            Slopes* sum = &slopes[lane + kLanes > f.channels];
            sum->x += some.x;
            sum->y += some.y;
          }
          if (!s.frame_diff) { continue; }
          if (tap.on_lattice()) {
            ReturnRun(run, s, diff, lane);
          } else if (unit) {
            ScatterRun<true>(run, w, s, diff, lane);
          } else {
            ScatterRun<false>(run, w, s, diff, lane);
          }
        }
      });
      if (s.x_diff) {
        s.x_diff[k] += Sum(slopes[0].x, kLanes) + Sum(slopes[1].x, f.channels % kLanes);
        s.y_diff[k] += Sum(slopes[0].y, kLanes) + Sum(slopes[1].y, f.channels % kLanes);
      }
    }
  }
};

template <typename Dtype, int kBytes, int kRows>
constexpr int Kernels<Dtype, kBytes, kRows>::kLanes;  // C++11 and C++14 ask for it where a reference is taken

}  // namespace

// The kernels of one instruction set: its functions, compiled for it, and their table.
#define ACTIVE_KERNELS(set, target, bytes, rows) \
  template <typename Dtype> \
  struct set { \
    typedef Kernels<Dtype, bytes, rows> K; \
    target static void Multiply(const ActiveProduct<Dtype>& p) { K::Multiply(p); } \
    target static void Load(const ActivePlanes<Dtype>& s, const Dtype* from, Dtype* to) { \
      K::LoadPlanes(s, from, to); \
    } \
    target static void Store(const ActivePlanes<Dtype>& s, const Dtype* from, const Dtype* offset, Dtype* to) { \
      K::template StorePlanes<false>(s, from, offset, to); \
    } \
    target static void Add(const ActivePlanes<Dtype>& s, const Dtype* from, Dtype* to) { \
      K::template StorePlanes<true>(s, from, NULL, to); \
    } \
    target static void Sample(const ActiveFrame<Dtype>& f, const Dtype* data, size_t pixel_size, Dtype* columns) { \
      K::Sample(f, data, pixel_size, columns); \
    } \
    target static void Spread(const ActiveFrame<Dtype>& f, const ActiveSpread<Dtype>& s) { K::Spread(f, s); } \
    static ActiveCpuKernels<Dtype> Table() { \
      const ActiveCpuKernels<Dtype> table = {#set, K::kLanes, rows, Multiply, Load, Store, Add, Sample, Spread}; \
      return table; \
    } \
  }

namespace {

// By features: not all compilers know x86-64-v3 and -v4, their usual sets, here or in __builtin_cpu_supports.
#if defined(__x86_64__) && defined(__GNUC__)
ACTIVE_KERNELS(Avx512, __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma,bmi,bmi2"))), 64, 8);
ACTIVE_KERNELS(Avx2, __attribute__((target("avx2,fma,bmi,bmi2"))), 32, 4);
#endif
ACTIVE_KERNELS(Plain, , 16, 4);

template <typename Dtype>
std::vector<ActiveCpuKernels<Dtype> > FindKernels() {
  std::vector<ActiveCpuKernels<Dtype> > found;
#if defined(__x86_64__) && defined(__GNUC__)
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
                    __builtin_cpu_supports("bmi2");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (avx512) { found.push_back(Avx512<Dtype>::Table()); }
  if (avx2) { found.push_back(Avx2<Dtype>::Table()); }
#endif
  found.push_back(Plain<Dtype>::Table());
  return found;
}

}  // namespace

template <typename Dtype>
const std::vector<ActiveCpuKernels<Dtype> >& AllActiveCpuKernels() {
  static const std::vector<ActiveCpuKernels<Dtype> > kernels = FindKernels<Dtype>();
  return kernels;
}

#define INSTANTIATE(Dtype) \
  template struct ActiveFrame<Dtype>; \
  template std::vector<ActiveTap<Dtype> > ActiveFrameTaps<Dtype>(const ActiveGeometry&, const Dtype*, const Dtype*, \
                                                                 int); \
  template const std::vector<ActiveCpuKernels<Dtype> >& AllActiveCpuKernels<Dtype>()

INSTANTIATE(float);
INSTANTIATE(double);

}  // namespace caffe
