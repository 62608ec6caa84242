"""What `fit` does with a table where nothing is asked for: what `xpnn train` does."""

import numpy as np
import pytest

import xpnn
from tests.helpers import failed, run, write_rows
from xpnn.datasets import Dataset, from_table
from xpnn.errors import ArgumentError, DataError, Door, entered, written

pandas = pytest.importorskip("pandas")

ROWS = 60
RNG = np.random.RandomState(0)
FRAME = pandas.DataFrame({"a": 1000 * RNG.rand(ROWS), "b": RNG.rand(ROWS)})
VALUES = pandas.Series(FRAME.a * FRAME.b + 0.5, name="price")
KINDS = np.where(VALUES.median() < VALUES, "dear", "cheap")


def network(outputs=1):
    return xpnn.Sequential(xpnn.Dense(100), xpnn.Activation("relu"), xpnn.Dense(outputs))


def trained(*data, outputs=1, **options):
    model = network(outputs)
    xpnn.fit(model, *data, **{"epochs": 1, "seed": 10, **options})
    return model


def test_the_command_and_fit_train_the_same_model(here):
    FRAME.assign(price=VALUES).to_csv("t.csv", index=False)
    assert run("train", "t.csv", "--validation", 0.2, "--quiet", "--save", "m") == 0
    model = trained(from_table(FRAME.assign(price=VALUES), target="price"), validation=0.2,
                    epochs=None)  # fmt: skip
    loaded = xpnn.load("m")
    assert model.sha256() == loaded.sha256()
    assert model.history.stopped == loaded.history.stopped
    assert model.history.settings == loaded.history.settings


@pytest.mark.parametrize(
    "data", [(FRAME, VALUES), from_table(FRAME.assign(y=VALUES), target="y"),
             (FRAME.to_numpy(object), VALUES.to_numpy())],
    ids=["frame", "from_table", "cells"],
)  # fmt: skip
def test_a_table_has_the_defaults_of_the_command(data):
    settings = trained(data, epochs=None).history.settings
    assert settings["optimizer"] == repr(xpnn.Adam())
    assert (settings["epochs"], settings["batch_size"]) == (100, 32)
    assert settings["normalizer"] == settings["target_normalizer"] == "StandardScaler()"


@pytest.mark.parametrize(
    "x", [FRAME.to_numpy(), RNG.randint(0, 256, (ROWS, 2)).astype(np.uint8), RNG.rand(ROWS, 2, 2)]
)
def test_arrays_and_images_are_taken_as_they_are(x):
    settings = trained(Dataset(x, KINDS), outputs=2, epochs=None).history.settings
    assert settings["optimizer"] == repr(xpnn.SGD(lr=0.1))
    assert (settings["epochs"], settings["batch_size"]) == (50, 100)
    assert "normalizer" not in settings


def test_what_is_asked_for_counts():
    model = trained(FRAME, VALUES / 1000, optimizer="sgd:lr=1e-8", batch_size=7, normalizer="none",
                    target_normalizer="none")  # fmt: skip
    settings = model.history.settings
    assert (settings["optimizer"], settings["batch_size"]) == (repr(xpnn.SGD(lr=1e-8)), 7)
    assert model.task.normalizer is model.task.target_normalizer is None
    # labels and counts are not scaled
    assert trained(FRAME, KINDS, outputs=2).task.target_normalizer is None
    assert trained(FRAME, VALUES, loss="poisson").task.target_normalizer is None


def test_a_trained_model_keeps_its_normalizers():
    model = trained(FRAME.to_numpy(), VALUES / 1000, optimizer="sgd:lr=1e-8")
    xpnn.fit(model, FRAME, VALUES, epochs=1)
    assert model.task.normalizer is None
    model = trained(FRAME, VALUES)
    xpnn.fit(model, FRAME, VALUES, epochs=1)
    assert model.task.normalizer is not None
    with pytest.raises(ArgumentError, match="normalizer of a model that is trained already must"):
        xpnn.fit(model, FRAME, VALUES, normalizer="none", epochs=1)


def test_early_stopping_of_ones_own_is_the_only_one():
    seen = []

    class Sees(xpnn.Callback):
        def on_start(self, run):
            seen.append([c.patience for c in run.callbacks if isinstance(c, xpnn.EarlyStopping)])

    for options in ({}, {"callbacks": [xpnn.EarlyStopping(patience=3)]}, {"epochs": 2}):
        options = {"epochs": None, "validation": 0.2, **options}
        options["callbacks"] = [*options.get("callbacks", ()), Sees()]
        trained(FRAME, VALUES, **options)
    assert seen == [[20], [3], []]


