"""The command on a user's own data: from files to predictions."""

import contextlib
import csv
import re

import numpy as np
import pytest

import xpnn
from tests.helpers import (
    BACKEND_NAMES,
    CODES,
    COLUMNS,
    FLOWERS,
    NAMES,
    SETTINGS,
    VALUES,
    failed,
    flower_network,
    open_backend,
    read_rows,
    run,
    write_rows,
    write_table,
)
from xpnn._core.functions import softmax
from xpnn.backends import to_numpy
from xpnn.datasets import load_training
from xpnn.inference import outputs_of

QUICK = ["--hidden", "5", "--optimizer", "sgd:lr=0.1", "--batch-size", "10", "--epochs", "20"]
QUICK += ["--quiet"]


@pytest.mark.parametrize("backend", BACKEND_NAMES)
def test_from_training_to_predictions(backend, here, capsys):
    open_backend(backend)
    write_table(here / "t.csv")
    assert run("train", "t.csv", *QUICK, "--validation", 0.2, "--save", "m") == 0
    assert run("evaluate", "m", "t.csv", "--backend", backend) == 0
    lines = capsys.readouterr().out.split()
    assert lines[::2] == ["accuracy", "loss"]

    write_rows(here / "new.csv", FLOWERS[:, ::-1], COLUMNS[::-1])
    assert run("predict", "m", "new.csv", "--proba", "--backend", backend, "--out", "p.csv") == 0
    header, *rows = read_rows(here / "p.csv")
    model = xpnn.load("m")
    assert header == ["prediction", *(f"proba_{label}" for label in model.task.labels)]
    assert [row[0] for row in rows] == xpnn.predict(model, FLOWERS).tolist()
    assert float(lines[1]) == np.mean([row[0] for row in rows] == NAMES) > 0.9
    proba = np.array([row[1:] for row in rows], np.float32)
    np.testing.assert_allclose(proba, xpnn.predict_proba(model, FLOWERS), rtol=1e-4, atol=1e-7)
    # the same from the file with the target, on standard output
    assert run("predict", "m", "t.csv") == 0
    assert list(csv.reader(capsys.readouterr().out.splitlines())) == [
        ["prediction"], *([row[0]] for row in rows)
    ]  # fmt: skip


def test_a_regression(here, capsys):
    write_table(here / "t.csv", VALUES, header=(*COLUMNS, "price"))
    assert run("train", "t.csv", *QUICK[:-1], "--validation", 0.2, "--save", "m") == 0
    out = capsys.readouterr().out
    assert "accuracy" not in out
    assert re.search(r"^best test loss \S+ at epoch \d+$", out, re.MULTILINE)
    assert re.search(r"^ +20 +[\d.]+ +[\d.]+$", out, re.MULTILINE)
    assert run("evaluate", "m", "t.csv") == 0
    found = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert list(found) == ["loss", "r2_score", "root_mean_squared_error"]
    assert float(found["r2_score"]) > 0.95
    assert run("predict", "m", "t.csv", "--out", "p.csv") == 0
    values = np.array([float(row[0]) for row in read_rows(here / "p.csv")[1:]])
    rmse = np.sqrt(np.mean((values - VALUES) ** 2))
    np.testing.assert_allclose(float(found["root_mean_squared_error"]), rmse, rtol=1e-12)
    assert failed(capsys, "predict", "m", "t.csv", "--proba").startswith("proba needs a model of")


def test_the_command_and_the_library_do_the_same(here):
    write_table(here / "t.csv")
    assert run("train", "t.csv", *QUICK, "--validation", 0.2, "--seed", 4, "--save", "m") == 0
    train, test = load_training("t.csv", 0.2, seed=4)
    model = flower_network()
    options = {"optimizer": "sgd:lr=0.1", "epochs": 20, "batch_size": 10, "seed": 4}
    xpnn.fit(model, train, validation=test, **options)
    loaded = xpnn.load("m")
    assert loaded.sha256() == model.sha256()
    assert (loaded.task.feature_names, loaded.task.target_name) == (
        model.task.feature_names,
        "kind",
    )
    assert [row[:5] for row in loaded.history] == [row[:5] for row in model.history]


