"""Operations without a rounding error, made of correctly rounded ones."""

from __future__ import annotations

from typing import Any

Raw = Any


def power_above(x: Raw, xp: Any) -> Raw:
    """Return the least power of two not below x >= 0, exact for 0 and 2^-900 to 2^900 (Rump)."""
    # 2^53 x is a multiple of u = 2 ufp(x), and ulp(2^53 x) = u: adding x rounds to the next u,
    # or, if x = u/2, a tie between it and 2^53 x, to the even one, 2^53 x.
    large = x * 2.0**53
    return xp.maximum((large + x) - large, x)


def two_sum(a: Raw, b: Raw) -> tuple[Raw, Raw]:
    """Return a + b as its rounded value and the rounding error (Knuth)."""
    total = a + b
    other = total - a
    return total, (a - (total - other)) + (b - other)


def two_product(a: Raw, b: Raw) -> tuple[Raw, Raw]:
    """Return a * b as its rounded value and the rounding error (Dekker, Veltkamp)."""
    parts = []
    for x in (a, b):
        big = x * 134217729.0
        high = big - (big - x)
        parts.append((high, x - high))
    (a1, a2), (b1, b2) = parts
    product = a * b
    return product, a2 * b2 - (((product - a1 * b1) - a2 * b1) - a1 * b2)
