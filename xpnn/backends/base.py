"""Backends: a name ("numpy", "cupy", "torch", "jax", "strict") becomes namespace, device, dtype.

This is the only module that names an array library, and it imports one only when asked for.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import importlib
import importlib.util
import logging
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import array_api_compat
import numpy as np

from xpnn._core.tree import leaves, rebuilt
from xpnn.errors import ArgumentError, BackendError, unknown

if TYPE_CHECKING:
    from xpnn import recording

_COMPAT_TORCH = "array_api_compat.torch"

_LOG = logging.getLogger(__name__)

Array = Any
Step = Callable[..., tuple[Any, tuple[Array, ...]]]

DTYPES = ("float32", "float64")


def namespace(*arrays: Array) -> Any:
    """Return the array API namespace that `arrays` belong to."""
    found = array_api_compat.array_namespace(*arrays)
    return _torch_namespace(found) if found is sys.modules.get(_COMPAT_TORCH) else found


def device(array: Array) -> Any:
    """Return the device of `array`, for creation functions."""
    return array_api_compat.device(array)


def to_numpy(array: Any) -> np.ndarray:
    """Return any library's array, or a nested list, as a NumPy array on the host."""
    if array_api_compat.is_array_api_obj(array):
        libraries: list[type[Backend]] = [ReproducibleBackend, *BACKENDS.values()]
        for cls in libraries:
            if cls.owns(array):
                return cls.to_numpy(array)
    try:
        return np.asarray(array)
    except ValueError as error:
        raise ArgumentError(f"not an array: {error}") from None


def backend_of(array: Any) -> Backend | None:
    """Return the backend of another library than NumPy that `array` is of, on its device.

    None for NumPy's arrays, and for what isn't an array.
    """
    if isinstance(array, np.ndarray) or not array_api_compat.is_array_api_obj(array):
        return None
    for cls in BACKENDS.values():
        if cls.owns(array):
            places = (cls(name) for name in cls().devices())
            return next(place for place in places if place.device == device(array))
    return None


class BackendInfo(NamedTuple):
    """What `describe` says of a backend on this machine."""

    name: str
    installed: bool
    version: str
    devices: tuple[str, ...]
    blas: str
    hint: str
    cards: tuple[str, ...] = ()  # what those of the devices that are GPUs call themselves


