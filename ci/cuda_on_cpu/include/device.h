// Comes before the source of each kernel: the words of CUDA C++, for a compiler of host code.
#pragma once
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <new>
#include <type_traits>
#include <utility>

#include "device_state.h"

#define COC_EXPORT __attribute__((visibility("default")))

#define __global__
#define __device__
#define __host__
#define __constant__
#define __managed__
#define __shared__ static  // one block runs at a time, so what it shares may be the module's
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) __attribute__((aligned(n)))
#define __CUDA_ARCH__ 900
#define __CUDACC_VER_MAJOR__ 13
#define __CUDACC_VER_MINOR__ 0

using uint3 = coc_index;
struct dim3 {
  unsigned x = 1, y = 1, z = 1;
};
struct float2 {
  float x, y;
};
struct float4 {
  float x, y, z, w;
};
struct double2 {
  double x, y;
};
using cuFloatComplex = float2;
using cuDoubleComplex = double2;

static coc_state coc_thread_state;
#define threadIdx (coc_thread_state.thread)
#define blockIdx (coc_thread_state.block)
#define blockDim (coc_thread_state.block_dim)
#define gridDim (coc_thread_state.grid_dim)
#define warpSize 32

// A module whose code waits anywhere, in a header too, says so when it is loaded: the variable of a
// template is there, and has a beginning, only if something that is called names it.
extern "C" coc_module coc_module_info;
template <int>
struct coc_waits {
  static const bool known;
};
template <int N>
const bool coc_waits<N>::known = (coc_module_info.mode = COC_FIBERS, true);
template <int N>
static inline void coc_wait_for(coc_wait what, unsigned lanes) {
  static_cast<void>(&coc_waits<N>::known);
  coc_thread_state.wait(what, lanes);
}
template <int N = 0>
static inline void __syncthreads() {
  coc_wait_for<N>(COC_BLOCK, ~0u);
}
template <int N = 0>
static inline void __syncwarp(unsigned mask = ~0u) {
  coc_wait_for<N>(COC_WARP, mask);
}
static inline void __threadfence() {}
static inline void __threadfence_block() {}

alignas(64) static char coc_dynamic_shared[48 << 10];

// Warps. Each thread writes its value, all wait, and each reads another's.
static char coc_values[1024][16];
static inline unsigned coc_rank() {
  return (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
}
template <class T>
static inline T coc_exchange(unsigned mask, T value, unsigned from) {
  static_assert(sizeof(T) <= sizeof coc_values[0], "a shuffle of more than 16 bytes");
  memcpy(coc_values[coc_rank()], &value, sizeof(T));
  __syncwarp<sizeof(T)>(mask);
  memcpy(&value, coc_values[from], sizeof(T));
  __syncwarp<sizeof(T)>(mask);
  return value;
}
template <class T>
static inline T __shfl_sync(unsigned mask, T value, int lane, int width = 32) {
  unsigned own = coc_rank();
  return coc_exchange(mask, value, own - own % width + unsigned(lane) % width);
}
template <class T>
static inline T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32) {
  unsigned own = coc_rank(), lane = (own % width) ^ lanes;
  return coc_exchange(mask, value, lane < unsigned(width) ? own - own % width + lane : own);
}
template <class T>
static inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  unsigned own = coc_rank();
  return coc_exchange(mask, value, own % width + delta < unsigned(width) ? own + delta : own);
}
template <class T>
static inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  unsigned own = coc_rank();
  return coc_exchange(mask, value, own % width >= delta ? own - delta : own);
}
template <int N = 0>
static inline unsigned __ballot_sync(unsigned mask, int predicate) {
  unsigned own = coc_rank(), first = own - own % 32, bits = 0;
  unsigned count = std::min(32u, blockDim.x * blockDim.y * blockDim.z - first);
  int truth = predicate != 0;
  memcpy(coc_values[own], &truth, sizeof truth);
  __syncwarp<N>(mask);
  for (unsigned lane = 0; lane < count; lane++) {
    memcpy(&truth, coc_values[first + lane], sizeof truth);
    bits |= unsigned(truth) << lane;
  }
  __syncwarp<N>(mask);
  return bits & mask;
}
template <int N = 0>
static inline int __any_sync(unsigned mask, int predicate) {
  return __ballot_sync<N>(mask, predicate) != 0;
}
template <int N = 0>
static inline int __all_sync(unsigned mask, int predicate) {
  return __ballot_sync<N>(mask, !predicate) == 0;
}

// Atomics. Threads take turns only where they wait, so nothing comes in between. The address alone
// says the type, as in CUDA: `atomicAdd(float*, 1)` adds 1.0f.
template <class T>
struct coc_same {
  using type = T;
};
template <class T>
using coc_value = typename coc_same<T>::type;
#define COC_ATOMIC(name, result)                         \
  template <class T>                                     \
  static inline T name(T* address, coc_value<T> value) { \
    T old = *address;                                    \
    *address = result;                                   \
    return old;                                          \
  }
