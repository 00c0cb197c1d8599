#include <cstdlib>
#include <string>

#include "caffe/util/fast_layers.hpp"

namespace caffe {

bool& UseFastLayers() {
  static const char* const set = std::getenv("FAST_CPU_LAYERS");
  static bool use = !set || std::string(set) != "0";
  return use;
}

}  // namespace caffe
