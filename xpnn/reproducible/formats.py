"""Canonical numbers: what a library may flush to zero, and the sign of zero, made the same."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

Raw = Any

# the exponent of what adds no bits to a product: zero, an infinity, a NaN
EXACT = 1 << 16


class Format(NamedTuple):
    """A number format: every number is a multiple of ``2**low``, its least normal number."""

    low: int
    shift: float  # 1.5 * 2**(low + digits): its ulp is q = 2**(low + 1)
    scalar: Any  # NumPy's type for it

    def canonical(self, x: Raw, xp: Any) -> Raw:
        """Return `x` without what a library may flush, and without negative zeros.

        Let q be twice the least normal number, so that ulp(shift) = q. Below 2^(digits-2) q,
        x + shift stays in shift's binade, so it rounds x to a multiple of q, and the subtraction
        is exact; above, x is a multiple of q/2 by its own ulp. A subnormal, or the zero that
        a library made of it, is below q/2 and becomes +0. So does q/2, to which a product just
        below it is rounded on one library while another flushes it; and so does -0.
        """
        small = xp.abs(x) < self.shift / 3
        rounded = x + self.shift
        rounded -= self.shift
        return xp.where(small, rounded, x)

    def flushed(self, x: Raw) -> Raw:
        """Return a result `x`, ours to overwrite, in canonical form, by two operations.

        As `canonical`, but above, up to 2^(digits+2) shift, an addition may round once more: by
        at most an ulp, in float64 below 2^-914, in float32 below 2^-76.
        """
        x += self.shift
        x -= self.shift
        return x

    def number(self, value: float) -> float:
        """Return a Python number rounded to this format."""
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
    """Return the least e with ``value <= 2**e``."""
    mantissa, exponent = math.frexp(value)
    return exponent - (mantissa == 0.5)
