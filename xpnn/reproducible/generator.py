"""Random numbers by a counter: the same ones on every library and device.

Threefry-2x32 with 20 rounds (Salmon, Moraes, Dror, Shaw, *Parallel random numbers: as easy as 1, 2,
3*, SC 2011) makes 64 bits of a key and a counter, by sums, rotations and exclusive ors of 32-bit
words. Here the words are in int64, where nothing overflows.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from xpnn.errors import finite, nonnegative
from xpnn.reproducible import arguments
from xpnn.reproducible.dtypes import FLOATS, INTEGERS

Raw = Any
Array = Any

_WORD = 2**32 - 1
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA


def threefry(key: tuple[int, int], first: Raw, second: Raw) -> tuple[Raw, Raw]:
    """Return the two words of Threefry-2x32-20 for int64 arrays of two words of a counter."""
    words = (*key, key[0] ^ key[1] ^ _PARITY)
    x, y = (first + words[0]) & _WORD, (second + words[1]) & _WORD
    for block in range(5):
        for rotation in _ROTATIONS[block % 2]:
            x = (x + y) & _WORD
            y = ((y << rotation) | (y >> (32 - rotation))) & _WORD
            y = y ^ x
        x = (x + words[(block + 1) % 3]) & _WORD
        y = (y + words[(block + 2) % 3] + (block + 1)) & _WORD
    return x, y


class Generator:
    """A stream of random numbers: ``xp.random(seed)``.

    A draw takes the next counters of the stream, so the numbers depend on the seed and on what was
    drawn before, and on nothing else.

    Parameters
    ----------
    xp
        The namespace whose arrays are drawn.
    seed
        A whole number from 0 to 2^64 - 1.

    Raises
    ------
    ValueError
        If the seed is out of range.
    """

    def __init__(self, xp: Any, seed: int) -> None:
        seed = arguments.whole("seed", seed)
        if not 0 <= seed < 2**64:
            raise ValueError(f"seed must be from 0 to 2**64 - 1, got {seed}")
        self._xp = xp
        self.seed = seed
        self.position = 0
        if hasattr(xp, "within"):
            for name in ("uniform", "normal", "integers", "permutation", "choice"):
                setattr(self, name, xp.within(getattr(self, name)))

    def __reduce__(self) -> tuple[Any, ...]:
        # without the draws that are bound to this stream
        return type(self), (self._xp, self.seed), {"position": self.position}

    def __repr__(self) -> str:
        return f"Generator({self.seed}) at {self.position}"

    def spawn(self, number: int) -> Generator:
        """Return another stream, which depends on this one's seed and on `number` only."""
        number = arguments.whole("number", number)
        if not 0 <= number < 2**63:
            raise ValueError(f"number must be from 0 to 2**63 - 1, got {number}")
        # counters of draws are below 2^63
        high, low = (number >> 32) | 2**31, number & _WORD
        x, y = threefry(self._key, np.int64(low), np.int64(high))
        return Generator(self._xp, int(x) << 32 | int(y))

    @property
    def _key(self) -> tuple[int, int]:
        return self.seed & _WORD, self.seed >> 32

    def _words(self, count: int) -> tuple[Raw, Raw]:
        """Return two raw words for each of the next `count` counters."""
        counters = self._xp._iota(count) + self.position
        self.position += count
        return threefry(self._key, counters & _WORD, counters >> 32)

    def _fractions(self, count: int) -> Raw:
        """Return raw multiples of 2^-53 in [0, 1)."""
        x, y = self._words(count)
        raw = self._xp._raw
        high, low = (raw.astype(v, raw.float64) for v in (x >> 5, y >> 6))
        return (high * 2.0**26 + low) * 2.0**-53

    def _asked(self, shape: Any, dtype: Any) -> tuple[int, ...]:
        """Return the shape of floats; raise before anything is drawn."""
        if dtype is not None:
            self._xp._float_dtype(dtype)
        return arguments.shape(shape)

    def _shaped(self, raw: Raw, shape: tuple[int, ...], dtype: Any) -> Array:
        xp = self._xp
        result = xp.reshape(xp.wrap(raw), shape)
        return result if dtype is None else xp.astype(result, dtype, copy=False)

    def uniform(
        self, shape: Any = (), *, low: float = 0.0, high: float = 1.0, dtype: Any = None
    ) -> Array:
        """Return numbers that are spread evenly from `low` to `high`.

        Parameters
        ----------
        shape
            The shape of the result.
        low, high
            The ends of the range: ``low + (high - low) u`` with u a multiple of 2^-53 in [0, 1).
            If `low` isn't 0, it may be rounded to `high`.
        dtype
            float64 if None; in float32 each number is rounded, also to `high`.
        """
        shape, low, high = self._asked(shape, dtype), finite("low", low), finite("high", high)
        fractions = self._fractions(math.prod(shape))
        if math.isinf(high - low):
            raw = (fractions * (0.5 * high - 0.5 * low) + 0.5 * low) * 2.0
        else:
            raw = fractions * (high - low) + low
        return self._shaped(raw, shape, dtype)

    def normal(
        self, shape: Any = (), *, mean: float = 0.0, std: float = 1.0, dtype: Any = None
    ) -> Array:
        """Return normal deviates, by the method of Box and Muller (1958).

        Parameters
        ----------
        shape
            The shape of the result.
        mean, std
            Those of the distribution.
        dtype
            float64 if None.
        """
        shape, mean, std = self._asked(shape, dtype), finite("mean", mean), nonnegative("std", std)
        count = math.prod(shape)
        pairs = -(-count // 2)
        raw, functions = self._xp._raw, self._xp._functions
        radius = functions.sqrt(functions.log(1.0 - self._fractions(pairs)) * -2.0)
        angle = self._fractions(pairs) * (2.0 * math.pi)
        both = raw.concat([radius * functions.cos(angle), radius * functions.sin(angle)])
        return self._shaped(both[:count] * std + mean, shape, dtype)

    def integers(self, low: int, high: int | None = None, shape: Any = ()) -> Array:
        """Return whole numbers from `low` to `high` - 1, all equally likely, in int64.

        Parameters
        ----------
        low, high
            The ends of the range; ``integers(n)`` is from 0 to n - 1.
        shape
            The shape of the result.

        Raises
        ------
        ValueError
            If there is no number in the range, or the range isn't one of int64.
        """
        low, high = (0, low) if high is None else (low, high)
        low, high = arguments.whole("low", low), arguments.whole("high", high)
        if not -(2**63) <= low < high <= 2**63:
            raise ValueError(f"no int64 from {low} to {high} - 1")
        xp, raw, shape = self._xp, self._xp._raw, arguments.shape(shape)
        count, size = math.prod(shape), high - low
        if size == 2**64:
            result = self._bits(count)
        else:
            # as many bits as the largest number has; what is larger is drawn again
            bits = (size - 1).bit_length()
            result = self._some_bits(count, bits)
            order = xp._integer.ordered
            while True:
                bad = order(result, full=True) >= (size - 2**63)
                if bits == 0 or not bool(raw.any(bad)):
                    break
                result = raw.where(bad, self._some_bits(count, bits), result)
        return xp.reshape(xp._whole_array(result + low), shape)

    def _bits(self, count: int) -> Raw:
        x, y = self._words(count)
        return (x << 32) | y

    def _some_bits(self, count: int, bits: int) -> Raw:
        drawn = self._bits(count)
        return drawn & ((1 << bits) - 1 if bits < 64 else -1)

    def _length(self, x: Array) -> int:
        self._xp._kind(x, self._xp.dtypes.names(), "a random choice")
        return int(x.shape[0])

    def permutation(self, x: Any) -> Array:
        """Return 0 to n - 1 in random order, or the elements along the first axis of an array."""
        xp = self._xp
        if _is_array(x):
            return xp.take(x, self.permutation(self._length(x)), axis=0)
        count = arguments.count("x", x)
        return xp.argsort(xp._whole_array(self._bits(count)))

    def choice(
        self, x: Any, shape: Any = (), *, replace: bool = True, p: Array | None = None
    ) -> Array:
        """Return random elements of 0 to n - 1, or of the first axis of an array.

        Parameters
        ----------
        x
            n, or the array.
        shape
            The shape of the result, before the other axes of the array.
        replace
            Whether an element may be drawn twice.
        p
            The probability of each element, in proportion; all are equal if None. Without
            replacement, each draw is by the probabilities of the elements that are left
            (Efraimidis and Spirakis 2006).

        Raises
        ------
        ValueError
            If more elements are asked for than there are, or `p` has another length, a negative
            number or only zeros.
        """
        xp = self._xp
        size = self._length(x) if _is_array(x) else arguments.count("x", x)
        shape = arguments.shape(shape)
        count = math.prod(shape)
        available = size
        if p is not None:
            xp._kind(p, (*INTEGERS, *FLOATS), "p")
            if p.shape != (size,):
                raise ValueError(f"p must have the shape ({size},), not {p.shape}")
            wide = xp.astype(p, xp.float64)
            if not bool(xp.all(xp.isfinite(wide) & (wide >= 0.0))) or not bool(xp.any(wide > 0.0)):
                raise ValueError("p must have finite numbers from 0 on, not all of them 0")
            available = int(xp.count_nonzero(wide))
            last = int(xp.max(xp.nonzero(wide)[0]))
            # a power of two, so that neither sums nor quotients overflow
            exponent = math.frexp(float(xp.max(wide)))[1]
            scaled = wide * 2.0 ** -max(-1000, min(exponent, 1000))
            wide = xp.where(wide > 0.0, xp.maximum(scaled, 2.0**-1000), 0.0)
        if count > (available if not replace else count * min(size, 1)):
            raise ValueError(f"{count} elements of {available} can't be drawn")
        if p is None:
            # no elements of none are fine
            drawn = self.integers(max(size, 1), shape=count) if replace else self.permutation(size)
            index = drawn[:count]
        elif replace:
            ends = xp.cumulative_sum(wide)
            drawn = self.uniform((count,)) * ends[-1]
            index = xp.searchsorted(ends, drawn, side="right")
            # the last one with a probability, if rounding went beyond it
            index = xp.minimum(index, last)
        else:
            drawn = xp.log(1.0 - self.uniform((size,)))
            times = xp.where(wide > 0.0, -drawn / xp.where(wide > 0.0, wide, 1.0), math.inf)
            index = xp.argsort(times)[:count]
        index = xp.reshape(index, shape)
        return xp.take(x, index, axis=0) if _is_array(x) else index


def _is_array(x: Any) -> bool:
    """Return whether this has elements to draw from, not their number; NumPy's have a shape too."""
    return getattr(x, "ndim", 0) > 0
