#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "caffe/util/active_convolution.hpp"
#include "caffe/util/active_cpu_kernels.hpp"
#include "caffe/util/active_cpu_plan.hpp"
#include "caffe/util/active_cpu_tiles.hpp"
#include "caffe/util/active_geometry.hpp"
#include "caffe/util/active_threads.hpp"

namespace caffe {

namespace {

/// `size` elements at the start of a cache line; a buffer keeps the largest of the sizes it was ever asked for.
template <typename Dtype>
Dtype* Buffer(std::vector<Dtype>* buffer, size_t size) {
  const size_t kLine = 64, spare = kLine / sizeof(Dtype);
  if (buffer->size() < size + spare) { buffer->resize(size + spare); }
  const uintptr_t start = reinterpret_cast<uintptr_t>(buffer->data());
  return reinterpret_cast<Dtype*>((start + kLine - 1) / kLine * kLine);
}

/// Bytes of a strip of outputs in the weights' product, whose terms are pixels: they are read again for each block of
/// rows, from the first cache where that has room for them.
const int kStripBytes = 24 << 10;
/// Bytes of columns at a time of groups side by side, which compute so little with them that they should stay in the
/// first cache.
const size_t kLineBytes = 24 << 10;
/// Bytes that are filled faster than their borders are found.
const size_t kLittle = 16 << 10;

/// Forward and backward pass, round by round, as active_cpu_plan.hpp cuts them.
template <typename Dtype>
class ActiveCpuPass {
 public:
  ActiveCpuPass(const ActiveGeometry& geometry, int num, const ActiveParameters<Dtype>& parameters,
                const Dtype* bottom, ActiveCpuWorkspace<Dtype>* workspace)
      : g_(geometry), num_(num), synapses_(geometry.synapses()), parameters_(parameters), bottom_(bottom),
        workspace_(workspace), kernels_(*workspace->kernels),
        plan_(geometry, num, parameters.x, parameters.y, kernels_) {
    workspace_->threads.resize(ActiveMaxThreads());
  }

  void Forward(Dtype* top) {
    for (const Round& round : plan_.Rounds()) {
      PackForward(round);
      const std::vector<Piece> pieces = plan_.Pieces(round, ActiveMaxThreads());
#pragma omp parallel for schedule(dynamic) if (pieces.size() > 1)
      for (int i = 0; i < pieces.size(); ++i) { ForwardPiece(pieces[i], top); }
    }
  }

  /// ActiveGradients says what is overwritten and what is added to; the bias is somebody else's.
  void Backward(const Dtype* top_diff, const ActiveGradients<Dtype>& wanted) {
    for (const Round& round : plan_.Rounds()) {
      if (wanted.bottom || wanted.x) { PackBackward(round); }
      std::vector<Part> parts = plan_.Parts(round, wanted.weight != NULL);
      GiveBuffers(wanted, &parts);
#pragma omp parallel for schedule(dynamic) if (parts.size() > 1)
      for (int i = 0; i < parts.size(); ++i) { BackwardPart(parts[i], top_diff, wanted); }
      if (wanted.bottom) { AddOverhangs(parts, wanted.bottom); }
      if (wanted.weight) { AddWeights(round, parts, wanted.weight); }
      if (wanted.x) { AddPositions(parts, wanted); }
    }
  }

 private:
  typedef typename ActiveCpuPlan<Dtype>::Segment Segment;
  typedef typename ActiveCpuPlan<Dtype>::Round Round;
  typedef typename ActiveCpuPlan<Dtype>::Block Block;
  typedef typename ActiveCpuPlan<Dtype>::Piece Piece;
  typedef typename ActiveCpuPlan<Dtype>::Part Part;
  typedef typename ActiveCpuWorkspace<Dtype>::PerThread Thread;

  size_t BottomAt(int image, int channel) const {
    return (static_cast<size_t>(image) * g_.channels + channel) * g_.image_size();
  }

  /// Where the weights of output d of a segment for the c-th channel of a block start.
  size_t WeightAt(const Segment& segment, int d, int block, int c) const {
    return (segment.output + d) * plan_.WeightSize() + static_cast<size_t>(block * segment.block + c) * synapses_;
  }

  /// Room for the packed weights of a round.
  Dtype* PackedWeights(const Round& round) const {
    return Buffer(&workspace_->weight, round.back().weight + plan_.PackedSize(round.back()));
  }

  const Dtype* PackedWeights(const Segment& segment) const { return Buffer(&workspace_->weight, 0) + segment.weight; }

  /// For each block of a segment and each strip of its outputs: rows of the block x outputs of the strip.
  void PackForward(const Round& round) const {
    Dtype* packed = PackedWeights(round);
    const std::vector<Block> blocks = plan_.Blocks(round);
#pragma omp parallel for if (blocks.size() > 1)
    for (int i = 0; i < blocks.size(); ++i) {
      const Segment& segment = *blocks[i].segment;
      if (segment.turns) {
        PackTurned(segment, packed + segment.weight);
        continue;
      }
      const int block = blocks[i].block, strip = ActiveStrip(segment.outputs, kernels_.lanes);
      for (int first = 0; first < segment.outputs; first += strip) {
        PackStrip(segment, block, first, std::min(strip, segment.outputs - first),
                  packed + segment.weight + plan_.ForwardWeightAt(segment, block) +
                      static_cast<size_t>(first) * plan_.Channels(segment, block) * synapses_);
      }
    }
  }

