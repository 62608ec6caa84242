"""Data sets that come to the device in parts, each as if the whole set were there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np

from xpnn.reproducible import cuts
from xpnn.reproducible.formats import FLOAT32, FLOAT64
from xpnn.reproducible.pixels import Pixels, brightest, find_pixels

_ROWS = 1024


def canonical(host: np.ndarray) -> None:
    """Make the floats of an array canonical, in place; see `Namespace.wrap`."""
    if host.dtype.kind == "f":
        format_ = FLOAT32 if host.dtype == np.float32 else FLOAT64
        for start in range(0, len(host), _ROWS):
            rows = host[start : start + _ROWS]
            rows[...] = format_.canonical(rows, np)


class Survey(NamedTuple):
    """What is known of a whole data set.

    Attributes
    ----------
    low, high
        All values are multiples of ``2**low``, and at most ``2**high``.
    pixels
        If all are pixels, what is known of them.
    """

    low: int
    high: int
    pixels: Pixels | None


def survey(parts: Callable[[], Iterable[np.ndarray]], *, pixels: bool = True) -> Survey | None:
    """Return what `Namespace.prepare` would find for all parts together."""

    def doubles() -> Iterator[np.ndarray]:
        for part in parts():
            canonical_part = part.copy()
            canonical(canonical_part)
            yield canonical_part.astype(np.float64, copy=False)

    first = next(iter(parts()), None)
    if first is None or first.dtype.kind != "f":
        return None
    found = cuts.width_of(doubles, np)
    if found is None:
        return None
    return Survey(*found, _pixels(doubles()) if pixels else None)


def _pixels(parts: Iterable[np.ndarray]) -> Pixels | None:
    """Return what is known of all parts of a matrix, or None if they aren't pixels."""
    known = []
    for part in parts:
        found = find_pixels(part, np) if part.ndim == 2 else None
        if found is None:
            return None
        known.append(found)
    return brightest(known)
