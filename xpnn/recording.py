"""A NumPy step recorded once and played back: the same operations, into buffers that are kept.

A small network spends much of its time between the operations: in Python, and in the allocator.
So a pure function of arrays is run once with arrays that note every operation (`Recorded`), and
what they noted becomes a `Program`: a straight list of calls, each writing into its own buffer.
Buffers are reused as soon as nothing reads them any more, so that they stay in the cache; what
depends on nothing that changes from step to step is computed once a run. The operations, their
order and their operands' layouts are the eager ones, hence so are the bits.

What can't be recorded (a branch on a value, a library beside NumPy) raises `RecordingError`, and
the step goes on eagerly. So does one that doesn't do twice the same, such as one that counts its
calls in Python: a program is played once a second step has given the same one. A truth that was
asked for (``if bool(xp.all(...))``) becomes a check: where it comes out otherwise, that one step
runs eagerly.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from xpnn.tree import leaves, rebuilt, structure

Array = np.ndarray
Call = tuple[Callable[..., object], tuple[Any, ...]]


class RecordingError(Exception):
    """A step did what a program can't do again."""


class CheckError(Exception):
    """A truth came out otherwise than when the program was recorded."""


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


class _Node(NamedTuple):
    """An operation: `function` of `args`, of which a `_Ref` stands for an array.

    `out` is the array that it makes; `kind` is "call" (fills a buffer of its own), "view" (the
    same memory), "mutate" (changes its first operand) or "check". `name` is the array API's.
    """

    kind: str
    name: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    out: int


class _Ref(NamedTuple):
    key: int


class Recording:
    """The operations of one step so far, on arrays that are known by number."""

    def __init__(self, xp: Namespace) -> None:
        self.xp = xp
        self.nodes: list[_Node] = []
        self.arrays: list[Array] = []
        self.sources: list[str] = []  # of each array: "given", "constant", "call" or "view"
        self.mutated: set[int] = set()
        self._known: dict[int, int] = {}
        self.viewed: dict[int, int] = {}  # of each view, what it is one of
        self._alive: list[Recorded] = []  # an id is a name only while its object lives

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

    def _refer(self, value: Any) -> Any:
        if isinstance(value, Recorded):
            return _Ref(self.key(value))
        if isinstance(value, np.ndarray) and value.ndim:
            # a copy: it may be written to later in the step
            return _Ref(self.key(self._new(value.copy(), "constant")))
        if isinstance(value, (list, tuple)):
            return type(value)(map(self._refer, value))
        return value

    def apply(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], name: str
    ) -> Any:
        """Carry an operation out and note it."""
        known, named = self._refer(args), {k: self._refer(v) for k, v in kwargs.items()}
        _refuse(name, function, known, named, self.arrays)
        result = function(*_resolve(known, self.arrays), **_resolve(named, self.arrays))
        if name in _BY_SHAPE and len(list(_refs((known, named)))) == 1:
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
        return self._note(name, function, known, named, result)

    def _note(
        self, name: str, function: Any, args: Any, kwargs: dict[str, Any], result: Any
    ) -> Recorded:
        scalar = isinstance(result, np.generic)
        result = np.asarray(result)
        refs = list(_refs((args, kwargs)))
        for ref in refs:
            if np.may_share_memory(result, self.arrays[ref]):
                made = self._new(result, "view")
                self.viewed[self.key(made)] = ref
                self.nodes.append(_Node("view", name, function, args, kwargs, self.key(made)))
                return made
        made = self._new(result, "call" if refs else "constant")
        made.scalar = scalar
        if refs and not _is_packed(result):
            raise RecordingError(f"{name} makes an array with gaps")
        if refs:
            self.nodes.append(_Node("call", name, function, args, kwargs, self.key(made)))
        return made

    def mutate(self, ufunc: np.ufunc, target: Recorded, other: Any) -> None:
        """Carry ``target ufunc= other`` out and note it."""
        key, operand = self.key(target), self._refer(other)
        value = self.arrays[operand.key] if isinstance(operand, _Ref) else operand
        root = self.root(key)
        if root not in self.mutated and self.sources[root] == "constant":
            # each step begins with the constant as it was
            pristine = self.key(self._new(self.arrays[root].copy(), "constant"))
            self.nodes.insert(0, _copy(root, pristine))
        ufunc(self.arrays[key], value, out=self.arrays[key])
        self.mutated.add(root)
        self.nodes.append(_Node("mutate", "", ufunc, (_Ref(key), operand), {}, key))

    def check(self, recorded: Recorded) -> bool:
        """Return the truth of an array, which a program will check."""
        if any(self.sources[root] == "given" for root in self.mutated):
            raise RecordingError(
                "a truth was asked for after the step had changed what it was given"
            )
        key = self.key(recorded)
        truth = bool(self.arrays[key])
        self.nodes.append(_Node("check", "", bool, (_Ref(key), truth), {}, key))
        return truth