  /// rows of a block x outputs: row k * channels + c has what lies in the blob at c * K + k.
  void PackStrip(const Segment& segment, int block, int first, int outputs, Dtype* packed) const {
    const int channels = plan_.Channels(segment, block);
    const size_t strip = ActiveStrip(segment.outputs, kernels_.lanes);
    const ActivePlanes<Dtype> planes = {outputs, channels * synapses_, plan_.WeightSize(), synapses_, channels * strip,
                                        strip};
    kernels_.load_planes(planes, parameters_.weight + WeightAt(segment, first, block, 0), packed);
  }

  /// K x turns vectors, or those of a splat's pixels; zero in lanes without a channel.
  void PackTurned(const Segment& segment, Dtype* packed) const {
    std::fill_n(packed, plan_.PackedSize(segment), Dtype(0));
    if (segment.splat) {
      ForEachSplat(segment, [&](int lane, int k, size_t in_blob) {
        segment.splat->AddWeight(k, parameters_.weight[in_blob], kernels_.lanes, packed + lane);
      });
      return;
    }
    ForEachTurned(segment, [&](size_t at, size_t in_blob) { packed[at] = parameters_.weight[in_blob]; });
  }

  /// Calls body(element of K x turns vectors, element of the blob) for each weight of groups side by side.
  template <typename Body>
  void ForEachTurned(const Segment& segment, const Body& body) const {
    const int turns = segment.turns;
    for (int lane = 0; lane < segment.outputs; ++lane) {
      const int c = lane % turns;
      for (int j = 0; j < turns; ++j) {
        const size_t of_channel = (segment.output + lane - c + (c + j) % turns) * plan_.WeightSize() + c * synapses_;
        for (int k = 0; k < synapses_; ++k) { body((k * turns + j) * kernels_.lanes + lane, of_channel + k); }
      }
    }
  }

  /// Calls body(lane, synapse, element of the blob) for each weight of channels with one output each.
  template <typename Body>
  void ForEachSplat(const Segment& segment, const Body& body) const {
    for (int lane = 0; lane < segment.outputs; ++lane) {
      for (int k = 0; k < synapses_; ++k) { body(lane, k, (segment.output + lane) * plan_.WeightSize() + k); }
    }
  }

  /// For each block of a segment and each strip of its rows: outputs x rows of the strip.
  void PackBackward(const Round& round) const {
    Dtype* packed = PackedWeights(round);
    const std::vector<Block> blocks = plan_.Blocks(round);
#pragma omp parallel for if (blocks.size() > 1)
    for (int i = 0; i < blocks.size(); ++i) {
      const Segment& segment = *blocks[i].segment;
      if (segment.turns) {
        PackTurned(segment, packed + segment.weight);
        continue;
      }
      const int block = blocks[i].block, channels = plan_.Channels(segment, block), rows = channels * synapses_;
      const int strip = ActiveStrip(rows, kernels_.lanes);
      std::vector<Dtype> row(RoundUp(rows, strip), Dtype(0));
      for (int d = 0; d < segment.outputs; ++d) {
        const Dtype* from = parameters_.weight + WeightAt(segment, d, block, 0);
        for (int c = 0; c < channels; ++c) {
          for (int k = 0; k < synapses_; ++k) { row[k * channels + c] = from[c * synapses_ + k]; }
        }
        Dtype* to = packed + segment.weight + plan_.BackwardWeightAt(segment, block) + d * strip;
        for (int first = 0; first < rows; first += strip, to += static_cast<size_t>(segment.outputs) * strip) {
          std::copy_n(&row[first], strip, to);
        }
      }
    }
  }

  /// Columns and outputs of a tile, with rows to spare for the last block of a product.
  Dtype* Columns(const Segment& segment, const ActiveTile& tile, Thread* thread) const {
    return Buffer(&thread->columns, static_cast<size_t>(RoundUp(tile.size(), kernels_.rows)) * segment.column_size);
  }

  Dtype* Outputs(const Segment& segment, const ActiveTile& tile, Thread* thread) const {
    return Buffer(&thread->outputs, static_cast<size_t>(RoundUp(tile.size(), kernels_.rows)) * segment.output_size);
  }

