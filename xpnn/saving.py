"""Trained models as files: safetensors, with all that is no array in the metadata.

The metadata hold "xpnn", a JSON text: the format, the versions that wrote it, layers, loss, labels,
names of columns, kinds of the normalizers, settings and history of the last run; and the SHA-256 of
the whole file: see `xpnn._core.files.sealed`. The names of the arrays are "0.weight" for a layer's
and "normalizer.offset" for a normalizer's.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from xpnn._core.files import SEAL, PathLike, as_path, check_writable, replacing, sealed, unsealed
from xpnn._core.registry import Registry
from xpnn._core.tree import flatten
from xpnn._version import __version__
from xpnn.activations import ACTIVATIONS
from xpnn.backends import get_backend
from xpnn.datasets.labels import as_labels
from xpnn.errors import ArgumentError, DataError, XpnnError
from xpnn.layers import LAYERS, Activation
from xpnn.losses import LOSSES, Flooding, Loss
from xpnn.model import Sequential
from xpnn.normalizers import NORMALIZERS, Normalizer
from xpnn.task import Task
from xpnn.training.history import Epoch, History

# 1 had neither labels, names, normalizers nor history, neither 1 nor 2 the hash of the file, and up
# to 3 a part's settings stood beside its name
FORMAT = 4

_NORMALIZERS = ("normalizer", "target_normalizer")
_PARTS = ("offset", "scale")


def save(model: Sequential, path: PathLike) -> None:
    """Write a trained model to a safetensors file, in place of one that is there.

    It holds all that `load` needs to predict and to train on, on any backend: the parameters, the
    architecture, the loss, the labels of the classes, the normalizers; and, to look up, the
    settings and the history of the last run, and the versions that it was made with. No code: a
    file can't do anything when it is loaded.

    Raises
    ------
    ArgumentError
        If the model has no parameters yet, a layer isn't registered in `xpnn.layers.LAYERS`, the
        loss can't be saved, or the file can't be written.
    """
    import json

    for layer in model.layers:
        LAYERS[type(layer).__name__]
    task = model.task
    normalizers = {name: getattr(task, name) for name in _NORMALIZERS}
    arrays = {
        **flatten(model.host_parameters()),
        **{
            f"{name}.{part}": getattr(own, part)
            for name, own in normalizers.items()
            if own is not None
            for part in _PARTS
        },
    }
    path = check_writable("path", path)
    description = {
        "format": FORMAT,
        "xpnn": __version__,
        "versions": {"numpy": np.__version__, **_library(model)},
        "inputs": model.inputs,
        "dtype": model.backend.dtype_name if model.backend else None,
        "classes": task.classes,
        "labels": None if task.labels is None else task.labels.tolist(),
        "feature_names": task.feature_names,
        "target_name": task.target_name,
        "image_shape": task.image_shape,
        **{name: None if own is None else _registered(own) for name, own in normalizers.items()},
        "loss": None if task.loss is None else _described_loss(task.loss),
        "layers": [
            {"name": type(layer).__name__, "parameters": layer.config()} for layer in model.layers
        ],
        "settings": None if model.history is None else model.history.settings,
        "history": None if model.history is None else _columns(model.history),
    }
    text = json.dumps(description, ensure_ascii=False, default=repr)
    with replacing(path) as beside:
        beside.write_bytes(sealed(arrays, {"xpnn": text}))


def load(
    path: PathLike,
    *,
    backend: str = "numpy",
    device: str | None = None,
    dtype: str | None = None,
    reproducible: bool = False,
) -> Sequential:
    """Read a model that `save` wrote, on any backend, whatever backend it was trained on.

    Files of older formats load: what they don't hold is None.

    Parameters
    ----------
    path
        A file that `save` wrote.
    backend, device, dtype
        Where the model shall live; the dtype it was saved in if None.
    reproducible
        Whether it gives the same bits as on every other backend; see `get_backend`.

    Raises
    ------
    DataError
        If the file isn't there, is damaged, isn't xpnn's, or is of a newer format.
    ArgumentError
        If `path` is no path; or a layer, an activation, a normalizer or the loss isn't registered
        here.
    """
    description, arrays = _read(path)
    try:
        _check_parts(path, description)
        model = Sequential(*map(_made_layer, description["layers"]))
        inputs = description["inputs"]
        shapes = model.shapes(inputs)
        expected = flatten(shapes)
        for name, width in zip(_NORMALIZERS, (inputs, model.outputs(inputs)), strict=True):
            if description.get(name) is not None:
                expected.update({f"{name}.{part}": (width,) for part in _PARTS})
        if {name: array.shape for name, array in arrays.items()} != expected:
            raise DataError(f"{path} holds other arrays than its architecture asks for")
        dtype = description["dtype"] if dtype is None else dtype
        model.task = _task(description, arrays)
        model.history = _history(description)
    except XpnnError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} has damaged metadata: {error!r}") from None
    parameters = [{name: arrays[f"{i}.{name}"] for name in layer} for i, layer in enumerate(shapes)]
    place = get_backend(backend, device=device, dtype=dtype, reproducible=reproducible)
    model.place(parameters, inputs=inputs, backend=place)
    return model


def describe(path: PathLike) -> dict[str, Any]:
    """Return the metadata of a model's file, checked as `load` does, without building the model."""
    return _read(path)[0]


