"""Chains of operations that are joined, and arrays that have places of their own."""

import itertools

import numpy as np
import pytest

from tests.helpers import DATA, RECORDER, WEIGHT, held_to_eager, rng, rows_of, with_namespace
from xpnn import recording

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
    fold = held_to_eager(with_namespace(step), (parameters(), *state), runs)
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
    fold = held_to_eager(step, carry, [(rows_of(6), x), (rows_of(2, 3), x), (rows_of(5), x)])
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
    held_to_eager(with_namespace(with_row), (places,), [(rows_of(5), DATA, np.asarray([5, 6, 7]))])
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
