"""The data of a run: checked against the network and the loss, with labels and weights."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from numbers import Real
from typing import Any, NamedTuple

import numpy as np

from xpnn._core.mapped import blocks
from xpnn.backends import to_numpy
from xpnn.datasets.batches import collected
from xpnn.datasets.checks import as_dataset, as_pair, check_images, image_shape, kind_of
from xpnn.datasets.columns import Columns, fitted
from xpnn.datasets.dataset import Dataset, NamedDataset, Share, located
from xpnn.datasets.labels import as_labels, check_labels, distinct
from xpnn.datasets.splitting import as_share, divided, drawn_rows, parted, share_of
from xpnn.datasets.table import whole
from xpnn.errors import (
    ArgumentError,
    DataError,
    DataWarning,
    counted,
    nonnegative,
    position,
    unknown,
)
from xpnn.losses import (
    ROUNDING,
    VALUES,
    BinaryCrossEntropy,
    CrossEntropy,
    Loss,
    MeanSquaredError,
    is_labels,
)
from xpnn.model import Sequential
from xpnn.normalizers import Normalizer, as_normalizer
from xpnn.task import Task
from xpnn.training.defaults import OTHERS, defaults_for

Array = Any

# bytes that are all smaller than this, in so many rows, are probably no pixels
_SMALL, _FIRST_ROWS = 64, 1000

# a pair (x, y), or batches of them
Data = Dataset | tuple[Array, Array] | Iterable[Any]


class Samples(NamedTuple):
    """What a network is trained on, on the host.

    Attributes
    ----------
    train, validation
        The data, whose targets are classes from 0 on, or values.
    weights
        The weights of the training samples, of mean 1, float64; None if all count alike.
    weighting
        The given weighting, for the history's settings.
    task
        What the trained model will know of the data.
    cells
        The cells of a training table before they became features; None if all are numbers.
    """

    train: Dataset
    validation: Dataset | None
    weights: np.ndarray | None
    weighting: dict[str, Any]
    task: Task
    cells: np.ndarray | None = None


def as_samples(
    model: Sequential,
    loss: Loss | None,
    train: Any,
    validation: Any,
    *,
    seed: int,
    labels: Sequence[Any] | np.ndarray | None,
    normalizer: str | Normalizer | None,
    target_normalizer: str | Normalizer | None,
    sample_weight: Array | None,
    class_weight: Mapping[Any, float] | str | None,
) -> Samples:
    """Return the samples of a run; arguments and errors are those of `xpnn.fit`."""
    trained = model.parameters is not None
    own = model.task if trained else Task()
    usual = OTHERS.normalizer if trained else defaults_for(train).normalizer
    train = collected("train", train, own.feature_names, own.target_names)
    targets = own.target_names or getattr(train, "target_names", None)
    share = validation if isinstance(validation, Real) else None
    if share is None:
        found = getattr(train, "feature_names", None)
        if isinstance(train, NamedDataset):
            kind = "regression" if train.y.dtype.kind == "f" else "classification"
            validation = whole("validation", validation, found, train.target_name, kind)
        validation = collected("validation", validation, found, targets)
    else:
        validation = None
        if _has_cells(train):
            # what turns cells into features is learned from the training part only
            count = len(train[0])
            train, validation, rows = divided("train", train, share, seed)
            if sample_weight is not None:
                sample_weight = _given_weights(sample_weight, count)[rows]
            share = None
    # a table's names stay where a trained model is given a set without any
    named = isinstance(train, NamedDataset) and (train.feature_names or train.path)
    about = train if named else own
    shape = own.image_shape
    for name, data in (("train", train), ("validation", validation)):
        check_images(data, shape, name)
        shape = shape or image_shape(data)
    names = _find_labels(model, train, labels, loss)
    columns = _find_columns(model, train, validation)
    task = replace(own, labels=names, columns=columns)
    given, train = train, as_dataset("train", train, task)
    task = replace(task, input_kind=task.input_kind or kind_of(train.x))
    cells = None if columns is None else to_numpy(as_pair("train", given)[0])
    if validation is not None:
        validation = as_dataset("validation", validation, task)
    loss = own.loss if loss is None else loss
    if loss is None:
        outputs = model.outputs(train.x.shape[1])
        loss = default_loss(train.y, outputs, named=names is not None)
    if names is not None:
        _check_outputs(model, loss, train.x.shape[1], names)
    train = _as_targets(train, loss, model)
    validation = None if validation is None else _as_targets(validation, loss, model)
    if sample_weight is not None:
        sample_weight = _given_weights(sample_weight, len(train.x))
    if share is not None:
        fraction = as_share(share, train.x)
        # by the labels themselves, whatever their order in the model
        strata = as_labels(as_pair("train", given)[1]) if is_labels(train.y) else None
        drawn = drawn_rows(len(train.x), fraction, seed, strata)
        train, validation = parted(train, drawn)
        if isinstance(given, NamedDataset) and isinstance(train, NamedDataset):
            train.share = share_of(given, fraction, seed, drawn[1])
        sample_weight = None if sample_weight is None else sample_weight[drawn[0]]
        cells = None if cells is None else cells[drawn[0]]
    classes = _check_fit(model, loss, {"train": train, "validation": validation})
    labelled = names if names is not None or classes is None else np.arange(classes)
    weights = sample_weights(train.y, sample_weight, class_weight, labelled)
    task = replace(
        task,
        loss=loss,
        classes=classes,
        normalizer=_normalizer("normalizer", normalizer, model, train, usual),
        target_normalizer=_target_normalizer(loss, target_normalizer, model, train, usual),
        feature_names=about.feature_names,
        target_name=about.target_name,
        target_names=targets,
        image_shape=shape,
        flat=classes is None and train.y.ndim == 1,
        share=_share(model, train),
    )
    tabular = task.input_kind == "bytes" and shape is None
    if tabular and (most := train.x[:_FIRST_ROWS].max()) < _SMALL:
        warnings.warn(
            "train.x holds unsigned bytes, which are pixels and divided by 255, and none is larger "
            f"than {most}; if they are plain numbers, pass x.astype('int16')",
            DataWarning,
            stacklevel=3,
        )
    if isinstance(class_weight, Mapping):
        class_weight = {str(label): float(weight) for label, weight in class_weight.items()}
    weighting = {"sample_weight": sample_weight is not None, "class_weight": class_weight}
    return Samples(train, validation, weights, weighting, task, cells)


def default_loss(y: np.ndarray, outputs: int, *, named: bool = False) -> Loss:
    """Return the loss for these targets where none was asked for.

    It is a cross entropy for class labels and for rows that are probabilities or one-hot, a binary
    one for other rows of 0 and 1, and for classes if there is a single output, and otherwise the
    mean squared error.

    Parameters
    ----------
    y
        Labels, or values of shape (n,) or (n, outputs), on the host.
    outputs
        The number of outputs of the network.
    named
        Whether `y` holds classes that have labels. Without labels, and with a single output, more
        than two different integers are values.
    """
    if y.ndim == 1 and y.dtype.kind != "f":
        if outputs > 1:
            return CrossEntropy()
        return BinaryCrossEntropy() if named or len(np.unique(y)) <= 2 else MeanSquaredError()
    if y.ndim == 2 and (y.shape[1] > 1 or y.dtype.kind != "f"):
        sums, truths = y.shape[1] > 1, True
        for _, rows in blocks(y):
            sums &= bool((rows >= 0).all() and (abs(rows.sum(axis=1) - 1) <= ROUNDING).all())
            truths &= bool(((rows == 0) | (rows == 1)).all())
        if sums or truths:
            return CrossEntropy() if sums else BinaryCrossEntropy()
    return MeanSquaredError()


def _share(model: Sequential, train: Dataset) -> Share | None:
    """Return which rows no run of the model has trained on."""
    share = train.share if isinstance(train, NamedDataset) else None
    trained_before = model.task.loss is not None
    return None if trained_before and share != model.task.share else share


def with_targets(task: Task, data: Any, y: Any = None) -> Any:
    """Return data for a trained model as a pair (x, y); arguments are those of `evaluate`."""
    if y is not None:
        if isinstance(data, tuple):
            raise ArgumentError("y must be left out where data is a pair (x, y)")
        return data, y
    kind = "regression" if task.classes is None else "classification"
    return whole("data", data, task.feature_names, task.target_name, kind)


def as_test_set(model: Sequential, loss: Loss, data: Any) -> Dataset:
    """Return data that a trained model is to be evaluated on; errors are those of `evaluate`."""
    task = model.task
    data = collected("data", data, task.feature_names, task.target_names)
    check_images(data, task.image_shape)
    data = as_dataset("data", data, task)
    test = _as_targets(data, loss, model)
    _check_fit(model, loss, {"data": test})
    return test


def _find_labels(
    model: Sequential, train: Any, labels: Any, loss: Loss | None
) -> np.ndarray | None:
    """Return the labels of the classes; None if there are none, or integers number the outputs."""
    if labels is not None:
        return check_labels(labels)
    if model.parameters is not None and model.task.labels is not None:
        return model.task.labels
    if not isinstance(train, Sequence) or len(train) != 2:
        return None
    found = as_labels(train[1], "train.y")
    if found is None or found.dtype.kind == "U":
        return None if found is None else distinct("train.y", found)
    outputs = model.outputs(1)
    # without a dense layer, the outputs depend on the features
    if model.parameters is not None or not len(found) or outputs != model.outputs(2):
        return None
    if loss is not None and not loss.classifies(outputs):
        return None
    classes = max(outputs, 2)
    if found.min() >= 0 and found.max() < classes:
        return None
    # other integers are labels if there is one for each output, as 1, 2 and 3 of three
    different = np.unique(found)
    return different if len(different) == classes else None


def _find_columns(model: Sequential, train: Any, validation: Any) -> Columns | None:
    """Return what turns a table into features, or None if all are numbers.

    It is fitted to the training part unless the model has its own.
    """
    if model.parameters is not None:
        return model.task.columns
    if not (_has_cells(train) or _has_cells(validation)):
        return None
    x, y = as_pair("train", train)
    x = to_numpy(x, "train.x")
    if x.ndim != 2:
        raise DataError(f"train.x must have shape (n, features), got shape {x.shape}")
    return fitted(train if isinstance(train, Dataset) else Dataset(x, y))


def _has_cells(data: Any) -> bool:
    """Return whether `data` is a pair with a table of more than numbers."""
    return (
        isinstance(data, tuple)
        and len(data) == 2
        and isinstance(data[0], np.ndarray)
        and data[0].dtype.kind == "O"
    )


def _check_outputs(model: Sequential, loss: Loss, features: int, labels: np.ndarray) -> None:
    outputs = model.outputs(features)
    if not loss.classifies(outputs):
        raise ArgumentError(f"loss must be one for classes where there are labels, got {loss!r}")
    if len(labels) != max(outputs, 2):
        raise ArgumentError(
            f"model must have an output for each of the {len(labels)} classes, got "
            f"{counted(outputs, 'output')}"
        )


def _as_targets(data: Dataset, loss: Loss, model: Sequential) -> Dataset:
    """Return the data; if the loss doesn't classify, integer targets become float64 values."""
    if is_labels(data.y) and not loss.classifies(model.outputs(data.x.shape[1])):
        return data._replace(y=data.y.astype(np.float64))
    return data