  /// Calls body(planes, element of the outputs, element of the top) for each piece of a tile whose pixels follow each
  /// other in the top.
  template <typename Body>
  void ForEachOutputPiece(const Segment& segment, const ActiveTile& tile, const Body& body) const {
    const ActiveInterval rows = tile.at.rows, columns = tile.at.columns;
    const bool whole_rows = columns.count == g_.out_width;
    const int pixels = whole_rows ? tile.at.size() : columns.count;
    const ActivePlanes<Dtype> planes = {segment.outputs, pixels, static_cast<size_t>(g_.out_size()), pixels,
                                        static_cast<size_t>(segment.output_size), 0};
    size_t in_outputs = 0;
    for (int image = tile.image; image < tile.image + tile.images; ++image) {
      for (int row = rows.first; row < rows.end(); row += pixels / columns.count) {
        const size_t plane = static_cast<size_t>(image) * g_.num_output + segment.output;
        body(planes, in_outputs, plane * g_.out_size() + static_cast<size_t>(row) * g_.out_width + columns.first);
        in_outputs += static_cast<size_t>(pixels) * segment.output_size;
      }
    }
  }

  void ForwardPiece(const Piece& piece, Dtype* top) {
    const Segment& segment = *piece.segment;
    Thread* thread = &workspace_->threads[ActiveThisThread()];
    Dtype* outputs = Outputs(segment, piece.tile, thread);
    if (segment.splat) {
      const ActiveFrame<Dtype> frame = plan_.Frame(segment, piece.tile, 0, synapses_, 0);
      const Dtype* data = LoadFrame(frame, thread);
      kernels_.convolve(Depthwise(segment, frame, segment.splat->used(), thread), PackedWeights(segment), data, outputs);
      StoreOutputs(segment, piece.tile, outputs, top);
      return;
    }
    Dtype* columns = Columns(segment, piece.tile, thread);
    const bool by_lines = plan_.WorksByLines(segment, piece.tile, piece.frame_synapses);
    if (by_lines) { ForwardLines(piece, thread, columns, outputs); }
    for (int block = 0; !by_lines && block < segment.blocks; ++block) {
      SampleBlock(segment, piece.tile, piece.frame_synapses, block, thread, columns);
      MultiplyForOutputs(segment, piece.tile, block, columns, outputs);
    }
    StoreOutputs(segment, piece.tile, outputs, top);
  }

  void StoreOutputs(const Segment& segment, const ActiveTile& tile, const Dtype* outputs, Dtype* top) const {
    const Dtype* bias = parameters_.bias ? parameters_.bias + segment.output : NULL;
    ForEachOutputPiece(segment, tile, [&](const ActivePlanes<Dtype>& planes, size_t in_outputs, size_t in_top) {
      kernels_.store_planes(planes, outputs + in_outputs, bias, top + in_top);
    });
  }

  /// What the first `pixels` pixels of a splat read of a frame.
  ActiveDepthwise Depthwise(const Segment& segment, const ActiveFrame<Dtype>& frame, int pixels, Thread* thread) const {
    const ActiveRectangle at = frame.tile.at;
    const size_t lanes = frame.lanes, row_step = g_.stride_h * frame.row_size();
    thread->reads.resize(pixels);
    for (int i = 0; i < pixels; ++i) {
      const typename ActiveSplat<Dtype>::Pixel& pixel = segment.splat->pixels()[i];
      const int y = g_.base_h + at.rows.first * g_.stride_h + pixel.y;
      const int x = g_.base_w + at.columns.first * g_.stride_w + pixel.x - frame.column;
      thread->reads[i] = frame.RowAt(0, y) + x * lanes;
    }
    const ActiveDepthwise depthwise = {at.rows.count, at.columns.count, pixels, thread->reads.data(), row_step,
                                       g_.stride_w * lanes, static_cast<size_t>(segment.output_size)};
    return depthwise;
  }

  /// Calls body(frame, element of the outputs) for some lines of a frame's tile after each other.
  template <typename Body>
  void ForEachLines(const Segment& segment, ActiveFrame<Dtype> frame, const Body& body) const {
    const ActiveInterval rows = frame.tile.at.rows;
    const size_t of_row = static_cast<size_t>(frame.tile.at.columns.count) * segment.column_size * sizeof(Dtype);
    const int lines = EvenShare(rows.count, std::max<int>(1, kLineBytes / of_row));
    size_t in_outputs = 0;
    for (int row = rows.first; row < rows.end(); row += lines) {
      frame.tile.at.rows.first = row;
      frame.tile.at.rows.count = std::min(lines, rows.end() - row);
      body(frame, in_outputs);
      in_outputs += static_cast<size_t>(frame.tile.size()) * segment.output_size;
    }
  }

  void ForwardLines(const Piece& piece, Thread* thread, Dtype* columns, Dtype* outputs) const {
    const Segment& segment = *piece.segment;
    const ActiveFrame<Dtype> whole = plan_.Frame(segment, piece.tile, 0, synapses_, 0);
    const Dtype* data = LoadFrame(whole, thread);
    ForEachLines(segment, whole, [&](const ActiveFrame<Dtype>& frame, size_t in_outputs) {
      kernels_.sample(frame, data, segment.column_size, columns);
      MultiplyForOutputs(segment, frame.tile, 0, columns, outputs + in_outputs);
    });
  }

