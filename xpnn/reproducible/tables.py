"""Constants and tables of the elementary functions, from integer arithmetic alone."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np


def _exp(x: Fraction, bits: int = 160) -> Fraction:
    """Return e^x for |x| <= 32, within 2^-150 of it, relatively."""
    halvings = 12
    small = round(x / 2**halvings * 2**bits)
    term = total = 1 << bits
    for n in range(1, 60):
        term = (term * small >> bits) // n
        total += term
    result = Fraction(total, 1 << bits)
    for _ in range(halvings):
        result = result * result
        scale = 1 << (
            bits + max(0, result.denominator.bit_length() - result.numerator.bit_length())
        )
        result = Fraction(round(result * scale), scale)
    return result


def _log(x: Fraction) -> Fraction:
    """Return log x for x in [1/2, 2], within 2^-150: 2 artanh((x - 1)/(x + 1))."""
    z = (x - 1) / (x + 1)
    bits = 170
    power = round(z * 2**bits)
    square = power * power >> bits
    total = 0
    for n in range(1, 220, 2):
        total += power // n
        power = power * square >> bits
    return Fraction(2 * total, 1 << bits)


def _parts(x: Fraction, exponent: int) -> tuple[float, float]:
    """Return x as a multiple of ``2**exponent``, and the rest."""
    high = math.ldexp(round(x / Fraction(2) ** exponent), exponent)
    return high, float(x - Fraction(high))


_LOG2 = -_log(Fraction(1, 2))
# leading parts with few bits, so that n times them is exact: 17 + 36 and 11 + 40 bits
LN2_64 = _parts(_LOG2 / 64, -42)
LN2 = _parts(_LOG2, -40)
EXP_FIRST = -65472
# beyond the range of float64, within that of the table
EXP_OVERFLOWS = 710.0
EXPM1_LAST = 3700


def _roots() -> list[Fraction]:
    """Return 2^(j/64) for j = 0 .. 63."""
    return [_exp(_LOG2 * j / 64) if j else Fraction(1) for j in range(64)]


def _padded(*tables: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return tables of 2^b numbers, so that the last b bits of any integer are a place in them."""
    length = 1 << (len(tables[0]) - 1).bit_length()
    return tuple(np.pad(table, (0, length - len(table))) for table in tables)


def exp() -> tuple[Any, ...]:
    """Return 2^(n/64 - 1) for n = -65472 .. 65599, zero below 2^-960, and what that leaves over.

    The latter as a part of the former.
    """
    exact = _roots()
    roots = np.asarray([float(r) for r in exact])
    rests = np.asarray([float(r / Fraction(float(r)) - 1) for r in exact])
    k = np.arange(-1023, 1025)
    table = np.ldexp(roots[None, :], (k[:, None] - 1).clip(-1020, 1023))
    table[k < -960] = 0.0
    return _padded(table.reshape(-1), np.tile(rests, len(k)))


def expm1() -> tuple[Any, ...]:
    """Return 2^(n/64) for n = -3700 .. 3700, rounded, and what was rounded off."""
    roots = _roots()
    high = np.asarray([float(r) for r in roots])
    low = np.asarray([float(r - Fraction(float(r))) for r in roots])
    n = np.arange(-EXPM1_LAST, EXPM1_LAST + 1)
    return _padded(np.ldexp(high[n % 64], n // 64), np.ldexp(low[n % 64], n // 64))


def tanh() -> tuple[Any, ...]:
    """Return tanh(j/64) for j = -1280 .. 1280."""
    values = []
    for j in range(1281):
        power = _exp(Fraction(2 * j, 64)) if j <= 1024 else _exp(Fraction(j, 64)) ** 2
        values.append(float((power - 1) / (power + 1)))
    half = np.asarray(values)
    return _padded(np.concatenate([-half[:0:-1], half]))


def log() -> tuple[Any, ...]:
    """Return where the powers of two of `Functions.log` begin, their inverses, and by j its logs.

    The last three are, for j = 45 .. 91, 64/j and log(j/64), as a multiple of 2^-40 and a rest.
    """
    k = np.arange(-1020, 904)
    edges = np.ldexp(45 / 64, k)
    scales = np.ldexp(1.0, -np.concatenate([[-1021], k]).clip(-1020, 1020))
    j = range(45, 92)
    logs = np.asarray([_parts(_log(Fraction(i, 64)), -40) for i in j])
    return edges, scales, np.asarray([64 / i for i in j]), logs[:, 0].copy(), logs[:, 1].copy()
