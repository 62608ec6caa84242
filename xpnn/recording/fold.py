"""`Fold`: does a step for each row of a matrix, and plays it from a recording once that is trusted.

The first `EAGER_STEPS` steps with the same data and size of mini-batch run eagerly, unless they
take long: most likely, too few follow to be worth a recording. After them, a program belongs to a
form of what a step is given (`_Given.form`) and to the arrays of the carry. For each such pair,

1. the first step is carried out with arrays that record, and what they recorded becomes a program.
   It isn't trusted yet: a step that counts its calls in Python, or draws from `numpy.random`,
   records a program too, but one that would repeat the first step.
2. The second step is recorded again. If both recordings do the same, the program is trusted. If
   not, the next step counts as the second one; if that happens too often, the step is given up.
3. From then on, the program is played. Where the step asked for the truth of an array, the program
   checks it; a step in which it differs is carried out eagerly.

A step that is given up runs eagerly from then on, and `Fold.reason` says why.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from xpnn._core.tree import leaves, rebuilt, structure
from xpnn.recording.digests import digests_of, first_difference
from xpnn.recording.layout import is_packed
from xpnn.recording.nodes import Node, RecordingError
from xpnn.recording.origin import Origin, origin_of_error
from xpnn.recording.program import Program
from xpnn.recording.recorder import Recorded, Recording, RecordingNamespace
from xpnn.recording.threads import blas

Array = np.ndarray

_LOG = logging.getLogger("xpnn.recording")

# Two recordings take as long as playing them saves in 40 to 160 steps, of networks of 100 to 1,500
# units, native and reproducible. So waiting for this many costs at most about as much again.
EAGER_STEPS = 100
_EAGER_SECONDS = 0.05  # as long as the two recordings take

# programs that a fold keeps, such as those of the first steps, the last batch, another data set
MOST_PROGRAMS = 12

# how often recordings may differ before the step is given up as one that never repeats itself
MOST_DIFFERENCES = 3


class Leaf(NamedTuple):
    """How carry, rows and context hold NumPy's arrays: as they are, or wrapped.

    Attributes
    ----------
    raw
        ``array, facts = raw(leaf)``: the array in a leaf, and what else the leaf knows of it.
    wrapped
        ``leaf = wrapped(array, facts)``: a leaf for a step that is being recorded.
    restored
        ``leaf = restored(array, facts)``: a leaf of the caller's kind.
    """

    raw: Callable[[Any], tuple[Any, Any]]
    wrapped: Callable[[Any, Any], Any]
    restored: Callable[[Any, Any], Any]


PLAIN = Leaf(
    raw=lambda leaf: (leaf, None),
    wrapped=lambda raw, _: raw,
    restored=lambda raw, _: raw,
)


class _Given(NamedTuple):
    """What the next steps of a fold are given."""

    carry: Any  # as the step takes it
    arrays: list[Array]  # those of the carry; no two share memory
    facts: list[Any]  # what is known of these arrays
    rows: Any  # a row for each step
    indices: Array  # the array in `rows`
    context: tuple[Any, ...]  # as the step takes it
    # What a program depends on besides the carry's arrays. It has the ids of the context's arrays,
    # because a program reads them where they are.
    form: Any

    @property
    def key(self) -> tuple[Any, ...]:
        """What a program is found by: the form, and the ids of the carry's arrays."""
        return (self.form, *map(id, self.arrays))


class _Played(NamedTuple):
    """A program and what a fold must know of it."""

    program: Program
    facts: list[Any]  # what is known of the carry's arrays after the step
    # The context's arrays. The program is found by their ids and by those of the carry's arrays,
    # which it holds itself: when an object is gone, another one may get its id.
    context: list[Array]
    digests: list[bytes]  # see `digests_of`
    nodes: list[Node]  # what was recorded
    trusted: bool = False  # whether a second recording did the same


