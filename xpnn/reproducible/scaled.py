"""Products of float64 numbers in a fixed tree, with any partial products.

Where all partial products are from 2^-960 to 2^960, each is a plain one. Else the tree is computed
once more, with numbers whose exponents have no bounds, which gives the same bits where the plain
one has no product out of range. The check waits for the device.

A number x 2^(600 e) is a pair of x and e, along a new first axis. Every x but 0, infinities and NaN
has 2^-480 <= |x| <= 2^480. So a product of two is from 2^-960 to 2^960: it neither overflows nor
loses digits, and becomes such an x, without a rounding error, by one factor of 2^-600 or 2^600.
Likewise every canonical float64 number, from 2^-1021 on and below 2^1024.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xpnn.reproducible.formats import FLOAT64

Raw = Any
# `folded` or `scanned`
Tree = Callable[[Raw, int, Callable[[Raw, Raw], Raw], Any], Raw]


def products(tree: Tree, x: Raw, axis: int, xp: Any) -> Raw:
    """Return canonical float64 numbers multiplied along `axis` in a tree."""
    inside = []

    def times(a: Raw, b: Raw) -> Raw:
        product = a * b
        size = xp.abs(product)
        inside.append(xp.all((size >= 2.0**-960) & (size <= 2.0**960)))
        return product

    result = tree(x, axis, times, xp)
    if not inside or bool(xp.all(xp.stack(inside))):
        return result
    return plain(paired(tree, x, axis, xp), xp)


def paired(tree: Tree, x: Raw, axis: int, xp: Any) -> Raw:
    """Return what `products` does, as pairs."""
    pairs = _within(x, xp.zeros_like(x), xp)
    return tree(pairs, axis % len(x.shape) + 1, lambda a, b: times(a, b, xp), xp)


def _within(x: Raw, e: Raw, xp: Any) -> Raw:
    one = xp.ones_like(x)
    size = xp.abs(x)
    large, small = size > 2.0**480, size < 2.0**-480
    x = x * xp.where(large, one * 2.0**-600, xp.where(small, one * 2.0**600, one))
    return xp.stack([x, e + xp.where(large, one, xp.where(small, -one, one * 0.0))], axis=0)


def times(a: Raw, b: Raw, xp: Any) -> Raw:
    """Return the products of pairs, rounded to 53 bits."""
    return _within(a[0, ...] * b[0, ...], a[1, ...] + b[1, ...], xp)


def plain(pair: Raw, xp: Any) -> Raw:
    """Return pairs as canonical float64 numbers.

    Where |e| >= 3, x 2^(600 e) is beyond 2^1320 or below 2^-1320, and so is x 2^1800 or x 2^-1800.
    The factors come one by one, so only the last one can make a number of fewer digits.
    """
    x, e = pair[0, ...], pair[1, ...]
    one = xp.ones_like(x)
    for k in range(3):
        up, down = e > float(k), e < -float(k)
        x = x * xp.where(up, one * 2.0**600, xp.where(down, one * 2.0**-600, one))
    return FLOAT64.canonical(x, xp)
