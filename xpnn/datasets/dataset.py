"""Data sets: pairs of inputs and targets, and where they come from."""

from __future__ import annotations

import math
import os
import re
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xpnn._core.files import as_path
from xpnn._core.mapped import blocks, is_mapped, plain, scaled
from xpnn.backends import to_numpy
from xpnn.datasets.readers import csv as tables
from xpnn.datasets.readers import images
from xpnn.errors import ArgumentError, DataError, integer, unknown

Array = Any

_IDX_DTYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}

_MOST_DIMENSIONS = 64

# as `_find` looks for them
_IDX_NAME = re.compile(r"(train|t10k)-(images|labels)[-.]idx[13]-ubyte(\.gz)?$")

PARTS = ("train", "test")

# NPY files up to here are read at once
_READ_BYTES = 1 << 26

# labels that a message lists
_LISTED = 10

# integers up to here are all float64s
_EXACT = 2**53

# of the gzipped files, as they have been served since 2018
_MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
_MNIST_MD5 = {
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
}


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
                return tables.place(self.path, number, self.target_name)
            name = None if column is None else self.feature_names[column]
            return tables.place(self.path, number, name)
        place = f"{self.path}, {part}, row {number}"
        return place if column is None else f"{place}, column {column}"

    def part(self, rows: np.ndarray) -> NamedDataset:
        """Return some rows."""
        about = {**vars(self), "rows": rows if self.rows is None else self.rows[rows]}
        if self.weights is not None:
            about["weights"] = self.weights[rows]
        return type(self)(self.x[rows], self.y[rows], **about)


# in words, where a row of x or of y is, or one of its columns: `NamedDataset.where`
Where = Callable[[int, str, int | None], str]


def as_dataset(name: str, data: Any, labels: np.ndarray | None = None) -> Dataset:
    """Return `data`, a `Dataset` or a pair of arrays of any library, checked and on the host.

    Where `labels` is given, each label in y becomes its index there.

    Raises
    ------
    ArgumentError, DataError
        If it isn't a pair, x isn't two-dimensional, x and y differ in length, y has more than two
        dimensions, either isn't numeric, or there is a NaN, an infinity, or among the features an
        integer that float64 can't hold.
    """
    named = data if isinstance(data, NamedDataset) else None
    where = None if named is None else named.where
    try:
        x, y = data
    except (TypeError, ValueError):
        raise ArgumentError(
            f"{name} must be a pair of arrays (x, y), got {type(data).__name__}"
        ) from None
    if labels is not None:
        y = encode(f"{name}.y", y, labels, where)
    x, y = as_inputs(f"{name}.x", x, where), _numeric(f"{name}.y", y, where)
    if is_mapped(y) and y.ndim == 1:
        y = np.array(y)
    if y.ndim not in (1, 2):
        raise DataError(f"{name}.y must have shape (n,) or (n, outputs), got shape {y.shape}")
    if x.shape[0] != y.shape[0]:
        raise DataError(
            f"{name}.x and {name}.y must have the same length, got {x.shape[0]} and {y.shape[0]}"
        )
    return Dataset(x, y) if named is None else type(named)(x, y, **vars(named))


def as_labels(y: Any) -> np.ndarray | None:
    """Return `y` on the host as int64 or strings of shape (n,); None if it can't be labels."""
    array = to_numpy(y)
    if array.ndim != 1:
        return None
    if array.dtype.kind in "biu":
        if array.dtype == np.uint64 and array.max(initial=0) >= 2**63:
            return None
        return array.astype(np.int64)
    if array.dtype.kind in "UT" or (
        array.dtype.kind == "O" and all(isinstance(label, str) for label in array)
    ):
        return array.astype(str)
    return None


def check_labels(labels: Any) -> np.ndarray:
    """Return `labels`, one for each class in order, as int64 or strings of shape (classes,).

    Raises
    ------
    ArgumentError
        If they aren't two or more different integers or strings.
    """
    array = as_labels(labels)
    if array is None or len(array) < 2 or len(np.unique(array)) != len(array):
        raise ArgumentError(
            f"labels must be two or more different integers or strings, got {labels!r}"
        )
    return array


