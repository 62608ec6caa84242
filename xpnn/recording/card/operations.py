"""What NumPy's operations are in CUDA C++.

Sums, products, quotients and square roots are correctly rounded, each by itself: kernels are
compiled without contraction, and with CUDA's exact division and root. `exp` and the like are
CUDA's own, which CuPy's kernels call too.
"""

from __future__ import annotations

from typing import NamedTuple

TYPES = {
    "bool": "bool",
    "int8": "signed char",
    "int16": "short",
    "int32": "int",
    "int64": "long long",
    "uint8": "unsigned char",
    "uint16": "unsigned short",
    "uint32": "unsigned",
    "uint64": "unsigned long long",
    "float32": "float",
    "float64": "double",
}

# Elementwise operations, with {0}, {1} for operands in the dtype that they are computed in
_NUMBERS = {
    "copy": "{0}",
    "positive": "{0}",
    "negative": "-{0}",
    "abs": "absolute({0})",
    "absolute": "absolute({0})",
    "square": "{0} * {0}",
    "add": "{0} + {1}",
    "subtract": "{0} - {1}",
    "multiply": "{0} * {1}",
    "maximum": "larger({0}, {1})",
    "minimum": "smaller({0}, {1})",
    "where": "{0} ? {1} : {2}",
    "bitwise_and": "{0} & {1}",
    "bitwise_or": "{0} | {1}",
    "bitwise_xor": "{0} ^ {1}",
    "left_shift": "{0} << {1}",
    "right_shift": "{0} >> {1}",
    "searchsorted_left": "searched<false>({table}, {count}, {0})",
    "searchsorted_right": "searched<true>({table}, {count}, {0})",
}
# those whose result is a float, whatever the operands are
FLOATING = {
    "divide": "{0} / {1}",
    "exp": "exp({0})",
    "expm1": "expm1({0})",
    "log": "log({0})",
    "log1p": "log1p({0})",
    "log2": "log2({0})",
    "log10": "log10({0})",
    "sqrt": "sqrt({0})",
    "tanh": "tanh({0})",
    "sinh": "sinh({0})",
    "cosh": "cosh({0})",
    "sin": "sin({0})",
    "cos": "cos({0})",
    "tan": "tan({0})",
    "atan": "atan({0})",
    "arctan": "atan({0})",
    "power": "pow({0}, {1})",
    "pow": "pow({0}, {1})",
    "floor": "floor({0})",
    "ceil": "ceil({0})",
    "trunc": "trunc({0})",
    "round": "rint({0})",
}
# those whose result is a truth
TRUTHS = {
    "equal": "{0} == {1}",
    "not_equal": "{0} != {1}",
    "less": "{0} < {1}",
    "less_equal": "{0} <= {1}",
    "greater": "{0} > {1}",
    "greater_equal": "{0} >= {1}",
    "logical_and": "{0} && {1}",
    "logical_or": "{0} || {1}",
    "logical_xor": "!{0} != !{1}",
    "logical_not": "!{0}",
    "isnan": "{0} != {0}",
    "isfinite": "{0} - {0} == 0",
    "isinf": "{0} == {0} && {0} - {0} != 0",
}
ELEMENTWISE = _NUMBERS | FLOATING | TRUTHS


class Reduction(NamedTuple):
    """How a reduction is computed.

    Attributes
    ----------
    first
        What it begins with; {0} is the type. Adding it changes nothing.
    joined
        The result of two parts {0} and {1}, of which {0} has the lower indices only in `places`.
    last
        The result from the whole {0}, with {count} for the number of elements.
    places
        Whether each part is the place of an element beside its value, ``Place<type>``.
    """

    first: str
    joined: str
    last: str = "{0}"
    places: bool = False


def _place_of(up: str) -> Reduction:
    return Reduction(
        "Place<{0}>{{0, -1}}", f"further({{0}}, {{1}}, {up})", "{0}.index", places=True
    )


REDUCTIONS = {
    "sum": Reduction("0", "{0} + {1}"),
    "mean": Reduction("0", "{0} + {1}", "{0} / {count}"),
    "max": Reduction("lowest<{0}>()", "larger({0}, {1})"),
    "min": Reduction("highest<{0}>()", "smaller({0}, {1})"),
    "all": Reduction("true", "{0} && {1}"),
    "any": Reduction("false", "{0} || {1}"),
    "argmax": _place_of("true"),
    "argmin": _place_of("false"),
}

# what kernels begin with
PRELUDE = """\
template <class T> __device__ T larger(T a, T b) {
  return a != a || b != b ? a + b : a < b ? b : b < a ? a : max(a, b);
}
template <class T> __device__ T smaller(T a, T b) {
  return a != a || b != b ? a + b : b < a ? b : a < b ? a : min(a, b);
}
__device__ float absolute(float x) { return fabsf(x); }
__device__ double absolute(double x) { return fabs(x); }
template <class T> __device__ T absolute(T x) { return x < T(0) ? T(-x) : x; }
template <class T> __device__ T infinity();
template <> __device__ float infinity<float>() { return __int_as_float(0x7f800000); }
template <> __device__ double infinity<double>() {
  return __longlong_as_double(0x7ff0000000000000ll);
}
template <class T> __device__ T lowest() { return -infinity<T>(); }
template <class T> __device__ T highest() { return infinity<T>(); }
template <> __device__ long long lowest<long long>() { return -0x7fffffffffffffffll - 1; }
template <> __device__ long long highest<long long>() { return 0x7fffffffffffffffll; }
template <class T> struct Place {
  T value;
  long long index;  // -1: of no element
};
// the place of the larger or smaller value, of the first NaN, of the first one of equal values
template <class T> __device__ Place<T> further(Place<T> a, Place<T> b, bool up) {
  if (a.index < 0 || b.index < 0) return a.index < 0 ? b : a;
  bool one = a.value != a.value, other = b.value != b.value;
  if (one != other) return one ? a : b;
  if (!one && a.value != b.value) return (a.value < b.value) == up ? b : a;
  return a.index < b.index ? a : b;
}
// where x belongs into a table; a NaN is larger than all numbers
template <bool right, class T> __device__ long long searched(const T* table, int count, T x) {
  int low = 0;
  while (low < count) {
    int middle = (low + count) / 2;
    bool before = right ? !(x < table[middle]) : table[middle] < x || x != x;
    if (before) low = middle + 1;
    else count = middle;
  }
  return low;
}
// CuPy, too, takes an index beyond the end for one from the beginning
__device__ long long wrapped(long long index, long long count) {
  return (unsigned long long)index < (unsigned long long)count
      ? index : (index % count + count) % count;
}
"""
