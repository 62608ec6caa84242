"""Losses against their formulas in 40 digits, PyTorch's autograd, and finite differences."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace

import mpmath as mp
import numpy as np
import pytest
from array_api_compat import device

import xpnn
from xpnn import (
    BinaryCrossEntropy,
    BinaryFocal,
    CrossEntropy,
    Flooding,
    Focal,
    Huber,
    MeanAbsoluteError,
    MeanSquaredError,
    Poisson,
    Quantile,
)
from xpnn.errors import ArgumentError
from xpnn.losses import LOSSES, labels

RNG = np.random.RandomState(3)
OUTPUTS = RNG.uniform(-5, 5, (6, 4))
LABELS = np.array([3, 0, 1, 1, 0, 3])  # class 2 never occurs
ONE_HOT = np.eye(4)[LABELS]
VALUES = RNG.uniform(0, 2, (6, 4))
PROBABILITIES = VALUES / VALUES.sum(axis=1, keepdims=True)
BITS = np.array([1, 0, 0, 1, 1, 0])


# Each formula returns the terms that are added up to one sample's loss, from outputs u, targets t


def cross_entropy(u, t):
    total = mp.log(sum(map(mp.exp, u)))
    return [x for a, b in zip(u, t, strict=True) for x in (b * (total - max(u)), b * (max(u) - a))]


def squared_error(u, t):
    return [(a - b) ** 2 / len(u) for a, b in zip(u, t, strict=True)]


def binary_cross_entropy(u, t):
    return [x / len(u) for a, b in zip(u, t, strict=True) for x in (mp.log1p(mp.exp(a)), -b * a)]


def absolute_error(u, t):
    return [abs(a - b) / len(u) for a, b in zip(u, t, strict=True)]


def huber(u, t, delta=1):
    d = [abs(a - b) for a, b in zip(u, t, strict=True)]
    return [(x * x / 2 if x <= delta else delta * (x - delta / 2)) / len(u) for x in d]


def narrow_huber(u, t):
    return huber(u, t, mp.mpf("0.25"))


def poisson(u, t):
    return [x / len(u) for a, b in zip(u, t, strict=True) for x in (mp.exp(a), -b * a)]


def pinball(u, t, levels=(0.5,)):
    q = np.repeat(levels, len(u) // len(levels))
    return [
        max(mp.mpf(level) * (b - a), (1 - mp.mpf(level)) * (a - b)) / len(u)
        for level, a, b in zip(q, u, t, strict=True)
    ]


def pinballs(u, t):
    return pinball(u, t, (0.125, 0.75))


def focal(u, t, gamma=2, alpha=(1, 1, 1, 1)):
    total = mp.log(sum(map(mp.exp, u)))
    rows = zip(u, t, alpha, strict=True)
    return [
        x
        for a, b, c in rows
        for weight in [b * c * (1 - mp.exp(a - total)) ** gamma]
        for x in (weight * (total - max(u)), weight * (max(u) - a))
    ]


def weighted_focal(u, t):
    return focal(u, t, mp.mpf("0.5"), (0.5, 2, 0, 1))


def binary_focal(u, t, gamma=2, yes=1, no=1):
    p = [1 / (1 + mp.exp(-a)) for a in u]
    return [
        x / len(u)
        for a, b in zip(p, t, strict=True)
        for x in (
            -yes * b * (1 - a) ** gamma * mp.log(a), -no * (1 - b) * a**gamma * mp.log(1 - a)
        )
    ]  # fmt: skip


def weighted_binary_focal(u, t):
    return binary_focal(u, t, mp.mpf("1.5"), mp.mpf("0.25"), mp.mpf("0.75"))


@dataclass(frozen=True, eq=False)
class Case:
    """A loss on a mini-batch, and its formula."""

    name: str
    loss: xpnn.Loss
    formula: Callable
    outputs: np.ndarray
    targets: np.ndarray

    def __str__(self):
        return self.name

    def dense(self):
        """Return the targets in the shape of the outputs."""
        n, k = self.outputs.shape
        if self.targets.dtype.kind == "i" and k > 1:
            return np.eye(k)[self.targets]
        targets = self.targets.reshape(n, k // self.loss.outputs_per_target)
        return np.tile(targets, self.loss.outputs_per_target).astype(np.float64)

    def rows(self, count):
        return replace(self, outputs=self.outputs[:count], targets=self.targets[:count])


CASES = [
    Case("cross_entropy-labels", CrossEntropy(), cross_entropy, OUTPUTS, LABELS),
    Case("cross_entropy-one_hot", CrossEntropy(), cross_entropy, OUTPUTS, ONE_HOT),
    Case("cross_entropy-soft", CrossEntropy(), cross_entropy, OUTPUTS, PROBABILITIES),
    Case("cross_entropy-weights", CrossEntropy(), cross_entropy, OUTPUTS, VALUES),
    Case("squared_error-values", MeanSquaredError(), squared_error, OUTPUTS, VALUES),
    Case("squared_error-one", MeanSquaredError(), squared_error, OUTPUTS[:, :1], VALUES[:, 0]),
    Case("squared_error-labels", MeanSquaredError(), squared_error, OUTPUTS, LABELS),
    Case("binary-one", BinaryCrossEntropy(), binary_cross_entropy, OUTPUTS[:, :1], BITS),
    Case(
        "binary-several", BinaryCrossEntropy(), binary_cross_entropy, OUTPUTS, np.roll(ONE_HOT, 1)
    ),
    Case("binary-soft", BinaryCrossEntropy(), binary_cross_entropy, OUTPUTS, VALUES / 2),
    Case("binary-labels", BinaryCrossEntropy(), binary_cross_entropy, OUTPUTS, LABELS),
    Case("absolute_error-values", MeanAbsoluteError(), absolute_error, OUTPUTS, VALUES),
    Case("absolute_error-one", MeanAbsoluteError(), absolute_error, OUTPUTS[:, :1], VALUES[:, 0]),
    Case("absolute_error-labels", MeanAbsoluteError(), absolute_error, OUTPUTS, LABELS),
    Case("huber-values", Huber(), huber, OUTPUTS, VALUES),
    Case("huber-near", Huber(), huber, OUTPUTS / 8, VALUES / 8),
    Case("huber-narrow", Huber(delta=0.25), narrow_huber, OUTPUTS / 8, VALUES / 8),
    Case("poisson-values", Poisson(), poisson, OUTPUTS, VALUES),
    Case("poisson-one", Poisson(), poisson, OUTPUTS[:, :1], VALUES[:, 0]),
    Case("quantile-one", Quantile(), pinball, OUTPUTS[:, :1], VALUES[:, 0]),
    Case("quantile-values", Quantile(), pinball, OUTPUTS, VALUES),
    Case("quantile-levels", Quantile((0.125, 0.75)), pinballs, OUTPUTS[:, :2], VALUES[:, 0]),
    Case("quantile-columns", Quantile((0.125, 0.75)), pinballs, OUTPUTS, VALUES[:, :2]),
    Case("focal-labels", Focal(), focal, OUTPUTS, LABELS),
    Case("focal-soft", Focal(), focal, OUTPUTS, PROBABILITIES),
    Case("focal-alpha", Focal(0.5, (0.5, 2, 0, 1)), weighted_focal, OUTPUTS, LABELS),
    Case("focal-of-0", Focal(0), cross_entropy, OUTPUTS, PROBABILITIES),
    Case("binary_focal-one", BinaryFocal(), binary_focal, OUTPUTS[:, :1], BITS),
    Case("binary_focal-several", BinaryFocal(), binary_focal, OUTPUTS, ONE_HOT),
    Case("binary_focal-soft", BinaryFocal(), binary_focal, OUTPUTS, VALUES / 2),
    Case("binary_focal-alpha", BinaryFocal(1.5, 0.25), weighted_binary_focal, OUTPUTS, LABELS),
    Case("binary_focal-of-0", BinaryFocal(0), binary_cross_entropy, OUTPUTS, ONE_HOT),
]
every_case = pytest.mark.parametrize("case", CASES, ids=str)


class Oracle:
    """Value and gradient of a case's formula, and what rounding may add to them.

    In units of eps: exp and log 4 each, 6 for the other operations and for the sums over at most 4
    outputs and 6 samples: 16 of the sum of what is added up in the largest sample, and in the
    gradient.
    """

    def __init__(self, case, dtype):
        outputs, targets = case.outputs.astype(dtype), case.dense().astype(dtype)
        n, k = outputs.shape
        eps = 16 * float(np.finfo(dtype).eps)
        with mp.workdps(40):
            u = [[mp.mpf(float(x)) for x in row] for row in outputs]
            t = [[mp.mpf(float(x)) for x in row] for row in targets]
            terms = [case.formula(*pair) for pair in zip(u, t, strict=True)]
            self.value = float(sum(map(sum, terms)) / max(n, 1))
            self.error = float(eps * max([sum(map(abs, row)) for row in terms], default=0))
            self.gradient = np.empty((n, k))
            for i in range(n):
                for j in range(k):
                    self.gradient[i, j] = float(self._difference(case, u[i], t[i], j) / n)
        largest = {
            cross_entropy: k * np.abs(targets).sum(axis=1),
            squared_error: 2 * (np.abs(outputs) + np.abs(targets)),
            binary_cross_entropy: np.ones(1),
            absolute_error: np.ones(1),
            huber: np.abs(outputs) + np.abs(targets),
            narrow_huber: np.abs(outputs) + np.abs(targets),
            poisson: np.exp(outputs) + targets,
            pinball: np.ones(1),
            pinballs: np.ones(1),
            # (1 + gamma) k alpha, where a cross entropy has k
            focal: 3 * k * np.abs(targets).sum(axis=1),
            weighted_focal: 1.5 * k * 2 * np.abs(targets).sum(axis=1),
            binary_focal: 3 * np.ones(1),
            weighted_binary_focal: 2.5 * np.ones(1),
        }[case.formula].max(initial=0)
        self.gradient_error = eps * largest / max(n * k, 1)

    @staticmethod
    def _difference(case, u, t, j):
        h = mp.mpf("1e-12") * max(1, abs(u[j]))
        above, below = ([*u[:j], u[j] + d, *u[j + 1 :]] for d in (h, -h))
        return (sum(case.formula(above, t)) - sum(case.formula(below, t))) / (2 * h)


@functools.cache
def oracle(case, count, dtype):
    return Oracle(case.rows(count), dtype)


@pytest.fixture
def compute(backend, array):
    """Compute a loss on the backend, with NumPy's warnings as errors; check what comes back."""

    def compute(loss, outputs, targets, **given):
        u, t = array(outputs), array(targets)
        before = [backend.to_numpy(x).copy() for x in (u, t)]
        with np.errstate(all="warn", under="ignore"):
            value, gradient = loss(u, t, **given)
        assert type(gradient) is type(u)
        assert isinstance(value, (type(u), np.generic))
        assert (value.shape, gradient.shape) == ((), u.shape)
        for result in (value, gradient):
            assert (result.dtype, device(result)) == (u.dtype, device(u))
        for x, host in zip((u, t), before, strict=True):
            np.testing.assert_array_equal(backend.to_numpy(x), host)
        return float(backend.to_numpy(value)), backend.to_numpy(gradient)

    return compute


