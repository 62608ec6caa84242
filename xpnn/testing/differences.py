"""Derivatives by finite differences, and bounds of their errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Array = np.ndarray

# rounding errors that a value may have, in units of its dtype's eps
ROUNDINGS = 64.0

# near eps^(1/3), where a central difference's truncation h² is about its rounding eps / h
_STEP = 2.0**-17

# how much shorter the steps are that distinguish a kink from a sharp bend
_SHORTER = 16.0

# how much the differences of two steps may disagree, relative to the derivative, until the point
# counts as near a kink; those of a smooth function disagree by the order of h²
_ROUGH = 1e-5


class Slopes(NamedTuple):
    """Derivatives along some entries of an array, by differences of two steps, h and 2 h.

    Where the function is smooth, the first differences of both steps agree to the order of h² and
    the second differences to that of h³. Where its slope jumps by j, at x or up to 2 h beside it,
    they disagree by j / 6 or more. In both cases they disagree by more than the error of the
    central difference, whose term of order h² is removed (Richardson). At a kink they disagree by
    j / 2, so that any derivative between the one-sided differences is allowed.
    """

    entry: Array  # index in the array, raveled
    x: Array
    low: Array  # the smaller of the one-sided differences
    high: Array
    central: Array
    error: Array  # how far a right derivative may be from `central`
    kink: Array  # whether the slope jumps
    bend: Array  # the second derivative

    def take(self, which: Array) -> Slopes:
        """Return those of the entries where `which` is true."""
        return Slopes(*(field[which] for field in self))

    def expected(self, i: int) -> str:
        """Return what the i-th derivative must be, in words."""
        if self.kink[i]:
            return f"between {self.low[i]:.9g} and {self.high[i]:.9g}, the differences at a kink"
        return f"{self.central[i]:.9g} by finite differences"


# from entries and steps: how much the value changes by each step along each entry
Change = Callable[[Array, Array], Array]


def slopes(change: Change, entry: Array, x: Array, size: Array) -> Slopes:
    """Return the slopes at x along those entries where the values are finite.

    `size` is the magnitude of the numbers that the function is computed from, for each entry.
    """
    # powers of two, so that x + h is exact where x has few digits
    h = _STEP * np.exp2(np.round(np.log2(np.maximum(np.abs(x), 1.0)) / 2.0))
    found = _slopes(change, entry, x, size, h)
    (at,) = np.nonzero(found.kink)
    if at.size:
        finer = _slopes(change, entry[at], x[at], size[at], h[at] / _SHORTER)
        # at a kink, shorter steps disagree as much
        smooth = ~finer.kink | (4.0 * finer.error < found.error[at])
        for whole, part in zip(found, finer, strict=True):
            whole[at[smooth]] = part[smooth]
        found.kink[at[smooth]] = False
    return found.take(np.isfinite(found.central))


def _slopes(change: Change, entry: Array, x: Array, size: Array, h: Array) -> Slopes:
    # `slopes` drops entries whose values aren't finite
    with np.errstate(invalid="ignore"):
        far_before, before, after, far_after = (change(entry, k * h) for k in (-2, -1, 1, 2))
        low, high = np.sort([-before / h, after / h], axis=0)
        near, far = (after - before) / (2.0 * h), (far_after - far_before) / (4.0 * h)
        bend, far_bend = (after + before) / h, (far_after + far_before) / (4.0 * h)
        disagreement = np.abs(bend - far_bend) + np.abs(near - far)
        rounding = ROUNDINGS * np.finfo(np.float64).eps * (size + np.abs(x * near)) / h
        kink = disagreement > 4.0 * rounding + _ROUGH * (size + np.abs(near) + np.abs(far))
        central, error = near + (near - far) / 3.0, disagreement + rounding
    return Slopes(entry, x, low, high, central, error, kink, bend / h)
