"""Operands cut into slices of few bits, so that products of slices are exact (Ozaki et al.)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from xpnn.reproducible.assumptions import Condition
from xpnn.reproducible.exact import power_above
from xpnn.reproducible.formats import FLOAT64, ceil_log2
from xpnn.reproducible.operand import Operand

Raw = Any

# The safe range of magnitudes: between 2^-SAFE and 2^SAFE, slices and their products are normal
# numbers of float64. Zero is safe too.
SAFE = 400
# with fewer elements, the number of operations decides on the time; with more, the number of
# passes over the elements
SMALL = 20_000
# NumPy copies rows shorter than this into a buffer, and a pass takes twice the time
LONG = 4096
# the widths that `width_of` tries
_WIDTHS = (42, 32, 21, 16, 8)


class Cut(NamedTuple):
    """An operand as a sum of slices, the largest first."""

    slices: list[Raw]
    low: int  # the elements of the last slice are multiples of 2**low


class Scaled(NamedTuple):
    """An operand as ``y * unit * 2**(300 * level)``, |y| <= 1; one unit and level along an axis."""

    y: Raw
    unit: Raw
    level: Raw


class Window(NamedTuple):
    """The elements within 2^150 of ``2**(300 * level)``, divided by it, as slices."""

    level: int
    slices: list[Raw]


def bits_for(terms: int) -> int:
    """Return how many bits a slice may have for a product with an inner dimension of `terms`.

    ``terms * 2**(2*bits) <= 2**53``. There are only two answers, so that products of different
    inner dimensions can share a cut.
    """
    if terms <= 2**11:
        return 21
    if terms <= 2**21:
        return 16
    raise ValueError(f"an inner dimension of {terms}: at most 2**21 can be made reproducible")


def double(raw: Raw, xp: Any) -> Raw:
    """Return `raw` in float64."""
    return raw if raw.dtype == xp.float64 else xp.astype(raw, xp.float64)


def cut(
    operand: Operand, axis: int, bits: Sequence[int], xp: Any, *, scale: float = 1.0
) -> Cut | None:
    """Return `operand` as slices, relative to its maxima along `axis`; None if one isn't safe.

    With L the least power of two not below `scale` times the maximum of |x| along `axis`, the first
    slice is x rounded to a multiple of 2^-bits[0] L, its quantum. Each further slice is the rest
    rounded to a quantum that is 2^(bits[k]+1) times finer; the rest is at most half the quantum
    before, hence the 1. So a slice is at most 2^bits[k] of its quanta. Adding and subtracting
    1.5 * 2^52 quanta does the rounding, because float64 numbers of that size are whole quanta. All
    else is exact.

    A cut is kept with its operand. A transpose uses the cuts of its original, so that one cut
    serves ``x @ w`` and ``x.T @ dy``.
    """
    original = operand.original
    if original is not None:
        found = cut(original, -3 - axis, bits, xp, scale=scale)  # -1 for -2, and -2 for -1
        if found is None:
            return None
        return Cut([xp.matrix_transpose(piece) for piece in found.slices], found.low)
    low, high, _ = operand.facts
    if scale == 1.0 and high is not None and low > -SAFE and high < SAFE:
        # a bound for all elements serves both axes, and nothing has to be looked at
        return operand.keep(
            ("grid", *bits),
            lambda: slices(double(operand.raw, xp), high, bits, width=high - low),
        )
    _, safe, _ = _maxima_of(operand, axis, xp)
    if not safe:
        return None
    return operand.keep((axis, scale, *bits), lambda: _cut(operand, axis, bits, scale, xp))


def _cut(operand: Operand, axis: int, bits: Sequence[int], scale: float, xp: Any) -> Cut:
    raw = double(operand.raw, xp)
    unit = unit_of(operand, axis, scale, xp)
    least = _least(scale)
    rows = _joined(raw, axis, xp)
    if rows is raw:
        return slices(raw, least, bits, unit=unit)
    repeats = rows.shape[1] // raw.shape[1]
    # the product makes an array of its own: a reshaped view would be copied twice
    unit = xp.reshape(xp.broadcast_to(unit, (repeats, raw.shape[1])) * 1.0, (1, -1))
    pieces, low = slices(rows, least, bits, unit=unit)
    return Cut([xp.reshape(piece, raw.shape) for piece in pieces], low)


def cut_safe_columns(
    operand: Operand, bits: Sequence[int], scale: float, xp: Any
) -> tuple[Cut, Raw]:
    """Return the operand cut by columns, zeros in those that aren't safe, and which are safe."""
    raw = double(operand.raw, xp)
    maxima = _maxima(raw, -2, xp)
    safe = _are_safe(maxima)
    raw, maxima = (xp.where(safe, x, 0.0) for x in (raw, maxima))
    unit = power_above(maxima * scale, xp)
    return slices(raw, _least(scale), bits, unit=unit), safe


