"""Weights of the samples, from a column of a table or an array."""

import numpy as np
import pytest

import xpnn
from tests.helpers import (
    CODES,
    COUNTS,
    FLOWERS,
    NAMES,
    failed,
    flower_network,
    read_rows,
    run,
    write_folder,
    write_rows,
    write_table,
)
from xpnn.datasets import load, load_training

# in the middle: neither the first column nor the last
PLACES = {"header": ("people", "kind"), "numbers": ("3", "6")}


def weighted(path, header=True, counts=COUNTS):
    rows = [[*x[:2], n, *x[2:], t] for x, n, t in zip(FLOWERS, counts, NAMES, strict=True)]
    return write_rows(path, rows, ["a", "b", "people", "c", "d", "kind"] if header else None)


@pytest.mark.parametrize("data", ["header", "numbers", "npz"])
def test_weights_of_the_rows(data, here):
    if data == "npz":
        np.savez("t.npz", x=FLOWERS, y=NAMES, people=COUNTS[:, None])
        source, name = "t.npz", "people"
    else:
        source, name = str(weighted(here / "t.csv", data == "header")), PLACES[data][0]
    found = load(source, weights=name)
    np.testing.assert_array_equal(found.x, FLOWERS)
    np.testing.assert_array_equal(found.weights, COUNTS, strict=True)
    assert load(source).weights is None
    assert load(source).x.shape[1] == (4 if data == "npz" else 5)
    train, test = load_training(source, 0.25, seed=3, weights=name)
    rows = [FLOWERS.tolist().index(row) for row in train.x.tolist()]
    np.testing.assert_array_equal(train.weights, COUNTS[rows])

    options = ["--epochs", 3, "--batch-size", 10, "--hidden", 5, "--normalize", "none", "--seed", 3]
    options += ["--optimizer", "sgd:lr=0.1"]
    assert run("train", source, *options, "--weights", name, "--validation", 0.25, "--log", "l",
               "--save", "m", "--quiet") == 0  # fmt: skip
    model = flower_network()
    history = xpnn.fit(model, (train.x, train.y), validation=(test.x, test.y), epochs=3,
                       batch_size=10, seed=3, sample_weight=COUNTS[rows])  # fmt: skip
    assert xpnn.load("m").sha256() == model.sha256()
    assert [row[1:5] for row in read_rows(here / "l")[1:]] == [
        [repr(figure) for figure in row[1:5]] for row in history
    ]
    # all the rows count alike, where the column isn't a feature
    assert run("evaluate", "m", source) == 0
    assert run("predict", "m", source, "--out", "p.csv") == 0
    assert xpnn.load("m").inputs == 4


def test_validation_from_a_file_needs_no_weights(here):
    weighted(here / "t.csv")
    write_table(here / "v.csv")
    train, test = load_training("t.csv", "v.csv", weights="people")
    np.testing.assert_array_equal(train.weights, COUNTS)
    assert test.weights is None


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("-1", "a weight must be finite and >= 0, got -1.0"),
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
    np.savez("d.npz", x=FLOWERS, y=CODES, **({} if counts is None else {"people": counts}))
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
    np.savez("d.npz", x=FLOWERS, y=CODES)
    np.save("x.npy", FLOWERS)
    np.save("y.npy", CODES)
    write_folder(here / "data")
    assert message in failed(capsys, "train", *argv)
