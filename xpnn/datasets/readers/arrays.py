"""Arrays in NPY and NPZ files."""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from xpnn._core import limits
from xpnn._core.mapped import EXACT
from xpnn.datasets.dataset import NamedDataset, located
from xpnn.datasets.labels import as_labels, check_count
from xpnn.datasets.readers.reader import Reader, Request, check_weights, reading
from xpnn.errors import ArgumentError, DataError, XpnnError, counted, position

if TYPE_CHECKING:
    import zipfile

# larger NPY files are mapped
_READ_BYTES = 1 << 26


def _is_pair(path: Path) -> bool:
    names = str(path).split(",")
    npy = all(Path(name).suffix.lower() == ".npy" for name in names)
    return len(names) == 2 and npy and not path.exists()


def _read_pair(path: Path, request: Request) -> NamedDataset:
    x, y = map(_read_npy, str(path).split(","))
    return _dataset(path, x, y, request)


def _read_folder(path: Path, request: Request) -> NamedDataset:
    lacking = request.target is None and not (path / "y.npy").exists()
    x, y = _read_npy(path / "x.npy"), None if lacking else _read_npy(path / "y.npy")
    return _dataset(path, x, y, request)


def _read_file(path: Path, request: Request) -> NamedDataset:
    if request.target is not None:
        raise DataError(f"{path} has no targets; give two files, as x.npy,y.npy")
    return _dataset(path, _read_npy(path), None, request)


def _read_archive(path: Path, request: Request) -> NamedDataset:
    import zipfile

    name = None if request.weights is None else str(request.weights)
    with reading(path), path.open("rb") as file, _parsing(path, "NPZ"):
        # checked first, because NumPy doesn't close a file that turns out to be no archive
        with zipfile.ZipFile(file) as members:
            sizes = _declared(path, members)
            file.seek(0)
            archive = np.load(file, allow_pickle=False)
        x, y = (_spelled(path, archive.files, letter, request.part) for letter in "xy")
        if name in (x, y):
            raise ArgumentError(f"weights must be another array than {x} and {y}, got {name!r}")
        names = [x, y] if name is None else [x, y, name]
        missing = [each for each in names if each not in archive.files]
        if missing and not (missing == [y] and request.target is None):
            has = ", ".join(archive.files) or "none"
            raise DataError(
                f"{path} must hold arrays {', '.join(names[:-1])} and {names[-1]}, got {has}"
            )
        wanted = [each for each in names if each not in missing]
        # NumPy calls a member by its name without ".npy"
        total = sum(sizes.get(f"{each}.npy", sizes.get(each, 0)) for each in wanted)
        limits.check(path, total, limits.expanded(path.stat().st_size))
        for each in wanted:
            _check_member(archive.zip, each)
        arrays = {each: archive[each] for each in wanted}
        for each, array in arrays.items():
            if not isinstance(array, np.ndarray):
                raise ValueError(f"{each} isn't an array")
    # two parts of one file are told apart in messages
    where = path if len(x) == 1 else f"{path} ({request.part} part)"
    data = _dataset(where, arrays[x], arrays.get(y), request)
    if name is not None:
        data.weights = _weights(path, name, arrays[name], len(data.x))
    return data


def _declared(path: Path, archive: zipfile.ZipFile) -> dict[str, int]:
    """Return the size that each member of an archive says it has; it gives no more bytes.

    Only the two methods that NumPy writes are read: others may grow by more than a thousand times,
    and their decompressors give all of it at once.
    """
    import zipfile

    for member in archive.infolist():
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise DataError(
                f"{path}: its member {member.filename!r} must be stored or deflated, as NumPy "
                f"writes it, got the ZIP compression {member.compress_type}"
            )
    return {member.filename: member.file_size for member in archive.infolist()}


def _check_member(archive: zipfile.ZipFile, name: str) -> None:
    """Raise unless a member holds as many bytes as the header of its array asks for."""
    member = f"{name}.npy" if f"{name}.npy" in archive.namelist() else name
    with archive.open(member) as file:
        _check_header(name, file, archive.getinfo(member).file_size)


def _check_header(name: str, file: IO[bytes], size: int) -> None:
    """Raise a ValueError unless a file of `size` bytes holds what its array's header asks for.

    NumPy takes the memory before it reads, also where a header asks for terabytes.
    """
    version = np.lib.format.read_magic(file)
    readers: Any = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    # NumPy has no public function for version 3, which differs from 2 in the header's encoding
    reader = readers.get(version, np.lib.format.read_array_header_2_0)
    shape, _, dtype = reader(file)
    if dtype.hasobject:
        # pickled; NumPy refuses it with the reason
        return
    asked, held = math.prod(shape) * dtype.itemsize, size - file.tell()
    if min(shape, default=0) < 0 or asked > held:
        raise ValueError(
            f"{name} holds {max(held, 0)} bytes, and its header asks for {asked}: {dtype} of "
            f"shape {shape}"
        )
    if not dtype.itemsize or not all(shape[1:]):
        raise ValueError(f"{name} must hold values, got {dtype} of shape {shape}")


def _spelled(path: Path, names: Sequence[str], letter: str, part: str) -> str:
    """Return the name of the array "x" or "y" of a part: x or x_train or x_test, X as well.

    If there is none, return the name that it should have.
    """
    wanted = f"{letter}_{part}"
    found = [name for name in names if name.lower() in (letter, wanted)]
    if len(found) > 1:
        raise DataError(f"{path} must hold only one of the arrays {' and '.join(found)}")
    in_parts = any(name.lower().startswith(f"{letter}_t") for name in names)
    return found[0] if found else wanted if in_parts else letter


