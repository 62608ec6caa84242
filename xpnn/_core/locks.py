"""Locks on files: only one process writes a log, a checkpoint or a study at a time.

The system drops a lock with the process that holds it, so that a killed one blocks nobody.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from pathlib import Path

_LOG = logging.getLogger(__name__)

# Windows locks bytes: one that no file has
_BYTE = 1 << 40


def try_lock(handle: int) -> bool:
    """Lock an open file until it is closed; return whether nobody else has."""
    try:
        if os.name == "nt":
            import msvcrt

            position = os.lseek(handle, 0, os.SEEK_CUR)
            os.lseek(handle, _BYTE, os.SEEK_SET)
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
            os.lseek(handle, position, os.SEEK_SET)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
            return False
        _LOG.warning("this file system has no locks: start no second run on the same files")
    return True


class Lock:
    """A lock, held until the block ends: a locked file with the number of its process.

    Parameters
    ----------
    path
        The file, which is made, and removed when the lock is released. What is to be protected
        can't be locked itself where it is replaced.

    Raises
    ------
    BlockingIOError
        If somebody else holds the lock; its text names the process if that is known.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._handle = path, -1
        # never through a link that somebody has put there
        plain = getattr(os, "O_NOFOLLOW", 0)
        while self._handle < 0:
            try:
                handle = os.open(path, plain | os.O_RDWR | os.O_CREAT, 0o666)
            except PermissionError:
                # the killed process of another user has left it
                handle = os.open(path, plain | os.O_RDONLY)
            try:
                if not try_lock(handle):
                    number = os.read(handle, 20).decode(errors="replace").strip()
                    who = f"process {number}" if number.isdecimal() else "another process"
                    raise BlockingIOError(who)
                # who held it before may have removed the file just now
                if path.exists() and os.path.samestat(os.fstat(handle), path.stat()):
                    self._handle = handle
            finally:
                if self._handle < 0:
                    os.close(handle)
        # not if it has a second name, under which it may be somebody's own file
        if os.fstat(handle).st_nlink == 1:
            with contextlib.suppress(OSError):
                os.ftruncate(handle, 0)
                os.write(handle, f"{os.getpid()}\n".encode())

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *_: object) -> None:
        # while it is locked, so that nobody locks a file that is about to go; Windows can't
        with contextlib.suppress(OSError):
            self._path.unlink()
        os.close(self._handle)
