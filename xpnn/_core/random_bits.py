"""Random numbers computed on the device, the same on every backend.

A counter-based generator (Salmon et al. 2011): the i-th number of a key is a hash of both, so
nothing is carried from step to step, and any number can be computed without those before it. The
hash is SplitMix64 (Steele, Lea and Flood 2014), by operations on int64 that wrap around in the same
way in every library.
"""

from __future__ import annotations

from typing import Any

import array_api_compat
import numpy as np

Array = Any

# numbers are less than this
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
        An int64, or an array of shape (1,).
    i
        int64, at least one-dimensional: NumPy warns when a zero-dimensional number wraps around.

    Returns
    -------
    bits
        64 of them in each int64, in the shape of `i`.
    """
    z = (i + 1) * _GOLDEN + key
    z = _folded(z, 30) * _FIRST
    z = _folded(z, 27) * _SECOND
    return _folded(z, 31)


def _folded(z: Array, by: int) -> Array:
    # an int64 is shifted with copies of its sign, which the mask removes
    return z ^ ((z >> by) & ((1 << (64 - by)) - 1))


def stream_key(seed: int, purpose: int) -> int:
    """Return a key for one purpose, such as a layer's number, in a run with `seed`."""
    return int(split(seed, np.asarray([purpose], dtype=np.int64))[0])


def uniform(key: Array, count: int, *, xp: Any) -> Array:
    """Return `count` independent draws from 0 to ``UNIFORM - 1``, int64, shape (count,).

    Each hash gives four. `key` is an int64 array of shape (1,).
    """
    device = array_api_compat.device(key)
    bits = split(key, xp.arange(-(-count // 4), dtype=xp.int64, device=device))
    shifts = xp.arange(0, 64, 16, dtype=xp.int64, device=device)
    quarters = xp.expand_dims(bits, axis=1) >> shifts
    return xp.reshape(quarters & (UNIFORM - 1), (-1,))[:count]
