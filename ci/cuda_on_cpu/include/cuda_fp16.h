// float16 as CuPy's headers need it, to be compiled: xpnn computes nothing in it.
#pragma once
struct __half_raw {
  unsigned short x;
};
struct __half {
  unsigned short data_;
  __half() {}
  __half(float value) : data_(coc_bits<unsigned short>(_Float16(value))) {}
  __half(double value) : __half(float(value)) {}
  explicit __half(const __half_raw& raw) : data_(raw.x) {}
  template <class T, class = std::enable_if_t<std::is_integral<T>::value>>
  explicit __half(T value) : __half(float(value)) {}
  operator float() const { return float(coc_bits<_Float16>(data_)); }
  operator __half_raw() const { return {data_}; }
};
using half = __half;
static inline float __half2float(half x) { return float(x); }
static inline half __float2half_rn(float x) { return half(x); }
static inline bool __hisnan(half x) { return std::isnan(float(x)); }
static inline int __hisinf(half x) { return std::isinf(float(x)); }
static inline unsigned short __half_as_ushort(half x) { return x.data_; }
static inline half __ushort_as_half(unsigned short bits) { return half(__half_raw{bits}); }
