"""What steps assume of values on the device: checked once an epoch, and not in each step."""

import numpy as np
import pytest

import xpnn
from tests.helpers import open_backend
from xpnn.backends import get_backend
from xpnn.errors import DivergenceError
from xpnn.reproducible import assumptions

LIBRARIES = ("strict", "torch", "jax", "cupy")
X = np.random.RandomState(0).standard_normal((50, 5))
Y = np.random.RandomState(1).randint(0, 3, 50)
# cut if they are in the safe range; products outside 2^±400 are computed in another way
FAR = {"usual": 1.0, "tiny": 2.0**-450, "huge": 2.0**420}
# small enough for any of them
OPTIMIZER = xpnn.SGD(2.0**-850)


def numpys(x, **options):
    return train(get_backend(dtype="float64", reproducible=True), x, **options)


def reproducible(library, monkeypatch):
    """A backend whose steps assume, as on a device with memory of its own."""
    device = open_backend(library, "float64")
    monkeypatch.setattr(type(device), "apart", True)
    return get_backend(**{**device.options(), "reproducible": True})


def train(backend, x, *, optimizer=None, callbacks=(), epochs=2):
    model = xpnn.Sequential(xpnn.Dense(4), xpnn.Activation("relu"), xpnn.Dense(3))
    history = xpnn.fit(
        model, (x, Y), validation=(x[:10], Y[:10]), epochs=epochs, batch_size=10, seed=3,
        optimizer=optimizer or OPTIMIZER, backend=backend, callbacks=callbacks,
    )  # fmt: skip
    return model.sha256(), [row[1:5] for row in history]


class Checks:
    """Notes whether the assumptions of each sweep held."""

    def __init__(self, monkeypatch):
        self.right, own = [], assumptions.Assumptions.hold

        def hold(assumed):
            self.right.append(own(assumed))
            return self.right[-1]

        monkeypatch.setattr(assumptions.Assumptions, "hold", hold)


@pytest.fixture
def checks(monkeypatch):
    return Checks(monkeypatch)


@pytest.mark.parametrize("magnitude", FAR)
@pytest.mark.parametrize("library", LIBRARIES)
def test_the_bits_are_those_of_a_run_that_looks(library, magnitude, checks, monkeypatch):
    """NumPy looks in each step. Data outside the safe range aren't cut as was assumed."""
    x = X * FAR[magnitude]
    assert train(reproducible(library, monkeypatch), x) == numpys(x)
    # two sets in row 0, in each epoch the steps and one set; after a wrong assumption it looks
    assert checks.right == ([True] * 6 if magnitude == "usual" else [False])


@pytest.mark.parametrize("library", LIBRARIES)
def test_what_was_assumed_once_is_assumed_again(library, checks, monkeypatch):
    """One sample of many is outside the safe range, which only row 0 and the steps see.

    The model's arrays are the same in all of them, and keep how they were cut.
    """
    x = X.copy()
    x[30] *= 2.0**410
    optimizer = xpnn.Momentum(0.01)
    assert train(reproducible(library, monkeypatch), x, optimizer=optimizer) == numpys(
        x, optimizer=optimizer
    )
    assert checks.right == [False]


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_run_diverges_where_it_does_on_numpy(library, monkeypatch):
    """Infinities and NaN aren't in the safe range either."""
    messages = []
    for backend in (
        reproducible(library, monkeypatch),
        get_backend(dtype="float64", reproducible=True),
    ):
        with pytest.raises(DivergenceError) as error:
            train(backend, X * 1e60, optimizer=xpnn.SGD(1e100), epochs=20)
        messages.append(str(error.value))
    assert messages[0] == messages[1]


class Finite(xpnn.layers.Layer):
    """A layer that looks at its input, which a wrong assumption has changed."""

    def __init__(self):
        self.seen = []

    kind = "finite"

    def config(self):
        return {}

    def out(self, inputs):
        return inputs

    def forward(self, parameters, x, *, xp):
        self.seen.append(bool(xp.all(xp.isfinite(x))))
        if not self.seen[-1]:
            raise ValueError("not finite")
        return x, lambda dy, *, input_gradient=True: (dy, {})


@pytest.mark.parametrize("library", ["strict", "torch", "cupy"])
def test_an_error_after_a_wrong_assumption_is_not_raised(library, monkeypatch):
    x, results = X * 2.0**1000, []
    for backend in (
        reproducible(library, monkeypatch),
        get_backend(dtype="float64", reproducible=True),
    ):
        layer = Finite()
        model = xpnn.Sequential(xpnn.Dense(4), layer, xpnn.Dense(3))
        told = Told()
        xpnn.fit(
            model, (x, Y), epochs=1, batch_size=10, seed=3, backend=backend, callbacks=[told],
            optimizer=xpnn.SGD(2.0**-1010),
        )  # fmt: skip
        results.append(model.sha256())
        assert told.epochs == [0, 5, 0]
    assert results[0] == results[1]


class Told(xpnn.Callback):
    def __init__(self):
        self.epochs = [0]

    def on_batches(self, count):
        self.epochs[-1] += count

    def on_epoch(self, epoch):
        self.epochs.append(0)


@pytest.mark.parametrize("magnitude", FAR)
def test_a_second_try_is_not_told_to_callbacks(magnitude, monkeypatch):
    """Callbacks are told of each step once."""
    told = Told()
    train(reproducible("strict", monkeypatch), X * FAR[magnitude], callbacks=[told])
    assert told.epochs == [0, 5, 5, 0]


@pytest.mark.parametrize("library", ["strict", "torch", "jax"])
def test_steps_look_at_nothing(library, monkeypatch):
    """No truth value or number of an array comes to the host within an epoch."""
    backend = reproducible(library, monkeypatch)
    train(backend, X, optimizer=xpnn.Adam())  # what is looked up once a process, or compiled
    array = type(backend.inner.asarray(np.ones(1)))
    sweep, inside, asked = type(backend).sweep, [], []

    def counted(name, function):
        def count(self, *args, **kwargs):
            if inside:
                asked.append(name)
            return function(self, *args, **kwargs)

        return count

    for name in ("__bool__", "__float__", "__int__", "__index__", "item", "tolist", "__array__"):
        if not hasattr(array, name):
            continue

        monkeypatch.setattr(array, name, counted(name, getattr(array, name)))

    def stepping(self, fold, *arguments):
        def stepped(*given):
            inside.append(True)
            try:
                return fold(*given)
            finally:
                inside.pop()

        return sweep(self, stepped, *arguments)

    monkeypatch.setattr(type(backend), "sweep", stepping)
    for optimizer in (xpnn.SGD(), xpnn.Adam()):
        train(backend, X, optimizer=optimizer)
    assert asked == []
    assert not inside


def test_within_a_callback_nothing_is_assumed(monkeypatch):
    """A callback may look at what it computes."""
    x = X * FAR["huge"]
    seen = []

    class Looks(xpnn.Callback):
        def on_start(self, run):
            self.model = run.model

        def on_batches(self, count):
            other = xpnn.Sequential(xpnn.Dense(3))
            xpnn.fit(other, (x, Y), epochs=0, seed=1, backend=reproducible("strict", monkeypatch))
            seen.append(xpnn.predict_proba(other, x).tobytes())

    train(reproducible("strict", monkeypatch), x, callbacks=[Looks()], epochs=1)
    other = xpnn.Sequential(xpnn.Dense(3))
    xpnn.fit(other, (x, Y), epochs=0, seed=1, dtype="float64", reproducible=True)
    assert set(seen) == {xpnn.predict_proba(other, x).tobytes()}
