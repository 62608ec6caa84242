"""Runs between two epochs, as files: safetensors, with everything that a run needs to go on.

The arrays are the run's carry (``carry.…``), those that callbacks keep (``callbacks.…``) and the
Mersenne twister's key (``random_state``). The metadata hold "checkpoint", a JSON text of all the
rest, and the SHA-256 of the whole file: see `xpnn._core.files.sealed`. The one before is kept
beside each file, as ``FILE.previous``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xpnn._core.files import SEAL, PathLike, as_path, replacing, sealed, unsealed
from xpnn._core.mapped import blocks
from xpnn._core.tree import paths, rebuilt
from xpnn._version import __version__
from xpnn.backends import Backend
from xpnn.errors import ArgumentError, DataError

FORMAT = 1

# of the arrays that a file can hold
_DTYPES = (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float16", "float32", "float64", "complex64",
)  # fmt: skip


class Snapshot(NamedTuple):
    """A run between two epochs.

    Attributes
    ----------
    settings
        What the run was asked for: numbers, texts and lists.
    history
        The rows of its log.
    data
        The `fingerprint` of each data set, None for one that there isn't.
    random_state
        ``RandomState.get_state(legacy=False)``.
    carry
        What a training step hands on to the next, on the host, by place: see
        `xpnn._core.tree.paths`.
    callbacks
        What `Callback.state` returned, by the callback's name and then its own.
    """

    settings: dict[str, Any]
    history: list[list[float]]
    data: dict[str, Any]
    random_state: dict[str, Any]
    carry: dict[str, np.ndarray]
    callbacks: dict[str, dict[str, Any]]


def previous(path: PathLike) -> Path:
    """Return where the file that was replaced last is kept."""
    path = Path(path).resolve()
    return path.with_name(f"{path.name}.previous")


def write(snapshot: Snapshot, path: PathLike) -> None:
    """Write a file that `read` reads, and keep the whole one that was there as `previous`.

    One that is not whole is kept as ``FILE.damaged``, so that it doesn't take the place of a good
    one.

    Raises
    ------
    ArgumentError
        If it can't be written; the old one is as it was.
    """
    import json

    key = snapshot.random_state["state"]["key"]
    arrays = {f"carry.{name}": array for name, array in snapshot.carry.items()}
    plain: dict[str, dict[str, Any]] = {}
    for callback, kept in snapshot.callbacks.items():
        plain[callback] = {}
        for name, value in kept.items():
            if isinstance(value, np.ndarray):
                arrays[f"callbacks.{callback}.{name}"] = value
            else:
                plain[callback][name] = value
    arrays["random_state"] = key
    description = {
        "format": FORMAT,
        "xpnn": __version__,
        "settings": snapshot.settings,
        "history": snapshot.history,
        "data": snapshot.data,
        "callbacks": plain,
        "random_state": {
            **snapshot.random_state,
            "state": {"pos": snapshot.random_state["state"]["pos"]},
        },
    }
    raw = sealed(arrays, {"checkpoint": json.dumps(description)})
    try:
        with replacing(path, keep=_kept, part=f".{Path(path).resolve().name}.part") as beside:
            beside.write_bytes(raw)
    except OSError as error:
        raise ArgumentError(f"can't write checkpoint {str(path)!r}: {error.strerror}") from None


def _kept(path: Path) -> Path:
    try:
        _whole(path)
    except DataError:
        return path.with_name(f"{path.name}.damaged")
    return previous(path)


def read(path: PathLike) -> tuple[Snapshot, str | None]:
    """Read what `write` wrote, or the previous one where that is damaged.

    Returns
    -------
    snapshot
        The run.
    note
        None if all is well; what is wrong with the file if the previous one was taken.

    Raises
    ------
    DataError
        If neither can be read; it says what is wrong with the first.
    ArgumentError
        If `path` is no path.
    """
    path = as_path("resume", path)
    try:
        return _read(path), None
    except DataError as error:
        older = previous(path)
        try:
            snapshot = _read(older)
        except DataError:
            raise error from None
        return snapshot, f"{error}; going on from {older}, epoch {len(snapshot.history) - 1}"


def _whole(path: PathLike) -> tuple[bytes, dict[str, Any]]:
    """Return the bytes of a file that is as it was written, and its description."""
    import json

    metadata, raw = unsealed(path, "checkpoint")
    if "checkpoint" not in metadata and "xpnn" in metadata:
        raise DataError(f"{path} is a model, and not a checkpoint")
    if "checkpoint" not in metadata or SEAL not in metadata:
        raise DataError(f"{path} is no checkpoint, a damaged one, or one of an older xpnn")
    description = json.loads(metadata["checkpoint"])
    if description["format"] > FORMAT:
        raise DataError(
            f"{path} was written by xpnn {description['xpnn']}, whose checkpoint format "
            f"{description['format']} is newer than this one's ({FORMAT})"
        )
    return raw, description


def _read(path: PathLike) -> Snapshot:
    from safetensors.numpy import load

    raw, description = _whole(path)
    arrays = load(raw)
    state = description["random_state"]
    state["state"]["key"] = arrays.pop("random_state")
    carry: dict[str, np.ndarray] = {}
    callbacks: dict[str, dict[str, Any]] = description["callbacks"]
    for name, array in arrays.items():
        kind, _, rest = name.partition(".")
        if kind == "carry":
            carry[rest] = array
        else:
            callback, _, rest = rest.partition(".")
            callbacks[callback][rest] = array
    return Snapshot(
        description["settings"],
        description["history"],
        description["data"],
        state,
        carry,
        callbacks,
    )


def checked_state(callback: str, state: Any) -> dict[str, Any]:
    """Return a copy of what a callback of the class of this name must have again.

    Raises
    ------
    ArgumentError
        If it isn't a dictionary of arrays, numbers and texts; it names callback, key and type.
    """
    if not isinstance(state, dict):
        raise ArgumentError(
            f"state of the callback {callback} must be a dictionary, got {type(state).__name__}"
        )
    copies: dict[str, Any] = {}
    for name, value in state.items():
        if isinstance(name, str) and isinstance(value, str | bool | int | float):
            copies[name] = value
            continue
        array = isinstance(value, np.ndarray | np.generic)
        if not (isinstance(name, str) and array and value.dtype.name in _DTYPES):
            kind = f"array of {value.dtype}" if array else type(value).__name__
            raise ArgumentError(
                f"state of the callback {callback} must be NumPy arrays of numbers, numbers and "
                f"texts by name, got {kind} as {name!r}"
            )
        copies[name] = np.array(value, value.dtype.newbyteorder("="))
    return copies


def fingerprint(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return shapes and dtypes of host arrays, and the SHA-256 of their bytes.

    They are read in blocks, so that they may be mapped from files that are larger than the memory.
    """
    digest = hashlib.sha256()
    for array in arrays.values():
        for _, rows in blocks(array):
            digest.update(np.ascontiguousarray(rows, array.dtype.newbyteorder("<")).data)
    shapes = {name: [array.dtype.name, *array.shape] for name, array in arrays.items()}
    return {**shapes, "sha256": digest.hexdigest()}


def on_host(nest: Any, backend: Backend) -> dict[str, np.ndarray]:
    """Return copies of all arrays of a nest on `backend`, by their paths in it."""
    return {path: np.array(backend.to_numpy(leaf)) for path, leaf in paths(nest).items()}


def on_device(arrays: Mapping[str, np.ndarray], like: Any, backend: Backend) -> Any:
    """Return a nest like `like` of copies of what `on_host` returned."""
    return rebuilt(like, [backend.asarray(np.array(arrays[path])) for path in paths(like)])


def same_arrays(given: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray]) -> str | None:
    """Return how names, shapes or dtypes of `given` differ from `wanted`, None if they don't."""
    for name in sorted({*given, *wanted}):
        shown = [
            f"{arrays[name].dtype} of shape {arrays[name].shape}" if name in arrays else "none"
            for arrays in (wanted, given)
        ]
        if shown[0] != shown[1]:
            return f"{name} must be {shown[0]}, got {shown[1]}"
    return None
