"""Arrays that aren't plain ones: none may lose its mask, unit or layout without a word."""

import contextlib
import warnings
from fractions import Fraction

import numpy as np
import pytest

import xpnn
from tests.helpers import open_backend
from xpnn.errors import ArgumentError, DataError

X = np.random.default_rng(4).normal(size=(30, 3))
Y = (X[:, 0] > 0).astype(np.int64)
MASKED = np.ma.masked_less(X, -1.0)
WEIGHTS = np.ma.masked_less(np.linspace(0, 1, 30), 0.2)
MASKED_Y = np.ma.array(Y, mask=Y > 0)


class Metres(np.ndarray):
    """Numbers with a unit."""


def model_of(**options):
    return xpnn.Sequential(xpnn.Dense(2)), {"epochs": 1, "seed": 0, **options}


def fitted(x=X, y=Y, **options):
    model, settings = model_of(**options)
    xpnn.fit(model, (x, y), **settings)
    return model


def batches(x):
    return [(x[:20], Y[:20]), (x[20:], Y[20:])] * 2


WAYS = {
    "train.x": lambda x: fitted(x),
    "validation.x": lambda x: fitted(validation=(x, Y)),
    "x of batch 0 of train": lambda x: xpnn.fit(model_of()[0], batches(x), epochs=1),
    "x": lambda x: xpnn.predict(fitted(), x),
    "data.x": lambda x: xpnn.evaluate(fitted(), (x, Y)),
    "data": lambda x: xpnn.datasets.split((x, Y), 0.2, seed=0),
    "the array": lambda x: xpnn.StandardScaler().fit(x),
}


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize(
    ("x", "kind"),
    [
        (MASKED, "MaskedArray, whose mask would be lost"),
        (MASKED.astype("float32").T.copy().T, "MaskedArray"),
        (X.view(Metres), "Metres"),
    ],
    ids=["masked", "masked float32", "unit"],
)
def test_arrays_with_a_meaning_beside_their_numbers_are_refused(name, x, kind):
    with pytest.raises(ArgumentError, match=rf"^{name}\S* must be a plain array, got a {kind}"):
        WAYS[name](x)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("train.y", {"y": MASKED_Y}),
        ("sample_weight", {"sample_weight": WEIGHTS}),
        ("labels", {"labels": np.ma.array([0, 1], mask=[0, 1])}),
        ("train.x", {"x": list(MASKED)}),
    ],
)
def test_so_are_masked_targets_weights_and_lists(name, options):
    with pytest.raises(ArgumentError, match=f"^{name} must be a plain array, got a MaskedArray"):
        fitted(**options)


def test_so_are_they_by_the_estimators():
    estimators = pytest.importorskip("xpnn.estimators")
    new = lambda: estimators.MLPClassifier(max_iter=1)  # noqa: E731
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        known = new().fit(X, Y)
    for name, call in {
        "X": lambda: new().fit(MASKED, Y),
        "y": lambda: new().fit(X, MASKED_Y),
        "sample_weight": lambda: new().fit(X, Y, sample_weight=WEIGHTS),
        "classes": lambda: new().partial_fit(X, Y, classes=np.ma.array([0, 1], mask=[0, 1])),
    }.items():
        with pytest.raises(ArgumentError, match=f"^{name} must be a plain array"):
            call()
    for call in (
        lambda: known.predict(MASKED),
        lambda: known.predict_proba(MASKED),
        lambda: known.score(X, MASKED_Y),
        lambda: new().partial_fit(MASKED, Y, classes=[0, 1]),
    ):
        with pytest.raises(ArgumentError, match="must be a plain array"):
            call()


def odd_tensors(torch):
    x = torch.asarray(X)
    return {
        "bfloat16": x.bfloat16(),
        "complex128": x + 0j,
        "sparse": x.to_sparse(),
        "sparse rows": x.to_sparse_csr(),
        "quantized": torch.quantize_per_tensor(x.float(), 0.1, 0, torch.qint8),
        "meta": x.to("meta"),
    }


# PyTorch warns that some of these may change
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_odd_tensors_get_an_error_of_ours():
    torch = pytest.importorskip("torch")
    own = fitted(backend=open_backend("torch", "float32"))
    for kind, x in odd_tensors(torch).items():
        for call in (fitted, lambda y: fitted(X, y), lambda x: xpnn.predict(fitted(), x)):
            with pytest.raises((ArgumentError, DataError), match="array"):
                call(x)
        if kind != "bfloat16":
            with pytest.raises(DataError, match=r"^x must be"):
                xpnn.predict(own, x)
    with pytest.raises(DataError, match="got csr_array"):
        fitted(pytest.importorskip("scipy.sparse").csr_array(X))