def _check_fit(model: Sequential, loss: Loss, sets: dict[str, Dataset | None]) -> int | None:
    """Check that data, network and loss fit together; return the number of classes, if any."""
    given = {name: data for name, data in sets.items() if data is not None}
    first, train = next(iter(given.items()))
    for name, data in given.items():
        if data.x.size == 0:
            raise DataError(f"{name}.x must hold at least one value, got shape {data.x.shape}")
    features = train.x.shape[1]
    if model.inputs not in (None, features):
        raise DataError(
            f"{first}.x must have the model's {counted(model.inputs or 0, 'feature')}, "
            f"got {features}"
        )
    outputs = model.outputs(features)
    if not any(layer.shapes(width) for layer, width in model.widths(features)):
        raise ArgumentError("model must have a layer with parameters, got none")
    loss.check(outputs)
    columns = outputs // loss.outputs_per_target
    classes = max(outputs, 2) if is_labels(train.y) else None
    for name, data in given.items():
        if data.x.shape[1] != features:
            raise DataError(
                f"{name}.x must have {counted(features, 'feature')} as train.x has, "
                f"got {data.x.shape[1]}"
            )
        if is_labels(data.y) != (classes is not None):
            raise DataError("train.y and validation.y must both be class labels, or neither")
        if classes is not None:
            with located(data):
                _check_labels(name, data.y, classes)
        elif (data.y.shape[1] if data.y.ndim == 2 else 1) != columns:
            raise DataError(
                f"{name}.y must have shape (n, {columns}) for {counted(outputs, 'output')} of the "
                f"model, or hold integer class labels of shape (n,), got {data.y.dtype} of shape "
                f"{data.y.shape}"
            )
        elif loss.domain != VALUES:
            with located(data):
                _check_domain(name, data.y, loss)
    return classes