class Backend(ABC):
    """One array library on one device, at one floating-point dtype.

    Parameters
    ----------
    device
        The library's device by its usual name ("cpu", "cuda:0"); the library's default if None.
    dtype
        "float32" or "float64": of parameters, activations, gradients and losses.

    Attributes
    ----------
    xp
        The array API namespace; all formulas are computed through it.
    device
        The library's own device object, for creation functions.
    dtype
        The library's own dtype object.

    Raises
    ------
    BackendError
        If the library isn't installed or has no such device.
    """

    name: ClassVar[str]
    module: ClassVar[str]
    install: ClassVar[str]

    xp: Any
    device: Any
    dtype: Any

    def __init__(self, device: str | None = None, dtype: str = "float32") -> None:
        if not isinstance(dtype, str) or dtype not in DTYPES:
            raise unknown("dtype", dtype, DTYPES)
        if not isinstance(device, str | None):
            raise ArgumentError(f"device must be a name such as 'cuda:0', got {device!r}")
        try:
            self.library = importlib.import_module(self.module)
        except ImportError as error:
            if importlib.util.find_spec(self.module) is None:
                raise BackendError(
                    f"backend {self.name!r} is not installed; install it with: {self.install}"
                ) from None
            raise BackendError(f"backend {self.name!r} can't be imported: {error}") from error
        self.xp = self._namespace()
        self.device = self._device(device)
        self._device_name = device
        self.dtype = getattr(self.xp, dtype)

    @property
    def dtype_name(self) -> str:
        """The dtype's name, "float32" or "float64"."""
        return "float64" if self.dtype == self.xp.float64 else "float32"

    @abstractmethod
    def _namespace(self) -> Any: ...

    @abstractmethod
    def devices(self) -> tuple[str, ...]:
        """Return the names of the devices that this library sees."""

    @abstractmethod
    def _device(self, name: str | None) -> Any: ...

    def _no_device(self, name: str | None) -> BackendError:
        given = "no device" if name is None else f"no device {name!r}"
        has = ", ".join(self.devices()) or "none"
        return BackendError(f"backend {self.name!r} has {given} (devices here: {has})")

    @property
    def card(self) -> str | None:
        """What the GPU that is computed on calls itself, such as "NVIDIA H200"; None on a CPU."""
        return None

    @property
    def apart(self) -> bool:
        """Whether the device has memory of its own: what is copied from it, the host waits for."""
        return self.card is not None

    def options(self) -> dict[str, Any]:
        """Return the arguments of `get_backend` that make an equal backend."""
        return {"backend": self.name, "device": self._device_name, "dtype": self.dtype_name}

    def blas(self) -> str:
        """Return the name of the library that multiplies matrices."""
        return ""

    @classmethod
    @abstractmethod
    def owns(cls, array: Array) -> bool:
        """Return whether `array` belongs to this library."""

    @classmethod
    @abstractmethod
    def to_numpy(cls, array: Array) -> np.ndarray:
        """Return a device array as a NumPy array on the host. Synchronises."""

    @abstractmethod
    def asarray(self, host: np.ndarray) -> Array:
        """Move a host array to the device, in its own dtype. Never mutates `host`."""

    def dataset(self, host: np.ndarray) -> Array:
        """Move a data set to the device, whose rows many steps will take."""
        return self.asarray(host)

    def survey(self, parts: Callable[[], Iterable[np.ndarray]]) -> Any:
        """Return what `chunk` must know of a data set that is too large to be moved.

        `parts` returns all its values, part by part, as often as it is called.
        """
        return None

    def chunk(self, host: np.ndarray, known: Any) -> Array:
        """Move a part of a data set, of which `survey` returned `known`.

        May change `host` and share its memory; the caller leaves it alone until the steps that
        take from the part have returned their figures.
        """
        return self.asarray(host)

    def random_state(self, seed: int) -> np.random.RandomState:
        """Return the stream that everything random of a run is drawn from, on the host."""
        return np.random.RandomState(seed)

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """Set, for the time of a ``with`` block alone, what the library needs to work right.

        A run that diverges is reported by its loss, once, so NumPy's warnings on the way are off.
        """
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            yield

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return `function`, compiled where the library has a compiler for pure functions."""
        return function

    def fold(self, step: Step) -> Step:
        """Return ``run(carry, rows, *context)``, which steps through the rows of a 2-D array.

        Each step is ``carry, outputs = step(carry, row, *context)`` with `outputs` a tuple of 0-d
        arrays; `run` returns the last carry and, for each output, the 1-D array of its values.
        """
        stack = self.xp.stack

        def run(carry: Any, rows: Array, *context: Any) -> tuple[Any, tuple[Array, ...]]:
            outputs = []
            for i in range(rows.shape[0]):
                carry, output = step(carry, rows[i, :], *context)
                outputs.append(output)
            return carry, tuple(stack(column) for column in zip(*outputs, strict=True))

        return run

    def sweep(
        self,
        fold: Step,
        carry: Any,
        pieces: Sequence[Array],
        context: Sequence[Array],
        told: Callable[[int], None],
    ) -> tuple[Any, list[tuple[Array, ...]]]:
        """Fold over several matrices of rows; return the last carry, and the outputs of each.

        Nothing comes to the host. `told` is told how many steps were handed to the device.
        """
        outputs = []
        for rows in pieces:
            carry, own = fold(carry, rows, *context)
            outputs.append(own)
            told(rows.shape[0])
        return carry, outputs


class NumpyBackend(Backend):
    """NumPy on the CPU."""

    name = "numpy"
    module = "numpy"
    install = "pip install numpy"

    def _namespace(self) -> Any:
        return importlib.import_module("array_api_compat.numpy")

    def devices(self) -> tuple[str, ...]:
        return ("cpu",)

    def _device(self, name: str | None) -> Any:
        if name not in (None, "cpu"):
            raise self._no_device(name)
        return "cpu"

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
        from xpnn import recording

        return recording.Fold(step, recording.namespace(self.xp))


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


_LARGEST = float(np.finfo(np.float32).max)


class _TorchNamespace:
    """array-api-compat's namespace of PyTorch, where a bound that is a number is no tensor first.

    Of 10,000 elements, ``maximum(u, 0.0)`` takes 3 us instead of 14.
    """

    def __init__(self, xp: Any) -> None:
        torch = importlib.import_module("torch")
        self.__name__, self._xp = xp.__name__, xp
        self._clamp, self._tensor = torch.clamp, torch.Tensor

    def __getattr__(self, name: str) -> Any:
        if name == "_xp":  # of an object that copy or pickle has yet to fill
            raise AttributeError(name)
        attribute = getattr(self._xp, name)
        setattr(self, name, attribute)
        return attribute

    def maximum(self, x1: Array | float, x2: Array | float) -> Array:
        """Return the larger of each two elements."""
        return self._clamp(x1, min=x2) if self._bounds(x1, x2) else self._xp.maximum(x1, x2)

    def minimum(self, x1: Array | float, x2: Array | float) -> Array:
        """Return the smaller of each two elements."""
        return self._clamp(x1, max=x2) if self._bounds(x1, x2) else self._xp.minimum(x1, x2)

    def _bounds(self, x1: Array | float, x2: Array | float) -> bool:
        # clamp refuses a number beyond float32, which would be infinity
        known = type(x2) is float and abs(x2) <= _LARGEST
        return known and isinstance(x1, self._tensor) and x1.is_floating_point()


@functools.cache
def _torch_namespace(xp: Any) -> _TorchNamespace:
    return _TorchNamespace(xp)


class TorchBackend(Backend):
    """PyTorch, eager, without autograd."""

    name = "torch"
    module = "torch"
    install = "pip install torch"

    def _namespace(self) -> Any:
        return _torch_namespace(importlib.import_module(_COMPAT_TORCH))

    def devices(self) -> tuple[str, ...]:
        return ("cpu", *(f"cuda:{i}" for i in range(self.library.cuda.device_count())))

    def _device(self, name: str | None) -> Any:
        wanted = {None: "cpu", "cuda": "cuda:0"}.get(name, name)
        if wanted not in self.devices():
            raise self._no_device(name)
        return self.library.device(wanted)

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
    def to_numpy(cls, array: Array) -> np.ndarray:
        return array.detach().cpu().numpy()  # type: ignore[no-any-return]

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        # within a caller's autocast, products would be in another dtype than was asked for
        with super().scope(), self.library.autocast(self.device.type, enabled=False):
            yield

    def asarray(self, host: np.ndarray) -> Array:
        # from_numpy shares memory, and warns of a read-only array
        host = np.require(host, requirements=["C", "W"])
        return self.library.from_numpy(host).to(self.device)


class JaxBackend(Backend):
    """JAX: steps compiled by XLA, a run of steps as one `jax.lax.scan`."""

    name = "jax"
    module = "jax"
    install = "pip install jax"

    def _namespace(self) -> Any:
        return importlib.import_module("jax.numpy")

    def devices(self) -> tuple[str, ...]:
        return tuple(self._by_name())

    def _by_name(self) -> dict[str, Any]:
        found = {}
        for platform, name in (("cpu", "cpu"), ("cuda", "cuda")):
            with contextlib.suppress(RuntimeError):
                for i, device in enumerate(self.library.devices(platform)):
                    found[name if name == "cpu" and i == 0 else f"{name}:{i}"] = device
        return found

    def _device(self, name: str | None) -> Any:
        if name is None:
            return self.library.devices()[0]
        try:
            return self._by_name()[{"cuda": "cuda:0"}.get(name, name)]
        except KeyError:
            raise self._no_device(name) from None

    @property
    def card(self) -> str | None:
        return self.device.device_kind if self.device.platform == "gpu" else None

    def blas(self) -> str:
        return "XLA, cuBLAS" if self.device.platform == "gpu" else "XLA, Eigen"

    @classmethod
    def owns(cls, array: Array) -> bool:
        return array_api_compat.is_jax_array(array)

    @classmethod
    def to_numpy(cls, array: Array) -> np.ndarray:
        # device_get is an explicit transfer, which transfer_guard("disallow") lets through
        return np.asarray(importlib.import_module("jax").device_get(array))

    def asarray(self, host: np.ndarray) -> Array:
        with self.library.enable_x64(True):
            return self.library.device_put(host, self.device)

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        with (
            super().scope(),
            self.library.enable_x64(True),
            self.library.default_device(self.device),
            # else float32 products are rounded to TF32 on some GPUs
            self.library.default_matmul_precision("highest"),
        ):
            yield

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return _once_a_key(self.library.jit, function)

    def fold(self, step: Step) -> Step:
        # see `xpnn.training.steps`: runs of equal networks share their programs
        return _once_a_key(_jitted_scan, step)


def _jitted_scan(step: Step) -> Step:
    jax = importlib.import_module("jax")

    def run(carry: Any, rows: Array, *context: Any) -> Any:
        return jax.lax.scan(lambda carry, row: step(carry, row, *context), carry, rows)

    return jax.jit(run)  # type: ignore[no-any-return]


def _once_a_key(compiler: Callable[..., Any], function: Any) -> Callable[..., Any]:
    """Return what `compiler` made of an equal function before, if this one has a `key`.

    JAX itself knows functions by identity, and would compile those of each run anew.
    """
    if getattr(function, "key", None) is None:
        return compiler(function)  # type: ignore[no-any-return]
    return _kept(compiler, function)


# the oldest is dropped: a program takes memory
@functools.lru_cache(maxsize=32)
def _kept(compiler: Callable[..., Any], function: Any) -> Callable[..., Any]:
    # a copy: it is traced again for other shapes, when the user may have changed a layer
    return compiler(copy.deepcopy(function))  # type: ignore[no-any-return]


class StrictBackend(Backend):
    """array-api-strict: the standard and nothing beside it, for tests."""

    name = "strict"
    module = "array_api_strict"
    install = "pip install array-api-strict"

    def _namespace(self) -> Any:
        return self.library

    def devices(self) -> tuple[str, ...]:
        return tuple(self._by_name())

    def _by_name(self) -> dict[str, Any]:
        info = self.library.__array_namespace_info__()
        full = [d for d in info.devices() if {"float64", "int64"} <= info.dtypes(device=d).keys()]
        return {re.sub(r"^CPU_DEVICE$", "cpu", str(d).split("'")[1]): d for d in full}

    def _device(self, name: str | None) -> Any:
        try:
            return self._by_name()["cpu" if name is None else name]
        except KeyError:
            raise self._no_device(name) from None

    @property
    def apart(self) -> bool:
        return self.device != self._by_name()["cpu"]  # type: ignore[no-any-return]

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


class WrappedBackend(Backend):
    """Base of backends that let another one, `inner`, do the work, through a namespace round its.

    Steps run operation by operation.
    """

    def __init__(self, inner: Backend, xp: Any) -> None:
        self.inner, self.xp = inner, xp
        self.name = inner.name  # type: ignore[misc]
        self.library, self.device, self.dtype = inner.library, inner.device, inner.dtype

    def _namespace(self) -> Any:
        return self.xp

    def _device(self, name: str | None) -> Any:
        return self.device

    def devices(self) -> tuple[str, ...]:
        return self.inner.devices()

    @property
    def card(self) -> str | None:
        return self.inner.card

    def options(self) -> dict[str, Any]:
        return self.inner.options()

    def random_state(self, seed: int) -> np.random.RandomState:
        return self.inner.random_state(seed)

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        with self.inner.scope():
            yield


class ReproducibleBackend(WrappedBackend):
    """Another backend whose every operation gives the same bits as any other's does.

    Parameters
    ----------
    inner
        The backend that does the work.
    precision
        "training" or "full", of products and sums; see `xpnn.reproducible`.
    """

    def __init__(self, inner: Backend, precision: str = "training") -> None:
        from xpnn import reproducible

        if precision not in reproducible.PRECISIONS:
            raise unknown("precision", precision, reproducible.PRECISIONS)
        with inner.scope():
            super().__init__(inner, reproducible.namespace(inner.xp, precision=precision))
            self.xp.look_at(inner.device)
        self._asks = not inner.apart  # whether steps look at what they would otherwise suppose

    def options(self) -> dict[str, Any]:
        return {**super().options(), "reproducible": True, "precision": self.xp.precision}

    @classmethod
    def owns(cls, array: Array) -> bool:
        return type(array).__module__.startswith("xpnn.reproducible")

    @classmethod
    def to_numpy(cls, array: Array) -> np.ndarray:
        return to_numpy(array.__array_namespace__().unwrap(array))

    def asarray(self, host: np.ndarray) -> Array:
        with self.inner.scope():
            return self.xp.wrap(self.inner.asarray(host))

    def dataset(self, host: np.ndarray) -> Array:
        return self.xp.prepare(self.asarray(host), pixels=self.dtype_name == "float64")

    def survey(self, parts: Callable[[], Iterable[np.ndarray]]) -> Any:
        from xpnn import reproducible

        return reproducible.survey(parts, pixels=self.dtype_name == "float64")

    def chunk(self, host: np.ndarray, known: Any) -> Array:
        from xpnn import reproducible

        # canonical already on the host, so that NumPy's chunks stay where they are
        reproducible.canonical(host)
        return self.xp.prepared(self.inner.asarray(host), known)

    def random_state(self, seed: int) -> np.random.RandomState:
        from xpnn import reproducible

        return reproducible.RandomState(seed)

    def sweep(
        self,
        fold: Step,
        carry: Any,
        pieces: Sequence[Array],
        context: Sequence[Array],
        told: Callable[[int], None],
    ) -> tuple[Any, list[tuple[Array, ...]]]:
        from xpnn.reproducible.truths import Supposition, WrongSuppositionError

        if self._asks:
            return super().sweep(fold, carry, pieces, context, told)
        # for a second try: the steps change their own carry, and never what a view shows
        views = (x.view(x.raw) if self.owns(x) else x for x in leaves(carry))
        again = rebuilt(carry, views)
        supposition, known = Supposition(), 0

        def tell(count: int) -> None:
            nonlocal known
            known += 1
            told(count)

        def tell_the_rest(count: int) -> None:
            nonlocal known
            known -= 1
            if known < 0:
                told(count)

        with contextlib.suppress(WrongSuppositionError):
            result = super().sweep(supposition.guard(fold), carry, pieces, context, tell)
            supposition.check()
            return result
        # it would be wrong again
        self._asks = True
        _LOG.info(
            "an operand is beyond 2^400 or below 2^-400: steps wait for the device from now on"
        )
        return super().sweep(fold, again, pieces, context, tell_the_rest)

    def fold(self, step: Step) -> Step:
        # at full precision, how many slices there are depends on the values of each step
        if not isinstance(self.inner, NumpyBackend) or self.xp.precision == "full":
            return super().fold(step)
        from xpnn import recording

        recorder = recording.namespace(self.inner.xp)
        return recording.Fold(step, recorder, self._leaf(recorder))

    def _leaf(self, recorder: recording.Namespace) -> recording.Leaf:
        from xpnn import recording, reproducible

        recorded = reproducible.namespace(recorder, precision=self.xp.precision)

        def raw(leaf: Any) -> tuple[Any, Any]:
            return leaf.raw, (leaf.low, leaf.high, leaf.pixels)

        def wrapper(xp: Any) -> Callable[[Any, Any], Any]:
            def wrapped(raw: Any, known: Any) -> Any:
                if known is None:
                    return xp._plain(raw)
                low, high, pixels = known
                array = reproducible.Array(xp, raw, low, high=high, owned=True)
                array.pixels = pixels
                return array

            return wrapped

        return recording.Leaf(raw, wrapper(recorded), wrapper(self.xp))


BACKENDS: dict[str, type[Backend]] = {
    cls.name: cls for cls in (NumpyBackend, CupyBackend, TorchBackend, JaxBackend, StrictBackend)
}


def get_backend(
    backend: str | Backend = "numpy",
    *,
    device: str | None = None,
    dtype: str = "float32",
    reproducible: bool = False,
    precision: str = "training",
) -> Backend:
    """Return the backend called `backend` on `device` at `dtype`.

    Parameters
    ----------
    backend
        "numpy", "cupy", "torch", "jax" or "strict"; a `Backend` is returned as it is.
    device
        "cpu", "cuda:0", …; the library's default if None.
    dtype
        "float32" or "float64".
    reproducible
        Whether to give the same bits as every other backend; see `ReproducibleBackend`.
    precision
        Of reproducible products and sums: "training" or "full".

    Raises
    ------
    ArgumentError
        If the backend or the dtype is unknown.
    BackendError
        If the library isn't installed or has no such device.
    """
    if isinstance(backend, Backend):
        if device is not None or reproducible or dtype not in ("float32", backend.dtype_name):
            raise ArgumentError(
                "device, dtype and reproducible are the backend's own where it is a Backend, got "
                f"device={device!r}, dtype={dtype!r}, reproducible={reproducible!r} beside it"
            )
        return backend
    if not isinstance(backend, str) or backend not in BACKENDS:
        raise unknown("backend", backend, BACKENDS)
    inner = BACKENDS[backend](device, dtype)
    return ReproducibleBackend(inner, precision) if reproducible else inner


def describe() -> Sequence[BackendInfo]:
    """Return, for each backend, whether it is installed here and what it has."""
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
