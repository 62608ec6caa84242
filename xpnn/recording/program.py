"""`Program`: a recorded step as a list of calls, each into a buffer that is kept.

From the nodes of a recording to its calls:

1. A step's new carry must end up where the next step looks for it: in the carry's own arrays.
   Where the step made a new array instead, a node is added that copies it there (`carry_copies`).
2. Nodes that nothing depends on are left out (`live`).
3. Equal chains at the end become one (`xpnn.recording.joining`).
4. Nodes are split into those that are carried out in each step, and those whose result is the same
   in all steps of a call of `play`, which are carried out at its beginning (`_split`).
5. Each call gets a buffer (`_allocate`).

The order matters: dead nodes would keep chains from being equal or from being at the end, and
buffers can only be given when it is known which node reads an array last.

Throughout, arrays are compared by their `Recording.root`, the array that owns the memory: to write
to a view is to write to its root, and a buffer is in use as long as any view of it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from xpnn.recording.calls import Call, call_of, take
from xpnn.recording.joining import join_chains
from xpnn.recording.layout import aligned, order, packed
from xpnn.recording.nodes import CheckError, Node, RecordingError, copying, refs_in, resolve
from xpnn.recording.origin import Origin
from xpnn.recording.pace import Pace
from xpnn.recording.recorder import Recorded, Recording
from xpnn.recording.threads import blas, shared

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
        Pairs: a given array of the carry, and the array that the step returns for it.
    outputs
        The 0-d arrays that a step returns.
    threads
        How many may work on a step. They change no bit.

    Attributes
    ----------
    operations
        The calls of each step, in order. Views need none, and what is the same in all steps isn't
        among them.
    carry
        The arrays of the carry, which the program reads and changes: the given ones, or views of a
        block that has taken over their values.
    outputs
        The 0-d arrays that hold the outputs of the last step.

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
        threads: int = 1,
    ) -> None:
        key, root = recording.key, recording.root
        figures = {root(key(output)) for output in outputs}
        if any(recording.sources[figure] == "given" for figure in figures):
            # outputs are read after the step, when the carry may hold the next step's values
            raise RecordingError("the step returns an array that it was given as an output")
        givens = [key(given) for given, _ in carried]
        nodes = [*recording.nodes, *carry_copies(recording, carried)]
        nodes = live(nodes, {*figures, *map(root, givens)}, root)
        nodes = join_chains(recording, nodes, set(givens), figures)
        once, each = _split(nodes, root(key(row)), root)
        arrays = list(recording.arrays)
        # the recorded row is the caller's; `play` copies each row into an array of the program
        arrays[key(row)] = np.empty_like(arrays[key(row)])
        # what is computed at the beginning must survive until the last step has read it
        read = {root(k) for node in each for k in node.refs}
        _allocate(recording, once, arrays, keep=figures | read)
        _allocate(recording, each, arrays, keep=figures)
        self._once = [call_of(node, arrays) for node in once if node.kind != "view"]
        self._row = arrays[key(row)]
        self._row_is_kept = root(key(row)) not in recording.mutated
        self._end: float = math.inf  # what the rows' indices must be below
        nodes = [node for node in each if node.kind != "view"]
        self.operations = [self._operation(node, arrays) for node in nodes]
        self._each: list[Call] = [(o.function, o.args) for o in self.operations]
        parted = [shared(node, arrays, threads) if threads > 1 else None for node in nodes]
        # the same, by several threads
        self._shared = [part or call for part, call in zip(parted, self._each, strict=True)]
        self._pace = Pace() if any(parted) else None
        self.outputs = [arrays[key(output)] for output in outputs]
        self.carry = [arrays[given] for given in givens]

    def _operation(self, node: Node, arrays: list[Array]) -> Operation:
        """Return the call of a node; that of a batch's rows without a check of their indices."""
        function, args = call_of(node, arrays)
        if function is take and args[1] is self._row and self._row_is_kept:
            # `play` checks the indices of all rows beforehand, so that no step has to. A step that
            # changes its row in place takes other indices, which `play` doesn't see.
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
            ``eager(i, origin)`` does step i and writes its outputs. It is called where a check
            fails; the check comes from the line `origin`. All checks come before the first change
            of the carry, so the carry is as the step before left it.

        Raises
        ------
        IndexError
            If an index in `rows` is negative or too large.
        """
        are_indices = rows.size and self._end < math.inf
        if are_indices and (rows.min() < 0 or rows.max() >= self._end):
            raise IndexError(f"an index is beyond the {self._end} rows of the data")
        self._begin()
        if self._pace is None:
            self._play(self._each, range(len(rows)), rows, figures, eager)
            return
        done = 0
        for together, steps in self._pace.turns(len(rows)):
            with blas.lent() as lent:
                calls = self._shared if together and lent else self._each
                self._play(calls, range(done, done + steps), rows, figures, eager)
            done += steps

    def _play(
        self,
        calls: list[Call],
        steps: range,
        rows: Array,
        figures: Sequence[Array],
        eager: Callable[[int, Origin | None], None],
    ) -> None:
        row, outputs = self._row, self.outputs
        for i in steps:
            row[...] = rows[i]
            try:
                for function, args in calls:
                    function(*args)
            except CheckError as check:
                eager(i, *check.args)
                # the eager step may have changed what the others take for the same in all steps
                self._begin()
                continue
            for figure, output in zip(figures, outputs, strict=True):
                figure[i] = output


def carry_copies(recording: Recording, carried: Sequence[tuple[Recorded, Recorded]]) -> list[Node]:
    """Return nodes that copy the new carry into the given arrays, where it isn't there already."""
    key, root = recording.key, recording.root
    if len({root(key(after)) for _, after in carried}) < len(carried):
        # in eager steps, a change of one in place would change the other; two copies are separate
        raise RecordingError("the step returns one array twice in its carry")
    nodes = []
    for given, after in carried:
        if key(given) == key(after):
            continue
        if recording.sources[root(key(after))] == "given":
            # it may be overwritten before it is copied: with a, b = b, a both would be b
            raise RecordingError("the step returns a given array at another position of its carry")
        # axes of length 1 may be anywhere in the order
        orders = [
            [k for k in order(array) if array.shape[k] > 1] for array in (after.value, given.value)
        ]
        if orders[0] != orders[1]:
            # the copy would have another layout than an eager step's array, and products other bits
            raise RecordingError("the step changes the order of axes of its carry")
        nodes.append(copying(key(given), key(after)))
    return nodes


