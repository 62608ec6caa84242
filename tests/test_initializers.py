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
    "uniform": (1 / (3 * INPUTS), 1.8),
    "he_normal": (2 / INPUTS, 3),
    "he_uniform": (2 / INPUTS, 1.8),
    "glorot_normal": (2 / (INPUTS + OUTPUTS), 3),
    "glorot_uniform": (2 / (INPUTS + OUTPUTS), 1.8),
    "zeros": (0, 0),
}


def weights(name, *arguments):
    """Return what an initializer draws, without biases."""
    drawn = INITIALIZERS[name](*arguments)
    return drawn[0] if isinstance(drawn, tuple) else drawn


def test_every_initializer_has_its_moments_here():
    assert set(INITIALIZERS) == set(MOMENTS)


@pytest.mark.parametrize("seed", [0, 10, 2**32 - 1])
@pytest.mark.parametrize("name", MOMENTS)
def test_moments(name, seed):
    variance, kurtosis = MOMENTS[name]
    drawn = weights(name, np.random.RandomState(seed), INPUTS, OUTPUTS)
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
        parameters = xpnn.Dense(units, weight="he_normal").initialize(inputs, drawn)
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
    np.testing.assert_array_equal(got["weight"], weights(name, np.random.RandomState(7), 3, 2))
    assert got["bias"].any() == (name == "uniform")


@pytest.mark.parametrize("inputs", [1, 7, 300])
def test_the_default_is_pytorchs_rule(inputs):
    """The same bounds, for weights and biases; PyTorch's generator is another."""
    torch = pytest.importorskip("torch")
    theirs = torch.nn.Linear(inputs, 4000)
    ours = xpnn.Dense(4000).initialize(inputs, np.random.RandomState(1))
    for own, other in ((ours["weight"], theirs.weight), (ours["bias"], theirs.bias)):
        other = other.detach().numpy()
        # the largest of 4000 draws or more is within 1 % of the bound, but once in 10^17 times
        np.testing.assert_allclose(np.abs(own).max(), np.abs(other).max(), rtol=0.01)
        # four standard errors of the two variances, whose kurtosis is 1.8
        spread = 4 * np.sqrt(2 * 0.8 / own.size)
        assert abs(own.var() / other.var() - 1) <= spread


def test_an_initializer_may_draw_the_biases():
    def both(rng, inputs, outputs):
        return np.ones((inputs, outputs)), np.full(outputs, 0.5)

    rng = np.random.RandomState(0)
    assert xpnn.Dense(2, weight=both).initialize(3, rng)["bias"].tolist() == [0.5, 0.5]
    assert xpnn.Dense(2, weight=both, bias=[1, 2]).initialize(3, rng)["bias"].tolist() == [1, 2]
    assert set(xpnn.Dense(2, weight=both, bias=False).initialize(3, rng)) == {"weight"}


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
