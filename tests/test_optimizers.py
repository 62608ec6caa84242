"""Optimizers against PyTorch's trajectories, and Nesterov against the article's in rationals."""

import dataclasses
import functools
from fractions import Fraction

import numpy as np
import pytest
from array_api_compat import device

from xpnn import SGD, AdaGrad, Adam, AdamW, Momentum, Nesterov, RMSprop
from xpnn._core.tree import flatten
from xpnn.errors import ArgumentError
from xpnn.optimizers import OPTIMIZERS, Optimizer

STEPS = 20
SHAPES = [{"weight": (3, 2), "bias": (2,)}, {}, {"weight": (3, 2)}]

# xpnn's optimizer; the name and the settings of PyTorch's, apart from lr and weight_decay
GRID = [
    *((SGD(lr, decay), "SGD", {}) for lr, decay in [(0.1, 0.0), (1.0, 0.01)]),
    *(
        (Momentum(lr, mu, decay), "SGD", {"momentum": mu})
        for lr, mu, decay in [(0.1, 0.9, 0.0), (0.5, 0.5, 0.01), (0.1, 0.0, 0.1)]
    ),
    *(
        (Nesterov(lr, mu, decay), "SGD", {"momentum": mu, "nesterov": True})
        for lr, mu, decay in [(0.1, 0.9, 0.0), (0.5, 0.5, 0.01), (0.01, 0.99, 0.1)]
    ),
    *(
        (AdaGrad(lr, eps, decay), "Adagrad", {"eps": eps})
        for lr, eps, decay in [(0.1, 1e-10, 0.0), (0.01, 1e-2, 0.1)]
    ),
    *(
        (RMSprop(lr, rho, eps, decay), "RMSprop", {"alpha": rho, "eps": eps})
        for lr, rho, eps, decay in [(0.01, 0.99, 1e-8, 0.0), (0.1, 0.9, 1e-3, 0.1)]
    ),
    *(
        (cls(lr, *betas, eps, decay), cls.__name__, {"betas": betas, "eps": eps})
        for cls in (Adam, AdamW)
        for lr, betas, eps, decay in [
            (0.01, (0.9, 0.999), 1e-8, 0.0),
            (0.1, (0.8, 0.9), 1e-3, 0.1),
            (0.1, (0.0, 0.5), 1e-8, 0.01),
        ]
    ),
]

every_optimizer = pytest.mark.parametrize("cls", OPTIMIZERS.values(), ids=OPTIMIZERS)


def draw(seed):
    """Return a tree of normal numbers that are float32, and so exact in each dtype."""
    rng = np.random.RandomState(seed)
    return [
        {name: rng.randn(*shape).astype("float32") for name, shape in layer.items()}
        for layer in SHAPES
    ]


@functools.cache
def gradients():
    """Return the gradients of each step: small ones, large ones, a unit that dies after step 4."""
    steps = [draw(seed) for seed in range(1, STEPS + 1)]
    for k, tree in enumerate(steps):
        tree[0]["weight"][0] *= 2**-10
        tree[2]["weight"][1] *= 2**7
        tree[0]["bias"][1] *= k < 4
    return steps


def double(tree):
    return {key: leaf.astype("float64") for key, leaf in flatten(tree).items()}


@functools.cache
def pytorch(optimizer):
    """Return the parameters before and after each of PyTorch's steps, in float64."""
    torch = pytest.importorskip("torch")
    (name, settings) = next(rest for own, *rest in GRID if own is optimizer)
    parameters = {key: torch.tensor(leaf) for key, leaf in double(draw(0)).items()}
    theirs = getattr(torch.optim, name)(
        parameters.values(), lr=optimizer.lr, weight_decay=optimizer.weight_decay, **settings
    )
    trajectory = [double(draw(0))]
    for tree in gradients():
        for key, leaf in double(tree).items():
            parameters[key].grad = torch.tensor(leaf)
        theirs.step()
        trajectory.append({key: leaf.numpy().copy() for key, leaf in parameters.items()})
    return trajectory


class Run:
    """A run of an optimizer on a backend, from `draw(0)`.

    Parameters are writable, since the optimizer owns them; gradients are not, where NumPy is asked
    to see to it.
    """

    def __init__(self, optimizer, backend, array, dtype, **given):
        self.backend, self.array, self.given = backend, array, given
        self.update = optimizer.update
        self.parameters = [
            {name: backend.asarray(leaf.astype(dtype)) for name, leaf in layer.items()}
            for layer in draw(0)
        ]
        self.state = optimizer.init(self.parameters, **given)

    def step(self, tree):
        """Take a step; return the parameters on the host."""
        moved = [{name: self.array(leaf) for name, leaf in layer.items()} for layer in tree]
        self.parameters, self.state = self.update(self.parameters, moved, self.state, **self.given)
        for key, leaf in self.host(moved).items():
            np.testing.assert_array_equal(leaf, flatten(tree)[key])
        return self.host(self.parameters)

    def host(self, tree):
        return {key: self.backend.to_numpy(leaf) for key, leaf in flatten(tree).items()}