def assert_close(actual, expected, error):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=error)


@every_case
@pytest.mark.parametrize("count", [6, 1, 0])
def test_formula(case, count, compute, backend, dtype):
    expected, case = oracle(case, count, dtype), case.rows(count)
    value, gradient = compute(case.loss, case.outputs, case.targets, xp=backend.xp)
    assert_close(value, expected.value, expected.error)
    assert_close(gradient, expected.gradient, expected.gradient_error)
    inferred = compute(case.loss, case.outputs, case.targets)
    assert inferred[0] == value
    np.testing.assert_array_equal(inferred[1], gradient)


def flood(case, level, dtype="float64"):
    """Return the case's loss, flooded at `level` times its value, and that b."""
    b = level * oracle(case, 6, dtype).value
    return Flooding(case.loss, b=b), b


@every_case
@pytest.mark.parametrize("level", [0.5, 1.5])
def test_flooding(case, level, compute, dtype):
    loss, b = flood(case, level, dtype)
    expected = oracle(case, 6, dtype)
    value, gradient = compute(loss, case.outputs, case.targets)
    # two operations more, and b's own rounding
    error = expected.error + 1.5 * np.finfo(dtype).eps * (expected.value + b)
    assert_close(value, abs(expected.value - b) + b, error)
    sign = -1 if level > 1 else 1
    assert_close(gradient, sign * expected.gradient, expected.gradient_error)


