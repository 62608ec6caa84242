"""Files that a reader never sees half written, and safetensors that it never sees changed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from xpnn.errors import ArgumentError, DataError

PathLike = str | os.PathLike[str]

# the name of a safetensors file's own SHA-256 in its metadata
SEAL = "file_sha256"

_NO_SEAL = "0" * 64


def as_path(name: str, path: object) -> Path:
    """Return `path` as one, or raise an ArgumentError that names the argument."""
    try:
        return Path(path)  # type: ignore[arg-type]
    except TypeError:
        raise ArgumentError(f"{name} must be a path, got {path!r}") from None


def check_writable(name: str, path: PathLike) -> Path:
    """Return `path` if a file can be written there; changes nothing."""
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
    """Give a path beside `path` to write to, and put it in place of `path` once all is written.

    What was written is on the disk before it takes its place, so that also after a power cut there
    is either the old file or the new one. A link stays, and what it leads to is replaced. A device
    or a pipe is written to as it is.

    Parameters
    ----------
    path
        The file that is to be written.
    keep
        Takes the path of a file that is to be replaced, and returns the one under which it stays.
    part
        The name of the file to write to, a new one each time if None. With a name, what a kill
        leaves behind is written over the next time; only one may write at a time then.
    """
    path = Path(path).resolve()
    if path.exists() and not path.is_file():
        with _named(path):
            yield path
        return
    beside = _new(path) if part is None else path.with_name(part)
    try:
        with _named(path):
            yield beside
            _sync(beside)
        # mkstemp makes files private; a new file gets what the user's umask says
        mask = os.umask(0)
        os.umask(mask)
        beside.chmod(path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~mask)
        if keep is not None and path.exists():
            _keep(path, keep(path))
        beside.replace(path)
        # not every system lets a folder be synchronised
        with contextlib.suppress(OSError):
            _sync(path.parent)
    finally:
        beside.unlink(missing_ok=True)


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Give the errors of a write, such as that of a full disk, the name of the file."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


def _new(path: Path) -> Path:
    import tempfile

    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    return Path(name)


def _sync(path: Path) -> None:
    # Windows synchronises what can be written to, and no folders
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _keep(path: Path, name: Path) -> None:
    """Give a file a second name, so that there is no moment without the first."""
    spare = path.with_name(f".{name.name}-{os.getpid()}")
    try:
        spare.unlink(missing_ok=True)
        os.link(path, spare)
    except OSError:  # a file system without links
        path.replace(name)
        return
    try:
        spare.replace(name)
    finally:
        # a rename does nothing where both are the same file already
        spare.unlink(missing_ok=True)


def sealed(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> bytes:
    """Return a safetensors file with the SHA-256 of all its bytes, for `unsealed`.

    The metadata have it as `SEAL`: that of the whole file, with this one text taken as 64 zeros. No
    bit of the file is outside of it.
    """
    import hashlib

    from safetensors.numpy import save

    # not ascontiguousarray, which makes a number a vector
    plain = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    raw = save(plain, {**metadata, SEAL: _NO_SEAL})
    return _resealed(raw, _NO_SEAL, hashlib.sha256(raw).hexdigest())


def unsealed(path: PathLike, kind: str) -> tuple[dict[str, str], bytes]:
    """Return the metadata and all bytes of a safetensors file; with a `SEAL`, they are as written.

    Raises
    ------
    DataError
        If the file can't be read, is no safetensors file, or has another SHA-256; it names `path`,
        and `kind` as what it should be.
    """
    import hashlib
    import json

    unread = f"can't read a {kind} from {path}"
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{unread}: {error.strerror}") from None
    size = 8 + int.from_bytes(raw[:8], "little")
    try:
        metadata = dict(json.loads(raw[8:size]).get("__metadata__", {}))
    except (AttributeError, RecursionError, TypeError, ValueError):
        raise DataError(f"{unread}: it is no safetensors file, or a damaged one") from None
    if SEAL in metadata:
        zeroed = _resealed(raw, metadata[SEAL], _NO_SEAL)
        if hashlib.sha256(zeroed).hexdigest() != metadata[SEAL]:
            raise DataError(f"{path} is damaged: its bytes don't have the SHA-256 that it holds")
    return metadata, raw


def _resealed(raw: bytes, old: str, new: str) -> bytes:
    # with its name, which no other text can hold, for their quotes are escaped
    return raw.replace(f'"{SEAL}":"{old}"'.encode(), f'"{SEAL}":"{new}"'.encode(), 1)
