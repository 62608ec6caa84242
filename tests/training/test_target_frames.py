"""Targets as a DataFrame: their columns are found by name wherever both sides have names."""

import copy

import numpy as np
import pytest

import xpnn
from xpnn.errors import DataError

pandas = pytest.importorskip("pandas")

RNG = np.random.default_rng(6)
X = RNG.normal(size=(60, 3))
TARGETS = pandas.DataFrame({"u": X[:, 0], "v": 10 * X[:, 1]})
SWAPPED = TARGETS[["v", "u"]]
OTHERS = TARGETS.rename(columns={"u": "w"})


def fitted(x, y, model=None, *, train=None, **options):
    model = model or xpnn.Sequential(xpnn.Dense(2))
    xpnn.fit(model, train or (x, y), loss="mean_squared_error", epochs=3, seed=0, **options)
    return model


@pytest.mark.parametrize("x", [X, pandas.DataFrame(X, columns=list("abc"))], ids=["array", "frame"])
def test_targets_are_found_by_their_names(x, tmp_path):
    plain = fitted(x, TARGETS.to_numpy(), validation=(x, TARGETS.to_numpy()))
    for given in (TARGETS, SWAPPED, TARGETS.assign(more=1.0)):
        model = fitted(x, TARGETS, validation=(x, given))
        assert model.sha256() == plain.sha256()
        assert model.history.column("test_loss") == plain.history.column("test_loss")
    assert model.task.target_names == ("u", "v")
    xpnn.save(model, tmp_path / "m")
    for own in (model, xpnn.load(tmp_path / "m")):
        for given in (TARGETS, SWAPPED):
            assert xpnn.evaluate(own, (x, given)) == xpnn.evaluate(plain, (x, TARGETS.to_numpy()))
            assert xpnn.evaluate(own, x, given) == xpnn.evaluate(own, (x, TARGETS))
        with pytest.raises(DataError, match="no column 'u', which is one of the targets"):
            xpnn.evaluate(own, (x, OTHERS))
    with pytest.raises(DataError, match="no column 'u', which is one of the targets"):
        fitted(x, TARGETS, validation=(x, OTHERS))
    again = [fitted(x, y, xpnn.load(tmp_path / "m")).sha256() for y in (TARGETS, SWAPPED)]
    assert again[0] == again[1] != model.sha256()


@pytest.mark.parametrize("x", [X, pandas.DataFrame(X, columns=list("abc"))], ids=["array", "frame"])
def test_so_are_those_of_batches(x):
    halves = [(x[:30], TARGETS[:30]), (x[30:], SWAPPED[30:])]
    model = xpnn.Sequential(xpnn.Dense(2))
    xpnn.fit(model, halves, loss="mean_squared_error", epochs=3, seed=0)
    # batches have the defaults of an array, whatever they hold
    assert model.sha256() == fitted(X, TARGETS.to_numpy()).sha256()


def test_other_names_are_taken_by_position():
    model = fitted(X, TARGETS)
    named = TARGETS.set_axis(["y1", "y2"], axis=1)
    assert xpnn.evaluate(model, (X, named)) == xpnn.evaluate(model, (X, TARGETS))
    twice = TARGETS.set_axis(["u", "u"], axis=1)
    assert fitted(X, twice).task.target_names is None


def test_missing_targets_are_refused():
    with pytest.raises(DataError, match="missing value"):
        fitted(X, TARGETS.mask(TARGETS > 1))


# what `fit` takes, all others take and treat in the same way


KINDS = {
    "array": lambda frame: frame.to_numpy(),
    "objects": lambda frame: frame.to_numpy().astype(object),
    "list": lambda frame: frame.to_numpy().tolist(),
    "frame": lambda frame: frame,
    "nullable": lambda frame: frame.astype("Int64"),
    "objects in a frame": lambda frame: frame.astype(object),
    "floats": lambda frame: frame.astype("Float64"),
}


