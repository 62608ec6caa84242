"""Files that nobody sees half written, and safetensors files in which damage is found."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import logging
import os
import stat
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import BinaryIO

import numpy as np

from xpnn._core import limits
from xpnn._core.interrupts import held
from xpnn._core.locks import Lock, try_lock
from xpnn.errors import ArgumentError, DataError, WriteError

PathLike = str | os.PathLike[str]

_LOG = logging.getLogger(__name__)

# the names of open files in /dev, by their numbers
_STANDARD = ("stdin", "stdout", "stderr")

# the files and folders that this thread has locked
_locked: ContextVar[frozenset[Path]] = ContextVar("locked", default=frozenset())

# attempts to open a pipe, 0.05 s apart, before it is said that nobody reads from it
_PATIENCE = 20

# the endings of what a checkpoint keeps beside itself: the one before, and one that was damaged
PREVIOUS, DAMAGED = ".previous", ".damaged"

# the key of a safetensors file's SHA-256 in its metadata, and its value while that is computed
SEAL = "file_sha256"
_NO_SEAL = "0" * 64

# the longest header that safetensors allows
_HEADER_BYTES = 100_000_000


def as_path(name: str, path: object) -> Path:
    """Return `path` as a `Path`, or raise an `ArgumentError` that names the argument."""
    try:
        found = Path(path)  # type: ignore[arg-type]
    except TypeError:
        found = None
    if found is None or path == "" or "\0" in str(found):
        raise ArgumentError(f"{name} must be a path, got {path!r}")
    return found


def real(path: PathLike) -> Path:
    """Return the path of the file that a path leads to, also if it isn't there yet."""
    # unlike Path.resolve, it raises no error of its own about links in a circle
    return Path(os.path.realpath(path))


def same_file(one: PathLike, other: PathLike) -> bool:
    """Return whether two paths are those of one file, which may not be there yet.

    A device or a pipe, which nobody overwrites, is never the same.
    """
    if is_direct(one) or is_direct(other):
        return False
    first, second = real(one), real(other)
    with contextlib.suppress(OSError):
        return first == second or first.samefile(second)
    # "A.csv" and "a.csv", or an accent with its letter and after it
    alike = _folded(first.name) == _folded(second.name) and first.parent == second.parent
    return first == second or (alike and _ignores_case(first.parent))


def _folded(name: str) -> str:
    return unicodedata.normalize("NFD", name).casefold()


def _ignores_case(folder: Path) -> bool:
    """Return whether a folder's file system takes capital and small letters for the same."""
    with contextlib.suppress(OSError), _beside(folder / "x", 0o600) as (_, beside):
        return beside.with_name(beside.name.upper()).exists()
    return False


def check_writable(name: str, path: PathLike) -> Path:
    """Return `path` if a file can be written there, which is tried; nothing is changed.

    What was left of a process that was killed while it wrote this file is removed.
    """
    path = as_path(name, path)
    try:
        target = real(path)
        if is_direct(path):
            reason = None if os.access(path, os.W_OK) else "permission denied"
        elif target.is_symlink():
            reason = "its links lead in a circle"
        elif target.is_dir():
            reason = "it is a folder"
        elif not target.parent.is_dir():
            reason = f"there is no folder {target.parent}"
        elif target.suffix in (PREVIOUS, DAMAGED) and target.with_suffix("").exists():
            reason = f"a checkpoint {target.stem} keeps older ones under this name"
        else:
            if target.exists():
                # for appending: a file that can't be appended to isn't replaced either
                os.close(os.open(target, os.O_WRONLY | os.O_APPEND))
            _remove_left(target)
            with _beside(target, 0o600):
                reason = None
    except PermissionError:
        reason = "permission denied"
    except OSError as error:
        reason = error.strerror or str(error)
    if reason is not None:
        raise ArgumentError(
            f"{name} must be a file that can be written, got {str(path)!r}: {reason}"
        )
    return path


