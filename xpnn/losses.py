"""Losses: the loss of each sample and the gradient of the mean, from the network's outputs.

Targets are integer class labels of shape (n,), or an array of the shape of the outputs (n, k):
one-hot rows, probabilities, or the values of a regression.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from dataclasses import KW_ONLY, dataclass, fields
from decimal import Decimal
from typing import Any, ClassVar

from xpnn._core import functions
from xpnn._core.parts import Part, checked
from xpnn._core.registry import Registry
from xpnn.backends import device, namespace
from xpnn.errors import ArgumentError, fraction, nonnegative, number

__all__ = [
    "LOSSES",
    "BinaryCrossEntropy",
    "CrossEntropy",
    "Flooding",
    "Loss",
    "MeanSquaredError",
    "encode",
    "is_labels",
    "labels",
    "mean",
    "register",
]

Array = Any

LOSSES: Registry[type[Loss]] = Registry("loss", lambda: Loss, lambda loss: loss.name)
register = LOSSES.register


def is_labels(targets: Array, *, xp: Any = None) -> bool:
    """Return whether `targets` are integer class labels, not values or one row a sample."""
    xp = namespace(targets) if xp is None else xp
    return targets.ndim == 1 and bool(xp.isdtype(targets.dtype, "integral"))


def encode(outputs: Array, targets: Array, xp: Any) -> Array:
    """Return `targets` in the shape and dtype of `outputs`, class labels as one-hot rows.

    With a single output, the labels 0 and 1 are the values.
    """
    if is_labels(targets, xp=xp) and outputs.shape[1] > 1:
        classes = xp.arange(outputs.shape[1], dtype=targets.dtype, device=device(targets))
        targets = xp.expand_dims(targets, axis=1) == classes
    elif targets.ndim == 1:
        if outputs.shape[1] != 1:
            raise ArgumentError(
                f"targets must have shape {tuple(outputs.shape)}, as the outputs have, "
                f"or be integer labels, got {targets.dtype} of shape {tuple(targets.shape)}"
            )
        targets = xp.expand_dims(targets, axis=1)
    return targets if targets.dtype == outputs.dtype else xp.astype(targets, outputs.dtype)


class Loss(Part, ABC):
    """Base class of losses: ``loss(outputs, targets)`` returns the loss and its gradient.

    A subclass implements `samples` and may override the rest.
    """

    name: ClassVar[str]

    @abstractmethod
    def samples(self, outputs: Array, targets: Array, *, xp: Any) -> tuple[Array, Array]:
        """Return each sample's loss and the gradient of the mini-batch's loss.

        Parameters
        ----------
        outputs
            The network's outputs, shape (n, k). Not mutated.
        targets
            Labels of shape (n,) or values of shape (n, k). Not mutated.
        xp
            The array API namespace to compute with.

        Returns
        -------
        samples
            Shape (n,), in the dtype of `outputs`.
        gradient
            With respect to `outputs`, shape (n, k), in their dtype.
        """

    def weighted(
        self, outputs: Array, targets: Array, weights: Array, *, xp: Any
    ) -> tuple[Array, Array]:
        """Return each sample's loss, and the gradient of the mini-batch's loss with weights.

        The mini-batch's loss is then `value` of ``sum(weights * samples) / n``: a weight of 2
        counts a sample twice, but n stays the same. A loss in which a sample's gradient depends on
        other samples overrides this.

        Parameters
        ----------
        outputs, targets, xp
            As for `samples`.
        weights
            Shape (n,), in the dtype of `outputs`. Not mutated.

        Returns
        -------
        samples
            Shape (n,), without their weights.
        gradient
            With respect to `outputs`, shape (n, k).
        """
        samples, gradient = self.samples(outputs, targets, xp=xp)
        return samples, gradient * xp.expand_dims(weights, axis=1)

    def value(self, mean: Any) -> Any:
        """Return the mini-batch's loss from the mean over its samples."""
        return mean

    def reported(self, samples: Array, *, xp: Any) -> Array:
        """Return each sample's share of the loss that a log shows."""
        return samples

    def predict(self, outputs: Array, *, xp: Any) -> Array:
        """Return what `outputs` predict: probabilities or values, as the targets are."""
        return outputs

    def hits(self, outputs: Array, targets: Array, *, xp: Any) -> Array | None:
        """Return for each sample whether its prediction is right, as 1 or 0 of shape (n,).

        None if no prediction counts as right or wrong, as in a regression.
        """
        if is_labels(targets, xp=xp):
            return xp.astype(labels(outputs, xp=xp) == targets, outputs.dtype)
        return None

    def chosen(self, outputs: Array, targets: Array, *, xp: Any) -> tuple[Array, Array] | None:
        """Return the predicted classes and the true ones: 1 where a class is, 0 where it isn't.

        Both have shape (n, classes) and the dtype of `outputs`; a single output has the columns of
        its two classes. None if the targets are values.
        """
        if not is_labels(targets, xp=xp):
            return None
        classes = xp.arange(max(outputs.shape[1], 2), dtype=xp.int64, device=device(targets))
        both = (xp.astype(labels(outputs, xp=xp), xp.int64), xp.astype(targets, xp.int64))
        rows = [xp.astype(xp.expand_dims(own, axis=1) == classes, outputs.dtype) for own in both]
        return rows[0], rows[1]

    def classifies(self, outputs: int) -> bool:
        """Return whether integer targets of shape (n,) are labels for this number of outputs."""
        return True

    def check(self, outputs: int) -> None:
        """Raise `ArgumentError` if a network with this number of outputs can't have this loss."""

    def __call__(self, outputs: Array, targets: Array, *, xp: Any = None) -> tuple[Array, Array]:
        """Return the mini-batch's loss, a 0-d array, and its gradient.

        The loss of no samples is 0. ``xp`` is inferred from `outputs` if left out.
        """
        xp = namespace(outputs) if xp is None else xp
        samples, gradient = self.samples(outputs, targets, xp=xp)
        return self.value(mean(samples, xp=xp)), gradient


