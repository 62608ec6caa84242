"""The checks of one's own parts find each kind of mistake, and nothing in xpnn's own parts."""

import re
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

import xpnn
from tests.helpers import LIBRARIES, ROOT, open_backend
from xpnn.activations import ACTIVATIONS
from xpnn.backends import BACKENDS
from xpnn.optimizers import OPTIMIZERS
from xpnn.testing import PartError, check_gradients, check_optimizer

BACKEND_NAMES = [name for name in LIBRARIES if name != "numpy-readonly"]


def shipped(registry):
    return [name for name, part in registry.items() if part.__module__.startswith("xpnn.")]


@pytest.fixture(params=BACKEND_NAMES)
def name(request):
    """Each backend that is installed."""
    open_backend(request.param)
    return request.param


@pytest.mark.parametrize("activation", shipped(ACTIVATIONS))
def test_every_activation_is_right(activation):
    assert check_gradients(activation, backends=["numpy"]).part == activation


def shown(part):
    return getattr(part, "__name__", repr(part))


@pytest.mark.parametrize(
    "part",
    [
        "relu6:cap=2.5",
        xpnn.Activation("gelu", approximate="tanh"),
        lambda u, *, xp: (u * u * u, lambda dz: 3.0 * u * u * dz),
        lambda u, *, xp: (u * xp.abs(u), lambda dz: 2.0 * xp.abs(u) * dz),
        lambda u, *, xp: (xp.sin(30.0 * u), lambda dz: 30.0 * xp.cos(30.0 * u) * dz),
        xpnn.Dense(3),
        xpnn.Dense(4, bias=False),
        xpnn.Dropout(0.25),
        xpnn.BatchNorm(),
        xpnn.CrossEntropy(label_smoothing=0.2),
        xpnn.Flooding(xpnn.CrossEntropy(), b=5.0),
        xpnn.MeanSquaredError(),
        xpnn.Flooding(xpnn.MeanSquaredError(), b=0.5),
        xpnn.BinaryCrossEntropy(),
        xpnn.Sequential(xpnn.Dense(5), xpnn.Activation("relu"), xpnn.Dense(2)),
    ],
    ids=shown,
)
def test_right_parts(part):
    double, single = check_gradients(part, backends=["numpy"]).rows
    assert double.entries > 0
    assert double.error < 1e-6
    assert single.error < 1e-4


@pytest.mark.parametrize(
    "part",
    [
        xpnn.activations.tanhexp,
        xpnn.CrossEntropy(),
        xpnn.Sequential(xpnn.Dense(2), xpnn.BatchNorm(), xpnn.Dropout(0.25)),
    ],
    ids=shown,
)
def test_right_parts_on_every_backend(part, name):
    report = check_gradients(part, backends=[name])
    double, single = report.rows
    assert (double.backend, double.dtype, single.dtype) == (name, "float64", "float32")
    assert double.entries > 0
    assert double.error < 1e-6
    assert single.error < 1e-4


def test_targets_of_a_loss():
    labels = np.array([0, 3, 1, 2, 0, 0])
    numpy = ["numpy"]
    report = check_gradients(xpnn.CrossEntropy(), targets=labels, backends=numpy)
    # of 25 sizes about 0 and the targets, of 3 sizes with 2 samples and all, and with weights
    assert report.rows[0].entries == 25 * 2 * 4 + 3 * (8 + 24) + 4 + 3 * (8 + 24)
    one = check_gradients(xpnn.BinaryCrossEntropy(), inputs=1, targets=labels % 2, backends=numpy)
    assert one.rows[0].entries == 25 * 2 + 3 * (2 + 6) + 1 + 3 * (2 + 6)


def test_a_trained_model():
    rng = np.random.RandomState(0)
    model = xpnn.Sequential(xpnn.Dense(30), xpnn.Activation("relu"), xpnn.Dense(3))
    xpnn.fit(model, (rng.standard_normal((40, 6)), rng.randint(0, 3, 40)), epochs=2, seed=1)
    before = model.sha256()
    (row, _) = check_gradients(model, backends=["numpy"]).rows
    # of 180 weights, 100 are drawn, and 25 for each other mini-batch
    assert row.entries == 100 + 30 + 90 + 3 + 4 * (25 + 25 + 25 + 3)
    assert model.sha256() == before


