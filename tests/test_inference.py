"""`evaluate`, `predict` and `predict_proba`."""

import itertools

import array_api_compat
import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

import xpnn
from tests.helpers import ONE_HOT, X, Y, fit_network, open_backend, tanh_network
from xpnn.errors import ArgumentError, DataError
from xpnn.training import loop


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rows", [0, 1, 23])
def test_predictions(library, dtype, rows, monkeypatch):
    monkeypatch.setattr(loop, "EVALUATION_ROWS", 10)
    backend = open_backend(library, dtype)
    model = tanh_network()
    fit_network(model, X, Y, epochs=0, backend=backend)
    (w1, b1), _, (w2, b2) = (tuple(layer.values()) for layer in model.host_parameters())
    x = X[:rows].astype(dtype)
    u = np.tanh(x.astype(float) @ w1 + b1) @ w2 + b2
    p = np.exp(u) / np.exp(u).sum(axis=1, keepdims=True)
    tolerance = {"float32": 5e-6, "float64": 1e-13}[dtype]

    host = xpnn.predict_proba(model, x)
    labels = xpnn.predict(model, x)
    assert type(host) is type(labels) is np.ndarray
    assert (host.shape, host.dtype) == ((rows, 3), dtype)
    assert labels.dtype.kind == "i"
    np.testing.assert_allclose(host, p, rtol=tolerance, atol=0)
    np.testing.assert_array_equal(labels, u.argmax(axis=1))

    given = backend.asarray(x)
    for own, wanted in (
        (xpnn.predict_proba(model, given), host),
        (xpnn.predict(model, given), labels),
    ):
        assert backend.owns(own)
        assert array_api_compat.device(own) == backend.device
        np.testing.assert_allclose(backend.to_numpy(own), wanted, rtol=tolerance, atol=0)
    # a list, integers and another library's arrays are answered with NumPy's
    assert type(xpnn.predict(model, [[1, 2, 3]])) is np.ndarray


@pytest.mark.parametrize("n", [1, 10, 23])
def test_evaluation_does_not_depend_on_how_it_is_cut(n, monkeypatch):
    model = tanh_network()
    history = fit_network(model, validation=(X[:n], Y[:n]))
    monkeypatch.setattr(loop, "EVALUATION_ROWS", 10)
    found = xpnn.evaluate(model, (X[:n], Y[:n]))
    np.testing.assert_allclose(found, history[-1][3:5], rtol=1e-13, atol=0)
    other = xpnn.evaluate(model, (X, Y), loss=xpnn.MeanSquaredError())
    (w1, b1), _, (w2, b2) = (tuple(layer.values()) for layer in model.host_parameters())
    u = np.tanh(X @ w1 + b1) @ w2 + b2
    np.testing.assert_allclose(other.loss, np.mean((u - ONE_HOT) ** 2), rtol=1e-12)
    assert model.task.loss == xpnn.CrossEntropy()


class Centred(xpnn.Layer):
    """A layer that mixes the rows of a batch."""

    kind = "centred"

    def forward(self, parameters, x, *, xp):
        return x - xp.mean(x, axis=0, keepdims=True), lambda dy, input_gradient: (dy, {})


def test_jax_compiles_for_few_numbers_of_rows():
    open_backend("jax", "float32")
    import jax

    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: (
            compiled.append(event)
            if event == "/jax/core/compile/backend_compile_duration"
            else None
        )
    )
    x = np.random.RandomState(0).random_sample((300, 11)).astype("float32")
    y = np.arange(300) % 3
    model = xpnn.Sequential(
        xpnn.Dense(12), xpnn.BatchNorm(), xpnn.Activation("swish"), xpnn.Dense(3)
    )
    xpnn.fit(model, x, y, epochs=1, backend="jax", seed=1)
    sizes = [1, 3, 8, 9, 11, 16, 17, 30, 33, 60, 70, 99, 128, 129, 200, 257, 300]
    compiled.clear()
    found = [xpnn.predict_proba(model, x[:size]) for size in sizes]
    assert 1 <= len(compiled) <= 7  # 8, 16, 32, 64, 128, 256, 512
    # rows that the same program computes don't depend on the others
    for one, other in itertools.pairwise(found):
        np.testing.assert_allclose(other[: len(one)], one, rtol=2e-6)
        if len({max(8, 1 << (len(rows) - 1).bit_length()) for rows in (one, other)}) == 1:
            assert np.array_equal(other[: len(one)], one)

    compiled.clear()
    evaluations = [xpnn.evaluate(model, x[:size], y[:size]) for size in sizes]
    assert 1 <= len(compiled) <= 8  # and one that makes a scalar
    for size, proba, evaluation in zip(sizes, found, evaluations, strict=True):
        own = proba[np.arange(size), y[:size]].astype(float)
        np.testing.assert_allclose(evaluation.loss, -np.log(own).mean(), rtol=1e-6)
        assert evaluation.accuracy == np.mean(proba.argmax(axis=1) == y[:size])

    compiled.clear()
    asked = "balanced_accuracy,adjusted_rand_score"  # from sums; from predictions without weights
    measured = [xpnn.evaluate(model, x[:size], y[:size], metrics=asked) for size in sizes]
    assert 1 <= len(compiled) <= 8
    for size, proba, evaluation, own in zip(sizes, found, evaluations, measured, strict=True):
        assert own[:2] == evaluation[:2]
        right = proba.argmax(axis=1) == y[:size]
        each = [right[y[:size] == k].mean() for k in np.unique(y[:size])]
        np.testing.assert_allclose(own.metrics["balanced_accuracy"], np.mean(each), rtol=1e-12)
        index = adjusted_rand_score(y[:size], proba.argmax(axis=1))
        np.testing.assert_allclose(own.metrics["adjusted_rand_score"], index, rtol=1e-12)
    for size in (20, 21):
        history = xpnn.fit(
            model, x, y, validation=(x[:size], y[:size]), epochs=1, backend="jax", seed=1
        )
        last = xpnn.evaluate(model, x[:size], y[:size])
        assert history[-1][3:5] == last


