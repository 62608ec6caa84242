"""Mistakes in a layer are found, alone and in a model."""

import pytest

import xpnn
from xpnn.testing import PartError, check_gradients


class Changed(xpnn.Dense):
    """Dense, whose pullback is changed."""

    def __init__(self, units, change):
        super().__init__(units)
        self.change = change

    def forward(self, parameters, x, *, xp):
        y, pullback = super().forward(parameters, x, xp=xp)

        def changed(dy, input_gradient=True):
            dx, gradients = pullback(dy, input_gradient)
            given = {"x": x, "dy": dy, **parameters}
            return self.change(dx, gradients, given, xp, input_gradient)

        return y, changed


def weight(function):
    def change(dx, gradients, given, xp, wanted):
        return dx, {**gradients, "weight": function(gradients["weight"], given, xp)}

    return change


@pytest.mark.parametrize(
    ("units", "change", "message"),
    [
        (3, weight(lambda g, given, xp: -g), r"weight\[0, 0\], where weight is .* must be"),
        (3, weight(lambda g, given, xp: g / 5.0), r"weight\[0, 0\], .* must be"),
        (3, weight(lambda g, given, xp: g.T), r"weight must have shape \(4, 3\), got \(3, 4\)"),
        (4, weight(lambda g, given, xp: g.T), r"weight\[0, 1\], .* must be"),
        (4, lambda dx, g, given, xp, w: (given["dy"] @ given["weight"] if w else None, g), r"x\["),
        (3, lambda dx, g, given, xp, w: (dx, {"weight": g["weight"]}), r"gradients of bias, wei"),
        (3, lambda dx, g, given, xp, w: (dx, {**g, "bias": g["bias"] / 5.0}), r"bias\[0\]"),
        (3, lambda dx, g, given, xp, w: (given["x"], g), r"without input_gradient, .* None"),
    ],
)
def test_mistakes_in_a_layer_are_found(units, change, message):
    with pytest.raises(PartError, match=r"^Dense\(\d\) on numpy in float64: .*" + message):
        check_gradients(Changed(units, change), backends=["numpy"])


class Frozen(xpnn.BatchNorm):
    """BatchNorm whose pullback in training forgets that mean and variance depend on x."""

    def train(self, parameters, buffers, x, key, *, xp):
        y, pullback, after = super().train(parameters, buffers, x, key, xp=xp)
        inverse = 1.0 / xp.sqrt(xp.var(x, axis=0) + self.eps)

        def frozen(dy, input_gradient=True):
            _, gradients = pullback(dy, False)
            return dy * parameters["scale"] * inverse if input_gradient else None, gradients

        return y, frozen, after


def test_a_mistake_in_training_alone_is_found():
    with pytest.raises(
        PartError, match=r"in float64: with . samples?, in training, the gradient of x\[0, 0\]"
    ):
        check_gradients(Frozen(), backends=["numpy"])
    model = xpnn.Sequential(xpnn.Dense(4), Frozen())
    with pytest.raises(
        PartError,
        match=r"in float64: with . samples?, in training, the gradient of 0\.weight\[0, 0\]",
    ):
        check_gradients(model, backends=["numpy"])


def test_a_model_with_a_wrong_layer_is_found():
    wrong = Changed(3, weight(lambda g, given, xp: -g))
    model = xpnn.Sequential(xpnn.Dense(4), xpnn.Activation("tanh"), wrong)
    with pytest.raises(PartError, match=r"the gradient of 2\.weight\[0, 0\]"):
        check_gradients(model, backends=["numpy"])
    through = Changed(3, lambda dx, g, given, xp, wanted: (2.0 * dx, g))
    model = xpnn.Sequential(xpnn.Dense(4), through)
    with pytest.raises(PartError, match=r"the gradient of 0\.weight\[0, 0\]"):
        check_gradients(model, backends=["numpy"])


class Batched(xpnn.Layer):
    """A layer that computes ``2 x``, whose pullback is wrong for some mini-batches or samples."""

    kind = "batched"

    def __init__(self, change):
        self.change = change

    def config(self):
        return {"change": self.change}

    def forward(self, parameters, x, *, xp):
        n = x.shape[0]

        def pullback(dy, input_gradient=True):
            dx = 2.0 * dy
            row = xp.cumulative_sum(xp.ones_like(dy), axis=0)
            match self.change:
                case 1 | 2 | 5 if n == self.change:
                    dx = dy
                case "last":
                    dx = xp.where((row == n) & (row > 2), dy, dx)
                case "far":
                    dx = xp.where(xp.abs(x) > 10, dy, dx)
                case "near":
                    dx = xp.where(xp.abs(x) < 0.05, dy, dx)
            return dx if input_gradient else None, {}

        return 2.0 * x, pullback


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (1, "with 1 sample, "),
        (2, "with 2 samples, "),
        (5, "with 5 samples, "),
        ("last", r"with 5 samples, the gradient of x\[4, 0\]"),
        ("far", r"where x is -?\d\d\."),
        ("near", r"where x is -?0\.0"),
    ],
)
def test_a_layer_that_is_wrong_somewhere(change, message):
    assert check_gradients(Batched("nothing"), backends=["numpy"]).rows
    with pytest.raises(PartError, match=rf"on numpy in float64: .*{message}"):
        check_gradients(Batched(change), backends=["numpy"])
