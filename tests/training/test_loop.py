"""`fit`: the loop against one written out by hand, and at its edges."""

import numpy as np
import pytest

import xpnn
from tests.helpers import (
    ONE_HOT,
    Recorder,
    X,
    Y,
    figures,
    fit_network,
    open_backend,
    parameters_of,
    tanh_network,
)


def by_hand(x, y, epochs, batch_size, seed, shuffle=True, lr=0.1):
    """Softmax regression by SGD, written out: the log without its times, and the weights."""
    rng = np.random.RandomState(seed)
    n, k = len(x), 3
    w, b = rng.randn(x.shape[1], k) * np.sqrt(2 / x.shape[1]), np.zeros(k)

    def look(rows):
        u = x[rows] @ w + b
        p = np.exp(u) / np.exp(u).sum(axis=1, keepdims=True)
        return p, (u.argmax(axis=1) == y[rows]).sum(), -np.log(p[range(len(rows)), y[rows]]).sum()

    def whole():
        _, hits, loss = look(np.arange(n))
        return hits / n, loss / n

    log = [(0, *whole(), *whole())]
    for epoch in range(1, epochs + 1):
        order = np.arange(n)
        if shuffle:
            rng.shuffle(order)
        hits = loss = 0
        for start in range(0, n, batch_size):
            rows = order[start : start + batch_size]
            p, hit, lost = look(rows)
            hits, loss = hits + hit, loss + lost
            d = (p - np.eye(k)[y[rows]]) / len(rows)
            w, b = w - lr * x[rows].T @ d, b - lr * d.sum(axis=0)
        log.append((epoch, hits / n, loss / n, *whole()))
    return np.array(log), np.concatenate([w.ravel(), b])


