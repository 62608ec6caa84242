"""Data sets from files of all formats."""

from __future__ import annotations

import os
from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np

from xpnn._core import limits
from xpnn._core.files import as_path
from xpnn.datasets.checks import check_images
from xpnn.datasets.columns import Columns, as_encoding, fitted, listed
from xpnn.datasets.dataset import Dataset, NamedDataset, located
from xpnn.datasets.labels import TASKS, distinct, label_indices
from xpnn.datasets.readers import READERS, reader_of
from xpnn.datasets.readers.reader import PARTS, Request, reading
from xpnn.datasets.splitting import split
from xpnn.errors import ArgumentError, DataError, counted, unknown


@limits.bounded
@np.errstate(all="ignore")
def load(
    path: str | os.PathLike[str],
    *,
    target: str | int | None = -1,
    task: str | None = None,
    header: bool | None = None,
    ignore: str | Sequence[str | int] = (),
    features: str | Sequence[str] | None = None,
    weights: str | int | None = None,
    encode: Any = None,
    missing: Any = None,
    columns: Columns | None = None,
    part: str = "train",
    max_bytes: int | None = None,
) -> NamedDataset:
    """Read a data set from a file or folder of any known format.

    Parameters
    ----------
    path
        One of

        - an NPZ file with arrays "x" and "y", or with "x_train", "y_train", "x_test" and "y_test",
          of which `part` is read; X may be a capital;
        - two NPY files, as "x.npy,y.npy" or a folder that holds these two; files of more than
          64 MB are mapped, not read;
        - a folder with a folder of PNG or JPEG images for each class (needs Pillow), or with only
          images if there is no target, or then a single image; their pixels enter the network as
          ``float32(x / 255)``;
        - a folder of IDX files, of which `part` is read;
        - a CSV file, gzipped or not, which may have any other name: UTF-8, with or without BOM, its
          delimiter the first of tab, semicolon, comma that is in the first line outside quotes;
          features are finite numbers with a decimal point, truth values or texts, and cells may be
          missing.

        Suffixes may be in capitals. Axes of x beyond the second are laid out in a row. Unsigned
        bytes of shape (n, height, width), or with a last axis of 1 or 3 channels, are images.
    target
        The target column of a CSV file by name, or by number from 1 on; -1 is the last. If None, y
        may be missing in files of any kind, and then has no column: shape (n, 0).
    task
        "classification" or "regression". If None, integers, strings and truth values are class
        labels, and floats are values; in a CSV file, numbers with a decimal point or an exponent
        are floats. Many different integers, each of which occurs only a few times, are an error
        that asks for the task.
    header
        Whether the first row of a CSV file holds names. If None, it does if one of its cells is
        text and the cell below is a number, or if it holds the name of a column that is asked for;
        if it is the only row, it does if none of its cells is a number.
    ignore
        Columns of a CSV file, by name or number, that are neither features nor target; or the
        name of a single one.
    features
        The names of the columns of a CSV file that are features, in order; all others are ignored.
        Without a header and a target, the file may also consist of just these columns, in order.
    weights
        The weights of the rows: a column of a CSV file, which is then neither feature nor target,
        or the name of an array of shape (n,) in an NPZ file. Numbers >= 0.
    encode, missing
        How `fit` shall turn columns of text, and what is missing, into features: see
        `xpnn.datasets.columns.as_encoding`. For CSV files.
    columns
        What a trained model knows of its table, ``model.task.columns``: texts are then read as
        texts also where they look like numbers.
    part
        "train" or "test", for a folder of IDX files, or an NPZ file that has both.
    max_bytes
        How many bytes the data may have in memory or as text, once they are decompressed. If None,
        compressed data may have 256 MiB, or 100 times the size of their files if that is more; and
        all only what memory is free. A quarter of it if they aren't on the disk, as those of a
        pipe.

    Returns
    -------
    data
        A pair (x, y) with names; x holds numbers, or is an object array of numbers, texts and None
        if the file has text or missing cells; y holds labels, int64 or strings, of shape (n,), or
        float64.

    Raises
    ------
    DataError
        If the data can't be used, with file, line and column, or are larger than `max_bytes`.
    ArgumentError
        If an argument can't be used, such as a target that the file doesn't have, or if weights
        are asked for in other files than CSV and NPZ.
    """
    path = as_path("path", path)
    if task is not None:
        _check_name("task", task, TASKS)
    _check_name("part", part, PARTS)
    if header is not None and not isinstance(header, bool):
        raise ArgumentError(f"header must be True, False or None, got {header!r}")
    request = Request(
        target=target,
        task=task,
        header=header,
        ignore=listed("ignore", ignore),
        features=None if features is None else listed("features", features),
        weights=weights,
        part=part,
        encoding=None if encode is None and missing is None else as_encoding(encode, missing),
        columns=columns,
    )
    if features is not None and not request.features:
        raise ArgumentError("features must name at least one column, got none")
    with reading(path):
        reader = reader_of(path)
        if weights is not None and not reader.weights:
            allowed = " or ".join(reader.weights for reader in reversed(READERS) if reader.weights)
            raise ArgumentError(f"weights must be {allowed}, got {weights!r} of {path}")
        if reader.columns is None:
            asked = {
                "target": target not in (None, -1),
                "header": header is not None,
                "ignore": bool(request.ignore),
                "encode and missing": request.encoding is not None,
            }
            for name in (name for name, given in asked.items() if given):
                verb = "are" if " " in name else "is"
                raise ArgumentError(f"{name} {verb} for CSV files, and {path} is none")
        return reader.read(path, request)