def _check_domain(name: str, y: np.ndarray, loss: Loss) -> None:
    """Raise a DataError about the first target that the loss isn't defined for."""
    domain = loss.domain
    for start, rows in blocks(y):
        wrong = (rows < domain.low) | (rows > domain.high)
        found = "{}"
        if domain.shares and not wrong.any():
            # float16 rounds more than the sums of float32
            about = 8 * float(np.finfo(rows.dtype).eps) if rows.dtype.kind == "f" else 0.0
            rows = rows.sum(axis=1, dtype=np.float64)
            wrong, found = abs(rows - 1) > max(ROUNDING, about), "a sum of {:.6g}"
        if wrong.any():
            row, *column = np.argwhere(wrong)[0].tolist()
            found = found.format(rows[row, *column])
            raise DataError(
                f"targets must be {domain.wanted} for the loss {loss!r}, got {found}",
                part="y",
                row=start + row,
                column=column[0] if column else None,
                place=position(f"{name}.y", start + row, *column),
            )


def _check_labels(name: str, y: np.ndarray, classes: int) -> None:
    outside = (y < 0) | (y >= classes)
    if outside.any():
        row = int(np.argmax(outside))
        raise DataError(
            f"{name}.y must hold labels from 0 to {classes - 1} for the model's outputs, "
            f"got {y[row]}",
            part="y",
            row=row,
        )