def test_predictions_have_the_shape_of_the_targets(tmp_path):
    model = trained(FRAME, VALUES)
    assert xpnn.predict(model, FRAME).shape == (ROWS,)
    xpnn.save(model, path := tmp_path / "m")
    assert xpnn.predict(xpnn.load(path), FRAME).shape == (ROWS,)
    assert xpnn.predict_proba(model, FRAME).shape == (ROWS, 1)
    assert xpnn.predict(trained(FRAME, VALUES.to_numpy()[:, None]), FRAME).shape == (ROWS, 1)
    two = trained(FRAME, VALUES, loss="quantile:levels=0.1,0.9", outputs=2)
    assert xpnn.predict(two, FRAME).shape == (ROWS, 2)


def test_a_frame_that_holds_the_target_is_evaluated():
    whole = FRAME.assign(price=VALUES, when=pandas.Timestamp("2024-01-01"))[::-1]
    whole = whole[["when", "b", "price", "a"]]
    model = trained(FRAME, VALUES)
    found = xpnn.evaluate(model, FRAME[::-1], VALUES[::-1])
    assert xpnn.evaluate(model, whole) == found == xpnn.evaluate(model, (FRAME[::-1], VALUES[::-1]))
    one, other = (trained(FRAME, VALUES, validation=v) for v in (whole, (FRAME, VALUES)))
    assert one.history[-1].test_loss == pytest.approx(other.history[-1].test_loss, rel=1e-5)
    with pytest.raises(DataError, match="data has no column 'price', which is the target"):
        xpnn.evaluate(model, FRAME)
    with pytest.raises(DataError, match="data has no column 'a', which is one of the features"):
        xpnn.evaluate(model, whole.drop(columns="a"))
    with pytest.raises(ArgumentError, match="y must be left out where data is a pair"):
        xpnn.evaluate(model, (FRAME, VALUES), VALUES)
    with pytest.raises(DataError, match="had no name for its target, got a DataFrame"):
        xpnn.evaluate(trained(FRAME, VALUES.to_numpy()), whole)
    with pytest.raises(ArgumentError, match=r"train must be a pair \(x, y\), got a DataFrame"):
        trained(whole)


# what was understood


def said(capsys, *data, **options):
    capsys.readouterr()
    trained(*data, verbose=True, **options)
    lines = capsys.readouterr().out.splitlines()
    return lines[: next(i for i, line in enumerate(lines) if line.startswith("epoch "))]


def test_fit_says_what_it_understood_of_a_table(capsys):
    assert said(capsys, FRAME, VALUES) == [
        "data: 60 rows, 2 features",
        f"target price: values from {VALUES.min():.6g} to {VALUES.max():.6g}; validation: none; "
        "loss: mean_squared_error; scaled: features by standard, target by standard",
    ]
    assert "validation: 15 rows" in said(capsys, FRAME, VALUES, validation=0.25)[1]
    assert said(capsys, FRAME.to_numpy(), KINDS, outputs=2) == []


@pytest.mark.parametrize(
    ("columns", "kinds", "told"),
    [
        ({"c": 3.0}, KINDS, "c: the same in all rows, which says nothing; leave it out with "
                            "ignore=['c']"),
        ({"c": "x", "d": 1}, KINDS, "c, d: the same in all rows, which says nothing; leave them "
                                    "out with ignore=['c', 'd']"),
        ({"c": KINDS}, KINDS, "c: the same as the target in each row, which new data won't have; "
                              "leave it out with ignore=['c']"),
        ({}, np.append(KINDS[:-1], "odd"), "class odd: a single row of the training part, from "
                                           "which nothing can be learned; find more, or leave it "
                                           "out"),
    ],
)  # fmt: skip
def test_what_is_odd_is_said_loudly(columns, kinds, told, capsys):
    data = from_table(FRAME.assign(**columns, kind=kinds), target="kind")
    assert said(capsys, data, outputs=len(set(kinds)))[2:] == [f"CAREFUL: {told}"]


def test_a_target_of_two_values_is_odd(capsys):
    two = pandas.Series(np.arange(60) % 2 + 0.5, name="price")
    assert said(capsys, FRAME, two)[2:] == [
        "CAREFUL: the target has no other values than 0.5 and 1.5; if they are classes, make them "
        "integers or say task='classification'"
    ]
    assert len(said(capsys, FRAME, two.where(two.index > 0, 1.0))) == 2


