"""Arguments that `fit` refuses: it says why, and changes nothing."""

import numpy as np
import pytest

import xpnn
from tests.helpers import ONE_HOT, Recorder, X, Y, fit_network, parameters_of, tanh_network
from xpnn.backends import BACKENDS
from xpnn.errors import ArgumentError, BackendError, DataError

EPOCHS = "a whole number >= 0"

WRONG = [
    ({"loss": 3}, ArgumentError,
     "loss must be such as 'cross_entropy' or CrossEntropy(), got 3"),
    ({"loss": "crossentropy"}, ArgumentError,
     "unknown loss 'crossentropy'; did you mean 'cross_entropy'? (allowed: "
     f"{', '.join(xpnn.losses.LOSSES)})"),
    ({"optimizer": xpnn.SGD}, ArgumentError,
     f"optimizer must be such as 'sgd:lr=0.1' or SGD(lr=0.1), got {xpnn.SGD!r}"),
    ({"epochs": -1}, ArgumentError, f"epochs must be {EPOCHS}, got -1"),
    ({"epochs": 1.5}, ArgumentError, f"epochs must be {EPOCHS}, got 1.5"),
    ({"epochs": True}, ArgumentError, f"epochs must be {EPOCHS}, got True"),
    ({"batch_size": 0}, ArgumentError, "batch_size must be a whole number >= 1, got 0"),
    ({"batch_size": "5"}, ArgumentError, "batch_size must be a whole number >= 1, got '5'"),
    ({"seed": -1}, ArgumentError, "seed must be a whole number >= 0 and <= 4294967295, got -1"),
    ({"seed": 2**32}, ArgumentError,
     "seed must be a whole number >= 0 and <= 4294967295, got 4294967296"),
    ({"backend": "torhc"}, ArgumentError,
     f"unknown backend 'torhc'; did you mean 'torch'? (allowed: {', '.join(BACKENDS)})"),
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
    ({"y": np.minimum(Y, 1) - 5}, DataError,
     "train.y must hold labels from 0 to 2 for the model's outputs, "
     f"got {min(Y[0], 1) - 5} in row 0"),
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
    model = tanh_network()
    if trained:
        fit_network(model)
    elif message and "the model's 3 features" in message:
        pytest.skip("a model without parameters takes any number of features")
    before = dict(vars(model)), parameters_of(model) if trained else None
    recorder = Recorder()
    with pytest.raises(kind) as error:
        fit_network(model, **{"callbacks": [recorder], **wrong})
    if message is not None:
        assert str(error.value) == message
    else:
        assert str(error.value).startswith("callbacks must be ")
    assert vars(model) == before[0]
    if trained:
        np.testing.assert_array_equal(parameters_of(model), before[1])
    assert recorder.calls == []


@pytest.mark.parametrize(
    ("make", "settings", "message"),
    [
        (lambda: tanh_network(1), {"y": Y % 2, "loss": "cross_entropy"},
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
        fit_network(model, **settings)
    if message:
        assert str(error.value) == message
        assert vars(model) == before
    else:
        assert str(error.value).startswith("model must be ")


def test_what_a_backend_has_is_not_given_beside_it():
    data = (np.eye(4, 3), np.array([0, 1, 1, 0]))
    place = xpnn.get_backend("numpy", dtype="float64")
    for wrong in ({"device": "cpu"}, {"reproducible": True}):
        with pytest.raises(ArgumentError, match="the backend's own"):
            xpnn.fit(xpnn.Sequential(xpnn.Dense(2)), data, epochs=0, backend=place, **wrong)


# Runs that are refused once they have begun

PLAIN = np.random.RandomState(5).randn(23, 4)
THIRDS = np.arange(23) % 3


class Notes(xpnn.Callback):
    """Notes which hooks were called, in a list that several share."""

    def __init__(self, name, notes):
        self.name, self.notes = name, notes

    def on_start(self, run):
        self.notes.append(f"{self.name} starts")

    def on_end(self):
        self.notes.append(f"{self.name} ends")


class Refuses(Notes):
    def on_start(self, run):
        super().on_start(run)
        raise xpnn.ArgumentError("refused")

    def on_end(self):
        raise RuntimeError("ended, and never started")


def normed():
    return xpnn.Sequential(xpnn.Dense(5), xpnn.BatchNorm(), xpnn.Dense(3))


def train(model, *callbacks, x=PLAIN, **options):
    options = {"epochs": 3, "batch_size": 5, "seed": 1, **options}
    return xpnn.fit(model, (x, THIRDS), callbacks=callbacks, **options)


REFUSALS = {
    "a callback": {"callbacks": [Refuses("b", [])]},
    "a figure that the run hasn't": {"callbacks": [xpnn.EarlyStopping()]},
    "features too large": {"x": PLAIN * 1e300},
    "a schedule": {"schedule": xpnn.schedules.Plateau()},
    "another loss": {"loss": xpnn.BinaryCrossEntropy(), "labels": ["a", "b", "c", "d"]},
    "other arrays": {"optimizer": xpnn.Adam(), "resume": "saved"},
}


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_refused_run_leaves_the_model_as_it_was(refusal, trained, tmp_path):
    options = dict(REFUSALS[refusal])
    callbacks = options.pop("callbacks", [])
    model = normed()
    if trained:
        train(model)
    if "resume" in options:
        path = tmp_path / "run.ckpt"
        train(normed(), xpnn.Checkpoint(path))
        options["resume"] = path
    before, arrays = dict(vars(model)), model.sha256() if trained else None
    with pytest.raises((xpnn.ArgumentError, xpnn.DataError)):
        train(model, *callbacks, **options)
    assert vars(model) == before
    if trained:
        assert model.sha256() == arrays
        assert len(model.history) == 4


def test_a_resumed_run_that_is_refused_leaves_the_files(tmp_path):
    path, log = tmp_path / "run.ckpt", tmp_path / "run.csv"
    train(normed(), xpnn.Checkpoint(path, every=2), xpnn.CSVLogger(log))
    # a row that the checkpoint doesn't have, and one that it has and the log lost
    lines = log.read_text().splitlines(keepends=True)
    for text in ("".join([*lines, "4,0,0,0,0,0\n"]), "".join(lines[:2])):
        log.write_text(text)
        folder = tmp_path / "events"
        with pytest.raises(xpnn.ArgumentError, match="refused"):
            train(
                normed(), xpnn.CSVLogger(log), xpnn.TensorBoard(folder), Refuses("b", []),
                resume=path,
            )  # fmt: skip
        assert log.read_text() == text
        assert not folder.exists()


def test_only_callbacks_that_started_are_ended():
    notes = []
    callbacks = [Notes("a", notes), Refuses("b", notes), Refuses("c", notes)]
    with pytest.raises(xpnn.ArgumentError, match="refused"):
        train(normed(), *callbacks)
    assert notes == ["a starts", "b starts", "a ends"]


def test_callbacks_are_ended_in_their_order_whatever_one_raises():
    notes = []

    class Raises(Notes):
        def on_end(self):
            super().on_end()
            raise RuntimeError(self.name)

    with pytest.raises(RuntimeError, match="a"):
        train(normed(), Raises("a", notes), Notes("b", notes))
    assert notes == ["a starts", "b starts", "a ends", "b ends"]
