"""Steps that are easily recorded wrong, and steps that can't be recorded."""

import itertools
import types

import array_api_compat.numpy as xp
import numpy as np
import pytest

from tests.helpers import (
    DATA,
    RECORDER,
    WEIGHT,
    held_to_eager,
    relu_step,
    rng,
    rows_of,
    with_namespace,
)
from xpnn import recording
from xpnn._core.tree import leaves, rebuilt
from xpnn.backends import Backend


@pytest.mark.parametrize("limit", [-10.0, 3.0, 10.0])
def test_a_branch_on_a_truth_is_taken_as_each_step_has_it(limit):
    @with_namespace
    def step(xp, carry, row, x):
        (w,) = carry
        batch = xp.take(x, row, axis=0)
        y = batch @ w
        if bool(xp.any(y > limit)):
            y = y * 0.5
        w -= 0.01 * (batch.T @ y)
        return (w,), (xp.sum(y),)

    fold = held_to_eager(step, (WEIGHT,), [(rows_of(30), DATA), (rows_of(7), DATA)])
    assert fold.programs


def test_a_truth_asked_for_after_a_change_is_not_recorded():
    @with_namespace
    def step(xp, carry, row, x):
        (w,) = carry
        w -= 0.01 * xp.take(x, row, axis=0)[:3, :].T
        if bool(xp.all(w > 0)):
            w += 1.0
        return (w,), (xp.sum(w),)

    assert not held_to_eager(step, (WEIGHT,), [(rows_of(30), DATA)]).programs


@pytest.mark.parametrize(
    "operation",
    [
        lambda batch: float(batch[0, 0]),
        lambda batch: int(batch[0, 0] * 10),
        lambda batch: np.linalg.norm(batch),
        lambda batch: np.add.reduce(batch, axis=None),
        lambda batch: np.asarray(batch).sum(),
    ],
)
def test_what_leaves_the_array_api_runs_eagerly_and_changes_nothing(operation):
    @with_namespace
    def step(xp, carry, row, x):
        (w,) = carry
        batch = xp.take(x, row, axis=0)
        w += 1.0  # before the recording is given up
        w *= operation(batch)
        return (w,), (xp.sum(w),)

    assert not held_to_eager(step, (WEIGHT,), [(rows_of(4), DATA), (rows_of(2), DATA)]).programs


@pytest.mark.parametrize("change", [lambda n: float(n), lambda n: np.full((5, 3), float(n))])
def test_a_step_that_counts_in_python_runs_eagerly(change):
    def counting():
        counter = itertools.count(1)

        @with_namespace
        def step(xp, carry, row, x):
            (w,) = carry
            w += xp.asarray(change(next(counter)), device="cpu")
            return (w,), (xp.sum(w @ xp.take(x, row, axis=0)[:3, :]),)

        return step

    fold = recording.Fold(counting(), RECORDER)
    eager = Backend.fold(types.SimpleNamespace(xp=xp), counting())
    (carry,), figures = fold((WEIGHT.copy(),), rows_of(9), DATA)
    (expected,), wanted = eager((WEIGHT.copy(),), rows_of(9), DATA)
    assert np.array_equal(carry, expected)
    assert np.array_equal(figures, wanted)


def test_numpys_own_functions_are_recorded():
    @with_namespace
    def step(xp, carry, row, x):
        y = np.exp(-np.abs(xp.take(x, row, axis=0)))
        return carry, (xp.sum(y),)

    assert held_to_eager(step, (WEIGHT,), [(rows_of(4), DATA)]).programs


def test_an_error_of_the_step_is_raised():
    @with_namespace
    def step(xp, carry, row, x):
        return (carry[0] @ carry[0],), ()

    with pytest.raises(ValueError, match="matmul"):
        recording.Fold(step, RECORDER)((WEIGHT.copy(),), rows_of(2), DATA)


def nested(carry, row, x):
    inner = recording.Fold(relu_step, RECORDER)
    (w,), figures = inner((np.ones((5, 3)),), rows_of(2), DATA)
    return carry, (np.sum(w), figures[0][0])


def counted(step):
    """The step by which of two it is, in turn."""
    counter = itertools.count()
    return lambda *args: step[next(counter) % 2](*args)


SCRATCH = np.zeros(5)


def scratched(xp, carry, row, x):
    SCRATCH[...] = 0.0
    batch = xp.take(x, row, axis=0)
    before = batch + SCRATCH
    SCRATCH[...] += 1.0
    return carry, (xp.sum(before), xp.sum(batch + SCRATCH))


def branching(xp, carry, row, x):
    a, b = carry
    total = xp.sum(b * 3.0)
    y = xp.sum(xp.take(x, row, axis=0))
    if bool(y > 0.0):
        a, b = b * 0.5, a + 0.0
    return (a + y * total, b * 1.0), (total,)


