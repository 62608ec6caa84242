"""Losses: the loss of each sample and the gradient of the mean, from the network's outputs.

Targets are integer class labels of shape (n,), or an array of the shape of the outputs (n, k):
one-hot rows, probabilities, or the values of a regression, within the loss's `Domain`. Only
`Quantile` may have several outputs for each target.
"""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import KW_ONLY, dataclass, fields
from decimal import Context, Decimal
from typing import Any, ClassVar, NamedTuple

from xpnn._core import functions
from xpnn._core.parts import Part, checked
from xpnn._core.registry import Registry
from xpnn.backends import device, namespace
from xpnn.errors import ArgumentError, fraction, nonnegative, number, positive

__all__ = [
    "LOSSES",
    "ROUNDING",
    "VALUES",
    "BinaryCrossEntropy",
    "BinaryFocal",
    "CrossEntropy",
    "Domain",
    "Flooding",
    "Focal",
    "Huber",
    "Loss",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Poisson",
    "Quantile",
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


class Domain(NamedTuple):
    """Which targets, other than class labels, a loss is defined for; `fit` refuses others.

    Attributes
    ----------
    wanted
        What targets must be, as messages say it.
    low, high
        The least and the largest value.
    shares
        Whether each row must sum to 1.
    """

    wanted: str = "numbers"
    low: float = -math.inf
    high: float = math.inf
    shares: bool = False

    @property
    def scalable(self) -> bool:
        """Whether targets may be shifted and scaled, by a target normalizer."""
        return self == VALUES


VALUES = Domain()
_COUNTS = Domain(">= 0", low=0)
_TRUTHS = Domain("from 0 to 1", low=0, high=1)
_PROBABILITIES = Domain("probabilities, rows of numbers >= 0 that sum to 1", 0, 1, shares=True)

# how far the sum of a row of probabilities in float32 may be from 1
ROUNDING = 1e-5


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

    @property
    def of_values(self) -> bool:
        """Whether the loss is for a regression only, so that whole numbers are values too."""
        return False

    @property
    def domain(self) -> Domain:
        """Which targets, other than class labels, the loss is defined for."""
        return VALUES

    @property
    def outputs_per_target(self) -> int:
        """The number of outputs for each column of the targets."""
        return 1

    def columns(self, outputs: int) -> list[str]:
        """Return a name for each value that is predicted, as ``xpnn predict`` writes them."""
        return ["prediction"] if outputs == 1 else [f"prediction{i + 1}" for i in range(outputs)]

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


class _Softmax:
    """The predictions of a loss whose outputs are logits of classes, of which one is right."""

    name: ClassVar[str]
    # the loss for one output
    _binary: ClassVar[str]

    @property
    def domain(self) -> Domain:
        return _PROBABILITIES

    def predict(self, outputs: Array, *, xp: Any) -> Array:
        return functions.softmax(outputs, xp)

    def hits(self, outputs: Array, targets: Array, *, xp: Any) -> Array:
        t = targets if is_labels(targets, xp=xp) else xp.argmax(targets, axis=1)
        return xp.astype(xp.argmax(outputs, axis=1) == t, outputs.dtype)

    def chosen(self, outputs: Array, targets: Array, *, xp: Any) -> tuple[Array, Array] | None:
        t = targets if is_labels(targets, xp=xp) else xp.argmax(targets, axis=1)
        return Loss.chosen(self, outputs, t, xp=xp)  # type: ignore[arg-type]

    def check(self, outputs: int) -> None:
        if outputs < 2:
            raise ArgumentError(
                f"loss {self.name!r} needs a network with 2 or more outputs, got 1; "
                f"for one output take {self._binary!r}"
            )


class _Sigmoid:
    """The predictions of a loss whose outputs are logits, each of a yes-or-no question."""

    @property
    def domain(self) -> Domain:
        return _TRUTHS

    def predict(self, outputs: Array, *, xp: Any) -> Array:
        return functions.sigmoid(outputs, xp)

    def hits(self, outputs: Array, targets: Array, *, xp: Any) -> Array:
        if is_labels(targets, xp=xp):
            return xp.astype(labels(outputs, xp=xp) == targets, outputs.dtype)
        right = (outputs > 0) == (encode(outputs, targets, xp) > 0.5)
        return xp.sum(xp.astype(right, outputs.dtype), axis=1) / outputs.shape[1]

    def chosen(self, outputs: Array, targets: Array, *, xp: Any) -> tuple[Array, Array] | None:
        if is_labels(targets, xp=xp):
            return Loss.chosen(self, outputs, targets, xp=xp)  # type: ignore[arg-type]
        both = (outputs > 0, encode(outputs, targets, xp) > 0.5)
        return xp.astype(both[0], outputs.dtype), xp.astype(both[1], outputs.dtype)


def _between(name: str, value: Any) -> float:
    return number(name, value, "a number > 0 and < 1", lambda found: 0 < found < 1)


@dataclass(frozen=True, repr=False)
class CrossEntropy(_LabelSmoothing, _Softmax, Loss):
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

    floor: float = checked(1e-7, _between)

    name: ClassVar[str] = "cross_entropy"
    _binary: ClassVar[str] = "binary_cross_entropy"

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
        # decimal's logarithm is correctly rounded; the platform's may differ in the last digit. Its
        # own context, and no conversion that a user's context may trap
        return -float(Context(prec=28).ln(Decimal.from_float(self.floor)))

    def reported(self, samples: Array, *, xp: Any) -> Array:
        return xp.minimum(samples, self._cap)


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
class BinaryCrossEntropy(_LabelSmoothing, _Sigmoid, Loss):
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


class _OfValues:
    """What losses of regressions have in common; with several outputs, labels are one-hot rows."""

    def classifies(self, outputs: int) -> bool:
        return outputs > 1

    @property
    def of_values(self) -> bool:
        return True


def _sides(difference: Array, xp: Any) -> tuple[Array, Array]:
    """Return where a difference is > 0 and where it is < 0, as 1 and 0 of its dtype."""
    above, below = difference > 0.0, difference < 0.0
    return xp.astype(above, difference.dtype), xp.astype(below, difference.dtype)


@dataclass(frozen=True)
class MeanAbsoluteError(_OfValues, Loss):
    """Mean absolute error ``|u - t|``, mean over samples and outputs; its best u is the median.

    The gradient is ``1 / (n k)`` where ``u > t``, ``-1 / (n k)`` where ``u < t``, and 0 where a
    target is met exactly, as in PyTorch's `L1Loss`. With a single output, integer targets are
    values.
    """

    name: ClassVar[str] = "mean_absolute_error"

    def samples(self, outputs: Array, targets: Array, *, xp: Any) -> tuple[Array, Array]:
        difference = outputs - encode(outputs, targets, xp)
        n, k = outputs.shape
        above, below = _sides(difference, xp)
        return xp.sum(xp.abs(difference), axis=1) / k, (above - below) * (1.0 / max(n * k, 1))


@dataclass(frozen=True)
class Huber(_OfValues, Loss):
    """Huber's loss (Huber 1964): ``d²/2`` where ``|d| <= delta``, else ``delta (|d| - delta/2)``.

    Here ``d = u - t``, and the loss is the mean over samples and outputs, as in PyTorch's
    `HuberLoss`. The gradient is ``min(max(d, -delta), delta) / (n k)``: samples far from their
    target pull no harder than those at a distance of delta. With a single output, integer targets
    are values.

    Parameters
    ----------
    delta
        The distance up to which the error is squared, > 0; in units of the normalized targets if
        there is a target normalizer.
    """

    delta: float = checked(1.0, positive)

    name: ClassVar[str] = "huber"

    def samples(self, outputs: Array, targets: Array, *, xp: Any) -> tuple[Array, Array]:
        difference = outputs - encode(outputs, targets, xp)
        n, k = outputs.shape
        held = functions.clip(difference, -self.delta, self.delta, xp)
        samples = xp.sum(held * (difference - 0.5 * held), axis=1) / k
        return samples, held * (1.0 / max(n * k, 1))


@dataclass(frozen=True)
class Poisson(_OfValues, Loss):
    """Poisson regression with a log link: ``exp(u) - t u``, mean over samples and outputs.

    It is the negative log-likelihood of counts t with the mean ``exp(u)``, without the term
    ``log(t!)``, which depends on no parameter; so it may be negative. This is PyTorch's
    `PoissonNLLLoss` with its defaults. scikit-learn's half deviance adds ``t log t - t`` instead;
    all three have the gradient ``(exp(u) - t) / (n k)``. `predict` returns ``exp(u)``.

    Targets must be >= 0; they needn't be whole numbers. They can't be normalized.
    """

    name: ClassVar[str] = "poisson"

    @property
    def domain(self) -> Domain:
        return _COUNTS

    def samples(self, outputs: Array, targets: Array, *, xp: Any) -> tuple[Array, Array]:
        t = encode(outputs, targets, xp)
        n, k = outputs.shape
        means = xp.exp(outputs)
        return xp.sum(means - t * outputs, axis=1) / k, (means - t) * (1.0 / max(n * k, 1))

    def predict(self, outputs: Array, *, xp: Any) -> Array:
        return xp.exp(outputs)


def _numbers(
    name: str, value: Any, wanted: str, allowed: Callable[[float], bool]
) -> tuple[float, ...]:
    """Return one number or several, also given as a text such as "0.1,0.9", as floats."""
    items = value.split(",") if isinstance(value, str) else value
    items = list(items) if isinstance(items, Iterable) else [items]
    if not items:
        raise ArgumentError(f"{name} must be {wanted}, got none")
    return tuple(number(name, item, wanted, allowed) for item in items)


def _levels(name: str, value: Any) -> tuple[float, ...]:
    wanted = "increasing numbers > 0 and < 1"
    levels = _numbers(name, value, wanted, lambda level: 0 < level < 1)
    if list(levels) != sorted(set(levels)):
        raise ArgumentError(f"{name} must be {wanted}, got {value!r}")
    return levels


def _row(values: Sequence[float], times: int, like: Array, xp: Any) -> Array:
    """Return each value, repeated, in a row of the dtype of `like`; nothing comes from the host."""
    width = times * len(values)
    # CuPy would copy the addresses of many arrays to the device to join them
    column = xp.arange(width, dtype=xp.int32, device=device(like))
    row = xp.full((width,), values[-1], dtype=like.dtype, device=device(like))
    for i in reversed(range(len(values) - 1)):
        row = xp.where(column < (i + 1) * times, values[i], row)
    return row


@dataclass(frozen=True)
class Quantile(_OfValues, Loss):
    """Quantile regression by the pinball loss (Koenker and Bassett 1978), for several levels q.

    It is ``(1 - q) (u - t)`` where ``u > t``, else ``q (t - u)``, mean over samples and outputs;
    the best u is the q-quantile of the targets. The gradient is ``(1 - q) / (n k)``,
    ``-q / (n k)``, and 0 where ``u = t``.

    For m columns of targets, the network has ``k = levels * m`` outputs: first all m of the first
    level. So ``predict(model, x).reshape(n, levels, m)`` has an axis for each. The levels are
    learned side by side, and nothing keeps two quantiles of a sample from crossing; to sort them
    along the axis of the levels makes no loss larger (Chernozhukov, Fernández-Val and Galichon
    2010).

    Parameters
    ----------
    levels
        One q or several, each > 0 and < 1, in increasing order: 0.5, (0.1, 0.5, 0.9), or a text,
        "0.1,0.5,0.9".
    """

    levels: float | str | Sequence[float] = checked(0.5, _levels)

    name: ClassVar[str] = "quantile"

    @property
    def outputs_per_target(self) -> int:
        return len(self.levels)  # type: ignore[arg-type]

    def classifies(self, outputs: int) -> bool:
        return outputs > 1 == self.outputs_per_target

    def columns(self, outputs: int) -> list[str]:
        levels: Any = self.levels
        names = super().columns(outputs // len(levels))
        return [f"{name}_{level}" for level in levels for name in names] if levels[1:] else names

    def check(self, outputs: int) -> None:
        if outputs % self.outputs_per_target:
            raise ArgumentError(
                f"loss 'quantile' needs a network with {self.outputs_per_target} outputs for each "
                f"target, one for each of its levels, got {outputs} outputs"
            )

    def samples(self, outputs: Array, targets: Array, *, xp: Any) -> tuple[Array, Array]:
        levels: Any = self.levels
        n, k = outputs.shape
        columns = k // len(levels)
        if levels[1:]:
            t = xp.expand_dims(encode(outputs[:, :columns], targets, xp), axis=1)
            blocks = xp.reshape(outputs, (n, len(levels), columns))
            difference = xp.reshape(blocks - t, (n, k))
            q = _row(levels, columns, outputs, xp)
        else:
            difference, q = outputs - encode(outputs, targets, xp), levels[0]
        above, below = _sides(difference, xp)
        slope = (1.0 - q) * above - q * below
        return xp.sum(slope * difference, axis=1) / k, slope * (1.0 / max(n * k, 1))


# a share that is smaller counts as this one, so that a right answer's 0 can be a divisor
_LEAST_SHARE = 1e-30


def _class_weights(name: str, value: Any) -> tuple[float, ...] | None:
    if value is None:
        return None
    wanted = "a finite number >= 0 for each class, such as 0.25,0.75"
    return _numbers(name, value, wanted, lambda weight: 0 <= weight < math.inf)


@dataclass(frozen=True)
class Focal(_Softmax, Loss):
    """Focal loss (Lin et al. 2017) from logits: ``-sum(alpha t (1 - p)^gamma log(p))``.

    Here ``p = softmax(u)``, and the loss is the mean over the samples. Compared with cross entropy,
    which it is for gamma = 0, a class that is predicted well already counts less. The gradient
    is ``(p sum(s) - s) / n`` with ``s = alpha t (1 - p)^gamma (1 - gamma p log(p) / (1 - p))``.
    Targets are labels, one-hot rows or probabilities.

    Parameters
    ----------
    gamma
        How much less; the paper's best is 2. >= 0.
    alpha
        A weight for each class, >= 0: (0.25, 0.75), or a text, "0.25,0.75"; None for 1. Unlike
        `class_weight` of `fit`, they aren't scaled to a mean of 1, and count for test data too.
    """

    gamma: float = checked(2.0, nonnegative)
    alpha: str | Sequence[float] | None = checked(None, _class_weights)

    name: ClassVar[str] = "focal"
    _binary: ClassVar[str] = "binary_focal"

    def check(self, outputs: int) -> None:
        super().check(outputs)
        if self.alpha is not None and len(self.alpha) != outputs:
            raise ArgumentError(
                f"alpha must have a weight for each of the {outputs} outputs, got {self.alpha}"
            )

    def samples(self, outputs: Array, targets: Array, *, xp: Any) -> tuple[Array, Array]:
        t: Array = encode(outputs, targets, xp)
        if self.alpha is not None:
            weights: Any = self.alpha
            t = t * _row(weights, 1, outputs, xp)
        shifted = outputs - xp.max(outputs, axis=1, keepdims=True)
        e = xp.exp(shifted)
        total = xp.sum(e, axis=1, keepdims=True)
        p, surprise = e / total, xp.log(total) - shifted
        rest = xp.maximum((total - e) / total, _LEAST_SHARE)
        weighted = t * rest**self.gamma
        # surprise / rest is 1 in the limit of a right answer, and then multiplied by 0
        slope = weighted * (1.0 + self.gamma * (p * surprise / rest))
        gradient = p * xp.sum(slope, axis=1, keepdims=True) - slope
        return xp.sum(weighted * surprise, axis=1), gradient / max(outputs.shape[0], 1)


def _share(name: str, value: Any) -> float | None:
    return None if value is None else _between(name, value)


@dataclass(frozen=True)
class BinaryFocal(_Sigmoid, Loss):
    """Focal loss (Lin et al. 2017) for yes-or-no questions, mean over samples and outputs.

    It is ``-alpha t (1 - p)^gamma log(p) - (1 - alpha) (1 - t) p^gamma log(1 - p)`` with
    ``p = sigmoid(u)``. The gradient is ``1 / (n k)`` times ``(1 - alpha) (1 - t) p^gamma (p - gamma
    (1 - p) log(1 - p)) - alpha t (1 - p)^gamma (1 - p - gamma p log(p))``. A single output, with
    labels 0 and 1, is for two classes.

    Parameters
    ----------
    gamma
        How much less an answer counts that is right already; the paper's best is 2. >= 0.
    alpha
        The weight of the answer 1, where 0 has ``1 - alpha``; > 0 and < 1. The paper's best beside
        gamma = 2 is 0.25. None for a weight of 1 for both.
    """

    gamma: float = checked(2.0, nonnegative)
    alpha: float | None = checked(None, _share)

    name: ClassVar[str] = "binary_focal"

    def samples(self, outputs: Array, targets: Array, *, xp: Any) -> tuple[Array, Array]:
        yes = encode(outputs, targets, xp)
        no = 1.0 - yes
        if self.alpha is not None:
            yes, no = self.alpha * yes, (1.0 - self.alpha) * no
        n, k = outputs.shape
        p, rest = functions.sigmoid(outputs, xp), functions.sigmoid(-outputs, xp)
        tail = xp.log1p(xp.exp(-xp.abs(outputs)))
        # -log(p) and -log(1 - p)
        of_yes, of_no = xp.maximum(-outputs, 0.0) + tail, xp.maximum(outputs, 0.0) + tail
        yes, no = yes * rest**self.gamma, no * p**self.gamma
        samples = xp.sum(yes * of_yes + no * of_no, axis=1) / k
        gradient = no * (p + self.gamma * (rest * of_no)) - yes * (rest + self.gamma * (p * of_yes))
        return samples, gradient * (1.0 / max(n * k, 1))


@dataclass(frozen=True)
class Flooding(Loss):
    """Flooding (Ishida et al. 2020): ``|E - b| + b`` of the mini-batch's loss E.

    Where ``E < b``, the gradient changes its sign, so that the loss climbs back to the flood level
    instead of sinking to 0. At ``E = b`` the gradient is that of E.

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

    @property
    def of_values(self) -> bool:
        return self.loss.of_values

    @property
    def domain(self) -> Domain:
        return self.loss.domain

    @property
    def outputs_per_target(self) -> int:
        return self.loss.outputs_per_target

    def columns(self, outputs: int) -> list[str]:
        return self.loss.columns(outputs)

    def check(self, outputs: int) -> None:
        self.loss.check(outputs)


for _loss in (
    CrossEntropy, MeanSquaredError, BinaryCrossEntropy, MeanAbsoluteError, Huber, Poisson, Quantile,
    Focal, BinaryFocal,
):  # fmt: skip
    LOSSES.add(_loss.name, _loss)
