"""`fit`, `evaluate`, `predict`: the loop against one written out by hand, and at its edges."""

import copy
import math
import pickle
import re

import array_api_compat
import numpy as np
import pytest

import xpnn
from tests.helpers import open_backend
from xpnn.errors import ArgumentError, BackendError, DataError, DivergenceError
from xpnn.training import loop
from xpnn.training.history import Epoch, History

RNG = np.random.RandomState(0)
X = RNG.randn(23, 3)
Y = (X[:, 0] > 0).astype(np.int64) + (X[:, 1] > 0.5)  # 0, 1, 2
ONE_HOT = np.eye(3)[Y]


def network(outputs=3):
    return xpnn.Sequential(xpnn.Dense(4), xpnn.Activation("tanh"), xpnn.Dense(outputs))


def fit(model, x=X, y=Y, **settings):
    defaults = {"epochs": 2, "batch_size": 5, "seed": 7}
    if not isinstance(settings.get("backend"), xpnn.backends.Backend):
        defaults["dtype"] = "float64"
    return xpnn.fit(model, (x, y), **{**defaults, **settings})


def weights(model):
    return np.concatenate([a.ravel() for layer in model.host_parameters() for a in layer.values()])


def figures(history):
    return np.array([row[:-1] for row in history])


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
    model = xpnn.Sequential(xpnn.Dense(3))
    x, y = X[:n], Y[:n]
    history = fit(
        model, x, y, validation=(x, y), epochs=3, batch_size=batch_size, shuffle=shuffle,
        callbacks=callbacks,
    )  # fmt: skip
    log, w = by_hand(x, y, 3, batch_size, 7, shuffle)
    np.testing.assert_allclose(figures(history), log, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(weights(model), w, rtol=1e-12, atol=1e-14)


def test_every_backend_takes_the_same_steps(library):
    model = xpnn.Sequential(xpnn.Dense(3))
    history = fit(model, validation=(X, Y), epochs=3, backend=open_backend(library))
    log, w = by_hand(X, Y, 3, 5, 7)
    np.testing.assert_allclose(figures(history), log, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(weights(model), w, rtol=1e-12, atol=1e-14)


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
def test_shapes_of_data_that_train(x, y, settings):
    model = network()
    history = fit(model, x, y, validation=(x, y), epochs=40, optimizer=xpnn.SGD(0.05), **settings)
    assert np.isfinite(figures(history)).all()
    assert history[-1].test_loss < history[0].test_loss
    assert all(0 <= value <= 1 for value in history.column("test_accuracy"))
    assert xpnn.predict_proba(model, x).shape == (len(x), 3)


def test_one_hot_targets_are_the_labels():
    histories = [fit(network(), y=y, validation=(X, y)) for y in (Y, ONE_HOT)]
    np.testing.assert_allclose(*map(figures, histories), rtol=1e-13, atol=0)


@pytest.mark.parametrize("shape", [(23,), (23, 1), (23, 2)])
def test_regression_has_no_accuracy(shape):
    y = np.resize(X[:, 0] - 0.5 * X[:, 1], shape)
    model = network(1 if len(shape) == 1 else shape[1])
    loss = xpnn.MeanSquaredError()
    history = fit(model, y=y, validation=(X, y), loss=loss, epochs=60)
    assert np.isnan(history.column("train_accuracy") + history.column("test_accuracy")).all()
    assert history.best() is None
    assert history[-1].test_loss < 0.5 * history[0].test_loss
    values = xpnn.predict(model, X)
    assert values.shape == (23, model.outputs(3))
    np.testing.assert_allclose(
        np.mean((values - y.reshape(values.shape)) ** 2), history[-1].test_loss, rtol=1e-12
    )


@pytest.mark.parametrize("y", [Y % 2, (Y % 2)[:, None].astype(float)], ids=["labels", "values"])
def test_binary_with_one_output(library, y):
    model = network(1)
    loss = xpnn.BinaryCrossEntropy()
    backend = open_backend(library)
    history = fit(
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


def test_history_is_a_sequence_of_rows():
    history = History({"seed": 1})
    assert (len(history), list(history), history.best(), history.seconds) == (0, [], None, 0)
    nan = math.nan
    rows = [
        Epoch(0, 0.1, 9.0, nan, 9.5, 0.25), Epoch(1, 0.8, 2.0, 0.9, 1.0, 0.5),
        Epoch(2, 0.9, 1.0, 0.9, 0.5, 0.125),
    ]  # fmt: skip
    for row in rows:
        history.append(row)
    assert list(history) == rows
    assert history[-1] is rows[2]
    assert history[:2] == rows[:2]
    assert history.column("train_loss") == [9.0, 2.0, 1.0]
    assert history.best() == (1, 0.9)
    assert history.best("train_accuracy") == (2, 0.9)
    assert (history.first_reached(0.9), history.first_reached(0.91)) == (1, None)
    assert history.first_reached(0.1, "train_accuracy") == 0
    assert history.seconds == 0.875
    assert repr(history) == f"History(3 epochs, last: {rows[2]})"


def test_history_knows_its_settings():
    history = fit(network(), epochs=0, optimizer=xpnn.SGD(0.5), shuffle=False)
    assert history.settings == {
        "loss": "CrossEntropy(floor=1e-07)", "optimizer": "SGD(lr=0.5, weight_decay=0.0)",
        "schedule": None, "clip_norm": None, "sample_weight": False, "class_weight": None,
        "epochs": 0, "batch_size": 5, "seed": 7, "shuffle": False, "backend": "numpy",
        "device": "cpu", "dtype": "float64",
        "reproducible": False, "precision": None,
    }  # fmt: skip
    (row,) = history
    assert row.epoch == 0
    assert math.isnan(row.test_loss)
    assert row.seconds > 0


def test_the_seed_makes_the_run():
    runs = [fit(network(), seed=seed) for seed in (1, 1, 2, np.int64(1))]
    first, same, other, numpy = map(figures, runs)
    np.testing.assert_array_equal(first, same)
    np.testing.assert_array_equal(first, numpy)
    assert abs(first - other)[:, 2].min() > 1e-6


def test_a_seed_that_was_drawn_is_recorded():
    runs = [fit(network(), seed=None) for _ in range(2)]
    seeds = [run.settings["seed"] for run in runs]
    assert seeds[0] != seeds[1]
    assert all(type(seed) is int and 0 <= seed < 2**32 for seed in seeds)
    np.testing.assert_array_equal(figures(runs[0]), figures(fit(network(), seed=seeds[0])))


def test_training_leaves_numpys_own_stream_alone():
    np.random.seed(5)
    expected = np.random.rand()
    np.random.seed(5)
    fit(network())
    assert np.random.rand() == expected


def test_a_trained_model_is_trained_on():
    model = network()
    first = fit(model, validation=(X, Y))
    before = weights(model)
    second = fit(model, validation=(X, Y))
    assert model.history is second
    assert second[0].test_loss == first[-1].test_loss
    assert second[0].train_loss == second[0].test_loss
    assert not np.array_equal(weights(model), before)
    whole = network()
    fit(whole, epochs=4, shuffle=False)
    parts = network()
    for _ in range(2):
        fit(parts, shuffle=False)
    np.testing.assert_array_equal(weights(whole), weights(parts))


def test_a_trained_model_moves_to_another_backend(library):
    backend = open_backend(library)
    model, stayed = network(), network()
    for place in ("numpy", backend, "numpy"):
        fit(model, backend=place)
        assert model.backend.name == (place if place == "numpy" else backend.name)
        fit(stayed)
    np.testing.assert_allclose(weights(model), weights(stayed), rtol=1e-11, atol=1e-13)
    fit(model, epochs=0, dtype="float32")
    assert weights(model).dtype == np.float32


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
    fit(model, x, y, validation=(x, y), backend=backend, dtype=dtype, optimizer=nesterov)
    xpnn.evaluate(model, (x, y))
    xpnn.predict(model, x)
    for array, before in zip(arrays, copies, strict=True):
        np.testing.assert_array_equal(array, before, strict=True)
    # neither are a library's own
    own = backend.asarray(x.copy()), backend.asarray(y.copy())
    fit(model, *own, backend=backend)
    xpnn.predict(model, own[0])
    for array, before in zip(own, copies[:2], strict=True):
        np.testing.assert_array_equal(backend.to_numpy(array), before, strict=True)


def test_data_of_any_library(library):
    backend = open_backend(library)
    x, y = backend.asarray(X), backend.asarray(Y)
    model = network()
    history = fit(model, x, y, validation=(x, y))
    np.testing.assert_array_equal(figures(history), figures(fit(network(), validation=(X, Y))))
    assert xpnn.evaluate(model, (x, y)) == history[-1][3:5]
    assert type(xpnn.predict(model, x)) is np.ndarray


class Recorder(xpnn.Callback):
    """Writes down each call; raises what it is given in row `at`."""

    def __init__(self, at=None, error=None):
        self.calls, self.rows, self.at, self.error = [], [], at, error

    def on_start(self, run):
        assert run.model.parameters is not None
        self.calls.append(("start", run.epochs, run.batches))

    def on_batches(self, count):
        self.calls.append(("batches", count))

    def on_epoch(self, epoch):
        self.calls.append(("epoch", epoch.epoch))
        self.rows.append(epoch)
        if epoch.epoch == self.at:
            raise self.error

    def on_end(self):
        self.calls.append(("end",))


def test_callbacks_are_told_in_order():
    first, second = Recorder(), Recorder()
    history = fit(network(), epochs=1, callbacks=iter([first, second]))
    assert first.calls == [
        ("start", 1, 5), ("epoch", 0), *[("batches", 1)] * 5, ("epoch", 1), ("end",),
    ]  # fmt: skip
    assert second.calls == first.calls
    assert first.rows == list(history)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ZeroDivisionError("mine")])
@pytest.mark.parametrize("at", [0, 2])
def test_a_callback_ends_the_run(error, at):
    recorder, other, model = Recorder(at, error), Recorder(), network()
    with pytest.raises(type(error)) as raised:
        fit(model, epochs=5, callbacks=[other, recorder])
    assert raised.value is error
    assert list(model.history) == recorder.rows == other.rows
    assert len(model.history) == at + 1
    assert other.calls[-1] == recorder.calls[-1] == ("end",)
    # trained so far
    whole = network()
    fit(whole, epochs=at)
    np.testing.assert_array_equal(weights(model), weights(whole))


def test_every_callback_is_closed_though_one_fails_to():
    class Bad(Recorder):
        def on_end(self):
            raise OSError("disk full")

    last = Recorder()
    with pytest.raises(OSError, match="disk full"):
        fit(network(), epochs=0, callbacks=[Bad(), last])
    assert last.calls[-1] == ("end",)


class Exploding(xpnn.Loss):
    """A squared error that becomes `value` in one batch after so many."""

    name = "exploding"

    def samples(self, outputs, targets, *, xp):
        samples, gradient = xpnn.MeanSquaredError().samples(outputs, targets, xp=xp)
        # the rows of one sample alone
        bad = targets[:, 0] == 99.0
        return xp.where(bad, xp.full_like(samples, math.inf), samples), gradient


def test_divergence_names_epoch_and_batch(library):
    y = np.zeros((23, 3))
    y[12, 0] = 99.0
    recorder, model = Recorder(), network()
    # row 0 evaluates everything
    with pytest.raises(
        DivergenceError, match=r"^the loss became inf at epoch 0, in the evaluation"
    ):
        fit(model, y=y, loss=Exploding(), backend=open_backend(library), callbacks=[recorder])
    assert recorder.calls == [("start", 2, 5), ("end",)]


@pytest.mark.parametrize("callbacks", [True, False])
def test_divergence_keeps_the_log_so_far(callbacks):
    y = 1e3 * X
    recorder, model = Recorder(), network()
    with pytest.raises(DivergenceError) as error:
        fit(
            model, y=y, loss=xpnn.MeanSquaredError(), epochs=400, shuffle=False,
            optimizer=xpnn.SGD(5.0), callbacks=[recorder] if callbacks else (),
        )  # fmt: skip
    reached = len(model.history)
    assert reached >= 1
    assert np.isfinite(model.history.column("train_loss")).all()
    assert re.fullmatch(
        rf"the loss became (inf|nan) at epoch {reached}, in batch [1-5]; "
        "a smaller learning rate may help",
        str(error.value),
    )
    assert isinstance(error.value, ArithmeticError)
    if callbacks:
        assert recorder.rows == list(model.history)
        assert recorder.calls[-1] == ("end",)


@pytest.mark.parametrize("batch", [2, 3, 5])
def test_divergence_counts_batches_from_one(batch):
    """Weights that overflow after the batch before: its number is exact."""

    class Bomb(xpnn.Optimizer):
        slots = ("step",)

        def rule(self, w, g, *slots, xp):
            (step,) = slots
            step = step + 1.0
            return xp.where(step == batch - 1, np.nan, w), step

    # one parameter, so that the rule is called once a step
    model = xpnn.Sequential(xpnn.Dense(3, bias=False))
    with pytest.raises(DivergenceError, match=f"became nan at epoch 1, in batch {batch};"):
        fit(model, optimizer=Bomb())


WRONG = [
    ({"loss": "cross_entropy"}, ArgumentError,
     "loss must be an instance such as CrossEntropy(), got 'cross_entropy'"),
    ({"optimizer": xpnn.SGD}, ArgumentError,
     f"optimizer must be an instance such as SGD(lr=0.1), got {xpnn.SGD!r}"),
    ({"epochs": -1}, ArgumentError, "epochs must be a whole number >= 0, got -1"),
    ({"epochs": 1.5}, ArgumentError, "epochs must be a whole number >= 0, got 1.5"),
    ({"epochs": True}, ArgumentError, "epochs must be a whole number >= 0, got True"),
    ({"batch_size": 0}, ArgumentError, "batch_size must be a whole number >= 1, got 0"),
    ({"batch_size": "5"}, ArgumentError, "batch_size must be a whole number >= 1, got '5'"),
    ({"seed": -1}, ArgumentError, "seed must be a whole number >= 0 and <= 4294967295, got -1"),
    ({"seed": 2**32}, ArgumentError,
     "seed must be a whole number >= 0 and <= 4294967295, got 4294967296"),
    ({"backend": "torhc"}, ArgumentError,
     "unknown backend 'torhc'; did you mean 'torch'? (allowed: numpy, cupy, torch, jax, strict)"),
    ({"device": "cuda:7"}, BackendError,
     "backend 'numpy' has no device 'cuda:7' (devices here: cpu)"),
    ({"dtype": "float63"}, ArgumentError,
     "unknown dtype 'float63'; did you mean 'float64'? (allowed: float32, float64)"),
    ({"x": X[:0], "y": Y[:0]}, DataError,
     "train.x must hold at least one value, got shape (0, 3)"),
    ({"x": X[:, :0]}, DataError, "train.x must hold at least one value, got shape (23, 0)"),
    ({"x": X[:, :2]}, DataError, "train.x must have the model's 3 features, got 2"),
    ({"x": np.where(X[4, 1] == X, np.nan, X)}, DataError,
     "train.x must be finite, got nan in row 4, column 1"),
    ({"y": Y[:22]}, DataError,
     "train.x and train.y must have the same length, got 23 and 22"),
    ({"y": np.where(np.arange(23) == 9, 3, Y)}, DataError,
     "train.y must hold labels from 0 to 2 for the model's outputs, got 3 in row 9"),
    ({"y": Y - 5}, DataError,
     f"train.y must hold labels from 0 to 2 for the model's outputs, got {Y[0] - 5} in row 0"),
    ({"y": ONE_HOT[:, :2]}, DataError,
     "train.y must have shape (n, 3) for 3 outputs of the model, "
     "or hold integer class labels of shape (n,), got float64 of shape (23, 2)"),
    ({"y": Y.astype(float)}, DataError,
     "train.y must have shape (n, 3) for 3 outputs of the model, "
     "or hold integer class labels of shape (n,), got float64 of shape (23,)"),
    ({"validation": (X[:0], Y[:0])}, DataError,
     "validation.x must hold at least one value, got shape (0, 3)"),
    ({"validation": X}, ArgumentError,
     "validation must be a pair of arrays (x, y), got ndarray"),
    ({"validation": (X[:, :2], Y)}, DataError,
     "validation.x must have 3 features as train.x has, got 2"),
    ({"validation": (X, Y + 1)}, DataError,
     "validation.y must hold labels from 0 to 2 for the model's outputs, "
     f"got 3 in row {int(np.argmax(Y == 2))}"),
    ({"validation": (X, ONE_HOT)}, DataError,
     "train.y and validation.y must both be class labels, or neither"),
    ({"callbacks": [Recorder]}, ArgumentError, None),
    ({"callbacks": 3}, ArgumentError, None),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "kind", "message"), WRONG)