def test_kinks_are_told_apart():
    rows = {
        activation: check_gradients(activation, backends=["numpy"]).rows[0].kinks
        for activation in ("relu", "relu6", "leaky_relu", "h_swish", "tanh", "elu", "elu:alpha=2")
    }
    assert rows == {
        "relu": 1, "relu6": 2, "leaky_relu": 1, "h_swish": 2, "tanh": 0, "elu": 0, "elu:alpha=2": 1
    }  # fmt: skip


def test_the_report_is_a_table(monkeypatch):
    monkeypatch.setattr("xpnn.backends.CupyBackend.module", "not_a_module")
    report = check_gradients("relu")
    lines = str(report).splitlines()
    assert lines[0] == "relu: the derivative is right"
    assert lines[1].split() == ["backend", "dtype", "entries", "kinks", "largest", "error"]
    assert ["numpy", "float64", "4120", "1", "0.0e+00"] in [line.split() for line in lines]
    assert lines[-1].startswith("skipped cupy: backend 'cupy' is not installed")
    names = {row.backend for row in report.rows} | set(report.skipped)
    assert names == set(BACKENDS)


def test_a_backend_that_was_asked_for_must_be_there(monkeypatch):
    monkeypatch.setattr("xpnn.backends.CupyBackend.module", "not_a_module")
    with pytest.raises(xpnn.BackendError, match="'cupy' is not installed"):
        check_gradients("relu", backends=["cupy"])


# activations with mistakes ---------------------------------------------------------------------


def right(u, xp):
    """u tanh(u), whose derivative has two terms."""
    t = xp.tanh(u)
    return u * t, t + u * (1.0 - t * t)


def mistake(change):
    """Return an activation whose pullback is ``change(derivative, dz, u, xp)``."""

    def wrong(u, *, xp):
        z, slope = right(u, xp)
        return z, lambda dz: change(slope, dz, u, xp)

    return wrong


def no_second_term(u, *, xp):
    t = xp.tanh(u)
    return u * t, lambda dz: dz * t


def second_value(u, *, xp):
    """The pullback forgets that it is handed dz, and uses another point."""
    z, _ = right(u, xp)
    return z, lambda dz: dz * right(dz, xp)[1]


def last_sample(slope, dz, u, xp):
    row = xp.cumulative_sum(xp.ones_like(u), axis=0)
    return dz * xp.where(row == 512, 0.0, slope)


def no_term_of_large_u(u, *, xp):
    return u + 1e-5 * u * u, lambda dz: dz * 1.0


def single_value(u, *, xp):
    z, slope = right(xp.astype(u, xp.float32), xp)
    return xp.astype(z, u.dtype), lambda dz: dz * xp.astype(slope, u.dtype)


def changes_u(u, *, xp):
    slope = right(u, xp)[1]
    u *= xp.tanh(u)
    return u, lambda dz: dz * slope


def changes_dz(u, *, xp):
    z, slope = right(u, xp)

    def pullback(dz):
        dz *= slope
        return dz

    return z, pullback


def overflows(u, *, xp):
    """TanhExp by the book: 0 times infinity for large u."""
    t = xp.tanh(xp.exp(u))
    return u * t, lambda dz: dz * (t + u * (1.0 - t * t) * xp.exp(u))


def steep(u, *, xp):
    """ReLU whose derivative at 0 is that of neither side, nor between them."""
    return (
        xp.maximum(u, 0.0),
        lambda dz: (
            dz * xp.where(u > 0, 1.0, xp.where(u == 0, 1.5 * xp.ones_like(u), xp.zeros_like(u)))
        ),
    )


def swapped(u, *, xp):
    """ReLU whose derivative is the one of the other side."""
    return xp.maximum(u, 0.0), lambda dz: xp.where(u < 0, dz, 0.0 * dz)


def asks(u, *, xp):
    return (u, lambda dz: dz) if xp.sum(u) < 1e9 else (2.0 * u, lambda dz: 2.0 * dz)