  void MultiplyForOutputs(const Segment& segment, const ActiveTile& tile, int block, const Dtype* columns,
                          Dtype* outputs) const {
    const size_t row = segment.output_size, lanes = kernels_.lanes;
    const Dtype* weight = PackedWeights(segment);
    if (segment.turns) {
      const ActiveLaneProduct<Dtype> product = {
          tile.size(), segment.turns, synapses_, columns, static_cast<size_t>(segment.column_size), lanes,
          weight, segment.turns * lanes, lanes, outputs, row, lanes, false};
      kernels_.multiply_lanes(product);
      kernels_.turn_back(segment.turns, tile.size(), row, outputs);
      return;
    }
    const int terms = synapses_ * plan_.Channels(segment, block);
    const size_t strip = ActiveStrip(segment.outputs, kernels_.lanes);
    const ActiveProduct<Dtype> product = {
        tile.size(), segment.outputs, terms, columns, static_cast<size_t>(segment.column_size), 1,
        weight + plan_.ForwardWeightAt(segment, block), terms * strip, strip, outputs, row, block > 0};
    kernels_.multiply(product);
  }

  void SampleBlock(const Segment& segment, const ActiveTile& tile, int frame_synapses, int block, Thread* thread,
                   Dtype* columns) const {
    for (int k = 0; k < synapses_; k += frame_synapses) {
      const ActiveFrame<Dtype> frame = plan_.Frame(segment, tile, k, frame_synapses, block);
      kernels_.sample(frame, LoadFrame(frame, thread), segment.column_size, columns);
    }
  }

  /// Calls body(planes, element of the frame, pixel of the rectangle) for each piece of one of the tile's images that
  /// stands in a frame and in a rectangle, whose rows lie `pitch` elements and whose planes `plane_size` elements
  /// apart.
  template <typename Body>
  void ForEachPiece(const ActiveFrame<Dtype>& f, int image, const ActiveRectangle& rectangle, int pitch,
                    size_t plane_size, const Body& body) const {
    const ActiveRectangle of_frame = {{f.row, f.rows}, {f.column, f.columns}}, at = of_frame & rectangle;
    if (at.size() == 0) { return; }
    const bool whole_rows = at.columns.count == pitch;  // then they follow each other
    const ActivePlanes<Dtype> planes = {f.channels, whole_rows ? at.size() : at.columns.count, plane_size,
                                        at.columns.count, static_cast<size_t>(f.lanes), f.row_size()};
    for (int row = at.rows.first; row < at.rows.end(); row += whole_rows ? at.rows.count : 1) {
      body(planes, f.RowAt(image, row) + (at.columns.first - f.column) * f.lanes,
           static_cast<size_t>(row - rectangle.rows.first) * pitch + at.columns.first - rectangle.columns.first);
    }
  }

  const Dtype* LoadFrame(const ActiveFrame<Dtype>& frame, Thread* thread) const {
    Dtype* data = Buffer(&thread->frame, frame.size());
    const int left = std::min(frame.columns, std::max(0, -frame.column));
    const int inside_end = std::max(left, std::min(frame.columns, g_.width - frame.column));
    const bool small = frame.size() * sizeof(Dtype) < kLittle;  // then filled at once
    std::fill_n(data, small ? frame.size() : frame.row_size(), Dtype(0));
    for (int i = 0; !small && i < frame.tile.images * frame.rows; ++i) {
      Dtype* row = data + (1 + i) * frame.row_size();
      const int y = frame.row + i % frame.rows;
      const bool outside = y < 0 || y >= g_.height;
      std::fill(row, row + (outside ? frame.columns : left) * frame.lanes, Dtype(0));
      std::fill(row + inside_end * frame.lanes, row + frame.row_size(), Dtype(0));
    }
    for (int i = 0; i < frame.tile.images; ++i) {
      const Dtype* bottom = bottom_ + BottomAt(frame.tile.image + i, frame.channel);
      ForEachPiece(frame, i, plan_.WholeImage(), g_.width, g_.image_size(),
                   [&](const ActivePlanes<Dtype>& planes, size_t in_frame, size_t pixel) {
                     kernels_.load_planes(planes, bottom + pixel, data + in_frame);
                   });
    }
    return data;
  }

  void GiveBuffers(const ActiveGradients<Dtype>& wanted, std::vector<Part>* parts) const {
    size_t weights = 0, overhangs = 0;
    bool of_positions = false;  // a splat's positions get their gradients from the same sums
    for (const Part& part : *parts) {
      of_positions |= wanted.x && part.segment->splat;
      weights += plan_.SumSize(*part.segment) * part.blocks;
      overhangs += plan_.OverhangSize(part);
    }
    Dtype* weight_sums = wanted.weight || of_positions ? Buffer(&workspace_->weight_sums, weights) : NULL;
    Dtype* overhang = wanted.bottom ? Buffer(&workspace_->overhangs, overhangs) : NULL;
    double* position_sums = Buffer(&workspace_->position_sums, parts->size() * 2 * synapses_);
    for (Part& part : *parts) {
      part.weight_sums = weight_sums;
      part.overhang_diff = overhang;
      part.x_sums = position_sums;
      part.y_sums = position_sums + synapses_;
      position_sums += 2 * synapses_;
      if (weight_sums) { weight_sums += plan_.SumSize(*part.segment) * part.blocks; }
      if (overhang) { overhang += plan_.OverhangSize(part); }
    }
  }

