"""Recorded steps: the same bits as eager ones, whatever a step does."""

import itertools
import threading
import types

import array_api_compat.numpy as xp
import numpy as np
import pytest

import xpnn
from xpnn import recording
from xpnn._core.tree import leaves, rebuilt
from xpnn.activations import ACTIVATIONS
from xpnn.backends import Backend, get_backend
from xpnn.losses import LOSSES
from xpnn.optimizers import OPTIMIZERS
from xpnn.recording import calls

RECORDER = recording.namespace(xp)


def rng(seed=0):
    return np.random.default_rng(seed)


def copied(tree):
    return rebuilt(tree, [leaf.copy() for leaf in leaves(tree)])


def both(step, carry, runs):
    """Run a fold recorded and eagerly; hold all that it returns to the same bits."""
    fold = recording.Fold(step, RECORDER)
    eager = Backend.fold(types.SimpleNamespace(xp=xp), step)
    recorded_carry, eager_carry = copied(carry), copied(carry)
    for rows, *context in runs:
        with np.errstate(all="ignore"):
            recorded_carry, figures = fold(recorded_carry, rows, *context)
            eager_carry, expected = eager(eager_carry, rows, *context)
        for got, want in zip(
            (*leaves(recorded_carry), *figures),
            (*leaves(eager_carry), *expected),
            strict=True,
        ):
            assert got.dtype == want.dtype
            assert got.tobytes() == want.tobytes()
    return fold


def rows_of(count, size=4, places=20):
    return rng(count).integers(0, places, (count, size))


DATA = rng(1).standard_normal((20, 5))
WEIGHT = rng(2).standard_normal((5, 3))


def with_namespace(step):
    """The step through the namespace of its arrays, as `fit` writes it."""

    def inner(carry, row, *context):
        return step(recording_namespace(row), carry, row, *context)

    return inner


def recording_namespace(array):
    return array.__array_namespace__() if isinstance(array, recording.Recorded) else xp


@with_namespace
def sgd(xp, carry, row, x):
    (w,) = carry
    batch = xp.take(x, row, axis=0)
    y = xp.maximum(batch @ w, 0.0)
    w -= 0.1 * (batch.T @ xp.where(y > 0, y, 0.0))
    return (w,), (xp.sum(y), xp.sum(xp.astype(y > 0, y.dtype)))


def test_a_step_is_recorded_once_and_played():
    fold = both(sgd, (WEIGHT,), [(rows_of(6), DATA), (rows_of(3), DATA)])
    (program,) = fold.programs
    # take, matmul, maximum, greater, where, matmul, *, -=, sum, >, astype, sum
    assert len(program.operations) == 12


def test_rows_of_another_length_and_other_data_are_programs_of_their_own():
    other = rng(5).standard_normal((20, 5))
    fold = both(sgd, (WEIGHT,), [(rows_of(4), DATA), (rows_of(1, 3), DATA), (rows_of(4), other)])
    assert len(fold.programs) == 3


def test_no_more_programs_are_kept_than_a_run_needs():
    sizes = range(1, recording.MOST_PROGRAMS + 5)
    fold = both(sgd, (WEIGHT,), [(rows_of(2, size), DATA) for size in sizes])
    assert len(fold.programs) == recording.MOST_PROGRAMS


def test_an_array_that_takes_anothers_place():
    @with_namespace
    def step(xp, carry, row, x):
        mean, count = carry["mean"], carry["count"]
        count = count + 1.0
        mean = mean + (xp.sum(xp.take(x, row, axis=0)) - mean) / count
        return {"mean": mean, "count": count}, (mean,)

    start = {"mean": np.asarray(0.0), "count": np.asarray(0.0)}
    fold = both(step, start, [(rows_of(9), DATA), (rows_of(5), DATA)])
    assert len(fold.programs) == 1


SHAPES = ((5, 3), (3,), (2, 2, 2), (1,))


def parameters(dtype=np.float64):
    return [rng(10 + i).standard_normal(shape).astype(dtype) for i, shape in enumerate(SHAPES)]


def gradients(xp, parameters, row, x):
    """Each made by three operations, and the row's sum by two."""
    total = xp.sum(xp.take(x, row, axis=0))
    return [xp.where(w > 0, total * w, w) for w in parameters], total


