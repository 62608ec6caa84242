"""Layers against finite differences and PyTorch's autograd."""

import itertools

import numpy as np
import pytest
from array_api_compat import device

import xpnn
from xpnn._core.tree import flatten
from xpnn.errors import ArgumentError
from xpnn.layers import LAYERS

N, INPUTS, UNITS = 5, 4, 3
RNG = np.random.RandomState(2)


def draw(*shape):
    """Return normal numbers that are float32, and so exact in each dtype."""
    return RNG.randn(*shape).astype("float32").astype("float64")


X, DY = draw(N, INPUTS), draw(N, UNITS)
WEIGHT, BIAS = draw(INPUTS, UNITS), draw(UNITS)


def assert_like(result, x, shape):
    """Assert that `result` has `shape` and the library, dtype and device of `x`."""
    assert type(result) is type(x)
    assert (result.dtype, device(result), result.shape) == (x.dtype, device(x), shape)


def product_error(a, b, dtype):
    """Return a bound of the rounding errors of a @ b: one for each term, in any order."""
    return a.shape[-1] * np.finfo(dtype).eps * (np.abs(a) @ np.abs(b)).max()


def dense_by_hand(bias):
    """Return output and gradients of x W + b, in float64, and the terms of each."""
    return {
        "y": (X @ WEIGHT + (BIAS if bias else 0), (X, WEIGHT)),
        "dx": (DY @ WEIGHT.T, (DY, WEIGHT.T)),
        "weight": (X.T @ DY, (X.T, DY)),
        "bias": (DY.sum(axis=0), (np.ones((1, N)), DY)),
    }


def dense_by_autograd(bias):
    torch = pytest.importorskip("torch")
    x, weight, b = (torch.tensor(a, requires_grad=True) for a in (X, WEIGHT, BIAS))
    y = torch.nn.functional.linear(x, weight.T, b if bias else None)
    y.backward(torch.tensor(DY))
    gradients = {"y": y.detach(), "dx": x.grad, "weight": weight.grad, "bias": b.grad}
    by_hand = dense_by_hand(bias)
    return {
        name: (value.numpy(), by_hand[name][1])
        for name, value in gradients.items()
        if value is not None
    }


@pytest.mark.parametrize("oracle", [dense_by_hand, dense_by_autograd])
@pytest.mark.parametrize("bias", [True, False])
def test_dense(oracle, bias, backend, array, dtype):
    layer = xpnn.Dense(UNITS, bias=None if bias else False)
    parameters = {"weight": array(WEIGHT)} | ({"bias": array(BIAS)} if bias else {})
    x, dy = array(X), array(DY)
    y, pullback = layer.forward(parameters, x, xp=backend.xp)
    dx, gradients = pullback(dy)
    assert set(gradients) == set(parameters) == set(layer.shapes(INPUTS))

    expected = oracle(bias)
    for name, result in {"y": y, "dx": dx, **gradients}.items():
        value, terms = expected[name]
        assert_like(result, x, value.shape)
        error = product_error(*terms, dtype) + np.finfo(dtype).eps * np.abs(BIAS).max()
        np.testing.assert_allclose(backend.to_numpy(result), value, rtol=0, atol=error)

    nothing, same = pullback(dy, input_gradient=False)
    assert nothing is None
    for name, gradient in gradients.items():
        np.testing.assert_array_equal(*map(backend.to_numpy, (same[name], gradient)))
    for moved, host in ((x, X), (dy, DY), (parameters["weight"], WEIGHT)):
        np.testing.assert_array_equal(backend.to_numpy(moved), host)


def differences(function, at):
    """Return the gradient of a scalar function by central differences, exact for its quadratic."""
    gradient, h = np.empty_like(at), 2.0**-17
    for index in np.ndindex(at.shape):
        step = np.zeros_like(at)
        step[index] = h
        gradient[index] = (function(at + step) - function(at - step)) / (2 * h)
    return gradient


