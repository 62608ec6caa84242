"""JAX, on the CPU or a CUDA GPU."""

from __future__ import annotations

import contextlib
import copy
import functools
import importlib
from collections.abc import Callable, Collection, Iterator
from typing import Any

import array_api_compat
import numpy as np

from xpnn.backends.base import Backend, Step
from xpnn.errors import BackendError

Array = Any


class JaxBackend(Backend):
    """JAX: steps compiled by XLA, a run of steps as one `jax.lax.scan`."""

    name = "jax"
    module = "jax"
    namespace = "jax.numpy"
    install = "pip install jax"

    def _devices(self) -> dict[str, Any]:
        found = {}
        for platform in ("cpu", "cuda"):
            with contextlib.suppress(RuntimeError):
                for i, device in enumerate(self.library.devices(platform)):
                    found["cpu" if platform == "cpu" and i == 0 else f"{platform}:{i}"] = device
        return found

    def _device(self, name: str | None) -> Any:
        # by default JAX takes a GPU if there is one
        if name is not None:
            return super()._device(name)
        try:
            return self.library.devices()[0]
        except RuntimeError as error:  # of the platform that JAX_PLATFORMS names
            raise BackendError(f"backend {self.name!r} has no device: {error}") from None

    @property
    def card(self) -> str | None:
        return self.device.device_kind if self.device.platform == "gpu" else None

    def blas(self) -> str:
        return "XLA, cuBLAS" if self.device.platform == "gpu" else "XLA, Eigen"

    @classmethod
    def owns(cls, array: Array) -> bool:
        return array_api_compat.is_jax_array(array)

    @classmethod
    def abstract(cls) -> tuple[type, ...]:
        return (importlib.import_module("jax").core.Tracer,)

    @classmethod
    def to_numpy(cls, array: Array) -> np.ndarray:
        jax = importlib.import_module("jax")
        with jax.transfer_guard("allow"):
            return np.asarray(jax.device_get(array))

    def asarray(self, host: np.ndarray) -> Array:
        with self.library.enable_x64(True), self.library.transfer_guard("allow"):
            return self.library.device_put(host, self.device)

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        with (
            super().scope(),
            self.library.enable_x64(True),
            self.library.default_device(self.device),
            # by default some GPUs round the operands of float32 products to TF32
            self.library.default_matmul_precision("highest"),
            # the rest as it is by default, whatever the caller has chosen
            self.library.numpy_rank_promotion("allow"),
            self.library.numpy_dtype_promotion("standard"),
            self.library.transfer_guard("allow"),
            self.library.debug_nans(False),
            self.library.debug_infs(False),
            self.library.disable_jit(False),
            self.library.check_tracer_leaks(False),
        ):
            yield

    def padded(self, rows: int) -> int:
        # a power of two, 8 or more
        return int(1 << max(rows - 1, 7).bit_length())

    @contextlib.contextmanager
    def strictest(self, needs: Collection[str] = ()) -> Iterator[None]:
        # the guard of transfers to the device would refuse x + 1 and zeros(3)
        with (
            self.library.enable_x64(True),
            self.library.default_device(self.device),
            self.library.default_matmul_precision("highest"),
            self.library.transfer_guard_device_to_host("disallow"),
            self.library.transfer_guard_device_to_device("disallow"),
        ):
            yield

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return _compiled_once(self.library.jit, function)

    def fold(self, step: Step) -> Step:
        # runs of equal networks share their compiled programs: see `xpnn.training.steps`
        return _compiled_once(_jitted_scan, step)


def _jitted_scan(step: Step) -> Step:
    jax = importlib.import_module("jax")

    def run(carry: Any, rows: Array, *context: Any) -> Any:
        return jax.lax.scan(lambda carry, row: step(carry, row, *context), carry, rows)

    return jax.jit(run)  # type: ignore[no-any-return]


def _compiled_once(compiler: Callable[..., Any], function: Any) -> Callable[..., Any]:
    """Return the compiled `function`; functions with equal `key` are compiled only once.

    JAX itself knows functions by identity, and would compile each run's steps anew.
    """
    if getattr(function, "key", None) is None:
        return compiler(function)  # type: ignore[no-any-return]
    return _kept(compiler, function)


# programs take memory, so the least recently used one is dropped
@functools.lru_cache(maxsize=32)
def _kept(compiler: Callable[..., Any], function: Any) -> Callable[..., Any]:
    # a copy, because JAX traces again for other shapes, and by then a layer may have been changed
    return compiler(copy.deepcopy(function))  # type: ignore[no-any-return]
