"""Where an operation happens: in which layer or other part of a step, and in which direction.

A step opens a `scope`, in which the network and the step `enter` one place after the other. A
namespace that watches operations calls `where`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, NamedTuple


class Place(NamedTuple):
    """Where an operation happens.

    Attributes
    ----------
    name
        The layer as summaries call it, such as "dense1", or another part of a step: "data",
        "loss", "accuracy", "metrics", "clip_norm", "optimizer".
    direction
        "forward" or "backward" in a layer, empty elsewhere.
    """

    name: str
    direction: str = ""

    def __str__(self) -> str:
        return f"{self.name} {self.direction}".rstrip()


_current: ContextVar[Place | None] = ContextVar("xpnn.place", default=None)

# These are the variable's methods, since a step calls them twice a layer: a `with` block or a
# function of Python would make a small step on PyTorch some percent slower.

# where() returns the place of the current operations, None outside of all scopes
where: Callable[[], Place | None] = _current.get

# enter(place) sets the place of the operations up to the next call or the scope's end
enter: Callable[[Place | None], Any] = _current.set


@contextlib.contextmanager
def scope(name: str, direction: str = "") -> Iterator[None]:
    """Enter a place for a ``with`` block, and note in an error that leaves it where it happened.

    The parameters are the attributes of `Place`.

    Examples
    --------
    >>> from xpnn._core.scopes import scope, where
    >>> with scope("dense1", "forward"):
    ...     print(where())
    dense1 forward
    >>> where() is None
    True
    """
    outer = _current.set(Place(name, direction))
    try:
        yield
    except BaseException as error:
        error.add_note(f"in {where()}")
        raise
    finally:
        _current.reset(outer)
