"""`CardProgram`: a recorded step as kernels and products, ready to be launched on a card."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from xpnn.recording.card.launches import launches_of
from xpnn.recording.card.positions import Layout, packed_layout
from xpnn.recording.card.source import THREADS, Kernel, Targets, kernel_of, module_of, text_of
from xpnn.recording.card.values import Operand, Value, Values
from xpnn.recording.nodes import RecordingError
from xpnn.recording.program import carry_copies, live
from xpnn.recording.recorder import Recorded, Recording

Array = Any
Launch = Callable[[tuple[Any, ...]], None]

# CUDA's limit for the arguments of a kernel is 4 kB on most cards
_MOST_POINTERS = 500
_MOST_SHARED = 48 << 10
# where a value's memory begins: enough for any access of a card
_ALIGNED = 256


class Product(NamedTuple):
    """A product of matrices as cuBLAS's ``gemm`` takes it, which counts by columns.

    ``out`` by rows is ``out.T`` by columns, so the operands are given in the other order.
    """

    dtype: np.dtype[Any]
    transposed: tuple[bool, bool]  # b and a
    sizes: tuple[int, int, int]  # columns, rows and inner dimension
    operands: tuple[tuple[str, int], tuple[str, int]]  # pointers and starts, in bytes: b and a
    leading: tuple[int, int, int]  # leading dimensions of b, a and out
    out: int  # where in the program's memory it begins


class Card(Protocol):
    """What a program needs of an array library with a card."""

    def kernels(self, text: str, blocks: dict[str, int], threads: int) -> list[Launch]:
        """Compile a module; return a function for each kernel that launches it."""

    def product(self, product: Product, pointers: tuple[int, int, int]) -> Callable[[], object]:
        """Return a function that launches a product; `pointers` are those of b, a and out."""

    def memory(self, size: int) -> Array:
        """Return an array of bytes on the card."""

    def pointer(self, array: Array) -> int:
        """Return where an array begins."""

    def constant(self, host: np.ndarray) -> Array:
        """Return an array of the host on the card; it stays there as long as that array."""


class CardProgram:
    """A recorded step, which a card can repeat.

    Parameters
    ----------
    recording
        The step.
    row
        The given array that differs from step to step.
    carried
        Pairs: a given array of the carry, and the array that the step returns for it.
    context
        The other given arrays.
    outputs
        The arrays that a step returns.
    card
        Where it will run.

    Attributes
    ----------
    text
        The kernels, in CUDA C++.
    launches
        How many kernels and products a step launches.
    changes
        Whether a step changes its carry.

    Raises
    ------
    RecordingError
        If the step does something that no kernel is written for.
    """

    def __init__(
        self,
        recording: Recording,
        row: Recorded,
        carried: Sequence[tuple[Recorded, Recorded]],
        context: Sequence[Recorded],
        outputs: Sequence[Recorded],
        card: Card,
    ) -> None:
        key, root = recording.key, recording.root
        figures = {root(key(output)) for output in outputs}
        nodes = [*recording.nodes, *carry_copies(recording, carried)]
        nodes = live(nodes, {*figures, *(root(key(given)) for given, _ in carried)}, root)
        names = {f"carry{i}": given for i, (given, _) in enumerate(carried)}
        names |= {f"context{i}": array for i, array in enumerate(context)}
        values = Values(recording, nodes, {**names, "row": row})
        self._card = card
        targets = _targets(values, [given for given, _ in carried], outputs)
        self._build(values, targets)

    def _build(self, values: Values, targets: Targets) -> None:
        results = [*targets.carry, *targets.figures]
        early: list[tuple[Value, int]] = []
        kernels, launches = _kernels(values, results, targets, early)
        moved = set().union(*(kernel.moved for kernel in kernels))
        if moved:
            # the last kernel overwrites them while others read them: these read copies
            for value in sorted(moved, key=lambda value: value.number):
                layout = Layout(value.layout.shape, value.layout.strides)
                made = Value(
                    "elementwise", value.dtype, layout, "copy", (value.whole,), value.dtype
                )
                targets.copies[value] = values.add(made)
                early.append((made, 1))
            kernels, launches = _kernels(values, results, targets, early)
        places, self._size = _placed(kernels, launches.products)
        self._calls: list[tuple[int, list[str]] | Product] = []
        texts: list[str] = []
        blocks: dict[str, int] = {}
        self._constants = {f"c{v.number}": v.host for v in values.all if v.kind == "constant"}
        for number, kernel in enumerate(kernels):
            self._calls += [_product(product, places) for product in launches.products[number]]
            if kernel.blocks:
                name = f"step{number}"
                text, arguments = text_of(name, kernel, places)
                if len(arguments) > _MOST_POINTERS or kernel.shared > _MOST_SHARED:
                    raise RecordingError("a step has too many arrays for a kernel")
                self._calls.append((len(texts), arguments))
                texts.append(text)
                blocks[name] = kernel.blocks
        largest = max((value.layout.size for value in values.all), default=0)
        self.text = module_of(texts, largest >= 1 << 31)
        self.launches = len(self._calls)
        self.changes = bool(targets.carry)
        self._blocks = blocks
        self._kernels: list[Launch] = []
        self._memory: Array = None
        self._kept: dict[str, Array] = {}

    def load(self) -> None:
        """Compile the kernels and move the constants, the first time that it is called."""
        if self._memory is not None:
            return
        used = {name for call in self._calls for name in _pointers(call)}
        self._kept = {
            name: self._card.constant(host)
            for name, host in self._constants.items()
            if name in used and host is not None
        }
        self._kernels = self._card.kernels(self.text, self._blocks, THREADS)
        self._memory = self._card.memory(self._size)

    def play(
        self,
        carry: Sequence[Array],
        context: Sequence[Array],
        rows: Array,
        figures: Sequence[Array],
        steps: range,
    ) -> None:
        """Do some steps: change the carry, and write each output of step i to ``figures[k][i]``.

        The program must have been loaded.
        """
        arrays = {f"carry{i}": array for i, array in enumerate(carry)}
        arrays |= {f"context{i}": array for i, array in enumerate(context)}
        arrays |= {f"figure{i}": array for i, array in enumerate(figures)}
        arrays |= {**self._kept, "row": rows, "memory": self._memory}
        at = {name: self._card.pointer(array) for name, array in arrays.items()}
        calls: list[Callable[[int], object]] = []
        for call in self._calls:
            if isinstance(call, Product):
                starts = [at[name] + start for name, start in call.operands]
                pointers = starts[0], starts[1], at["memory"] + call.out
                calls.append(_ignoring(self._card.product(call, pointers)))
            else:
                number, arguments = call
                fixed = tuple(at[name] for name in arguments[:-1])
                calls.append(_with_step(self._kernels[number], fixed))
        for step in steps:
            for launch in calls:
                launch(step)


def _ignoring(product: Callable[[], object]) -> Callable[[int], object]:
    return lambda step: product()


def _with_step(kernel: Launch, fixed: tuple[int, ...]) -> Callable[[int], object]:
    return lambda step: kernel((*fixed, step))


def _pointers(call: tuple[int, list[str]] | Product) -> list[str]:
    return [name for name, _ in call.operands] if isinstance(call, Product) else call[1]


def _targets(values: Values, carried: Sequence[Recorded], outputs: Sequence[Recorded]) -> Targets:
    """Return copies of the step's results, which the last kernel stores where they belong."""
    targets = Targets()
    givens = [value for value in values.all if value.name.startswith("carry")]
    for given, array in zip(givens, carried, strict=True):
        final = values.of(array).value
        if final is not given:
            layout = Layout(final.layout.shape, final.layout.strides)
            copy = Value("elementwise", given.dtype, layout, "copy", (final.whole,), given.dtype)
            targets.carry[values.add(copy)] = given
    for i, output in enumerate(outputs):
        operand = values.of(output)
        layout, dtype = packed_layout(operand.layout.shape), operand.value.dtype
        copy = Value("elementwise", dtype, layout, "copy", (operand,), dtype)
        targets.figures[values.add(copy)] = [f"figure{i}"]
    return targets