@every_case
def test_flooding_at_the_kink_is_the_loss_itself(case, compute):
    value, gradient = compute(case.loss, case.outputs, case.targets)
    at_kink = compute(Flooding(case.loss, b=value), case.outputs, case.targets)
    assert at_kink[0] == value
    np.testing.assert_array_equal(at_kink[1], gradient)


@pytest.fixture
def assert_gradient(backend, array):
    """Assert that a loss's gradient is that of its value, by central differences in float64."""

    def assert_gradient(loss, case):
        t = array(case.targets)
        h = 2.0**-17
        expected = np.empty_like(case.outputs)
        for at in np.ndindex(expected.shape):
            step = np.zeros_like(expected)
            step[at] = h
            above, below = (loss(array(case.outputs + d), t)[0] for d in (step, -step))
            expected[at] = float(above - below) / (2 * h)
        _, gradient = loss(array(case.outputs), t)
        # what the values are wrong by, and the third derivative, which is less than 6
        error = 2 * oracle(case, 6, "float64").error / h + h * h
        assert_close(backend.to_numpy(gradient), expected, error)

    return assert_gradient


@every_case
@pytest.mark.parametrize("dtype", ["float64"])
@pytest.mark.parametrize("level", [None, 0.5, 1.5])
def test_gradient_is_that_of_the_value(case, level, assert_gradient):
    assert_gradient(case.loss if level is None else flood(case, level)[0], case)


