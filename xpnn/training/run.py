"""A run of `fit` as its callbacks see it, and what it takes for one to go on from a checkpoint."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xpnn._core.tree import flatten
from xpnn.backends import Backend
from xpnn.datasets import Dataset
from xpnn.errors import ArgumentError, DataError, positive
from xpnn.layers import Layer
from xpnn.losses import CrossEntropy, Loss
from xpnn.model import Sequential
from xpnn.normalizers import Normalizer
from xpnn.optimizers import SGD, Optimizer
from xpnn.schedules import Schedule
from xpnn.training import checkpoint
from xpnn.training.checkpoint import Snapshot
from xpnn.training.history import Epoch, History
from xpnn.training.samples import Samples


class Callback:
    """Base of callbacks, with hooks that do nothing.

    A hook may raise: the run ends there, and what it raised goes to the caller of `fit`.
    """

    def on_start(self, run: Run) -> None:
        """Begin a run; parameters are in place, and the rows of a run that was resumed."""

    def on_batches(self, count: int) -> None:
        """Note that so many more mini-batches have been handed to the backend."""

    def on_epoch(self, epoch: Epoch) -> None:
        """Note a finished row of the log."""

    def on_end(self) -> None:
        """Close up; called in any case, also after an error."""

    def state(self) -> dict[str, Any]:
        """Return what must be there again after the run was resumed, by name.

        NumPy arrays of numbers, numbers, and texts; a snapshot takes copies of them. What follows
        from the history need not be among it.
        """
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `state` returned, before `on_start` of a run that was resumed.

        Empty where the checkpoint has nothing of this callback.
        """


def as_callbacks(given: Any) -> tuple[Callback, ...]:
    """Return callbacks as a tuple, or raise `ArgumentError` if they are none."""
    callbacks = tuple(given) if isinstance(given, Iterable) else None
    if callbacks is None or not all(isinstance(callback, Callback) for callback in callbacks):
        raise ArgumentError(
            f"callbacks must be a list of instances such as CSVLogger('run.csv'), got {given!r}"
        )
    return callbacks


class Method(NamedTuple):
    """How a run trains.

    Attributes
    ----------
    loss, optimizer, schedule, clip_norm
        As `xpnn.fit` takes them; the last two None where there are none.
    """

    loss: Loss
    optimizer: Optimizer
    schedule: Schedule | None = None
    clip_norm: float | None = None


def as_method(
    loss: Any, optimizer: Any, schedule: Any, clip_norm: Any, *, validated: bool
) -> Method:
    """Return how a run is to train; arguments and errors are those of `xpnn.fit`."""
    loss = CrossEntropy() if loss is None else instance("loss", loss, Loss)
    optimizer = SGD() if optimizer is None else instance("optimizer", optimizer, Optimizer)
    schedule = None if schedule is None else instance("schedule", schedule, Schedule)
    if schedule is not None:
        schedule.check(validated)
        if not hasattr(optimizer, "lr"):
            raise ArgumentError(f"optimizer must have an lr for a schedule, got {optimizer!r}")
    clip_norm = None if clip_norm is None else positive("clip_norm", clip_norm)
    return Method(loss, optimizer, schedule, clip_norm)


def instance(name: str, value: Any, base: type[Any]) -> Any:
    """Return a part of a run, or raise `ArgumentError` if it isn't an instance of `base`."""
    if not isinstance(value, base):
        example = {
            "loss": "CrossEntropy()",
            "optimizer": "SGD(lr=0.1)",
            "schedule": "xpnn.schedules.Cosine()",
        }[name]
        raise ArgumentError(f"{name} must be an instance such as {example}, got {value!r}")
    return value


def settings_of(
    method: Method,
    samples: Samples,
    place: Backend,
    *,
    epochs: int,
    batch_size: int,
    seed: int,
    shuffle: bool,
) -> dict[str, Any]:
    """Return what a run is asked for, as its history keeps it."""
    return {
        "loss": repr(method.loss),
        "optimizer": repr(method.optimizer),
        "schedule": None if method.schedule is None else repr(method.schedule),
        "clip_norm": method.clip_norm,
        **samples.weighting,
        "epochs": epochs,
        "batch_size": batch_size,
        "seed": seed,
        "shuffle": bool(shuffle),
        "backend": place.name,
        "device": str(place.device),
        **({} if place.card is None else {"card": place.card}),
        "dtype": place.dtype_name,
        "reproducible": place.options().get("reproducible", False),
        "precision": place.options().get("precision"),
        **({} if samples.image_shape is None else {"image_shape": samples.image_shape}),
        **{name: repr(own) for name, own in samples.normalizers.items() if own is not None},
    }


