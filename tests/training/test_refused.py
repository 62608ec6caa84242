"""A run that is refused leaves model, history and files as they were."""

import numpy as np
import pytest

import xpnn
from tests.helpers import ROOT

X = np.random.RandomState(5).randn(23, 4)
Y = np.arange(23) % 3


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


def network():
    return xpnn.Sequential(xpnn.Dense(5), xpnn.BatchNorm(), xpnn.Dense(3))


def fit(model, *callbacks, x=X, **options):
    return xpnn.fit(model, (x, Y), epochs=3, batch_size=5, seed=1, callbacks=callbacks, **options)


REFUSALS = {
    "a callback": {"callbacks": [Refuses("b", [])]},
    "a log's line": {"callbacks": [xpnn.EarlyStopping()]},
    "features too large": {"x": X * 1e300},
    "a schedule": {"schedule": xpnn.schedules.Plateau()},
    "another loss": {"loss": xpnn.BinaryCrossEntropy(), "labels": ["a", "b", "c", "d"]},
    "other arrays": {"optimizer": xpnn.Adam(), "resume": "saved"},
}


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_refused_run_leaves_the_model_as_it_was(refusal, trained, tmp_path):
    options = dict(REFUSALS[refusal])
    callbacks = options.pop("callbacks", [])
    model = network()
    if trained:
        fit(model, x=X[:, :4])
    if "resume" in options:
        path = tmp_path / "run.ckpt"
        fit(network(), xpnn.Checkpoint(path))
        options["resume"] = path
    before, arrays = dict(vars(model)), model.sha256() if trained else None
    with pytest.raises((xpnn.ArgumentError, xpnn.DataError)):
        fit(model, *callbacks, **options)
    assert vars(model) == before
    if trained:
        assert model.sha256() == arrays
        assert len(model.history) == 4


def test_a_resumed_run_that_is_refused_leaves_the_files(tmp_path):
    path, log = tmp_path / "run.ckpt", tmp_path / "run.csv"
    fit(network(), xpnn.Checkpoint(path, every=2), xpnn.CSVLogger(log))
    # a row that the checkpoint doesn't have, and one that it has and the log lost
    lines = log.read_text().splitlines(keepends=True)
    for text in ("".join([*lines, "4,0,0,0,0,0\n"]), "".join(lines[:2])):
        log.write_text(text)
        folder = tmp_path / "events"
        with pytest.raises(xpnn.ArgumentError, match="refused"):
            fit(
                network(), xpnn.CSVLogger(log), xpnn.TensorBoard(folder), Refuses("b", []),
                resume=path,
            )  # fmt: skip
        assert log.read_text() == text
        assert not folder.exists()


def test_only_callbacks_that_started_are_ended():
    notes = []
    callbacks = [Notes("a", notes), Refuses("b", notes), Refuses("c", notes)]
    with pytest.raises(xpnn.ArgumentError, match="refused"):
        fit(network(), *callbacks)
    assert notes == ["a starts", "b starts", "a ends"]


def test_callbacks_are_ended_in_their_order_whatever_one_raises():
    notes = []

    class Raises(Notes):
        def on_end(self):
            super().on_end()
            raise RuntimeError(self.name)

    with pytest.raises(RuntimeError, match="a"):
        fit(network(), Raises("a", notes), Notes("b", notes))
    assert notes == ["a starts", "b starts", "a ends", "b ends"]


class Keeps(xpnn.Callback):
    """Keeps a number of its own over a break."""

    def __init__(self, name, value=None):
        self.name, self._value = name, value

    def state(self):
        return {"value": self._value}

    def restore(self, state):
        self._value = state.get("value")


def test_callbacks_of_one_class_keep_their_own_state_in_another_order(tmp_path):
    path = tmp_path / "run.ckpt"
    fit(network(), Keeps("a", 1), Keeps("b", 2), Keeps("c", 3), xpnn.Checkpoint(path))
    # one that is new, one that is gone, and two that change places
    given = [Keeps("d"), Keeps("c"), Keeps("a")]
    fit(network(), *given, resume=path)
    assert [callback._value for callback in given[1:]] == [3, 1]


def test_classes_of_one_name_keep_their_own_state(tmp_path):
    def other():
        class Keeps(xpnn.Callback):
            def __init__(self, value=None):
                self._value = value

            state, restore = globals()["Keeps"].state, globals()["Keeps"].restore

        return Keeps

    path, another = tmp_path / "run.ckpt", other()
    fit(network(), another(1), Keeps("a", 2), xpnn.Checkpoint(path))
    given = [Keeps("a"), another()]
    fit(network(), *given, resume=path)
    assert [callback._value for callback in given] == [2, 1]


DATA = ROOT / "tests" / "training" / "data"
# of the run below, by the version that wrote the files
SHA256 = "91cfa95ed02bc5a110335054a6766170f5a0ca30700014fd108b5efbb06f750c"


def older_run(*callbacks, **options):
    """Train the network of the files in `DATA`."""
    model = xpnn.Sequential(
        xpnn.Dense(6), xpnn.BatchNorm(), xpnn.Activation("elu", alpha=0.5), xpnn.Dropout(0.25),
        xpnn.Dense(3),
    )  # fmt: skip
    arguments = {
        "loss": xpnn.Flooding(xpnn.CrossEntropy(), b=0.01),
        "optimizer": xpnn.Momentum(lr=0.05),
        "schedule": xpnn.schedules.Cosine(),
        "normalizer": "standard",
    }
    xpnn.fit(
        model, (X, Y), validation=(X, Y), epochs=4, batch_size=5, seed=3, reproducible=True,
        callbacks=callbacks, **{**arguments, **options},
    )  # fmt: skip
    return model


def test_a_checkpoint_of_format_1_goes_on():
    path = DATA / "format1.checkpoint"
    stopping = xpnn.EarlyStopping(patience=9)
    assert older_run(stopping, resume=path).sha256() == older_run().sha256() == SHA256
    assert stopping.best == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": xpnn.Momentum(lr=0.06)}, r"optimizer must be 'Momentum\(lr=0.05.* got"),
        ({"loss": xpnn.CrossEntropy()}, "loss must be 'Flooding.* got 'CrossEntropy"),
        ({"schedule": None}, "schedule must be 'Cosine.* got None"),
    ],
)
def test_a_checkpoint_of_format_1_belongs_to_its_run(options, message):
    with pytest.raises(xpnn.ArgumentError, match=message):
        older_run(resume=DATA / "format1.checkpoint", **options)


def test_a_model_of_format_3_loads():
    model = xpnn.load(DATA / "format3.safetensors")
    assert model.sha256() == SHA256
    assert repr(model) == (
        "Sequential(Dense(6), BatchNorm(momentum=0.1, eps=1e-05), "
        "Activation('elu', alpha=0.5), Dropout(0.25), Dense(3))"
    )
    assert model.task.loss == xpnn.Flooding(xpnn.CrossEntropy(), b=0.01)
    assert isinstance(model.task.normalizer, xpnn.StandardScaler)
    assert len(model.history) == 5
