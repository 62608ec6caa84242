"""Use a trained model on data: `evaluate`, `predict`, `predict_proba`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from xpnn._core.mapped import pixels_as_floats
from xpnn.backends import namespace, to_numpy
from xpnn.datasets.batches import collected
from xpnn.datasets.checks import (
    as_dataset,
    as_inputs,
    as_table,
    check_images,
    flat,
    image_shape_of,
    in_kind,
)
from xpnn.datasets.dataset import located
from xpnn.datasets.labels import label_indices
from xpnn.errors import ArgumentError, DataError, position
from xpnn.losses import CrossEntropy, Loss, labels
from xpnn.metrics import Metric, confusion_matrix
from xpnn.model import Sequential
from xpnn.training import loop
from xpnn.training.history import Evaluation
from xpnn.training.plan import made, metrics_for
from xpnn.training.samples import Data, as_test_set, with_targets
from xpnn.training.streams import features, with_rows

Array = Any


@np.errstate(all="ignore")
def evaluate(
    model: Sequential,
    data: Data | Array,
    y: Array | None = None,
    *,
    loss: str | Loss | None = None,
    metrics: str | Iterable[str | Metric] | None = None,
) -> Evaluation:
    """Return accuracy and loss of a trained model on a data set, and metrics.

    Parameters
    ----------
    model
        A trained model. Its backend computes.
    data, y
        A pair (x, y), or x and y as two arguments, or batches, as for `fit`, possibly mapped from
        files. Or a DataFrame that holds the target too: the columns are found by the names that
        they had in training.
    loss
        The loss or its name, as for `fit`; None for the one that the model was trained for.
    metrics
        More figures by name or as instances, as for `fit`: with ``["f1"]``, the result has an
        attribute ``f1``. `xpnn.metrics.per_class` gives the figures of each class.

    Raises
    ------
    ArgumentError, DataError
        If the model has no parameters yet, the data don't fit it, or a metric doesn't fit them.
    """
    backend, _ = model.placed()
    task = model.task
    chosen: Loss = task.loss or CrossEntropy() if loss is None else made("loss", loss)
    data = as_test_set(model, chosen, with_targets(task, data, y))
    outputs = model.outputs(data.x.shape[1])
    found = metrics_for(metrics, chosen, outputs, data.y, task)
    with backend.scope():
        evaluate_on = loop.Evaluator(model, chosen, backend, found)
        return evaluate_on(evaluate_on.moved(data, task), 0)


@np.errstate(all="ignore")
def confusion(model: Sequential, data: Data | Array, y: Array | None = None) -> np.ndarray:
    """Return the `xpnn.metrics.confusion_matrix` of a trained classifier on data as for `evaluate`.

    Raises
    ------
    ArgumentError, DataError
        If the model has no classes, or the data don't fit it.
    """
    task = model.task
    if task.classes is None:
        raise ArgumentError("model must have been trained on class labels, got one that wasn't")
    data = with_targets(task, data, y)
    data = collected("data", data, task.feature_names, task.target_names)
    true = as_dataset("data", data, task)
    with located(data):
        predicted = predict(model, as_table(data, task)[0])
    if task.labels is not None:
        predicted = label_indices("predictions", predicted, task.labels)
    return confusion_matrix(true.y, predicted, classes=task.classes)


@np.errstate(all="ignore")
def predict(model: Sequential, x: Array) -> Array:
    """Return a model's predictions for `x`: class labels, or values in the shape of the targets.

    Parameters
    ----------
    model
        A trained model.
    x
        Shape (n, features), or images, as for `fit`; unsigned bytes are pixels. It may be mapped
        from a file.
        A DataFrame, whose columns are found by their names; or, if the model was trained on a table
        of more than numbers, an object array of its cells, or an array of numbers and codes (see
        `xpnn.datasets.columns.Columns`).

    Returns
    -------
    predictions
        If the targets were class labels, labels of the same kind, shape (n,); otherwise what
        `predict_proba` returns, shape (n, outputs), or (n,) for a single output if the targets had
        that shape. The array is of the model's library if `x` is, else NumPy's; strings are always
        in a NumPy array.

    Raises
    ------
    ArgumentError, DataError
        If the model has no parameters yet, or `x` doesn't fit it; and, unless `x` is an array of
        the model's library, if a feature is too large for the dtype or an output isn't finite.
    """
    if model.task.classes is None:
        values = predict_proba(model, x)
        return values[:, 0] if model.task.flat and values.shape[1] == 1 else values
    outputs = outputs_of(model, x)
    backend = model.placed()[0]
    with backend.scope():
        indices = labels(outputs)
        if model.task.labels is None:
            return indices
        if isinstance(indices, np.ndarray) or model.task.labels.dtype.kind == "U":
            return model.task.labels[to_numpy(indices)]
        return backend.xp.take(backend.asarray(model.task.labels), indices)


@np.errstate(all="ignore")
def predict_proba(model: Sequential, x: Array) -> Array:
    """Return probabilities or values, shape (n, outputs), as the loss has them.

    Cross entropies and focal losses have probabilities, `Poisson` the mean counts, `Quantile` a
    block of columns for each level, and the other losses of values the outputs themselves.

    Parameters, errors and the kind of array are those of `predict`. Probabilities are in the order
    of ``model.task.labels``. Those of several outputs of a binary cross entropy are the answers to
    independent questions: the probabilities of a row don't sum to 1. A target normalizer is
    inverted, which gives float64 values.
    """
    loss = model.task.loss or CrossEntropy()
    outputs = outputs_of(model, x)
    backend = model.placed()[0]
    with backend.scope():
        if isinstance(outputs, np.ndarray) and backend.options().get("reproducible"):
            # NumPy's exp differs between processors
            parts = np.split(
                outputs, range(loop.EVALUATION_ROWS, len(outputs), loop.EVALUATION_ROWS)
            )
            values = np.concatenate(
                [
                    backend.to_numpy(loss.predict(backend.asarray(part), xp=backend.xp))
                    for part in parts
                ]
            )
        else:
            values = loss.predict(outputs, xp=namespace(outputs))
        return model.task.in_units(values, xp=namespace(values))


def class_probabilities(model: Sequential, x: np.ndarray) -> np.ndarray:
    """Return the probability of each class, shape (n, classes), also from a single output."""
    values: np.ndarray = predict_proba(model, x)
    return np.hstack([1 - values, values]) if values.shape[1] == 1 else values


@np.errstate(all="ignore")
def outputs_of(model: Sequential, x: Array) -> Array:
    """Return the network's outputs for `x`, shape (n, outputs): logits, or normalized values.

    Parameters, errors and the kind of array are those of `predict`.
    """
    backend, arrays = model.placed()
    task = model.task
    own = backend.owns(x) and not isinstance(x, np.ndarray)
    if own:
        backend.check(x, "x")
    check_images((x, None), model.task.image_shape, "x")
    if not own:
        x = as_inputs("x", x, task)
    elif task.columns is not None:
        if x.ndim != 2 or x.shape[1] != len(task.columns):
            raise DataError(f"x must have shape (n, {len(task.columns)}), got {tuple(x.shape)}")
        x = task.columns.apply(backend.xp.astype(x, backend.xp.float64), xp=backend.xp)
    else:
        with backend.scope():
            x = in_kind("x", x, task.input_kind, xp=backend.xp)
            if image_shape_of(x) is not None:
                x = flat(x, xp=backend.xp)
    if x.ndim != 2 or x.shape[1] != model.inputs:
        raise DataError(f"x must have shape (n, {model.inputs}), got {tuple(x.shape)}")
    xp, normalizer = backend.xp, task.normalizer
    source = None if own else features(x, backend.dtype_name, normalizer)
    parts = []
    by_rows = model.by_rows
    with backend.scope():
        for start in range(0, max(x.shape[0], 1), loop.EVALUATION_ROWS):
            stop = min(start + loop.EVALUATION_ROWS, x.shape[0])
            if source is not None:
                rows = source.rows(start, stop)
                if by_rows:
                    rows = with_rows(rows, backend.padded(len(rows)))
                part = backend.asarray(rows)
            else:
                part = x[start:stop, :]
                if x.dtype == xp.uint8:
                    part = backend.asarray(pixels_as_floats(backend.to_numpy(part)))
                if normalizer is not None:
                    part = normalizer.apply(part, xp=xp)
            part = model.apply(arrays, xp.astype(part, backend.dtype))
            if not own:
                part = backend.to_numpy(part)[: stop - start]
                _check_outputs_finite(part, start)
            parts.append(part)
        return xp.concat(parts) if own else np.concatenate(parts)


def _check_outputs_finite(outputs: np.ndarray, start: int) -> None:
    finite = np.isfinite(outputs)
    if not finite.all():
        row, column = np.argwhere(~finite)[0].tolist()
        value = outputs[row, column]
        problem = f"an output of the model is {value}; its features are too large"
        row += start
        raise DataError(problem, part="x", row=row, place=position("x", row))