@limits.bounded
@np.errstate(all="ignore")
def load_training(
    path: str | os.PathLike[str],
    validation: str | os.PathLike[str] | float | None = None,
    *,
    seed: int = 0,
    target: str | int = -1,
    task: str | None = None,
    header: bool | None = None,
    ignore: str | Sequence[str | int] = (),
    features: str | Sequence[str] | None = None,
    weights: str | int | None = None,
    encode: Any = None,
    missing: Any = None,
    max_bytes: int | None = None,
) -> tuple[Dataset, Dataset | None]:
    """Read the data to train a network on and the data to validate it on.

    Parameters
    ----------
    path, target, task, header, ignore, features, weights, encode, missing, max_bytes
        As for `load`. The weights are those of the training part, `NamedDataset.weights`; another
        file for validation needs none.
    validation
        Another file or folder with the same columns; or the fraction that `split` takes from the
        data. If None, the test part of the data if they have one, as a folder of IDX files does, or
        an NPZ file with "x_train" and "x_test"; otherwise there is none.
    seed
        The seed of the split.

    Returns
    -------
    train, validation

    Raises
    ------
    DataError, ArgumentError
        As for `load` and `split`; and if the training part has only one class, or the validation
        part has a class that the training part doesn't have.
    """
    path = as_path("path", path)
    share: Any = validation if isinstance(validation, Real) else None
    other = None if validation is None or share is not None else as_path("validation", validation)
    data = load(
        path, target=target, task=task, header=header, ignore=ignore, features=features,
        weights=weights, encode=encode, missing=missing,
    )  # fmt: skip
    with reading(path):
        reader = reader_of(path)
        has_test = reader.has_test(path)
    labels = None
    if data.y.dtype.kind in "iU" and not reader.numbered:
        labels = distinct(data.where(None), data.y)
    if share is not None:
        return split(data, share, seed=seed)
    if other is None and not has_test:
        return data, None
    test_path = path if other is None else other
    is_table = reader_of(test_path).columns is not None
    test = load(
        test_path,
        part="test" if other is None else "train",
        target=data.target_name if is_table and data.target_name else -1,
        task="regression" if data.y.dtype.kind == "f" else "classification",
        header=header if is_table else None,
        features=data.feature_names,
        columns=fitted(data) if data.x.dtype.kind == "O" else None,
    )
    check_images(test, data.image_shape)
    if test.x.shape[1] != data.x.shape[1]:
        raise DataError(
            f"{test.path} has {counted(test.x.shape[1], 'feature')}, where {data.path} has "
            f"{data.x.shape[1]}"
        )
    if labels is not None:
        with located(test):
            label_indices("validation.y", test.y, labels)
    return data, test


def _check_name(name: str, given: object, allowed: Sequence[str]) -> None:
    if not (isinstance(given, str) and given in allowed):
        raise unknown(name, given, allowed)
