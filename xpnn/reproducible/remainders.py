"""Remainders of floats without an error, whatever the quotient."""

from __future__ import annotations

import math
from typing import Any

from xpnn.reproducible.exact import two_product

Raw = Any

# bits of the quotient that a step removes
_STEP = 50


def remainder(x: Raw, y: Raw, xp: Any) -> Raw:
    """Return x - floor(x/y) y for float64 arrays, with the sign of `y`.

    It is exact, but for the last sum where the signs differ, which is rounded once. NaN where `x`
    is infinite or `y` is 0. Synchronises, to see how large the quotients are.

    Notes
    -----
    With a = |x| and b = |y|, this is long division: for n = .., 2, 1, 0, the multiple
    q b 2^(50 n) is taken from a, where q is the quotient rounded down, a whole number below 2^51.
    The quotient may be rounded up to a whole number, so that the rest is negative; then one
    multiple is given back. `two_product` gives q b as two numbers. The first is within a factor of
    two of the rest, so the difference is exact (Sterbenz). The rest has no bit below the last one
    of x or b and is smaller than b 2^(50 n), so it is a float64.
    """
    a, b = xp.abs(x), xp.abs(y)
    good = (a < math.inf) & (b > 0.0)
    infinite = b == math.inf
    rest = xp.where(good, a, 0.0)
    divisor = xp.where(good & ~infinite, b, 1.0)
    top = 0
    while bool(xp.any(_times(divisor, _STEP * (top + 1), xp) <= xp.where(infinite, 0.0, rest))):
        top += 1
    for n in range(top, -1, -1):
        part = _times(divisor, _STEP * n, xp)
        fits = (part <= rest) & (part < math.inf) & ~infinite
        part = xp.where(fits, part, 1.0)
        # far from the end of the range, so that nothing in `two_product` overflows
        scale = xp.where(part > 2.0**900, 2.0**-200, xp.ones_like(part))
        part, whole = part * scale, xp.where(fits, rest, 0.0) * scale
        quotient = xp.floor(whole / part)
        product, error = two_product(quotient, part)
        left = (whole - product) - error
        left = xp.where(left < 0.0, left + part, left)
        left = xp.where(left >= part, left - part, left)
        rest = xp.where(fits, left / scale, rest)
    differ = (rest > 0.0) & ((x < 0.0) != (y < 0.0))
    rest = xp.where(differ, b - rest, rest)
    rest = xp.where(y < 0.0, 0.0 - rest, rest)
    return xp.where(good & ~xp.isnan(x) & ~xp.isnan(y), rest, math.nan)


def _times(x: Raw, exponent: int, xp: Any) -> Raw:
    """Return x 2^exponent, infinite where that is out of range."""
    while exponent > 0:
        x = x * 2.0 ** min(exponent, 1000)
        exponent -= 1000
    return x


def floor_divide(x: Raw, y: Raw, xp: Any) -> Raw:
    """Return the whole number next below x/y, rounded to float64: (x - remainder)/y as in Python.

    x/0 is infinite, and so is the quotient of an infinite x; 0/0 and infinity/infinity give NaN.
    """
    # halves where x minus the remainder, a multiple of y, may overflow: all three are exact
    half = xp.where(xp.abs(y) > 2.0**900, 0.5, xp.ones_like(y))
    ratio = (x * half - remainder(x, y, xp) * half) / (y * half)
    quotient = xp.floor(ratio)
    quotient = quotient + xp.astype(ratio - quotient > 0.5, xp.float64)
    unlimited = ((y == 0.0) & (x != 0.0)) | ((xp.abs(x) == math.inf) & (xp.abs(y) < math.inf))
    limit = xp.where((x < 0.0) != (y < 0.0), -math.inf, xp.ones_like(x) * math.inf)
    quotient = xp.where(unlimited & ~xp.isnan(x), limit, quotient)
    below = (xp.abs(y) == math.inf) & (xp.abs(x) < math.inf)
    less = (x != 0.0) & ((x < 0.0) != (y < 0.0))
    return xp.where(below, xp.where(less, -1.0, x * 0.0), quotient)
