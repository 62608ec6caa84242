"""Figures of a run, from what an epoch left on the host."""

from __future__ import annotations

import math
from collections.abc import Sequence


def first_reached(values: Sequence[float], level: float) -> int | None:
    """Return the index of the first value that is `level` or more, None if none is.

    Over test accuracies from the untrained network on, that is the epoch: the article's TS95 is
    ``first_reached(accuracies, 0.95)``.
    """
    return next((i for i, value in enumerate(values) if value >= level), None)


def best(values: Sequence[float]) -> tuple[int, float] | None:
    """Return index and value of the first largest value, None if there are none but NaN."""
    numbers = [(i, value) for i, value in enumerate(values) if not math.isnan(value)]
    return max(numbers, key=lambda pair: pair[1]) if numbers else None
