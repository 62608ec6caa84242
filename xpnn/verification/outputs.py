"""`verify_model`: whether a trained model gives the same outputs on each backend."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from xpnn.backends import Backend
from xpnn.datasets import Dataset, NamedDataset
from xpnn.datasets.checks import as_inputs
from xpnn.datasets.dataset import located
from xpnn.errors import ArgumentError, DataError, position
from xpnn.inference import predict_proba
from xpnn.model import Sequential
from xpnn.training.loop import EVALUATION_ROWS
from xpnn.training.streams import features
from xpnn.verification.compare import Difference, difference


class Stage(NamedTuple):
    """What a model computes at one place.

    Attributes
    ----------
    name
        "features" for the normalized inputs, a layer's name for its outputs, "prediction" for
        what `xpnn.predict_proba` returns.
    hashes
        For each backend, the SHA-256 of the values of all rows.
    difference
        The largest difference from the first backend's values.
    """

    name: str
    hashes: Mapping[str, str]
    difference: Difference


@dataclass(frozen=True)
class Outputs:
    """What `verify_model` found.

    Attributes
    ----------
    stages
        The places in order, from the features to the prediction.
    parted
        The first place, row and column at which a backend differs from the first backend, in
        words; None if all agree.
    """

    stages: Sequence[Stage]
    parted: str | None

    @property
    def agree(self) -> bool:
        """Whether all backends give the same bits."""
        return self.parted is None


def verify_model(model: Sequential, data: Dataset, backends: Sequence[Backend]) -> Outputs:
    """Compute a trained model's outputs on each backend, and compare them layer by layer.

    Layers are computed one by one; the prediction is computed as `xpnn.predict_proba` does, by a
    program that the backend may have compiled.

    Parameters
    ----------
    model
        A trained model, on any backend; it isn't changed.
    data
        A pair (x, y), of which y isn't used.
    backends
        Native or reproducible backends. The first is compared with each of the others.

    Raises
    ------
    ArgumentError, DataError
        If there is no backend, the model has no parameters yet, or the data don't fit it.
    """
    if not backends:
        raise ArgumentError("backends must hold at least one, got none")
    model.placed()
    if not isinstance(data, NamedDataset):
        data = NamedDataset(*data)
    with located(data):
        x = as_inputs("x", data.x, model.task)
    if not len(x) or x.shape[1] != model.inputs:
        raise DataError(f"x must have shape (n, {model.inputs}) with n >= 1, got {x.shape}")
    # a table's texts are features from here on
    data = data._replace(x=x)
    models = {backend.name: _placed(model, backend) for backend in backends}
    names = ("features", *model.names, "prediction")
    digests = {backend: [hashlib.sha256() for _ in names] for backend in models}
    largest = [Difference(0.0, 0.0)] * len(names)
    parted: dict[int, str] = {}
    for start in range(0, len(x), EVALUATION_ROWS):
        rows = data.part(slice(start, start + EVALUATION_ROWS))
        with located(rows):
            found = {backend: list(_stages(own, rows.x)) for backend, own in models.items()}
        for i, name in enumerate(names):
            values = {backend: stages[i] for backend, stages in found.items()}
            for backend, array in values.items():
                digests[backend][i].update(array.tobytes())
            (first, reference), *others = values.items()
            for backend, other in others:
                if i not in parted and other.tobytes() != reference.tobytes():
                    words = _first_difference(rows, start, reference, other)
                    parted[i] = f"{first} and {backend} differ first at {name}, {words}"
            with np.errstate(invalid="ignore"):  # infinite values of a layer
                apart = difference({name: reference}, [{name: other} for _, other in others])
            largest[i] = Difference(*map(max, zip(largest[i], apart, strict=True)))
    stages = [
        Stage(name, {backend: own[i].hexdigest() for backend, own in digests.items()}, largest[i])
        for i, name in enumerate(names)
    ]
    return Outputs(stages, parted[min(parted)] if parted else None)


def _placed(model: Sequential, backend: Backend) -> Sequential:
    """Return a copy of a trained model on another backend."""
    copy = Sequential(*model.layers)
    assert model.inputs is not None
    copy.place(model.host_parameters(), inputs=model.inputs, backend=backend)
    copy.task = dataclasses.replace(model.task, columns=None)
    return copy


def _stages(model: Sequential, x: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the normalized features, the outputs of each layer and the prediction, on the host."""
    backend, arrays = model.placed()
    xp = backend.xp
    with backend.scope():
        source = features(x, backend.dtype_name, model.task.normalizer)
        value = xp.astype(backend.asarray(source.rows(0, len(x))), backend.dtype)
        yield _canonical(backend.to_numpy(value))
        for layer, own in zip(model.layers, arrays, strict=True):
            value, _ = layer.forward(own, value, xp=xp)
            yield _canonical(backend.to_numpy(value))
    yield _canonical(predict_proba(model, x))


def _canonical(values: np.ndarray) -> np.ndarray:
    # which NaN an operation gives depends on the processor
    return np.where(np.isnan(values), np.nan, values).astype(values.dtype)


def _first_difference(rows: NamedDataset, start: int, a: np.ndarray, b: np.ndarray) -> str:
    """Return where the bits of two arrays differ first, and what each of them holds there."""
    bits = f"u{a.dtype.itemsize}"
    row, column = np.argwhere(a.view(bits) != b.view(bits))[0].tolist()
    where = rows.where(row, "x") if rows.path else position(None, start + row)
    return f"{where}, output {column}: {a[row, column]!s} and {b[row, column]!s}"