def parts_of(method: Method, samples: Samples) -> dict[str, Any]:
    """Return what tells the parts of a run from others, see `Run.parts`."""
    return {
        "loss": _told(method.loss),
        "optimizer": _told(method.optimizer),
        "schedule": _told(method.schedule),
        **{name: _told(own) for name, own in samples.normalizers.items()},
        "labels": None if samples.labels is None else samples.labels.tolist(),
        **samples.names,
    }


@dataclass(eq=False)
class Run:
    """A run of `fit`, as its callbacks see it.

    Attributes
    ----------
    model
        What is trained; its parameters are in place.
    epochs
        The last epoch of the run.
    batches
        The mini-batches of an epoch.
    history
        The rows of the log so far. There are some already when a run begins that was resumed.
    train, validation
        The data, on the host.
    weights
        Of the training samples, None if all count alike.
    rng
        The stream that everything random is drawn from.
    callbacks
        All of the run's.
    resumed
        The checkpoint that the run goes on from, None if it began at its beginning.
    parts
        What tells loss, optimizer, schedule, normalizers, labels and names of the columns from
        others, None where there are none.
    finished
        Whether all epochs are done, or the run was stopped; False if an error or Ctrl-C ended it.
    carry
        What a training step hands on to the next, on the device; None within an epoch.
    """

    model: Sequential
    epochs: int
    batches: int
    history: History
    train: Dataset
    validation: Dataset | None
    weights: np.ndarray | None
    rng: np.random.RandomState
    callbacks: tuple[Callback, ...] = ()
    resumed: Path | None = None
    parts: Mapping[str, Any] = field(default_factory=dict)
    finished: bool = False
    carry: Any = None

    @property
    def settings(self) -> dict[str, Any]:
        """What the run was asked for, the seed that was drawn included."""
        return self.history.settings

    def stop(self, reason: str) -> None:
        """End the run after this row of the log, as if it had been the last one.

        Parameters
        ----------
        reason
            Kept as `History.stopped`: "test_loss hasn't improved for 10 epochs".
        """
        self.history.stopped = reason

    def learned(self) -> dict[str, np.ndarray]:
        """Return copies of all that the model has learned, on the host, by name."""
        return flatten(self.model.host_parameters())

    def restore(self, learned: dict[str, np.ndarray]) -> None:
        """Give the model what `learned` returned before; the run itself is not changed by it."""
        backend, arrays = self.model.placed()
        assert self.model.inputs is not None
        tree = [{name: learned[f"{i}.{name}"] for name in layer} for i, layer in enumerate(arrays)]
        self.model.place(tree, inputs=self.model.inputs, backend=backend)

    def snapshot(self) -> Snapshot:
        """Return everything that the run needs to go on from here.

        To be called between two epochs: from `Callback.on_epoch`, or from `Callback.on_end` of a
        run that is `finished`.

        Raises
        ------
        ArgumentError
            If the state of a callback can't be kept.
        """
        if self.carry is None or not self.history:
            raise RuntimeError("a snapshot can be taken between two epochs only")
        state: Any = self.rng.get_state(legacy=False)
        kept = {
            name: checkpoint.checked_state(type(callback).__name__, callback.state())
            for name, callback in self._named_callbacks()
        }
        return Snapshot(
            settings=self._description,
            history=[list(row) for row in self.history],
            data=self._fingerprints,
            random_state=state,
            carry=checkpoint.on_host(self.carry, self.model.placed()[0]),
            callbacks={name: state for name, state in kept.items() if state},
        )

    def resume(self, snapshot: Snapshot) -> None:
        """Take back what `snapshot` returned; the carry must be one of the same form."""
        backend, _ = self.model.placed()
        wrong = checkpoint.same_arrays(snapshot.carry, checkpoint.on_host(self.carry, backend))
        if wrong:
            raise DataError(f"{self.resumed} doesn't fit the model and the optimizer: {wrong}")
        self.carry = checkpoint.on_device(snapshot.carry, self.carry, backend)
        self.rng.set_state(snapshot.random_state)
        for row in snapshot.history:
            self.history.append(Epoch(int(row[0]), *row[1:]))
        self.history.resumed = self.history[-1].epoch
        for name, callback in self._named_callbacks():
            callback.restore(snapshot.callbacks.get(name, {}))

    def check(self, snapshot: Snapshot, schedule: Schedule | None) -> None:
        """Raise if the run of a snapshot was another one; more epochs, it may be asked for.

        Raises
        ------
        ArgumentError, DataError
            Naming the setting or the data set, what it was and what it is.
        """
        done = int(snapshot.history[-1][0])
        free = {"epochs", "card"}
        if self.settings["reproducible"]:
            free |= {"backend", "device"}
        was, now = snapshot.settings, self._description
        for name in [name for name in {**now, **was} if name not in free]:
            if was.get(name) != now.get(name):
                hint = "; a reproducible run may change it" if name in ("backend", "device") else ""
                raise ArgumentError(
                    f"{name} must be {was.get(name)!r} as in {self.resumed}, "
                    f"got {now.get(name)!r}{hint}"
                )
        if self.epochs < done:
            raise ArgumentError(
                f"epochs must be >= {done}, which are done in {self.resumed}, got {self.epochs}"
            )
        if schedule is not None and self._has_changed(schedule, was["epochs"], snapshot.history):
            raise ArgumentError(
                f"epochs must be {was['epochs']} as in {self.resumed}, for {schedule!r} depends on "
                f"them, got {self.epochs}"
            )
        for name, data in self._fingerprints.items():
            before = snapshot.data[name]
            if data != before:
                raise DataError(
                    f"{name} must be the data of {self.resumed}, {_described(before)}, "
                    f"got {_described(data)}"
                )

    def _has_changed(self, schedule: Schedule, epochs: int, log: Sequence[Sequence[Any]]) -> bool:
        """Return whether the epochs that are done would have had other rates in this run."""
        rows = [Epoch(int(row[0]), *row[1:]) for row in log]
        for epoch in range(1, len(rows)):
            times = np.asarray([epoch - 1.0])
            before, now = (
                schedule.factors(times, count, rows[:epoch]) for count in (epochs, self.epochs)
            )
            if before != now:
                return True
        return False

    @functools.cached_property
    def _description(self) -> dict[str, Any]:
        import json

        # a layer's own repr may leave settings out
        layers = [Layer.__repr__(layer) for layer in self.model.layers]
        # as it will come back from a file
        plain = json.dumps({"layers": layers, **self.settings, **self.parts}, default=repr)
        return json.loads(plain)  # type: ignore[no-any-return]

    @functools.cached_property
    def _fingerprints(self) -> dict[str, Any]:
        weights = {} if self.weights is None else {"weights": self.weights}
        sets = {
            "train": {**self.train._asdict(), **weights},
            "validation": None if self.validation is None else self.validation._asdict(),
        }
        return {
            name: None if arrays is None else checkpoint.fingerprint(arrays)
            for name, arrays in sets.items()
        }

    def _named_callbacks(self) -> Iterator[tuple[str, Callback]]:
        """Yield each callback with its class and number: the other ones may come and go."""
        names: list[str] = []
        for callback in self.callbacks:
            kind = type(callback).__name__
            names.append(kind)
            yield f"{kind}-{names.count(kind)}", callback