def _least(scale: float) -> int:
    """Return the exponent of the least unit that safe maxima can lead to."""
    return math.frexp(scale)[1] - 1 - SAFE


def _maxima_of(operand: Operand, axis: int, xp: Any) -> tuple[Raw, Condition, int | None]:
    """Return the maxima of |x|, whether all of them are safe, and the axis that they are along.

    In training most operands are cut along both axes, and looking whether all maxima are safe costs
    more than computing them. So the maxima along both axes of a small matrix are computed together
    and looked at once; the axis is None then.
    """
    own = None if operand.ndim == 2 and operand.size < SMALL else axis

    def compute() -> tuple[Raw, Condition]:
        maxima = _maxima(double(operand.raw, xp), own, xp)
        return maxima, Condition(xp.all(_are_safe(maxima)))

    return *operand.keep(("maxima", own), compute), own


def unit_of(operand: Operand, axis: int, scale: float, xp: Any) -> Raw:
    """Return the least powers of two not below `scale` times the maxima of |x| along `axis`."""
    maxima, _, own = _maxima_of(operand, axis, xp)
    unit = operand.keep(
        ("unit", own, scale), lambda: power_above(maxima if scale == 1.0 else maxima * scale, xp)
    )
    if own is not None:
        return unit
    columns = operand.shape[1]
    return unit[None, :columns] if axis == -2 else unit[columns:, None]


def _maxima(raw: Raw, axis: int | None, xp: Any) -> Raw:
    """Return the maxima of |x| along `axis`; if None, those of a matrix's columns, then rows."""
    if axis is None:
        magnitudes = xp.abs(raw)
        return xp.concat([xp.max(magnitudes, axis=0), xp.max(magnitudes, axis=1)])
    rows = _joined(raw, axis, xp)
    maxima = xp.max(xp.abs(rows), axis=axis, keepdims=True)
    if rows is raw:
        return maxima
    return xp.max(xp.reshape(maxima, (-1, raw.shape[1])), axis=0, keepdims=True)


def _are_safe(maxima: Raw) -> Raw:
    """Return which maxima are safe: 0, or between 2^-SAFE and 2^SAFE."""
    return (maxima >= 2.0**-SAFE) & (maxima <= 2.0**SAFE) | (maxima == 0.0)


