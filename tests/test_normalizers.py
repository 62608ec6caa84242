"""Normalizers: their figures against exact rationals, and a model that has them."""

import math
from fractions import Fraction

import numpy as np
import pytest

import xpnn
from tests.helpers import BACKEND_NAMES, open_backend
from xpnn.backends import namespace, to_numpy
from xpnn.datasets import Dataset
from xpnn.errors import ArgumentError, DataError
from xpnn.normalizers import NORMALIZERS, as_normalizer
from xpnn.task import Task

RNG = np.random.RandomState(0)
# columns of large and small numbers, one of them far from 0, one constant
X = RNG.randn(101, 5) * [1, 1e-3, 1e5, 10, 0] + [0, 1e3, 0, -4, 0.1]


def exact(column):
    """Mean and standard deviation, rounded once."""
    numbers = [Fraction(float(value)) for value in column]
    mean = sum(numbers) / len(numbers)
    variance = sum((n - mean) ** 2 for n in numbers) / len(numbers)
    return float(mean), math.sqrt(variance)


def test_standard_against_rationals():
    fitted = xpnn.StandardScaler().fit(X)
    expected = np.array([exact(column) for column in X.T])
    # additions by halves of 101 numbers: 7 roundings, of sums that are at most n times the largest
    np.testing.assert_allclose(
        fitted.offset[:4], expected[:4, 0], rtol=0, atol=8 * 2**-53 * abs(X).max(axis=0)[:4].max()
    )
    # the mean's error adds its square; the sum of squares, division and root, 10 roundings
    np.testing.assert_allclose(fitted.scale[:4], expected[:4, 1], rtol=1e-14, atol=0)
    z = fitted.apply(X)
    np.testing.assert_allclose(z[:, :4].std(axis=0), 1, rtol=1e-12, atol=0)
    # exactly, though the sum of 101 tenths divided by 101 isn't a tenth
    np.testing.assert_array_equal(z[:, 4], 0.0)
    assert (fitted.offset[4], fitted.scale[4]) == (0.1, 1.0)


def test_min_max():
    fitted = xpnn.MinMaxScaler().fit(X)
    z = fitted.apply(X)
    np.testing.assert_array_equal(z.min(axis=0), 0.0)
    np.testing.assert_array_equal(z.max(axis=0), [1, 1, 1, 1, 0])
    np.testing.assert_array_equal(fitted.offset, X.min(axis=0))


@pytest.mark.parametrize("name", NORMALIZERS)
def test_one_row_and_no_rows(name):
    np.testing.assert_array_equal(NORMALIZERS[name]().fit(X[:1]).apply(X[:1]), np.zeros((1, 5)))
    with pytest.raises(DataError, match=r"x must have shape \(n, features\), got shape \(5,\)"):
        NORMALIZERS[name]().fit(X[0])
    with pytest.raises(DataError, match="x must hold at least one row"):
        NORMALIZERS[name]().fit(X[:0])


@pytest.mark.parametrize("name", NORMALIZERS)
def test_numbers_that_are_too_large(name):
    x = np.array([[1.0, 1e308], [2.0, -1e308]])
    with pytest.raises(
        DataError, match=r"x, column 1: values from -1.* to .* can't be normalized in"
    ):
        NORMALIZERS[name]().fit(x)
    with pytest.raises(DataError, match=r"x, column 1: .* integers below 2\*\*53 .* larger ones"):
        NORMALIZERS[name]().fit(np.array([[1, 2**53 + 1], [2, 0]]))


@pytest.mark.parametrize("name", NORMALIZERS)
def test_the_same_bits_of_every_dtype_and_from_files(name, tmp_path):
    pixels = RNG.randint(0, 256, (20000, 40)).astype(np.uint8)
    fitted = NORMALIZERS[name]().fit(pixels)
    single = (pixels / 255).astype(np.float32)
    np.save(tmp_path / "x.npy", single)
    for same in (single, single.astype(np.float64), np.load(tmp_path / "x.npy", mmap_mode="r")):
        other = NORMALIZERS[name]().fit(same)
        np.testing.assert_array_equal(other.offset, fitted.offset, strict=True)
        np.testing.assert_array_equal(other.scale, fitted.scale, strict=True)


@pytest.mark.parametrize("name", NORMALIZERS)
@pytest.mark.parametrize("reproducible", [False, True])
def test_the_same_bits_on_every_backend(name, library, reproducible):
    fitted = NORMALIZERS[name]().fit(X)
    inner = open_backend(library)
    place = xpnn.backends.ReproducibleBackend(inner) if reproducible else inner
    with place.scope():
        x = place.asarray(X.copy())
        z = fitted.apply(x)
        np.testing.assert_array_equal(to_numpy(x), X)
        assert place.owns(z)
        assert namespace(z).isdtype(z.dtype, "real floating")
        np.testing.assert_array_equal(to_numpy(z), (X - fitted.offset) / fitted.scale)
        kept = np.array(to_numpy(z))
        back = to_numpy(fitted.invert(z))
        np.testing.assert_array_equal(to_numpy(z), kept)
        np.testing.assert_array_equal(back, to_numpy(z) * fitted.scale + fitted.offset)
    # two roundings of each the quotient, the product and the sum
    np.testing.assert_allclose(back, X, rtol=0, atol=4 * 2**-53 * abs(X).max(axis=0).max())


