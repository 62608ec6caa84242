"""Whole runs: recorded, and with the bits of eager ones."""

import itertools

import numpy as np
import pytest

import xpnn
from tests.helpers import rng
from xpnn.activations import ACTIVATIONS
from xpnn.backends import Backend, get_backend
from xpnn.losses import LOSSES
from xpnn.optimizers import OPTIMIZERS


class Eager:
    """NumPy's backend, its steps not recorded."""

    def __init__(self, monkeypatch):
        self.monkeypatch = monkeypatch

    def __enter__(self):
        def fold(self, step):
            return Backend.fold(self, step)

        for name in ("NumpyBackend", "ReproducibleBackend"):
            self.monkeypatch.setattr(getattr(xpnn.backends, name), "fold", fold)

    def __exit__(self, *error):
        self.monkeypatch.undo()


def parts():
    """Each activation, loss and optimizer in some network, each with both dtypes."""
    names = [sorted(registry) for registry in (ACTIVATIONS, LOSSES, OPTIMIZERS)]
    for i in range(max(map(len, names))):
        activation, loss, optimizer = (column[i % len(column)] for column in names)
        yield activation, loss, optimizer, ("float32", "float64")[i % 2]


@pytest.mark.parametrize("reproducible", [False, True])
@pytest.mark.parametrize(("activation", "loss", "optimizer", "dtype"), list(parts()))
def test_a_recorded_run_has_the_bits_of_an_eager_one(
    activation, loss, optimizer, dtype, reproducible, monkeypatch
):
    x = rng(3).standard_normal((23, 6)).astype(np.float32)
    y = rng(4).integers(0, 3, 23)

    def run():
        model = xpnn.Sequential(xpnn.Dense(5), xpnn.Activation(activation), xpnn.Dense(3))
        backend = get_backend("numpy", dtype=dtype, reproducible=reproducible)
        history = xpnn.fit(
            model,
            (x, y),
            validation=(x[:7], y[:7]),
            loss=xpnn.Flooding(LOSSES[loss](), 0.5),
            optimizer=OPTIMIZERS[optimizer](weight_decay=0.01),
            epochs=2,
            batch_size=5,
            seed=1,
            backend=backend,
        )
        return model.sha256(), [row[:-1] for row in history]

    played = run()
    with Eager(monkeypatch):
        assert run() == played


def test_the_reference_networks_steps_are_recorded(monkeypatch):
    """A program for each shape of mini-batch and data set, and none given up."""
    folds = []
    fold = xpnn.backends.NumpyBackend.fold
    monkeypatch.setattr(
        xpnn.backends.NumpyBackend,
        "fold",
        lambda self, step: folds.append(fold(self, step)) or folds[-1],
    )
    x, y = rng(3).random((50, 8), np.float32), rng(4).integers(0, 4, 50)
    for activation, optimizer in itertools.product(sorted(ACTIVATIONS), sorted(OPTIMIZERS)):
        model = xpnn.Sequential(xpnn.Dense(6), xpnn.Activation(activation), xpnn.Dense(4))
        folds.clear()
        step = OPTIMIZERS[optimizer]()
        xpnn.fit(model, (x, y), validation=(x[:9], y[:9]), optimizer=step, epochs=2, batch_size=20)
        train, evaluation = folds
        assert (len(train.programs), len(evaluation.programs)) == (2, 3), (activation, optimizer)
