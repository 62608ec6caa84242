"""Products and sums of slices: each is exact in any order, and they are added in a fixed order."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from xpnn.reproducible import cuts, pixels
from xpnn.reproducible.cuts import Cut, Window
from xpnn.reproducible.exact import exact_matmul, two_sum
from xpnn.reproducible.formats import FLOAT64
from xpnn.reproducible.operand import Operand

Raw = Any


def matmul(a: Operand, b: Operand, xp: Any) -> tuple[Raw, int]:
    """Return the product at "training" precision, in float64, and its ``low``."""
    single = a.dtype == b.dtype == xp.float32
    found = None if single else pixels.product(a, b, xp)
    if found is None:
        return _by_slices(a, b, single, xp)
    product, low, right = found
    if right is None:
        return product, low
    other, other_low = _by_slices(a, b, single, xp)
    return xp.where(right, product, other), min(low, other_low)


def _by_slices(a: Operand, b: Operand, single: bool, xp: Any) -> tuple[Raw, int]:
    # in float32, one slice fewer is precise enough
    bits = cuts.bits_for(a.shape[-1])
    slices = (bits,) * ((1 if single else 2) if bits == 21 else (2 if single else 3))
    left, right = cuts.cut(a, -1, slices, xp), cuts.cut(b, -2, slices, xp)
    if left is None or right is None:
        return _careful_matmul(a.raw, b.raw, left, right, slices, xp), FLOAT64.low
    return _products(left.slices, right.slices, len(slices)), left.low + right.low


def _products(a: list[Raw], b: list[Raw], count: int) -> Raw:
    """Return the sum of the products of slices p and q with p + q < count, the smallest first.

    The sum of the other products is within the error bound.
    """
    total: Any = None
    for order in reversed(range(count)):
        for p in range(order + 1):
            if p < len(a) and order - p < len(b):
                product = exact_matmul(a[p], b[order - p])
                if total is None:
                    total = product
                else:
                    total += product
    total += 0.0  # a sum of -0 is -0 or 0, depending on the BLAS
    return total


def _careful_matmul(
    a: Raw, b: Raw, left: Cut | None, right: Cut | None, slices: Sequence[int], xp: Any
) -> Raw:
    """Return the product if an operand has no cut: it isn't finite, or isn't in the safe range."""
    pieces, units, levels, finite = [], [], [], True
    for raw, axis, cut in ((a, -1, left), (b, -2, right)):
        raw = cuts.double(raw, xp)
        if cut is not None:
            # its slices aren't scaled: the unit is 1 and the level 0
            pieces.append(cut.slices)
            zero = xp.max(raw, axis=axis, keepdims=True) * 0.0
            units.append(zero + 1.0)
            levels.append(zero)
            continue
        raw, all_finite = _finite(raw, xp)
        finite = finite and all_finite
        scaled = cuts.scaled(raw, axis, xp)
        pieces.append(cuts.slices(scaled.y, 0, slices).slices)
        units.append(scaled.unit)
        levels.append(scaled.level)
    product = _products(pieces[0], pieces[1], len(slices))
    product = cuts.unscaled(product, units[0] * units[1], levels[0] + levels[1], xp)
    return product if finite else _specials(product, a, b, xp)


def _masks(x: Raw, xp: Any) -> SimpleNamespace:
    """Return which elements are of each kind, as 1.0 and 0.0; `number` is all but NaN."""
    nan = xp.isnan(x)
    masks = {
        "positive": x > 0,
        "negative": x < 0,
        "zero": x == 0,
        "plus_inf": x == math.inf,
        "minus_inf": x == -math.inf,
        "nan": nan,
        "number": ~nan,
    }
    return SimpleNamespace(**{kind: xp.astype(m, xp.float64) for kind, m in masks.items()})


def _specials(product: Raw, a: Raw, b: Raw, xp: Any) -> Raw:
    """Return `product`, which is that of the finite elements, with its infinities and NaN put in.

    Each kind of term is counted by a product of masks. Such counts are small whole numbers, which
    are exact in any order.
    """
    x, y = _masks(a, xp), _masks(b, xp)
    # infinity times a number of either sign; infinities have a sign too
    plus = (
        x.plus_inf @ y.positive
        + x.minus_inf @ y.negative
        + x.positive @ y.plus_inf
        + x.negative @ y.minus_inf
    )
    minus = (
        x.plus_inf @ y.negative
        + x.minus_inf @ y.positive
        + x.positive @ y.minus_inf
        + x.negative @ y.plus_inf
    )
    nan = (
        x.nan @ (y.number + y.nan)  # NaN times anything
        + (x.number + x.nan) @ y.nan
        + (x.plus_inf + x.minus_inf) @ y.zero  # infinity times zero
        + x.zero @ (y.plus_inf + y.minus_inf)
        + plus * minus  # infinity minus infinity
    )
    product = xp.where(plus > 0, math.inf, product)
    product = xp.where(minus > 0, -math.inf, product)
    return xp.where(nan > 0, math.nan, product)


def matmul_full(a: Raw, b: Raw, xp: Any) -> Raw:
    """Return the product at "full" precision, in float64."""
    bits = cuts.bits_for(a.shape[-1])
    finite_a, all_a = _finite(cuts.double(a, xp), xp)
    finite_b, all_b = _finite(cuts.double(b, xp), xp)
    left, right = cuts.windows(finite_a, -1, bits, xp), cuts.windows(finite_b, -2, bits, xp)
    product = _all_products(xp.matmul, left, right, xp)
    return product if all_a and all_b else _specials(product, a, b, xp)


def _finite(raw: Raw, xp: Any) -> tuple[Raw, bool]:
    """Return `raw` with zeros for infinities and NaN, and whether there were none."""
    is_finite = xp.isfinite(raw)
    if bool(xp.all(is_finite)):
        return raw, True
    return xp.where(is_finite, raw, 0.0), False


def _all_products(
    product: Callable[..., Raw], left: list[Window], right: list[Window], xp: Any
) -> Raw:
    """Return the sum of the products of all slices of all windows, window by window.

    Every element is cut to its last bit. So a slice that only another row needs is zero in this row
    and adds nothing: the bits of a row don't depend on the other rows.
    """
    sums: dict[int, tuple[Raw, Raw]] = {}
    terms = [
        (a, b, p, q)
        for a in left
        for b in right
        for p in range(len(a.slices))
        for q in range(len(b.slices))
    ]
    terms.sort(key=lambda t: (t[2] + t[3], t[0].level, t[2]))
    for a, b, p, q in terms:
        level = a.level + b.level
        term = product(a.slices[p], b.slices[q]) + 0.0
        if level in sums:
            total, error = sums[level]
            total, rest = two_sum(total, term)
            sums[level] = total, error + rest
        else:
            sums[level] = term, term * 0.0
    result = _sum_of_levels(sums, 0, xp)
    if any(level >= 3 for level in sums):
        # Where that overflowed, on the way or at the end, it is computed again, divided by 2^1800.
        # What is left out or flushed then is below 2^-80 of the terms that overflowed.
        upper = {level: parts for level, parts in sums.items() if level >= 3}
        upper_result = _sum_of_levels(upper, -6, xp) * 2.0**900 * 2.0**900
        result = xp.where(xp.isfinite(result), result, upper_result)
    return FLOAT64.canonical(result, xp)


def _sum_of_levels(sums: dict[int, tuple[Raw, Raw]], shift: int, xp: Any) -> Raw:
    """Return the sum of (total + error) * 2**(300 * (k + shift)) over levels k, highest first.

    Each power is two factors, because it may be out of range.
    """

    def at(level: int) -> list[Raw]:
        first = max(-3, min(3, level + shift))
        scales = 2.0 ** (300 * first), 2.0 ** (300 * (level + shift - first))
        parts = [(part * scales[0]) * scales[1] for part in sums[level]]
        return [FLOAT64.canonical(part, xp) for part in parts] if level + shift < 0 else parts

    highest, *others = sorted(sums, reverse=True)
    result, error = at(highest)
    for level in others:
        total, small = at(level)
        result, rest = two_sum(result, total)
        error = error + (rest + small)
    return result + error


def sum_(x: Operand, axis: int, keepdims: bool, xp: Any) -> tuple[Raw, int]:
    """Return the sum along `axis` at "training" precision, in float64, and its ``low``.

    `axis` is -1 or -2.
    """
    # a sum of at most 2^10 terms of 43 bits is exact (2^10 * 2^43 = 2^53); for more terms, the two
    # slices of `matmul`
    bits = (43,) if x.shape[axis] <= 2**10 else (21, 21)
    found = cuts.cut(x, axis, bits, xp)
    if found is not None:
        return _sum_of_slices(found.slices, axis, keepdims, xp) + 0.0, found.low
    raw = cuts.double(x.raw, xp)
    finite, all_finite = _finite(raw, xp)
    scaled = cuts.scaled(finite, axis, xp)
    total = _sum_of_slices(cuts.slices(scaled.y, 0, bits).slices, axis, True, xp)
    total = cuts.unscaled(total, scaled.unit, scaled.level, xp)
    if not all_finite:
        total = total + _sum_of_specials(raw, axis, xp)
    return total if keepdims else xp.squeeze(total, axis=axis), FLOAT64.low


def _sum_of_slices(slices: list[Raw], axis: int, keepdims: bool, xp: Any) -> Raw:
    total = xp.sum(slices[-1], axis=axis, keepdims=keepdims)
    for piece in reversed(slices[:-1]):
        total += xp.sum(piece, axis=axis, keepdims=keepdims)
    return total


def _sum_of_specials(raw: Raw, axis: int, xp: Any) -> Raw:
    """Return the sum of the infinities and NaN, which is the same in any order; 0 without any."""
    return xp.sum(xp.where(xp.isfinite(raw), 0.0, raw), axis=axis, keepdims=True)


def sum_full(x: Raw, axis: int, xp: Any) -> Raw:
    """Return the sum along `axis`, which is kept, at "full" precision, in float64."""
    raw = cuts.double(x, xp)
    finite, all_finite = _finite(raw, xp)

    def add(piece: Raw, _: None) -> Raw:
        return xp.sum(piece, axis=axis, keepdims=True)

    total = _all_products(add, cuts.windows(finite, axis, 21, xp), [Window(0, [None])], xp)
    return total if all_finite else total + _sum_of_specials(raw, axis, xp)
