"""Data that are held out for validation: a part of the rows, or another file."""

import json
import re

import numpy as np
import pytest
from safetensors.numpy import load as from_bytes

import xpnn
from tests.helpers import (
    CODES,
    FLOWERS,
    NAMES,
    SETTINGS,
    VALUES,
    failed,
    flower_network,
    run,
    write_rows,
    write_table,
)
from xpnn._core.files import sealed, unsealed
from xpnn.datasets import (
    Dataset,
    NamedDataset,
    from_table,
    held_out,
    load,
    load_training,
    split,
    splitting,
)
from xpnn.datasets.dataset import Share, fingerprint
from xpnn.errors import ArgumentError, DataError


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
    write_table(here / "t.csv")
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
        split(Dataset(FLOWERS[:rows], VALUES[:rows]), fraction)


def test_validation_from_another_file(here):
    write_table(here / "t.csv", rows=slice(0, 60))
    # other columns, in another order
    rows = [[*x[::-1], "?", t] for x, t in zip(FLOWERS[60:], NAMES[60:], strict=True)]
    write_rows(here / "v.csv", rows, ["d", "c", "b", "a", "notes", "kind"], ";")
    _, test = load_training("t.csv", "v.csv")
    np.testing.assert_array_equal(test.x, FLOWERS[60:])
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
    write_table(here / "t.csv")
    (here / "v.csv").write_text(content)
    assert failed(capsys, "train", "t.csv", "--validation", "v.csv") == message


def test_one_class_only(here, capsys):
    write_table(here / "t.csv", np.array(["x"] * 90))
    line = failed(capsys, "train", "t.csv")
    assert line == "t.csv, column 'kind' must hold two classes or more, got only 'x'"


# the rows that were held out, found again


@pytest.mark.parametrize("y", [NAMES, CODES, VALUES])
def test_the_held_out_rows_are_those_that_were_split_off(y, here, capsys):
    path = write_table(here / "t.csv", y)
    train, validation = load_training(path, 0.2, seed=7)
    model = flower_network(3 if y is not VALUES else 1)
    loss = xpnn.MeanSquaredError() if y is VALUES else xpnn.CrossEntropy()
    history = xpnn.fit(
        model, train, validation=validation, loss=loss, normalizer="standard",
        target_normalizer="standard" if y is VALUES else None, **SETTINGS,
    )  # fmt: skip
    xpnn.save(model, "m")
    share = xpnn.load("m").task.share
    assert share == train.share == Share(0.2, 7, share.sha256)
    rows = held_out(load(path), share)
    for part in ("x", "y", "rows"):
        np.testing.assert_array_equal(getattr(rows, part), getattr(validation, part), strict=True)
    assert rows.share is validation.share is None
    assert run("show", "m") == 0
    assert re.search(r"^held out +0\.2 of the rows, seed 7$", capsys.readouterr().out, re.M)
    assert xpnn.evaluate(xpnn.load("m", backend="numpy"), rows).loss == history[-1].test_loss


@pytest.mark.parametrize(
    "other",
    [
        Dataset(FLOWERS + 1e-15, NAMES),
        Dataset(FLOWERS, NAMES[::-1]),
        Dataset(FLOWERS[1:], NAMES[1:]),
        Dataset(FLOWERS[::-1], NAMES[::-1]),
        Dataset(FLOWERS[:, ::-1], NAMES),
        Dataset(np.where(FLOWERS[5, 2] == FLOWERS, None, FLOWERS), NAMES),
        Dataset(np.where(np.arange(360).reshape(FLOWERS.shape) == 9, "?", FLOWERS), NAMES),
    ],
)
def test_other_data_hold_no_held_out_rows(other):
    data = NamedDataset(FLOWERS, NAMES, path="t.csv")
    share = split(data, 0.2)[0].share
    assert len(held_out(data, share).x) == 18
    with pytest.raises(DataError, match=r"^t\.csv must hold the data that the model was trained"):
        held_out(NamedDataset(*other, path="t.csv"), share)
    with pytest.raises(ArgumentError, match=r"^held_out needs a model that was trained on a part"):
        held_out(data, None)


FRAME = {
    "whole": CODES * 3,
    "fraction": FLOWERS[:, 0] / 3,
    "single": (FLOWERS[:, 1] / 7).astype(np.float32),
    "truth": CODES > 1,
    "text": NAMES,
    "digits": [("01", "2", "a")[code] for code in CODES],
}
GAPS = {
    "whole": [None if i % 7 == 0 else i for i in range(90)],
    "truth": [None if i % 5 == 0 else i % 2 == 0 for i in range(90)],
    "text": [None if i % 4 == 0 else f' a{i % 3}, "b"' for i in range(90)],
    "single": [None if i % 3 == 0 else i / 10 for i in range(90)],
}
TARGETS = {
    "integers": CODES,
    "texts": NAMES,
    "truth values": CODES > 0,
    "numbers as text": [("1", "2", "10")[code] for code in CODES],
    "values": VALUES,
    "single values": VALUES.astype(np.float32),
}


