"""A reader of a format, and the request that it answers."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from xpnn._core import limits
from xpnn.datasets.dataset import NamedDataset
from xpnn.errors import DataError

if TYPE_CHECKING:
    from xpnn.datasets.columns import Columns, Encoding

PARTS = ("train", "test")


@dataclass(frozen=True)
class Request:
    """The arguments of `xpnn.datasets.load`; a reader uses those that apply to its format."""

    target: str | int | None = -1
    task: str | None = None
    header: bool | None = None
    ignore: Sequence[str | int] = ()
    features: Sequence[str] | None = None
    weights: str | int | None = None
    part: str = "train"
    encoding: Encoding | None = None
    columns: Columns | None = None


class Reader(NamedTuple):
    """A format of data sets.

    Attributes
    ----------
    takes
        ``takes(path)`` returns whether a file or folder has the format, by its name or by the names
        within it.
    read
        ``read(path, request)`` returns the data set, or raises a DataError.
    form
        The format as messages and the command's help list it: a file ("a CSV file"), or what a
        folder holds ("x.npy and y.npy").
    folder
        Whether it is the format of a folder.
    weights
        Where a file has the weights of its rows, such as "a column of a CSV file"; "" if nowhere.
    columns
        ``columns(path)`` returns the number of columns of a table, features and target together;
        None if the format has x and y apart.
    has_test
        ``has_test(path)`` returns whether there is a test part beside the training part.
    numbered
        Whether labels are the numbers of the network's outputs, so that some may be missing.
    """

    takes: Callable[[Path], bool]
    read: Callable[[Path, Request], NamedDataset]
    form: str
    folder: bool = False
    weights: str = ""
    columns: Callable[[Path], int] | None = None
    has_test: Callable[[Path], bool] = lambda path: False
    numbered: bool = False


def check_weights(weights: np.ndarray, where: Callable[[int], str]) -> np.ndarray:
    """Return `weights`, or raise an error about the first that isn't finite and >= 0.

    The DataError begins with ``where(row)``, the position of that weight in words.
    """
    wrong = ~(np.isfinite(weights) & (weights >= 0))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DataError(
            f"a weight must be finite and >= 0, got {weights[row]}",
            part="weights",
            row=row,
            place=where(row),
        )
    return weights


@contextlib.contextmanager
def ungzipped(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn an error about damaged gzip data into a DataError that names `path`."""
    import gzip
    import zlib

    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path} is a damaged gzip file: {error}") from None


def is_gzip(begin: bytes) -> bool:
    """Return whether a file that begins with these bytes is gzipped."""
    return begin[:2] == b"\x1f\x8b"


def check_gzip(path: str | os.PathLike[str]) -> None:
    """Raise if a gzipped file holds more than it may: see `xpnn._core.limits`.

    It is decompressed once for that, and nothing is kept: the cells of a table take more memory
    than its text, so that the limit must be known before they are read.
    """
    import gzip

    with ungzipped(path), gzip.open(path) as raw:
        limited = limits.Limited(raw, path, limits.expanded(os.path.getsize(path)))
        buffer = bytearray(1 << 18)
        while limited.readinto(buffer):
            pass


@contextlib.contextmanager
def reading(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn an OSError into a DataError that names `path`."""
    try:
        yield
    except OSError as error:
        raise DataError(f"can't read {path}: {error.strerror or error}") from None