def _read(path: PathLike) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the metadata and the arrays of a file that is as it was written."""
    import json

    from safetensors import SafetensorError
    from safetensors.numpy import load as from_bytes

    path = as_path("path", path)
    metadata, raw = unsealed(path, "model")
    if "checkpoint" in metadata:
        raise DataError(f"{path} is a checkpoint, and not a model: a run goes on from it")
    if "xpnn" not in metadata:
        raise DataError(f"{path} is a safetensors file, but not one of xpnn's, or a damaged one")
    try:
        description = json.loads(metadata["xpnn"])
        if type(description["format"]) is not int or description["format"] < 1:
            raise DataError(
                f"{path} has damaged metadata: its format must be a number from 1 to {FORMAT}, "
                f"got {description['format']!r}"
            )
        if description["format"] > FORMAT:
            raise DataError(
                f"{path} was written by xpnn {description['xpnn']}, whose format "
                f"{description['format']} is newer than this one's ({FORMAT})"
            )
        if description["format"] > 2 and SEAL not in metadata:
            raise DataError(f"{path} is damaged: it must hold its SHA-256, and doesn't")
        if description["format"] < 4:
            description = _nested(description)
        arrays = from_bytes(raw)
    except (AttributeError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise DataError(f"{path} has damaged metadata: {error!r}") from None
    except SafetensorError as error:
        raise DataError(f"can't read a model from {path}: {error}") from None
    return description, arrays


def _task(description: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Task:
    """Return what a model's file knows of the data."""
    classes, loss = description["classes"], description["loss"]
    labels = description.get("labels")
    names = None if labels is None else as_labels(labels)
    if labels is not None and (names is None or len(set(labels)) != classes):
        raise ValueError(f"labels {labels} for {classes} classes")
    columns = description.get("feature_names")
    shape = description.get("image_shape")
    if shape is not None:
        height, width, channels = map(int, shape)
        if height * width * channels != description["inputs"]:
            raise ValueError(f"images of {shape} for {description['inputs']} features")
        shape = (height, width, channels)
    normalizers = {
        name: NORMALIZERS[kind](*(arrays[f"{name}.{part}"] for part in _PARTS))
        for name in _NORMALIZERS
        if (kind := description.get(name)) is not None
    }
    return Task(
        loss=None if loss is None else _made_loss(loss),
        classes=classes,
        labels=names,
        feature_names=None if columns is None else tuple(columns),
        target_name=description.get("target_name"),
        image_shape=shape,
        **normalizers,
    )


def _history(description: Mapping[str, Any]) -> History | None:
    """Return the log of the last run in a model's file, if it holds one."""
    columns = description.get("history")
    if columns is None:
        return None
    history = History(description["settings"])
    for row in zip(*(columns[name] for name in Epoch._fields), strict=True):
        history.append(Epoch._make(math.nan if cell is None else cell for cell in row))
    return history


def _columns(history: History) -> dict[str, list[Any]]:
    """Return the columns of a history, with null for NaN, which JSON doesn't have."""
    return {
        name: [None if math.isnan(value) else value for value in history.column(name)]
        for name in Epoch._fields
    }


def _library(model: Sequential) -> dict[str, str]:
    assert model.backend is not None
    return {model.backend.name: model.backend.library.__version__}


def _registered(normalizer: Normalizer) -> str:
    name = normalizer.name
    if name not in NORMALIZERS or NORMALIZERS[name] is not type(normalizer):
        raise ArgumentError(f"{normalizer!r} must be registered in NORMALIZERS to be saved")
    return name


def _check_parts(path: PathLike, description: dict[str, Any]) -> None:
    """Raise if a part that the file names is neither xpnn's nor registered."""
    layers, loss = description["layers"], description["loss"]
    wanted: list[tuple[Registry[Any], Any]] = [(LAYERS, layer["name"]) for layer in layers]
    wanted += [
        (ACTIVATIONS, layer["parameters"]["name"])
        for layer in layers
        if layer["name"] == Activation.__name__
    ]
    while loss is not None and loss["name"] == Flooding.name:
        loss = loss["parameters"]["loss"]
    wanted += [] if loss is None else [(LOSSES, loss["name"])]
    kinds = (description.get(name) for name in _NORMALIZERS)
    wanted += [(NORMALIZERS, kind) for kind in kinds if kind is not None]
    for registry, name in wanted:
        if name not in registry:
            raise ArgumentError(
                f"{path} needs the {registry.kind} {name!r}, which isn't xpnn's own; first load "
                "the file that registers it: xpnn.load_parts('FILE.py'), or --parts FILE.py at "
                "the command line"
            )


def _made_layer(described: Mapping[str, Any]) -> Any:
    return LAYERS[described["name"]].from_config(described["parameters"])


def _described_loss(loss: Loss) -> dict[str, Any]:
    name: Any = getattr(loss, "name", None)
    if not dataclasses.is_dataclass(type(loss)):
        raise ArgumentError(f"loss of the model must be a dataclass to be saved, got {loss!r}")
    if name is None:
        raise ArgumentError(f"loss of the model must have a name to be saved, got {loss!r}")
    parameters = {
        key: _described_loss(value) if isinstance(value, Loss) else value
        for key, value in loss.config().items()
    }
    return {"name": name, "parameters": parameters}


def _made_loss(described: Mapping[str, Any]) -> Any:
    name = described["name"]
    parameters = {
        key: _made_loss(value) if isinstance(value, dict) else value
        for key, value in described["parameters"].items()
    }
    return (Flooding if name == Flooding.name else LOSSES[name]).from_config(parameters)


def _nested(description: dict[str, Any]) -> dict[str, Any]:
    """Return the description of a file of format 3 or before as this format has it."""

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