@pytest.fixture
def run(backend, array, dtype):
    return functools.partial(Run, backend=backend, array=array, dtype=dtype)


@pytest.mark.parametrize("optimizer", [row[0] for row in GRID], ids=repr)
def test_trajectory_is_pytorchs(optimizer, run, backend, dtype):
    expected = pytorch(optimizer)
    ours = run(optimizer, xp=backend.xp)
    path = {key: np.abs(leaf) for key, leaf in expected[0].items()}
    for tree, last, wanted in zip(gradients(), expected, expected[1:], strict=False):
        for key, leaf in ours.step(tree).items():
            path[key] = path[key] + np.abs(wanted[key] - last[key])
            # a step rounds at most 16 times, settings included, each time by ½ of some eps of the
            # way so far; a factor 2 for terms that cancel in a step
            error = 16 * STEPS * np.finfo(dtype).eps * path[key]
            assert (np.abs(leaf - wanted[key]) <= error).all(), key


@every_optimizer
def test_state(cls, run, backend, array, dtype):
    """A tree of zeros per slot, which keeps its form; the namespace is inferred."""
    ours = run(cls())
    scalars = {"correction1", "correction2"} if issubclass(cls, Adam) else set()
    assert set(ours.state) == {*cls.slots, *scalars}
    for stepped in (False, True):
        trees = [ours.parameters, *(ours.state[name] for name in cls.slots)]
        for tree in trees:
            assert [{name: leaf.shape for name, leaf in layer.items()} for layer in tree] == SHAPES
        zeros = [ours.state[name] for name in scalars]
        for leaf in (*zeros, *(leaf for tree in trees for leaf in flatten(tree).values())):
            like = ours.parameters[0]["bias"]
            assert isinstance(leaf, (type(like), np.generic))
            assert (leaf.dtype, device(leaf)) == (like.dtype, device(like))
        for leaf in (*zeros, *(leaf for tree in trees[1:] for leaf in flatten(tree).values())):
            assert (backend.to_numpy(leaf) != 0).any() == stepped
        ours.step(gradients()[0])


@every_optimizer
def test_compiled_steps(cls, run, backend, dtype):
    """The same steps, compiled: on JAX, operations may be fused, as in a run."""
    eager, compiled = (run(cls(), xp=backend.xp) for _ in range(2))
    update = compiled.update
    compiled.update = backend.compile(
        lambda parameters, gradients, state: update(parameters, gradients, state, xp=backend.xp)
    )
    compiled.given = {}
    for tree in gradients()[:3]:
        expected, got = eager.step(tree), compiled.step(tree)
        for key, leaf in got.items():
            # 16 roundings in each of 3 steps; w and the way from it are at most 5
            np.testing.assert_allclose(
                leaf, expected[key], rtol=0, atol=16 * 3 * 5 * np.finfo(dtype).eps
            )


def quadratic(w):
    """Return the gradient of a quadratic error, E'(w); exact in rationals."""
    return (w - 3) / 2


def article(w, lr, mu):
    """Yield w by the article's recurrence: v' = mu v - lr E'(w), w' = w - mu v + mu v' + v'."""
    v = 0
    while True:
        yield w
        v, before = mu * v - lr * quadratic(w), v
        w = w - mu * before + mu * v + v


def look_ahead(w, lr, mu):
    """Yield the point w + mu v of Nesterov's own: v' = mu v - lr E'(w + mu v), w' = w + v'."""
    v = 0
    while True:
        yield w + mu * v
        v = mu * v - lr * quadratic(w + mu * v)
        w = w + v


