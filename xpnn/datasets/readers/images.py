"""PNG and JPEG images: folders of them, with a folder for each class, or a single one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xpnn._core import limits
from xpnn.datasets.checks import size_of
from xpnn.datasets.dataset import NamedDataset
from xpnn.datasets.readers.reader import Reader, Request
from xpnn.errors import DataError

# suffixes of images in other formats: an error, so that they aren't left out in silence
_OTHERS = {".bmp", ".gif", ".tif", ".tiff", ".webp"}
_SUFFIXES = {".jpeg", ".jpg", ".png"}


def read_images(folder: Path) -> NamedDataset:
    """Read the images in the folders within `folder`; if there are none, those in `folder`.

    All must have the size of the first, and all must be grey or all in colour. Palettes become
    colours, images are turned as their EXIF data say, and files that aren't images are left out.
    Needs Pillow, whose
    build determines how a JPEG image is decoded: another one may give pixels that differ by 1 or 2.

    Returns
    -------
    data
        x holds unsigned bytes of shape (n, height · width · channels), with 1 channel for grey
        images and 3 for colour; y holds the name of each image's folder.

    Raises
    ------
    DataError
        If Pillow isn't installed, a file is damaged, an image has more than 8 bits a channel or is
        transparent in places, an image isn't as the first one in size and colour, there are images
        of another format or in other folders, or one of the folders has no image.
    """
    folders = [path for path in _entries(folder) if path.is_dir() and _images(path)]
    stray = stray_image(folder)
    if stray is not None:
        raise DataError(f"{stray} is not a PNG or JPEG image: convert it, or remove it")
    if folders:
        for each in _entries(folder):
            if each.is_dir() and each not in folders:
                raise DataError(f"{each} must hold images as {folders[0]} does, got none")
        for path in [*_entries(folder), *(p for each in folders for p in _within(each))]:
            if path.suffix.lower() in _SUFFIXES and path not in folders:
                raise DataError(
                    f"{path} would be left out: images must be files in the folders within "
                    f"{folder}, one for each class, and not beside or below them"
                )
    return _read(folder, [path for each in folders or [folder] for path in _images(each)])


def _read_one(path: Path, request: Request) -> NamedDataset:
    if request.target is not None:
        raise DataError(
            f"{path} is an image without a class, to predict from; other commands need a folder "
            "with a folder of images for each class"
        )
    return _read(path, [path])


def _read(where: Path, paths: Sequence[Path]) -> NamedDataset:
    """Return the images in these files; `where` is the path that the user gave."""
    try:
        from PIL import Image
    except ImportError:
        raise DataError(
            f"{where} holds images, and reading them needs Pillow: pip install 'xpnn[images]'"
        ) from None
    pixels = np.empty(0, np.uint8)
    usual = limits.expanded(sum(path.stat().st_size for path in paths))
    for i, path in enumerate(paths):
        try:
            with _unlimited(Image), Image.open(path, formats=["PNG", "JPEG"]) as image:
                # as if all were like the first, as they must be; the channels are at most 3
                limits.check(path, image.width * image.height * 3 * len(paths), usual)
                array = _bytes(path, image)
        except DataError:
            raise
        except Exception as error:  # Pillow raises many classes: SyntaxError for a broken chunk
            raise DataError(f"can't read {path}: {str(error) or type(error).__name__}") from None
        if i == 0:
            shape = array.shape
            pixels = np.empty((len(paths), array.size), np.uint8)
        elif array.shape != shape:
            raise DataError(
                f"{path} must be {size_of(shape)} as {paths[0]} is, got {size_of(array.shape)}"
            )
        pixels[i] = array.reshape(-1)
    return NamedDataset(
        pixels,
        np.array([path.parent.name for path in paths]),
        path=str(where),
        rows=np.array([str(path) for path in paths]),
        image_shape=shape,
    )


@contextlib.contextmanager
def _unlimited(image: Any) -> Iterator[None]:
    """Leave out Pillow's own limit of pixels, which no option raises, for a ``with`` block."""
    before, image.MAX_IMAGE_PIXELS = image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        image.MAX_IMAGE_PIXELS = before


def stray_image(folder: Path) -> Path | None:
    """Return an image of another format in `folder` or the folders within, or else None."""
    within = [path for path in _entries(folder) if path.is_dir()]
    found = (path for each in (folder, *within) for path in _entries(each))
    return next((path for path in found if path.suffix.lower() in _OTHERS), None)


def _takes(folder: Path) -> bool:
    within = _entries(folder) if folder.is_dir() else []
    return any(_is_image(path) or (path.is_dir() and _images(path)) for path in within)


FOLDER = Reader(
    _takes,
    lambda folder, request: read_images(folder),
    "folders of PNG or JPEG images",
    folder=True,
)


def _entries(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _images(folder: Path) -> list[Path]:
    return [path for path in _entries(folder) if _is_image(path)]


def _within(folder: Path) -> list[Path]:
    """Return what isn't an image that is read, and what the folders within hold."""
    others = [path for path in _entries(folder) if not _is_image(path)]
    return [*others, *(path for each in others if each.is_dir() for path in _entries(each))]


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in _SUFFIXES and path.is_file()


FILE = Reader(_is_image, _read_one, "an image to predict from")


def _bytes(path: Path, image: Any) -> np.ndarray:
    # Pillow cuts 16 bits to 8 where it has no mode for them, and takes grey with opacity for colour
    if image.mode.startswith("I") or image.mode == "F" or ";16" in str(image.tile[0][3]):
        raise DataError(f"{path} must have 8 bits a channel, got more; save it with 8")
    if image.format == "PNG" and getattr(image, "n_frames", 1) > 1:
        raise DataError(f"{path} holds {image.n_frames} images; save the one that is meant")
    if image.has_transparency_data:
        opacity = np.asarray(image.convert("RGBA"))[:, :, 3]
        if (opacity < 255).any():
            raise DataError(
                f"{path} is transparent in places, and what is behind them isn't known; save it "
                "without transparency, on the background that the other images have"
            )
    from PIL import ImageOps

    # as the camera was held, which its EXIF data say
    upright = ImageOps.exif_transpose(image)
    mode = "L" if image.mode in ("1", "L", "LA") else "RGB"
    array: np.ndarray = np.asarray(upright.convert(mode))
    return array.reshape(*array.shape[:2], -1)
