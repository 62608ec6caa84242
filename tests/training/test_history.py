"""The history of a run: its rows and its settings."""

import math

import numpy as np

import xpnn
from tests.helpers import figures, fit_network, tanh_network
from xpnn.training.history import Epoch, History


def test_history_is_a_sequence_of_rows():
    history = History({"seed": 1})
    assert (len(history), list(history), history.best(), history.seconds) == (0, [], None, 0)
    nan = math.nan
    rows = [
        Epoch(0, 0.1, 9.0, nan, 9.5, 0.25), Epoch(1, 0.8, 2.0, 0.9, 1.0, 0.5),
        Epoch(2, 0.9, 1.0, 0.9, 0.5, 0.125),
    ]  # fmt: skip
    for row in rows:
        history.append(row)
    assert list(history) == rows
    assert history[-1] is rows[2]
    assert history[:2] == rows[:2]
    assert history.column("train_loss") == [9.0, 2.0, 1.0]
    assert history.best() == (1, 0.9)
    assert history.best("train_accuracy") == (2, 0.9)
    assert (history.first_reached(0.9), history.first_reached(0.91)) == (1, None)
    assert history.first_reached(0.1, "train_accuracy") == 0
    assert history.seconds == 0.875
    assert repr(history) == f"History(3 epochs, last: {rows[2]})"


def test_history_knows_its_settings():
    history = fit_network(tanh_network(), epochs=0, optimizer=xpnn.SGD(0.5), shuffle=False)
    assert history.settings == {
        "loss": "CrossEntropy(floor=1e-07)", "optimizer": "SGD(lr=0.5, weight_decay=0.0)",
        "schedule": None, "clip_norm": None, "sample_weight": False, "class_weight": None,
        "epochs": 0, "batch_size": 5, "seed": 7, "shuffle": False, "backend": "numpy",
        "device": "cpu", "dtype": "float64",
        "reproducible": False, "precision": None,
    }  # fmt: skip
    (row,) = history
    assert row.epoch == 0
    assert math.isnan(row.test_loss)
    assert row.seconds > 0


def test_the_seed_makes_the_run():
    runs = [fit_network(tanh_network(), seed=seed) for seed in (1, 1, 2, np.int64(1))]
    first, same, other, numpy = (np.array(figures(run)) for run in runs)
    np.testing.assert_array_equal(first, same)
    np.testing.assert_array_equal(first, numpy)
    assert abs(first - other)[:, 2].min() > 1e-6


def test_a_seed_that_was_drawn_is_recorded():
    runs = [fit_network(tanh_network(), seed=None) for _ in range(2)]
    seeds = [run.settings["seed"] for run in runs]
    assert seeds[0] != seeds[1]
    assert all(type(seed) is int and 0 <= seed < 2**32 for seed in seeds)
    np.testing.assert_array_equal(
        figures(runs[0]), figures(fit_network(tanh_network(), seed=seeds[0]))
    )
