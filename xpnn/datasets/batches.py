"""Data sets that come in batches: generators, lists of batches, PyTorch's loaders and data sets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from xpnn.backends import to_numpy
from xpnn.datasets.checks import as_pair, check_lengths
from xpnn.datasets.dataset import Dataset, NamedDataset
from xpnn.datasets.frames import in_order, named
from xpnn.errors import DataError


def collected(
    name: str,
    data: Any,
    names: tuple[str, ...] | None = None,
    targets: tuple[str, ...] | None = None,
) -> Any:
    """Return a pair (x, y), or batches joined to one, with arrays in place of DataFrames.

    What can't be either is returned as it is. The batches are taken once, and are then in memory.

    Parameters
    ----------
    name
        What messages call `data`.
    data
        A pair; or an iterable of pairs (x, y), each of them some samples, or a single one if its y
        is a number or a text.
    names, targets
        The columns of x and y, for which theirs are looked through if both have names; those of the
        first batch if None.

    Raises
    ------
    ArgumentError
        If something else than a pair comes from `data`.
    DataError
        If there is no batch, or one has other shapes or another kind of values than the first.
    """
    if not _has_batches(data):
        return in_order(named(data, names, targets), names, targets)
    pairs = []
    for i, batch in enumerate(data):
        # the columns of a DataFrame are those of the first one, found by their names
        own = named(batch, names, targets)
        if isinstance(own, NamedDataset):
            names, targets = own.feature_names, own.target_names
        pairs.append(_pair(f"batch {i} of {name}", own))
    if not pairs:
        raise DataError(f"{name} must have at least one batch, got none")
    for i, pair in enumerate(pairs):
        for part, array, first in zip("xy", pair, pairs[0], strict=True):
            if array.shape[1:] != first.shape[1:] or array.dtype.kind != first.dtype.kind:
                raise DataError(
                    f"batch {i} of {name} must have {part} like batch 0, {_about(first)}, "
                    f"got {_about(array)}"
                )
    x, y = (np.concatenate(arrays) for arrays in zip(*pairs, strict=True))
    if names is None and targets is None:
        return Dataset(x, y)
    return NamedDataset(x, y, feature_names=names, target_names=targets)


def _has_batches(data: Any) -> bool:
    if isinstance(data, tuple | str | bytes | Mapping) or hasattr(data, "shape"):
        return False
    if isinstance(data, list) and len(data) == 2:
        # [x, y], unless both are pairs of arrays
        parts = [part for pair in data if isinstance(pair, tuple | list) for part in pair]
        return len(parts) == 4 and all(hasattr(part, "shape") for part in parts)
    # PyTorch's data sets have only the methods of a sequence
    return isinstance(data, Iterable) or hasattr(data, "__getitem__")


def _pair(name: str, batch: Any) -> tuple[np.ndarray, np.ndarray]:
    x, y = (
        to_numpy(array, f"{part} of {name}")
        for part, array in zip("xy", as_pair(name, batch), strict=True)
    )
    if x.ndim == 0:
        raise DataError(f"{name} must have an array as x, got {x.item()!r}")
    if y.ndim == 0:
        x, y = x[np.newaxis], y[np.newaxis]
    check_lengths(name, x, y)
    return x, y


def _about(array: np.ndarray) -> str:
    kind = "text" if array.dtype.kind in "OTU" else str(array.dtype)
    return f"{kind} of shape {('n', *array.shape[1:])}".replace("'", "")