class Fold:
    """``run(carry, rows, *context)`` of `Backend.fold`, recorded.

    Parameters
    ----------
    step
        ``carry, outputs = step(carry, row, *context)``: a pure function, except that it may change
        the arrays of the carry in place.
    xp
        The `recording_namespace`.
    leaf
        How carry, rows and context hold their arrays.

    Attributes
    ----------
    reason
        Why the step can't be recorded, with the line of code that is the cause; None as long as it
        can. It is also logged as a warning, once, when the step first runs eagerly.
    """

    def __init__(
        self, step: Callable[..., Any], xp: RecordingNamespace, leaf: Leaf = PLAIN
    ) -> None:
        self._step, self._xp, self._leaf = step, xp, leaf
        self._programs: dict[Any, _Played] = {}
        # eager steps with the same data and size of mini-batch: how many, and their seconds
        self._eager: dict[Any, tuple[int, float]] = {}
        self._differences = 0
        self._logged: set[str] = set()
        self.reason: str | None = None

    def __call__(self, carry: Any, rows: Any, *context: Any) -> tuple[Any, tuple[Any, ...]]:
        """Step through the rows; return the last carry and each output's values.

        The arrays of `carry` are taken over: they are written to.
        """
        if self._xp.records():
            raise RecordingError("a step runs steps of its own")
        figures: list[Array] = []
        count = rows.shape[0]
        data = rows.shape[1:], *(id(self._leaf.raw(leaf)[0]) for leaf in leaves(context))
        steps, seconds = self._eager.pop(data, (0, 0.0))
        start = 0
        with blas.on_one_thread():
            while start < count and steps < EAGER_STEPS and seconds < _EAGER_SECONDS:
                begun = time.perf_counter()
                carry = self._eagerly(carry, rows, start, context, figures)
                start, steps = start + 1, steps + 1
                seconds += time.perf_counter() - begun
            _keep(self._eager, data, (steps, seconds))
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
        """Go on from step `start`; return the carry and the number of steps done."""
        given = self._given(carry, rows, context)
        played = self._programs.get(given.key)
        if played is not None and played.trusted:
            return self._play(given, played, start, figures)
        if self.reason is None:
            return self._record(given, played, start, figures)
        carry = self._eagerly(carry, rows, start, context, figures)
        self._log(logging.WARNING, "can't be recorded and runs more slowly", self.reason)
        return carry, 1

    def _given(self, carry: Any, rows: Any, context: tuple[Any, ...]) -> _Given:
        held = [self._leaf.raw(leaf) for leaf in leaves(carry)]
        around = [self._leaf.raw(leaf) for leaf in leaves(context)]
        contexts = [array for array, _ in around]
        facts = [fact for _, fact in held]
        indices, _ = self._leaf.raw(rows)
        form = (
            *(tuple(facts), tuple(fact for _, fact in around)),
            *(structure(carry), structure(context)),
            *(indices.shape[1:], indices.strides[1:], indices.dtype),
            tuple(map(id, contexts)),
        )
        arrays = [array for array, _ in held]
        given = _Given(carry, arrays, facts, rows, indices, context, form)
        if given.key in self._programs and all(array.flags.writeable for array in arrays):
            # the very arrays of a program, which were apart when it was recorded
            return given
        return given._replace(arrays=_apart(arrays, contexts))

    def _play(
        self, given: _Given, played: _Played, start: int, figures: list[Array]
    ) -> tuple[Any, int]:
        """Play a program for all steps from `start`, or for one if it changes what is known."""
        carry, arrays, facts, rows, indices, context, _ = given
        _begin(figures, played.program.outputs, len(indices))
        end = len(indices) if played.facts == facts else start + 1

        def eager(i: int, origin: Origin | None) -> None:
            why = f"a condition isn't what it was in the recorded one, in {origin}"
            self._log(logging.INFO, "runs more slowly in some steps", why)
            own = rebuilt(carry, map(self._leaf.restored, arrays, facts))
            after = self._eagerly(own, rows, start + i, context, figures)
            if structure(after) != structure(carry):
                raise ValueError("a step must return a carry of the same structure")
            values = [np.array(self._leaf.raw(leaf)[0]) for leaf in leaves(after)]
            for array, value in zip(arrays, values, strict=True):
                if (array.shape, array.dtype) != (value.shape, value.dtype):
                    raise ValueError("a step must return a carry of the same shapes and dtypes")
                np.copyto(array, value)

        played.program.play(indices[start:end], [f[start:end] for f in figures], eager)
        return self._carry(carry, arrays, played), end - start

    def _record(
        self, given: _Given, before: _Played | None, start: int, figures: list[Array]
    ) -> tuple[Any, int]:
        """Do step `start` and keep its program; do none if it can't be recorded."""
        try:
            with self._xp.record() as recording:
                played, outputs = self._recorded(recording, given, start)
        except Exception as error:  # an error of the step itself will be raised again eagerly
            self.reason = reason_of(error)
            return rebuilt(given.carry, map(self._leaf.restored, given.arrays, given.facts)), 0
        if before is not None:
            position = first_difference(before.digests, played.digests)
            played = played._replace(trusted=position is None)
            if position is not None:
                self._differ(position, played.nodes, before.nodes)
        _keep(self._programs, given._replace(arrays=played.program.carry).key, played)
        _begin(figures, outputs, len(given.indices))
        for figure, output in zip(figures, outputs, strict=True):
            figure[start] = output
        return self._carry(given.carry, played.program.carry, played), 1

    def _recorded(
        self, recording: Recording, given: _Given, start: int
    ) -> tuple[_Played, list[Array]]:
        """Do step `start`; return its program, not trusted yet, and its outputs.

        It is done on copies, so that the carry is as before if anything fails.
        """
        raw, wrapped = self._leaf.raw, self._leaf.wrapped
        index = given.indices[start]
        if not all(map(is_packed, (*given.arrays, index))):
            raise RecordingError("an array of the carry, or a row, has gaps in memory")
        own = [recording.give(array.copy(order="K")) for array in given.arrays]
        row = recording.give(index)
        around = [(recording.give(array), fact) for array, fact in map(raw, leaves(given.context))]
        carry, outputs = self._step(
            rebuilt(given.carry, map(wrapped, own, given.facts)),
            wrapped(row, raw(given.rows)[1]),
            *rebuilt(given.context, (wrapped(array, fact) for array, fact in around)),
        )
        after, facts, figures = returned(self._leaf, given.carry, own, carry, outputs)
        for array, original in zip(own, given.arrays, strict=True):
            # the step was done on a copy, but the program is to work on the carry itself
            recording.arrays[recording.key(array)] = original
        digests = digests_of(recording, (*after, *figures))
        carried = list(zip(own, after, strict=True))
        program = Program(recording, row, carried, figures, blas.several())
        for kept, new in zip(program.carry, after, strict=True):
            np.copyto(kept, new.value)
        context = [raw(leaf)[0] for leaf in leaves(given.context)]
        played = _Played(program, facts, context, digests, recording.nodes)
        return played, [figure.value for figure in figures]

    def _differ(self, position: int, *recordings: list[Node]) -> None:
        """Note that recordings differ from an operation on; give up if that happens too often."""
        self._differences += 1
        if self._differences == MOST_DIFFERENCES:
            # the results differ where neither has such an operation
            nodes = [nodes[position] for nodes in recordings if position < len(nodes)]
            what = f"by {nodes[0].title}, in {nodes[0].origin}" if nodes else "in its results"
            self.reason = f"recordings of the step differ, first {what}"

    def _log(self, level: int, what: str, why: str) -> None:
        """Log what happens to the step and why, each event once."""
        if what not in self._logged:
            self._logged.add(what)
            name = getattr(self._step, "__qualname__", type(self._step).__name__)
            _LOG.log(level, "%s %s: %s", name, what, why)

    def _carry(self, carry: Any, arrays: Sequence[Array], played: _Played) -> Any:
        return rebuilt(carry, map(self._leaf.restored, arrays, played.facts))

    def _eagerly(
        self, carry: Any, rows: Any, i: int, context: tuple[Any, ...], figures: list[Array]
    ) -> Any:
        """Do step i without a recording, write its outputs, and return its carry."""
        carry, outputs = self._step(carry, rows[i, :], *context)
        values = [self._leaf.raw(output)[0] for output in outputs]
        _begin(figures, values, rows.shape[0])
        for k, value in enumerate(values):
            if figures[k].dtype != value.dtype:
                figures[k] = figures[k].astype(np.result_type(figures[k], value))
            figures[k][i] = value
        return carry


