"""`Fold`: steps that are recorded, and played once they are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from xpnn._core.tree import leaves, rebuilt, structure
from xpnn.recording.digests import signature_of
from xpnn.recording.layout import is_packed
from xpnn.recording.nodes import RecordingError
from xpnn.recording.program import Program
from xpnn.recording.recorder import Namespace, Recorded, Recording

Array = np.ndarray


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
    form: Any  # two calls with the same one, and the same raw arrays, have the same program


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
        around = [self._leaf.raw(leaf) for leaf in leaves(context)]
        contexts = [array for array, _ in around]
        raw = _apart([array for array, _ in held], contexts)
        known = [fact for _, fact in held]
        indices, _ = self._leaf.raw(rows)
        form = (
            *(tuple(known), tuple(fact for _, fact in around)),
            *(structure(carry), structure(context)),
            *(indices.shape[1:], indices.strides[1:], indices.dtype),
            tuple(map(id, contexts)),
        )
        given = _Given(carry, raw, known, rows, indices, context, form)
        played = self._programs.get((form, *map(id, raw)))
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
        carry, raw, known, rows, indices, context, form = given
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
        self._programs[(form, *map(id, played.program.carry))] = played
        _begin(figures, played.dtypes, len(indices))
        for figure, output in zip(figures, outputs, strict=True):
            figure[start] = output
        return self._carry(carry, played.program.carry, played), 1

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
            if not all(map(is_packed, (*originals, raw(rows)[0][i]))):
                raise RecordingError("an array with gaps")
            given = [recording.give(array.copy(order="K")) for array in originals]
            lifted = rebuilt(
                carry, (wrapped(g, raw(b)[1]) for g, b in zip(given, before, strict=True))
            )
            row = recording.give(raw(rows)[0][i])
            around = rebuilt(
                context,
                (wrapped(recording.give(array), fact) for array, fact in map(raw, leaves(context))),
            )
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
            signature = signature_of(recording, (*after, *figures))
            program = Program(recording, row, pairs, figures)
        finally:
            self._xp.record(None)
        for own, new in zip(program.carry, after, strict=True):
            np.copyto(own, new.value)
        dtypes = [figure.dtype for figure in figures]
        held = (program.carry, [raw(leaf)[0] for leaf in leaves(context)])
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
