"""Class labels: what they are called, and their index among those that a model knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from xpnn.backends import to_numpy
from xpnn.errors import ArgumentError, DataError

# labels that a message lists
_LISTED = 10


def as_labels(y: Any) -> np.ndarray | None:
    """Return `y` on the host as int64 or strings of shape (n,); None if it can't be labels."""
    array = to_numpy(y)
    if array.ndim != 1:
        return None
    if array.dtype.kind in "biu":
        if array.dtype == np.uint64 and array.max(initial=0) >= 2**63:
            return None
        return array.astype(np.int64)
    if array.dtype.kind in "UT" or (
        array.dtype.kind == "O" and all(isinstance(label, str) for label in array)
    ):
        return array.astype(str)
    return None


def check_labels(labels: Any) -> np.ndarray:
    """Return `labels`, one for each class in order, as int64 or strings of shape (classes,).

    Raises
    ------
    ArgumentError
        If they aren't two or more different integers or strings.
    """
    array = as_labels(labels)
    if array is None or len(array) < 2 or len(np.unique(array)) != len(array):
        raise ArgumentError(
            f"labels must be two or more different integers or strings, got {labels!r}"
        )
    return array


def distinct(y: Any, where: str) -> np.ndarray:
    """Return the different labels in `y`, sorted: the classes of a set to train on.

    Raises
    ------
    DataError
        If there is but one, or y isn't class labels.
    """
    found = as_labels(y)
    if found is None:
        raise DataError(f"{where} must hold integers or strings of shape (n,) as class labels")
    labels = np.unique(found)
    if len(labels) == 1:
        raise DataError(f"{where} must hold two classes or more, got {labels[0].item()!r} alone")
    return labels


def encode(
    name: str, y: Any, labels: np.ndarray, where: Callable[[int], str] | None = None
) -> np.ndarray:
    """Return the index of each label of `y` in `labels`.

    Integers in y are looked up as strings where `labels` are strings.

    Raises
    ------
    DataError
        If y isn't class labels, or one isn't among `labels`; with its row in words of `where`.
    """
    found = as_labels(y)
    if found is None:
        raise DataError(f"{name} must hold integers or strings of shape (n,) as class labels")
    if labels.dtype.kind == "U":
        found = found.astype(str)
    known = np.zeros(len(found), bool)
    indices = np.zeros(len(found), np.int64)
    if found.dtype.kind == labels.dtype.kind:
        order = np.argsort(labels)
        places = np.searchsorted(labels, found, sorter=order).clip(max=len(labels) - 1)
        indices = order[places]
        known = labels[indices] == found
    if not known.all():
        row = int(np.argmin(known))
        listed = ", ".join(repr(label.item()) for label in labels[:_LISTED])
        raise DataError(
            f"{f'{name}, row {row}' if where is None else where(row)}: {found[row].item()!r} is "
            f"not one of the classes of the training data "
            f"({listed}{', …' if len(labels) > _LISTED else ''})"
        )
    return indices
