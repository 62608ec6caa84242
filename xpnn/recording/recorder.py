"""`Recorded`: arrays that note what is done with them, in the `Recording` of a step.

The three classes need each other, so they share a module: an operator of a `Recorded`, or a
function of its `RecordingNamespace`, carries the operation out on NumPy's arrays, appends a `Node`
to the current `Recording`, and returns its result as another `Recorded`.
"""

from __future__ import annotations

import contextlib
import functools
import operator
import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import partial
from typing import Any, NoReturn

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from xpnn._core.tree import leaves, rebuilt
from xpnn.recording.layout import adjoining, aligned, is_packed
from xpnn.recording.nodes import Node, RecordingError, Ref, copying, exact, refs_in, resolve
from xpnn.recording.origin import origin_of_call

Array = np.ndarray


def _refused(use: str) -> Callable[[Recorded], Any]:
    def refuse(self: Recorded) -> NoReturn:
        raise RecordingError(f"{use} needs the value of an array")

    return refuse


class Recorded(NDArrayOperatorsMixin):
    """An array whose operations are noted in the current recording.

    NumPy's mixin makes operators call NumPy's ufuncs, and these call `__array_ufunc__`.

    Attributes
    ----------
    value
        NumPy's array with its present values: a step is carried out while it is recorded.
    scalar
        Whether it stands for one of NumPy's scalars, which reductions return: ``total += 1`` makes
        a new one then, and changes nothing in place.
    """

    __slots__ = ("scalar", "value", "xp")

    device = "cpu"
    shape = property(operator.attrgetter("value.shape"), doc="The lengths along the axes.")
    ndim = property(operator.attrgetter("value.ndim"), doc="The number of axes.")
    size = property(operator.attrgetter("value.size"), doc="The number of elements.")
    dtype = property(operator.attrgetter("value.dtype"), doc="NumPy's dtype.")

    def __init__(self, value: Array, xp: RecordingNamespace) -> None:
        self.value, self.xp, self.scalar = value, xp, False

    def __array_namespace__(self, *, api_version: str | None = None) -> RecordingNamespace:
        return self.xp

    def __array__(self, *args: Any, **kwargs: Any) -> Array:
        raise RecordingError("an array was handed to a function outside of the array API")

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *args: Any, **kwargs: Any) -> Any:
        if method != "__call__":
            raise RecordingError(f"numpy.{ufunc.__name__}.{method} isn't in the array API")
        if "out" not in kwargs:
            return self.xp.apply(ufunc, args, kwargs)
        # x += y is add(x, y, out=(x,))
        (target,) = kwargs.pop("out")
        if not isinstance(target, Recorded) or target is not args[0] or len(args) != 2 or kwargs:
            raise RecordingError(f"numpy.{ufunc.__name__} was given an array to write to")
        if target.scalar:
            return self.xp.apply(ufunc, args)
        self.xp.recording().mutate(ufunc, target, args[1])
        return target

    @property
    def T(self) -> Recorded:  # noqa: N802
        """The transpose of a matrix."""
        return self.xp.apply(np.transpose, (self,))  # type: ignore[no-any-return]

    @property
    def mT(self) -> Recorded:  # noqa: N802
        """The transpose of each matrix of a stack."""
        return self.xp.apply(np.matrix_transpose, (self,))  # type: ignore[no-any-return]

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"an array of the array API has no attribute {name!r}")

    def __len__(self) -> int:
        return len(self.value)

    def __getitem__(self, key: Any) -> Recorded:
        return self.xp.apply(item, (self, key))  # type: ignore[no-any-return]

    def __iter__(self) -> Iterator[Recorded]:
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        return self.xp.recording().check(self)

    __float__, __int__ = _refused("float()"), _refused("int()")
    __complex__, __index__ = _refused("complex()"), _refused("an index")


def item(x: Array, key: Any) -> Array:
    """Return ``x[key]``."""
    # an item of a 1-D array is a scalar, which doesn't know that it was a view
    keys = key if isinstance(key, tuple) else (key,)
    return x[key] if any(k is Ellipsis for k in keys) else np.asarray(x[key])


class _Active(threading.local):
    recording: Recording | None = None


class RecordingNamespace:
    """The namespace of `Recorded` arrays: functions of NumPy's `xp`, whose calls are noted.

    Use `recording_namespace` to make one.
    """

    def __init__(self, xp: Any) -> None:
        self.__name__ = f"recorded {xp.__name__}"
        self._xp, self._active = xp, _Active()

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._xp, name)
        if isinstance(attribute, type) or not callable(attribute):
            return attribute

        def function(*args: Any, **kwargs: Any) -> Any:
            return self.apply(attribute, args, kwargs, name)

        setattr(self, name, function)
        return function

    def recording(self) -> Recording:
        """Return the current recording of this thread."""
        if self._active.recording is None:
            raise RecordingError("an array of a step was used after the step")
        return self._active.recording

    def records(self) -> bool:
        """Return whether this thread is recording a step."""
        return self._active.recording is not None

    @contextlib.contextmanager
    def record(self) -> Iterator[Recording]:
        """Note this thread's operations within a block in a new recording."""
        self._active.recording = recording = Recording(self)
        try:
            yield recording
        finally:
            self._active.recording = None

    def apply(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None = None,
        name: str = "",
    ) -> Any:
        """Carry an operation out and note it."""
        # outside of a step, the note goes nowhere: the result is a constant to all steps
        recording = self._active.recording or Recording(self)
        return recording.apply(function, args, kwargs or {}, name)


