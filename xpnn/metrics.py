"""Figures of a run and of its predictions: metrics that a log can have, and functions of arrays.

A `SummedMetric` is computed from sums over mini-batches, on the device; a `PredictionMetric` on the
host, once an epoch, from the predictions of all samples.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import inspect
import math
import re
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from xpnn._core.parts import Part, checked
from xpnn._core.registry import Registry
from xpnn.backends import device, to_numpy
from xpnn.errors import ArgumentError, DataError, integer, unknown
from xpnn.losses import Loss, encode

if TYPE_CHECKING:
    from xpnn.task import Task

__all__ = [
    "F1",
    "MAE",
    "METRICS",
    "MONITORS",
    "R2",
    "RMSE",
    "BalancedAccuracy",
    "ClassFigures",
    "Metric",
    "Precision",
    "PredictionMetric",
    "Recall",
    "RocAuc",
    "Scorer",
    "SummedMetric",
    "TopK",
    "as_metric",
    "as_metrics",
    "best",
    "confusion_matrix",
    "count_of_measures",
    "first_reached",
    "is_minimized",
    "measured",
    "measures",
    "monitored",
    "per_class",
    "r2_score",
    "register",
    "root_mean_squared_error",
]

Array = Any

METRICS: Registry[type[Metric]] = Registry("metric", lambda: Metric, lambda metric: metric.name)
register = METRICS.register

# figures of every log that can get better; metrics can too
MONITORS = ("train_accuracy", "train_loss", "test_accuracy", "test_loss")


@dataclass(frozen=True)
class Metric(Part, ABC):
    """Base class of metrics; extend `SummedMetric` or `PredictionMetric`.

    Attributes
    ----------
    name
        The name by which users ask for it; of the class.
    minimized
        Whether smaller is better; of the class.
    of
        What the targets must be: "classes", "values", or "any"; of the class.
    """

    name: ClassVar[str]
    minimized: ClassVar[bool] = False
    of: ClassVar[str] = "any"

    @property
    def column(self) -> str:
        """The name in a log, after "train_" or "test_": `name` and the settings that were changed.

        That of ``F1(average="weighted")`` is "f1_weighted".
        """
        changed = [
            f"_{value}"
            for own in dataclasses.fields(self)
            if (value := getattr(self, own.name)) != own.default
        ]
        return self.name + "".join(changed)

    def check(self, task: Task) -> None:
        """Raise `ArgumentError` if a run with this task can't have the metric."""


class SummedMetric(Metric):
    """Base class of metrics that follow from sums over mini-batches, computed on the device.

    Nothing but the sums comes to the host, at the end of the epoch.
    """

    # metrics that give the same text here have the same `sums`, which are computed only once
    shares: ClassVar[str | None] = None

    @abstractmethod
    def sums(self, outputs: Array, targets: Array, weights: Array, *, loss: Loss, xp: Any) -> Array:
        """Return what `value` needs of a mini-batch: an array, on the device.

        Parameters
        ----------
        outputs
            The network's outputs, shape (n, k): logits, or normalized values. Not mutated.
        targets
            Labels of shape (n,) or values of shape (n, k). Not mutated.
        weights
            The weight of each sample, shape (n,), in the dtype of `outputs`; 1 if all count alike.
        loss
            The loss of the run; `Loss.chosen` says which classes outputs and targets mean.
        xp
            The array API namespace to compute with.

        Returns
        -------
        sums
            In the dtype of `outputs`, of a shape that doesn't depend on n.
        """

    @abstractmethod
    def value(self, sums: np.ndarray, task: Task) -> float:
        """Return the metric.

        Parameters
        ----------
        sums
            What `sums` returned for each mini-batch, on the host: shape (mini-batches, …).
        task
            What is known of the data, such as the scale of the targets.
        """


class PredictionMetric(Metric):
    """Base class of metrics that need all predictions, computed on the host once an epoch."""

    @abstractmethod
    def value(
        self, targets: np.ndarray, predictions: np.ndarray, weights: np.ndarray | None, task: Task
    ) -> float:
        """Return the metric.

        Parameters
        ----------
        targets
            Classes from 0 on, int64 of shape (n,); or values of shape (n, k), not normalized.
        predictions
            The probability of each class, shape (n, classes); or values of shape (n, k).
        weights
            The weight of each sample, shape (n,); None if all count alike.
        task
            What is known of the data, such as the labels of the classes.
        """


