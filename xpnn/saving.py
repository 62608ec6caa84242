"""Trained models as files: safetensors, with everything that isn't an array in the metadata.

The metadata hold "xpnn", a JSON text with the format, the versions that wrote the file, layers,
loss, labels, names of columns, the kinds of the normalizers, and settings and history of the last
run. They also hold the SHA-256 of the whole file: see `xpnn._core.files.sealed`. The names of the
arrays are "0.weight" for a layer and "normalizer.offset" for a normalizer.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from xpnn._core import limits
from xpnn._core.files import (
    SEAL,
    PathLike,
    arrays_in,
    as_path,
    check_writable,
    replacing,
    sealed,
    unsealed,
)
from xpnn._core.interrupts import held
from xpnn._core.registry import Registry
from xpnn._core.schema import (
    Count,
    PartEntry,
    Rule,
    Sha256,
    as_json,
    at_least,
    between,
    checked,
    field,
    reading,
    shown,
    wrong,
)
from xpnn._core.tree import flatten
from xpnn._version import __version__
from xpnn.activations import ACTIVATIONS
from xpnn.backends import get_backend
from xpnn.datasets.columns import Columns
from xpnn.datasets.dataset import Share
from xpnn.datasets.labels import as_labels
from xpnn.errors import ArgumentError, DataError
from xpnn.layers import LAYERS, Activation
from xpnn.losses import LOSSES, Flooding, Loss
from xpnn.model import Sequential
from xpnn.normalizers import NORMALIZERS
from xpnn.task import Task
from xpnn.training.history import Epoch, History

# Format 1 had no labels, names, normalizers and history; formats 1 and 2 had no hash of the file;
# up to format 3, a part's settings stood beside its name; up to format 4, features were numbers.
FORMAT = 5

_NORMALIZERS = ("normalizer", "target_normalizer")
_ARRAYS = ("offset", "scale")
_FORMATS = Rule(f"a number from 1 to {FORMAT}", lambda version: version >= 1)


@dataclass(frozen=True)
class _Version:
    format: Annotated[int, _FORMATS]


def _are_labels(labels: list[Any]) -> bool:
    kinds = set(map(type, labels))
    return kinds == {str} or (kinds == {int} and all(-(2**63) <= own < 2**63 for own in labels))


@dataclass(frozen=True)
class _Flooded:
    loss: PartEntry


@dataclass(frozen=True)
class _Early:
    """The fields that had another form up to format 3."""

    layers: list[dict[str, Any]]
    loss: dict[str, Any] | None


@dataclass(frozen=True)
class _Share:
    fraction: Annotated[float, Rule("a number > 0 and < 1", lambda value: 0 < value < 1)]
    seed: Annotated[int, between(0, 2**32 - 1)]
    sha256: Sha256


@dataclass(frozen=True)
class _Description:
    """The fields of a model's file: what isn't an array."""

    inputs: Count
    dtype: Literal["float32", "float64"]
    classes: Annotated[int, at_least(2)] | None
    loss: PartEntry | None
    layers: Annotated[list[PartEntry], Rule("a list of layers", bool)]
    xpnn: str
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    labels: Annotated[list[Any], Rule("texts, or integers of 64 bits", _are_labels)] | None = None
    feature_names: list[str] | None = None
    target_name: str | None = None
    target_names: list[str] | None = None
    image_shape: tuple[Count, Count, Count] | None = None
    columns: list[dict[str, Any]] | None = None
    flat: bool = False
    share: _Share | None = None
    input_kind: Literal["bytes", "integers", "floats"] | None = None
    normalizer: str | None = None
    target_normalizer: str | None = None
    settings: dict[str, Any] | None = None
    history: dict[str, list[float | None]] | None = None


def save(model: Sequential, path: PathLike) -> None:
    """Write a trained model to a safetensors file, replacing one that exists.

    The file is whole or not there at all. A Ctrl-C waits until it is written; a second one gives
    up, and an older file stays as it is.

    The file holds all that is needed to predict and to train on, on any backend: the parameters,
    the architecture, the loss, the labels of the classes, the normalizers; and, for reference, the
    settings and the history of the last run, and the versions that wrote it. It holds no code, so
    loading it can't run any.

    Raises
    ------
    ArgumentError
        If the model has no parameters yet, a layer isn't registered in `xpnn.layers.LAYERS`, the
        loss or a normalizer can't be saved, the file can't be written, or somebody else is writing
        it.
    WriteError
        If the system refuses while the file is written, as when the disk is full. It is an
        `ArgumentError` and an `OSError`.
    """
    for layer in model.layers:
        # raises unless it is registered
        LAYERS[type(layer).__name__]
    backend, _ = model.placed()
    task, history = model.task, model.history
    arrays = flatten(model.host_parameters())
    path = check_writable("path", path)
    kinds: dict[str, str | None] = {}
    for name in _NORMALIZERS:
        normalizer = getattr(task, name)
        kind = kinds[name] = None if normalizer is None else normalizer.name
        if kind is None:
            continue
        if kind not in NORMALIZERS or NORMALIZERS[kind] is not type(normalizer):
            raise ArgumentError(f"{normalizer!r} must be registered in NORMALIZERS to be saved")
        arrays.update({f"{name}.{array}": getattr(normalizer, array) for array in _ARRAYS})
    description = {
        # a model of numbers can be read by versions that know no other ones
        "format": FORMAT if task.columns is not None else 4,
        "xpnn": __version__,
        "versions": {"numpy": np.__version__, backend.name: backend.library.__version__},
        "inputs": model.inputs,
        "dtype": backend.dtype_name,
        "classes": task.classes,
        "labels": None if task.labels is None else task.labels.tolist(),
        "feature_names": task.feature_names,
        "target_name": task.target_name,
        **({} if task.target_names is None else {"target_names": task.target_names}),
        "image_shape": task.image_shape,
        **({} if task.columns is None else {"columns": task.columns.config()}),
        **({"flat": True} if task.flat else {}),
        "share": None if task.share is None else task.share._asdict(),
        "input_kind": task.input_kind,
        **kinds,
        "loss": None if task.loss is None else _described_loss(task.loss),
        "layers": [
            {"name": type(layer).__name__, "parameters": layer.config()} for layer in model.layers
        ],
        "settings": None if history is None else history.settings,
        "history": None if history is None else _columns(history),
    }
    # in ASCII: names may hold what UTF-8 can't, as those of folders that aren't UTF-8
    content = sealed(arrays, {"xpnn": json.dumps(description, default=repr)})
    with held(), replacing("model", path) as file:
        file.write(content)


@limits.bounded
def load(
    path: PathLike,
    *,
    backend: str = "numpy",
    device: str | None = None,
    dtype: str | None = None,
    reproducible: bool = False,
    max_bytes: int | None = None,
) -> Sequential:
    """Read a model that `save` wrote, on any backend, whichever it was trained on.

    Files of older formats can be loaded; what they don't hold is None.

    Parameters
    ----------
    path
        A file that `save` wrote.
    backend, device
        The backend that will hold the model; see `get_backend`.
    dtype
        The dtype of the parameters; the one that they were saved in if None.
    reproducible
        Whether the model gives the same bits as on every other backend; see `get_backend`.
    max_bytes
        How many bytes of memory the file may take; what is free if None.

    Raises
    ------
    DataError
        If the file doesn't exist, is damaged, isn't a model of xpnn, or has a newer format; or if
        it holds something that no model has, whatever its hash says.
    ArgumentError
        If `path` isn't a path, or if a layer, an activation, a normalizer or the loss isn't
        registered.
    """
    path = as_path("path", path)
    described, _, arrays = _read(path)
    _check_parts(path, described)
    with reading(path):
        model = Sequential(*(_layer(i, own) for i, own in enumerate(described.layers)))
        loss = None if described.loss is None else _made_loss(described.loss)
        if loss is not None:
            loss.check(model.outputs(described.inputs))
    shapes = _checked_shapes(path, described, model, loss, arrays)
    with reading(path):
        model.task = _task(described, arrays, model.outputs(described.inputs), loss)
        model.history = _history(described)
    parameters = [{name: arrays[f"{i}.{name}"] for name in layer} for i, layer in enumerate(shapes)]
    target = get_backend(
        backend,
        device=device,
        dtype=described.dtype if dtype is None else dtype,
        reproducible=reproducible,
    )
    model.place(parameters, inputs=described.inputs, backend=target)
    return model


@limits.bounded
def describe(path: PathLike, *, max_bytes: int | None = None) -> dict[str, Any]:
    """Return the metadata of a model's file, checked as `load` does, without building the model.

    Parameters and errors are those of `load`.
    """
    return _read(as_path("path", path))[1]


def _read(path: Path) -> tuple[_Description, dict[str, Any], dict[str, np.ndarray]]:
    """Return the metadata, checked and as they are, and the arrays of a file."""
    metadata, raw = unsealed(path, "model")
    if "checkpoint" in metadata:
        raise DataError(f"{path} is a checkpoint, and not a model: resume a run from it")
    if "xpnn" not in metadata:
        raise DataError(f"{path} is a safetensors file, but not one of xpnn's, or a damaged one")
    with reading(path):
        content = as_json(metadata["xpnn"])
        version = checked(_Version, content).format
    if version > FORMAT:
        raise DataError(
            f"{path} was written by xpnn {content.get('xpnn')!s:.20}, whose format {version} is "
            f"newer than this one's ({FORMAT})"
        )
    if version > 2 and SEAL not in metadata:
        raise DataError(f"{path} is damaged: it must hold its SHA-256, and doesn't")
    with reading(path):
        if version < 4:
            checked(_Early, content)
            content = _nested(content)
        return checked(_Description, content), content, arrays_in(raw, path)


def _layer(i: int, own: PartEntry) -> Any:
    with field(f"layers[{i}].parameters"):
        return LAYERS[own.name].from_config(own.parameters)


def _checked_shapes(
    path: Path,
    described: _Description,
    model: Sequential,
    loss: Loss | None,
    arrays: Mapping[str, np.ndarray],
) -> list[dict[str, tuple[int, ...]]]:
    """Return the shapes of each layer's arrays, which the file's arrays have.

    Raises
    ------
    DataError
        If the file has other arrays, or their dtype isn't the model's.
    """
    expected: dict[str, tuple[tuple[int, ...], str]] = {}

    def add(i: int, shapes: Mapping[str, tuple[int, ...]]) -> None:
        for name, shape in shapes.items():
            expected[f"{i}.{name}"] = shape, described.dtype

    def compare(names: Iterable[str]) -> None:
        for name in names:
            wanted, own = expected.get(name), arrays.get(name)
            got = None if own is None else (own.shape, own.dtype.name)
            if got != wanted:
                told = ["none" if x is None else f"{x[1]} of shape {x[0]}" for x in (wanted, got)]
                raise DataError(f"array {name} must be {told[0]}, got {told[1]}")

    with reading(path):
        for i, (layer, width) in enumerate(model.widths(described.inputs)):
            add(i, layer.shapes(width))
            # buffers are made to know their shapes: first it must be sure that they aren't huge
            compare(expected)
            add(i, {name: array.shape for name, array in layer.buffers(width).items()})
        columns = model.outputs(described.inputs) // (
            1 if loss is None else loss.outputs_per_target
        )
    for name, width in zip(_NORMALIZERS, (described.inputs, columns), strict=True):
        if getattr(described, name) is not None:
            expected.update({f"{name}.{array}": ((width,), "float64") for array in _ARRAYS})
    with reading(path):
        compare(sorted({*expected, *arrays}))
    return model.shapes(described.inputs)


def _task(
    described: _Description, arrays: Mapping[str, np.ndarray], outputs: int, loss: Loss | None
) -> Task:
    """Return what a model's file knows of the data."""
    classes, labels = described.classes, described.labels
    if classes is not None and classes != max(outputs, 2):
        raise wrong("classes", f"{max(outputs, 2)}, as the network's outputs are", classes)
    if labels is not None and (classes != len(labels) or len(set(labels)) < len(labels)):
        wanted = f"{classes} different integers or strings" if classes else "none without classes"
        raise wrong("labels", wanted, labels)
    shape, inputs = described.image_shape, described.inputs
    if shape is not None and math.prod(shape) != inputs:
        raise wrong("image_shape", f"height, width and channels of {inputs} features", shape)
    columns = None if described.columns is None else Columns.from_config(described.columns)
    width, names = inputs, described.feature_names
    if columns is not None:
        width = len(columns)
        if len(columns.features) != inputs:
            made = len(columns.features)
            raise DataError(f"columns must make {inputs} features, as inputs says, got {made}")
    if names is not None and len(names) != width:
        raise wrong("feature_names", f"the names of {width} columns", names)
    targets = described.target_names
    normalizers = {}
    for name in _NORMALIZERS:
        kind = getattr(described, name)
        if kind is not None:
            with field(name):
                own = (arrays[f"{name}.{array}"] for array in _ARRAYS)
                normalizers[name] = NORMALIZERS[kind](*own)
    return Task(
        loss=loss,
        classes=classes,
        labels=None if labels is None else as_labels(labels),
        feature_names=None if names is None else tuple(names),
        target_name=described.target_name,
        target_names=None if targets is None else tuple(targets),
        image_shape=shape,
        columns=columns,
        flat=described.flat,
        share=None if described.share is None else Share(**vars(described.share)),
        input_kind=described.input_kind,
        **normalizers,
    )


