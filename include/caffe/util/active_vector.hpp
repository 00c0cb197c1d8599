#ifndef CAFFE_UTIL_ACTIVE_VECTOR_HPP_
#define CAFFE_UTIL_ACTIVE_VECTOR_HPP_

#include <type_traits>

/**
 * Vectors of a given number of bytes, in the compiler's own arithmetic: the same source serves every instruction set, and
 * compiles from GCC 10 and Clang 14 on, as C++11 too.
 * All functions must be inlined into one that is compiled for an instruction set with such vectors.
 */
// Nothing that takes vectors is called across instruction sets, so that it does not matter how they would be passed.
#pragma GCC diagnostic ignored "-Wpsabi"

#include "caffe/util/active_machine.hpp"
#include "caffe/util/active_sampling.hpp"

// Before a loop of at most 16 turns over an array of vectors: unrolled whole, so that they stay in registers. Otherwise GCC
// leaves some of these loops, without -O3 most, and an array that is indexed by a variable lies in memory.
#ifdef __clang__
#define ACTIVE_UNROLL _Pragma("clang loop unroll(full)")
#else
#define ACTIVE_UNROLL _Pragma("GCC unroll 16")
#endif

namespace caffe {

// What compiles a function for an instruction set, and whether this machine has that; ActiveVectorBytes says which to use.
// By features: not all compilers know x86-64-v3 and -v4, their usual sets, here or in __builtin_cpu_supports.
#if defined(__x86_64__) && defined(__GNUC__)
#define ACTIVE_AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma,bmi,bmi2")))
#define ACTIVE_AVX2 __attribute__((target("avx2,fma,bmi,bmi2")))

inline bool ActiveHasAvx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
         __builtin_cpu_supports("bmi2");
}

inline bool ActiveHasAvx512() {
  return ActiveHasAvx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#endif

/// The numbers of a vector's lanes, as a parameter pack: ActiveLanes<4>::Type is ActiveIndices<0, 1, 2, 3>.
template <int... l>
struct ActiveIndices {};

template <int kCount, int... l>
struct ActiveLanes : ActiveLanes<kCount - 1, kCount - 1, l...> {};

template <int... l>
struct ActiveLanes<0, l...> {
  typedef ActiveIndices<l...> Type;
};

template <typename Dtype, int kBytes>
struct ActiveVector {
  static constexpr int kLanes = kBytes / sizeof(Dtype);
  typedef Dtype Type __attribute__((vector_size(kBytes), aligned(sizeof(Dtype)), may_alias));

  static ACTIVE_INLINE Type Load(const Dtype* from) { return *reinterpret_cast<const Type*>(from); }
  static ACTIVE_INLINE void Store(Dtype* to, Type value) { *reinterpret_cast<Type*>(to) = value; }

  /// Transposes kLanes vectors of kLanes elements: rows[i][j] and rows[j][i] change places.
  static ACTIVE_INLINE void Transpose(Type* rows) { Transpose(rows, Step<1>()); }

  /// Turns each run of kUnit elements by kBy: element i of a run becomes its element (i + kBy) % kUnit.
  template <int kUnit, int kBy>
  static ACTIVE_INLINE Type Turn(Type v) { return Turn<kUnit, kBy>(v, typename ActiveLanes<kLanes>::Type()); }

 private:
  template <int kStep>
  using Step = std::integral_constant<int, kStep>;

  /// The steps of a transposition from kStep on: swaps of the blocks of so many elements beside the diagonal.
  template <int kStep>
  static ACTIVE_INLINE void Transpose(Type* rows, Step<kStep>) {
    ACTIVE_UNROLL
    for (int i = 0; i < kLanes; ++i) {
      if (!(i & kStep)) { SwapBlocks<kStep>(rows + i, rows + i + kStep, typename ActiveLanes<kLanes>::Type()); }
    }
    Transpose(rows, Step<2 * kStep>());
  }

  static ACTIVE_INLINE void Transpose(Type* rows, Step<kLanes>) {}

  template <int kStep, int... l>
  static ACTIVE_INLINE void SwapBlocks(Type* upper, Type* lower, ActiveIndices<l...>) {
    const Type a = *upper, b = *lower;
    *upper = Choose<(l & kStep ? kLanes + l - kStep : l)...>(a, b);
    *lower = Choose<(l & kStep ? kLanes + l : l + kStep)...>(a, b);
  }

  template <int kUnit, int kBy, int... l>
  static ACTIVE_INLINE Type Turn(Type v, ActiveIndices<l...>) {
    return Choose<(l / kUnit * kUnit + (l + kBy) % kUnit)...>(v, v);
  }

  /// Elements of a, which count from 0, and of b, which count from kLanes.
  template <int... element>
  static ACTIVE_INLINE Type Choose(Type a, Type b) {
#ifdef __clang__
    return __builtin_shufflevector(a, b, element...);
#else  // GCC has that from 12 on
    const decltype(a < b) elements = {element...};
    return __builtin_shuffle(a, b, elements);
#endif
  }
};

}  // namespace caffe

#endif  // CAFFE_UTIL_ACTIVE_VECTOR_HPP_
