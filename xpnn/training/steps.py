"""The steps of a run: pure functions of a mini-batch, for training and for evaluation.

``carry, sums = step(carry, row, *context)``, where `row` describes the mini-batch, see `Batch`,
and `context` is a `Context`; `xpnn.backends.Backend.fold` goes through the rows of a matrix.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np

from xpnn._core import random_bits
from xpnn._core.parts import UnknownPartError, key_of
from xpnn._core.scopes import Place, enter, scope
from xpnn._core.tree import Tree, leaves, tree_map
from xpnn.backends import Backend, namespace
from xpnn.errors import ArgumentError
from xpnn.losses import Loss
from xpnn.metrics import Metric, measures
from xpnn.model import Network
from xpnn.optimizers import Optimizer, State, clipped
from xpnn.schedules import Schedule
from xpnn.training.history import History

Array = Any
Carry = tuple[Tree, Tree, State]
Sums = tuple[Array, ...]


class Context(NamedTuple):
    """What all steps of an epoch share.

    Attributes
    ----------
    x, y
        The data that mini-batches take their rows from.
    weights
        The samples' weights, shape (n,); an empty tuple if all count alike.
    rates
        The learning rate of each step of the epoch; an empty tuple for the optimizer's own.
    """

    x: Array
    y: Array
    weights: Array | tuple[()] = ()
    rates: Array | tuple[()] = ()


class Batch(NamedTuple):
    """A mini-batch, described by a row of integers.

    Attributes
    ----------
    rows
        The indices of its rows in x and y.
    number
        The number of the step in its epoch, shape (1,); None if the step doesn't need it.
    keys
        A key for each layer that draws random numbers, shape (1,), by the layer's index.
    """

    rows: Array
    number: Array | None
    keys: dict[int, Array]


# names for the parts of a step that come after the network's forward pass
_LOSS, _ACCURACY, _METRICS = Place("loss"), Place("accuracy"), Place("metrics")
_CLIP_NORM, _OPTIMIZER = Place("clip_norm"), Place("optimizer")


class _Keyed:
    """Base class of steps whose compiled program equal steps can share.

    Two steps are equal if their keys are; a step without a key equals only itself.
    """

    @functools.cached_property
    def key(self) -> Hashable:
        """A key that only steps with the same computation share; None if that isn't known."""
        try:
            return type(self), *(key_of(getattr(self, part.name)) for part in fields(self))  # type: ignore[arg-type]
        except UnknownPartError:
            return None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Keyed) or self.key is None:
            return self is other
        return self.key == other.key

    def __hash__(self) -> int:
        return id(self) if self.key is None else hash(self.key)


@dataclass(frozen=True, eq=False)
class InitialState(_Keyed):
    """The optimizer's state before the first step."""

    optimizer: Optimizer

    def __call__(self, parameters: Tree) -> State:
        return self.optimizer.init(parameters, xp=namespace(*leaves(parameters)))


@dataclass(frozen=True, eq=False)
class TrainingStep(_Keyed):
    """One step of mini-batch gradient descent.

    The carry is all that a step passes to the next: the parameters, the buffers and the optimizer's
    state. All else that a step depends on follows from its epoch, its number there and the log so
    far: the keys of its layers' random numbers, at the head of its row, and its learning rate.

    Parameters
    ----------
    network
        The network without its arrays, because a step may be kept longer than they are.
    loss, optimizer
        Those of the run.
    dtype
        The dtype of the features that enter the network.
    scheduled
        Whether the context has the learning rates of an epoch's steps.
    clip_norm
        The largest norm of the gradient, None for no limit.
    metrics
        The metrics of the run.
    """

    network: Network
    loss: Loss
    optimizer: Optimizer
    dtype: Any
    scheduled: bool = False
    clip_norm: float | None = None
    metrics: tuple[Metric, ...] = ()

    @functools.cached_property
    def drawing(self) -> tuple[int, ...]:
        """The indices of the layers that draw random numbers."""
        return tuple(i for i, layer in enumerate(self.network.layers) if layer.draws)

    @property
    def _heads(self) -> bool:
        """Whether a row begins with the step's number and the layers' keys."""
        return bool(self.drawing) or self.scheduled

    def __call__(self, carry: Carry, row: Array, *context: Any) -> tuple[Carry, Sums]:
        xp, optimizer = namespace(row), self.optimizer
        parameters, buffers, state = carry
        data, batch = Context(*context), self._batch(row)
        with scope("data"):
            if self.scheduled:
                optimizer = optimizer.at(xp.take(data.rates, batch.number, axis=0)[0])
            inputs = _features(data.x, batch.rows, self.dtype, xp)
            outputs, pullback, buffers = self.network.train(
                parameters, buffers, inputs, batch.keys, xp=xp
            )
            gradient, sums = _gradient_and_sums(
                self.loss, self.metrics, outputs, batch.rows, data, xp=xp
            )
            gradients = pullback(gradient)
            if self.clip_norm is not None:
                enter(_CLIP_NORM)
                gradients = clipped(gradients, self.clip_norm, xp=xp)
            enter(_OPTIMIZER)
            parameters, state = optimizer.update(parameters, gradients, state, xp=xp)
        return (parameters, buffers, state), sums

    def headed(self, epoch: int, seeds: Sequence[int]) -> Callable[[np.ndarray], np.ndarray]:
        """Return a function that turns rows of samples into rows of `Batch`, for one epoch.

        It works on the host. Call it with the mini-batches in order, as matrices with one
        mini-batch per row; if the step needs them, it puts the step's number and a key for each
        seed before each row.
        """
        if not self._heads:
            return lambda rows: rows
        numbers = itertools.count()
        moment = np.array([epoch])

        def headed(rows: np.ndarray) -> np.ndarray:
            own = np.array(list(itertools.islice(numbers, len(rows))))
            keys = [random_bits.split(random_bits.split(seed, moment), own) for seed in seeds]
            return np.column_stack([own, *keys, rows])

        return headed

    def _batch(self, row: Array) -> Batch:
        """Return the mini-batch that a row made by `headed` describes."""
        if not self._heads:
            return Batch(row, None, {})
        keys = {layer: row[k : k + 1] for k, layer in enumerate(self.drawing, 1)}
        return Batch(row[1 + len(keys) :], row[:1], keys)


