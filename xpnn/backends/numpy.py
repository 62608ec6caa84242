"""NumPy, on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import array_api_compat
import numpy as np

from xpnn.backends.base import Backend, Step

Array = Any


class NumpyBackend(Backend):
    """NumPy on the CPU."""

    name = "numpy"
    module = "numpy"
    namespace = "array_api_compat.numpy"
    install = "pip install numpy"

    def _devices(self) -> dict[str, Any]:
        return {"cpu": "cpu"}

    def blas(self) -> str:
        config: Any = np.show_config(mode="dicts")
        blas = config.get("Build Dependencies", {}).get("blas", {})
        return f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip()

    @classmethod
    def owns(cls, array: Array) -> bool:
        return array_api_compat.is_numpy_array(array)

    @classmethod
    def to_numpy(cls, array: Array) -> np.ndarray:
        return np.asarray(array)

    def asarray(self, host: np.ndarray) -> Array:
        return np.asarray(host)

    def fold(self, step: Step) -> Step:
        return self.recorded(step, super().fold(step))

    def recorded(self, step: Step, eager: Step, leaf: Callable[[Any], Any] | None = None) -> Step:
        from xpnn import recording

        recorder = recording.recording_namespace(self.xp)
        return recording.Fold(step, recorder, recording.PLAIN if leaf is None else leaf(recorder))
