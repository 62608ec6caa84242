"""Schedules against PyTorch's, mpmath, and runs that PyTorch's optimizers repeat."""

import math
from typing import NamedTuple

import mpmath
import numpy as np
import pytest

import xpnn
from tests.helpers import open_backend
from xpnn import schedules
from xpnn.errors import ArgumentError
from xpnn.schedules import SCHEDULES, Constant, Cosine, Exponential, Plateau, Schedule, Step, Warmup

EPOCHS, BATCHES = 7, 4
EPS = np.finfo(float).eps


class Row(NamedTuple):
    train_accuracy: float
    train_loss: float
    test_accuracy: float
    test_loss: float


def all_factors(schedule, epochs=EPOCHS, batches=BATCHES):
    """A run's factors, epoch by epoch."""
    times = [epoch + np.arange(batches) / batches for epoch in range(epochs)]
    return np.array([schedule.factors(t, epochs, []) for t in times])


def torchs(make, per_step):
    """The learning rates that a scheduler of PyTorch gives a run, from 1 on."""
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = make(torch.optim.lr_scheduler, optimizer)
    found = np.empty((EPOCHS, BATCHES))
    for index in np.ndindex(found.shape):
        found[index] = optimizer.param_groups[0]["lr"]
        optimizer.step()
        if per_step or index[1] == BATCHES - 1:
            scheduler.step()
    return found


# by SequentialLR of PyTorch 2.5 itself
@pytest.mark.filterwarnings("ignore:The epoch parameter in `scheduler.step")
@pytest.mark.parametrize(
    ("schedule", "make", "per_step"),
    [
        (Constant(), lambda s, o: s.ConstantLR(o, factor=1.0), False),
        (Step(every=2, gamma=0.3), lambda s, o: s.StepLR(o, 2, gamma=0.3), False),
        (Exponential(gamma=0.9), lambda s, o: s.ExponentialLR(o, 0.9), False),
        (Cosine(), lambda s, o: s.CosineAnnealingLR(o, EPOCHS * BATCHES), True),
        (Cosine(final=0.2), lambda s, o: s.CosineAnnealingLR(o, EPOCHS * BATCHES, 0.2), True),
        (
            # the first of the 8 steps has 1/8, the last 1
            Warmup(2, Cosine()),
            lambda s, o: s.SequentialLR(
                o,
                [s.LinearLR(o, 1 / 8, 1.0, 7), s.CosineAnnealingLR(o, (EPOCHS - 2) * BATCHES)],
                [8],
            ),
            True,
        ),
    ],
    ids=lambda value: "" if callable(value) else str(value),
)
def test_pytorchs_schedulers(schedule, make, per_step):
    # its recurrences round at every step
    expected = torchs(make, per_step)
    np.testing.assert_allclose(
        all_factors(schedule), expected, rtol=0, atol=4 * EPS * EPOCHS * BATCHES
    )


def test_the_cosine_is_right_to_its_bound():
    x = np.random.RandomState(0).uniform(0, 1, 2000)
    x = np.concatenate([x, [0.0, 0.25, 0.5, 0.75, 1.0]])
    mpmath.mp.dps = 40
    exact = [(1 + mpmath.cospi(mpmath.mpf(float(value)))) / 2 for value in x]
    found = schedules._half_cosine(x)
    assert max(abs(float(a - float(b))) for a, b in zip(exact, found, strict=True)) <= 2 * EPS
    # a run begins with the optimizer's own learning rate
    assert schedules._half_cosine(np.zeros(1)).tolist() == [1.0]


def test_powers_are_correctly_rounded():
    mpmath.mp.dps = 60
    for gamma in (0.1, 0.5, 0.95, 1.0):
        exact = [float(mpmath.mpf(gamma) ** n) for n in range(200)]
        np.testing.assert_array_equal(schedules._powers(gamma, np.arange(200.0)), exact)


FIGURES = [9.0, 5.0, 3.0, 3.1, 2.99, 2.7, 2.8, 2.75, 2.9, 3.0, 2.6, 2.6, 2.6, 2.6, 2.6, math.nan]


@pytest.mark.parametrize("patience", [0, 1, 3])
@pytest.mark.parametrize("min_delta", [0.0, 0.1])
@pytest.mark.parametrize("monitor", ["test_loss", "train_accuracy"])
def test_pytorchs_plateau(patience, min_delta, monitor):
    torch = pytest.importorskip("torch")
    sign = -1.0 if "accuracy" in monitor else 1.0
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer,
        mode="max" if "accuracy" in monitor else "min",
        factor=0.5,
        patience=patience,
        threshold=min_delta,
        threshold_mode="abs",
        eps=0,
    )
    # the untrained network's row is better than all, and doesn't count
    untrained = Row(2.0, -1.0, 2.0, -1.0)
    history = [untrained]
    schedule = Plateau(factor=0.5, patience=patience, min_delta=min_delta, monitor=monitor)
    fell = 0
    for figure in FIGURES:
        factors = schedule.factors(np.arange(3.0), 99, history)
        assert factors.tolist() == [optimizer.param_groups[0]["lr"]] * 3
        fell += factors[0] < 1
        history.append(Row(*[sign * figure] * 4))
        scheduler.step(sign * figure)
    assert fell or patience == 3


