"""Old names of parameters, which work for two more minor versions: see docs/versions.md."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

# (function, old name, the version without it) of all that is deprecated: a test fails at that one
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
    gone = since[0], since[1] + 2

    def decorate(function: F) -> F:
        name = function.__qualname__
        DEPRECATED.append((f"{function.__module__}.{name}", old, gone))

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            if old in kwargs:
                if new in kwargs:
                    raise TypeError(f"{name}() got {new!r} also by its old name, {old!r}")
                last = f"xpnn {gone[0]}.{gone[1]} no longer takes {old}"
                warnings.warn(
                    f"{old} of {name}() is now {new}; {last}", DeprecationWarning, stacklevel=2
                )
                kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return call  # type: ignore[return-value]

    return decorate
