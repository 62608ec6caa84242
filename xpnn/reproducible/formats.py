"""Number formats, and the canonical form of their numbers.

A number is canonical if it is no subnormal, which some libraries flush to zero, and no negative
zero, which some operations give on one library and not on another.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

Raw = Any

# the exponent of a factor that adds no bits to a product: zero, an infinity, a NaN
EXACT = 1 << 16


class Format(NamedTuple):
    """A number format. Every canonical number is a multiple of ``2**low``, the least normal one."""

    low: int
    shift: float  # 1.5 * 2**(low + digits), whose ulp is q = 2**(low + 1)
    scalar: Any  # NumPy's type

    def canonical(self, x: Raw, xp: Any) -> Raw:
        """Return `x` in canonical form: without subnormals and without negative zeros.

        q is twice the least normal number, and ulp(shift) = q. Where |x| is below 2^(digits-2) q,
        x + shift stays in the binade of shift, so the addition rounds x to a multiple of q, and
        the subtraction is exact. Where |x| is larger, its own ulp makes it a multiple of q/2.
        Everything below q/2 becomes +0: a subnormal, the zero that a library made of it, and -0.
        So does q/2 itself, because one library may round a product to it that another one flushes.
        """
        small = xp.abs(x) < self.shift / 3
        rounded = x + self.shift
        rounded -= self.shift
        return xp.where(small, rounded, x)

    def flushed(self, x: Raw) -> Raw:
        """Return a fresh result `x` in canonical form, by two operations that overwrite it.

        These are the operations of `canonical` without the `where`. Where |x| is larger, up to
        2^(digits+2) shift, the addition may round once more, by at most an ulp: in float64 below
        2^-914, in float32 below 2^-76.
        """
        x += self.shift
        x -= self.shift
        return x

    def number(self, value: float) -> float:
        """Return a Python number rounded to this format, in canonical form."""
        with np.errstate(over="ignore"):
            x = self.scalar(value)
        if abs(x) < self.shift / 3:
            shift = self.scalar(self.shift)
            x = x + shift - shift
        return float(x)


FLOAT64 = Format(-1022, 1.5 * 2.0**-969, np.float64)
FLOAT32 = Format(-126, 1.5 * 2.0**-102, np.float32)


def trailing(value: float) -> int:
    """Return the largest e such that `value` is a multiple of ``2**e``."""
    if value == 0 or not math.isfinite(value):
        return EXACT
    numerator, denominator = abs(value).as_integer_ratio()
    return (numerator & -numerator).bit_length() - denominator.bit_length()


def ceil_log2(value: float) -> int:
    """Return the least e such that ``value <= 2**e``."""
    mantissa, exponent = math.frexp(value)
    return exponent - (mantissa == 0.5)
