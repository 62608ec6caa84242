"""Where the bits of arrays differ, and how far: `assert_same_bits`."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnn._core.tree import paths
from xpnn.backends import to_numpy

# bytes of the floats whose distance is known
_FLOATS = (2, 4, 8)


def assert_same_bits(actual: Any, expected: Any, err_msg: str = "") -> None:
    """Raise unless two arrays have the same shape, dtype and bits.

    They may belong to different libraries and devices. The two zeros differ; of NaN, one is as good
    as another, because the sign and the digits of a NaN depend on the processor. For comparisons
    with a tolerance there is `array_api_extra.testing`.

    Parameters
    ----------
    actual, expected
        Arrays of any library, Python numbers, or nests of them: lists, tuples and dictionaries.
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
    both = paths(actual), paths(expected)
    if list(both[0]) != list(both[1]):
        parts = (", ".join(map(repr, found)) for found in both)
        return f"{names[0]} has the parts {next(parts)}, {names[1]} has {next(parts)}"
    for path, one in both[0].items():
        words = _difference(to_numpy(one), to_numpy(both[1][path]), names, ulps)
        if words is not None:
            return f"part {path}: {words}" if path else words
    return None


def _difference(a: np.ndarray, b: np.ndarray, names: tuple[str, str], ulps: float) -> str | None:
    for what in ("shape", "dtype"):
        if getattr(a, what) != getattr(b, what):
            return f"{names[0]} has {what} {getattr(a, what)}, {names[1]} {getattr(b, what)}"
    apart, indices = distances(a, b), differing(a, b, ulps)
    if not len(indices):
        return None
    first = tuple(indices[0].tolist())
    words = f"{names[0]} is {a[first]!s}, {names[1]} is {b[first]!s}"
    if np.isfinite(apart[first]):
        words += f", {_counted(apart[first])} apart"
    if not a.ndim:
        return words
    words += f", at [{', '.join(map(str, first))}]; {len(indices)} of {a.size} elements "
    words += "differs" if len(indices) == 1 else "differ"
    largest = apart.max()
    return words + (f", by at most {_counted(largest)}" if np.isfinite(largest) else "")


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
