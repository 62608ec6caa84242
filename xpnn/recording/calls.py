"""Operations as the cheapest calls that give the same bits.

An operation of a small network takes a few microseconds, so what surrounds it counts: wrappers in
Python, arguments by keyword, results in new memory. A node therefore becomes a call of NumPy's own
function, its arguments by position, that writes straight into the node's buffer. Where NumPy has
two ways to the same bits, the call takes the faster one.
"""

from __future__ import annotations

import functools
import itertools
import math
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np

from xpnn.recording.layout import is_packed
from xpnn.recording.nodes import CheckError, Node, resolve
from xpnn.recording.origin import Origin

Array = np.ndarray
Call = tuple[Callable[..., object], tuple[Any, ...]]

# what NumPy's functions of these names call in the end, without their wrappers in Python
_REDUCTIONS = {
    "sum": np.add.reduce,
    "max": np.maximum.reduce,
    "min": np.minimum.reduce,
    "all": np.logical_and.reduce,
    "any": np.logical_or.reduce,
}
_ELEMENTWISE = {"matmul": np.matmul, "floor": np.floor, "ceil": np.ceil, "trunc": np.trunc}


def call_of(node: Node, arrays: list[Array]) -> Call:
    """Return a node as a function and its arguments, which writes to ``arrays[node.out]``."""
    args, kwargs = resolve(node.args, arrays), resolve(node.kwargs, arrays)
    name, out = node.name, arrays[node.out]
    function = _ELEMENTWISE.get(name, node.function)
    if name == "round" and out.dtype.kind == "f":  # an integer's would become a float
        function = np.rint
    if node.kind == "check":
        return _check, (*args, node.origin)
    if function is np.matmul and not kwargs and [a.ndim for a in (*args, out)] == [2, 2, 2]:
        return _product(args[0], args[1], out)
    if node.kind == "mutate" or (isinstance(function, np.ufunc) and not kwargs):
        if function in (np.maximum, np.minimum):  # for them, NumPy deprecated out by position
            # their vector loops need two arrays: with a number they take twice the time
            full = (a if isinstance(a, np.ndarray) else np.full_like(out, a) for a in args)
            return partial(function, out=out), tuple(full)
        return function, (*_as_arrays(function, args), out)
    if name in _REDUCTIONS and len(args) == 1 and kwargs.keys() <= {"axis", "keepdims"}:
        axis, keepdims = kwargs.get("axis"), kwargs.get("keepdims", False)
        return _REDUCTIONS[name], (args[0], axis, None, out, keepdims)
    if name == "take" and len(args) == 2 and getattr(args[1], "dtype", None) == np.int64:
        return take, (*args, kwargs.get("axis"), out)
    if name == "argmax" and len(args) == 1 and kwargs.keys() == {"axis"}:
        return args[0].argmax, (kwargs["axis"], out)
    if name == "astype":
        return np.copyto, (out, args[0], "unsafe")
    if name == "concat":
        return np.concatenate, (args[0], kwargs.get("axis", 0), out)
    if name == "where" and len(args) == 3:
        return _where_call(out, *args)
    return _assign, (out, function, args, kwargs)