def operations_of(step, *state):
    """Return the number of operations of a step on four parameters, held to the eager bits."""
    runs = [(rows_of(6), DATA), (rows_of(3, 2), DATA), (rows_of(5), DATA)]
    fold = both(with_namespace(step), (parameters(), *state), runs)
    return len(fold.programs[0].operations)


OTHERS = 2 + 4 * 3


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_equal_chains_at_the_end_are_carried_out_as_one(dtype):
    @with_namespace
    def step(xp, carry, row, x):
        ws, vs = carry
        gs, total = gradients(xp, ws, row, x)
        for w, v, g in zip(ws, vs, gs, strict=True):
            v *= 0.9
            v -= 0.1 * g
            w += v / (xp.sqrt(xp.abs(w)) + 1.0)
        return (ws, vs), (total,)

    carry, x = (parameters(dtype), [np.zeros(shape, dtype) for shape in SHAPES]), DATA.astype(dtype)
    fold = both(step, carry, [(rows_of(6), x), (rows_of(2, 3), x), (rows_of(5), x)])
    assert [len(program.operations) for program in fold.programs] == [OTHERS + 8] * 2


def test_what_comes_after_a_chain_keeps_it_from_being_joined():
    def step(xp, carry, row, x):
        (ws,) = carry
        gs, _ = gradients(xp, ws, row, x)
        for w, g in zip(ws, gs, strict=True):
            w -= 0.1 * g
        return (ws,), (xp.sum(ws[0]),)

    assert operations_of(step) == OTHERS + 4 * 2 + 1


def test_chains_of_different_arithmetic_stay_apart():
    def operations_at(*rates):
        def step(xp, carry, row, x):
            (ws,) = carry
            gs, total = gradients(xp, ws, row, x)
            for w, g, rate in zip(ws, gs, rates, strict=True):
                w -= rate * g
            return (ws,), (total,)

        return operations_of(step)

    assert operations_at(0.1, 0.1, 0.1, 0.1) == OTHERS + 2
    assert operations_at(0.1, 0.1, 0.1, 0.2) == OTHERS + 4
    assert operations_at(0.1, 0.2, 0.1, 0.2) == OTHERS + 4
    assert operations_at(0.1, 0.2, 0.3, 0.4) == OTHERS + 8
    assert operations_at(0.0, -0.0, 0.0, -0.0) == OTHERS + 4


def test_gradients_that_are_changed_in_place_before():
    def step(xp, carry, row, x):
        (ws,) = carry
        gs, _ = gradients(xp, ws, row, x)
        for g in gs:
            g *= 2.0
        norm = sum(xp.sum(g * g) for g in gs)
        for w, g in zip(ws, gs, strict=True):
            g /= norm
            w -= g
        return (ws,), (norm,)

    assert operations_of(step) == OTHERS + 4 * 3 + 4 + 2


def test_chains_that_meet_are_one_chain():
    def step(xp, carry, row, x):
        (ws,) = carry
        gs, total = gradients(xp, ws, row, x)
        for w, g in zip(ws, gs, strict=True):
            w -= 0.1 * g
        ws[0] -= 0.1 * gs[0]
        return (ws,), (total,)

    # and subtracts 0.1 of its gradient once more
    assert operations_of(step) == OTHERS + 2 + 2 + 2


def test_gradients_that_are_figures_or_constants_stay_where_they_are():
    constants = [np.full((5, 3), 0.25), np.asarray([0.5, 0.25, 0.125])]

    def step(xp, carry, row, x):
        ws, counts = carry
        gs, total = gradients(xp, ws, row, x)
        hit = xp.reshape(gs[3], ())
        for w, g in zip(ws, [*constants, *gs[2:]], strict=True):
            w -= g
        return (ws, [count + 1.0 for count in counts]), (hit, total)

    assert operations_of(step, [np.asarray(0.0), np.asarray(1.0)]) == 2 + 2 * 3 + 4 + 4