@functools.cache
def recording_namespace(xp: Any) -> RecordingNamespace:
    """Return the recording namespace of NumPy's `xp`, the same one at each call."""
    return RecordingNamespace(xp)


class Recording:
    """The operations of one step so far. Each array has a number, which nodes refer to it by."""

    def __init__(self, xp: RecordingNamespace) -> None:
        self.xp = xp
        self.nodes: list[Node] = []  # the operations, in order
        self.arrays: list[Array] = []  # by number
        # where each array comes from: "given" by the caller, a "constant", made by a "call", or a
        # "view" of another one
        self.sources: list[str] = []
        self.bases: dict[int, int] = {}  # the array that each view shows
        self.pieces: dict[int, list[int]] = {}  # the arrays that each block consists of, in order
        self.mutated: set[int] = set()  # arrays that were changed in place, each by its `root`
        self._keys: dict[int, int] = {}  # the number of each Recorded, by its id
        self._alive: list[Recorded] = []  # an id stays an object's only while the object lives
        self._scalars: dict[Hashable, Recorded] = {}  # by the operation that made them

    def give(self, array: Array) -> Recorded:
        """Return the caller's array as one that records, for the step to work on."""
        return self._new(array, "given")

    def _new(self, array: Array, source: str) -> Recorded:
        recorded = Recorded(array, self.xp)
        self._add(recorded, source)
        return recorded

    def _add(self, recorded: Recorded, source: str) -> int:
        key = len(self.arrays)
        self.arrays.append(recorded.value)
        self.sources.append(source)
        self._alive.append(recorded)
        self._keys[id(recorded)] = key
        return key

    def key(self, recorded: Recorded) -> int:
        """Return the number of an array; one that an earlier step made is a constant."""
        found = self._keys.get(id(recorded))
        return self._add(recorded, "constant") if found is None else found

    def root(self, key: int) -> int:
        """Return the array whose own memory array `key` shows: itself, unless it is a view."""
        while self.sources[key] == "view":
            key = self.bases[key]
        return key

    def join(self, keys: Sequence[int]) -> int:
        """Return the number of a new block: an array that has the arrays `keys` side by side.

        From now on they are views of the block, and the block is their `root`.
        """
        number, source = len(self.arrays), self.sources[keys[0]]
        arrays = [self.arrays[key] for key in keys]
        block = adjoining(arrays) if source == "given" else None
        is_new = block is None
        if block is None:
            size = sum(array.size for array in arrays)
            block = aligned(size * arrays[0].itemsize).view(arrays[0].dtype)
            np.concatenate([array.reshape(-1) for array in arrays], out=block)
        self.arrays.append(block)
        self.sources.append(source)
        self.pieces[number] = list(keys)
        for key in keys:
            self.sources[key], self.bases[key] = "view", number
        if is_new:  # else the pieces stay the same objects, because `Fold` goes by their ids
            self.view_pieces(number, self.arrays)
        return number

    def view_pieces(self, block: int, arrays: list[Array]) -> None:
        """Make the pieces of a block in `arrays` views of the block there."""
        start = 0
        for key in self.pieces[block]:
            shape, size = arrays[key].shape, arrays[key].size
            arrays[key] = arrays[block][start : start + size].reshape(shape)
            start += size

    def _refer(self, value: Any) -> Any:
        """Return arguments with references for their arrays."""
        found = []
        for leaf in leaves(value):
            if isinstance(leaf, np.ndarray) and leaf.ndim:
                # a copy: the step may change the array later on
                leaf = self._new(leaf.copy(), "constant")
            found.append(Ref(self.key(leaf)) if isinstance(leaf, Recorded) else leaf)
        return rebuilt(value, found)

    def apply(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], name: str
    ) -> Any:
        """Carry an operation out and note it."""
        refs, named = self._refer((args, kwargs))
        _refuse(name, function, refs, named, self.arrays)
        # optimizers compute the same scalars, such as Adam's corrections, anew for each parameter;
        # here they are computed once
        scalar = not named and self._is_of_scalars(refs)
        call = (function, *map(exact, refs)) if scalar else None
        if call in self._scalars:
            return self._scalars[call]
        result = function(*resolve(refs, self.arrays), **resolve(named, self.arrays))
        if name in _BY_SHAPE and len(refs_in((refs, named))) == 1:
            return self._new(result, "constant")
        title = name or function.__name__
        if isinstance(result, (list, tuple)):
            parts = [
                self._note(title, partial(_part, function, i), refs, named, part)
                for i, part in enumerate(result)
            ]
            if any(self.sources[self.key(part)] != "view" for part in parts):
                raise RecordingError(f"{title} makes several arrays")
            return type(result)(parts) if type(result) in (list, tuple) else tuple(parts)
        if not isinstance(result, (np.ndarray, np.generic)):
            return result
        made = self._note(name, function, refs, named, result)
        if call is not None and made.scalar:
            self._scalars[call] = made
        return made

    def _is_of_scalars(self, args: tuple[Any, ...]) -> bool:
        """Return whether arguments are numbers and 0-d arrays only, at least one an array.

        A view doesn't count: its value may change under another name.
        """
        keys = refs_in(args)
        plain = all(type(arg) in (Ref, int, float) for arg in args)
        own = all(not self.arrays[k].ndim and self.sources[k] != "view" for k in keys)
        return bool(keys) and plain and own

    def _note(
        self, name: str, function: Any, args: Any, kwargs: dict[str, Any], result: Any
    ) -> Recorded:
        """Note the operation that made `result`; return the result as an array that records."""
        scalar = isinstance(result, np.generic)
        result = np.asarray(result)
        refs = refs_in((args, kwargs))
        for ref in refs:
            if np.may_share_memory(result, self.arrays[ref]):
                made = self._new(result, "view")
                self.bases[self.key(made)] = ref
                self._append("view", name, function, args, kwargs, self.key(made))
                return made
        if refs and not is_packed(result):
            title = name or function.__name__
            raise RecordingError(f"{title} makes an array with gaps in memory")
        made = self._new(result, "call" if refs else "constant")
        made.scalar = scalar
        if refs:
            self._append("call", name, function, args, kwargs, self.key(made))
        return made

    def _append(
        self, kind: str, name: str, function: Any, args: Any, kwargs: dict[str, Any], out: int
    ) -> None:
        self.nodes.append(Node(kind, name, function, args, kwargs, out, origin_of_call()))

    def mutate(self, ufunc: np.ufunc, target: Recorded, other: Any) -> None:
        """Carry ``target ufunc= other`` out and note it."""
        key, operand = self.key(target), self._refer(other)
        value = self.arrays[operand.key] if isinstance(operand, Ref) else operand
        root = self.root(key)
        if root not in self.mutated and self.sources[root] == "constant":
            # each step must begin with the constant as it was, so the first thing is to restore it
            pristine = self.key(self._new(self.arrays[root].copy(), "constant"))
            self.nodes.insert(0, copying(root, pristine))
        ufunc(self.arrays[key], value, out=self.arrays[key])
        self.mutated.add(root)
        if not self.arrays[root].ndim:  # scalars that were computed from it have changed as well
            self._scalars.clear()
        self._append("mutate", "", ufunc, (Ref(key), operand), {}, key)

    def check(self, recorded: Recorded) -> bool:
        """Return the truth of an array. The program will check that it is still the same.

        If it isn't, the step begins again from the caller's arrays, so none of these may have been
        changed before.
        """
        if any(self.sources[root] == "given" for root in self.mutated):
            raise RecordingError(
                "the truth of an array was asked for after the step had changed its arguments"
            )
        key = self.key(recorded)
        truth = bool(self.arrays[key])
        self._append("check", "", bool, (Ref(key), truth), {}, key)
        return truth