@pytest.mark.parametrize("normalize", ["minmax", "none"])
def test_normalizers_are_options(normalize, here):
    write_table(here / "t.csv", VALUES)
    assert run("train", "t.csv", *QUICK, "--epochs", 1, "--optimizer", "sgd:lr=1e-6", "--save", "m",
               "--normalize", normalize, "--normalize-target", normalize) == 0  # fmt: skip
    model = xpnn.load("m")
    kind = {"minmax": xpnn.MinMaxScaler, "none": type(None)}[normalize]
    assert {type(model.task.normalizer), type(model.task.target_normalizer)} == {kind}


def test_tables_without_a_header(here, capsys):
    write_table(here / "t.csv", header=None)
    assert run("train", "t.csv", *QUICK, "--save", "m") == 0
    write_rows(here / "new.csv", FLOWERS)
    capsys.readouterr()
    outputs = []
    for name in ("t.csv", "new.csv"):
        assert run("predict", "m", name) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1]
    assert run("evaluate", "m", "t.csv") == 0


def test_a_model_of_arrays_reads_tables(here, capsys):
    model = flower_network()
    xpnn.fit(model, (FLOWERS, CODES), **SETTINGS)
    xpnn.save(model, "m")
    outputs = []
    write_table(here / "t.csv", CODES)
    write_rows(here / "new.csv", FLOWERS)
    write_table(here / "text.csv")
    np.save("x.npy", FLOWERS)
    for name in ("t.csv", "new.csv", "text.csv", "x.npy"):
        assert run("predict", "m", name) == 0
        outputs.append(capsys.readouterr().out)
    write_rows(here / "first.csv", [["?", *x] for x in FLOWERS])
    assert run("predict", "m", "first.csv", "--target", 1) == 0
    outputs.append(capsys.readouterr().out)
    assert set(outputs) == {outputs[0]}
    assert run("evaluate", "m", "t.csv") == 0


def test_one_output_gives_two_probabilities(here, capsys):
    model = flower_network(1)
    y = np.where(CODES == 0, "no", "yes")
    xpnn.fit(model, (FLOWERS, y), loss=xpnn.BinaryCrossEntropy(), **SETTINGS)
    xpnn.save(model, "m")
    np.save("x.npy", FLOWERS)
    assert run("predict", "m", "x.npy", "--proba") == 0
    header, *rows = csv.reader(capsys.readouterr().out.splitlines())
    assert header == ["prediction", "proba_no", "proba_yes"]
    for label, no, yes in rows:
        assert float(no) + float(yes) == pytest.approx(1, abs=2**-23)
        assert label == ("yes" if float(yes) > float(no) else "no")


@pytest.mark.parametrize("y", [NAMES, VALUES])
def test_a_reproducible_use_gives_the_same_on_every_backend(y, here, capsys):
    write_table(here / "t.csv", y)
    assert run("train", "t.csv", *QUICK, "--hidden", "9,9", "--activation", "tanh", "--save", "m",
               "--quiet") == 0  # fmt: skip
    said = {}
    for library in ("numpy", "torch", "jax", "strict"):
        with contextlib.suppress(xpnn.BackendError):
            xpnn.backends.get_backend(library)
            options = ["--backend", library, "--reproducible"]
            proba = ["--proba"] if y is NAMES else []
            assert run("evaluate", "m", "t.csv", *options) == 0
            assert run("predict", "m", "t.csv", *proba, *options) == 0
            said[library] = capsys.readouterr().out
            model = xpnn.load("m", backend=library, reproducible=True)
            assert model.backend.options()["reproducible"] is True
            said[library] += repr(np.asarray(xpnn.predict_proba(model, FLOWERS)).tolist())
    assert len(set(said.values())) == 1, said
    if y is NAMES:
        # not the host's own exp, which differs between processors
        outputs, place = outputs_of(model, FLOWERS), model.backend
        with place.scope():
            expected = to_numpy(softmax(place.asarray(outputs), place.xp))
        np.testing.assert_array_equal(xpnn.predict_proba(model, FLOWERS), expected, strict=True)


