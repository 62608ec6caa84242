"""Class labels, and the index of each among those that a model knows."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnn.backends import to_numpy
from xpnn.errors import ArgumentError, DataError, position, written

TASKS = ("classification", "regression")

# integers and texts are classes unless there are many different ones and few of each
_MOST_CLASSES, _FEWEST_EACH = 20, 10

# how many labels a message lists
_LISTED = 10


def as_labels(y: Any, name: str = "y") -> np.ndarray | None:
    """Return `y` on the host as int64 or strings of shape (n,); None if it can't be labels."""
    array = to_numpy(y, name)
    if array.ndim != 1:
        return None
    if array.dtype.kind in "biu":
        if array.dtype == np.uint64 and array.max(initial=0) >= 2**63:
            return None
        return array.astype(np.int64)
    if array.dtype.kind == "U":
        return array
    # NumPy's StringDType has a missing value, and no cast that finds the longest text
    listed = array.tolist() if array.dtype.kind in "OT" else [None]
    return np.array(listed, str) if all(isinstance(label, str) for label in listed) else None


def check_labels(labels: Any) -> np.ndarray:
    """Return `labels`, one for each class in order, as `as_labels` does, of shape (classes,).

    Raises
    ------
    ArgumentError
        If they aren't two or more different integers or strings.
    """
    array = as_labels(labels, "labels")
    if array is None or len(array) < 2 or len(np.unique(array)) != len(array):
        raise ArgumentError(
            f"labels must be two or more different integers or strings, got {labels!r}"
        )
    return array


def distinct(name: str, y: Any) -> np.ndarray:
    """Return the different labels in `y`, sorted: the classes of a set to train on.

    Raises
    ------
    DataError
        If y isn't class labels, or there is only one class.
    """
    labels = np.unique(_labels(name, y))
    if len(labels) == 1:
        raise DataError(f"{name} must hold two classes or more, got only {labels[0].item()!r}")
    return labels


def label_indices(name: str, y: Any, labels: np.ndarray) -> np.ndarray:
    """Return the index of each label of `y` in `labels`.

    Integers in y are looked up as strings where `labels` are strings. True and false may be 1 and
    0, as from a DataFrame, or texts, as from a CSV file.

    Raises
    ------
    DataError
        If y isn't class labels, or one of them isn't among `labels`.
    """
    found = _labels(name, y)
    if labels.dtype.kind == "U":
        truths = truth_values(labels)
        if truths is not None and {0, 1}.issuperset(found.tolist()):
            found = labels[np.argsort(truths)][found]
        found = found.astype(str)
    elif set(labels.tolist()) == {0, 1}:
        numbers = truth_values(found)
        found = found if numbers is None else numbers
    known = np.zeros(len(found), bool)
    indices = np.zeros(len(found), np.int64)
    if found.dtype.kind == labels.dtype.kind:
        order = np.argsort(labels)
        # a label beyond the last one would get an index beyond the end; `known` is false for it
        ranks = np.searchsorted(labels, found, sorter=order).clip(max=len(labels) - 1)
        indices = order[ranks]
        known = labels[indices] == found
    if not known.all():
        row = int(np.argmin(known))
        listed = ", ".join(repr(label.item()) for label in labels[:_LISTED])
        raise DataError(
            f"{found[row].item()!r} is not one of the classes of the training data "
            f"({listed}{', …' if len(labels) > _LISTED else ''})",
            part="y",
            row=row,
            place=position(name, row),
        )
    return indices


def truth_values(y: Any) -> np.ndarray | None:
    """Return texts that are all true or false as 1 and 0; None if they aren't."""
    found = as_labels(y)
    if found is None or found.dtype.kind != "U":
        return None
    texts = np.char.lower(found)
    true = texts == "true"
    return true.astype(np.int64) if (true | (texts == "false")).all() else None


def check_count(kind: str, distinct: int, rows: int) -> None:
    """Raise a DataError if rows hold many different values, and few of each.

    Parameters
    ----------
    kind
        What the values are: "integers" or "texts".
    distinct, rows
        The number of different values, and of rows.
    """
    if distinct > _MOST_CLASSES and rows < _FEWEST_EACH * distinct:
        classes, values = written("task", "classification"), written("task", "regression")
        ask = (
            f"may be classes or values; say which: {classes} or {values}"
            if kind == "integers"
            else f"are many for classes; if they are classes, say {classes}"
        )
        raise DataError(f"{distinct} different {kind} in {rows} rows {ask}", part="y")


def _labels(name: str, y: Any) -> np.ndarray:
    labels = as_labels(y, name)
    if labels is None:
        raise DataError(f"{name} must hold integers or strings of shape (n,) as class labels")
    return labels