@pytest.mark.parametrize("recurrence", [article, look_ahead])
@pytest.mark.parametrize(("lr", "mu"), [(0.1, 0.9), (0.5, 0.5), (0.25, 0.0)])
def test_nesterov_is_the_articles(recurrence, lr, mu, backend, dtype):
    start = [Fraction(-2), Fraction(1, 4), Fraction(10)]
    optimizer = Nesterov(lr=lr, mu=mu)
    parameters = [{"weight": backend.asarray(np.array(start, dtype))}]
    state = optimizer.init(parameters)
    exact = zip(*(recurrence(w, Fraction(lr), Fraction(mu)) for w in start), strict=True)
    # a step rounds 8 times, of numbers up to 10, which momentum carries on 1 / (1 - mu) times
    error = STEPS * 8 / (1 - mu) * 10 * np.finfo(dtype).eps
    for _, expected in zip(range(STEPS + 1), exact, strict=False):
        got = backend.to_numpy(parameters[0]["weight"])
        np.testing.assert_allclose(got, np.array(expected, "float64"), rtol=0, atol=error)
        gradients = [{"weight": quadratic(parameters[0]["weight"])}]
        parameters, state = optimizer.update(parameters, gradients, state)


def test_adams_correction_keeps_its_digits(run, backend, dtype):
    """1 - beta^t, which is 0.001 after the first step, from numbers near 1."""
    optimizer = Adam(lr=0.125)
    ours = run(optimizer, xp=backend.xp)
    eps = np.finfo(dtype).eps
    for t, tree in enumerate(gradients(), start=1):
        ours.step(tree)
        for name, beta in (("correction1", 0.9), ("correction2", 0.999)):
            exact = float(1 - Fraction(beta) ** t)
            # in each step, beta and 1 - beta are rounded, a product and a sum
            got = float(backend.to_numpy(ours.state[name]))
            np.testing.assert_allclose(got, exact, rtol=2 * t * eps, atol=0)


@pytest.mark.parametrize("cls", [Adam, AdamW])
def test_adams_first_step_is_the_learning_rate(cls, backend, array, dtype):
    """From w = 0 by lr times the gradient's sign, whatever its size."""
    optimizer = cls(lr=0.125, eps=1e-30)
    g = np.array([1e-6, -1e-3, 0.7, -5e4])
    parameters = [{"weight": backend.asarray(np.zeros(4, dtype))}]
    stepped, _ = optimizer.update(parameters, [{"weight": array(g)}], optimizer.init(parameters))
    # 12 roundings between g and the step, half of them under a root
    got = backend.to_numpy(stepped[0]["weight"])
    np.testing.assert_allclose(got, -0.125 * np.sign(g), rtol=6 * np.finfo(dtype).eps, atol=0)


def test_own_optimizer(run, backend):
    """It names its slots and implements a rule; weight decay comes with the name."""

    @dataclasses.dataclass(frozen=True)
    class SignSGD(Optimizer):
        lr: float = 0.5
        weight_decay: float = 0.0
        slots = ("steps",)

        def rule(self, w, g, *slots, xp):
            return w - self.lr * xp.sign(g), slots[0] + 1

    ours = run(SignSGD(), xp=backend.xp)
    ours.step(draw(1))
    got = ours.step(draw(2))
    for key, w in flatten(draw(0)).items():
        ways = np.sign(flatten(draw(1))[key]) + np.sign(flatten(draw(2))[key])
        np.testing.assert_allclose(got[key], w - 0.5 * ways, rtol=0, atol=1e-6)
    assert (ours.host(ours.state["steps"])["2.weight"] == 2).all()
    assert SignSGD(weight_decay=2.0).decayed(3.0, 1.0) == 7.0


def test_every_optimizer_is_in_the_grid():
    assert set(OPTIMIZERS.values()) == {type(optimizer) for optimizer, *_ in GRID}
    assert all(name == cls.__name__.lower() for name, cls in OPTIMIZERS.items())


FRACTIONS = {"mu", "rho", "beta1", "beta2"}
FIELDS = [(cls, f.name) for cls in OPTIMIZERS.values() for f in dataclasses.fields(cls)]


@pytest.mark.parametrize(("cls", "name"), FIELDS)
def test_settings_are_checked(cls, name):
    allowed = {name: 0.5, "weight_decay": 0}
    assert getattr(cls(**allowed), name) == allowed[name]
    wrong = [float("nan"), float("inf"), -1, "fast", None, True]
    wrong += [1] if name in FRACTIONS else [0] if name in {"lr", "eps"} else []
    for value in wrong:
        with pytest.raises(ArgumentError, match=rf"{name} must be a .*number.*, got {value!r}"):
            cls(**{name: value})
    if name in FRACTIONS:
        assert getattr(cls(**{name: 0}), name) == 0.0


def test_settings_are_floats_and_fixed():
    optimizer = SGD(lr=1)
    assert repr(optimizer) == "SGD(lr=1.0, weight_decay=0.0)"
    with pytest.raises(dataclasses.FrozenInstanceError):
        optimizer.lr = 2.0
