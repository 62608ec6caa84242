"""What the values of operands decide: asked for at once, or supposed until the end of an epoch.

A product is cut one way where its operands are in the comfortable range, and another way where
they are not. Asking which it is means a copy from the device to the host, which waits for the
device. So steps speculate: they go on as if all operands were in range, and the device notes
whether they were. The host asks once, after the last step. If an operand was out of range, what was
computed is thrown away, and the steps are done again from where they began, asking.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

Raw = Any


class WrongSuppositionError(Exception):
    """What steps supposed was not true, so what they computed is of no use."""


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

    def check(self) -> None:
        """Raise WrongSuppositionError if something was not true. Synchronises."""
        if not self.was_right():
            raise WrongSuppositionError

    def guard(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return `function` as one that supposes; an error that a wrong one led to is none."""

        def supposing(*arguments: Any) -> Any:
            with self._active():
                try:
                    return function(*arguments)
                except Exception:
                    self.check()
                    raise

        return supposing

    @contextlib.contextmanager
    def _active(self) -> Iterator[None]:
        before, _current.supposition = _current.supposition, self
        try:
            yield
        finally:
            _current.supposition = before


class _Current(threading.local):
    supposition: Supposition | None = None


_current = _Current()


class Truth:
    """A truth on the device. ``bool(truth)`` copies it to the host, or is supposed to be True.

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
        supposition = _current.supposition
        if supposition is None or self._known is not None:
            if self._known is None:
                self._known = bool(self._raw)
            return self._known
        if self._supposed is not supposition:
            supposition.add(self._raw)
            self._supposed = supposition
        return True