def test_values_that_are_a_feature_are_odd(capsys):
    lines = said(capsys, FRAME.assign(c=VALUES), VALUES)
    assert lines[2:] == [
        "CAREFUL: c: the same as the target in each row, which new data won't have; leave it out "
        "with ignore=['c']"
    ]
    nearly = VALUES.where(VALUES.index > 0, 0.0)
    assert len(said(capsys, FRAME.assign(c=nearly, d=np.append(np.ones(59), np.nan)), VALUES)) == 2


# doors


def test_an_argument_is_named_as_it_is_given():
    def all_three(name, value):
        found = [written(name, value)]
        for door in (Door.COMMAND, Door.STUDY):
            with entered(door):
                found.append(written(name, value))
        return found

    assert all_three("ignore", ["a", "b c"]) == [
        "ignore=['a', 'b c']", "--ignore 'a,b c'", 'ignore = "a,b c"',
    ]  # fmt: skip
    assert all_three("header", True) == ["header=True", "--header yes", "header = true"]
    assert all_three("encode", {"a": "common"}) == [
        "encode={'a': 'common'}", "--encode a=common", 'encode = "a=common"',
    ]  # fmt: skip
    assert all_three("class_weight", 0.5) == [
        "class_weight=0.5", "--class-weight 0.5", "class_weight = 0.5",
    ]  # fmt: skip


def test_the_command_speaks_of_options(here, capsys):
    write_rows(here / "t.csv", [[i / 2, i] for i in range(30)], ["x", "y"])
    told = failed(capsys, "train", "t.csv")
    assert told.endswith("say which: --task classification or --task regression")
    with pytest.raises(DataError, match=r"say which: task='classification' or task='regression'$"):
        xpnn.datasets.load("t.csv")


@pytest.mark.parametrize("cells", [["2024-01-31", "2024-02-01"], ["31.1.2024", "1.2.2024"]])
def test_a_target_of_dates_has_the_recipe(cells, here, capsys):
    write_rows(here / "t.csv", [[i, cells[i % 2]] for i in range(30)], ["x", "day"])
    told = failed(capsys, "train", "t.csv")
    assert told.startswith(f"t.csv, column 'day': the target holds dates, such as {cells[0]!r}")
    assert "df['day'] = (d - d.min()).dt.days" in told
    frame = pandas.DataFrame({"x": range(3), "day": pandas.date_range("2024-01-01", periods=3)})
    with pytest.raises(DataError, match=r"column 'day': the target holds dates, .*pandas"):
        from_table(frame, target="day")
    with pytest.raises(DataError, match=r"a missing value; .*df.dropna\(subset=\['day'\]\)"):
        from_table(frame.assign(day=[1.5, None, 2.5]), target="day")


def test_a_share_may_be_in_per_cent(here):
    FRAME.assign(price=VALUES).to_csv("t.csv", index=False)
    for share, path in (("0.2", "m"), ("20%", "n")):
        assert run("train", "t.csv", "--epochs", 1, "--validation", share, "--quiet",
                   "--save", path) == 0  # fmt: skip
    assert xpnn.load("m").sha256() == xpnn.load("n").sha256()
    assert xpnn.load("n").task.share.fraction == 0.2


def test_the_figure_to_watch_needs_no_patience_with_a_table(here, capsys):
    FRAME.assign(kind=KINDS).to_csv("t.csv", index=False)
    watched = ["train", "t.csv", "--monitor", "test_accuracy"]
    assert run(*watched, "--validation", 0.2) == 0
    assert "test_accuracy was best at epoch" in capsys.readouterr().out
    assert failed(capsys, *watched, "--validation", 0.2, "--epochs", 3).startswith("monitor needs")
    assert failed(capsys, *watched).startswith("monitor needs patience")


def test_too_many_columns_are_left_out(capsys):
    names = ["r2", "mae", "rmse", "max_error", "explained_variance", "median_absolute_error"]
    trained(FRAME, VALUES, validation=0.2, metrics=names, verbose=True)
    lines = capsys.readouterr().out.splitlines()[2:]
    told = "too many columns for a line, only in the log: "
    assert lines[0].startswith(told)
    assert max(map(len, lines[1:])) <= 160
    hidden, shown = lines[0].removeprefix(told).split(", "), lines[1]
    every = [f"{part} {name}" for part in ("train", "test") for name in names]
    assert [name for name in every if name in hidden] == hidden
    assert all((f" {name} " in f"{shown} ") != (name in hidden) for name in every)
    assert "train r2" in hidden or "test r2" in shown
