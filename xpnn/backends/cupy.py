"""CuPy, on a CUDA GPU."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import array_api_compat
import numpy as np

from xpnn.backends.base import Backend

Array = Any


class CupyBackend(Backend):
    """CuPy on a CUDA GPU."""

    name = "cupy"
    module = "cupy"
    namespace = "array_api_compat.cupy"
    install = "pip install cupy-cuda13x (or cupy-cuda12x, by your driver)"

    def _devices(self) -> dict[str, Any]:
        cuda = self.library.cuda
        try:
            count = cuda.runtime.getDeviceCount()
        except cuda.runtime.CUDARuntimeError:
            return {}
        return {f"cuda:{i}": cuda.Device(i) for i in range(count)}

    @property
    def card(self) -> str | None:
        properties = self.library.cuda.runtime.getDeviceProperties(self.device.id)
        return properties["name"].decode()  # type: ignore[no-any-return]

    def blas(self) -> str:
        return "cuBLAS"

    @classmethod
    def owns(cls, array: Array) -> bool:
        return array_api_compat.is_cupy_array(array)

    @classmethod
    def to_numpy(cls, array: Array) -> np.ndarray:
        return array.get()  # type: ignore[no-any-return]

    def asarray(self, host: np.ndarray) -> Array:
        with self.device:
            return self.library.asarray(host)

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        with super().scope(), self.device:
            yield
