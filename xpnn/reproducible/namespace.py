"""The namespace: the functions of the array API, made of one library's exact operations."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Iterable
from typing import Any, Literal

import array_api_compat
import numpy as np

from xpnn.reproducible import cuts, products
from xpnn.reproducible.array import Array
from xpnn.reproducible.dtypes import Dtypes, check_scalar, unwrapped
from xpnn.reproducible.facts import WHOLE, Facts
from xpnn.reproducible.formats import FLOAT32, FLOAT64, Format, trailing
from xpnn.reproducible.functions import Functions
from xpnn.reproducible.survey import find_facts

Raw = Any
Precision = Literal["training", "full"]
PRECISIONS = ("training", "full")

# The names in a namespace, by how it wraps them. First, what the library computes exactly:
# elements of one array in another arrangement,
_LAYOUT = """
broadcast_to expand_dims flip max min moveaxis permute_dims reshape roll squeeze
take_along_axis tile repeat tril triu sort unstack
"""
# elements of several arrays, and at each position the element of one of two arrays,
_COLLECTION = "concat stack"
_CHOICE = "maximum minimum where"
# truth values and indices, from one array or from two,
_QUERY = "all any argmax argmin argsort count_nonzero isfinite isinf isnan logical_not nonzero"
_COMPARISON = "logical_and logical_or logical_xor searchsorted"
# the operators that give truth values or bits
_OPERATORS = {
    "equal": operator.eq,
    "not_equal": operator.ne,
    "less": operator.lt,
    "less_equal": operator.le,
    "greater": operator.gt,
    "greater_equal": operator.ge,
    "bitwise_and": operator.and_,
    "bitwise_or": operator.or_,
    "bitwise_xor": operator.xor,
    "bitwise_right_shift": operator.rshift,
}
# the whole number next to each element,
_WHOLE = "ceil floor round trunc"
# and new arrays, of small integers or of any numbers.
_SMALL_INTEGERS = "empty empty_like eye ones ones_like zeros zeros_like"
_CREATION = "arange asarray full full_like"
# Then, what `Functions` computes, which has the formulas and error bounds.
_FUNCTIONS = "exp expm1 log log1p sigmoid sqrt tanh"
# Finally, the library's own objects, none of which is an array.
_VERBATIM = """
bool e finfo float32 float64 iinfo inf int16 int32 int64 int8 isdtype nan newaxis pi
uint16 uint32 uint64 uint8
"""

# What can't be kept to the bit, and why.
_COMPLEX = "complex numbers can't be kept to the bit, because libraries fuse their products"
_SHORT = (
    "numbers of two bytes can't be kept to the bit, because a library rounds them once or twice"
)
_REFUSED = {
    **dict.fromkeys(("complex64", "complex128", "imag"), _COMPLEX),
    **dict.fromkeys(("float16", "bfloat16"), _SHORT),
    "fft": "Fourier transforms are complex, and complex numbers can't be kept to the bit",
}


@functools.cache
def arithmetic(xp: Any, *, precision: Precision = "training") -> Namespace:
    """Return the namespace that networks are trained with; the same object for the same arguments.

    Parameters
    ----------
    xp, precision
        As for `Namespace`, which may raise.
    """
    return Namespace(xp, precision=precision)


class Namespace:
    """An array-API namespace that gives the same bits on every library, CPU, BLAS and thread count.

    Networks are trained with it. It has only the names of the array API for which it can keep that
    promise; any other name raises AttributeError.

    Parameters
    ----------
    xp
        The array API namespace of NumPy, CuPy, PyTorch (through array-api-compat), JAX with x64
        enabled, or array-api-strict.
    precision
        "training" or "full": how exact `matmul` and `sum` are; see there.

    Raises
    ------
    ValueError
        If the precision is unknown.
    TypeError
        If the library has no float64 at the moment, such as JAX outside ``jax.enable_x64(True)``.
    """

    _functions_of: type[Functions] = Functions
    # classes of the library's arrays that stand for others, whose operations a compiler may join
    _abstract: tuple[type, ...] = ()

    def __init__(self, xp: Any, *, precision: Precision = "training") -> None:
        if precision not in PRECISIONS:
            raise ValueError(f"precision is 'training' or 'full', not {precision!r}")
        self._raw = xp
        self.precision = precision
        self.__name__ = repr(self)
        self.dtypes = Dtypes(xp)
        self._formats: dict[Any, Format] = {
            dtype: format_
            for name, format_ in (("float64", FLOAT64), ("float32", FLOAT32))
            for dtype in (getattr(xp, name), self.dtypes.own(name))
        }
        self._functions = self._functions_of(xp)
        self._scalars: dict[Any, tuple[float, int]] = {}
        for names, wrapper in (
            (_LAYOUT, self._layout),
            (_COLLECTION, self._collection),
            (_CHOICE, self._choice),
            (_QUERY, self._query),
            (_COMPARISON, self._comparison),
            (_WHOLE, self._whole),
            (_SMALL_INTEGERS, functools.partial(self._creation, small=True)),
            (_CREATION, self._creation),
            (_VERBATIM, lambda value: value),
        ):
            for name in names.split():
                if hasattr(xp, name):
                    # the bits that `empty` finds in memory aren't the same everywhere
                    setattr(self, name, wrapper(getattr(xp, name.replace("empty", "zeros"))))
        for name, operation in _OPERATORS.items():
            setattr(self, name, functools.partial(self._combine, operation))
        for name in _FUNCTIONS.split():
            setattr(self, name, self._function(getattr(self._functions, name)))

    def __repr__(self) -> str:
        return f"reproducible.namespace({self._raw.__name__}, precision={self.precision!r})"

    def __getattr__(self, name: str) -> Any:
        if name in _REFUSED:
            raise AttributeError(f"{name!r} is refused: {_REFUSED[name]}")
        raise AttributeError(
            f"{name!r} isn't available reproducibly; available are: " + ", ".join(sorted(dir(self)))
        )

    def __dir__(self) -> Iterable[str]:
        names = {*vars(self)}.union(*(vars(cls) for cls in type(self).__mro__))
        return [name for name in names if not name.startswith("_")]

    def __deepcopy__(self, memo: Any) -> Namespace:
        return self

    def _pickled(self, x: Array) -> tuple[Any, ...]:
        """Return how an array is pickled."""
        raise TypeError("arrays of networks can't be pickled: save the model, or take to_numpy")

    def probe(self, device: Any) -> None:
        """Find out what must be known of a device, so that no step has to wait for it."""
        self._functions.roots_are_right(device)

    def know(self, other: Namespace, device: Any) -> None:
        """Take over what another namespace has found out of a device, for all devices."""
        self._functions.rightness = other._functions.roots_are_right(device)

    # In and out

    def wrap(self, raw: Raw) -> Array:
        """Return `raw`, an array of the library, as an `Array`; floats become canonical."""
        format_ = self._formats.get(raw.dtype)
        if format_ is None:
            return Array(self, raw, WHOLE)
        return Array(self, format_.canonical(raw, self._raw), Facts(format_.low), owned=True)

    def wrap_canonical(self, raw: Raw, facts: Facts | None = None) -> Array:
        """Return `raw`, whose floats are canonical already, as an `Array`.

        If `facts` is None, no more is known of its elements than follows from the dtype.
        """
        if facts is None:
            format_ = self._formats.get(raw.dtype)
            facts = WHOLE if format_ is None else Facts(format_.low)
        return Array(self, raw, facts)

    def unwrap(self, array: Array) -> Raw:
        """Return the library's own array; in-place operations on `array` don't change it later."""
        array.owned = False
        return array.raw

    def prepare(self, array: Array, *, pixels: bool = True) -> Array:
        """Return `array` after finding out how many bits its elements need.

        This is for data that enters many products, such as all samples of a data set. If all its
        elements are multiples of one power of two that is at most 2^42 times smaller than the
        largest of them (as every pixel / 255 rounded to float32 is), then a batch taken from it is
        cut without looking for maxima, and one cut serves the products along both axes. The error
        bound of `matmul` then has the largest element of the whole array in place of a row's.

        Parameters
        ----------
        array
            The data set.
        pixels
            Whether to find out if the rows are images: products of these need less work.
        """
        if array.dtype in self._formats and array.size:
            double = cuts.double(array.raw, self._raw)
            found = find_facts(lambda: (double,), array.facts.low, self._raw, pixels=pixels)
            if found is not None:
                array.facts, array.kept = found, {}
        return array

    def _scalar(self, value: Any, dtype: Any) -> tuple[float, int]:
        """Return a Python scalar rounded to the format of `dtype`, and its ``low``."""
        key = (value, dtype, type(value))
        known = self._scalars.get(key)
        if known is None:
            format_ = self._formats.get(dtype)
            check_scalar(value, self.dtypes.name(dtype))
            if format_ is None:
                known = (value, 0)
            else:
                value = format_.number(value)
                known = (value, trailing(value))
            if len(self._scalars) > 4096:  # a schedule has another learning rate in each step
                self._scalars.clear()
            self._scalars[key] = known
        return known

    def _operands(self, a: Any, b: Any, low: Callable[[int, int], int]) -> tuple[Raw, Raw, int]:
        """Return both operands raw, one of which may be a Python number, and the result's ``low``.

        The function `low` computes it from those of the operands.
        """
        if isinstance(a, Array):
            if isinstance(b, Array):
                x, y = a.raw, b.raw
                if x.dtype != y.dtype:
                    x, y = self._promoted(x, y)
                return x, y, low(a.facts.low, b.facts.low)
            if isinstance(b, (int, float, complex)):
                value, exponent = self._scalar(b, a.raw.dtype)
                return a.raw, value, low(a.facts.low, exponent)
        elif isinstance(b, Array) and isinstance(a, (int, float, complex)):
            value, exponent = self._scalar(a, b.raw.dtype)
            return value, b.raw, low(exponent, b.facts.low)
        raise TypeError(
            f"cannot combine {type(a).__name__} and {type(b).__name__}: wrap the array first"
        )

    def _promoted(self, *raws: Raw) -> list[Raw]:
        """Return raw arrays in their common dtype.

        PyTorch's own operators would take the dtype of an array with dimensions before that of one
        without.
        """
        dtype = self.dtypes.common(*(raw.dtype for raw in raws))
        return [raw if raw.dtype == dtype else self._raw.astype(raw, dtype) for raw in raws]

    def _lift(self, value: Any, like: Raw) -> Raw:
        """Return `value` as a raw array with the dtype and device of `like`."""
        if isinstance(value, Array):
            return value.raw
        value, _ = self._scalar(value, like.dtype)
        return self._raw.asarray(value, dtype=like.dtype, device=array_api_compat.device(like))

    def _finish(self, raw: Raw, single: bool) -> Array:
        """Return a fresh float64 result as an `Array`, flushed, rounded to float32 if `single`."""
        format_ = FLOAT64
        if single:
            raw, format_ = self._raw.astype(raw, self._raw.float32), FLOAT32
        return Array(self, format_.flushed(raw), Facts(format_.low), owned=True)

    def _rounded(self, raw: Raw, low: int, single: bool) -> Array:
        """Return a fresh canonical float64 result as an `Array`, rounded to float32 if `single`."""
        if single:
            return self._finish(raw, True)
        return Array(self, raw, Facts(max(min(low, 1023), FLOAT64.low)), owned=True)

    def accumulate(self, x: Array, inplace: Callable[..., Raw], other: Any) -> bool:
        """Change `x` in its own buffer, which nobody else can see; return False if it can't be."""
        a, b, low = self._operands(x, other, min)
        shape = tuple(getattr(b, "shape", ()))
        # of others, JAX would make a larger array
        if shape in ((), x.shape) or np.broadcast_shapes(shape, x.shape) == x.shape:
            x.replace(inplace(a, b), Facts(low))
            return True
        return False

    def copy(self, x: Array, /) -> Array:
        """Return the elements in a buffer of their own."""
        raw = self._raw.asarray(x.raw, copy=True)
        return Array(self, raw, x.facts, owned=True)

    def getitem(self, x: Array, key: Any) -> Array:
        """Return ``x[key]``, by the library's own indexing."""
        parts = key if isinstance(key, tuple) else (key,)
        parts = tuple(k.raw if isinstance(k, Array) else k for k in parts)
        return x._view(x.raw[parts if isinstance(key, tuple) else parts[0]])

    def setitem(self, x: Array, key: Any, value: Any) -> None:
        """Raise: arrays of networks don't change element by element."""
        raise TypeError("a network's arrays have no item assignment; use where or concat")

    # Each takes a function of the library, or of `Functions`, and returns this namespace's own

    def _layout(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def layout(x: Array, /, *args: Any, **kwargs: Any) -> Any:
            args = tuple(a.raw if isinstance(a, Array) else a for a in args)
            result = function(x.raw, *args, **kwargs)
            if isinstance(result, (tuple, list)):
                return tuple(x._view(part) for part in result)
            return x._view(result)

        return layout

    def _collection(self, function: Callable[..., Any]) -> Callable[..., Array]:
        def collection(arrays: Iterable[Array], /, *, axis: int | None = 0) -> Array:
            arrays = list(arrays)
            raw = function(self._promoted(*(a.raw for a in arrays)), axis=axis)
            return Array(self, raw, Facts(min(a.facts.low for a in arrays)), owned=True)

        return collection

    def _choice(self, function: Callable[..., Any]) -> Callable[..., Array]:
        def choice(*args: Any) -> Array:
            *condition, a, b = args
            x, y, low = self._operands(a, b, min)
            return Array(self, function(*(c.raw for c in condition), x, y), Facts(low), owned=True)

        return choice

    def _query(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def query(x: Array, /, **kwargs: Any) -> Any:
            result = function(x.raw, **kwargs)
            if isinstance(result, tuple):
                return tuple(self.wrap_canonical(part) for part in result)
            return self.wrap_canonical(result)

        return query

    def _comparison(self, function: Callable[..., Any]) -> Callable[..., Array]:
        def comparison(a: Any, b: Any, /, **kwargs: Any) -> Array:
            x, y, _ = self._operands(a, b, min)
            like = a.raw if isinstance(a, Array) else b.raw
            x, y = (v if hasattr(v, "dtype") else self._lift(v, like) for v in (x, y))
            return self.wrap_canonical(function(x, y, **kwargs))

        return comparison

    def _whole(self, function: Callable[..., Any]) -> Callable[[Array], Array]:
        def whole(x: Array, /) -> Array:
            if not isinstance(x, Array):
                raise unwrapped(x)
            if x.raw.dtype not in self._formats:
                return x
            return Array(self, function(x.raw) + 0.0, WHOLE, owned=True)

        return whole

    def _creation(
        self, function: Callable[..., Any], *, small: bool = False
    ) -> Callable[..., Array]:
        def creation(first: Any, /, *args: Any, **kwargs: Any) -> Array:
            first = first.raw if isinstance(first, Array) else first
            if not small:
                self.dtypes.admit(first)
            if kwargs.get("dtype") is not None:
                self.dtypes.name(kwargs["dtype"])
            raw = function(first, *args, **kwargs)
            return Array(self, raw, WHOLE, owned=True) if small else self.wrap(raw)

        return creation

    def _function(self, function: Callable[[Raw], Raw]) -> Callable[[Array], Array]:
        def elementary(x: Array, /) -> Array:
            if not isinstance(x, Array):
                raise unwrapped(x)
            if x.raw.dtype not in self._formats:
                raise TypeError(f"a function of {x.dtype}: convert to a float dtype first")
            xp = self._raw
            raw = function(xp.reshape(cuts.double(x.raw, xp), (-1,)))
            raw = xp.reshape(raw, x.raw.shape)
            return self._rounded(raw, FLOAT64.low, x.raw.dtype == xp.float32)

        elementary.__doc__ = function.__doc__
        return elementary

    def _combine(self, operation: Callable[[Raw, Raw], Raw], a: Any, b: Any) -> Array:
        """Return a comparison or a bitwise operation of two operands."""
        x, y, _ = self._operands(a, b, min)
        return self.wrap_canonical(operation(x, y))

    def matrix_transpose(self, x: Array, /) -> Array:
        """Return the transpose of each matrix."""
        transposed = x._view(self._raw.matrix_transpose(x.raw))
        transposed.base = (x, x.raw)
        return transposed

    def take(self, x: Array, indices: Array, /, *, axis: int | None = None) -> Array:
        """Return the elements at `indices` along `axis`, such as some rows."""
        taken = x._view(self._raw.take(x.raw, indices.raw, axis=axis))
        if axis == 0:
            taken.facts = x.facts
        return taken

    def astype(self, x: Array, dtype: Any, /, *, copy: bool = True, device: Any = None) -> Array:
        """Return `x` in another dtype; a float is rounded once."""
        self.dtypes.name(dtype)
        extra = {} if device is None else {"device": device}
        raw = self._raw.astype(x.raw, dtype, copy=copy, **extra)
        old, new = self._formats.get(x.raw.dtype), self._formats.get(dtype)
        if new is None:
            return Array(self, raw, WHOLE)
        if old is None:  # integers; large ones are rounded, and stay whole
            truth = self._raw.isdtype(x.raw.dtype, "bool")
            bits = 1 if truth else self._raw.iinfo(x.raw.dtype).bits
            # slices are cut relative to the bound, and with a loose one they lose small elements
            return Array(self, raw, Facts(0, bits if bits <= 16 else None))
        if new.low > old.low:
            return Array(self, new.canonical(raw, self._raw), Facts(new.low), owned=True)
        x.owned = False
        low, high, pixels = x.facts
        return Array(self, raw, Facts(max(low, new.low), high, pixels))

    def abs(self, x: Array, /) -> Array:
        """Return the absolute value."""
        return Array(self, self._raw.abs(x.raw), x.facts.bounds(), owned=True)

    def negative(self, x: Array, /) -> Array:
        """Return ``0 - x``, because ``-x`` would make a negative zero of 0."""
        return Array(self, 0 - x.raw, x.facts.bounds(), owned=True)

    def bitwise_invert(self, x: Array, /) -> Array:
        """Return ``~x``."""
        return self.wrap_canonical(~x.raw)

    def positive(self, x: Array, /) -> Array:
        """Return `x`."""
        return x

    def sign(self, x: Array, /) -> Array:
        """Return -1, 0 or 1, and NaN for NaN."""
        xp, raw = self._raw, x.raw
        minus, zero, one = (self._lift(value, raw) for value in (-1, 0, 1))
        result = xp.where(raw > 0, one, xp.where(raw < 0, minus, zero))
        if raw.dtype in self._formats:
            result = xp.where(xp.isnan(raw), raw, result)
        return Array(self, result, Facts(0, 0), owned=True)

    def clip(self, x: Array, /, min: Any = None, max: Any = None) -> Array:  # noqa: A002
        """Return `x`, but no less than `min` and no more than `max`."""
        if min is not None:
            x = self.maximum(x, min)
        return x if max is None else self.minimum(x, max)

    # Arithmetic

    def add(self, a: Any, b: Any, /) -> Array:
        """Return ``a + b``, correctly rounded."""
        # a sum of multiples of the least normal number is one too, so it is canonical already
        x, y, low = self._operands(a, b, min)
        return Array(self, x + y, Facts(low), owned=True)

    def subtract(self, a: Any, b: Any, /) -> Array:
        """Return ``a - b``, correctly rounded."""
        x, y, low = self._operands(a, b, min)
        return Array(self, x - y, Facts(low), owned=True)

    def multiply(self, a: Any, b: Any, /) -> Array:
        """Return ``a * b``, correctly rounded, then to a multiple of the format's quantum.

        A result below 2^-914 (float32: 2^-76) may be an ulp off.
        """
        x, y, low = self._operands(a, b, operator.add)
        raw = x * y
        format_ = self._formats.get(raw.dtype)
        if format_ is None:
            return Array(self, raw, WHOLE, owned=True)
        if low >= format_.low:  # no product is subnormal
            if not ((isinstance(x, float) and x > 0.0) or (isinstance(y, float) and y > 0.0)):
                raw += 0.0  # nor a negative zero then
        else:
            raw, low = format_.flushed(raw), format_.low
        return Array(self, raw, Facts(min(low, 1023)), owned=True)

    def square(self, x: Array, /) -> Array:
        """Return ``x * x``."""
        return self.multiply(x, x)

    def divide(self, a: Any, b: Any, /) -> Array:
        """Return ``a / b``, correctly rounded, then to a multiple of the format's quantum.

        A result below 2^-914 (float32: 2^-76) may be an ulp off.
        """
        if isinstance(b, (int, float)) and abs(math.frexp(b)[0]) == 0.5 and 1e-30 < abs(b) < 1e30:
            return self.multiply(a, 1 / b)  # by a power of two
        x, y, _ = self._operands(a, b, min)
        like = x if isinstance(a, Array) else y
        if like.dtype not in self._formats:
            raise TypeError("divide needs floating-point arrays")
        x, y = (v if hasattr(v, "dtype") else self._lift(v, like) for v in (x, y))
        # XLA turns a / broadcast(b) into a * (1 / b), so both are broadcast before. CUDA's float32
        # division may be approximate, so float32 is divided in float64; rounding that result once
        # more gives the correctly rounded one (53 >= 2*24 + 2).
        xp = self._raw
        single = x.dtype == xp.float32 and y.dtype == xp.float32
        if x.shape != y.shape:
            shape = np.broadcast_shapes(tuple(x.shape), tuple(y.shape))
            x, y = xp.broadcast_to(x, shape), xp.broadcast_to(y, shape)
        if single:
            x, y = xp.astype(x, xp.float64), xp.astype(y, xp.float64)
        return self._finish(x / y, single)

    def pow(self, a: Any, b: Any, /) -> Array:
        """Return ``a ** b``: by products for whole b up to 64, `sqrt` for 0.5, else exp(b log a).

        The last has a relative error of about |b log a| * 2^-52.
        """
        if isinstance(a, Array) and isinstance(b, (int, float)):
            if b == 0:
                return self.ones_like(a)  # type: ignore[no-any-return]
            if b == 0.5:
                return self.sqrt(a)  # type: ignore[no-any-return]
            if abs(b) <= 64 and b == int(b):
                power = self._power(a, abs(int(b)))
                return self.divide(1.0, power) if b < 0 else power + 0.0
        self._operands(a, b, min)  # raises unless they can be combined
        if isinstance(a, (int, float)):
            a = self.asarray(a, dtype=b.dtype, device=b.device)
        return self.exp(self.multiply(b, self.log(a)))  # type: ignore[no-any-return]

    def _power(self, x: Array, n: int) -> Array:
        """Return ``x**n`` for n >= 1, by squaring, from the lowest bit of `n` on."""
        result = None
        while n:
            if n & 1:
                result = x if result is None else self.multiply(result, x)
            n >>= 1
            if n:
                x = self.multiply(x, x)
        assert result is not None
        return result

    def result_type(self, *arrays_and_dtypes: Any) -> Any:
        """Return the dtype of a result of these arrays, dtypes and Python numbers.

        Raises
        ------
        TypeError
            If the standard's table has none for them, or one of them isn't kept to the bit.
        """
        dtypes, numbers = [], []
        for one in arrays_and_dtypes:
            if isinstance(one, (bool, int, float, complex)):
                numbers.append(one)
            else:
                dtypes.append(one.dtype if isinstance(one, Array) else one)
        if not dtypes:
            raise TypeError("result_type needs an array or a dtype")
        result = self.dtypes.common(*dtypes)
        for number in numbers:
            check_scalar(number, self.dtypes.name(result))
        return result

    def can_cast(self, from_: Any, to: Any, /) -> bool:
        """Return whether an array, or a dtype, becomes the dtype `to` without losing a value."""
        origin = from_.dtype if isinstance(from_, Array) else from_
        self.dtypes.name(origin)
        try:
            return bool(self.dtypes.common(origin, to) == self.dtypes.own(self.dtypes.name(to)))
        except TypeError:
            self.dtypes.name(to)
            return False

    # Products and sums

    def matmul(self, a: Array, b: Array, /) -> Array:
        """Return the matrix product, with the same bits in any order of its terms.

        The rows of `a` and the columns of `b` may be split in any way, too. With K the inner
        dimension, at most 2^21, and |a|, |b| the largest absolute values in the row of `a` and the
        column of `b`, the error of an element is at most

        * at precision "training": 2^-40 K |a| |b| and one rounding in float64; 2^-19 K |a| |b|
          (2^-29 if K > 2^11) and one rounding in float32;
        * at precision "full": one rounding and 2^-80 sum |a_k b_k|, which is as good as correctly
          rounded unless nearly everything cancels.

        Infinities and NaN are as in IEEE arithmetic. An element whose true value overflows is
        infinite, even where no partial sum would have been.

        Notes
        -----
        Why a product of slices is exact: let all a_k be multiples of u with |a_k| <= 2^s u, and all
        b_k multiples of v with |b_k| <= 2^s v. Each product is a multiple of uv, at most 2^2s uv.
        Each partial sum, in whatever order, is a multiple of uv and at most K 2^2s uv <= 2^53 uv,
        hence a float64. So no addition rounds, fused or not, and all orders give the exact value.

        Why the error is what it is, for K <= 2^11 and two slices of s = 21 bits: with |a| <= L, the
        second slice is at most 2^(-s-1) L and the rest 2^(-2s-2) L, and likewise with |b| <= M.
        Left out are the product of the second slices, and the rests times everything: at most
        3 * 2^(-2s-2) K L M. Since L < 2|a| and M < 2|b|, that is 12 * 2^-44 < 2^-40.4 times
        K |a| |b|. For K > 2^11, three slices of s = 16 bits leave out 16 * 2^-51 times that.
        """
        if not (isinstance(a, Array) and isinstance(b, Array)):
            raise TypeError("matmul takes two reproducible arrays")
        if a.ndim == 0 or b.ndim == 0:
            raise ValueError("matmul takes arrays of at least one dimension")
        if a.ndim == 1:
            product = self.matmul(a[None, :], b)
            return product[0, ...] if b.ndim == 1 else product[..., 0, :]
        if b.ndim == 1:
            return self.matmul(a, b[:, None])[..., 0]
        if a.shape[-1] != b.shape[-2]:
            raise ValueError(f"matmul: {a.shape} and {b.shape} don't fit")
        xp, formats = self._raw, self._formats
        if a.dtype != b.dtype:
            self.dtypes.common(a.dtype, b.dtype)
        whole = a.dtype not in formats or b.dtype not in formats
        if whole or a.size == 0 or b.size == 0:
            return self.wrap_canonical(xp.matmul(a.raw, b.raw))
        if self.precision == "full":
            raw, low = products.matmul_full(a.raw, b.raw, xp), FLOAT64.low
        else:
            raw, low = products.matmul(a, b, xp)
        return self._rounded(raw, low, a.dtype == b.dtype == xp.float32)

    def sum(
        self, x: Array, /, *, axis: Any = None, dtype: Any = None, keepdims: bool = False
    ) -> Array:
        """Return the sum along `axis`, with the same bits in any order of the terms.

        With n the number of terms, at most 2^31, and |x| the largest absolute value of them, the
        error is at most

        * at precision "training": 2^-43 n |x| and one rounding;
        * at precision "full": one rounding and 2^-80 sum |x_k|.
        """
        xp = self._raw
        if dtype is not None:
            self.dtypes.name(dtype)
        if dtype is not None and dtype in self._formats:
            x = self.astype(x, dtype, copy=False)
        format_ = self._formats.get(x.raw.dtype)
        if format_ is None:
            return self.wrap_canonical(xp.sum(x.raw, axis=axis, dtype=dtype, keepdims=keepdims))
        axes = range(x.ndim) if axis is None else (axis,) if isinstance(axis, int) else axis
        axes = sorted({k % x.ndim for k in axes}) if x.ndim else []
        if not axes:
            return x + 0.0
        if x.size == 0:
            return self.wrap_canonical(xp.sum(x.raw, axis=tuple(axes), keepdims=keepdims))
        if len(axes) == 1 and axes[0] >= x.ndim - 2:
            raw, low = self._sum(x, axes[0] - x.ndim, keepdims)
        else:
            others = [k for k in range(x.ndim) if k not in axes]
            flat = self.permute_dims(x, (*others, *axes)) if x.ndim > 1 else x
            flat = self.reshape(flat, (*(x.shape[k] for k in others), -1))
            raw, low = self._sum(flat, -1, False)
            if keepdims:
                raw = xp.reshape(raw, tuple(1 if k in axes else n for k, n in enumerate(x.shape)))
        return self._rounded(raw, low, format_ is FLOAT32)

    def _sum(self, x: Array, axis: int, keepdims: bool) -> tuple[Raw, int]:
        if self.precision == "training":
            return products.sum_(x, axis, keepdims, self._raw)
        raw = products.sum_full(x.raw, axis, self._raw)
        return raw if keepdims else self._raw.squeeze(raw, axis=axis), FLOAT64.low

    def mean(self, x: Array, /, *, axis: Any = None, keepdims: bool = False) -> Array:
        """Return ``sum(x) / n``; NaN for an empty array."""
        total = self.sum(x, axis=axis, keepdims=keepdims)
        if not total.size:
            return total
        count = x.size // total.size
        return self.divide(total, count) if count else self.divide(total * 0.0, total * 0.0)
