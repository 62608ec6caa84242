"""Trained models as files: safetensors, with the network's architecture in the metadata."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from xpnn._version import __version__
from xpnn.activations import ACTIVATIONS
from xpnn.backends import get_backend
from xpnn.errors import ArgumentError, DataError, XpnnError
from xpnn.files import PathLike, check_writable, replacing
from xpnn.layers import LAYERS
from xpnn.losses import LOSSES, Flooding, Loss
from xpnn.model import Sequential
from xpnn.registry import Registry
from xpnn.tree import flatten

FORMAT = 1


def save(model: Sequential, path: PathLike) -> None:
    """Write a trained model to a safetensors file, in place of one that is there.

    Raises
    ------
    ArgumentError
        If the model has no parameters yet, a layer isn't registered in `xpnn.layers.LAYERS`, the
        loss can't be saved, or the file can't be written.
    """
    from safetensors.numpy import save as to_bytes

    for layer in model.layers:
        LAYERS[type(layer).__name__]
    arrays = flatten(model.host_parameters())
    path = check_writable("path", path)
    description = {
        "format": FORMAT,
        "xpnn": __version__,
        "inputs": model.inputs,
        "dtype": model.backend.dtype_name if model.backend else None,
        "classes": model.classes,
        "loss": None if model.loss is None else _loss_config(model.loss),
        "layers": [{"layer": type(layer).__name__, **layer.config()} for layer in model.layers],
    }
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    import json

    with replacing(path) as beside:
        beside.write_bytes(to_bytes(contiguous, {"xpnn": json.dumps(description)}))


def load(
    path: PathLike, *, backend: str = "numpy", device: str | None = None, dtype: str | None = None
) -> Sequential:
    """Read a model that `save` wrote, on any backend.

    Parameters
    ----------
    path
        A file that `save` wrote.
    backend, device, dtype
        Where the model shall live; the dtype it was saved in if None.

    Raises
    ------
    DataError
        If the file isn't there, is damaged, or isn't xpnn's.
    ArgumentError
        If a layer, an activation or the loss isn't registered here.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise DataError(f"can't read a model from {path}: {error}") from None
    if "xpnn" not in metadata:
        raise DataError(f"{path} is a safetensors file, but not one of xpnn's")
    import json

    try:
        description = json.loads(metadata["xpnn"])
        if description["format"] > FORMAT:
            raise DataError(
                f"{path} was written by xpnn {description['xpnn']}, whose format "
                f"{description['format']} is newer than this one's ({FORMAT})"
            )
        _check_parts(path, description)
        model = Sequential(*(_made(dict(config)) for config in description["layers"]))
        model.loss = None if description["loss"] is None else _made_loss(dict(description["loss"]))
        model.classes, inputs = description["classes"], description["inputs"]
        shapes = [layer.shapes(width) for layer, width in model.widths(inputs)]
        dtype = description["dtype"] if dtype is None else dtype
    except XpnnError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} has damaged metadata: {error!r}") from None
    if {name: array.shape for name, array in arrays.items()} != flatten(shapes):
        raise DataError(f"{path} holds other arrays than its architecture asks for")
    parameters = [{name: arrays[f"{i}.{name}"] for name in layer} for i, layer in enumerate(shapes)]
    place = get_backend(backend, device=device, dtype=dtype)
    model.place(parameters, inputs=inputs, backend=place)
    return model


def _check_parts(path: PathLike, description: dict[str, Any]) -> None:
    """Raise if a part that the file names is neither xpnn's nor registered."""
    layers, loss = description["layers"], description["loss"]
    wanted: list[tuple[Registry[Any], Any]] = [(LAYERS, config["layer"]) for config in layers]
    wanted += [(ACTIVATIONS, each["name"]) for each in layers if each["layer"] == "Activation"]
    while loss is not None and loss["name"] == Flooding.name:
        loss = loss["loss"]
    wanted += [] if loss is None else [(LOSSES, loss["name"])]
    for registry, name in wanted:
        if name not in registry:
            raise ArgumentError(
                f"{path} needs the {registry.kind} {name!r}, which isn't xpnn's own; first load "
                "the file that registers it: xpnn.load_parts('FILE.py'), or --parts FILE.py at "
                "the command line"
            )


def _made(config: dict[str, Any]) -> Any:
    make: Callable[..., Any] = LAYERS[config.pop("layer")]
    return make(**config)


def _loss_config(loss: Loss) -> dict[str, Any]:
    try:
        names = [field.name for field in dataclasses.fields(loss)]  # type: ignore[arg-type]
    except TypeError:
        raise ArgumentError(
            f"loss of the model must be a dataclass to be saved, got {loss!r}"
        ) from None
    if not hasattr(loss, "name"):
        raise ArgumentError(f"loss of the model must have a name to be saved, got {loss!r}")
    fields = {name: getattr(loss, name) for name in names}
    return {
        "name": loss.name,
        **{
            name: _loss_config(value) if isinstance(value, Loss) else value
            for name, value in fields.items()
        },
    }


def _made_loss(config: dict[str, Any]) -> Loss:
    name = config.pop("name")
    values: dict[str, Any] = {
        key: _made_loss(dict(value)) if isinstance(value, dict) else value
        for key, value in config.items()
    }
    return Flooding(**values) if name == Flooding.name else LOSSES[name](**values)
