"""`Program`: a recorded step as a list of calls, each into a buffer that is kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from xpnn.recording.calls import call_of, take
from xpnn.recording.joining import joined
from xpnn.recording.layout import aligned, order, packed
from xpnn.recording.nodes import CheckError, Node, RecordingError, copying, refs_in, resolve
from xpnn.recording.recorder import Recorded, Recording

Array = np.ndarray


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
    carry
        The arrays that it works on in place of the given ones that are carried, which they may be.
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
                    [k for k in order(array) if array.shape[k] > 1]
                    for array in (after.value, given.value)
                ]
                if orders[0] != orders[1]:
                    raise RecordingError("a step's carry changed its layout")
                nodes.append(copying(key(given), key(after)))
        if any(recording.sources[root(key(output))] == "given" for output in outputs):
            raise RecordingError("an output is what the step was given")
        figures = {root(key(output)) for output in outputs}
        givens = [key(given) for given, _ in carried]
        nodes = _live(nodes, {*figures, *map(root, givens)}, root)
        nodes = joined(recording, nodes, set(givens), figures)
        changing = {root(key(row))} | {root(n.out) for n in nodes if n.kind == "mutate"}
        once, each = [], []
        for node in nodes:
            if node.kind == "check" or changing & {root(node.out), *map(root, refs_in(node))}:
                each.append(node)
                changing.add(root(node.out))
            else:
                once.append(node)
        arrays = list(recording.arrays)
        arrays[key(row)] = np.empty_like(arrays[key(row)])
        _place(recording, once, arrays, keep=figures | {root(k) for n in each for k in refs_in(n)})
        _place(recording, each, arrays, keep=figures)
        self._once = [call_of(node, arrays) for node in once if node.kind != "view"]
        self._row = arrays[key(row)]
        self._row_is_kept = root(key(row)) not in recording.mutated
        self._places: float = math.inf  # that the rows' numbers must be below
        self.operations = [self._operation(node, arrays) for node in each if node.kind != "view"]
        self._each = [(operation.function, operation.args) for operation in self.operations]
        self._outputs = [arrays[key(output)] for output in outputs]
        self.carry = [arrays[given] for given in givens]

    def _operation(self, node: Node, arrays: list[Array]) -> Operation:
        function, args = call_of(node, arrays)
        if function is take and args[1] is self._row and self._row_is_kept:
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


def _live(nodes: list[Node], wanted: set[int], root: Callable[[int], int]) -> list[Node]:
    """Return the nodes that `wanted` arrays and checks depend on."""
    live, kept = set(wanted), []
    for node in reversed(nodes):
        if node.kind == "check" or root(node.out) in live:
            live |= {root(k) for k in refs_in(node)}
            kept.append(node)
    return kept[::-1]


def _place(recording: Recording, nodes: list[Node], arrays: list[Array], *, keep: set[int]) -> None:
    """Give each call its buffer, free ones first, and make the views of them anew."""
    root = recording.root
    last = {root(k): i for i, n in enumerate(nodes) for k in (*refs_in(n), n.out)}
    free: dict[int, list[Array]] = {}
    memory: dict[int, Array] = {}

    def buffer(size: int) -> Array:
        pool = free.get(size)
        return pool.pop() if pool else aligned(size)

    for i, node in enumerate(nodes):
        reads = {root(k) for k in refs_in(node)}
        dying = [k for k in reads if last[k] == i and k in memory and k not in keep]
        if node.kind == "view":
            arrays[node.out] = np.asarray(
                node.function(*resolve(node.args, arrays), **resolve(node.kwargs, arrays))
            )
            viewed = arrays[recording.viewed[node.out]]
            if viewed.size and not np.may_share_memory(arrays[node.out], viewed):
                raise RecordingError("a view became a copy")
        elif node.kind == "part":
            block = recording.viewed[node.out]
            if arrays[block] is recording.arrays[block]:
                like = recording.arrays[block]
                memory[block] = buffer(like.nbytes)
                arrays[block] = memory[block].view(like.dtype)
                recording.lay(block, arrays)
        elif node.kind == "call":
            like = recording.arrays[node.out]
            size = max(like.nbytes, 1)
            operand = _overwritable(node, dying, arrays, like)
            if operand is not None:
                dying.remove(operand)
                memory[node.out] = memory[operand]
            else:
                memory[node.out] = buffer(size)
            arrays[node.out] = np.ndarray(
                like.shape, like.dtype, memory[node.out], strides=packed(like)
            )
        for k in dying:
            free.setdefault(max(recording.arrays[k].nbytes, 1), []).append(memory[k])


def _overwritable(node: Node, dying: list[int], arrays: list[Array], like: Array) -> int | None:
    """Return an operand of an elementwise operation whose memory the result may take."""
    if not isinstance(node.function, np.ufunc) or node.function.signature:
        return None
    for k in refs_in(node.args):
        array = arrays[k]
        same = (array.dtype, array.shape, array.strides) == (like.dtype, like.shape, packed(like))
        if k in dying and same:
            return k
    return None
