"""Arithmetic of whole numbers, the same on every library: all of it in int64.

PyTorch has few operations for unsigned integers of more than a byte, divides by zero with an
error, and shifts by more than the number of bits as the processor likes. So every operation is
done in int64, modulo 2^64, and its result is cut off to the dtype. A uint64 is the int64 with the
same bits; where the order counts, its highest bit is turned.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Raw = Any

_LOWEST = -(2**63)


class Integers:
    """Functions of raw int64 arrays; `bits` and `signed` belong to the dtype of the result."""

    def __init__(self, xp: Any) -> None:
        self._xp = xp

    def _zero(self, x: Raw) -> Raw:
        return self._xp.zeros_like(x)

    def ordered(self, x: Raw, *, full: bool) -> Raw:
        """Return int64 in the order of the numbers; `full` says that `x` has the bits of uint64."""
        return x ^ _LOWEST if full else x

    def floor_divide(self, x: Raw, y: Raw, *, full: bool) -> Raw:
        """Return the quotient, rounded down; 0 where `y` is 0."""
        return self._divided(x, y, full)[0]

    def remainder(self, x: Raw, y: Raw, *, full: bool) -> Raw:
        """Return the remainder, with the sign of `y`; 0 where `y` is 0."""
        return self._divided(x, y, full)[1]

    def _divided(self, x: Raw, y: Raw, full: bool) -> tuple[Raw, Raw]:
        xp = self._xp
        zero = self._zero(y)
        one = zero + 1
        # a quotient by -1 may overflow, which is an error of the processor
        plain = xp.where((y == 0) | (y == -1), one, y)
        if not full:
            quotient = x // plain
            quotient = xp.where(y == -1, zero - x, quotient)
            quotient = xp.where(y == 0, zero, quotient)
            return quotient, xp.where(y == 0, zero, x - quotient * y)
        # Unsigned: half of x has no sign. Twice the quotient of the half is right or one too small.
        # A divisor of 2^63 or more goes into x once or not at all.
        half = (x >> 1) & (2**63 - 1)
        small = xp.where(plain < 0, one, plain)
        quotient = (half // small) << 1
        fits = self.ordered(x - quotient * small, full=True) >= self.ordered(small, full=True)
        quotient = quotient + xp.where(fits, one, zero)
        once = self.ordered(x, full=True) >= self.ordered(y, full=True)
        quotient = xp.where(y < 0, xp.where(once, one, zero), quotient)
        quotient = xp.where(y == 0, zero, quotient)
        return quotient, xp.where(y == 0, zero, x - quotient * y)

    def shift(self, x: Raw, y: Raw, *, left: bool, bits: int, full: bool) -> Raw:
        """Return `x` shifted by `y` bits; all bits go where `y` is negative or too large."""
        xp = self._xp
        zero = self._zero(y)
        inside = (y >= 0) & (y < bits)
        count = xp.where(inside, y, zero)
        if left:
            return xp.where(inside, x << count, zero)
        if full:
            # the sign bit of int64 isn't to be copied
            rest = xp.where(count > 0, count - 1, zero)
            shifted = xp.where(count > 0, ((x >> 1) & (2**63 - 1)) >> rest, x)
            return xp.where(inside, shifted, zero)
        return xp.where(inside, x >> count, x >> 63)

    def pow(self, x: Raw, y: Raw, *, bits: int, signed: bool) -> Raw:
        """Return x^y modulo 2^64; for negative y, what is left of 1 / x^-y without its fraction."""
        xp = self._xp
        zero = self._zero(x) + self._zero(y)
        one = zero + 1
        result, base, count = one, x, y
        for _ in range(bits):
            result = xp.where((count & 1) == 1, result * base, result)
            base = base * base
            count = (count >> 1) & (2**63 - 1)
        if not signed:
            return result
        odd = (y & 1) == 1
        inverse = xp.where(x == 1, one, xp.where(x == -1, xp.where(odd, -one, one), zero))
        return xp.where(y < 0, inverse, result)


def folded(x: Raw, axis: int, operation: Callable[[Raw, Raw], Raw], xp: Any) -> Raw:
    """Return the elements along `axis`, which is kept, joined by `operation` in a fixed tree.

    The first half is joined with the second one until there is one element left.
    """
    length = x.shape[axis]
    before: tuple[Any, ...] = (slice(None),) * (axis % len(x.shape))
    while length > 1:
        half = length // 2
        joined = operation(x[(*before, slice(half), ...)], x[(*before, slice(half, 2 * half), ...)])
        if length % 2:
            joined = xp.concat([joined, x[(*before, slice(2 * half, length), ...)]], axis=axis)
        x, length = joined, half + length % 2
    return x


def scanned(x: Raw, axis: int, operation: Callable[[Raw, Raw], Raw], xp: Any) -> Raw:
    """Return all first elements along `axis` joined by `operation`, in a fixed tree for each.

    After step d, each element is joined with the 2^d - 1 before it (Hillis and Steele 1986).
    """
    length, step = x.shape[axis], 1
    before: tuple[Any, ...] = (slice(None),) * (axis % len(x.shape))
    while step < length:
        joined = operation(
            x[(*before, slice(length - step), ...)], x[(*before, slice(step, length), ...)]
        )
        x = xp.concat([x[(*before, slice(step), ...)], joined], axis=axis)
        step *= 2
    return x