def mean(samples: Array, *, xp: Any) -> Array:
    """Return the mean over the samples, 0 if there are none."""
    return xp.sum(samples) / max(samples.shape[0], 1)


def labels(outputs: Array, *, xp: Any = None) -> Array:
    """Return the class with the largest logit in each row; with one output, 1 where it is > 0."""
    xp = namespace(outputs) if xp is None else xp
    if outputs.shape[1] == 1:
        return xp.astype(outputs[:, 0] > 0, xp.int64)
    return xp.argmax(outputs, axis=1)


@dataclass(frozen=True)
class _LabelSmoothing:
    """The share of the targets that a loss spreads over all classes (Szegedy et al. 2016)."""

    _: KW_ONLY
    label_smoothing: float = checked(0.0, fraction)

    def __repr__(self) -> str:
        # studies find their results by this text, so that it has a smoothing only if it isn't 0
        names = [f.name for f in fields(self) if f.name != "label_smoothing"]
        names += ["label_smoothing"] if self.label_smoothing else []
        given = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        return f"{type(self).__name__}({given})"

    def smoothed(self, t: Array, classes: int) -> Array:
        """Return ``(1 - label_smoothing) t + label_smoothing / classes``."""
        if not self.label_smoothing:
            return t
        return (1.0 - self.label_smoothing) * t + self.label_smoothing / classes


def _floor(name: str, value: Any) -> float:
    return number(name, value, "a number > 0 and < 1", lambda floor: 0 < floor < 1)


@dataclass(frozen=True, repr=False)
class CrossEntropy(_LabelSmoothing, Loss):
    """Softmax cross entropy from logits: ``-sum(t * log(softmax(u)))``, mean over the samples.

    The gradient is ``(softmax(u) * sum(t) - t) / n``. Logits may be as large as half of the
    dtype's largest number.

    Parameters
    ----------
    floor
        The least probability p of a sample's class in a log, which shows ``-log(max(p, floor))``:
        one confident mistake can't outweigh all other samples. The loss that is minimised has no
        floor. > 0 and < 1.
    label_smoothing
        Each target t becomes ``(1 - label_smoothing) t + label_smoothing / k`` for k outputs, as
        in PyTorch, for test data too. >= 0 and < 1.
    """

    floor: float = checked(1e-7, _floor)

    name: ClassVar[str] = "cross_entropy"

    def samples(self, outputs: Array, targets: Array, *, xp: Any) -> tuple[Array, Array]:
        t = self.smoothed(encode(outputs, targets, xp), outputs.shape[1])
        shifted = outputs - xp.max(outputs, axis=1, keepdims=True)
        e = xp.exp(shifted)
        total = xp.sum(e, axis=1, keepdims=True)
        softmax = e / total
        if not is_labels(targets, xp=xp):
            softmax = softmax * xp.sum(t, axis=1, keepdims=True)
        samples = xp.sum(t * (xp.log(total) - shifted), axis=1)
        return samples, (softmax - t) / max(outputs.shape[0], 1)

    @functools.cached_property
    def _cap(self) -> float:
        # decimal's logarithm is correctly rounded; the platform's may differ in the last digit
        return -float(Decimal(self.floor).ln())

    def reported(self, samples: Array, *, xp: Any) -> Array:
        return xp.minimum(samples, self._cap)

    def predict(self, outputs: Array, *, xp: Any) -> Array:
        return functions.softmax(outputs, xp)

    def hits(self, outputs: Array, targets: Array, *, xp: Any) -> Array:
        t = targets if is_labels(targets, xp=xp) else xp.argmax(targets, axis=1)
        return xp.astype(xp.argmax(outputs, axis=1) == t, outputs.dtype)

    def chosen(self, outputs: Array, targets: Array, *, xp: Any) -> tuple[Array, Array] | None:
        t = targets if is_labels(targets, xp=xp) else xp.argmax(targets, axis=1)
        return super().chosen(outputs, t, xp=xp)

    def check(self, outputs: int) -> None:
        if outputs < 2:
            raise ArgumentError(
                "loss 'cross_entropy' needs a network with 2 or more outputs, got 1; "
                "for one output take 'binary_cross_entropy'"
            )


