"""Folders of PNG images, one folder a class."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xpnn.errors import DataError


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
    """

    pixels: np.ndarray
    labels: np.ndarray
    paths: list[Path]


def class_folders(folder: Path) -> list[Path]:
    """Return the folders in `folder` that hold PNG images, by name."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and _images(path))


def holds_images(folder: Path) -> bool:
    """Return whether there are PNG images in `folder`, or in the folders within."""
    return bool(class_folders(folder) or _images(folder))


def read_images(folder: Path) -> Images:
    """Read the PNG images in each folder within `folder`; other files are passed over.

    If there are none, those in `folder` itself.

    All must have the size of the first. Greys stay greys where all are; palettes become colours,
    and opacity is dropped. Needs Pillow.

    Raises
    ------
    DataError
        If Pillow isn't installed, a file is damaged, or an image differs from the first in size or
        in being grey.
    """
    try:
        from PIL import Image
    except ImportError:
        raise DataError(
            f"{folder} holds images, and reading them needs Pillow: pip install 'xpnn[images]'"
        ) from None
    folders = class_folders(folder) or [folder]
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
                f"{path} must be {_size(shape)} as {paths[0]} is, got {_size(array.shape)}"
            )
        pixels[i] = array.reshape(-1)
    assert pixels is not None
    return Images(pixels, np.array([path.parent.name for path in paths]), paths)


def _images(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() == ".png" and p.is_file())


def _bytes(path: Path, image: Any) -> np.ndarray:
    if image.mode.startswith("I") or image.mode == "F":
        raise DataError(f"{path} must have 8 bits a channel, got mode {image.mode}")
    array: np.ndarray = np.asarray(image.convert("L" if image.mode in ("1", "L", "LA") else "RGB"))
    return array


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]} × {shape[0]} {'grey' if len(shape) == 2 else 'colour'}"
