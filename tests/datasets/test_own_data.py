"""A user's own data, from files to predictions: in Python, and by the command."""

import contextlib
import csv
import re
import struct
import sys
import zlib

import numpy as np
import pytest

import xpnn
from tests.helpers import LIBRARIES, ROOT, open_backend, run, write_folder
from xpnn._core.functions import softmax
from xpnn.backends import to_numpy
from xpnn.datasets import Dataset, encode, load, load_training, split
from xpnn.errors import ArgumentError, DataError
from xpnn.inference import outputs_of

BACKENDS = [name for name in LIBRARIES if name != "numpy-readonly"]
RNG = np.random.RandomState(0)
CENTRES = RNG.randn(3, 4) * 3
CODES = np.arange(90) % 3
X = CENTRES[CODES] + RNG.randn(90, 4)
NAMES = np.array(["setosa", "véronique, wild", "virginica"])[CODES]
VALUES = 200 + 50 * X[:, 0] - 20 * X[:, 1]
COLUMNS = ["a", "b", "c", "d"]


def write(path, rows, header=None, delimiter=","):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerows([*([] if header is None else [header]), *rows])
    return path


def table(path, y=NAMES, rows=slice(None), header=(*COLUMNS, "kind")):
    return write(path, [[*x, t] for x, t in zip(X[rows], y[rows], strict=True)], header)


def read(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def failed(capsys, *argv):
    """Return the one line of a command that fails."""
    capsys.readouterr()
    assert run(*argv) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1, err
    assert err.startswith("xpnn: error: ")
    return err.removeprefix("xpnn: error: ").rstrip()


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


# files


def test_a_table_is_a_pair_that_knows_its_names(here):
    data = load(table(here / "t.csv"))
    x, y = data
    np.testing.assert_array_equal(x, X, strict=True)
    np.testing.assert_array_equal(y, NAMES, strict=True)
    assert (data.feature_names, data.target_name) == (tuple(COLUMNS), "kind")
    assert data.where(3) == f"{here / 't.csv'}, line 5, column 'kind'"


@pytest.mark.parametrize("place", ["pair", "folder", "npz"])
@pytest.mark.parametrize(
    ("y", "expected"),
    [
        (CODES.astype(np.uint8), CODES),
        (CODES == 1, (CODES == 1).astype(np.int64)),
        (NAMES, NAMES),
        (VALUES.astype(np.float32), VALUES.astype(np.float32).astype(np.float64)),
        (VALUES[:, None], VALUES),
        (np.stack([VALUES, -VALUES], axis=1), np.stack([VALUES, -VALUES], axis=1)),
    ],
)
def test_arrays_in_files(place, y, expected, here):
    if place == "npz":
        np.savez("data.npz", x=X, y=y)
        data = load("data.npz")
    else:
        np.save("x.npy", X)
        np.save("y.npy", y)
        data = load({"pair": "x.npy,y.npy", "folder": here}[place])
    np.testing.assert_array_equal(data.x, X, strict=True)
    np.testing.assert_array_equal(data.y, expected, strict=True)


def test_large_arrays_are_mapped(here, monkeypatch):
    monkeypatch.setattr("xpnn.datasets.dataset._READ_BYTES", 1000)
    np.save("x.npy", X.reshape(90, 2, 2))
    np.save("y.npy", CODES)
    data = load("x.npy,y.npy")
    assert xpnn.datasets.is_mapped(data.x)
    np.testing.assert_array_equal(data.x, X)
    with pytest.raises(ArgumentError, match="validation must be files of its own"):
        load_training("x.npy,y.npy", 0.2)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": X}, "data.npz must hold arrays x and y, got x"),
        ({"a": X, "y": CODES}, "data.npz must hold arrays x and y, got a, y"),
        ({"x": X[0], "y": CODES}, r"x must be numbers of shape \(n, features\), got float64 of"),
        ({"x": X.astype(str), "y": CODES}, "x must be numbers of shape"),
        ({"x": X, "y": CODES[1:]}, r"y must have a row for each of the 90 rows .*shape \(89,\)"),
        ({"x": X, "y": np.array([None] * 90)}, "data.npz is not an NPZ file of numbers"),
        ({"x": X, "y": np.arange(90)}, "90 different integers in 90 rows may be classes or values"),
        ({"x": X, "y": X.astype(complex)[:, 0]}, "y must be integers or strings"),
    ],
)
def test_arrays_that_can_not_be_used(arrays, message, here):
    np.savez("data.npz", **arrays)
    with pytest.raises(DataError, match=message):
        load("data.npz")


@pytest.mark.parametrize("name", ["x.npy", "d.npz", "t.csv"])
def test_rubbish_is_one_line(name, here, capsys):
    (here / name).write_bytes(b"PK\x03\x04" + bytes(50))
    (here / "y.npy").write_bytes(b"")
    given = "x.npy,y.npy" if name == "x.npy" else name
    assert name in failed(capsys, "train", given)


def test_a_task_overrides_what_arrays_look_like(here):
    np.savez("data.npz", x=X, y=CODES)
    assert load("data.npz", task="regression").y.dtype == np.float64
    np.savez("data.npz", x=X, y=CODES * 1.0)
    assert load("data.npz").y.dtype == np.float64
    np.testing.assert_array_equal(load("data.npz", task="classification").y, CODES, strict=True)
    with pytest.raises(ArgumentError, match="unknown task 'regresion'; did you mean 'regression'"):
        load("data.npz", task="regresion")