@dataclass(frozen=True, eq=False)
class GradientStep(_Keyed):
    """Add one mini-batch's gradients to the sum over all samples, and leave the parameters.

    The carry is that of `TrainingStep`, with the sum of the gradients in the place of the
    optimizer's state. Layers must not draw random numbers.

    Parameters are those of `TrainingStep`.
    """

    network: Network
    loss: Loss
    dtype: Any

    def __call__(
        self, carry: tuple[Tree, Tree, Tree], row: Array, *context: Any
    ) -> tuple[tuple[Tree, Tree, Tree], Sums]:
        xp, data = namespace(row), Context(*context)
        parameters, buffers, total = carry
        with scope("data"):
            inputs = _features(data.x, row, self.dtype, xp)
            outputs, pullback, _ = self.network.train(parameters, buffers, inputs, {}, xp=xp)
            gradient, sums = _gradient_and_sums(self.loss, (), outputs, row, data, xp=xp)
            # the loss divides by the number of samples in the mini-batch
            gradients = pullback(gradient * row.shape[0])
            total = tree_map(lambda a, b: a + b, total, gradients)
        return (parameters, buffers, total), sums


@dataclass(frozen=True, eq=False)
class EvaluationStep(_Keyed):
    """The figures of the trained network on one mini-batch; the carry is its arrays.

    Parameters are those of `TrainingStep`.
    """

    network: Network
    loss: Loss
    dtype: Any
    metrics: tuple[Metric, ...] = ()

    def __call__(self, arrays: Tree, row: Array, *context: Any) -> tuple[Tree, Sums]:
        xp, data = namespace(row), Context(*context)
        with scope("data"):
            outputs, _ = self.network.forward(arrays, _features(data.x, row, self.dtype, xp), xp=xp)
            _, sums = _gradient_and_sums(self.loss, self.metrics, outputs, row, data, xp=xp)
        return arrays, sums


def _features(x: Array, rows: Array, dtype: Any, xp: Any) -> Array:
    inputs = xp.take(x, rows, axis=0)
    return inputs if inputs.dtype == dtype else xp.astype(inputs, dtype)


def _gradient_and_sums(
    loss: Loss,
    metrics: tuple[Metric, ...],
    outputs: Array,
    rows: Array,
    data: Context,
    *,
    xp: Any,
) -> tuple[Array, Sums]:
    """Return the gradient of the loss, and for the log the sums of losses and hits, and `measures`.

    There are no hits if the targets are values.
    """
    targets, weights = xp.take(data.y, rows, axis=0), None
    if isinstance(data.weights, tuple):
        enter(_LOSS)
        samples, gradient = loss.samples(outputs, targets, xp=xp)
    else:
        weights = xp.take(data.weights, rows, axis=0)
        enter(_LOSS)
        samples, gradient = loss.weighted(outputs, targets, weights, xp=xp)

    def total(part: Array) -> Array:
        return xp.sum(part if weights is None else weights * part)

    losses = total(loss.reported(samples, xp=xp))
    enter(_ACCURACY)
    hits = loss.hits(outputs, targets, xp=xp)
    sums = (losses,) if hits is None else (losses, total(hits))
    if metrics:
        enter(_METRICS)
        sums += measures(metrics, loss, outputs, targets, weights, xp=xp)
    return gradient, sums


def mini_batches(order: np.ndarray, batch_size: int, count: int) -> list[np.ndarray]:
    """Cut an order into at most `count` matrices, one mini-batch per row.

    If the last mini-batch is smaller, it is a matrix of its own.
    """
    # a dimension has at most 63 bits
    batch_size = min(batch_size, max(len(order), 1))
    whole = len(order) // batch_size
    matrix = order[: whole * batch_size].reshape(whole, batch_size)
    pieces = np.array_split(matrix, min(count, whole)) if whole else []
    rest = order[whole * batch_size :]
    return [*pieces, rest.reshape(1, -1)] if len(rest) else pieces


class Rates:
    """The learning rates of a run's steps.

    Parameters
    ----------
    schedule
        None for the optimizer's own learning rate throughout.
    optimizer, backend, epochs
        Those of the run.
    batches
        Mini-batches per epoch.
    """

    def __init__(
        self,
        schedule: Schedule | None,
        optimizer: Optimizer,
        backend: Backend,
        epochs: int,
        batches: int,
    ) -> None:
        self._schedule, self._optimizer = schedule, optimizer
        self._move = backend.dataset(tuple)
        self._epochs, self._batches = epochs, batches
        # kept for all epochs, because NumPy's recorded steps know arrays by identity
        self._rates = np.empty(batches, backend.dtype_name)

    def of(self, epoch: int, history: History) -> Array | tuple[()]:
        """Return the learning rate of each step of an epoch; `history` is the log before it.

        Raises
        ------
        ArgumentError
            If the schedule returns anything but finite factors >= 0, one for each step.
        """
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
        return self._move(self._rates)