def _told(part: Any) -> Any:
    """Return a part of a run as text that tells it from others of its kind."""
    if isinstance(part, Normalizer):
        assert part.offset is not None
        assert part.scale is not None
        statistics = checkpoint.fingerprint({"offset": part.offset, "scale": part.scale})
        return f"{part!r} with SHA-256 {statistics['sha256'][:16]}…"
    if not isinstance(part, Loss | Optimizer | Schedule):
        return part
    text = type(part).__name__ if type(part).__repr__ is object.__repr__ else repr(part)
    # a class with an __init__ of its own has attributes that a dataclass's repr doesn't show
    shown = {each.name for each in fields(part)} if is_dataclass(part) else set()
    hidden = []
    for name, value in getattr(part, "__dict__", {}).items():
        if isinstance(getattr(type(part), name, None), functools.cached_property):
            continue
        if isinstance(value, Loss | Optimizer | Schedule):
            inner = _told(value)
            if name not in shown or inner != repr(value):
                hidden.append(f"{name}={inner}")
        elif name not in shown and _is_plain(value):
            hidden.append(f"{name}={value!r}")
    return f"{text} with {', '.join(hidden)}" if hidden else text


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | bool | int | float | np.generic)


def _described(data: dict[str, Any] | None) -> str:
    if data is None:
        return "none"
    parts = [
        f"{name} {'×'.join(map(str, shape))} {dtype}"
        for name, (dtype, *shape) in data.items()
        if name != "sha256"
    ]
    return f"{' and '.join(parts)} with SHA-256 {data['sha256'][:16]}…"
