"""What `load` takes: the table of readers, arguments of any type, odd files and their errors."""

import os
import pickle
import re
import zipfile

import numpy as np
import pytest

import xpnn
from tests.helpers import COLUMNS, write_table
from xpnn.datasets import Dataset, NamedDataset, load, load_training, readers, split
from xpnn.datasets.checks import as_dataset
from xpnn.datasets.readers.reader import Reader
from xpnn.errors import ArgumentError, DataError

X = np.arange(24.0).reshape(12, 2)
Y = np.arange(12) % 3


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("d.npz", x=X, y=Y)
    write_table(tmp_path / "t.csv")
    return tmp_path


def test_a_suffix_may_be_in_capitals(files):
    (files / "d.npz").rename("D.NPZ")
    np.save("x.npy", X)
    np.save("y.npy", Y)
    for name in ("x", "y"):
        os.rename(f"{name}.npy", f"{name}.NPY")
    for data in (load("D.NPZ"), load("x.NPY,y.NPY")):
        np.testing.assert_array_equal(data.x, X)
        np.testing.assert_array_equal(data.y, Y)
    np.testing.assert_array_equal(load("x.NPY", target=None).x, X)


def test_a_format_is_a_line_of_the_table(files, monkeypatch):
    def read(path, request):
        return NamedDataset(np.loadtxt(path, ndmin=2), Y[:2], path=str(path))

    spaces = Reader(lambda path: path.suffix == ".txt", read, "a text file")
    monkeypatch.setattr(readers, "READERS", (spaces, *readers.READERS))
    (files / "t.txt").write_text("1 2\n3 4\n")
    np.testing.assert_array_equal(load("t.txt").x, [[1, 2], [3, 4]])
    assert load("d.npz").x.shape == X.shape
    assert "x.npy,y.npy, a text file, or a folder that holds " in readers.forms()


def test_rows_of_a_table_that_is_no_text_are_not_called_lines():
    data = NamedDataset(X, Y, path="t.parquet", feature_names=("a", "b"), target_name="y")
    assert data.where(3, "x", 1) == "t.parquet, row 3, column 'b'"
    assert data.part(slice(2, 5)).where(1) == "t.parquet, row 3, column 'y'"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": 3}, "unknown task 3"),
        ({"task": np.array(["classification", "b"])}, "unknown task"),
        ({"part": None}, "unknown part None"),
        ({"part": ["train"]}, "unknown part"),
        ({"header": "no"}, "header must be True, False or None, got 'no'"),
        ({"header": 1}, "header must be True, False or None, got 1"),
        ({"ignore": "ab"}, "unknown ignored column of t.csv 'ab'"),
        ({"ignore": b"a"}, "ignore must be a sequence of columns, got b'a'"),
        ({"ignore": None}, "ignore must be a sequence of columns, got None"),
        ({"ignore": [["a"]]}, "unknown ignored column of t.csv"),
        ({"ignore": [1.0]}, "unknown ignored column of t.csv 1.0"),
        ({"features": "ab"}, "t.csv has no column 'ab', which is one of the features"),
        ({"features": 3}, "features must be a sequence of columns, got 3"),
        ({"features": []}, "features must name at least one column, got none"),
        ({"features": [["a"]]}, "t.csv has no column ['a'], which is one of the features"),
        ({"target": 1.0}, "unknown target of t.csv 1.0"),
        ({"target": True}, "unknown target of t.csv True"),
        ({"target": ["a"]}, "unknown target of t.csv ['a']"),
        ({"weights": b"a"}, "unknown weights of t.csv b'a'"),
        ({"weights": 0}, "unknown weights of t.csv 0"),
    ],
)
def test_arguments_that_can_not_be_used(options, message, files):
    with pytest.raises(xpnn.XpnnError, match=re.escape(message)):
        load("t.csv", **options)


@pytest.mark.parametrize("validation", [True, 1, np.float32(1.5)])
def test_a_number_for_validation_is_a_fraction(validation, files):
    message = f"validation must be a fraction > 0 and < 1, got {validation!r}"
    with pytest.raises(ArgumentError, match=re.escape(message)):
        load_training("d.npz", validation)
    assert len(load_training("d.npz", np.float64(0.25))[1].x) == 3


