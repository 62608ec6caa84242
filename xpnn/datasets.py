"""Data sets: pairs of inputs and targets, and where they come from."""

from __future__ import annotations

import math
import os
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xpnn.backends import to_numpy
from xpnn.errors import ArgumentError, DataError
from xpnn.mapped import blocks, is_mapped, plain, scaled

Array = Any

_IDX_DTYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}

_MOST_DIMENSIONS = 64

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
        Class labels from 0 on, integers of shape (n,), or an array of floats or one-hot rows of
        shape (n, outputs).
    """

    x: np.ndarray
    y: np.ndarray


def as_dataset(name: str, data: Any) -> Dataset:
    """Return `data`, a `Dataset` or a pair of arrays of any library, checked and on the host.

    Raises
    ------
    ArgumentError, DataError
        If it isn't a pair, x isn't two-dimensional, x and y differ in length, y has more than two
        dimensions, either isn't numeric, or there is a NaN or an infinity.
    """
    try:
        x, y = data
    except (TypeError, ValueError):
        raise ArgumentError(
            f"{name} must be a pair of arrays (x, y), got {type(data).__name__}"
        ) from None
    x, y = as_inputs(f"{name}.x", x), _numeric(f"{name}.y", y)
    if is_mapped(y) and y.ndim == 1:
        y = np.array(y)
    if y.ndim not in (1, 2):
        raise DataError(f"{name}.y must have shape (n,) or (n, outputs), got shape {y.shape}")
    if x.shape[0] != y.shape[0]:
        raise DataError(
            f"{name}.x and {name}.y must have the same length, got {x.shape[0]} and {y.shape[0]}"
        )
    return Dataset(x, y)


def as_inputs(name: str, x: Any) -> np.ndarray:
    """Return `x`, of any library, as a checked two-dimensional array on the host.

    One that is mapped from a file stays so.
    """
    inputs = _numeric(name, x)
    if inputs.ndim != 2:
        raise DataError(f"{name} must have shape (n, features), got shape {inputs.shape}")
    return inputs


def _numeric(name: str, values: Any) -> np.ndarray:
    array: np.ndarray = values if is_mapped(values) else to_numpy(values)
    if array.dtype.kind not in "biuf":
        raise DataError(f"{name} must be an array of numbers, got dtype {array.dtype}")
    if not is_mapped(array):
        array = array.astype(plain(array.dtype), copy=False)
    if array.dtype.kind == "f" and array.ndim:
        _check_finite(name, array)
    return array


def _check_finite(name: str, array: np.ndarray) -> None:
    for first, rows in blocks(array):
        if not np.isfinite(rows).all():
            place = tuple(int(i) for i in np.argwhere(~np.isfinite(rows))[0])
            value = rows[place]
            place = (first + place[0], *place[1:])
            where = "row {}".format(", column ".join(map(str, place)))
            raise DataError(f"{name} must be finite, got {value} in {where}")


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


def read_idx_folder(folder: str | os.PathLike[str]) -> tuple[Dataset, Dataset]:
    """Read a folder of IDX files laid out as MNIST's: training and test, images and labels.

    Images become rows of ``float32(pixel / 255)``; labels are integers from 0 on.

    Returns
    -------
    train, test

    Raises
    ------
    DataError
        If a file is missing, damaged, or holds something else than its name says, or images and
        labels differ in number.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"no folder {folder}")
    return _read_part(folder, "train"), _read_part(folder, "t10k")


def _read_part(folder: Path, part: str) -> Dataset:
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
    return Dataset(
        scaled(images.reshape(len(images), math.prod(images.shape[1:]))), labels.astype(np.int64)
    )


def _find(folder: Path, stem: str, ndim: int) -> Path:
    names = [
        f"{stem}{mark}idx{ndim}-ubyte{ending}" for ending in ("", ".gz") for mark in ("-", ".")
    ]
    for name in names:
        if (folder / name).exists():
            return folder / name
    raise DataError(f"no {names[0]} (or {names[2]}) in {folder}")


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
