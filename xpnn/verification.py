"""`verify`: whether backends agree bit for bit, and the operation where they part if not."""

from __future__ import annotations

import dataclasses
import importlib.resources
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from xpnn.backends import BACKENDS, Backend, get_backend
from xpnn.datasets import Dataset
from xpnn.errors import ArgumentError, BackendError, DivergenceError
from xpnn.model import Sequential
from xpnn.settings import Settings
from xpnn.tracing import Trace, TracedBackend, TracedLoss, TracedOptimizer, traced
from xpnn.training import Callback, Epoch, fit
from xpnn.tree import flatten


class Difference(NamedTuple):
    """How far two sets of weights are apart: the largest, over all of them."""

    absolute: float
    relative: float


@dataclass(frozen=True)
class Verification:
    """What `verify` found.

    Attributes
    ----------
    hashes
        For each backend, `Sequential.sha256` after each epoch, the untrained network's first.
    differences
        For each epoch, between any backend's weights and the first one's.
    parted
        Where the first backend that differs leaves the first one, in words; None if all agree.
    logs
        For each backend, the lines of the log: epoch, accuracies and losses.
    """

    hashes: Mapping[str, Sequence[str]]
    differences: Sequence[Difference]
    parted: str | None
    logs: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)

    @property
    def agree(self) -> bool:
        """Whether all hashes and all lines of the log are equal."""
        return self.parted is None and all(
            len({tuple(rows) for rows in found.values()}) <= 1 for found in (self.hashes, self.logs)
        )


def usable_backends(names: Sequence[str] | None = None, **options: Any) -> list[Backend]:
    """Return the backends called `names`, or all that can be used here; options as `get_backend`.

    Raises
    ------
    ArgumentError, BackendError
        If one that was named is unknown or can't be used.
    """
    if names is not None:
        if len(set(names)) != len(names):
            raise ArgumentError(f"backends must be different ones, got {', '.join(names)}")
        return [get_backend(name, **options) for name in names]
    found, refused = [], []
    for name in BACKENDS:
        try:
            found.append(get_backend(name, **options))
        except BackendError as error:
            refused.append(str(error))
    if not found:
        raise BackendError("; ".join(refused))
    return found


