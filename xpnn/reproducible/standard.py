"""The whole array API standard, with the same bits on every library."""

from __future__ import annotations

import functools
import inspect
import math
import operator
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import array_api_compat
import numpy as np

from xpnn.errors import ArgumentError, check_plain
from xpnn.reproducible import arguments, cuts, indexing, remainders, scaled
from xpnn.reproducible.array import Array
from xpnn.reproducible.dtypes import (
    FLOATS,
    INTEGERS,
    SIGNED,
    UNSIGNED,
    bounds,
    check_range,
    unwrapped,
)
from xpnn.reproducible.facts import WHOLE, Facts
from xpnn.reproducible.formats import FLOAT32, FLOAT64
from xpnn.reproducible.generator import Generator
from xpnn.reproducible.info import FloatInfo, Info, IntegerInfo
from xpnn.reproducible.integers import Integers, folded, scanned
from xpnn.reproducible.linalg import Linalg
from xpnn.reproducible.namespace import Namespace, Precision
from xpnn.reproducible.sets import AllUnique, CountedUnique, InverseUnique
from xpnn.reproducible.trigonometry import Trigonometry

Raw = Any

# dtypes that PyTorch has few operations for
_WIDE = UNSIGNED[1:]
_MATHEMATICS = """
acos acosh asin asinh atan atanh cos cosh exp log10 log2 sin sinh tan
"""
_MATHEMATICS_OF_TWO = "atan2 hypot logaddexp"
# functions that take arrays of other libraries
_FOREIGN = ("asarray", "from_dlpack")


