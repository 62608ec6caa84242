"""The steps of a run, pure functions of a mini-batch: what training and evaluation compute.

``carry, sums = step(carry, row, x, y, *context)``, where `row` are the mini-batch's rows of x and
y; `xpnn.backends.Backend.fold` goes through the rows of a matrix of them.
"""

from __future__ import annotations

import functools
import itertools
import types
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from xpnn._core import random_bits
from xpnn._core.tree import Tree, leaves
from xpnn.backends import Backend, namespace
from xpnn.errors import ArgumentError
from xpnn.layers import Layer
from xpnn.losses import Loss
from xpnn.model import Sequential
from xpnn.optimizers import Optimizer, State, clipped
from xpnn.schedules import Schedule
from xpnn.training.history import History

Array = Any
Carry = tuple[Tree, Tree, State]
Sums = tuple[Array, ...]


class _Keyed:
    """Base of functions that may share with equal ones what a compiler makes of them.

    Two are equal if their keys are; one without a key is equal to itself alone.
    """

    @functools.cached_property
    def key(self) -> Hashable:
        """What is alike only for functions that are known to compute the same, else None."""
        try:
            return type(self), *(_known(getattr(self, part.name)) for part in fields(self))  # type: ignore[arg-type]
        except _UnknownPart:
            return None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Keyed) or self.key is None:
            return self is other
        return self.key == other.key

    def __hash__(self) -> int:
        return id(self) if self.key is None else hash(self.key)


class _UnknownPart(Exception):  # noqa: N818
    """A part that may depend on anything."""


def _known(part: Any) -> Hashable:
    """Return what is alike only for parts that compute the same; of xpnn's own, their settings."""
    if part is None or isinstance(part, bool | int | float | str):
        # not the number itself: 0.0 is equal to -0.0, and to 0
        return type(part), repr(part)
    if isinstance(part, type | np.dtype):
        return part
    if isinstance(part, tuple):
        return tuple(map(_known, part))
    if isinstance(part, dict):
        return tuple((name, _known(value)) for name, value in part.items())
    if isinstance(part, functools.partial):
        return _known(part.func), _known(part.args), _known(part.keywords)
    if type(part) is Sequential:
        return _known(part.layers)
    if isinstance(part, types.FunctionType) and _is_own(part):
        return part
    if isinstance(part, Layer | Loss | Optimizer) and _is_own(type(part)):
        public = {name: value for name, value in vars(part).items() if name[0] != "_"}
        return type(part), _known(public)
    raise _UnknownPart


def _is_own(part: Any) -> bool:
    return part.__module__.startswith("xpnn.")  # type: ignore[no-any-return]


@dataclass(frozen=True, eq=False)
class InitialState(_Keyed):
    """The optimizer's state before the first step."""

    optimizer: Optimizer

    def __call__(self, parameters: Tree) -> State:
        return self.optimizer.init(parameters, xp=namespace(*leaves(parameters)))


@dataclass(frozen=True, eq=False)
class TrainingStep(_Keyed):
    """One step of mini-batch gradient descent.

    The carry is all that a step hands to the next: the parameters, the buffers and the optimizer's
    state. What else it depends on is a function of its number and epoch: the random numbers of its
    layers, whose keys head its row of samples, and, given the log so far, its learning rate.

    Parameters
    ----------
    network
        See `Sequential.bare`: a step that is kept mustn't keep its arrays.
    loss, optimizer
        Of the run.
    dtype
        That the features are computed with in.
    scheduled
        Whether the context ends with the learning rates of an epoch's steps.
    clip_norm
        The largest norm of the gradient, None if any will do.
    """

    network: Sequential
    loss: Loss
    optimizer: Optimizer
    dtype: Any
    scheduled: bool = False
    clip_norm: float | None = None

    @functools.cached_property
    def drawing(self) -> tuple[int, ...]:
        """The places of the layers that draw random numbers."""
        return tuple(i for i, layer in enumerate(self.network.layers) if layer.draws)

    @property
    def headed(self) -> bool:
        """Whether a row of samples is headed by the step's number and its layers' keys."""
        return bool(self.drawing) or self.scheduled

    def __call__(
        self, carry: Carry, row: Array, x: Array, y: Array, *context: Array
    ) -> tuple[Carry, Sums]:
        parameters, buffers, state = carry
        xp, optimizer = namespace(row), self.optimizer
        keys = {layer: row[k : k + 1] for k, layer in enumerate(self.drawing, 1)}
        if self.scheduled:
            *context, rates = context  # type: ignore[assignment]
            optimizer = optimizer.at(xp.take(rates, row[:1], axis=0)[0])
        if self.headed:
            row = row[1 + len(keys) :]
        inputs = _taken(x, row, self.dtype, xp)
        outputs, pullback, buffers = self.network.train(parameters, buffers, inputs, keys, xp=xp)
        gradient, sums = _criticized(self.loss, outputs, row, y, *context, xp=xp)
        gradients = pullback(gradient)
        if self.clip_norm is not None:
            gradients = clipped(gradients, self.clip_norm, xp=xp)
        parameters, state = optimizer.update(parameters, gradients, state, xp=xp)
        return (parameters, buffers, state), sums


