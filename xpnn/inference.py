"""Use a trained model on data: `evaluate`, `predict`, `predict_proba`."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnn._core.mapped import pixels_as_floats
from xpnn.backends import namespace, to_numpy
from xpnn.datasets.checks import as_inputs
from xpnn.datasets.dataset import Dataset
from xpnn.errors import DataError, position
from xpnn.losses import CrossEntropy, Loss, labels
from xpnn.model import Sequential
from xpnn.training import loop
from xpnn.training.history import Evaluation
from xpnn.training.plan import instance
from xpnn.training.samples import as_test_set
from xpnn.training.streams import features, moved

Array = Any


def evaluate(
    model: Sequential, data: Dataset | tuple[Array, Array], *, loss: Loss | None = None
) -> Evaluation:
    """Return accuracy and loss of a trained model on a data set.

    Parameters
    ----------
    model
        A trained model. Its backend computes.
    data
        A pair (x, y) as for `fit`, possibly mapped from files.
    loss
        The loss; None for the one that the model was trained for.

    Raises
    ------
    ArgumentError, DataError
        If the model has no parameters yet, or the data don't fit it.
    """
    backend, _ = model.placed()
    task = model.task
    loss = task.loss or CrossEntropy() if loss is None else instance("loss", loss, Loss)
    data = as_test_set(model, loss, data)
    with backend.scope():
        evaluate_on = loop.Evaluator(model, loss, backend)
        return evaluate_on(moved(data, backend, task), 0)


def predict(model: Sequential, x: Array) -> Array:
    """Return a model's predictions for `x`: class labels, or else what `predict_proba` returns.

    Parameters
    ----------
    model
        A trained model.
    x
        Shape (n, features); unsigned bytes are pixels, as for `fit`. It may be mapped from a file.
        A DataFrame, whose columns are found by their names; or, if the model was trained on a table
        of more than numbers, an object array of its cells, or an array of numbers and codes (see
        `xpnn.datasets.columns.Columns`).

    Returns
    -------
    labels
        If the targets were class labels, labels of the same kind, shape (n,); otherwise what
        `predict_proba` returns. The array is of the model's library if `x` is, else NumPy's;
        strings are always in a NumPy array.

    Raises
    ------
    ArgumentError, DataError
        If the model has no parameters yet, or `x` doesn't fit it; and, unless `x` is an array of
        the model's library, if a feature is too large for the dtype or an output isn't finite.
    """
    if model.task.classes is None:
        return predict_proba(model, x)
    outputs = outputs_of(model, x)
    backend = model.placed()[0]
    with backend.scope():
        indices = labels(outputs)
        if model.task.labels is None:
            return indices
        if isinstance(indices, np.ndarray) or model.task.labels.dtype.kind == "U":
            return model.task.labels[to_numpy(indices)]
        return backend.xp.take(backend.asarray(model.task.labels), indices)


def predict_proba(model: Sequential, x: Array) -> Array:
    """Return probabilities (cross entropies) or values (squared error), shape (n, outputs).

    Parameters, errors and the kind of array are those of `predict`. Probabilities are in the order
    of ``model.task.labels``. A target normalizer is inverted, which gives float64 values.
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
        normalizer = model.task.target_normalizer
        return values if normalizer is None else normalizer.invert(values)


def class_probabilities(model: Sequential, x: np.ndarray) -> np.ndarray:
    """Return the probability of each class, shape (n, classes), also from a single output."""
    values: np.ndarray = predict_proba(model, x)
    return np.hstack([1 - values, values]) if values.shape[1] == 1 else values


def outputs_of(model: Sequential, x: Array) -> Array:
    """Return the network's outputs for `x`, shape (n, outputs): logits, or normalized values.

    Parameters, errors and the kind of array are those of `predict`.
    """
    backend, arrays = model.placed()
    task = model.task
    own = backend.owns(x) and not isinstance(x, np.ndarray)
    if not own:
        x = as_inputs("x", x, task.columns, task.feature_names)
    elif task.columns is not None:
        if x.ndim != 2 or x.shape[1] != len(task.columns):
            raise DataError(f"x must have shape (n, {len(task.columns)}), got {tuple(x.shape)}")
        x = task.columns.apply(backend.xp.astype(x, backend.xp.float64), xp=backend.xp)
    if x.ndim != 2 or x.shape[1] != model.inputs:
        raise DataError(f"x must have shape (n, {model.inputs}), got {tuple(x.shape)}")
    xp, normalizer = backend.xp, task.normalizer
    source = None if own else features(x, backend.dtype_name, normalizer)
    parts = []
    with backend.scope():
        for start in range(0, max(x.shape[0], 1), loop.EVALUATION_ROWS):
            stop = min(start + loop.EVALUATION_ROWS, x.shape[0])
            if source is not None:
                part = backend.asarray(source.rows(start, stop))
            else:
                part = x[start:stop, :]
                if x.dtype == xp.uint8:
                    part = backend.asarray(pixels_as_floats(backend.to_numpy(part)))
                if normalizer is not None:
                    part = normalizer.apply(part, xp=xp)
            part = model.apply(arrays, xp.astype(part, backend.dtype))
            if not own:
                part = backend.to_numpy(part)
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