@pytest.mark.parametrize(
    ("offset", "scale", "message"),
    [
        ([1.0], None, "must both be given"),
        ([1.0], [1.0, 2.0], "must have shape"),
        ([[1.0]], [[1.0]], "must have shape"),
        ([np.nan], [1.0], "must be finite"),
        ([1.0], [0.0], "scale not 0"),
    ],
)
def test_figures_that_can_not_be_used(offset, scale, message):
    with pytest.raises(ArgumentError, match=message):
        xpnn.StandardScaler(offset, scale)


def test_what_is_a_normalizer():
    assert as_normalizer("n", None) is None
    assert isinstance(as_normalizer("n", "minmax"), xpnn.MinMaxScaler)
    with pytest.raises(ArgumentError, match="unknown normalizer 'standart'; did you mean"):
        as_normalizer("n", "standart")
    with pytest.raises(ArgumentError, match="n must be one of standard, minmax or an instance"):
        as_normalizer("n", 3)
    with pytest.raises(ArgumentError, match=r"StandardScaler\(\) must be fitted first"):
        xpnn.StandardScaler().apply(X)


LABELS = RNG.randint(0, 3, 101)


def network(outputs=3):
    return xpnn.Sequential(xpnn.Dense(6), xpnn.Activation("tanh"), xpnn.Dense(outputs))


def trained(x, y, outputs=3, **options):
    model = network(outputs)
    options = {"epochs": 2, "batch_size": 16, "seed": 1, **options}
    return model, xpnn.fit(model, (x, y), **options)


@pytest.mark.parametrize("library", BACKEND_NAMES)
def test_a_model_with_one_is_a_model_of_normalized_data(library, dtype):
    """The same weights as if the data had been normalized before, in float64."""
    place = open_backend(library, dtype)
    fitted = xpnn.StandardScaler().fit(X)
    z = fitted.apply(X).astype(dtype)
    model, history = trained(
        X, LABELS, normalizer="standard", backend=place, validation=(X, LABELS)
    )
    plain, expected = trained(z, LABELS, backend=place, validation=(z, LABELS))
    assert model.sha256() == plain.sha256()
    assert [row[:5] for row in history] == [row[:5] for row in expected]
    assert xpnn.evaluate(model, (X, LABELS)) == xpnn.evaluate(plain, (z, LABELS))
    np.testing.assert_array_equal(
        xpnn.predict_proba(model, X), xpnn.predict_proba(plain, z), strict=True
    )
    # an array of the library's own is normalized there, before it is rounded
    with place.scope():
        own, expected = place.asarray(X), place.asarray(z)
    np.testing.assert_array_equal(
        to_numpy(xpnn.predict_proba(model, own)), to_numpy(xpnn.predict_proba(plain, expected))
    )


def test_digits_that_float32_would_lose_are_kept():
    x = np.concatenate([np.zeros((20, 1)), np.ones((20, 1))]) * 1e-3 + 1e6
    y = np.repeat([0, 1], 20)
    assert len(np.unique(x.astype(np.float32))) == 1
    model, history = trained(
        x, y, outputs=2, epochs=30, normalizer="standard", optimizer=xpnn.SGD(0.5)
    )
    assert history[-1].train_accuracy == 1.0
    np.testing.assert_array_equal(xpnn.predict(model, x), y)


def test_the_training_part_alone_is_looked_at():
    model, _ = trained(X, LABELS, normalizer="minmax", validation=(100 + X, LABELS))
    np.testing.assert_array_equal(model.task.normalizer.offset, X.min(axis=0))