_AVERAGES = ("auto", "binary", "macro", "micro", "weighted")


def _average(name: str, value: Any) -> Any:
    if value not in _AVERAGES:
        raise unknown(name, value, _AVERAGES)
    return value


@dataclass(frozen=True)
class _Counted(SummedMetric):
    """Base class of metrics from counts: right predictions, predictions, and samples of a class."""

    of: ClassVar[str] = "classes"
    shares: ClassVar[str | None] = "counts"

    def sums(self, outputs: Array, targets: Array, weights: Array, *, loss: Loss, xp: Any) -> Array:
        chosen = loss.chosen(outputs, targets, xp=xp)
        assert chosen is not None
        predicted, true = chosen
        predicted = predicted * xp.expand_dims(weights, axis=1)
        weighted = true * xp.expand_dims(weights, axis=1)
        columns = (predicted * true, predicted, weighted)
        return xp.stack([xp.sum(column, axis=0) for column in columns])

    def value(self, sums: np.ndarray, task: Task) -> float:
        hits, predicted, true = _sums(sums.reshape(len(sums), -1)).reshape(sums.shape[1:])
        return self.of_counts(hits, predicted, true, task)

    @abstractmethod
    def of_counts(
        self, hits: np.ndarray, predicted: np.ndarray, true: np.ndarray, task: Task
    ) -> float:
        """Return the metric from the numbers of each class."""


@dataclass(frozen=True)
class _Averaged(_Counted):
    """Base class of metrics of each class, averaged.

    Parameters
    ----------
    average
        "binary": the metric of the second of two classes. "macro": the mean over the classes that
        are true or predicted. "weighted": the mean over them, weighted by how many samples each
        has. "micro": of the sums of all classes' counts. "auto": "binary" for two classes, else
        "macro".
    """

    average: str = checked("auto", _average)

    def check(self, task: Task) -> None:
        if self.average == "binary" and task.classes != 2:
            raise ArgumentError(
                f"average of metric {self.name!r} must be macro, micro or weighted for "
                f"{task.classes or 'several'} classes, got 'binary'"
            )

    @staticmethod
    @abstractmethod
    def of_each(hits: Any, predicted: Any, true: Any) -> Any:
        """Return the metric of each class, 0 where it isn't defined."""

    def of_counts(
        self, hits: np.ndarray, predicted: np.ndarray, true: np.ndarray, task: Task
    ) -> float:
        average = self.average
        if average == "auto":
            average = "binary" if task.classes == 2 else "macro"
        if average == "micro":
            return float(self.of_each(*(math.fsum(own) for own in (hits, predicted, true))))
        each = self.of_each(hits, predicted, true)
        if average == "binary":
            return float(each[1])
        weights = true if average == "weighted" else ((true > 0) | (predicted > 0)).astype(float)
        return math.fsum(each * weights) / math.fsum(weights)


def _ratio(part: Any, whole: Any) -> Any:
    """Return part / whole, 0 where the whole is 0."""
    return np.divide(part, whole, out=np.zeros(np.shape(whole)), where=np.asarray(whole) > 0)


class Precision(_Averaged):
    """Precision ``hits / predicted``: the share of a class's predictions that are right."""

    name: ClassVar[str] = "precision"

    @staticmethod
    def of_each(hits: Any, predicted: Any, true: Any) -> Any:
        return _ratio(hits, predicted)


class Recall(_Averaged):
    """Recall ``hits / true``: the share of a class's samples that are predicted as this class."""

    name: ClassVar[str] = "recall"

    @staticmethod
    def of_each(hits: Any, predicted: Any, true: Any) -> Any:
        return _ratio(hits, true)


class F1(_Averaged):
    """F1 ``2 hits / (predicted + true)``: the harmonic mean of precision and recall."""

    name: ClassVar[str] = "f1"

    @staticmethod
    def of_each(hits: Any, predicted: Any, true: Any) -> Any:
        return _ratio(2.0 * hits, predicted + true)


class BalancedAccuracy(_Counted):
    """Balanced accuracy ``mean(hits / true)``: over the classes that there are samples of."""

    name: ClassVar[str] = "balanced_accuracy"

    def of_counts(
        self, hits: np.ndarray, predicted: np.ndarray, true: np.ndarray, task: Task
    ) -> float:
        return math.fsum(_ratio(hits, true)) / int(np.count_nonzero(true))