def pictures(folder, mode="L", count=8):
    """Write images of 3 × 2: bright ones and dark ones; return them."""
    image = pytest.importorskip("PIL.Image")
    rng = np.random.RandomState(1)
    arrays = []
    for kind, low in (("bright", 150), ("dark", 0)):
        (folder / kind).mkdir(parents=True)
        for i in range(count):
            shape = (2, 3) if mode == "L" else (2, 3, 3)
            arrays.append(rng.randint(low, low + 100, shape).astype(np.uint8))
            image.fromarray(arrays[-1]).save(folder / kind / f"{i}.PNG")
    (folder / "dark" / "notes.txt").write_text("no image")
    return np.stack(arrays).reshape(2 * count, -1)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_folders_of_images(mode, here):
    expected = pictures(here / "images", mode)
    data = load("images")
    np.testing.assert_array_equal(data.x, expected, strict=True)
    assert data.y.tolist() == ["bright"] * 8 + ["dark"] * 8
    assert data.where(9).endswith("1.PNG")


def test_images_from_training_to_predictions(here, capsys):
    pictures(here / "images")
    assert run("train", "images", "--validation", 0.25, "--hidden", "", "--batch-size", 4,
               "--save", "m", "--quiet") == 0  # fmt: skip
    assert run("predict", "m", "images", "--out", "p.csv") == 0
    rows = read(here / "p.csv")
    assert rows[0] == ["file", "prediction"]
    assert rows[1:] == [
        [f"images/{kind}/{i}.PNG", kind] for kind in ("bright", "dark") for i in range(8)
    ]
    assert run("predict", "m", "images/dark") == 0
    assert capsys.readouterr().out.splitlines()[1] == "images/dark/0.PNG,dark"


def test_images_that_can_not_be_used(here):
    image = pytest.importorskip("PIL.Image")
    pictures(here / "images")
    odd = here / "images" / "dark" / "8.png"
    for make, message in (
        (lambda: image.new("L", (4, 4)).save(odd), "8.png must be 3 × 2 grey as .*, got 4 × 4 gr"),
        (lambda: image.new("RGB", (3, 2)).save(odd), "8.png must be 3 × 2 grey .*got 3 × 2 colour"),
        (lambda: image.new("I;16", (3, 2)).save(odd), "8.png must have 8 bits a channel"),
        (lambda: odd.write_bytes((odd.parent / "0.PNG").read_bytes()[:50]), "can't read .*8.png"),
        (lambda: odd.write_bytes(b"GIF89a"), "can't read .*8.png"),
    ):
        make()
        with pytest.raises(DataError, match=message):
            load("images")


def test_images_without_pillow(here, monkeypatch):
    pictures(here / "images")
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(DataError, match=r"needs Pillow: pip install 'xpnn\[images\]'"):
        load("images")


def test_folders_that_hold_nothing(here):
    (here / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty holds neither x\.npy"):
        load("empty")
    (here / "jungle" / "cats" / "tabby").mkdir(parents=True)
    (here / "jungle" / "train-images").mkdir()
    (here / "jungle" / "train-images.txt").touch()
    with pytest.raises(DataError, match=r"jungle holds neither x\.npy .* of PNG images$"):
        load("jungle")
    (here / "jungle" / "cats" / "tabby" / "1.png").touch()
    with pytest.raises(DataError, match=r"jungle holds neither .*; give jungle/cats, which does$"):
        load("jungle")
    (here / "labels").mkdir()
    (here / "labels" / "t10k-labels-idx1-ubyte").touch()
    with pytest.raises(DataError, match=r"^no train-images-idx3-ubyte .* in labels$"):
        load("labels")
    with pytest.raises(DataError, match="no file or folder nowhere"):
        load("nowhere")
    np.save("x.npy", X)
    with pytest.raises(DataError, match=r"x\.npy has no targets; give two files"):
        load("x.npy")


@pytest.mark.parametrize("given", [None, 3, b"m", ["m"]])
def test_what_is_no_path_is_named(given):
    for read in (xpnn.load, load, load_training, xpnn.datasets.read_idx_folder):
        with pytest.raises(ArgumentError, match=re.escape(f"must be a path, got {given!r}")):
            read(given)
    if given is not None:
        with pytest.raises(ArgumentError, match="resume must be a path, got"):
            xpnn.fit(network(), (X, CODES), resume=given)


# validation


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1])
def test_a_split_is_stratified(fraction, seed):
    y = np.repeat(["a", "b", "c", "d"], [50, 33, 6, 1])
    data = Dataset(np.arange(90.0)[:, None], y)
    train, validation = split(data, fraction, seed=seed)
    rows = np.concatenate([train.x, validation.x])[:, 0]
    assert sorted(rows) == list(range(90))
    assert len(validation.x) == round(fraction * 90)
    for label, size in zip("abcd", (50, 33, 6, 1), strict=True):
        taken = int((validation.y == label).sum())
        assert abs(taken - fraction * size) <= 1
        assert taken < size
    for part in (train, validation):
        assert (np.diff(part.x[:, 0]) > 0).all()
        np.testing.assert_array_equal(y[part.x[:, 0].astype(int)], part.y)


def test_the_largest_remainder_gets_the_row():
    # a quarter of 10, 11 and 12 is 2.5, 2.75 and 3; of 33, 8.25
    y = np.repeat([0, 1, 2], [10, 11, 12])
    _, validation = split(Dataset(np.arange(33.0)[:, None], y), 0.25)
    assert np.bincount(validation.y).tolist() == [2, 3, 3]


