"""Products of images, whose values have eight bits: two exact products instead of three.

A pixel is ``p / 255`` rounded to float32, with a level p of 0 to 255. It is a multiple of 2^-31,
which leaves some 14 of a product's 53 bits to the other operand. But the rest of that operand need
not be multiplied by all 31 bits of a pixel: ``SLOPE * p`` is within 2^-33 p of it, near enough for
the precision "training". So the rest is multiplied by p, which has only eight bits and leaves to
the rest all that it needs, and the result by SLOPE.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from xpnn.reproducible import cuts
from xpnn.reproducible.exact import exact_matmul
from xpnn.reproducible.facts import Pixels
from xpnn.reproducible.operand import Operand

Raw = Any

LEVELS = 255
GRID = 2.0**-31
# p / 255 repeats the byte p: three times, these are 24 bits. Rounding to float32 adds to them
# 2^-31 q, with q the greatest power of two <= p, which is between 2^-32 p and 2^-31 p.
SLOPE = 2.0**-8 + 2.0**-16 + 2.0**-24 + 1.5 * 2.0**-32
NEAR = 2.0**-33
# bits of the other operand's slices: the head is one quantum, and the rest has 32 bits
_BITS = (0, 31)
# S in `product` is at most _MOST, so rounding makes a slice larger by less than the factor _SLACK
_MOST = 1024.0
_SLACK = 1.0 + 2.0**-12

# how many elements `find_pixels` looks at at once, so that its copies stay small
_CHUNK = 1 << 22


def find_pixels(parts: Iterable[Raw], xp: Any) -> Pixels | None:
    """Return what is known of a data set that comes in parts; None if one isn't pixels.

    The parts are in float64, and each has at least one element.
    """
    known = []
    for raw in parts:
        if len(raw.shape) != 2:
            return None
        rows, columns = raw.shape
        step = max(1, _CHUNK // columns)
        for start in range(0, rows, step):
            x = raw[start : min(start + step, rows), :]
            levels = levels_of(x, xp)
            near = xp.abs(x - levels * SLOPE) <= levels * NEAR
            whole = x * (1.0 / GRID)
            good = (levels >= 0) & (levels <= LEVELS) & near & (whole == xp.floor(whole))
            if not bool(xp.all(good)):
                return None
            known.append(Pixels(int(xp.max(xp.sum(levels, axis=1))), int(xp.max(levels))))
    return Pixels(*map(max, zip(*known, strict=True)))


def levels_of(x: Raw, xp: Any) -> Raw:
    """Return the level p of each pixel of a float64 matrix."""
    return xp.round(x * float(LEVELS))


def product(a: Operand, b: Operand, xp: Any) -> tuple[Raw, int, Raw | None] | None:
    """Return ``a @ b`` in float64, its ``low``, and which columns are right (None if all are).

    A column is right if the same column of `b` is in the safe range. The result is None if `a`
    isn't pixels or their transpose, or is too bright.

    Notes
    -----
    Let |b| be the largest absolute value of a column, SLOPE p + e the pixels x of a row of `a`,
    and S a bound of their sum. The head of the column is a multiple of q, the least power of two
    not below 2^-22 S |b| SLACK. So ``x @ head`` is a multiple of 2^-31 q, at most 2^53 times as
    large, and exact. The rest is at most q/2 and a multiple of 2^-32 q, so ``p @ rest`` is exact
    too. Left out are ``e @ rest``, where |e| <= 2^-33 p, at most 2^-25 S q/2 < 2^-47 S^2 |b| SLACK,
    and 2^-7 of that, by which the rest was rounded. So the error is below 2^-40 K |a| |b| for every
    S that is allowed here. S depends on the images only by their highest level.
    """
    if b.facts.high is not None or b.ndim != 2:
        return None
    found = _parts(a, xp)
    if found is None:
        return None
    x, levels, pixels = found
    largest = a.shape[-1] * pixels.highest * SLOPE
    allowed = min(largest, math.sqrt(126.5 * largest), _MOST)
    # the sum of a row must be at most S; a transpose has no images in its rows, so only the highest
    # level bounds their sums
    if (pixels.most * SLOPE if a.original is None else largest) > allowed:
        return None
    scale = 2.0**-22 * _SLACK * allowed
    parts, right = cuts.cut(b, -2, _BITS, xp, scale=scale), None
    if parts is None:
        parts, right = cuts.cut_safe_columns(b, _BITS, scale, xp)
    head, rest = parts.slices
    result = exact_matmul(x, head)
    less = exact_matmul(levels, rest)
    less *= SLOPE
    result += less
    result += 0.0  # a sum of -0 is -0 or 0, depending on the BLAS
    return result, parts.low - 33, right


def _parts(a: Operand, xp: Any) -> tuple[Raw, Raw, Pixels] | None:
    """Return the pixels in float64, their levels and what is known of them; None if not pixels.

    If `a` is a transpose, pixels and levels are transposes of those that its original keeps.
    """
    original = a.original
    if original is not None:
        found = _parts(original, xp)
        if found is None:
            return None
        x, levels, pixels = found
        return xp.matrix_transpose(x), xp.matrix_transpose(levels), pixels
    if a.facts.pixels is None:
        return None

    def compute() -> tuple[Raw, Raw]:
        x = cuts.double(a.raw, xp)
        return x, levels_of(x, xp)

    return *a.keep(("pixels",), compute), a.facts.pixels
