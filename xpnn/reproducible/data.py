"""Data sets that come to the device in parts, each as if the whole set were there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from xpnn.reproducible import cuts
from xpnn.reproducible.formats import FLOAT32, FLOAT64

_ROWS = 1024


def canonical(host: np.ndarray) -> None:
    """Make the floats of an array canonical, in place; see `Namespace.wrap`."""
    if host.dtype.kind == "f":
        format_ = FLOAT32 if host.dtype == np.float32 else FLOAT64
        for start in range(0, len(host), _ROWS):
            rows = host[start : start + _ROWS]
            rows[...] = format_.canonical(rows, np)


def survey(parts: Callable[[], Iterable[np.ndarray]]) -> tuple[int, int] | None:
    """Return the (low, high) that `Namespace.prepare` would find for all parts together."""

    def doubles() -> Iterator[np.ndarray]:
        for part in parts():
            canonical_part = part.copy()
            canonical(canonical_part)
            yield canonical_part.astype(np.float64, copy=False)

    first = next(iter(parts()), None)
    if first is None or first.dtype.kind != "f":
        return None
    return cuts.width_of(doubles, np)