GRADIENT = r"the gradient of u\[\d+, \d\], where u is .* must be .*, got "
POINT = r"and its output's gradient \S+, must be \S+ by finite differences, got "
MISTAKES = {
    "sign": (mistake(lambda slope, dz, u, xp: -slope * dz), GRADIENT),
    "factor": (mistake(lambda slope, dz, u, xp: 0.5 * slope * dz), GRADIENT),
    "slight factor": (mistake(lambda slope, dz, u, xp: (1 + 1e-6) * slope * dz), GRADIENT),
    "without dz": (mistake(lambda slope, dz, u, xp: slope + 0.0 * dz), GRADIENT),
    "missing term": (no_second_term, GRADIENT),
    "of dz": (second_value, GRADIENT),
    "negative x": (
        mistake(lambda slope, dz, u, xp: dz * xp.where(u < 0, -slope, slope)),
        r"where u is -.* must be .*, got ",
    ),
    "one point": (
        mistake(lambda slope, dz, u, xp: dz * xp.where(u == -3, 0.0, slope)),
        rf"with 512 samples, the gradient of \S+ \d\], where u is -3 {POINT}-?0$",
    ),
    "far out": (
        mistake(lambda slope, dz, u, xp: dz * xp.where(u > 60, 0.0, slope)),
        rf"where u is 64 {POINT}-?0 \(and \d+ more of 4096 are wrong\)$",
    ),
    "single slope": (
        mistake(lambda slope, dz, u, xp: xp.astype(xp.astype(slope, xp.float32), dz.dtype) * dz),
        GRADIENT,
    ),
    "single value": (single_value, r"isn't a smooth function of u .* in lower precision\?"),
    "dtype": (
        mistake(lambda slope, dz, u, xp: xp.astype(slope * dz, xp.float32)),
        r"the gradient of u must be float64, got \S*float32",
    ),
    "shape": (
        mistake(lambda slope, dz, u, xp: xp.sum(slope * dz)),
        r"the gradient of u must have shape \(512, 8\), got \(\)",
    ),
    "number": (mistake(lambda slope, dz, u, xp: 0.0), r"must be an array of .*, got"),
    "overflow": (overflows, r"where u is 768 .* must be .*, got nan"),
    "beyond a kink": (steep, r"where u is 0 .* must be between .* and .*, .* at a kink, got "),
    "wrong side": (swapped, GRADIENT),
    "in an interval": (
        mistake(lambda slope, dz, u, xp: dz * xp.where(xp.abs(u - 2.71) < 0.01, 0.9, 1.0) * slope),
        rf"where u is 2\.7\d+ {POINT}",
    ),
    "near 0": (
        mistake(lambda slope, dz, u, xp: dz * xp.where(xp.abs(u) < 1e-3, 0.0, slope)),
        rf"where u is -?(0\.00\d+|\d\.\d+e-05) {POINT}-?0",
    ),
    "far below": (
        mistake(lambda slope, dz, u, xp: dz * xp.where(u < -1e4, -slope, slope)),
        rf"where u is -\d{{5}} {POINT}",
    ),
    "term of large u": (no_term_of_large_u, GRADIENT),
    "kink at another place": (
        lambda u, *, xp: (xp.maximum(u, 0.0), lambda dz: dz * xp.where(u > -2e-4, 1.0, 0.0)),
        rf"where u is -\d\S+e-05 {POINT}",
    ),
    "kink's sides": (
        lambda u, *, xp: (xp.abs(u), lambda dz: dz * xp.where(u < 0, 1.0, -1.0)),
        GRADIENT,
    ),
    "last sample": (
        mistake(last_sample),
        r"with 512 samples, the gradient of u\[511, 0\]",
    ),
    "one sample alone": (
        mistake(lambda slope, dz, u, xp: dz * slope * (0.5 if u.shape[0] == 1 else 1.0)),
        "with 1 sample, " + GRADIENT,
    ),
    "two samples alone": (
        mistake(lambda slope, dz, u, xp: dz * slope * (0.5 if u.shape[0] == 2 else 1.0)),
        "with 2 samples, " + GRADIENT,
    ),
    "nowhere finite": (
        lambda u, *, xp: (u + xp.nan, lambda dz: dz),
        "with 512 samples, the value must be finite",
    ),
    "no pullback": (lambda u, *, xp: u, r"ValueError: too many values to unpack"),
}  # fmt: skip


