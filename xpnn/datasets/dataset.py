"""Data sets: pairs of inputs and targets, which may know the file that they were read from."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any, NamedTuple, Self

import numpy as np

from xpnn.errors import DataError, position


class Dataset(NamedTuple):
    """Inputs and targets on the host.

    Attributes
    ----------
    x
        Shape (n, features). Unsigned bytes are pixels and enter the network as
        ``float32(x / 255)``; floats and other integers enter unchanged. May be mapped from a
        file, as by ``numpy.load("x.npy", mmap_mode="r")``; see `xpnn.fit`.
    y
        Class labels of shape (n,), integers or strings, or an array of floats or one-hot rows of
        shape (n, outputs).
    """

    x: np.ndarray
    y: np.ndarray


class NamedDataset(Dataset):
    """A data set from a file, which knows the names of its columns and the position of each row.

    Parameters
    ----------
    x, y
        As for `Dataset`.
    path
        The file or folder that it was read from.
    feature_names, target_name
        The names of the columns of a table.
    rows
        The position of each row: its line in a table, its number in an array, or the file of an
        image. If None, rows are counted from 0.
    image_shape
        Height, width and channels, if the rows of x are images.
    weights
        The weight of each row, shape (n,), if the file has weights. `xpnn.fit` uses them only if
        they are passed as `sample_weight`.

    Attributes
    ----------
    path, feature_names, target_name, rows, image_shape, weights
        As given.
    """

    path: str = ""
    feature_names: tuple[str, ...] | None = None
    target_name: str | None = None
    rows: np.ndarray | None = None
    image_shape: tuple[int, int, int] | None = None
    weights: np.ndarray | None = None

    def __new__(
        cls,
        x: np.ndarray,
        y: np.ndarray,
        *,
        path: str = "",
        feature_names: tuple[str, ...] | None = None,
        target_name: str | None = None,
        rows: np.ndarray | None = None,
        image_shape: tuple[int, int, int] | None = None,
        weights: np.ndarray | None = None,
    ) -> Self:
        """Return the pair (x, y) with the rest as attributes."""
        self = super().__new__(cls, x, y)
        self.path, self.rows, self.image_shape = path, rows, image_shape
        self.feature_names, self.target_name = feature_names, target_name
        self.weights = weights
        return self

    def _replace(self, **arrays: Any) -> Self:
        """Return the data set with another x or y and the same attributes."""
        return type(self)(**{**self._asdict(), **arrays}, **vars(self))

    @property
    def files(self) -> np.ndarray | None:
        """The file of each row, if each row is a file of its own; otherwise None."""
        return self.rows if self.rows is not None and self.rows.dtype.kind == "U" else None

    def where(self, row: int | None, part: str = "y", column: int | None = None) -> str:
        """Return in words where a row, a column or a value of an array is in the file.

        Parameters
        ----------
        row, column
            Counted from 0; None for all.
        part
            The array: "x", "y" or "weights".
        """
        if self.files is not None:
            return self.path if row is None else str(self.files[row])
        if row is not None and self.rows is not None:
            row = int(self.rows[row])
        if self.feature_names is None:
            return f"{self.path}, {position(part, row, column)}"
        if part == "y":
            return place(self.path, row, self.target_name)
        return place(self.path, row, None if column is None else self.feature_names[column])

    def part(self, rows: np.ndarray | slice) -> Self:
        """Return the data set with only some of its rows, which keep their positions."""
        about = vars(self).copy()
        if self.rows is not None:
            about["rows"] = self.rows[rows]
        elif isinstance(rows, slice):
            about["rows"] = np.arange(*rows.indices(len(self.x)))
        else:
            about["rows"] = rows
        if self.weights is not None:
            about["weights"] = self.weights[rows]
        return type(self)(self.x[rows], self.y[rows], **about)


def place(path: str | os.PathLike[str], line: int | None, column: str | None = None) -> str:
    """Return in words where a cell, a line or a column of a table is."""
    words = [str(path)]
    words += [] if line is None else [f"line {line}"]
    words += [] if column is None else [f"column {column!r}"]
    return ", ".join(words)


@contextlib.contextmanager
def located(data: object) -> Iterator[None]:
    """Add file, line and column to a DataError about a row or a column of `data`.

    An error about data that weren't read from a file stays as it is.
    """
    try:
        yield
    except DataError as error:
        if error.part is None or not isinstance(data, NamedDataset) or not data.path:
            raise
        part, row, column = error.part, error.row, error.column
        where = data.where(row, part, column)
        raise DataError(error.problem, part=part, row=row, column=column, place=where) from None
