#ifndef CAFFE_UTIL_C_OBJECTS_HPP_
#define CAFFE_UTIL_C_OBJECTS_HPP_

#include <boost/shared_ptr.hpp>

#include <fstream>
#include <stdexcept>
#include <string>

#include "caffe/c_api.h"
#include "caffe/caffe.hpp"

namespace caffe {

/// What stands behind a caffe_handle of the C interface. The object is cast to it from the type that FromC() casts it to.
typedef boost::shared_ptr<void> Handle;

inline caffe_handle ToC(const Handle& object) { return reinterpret_cast<caffe_handle>(new Handle(object)); }
inline Handle& FromC(caffe_handle handle) { return *reinterpret_cast<Handle*>(handle); }

template <typename T>
T& FromC(caffe_handle handle) { return *static_cast<T*>(FromC(handle).get()); }

inline Net<float>& NetOf(caffe_handle net) { return FromC<Net<float> >(net); }
inline Blob<float>& BlobOf(caffe_handle blob) { return FromC<Blob<float> >(blob); }
inline Layer<float>& LayerOf(caffe_handle layer) { return FromC<Layer<float> >(layer); }
inline Solver<float>& SolverOf(caffe_handle solver) { return FromC<Solver<float> >(solver); }

inline void OwnNothing(void*) {}

/// A handle that owns nothing of what is at `object`.
inline caffe_handle Lent(void* object) { return ToC(Handle(object, OwnNothing)); }

/// A call of the C interface that may fail, while it is under way on this thread.
class ApiCall {
 public:
  ApiCall();
  ~ApiCall();
  /// Keeps the exception that is being handled, for caffe_error().
  void Failed();
};

/// The result of `function`, or `failed` where it threw.
template <typename Result, typename Function>
Result Guarded(Result failed, Function function) {
  ApiCall call;
  try {
    return function();
  } catch (...) {
    call.Failed();
    return failed;
  }
}

/// 0, or -1 where `function` threw.
template <typename Function>
int Done(Function function) {
  return Guarded(-1, [&] { function(); return 0; });
}

/// A handle to the shared_ptr that `function` returns, or NULL where it threw.
template <typename Function>
caffe_handle Made(Function function) {
  return Guarded(static_cast<caffe_handle>(NULL), [&] { return ToC(function()); });
}

/// The mistake that people make most is an error also where a failed check ends the process.
inline void MustBeReadable(const char* name) {
  if (!std::ifstream(name).good()) {
    throw std::runtime_error(string("cannot read the file ") + name);
  }
}

}  // namespace caffe

#endif  // CAFFE_UTIL_C_OBJECTS_HPP_
