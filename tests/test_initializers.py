"""Initial weights: their stream, their moments, and what Dense makes of them."""

import math

import numpy as np
import pytest

import xpnn
from xpnn.errors import ArgumentError
from xpnn.initializers import INITIALIZERS

INPUTS, OUTPUTS = 200, 150

# the variance, and the kurtosis, of what each draws
MOMENTS = {
    "he_normal": (2 / INPUTS, 3),
    "he_uniform": (2 / INPUTS, 1.8),
    "glorot_normal": (2 / (INPUTS + OUTPUTS), 3),
    "glorot_uniform": (2 / (INPUTS + OUTPUTS), 1.8),
    "zeros": (0, 0),
}


def test_every_initializer_has_its_moments_here():
    assert set(INITIALIZERS) == set(MOMENTS)


@pytest.mark.parametrize("seed", [0, 10, 2**32 - 1])
@pytest.mark.parametrize("name", MOMENTS)
def test_moments(name, seed):
    variance, kurtosis = MOMENTS[name]
    drawn = INITIALIZERS[name](np.random.RandomState(seed), INPUTS, OUTPUTS)
    assert (drawn.shape, drawn.dtype) == ((INPUTS, OUTPUTS), np.float64)
    # four standard errors of a mean of that many draws, and of the mean of their squares
    spread = 4 / math.sqrt(drawn.size)
    assert abs(drawn.mean()) <= spread * math.sqrt(variance)
    assert abs((drawn**2).mean() - variance) <= spread * variance * math.sqrt(max(kurtosis - 1, 0))
    # rows and columns too: no direction is drawn narrower than another
    for axis in (0, 1):
        means, count = drawn.mean(axis=axis), drawn.shape[axis]
        assert np.abs(means).max() <= 5 * math.sqrt(variance / count)
    if name.endswith("uniform"):
        bound = math.sqrt(3 * variance)
        assert 0.999 * bound < np.abs(drawn).max() <= bound


def test_he_normal_is_the_articles_stream():
    """Layer by layer from one RandomState: randn(in, out) * sqrt(2 / in), biases 0."""
    drawn, expected = np.random.RandomState(10), np.random.RandomState(10)
    inputs = 784
    for units in (100, 50, 10):
        parameters = xpnn.Dense(units).initialize(inputs, drawn)
        weight = expected.randn(inputs, units) * np.sqrt(2 / inputs)
        np.testing.assert_array_equal(parameters["weight"], weight)
        np.testing.assert_array_equal(parameters["bias"], np.zeros(units))
        inputs = units
    assert drawn.random_sample() == expected.random_sample()


@pytest.mark.parametrize("name", ["he_uniform", "glorot_uniform"])
def test_uniform_draws_come_in_order(name):
    drawn = INITIALIZERS[name](np.random.RandomState(1), 3, 2)
    r = math.sqrt(6 / (3 if name == "he_uniform" else 5))
    expected = np.random.RandomState(1).uniform(-r, r, (3, 2))
    np.testing.assert_allclose(drawn, expected, rtol=0, atol=4 * np.finfo("float64").eps * r)


def test_zeros_draw_nothing():
    rng = np.random.RandomState(5)
    assert not INITIALIZERS["zeros"](rng, 3, 2).any()
    assert rng.random_sample() == np.random.RandomState(5).random_sample()


@pytest.mark.parametrize("name", MOMENTS)
def test_dense_knows_the_name(name):
    got = xpnn.Dense(2, weight=name).initialize(3, np.random.RandomState(7))
    np.testing.assert_array_equal(got["weight"], INITIALIZERS[name](np.random.RandomState(7), 3, 2))


def test_dense_takes_a_function():
    def orthogonal(rng, inputs, outputs):
        return np.linalg.qr(rng.randn(inputs, outputs))[0]

    got = xpnn.Dense(2, weight=orthogonal).initialize(3, np.random.RandomState(7))["weight"]
    np.testing.assert_array_equal(got, orthogonal(np.random.RandomState(7), 3, 2))


def test_dense_takes_arrays_of_any_library(backend, array):
    weight, bias = np.array([[1.0, 2], [3, 4], [5, 6]]), np.array([-1.0, 0.5])
    layer = xpnn.Dense(2, weight=array(weight), bias=array(bias))
    got = layer.initialize(3, np.random.RandomState(0))
    for leaf in got.values():
        assert (type(leaf), leaf.dtype) == (np.ndarray, np.float64)
    np.testing.assert_array_equal(got["weight"], weight)
    np.testing.assert_array_equal(got["bias"], bias)


def test_dense_copies_what_it_is_given():
    weight = np.ones((3, 2))
    xpnn.Dense(2, weight=weight).initialize(3, np.random.RandomState(0))["weight"][0] = 7
    assert (weight == 1).all()


def test_dense_takes_lists_and_no_bias():
    rng = np.random.RandomState(0)
    assert set(xpnn.Dense(2, bias=False).initialize(3, rng)) == {"weight"}
    got = xpnn.Dense(2, weight=[[1, 2]], bias=[3, 4]).initialize(1, rng)
    assert (got["weight"].tolist(), got["bias"].tolist()) == ([[1.0, 2.0]], [3.0, 4.0])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"weight": "he_norml"}, r"unknown initializer 'he_norml'; did you mean 'he_normal'\?"),
        (
            {"weight": np.ones((2, 3))},
            r"weight of Dense\(2\) must have shape \(3, 2\), got \(2, 3\)",
        ),
        ({"weight": lambda rng, i, o: np.ones(o)}, r"weight of .* shape \(3, 2\), got \(2,\)"),
        ({"weight": [[1, 2], [3]]}, r"not an array"),
        ({"weight": np.full((3, 2), np.nan)}, r"weight of Dense\(2\) must be finite, got NaN"),
        ({"bias": np.ones(3)}, r"bias of Dense\(2\) must have shape \(2,\), got \(3,\)"),
        ({"bias": [0, np.inf]}, r"bias of Dense\(2\) must be finite"),
    ],
)
def test_mistakes(given, message):
    with pytest.raises(ArgumentError, match=message):
        xpnn.Dense(2, **given).initialize(3, np.random.RandomState(0))
