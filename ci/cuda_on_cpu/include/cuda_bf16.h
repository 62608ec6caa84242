// bfloat16 as CuPy's headers need it, to be compiled: xpnn computes nothing in it.
#pragma once
struct __nv_bfloat16_raw {
  unsigned short x;
};
struct __nv_bfloat16 {
  unsigned short data_;
  __nv_bfloat16() {}
  __nv_bfloat16(float value) {
    unsigned bits = __float_as_uint(value);
    data_ =
        (unsigned short)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);  // to nearest, ties to even
  }
  explicit __nv_bfloat16(const __nv_bfloat16_raw& raw) : data_(raw.x) {}
  operator float() const { return __uint_as_float(unsigned(data_) << 16); }
  operator __nv_bfloat16_raw() const { return {data_}; }
};
static inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 x) { return x.data_; }
static inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits) {
  return __nv_bfloat16(__nv_bfloat16_raw{bits});
}