def _history(described: _Description) -> History | None:
    """Return the log of the last run in a model's file, if it holds one."""
    columns = described.history
    if columns is None:
        return None
    for name in Epoch._fields:
        if name not in columns:
            raise wrong("history", f"columns, {name} among them", list(columns))
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise wrong("history", "columns of one length", lengths)
    if columns["epoch"] != list(range(lengths["epoch"])):
        raise wrong("history.epoch", "the epochs in order, 0 first", columns["epoch"])
    history = History(described.settings or {})
    count = len(Epoch._fields)
    # what follows the columns that every log has are metrics
    names = sorted(columns, key=lambda name: name not in Epoch._fields)[count:]
    for row in zip(*(columns[name] for name in (*Epoch._fields, *names)), strict=True):
        epoch, *cells = [math.nan if cell is None else cell for cell in row]
        metrics = dict(zip(names, cells[count - 1 :], strict=True))
        history.append(Epoch(int(epoch), *cells[: count - 1]).measured(metrics))
    return history


def _columns(history: History) -> dict[str, list[Any]]:
    """Return the columns of a history, with null for NaN, which JSON doesn't have."""
    return {
        name: [None if math.isnan(value) else value for value in history.column(name)]
        for name in (*Epoch._fields, *(history[0].metrics if history else ()))
    }


