"""The checks of one's own parts find each kind of mistake, and nothing in xpnn's own parts."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

import xpnn
from tests.conftest import LIBRARIES, open_backend
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


@pytest.mark.parametrize(
    "part",
    [
        "relu6:cap=2.5",
        xpnn.Activation("gelu", approximate="tanh"),
        xpnn.activations.tanhexp,
        xpnn.Dense(3),
        xpnn.Dense(4, bias=False),
        xpnn.Dropout(0.25),
        xpnn.BatchNorm(),
        xpnn.Sequential(xpnn.Dense(5), xpnn.BatchNorm(), xpnn.Dropout(0.25), xpnn.Dense(2)),
        xpnn.CrossEntropy(label_smoothing=0.2),
        xpnn.CrossEntropy(),
        xpnn.Flooding(xpnn.CrossEntropy(), b=5.0),
        xpnn.MeanSquaredError(),
        xpnn.BinaryCrossEntropy(),
        xpnn.Sequential(xpnn.Dense(5), xpnn.Activation("relu"), xpnn.Dense(2)),
    ],
    ids=lambda part: getattr(part, "__name__", repr(part)),
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
    assert report.rows[0].entries == 24
    one = check_gradients(xpnn.BinaryCrossEntropy(), inputs=1, targets=labels % 2, backends=numpy)
    assert one.rows[0].entries == 6


def test_a_trained_model():
    rng = np.random.RandomState(0)
    model = xpnn.Sequential(xpnn.Dense(30), xpnn.Activation("relu"), xpnn.Dense(3))
    xpnn.fit(model, (rng.standard_normal((40, 6)), rng.randint(0, 3, 40)), epochs=2, seed=1)
    before = model.sha256()
    (row, _) = check_gradients(model, backends=["numpy"]).rows
    assert row.entries == 100 + 30 + 90 + 3  # of 180 weights, 100 are drawn
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
    assert ["numpy", "float64", "107", "1", "0.0e+00"] in [line.split() for line in lines]
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


GRADIENT = r"the gradient of u\[\d+\], where u is .* must be .*, got "
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
        r"u\[10\], where u is -3 and its output's gradient \S+, must be \S+, got -?0$",
    ),
    "far out": (
        mistake(lambda slope, dz, u, xp: dz * xp.where(u > 60, 0.0, slope)),
        r"where u is 100 .* must be ",
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
        r"the gradient of u must have shape \(107,\), got \(\)",
    ),
    "number": (mistake(lambda slope, dz, u, xp: 0.0), r"must be an array of .*, got"),
    "overflow": (overflows, r"where u is 10000 .* must be .*, got nan"),
    "beyond a kink": (steep, r"where u is 0 .* must be between .* and .*, at a kink, got "),
    "wrong side": (swapped, GRADIENT),
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

    with pytest.raises(PartError, match=r" on numpy in float32: .*" + GRADIENT):
        check_gradients(part)


@pytest.mark.parametrize("part", [changes_u, changes_dz])
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_changed_inputs_are_found(part, library):
    open_backend(library)
    with pytest.raises(PartError, match=rf"on {library} in float64: it changes an input"):
        check_gradients(part, backends=[library])


def test_what_cannot_be_compiled_is_found():
    open_backend("jax")
    assert check_gradients(asks, backends=["numpy"]).rows
    with pytest.raises(PartError, match=r"asks on jax in float64: Tracer\w+Error: "):
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
    with pytest.raises(PartError, match=r"in float64: the gradient of x\[0, 0\]"):
        check_gradients(Frozen(), backends=["numpy"])
    model = xpnn.Sequential(xpnn.Dense(4), Frozen())
    with pytest.raises(PartError, match=r"in float64: the gradient of 0\.weight\[0, 0\]"):
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
        samples = 0.5 * xp.sum(d * d, axis=1)
        gradient = d / outputs.shape[0]
        match self.change:
            case "sum":
                gradient = d
            case "sign":
                gradient = -gradient
            case "mean":
                samples = xp.mean(samples)
            case "columns":
                gradient = xp.where(xp.cumulative_sum(xp.ones_like(d), axis=1) > 1, gradient, 0.0)
        return samples, gradient


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("sum", r"outputs\[0, 0\], where outputs is "),
        ("sign", r"outputs\[0, 0\]"),
        ("columns", r"outputs\[0, 0\]"),
        ("mean", r"samples must have shape \(5,\), got \(\)"),
    ],
)
def test_mistakes_in_a_loss_are_found(change, message):
    assert check_gradients(Squared(), backends=["numpy"]).rows
    with pytest.raises(PartError, match=rf"^Squared\(change='{change}'\) on .*{message}"):
        check_gradients(Squared(change), backends=["numpy"])


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
