"""Threads for the large operations of a program, on the CPU.

With OpenBLAS, which NumPy's wheels for Linux and Windows have, a program's products are those of
one thread, whatever the machine has: how a BLAS cuts a product for its threads may change the order
in which it adds, hence bits. A large product is given to OpenBLAS's threads as blocks of rows, each
a product by itself, in one call (``gemm_batch``). It is tried out that no bit changes.
An elementwise operation on megabytes is cut into rows for a pool of Python's threads.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

from xpnn._core.cores import cores
from xpnn.recording.calls import (
    SMALL_PRODUCT,
    Call,
    call_of,
    even_cuts,
    orders_of,
    trial_operands,
)
from xpnn.recording.layout import is_packed
from xpnn.recording.nodes import Node

Array = np.ndarray

# bytes of an element times multiplications, from which on a product is worth to be shared
_LEAST_PRODUCT = 8_000_000
# bytes of the result of an elementwise operation that are worth waking up a thread, and how many
# times those of an operation count that takes longer
_LEAST_BYTES = 1 << 23
_COST: dict[Any, int] = dict.fromkeys(
    (np.exp, np.expm1, np.log, np.log1p, np.power, np.tanh, np.sinh, np.cosh), 4
)
# Rows that OpenBLAS's kernels take at a time, or a multiple of them: a block that ends elsewhere
# has other kernels at its edge than the whole, which may add up in another order
_ROWS_AT_A_TIME = 24
# names in the C interface of the BLAS
_BY_ROWS, _AS_IT_IS, _TRANSPOSED = 101, 111, 112


class _Blas:
    """OpenBLAS, and its number of threads, which is one for all of the process.

    Where NumPy has another BLAS, that one does as it likes, and there is nothing to share.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._within = 0  # how many are within `on_one_thread`
        self._before: list[int] = []

    @functools.cached_property
    def _libraries(self) -> list[Any]:
        return list(ThreadpoolController().select(internal_api="openblas").lib_controllers)

    @contextlib.contextmanager
    def on_one_thread(self) -> Iterator[None]:
        """Use one thread within a block."""
        with self._lock:
            if not self._within:
                self._before = [library.num_threads for library in self._libraries]
                self._set([1] * len(self._before))
            self._within += 1
        try:
            yield
        finally:
            with self._lock:
                self._within -= 1
                if not self._within:
                    self._set(self._before)

    def several(self) -> int:
        """Return how many threads a program may use: not more than set by the user, or cores."""
        return min([cores(), *self._before]) if self._before else 1

    @contextlib.contextmanager
    def lent(self) -> Iterator[bool]:
        """Have the threads within a block; False if others are `on_one_thread` meanwhile."""
        with self._lock:
            yield self._within == 1

    def _set(self, counts: list[int]) -> None:
        for library, count in zip(self._libraries, counts, strict=True):
            library.set_num_threads(count)

    @functools.cached_property
    def batches(self) -> dict[Any, tuple[Any, Any, Any]]:
        """By dtype: OpenBLAS's products in one call, its type of integers, and the library.

        Empty for an OpenBLAS before 0.3.29.
        """
        for library in self._libraries:
            names = ctypes.CDLL(library.filepath)
            for prefix, suffix in itertools.product(("scipy_", ""), ("64_", "")):
                integers = ctypes.c_int64 if suffix else ctypes.c_int32
                with contextlib.suppress(AttributeError):
                    return {
                        np.dtype(dtype): (
                            getattr(names, f"{prefix}cblas_{letter}gemm_batch{suffix}"),
                            integers,
                            library,
                        )
                        for dtype, letter in (("float32", "s"), ("float64", "d"))
                    }
        return {}


blas = _Blas()


def shared(node: Node, arrays: list[Array], threads: int) -> Call | None:
    """Return the call of a node for several threads, None if it isn't worth it or changes bits."""
    out = arrays[node.out]
    if node.kind not in ("call", "piece", "mutate") or node.kwargs or not out.flags.c_contiguous:
        return None
    if node.name == "matmul" or node.function is np.matmul:
        a, b = (arrays[k] for k in node.refs)
        return _shared_product(a, b, out, threads)
    if out.nbytes * _COST.get(node.function, 1) >= _LEAST_BYTES and _has_rows(node, arrays):
        rows = {k for k in (node.out, *node.refs) if arrays[k].shape[:1] == out.shape[:1]}
        rows -= {k for k in node.refs if arrays[k].ndim < out.ndim}
        parts = [
            call_of(node, [a[begin:end] if k in rows else a for k, a in enumerate(arrays)])
            for begin, end in even_cuts(len(out), threads)
        ]
        return _share, (_pool(os.getpid(), threads - 1), parts)
    return None


