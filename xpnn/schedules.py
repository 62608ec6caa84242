"""Learning-rate schedules: a factor of the optimizer's learning rate for every step of a run.

A schedule carries nothing from step to step: its factors are a function of the time and of the
log so far. They are computed on the host, in float64, by operations that round alike everywhere.
"""

from __future__ import annotations

import decimal
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xpnn._core.parts import Part
from xpnn._core.registry import Registry
from xpnn.errors import ArgumentError, finite, integer, nonnegative, positive, unknown

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

# columns of a log, by whether less is better
_LESS_IS_BETTER = {
    "test_loss": True,
    "test_accuracy": False,
    "train_loss": True,
    "train_accuracy": False,
}


@dataclass(frozen=True)
class Schedule(Part, ABC):
    """Base class of schedules; a subclass implements `factors`."""

    @abstractmethod
    def factors(self, times: np.ndarray, epochs: float, history: Sequence[Any]) -> np.ndarray:
        """Return the factor of the learning rate for each step of an epoch.

        Parameters
        ----------
        times
            For each step of the epoch, how many epochs have passed before it, float64 of shape
            (batches,): 0.0 for the first of a run, 2.5 in the middle of the third epoch.
        epochs
            How many the run takes in all.
        history
            The run's log up to the epoch before, `Epoch` rows, the untrained network's first.

        Returns
        -------
        factors
            float64 in the shape of `times`, finite and >= 0.
        """

    def check(self, validation: bool) -> None:
        """Raise `ArgumentError` if a run with or without a validation set can't have it."""


def _whole(name: str, value: Any, minimum: int) -> int:
    # 3.0 is as good as 3
    whole = isinstance(value, float) and value.is_integer()
    return integer(name, int(value) if whole else value, minimum=minimum)


def _factor(name: str, value: Any) -> float:
    number = finite(name, value)
    if not 0 < number <= 1:
        raise ArgumentError(f"{name} must be a number > 0 and <= 1, got {value!r}")
    return number


def power(base: float, exponent: float) -> float:
    """Return ``base ** exponent``, alike everywhere: the platform's pow may differ in a digit."""
    context = decimal.Context(prec=40)
    return float(context.power(decimal.Decimal(base), decimal.Decimal(exponent)))


def _powers(gamma: float, exponents: np.ndarray) -> np.ndarray:
    """Return gamma to the power of whole numbers, of which few are different."""
    known, places = np.unique(exponents, return_inverse=True)
    return np.asarray([power(gamma, int(n)) for n in known])[places]


def _half_cosine(x: np.ndarray) -> np.ndarray:
    """Return (1 + cos(pi x)) / 2 for 0 <= x <= 1, at most 2^-51 off.

    As 1 - sin²(pi x / 2), by the sine's series: the platform's cosine may differ in a digit.
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
    """Step decay: the learning rate times `gamma` after every `every` epochs.

    The factor is ``gamma ** floor(t / every)`` after t epochs. PyTorch's StepLR, stepped once an
    epoch.

    Parameters
    ----------
    every
        A whole number of epochs, >= 1.
    gamma
        > 0 and <= 1.
    """

    every: int = 10
    gamma: float = 0.1

    def __post_init__(self) -> None:
        object.__setattr__(self, "every", _whole("every", self.every, 1))
        object.__setattr__(self, "gamma", _factor("gamma", self.gamma))

    def factors(self, times: np.ndarray, epochs: float, history: Sequence[Any]) -> np.ndarray:
        return _powers(self.gamma, np.floor(times / self.every))


@dataclass(frozen=True)
class Exponential(Schedule):
    """Exponential decay: the learning rate times `gamma` after each epoch.

    The factor is ``gamma ** floor(t)`` after t epochs. PyTorch's ExponentialLR, stepped once an
    epoch.

    Parameters
    ----------
    gamma
        > 0 and <= 1.
    """

    gamma: float = 0.95

    def __post_init__(self) -> None:
        object.__setattr__(self, "gamma", _factor("gamma", self.gamma))

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

    final: float = 0.0

    def __post_init__(self) -> None:
        if not nonnegative("final", self.final) <= 1:
            raise ArgumentError(f"final must be a number >= 0 and <= 1, got {self.final!r}")
        object.__setattr__(self, "final", float(self.final))

    def factors(self, times: np.ndarray, epochs: float, history: Sequence[Any]) -> np.ndarray:
        # a run that is all warm-up stays at the beginning
        part = np.minimum(times / epochs, 1.0) if epochs > 0 else np.zeros_like(times)
        return self.final + (1.0 - self.final) * _half_cosine(part)


@dataclass(frozen=True)
class Plateau(Schedule):
    """The learning rate times `factor` when a figure of the log no longer gets better.

    An epoch is better if the figure is by more than `min_delta` below the least so far (above the
    largest, of an accuracy). After more than `patience` epochs in a row without a better one the
    learning rate falls, and the count begins anew. The untrained network doesn't count. PyTorch's
    ReduceLROnPlateau with ``threshold_mode="abs"``.

    Parameters
    ----------
    factor
        > 0 and <= 1.
    patience
        A whole number of epochs, >= 0.
    min_delta
        >= 0.
    monitor
        "test_loss", "test_accuracy", "train_loss" or "train_accuracy". The test figures need a
        validation set.
    """

    factor: float = 0.1
    patience: int = 10
    min_delta: float = 1e-4
    monitor: str = "test_loss"

    def __post_init__(self) -> None:
        object.__setattr__(self, "factor", _factor("factor", self.factor))
        object.__setattr__(self, "patience", _whole("patience", self.patience, 0))
        object.__setattr__(self, "min_delta", nonnegative("min_delta", self.min_delta))
        if self.monitor not in _LESS_IS_BETTER:
            raise unknown("monitor", self.monitor, _LESS_IS_BETTER)

    def check(self, validation: bool) -> None:
        if self.monitor.startswith("test") and not validation:
            raise ArgumentError(
                f"schedule monitors {self.monitor!r}, which needs a validation set; "
                "without one take monitor='train_loss'"
            )

    def factors(self, times: np.ndarray, epochs: float, history: Sequence[Any]) -> np.ndarray:
        sign = 1.0 if _LESS_IS_BETTER[self.monitor] else -1.0
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
    """The optimizer's own learning rate: what follows a warm-up, if nothing else does."""

    def factors(self, times: np.ndarray, epochs: float, history: Sequence[Any]) -> np.ndarray:
        return np.ones_like(times)


@dataclass(frozen=True)
class Warmup(Schedule):
    """Gradual warm-up (Goyal et al. 2017): the learning rate rises linearly, step by step.

    Step i of the K steps in the first `epochs` epochs has the factor ``i / K``, the last of them 1.
    Then begins `then`, whose time starts at 0 there, with the epochs that are left.

    Parameters
    ----------
    epochs
        > 0; needn't be whole.
    then
        What follows.
    """

    epochs: float = 5.0
    then: Schedule = Constant()

    def __post_init__(self) -> None:
        object.__setattr__(self, "epochs", positive("epochs", self.epochs))
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
