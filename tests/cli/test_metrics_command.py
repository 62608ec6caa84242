"""Metrics at the command line, what a run prints, and the examples of docs/guide/metrics.md."""

import json
import re

import numpy as np
import pytest

import xpnn
from tests.helpers import (
    FLOWERS,
    NAMES,
    ROOT,
    VALUES,
    failed,
    read_rows,
    run,
    train_dense,
    write_table,
)
from xpnn.metrics import METRICS

sklearn = pytest.importorskip("sklearn.metrics")
PAGE = (ROOT / "docs" / "guide" / "metrics.md").read_text(encoding="utf-8")
QUICK = ["--hidden", "6", "--epochs", 3, "--batch-size", 10, "--validation", 0.2]


@pytest.fixture
def table(here):
    """A table of flowers in the working folder, and its targets."""
    return write_table(here / "t.csv")


def lines_of(capsys):
    """Return the lines of epochs that were printed, with those of their names."""
    lines = capsys.readouterr().out.splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith(("epoch", "0 ")))
    last = next(i for i, line in enumerate(lines) if line.startswith("time"))
    return lines[first:last]


def test_a_log_and_a_picture_have_the_metrics(table, capsys):
    pytest.importorskip("matplotlib")
    asked = [
        "--metrics",
        "f1_weighted,top_k:k=2,log_loss",
        "--patience",
        2,
        "--monitor",
        "test_log_loss",
    ]
    files = ["--log", "l", "--plot", "p.svg", "--save", "m"]
    assert run("train", "t.csv", *QUICK, *asked, *files) == 0
    header, *rows = read_rows(table.parent / "l")
    names = [f"{part}_{name}" for part in ("train", "test") for name in
             ("f1_weighted", "top_k_2", "log_loss")]  # fmt: skip
    assert header == [*xpnn.Epoch._fields[:5], *names, "seconds"]
    assert len(rows) == 4
    out = capsys.readouterr().out
    titles, *shown = [line for line in out.splitlines() if re.match("epoch| +[0-9]", line)]
    assert re.split("  +", titles) == [
        "epoch", *(name.replace("_", " ", 1) for name in header[1:-1])
    ]  # fmt: skip
    assert len({len(line) for line in (titles, *shown)}) == 1
    for row, line in zip(rows, shown, strict=True):
        assert line.split() == [row[0], *(f"{float(cell):#.4g}" for cell in row[1:-1])]
    best = min((float(row[header.index("test_log_loss")]), int(row[0])) for row in rows)
    assert f"best test log_loss {best[0]:.4g} at epoch {best[1]}" in out
    assert xpnn.load("m").history.column("test_top_k_2")[-1] == float(rows[-1][9])


@pytest.mark.parametrize("options", [[], ["--validation", 0.2]])
def test_a_regression_has_no_accuracy(here, options, capsys):
    pytest.importorskip("matplotlib")
    write_table(here / "t.csv", VALUES)
    asked = ["--hidden", "6", "--epochs", 2, "--batch-size", 10, "--optimizer", "sgd:lr=0.01"]
    assert run("train", "t.csv", *asked, *options, "--log", "l", "--plot", "p.png") == 0
    text = capsys.readouterr().out
    assert "accuracy" not in text
    assert "nan" not in text
    header, *rows = read_rows(here / "l")
    assert header == ["epoch", "train_loss", *(["test_loss"] if options else []), "seconds"]
    assert run("train", "t.csv", *asked, *options, "--digits", "all") == 0
    shown = lines_of(capsys)
    assert [line.split() for line in shown] == [row[:-1] for row in rows]
    # the log of an older xpnn is read, and drawn
    nan = ["nan"] * 2
    older = [
        [row[0], nan[0], row[1], nan[1], row[2] if options else "nan", row[-1]] for row in rows
    ]
    (here / "old").write_text("\n".join(map(",".join, [xpnn.Epoch._fields, *older])) + "\n")
    for new, old in zip(xpnn.read_log("l"), xpnn.read_log("old"), strict=True):
        np.testing.assert_array_equal(new, old)
    assert run("plot", "history", "l", "old", "--out", "both.png") == 0


