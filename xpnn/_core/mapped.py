"""Rows of host arrays, in memory or mapped from files, as a device will hold them.

A mapped array is one that ``numpy.load(path, mmap_mode="r")`` or `numpy.memmap` made, or a view
of it. Its rows are read part by part, so that they are never all in memory. `SparseRows` are read
in the same way, so that they are never all dense.
"""

from __future__ import annotations

import functools
import math
import mmap
from collections.abc import Callable, Iterator
from typing import Any, TypeGuard

import numpy as np

from xpnn.errors import DataError, position

# all integers up to this one are exact in float64
EXACT = 2**53

# rows that are read at once: enough for a disk to be quick
BLOCK_BYTES = 1 << 19

_WINDOW = 1 << 21


class SparseRows:
    """A sparse matrix whose rows become dense when they are read.

    Parameters
    ----------
    matrix
        A CSR matrix or array of SciPy, of shape (n, features).
    """

    ndim = 2

    def __init__(self, matrix: Any) -> None:
        self.matrix = matrix
        self.shape: tuple[int, int] = matrix.shape
        self.dtype: np.dtype[Any] = matrix.dtype

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def size(self) -> int:
        """The number of values, zeros among them."""
        return self.shape[0] * self.shape[1]

    def __getitem__(self, rows: slice) -> np.ndarray:
        return self.matrix[rows].toarray()  # type: ignore[no-any-return]


def is_mapped(array: Any) -> TypeGuard[np.memmap[Any, Any]]:
    """Return whether rows of `array` are read part by part: mapped from a file, or sparse."""
    if isinstance(array, SparseRows):
        return True
    return isinstance(array, np.memmap) and getattr(array, "_mmap", None) is not None