def test_what_all_chains_compute_of_numbers_is_computed_once():
    def operations_at(factor):
        def step(xp, carry, row, x):
            ws, (count,) = carry
            gs, total = gradients(xp, ws, row, x)
            count += 1.0
            for i, (w, g) in enumerate(zip(ws, gs, strict=True)):
                if i == 2:
                    count *= factor
                w -= g / xp.sqrt(count + 1.0)
            return (ws, [count]), (total,)

        return operations_of(step, [np.ones(())])

    # the number is changed between the chains: two divisors, and nothing is joined
    assert operations_at(2.0) == OTHERS + 2 + 2 * 2 + 4 * 2


@pytest.mark.parametrize("kind", ["before", "operand", "changed"])
def test_numbers_that_are_views_of_a_parameter(kind):
    def step(xp, carry, row, x):
        ws, (count,) = carry
        gs, total = gradients(xp, ws, row, x)
        number = xp.reshape(ws[3], ())
        if kind == "changed":
            count += number
        for w, g in zip(ws, gs, strict=True):
            w -= number * g if kind == "operand" else 0.1 * g
        if kind == "before":
            count = number * 2.0
        return (ws, [count]), (total,)

    operations_of(step, [np.ones(())])


def test_numbers_that_differ_in_their_last_bits_are_others():
    rates = [np.asarray(0.1234567890), np.asarray(0.1234567894), *map(np.asarray, (0.1, 0.1))]

    def step(xp, carry, row, x):
        (ws,) = carry
        gs, total = gradients(xp, ws, row, x)
        for w, g, rate in zip(ws, gs, rates, strict=True):
            w -= rate * g
        return (ws,), (total,)

    assert operations_of(step) == OTHERS + 3 * 2

    numbers = itertools.count()

    def counting(xp, carry, row, x):
        (w,) = carry
        w -= np.asarray(0.1 + next(numbers) * 1e-12) * w
        return (w,), (xp.sum(xp.take(x, row, axis=0)),)

    fold = recording.Fold(with_namespace(counting), RECORDER)
    (w,), _ = fold((WEIGHT.copy(),), rows_of(20), DATA)
    expected = WEIGHT.copy()
    for number in range(20):
        expected -= np.asarray(0.1 + number * 1e-12) * expected
    assert np.array_equal(w, expected)


def test_rows_and_data_stay_where_they_are():
    """As gradients: the program knows them where the caller has them."""
    data = [np.asarray([5.0, 6.0, 7.0, 8.0]), np.asarray([5.0, 6.0])]

    def step(xp, carry, row, x, *others):
        (ws,) = carry
        total = xp.sum(xp.take(x, row, axis=0))
        for w, g in zip(ws, others, strict=True):
            w -= g * total
        return (ws,), (total,)

    def with_row(xp, carry, row, x, *others):
        (ws,) = carry
        for w, g in zip(ws, (row, others[0]), strict=True):
            w -= g * 2
        return (ws,), (xp.sum(xp.take(x, row, axis=0)),)

    places = [np.arange(4), np.arange(3)]
    both(with_namespace(with_row), (places,), [(rows_of(5), DATA, np.asarray([5, 6, 7]))])
    fold = recording.Fold(with_namespace(step), RECORDER)
    carry, wanted = ([np.zeros(4), np.zeros(2)],), [np.zeros(4), np.zeros(2)]
    for factor in (1.0, 2.0, 3.0):
        for array in data:
            array *= factor
        carry, _ = fold(carry, rows_of(4), DATA, *data)
        for row in rows_of(4):
            for w, g in zip(wanted, data, strict=True):
                w -= g * np.sum(DATA[row])
        assert all(map(np.array_equal, carry[0], wanted))


def test_the_carry_keeps_its_place_once_it_has_one():
    """So that a run's epochs are one program, and its last batch another."""

    @with_namespace
    def step(xp, carry, row, x):
        (ws,) = carry
        gs, total = gradients(xp, ws, row, x)
        for w, g in zip(ws, gs, strict=True):
            w -= 0.1 * g
        return (ws,), (total,)

    fold, carry = recording.Fold(step, RECORDER), (parameters(),)
    for size in (4, 3, 4, 3):
        carry, _ = fold(carry, rows_of(5, size), DATA)
    assert len(fold.programs) == 2
    (ws,) = carry
    assert all(w.flags.c_contiguous and w.flags.writeable for w in ws)
    kept = [w.copy() for w in ws]
    others, _ = fold((parameters(),), rows_of(5), DATA)
    assert all(np.array_equal(w, was) for w, was in zip(ws, kept, strict=True))
    assert not any(np.may_share_memory(w, other) for w, other in itertools.product(ws, others[0]))