class Doubled(MeanSquaredError):
    """A loss whose value isn't the mean over its samples."""

    def samples(self, outputs, targets, *, xp):
        samples, gradient = super().samples(outputs, targets, xp=xp)
        return samples, gradient * 2

    def value(self, mean):
        return 2 * mean


@pytest.mark.parametrize("dtype", ["float64"])
def test_flooding_goes_by_the_loss_it_wraps(assert_gradient):
    """For E = 1, say: the inner loss of 3, its gradient turned, stays above the outer level 2.5."""
    case = CASES[0]
    inner, b = flood(case, 2)
    assert_gradient(Flooding(inner, b=1.25 * b), case)
    case = Case("", Doubled(), squared_error, OUTPUTS, VALUES)
    assert_gradient(flood(case, 1.5)[0], case)


def torch_pinball(u, t, levels):
    columns = u.shape[1] // len(levels)
    q = np.repeat(levels, columns)
    d = u - t
    above = d.new_tensor(1 - q) * d.clamp(min=0)
    return (above - d.new_tensor(q) * d.clamp(max=0)).mean()


def torch_focal(u, t, gamma, alpha):
    log = u.log_softmax(dim=1)
    return -(u.new_tensor(alpha) * t * (1 - log.exp()) ** gamma * log).sum(dim=1).mean()


def torch_binary_focal(u, t, gamma, yes, no):
    p = u.sigmoid()
    right = yes * t * (1 - p) ** gamma * p.log()
    return -(right + no * (1 - t) * p**gamma * (-u).sigmoid().log()).mean()


