"""`Operand`: a raw array with what is known of its elements."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from xpnn.reproducible.facts import Facts

Raw = Any
T = TypeVar("T")


class Operand:
    """A factor of a product: an array of the library and what is known of its elements.

    It has no operators: `cuts`, `pixels` and `products` compute with the raw arrays.

    Parameters
    ----------
    raw
        The library's own array.
    facts
        What is known of its elements.

    Attributes
    ----------
    base
        The original of a transpose, and the raw array that the original had then.
    kept
        What was computed from the elements and may be needed again, such as slices.
    """

    __slots__ = ("base", "facts", "kept", "raw")

    def __init__(self, raw: Raw, facts: Facts) -> None:
        self.raw = raw
        self.facts = facts
        self.kept: dict[Hashable, Any] = {}
        self.base: tuple[Operand, Raw] | None = None

    def replace(self, raw: Raw, facts: Facts) -> None:
        """Take other elements, and forget what was kept of the old ones."""
        self.raw, self.facts, self.kept, self.base = raw, facts, {}, None

    def keep(self, key: Hashable, compute: Callable[[], T]) -> T:
        """Return what `compute` returns; it is called only once for each key."""
        if key not in self.kept:
            self.kept[key] = compute()
        return self.kept[key]  # type: ignore[no-any-return]

    @property
    def original(self) -> Operand | None:
        """What this is the transpose of; None if nothing, or if the original has changed since."""
        if self.base is None:
            return None
        original, raw = self.base
        return original if original.raw is raw else None

    shape = property(lambda self: tuple(self.raw.shape), doc="The lengths of the axes.")
    ndim = property(lambda self: len(self.raw.shape), doc="The number of axes.")
    size = property(lambda self: math.prod(self.raw.shape), doc="The number of elements.")
    dtype = property(lambda self: self.raw.dtype, doc="The library's own dtype.")
