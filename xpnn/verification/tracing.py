"""A backend that notes each operation, where it is in the step, and the hash of its result."""

from __future__ import annotations

import contextlib
import hashlib
import operator
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from xpnn._core.scopes import where
from xpnn.backends import Backend, Step, WrappedBackend
from xpnn.datasets import Dataset
from xpnn.errors import DivergenceError
from xpnn.settings import Settings
from xpnn.training.callback import Callback
from xpnn.training.history import Epoch

Array = Any


class Event(NamedTuple):
    """One operation of a step."""

    step: int
    place: str
    operation: str
    digest: bytes

    def __str__(self) -> str:
        return f"step {self.step}, {self.place}, {self.operation}"


class Trace:
    """The events of a run so far, and the number of its step."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.step = 0

    def add(self, operation: str, raw: Array, backend: Backend) -> None:
        """Note the result of an operation."""
        host = backend.to_numpy(raw)
        if host.dtype.kind == "f":
            # which of the NaNs an operation gives depends on the processor
            host = np.where(np.isnan(host), np.nan, host)
        digest = hashlib.sha256(host.tobytes()).digest()
        # outside of layers, loss and optimizer, a step only takes its mini-batch from the data
        self.events.append(Event(self.step, str(where() or "data"), operation, digest))


class TracedArray:
    """An array of another backend; each operation on it is noted."""

    __slots__ = ("raw", "xp")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, raw: Array, xp: TracedNamespace) -> None:
        self.raw, self.xp = raw, xp

    def __array_namespace__(self, *, api_version: str | None = None) -> TracedNamespace:
        return self.xp

    def __getattr__(self, name: str) -> Any:
        return self.xp.wrapped(getattr(self.raw, name))

    def __getitem__(self, key: Any) -> TracedArray:
        return TracedArray(self.raw[self.xp.unwrapped(key)], self.xp)

    def __bool__(self) -> bool:
        return bool(self.raw)


def _operator(name: str) -> Callable[..., Any]:
    function = getattr(operator, name)

    def noted(*operands: Any) -> Any:
        xp = next(x.xp for x in operands if isinstance(x, TracedArray))
        return xp.noted(name.strip("_"), function(*map(xp.unwrapped, operands)))

    return noted


for _name in ("add", "sub", "mul", "truediv", "pow", "matmul", "and", "or", "xor", "rshift"):
    _function = _operator(f"__{_name}__")
    setattr(TracedArray, f"__{_name}__", _function)
    setattr(TracedArray, f"__r{_name}__", lambda a, b, f=_function: f(b, a))
    # __iadd__ is left out: a += b then means a = a + b, and nothing that was noted changes
for _name in ("neg", "pos", "abs", "invert", "lt", "le", "gt", "ge", "eq", "ne"):
    setattr(TracedArray, f"__{_name}__", _operator(f"__{_name}__"))


class TracedNamespace:
    """The namespace of another backend, with `TracedArray` for its arrays."""

    def __init__(self, backend: Backend, trace: Trace) -> None:
        self._backend, self._trace = backend, trace

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._backend.xp, name)
        if isinstance(attribute, type) or not callable(attribute):
            return attribute

        def function(*args: Any, **kwargs: Any) -> Any:
            named = {key: self.unwrapped(value) for key, value in kwargs.items()}
            return self.noted(name, attribute(*map(self.unwrapped, args), **named))

        return function

    def noted(self, operation: str, result: Any) -> Any:
        """Note a result, if it is an array, and wrap it."""
        if self._backend.owns(result):
            self._trace.add(operation, result, self._backend)
        return self.wrapped(result)

    def wrapped(self, value: Any) -> Any:
        """Return `value`, as a traced array if it is an array of the backend."""
        return TracedArray(value, self) if self._backend.owns(value) else value

    def unwrapped(self, value: Any) -> Any:
        """Return `value` with the backend's own arrays in it."""
        if isinstance(value, TracedArray):
            return value.raw
        if isinstance(value, (list, tuple)):
            return type(value)(map(self.unwrapped, value))
        return value


class TracedBackend(WrappedBackend):
    """Another backend; each operation is noted in `trace`."""

    def __init__(self, inner: Backend, trace: Trace) -> None:
        super().__init__(inner, TracedNamespace(inner, trace))
        self.trace = trace

    @classmethod
    def owns(cls, array: Array) -> bool:
        return isinstance(array, TracedArray)

    @classmethod
    def to_numpy(cls, array: Array) -> np.ndarray:
        return array.xp._backend.to_numpy(array.raw)  # type: ignore[no-any-return]

    def asarray(self, host: np.ndarray) -> Array:
        return TracedArray(self.inner.asarray(host), self.xp)

    def dataset(
        self, values: Callable[[], Iterable[np.ndarray]] | None = None
    ) -> Callable[[np.ndarray], Array]:
        move = self.inner.dataset(values)
        return lambda host: TracedArray(move(host), self.xp)

    def fold(self, step: Step) -> Step:
        def counted(carry: Any, row: Array, *context: Any) -> Any:
            self.trace.step += 1
            return step(carry, row, *context)

        return super().fold(counted)


def trace_of(
    settings: Settings,
    data: tuple[Dataset, Dataset | None],
    backend: Backend,
    epochs: int,
    **options: Any,
) -> Trace:
    """Return the trace of a run's first epochs, on training and validation data.

    A run that diverges is traced to the end of that epoch. `options` are those of `xpnn.fit` that
    depend on the data.
    """
    trace = Trace()
    train, validation = data
    with contextlib.suppress(DivergenceError, _EnoughError):
        settings.fit(
            settings.make_model(train, validation, options.get("labels")),
            train,
            # a schedule may depend on its figures
            validation if settings.schedule else None,
            backend=TracedBackend(backend, trace),
            callbacks=[_Training(trace, epochs)],
            **options,
        )
    return trace


class _EnoughError(Exception):
    """All epochs that were asked for are traced."""


class _Training(Callback):
    """Keep only the events of training steps, and end the run after some epochs.

    A run with fewer epochs wouldn't be the same run: a schedule may depend on their number.
    """

    def __init__(self, trace: Trace, epochs: int) -> None:
        self.trace, self.epochs = trace, epochs
        self.events = self.step = 0

    def on_batches(self, count: int) -> None:
        self.events, self.step = len(self.trace.events), self.trace.step

    def on_epoch(self, epoch: Epoch) -> None:
        del self.trace.events[self.events :]
        self.trace.step = self.step
        if epoch.epoch == self.epochs:
            raise _EnoughError
