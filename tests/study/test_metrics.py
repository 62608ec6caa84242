"""Metrics of a study, its share for validation, and the defaults that it has from `xpnn train`."""

import json
from pathlib import Path

import numpy as np
import pytest

import xpnn
from tests.helpers import FLOWERS, NAMES, failed, read_rows, run, write_table
from xpnn.study import load_study, read_folder
from xpnn.study.quantities import measured

GRID = """
hidden = ["4", "5"]
epochs = 2
metrics = ["f1", "log_loss"]
data = "flowers.csv"
validation = 0.2
"""


@pytest.fixture
def flowers(here):
    """A study over a table, in the working folder."""
    write_table(here / "flowers.csv", NAMES)
    (here / "grid.toml").write_text(GRID)
    return here


def log_of(options):
    """Return the log that `xpnn train` writes, by column."""
    assert run("train", *options, "--quiet", "--log", "log.csv", "--save", "model") == 0
    names, *rows = read_rows(Path("log.csv"))
    return dict(zip(names, np.array(rows, float).T, strict=True))


def results(folder):
    found, damaged = read_folder(folder)
    assert damaged == []
    return list(found.values())


def test_metrics_are_in_results_tables_and_figures(flowers, capsys):
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    figure = """
[[experiment]]
name = "own"
[[experiment.table]]
rows = [{ hidden = "4" }, { hidden = "5", metrics = "recall_macro" }]
[[experiment.figure]]
title = "F1"
quantities = ["train_f1", "test_f1"]
runs = [{ label = "four", hidden = "4" }]
"""
    (flowers / "grid.toml").write_text(GRID.replace('hidden = ["4", "5"]', "") + figure)
    assert run("study", "run", "grid.toml", "--jobs", 1, "--out", "out") == 0
    capsys.readouterr()
    logs = {result.job.settings.hidden: result.log for result in results(flowers / "out")}
    options = ["flowers.csv", "--validation", 0.2, "--epochs", 2, "--hidden"]
    expected = log_of([*options, "4", "--metrics", "f1,log_loss"])
    for part in ("train", "test"):
        for name in ("accuracy", "loss", "f1", "log_loss"):
            assert logs["4"][f"{part}_{name}"] == expected[f"{part}_{name}"].tolist()
    assert list(logs["5"])[5:] == ["train_recall_macro", "test_recall_macro"]
    figures = {}
    for row in read_rows(flowers / "out" / "tables.csv")[1:]:
        figures[row[3], row[4]] = row[6]
    f1, losses = expected["test_f1"], expected["test_log_loss"]
    assert figures["4, f1,log_loss", "test_f1"] == f"{f1[-1]:.4g}"
    assert figures["4, f1,log_loss", "best_f1"] == f"{f1.max():.4g}"
    assert figures["4, f1,log_loss", "best_log_loss"] == f"{losses.min():.4g}"
    # a run without the metric has no figure
    assert figures["5, recall_macro", "test_f1"] == ""
    page = (flowers / "out" / "report.md").read_text()
    assert "| test f1 | best test f1 | test log_loss | best test log_loss |" in page
    assert "four, test" in (flowers / "out" / "figures" / "own-f1.svg").read_text()


def test_a_list_of_metrics_is_no_grid(flowers):
    jobs = load_study("grid.toml").jobs
    assert [job.metrics for job in jobs] == ["f1,log_loss"] * 2
    assert {job.columns for job in jobs} == {("f1", "log_loss")}
    # the same metric is the same run, however it is written
    (flowers / "other.toml").write_text(GRID.replace('"f1", "log_loss"', '"f1:average=auto"'))
    one, other = (load_study(name, metrics="f1").jobs[0] for name in ("grid.toml", "other.toml"))
    assert one.key == other.key != jobs[0].key
    assert load_study("other.toml").jobs[0].key == one.key


def test_runs_without_metrics_are_named_as_before(flowers):
    (flowers / "plain.toml").write_text(GRID.replace('metrics = ["f1", "log_loss"]', ""))
    assert not {"metrics", "patience"} & load_study("plain.toml").jobs[0].identity().keys()
    assert run("study", "run", "plain.toml", "--out", "out", "--quiet") == 0
    for path in (flowers / "out").glob("5-*.json"):
        assert not {"metrics", "patience"} & json.loads(path.read_text())["run"].keys()