@pytest.mark.parametrize("dtype", ["float64"])
@pytest.mark.parametrize("name", ["weight", "bias", "dx"])
def test_dense_by_finite_differences(name, backend, array):
    layer, xp = xpnn.Dense(UNITS), backend.xp
    given = {"weight": WEIGHT, "bias": BIAS, "dx": X}

    def forward(**changed):
        moved = {key: array(leaf) for key, leaf in {**given, **changed}.items()}
        return layer.forward(moved, moved.pop("dx"), xp=xp)

    def objective(changed):
        y, _ = forward(**{name: changed})
        return float(np.vdot(DY, backend.to_numpy(y)))

    dx, gradients = forward()[1](array(DY))
    expected = differences(objective, given[name])
    # the objective adds N * UNITS products of sums of INPUTS + 1; each rounds, and h divides that
    size = (np.abs(DY) * (np.abs(X) @ np.abs(WEIGHT) + np.abs(BIAS))).sum()
    error = (INPUTS + 1 + N * UNITS) * np.finfo("float64").eps * size * 2.0**17
    got = backend.to_numpy({"dx": dx, **gradients}[name])
    np.testing.assert_allclose(got, expected, rtol=0, atol=error)


@pytest.mark.parametrize("n", [0, 1])
def test_dense_of_a_small_batch(n, backend, array):
    parameters = {"weight": array(WEIGHT), "bias": array(BIAS)}
    x = array(X[:n])
    y, pullback = xpnn.Dense(UNITS).forward(parameters, x, xp=backend.xp)
    dx, gradients = pullback(y)
    assert_like(y, x, (n, UNITS))
    assert_like(dx, x, (n, INPUTS))
    assert_like(gradients["weight"], x, (INPUTS, UNITS))
    assert_like(gradients["bias"], x, (UNITS,))
    assert n or not backend.to_numpy(gradients["weight"]).any()


def test_activation(backend, array):
    """What the activation itself gives; no parameters, and nothing to do for the first layer."""
    x, dy, xp = array(X), array(X[::-1]), backend.xp
    layer = xpnn.Activation("h_swish", n=2)
    y, pullback = layer.forward({}, x, xp=xp)
    dx, gradients = pullback(dy)
    z, expected = xpnn.activations.h_swish(x, n=2, xp=xp)
    assert gradients == {}
    assert pullback(dy, input_gradient=False) == (None, {})
    for got, wanted in ((y, z), (dx, expected(dy))):
        assert_like(got, x, X.shape)
        np.testing.assert_array_equal(*map(backend.to_numpy, (got, wanted)))
    assert (layer.kind, layer.outputs(7), layer.shapes(7)) == ("h_swish", 7, {})
    assert layer.initialize(7, np.random.RandomState(0)) == {}


# PyTorch's own of each activation, away from kinks
PYTORCH = {
    "tanh": ({}, lambda F, u: F.tanh(u)),
    "softplus": ({}, lambda F, u: F.softplus(u, threshold=100)),
    "gelu": ({"approximate": "tanh"}, lambda F, u: F.gelu(u, approximate="tanh")),
    "h_swish": ({"n": 6}, lambda F, u: F.hardswish(u)),
    "mish": ({}, lambda F, u: F.mish(u)),
}