def _check_parts(path: PathLike, described: _Description) -> None:
    """Raise if a part that the file names is neither xpnn's own nor registered."""
    needed: list[tuple[Registry[Any], Any]] = []
    for i, layer in enumerate(described.layers):
        needed.append((LAYERS, layer.name))
        if layer.name == Activation.__name__:
            with reading(path):
                activation = checked(PartEntry, layer.parameters, f"layers[{i}].parameters")
            needed.append((ACTIVATIONS, activation.name))
    loss = described.loss
    with reading(path):
        place = "loss.parameters"
        while loss is not None and loss.name == Flooding.name:
            loss = checked(_Flooded, loss.parameters, place).loss
            place += ".loss.parameters"
    needed.append((LOSSES, loss and loss.name))
    needed += [(NORMALIZERS, getattr(described, name)) for name in _NORMALIZERS]
    for registry, name in needed:
        if name is not None and name not in registry:
            raise ArgumentError(
                f"{path} needs the {registry.kind} {shown(name)}, which isn't xpnn's own; first "
                "load the file that registers it: xpnn.load_parts('FILE.py'), or --parts FILE.py "
                "at the command line"
            )


def _described_loss(loss: Loss) -> dict[str, Any]:
    kind: Any = type(loss)
    if not (dataclasses.is_dataclass(kind) and hasattr(kind, "name")):
        raise ArgumentError(f"loss must be a dataclass with a name to be saved, got {loss!r}")
    parameters = {
        key: _described_loss(value) if isinstance(value, Loss) else value
        for key, value in loss.config().items()
    }
    return {"name": loss.name, "parameters": parameters}


