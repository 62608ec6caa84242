"""What is known of a whole data set, found by looking at all of it once, perhaps part by part."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from xpnn.reproducible.cuts import width_of
from xpnn.reproducible.facts import Facts
from xpnn.reproducible.formats import FLOAT32, FLOAT64, Format
from xpnn.reproducible.pixels import find_pixels

Raw = Any

# rows that are made canonical at once, so that the copies stay small
_ROWS = 1024


def canonical(host: np.ndarray) -> None:
    """Make the floats of a host array canonical, in place; see `Namespace.wrap`."""
    if host.dtype.kind == "f":
        format_ = _format_of(host)
        for start in range(0, len(host), _ROWS):
            rows = host[start : start + _ROWS]
            rows[...] = format_.canonical(rows, np)


def survey(parts: Callable[[], Iterable[np.ndarray]], *, pixels: bool = True) -> Facts | None:
    """Return what `Namespace.prepare` would find for a data set that comes in parts, or None.

    `parts` returns all parts of the data set each time it is called.
    """
    first = next(iter(parts()), None)
    if first is None or first.dtype.kind != "f":
        return None

    def doubles() -> Iterator[np.ndarray]:
        for part in parts():
            copy = part.copy()
            canonical(copy)
            yield copy.astype(np.float64, copy=False)

    return find_facts(doubles, _format_of(first).low, np, pixels=pixels)


def find_facts(
    parts: Callable[[], Iterable[Raw]], low: int, xp: Any, *, pixels: bool
) -> Facts | None:
    """Return what is known of all parts together, or None if it would save no work.

    The parts are canonical, in float64, and all elements are multiples of ``2**low``.
    """
    found = width_of(parts, xp)
    if found is None:
        return None
    images = find_pixels(parts(), xp) if pixels else None
    return Facts(max(low, found[0]), found[1], images)


def _format_of(host: np.ndarray) -> Format:
    return FLOAT32 if host.dtype == np.float32 else FLOAT64
