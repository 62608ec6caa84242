"""What an epoch moves between host and device: nothing between its first step and its last."""

import array_api_compat
import numpy as np
import pytest

import xpnn
from tests.helpers import open_backend
from xpnn.training import loop

X = np.random.RandomState(0).randn(64, 3)
Y = np.arange(64) % 2
TRAIN = xpnn.datasets.Dataset(X, Y)
VALIDATION = xpnn.datasets.Dataset(X[:20], Y[:20])
SETTINGS = [
    {"loss": loss, "optimizer": optimizer}
    for loss, optimizer in (
        (xpnn.Flooding(xpnn.CrossEntropy(), b=0.5), xpnn.Nesterov()),
        (xpnn.CrossEntropy(), xpnn.Adam(weight_decay=0.01)),
        (xpnn.MeanSquaredError(), xpnn.RMSprop()),
    )
]


def network():
    return xpnn.Sequential(xpnn.Dense(4), xpnn.Activation("tanhexp"), xpnn.Dense(2))


def data_for(loss):
    if isinstance(loss, xpnn.MeanSquaredError):
        return tuple(d._replace(y=np.eye(2)[d.y]) for d in (TRAIN, VALIDATION))
    return TRAIN, VALIDATION


@pytest.mark.parametrize(("i", "dtype"), [(0, "float32"), (1, "float64"), (2, "float32")])
def test_jax_moves_nothing_that_was_not_asked_for(i, dtype):
    """No implicit transfer in either direction, from the first call to the last."""
    backend = open_backend("jax", dtype)
    train, validation = data_for(SETTINGS[i]["loss"])
    model = network()
    with backend.library.transfer_guard("disallow"):
        history = xpnn.fit(
            model, train, validation=validation, epochs=2, batch_size=10, seed=0,
            backend=backend, callbacks=[xpnn.Callback()], **SETTINGS[i],
        )  # fmt: skip
        assert np.isfinite(xpnn.evaluate(model, validation).loss)
        xpnn.predict(model, validation.x)
    assert np.isfinite(history.column("test_loss")).all()


def test_the_guard_guards():
    backend = open_backend("jax")
    with backend.scope(), backend.library.transfer_guard("disallow"):
        array = backend.asarray(X)
        with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
            backend.xp.sum(array, initial=np.float64(1))


@pytest.fixture
def guarded(monkeypatch):
    """A JAX backend whose folds, once compiled, run where even explicit transfers are errors."""
    backend = open_backend("jax", "float32")
    fold = type(backend).fold
    calls = []

    def guarded_fold(self, step):
        run = fold(self, step)

        def guarded_run(*arguments):
            self.library.block_until_ready(run(*arguments))  # compiles; constants move here
            calls.append(run)
            with self.library.transfer_guard("disallow_explicit"):
                return self.library.block_until_ready(run(*arguments))

        return guarded_run

    monkeypatch.setattr(type(backend), "fold", guarded_fold)
    return backend, calls


@pytest.mark.parametrize("settings", SETTINGS, ids=["flooding", "adam", "regression"])
def test_jax_steps_move_nothing_at_all(guarded, settings):
    backend, calls = guarded
    train, validation = data_for(settings["loss"])
    arguments = {"validation": validation, "epochs": 2, "batch_size": 10, "seed": 0, **settings}
    history = xpnn.fit(network(), train, backend=backend, **arguments)
    # row 0 twice, and in each epoch whole batches, the last one, the validation
    assert len(calls) == 2 + 2 * 3
    other = xpnn.fit(network(), train, **arguments)
    np.testing.assert_allclose(
        history.column("test_loss"), other.column("test_loss"), rtol=1e-5, atol=0
    )


# metrics, and how many arrays their figures come from
METRICS = [
    (xpnn.CrossEntropy(), "precision,recall,f1", 1),
    (xpnn.CrossEntropy(), "f1,top_k:k=1,roc_auc,roc_auc_weighted", 4),
    (xpnn.MeanSquaredError(), "mae,rmse,r2", 2),
]


@pytest.mark.parametrize(("loss", "metrics", "count"), METRICS)
def test_jax_steps_with_metrics_move_nothing_at_all(guarded, loss, metrics, count):
    backend, calls = guarded
    train, validation = data_for(loss)
    xpnn.fit(
        network(), train, validation=validation, epochs=2, batch_size=10, seed=0, loss=loss,
        backend=backend, metrics=metrics,
    )  # fmt: skip
    assert len(calls) == 2 + 2 * 3


@pytest.mark.parametrize("library", ["numpy", "strict", "torch", "jax", "cupy"])
@pytest.mark.parametrize(("loss", "metrics", "count"), METRICS)
def test_metrics_come_to_the_host_with_the_losses(library, loss, metrics, count, monkeypatch):
    backend = open_backend(library, "float32")
    train, validation = data_for(loss)
    transfers = Transfers(backend, monkeypatch)
    xpnn.fit(
        network(), train, validation=validation, epochs=2, batch_size=3, seed=0, backend=backend,
        loss=loss, metrics=metrics, callbacks=[transfers],
    )  # fmt: skip
    figures = count + (1 if isinstance(loss, xpnn.MeanSquaredError) else 2)
    # JAX's validation is padded: a weight tells the samples from those that were added
    padded = library == "jax" and "roc_auc" in metrics
    # 10 pieces, the last mini-batch, the validation
    assert transfers.per_row[1:] == [(12, 12 * figures + padded)] * 2