def distinct(y: Any, where: str) -> np.ndarray:
    """Return the different labels in `y`, sorted: the classes of a set to train on.

    Raises
    ------
    DataError
        If there is but one, or y isn't class labels.
    """
    found = as_labels(y)
    if found is None:
        raise DataError(f"{where} must hold integers or strings of shape (n,) as class labels")
    labels = np.unique(found)
    if len(labels) == 1:
        raise DataError(f"{where} must hold two classes or more, got {labels[0].item()!r} alone")
    return labels


def encode(
    name: str, y: Any, labels: np.ndarray, where: Callable[[int], str] | None = None
) -> np.ndarray:
    """Return the index of each label of `y` in `labels`.

    Integers in y are looked up as strings where `labels` are strings.

    Raises
    ------
    DataError
        If y isn't class labels, or one isn't among `labels`; with its row in words of `where`.
    """
    found = as_labels(y)
    if found is None:
        raise DataError(f"{name} must hold integers or strings of shape (n,) as class labels")
    if labels.dtype.kind == "U":
        found = found.astype(str)
    known = np.zeros(len(found), bool)
    indices = np.zeros(len(found), np.int64)
    if found.dtype.kind == labels.dtype.kind:
        order = np.argsort(labels)
        places = np.searchsorted(labels, found, sorter=order).clip(max=len(labels) - 1)
        indices = order[places]
        known = labels[indices] == found
    if not known.all():
        row = int(np.argmin(known))
        listed = ", ".join(repr(label.item()) for label in labels[:_LISTED])
        raise DataError(
            f"{f'{name}, row {row}' if where is None else where(row)}: {found[row].item()!r} is "
            f"not one of the classes of the training data "
            f"({listed}{', …' if len(labels) > _LISTED else ''})"
        )
    return indices


def as_inputs(name: str, x: Any, where: Where | None = None) -> np.ndarray:
    """Return `x`, of any library, as a checked two-dimensional array on the host.

    One that is mapped from a file stays so.
    """
    inputs = _numeric(name, x, where)
    if inputs.ndim != 2:
        raise DataError(f"{name} must have shape (n, features), got shape {inputs.shape}")
    return inputs


def _numeric(name: str, values: Any, where: Where | None = None) -> np.ndarray:
    array: np.ndarray = values if is_mapped(values) else to_numpy(values)
    if array.dtype.kind not in "biuf":
        raise DataError(f"{name} must be an array of numbers, got dtype {array.dtype}")
    if array.dtype.kind == "f" and array.ndim:
        _check(name, array, lambda rows: ~np.isfinite(rows), "finite", where)
    elif array.dtype.kind in "iu" and array.dtype.itemsize == 8 and array.ndim == 2:
        _check(name, array, _inexact, "integers that float64 can hold", where)
    if not is_mapped(array):
        array = array.astype(plain(array.dtype), copy=False)
    return array


def _check(
    name: str,
    array: np.ndarray,
    wrong: Callable[[np.ndarray], np.ndarray],
    wanted: str,
    where: Where | None,
) -> None:
    for first, rows in blocks(array):
        found = wrong(rows)
        if found.any():
            place = tuple(int(i) for i in np.argwhere(found)[0])
            value, row = rows[place], first + place[0]
            if where is None:
                numbers = ", column ".join(map(str, (row, *place[1:])))
                raise DataError(f"{name} must be {wanted}, got {value} in row {numbers}")
            column = place[1] if len(place) > 1 else None
            spot = where(row, name.rpartition(".")[2], column)
            raise DataError(f"{spot}: {name} must be {wanted}, got {value}")


