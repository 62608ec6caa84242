"""What a recording consists of: `Node`, an operation, and `Ref`, an array that it refers to."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from xpnn.recording.origin import Origin

Array = np.ndarray


class RecordingError(Exception):
    """A step did something that a program can't repeat."""


class CheckError(Exception):
    """The truth of an array isn't what it was when the program was recorded.

    Parameters
    ----------
    origin
        The line that asked for it.
    """

    def __init__(self, origin: Origin | None) -> None:
        super().__init__(origin)
        self.origin = origin


class Ref(NamedTuple):
    """An array of a recording, by its number there. It replaces the array in a node's arguments."""

    key: int


class Node(NamedTuple):
    """An operation of a recording.

    Attributes
    ----------
    kind
        "call" fills a new buffer, "piece" fills its piece of a block (see `Recording.join`), "view"
        shows the memory of another array, "mutate" changes its first argument in place, and "check"
        raises `CheckError` unless the truth of an array is what it was.
    name
        The function's name in the array API; empty for operators and NumPy's ufuncs.
    function, args, kwargs
        What is called, and with what. Each array among the arguments is a `Ref`.
    out
        The number of the array that it makes or changes.
    origin
        The line of code that it comes from.
    """

    kind: str
    name: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    out: int
    origin: Origin | None = None

    @property
    def title(self) -> str:
        """What messages call the operation."""
        return self.name or self.function.__name__


def copying(target: int, source: int) -> Node:
    """Return the node that copies the values of one array into another."""
    return Node("mutate", "", copied, (Ref(target), Ref(source)), {}, target)


def copied(target: Array, source: Array, out: Array) -> None:
    """Copy the values of `source` into `out`, which is `target`: called as a ufunc is."""
    np.copyto(out, source)


def resolve(value: Any, arrays: Sequence[Array]) -> Any:
    """Return arguments of a node with the arrays that its references stand for."""
    if isinstance(value, Ref):
        return arrays[value.key]
    if isinstance(value, (list, tuple)):
        return type(value)(resolve(v, arrays) for v in value)
    if isinstance(value, dict):
        return {k: resolve(v, arrays) for k, v in value.items()}
    return value


def refs_in(value: Any) -> Iterator[int]:
    """Yield the numbers of the arrays that a node, or some of its arguments, refer to."""
    if isinstance(value, Ref):
        yield value.key
    elif isinstance(value, Node):
        yield from refs_in((value.args, value.kwargs))
    elif isinstance(value, (list, tuple)):
        for v in value:
            yield from refs_in(v)
    elif isinstance(value, dict):
        for v in value.values():
            yield from refs_in(v)


def exact(arg: Any) -> Hashable:
    """Return a value that is equal for two arguments only if all of their bits are."""
    if isinstance(arg, Ref):
        return arg
    if isinstance(arg, np.ndarray):
        return arg.dtype.str, arg.shape, arg.tobytes()  # its repr would be rounded
    return type(arg), repr(arg)  # the type and the sign too: 0 == 0.0 == -0.0
