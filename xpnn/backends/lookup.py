"""Find the backend that a name means, or that an array belongs to."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import array_api_compat
import numpy as np

from xpnn.backends import torch
from xpnn.backends.base import Backend
from xpnn.backends.cupy import CupyBackend
from xpnn.backends.jax import JaxBackend
from xpnn.backends.numpy import NumpyBackend
from xpnn.backends.reproducible import ReproducibleBackend
from xpnn.backends.strict import StrictBackend
from xpnn.backends.torch import TorchBackend
from xpnn.errors import ArgumentError, BackendError, check_plain, unknown

Array = Any

BACKENDS: dict[str, type[Backend]] = {
    cls.name: cls for cls in (NumpyBackend, CupyBackend, TorchBackend, JaxBackend, StrictBackend)
}


def namespace(*arrays: Array) -> Any:
    """Return the array API namespace that `arrays` belong to."""
    found = array_api_compat.array_namespace(*arrays)
    return torch.faster(found) if found is sys.modules.get(TorchBackend.namespace) else found


def device(array: Array) -> Any:
    """Return the device of `array`, for creation functions."""
    return array_api_compat.device(array)


def to_numpy(array: Any, name: str = "the array") -> np.ndarray:
    """Return any library's array, or a nested list, as a NumPy array on the host.

    A library that xpnn doesn't know gives its arrays by DLPack, or else by ``__array__``. Errors
    call the array `name`.

    Raises
    ------
    ArgumentError
        If `array` can't become a NumPy array, or is of a subclass that means more, such as a masked
        array.
    """
    check_plain(array, name)
    if ReproducibleBackend.owns(array):
        array = array.__array_namespace__().unwrap(array)
    try:
        if array_api_compat.is_array_api_obj(array):
            for cls in BACKENDS.values():
                if cls.owns(array):
                    return cls.to_numpy(array)
        if hasattr(array, "__dlpack__") and not isinstance(array, np.ndarray | np.generic):
            return np.from_dlpack(array, device="cpu")
        return np.asarray(array)
    except MemoryError:
        raise
    # libraries have errors of many classes for dtypes and layouts that NumPy doesn't have
    except Exception as error:
        problem = str(error).strip().splitlines()[0] if str(error) else type(error).__name__
        raise ArgumentError(f"{name} is not an array that NumPy can hold: {problem}") from None


def backend_of(array: Any) -> Backend | None:
    """Return the backend of `array`, on its device; None for NumPy's arrays and other objects."""
    if isinstance(array, np.ndarray) or not array_api_compat.is_array_api_obj(array):
        return None
    for cls in BACKENDS.values():
        if cls.owns(array):
            devices = cls()._devices().items()
            # PyTorch's device "meta", which has no values, isn't among them
            name = next((name for name, found in devices if found == device(array)), None)
            return None if name is None else cls(name)
    return None


def get_backend(
    backend: str | Backend = "numpy",
    *,
    device: str | None = None,
    dtype: str | None = None,
    reproducible: bool = False,
    precision: str | None = None,
) -> Backend:
    """Return the backend called `backend` on `device` at `dtype`.

    Parameters
    ----------
    backend
        "numpy", "cupy", "torch", "jax" or "strict". A `Backend` is returned as it is; the other
        arguments must then be None or equal to its own.
    device
        "cpu", "cuda:0", …; the library's default if None.
    dtype
        "float32" or "float64"; float32 if None.
    reproducible
        Whether to give the same bits as every other backend; see `ReproducibleBackend`.
    precision
        The precision of reproducible products and sums: "training", also if None, or "full".

    Raises
    ------
    ArgumentError
        If the backend or the dtype is unknown, a precision is given without `reproducible`, or a
        `Backend` is given with other arguments than its own.
    BackendError
        If the library isn't installed or has no such device.
    """
    if isinstance(backend, Backend):
        own = backend.options()
        given: dict[str, Any] = {"device": device, "dtype": dtype, "precision": precision}
        given |= {"reproducible": True} if reproducible else {}
        for name, value in given.items():
            if value is not None and value != own.get(name):
                raise ArgumentError(
                    f"{name} must be the backend's own, {own.get(name)!r}, where backend is a "
                    f"Backend, got {value!r}"
                )
        return backend
    if not isinstance(backend, str) or backend not in BACKENDS:
        raise unknown("backend", backend, BACKENDS)
    if precision is not None and not reproducible:
        raise ArgumentError(f"precision needs reproducible=True, got {precision!r} without it")
    inner = BACKENDS[backend](device, "float32" if dtype is None else dtype)
    if not reproducible:
        return inner
    return ReproducibleBackend(inner, "training" if precision is None else precision)


class BackendInfo(NamedTuple):
    """What `describe` says about a backend on this machine."""

    name: str
    installed: bool
    version: str
    devices: tuple[str, ...]
    blas: str
    hint: str
    cards: tuple[str, ...] = ()  # product names of the devices that are GPUs


def describe() -> Sequence[BackendInfo]:
    """Return whether each backend is installed on this machine, and its devices."""
    return [_describe(cls) for cls in BACKENDS.values()]


def _describe(cls: type[Backend]) -> BackendInfo:
    if importlib.util.find_spec(cls.module) is None:
        return BackendInfo(cls.name, False, "", (), "", cls.install)
    version = ""
    try:
        with contextlib.suppress(ImportError):
            version = importlib.import_module(cls.module).__version__
        backend = cls()
    except BackendError as error:
        return BackendInfo(cls.name, True, version, (), "", str(error))
    devices = backend.devices()
    cards = tuple(card for name in devices if (card := cls(name).card) is not None)
    return BackendInfo(cls.name, True, version, devices, backend.blas(), "", cards)
