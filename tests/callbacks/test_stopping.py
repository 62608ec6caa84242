"""Early stopping: when, and with which weights."""

import math

import numpy as np
import pytest

import xpnn
from tests.helpers import (
    CLASSES,
    SAMPLES,
    VALIDATION,
    Stop,
    figures,
    open_backend,
    stopped,
    train_small,
)
from xpnn.datasets import Dataset
from xpnn.task import Task
from xpnn.training.plan import Method, Plan
from xpnn.training.run import Run
from xpnn.training.samples import Samples

NAN = math.nan


def rows(losses, column="test_loss"):
    """Rows of a log with these figures from epoch 1 on, the others the same throughout."""
    plain = xpnn.Epoch(0, 0.5, 1.0, 0.5, 1.0, 0.0)
    return [plain] + [
        plain._replace(epoch=i, **{column: value}) for i, value in enumerate(losses, 1)
    ]


def driven(losses, column="test_loss", **options):
    """Tell early stopping of each row; return the epoch where it stops the run, and the best."""
    model = xpnn.Sequential(xpnn.Dense(2))
    model.initialize(3, backend=xpnn.get_backend(), rng=np.random.RandomState(0))
    history = xpnn.History({})
    samples = Samples(Dataset(SAMPLES, CLASSES), Dataset(*VALIDATION), None, {}, Task())
    method = Method(xpnn.CrossEntropy(), xpnn.SGD())
    run = Run(model, Plan(99, 1, 0), method, samples, history, np.random.RandomState(0))
    early = xpnn.EarlyStopping(column, **options)
    early.on_start(run)
    for row in rows(losses, column):
        history.append(row)
        early.on_epoch(row)
        if history.stopped:
            return row.epoch, early.best
    return None, early.best


@pytest.mark.parametrize(
    ("losses", "options", "stop", "best"),
    [
        # the epoch after the best is the first of `patience`
        ([3, 2, 2, 2, 2], {"patience": 2}, 4, 2),
        ([3, 2, 2, 2, 2], {"patience": 3}, 5, 2),
        ([3, 2, 2, 2, 2], {"patience": 4}, None, 2),
        # an improvement begins the count anew
        ([3, 4, 2, 4, 4], {"patience": 2}, 5, 3),
        ([3, 4, 2, 4, 1], {"patience": 2}, None, 5),
        # an improvement by min_delta is none, by more it is; what isn't one doesn't add up
        ([3, 2.5, 2.5], {"patience": 2, "min_delta": 0.5}, 3, 1),
        ([3, 2.5, 2.25], {"patience": 2, "min_delta": 0.5}, None, 3),
        ([3, 2.75, 2.5, 2.25], {"patience": 3, "min_delta": 0.5}, None, 4),
        # the untrained network, whose loss is 1, is none of them
        ([3, 4], {"patience": 1}, 2, 1),
        ([3], {"patience": 1}, None, 1),
    ],
)
def test_when_it_stops(losses, options, stop, best):
    assert driven(losses, **options) == (stop, best)
    assert driven(losses, "train_loss", **options) == (stop, best)
    # of an accuracy, more is better; eighths are exact
    accuracies = [1 - value / 8 for value in losses]
    options = {**options, "min_delta": options.get("min_delta", 0) / 8}
    assert driven(accuracies, "test_accuracy", **options) == (stop, best)
    assert driven(accuracies, "train_accuracy", **options) == (stop, best)


@pytest.mark.parametrize("seed", range(20))
def test_it_stops_at_the_first_run_of_patience_epochs_without_a_new_least(seed):
    losses = np.random.RandomState(seed).randint(0, 30, 40).tolist()
    patience = 4
    for epoch in range(1, 41):
        best = min(range(epoch), key=lambda i: losses[i]) + 1
        if epoch - best >= patience:
            break
    assert driven(losses, patience=patience) == (epoch, best)


def learner(**options):
    """A run whose test loss rises after a while: a large network on few samples."""
    return {
        "validation": (SAMPLES[:9], np.roll(CLASSES[:9], 1)),
        "optimizer": xpnn.Momentum(0.1),
        "epochs": 30,
        **options,
    }


@pytest.mark.parametrize("restore_best", [True, False])
def test_the_best_weights_come_back(restore_best, library, dtype):
    if library == "numpy-readonly":
        pytest.skip("as numpy")
    early = xpnn.EarlyStopping(patience=3, restore_best=restore_best)
    options = {"backend": open_backend(library, dtype)}
    model, history = train_small(early, **learner(**options))
    losses = history.column("test_loss")[1:]
    best = int(np.argmin(losses)) + 1
    assert (early.best, len(losses)) == (best, best + 3)
    assert history.stopped == f"test_loss was best at epoch {best}, 3 epochs before"
    plain, _ = train_small(**learner(epochs=best if restore_best else best + 3, **options))
    assert model.sha256() == plain.sha256()
    assert model.backend.owns(model.parameters[0]["weight"])


def test_a_run_that_is_not_stopped_has_the_best_weights_too():
    model, history = train_small(xpnn.EarlyStopping(patience=30), **learner())
    best = int(np.argmin(history.column("test_loss")[1:])) + 1
    assert history.stopped is None
    assert len(history) == 31
    assert best < 30
    assert model.sha256() == train_small(**learner(epochs=best))[0].sha256()


