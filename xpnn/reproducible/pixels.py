"""Images, whose values have eight bits: products that are two and a half exact ones, not three.

A pixel is ``p / 255`` rounded to float32, p from 0 to 255. In binary p / 255 repeats the byte p, so
that is ``STEP p + GRID r``, exactly, where STEP makes three bytes of one and r, at most 128, is
what rounding added. So little of a product's 53 bits goes to p or r that the other operand's
first slice has 35 bits. Its next 6 bits are all that the precision "training" asks for beyond, and
their product with p is exact in float32, at half the cost.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from xpnn.reproducible import cuts
from xpnn.reproducible.array import Array

Raw = Any

LEVELS = 255
STEP = 2.0**-8 + 2.0**-16 + 2.0**-24
_DIGITS = 31
GRID = 2.0**-_DIGITS

# K * LEVELS * 2**35 <= 2**53, and K * LEVELS * 2**6 <= 2**24, float32's
MOST_TERMS = 1028
BITS = (35, 6)
# |b| between 2^-RANGE and 2^RANGE has its second slice in float32
RANGE = 64

# an exact product may be cut anywhere; OpenBLAS has a faster way with up to 10^6 multiplications
_BLOCK = 98
# values that are looked at at a time
_CHUNK = 1 << 22


class Pixels(NamedTuple):
    """Images as ``STEP * levels + GRID * rest``."""

    levels: Raw  # uint8
    rest: Raw  # uint8

    def take(self, rows: Raw, xp: Any) -> Pixels:
        """Return those of some rows."""
        return Pixels(*(xp.take(part, rows, axis=0) for part in self))


def find_pixels(raw: Raw, xp: Any) -> Pixels | None:
    """Return a matrix of pixels in two parts, or None if it isn't one."""
    step = max(1, _CHUNK // max(raw.shape[1], 1))
    parts = []
    for start in range(0, raw.shape[0], step):
        part = _split(raw[start : min(start + step, raw.shape[0]), :], xp)
        if part is None:
            return None
        parts.append(part)
    return Pixels(*(xp.concat(part) for part in zip(*parts, strict=True))) if parts else None


def are_pixels(values: Raw, xp: Any) -> bool:
    """Return whether `find_pixels` takes a matrix of these values."""
    return _split(values, xp) is not None


def _split(x: Raw, xp: Any) -> tuple[Raw, Raw] | None:
    x = cuts.double(x, xp)
    levels = xp.round(x * float(LEVELS))
    rest = (x - levels * STEP) * (1.0 / GRID)
    good = (levels >= 0) & (levels <= LEVELS) & (rest >= 0) & (rest <= LEVELS)
    if not bool(xp.all(good & (rest == xp.floor(rest)))):
        return None
    return xp.astype(levels, xp.uint8), xp.astype(rest, xp.uint8)


def product(a: Array, b: Array, xp: Any) -> tuple[Raw, int] | None:
    """Return ``a @ b`` in float64 and its ``low`` if `a` is pixels or their transpose, else None.

    With |a| and |b| the largest values, the error of an element is 2^-42 K |a| |b|, then the
    roundings of two additions and a product: b is rounded to a multiple of 2^-42 L for the product
    with p, where L < 2 |b|, and to one of 2^-35 L for that with GRID r <= 2^-24.
    """
    if b.high is not None or b.ndim != 2 or not 0 < a.shape[-1] <= MOST_TERMS:
        return None
    parts = _parts(a, xp)
    unit = None if parts is None else cuts.unit_of(b, -2, xp)
    if parts is None or unit is None or not cuts.are_within(unit, RANGE, xp):
        return None
    found = cuts.cut(b, -2, BITS, xp)
    assert found is not None
    head, tail = found.slices
    levels, single, rest = parts
    total = _exact(levels, head)
    total += single @ xp.astype(tail, xp.float32)
    total *= STEP
    total += _exact(rest, head)
    total += 0.0  # a sum of -0 is -0 or 0, as the BLAS likes
    return total, found.low - _DIGITS


def _parts(a: Array, xp: Any) -> tuple[Raw, ...] | None:
    """Return p in float64 and in float32, and GRID r in float64; of a transpose, transposed."""
    if a.original is not None:
        found = _parts(a.original, xp)
        return None if found is None else tuple(xp.matrix_transpose(part) for part in found)
    if a.pixels is None:
        return None
    kept = cuts.kept_of(a)
    if "pixels" not in kept:
        levels, rest = a.pixels
        scaled = xp.astype(rest, xp.float64)
        scaled *= GRID
        kept["pixels"] = xp.astype(levels, xp.float64), xp.astype(levels, xp.float32), scaled
    parts: tuple[Raw, ...] = kept["pixels"]
    return parts


def _exact(a: Raw, b: Raw) -> Raw:
    """Return ``a @ b``, of which no sum is rounded, block by block of the inner dimension."""
    inner = a.shape[1]
    count = -(-inner // _BLOCK)
    total: Any = None
    for k in range(count):
        start, stop = inner * k // count, inner * (k + 1) // count
        part = a[:, start:stop] @ b[start:stop, :]
        if total is None:
            total = part
        else:
            total += part
    return total
