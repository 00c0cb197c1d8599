#ifndef CAFFE_TEST_CAFFES_LOOPS_HPP_
#define CAFFE_TEST_CAFFES_LOOPS_HPP_

#if __has_include("caffe/util/fast_layers.hpp")  // not with FAST_CPU_LAYERS=OFF
#include "caffe/util/fast_layers.hpp"
#endif

namespace caffe {

/// While it lives, Caffe's own layers run Caffe's loops: with ours, they would be compared with themselves.
class CaffesLoops {
 public:
#if __has_include("caffe/util/fast_layers.hpp")
  CaffesLoops() : before_(UseFastLayers()) { UseFastLayers() = false; }
  ~CaffesLoops() { UseFastLayers() = before_; }

 private:
  const bool before_;
#endif
};

}  // namespace caffe

#endif  // CAFFE_TEST_CAFFES_LOOPS_HPP_
