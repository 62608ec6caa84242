"""`verify`: whether backends agree bit for bit, and which operation differs first if not."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from xpnn.backends import BACKENDS, Backend, get_backend
from xpnn.datasets import Dataset
from xpnn.errors import ArgumentError, BackendError
from xpnn.settings import Settings
from xpnn.verification.record import Record, record
from xpnn.verification.tracing import Trace, trace_of


class Difference(NamedTuple):
    """The largest absolute and the largest relative difference between the arrays of models."""

    absolute: float
    relative: float


@dataclass(frozen=True)
class Verification:
    """What `verify` found.

    Attributes
    ----------
    hashes
        For each backend, `Sequential.sha256` of the untrained model and after each epoch.
    differences
        For each epoch that all backends reached, the largest difference from the first backend's
        parameters and buffers.
    parted
        The first operation, log line or epoch at which a backend differs from the first backend,
        in words; None if all agree.
    logs
        For each backend, the lines of the log: epoch, accuracies and losses.
    diverged
        For each backend whose loss became NaN or infinite, the epoch and batch in words. Its run
        ends there.
    """

    hashes: Mapping[str, Sequence[str]]
    differences: Sequence[Difference]
    parted: str | None
    logs: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    diverged: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def agree(self) -> bool:
        """Whether all hashes and log lines are equal, and all backends diverged or none did.

        Backends that diverged agree if they did so in the same batch, with the same loss.
        """
        return self.parted is None


def usable_backends(names: Sequence[str] | None = None, **options: Any) -> list[Backend]:
    """Return backends by their names, or all that can be used on this machine.

    Parameters
    ----------
    names
        The names, each once; those of all usable backends if None.
    **options
        The options of `xpnn.backends.get_backend`.

    Raises
    ------
    ArgumentError
        If a name is unknown or given twice.
    BackendError
        If a named backend can't be used, or none can.
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


def verify(
    settings: Settings,
    train: Dataset,
    validation: Dataset | None,
    backends: Sequence[Backend],
    **options: Any,
) -> Verification:
    """Train on each backend, and compare the models after each epoch.

    If a backend differs, the run is repeated operation by operation to find the first one whose
    result differs.

    Parameters
    ----------
    settings
        The settings of the run.
    train, validation
        The data.
    backends
        Native or reproducible backends. The first is compared with each of the others.
    **options
        The options of `xpnn.fit` that depend on the data: labels, normalizers, weights.

    Returns
    -------
    verification
        What agrees and what doesn't.

    Raises
    ------
    ArgumentError
        If there is no backend, or settings and data don't fit together.
    """
    if not backends:
        raise ArgumentError("backends must hold at least one, got none")
    records = {
        backend.name: record(settings, train, validation, backend, **options)
        for backend in backends
    }
    reference, *others = records.values()
    reached = min(len(found.arrays) for found in records.values())
    differences = [
        difference(reference.arrays[epoch], [other.arrays[epoch] for other in others])
        for epoch in range(reached)
    ]
    first, parted = backends[0], None
    trace = functools.partial(trace_of, settings, (train, validation), **options)
    for backend in backends[1:]:
        if parted is None:
            pair = reference, records[backend.name]
            batches = -(-len(train.x) // settings.batch_size)
            parted = _first_apart(trace, batches, (first, backend), pair)
    return Verification(
        {name: found.hashes for name, found in records.items()},
        differences,
        parted,
        {name: found.log for name, found in records.items()},
        {name: found.diverged for name, found in records.items() if found.diverged is not None},
    )


def difference(
    reference: Mapping[str, np.ndarray], others: Sequence[Mapping[str, np.ndarray]]
) -> Difference:
    """Return the largest differences of arrays from the reference's of the same name."""
    absolute = relative = 0.0
    for other in others:
        for name, a in reference.items():
            apart = np.abs(a.astype(np.float64) - other[name])
            size = np.maximum(np.abs(a), np.abs(other[name])).astype(np.float64)
            absolute = max(absolute, float(apart.max(initial=0.0)))
            ratios = np.divide(apart, size, out=np.zeros_like(apart), where=size > 0)
            relative = max(relative, float(ratios.max(initial=0.0)))
    return Difference(absolute, relative)


# returns the trace of this many epochs on a backend
_Tracer = Callable[[Backend, int], Trace]


def _first_apart(
    trace: _Tracer, batches: int, pair: Sequence[Backend], records: Sequence[Record]
) -> str | None:
    """Return in words the first disagreement of two backends; None if they agree.

    `batches` is the number of steps of an epoch.
    """
    a, b = records
    differ = " and ".join(backend.name for backend in pair) + " differ"
    epoch = _first_difference(a.hashes, b.hashes)
    ended = ""
    if a.diverged != b.diverged:
        epoch = len(a.hashes) if epoch is None else epoch
        ends = [found.diverged or "its loss is finite there" for found in records]
        named = (f"{backend.name}: {end}" for backend, end in zip(pair, ends, strict=True))
        ended = f" ({'; '.join(named)})"
    if epoch is None:
        line = _first_difference(a.log, b.log)
        if line is None:
            return None
        lines = f"{differ} in the log: {a.log[line]!r} and {b.log[line]!r}"
        operation = _first_operation(trace, batches, pair, max(line, 1))
        return lines if operation is None else f"{lines}; first at {operation}"
    if epoch == 0 and a.hashes and b.hashes:
        return f"{differ} in the initial parameters"
    operation = _first_operation(trace, batches, pair, epoch) if epoch else None
    if operation is not None:
        return f"{differ} first at {operation}{ended}"
    # a compiler may have joined operations that agree one by one
    compiled = ", but agree operation by operation: a compiler makes the difference"
    return f"{differ} at epoch {epoch}{ended or compiled}"


def _first_difference(first: Sequence[str], second: Sequence[str]) -> int | None:
    """Return the first index where two sequences differ, or where only one of them ends."""
    pairs = enumerate(itertools.zip_longest(first, second))
    return next((i for i, (a, b) in pairs if a != b), None)


def _first_operation(
    trace: _Tracer, batches: int, pair: Sequence[Backend], epochs: int
) -> str | None:
    """Return in words the first operation of training with different results on two backends."""
    traces = [trace(backend, epochs) for backend in pair]
    for a, b in zip(*(found.events for found in traces), strict=False):
        if a != b:
            return f"epoch {1 + (a.step - 1) // batches}, {a}"
    return None
