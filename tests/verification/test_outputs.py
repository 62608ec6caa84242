"""A trained model on several backends, layer by layer, and the command that compares them."""

import hashlib
import re

import numpy as np
import pytest

import xpnn
from tests.helpers import (
    BACKEND_NAMES,
    CODES,
    FLOWERS,
    NAMES,
    SETTINGS,
    VALUES,
    failed,
    flower_network,
    open_backend,
    run,
    write_rows,
    write_table,
)
from xpnn import reproducible
from xpnn.backends import get_backend
from xpnn.datasets import Dataset, NamedDataset
from xpnn.errors import ArgumentError, DataError
from xpnn.verification import Difference, verify_model

LAYERS = ["features", "dense1", "relu1", "dense2", "prediction"]


def trained(y=NAMES, **options):
    """Return a model of the flowers that has been trained a little."""
    values = y.dtype.kind == "f"
    model = flower_network(1 if values else 3)
    loss = xpnn.MeanSquaredError() if values else xpnn.CrossEntropy()
    if values:
        options["target_normalizer"] = "standard"
    xpnn.fit(model, (FLOWERS, y), normalizer="standard", loss=loss,
             **{**SETTINGS, "epochs": 2, **options})  # fmt: skip
    return model


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("y", [NAMES, VALUES])
@pytest.mark.parametrize("name", BACKEND_NAMES)
def test_a_model_gives_the_same_bits_everywhere(name, y, dtype):
    open_backend(name)
    model = trained(y, dtype=dtype)
    backends = [get_backend(each, dtype=dtype, reproducible=True) for each in ("numpy", name)]
    found = verify_model(model, Dataset(FLOWERS, y), backends)
    assert found.agree
    assert [stage.name for stage in found.stages] == LAYERS
    assert all(stage.difference == Difference(0.0, 0.0) for stage in found.stages)
    assert all(len(set(stage.hashes.values())) == 1 for stage in found.stages)


def test_the_hashes_are_those_of_what_the_layers_give():
    model = trained(dtype="float64")
    found = verify_model(model, Dataset(FLOWERS, NAMES), [get_backend(dtype="float64")])
    x = (FLOWERS - model.task.normalizer.offset) / model.task.normalizer.scale
    hidden = x @ model.parameters[0]["weight"] + model.parameters[0]["bias"]
    values = [model.task.normalizer.apply(FLOWERS), hidden, np.maximum(hidden, 0)]
    np.testing.assert_allclose(values[0], x, rtol=1e-14, atol=1e-14)
    probabilities = xpnn.predict_proba(model, FLOWERS)
    for i, array in ((0, values[0]), (4, probabilities)):
        digest = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
        assert found.stages[i].hashes == {"numpy": digest}


def test_rows_that_are_taken_in_parts_give_the_same_hashes(monkeypatch):
    model = trained()
    backends = [get_backend("numpy", reproducible=True), open_backend("strict", "float32")]
    whole = verify_model(model, Dataset(FLOWERS, NAMES), backends[:1])
    monkeypatch.setattr("xpnn.verification.outputs.EVALUATION_ROWS", 7)
    assert verify_model(model, Dataset(FLOWERS, NAMES), backends[:1]) == whole


class Wrong(reproducible.Namespace):
    """A namespace whose products are some ulps too large in one row and column."""

    row, layer = 70, 1

    def matmul(self, a, b, /):
        product = super().matmul(a, b)
        if b.shape != (4, 5) and self.layer == 1:
            return product
        factor = np.ones(product.shape)
        if self.row < len(factor):
            factor[self.row, 2:] += 2.0**-44
        return product * self.asarray(factor)