def _inexact(rows: np.ndarray) -> np.ndarray:
    """Return which integers float64 can't hold."""
    far = rows > _EXACT
    if rows.dtype.kind == "i":
        far |= rows < -_EXACT
    far[far] = [int(float(value)) != value for value in rows[far].tolist()]
    return far


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """Read an IDX file, gzipped or not.

    The format (LeCun, Cortes and Burges 1998): two zero bytes, a code for the dtype, the number of
    dimensions, each dimension as a big-endian 32-bit integer, then the values in C order.

    Returns
    -------
    array
        In the machine's own byte order.

    Raises
    ------
    DataError
        If there is no such file, or it is not a whole IDX file.
    """
    path = Path(path)
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"can't read {path}: {error.strerror}") from None
    if raw[:2] == b"\x1f\x8b":
        import gzip

        try:
            raw = gzip.decompress(raw)
        except (EOFError, OSError, zlib.error) as error:
            raise DataError(f"{path} is a damaged gzip file: {error}") from None
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] not in _IDX_DTYPES:
        begin = raw[:4].hex(" ") or "nothing"
        raise DataError(f"{path} is not an IDX file: it begins with {begin}")
    ndim = raw[3]
    if ndim > _MOST_DIMENSIONS:
        raise DataError(f"{path} has {ndim} dimensions, more than NumPy's {_MOST_DIMENSIONS}")
    start = 4 + 4 * ndim
    if len(raw) < start:
        raise DataError(f"{path} is cut off in its header: {len(raw)} of {start} bytes")
    shape = tuple(int(n) for n in np.frombuffer(raw, ">u4", ndim, 4))
    dtype = np.dtype(_IDX_DTYPES[raw[2]])
    size = start + math.prod(shape) * dtype.itemsize
    if len(raw) != size:
        raise DataError(f"{path} must have {size} bytes for shape {shape}, got {len(raw)}")
    return np.frombuffer(raw, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))


def read_idx_folder(folder: str | os.PathLike[str]) -> tuple[NamedDataset, NamedDataset]:
    """Read a folder of IDX files laid out as MNIST's: training and test, images and labels.

    Images become rows of ``float32(pixel / 255)``; labels are integers from 0 on.

    Returns
    -------
    train, test
        Each with the `NamedDataset.image_shape`.

    Raises
    ------
    DataError
        If a file is missing, damaged, or holds something else than its name says, or images and
        labels differ in number.
    """
    folder = as_path("folder", folder)
    if not folder.is_dir():
        raise DataError(f"no folder {folder}")
    return _read_part(folder, "train"), _read_part(folder, "t10k")


def _read_part(folder: Path, part: str) -> NamedDataset:
    images_path = _find(folder, f"{part}-images", 3)
    labels_path = _find(folder, f"{part}-labels", 1)
    images, labels = read_idx(images_path), read_idx(labels_path)
    for path, array, ndim, kind in (
        (images_path, images, 3, "images"),
        (labels_path, labels, 1, "labels"),
    ):
        if array.ndim != ndim or array.dtype != np.uint8:
            raise DataError(
                f"{path} must hold {kind}, {ndim}-dimensional and unsigned bytes, "
                f"got {array.ndim}-dimensional {array.dtype}"
            )
    if len(images) != len(labels):
        raise DataError(
            f"{images_path} holds {len(images)} images, but {labels_path} {len(labels)} labels"
        )
    height, width = images.shape[1:]
    return NamedDataset(
        scaled(images.reshape(len(images), height * width)),
        labels.astype(np.int64),
        path=str(folder),
        image_shape=(height, width, 1),
    )


def _find(folder: Path, stem: str, ndim: int) -> Path:
    names = [
        f"{stem}{mark}idx{ndim}-ubyte{ending}" for ending in ("", ".gz") for mark in ("-", ".")
    ]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise DataError(f"no {names[0]} (or {names[2]}) in {folder}")


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