@pytest.mark.parametrize("trained", [True, False])
def test_a_wrong_argument_changes_nothing(wrong, kind, message, trained):
    model = network()
    if trained:
        fit(model)
    elif message and "the model's 3 features" in message:
        pytest.skip("a model without parameters takes any number of features")
    before = dict(vars(model)), weights(model) if trained else None
    recorder = Recorder()
    with pytest.raises(kind) as error:
        fit(model, **{"callbacks": [recorder], **wrong})
    if message is not None:
        assert str(error.value) == message
    else:
        assert str(error.value).startswith("callbacks must be ")
    assert vars(model) == before[0]
    if trained:
        np.testing.assert_array_equal(weights(model), before[1])
    assert recorder.calls == []


@pytest.mark.parametrize(
    ("make", "settings", "message"),
    [
        (lambda: network(1), {"y": Y % 2},
         "loss 'cross_entropy' needs a network with 2 or more outputs, got 1; "
         "for one output take 'binary_cross_entropy'"),
        (lambda: xpnn.Sequential(xpnn.Activation("relu")), {},
         "model must have a layer with parameters, got none"),
        (lambda: xpnn.Sequential(xpnn.Dense(3, weight=np.ones((2, 3)))), {},
         "weight of Dense(3) must have shape (3, 3), got (2, 3)"),
        (lambda: xpnn.Sequential(xpnn.Dense(3, bias=[0, np.inf, 0])), {},
         "bias of Dense(3) must be finite, got NaN or infinity"),
        (lambda: "model", {}, None),
    ],
)  # fmt: skip
def test_a_network_that_does_not_fit(make, settings, message):
    model = make()
    before = dict(vars(model)) if message else None
    with pytest.raises(ArgumentError) as error:
        fit(model, **settings)
    if message:
        assert str(error.value) == message
        assert vars(model) == before
    else:
        assert str(error.value).startswith("model must be ")


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
        history = fit(
            model, y=ONE_HOT, validation=(X, ONE_HOT), loss=xpnn.Flooding(Huber(), b=0.01),
            optimizer=SignSGD(), epochs=4, backend=backend, callbacks=[recorder],
        )  # fmt: skip
        assert recorder.rows == list(history)
        assert model.parameters[1]["s"].shape == ()
        assert history[-1].test_loss < history[0].test_loss
        runs.append((figures(history)[:, [2, 4]], weights(model)))
    for one, other in zip(*runs, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rows", [0, 1, 23])
def test_predictions(library, dtype, rows, monkeypatch):
    monkeypatch.setattr(loop, "EVALUATION_ROWS", 10)
    backend = open_backend(library, dtype)
    model = network()
    fit(model, X, Y, epochs=0, backend=backend)
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
    model = network()
    history = fit(model, validation=(X[:n], Y[:n]))
    monkeypatch.setattr(loop, "EVALUATION_ROWS", 10)
    found = xpnn.evaluate(model, (X[:n], Y[:n]))
    np.testing.assert_allclose(found, history[-1][3:5], rtol=1e-13, atol=0)
    other = xpnn.evaluate(model, (X, Y), loss=xpnn.MeanSquaredError())
    (w1, b1), _, (w2, b2) = (tuple(layer.values()) for layer in model.host_parameters())
    u = np.tanh(X @ w1 + b1) @ w2 + b2
    np.testing.assert_allclose(other.loss, np.mean((u - ONE_HOT) ** 2), rtol=1e-12)
    assert model.task.loss == xpnn.CrossEntropy()


def test_the_logged_loss_has_a_floor_but_the_gradient_has_not():
    weight = np.array([[100.0, -100.0]])
    model = xpnn.Sequential(xpnn.Dense(2, weight=weight))
    history = fit(model, np.ones((1, 1)), np.array([1]), epochs=1)
    np.testing.assert_allclose(history.column("train_loss"), -np.log(1e-7), rtol=1e-15)
    w, b = model.host_parameters()[0].values()
    np.testing.assert_allclose(w, weight + np.array([[-0.1, 0.1]]), rtol=1e-15)
    np.testing.assert_allclose(b, [-0.1, 0.1], rtol=1e-15)


def test_an_untrained_model_says_so():
    for call in (
        lambda: xpnn.predict(network(), X),
        lambda: xpnn.predict_proba(network(), X),
        lambda: xpnn.evaluate(network(), (X, Y)),
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
        (lambda m: xpnn.evaluate(m, (X, Y), loss="mse"), ArgumentError,
         "loss must be an instance such as CrossEntropy(), got 'mse'"),
        (lambda m: xpnn.evaluate(m, (X[:, :2], Y)), DataError,
         "data.x must have the model's 3 features, got 2"),
        (lambda m: xpnn.evaluate(m, (X, Y + 1)), DataError,
         "data.y must hold labels from 0 to 2 for the model's outputs, "
         f"got 3 in row {int(np.argmax(Y == 2))}"),
    ],
)  # fmt: skip
def test_data_that_a_trained_model_refuses(call, kind, message):
    model = network()
    fit(model, epochs=0)
    with pytest.raises(kind) as error:
        call(model)
    assert str(error.value) == message