@pytest.mark.parametrize("kind", MISTAKES)
def test_mistakes_in_an_activation_are_found(kind):
    part, message = MISTAKES[kind]
    with pytest.raises(PartError, match=r"^\S+ on numpy in float64: .*" + message):
        check_gradients(part, backends=["numpy"])


@pytest.mark.parametrize("kind", ["sign", "missing term", "negative x", "single slope", "dtype"])
def test_mistakes_are_found_on_every_backend(kind, name):
    part, message = MISTAKES[kind]
    with pytest.raises(PartError, match=rf" on {name} in float64: .*{message}"):
        check_gradients(part, backends=[name])


def test_the_right_one_passes():
    assert check_gradients(mistake(lambda slope, dz, u, xp: slope * dz)).rows


def test_a_mistake_in_float32_alone():
    @mistake
    def part(slope, dz, u, xp):
        return dz * (slope if u.dtype == xp.float64 else -slope)

    with pytest.raises(PartError, match=r" on numpy in float32: .*" + GRADIENT + r"\S+$"):
        check_gradients(part)


def test_a_mistake_in_float32_near_0_alone():
    """Beside derivatives that are a million times as large, further out."""

    def part(u, *, xp):
        sign = -1.0 if u.dtype == xp.float32 else 1.0
        slope = 3.0 * u * u
        return u * u * u, lambda dz: dz * xp.where(xp.abs(u) < 1, sign * slope, slope)

    message = r"in float32: .* must be \S+, as in float64, got "
    with pytest.raises(PartError, match=message):
        check_gradients(part, backends=["numpy"])


@pytest.mark.parametrize("part", [changes_u, changes_dz])
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_changed_inputs_are_found(part, library):
    open_backend(library)
    with pytest.raises(PartError, match=rf"on {library} in float64: with .*, it changes an input"):
        check_gradients(part, backends=[library])


def test_what_cannot_be_compiled_is_found():
    open_backend("jax")
    assert check_gradients(asks, backends=["numpy"]).rows
    with pytest.raises(PartError, match=r"asks on jax in float64: with .*, Tracer\w+Error: "):
        check_gradients(asks, backends=["jax"])


# layers, losses, models ------------------------------------------------------------------------


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


