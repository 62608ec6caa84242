"""What a backend is: an array library on one device, at one floating-point dtype."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np

from xpnn.errors import ArgumentError, BackendError, unknown

Array = Any
Step = Callable[..., tuple[Any, tuple[Array, ...]]]

DTYPES = ("float32", "float64")


class Backend(ABC):
    """One array library on one device, at one floating-point dtype.

    Parameters
    ----------
    device
        The library's device by its usual name ("cpu", "cuda:0"); the library's default if None.
    dtype
        The dtype of parameters, activations, gradients and losses: "float32" or "float64".

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
        """The product name of the GPU, such as "NVIDIA H200"; None on a CPU."""
        return None

    @property
    def apart(self) -> bool:
        """Whether the device has its own memory, so that the host waits for copies from it."""
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

    def dataset(
        self, values: Callable[[], Iterable[np.ndarray]] | None = None
    ) -> Callable[[np.ndarray], Array]:
        """Return a function that moves a data set to the device, for many steps to take rows from.

        Parameters
        ----------
        values
            None for a set that is moved as a whole and left unchanged. For a set that is moved in
            parts, a function that returns all its values, part by part, each time it is called. A
            part may be changed when it is moved, and the result may share its memory: the caller
            must not touch it until the steps that use it have returned their figures.
        """
        return self.asarray

    def random_state(self, seed: int) -> np.random.RandomState:
        """Return the host's stream of random numbers for a run: initial parameters and orders."""
        return np.random.RandomState(seed)

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """Set what the library needs to work correctly, only within a ``with`` block.

        NumPy's warnings are off, because a run that diverges is reported once, by its loss.
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


class WrappedBackend(Backend):
    """Base class of backends that wrap the namespace of another one, `inner`, which does the work.

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