@pytest.mark.parametrize("name", PYTORCH)
def test_network_of_three_layers_is_pytorchs(name, backend, array, dtype):
    torch = pytest.importorskip("torch")
    settings, function = PYTORCH[name]
    widths = [INPUTS, 6, 5, UNITS]
    rng = np.random.RandomState(4)
    host = [
        {key: rng.randn(*shape).astype("float32") / 2 for key, shape in shapes.items()}
        for i, o in itertools.pairwise(widths)
        for shapes in ({"weight": (i, o), "bias": (o,)}, {})
    ][:-1]
    layers = [
        layer
        for units in widths[1:]
        for layer in (xpnn.Dense(units), xpnn.Activation(name, **settings))
    ][:-1]

    leaves = {key: torch.tensor(leaf, dtype=torch.float64) for key, leaf in flatten(host).items()}
    y = torch.tensor(X)
    for i in (0, 2, 4):
        y = y @ leaves[f"{i}.weight"].requires_grad_() + leaves[f"{i}.bias"].requires_grad_()
        y = y if i == 4 else function(torch.nn.functional, y)
    y.backward(torch.tensor(DY))

    parameters = [{key: array(leaf) for key, leaf in layer.items()} for layer in host]
    model = xpnn.Sequential(*layers)
    outputs, pullback = model.forward(parameters, array(X), xp=backend.xp)
    gradients = flatten(pullback(array(DY)))
    # Rounding enters with a dozen eps at each of three layers, of numbers up to 10, and grows by a
    # factor of 3, which is what the weights of a unit add up to, on each way through a layer
    error = 3 * 12 * 10 * 3**2 * np.finfo(dtype).eps
    np.testing.assert_allclose(backend.to_numpy(outputs), y.detach(), rtol=0, atol=error)
    assert set(gradients) == set(leaves)
    for key, gradient in gradients.items():
        assert_like(gradient, parameters[0]["bias"], tuple(leaves[key].shape))
        np.testing.assert_allclose(backend.to_numpy(gradient), leaves[key].grad, rtol=0, atol=error)


def test_first_layer_is_asked_for_no_input_gradient():
    asked = []

    class Spy(xpnn.Activation):
        def forward(self, parameters, x, *, xp):
            def pullback(dy, input_gradient=True):
                asked.append((self.name, input_gradient))
                return dy if input_gradient else None, {}

            return x, pullback

    model = xpnn.Sequential(Spy("relu"), Spy("tanh"), Spy("mish"))
    _, pullback = model.forward([{}, {}, {}], X, xp=np)
    assert pullback(X) == [{}, {}, {}]
    assert asked == [("mish", True), ("tanh", True), ("relu", False)]


@pytest.mark.parametrize(
    ("layer", "config"),
    [
        (xpnn.Dense(7), {"units": 7, "weight": "uniform"}),
        (xpnn.Dense(7, weight="zeros", bias=False), {"units": 7, "weight": "zeros", "bias": False}),
        (xpnn.Activation("relu"), {"name": "relu", "parameters": {}}),
        (xpnn.Activation("h_swish", n=4), {"name": "h_swish", "parameters": {"n": 4}}),
        (
            xpnn.Activation("gelu", approximate="tanh"),
            {"name": "gelu", "parameters": {"approximate": "tanh"}},
        ),
    ],
    ids=repr,
)
def test_config_makes_an_equal_layer(layer, config):
    assert layer.config() == config
    again = LAYERS[type(layer).__name__].from_config(layer.config())
    assert type(again) is type(layer)
    assert (again.config(), repr(again)) == (config, repr(layer))
    assert (again.outputs(3), again.shapes(3)) == (layer.outputs(3), layer.shapes(3))
    drawn = [one.initialize(3, np.random.RandomState(0)) for one in (layer, again)]
    np.testing.assert_equal(*drawn)


def test_every_layer_has_a_name():
    kinds = (xpnn.Dense, xpnn.Activation, xpnn.Dropout, xpnn.BatchNorm)
    assert dict(LAYERS) == {kind.__name__: kind for kind in kinds}


@pytest.mark.parametrize("units", [0, -1, 2.5, "many", None, True])
def test_units_are_checked(units):
    with pytest.raises(ArgumentError, match=r"units must be a whole number >= 1, got"):
        xpnn.Dense(units)


def test_numpys_integers_are_whole_numbers():
    assert xpnn.Dense(np.int64(3)).config() == {"units": 3, "weight": "uniform"}
