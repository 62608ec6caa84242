"""What the functions `unique_...` return."""

from __future__ import annotations

from typing import Any, NamedTuple


class AllUnique(NamedTuple):
    """What `unique_all` returns."""

    values: Any
    indices: Any
    inverse_indices: Any
    counts: Any


class CountedUnique(NamedTuple):
    """What `unique_counts` returns."""

    values: Any
    counts: Any


class InverseUnique(NamedTuple):
    """What `unique_inverse` returns."""

    values: Any
    inverse_indices: Any