@dataclass(frozen=True)
class Squared(xpnn.Loss):
    """Half the squared error, and what is wrong with it."""

    change: str = "right"
    name: ClassVar[str] = "squared"

    def samples(self, outputs, targets, *, xp):
        d = outputs - targets
        n = outputs.shape[0]
        samples = 0.5 * xp.sum(d * d, axis=1)
        gradient = d / n
        row = xp.cumulative_sum(xp.ones_like(d), axis=0)
        match self.change:
            case "sum":
                gradient = d
            case "sign":
                gradient = -gradient
            case "negative":
                gradient = xp.abs(gradient)
            case "mean":
                samples = xp.mean(samples)
            case "columns":
                gradient = xp.where(xp.cumulative_sum(xp.ones_like(d), axis=1) > 1, gradient, 0.0)
            case "last":
                gradient = xp.where((row == n) & (row > 1), 0.0, gradient)
            case "one":
                gradient = gradient * (2.0 if n == 1 else 1.0)
            case "n - 1":
                gradient = d / max(n - 1, 1)
            case "near":
                gradient = xp.where(xp.abs(d) < 0.02, 0.0, gradient)
            case "far":
                gradient = xp.clip(gradient, -40.0, 40.0)
        return samples, gradient

    def weighted(self, outputs, targets, weights, *, xp):
        samples, gradient = super().weighted(outputs, targets, weights, xp=xp)
        w = xp.expand_dims(weights, axis=1)
        match self.change:
            case "no weights":
                gradient = (outputs - targets) / outputs.shape[0]
            case "twice":
                gradient = gradient * w
            case "by their sum":
                gradient = gradient * (outputs.shape[0] / xp.sum(weights))
            case "weighted samples":
                samples = samples * weights
            case "ones":
                gradient = gradient * xp.where(xp.all(weights == 1.0), 0.5, 1.0)
            case "ones' samples":
                samples = samples * xp.where(xp.all(weights == 1.0), 0.5, 1.0)
        return samples, gradient


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("sum", r"with 2 samples, the gradient of outputs\[0, 0\], where outputs is \S+, must be"),
        ("sign", r"with 1 sample, the gradient of outputs\[0, 0\]"),
        ("negative", r"outputs\[0, \d\], where outputs is .* must be -.* got "),
        ("columns", r"outputs\[0, 0\]"),
        ("mean", r"samples must have shape \(1,\), got \(\)"),
        ("last", r"with 2 samples, .* outputs\[1, 0\], .*, got -?0 \(and 3 more of 8 are wrong\)$"),
        ("one", "with 1 sample, .* by finite differences, got "),
        ("n - 1", "with 2 samples, .* by finite differences, got "),
        ("near", "with 1 sample, .*, got -?0"),
        ("far", "with 1 sample, .*, got -?40"),
        ("no weights", "with 1 sample, weighted, the gradient of outputs"),
        ("twice", "with 1 sample, weighted, the gradient of outputs"),
        ("by their sum", "with 1 sample, weighted, the gradient of outputs"),
        ("weighted samples", "weighted, "),
        ("ones", "weighted with weights of 1 must return the gradient of `samples`, .* at .* got"),
        (
            "ones' samples",
            "weighted with weights of 1 must return the samples of `samples`, .* got",
        ),
    ],
)
def test_mistakes_in_a_loss_are_found(change, message):
    with pytest.raises(PartError) as caught:
        check_gradients(Squared(change), backends=["numpy"])
    start = re.escape(f"Squared(change={change!r}) on numpy in float64: ")
    assert re.match(start + ".*" + message, str(caught.value))


def test_a_loss_whose_samples_depend_on_each_other_must_have_a_weighted_of_its_own():
    """The square of the mean: its gradient has the mean of all samples in it."""

    class SquaredMean(Squared):
        def value(self, mean):
            return mean * mean

        def samples(self, outputs, targets, *, xp):
            samples, gradient = super().samples(outputs, targets, xp=xp)
            return samples, 2.0 * xp.mean(samples) * gradient

    with pytest.raises(PartError, match=r"with 1 sample, weighted, the gradient of outputs"):
        check_gradients(SquaredMean(), backends=["numpy"])

    class Right(SquaredMean):
        def weighted(self, outputs, targets, weights, *, xp):
            samples, gradient = Squared.samples(self, outputs, targets, xp=xp)
            gradient = gradient * xp.expand_dims(weights, axis=1)
            return samples, 2.0 * xp.mean(weights * samples) * gradient

    assert check_gradients(Right(), backends=["numpy"]).rows


@pytest.mark.parametrize("change", ["sum", "twice"])
def test_mistakes_in_a_loss_are_found_on_every_backend(change, name):
    with pytest.raises(PartError, match=rf" on {name} in float64: with .* the gradient of outputs"):
        check_gradients(Squared(change), backends=[name], inputs=1)


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


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("tanhex", "unknown activation 'tanhex'; did you mean 'tanhexp'"),
        (3, r"part must be an activation \(name or function\), a layer, a loss or a model, got 3"),
        (xpnn.Dense, "part must be .*, got <class"),
    ],
)
def test_what_is_no_part(part, message):
    with pytest.raises(xpnn.ArgumentError, match=message):
        check_gradients(part)


