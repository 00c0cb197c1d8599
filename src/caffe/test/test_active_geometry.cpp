#include <algorithm>
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

TEST(ActiveGeometryTest, TestWindowHoldsWhatAChunkReadsAndNoMore) {
  ActiveGeometry g = Pixels(5, 6);
  g.height = 9;
  g.width = 11;
  g.stride_h = g.stride_w = 2;
  g.base_h = g.base_w = -1;
  // The last ones read no pixel of the image, whatever the chunk: from below, and from the left in a row that exists.
  const std::vector<ActiveTap<float> > taps = {MakeActiveTap(0.5f, -2.f), MakeActiveTap(-1.5f, 1.5f),
                                               MakeActiveTap(0.f, 1e30f), MakeActiveTap(-20.f, 0.f)};
  for (int begin = 0; begin < g.out_size(); ++begin) {
    for (int end = begin + 1; end <= g.out_size(); ++end) {
      int top = g.height, left = g.width, bottom = 0, right = 0;
      const bool one_row = begin / 6 == (end - 1) / 6;
      const int first = one_row ? begin : begin / 6 * 6, last = one_row ? end - 1 : (end - 1) / 6 * 6 + 5;
      for (int pixel = first; pixel <= last; ++pixel) {
        for (int k = 0; k < 2; ++k) {
          for (int corner = 0; corner < 4; ++corner) {
            const int row = 2 * (pixel / 6) - 1 + taps[k].y + corner / 2;
            const int x = 2 * (pixel % 6) - 1 + taps[k].x + corner % 2;
            if (row < 0 || row >= g.height || x < 0 || x >= g.width) { continue; }
            top = std::min(top, row);
            left = std::min(left, x);
            bottom = std::max(bottom, row + 1);
            right = std::max(right, x + 1);
          }
        }
      }
      const ActiveChunk chunk = {0, 1, begin, end};
      const ActiveRectangle window = ActiveWindow(g, chunk, taps);
      if (bottom == 0) {
        EXPECT_EQ(0, window.size());
        continue;
      }
      EXPECT_EQ(top, window.rows.first) << begin << " to " << end;
      EXPECT_EQ(bottom, window.rows.end()) << begin << " to " << end;
      EXPECT_EQ(left, window.columns.first) << begin << " to " << end;
      EXPECT_EQ(right, window.columns.end()) << begin << " to " << end;
    }
  }
}

TEST(ActiveGeometryTest, TestReachIsWhatSamplesRead) {
  const ActiveInterval outputs = {2, 3}, reach = ActiveReach(outputs, -1, 2, -3, 4);
  EXPECT_EQ(-1 + 2 * 2 - 3, reach.first);
  EXPECT_EQ(-1 + 4 * 2 + 4 + 1, reach.end() - 1);  // the right neighbour of the last sample
}

TEST(ActiveGeometryTest, TestIntervalsMeetAndJoin) {
  const ActiveInterval a = {2, 5}, b = {4, 9}, far = {20, 1};
  EXPECT_EQ(4, (a & b).first);
  EXPECT_EQ(3, (a & b).count);
  EXPECT_EQ(0, (a & far).count);
  EXPECT_EQ(2, (a | far).first);
  EXPECT_EQ(19, (a | far).count);
  EXPECT_EQ(5, ((a & far) | a).count);
}

}  // namespace caffe