def check_folder(name: str, folder: PathLike) -> Path:
    """Return `folder` if files can be written there, which is tried; it needn't be there yet."""
    path = as_path(name, folder)
    try:
        found = next(p for p in (path, *path.absolute().parents) if p.exists())
        reason = None if found.is_dir() else f"{found} is a file"
        if reason is None:
            with _beside(real(found) / "x", 0o600):
                return path
    except PermissionError:
        reason = "permission denied"
    except OSError as error:
        reason = error.strerror
    raise ArgumentError(not_a_folder(name, path, reason))


def not_a_folder(name: str, folder: Path, reason: str | None) -> str:
    """Return the message about a folder in which nothing can be written."""
    return f"{name} must be a folder that can be written to, got {str(folder)!r}: {reason}"


@contextlib.contextmanager
def replacing(
    name: str, path: PathLike, *, keep: Callable[[Path], Path] | None = None
) -> Iterator[BinaryIO]:
    """Yield a file to write to, beside `path`, and replace `path` by it at the end.

    The new file is on the disk before it replaces the old one: even after a power cut, there is
    one of them. A link stays, and the file that it leads to is replaced. A device or a pipe is
    written to directly. A Ctrl-C while the file is put in place waits until that is done. Only one
    process and thread at a time writes a file: see `locked`, which may hold it already.

    Parameters
    ----------
    name
        What messages call the file.
    path
        The file to be written. A new one has the mode that the umask leaves, an old one keeps its
        mode.
    keep
        Returns the path under which an old file stays, given its path.

    Raises
    ------
    ArgumentError
        If somebody else writes the file.
    WriteError
        If the system refuses.
    """
    ours = real(path) in _locked.get()
    with writing(name, path), contextlib.nullcontext() if ours else locked(name, path):
        if is_direct(path):
            with open_direct(path) as direct:
                yield direct
            return
        path = real(path)
        mode = path.stat().st_mode & 0o777 if path.exists() else None
        # the system applies the umask; a private file is private from the beginning
        with _beside(path, 0o666 if mode is None else 0o600) as (file, beside):
            yield file
            with held():
                file.flush()
                _sync(file.fileno())
                if mode is not None:
                    # some file systems have one mode for all files
                    with contextlib.suppress(OSError):
                        beside.chmod(mode)
                if keep is not None and path.exists():
                    _keep(path, keep(path))
                # Windows renames no open file
                file.close()
                beside.replace(path)
                _sync_folder(path.parent)


def mark_of(path: Path) -> str:
    """Return a short name for what lies beside a file for some time: nobody else has it."""
    return f"xpnn-{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:8]}"


@contextlib.contextmanager
def _beside(path: Path, mode: int) -> Iterator[tuple[BinaryIO, Path]]:
    """Yield a new file in the folder of `path`, and its path; it is removed if it is still there.

    Nobody can foresee its name, which is never too long, and put a link there. It is locked as
    long as it is open, by which `_remove_left` knows that somebody writes it.
    """
    flags = os.O_CREAT | os.O_EXCL | os.O_RDWR
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    beside = path.with_name(f".{mark_of(path)}-{os.urandom(8).hex()}")
    with open(os.open(beside, flags, mode), "wb") as file:
        try_lock(file.fileno())
        try:
            yield file, beside
        finally:
            # Windows removes no open file; if the disk is full, the write has failed already
            with contextlib.suppress(OSError):
                file.close()
            beside.unlink(missing_ok=True)


def _remove_left(path: Path) -> None:
    """Remove what killed processes have left beside a file."""
    for left in path.parent.glob(f".{mark_of(path)}-*"):
        # one that is a second old may not have been locked yet
        with contextlib.suppress(OSError):
            if left.is_symlink() or time.time() - left.stat().st_mtime < 1:
                continue
            with left.open("rb") as file:
                if try_lock(file.fileno()):
                    left.unlink()


