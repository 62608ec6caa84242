"""`CardFold`: does a step for each row of a matrix, by the launches of a `CardProgram`.

The step isn't done while it is recorded: it is carried out on the host with zeros, only to note
which operations it consists of. That is done twice at the beginning, because a step that counts
its calls in Python, or draws from `numpy.random`, does something else the second time. It must not
ask for the value of an array, which isn't there. Where it does, or where it has an operation that
no kernel is written for, it is carried out operation by operation, and `CardFold.reason` says why.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from xpnn._core.tree import leaves, rebuilt, structure
from xpnn.recording.card.program import Card, CardProgram
from xpnn.recording.digests import digests_of
from xpnn.recording.fold import MOST_DIFFERENCES, MOST_PROGRAMS, PLAIN, Leaf, reason_of, returned
from xpnn.recording.layout import is_packed
from xpnn.recording.nodes import RecordingError
from xpnn.recording.recorder import Recorded, RecordingNamespace

Array = Any
Run = Callable[..., tuple[Any, tuple[Array, ...]]]

_LOG = logging.getLogger("xpnn.recording")

# Evaluations of mini-batches with fewer rows are carried out operation by operation: data sets have
# many sizes, and a program for each takes a second to be compiled. This depends on nothing but the
# mini-batch, so that a set which is read in chunks has the same figures as in memory.
_LEAST_ROWS = 1000


class _Recorded(NamedTuple):
    """A program and what a fold must know of it."""

    program: CardProgram
    facts: list[Any]  # what is known of the carry's arrays after the step
    outputs: list[tuple[tuple[int, ...], Any]]  # the shapes and dtypes of the outputs


class CardFold:
    """``run(carry, rows, *context)`` of `Backend.fold`, in few launches.

    Parameters
    ----------
    step
        ``carry, outputs = step(carry, row, *context)``, as for `recording.Fold`.
    xp
        The `recording_namespace` of NumPy's.
    card
        Where it runs.
    empty
        ``empty(shape, dtype)`` returns an array on the card.
    eager
        The same as this fold, operation by operation.
    leaf
        How carry, rows and context hold their arrays.

    Attributes
    ----------
    reason
        Why the step is carried out operation by operation, None if it isn't.
    """

    def __init__(
        self,
        step: Callable[..., Any],
        xp: RecordingNamespace,
        card: Card,
        empty: Callable[..., Array],
        eager: Run,
        leaf: Leaf = PLAIN,
    ) -> None:
        self._step, self._xp, self._card, self._leaf = step, xp, card, leaf
        self._empty, self._eager = empty, eager
        self._programs: dict[Any, _Recorded] = {}
        self.reason: str | None = None

    def __call__(self, carry: Any, rows: Any, *context: Any) -> tuple[Any, tuple[Any, ...]]:
        """Step through the rows; return the last carry and each output's values.

        The arrays of `carry` are taken over: they are written to.
        """
        raw, restored = self._leaf.raw, self._leaf.restored
        count, start = rows.shape[0], 0
        indices = raw(rows)[0]
        indices = indices if indices.flags.c_contiguous else indices.copy()
        figures: list[Array] = []
        while start < count:
            found = self._loaded(carry, rows, context)
            if found is None:
                carry, rest = self._eager(carry, rows[start:, ...], *context)
                if not figures:
                    return carry, rest
                for figure, own in zip(figures, rest, strict=True):
                    figure[start:] = raw(own)[0]
                break
            program, facts, outputs = found
            if not figures:
                figures = [self._empty((count, *shape), dtype) for shape, dtype in outputs]
            arrays = _apart([raw(leaf)[0] for leaf in leaves(carry)], self._card)
            # a step may change what is known of its carry; the next one is another program then
            same = facts == [raw(leaf)[1] for leaf in leaves(carry)]
            end = count if same else start + 1
            around = [raw(leaf)[0] for leaf in leaves(context)]
            program.play(arrays, around, indices, figures, range(start, end))
            carry = rebuilt(carry, map(restored, arrays, facts))
            start = end
        return carry, tuple(restored(figure, None) for figure in figures)

    @property
    def programs(self) -> list[CardProgram]:
        """What was recorded so far."""
        return [program for program, *_ in self._programs.values()]

    def program(self, carry: Any, rows: Any, context: tuple[Any, ...]) -> _Recorded | None:
        """Return the program of a step, what is known of its carry after it, and its outputs.

        A program belongs to a form of what the step is given: arrays may be others.
        """
        if self.reason is not None:
            return None
        raw = self._leaf.raw
        given = [raw(leaf) for leaf in (*leaves(carry), *leaves(context))]
        form = (
            structure(carry), structure(context), rows.shape[1:], str(raw(rows)[0].dtype),
            *((array.shape, str(array.dtype), array.strides, facts) for array, facts in given),
        )  # fmt: skip
        if form not in self._programs:
            try:
                found = self._recorded(carry, rows, context)
            except Exception as error:  # an error of the step itself will be raised again eagerly
                self._give_up(error)
                return None
            if len(self._programs) == MOST_PROGRAMS:
                del self._programs[next(iter(self._programs))]
            self._programs[form] = found
        return self._programs[form]

    def _loaded(self, carry: Any, rows: Any, context: tuple[Any, ...]) -> _Recorded | None:
        """Return the program of a step, compiled; None if it isn't played."""
        found = self.program(carry, rows, context)
        if found is None or (not found.program.changes and rows.shape[1] < _LEAST_ROWS):
            return None
        try:
            found.program.load()
        except Exception as error:  # such as one of the compiler
            self._give_up(error)
            return None
        return found

    def _give_up(self, error: Exception) -> None:
        self.reason = reason_of(error)
        name = getattr(self._step, "__qualname__", type(self._step).__name__)
        _LOG.warning("%s is carried out operation by operation: %s", name, self.reason)

    def _recorded(self, carry: Any, rows: Any, context: tuple[Any, ...]) -> _Recorded:
        if self._xp.records():
            raise RecordingError("a step runs steps of its own")
        digests: list[list[bytes]] = []
        for _ in range(1 + MOST_DIFFERENCES):
            with self._xp.record() as recording, np.errstate(all="ignore"):
                row, pairs, around, outputs, facts = self._traced(recording, carry, rows, context)
            after = [new for _, new in pairs]
            digests.append(digests_of(recording, (*after, *outputs)))
            if len(digests) > 1 and digests[-1] == digests[-2]:
                break
        else:
            raise RecordingError("recordings of the step differ")
        program = CardProgram(recording, row, pairs, around, outputs, self._card)
        return _Recorded(program, facts, [(output.shape, output.dtype) for output in outputs])

    def _traced(
        self, recording: Any, carry: Any, rows: Any, context: tuple[Any, ...]
    ) -> tuple[
        Recorded, list[tuple[Recorded, Recorded]], list[Recorded], list[Recorded], list[Any]
    ]:
        """Carry the step out with zeros; return its arrays that record, and what is known."""
        raw, wrapped = self._leaf.raw, self._leaf.wrapped
        held = [raw(leaf) for leaf in leaves(carry)]
        around = [raw(leaf) for leaf in leaves(context)]
        if not all(is_packed(_zeros(array)) for array, _ in held):
            raise RecordingError("an array of the carry has gaps in memory")
        own = [recording.give(_zeros(array)) for array, _ in held]
        others = [recording.give(_zeros(array)) for array, _ in around]
        indices, known = raw(rows)
        row = recording.give(np.zeros(indices.shape[1:], indices.dtype))
        new, outputs = self._step(
            rebuilt(carry, map(wrapped, own, [facts for _, facts in held])),
            wrapped(row, known),
            *rebuilt(context, map(wrapped, others, [facts for _, facts in around])),
        )
        after, facts, figures = returned(self._leaf, carry, own, new, outputs)
        return row, list(zip(own, after, strict=True)), others, figures, facts


def _zeros(array: Array) -> np.ndarray:
    """Return zeros of the host in the layout of an array of the card."""
    reach = sum((n - 1) * stride for n, stride in zip(array.shape, array.strides, strict=True))
    if not array.size or min(array.strides, default=0) < 0:
        raise RecordingError("an array is empty, or goes backwards in memory")
    # memory of zeros isn't there before it is written to: a data set takes none
    memory = np.zeros(reach // array.itemsize + 1, array.dtype)
    return np.ndarray(array.shape, array.dtype, memory, 0, array.strides)


def _apart(arrays: Sequence[Array], card: Card) -> list[Array]:
    """Return arrays of a carry that share no memory; those that do are copied."""
    apart: list[Array] = []
    spans: list[tuple[int, int]] = []
    for array in arrays:
        begin = card.pointer(array)
        if any(begin < end and start < begin + array.nbytes for start, end in spans):
            array = array.copy()
            begin = card.pointer(array)
        spans.append((begin, begin + array.nbytes))
        apart.append(array)
    return apart