def _as_arrays(function: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return operands with 0-d arrays in place of numbers, so that no step has to convert them.

    A number takes the dtype of the arrays beside it, so these must agree. NumPy's power is left as
    it is: it gives other bits for an exponent that is a number than for one that is an array.
    """
    dtypes = {a.dtype for a in args if isinstance(a, np.ndarray)}
    if len(dtypes) != 1 or function is np.power:
        return args
    (dtype,) = dtypes
    if dtype.kind != "f":
        return args
    return tuple(np.array(a, dtype) if type(a) in (int, float) else a for a in args)


# on some processors OpenBLAS has faster kernels, which don't pack their operands first, for
# products of at most this many multiplications
SMALL_PRODUCT = 1_000_000
# each block reads the whole other operand; with fewer rows, that would be most of its work
_LEAST_ROWS = 32
_TRIALS = 5


def _product(a: Array, b: Array, out: Array) -> Call:
    """Return a matrix product, by blocks of rows where that is faster and changes no bit.

    A row of the product is the same sums whether it is computed with all others or in a block, but
    the BLAS may add them up in another order. So `_blocks_are_better` tries it out.
    """
    rows = SMALL_PRODUCT // max(b.size, 1)
    count = -(-len(a) // max(rows, 1))
    orders = orders_of(a, b)
    packed = all(map(is_packed, (a, b))) and out.flags.c_contiguous
    if not packed or min(*a.shape, *b.shape) < 2:
        return np.matmul, (a, b, out)
    few = rows < _LEAST_ROWS or count < 2
    if few or not _blocks_are_better((*a.shape, b.shape[1]), out.dtype, orders, count):
        # for matrices, dot calls the same routine of the BLAS and takes half a microsecond less
        return np.dot, (a, b, out)
    return _by_blocks, (_row_blocks(a, out, count), b)


def _row_blocks(a: Array, out: Array, count: int) -> list[tuple[Array, Array]]:
    return [(a[i:j], out[i:j]) for i, j in even_cuts(len(a), count)]


def even_cuts(length: int, count: int) -> Iterable[tuple[int, int]]:
    """Return beginning and end of each of `count` nearly equal pieces of a length."""
    return itertools.pairwise(length * i // count for i in range(count + 1))


def _by_blocks(blocks: list[tuple[Array, Array]], b: Array) -> None:
    for a, out in blocks:
        np.matmul(a, b, out)


@functools.cache
def _blocks_are_better(
    shape: tuple[int, int, int], dtype: Any, orders: tuple[str, ...], count: int
) -> bool:
    """Return whether this BLAS is faster by blocks of rows, and gives the same bits.

    It is tried out with random numbers. Measured times differ from process to process, but never
    change a result, because blocks are used only if the bits are the same.
    """
    a, b = trial_operands(shape, dtype, orders)
    whole, blocks = (np.empty((shape[0], shape[2]), dtype) for _ in range(2))
    alike = True
    # the small scale makes products underflow, to zeros of either sign
    for scale in (1e-3 * math.sqrt(np.finfo(dtype).tiny), 1.0):
        np.matmul(a * scale, b * scale, whole)
        _by_blocks(_row_blocks(a * scale, blocks, count), b * scale)
        alike = alike and whole.tobytes() == blocks.tobytes()
    calls = (
        partial(np.matmul, a, b, whole),
        partial(_by_blocks, _row_blocks(a, blocks, count), b),
    )
    times: list[list[float]] = [[], []]
    for _ in range(_TRIALS):
        for call, seconds in zip(calls, times, strict=True):
            begun = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - begun)
    return alike and min(times[1]) < 0.95 * min(times[0])


def trial_operands(
    shape: tuple[int, int, int], dtype: Any, orders: tuple[str, ...]
) -> tuple[Array, Array]:
    """Return two matrices of random numbers, in order C or F, whose product is tried out."""
    m, k, n = shape
    stream = np.random.RandomState(0)
    a, b = (
        stream.standard_normal(size).astype(dtype, order="F" if order == "F" else "C")
        for size, order in zip(((m, k), (k, n)), orders, strict=True)
    )
    return a, b


def orders_of(*arrays: Array) -> tuple[str, ...]:
    """Return the order of the axes of each array: C, or F."""
    return tuple("C" if array.flags.c_contiguous else "F" for array in arrays)


def _where_call(out: Array, condition: Any, x: Any, y: Any) -> Call:
    """Return ``where``, computed on the bits of its operands if all arrays have the same layout.

    NumPy's own takes a branch for each element. With the bits as integers there is none:
    ``y + (x - y) * condition`` is exact, because integers wrap around. If `y` is a number whose
    bits are all zero, ``x * condition`` is enough.
    """
    bits = {4: np.int32, 8: np.int64}.get(out.itemsize)
    choices = [v if isinstance(v, np.ndarray) else np.full_like(out, v) for v in (x, y)]
    alike = [(a.shape, a.strides) == (out.shape, out.strides) for a in choices]
    if (
        bits is None
        or not all(alike)
        or any(choice.dtype != out.dtype for choice in choices)
        or not isinstance(condition, np.ndarray)
        or condition.dtype != bool
        or condition.shape != out.shape
    ):
        return _assign, (out, np.where, (condition, x, y), {})
    one, other = (choice.view(bits) for choice in choices)
    if not isinstance(y, np.ndarray) and not other.any():
        return np.multiply, (one, condition, out.view(bits))
    return _select, (out.view(bits), condition, one, other, np.empty_like(out, bits))


def _select(out: Array, condition: Array, x: Array, y: Array, difference: Array) -> None:
    np.subtract(x, y, difference)
    np.multiply(difference, condition, difference)
    np.add(y, difference, out)


def take(x: Array, indices: Array, axis: int | None, out: Array) -> None:
    """Take from `x` as NumPy does, but straight into `out` unless an index is out of bounds.

    NumPy's mode "raise" fills a copy first, so that `out` isn't half written if it raises. The mode
    "clip" doesn't, and clips nothing here.
    """
    count = x.size if axis is None else x.shape[axis]
    # as an unsigned integer, a negative index is larger than any count
    if indices.size and indices.view(np.uint64).max() >= count:
        out[...] = x.take(indices, axis)
    else:
        x.take(indices, axis, out, "clip")


def _check(array: Array, expected: bool, origin: Origin | None) -> None:
    if bool(array) is not expected:
        raise CheckError(origin)


def _assign(
    out: Array, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    result = function(*args, **kwargs)
    if np.shape(result) != out.shape:
        raise ValueError(
            f"an operation must return shape {out.shape} again, got {np.shape(result)}"
        )
    out[...] = result