def _kernels(
    values: Values,
    results: Sequence[Value],
    targets: Targets,
    early: Sequence[tuple[Value, int]],
) -> tuple[list[Kernel], Any]:
    launches = launches_of(values.all, results, early)
    kernels = []
    for number, tasks in enumerate(launches.kernels):
        here = {
            value
            for value in values.all
            if value.kind == "elementwise"
            and not (value in launches.stored and launches.kernel[value] < number)
        }
        last = number == len(launches.kernels) - 1
        kernels.append(kernel_of(tasks, here, last, targets))
    return kernels, launches


def _placed(
    kernels: Sequence[Kernel], products: Sequence[Sequence[Value]]
) -> tuple[dict[Value, int], int]:
    """Return where the values of each launch lie in the program's memory, and its size.

    A place is free again when the last launch that reads it is over.
    """
    # products come before the kernel of the same number
    made: dict[Value, int] = {}
    last: dict[Value, int] = {}
    for number, kernel in enumerate(kernels):
        for product in products[number]:
            made[product] = last[product] = 2 * number
            last |= {v: 2 * number for v in product.sources if v in made}
        for value in kernel.writes:
            made[value] = last[value] = 2 * number + 1
        last |= dict.fromkeys(kernel.reads, 2 * number + 1)
    places: dict[Value, int] = {}
    free: list[tuple[int, int, int]] = []  # the size of a place, where it is, when it is free
    end = 0
    for value, time in made.items():
        size = -(-value.layout.size * value.dtype.itemsize // _ALIGNED) * _ALIGNED
        fits = [place for place in free if place[0] >= size and place[2] < time]
        if fits:
            best = min(fits)
            free.remove(best)
            length, start, _ = best
        else:
            length, start, end = size, end, end + size
        places[value] = start
        free.append((length, start, last[value]))
    return places, max(end, 1)


def _product(value: Value, places: dict[Value, int]) -> Product:
    a, b = value.operands
    transposed, leading, operands = [], [], []
    for operand in (b, a):
        (rows, columns), (down, across) = operand.layout.shape, operand.layout.strides
        by_row = (across == 1 or columns == 1) and (down >= columns or rows == 1)
        transposed.append(not by_row)
        least = columns if by_row else rows
        stride = (down if rows > 1 else least) if by_row else (across if columns > 1 else least)
        leading.append(max(stride, least))
        operands.append(_place(operand, places))
    (rows, columns), inner = value.layout.shape, a.layout.shape[1]
    return Product(
        value.dtype, (transposed[0], transposed[1]), (columns, rows, inner),
        (operands[0], operands[1]), (leading[0], leading[1], columns), places[value],
    )  # fmt: skip


def _place(operand: Operand, places: dict[Value, int]) -> tuple[str, int]:
    value, start = operand.value, operand.layout.start * operand.value.dtype.itemsize
    if value.kind == "given":
        return value.name, start
    if value.kind == "constant":
        return f"c{value.number}", start
    return "memory", places[value] + start
