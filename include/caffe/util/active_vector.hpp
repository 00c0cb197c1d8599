#ifndef CAFFE_UTIL_ACTIVE_VECTOR_HPP_
#define CAFFE_UTIL_ACTIVE_VECTOR_HPP_

#include <cstddef>
#include <utility>

/**
 * Vectors of a given number of bytes, in the compiler's own arithmetic: the same source serves every instruction set.
 * All functions must be inlined into one that is compiled for an instruction set with such vectors.
 */
// Nothing that takes vectors is called across instruction sets, so that it does not matter how they would be passed.
#pragma GCC diagnostic ignored "-Wpsabi"

#include "caffe/util/active_sampling.hpp"

namespace caffe {

template <typename Dtype, int kBytes>
struct ActiveVector {
  static constexpr int kLanes = kBytes / sizeof(Dtype);
  typedef Dtype Type __attribute__((vector_size(kBytes), aligned(sizeof(Dtype)), may_alias));

  static ACTIVE_INLINE Type Load(const Dtype* from) { return *reinterpret_cast<const Type*>(from); }
  static ACTIVE_INLINE void Store(Dtype* to, Type value) { *reinterpret_cast<Type*>(to) = value; }
};

/// One step of a transposition: swaps the blocks of kStep x kStep elements beside the diagonal of two rows' squares.
template <int kStep, typename V, size_t... l>
ACTIVE_INLINE void ActiveSwapBlocks(V* upper, V* lower, std::index_sequence<l...>) {
  const V a = *upper, b = *lower;
  const int kLanes = sizeof...(l);
  *upper = __builtin_shufflevector(a, b, (l & kStep ? kLanes + l - kStep : l)...);
  *lower = __builtin_shufflevector(a, b, (l & kStep ? kLanes + l : l + kStep)...);
}

/// Transposes kLanes vectors of kLanes elements: rows[i][j] and rows[j][i] change places.
template <int kLanes, int kStep = 1, typename V>
ACTIVE_INLINE void ActiveTranspose(V* rows) {
  if constexpr (kStep < kLanes) {
    for (int i = 0; i < kLanes; ++i) {
      if (!(i & kStep)) { ActiveSwapBlocks<kStep>(rows + i, rows + i + kStep, std::make_index_sequence<kLanes>()); }
    }
    ActiveTranspose<kLanes, 2 * kStep>(rows);
  }
}

/// Turns each run of kUnit elements by kBy: element i of a run becomes its element (i + kBy) % kUnit.
template <int kUnit, int kBy, typename V, size_t... l>
ACTIVE_INLINE V ActiveTurn(V v, std::index_sequence<l...>) {
  return __builtin_shufflevector(v, v, (l / kUnit * kUnit + (l + kBy) % kUnit)...);
}

}  // namespace caffe

#endif  // CAFFE_UTIL_ACTIVE_VECTOR_HPP_