def pixels_as_floats(pixels: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Return ``float32(pixels / 255)`` of unsigned bytes.

    It divides in float32, which is correctly rounded: for these 256 numerators, that gives the same
    as dividing in float64 and rounding.
    """
    result = np.empty(pixels.shape, np.float32) if out is None else out
    # in two passes: a division that also converts takes twice as long
    np.copyto(result, pixels)
    result /= np.float32(255)
    return result


def plain(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return a dtype that every library has for numbers of `dtype`, in native byte order."""
    if dtype.kind == "b" or (dtype.kind == "u" and dtype.itemsize > 1):
        # PyTorch can't take rows of wider unsigned integers
        return np.dtype(np.int64)
    return dtype.newbyteorder("=")


def blocks(
    array: np.ndarray, start: int = 0, stop: int | None = None
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (i, rows from i on) for parts of `array`, and release each one (see `_releaser`)."""
    release = _releaser(array)
    stop = len(array) if stop is None else min(stop, len(array))
    size = math.prod(array.shape[1:]) * array.dtype.itemsize
    step = max(1, BLOCK_BYTES // max(size, 1))
    for i in range(start, stop, step):
        end = min(i + step, stop)
        yield i, array[i:end]
        release(i, end)


def _releaser(array: np.ndarray) -> Callable[[int, int], None]:
    """Return ``release(i, j)``, which frees the memory of rows that were read.

    They can be read again. It does nothing for an array in memory.
    """
    # a copy-on-write mapping may have changes, which are nowhere else
    mapped = isinstance(array, np.memmap) and is_mapped(array) and array.mode != "c"
    if not mapped or not array.size or not hasattr(mmap, "MADV_DONTNEED"):
        return lambda i, j: None
    whole: Any = array._mmap  # type: ignore[attr-defined]
    base = np.frombuffer(whole, np.uint8).ctypes.data
    begin, end = np.lib.array_utils.byte_bounds(array[:1])
    span, stride = end - begin, array.strides[0]

    def release(i: int, j: int) -> None:
        ends = begin + i * stride, begin + (j - 1) * stride
        # reading a page may read its neighbours too, within an aligned window
        start = max(min(ends) // _WINDOW * _WINDOW, base)
        stop = min(-(-(max(ends) + span) // _WINDOW) * _WINDOW, base + len(whole))
        whole.madvise(mmap.MADV_DONTNEED, start - base, stop - start)

    return release


class Source:
    """A host array of one or two dimensions, whose rows are read in the dtype of the device.

    That is the run's dtype after a `transform` and for floats other than float32, float32 for these
    and for pixels, and that of `plain` for integers.

    Parameters
    ----------
    array
        In memory or mapped.
    dtype
        The run's dtype, "float32" or "float64".
    pixels
        Whether unsigned bytes are pixels (see `pixels_as_floats`).
    transform
        A function of rows, pixels as float32, that is applied before they are rounded to `dtype`.
    part
        The array's name in errors, "x" or "y".
    """

    def __init__(
        self,
        array: np.ndarray,
        dtype: str,
        *,
        pixels: bool = False,
        transform: Callable[[np.ndarray], np.ndarray] | None = None,
        part: str = "x",
    ) -> None:
        self.array, self.part = array, part
        self.pixels = pixels and array.dtype == np.uint8
        self.transform = transform
        self.dtype = np.dtype(np.float32) if self.pixels else plain(array.dtype)
        if transform is not None or (self.dtype.kind == "f" and self.dtype != np.float32):
            self.dtype = np.dtype(dtype)

    def __len__(self) -> int:
        return len(self.array)

    @property
    def row_bytes(self) -> int:
        """The most memory that a row takes, the same for runs of either dtype."""
        single = self.pixels or plain(self.array.dtype) == np.float32
        size = 4 if single and self.transform is None else 8
        return math.prod(self.array.shape[1:]) * size

    def buffer(self, rows: int) -> np.ndarray:
        """Return an array for this number of rows, of zeros: an unused part is harmless."""
        return np.zeros((rows, *self.array.shape[1:]), self.dtype)

    def read(self, start: int, stop: int, out: np.ndarray) -> None:
        """Copy rows to `out`, and release them (see `_releaser`).

        Raises
        ------
        DataError
            If a value is too large for the dtype.
        """
        for i, rows in blocks(self.array, start, stop):
            target = out[i - start : i - start + len(rows)]
            if self.pixels and self.transform is None:
                pixels_as_floats(rows, target)
                continue
            given = rows
            with np.errstate(over="ignore"):
                if self.transform is not None:
                    rows = self.transform(pixels_as_floats(rows) if self.pixels else rows)
                np.copyto(target, rows, casting="unsafe")
            if rows.dtype.kind == "f" and (rows is not given or rows.dtype != target.dtype):
                self._check(i, given, target)

    def _check(self, start: int, given: np.ndarray, rows: np.ndarray) -> None:
        """Raise if one of the values `given` has overflowed in `rows`."""
        finite = np.isfinite(rows)
        if not finite.all():
            index = tuple(int(i) for i in np.argwhere(~finite)[0])
            row, column = start + index[0], index[1] if len(index) > 1 else None
            change = "" if self.transform is None else ", normalized,"
            raise DataError(
                f"{given[index]}{change} is too large for {self.dtype}",
                part=self.part,
                row=row,
                column=column,
                place=position(self.part, row, column),
            )

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Return rows; a view if they are in memory and need no change."""
        part = self.array[start:stop]
        if not is_mapped(part) and part.dtype == self.dtype and self.transform is None:
            return part
        out = np.empty(part.shape, self.dtype)
        self.read(start, start + len(out), out)
        return out

    def values(self) -> Iterator[np.ndarray]:
        """Yield all values, part by part; for pixels, each value once and the brightest row."""
        if self.pixels and self.transform is None:
            levels, brightest = self._levels
            yield pixels_as_floats(levels[:, None])
            yield pixels_as_floats(brightest)
        else:
            for i, rows in blocks(self.array):
                yield self.rows(i, i + len(rows))

    @functools.cached_property
    def _levels(self) -> tuple[np.ndarray, np.ndarray]:
        """The different bytes in the array, and the row with the largest sum."""
        # cached: `values` is called several times
        found, brightest, most = np.zeros(256, bool), self.array[:1], -1
        for _, rows in blocks(self.array):
            found[rows] = True
            sums = rows.reshape(len(rows), -1).sum(axis=1, dtype=np.int64)
            if sums.max() > most:
                brightest, most = np.array(rows[[sums.argmax()]]), sums.max()
        return np.flatnonzero(found).astype(np.uint8), brightest
