"""Operands cut into slices of few bits, so that products of slices are exact (Ozaki et al.)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from xpnn.reproducible.array import Array
from xpnn.reproducible.exact import power_above
from xpnn.reproducible.formats import FLOAT64, ceil_log2

Raw = Any

# between 2^-COMFORT and 2^COMFORT, neither slices nor their products leave float64
COMFORT = 400
# below SMALL elements, the number of operations counts, above, that of passes
SMALL = 20_000
# elements of a row that is long enough to be worth joining
LONG = 4096
# that `width_of` tries
_WIDTHS = (42, 32, 21, 16, 8)


class Cut(NamedTuple):
    """An operand as a sum of slices, the largest first."""

    slices: list[Raw]
    low: int  # the last slice's elements are multiples of 2**low


class Scaled(NamedTuple):
    """An operand as ``y * unit * 2**(300 * level)`` with |y| <= 1, along an axis."""

    y: Raw
    unit: Raw
    level: Raw


class Window(NamedTuple):
    """The elements within 2^150 of ``2**(300 * level)``, divided by it, as slices."""

    level: int
    slices: list[Raw]


def bits_for(terms: int) -> int:
    """Return the bits of a slice: ``terms * 2**(2*bits) <= 2**53``; few values share cuts."""
    if terms <= 2**11:
        return 21
    if terms <= 2**21:
        return 16
    raise ValueError(f"an inner dimension of {terms}: at most 2**21 can be made reproducible")


def double(raw: Raw, xp: Any) -> Raw:
    """Return `raw` in float64."""
    return raw if raw.dtype == xp.float64 else xp.astype(raw, xp.float64)


def cut(array: Array, axis: int, bits: int, count: int, xp: Any) -> Cut | None:
    """Return `array` as `count` slices of `bits` bits, relative to its maxima along `axis`.

    With L the least power of two not below the maximum of |x| along `axis`, the first slice
    is x rounded to a multiple of 2^-bits L, the next is the rest rounded to a multiple of
    2^(-bits-1) of that quantum, and so on; each is at most 2^bits of its quanta. Adding and
    subtracting 1.5 * 2^52 quanta rounds, and all else is exact. None where a maximum is
    not in the comfortable range.

    A cut is kept with its array; a transpose looks its cuts up in the original, so that one
    serves ``x @ w`` and ``x.T @ dy``.
    """
    base = array.base
    if base is not None and base[0].raw is base[1]:
        other = cut(base[0], -3 - axis, bits, count, xp)
        if other is None:
            return None
        return Cut([xp.matrix_transpose(s) for s in other.slices], other.low)
    kept = array.cuts
    if kept is None:
        kept = array.cuts = {}
    key = (axis, bits, count)
    if key not in kept:
        kept[key] = _cut(array, kept, axis, bits, count, xp)
    found: Cut | None = kept[key]
    return found


def _cut(
    array: Array, kept: dict[Any, Any], axis: int, bits: int, count: int, xp: Any
) -> Cut | None:
    raw = double(array.raw, xp)
    if array.high is not None and array.low > -COMFORT and array.high < COMFORT:
        key = ("grid", bits, count)
        if key not in kept:
            kept[key] = slices(raw, array.high, bits, count, width=array.high - array.low)
        grid: Cut = kept[key]
        return grid
    if array.ndim == 2 and array.size < SMALL:
        if "units" not in kept:
            kept["units"] = _both_units(raw, xp)
        units = kept["units"]
        return None if units is None else slices(raw, -COMFORT, bits, count, unit=units[axis])
    rows = _joined(raw, axis, xp)
    maxima = xp.max(xp.abs(rows), axis=axis, keepdims=True)
    if rows is not raw:
        maxima = xp.max(xp.reshape(maxima, (-1, raw.shape[1])), axis=0, keepdims=True)
    unit = _unit(maxima, xp)
    if unit is None:
        return None
    if rows is raw:
        return slices(raw, -COMFORT, bits, count, unit=unit)
    repeats = rows.shape[1] // raw.shape[1]
    unit = xp.reshape(xp.broadcast_to(unit, (repeats, raw.shape[1])), (1, -1))
    pieces, low = slices(rows, -COMFORT, bits, count, unit=unit)
    return Cut([xp.reshape(piece, raw.shape) for piece in pieces], low)


def _unit(maxima: Raw, xp: Any) -> Raw | None:
    """Return the least powers of two not below `maxima`; None if one is out of comfort."""
    usual = (maxima >= 2.0**-COMFORT) & (maxima <= 2.0**COMFORT) | (maxima == 0.0)
    return power_above(maxima, xp) if bool(xp.all(usual)) else None


def _both_units(raw: Raw, xp: Any) -> dict[int, Raw] | None:
    """Return the units by the axis along which the maxima are taken.

    In training, most operands are cut along both; and a look whether all are in comfort costs more
    than the maxima.
    """
    magnitudes = xp.abs(raw)
    unit = _unit(xp.concat([xp.max(magnitudes, axis=0), xp.max(magnitudes, axis=1)]), xp)
    columns = raw.shape[1]
    return None if unit is None else {-2: unit[None, :columns], -1: unit[columns:, None]}


def _joined(raw: Raw, axis: int, xp: Any) -> Raw:
    """Return a large matrix that is cut by columns with several rows joined to a longer one.

    A pass over a matrix with a row of shifts works row by row, and long rows take half the time.
    """
    if axis != -2 or len(raw.shape) != 2 or raw.shape[0] * raw.shape[1] < SMALL:
        return raw
    rows, columns = raw.shape
    count = max((n for n in range(1, LONG // columns + 1) if rows % n == 0), default=1)
    return raw if count == 1 else xp.reshape(raw, (rows // count, count * columns))


def slices(
    raw: Raw, high: int, bits: int, count: int, *, width: int = 1 << 20, unit: Raw | None = None
) -> Cut:
    """Return `count` slices of `raw`, |raw| <= 2**high.

    Parameters
    ----------
    raw, high, bits, count
        As for `cut`.
    width
        All values are multiples of ``2**(high - width)``: once the slices reach that, the rest is
        a slice as it is.
    unit
        If given, |raw| <= unit, and ``2**high`` is the least unit.
    """
    pieces: list[Raw] = []
    rest, depth = raw, bits
    while True:
        if width <= depth:
            pieces.append(rest)
            return Cut(pieces, high - width)
        shift: Any = math.ldexp(1.5, 52 - depth)
        shift = math.ldexp(shift, high) if unit is None else unit * shift
        if len(pieces) == count - 1:
            if pieces:
                rest += shift  # a difference, our own
                rest -= shift
            else:
                rest = rest + shift
                rest -= shift
            pieces.append(rest)
            return Cut(pieces, high - depth)
        piece = rest + shift
        piece -= shift
        pieces.append(piece)
        rest = rest - piece
        depth += bits + 1


def width_of(parts: Callable[[], Iterable[Raw]], xp: Any) -> tuple[int, int] | None:
    """Return (low, high): all values are multiples of 2**low below 2**high, close together.

    `parts` returns all parts of the array, as often as it is called. None if no high - low up to
    42 does.
    """
    largest = max((float(xp.max(xp.abs(raw))) for raw in parts()), default=0.0)
    if not 2.0**-COMFORT <= largest <= 2.0**COMFORT:
        return None
    high, count = ceil_log2(largest), len(_WIDTHS)
    for raw in parts():
        for i, width in enumerate(_WIDTHS[:count]):
            shift = math.ldexp(1.5, high - width + 52)
            if not bool(xp.all((raw + shift) - shift == raw)):
                count = i
                break
        if count == 0:
            return None
    return high - _WIDTHS[count - 1], high


# Operands beyond the comfortable range


def level_of(magnitude: Raw, xp: Any) -> Raw:
    """Return k, a float, where ``2**(300*k - 150) <= magnitude < 2**(300*k + 150)``, -3 to 3."""
    level = magnitude * 0.0
    for k in range(-3, 3):
        level = level + xp.astype(magnitude >= 2.0 ** (300 * k + 150), xp.float64)
    return level - 3.0


def power300(level: Raw, xp: Any) -> Raw:
    """Return ``2**(300 * level)`` for whole levels from -3 to 3."""
    power = level * 0.0
    for k in range(-3, 4):
        power = xp.where(level == float(k), 2.0 ** (300 * k), power)
    return power


def scaled(raw: Raw, axis: int, xp: Any) -> Scaled:
    """Return finite `raw` without its magnitudes along `axis`."""
    maxima = xp.max(xp.abs(raw), axis=axis, keepdims=True)
    level = level_of(maxima, xp)
    raw = FLOAT64.canonical(raw * power300(-level, xp), xp)
    unit = power_above(maxima * power300(-level, xp), xp)
    unit = xp.where(unit > 0, unit, 1.0)
    return Scaled(FLOAT64.canonical(raw * (1.0 / unit), xp), unit, level)


def unscaled(raw: Raw, unit: Raw, level: Raw, xp: Any) -> Raw:
    """Return ``raw * unit * 2**(300 * level)`` for |level| <= 6, canonical.

    Two steps go the same way, so what the first rounds or loses is zero after the second.
    """
    first = xp.minimum(xp.maximum(level, -3.0), 3.0)
    raw = raw * unit
    raw = raw * power300(first, xp)
    raw = raw * power300(level - first, xp)
    return FLOAT64.canonical(raw, xp)


def windows(raw: Raw, axis: int, bits: int, xp: Any) -> list[Window]:
    """Return finite `raw` in windows, each cut along `axis` to the last bit."""
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
