"""Where the data of a run come from, and what follows for the run."""

import numpy as np
import pytest

import xpnn
from tests.helpers import CODES, FLOWERS, NAMES, VALUES, write_folder, write_table
from xpnn.datasets import split
from xpnn.errors import ArgumentError
from xpnn.settings import Settings
from xpnn.source import Source

# what `fit` isn't told it would choose by itself
NONE = {"labels": None, "sample_weight": None, "normalizer": "none", "target_normalizer": "none"}


@pytest.mark.parametrize(
    ("y", "given", "loss", "expected"),
    [
        (NAMES, {}, None, {"labels": np.unique(NAMES), "normalizer": "standard"}),
        (CODES + 3, {"normalize": "none"}, None, {"labels": [3, 4, 5]}),
        (
            VALUES,
            {"normalize": "minmax"},
            "mean_squared_error",
            {"normalizer": "minmax", "target_normalizer": "standard"},
        ),
        (VALUES, {"normalize_target": "none"}, "mean_squared_error", {"normalizer": "standard"}),
    ],
)
def test_the_options_of_a_table(y, given, loss, expected, here):
    source = Source(str(write_table(here / "t.csv", y)), **given)
    train, other = source.read()
    assert other is None
    settings, options = source.options(Settings(), train)
    assert settings == Settings(loss=loss)
    assert options.keys() == NONE.keys()
    for name, value in options.items():
        np.testing.assert_array_equal(value, {**NONE, **expected}[name])
    # a loss that is given stays
    chosen = Settings(loss="binary_cross_entropy")
    assert source.options(chosen, train)[0] == chosen


def test_images_and_arrays_are_used_as_they_are(folder, here):
    np.savez("d.npz", x=FLOWERS, y=CODES + 3)
    for path, labels in ((str(folder), None), ("d.npz", [3, 4, 5])):
        settings, options = Source(path).options(Settings(), Source(path).read()[0])
        assert settings == Settings()
        np.testing.assert_array_equal(options.pop("labels"), labels)
        assert options == {name: NONE[name] for name in options}


def test_a_share_is_split_off_after_reading(here):
    path = str(write_table(here / "t.csv"))
    source = Source(path, validation=0.2)
    whole, other = source.read()
    assert (len(whole.x), other, source.share) == (90, None, 0.2)
    for part, expected in zip(
        source.divided(whole, None, seed=4), split(whole, 0.2, seed=4), strict=True
    ):
        np.testing.assert_array_equal(part.rows, expected.rows)
    source = Source(path, validation=path)
    whole, other = source.read()
    assert source.divided(whole, other, seed=4) == (whole, other)
    assert (len(other.x), source.share) == (90, None)


def test_paths_are_made_absolute(here):
    for path, absolute in (
        ("t.csv", f"{here}/t.csv"),
        ("x.npy,y.NPY", f"{here}/x.npy,{here}/y.NPY"),
        ("a,b.csv", f"{here}/a,b.csv"),
    ):
        assert Source(path).absolute() == Source(absolute)
        assert Source(path, validation=path).absolute() == Source(absolute, validation=absolute)
    assert Source("t.csv", validation=0.2).absolute().validation == 0.2


def test_an_unknown_normalizer_is_named():
    for name in ("normalize", "normalize_target"):
        with pytest.raises(ArgumentError, match=rf"unknown {name} 'minmx'; did you mean 'minmax'"):
            Source("t.csv", **{name: "minmx"})


@pytest.mark.parametrize("where", ["train", "test"])
def test_a_share_of_a_folder_of_images_is_one_of_its_training_part(where, here):
    path = write_folder(here / "d")
    if where == "train":
        for file in path.glob("t10k*"):
            file.unlink()
    source = Source(str(path), validation=0.25)
    parts = source.divided(*source.read(), seed=0)
    assert [len(part.x) for part in parts] == [45, 15]
    expected = xpnn.datasets.load_training(path, 0.25)
    for part, own in zip(parts, expected, strict=True):
        np.testing.assert_array_equal(part.x, own.x)