  void BackwardPart(const Part& part, const Dtype* top_diff, const ActiveGradients<Dtype>& wanted) {
    const Segment& segment = *part.segment;
    Thread* thread = &workspace_->threads[ActiveThisThread()];
    if (part.weight_sums) { std::fill_n(part.weight_sums, plan_.SumSize(segment) * part.blocks, Dtype(0)); }
    if (wanted.bottom) { std::fill_n(part.overhang_diff, plan_.OverhangSize(part), Dtype(0)); }
    std::fill_n(part.x_sums, 2 * synapses_, 0.);
    for (const ActiveTile& tile : ActiveTiles(part.pixels, part.cut.tile)) {
      const Dtype* outputs = LoadOutputs(segment, tile, top_diff, thread);
      if (wanted.bottom) { ZeroBottom(tile, part, wanted.bottom); }
      if (segment.splat) {
        BackwardSplat(tile, part, wanted, outputs, thread);
        continue;
      }
      Dtype* columns = Columns(segment, tile, thread);
      if (plan_.WorksByLines(segment, tile, part.cut.frame_synapses)) {
        BackwardLines(tile, part, wanted, outputs, columns, thread);
        continue;
      }
      for (int block = part.block; block < part.block + part.blocks; ++block) {
        if (wanted.weight) {
          SampleBlock(segment, tile, part.cut.frame_synapses, block, thread, columns);
          MultiplyForWeights(tile, part, block, columns, outputs);
        }
        if (wanted.bottom || wanted.x) {
          MultiplyForColumns(segment, tile, block, outputs, columns);
          SpreadBlock(tile, part, block, wanted, columns, thread);
        }
      }
    }
    if (segment.splat && wanted.x) { AddSlopes(part); }
  }

  void BackwardSplat(const ActiveTile& tile, const Part& part, const ActiveGradients<Dtype>& wanted,
                     const Dtype* outputs, Thread* thread) const {
    const Segment& segment = *part.segment;
    const ActiveFrame<Dtype> frame = plan_.Frame(segment, tile, 0, synapses_, 0);
    ActiveDepthwise depthwise = Depthwise(segment, frame, segment.splat->pixels().size(), thread);
    if (!wanted.x) { depthwise.pixels = segment.splat->used(); }  // the others matter for slopes alone
    if (part.weight_sums) { kernels_.correlate(depthwise, outputs, LoadFrame(frame, thread), part.weight_sums); }
    if (wanted.bottom) {
      Dtype* frame_diff = Buffer(&thread->frame_diff, frame.size());
      std::fill_n(frame_diff, frame.size(), Dtype(0));
      depthwise.pixels = segment.splat->used();
      kernels_.scatter(depthwise, PackedWeights(segment), outputs, frame_diff);
      AddFrame(frame, part, frame_diff, wanted.bottom);
    }
  }

  /// The gradients of the positions, from the sums of a splat's part.
  void AddSlopes(const Part& part) const {
    const Segment& segment = *part.segment;
    ForEachSplat(segment, [&](int lane, int k, size_t in_blob) {
      const double weight = parameters_.weight[in_blob];
      part.x_sums[k] += weight * segment.splat->SlopeX(k, kernels_.lanes, part.weight_sums + lane);
      part.y_sums[k] += weight * segment.splat->SlopeY(k, kernels_.lanes, part.weight_sums + lane);
    });
  }

  void BackwardLines(const ActiveTile& tile, const Part& part, const ActiveGradients<Dtype>& wanted,
                     const Dtype* outputs, Dtype* columns, Thread* thread) const {
    const Segment& segment = *part.segment;
    const ActiveFrame<Dtype> whole = plan_.Frame(segment, tile, 0, synapses_, 0);
    const Dtype* data = wanted.weight || wanted.x ? LoadFrame(whole, thread) : NULL;
    Dtype* frame_diff = wanted.bottom ? Buffer(&thread->frame_diff, whole.size()) : NULL;
    if (frame_diff) { std::fill_n(frame_diff, whole.size(), Dtype(0)); }
    ForEachLines(segment, whole, [&](const ActiveFrame<Dtype>& frame, size_t in_outputs) {
      if (wanted.weight) {
        kernels_.sample(frame, data, segment.column_size, columns);
        MultiplyForWeights(frame.tile, part, 0, columns, outputs + in_outputs);
      }
      if (wanted.bottom || wanted.x) {
        MultiplyForColumns(segment, frame.tile, 0, outputs + in_outputs, columns);
        kernels_.spread(frame, Spread(segment, part, wanted, data, columns, frame_diff));
      }
    });
    if (frame_diff) { AddFrame(whole, part, frame_diff, wanted.bottom); }
  }

