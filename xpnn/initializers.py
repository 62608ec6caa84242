"""Initializers: each draws weights, float64 of shape (inputs, outputs), from a `RandomState`.

One that returns a pair draws the biases too, of shape (outputs,); otherwise they are 0.

NumPy promises never to change the stream of `numpy.random.RandomState`, so a seed gives the same
parameters on every backend and with every release.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from xpnn._core.registry import Registry

__all__ = [
    "INITIALIZERS",
    "Initializer",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "register",
    "uniform",
    "zeros",
]

# of (RandomState, inputs, outputs); not named here, since that would import np.random
Initializer = Callable[[Any, int, int], np.ndarray | tuple[np.ndarray, np.ndarray]]

INITIALIZERS: Registry[Initializer] = Registry("initializer")
register = INITIALIZERS.register


def uniform(rng: np.random.RandomState, inputs: int, outputs: int) -> tuple[np.ndarray, np.ndarray]:
    """Return weights and biases from ``U(-r, r)``, ``r = 1 / sqrt(inputs)``: PyTorch's Linear.

    The variance of the weights is a third of that of LeCun et al. (1998, Efficient BackProp), so
    the outputs of an untrained network are small beside standardized targets. Biases other than 0
    spread the kinks of ReLUs over the inputs.
    """
    bound = 1 / math.sqrt(inputs)
    weights = _uniform(rng, inputs, outputs, bound)
    return weights, _uniform(rng, 1, outputs, bound)[0]


def he_normal(rng: np.random.RandomState, inputs: int, outputs: int) -> np.ndarray:
    """Return draws from ``N(0, 2 / inputs)``, for ReLU and similar activations (He et al. 2015)."""
    return rng.randn(inputs, outputs) * math.sqrt(2 / inputs)


def he_uniform(rng: np.random.RandomState, inputs: int, outputs: int) -> np.ndarray:
    """Return draws from ``U(-r, r)``, ``r = sqrt(6 / inputs)`` (He et al. 2015)."""
    return _uniform(rng, inputs, outputs, math.sqrt(6 / inputs))


def glorot_normal(rng: np.random.RandomState, inputs: int, outputs: int) -> np.ndarray:
    """Return draws from ``N(0, 2 / (inputs + outputs))``, for tanh (Glorot and Bengio 2010)."""
    return rng.randn(inputs, outputs) * math.sqrt(2 / (inputs + outputs))


def glorot_uniform(rng: np.random.RandomState, inputs: int, outputs: int) -> np.ndarray:
    """Return draws from ``U(-r, r)``, ``r = sqrt(6 / (inputs + outputs))``.

    Glorot and Bengio 2010.
    """
    return _uniform(rng, inputs, outputs, math.sqrt(6 / (inputs + outputs)))


def zeros(rng: np.random.RandomState, inputs: int, outputs: int) -> np.ndarray:
    """Return zeros; draws nothing."""
    return np.zeros((inputs, outputs))


def _uniform(rng: np.random.RandomState, inputs: int, outputs: int, bound: float) -> np.ndarray:
    return (2.0 * rng.random_sample((inputs, outputs)) - 1.0) * bound


for _initializer in (uniform, he_normal, he_uniform, glorot_normal, glorot_uniform, zeros):
    INITIALIZERS.add(_initializer.__name__, _initializer)