# steps that are easily recorded wrong
TRAPS = {
    "the old carry is an output": (
        lambda xp, c, row, x: ((c[0] + 1.0,), (xp.sum(c[0]), c[0][0, 0] * 1.0)),
        lambda: (np.ones((2, 2)),),
    ),
    "a view of the old carry is an output": (
        lambda xp, c, row, x: ((c[0] + 1.0,), (c[0][0, 0],)),
        lambda: (np.ones((2, 2)),),
    ),
    "names in another order": (
        lambda xp, c, row, x: ({"b": c["b"] * 2.0, "a": c["a"] + 1.0}, (xp.sum(c["a"]),)),
        lambda: {"a": np.ones(2), "b": np.ones(2)},
    ),
    "a branch that changes what was computed once": (branching, lambda: (np.ones(2), np.ones(2))),
    "a number that is changed in place": (
        lambda xp, c, row, x: (c, _number(xp, c, row, x)),
        lambda: (np.ones(3),),
    ),
    "a power of numbers": (
        lambda xp, c, row, x: (c, (0.9 ** xp.sum(xp.take(x, row, axis=0)),)),
        lambda: (np.ones(3),),
    ),
    "a shape that depends on values": (
        lambda xp, c, row, x: (c, (xp.sum(xp.unique_values(row) * 1.0),)),
        lambda: (np.ones(3),),
    ),
    "a shape that depends on truths": (
        lambda xp, c, row, x: (c, (xp.sum(x[xp.take(x, row, axis=0)[0, 0] > x]),)),
        lambda: (np.ones(3),),
    ),
    "full_like a number": (
        lambda xp, c, row, x: (c, (xp.sum(xp.full_like(c[0], xp.sum(xp.take(x, row, axis=0)))),)),
        lambda: (np.ones(3),),
    ),
    "a carry in Fortran order": (
        lambda xp, c, row, x: ((c[0] * 0.5 + xp.tanh(c[0].T @ c[0]),), (xp.sum(c[0] @ c[0]),)),
        lambda: (np.asfortranarray(rng(7).standard_normal((5, 5))),),
    ),
    "a carry with gaps": (
        lambda xp, c, row, x: ((c[0] * 0.9,), (xp.sum(xp.reshape(c[0], (-1,))[:7]),)),
        lambda: (rng(7).standard_normal((5, 8))[:, :4],),
    ),
    "reversed rows": (
        lambda xp, c, row, x: (c, (xp.sum(xp.sort(x[:, 0], descending=True) @ x),)),
        lambda: (np.ones(3),),
    ),
    "a carry that is used twice": (
        lambda xp, c, row, x: ((c[0] * 0.5, c[0] * 0.5 + c[1]), (xp.sum(c[1]),)),
        lambda: (WEIGHT, WEIGHT),
    ),
    "one array handed on twice": (
        lambda xp, c, row, x: _twice(xp, c, row, x),
        lambda: (np.ones(3), np.ones(3)),
    ),
    "an array that is written to between two uses": (scratched, lambda: (np.ones(3),)),
    "a fold within the step": (lambda xp, c, row, x: nested(c, row, x), lambda: (np.ones(3),)),
    "negative places": (
        lambda xp, c, row, x: (c, (xp.sum(xp.take(x, row - 5, axis=0)),)),
        lambda: (np.ones(3),),
    ),
    "a column of the batch": (
        lambda xp, c, row, x: (c, (xp.sum(x[row, 0]),)),
        lambda: (np.ones(3),),
    ),
    "a method of NumPy's": (
        lambda xp, c, row, x: (c, (xp.take(x, row, axis=0).sum(),)),
        lambda: (np.ones(3),),
    ),
    "a number for a carry": (
        lambda xp, c, row, x: ((c[0] + xp.sum(x[:, 0]),), (c[0] * 2.0,)),
        lambda: (np.float64(1.0),),
    ),
}


def _number(xp, c, row, x):
    total = xp.sum(xp.take(x, row, axis=0))
    kept = total
    total += 1.0
    return kept, total


def _twice(xp, c, row, x):
    new = c[0] + xp.sum(xp.take(x, row, axis=0)[:, :3], axis=0)
    return (new, new), (xp.sum(c[0] + c[1]),)


@pytest.mark.parametrize("trap", TRAPS)
def test_traps(trap):
    step, start = TRAPS[trap]
    carry = start()
    runs = [(rows_of(5, 2), DATA), (rows_of(4, 2), DATA), (rows_of(3, 2), DATA)]
    fold = recording.Fold(with_namespace(step), RECORDER)
    eager = Backend.fold(types.SimpleNamespace(xp=xp), with_namespace(step))
    recorded = rebuilt(carry, [np.copy(leaf, "K") for leaf in leaves(carry)])
    if "gaps" in trap:
        recorded = (np.zeros((5, 8)),)
        recorded[0][:, :4] = carry[0]
        recorded = (recorded[0][:, :4],)
    for rows, x in runs:
        recorded, figures = fold(recorded, rows, x)
        carry, expected = eager(carry, rows, x)
        assert [f.tolist() for f in figures] == [f.tolist() for f in expected]
        for got, want in zip(leaves(recorded), leaves(carry), strict=True):
            assert np.array_equal(got, want)


def test_operations_in_turn_are_seen_to_differ():
    def turns():
        return counted(
            [lambda c, row: ((c[0] + 1.0,), (c[0][0],)), lambda c, row: ((c[0] * 2.0,), (c[0][0],))]
        )

    def run(fold):
        carry, _ = fold((np.ones(3),), np.zeros((9, 1), int))
        return carry[0].tolist()

    eager = Backend.fold(types.SimpleNamespace(xp=xp), turns())
    assert run(recording.Fold(turns(), RECORDER)) == run(eager)