  ActiveSpread<Dtype> Spread(const Segment& segment, const Part& part, const ActiveGradients<Dtype>& wanted,
                             const Dtype* frame, const Dtype* column_diff, Dtype* frame_diff) const {
    const ActiveSpread<Dtype> spread = {frame, column_diff, static_cast<size_t>(segment.column_size), frame_diff,
                                        wanted.x ? part.x_sums : NULL, wanted.x ? part.y_sums : NULL};
    return spread;
  }

  /// The first tile of an image, in the first segment of its channels.
  void ZeroBottom(const ActiveTile& tile, const Part& part, Dtype* bottom_diff) const {
    const Segment& segment = *part.segment;
    const bool first = tile.at.rows.first == part.pixels.at.rows.first &&
                       tile.at.columns.first == part.pixels.at.columns.first;
    if (!first || !plan_.IsFirst(segment)) { return; }
    if (plan_.Overwrites(plan_.Frame(segment, tile, 0, part.cut.frame_synapses, part.block), segment)) { return; }
    const bool whole_rows = part.own.columns.count == g_.width;
    const ActiveInterval rows = part.own.rows, columns = part.own.columns;
    for (int image = tile.image; image < tile.image + tile.images; ++image) {
      for (int c = plan_.Channel(segment, part.block); c < plan_.EndChannel(part); ++c) {
        for (int row = rows.first; row < rows.end(); row += whole_rows ? rows.count : 1) {
          std::fill_n(bottom_diff + BottomAt(image, c) + static_cast<size_t>(row) * g_.width + columns.first,
                      whole_rows ? part.own.size() : columns.count, Dtype(0));
        }
      }
    }
  }

  const Dtype* LoadOutputs(const Segment& segment, const ActiveTile& tile, const Dtype* top_diff, Thread* thread) const {
    Dtype* outputs = Outputs(segment, tile, thread);
    ForEachOutputPiece(segment, tile, [&](const ActivePlanes<Dtype>& planes, size_t in_outputs, size_t in_top) {
      kernels_.load_planes(planes, top_diff + in_top, outputs + in_outputs);
    });
    if (segment.turns) { kernels_.turn(segment.turns, tile.size(), segment.output_size, outputs); }
    return outputs;
  }

  void MultiplyForWeights(const ActiveTile& tile, const Part& part, int block, const Dtype* columns,
                          const Dtype* outputs) const {
    const Segment& segment = *part.segment;
    const size_t strip = ActiveStrip(segment.outputs, kernels_.lanes), row = segment.output_size, lanes = kernels_.lanes;
    if (segment.turns) {
      const ActiveLaneProduct<Dtype> product = {
          synapses_, segment.turns, tile.size(), columns, lanes, static_cast<size_t>(segment.column_size),
          outputs, row, lanes, part.weight_sums, segment.turns * lanes, lanes, true};
      kernels_.multiply_lanes(product);
      return;
    }
    const int pixels = tile.size(), piece = EvenShare(pixels, kStripBytes / sizeof(Dtype) / strip);
    for (int first = 0; first < pixels; first += piece) {
      const ActiveProduct<Dtype> product = {
          synapses_ * plan_.Channels(segment, block), segment.outputs, std::min(piece, pixels - first),
          columns + static_cast<size_t>(first) * segment.column_size, 1, static_cast<size_t>(segment.column_size),
          outputs + first * row, strip, row, part.weight_sums + plan_.SumSize(segment) * (block - part.block), row, true};
      kernels_.multiply(product);
    }
  }

  void MultiplyForColumns(const Segment& segment, const ActiveTile& tile, int block, const Dtype* outputs,
                          Dtype* columns) const {
    const size_t output_size = segment.output_size, column_size = segment.column_size, lanes = kernels_.lanes;
    if (segment.turns) {
      const ActiveLaneProduct<Dtype> product = {
          tile.size(), synapses_, segment.turns, outputs, output_size, lanes,
          PackedWeights(segment), lanes, segment.turns * lanes, columns, column_size, lanes, false};
      kernels_.multiply_lanes(product);
      return;
    }
    const int rows = synapses_ * plan_.Channels(segment, block), strip = ActiveStrip(rows, kernels_.lanes);
    const ActiveProduct<Dtype> product = {
        tile.size(), rows, segment.outputs, outputs, output_size, 1,
        PackedWeights(segment) + plan_.BackwardWeightAt(segment, block), static_cast<size_t>(segment.outputs) * strip,
        static_cast<size_t>(strip), columns, column_size, false};
    kernels_.multiply(product);
  }

  /// From the gradient of a block's columns to those of the input and of the positions.
  void SpreadBlock(const ActiveTile& tile, const Part& part, int block, const ActiveGradients<Dtype>& wanted,
                   const Dtype* column_diff, Thread* thread) const {
    const int frame_synapses = part.cut.frame_synapses;
    for (int k = 0; k < synapses_; k += frame_synapses) {
      const ActiveFrame<Dtype> frame = plan_.Frame(*part.segment, tile, k, frame_synapses, block);
      const bool loaded = wanted.weight && frame_synapses == synapses_;  // it still holds what was sampled last
      const Dtype* data = loaded || !wanted.x ? Buffer(&thread->frame, 0) : LoadFrame(frame, thread);
      Dtype* frame_diff = wanted.bottom ? Buffer(&thread->frame_diff, frame.size()) : NULL;
      if (frame_diff) { std::fill_n(frame_diff, frame.size(), Dtype(0)); }
      kernels_.spread(frame, Spread(*part.segment, part, wanted, data, column_diff, frame_diff));
      if (frame_diff) { AddFrame(frame, part, frame_diff, wanted.bottom); }
    }
  }