def test_a_model_on_jax_refuses_complex_numbers():
    jax = pytest.importorskip("jax")
    own = fitted(backend=open_backend("jax", "float32"))
    with pytest.raises(DataError, match="x must be an array of numbers, got dtype complex64"):
        xpnn.predict(own, jax.numpy.asarray(X) + 0j)


def test_what_a_tensor_holds_lazily_is_read():
    torch = pytest.importorskip("torch")
    pairs = np.stack([X, -X], axis=-1)
    negative = torch.view_as_complex(torch.asarray(pairs)).conj().imag
    np.testing.assert_array_equal(xpnn.predict(fitted(), negative), xpnn.predict(fitted(), X))


def test_masks_are_found_in_an_array_that_dask_computes_later():
    array = pytest.importorskip("dask.array")
    known = fitted()
    np.testing.assert_array_equal(
        xpnn.predict(known, array.from_array(X, chunks=7)), xpnn.predict(known, X)
    )
    with pytest.raises(ArgumentError, match="must be a plain array, got a MaskedArray"):
        xpnn.predict(known, array.ma.masked_less(array.from_array(X, chunks=7), -1.0))


@pytest.mark.parametrize(
    ("x", "found"),
    [
        (X + 1j, "dtype complex128"),
        (X.astype(str), "dtype <U32"),
        (np.ones((3, 2), "m8[s]"), r"dtype timedelta64\[s\]"),
        (X.astype(object), "dtype object"),
        ({"a": X}, "dict"),
    ],
)
def test_a_normalizer_is_fitted_to_numbers_only(x, found):
    with pytest.raises(DataError, match=f"^x must be an array of numbers, got {found}$"):
        xpnn.StandardScaler().fit(x)


def test_cells_that_are_all_numbers_are_those_numbers():
    x = np.arange(12.0).reshape(6, 2) % 5
    model = xpnn.Sequential(xpnn.Dense(2))
    xpnn.fit(model, (x, [0, 1] * 3), epochs=1, seed=1, verbose=False)
    expected = xpnn.predict_proba(model, x)
    tables = [x.astype(object), np.vectorize(Fraction, otypes=[object])(x)]
    with contextlib.suppress(ImportError):
        import pandas

        tables += [pandas.DataFrame(x).astype(kind) for kind in ("Int64", "Float64")]
    for table in tables:
        np.testing.assert_array_equal(xpnn.predict_proba(model, table), expected)
    for wrong in (10**400, 2**53 + 1, "a", None, np.ones(2)):
        table = x.astype(object)
        table[3, 1] = wrong
        with pytest.raises(DataError, match=r"row 3, column '?1'?"):
            xpnn.predict_proba(model, table)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested", "ignore:Maximum iterations")
def test_tensors_that_have_no_values_get_an_error_of_ours_from_estimators():
    torch = pytest.importorskip("torch")
    estimators = pytest.importorskip("xpnn.estimators")
    x, y = np.arange(12.0).reshape(6, 2), [0, 1] * 3
    nested = torch.nested.nested_tensor([torch.ones(2), torch.ones(2)])
    for wrong in (torch.ones((6, 2), device="meta"), torch.ones((6, 2)).to_sparse(), nested):
        for use in ("fit", "partial_fit"):
            model = estimators.MLPClassifier(max_iter=1)
            with pytest.raises(ArgumentError, match=r"^X is not an array that NumPy can hold"):
                getattr(model, use)(wrong, y)
        with pytest.raises(ArgumentError, match=r"^X is not an array that NumPy can hold"):
            estimators.MLPClassifier(max_iter=1).fit(x, y).predict(wrong)
        with pytest.raises(ArgumentError, match=r"x is not an array that NumPy can hold"):
            xpnn.fit(xpnn.Sequential(xpnn.Dense(2)), (wrong, y), epochs=0, verbose=False)


def test_columns_that_are_no_numbers_may_have_numbers_as_names():
    pandas = pytest.importorskip("pandas")
    estimators = pytest.importorskip("xpnn.estimators")
    y = [0, 1] * 3
    twice = pandas.DataFrame(np.ones((6, 2)), columns=["a", "a"])
    with pytest.raises(DataError, match="different names, got 'a' twice"):
        estimators.MLPClassifier(max_iter=1).fit(twice, y)
    with pytest.raises(DataError, match="not text as in column 1;"):
        estimators.MLPClassifier(max_iter=1).fit(pandas.DataFrame({0: y, 1: ["a", "b"] * 3}), y)
