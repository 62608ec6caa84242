"""Elementary functions of 1-D float64 arrays, made of correctly rounded operations only."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import array_api_compat
import numpy as np

from xpnn.reproducible import tables
from xpnn.reproducible.exact import two_product, two_sum

Raw = Any

# 64 / log(2), written out because the platform's log may differ in the last bit
_PER_LN2_64 = float.fromhex("0x1.71547652b82fep+6")


class Functions:
    """The functions, computed by the library whose own namespace is `xp`.

    Tables are copied to a device when it needs them.
    """

    def __init__(self, xp: Any) -> None:
        self._xp = xp
        self._tables: dict[tuple[Callable[[], Any], str], tuple[Raw, ...]] = {}
        self._roots_are_right: dict[str, bool] = {}
        # of all devices, if that is known already
        self.rightness: bool | None = None

    def _table(self, make: Callable[[], tuple[Any, ...]], like: Raw) -> tuple[Raw, ...]:
        xp, device = self._xp, array_api_compat.device(like)
        key = (make, str(device))
        if key not in self._tables:
            self._tables[key] = tuple(
                xp.asarray(table, dtype=xp.float64, device=device) for table in make()
            )
        return self._tables[key]

    def _gather(self, table: Raw, index: Raw) -> Raw:
        return self._xp.take(table, index, axis=0)

    def _index(self, n: Raw, first: int, table: Raw) -> Raw:
        """Return the index of whole `n` in a table that begins with `first`; any one for a NaN."""
        # a NaN becomes an integer that depends on the processor; the mask keeps it in the table,
        # and the result is NaN whatever the entry
        return self._xp.astype(n + float(-first), self._xp.int64) & (table.shape[0] - 1)

    def exp(self, x: Raw) -> Raw:
        """Return e^x, at most 0.6 ulp off; 0 below -665.4 (2^-960), inf where it overflows.

        Below 2^-960, factors of the result would be subnormal, which libraries flush to zero. A
        network that adds such numbers to others can't tell them from 0.

        x = n ln2/64 + r, |r| <= ln2/128, and e^x = 2^(n/64) (1 + r + r^2/2 + ... + r^6/720).
        """
        xp = self._xp
        table, rests = self._table(tables.exp, x)
        y = xp.minimum(xp.maximum(x, -700.0), tables.EXP_OVERFLOWS)
        n = xp.floor(y * _PER_LN2_64 + 0.5)
        y = (y - n * tables.LN2_64[0]) - n * tables.LN2_64[1]
        p = y * (1 / 720)
        for c in (1 / 120, 1 / 24, 1 / 6, 0.5):
            p += c
            p *= y
        p *= y
        index = self._index(n, tables.EXP_FIRST, table)
        p += self._gather(rests, index)
        p += y
        scale = self._gather(table, index)
        p *= scale
        p += scale
        p += p  # the table has halves, because 2^1024 is out of range; only this may overflow
        return p

    def sigmoid(self, x: Raw) -> Raw:
        """Return 1 / (1 + e^-x), at most 2 ulp off.

        With e = e^-|x| and q = e / (1 + e), it is 1 - q for x >= 0, and e - e q otherwise. So only
        q has the rounding error of 1 + e, and the number that is subtracted is the smaller one.
        """
        xp = self._xp
        e = self.exp(-xp.abs(x))
        q = e / (1.0 + e)
        top = xp.where(x < 0.0, e, xp.ones_like(x))
        return top - top * q

    def expm1(self, x: Raw) -> Raw:
        """Return e^x - 1, at most 1.3 ulp off, as 2^(n/64) (e^r - 1) + (2^(n/64) - 1)."""
        xp = self._xp
        high, low = self._table(tables.expm1, x)
        y = xp.minimum(xp.maximum(x, -40.0), 40.0)
        n = xp.floor(y * _PER_LN2_64 + 0.5)
        index = self._index(n, -tables.EXPM1_LAST, high)
        head = y - n * tables.LN2_64[0]
        tail = n * tables.LN2_64[1]
        r = head - tail
        tail = (head - r) - tail
        p = r * (1 / 5040)
        for c in (1 / 720, 1 / 120, 1 / 24, 1 / 6, 0.5):
            p += c
            p *= r
        p *= r
        p += tail  # e^r - 1 - r
        scale = self._gather(high, index)
        less = scale - 1.0
        total, error = two_sum(less, r)
        p = p * scale + less * r
        p += self._gather(low, index)
        p += error
        total += p
        return xp.where(x > 40.0, self.exp(x), total)

    def tanh(self, x: Raw) -> Raw:
        """Return the hyperbolic tangent, at most 1.7 ulp off.

        x = j/64 + r, |r| <= 1/128; with t = tanh(r), a polynomial, and T = tanh(j/64), a table,
        tanh(x) = T + (1 - T^2) t / (1 + T t).
        """
        xp = self._xp
        (table,) = self._table(tables.tanh, x)
        y = xp.minimum(xp.maximum(x, -20.0), 20.0)
        n = xp.floor(y * 64.0 + 0.5)
        base = self._gather(table, self._index(n, -1280, table))
        y -= n * (1 / 64)
        square = y * y
        t = square * (-17 / 315)
        t += 2 / 15
        t *= square
        t += -1 / 3
        t *= square
        t *= y
        t += y
        square = base * t
        square += 1.0
        t /= square
        square = base * base
        square = 1.0 - square
        t *= square
        t += base
        return t

    def log(self, x: Raw, tail: Raw | None = None) -> Raw:
        """Return log(x + tail), |tail| <= ulp(x), at most 0.8 ulp off; tail is 0 if None.

        The result is NaN below 0, and -inf at 0.

        x = 2^k m with m in [45/64, 90/64). With j/64 nearest to m and r = (64 m - j)/j,
        log x = k ln2 + log(j/64) + r - r^2/2 + .... Each of the first three terms has a leading
        part that is a multiple of 2^-40. These parts add up exactly. Their rests are small, and are
        summed up first.
        """
        xp = self._xp
        one, above = xp.ones_like(x), x > 0.0
        inside = above & (x < math.inf)
        k, index, head, rest = self._reduced(xp.where(inside, x, one), tail)
        *_, high, low = self._table(tables.log, x)
        r = head + rest
        p = r * (1 / 9)
        for n in range(8, 2, -1):
            p += (-1) ** (n + 1) / n
            p *= r
        p -= 0.5
        p *= r
        p *= r
        p += self._gather(low, index)
        p += k * tables.LN2[1]
        p += rest
        head = head + self._gather(high, index)
        head = head + k * tables.LN2[0]
        p += head
        special = xp.where(above, x, xp.where(x == 0.0, -math.inf, one * math.nan))
        return xp.where(inside, p, special)

    def _reduced(self, m: Raw, tail: Raw | None) -> tuple[Raw, Raw, Raw, Raw]:
        """Return k, the index of j, and r = head + rest of `log`, for a positive finite `m`.

        The head is a multiple of 2^-40 with at most 34 bits, and the rest at most 2^-41.
        """
        xp = self._xp
        edges, scales, inverse, *_ = self._table(tables.log, m)
        one, large = xp.ones_like(m), m >= 2.0**900
        shrink = xp.where(large, 2.0**-200, one)
        m *= shrink
        interval = xp.searchsorted(edges, m, side="right")
        scale = self._gather(scales, interval)
        m *= scale
        k = xp.astype(interval, xp.float64)
        k += xp.where(large, -821.0, one * -1021.0)
        j = xp.floor(m * 64.0 + 0.5)
        index = xp.astype(j, xp.int64) - 45
        d = m - j * (1 / 64)
        over = self._gather(inverse, index)
        head = ((d * over) + 1.5 * 2.0**12) - 1.5 * 2.0**12  # to a multiple of 2^-40
        rest = d - head * (j * (1 / 64))
        if tail is not None:
            rest = rest + (tail * shrink) * scale
        return k, index, head, rest * over

    def log1p(self, x: Raw) -> Raw:
        """Return log(1 + x), at most 0.8 ulp off; NaN below -1, -inf at -1.

        It is the `log` of the rounded sum 1 + x, with its rounding error as tail.
        """
        xp = self._xp
        inside = (x > -1.0) & (x < math.inf)
        total, error = two_sum(xp.where(inside, x, 0.0), xp.ones_like(x))
        return self.log(xp.where(inside, total, x + 1.0), error)

    def sqrt(self, x: Raw) -> Raw:
        """Return the square root, correctly rounded; NaN below 0.

        It is the library's own, corrected if that isn't correctly rounded.
        """
        xp = self._xp
        root = xp.sqrt(xp.where(x >= 0.0, x, math.nan))
        right = self.roots_are_right(array_api_compat.device(x))
        return root if right else self._corrected_root(x, root)

    def roots_are_right(self, device: Any) -> bool:
        """Return whether the library's square roots are correctly rounded on `device`.

        PyTorch's on the CPU come from MKL, and one in a hundred is an ulp off. Synchronises on the
        first call for a device.
        """
        if self.rightness is not None:
            return self.rightness
        xp, key = self._xp, str(device)
        if key not in self._roots_are_right:
            host = np.linspace(1.0, 4.0, 4096, endpoint=False)
            probe, roots = (
                xp.asarray(values, dtype=xp.float64, device=device)
                for values in (host, np.sqrt(host))
            )
            self._roots_are_right[key] = bool(xp.all(xp.sqrt(probe) == roots))
        return self._roots_are_right[key]

    def _corrected_root(self, x: Raw, root: Raw) -> Raw:
        """Return the float64 nearest to sqrt(x), given a `root` that is at most one ulp off.

        Let s and its neighbour s' = s + u be multiples of u. Then sqrt(x) is beyond their midpoint
        if and only if x > s s' + u^2/4; and because x and s s' are multiples of u^2, if and only if
        x > s s'.
        """
        xp = self._xp
        one = xp.ones_like(x)
        plain = (x > 0.0) & (x < math.inf)
        # scaled into [2^-500, 2^500] by an even power, so that products neither over- nor underflow
        shrink = xp.where(x > 2.0**400, 2.0**-300, xp.where(x < 2.0**-400, 2.0**300, one))
        y = xp.where(plain, x, one) * shrink
        y = y * shrink
        s = xp.where(plain, root, one) * shrink
        step = s * (2.0**-53 * (1 + 2.0**-52))
        for up in (True, False):
            other = s + step if up else s - step
            high, low = two_product(s, other)
            beyond = (y - high) - low
            s = xp.where(beyond > 0.0 if up else beyond <= 0.0, other, s)
        return xp.where(plain, s / shrink, root)
