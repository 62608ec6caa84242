"""Whether inputs are bytes, divided by 255, is a fact of the model and not of a dtype."""

import re

import numpy as np
import pytest

import xpnn
from tests.helpers import open_backend, run
from xpnn.errors import DataError, DataWarning

RNG = np.random.default_rng(5)
PIXELS = RNG.integers(0, 256, (60, 6)).astype(np.uint8)
Y = (PIXELS[:, 0] > 127).astype(np.int64)
SCALED = PIXELS.astype(np.float32) / np.float32(255)
OTHER_DTYPES = ["int16", "int32", "int64", "uint16", "uint32", "uint64", ">i4"]


def fitted(x, y=Y, **options):
    model = xpnn.Sequential(xpnn.Dense(8), xpnn.Activation("relu"), xpnn.Dense(2))
    xpnn.fit(model, (x, y), epochs=2, batch_size=10, seed=0, **options)
    return model


@pytest.fixture(scope="module")
def of_bytes():
    return fitted(PIXELS)


def test_the_kind_is_saved_and_shown(of_bytes, tmp_path, capsys):
    for x, kind in (
        (PIXELS, "bytes"), (PIXELS.astype("int32"), "integers"), (SCALED, "floats"),
        (PIXELS > 9, "integers"),
    ):  # fmt: skip
        model = fitted(x)
        xpnn.save(model, tmp_path / "m")
        assert xpnn.load(tmp_path / "m").task.input_kind == model.task.input_kind == kind
    xpnn.save(of_bytes, tmp_path / "m")
    assert run("show", tmp_path / "m") == 0
    assert re.search("trained on +bytes, pixels that are divided by 255", capsys.readouterr().out)


@pytest.mark.parametrize("dtype", OTHER_DTYPES)
def test_the_same_values_mean_the_same_in_every_integer_dtype(of_bytes, dtype):
    values = PIXELS.astype(dtype)
    expected = xpnn.predict_proba(of_bytes, SCALED)
    assert (xpnn.predict_proba(of_bytes, PIXELS) == expected).all()
    assert (xpnn.predict_proba(of_bytes, values) == expected).all()
    assert xpnn.evaluate(of_bytes, (values, Y)) == xpnn.evaluate(of_bytes, (PIXELS, Y))
    history = [
        xpnn.fit(fitted(PIXELS), (PIXELS, Y), validation=(x, Y), epochs=1, seed=0)
        for x in (PIXELS, values)
    ]
    assert history[0].column("test_loss") == history[1].column("test_loss")

    plain = fitted(values)
    np.testing.assert_array_equal(
        xpnn.predict_proba(plain, PIXELS), xpnn.predict_proba(plain, PIXELS.astype("float64"))
    )


def test_truth_values_as_bytes_are_learned_by_integers():
    truths = RNG.integers(0, 2, (400, 4)).astype(np.uint8)
    y = truths[:, 0] ^ truths[:, 1]
    options = {"optimizer": xpnn.Adam(0.02), "seed": 0, "epochs": 60, "batch_size": 20}
    with pytest.warns(DataWarning, match=r"none is larger than 1; if they are plain numbers"):
        fitted(truths[:60], y[:60].astype(np.int64))
    model = xpnn.Sequential(xpnn.Dense(16), xpnn.Activation("relu"), xpnn.Dense(2))
    xpnn.fit(model, (truths.astype("int16"), y.astype(np.int64)), **options)
    # bytes of the same values, afterwards
    assert xpnn.evaluate(model, (truths, y.astype(np.int64))).accuracy == 1.0


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (PIXELS.astype("float32"), r"^x must be bytes, or bytes / 255, .*, got \d+.0 in row 0"),
        (PIXELS.astype("float64") - 128, r"^x must be bytes, or bytes / 255"),
        (PIXELS.astype("int16") + 1, r"^x must be integers from 0 to 255, .* got 256"),
        (PIXELS.astype("int16") - 1, r"^x must be integers from 0 to 255, .* got -1"),
        (PIXELS > 127, r"^x must be bytes, or bytes / 255, .* got truth values; if True is white"),
        ((PIXELS > 127).tolist(), r"^x must be bytes, or bytes / 255, .* got truth values"),
    ],
)
def test_values_that_are_no_pixels_are_refused(of_bytes, x, message):
    with pytest.raises(DataError, match=message):
        xpnn.predict(of_bytes, x)
    with pytest.raises(DataError, match=message.replace("x must", "data.x must")):
        xpnn.evaluate(of_bytes, (x, Y))
    with pytest.raises(DataError, match=message.replace("x must", "train.x must")):
        xpnn.fit(fitted(PIXELS), (x, Y), epochs=1)


def test_bytes_are_refused_where_floats_were_trained_on():
    model = fitted(SCALED)
    with pytest.raises(DataError, match=r"^x must be floats, .* and not bytes, got \d+ in row 0"):
        xpnn.predict(model, PIXELS)
    # truth values are the same numbers
    few = (PIXELS > 127).astype(np.uint8)
    np.testing.assert_array_equal(xpnn.predict(model, few), xpnn.predict(model, few * 1.0))


@pytest.mark.parametrize("library", ["torch", "jax", "strict", "cupy"])
def test_the_same_holds_for_a_librarys_own_arrays(library):
    backend = open_backend(library, "float32")
    model = fitted(PIXELS, backend=backend)
    with backend.scope():
        put = backend.asarray
        expected = backend.to_numpy(xpnn.predict_proba(model, put(PIXELS)))
        for x in (PIXELS.astype("int32"), SCALED):
            np.testing.assert_array_equal(
                backend.to_numpy(xpnn.predict_proba(model, put(x))), expected
            )
        with pytest.raises(DataError, match=r"^x must be bytes, or bytes / 255"):
            xpnn.predict(model, put(PIXELS.astype("float32")))
        with pytest.raises(DataError, match=r"^x must be integers from 0 to 255"):
            xpnn.predict(model, put(PIXELS.astype("int32") - 9))


def test_a_data_frames_columns_are_no_pixels():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(PIXELS)
    model = fitted(frame)
    assert model.task.input_kind == "integers"
    np.testing.assert_array_equal(
        xpnn.predict_proba(model, frame), xpnn.predict_proba(model, PIXELS.astype("int64"))
    )


def test_a_file_of_before_says_nothing_of_the_kind(of_bytes):
    of_bytes.task = xpnn.task.Task(classes=2)
    assert (xpnn.predict(of_bytes, PIXELS) == xpnn.predict(of_bytes, SCALED)).all()


def test_small_bytes_get_a_line_at_the_command_line(here, capsys):
    np.savez(here / "d.npz", x=PIXELS // 64, y=Y)
    assert run("train", "d.npz", "--epochs", 1, "--quiet") == 0
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "none is larger than 3" in err