COC_ATOMIC(atomicAdd, old + value)
COC_ATOMIC(atomicSub, old - value)
COC_ATOMIC(atomicMax, old < value ? value : old)
COC_ATOMIC(atomicMin, value < old ? value : old)
COC_ATOMIC(atomicAnd, (old & value))
COC_ATOMIC(atomicOr, (old | value))
COC_ATOMIC(atomicXor, (old ^ value))
COC_ATOMIC(atomicExch, value)
COC_ATOMIC(atomicInc, (old >= value ? 0 : old + 1))
COC_ATOMIC(atomicDec, (old == 0 || old > value ? value : old - 1))
#undef COC_ATOMIC
template <class T>
static inline T atomicCAS(T* address, coc_value<T> compare, coc_value<T> value) {
  T old = *address;
  if (old == compare) *address = value;
  return old;
}

// Operations with a rounding of their own: never joined with the next one, so the compiler must not
// see through them. `x` is a register of the processor's vector unit.
template <class T>
static inline T coc_rounded(T value) {
  asm("" : "+x"(value));
  return value;
}
#define COC_ROUNDED(T, add, sub, mul, div, sqrt_, fma_)            \
  static inline T add(T a, T b) { return coc_rounded(a + b); }     \
  static inline T sub(T a, T b) { return coc_rounded(a - b); }     \
  static inline T mul(T a, T b) { return coc_rounded(a * b); }     \
  static inline T div(T a, T b) { return coc_rounded(a / b); }     \
  static inline T sqrt_(T a) { return coc_rounded(std::sqrt(a)); } \
  static inline T fma_(T a, T b, T c) { return std::fma(a, b, c); }
COC_ROUNDED(float, __fadd_rn, __fsub_rn, __fmul_rn, __fdiv_rn, __fsqrt_rn, __fmaf_rn)
COC_ROUNDED(double, __dadd_rn, __dsub_rn, __dmul_rn, __ddiv_rn, __dsqrt_rn, __fma_rn)
#undef COC_ROUNDED

// What CUDA has at global scope
// of a number and NaN, the number
template <class A, class B, class C = typename std::common_type<A, B>::type>
static inline C min(A a, B b) {
  if constexpr (std::is_floating_point<C>::value) return std::fmin(C(a), C(b));
  return b < a ? b : a;
}
template <class A, class B, class C = typename std::common_type<A, B>::type>
static inline C max(A a, B b) {
  if constexpr (std::is_floating_point<C>::value) return std::fmax(C(a), C(b));
  return a < b ? b : a;
}
static inline double rsqrt(double x) { return 1 / std::sqrt(x); }
static inline float rsqrt(float x) { return 1 / std::sqrt(x); }
static inline float rsqrtf(float x) { return 1 / std::sqrt(x); }
template <class T>
static inline T __ldg(const T* address) {
  return *address;
}

static inline unsigned __umulhi(unsigned a, unsigned b) {
  return unsigned((uint64_t(a) * b) >> 32);
}
static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return (unsigned long long)(((unsigned __int128)a * b) >> 64);
}
static inline long long __mul64hi(long long a, long long b) {
  return (long long)(((__int128)a * b) >> 64);
}
static inline int __clz(int x) { return x ? __builtin_clz(unsigned(x)) : 32; }
static inline int __clzll(long long x) { return x ? __builtin_clzll((unsigned long long)x) : 64; }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }

template <class To, class From>
static inline To coc_bits(From value) {
  static_assert(sizeof(To) == sizeof(From), "");
  To result;
  memcpy(&result, &value, sizeof result);
  return result;
}
static inline int __float_as_int(float x) { return coc_bits<int>(x); }
static inline unsigned __float_as_uint(float x) { return coc_bits<unsigned>(x); }
static inline float __int_as_float(int x) { return coc_bits<float>(x); }
static inline float __uint_as_float(unsigned x) { return coc_bits<float>(x); }
static inline long long __double_as_longlong(double x) { return coc_bits<long long>(x); }
static inline double __longlong_as_double(long long x) { return coc_bits<double>(x); }

// A launch hands over an array of addresses, one for each argument. Which types they have, only the
// kernel's own signature knows: the compiler reads it off here, and casts each to that.
namespace coc {
template <class... A, std::size_t... I>
inline void call(void (*kernel)(A...), void** arguments, std::index_sequence<I...>) {
  kernel(*reinterpret_cast<std::remove_cv_t<std::remove_reference_t<A>>*>(arguments[I])...);
}
template <class... A>
inline void call(void (*kernel)(A...), void** arguments) {
  call(kernel, arguments, std::index_sequence_for<A...>{});
}
// the types of a kernel's arguments, in words
template <class F>
inline const char* arguments() {
  return __PRETTY_FUNCTION__;
}
}  // namespace coc