@pytest.mark.parametrize("first", [True, False], ids=["stopping first", "checkpoint first"])
@pytest.mark.parametrize("after", [0, 1, 2], ids="{} after the best".format)
def test_it_survives_a_checkpoint(first, after, path):
    early = xpnn.EarlyStopping(patience=3)
    model, history = train_small(early, **learner())
    both = [xpnn.EarlyStopping(patience=3), xpnn.Checkpoint(path)]
    with pytest.raises(KeyboardInterrupt):
        train_small(*(both if first else both[::-1]), Stop(early.best + after), **learner())
    again, resumed = train_small(xpnn.EarlyStopping(patience=3), resume=path, **learner())
    assert figures(resumed) == figures(history)
    assert resumed.stopped == history.stopped
    assert again.sha256() == model.sha256()


@pytest.mark.parametrize("first", [True, False], ids=["stopping first", "checkpoint first"])
def test_a_run_that_was_stopped_stays_stopped(first, path):
    both = [xpnn.EarlyStopping(patience=3), xpnn.Checkpoint(path, every=50)]
    model, history = train_small(*(both if first else both[::-1]), **learner())
    again, resumed = train_small(xpnn.EarlyStopping(patience=3), resume=path, **learner())
    assert list(resumed) == list(history)
    assert (resumed.stopped, again.sha256()) == (history.stopped, model.sha256())
    # more patience, and on it goes
    model, history = train_small(xpnn.EarlyStopping(patience=5), **learner())
    again, resumed = train_small(xpnn.EarlyStopping(patience=5), resume=path, **learner())
    assert figures(resumed) == figures(history)
    assert again.sha256() == model.sha256()


def test_a_checkpoint_without_the_best_weights(path):
    stopped(path, at=15, **learner())
    best = int(np.argmin(train_small(**learner(epochs=15))[1].column("test_loss")[1:])) + 1
    with pytest.raises(
        xpnn.ArgumentError, match=f"needs the parameters of epoch {best}, .*run.ckpt"
    ):
        train_small(xpnn.EarlyStopping(patience=20), resume=path, **learner())
    early = xpnn.EarlyStopping(patience=20, restore_best=False)
    assert train_small(early, resume=path, **learner())[1].resumed == 15


def test_the_best_weights_are_left_where_they_are_not_wanted_any_more(path):
    """The checkpoint has some; so it has, of another epoch, for another column."""
    early = xpnn.EarlyStopping(patience=30)
    with pytest.raises(KeyboardInterrupt):
        train_small(early, xpnn.Checkpoint(path), Stop(20), **learner())
    plain, history = train_small(**learner(epochs=20))
    options = {"resume": path, **learner(epochs=20)}
    model, _ = train_small(xpnn.EarlyStopping(patience=30, restore_best=False), **options)
    assert model.sha256() == plain.sha256()
    other = xpnn.EarlyStopping("train_loss", patience=30, min_delta=0.5)
    assert np.argmin(history.column("test_loss")[1:]) + 1 == early.best
    with pytest.raises(xpnn.ArgumentError, match="restore_best needs the parameters of epoch"):
        train_small(other, model=model, **options)
    assert other.best != early.best
    assert model.sha256() == plain.sha256()


def test_one_that_is_used_twice_begins_anew():
    early = xpnn.EarlyStopping(patience=3)
    first, history = train_small(early, **learner())
    second, again = train_small(early, **learner())
    assert (second.sha256(), figures(again)) == (first.sha256(), figures(history))


def test_one_that_is_used_twice_forgets_the_first_run():
    early = xpnn.EarlyStopping(patience=3)
    train_small(early, **learner())
    model = xpnn.Sequential(xpnn.Dense(6), xpnn.Activation("tanhexp"), xpnn.Dense(3))
    with pytest.raises(KeyboardInterrupt):
        train_small(early, Stop(0), model=model, **learner())
    assert model.sha256() == train_small(epochs=0)[0].sha256()


def test_the_best_weights_after_an_interrupt():
    early = xpnn.EarlyStopping(patience=30)
    model = xpnn.Sequential(xpnn.Dense(6), xpnn.Activation("tanhexp"), xpnn.Dense(3))
    with pytest.raises(KeyboardInterrupt):
        train_small(early, Stop(20), model=model, **learner())
    assert early.best < 20
    assert model.sha256() == train_small(**learner(epochs=early.best))[0].sha256()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"monitor": "test_los"}, "unknown monitor 'test_los'; did you mean 'test_loss'"),
        ({"monitor": "seconds"}, "unknown monitor 'seconds'"),
        ({"patience": 0}, "patience must be a whole number >= 1, got 0"),
        ({"patience": 1.5}, "patience must be a whole number"),
        ({"min_delta": -1}, "min_delta must be a finite number >= 0"),
        ({"min_delta": NAN}, "min_delta must be a finite number >= 0"),
    ],
)
def test_arguments(arguments, message):
    with pytest.raises(xpnn.ArgumentError, match=message):
        xpnn.EarlyStopping(**arguments)


@pytest.mark.parametrize(
    ("monitor", "options"),
    [
        ("test_loss", {"validation": None}),
        (
            "train_accuracy",
            {"y": SAMPLES[:, :3], "loss": xpnn.MeanSquaredError(), "validation": None},
        ),
    ],
)
def test_a_figure_that_the_run_has_not(monitor, options, tmp_path):
    log = tmp_path / "run.csv"
    log.write_text("old")
    with pytest.raises(xpnn.ArgumentError, match=f"a figure that the run has, got '{monitor}'"):
        train_small(xpnn.EarlyStopping(monitor), xpnn.CSVLogger(log), **options)
    assert log.read_text() == "old"