def test_a_table_has_the_defaults_of_train(flowers):
    # noise, of which nothing can be learned for long
    write_table(flowers / "values.csv", np.random.RandomState(0).standard_normal(90))
    (flowers / "s.toml").write_text('data = "values.csv"\nseed = [3]\n')
    asked = ["--validation", 0.25, "--metrics", "r2,mae"]
    assert run("study", "run", "s.toml", *asked, "--out", "out", "--quiet") == 0
    (result,) = results(flowers / "out")
    expected = log_of(["values.csv", "--seed", 3, *asked])
    # it stopped early, with the best parameters
    assert 20 < len(expected["epoch"]) < 101
    assert result.weights_sha256 == xpnn.load("model").sha256()
    for name in set(expected) - {"epoch", "seconds"}:
        assert result.log[name] == expected[name].tolist()
    # as many epochs as are asked for are done
    asked = ["--validation", 0.25, "--epochs", 30]
    assert run("study", "run", "s.toml", *asked, "--out", "all", "--quiet") == 0
    assert len(results(flowers / "all")[0].log["seconds"]) == 31


def test_a_metric_of_the_users_own(flowers, kept):
    (flowers / "own.py").write_text(
        "from xpnn import metrics\n\n\n@metrics.register\nclass Rows(metrics.PredictionMetric):\n"
        '    name = "rows"\n\n    def value(self, targets, predictions, weights, task):\n'
        "        return len(targets)\n"
    )
    text = GRID.replace('metrics = ["f1", "log_loss"]', 'parts = ["own.py"]')
    (flowers / "own.toml").write_text(text)
    asked = ["--metrics", "rows"]
    assert run("study", "run", "own.toml", *asked, "--out", "out", "--quiet") == 0
    assert [own.log["test_rows"] for own in results(flowers / "out")] == [[18.0] * 3] * 2
    assert run("study", "report", "out") == 0


def test_validation_may_be_other_data(flowers):
    write_table(flowers / "more.csv", NAMES[::-1])
    asked = ["--validation", "more.csv", "--metrics", "balanced_accuracy"]
    assert run("study", "run", "grid.toml", *asked, "--out", "out", "--quiet") == 0
    logs = {own.job.settings.hidden: own.log for own in results(flowers / "out")}
    expected = log_of(["flowers.csv", "--hidden", "5", "--epochs", 2, *asked])
    found = logs["5"]["test_balanced_accuracy"]
    assert found == expected["test_balanced_accuracy"].tolist()
    assert len(FLOWERS) == len(NAMES)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (["--metrics", "mae"], "metric 'mae' needs values, and the targets are classes"),
        (["--metrics", "f2"], "grid.toml: unknown metric 'f2'"),
        (["--validation", "none.csv"], "no file or folder none.csv"),
        (["--validation", "1.5"], "validation must be"),
    ],
)
def test_mistakes_start_nothing(asked, message, flowers, capsys):
    line = failed(capsys, "study", "run", "grid.toml", "--out", "out", *asked)
    assert line.startswith(message)
    assert not (flowers / "out").exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("metrics = 3", "metrics must be text, got 3"),
        ("metrics = []", "metrics must not be an empty list"),
        ("metrics = [3]", "metrics must be text, got 3"),
        ('metrics = ["f1", "recal"]', "unknown metric 'recal'; did you mean 'recall'?"),
        ("patience = 0", "patience must be a whole number >= 1, got 0"),
        ("patience = 3", "patience needs data for validation"),
        (
            '[[experiment]]\nname = "a"\n[[experiment.figure]]\nquantities = ["test_f2"]\n'
            'runs = [{ metrics = "f1" }]',
            "experiment 'a': unknown quantity 'test_f2'; did you mean 'test_f1'?",
        ),
    ],
)
def test_keys_that_are_refused(line, message, flowers, capsys):
    (flowers / "s.toml").write_text(f'data = "flowers.csv"\n{line}\n')
    assert failed(capsys, "study", "run", "s.toml").startswith(f"s.toml: {message}")


def test_metrics_that_are_not_defined():
    nan = float("nan")
    log = {"train_loss": [1.0], "seconds": [1.0], "train_f1": [0.5], "test_f1": [nan]}
    assert measured(log) == {"test_f1": "-", "best_f1": "-"}
    assert measured({"train_f1": [0.25, 0.123456]}) == {"train_f1": "0.1235"}
