"""array-api-strict, on the CPU."""

from __future__ import annotations

import contextlib
import importlib
import re
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np

from xpnn.backends.base import Backend

Array = Any


class StrictBackend(Backend):
    """array-api-strict: the standard and nothing else, for tests."""

    name = "strict"
    module = "array_api_strict"
    namespace = "array_api_strict"
    install = "pip install array-api-strict"

    def _devices(self) -> dict[str, Any]:
        info = self.library.__array_namespace_info__()
        full = [d for d in info.devices() if {"float64", "int64"} <= info.dtypes(device=d).keys()]
        return {re.sub(r"^CPU_DEVICE$", "cpu", str(d).split("'")[1]): d for d in full}

    @property
    def apart(self) -> bool:
        return self.device != self._devices()["cpu"]  # type: ignore[no-any-return]

    def blas(self) -> str:
        return "NumPy's"

    @classmethod
    def owns(cls, array: Array) -> bool:
        return type(array).__module__.startswith("array_api_strict")

    @classmethod
    def to_numpy(cls, array: Array) -> np.ndarray:
        strict = importlib.import_module("array_api_strict")
        return np.asarray(array.to_device(strict.Device("CPU_DEVICE")))

    def asarray(self, host: np.ndarray) -> Array:
        return self.library.asarray(host, device=self.device)

    @contextlib.contextmanager
    def strictest(self, needs: Collection[str] = ()) -> Iterator[None]:
        flags = self.library.ArrayAPIStrictFlags(
            boolean_indexing="boolean indexing" in needs,
            data_dependent_shapes="data-dependent shapes" in needs,
            enabled_extensions=[name for name in ("linalg", "fft") if name in needs],
        )
        with flags:
            yield
