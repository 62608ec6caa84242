"""Images, whose values have eight bits: products that are two exact ones, not three.

A pixel is ``p / 255`` rounded to float32, p from 0 to 255: a multiple of 2^-31, which leaves some
14 of a product's 53 bits to the other operand. But what is cut off from that need not meet pixels
of 31 bits. `SLOPE` p, of eight, is within 2^-33 p of them, as near as the precision "training" asks
for, and leaves to the rest of the other operand all the bits it needs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

from xpnn.reproducible import cuts
from xpnn.reproducible.array import Array
from xpnn.reproducible.exact import product_of

Raw = Any

LEVELS = 255
GRID = 2.0**-31
# p / 255 repeats the byte p. Three times give 24 bits; what rounding adds to these is 2^-31 q, with
# q the greatest power of two <= p, so it is between 2^-32 p and 2^-31 p
SLOPE = 2.0**-8 + 2.0**-16 + 2.0**-24 + 1.5 * 2.0**-32
NEAR = 2.0**-33
# of the other operand: q is its unit, and its rest has 32
_BITS = (0, 31)
# S of `product` is at most _MOST, so rounding makes less than _SLACK of a slice
_MOST = 1024.0
_SLACK = 1.0 + 2.0**-12

# values that are looked at at a time
_CHUNK = 1 << 22


class Pixels(NamedTuple):
    """What is known of all images of a data set."""

    most: int  # that the levels of one add up to
    highest: int  # level


def find_pixels(raw: Raw, xp: Any) -> Pixels | None:
    """Return what is known of a matrix of pixels, or None if it isn't one."""
    step = max(1, _CHUNK // max(raw.shape[1], 1))
    parts = []
    for start in range(0, raw.shape[0], step):
        x = cuts.double(raw[start : min(start + step, raw.shape[0]), :], xp)
        levels = levels_of(x, xp)
        good = (levels >= 0) & (levels <= LEVELS) & (xp.abs(x - levels * SLOPE) <= levels * NEAR)
        whole = x * (1.0 / GRID)
        if not bool(xp.all(good & (whole == xp.floor(whole)))):
            return None
        if x.shape[1]:
            parts.append(Pixels(int(xp.max(xp.sum(levels, axis=1))), int(xp.max(levels))))
    return brightest(parts) if parts else None


def brightest(parts: Iterable[Pixels]) -> Pixels:
    """Return what is known of several parts of a data set together."""
    return Pixels(*map(max, zip(*parts, strict=True)))


def levels_of(x: Raw, xp: Any) -> Raw:
    """Return p for each pixel of a float64 matrix."""
    return xp.round(x * float(LEVELS))


def product(a: Array, b: Array, xp: Any) -> tuple[Raw, int, Raw | None] | None:
    """Return ``a @ b`` in float64, its ``low``, and which columns of it are right; None if all are.

    The result is None if `a` isn't pixels or their transpose, or is too bright. A column of `b`
    that isn't finite, or is too large or too small, isn't right.

    Let |b| be the largest of a column, x the pixels of a row of `a`, as SLOPE p + e, and S what
    they may add up to. The head of the column is a multiple of q, the least power of two not
    below 2^-22 S |b| SLACK; so ``x @ head`` is a multiple of 2^-31 q, at most 2^53 of them, and
    exact. The rest is at most q/2 and a multiple of 2^-32 q, so ``p @ rest`` is exact too. What is
    left out is ``e @ rest``, |e| <= 2^-33 p, at most 2^-25 S q/2 < 2^-47 S^2 |b| SLACK, and 2^-7 of
    that by which the rest was rounded. So the error is 2^-40 K |a| |b| for the S allowed here,
    which depends on the images only by the highest level there is.
    """
    if b.high is not None or b.ndim != 2:
        return None
    found = _parts(a, xp)
    if found is None:
        return None
    x, levels, pixels = found
    largest = a.shape[-1] * pixels.highest * SLOPE
    allowed = min(largest, math.sqrt(126.5 * largest), _MOST)
    if (pixels.most * SLOPE if a.original is None else largest) > allowed:
        return None
    scale = 2.0**-22 * _SLACK * allowed
    parts, right = cuts.cut(b, -2, _BITS, xp, scale=scale), None
    if parts is None:
        parts, right = cuts.cut_where_usual(b, _BITS, scale, xp)
    head, rest = parts.slices
    result = product_of(x, head)
    less = product_of(levels, rest)
    less *= SLOPE
    result += less
    result += 0.0  # a sum of -0 is -0 or 0, as the BLAS likes
    return result, parts.low - 33, right


def _parts(a: Array, xp: Any) -> tuple[Raw, Raw, Pixels] | None:
    """Return pixels in float64 and their levels; of a transpose, transposed."""
    if a.original is not None:
        found = _parts(a.original, xp)
        if found is None:
            return None
        x, levels, pixels = found
        return xp.matrix_transpose(x), xp.matrix_transpose(levels), pixels
    if a.pixels is None:
        return None
    kept = cuts.kept_of(a)
    if "pixels" not in kept:
        x = cuts.double(a.raw, xp)
        kept["pixels"] = x, levels_of(x, xp)
    return *kept["pixels"], a.pixels
