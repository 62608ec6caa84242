"""PyTorch, on the CPU or a CUDA GPU."""

from __future__ import annotations

import contextlib
import functools
import importlib
import re
import threading
from collections.abc import Collection, Iterable, Iterator
from typing import Any

import array_api_compat
import numpy as np

from xpnn.backends.base import Backend
from xpnn.errors import DataError

Array = Any

_LARGEST = float(np.finfo(np.float32).max)


class _Namespace:
    """array-api-compat's namespace of PyTorch, faster where a bound is a number.

    A number isn't made a tensor first: ``maximum(u, 0.0)`` of 10,000 elements takes 3 us, not 14.
    """

    def __init__(self, xp: Any) -> None:
        torch = importlib.import_module("torch")
        self.__name__, self._xp = xp.__name__, xp
        self._clamp, self._tensor = torch.clamp, torch.Tensor
        self._select = torch.index_select

    def __getattr__(self, name: str) -> Any:
        if name == "_xp":  # copy or pickle asks before it has set the attributes
            raise AttributeError(name)
        attribute = getattr(self._xp, name)
        setattr(self, name, attribute)
        return attribute

    def maximum(self, x1: Array | float, x2: Array | float) -> Array:
        """Return the elementwise maximum."""
        return self._clamp(x1, min=x2) if self._bounds(x1, x2) else self._xp.maximum(x1, x2)

    def minimum(self, x1: Array | float, x2: Array | float) -> Array:
        """Return the elementwise minimum."""
        return self._clamp(x1, max=x2) if self._bounds(x1, x2) else self._xp.minimum(x1, x2)

    def take(self, x: Array, indices: Array, /, *, axis: int | None = None, **kwargs: Any) -> Array:
        """Return the elements at indices along an axis."""
        if axis is not None and x.device.type == "cpu":
            # array-api-compat first looks for negative ones, which takes as long as the rest
            with contextlib.suppress(IndexError):
                return self._select(x, axis, indices, **kwargs)
        return self._xp.take(x, indices, axis=axis, **kwargs)

    def _bounds(self, x1: Array | float, x2: Array | float) -> bool:
        # clamp refuses numbers beyond float32, which would become infinite
        known = type(x2) is float and abs(x2) <= _LARGEST
        return known and isinstance(x1, self._tensor) and x1.is_floating_point()


@functools.cache
def faster(xp: Any) -> _Namespace:
    """Return a faster namespace for `xp`, array-api-compat's namespace of PyTorch."""
    return _Namespace(xp)


class _WholePrecision:
    """Float32 products without TF32 or bfloat16, while any thread is within a ``with`` block.

    The setting is the process's: the first who comes sets it, and the last who leaves sets it back.
    """

    def __init__(self) -> None:
        self._lock, self._within = threading.Lock(), 0
        self._before: list[tuple[Any, str]] = []

    def __enter__(self) -> None:
        with self._lock:
            self._within += 1
            if self._within == 1:
                self._before = [(own, own.fp32_precision) for own in self._owners()]
                self._set((own, "ieee") for own, value in self._before if value != "none")

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._within -= 1
            if not self._within:
                self._set(self._before)

    @staticmethod
    def _owners() -> list[Any]:
        backends = importlib.import_module("torch").backends
        owners = [getattr(own, "matmul", None) for own in (backends.cuda, backends.mkldnn)]
        return owners if all(hasattr(own, "fp32_precision") for own in owners) else [_Older()]

    @staticmethod
    def _set(values: Iterable[tuple[Any, str]]) -> None:
        for own, value in values:
            if own.fp32_precision != value:
                own.fp32_precision = value


class _Older:
    """The same setting in PyTorch before 2.9."""

    @property
    def fp32_precision(self) -> str:
        found: str = importlib.import_module("torch").get_float32_matmul_precision()
        return "none" if found == "highest" else found

    @fp32_precision.setter
    def fp32_precision(self, value: str) -> None:
        wanted = "highest" if value in ("ieee", "none") else value
        importlib.import_module("torch").set_float32_matmul_precision(wanted)


_WHOLE_PRECISION = _WholePrecision()


class TorchBackend(Backend):
    """PyTorch, eager, without autograd."""

    name = "torch"
    module = "torch"
    namespace = "array_api_compat.torch"
    install = "pip install torch"

    def _namespace(self) -> Any:
        return faster(super()._namespace())

    def _devices(self) -> dict[str, Any]:
        cards = (f"cuda:{i}" for i in range(self.library.cuda.device_count()))
        return {name: self.library.device(name) for name in ("cpu", *cards)}

    @property
    def card(self) -> str | None:
        on_cuda = self.device.type == "cuda"
        return self.library.cuda.get_device_name(self.device) if on_cuda else None

    def blas(self) -> str:
        found = re.search(r"BLAS_INFO=(\w+)", self.library.__config__.show())
        return found.group(1) if found else "unknown"

    @classmethod
    def owns(cls, array: Array) -> bool:
        return array_api_compat.is_torch_array(array)

    @classmethod
    def objection(cls, array: Array) -> str | None:
        if (
            str(array.layout) != "torch.strided"
            or array.is_quantized
            or array.device.type == "meta"
        ):
            return f"must be a dense tensor of numbers, not one of {array.layout} on {array.device}"
        if array.requires_grad:
            return "requires grad, and no gradient would come back: use x.detach()"
        return None

    @classmethod
    def to_numpy(cls, array: Array) -> np.ndarray:
        return array.numpy(force=True)  # type: ignore[no-any-return]

    def check(self, array: Array, name: str) -> None:
        strided = array.layout == self.library.strided
        if not strided or array.is_quantized or array.device != self.device:
            raise DataError(
                f"{name} must be a dense tensor of numbers on the model's device {self.device}, "
                f"got one of {array.dtype} and layout {array.layout} on {array.device}"
            )
        super().check(array, name)

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        with (
            super().scope(),
            # a caller's autocast would change the dtype of products
            self.library.autocast(self.device.type, enabled=False),
            self._ordinary(),
            _WHOLE_PRECISION,
        ):
            yield

    @contextlib.contextmanager
    def strictest(self, needs: Collection[str] = ()) -> Iterator[None]:
        with self.device:
            yield

    @contextlib.contextmanager
    def _ordinary(self) -> Iterator[None]:
        """Make ordinary tensors: those of an inference mode can't be trained further outside it."""
        graded = self.library.is_grad_enabled()
        with self.library.inference_mode(False), self.library.set_grad_enabled(graded):
            yield

    def asarray(self, host: np.ndarray) -> Array:
        # from_numpy shares memory, and warns if the array is read-only
        host = np.require(host, requirements=["C", "W"])
        with self._ordinary():
            return self.library.from_numpy(host).to(self.device)
