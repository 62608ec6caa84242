"""Callbacks: when they are called, and how they end a run."""

import numpy as np
import pytest

import xpnn
from tests.helpers import Recorder, fit_network, parameters_of, tanh_network


def test_callbacks_are_told_in_order():
    first, second = Recorder(), Recorder()
    history = fit_network(tanh_network(), epochs=1, callbacks=iter([first, second]))
    assert first.calls == [
        ("start", 1, 5), ("epoch", 0), *[("batches", 1)] * 5, ("epoch", 1), ("end",),
    ]  # fmt: skip
    assert second.calls == first.calls
    assert first.rows == list(history)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ZeroDivisionError("mine")])
@pytest.mark.parametrize("at", [0, 2])
def test_a_callback_ends_the_run(error, at):
    recorder, other, model = Recorder(at, error), Recorder(), tanh_network()
    with pytest.raises(type(error)) as raised:
        fit_network(model, epochs=5, callbacks=[other, recorder])
    assert raised.value is error
    assert list(model.history) == recorder.rows == other.rows
    assert len(model.history) == at + 1
    assert other.calls[-1] == recorder.calls[-1] == ("end",)
    # trained so far
    whole = tanh_network()
    fit_network(whole, epochs=at)
    np.testing.assert_array_equal(parameters_of(model), parameters_of(whole))


def test_every_callback_is_closed_though_one_fails_to():
    class Bad(Recorder):
        def on_end(self):
            raise OSError("disk full")

    last = Recorder()
    with pytest.raises(OSError, match="disk full"):
        fit_network(tanh_network(), epochs=0, callbacks=[Bad(), last])
    assert last.calls[-1] == ("end",)


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
    begun = [Keeps("a", 1), Keeps("b", 2), Keeps("c", 3), xpnn.Checkpoint(path)]
    fit_network(tanh_network(), callbacks=begun)
    # one that is new, one that is gone, and two that change places
    given = [Keeps("d"), Keeps("c"), Keeps("a")]
    fit_network(tanh_network(), callbacks=given, resume=path)
    assert [callback._value for callback in given[1:]] == [3, 1]


def test_classes_of_one_name_keep_their_own_state(tmp_path):
    def other():
        class Keeps(xpnn.Callback):
            def __init__(self, value=None):
                self._value = value

            state, restore = globals()["Keeps"].state, globals()["Keeps"].restore

        return Keeps

    path, another = tmp_path / "run.ckpt", other()
    begun = [another(1), Keeps("a", 2), xpnn.Checkpoint(path)]
    fit_network(tanh_network(), callbacks=begun)
    given = [Keeps("a"), another()]
    fit_network(tanh_network(), callbacks=given, resume=path)
    assert [callback._value for callback in given] == [2, 1]