def _refuse(
    name: str, function: Any, args: Any, kwargs: dict[str, Any], arrays: Sequence[Array]
) -> None:
    """Raise `RecordingError` where the shape of a result, or its bits, depend on more than a shape.

    A power of two numbers is NumPy's scalar power, in other bits than that of arrays.
    """
    refs = list(_refs((args, kwargs)))
    own = 1 if name in ("repeat", "tile") else 0  # how many arrays don't give the shape
    if name.startswith(("unique", "nonzero")) or (name in _BY_VALUE and len(refs) > own):
        raise RecordingError(f"the shape that {name} gives depends on values")
    if function is _item and any(arrays[k].dtype == bool for k in refs[1:]):
        raise RecordingError("a shape depends on truths")
    if function is np.power and all(arrays[k].ndim == 0 for k in refs):
        raise RecordingError("a power of numbers")


def _part(function: Callable[..., Any], index: int, *args: Any, **kwargs: Any) -> Any:
    return function(*args, **kwargs)[index]


def _copy(target: int, source: int) -> _Node:
    """Return the node that gives one array the values of another."""
    return _Node("mutate", "", _copied, (_Ref(target), _Ref(source)), {}, target)


def _copied(target: Array, source: Array, out: Array) -> None:
    np.copyto(out, source)


def _resolve(value: Any, arrays: Sequence[Array]) -> Any:
    """Return `value` with arrays for references."""
    if isinstance(value, _Ref):
        return arrays[value.key]
    if isinstance(value, (list, tuple)):
        return type(value)(_resolve(v, arrays) for v in value)
    if isinstance(value, dict):
        return {k: _resolve(v, arrays) for k, v in value.items()}
    return value


def _refs(value: Any) -> Iterator[int]:
    """Yield the numbers of the arrays that a node, or a part of one, refers to."""
    if isinstance(value, _Ref):
        yield value.key
    elif isinstance(value, _Node):
        yield from _refs((value.args, value.kwargs))
    elif isinstance(value, (list, tuple)):
        for v in value:
            yield from _refs(v)
    elif isinstance(value, dict):
        for v in value.values():
            yield from _refs(v)


class Operation(NamedTuple):
    """A call of a program: ``function(*args)`` writes `result`."""

    name: str
    result: Array
    function: Callable[..., object]
    args: tuple[Any, ...]


