"""The history of a run: its rows and its settings."""

import math
import re
import sys

import numpy as np
import pytest

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


def test_a_history_becomes_a_data_frame():
    pytest.importorskip("pandas")
    history = fit_network(tanh_network())
    frame = history.to_pandas()
    assert frame.index.name == "epoch"
    assert frame.index.tolist() == [0, 1, 2]
    assert list(frame.columns) == ["train_accuracy", "train_loss", "seconds"]
    for name in frame.columns:
        np.testing.assert_array_equal(frame[name].to_numpy(), history.column(name))
    assert frame["train_loss"].dtype == float
    assert list(History({}).to_pandas().columns) == list(Epoch._fields[1:])


def test_metrics_are_columns_and_a_regression_has_no_accuracy():
    history = History({})
    for i in range(2):
        row = Epoch(i, math.nan, 2.0, math.nan, 3.0, 1.0)
        history.append(row.measured({"train_mae": 0.5, "test_mae": 0.25}))
    names = ["train_loss", "test_loss", "train_mae", "test_mae", "seconds"]
    assert history.names == ["epoch", *names]
    assert list(history.to_pandas().columns) == names
    assert history.column("test_mae") == [0.25, 0.25]
    assert "<th>test mae</th>" in re.sub(r"<th [^>]*>", "<th>", history._repr_html_())


def test_without_pandas(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(xpnn.ArgumentError, match="needs pandas; install it with: pip install pand"):
        History({}).to_pandas()


def test_a_notebook_shows_a_table():
    history = History({})
    for i in range(25):
        history.append(Epoch(i, 0.12345678, 1e-9, math.nan if i < 24 else 0.5, 2.0, 1.0))
    history.stopped = "<b> & more"
    page = history._repr_html_()
    assert page.startswith("<table>\n<caption>stopped: &lt;b&gt; &amp; more</caption>")
    rows = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row) for row in page.split("<tr>")[1:]]
    assert rows[0] == [name.replace("_", " ") for name in Epoch._fields]
    assert rows[1] == ["0", "0.1235", "1e-09", "", "2", "1"]
    # the first and the last of a long run
    assert [row[0] for row in rows[1:]] == [*map(str, range(10)), "…", *map(str, range(15, 25))]
    del history._epochs[20:]
    assert history._repr_html_().count("<tr>") == 21
    assert "test accuracy" not in history._repr_html_()
    assert list(history.to_pandas()) == ["train_accuracy", "train_loss", "test_loss", "seconds"]


def test_a_column_that_is_not_there():
    history = fit_network(tanh_network(), epochs=0)
    for ask in (history.column, history.best, lambda name: history.first_reached(1, name)):
        with pytest.raises(xpnn.ArgumentError, match="unknown column 'val_loss'; did you mean 'te"):
            ask("val_loss")
