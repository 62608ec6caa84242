"""The command on a table as it comes: names, texts, truth values, missing cells, an id."""

import numpy as np
import pytest

import xpnn
from tests.helpers import failed, read_rows, run, write_folder, write_rows, write_table

onnxruntime = pytest.importorskip("onnxruntime")
pandas = pytest.importorskip("pandas")
polars = pytest.importorskip("polars")

ROWS = 300
SMALL = ["--hidden", "8", "--optimizer", "adam:lr=0.01", "--batch-size", "20", "--epochs", "30"]


def passengers():
    """Return a table as that of the Titanic: who survives depends on sex, class and age."""
    rng = np.random.RandomState(0)
    sex = rng.choice(["male", "female"], ROWS)
    age = rng.uniform(1, 80, ROWS).round(1)
    rank = rng.choice([1, 2, 3], ROWS)
    saved = (sex == "female") & (rank < 3) | (age < 12)
    return pandas.DataFrame(
        {
            "PassengerId": np.arange(1, ROWS + 1),
            "Survived": saved.astype(int),
            "Pclass": rank,
            "Name": [f'Name{i}, "Mr." J.' for i in range(ROWS)],
            "Sex": sex,
            "Age": np.where(rng.rand(ROWS) < 0.2, np.nan, age),
            "Alone": rng.rand(ROWS) < 0.5,
            "Ticket": [f"A/5 {7 * i}" if i % 4 == 0 else str(10000 + i) for i in range(ROWS)],
            "Fare": rng.gamma(2, 20, ROWS).round(4),
            "Embarked": np.where(rng.rand(ROWS) < 0.03, None, rng.choice(["S", "C", "Q"], ROWS)),
        }
    )


@pytest.fixture
def table(here):
    frame = passengers()
    frame.to_csv("passengers.csv")
    frame.drop(columns="Survived").to_csv("new.csv", index=False)
    return frame


COMMAND = ["train", "passengers.csv", "--target", "Survived", *SMALL, "--validation", 0.2]