@dataclass(frozen=True, eq=False)
class EvaluationStep(_Keyed):
    """The figures of the trained network on one mini-batch; its arrays are the carry.

    Parameters are those of `TrainingStep`.
    """

    network: Sequential
    loss: Loss
    dtype: Any

    def __call__(
        self, arrays: Tree, row: Array, x: Array, y: Array, *context: Array
    ) -> tuple[Tree, Sums]:
        xp = namespace(row)
        outputs, _ = self.network.forward(arrays, _taken(x, row, self.dtype, xp), xp=xp)
        _, sums = _criticized(self.loss, outputs, row, y, *context, xp=xp)
        return arrays, sums


def _taken(x: Array, rows: Array, dtype: Any, xp: Any) -> Array:
    inputs = xp.take(x, rows, axis=0)
    return inputs if inputs.dtype == dtype else xp.astype(inputs, dtype)


def _criticized(
    loss: Loss, outputs: Array, rows: Array, y: Array, weights: Array | None = None, *, xp: Any
) -> tuple[Array, Sums]:
    """Return the gradient of the loss, and the sums that the log's figures are made of."""
    targets = xp.take(y, rows, axis=0)
    if weights is None:
        samples, gradient = loss.samples(outputs, targets, xp=xp)
    else:
        weights = xp.take(weights, rows, axis=0)
        samples, gradient = loss.weighted(outputs, targets, weights, xp=xp)

    def total(part: Array) -> Array:
        return xp.sum(part if weights is None else weights * part)

    losses = total(loss.reported(samples, xp=xp))
    hits = loss.hits(outputs, targets, xp=xp)
    return gradient, (losses,) if hits is None else (losses, total(hits))


def mini_batches(order: np.ndarray, batch_size: int, count: int) -> list[np.ndarray]:
    """Cut an order into `count` matrices with a mini-batch a row, and a smaller last one alone."""
    whole = len(order) // batch_size
    matrix = order[: whole * batch_size].reshape(whole, batch_size)
    pieces = np.array_split(matrix, min(count, whole)) if whole else []
    rest = order[whole * batch_size :]
    return [*pieces, rest.reshape(1, -1)] if len(rest) else pieces


def head_of(epoch: int, seeds: Sequence[int]) -> Callable[[np.ndarray], np.ndarray]:
    """Return what heads the mini-batches of an epoch with their numbers, and a key for each seed.

    It is handed them in order, as matrices with a mini-batch a row.
    """
    numbers = itertools.count()
    moment = np.array([epoch])

    def headed(rows: np.ndarray) -> np.ndarray:
        own = np.array(list(itertools.islice(numbers, len(rows))))
        keys = [random_bits.split(random_bits.split(seed, moment), own) for seed in seeds]
        return np.column_stack([own, *keys, rows])

    return headed


class Rates:
    """The learning rates of a run's steps.

    Parameters
    ----------
    schedule
        None where the optimizer's own holds all along.
    optimizer, backend, epochs, batches
        Of the run; the last of an epoch.
    """

    def __init__(
        self,
        schedule: Schedule | None,
        optimizer: Optimizer,
        backend: Backend,
        epochs: int,
        batches: int,
    ) -> None:
        self._schedule, self._optimizer, self._backend = schedule, optimizer, backend
        self._epochs, self._batches = epochs, batches
        # kept, for NumPy's recorded steps know arrays by identity
        self._rates = np.empty(batches, backend.dtype_name)

    def of(self, epoch: int, history: History) -> tuple[Array, ...]:
        """Return what the steps of an epoch must know beside the data, given the log before it."""
        if self._schedule is None:
            return ()
        times = epoch - 1 + np.arange(self._batches) / self._batches
        factors = np.asarray(self._schedule.factors(times, self._epochs, history))
        if factors.shape != times.shape or not (np.isfinite(factors) & (factors >= 0)).all():
            raise ArgumentError(
                f"schedule must give {self._batches} finite factors >= 0 in epoch {epoch}, "
                f"got {factors}"
            )
        self._rates[:] = self._optimizer.lr * factors  # type: ignore[attr-defined]
        return (self._backend.chunk(self._rates, None),)
