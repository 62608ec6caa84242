"""NumPy's stream of normal deviates, with the same bits on every platform."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from xpnn.reproducible.functions import Functions

_functions = Functions(np)


def randn(rng: np.random.RandomState, *shape: int) -> Any:
    """Return ``rng.randn(*shape)``, with the same bits on every platform.

    This is NumPy's legacy method, Marsaglia's polar method, drawn from the same stream: `rng` is
    left where ``rng.randn`` would leave it, with the same second value in store. Only the logarithm
    differs, which ``rng.randn`` takes from the platform; values are within 1 ulp of NumPy's.

    Parameters
    ----------
    rng
        The stream; it is advanced.
    *shape
        The shape of the result.

    Returns
    -------
    ndarray or float
        In float64; a float if no shape is given.
    """
    count = math.prod(shape)
    state: Any = rng.get_state(legacy=True)
    has_gauss, cached = state[3:]
    missing = -(-(count - has_gauss) // 2)
    kept = []
    while missing > 0:  # as many pairs as are missing, so never one too many
        x = 2.0 * rng.random_sample((missing, 2)) - 1.0
        r2 = x[:, 0] * x[:, 0] + x[:, 1] * x[:, 1]
        good = (r2 < 1.0) & (r2 != 0.0)
        kept.append((x[good], r2[good]))
        missing -= len(kept[-1][1])
    values = np.asarray([cached] if has_gauss and count else [])
    if kept:
        x = np.concatenate([k[0] for k in kept])
        r2 = np.concatenate([k[1] for k in kept])
        f = np.sqrt(-2.0 * _functions.log(r2) / r2)
        values = np.concatenate([values, (f[:, None] * x[:, ::-1]).reshape(-1)])
    if count:
        state = rng.get_state(legacy=True)
        left = len(values) > count
        rng.set_state((*state[:3], int(left), float(values[-1]) if left else 0.0))
    return values[:count].reshape(shape) if shape else float(values[0])


class RandomState(np.random.RandomState):
    """NumPy's stream, with normal deviates that don't depend on the platform; see `randn`."""

    def randn(self, *shape: int) -> Any:
        return randn(self, *shape)