def test_a_split_depends_on_the_seed_alone_and_is_that_of_ever():
    data = Dataset(np.arange(20.0)[:, None], np.arange(20) % 2)
    chosen = split(data, 0.3, seed=10)[1].x[:, 0].astype(int)
    np.testing.assert_array_equal(split(data, 0.3, seed=10)[1].x[:, 0], chosen)
    assert not np.array_equal(split(data, 0.3, seed=11)[1].x[:, 0], chosen)
    # NumPy promises that RandomState never changes
    assert chosen.tolist() == SPLIT


SPLIT = [3, 6, 8, 11, 13, 14]


def test_a_split_leaves_the_runs_own_stream_alone(here):
    """The initial weights are those of a run without one."""
    table(here / "t.csv")
    for validation in ([], ["--validation", 0.2]):
        assert run("train", "t.csv", "--epochs", 0, *validation, "--normalize", "none", "--save",
                   f"m{len(validation)}", "--quiet") == 0  # fmt: skip
    assert xpnn.load("m0").sha256() == xpnn.load("m2").sha256()


@pytest.mark.parametrize(
    ("fraction", "rows", "message"),
    [
        (0.0, 90, "validation must be a fraction > 0 and < 1, got 0.0"),
        (1.5, 90, "validation must be a fraction > 0 and < 1, got 1.5"),
        (float("nan"), 90, "validation must be a fraction"),
        (0.1, 3, "validation must leave a row or more on either side, got 0.1 of 3 rows"),
    ],
)
def test_splits_that_can_not_be_made(fraction, rows, message):
    with pytest.raises(ArgumentError, match=message):
        split(Dataset(X[:rows], VALUES[:rows]), fraction)


def test_validation_from_another_file(here):
    table(here / "t.csv", rows=slice(0, 60))
    # other columns, in another order
    rows = [[*x[::-1], "?", t] for x, t in zip(X[60:], NAMES[60:], strict=True)]
    write(here / "v.csv", rows, ["d", "c", "b", "a", "notes", "kind"], ";")
    _, test = load_training("t.csv", "v.csv")
    np.testing.assert_array_equal(test.x, X[60:])
    np.testing.assert_array_equal(test.y, NAMES[60:])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b,c,d,kind\n1,2,3,4,setosa\n1,2,3,4,rose\n",
         "v.csv, line 3, column 'kind': 'rose' is not one of the classes of the training data "
         "('setosa', 'virginica', 'véronique, wild')"),
        ("a,b,c,kind\n1,2,3,setosa\n", "v.csv has no column 'd', which is one of the features"),
        ("a,b,c,d\n1,2,3,4\n", "unknown target of v.csv 'kind' (allowed: a, b, c, d)"),
        ("a,b,c,d,kind\n1,2,x,4,setosa\n", "v.csv, line 2, column 'c': 'x' is not a number"),
    ],
)  # fmt: skip
def test_validation_that_can_not_be_used(content, message, here, capsys):
    table(here / "t.csv")
    (here / "v.csv").write_text(content)
    assert failed(capsys, "train", "t.csv", "--validation", "v.csv") == message


def test_one_class_only(here, capsys):
    table(here / "t.csv", np.array(["x"] * 90))
    line = failed(capsys, "train", "t.csv")
    assert line == "t.csv, column 'kind' must hold two classes or more, got 'x' alone"


# weights

COUNTS = RNG.randint(0, 5, 90) / 2
# in the middle: neither the first column nor the last
PLACES = {"header": ("people", "kind"), "numbers": ("3", "6")}


def weighted(path, header=True, counts=COUNTS):
    rows = [[*x[:2], n, *x[2:], t] for x, n, t in zip(X, counts, NAMES, strict=True)]
    return write(path, rows, ["a", "b", "people", "c", "d", "kind"] if header else None)


@pytest.mark.parametrize("data", ["header", "numbers", "npz"])
def test_weights_of_the_rows(data, here):
    if data == "npz":
        np.savez("t.npz", x=X, y=NAMES, people=COUNTS[:, None])
        source, name = "t.npz", "people"
    else:
        source, name = str(weighted(here / "t.csv", data == "header")), PLACES[data][0]
    found = load(source, weights=name)
    np.testing.assert_array_equal(found.x, X)
    np.testing.assert_array_equal(found.weights, COUNTS, strict=True)
    assert load(source).weights is None
    assert load(source).x.shape[1] == (4 if data == "npz" else 5)
    train, test = load_training(source, 0.25, seed=3, weights=name)
    rows = [X.tolist().index(row) for row in train.x.tolist()]
    np.testing.assert_array_equal(train.weights, COUNTS[rows])

    options = ["--epochs", 3, "--batch-size", 10, "--hidden", 5, "--normalize", "none", "--seed", 3]
    assert run("train", source, *options, "--weights", name, "--validation", 0.25, "--log", "l",
               "--save", "m", "--quiet") == 0  # fmt: skip
    model = network()
    history = xpnn.fit(model, (train.x, train.y), validation=(test.x, test.y), epochs=3,
                       batch_size=10, seed=3, sample_weight=COUNTS[rows])  # fmt: skip
    assert xpnn.load("m").sha256() == model.sha256()
    assert [row[1:5] for row in read(here / "l")[1:]] == [
        [repr(figure) for figure in row[1:5]] for row in history
    ]
    # all the rows count alike, where the column isn't a feature
    assert run("evaluate", "m", source) == 0
    assert run("predict", "m", source, "--out", "p.csv") == 0
    assert xpnn.load("m").inputs == 4