def generated(
    samples: int = 2000, features: int = 64, classes: int = 10
) -> tuple[Dataset, Dataset]:
    """Return a small classification problem, training and test, alike on every platform.

    A class is a random pattern of bytes, a sample the mean of it and three patterns of noise; as
    MNIST's, features are ``float32(byte / 255)``. Only integers are drawn.
    """
    rng = np.random.RandomState(0)
    patterns = rng.randint(0, 256, (classes, features))
    y = rng.randint(0, classes, samples)
    noise = rng.randint(0, 256, (3, samples, features)).sum(axis=0)
    x = (((patterns[y] + noise) // 4) / 255).astype(np.float32)
    cut = samples * 3 // 4
    return Dataset(x[:cut], y[:cut]), Dataset(x[cut:], y[cut:])


class _Recorder(Callback):
    """Keeps the weights' hash of each epoch, the weights, and the line of the log."""

    def __init__(self) -> None:
        self.hashes: list[str] = []
        self.log: list[str] = []
        self.weights: list[dict[str, np.ndarray]] = []

    def on_start(self, model: Sequential, epochs: int, batches: int) -> None:
        self.model = model

    def on_epoch(self, epoch: Epoch) -> None:
        self.hashes.append(self.model.sha256())
        self.log.append(" ".join(map(repr, epoch[:5])))
        self.weights.append(flatten(self.model.host_parameters()))


def verify(
    settings: Settings, train: Dataset, validation: Dataset | None, backends: Sequence[Backend]
) -> Verification:
    """Train on each backend, and compare the weights after each epoch.

    Parameters
    ----------
    settings
        The run.
    train, validation
        The data.
    backends
        Native or reproducible ones; the first is what the others are compared with.
    """
    if not backends:
        raise ArgumentError("backends must hold at least one, got none")
    recorders = {}
    for backend in backends:
        recorder = recorders[backend.name] = _Recorder()
        model = settings.make_model(train, *([] if validation is None else [validation]))
        try:
            settings.fit(model, train, validation, backend=backend, callbacks=[recorder])
        except DivergenceError as error:
            raise DivergenceError(f"backend {backend.name!r}: {error}") from None
    hashes = {name: recorder.hashes for name, recorder in recorders.items()}
    reference, *others = recorders.values()
    differences = [
        _difference(weights, [other.weights[epoch] for other in others])
        for epoch, weights in enumerate(reference.weights)
    ]
    parted = None
    for backend in backends[1:]:
        own = hashes[backend.name]
        if own != hashes[backends[0].name]:
            pairs = zip(hashes[backends[0].name], own, strict=True)
            epoch = next(i for i, (a, b) in enumerate(pairs) if a != b)
            parted = _part(settings, train, backends[0], backend, epoch)
            break
    logs = {name: recorder.log for name, recorder in recorders.items()}
    first = backends[0].name
    for name, log in logs.items():
        if parted is None and log != logs[first]:
            a, b = next((a, b) for a, b in zip(logs[first], log, strict=True) if a != b)
            parted = f"{first} and {name} differ in the log: {a!r} and {b!r}"
    return Verification(hashes, differences, parted, logs)


def _difference(
    reference: dict[str, np.ndarray], others: Sequence[dict[str, np.ndarray]]
) -> Difference:
    absolute = relative = 0.0
    for other in others:
        for name, a in reference.items():
            apart = np.abs(a.astype(np.float64) - other[name])
            size = np.maximum(np.abs(a), np.abs(other[name])).astype(np.float64)
            absolute = max(absolute, float(apart.max(initial=0.0)))
            ratios = np.divide(apart, size, out=np.zeros_like(apart), where=size > 0)
            relative = max(relative, float(ratios.max(initial=0.0)))
    return Difference(absolute, relative)


def _part(settings: Settings, train: Dataset, first: Backend, second: Backend, epoch: int) -> str:
    """Return in words the first operation whose result two backends disagree on."""
    between = f"{first.name} and {second.name}"
    if epoch == 0:
        return f"{between} differ in the initial weights"
    traces = [_trace(settings, train, backend, epoch) for backend in (first, second)]
    for a, b in zip(*(trace.events for trace in traces), strict=False):
        if a != b:
            return f"{between} differ first at epoch {_epoch_of(a.step, settings, train)}, {a}"
    return f"{between} differ at epoch {epoch}, but not operation by operation: by a compiler"


def _epoch_of(step: int, settings: Settings, train: Dataset) -> int:
    batches = -(-len(train.x) // settings.batch_size)
    return 1 + (step - 1) // batches


def _trace(settings: Settings, train: Dataset, backend: Backend, epochs: int) -> Trace:
    trace = Trace()
    model = traced(settings.make_model(train), trace)
    fit(
        model,
        train,
        loss=TracedLoss(settings.make_loss(), trace),
        optimizer=TracedOptimizer(settings.make_optimizer(), trace),
        epochs=epochs,
        batch_size=settings.batch_size,
        seed=settings.seed,
        backend=TracedBackend(backend, trace),
        callbacks=[_Restart(trace)],
    )
    return trace


class _Restart(Callback):
    """Forgets the events of evaluations, so that steps are those of training."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace

    def on_epoch(self, epoch: Epoch) -> None:
        if epoch.epoch == 0:
            self.trace.events.clear()
            self.trace.step = 0


class Canonical(NamedTuple):
    """A standard run, and the hashes that its weights have on every backend.

    Attributes
    ----------
    name
        What it shows.
    data
        "generated", or "mnist".
    dtype, settings
        The run.
    hashes
        `Sequential.sha256` after each epoch, the untrained network's first.
    log
        The lines of the log: epoch, training accuracy and loss, test accuracy and loss.
    """

    name: str
    data: str
    dtype: str
    settings: Settings
    hashes: tuple[str, ...] = ()
    log: tuple[str, ...] = ()


def canonical_runs() -> list[Canonical]:
    """Return the standard runs whose hashes are written down with xpnn."""
    text = importlib.resources.files("xpnn").joinpath("canonical.json").read_text("utf-8")
    return [
        Canonical(
            run["name"],
            run["data"],
            run["dtype"],
            Settings(**run["settings"]),
            tuple(run["hashes"]),
            tuple(run["log"]),
        )
        for run in json.loads(text)
    ]


def run_canonical(
    run: Canonical, data: tuple[Dataset, Dataset], name: str, *, device: str | None = None
) -> Canonical:
    """Return a standard run with the hashes and the log that the backend called `name` gives."""
    recorder = _Recorder()
    model = run.settings.make_model(*data)
    backend = get_backend(name, device=device, dtype=run.dtype, reproducible=True)
    run.settings.fit(model, *data, backend=backend, callbacks=[recorder])
    return run._replace(hashes=tuple(recorder.hashes), log=tuple(recorder.log))


def as_json(runs: Sequence[Canonical]) -> str:
    """Return the text of ``canonical.json`` for `runs`."""
    default = dataclasses.asdict(Settings())
    listed = [
        {
            **run._asdict(),
            "settings": {
                name: value
                for name, value in dataclasses.asdict(run.settings).items()
                if value != default[name]
            },
        }
        for run in runs
    ]
    return json.dumps(listed, indent=1) + "\n"