def test_a_warm_up_that_is_the_whole_run():
    expected = (np.arange(EPOCHS * BATCHES) + 1) / (20 * BATCHES)
    np.testing.assert_allclose(
        all_factors(Warmup(20, Cosine())).ravel(), expected, rtol=4 * EPS, atol=0
    )
    half = all_factors(Warmup(0.5, Exponential(gamma=0.5)))
    np.testing.assert_allclose(half[0], [0.5, 1.0, 1.0, 1.0], rtol=4 * EPS, atol=0)
    # what follows begins there
    np.testing.assert_array_equal(half[1], [0.5**0, 0.5**0, 0.5**1, 0.5**1])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Step(every=0), r"every must be a whole number >= 1, got 0"),
        (lambda: Step(every=1.5), r"every must be a whole number >= 1, got 1.5"),
        (lambda: Step(gamma=0), r"gamma must be a number > 0 and <= 1, got 0"),
        (lambda: Exponential(gamma=1.1), r"gamma must be a number > 0 and <= 1, got 1.1"),
        (lambda: Cosine(final=1.5), r"final must be a number >= 0 and <= 1, got 1.5"),
        (lambda: Plateau(factor=2), r"factor must be a number > 0 and <= 1, got 2"),
        (lambda: Plateau(patience=-1), r"patience must be a whole number >= 0, got -1"),
        (lambda: Plateau(min_delta=-1), r"min_delta must be a finite number >= 0, got -1"),
        (lambda: Plateau(monitor="val_loss"), r"unknown monitor 'val_loss'; did you mean"),
        (lambda: Warmup(0), r"epochs must be a finite number > 0, got 0"),
        (lambda: Warmup(1, "cosine"), r"then must be an instance such as Cosine\(\), got 'cosine'"),
    ],
)
def test_wrong_parameters(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()


def test_numbers_of_the_command_line():
    assert SCHEDULES.parse("step:every=3") == ("step", {"every": 3.0})
    assert Step(every=3.0) == Step(every=3)
    assert repr(Step(every=3.0)) == "Step(every=3, gamma=0.1)"
    assert SCHEDULES.parse("plateau:monitor=train_loss,patience=2") == (
        "plateau",
        {"monitor": "train_loss", "patience": 2.0},
    )


# Whole runs

RNG = np.random.RandomState(3)
X, Y = RNG.standard_normal((22, 3)), RNG.randint(0, 3, 22)
START = RNG.standard_normal((3, 3))


class Given(Schedule):
    """Factors that are written down; one of a user's own."""

    def factors(self, times, epochs, history):
        assert len(history) == 1 + int(times[0])
        return 1.0 / (1.0 + times) ** 2


def by_torch(schedule, name, epochs):
    """The weights after a run of a softmax regression, in order, in mini-batches of five."""
    torch = pytest.importorskip("torch")
    weight = torch.tensor(START, requires_grad=True)
    x, y = torch.tensor(X), torch.tensor(Y)
    optimizer = {
        "sgd": lambda: torch.optim.SGD([weight], lr=0.5, weight_decay=0.01),
        "rmsprop": lambda: torch.optim.RMSprop([weight], lr=0.05),
        "adam": lambda: torch.optim.Adam([weight], lr=0.05),
        "adamw": lambda: torch.optim.AdamW([weight], lr=0.05, weight_decay=0.1),
    }[name]()
    lr = optimizer.param_groups[0]["lr"]
    history = [None]
    for epoch in range(epochs):
        factors = schedule.factors(epoch + np.arange(5) / 5, epochs, history)
        for i in range(5):
            optimizer.param_groups[0]["lr"] = lr * factors[i]
            optimizer.zero_grad()
            rows = slice(5 * i, 5 * i + 5)
            torch.nn.functional.cross_entropy(x[rows] @ weight, y[rows]).backward()
            optimizer.step()
        history.append(None)
    return weight.detach().numpy()


OURS = {
    "sgd": xpnn.SGD(lr=0.5, weight_decay=0.01),
    "rmsprop": xpnn.RMSprop(lr=0.05),
    "adam": xpnn.Adam(lr=0.05),
    "adamw": xpnn.AdamW(lr=0.05, weight_decay=0.1),
}


def softmax_regression(schedule, optimizer, **settings):
    model = xpnn.Sequential(xpnn.Dense(3, weight=START, bias=False))
    settings = {"epochs": 3, "batch_size": 5, "seed": 0, "shuffle": False, **settings}
    history = xpnn.fit(model, (X, Y), optimizer=optimizer, schedule=schedule, **settings)
    return model.host_parameters()[0]["weight"], history


@pytest.mark.parametrize("name", sorted(OURS))
def test_a_run_is_pytorchs(name, library, dtype):
    schedule = Given() if name.startswith("adam") else Warmup(1.4, Cosine())
    backend = open_backend(library, dtype)
    weight, _ = softmax_regression(schedule, OURS[name], backend=backend)
    # 15 steps of some ten operations on numbers of size 1; adam divides small ones
    error = (1000 if name in ("adam", "adamw", "rmsprop") else 100) * np.finfo(dtype).eps
    np.testing.assert_allclose(weight, by_torch(schedule, name, 3), rtol=0, atol=error)


@pytest.mark.parametrize("optimizer", [xpnn.Momentum(lr=0.1, mu=0.8), xpnn.Nesterov(lr=0.1)])
def test_momentum_takes_the_rate_into_the_velocity(optimizer):
    """``v = mu v - lr g``, as the rule says; PyTorch multiplies the velocity by lr afterwards."""
    found, _ = softmax_regression(Given(), optimizer, dtype="float64", epochs=2)
    weight, velocity = START.copy(), np.zeros_like(START)
    for step in range(10):
        rows = slice(5 * (step % 5), 5 * (step % 5) + 5)
        _, gradient = xpnn.CrossEntropy()(X[rows] @ weight, Y[rows])
        g, old = X[rows].T @ gradient, velocity
        lr = 0.1 / (1.0 + step / 5) ** 2
        velocity = optimizer.mu * velocity - lr * g
        if isinstance(optimizer, xpnn.Nesterov):
            weight = weight - optimizer.mu * old + optimizer.mu * velocity + velocity
        else:
            weight = weight + velocity
    np.testing.assert_allclose(found, weight, rtol=0, atol=100 * EPS)


@pytest.mark.parametrize("dtype", ["float32"])
def test_a_constant_schedule_changes_nothing(library, dtype):
    backend = open_backend(library, dtype)
    ours = [
        softmax_regression(s, xpnn.AdamW(lr=0.05), backend=backend)[0] for s in (None, Constant())
    ]
    # lr is a number here and an array there: a compiler may fold the one
    np.testing.assert_allclose(*ours, rtol=0, atol=100 * np.finfo(dtype).eps)


def test_a_plateau_looks_at_the_log():
    validation = (X[:5], Y[:5])
    # nothing is better by so much: the rate falls after every second epoch
    schedule = Plateau(factor=0.5, patience=1, min_delta=100.0)
    weight, history = softmax_regression(
        schedule, xpnn.SGD(lr=0.5), epochs=5, validation=validation, dtype="float64"
    )

    class Halved(Schedule):
        def factors(self, times, epochs, history):
            # the first epoch is the best so far, whatever it is
            return np.full(times.shape, 0.5 ** max(0, (int(times[0]) - 1) // 2))

    expected, _ = softmax_regression(Halved(), xpnn.SGD(lr=0.5), epochs=5, dtype="float64")
    np.testing.assert_array_equal(weight, expected)
    assert history.settings["schedule"] == repr(schedule)


class Bad(Schedule):
    def __init__(self, factors):
        object.__setattr__(self, "given", factors)

    def factors(self, times, epochs, history):
        return self.given


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"schedule": 3}, r"schedule must be such as 'cosine' or xpnn.schedules.Cosine\(\), got 3"),
        ({"schedule": Plateau()}, r"monitors 'test_loss', which needs a validation set"),
        ({"schedule": Warmup(1, Plateau())}, r"monitors 'test_loss', which needs a validation set"),
        ({"schedule": Bad([1.0])}, r"schedule must give 5 finite factors >= 0 in epoch 1, got"),
        ({"schedule": Bad([1.0, 1, 1, 1, np.nan])}, r"5 finite factors >= 0 in epoch 1, got"),
        ({"schedule": Bad([1.0, 1, 1, 1, -1])}, r"5 finite factors >= 0 in epoch 1, got"),
    ],
)
def test_schedules_that_fit_refuses(settings, message):
    with pytest.raises(ArgumentError, match=message):
        softmax_regression(optimizer=xpnn.SGD(), **settings)


def test_an_optimizer_without_a_rate():
    class Fixed(xpnn.Optimizer):
        def rule(self, w, g, *slots, xp):
            return (w - 0.1 * g,)

    assert softmax_regression(None, Fixed())[0].shape == (3, 3)
    with pytest.raises(ArgumentError, match="optimizer must have an lr for a schedule"):
        softmax_regression(Cosine(), Fixed())


def test_a_number_of_epochs_that_is_no_float_is_refused():
    with pytest.raises(ArgumentError, match=r"^every must be a whole number >= 1 and <= 2\*\*53"):
        Step(every=10**400)
    assert Step(every=2**53).every == 2**53