@pytest.mark.parametrize("rows", [10_000, 40])
def test_the_first_difference_is_named(rows, here, monkeypatch):
    monkeypatch.setattr("xpnn.verification.outputs.EVALUATION_ROWS", rows)
    model = trained(dtype="float64")
    backends = [get_backend(dtype="float64", reproducible=True),
                get_backend("strict", dtype="float64", reproducible=True)]  # fmt: skip
    backends[1].xp = Wrong(backends[1].inner.xp)
    backends[1].xp.row = 70 % rows
    path = write_table(here / "t.csv")
    for data, place in (
        # the first line holds the names
        (xpnn.datasets.load(path), f"{path}, line {2 + 70 % rows}"),
        (Dataset(FLOWERS, NAMES), f"row {70 % rows}"),
    ):
        found = verify_model(model, data, backends)
        assert not found.agree
        assert re.fullmatch(
            rf"numpy and strict differ first at dense1, {re.escape(place)}, output 2: \S+ and \S+",
            found.parted,
        )
        exact = [stage.difference.absolute > 0 for stage in found.stages]
        assert exact[:2] == [False, True]
        assert found.stages[1].difference.relative == pytest.approx(2.0**-44, rel=0.01)


def test_what_can_not_be_compared():
    model, backend = trained(), get_backend()
    with pytest.raises(ArgumentError, match="backends must hold at least one, got none"):
        verify_model(model, Dataset(FLOWERS, NAMES), [])
    with pytest.raises(ArgumentError, match="model has no parameters yet"):
        verify_model(flower_network(), Dataset(FLOWERS, NAMES), [backend])
    for x in (FLOWERS[:, :3], FLOWERS[:0]):
        with pytest.raises(DataError, match=r"x must have shape \(n, 4\) with n >= 1, got"):
            verify_model(model, Dataset(x, NAMES), [backend])
    x = FLOWERS.copy()
    x[5, 2] = np.nan
    with pytest.raises(DataError, match=r"^d\.npz, x, row 5, column 2: x must be finite, got nan"):
        verify_model(model, NamedDataset(x, NAMES, path="d.npz"), [backend])
    x[5, 2] = 1e39
    with pytest.raises(DataError, match=r"^d\.npz, x, row 5, column 2: 1e\+39, normalized, is too"):
        verify_model(model, NamedDataset(x, NAMES, path="d.npz"), [backend])


def test_the_model_stays_where_it_is():
    model = trained()
    before = model.sha256()
    verify_model(model, Dataset(FLOWERS, NAMES), [open_backend("strict", "float64")])
    assert (model.backend.name, model.backend.dtype_name) == ("numpy", "float32")
    assert model.sha256() == before


# the command


def test_the_command_compares_a_model(here, capsys):
    write_table(here / "t.csv")
    assert run("train", "t.csv", "--hidden", 5, "--epochs", 1, "--quiet", "--save", "m") == 0
    assert run("verify", "m", "t.csv", "--backends", "numpy,strict") == 0
    head, *rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert head == ["layer", "numpy", "strict", "agree"]
    assert [row[0] for row in rows] == LAYERS
    backends = [get_backend(name, dtype="float32", reproducible=True) for name in head[1:3]]
    expected = verify_model(xpnn.load("m"), xpnn.datasets.load("t.csv"), backends)
    for row, stage in zip(rows, expected.stages, strict=True):
        assert row[1:] == [*(own[:16] for own in stage.hashes.values()), "yes"]
    # without targets, in another dtype, natively
    write_rows(here / "new.csv", FLOWERS, ["a", "b", "c", "d"])
    assert run("verify", "--dtype", "float64", "m", "--native", "new.csv", "--backends",
               "numpy,strict") in (0, 1)  # fmt: skip
    assert capsys.readouterr().out.split()[:6] == [*head, "absolute", "relative"]


def test_the_command_names_the_first_difference(here, capsys, monkeypatch):
    write_table(here / "t.csv")
    assert run("train", "t.csv", "--hidden", 5, "--epochs", 1, "--quiet", "--save", "m") == 0
    open_backend("strict")
    real = xpnn.verification.usable_backends

    def usable(*args, **options):
        backends = real(*args, **options)
        backends[1].xp = Wrong(backends[1].inner.xp)
        return backends

    monkeypatch.setattr("xpnn.cli.verify.usable_backends", usable)
    assert run("verify", "m", "t.csv", "--backends", "numpy,strict", "--dtype", "float64") == 1
    *_, last = capsys.readouterr().out.splitlines()
    assert last.startswith("numpy and strict differ first at dense1, t.csv, line 72, output 2: ")