def test_what_can_not_change_is_computed_once_a_run():
    @with_namespace
    def step(xp, carry, row, x):
        doubled = carry[0] * 2.0
        doubled += 1.0
        squared = carry[0] * carry[0]
        return carry, (xp.sum(xp.take(x, row, axis=0) @ doubled), xp.sum(squared[0, :]))

    fold = recording.Fold(step, RECORDER)
    weight = WEIGHT.copy()
    for factor in (1.0, 3.0):  # changed in place between two runs, as by training steps
        weight *= factor
        _, (figures, squares) = fold((weight,), rows_of(3), DATA)
        for row, figure, square in zip(rows_of(3), figures, squares, strict=True):
            assert figure == np.sum(DATA[row] @ (2.0 * weight + 1.0))
            assert square == np.sum(weight[0] * weight[0])
    (program,) = fold.programs
    # take, matmul, sum; doubling and adding, as its result is changed in place
    assert len(program.operations) == 5


def test_constants_begin_each_step_as_they_were():
    @with_namespace
    def step(xp, carry, row, x):
        total = xp.zeros((5,), dtype=x.dtype, device="cpu")
        for i in range(2):
            total += xp.take(x, row, axis=0)[i, :]
        carry[0] += total
        return carry, (xp.sum(total),)

    assert both(step, [np.zeros(5)], [(rows_of(5), DATA)]).programs


def test_results_that_nobody_needs_are_left_out():
    @with_namespace
    def step(xp, carry, row, x):
        batch = xp.take(x, row, axis=0)
        xp.exp(batch @ carry[0])
        return carry, (xp.sum(batch),)

    (program,) = both(step, (WEIGHT,), [(rows_of(3), DATA)]).programs
    assert len(program.operations) == 2


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

    fold = both(step, (WEIGHT,), [(rows_of(30), DATA), (rows_of(7), DATA)])
    assert fold.programs


def test_a_truth_asked_for_after_a_change_is_not_recorded():
    @with_namespace
    def step(xp, carry, row, x):
        (w,) = carry
        w -= 0.01 * xp.take(x, row, axis=0)[:3, :].T
        if bool(xp.all(w > 0)):
            w += 1.0
        return (w,), (xp.sum(w),)

    assert not both(step, (WEIGHT,), [(rows_of(30), DATA)]).programs


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

    assert not both(step, (WEIGHT,), [(rows_of(4), DATA), (rows_of(2), DATA)]).programs


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

    assert both(step, (WEIGHT,), [(rows_of(4), DATA)]).programs


def test_an_error_of_the_step_is_raised():
    @with_namespace
    def step(xp, carry, row, x):
        return (carry[0] @ carry[0],), ()

    with pytest.raises(ValueError, match="matmul"):
        recording.Fold(step, RECORDER)((WEIGHT.copy(),), rows_of(2), DATA)


def nested(carry, row, x):
    inner = recording.Fold(sgd, RECORDER)
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


def test_a_place_that_is_not_there():
    fold = recording.Fold(sgd, RECORDER)
    carry, _ = fold((WEIGHT.copy(),), rows_of(2), DATA)
    for place in (20, -1):
        with pytest.raises(IndexError, match="beyond the 20"):
            fold(carry, np.full((1, 4), place), DATA)


