"""Callbacks: when they are called, and how they end a run."""

import numpy as np
import pytest

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