@pytest.mark.parametrize("y", [NAMES, VALUES, CODES])
def test_the_command_compares_runs_on_a_table(y, here, capsys):
    write_table(here / "t.csv", y)
    options = ["--validation", 0.2, "--hidden", 5, "--epochs", 2, "--seed", 3]
    assert run("verify", "t.csv", *options, "--backends", "numpy,strict") == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert [row[0] for row in rows] == ["0", "1", "2"]
    assert run("train", "t.csv", *options, "--reproducible", "--hash", "--save", "m") == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    hashes = [line[-1] for line in lines if line and line[0] in "012" and len(line[-1]) == 64]
    assert [row[1] for row in rows] == [own[:16] for own in hashes]


def test_the_operation_that_is_off_is_named_for_a_table(here, capsys):
    """Natively, two libraries' products differ, and the trace finds the first that does."""
    open_backend("torch")
    write_table(here / "t.csv", VALUES)
    status = run("verify", "t.csv", "--backends", "numpy,torch", "--native", "--epochs", 1,
                 "--hidden", "100,50")  # fmt: skip
    out = capsys.readouterr().out
    assert status == ("differ first at epoch 1, step" in out)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("m.safetensors", "MODEL needs DATA: xpnn verify MODEL DATA"),
        ("m.safetensors --native t.csv t.csv", None),
        ("m.safetensors t.csv --epochs 2", "epochs is for training, and a model is trained alre"),
        ("m.safetensors t.csv --normalize none", "normalize is for training, and a model is trai"),
        ("m.safetensors t.csv --backends numpy", "backends must be two or more to compare, got "),
        ("m.safetensors none.csv", "no file or folder none.csv"),
        ("m.safetensors m.safetensors", "m.safetensors is not a text file"),
        ("m.safetensors broken.npz", "broken.npz is not an NPZ file of numbers or strings"),
        ("t.csv t.csv", "can't read a model from t.csv"),
        ("--target a", "target needs DATA, got none"),
        ("--canonical m.safetensors t.csv", "canonical runs take no options but DATA, backends"),
        ("--canonical --target a", "canonical runs take no options but DATA, backends and device"),
        ("t.csv --target z", "unknown target of t.csv 'z'"),
    ],
)
def test_mistakes_of_the_command_are_one_line(argv, message, here, capsys):
    write_table(here / "t.csv")
    (here / "broken.npz").write_bytes(b"PK")
    xpnn.save(trained(), "m.safetensors")
    if message is None:
        assert run("verify", *argv.split()) == 2
        assert capsys.readouterr().err == "xpnn: error: unrecognized arguments: t.csv\n"
    else:
        assert failed(capsys, "verify", *argv.split()).startswith(message)


def test_any_part_of_the_data_will_do(folder, here):
    small = ["--hidden", 5, "--epochs", 1, "--quiet", "--save", "m"]
    assert run("train", folder, *small) == 0
    for file in folder.glob("t10k*"):
        file.unlink()
    assert run("verify", "m", folder, "--backends", "numpy,strict") == 0
    np.savez("d.npz", x_train=FLOWERS, y_train=CODES)
    assert run("train", "d.npz", *small) == 0
    assert run("verify", "m", "d.npz", "--backends", "numpy,strict") == 0


def test_a_table_of_more_than_numbers(here, capsys):
    rows = [[i % 7, "abc"[i % 3], i % 2] for i in range(40)]
    write_rows(here / "t.csv", rows, ["n", "letter", "y"])
    assert run("train", "t.csv", "--epochs", 1, "--quiet", "--save", "m.safetensors") == 0
    assert run("verify", "m.safetensors", "t.csv", "--backends", "numpy,strict") == 0
    model, data = xpnn.load("m.safetensors"), xpnn.datasets.load("t.csv")
    places = [get_backend(name, dtype="float32", reproducible=True) for name in ("numpy", "strict")]
    found = verify_model(model, data, places)
    assert found.agree
    proba = xpnn.predict_proba(
        xpnn.load("m.safetensors", backend="numpy", reproducible=True), data.x
    )
    assert found.stages[-1].hashes["numpy"] == hashlib.sha256(proba.tobytes()).hexdigest()