@dataclass(frozen=True)
class TopK(SummedMetric):
    """Top-k accuracy ``hits / n``: a hit is a class among the k with the largest outputs.

    Parameters
    ----------
    k
        The number of classes, >= 1. If None, 5, or with at most 5 classes one less than there are.
    """

    k: int | None = checked(
        None, lambda name, value: None if value is None else integer(name, value, minimum=1)
    )

    name: ClassVar[str] = "top_k"
    of: ClassVar[str] = "classes"

    def check(self, task: Task) -> None:
        if task.classes is None:
            raise ArgumentError("metric 'top_k' needs class labels of shape (n,)")
        if self.k is not None and self.k >= task.classes:
            raise ArgumentError(
                f"k of metric 'top_k' must be less than the number of classes, {task.classes}, "
                f"got {self.k}"
            )

    def sums(self, outputs: Array, targets: Array, weights: Array, *, loss: Loss, xp: Any) -> Array:
        chosen = loss.chosen(outputs, targets, xp=xp)
        assert chosen is not None
        if outputs.shape[1] == 1:
            outputs = xp.concat([xp.zeros_like(outputs), outputs], axis=1)
        # not a sum of products, which a reproducible one may round
        least = xp.min(outputs, axis=1, keepdims=True)
        own = xp.max(xp.where(chosen[1] > 0, outputs, least), axis=1, keepdims=True)
        above = xp.sum(xp.astype(outputs > own, outputs.dtype), axis=1)
        k = min(5, outputs.shape[1] - 1) if self.k is None else self.k
        hits = xp.astype(above < k, outputs.dtype)
        return xp.stack([xp.sum(weights * hits), xp.sum(weights)])

    def value(self, sums: np.ndarray, task: Task) -> float:
        hits, count = _sums(sums)
        return float(hits / count)


def _scale(task: Task) -> np.ndarray:
    """Return the size of a unit of each output in units of the targets."""
    normalizer = task.target_normalizer
    return np.ones(1) if normalizer is None else np.abs(np.asarray(normalizer.scale))


class MAE(SummedMetric):
    """Mean absolute error ``mean(|u - t|)``, in units of the targets; mean over the outputs."""

    name: ClassVar[str] = "mae"
    minimized: ClassVar[bool] = True
    of: ClassVar[str] = "values"

    def sums(self, outputs: Array, targets: Array, weights: Array, *, loss: Loss, xp: Any) -> Array:
        errors = xp.abs(outputs - encode(outputs, targets, xp))
        own = xp.expand_dims(weights, axis=1)
        return xp.stack([xp.sum(part, axis=0) for part in (own * errors, own + 0.0 * errors)])

    def value(self, sums: np.ndarray, task: Task) -> float:
        errors, count = _sums(sums.reshape(len(sums), -1)).reshape(sums.shape[1:])
        return math.fsum(_scale(task) * errors / count) / len(errors)


class _Squared(SummedMetric):
    """Base class of metrics from sums of squares.

    A mini-batch has for each output its weight W, the sum of squared errors, the mean of the
    targets, and the sum of their squared distances from it. Unlike plain sums of squares, these
    lose no digits where the targets' mean is large (Chan, Golub and LeVeque 1983).
    """

    of: ClassVar[str] = "values"
    shares: ClassVar[str | None] = "squares"

    def sums(self, outputs: Array, targets: Array, weights: Array, *, loss: Loss, xp: Any) -> Array:
        true = encode(outputs, targets, xp)
        own = xp.expand_dims(weights, axis=1) + 0.0 * true
        count = xp.sum(own, axis=0)
        # a mini-batch may have the weight 0
        mean = xp.sum(own * true, axis=0) / xp.maximum(count, 1e-30)
        error, distance = outputs - true, true - mean
        squares = [xp.sum(own * (part * part), axis=0) for part in (error, distance)]
        return xp.stack([count, squares[0], mean, squares[1]])

    def value(self, sums: np.ndarray, task: Task) -> float:
        count, errors, means, distances = np.moveaxis(sums.astype(np.float64), 1, 0)
        whole, error = _sums(count), _sums(errors)
        mean = _sums(count * means) / whole
        spread = _sums(distances) + _sums(count * (means - mean) ** 2)
        # what rounding makes of targets that are all the same
        noise = whole * (8 * np.finfo(sums.dtype).eps * mean) ** 2
        return self.of_squares(whole, error, np.where(spread > noise, spread, 0.0), task)

    @abstractmethod
    def of_squares(
        self, count: np.ndarray, error: np.ndarray, spread: np.ndarray, task: Task
    ) -> float:
        """Return the metric from the weight, and the sums of squares, of each output."""


