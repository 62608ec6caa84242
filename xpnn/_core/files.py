"""Files that nobody sees half written, and safetensors files in which damage is found."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from xpnn._core import limits
from xpnn.errors import ArgumentError, DataError

PathLike = str | os.PathLike[str]

# the key of a safetensors file's SHA-256 in its metadata, and its value while that is computed
SEAL = "file_sha256"
_NO_SEAL = "0" * 64

# the longest header that safetensors allows
_HEADER_BYTES = 100_000_000


def as_path(name: str, path: object) -> Path:
    """Return `path` as a `Path`, or raise an `ArgumentError` that names the argument."""
    try:
        return Path(path)  # type: ignore[arg-type]
    except TypeError:
        raise ArgumentError(f"{name} must be a path, got {path!r}") from None


def check_writable(name: str, path: PathLike) -> Path:
    """Return `path` if a file can be written there, without changing anything."""
    path = as_path(name, path)
    folder = path.parent
    if path.is_dir():
        reason = "it is a folder"
    elif not folder.is_dir():
        reason = f"there is no folder {folder}"
    elif not os.access(path if path.exists() else folder, os.W_OK):
        reason = "permission denied"
    else:
        return path
    raise ArgumentError(f"{name} must be a file that can be written, got {str(path)!r}: {reason}")


@contextlib.contextmanager
def replacing(
    path: PathLike, *, keep: Callable[[Path], Path] | None = None, part: str | None = None
) -> Iterator[Path]:
    """Yield a path beside `path` to write to, and replace `path` by that file at the end.

    The new file is on the disk before it replaces the old one: even after a power cut, there is
    one of them. A link stays, and the file that it leads to is replaced. A device or a pipe is
    written to directly.

    Parameters
    ----------
    path
        The file to be written. A new one has the mode that the umask leaves, an old one keeps its
        mode.
    keep
        Returns the path under which an old file stays, given its path.
    part
        The name of the file to write to; a new name each time if None. With a name, the file that
        a killed process left there is replaced, and only one process may write at a time.
    """
    path = Path(path).resolve()
    mode = path.stat().st_mode & 0o777 if path.exists() else None
    beside = path.with_name(part or f".{path.stem}-{os.urandom(4).hex()}{path.suffix}")
    try:
        if path.exists() and not path.is_file():
            yield path
            return
        beside.unlink(missing_ok=True)
        # the system applies the umask; a private file is private from the beginning
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
        os.close(os.open(beside, flags, 0o666 if mode is None else 0o600))
        yield beside
        _sync(beside)
        if mode is not None:
            beside.chmod(mode)
        if keep is not None and path.exists():
            _keep(path, keep(path))
        beside.replace(path)
        # not every system lets a folder be synchronised
        with contextlib.suppress(OSError):
            _sync(path.parent)
    except OSError as error:
        # an error of writing, such as that of a full disk, may have no name
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise
    finally:
        beside.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    # Windows synchronises only files that are open for writing, and no folders
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _keep(path: Path, name: Path) -> None:
    """Give a file a second name; it is always there under the first one."""
    name.unlink(missing_ok=True)
    try:
        os.link(path, name)
    except OSError:  # a file system without links
        path.replace(name)


def sealed(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> bytes:
    """Return the bytes of a safetensors file with their SHA-256, which `unsealed` checks.

    It is in the metadata under `SEAL`, and covers the whole file, with 64 zeros in its place.
    """
    import hashlib

    from safetensors.numpy import save

    # not ascontiguousarray, which makes a vector of a number
    plain = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    raw = save(plain, {**metadata, SEAL: _NO_SEAL})
    return _resealed(raw, _NO_SEAL, hashlib.sha256(raw).hexdigest())


def unsealed(path: PathLike, kind: str) -> tuple[dict[str, str], bytes]:
    """Return the metadata and the bytes of a safetensors file, checked if it has a `SEAL`.

    Raises
    ------
    DataError
        If the file can't be read, isn't a safetensors file, or has another SHA-256. The message
        names `path` and the `kind` of file that it should be.
    """
    import hashlib
    import json

    unread = f"can't read a {kind} from {path}"
    foreign = DataError(f"{unread}: it is no safetensors file, or a damaged one")
    try:
        with Path(path).open("rb") as file:
            begin = file.read(8)
            size = int.from_bytes(begin, "little")
            if size > _HEADER_BYTES:
                raise foreign
            begin += limits.taken(file, size)
            header = json.loads(begin[8:])
            metadata = dict(header.pop("__metadata__", {}))
            if not all(isinstance(text, str) for text in metadata.values()):
                raise foreign
            # a device has no end: its header must say how long the file is
            end = max((int(entry["data_offsets"][1]) for entry in header.values()), default=0)
            limits.check(path, end, limits.memory())
            raw = begin + limits.taken(file, max(end, 0) + 1)
    except OSError as error:
        raise DataError(f"{unread}: {error.strerror}") from None
    except DataError:
        raise
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError):
        raise foreign from None
    if SEAL in metadata:
        zeroed = _resealed(raw, metadata[SEAL], _NO_SEAL)
        if hashlib.sha256(zeroed).hexdigest() != metadata[SEAL]:
            raise DataError(f"{path} is damaged: its bytes don't have the SHA-256 that it holds")
    return metadata, raw


def arrays_in(raw: bytes, path: PathLike) -> dict[str, np.ndarray]:
    """Return the arrays of a safetensors file, given the bytes that `unsealed` returned.

    Raises
    ------
    DataError
        If the bytes of an array aren't there, or have a dtype that NumPy doesn't have.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return load(raw)
    except SafetensorError as error:
        raise DataError(f"can't read the arrays of {path}: {error}") from None
    except (AttributeError, ImportError, LookupError, TypeError, ValueError) as error:
        raise DataError(f"can't read the arrays of {path}: {error!r}") from None


def _resealed(raw: bytes, old: str, new: str) -> bytes:
    # with its key: quotes in other texts are escaped, so that no other text is replaced
    return raw.replace(f'"{SEAL}":"{old}"'.encode(), f'"{SEAL}":"{new}"'.encode(), 1)