class Program:
    """A recorded step, ready to be played: calls in order, each into its own buffer.

    Parameters
    ----------
    recording
        The step.
    row
        The given array that differs from step to step.
    carried
        The given arrays that a step hands to the next, and what takes their place.
    outputs
        The 0-d arrays that a step returns.

    Attributes
    ----------
    operations
        Of each step, in order; views aren't any, nor is what is computed once a run.
    """

    def __init__(
        self,
        recording: Recording,
        row: Recorded,
        carried: Sequence[tuple[Recorded, Recorded]],
        outputs: Sequence[Recorded],
    ) -> None:
        key, root = recording.key, recording.root
        nodes = list(recording.nodes)
        if len({root(key(after)) for _, after in carried}) < len(carried):
            raise RecordingError("one array is handed on in several places")
        for given, after in carried:
            if key(given) != key(after):
                if recording.sources[root(key(after))] == "given":
                    raise RecordingError("what a step was given takes another one's place")
                # how an axis of length 1 lies is nobody's business
                orders = [
                    [k for k in _order(array) if array.shape[k] > 1]
                    for array in (after.value, given.value)
                ]
                if orders[0] != orders[1]:
                    raise RecordingError("a step's carry changed its layout")
                nodes.append(_copy(key(given), key(after)))
        if any(recording.sources[root(key(output))] == "given" for output in outputs):
            raise RecordingError("an output is what the step was given")
        figures = {root(key(output)) for output in outputs}
        wanted = figures | {root(key(given)) for given, _ in carried}
        nodes = _live(nodes, wanted, root)
        changing = {root(key(row))} | {root(n.out) for n in nodes if n.kind == "mutate"}
        once, each = [], []
        for node in nodes:
            if node.kind == "check" or changing & {root(node.out), *map(root, _refs(node))}:
                each.append(node)
                changing.add(root(node.out))
            else:
                once.append(node)
        arrays = list(recording.arrays)
        arrays[key(row)] = np.empty_like(arrays[key(row)])
        _place(recording, once, arrays, keep=figures | {root(k) for n in each for k in _refs(n)})
        _place(recording, each, arrays, keep=figures)
        self._once = [_call(node, arrays) for node in once if node.kind != "view"]
        self._row = arrays[key(row)]
        self._row_is_kept = root(key(row)) not in recording.mutated
        self._places: float = math.inf  # that the rows' numbers must be below
        self.operations = [self._operation(node, arrays) for node in each if node.kind != "view"]
        self._each = [(operation.function, operation.args) for operation in self.operations]
        self._outputs = [arrays[key(output)] for output in outputs]

    def _operation(self, node: _Node, arrays: list[Array]) -> Operation:
        function, args = _call(node, arrays)
        if function is _take and args[1] is self._row and self._row_is_kept:
            x, places, axis, out = args
            self._places = min(self._places, x.shape[axis])
            function, args = x.take, (places, axis, out, "clip")  # looked at once a run
        return Operation(node.name or node.function.__name__, arrays[node.out], function, args)

    def _begin(self) -> None:
        for function, args in self._once:
            function(*args)

    def play(self, rows: Array, figures: Sequence[Array], eager: Callable[[int], None]) -> None:
        """Step through `rows`; write the outputs of step i to ``figures[k][i]``.

        Where a check fails, `eager` does that step, and writes its figures.
        """
        calls, row, outputs = self._each, self._row, self._outputs
        looked = rows.size and self._places < math.inf
        if looked and (rows.min() < 0 or rows.max() >= self._places):
            raise IndexError(f"a place beyond the {self._places} there are")
        self._begin()
        for i in range(len(rows)):
            row[...] = rows[i]
            try:
                for function, args in calls:
                    function(*args)
            except CheckError:
                eager(i)
                self._begin()
                continue
            for figure, output in zip(figures, outputs, strict=True):
                figure[i] = output


def _live(nodes: list[_Node], wanted: set[int], root: Callable[[int], int]) -> list[_Node]:
    """Return the nodes that `wanted` arrays and checks depend on."""
    live, kept = set(wanted), []
    for node in reversed(nodes):
        if node.kind == "check" or root(node.out) in live:
            live |= {root(k) for k in _refs(node)}
            kept.append(node)
    return kept[::-1]