@pytest.mark.parametrize(
    ("labels", "given"),
    [
        (["a", "b", "c"], "a=0,b=3, c = 0.5"),
        (["a=b", "=", "c"], "a=b=0,==3,c=.5"),
        (["a, b", "b=1,c=2", "{c}"], '{"a, b": 0, "b=1,c=2": 3, "{c}": 0.5}'),
        (['"', "véronique", "12"], ' {"\\"": 0, "v\\u00e9ronique": 3e0, "12": 0.5}'),
    ],
)
def test_class_weights_of_any_labels(labels, given, here):
    write_table(here / "t.csv", np.array(labels)[CODES])
    assert run("train", "t.csv", *QUICK, "--epochs", 2, "--class-weight", given, "--save", "m",
               "--quiet") == 0  # fmt: skip
    weights = dict(zip(labels, [0.0, 3.0, 0.5], strict=True))
    assert xpnn.load("m").history.settings["class_weight"] == weights
    assert xpnn.load("m").history[1].train_loss > 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("a, b=1", "class_weight must be such as 0=1,1=2.5, got 'a'; a label with a comma needs"),
        ('{"a": 1', 'class_weight must be JSON such as {"0": 1, "1": 2.5}, got \'{"a": 1\': '),
        ('{"a": 1} 2', "class_weight must be JSON"),
        ("{" * 100000, "class_weight must be JSON"),
        ('{"a": 1, "a": 1}', "class_weight of a is given twice"),
        ('{"a": -1}', "class_weight of a must be a finite number >= 0, got -1"),
        ('{"a": true}', "class_weight of a must be a finite number >= 0, got True"),
        ('{"a": null}', "class_weight of a must be a finite number >= 0, got None"),
        ('{"a": {"b": 1}}', "class_weight of a must be a finite number >= 0, got ["),
        ('{"a": NaN}', "class_weight of a must be a finite number >= 0, got nan"),
        ('{"a": 1' + "0" * 400 + "}", "class_weight of a must be a finite number >= 0, got inf"),
        ('{"z": 1}', "unknown label in class_weight 'z'"),
    ],
)
def test_class_weights_that_can_not_be_used(given, message, here, capsys):
    write_table(here / "t.csv")
    assert message in failed(capsys, "train", "t.csv", "--class-weight", given)


def test_show(here, capsys):
    write_table(here / "t.csv")
    assert run("train", "t.csv", *QUICK, "--save", "m") == 0
    assert run("show", "m") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["dense1", "dense", "4", "5", "25"]
    shown = dict(re.split(r"  +", line, maxsplit=1) for line in lines[5:])
    assert shown["normalizer"] == "StandardScaler()"
    assert shown["classes"] == "setosa, virginica, véronique, wild"
    assert (shown["features"], shown["target"]) == ("a, b, c, d", "kind")
    assert "epochs=20, batch_size=10, seed=10" in shown["settings"]
    assert shown["last epoch"].startswith("epoch=20, train_accuracy=")
    assert shown["written by"] == f"xpnn {xpnn.__version__}, numpy {np.__version__}"
    assert shown["weights sha256"] == xpnn.load("m").sha256()


