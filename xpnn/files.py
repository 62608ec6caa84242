"""Files that a reader never sees half written."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from xpnn.errors import ArgumentError

PathLike = str | os.PathLike[str]


def check_writable(name: str, path: PathLike) -> Path:
    """Return `path` if a file can be written there; changes nothing."""
    path = Path(path)
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
def replacing(path: PathLike) -> Iterator[Path]:
    """Give a path beside `path` to write to, and put it in place of `path` once all is written.

    A link stays, and what it leads to is replaced. A device or a pipe is written to as it is.
    """
    path = Path(path).resolve()
    if path.exists() and not path.is_file():
        yield path
        return
    import tempfile

    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    beside = Path(name)
    try:
        yield beside
        # mkstemp makes files private; a new file gets what the user's umask says
        mask = os.umask(0)
        os.umask(mask)
        beside.chmod(path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~mask)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
