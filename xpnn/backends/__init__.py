"""Backends: an array library with a device and a dtype, by the library's name.

Only this package names array libraries; it imports one when its backend is first asked for.
"""

from xpnn.backends.base import DTYPES, Backend, Step, WrappedBackend
from xpnn.backends.cupy import CupyBackend
from xpnn.backends.jax import JaxBackend
from xpnn.backends.lookup import (
    BACKENDS,
    BackendInfo,
    backend_of,
    describe,
    device,
    get_backend,
    namespace,
    to_numpy,
)
from xpnn.backends.numpy import NumpyBackend
from xpnn.backends.reproducible import ReproducibleBackend
from xpnn.backends.strict import StrictBackend
from xpnn.backends.torch import TorchBackend

__all__ = [
    "BACKENDS",
    "DTYPES",
    "Backend",
    "BackendInfo",
    "CupyBackend",
    "JaxBackend",
    "NumpyBackend",
    "ReproducibleBackend",
    "Step",
    "StrictBackend",
    "TorchBackend",
    "WrappedBackend",
    "backend_of",
    "describe",
    "device",
    "get_backend",
    "namespace",
    "to_numpy",
]