@pytest.mark.parametrize("validation", [[0.2], b"v.csv", {}])
def test_what_is_neither_a_fraction_nor_a_path(validation, files):
    with pytest.raises(ArgumentError, match="validation must be a path, got"):
        load_training("d.npz", validation)


FRACTION = "validation must be a fraction > 0 and < 1, got "


@pytest.mark.parametrize(
    ("fraction", "seed", "message"),
    [
        ("0.2", 0, FRACTION + "'0.2'"),
        (None, 0, FRACTION + "None"),
        (True, 0, FRACTION + "True"),
        ([0.2], 0, FRACTION + "[0.2]"),
        (np.array([0.2, 0.3]), 0, FRACTION + "array([0.2, 0.3])"),
        (np.array(0.2), 0, FRACTION + "array(0.2)"),
        (0.2j, 0, FRACTION + "0.2j"),
        (0.2, "1", "seed must be a whole number >= 0 and <= 4294967295, got '1'"),
        (0.2, None, "seed must be a whole number >= 0"),
        (0.2, 1.0, "seed must be a whole number >= 0"),
        (0.2, True, "seed must be a whole number >= 0"),
    ],
)
def test_numbers_that_can_not_split(fraction, seed, message):
    with pytest.raises(ArgumentError, match=re.escape(message)):
        split(Dataset(X, Y), fraction, seed=seed)


def test_a_split_takes_any_pair():
    train, validation = split((X.tolist(), Y.tolist()), 0.25, seed=1)
    for part, expected in zip((train, validation), split(Dataset(X, Y), 0.25, seed=1), strict=True):
        np.testing.assert_array_equal(part.x, expected.x)
        np.testing.assert_array_equal(part.y, expected.y)
    for given in (None, X, "ab c", (X, Y, Y)):
        with pytest.raises(ArgumentError, match=r"data must be a pair of arrays \(x, y\), got"):
            split(given, 0.25)
    with pytest.raises(DataError, match="must have the same length, got 12 and 11"):
        split((X, Y[1:]), 0.25)
    for pair in ((1.0, 2.0), (X, 1)):
        with pytest.raises(DataError, match="must be arrays with rows, got shapes"):
            split(pair, 0.25)


def test_paths_of_any_type(files):
    for read in (xpnn.datasets.read_idx, xpnn.datasets.mnist):
        with pytest.raises(ArgumentError, match="path must be a path, got 3"):
            read(3)


@pytest.mark.parametrize("name", ["n" * 5000, "n" * 5000 + ".npz", "a\0b", "x" * 300 + "/y.csv"])
def test_paths_that_no_system_has(name, files):
    with pytest.raises(ArgumentError if "\0" in name else DataError):
        load(name)


def npz(**members):
    with zipfile.ZipFile("o.npz", "w") as archive:
        for name, raw in members.items():
            archive.writestr(name, raw)


def npy(text, version=b"\x01\x00"):
    raw = text.encode()
    return b"\x93NUMPY" + version + len(raw).to_bytes(2, "little") + raw