def test_predict_checks_a_librarys_own_arrays_shape(library):
    backend = open_backend(library)
    model = network()
    fit(model, epochs=0, backend=backend)
    with pytest.raises(DataError, match=r"x must have shape \(n, "):
        xpnn.predict(model, backend.asarray(X[:, :2]))


@pytest.mark.parametrize("call", [xpnn.predict, xpnn.predict_proba])
def test_predict_refuses_nan_alike_on_every_backend(library, call):
    backend = open_backend(library)
    model = network()
    fit(model, epochs=0, backend=backend)
    with pytest.raises(DataError, match="x must be finite, got nan in row 1"):
        call(model, np.where(X[1, 0] == X, np.nan, X))


@pytest.mark.parametrize("kind", ["uint8", "uint16", "uint32", "uint64", "int8", ">i4", "bool"])
def test_labels_and_features_of_any_integers(backend, kind):
    x, y = np.eye(4, 3).astype(kind), np.array([0, 1, 1, 0]).astype(kind)
    model = xpnn.Sequential(xpnn.Dense(2))
    assert len(xpnn.fit(model, (x, y), epochs=1, batch_size=2, seed=0, backend=backend)) == 2


@pytest.mark.parametrize(
    "loss", [xpnn.MeanSquaredError(), xpnn.Flooding(xpnn.MeanSquaredError(), 0.0)]
)
def test_integers_for_one_output_of_a_regression_are_values(loss):
    x, y = np.arange(8.0).reshape(8, 1) / 8, np.arange(8)
    model = xpnn.Sequential(xpnn.Dense(1))
    history = xpnn.fit(model, (x, y), loss=loss, epochs=300, batch_size=8, seed=0, dtype="float64")
    assert np.isnan(history[-1].train_accuracy)
    np.testing.assert_allclose(xpnn.predict(model, x)[:, 0], y, atol=0.05)
    assert xpnn.evaluate(model, (x, y)).loss == pytest.approx(history[-1].train_loss, abs=1e-3)


