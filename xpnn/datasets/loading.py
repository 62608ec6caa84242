"""Data sets from files, whatever their format."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from xpnn._core.files import as_path
from xpnn.datasets.dataset import Dataset, NamedDataset
from xpnn.datasets.labels import distinct, encode
from xpnn.datasets.readers import csv as tables
from xpnn.datasets.readers import images
from xpnn.datasets.readers.arrays import (
    _array_weights,
    _named_arrays,
    _no_target,
    _read_npy,
    _read_npz,
)
from xpnn.datasets.readers.idx import PARTS, is_idx_folder, read_idx_folder
from xpnn.datasets.splitting import split
from xpnn.errors import ArgumentError, DataError, unknown


def load(
    path: str | os.PathLike[str],
    *,
    target: str | int | None = -1,
    task: str | None = None,
    header: bool | None = None,
    ignore: Sequence[str | int] = (),
    features: Sequence[str] | None = None,
    weights: str | int | None = None,
    part: str = "train",
) -> NamedDataset:
    """Read a data set from a CSV file, NPZ or NPY files, or a folder of images.

    Parameters
    ----------
    path
        One of

        - a CSV file, see `xpnn.datasets.readers.csv.read_csv`;
        - an NPZ file with arrays "x" and "y";
        - two NPY files, as "x.npy,y.npy" or a folder that holds these two; those of more than
          64 MB are mapped, not read;
        - a folder with a folder of PNG images for each class (needs Pillow), or with images alone
          where there is no target; their pixels enter the network as ``float32(x / 255)``;
        - a folder of IDX files, of which `part` is read.

        Axes of x beyond the second are laid out in a row.
    target
        The target column of a CSV file by name, or by number from 1 on; -1 is the last. If None, y
        may be missing in files of any kind, and then has no column: shape (n, 0).
    task
        "classification" or "regression". If None, integers, strings and truth values are class
        labels, and floats are values; in a CSV file, numbers with a decimal point or an exponent
        are floats. Many different integers, of which each occurs but few times, are asked about.
    header, ignore, features
        Of a CSV file, see `xpnn.datasets.readers.csv.read_csv`.
    weights
        What the rows count: the column of a CSV file, which is then neither feature nor target, or
        the name of an array of shape (n,) in an NPZ file. Numbers >= 0.
    part
        "train" or "test", of a folder of IDX files.

    Returns
    -------
    data
        A pair (x, y) with names; y holds labels, int64 or strings, of shape (n,), or float64.

    Raises
    ------
    DataError
        If the data can't be used, with file, line and column.
    ArgumentError
        If there is no such target or task, or weights are asked for of other files.
    """
    if task is not None and task not in tables.TASKS:
        raise unknown("task", task, tables.TASKS)
    if part not in PARTS:
        raise unknown("part", part, PARTS)
    text = os.fspath(as_path("path", path))
    if weights is not None and (text.endswith(".npy") or Path(path).is_dir()):
        raise ArgumentError(
            f"weights must be a column of a CSV file or an array of an NPZ file, got {weights!r} "
            f"of {text}"
        )
    pair = text.split(",")
    if len(pair) == 2 and all(part.endswith(".npy") for part in pair) and not Path(path).exists():
        return _named_arrays(text, _read_npy(pair[0]), _read_npy(pair[1]), task)
    path = Path(path)
    if path.is_dir():
        if (path / "x.npy").exists():
            lacking = target is None and not (path / "y.npy").exists()
            values = None if lacking else _read_npy(path / "y.npy")
            return _named_arrays(text, _read_npy(path / "x.npy"), values, task)
        if is_idx_folder(path):
            return read_idx_folder(path)[PARTS.index(part)]
        if images.holds_images(path):
            pixels, labels, files, shape = images.read_images(path)
            rows = np.array(list(map(str, files)))
            return NamedDataset(pixels, labels, path=text, rows=rows, image_shape=shape)
        raise _no_data(path)
    if not path.exists():
        raise DataError(f"no file or folder {path}")
    if path.suffix == ".npy":
        if target is not None:
            raise DataError(f"{path} has no targets; give two files, as x.npy,y.npy")
        return _named_arrays(text, _read_npy(path), None, task)
    if path.suffix == ".npz":
        arrays = _read_npz(path, needs_target=target is not None, weights=weights)
        data = _named_arrays(text, arrays["x"], arrays.get("y"), task)
        if weights is not None:
            data.weights = _array_weights(text, str(weights), arrays["weights"], len(data.x))
        return data
    table = tables.read_csv(
        path, target=target, header=header, ignore=ignore, features=features, weights=weights
    )
    y = (
        _no_target(table.values)
        if table.target_name is None
        else tables.read_target(path, table, task)
    )
    return NamedDataset(
        table.values,
        y,
        path=text,
        feature_names=table.names,
        target_name=table.target_name,
        rows=table.lines,
        weights=table.weights,
    )


def load_training(
    path: str | os.PathLike[str],
    validation: str | os.PathLike[str] | float | None = None,
    *,
    seed: int = 0,
    target: str | int = -1,
    task: str | None = None,
    header: bool | None = None,
    ignore: Sequence[str | int] = (),
    weights: str | int | None = None,
) -> tuple[Dataset, Dataset | None]:
    """Read what a network is to be trained on, and what it is to be tested on.

    Parameters
    ----------
    path, target, task, header, ignore, weights
        As for `load`. Weights are those of the training part, `NamedDataset.weights`; another file
        for validation need have none.
    validation
        Another file or folder with the same columns; or the fraction that `split` takes from the
        data. If None, the test part of a folder of IDX files, and nothing for other data.
    seed
        Of the split.

    Returns
    -------
    train, validation

    Raises
    ------
    DataError, ArgumentError
        As `load` and `split` do; and if the training part has but one class, or the validation
        part one that training doesn't have.
    """
    folder = as_path("path", path)
    idx = folder.is_dir() and is_idx_folder(folder)
    if idx and validation is None and weights is None:
        return read_idx_folder(path)
    data = load(path, target=target, task=task, header=header, ignore=ignore, weights=weights)
    labels = None
    if data.y.dtype.kind in "iU" and not idx:
        column = "y" if data.target_name is None else f"column {data.target_name!r}"
        where = None if data.files is None else data.path
        labels = distinct(data.y, where or f"{data.path}, {column}")
    if validation is None:
        return data, None
    if isinstance(validation, float):
        return split(data, validation, seed=seed)
    test = load(
        validation,
        target=-1 if data.target_name is None else data.target_name,
        task="regression" if data.y.dtype.kind == "f" else "classification",
        header=header,
        features=data.feature_names,
    )
    images.check_size(test.path, test.image_shape, data.image_shape)
    if test.x.shape[1] != data.x.shape[1]:
        raise DataError(
            f"{validation} has {test.x.shape[1]} features, where {path} has {data.x.shape[1]}"
        )
    if labels is not None:
        encode("validation.y", test.y, labels, test.where)
    return data, test


def _no_data(folder: Path) -> DataError:
    """Return the error for a folder without data, with what may have been meant."""
    hint = ""
    stray = images.stray_image(folder)
    within = next((p for p in sorted(folder.iterdir()) if p.is_dir() and _holds_data(p)), None)
    if stray is not None:
        hint = f"; {stray} is no PNG image"
    elif within is not None:
        hint = f"; give {within}, which does"
    return DataError(
        f"{folder} holds neither x.npy and y.npy, nor IDX files such as "
        f"train-images-idx3-ubyte.gz, nor folders of PNG images{hint}"
    )


def _holds_data(folder: Path) -> bool:
    named = (folder / "x.npy").is_file() or is_idx_folder(folder)
    return named or bool(images.class_folders(folder))
