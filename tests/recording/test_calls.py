"""How single operations are carried out: products in blocks of rows, each into its buffer."""

import numpy as np
import pytest

from tests.helpers import held_to_eager, rng, rows_of
from xpnn.backends import namespace
from xpnn.recording import calls


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

    fold = held_to_eager(step, (np.zeros((784, 100), dtype),), [(rows_of(4), x, d)])
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


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_rounding_to_whole_numbers_allocates_nothing(dtype):
    values = np.linspace(-4, 4, 17).astype(dtype)

    def step(carry, row, x):
        (w,) = carry
        return (w + namespace(x).round(x + w - w),), (w[0],)

    fold = held_to_eager(step, (np.zeros(17, dtype),), [(rows_of(4), values)])
    (rounding,) = (o for o in fold.programs[0].operations if o.name == "round")
    assert (rounding.function is np.rint) == (dtype != "int64")
