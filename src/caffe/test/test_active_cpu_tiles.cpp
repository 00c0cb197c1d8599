#include <vector>

#include "gtest/gtest.h"

#include "caffe/util/active_cpu_tiles.hpp"

#include "caffe/test/test_caffe_main.hpp"

namespace caffe {

namespace {

/// Pixels of some images, the rectangle not at their corner.
ActiveTile Pixels(int images, int rows, int columns) {
  const ActiveTile whole = {2, images, {{3, rows}, {5, columns}}};
  return whole;
}

const ActiveFootprint kSmall = {1, 4, 1, 4};

}  // namespace

TEST(ActiveCpuTilesTest, TestTilesCoverThePixelsOnceWithinTheLimit) {
  for (int images = 1; images <= 3; ++images) {
    for (int rows = 1; rows <= 4; ++rows) {
      for (int columns = 1; columns <= 11; ++columns) {
        const ActiveTile whole = Pixels(images, rows, columns);
        for (int most = 1; most <= whole.size() + 1; ++most) {
          std::vector<int> covered(whole.size(), 0);
          for (const ActiveTile& tile : ActiveTiles(whole, ActiveTileSize(whole, most, kSmall, 4))) {
            EXPECT_LE(tile.size(), most);
            for (int i = 0; i < tile.size(); ++i) {
              const int image = tile.image - 2 + i / tile.at.size(), pixel = i % tile.at.size();
              const int row = tile.at.rows.first - 3 + pixel / tile.at.columns.count;
              const int column = tile.at.columns.first - 5 + pixel % tile.at.columns.count;
              ASSERT_TRUE(row < rows && column < columns);
              ++covered[(image * rows + row) * columns + column];
            }
          }
          ASSERT_EQ(std::vector<int>(whole.size(), 1), covered)
              << images << " images of " << rows << " x " << columns << " in tiles of " << most;
        }
      }
    }
  }
}

TEST(ActiveCpuTilesTest, TestTilesAreEven) {
  EXPECT_EQ(5, ActiveTileSize(Pixels(10, 4, 4), 9 * 16, kSmall, 4).images);
  const ActiveTile rows = ActiveTileSize(Pixels(2, 7, 4), 4 * 4 + 3, kSmall, 4);
  EXPECT_EQ(1, rows.images);
  EXPECT_EQ(4, rows.at.rows.count);  // and 3
  EXPECT_EQ(4, rows.at.columns.count);
}

TEST(ActiveCpuTilesTest, TestTilesOfWideImagesReadLittleBeyondThemselves) {
  const ActiveTile wide = ActiveTileSize(Pixels(1, 512, 512), 700, kSmall, 16);
  EXPECT_LT(kSmall.Pixels(wide.at.rows.count, wide.at.columns.count), 1.5 * wide.at.size());
  const ActiveTile strip = ActiveTileSize(Pixels(1, 2, 1000000), 700, kSmall, 16);
  EXPECT_EQ(2, strip.at.rows.count);
  EXPECT_LE(strip.at.columns.count, 350);
  EXPECT_GE(strip.at.columns.count, 175);
}

}  // namespace caffe
