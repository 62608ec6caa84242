"""Mistakes in a loss are found."""

import re
from dataclasses import dataclass
from typing import ClassVar

import pytest

import xpnn
from xpnn.testing import PartError, check_gradients


@dataclass(frozen=True)
class Squared(xpnn.Loss):
    """Half the squared error, and what is wrong with it."""

    change: str = "right"
    name: ClassVar[str] = "squared"

    def samples(self, outputs, targets, *, xp):
        d = outputs - targets
        n = outputs.shape[0]
        samples = 0.5 * xp.sum(d * d, axis=1)
        gradient = d / n
        row = xp.cumulative_sum(xp.ones_like(d), axis=0)
        match self.change:
            case "sum":
                gradient = d
            case "sign":
                gradient = -gradient
            case "negative":
                gradient = xp.abs(gradient)
            case "mean":
                samples = xp.mean(samples)
            case "columns":
                gradient = xp.where(xp.cumulative_sum(xp.ones_like(d), axis=1) > 1, gradient, 0.0)
            case "last":
                gradient = xp.where((row == n) & (row > 1), 0.0, gradient)
            case "one":
                gradient = gradient * (2.0 if n == 1 else 1.0)
            case "n - 1":
                gradient = d / max(n - 1, 1)
            case "near":
                gradient = xp.where(xp.abs(d) < 0.02, 0.0, gradient)
            case "far":
                gradient = xp.clip(gradient, -40.0, 40.0)
        return samples, gradient

    def weighted(self, outputs, targets, weights, *, xp):
        samples, gradient = super().weighted(outputs, targets, weights, xp=xp)
        w = xp.expand_dims(weights, axis=1)
        match self.change:
            case "no weights":
                gradient = (outputs - targets) / outputs.shape[0]
            case "twice":
                gradient = gradient * w
            case "by their sum":
                gradient = gradient * (outputs.shape[0] / xp.sum(weights))
            case "weighted samples":
                samples = samples * weights
            case "ones":
                gradient = gradient * xp.where(xp.all(weights == 1.0), 0.5, 1.0)
            case "ones' samples":
                samples = samples * xp.where(xp.all(weights == 1.0), 0.5, 1.0)
        return samples, gradient


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("sum", r"with 2 samples, the gradient of outputs\[0, 0\], where outputs is \S+, must be"),
        ("sign", r"with 1 sample, the gradient of outputs\[0, 0\]"),
        ("negative", r"outputs\[0, \d\], where outputs is .* must be -.* got "),
        ("columns", r"outputs\[0, 0\]"),
        ("mean", r"samples must have shape \(1,\), got \(\)"),
        ("last", r"with 2 samples, .* outputs\[1, 0\], .*, got -?0 \(and 3 more of 8 are wrong\)$"),
        ("one", "with 1 sample, .* by finite differences, got "),
        ("n - 1", "with 2 samples, .* by finite differences, got "),
        ("near", "with 1 sample, .*, got -?0"),
        ("far", "with 1 sample, .*, got -?40"),
        ("no weights", "with 1 sample, weighted, the gradient of outputs"),
        ("twice", "with 1 sample, weighted, the gradient of outputs"),
        ("by their sum", "with 1 sample, weighted, the gradient of outputs"),
        ("weighted samples", "weighted, "),
        ("ones", "weighted with weights of 1 must return the gradient of `samples`, .* at .* got"),
        (
            "ones' samples",
            "weighted with weights of 1 must return the samples of `samples`, .* got",
        ),
    ],
)
def test_mistakes_in_a_loss_are_found(change, message):
    with pytest.raises(PartError) as caught:
        check_gradients(Squared(change), backends=["numpy"])
    start = re.escape(f"Squared(change={change!r}) on numpy in float64: ")
    assert re.match(start + ".*" + message, str(caught.value))


def test_a_loss_whose_samples_depend_on_each_other_must_have_a_weighted_of_its_own():
    """The square of the mean: its gradient has the mean of all samples in it."""

    class SquaredMean(Squared):
        def value(self, mean):
            return mean * mean

        def samples(self, outputs, targets, *, xp):
            samples, gradient = super().samples(outputs, targets, xp=xp)
            return samples, 2.0 * xp.mean(samples) * gradient

    with pytest.raises(PartError, match=r"with 1 sample, weighted, the gradient of outputs"):
        check_gradients(SquaredMean(), backends=["numpy"])

    class Right(SquaredMean):
        def weighted(self, outputs, targets, weights, *, xp):
            samples, gradient = Squared.samples(self, outputs, targets, xp=xp)
            gradient = gradient * xp.expand_dims(weights, axis=1)
            return samples, 2.0 * xp.mean(weights * samples) * gradient

    assert check_gradients(Right(), backends=["numpy"]).rows


@pytest.mark.parametrize("change", ["sum", "twice"])
def test_mistakes_in_a_loss_are_found_on_every_backend(change, name):
    with pytest.raises(PartError, match=rf" on {name} in float64: with .* the gradient of outputs"):
        check_gradients(Squared(change), backends=[name], inputs=1)
