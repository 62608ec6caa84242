"""`evaluate`, `predict` and `predict_proba`."""

import array_api_compat
import numpy as np
import pytest

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