@pytest.mark.parametrize(
    ("n", "batch_size", "shuffle"),
    [(23, 5, True), (23, 5, False), (23, 100, True), (20, 5, True), (1, 1, True), (23, 1, False)],
    ids=["smaller last", "in order", "one batch", "whole batches", "one sample", "single samples"],
)
@pytest.mark.parametrize("callbacks", [(), (xpnn.Callback(),)], ids=["bare", "callback"])
def test_fit_is_the_loop_written_out(n, batch_size, shuffle, callbacks):
    model = xpnn.Sequential(xpnn.Dense(3, weight="he_normal"))
    x, y = X[:n], Y[:n]
    history = fit_network(
        model, x, y, validation=(x, y), epochs=3, batch_size=batch_size, shuffle=shuffle,
        callbacks=callbacks,
    )  # fmt: skip
    log, w = by_hand(x, y, 3, batch_size, 7, shuffle)
    np.testing.assert_allclose(figures(history), log, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(parameters_of(model), w, rtol=1e-12, atol=1e-14)


def test_every_backend_takes_the_same_steps(library):
    model = xpnn.Sequential(xpnn.Dense(3, weight="he_normal"))
    history = fit_network(model, validation=(X, Y), epochs=3, backend=open_backend(library))
    log, w = by_hand(X, Y, 3, 5, 7)
    np.testing.assert_allclose(figures(history), log, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(parameters_of(model), w, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("x", "y", "settings"),
    [
        (X[:, :1], Y, {}),
        (X, np.minimum(Y, 1), {}),
        (X, ONE_HOT, {}),
        (X, 0.9 * ONE_HOT + 0.1 / 3, {}),
        (X, ONE_HOT.astype(np.int32), {}),
        (X.astype(np.float32), Y.astype(np.uint8), {"dtype": "float32"}),
        (np.abs(10 * X).astype(np.uint8), Y, {"dtype": "float32"}),
        (X, ONE_HOT, {"loss": xpnn.BinaryCrossEntropy()}),
        (X[:1], Y[:1], {}),
    ],
    ids=[
        "one feature", "no such class", "one-hot", "soft", "integer one-hot", "float32", "bytes",
        "binary", "one sample",
    ],
)  # fmt: skip
# bytes that are all small may be no pixels, and get a warning
@pytest.mark.filterwarnings("ignore:train.x holds unsigned bytes")
def test_shapes_of_data_that_train(x, y, settings):
    model = tanh_network()
    history = fit_network(
        model, x, y, validation=(x, y), epochs=40, optimizer=xpnn.SGD(0.05), **settings
    )
    assert np.isfinite(figures(history)).all()
    assert history[-1].test_loss < history[0].test_loss
    assert all(0 <= value <= 1 for value in history.column("test_accuracy"))
    assert xpnn.predict_proba(model, x).shape == (len(x), 3)


def test_one_hot_targets_are_the_labels():
    histories = [fit_network(tanh_network(), y=y, validation=(X, y)) for y in (Y, ONE_HOT)]
    np.testing.assert_allclose(*map(figures, histories), rtol=1e-13, atol=0)


@pytest.mark.parametrize("shape", [(23,), (23, 1), (23, 2)])
def test_regression_has_no_accuracy(shape):
    y = np.resize(X[:, 0] - 0.5 * X[:, 1], shape)
    model = tanh_network(1 if len(shape) == 1 else shape[1])
    loss = xpnn.MeanSquaredError()
    history = fit_network(model, y=y, validation=(X, y), loss=loss, epochs=60)
    assert np.isnan(history.column("train_accuracy") + history.column("test_accuracy")).all()
    assert history.best() is None
    assert history[-1].test_loss < 0.5 * history[0].test_loss
    values = xpnn.predict(model, X)
    assert values.shape == shape
    np.testing.assert_allclose(np.mean((values - y) ** 2), history[-1].test_loss, rtol=1e-12)


@pytest.mark.parametrize("y", [Y % 2, (Y % 2)[:, None].astype(float)], ids=["labels", "values"])
def test_binary_with_one_output(library, y):
    model = tanh_network(1)
    loss = xpnn.BinaryCrossEntropy()
    backend = open_backend(library)
    history = fit_network(
        model, y=y, validation=(X, y), loss=loss, epochs=30, optimizer=xpnn.Adam(0.05),
        backend=backend,
    )  # fmt: skip
    p = xpnn.predict_proba(model, X)
    t = y.reshape(23, 1)
    entropy = -np.mean(t * np.log(p) + (1 - t) * np.log1p(-p))
    np.testing.assert_allclose(history[-1].test_loss, entropy, rtol=1e-10)
    np.testing.assert_allclose(history[-1].test_accuracy, np.mean((p > 0.5) == t), rtol=1e-14)
    assert history[-1].test_accuracy > 0.9
    if y.ndim == 1:
        np.testing.assert_array_equal(xpnn.predict(model, X), (p[:, 0] > 0.5).astype(int))


def test_training_leaves_numpys_own_stream_alone():
    np.random.seed(5)
    expected = np.random.rand()
    np.random.seed(5)
    fit_network(tanh_network())
    assert np.random.rand() == expected


def test_a_trained_model_is_trained_on():
    model = tanh_network()
    first = fit_network(model, validation=(X, Y))
    before = parameters_of(model)
    second = fit_network(model, validation=(X, Y))
    assert model.history is second
    assert second[0].test_loss == first[-1].test_loss
    assert second[0].train_loss == second[0].test_loss
    assert not np.array_equal(parameters_of(model), before)
    whole = tanh_network()
    fit_network(whole, epochs=4, shuffle=False)
    parts = tanh_network()
    for _ in range(2):
        fit_network(parts, shuffle=False)
    np.testing.assert_array_equal(parameters_of(whole), parameters_of(parts))


def test_a_trained_model_moves_to_another_backend(library):
    backend = open_backend(library)
    model, stayed = tanh_network(), tanh_network()
    for place in ("numpy", backend, "numpy"):
        fit_network(model, backend=place)
        assert model.backend.name == (place if place == "numpy" else backend.name)
        fit_network(stayed)
    np.testing.assert_allclose(parameters_of(model), parameters_of(stayed), rtol=1e-11, atol=1e-13)
    fit_network(model, epochs=0, dtype="float32")
    assert parameters_of(model).dtype == np.float32


def test_inputs_are_never_mutated(library):
    dtype = "float32"
    x, y = X.astype(dtype), ONE_HOT.astype(dtype)
    given = {"weight": np.ones((3, 3)), "bias": np.ones(3)}
    arrays = [x, y, *given.values()]
    copies = [array.copy() for array in arrays]
    for array in arrays:
        array.flags.writeable = False
    model = xpnn.Sequential(xpnn.Dense(3, **given))
    backend = open_backend(library, dtype)
    nesterov = xpnn.Nesterov()
    fit_network(model, x, y, validation=(x, y), backend=backend, dtype=dtype, optimizer=nesterov)
    xpnn.evaluate(model, (x, y))
    xpnn.predict(model, x)
    for array, before in zip(arrays, copies, strict=True):
        np.testing.assert_array_equal(array, before, strict=True)
    # neither are a library's own
    own = backend.asarray(x.copy()), backend.asarray(y.copy())
    fit_network(model, *own, backend=backend)
    xpnn.predict(model, own[0])
    for array, before in zip(own, copies[:2], strict=True):
        np.testing.assert_array_equal(backend.to_numpy(array), before, strict=True)


def test_data_of_any_library(library):
    backend = open_backend(library)
    x, y = backend.asarray(X), backend.asarray(Y)
    model = tanh_network()
    history = fit_network(model, x, y, validation=(x, y))
    np.testing.assert_array_equal(
        figures(history), figures(fit_network(tanh_network(), validation=(X, Y)))
    )
    assert xpnn.evaluate(model, (x, y)) == history[-1][3:5]
    assert type(xpnn.predict(model, x)) is np.ndarray


class Huber(xpnn.Loss):
    name = "my_huber"

    def samples(self, outputs, targets, *, xp):
        t = xpnn.losses.encode(outputs, targets, xp)
        d = outputs - t
        n, k = outputs.shape
        a = xp.abs(d)
        value = xp.where(a < 1.0, 0.5 * d * d, a - 0.5)
        return xp.sum(value, axis=1) / k, xp.clip(d, -1.0, 1.0) / (n * k)


class SignSGD(xpnn.Optimizer):
    def rule(self, w, g, *slots, xp):
        return (w - 0.01 * xp.sign(g),)


class Scale(xpnn.Layer):
    """``y = s x`` with a parameter without dimensions."""

    kind = "scale"

    def config(self):
        return {}

    def shapes(self, inputs):
        return {"s": ()}

    def initialize(self, inputs, rng):
        return {"s": np.array(rng.rand())}

    def forward(self, parameters, x, *, xp):
        s = parameters["s"]

        def pullback(dy, input_gradient=True):
            return dy * s if input_gradient else None, {"s": xp.sum(dy * x)}

        return x * s, pullback


def test_parts_of_ones_own(library):
    """A loss, an optimizer, a layer and a callback that xpnn doesn't know, on every backend."""
    runs = []
    for backend in (open_backend("numpy"), open_backend(library)):
        model = xpnn.Sequential(xpnn.Dense(4), Scale(), xpnn.Activation("tanh"), xpnn.Dense(3))
        recorder = Recorder()
        history = fit_network(
            model, y=ONE_HOT, validation=(X, ONE_HOT), loss=xpnn.Flooding(Huber(), b=0.01),
            optimizer=SignSGD(), epochs=4, backend=backend, callbacks=[recorder],
        )  # fmt: skip
        assert recorder.rows == list(history)
        assert model.parameters[1]["s"].shape == ()
        assert history[-1].test_loss < history[0].test_loss
        runs.append((np.array(figures(history))[:, [2, 4]], parameters_of(model)))
    for one, other in zip(*runs, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-11, atol=1e-13)


def test_the_logged_loss_has_a_floor_but_the_gradient_has_not():
    weight = np.array([[100.0, -100.0]])
    model = xpnn.Sequential(xpnn.Dense(2, weight=weight))
    history = fit_network(model, np.ones((1, 1)), np.array([1]), epochs=1)
    np.testing.assert_allclose(history.column("train_loss"), -np.log(1e-7), rtol=1e-15)
    w, b = model.host_parameters()[0].values()
    np.testing.assert_allclose(w, weight + np.array([[-0.1, 0.1]]), rtol=1e-15)
    np.testing.assert_allclose(b, [-0.1, 0.1], rtol=1e-15)


@pytest.mark.parametrize("kind", ["uint8", "uint16", "uint32", "uint64", "int8", ">i4", "bool"])
# bytes that are all small may be no pixels, and get a warning
@pytest.mark.filterwarnings("ignore:train.x holds unsigned bytes")
def test_labels_and_features_of_any_integers(backend, kind):
    x, y = np.eye(4, 3).astype(kind), np.array([0, 1, 1, 0]).astype(kind)
    model = xpnn.Sequential(xpnn.Dense(2))
    assert len(xpnn.fit(model, (x, y), epochs=1, batch_size=2, seed=0, backend=backend)) == 2


@pytest.mark.parametrize(
    "loss", [xpnn.MeanSquaredError(), xpnn.Flooding(xpnn.MeanSquaredError(), 0.0)]
)
def test_integers_for_one_output_of_a_regression_are_values(loss):
    x, y = np.arange(8.0).reshape(8, 1) / 8, np.arange(8)
    model = xpnn.Sequential(xpnn.Dense(1, weight="he_normal"))
    history = xpnn.fit(model, (x, y), loss=loss, epochs=300, batch_size=8, seed=0, dtype="float64")
    assert np.isnan(history[-1].train_accuracy)
    np.testing.assert_allclose(xpnn.predict(model, x), y, atol=0.05)
    assert xpnn.evaluate(model, (x, y)).loss == pytest.approx(history[-1].train_loss, abs=1e-3)
