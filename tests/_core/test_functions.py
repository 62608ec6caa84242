"""Sigmoid and softmax against their formulas in 60 digits."""

import mpmath as mp
import numpy as np
import pytest
from array_api_compat import device

from xpnn._core import functions


def assert_like(result, u):
    """Assert that `result` is an array of the library, dtype, device and shape of `u`."""
    assert type(result) is type(u)
    assert (result.dtype, device(result), result.shape) == (u.dtype, device(u), u.shape)


@pytest.fixture
def compute(backend, array):
    """Compute a function of a host array on the backend, with NumPy's warnings as errors."""

    def compute(function, host):
        u = array(host)
        with np.errstate(all="warn", under="ignore"):
            result = function(u, backend.xp)
        assert_like(result, u)
        np.testing.assert_array_equal(backend.to_numpy(u), host)
        return backend.to_numpy(result)

    return compute


def test_sigmoid(compute, dtype):
    info = np.finfo(dtype)
    sizes = np.concatenate([[info.smallest_normal, info.max], np.geomspace(1e-6, 1e6, 46)])
    u = np.concatenate([sizes, -sizes]).astype(dtype)
    with mp.workdps(60):
        expected = np.array([float(1 / (1 + mp.exp(-mp.mpf(float(x))))) for x in u])
    # exp is granted a relative error of 4 eps, which 1 + exp passes on by half; two operations
    error = 8 * info.eps * expected + info.smallest_normal  # below which XLA and CUDA flush to 0
    assert (np.abs(compute(functions.sigmoid, u) - expected) <= error).all()


def softmax(row):
    """Return the softmax of a row of numbers, by its formula."""
    with mp.workdps(60):
        e = [mp.exp(mp.mpf(float(x)) - float(max(row))) for x in row]
        return [float(x / sum(e)) for x in e]


def test_softmax(compute, dtype):
    half = float(np.finfo(dtype).max) / 2
    u = np.random.RandomState(1).uniform(-9, 9, (8, 4))
    u[1:6] = [
        [half, -half, half, 0],
        [-half, -half, -half, -half],
        [1e4, -1e4, 0, 1e4],
        [0, 0, 0, 0],
        [-90, 10, 9, -800],
    ]
    u = u.astype(dtype)
    expected = np.array([softmax(row) for row in u])
    # Rounding u - max(u) costs half of it, exp 4, the sum of four as much and 3/2, the division 1
    eps, least = np.finfo(dtype).eps, np.finfo(dtype).smallest_normal
    distance = u.max(axis=1, keepdims=True) - u
    error = eps * expected * (distance / 2 + 4 + 5.5 + 1) + least
    p = compute(functions.softmax, u)
    assert (np.abs(p - expected) <= error).all()
    # of these errors only those of the sum's rounding, of the division and of this sum are left
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=0, atol=(1.5 + 1 + 1.5) * eps)


@pytest.mark.parametrize("function", [functions.sigmoid, functions.softmax])
def test_empty_batch_and_single_column(function, compute, dtype):
    assert compute(function, np.empty((0, 4), dtype)).shape == (0, 4)
    one = compute(function, np.array([[-3.0], [0.0]], dtype))
    assert one[1, 0] == (0.5 if function is functions.sigmoid else 1)


@pytest.mark.parametrize("function", [functions.sigmoid, functions.softmax])
def test_nan_stays_nan(function, compute, dtype):
    assert np.isnan(compute(function, np.full((1, 4), np.nan, dtype))).all()
