"""Derivatives by finite differences, and how far off these may be."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Array = np.ndarray

# rounding errors that a value is granted, in units of its dtype's eps
ROUNDINGS = 64.0

# near eps^(1/3), where a central difference's truncation h² and its rounding eps / h are alike
_STEP = 2.0**-17

# how much shorter the steps are that tell a kink from a sharp bend
_SHORTER = 16.0

# by how much the differences of two steps may disagree, relative to the derivative, before the
# point counts as one near a kink; those of a smooth function disagree by the order of h²
_ROUGH = 1e-5


class Slopes(NamedTuple):
    """Derivatives along some entries of an array, by differences of two steps, h and 2 h.

    Where the function is smooth, the first differences of both steps agree to the order of h² and
    the second differences to that of h³. Where its slope jumps by j, at x or up to 2 h beside it,
    they disagree by j / 6 or more. Either way they disagree by more than the central difference is
    off, whose term of order h² is removed (Richardson). At a kink itself they disagree by j / 2, so
    that any derivative between the one-sided differences is allowed.
    """

    entry: Array  # index in the array, raveled
    x: Array
    low: Array  # the lesser of the one-sided differences
    high: Array
    central: Array
    error: Array  # how far a right derivative may be from `central`
    kink: Array  # whether the slope jumps
    bend: Array  # the second derivative

    def take(self, which: Array) -> Slopes:
        """Return those of some entries, given a truth for each."""
        return Slopes(*(field[which] for field in self))

    def expected(self, i: int) -> str:
        """Return in words what a derivative must be."""
        if self.kink[i]:
            return f"between {self.low[i]:.9g} and {self.high[i]:.9g}, the differences at a kink"
        return f"{self.central[i]:.9g} by finite differences"


# what a function changes by along each entry, given these and the steps
Change = Callable[[Array, Array], Array]


def slopes(change: Change, entry: Array, x: Array, size: Array) -> Slopes:
    """Return the slopes along those of the entries, at x, that have finite values.

    `size` is, for each entry, how large the numbers are that the function is computed from.
    """
    # powers of two, so that a step is exact where x has few digits
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
    # entries whose values aren't finite are left out later
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
