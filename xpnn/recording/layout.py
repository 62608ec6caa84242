"""How arrays lie in memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Array = np.ndarray


def is_packed(array: Array) -> bool:
    """Return whether an array has no gaps and no reversed axis."""
    return (
        all(
            stride == packed or length == 1
            for stride, packed, length in zip(
                array.strides, packed(array), array.shape, strict=True
            )
        )
        or not array.size
    )


def order(array: Array) -> list[int]:
    """Return the axes in their order in memory, the innermost first."""
    return sorted(range(array.ndim), key=lambda k: (abs(array.strides[k]), -k))


def packed(like: Array) -> tuple[int, ...]:
    """Return the strides of an array of the shape and the order of axes of `like`, no gaps."""
    strides, step = [0] * like.ndim, like.itemsize
    for axis in order(like):
        strides[axis] = step
        step *= like.shape[axis]
    return tuple(strides)


def aligned(size: int) -> Array:
    """Return memory of `size` bytes that begins with a line of the cache."""
    raw = np.empty(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size]


def adjoining(arrays: Sequence[Array]) -> Array | None:
    """Return the block that `arrays` are the parts of, one after the other, None if of none."""
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