@pytest.mark.parametrize("name", NORMALIZERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_mapped_files_train_as_memory_does(name, dtype, tmp_path, monkeypatch):
    monkeypatch.setattr("xpnn.training.streams.CHUNK_BYTES", 2000)
    monkeypatch.setattr("xpnn._core.mapped.BLOCK_BYTES", 300)
    hashes = set()
    for x in (X, X.astype(np.float32).astype(np.float64)):
        np.save(tmp_path / "x.npy", x)
        runs = [
            trained(
                data, LABELS, normalizer=name, shuffle=False, backend=backend, dtype=dtype,
                reproducible=True,
            )
            for data in (x, np.load(tmp_path / "x.npy", mmap_mode="r"))
            for backend in ("numpy", "strict")
        ]  # fmt: skip
        assert len({model.sha256() for model, _ in runs}) == 1
        hashes.add(runs[0][0].sha256())
        predictions = [xpnn.predict_proba(model, x) for model, _ in runs]
        for other in predictions[1:]:
            np.testing.assert_array_equal(other, predictions[0])
    assert len(hashes) == 2


def test_mapped_pixels_are_normalized(tmp_path, monkeypatch):
    monkeypatch.setattr("xpnn.training.streams.CHUNK_BYTES", 2000)
    pixels = RNG.randint(0, 256, (101, 30)).astype(np.uint8)
    np.save(tmp_path / "x.npy", pixels)
    options = {"normalizer": "standard", "shuffle": False, "reproducible": True}
    hashes = {
        trained(x, LABELS, **options)[0].sha256()
        for x in (pixels, (pixels / 255).astype(np.float32), np.load(tmp_path / "x.npy", "r"))
    }
    assert len(hashes) == 1


def test_values_of_a_regression_are_turned_back(backend):
    y = 1e7 + 1e3 * X[:, 0]
    options = {"loss": xpnn.MeanSquaredError(), "epochs": 40, "optimizer": xpnn.SGD(0.05)}
    model, history = trained(
        X, y, 1, normalizer="standard", target_normalizer="standard", backend=backend, **options
    )
    scaled = model.task.target_normalizer.apply(y[:, None])[:, 0]
    values = xpnn.predict(model, X)
    assert values.dtype == np.float64
    plain = xpnn.predict(network_of(model), model.task.normalizer.apply(X))[:, 0]
    expected = plain.astype(np.float64) * model.task.target_normalizer.scale[0]
    np.testing.assert_array_equal(values, expected + model.task.target_normalizer.offset[0])
    # the loss is that of normalized values: what of the variance isn't explained
    loss = xpnn.evaluate(model, (X, y)).loss
    ours = 1 - xpnn.metrics.r2_score(y, values)
    # of float32 sums of 101 squares, and of float32 outputs
    assert loss == pytest.approx(ours, rel={"float32": 1e-5, "float64": 1e-10}[backend.dtype_name])
    assert loss == pytest.approx(((plain - scaled) ** 2).mean(), rel=1e-5)
    assert history[-1].train_loss < 0.5


def network_of(model):
    """The same network without its normalizers."""
    plain = network(1)
    plain.place(model.host_parameters(), inputs=5, backend=model.backend)
    plain.task = Task(loss=model.task.loss)
    return plain


def test_a_trained_model_keeps_its_own():
    model, _ = trained(X, LABELS, normalizer="standard")
    before = model.task.normalizer
    for again in ({}, {"normalizer": "standard"}):
        xpnn.fit(model, (2 * X, LABELS), epochs=1, seed=1, **again)
        assert model.task.normalizer is before
    with pytest.raises(ArgumentError, match=r"trained already must be its own, StandardScaler"):
        xpnn.fit(model, (X, LABELS), normalizer="minmax")
    plain, _ = trained(X, LABELS)
    with pytest.raises(ArgumentError, match="trained already must be its own, None"):
        xpnn.fit(plain, (X, LABELS), normalizer="minmax")


def test_a_fitted_one_is_taken_as_it_is():
    given = xpnn.MinMaxScaler(np.zeros(5), np.full(5, 2.0))
    assert trained(X, LABELS, normalizer=given)[0].task.normalizer is given
    with pytest.raises(ArgumentError, match="normalizer must have 5 columns, got 2"):
        trained(X, LABELS, normalizer=xpnn.MinMaxScaler([0.0, 0.0], [1.0, 1.0]))


def test_class_labels_are_not_normalized():
    with pytest.raises(ArgumentError, match=r"target_normalizer is for values, and train\.y"):
        trained(X, LABELS, target_normalizer="standard")


def test_nothing_changes_if_data_can_not_be_normalized():
    model = network()
    with pytest.raises(DataError, match=r"train\.x, column 0: values .* can't be normalized"):
        xpnn.fit(model, (np.full((4, 2), 1e308) * [[1], [-1], [1], [-1]], [0, 1, 2, 0]),
                 normalizer="standard")  # fmt: skip
    assert (model.parameters, model.task.normalizer) == (None, None)


def test_one_of_your_own(tmp_path, monkeypatch):
    class Decimal(xpnn.Normalizer):
        name = "decimal"

        def statistics(self, x):
            low, high = x.extremes()
            largest = np.maximum(abs(low), abs(high))
            return np.zeros_like(largest), 10.0 ** np.ceil(np.log10(largest))

    data = Dataset(X[:, :4], LABELS)
    model, _ = trained(*data, normalizer=Decimal())
    assert abs(model.task.normalizer.apply(data.x)).max() <= 1
    with pytest.raises(ArgumentError, match="must be registered in NORMALIZERS"):
        xpnn.save(model, tmp_path / "m")
    monkeypatch.setitem(NORMALIZERS._parts, "decimal", Decimal)
    xpnn.save(model, tmp_path / "m")
    assert isinstance(xpnn.load(tmp_path / "m").task.normalizer, Decimal)