def _joined(raw: Raw, axis: int, xp: Any) -> Raw:
    """Return `raw`; a large matrix that is cut by columns has several rows joined to a long one."""
    if axis != -2 or len(raw.shape) != 2 or raw.shape[0] * raw.shape[1] < SMALL:
        return raw
    rows, columns = raw.shape
    long = (n for n in range(LONG // columns + 1, rows + 1) if rows % n == 0)
    count = next(long, 1)
    return raw if count == 1 else xp.reshape(raw, (rows // count, count * columns))


def slices(
    raw: Raw, high: int, bits: Sequence[int], *, width: int = 1 << 20, unit: Raw | None = None
) -> Cut:
    """Return `raw`, |raw| <= 2**high, as slices.

    Parameters
    ----------
    raw
        A raw float64 array.
    high
        The exponent of a bound of |raw|, or of the least `unit`.
    bits
        How many bits each slice has; see `cut`.
    width
        All elements are multiples of ``2**(high - width)``: once the slices reach that, the rest is
        a slice as it is.
    unit
        If given, an array of powers of two with |raw| <= unit in place of ``2**high``.
    """
    pieces: list[Raw] = []
    rest, depth = raw, -1
    for k, own in enumerate(bits):
        depth += own + 1
        if width <= depth:
            pieces.append(rest)
            return Cut(pieces, high - width)
        shift: Any = math.ldexp(1.5, 52 - depth)
        shift = math.ldexp(shift, high) if unit is None else unit * shift
        if 0 < k == len(bits) - 1:
            piece = rest  # a difference that was computed below, so it may be overwritten
            piece += shift
        else:
            piece = rest + shift
        piece -= shift
        pieces.append(piece)
        if k < len(bits) - 1:
            rest = rest - piece
    return Cut(pieces, high - depth)


def width_of(parts: Callable[[], Iterable[Raw]], xp: Any) -> tuple[int, int] | None:
    """Return (low, high) such that all elements are multiples of 2**low and at most 2**high.

    `parts` returns all parts of an array, in float64, each time it is called. The result is None if
    high - low would be larger than 42, or if the largest element isn't safe.
    """
    largest = max((float(xp.max(xp.abs(raw))) for raw in parts()), default=0.0)
    if not 2.0**-SAFE <= largest <= 2.0**SAFE:
        return None
    high, widths = ceil_log2(largest), list(_WIDTHS)
    for raw in parts():
        for i, width in enumerate(widths):
            shift = math.ldexp(1.5, high - width + 52)
            if not bool(xp.all((raw + shift) - shift == raw)):
                del widths[i:]
                break
        if not widths:
            return None
    return high - widths[-1], high


# Operands outside the safe range


def level_of(magnitude: Raw, xp: Any) -> Raw:
    """Return k, a float, where ``2**(300*k - 150) <= magnitude < 2**(300*k + 150)``, -3 to 3."""
    level = magnitude * 0.0
    for k in range(-3, 3):
        level = level + xp.astype(magnitude >= 2.0 ** (300 * k + 150), xp.float64)
    return level - 3.0  # what reaches none of the six bounds has the lowest level


def power300(level: Raw, xp: Any) -> Raw:
    """Return ``2**(300 * level)`` for whole levels from -3 to 3."""
    power = level * 0.0
    for k in range(-3, 4):
        power = xp.where(level == float(k), 2.0 ** (300 * k), power)
    return power


def scaled(raw: Raw, axis: int, xp: Any) -> Scaled:
    """Return finite `raw` divided by the magnitudes of its maxima along `axis`."""
    maxima = xp.max(xp.abs(raw), axis=axis, keepdims=True)
    level = level_of(maxima, xp)
    raw = FLOAT64.canonical(raw * power300(-level, xp), xp)
    unit = power_above(maxima * power300(-level, xp), xp)
    unit = xp.where(unit > 0, unit, 1.0)
    return Scaled(FLOAT64.canonical(raw * (1.0 / unit), xp), unit, level)


def unscaled(raw: Raw, unit: Raw, level: Raw, xp: Any) -> Raw:
    """Return ``raw * unit * 2**(300 * level)`` for |level| <= 6, canonical.

    2**(300 * level) may be out of range, so it is two factors. They are both large or both small:
    if the first product is rounded or flushed, the result is zero anyway.
    """
    first = xp.minimum(xp.maximum(level, -3.0), 3.0)
    raw = raw * unit
    raw = raw * power300(first, xp)
    raw = raw * power300(level - first, xp)
    return FLOAT64.canonical(raw, xp)


def windows(raw: Raw, axis: int, bits: int, xp: Any) -> list[Window]:
    """Return finite `raw` in windows of magnitude, each cut along `axis` to the last bit."""
    level = xp.where(raw == 0.0, 0.0, level_of(xp.abs(raw), xp))
    found = []
    for k in range(-3, 4):
        inside = level == float(k)
        if not bool(xp.any(inside)):
            continue
        part = xp.where(inside, raw, 0.0) * 2.0 ** (-300 * k)
        maxima = xp.max(xp.abs(part), axis=axis, keepdims=True)
        quantum = power_above(maxima, xp) * 2.0**-bits
        pieces: list[Raw] = []
        while bool(xp.any(part != 0.0)):
            shift = quantum * (1.5 * 2.0**52)
            pieces.append((part + shift) - shift)
            part = part - pieces[-1]
            quantum = quantum * 2.0 ** (-bits - 1)
        found.append(Window(k, pieces or [part]))
    return found
