"""Data sets: pairs of inputs and targets, and where they come from."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Dataset(NamedTuple):
    """Inputs and targets on the host.

    Attributes
    ----------
    x
        Shape (n, features). Unsigned bytes are pixels, and enter the network as
        ``float32(x / 255)``; floats and other integers as they are. May be mapped from a file, as
        by ``numpy.load("x.npy", mmap_mode="r")``; see `fit`.
    y
        Class labels of shape (n,), integers or strings, or an array of floats or one-hot rows of
        shape (n, outputs).
    """

    x: np.ndarray
    y: np.ndarray


class NamedDataset(Dataset):
    """A data set from a file, which knows what its columns are called and where its rows are.

    Parameters
    ----------
    x, y
        As for `Dataset`.
    path
        What it was read from.
    feature_names, target_name
        Of the columns of a table.
    rows
        Where each row is: lines of the file, or files of their own; rows of arrays, if they aren't
        counted from 0.
    image_shape
        Height, width and channels, where the rows of x are images.
    weights
        What each row counts, shape (n,), if the file says so: the `sample_weight` for `fit`, which
        doesn't take it by itself.

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
    ) -> NamedDataset:
        """Return the pair (x, y) with the rest as attributes."""
        self = super().__new__(cls, x, y)
        self.path, self.rows, self.image_shape = path, rows, image_shape
        self.feature_names, self.target_name = feature_names, target_name
        self.weights = weights
        return self

    @property
    def files(self) -> np.ndarray | None:
        """The file that each row is, if each is one."""
        return self.rows if self.rows is not None and self.rows.dtype.kind == "U" else None

    def where(self, row: int, part: str = "y", column: int | None = None) -> str:
        """Return in words where a row of x or y is, or what stands in one of its columns."""
        if self.files is not None:
            return str(self.files[row])
        number = row if self.rows is None else int(self.rows[row])
        if self.feature_names is not None:
            if part == "y":
                assert self.target_name is not None
                return place(self.path, number, self.target_name)
            name = None if column is None else self.feature_names[column]
            return place(self.path, number, name)
        spot = f"{self.path}, {part}, row {number}"
        return spot if column is None else f"{spot}, column {column}"

    def part(self, rows: np.ndarray) -> NamedDataset:
        """Return some rows."""
        about = {**vars(self), "rows": rows if self.rows is None else self.rows[rows]}
        if self.weights is not None:
            about["weights"] = self.weights[rows]
        return type(self)(self.x[rows], self.y[rows], **about)


# in words, where a row of x or of y is, or one of its columns: `NamedDataset.where`
Where = Callable[[int, str, int | None], str]


def place(path: str | os.PathLike[str], line: int, column: str | None) -> str:
    """Return where a cell is, or a row, for messages."""
    row = f"{path}, line {line}"
    return row if column is None else f"{row}, column {column!r}"