@pytest.mark.parametrize("given", KINDS)
def test_numbers_mean_the_same_in_every_kind_of_table(given):
    rng = np.random.RandomState(0)
    table = pandas.DataFrame(rng.randint(0, 9, (30, 2)), columns=["a", "b"])
    y = (table["a"] > 4).to_numpy().astype(int)
    plain = {"normalizer": "none", "optimizer": "sgd", "epochs": 1, "seed": 0, "verbose": False}
    model = xpnn.Sequential(xpnn.Dense(2))
    xpnn.fit(model, (KINDS[given](table), y), **plain)
    wanted = xpnn.predict_proba(model, table)
    loss = xpnn.evaluate(model, table, y).loss
    for kind, make in KINDS.items():
        x = make(table)
        np.testing.assert_array_equal(xpnn.predict_proba(model, x), wanted, err_msg=kind)
        assert xpnn.evaluate(model, x, y).loss == loss
        other = xpnn.Sequential(xpnn.Dense(2))
        history = xpnn.fit(other, (KINDS[given](table), y), validation=(x, y), **plain)
        assert history[-1].test_loss == loss
        again = copy.deepcopy(model)
        xpnn.fit(again, (x, y), **{**plain, "epochs": 0})
        assert again.sha256() == model.sha256()


def test_a_cell_that_is_no_number_is_refused_where_numbers_are_known():
    model = xpnn.Sequential(xpnn.Dense(2))
    xpnn.fit(model, (np.eye(4), np.arange(4) % 2), epochs=0, verbose=False)
    for cell, said in ((None, "a missing value"), ("x", "not a number"), (2**53 + 1, "2\\*\\*53")):
        x = np.eye(4).astype(object)
        x[2, 1] = cell
        with pytest.raises(DataError, match=f"{said}.* in x, row 2, column 1|{said}.*row 2, col"):
            xpnn.predict(model, x)


def test_batches_of_frames_name_their_targets():
    x = pandas.DataFrame(X, columns=list("abc"))
    batches = [(x[:30], TARGETS[:30]), (x[30:], SWAPPED[30:])]
    plain = fitted(X, TARGETS.to_numpy(), validation=(X, TARGETS.to_numpy()))
    for other in ((x, TARGETS), (x, SWAPPED), [(x, SWAPPED)], (X, SWAPPED)):
        options = {"normalizer": "none", "target_normalizer": "none", "optimizer": "sgd"}
        model = fitted(None, None, train=batches, validation=other, batch_size=100, **options)
        assert model.sha256() == plain.sha256()
        assert model.history.column("test_loss") == plain.history.column("test_loss")
        assert model.task.target_names == ("u", "v")
        assert xpnn.evaluate(model, [(x, SWAPPED)]).loss == plain.history[-1].test_loss


def test_a_resumed_run_has_the_targets_of_the_first(tmp_path):
    x = np.random.RandomState(0).randn(30, 2)
    y = pandas.DataFrame({"p": x[:, 0], "q": x[:, 1]})
    options = {"epochs": 1, "seed": 0, "verbose": False}
    callback = xpnn.Checkpoint(tmp_path / "k")
    xpnn.fit(xpnn.Sequential(xpnn.Dense(2)), (x, y), callbacks=[callback], **options)
    y.columns = ["q", "p"]
    with pytest.raises(xpnn.ArgumentError, match=r"target_names must be \['p', 'q'\] as in .*k, "):
        xpnn.fit(xpnn.Sequential(xpnn.Dense(2)), (x, y), resume=tmp_path / "k", **options)


def test_texts_in_a_frame_of_one_column_are_labels():
    x = np.random.RandomState(0).randn(30, 2)
    y = np.where(x[:, 0] > 0, "yes", "no")
    model = xpnn.Sequential(xpnn.Dense(2))
    xpnn.fit(model, (x, pandas.DataFrame({"t": y})), epochs=0, verbose=False)
    assert model.task.labels.tolist() == ["no", "yes"]
    frame = pandas.DataFrame({"t": x[:, 0], "s": x[:, 1]}).astype("Float64")
    xpnn.fit(xpnn.Sequential(xpnn.Dense(2)), (x, frame), epochs=0, verbose=False)