class R2(_Squared):
    """Coefficient of determination R², as `r2_score`, mean over the outputs.

    It is ``1 - sum((u - t)²) / sum((t - mean(t))²)``.
    """

    name: ClassVar[str] = "r2"

    def of_squares(
        self, count: np.ndarray, error: np.ndarray, spread: np.ndarray, task: Task
    ) -> float:
        scores = 1.0 - np.divide(error, spread, out=np.full(error.shape, np.nan), where=spread > 0)
        return math.fsum(scores) / len(scores)


class RMSE(_Squared):
    """Root mean squared error ``sqrt(mean((u - t)²))``, in units of the targets."""

    name: ClassVar[str] = "rmse"
    minimized: ClassVar[bool] = True

    def of_squares(
        self, count: np.ndarray, error: np.ndarray, spread: np.ndarray, task: Task
    ) -> float:
        return math.sqrt(math.fsum(_scale(task) ** 2 * error / count) / len(error))


def _macro_or_weighted(name: str, value: Any) -> Any:
    if value not in ("macro", "weighted"):
        raise unknown(name, value, ("macro", "weighted"))
    return value


@dataclass(frozen=True)
class RocAuc(PredictionMetric):
    """Area under the ROC curve, from the probabilities of the classes.

    It is ``P(p > q) + P(p = q) / 2``, where p is what is predicted for the class and a sample of
    it, and q for the class and another sample. That of the second of two classes; with more, the
    mean over the classes, each against all others. It is NaN where a class has no samples, or all.

    Parameters
    ----------
    average
        "macro": all classes count alike; "weighted": each as many times as it has samples.
    """

    average: str = checked("macro", _macro_or_weighted)

    name: ClassVar[str] = "roc_auc"
    of: ClassVar[str] = "classes"

    def value(
        self, targets: np.ndarray, predictions: np.ndarray, weights: np.ndarray | None, task: Task
    ) -> float:
        weights = np.ones(len(targets)) if weights is None else weights
        classes = [1] if predictions.shape[1] == 2 else range(predictions.shape[1])
        areas = [_area(targets == k, predictions[:, k], weights) for k in classes]
        if self.average == "macro" or len(areas) == 1:
            return math.fsum(areas) / len(areas)
        sizes = [math.fsum(weights[targets == k]) for k in classes]
        return math.fsum(a * size for a, size in zip(areas, sizes, strict=True)) / math.fsum(sizes)


