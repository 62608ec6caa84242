"""Mistakes in an optimizer are found, and none in xpnn's own."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

import xpnn
from tests.helpers import open_backend, shipped
from xpnn.backends import BACKENDS
from xpnn.optimizers import OPTIMIZERS
from xpnn.testing import PartError, check_optimizer


@pytest.mark.parametrize("optimizer", shipped(OPTIMIZERS))
def test_every_optimizer_is_right(optimizer):
    report = check_optimizer(optimizer, backends=["numpy", "strict"])
    assert [row.error for row in report.rows] == [0.0] * 4


def test_an_optimizer_on_every_backend():
    report = check_optimizer(xpnn.Nesterov(lr=0.1))
    assert {row.backend for row in report.rows} | set(report.skipped) == set(BACKENDS)
    assert "takes the same steps everywhere" in str(report)


@dataclass(frozen=True)
class Wrong(xpnn.Optimizer):
    """Momentum, and what is wrong with it."""

    change: str = "right"
    slots: ClassVar[tuple[str, ...]] = ("velocity",)

    def rule(self, w, g, *slots, xp):
        (v,) = slots
        v = 0.9 * v - 0.1 * g
        match self.change:
            case "gradient":
                g *= 2.0
            case "dtype":
                return w + v, xp.astype(v, xp.float32)
            case "shape":
                return w + v, xp.sum(v)
            case "itself":
                steps = getattr(self, "steps", 0) + 1
                object.__setattr__(self, "steps", steps)
                v = v * (1.0 + 0.1 * steps)
        return w + v, v


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("gradient", "it changes an input"),
        ("dtype", r"in float64: a step must keep the state, .*float64.*, got .*float32"),
        ("shape", r"a step must keep the state, "),
        ("itself", r"the same steps don't end with the same parameters twice: is something kept"),
    ],
)
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_mistakes_in_an_optimizer_are_found(change, message, library):
    open_backend(library)
    assert check_optimizer(Wrong(), backends=[library]).rows
    with pytest.raises(PartError, match=message):
        check_optimizer(Wrong(change), backends=[library])


def test_what_is_kept_in_an_optimizer_is_found_where_steps_are_compiled():
    open_backend("jax")
    with pytest.raises(PartError, match="the same steps don't end with the same parameters twice"):
        check_optimizer(Wrong("itself"), backends=["jax"])


def test_backends_that_part_are_found():
    open_backend("strict")

    class Parted(xpnn.SGD):
        def rule(self, w, g, *slots, xp):
            return (w - (0.1 if isinstance(w, np.ndarray) else 0.11) * g,)

    message = r"on strict in float64: its parameters differ .* on numpy by"
    with pytest.raises(PartError, match=message):
        check_optimizer(Parted(), backends=["numpy", "strict"])


def test_what_is_no_optimizer():
    with pytest.raises(xpnn.ArgumentError, match="must be an Optimizer or its name, got 3"):
        check_optimizer(3)
