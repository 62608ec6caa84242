"""`Program`: a recorded step as a list of calls, each into a buffer that is kept.

From the nodes of a recording to its calls:

1. What the step hands on must end up where the next step looks for it: in the carry's own arrays.
   Where the step made a new array instead, a node is added that copies it there.
2. Nodes that nothing depends on are left out (`_live`).
3. Equal chains at the end become one (`xpnn.recording.joining`).
4. Nodes are parted into those that are carried out in each step, and those whose result is the
   same in all steps of a call of `play`, which are carried out at its beginning (`_parted`).
5. Each call gets a buffer (`_allocate`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from xpnn.recording.calls import call_of, take
from xpnn.recording.joining import join_chains
from xpnn.recording.layout import aligned, order, packed
from xpnn.recording.nodes import CheckError, Node, RecordingError, copying, refs_in, resolve
from xpnn.recording.origin import Origin
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
        The step. It is used up: its arrays may become views of blocks.
    row
        The given array that differs from step to step.
    carried
        Pairs: a given array that a step hands to the next, and the array that takes its place.
    outputs
        The 0-d arrays that a step returns.

    Attributes
    ----------
    operations
        The calls of each step, in order. Views need none, and what is the same in all steps isn't
        among them.
    carry
        The arrays that the program works on in place of the given ones that are carried: the same
        objects, unless they were laid into a block.

    Raises
    ------
    RecordingError
        If the step returns arrays in a way that can't be repeated.
    """

    def __init__(
        self,
        recording: Recording,
        row: Recorded,
        carried: Sequence[tuple[Recorded, Recorded]],
        outputs: Sequence[Recorded],
    ) -> None:
        key, root = recording.key, recording.root
        figures = {root(key(output)) for output in outputs}
        if any(recording.sources[figure] == "given" for figure in figures):
            raise RecordingError("the step returns an array that it was given as an output")
        givens = [key(given) for given, _ in carried]
        nodes = [*recording.nodes, *_handed_on(recording, carried)]
        nodes = _live(nodes, {*figures, *map(root, givens)}, root)
        nodes = join_chains(recording, nodes, set(givens), figures)
        once, each = _parted(nodes, root(key(row)), root)
        arrays = list(recording.arrays)
        arrays[key(row)] = np.empty_like(arrays[key(row)])
        read = {root(k) for node in each for k in refs_in(node)}
        _allocate(recording, once, arrays, keep=figures | read)
        _allocate(recording, each, arrays, keep=figures)
        self._once = [call_of(node, arrays) for node in once if node.kind != "view"]
        self._row = arrays[key(row)]
        self._row_is_kept = root(key(row)) not in recording.mutated
        self._end: float = math.inf  # what the rows' indices must be below
        self.operations = [self._operation(node, arrays) for node in each if node.kind != "view"]
        self._each = [(operation.function, operation.args) for operation in self.operations]
        self._outputs = [arrays[key(output)] for output in outputs]
        self.carry = [arrays[given] for given in givens]

    def _operation(self, node: Node, arrays: list[Array]) -> Operation:
        function, args = call_of(node, arrays)
        if function is take and args[1] is self._row and self._row_is_kept:
            # `play` looks at all rows beforehand, so that no step has to
            x, indices, axis, out = args
            self._end = min(self._end, x.shape[axis])
            function, args = x.take, (indices, axis, out, "clip")
        return Operation(node.title, arrays[node.out], function, args)

    def _begin(self) -> None:
        for function, args in self._once:
            function(*args)

    def play(
        self,
        rows: Array,
        figures: Sequence[Array],
        eager: Callable[[int, Origin | None], None],
    ) -> None:
        """Step through `rows`; write the outputs of step i to ``figures[k][i]``.

        Parameters
        ----------
        rows
            A row for each step.
        figures
            An array for each output.
        eager
            ``eager(i, origin)`` does step i, and writes its outputs, where a check fails that comes
            from the line `origin`. Checks come before anything that is carried is changed, so the
            carry is as the step before left it.

        Raises
        ------
        IndexError
            If an index in `rows` is negative or too large.
        """
        calls, row, outputs = self._each, self._row, self._outputs
        looked = rows.size and self._end < math.inf
        if looked and (rows.min() < 0 or rows.max() >= self._end):
            raise IndexError(f"an index is beyond the {self._end} rows of the data")
        self._begin()
        for i in range(len(rows)):
            row[...] = rows[i]
            try:
                for function, args in calls:
                    function(*args)
            except CheckError as check:
                eager(i, check.origin)
                # the step may have changed what the others take for the same in all of them
                self._begin()
                continue
            for figure, output in zip(figures, outputs, strict=True):
                figure[i] = output