@pytest.mark.parametrize(
    "shaped",
    [
        lambda xp, y: xp.reshape(y, (-1,)),
        lambda xp, y: xp.permute_dims(y, (1, 0)),
        lambda xp, y: xp.concat([y, 2.0 * y], axis=1),
        lambda xp, y: xp.stack([y, y], axis=0),
        lambda xp, y: y[:, ::2] + y[:, :1],
        lambda xp, y: y[..., 0] - y[1, 0],
        lambda xp, y: y + y.T @ y @ y.T if y.shape[0] == y.shape[1] else y.T,
        lambda xp, y: xp.broadcast_to(xp.expand_dims(y[0, :], axis=0), y.shape) * y,
        lambda xp, y: xp.astype(xp.astype(y, xp.float32), xp.float64),
        lambda xp, y: xp.astype(xp.argmax(y, axis=1), xp.float64),
        lambda xp, y: xp.sort(y, axis=0),
        lambda xp, y: xp.unstack(y, axis=0)[1],
        lambda xp, y: xp.clip(y, -0.5, 0.5) ** 2 / 3.0 - 1.0 / (2.0 + xp.abs(y)),
        lambda xp, y: xp.max(y, axis=0) + xp.min(y, axis=0) + xp.mean(y, axis=0),
        lambda xp, y: xp.cumulative_sum(y, axis=0),
        lambda xp, y: xp.where((y > 0) & ~(y > 1) | (y < -1), y, -y),
        lambda xp, y: xp.where(y > 0, y, 0.0) + xp.where(y > 0, 0.0, y),
        lambda xp, y: xp.where(y > 0, 1.0, -0.0) / xp.where(y > 1, -0.0, 3.0 * y),
        lambda xp, y: xp.where(y > 0, xp.log(y), y) - xp.where(y > 9, y, -0.0),
        lambda xp, y: xp.where(y[0, :] > 0, y, 2.0 * y) + xp.where(y > 0, y, y[:, :1]),
        lambda xp, y: xp.where(y > 0, y.T.T, xp.permute_dims(y.T * 2.0, (1, 0))),
        lambda xp, y: xp.astype(xp.where(y > 0, xp.astype(y, xp.float32), 0.0), xp.float64),
        lambda xp, y: xp.astype(xp.where(y > 0, 3, -2), xp.float64) * y,
        lambda xp, y: xp.zeros_like(y) + xp.full_like(y, 2.0) + y,
        lambda xp, y: xp.take(y, xp.asarray([2, 0], device="cpu"), axis=1),
        lambda xp, y: xp.sum(xp.astype(y > 0, xp.int32), axis=0) * 1.0,
    ],
)
def test_any_function_of_the_array_api(shaped):
    @with_namespace
    def step(xp, carry, row, x):
        y = shaped(xp, xp.take(x, row, axis=0) @ carry[0])
        z = y * 1.5
        z += y
        carry[1] += xp.sum(z)
        return carry, (xp.sum(y), xp.sum(z))

    start = [WEIGHT, np.asarray(0.0)]
    fold = both(step, start, [(rows_of(4), DATA), (rows_of(3), DATA)])
    assert len(fold.programs) == 1