def test_validation_from_a_file_needs_no_weights(here):
    weighted(here / "t.csv")
    table(here / "v.csv")
    train, test = load_training("t.csv", "v.csv", weights="people")
    np.testing.assert_array_equal(train.weights, COUNTS)
    assert test.weights is None


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("-1", "a weight must be >= 0, got '-1'"),
        ("nan", "a missing value ('nan')"),
        ("", "a missing value"),
        ("inf", "'inf' is not finite in float64"),
        ("many", "'many' is not a number"),
        ("0,5", "'0,5' is not a number (a decimal point is wanted)"),
    ],
)
def test_weights_of_a_table_that_can_not_be_used(cell, message, here, capsys):
    weighted(here / "t.csv", counts=[*COUNTS[:40], cell, *COUNTS[41:]])
    line = failed(capsys, "train", "t.csv", "--weights", "people", "--validation", 0.25)
    assert line == f"t.csv, line 42, column 'people': {message}"


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (np.where(np.arange(90) == 40, np.nan, COUNTS),
         "d.npz, people, row 40: a weight must be finite and >= 0, got nan"),
        (-COUNTS, "a weight must be finite and >= 0, got -"),
        (COUNTS[1:], "d.npz: people must be 90 numbers of shape (90,), got float64 of shape (89,)"),
        (COUNTS.astype(str), "d.npz: people must be 90 numbers of shape (90,), got <U"),
        (None, "d.npz must hold arrays x, y and people, got x, y"),
        (0 * COUNTS, "weights of the training samples must have a sum that isn't zero"),
    ],
)  # fmt: skip
def test_weights_of_arrays_that_can_not_be_used(counts, message, here, capsys):
    np.savez("d.npz", x=X, y=CODES, **({} if counts is None else {"people": counts}))
    assert message in failed(capsys, "train", "d.npz", "--weights", "people")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["t.csv", "--weights", "peple"], "unknown weights of t.csv 'peple'; did you mean "),
        (
            ["t.csv", "--weights", "kind"],
            "target and weights must be different columns, got 'kind'",
        ),
        (["t.csv", "--weights", "people", "--ignore", "people"], "weights 'people' must not be ig"),
        (["d.npz", "--weights", "x"], "weights must be another array than x and y, got 'x'"),
        (
            ["data", "--weights", "w"],
            "weights must be a column of a CSV file or an array of an NPZ",
        ),
        (["x.npy,y.npy", "--weights", "w"], "weights must be a column of a CSV file or an array"),
    ],
)
def test_weights_that_are_not_there(argv, message, here, capsys):
    weighted(here / "t.csv")
    np.savez("d.npz", x=X, y=CODES)
    np.save("x.npy", X)
    np.save("y.npy", CODES)
    write_folder(here / "data")
    assert message in failed(capsys, "train", *argv)


def test_the_pages_weights(here):
    rows = [[*x, n, t] for x, n, t in zip(X, COUNTS, NAMES, strict=True)]
    write(here / "survey.csv", rows, [*COLUMNS, "people", "answer"])
    (command,), (code,) = blocks("sh weights"), blocks("python weights")
    assert run(*command.replace("\\\n", "").split()[1:]) == 0
    exec(compile(code, "docs/guide/data.md", "exec"), space := {})
    assert space["model"].sha256() == xpnn.load("survey.safetensors").sha256()


# labels


def network(outputs=3):
    return xpnn.Sequential(xpnn.Dense(5), xpnn.Activation("relu"), xpnn.Dense(outputs))


OPTIONS = {"epochs": 15, "batch_size": 10, "seed": 2, "optimizer": xpnn.SGD(0.05)}


@pytest.mark.parametrize("library", BACKENDS)
def test_strings_are_labels(library, dtype):
    place = open_backend(library, dtype)
    model, plain = network(), network()
    xpnn.fit(model, (X, NAMES), backend=place, validation=(X, list(NAMES)), **OPTIONS)
    labels, codes = np.unique(NAMES, return_inverse=True)
    xpnn.fit(plain, (X, codes), backend=place, **OPTIONS)
    assert model.sha256() == plain.sha256()
    np.testing.assert_array_equal(model.task.labels, labels)
    expected = labels[xpnn.predict(plain, X)]
    np.testing.assert_array_equal(xpnn.predict(model, X), expected, strict=True)
    with place.scope():
        own = place.asarray(X)
    np.testing.assert_array_equal(xpnn.predict(model, own), expected, strict=True)
    assert xpnn.evaluate(model, (X, NAMES.astype(object))) == xpnn.evaluate(plain, (X, codes))


@pytest.mark.parametrize("library", BACKENDS)
def test_integers_are_labels_when_they_are_said_to_be(library):
    place = open_backend(library)
    labels = np.array([5, -2, 7])
    model = network()
    xpnn.fit(model, (X, labels[CODES]), labels=labels, backend=place, **OPTIONS)
    plain = network()
    xpnn.fit(plain, (X, CODES), backend=place, **OPTIONS)
    assert model.sha256() == plain.sha256()
    expected = labels[xpnn.predict(plain, X)]
    np.testing.assert_array_equal(xpnn.predict(model, X), expected, strict=True)
    with place.scope():
        own = place.asarray(X)
        found = xpnn.predict(model, own)
    assert place.owns(found)
    np.testing.assert_array_equal(to_numpy(found), expected, strict=True)
    with pytest.raises(DataError, match=r"train\.y must hold labels from 0 to 2"):
        xpnn.fit(network(), (X, labels[CODES]))


