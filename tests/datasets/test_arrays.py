"""NPY and NPZ files: what is read, and where a value is wrong."""

import struct

import numpy as np
import pytest

import xpnn
from tests.helpers import BACKEND_NAMES, CODES, FLOWERS, NAMES, VALUES, failed, open_backend, run
from xpnn._core.mapped import is_mapped
from xpnn.datasets import Dataset, load, load_training, split
from xpnn.datasets.checks import as_inputs
from xpnn.errors import ArgumentError, DataError


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
        np.savez("data.npz", x=FLOWERS, y=y)
        data = load("data.npz")
    else:
        np.save("x.npy", FLOWERS)
        np.save("y.npy", y)
        data = load({"pair": "x.npy,y.npy", "folder": here}[place])
    np.testing.assert_array_equal(data.x, FLOWERS, strict=True)
    np.testing.assert_array_equal(data.y, expected, strict=True)


def test_large_arrays_are_mapped(here, monkeypatch):
    monkeypatch.setattr("xpnn.datasets.readers.arrays._READ_BYTES", 1000)
    np.save("x.npy", FLOWERS.reshape(90, 2, 2))
    np.save("y.npy", CODES)
    data = load("x.npy,y.npy")
    assert is_mapped(data.x)
    np.testing.assert_array_equal(data.x, FLOWERS)
    with pytest.raises(ArgumentError, match="validation must be files of its own"):
        load_training("x.npy,y.npy", 0.2)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": FLOWERS}, "data.npz must hold arrays x and y, got x"),
        ({"a": FLOWERS, "y": CODES}, "data.npz must hold arrays x and y, got a, y"),
        (
            {"x": FLOWERS[0], "y": CODES},
            r"x must be numbers of shape \(n, features\), got float64 of",
        ),
        ({"x": FLOWERS.astype(str), "y": CODES}, "x must be numbers of shape"),
        (
            {"x": FLOWERS, "y": CODES[1:]},
            r"y must have a row for each of the 90 rows .*shape \(89,\)",
        ),
        ({"x": FLOWERS, "y": np.array([None] * 90)}, "data.npz is not an NPZ file of numbers"),
        (
            {"x": FLOWERS, "y": np.arange(90)},
            "90 different integers in 90 rows may be classes or values",
        ),
        ({"x": FLOWERS, "y": FLOWERS.astype(complex)[:, 0]}, "y must be integers or strings"),
    ],
)
def test_arrays_that_can_not_be_used(arrays, message, here):
    np.savez("data.npz", **arrays)
    with pytest.raises(DataError, match=message):
        load("data.npz")


def test_integers_that_int64_can_not_hold_are_no_labels(here):
    np.savez("data.npz", x=FLOWERS[:2], y=np.array([1, 2**63], np.uint64))
    with pytest.raises(DataError, match="y must be integers or strings"):
        load("data.npz")


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
    data = arrays_of(kind, *spoil(FLOWERS, CODES), here)
    for options in ([], ["--validation", 0.2]):
        message = failed(capsys, "train", data, "--epochs", 1, *options)
        assert message.startswith(f"{data}{place}")


def test_integers_that_float64_holds_are_taken():
    big = np.array([[2**53], [-(2**60)], [2**62 + 2**20]])
    np.testing.assert_array_equal(as_inputs("x", big), big, strict=True)
    with pytest.raises(DataError, match=f"got {-(2**53) - 1} in row 1, column 0"):
        as_inputs("x", np.array([[1], [-(2**53) - 1]]))


