#ifndef CAFFE_UTIL_ACTIVE_GEOMETRY_HPP_
#define CAFFE_UTIL_ACTIVE_GEOMETRY_HPP_

#include <algorithm>
#include <vector>

#include "caffe/util/active_sampling.hpp"

/**
 * The shape of an active convolution, and how its work is cut, on CPU and GPU alike: the outputs into segments, the pixels
 * of a batch into chunks. Each pass chooses how large its chunks are.
 */
namespace caffe {

/// The shape of an active convolution over one image; pixels throughout, x = horizontal.
struct ActiveGeometry {
  int channels, height, width;            // the input image
  int num_output, out_height, out_width;  // the output image
  int kernel_h, kernel_w;                 // K = kernel_h * kernel_w synapses, in row-major order
  int stride_h, stride_w;
  int base_h, base_w;                     // the base pixel of output pixel (0, 0), in the input
  int group;                              // sets of channels: outputs of one set read the inputs of the same set
  int position_group;                     // sets of positions, each for num_output / position_group outputs

  ACTIVE_HOST_DEVICE int synapses() const { return kernel_h * kernel_w; }
  ACTIVE_HOST_DEVICE int image_size() const { return height * width; }
  ACTIVE_HOST_DEVICE int out_size() const { return out_height * out_width; }
  ACTIVE_HOST_DEVICE int group_channels() const { return channels / group; }
};

ACTIVE_HOST_DEVICE inline int CeilDivide(int a, int b) { return a / b + (a % b != 0); }

/// Consecutive outputs that read the same channels at the same positions: one product.
struct ActiveSegment {
  int group, position_group;
  int output, outputs;  // the first one, how many
};

/// All segments; with one set of channels or of positions there are as many as of the other.
inline std::vector<ActiveSegment> ActiveSegments(const ActiveGeometry& g) {
  const int per_group = g.num_output / g.group, per_position_group = g.num_output / g.position_group;
  std::vector<ActiveSegment> segments;
  for (int output = 0; output < g.num_output;) {
    ActiveSegment s = {output / per_group, output / per_position_group, output, 0};
    s.outputs = std::min((s.group + 1) * per_group, (s.position_group + 1) * per_position_group) - output;
    segments.push_back(s);
    output += s.outputs;
  }
  return segments;
}

/// The output pixels [begin, end) of each of some consecutive images: of many whole images, or a part of one.
struct ActiveChunk {
  int image, images;  // the first one, how many
  int begin, end;

  ACTIVE_HOST_DEVICE int pixels() const { return end - begin; }
  ACTIVE_HOST_DEVICE int columns() const { return images * pixels(); }
};

/// The size of equal parts of `total`: as few parts as there can be of at most `most` each.
inline int EvenShare(int total, int most) { return CeilDivide(total, CeilDivide(total, most)); }

/// Cuts a batch of at least one image into chunks of at most `columns` columns, of one size but for smaller last ones.
inline std::vector<ActiveChunk> ActiveChunks(const ActiveGeometry& g, int num, int columns) {
  const bool whole_images = columns >= g.out_size();
  const int unit = whole_images ? g.out_size() : columns >= g.out_width ? g.out_width : 1;  // whole rows where they fit
  const int images = whole_images ? EvenShare(num, columns / unit) : 1;
  const int pixels = whole_images ? unit : EvenShare(g.out_size() / unit, columns / unit) * unit;
  std::vector<ActiveChunk> chunks;
  for (int image = 0; image < num; image += images) {
    for (int begin = 0; begin < g.out_size(); begin += pixels) {
      const ActiveChunk chunk = {image, std::min(images, num - image), begin, std::min(begin + pixels, g.out_size())};
      chunks.push_back(chunk);
    }
  }
  return chunks;
}

/// Consecutive pixels of one axis.
struct ActiveInterval {
  int first, count;

  ACTIVE_HOST_DEVICE int end() const { return first + count; }

  /// The pixels of both; empty at 0 where there are none.
  ActiveInterval operator&(const ActiveInterval& other) const {
    const int from = std::max(first, other.first), most = std::min(end(), other.end()) - from;
    const ActiveInterval both = {most > 0 ? from : 0, std::max(0, most)};
    return both;
  }

  /// The smallest one with the pixels of either.
  ActiveInterval operator|(const ActiveInterval& other) const {
    if (count == 0 || other.count == 0) { return count == 0 ? other : *this; }
    const int from = std::min(first, other.first);
    const ActiveInterval either = {from, std::max(end(), other.end()) - from};
    return either;
  }
};

/// Pixels of an image.
struct ActiveRectangle {
  ActiveInterval rows, columns;

  ACTIVE_HOST_DEVICE int size() const { return rows.count * columns.count; }

  ActiveRectangle operator&(const ActiveRectangle& other) const {
    const ActiveRectangle both = {rows & other.rows, columns & other.columns};
    return both;
  }
};

/// What taps between `least` and `most` read of one axis of the input for some output pixels, the border outside
/// included.
inline ActiveInterval ActiveReach(const ActiveInterval& outputs, int base, int stride, int least, int most) {
  const ActiveInterval reach = {base + outputs.first * stride + least,
                                (outputs.count - 1) * stride + most + 1 - least + 1};
  return reach;
}

/// The smallest rectangle with all pixels of the image that a chunk's whole output rows read, or its part of one row,
/// through the taps of its set (K); empty where there are none.
template <typename Dtype>
ActiveRectangle ActiveWindow(const ActiveGeometry& g, const ActiveChunk& chunk,
                             const std::vector<ActiveTap<Dtype> >& taps) {
  const ActiveInterval rows = {chunk.begin / g.out_width,
                               (chunk.end - 1) / g.out_width - chunk.begin / g.out_width + 1};
  const bool one_row = rows.count == 1;
  const ActiveInterval columns = {one_row ? chunk.begin % g.out_width : 0, one_row ? chunk.pixels() : g.out_width};
  const ActiveRectangle image = {{0, g.height}, {0, g.width}};
  ActiveRectangle window = {{0, 0}, {0, 0}};
  for (const ActiveTap<Dtype>& tap : taps) {
    const ActiveRectangle reach = {ActiveReach(rows, g.base_h, g.stride_h, tap.y, tap.y),
                                   ActiveReach(columns, g.base_w, g.stride_w, tap.x, tap.x)};
    const ActiveRectangle inside = image & reach;
    if (inside.size() == 0) { continue; }
    window.rows = window.rows | inside.rows;
    window.columns = window.columns | inside.columns;
  }
  return window;
}

}  // namespace caffe

#endif  // CAFFE_UTIL_ACTIVE_GEOMETRY_HPP_
