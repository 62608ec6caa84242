"""A reader of a format, and the request that it answers."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from xpnn.datasets.dataset import NamedDataset
from xpnn.errors import DataError

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


class Reader(NamedTuple):
    """A format of data sets.

    Attributes
    ----------
    takes
        ``takes(path)`` returns whether a file or folder has the format, by its name or by the names
        within it.
    read
        ``read(path, request)`` returns the data set, or raises a DataError.
    folder
        What a folder of the format holds, for messages; None if the format is that of a file.
    weighted
        Whether a file may hold the weights of its rows.
    columns
        ``columns(path)`` returns the number of columns of a table, features and target together;
        None if the format has x and y apart.
    parts
        Whether there are a training part and a test part. The labels are then the numbers of
        the network's outputs.
    """

    takes: Callable[[Path], bool]
    read: Callable[[Path, Request], NamedDataset]
    folder: str | None = None
    weighted: bool = False
    columns: Callable[[Path], int] | None = None
    parts: bool = False


def no_target(x: np.ndarray) -> np.ndarray:
    """Return the targets of rows that have none, of shape (n, 0)."""
    return np.empty((len(x), 0))


@contextlib.contextmanager
def reading(path: str | os.PathLike[str]) -> Iterator[None]:
    """Raise a DataError that names `path` if the system can't read it."""
    try:
        yield
    except OSError as error:
        raise DataError(f"can't read {path}: {error.strerror or error}") from None
