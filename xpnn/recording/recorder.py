"""Arrays that note what is done with them, and the notes of one step."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from xpnn.recording.layout import adjoining, aligned, is_packed
from xpnn.recording.nodes import Node, RecordingError, Ref, copying, refs_in, resolve, told

Array = np.ndarray


class Recorded:
    """An array whose operations are noted by the recording that is going on.

    Attributes
    ----------
    value
        The array as it is now: a step is carried out while it is recorded.
    scalar
        Whether it stands for a number, NumPy's result of no dimension, which can't be changed.
    """

    __slots__ = ("scalar", "value", "xp")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, value: Array, xp: Namespace, *, scalar: bool = False) -> None:
        self.value, self.xp, self.scalar = value, xp, scalar

    def __array_namespace__(self, *, api_version: str | None = None) -> Namespace:
        return self.xp

    def __array__(self, *args: Any, **kwargs: Any) -> Array:
        raise RecordingError("an array was handed to a function outside of the array API")

    def __array_ufunc__(self, ufunc: Any, method: str, *args: Any, **kwargs: Any) -> Any:
        if method != "__call__" or "out" in kwargs:
            raise RecordingError(f"{ufunc.__name__}.{method}")
        return self.xp.apply(ufunc, args, kwargs)

    @property
    def shape(self) -> tuple[int, ...]:
        """The lengths along the axes."""
        return self.value.shape

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self.value.ndim

    @property
    def size(self) -> int:
        """The number of elements."""
        return self.value.size

    @property
    def dtype(self) -> Any:
        """NumPy's dtype."""
        return self.value.dtype

    @property
    def device(self) -> str:
        """The CPU."""
        return "cpu"

    @property
    def T(self) -> Recorded:  # noqa: N802
        """The transpose of a matrix."""
        return self.xp.apply(np.transpose, (self,))  # type: ignore[no-any-return]

    @property
    def mT(self) -> Recorded:  # noqa: N802
        """The transpose of each matrix of a stack."""
        return self.xp.apply(np.matrix_transpose, (self,))  # type: ignore[no-any-return]

    def __len__(self) -> int:
        return len(self.value)

    def __getitem__(self, key: Any) -> Recorded:
        return self.xp.apply(_item, (self, key))  # type: ignore[no-any-return]

    def __bool__(self) -> bool:
        return self.xp.recording().check(self)

    def __float__(self) -> float:
        raise RecordingError("a number was taken from an array")

    __int__ = __index__ = __complex__ = __float__

    def __iter__(self) -> Iterator[Recorded]:
        return (self[i] for i in range(len(self)))


def _item(x: Array, key: Any) -> Array:
    # asarray: an item of a 1-D array is a scalar, and a scalar is nobody's view
    keys = key if isinstance(key, tuple) else (key,)
    return x[key] if any(k is Ellipsis for k in keys) else np.asarray(x[key])


_UFUNCS = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "truediv": np.true_divide,
    "floordiv": np.floor_divide,
    "mod": np.remainder,
    "pow": np.power,
    "matmul": np.matmul,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "rshift": np.right_shift,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "eq": np.equal,
    "ne": np.not_equal,
    "neg": np.negative,
    "pos": np.positive,
    "abs": np.absolute,
    "invert": np.invert,
}


def _operator(ufunc: np.ufunc, *, reflected: bool = False) -> Callable[..., Any]:
    def operate(self: Recorded, *others: Any) -> Any:
        operands = (self, *others)
        return self.xp.apply(ufunc, operands[::-1] if reflected else operands)

    return operate


def _in_place(ufunc: np.ufunc) -> Callable[..., Any]:
    def operate(self: Recorded, other: Any) -> Any:
        if self.scalar:
            return self.xp.apply(ufunc, (self, other))
        self.xp.recording().mutate(ufunc, self, other)
        return self

    return operate


for _name, _ufunc in _UFUNCS.items():
    setattr(Recorded, f"__{_name}__", _operator(_ufunc))
    if _ufunc.nin == 2 and _name not in ("lt", "le", "gt", "ge", "eq", "ne"):
        setattr(Recorded, f"__r{_name}__", _operator(_ufunc, reflected=True))
        setattr(Recorded, f"__i{_name}__", _in_place(_ufunc))


class _Active(threading.local):
    recording: Recording | None = None


