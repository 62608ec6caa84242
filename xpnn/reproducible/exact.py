"""Operations without a rounding error, made of correctly rounded ones."""

from __future__ import annotations

import itertools
from typing import Any

Raw = Any

# on some processors OpenBLAS has faster kernels for products of at most this many multiplications,
# but blocks thinner than this gain nothing
_BLOCK = 980_000
_THIN = 32


def power_above(x: Raw, xp: Any) -> Raw:
    """Return the least power of two not below x >= 0, exact for 0 and 2^-900 to 2^900 (Rump)."""
    # 2^53 x is a multiple of u = 2 ufp(x), and ulp(2^53 x) = u, so adding x rounds up to the next
    # multiple of u. If x = u/2 there is a tie between that and 2^53 x; the even one, 2^53 x, wins.
    large = x * 2.0**53
    return xp.maximum((large + x) - large, x)


def two_sum(a: Raw, b: Raw) -> tuple[Raw, Raw]:
    """Return a + b as its rounded value and the rounding error (Knuth)."""
    total = a + b
    other = total - a
    return total, (a - (total - other)) + (b - other)


def quick_two_sum(a: Raw, b: Raw) -> tuple[Raw, Raw]:
    """Return a + b as `two_sum` does, where a is 0 or |a| >= |b| (Dekker)."""
    total = a + b
    return total, b - (total - a)


def two_product(a: Raw, b: Raw) -> tuple[Raw, Raw]:
    """Return a * b as its rounded value and the rounding error (Dekker, Veltkamp)."""
    # Each factor is split into halves of at most 26 bits by 2^27 + 1; products of halves are exact.
    parts = []
    for x in (a, b):
        big = x * 134217729.0
        high = big - (big - x)
        parts.append((high, x - high))
    (a1, a2), (b1, b2) = parts
    product = a * b
    return product, a2 * b2 - (((product - a1 * b1) - a2 * b1) - a1 * b2)


def exact_matmul(a: Raw, b: Raw) -> Raw:
    """Return ``a @ b`` where no sum is rounded, so that blocks of it may be added up."""
    if len(a.shape) != 2 or len(b.shape) != 2:
        return a @ b
    inner = a.shape[1]
    count = max(1, a.shape[0] * inner * b.shape[1] // _BLOCK)
    if inner < _THIN * count:
        return a @ b
    edges = [inner * k // count for k in range(count + 1)]
    total = a[:, : edges[1]] @ b[: edges[1], :]
    for start, stop in itertools.pairwise(edges[1:]):
        total += a[:, start:stop] @ b[start:stop, :]
    return total
