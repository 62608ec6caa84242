"""What a recording consists of: `Node`, an operation, and `Ref`, an array that it refers to."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xpnn._core.tree import leaves, rebuilt
from xpnn.recording.origin import Origin

Array = np.ndarray


# they return either of two zeros of different sign, depending on the element's position
_BY_POSITION = (np.fmax, np.fmin)


class RecordingError(Exception):
    """A step did something that a program can't repeat."""


class CheckError(Exception):
    """The truth of an array isn't what it was when the program was recorded.

    The argument is the `Origin` of the operation that asked for it, None if that isn't known.
    """


@dataclass(frozen=True)
class Ref:
    """An array of a recording, by its number there. It replaces the array in a node's arguments."""

    key: int


@dataclass(frozen=True)
class Node:
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

    @functools.cached_property
    def refs(self) -> list[int]:
        """The numbers of the arrays among its arguments."""
        return refs_in((self.args, self.kwargs))

    def is_elementwise(self, *names: str) -> bool:
        """Return whether it does the same with an element, wherever that is in the arrays.

        It is a ufunc, a copy, or one of the array API's functions `names`.
        """
        function = self.function
        # a ufunc with a signature is a product of matrices or the like
        ufunc = isinstance(function, np.ufunc) and not function.signature
        if function in _BY_POSITION or not (ufunc or function is copied or self.name in names):
            return False
        # a sequence may hold several numbers
        return not (self.kwargs or any(isinstance(arg, (list, tuple)) for arg in self.args))

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
    own = (arrays[leaf.key] if isinstance(leaf, Ref) else leaf for leaf in leaves(value))
    return rebuilt(value, own)


def refs_in(value: Any) -> list[int]:
    """Return the numbers of the arrays that arguments of a node refer to."""
    return [leaf.key for leaf in leaves(value) if isinstance(leaf, Ref)]


def exact(arg: Any) -> Hashable:
    """Return a value that is equal for two arguments only if all of their bits are."""
    if isinstance(arg, Ref):
        return arg
    if isinstance(arg, np.ndarray):
        return arg.dtype.str, arg.shape, arg.tobytes()  # its repr would be rounded
    return type(arg), repr(arg)  # the type and the sign too: 0 == 0.0 == -0.0