def _shared_product(a: Array, b: Array, out: Array, threads: int) -> Call | None:
    """Return a product as one of blocks of rows, each on a thread of OpenBLAS."""
    if [a.ndim, b.ndim, out.ndim] != [2, 2, 2] or out.dtype not in blas.batches:
        return None
    multiplications = a.size * b.shape[1]
    # The kernels for small products add up in another order than those for large ones, and fail in
    # a batch. The smallest block has half of the rows of an even one, or more.
    most = min(len(a) // (2 * _ROWS_AT_A_TIME), (multiplications - 1) // (2 * SMALL_PRODUCT))
    count = min(threads, most)
    if (
        count < 2
        or multiplications * out.itemsize < _LEAST_PRODUCT
        or min(*b.shape, a.shape[1]) < 2
    ):
        return None
    if not is_packed(a) or not is_packed(b) or np.may_share_memory(a, b):
        return None
    shape = (*a.shape, b.shape[1])
    if not _are_equal(shape, out.dtype, orders_of(a, b), count):
        return None
    return _batch(_blocks(a, out, count), b)


def _blocks(a: Array, out: Array, count: int) -> list[tuple[Array, Array]]:
    """Return `count` blocks of the rows of `a` and of `out`, nearly equal ones."""
    edges = [round(len(a) * i / count / _ROWS_AT_A_TIME) * _ROWS_AT_A_TIME for i in range(count)]
    return [(a[i:j], out[i:j]) for i, j in itertools.pairwise([*edges, len(a)])]


def _batch(blocks: list[tuple[Array, Array]], b: Array) -> Call:
    """Return the call that multiplies each block of rows with `b`, each on a thread of its own."""
    count, out = len(blocks), blocks[0][1]
    function, integers, library = blas.batches[out.dtype]
    real = np.ctypeslib.as_ctypes_type(out.dtype)

    def each(kind: Any, values: list[Any]) -> Any:
        return (kind * count)(*values)

    def place(arrays: list[Array]) -> tuple[Any, Any, Any]:
        """Return whether they are transposed, where they are, and their rows' distances."""
        plain = [array.strides[1] == array.itemsize for array in arrays]
        distances = [
            a.strides[0 if is_plain else 1] // a.itemsize
            for a, is_plain in zip(arrays, plain, strict=True)
        ]
        return (
            each(ctypes.c_int, [_AS_IT_IS if is_plain else _TRANSPOSED for is_plain in plain]),
            each(ctypes.c_void_p, [array.ctypes.data for array in arrays]),
            each(integers, distances),
        )

    (a_form, a_place, a_step), (b_form, b_place, b_step), (_, out_place, out_step) = map(
        place, ([a for a, _ in blocks], [b] * count, [out for _, out in blocks])
    )
    args = (
        *(ctypes.c_int(_BY_ROWS), a_form, b_form),
        each(integers, [len(a) for a, _ in blocks]),
        *(each(integers, [size] * count) for size in (b.shape[1], len(b))),
        *(each(real, [1] * count), a_place, a_step, b_place, b_step),
        *(each(real, [0] * count), out_place, out_step),
        *(integers(count), each(integers, [1] * count)),
    )
    return _on_threads, (library.set_num_threads, count, function, args)


def _on_threads(
    set_threads: Callable[[int], None], count: int, function: Any, args: tuple[Any, ...]
) -> None:
    set_threads(count)
    function(*args)
    set_threads(1)


@functools.cache
def _are_equal(
    shape: tuple[int, int, int], dtype: Any, orders: tuple[str, ...], count: int
) -> bool:
    """Return whether a product by blocks of rows has the same bits, tried with random numbers."""
    a, b = trial_operands(shape, dtype, orders)
    whole, blocks = (np.empty((shape[0], shape[2]), dtype) for _ in range(2))
    function, args = _batch(_blocks(a, blocks, count), b)
    function(*args)
    np.matmul(a, b, whole)
    return whole.tobytes() == blocks.tobytes()


def _has_rows(node: Node, arrays: list[Array]) -> bool:
    """Return whether a row of an operation's result depends only on the operands' same rows."""
    out = arrays[node.out]
    if not node.is_elementwise("where", "astype"):
        return False
    for k in node.refs:
        operand = arrays[k]
        if operand.ndim == out.ndim and len(operand) not in (1, len(out)):
            return False
        apart = not np.may_share_memory(operand, out)
        if not apart and (operand.ctypes.data, operand.strides) != (out.ctypes.data, out.strides):
            return False
    return True


@functools.cache
def _pool(process: int, count: int) -> ThreadPoolExecutor:
    """Return the threads of a process: a fork of it has none of them."""
    return ThreadPoolExecutor(count, thread_name_prefix="xpnn-rows")


def _share(pool: ThreadPoolExecutor, parts: list[Call]) -> None:
    """Do the first part here, and each other one in the pool, or here too if none began it."""
    (function, args), *others = parts
    futures = [pool.submit(_quietly, *part) for part in others]
    function(*args)
    for future, (function, args) in zip(reversed(futures), reversed(others), strict=True):
        if future.cancel():
            function(*args)
        else:
            future.result()


@np.errstate(all="ignore")
def _quietly(function: Callable[..., object], args: tuple[Any, ...]) -> None:
    function(*args)
