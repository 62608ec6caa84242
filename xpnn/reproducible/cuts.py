"""Operands cut into slices of few bits, so that products of slices are exact (Ozaki et al.)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from xpnn.reproducible.array import Array
from xpnn.reproducible.assumptions import Truth
from xpnn.reproducible.exact import power_above
from xpnn.reproducible.formats import FLOAT64, ceil_log2

Raw = Any

# between 2^-COMFORT and 2^COMFORT, neither slices nor their products leave float64
COMFORT = 400
# below SMALL elements, the number of operations counts, above, that of passes
SMALL = 20_000
# NumPy buffers shorter rows, and a pass takes twice the time
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
    """Return the bits of a slice: ``terms * 2**(2*bits) <= 2**53``; few values, to share cuts."""
    if terms <= 2**11:
        return 21
    if terms <= 2**21:
        return 16
    raise ValueError(f"an inner dimension of {terms}: at most 2**21 can be made reproducible")


def double(raw: Raw, xp: Any) -> Raw:
    """Return `raw` in float64."""
    return raw if raw.dtype == xp.float64 else xp.astype(raw, xp.float64)


def cut(array: Array, axis: int, bits: Sequence[int], xp: Any, *, scale: float = 1.0) -> Cut | None:
    """Return `array` as slices of so many bits each, relative to its maxima along `axis`.

    With L the least power of two not below `scale` times the maximum of |x| along `axis`, the first
    slice is x rounded to a multiple of 2^-bits L, the next is the rest rounded to a multiple of
    2^(-bits-1) of that quantum, and so on; each is at most 2^bits of its quanta. Adding and
    subtracting 1.5 * 2^52 quanta rounds, and all else is exact. None where a maximum is
    not in the comfortable range.

    A cut is kept with its array; a transpose looks its cuts up in the original, so that one
    serves ``x @ w`` and ``x.T @ dy``.
    """
    if array.original is not None:
        other = cut(array.original, -3 - axis, bits, xp, scale=scale)
        if other is None:
            return None
        return Cut([xp.matrix_transpose(s) for s in other.slices], other.low)
    kept = kept_of(array)
    if scale == 1.0 and array.high is not None and array.low > -COMFORT and array.high < COMFORT:
        key: Any = ("grid", *bits)
        if key not in kept:
            raw, width = double(array.raw, xp), array.high - array.low
            kept[key] = slices(raw, array.high, bits, width=width)
    else:
        if not _are_all_usual(array, axis, xp):
            return None
        key = (axis, scale, *bits)
        if key not in kept:
            kept[key] = _cut(array, axis, bits, scale, xp)
    found: Cut = kept[key]
    return found


def kept_of(array: Array) -> dict[Any, Any]:
    """Return what is kept of an array, to be added to."""
    if array.cuts is None:
        array.cuts = {}
    return array.cuts


def _cut(array: Array, axis: int, bits: Sequence[int], scale: float, xp: Any) -> Cut:
    raw = double(array.raw, xp)
    unit = unit_of(array, axis, scale, xp)
    least = _least(scale)
    rows = _joined(raw, axis, xp)
    if rows is raw:
        return slices(raw, least, bits, unit=unit)
    repeats = rows.shape[1] // raw.shape[1]
    # a product, and not a reshaped view, which would be copied twice
    unit = xp.reshape(xp.broadcast_to(unit, (repeats, raw.shape[1])) * 1.0, (1, -1))
    pieces, low = slices(rows, least, bits, unit=unit)
    return Cut([xp.reshape(piece, raw.shape) for piece in pieces], low)


def cut_where_usual(array: Array, bits: Sequence[int], scale: float, xp: Any) -> tuple[Cut, Raw]:
    """Return columns cut as by `cut`, zeros where they are out of comfort; and which aren't."""
    raw = double(array.raw, xp)
    maxima = _maxima(raw, -2, xp)
    usual = _are_usual(maxima)
    raw, maxima = (xp.where(usual, x, 0.0) for x in (raw, maxima))
    unit = power_above(maxima * scale, xp)
    return slices(raw, _least(scale), bits, unit=unit), usual


def _least(scale: float) -> int:
    """Return the exponent of the least unit where maxima are in comfort."""
    return math.frexp(scale)[1] - 1 - COMFORT


def _maxima_of(array: Array, axis: int, xp: Any) -> tuple[Raw, Truth, int | None]:
    """Return the maxima of |x|, whether all are in comfort, and the axis that they are along.

    In training, most operands are cut along both axes; and a look whether all are in comfort costs
    more than the maxima, so a small matrix has both looked at together: the axis is None then.
    """
    kept = kept_of(array)
    own = None if array.ndim == 2 and array.size < SMALL else axis
    key = ("maxima", own)
    if key not in kept:
        maxima = _maxima(double(array.raw, xp), own, xp)
        kept[key] = maxima, Truth(xp.all(_are_usual(maxima)))
    return *kept[key], own


def _are_all_usual(array: Array, axis: int, xp: Any) -> bool:
    """Return whether the maxima of |x| along `axis` are in comfort, and so can be cut by."""
    _, usual, _ = _maxima_of(array, axis, xp)
    return bool(usual)


def unit_of(array: Array, axis: int, scale: float, xp: Any) -> Raw:
    """Return the least powers of two not below `scale` times the maxima of |x| along `axis`."""
    maxima, _, own = _maxima_of(array, axis, xp)
    kept = kept_of(array)
    if ("unit", own, scale) not in kept:
        kept["unit", own, scale] = power_above(maxima if scale == 1.0 else maxima * scale, xp)
    unit = kept["unit", own, scale]
    if own is not None:
        return unit
    columns = array.shape[1]
    return unit[None, :columns] if axis == -2 else unit[columns:, None]


def _maxima(raw: Raw, axis: int | None, xp: Any) -> Raw:
    """Return the maxima of |x| along `axis`; of a matrix, those of its columns and rows if None."""
    if axis is None:
        magnitudes = xp.abs(raw)
        return xp.concat([xp.max(magnitudes, axis=0), xp.max(magnitudes, axis=1)])
    rows = _joined(raw, axis, xp)
    maxima = xp.max(xp.abs(rows), axis=axis, keepdims=True)
    if rows is raw:
        return maxima
    return xp.max(xp.reshape(maxima, (-1, raw.shape[1])), axis=0, keepdims=True)


def _are_usual(maxima: Raw) -> Raw:
    """Return which are in comfort: 0, or between 2^-COMFORT and 2^COMFORT."""
    return (maxima >= 2.0**-COMFORT) & (maxima <= 2.0**COMFORT) | (maxima == 0.0)


def _joined(raw: Raw, axis: int, xp: Any) -> Raw:
    """Return a large matrix that is cut by columns with several rows joined to a longer one."""
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
    raw, high, bits
        As for `cut`.
    width
        All values are multiples of ``2**(high - width)``: once the slices reach that, the rest is
        a slice as it is.
    unit
        If given, |raw| <= unit, and ``2**high`` is the least unit.
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
            piece = rest  # a difference, our own
            piece += shift
        else:
            piece = rest + shift
        piece -= shift
        pieces.append(piece)
        if k < len(bits) - 1:
            rest = rest - piece
    return Cut(pieces, high - depth)


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