@pytest.mark.parametrize("settings", SETTINGS, ids=["flooding", "adam", "regression"])
def test_strict_stays_on_its_second_device(settings, dtype):
    """array-api-strict raises where an array of one device meets one of another, or NumPy."""
    backend = open_backend("strict", dtype)
    assert str(backend.device) == "array_api_strict.Device('device1')"
    train, validation = data_for(settings["loss"])
    model = network()
    xpnn.fit(
        model, train, validation=validation, epochs=2, batch_size=10, seed=0, backend=backend,
        **settings,
    )  # fmt: skip
    xpnn.evaluate(model, validation)
    given = backend.asarray(validation.x)
    results = [xpnn.predict(model, given), xpnn.predict_proba(model, given)]
    weights = [leaf for layer in model.parameters for leaf in layer.values()]
    assert {array_api_compat.device(array) for array in [*results, *weights]} == {backend.device}
    for host, own in zip(
        (xpnn.predict(model, validation.x), xpnn.predict_proba(model, validation.x)),
        results,
        strict=True,
    ):
        assert type(host) is np.ndarray
        np.testing.assert_allclose(backend.to_numpy(own), host, rtol=1e-6, atol=0)


class Transfers(xpnn.Callback):
    """Counts what crosses between two rows of the log."""

    def __init__(self, backend, monkeypatch):
        self.now = {"asarray": 0, "to_numpy": 0}
        self.per_row, self.batches = [], 0
        for name in self.now:
            monkeypatch.setattr(backend, name, self.counted(name, getattr(backend, name)))

    def counted(self, name, function):
        def count(array):
            self.now[name] += 1
            return function(array)

        return count

    def on_batches(self, count):
        self.batches += count

    def on_epoch(self, epoch):
        self.per_row.append(tuple(self.now.values()))
        self.now.update(dict.fromkeys(self.now, 0))


@pytest.mark.parametrize(
    ("library", "batch_size", "pieces"),
    [
        *(
            ("numpy", *row)
            for row in [(1, 10), (2, 10), (4, 10), (8, 8), (3, 11), (5, 11), (64, 1)]
        ),
        *((name, 3, 11) for name in ("strict", "torch", "jax", "cupy")),
    ],
)
@pytest.mark.parametrize("loss", [xpnn.CrossEntropy(), xpnn.MeanSquaredError()])
def test_transfers_per_epoch_do_not_grow_with_the_batches(
    library, monkeypatch, loss, batch_size, pieces
):
    """An epoch moves its order, cut into at most ten pieces and a rest, and brings back figures."""
    backend = open_backend(library, "float32")
    train, validation = data_for(loss)
    figures = 1 if isinstance(loss, xpnn.MeanSquaredError) else 2  # no accuracy
    transfers = Transfers(backend, monkeypatch)
    xpnn.fit(
        network(), train, validation=validation, epochs=3, batch_size=batch_size, seed=0,
        backend=backend, callbacks=[transfers], loss=loss,
    )  # fmt: skip
    start, *epochs = transfers.per_row
    # row 0: four parameters, two data sets of two arrays, two orders; JAX's evaluation has rows
    # added to it, which weights leave out
    assert start == (4 + 4 + 2 + (library == "jax"), 2 * figures)
    assert epochs == [(pieces + 1, (pieces + 1) * figures)] * 3
    assert transfers.batches == 3 * -(-64 // batch_size)


@pytest.mark.parametrize(("batch_size", "pieces"), [(1, 1), (8, 1), (3, 2), (64, 1), (100, 1)])
def test_without_callbacks_an_epoch_is_one_piece(monkeypatch, batch_size, pieces):
    backend = open_backend("numpy", "float32")
    counted = {"asarray": 0, "to_numpy": 0}
    for name in counted:
        function = getattr(backend, name)

        def count(array, name=name, function=function):
            counted[name] += 1
            return function(array)

        monkeypatch.setattr(backend, name, count)
    totals = []
    for epochs in (1, 4):
        counted.update(dict.fromkeys(counted, 0))
        xpnn.fit(network(), TRAIN, epochs=epochs, batch_size=batch_size, seed=0, backend=backend)
        totals.append(tuple(counted.values()))
    # parameters, data, order of row 0; its two figures
    assert totals == [(4 + 2 + 1 + n * pieces, 2 + 2 * n * pieces) for n in (1, 4)]


def test_evaluation_moves_data_once(monkeypatch):
    monkeypatch.setattr(loop, "EVALUATION_ROWS", 7)
    backend = open_backend("numpy", "float32")
    model = network()
    xpnn.fit(model, TRAIN, epochs=1, seed=0, backend=backend)
    transfers = Transfers(backend, monkeypatch)
    evaluation = xpnn.evaluate(model, TRAIN)
    # x, y, whole pieces, the rest; loss and hits of both
    assert transfers.now == {"asarray": 4, "to_numpy": 4}
    monkeypatch.setattr(loop, "EVALUATION_ROWS", 1000)
    np.testing.assert_allclose(evaluation, xpnn.evaluate(model, TRAIN), rtol=1e-6, atol=0)