def _made_loss(described: PartEntry, place: str = "loss") -> Any:
    place += ".parameters"
    parameters = dict(described.parameters)
    for key, value in parameters.items():
        if isinstance(value, dict):
            within = f"{place}.{key}"
            parameters[key] = _made_loss(checked(PartEntry, value, within), within)
    with field(place):
        kind = Flooding if described.name == Flooding.name else LOSSES[described.name]
        return kind.from_config(parameters)


def _nested(description: dict[str, Any]) -> dict[str, Any]:
    """Return the description in a file of format 3 or earlier as the current format has it."""

    def layer(flat: dict[str, Any]) -> dict[str, Any]:
        settings = {key: value for key, value in flat.items() if key != "layer"}
        if flat.get("layer") == Activation.__name__:
            name = settings.pop("name", None)
            settings = {"name": name, "parameters": settings}
        return {"name": flat.get("layer"), "parameters": settings}

    def loss(flat: dict[str, Any]) -> dict[str, Any]:
        settings = {
            key: loss(value) if isinstance(value, dict) else value
            for key, value in flat.items()
            if key != "name"
        }
        return {"name": flat.get("name"), "parameters": settings}

    old = description["loss"]
    return {
        **description,
        "layers": list(map(layer, description["layers"])),
        "loss": None if old is None else loss(old),
    }
