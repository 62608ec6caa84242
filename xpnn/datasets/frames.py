"""DataFrames of pandas and polars, and of whatever else narwhals reads, as arrays of cells."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from xpnn.backends import to_numpy
from xpnn.datasets.dataset import Dataset, NamedDataset
from xpnn.errors import ArgumentError, DataError


def is_frame(x: Any) -> bool:
    """Return whether `x` is a DataFrame; imports nothing."""
    return hasattr(x, "columns") and hasattr(x, "shape") and hasattr(x, "__getitem__")


def is_table(data: Any) -> bool:
    """Return whether `data` is a pair (x, y) with a table as x.

    That is a DataFrame, columns that have names, or cells that needn't be numbers.
    """
    if isinstance(data, NamedDataset) and data.feature_names is not None:
        return True
    if not (isinstance(data, Sequence) and len(data) == 2):
        return False
    return is_frame(data[0]) or getattr(getattr(data[0], "dtype", None), "kind", None) == "O"


def as_cells(frame: Any, names: Sequence[Any] | None = None, what: str = "features") -> np.ndarray:
    """Return a DataFrame as numbers, or as an object array if it isn't all of numbers.

    Parameters
    ----------
    frame
        The DataFrame.
    names
        The columns to take, in order; all if None, or if it has none of them.
    what
        What messages call these columns.

    Raises
    ------
    DataError
        If it has only some of the columns.
    ArgumentError
        If it isn't all of numbers, and narwhals isn't installed.
    """
    found = {str(name): name for name in frame.columns}
    if names is not None and _are_there(names, found, "the DataFrame has", what):
        frame = frame[[found[str(name)] for name in names]]
    whole = to_numpy(frame, "the DataFrame")
    if len(found) < len(frame.columns) and whole.dtype.kind not in "biuf":
        raise same_names(frame)
    if whole.dtype == np.uint8:
        # columns are no pixels
        return whole.astype(np.int16)
    if whole.dtype.kind in "biu" or (whole.dtype.kind == "f" and not np.isnan(whole).any()):
        return whole
    cells = np.empty(frame.shape, object)
    for i, series in enumerate(from_native(frame).iter_columns()):
        listed = series.to_list()
        if series.dtype.is_decimal():
            listed = [None if cell is None else float(cell) for cell in listed]
        # NaN, None or NA, by the column's type and an option of pandas
        absent = math.nan if series.dtype.is_numeric() else None
        missing = series.is_null().to_list()
        listed = [absent if m else c for m, c in zip(missing, listed, strict=True)]
        # one by one, because a cell may be a list
        cells[:, i] = np.fromiter(listed, object, len(listed))
    return cells


def same_names(frame: Any) -> DataError:
    """Return the error about a DataFrame in which two columns have the same name."""
    names = list(map(str, frame.columns))
    twice = next(name for i, name in enumerate(names) if name in names[:i])
    return DataError(
        f"the columns of the DataFrame must have different names, got {twice!r} twice (in pandas, "
        "df = df.loc[:, ~df.columns.duplicated()] keeps the first)"
    )


def _are_there(
    names: Sequence[Any], found: Collection[str], those: str, what: str = "features"
) -> bool:
    """Return whether columns are found by these names: all of them, or it is an error; or none."""
    absent = [name for name in names if str(name) not in found]
    if absent and len(absent) < len(names):
        raise DataError(f"{those} no column {absent[0]!r}, which is one of the {what}")
    return len(absent) < len(names)


def from_native(frame: Any) -> Any:
    """Return a DataFrame as narwhals's."""
    try:
        import narwhals.stable.v2 as narwhals
    except ImportError:
        raise ArgumentError(
            "a DataFrame with other columns than numbers needs narwhals: pip install 'xpnn[table]'"
        ) from None
    try:
        return narwhals.from_native(frame, eager_only=True)
    except TypeError as error:
        raise ArgumentError(f"not a DataFrame that narwhals reads: {error}") from None


def named(
    data: Any, names: tuple[str, ...] | None = None, targets: tuple[str, ...] | None = None
) -> Any:
    """Return a pair (x, y) with arrays for DataFrames, and with the names of their columns.

    This is the only place where a DataFrame of a pair becomes an array. Columns are found by their
    names, and others left out; if none has such a name, they are taken by position.

    Parameters
    ----------
    data
        A pair, or anything else, which is returned as it is. A y that is a column has the name of
        the target; one of several columns has theirs.
    names, targets
        The columns of x and y to take, in order; all if None.

    Raises
    ------
    ArgumentError
        If y is a text, such as the name of a column.
    DataError
        If a DataFrame has only some of the columns.
    """
    if not (isinstance(data, Sequence) and len(data) == 2) or isinstance(data, str):
        return data
    x, y = data
    if isinstance(y, str):
        raise ArgumentError(
            f"y must hold the targets, got the text {y!r}; xpnn.datasets.from_table(frame, "
            f"target={y!r}) takes them from a column of a DataFrame"
        )
    if not (is_frame(x) or is_frame(y)):
        return data
    target = None
    if is_frame(y) and len(y.columns) == 1:
        # the target, whatever its name
        y = y[next(iter(y.columns))]
    if not is_frame(y):
        targets = None
    else:
        targets = targets or _different(y)
        y = as_cells(y, targets, "targets")
    if is_frame(x):
        names = names or _different(x)
        target = getattr(y, "name", None)
        x, y = as_cells(x, names), to_numpy(y, "y")
    else:
        names = None
    if names is None and targets is None:
        return Dataset(x, y)
    target = None if target in (None, "") else str(target)
    return NamedDataset(x, y, feature_names=names, target_name=target, target_names=targets)


def _different(frame: Any) -> tuple[str, ...] | None:
    """Return the names of the columns, None if two are the same."""
    names = tuple(map(str, frame.columns))
    return names if len(set(names)) == len(names) else None


def in_order(
    data: Any, names: tuple[str, ...] | None, targets: tuple[str, ...] | None = None
) -> Any:
    """Return a data set with these columns in x and y, found by their names; others are left out.

    Data without names of columns, or with none of these, are taken by position.

    Raises
    ------
    DataError
        If only some of the columns are there.
    """
    if not isinstance(data, NamedDataset):
        return data
    for part, wanted, found, what in (
        ("x", names, data.feature_names, "features"),
        ("y", targets, data.target_names, "targets"),
    ):
        if found is None or wanted is None or found == wanted:
            continue
        places = {name: i for i, name in enumerate(found)}
        if _are_there(wanted, places, "the data have", what):
            array = getattr(data, part)[:, [places[name] for name in wanted]]
            data = data._replace(**{part: array})
            vars(data)["feature_names" if part == "x" else "target_names"] = wanted
    return data
