"""Learning-rate schedules: a factor of the optimizer's learning rate for every step of a run.

A schedule carries nothing from step to step: its factors are a function of the time and of the
log so far. They are computed on the host in float64, by operations that round the same everywhere.
"""

from __future__ import annotations

import decimal
import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xpnn._core.parts import Part, checked
from xpnn._core.registry import Registry
from xpnn.errors import ArgumentError, integer, nonnegative, number, positive
from xpnn.metrics import is_minimized, monitored

__all__ = [
    "SCHEDULES",
    "Constant",
    "Cosine",
    "Exponential",
    "Plateau",
    "Schedule",
    "Step",
    "Warmup",
    "power",
    "register",
]

SCHEDULES: Registry[type[Schedule]] = Registry(
    "schedule", lambda: Schedule, lambda schedule: schedule.__name__.lower()
)
register = SCHEDULES.register


@dataclass(frozen=True)
class Schedule(Part, ABC):
    """Base class of schedules; a subclass implements `factors`."""

    @abstractmethod
    def factors(self, times: np.ndarray, epochs: float, history: Sequence[Any]) -> np.ndarray:
        """Return the factor of the learning rate for each step of an epoch.

        Parameters
        ----------
        times
            The epochs that have passed before each step, float64 of shape (batches,): 0.0 for the
            first step of a run, 2.5 in the middle of the third epoch.
        epochs
            The epochs of the whole run.
        history
            The run's log up to the epoch before: `Epoch` rows, the untrained network's first.

        Returns
        -------
        factors
            float64 in the shape of `times`, finite and >= 0.
        """

    def check(self, validation: bool) -> None:
        """Raise `ArgumentError` if it needs a validation set and the run has none."""


def _whole(name: str, value: Any, minimum: int) -> int:
    # a whole number may be a float, such as 3.0
    whole = isinstance(value, float) and value.is_integer()
    return integer(name, int(value) if whole else value, minimum=minimum)


def _factor(name: str, value: Any) -> float:
    return number(name, value, "a number > 0 and <= 1", lambda factor: 0 < factor <= 1)


def _share(name: str, value: Any) -> float:
    return number(name, value, "a number >= 0 and <= 1", lambda share: 0 <= share <= 1)


def power(base: float, exponent: float) -> float:
    """Return ``base ** exponent``, by decimal: the platform's pow may differ in the last digit."""
    context = decimal.Context(prec=40)
    # a user's context may refuse decimal.Decimal(base)
    exact = map(decimal.Decimal.from_float, (float(base), float(exponent)))
    return float(context.power(*exact))


def _powers(gamma: float, exponents: np.ndarray) -> np.ndarray:
    """Return gamma to the power of whole numbers, few of which differ."""
    distinct, positions = np.unique(exponents, return_inverse=True)
    return np.asarray([power(gamma, int(n)) for n in distinct])[positions]


def _half_cosine(x: np.ndarray) -> np.ndarray:
    """Return (1 + cos(pi x)) / 2 for 0 <= x <= 1, with an error of at most 2^-51.

    It is 1 - sin²(pi x / 2), by the sine's series: the platform's cosine may differ in a digit.
    """
    angle = (math.pi / 2) * x
    square, terms = angle * angle, np.zeros_like(x)
    # the terms from the 13th on are below 2^-60
    for k in range(12, 0, -1):
        terms = (1.0 + terms) * (-square / (2 * k * (2 * k + 1)))
    sine = angle + angle * terms
    cosine: np.ndarray = 1.0 - sine * sine
    return cosine


@dataclass(frozen=True)
class Step(Schedule):
    """Step decay: the factor is ``gamma ** floor(t / every)`` after t epochs.

    PyTorch's StepLR, stepped once an epoch.

    Parameters
    ----------
    every
        The number of epochs with the same factor, a whole number >= 1.
    gamma
        The factor's change after these epochs, > 0 and <= 1.
    """

    every: int = checked(10, functools.partial(_whole, minimum=1))
    gamma: float = checked(0.1, _factor)

    def factors(self, times: np.ndarray, epochs: float, history: Sequence[Any]) -> np.ndarray:
        return _powers(self.gamma, np.floor(times / self.every))


