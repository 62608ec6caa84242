"""Checks of what a user gives as a data set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from xpnn._core.mapped import blocks, is_mapped, plain
from xpnn.backends import to_numpy
from xpnn.datasets.dataset import Dataset, NamedDataset, Where
from xpnn.datasets.labels import encode
from xpnn.errors import ArgumentError, DataError

# integers up to here are all float64s
_EXACT = 2**53


def as_dataset(name: str, data: Any, labels: np.ndarray | None = None) -> Dataset:
    """Return `data`, a `Dataset` or a pair of arrays of any library, checked and on the host.

    Where `labels` is given, each label in y becomes its index there.

    Raises
    ------
    ArgumentError, DataError
        If it isn't a pair, x isn't two-dimensional, x and y differ in length, y has more than two
        dimensions, either isn't numeric, or there is a NaN, an infinity, or among the features an
        integer that float64 can't hold.
    """
    named = data if isinstance(data, NamedDataset) else None
    where = None if named is None else named.where
    try:
        x, y = data
    except (TypeError, ValueError):
        raise ArgumentError(
            f"{name} must be a pair of arrays (x, y), got {type(data).__name__}"
        ) from None
    if labels is not None:
        y = encode(f"{name}.y", y, labels, where)
    x, y = as_inputs(f"{name}.x", x, where), _numeric(f"{name}.y", y, where)
    if is_mapped(y) and y.ndim == 1:
        y = np.array(y)
    if y.ndim not in (1, 2):
        raise DataError(f"{name}.y must have shape (n,) or (n, outputs), got shape {y.shape}")
    if x.shape[0] != y.shape[0]:
        raise DataError(
            f"{name}.x and {name}.y must have the same length, got {x.shape[0]} and {y.shape[0]}"
        )
    return Dataset(x, y) if named is None else type(named)(x, y, **vars(named))


def as_inputs(name: str, x: Any, where: Where | None = None) -> np.ndarray:
    """Return `x`, of any library, as a checked two-dimensional array on the host.

    One that is mapped from a file stays so.
    """
    inputs = _numeric(name, x, where)
    if inputs.ndim != 2:
        raise DataError(f"{name} must have shape (n, features), got shape {inputs.shape}")
    return inputs


def _numeric(name: str, values: Any, where: Where | None = None) -> np.ndarray:
    array: np.ndarray = values if is_mapped(values) else to_numpy(values)
    if array.dtype.kind not in "biuf":
        raise DataError(f"{name} must be an array of numbers, got dtype {array.dtype}")
    if array.dtype.kind == "f" and array.ndim:
        _check(name, array, lambda rows: ~np.isfinite(rows), "finite", where)
    elif array.dtype.kind in "iu" and array.dtype.itemsize == 8 and array.ndim == 2:
        _check(name, array, _inexact, "integers that float64 can hold", where)
    if not is_mapped(array):
        array = array.astype(plain(array.dtype), copy=False)
    return array


def _check(
    name: str,
    array: np.ndarray,
    wrong: Callable[[np.ndarray], np.ndarray],
    wanted: str,
    where: Where | None,
) -> None:
    for first, rows in blocks(array):
        found = wrong(rows)
        if found.any():
            place = tuple(int(i) for i in np.argwhere(found)[0])
            value, row = rows[place], first + place[0]
            if where is None:
                numbers = ", column ".join(map(str, (row, *place[1:])))
                raise DataError(f"{name} must be {wanted}, got {value} in row {numbers}")
            column = place[1] if len(place) > 1 else None
            spot = where(row, name.rpartition(".")[2], column)
            raise DataError(f"{spot}: {name} must be {wanted}, got {value}")


def _inexact(rows: np.ndarray) -> np.ndarray:
    """Return which integers float64 can't hold."""
    far = rows > _EXACT
    if rows.dtype.kind == "i":
        far |= rows < -_EXACT
    far[far] = [int(float(value)) != value for value in rows[far].tolist()]
    return far