def split(data: Dataset, fraction: float, *, seed: int = 0) -> tuple[Dataset, Dataset]:
    """Cut a validation part of ``round(fraction * n)`` rows off a data set, at random.

    Class labels are stratified: each class gives its share, by the method of the largest
    remainder, and keeps a row or more for training. Both parts keep their order. The stream that
    is drawn from is one of its own, so that a run's own random numbers stay what they were.

    Parameters
    ----------
    data
        In memory.
    fraction
        A number > 0 and < 1.
    seed
        The same seed gives the same parts, everywhere.

    Returns
    -------
    train, validation

    Raises
    ------
    ArgumentError
        If the fraction leaves one part empty, or the data are mapped from a file.
    """
    seed = integer("seed", seed, minimum=0, maximum=2**32 - 1)
    count = len(data.x)
    if not 0 < fraction < 1:
        raise ArgumentError(f"validation must be a fraction > 0 and < 1, got {fraction!r}")
    if is_mapped(data.x):
        raise ArgumentError(
            "validation must be files of its own for data that are mapped from a file, got "
            f"{fraction!r}"
        )
    if not count:
        raise ArgumentError(f"validation must be a share of one row or more, got {fraction!r} of 0")
    wanted = round(fraction * count)
    rng = np.random.RandomState([seed, 1])
    order = rng.permutation(count)
    labels = as_labels(data.y) if data.y.dtype.kind != "f" else None
    if labels is not None:
        order = np.concatenate(_stratified(labels[order], order, fraction, wanted))
        wanted = len(order)
    chosen = np.zeros(count, bool)
    chosen[order[:wanted]] = True
    if not 0 < wanted < count:
        raise ArgumentError(
            f"validation must leave a row or more on either side, got {fraction!r} of {count} rows"
        )
    parts = np.flatnonzero(~chosen), np.flatnonzero(chosen)
    if isinstance(data, NamedDataset):
        return data.part(parts[0]), data.part(parts[1])
    train, validation = (Dataset(data.x[rows], data.y[rows]) for rows in parts)
    return train, validation


def _stratified(
    labels: np.ndarray, order: np.ndarray, fraction: float, wanted: int
) -> list[np.ndarray]:
    """Return for each class those of its rows, in a random order, that are for validation."""
    _, codes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    shares = fraction * sizes
    counts = np.floor(shares).astype(int)
    for k in np.argsort(counts - shares, kind="stable"):
        if counts.sum() >= wanted:
            break
        counts[k] = min(counts[k] + 1, sizes[k] - 1)
    return [order[codes == k][:number] for k, number in enumerate(counts)]


def is_idx_folder(folder: Path) -> bool:
    """Return whether a folder holds a file that is named as one of MNIST's IDX files."""
    return any(_IDX_NAME.match(path.name) and path.is_file() for path in folder.iterdir())


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


def mnist(path: str | os.PathLike[str] | None = None) -> tuple[Dataset, Dataset]:
    """Return MNIST (LeCun, Cortes and Burges 1998), 60,000 training and 10,000 test images.

    Parameters
    ----------
    path
        The folder with the four IDX files, gzipped or not. If None, the user's cache, which is
        filled from the network first if need be (needs pooch); the files' MD5 sums are checked.

    Returns
    -------
    train, test
        Each with ``x`` of shape (n, 784), ``float32(pixel / 255)``, and ``y`` of shape (n,).

    Raises
    ------
    DataError
        If a file is missing or damaged, or can't be had.
    """
    if path is None:
        path = _fetch_mnist()
    return read_idx_folder(path)


def _fetch_mnist() -> Path:
    try:
        import pooch
    except ImportError:
        raise DataError(
            "no path to MNIST given, and downloading it needs pooch: pip install pooch"
        ) from None
    folder = Path(pooch.os_cache("xpnn")) / "mnist"
    for name, md5 in _MNIST_MD5.items():
        try:
            pooch.retrieve(_MNIST_URL + name, f"md5:{md5}", fname=name, path=folder)
        except (OSError, ValueError) as error:
            raise DataError(f"can't download {name} to {folder}: {error}") from None
    return folder
