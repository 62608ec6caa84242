"""A loss that is no longer finite ends the run."""

import math
import re

import numpy as np
import pytest

import xpnn
from tests.helpers import Recorder, X, fit_network, open_backend, tanh_network
from xpnn.errors import DivergenceError


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
    recorder, model = Recorder(), tanh_network()
    # row 0 evaluates everything
    with pytest.raises(
        DivergenceError, match=r"^the loss became inf at epoch 0, in the evaluation"
    ):
        fit_network(
            model, y=y, loss=Exploding(), backend=open_backend(library), callbacks=[recorder]
        )
    assert recorder.calls == [("start", 2, 5), ("end",)]


@pytest.mark.parametrize("callbacks", [True, False])
def test_divergence_keeps_the_log_so_far(callbacks):
    y = 1e3 * X
    recorder, model = Recorder(), tanh_network()
    with pytest.raises(DivergenceError) as error:
        fit_network(
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
        fit_network(model, optimizer=Bomb())


def test_a_loss_that_is_infinite_while_its_sums_are_finite_is_no_row_of_a_log():
    model, loss = xpnn.Sequential(xpnn.Dense(2)), xpnn.Flooding(xpnn.CrossEntropy(), b=1e308)
    with pytest.raises(DivergenceError, match=r"the loss became inf at epoch 0, .* b=1e\+308"):
        xpnn.fit(model, (X, X[:, 0].astype(int) % 2), loss=loss, epochs=1)
