"""What a backend is: an array library on one device, at one floating-point dtype."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np

from xpnn._version import ARITHMETIC
from xpnn.errors import ArgumentError, BackendError, DataError, unknown

Array = Any
Step = Callable[..., tuple[Any, tuple[Array, ...]]]

DTYPES = ("float32", "float64")


class Backend(ABC):
    """One array library on one device, at one floating-point dtype.

    A backend can be pickled: the device is then found by its name, and the dtype too.

    Parameters
    ----------
    device
        The library's device by its usual name ("cpu", "cuda:0"); the library's default if None.
    dtype
        The dtype of parameters, activations, gradients and losses: "float32" or "float64".

    Attributes
    ----------
    name
        The name by which users ask for the backend.
    module
        The library's module, which is imported when a backend is made.
    namespace
        The module with the library's array API namespace.
    install
        The command that installs the library, for messages.
    library
        The imported module.
    xp
        The imported namespace; all formulas are computed through it.
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
    namespace: ClassVar[str]
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

    def _namespace(self) -> Any:
        return importlib.import_module(self.namespace)

    @abstractmethod
    def _devices(self) -> dict[str, Any]:
        """Return the devices that this library sees, by name; the default one is the first."""

    def devices(self) -> tuple[str, ...]:
        """Return the names of the devices that this library sees."""
        return tuple(self._devices())

    def _device(self, name: str | None) -> Any:
        devices = self._devices()
        if name is None and devices:
            return next(iter(devices.values()))
        wanted = "cuda:0" if name == "cuda" else name
        if wanted not in devices:
            given = "no device" if name is None else f"no device {name!r}"
            has = ", ".join(devices) or "none"
            raise BackendError(f"backend {self.name!r} has {given} (devices here: {has})")
        return devices[wanted]

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

    def arithmetic(self) -> dict[str, str]:
        """Return a record's entry with the name of the arithmetic, if that is reproducible."""
        return {"arithmetic": ARITHMETIC} if self.options().get("reproducible") else {}

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._device_name, self.dtype_name)

    def blas(self) -> str:
        """Return the name of the library that multiplies matrices."""
        return ""

    @classmethod
    @abstractmethod
    def owns(cls, array: Array) -> bool:
        """Return whether `array` belongs to this library."""

    @classmethod
    def abstract(cls) -> tuple[type, ...]:
        """Return the classes of arrays that have no values, within a function that is compiled."""
        return ()

    @classmethod
    def objection(cls, array: Array) -> str | None:
        """Return why the values of one of the library's arrays can't be taken; None if they can."""
        return None

    @classmethod
    @abstractmethod
    def to_numpy(cls, array: Array) -> np.ndarray:
        """Return a device array as a NumPy array on the host. Synchronises."""

    def check(self, array: Array, name: str) -> None:
        """Raise a DataError unless an array of the library holds real numbers, on its device."""
        if not self.xp.isdtype(array.dtype, ("bool", "integral", "real floating")):
            raise DataError(f"{name} must be an array of numbers, got dtype {array.dtype}")

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
            None if the set is moved as a whole; it is left unchanged. If the set is moved in parts,
            a function that returns all its values, part by part, each time it is called. A part may
            be changed when it is moved, and the result may share its memory: the caller must not
            touch it until the steps that use it have returned their losses.
        """
        return self.asarray

    def random_state(self, seed: int) -> np.random.RandomState:
        """Return the host's stream of random numbers for a run: initial parameters and orders."""
        return np.random.RandomState(seed)

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """Set what the library needs to work correctly, within a ``with`` block only.

        A caller's global settings of the library have no effect in it, and come back at its end.
        NumPy's warnings are off, because a run that diverges is reported once, by its loss.
        """
        with np.errstate(all="ignore"):
            yield

    def padded(self, rows: int) -> int:
        """Return how many rows to compute instead of `rows`; 0 where nothing is compiled for it."""
        return 0

    @contextlib.contextmanager
    def strictest(self, needs: Collection[str] = ()) -> Iterator[None]:
        """Make the library as strict as it can be, within a ``with`` block only: for tests.

        Transfers that nobody asked for are errors where the library notices them. Arrays that are
        made without a device are on the backend's, and float64 is there.

        Parameters
        ----------
        needs
            What the standard leaves optional and shall be there nevertheless: "linalg", "fft",
            "boolean indexing", "data-dependent shapes". array-api-strict can do without.
        """
        yield

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return `function`, compiled where the library has a compiler for pure functions."""
        return function

    def fold(self, step: Step) -> Step:
        """Return ``run(carry, rows, *context)``, which steps through the rows of a 2-D array.

        Each step is ``carry, outputs = step(carry, row, *context)``, where `outputs` is a tuple of
        arrays, most of them 0-d; `run` returns the last carry and, for each output, its values in
        all steps, stacked along a new first axis.
        """
        stack = self.xp.stack

        def run(carry: Any, rows: Array, *context: Any) -> tuple[Any, tuple[Array, ...]]:
            outputs = []
            for i in range(rows.shape[0]):
                carry, output = step(carry, rows[i, :], *context)
                outputs.append(output)
            return carry, tuple(stack(column) for column in zip(*outputs, strict=True))

        return run

    def recorded(self, step: Step, eager: Step, leaf: Callable[[Any], Any] | None = None) -> Step:
        """Return the fold of a step, recorded where the backend plays recorded steps.

        Parameters
        ----------
        step
            As for `fold`.
        eager
            Its fold, operation by operation.
        leaf
            ``leaf(xp)`` returns how carry, rows and context hold the library's arrays, a
            `recording.Leaf`, where `xp` is the namespace of arrays that record. If None, they are
            these arrays themselves.
        """
        return eager

    def sweep(
        self,
        fold: Step,
        carry: Any,
        pieces: Sequence[Array],
        context: Sequence[Array],
        told: Callable[[int], None],
    ) -> tuple[Any, list[tuple[Array, ...]]]:
        """Fold over several matrices of rows; return the last carry, and the outputs of each.

        Nothing comes to the host. After each matrix, `told` is called with the number of its steps.
        """
        outputs = []
        for rows in pieces:
            carry, output = fold(carry, rows, *context)
            outputs.append(output)
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

    def _devices(self) -> dict[str, Any]:
        return self.inner._devices()

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