def test_threads_record_side_by_side():
    barrier = threading.Barrier(4)
    results = {}

    def run(name):
        @with_namespace
        def step(xp, carry, row, x):
            barrier.wait(30)  # all are recording now
            return sgd(carry, row, x)

        fold = recording.Fold(step, RECORDER)
        results[name] = fold((WEIGHT * name,), rows_of(1), DATA)

    threads = [threading.Thread(target=run, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, (carry, figures) in results.items():
        expected, wanted = Backend.fold(types.SimpleNamespace(xp=xp), sgd)(
            (WEIGHT * name,), rows_of(1), DATA
        )
        assert np.array_equal(carry[0], expected[0])
        assert np.array_equal(figures, wanted)


class Eager:
    """NumPy's backend, its steps not recorded."""

    def __init__(self, monkeypatch):
        self.monkeypatch = monkeypatch

    def __enter__(self):
        def fold(self, step):
            return Backend.fold(self, step)

        for name in ("NumpyBackend", "ReproducibleBackend"):
            self.monkeypatch.setattr(getattr(xpnn.backends, name), "fold", fold)

    def __exit__(self, *error):
        self.monkeypatch.undo()


def parts():
    """Each activation, loss and optimizer in some network, each with both dtypes."""
    names = [sorted(registry) for registry in (ACTIVATIONS, LOSSES, OPTIMIZERS)]
    for i in range(max(map(len, names))):
        activation, loss, optimizer = (column[i % len(column)] for column in names)
        yield activation, loss, optimizer, ("float32", "float64")[i % 2]


@pytest.mark.parametrize("reproducible", [False, True])
@pytest.mark.parametrize(("activation", "loss", "optimizer", "dtype"), list(parts()))
def test_a_recorded_run_has_the_bits_of_an_eager_one(
    activation, loss, optimizer, dtype, reproducible, monkeypatch
):
    x = rng(3).standard_normal((23, 6)).astype(np.float32)
    y = rng(4).integers(0, 3, 23)

    def run():
        model = xpnn.Sequential(xpnn.Dense(5), xpnn.Activation(activation), xpnn.Dense(3))
        backend = get_backend("numpy", dtype=dtype, reproducible=reproducible)
        history = xpnn.fit(
            model,
            (x, y),
            validation=(x[:7], y[:7]),
            loss=xpnn.Flooding(LOSSES[loss](), 0.5),
            optimizer=OPTIMIZERS[optimizer](weight_decay=0.01),
            epochs=2,
            batch_size=5,
            seed=1,
            backend=backend,
        )
        return model.sha256(), [row[:-1] for row in history]

    played = run()
    with Eager(monkeypatch):
        assert run() == played


def test_the_reference_networks_steps_are_recorded(monkeypatch):
    """A program for each shape of mini-batch and data set, and none given up."""
    folds = []
    fold = xpnn.backends.NumpyBackend.fold
    monkeypatch.setattr(
        xpnn.backends.NumpyBackend,
        "fold",
        lambda self, step: folds.append(fold(self, step)) or folds[-1],
    )
    x, y = rng(3).random((50, 8), np.float32), rng(4).integers(0, 4, 50)
    for activation, optimizer in itertools.product(sorted(ACTIVATIONS), sorted(OPTIMIZERS)):
        model = xpnn.Sequential(xpnn.Dense(6), xpnn.Activation(activation), xpnn.Dense(4))
        folds.clear()
        step = OPTIMIZERS[optimizer]()
        xpnn.fit(model, (x, y), validation=(x[:9], y[:9]), optimizer=step, epochs=2, batch_size=20)
        train, evaluation = folds
        assert (len(train.programs), len(evaluation.programs)) == (2, 3), (activation, optimizer)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_product_in_blocks_of_rows(dtype, monkeypatch):
    """Of whole numbers, so that no sum is rounded, however the BLAS goes about it."""
    tried = []

    def noted(shape, *args):
        tried.append((shape, *args))
        return True

    monkeypatch.setattr(calls, "_blocks_are_better", noted)
    x = rng(0).integers(-9, 10, (100, 784)).astype(dtype)
    d = rng(1).integers(-9, 10, (100, 100)).astype(dtype)

    def step(carry, row, x, d):
        (w,) = carry
        y = x @ (w - w) + d
        return (w + x.T @ y,), (w[0, 0],)

    fold = both(step, (np.zeros((784, 100), dtype),), [(rows_of(4), x, d)])
    assert sum(o.function is calls._by_blocks for o in fold.programs[0].operations) == 1
    # a block of x @ w would have 12 rows
    assert set(tried) == {((784, 100, 100), np.dtype(dtype), ("F", "C"), 8)}


def test_blocks_are_taken_if_they_are_faster_and_change_no_bit(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(calls.time, "perf_counter", lambda: now[0])
    product = calls.np.matmul

    def timed_product(*args):
        now[0] += 1.0
        return product(*args)

    def blocks(seconds, error=0.0):
        def by_blocks(parts, b):
            whole = parts[0][1].base
            whole[...] = product(np.concatenate([a for a, _ in parts]), b)
            whole[-1, -1] *= 1 + error
            now[0] += seconds

        return by_blocks

    def better(by_blocks):
        calls._blocks_are_better.cache_clear()
        monkeypatch.setattr(calls, "_by_blocks", by_blocks)
        return calls._blocks_are_better((784, 100, 100), np.dtype("float64"), ("F", "C"), 8)

    monkeypatch.setattr(calls.np, "matmul", timed_product)
    assert better(blocks(0.8))
    assert not better(blocks(0.8, error=1e-15))
    assert not better(blocks(1.0))
    calls._blocks_are_better.cache_clear()
