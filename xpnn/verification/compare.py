"""`verify`: whether backends agree bit for bit, and the operation where they part if not."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from xpnn.backends import BACKENDS, Backend, get_backend
from xpnn.datasets import Dataset
from xpnn.errors import ArgumentError, BackendError
from xpnn.settings import Settings
from xpnn.verification.record import Record, record
from xpnn.verification.tracing import Event, trace_of


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
        For each epoch that all backends reached, between any one's weights and the first one's.
    parted
        Where the first backend that differs leaves the first one, in words; None if all agree.
    logs
        For each backend, the lines of the log: epoch, accuracies and losses.
    diverged
        For each backend whose loss became NaN or infinite, and whose run ended there, the epoch
        and batch in words.
    """

    hashes: Mapping[str, Sequence[str]]
    differences: Sequence[Difference]
    parted: str | None
    logs: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    diverged: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def agree(self) -> bool:
        """Whether all hashes and all lines of the log are equal, and all diverged or none did.

        Backends that diverged agree if it was in the same batch, with the same loss.
        """
        found = (
            (tuple(own), tuple(self.logs.get(name, ())), self.diverged.get(name))
            for name, own in self.hashes.items()
        )
        return self.parted is None and len(set(found)) <= 1


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
    records = {backend.name: record(settings, train, validation, backend) for backend in backends}
    reference, *others = records.values()
    everywhere = min(len(found.weights) for found in records.values())
    differences = [
        _difference(reference.weights[epoch], [other.weights[epoch] for other in others])
        for epoch in range(everywhere)
    ]
    parted = None
    for backend in backends[1:]:
        pair = (reference, records[backend.name])
        parted = _part(settings, (train, validation), (backends[0], backend), pair)
        if parted is not None:
            break
    return Verification(
        {name: found.hashes for name, found in records.items()},
        differences,
        parted,
        {name: found.log for name, found in records.items()},
        {name: found.diverged for name, found in records.items() if found.diverged is not None},
    )


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


# training and validation data
_Data = tuple[Dataset, Dataset | None]


def _part(
    settings: Settings, data: _Data, pair: Sequence[Backend], records: Sequence[Record]
) -> str | None:
    """Return in words the first thing that two backends disagree on; None if there is none."""
    between = " and ".join(backend.name for backend in pair)
    apart = f"{between} differ"
    a, b = records
    ends = [found.diverged or "its loss is finite there" for found in records]
    ended = "; ".join(f"{backend.name}: {end}" for backend, end in zip(pair, ends, strict=True))
    epoch = _first_difference(a.hashes, b.hashes)
    if epoch is None and a.diverged != b.diverged:
        epoch = len(a.hashes)
    if epoch is None:
        line = _first_difference(a.log, b.log)
        if line is None:
            return None
        lines = f"{apart} in the log: {a.log[line]!r} and {b.log[line]!r}"
        event = _first_event(settings, data, pair, max(line, 1))
        if event is None:
            return lines
        return f"{lines}; first at epoch {_epoch_of(event.step, settings, data[0])}, {event}"
    if epoch == 0 and a.hashes and b.hashes:
        return f"{apart} in the initial weights"
    event = _first_event(settings, data, pair, epoch) if epoch else None
    if event is not None:
        where = f"{apart} first at epoch {_epoch_of(event.step, settings, data[0])}, {event}"
        return where if a.diverged == b.diverged else f"{where} ({ended})"
    if a.diverged != b.diverged:
        return f"{apart} at epoch {epoch} ({ended})"
    return f"{apart} at epoch {epoch}, but not operation by operation: by a compiler"


def _first_difference(first: Sequence[str], second: Sequence[str]) -> int | None:
    """Return the first index where two sequences differ, or where only one of them ends."""
    pairs = enumerate(itertools.zip_longest(first, second))
    return next((i for i, (a, b) in pairs if a != b), None)


def _first_event(
    settings: Settings, data: _Data, pair: Sequence[Backend], epochs: int
) -> Event | None:
    """Return the first operation of training whose result two backends disagree on."""
    traces = [trace_of(settings, data, backend, epochs) for backend in pair]
    events = zip(*(trace.events for trace in traces), strict=False)
    return next((a for a, b in events if a != b), None)


def _epoch_of(step: int, settings: Settings, train: Dataset) -> int:
    batches = -(-len(train.x) // settings.batch_size)
    return 1 + (step - 1) // batches
