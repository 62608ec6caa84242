"""Calls of a part on a backend; its mistakes become a `PartError`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from xpnn.backends import Backend
from xpnn.testing.report import PartError

Array = Any


def short(array: Any) -> np.ndarray:
    """Return numbers rounded to multiples of 2^-12, so that they are exact in float32."""
    return np.round(np.asarray(array, dtype=np.float64) * 4096.0) / 4096.0


def to_device(backend: Backend, host: np.ndarray) -> Array:
    """Return a host array on a backend, floats in its dtype; on NumPy it is read-only."""
    dtype = backend.dtype_name if host.dtype.kind == "f" else host.dtype
    array = backend.asarray(np.array(host, dtype=dtype))
    if isinstance(array, np.ndarray):
        array.flags.writeable = False
    return array


def to_host(backend: Backend, array: Array) -> np.ndarray:
    """Return a copy of a backend's array as float64 on the host."""
    return np.array(backend.to_numpy(array), np.float64)


def called(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function; an error that it raises becomes a `PartError`."""
    try:
        return function(*args)
    except PartError:
        raise
    except Exception as error:
        first = str(error).strip().partition("\n")[0]
        hint = "it changes an input: " if "read-only" in first else ""
        raise PartError(f"{hint}{type(error).__name__}: {first}") from error


def check_unchanged(backend: Backend, name: str, array: Array, host: np.ndarray) -> None:
    """Raise unless an array that a part was given still has the values of `host`."""
    now = backend.to_numpy(array)
    if not np.array_equal(now, host.astype(now.dtype)):
        raise PartError(f"it changes an input, {name}")


def check_array(
    backend: Backend, name: str, result: Any, shape: tuple[int, ...] | None = None
) -> None:
    """Raise unless a result is an array of the backend and, given a shape, has it and the dtype."""
    if not backend.owns(result):
        raise PartError(f"{name} must be an array of {backend.name}, got {type(result).__name__}")
    if shape is None:
        return
    if tuple(result.shape) != shape:
        raise PartError(f"{name} must have shape {shape}, got {tuple(result.shape)}")
    if result.dtype != backend.dtype:
        raise PartError(f"{name} must be {backend.dtype_name}, got {result.dtype}")