def test_a_trained_model_knows_its_labels():
    model = network()
    xpnn.fit(model, (X, NAMES), **OPTIONS)
    # a part with two of the classes
    some = CODES < 2
    xpnn.fit(model, (X[some], NAMES[some]), **OPTIONS)
    assert len(model.task.labels) == 3


def test_two_labels_and_one_output():
    model = network(1)
    y = np.where(CODES == 0, "no", "yes")
    xpnn.fit(model, (X, y), loss=xpnn.BinaryCrossEntropy(), **OPTIONS)
    assert set(xpnn.predict(model, X)) == {"no", "yes"}


@pytest.mark.parametrize(
    ("y", "options", "kind", "message"),
    [
        (NAMES, {"outputs": 4}, ArgumentError, "an output for each of the 3 classes, got 4 out"),
        (NAMES, {"outputs": 1, "loss": xpnn.MeanSquaredError()}, ArgumentError,
         "loss must be one for classes where there are labels, got MeanSquaredError"),
        (np.array(["a"] * 90), {}, DataError, "train.y must hold two classes or more, got 'a'"),
        (NAMES, {"labels": ["setosa", "virginica", "other"]}, DataError,
         "train.y, row 1: 'véronique, wild' is not one of the classes"),
        (CODES, {"labels": [0, 0, 1]}, ArgumentError, "labels must be two or more different"),
        (CODES, {"labels": [0.5, 1.5, 2.5]}, ArgumentError, "labels must be two or more diff"),
        (VALUES, {"labels": [0, 1, 2]}, DataError, "train.y must hold integers or strings"),
        (NAMES, {"validation": (X[:1], ["rose"])}, DataError, "validation.y, row 0: 'rose' is"),
    ],
)  # fmt: skip
def test_labels_that_can_not_be_used(y, options, kind, message):
    options = {"outputs": 3, **OPTIONS, **options}
    model = network(options.pop("outputs"))
    with pytest.raises(kind, match=message):
        xpnn.fit(model, (X, y), **options)
    assert model.parameters is None


def test_integers_may_be_looked_up_as_strings():
    found = encode("y", [1, 2, 1], np.array(["2", "1"]))
    assert found.tolist() == [1, 0, 1]
    with pytest.raises(DataError, match="y, row 0: 'a' is not one of the classes"):
        encode("y", ["a"], np.array([1, 2]))


def test_integers_that_int64_can_not_hold_are_no_labels(here):
    np.savez("data.npz", x=X[:2], y=np.array([1, 2**63], np.uint64))
    with pytest.raises(DataError, match="y must be integers or strings"):
        load("data.npz")


# the command

SMALL = ["--hidden", "5", "--batch-size", "10", "--epochs", "20", "--quiet"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_from_training_to_predictions(backend, here, capsys):
    open_backend(backend)
    table(here / "t.csv")
    assert run("train", "t.csv", *SMALL, "--validation", 0.2, "--save", "m") == 0
    assert run("evaluate", "m", "t.csv", "--backend", backend) == 0
    lines = capsys.readouterr().out.split()
    assert lines[::2] == ["accuracy", "loss"]

    write(here / "new.csv", X[:, ::-1], COLUMNS[::-1])
    assert run("predict", "m", "new.csv", "--proba", "--backend", backend, "--out", "p.csv") == 0
    header, *rows = read(here / "p.csv")
    model = xpnn.load("m")
    assert header == ["prediction", *(f"proba_{label}" for label in model.task.labels)]
    assert [row[0] for row in rows] == xpnn.predict(model, X).tolist()
    assert float(lines[1]) == np.mean([row[0] for row in rows] == NAMES) > 0.9
    proba = np.array([row[1:] for row in rows], np.float32)
    np.testing.assert_allclose(proba, xpnn.predict_proba(model, X), rtol=1e-4, atol=1e-7)
    # the same from the file with the target, on standard output
    assert run("predict", "m", "t.csv") == 0
    assert list(csv.reader(capsys.readouterr().out.splitlines())) == [
        ["prediction"], *([row[0]] for row in rows)
    ]  # fmt: skip


def test_a_regression(here, capsys):
    table(here / "t.csv", VALUES, header=(*COLUMNS, "price"))
    assert run("train", "t.csv", *SMALL[:-1], "--validation", 0.2, "--save", "m") == 0
    out = capsys.readouterr().out
    assert "accuracy" not in out
    assert re.search(r"^best test loss \S+ at epoch \d+$", out, re.MULTILINE)
    assert re.search(r"^20 nan \S+ nan \S+$", out, re.MULTILINE)
    assert run("evaluate", "m", "t.csv") == 0
    found = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert list(found) == ["loss", "r2_score", "root_mean_squared_error"]
    assert float(found["r2_score"]) > 0.95
    assert run("predict", "m", "t.csv", "--out", "p.csv") == 0
    values = np.array([float(row[0]) for row in read(here / "p.csv")[1:]])
    rmse = np.sqrt(np.mean((values - VALUES) ** 2))
    np.testing.assert_allclose(float(found["root_mean_squared_error"]), rmse, rtol=1e-12)
    assert failed(capsys, "predict", "m", "t.csv", "--proba").startswith("proba is for models of")


def test_the_command_and_the_library_do_the_same(here):
    table(here / "t.csv")
    assert run("train", "t.csv", *SMALL, "--validation", 0.2, "--seed", 4, "--save", "m") == 0
    train, test = load_training("t.csv", 0.2, seed=4)
    model = network()
    xpnn.fit(model, train, validation=test, normalizer="standard", epochs=20, batch_size=10, seed=4)
    loaded = xpnn.load("m")
    assert loaded.sha256() == model.sha256()
    assert (loaded.task.feature_names, loaded.task.target_name) == (
        model.task.feature_names,
        "kind",
    )
    assert [row[:5] for row in loaded.history] == [row[:5] for row in model.history]


@pytest.mark.parametrize("normalize", ["minmax", "none"])
def test_normalizers_are_options(normalize, here):
    table(here / "t.csv", VALUES)
    assert run("train", "t.csv", *SMALL, "--epochs", 1, "--optimizer", "sgd:lr=1e-6", "--save", "m",
               "--normalize", normalize, "--normalize-target", normalize) == 0  # fmt: skip
    model = xpnn.load("m")
    kind = {"minmax": xpnn.MinMaxScaler, "none": type(None)}[normalize]
    assert {type(model.task.normalizer), type(model.task.target_normalizer)} == {kind}


def test_tables_without_a_header(here, capsys):
    table(here / "t.csv", header=None)
    assert run("train", "t.csv", *SMALL, "--save", "m") == 0
    write(here / "new.csv", X)
    capsys.readouterr()
    outputs = []
    for name in ("t.csv", "new.csv"):
        assert run("predict", "m", name) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1]
    assert run("evaluate", "m", "t.csv") == 0