def _place(
    recording: Recording, nodes: list[_Node], arrays: list[Array], *, keep: set[int]
) -> None:
    """Give each call its buffer, free ones first, and make the views of them anew."""
    root = recording.root
    last = {root(k): i for i, n in enumerate(nodes) for k in (*_refs(n), n.out)}
    free: dict[int, list[Array]] = {}
    memory: dict[int, Array] = {}
    for i, node in enumerate(nodes):
        reads = {root(k) for k in _refs(node)}
        dying = [k for k in reads if last[k] == i and k in memory and k not in keep]
        if node.kind == "view":
            arrays[node.out] = np.asarray(
                node.function(*_resolve(node.args, arrays), **_resolve(node.kwargs, arrays))
            )
            viewed = arrays[recording.viewed[node.out]]
            if viewed.size and not np.may_share_memory(arrays[node.out], viewed):
                raise RecordingError("a view became a copy")
        elif node.kind == "call":
            like = recording.arrays[node.out]
            size = max(like.nbytes, 1)
            operand = _overwritable(node, dying, arrays, like)
            if operand is not None:
                dying.remove(operand)
                memory[node.out] = memory[operand]
            else:
                pool = free.get(size)
                memory[node.out] = pool.pop() if pool else _aligned(size)
            arrays[node.out] = np.ndarray(
                like.shape, like.dtype, memory[node.out], strides=_packed(like)
            )
        for k in dying:
            free.setdefault(max(recording.arrays[k].nbytes, 1), []).append(memory[k])


def _overwritable(node: _Node, dying: list[int], arrays: list[Array], like: Array) -> int | None:
    """Return an operand of an elementwise operation whose memory the result may take."""
    if not isinstance(node.function, np.ufunc) or node.function.signature:
        return None
    for k in _refs(node.args):
        array = arrays[k]
        same = (array.dtype, array.shape, array.strides) == (like.dtype, like.shape, _packed(like))
        if k in dying and same:
            return k
    return None


def _is_packed(array: Array) -> bool:
    """Return whether an array has no gaps and no reversed axis."""
    return (
        all(
            stride == packed or length == 1
            for stride, packed, length in zip(
                array.strides, _packed(array), array.shape, strict=True
            )
        )
        or not array.size
    )


def _order(array: Array) -> list[int]:
    """Return the axes in their order in memory, the innermost first."""
    return sorted(range(array.ndim), key=lambda k: (abs(array.strides[k]), -k))


def _packed(like: Array) -> tuple[int, ...]:
    """Return the strides of an array of the shape and the order of axes of `like`, no gaps."""
    strides, step = [0] * like.ndim, like.itemsize
    for axis in _order(like):
        strides[axis] = step
        step *= like.shape[axis]
    return tuple(strides)


def _aligned(size: int) -> Array:
    raw = np.empty(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size]


# NumPy's own for some names, without Python between
_REDUCTIONS = {
    "sum": np.add.reduce,
    "max": np.maximum.reduce,
    "min": np.minimum.reduce,
    "all": np.logical_and.reduce,
    "any": np.logical_or.reduce,
}
_ELEMENTWISE = {"matmul": np.matmul, "floor": np.floor, "ceil": np.ceil, "trunc": np.trunc}
# these take a shape from numbers
_BY_VALUE = {"arange", "linspace", "eye", "full", "zeros", "ones", "empty", "repeat", "tile"}
# these look at an array's shape and dtype alone
_BY_SHAPE = {"zeros_like", "ones_like", "full_like", "empty_like"}


def _call(node: _Node, arrays: list[Array]) -> Call:
    """Return the node as a function and its arguments, by position, which costs least."""
    args, kwargs = _resolve(node.args, arrays), _resolve(node.kwargs, arrays)
    name, out = node.name, arrays[node.out]
    function = _ELEMENTWISE.get(name, node.function)
    if node.kind == "check":
        return _checked, args
    if function is np.matmul and not kwargs and [a.ndim for a in (*args, out)] == [2, 2, 2]:
        return _product(args[0], args[1], out)
    if node.kind == "mutate" or (isinstance(function, np.ufunc) and not kwargs):
        if function in (np.maximum, np.minimum):  # would rather not have it by position
            # with a number, NumPy has no vector loop: half as fast as with an array of it
            full = (a if isinstance(a, np.ndarray) else np.full_like(out, a) for a in args)
            return partial(function, out=out), tuple(full)
        return function, (*args, out)
    if name in _REDUCTIONS and len(args) == 1 and kwargs.keys() <= {"axis", "keepdims"}:
        axis, keepdims = kwargs.get("axis"), kwargs.get("keepdims", False)
        return _REDUCTIONS[name], (args[0], axis, None, out, keepdims)
    if name == "take" and len(args) == 2 and getattr(args[1], "dtype", None) == np.int64:
        return _take, (*args, kwargs.get("axis"), out)
    if name == "argmax" and len(args) == 1 and kwargs.keys() == {"axis"}:
        return args[0].argmax, (kwargs["axis"], out)
    if name == "astype":
        return np.copyto, (out, args[0], "unsafe")
    if name == "concat":
        return np.concatenate, (args[0], kwargs.get("axis", 0), out)
    if name == "where" and len(args) == 3:
        return _where_call(out, *args)
    return _assign, (out, function, args, kwargs)