@every_case
@pytest.mark.parametrize("level", [None, 0.5, 1.5])
def test_autograd_agrees(case, level, compute, dtype):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    formula = {
        cross_entropy: functional.cross_entropy,
        squared_error: functional.mse_loss,
        binary_cross_entropy: functional.binary_cross_entropy_with_logits,
        absolute_error: functional.l1_loss,
        huber: functional.huber_loss,
        narrow_huber: functools.partial(functional.huber_loss, delta=0.25),
        poisson: functional.poisson_nll_loss,
        pinball: functools.partial(torch_pinball, levels=(0.5,)),
        pinballs: functools.partial(torch_pinball, levels=(0.125, 0.75)),
        focal: functools.partial(torch_focal, gamma=2, alpha=(1, 1, 1, 1)),
        weighted_focal: functools.partial(torch_focal, gamma=0.5, alpha=(0.5, 2, 0, 1)),
        binary_focal: functools.partial(torch_binary_focal, gamma=2, yes=1, no=1),
        weighted_binary_focal: functools.partial(torch_binary_focal, gamma=1.5, yes=0.25, no=0.75),
    }[case.formula]
    u, t = (torch.tensor(x.astype(dtype).astype("float64")) for x in (case.outputs, case.dense()))
    value = formula(u.requires_grad_(), t)
    loss = case.loss
    if level is not None:
        loss, b = flood(case, level, dtype)
        value = torch.abs(value - b) + b
    value.backward()
    computed = compute(loss, case.outputs, case.targets)
    expected = oracle(case, 6, dtype)
    assert_close(computed[0], value.item(), 2 * expected.error)
    assert_close(computed[1], u.grad.numpy(), 2 * expected.gradient_error)


LARGE = {"1e4": lambda dtype: 1e4, "half of the largest": lambda dtype: np.finfo(dtype).max / 2}


@pytest.mark.parametrize("size", LARGE)
@pytest.mark.parametrize(
    ("loss", "u", "t", "value", "gradient"),
    [
        (CrossEntropy(), [[1, -1, 0, 0]], [0], 0, [[0, 0, 0, 0]]),
        (CrossEntropy(), [[1, -1, 0, 0]], [1], 2, [[1, -1, 0, 0]]),
        (CrossEntropy(), [[-1, -1, 1, 0]], [[0.0, 0.0, 0.0, 1.0]], 1, [[0, 0, 1, -1]]),
        (BinaryCrossEntropy(), [[1]], [1], 0, [[0]]),
        (BinaryCrossEntropy(), [[1]], [0], 1, [[1]]),
        (BinaryCrossEntropy(), [[-1]], [0], 0, [[0]]),
        (BinaryCrossEntropy(), [[-1]], [1], 1, [[-1]]),
        (BinaryCrossEntropy(), [[1, -1, 1, -1]], [[0.0, 1, 1, 0]], 0.5, [[0.25, -0.25, 0, 0]]),
        (Focal(), [[1, -1, 0, 0]], [0], 0, [[0, 0, 0, 0]]),
        (Focal(0.5), [[1, -1, 0, 0]], [0], 0, [[0, 0, 0, 0]]),
        (Focal(), [[1, -1, 0, 0]], [1], 2, [[1, -1, 0, 0]]),
        (BinaryFocal(), [[1]], [1], 0, [[0]]),
        (BinaryFocal(2.5), [[-1]], [0], 0, [[0]]),
        (BinaryFocal(0.5), [[1]], [0], 1, [[1]]),
        (BinaryFocal(), [[-1]], [1], 1, [[-1]]),
        (MeanAbsoluteError(), [[1], [-1]], [0, 0], 1, [[0.5], [-0.5]]),
        (Quantile((0.25, 0.5)), [[-1, 1]], [0], 0.375, [[-0.125, 0.25]]),
        (Flooding(CrossEntropy(), b=0.5), [[1, -1, 0, 0]], [0], None, [[0, 0, 0, 0]]),
        (Flooding(CrossEntropy(), b=0.5), [[1, -1, 0, 0]], [1], 2, [[1, -1, 0, 0]]),
    ],
)
def test_large_logits(loss, u, t, value, gradient, size, compute, dtype):
    """Values, in units of the logits' size or twice the flood level, and gradients are exact."""
    large = LARGE[size](dtype)
    got = compute(loss, large * np.array(u, "float64"), np.array(t))
    expected = 2 * loss.b if value is None else value * large
    assert (got[0], got[1].tolist()) == (expected, gradient)


