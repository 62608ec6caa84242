"""What works for two more minor versions, and warns: see docs/versions.md."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

# (function or class, old name of a parameter or "", the version without it) of all that is
# deprecated: a test fails at that version
DEPRECATED: list[tuple[str, str, tuple[int, int]]] = []


def renamed(old: str, new: str, *, since: tuple[int, int]) -> Callable[[F], F]:
    """Let a function take a parameter by its old name too, with a `DeprecationWarning`.

    Parameters
    ----------
    old, new
        The names.
    since
        The version that renames it, (major, minor); the one after the next no longer knows `old`.
    """

    def decorate(function: F) -> F:
        name = function.__qualname__
        last = _noted(function, old, since)

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            if old in kwargs:
                if new in kwargs:
                    raise TypeError(f"{name}() got {new!r} also by its old name, {old!r}")
                text = f"{old} of {name}() is now {new}; {last} no longer takes {old}"
                warnings.warn(text, DeprecationWarning, stacklevel=2)
                kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return call  # type: ignore[return-value]

    return decorate


def deprecated(instead: str, *, since: tuple[int, int]) -> Callable[[F], F]:
    """Let a function, or the making of a class's instances, warn with a `DeprecationWarning`.

    Parameters
    ----------
    instead
        What takes its place: ``"xpnn.fit"``.
    since
        The version that deprecates it, (major, minor); the one after the next no longer has it.
    """

    def decorate(own: F) -> F:
        text = f"{own.__qualname__} gives way to {instead}; {_noted(own, '', since)} is without it"
        function = own.__init__ if isinstance(own, type) else own  # type: ignore[misc]

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            warnings.warn(text, DeprecationWarning, stacklevel=2)
            return function(*args, **kwargs)

        if not isinstance(own, type):
            return call  # type: ignore[return-value]
        own.__init__ = call  # type: ignore[misc]
        return own

    return decorate


def _noted(own: Callable[..., Any], old: str, since: tuple[int, int]) -> str:
    """Add to `DEPRECATED`, and return the version that is without it, as in messages."""
    major, minor = since[0], since[1] + 2
    DEPRECATED.append((f"{own.__module__}.{own.__qualname__}", old, (major, minor)))
    return f"xpnn {major}.{minor}"
