"""Where an operation happens: in which layer or other part of a step, and in which direction.

A step opens a `scope`, in which network and step `enter` one place after the other. Whatever
watches operations, such as a namespace that notes them, asks `where`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any, NamedTuple


class Place(NamedTuple):
    """Where an operation happens.

    Attributes
    ----------
    name
        The layer as summaries call it, such as "dense1", or another part of a step: "data",
        "loss", "accuracy", "clip_norm", "optimizer".
    direction
        "forward" or "backward" in a layer, empty elsewhere.
    """

    name: str
    direction: str = ""

    def __str__(self) -> str:
        return f"{self.name} {self.direction}".rstrip()


_current: ContextVar[Place | None] = ContextVar("xpnn.place", default=None)

# The variable's own methods: a step calls them twice a layer, where a `with` block or a Python
# function would cost a small step on PyTorch some percent.

# where() returns the place of the operations now, None outside of all scopes
where: Callable[[], Place | None] = _current.get

# enter(place) says where operations happen from now on, up to the next call or the scope's end
enter: Callable[[Place | None], Any] = _current.set


class scope:  # noqa: N801  # it reads as a statement
    """Enter a place for a ``with`` block; an error that leaves it has a note of where it happened.

    Parameters are the attributes of `Place`.

    Examples
    --------
    >>> from xpnn._core.scopes import scope, where
    >>> with scope("dense1", "forward"):
    ...     print(where())
    dense1 forward
    >>> where() is None
    True
    """

    __slots__ = ("_outer", "_place")

    _outer: Token[Place | None]

    def __init__(self, name: str, direction: str = "") -> None:
        self._place = Place(name, direction)

    def __enter__(self) -> None:
        self._outer = _current.set(self._place)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            error.add_note(f"in {where()}")
        _current.reset(self._outer)