def test_a_model_of_arrays_reads_tables(here, capsys):
    model = network()
    xpnn.fit(model, (X, CODES), **OPTIONS)
    xpnn.save(model, "m")
    outputs = []
    table(here / "t.csv", CODES)
    write(here / "new.csv", X)
    table(here / "text.csv")
    np.save("x.npy", X)
    for name in ("t.csv", "new.csv", "text.csv", "x.npy"):
        assert run("predict", "m", name) == 0
        outputs.append(capsys.readouterr().out)
    write(here / "first.csv", [["?", *x] for x in X])
    assert run("predict", "m", "first.csv", "--target", 1) == 0
    outputs.append(capsys.readouterr().out)
    assert set(outputs) == {outputs[0]}
    assert run("evaluate", "m", "t.csv") == 0


def test_one_output_gives_two_probabilities(here, capsys):
    model = network(1)
    y = np.where(CODES == 0, "no", "yes")
    xpnn.fit(model, (X, y), loss=xpnn.BinaryCrossEntropy(), **OPTIONS)
    xpnn.save(model, "m")
    np.save("x.npy", X)
    assert run("predict", "m", "x.npy", "--proba") == 0
    header, *rows = csv.reader(capsys.readouterr().out.splitlines())
    assert header == ["prediction", "proba_no", "proba_yes"]
    for label, no, yes in rows:
        assert float(no) + float(yes) == pytest.approx(1, abs=2**-23)
        assert label == ("yes" if float(yes) > float(no) else "no")