def test_the_log_of_an_older_version_goes_on(here):
    options = {"loss": xpnn.MeanSquaredError(), "y": np.eye(3)[np.arange(23) % 3]}
    options["validation"] = None
    train_dense(xpnn.CSVLogger("l"), xpnn.Checkpoint("c"), epochs=1, **options)
    history = train_dense(epochs=3, **options)[1]
    full = [",".join(xpnn.Epoch._fields)]
    full += [",".join(map(repr, row)) for row in history]
    (here / "l").write_text("\n".join(full[:3]) + "\n")
    train_dense(xpnn.CSVLogger("l"), epochs=3, resume="c", **options)
    found = (here / "l").read_text().splitlines()
    assert [line.split(",")[:5] for line in found] == [line.split(",")[:5] for line in full]


def test_the_log_of_an_older_version_without_validation_goes_on(here):
    options = {"validation": None, "metrics": "f1"}
    train_dense(xpnn.Checkpoint("c"), epochs=1, **options)
    history = train_dense(epochs=3, **options)[1]
    older = [*xpnn.Epoch._fields[:5], "train_f1", "seconds"]
    full = [",".join(older)]
    full += [",".join(repr(getattr(row, name)) for name in older) for row in history]
    (here / "l").write_text("\n".join(full[:3]) + "\n")
    train_dense(xpnn.CSVLogger("l"), epochs=3, resume="c", **options)
    found = (here / "l").read_text().splitlines()
    assert [line.split(",")[:6] for line in found] == [line.split(",")[:6] for line in full]


def test_digits(table, capsys):
    assert run("train", "t.csv", *QUICK, "--log", "l", "--digits", 7, "--hash") == 0
    rows, shown = read_rows(table.parent / "l")[1:], lines_of(capsys)[1:]
    for row, line in zip(rows, shown, strict=True):
        assert line.split()[:-1] == [row[0], *(f"{float(cell):#.7g}" for cell in row[1:5])]
        assert line.split()[-1] == row[-1]
    assert run("train", "t.csv", *QUICK, "--digits", "all") == 0
    out = capsys.readouterr().out
    assert [" ".join(row[:5]) for row in rows] == [x for x in out.splitlines() if x[1:2] == " "]
    best = max(float(row[3]) for row in rows)
    assert f"best test accuracy {best!r} at epoch" in out
    for wrong in ("many", "0", "18", "-1", "2.5"):
        shown = wrong if wrong in ("0", "18") else repr(wrong)
        message = f"digits must be a whole number from 1 to 17, or 'all', got {shown}"
        assert failed(capsys, "train", "t.csv", f"--digits={wrong}") == message


def test_what_a_run_has_no_figures_of_is_not_shown(table, capsys):
    assert run("train", "t.csv", "--epochs", 1) == 0
    assert lines_of(capsys)[0] == "epoch  train accuracy  train loss"
    asked = ["--epochs", 1, "--save", "m", "--metrics", "f1"]
    assert run("train", "t.csv", *asked, "--digits", "all", "--log", "l") == 0
    header, *rows = read_rows(table.parent / "l")
    assert header == ["epoch", "train_accuracy", "train_loss", "train_f1", "seconds"]
    assert [line.split() for line in lines_of(capsys)] == [row[:-1] for row in rows]
    history = xpnn.load("m").history
    assert list(xpnn.read_log("l")) == list(history)
    assert list(history.to_pandas()) == header[1:]
    assert run("show", "m") == 0
    (last,) = re.findall("^last epoch +(.*)$", capsys.readouterr().out, flags=re.MULTILINE)
    assert last == ", ".join(map("=".join, zip(
        [*header[:3], "seconds", "train_f1"], [*rows[-1][:3], rows[-1][4], rows[-1][3]], strict=True
    )))  # fmt: skip


def test_evaluate_says_each_figure_once(here, capsys):
    write_table(here / "v.csv", VALUES)
    assert run("train", "v.csv", "--epochs", 1, "--save", "v", "--quiet") == 0
    plain = ["r2_score", "root_mean_squared_error"]
    for asked, names in (
        ("r2", [plain[1], "r2"]), ("rmse", [plain[0], "rmse"]), ("r2,rmse", ["r2", "rmse"]),
        ("mae", [*plain, "mae"]), ("r2_score", plain),
    ):  # fmt: skip
        assert run("evaluate", "v", "v.csv", "--metrics", asked) == 0
        shown = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
        assert shown == ["loss", *names]
    model = xpnn.load("v")
    found = xpnn.evaluate(model, (FLOWERS, VALUES), metrics="r2")
    assert repr(found) == f"Evaluation(loss={found.loss!r}, r2={found.r2!r})"
    assert found._asdict() == {"loss": found.loss, "r2": found.r2}
    assert "nan" not in repr(model.history)
    assert run("show", "v") == 0
    assert "nan" not in capsys.readouterr().out