@pytest.mark.parametrize("library", ["pandas", "polars"])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    "columns", [FRAME, GAPS, *({name: FRAME[name]} for name in FRAME), {**FRAME, "truth": CODES}]
)
def test_a_data_frame_and_its_file_hold_the_same_rows(columns, target, library, here):
    """The share of one is found in the other, whichever was split."""
    module = pytest.importorskip(library)
    pytest.importorskip("narwhals")
    y = TARGETS[target]
    series = {
        name: module.Series(cells, dtype="float32" if library == "pandas" else module.Float32)
        if name == "single"
        else cells
        for name, cells in columns.items()
    }
    frame = module.DataFrame({**series, "y": y})
    if library == "pandas":
        frame.to_csv("t.csv", index=False)
    else:
        frame.write_csv("t.csv")
    given = from_table(frame, target="y")
    read = load("t.csv", target="y", header=True)
    for split_off, other in ((given, read), (read, given)):
        train, validation = split(split_off, 0.2, seed=3)
        rest = held_out(other, train.share)
        first = 0 if split_off is given else 2
        drawn = validation.rows - first
        np.testing.assert_array_equal(rest.rows - (2 - first), drawn)
        changed = other._replace(x=other.x.astype(object))
        changed.x[drawn[0], 0] = 77
        with pytest.raises(DataError, match="must hold the data that the model was trained on"):
            held_out(changed, train.share)


def test_rows_that_would_be_drawn_in_another_way_are_not_taken():
    """Shares of whole numbers as labels and as values differ in their rows."""
    data = NamedDataset(FLOWERS, CODES, path="t.csv")
    values = data._replace(y=CODES.astype(float))
    for split_off, other in ((data, values), (values, data)):
        train, validation = split(split_off, 0.15, seed=1)
        np.testing.assert_array_equal(held_out(other, train.share).rows, validation.rows)
    assert not np.array_equal(split(data, 0.15, seed=1)[1].rows, validation.rows)


def test_a_share_of_an_earlier_version_is_found():
    data = NamedDataset(FLOWERS, CODES, path="t.csv")
    rest = held_out(data, Share(0.2, 4, fingerprint(data)))
    np.testing.assert_array_equal(rest.rows, split(data, 0.2, seed=4)[1].rows)


def test_data_are_hashed_only_for_a_model_that_is_saved(here, monkeypatch, capsys):
    write_table(here / "t.csv")
    hashed = []
    monkeypatch.setattr(splitting, "_content", lambda data: hashed.append(data) or b"")
    options = ("train", "t.csv", "--validation", "0.2", "--epochs", "1", "--quiet")
    assert run(*options) == 0
    assert not hashed
    assert run(*options, "--save", "m") == 0
    assert len(hashed) == 1


def test_cells_of_any_kind_have_a_fingerprint():
    """Object arrays hold pointers, which differ from one array to the next."""
    cells = [["a", 1.5, None], ["b", float("nan"), "1.5"]]
    first, second = (Dataset(np.array(cells, object), CODES[:2]) for _ in range(2))
    assert fingerprint(first) == fingerprint(second)
    cells[1][2] = 1.5
    assert fingerprint(Dataset(np.array(cells, object), CODES[:2])) != fingerprint(first)


def test_a_model_trained_on_other_rows_too_has_no_held_out_rows():
    data = NamedDataset(FLOWERS, CODES, path="t.csv")
    first, other = (split(data, 0.2, seed=seed)[0] for seed in (1, 2))
    model = flower_network()
    for train, share in (
        (first, first.share),
        (first, first.share),
        (other, None),
        (first, None),
    ):
        xpnn.fit(model, train, **{**SETTINGS, "epochs": 1})
        assert model.task.share == share
    model = flower_network()
    xpnn.fit(model, (FLOWERS, CODES), epochs=1)
    assert model.task.share is None


def test_a_file_without_a_share_still_loads(here):
    model = flower_network()
    xpnn.fit(model, (FLOWERS, CODES), epochs=1)
    xpnn.save(model, "m")
    metadata, raw = unsealed(here / "m", "model")
    about = json.loads(metadata["xpnn"])
    del about["share"]
    (here / "m").write_bytes(sealed(from_bytes(raw), {"xpnn": json.dumps(about)}))
    assert xpnn.load("m").task.share is None
    about["share"] = {"fraction": 0.2}
    (here / "m").write_bytes(sealed(from_bytes(raw), {"xpnn": json.dumps(about)}))
    with pytest.raises(DataError, match="m has damaged metadata"):
        xpnn.load("m")