def test_one_logit_says_1_where_it_is_positive():
    outputs = np.array([[0.3], [-0.3], [0.0], [0.6]])
    assert list(xpnn.losses.labels(outputs)) == [1, 0, 0, 1]


@pytest.mark.parametrize("reproducible", [False, True])
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_model_is_copied_and_pickled_with_its_parameters(backend, copied, reproducible):
    x, y = np.eye(4, 3), np.array([0, 1, 1, 0])
    model = xpnn.Sequential(xpnn.Dense(3), xpnn.Activation("swish", beta=2), xpnn.Dense(2))
    assert copied(model).parameters is None
    place = xpnn.get_backend(**{**backend.options(), "reproducible": reproducible})
    xpnn.fit(model, (x, y), epochs=1, seed=0, backend=place)
    twin = copied(model)
    before = twin.sha256()
    assert before == model.sha256()
    np.testing.assert_array_equal(xpnn.predict(twin, x), xpnn.predict(model, x))
    xpnn.fit(model, (x, y), epochs=1, seed=0, backend=place)
    assert twin.sha256() == before != model.sha256()
    assert type(twin.backend) is type(place)


def test_what_a_backend_has_is_not_given_beside_it():
    data = (np.eye(4, 3), np.array([0, 1, 1, 0]))
    place = xpnn.get_backend("numpy", dtype="float64")
    for wrong in ({"device": "cpu"}, {"reproducible": True}):
        with pytest.raises(ArgumentError, match="the backend's own"):
            xpnn.fit(xpnn.Sequential(xpnn.Dense(2)), data, epochs=0, backend=place, **wrong)