@dataclass(frozen=True)
class Exponential(Schedule):
    """Exponential decay: the factor is ``gamma ** floor(t)`` after t epochs.

    PyTorch's ExponentialLR, stepped once an epoch.

    Parameters
    ----------
    gamma
        The factor's change after each epoch, > 0 and <= 1.
    """

    gamma: float = checked(0.95, _factor)

    def factors(self, times: np.ndarray, epochs: float, history: Sequence[Any]) -> np.ndarray:
        return _powers(self.gamma, np.floor(times))


@dataclass(frozen=True)
class Cosine(Schedule):
    """Cosine annealing without restarts (Loshchilov and Hutter 2017), changing with each step.

    The factor is ``final + (1 - final) (1 + cos(pi t / epochs)) / 2`` after t of the run's epochs.
    PyTorch's CosineAnnealingLR, stepped once a mini-batch.

    Parameters
    ----------
    final
        The factor at the end, >= 0 and <= 1.
    """

    final: float = checked(0.0, _share)

    def factors(self, times: np.ndarray, epochs: float, history: Sequence[Any]) -> np.ndarray:
        # a run that is all warm-up leaves no epochs
        part = np.minimum(times / epochs, 1.0) if epochs > 0 else np.zeros_like(times)
        return self.final + (1.0 - self.final) * _half_cosine(part)


@dataclass(frozen=True)
class Plateau(Schedule):
    """Multiply the learning rate by `factor` whenever a figure of the log stops getting better.

    An epoch is better if its loss is more than `min_delta` below the least so far, or its accuracy
    more than `min_delta` above the largest; a metric, as it says. After more than `patience` epochs
    in a row that aren't better, the learning rate falls and the count starts again: after k falls
    it is multiplied by ``factor ** k``. The untrained network doesn't count. PyTorch's
    ReduceLROnPlateau with ``threshold_mode="abs"``.

    Parameters
    ----------
    factor
        What multiplies the learning rate, > 0 and <= 1.
    patience
        The number of epochs in a row that needn't be better, a whole number >= 0.
    min_delta
        The least improvement that counts, >= 0.
    monitor
        "test_loss", "test_accuracy", "train_loss", "train_accuracy", or a metric of the run such as
        "test_f1". The test figures need a validation set.
    """

    factor: float = checked(0.1, _factor)
    patience: int = checked(10, functools.partial(_whole, minimum=0))
    min_delta: float = checked(1e-4, nonnegative)
    monitor: str = checked("test_loss", monitored)

    def check(self, validation: bool) -> None:
        if self.monitor.startswith("test") and not validation:
            raise ArgumentError(
                f"schedule monitors {self.monitor!r}, which needs a validation set; "
                "without one take monitor='train_loss'"
            )

    def factors(self, times: np.ndarray, epochs: float, history: Sequence[Any]) -> np.ndarray:
        sign = 1.0 if is_minimized(self.monitor) else -1.0
        best, waited, falls = math.inf, 0, 0
        for row in history[1:]:
            figure = sign * getattr(row, self.monitor)
            if figure < best - self.min_delta:
                best, waited = figure, 0
            else:
                waited += 1
            if waited > self.patience:
                falls, waited = falls + 1, 0
        return _powers(self.factor, np.full(times.shape, falls))


@dataclass(frozen=True)
class Constant(Schedule):
    """The optimizer's learning rate, unchanged: what follows a warm-up by default."""

    def factors(self, times: np.ndarray, epochs: float, history: Sequence[Any]) -> np.ndarray:
        return np.ones_like(times)


@dataclass(frozen=True)
class Warmup(Schedule):
    """Gradual warm-up (Goyal et al. 2017): the learning rate rises linearly, step by step.

    Step i of the K steps in the first `epochs` epochs has the factor ``i / K``. Then `then` begins,
    at its time 0 and with the epochs that are left.

    Parameters
    ----------
    epochs
        The length of the warm-up, > 0; needn't be whole.
    then
        The schedule that follows.
    """

    epochs: float = checked(5.0, positive)
    then: Schedule = Constant()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.then, Schedule):
            raise ArgumentError(f"then must be an instance such as Cosine(), got {self.then!r}")

    def check(self, validation: bool) -> None:
        self.then.check(validation)

    def factors(self, times: np.ndarray, epochs: float, history: Sequence[Any]) -> np.ndarray:
        after = np.maximum(times - self.epochs, 0.0)
        factors = self.then.factors(after, epochs - self.epochs, history)
        rising: np.ndarray = factors * np.minimum((times + 1.0 / len(times)) / self.epochs, 1.0)
        return rising


for _schedule in (Constant, Step, Exponential, Cosine, Plateau):
    register(_schedule)
