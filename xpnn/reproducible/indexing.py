"""Keys of arrays, as the standard has them: which elements they mean.

Integers, slices with a positive step, `newaxis` and the ellipsis are left to the library, which
gives a view. A negative step, which PyTorch doesn't have, and keys that are arrays are turned into
places, the positions of the elements in C order: NumPy finds them on the host, the same for every
library, and with an error where one is out of range.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

Raw = Any


def parts_of(key: Any) -> tuple[Any, ...]:
    """Return a key as a tuple."""
    return key if isinstance(key, tuple) else (key,)


def is_plain(key: tuple[Any, ...]) -> bool:
    """Return whether a library's own indexing knows the key, and gives a view."""
    for part in key:
        if isinstance(part, slice):
            if part.step is not None and operator.index(part.step) < 0:
                return False
        elif not (part is None or part is Ellipsis or _is_integer(part)):
            return False
    return True


def check_plain(key: tuple[Any, ...], shape: tuple[int, ...]) -> tuple[Any, ...]:
    """Return a plain key with Python's own integers.

    Raises
    ------
    IndexError
        If an integer is out of range, which JAX would take for the last one, or there are more
        indices than axes.
    """
    used = sum(part is not None and part is not Ellipsis for part in key)
    if used > len(shape) or sum(part is Ellipsis for part in key) > 1:
        raise IndexError(f"the key {key} doesn't fit an array of {len(shape)} axes")
    axis, result = 0, []
    for part in key:
        if part is Ellipsis:
            axis += len(shape) - used
        elif isinstance(part, slice):
            # array-api-strict takes no end beyond the axis
            start, stop, step = part.indices(shape[axis])
            part = slice(start, max(start, stop), step)
            axis += 1
        elif part is not None:
            part = operator.index(part)
            if not -shape[axis] <= part < shape[axis]:
                raise IndexError(f"index {part} is out of range for axis {axis} of {shape[axis]}")
            axis += 1
        result.append(part)
    # array-api-strict wants it said that there are more axes
    return tuple(result if Ellipsis in result else [*result, Ellipsis])


def _is_integer(part: Any) -> bool:
    return hasattr(part, "__index__") and not isinstance(part, (bool, np.bool_)) and (
        not hasattr(part, "dtype") or isinstance(part, np.integer)
    )  # fmt: skip


def places(key: tuple[Any, ...], shape: tuple[int, ...]) -> np.ndarray:
    """Return the positions, in C order, of the elements that a key of host arrays means."""
    grid = np.arange(int(np.prod(shape, dtype=np.int64)), dtype=np.int64).reshape(shape)
    for part in key:
        if isinstance(part, np.ndarray) and part.dtype.kind not in "biu":
            raise IndexError(f"an index array must have integers or truth values, not {part.dtype}")
        # NumPy takes uint64 modulo 2^64
        if isinstance(part, np.ndarray) and part.dtype == np.uint64 and (part >= 2**63).any():
            raise IndexError(f"index {part.max()} is out of range")
        if isinstance(part, (bool, float)):
            raise IndexError(f"{part!r} is no index")
    return np.asarray(grid[key])


def sources(found: np.ndarray, size: int) -> np.ndarray:
    """Return, for each of `size` elements, which of the new values it takes, or -1.

    Where a place is there twice, the last value counts, as in NumPy.
    """
    result = np.full(size, -1, dtype=np.int64)
    result[found.reshape(-1)] = np.arange(found.size, dtype=np.int64)
    return result
