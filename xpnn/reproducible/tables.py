"""Constants and tables of the elementary functions, made by integer arithmetic only."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np


def _exp(x: Fraction, bits: int = 160) -> Fraction:
    """Return e^x for |x| <= 32, with a relative error below 2^-150."""
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
    """Return log x = 2 artanh((x - 1)/(x + 1)) for x in [1/2, 2], with an error below 2^-150."""
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
    """Return the multiple of ``2**exponent`` nearest to x, and the rest."""
    high = math.ldexp(round(x / Fraction(2) ** exponent), exponent)
    return high, float(x - Fraction(high))


_LOG2 = -_log(Fraction(1, 2))
# The leading parts have few bits, so that n times them is exact: 17 + 36 and 11 + 40 bits.
LN2_64 = _parts(_LOG2 / 64, -42)
LN2 = _parts(_LOG2, -40)
# the least n of the table of `exp`
EXP_FIRST = -65472
# e^x is beyond the range of float64 here, but the table still has an entry
EXP_OVERFLOWS = 710.0
# the table of `expm1` has n from -EXPM1_LAST to EXPM1_LAST
EXPM1_LAST = 3700


def _roots() -> list[Fraction]:
    """Return 2^(j/64) for j = 0 .. 63."""
    return [_exp(_LOG2 * j / 64) if j else Fraction(1) for j in range(64)]


def _padded(*tables: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return tables padded to 2^b numbers, so that the last b bits of any integer are an index."""
    length = 1 << (len(tables[0]) - 1).bit_length()
    return tuple(np.pad(table, (0, length - len(table))) for table in tables)


def exp() -> tuple[Any, ...]:
    """Return 2^(n/64 - 1) for n = -65472 .. 65599, rounded, and its relative rounding errors.

    Entries below 2^-960 are zero.
    """
    exact = _roots()
    roots = np.asarray([float(r) for r in exact])
    rests = np.asarray([float(r / Fraction(float(r)) - 1) for r in exact])
    k = np.arange(-1023, 1025)
    table = np.ldexp(roots[None, :], (k[:, None] - 1).clip(-1020, 1023))
    table[k < -960] = 0.0
    return _padded(table.reshape(-1), np.tile(rests, len(k)))


def expm1() -> tuple[Any, ...]:
    """Return 2^(n/64) for n = -3700 .. 3700, rounded, and its rounding errors."""
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
    """Return the tables of `Functions.log`.

    The first two belong to the powers of two: where the interval of each begins, and the inverse
    power. The others are 64/j for j = 45 .. 91, and log(j/64) as a multiple of 2^-40 and a rest.
    """
    k = np.arange(-1020, 904)
    edges = np.ldexp(45 / 64, k)
    scales = np.ldexp(1.0, -np.concatenate([[-1021], k]).clip(-1020, 1020))
    j = range(45, 92)
    logs = np.asarray([_parts(_log(Fraction(i, 64)), -40) for i in j])
    return edges, scales, np.asarray([64 / i for i in j]), logs[:, 0].copy(), logs[:, 1].copy()


def roots() -> tuple[Any, ...]:
    """Return 2^(j/64) for j = 0 .. 63, rounded, and its relative rounding errors."""
    exact = _roots()
    high = np.asarray([float(r) for r in exact])
    rests = [float(r / Fraction(h) - 1) for r, h in zip(exact, map(float, high), strict=True)]
    return high, np.asarray(rests)


# the least exponent in the table of `powers`
POWERS_FIRST = -1024


def powers() -> tuple[Any, ...]:
    """Return 2^k for k = -1024 .. 1023; zero where that is no normal number."""
    k = np.arange(POWERS_FIRST, 1024)
    return (np.where(k < -1022, 0.0, np.ldexp(1.0, k.clip(-1022, 1023))),)


def pair(x: Fraction) -> tuple[float, float]:
    """Return the float64 nearest to x, and the one nearest to what that leaves over."""
    high = float(x)
    return high, float(x - Fraction(high))


def _arctan(x: Fraction, bits: int) -> Fraction:
    """Return arctan x for 0 <= x <= 1/2, with an error below 2^(10 - bits)."""
    power = round(x * 2**bits)
    square = round(x * x * 2**bits)
    total, n = 0, 1
    while power:
        total += (1 if n % 4 == 1 else -1) * power // n
        power = power * square >> bits
        n += 2
    return Fraction(total, 1 << bits)


# Machin's formula
_PI_BITS = 1400
_PI = 16 * _arctan(Fraction(1, 5), _PI_BITS) - 4 * _arctan(Fraction(1, 239), _PI_BITS)
HALF_PI = pair(_PI / 2)
PI = pair(_PI)
INVERSE_LN2 = pair(1 / _LOG2)
INVERSE_LN10 = pair(1 / (_log(Fraction(5, 4)) + 3 * _LOG2))
LN2_PAIR = pair(_LOG2)

# the digits of `two_over_pi` have this many bits
DIGIT = 26
# the number of groups of exponents, DIGIT each, up to that of the largest number
GROUPS = 40


def two_over_pi() -> tuple[Any, ...]:
    """Return the tables of `Trigonometry.reduced`.

    The first has the edges of groups of exponents, 2^26, 2^52, ..., the second 2^(-26 g) for each
    group g, the third the digits d[j] of 2/pi, the sum of d[j] 2^(-26 j), for j = -2 .. 46, with
    |d[j]| <= 2^25.
    """
    places = GROUPS + 7
    rest = round(2 / _PI * 2 ** (DIGIT * places))
    digits = []
    for _ in range(places):
        digit = rest & ((1 << DIGIT) - 1)
        if digit >= 1 << (DIGIT - 1):
            digit -= 1 << DIGIT
        digits.append(digit)
        rest = (rest - digit) >> DIGIT
    groups = np.arange(GROUPS)
    return (
        np.ldexp(1.0, DIGIT * groups[1:]),
        np.ldexp(1.0, -DIGIT * groups),
        np.asarray([0.0, 0.0, float(rest), *map(float, digits[::-1])]),
    )


def arctan() -> tuple[Any, ...]:
    """Return arctan(j/64) for j = 0 .. 64, rounded, and its rounding errors."""
    values = []
    for j in range(65):
        # arctan x = pi/4 - arctan((1 - x)/(1 + x))
        x = Fraction(j, 64)
        small = x <= Fraction(1, 2)
        part = _arctan(x if small else (1 - x) / (1 + x), 200)
        values.append(pair(part if small else _PI / 4 - part))
    table = np.asarray(values)
    return table[:, 0].copy(), table[:, 1].copy()
