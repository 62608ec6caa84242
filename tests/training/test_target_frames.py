"""Targets as a DataFrame: their columns are found by name wherever both sides have names."""

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


def fitted(x, y, model=None, **options):
    model = model or xpnn.Sequential(xpnn.Dense(2))
    xpnn.fit(model, (x, y), loss="mean_squared_error", epochs=3, seed=0, **options)
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
