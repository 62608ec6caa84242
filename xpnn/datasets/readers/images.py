"""Folders of PNG images, one folder a class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xpnn.errors import DataError

# of other kinds of images, which are not passed over in silence
_OTHERS = {".bmp", ".gif", ".jpeg", ".jpg", ".tif", ".tiff", ".webp"}


class Images(NamedTuple):
    """What `read_images` found.

    Attributes
    ----------
    pixels
        Unsigned bytes of shape (n, height · width · channels), 1 channel for greys and 3 for
        colours.
    labels
        The name of the folder that each is in, shape (n,).
    paths
        The files, in the order of the rows.
    shape
        Height, width, channels of each.
    """

    pixels: np.ndarray
    labels: np.ndarray
    paths: list[Path]
    shape: tuple[int, int, int]


def class_folders(folder: Path) -> list[Path]:
    """Return the folders in `folder` that hold PNG images, by name."""
    return sorted(path for path in _entries(folder) if path.is_dir() and _images(path))


def holds_images(folder: Path) -> bool:
    """Return whether there are PNG images in `folder`, or in the folders within."""
    return bool(class_folders(folder) or _images(folder))


def stray_image(folder: Path) -> Path | None:
    """Return an image in `folder`, or in the folders within, that is no PNG; None without one."""
    within = sorted(path for path in _entries(folder) if path.is_dir())
    found = (path for each in (folder, *within) for path in sorted(_entries(each)))
    return next((path for path in found if path.suffix.lower() in _OTHERS), None)


def size_of(shape: Sequence[int]) -> str:
    """Return in words what images of (height, width, channels) are like."""
    height, width, channels = shape
    return f"{width} × {height} {'grey' if channels == 1 else 'colour'}"


def check_size(path: object, shape: Sequence[int] | None, wanted: Sequence[int] | None) -> None:
    """Raise a DataError where images of `path` are others than those a model is for.

    Either may be None: not known.
    """
    if shape is not None and wanted is not None and tuple(shape) != tuple(wanted):
        raise DataError(
            f"{path} must hold images of {size_of(wanted)} as the training data do, "
            f"got {size_of(shape)}"
        )


def read_images(folder: Path) -> Images:
    """Read the PNG images in each folder within `folder`; files that are no images don't count.

    If there are none, those in `folder` itself.

    All must have the size of the first. Greys stay greys where all are; palettes become colours,
    and opacity is dropped. Needs Pillow.

    Raises
    ------
    DataError
        If Pillow isn't installed, a file is damaged, an image differs from the first in size or
        in being grey, there are images that are no PNG, or one of the folders has none.
    """
    try:
        from PIL import Image
    except ImportError:
        raise DataError(
            f"{folder} holds images, and reading them needs Pillow: pip install 'xpnn[images]'"
        ) from None
    folders = class_folders(folder)
    stray = stray_image(folder)
    if stray is not None:
        raise DataError(f"{stray} is no PNG image: turn it into one, or take it away")
    if folders:
        for each in sorted(_entries(folder)):
            if each.is_dir() and each not in folders:
                raise DataError(f"{each} must hold PNG images as {folders[0]} does, got none")
    folders = folders or [folder]
    paths = [path for each in folders for path in _images(each)]
    pixels: np.ndarray | None = None
    for i, path in enumerate(paths):
        try:
            # SyntaxError is Pillow's for a broken chunk
            with Image.open(path, formats=["PNG"]) as image:
                array = _bytes(path, image)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"can't read {path}: {error}") from None
        if pixels is None:
            shape = array.shape
            pixels = np.empty((len(paths), array.size), np.uint8)
        elif array.shape != shape:
            raise DataError(
                f"{path} must be {size_of(shape)} as {paths[0]} is, got {size_of(array.shape)}"
            )
        pixels[i] = array.reshape(-1)
    assert pixels is not None
    return Images(pixels, np.array([path.parent.name for path in paths]), paths, shape)


def _entries(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if not path.name.startswith(".")]


def _images(folder: Path) -> list[Path]:
    return sorted(p for p in _entries(folder) if p.suffix.lower() == ".png" and p.is_file())


def _bytes(path: Path, image: Any) -> np.ndarray:
    if image.mode.startswith("I") or image.mode == "F":
        raise DataError(f"{path} must have 8 bits a channel, got mode {image.mode}")
    array: np.ndarray = np.asarray(image.convert("L" if image.mode in ("1", "L", "LA") else "RGB"))
    return array.reshape(*array.shape[:2], -1)