@pytest.mark.parametrize("backend", BACKEND_NAMES)
def test_values_too_large_for_the_dtype_are_named(backend, here, capsys):
    open_backend(backend, "float32")
    x = np.array(FLOWERS)
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
    xpnn.fit(model, (FLOWERS, CODES), epochs=0, backend=backend)
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


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_characters_that_unicode_lacks_are_one_line(command, order, here, capsys):
    np.savez("d.npz", x=FLOWERS, y=NAMES)
    assert run("train", "d.npz", "--epochs", 0, "--save", "m", "--quiet") == 0
    names = NAMES.astype(NAMES.dtype.newbyteorder(order))
    names.view(f"{order}u4")[4 * names.itemsize // 4 + 1] = 0x110000
    np.savez("d.npz", x=FLOWERS, y=names)
    arguments = ("train", "d.npz") if command == "train" else ("evaluate", "m", "d.npz")
    wanted = "d.npz, y, row 4: a text with a character that isn't one of Unicode's"
    assert failed(capsys, *arguments) == wanted


@pytest.mark.parametrize("letter", ["x", "X"])
def test_an_archive_may_have_a_test_part(letter, here, capsys):
    """As the archive of MNIST that Keras downloads: four arrays."""
    arrays = {
        f"{letter}_train": FLOWERS[:60].reshape(60, 2, 2),
        "y_train": CODES[:60] + 4,
        f"{letter}_test": FLOWERS[60:].reshape(30, 2, 2),
        "y_test": CODES[60:] + 4,
    }
    np.savez("d.npz", **arrays)
    train, test = load_training("d.npz")
    for data, rows in ((train, slice(60)), (test, slice(60, 90)), (load("d.npz"), slice(60))):
        np.testing.assert_array_equal(data.x, FLOWERS[rows], strict=True)
        np.testing.assert_array_equal(data.y, CODES[rows] + 4, strict=True)
    # a share is one of the training part
    assert [len(part.x) for part in load_training("d.npz", 0.25)] == [45, 15]
    assert run("train", "d.npz", "--hidden", 5, "--epochs", 2, "--save", "m", "--quiet") == 0
    model = xpnn.load("m")
    assert run("evaluate", "m", "d.npz") == 0
    assert float(capsys.readouterr().out.split()[3]) == model.history[-1].test_loss
    assert run("predict", "m", "d.npz") == 0
    predicted = capsys.readouterr().out.split()[1:]
    assert predicted == list(map(str, xpnn.predict(model, FLOWERS[60:])))

    np.savez("d.npz", **{**arrays, "y_test": np.full(30, 9)})
    with pytest.raises(DataError, match=r"^d\.npz \(test part\), y, row 0: 9 is not one of the "):
        load_training("d.npz")
    np.savez("d.npz", **{**arrays, f"{letter}_test": FLOWERS[60:, :3]})
    with pytest.raises(DataError, match=r"\(test part\) has 3 features, where d\.npz \(train p"):
        load_training("d.npz")


def test_a_header_that_is_nested_too_deeply_is_named(here):
    header = b"{'descr':'<f8','fortran_order':False,'shape':" + b"-" * 8954 + b"1"
    (here / "x.npy").write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
    np.save("y.npy", np.arange(3))
    with pytest.raises(DataError, match=r"x\.npy is not an NPY file of numbers or strings: \w+"):
        load("x.npy,y.npy")


def test_an_archive_of_x_in_capitals(here):
    np.savez("d.npz", X=FLOWERS, Y=CODES, n=np.ones(90))
    np.testing.assert_array_equal(load("d.npz", weights="n").y, CODES)
    assert load("d.npz", part="test").x.shape == FLOWERS.shape
    with pytest.raises(ArgumentError, match="weights must be another array than X and Y, got 'X'"):
        load("d.npz", weights="X")


@pytest.mark.parametrize(
    ("names", "part", "message"),
    [
        ("x X y", "train", "d.npz must hold only one of the arrays x and X"),
        ("x x_train y", "train", "d.npz must hold only one of the arrays x and x_train"),
        ("x_train", "train", "d.npz must hold arrays x_train and y, got x_train"),
        ("X_train y_train", "test", "d.npz must hold arrays x_test and y_test, got X_train, y_tr"),
        ("x_train y_train x_test", "test", "d.npz must hold arrays x_test and y_test, got x_train"),
        ("images labels", "train", "d.npz must hold arrays x and y, got images, labels"),
    ],
)
def test_archives_without_the_arrays(names, part, message, here):
    np.savez("d.npz", **dict.fromkeys(names.split(), FLOWERS))
    with pytest.raises(DataError, match=f"^{message}"):
        load("d.npz", part=part)


@pytest.mark.parametrize(
    ("shape", "dtype", "expected"),
    [
        ((90, 2, 2), np.uint8, (2, 2, 1)),
        ((90, 4, 1), np.uint8, (4, 1, 1)),
        ((90, 2, 2, 1), np.uint8, (2, 2, 1)),
        ((90, 4), np.uint8, None),
        ((90, 1, 2, 2), np.uint8, None),
        ((90, 2, 2), np.float64, None),
        ((90, 2, 1, 2, 1), np.uint8, None),
    ],
)
def test_arrays_of_bytes_are_images(shape, dtype, expected, here):
    x = (np.abs(FLOWERS) * 20).astype(dtype).reshape(shape)
    np.savez("d.npz", x=x, y=CODES)
    np.save("x.npy", x)
    for data in (load("d.npz"), load("x.npy", target=None)):
        assert data.image_shape == expected
        np.testing.assert_array_equal(data.x, x.reshape(90, 4), strict=True)


def test_images_in_an_archive_are_drawn_and_held_to_their_shape(here, capsys):
    pytest.importorskip("matplotlib")
    x = np.random.RandomState(0).randint(0, 256, (90, 2, 4, 3)).astype(np.uint8)
    # labels that aren't the numbers of the outputs
    np.savez("d.npz", x_train=x[:60], y_train=CODES[:60] + 3, x_test=x[60:], y_test=CODES[60:] + 3)
    assert run("train", "d.npz", "--hidden", 5, "--epochs", 1, "--save", "m", "--quiet") == 0
    assert xpnn.load("m").task.image_shape == (2, 4, 3)
    assert run("plot", "errors", "m", "d.npz", "--out", "e.png") == 0
    np.savez("o.npz", x=x.reshape(90, 4, 2, 3), y=CODES + 3)
    wanted = "o.npz must hold images of 4 × 2 colour as the training data do, got 2 × 4 colour"
    assert failed(capsys, "evaluate", "m", "o.npz") == wanted
