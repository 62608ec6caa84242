"""The operations of a recording as values: `Node` and `Ref`."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray


class RecordingError(Exception):
    """A step did what a program can't do again."""


class CheckError(Exception):
    """A truth came out otherwise than when the program was recorded."""


class Node(NamedTuple):
    """An operation: `function` of `args`, of which a `Ref` stands for an array.

    `out` is the array that it makes; `kind` is "call" (fills a buffer of its own), "part" (fills a
    part of a block), "view" (the same memory), "mutate" (changes its first operand) or "check".
    `name` is the array API's.
    """

    kind: str
    name: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    out: int


class Ref(NamedTuple):
    """An array of a recording, by its number."""

    key: int


def copying(target: int, source: int) -> Node:
    """Return the node that gives one array the values of another."""
    return Node("mutate", "", copied, (Ref(target), Ref(source)), {}, target)


def copied(target: Array, source: Array, out: Array) -> None:
    """Give `out`, which is `target`, the values of `source`."""
    np.copyto(out, source)


def resolve(value: Any, arrays: Sequence[Array]) -> Any:
    """Return `value` with arrays for references."""
    if isinstance(value, Ref):
        return arrays[value.key]
    if isinstance(value, (list, tuple)):
        return type(value)(resolve(v, arrays) for v in value)
    if isinstance(value, dict):
        return {k: resolve(v, arrays) for k, v in value.items()}
    return value


def refs_in(value: Any) -> Iterator[int]:
    """Yield the numbers of the arrays that a node, or a part of one, refers to."""
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


def told(arg: Any) -> Hashable:
    """Return what tells an argument of an operation from others: every bit of a number."""
    if isinstance(arg, Ref):
        return arg
    if isinstance(arg, np.ndarray):
        return arg.dtype.str, arg.shape, arg.tobytes()  # repr rounds
    return type(arg), repr(arg)
