"""How arrays lie in memory: packed or with gaps, in which order of axes, side by side or apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Array = np.ndarray

# bytes in a line of the cache, on x86 and most ARM processors
_CACHE_LINE = 64


def is_packed(array: Array) -> bool:
    """Return whether an array has neither gaps between its elements nor a reversed axis."""
    axes = zip(array.strides, packed(array), array.shape, strict=True)
    return not array.size or all(one == other or length == 1 for one, other, length in axes)


def order(array: Array) -> list[int]:
    """Return the axes in their order in memory, the innermost first."""
    return sorted(range(array.ndim), key=lambda k: (abs(array.strides[k]), -k))


def packed(like: Array) -> tuple[int, ...]:
    """Return the strides of an array without gaps, of the shape and order of axes of `like`."""
    strides, step = [0] * like.ndim, like.itemsize
    for axis in order(like):
        strides[axis] = step
        step *= like.shape[axis]
    return tuple(strides)


def aligned(size: int) -> Array:
    """Return `size` bytes of memory that begin where a line of the cache does."""
    raw = np.empty(size + _CACHE_LINE, np.uint8)
    start = -raw.ctypes.data % _CACHE_LINE
    return raw[start : start + size]


def adjoining(arrays: Sequence[Array]) -> Array | None:
    """Return the block of memory that `arrays` fill one after the other, None if they don't."""
    base, dtype = arrays[0].base, arrays[0].dtype
    if not isinstance(base, np.ndarray) or not base.flags.c_contiguous:
        return None
    begin = end = arrays[0].ctypes.data
    for array in arrays:
        alike = array.base is base and array.dtype == dtype and array.flags.c_contiguous
        if not alike or array.ctypes.data != end:
            return None
        end += array.nbytes
    size, offset = (end - begin) // dtype.itemsize, begin - base.ctypes.data
    return np.ndarray(size, dtype, base, offset)