def _has_test(path: Path) -> bool:
    import zipfile

    if not zipfile.is_zipfile(path):
        return False
    with reading(path), _parsing(path, "NPZ"), zipfile.ZipFile(path) as archive:
        return any(name.lower() == "x_test.npy" for name in archive.namelist())


def _ends_in(suffix: str) -> Callable[[Path], bool]:
    return lambda path: path.is_file() and path.suffix.lower() == suffix


PAIR = Reader(_is_pair, _read_pair, "x.npy,y.npy")
FOLDER = Reader(
    lambda path: (path / "x.npy").is_file(), _read_folder, "x.npy and y.npy", folder=True
)
NPY = Reader(_ends_in(".npy"), _read_file, "x.npy to predict from")
NPZ = Reader(
    _ends_in(".npz"),
    _read_archive,
    "an NPZ file",
    weights="an array of an NPZ file",
    has_test=_has_test,
)


@contextlib.contextmanager
def _parsing(path: str | os.PathLike[str], kind: str) -> Iterator[None]:
    """Raise a DataError if NumPy can't read the bytes of a file as arrays.

    NumPy raises errors of many classes then, those of its parser and its archives.
    """
    try:
        yield
    except (XpnnError, OSError):
        raise
    except Exception as error:
        # that of a header which is nested too deeply says nothing
        problem = str(error) or type(error).__name__
        raise DataError(f"{path} is not an {kind} file of numbers or strings: {problem}") from None


def _read_npy(path: str | os.PathLike[str]) -> np.ndarray:
    with reading(path), open(path, "rb") as file, _parsing(path, "NPY"):
        if file.read(6) != b"\x93NUMPY":
            raise DataError(f"{path} is not an NPY file")
        size = os.path.getsize(path)
        file.seek(0)
        _check_header("it", file, size)
        file.seek(0)
        large = size > _READ_BYTES
        if not large:
            limits.check(path, size, limits.memory())
        array: np.ndarray = np.load(
            path if large else file, mmap_mode="r" if large else None, allow_pickle=False
        )
    return array


def _dataset(
    path: Path | str, x: np.ndarray, y: np.ndarray | None, request: Request
) -> NamedDataset:
    images = _image_shape(x)
    if x.ndim > 2:
        x = x.reshape(len(x), math.prod(x.shape[1:]))
    if x.dtype.kind not in "biuf" or x.ndim != 2:
        raise DataError(
            f"{path}: x must be numbers of shape (n, features), got {x.dtype} of shape {x.shape}"
        )
    if not len(x):
        raise DataError(f"{path}: x has no rows")
    if y is None:
        return NamedDataset(x, np.empty((len(x), 0)), path=str(path), image_shape=images)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim not in (1, 2) or len(x) != len(y):
        raise DataError(
            f"{path}: y must have a row for each of the {len(x)} rows of x, got shape {y.shape}"
        )
    data = NamedDataset(x, y, path=str(path), image_shape=images)
    with located(data):
        _check_characters(y)
        return data._replace(y=as_target(path, np.array(y), request.task))


def _check_characters(y: np.ndarray) -> None:
    """Raise if a text holds what is no character: NumPy reads it, and Python can't."""
    if y.dtype.kind != "U":
        return
    codes = np.ascontiguousarray(y, y.dtype.newbyteorder("=")).view(np.uint32)
    wrong = codes.reshape(len(y), -1).max(axis=1, initial=0) > sys.maxunicode
    if wrong.any():
        problem = "a text with a character that isn't one of Unicode's"
        raise DataError(problem, part="y", row=int(np.argmax(wrong)))


def _image_shape(x: np.ndarray) -> tuple[int, int, int] | None:
    """Return height, width and channels of bytes of shape (n, h, w) or (n, h, w, 1 or 3)."""
    channels = x.shape[3:] or (1,)
    if x.dtype != np.uint8 or x.ndim not in (3, 4) or channels[0] not in (1, 3):
        return None
    return (int(x.shape[1]), int(x.shape[2]), int(channels[0]))


def _weights(path: Path, name: str, weights: np.ndarray, count: int) -> np.ndarray:
    if weights.shape not in ((count,), (count, 1)) or weights.dtype.kind not in "biuf":
        raise DataError(
            f"{path}: {name} must be {counted(count, 'number')} of shape ({count},), got "
            f"{weights.dtype} of shape {weights.shape}"
        )
    values = weights.reshape(count).astype(np.float64)
    return check_weights(values, lambda row: f"{path}, {position(name, row)}")


def as_target(path: Path | str, y: np.ndarray, task: str | None) -> np.ndarray:
    """Return targets as labels, int64 or strings, or as float64 values, as the task asks for."""
    if task is None:
        if y.dtype.kind in "iuUT" and y.ndim == 1:
            kind = "integers" if y.dtype.kind in "iu" else "texts"
            check_count(kind, len(np.unique(y)), len(y))
        task = "regression" if y.dtype.kind == "f" or y.ndim == 2 else "classification"
    if task == "regression":
        if y.dtype.kind not in "biuf":
            raise DataError(f"{path}: y must be numbers for a regression, got {y.dtype}")
        return y.astype(np.float64)
    if y.dtype.kind == "f" and (np.abs(y) < EXACT).all() and np.array_equal(y, np.round(y)):
        y = y.astype(np.int64)
    labels = as_labels(y)
    if labels is None:
        raise DataError(
            f"{path}: y must be integers or strings of shape (n,) for a classification, "
            f"got {y.dtype} of shape {y.shape}"
        )
    return labels
