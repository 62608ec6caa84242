"""Which line of the user's code an operation of a step comes from, for messages."""

from __future__ import annotations

import functools
import itertools
import linecache
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import CodeType, FrameType
from typing import NamedTuple

# modules that carry operations out; the cause of a message is never there
_MACHINERY = ("xpnn.recording", "xpnn.reproducible", "numpy", "array_api_compat")
# the module that calls the step: frames further out are no part of the step
_CALLER = "xpnn.recording.fold"


class Origin(NamedTuple):
    """A line of code, and the user's function through which the step came there.

    As text, it is for example "Gate.forward (gates.py, line 12: y = float(x[0, 0]))".
    """

    code: CodeType
    line: int
    entry: CodeType

    def __str__(self) -> str:
        path = self.code.co_filename
        source = linecache.getline(path, self.line).strip()
        where = f"{Path(path).name}, line {self.line}" + (source and f": {source}")
        caller = "" if self.entry is self.code else f", called by {self.entry.co_qualname}"
        return f"{self.code.co_qualname} ({where}){caller}"


def origin_of_error(error: Exception) -> Origin | None:
    """Return the line of a step that raised an error, None if the step itself didn't."""
    return _origin(reversed(list(traceback.walk_tb(error.__traceback__))))


def origin_of_call() -> Origin | None:
    """Return the line of a step that is being carried out."""
    stack = traceback.walk_stack(sys._getframe(1))
    return _origin(itertools.takewhile(lambda f: f[0].f_globals.get("__name__") != _CALLER, stack))


def _origin(frames: Iterable[tuple[FrameType, int]]) -> Origin | None:
    """Return the innermost line of the user's code, or else of xpnn's.

    `frames` are ordered from the inside out. The user's outermost function is the entry.
    """
    own, found, entry = None, None, None
    for frame, line in frames:
        owner = _owner(frame.f_globals.get("__name__", ""))
        if owner == "user":
            found, entry = found or (frame.f_code, line), frame.f_code
        elif owner == "xpnn":
            own = own or (frame.f_code, line)
    if found is not None and entry is not None:
        return Origin(*found, entry)
    return None if own is None else Origin(*own, own[0])


@functools.cache
def _owner(module: str) -> str:
    """Return whose a module is: "machinery", "xpnn" or "user"."""
    if any(module == name or module.startswith(f"{name}.") for name in _MACHINERY):
        return "machinery"
    return "xpnn" if module.startswith("xpnn.") else "user"
