"""Data sets from DataFrames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from xpnn.backends import to_numpy
from xpnn.datasets.cells import check_dates, no_target
from xpnn.datasets.columns import as_encoding, listed
from xpnn.datasets.dataset import NamedDataset, located
from xpnn.datasets.frames import as_cells, is_frame, same_names
from xpnn.datasets.labels import TASKS
from xpnn.datasets.readers.arrays import as_target
from xpnn.datasets.readers.reader import check_weights
from xpnn.errors import ArgumentError, DataError, unknown


@np.errstate(all="ignore")
def from_table(
    frame: Any,
    *,
    target: str | None,
    task: str | None = None,
    ignore: str | Sequence[str] = (),
    weights: str | None = None,
    encode: Any = None,
    missing: Any = None,
) -> NamedDataset:
    """Return a DataFrame of pandas or polars as a data set.

    Columns of numbers, truth values, texts and categories are features, and cells may be missing;
    `xpnn.fit` turns them into numbers, and the model then does so with every other table: see
    `xpnn.datasets.columns.Columns`. Dates are refused. Other libraries that narwhals reads eagerly,
    such as PyArrow, will do too.

    Parameters
    ----------
    frame
        The DataFrame. Unless it holds numbers only, narwhals must be installed
        (``pip install 'xpnn[table]'``).
    target
        The name of the target column; None if there is none, and y then has shape (n, 0).
    task
        "classification" or "regression"; if None, integers, truth values, texts and categories are
        class labels, and floats are values, as in `load`.
    ignore
        The names of columns that are neither features nor target, or the name of a single one.
    weights
        The name of the column with the weights of the rows, numbers >= 0, which `fit` uses if they
        are passed as `sample_weight`.
    encode, missing
        How texts, and what is missing, become features: see
        `xpnn.datasets.columns.as_encoding`. A column whose categories are numbers is encoded only
        if it is named.

    Returns
    -------
    data
        A pair (x, y) with the names of the columns. x holds numbers; or is an object array if there
        are other columns or missing cells.

    Raises
    ------
    DataError
        If a cell of the target is missing or can't be used, or there are no rows or features.
    ArgumentError
        If `frame` isn't a DataFrame, a column isn't there, or an argument can't be used.

    Examples
    --------
    >>> import pandas, xpnn
    >>> frame = pandas.DataFrame({"town": ["Rome", "Oslo"] * 20, "warm": [True, False] * 20})
    >>> model = xpnn.Sequential(xpnn.Dense(2))
    >>> data = xpnn.datasets.from_table(frame, target="warm")
    >>> history = xpnn.fit(model, data, epochs=20, batch_size=4, seed=0)
    >>> xpnn.predict(model, frame[:2])
    array([1, 0])
    """
    if not is_frame(frame):
        raise ArgumentError(f"frame must be a DataFrame, got {type(frame).__name__}")
    if task is not None and task not in TASKS:
        raise unknown("task", task, TASKS)
    ignore = listed("ignore", ignore)
    if len(set(map(str, frame.columns))) < len(frame.columns):
        raise same_names(frame)
    encoding = None if encode is None and missing is None else as_encoding(encode, missing)
    found = list(frame.columns)
    known = set(found)
    encoded, filled = ((), ()) if encoding is None else (encoding.encode, encoding.missing)
    for what, names in {
        "target": [] if target is None else [target],
        "weights": [] if weights is None else [weights],
        "ignored column": ignore,
        "column of encode": encoded,
        "column of missing": filled,
    }.items():
        for name in names:
            if name not in known:
                raise unknown(what, name, map(str, found))
    if target is not None and (target == weights or target in ignore):
        raise ArgumentError(f"target {target!r} must be neither the weights nor ignored")
    left_out = {target, weights, *ignore}
    features = [name for name in found if name not in left_out]
    if not features or not len(frame):
        raise DataError("the DataFrame must have rows and a column for features")
    x = as_cells(frame, features)
    if (encoded or filled) and x.dtype.kind != "O":
        x = x.astype(object)
    data = NamedDataset(
        x,
        np.empty((len(x), 0)),
        path="the DataFrame",
        feature_names=tuple(map(str, features)),
        target_name=None if target is None else str(target),
        encoding=encoding,
    )
    if weights is not None:
        data.weights = check_weights(
            to_numpy(frame[weights]).astype(np.float64),
            lambda row: data.where(row, "weights"),
        )
    if target is None:
        return data
    y = as_cells(frame[[target]])[:, 0]
    with located(data):
        return data._replace(y=as_target("the DataFrame", _labels(str(target), y), task))


def whole(
    name: str, data: Any, features: Sequence[str] | None, target: str | None, task: str
) -> Any:
    """Return a DataFrame that holds the target too as a data set; anything else as it is.

    Parameters
    ----------
    name
        What messages call `data`.
    data
        The DataFrame, which may have more columns; or anything else.
    features, target, task
        The names of the columns of the training table, and its kind.

    Raises
    ------
    DataError
        If a column isn't there, or it isn't known which column is the target.
    """
    if not is_frame(data):
        return data
    found = {str(column): column for column in data.columns}
    if features is None or target is None:
        raise DataError(
            f"{name} must be a pair (x, y) where the training table had no name for its target, "
            "got a DataFrame"
        )
    for column in (*features, target):
        if column not in found:
            what = "the target" if column == target else "one of the features"
            raise DataError(f"{name} has no column {column!r}, which is {what}")
    chosen = data[[found[column] for column in (*features, target)]]
    return from_table(chosen, target=found[target], task=task)


def _labels(name: str, y: np.ndarray) -> np.ndarray:
    """Return a target as `as_target` takes it, an object array as what it holds."""
    if y.dtype.kind != "O":
        return y
    for row, cell in enumerate(y.tolist()):
        if cell is None or cell != cell:
            raise no_target(name, row)
    check_dates(name, y.tolist(), target=True)
    return np.array(y.tolist())