@dataclass(frozen=True)
class MeanSquaredError(Loss):
    """Mean squared error ``(u - t)²``, mean over samples and outputs, without a factor ½.

    The gradient is ``2 (u - t) / (n k)``. With a single output, integer targets are values.
    """

    name: ClassVar[str] = "mean_squared_error"

    def classifies(self, outputs: int) -> bool:
        return outputs > 1

    def samples(self, outputs: Array, targets: Array, *, xp: Any) -> tuple[Array, Array]:
        difference = outputs - encode(outputs, targets, xp)
        n, k = outputs.shape
        samples = xp.sum(difference * difference, axis=1) / k
        return samples, difference * (2.0 / max(n * k, 1))


@dataclass(frozen=True, repr=False)
class BinaryCrossEntropy(_LabelSmoothing, Loss):
    """Binary cross entropy from logits: ``log(1 + exp(u)) - t u``, mean over samples and outputs.

    The gradient is ``(sigmoid(u) - t) / (n k)``. A single output, with labels 0 and 1, is for two
    classes; several outputs are independent yes-or-no questions.

    Parameters
    ----------
    label_smoothing
        Each target t becomes ``(1 - label_smoothing) t + label_smoothing / 2``, as in Keras, for
        test data too. >= 0 and < 1.
    """

    name: ClassVar[str] = "binary_cross_entropy"

    def samples(self, outputs: Array, targets: Array, *, xp: Any) -> tuple[Array, Array]:
        t = self.smoothed(encode(outputs, targets, xp), 2)
        n, k = outputs.shape
        # log1p last: where a right answer is confident, the rest is 0
        linear = xp.maximum(outputs, 0.0) - t * outputs
        samples = xp.sum(linear + xp.log1p(xp.exp(-xp.abs(outputs))), axis=1) / k
        return samples, (functions.sigmoid(outputs, xp) - t) / max(n * k, 1)

    def predict(self, outputs: Array, *, xp: Any) -> Array:
        return functions.sigmoid(outputs, xp)

    def hits(self, outputs: Array, targets: Array, *, xp: Any) -> Array:
        if is_labels(targets, xp=xp):
            return super().hits(outputs, targets, xp=xp)
        right = (outputs > 0) == (encode(outputs, targets, xp) > 0.5)
        return xp.sum(xp.astype(right, outputs.dtype), axis=1) / outputs.shape[1]

    def chosen(self, outputs: Array, targets: Array, *, xp: Any) -> tuple[Array, Array] | None:
        if is_labels(targets, xp=xp):
            return super().chosen(outputs, targets, xp=xp)
        both = (outputs > 0, encode(outputs, targets, xp) > 0.5)
        return xp.astype(both[0], outputs.dtype), xp.astype(both[1], outputs.dtype)


@dataclass(frozen=True)
class Flooding(Loss):
    """Flooding (Ishida et al. 2020): ``|E - b| + b`` of the mini-batch's loss E.

    Where E < b the gradient changes its sign, so that the loss climbs back to the flood level
    instead of sinking to 0. At E = b the gradient is that of E.

    Parameters
    ----------
    loss
        The loss E.
    b
        The flood level, >= 0.
    """

    loss: Loss
    b: float = checked(0.0, nonnegative)

    name: ClassVar[str] = "flooding"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.loss, Loss):
            raise ArgumentError(
                f"loss of Flooding must be an instance such as CrossEntropy(), got {self.loss!r}"
            )

    def samples(self, outputs: Array, targets: Array, *, xp: Any) -> tuple[Array, Array]:
        samples, gradient = self.loss.samples(outputs, targets, xp=xp)
        return samples, self._flooded(samples, gradient, xp)

    def weighted(
        self, outputs: Array, targets: Array, weights: Array, *, xp: Any
    ) -> tuple[Array, Array]:
        samples, gradient = self.loss.weighted(outputs, targets, weights, xp=xp)
        return samples, self._flooded(weights * samples, gradient, xp)

    def _flooded(self, samples: Array, gradient: Array, xp: Any) -> Array:
        below = self.loss.value(mean(samples, xp=xp)) < self.b
        return xp.where(below, -gradient, gradient)

    def value(self, mean: Any) -> Any:
        return abs(self.loss.value(mean) - self.b) + self.b

    def reported(self, samples: Array, *, xp: Any) -> Array:
        return self.loss.reported(samples, xp=xp)

    def predict(self, outputs: Array, *, xp: Any) -> Array:
        return self.loss.predict(outputs, xp=xp)

    def hits(self, outputs: Array, targets: Array, *, xp: Any) -> Array | None:
        return self.loss.hits(outputs, targets, xp=xp)

    def chosen(self, outputs: Array, targets: Array, *, xp: Any) -> tuple[Array, Array] | None:
        return self.loss.chosen(outputs, targets, xp=xp)

    def classifies(self, outputs: int) -> bool:
        return self.loss.classifies(outputs)

    def check(self, outputs: int) -> None:
        self.loss.check(outputs)


for _loss in (CrossEntropy, MeanSquaredError, BinaryCrossEntropy):
    LOSSES.add(_loss.name, _loss)