def test_predictions_are_written_whole_or_not_at_all(here, monkeypatch, capsys):
    write_table(here / "t.csv")
    assert run("train", "t.csv", *QUICK, "--save", "m") == 0
    (here / "p.csv").write_text("of before")
    calls = []

    def failing(model, rows):
        calls.append(len(rows))
        if len(calls) > 2:
            raise OSError(28, "No space left on device")
        return np.zeros(len(rows))

    monkeypatch.setattr("xpnn.cli.models.predict", failing)
    monkeypatch.setattr("xpnn.cli.models.EVALUATION_ROWS", 20)
    assert "No space left" in failed(capsys, "predict", "m", "t.csv", "--out", "p.csv")
    assert (here / "p.csv").read_text() == "of before"
    assert calls == [20, 20, 20]
    assert sorted(path.name for path in here.iterdir()) == ["m", "p.csv", "t.csv"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["train", "t.csv", "--save", "t.csv"], "save and data must be different files"),
        (["train", "t.csv", "--log", "./t.csv"], "log and data must be different files"),
        (["train", "t.csv", "--validation", "v.csv", "--log", "v.csv"],
         "log and validation must be different files"),
        (["train", "x.npy,y.npy", "--log", "y.npy"], "log and data must be different files"),
        (["predict", "m", "t.csv", "--out", "m"], "out and model must be different files"),
        (["predict", "m", "t.csv", "--out", "t.csv"], "out and data must be different files"),
        (["predict", "m", "t.csv", "--out", "no/p.csv"], "out must be a file that can be written"),
        (["predict", "t.csv", "t.csv"], "can't read a model from t.csv"),
        (["show", "no"], "can't read a model from no"),
        (["predict", "m", "no.csv"], "no file or folder no.csv"),
        (["evaluate", "m", "new.csv"], "unknown target of new.csv 'kind'"),
        (["train", "t.csv", "--target", "z"], "unknown target of t.csv 'z'"),
        (["train", "t.csv", "--header", "maybe"], "header must be yes or no, got 'maybe'"),
        (["train", "t.csv", "--task", "x"], "unknown task 'x' (allowed: classification, regr"),
        (["train", "t.csv", "--task", "regression"], "line 2, column 'kind': 'setosa' is not a"),
        (["train", "t.csv", "--normalize", "z"], "unknown normalize 'z' (allowed: standard, min"),
        (["train", "t.csv", "--normalize-target", "minmax"], "target_normalizer is for values"),
        (["train", "t.csv", "--validation", "0"], "validation must be a fraction > 0 and < 1"),
        (["train", "t.csv", "--validation", "no.csv"], "no file or folder no.csv"),
    ],
)  # fmt: skip
def test_wrong_commands_take_one_line_and_lose_nothing(argv, message, here, capsys):
    write_table(here / "t.csv")
    write_table(here / "v.csv")
    write_rows(here / "new.csv", FLOWERS, COLUMNS)
    assert run("train", "t.csv", *QUICK, "--epochs", 0, "--save", "m") == 0
    before = {path: path.read_bytes() for path in here.iterdir()}
    assert message in failed(capsys, *argv)
    assert {path: path.read_bytes() for path in here.iterdir()} == before


def test_constant_columns_and_single_rows_work(here):
    write_rows(here / "t.csv", [[1, 2, "u"], [1, 4, "v"]], ["a", "b", "y"])
    assert run("train", "t.csv", *QUICK) == 0
    write_rows(here / "t.csv", [[1, 2, 2.5]], ["a", "b", "y"])
    assert run("train", "t.csv", *QUICK) == 0


def test_a_column_that_can_not_be_normalized_is_named(here, capsys):
    write_table(here / "t.csv")
    text = (here / "t.csv").read_text().splitlines()
    (here / "t.csv").write_text("\n".join([text[0], *(f"{s}1e308,{t}" for s, t in [
        (sign, line.split(",", 1)[1]) for sign, line in zip("+-" * 45, text[1:], strict=True)
    ])]) + "\n")  # fmt: skip
    wanted = "t.csv, column 'a': values from -1e+308 to 1e+308 can't be normalized in float64"
    assert failed(capsys, "train", "t.csv", "--epochs", 1) == wanted


def test_a_full_disk_is_named(here, capsys):
    if not (here.parent / "/dev/full").exists():
        pytest.skip("no /dev/full")
    write_table(here / "t.csv")
    assert run("train", "t.csv", *QUICK, "--save", "m") == 0
    assert "'/dev/full'" in failed(capsys, "predict", "m", "t.csv", "--out", "/dev/full")
    assert "'/dev/full'" in failed(capsys, "train", "t.csv", *QUICK, "--save", "/dev/full")


def test_a_label_with_a_newline_is_one_line_of_a_table(here, capsys):
    write_table(here / "t.csv", np.array(["a\nb", "c"])[CODES % 2])
    assert run("train", "t.csv", *QUICK, "--save", "m") == 0
    capsys.readouterr()
    assert run("show", "m") == 0
    assert re.search(r"^classes +a\\nb, c$", capsys.readouterr().out, re.M)


def test_a_run_that_can_not_begin_prints_no_table(here, capsys):
    write_table(here / "t.csv")
    (here / "c").write_text("of before")
    capsys.readouterr()
    assert run("train", "t.csv", "--patience", 2, "--monitor", "test_loss") == 2
    assert run("train", "t.csv", "--checkpoint", "c") == 2
    assert capsys.readouterr().out == ""


def test_export_replaces_nothing_but_onnx(here, capsys):
    write_table(here / "t.csv")
    assert run("train", "t.csv", *QUICK, "--save", "m") == 0
    assert failed(capsys, "export", "m", "t.csv") == "FILE must end in .onnx, got 't.csv'"
