"""Arrays in NPY and NPZ files."""

from __future__ import annotations

import math
import os
import zlib
from pathlib import Path

import numpy as np

from xpnn.datasets.dataset import NamedDataset
from xpnn.datasets.labels import as_labels
from xpnn.datasets.readers import csv as tables
from xpnn.errors import ArgumentError, DataError

# NPY files up to here are read at once
_READ_BYTES = 1 << 26


def _no_target(x: np.ndarray) -> np.ndarray:
    return np.empty((len(x), 0))


def _read_npy(path: str | os.PathLike[str]) -> np.ndarray:
    try:
        with open(path, "rb") as file:
            if file.read(6) != b"\x93NUMPY":
                raise DataError(f"{path} is not an NPY file")
            file.seek(0)
            if os.path.getsize(path) <= _READ_BYTES:
                small: np.ndarray = np.load(file, allow_pickle=False)
                return small
        mapped: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"can't read {path}: {error.strerror or error}") from None
    except (EOFError, ValueError) as error:
        raise DataError(f"{path} is not an NPY file of numbers or strings: {error}") from None
    return mapped


def _read_npz(
    path: Path, *, needs_target: bool, weights: str | int | None
) -> dict[str, np.ndarray]:
    """Return x, y if it is there, and under "weights" the array of that name if one is given."""
    import zipfile

    if weights in ("x", "y"):
        raise ArgumentError(f"weights must be another array than x and y, got {weights!r}")

    try:
        # NumPy leaves a file that it opened itself open where it isn't an archive
        with path.open("rb") as file, zipfile.ZipFile(file):
            file.seek(0)
            archive = np.load(file, allow_pickle=False)
            own = [] if weights is None else [str(weights)]
            wanted = ["x", *(["y"] if needs_target else []), *own]
            if not set(wanted) <= set(archive.files):
                has = ", ".join(archive.files) or "none"
                names = ["x", "y", *own]
                listed = f"{', '.join(names[:-1])} and {names[-1]}"
                raise DataError(f"{path} must hold arrays {listed}, got {has}")
            arrays = {name: archive[name] for name in ("x", "y") if name in archive.files}
            return {**arrays, **({"weights": archive[own[0]]} if own else {})}
    except DataError:
        raise
    except (EOFError, OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} is not an NPZ file of numbers or strings: {error}") from None


def _named_arrays(path: str, x: np.ndarray, y: np.ndarray | None, task: str | None) -> NamedDataset:
    if x.ndim > 2:
        x = x.reshape(len(x), -1) if len(x) else x.reshape(0, math.prod(x.shape[1:]))
    if x.dtype.kind not in "biuf" or x.ndim != 2:
        raise DataError(
            f"{path}: x must be numbers of shape (n, features), got {x.dtype} of shape {x.shape}"
        )
    if not len(x):
        raise DataError(f"{path}: x has no rows")
    if y is None:
        return NamedDataset(x, _no_target(x), path=path)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim not in (1, 2) or len(x) != len(y):
        raise DataError(
            f"{path}: y must have a row for each of the {len(x)} rows of x, got shape {y.shape}"
        )
    return NamedDataset(x, _array_target(path, np.array(y), task), path=path)


def _array_weights(path: str, name: str, weights: np.ndarray, count: int) -> np.ndarray:
    if weights.shape not in ((count,), (count, 1)) or weights.dtype.kind not in "biuf":
        raise DataError(
            f"{path}: {name} must be {count} numbers of shape ({count},), got {weights.dtype} of "
            f"shape {weights.shape}"
        )
    values = weights.reshape(count).astype(np.float64)
    wrong = ~(np.isfinite(values) & (values >= 0))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DataError(
            f"{path}, {name}, row {row}: a weight must be finite and >= 0, got {values[row]}"
        )
    return values


def _array_target(path: str, y: np.ndarray, task: str | None) -> np.ndarray:
    if task is None:
        if y.dtype.kind in "iuUT" and y.ndim == 1:
            kind = "integers" if y.dtype.kind in "iu" else "texts"
            tables.check_count(f"{path}, y", kind, len(np.unique(y)), len(y))
        task = "regression" if y.dtype.kind == "f" or y.ndim == 2 else "classification"
    if task == "regression":
        if y.dtype.kind not in "biuf":
            raise DataError(f"{path}: y must be numbers for a regression, got {y.dtype}")
        return y.astype(np.float64)
    if y.dtype.kind == "f" and np.array_equal(y, np.round(y)):
        y = y.astype(np.int64)
    labels = as_labels(y)
    if labels is None:
        raise DataError(
            f"{path}: y must be integers or strings of shape (n,) for a classification, "
            f"got {y.dtype} of shape {y.shape}"
        )
    return labels
