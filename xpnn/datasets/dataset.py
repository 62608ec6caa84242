"""Data sets: pairs of inputs and targets, which may know the file that they were read from."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from xpnn.errors import DataError, position

if TYPE_CHECKING:
    from xpnn.datasets.columns import Encoding


class Dataset(NamedTuple):
    """Inputs and targets on the host.

    Attributes
    ----------
    x
        Shape (n, features). Unsigned bytes are pixels and enter the network as
        ``float32(x / 255)``; floats and other integers enter unchanged. May be mapped from a
        file, as by ``numpy.load("x.npy", mmap_mode="r")``; see `xpnn.fit`. An object array holds
        the cells of a table: numbers, truth values, texts, None where one is missing.
    y
        Class labels of shape (n,), integers or strings, or an array of floats or one-hot rows of
        shape (n, outputs).
    """

    x: np.ndarray
    y: np.ndarray


class Share(NamedTuple):
    """How the rows for validation were drawn from a data set, so that they can be found again.

    Attributes
    ----------
    fraction, seed
        The arguments of `xpnn.datasets.split`.
    sha256
        A hash of what the data set that was split holds, and of the rows that were drawn.
    """

    fraction: float
    seed: int
    sha256: str


def fingerprint(*data: Dataset | None) -> str:
    """Return the SHA-256 of the arrays of data sets: their dtypes, shapes and values."""
    digest = hashlib.sha256()
    for own in data:
        for array in () if own is None else own:
            digest.update(f"{array.dtype.str} {array.shape}".encode())
            if array.dtype.kind == "O":
                digest.update(repr(array.tolist()).encode())
            else:
                digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    return digest.hexdigest()


class NamedDataset(Dataset):
    """A data set from a file, which knows the names of its columns and the position of each row.

    Parameters
    ----------
    x, y
        As for `Dataset`.
    path
        The file or folder that it was read from.
    feature_names
        The names of the columns of x, if the file is a table.
    target_name
        The name of the column of y, if the file is a table.
    target_names
        The names of the columns of y, if they were a DataFrame.
    rows
        The position of each row: its number, or the file of an image. If None, rows are counted
        from 0.
    row_name
        What messages call the position of a row: "line" for the lines of a text file.
    image_shape
        Height, width and channels, if the rows of x are images.
    weights
        The weight of each row, shape (n,), if the file has weights. `xpnn.fit` uses them only if
        they are passed as `sample_weight`.
    encoding
        How the columns of a table shall become features, see `xpnn.datasets.columns.as_encoding`;
        None for the default.
    share
        How the rows that are missing here were drawn, if this is the training part of a split.
    header
        Whether the columns of a table have names, and aren't just numbered.

    Attributes
    ----------
    path, feature_names, target_name, target_names, rows, row_name, image_shape, weights, encoding,
    share, header
        As given.
    """

    path: str = ""
    feature_names: tuple[str, ...] | None = None
    target_name: str | None = None
    target_names: tuple[str, ...] | None = None
    rows: np.ndarray | None = None
    row_name: str = "row"
    image_shape: tuple[int, int, int] | None = None
    weights: np.ndarray | None = None
    encoding: Encoding | None = None
    share: Share | None = None
    header: bool = True

    def __new__(
        cls,
        x: np.ndarray,
        y: np.ndarray,
        *,
        path: str = "",
        feature_names: tuple[str, ...] | None = None,
        target_name: str | None = None,
        target_names: tuple[str, ...] | None = None,
        rows: np.ndarray | None = None,
        row_name: str = "row",
        image_shape: tuple[int, int, int] | None = None,
        weights: np.ndarray | None = None,
        encoding: Encoding | None = None,
        share: Share | None = None,
        header: bool = True,
    ) -> Self:
        """Return the pair (x, y) with the rest as attributes."""
        self = super().__new__(cls, x, y)
        self.path, self.rows, self.row_name = path, rows, row_name
        self.feature_names, self.target_name = feature_names, target_name
        self.target_names = target_names
        self.image_shape, self.weights, self.encoding = image_shape, weights, encoding
        self.share, self.header = share, header
        return self

    def _replace(self, **arrays: Any) -> Self:
        """Return the data set with another x or y and the same attributes."""
        return type(self)(**{**self._asdict(), **arrays}, **vars(self))

    @property
    def files(self) -> np.ndarray | None:
        """The file of each row, if each row is a file of its own; otherwise None."""
        return self.rows if self.rows is not None and self.rows.dtype.kind == "U" else None

    def where(self, row: int | None, part: str = "y", column: int | None = None) -> str:
        """Return the position of a row, a column or a value in the file, in words.

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
        name = self.target_name if part == "y" else None
        if column is not None:
            name = self.feature_names[column]
        return place(self.path, row, name, self.row_name)

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


def place(
    path: str | os.PathLike[str], row: int | None, column: str | None = None, row_name: str = "line"
) -> str:
    """Return the position of a cell, a row or a column in a table, in words."""
    words = [str(path)]
    words += [] if row is None else [f"{row_name} {row}"]
    words += [] if column is None else [f"column {column!r}"]
    return ", ".join(words)


@contextlib.contextmanager
def located(data: object) -> Iterator[None]:
    """Begin a DataError about a row or a column of `data` with its position in the file.

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
