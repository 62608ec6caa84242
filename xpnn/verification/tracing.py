"""Runs that note every operation: what it was, where in the network, and its result's hash."""

from __future__ import annotations

import contextlib
import hashlib
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from xpnn._core.tree import Tree
from xpnn.backends import Backend, Step, WrappedBackend
from xpnn.layers import Layer, Pullback
from xpnn.losses import Loss
from xpnn.model import Sequential
from xpnn.optimizers import Optimizer, State

Array = Any


class Event(NamedTuple):
    """One operation of a training step."""

    step: int
    place: str
    operation: str
    digest: bytes

    def __str__(self) -> str:
        return f"step {self.step}, {self.place}, {self.operation}"


class Trace:
    """The events of a run so far, and where it stands."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.step = 0
        self.place = "data"

    def add(self, operation: str, raw: Array, backend: Backend) -> None:
        """Note the result of an operation."""
        host = backend.to_numpy(raw)
        if host.dtype.kind == "f":
            # which of the NaNs an operation gives depends on the processor
            host = np.where(np.isnan(host), np.nan, host)
        digest = hashlib.sha256(host.tobytes()).digest()
        self.events.append(Event(self.step, self.place, operation, digest))

    @contextlib.contextmanager
    def at(self, place: str) -> Iterator[None]:
        """Note events as from `place`."""
        before, self.place = self.place, place
        yield
        self.place = before


class TracedArray:
    """An array of another backend whose every operation is noted."""

    __slots__ = ("raw", "xp")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, raw: Array, xp: TracedNamespace) -> None:
        self.raw, self.xp = raw, xp

    def __array_namespace__(self, *, api_version: str | None = None) -> TracedNamespace:
        return self.xp

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)

    def __getitem__(self, key: Any) -> TracedArray:
        return TracedArray(self.raw[self.xp.unwrapped(key)], self.xp)


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

        def noted(*args: Any, **kwargs: Any) -> Any:
            named = {key: self.unwrapped(value) for key, value in kwargs.items()}
            return self.noted(name, attribute(*map(self.unwrapped, args), **named))

        return noted

    def noted(self, operation: str, result: Any) -> Any:
        """Note a result, if it is an array, and wrap it."""
        if not self._backend.owns(result):
            return result
        self._trace.add(operation, result, self._backend)
        return TracedArray(result, self)

    def unwrapped(self, value: Any) -> Any:
        """Return `value` with the backend's own arrays in it."""
        if isinstance(value, TracedArray):
            return value.raw
        if isinstance(value, (list, tuple)):
            return type(value)(map(self.unwrapped, value))
        return value


class TracedBackend(WrappedBackend):
    """Another backend, each operation noted in `trace`."""

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
            with self.trace.at("data"):
                return step(carry, row, *context)

        return super().fold(counted)


class TracedLayer(Layer):
    """A layer whose events are noted as its own."""

    def __init__(self, layer: Layer, name: str, trace: Trace) -> None:
        self.layer, self.name, self.trace = layer, name, trace

    @property
    def kind(self) -> str:
        return self.layer.kind

    def config(self) -> dict[str, Any]:
        return self.layer.config()

    def outputs(self, inputs: int) -> int:
        return self.layer.outputs(inputs)

    def shapes(self, inputs: int) -> dict[str, tuple[int, ...]]:
        return self.layer.shapes(inputs)

    def initialize(self, inputs: int, rng: np.random.RandomState) -> dict[str, np.ndarray]:
        return self.layer.initialize(inputs, rng)

    @property
    def draws(self) -> bool:
        return self.layer.draws

    def buffers(self, inputs: int) -> dict[str, np.ndarray]:
        return self.layer.buffers(inputs)

    def forward(
        self, parameters: Mapping[str, Array], x: Array, *, xp: Any
    ) -> tuple[Array, Pullback]:
        with self.trace.at(f"{self.name} forward"):
            y, pullback = self.layer.forward(parameters, x, xp=xp)
        return y, self._noted(pullback)

    def train(
        self,
        parameters: Mapping[str, Array],
        buffers: dict[str, Array],
        x: Array,
        key: Array | None,
        *,
        xp: Any,
    ) -> tuple[Array, Pullback, dict[str, Array]]:
        with self.trace.at(f"{self.name} forward"):
            y, pullback, moved = self.layer.train(parameters, buffers, x, key, xp=xp)
        return y, self._noted(pullback), moved

    def _noted(self, pullback: Pullback) -> Pullback:
        def noted(dy: Array, input_gradient: bool = True) -> Any:
            with self.trace.at(f"{self.name} backward"):
                return pullback(dy, input_gradient=input_gradient)

        return noted


class TracedLoss(Loss):
    """A loss whose events are noted as its own."""

    name = "traced"

    def __init__(self, loss: Loss, trace: Trace) -> None:
        self.loss, self.trace = loss, trace

    def value(self, mean: Any) -> Any:
        return self.loss.value(mean)

    def check(self, outputs: int) -> None:
        self.loss.check(outputs)

    def samples(self, outputs: Array, targets: Array, *, xp: Any) -> tuple[Array, Array]:
        with self.trace.at("loss"):
            return self.loss.samples(outputs, targets, xp=xp)

    def weighted(
        self, outputs: Array, targets: Array, weights: Array, *, xp: Any
    ) -> tuple[Array, Array]:
        with self.trace.at("loss"):
            return self.loss.weighted(outputs, targets, weights, xp=xp)

    def reported(self, samples: Array, *, xp: Any) -> Array:
        with self.trace.at("loss"):
            return self.loss.reported(samples, xp=xp)

    def hits(self, outputs: Array, targets: Array, *, xp: Any) -> Array | None:
        with self.trace.at("accuracy"):
            return self.loss.hits(outputs, targets, xp=xp)


class TracedOptimizer(Optimizer):
    """An optimizer whose events are noted as its own."""

    optimizer: Optimizer
    trace: Trace

    def __init__(self, optimizer: Optimizer, trace: Trace) -> None:
        object.__setattr__(self, "optimizer", optimizer)
        object.__setattr__(self, "trace", trace)

    @property
    def lr(self) -> Any:
        """The optimizer's own, if it has one."""
        return self.optimizer.lr  # type: ignore[attr-defined]

    def init(self, parameters: Tree, *, xp: Any = None) -> State:
        return self.optimizer.init(parameters, xp=xp)

    def update(
        self, parameters: Tree, gradients: Tree, state: State, *, xp: Any = None
    ) -> tuple[Tree, State]:
        with self.trace.at("optimizer"):
            return self.optimizer.update(parameters, gradients, state, xp=xp)

    def at(self, lr: Any) -> Optimizer:
        return TracedOptimizer(self.optimizer.at(lr), self.trace)

    def rule(self, w: Array, g: Array, *slots: Array, xp: Any) -> tuple[Array, ...]:
        raise NotImplementedError


def traced(model: Sequential, trace: Trace) -> Sequential:
    """Return an untrained model of the same layers, their events noted by name."""
    names = [row.layer for row in model.summary(1)]
    return Sequential(
        *(TracedLayer(layer, name, trace) for layer, name in zip(model.layers, names, strict=True))
    )
