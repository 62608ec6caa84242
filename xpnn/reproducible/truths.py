"""What a value decides: asked for at once, or supposed until the end of a run of steps.

A product is cut one way where its operands are in the comfortable range, and another where they
aren't. To ask which it is means a copy from the device to the host, and the device waits for it. So
steps go on as if all were in range, which they nearly always are, while the device notes whether it
was so; the host asks once, at the end, and where it wasn't, has the steps done again, asking.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

Raw = Any


class Supposition:
    """What steps have supposed, as one truth on the device."""

    def __init__(self) -> None:
        self._all: Raw | None = None

    def add(self, truth: Raw) -> None:
        """Suppose one more, an array of no dimension."""
        self._all = truth if self._all is None else self._all & truth

    def was_right(self) -> bool:
        """Return whether all was true. Synchronises."""
        return self._all is None or bool(self._all)


class _Going(threading.local):
    supposition: Supposition | None = None


_going = _Going()


@contextlib.contextmanager
def supposing(supposition: Supposition) -> Iterator[None]:
    """Within the block, suppose every `Truth` to hold."""
    before, _going.supposition = _going.supposition, supposition
    try:
        yield
    finally:
        _going.supposition = before


class Truth:
    """A truth on the device that the host may need.

    Parameters
    ----------
    raw
        An array of no dimension.
    """

    __slots__ = ("_known", "_raw", "_supposed")

    def __init__(self, raw: Raw) -> None:
        self._raw = raw
        self._known: bool | None = None
        self._supposed: Supposition | None = None

    def __bool__(self) -> bool:
        supposition = _going.supposition
        if supposition is None or self._known is not None:
            if self._known is None:
                self._known = bool(self._raw)
            return self._known
        if self._supposed is not supposition:
            supposition.add(self._raw)
            self._supposed = supposition
        return True