def _area(true: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> float:
    """Return how often a true sample has a larger score than another one; equal ones count half."""
    levels = np.unique(scores, return_inverse=True)[1]
    size = int(levels.max(initial=0)) + 1
    right, wrong = (np.bincount(levels, weights * own, size) for own in (true, ~true))
    pairs = math.fsum(right) * math.fsum(wrong)
    below = np.cumsum(wrong) - wrong
    return math.fsum(right * (below + wrong / 2)) / pairs if pairs else math.nan


# the first arguments of functions of scikit-learn that compare targets with predictions
_OF_TARGETS = (["y_true", "y_pred"], ["y1", "y2"], ["labels_true", "labels_pred"])


@dataclass(frozen=True, repr=False)
class Scorer(PredictionMetric):
    """A scorer or a metric of scikit-learn, such as "neg_log_loss" or ``make_scorer(fbeta_score)``.

    The scorers are those of ``sklearn.metrics.get_scorer_names()`` and those that ``make_scorer``
    returns, of which larger is better. The metrics are functions with the arguments y_true and
    y_pred or y_score, such as those of ``sklearn.metrics``. If the name of one ends in "error",
    "loss" or "deviance", smaller is better.

    Parameters
    ----------
    scorer
        The name of a scorer or of a function of scikit-learn; a scorer; or a function.

    Raises
    ------
    ArgumentError
        If scikit-learn isn't installed or has no such scorer or metric.
    """

    scorer: Any

    name: ClassVar[str] = "scorer"

    def __post_init__(self) -> None:
        self._scorer()

    @property
    def column(self) -> str:
        """The name in a log: the scorer's, or that of its function and the arguments it was given.

        That of ``make_scorer(fbeta_score, beta=2.5)`` is "fbeta_score_2_5". If a scorer turns the
        sign of its function, the name begins with "neg_".
        """
        if isinstance(self.scorer, str):
            return self.scorer
        name, given = _called(self.scorer)
        words = [name, *(str(value) for value in given.values() if value is not None)]
        sign = "neg_" if getattr(self.scorer, "_sign", 1) < 0 else ""
        return sign + re.sub(r"\W+", "_", "_".join(words))

    @property
    def minimized(self) -> bool:  # type: ignore[override]
        """Whether smaller is better."""
        sklearn = importlib.import_module("sklearn.metrics")
        name = self.scorer if isinstance(self.scorer, str) else _called(self.scorer)[0]
        scores = name in sklearn.get_scorer_names() or getattr(self.scorer, "_sign", 1) < 0
        return not scores and name.endswith(("error", "loss", "deviance"))

    def __repr__(self) -> str:
        # that of a function would have its address
        plain = not isinstance(self.scorer, str) and _is_function(self.scorer)
        return f"Scorer({self.column if plain else repr(self.scorer)})"

    def _scorer(self) -> Any:
        """Return the scorer that computes it."""
        try:
            sklearn = importlib.import_module("sklearn.metrics")
        except ImportError:
            raise _unknown(self.column, "install it with: pip install scikit-learn") from None
        function = self.scorer
        if isinstance(function, str):
            if function in sklearn.get_scorer_names():
                return sklearn.get_scorer(function)
            known = function in sklearn.__all__
            function = getattr(sklearn, function, None) if known else None
            if not inspect.isfunction(function):
                raise _unknown(self.scorer, "")
        elif not _is_function(function):
            return function
        names = list(inspect.signature(function).parameters)
        if names[:1] == ["estimator"]:
            return function
        # before scikit-learn 1.9, what these call y_pred are probabilities
        probable = function in (sklearn.log_loss, sklearn.d2_log_loss_score)
        probable = probable or names[1:2] in (["y_score"], ["y_prob"], ["y_proba"])
        if names[:1] == ["y_true"] and probable:
            return sklearn.make_scorer(function, response_method="predict_proba")
        # others of scikit-learn are for features, clusters or curves
        if names[:2] in _OF_TARGETS or not isinstance(self.scorer, str):
            return sklearn.make_scorer(function)
        raise _unknown(self.scorer, "")

    def check(self, task: Task) -> None:
        """Raise `ArgumentError` if scikit-learn can't compute it for such targets."""
        if task.classes is None:
            sizes = 1 if task.target_normalizer is None else len(_scale(task))
            values = 1.0 + np.arange(4.0 * sizes).reshape(4, sizes)
            self.value(values, values, None, task)
        else:
            targets = np.arange(3 * task.classes) % task.classes
            self.value(targets, np.eye(task.classes)[targets], None, task)

    def value(
        self, targets: np.ndarray, predictions: np.ndarray, weights: np.ndarray | None, task: Task
    ) -> float:
        base = importlib.import_module("sklearn.base")
        if task.classes is None:
            columns = [a[:, 0] if a.shape[1] == 1 else a for a in (targets, predictions)]
            true, answered = columns[0], columns[1]
            kind, classes = base.RegressorMixin, None
        else:
            labels = np.arange(task.classes) if task.labels is None else task.labels
            true, answered = labels[targets], labels[predictions.argmax(axis=1)]
            kind, classes = base.ClassifierMixin, labels
            # the labels of a model are in the order of its outputs, scikit-learn's in theirs
            order = np.argsort(labels)
            predictions = predictions[:, order] / predictions.sum(axis=1, keepdims=True)
            classes = labels[order]

        class Answered(kind, base.BaseEstimator):  # type: ignore[misc, name-defined, valid-type]
            """An estimator that has answered already."""

            classes_ = classes

            def predict(self, rows: Any) -> Any:
                return answered

            if classes is not None:

                def predict_proba(self, rows: Any) -> Any:
                    return predictions

        given = {} if weights is None else {"sample_weight": weights}
        rows = np.arange(len(true)).reshape(-1, 1)
        with warnings.catch_warnings():
            # such as of classes that aren't predicted, or are all there is
            warnings.simplefilter("ignore")
            try:
                found = self._scorer()(Answered(), rows, true, **given)
            except (AttributeError, TypeError, ValueError) as error:
                text = " ".join(str(error).split()).replace("Answered has", "xpnn's models have")
                raise ArgumentError(f"metric {self.column!r} of scikit-learn: {text}") from None
        if np.ndim(found) or not isinstance(found, Real | np.number):
            got = f"an array of shape {np.shape(found)}" if np.ndim(found) else type(found).__name__
            raise ArgumentError(
                f"metric {self.column!r} of scikit-learn: must be a number, got {got}"
            )
        return float(found)


def _is_function(given: Any) -> bool:
    return inspect.isfunction(given) or isinstance(given, functools.partial)


def _called(scorer: Any) -> tuple[str, dict[str, Any]]:
    """Return the name of a function or of a scorer's function, and the arguments it was given."""
    given = dict(getattr(scorer, "_kwargs", {}))
    function = getattr(scorer, "_score_func", scorer)
    if isinstance(function, functools.partial):
        given, function = function.keywords | given, function.func
    return getattr(function, "__name__", type(function).__name__).strip("<>"), given


def _unknown(name: str, hint: str) -> ArgumentError:
    ours = unknown("metric", name, METRICS)
    return ArgumentError(
        f"{ours}; or a scorer or metric of scikit-learn" + f": {hint}" * bool(hint)
    )


for _metric in (Precision, Recall, F1, BalancedAccuracy, TopK, MAE, RMSE, R2, RocAuc):
    register(_metric)


def as_metric(given: Any) -> Metric:
    """Return a metric from an instance or a text such as "f1", "f1_macro" or "top_k:k=3".

    A scorer or a function of scikit-learn becomes a `Scorer`.
    """
    if isinstance(given, Metric):
        return given
    # scikit-learn's scorers have no public class
    if _is_function(given) or hasattr(given, "_score_func"):
        return Scorer(given)
    if not isinstance(given, str):
        raise ArgumentError(
            "metrics must be names such as 'f1', scorers of scikit-learn, or instances such as "
            f"F1(), got {given!r}"
        )
    name = given.partition(":")[0]
    base, _, average = name.rpartition("_")
    if name in METRICS:
        return METRICS.make(given)  # type: ignore[no-any-return]
    if base in METRICS and average in _AVERAGES and "average" in METRICS.parameters(base):
        return METRICS[base](average=average)  # type: ignore[call-arg]
    return Scorer(given)


def as_metrics(given: Any, task: Task, *, classifies: bool) -> tuple[Metric, ...]:
    """Return the metrics of a run.

    Parameters
    ----------
    given
        None; a text such as "f1,roc_auc"; a metric, a scorer or a function; or a list of these.
    task
        What is known of the data.
    classifies
        Whether the loss takes the targets for classes.

    Raises
    ------
    ArgumentError
        If a metric is unknown, given twice, or not one for such targets.
    """
    if given is None:
        return ()
    if isinstance(given, str):
        given = METRICS.split(given)
    if isinstance(given, Metric) or not isinstance(given, Iterable):
        given = [given]
    kind = "classes" if classifies else "values"
    found: dict[str, Metric] = {}
    for text in given:
        if text == "accuracy" and classifies:
            continue  # each log of classes has it
        if text == "accuracy":
            raise ArgumentError("metric 'accuracy' needs classes, and the targets are values")
        metric = as_metric(text)
        column = metric.column
        if column in found:
            raise ArgumentError(f"metrics has {column!r} twice")
        if column in ("accuracy", "loss"):
            raise ArgumentError(f"metric {column!r} has the name of a column of every log")
        if metric.of not in ("any", kind):
            raise ArgumentError(f"metric {column!r} needs {metric.of}, and the targets are {kind}")
        if classifies and task.classes is None and isinstance(metric, PredictionMetric):
            raise ArgumentError(f"metric {column!r} needs class labels of shape (n,)")
        metric.check(task)
        found[column] = metric
    return tuple(found.values())


def monitored(name: str, column: Any) -> str:
    """Return the column of a log that the argument `name` asks for, if it can get better."""
    known = column in MONITORS
    if not known and isinstance(column, str) and column.startswith(("train_", "test_")):
        with contextlib.suppress(ArgumentError):
            is_minimized(column)
            known = True
    if not known:
        raise unknown(name, column, MONITORS)
    return column  # type: ignore[no-any-return]


def is_minimized(column: str) -> bool:
    """Return whether smaller is better in a column of a log, such as "test_loss" or "train_f1".

    Raises
    ------
    ArgumentError
        If its metric isn't known by name.
    """
    name = column.removeprefix("train_").removeprefix("test_")
    if name in ("accuracy", "loss"):
        return name == "loss"
    # the column of a metric begins with its name
    known = [own for own in METRICS if name == own or name.startswith(f"{own}_")]
    if known:
        return METRICS[max(known, key=len)].minimized
    try:
        return Scorer(name).minimized
    except ArgumentError:
        # of a scorer with arguments: the name begins with that of its function
        base = _function_in(name)
        if base is None:
            raise
        return Scorer(base).minimized and not name.startswith("neg_")


def _function_in(column: str) -> str | None:
    """Return the function of scikit-learn whose name begins a column, None if none does."""
    try:
        sklearn = importlib.import_module("sklearn.metrics")
    except ImportError:
        return None
    name = column.removeprefix("neg_")
    names = [own for own in sklearn.__all__ if name == own or name.startswith(f"{own}_")]
    return max(names, key=len, default=None)


def measures(
    metrics: Sequence[Metric], loss: Loss, outputs: Array, targets: Array, weights: Array | None,
    *, xp: Any,
) -> tuple[Array, ...]:  # fmt: skip
    """Return what metrics need of a mini-batch, in the order in which `measured` takes it.

    Parameters are those of `SummedMetric.sums`; `weights` are None if all samples count alike.
    """
    # predictions first: a step that is recorded must have computed what it returns
    given = () if weights is None else (weights,)
    if weights is None:
        weights = xp.ones(outputs.shape[:1], dtype=outputs.dtype, device=device(outputs))
    found = [
        metric.sums(outputs, targets, weights, loss=loss, xp=xp)
        for metric in _summed(metrics).values()
    ]
    if any(isinstance(metric, PredictionMetric) for metric in metrics):
        if targets.dtype != outputs.dtype:
            targets = xp.astype(targets, outputs.dtype)
        found += [loss.predict(outputs, xp=xp), targets, *given]
    return tuple(found)


def count_of_measures(metrics: Sequence[Metric], *, weighted: bool) -> int:
    """Return how many arrays `measures` returns."""
    predicted = any(isinstance(metric, PredictionMetric) for metric in metrics)
    return len(_summed(metrics)) + (2 + weighted) * predicted


def _summed(metrics: Iterable[Metric]) -> dict[str, SummedMetric]:
    """Return a metric for each kind of sums."""
    summed = [metric for metric in metrics if isinstance(metric, SummedMetric)]
    return {metric.shares or metric.column: metric for metric in reversed(summed)}


def measured(
    metrics: Sequence[Metric],
    columns: Sequence[Sequence[np.ndarray]],
    task: Task,
    *,
    count: int | None = None,
) -> dict[str, float]:
    """Return the value of each metric by its `column`.

    Parameters
    ----------
    metrics
        The metrics.
    columns
        Each array that `measures` returned, on the host, stacked over mini-batches of one size.
    task
        What is known of the data.
    count
        If samples were added up to a size, the number of those before them. All of them count
        alike; the weights only tell them from those that were added.
    """
    summed = _summed(metrics)
    sums = {key: np.concatenate(own) for key, own in zip(summed, columns, strict=False)}
    whole: list[Any] = [
        np.concatenate([part.reshape(-1, *part.shape[2:]) for part in own])
        for own in columns[len(summed) :]
    ]
    if whole:
        predictions, targets, *weights = whole
        if count is not None:
            predictions, targets, weights = predictions[:count], targets[:count], []
        if task.classes is not None:
            targets = targets.astype(np.int64)
            if predictions.shape[1] == 1:
                predictions = np.hstack([1 - predictions, predictions])
        else:
            targets = targets.reshape(predictions.shape)
            if task.target_normalizer is not None:
                targets, predictions = map(task.target_normalizer.invert, (targets, predictions))
        whole = [targets, predictions, weights[0] if weights else None]
    found: dict[str, float] = {}
    for metric in metrics:
        if isinstance(metric, SummedMetric):
            value = metric.value(sums[metric.shares or metric.column], task)
        else:
            assert isinstance(metric, PredictionMetric)
            value = metric.value(whole[0], whole[1], whole[2], task)
        found[metric.column] = float(value)
    return found


class ClassFigures(NamedTuple):
    """Precision, recall and F1 of a class, 0 where they aren't defined, and its samples."""

    precision: float
    recall: float
    f1: float
    support: int


@np.errstate(all="ignore")
def per_class(matrix: np.ndarray) -> list[ClassFigures]:
    """Return the figures of each class from a `confusion_matrix`."""
    hits, predicted, true = np.diag(matrix), matrix.sum(axis=0), matrix.sum(axis=1)
    columns = [own.of_each(hits, predicted, true) for own in (Precision, Recall, F1)]
    rows = zip(*(column.tolist() for column in columns), true.tolist(), strict=True)
    return [ClassFigures(*row) for row in rows]


def first_reached(values: Sequence[float], level: float) -> int | None:
    """Return the index of the first value that is at least `level`, or None.

    With test accuracies that begin with the untrained network's, it is the epoch: the article's
    TS95 is ``first_reached(accuracies, 0.95)``.
    """
    return next((i for i, value in enumerate(values) if value >= level), None)


def best(values: Sequence[float]) -> tuple[int, float] | None:
    """Return index and value of the first largest value, None if all values are NaN."""
    numbers = [(i, value) for i, value in enumerate(values) if not math.isnan(value)]
    return max(numbers, key=lambda pair: pair[1]) if numbers else None


@np.errstate(all="ignore")
def confusion_matrix(true: Array, predicted: Array, *, classes: int | None = None) -> np.ndarray:
    """Count how often each class was predicted for the samples of each class.

    Parameters
    ----------
    true, predicted
        Class labels from 0 on, integers of shape (n,), of any library.
    classes
        The number of classes; one more than the largest label if None.

    Returns
    -------
    matrix
        NumPy array, int64, shape (classes, classes): ``matrix[i, j]`` samples of class i were
        predicted as j.

    Raises
    ------
    ArgumentError, DataError
        If an argument isn't an array of labels, lengths differ, or a label isn't below `classes`.
    """
    arrays = {"true": to_numpy(true, "true"), "predicted": to_numpy(predicted, "predicted")}
    for name, array in arrays.items():
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise DataError(
                f"{name} must hold integer class labels of shape (n,), got {array.dtype} of shape "
                f"{array.shape}"
            )
    if len(arrays["true"]) != len(arrays["predicted"]):
        lengths = " and ".join(str(len(array)) for array in arrays.values())
        raise DataError(f"true and predicted must have the same length, got {lengths}")
    if classes is None:
        classes = 1 + max(int(array.max(initial=0)) for array in arrays.values())
    classes = integer("classes", classes, minimum=1)
    for name, array in arrays.items():
        outside = (array < 0) | (array >= classes)
        if outside.any():
            row = int(np.argmax(outside))
            raise DataError(
                f"{name} must hold labels from 0 to {classes - 1}, got {array[row]}", row=row
            )
    pairs = arrays["true"].astype(np.int64) * classes + arrays["predicted"].astype(np.int64)
    return np.bincount(pairs, minlength=classes**2).astype(np.int64).reshape(classes, classes)


@np.errstate(all="ignore")
def r2_score(targets: np.ndarray, predictions: np.ndarray) -> float:
    """Return the coefficient of determination, ``1 - sum((t - p)²) / sum((t - mean(t))²)``.

    For host arrays of shape (n, outputs) it is the mean over the outputs. It is NaN for an output
    whose targets are all the same.
    """
    t, p = _columns(targets), _columns(predictions)
    spread = _sums((t - _sums(t) / len(t)) ** 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        scores = np.where(spread > 0, 1 - _sums((t - p) ** 2) / spread, np.nan)
    return math.fsum(scores) / len(scores)


@np.errstate(all="ignore")
def root_mean_squared_error(targets: np.ndarray, predictions: np.ndarray) -> float:
    """Return ``sqrt(mean((t - p)²))`` of host arrays of shape (n,) or (n, outputs)."""
    squares = (_columns(targets) - _columns(predictions)) ** 2
    return math.sqrt(math.fsum(_sums(squares)) / squares.size)


def _columns(array: np.ndarray) -> np.ndarray:
    return np.asarray(array, np.float64).reshape(len(array), -1)


def _sums(columns: np.ndarray) -> np.ndarray:
    """Return the sum of each column, correctly rounded and thus the same on every processor."""
    return np.array([math.fsum(column) for column in columns.T])