class Namespace:
    """NumPy's array API namespace for `Recorded` arrays; see `namespace`.

    Parameters
    ----------
    xp
        NumPy's own, by which operations are carried out.
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
        """Return the recording that is going on in this thread."""
        if self._active.recording is None:
            raise RecordingError("a recorded array outlived its step")
        return self._active.recording

    def records(self) -> bool:
        """Return whether a recording is going on in this thread."""
        return self._active.recording is not None

    def record(self, recording: Recording | None) -> None:
        """Note operations in `recording` from now on."""
        self._active.recording = recording

    def apply(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None = None,
        name: str = "",
    ) -> Any:
        """Carry an operation out and note it."""
        recording = self._active.recording or Recording(self)  # a constant's, before any step
        return recording.apply(function, args, kwargs or {}, name)


@functools.cache
def namespace(xp: Any) -> Namespace:
    """Return the recording namespace of NumPy's `xp`, always the same one."""
    return Namespace(xp)


class Recording:
    """The operations of one step so far, on arrays that are known by number."""

    def __init__(self, xp: Namespace) -> None:
        self.xp = xp
        self.nodes: list[Node] = []
        self.arrays: list[Array] = []
        self.sources: list[str] = []  # of each array: "given", "constant", "call" or "view"
        self.mutated: set[int] = set()
        self._known: dict[int, int] = {}
        self.viewed: dict[int, int] = {}  # of each view, what it is one of
        self.parts: dict[int, list[int]] = {}  # of each block, in order
        self._alive: list[Recorded] = []  # an id is a name only while its object lives
        self._numbers: dict[Hashable, Recorded] = {}  # computed so far, by what of

    def give(self, array: Array) -> Recorded:
        """Return an array of the caller's for the step to work on."""
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
        self._known[id(recorded)] = key
        return key

    def key(self, recorded: Recorded) -> int:
        """Return the number of an array; one that an earlier step made is a constant."""
        found = self._known.get(id(recorded))
        return self._add(recorded, "constant") if found is None else found

    def root(self, key: int) -> int:
        """Return the array whose memory `key` is a view of."""
        while self.sources[key] == "view":
            key = self.viewed[key]
        return key

    def join(self, keys: Sequence[int]) -> int:
        """Return the number of a new block, of which the arrays `keys` are parts from now on.

        It is their `root` then.
        """
        number, source = len(self.arrays), self.sources[keys[0]]
        arrays = [self.arrays[key] for key in keys]
        block = adjoining(arrays) if source == "given" else None
        found = block is not None
        if block is None:
            size = sum(array.size for array in arrays)
            block = aligned(size * arrays[0].itemsize).view(arrays[0].dtype)
            np.concatenate([array.reshape(-1) for array in arrays], out=block)
        self.arrays.append(block)
        self.sources.append(source)
        self.parts[number] = list(keys)
        for key in keys:
            self.sources[key], self.viewed[key] = "view", number
        if not found:  # else their identities stay
            self.lay(number, self.arrays)
        return number

    def lay(self, block: int, arrays: list[Array]) -> None:
        """Let the parts of a block be views of it in `arrays`."""
        start = 0
        for key in self.parts[block]:
            shape, size = arrays[key].shape, arrays[key].size
            arrays[key] = arrays[block][start : start + size].reshape(shape)
            start += size

    def _refer(self, value: Any) -> Any:
        if isinstance(value, Recorded):
            return Ref(self.key(value))
        if isinstance(value, np.ndarray) and value.ndim:
            # a copy: it may be written to later in the step
            return Ref(self.key(self._new(value.copy(), "constant")))
        if isinstance(value, (list, tuple)):
            return type(value)(map(self._refer, value))
        return value

    def apply(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], name: str
    ) -> Any:
        """Carry an operation out and note it."""
        known, named = self._refer(args), {k: self._refer(v) for k, v in kwargs.items()}
        _refuse(name, function, known, named, self.arrays)
        # what all parameters' updates compute alike is computed once
        numbers = not named and self._of_numbers(known)
        call = (function, *map(told, known)) if numbers else None
        if call in self._numbers:
            return self._numbers[call]
        result = function(*resolve(known, self.arrays), **resolve(named, self.arrays))
        if name in _BY_SHAPE and len(list(refs_in((known, named)))) == 1:
            return self._new(result, "constant")
        if isinstance(result, (list, tuple)):
            parts = [
                self._note("part", partial(_part, function, i), known, named, part)
                for i, part in enumerate(result)
            ]
            if any(self.sources[self.key(part)] != "view" for part in parts):
                raise RecordingError(f"{name} makes several arrays")
            return type(result)(parts) if type(result) in (list, tuple) else tuple(parts)
        if not isinstance(result, (np.ndarray, np.generic)):
            return result
        made = self._note(name, function, known, named, result)
        if call is not None and made.scalar:
            self._numbers[call] = made
        return made

    def _of_numbers(self, args: tuple[Any, ...]) -> bool:
        """Return whether these are numbers alone, and one of them in an array of its own."""
        keys = [arg.key for arg in args if isinstance(arg, Ref)]
        plain = all(type(arg) in (Ref, int, float) for arg in args)
        own = all(not self.arrays[k].ndim and self.sources[k] != "view" for k in keys)
        return bool(keys) and plain and own

    def _note(
        self, name: str, function: Any, args: Any, kwargs: dict[str, Any], result: Any
    ) -> Recorded:
        scalar = isinstance(result, np.generic)
        result = np.asarray(result)
        refs = list(refs_in((args, kwargs)))
        for ref in refs:
            if np.may_share_memory(result, self.arrays[ref]):
                made = self._new(result, "view")
                self.viewed[self.key(made)] = ref
                self.nodes.append(Node("view", name, function, args, kwargs, self.key(made)))
                return made
        made = self._new(result, "call" if refs else "constant")
        made.scalar = scalar
        if refs and not is_packed(result):
            raise RecordingError(f"{name} makes an array with gaps")
        if refs:
            self.nodes.append(Node("call", name, function, args, kwargs, self.key(made)))
        return made

    def mutate(self, ufunc: np.ufunc, target: Recorded, other: Any) -> None:
        """Carry ``target ufunc= other`` out and note it."""
        key, operand = self.key(target), self._refer(other)
        value = self.arrays[operand.key] if isinstance(operand, Ref) else operand
        root = self.root(key)
        if root not in self.mutated and self.sources[root] == "constant":
            # each step begins with the constant as it was
            pristine = self.key(self._new(self.arrays[root].copy(), "constant"))
            self.nodes.insert(0, copying(root, pristine))
        ufunc(self.arrays[key], value, out=self.arrays[key])
        self.mutated.add(root)
        if not self.arrays[root].ndim:
            self._numbers.clear()
        self.nodes.append(Node("mutate", "", ufunc, (Ref(key), operand), {}, key))

    def check(self, recorded: Recorded) -> bool:
        """Return the truth of an array, which a program will check."""
        if any(self.sources[root] == "given" for root in self.mutated):
            raise RecordingError(
                "a truth was asked for after the step had changed what it was given"
            )
        key = self.key(recorded)
        truth = bool(self.arrays[key])
        self.nodes.append(Node("check", "", bool, (Ref(key), truth), {}, key))
        return truth


