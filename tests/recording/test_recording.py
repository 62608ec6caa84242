"""Recorded steps: the same bits as eager ones, whatever a step does."""

import threading
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
from xpnn.backends import Backend


def test_a_step_is_recorded_once_and_played():
    fold = held_to_eager(relu_step, (WEIGHT,), [(rows_of(6), DATA), (rows_of(3), DATA)])
    (program,) = fold.programs
    # take, matmul, maximum, greater, where, matmul, *, -=, sum, >, astype, sum
    assert len(program.operations) == 12


def test_few_steps_with_the_same_data_are_not_worth_a_recording(monkeypatch):
    monkeypatch.setattr("xpnn.recording.fold.EAGER_STEPS", 10)
    monkeypatch.setattr("xpnn.recording.fold._EAGER_SECONDS", np.inf)
    fold = recording.Fold(relu_step, RECORDER)
    carry = (WEIGHT.copy(),)
    for count, programs in ((4, 0), (6, 0), (1, 1), (1, 1), (3, 1)):
        carry, _ = fold(carry, rows_of(count), DATA)
        assert len(fold.programs) == programs
    # other data, however many there are, all of them kept: a new array may lie where one was
    for data in [DATA.copy() for _ in range(20)]:
        carry, _ = fold(carry, rows_of(9), data)
    assert len(fold.programs) == 1
    # between eager, recorded and played steps, the bits are those of eager ones
    held_to_eager(relu_step, (WEIGHT,), [(rows_of(7), DATA), (rows_of(8), DATA)])


def test_memory_is_compared_when_a_program_is_recorded_and_not_when_it_is_played(monkeypatch):
    asked = []

    def counted(*arrays):
        asked.append(arrays)
        return shares(*arrays)

    shares = np.may_share_memory
    fold = recording.Fold(relu_step, RECORDER)
    carry, _ = fold((WEIGHT.copy(),), rows_of(4), DATA)
    monkeypatch.setattr(np, "may_share_memory", counted)
    for _ in range(3):
        (weight,), _ = fold(carry, rows_of(4), DATA)
        assert weight is carry[0]
    assert asked == []
    # a carry that can't be written to is copied all the same
    before = weight.copy()
    weight.flags.writeable = False
    (changed,), _ = fold(carry, rows_of(4), DATA)
    np.testing.assert_array_equal(weight, before)
    assert changed is not weight
    assert asked


def test_rows_of_another_length_and_other_data_are_programs_of_their_own():
    other = rng(5).standard_normal((20, 5))
    fold = held_to_eager(
        relu_step, (WEIGHT,), [(rows_of(4), DATA), (rows_of(1, 3), DATA), (rows_of(4), other)]
    )
    assert len(fold.programs) == 3


def test_no_more_programs_are_kept_than_a_run_needs():
    sizes = range(1, recording.MOST_PROGRAMS + 5)
    fold = held_to_eager(relu_step, (WEIGHT,), [(rows_of(2, size), DATA) for size in sizes])
    assert len(fold.programs) == recording.MOST_PROGRAMS


def test_an_array_that_takes_anothers_place():
    @with_namespace
    def step(xp, carry, row, x):
        mean, count = carry["mean"], carry["count"]
        count = count + 1.0
        mean = mean + (xp.sum(xp.take(x, row, axis=0)) - mean) / count
        return {"mean": mean, "count": count}, (mean,)

    start = {"mean": np.asarray(0.0), "count": np.asarray(0.0)}
    fold = held_to_eager(step, start, [(rows_of(9), DATA), (rows_of(5), DATA)])
    assert len(fold.programs) == 1


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

    assert held_to_eager(step, [np.zeros(5)], [(rows_of(5), DATA)]).programs


def test_results_that_nobody_needs_are_left_out():
    @with_namespace
    def step(xp, carry, row, x):
        batch = xp.take(x, row, axis=0)
        xp.exp(batch @ carry[0])
        return carry, (xp.sum(batch),)

    (program,) = held_to_eager(step, (WEIGHT,), [(rows_of(3), DATA)]).programs
    assert len(program.operations) == 2


def test_a_place_that_is_not_there():
    fold = recording.Fold(relu_step, RECORDER)
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
    fold = held_to_eager(step, start, [(rows_of(4), DATA), (rows_of(3), DATA)])
    assert len(fold.programs) == 1


def test_threads_record_side_by_side():
    barrier = threading.Barrier(4)
    results = {}

    def run(name):
        @with_namespace
        def step(xp, carry, row, x):
            barrier.wait(30)  # all are recording now
            return relu_step(carry, row, x)

        fold = recording.Fold(step, RECORDER)
        results[name] = fold((WEIGHT * name,), rows_of(1), DATA)

    threads = [threading.Thread(target=run, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, (carry, figures) in results.items():
        expected, wanted = Backend.fold(types.SimpleNamespace(xp=xp), relu_step)(
            (WEIGHT * name,), rows_of(1), DATA
        )
        assert np.array_equal(carry[0], expected[0])
        assert np.array_equal(figures, wanted)