def test_from_to_csv_to_predictions(table, here, capsys):
    ignored = ["--ignore", "1,PassengerId,Name,Ticket"]
    assert run(*COMMAND, *ignored, "--save", "m") == 0
    lines = capsys.readouterr().out.splitlines()
    model = xpnn.load("m")
    age, port = model.task.columns.columns[2], model.task.columns.columns[5]
    assert (age.name, age.missing, port.name, port.missing) == ("Age", True, "Embarked", True)
    train, _ = xpnn.datasets.load_training(
        "passengers.csv", 0.2, seed=10, target="Survived", ignore=ignored[1].split(",")
    )
    ages = pandas.Series(train.x[:, 2].astype(float))
    assert age.fill == ages.median()
    saved = int(train.y.sum())
    assert lines[:2] == [
        "data passengers.csv: 240 rows, 11 features from 6 columns (3 encoded: Sex, Alone, "
        f"Embarked; missing: {ages.isna().sum()} in Age, "
        f"{sum(cell is None for cell in train.x[:, 5])} in Embarked)",
        f"target Survived: 2 classes, 0 ({240 - saved}), 1 ({saved}); validation: 60 rows; loss: "
        "cross_entropy; scaled: features by standard",
    ]
    assert not any(line.startswith("CAREFUL") for line in lines)

    assert run("evaluate", "m", "passengers.csv") == 0
    accuracy = float(capsys.readouterr().out.split()[1])
    assert accuracy > 0.8
    assert run("predict", "m", "new.csv", "--proba", "--out", "p.csv") == 0
    _, *rows = read_rows(here / "p.csv")
    predicted = np.array([int(row[0]) for row in rows])
    assert np.mean(predicted == table["Survived"]) == accuracy
    proba = np.array([row[1:] for row in rows], np.float32)

    # the same from DataFrames and, exported, from numbers and codes
    for read in (pandas.read_csv, polars.read_csv):
        np.testing.assert_array_equal(xpnn.predict_proba(model, read("new.csv")), proba)
    assert run("export", "m", "m.onnx") == 0
    sexes, ports = ["female", "male"], ["C", "Q", "S"]
    codes = np.column_stack(
        [
            table["Pclass"], table["Sex"].map(sexes.index), table["Age"], table["Alone"],
            table["Fare"], table["Embarked"].map(ports.index, na_action="ignore"),
        ]
    ).astype(np.float64)  # fmt: skip
    session = onnxruntime.InferenceSession("m.onnx", providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == ["batch", 6]
    (theirs,) = session.run(["probabilities"], {"x": codes})
    # two small layers in float32
    np.testing.assert_allclose(theirs, proba, rtol=1e-4, atol=1e-6)
    assert (theirs.argmax(axis=1) == predicted).mean() > 0.99
    assert run("plot", "confusion", "m", "passengers.csv", "--out", "c.png") == 0


def test_what_is_no_feature_is_told_with_what_to_say(table, capsys):
    assert failed(capsys, *COMMAND).endswith(
        "passengers.csv, line 1: column 1 has no name, as the index of a DataFrame that was "
        "written with it: leave it out with --ignore 1"
    )
    told = failed(capsys, *COMMAND, "--ignore", "")
    assert told.startswith("passengers.csv: column 'Name' holds nothing but different texts, such")
    assert told.endswith("; leave out what is no feature with --ignore Name,Ticket")
    assert run(*COMMAND, "--ignore", ",Name,Ticket") == 0
    out = capsys.readouterr().out
    assert (
        "CAREFUL: PassengerId: a different whole number in each row, as an id or the row's number "
        "has; leave it out with --ignore PassengerId\n"
    ) in out


def test_a_target_of_texts_needs_no_validation(table, here, capsys):
    options = ["--ignore", "1,PassengerId,Name,Ticket", *SMALL, "--epochs", 1]
    assert run("train", "passengers.csv", "--target", "Sex", *options) == 0
    out = capsys.readouterr().out
    assert f"target Sex: 2 classes, female ({sum(table['Sex'] == 'female')}), male (" in out
    # levels are told if they were reached
    assert "reached" not in out
    assert "allowed: '', PassengerId, " in failed(capsys, *COMMAND, "--target", "survived?")


def test_encodings_are_options(table, capsys):
    options = [*COMMAND, "--ignore", "1,PassengerId,Name", "--epochs", 1, "--quiet", "--save", "m"]
    assert run(*options, "--encode", "Pclass=3<2<1,Sex=ordinal,Ticket=common",
               "--missing", "Age=30,Embarked=S") == 0  # fmt: skip
    capsys.readouterr()
    assert run("show", "m") == 0
    told = [line.split(None, 1)[1] for line in capsys.readouterr().out.splitlines()
            if line.startswith("column ")]  # fmt: skip
    assert told[:3] == [
        "Pclass: ordinal: 3, 2, 1; missing as 1",
        "Sex: ordinal: female, male; missing as 1",
        "Age: number; missing as 30; with an indicator of missing ones",
    ]
    assert told[6] == (
        "Embarked: one-hot of C, Q, S; missing as S; with an indicator of missing ones"
    )
    assert run("evaluate", "m", "passengers.csv") == 0
    assert "unknown encoding 'dense'" in failed(capsys, *COMMAND, "--encode", "dense")
    assert "missing must be median" in failed(capsys, *COMMAND, "--missing", "mean")


def test_dates_are_refused_with_the_recipe(table, capsys):
    table.assign(Name="2024-01-31").to_csv("passengers.csv", index=False)
    told = failed(capsys, *COMMAND, "--ignore", "Ticket")
    assert "column 'Name' holds dates, such as '2024-01-31': turn them into numbers first" in told
    assert "pandas.to_datetime" in told
    assert told.endswith("--ignore Name")


def test_new_cells_that_can_not_be_used(table, capsys):
    assert run(*COMMAND, "--ignore", "1,PassengerId,Name,Ticket", "--epochs", 1, "--save", "m",
               "--quiet") == 0  # fmt: skip
    table.assign(Fare="dear").to_csv("new.csv", index=False)
    assert failed(capsys, "predict", "m", "new.csv") == (
        "new.csv, line 2, column 'Fare': 'dear' is not a number"
    )
    assert "line 2, column 'Fare': 'dear' is" in failed(capsys, "evaluate", "m", "new.csv")
    table.drop(columns="Sex").to_csv("new.csv", index=False)
    assert "new.csv has no column 'Sex'" in failed(capsys, "predict", "m", "new.csv")


# what was understood


def understood(capsys, *argv):
    capsys.readouterr()
    assert run("train", *argv, "--hidden", "3", "--epochs", 0) == 0
    lines = capsys.readouterr().out.splitlines()
    return lines[: next(i for i, line in enumerate(lines) if line.startswith("layer "))]


def test_numbers_alone(here, capsys):
    write_table(here / "t.csv")
    assert understood(capsys, "t.csv") == [
        "data t.csv: 90 rows, 4 features",
        "target kind: 3 classes, setosa (30), virginica (30), véronique, wild (30); validation: "
        "none; loss: cross_entropy; scaled: features by standard",
    ]
    assert run("train", "t.csv", "--epochs", 0, "--quiet") == 0
    assert capsys.readouterr().out == ""


def test_values(here, capsys):
    rows = [[i / 4, 2.0 * i + 0.5] for i in range(11)]
    write_rows(here / "t.csv", rows, ["x", "y"])
    assert understood(capsys, "t.csv", "--normalize", "none") == [
        "data t.csv: 11 rows, 1 feature",
        "target y: values from 0.5 to 20.5; validation: none; loss: mean_squared_error; scaled: "
        "target by standard",
    ]


def test_images(here, capsys):
    write_folder(here / "data")
    lines = understood(capsys, "data")
    assert lines[0] == "data data: 60 rows, 16 features (4 × 4 grey)"
    assert lines[1].startswith("target: 3 classes, 0 (")
    assert lines[1].endswith("; validation: 30 rows; loss: cross_entropy; scaled: nothing")
    assert len(lines) == 2


def test_a_target_named_as_the_features_is_odd(here, capsys):
    pixels = np.random.RandomState(0).randint(0, 21, (400, 6))
    write_rows(here / "t.csv", np.hstack([pixels[:, :1] % 3, pixels]),
               ["label", *(f"pixel{i}" for i in range(6))])  # fmt: skip
    *_, first, second = understood(capsys, "t.csv")
    assert first == (
        "CAREFUL: the target 'pixel5', of 21 classes, is named as the feature 'pixel0' is; another "
        "column is the target with --target NAME"
    )
    assert second == (
        "CAREFUL: 21 classes are many; if the target's integers are values, say --task regression"
    )
    assert len(understood(capsys, "t.csv", "--target", "label")) == 2


def test_one_class_and_a_column_of_names_are_odd(here, capsys):
    write_folder(here / "data", classes=1)
    *_, line = understood(capsys, "data")
    assert line == "CAREFUL: all rows of the training part are of one class"
    write_rows(
        here / "t.csv", [[f"n{i}", i / 2, "uv"[i % 2]] for i in range(12)], ["who", "x", "y"]
    )
    told = (
        "CAREFUL: who has a different text in almost each row, as a name has; leave it out with "
        "--ignore who"
    )
    assert understood(capsys, "t.csv")[2:] == [told]
    assert len(understood(capsys, "t.csv", "--encode", "who=common")) == 3
    rows = [[f"n{i % 5}", i / 2, "uv"[i % 2]] for i in range(12)]
    write_rows(here / "t.csv", rows, ["who", "x", "y"])
    assert len(understood(capsys, "t.csv")) == 2


@pytest.mark.parametrize(
    ("name", "numbers", "odd"),
    [
        ("n", np.arange(30) + 5, True),
        ("customer_id", np.arange(30) ** 3, True),
        ("customerId", np.arange(30) ** 3, True),
        ("n", np.arange(30) ** 3, False),
        ("grid", np.arange(30) ** 3, False),
        ("id", np.arange(30) // 2, False),
        ("id", np.arange(30) + 0.5, False),
        ("id", np.arange(19), False),
    ],
)
def test_a_column_like_an_id_is_odd(name, numbers, odd, here, capsys):
    rows = [[n, i % 2 + 0.5, "uv"[i % 2]] for i, n in enumerate(numbers)]
    write_rows(here / "t.csv", rows, [name, "x", "y"])
    lines = understood(capsys, "t.csv")
    assert len(lines) == 2 + odd
    assert not odd or lines[2].endswith(f"--ignore {name}")