# multiplications of a product for which OpenBLAS has, on some processors, kernels of its own
_SMALL_PRODUCT = 1_000_000
# of a block of fewer rows, packing the other operand is most of the work
_LEAST_ROWS = 32
_TRIALS = 5


def _product(a: Array, b: Array, out: Array) -> Call:
    """Return a matrix product, by blocks of rows where that is faster and changes no bit."""
    rows = _SMALL_PRODUCT // max(b.size, 1)
    count = -(-len(a) // max(rows, 1))
    orders = tuple("C" if array.flags.c_contiguous else "F" for array in (a, b))
    packed = all(map(_is_packed, (a, b))) and out.flags.c_contiguous
    if rows < _LEAST_ROWS or count < 2 or not packed:
        return np.matmul, (a, b, out)
    if not _blocks_are_better((*a.shape, b.shape[1]), out.dtype, orders, count):
        return np.matmul, (a, b, out)
    return _by_blocks, (_row_blocks(a, out, count), b)


def _row_blocks(a: Array, out: Array, count: int) -> list[tuple[Array, Array]]:
    edges = [len(a) * i // count for i in range(count + 1)]
    return [(a[i:j], out[i:j]) for i, j in itertools.pairwise(edges)]


def _by_blocks(blocks: list[tuple[Array, Array]], b: Array) -> None:
    for a, out in blocks:
        np.matmul(a, b, out)


@functools.cache
def _blocks_are_better(
    shape: tuple[int, int, int], dtype: Any, orders: tuple[str, ...], count: int
) -> bool:
    """Return whether this BLAS makes a product faster by blocks of rows, in the same bits.

    That is tried, with numbers of its own: so which way is taken never changes a result.
    """
    m, k, n = shape
    stream = np.random.RandomState(0)
    a, b = (
        stream.standard_normal(size).astype(dtype, order="F" if order == "F" else "C")
        for size, order in zip(((m, k), (k, n)), orders, strict=True)
    )
    whole, blocks = np.empty((m, n), dtype), np.empty((m, n), dtype)
    alike = True
    # and where products underflow, to zeros of either sign
    for scale in (1e-3 * math.sqrt(np.finfo(dtype).tiny), 1.0):
        np.matmul(a * scale, b * scale, whole)
        _by_blocks(_row_blocks(a * scale, blocks, count), b * scale)
        alike = alike and whole.tobytes() == blocks.tobytes()
    calls = (
        partial(np.matmul, a, b, whole),
        partial(_by_blocks, _row_blocks(a, blocks, count), b),
    )
    times: list[list[float]] = [[], []]
    for _ in range(_TRIALS):
        for call, seconds in zip(calls, times, strict=True):
            begun = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - begun)
    return alike and min(times[1]) < 0.95 * min(times[0])


def _where_call(out: Array, condition: Any, x: Any, y: Any) -> Call:
    """Return ``where``, by bits if all arrays lie alike: without a branch for each element."""
    bits = {4: np.int32, 8: np.int64}.get(out.itemsize)
    choices = [v if isinstance(v, np.ndarray) else np.full_like(out, v) for v in (x, y)]
    alike = [(a.shape, a.strides) == (out.shape, out.strides) for a in choices]
    if (
        bits is None
        or not all(alike)
        or any(choice.dtype != out.dtype for choice in choices)
        or not isinstance(condition, np.ndarray)
        or condition.dtype != bool
        or condition.shape != out.shape
    ):
        return _where, (out, condition, x, y)
    one, other = (choice.view(bits) for choice in choices)
    if not isinstance(y, np.ndarray) and not other.any():
        return np.multiply, (one, condition, out.view(bits))
    return _select, (
        out.view(bits),
        condition,
        one,
        other,
        *(np.empty_like(out, bits) for _ in range(2)),
    )


def _where(out: Array, condition: Array, x: Any, y: Any) -> None:
    out[...] = np.where(condition, x, y)


def _select(out: Array, condition: Array, x: Array, y: Array, mask: Array, both: Array) -> None:
    np.negative(condition, out=mask, dtype=mask.dtype, casting="unsafe")
    np.bitwise_xor(x, y, both)
    np.bitwise_and(mask, both, mask)
    np.bitwise_xor(mask, y, out)


def _take(x: Array, places: Array, axis: int | None, out: Array) -> None:
    count = x.size if axis is None else x.shape[axis]
    if places.size and places.view(np.uint64).max() >= count:  # or negative
        out[...] = x.take(places, axis)
    else:
        x.take(places, axis, out, "clip")  # mode "raise" goes through a copy


def _checked(array: Array, expected: bool) -> None:
    if bool(array) is not expected:
        raise CheckError


def _assign(
    out: Array, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    result = function(*args, **kwargs)
    if np.shape(result) != out.shape:
        raise ValueError(f"a step's shapes must be the same in each, got {np.shape(result)}")
    out[...] = result


def _signature(recording: Recording, results: Sequence[Recorded]) -> bytes:
    """Return a digest of what a recording does, constants included, whatever it began with."""
    numbers: dict[int, int] = {}
    digest = hashlib.sha256()

    def note(value: Any) -> None:
        if isinstance(value, _Ref):
            if value.key not in numbers and recording.sources[value.key] == "constant":
                array = recording.arrays[value.key]
                digest.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
            digest.update(str(numbers.setdefault(value.key, len(numbers))).encode())
        elif isinstance(value, dict):
            note(list(value.items()))
        elif isinstance(value, (list, tuple)):
            for part in value:
                note(part)
        else:
            digest.update(repr(value).encode())

    for node in recording.nodes:
        function = node.function
        if isinstance(function, partial):
            note(function.args[1:])  # a part's number
        note((node.kind, node.name, getattr(function, "__name__", ""), node.args, node.kwargs))
        note(_Ref(node.out))
    for array in results:
        note(_Ref(recording.key(array)))
    return digest.digest()


class Leaf(NamedTuple):
    """How carry, rows and context hold NumPy's arrays: by themselves, or wrapped.

    `raw` returns the array in a leaf and what else is known of it, `wrapped` a leaf of a
    recording, and `restored` one of the caller's.
    """

    raw: Callable[[Any], tuple[Any, Any]]
    wrapped: Callable[[Any, Any], Any]
    restored: Callable[[Any, Any], Any]


PLAIN = Leaf(
    raw=lambda leaf: (leaf, None),
    wrapped=lambda raw, _: raw,
    restored=lambda raw, _: raw,
)

# of one fold, kept: for the first steps of a run, the last batch, another data set
MOST_PROGRAMS = 12

# recordings that differ before a step is taken for one that will always be another
MOST_DIFFERENCES = 3


class _Given(NamedTuple):
    """What a fold was called with, and the arrays in it."""

    carry: Any
    raw: list[Array]  # the carry's, apart from each other
    known: list[Any]
    rows: Any
    indices: Array
    context: tuple[Any, ...]
    key: Any  # two calls with the same one have the same program


class _Played(NamedTuple):
    program: Program
    after: list[Any]
    dtypes: list[Any]
    held: Any  # what the key names by id
    signature: bytes
    sure: bool  # a second step gave the same program


class Fold:
    """``run(carry, rows, *context)`` of `Backend.fold`, recorded.

    Parameters
    ----------
    step
        ``carry, outputs = step(carry, row, *context)``, a pure function, but that it may change
        the carry in place.
    xp
        Of `namespace`.
    leaf
        How carry, rows and context hold their arrays.
    """

    def __init__(self, step: Callable[..., Any], xp: Namespace, leaf: Leaf = PLAIN) -> None:
        self._step, self._xp, self._leaf = step, xp, leaf
        self._programs: dict[Any, _Played] = {}
        self._recordable = True
        self._differences = 0

    def __call__(self, carry: Any, rows: Any, *context: Any) -> tuple[Any, tuple[Any, ...]]:
        """Step through the rows; return the last carry and each output's values.

        The arrays of `carry` are taken over: they are written to.
        """
        if self._xp.records():
            raise RecordingError("a fold within a step")
        figures: list[Array] = []
        start, count = 0, rows.shape[0]
        while start < count:
            carry, done = self._run(carry, rows, start, context, figures)
            start += done
        restored = self._leaf.restored
        return carry, tuple(restored(figure, None) for figure in figures)

    @property
    def programs(self) -> list[Program]:
        """What was recorded so far."""
        return [played.program for played in self._programs.values()]

    def _run(
        self, carry: Any, rows: Any, start: int, context: tuple[Any, ...], figures: list[Array]
    ) -> tuple[Any, int]:
        """Go on from `start`; return the carry and the number of steps done."""
        held = [self._leaf.raw(leaf) for leaf in leaves(carry)]
        around = [self._leaf.raw(leaf) for leaf in context]
        contexts = [array for array, _ in around]
        raw = _apart([array for array, _ in held], contexts)
        known = [fact for _, fact in held]
        indices, _ = self._leaf.raw(rows)
        key = (
            *(tuple(known), tuple(fact for _, fact in around), structure(carry)),
            *(tuple(map(id, raw)), tuple(map(id, contexts))),
            *(indices.shape[1:], indices.strides[1:], indices.dtype),
        )
        given = _Given(carry, raw, known, rows, indices, context, key)
        played = self._programs.get(key)
        if played is not None and played.sure:
            return self._play(given, played, start, figures)
        if self._recordable:
            return self._noted(given, played, start, figures)
        return self._eagerly(carry, rows, start, context, figures), 1

    def _play(
        self, given: _Given, played: _Played, start: int, figures: list[Array]
    ) -> tuple[Any, int]:
        """Play a program for all steps from `start`, or one where it changes what is known."""
        carry, raw, known, rows, indices, context, _ = given
        _begin(figures, played.dtypes, len(indices))
        end = len(indices) if played.after == known else start + 1

        def eager(i: int) -> None:
            own = rebuilt(carry, map(self._leaf.restored, raw, known))
            after = self._eagerly(own, rows, start + i, context, figures)
            if structure(after) != structure(carry):
                raise ValueError("a step's carry must keep its structure")
            values = [np.array(self._leaf.raw(leaf)[0]) for leaf in leaves(after)]
            for array, value in zip(raw, values, strict=True):
                if (array.shape, array.dtype) != (value.shape, value.dtype):
                    raise ValueError("a step's carry must keep its shapes and dtypes")
                np.copyto(array, value)

        played.program.play(indices[start:end], [f[start:end] for f in figures], eager)
        return self._carry(carry, raw, played), end - start

    def _noted(
        self, given: _Given, before: _Played | None, start: int, figures: list[Array]
    ) -> tuple[Any, int]:
        """Do the step at `start` and keep its program; none is done where that fails."""
        carry, raw, known, rows, indices, context, key = given
        try:
            played, outputs = self._record(carry, raw, rows, start, context)
        except Exception:  # an error of the step's own is raised again eagerly
            self._recordable = False
            return rebuilt(carry, map(self._leaf.restored, raw, known)), 0
        if before is not None:
            sure = played.signature == before.signature
            self._differences += not sure
            self._recordable = self._differences < MOST_DIFFERENCES
            played = played._replace(sure=sure)
        elif len(self._programs) == MOST_PROGRAMS:
            del self._programs[next(iter(self._programs))]
        self._programs[key] = played
        _begin(figures, played.dtypes, len(indices))
        for figure, output in zip(figures, outputs, strict=True):
            figure[start] = output
        return self._carry(carry, raw, played), 1

    def _carry(self, carry: Any, raw: Sequence[Array], played: _Played) -> Any:
        return rebuilt(carry, map(self._leaf.restored, raw, played.after))

    def _eagerly(
        self, carry: Any, rows: Any, i: int, context: tuple[Any, ...], figures: list[Array]
    ) -> Any:
        carry, outputs = self._step(carry, rows[i, :], *context)
        values = [self._leaf.raw(output)[0] for output in outputs]
        _begin(figures, [value.dtype for value in values], rows.shape[0])
        for k, value in enumerate(values):
            if figures[k].dtype != value.dtype:
                figures[k] = figures[k].astype(np.result_type(figures[k], value))
            figures[k][i] = value
        return carry

    def _record(
        self,
        carry: Any,
        originals: Sequence[Array],
        rows: Any,
        i: int,
        context: tuple[Any, ...],
    ) -> tuple[_Played, list[Array]]:
        """Do step i, on copies until all has gone well; return its program and its outputs."""
        raw, wrapped = self._leaf.raw, self._leaf.wrapped
        before = leaves(carry)
        recording = Recording(self._xp)
        self._xp.record(recording)
        try:
            if not all(map(_is_packed, (*originals, raw(rows)[0][i]))):
                raise RecordingError("an array with gaps")
            given = [recording.give(array.copy(order="K")) for array in originals]
            lifted = rebuilt(
                carry, (wrapped(g, raw(b)[1]) for g, b in zip(given, before, strict=True))
            )
            row = recording.give(raw(rows)[0][i])
            around = [wrapped(recording.give(array), fact) for array, fact in map(raw, context)]
            carried, outputs = self._step(lifted, wrapped(row, raw(rows)[1]), *around)
            if structure(carried) != structure(carry):
                raise RecordingError("a step's carry changed its structure")
            after = [raw(leaf)[0] for leaf in leaves(carried)]
            known = [raw(leaf)[1] for leaf in leaves(carried)]
            figures = [raw(output)[0] for output in outputs]
            for new, old in zip((*after, *figures), (*given, *figures), strict=True):
                if not isinstance(new, Recorded):
                    raise RecordingError("a step returned what is no array of its own")
                if (new.shape, new.dtype) != (old.shape, old.dtype):
                    raise RecordingError("a step's carry changed its shape or dtype")
            pairs = list(zip(given, after, strict=True))
            for g, original in zip(given, originals, strict=True):
                recording.arrays[recording.key(g)] = original
            signature = _signature(recording, (*after, *figures))
            program = Program(recording, row, pairs, figures)
        finally:
            self._xp.record(None)
        for original, new in zip(originals, after, strict=True):
            np.copyto(original, new.value)
        dtypes = [figure.dtype for figure in figures]
        held = (originals, [raw(leaf)[0] for leaf in context])
        played = _Played(program, list(known), dtypes, held, signature, False)
        return played, [figure.value for figure in figures]


def _begin(figures: list[Array], dtypes: Sequence[Any], count: int) -> None:
    if not figures:
        figures += [np.empty(count, dtype) for dtype in dtypes]


def _apart(arrays: Sequence[Any], others: Sequence[Array]) -> list[Array]:
    """Return the arrays as ones that can be written each by itself: copies where they can't."""
    apart: list[Array] = []
    for array in arrays:
        shared = any(np.may_share_memory(array, other) for other in (*apart, *others))
        if shared or not isinstance(array, np.ndarray) or not array.flags.writeable:
            array = np.array(array)
        apart.append(array)
    return apart
