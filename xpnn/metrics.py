"""Figures of a run, from what an epoch left on the host."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def first_reached(values: Sequence[float], level: float) -> int | None:
    """Return the index of the first value that is `level` or more, None if none is.

    Over test accuracies from the untrained network on, that is the epoch: the article's TS95 is
    ``first_reached(accuracies, 0.95)``.
    """
    return next((i for i, value in enumerate(values) if value >= level), None)


def best(values: Sequence[float]) -> tuple[int, float] | None:
    """Return index and value of the first largest value, None if there are none but NaN."""
    numbers = [(i, value) for i, value in enumerate(values) if not math.isnan(value)]
    return max(numbers, key=lambda pair: pair[1]) if numbers else None


def r2_score(targets: np.ndarray, predictions: np.ndarray) -> float:
    """Return the coefficient of determination, ``1 - sum((t - p)²) / sum((t - mean(t))²)``.

    Host arrays of shape (n,) or (n, outputs); the mean over the outputs. NaN for an output whose
    targets are all the same.
    """
    t, p = (
        np.asarray(array, np.float64).reshape(len(array), -1) for array in (targets, predictions)
    )
    spread = ((t - t.mean(axis=0)) ** 2).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        scores = np.where(spread > 0, 1 - ((t - p) ** 2).sum(axis=0) / spread, np.nan)
    return float(scores.mean())


def root_mean_squared_error(targets: np.ndarray, predictions: np.ndarray) -> float:
    """Return ``sqrt(mean((t - p)²))`` of host arrays of shape (n,) or (n, outputs)."""
    t, p = (
        np.asarray(array, np.float64).reshape(len(array), -1) for array in (targets, predictions)
    )
    return math.sqrt(((t - p) ** 2).mean())
