"""Trigonometric functions and their inverses of 1-D float64 arrays."""

from __future__ import annotations

import math
from typing import Any

from xpnn.reproducible import tables
from xpnn.reproducible.exact import quick_two_sum, two_product, two_sum
from xpnn.reproducible.formats import FLOAT64
from xpnn.reproducible.powers import Pair, Powers

Raw = Any

_BASE = 2.0**tables.DIGIT
# digits of the product x 2/pi that are computed, from that with weight 1 on
_DIGITS = 7


class Trigonometry(Powers):
    """Functions of angles, whose arguments may be as large as float64 allows."""

    def reduced(self, x: Raw) -> tuple[Raw, Raw, Raw]:
        """Return n from 0 to 3, and r as a pair: |x| = (n + 4 m) pi/2 + r for a whole m.

        |r| is at most pi/4, with a relative error below 2^-65; r is x itself where that is small
        enough. `x` is finite.

        Notes
        -----
        This is the method of Payne and Hanek (1983). Let g be the whole part of the exponent of
        |x| divided by 26, or 0 for |x| < 1, and B = 2^26. Then |x| = y0 B^g + y1 B^(g-1) +
        y2 B^(g-2), with whole y0 <= B and |y1|, |y2| <= B/2 (for |x| < 1, y2 may be half of a
        whole number). With the digits d of 2/pi, in magnitude at most B/2 as well,

            |x| 2/pi = sum P[k] B^-k,  P[k] = y0 d[g+k] + y1 d[g+k-1] + y2 d[g+k-2].

        Each P[k] is a sum of three products of whole numbers, at most 2^52, so nothing is rounded.
        Those with k < 0 are multiples of B, hence of 4, and left out. Those with k > 6 add up to
        less than 2^-128. No float64 number is nearer than 2^-62 to a multiple of pi/2 in units of
        pi/2, so that r has 66 right bits.
        """
        xp = self._xp
        edges, units, digits = self._table(tables.two_over_pi, x)
        a = xp.abs(x)
        plain = a <= math.pi / 4
        group = xp.searchsorted(edges, a, side="right")
        y = a * self._gather(units, group)
        parts = [xp.floor(y + 0.5)]
        y = (y - parts[0]) * _BASE
        parts.append(xp.floor(y + 0.5))
        parts.append((y - parts[1]) * _BASE)
        index = xp.astype(group, xp.int64)
        # d[g - 2 + i]: the table begins with d[-2]
        near = [self._gather(digits, index + i) for i in range(_DIGITS + 2)]
        sums = [
            (parts[0] * near[k + 2] + parts[1] * near[k + 1]) + parts[2] * near[k]
            for k in range(_DIGITS)
        ]
        for k in range(_DIGITS - 1, 0, -1):
            carry = xp.floor(sums[k] * (1 / _BASE) + 0.5)
            sums[k] = sums[k] - carry * _BASE
            sums[k - 1] = sums[k - 1] + carry
        n = sums[0] - xp.floor(sums[0] * 0.25) * 4.0
        # two digits have 52 bits, so a sum of two is exact
        first = (sums[1] + sums[2] * (1 / _BASE)) * (1 / _BASE)
        second = (sums[3] + sums[4] * (1 / _BASE)) * _BASE**-3
        third = (sums[5] + sums[6] * (1 / _BASE)) * _BASE**-5
        high, low = two_sum(first, second)
        low += third
        r, rest = two_product(high, xp.ones_like(x) * tables.HALF_PI[0])
        rest += high * tables.HALF_PI[1] + low * tables.HALF_PI[0]
        r, rest = quick_two_sum(r, rest)
        return xp.where(plain, 0.0, n), xp.where(plain, a, r), xp.where(plain, 0.0, rest)

    def _sine_and_cosine(self, r: Raw, rest: Raw) -> tuple[Pair, Pair]:
        """Return sin(r + rest) and cos(r + rest) as pairs, for |r| <= pi/4."""
        z = r * r
        p = z * (-1 / math.factorial(19))
        for n in range(17, 3, -2):
            p += (-1) ** (n // 2) / math.factorial(n)
            p *= z
        p -= 1 / 6
        half = z * 0.5
        sine = quick_two_sum(r, (r * z) * p + rest * (1.0 - half))
        q = z * (1 / math.factorial(20))
        for n in range(18, 4, -2):
            q += (-1) ** (n // 2) / math.factorial(n)
            q *= z
        q += 1 / 24
        less = 1.0 - half
        cosine = quick_two_sum(less, ((1.0 - less) - half) + ((z * z) * q - r * rest))
        return sine, cosine

    def _turned(self, x: Raw) -> tuple[Raw, Raw, Raw, Pair, Pair]:
        """Return which x are finite, n, whether n is odd, and sine and cosine of r."""
        finite = self._xp.abs(x) < math.inf
        n, r, rest = self.reduced(self._xp.where(finite, x, 0.0))
        sine, cosine = self._sine_and_cosine(r, rest)
        return finite, n, (n == 1.0) | (n == 3.0), sine, cosine

    def sin(self, x: Raw) -> Raw:
        """Return the sine, at most 0.9 ulp off for every float64 number."""
        xp = self._xp
        finite, n, odd, sine, cosine = self._turned(x)
        result = xp.where(odd, cosine[0], sine[0])
        result = xp.where((n >= 2.0) != (x < 0.0), 0.0 - result, result)
        return xp.where(finite, result, math.nan)

    def cos(self, x: Raw) -> Raw:
        """Return the cosine, at most 0.9 ulp off for every float64 number."""
        xp = self._xp
        finite, n, odd, sine, cosine = self._turned(x)
        result = xp.where(odd, sine[0], cosine[0])
        result = xp.where((n == 1.0) | (n == 2.0), 0.0 - result, result)
        return xp.where(finite, result, math.nan)

    def tan(self, x: Raw) -> Raw:
        """Return the tangent, at most 1.6 ulp off for every float64 number."""
        xp = self._xp
        finite, _, odd, sine, cosine = self._turned(x)
        above, above_rest = (xp.where(odd, 0.0 - c, s) for s, c in zip(sine, cosine, strict=True))
        below, below_rest = (xp.where(odd, s, c) for s, c in zip(sine, cosine, strict=True))
        result = above / below
        product, error = two_product(result, below)
        rest = (((above - product) - error) + above_rest) - result * below_rest
        result = result + rest / below
        result = xp.where(x < 0.0, 0.0 - result, result)
        return xp.where(finite, result, math.nan)

    def _angle(self, y: Pair, x: Pair, left: Raw) -> Raw:
        """Return the angle of a point (x, y) with x, y >= 0, or of (-x, y) where `left`.

        With the smaller coordinate over the larger one near j/64, the angle between that direction
        and arctan(j/64) is the arctangent of u = (64 y - j x) / (64 x + j y), |u| <= 1/127.
        """
        xp = self._xp
        high, low = self._table(tables.arctan, y[0])
        swap = y[0] > x[0]
        far, far_rest = (xp.where(swap, a, b) for a, b in zip(y, x, strict=True))
        near, near_rest = (xp.where(swap, a, b) for a, b in zip(x, y, strict=True))
        far = xp.where(far > 0.0, far, 1.0)
        j = xp.floor((near / far) * 64.0 + 0.5)
        c = j * (1 / 64)
        product, error = two_product(c, far)
        above, above_rest = two_sum((near - product) - error, near_rest - c * far_rest)
        below = far + c * near
        u = above / below
        u_rest = (above_rest - u * (far_rest + c * near_rest)) / below
        z = u * u
        p = z * (-1 / 11)
        for n in (9, 7, 5):
            p += (-1) ** (n // 2) / n
            p *= z
        p -= 1 / 3
        index = xp.astype(j, xp.int64)
        # pi/2 - angle where swapped, then pi - angle where left
        sign = xp.where(swap != left, -1.0, xp.ones_like(u))
        base, base_rest = (
            xp.where(swap, half, xp.where(left, whole, 0.0 * u))
            for half, whole in zip(tables.HALF_PI, tables.PI, strict=True)
        )
        total, error = two_sum(base, sign * self._gather(high, index))
        rest = error + (base_rest + sign * self._gather(low, index))
        return total + (sign * u + (rest + sign * ((u * z) * p + u_rest)))

    def atan2(self, y: Raw, x: Raw) -> Raw:
        """Return the angle of the point (x, y), from -pi to pi, at most 1.3 ulp off.

        Zero counts as positive, so the angle of (-1, 0) is pi.
        """
        xp = self._xp
        a, b = xp.abs(y), xp.abs(x)
        one = xp.ones_like(x)
        infinite = (a == math.inf) | (b == math.inf)
        a, b = (xp.where(infinite, xp.where(v == math.inf, one, 0.0), v) for v in (a, b))
        largest = xp.maximum(a, b)
        scale = xp.where(largest > 2.0**900, 2.0**-200, one)
        scale = xp.where(largest < 2.0**-800, 2.0**200, scale)
        nan = xp.isnan(x) | xp.isnan(y)
        a, b = (FLOAT64.canonical(xp.where(nan, 0.0, v) * scale, xp) for v in (a, b))
        # where the quotient is no normal number, its rounding would depend on the library
        tiny = a < b * 2.0**-900
        zero = a * 0.0
        angle = self._angle((xp.where(tiny, 0.0, a), zero), (b, zero), x < 0.0)
        quotient = FLOAT64.canonical(xp.where(tiny, a, 0.0) / xp.where(tiny, b, 1.0), xp)
        angle = xp.where(tiny & (x > 0.0), quotient, angle)
        angle = xp.where(y < 0.0, 0.0 - angle, angle)
        return xp.where(nan, math.nan, angle)

    def atan(self, x: Raw) -> Raw:
        """Return the arctangent, at most 1.3 ulp off."""
        xp = self._xp
        a = xp.abs(x)
        plain = a < 2.0**900
        one, zero = xp.ones_like(x), x * 0.0
        tiny = a < 2.0**-400
        inner = xp.where(plain & ~tiny, a, one)
        angle = self._angle((inner, xp.where(plain, zero, 0.0)), (one, one * 0.0), x > math.inf)
        angle = xp.where(plain, xp.where(tiny, a, angle), tables.HALF_PI[0])
        angle = xp.where(x < 0.0, 0.0 - angle, angle)
        return xp.where(xp.isnan(x), x, angle)

    def asin(self, x: Raw) -> Raw:
        """Return the arcsine, at most 1.3 ulp off; NaN beyond 1.

        It is the angle of the point (sqrt(1 - x^2), x).
        """
        xp = self._xp
        a, root, inside = self._other_side(x)
        tiny = a < 2.0**-400
        angle = self._angle((xp.where(tiny, 0.0, a), a * 0.0), root, x > math.inf)
        angle = xp.where(tiny, a, angle)
        angle = xp.where(x < 0.0, 0.0 - angle, angle)
        return xp.where(inside, angle, math.nan)

    def acos(self, x: Raw) -> Raw:
        """Return the arccosine, at most 1.3 ulp off; NaN beyond 1.

        It is the angle of the point (x, sqrt(1 - x^2)).
        """
        xp = self._xp
        a, root, inside = self._other_side(x)
        a = xp.where(a < 2.0**-400, 0.0, a)
        return xp.where(inside, self._angle(root, (a, a * 0.0), x < 0.0), math.nan)

    def _other_side(self, x: Raw) -> tuple[Raw, Pair, Raw]:
        """Return |x|, sqrt(1 - x^2) as a pair, and which |x| are at most 1."""
        xp = self._xp
        inside = xp.abs(x) <= 1.0
        a = xp.where(inside, xp.abs(x), 0.0)
        inner = xp.where(a < 2.0**-400, 0.0, a)
        square, rest = two_product(inner, inner)
        less, error = two_sum(xp.ones_like(x), -square)
        return a, self._root_pair(*quick_two_sum(less, error - rest)), inside
