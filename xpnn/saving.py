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
from collections.abc import Mapping
from typing import Any

import numpy as np

from xpnn._core.files import (
    SEAL,
    PathLike,
    as_path,
    check_writable,
    replacing,
    sealed,
    unsealed,
    writing,
)
from xpnn._core.interrupts import held
from xpnn._core.registry import Registry
from xpnn._core.tree import flatten
from xpnn._version import __version__
from xpnn.activations import ACTIVATIONS
from xpnn.backends import get_backend
from xpnn.datasets.columns import Columns
from xpnn.datasets.dataset import Share
from xpnn.datasets.labels import as_labels
from xpnn.errors import ArgumentError, DataError, XpnnError
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
        loss or a normalizer can't be saved, or the file can't be written.
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
    with held(), writing("model", path), replacing(path) as file:
        file.write(content)


def load(
    path: PathLike,
    *,
    backend: str = "numpy",
    device: str | None = None,
    dtype: str | None = None,
    reproducible: bool = False,
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

    Raises
    ------
    DataError
        If the file doesn't exist, is damaged, isn't a model of xpnn, or has a newer format.
    ArgumentError
        If `path` isn't a path, or if a layer, an activation, a normalizer or the loss isn't
        registered.
    """
    description, arrays = _read(path)
    try:
        _check_parts(path, description)
        model = Sequential(
            *(LAYERS[own["name"]].from_config(own["parameters"]) for own in description["layers"])
        )
        inputs = description["inputs"]
        shapes = model.shapes(inputs)
        expected = flatten(shapes)
        loss = None if description["loss"] is None else _made_loss(description["loss"])
        columns = model.outputs(inputs) // (1 if loss is None else loss.outputs_per_target)
        for name, width in zip(_NORMALIZERS, (inputs, columns), strict=True):
            if description.get(name) is not None:
                expected.update({f"{name}.{array}": (width,) for array in _ARRAYS})
        if {name: array.shape for name, array in arrays.items()} != expected:
            raise DataError(f"{path} holds other arrays than its architecture asks for")
        dtype = description["dtype"] if dtype is None else dtype
        model.task = _task(description, arrays, loss)
        model.history = _history(description)
    except XpnnError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} has damaged metadata: {error!r}") from None
    parameters = [{name: arrays[f"{i}.{name}"] for name in layer} for i, layer in enumerate(shapes)]
    target = get_backend(backend, device=device, dtype=dtype, reproducible=reproducible)
    model.place(parameters, inputs=inputs, backend=target)
    return model


def describe(path: PathLike) -> dict[str, Any]:
    """Return the metadata of a model's file, checked as `load` does, without building the model."""
    return _read(path)[0]


def _read(path: PathLike) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the metadata and the arrays of a file, checked to be as it was written."""
    from safetensors import SafetensorError
    from safetensors.numpy import load as from_bytes

    path = as_path("path", path)
    metadata, raw = unsealed(path, "model")
    if "checkpoint" in metadata:
        raise DataError(f"{path} is a checkpoint, and not a model: resume a run from it")
    if "xpnn" not in metadata:
        raise DataError(f"{path} is a safetensors file, but not one of xpnn's, or a damaged one")
    try:
        description = json.loads(metadata["xpnn"])
        version = description["format"]
        if type(version) is not int or version < 1:
            raise DataError(
                f"{path} has damaged metadata: its format must be a number from 1 to {FORMAT}, "
                f"got {version!r}"
            )
        if version > FORMAT:
            raise DataError(
                f"{path} was written by xpnn {description['xpnn']}, whose format {version} is "
                f"newer than this one's ({FORMAT})"
            )
        if version > 2 and SEAL not in metadata:
            raise DataError(f"{path} is damaged: it must hold its SHA-256, and doesn't")
        if version < 4:
            description = _nested(description)
        arrays = from_bytes(raw)
    except (AttributeError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise DataError(f"{path} has damaged metadata: {error!r}") from None
    except SafetensorError as error:
        raise DataError(f"can't read a model from {path}: {error}") from None
    return description, arrays


def _task(
    description: Mapping[str, Any], arrays: Mapping[str, np.ndarray], loss: Loss | None
) -> Task:
    """Return what a model's file knows of the data."""
    classes = description["classes"]
    labels = description.get("labels")
    known = None if labels is None else as_labels(labels)
    if labels is not None and (known is None or len(set(labels)) != classes):
        raise ValueError(f"labels {labels} for {classes} classes")
    names, columns = description.get("feature_names"), description.get("columns")
    shape = description.get("image_shape")
    if shape is not None:
        height, width, channels = map(int, shape)
        if height * width * channels != description["inputs"]:
            raise ValueError(f"images of {shape} for {description['inputs']} features")
        shape = (height, width, channels)
    share = description.get("share")
    normalizers = {
        name: NORMALIZERS[kind](*(arrays[f"{name}.{array}"] for array in _ARRAYS))
        for name in _NORMALIZERS
        if (kind := description.get(name)) is not None
    }
    return Task(
        loss=loss,
        classes=classes,
        labels=known,
        feature_names=None if names is None else tuple(names),
        target_name=description.get("target_name"),
        image_shape=shape,
        columns=None if columns is None else _columns_for(description["inputs"], columns),
        flat=bool(description.get("flat", False)),
        share=None if share is None else Share(**share),
        input_kind=description.get("input_kind"),
        **normalizers,
    )


def _columns_for(inputs: int, described: Any) -> Columns:
    columns = Columns.from_config(described)
    if len(columns.features) != inputs:
        raise ValueError(f"columns of {len(columns.features)} features for {inputs} inputs")
    return columns


def _history(description: Mapping[str, Any]) -> History | None:
    """Return the log of the last run in a model's file, if it holds one."""
    columns = description.get("history")
    if columns is None:
        return None
    history = History(description["settings"])
    count = len(Epoch._fields)
    # what follows the columns that every log has are metrics
    names = sorted(columns, key=lambda name: name not in Epoch._fields)[count:]
    for row in zip(*(columns[name] for name in (*Epoch._fields, *names)), strict=True):
        cells = [math.nan if cell is None else cell for cell in row]
        metrics = dict(zip(names, cells[count:], strict=True))
        history.append(Epoch._make(cells[:count]).measured(metrics))
    return history


def _columns(history: History) -> dict[str, list[Any]]:
    """Return the columns of a history, with null for NaN, which JSON doesn't have."""
    return {
        name: [None if math.isnan(value) else value for value in history.column(name)]
        for name in (*Epoch._fields, *(history[0].metrics if history else ()))
    }


def _check_parts(path: PathLike, description: dict[str, Any]) -> None:
    """Raise if a part that the file names is neither xpnn's own nor registered."""
    needed: list[tuple[Registry[Any], Any]] = []
    for layer in description["layers"]:
        needed.append((LAYERS, layer["name"]))
        if layer["name"] == Activation.__name__:
            needed.append((ACTIVATIONS, layer["parameters"]["name"]))
    loss = description["loss"]
    while loss is not None and loss["name"] == Flooding.name:
        loss = loss["parameters"]["loss"]
    needed.append((LOSSES, loss and loss["name"]))
    needed += [(NORMALIZERS, description.get(name)) for name in _NORMALIZERS]
    for registry, name in needed:
        if name is not None and name not in registry:
            raise ArgumentError(
                f"{path} needs the {registry.kind} {name!r}, which isn't xpnn's own; first load "
                "the file that registers it: xpnn.load_parts('FILE.py'), or --parts FILE.py at "
                "the command line"
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


def _made_loss(described: Mapping[str, Any]) -> Any:
    name = described["name"]
    parameters = {
        key: _made_loss(value) if isinstance(value, dict) else value
        for key, value in described["parameters"].items()
    }
    return (Flooding if name == Flooding.name else LOSSES[name]).from_config(parameters)


def _nested(description: dict[str, Any]) -> dict[str, Any]:
    """Return the description in a file of format 3 or earlier as the current format has it."""

    def layer(flat: dict[str, Any]) -> dict[str, Any]:
        settings = {key: value for key, value in flat.items() if key != "layer"}
        if flat["layer"] == Activation.__name__:
            name = settings.pop("name")
            settings = {"name": name, "parameters": settings}
        return {"name": flat["layer"], "parameters": settings}

    def loss(flat: dict[str, Any]) -> dict[str, Any]:
        settings = {
            key: loss(value) if isinstance(value, dict) else value
            for key, value in flat.items()
            if key != "name"
        }
        return {"name": flat["name"], "parameters": settings}

    old = description["loss"]
    return {
        **description,
        "layers": list(map(layer, description["layers"])),
        "loss": None if old is None else loss(old),
    }
