#include <vector>

#include "gtest/gtest.h"

#include "caffe/util/active_geometry.hpp"

#include "caffe/test/test_caffe_main.hpp"

namespace caffe {

namespace {

ActiveGeometry Outputs(int num_output, int group, int position_group) {
  ActiveGeometry g = ActiveGeometry();
  g.num_output = num_output;
  g.group = group;
  g.position_group = position_group;
  return g;
}

ActiveGeometry Pixels(int out_height, int out_width) {
  ActiveGeometry g = ActiveGeometry();
  g.out_height = out_height;
  g.out_width = out_width;
  return g;
}

}  // namespace

TEST(ActiveGeometryTest, TestSegmentsReadOneGroupAtOneSet) {
  const std::vector<ActiveSegment> segments = ActiveSegments(Outputs(12, 2, 3));
  const int expected[][4] = {{0, 0, 0, 4}, {0, 1, 4, 2}, {1, 1, 6, 2}, {1, 2, 8, 4}};
  ASSERT_EQ(4, segments.size());
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(expected[i][0], segments[i].group) << i;
    EXPECT_EQ(expected[i][1], segments[i].position_group) << i;
    EXPECT_EQ(expected[i][2], segments[i].output) << i;
    EXPECT_EQ(expected[i][3], segments[i].outputs) << i;
  }
}

TEST(ActiveGeometryTest, TestOneSegmentWhereNothingIsGrouped) {
  EXPECT_EQ(1, ActiveSegments(Outputs(96, 1, 1)).size());
}

TEST(ActiveGeometryTest, TestChunksCoverTheBatchOnceWithinTheLimit) {
  for (int num = 1; num <= 5; ++num) {
    for (int height = 1; height <= 4; ++height) {
      for (int width = 1; width <= 5; ++width) {
        const ActiveGeometry g = Pixels(height, width);
        for (int most = 1; most <= num * g.out_size() + 1; ++most) {
          std::vector<int> covered(num * g.out_size(), 0);
          for (const ActiveChunk& chunk : ActiveChunks(g, num, most)) {
            EXPECT_LE(chunk.columns(), most);
            for (int image = chunk.image; image < chunk.image + chunk.images; ++image) {
              for (int pixel = chunk.begin; pixel < chunk.end; ++pixel) { ++covered[image * g.out_size() + pixel]; }
            }
          }
          ASSERT_EQ(std::vector<int>(num * g.out_size(), 1), covered)
              << num << " images of " << height << " x " << width << " in chunks of " << most;
        }
      }
    }
  }
}

TEST(ActiveGeometryTest, TestChunksAreEvenAndTheFirstIsNotSmaller) {
  const std::vector<ActiveChunk> images = ActiveChunks(Pixels(4, 4), 10, 9 * 16);
  ASSERT_EQ(2, images.size());
  EXPECT_EQ(5, images[0].images);
  EXPECT_EQ(5, images[1].images);
  const std::vector<ActiveChunk> rows = ActiveChunks(Pixels(7, 4), 1, 4 * 4 + 3);
  ASSERT_EQ(2, rows.size());
  EXPECT_EQ(4 * 4, rows[0].columns());
  EXPECT_EQ(3 * 4, rows[1].columns());
  EXPECT_EQ(3, ActiveChunks(Pixels(1, 9), 1, 4).size());  // parts of rows
}

}  // namespace caffe
