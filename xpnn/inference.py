"""What a trained model says of data: `evaluate`, `predict`, `predict_proba`."""

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
        It is evaluated on the backend that holds its parameters.
    data
        A pair (x, y) as for `fit`, mapped from files or not.
    loss
        The loss that the model was trained for if None.

    Raises
    ------
    ArgumentError, DataError
        If the model has no parameters yet, or the data don't fit it.
    """
    place, _ = model.placed()
    loss = model.task.loss or CrossEntropy() if loss is None else instance("loss", loss, Loss)
    data = as_test_set(model, loss, data)
    with place.scope():
        evaluated = loop.Evaluator(model, loss, place)
        return evaluated(moved(data, place, model.task), 0)


def predict(model: Sequential, x: Array) -> Array:
    """Return what the model says of `x`: class labels, or else what `predict_proba` returns.

    Parameters
    ----------
    model
        A trained model.
    x
        Shape (n, features); unsigned bytes are pixels, as for `fit`. An array of the model's own
        library is answered with one; any other array, which may be mapped from a file, with a
        NumPy array.

    Returns
    -------
    labels
        Shape (n,) if the targets were class labels, of the same kind as these; strings are always
        in a NumPy array. Otherwise what `predict_proba` returns.

    Raises
    ------
    ArgumentError, DataError
        If the model has no parameters yet, or x doesn't fit it; and, where x is no array of the
        model's own library, if a feature is too large for the dtype, or an output isn't finite.
    """
    if model.task.classes is None:
        return predict_proba(model, x)
    outputs = outputs_of(model, x)
    place = model.placed()[0]
    with place.scope():
        indices = labels(outputs)
        if model.task.labels is None:
            return indices
        if isinstance(indices, np.ndarray) or model.task.labels.dtype.kind == "U":
            return model.task.labels[to_numpy(indices)]
        return place.xp.take(place.asarray(model.task.labels), indices)


def predict_proba(model: Sequential, x: Array) -> Array:
    """Return probabilities (cross entropies) or values (squared error), shape (n, outputs).

    Parameters, errors and arrays are as for `predict`. Probabilities are in the order of
    ``model.task.labels``; values of a model with a target normalizer are turned back, and are
    float64.
    """
    loss = model.task.loss or CrossEntropy()
    outputs = outputs_of(model, x)
    place = model.placed()[0]
    with place.scope():
        if isinstance(outputs, np.ndarray) and place.options().get("reproducible"):
            # the exp of NumPy differs between processors
            values = np.concatenate(
                [
                    place.to_numpy(loss.predict(place.asarray(part), xp=place.xp))
                    for part in np.split(
                        outputs, range(loop.EVALUATION_ROWS, len(outputs), loop.EVALUATION_ROWS)
                    )
                ]
            )
        else:
            values = loss.predict(outputs, xp=namespace(outputs))
        normalizer = model.task.target_normalizer
        return values if normalizer is None else normalizer.invert(values)


def outputs_of(model: Sequential, x: Array) -> Array:
    """Return the network's outputs for `x`, shape (n, outputs): logits, or normalized values.

    Parameters, errors and arrays are as for `predict`.
    """
    place, arrays = model.placed()
    own = place.owns(x) and not isinstance(x, np.ndarray)
    if not own:
        x = as_inputs("x", x)
    if x.ndim != 2 or x.shape[1] != model.inputs:
        raise DataError(f"x must have shape (n, {model.inputs}), got {tuple(x.shape)}")
    xp, normalizer = place.xp, model.task.normalizer
    with place.scope():
        parts = []
        source = None if own else features(x, place.dtype_name, normalizer)
        for start in range(0, max(x.shape[0], 1), loop.EVALUATION_ROWS):
            stop = min(start + loop.EVALUATION_ROWS, x.shape[0])
            if source is not None:
                part = place.asarray(source.rows(start, stop))
            elif x.dtype == xp.uint8:
                part = place.asarray(pixels_as_floats(place.to_numpy(x[start:stop, :])))
            else:
                part = x[start:stop, :]
            if source is None and normalizer is not None:
                part = normalizer.apply(part, xp=xp)
            part = xp.astype(part, place.dtype)
            part = model.apply(arrays, part)
            if not own:
                part = place.to_numpy(part)
                _check_outputs_finite(part, start)
            parts.append(part)
        return xp.concat(parts) if own else np.concatenate(parts)


def _check_outputs_finite(outputs: np.ndarray, start: int) -> None:
    finite = np.isfinite(outputs).all(axis=1)
    if not finite.all():
        row = int(np.argmin(finite))
        value = outputs[row][~np.isfinite(outputs[row])][0]
        problem = f"an output of the model is {value}; its features are too large"
        row += start
        raise DataError(problem, part="x", row=row, place=position("x", row))
