"""CuPy, on a CUDA GPU."""

from __future__ import annotations

import contextlib
import copy
import functools
import importlib
import threading
from collections.abc import Callable, Collection, Hashable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import array_api_compat
import array_api_compat.numpy
import numpy as np

from xpnn.backends.base import Backend, Step

if TYPE_CHECKING:
    from xpnn.recording.card import Product

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

    @contextlib.contextmanager
    def strictest(self, needs: Collection[str] = ()) -> Iterator[None]:
        with self.device:
            yield

    def fold(self, step: Step) -> Step:
        return self.recorded(step, super().fold(step))

    def recorded(self, step: Step, eager: Step, leaf: Callable[[Any], Any] | None = None) -> Step:
        from xpnn import recording
        from xpnn.recording.card import CardFold

        def made(own: Step) -> CardFold:
            recorder = recording.recording_namespace(array_api_compat.numpy)
            held = recording.PLAIN if leaf is None else leaf(recorder)
            return CardFold(own, recorder, _Card(self.library), self.library.empty, eager, held)

        key = getattr(step, "key", None)
        if key is None:
            return made(step)
        # A program has memory of its own, which no other thread may use meanwhile. The step is
        # copied, because it is recorded again for other shapes, and a layer may change until then.
        own = _Key((key, self.device.id, threading.get_ident()), lambda: made(copy.deepcopy(step)))
        return _kept(own)  # type: ignore[no-any-return]


class _Key(NamedTuple):
    """What belongs to a key, and is made if it isn't there; equal if the keys are."""

    key: Hashable
    made: Callable[[], Any]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


# runs of equal networks share their programs, which take memory: the least recently used is dropped
@functools.lru_cache(maxsize=32)
def _kept(key: _Key) -> Any:
    return key.made()


# bytes of a constant that is known by its elements
_SMALL = 1 << 16


class _Card:
    """The current device, as `xpnn.recording.card` needs it."""

    # without contraction, so that each operation is rounded by itself
    _OPTIONS = ("-fmad=false",)

    def __init__(self, cupy: Any) -> None:
        self._cupy = cupy
        self._constants: dict[Hashable, tuple[np.ndarray | None, Array]] = {}
        # cuBLAS reads them on the host
        self._one = {name: np.ones(1, name) for name in ("float32", "float64")}
        self._zero = {name: np.zeros(1, name) for name in ("float32", "float64")}

    def kernels(
        self, text: str, blocks: dict[str, int], threads: int
    ) -> list[Callable[[tuple[Any, ...]], None]]:
        module = self._cupy.RawModule(code=text, options=self._OPTIONS)

        def launcher(name: str, count: int) -> Callable[[tuple[Any, ...]], None]:
            function = module.get_function(name).kernel
            return lambda arguments: function((count,), (threads,), arguments)

        return [launcher(name, count) for name, count in blocks.items()]

    def product(self, product: Product, pointers: tuple[int, int, int]) -> Callable[[], object]:
        cublas = importlib.import_module("cupy_backends.cuda.libs.cublas")
        name = product.dtype.name
        gemm = cublas.sgemm if name == "float32" else cublas.dgemm
        left, right = (int(transposed) for transposed in product.transposed)
        b, a, out = pointers
        ldb, lda, ldc = product.leading
        handle = self._cupy.cuda.device.get_cublas_handle()
        one, zero = self._one[name].ctypes.data, self._zero[name].ctypes.data
        arguments = (
            *(handle, left, right, *product.sizes, one),
            *(b, ldb, a, lda, zero, out, ldc),
        )
        return lambda: gemm(*arguments)

    def memory(self, size: int) -> Array:
        return self._cupy.empty(size, np.uint8)

    def pointer(self, array: Array) -> int:
        return array.data.ptr  # type: ignore[no-any-return]

    def constant(self, host: np.ndarray) -> Array:
        # small ones are made anew in each recording; large ones, the tables of functions, are not
        small = host.nbytes <= _SMALL
        key = (host.dtype.str, host.tobytes("A")) if small else id(host)
        if key not in self._constants:
            # as it lies in memory; the host's is kept because its id is a key
            flat = self._cupy.asarray(host.ravel(order="K"))
            self._constants[key] = None if small else host, flat
        return self._constants[key][1]