def are_scaled(loss: Loss, y: np.ndarray) -> bool:
    """Return whether targets are standardized by default: values that the loss lets be scaled."""
    return isinstance(default_loss(y, 2), MeanSquaredError) and loss.domain.scalable


def _target_normalizer(
    loss: Loss, given: Any, model: Sequential, train: Dataset, usual: str
) -> Normalizer | None:
    usual = usual if are_scaled(loss, train.y) else OTHERS.normalizer
    found = _normalizer("target_normalizer", given, model, train, usual)
    if found is not None and not loss.domain.scalable:
        raise ArgumentError(
            f"target_normalizer must be None for the loss {loss!r}, whose targets must be "
            f"{loss.domain.wanted}, got {found!r}"
        )
    return found


def _normalizer(
    name: str, given: Any, model: Sequential, train: Dataset, usual: str
) -> Normalizer | None:
    """Return the normalizer of a run, fitted to the training set if necessary.

    It is the `usual` one where none is given, or that of a trained model.
    """
    own: Normalizer | None = getattr(model.task, name)
    normalizer = as_normalizer(name, usual if given is None else given)
    if model.parameters is not None and (given is None or type(own) is type(normalizer)):
        return own
    if model.parameters is not None:
        raise ArgumentError(
            f"{name} of a model that is trained already must be its own, {own!r}, got {given!r}"
        )
    if normalizer is None:
        return None
    part, values = ("y", train.y) if name == "target_normalizer" else ("x", train.x)
    if part == "y" and is_labels(values):
        raise ArgumentError(f"{name} is for values, and train.y holds class labels; got {given!r}")
    columns = values.reshape(len(values), -1)
    if not normalizer.fitted:
        with located(train):
            try:
                return normalizer.fit(columns)
            except DataError as error:
                # the normalizer calls its data x, also where it is train.y
                column = error.column
                place = position(f"train.{part}", column=column)
                raise DataError(error.problem, part=part, column=column, place=place) from None
    assert normalizer.offset is not None
    if len(normalizer.offset) != columns.shape[1]:
        raise ArgumentError(
            f"{name} must have {counted(columns.shape[1], 'column')}, got {len(normalizer.offset)}"
        )
    return normalizer