def _handed_on(recording: Recording, carried: Sequence[tuple[Recorded, Recorded]]) -> list[Node]:
    """Return nodes that copy what a step hands on to where it was given, unless it is there."""
    key, root = recording.key, recording.root
    if len({root(key(after)) for _, after in carried}) < len(carried):
        # eager steps would change both by changing one in place; two copies wouldn't do that
        raise RecordingError("the step hands one array on as two of its carry")
    nodes = []
    for given, after in carried:
        if key(given) == key(after):
            continue
        if recording.sources[root(key(after))] == "given":
            # it may be overwritten before it is copied: with a, b = b, a both would be b
            raise RecordingError("the step hands on what it was given in another one's place")
        # axes of length 1 may be anywhere in the order
        orders = [
            [k for k in order(array) if array.shape[k] > 1] for array in (after.value, given.value)
        ]
        if orders[0] != orders[1]:
            # the copy would have another layout than an eager step's array, and products other bits
            raise RecordingError("the step changes the order of axes of its carry")
        nodes.append(copying(key(given), key(after)))
    return nodes


def _live(nodes: list[Node], wanted: set[int], root: Callable[[int], int]) -> list[Node]:
    """Return the nodes that `wanted` arrays and checks depend on.

    It goes backwards: a node is live if its result, or the array that it changes, is wanted then,
    and makes what it reads wanted.
    """
    live, kept = set(wanted), []
    for node in reversed(nodes):
        if node.kind == "check" or root(node.out) in live:
            live |= {root(k) for k in refs_in(node)}
            kept.append(node)
    return kept[::-1]


def _parted(
    nodes: list[Node], row: int, root: Callable[[int], int]
) -> tuple[list[Node], list[Node]]:
    """Return the nodes whose results are the same in all steps, and the nodes of each step.

    What depends on the row differs from step to step, and so does what depends on an array that
    some node changes in place, even where it is read before: in the next step it was changed.
    """
    changing = {row} | {root(node.out) for node in nodes if node.kind == "mutate"}
    once, each = [], []
    for node in nodes:
        if node.kind == "check" or changing & {root(node.out), *map(root, refs_in(node))}:
            each.append(node)
            changing.add(root(node.out))
        else:
            once.append(node)
    return once, each


def _allocate(
    recording: Recording, nodes: list[Node], arrays: list[Array], *, keep: set[int]
) -> None:
    """Give each call its buffer in `arrays`, and make the views of buffers anew.

    As registers are allotted by a compiler: a buffer is free again after the last node that reads
    it, or any view of it, and the next result of its size takes it. The one that was freed last
    comes first, because it is most likely still in the processor's cache. Arrays in `keep` are read
    later, so their buffers never become free.
    """
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
            viewed = arrays[recording.bases[node.out]]
            if viewed.size and not np.may_share_memory(arrays[node.out], viewed):
                # reshape, for one, copies by the strides of what it is given
                raise RecordingError(f"{node.title} returned a view, and a copy afterwards")
        elif node.kind == "piece":
            block = recording.bases[node.out]
            if arrays[block] is recording.arrays[block]:  # its first piece
                like = recording.arrays[block]
                memory[block] = buffer(like.nbytes)
                arrays[block] = memory[block].view(like.dtype)
                recording.view_pieces(block, arrays)
        elif node.kind == "call":
            like = recording.arrays[node.out]
            size = max(like.nbytes, 1)
            operand = _overwritable(node, dying, arrays, like)
            if operand is not None:
                dying.remove(operand)
                memory[node.out] = memory[operand]
            else:
                memory[node.out] = buffer(size)
            # the strides that the eager result has, because the bits of products depend on them
            arrays[node.out] = np.ndarray(
                like.shape, like.dtype, memory[node.out], strides=packed(like)
            )
        for k in dying:
            free.setdefault(max(recording.arrays[k].nbytes, 1), []).append(memory[k])


def _overwritable(node: Node, dying: list[int], arrays: list[Array], like: Array) -> int | None:
    """Return an operand whose memory the result of an elementwise operation may take.

    It must lie as the result does, so that each element is read before it is overwritten.
    """
    if not isinstance(node.function, np.ufunc) or node.function.signature:
        return None
    for k in refs_in(node.args):
        array = arrays[k]
        same = (array.dtype, array.shape, array.strides) == (like.dtype, like.shape, packed(like))
        if k in dying and same:
            return k
    return None
