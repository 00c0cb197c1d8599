#ifndef CAFFE_UTIL_ACTIVE_SPLAT_HPP_
#define CAFFE_UTIL_ACTIVE_SPLAT_HPP_

#include <algorithm>
#include <vector>

#include "caffe/util/active_sampling.hpp"

namespace caffe {

/**
 * The pixels that the synapses of a set read, each of them once. A sample is a sum over four pixels (eq. 6-9), so a layer is
 * the dense convolution whose weights are its own, splatted to those pixels; and from that one's gradient, the sum over
 * outputs of gradient times pixel, those of the layer's weights and positions (eq. 11-13) follow without looking at the
 * image again. Where each channel has one output, this is the cheapest way.
 */
template <typename Dtype>
class ActiveSplat {
 public:
  struct Pixel {
    int x, y;  // from the base pixel
    bool operator==(const Pixel& other) const { return x == other.x && y == other.y; }
  };

  ActiveSplat(const ActiveTap<Dtype>* taps, int synapses)
      : taps_(taps, taps + synapses), corners_(taps, taps + synapses), used_(0) {
    FindPixels(true);
    used_ = pixels_.size();
    FindPixels(false);
  }

  const std::vector<Pixel>& pixels() const { return pixels_; }
  /// How many have a share in any sample. They come first; others matter for slopes alone.
  int used() const { return used_; }

  /// Adds what one weight of synapse k is on each pixel; those of a channel lie `step` elements apart.
  void AddWeight(int k, Dtype weight, int step, Dtype* of_pixels) const {
    const Corners& c = corners_[k];
    for (int i = 0; i < 4; ++i) {
      if (c.share[i] != 0) { of_pixels[c.pixel[i] * step] += c.share[i] * weight; }
    }
  }

  /// From a channel's sums of gradient times pixel: the same sum of gradient times sample, and of gradient times slope.
  double Sample(int k, int step, const Dtype* of_pixels) const {
    const Corners& c = corners_[k];
    double sum = 0;
    for (int i = 0; i < 4; ++i) {
      if (c.share[i] != 0) { sum += static_cast<double>(c.share[i]) * of_pixels[c.pixel[i] * step]; }
    }
    return sum;
  }
  double SlopeX(int k, int step, const Dtype* of_pixels) const {
    const Sums s(corners_[k], step, of_pixels);
    return ActiveSlopeX(taps_[k], s.at[0], s.at[1], s.at[2], s.at[3]);
  }
  double SlopeY(int k, int step, const Dtype* of_pixels) const {
    const Sums s(corners_[k], step, of_pixels);
    return ActiveSlopeY(taps_[k], s.at[0], s.at[1], s.at[2], s.at[3]);
  }

 private:
  /// Which of the pixels those of x00, x01, x10 and x11 are, and what a sample takes of each.
  struct Corners {
    int pixel[4];
    Dtype share[4];

    explicit Corners(const ActiveTap<Dtype>& tap) {
      const ActiveBilinear<Dtype> w(tap);
      const Dtype shares[] = {w.w00, w.w01, w.w10, w.w11};
      std::copy(shares, shares + 4, share);
    }
  };

  /// The sums of a synapse's four pixels; in double, since slopes are their differences.
  struct Sums {
    double at[4];
    Sums(const Corners& corners, int step, const Dtype* of_pixels) {
      for (int i = 0; i < 4; ++i) { at[i] = of_pixels[corners.pixel[i] * step]; }
    }
  };

  /// Of the corners with a share, or of those without.
  void FindPixels(bool with_share) {
    for (int k = 0; k < taps_.size(); ++k) {
      for (int i = 0; i < 4; ++i) {
        if ((corners_[k].share[i] != 0) != with_share) { continue; }
        const Pixel pixel = {taps_[k].x + i % 2, taps_[k].y + i / 2};
        corners_[k].pixel[i] = std::find(pixels_.begin(), pixels_.end(), pixel) - pixels_.begin();
        if (corners_[k].pixel[i] == pixels_.size()) { pixels_.push_back(pixel); }
      }
    }
  }

  std::vector<ActiveTap<Dtype> > taps_;  // K
  std::vector<Corners> corners_;         // K
  std::vector<Pixel> pixels_;
  int used_;
};

}  // namespace caffe

#endif  // CAFFE_UTIL_ACTIVE_SPLAT_HPP_
