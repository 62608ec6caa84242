"""`load`: what is read from a path, and paths from which nothing can be read."""

import re
from pathlib import Path

import numpy as np
import pytest

import xpnn
from tests.helpers import CODES, COLUMNS, FLOWERS, NAMES, failed, flower_network, write_table
from xpnn.datasets import load, load_training
from xpnn.errors import ArgumentError, DataError


def test_a_table_is_a_pair_that_knows_its_names(here):
    data = load(write_table(here / "t.csv"))
    x, y = data
    np.testing.assert_array_equal(x, FLOWERS, strict=True)
    np.testing.assert_array_equal(y, NAMES, strict=True)
    assert (data.feature_names, data.target_name) == (tuple(COLUMNS), "kind")
    assert data.where(3) == f"{here / 't.csv'}, line 5, column 'kind'"


@pytest.mark.parametrize("name", ["x.npy", "d.npz", "t.csv"])
def test_rubbish_is_one_line(name, here, capsys):
    (here / name).write_bytes(b"PK\x03\x04" + bytes(50))
    (here / "y.npy").write_bytes(b"")
    given = "x.npy,y.npy" if name == "x.npy" else name
    assert name in failed(capsys, "train", given)


def test_a_task_overrides_what_arrays_look_like(here):
    np.savez("data.npz", x=FLOWERS, y=CODES)
    assert load("data.npz", task="regression").y.dtype == np.float64
    np.savez("data.npz", x=FLOWERS, y=CODES * 1.0)
    assert load("data.npz").y.dtype == np.float64
    np.testing.assert_array_equal(load("data.npz", task="classification").y, CODES, strict=True)
    with pytest.raises(ArgumentError, match="unknown task 'regresion'; did you mean 'regression'"):
        load("data.npz", task="regresion")


def test_folders_that_hold_nothing(here):
    (here / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty holds neither x\.npy"):
        load("empty")
    (here / "jungle" / "cats" / "tabby").mkdir(parents=True)
    (here / "jungle" / "train-images").mkdir()
    (here / "jungle" / "train-images.txt").touch()
    with pytest.raises(DataError, match=r"jungle holds neither x\.npy .* of PNG or JPEG images$"):
        load("jungle")
    (here / "jungle" / "cats" / "tabby" / "1.png").touch()
    cats = re.escape(str(Path("jungle/cats")))
    with pytest.raises(DataError, match=rf"jungle holds neither .*; give {cats}, which does$"):
        load("jungle")
    (here / "labels").mkdir()
    (here / "labels" / "t10k-labels-idx1-ubyte").touch()
    with pytest.raises(DataError, match=r"^no train-images-idx3-ubyte .* in labels$"):
        load("labels")
    with pytest.raises(DataError, match="no file or folder nowhere"):
        load("nowhere")
    np.save("x.npy", FLOWERS)
    with pytest.raises(DataError, match=r"x\.npy has no targets; give two files"):
        load("x.npy")


@pytest.mark.parametrize("given", [None, 3, b"m", ["m"]])
def test_what_is_no_path_is_named(given):
    for read in (xpnn.load, load, load_training, xpnn.datasets.read_idx_folder):
        with pytest.raises(ArgumentError, match=re.escape(f"must be a path, got {given!r}")):
            read(given)
    if given is not None:
        with pytest.raises(ArgumentError, match="resume must be a path, got"):
            xpnn.fit(flower_network(), (FLOWERS, CODES), resume=given)
