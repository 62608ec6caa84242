"""IDX files, the format of MNIST, and MNIST itself."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from xpnn._core import limits
from xpnn._core.files import as_path
from xpnn._core.mapped import pixels_as_floats
from xpnn.datasets.dataset import Dataset, NamedDataset
from xpnn.datasets.readers.reader import Reader, is_gzip, reading, ungzipped
from xpnn.errors import DataError

_DTYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}

_MOST_DIMENSIONS = 64

# the names that `_read_array` looks for
_NAME = re.compile(r"(train|t10k)-(images|labels)[-.]idx[13]-ubyte(\.gz)?$")

_MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"

# MD5 sums of the gzipped files, as they have been served since 2018
_MNIST_MD5 = {
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
}


@limits.bounded
def read_idx(path: str | os.PathLike[str], *, max_bytes: int | None = None) -> np.ndarray:
    """Read an IDX file, gzipped or not.

    The format (LeCun, Cortes and Burges 1998): two zero bytes, a code for the dtype, the number of
    dimensions, each dimension as a big-endian 32-bit integer, then the values in C order.

    Parameters
    ----------
    path
        The file.
    max_bytes
        As for `load`.

    Returns
    -------
    array
        In the machine's byte order.

    Raises
    ------
    DataError
        If there is no such file, it is not a whole IDX file, or it is larger than `max_bytes`.
    """
    path = as_path("path", path)
    with reading(path), path.open("rb") as file:
        gzipped = is_gzip(file.read(2))
    opened: Any = open
    if gzipped:
        from gzip import open as opened
    with reading(path), ungzipped(path), opened(path, "rb") as file:
        raw = file.read(4)
        if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] not in _DTYPES:
            begin = raw[:4].hex(" ") or "nothing"
            raise DataError(f"{path} is not an IDX file: it begins with {begin}")
        ndim = raw[3]
        if ndim > _MOST_DIMENSIONS:
            raise DataError(f"{path} has {ndim} dimensions, more than NumPy's {_MOST_DIMENSIONS}")
        start = 4 + 4 * ndim
        raw += file.read(4 * ndim)
        if len(raw) < start:
            raise DataError(f"{path} is cut off in its header: {len(raw)} of {start} bytes")
        shape = tuple(int(n) for n in np.frombuffer(raw, ">u4", ndim, 4))
        dtype = np.dtype(_DTYPES[raw[2]])
        size = start + math.prod(shape) * dtype.itemsize
        held = path.stat().st_size
        most = limits.expanded(held) if gzipped else limits.memory()
        # a plain file takes no more than it holds, whatever it says
        limits.check(path, size if gzipped else held, most)
        if gzipped:
            raw += file.read(size - start)
            held = len(raw) + _rest(file, most)
        elif held == size:
            raw += file.read(size - start)
    if held != size:
        raise DataError(f"{path} must have {size} bytes for shape {shape}, got {held}")
    return np.frombuffer(raw, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))


def _rest(file: Any, most: int) -> int:
    """Return how many bytes follow in a file, which aren't kept; counted up to about `most`."""
    count = 0
    while count < most and (found := len(file.read(1 << 20))):
        count += found
    return count


@limits.bounded
def read_idx_folder(
    folder: str | os.PathLike[str], *, max_bytes: int | None = None
) -> tuple[NamedDataset, NamedDataset]:
    """Read a folder of IDX files laid out as MNIST's: training and test, images and labels.

    Images become rows of ``float32(pixel / 255)``; labels are integers from 0 on.

    Parameters
    ----------
    folder
        The folder.
    max_bytes
        As for `load`, for each file.

    Returns
    -------
    train, test
        Each has an `image_shape`, see `NamedDataset`.

    Raises
    ------
    DataError
        If a file is missing or damaged, holds something else than its name says, or images and
        labels differ in number.
    """
    folder = as_path("folder", folder)
    if not folder.is_dir():
        raise DataError(f"no folder {folder}")
    return _read_part(folder, "train"), _read_part(folder, "test")


@limits.bounded
def mnist(
    path: str | os.PathLike[str] | None = None, *, max_bytes: int | None = None
) -> tuple[Dataset, Dataset]:
    """Return MNIST (LeCun, Cortes and Burges 1998), 60,000 training and 10,000 test images.

    Parameters
    ----------
    path
        The folder with the four IDX files, gzipped or not. If None, the user's cache, into which
        they are downloaded first if they aren't there (needs pooch); their MD5 sums are checked.
    max_bytes
        As for `load`, for each file.

    Returns
    -------
    train, test
        Each with ``x`` of shape (n, 784), ``float32(pixel / 255)``, and ``y`` of shape (n,).

    Raises
    ------
    DataError
        If a file is missing or damaged, or can't be downloaded.
    """
    return read_idx_folder(_fetch_mnist() if path is None else as_path("path", path))


def _takes(folder: Path) -> bool:
    return folder.is_dir() and any(_NAME.match(p.name) and p.is_file() for p in folder.iterdir())


FOLDER = Reader(
    _takes,
    lambda folder, request: _read_part(folder, request.part, request.target is not None),
    "IDX files such as train-images-idx3-ubyte.gz",
    folder=True,
    has_test=lambda folder: any(
        name.startswith("t10k") and _NAME.match(name) for name in os.listdir(folder)
    ),
    numbered=True,
)


def _read_part(folder: Path, part: str, labelled: bool = True) -> NamedDataset:
    """Return the training or the test part, whose labels may be missing unless it is `labelled`."""
    images_path, images = _read_array(folder, part, "images", 3)
    height, width = images.shape[1:]
    data = NamedDataset(
        pixels_as_floats(images.reshape(len(images), height * width)),
        np.empty((len(images), 0)),
        path=str(folder),
        image_shape=(height, width, 1),
    )
    if not labelled and _find(folder, part, "labels", 1) is None:
        return data
    labels_path, labels = _read_array(folder, part, "labels", 1)
    if len(images) != len(labels):
        raise DataError(
            f"{images_path} holds {len(images)} images, but {labels_path} {len(labels)} labels"
        )
    return data._replace(y=labels.astype(np.int64))


def _names(part: str, kind: str, ndim: int) -> list[str]:
    stem = f"{'t10k' if part == 'test' else 'train'}-{kind}"
    return [f"{stem}{mark}idx{ndim}-ubyte{ending}" for ending in ("", ".gz") for mark in ("-", ".")]


def _find(folder: Path, part: str, kind: str, ndim: int) -> Path | None:
    paths = (folder / name for name in _names(part, kind, ndim))
    return next((path for path in paths if path.is_file()), None)


def _read_array(folder: Path, part: str, kind: str, ndim: int) -> tuple[Path, np.ndarray]:
    """Return the path of the part's images or labels, and their unsigned bytes."""
    path = _find(folder, part, kind, ndim)
    if path is None:
        names = _names(part, kind, ndim)
        raise DataError(f"no {names[0]} (or {names[2]}) in {folder}")
    array = read_idx(path)
    if array.ndim != ndim or array.dtype != np.uint8:
        raise DataError(
            f"{path} must hold {kind}, {ndim}-dimensional and unsigned bytes, "
            f"got {array.ndim}-dimensional {array.dtype}"
        )
    return path, array


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