def returned(
    leaf: Leaf, before: Any, own: Sequence[Recorded], carry: Any, outputs: Sequence[Any]
) -> tuple[list[Recorded], list[Any], list[Recorded]]:
    """Return the arrays of the carry that a recorded step returned, their facts, and its outputs.

    Parameters
    ----------
    leaf
        How the arrays are held.
    before, own
        The carry that the step was given, and the arrays that recorded in its place.
    carry, outputs
        What the step returned.

    Raises
    ------
    RecordingError
        If the carry isn't as before, or something else is returned than arrays that it computed.
    """
    if structure(carry) != structure(before):
        raise RecordingError("the step changes the structure of its carry")
    found = [leaf.raw(each) for each in leaves(carry)]
    after, facts = [array for array, _ in found], [fact for _, fact in found]
    figures = [leaf.raw(output)[0] for output in outputs]
    for new, old in zip((*after, *figures), (*own, *figures), strict=True):
        if not isinstance(new, Recorded):
            raise RecordingError("the step returns something other than an array it computed")
        if (new.shape, new.dtype) != (old.shape, old.dtype):
            raise RecordingError("the step changes the shape or dtype of its carry")
    return after, facts, figures


def reason_of(error: Exception) -> str:
    """Return in a line why a step can't be recorded."""
    text = " ".join(str(error).split())
    what = text if isinstance(error, RecordingError) else f"{type(error).__name__}: {text}"
    origin = origin_of_error(error)
    return what if origin is None else f"{what}, in {origin}"


def _begin(figures: list[Array], outputs: Sequence[Array], count: int) -> None:
    """Make the arrays for the outputs of all steps, if there are none yet."""
    if not figures:
        figures += [np.empty((count, *output.shape), output.dtype) for output in outputs]


def _keep(kept: dict[Any, Any], key: Any, value: Any) -> None:
    """Keep a value; if there are too many, the first one goes."""
    if key not in kept and len(kept) == MOST_PROGRAMS:
        del kept[next(iter(kept))]
    kept[key] = value


def _apart(arrays: Sequence[Any], others: Sequence[Array]) -> list[Array]:
    """Return arrays that can be written to, each without changing another one or `others`.

    Copied are scalars, read-only arrays, and arrays that share memory with an earlier one or with
    `others`. The rest are the same objects.
    """
    apart: list[Array] = []
    for array in arrays:
        shared = any(np.may_share_memory(array, other) for other in (*apart, *others))
        if shared or not isinstance(array, np.ndarray) or not array.flags.writeable:
            array = np.array(array)
        apart.append(array)
    return apart
