"""Powers, logarithms and hyperbolic functions of 1-D float64 arrays.

The logarithm and the exponential are computed with 64 bits and more, as a pair of float64 numbers
whose sum they are. A pair has a relative error below 2^-64, and the functions made of pairs are
rounded once.
"""

from __future__ import annotations

import math
from typing import Any

from xpnn.reproducible import tables
from xpnn.reproducible.exact import quick_two_sum, two_product, two_sum
from xpnn.reproducible.formats import FLOAT64
from xpnn.reproducible.functions import _PER_LN2_64, Functions

Raw = Any
Pair = tuple[Raw, Raw]

# beyond this, e^x is infinite or below the least number
_FAR = 800.0
# a number x below this is within 2^-57 of sinh x, asinh x, atanh x
_TINY = 2.0**-28
_LARGE = 2.0**28


class Powers(Functions):
    """Functions that need more bits than float64 has on their way."""

    def _power_of_two(self, k: Raw) -> Raw:
        """Return 2^k for whole k from -1022 to 1023."""
        (table,) = self._table(tables.powers, k)
        return self._gather(table, self._index(k, tables.POWERS_FIRST, table))

    def _times_power(self, x: Raw, k: Raw) -> Raw:
        """Return x 2^k, canonical, for whole k with |k| <= 2000."""
        half = self._xp.floor(k * 0.5)
        x = x * self._power_of_two(half)
        return FLOAT64.canonical(x * self._power_of_two(k - half), self._xp)

    def _reduced(self, m: Raw, tail: Raw | None) -> tuple[Raw, Raw, Raw, Raw]:
        # the tables of `log` end at 2^-1020; smaller numbers are first multiplied by 2^200
        xp = self._xp
        small = m < 2.0**-900
        scale = xp.where(small, 2.0**200, xp.ones_like(m))
        k, *rest = super()._reduced(m * scale, None if tail is None else tail * scale)
        return xp.where(small, k - 200.0, k), *rest

    def _log_pair(self, x: Raw) -> Pair:
        """Return log x as a pair, with a relative error below 2^-66, for positive finite x.

        With the names of `log`: k ln2, log(j/64) and the head of r have leading parts that are
        multiples of 2^-40, which add up exactly. The square of r is needed with more bits than
        float64 has; the head's square is a product without error. All terms from r^3 on are below
        2^-21 r, and their rounding errors below 2^-70 of the result.
        """
        k, index, head, rest = self._reduced(x, None)
        *_, high, low = self._table(tables.log, x)
        total = (head + self._gather(high, index)) + k * tables.LN2[0]
        square, square_rest = two_product(head, head)
        r = head + rest
        p = r * (-1 / 12)
        for n in range(11, 3, -1):
            p += (-1) ** (n + 1) / n
            p *= r
        p += 1 / 3
        p = p * (r * r * r)
        total, first = two_sum(total, rest)
        total, second = two_sum(total, square * -0.5)
        p += -0.5 * (square_rest + rest * rest) - head * rest
        p += self._gather(low, index) + k * tables.LN2[1]
        return quick_two_sum(total, (first + second) + p)

    def _exp_pair(self, x: Raw, tail: Raw) -> tuple[Raw, Raw, Raw]:
        """Return a pair and k with e^(x + tail) = pair 2^k, 0.9 <= pair <= 2.1.

        The relative error is below 2^-64; `x` is at most 800 either way, and |tail| <= 2^-40.
        x = n ln2/64 + r, as in `exp`.
        """
        xp = self._xp
        roots, rests = self._table(tables.roots, x)
        n = xp.floor(x * _PER_LN2_64 + 0.5)
        r, error = two_sum(x - n * tables.LN2_64[0], tail - n * tables.LN2_64[1])
        p = r * (1 / 40320)
        for c in (1 / 5040, 1 / 720, 1 / 120, 1 / 24, 1 / 6):
            p += c
            p *= r
        p *= r * r
        square, square_rest = two_product(r, r)
        k = xp.floor(n * (1 / 64))
        index = self._index(n - k * 64.0, 0, roots)
        root = self._gather(roots, index)
        p += error + self._gather(rests, index) + square_rest * 0.5
        high, low = two_sum(r, square * 0.5)
        low += p
        product, rest = two_product(root, high)
        rest += root * low
        high, low = quick_two_sum(root, product)
        return *quick_two_sum(high, low + rest), k

    def _root_pair(self, x: Raw, tail: Raw) -> Pair:
        """Return sqrt(x + tail) as a pair, for x >= 0."""
        xp = self._xp
        root = self.sqrt(x)
        square, error = two_product(root, root)
        rest = ((x - square) - error) + tail
        return root, (rest * 0.5) / xp.where(root > 0.0, root, 1.0)

    def exp(self, x: Raw) -> Raw:
        """Return e^x, at most 2.0 ulp off, and 0.6 above -600."""
        xp = self._xp
        low = x < -600.0
        power = super().exp(xp.where(low, x * 0.5, x))
        return xp.where(low, FLOAT64.canonical(power * power, xp), power)

    def log2(self, x: Raw) -> Raw:
        """Return the logarithm to base 2, at most 0.6 ulp off; exact for powers of two."""
        return self._log_to(x, tables.INVERSE_LN2)

    def log10(self, x: Raw) -> Raw:
        """Return the logarithm to base 10, at most 0.6 ulp off; exact for powers of ten."""
        return self._log_to(x, tables.INVERSE_LN10)

    def _log_to(self, x: Raw, factor: tuple[float, float]) -> Raw:
        xp = self._xp
        inside = (x > 0.0) & (x < math.inf)
        high, low = self._log_pair(xp.where(inside, x, 1.0))
        product, error = two_product(high, xp.ones_like(x) * factor[0])
        result = product + (error + (high * factor[1] + low * factor[0]))
        special = xp.where(x > 0.0, x, xp.where(x == 0.0, -math.inf, x * math.nan))
        return xp.where(inside, result, special)

    def pow(self, x: Raw, y: Raw) -> Raw:
        """Return x^y, at most 0.7 ulp off.

        It is e^(y log x). Special values are those of C's `pow`, with zero for both zeros.
        """
        xp = self._xp
        whole = xp.floor(y) == y
        odd = whole & (xp.floor(y * 0.5) * 2.0 != y)
        magnitude = xp.abs(x)
        inside = (magnitude > 0.0) & (magnitude < math.inf)
        high, low = self._log_pair(xp.where(inside, magnitude, 1.0))
        # |log x| is 0 or above 2^-54, so with larger y the result is 0, 1 or infinite as well
        near = xp.where(xp.isnan(y), 0.0, xp.minimum(xp.maximum(y, -(2.0**65)), 2.0**65))
        product, error = two_product(high, near)
        tail = error + low * near
        far = xp.abs(product) > _FAR
        bounded = xp.minimum(xp.maximum(product, -_FAR), _FAR)
        power, rest, k = self._exp_pair(bounded, xp.where(far, 0.0, tail))
        result = self._times_power(power + rest, k)
        # zero and infinity to a power
        limit = xp.where((magnitude > 1.0) == (y > 0.0), math.inf, xp.zeros_like(x))
        result = xp.where(inside, result, limit)
        far = inside & (xp.abs(y) == math.inf) & (magnitude != 1.0)
        result = xp.where(far, limit, result)
        result = xp.where((x < 0.0) & odd, 0.0 - result, result)
        result = xp.where((x < 0.0) & ~whole & inside, math.nan, result)
        result = xp.where(xp.isnan(x) | xp.isnan(y), math.nan, result)
        return xp.where((x == 1.0) | (y == 0.0), 1.0, result)

    def hypot(self, x: Raw, y: Raw) -> Raw:
        """Return sqrt(x^2 + y^2), at most 0.6 ulp off."""
        xp = self._xp
        x, y = xp.abs(x), xp.abs(y)
        infinite = (x == math.inf) | (y == math.inf)
        largest = xp.maximum(x, y)
        one = xp.ones_like(x)
        scale = xp.where(largest > 2.0**500, 2.0**-600, one)
        scale = xp.where(largest < 2.0**-400, 2.0**600, scale)
        back = xp.where(largest > 2.0**500, 2.0**600, one)
        back = xp.where(largest < 2.0**-400, 2.0**-600, back)
        x, y = (xp.where(infinite, 0.0, v) * scale for v in (x, y))
        (a, a_rest), (b, b_rest) = two_product(x, x), two_product(y, y)
        total, error = two_sum(a, b)
        total, error = quick_two_sum(total, error + (a_rest + b_rest))
        root, rest = self._root_pair(total, error)
        return xp.where(infinite, math.inf, FLOAT64.canonical((root + rest) * back, xp))

    def logaddexp(self, x: Raw, y: Raw) -> Raw:
        """Return log(e^x + e^y), at most 2 ulp of the largest of |x|, |y| and the result off."""
        xp = self._xp
        largest = xp.maximum(x, y)
        plain = xp.abs(largest) < math.inf
        larger = xp.where(plain, largest, 0.0)
        smaller = xp.where(plain, xp.minimum(x, y), 0.0)
        # not so small that the difference overflows, and not above `larger`
        smaller = xp.maximum(smaller, xp.minimum(larger, -(2.0**1000)))
        difference, error = two_sum(smaller, -larger)
        power = self.exp(difference)
        power = power + power * xp.where(xp.abs(difference) < 1e3, error, 0.0)
        return xp.where(plain, larger + self.log1p(power), largest)

    def sinh(self, x: Raw) -> Raw:
        """Return the hyperbolic sine, at most 0.8 ulp off."""
        xp = self._xp
        a = xp.abs(x)
        small = a < 0.35
        square = xp.where(small, a, 0.0) * xp.where(small, a, 0.0)
        p = square * (1 / math.factorial(19))
        for n in range(17, 3, -2):
            p += 1 / math.factorial(n)
            p *= square
        p += 1 / 6
        little = a + (a * square) * p
        high, low, k = self._exponentials(a, -1.0)
        result = xp.where(small, little, self._times_power(high + low, k - 1.0))
        return xp.where(xp.isnan(x), x, xp.where(x < 0.0, 0.0 - result, result))

    def cosh(self, x: Raw) -> Raw:
        """Return the hyperbolic cosine, at most 0.6 ulp off."""
        high, low, k = self._exponentials(self._xp.abs(x), 1.0)
        return self._xp.where(self._xp.isnan(x), x, self._times_power(high + low, k - 1.0))

    def _exponentials(self, a: Raw, sign: float) -> tuple[Raw, Raw, Raw]:
        """Return a pair and k with e^a + sign e^-a = pair 2^k, for a >= 0 or NaN."""
        xp = self._xp
        a = xp.where(xp.isnan(a), 0.0, xp.minimum(a, _FAR))
        high, low, k = self._exp_pair(a, a * 0.0)
        inverse = xp.ones_like(a) / high
        product, error = two_product(inverse, high)
        rest = (((1.0 - product) - error) - inverse * low) * inverse
        scale = self._power_of_two(xp.maximum(k * -2.0, -1000.0)) * sign
        total, error = two_sum(high, inverse * scale)
        return *quick_two_sum(total, error + (low + rest * scale)), k

    def asinh(self, x: Raw) -> Raw:
        """Return the inverse hyperbolic sine, at most 1.5 ulp off: log(x + sqrt(x^2 + 1))."""
        xp = self._xp
        a = xp.abs(x)
        plain = (a >= _TINY) & (a <= _LARGE)
        inner = xp.where(plain, a, 1.0)
        square, rest = two_product(inner, inner)
        total, error = two_sum(square, xp.ones_like(x))
        root, root_rest = self._root_pair(*quick_two_sum(total, error + rest))
        result = self._log_of_sum(inner, root, root_rest)
        result = xp.where(plain, result, self._log_of_double(a))
        result = xp.where(a < _TINY, a, result)
        return xp.where(x < 0.0, 0.0 - result, result)

    def acosh(self, x: Raw) -> Raw:
        """Return the inverse hyperbolic cosine, at most 1.5 ulp off; NaN below 1.

        log(x + sqrt((x - 1) (x + 1))), where x - 1 has no error.
        """
        xp = self._xp
        plain = (x >= 1.0) & (x <= _LARGE)
        inner = xp.where(plain, x, 1.0)
        less = inner - 1.0
        more, error = two_sum(inner, xp.ones_like(x))
        square, rest = two_product(less, more)
        root, root_rest = self._root_pair(*quick_two_sum(square, rest + less * error))
        result = self._log_of_sum(inner, root, root_rest)
        result = xp.where(plain, result, self._log_of_double(xp.abs(x)))
        return xp.where(x < 1.0, math.nan, result)

    def _log_of_sum(self, a: Raw, root: Raw, rest: Raw) -> Raw:
        total, error = two_sum(a, root)
        return self.log(*quick_two_sum(total, error + rest))

    def _log_of_double(self, x: Raw) -> Raw:
        """Return log(2 x) of a number that is large or infinite."""
        large = self._xp.where(x > 1.0, x, 1.0)
        return self._xp.where(self._xp.isnan(x), x, self.log(large) + tables.LN2_PAIR[0])

    def atanh(self, x: Raw) -> Raw:
        """Return the inverse hyperbolic tangent, at most 0.9 ulp off; NaN beyond 1.

        log(1 + q)/2 with q = 2 x / (1 - x) as a pair.
        """
        xp = self._xp
        a = xp.abs(x)
        plain = (a >= _TINY) & (a < 1.0)
        inner = xp.where(plain, a, 0.5)
        one = xp.ones_like(x)
        below, error = two_sum(one, -inner)
        quotient = (inner + inner) / below
        product, rest = two_product(quotient, below)
        rest = (((inner + inner) - product) - rest) - quotient * error
        total, error = two_sum(one, quotient)
        result = self.log(*quick_two_sum(total, error + rest / below)) * 0.5
        result = xp.where(plain, result, xp.where(a < 1.0, a, math.inf))
        result = xp.where(x < 0.0, 0.0 - result, result)
        return xp.where(a <= 1.0, result, math.nan)
