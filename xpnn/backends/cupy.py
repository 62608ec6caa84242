"""CuPy, on a CUDA GPU."""

from __future__ import annotations

import contextlib
import importlib
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
    install = "pip install cupy-cuda13x (or cupy-cuda12x, by your driver)"

    def _namespace(self) -> Any:
        return importlib.import_module("array_api_compat.cupy")

    def devices(self) -> tuple[str, ...]:
        try:
            count = self.library.cuda.runtime.getDeviceCount()
        except self.library.cuda.runtime.CUDARuntimeError:
            return ()
        return tuple(f"cuda:{i}" for i in range(count))

    def _device(self, name: str | None) -> Any:
        wanted = {None: "cuda:0", "cuda": "cuda:0"}.get(name, name)
        if wanted not in self.devices():
            raise self._no_device(name)
        return self.library.cuda.Device(int(wanted.removeprefix("cuda:")))

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