def sample_weights(
    y: np.ndarray,
    sample_weight: Array | None,
    class_weight: Mapping[Any, float] | str | None,
    known: np.ndarray | None,
) -> np.ndarray | None:
    """Return the weights of the training samples, of mean 1, float64; None if all count alike."""
    if sample_weight is None and class_weight is None:
        return None
    n = len(y)
    weights = np.ones(n)
    if sample_weight is not None:
        weights = _given_weights(sample_weight, n)
    if class_weight is not None:
        if known is None:
            raise ArgumentError("class_weight needs train.y to be class labels")
        weights *= class_weights(y, class_weight, known)[y]
    # fsum rounds correctly, so the sum is the same on every platform
    try:
        total = math.fsum(weights)
    except OverflowError:
        total = math.inf
    if not 0 < total < math.inf:
        raise DataError(
            "weights of the training samples must have a sum that isn't zero or infinite, "
            f"got {total}"
        )
    return weights * (n / total)


def _given_weights(sample_weight: Array, n: int) -> np.ndarray:
    """Return the checked weights of n samples, float64."""
    given = to_numpy(sample_weight, "sample_weight")
    if given.shape != (n,) or given.dtype.kind not in "biuf":
        raise DataError(
            f"sample_weight must be {counted(n, 'number')}, of shape ({n},) as train.x has rows, "
            f"got {given.dtype} of shape {given.shape}"
        )
    weights: np.ndarray = given.astype(np.float64)
    wrong = ~(np.isfinite(weights) & (weights >= 0))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DataError(f"sample_weight must be finite and >= 0, got {given[row]} in row {row}")
    return weights


def class_weights(y: np.ndarray, given: Mapping[Any, float] | str, known: np.ndarray) -> np.ndarray:
    """Return the weight of each of the `known` classes, "balanced" over the targets or given."""
    if isinstance(given, str):
        if given != "balanced":
            raise unknown("class_weight", given, ["balanced"])
        counts = np.bincount(y, minlength=len(known))
        present = int(np.count_nonzero(counts))
        return len(y) / (present * np.maximum(counts, 1))
    if not isinstance(given, Mapping):
        raise ArgumentError(
            f"class_weight must be a mapping such as {{0: 1.0, 1: 2.5}} or 'balanced', "
            f"got {given!r}"
        )
    # True and 1.0 are the class 1; as text, because labels are text at the command line
    values = {label: i for i, label in enumerate(known.tolist())}
    texts = {str(label): i for label, i in values.items()}
    weights: dict[int, float] = {}
    for label, weight in given.items():
        i = values.get(label, texts.get(str(label)))
        if i is None:
            raise unknown("label in class_weight", str(label), texts)
        if i in weights:
            raise ArgumentError(f"class_weight must name each class once, got {given!r}")
        weights[i] = nonnegative(f"class_weight of {label}", weight)
    return np.array([weights.get(i, 1.0) for i in range(len(known))])