@contextlib.contextmanager
def locked(name: str, path: PathLike) -> Iterator[None]:
    """Keep other processes from writing a file or folder; a device or a pipe needs no lock.

    Raises
    ------
    ArgumentError
        If another process writes it; the message names the argument, and the process if it is
        known.
    """
    if is_direct(path):
        yield
        return
    target = real(path)
    with writing(name, path):
        try:
            folder = target if target.is_dir() else target.parent
            lock = Lock(folder / f".{mark_of(target)}.lock")
        except BlockingIOError as error:
            raise ArgumentError(
                f"{name} {str(path)!r} is being written by {error}: wait until it ends, or name "
                "another one"
            ) from None
    with lock:
        _locked.set(_locked.get() | {target})
        try:
            yield
        finally:
            _locked.set(_locked.get() - {target})


@contextlib.contextmanager
def writing(name: str, path: PathLike) -> Iterator[None]:
    """Turn an error of the system into a `WriteError` that says what couldn't be written."""
    try:
        yield
    except WriteError:
        raise
    except OSError as error:
        reason = error.strerror or error
        raise WriteError(f"can't write {name} {str(path)!r}: {reason}") from None


def is_direct(path: PathLike) -> bool:
    """Return whether a path is a device, a pipe or an open file, which is never replaced."""
    return descriptor(path) is not None or (os.path.exists(path) and not _is_plain(path))


def _is_plain(path: PathLike) -> bool:
    return os.path.isfile(path) or os.path.isdir(path)


def descriptor(path: PathLike) -> int | None:
    """Return the number of the open file that a path such as "/dev/stdout" names."""
    folder, name = os.path.split(os.path.abspath(path))
    if folder == "/dev" and name in _STANDARD:
        return _STANDARD.index(name)
    return int(name) if folder in ("/dev/fd", "/proc/self/fd") and name.isdecimal() else None


def open_direct(path: PathLike) -> BinaryIO:
    """Open a device, a pipe or an open file for writing; say so if a pipe has no reader yet."""
    number = descriptor(path)
    if number is not None:
        # opened by its name, a file that standard output goes to would be cut to nothing
        return open(os.dup(number), "wb")
    for attempt in itertools.count():
        try:
            # a pipe that nobody reads is opened in no other way without waiting in silence
            handle = os.open(path, os.O_WRONLY | getattr(os, "O_NONBLOCK", 0))
        except OSError as error:
            if error.errno != errno.ENXIO or not stat.S_ISFIFO(os.stat(path).st_mode):
                raise
            if attempt == _PATIENCE:
                _LOG.warning("waiting for somebody to read from the pipe %s", path)
            time.sleep(0.05)
        else:
            os.set_blocking(handle, True)
            return open(handle, "wb")
    raise AssertionError


def _sync(handle: int) -> None:
    try:
        os.fsync(handle)
    except OSError as error:
        # some file systems can't; others say that the disk is full
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
            raise


def _sync_folder(folder: Path) -> None:
    # not every system lets a folder be opened or synchronised
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
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
    import json

    unread = f"can't read a {kind} from {path}"
    foreign = DataError(f"{unread}: it is no safetensors file, or a damaged one")
    try:
        with Path(path).open("rb") as file:
            begin = file.read(8)
            size = int.from_bytes(begin, "little")
            if size > _HEADER_BYTES:
                raise foreign
            limits.check(path, 8 + size, limits.memory())
            begin += limits.taken(file, size)
            header = json.loads(begin[8:])
            metadata = dict(header.pop("__metadata__", {}))
            if not all(isinstance(text, str) for text in metadata.values()):
                raise foreign
            # a device has no end: its header must say how long the file is
            end = max((int(entry["data_offsets"][1]) for entry in header.values()), default=0)
            limits.check(path, 8 + size + end, limits.memory())
            raw = begin + limits.taken(file, max(end, 0) + 1)
    except OSError as error:
        raise DataError(f"{unread}: {error.strerror}") from None
    except DataError:
        raise
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError):
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
