"""Figures of a run and of its predictions, computed on the host."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from xpnn.backends import to_numpy
from xpnn.errors import DataError, integer

__all__ = [
    "best",
    "confusion_matrix",
    "first_reached",
    "r2_score",
    "root_mean_squared_error",
]

Array = Any


def first_reached(values: Sequence[float], level: float) -> int | None:
    """Return the index of the first value that is at least `level`, or None.

    With test accuracies that begin with the untrained network's, it is the epoch: the article's
    TS95 is ``first_reached(accuracies, 0.95)``.
    """
    return next((i for i, value in enumerate(values) if value >= level), None)


def best(values: Sequence[float]) -> tuple[int, float] | None:
    """Return index and value of the first largest value, None if all values are NaN."""
    numbers = [(i, value) for i, value in enumerate(values) if not math.isnan(value)]
    return max(numbers, key=lambda pair: pair[1]) if numbers else None


def confusion_matrix(true: Array, predicted: Array, *, classes: int | None = None) -> np.ndarray:
    """Count how often each class was predicted for the samples of each class.

    Parameters
    ----------
    true, predicted
        Class labels from 0 on, integers of shape (n,), of any library.
    classes
        The number of classes; one more than the largest label if None.

    Returns
    -------
    matrix
        NumPy array, int64, shape (classes, classes): ``matrix[i, j]`` samples of class i were
        predicted as j.

    Raises
    ------
    ArgumentError, DataError
        If an argument isn't an array of labels, lengths differ, or a label isn't below `classes`.
    """
    arrays = {"true": to_numpy(true), "predicted": to_numpy(predicted)}
    for name, array in arrays.items():
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise DataError(
                f"{name} must hold integer class labels of shape (n,), got {array.dtype} of shape "
                f"{array.shape}"
            )
    if len(arrays["true"]) != len(arrays["predicted"]):
        lengths = " and ".join(str(len(array)) for array in arrays.values())
        raise DataError(f"true and predicted must have the same length, got {lengths}")
    if classes is None:
        classes = 1 + max(int(array.max(initial=0)) for array in arrays.values())
    classes = integer("classes", classes, minimum=1)
    for name, array in arrays.items():
        outside = (array < 0) | (array >= classes)
        if outside.any():
            row = int(np.argmax(outside))
            raise DataError(
                f"{name} must hold labels from 0 to {classes - 1}, got {array[row]}", row=row
            )
    pairs = arrays["true"].astype(np.int64) * classes + arrays["predicted"].astype(np.int64)
    return np.bincount(pairs, minlength=classes**2).astype(np.int64).reshape(classes, classes)


def r2_score(targets: np.ndarray, predictions: np.ndarray) -> float:
    """Return the coefficient of determination, ``1 - sum((t - p)²) / sum((t - mean(t))²)``.

    For host arrays of shape (n, outputs) it is the mean over the outputs. It is NaN for an output
    whose targets are all the same.
    """
    t, p = _columns(targets), _columns(predictions)
    spread = _sums((t - _sums(t) / len(t)) ** 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        scores = np.where(spread > 0, 1 - _sums((t - p) ** 2) / spread, np.nan)
    return math.fsum(scores) / len(scores)


def root_mean_squared_error(targets: np.ndarray, predictions: np.ndarray) -> float:
    """Return ``sqrt(mean((t - p)²))`` of host arrays of shape (n,) or (n, outputs)."""
    squares = (_columns(targets) - _columns(predictions)) ** 2
    return math.sqrt(math.fsum(_sums(squares)) / squares.size)


def _columns(array: np.ndarray) -> np.ndarray:
    return np.asarray(array, np.float64).reshape(len(array), -1)


def _sums(columns: np.ndarray) -> np.ndarray:
    """Return the sum of each column, correctly rounded and thus the same on every processor."""
    return np.array([math.fsum(column) for column in columns.T])