class StandardNamespace(Namespace):
    """The functions of the array API standard 2024.12 for bool, integers, float32 and float64.

    Every function gives the same bits on every library and device. Use `namespace` to make one.
    Beyond the standard it has `random`, `sigmoid`, and what `Namespace` has.

    Parameters
    ----------
    backend
        The `Backend` of the library, on the device of arrays that are made without another. Every
        function runs in its `scope`.
    precision
        As for `Namespace`.
    """

    _functions_of = Trigonometry
    _functions: Trigonometry
    __array_api_version__ = "2024.12"

    def __init__(self, backend: Any, *, precision: Precision = "training") -> None:
        self._backend = backend
        self._abstract = backend.abstract()
        super().__init__(backend.xp, precision=precision)
        self._integer = Integers(backend.xp)
        # what this class has itself shall be found there
        own = {name for cls in type(self).__mro__ if cls is not Namespace for name in vars(cls)}
        self._exact = {name: vars(self).pop(name) for name in own & vars(self).keys()}
        for name in _MATHEMATICS.split():
            setattr(self, name, self._function(getattr(self._functions, name)))
        for name in _MATHEMATICS_OF_TWO.split():
            setattr(self, name, self._function_of_two(getattr(self._functions, name)))
        self.linalg = Linalg(self)
        self._scope()

    def _scope(self) -> None:
        """Make every function check its arrays and run in the scope of the backend."""
        backend, active = self._backend, threading.local()

        def within(function: Callable[..., Any]) -> Callable[..., Any]:
            parameters = inspect.signature(function, follow_wrapped=False).parameters
            first = next((p.annotation for p in parameters.values()), None)
            foreign = getattr(function, "__name__", None) in _FOREIGN

            @functools.wraps(function)
            def scoped(*args: Any, **kwargs: Any) -> Any:
                if getattr(active, "inside", False):
                    return function(*args, **kwargs)
                if first == "Array" and args and not isinstance(args[0], Array):
                    raise unwrapped(args[0])
                if not foreign:
                    self._check_library(*args, *kwargs.values())
                active.inside = True
                try:
                    with backend.scope():
                        return function(*args, **kwargs)
                finally:
                    active.inside = False

            return scoped

        self.within = within
        dtypes = {*map(id, map(self.dtypes.own, self.dtypes.names()))}
        for name in dir(self):
            value = getattr(self, name)
            if callable(value) and id(value) not in dtypes and not isinstance(value, type):
                setattr(self, name, within(value))
        for name in dir(self.linalg):
            if not name.startswith("_"):
                setattr(self.linalg, name, within(getattr(self.linalg, name)))

    def _check_library(self, *values: Any) -> None:
        """Raise unless all arrays, in sequences too, are of this library: dtypes may be equal."""
        for value in values:
            if isinstance(value, (list, tuple)):
                self._check_library(*value)
            elif isinstance(value, Array) and value._xp._raw is not self._raw:
                raise TypeError(
                    f"an array of {value._xp!r} can't be combined with those of {self!r}: take it "
                    "over with xp.asarray"
                )

    def __repr__(self) -> str:
        name, device = self._backend.name, self._backend.device
        return f"reproducible.namespace({name!r}, device={device}, precision={self.precision!r})"

    def __array_namespace_info__(self) -> Info:
        """Return what there is: dtypes, devices, capabilities."""
        return Info(self)

    # Dtypes

    def isdtype(self, dtype: Any, kind: Any) -> bool:
        """Return whether `dtype` is of a kind, one of several kinds, or another dtype."""
        return bool(self._raw.isdtype(dtype, kind))

    def finfo(self, type: Any, /) -> Any:  # noqa: A002
        """Return the limits of a float dtype, or of an array's.

        `smallest_normal` is the least number from which on all bits are kept.
        """
        dtype = self._float_dtype(type)
        return FloatInfo(dtype, self.dtypes.name(dtype))

    def iinfo(self, type: Any, /) -> Any:  # noqa: A002
        """Return the limits of an integer dtype, or of an array's."""
        dtype = type.dtype if isinstance(type, Array) else type
        name = self.dtypes.name(dtype)
        if name not in INTEGERS:
            raise TypeError(f"iinfo needs an integer dtype, not {dtype}")
        return IntegerInfo(dtype, name)

    def _float_dtype(self, type_: Any) -> Any:
        dtype = type_.dtype if isinstance(type_, Array) else type_
        if self.dtypes.name(dtype) not in FLOATS:
            raise TypeError(f"this needs a float dtype, not {dtype}")
        return dtype

    def _kind(self, x: Any, kinds: Iterable[str], function: str) -> str:
        """Return the name of an array's dtype; raise unless the function takes it."""
        if not isinstance(x, Array):
            raise TypeError(f"{function} takes a reproducible array, not {type(x).__name__}")
        name = self.dtypes.name(x.dtype)
        if name not in kinds:
            raise TypeError(f"{function} doesn't take {name}")
        return name

    def astype(self, x: Array, dtype: Any, /, *, copy: bool = True, device: Any = None) -> Array:
        """Return `x` in another dtype.

        A float is rounded once. Integers become the ones that are equal modulo 2^bits. A float
        becomes the integer next to it in the direction of 0, the nearest end of the range where it
        is beyond it, and 0 where it is NaN.
        """
        old, new = self._kind(x, self.dtypes.names(), "astype"), self.dtypes.name(dtype)
        if old == new:
            result = self.copy(x) if copy else x
        elif new == "bool":
            result = self._whole_array(self._raw_of(x, old) != 0)
        elif new in INTEGERS:
            raw = self._saturated(x.raw, new) if old in FLOATS else self._int64(x.raw)
            result = self._cut_off(raw, new)
        elif old == "uint64":
            # two halves, which are exact in float64, so their sum is rounded once
            raw = self._int64(x.raw)
            xp = self._raw
            high = xp.astype((raw >> 32) & (2**32 - 1), xp.float64) * 2.0**32
            low = xp.astype(raw & (2**32 - 1), xp.float64)
            if new == "float32":  # rounded to odd first, so that it is rounded once as well
                result = self._single_of_halves(high, low)
            else:
                result = Array(self, high + low, WHOLE, owned=True)
        else:
            small = self._int64(x.raw) if old in _WIDE else x.raw
            whole = Array(self, small, WHOLE)
            result = super().astype(whole if old not in FLOATS else x, self.dtypes.own(new))
        return result if device is None else self.to_device(result, device)

    def _single_of_halves(self, high: Raw, low: Raw) -> Array:
        xp = self._raw
        total = high + low
        error = low - (total - high)
        # A sum that isn't exact gets the odd one of its two neighbours: bits that are cut off then
        # never look like a tie.
        third = xp.astype(total, xp.float32)
        near = xp.astype(third, xp.float64)
        ulp = xp.abs(total) * 2.0**-52
        tie = (xp.abs(total - near) >= 2.0**10) & (error != 0.0)
        nudged = total + xp.where(error > 0.0, ulp, -ulp)
        return Array(self, xp.astype(xp.where(tie, nudged, total), xp.float32), WHOLE,
                     owned=True)  # fmt: skip

    def _saturated(self, raw: Raw, name: str) -> Raw:
        """Return floats as the int64 of integers of a dtype."""
        xp = self._raw
        x = xp.trunc(cuts.double(raw, xp))
        x = xp.where(xp.isnan(x), 0.0, x)
        low, high = bounds(name)
        if name == "uint64":
            upper = (x >= 2.0**63) & (x < 2.0**64)
            inner = xp.where(upper, x - 2.0**63, x)
            inner = xp.where((inner >= 0.0) & (inner < 2.0**63), inner, 0.0)
            whole = xp.astype(inner, xp.int64)
            whole = xp.where(upper, whole ^ -(2**63), whole)
            return xp.where(x >= 2.0**64, -1, whole)
        above, below = x >= float(high) + 1.0, x <= float(low) - 1.0
        if name == "int64":
            above, below = x >= 2.0**63, x < -(2.0**63)
        whole = xp.astype(xp.where(above | below, 0.0, x), xp.int64)
        return xp.where(above, high, xp.where(below, low, whole))

    # Integers, all in int64

    def _int64(self, raw: Raw) -> Raw:
        dtype = self.dtypes.own("int64")
        return raw if raw.dtype == dtype else self._raw.astype(raw, dtype)

    def _cut_off(self, raw: Raw, name: str) -> Array:
        """Return int64 as an array of an integer dtype, modulo 2^bits."""
        dtype = self.dtypes.own(name)
        raw = raw if raw.dtype == dtype else self._raw.astype(raw, dtype)
        return Array(self, raw, WHOLE, owned=True)

    def _whole_array(self, raw: Raw) -> Array:
        return Array(self, raw, WHOLE, owned=True)

    def _raw_of(self, x: Array, name: str) -> Raw:
        return self._int64(x.raw) if name in _WIDE else x.raw

    def _pair(self, a: Any, b: Any, kinds: Iterable[str], function: str) -> tuple[Raw, Raw, str]:
        """Return two operands as raw arrays of one dtype, integers in int64, and its name."""
        x, y, _ = self._operands(a, b, min)
        like = x if isinstance(a, Array) else y
        name = self.dtypes.name(like.dtype)
        if name not in kinds:
            raise TypeError(f"{function} doesn't take {name}")
        return self._as_array(x, like, name), self._as_array(y, like, name), name

    def _as_array(self, value: Any, like: Raw, name: str) -> Raw:
        if hasattr(value, "dtype"):
            return self._int64(value) if name in INTEGERS else value
        if name not in INTEGERS:
            return self._lift(value, like)
        value = int(value) - (2**64 if value > 2**63 - 1 else 0)
        device = array_api_compat.device(like)
        return self._raw.asarray(value, dtype=self.dtypes.own("int64"), device=device)

    def _arithmetic(self, function: str, operation: Callable[..., Raw], a: Any, b: Any) -> Array:
        """Return a sum, difference or product: of integers modulo 2^64, or of floats."""
        if self._is_whole(a, b):
            x, y, name = self._pair(a, b, INTEGERS, function)
            return self._cut_off(operation(x, y), name)
        return getattr(super(), function)(a, b)  # type: ignore[no-any-return]

    def _is_whole(self, a: Any, b: Any = None) -> bool:
        like = a if isinstance(a, Array) else b
        return isinstance(like, Array) and like.raw.dtype not in self._formats

    def add(self, a: Any, b: Any, /) -> Array:
        """Return ``a + b``, correctly rounded; of integers modulo 2^bits."""
        return self._arithmetic("add", lambda x, y: x + y, a, b)

    def subtract(self, a: Any, b: Any, /) -> Array:
        """Return ``a - b``, correctly rounded; of integers modulo 2^bits."""
        return self._arithmetic("subtract", lambda x, y: x - y, a, b)

    def multiply(self, a: Any, b: Any, /) -> Array:
        """Return ``a * b``, correctly rounded; of integers modulo 2^bits.

        A result below 2^-914 (float32: 2^-76) may be an ulp off.
        """
        return self._arithmetic("multiply", lambda x, y: x * y, a, b)

    def negative(self, x: Array, /) -> Array:
        """Return ``-x``; of integers modulo 2^bits."""
        name = self._kind(x, (*INTEGERS, *FLOATS), "negative")
        if name in FLOATS:
            return super().negative(x)
        return self._cut_off(self._raw.zeros_like(self._int64(x.raw)) - self._int64(x.raw), name)

    def positive(self, x: Array, /) -> Array:
        """Return `x`."""
        self._kind(x, (*INTEGERS, *FLOATS), "positive")
        return self._shared(x)

    def _shared(self, x: Array) -> Array:
        """Return another array with the buffer of `x`, which neither of them overwrites."""
        x.owned = False
        return Array(self, x.raw, x.facts)

    def abs(self, x: Array, /) -> Array:
        """Return the absolute value; that of the least integer is itself."""
        name = self._kind(x, (*INTEGERS, *FLOATS), "abs")
        if name in FLOATS:
            return super().abs(x)
        if name in UNSIGNED:
            return self._shared(x)
        return self.where(self.less(x, 0), self.negative(x), x)

    def sign(self, x: Array, /) -> Array:
        """Return -1, 0 or 1, and NaN for NaN."""
        name = self._kind(x, (*INTEGERS, *FLOATS), "sign")
        if name in FLOATS:
            return super().sign(x)
        xp, raw = self._raw, self._int64(x.raw)
        result = xp.astype(raw != 0, xp.int64)
        if name in SIGNED:
            result = result - 2 * xp.astype(raw < 0, xp.int64)
        return self._cut_off(result, name)

    def square(self, x: Array, /) -> Array:
        """Return ``x * x``."""
        return self.multiply(x, x)

    def floor_divide(self, a: Any, b: Any, /) -> Array:
        """Return ``a // b``, the whole number next below the quotient.

        Integers: 0 where b is 0. Floats: ``(a - remainder(a, b)) / b``, each step rounded.
        """
        return self._division("floor_divide", remainders.floor_divide, a, b)

    def remainder(self, a: Any, b: Any, /) -> Array:
        """Return ``a % b``, with the sign of b.

        Integers: 0 where b is 0. Floats: without an error, whatever the quotient, but for one
        rounding where the signs differ; see `remainders`.
        """
        return self._division("remainder", remainders.remainder, a, b)

    def _division(self, function: str, of_floats: Callable[..., Raw], a: Any, b: Any) -> Array:
        if self._is_whole(a, b):
            x, y, name = self._pair(a, b, INTEGERS, function)
            raw = getattr(self._integer, function)(x, y, full=name == "uint64")
            return self._cut_off(raw, name)
        return self._function_of_two(lambda x, y: of_floats(x, y, self._raw), function)(a, b)

    def reciprocal(self, x: Array, /) -> Array:
        """Return ``1 / x``, correctly rounded."""
        return self.divide(1.0, x)

    def pow(self, a: Any, b: Any, /) -> Array:
        """Return ``a ** b``, at most 0.7 ulp off; of integers modulo 2^bits.

        An integer to a negative power is 1 / a^-b without its fraction: 0, or 1 or -1 for these.
        """
        if self._is_whole(a, b):
            x, y, name = self._pair(a, b, INTEGERS, "pow")
            x, y = self._broadcast(x, y)
            bits = bounds(name)[1].bit_length()
            return self._cut_off(self._integer.pow(x, y, bits=bits, signed=name in SIGNED), name)
        return self._function_of_two(self._functions.pow, "pow")(a, b)

    def _broadcast(self, *raws: Raw) -> list[Raw]:
        shape = np.broadcast_shapes(*(tuple(raw.shape) for raw in raws))
        return [
            raw if tuple(raw.shape) == shape else self._raw.broadcast_to(raw, shape) for raw in raws
        ]

    def _function_of_two(
        self, function: Callable[[Raw, Raw], Raw], name: str | None = None
    ) -> Callable[[Any, Any], Array]:
        title = name or function.__name__

        def elementary(a: Any, b: Any, /) -> Array:
            x, y, dtype = self._pair(a, b, FLOATS, title)
            xp = self._raw
            x, y = self._broadcast(x, y)
            shape = x.shape
            x, y = (xp.reshape(cuts.double(v, xp), (-1,)) for v in (x, y))
            raw = xp.reshape(function(x, y), shape)
            return self._rounded(raw + 0.0, FLOAT64.low, dtype == "float32")

        elementary.__doc__ = function.__doc__
        return elementary

    def nextafter(self, a: Any, b: Any, /) -> Array:
        """Return the canonical number next to `a` in the direction of `b`.

        Numbers are never nearer to each other than 2^-1021, in float32 2^-125.
        """
        xp = self._raw
        x, y, name = self._pair(a, b, FLOATS, "nextafter")
        x, y = self._broadcast(x, y)
        format_, bits = (FLOAT64, 53) if name == "float64" else (FLOAT32, 24)
        wide, goal = cuts.double(x, xp), cuts.double(y, xp)
        largest = xp.zeros_like(wide) + float(np.finfo(name).max)
        step = xp.maximum(xp.abs(wide) * (2.0**-bits * (1 + 2.0 ** (1 - bits))),
                          xp.ones_like(wide) * 2.0 ** (format_.low + 1))  # fmt: skip
        up = goal > wide
        moved = xp.where(up, wide + step, wide - step)
        inward = (xp.abs(wide) == math.inf) & (goal != wide)
        moved = xp.where(inward, xp.where(up, -largest, largest), moved)
        moved = xp.where((goal == wide) | xp.isnan(wide), wide, moved)
        moved = xp.where(xp.isnan(goal), goal, moved)
        return self._rounded(FLOAT64.canonical(moved, xp), FLOAT64.low, name == "float32")

    def copysign(self, a: Any, b: Any, /) -> Array:
        """Return |a| with the sign of `b`; zero and NaN count as positive."""
        x, y, _ = self._pair(a, b, FLOATS, "copysign")
        magnitude = Array(self, self._raw.abs(x), self._any_facts(x))
        return self.where(self._whole_array(y < 0.0), self.negative(magnitude), magnitude)

    def _any_facts(self, raw: Raw) -> Facts:
        format_ = self._formats.get(raw.dtype)
        return WHOLE if format_ is None else Facts(format_.low)

    def signbit(self, x: Array, /) -> Array:
        """Return whether ``x < 0``; zero and NaN have no sign."""
        self._kind(x, FLOATS, "signbit")
        return self._whole_array(x.raw < 0.0)

    def conj(self, x: Array, /) -> Array:
        """Return `x`, which is real."""
        return self.positive(x)

    def real(self, x: Array, /) -> Array:
        """Return `x`, which is real."""
        return self.positive(x)

    def isfinite(self, x: Array, /) -> Array:
        """Return which elements are finite."""
        return self._test("isfinite", x, True)

    def isinf(self, x: Array, /) -> Array:
        """Return which elements are infinite."""
        return self._test("isinf", x, False)

    def isnan(self, x: Array, /) -> Array:
        """Return which elements are NaN."""
        return self._test("isnan", x, False)

    def _test(self, function: str, x: Array, of_integers: bool) -> Array:
        if self._kind(x, (*INTEGERS, *FLOATS), function) in FLOATS:
            return self._exact[function](x)  # type: ignore[no-any-return]
        raw = self._raw_of(x, self.dtypes.name(x.dtype))
        return self._whole_array((raw == raw) == of_integers)

    # Bits

    def _bitwise(self, function: str, operation: Callable[..., Raw], a: Any, b: Any) -> Array:
        x, y, name = self._pair(a, b, ("bool", *INTEGERS), function)
        raw = operation(x, y)
        return self._whole_array(raw) if name == "bool" else self._cut_off(raw, name)

    def bitwise_and(self, a: Any, b: Any, /) -> Array:
        """Return ``a & b``."""
        return self._bitwise("bitwise_and", lambda x, y: x & y, a, b)

    def bitwise_or(self, a: Any, b: Any, /) -> Array:
        """Return ``a | b``."""
        return self._bitwise("bitwise_or", lambda x, y: x | y, a, b)

    def bitwise_xor(self, a: Any, b: Any, /) -> Array:
        """Return the bits that are set in a or in b, but not in both."""
        return self._bitwise("bitwise_xor", lambda x, y: x ^ y, a, b)

    def bitwise_invert(self, x: Array, /) -> Array:
        """Return ``~x``."""
        name = self._kind(x, ("bool", *INTEGERS), "bitwise_invert")
        if name == "bool":
            return self._whole_array(~x.raw)
        return self._cut_off(~self._int64(x.raw), name)

    def bitwise_left_shift(self, a: Any, b: Any, /) -> Array:
        """Return ``a << b``; 0 where b is negative or as large as the number of bits."""
        return self._shift("bitwise_left_shift", a, b, left=True)

    def bitwise_right_shift(self, a: Any, b: Any, /) -> Array:
        """Return ``a >> b``; 0, or -1 for negative a, where b is negative or too large."""
        return self._shift("bitwise_right_shift", a, b, left=False)

    def _shift(self, function: str, a: Any, b: Any, *, left: bool) -> Array:
        x, y, name = self._pair(a, b, INTEGERS, function)
        low, high = bounds(name)
        bits = (high - low).bit_length()
        return self._cut_off(
            self._integer.shift(x, y, left=left, bits=bits, full=name == "uint64"), name
        )

    # Comparisons and choices

    def _compare(
        self, function: str, operation: Callable[..., Raw], a: Any, b: Any, *, order: bool = True
    ) -> Array:
        kinds = (*INTEGERS, *FLOATS) if order else ("bool", *INTEGERS, *FLOATS)
        x, y, name = self._pair(a, b, kinds, function)
        if order and name == "uint64":
            x, y = (self._integer.ordered(v, full=True) for v in (x, y))
        return self._whole_array(operation(x, y))

    def equal(self, a: Any, b: Any, /) -> Array:
        """Return ``a == b``."""
        return self._compare("equal", lambda x, y: x == y, a, b, order=False)

    def not_equal(self, a: Any, b: Any, /) -> Array:
        """Return ``a != b``."""
        return self._compare("not_equal", lambda x, y: x != y, a, b, order=False)

    def less(self, a: Any, b: Any, /) -> Array:
        """Return ``a < b``."""
        return self._compare("less", lambda x, y: x < y, a, b)

    def less_equal(self, a: Any, b: Any, /) -> Array:
        """Return ``a <= b``."""
        return self._compare("less_equal", lambda x, y: x <= y, a, b)

    def greater(self, a: Any, b: Any, /) -> Array:
        """Return ``a > b``."""
        return self._compare("greater", lambda x, y: x > y, a, b)

    def greater_equal(self, a: Any, b: Any, /) -> Array:
        """Return ``a >= b``."""
        return self._compare("greater_equal", lambda x, y: x >= y, a, b)

    def logical_and(self, a: Any, b: Any, /) -> Array:
        """Return whether both are true."""
        return self._logical("logical_and", lambda x, y: x & y, a, b)

    def logical_or(self, a: Any, b: Any, /) -> Array:
        """Return whether one is true."""
        return self._logical("logical_or", lambda x, y: x | y, a, b)

    def logical_xor(self, a: Any, b: Any, /) -> Array:
        """Return whether exactly one is true."""
        return self._logical("logical_xor", lambda x, y: x ^ y, a, b)

    def _logical(self, function: str, operation: Callable[..., Raw], a: Any, b: Any) -> Array:
        x, y, _ = self._pair(a, b, ("bool",), function)
        return self._whole_array(operation(x, y))

    def logical_not(self, x: Array, /) -> Array:
        """Return whether not."""
        self._kind(x, ("bool",), "logical_not")
        return self._whole_array(~x.raw)

    def where(self, condition: Array, a: Any, b: Any, /) -> Array:
        """Return the elements of `a` where the condition is true, and those of `b` elsewhere."""
        self._kind(condition, ("bool",), "where")
        np.broadcast_shapes(condition.shape, *(v.shape for v in (a, b) if isinstance(v, Array)))
        if not self._is_whole(a, b):
            return self._exact["where"](condition, a, b)  # type: ignore[no-any-return]
        x, y, name = self._pair(a, b, ("bool", *INTEGERS), "where")
        raw = self._raw.where(condition.raw, x, y)
        return self._whole_array(raw) if name == "bool" else self._cut_off(raw, name)

    def maximum(self, a: Any, b: Any, /) -> Array:
        """Return the larger of two numbers; NaN where one is NaN."""
        return self._extreme("maximum", "greater", a, b)

    def minimum(self, a: Any, b: Any, /) -> Array:
        """Return the smaller of two numbers; NaN where one is NaN."""
        return self._extreme("minimum", "less", a, b)

    def _extreme(self, function: str, comparison: str, a: Any, b: Any) -> Array:
        if not self._is_whole(a, b):
            return self._exact[function](a, b)  # type: ignore[no-any-return]
        x, y, name = self._pair(a, b, INTEGERS, function)
        keys = [self._integer.ordered(v, full=name == "uint64") for v in (x, y)]
        first = keys[0] > keys[1] if comparison == "greater" else keys[0] < keys[1]
        return self._cut_off(self._raw.where(first, x, y), name)

    def clip(self, x: Array, /, min: Any = None, max: Any = None) -> Array:  # noqa: A002
        """Return `x`, but no less than `min` and no more than `max`, in the dtype of `x`.

        Bounds of another dtype are first rounded to it, or to its least or largest integer.
        """
        name = self._kind(x, (*INTEGERS, *FLOATS), "clip")
        result = super().clip(x, min, max)
        if result is x:
            return self._shared(x)
        # the same as with other bounds, because rounding keeps the order
        if result.dtype != x.dtype and name in INTEGERS:
            result = super().clip(result, *bounds(name))
        return self.astype(result, x.dtype, copy=False)

    # Reductions

    def _axes(self, x: Array, axis: Any) -> list[int]:
        return [*range(x.ndim)] if axis is None else sorted(arguments.axes(axis, x.ndim))

    def _last(self, raw: Raw, axes: Sequence[int]) -> Raw:
        """Return `raw` with some axes joined to one, which is the last."""
        shape = tuple(raw.shape)
        others = [k for k in range(len(shape)) if k not in axes]
        raw = self._raw.permute_dims(raw, (*others, *axes)) if len(shape) > 1 else raw
        length = math.prod(shape[k] for k in axes)
        return self._raw.reshape(raw, (*(shape[k] for k in others), length))

    def _reduced(
        self, raw: Raw, axes: Sequence[int], keepdims: bool, shape: tuple[int, ...]
    ) -> Raw:
        """Return a result without the reduced axes, or with axes of length 1 in their place."""
        kept = tuple(1 if k in axes else n for k, n in enumerate(shape))
        others = tuple(n for k, n in enumerate(shape) if k not in axes)
        return self._raw.reshape(raw, kept if keepdims else others)

    def _result_dtype(self, name: str, dtype: Any) -> str:
        """Return the name of the dtype of a sum or product."""
        if dtype is not None:
            name = self.dtypes.name(dtype)
            if name == "bool":
                raise TypeError("a sum or product has numbers: its dtype can't be bool")
            return name
        if name in FLOATS:
            return name
        return "uint64" if name in UNSIGNED else "int64"

    def sum(
        self, x: Array, /, *, axis: Any = None, dtype: Any = None, keepdims: bool = False
    ) -> Array:
        """Return the sum along `axis`, with the same bits in any order of the terms.

        Integers, and truth values, are summed modulo 2^64. Floats: see `Namespace.sum`.
        """
        name = self._kind(x, self.dtypes.names(), "sum")
        target = self._result_dtype(name, dtype)
        axes = self._axes(x, axis)
        if target in FLOATS:
            x = self.astype(x, self.dtypes.own(target), copy=False)
            return super().sum(x, axis=tuple(axes), keepdims=keepdims)
        raw = self._last(
            self._int64(x.raw) if name not in FLOATS else self._saturated(x.raw, target), axes
        )
        raw = self._raw.sum(raw, axis=-1)
        return self._cut_off(self._reduced(raw, axes, keepdims, x.shape), target)

    def prod(
        self, x: Array, /, *, axis: Any = None, dtype: Any = None, keepdims: bool = False
    ) -> Array:
        """Return the product along `axis`, multiplied in a fixed tree; integers modulo 2^64.

        With n terms, the relative error is at most n 2^-53, whether or not a product of some terms
        is out of range; in float32 it is rounded once more.
        """
        name = self._kind(x, (*INTEGERS, *FLOATS), "prod")
        target = self._result_dtype(name, dtype)
        axes, xp = self._axes(x, axis), self._raw
        raw = self._last(self._widened(x, target), axes)
        if not raw.shape[-1]:
            raw = xp.ones_like(xp.sum(raw, axis=-1, keepdims=True))
        if target in FLOATS:
            raw = scaled.products(folded, raw, -1, xp)
        else:
            raw = folded(raw, -1, operator.mul, xp)
        return self._narrowed(self._reduced(raw, axes, keepdims, x.shape), target)

    def _widened(self, x: Array, target: str) -> Raw:
        """Return elements in float64, or in int64 if the dtype `target` is whole."""
        x = self.astype(x, self.dtypes.own(target), copy=False)
        return cuts.double(x.raw, self._raw) if target in FLOATS else self._int64(x.raw)

    def _narrowed(self, raw: Raw, target: str) -> Array:
        if target in FLOATS:
            return self._rounded(raw + 0.0, FLOAT64.low, target == "float32")
        return self._cut_off(raw, target)

    def cumulative_sum(
        self, x: Array, /, *, axis: int | None = None, dtype: Any = None,
        include_initial: bool = False,
    ) -> Array:  # fmt: skip
        """Return the sums of all first elements along `axis`, added in a fixed tree.

        The error of a sum of n terms, at most 2^31, is at most log2(n) 2^-53 times the sum of their
        magnitudes, whether or not a sum of some terms is out of range.
        """
        return self._cumulative(x, axis, dtype, include_initial, self._sums, 0)

    def _sums(self, raw: Raw, axis: int, whole: bool) -> Raw:
        xp = self._raw
        sums = scanned(raw, axis, operator.add, xp)
        if whole or bool(xp.all(xp.isfinite(sums))):
            return sums
        # the tree adds other parts than those from the first element on, which may overflow
        less = FLOAT64.canonical(raw * 2.0**-32, xp)
        less = scanned(less, axis, operator.add, xp) * 2.0**32
        return xp.where(xp.isfinite(sums), sums, less)

    def cumulative_prod(
        self, x: Array, /, *, axis: int | None = None, dtype: Any = None,
        include_initial: bool = False,
    ) -> Array:  # fmt: skip
        """Return the products of all first elements along `axis`, multiplied in a fixed tree.

        The errors are those of `prod`.
        """
        return self._cumulative(x, axis, dtype, include_initial, self._products, 1)

    def _products(self, raw: Raw, axis: int, whole: bool) -> Raw:
        if whole:
            return scanned(raw, axis, operator.mul, self._raw)
        return scaled.products(scanned, raw, axis, self._raw)

    def _cumulative(
        self, x: Array, axis: int | None, dtype: Any, initial: bool,
        joined: Callable[[Raw, int, bool], Raw], neutral: int,
    ) -> Array:  # fmt: skip
        name = self._kind(x, (*INTEGERS, *FLOATS), "a cumulative function")
        target = self._result_dtype(name, dtype)
        if axis is None:
            if x.ndim != 1:
                raise ValueError(f"axis must be given for an array of {x.ndim} axes")
            axis = 0
        axis = arguments.axis(axis, x.ndim)
        xp, raw = self._raw, self._widened(x, target)
        if raw.shape[axis]:
            raw = joined(raw, axis, target not in FLOATS)
        if initial:
            shape = tuple(1 if k == axis else n for k, n in enumerate(x.shape))
            first = xp.full(shape, neutral, dtype=raw.dtype, device=array_api_compat.device(raw))
            raw = xp.concat([first, raw], axis=axis)
        return self._narrowed(raw, target)

    def max(self, x: Array, /, *, axis: Any = None, keepdims: bool = False) -> Array:
        """Return the largest element along `axis`; NaN if one is NaN."""
        return self._extremum("max", x, axis, keepdims)

    def min(self, x: Array, /, *, axis: Any = None, keepdims: bool = False) -> Array:
        """Return the least element along `axis`; NaN if one is NaN."""
        return self._extremum("min", x, axis, keepdims)

    def _extremum(self, function: str, x: Array, axis: Any, keepdims: bool) -> Array:
        name = self._kind(x, (*INTEGERS, *FLOATS), function)
        axes = self._axes(x, axis)
        full = name == "uint64"
        raw = x.raw if name in FLOATS else self._integer.ordered(self._int64(x.raw), full=full)
        raw = self._last(raw, axes)
        if not raw.shape[-1]:
            raise ValueError(f"{function} of no elements")
        raw = getattr(self._raw, function)(raw, axis=-1)
        raw = self._reduced(raw, axes, keepdims, x.shape)
        if name in FLOATS:
            return Array(self, raw, x.facts.bounds(), owned=True)
        return self._cut_off(self._integer.ordered(raw, full=full), name)

    def mean(self, x: Array, /, *, axis: Any = None, keepdims: bool = False) -> Array:
        """Return ``sum(x) / n``; NaN for an empty array."""
        self._kind(x, FLOATS, "mean")
        axes = self._axes(x, axis)
        return self._over(self.sum(x, axis=tuple(axes), keepdims=keepdims), self._count(x, axes))

    def _count(self, x: Array, axes: Sequence[int]) -> int:
        return math.prod(x.shape[k] for k in axes)

    def _over(self, total: Array, count: float) -> Array:
        """Return a total divided by a number, by an array, so that 0 gives NaN or infinity."""
        divisor = self.full(total.shape, float(count), dtype=total.dtype, device=total.device)
        return self.divide(total, divisor)

    def var(
        self, x: Array, /, *, axis: Any = None, correction: float = 0.0, keepdims: bool = False
    ) -> Array:
        """Return the sum of the squares of x - mean, divided by n - correction."""
        self._kind(x, FLOATS, "var")
        axes = self._axes(x, axis)
        wide = self.astype(x, self.dtypes.own("float64"))
        less = self.subtract(wide, self.mean(wide, axis=tuple(axes), keepdims=True))
        total = self.sum(self.multiply(less, less), axis=tuple(axes), keepdims=keepdims)
        count = self._count(x, axes) - correction
        result = self._over(total, count if count > 0 else 0.0)
        return self.astype(result, x.dtype, copy=False)

    def std(
        self, x: Array, /, *, axis: Any = None, correction: float = 0.0, keepdims: bool = False
    ) -> Array:
        """Return the square root of `var`."""
        wide = self.astype(x, self.dtypes.own("float64")) if x.dtype in self._formats else x
        result = self.var(wide, axis=axis, correction=correction, keepdims=keepdims)
        return self.astype(self.sqrt(result), x.dtype, copy=False)

    def all(self, x: Array, /, *, axis: Any = None, keepdims: bool = False) -> Array:
        """Return whether all elements along `axis` are other than 0."""
        return self._truth("all", x, axis, keepdims)

    def any(self, x: Array, /, *, axis: Any = None, keepdims: bool = False) -> Array:
        """Return whether one element along `axis` is other than 0."""
        return self._truth("any", x, axis, keepdims)

    def _truth(self, function: str, x: Array, axis: Any, keepdims: bool) -> Array:
        name = self._kind(x, self.dtypes.names(), function)
        raw = x.raw if name == "bool" else self._raw_of(x, name) != 0
        axes = self._axes(x, axis)
        raw = getattr(self._raw, function)(self._last(raw, axes), axis=-1)
        return self._whole_array(self._reduced(raw, axes, keepdims, x.shape))

    def count_nonzero(self, x: Array, /, *, axis: Any = None, keepdims: bool = False) -> Array:
        """Return how many elements along `axis` are other than 0."""
        truth = self.astype(x, self.dtypes.own("bool"))
        return self.sum(truth, axis=axis, keepdims=keepdims)

    def diff(
        self, x: Array, /, *, axis: int = -1, n: int = 1, prepend: Array | None = None,
        append: Array | None = None,
    ) -> Array:  # fmt: skip
        """Return the differences of neighbours along `axis`, `n` times."""
        parts = [part for part in (prepend, x, append) if part is not None]
        x = self.concat(parts, axis=axis) if len(parts) > 1 else x
        axis = arguments.axis(axis, x.ndim)
        before = (slice(None),) * axis
        for _ in range(arguments.count("n", n)):
            x = self.subtract(x[(*before, slice(1, None))], x[(*before, slice(-1))])
        return self._shared(x)

    # Order

    def _ordered(self, x: Array, function: str) -> Raw:
        """Return a raw array in the order of the elements, on which every operation works."""
        name = self._kind(x, (*INTEGERS, *FLOATS), function)
        if name in FLOATS:
            return x.raw
        return self._integer.ordered(self._int64(x.raw), full=name == "uint64")

    def argmax(self, x: Array, /, *, axis: int | None = None, keepdims: bool = False) -> Array:
        """Return where the largest element is, or the first NaN; the first one of equal ones."""
        return self._argument("argmax", x, axis, keepdims)

    def argmin(self, x: Array, /, *, axis: int | None = None, keepdims: bool = False) -> Array:
        """Return where the least element is, or the first NaN; the first one of equal ones."""
        return self._argument("argmin", x, axis, keepdims)

    def _argument(self, function: str, x: Array, axis: Any, keepdims: bool) -> Array:
        axes = self._axes(x, None if axis is None else arguments.axis(axis, x.ndim))
        raw = self._last(self._ordered(x, function), axes)
        if not raw.shape[-1]:
            raise ValueError(f"{function} of no elements")
        xp = self._raw
        found = self._int64(getattr(xp, function)(raw, axis=-1))
        if x.dtype in self._formats:
            # of several NaN, CuPy finds any
            nan = xp.astype(xp.isnan(raw), xp.int8)
            first = self._int64(xp.argmax(nan, axis=-1))
            found = xp.where(xp.max(nan, axis=-1) > 0, first, found)
        return self._whole_array(self._reduced(found, axes, keepdims, x.shape))

    def argsort(
        self, x: Array, /, *, axis: int = -1, descending: bool = False, stable: bool = True
    ) -> Array:
        """Return the indices that sort `x`, always stable, with NaN at the end either way."""
        axis = arguments.axis(axis, x.ndim)
        key = self._ordered(x, "argsort")
        if descending:
            key = ~key if key.dtype == self.dtypes.own("int64") else -key
        return self._whole_array(self._int64(self._raw.argsort(key, axis=axis, stable=True)))

    def sort(
        self, x: Array, /, *, axis: int = -1, descending: bool = False, stable: bool = True
    ) -> Array:
        """Return the elements of `x` in order, with NaN at the end either way."""
        if not x.ndim:
            return self.copy(x)
        return self._taken_along(x, self.argsort(x, axis=axis, descending=descending), axis)

    def searchsorted(
        self, x1: Array, x2: Any, /, *, side: str = "left", sorter: Array | None = None
    ) -> Array:
        """Return where each of `x2` would have to be put into `x1`, which is in order.

        NaN counts as larger than any number.
        """
        if side not in ("left", "right"):
            raise ValueError(f"side is 'left' or 'right', not {side!r}")
        if x1.ndim != 1:
            raise ValueError(f"x1 must have one axis, not {x1.ndim}")
        xp, shape = self._raw, ()
        if isinstance(x2, Array):
            # a column, whose shape fits that of x1
            shape, x2 = x2.shape, self.reshape(x2, (x2.size, 1))
        x, y, name = self._pair(x1, x2, (*INTEGERS, *FLOATS), "searchsorted")
        if sorter is not None:
            order = self._within(sorter, x.shape[0], negative=False)
            if order.shape != x1.shape:
                raise ValueError(f"sorter must have the shape {x1.shape}, not {order.shape}")
            x = xp.take(x, order.raw, axis=0)
        x, y = (self._integer.ordered(v, full=name == "uint64") for v in (x, y))
        y = xp.reshape(y, (-1,))
        nan = name in FLOATS
        position = xp.zeros_like(xp.astype(xp.zeros_like(y), xp.int64))
        length = x.shape[0]
        for k in reversed(range(length.bit_length())):
            candidate = position + 2**k
            inside = candidate <= length
            at = xp.take(x, xp.where(inside, candidate, 1) - 1, axis=0)
            if side == "left":
                before = at < y
                if nan:
                    before = before | (xp.isnan(y) & ~xp.isnan(at))
            else:
                before = at <= y
                if nan:
                    before = before | xp.isnan(y)
            position = xp.where(inside & before, candidate, position)
        return self._whole_array(xp.reshape(position, shape))

    def nonzero(self, x: Array, /) -> tuple[Array, ...]:
        """Return the indices of the elements other than 0, in C order."""
        if not x.ndim:
            raise ValueError("nonzero of an array without axes")
        truth = self.astype(x, self.dtypes.own("bool")).raw
        return tuple(self._whole_array(self._int64(i)) for i in self._raw.nonzero(truth))

    def isin(self, x1: Any, x2: Any, /, *, invert: bool = False) -> Array:
        """Return which elements of `x1` are in `x2`; NaN is in nothing.

        A Python number has the dtype of the array beside it.
        """
        x1, x2 = self._alike(x1, x2), self._alike(x2, x1)
        if self.result_type(x1, x2) == self.dtypes.own("bool"):
            x1, x2 = (self.astype(x, self.dtypes.own("int8")) for x in (x1, x2))
        flat = self.sort(self.reshape(x2, (-1,)))
        if not flat.size:
            return self.full(x1.shape, invert, dtype=self.dtypes.own("bool"), device=x1.device)
        found = self.searchsorted(flat, x1)
        nearest = self._taken(flat, self.minimum(found, flat.size - 1), 0)
        return self.not_equal(nearest, x1) if invert else self.equal(nearest, x1)

    def _alike(self, x: Any, other: Any) -> Array:
        """Return `x` as an array, a number in the dtype of another array."""
        if isinstance(x, (int, float)) and isinstance(other, Array):
            return self.full((), x, dtype=other.dtype, device=other.device)
        return self.asarray(x)

    # Sets

    def unique_all(self, x: Array, /) -> AllUnique:
        """Return the different elements in order, where each is first, inverse, and counts."""
        xp, size = self._raw, x.size
        flat = self.reshape(x, (-1,))
        name = self._kind(x, self.dtypes.names(), "unique_all")
        if name == "bool":
            found = self.unique_all(self.astype(flat, self.dtypes.own("int8")))
            values = self.astype(found.values, x.dtype)
            inverse = self.reshape(found.inverse_indices, x.shape)
            return AllUnique(values, found.indices, inverse, found.counts)
        order = self.argsort(flat)
        ordered = self._ordered(flat, "unique_all")
        ordered = xp.take(ordered, order.raw, axis=0)
        if size == 0:
            empty = self._whole_array(order.raw)
            return AllUnique(flat, empty, self.reshape(empty, x.shape), empty)
        new = xp.concat([ordered[:1] == ordered[:1], ordered[1:] != ordered[:-1]])
        new = new | xp.isnan(ordered) if name in FLOATS else new
        starts = self._int64(xp.nonzero(new)[0])
        ends = xp.concat([starts[1:], xp.full((1,), size, dtype=starts.dtype,
                                             device=array_api_compat.device(starts))])  # fmt: skip
        group = self.cumulative_sum(self._whole_array(self._int64(new))).raw - 1
        inverse = xp.take(group, self.argsort(order).raw, axis=0)
        first = self._whole_array(xp.take(order.raw, starts, axis=0))
        return AllUnique(
            self._taken(flat, first, 0), first,
            self.reshape(self._whole_array(inverse), x.shape), self._whole_array(ends - starts),
        )  # fmt: skip

    def unique_counts(self, x: Array, /) -> CountedUnique:
        """Return the different elements in order, and how often each is there."""
        found = self.unique_all(x)
        return CountedUnique(found.values, found.counts)

    def unique_inverse(self, x: Array, /) -> InverseUnique:
        """Return the different elements in order, and which of them each element is."""
        found = self.unique_all(x)
        return InverseUnique(found.values, found.inverse_indices)

    def unique_values(self, x: Array, /) -> Array:
        """Return the different elements in order; each NaN is another one."""
        return self.unique_all(x).values  # type: ignore[no-any-return]

    # Elements

    def _within(self, indices: Array, length: int, *, negative: bool = True) -> Array:
        """Return indices without negative ones, which count from the end if allowed. Synchronises.

        Raises
        ------
        IndexError
            If one is out of range, which JAX would take for another one.
        """
        if not isinstance(indices, Array) or self.dtypes.name(indices.dtype) not in INTEGERS:
            raise TypeError("indices must be a reproducible array of integers")
        raw = self._int64(indices.raw)
        # those of uint64 from 2^63 on are negative here
        least = -length if negative and indices.dtype != self.dtypes.own("uint64") else 0
        if indices.size and bool(self._raw.any((raw < least) | (raw >= length))):
            raise IndexError(f"an index is out of range for an axis of {length}")
        return self._whole_array(self._raw.where(raw < 0, raw + length, raw))

    def take(self, x: Array, indices: Array, /, *, axis: int | None = None) -> Array:
        """Return the elements at `indices` along `axis`, such as some rows. Synchronises."""
        if axis is None:
            if x.ndim != 1:
                raise ValueError(f"axis must be given for an array of {x.ndim} axes")
            axis = 0
        axis = arguments.axis(axis, x.ndim)
        return self._taken(x, self._within(indices, x.shape[axis]), axis)

    def _taken(self, x: Array, indices: Array, axis: int) -> Array:
        shape = indices.shape
        flat = self._whole_array(self._raw.reshape(indices.raw, (-1,)))
        name = self.dtypes.name(x.dtype)
        if name in _WIDE:
            taken = self._cut_off(self._raw.take(self._int64(x.raw), flat.raw, axis=axis), name)
        else:
            taken = super().take(x, flat, axis=axis)
        if len(shape) == 1:
            return taken
        whole = (*x.shape[:axis], *shape, *x.shape[axis + 1 :])
        return self.reshape(taken, whole)

    def take_along_axis(self, x: Array, indices: Array, /, *, axis: int = -1) -> Array:
        """Return for each row along `axis` the elements at its own indices. Synchronises."""
        axis = arguments.axis(axis, x.ndim)
        return self._taken_along(x, self._within(indices, x.shape[axis]), axis)

    def _taken_along(self, x: Array, indices: Array, axis: int) -> Array:
        """Gather from the flat array, which every library can."""
        axis = arguments.axis(axis, x.ndim)
        others = [n if k != axis else 1 for k, n in enumerate(x.shape)]
        wanted = [n if k != axis else 1 for k, n in enumerate(indices.shape)]
        common = list(np.broadcast_shapes(tuple(others), tuple(wanted)))
        shape = tuple(n if k != axis else indices.shape[axis] for k, n in enumerate(common))
        whole = tuple(n if k != axis else x.shape[axis] for k, n in enumerate(common))
        places = np.arange(math.prod(whole), dtype=np.int64).reshape(whole)
        # for each row, the place of its first element
        places = places.take([0], axis=axis) if whole[axis] else np.zeros(common, np.int64)
        base = self._on_device(places, x.device)
        step = math.prod(whole[axis + 1 :])
        index = self._raw.broadcast_to(indices.raw, shape) * step + base
        flat = self.reshape(self.broadcast_to(x, whole), (-1,))
        return self._taken(flat, self._whole_array(index), 0)

    def _operands(self, a: Any, b: Any, low: Callable[[int, int], int]) -> tuple[Raw, Raw, int]:
        """Return two operands; raise unless their shapes fit, which libraries say in many ways."""
        if isinstance(a, Array) and isinstance(b, Array) and a.raw.shape != b.raw.shape:
            np.broadcast_shapes(a.shape, b.shape)
        return super()._operands(a, b, low)

    def accumulate(self, x: Array, inplace: Callable[..., Raw], other: Any) -> bool:
        """Change floats in their own buffer; see `Namespace.accumulate`."""
        return not self._is_whole(x) and super().accumulate(x, inplace, other)

    def _host_key(self, key: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(self.to_numpy(k) if isinstance(k, Array) else k for k in key)

    def getitem(self, x: Array, key: Any) -> Array:
        """Return ``x[key]``."""
        parts = indexing.parts_of(key)
        if indexing.is_plain(parts):
            return x._view(x.raw[indexing.check_plain(parts, x.shape)])
        if len(parts) == 1 and isinstance(parts[0], Array) and (
            self.dtypes.name(parts[0].dtype) in INTEGERS and x.ndim
        ):  # fmt: skip
            return self.take(x, parts[0], axis=0)
        found = indexing.places(self._host_key(parts), x.shape)
        places = self._whole_array(self._on_device(found, x.device))
        return self._taken(self.reshape(x, (-1,)), places, 0)

    def setitem(self, x: Array, key: Any, value: Any) -> None:
        """Do ``x[key] = value``: of several values for one element, the last one counts.

        The value is broadcast, and must have a dtype that `x` can take without another one. Views
        of `x` keep their elements.
        """
        parts = indexing.parts_of(key)
        if isinstance(value, Array):
            if self.result_type(x, value) != x.dtype:
                own, other = (self.dtypes.name(a.dtype) for a in (x, value))
                raise TypeError(f"an array of {own} cannot take {other}")
            new = self.astype(value, x.dtype, copy=False)
        else:
            if not isinstance(value, (bool, int, float, complex)):
                raise TypeError(f"an item is a number or a reproducible array, not {value!r}")
            self.result_type(x, value)
            new = self.full((), value, dtype=x.dtype, device=x.device)
        found = indexing.places(self._host_key(parts), x.shape)
        new = self.reshape(self.broadcast_to(new, found.shape), (-1,))
        if not found.size:
            return
        sources = self._on_device(indexing.sources(found, x.size), x.device)
        taken = self._taken(new, self._whole_array(self._raw.where(sources < 0, 0, sources)), 0)
        flat = self.where(self._whole_array(sources >= 0), taken, self.reshape(x, (-1,)))
        low = min(x.facts.low, new.facts.low)
        x.replace(self._raw.reshape(flat.raw, x.shape), Facts(low))
        x.owned = True

    # Arrangement

    def _whole(self, function: Callable[..., Any]) -> Callable[[Array], Array]:
        own = super()._whole(function)

        def whole(x: Array, /) -> Array:
            result = own(x)
            return self._shared(x) if result is x else result

        return whole

    def _layout(self, function: Callable[..., Any]) -> Callable[..., Any]:
        own = super()._layout(function)

        @functools.wraps(function)
        def layout(x: Array, /, *args: Any, **kwargs: Any) -> Any:
            name = self._kind(x, self.dtypes.names(), function.__name__)
            if name not in _WIDE:
                return own(x, *args, **kwargs)
            result = own(self._whole_array(self._int64(x.raw)), *args, **kwargs)
            if isinstance(result, tuple):
                return tuple(self._cut_off(part.raw, name) for part in result)
            return self._cut_off(result.raw, name)

        return layout

    def _collection(self, function: Callable[..., Any]) -> Callable[..., Array]:
        own = super()._collection(function)

        def collection(arrays: Iterable[Array], /, *, axis: int | None = 0) -> Array:
            arrays = list(arrays)
            if not arrays:
                raise ValueError("concat and stack need an array")
            name = self.dtypes.name(self.result_type(*arrays))
            axis = self._joining(function.__name__, arrays, axis)
            if name not in INTEGERS:
                return own(arrays, axis=axis)
            result = own([self._whole_array(self._int64(a.raw)) for a in arrays], axis=axis)
            return self._cut_off(result.raw, name)

        collection.__name__, collection.__doc__ = function.__name__, function.__doc__
        return collection

    def _joining(self, function: str, arrays: list[Array], axis: Any) -> int | None:
        """Return the axis along which arrays are joined; raise unless they fit."""
        stacked = function == "stack"  # NumPy's concat has another name
        if axis is None and not stacked:
            return None
        ndim = arrays[0].ndim
        joined = arguments.axis(axis, ndim + stacked)
        # PyTorch joins an array of shape (0,) to any
        shapes = [a.shape for a in arrays]
        if not stacked:
            shapes = [(*shape[:joined], 0, *shape[joined + 1 :]) for shape in shapes]
        if len(set(shapes)) > 1 or any(a.ndim != ndim for a in arrays):
            given = ", ".join(str(a.shape) for a in arrays)
            raise ValueError(f"arrays of shapes {given} don't fit along axis {joined}")
        return joined

    def expand_dims(self, x: Array, /, axis: Any) -> Array:
        """Return `x` with a new axis of one element, or several of them."""
        axes = arguments.axes(axis, x.ndim + len(arguments.several("axis", axis)))
        lengths = iter(x.shape)
        shape = (1 if k in axes else next(lengths) for k in range(x.ndim + len(axes)))
        return self.reshape(x, tuple(shape))

    def squeeze(self, x: Array, /, axis: Any) -> Array:
        """Return `x` without an axis of one element, or several of them."""
        axes = self._axes(x, axis)
        if any(x.shape[k] != 1 for k in axes):
            raise ValueError(f"axis {axis} of an array of shape {x.shape} has not one element")
        return self.reshape(x, tuple(n for k, n in enumerate(x.shape) if k not in axes))

    def flip(self, x: Array, /, *, axis: Any = None) -> Array:
        """Return `x` with the elements along some axes, or all, in the opposite order."""
        axes = tuple(self._axes(x, axis))
        return self._exact["flip"](x, axis=axes)  # type: ignore[no-any-return]

    def permute_dims(self, x: Array, /, axes: Any) -> Array:
        """Return `x` with its axes in another order."""
        order = arguments.axes(axes, x.ndim, "axes")
        if len(order) != x.ndim:
            raise ValueError(f"axes must be all {x.ndim} axes, got {axes!r}")
        return self._exact["permute_dims"](x, order)  # type: ignore[no-any-return]

    def reshape(self, x: Array, /, shape: Any, *, copy: bool | None = None) -> Array:
        """Return the elements of `x`, in C order, in another shape; one length may be -1."""
        lengths = arguments.several("shape", shape)
        known = math.prod(n for n in lengths if n != -1)
        if -1 in lengths and known:
            at = lengths.index(-1)
            lengths = (*lengths[:at], x.size // known, *lengths[at + 1 :])
        if any(n < 0 for n in lengths) or math.prod(lengths) != x.size:
            raise ValueError(f"an array of shape {x.shape} can't have the shape {shape!r}")
        return self._exact["reshape"](x, lengths, copy=copy)  # type: ignore[no-any-return]

    def roll(self, x: Array, /, shift: Any, *, axis: Any = None) -> Array:
        """Return `x` with its elements moved by `shift`, those from the end to the beginning.

        Several shifts along the same axis are added.
        """
        shifts = arguments.several("shift", shift)
        if axis is None:
            if len(shifts) != 1:
                raise ValueError(f"shift must be one number without an axis, got {shift!r}")
            flat = self.roll(self.reshape(x, (-1,)), shifts[0], axis=0)
            return self.reshape(flat, x.shape)
        axes = [arguments.axis(k, x.ndim) for k in arguments.several("axis", axis)]
        shifts = shifts * len(axes) if len(shifts) == 1 else shifts
        if len(shifts) != len(axes):
            raise ValueError(f"shift {shift!r} and axis {axis!r} have different lengths")
        totals = dict.fromkeys(axes, 0)
        for k, one in zip(axes, shifts, strict=True):
            # PyTorch takes no number beyond int64
            totals[k] = (totals[k] + one) % (x.shape[k] or 1)
        if not totals:  # PyTorch refuses no axes
            return self.copy(x)
        return self._exact["roll"](x, tuple(totals.values()), axis=tuple(totals))  # type: ignore[no-any-return]

    def repeat(self, x: Array, repeats: Any, /, *, axis: int | None = None) -> Array:
        """Return each element along `axis` several times; all elements if it is None.

        Parameters
        ----------
        x
            The array.
        repeats
            How often, a number or an array of integers with one for each element. An array
            synchronises.
        axis
            The axis.
        """
        if axis is None:
            x, axis = self.reshape(x, (-1,)), 0
        axis = arguments.axis(axis, x.ndim)
        if not (isinstance(repeats, Array) and repeats.ndim):
            number = arguments.count("repeats", repeats)
            return self._exact["repeat"](x, number, axis=axis)  # type: ignore[no-any-return]
        self._kind(repeats, INTEGERS, "repeat")
        times = arguments.shape(self.to_numpy(repeats).reshape(-1).tolist(), "repeats")
        if repeats.ndim > 1 or len(times) not in (1, x.shape[axis]):
            raise ValueError(f"repeats of shape {repeats.shape} don't fit {x.shape[axis]} elements")
        places = np.repeat(np.arange(x.shape[axis], dtype=np.int64), times)
        return self._taken(x, self._whole_array(self._on_device(places, x.device)), axis)

    def tile(self, x: Array, repetitions: Any, /) -> Array:
        """Return copies of `x` side by side, so many along each axis."""
        times = arguments.shape(repetitions, "repetitions")
        return self._exact["tile"](x, times)  # type: ignore[no-any-return]

    def tril(self, x: Array, /, *, k: int = 0) -> Array:
        """Return matrices with 0 above the diagonal `k`."""
        return self._triangle("tril", x, k)

    def triu(self, x: Array, /, *, k: int = 0) -> Array:
        """Return matrices with 0 below the diagonal `k`."""
        return self._triangle("triu", x, k)

    def _triangle(self, function: str, x: Array, k: int) -> Array:
        if x.ndim < 2:
            raise ValueError(f"{function} takes matrices, not {x.shape}")
        # no diagonal is further away
        k = max(-x.shape[-2], min(arguments.whole("k", k), x.shape[-1]))
        return self._exact[function](x, k=k)  # type: ignore[no-any-return]

    def unstack(self, x: Array, /, *, axis: int = 0) -> tuple[Array, ...]:
        """Return the parts of `x` along `axis`."""
        axis = arguments.axis(axis, x.ndim)
        return self._exact["unstack"](x, axis=axis)  # type: ignore[no-any-return]

    def broadcast_to(self, x: Array, /, shape: Any) -> Array:
        """Return `x` in a larger shape, its elements repeated.

        Raises
        ------
        ValueError
            If the shape doesn't fit.
        """
        shape = arguments.shape(shape)
        try:
            fits = np.broadcast_shapes(x.shape, shape) == shape
        except ValueError:
            fits = False
        if not fits:
            raise ValueError(f"an array of shape {x.shape} can't be broadcast to {shape}")
        return self._exact["broadcast_to"](x, shape)  # type: ignore[no-any-return]

    def broadcast_shapes(self, *shapes: Any) -> tuple[int, ...]:
        """Return the shape that arrays of these shapes are broadcast to."""
        return np.broadcast_shapes(*shapes)

    def broadcast_arrays(self, *arrays: Array) -> list[Array]:
        """Return all arrays in their common shape."""
        shape = np.broadcast_shapes(*(a.shape for a in arrays))
        return [self.broadcast_to(a, shape) for a in arrays]

    def matrix_transpose(self, x: Array, /) -> Array:
        """Return the transpose of each matrix."""
        self._kind(x, self.dtypes.names(), "matrix_transpose")
        if x.ndim < 2:
            raise ValueError(f"matrix_transpose needs two axes, not {x.ndim}")
        if self.dtypes.name(x.dtype) in _WIDE:
            axes = (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2)
            return self.permute_dims(x, axes)
        return super().matrix_transpose(x)

    def meshgrid(self, *arrays: Array, indexing: str = "xy") -> list[Array]:
        """Return the coordinates of a grid."""
        if indexing not in ("xy", "ij"):
            raise ValueError(f"indexing is 'xy' or 'ij', not {indexing!r}")
        self.result_type(*arrays)
        count = len(arrays)
        if any(a.ndim > 1 for a in arrays):
            raise ValueError("meshgrid takes arrays of one axis")
        flat = [self.reshape(a, (-1,)) for a in arrays]
        swap = indexing == "xy" and count > 1
        order = [1, 0, *range(2, count)] if swap else list(range(count))
        shape = tuple(flat[k].size for k in order)
        grids = []
        for k, a in enumerate(flat):
            place = order.index(k)
            own = tuple(a.size if i == place else 1 for i in range(count))
            grids.append(self.broadcast_to(self.reshape(a, own), shape))
        return grids

    def moveaxis(self, x: Array, source: Any, destination: Any, /) -> Array:
        """Return `x` with some axes elsewhere."""
        moved = arguments.axes(source, x.ndim, "source")
        places = arguments.axes(destination, x.ndim, "destination")
        if len(places) != len(moved):
            raise ValueError(f"moveaxis: {source} and {destination} don't fit")
        order = [k for k in range(x.ndim) if k not in moved]
        for place, k in sorted(zip(places, moved, strict=True)):
            order.insert(place, k)
        return self.permute_dims(x, tuple(order))

    # Products

    def matmul(self, a: Array, b: Array, /) -> Array:
        """Return the matrix product; see `Namespace.matmul`. Of integers modulo 2^bits."""
        self._kind(a, (*INTEGERS, *FLOATS), "matmul")
        self._kind(b, (*INTEGERS, *FLOATS), "matmul")
        if not a.ndim or not b.ndim:
            raise ValueError("matmul takes arrays of at least one dimension")
        if a.shape[-1] != b.shape[-2:][0]:
            raise ValueError(f"matmul: {a.shape} and {b.shape} don't fit")
        np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        if not self._is_whole(a):
            return super().matmul(a, b)
        name = self.dtypes.name(self.result_type(a, b))
        x, y = self._int64(a.raw), self._int64(b.raw)
        return self._cut_off(self._raw.matmul(x, y), name)

    def tensordot(self, a: Array, b: Array, /, *, axes: Any = 2) -> Array:
        """Return the sums of products along some axes of both arrays."""
        if not isinstance(axes, (tuple, list)):
            number = arguments.count("axes", axes)
            if number > min(a.ndim, b.ndim):
                raise ValueError(f"axes must be at most {min(a.ndim, b.ndim)} here, got {axes}")
            axes = (range(a.ndim - number, a.ndim), range(number))
        if len(axes) != 2:
            raise ValueError(f"axes must be a number or two sequences of axes, got {axes!r}")
        left, right = (
            arguments.axes(axes[0], a.ndim, "axes"),
            arguments.axes(axes[1], b.ndim, "axes"),
        )
        if [a.shape[k] for k in left] != [b.shape[k] for k in right]:
            raise ValueError(f"tensordot: {a.shape} and {b.shape} don't fit along {axes}")
        rest = [k for k in range(a.ndim) if k not in left]
        other = [k for k in range(b.ndim) if k not in right]
        inner = math.prod(a.shape[k] for k in left)
        rows = math.prod(a.shape[k] for k in rest)
        columns = math.prod(b.shape[k] for k in other)
        x = self.reshape(self.permute_dims(a, (*rest, *left)), (rows, inner))
        y = self.reshape(self.permute_dims(b, (*right, *other)), (inner, columns))
        shape = (*(a.shape[k] for k in rest), *(b.shape[k] for k in other))
        return self.reshape(self.matmul(x, y), shape)

    def vecdot(self, a: Array, b: Array, /, *, axis: int = -1) -> Array:
        """Return the scalar products of vectors along `axis`."""
        if not -min(a.ndim, b.ndim) <= arguments.whole("axis", axis) < 0:
            raise ValueError(f"axis must be between {-min(a.ndim, b.ndim)} and -1, got {axis}")
        if a.shape[axis] != b.shape[axis]:
            raise ValueError(f"vecdot: {a.shape} and {b.shape} don't fit along {axis}")
        a, b = self.broadcast_arrays(a, b)
        a, b = self.moveaxis(a, axis, -1), self.moveaxis(b, axis, -1)
        return self.matmul(a[..., None, :], b[..., :, None])[..., 0, 0]

    # New arrays

    def _device(self, device: Any) -> Any:
        """Return the library's own device, given it, its name or None."""
        if device is None:
            return self._backend.device
        return self._backend._device(device) if isinstance(device, str) else device

    def _pickled(self, x: Array) -> tuple[Any, ...]:
        # by way of the host, because JAX's own arrays come back in float32 without its x64
        names = {name for name, own in self._backend._devices().items() if own == x.device}
        device = None if x.device == self._backend.device else names.pop()
        return _unpickled, (self, self.to_numpy(x), device)

    def _on_device(self, host: np.ndarray, device: Any = None) -> Raw:
        """Return a host array, which nobody else changes, on a device."""
        # A copy, because PyTorch takes no negative strides, and warns if an array is read-only. The
        # dtype is found by its name, because there are two of 64 bits, and other orders of bytes.
        host = host.astype(host.dtype.name, order="C")
        return self._raw.asarray(host, device=self._device(device))

    def asarray(
        self, obj: Any, /, *, dtype: Any = None, device: Any = None, copy: bool | None = None
    ) -> Array:
        """Return numbers, nested sequences of them, or any library's array as an array.

        Python's floats become float64, and its integers int64, on every library.

        Parameters
        ----------
        obj
            A Python number, a nested sequence, an array of this library or one that NumPy can read.
        dtype, device
            Those of the result; the device of the namespace if None.
        copy
            False refuses to copy.

        Raises
        ------
        TypeError
            If the dtype can't be kept to the bit.
        OverflowError
            If a Python integer is outside the range of the dtype.
        """
        check_plain(obj, "obj")
        if dtype is not None:
            self.dtypes.name(dtype)
        same = isinstance(obj, Array) and obj._xp is self and dtype in (None, obj.dtype)
        if copy is False and same:
            result = obj
        elif isinstance(obj, Array) and self._backend.owns(obj.raw):
            result = Array(self, obj.raw, obj.facts.bounds())
            obj.owned = False
            if copy:
                result = self.copy(result)
        elif self._backend.owns(obj) and obj.dtype in self.dtypes:
            objection = self._backend.objection(obj)
            if objection:
                raise TypeError(f"obj {objection}")
            result = self.copy(self.wrap(obj)) if copy is not False else self.wrap(obj)
        else:
            if copy is False:
                raise ValueError("this can't become an array without a copy")
            if isinstance(obj, Array):
                obj = obj.__array__()
            self.dtypes.admit_foreign(obj)
            if hasattr(obj, "__dlpack__") and not isinstance(getattr(obj, "dtype", None), np.dtype):
                # NumPy warns of PyTorch's `__array__`
                obj = np.from_dlpack(obj)
            host = np.array(obj, order="C", subok=False)
            if host.dtype.hasobject:
                host = self._of_objects(host, dtype)
            elif not hasattr(obj, "dtype"):
                self.dtypes.admit(host)
                host = self._whole_numbers(obj, host, dtype)
            result = self.wrap(self._on_device(host, device))
        if dtype is not None:
            result = self.astype(result, dtype, copy=False)
        return result if device is None else self.to_device(result, device)

    def _of_objects(self, host: np.ndarray, dtype: Any) -> np.ndarray:
        """Return Python's numbers, which no integer dtype has, as floats, or raise."""
        objects = host.reshape(-1)
        for one in objects:
            if not isinstance(one, (int, float, np.integer, np.floating)):
                raise TypeError(f"obj must have numbers only, not {type(one).__name__}")
        whole = all(isinstance(one, (int, np.integer)) for one in objects)
        if whole and (dtype is None or self.dtypes.name(dtype) not in FLOATS):
            raise _too_large(objects)
        return np.array([float(one) for one in objects]).reshape(host.shape)

    def _whole_numbers(self, obj: Any, host: np.ndarray, dtype: Any) -> np.ndarray:
        """Return Python's integers as they are; raise unless they are in the range of the dtype.

        NumPy makes floats of integers of which some are negative and some need all bits of uint64.
        """
        name = "" if dtype is None else self.dtypes.name(dtype)
        if host.dtype.kind == "f" and host.size and name not in FLOATS:
            objects = np.array(obj, dtype=object).reshape(-1)
            if not all(isinstance(n, (int, np.integer)) for n in objects):
                return host
            whole = [int(n) for n in objects]
            if not name and min(whole) < 0:
                raise _too_large(whole)  # some need all bits of uint64
            kind = "int64" if min(whole) < 0 else "uint64"
            check_range(name if name in INTEGERS else kind, min(whole), max(whole))
            host = np.array(whole, dtype=kind).reshape(host.shape)
        if name in INTEGERS and host.dtype.kind in "iu" and host.size:
            check_range(name, int(host.min()), int(host.max()))
        return host

    def from_dlpack(self, x: Any, /, *, device: Any = None, copy: bool | None = None) -> Array:
        """Return an array that another library gives by DLPack."""
        if isinstance(x, Array):
            return self.asarray(x, device=device, copy=copy)
        check_plain(x, "x")
        self.dtypes.admit_foreign(x)
        try:
            raw = self._raw.from_dlpack(x)
        except (BufferError, RuntimeError, TypeError, ValueError) as error:
            if copy is False:
                raise BufferError(f"this can't be taken without a copy: {error}") from None
            return self.asarray(np.from_dlpack(x, copy=True), device=device)
        result = self.wrap(raw)
        result = result if copy is False else self.copy(result)
        return result if device is None else self.to_device(result, device)

    def to_device(self, x: Array, device: Any, /, *, stream: Any = None) -> Array:
        """Return the array on another device of the library."""
        device = self._device(device)
        if device == x.device:
            return self._shared(x)
        return Array(self, array_api_compat.to_device(x.raw, device), x.facts)

    def to_numpy(self, x: Array, /) -> np.ndarray:
        """Return the elements as an array of NumPy; all NaN have the same bits."""
        raw = self.exported(x)
        return np.array(self._backend.to_numpy(raw))

    def exported(self, x: Array, /) -> Raw:
        """Return the library's own array, for others to use; all NaN have the same bits."""
        raw = self.unwrap(x)
        if raw.dtype in self._formats:
            raw = self._raw.where(self._raw.isnan(raw), math.nan, raw)
        return raw

    def _made(self, name: str, value: float, shape: Any, device: Any) -> Array:
        """Return a new array full of a number."""
        device = self._device(device)
        kind = "int64" if name in INTEGERS else name
        if name in INTEGERS:
            value = int(value) - (2**64 if value > 2**63 - 1 else 0)
        raw = self._raw.full(
            arguments.shape(shape), value, dtype=self.dtypes.own(kind), device=device
        )
        if name in FLOATS:
            return self.wrap(raw)
        return self._whole_array(raw) if name == "bool" else self._cut_off(raw, name)

    def _name(self, dtype: Any, default: str = "float64") -> str:
        return default if dtype is None else self.dtypes.name(dtype)

    def full(self, shape: Any, fill_value: Any, *, dtype: Any = None, device: Any = None) -> Array:
        """Return an array full of a Python number."""
        fill_value = self._number("fill_value", fill_value)
        kind = "bool" if isinstance(fill_value, bool) else "int64"
        name = self._name(dtype, "float64" if isinstance(fill_value, float) else kind)
        value, _ = self._scalar(fill_value, self.dtypes.own(name))
        return self._made(name, value, shape, device)

    def _number(self, name: str, value: Any) -> Any:
        """Return a Python number, given it, one of NumPy, or an array without axes."""
        if isinstance(value, (int, float)):
            return value
        host = self.to_numpy(value) if isinstance(value, Array) else value
        self.dtypes.admit(host)
        if np.ndim(host):
            raise ArgumentError(f"{name} must be a number, got {value!r}")
        return host.item() if hasattr(host, "dtype") else host

    def zeros(self, shape: Any, *, dtype: Any = None, device: Any = None) -> Array:
        """Return an array full of 0."""
        return self._made(self._name(dtype), 0, shape, device)

    def ones(self, shape: Any, *, dtype: Any = None, device: Any = None) -> Array:
        """Return an array full of 1."""
        return self._made(self._name(dtype), 1, shape, device)

    def empty(self, shape: Any, *, dtype: Any = None, device: Any = None) -> Array:
        """Return an array full of 0, because what memory holds isn't the same everywhere."""
        return self.zeros(shape, dtype=dtype, device=device)

    def full_like(
        self, x: Array, /, fill_value: Any, *, dtype: Any = None, device: Any = None
    ) -> Array:
        """Return an array full of a number, with the shape and dtype of `x`."""
        dtype = x.dtype if dtype is None else dtype
        device = x.device if device is None else device
        return self.full(x.shape, fill_value, dtype=dtype, device=device)

    def zeros_like(self, x: Array, /, *, dtype: Any = None, device: Any = None) -> Array:
        """Return an array full of 0, with the shape and dtype of `x`."""
        return self.full_like(x, 0 if self._is_number(x, dtype) else False, dtype=dtype,
                              device=device)  # fmt: skip

    def ones_like(self, x: Array, /, *, dtype: Any = None, device: Any = None) -> Array:
        """Return an array full of 1, with the shape and dtype of `x`."""
        return self.full_like(x, 1 if self._is_number(x, dtype) else True, dtype=dtype,
                              device=device)  # fmt: skip

    def empty_like(self, x: Array, /, *, dtype: Any = None, device: Any = None) -> Array:
        """Return an array full of 0, with the shape and dtype of `x`."""
        return self.zeros_like(x, dtype=dtype, device=device)

    def _is_number(self, x: Array, dtype: Any) -> bool:
        return self.dtypes.name(x.dtype if dtype is None else dtype) != "bool"

    def eye(
        self, n_rows: int, n_cols: int | None = None, /, *, k: int = 0, dtype: Any = None,
        device: Any = None,
    ) -> Array:  # fmt: skip
        """Return a matrix with ones on a diagonal."""
        name = self._name(dtype)
        rows = arguments.count("n_rows", n_rows)
        columns = rows if n_cols is None else arguments.count("n_cols", n_cols)
        host = np.eye(rows, columns, k=arguments.whole("k", k), dtype="int8")
        whole = self._whole_array(self._on_device(host, device))
        return self.astype(whole, self.dtypes.own(name))

    def arange(
        self, start: float, /, stop: float | None = None, step: float = 1, *, dtype: Any = None,
        device: Any = None,
    ) -> Array:  # fmt: skip
        """Return start + k step for all whole k before `stop`, each rounded twice."""
        if stop is None:
            start, stop = 0, start
        start, stop = self._number("start", start), self._number("stop", stop)
        step = self._number("step", step)
        if not all(math.isfinite(n) for n in (start, stop, step)):
            raise ArgumentError(f"arange needs finite numbers, got {start}, {stop}, {step}")
        whole = all(isinstance(n, int) for n in (start, stop, step))
        name = self._name(dtype, "int64" if whole else "float64")
        if step == 0:
            raise ValueError("step must not be 0")
        count = max(0, int(-((start - stop) // step) if whole else -((start - stop) / step // 1)))
        if whole:
            host = np.asarray([], dtype=np.int64)
            if count:
                last = start + (count - 1) * step
                low, high = min(start, last), max(start, last)
                kind = "uint64" if high >= 2**63 and low >= 0 else "int64"
                check_range(name if name in INTEGERS else kind, low, high)
                # modulo 2^64, because a step may be larger than int64
                steps = np.arange(count, dtype=np.uint64) * np.uint64(step % 2**64)
                host = (np.uint64(start % 2**64) + steps).astype(kind)
            return self.asarray(host, dtype=self.dtypes.own(name), device=device)
        steps = self._raw.astype(self._iota(count, device), self.dtypes.own("float64"))
        result = self.add(self.multiply(self.wrap(steps), float(step)), float(start))
        return self.astype(result, self.dtypes.own(name), copy=False)

    def _iota(self, count: int, device: Any = None) -> Raw:
        return self._on_device(np.arange(count, dtype=np.int64), device)

    def linspace(
        self, start: float, stop: float, /, num: int, *, dtype: Any = None, device: Any = None,
        endpoint: bool = True,
    ) -> Array:  # fmt: skip
        """Return `num` numbers from `start` to `stop`: start + k ((stop - start) / n)."""
        start, stop = self._number("start", start), self._number("stop", stop)
        num, name = arguments.count("num", num), self._name(dtype)
        if name not in FLOATS:
            raise TypeError(f"linspace has a float dtype, not {name}")
        parts = num - 1 if endpoint else num
        # halves, where the difference would overflow
        scale = 0.5 if math.isinf(float(stop) - float(start)) else 1.0
        step = (scale * float(stop) - scale * float(start)) / parts if parts > 0 else 0.0
        steps = self.wrap(self._raw.astype(self._iota(num, device), self.dtypes.own("float64")))
        result = self.add(self.multiply(steps, step), scale * float(start))
        result = self.multiply(result, 2.0) if scale == 0.5 else result
        if endpoint and num > 1:
            last = self.equal(steps, float(num - 1))
            result = self.where(last, float(stop), result)
        return self.astype(result, self.dtypes.own(name), copy=False)

    # Random numbers

    def random(self, seed: int) -> Generator:
        """Return a generator of random numbers, the same ones on every library and device."""
        return Generator(self, seed)


def _too_large(numbers: Iterable[int]) -> OverflowError:
    """Return the error for whole numbers that no integer dtype has."""
    low, high = min(numbers), max(numbers)
    given = f"{low} to {high}" if low < high else str(low)
    return OverflowError(f"{given} is outside the range of int64 and of uint64")


def _unpickled(xp: StandardNamespace, host: np.ndarray, device: str | None) -> Array:
    return xp.asarray(host, dtype=xp.dtypes.own(host.dtype.name), device=device)
