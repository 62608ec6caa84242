"""The text of a kernel: CUDA C++ for its tasks.

A thread computes an element of a value from the elements of its operands, and these from theirs,
back to what is in memory. Each element that it meets becomes a variable, once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from xpnn.recording.card.launches import Map, Reduce
from xpnn.recording.card.operations import ELEMENTWISE, PRELUDE, REDUCTIONS, TYPES
from xpnn.recording.card.positions import Layout, Position, packed_layout, variable
from xpnn.recording.card.values import Operand, Value, uniform
from xpnn.recording.nodes import RecordingError

THREADS = 256  # of a block
# elements that a thread of a reduction takes at least, and the most threads for a result: where
# neighbours in memory belong to one result, and where they belong to different ones
_LEAST, _MOST_ALONG, _MOST_ACROSS = 4, 256, 32


@dataclass
class Kernel:
    """A kernel's code, and what it needs.

    Attributes
    ----------
    body
        Its code, without its head.
    blocks
        The number of its blocks.
    shared
        Bytes of shared memory.
    reads
        The values that it reads from memory.
    writes
        The values that it stores in the program's memory.
    pointers
        The types of the caller's arrays that it reads or writes, and of constants, by name.
    moved
        Given values that another task of this kernel overwrites: their elements must be read from
        a copy, which was made before.
    """

    body: list[str] = field(default_factory=list)
    blocks: int = 0
    shared: int = 0
    reads: set[Value] = field(default_factory=set)
    writes: list[Value] = field(default_factory=list)
    pointers: dict[str, str] = field(default_factory=dict)
    moved: set[Value] = field(default_factory=set)


@dataclass
class Targets:
    """Where results go beside the program's memory.

    Attributes
    ----------
    carry
        The given value that each result takes the place of.
    figures
        The name of the array with a row for each step, by result.
    copies
        The copies of given values that the last kernel reads instead of these, see `Kernel.moved`.
    """

    carry: dict[Value, Value] = field(default_factory=dict)
    figures: dict[Value, list[str]] = field(default_factory=dict)
    copies: dict[Value, Value] = field(default_factory=dict)


def kernel_of(
    tasks: Sequence[Map | Reduce], here: set[Value], overwrites: bool, targets: Targets
) -> Kernel:
    """Return the code of a kernel.

    Parameters
    ----------
    tasks
        What it computes.
    here
        The elementwise values that no earlier kernel has stored.
    overwrites
        Whether it is the last kernel, which writes the carry.
    targets
        Where results go.
    """
    kernel = Kernel()
    for task in tasks:
        code = _Task(kernel, here, targets, overwrites)
        blocks = code.map(task) if isinstance(task, Map) else code.reduce(task)
        word = "else if" if kernel.blocks else "if"
        kernel.body += [f"  {word} (blockIdx.x < {kernel.blocks + blocks}) {{"]
        kernel.body += [f"    const I block = blockIdx.x - {kernel.blocks};"]
        kernel.body += [f"    {line}" for line in code.lines]
        kernel.body += ["  }"]
        kernel.blocks += blocks
    return kernel


def text_of(name: str, kernel: Kernel, places: dict[Value, int]) -> tuple[str, list[str]]:
    """Return the text of a kernel, and the names of its arguments in their order.

    `places` says where in the program's memory each value begins, in bytes.
    """
    own = sorted({*kernel.reads, *kernel.writes}, key=lambda value: value.number)
    arguments = {"memory": "char*"} if own else {}
    arguments |= dict(sorted(kernel.pointers.items()))
    arguments["step"] = "long long"
    head = ", ".join(f"{type_} {argument}" for argument, type_ in arguments.items())
    lines = [f'extern "C" __global__ void __launch_bounds__({THREADS}) {name}({head}) {{']
    if kernel.shared:
        lines.append(f"  __shared__ double pool[{-(-kernel.shared // 8)}];")
    for value in own:
        type_ = TYPES[value.dtype.name]
        lines.append(f"  {type_}* const v{value.number} = ({type_}*)(memory + {places[value]});")
    return "\n".join([*lines, *kernel.body, "}", ""]), list(arguments)


def module_of(kernels: Sequence[str], large: bool) -> str:
    """Return the text of a module; `large` is whether positions need more than 31 bits."""
    return "\n".join([f"typedef {'long long' if large else 'int'} I;", PRELUDE, *kernels])


def _literal(value: Any, dtype: np.dtype[Any]) -> str:
    name = TYPES[dtype.name]
    if dtype.kind == "b":
        return "true" if value else "false"
    if dtype.kind in "iu":
        text = f"{int(value)}{'ull' if dtype.kind == 'u' else 'll'}"
        return f"({name}){text}" if int(value) >= 0 else f"({name})({text})"
    number = float(dtype.type(value))
    if math.isnan(number):
        return f"(infinity<{name}>() - infinity<{name}>())"
    if math.isinf(number):
        return f"{'-' if number < 0 else ''}infinity<{name}>()"
    text = repr(number) + ("f" if dtype == np.float32 else "")
    return f"({text})" if text.startswith("-") else text


def _as(text: str, given: np.dtype[Any], wanted: np.dtype[Any]) -> str:
    if given == wanted:
        return text
    return f"({text} != 0)" if wanted.kind == "b" else f"({TYPES[wanted.name]}){text}"


class _Task:
    """The code of a task."""

    def __init__(
        self, kernel: Kernel, here: set[Value], targets: Targets, overwrites: bool
    ) -> None:
        self.lines: list[str] = []
        self._kernel, self._here = kernel, here
        self._targets, self._overwrites = targets, overwrites
        # the given values that this task overwrites, at its own position
        self._own: set[Value] = set()
        self._position: Position | None = None
        self._known: dict[Any, Any] = {}  # variables that are visible here
        self._names = 0
        self._indent = ""

    # Tasks

    def map(self, task: Map) -> int:
        """Write the code that stores values of one layout; return the number of blocks."""
        size = task.layout.size
        self._line(f"const I i = block * {THREADS} + threadIdx.x;")
        self._open(f"if (i < {size})")
        self._position = position = variable("i", size)
        carry = self._targets.carry
        self._own = {carry[value] for value in task.values if value in carry}
        texts = [(value, self._element(value, position)) for value in task.values]
        for value, text in texts:  # after all that is read
            self._store(value, position, text)
        self._close()
        return -(-size // THREADS)

    def reduce(self, task: Reduce) -> int:
        """Write the code of reductions of one shape along some axes; return the number of blocks.

        A result has `lanes` threads. Each takes every so manieth element in order, and then the
        parts of two threads are joined until one is left: the order depends only on the shape.
        """
        kept = [axis for axis in range(len(task.shape)) if axis not in task.axes]
        outer, inner = (
            packed_layout([task.shape[axis] for axis in axes]) for axes in (kept, task.axes)
        )
        strides = [
            [
                stride
                for axis in axes
                if task.shape[axis] > 1 and (stride := self._strides(task)[axis])
            ]
            for axes in (kept, task.axes)
        ]
        along = min(strides[1], default=0) <= min(strides[0], default=1 << 62)
        lanes = 1
        while 2 * lanes * _LEAST <= inner.size and lanes < (_MOST_ALONG if along else _MOST_ACROSS):
            lanes *= 2
        groups = THREADS // lanes
        if along:
            self._line(f"const int lane = threadIdx.x % {lanes}, group = threadIdx.x / {lanes};")
        else:
            self._line(f"const int lane = threadIdx.x / {groups}, group = threadIdx.x % {groups};")
        self._line(f"const I o = block * {groups} + group;")
        types = []
        for k, value in enumerate(task.values):
            reduction, dtype = REDUCTIONS[value.name], self._reduced(value)
            own = TYPES[dtype.name]
            types.append(f"Place<{own}>" if reduction.places else own)
            first = f"({own})0" if reduction.first == "0" else reduction.first.format(own)
            self._line(f"{types[k]} r{k} = {first};")
        self._open(f"if (o < {outer.size}) for (I i = lane; i < {inner.size}; i += {lanes})")
        at = dict(zip(kept, outer.indices(variable("o", outer.size), self._named), strict=True))
        at |= zip(task.axes, inner.indices(variable("i", inner.size), self._named), strict=True)
        indices = [at[axis] for axis in range(len(task.shape))]
        for k, value in enumerate(task.values):
            (operand,) = value.operands
            text = self._element(operand.value, operand.layout.at(indices))
            text = _as(text, operand.value.dtype, self._reduced(value))
            if REDUCTIONS[value.name].places:
                text = f"{types[k]}{{{text}, i}}"
            self._line(f"r{k} = {REDUCTIONS[value.name].joined.format(f'r{k}', text)};")
        self._close()
        if lanes > 1:
            self._join(task.values, types, lanes, groups)
        self._open(f"if (lane == 0 && o < {outer.size})")
        at = dict(zip(kept, outer.indices(variable("o", outer.size), self._named), strict=True))
        for k, value in enumerate(task.values):
            whole = len(value.layout.shape) == len(task.shape)
            axes = range(len(task.shape)) if whole else kept
            position = value.layout.at([at.get(axis, Position()) for axis in axes])
            count = _literal(inner.size, value.dtype)
            text = REDUCTIONS[value.name].last.format(f"r{k}", count=count)
            self._store(value, position, text)
        self._close()
        return -(-outer.size // groups)

    def _strides(self, task: Reduce) -> tuple[int, ...]:
        (operand,) = task.values[0].operands
        return operand.layout.strides  # type: ignore[no-any-return]

    def _reduced(self, value: Value) -> np.dtype[Any]:
        """Return the dtype in which a reduction compares or adds up."""
        (operand,) = value.operands
        dtype = operand.value.dtype if REDUCTIONS[value.name].places else value.dtype
        if value.name not in ("sum", "mean", "all", "any") and dtype.name not in (
            "float32", "float64", "int64",
        ):  # fmt: skip
            raise RecordingError(f"{value.name} of {dtype} has no kernel")
        return dtype

    def _join(self, values: Sequence[Value], types: list[str], lanes: int, groups: int) -> None:
        """Join the threads' parts of a result, in shared memory; the first one has the whole."""
        start = 0
        for k in range(len(values)):
            size = 16 if types[k].startswith("Place") else 8
            self._line(f"{types[k]}* const s{k} = ({types[k]}*)(pool + {start // 8});")
            self._line(f"s{k}[lane * {groups} + group] = r{k};")
            start += size * THREADS
        self._kernel.shared = max(self._kernel.shared, start)
        self._open(f"for (int n = {lanes // 2}; n > 0; n /= 2)")
        self._line("__syncthreads();")
        self._open("if (lane < n)")
        self._line(f"const int own = lane * {groups} + group, other = own + n * {groups};")
        for k, value in enumerate(values):
            joined = REDUCTIONS[value.name].joined.format(f"s{k}[own]", f"s{k}[other]")
            self._line(f"s{k}[own] = {joined};")
        self._close()
        self._close()
        for k in range(len(values)):
            # only the first lane's is the whole, which it has written itself
            self._line(f"r{k} = s{k}[lane * {groups} + group];")

    # Lines

    def _line(self, text: str) -> None:
        self.lines.append(self._indent + text)

    def _open(self, head: str) -> None:
        self._line(head + " {")
        self._indent += "  "
        self._known = {**self._known, None: self._known}

    def _close(self) -> None:
        self._known = self._known[None]
        self._indent = self._indent[:-2]
        self._line("}")

    def _name(self) -> str:
        self._names += 1
        return f"x{self._names}"

    def _named(self, expression: str) -> str:
        """Return a variable that holds a position."""
        key = "position", expression
        if key not in self._known:
            name = self._known[key] = self._name()
            self._line(f"const I {name} = {expression};")
        return self._known[key]  # type: ignore[no-any-return]

    def _store(self, value: Value, position: Position, text: str) -> None:
        targets, type_ = self._targets, TYPES[value.dtype.name]
        given = targets.carry.get(value)
        if given is not None:
            self._kernel.pointers[given.name] = f"{type_}*"
            self._line(f"{given.name}[{position}] = {text};")
        for name in targets.figures.get(value, ()):
            self._kernel.pointers[name] = f"{type_}*"
            self._line(f"{name}[step * {value.layout.size} + {position}] = {text};")
        if given is None and value not in targets.figures:
            self._kernel.writes.append(value)
            self._line(f"v{value.number}[{position}] = {text};")

    # Elements

    def _element(self, value: Value, position: Position) -> str:
        """Return a number or variable that holds the element of a value at a position."""
        if value.kind == "constant":
            number = uniform(value)
            if number is not None:
                return _literal(number, value.dtype)
        key = value.number, str(position)
        if key not in self._known:
            computed = value.kind == "elementwise" and value in self._here
            text = self._computed(value, position) if computed else self._loaded(value, position)
            if text.isidentifier():
                self._known[key] = text
            else:
                name = self._name()
                self._line(f"const {TYPES[value.dtype.name]} {name} = {text};")
                self._known[key] = name
        return self._known[key]  # type: ignore[no-any-return]

    def _loaded(self, value: Value, position: Position) -> str:
        return f"{self._pointer(value, position)}[{position}]"

    def _pointer(self, value: Value, position: Position | None = None) -> str:
        """Return a pointer to a value's memory."""
        if value.kind == "given":
            overwritten = self._overwrites and value in self._targets.carry.values()
            if overwritten and not (value in self._own and position == self._position):
                self._kernel.moved.add(value)
                copy = self._targets.copies.get(value)
                if copy is not None:
                    return self._pointer(copy)
            self._kernel.pointers.setdefault(value.name, f"const {TYPES[value.dtype.name]}*")
            return (
                f"({value.name} + step * {value.layout.size})"
                if value.name == "row"
                else value.name
            )
        if value.kind == "constant":
            self._kernel.pointers[f"c{value.number}"] = f"const {TYPES[value.dtype.name]}*"
            return f"c{value.number}"
        self._kernel.reads.add(value)
        return f"v{value.number}"

    def _computed(self, value: Value, position: Position) -> str:
        assert value.computed is not None
        if value.name == "take":
            return self._taken(value, position)
        if value.name == "concat":
            return self._concatenated(value, position)
        if value.name == "reshape":
            (operand,) = value.operands
            place = packed_layout(value.layout.shape).at(self._indices(value.layout, position))
            indices = self._indices(packed_layout(operand.layout.shape), place)
            text = self._element(operand.value, operand.layout.at(indices))
            return _as(text, operand.value.dtype, value.dtype)
        texts, extra = [], {}
        operands = value.operands
        if value.name.startswith("searchsorted"):
            table, *operands = operands  # type: ignore[assignment]
            if table.value in self._here or table.layout.strides != (1,):
                raise RecordingError("searchsorted in a table that is computed has no kernel")
            extra = {"table": self._pointer(table.value), "count": table.layout.size}
        for k, operand in enumerate(operands):
            dtype = np.dtype(bool) if value.name == "where" and k == 0 else value.computed
            texts.append(self._operand(operand, value, position, dtype))
        text = ELEMENTWISE[value.name].format(*texts, **extra)
        made = np.dtype(np.int64) if extra else value.computed
        if value.dtype == made or value.dtype.kind == "b":
            return text if value.name != "copy" else _as(text, made, value.dtype)
        return _as(f"({text})", made, value.dtype)

    def _operand(self, operand: Any, value: Value, position: Position, dtype: np.dtype[Any]) -> str:
        """Return the element of an operand that belongs to an element of a value."""
        if not isinstance(operand, Operand):
            return _literal(operand, dtype)
        layout = operand.layout
        if layout.size == 1:
            place = Position((), layout.start)
        elif layout._replace(start=0).alike(value.layout):
            place = position._replace(start=position.start + layout.start)
        else:
            indices = self._indices(value.layout, position)[-len(layout.shape) :]
            place = layout.at(
                [Position() if n == 1 else i for n, i in zip(layout.shape, indices, strict=True)]
            )
        return _as(self._element(operand.value, place), operand.value.dtype, dtype)

    def _indices(self, layout: Layout, position: Position) -> list[Position]:
        return layout.indices(position, self._named)

    def _taken(self, value: Value, position: Position) -> str:
        (axis,), (x, rows) = value.axes, value.operands
        indices = self._indices(value.layout, position)
        row = self._element(rows.value, rows.layout.at([indices[axis]]))
        count = x.layout.shape[axis]
        place = self._named(f"wrapped({row}, {count})")
        indices[axis] = variable(place, count)
        return self._element(x.value, x.layout.at(indices))

    def _concatenated(self, value: Value, position: Position) -> str:
        (axis,) = value.axes
        indices = self._indices(value.layout, position)
        name, start = self._name(), 0
        self._line(f"{TYPES[value.dtype.name]} {name};")
        for k, part in enumerate(value.operands):
            count = part.layout.shape[axis]
            if k < len(value.operands) - 1:
                self._open(f"{'else ' if k else ''}if ({indices[axis]} < {start + count})")
            else:
                self._open("else" if k else "")
            place = self._named(f"{indices[axis]} - {start}")
            own = [*indices[:axis], variable(place, count), *indices[axis + 1 :]]
            text = self._element(part.value, part.layout.at(own))
            self._line(f"{name} = {_as(text, part.value.dtype, value.dtype)};")
            self._close()
            start += count
        return name