# these take a shape from numbers
_BY_VALUE = {"arange", "linspace", "eye", "full", "zeros", "ones", "empty", "repeat", "tile"}
# these look at an array's shape and dtype alone
_BY_SHAPE = {"zeros_like", "ones_like", "full_like", "empty_like"}


def _refuse(
    name: str, function: Any, args: Any, kwargs: dict[str, Any], arrays: Sequence[Array]
) -> None:
    """Raise `RecordingError` where the shape of a result, or its bits, depend on more than a shape.

    A power of two numbers is NumPy's scalar power, in other bits than that of arrays.
    """
    refs = list(refs_in((args, kwargs)))
    own = 1 if name in ("repeat", "tile") else 0  # how many arrays don't give the shape
    if name.startswith(("unique", "nonzero")) or (name in _BY_VALUE and len(refs) > own):
        raise RecordingError(f"the shape that {name} gives depends on values")
    if function is _item and any(arrays[k].dtype == bool for k in refs[1:]):
        raise RecordingError("a shape depends on truths")
    if function is np.power and all(arrays[k].ndim == 0 for k in refs):
        raise RecordingError("a power of numbers")


def _part(function: Callable[..., Any], index: int, *args: Any, **kwargs: Any) -> Any:
    return function(*args, **kwargs)[index]
