"""Where the bits of arrays differ, and how far: `assert_same_bits`."""

from __future__ import annotations

from typing import Any

import array_api_compat
import numpy as np

from xpnn.backends import to_numpy

# bytes of the floats whose distance is known
_FLOATS = (2, 4, 8)
_ARRAY = "an array"


def assert_same_bits(actual: Any, expected: Any, err_msg: str = "") -> None:
    """Raise unless two arrays have the same shape, dtype and bits.

    They may belong to different libraries and devices. The two zeros differ; of NaN, one is as good
    as another, because the sign and the digits of a NaN depend on the processor. For comparisons
    with a tolerance there is `array_api_extra.testing`.

    Parameters
    ----------
    actual, expected
        Arrays of any library, Python numbers, or nests of them: lists, tuples and dictionaries,
        whose order doesn't count.
    err_msg
        What was computed; the message begins with it.

    Raises
    ------
    AssertionError
        If they differ. The message says how many elements do, by how many units in the last place
        (ulps), where the first of them is, and what it is in both arrays.

    Examples
    --------
    >>> from xpnn.testing import assert_same_bits
    >>> assert_same_bits(0.1 + 0.2, 0.3, "the sum")
    Traceback (most recent call last):
    AssertionError: the sum: actual is 0.30000000000000004, expected is 0.3, 1 ulp apart
    """
    __tracebackhide__ = True
    found = difference(actual, expected)
    if found is not None:
        raise AssertionError(f"{err_msg}: {found}" if err_msg else found)


def difference(
    actual: Any,
    expected: Any,
    names: tuple[str, str] = ("actual", "expected"),
    *,
    ulps: float = 0,
) -> str | None:
    """Return in words where two nests of arrays differ first; None if they don't.

    Parameters
    ----------
    actual, expected
        As for `assert_same_bits`.
    names
        What the message calls them.
    ulps
        The distance of floats, in units in the last place, up to which they don't differ.
    """
    return _nested(actual, expected, names, ulps, ())


def _nested(
    a: Any, b: Any, names: tuple[str, str], ulps: float, path: tuple[Any, ...]
) -> str | None:
    kinds, words = (_kind(a), _kind(b)), None
    if kinds[0] != kinds[1]:
        words = f"{names[0]} is {kinds[0]}, {names[1]} is {kinds[1]}"
    elif kinds[0] == _ARRAY:
        words = _difference(a, b, names, ulps)
    else:
        parts = [part if isinstance(part, dict) else dict(enumerate(part)) for part in (a, b)]
        if parts[0].keys() != parts[1].keys():
            has = [", ".join(map(repr, part)) or "none" for part in parts]
            words = f"{names[0]} has the parts {has[0]}, {names[1]} has {has[1]}"
        else:
            found = (
                _nested(one, parts[1][key], names, ulps, (*path, key))
                for key, one in parts[0].items()
            )
            return next((inner for inner in found if inner is not None), None)
    if words is None or not path:
        return words
    return f"part {'.'.join(map(str, path))}: {words}"


def _kind(tree: Any) -> str:
    if isinstance(tree, dict):
        return "a dictionary"
    return "a list" if isinstance(tree, (list, tuple)) else _ARRAY


def _difference(one: Any, other: Any, names: tuple[str, str], ulps: float) -> str | None:
    types = _is_short(one), _is_short(other)
    if types[0] != types[1]:
        dtypes = [getattr(array, "dtype", None) for array in (one, other)]
        return f"{names[0]} has dtype {dtypes[0]}, {names[1]} {dtypes[1]}"
    # from one bfloat16 to the next there are 2^16 float32
    unit = 2.0**16 if types[0] else 1.0
    a, b = (to_numpy(_lengthened(array) if types[0] else array) for array in (one, other))
    for what in ("shape", "dtype"):
        if getattr(a, what) != getattr(b, what):
            return f"{names[0]} has {what} {getattr(a, what)}, {names[1]} {getattr(b, what)}"
    apart, indices = distances(a, b) / unit, differing(a, b, ulps * unit)
    if not len(indices):
        return None
    first = tuple(indices[0].tolist())
    words = f"{names[0]} is {a[first]!s}, {names[1]} is {b[first]!s}"
    # the two zeros are 0 apart
    if 0.0 < apart[first] < np.inf:
        words += f", {_counted(apart[first])} apart"
    if not a.ndim:
        return words
    words += f", at [{', '.join(map(str, first))}]; {len(indices)} of {a.size} elements "
    words += "differs" if len(indices) == 1 else "differ"
    largest = apart.max()
    return words + (f", by at most {_counted(largest)}" if 0.0 < largest < np.inf else "")


def _is_short(array: Any) -> bool:
    """Return whether the dtype is bfloat16, which NumPy doesn't have."""
    return str(getattr(array, "dtype", "")).endswith("bfloat16")


def _lengthened(array: Any) -> Any:
    """Return an array of bfloat16 in float32, which has all its numbers."""
    xp = array_api_compat.array_namespace(array)
    return xp.astype(array, xp.float32)


def _counted(ulps: float) -> str:
    return "1 ulp" if ulps == 1 else f"{ulps:.6g} ulps"


def differing(a: np.ndarray, b: np.ndarray, ulps: float) -> np.ndarray:
    """Return the indices at which two arrays of one shape and dtype differ, one a row."""
    apart = distances(a, b)
    differs = apart > ulps
    if ulps == 0 and a.dtype.kind in "fc":
        # the two zeros
        for one, other in zip(_parts(a), _parts(b), strict=True):
            differs |= (apart == 0) & (one == 0) & (np.signbit(one) != np.signbit(other))
    return np.argwhere(differs)


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return how far the elements of two arrays of one shape and dtype are apart, in ulps.

    It is the number of steps from one float to the next, so 0 for the two zeros, and infinite
    where only one is NaN or infinite. The distance of a complex number is that of its worse part,
    and elements of another dtype are 0 or infinitely far apart.
    """
    parts = zip(_parts(a), _parts(b), strict=True)
    return np.asarray(np.maximum.reduce([_distances(*pair) for pair in parts]))


def _parts(a: np.ndarray) -> tuple[np.ndarray, ...]:
    return (a.real, a.imag) if a.dtype.kind == "c" else (a,)


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        far = np.where((a == b) | ((a != a) & (b != b)), 0.0, np.inf)
    if a.dtype.kind != "f" or a.dtype.itemsize not in _FLOATS:
        return far
    p, q = _ordered(a), _ordered(b)
    steps = np.where(p > q, p - q, q - p).astype(np.float64)
    return np.where(np.isfinite(a) & np.isfinite(b), steps, far)


def _ordered(a: np.ndarray) -> np.ndarray:
    """Return whole numbers in the order of floats, equal for the two zeros."""
    bits = np.array(a, dtype=a.dtype.newbyteorder("="), order="C").view(f"u{a.dtype.itemsize}")
    zero = 1 << (8 * a.dtype.itemsize - 1)
    return np.where(bits >= zero, zero - (bits & (zero - 1)), zero + (bits & (zero - 1)))