def live(nodes: list[Node], wanted: set[int], root: Callable[[int], int]) -> list[Node]:
    """Return the nodes that `wanted` arrays and checks depend on.

    It goes backwards: a node is live if its result, or the array that it changes, is wanted by a
    later node. Then what the node reads is wanted too. A wanted array stays wanted, because nodes
    further back may change it in place.
    """
    live, kept = set(wanted), []
    for node in reversed(nodes):
        if node.kind == "check" or root(node.out) in live:
            live |= {root(k) for k in node.refs}
            kept.append(node)
    return kept[::-1]


def _split(
    nodes: list[Node], row: int, root: Callable[[int], int]
) -> tuple[list[Node], list[Node]]:
    """Return the nodes whose results are the same in all steps, and the nodes of each step.

    What depends on the row differs from step to step. So does what depends on an array that some
    node changes in place, even if it is read before that node: in the next step it has changed.
    """
    changing = {row} | {root(node.out) for node in nodes if node.kind == "mutate"}
    once, each = [], []
    for node in nodes:
        if node.kind == "check" or changing & {root(node.out), *map(root, node.refs)}:
            each.append(node)
            changing.add(root(node.out))
        else:
            once.append(node)
    return once, each


def _allocate(
    recording: Recording, nodes: list[Node], arrays: list[Array], *, keep: set[int]
) -> None:
    """Give each call its buffer in `arrays`, and make the views of buffers anew.

    It works as a compiler assigns registers: a buffer is free again after the last node that reads
    it, or any view of it, and the next result of its size takes it. The one that was freed last is
    taken first, because it is most likely still in the processor's cache. Arrays in `keep` are read
    later, so their buffers never become free. Neither does what isn't in a buffer of these nodes,
    such as the carry, the caller's data and what other nodes computed.
    """
    root = recording.root
    # the last node that uses each array: later ones overwrite earlier ones in the dictionary
    last = {root(k): i for i, n in enumerate(nodes) for k in (*n.refs, n.out)}
    free: dict[int, list[Array]] = {}  # buffers by size, each of which fits arrays of its size only
    memory: dict[int, Array] = {}  # the buffer of each array that these nodes made

    def buffer(size: int) -> Array:
        pool = free.get(size)
        return pool.pop() if pool else aligned(size)

    for i, node in enumerate(nodes):
        reads = {root(k) for k in node.refs}
        dying = [k for k in reads if last[k] == i and k in memory and k not in keep]
        if node.kind == "view":
            arrays[node.out] = np.asarray(
                node.function(*resolve(node.args, arrays), **resolve(node.kwargs, arrays))
            )
            viewed = arrays[recording.bases[node.out]]
            if viewed.size and not np.may_share_memory(arrays[node.out], viewed):
                # whether reshape copies, for example, depends on the strides of its operand
                raise RecordingError(f"{node.title} returned a view, and a copy afterwards")
        elif node.kind == "piece":
            block = recording.bases[node.out]
            if arrays[block] is recording.arrays[block]:
                # its first piece: from now on all pieces are views of the block's buffer
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
        # only now, because the node reads these operands while it writes its result
        for k in dying:
            free.setdefault(max(recording.arrays[k].nbytes, 1), []).append(memory[k])


def _overwritable(node: Node, dying: list[int], arrays: list[Array], like: Array) -> int | None:
    """Return a dying operand that an elementwise operation may overwrite, None if there is none.

    It must have the layout of the result: then each element is read before it is overwritten.
    """
    if not isinstance(node.function, np.ufunc) or node.function.signature:
        return None
    for k in refs_in(node.args):
        array = arrays[k]
        same = (array.dtype, array.shape, array.strides) == (like.dtype, like.shape, packed(like))
        if k in dying and same:
            return k
    return None