@pytest.mark.parametrize("y", [NAMES, VALUES])
def test_a_reproducible_use_gives_the_same_on_every_backend(y, here, capsys):
    table(here / "t.csv", y)
    assert run("train", "t.csv", *SMALL, "--hidden", "9,9", "--activation", "tanh", "--save", "m",
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
            said[library] += repr(np.asarray(xpnn.predict_proba(model, X)).tolist())
    assert len(set(said.values())) == 1, said
    if y is NAMES:
        # not the host's own exp, which differs between processors
        outputs, place = outputs_of(model, X), model.backend
        with place.scope():
            expected = to_numpy(softmax(place.asarray(outputs), place.xp))
        np.testing.assert_array_equal(xpnn.predict_proba(model, X), expected, strict=True)


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
    table(here / "t.csv", np.array(labels)[CODES])
    assert run("train", "t.csv", *SMALL, "--epochs", 2, "--class-weight", given, "--save", "m",
               "--quiet") == 0  # fmt: skip
    weights = dict(zip(labels, [0.0, 3.0, 0.5], strict=True))
    assert xpnn.load("m").history.settings["class_weight"] == weights
    assert xpnn.load("m").history[1].train_loss > 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("a, b=1", "class_weight must be such as 0=1,1=2.5, got 'a'; a label with a comma wants"),
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
    table(here / "t.csv")
    assert message in failed(capsys, "train", "t.csv", "--class-weight", given)


def test_show(here, capsys):
    table(here / "t.csv")
    assert run("train", "t.csv", *SMALL, "--save", "m") == 0
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
    table(here / "t.csv")
    assert run("train", "t.csv", *SMALL, "--save", "m") == 0
    (here / "p.csv").write_text("of before")
    calls = []

    def failing(model, rows, where):
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
    table(here / "t.csv")
    table(here / "v.csv")
    write(here / "new.csv", X, COLUMNS)
    assert run("train", "t.csv", *SMALL, "--epochs", 0, "--save", "m") == 0
    before = {path: path.read_bytes() for path in here.iterdir()}
    assert message in failed(capsys, *argv)
    assert {path: path.read_bytes() for path in here.iterdir()} == before


def test_constant_columns_and_single_rows_work(here):
    write(here / "t.csv", [[1, 2, "u"], [1, 4, "v"]], ["a", "b", "y"])
    assert run("train", "t.csv", *SMALL) == 0
    write(here / "t.csv", [[1, 2, 2.5]], ["a", "b", "y"])
    assert run("train", "t.csv", *SMALL) == 0


# the page


def blocks(language):
    text = (ROOT / "docs" / "guide" / "data.md").read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


@pytest.fixture
def iris(here):
    """Files as the page has them; the three classes are as far apart as Iris's."""
    table(here / "iris.csv", np.array(["setosa", "versicolor", "virginica"])[CODES])
    write(here / "new.csv", X[:5], COLUMNS)


def test_the_pages_commands(iris, here, capsys):
    (block,) = blocks("sh")
    lines = [line.split() for line in block.splitlines()]
    assert [line[:2] for line in lines] == [
        ["xpnn", name] for name in ("train", "show", "evaluate", "predict")
    ]
    for line in lines:
        assert run(*line[1:]) == 0
    assert len(read(here / "predictions.csv")) == 6


def test_the_pages_python(iris, capsys, monkeypatch):
    monkeypatch.setattr(
        "xpnn.normalizers.NORMALIZERS._parts", dict(xpnn.normalizers.NORMALIZERS._parts)
    )
    first, second = blocks("python")
    for block in (first, second):
        exec(compile(block, "docs/guide/data.md", "exec"), {})
    out = capsys.readouterr().out
    assert out.startswith("['setosa' 'versicolor' 'virginica']")
    assert out.endswith("['low' 'low' 'high' 'high']\n")


def test_a_png_of_a_bomb_is_one_line(here):
    pytest.importorskip("PIL")
    pictures(here / "images", count=1)
    # a header that promises 2**31 - 1 pixels a side, and nothing else
    chunk = b"IHDR" + struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 0, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk
    png += struct.pack(">I", zlib.crc32(chunk))
    (here / "images" / "dark" / "1.png").write_bytes(png)
    with pytest.raises(DataError, match=r"can't read .*1\.png"):
        load("images")


# what a reader of messages is owed: the file, the row, the column


def arrays_of(kind, x, y, here):
    """Write x and y; return DATA."""
    if kind == "npz":
        np.savez("d.npz", x=x, y=y)
        return "d.npz"
    np.save("x.npy", x)
    np.save("y.npy", y)
    return "x.npy,y.npy"


@pytest.mark.parametrize("kind", ["npz", "npy"])
@pytest.mark.parametrize(
    ("spoil", "place"),
    [
        (lambda x, y: (np.where(np.arange(360).reshape(90, 4) == 161, np.nan, x), y),
         ", x, row 40, column 1: "),
        (lambda x, y: (x, np.where(np.arange(90) == 40, np.nan, x[:, 0])), ", y, row 40: "),
        (lambda x, y: (np.full((90, 4), 2**53 + 1), y), ", x, row "),
        (lambda x, y: (np.full((90, 4), 2**63 + 1, np.uint64), y), ", x, row "),
    ],
)  # fmt: skip
def test_arrays_say_where_they_are_wrong(kind, spoil, place, here, capsys):
    data = arrays_of(kind, *spoil(X, CODES), here)
    for options in ([], ["--validation", 0.2]):
        message = failed(capsys, "train", data, "--epochs", 1, *options)
        assert message.startswith(f"{data}{place}")


def test_integers_that_float64_holds_are_taken():
    big = np.array([[2**53], [-(2**60)], [2**62 + 2**20]])
    np.testing.assert_array_equal(xpnn.datasets.as_inputs("x", big), big, strict=True)
    with pytest.raises(DataError, match=f"got {-(2**53) - 1} in row 1, column 0"):
        xpnn.datasets.as_inputs("x", np.array([[1], [-(2**53) - 1]]))


def test_a_column_that_can_not_be_normalized_is_named(here, capsys):
    table(here / "t.csv")
    text = (here / "t.csv").read_text().splitlines()
    (here / "t.csv").write_text("\n".join([text[0], *(f"{s}1e308,{t}" for s, t in [
        (sign, line.split(",", 1)[1]) for sign, line in zip("+-" * 45, text[1:], strict=True)
    ])]) + "\n")  # fmt: skip
    assert "t.csv: train.x can't be normalized in float64: column 'a' goes" in failed(
        capsys, "train", "t.csv", "--epochs", 1
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_values_too_large_for_the_dtype_are_named(backend, here, capsys):
    open_backend(backend, "float32")
    x = np.array(X)
    np.savez("t.npz", x=x, y=CODES)
    assert run("train", "t.npz", "--epochs", 1, "--save", "m", "--quiet", "--batch-size", 10) == 0
    x[70, 2] = 1e39
    np.savez("d.npz", x=x, y=CODES)
    spot = "d.npz, x, row 70, column 2: 1e+39 is too large for float32"
    for argv in (["train", "d.npz", "--epochs", 1], ["evaluate", "m", "d.npz"],
                 ["predict", "m", "d.npz"]):  # fmt: skip
        assert failed(capsys, *argv, "--backend", backend) == spot
    x[70, 2] = 3e38
    x[70, 0] = -3e38
    model = xpnn.Sequential(xpnn.Dense(3))
    xpnn.fit(model, (X, CODES), epochs=0, backend=backend)
    model.place([{"weight": np.ones((4, 3)) * 10 * np.eye(4)[:, [2]], "bias": np.zeros(3)}],
                inputs=4, backend=model.backend)  # fmt: skip
    with pytest.raises(DataError, match="x, row 70: an output of the model is inf"):
        xpnn.predict(model, x)


@pytest.mark.parametrize("options", [[], ["--validation", 0.2]])
def test_no_rows_are_one_line(options, here, capsys):
    data = arrays_of("npz", np.empty((0, 4)), np.empty(0, int), here)
    assert failed(capsys, "train", data, *options) == "d.npz: x has no rows"
    with pytest.raises(ArgumentError, match="one row or more"):
        split(Dataset(np.empty((0, 4)), np.empty(0, int)), 0.2)


def of_size(folder, width, height, mode="L"):
    image = pytest.importorskip("PIL.Image")
    rng = np.random.RandomState(2)
    for kind in ("a", "b"):
        (folder / kind).mkdir(parents=True)
        for i in range(4):
            shape = (height, width) if mode == "L" else (height, width, 3)
            pixels = rng.randint(0, 256, shape).astype(np.uint8)
            image.fromarray(pixels).save(folder / kind / f"{i}.png")
    return folder.name


def test_a_models_images_keep_their_shape(here, capsys):
    for name, width, height, mode in (
        ("tall", 4, 9, "L"), ("wide", 9, 4, "L"), ("square", 6, 6, "L"), ("rgb", 4, 3, "RGB"),
    ):  # fmt: skip
        of_size(here / name, width, height, mode)
    small = ["--epochs", 1, "--batch-size", 4, "--hidden", ""]
    assert run("train", "tall", *small, "--save", "m", "--checkpoint", "c", "--quiet",
               "--seed", 1) == 0  # fmt: skip
    assert xpnn.load("m").image_shape == (9, 4, 1)
    assert run("show", "m") == 0
    assert re.search(r"^images +4 × 9 grey$", capsys.readouterr().out, re.M)
    for other, size in (("wide", "9 × 4 grey"), ("square", "6 × 6 grey"), ("rgb", "4 × 3 colour")):
        wanted = f"{other} must hold images of 4 × 9 grey as the training data do, got {size}"
        for argv in (["predict", "m", other], ["evaluate", "m", other],
                     ["plot", "errors", "m", other, "--out", "e.png"],
                     ["plot", "confusion", "m", other, "--out", "e.png"],
                     ["train", "tall", *small, "--validation", other]):  # fmt: skip
            assert failed(capsys, *argv) == wanted
        with pytest.raises(DataError, match=wanted):
            xpnn.fit(xpnn.load("m"), load(other), epochs=1)
    # the same bytes in another shape
    data = load("tall")
    data.image_shape = (4, 9, 1)
    codes = data.y.tolist()
    with pytest.raises(ArgumentError, match=r"image_shape must be .* as in c"):
        xpnn.fit(xpnn.Sequential(xpnn.Dense(2)), data, labels=sorted(set(codes)), epochs=1,
                 loss=xpnn.CrossEntropy(), batch_size=4, resume="c")  # fmt: skip
    assert run("plot", "errors", "m", "tall", "--out", "e.png") == 0


def test_images_that_are_no_png_are_named(here):
    of_size(here / "images", 3, 2)
    jpeg = here / "images" / "a" / "x.JPG"
    jpeg.write_bytes(b"\xff\xd8")
    with pytest.raises(DataError, match=r"x\.JPG is no PNG image"):
        load("images")
    jpeg.unlink()
    (here / "images" / "c").mkdir()
    (here / "images" / ".hidden").mkdir()
    with pytest.raises(DataError, match=r"images/c must hold PNG images as .*images/a does"):
        load("images")
    (here / "jpegs" / "a").mkdir(parents=True)
    (here / "jpegs" / "a" / "1.jpeg").write_bytes(b"\xff\xd8")
    with pytest.raises(DataError, match=r"folders of PNG images; jpegs/a/1\.jpeg is no PNG image"):
        load("jpegs")


def test_a_full_disk_is_named(here, capsys):
    if not (here.parent / "/dev/full").exists():
        pytest.skip("no /dev/full")
    table(here / "t.csv")
    assert run("train", "t.csv", *SMALL, "--save", "m") == 0
    assert "'/dev/full'" in failed(capsys, "predict", "m", "t.csv", "--out", "/dev/full")
    assert "'/dev/full'" in failed(capsys, "train", "t.csv", *SMALL, "--save", "/dev/full")


def test_a_label_with_a_newline_is_one_line_of_a_table(here, capsys):
    table(here / "t.csv", np.array(["a\nb", "c"])[CODES % 2])
    assert run("train", "t.csv", *SMALL, "--save", "m") == 0
    capsys.readouterr()
    assert run("show", "m") == 0
    assert re.search(r"^classes +a\\nb, c$", capsys.readouterr().out, re.M)


def test_a_run_that_can_not_begin_prints_no_table(here, capsys):
    table(here / "t.csv")
    (here / "c").write_text("of before")
    capsys.readouterr()
    assert run("train", "t.csv", "--patience", 2, "--monitor", "test_loss") == 2
    assert run("train", "t.csv", "--checkpoint", "c") == 2
    assert capsys.readouterr().out == ""


def test_export_replaces_nothing_but_onnx(here, capsys):
    table(here / "t.csv")
    assert run("train", "t.csv", *SMALL, "--save", "m") == 0
    assert failed(capsys, "export", "m", "t.csv") == "FILE must end in .onnx, got 't.csv'"
