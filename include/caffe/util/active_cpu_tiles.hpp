#ifndef CAFFE_UTIL_ACTIVE_CPU_TILES_HPP_
#define CAFFE_UTIL_ACTIVE_CPU_TILES_HPP_

#include <algorithm>
#include <vector>

#include "caffe/util/active_geometry.hpp"

/// How the CPU cuts the output pixels of a batch into tiles whose columns, and what they read of the input, stay in
/// cache.
namespace caffe {

inline int RoundUp(int count, int unit) { return CeilDivide(count, unit) * unit; }

/// The same rectangle of output pixels in each of some consecutive images.
struct ActiveTile {
  int image, images;  // the first one, how many
  ActiveRectangle at;

  int size() const { return images * at.size(); }
};

/// Of how many input pixels rows x columns output pixels take samples: (rows - 1) * stride_h + span_h, times the same
/// across.
struct ActiveFootprint {
  int stride_h, span_h, stride_w, span_w;

  double Pixels(int rows, int columns) const {
    return ((rows - 1.) * stride_h + span_h) * ((columns - 1.) * stride_w + span_w);
  }
};

/// The size of a tile of `whole` with at most `most` pixels: of whole images where one fits, else of the rectangle of
/// one, with whole rows or some times `unit` columns, whose tiles read the least of the input.
inline ActiveTile ActiveTileSize(const ActiveTile& whole, int most, const ActiveFootprint& footprint, int unit) {
  ActiveTile size = whole;
  if (whole.at.size() <= most) {
    size.images = EvenShare(whole.images, most / whole.at.size());
    return size;
  }
  const int kClearly = 10;  // per cent, since whole rows lie together in memory
  const int all_rows = whole.at.rows.count, all_columns = whole.at.columns.count;
  size.images = 1;
  unit = std::min(unit, most);
  double least = -1;
  for (int columns = all_columns, last = 0; columns != last;) {
    if (columns <= most) {
      const int rows = EvenShare(all_rows, most / columns);
      const double read = footprint.Pixels(rows, columns) * CeilDivide(all_rows, rows) * CeilDivide(all_columns, columns);
      if (least < 0 || read < least * (100 - kClearly) / 100) {
        least = read;
        size.at.rows.count = rows;
        size.at.columns.count = columns;
      }
    }
    last = columns;
    columns = std::min(columns, RoundUp(CeilDivide(columns, 2), unit));
  }
  return size;
}

/// Cuts `whole` into tiles of this size, but for smaller last ones.
inline std::vector<ActiveTile> ActiveTiles(const ActiveTile& whole, const ActiveTile& size) {
  std::vector<ActiveTile> tiles;
  const ActiveInterval rows = {whole.at.rows.first, size.at.rows.count};
  const ActiveInterval columns = {whole.at.columns.first, size.at.columns.count};
  for (int image = whole.image; image < whole.image + whole.images; image += size.images) {
    ActiveTile tile = {image, std::min(size.images, whole.image + whole.images - image), {rows, columns}};
    for (; tile.at.rows.first < whole.at.rows.end(); tile.at.rows.first += rows.count) {
      for (tile.at.columns = columns; tile.at.columns.first < whole.at.columns.end();
           tile.at.columns.first += columns.count) {
        tiles.push_back(tile);
        tiles.back().at = tile.at & whole.at;
      }
    }
  }
  return tiles;
}

}  // namespace caffe

#endif  // CAFFE_UTIL_ACTIVE_CPU_TILES_HPP_
