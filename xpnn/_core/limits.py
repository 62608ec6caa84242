"""How many bytes a file may put into memory, so that a small one can't ask for all of it.

A file of a few megabytes may hold gigabytes once it is decompressed, or only say so in its header,
and a device such as ``/dev/zero`` never ends. Each reader asks here how much it may take, and
checks it against what the file says before memory is taken, or else while it reads. What a file
on the disk really holds is never refused as long as there is memory for it.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import stat
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar, cast

from xpnn.errors import DataError, integer

# a compressed file may hold this many bytes, or this many times its own
_SMALL, _RATIO = 1 << 28, 100

# texts such as logs, studies and results, which aren't data
TEXT = 1 << 26

Function = TypeVar("Function", bound=Callable[..., Any])

_asked: ContextVar[int | None] = ContextVar("xpnn.max_bytes", default=None)


@contextlib.contextmanager
def at_most(max_bytes: int | None) -> Iterator[None]:
    """Allow files to take this many bytes of memory within a ``with`` block; None changes nothing.

    Raises
    ------
    ArgumentError
        If `max_bytes` isn't a whole number >= 1.
    """
    if max_bytes is None:
        yield
        return
    outer = _asked.set(integer("max_bytes", max_bytes, minimum=1))
    try:
        yield
    finally:
        _asked.reset(outer)


def bounded(function: Function) -> Function:
    """Let a function's keyword `max_bytes` hold for all files that the function reads.

    Every function that reads a file has that keyword, None by default, and is decorated so; the
    command holds its option for all that it calls.
    """

    @functools.wraps(function)
    def call(*args: Any, **named: Any) -> Any:
        with at_most(named.get("max_bytes")):
            return function(*args, **named)

    return cast("Function", call)


def asked() -> int | None:
    """Return what `at_most` allows here, None if nobody asked for anything."""
    return _asked.get()


def expanded(size: int) -> int:
    """Return how many bytes files of `size` bytes may have once they are decompressed."""
    return min(max(_SMALL, _RATIO * size), memory())


def memory() -> int:
    """Return how many bytes of memory are free for this process."""
    free = _meminfo() or _physical() or 1 << 34
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            free = min(free, int(Path(path).read_text(encoding="ascii")))
    with contextlib.suppress(ImportError):
        import resource

        own, _ = resource.getrlimit(resource.RLIMIT_AS)
        free = free if own == resource.RLIM_INFINITY else min(free, own)
    return free


def _meminfo() -> int | None:
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) << 10
    return None


def _physical() -> int | None:
    with contextlib.suppress(AttributeError, OSError, ValueError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return None


def check(path: object, size: int, usual: int) -> None:
    """Raise if a file would take more memory than was asked for, or else than is `usual`.

    Raises
    ------
    DataError
        With the size, the limit, and the option that raises it.
    """
    limit = _allowed(usual)
    if size > limit:
        raise DataError(_too_large(path, f"{_in_words(size)} of memory", limit))


def _allowed(usual: int) -> int:
    found = asked()
    return usual if found is None else found


def _too_large(path: object, size: str, limit: int) -> str:
    return (
        f"{path} would take {size}, and may take {_in_words(limit)}; if you trust the file, "
        "--max-bytes N, in Python max_bytes=N, allows it more"
    )


def _in_words(size: int) -> str:
    """Return a number of bytes for a message: "6.4 GB"."""
    # not a float: a file may claim any number
    for unit, name in ((10**12, "TB"), (10**9, "GB"), (10**6, "MB")):
        if size >= unit:
            return f"{10 * size // unit / 10:g} {name}" if size < 10**15 else f"over 1000 {name}"
    return f"{size} bytes"


def read(file: Any, path: object, usual: int) -> bytes:
    """Return all bytes of a file that is open for reading; raise if they are too many."""
    limit = _allowed(usual)
    raw = taken(file, limit + 1)
    if len(raw) > limit:
        raise DataError(_too_large(path, f"more than {_in_words(limit)} of memory", limit))
    return raw


def taken(file: Any, most: int) -> bytes:
    """Return what is left of a file that is open for reading, but at most this many bytes."""
    about = os.fstat(file.fileno())
    # reading takes the memory for all bytes that are asked for, before it knows that they are there
    count = min(most, about.st_size) if stat.S_ISREG(about.st_mode) else most
    return file.read(count)  # type: ignore[no-any-return]


def read_text(path: str | os.PathLike[str], errors: str = "strict") -> str:
    """Return the text of a file in UTF-8, of `TEXT` bytes unless `at_most` allows another number.

    What isn't UTF-8 is treated as `bytes.decode` does with `errors`.

    Raises
    ------
    DataError
        If it has more.
    OSError, UnicodeDecodeError
        If it can't be read, or isn't text.
    """
    return read_bytes(path).decode("utf-8", errors)


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Return the bytes of a file, as many as `read_text` takes; errors are those of it."""
    with open(path, "rb") as file:
        return read(file, path, TEXT)


class Limited(io.RawIOBase):
    """A binary file for reading that raises a DataError beyond a number of bytes.

    Parameters
    ----------
    file
        An open binary file, which is closed with this one.
    path
        Its name in messages.
    usual
        The number of bytes, unless `at_most` allows another one.
    """

    def __init__(self, file: Any, path: object, usual: int) -> None:
        self._file, self._path, self._at, self._limit = file, path, 0, _allowed(usual)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return bool(self._file.seekable())

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = self._file.seek(offset, whence)
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Read bytes into `buffer` and return their number; raise beyond the limit."""
        count: int = self._file.readinto(buffer)
        self._at += count
        if self._at > self._limit:
            size = f"more than {_in_words(self._limit)} of memory"
            raise DataError(_too_large(self._path, size, self._limit))
        return count

    def close(self) -> None:
        self._file.close()
        super().close()