def test_arguments():
    with pytest.raises(xpnn.ArgumentError, match="inputs must be a whole number >= 1, got 0"):
        check_gradients("relu", inputs=0)
    with pytest.raises(xpnn.ArgumentError, match=r"targets must be of 1 sample or more, got shape"):
        check_gradients(xpnn.MeanSquaredError(), targets=np.zeros((0, 4)))
    with pytest.raises(xpnn.ArgumentError, match="targets are for a loss alone"):
        check_gradients("relu", targets=np.zeros(3))
    with pytest.raises(xpnn.ArgumentError, match=r"needs a network with 2 or more outputs"):
        check_gradients(xpnn.CrossEntropy(), inputs=1)
    with pytest.raises(xpnn.ArgumentError, match=r"unknown backend 'nump'"):
        check_gradients("relu", backends=["nump"])


# optimizers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", shipped(OPTIMIZERS))
def test_every_optimizer_is_right(optimizer):
    report = check_optimizer(optimizer, backends=["numpy", "strict"])
    assert [row.error for row in report.rows] == [0.0] * 4


def test_an_optimizer_on_every_backend():
    report = check_optimizer(xpnn.Nesterov(lr=0.1))
    assert {row.backend for row in report.rows} | set(report.skipped) == set(BACKENDS)
    assert "takes the same steps everywhere" in str(report)


@dataclass(frozen=True)
class Wrong(xpnn.Optimizer):
    """Momentum, and what is wrong with it."""

    change: str = "right"
    slots: ClassVar[tuple[str, ...]] = ("velocity",)

    def rule(self, w, g, *slots, xp):
        (v,) = slots
        v = 0.9 * v - 0.1 * g
        match self.change:
            case "gradient":
                g *= 2.0
            case "dtype":
                return w + v, xp.astype(v, xp.float32)
            case "shape":
                return w + v, xp.sum(v)
            case "itself":
                steps = getattr(self, "steps", 0) + 1
                object.__setattr__(self, "steps", steps)
                v = v * (1.0 + 0.1 * steps)
        return w + v, v


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("gradient", "it changes an input"),
        ("dtype", r"in float64: a step must keep the state, .*float64.*, got .*float32"),
        ("shape", r"a step must keep the state, "),
        ("itself", r"the same steps don't end with the same weights twice: is something kept"),
    ],
)
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_mistakes_in_an_optimizer_are_found(change, message, library):
    open_backend(library)
    assert check_optimizer(Wrong(), backends=[library]).rows
    with pytest.raises(PartError, match=message):
        check_optimizer(Wrong(change), backends=[library])


def test_what_is_kept_in_an_optimizer_is_found_where_steps_are_compiled():
    open_backend("jax")
    with pytest.raises(PartError, match="the same steps don't end with the same weights twice"):
        check_optimizer(Wrong("itself"), backends=["jax"])


def test_backends_that_part_are_found():
    open_backend("strict")

    class Parted(xpnn.SGD):
        def rule(self, w, g, *slots, xp):
            return (w - (0.1 if isinstance(w, np.ndarray) else 0.11) * g,)

    with pytest.raises(PartError, match=r"on strict in float64: its weights differ .* on numpy by"):
        check_optimizer(Parted(), backends=["numpy", "strict"])


def test_what_is_no_optimizer():
    with pytest.raises(xpnn.ArgumentError, match="must be an Optimizer or its name, got 3"):
        check_optimizer(3)


@pytest.mark.parametrize("backends", [[], "numpy", iter(())])
def test_backends_are_a_list_of_names(backends):
    with pytest.raises(xpnn.ArgumentError, match="backends must be a list of one name or more"):
        xpnn.testing.check_gradients("relu", backends=backends)


def test_the_page_shows_what_a_mistake_costs():
    """The message in docs/guide/own-parts.md, of its activation without the 1."""

    def squareplus(u, b=4.0, *, xp):
        root = xp.sqrt(u * u + b)
        return 0.5 * (u + root), lambda dz: 0.5 * dz * (u / root)

    page = (ROOT / "docs" / "guide" / "own-parts.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"^```\n(squareplus on numpy .*?)\n```", page, re.MULTILINE | re.DOTALL)
    with pytest.raises(PartError) as caught:
        check_gradients(squareplus, backends=["numpy"])
    # the last digits are the machine's
    digits = r"(\d\.\d{5})\d*"
    shown, found = (re.sub(digits, r"\1", text) for text in (shown, str(caught.value)))
    assert found == shown.replace("\n", " ")