  /// Adds the gradient of a frame to the blob's where that is the part's own, else to the overhang.
  void AddFrame(const ActiveFrame<Dtype>& frame, const Part& part, const Dtype* frame_diff, Dtype* bottom_diff) const {
    const bool overwrites = plan_.Overwrites(frame, *part.segment);
    for (int i = 0; i < frame.tile.images; ++i) {
      const auto add_to = [&](const ActiveRectangle& rectangle, int pitch, size_t plane_size, Dtype* to) {
        ForEachPiece(frame, i, rectangle, pitch, plane_size,
                     [&](const ActivePlanes<Dtype>& planes, size_t in_frame, size_t pixel) {
                       if (overwrites) {
                         kernels_.store_planes(planes, frame_diff + in_frame, NULL, to + pixel);
                       } else {
                         kernels_.add_planes(planes, frame_diff + in_frame, to + pixel);
                       }
                     });
      };
      const size_t first = static_cast<size_t>(part.own.rows.first) * g_.width + part.own.columns.first;
      add_to(part.own, g_.width, g_.image_size(), bottom_diff + BottomAt(frame.tile.image + i, frame.channel) + first);
      const size_t plane_size = part.overhang.size();
      add_to(part.overhang, part.overhang.columns.count, plane_size,
             part.overhang_diff + plane_size * (frame.channel - plan_.Channel(*part.segment, part.block)));
    }
  }

  /// Adds what overhangs, part after part, to the gradient of the input.
  void AddOverhangs(const std::vector<Part>& parts, Dtype* bottom_diff) const {
    size_t overhangs = 0;
    for (const Part& part : parts) { overhangs += part.overhang.size(); }
    if (overhangs == 0) { return; }
#pragma omp parallel for
    for (int c = 0; c < g_.channels; ++c) {
      for (const Part& part : parts) {
        const int first = plan_.Channel(*part.segment, part.block);
        if (c < first || c >= plan_.EndChannel(part)) { continue; }
        const ActiveRectangle at = part.overhang;
        const Dtype* from = part.overhang_diff + static_cast<size_t>(at.size()) * (c - first);
        Dtype* plane = bottom_diff + BottomAt(part.pixels.image, c) + at.columns.first;
        for (int row = at.rows.first; row < at.rows.end(); ++row, from += at.columns.count) {
          Dtype* to = plane + static_cast<size_t>(row) * g_.width;
          for (int i = 0; i < at.columns.count; ++i) { to[i] += from[i]; }
        }
      }
    }
  }

  /// Adds the parts' sums, part after part, to the gradient of the weights.
  void AddWeights(const Round& round, const std::vector<Part>& parts, Dtype* weight_diff) const {
    const std::vector<Block> blocks = plan_.Blocks(round);
    const int kTogether = 4 * kernels_.lanes;  // outputs
    const int most = std::max_element(round.begin(), round.end(), FewerOutputs)->outputs;
#pragma omp parallel for collapse(2) schedule(dynamic) if (blocks.size() > 1 || most > kTogether)
    for (int i = 0; i < blocks.size(); ++i) {
      for (int first = 0; first < most; first += kTogether) {
        const Segment& segment = *blocks[i].segment;
        const int outputs = std::min(kTogether, segment.outputs - first);
        if (outputs > 0) { AddWeights(parts, blocks[i], first, outputs, weight_diff); }
      }
    }
  }

  static bool FewerOutputs(const Segment& a, const Segment& b) { return a.outputs < b.outputs; }

  /// The same for some outputs of a block; the sums come together in those of the first part.
  void AddWeights(const std::vector<Part>& parts, const Block& block, int first, int outputs, Dtype* weight_diff) const {
    const Segment& segment = *block.segment;
    const int channels = plan_.Channels(segment, block.block);
    const size_t row_size = segment.output_size;
    if (segment.turns) {
      for (const Part& part : parts) {
        if (part.segment != &segment) { continue; }
        if (segment.splat) {
          ForEachSplat(segment, [&](int lane, int k, size_t in_blob) {
            weight_diff[in_blob] += segment.splat->Sample(k, kernels_.lanes, part.weight_sums + lane);
          });
          continue;
        }
        ForEachTurned(segment, [&](size_t at, size_t in_blob) { weight_diff[in_blob] += part.weight_sums[at]; });
      }
      return;
    }
    Dtype* sums = NULL;
    for (const Part& part : parts) {
      if (part.segment != &segment || block.block < part.block || block.block >= part.block + part.blocks) { continue; }
      Dtype* more = part.weight_sums + plan_.SumSize(segment) * (block.block - part.block) + first;
      if (!sums) {
        sums = more;
        continue;
      }
      for (size_t row = 0; row < channels * synapses_ * row_size; row += row_size) {
        for (int d = 0; d < outputs; ++d) { sums[row + d] += more[row + d]; }
      }
    }
    const ActivePlanes<Dtype> planes = {outputs, channels * synapses_, plan_.WeightSize(), synapses_, channels * row_size,
                                        row_size};  // as they lie in the blob: row k * channels + c at c * K + k
    kernels_.add_planes(planes, sums, weight_diff + WeightAt(segment, first, block.block, 0));
  }

