"""The formats that data sets are read from: a module for each, and a table of all."""

from __future__ import annotations

from pathlib import Path

from xpnn.datasets.readers import arrays, csv, idx, images
from xpnn.datasets.readers.reader import Reader
from xpnn.errors import DataError

__all__ = ["READERS", "Reader", "arrays", "csv", "forms", "idx", "images", "reader_of"]

# the first that takes a path reads it; CSV is the last, because such a file may have any name
READERS: tuple[Reader, ...] = (
    arrays.PAIR,
    arrays.FOLDER,
    idx.FOLDER,
    images.FOLDER,
    images.FILE,
    arrays.NPY,
    arrays.NPZ,
    csv.FILE,
)


def reader_of(path: Path) -> Reader:
    """Return the reader for a file or folder.

    Raises
    ------
    DataError
        If there is no such file or folder, or the folder holds no data.
    """
    reader = _taking(path)
    if reader is not None:
        return reader
    if not path.is_dir():
        raise DataError(f"no file or folder {path}")
    hint = ""
    stray = images.stray_image(path)
    within = next((p for p in sorted(path.iterdir()) if p.is_dir() and _taking(p)), None)
    if stray is not None:
        hint = f"; {stray} is not a PNG or JPEG image"
    elif within is not None:
        hint = f"; give {within}, which does"
    held = ", nor ".join(reader.form for reader in READERS if reader.folder)
    raise DataError(f"{path} holds neither {held}{hint}")


def forms() -> str:
    """Return what data may be read from, in words; CSV first."""
    files = ", ".join(reader.form for reader in reversed(READERS) if not reader.folder)
    folders = ", or ".join(reader.form for reader in reversed(READERS) if reader.folder)
    return f"{files}, or a folder that holds {folders}"


def _taking(path: Path) -> Reader | None:
    return next((reader for reader in READERS if reader.takes(path)), None)