def test_evaluate_prints_the_figures_of_each_class(table, capsys):
    assert run("train", "t.csv", *QUICK, "--save", "m", "--quiet") == 0
    assert run("evaluate", "m", "t.csv") == 0
    plain = capsys.readouterr().out
    assert [line.split()[0] for line in plain.splitlines()] == ["accuracy", "loss"]
    assert run("evaluate", "m", "t.csv", "--metrics", "f1,roc_auc") == 0
    out = capsys.readouterr().out
    assert out.startswith(plain)
    assert run("evaluate", "m", "t.csv", "--metrics", "f1,roc_auc", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    model = xpnn.load("m")
    labels, predicted = model.task.labels, xpnn.predict(model, FLOWERS)
    own = sklearn.precision_recall_fscore_support(NAMES, predicted, labels=labels, zero_division=0)
    for i, row in enumerate(found["classes"]):
        assert row["label"] == labels[i]
        np.testing.assert_allclose(
            list(row.values())[1:], [own[j][i] for j in range(4)], rtol=1e-15
        )
    matrix = sklearn.confusion_matrix(NAMES, predicted, labels=labels)
    assert found["confusion_matrix"] == matrix.tolist()
    assert found["rows"] == 90
    assert f"f1 {found['f1']!r}\nroc_auc {found['roc_auc']!r}\n" in out
    each, counts = out.split("\n\n")[1:]
    assert each.splitlines()[0].split() == ["class", "precision", "recall", "f1", "support"]
    for line, row in zip(each.splitlines()[1:], found["classes"], strict=True):
        numbers = [f"{row[name]:.4f}" for name in ("precision", "recall", "f1")]
        assert line.split()[-4:] == [*numbers, "30"]
    assert [list(map(int, x.split()[-3:])) for x in counts.splitlines()[1:]] == matrix.tolist()


def test_evaluate_of_many_classes_and_of_values(here, capsys):
    y = np.arange(90) % 31
    write_table(here / "t.csv", np.array([f"k{own}" for own in y]))
    asked = ["--task", "classification", "--epochs", 0, "--save", "m", "--quiet"]
    assert run("train", "t.csv", *asked) == 0
    assert run("evaluate", "m", "t.csv", "--metrics", "f1") == 0
    assert capsys.readouterr().out.endswith("draws the confusion matrix, --json prints it\n")
    write_table(here / "v.csv", VALUES)
    assert run("train", "v.csv", "--epochs", 1, "--save", "v", "--quiet") == 0
    assert run("evaluate", "v", "v.csv", "--json", "--metrics", "mae") == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["rows", "loss", "r2_score", "root_mean_squared_error", "mae"]
    values = xpnn.predict(xpnn.load("v"), FLOWERS)
    expected = sklearn.mean_absolute_error(VALUES, values)
    np.testing.assert_allclose(found["mae"], expected, rtol=1e-5)
    write_table(here / "same.csv", np.full(90, 3.5))
    assert run("evaluate", "v", "same.csv", "--json") == 0
    assert json.loads(capsys.readouterr().out)["r2_score"] is None


def test_mistakes_cost_a_line(table, capsys):
    line = failed(capsys, "train", "t.csv", "--metrics", "recal")
    assert line.startswith("unknown metric 'recal'; did you mean 'recall'?")
    line = failed(capsys, "train", "t.csv", "--patience", 2, "--monitor", "test_f1")
    assert line.startswith("unknown monitor 'test_f1'")
    assert failed(capsys, "train", "t.csv", "--metrics", "mae").startswith("metric 'mae' needs")


def test_the_pages_table_has_every_metric():
    rows = re.findall(r"^\| `(\w+)(?::[^`]*)?` \| (classes|values) \|", PAGE, flags=re.MULTILINE)
    shipped = {name: own.of for name, own in METRICS.items() if own.__module__ == "xpnn.metrics"}
    assert dict(rows) == shipped