def test_a_network_that_may_mix_rows_is_given_no_others():
    open_backend("jax", "float32")
    x, y = X[:21].astype("float32"), Y[:21]
    model = xpnn.Sequential(xpnn.Dense(3), Centred())
    xpnn.fit(model, x, y, epochs=0, backend="jax", seed=1)
    (own, _) = model.host_parameters()
    u = x @ own["weight"] + own["bias"]
    u -= u.mean(axis=0)
    p = np.exp(u) / np.exp(u).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(xpnn.predict_proba(model, x), p, rtol=1e-5)
    loss = -np.log(p[np.arange(21), y]).mean()
    np.testing.assert_allclose(xpnn.evaluate(model, x, y).loss, loss, rtol=1e-5)


def test_an_untrained_model_says_so():
    for call in (
        lambda: xpnn.predict(tanh_network(), X),
        lambda: xpnn.predict_proba(tanh_network(), X),
        lambda: xpnn.evaluate(tanh_network(), (X, Y)),
    ):
        with pytest.raises(ArgumentError) as error:
            call()
        assert str(error.value) == "model has no parameters yet; train it with xpnn.fit first"


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda m: xpnn.predict(m, X[0]), DataError,
         "x must have shape (n, features), got shape (3,)"),
        (lambda m: xpnn.predict_proba(m, X[:, :2]), DataError,
         "x must have shape (n, 3), got (23, 2)"),
        (lambda m: xpnn.predict(m, [["a"] * 3]), DataError,
         "x must be an array of numbers, got dtype <U1"),
        (lambda m: xpnn.predict(m, [[0, np.inf, 0]]), DataError,
         "x must be finite, got inf in row 0, column 1"),
        (lambda m: xpnn.evaluate(m, (X[:0], Y[:0])), DataError,
         "data.x must hold at least one value, got shape (0, 3)"),
        (lambda m: xpnn.evaluate(m, X), ArgumentError,
         "data must be a pair of arrays (x, y), got ndarray"),
        (lambda m: xpnn.evaluate(m, (X, Y), loss=3), ArgumentError,
         "loss must be such as 'cross_entropy' or CrossEntropy(), got 3"),
        (lambda m: xpnn.evaluate(m, (X[:, :2], Y)), DataError,
         "data.x must have the model's 3 features, got 2"),
        (lambda m: xpnn.evaluate(m, (X, Y + 1)), DataError,
         "data.y must hold labels from 0 to 2 for the model's outputs, "
         f"got 3 in row {int(np.argmax(Y == 2))}"),
    ],
)  # fmt: skip
def test_data_that_a_trained_model_refuses(call, kind, message):
    model = tanh_network()
    fit_network(model, epochs=0)
    with pytest.raises(kind) as error:
        call(model)
    assert str(error.value) == message


def test_predict_checks_a_librarys_own_arrays_shape(library):
    backend = open_backend(library)
    model = tanh_network()
    fit_network(model, epochs=0, backend=backend)
    with pytest.raises(DataError, match=r"x must have shape \(n, "):
        xpnn.predict(model, backend.asarray(X[:, :2]))


@pytest.mark.parametrize("call", [xpnn.predict, xpnn.predict_proba])
def test_predict_refuses_nan_alike_on_every_backend(library, call):
    backend = open_backend(library)
    model = tanh_network()
    fit_network(model, epochs=0, backend=backend)
    with pytest.raises(DataError, match="x must be finite, got nan in row 1"):
        call(model, np.where(X[1, 0] == X, np.nan, X))


def test_one_logit_says_1_where_it_is_positive():
    outputs = np.array([[0.3], [-0.3], [0.0], [0.6]])
    assert list(xpnn.losses.labels(outputs)) == [1, 0, 0, 1]
