#include <algorithm>
#include <cstddef>
#include <cstring>

#include "caffe/util/active_vector.hpp"  // before what it uses

#include "caffe/util/active_cpu_kernels.hpp"

namespace caffe {

template <typename Dtype>
ActiveFrame<Dtype>::ActiveFrame(const ActiveGeometry& geometry, const ActiveTap<Dtype>* taps, const ActiveTile& tile,
                                int synapse, int synapses, int channel, int channels, int vector_lanes, bool even)
    : geometry(&geometry), taps(taps), tile(tile), synapse(synapse), synapses(synapses), channel(channel),
      channels(channels), lanes(CeilDivide(channels, vector_lanes) * vector_lanes) {
  const auto compare_x = [](const ActiveTap<Dtype>& a, const ActiveTap<Dtype>& b) { return a.x < b.x; };
  const auto compare_y = [](const ActiveTap<Dtype>& a, const ActiveTap<Dtype>& b) { return a.y < b.y; };
  const auto x = std::minmax_element(taps + synapse, taps + synapse + synapses, compare_x);
  const auto y = std::minmax_element(taps + synapse, taps + synapse + synapses, compare_y);
  const ActiveGeometry& g = geometry;
  const ActiveInterval inside = {0, g.height};
  const ActiveInterval reach = ActiveReach(tile.at.rows, g.base_h, g.stride_h, y.first->y, y.second->y);
  const ActiveInterval down = even ? reach : inside & reach;
  const ActiveInterval across = ActiveReach(tile.at.columns, g.base_w, g.stride_w, x.first->x, x.second->x);
  row = down.first;
  rows = down.count;
  column = across.first;
  columns = across.count;
  step = channels;
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

  /// Sums in registers, and where they go: to c, from row to row and from column to column so many elements.
  template <int kSumRows, int kSumColumns>
  struct Registers {
    static ACTIVE_INLINE void Prefetch(const Dtype* c, size_t row, size_t column) {
      ACTIVE_UNROLL
      for (int i = 0; i < kSumRows; ++i) {
        ACTIVE_UNROLL
        for (int j = 0; j < kSumColumns; ++j) { __builtin_prefetch(c + i * row + j * column, 1); }
      }
    }

    static ACTIVE_INLINE void Store(V (&sums)[kSumRows][kSumColumns], bool add, Dtype* c, size_t row, size_t column) {
      if (add) { AddTo(c, row, column, sums); }
      ACTIVE_UNROLL
      for (int i = 0; i < kSumRows; ++i) {
        ACTIVE_UNROLL
        for (int j = 0; j < kSumColumns; ++j) { Vector::Store(c + i * row + j * column, sums[i][j]); }
      }
    }

   private:
    static ACTIVE_INLINE void AddTo(const Dtype* c, size_t row, size_t column, V (&sums)[kSumRows][kSumColumns]) {
      ACTIVE_UNROLL
      for (int i = 0; i < kSumRows; ++i) {
        ACTIVE_UNROLL
        for (int j = 0; j < kSumColumns; ++j) { sums[i][j] = Vector::Load(c + i * row + j * column) + sums[i][j]; }
      }
    }
  };

  /// A block of kRows x kVectors: its sums stay in registers, and c is fetched from a farther cache in the meantime.
  /// Each term takes one vector of b per column of the block, and one element of a, spread over a vector, per row.
  template <int kVectors>
  static ACTIVE_INLINE void MultiplyBlock(const ActiveProduct<Dtype>& p, const Dtype* a, const Dtype* b, Dtype* c) {
    typedef Registers<kRows, kVectors> Sums;
    V sums[kRows][kVectors] = {};
    Sums::Prefetch(c, p.c_row, kLanes);
    for (int step = 0; step < p.depth; ++step, a += p.a_step, b += p.b_step) {
      V factors[kVectors];
      ACTIVE_UNROLL
      for (int j = 0; j < kVectors; ++j) { factors[j] = Vector::Load(b + j * kLanes); }
      ACTIVE_UNROLL
      for (int i = 0; i < kRows; ++i) {
        ACTIVE_UNROLL
        for (int j = 0; j < kVectors; ++j) { sums[i][j] += a[i * p.a_row] * factors[j]; }
      }
    }
    Sums::Store(sums, p.add, c, p.c_row, kLanes);
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

  /// Rows of kLaneRows vectors of kLaneColumns sums each, then the rest in halves of that.
  template <int kLaneRows, int kLaneColumns>
  struct LaneBlocks {
    static ACTIVE_INLINE void Multiply(const ActiveLaneProduct<Dtype>& p, int row, int column) {
      for (; row + kLaneRows <= p.rows; row += kLaneRows) {
        MultiplyOne(p, p.a + row * p.a_row, p.b + column * p.b_column, p.c + row * p.c_row + column * p.c_column);
      }
      if (row < p.rows) { LaneBlocks<kLaneRows / 2, kLaneColumns>::Multiply(p, row, column); }
    }

    static ACTIVE_INLINE void MultiplyOne(const ActiveLaneProduct<Dtype>& p, const Dtype* a, const Dtype* b, Dtype* c) {
      V sums[kLaneRows][kLaneColumns] = {};
      for (int step = 0; step < p.depth; ++step, a += p.a_step, b += p.b_step) {
        V factors[kLaneColumns];
        ACTIVE_UNROLL
        for (int j = 0; j < kLaneColumns; ++j) { factors[j] = Vector::Load(b + j * p.b_column); }
        ACTIVE_UNROLL
        for (int i = 0; i < kLaneRows; ++i) {
          const V factor = Vector::Load(a + i * p.a_row);
          ACTIVE_UNROLL
          for (int j = 0; j < kLaneColumns; ++j) { sums[i][j] += factor * factors[j]; }
        }
      }
      Registers<kLaneRows, kLaneColumns>::Store(sums, p.add, c, p.c_row, p.c_column);
    }
  };

  template <int kLaneColumns>
  struct LaneBlocks<0, kLaneColumns> {
    static ACTIVE_INLINE void Multiply(const ActiveLaneProduct<Dtype>&, int, int) {}
  };

  /// Blocks whose sums stay in registers, beside the factors of a row.
  static ACTIVE_INLINE void MultiplyLanes(const ActiveLaneProduct<Dtype>& p) {
    int column = 0;
    for (; column + 4 <= p.columns; column += 4) { LaneBlocks<kRows - 2, 4>::Multiply(p, 0, column); }
    for (; column + 2 <= p.columns; column += 2) { LaneBlocks<kRows, 2>::Multiply(p, 0, column); }
    for (; column < p.columns; ++column) { LaneBlocks<2 * kRows, 1>::Multiply(p, 0, column); }
  }

  /// A vector and its turns by up to kBy, in runs of kUnit lanes.
  template <int kUnit, int kBy>
  struct Turns {
    static ACTIVE_INLINE void Write(V v, Dtype* to) {
      Turns<kUnit, kBy - 1>::Write(v, to);
      Vector::Store(to + kBy * kLanes, Vector::template Turn<kUnit, kBy>(v));
    }

    static ACTIVE_INLINE V Sum(const Dtype* from) {
      const V v = Vector::Load(from + kBy * kLanes);
      return Turns<kUnit, kBy - 1>::Sum(from) + Vector::template Turn<kUnit, kUnit - kBy>(v);
    }
  };

  template <int kUnit>
  struct Turns<kUnit, 0> {
    static ACTIVE_INLINE void Write(V, Dtype*) {}
    static ACTIVE_INLINE V Sum(const Dtype* from) { return Vector::Load(from); }
  };

  template <int kUnit>
  static ACTIVE_INLINE void TurnAll(bool back, int pixels, size_t pixel_size, Dtype* at) {
    for (int i = 0; i < pixels; ++i, at += pixel_size) {
      if (back) {
        Vector::Store(at, Turns<kUnit, kUnit - 1>::Sum(at));
      } else {
        Turns<kUnit, kUnit - 1>::Write(Vector::Load(at), at);
      }
    }
  }

  static ACTIVE_INLINE void Turn(bool back, int unit, int pixels, size_t pixel_size, Dtype* vectors) {
    if (unit == 2) { TurnAll<2>(back, pixels, pixel_size, vectors); }
    if (unit == 4) { TurnAll<4>(back, pixels, pixel_size, vectors); }
    if (unit == 8) { TurnAll<(kLanes < 8 ? 2 : 8)>(back, pixels, pixel_size, vectors); }
  }

  /// Walks along the pixels of the vectors.
  template <typename Pointer>
  struct Cursor {
    Pointer at;  // the present pixel's first element
    int column;

    /// Of `first`, the one of pixel 0.
    ACTIVE_INLINE Cursor(const ActivePlanes<Dtype>& s, Pointer first, int pixel)
        : at(first + pixel / s.row_pixels * s.row_size + pixel % s.row_pixels * s.pixel_size),
          column(pixel % s.row_pixels) {}

    ACTIVE_INLINE void Advance(const ActivePlanes<Dtype>& s) {
      at += s.pixel_size;
      if (++column == s.row_pixels) {
        at += static_cast<ptrdiff_t>(s.row_size) - static_cast<ptrdiff_t>(s.row_pixels * s.pixel_size);  // back, for one row
        column = 0;
      }
    }
  };

  /// Elements of a plane that are fetched ahead of those at work: some hundred cycles.
  static constexpr int kAhead = 256 / sizeof(Dtype);

  /// kLanes planes x kLanes pixels, of which only `planes` and `pixels` exist.
  static ACTIVE_INLINE void LoadSquare(const ActivePlanes<Dtype>& s, int planes, int pixels, const Dtype* from,
                                       Cursor<Dtype*>* to) {
    V square[kLanes];
    for (int i = 0; i < kLanes; ++i, from += s.plane_size) {
      if (planes == kLanes) { __builtin_prefetch(from + kAhead); }
      square[i] = V{};
      if (i < planes && pixels == kLanes) { square[i] = Vector::Load(from); }
      if (i < planes && pixels < kLanes) { std::memcpy(&square[i], from, pixels * sizeof(Dtype)); }
    }
    Vector::Transpose(square);
    for (int j = 0; j < pixels; ++j, to->Advance(s)) { Vector::Store(to->at, square[j]); }
  }

  /// The first pixel of the square for the `pixel`-th one on: where fewer than kLanes are left but more are there, that
  /// many from the end.
  static ACTIVE_INLINE int SquareAt(const ActivePlanes<Dtype>& s, int pixel) {
    return pixel + kLanes <= s.pixels ? pixel : std::max(0, s.pixels - kLanes);
  }

  static ACTIVE_INLINE void LoadPlanes(const ActivePlanes<Dtype>& s, const Dtype* planes, Dtype* vectors) {
    for (int plane = 0; plane < s.planes; plane += kLanes) {
      Cursor<Dtype*> to(s, vectors + plane, 0);
      for (int pixel = 0; pixel < s.pixels; pixel += kLanes) {
        const int first = SquareAt(s, pixel);
        if (first != pixel) { to = Cursor<Dtype*>(s, vectors + plane, first); }
        const Dtype* from = planes + plane * s.plane_size + first;
        const int some_planes = std::min(kLanes, s.planes - plane), some_pixels = std::min(kLanes, s.pixels - first);
        if (some_planes == kLanes && some_pixels == kLanes) {
          LoadSquare(s, kLanes, kLanes, from, &to);
        } else {
          LoadSquare(s, some_planes, some_pixels, from, &to);
        }
      }
    }
  }

  /// The way back: planes = vectors + offset, or planes += vectors, but for the first `done` pixels.
  template <bool kAdd>
  static ACTIVE_INLINE void StoreSquare(const ActivePlanes<Dtype>& s, int planes, int pixels, int done,
                                        const Dtype* offset, Cursor<const Dtype*>* from, Dtype* to) {
    V square[kLanes] = {};
    for (int j = 0; j < pixels; ++j, from->Advance(s)) {
      if (!kAdd || j >= done) { square[j] = Vector::Load(from->at); }
    }
    Vector::Transpose(square);
    for (int i = 0; i < planes; ++i, to += s.plane_size) {
      if (planes == kLanes) { __builtin_prefetch(to + kLanes, 1); }
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
      Cursor<const Dtype*> from(s, vectors + plane, 0);
      for (int pixel = 0; pixel < s.pixels; pixel += kLanes) {
        const int first = SquareAt(s, pixel);
        if (first != pixel) { from = Cursor<const Dtype*>(s, vectors + plane, first); }
        const Dtype* some_offset = offset ? offset + plane : NULL;
        Dtype* to = planes + plane * s.plane_size + first;
        const int some_planes = std::min(kLanes, s.planes - plane), some_pixels = std::min(kLanes, s.pixels - first);
        if (some_planes == kLanes && some_pixels == kLanes && first == pixel) {
          StoreSquare<kAdd>(s, kLanes, kLanes, 0, some_offset, &from, to);
        } else {
          StoreSquare<kAdd>(s, some_planes, some_pixels, pixel - first, some_offset, &from, to);
        }
      }
    }
  }

  /// Floats are added up in so many vectors, which hide each other's latency, before their sums go into a double.
  static constexpr int kSumVectors = 4, kSumSteps = 64;

  static ACTIVE_INLINE double SumOf(int count, const Dtype* data) {
    double total = 0;
    int i = 0;
    while (i + kSumVectors * kLanes <= count) {
      V sums[kSumVectors] = {};
      for (int step = 0; step < kSumSteps && i + kSumVectors * kLanes <= count; ++step, i += kSumVectors * kLanes) {
        ACTIVE_UNROLL
        for (int j = 0; j < kSumVectors; ++j) { sums[j] += Vector::Load(data + i + j * kLanes); }
      }
      total += Sum((sums[0] + sums[1]) + (sums[2] + sums[3]), kLanes);
    }
    for (; i < count; ++i) { total += data[i]; }
    return total;
  }

  /// The pixels of a tile in one output row of one image.
  struct Row {
    int image, m, n;      // the first pixel's
    int length;
    size_t pixel;         // the first one, in the tile
  };

  /// Calls body(row) for each output row of each image of the tile.
  template <typename Body>
  static ACTIVE_INLINE void ForEachRow(const ActiveFrame<Dtype>& f, const Body& body) {
    const ActiveInterval rows = f.tile.at.rows, columns = f.tile.at.columns;
    size_t pixel = 0;
    for (int image = 0; image < f.tile.images; ++image) {
      for (int m = rows.first; m < rows.end(); ++m, pixel += columns.count) {
        const Row row = {image, m, columns.first, columns.count, pixel};
        body(row);
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

  static ACTIVE_INLINE void Add(Dtype* to, V value) { Vector::Store(to, Vector::Load(to) + value); }

  /// Calls body.Do<kRight, kBelow, kUnit>(): which neighbours have a share in a sample, beside the left one above, for what
  /// the others hold must not show (all, where a position is NaN); and with kUnit, stride 1, right ones are the next
  /// pixel's left ones.
  template <typename Body>
  static ACTIVE_INLINE void ForShares(const ActiveTap<Dtype>& tap, bool unit, const Body& body) {
    const bool right = tap.dx != 0 || tap.dy != tap.dy, below = tap.dy != 0 || tap.dx != tap.dx;
    if (!right && !below) { return body.template Do<false, false, true>(); }
    if (!right) { return body.template Do<false, true, true>(); }
    if (!below) { return unit ? body.template Do<true, false, true>() : body.template Do<true, false, false>(); }
    return unit ? body.template Do<true, true, true>() : body.template Do<true, true, false>();
  }

  /// columns = the input between neighbours.
  struct SampleRun {
    const Run& run;
    const ActiveBilinear<Dtype> w;
    int lanes;
    const Dtype* data;
    size_t pixel_size;
    Dtype* columns;

    template <bool kRight, bool kBelow, bool kUnit>
    ACTIVE_INLINE void Do() const {
      for (int lane = 0; lane < lanes; lane += kLanes) {
        const Dtype* above = data + run.above + lane;
        const Dtype* below = data + run.below + lane;
        Dtype* to = columns + lane;
        V x00 = Vector::Load(above), x10 = Vector::Load(below);
        for (int j = 0; j < run.length; ++j, to += pixel_size, above += run.step, below += run.step) {
          if (!kRight || !kUnit) {
            x00 = Vector::Load(above);
            x10 = Vector::Load(below);
          }
          const V x01 = kRight ? Vector::Load(above + run.next) : x00;
          const V x11 = kRight ? Vector::Load(below + run.next) : x10;
          V sample = kRight || kBelow ? w.w00 * x00 : x00;
          if (kRight) { sample += w.w01 * x01; }
          if (kBelow) { sample += w.w10 * x10; }
          if (kRight && kBelow) { sample += w.w11 * x11; }
          Vector::Store(to, sample);
          x00 = x01;
          x10 = x11;
        }
      }
    }
  };

  /// Gives the gradient of the columns to the neighbours. With kUnit a pixel's right ones get what the next pixel gives
  /// them as its left ones in the same addition.
  struct ScatterRun {
    const Run& run;
    const ActiveBilinear<Dtype> w;
    int lanes;
    const Dtype* column_diff;
    size_t pixel_size;
    Dtype* frame_diff;

    template <bool kRight, bool kBelow, bool kUnit>
    ACTIVE_INLINE void Do() const {
      const bool carry = kRight && kUnit;
      for (int lane = 0; lane < lanes; lane += kLanes) {
        const Dtype* diff = column_diff + lane;
        Dtype* above = frame_diff + run.above + lane;
        Dtype* below = frame_diff + run.below + lane;
        V above_right = {}, below_right = {};
        for (int j = 0; j < run.length; ++j, diff += pixel_size, above += run.step, below += run.step) {
          const V g = Vector::Load(diff), w00 = kRight || kBelow ? w.w00 * g : g;
          Add(above, carry ? above_right + w00 : w00);
          if (kBelow) { Add(below, carry ? below_right + w.w10 * g : w.w10 * g); }
          if (kRight) { above_right = w.w01 * g; }
          if (kRight && kBelow) { below_right = w.w11 * g; }
          if (kRight && !kUnit) { Add(above + run.next, above_right); }
          if (kRight && kBelow && !kUnit) { Add(below + run.next, below_right); }
        }
        if (carry) { Add(above, above_right); }
        if (carry && kBelow) { Add(below, below_right); }
      }
    }
  };

  /// Row by row: what all synapses write of a row, its pixels' columns, lies together.
  static ACTIVE_INLINE void Sample(const ActiveFrame<Dtype>& f, const Dtype* data, size_t pixel_size, Dtype* columns) {
    ForEachRow(f, [&](const Row& row) __attribute__((always_inline)) {
      for (int k = f.synapse; k < f.synapse + f.synapses; ++k) {
        const ActiveTap<Dtype> tap = f.taps[k].carried();
        const Run run(f, tap, row);
        const SampleRun sample = {run, ActiveBilinear<Dtype>(tap), f.lanes, data, pixel_size,
                                  columns + run.pixel * pixel_size + k * f.step};
        ForShares(tap, f.geometry->stride_w == 1, sample);
      }
    });
  }

  /// Terms of the gradient of a position.
  struct Slopes {
    V x, y;
  };

  /// Adds what the columns of a run give to their position, from their gradient. kUnit as in ForShares.
  template <bool kUnit>
  static ACTIVE_INLINE void AddSlopes(const Run& run, const ActiveTap<Dtype>& tap, const ActiveSpread<Dtype>& s,
                                      const Dtype* diff, int lane, Slopes* sums) {
    const Dtype* above = s.frame + run.above + lane;
    const Dtype* below = s.frame + run.below + lane;
    V x00 = Vector::Load(above), x10 = Vector::Load(below);
    Slopes some = {};
    for (int j = 0; j < run.length; ++j, diff += s.pixel_size, above += run.step, below += run.step) {
      if (!kUnit) {
        x00 = Vector::Load(above);
        x10 = Vector::Load(below);
      }
      const V g = Vector::Load(diff), x01 = Vector::Load(above + run.next), x11 = Vector::Load(below + run.next);
      some.x += g * ActiveSlopeX(tap, x00, x01, x10, x11);
      some.y += g * ActiveSlopeY(tap, x00, x01, x10, x11);
      x00 = x01;
      x10 = x11;
    }
    sums->x += some.x;
    sums->y += some.y;
  }

  static ACTIVE_INLINE double Sum(V terms, int lanes) {
    double sum = 0;
    for (int i = 0; i < lanes; ++i) { sum += terms[i]; }
    return sum;
  }

  /// Synapses that are spread together, row by row: what they read and write of a row lies together.
  static constexpr int kTogether = 12;

  static ACTIVE_INLINE void Spread(const ActiveFrame<Dtype>& f, const ActiveSpread<Dtype>& s) {
    for (int k = f.synapse; k < f.synapse + f.synapses; k += kTogether) {
      SpreadSome(f, s, k, std::min(kTogether, f.synapse + f.synapses - k));
    }
  }

  static ACTIVE_INLINE void SpreadSome(const ActiveFrame<Dtype>& f, const ActiveSpread<Dtype>& s, int first, int count) {
    Slopes slopes[kTogether][2] = {};  // of whole vectors, and of one whose last lanes are no channels
    ForEachRow(f, [&](const Row& row) __attribute__((always_inline)) {
      for (int k = first; k < first + count; ++k) {
        const bool unit = f.geometry->stride_w == 1;
        const Dtype* diff = s.column_diff + (row.pixel * s.pixel_size + k * f.step);
        if (s.x_diff) {
          const Run run(f, f.taps[k], row);
          for (int lane = 0; lane < f.lanes; lane += kLanes) {
            Slopes* sums = &slopes[k - first][lane + kLanes > f.channels];
            unit ? AddSlopes<true>(run, f.taps[k], s, diff + lane, lane, sums)
                 : AddSlopes<false>(run, f.taps[k], s, diff + lane, lane, sums);
          }
        }
        if (s.frame_diff) {
          const ActiveTap<Dtype> tap = f.taps[k].carried();
          const Run run(f, tap, row);
          const ScatterRun scatter = {run, ActiveBilinear<Dtype>(tap), f.lanes, diff, s.pixel_size, s.frame_diff};
          ForShares(tap, unit, scatter);
        }
      }
    });
    for (int k = first; s.x_diff && k < first + count; ++k) {
      const Slopes* sums = slopes[k - first];
      s.x_diff[k] += Sum(sums[0].x, kLanes) + Sum(sums[1].x, f.channels % kLanes);
      s.y_diff[k] += Sum(sums[0].y, kLanes) + Sum(sums[1].y, f.channels % kLanes);
    }
  }

  /// What is done with exactly kCount pixels, or with fewer, side by side: their sums stay in registers.
  template <int kCount, typename = void>
  struct Pixels {
    static ACTIVE_INLINE void Convolve(int count, const ActiveDepthwise& s, const Dtype* weight, const Dtype* frame,
                                       Dtype* outputs) {
      if (count < kCount) { return Pixels<kCount - 1>::Convolve(count, s, weight, frame, outputs); }
      V sums[kCount] = {};
      for (int i = 0; i < s.pixels; ++i) {
        const V factor = Vector::Load(weight + i * kLanes);
        const Dtype* from = frame + s.reads[i];
        ACTIVE_UNROLL
        for (int j = 0; j < kCount; ++j) { sums[j] += factor * Vector::Load(from + j * s.step); }
      }
      ACTIVE_UNROLL
      for (int j = 0; j < kCount; ++j) { Vector::Store(outputs + j * s.pixel_size, sums[j]); }
    }

    static ACTIVE_INLINE void Scatter(int count, const ActiveDepthwise& s, const Dtype* weight, const Dtype* outputs,
                                      Dtype* frame) {
      if (count < kCount) { return Pixels<kCount - 1>::Scatter(count, s, weight, outputs, frame); }
      V diff[kCount];
      ACTIVE_UNROLL
      for (int j = 0; j < kCount; ++j) { diff[j] = Vector::Load(outputs + j * s.pixel_size); }
      for (int i = 0; i < s.pixels; ++i) {
        const V factor = Vector::Load(weight + i * kLanes);
        Dtype* to = frame + s.reads[i];
        ACTIVE_UNROLL
        for (int j = 0; j < kCount; ++j) { Add(to + j * s.step, factor * diff[j]); }
      }
    }

    /// Of kCount pixels of the kernel, over all output pixels.
    static ACTIVE_INLINE void Correlate(int count, const ActiveDepthwise& s, const size_t* reads, const Dtype* outputs,
                                        const Dtype* frame, Dtype* sums) {
      if (count < kCount) { return Pixels<kCount - 1>::Correlate(count, s, reads, outputs, frame, sums); }
      V some[kCount] = {};
      for (int row = 0; row < s.rows; ++row, frame += s.row_step) {
        const Dtype* from[kCount];
        ACTIVE_UNROLL
        for (int i = 0; i < kCount; ++i) { from[i] = frame + reads[i]; }
        for (size_t j = 0; j < s.columns * s.step; j += s.step, outputs += s.pixel_size) {
          const V diff = Vector::Load(outputs);
          ACTIVE_UNROLL
          for (int i = 0; i < kCount; ++i) { some[i] += diff * Vector::Load(from[i] + j); }
        }
      }
      ACTIVE_UNROLL
      for (int i = 0; i < kCount; ++i) { Add(sums + i * kLanes, some[i]); }
    }
  };

  template <typename Unused>
  struct Pixels<0, Unused> {
    static ACTIVE_INLINE void Convolve(int, const ActiveDepthwise&, const Dtype*, const Dtype*, Dtype*) {}
    static ACTIVE_INLINE void Scatter(int, const ActiveDepthwise&, const Dtype*, const Dtype*, Dtype*) {}
    static ACTIVE_INLINE void Correlate(int, const ActiveDepthwise&, const size_t*, const Dtype*, const Dtype*, Dtype*) {}
  };

  /// So many sums hide each other's latency, and have room in every set's registers.
  static constexpr int kSums = 8;

  /// Calls body(pixels, element of the frame, element of the outputs) for runs of at most kSums pixels of a row each.
  template <typename Body>
  static ACTIVE_INLINE void ForEachRun(const ActiveDepthwise& s, const Body& body) {
    const int length = EvenShare(s.columns, kSums);
    for (int row = 0; row < s.rows; ++row) {
      for (int column = 0; column < s.columns; column += length) {
        body(std::min(length, s.columns - column), row * s.row_step + column * s.step,
             (static_cast<size_t>(row) * s.columns + column) * s.pixel_size);
      }
    }
  }

  static ACTIVE_INLINE void Convolve(const ActiveDepthwise& s, const Dtype* weight, const Dtype* frame, Dtype* outputs) {
    ForEachRun(s, [&](int count, size_t in_frame, size_t in_outputs) __attribute__((always_inline)) {
      Pixels<kSums>::Convolve(count, s, weight, frame + in_frame, outputs + in_outputs);
    });
  }

  static ACTIVE_INLINE void Scatter(const ActiveDepthwise& s, const Dtype* weight, const Dtype* outputs, Dtype* frame) {
    ForEachRun(s, [&](int count, size_t in_frame, size_t in_outputs) __attribute__((always_inline)) {
      Pixels<kSums>::Scatter(count, s, weight, outputs + in_outputs, frame + in_frame);
    });
  }

  static ACTIVE_INLINE void Correlate(const ActiveDepthwise& s, const Dtype* outputs, const Dtype* frame, Dtype* sums) {
    const int some = EvenShare(s.pixels, kSums);
    for (int i = 0; i < s.pixels; i += some) {
      Pixels<kSums>::Correlate(std::min(some, s.pixels - i), s, s.reads + i, outputs, frame, sums + i * kLanes);
    }
  }
};

// C++11 and C++14 ask for these where a reference is taken.
template <typename Dtype, int kBytes, int kRows>
constexpr int Kernels<Dtype, kBytes, kRows>::kLanes;
template <typename Dtype, int kBytes, int kRows>
constexpr int Kernels<Dtype, kBytes, kRows>::kTogether;
template <typename Dtype, int kBytes, int kRows>
constexpr int Kernels<Dtype, kBytes, kRows>::kSums;

}  // namespace

// The kernels of one instruction set: its functions, compiled for it, and their table.
#define ACTIVE_KERNELS(set, target, bytes, rows) \
  template <typename Dtype> \
  struct set { \
    typedef Kernels<Dtype, bytes, rows> K; \
    target static void Multiply(const ActiveProduct<Dtype>& p) { K::Multiply(p); } \
    target static void MultiplyLanes(const ActiveLaneProduct<Dtype>& p) { K::MultiplyLanes(p); } \
    target static void Turn(int unit, int pixels, size_t pixel_size, Dtype* vectors) { \
      K::Turn(false, unit, pixels, pixel_size, vectors); \
    } \
    target static void TurnBack(int unit, int pixels, size_t pixel_size, Dtype* vectors) { \
      K::Turn(true, unit, pixels, pixel_size, vectors); \
    } \
    target static void Load(const ActivePlanes<Dtype>& s, const Dtype* from, Dtype* to) { \
      K::LoadPlanes(s, from, to); \
    } \
    target static void Store(const ActivePlanes<Dtype>& s, const Dtype* from, const Dtype* offset, Dtype* to) { \
      K::template StorePlanes<false>(s, from, offset, to); \
    } \
    target static void Add(const ActivePlanes<Dtype>& s, const Dtype* from, Dtype* to) { \
      K::template StorePlanes<true>(s, from, NULL, to); \
    } \
    target static double Sum(int count, const Dtype* data) { return K::SumOf(count, data); } \
    target static void Sample(const ActiveFrame<Dtype>& f, const Dtype* data, size_t pixel_size, Dtype* columns) { \
      K::Sample(f, data, pixel_size, columns); \
    } \
    target static void Spread(const ActiveFrame<Dtype>& f, const ActiveSpread<Dtype>& s) { K::Spread(f, s); } \
    target static void Convolve(const ActiveDepthwise& s, const Dtype* weight, const Dtype* frame, Dtype* outputs) { \
      K::Convolve(s, weight, frame, outputs); \
    } \
    target static void Scatter(const ActiveDepthwise& s, const Dtype* weight, const Dtype* outputs, Dtype* frame) { \
      K::Scatter(s, weight, outputs, frame); \
    } \
    target static void Correlate(const ActiveDepthwise& s, const Dtype* outputs, const Dtype* frame, Dtype* sums) { \
      K::Correlate(s, outputs, frame, sums); \
    } \
    static ActiveCpuKernels<Dtype> Table() { \
      const ActiveCpuKernels<Dtype> table = {#set, K::kLanes, rows, Multiply, MultiplyLanes, Turn, TurnBack, \
                                             Load, Store, Add, Sum, Sample, Spread, Convolve, Scatter, Correlate}; \
      return table; \
    } \
  }

namespace {

#ifdef ACTIVE_AVX2
ACTIVE_KERNELS(Avx512, ACTIVE_AVX512, 64, 8);
ACTIVE_KERNELS(Avx2, ACTIVE_AVX2, 32, 4);
#endif
ACTIVE_KERNELS(Plain, , 16, 4);

template <typename Dtype>
std::vector<ActiveCpuKernels<Dtype> > FindKernels() {
  std::vector<ActiveCpuKernels<Dtype> > found;
#ifdef ACTIVE_AVX2
  if (ActiveVectorBytes() >= 64) { found.push_back(Avx512<Dtype>::Table()); }
  if (ActiveVectorBytes() >= 32) { found.push_back(Avx2<Dtype>::Table()); }
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