# functions that take the shape of their result, or repeats, from numbers
_BY_VALUE = {"arange", "linspace", "eye", "full", "zeros", "ones", "empty", "repeat", "tile"}
# functions that look only at an array's shape and dtype
_BY_SHAPE = {"zeros_like", "ones_like", "full_like", "empty_like"}


def _refuse(
    name: str, function: Any, args: Any, kwargs: dict[str, Any], arrays: Sequence[Array]
) -> None:
    """Raise `RecordingError` if the shape of a result depends on values, or its bits on scalars.

    NumPy's power of two scalars has other bits than that of two 0-d arrays, which a program would
    compute.
    """
    refs = refs_in((args, kwargs))
    values = 1 if name in ("repeat", "tile") else 0  # arrays that don't determine the shape
    if name.startswith(("unique", "nonzero")) or (name in _BY_VALUE and len(refs) > values):
        raise RecordingError(f"the shape of what {name} returns depends on values")
    if function is item and any(arrays[k].dtype == bool for k in refs[1:]):
        raise RecordingError("the shape of what a mask selects depends on values")
    if function is np.power and all(arrays[k].ndim == 0 for k in refs):
        raise RecordingError("a power of scalars has other bits than one of arrays")


def _part(function: Callable[..., Any], index: int, *args: Any, **kwargs: Any) -> Any:
    return function(*args, **kwargs)[index]
