"""Random numbers on the device, a pure function of where they are used: the same on every backend.

A counter-based generator (Salmon et al. 2011): the i-th number of a key is a hash of both, so
nothing is carried from step to step, and any number can be had without those before it. The hash
is SplitMix64 (Steele, Lea and Flood 2014), in operations on int64 that wrap around alike in every
library.
"""

from __future__ import annotations

from typing import Any

import array_api_compat
import numpy as np

Array = Any

# the numbers are from 0 to this, exclusive
UNIFORM = 1 << 16


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


_GOLDEN, _FIRST, _SECOND = map(
    _signed, (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)


def split(key: int | Array, i: Array) -> Array:
    """Return the i-th number of the SplitMix64 stream whose seed is `key`, from 0 on.

    Parameters
    ----------
    key
        An int64, or an array of one that is broadcast.
    i
        int64, at least one-dimensional: NumPy warns where a number of no dimension wraps around.

    Returns
    -------
    bits
        All 64 of them, as int64, in the shape of `i`.
    """
    z = (i + 1) * _GOLDEN + key
    z = _folded(z, 30) * _FIRST
    z = _folded(z, 27) * _SECOND
    return _folded(z, 31)


def _folded(z: Array, by: int) -> Array:
    # int64 shifts copies of its sign in, which are masked away
    return z ^ ((z >> by) & ((1 << (64 - by)) - 1))


def stream_key(seed: int, purpose: int) -> int:
    """Return the key of one purpose, such as a layer by its number, of a run with `seed`."""
    return int(split(seed, np.asarray([purpose], dtype=np.int64))[0])


def uniform(key: Array, count: int, *, xp: Any) -> Array:
    """Return `count` independent draws from 0 to ``UNIFORM - 1``, int64, shape (count,).

    One hash gives four of them. `key` is an int64 array of shape (1,).
    """
    device = array_api_compat.device(key)
    bits = split(key, xp.arange(-(-count // 4), dtype=xp.int64, device=device))
    shifts = xp.arange(0, 64, 16, dtype=xp.int64, device=device)
    quarters = xp.expand_dims(bits, axis=1) >> shifts
    return xp.reshape(quarters & (UNIFORM - 1), (-1,))[:count]