def test_large_values(compute, dtype):
    """The square of a difference must be a number, and the sum of two."""
    large = 2.0 ** (np.finfo(dtype).maxexp // 2 - 2)
    u, t = large * np.array([[1, -1, 1, 1]]), large * np.array([[-1, -1, 1, 1]])
    value, gradient = compute(MeanSquaredError(), u, t)
    assert (value, gradient.tolist()) == (large**2, [[large, 0, 0, 0]])


@pytest.mark.parametrize("width", ["uint8", "int32"])
@pytest.mark.parametrize("case", [c for c in CASES if c.targets.dtype.kind == "i"], ids=str)
def test_integers_of_any_width_are_labels(case, width, compute, backend, array):
    narrow = case.targets.astype(width)
    expected = compute(case.loss, case.outputs, case.targets)
    got = compute(case.loss, case.outputs, narrow)
    assert (got[0], got[1].tolist()) == (expected[0], expected[1].tolist())
    hits = case.loss.hits(array(case.outputs), array(narrow), xp=backend.xp)
    classes = case.outputs > 0 if case.outputs.shape[1] == 1 else case.outputs.argmax(axis=1)
    assert backend.to_numpy(hits).tolist() == (classes.ravel() == case.targets).tolist()


@pytest.mark.parametrize("flooded", [False, True])
@pytest.mark.parametrize(
    ("loss", "u", "t", "hits"),
    [
        (CrossEntropy(), [[1, 2], [3, 0], [0, 0]], [1, 1, 0], [1, 0, 1]),
        (CrossEntropy(), [[1, 2], [3, 0], [0, 0]], [[0.0, 1], [0.3, 0.7], [1, 0]], [1, 0, 1]),
        (BinaryCrossEntropy(), [[2], [-1], [0]], [1, 1, 0], [1, 0, 1]),
        (BinaryCrossEntropy(), [[2], [-1], [0]], [[1.0], [1], [0]], [1, 0, 1]),
        (
            BinaryCrossEntropy(),
            [[1, -1], [0.25, 1], [-1, 2]],
            [[1, 0], [0, 1], [1, 0]],
            [1, 0.5, 0],
        ),
        (BinaryCrossEntropy(), [[1, 2], [3, 0], [0, 0]], [1, 1, 0], [1, 0, 1]),
        (MeanSquaredError(), [[1, 2], [3, 0], [0, 0]], [1, 1, 0], [1, 0, 1]),
        (MeanSquaredError(), [[1], [3], [0]], [0.5, 3, 0], None),
        (MeanSquaredError(), [[1, 2], [3, 0], [0, 0]], [[1.0, 2], [3, 0], [0, 0]], None),
        (Focal(), [[1, 2], [3, 0], [0, 0]], [[0.0, 1], [0.3, 0.7], [1, 0]], [1, 0, 1]),
        (BinaryFocal(), [[2], [-1], [0]], [1, 1, 0], [1, 0, 1]),
        (BinaryFocal(), [[1, -1], [0.25, 1], [-1, 2]], [[1, 0], [0, 1], [1, 0]], [1, 0.5, 0]),
        (Huber(), [[1, 2], [3, 0], [0, 0]], [1, 1, 0], [1, 0, 1]),
        (Quantile((0.1, 0.9)), [[1, 2], [3, 0], [0, 0]], [0.5, 3, 0], None),
    ],
)
def test_hits(loss, u, t, hits, flooded, backend, array):
    loss = Flooding(loss, b=0.1) if flooded else loss
    outputs = array(np.array(u, "float64"))
    got = loss.hits(outputs, array(np.array(t)), xp=backend.xp)
    if hits is None:
        assert got is None
    else:
        assert (got.dtype, device(got)) == (outputs.dtype, device(outputs))
        assert backend.to_numpy(got).tolist() == hits


@pytest.mark.parametrize("flooded", [False, True])
def test_predictions(flooded, backend, array):
    u = array(np.array([[0.0, 0.0], [-800.0, 800.0]]))
    for loss, expected in [
        (CrossEntropy(), [[0.5, 0.5], [0, 1]]),
        (BinaryCrossEntropy(), [[0.5, 0.5], [0, 1]]),
        (MeanSquaredError(), [[0, 0], [-800, 800]]),
        (Focal(), [[0.5, 0.5], [0, 1]]),
        (BinaryFocal(), [[0.5, 0.5], [0, 1]]),
        (Quantile((0.1, 0.9)), [[0, 0], [-800, 800]]),
    ]:
        loss = Flooding(loss, b=0.1) if flooded else loss
        assert backend.to_numpy(loss.predict(u, xp=backend.xp)).tolist() == expected


def test_labels(backend, array):
    """The first of the largest logits; with one output, whether it is above 0."""
    for given in ({}, {"xp": backend.xp}):
        got = labels(array(np.array([[1.0, 3, 2], [4, 4, 0], [-3, -2, -1]])), **given)
        assert backend.to_numpy(got).tolist() == [1, 0, 2]
        assert got.dtype == backend.xp.int64
        got = labels(array(np.array([[-1.0], [0], [1]])), **given)
        assert backend.to_numpy(got).tolist() == [0, 0, 1]
        assert got.dtype == backend.xp.int64


def test_reported_loss_has_a_floor_and_the_value_has_not(backend, array, dtype):
    u, t = array(np.array([[0.0, 40.0], [0.0, 3.0]])), array(np.array([0, 0]))
    # the article's log: -log(max(p, 1e-7))
    expected = [-np.log(1e-7), np.log1p(np.exp(3))]
    eps = 40 * np.finfo(dtype).eps
    for loss in (CrossEntropy(), Flooding(CrossEntropy(), b=99)):
        samples, _ = loss.samples(u, t, xp=backend.xp)
        assert_close(backend.to_numpy(samples), [40, expected[1]], eps)
        reported = loss.reported(samples, xp=backend.xp)
        assert reported.dtype == u.dtype
        assert_close(backend.to_numpy(reported), expected, eps)
    unbounded = MeanSquaredError().reported(samples, xp=backend.xp)
    assert_close(backend.to_numpy(unbounded), [40, expected[1]], eps)
    lower = CrossEntropy(floor=0.5).reported(samples, xp=backend.xp)
    assert_close(backend.to_numpy(lower), [np.log(2)] * 2, eps)


def test_value_of_a_mean_on_the_host():
    """As the log of an epoch takes it."""
    assert CrossEntropy().value(0.25) == 0.25
    assert Flooding(CrossEntropy(), b=0.5).value(0.25) == 0.75
    assert Flooding(CrossEntropy(), b=0.5).value(2.0) == 2.0


def test_every_loss_is_a_case():
    assert set(LOSSES) == {case.loss.name for case in CASES}
    assert {case.loss.name for case in CASES if LOSSES[case.loss.name]() == case.loss} == {*LOSSES}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CrossEntropy(floor=0), r"floor must be a number > 0 and < 1, got 0"),
        (lambda: CrossEntropy(floor=float("nan")), r"floor must be .* got nan"),
        (lambda: Flooding(CrossEntropy(), b=-0.1), r"b must be a finite number >= 0, got -0.1"),
        (lambda: Flooding(CrossEntropy(), b=float("inf")), r"b must be .* got inf"),
        (lambda: Flooding(CrossEntropy(), b="deep"), r"b must be .* got 'deep'"),
        (lambda: CrossEntropy().check(1), r"'cross_entropy' needs .* 2 or more outputs, got 1"),
        (lambda: Flooding(CrossEntropy()).check(1), r"take 'binary_cross_entropy'"),
        (lambda: Focal().check(1), r"'focal' needs .* got 1; for one output take 'binary_focal'"),
        (lambda: Focal(gamma=-1), r"gamma must be a finite number >= 0, got -1"),
        (lambda: Focal(alpha=0.25).check(3), r"alpha must have .* of the 3 outputs, got \(0.25,\)"),
        (lambda: Focal(alpha="1,x"), r"alpha must be .* for each class, such as .*, got 'x'"),
        (lambda: Focal(alpha=[]), r"alpha must be .* for each class, .*, got none"),
        (lambda: BinaryFocal(alpha=1), r"alpha must be a number > 0 and < 1, got 1"),
        (lambda: Huber(delta=0), r"delta must be a finite number > 0, got 0"),
        (lambda: Quantile(1.0), r"levels must be increasing numbers > 0 and < 1, got 1.0"),
        (lambda: Quantile((0.5, 0.1)), r"levels must be increasing .*, got \(0.5, 0.1\)"),
        (lambda: Quantile("0.5,0.5"), r"levels must be increasing .*, got '0.5,0.5'"),
        (lambda: Quantile((0.1, 0.9)).check(3), r"'quantile' needs .* 2 outputs .* got 3 outputs"),
        (lambda: LOSSES["cross_entrpy"], r"unknown loss 'cross_entrpy'; did you mean 'cross_ent"),
    ],
)
def test_mistakes(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()


def test_any_number_of_outputs_fits_the_other_losses():
    others = {*LOSSES.values()} - {CrossEntropy, Focal}
    for loss in (*(cls() for cls in others), Flooding(MeanSquaredError())):
        loss.check(1)
        loss.check(7)
    CrossEntropy().check(2)
    Focal(alpha=(1, 2)).check(2)
    Flooding(Quantile((0.1, 0.5, 0.9))).check(6)


def test_a_confident_right_answer_keeps_its_digits(compute, dtype):
    value, _ = compute(BinaryCrossEntropy(), [[20.0]], np.array([1]))
    np.testing.assert_allclose(value, np.log1p(np.exp(-20)), rtol=9 * np.finfo(dtype).eps, atol=0)


@pytest.mark.parametrize("loss", [MeanAbsoluteError(), Quantile(0.25), Quantile((0.25, 0.75))])
def test_a_target_that_is_met_has_no_gradient(loss, compute):
    """It is between the slopes on both sides, and 0 leaves the output where it is best."""
    u = np.full((1, loss.outputs_per_target), 3.0)
    value, gradient = compute(loss, u, np.array([3.0]))
    assert (value, gradient.tolist()) == (0, np.zeros_like(u).tolist())


def test_names_of_losses():
    assert (LOSSES["mae"], LOSSES.make("mse")) == (MeanAbsoluteError, MeanSquaredError())
    assert "mae" not in list(LOSSES)
    assert LOSSES.make("quantile:levels=0.1,0.5,0.9") == Quantile((0.1, 0.5, 0.9))
    assert LOSSES.make("quantile:levels=0.9") == Quantile(0.9)
    assert LOSSES.make("focal:gamma=1,alpha=0.25,0.75") == Focal(1, [0.25, 0.75])
    assert LOSSES.make("binary_focal:alpha=0.25") == BinaryFocal(2.0, 0.25)


def test_names_of_what_is_predicted():
    assert Poisson().columns(1) == ["prediction"]
    assert Flooding(Huber()).columns(2) == ["prediction1", "prediction2"]
    assert Quantile(0.9).columns(1) == ["prediction"]
    names = ["prediction1_0.1", "prediction2_0.1", "prediction1_0.9", "prediction2_0.9"]
    assert Flooding(Quantile((0.1, 0.9))).columns(4) == names


@pytest.mark.parametrize("seed", range(3))
def test_scikit_learn_has_the_same_figures(seed):
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.RandomState(seed)
    u, t = rng.standard_normal((50, 1)), rng.poisson(2.0, 50).astype(float)
    found = {
        "absolute": (MeanAbsoluteError(), metrics.mean_absolute_error(t, u)),
        "pinball": (Quantile(0.3), metrics.mean_pinball_loss(t, u, alpha=0.3)),
        # half the deviance has t log t - t more
        "poisson": (
            Poisson(),
            metrics.mean_poisson_deviance(t, np.exp(u)) / 2
            - np.mean(t * np.log(np.maximum(t, 1)) - t),
        ),
    }
    for loss, expected in found.values():
        # 50 terms below 20
        np.testing.assert_allclose(loss(u, t)[0], expected, rtol=0, atol=1000 * 2.0**-52)