  /// Adds the parts' sums to the gradients of the positions; all in double before.
  void AddPositions(const std::vector<Part>& parts, const ActiveGradients<Dtype>& gradients) const {
    std::vector<double> x(g_.position_group * synapses_, 0.), y(x);
    for (const Part& part : parts) {
      const int set = part.segment->position_group * synapses_;
      for (int k = 0; k < synapses_; ++k) {
        x[set + k] += part.x_sums[k];
        y[set + k] += part.y_sums[k];
      }
    }
    for (int i = 0; i < x.size(); ++i) {
      gradients.x[i] += x[i];
      gradients.y[i] += y[i];
    }
  }

  const ActiveGeometry& g_;
  const int num_, synapses_;
  const ActiveParameters<Dtype>& parameters_;
  const Dtype* bottom_;
  ActiveCpuWorkspace<Dtype>* workspace_;
  const ActiveCpuKernels<Dtype>& kernels_;
  const ActiveCpuPlan<Dtype> plan_;
};

template <typename Dtype>
void BackwardBias(const ActiveGeometry& g, int num, const Dtype* top_diff, Dtype* bias_diff) {
#pragma omp parallel for
  for (int d = 0; d < g.num_output; ++d) {
    double sum = 0;
    for (int n = 0; n < num; ++n) {
      const Dtype* diff = top_diff + (static_cast<size_t>(n) * g.num_output + d) * g.out_size();
#pragma omp simd reduction(+ : sum)
      for (int i = 0; i < g.out_size(); ++i) { sum += diff[i]; }
    }
    bias_diff[d] += sum;
  }
}

}  // namespace

template <typename Dtype>
std::shared_ptr<ActiveCpuWorkspace<Dtype> > ActiveCpuWorkspace<Dtype>::OfThisThread() {
  static thread_local std::weak_ptr<ActiveCpuWorkspace> kept;
  std::shared_ptr<ActiveCpuWorkspace> workspace = kept.lock();
  if (!workspace) { kept = workspace = std::make_shared<ActiveCpuWorkspace>(); }
  return workspace;
}

template <typename Dtype>
size_t ActiveCpuWorkspace<Dtype>::bytes() const {
  size_t total = position_sums.size() * sizeof(double) +
                 (weight.size() + weight_sums.size() + overhangs.size()) * sizeof(Dtype);
  for (const PerThread& thread : threads) {
    total += sizeof(Dtype) *
             (thread.frame.size() + thread.frame_diff.size() + thread.columns.size() + thread.outputs.size()) +
             sizeof(size_t) * thread.reads.size();
  }
  return total;
}

template <typename Dtype>
void active_convolution_forward_cpu(const ActiveGeometry& geometry, int num, const ActiveParameters<Dtype>& parameters,
                                    const Dtype* bottom, Dtype* top, ActiveCpuWorkspace<Dtype>* workspace) {
  if (num == 0) { return; }
  ActiveCpuPass<Dtype>(geometry, num, parameters, bottom, workspace).Forward(top);
}

template <typename Dtype>
void active_convolution_backward_cpu(const ActiveGeometry& geometry, int num, const ActiveParameters<Dtype>& parameters,
                                     const Dtype* bottom, const Dtype* top_diff,
                                     const ActiveGradients<Dtype>& gradients, ActiveCpuWorkspace<Dtype>* workspace) {
  if (gradients.bias) { BackwardBias(geometry, num, top_diff, gradients.bias); }
  if (num == 0 || (!gradients.weight && !gradients.x && !gradients.bottom)) { return; }
  ActiveCpuPass<Dtype>(geometry, num, parameters, bottom, workspace).Backward(top_diff, gradients);
}

#define INSTANTIATE(Dtype) \
  template struct ActiveCpuWorkspace<Dtype>; \
  template void active_convolution_forward_cpu<Dtype>(const ActiveGeometry&, int, const ActiveParameters<Dtype>&, \
                                                      const Dtype*, Dtype*, ActiveCpuWorkspace<Dtype>*); \
  template void active_convolution_backward_cpu<Dtype>(const ActiveGeometry&, int, const ActiveParameters<Dtype>&, \
                                                       const Dtype*, const Dtype*, const ActiveGradients<Dtype>&, \
                                                       ActiveCpuWorkspace<Dtype>*)

INSTANTIATE(float);
INSTANTIATE(double);

}  // namespace caffe
