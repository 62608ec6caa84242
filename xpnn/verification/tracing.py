"""A backend that notes each operation, where it is in the step, and the hash of its result."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import array_api_compat
import numpy as np

from xpnn._core.scopes import where
from xpnn.backends import Backend, Step, WrappedBackend, to_numpy
from xpnn.datasets import Dataset
from xpnn.errors import DivergenceError
from xpnn.settings import Settings
from xpnn.testing.tracing import TracedArray, TracedNamespace
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

    def record(self, operation: str, operands: tuple[Any, ...], call: Callable[[], Any]) -> Any:
        """Return the result of an operation, and note it if it is an array and new."""
        result = call()
        if array_api_compat.is_array_api_obj(result) and operation != "getitem":
            self.add(operation, result)
        return result

    def add(self, operation: str, raw: Array) -> None:
        """Note the result of an operation."""
        host = to_numpy(raw)
        if host.dtype.kind == "f":
            # which of the NaNs an operation gives depends on the processor
            host = np.where(np.isnan(host), np.nan, host)
        digest = hashlib.sha256(host.tobytes()).digest()
        # outside of layers, loss and optimizer, a step only takes its mini-batch from the data
        self.events.append(Event(self.step, str(where() or "data"), operation, digest))


class TracedBackend(WrappedBackend):
    """Another backend; each operation is noted in `trace`."""

    def __init__(self, inner: Backend, trace: Trace) -> None:
        super().__init__(inner, TracedNamespace(inner.xp, trace.record))
        self.trace = trace

    @classmethod
    def owns(cls, array: Array) -> bool:
        return isinstance(array, TracedArray)

    @classmethod
    def to_numpy(cls, array: Array) -> np.ndarray:
        return to_numpy(array.raw)

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