@pytest.mark.parametrize(
    "raw",
    [
        b"x is text",
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000000,), }\n"),
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (((((\n"),
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': '\n"),
        npy("\0"),
    ],
)
def test_archives_of_something_else(raw, files):
    npz(x=raw)
    with pytest.raises(DataError, match=r"o\.npz is not an NPZ file of numbers or strings: "):
        load("o.npz", target=None)
    (files / "x.npy").write_bytes(raw)
    with pytest.raises(DataError, match=r"x\.npy is not an NPY file|can't read x\.npy"):
        load("x.npy", target=None)


def test_an_archive_with_a_password(files):
    raw = bytearray((files / "d.npz").read_bytes())
    # the flag that says so, in the header of each member and in the directory
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = raw.find(mark)
        while at >= 0:
            raw[at + offset] |= 1
            at = raw.find(mark, at + 1)
    (files / "d.npz").write_bytes(raw)
    with pytest.raises(DataError, match=r"d\.npz is not an NPZ file of numbers .*password"):
        load("d.npz")


@pytest.mark.parametrize("value", [np.inf, 1e300, np.nan])
def test_labels_of_floats_are_whole_and_finite(value, files):
    y = np.where(np.arange(12) == 3, value, Y)
    np.savez("d.npz", x=X, y=y)
    with pytest.raises(DataError, match="y must be integers or strings"):
        load("d.npz", task="classification")


def test_an_integer_with_thousands_of_zeros(files):
    (files / "z.csv").write_text(f"a,y\n{'0' * 5000}{2**60},u\n1,v\n")
    assert load("z.csv").x.tolist() == [[float(2**60)], [1.0]]


# errors that know part, row and column


def test_an_error_carries_its_place(files):
    with pytest.raises(DataError) as caught:
        as_dataset("d", (np.where(X == 7, np.nan, X), Y))
    error = caught.value
    assert (error.part, error.row, error.column) == ("x", 3, 1)
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), vars(again)) == (str(error), vars(error))
    assert DataError("m").row is None

    text = (files / "t.csv").read_text().splitlines()
    text[4] = text[4].replace(",", ",x", 1)
    (files / "t.csv").write_text("\n".join(text))
    with pytest.raises(DataError, match=rf"^t\.csv, line 5, column '{COLUMNS[1]}': 'x") as caught:
        load("t.csv")
    assert (caught.value.part, caught.value.row, caught.value.column) == ("x", 3, 1)


def network(outputs=3):
    return xpnn.Sequential(xpnn.Dense(outputs))


def test_a_label_without_an_output_is_found_in_the_file(files):
    # more different integers than outputs, so that they aren't the names of the classes
    y = np.where(np.arange(12) == 5, 7, Y)
    y[6:8] = 9, 11
    np.savez("d.npz", x=X, y=y)
    with pytest.raises(DataError, match=r"^d\.npz, y, row 5: train\.y must hold labels from 0"):
        xpnn.fit(network(), load("d.npz"), epochs=1)
    # a part knows where its rows were
    data = load("d.npz").part(np.arange(3, 12)).part(slice(1, 5))
    with pytest.raises(DataError, match=r"^d\.npz, y, row 5: ") as caught:
        xpnn.fit(network(), data, epochs=1)
    assert caught.value.row == 1


def test_integers_as_values_stay_in_their_file(files):
    x = X.copy()
    x[4, 1] = 1e39
    np.savez("d.npz", x=x, y=Y)
    options = {"loss": xpnn.MeanSquaredError(), "epochs": 1, "dtype": "float32"}
    with pytest.raises(DataError, match=r"^d\.npz, x, row 4, column 1: 1e\+39 is too large"):
        xpnn.fit(network(1), load("d.npz"), **options)


def test_data_of_ones_own_have_no_file():
    data = NamedDataset(np.where(X == 7, np.nan, X), Y, image_shape=(1, 2, 1))
    with pytest.raises(DataError, match=r"^train\.x must be finite, got nan in row 3, column 1$"):
        xpnn.fit(network(), data, epochs=1)


@pytest.mark.parametrize("name", ["x", "y"])
def test_a_value_in_a_large_file_is_found_while_it_is_read(name, files, monkeypatch):
    monkeypatch.setattr("xpnn.datasets.readers.arrays._READ_BYTES", 10)
    monkeypatch.setattr("xpnn.training.streams.CHUNK_BYTES", 100)
    arrays = {"x": X.copy(), "y": X[:, 0].copy()}
    arrays[name].flat[-1] = 1e39
    for key, array in arrays.items():
        np.save(f"{key}.npy", array)
    options = {"loss": xpnn.MeanSquaredError(), "epochs": 1, "dtype": "float32", "batch_size": 2}
    place = {"x": "x, row 11, column 1", "y": "y, row 11"}[name]
    with pytest.raises(DataError, match=rf"^x\.npy,y\.npy, {place}: 1e\+39 is too large"):
        xpnn.fit(network(1), load("x.npy,y.npy"), **options)
