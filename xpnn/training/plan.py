"""How a run trains: `Plan`, its numbers, and `Method`, its parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from xpnn._core.registry import Registry
from xpnn.backends import Backend, namespace
from xpnn.errors import ArgumentError, integer, positive, unknown
from xpnn.losses import LOSSES, Loss
from xpnn.metrics import Metric, as_metrics
from xpnn.model import Sequential
from xpnn.optimizers import OPTIMIZERS, Optimizer
from xpnn.schedules import SCHEDULES, Schedule, Warmup
from xpnn.task import Task
from xpnn.training.samples import Samples


@dataclass(frozen=True)
class Plan:
    """The numbers that drive the loop; see `xpnn.fit`."""

    epochs: int
    batch_size: int
    seed: int
    shuffle: bool = True

    def __post_init__(self) -> None:
        vars(self).update(  # a frozen class takes no other assignment
            epochs=integer("epochs", self.epochs, minimum=0),
            batch_size=integer("batch_size", self.batch_size, minimum=1),
            seed=integer("seed", self.seed, minimum=0, maximum=2**32 - 1),
            shuffle=bool(self.shuffle),
        )


class Method(NamedTuple):
    """The parts that a run trains with, as in `xpnn.fit`, and its metrics.

    `schedule` and `clip_norm` may be None.
    """

    loss: Loss
    optimizer: Optimizer
    schedule: Schedule | None = None
    clip_norm: float | None = None
    metrics: tuple[Metric, ...] = ()

    def columns(self, *, validated: bool) -> dict[str, bool]:
        """Return the figures of a log that can get better, and whether a smaller one is."""
        own = {"accuracy": False, "loss": True} | {m.column: m.minimized for m in self.metrics}
        parts = ("test", "train") if validated else ("train",)
        return {f"{part}_{name}": smaller for part in parts for name, smaller in own.items()}


def as_method(
    loss: Loss, optimizer: Any, schedule: Any, clip_norm: Any, *, validated: bool
) -> Method:
    """Return the checked parts of a run; arguments and errors are those of `xpnn.fit`."""
    optimizer = made("optimizer", optimizer)
    schedule = None if schedule is None else made("schedule", schedule)
    if schedule is not None:
        schedule.check(validated)
        if not hasattr(optimizer, "lr"):
            raise ArgumentError(f"optimizer must have an lr for a schedule, got {optimizer!r}")
    clip_norm = None if clip_norm is None else positive("clip_norm", clip_norm)
    return Method(loss, optimizer, schedule, clip_norm)


# for the part of a run that each argument gives
_PARTS: dict[str, tuple[Registry[Any], type[Any], str]] = {
    "loss": (LOSSES, Loss, "'cross_entropy' or CrossEntropy()"),
    "optimizer": (OPTIMIZERS, Optimizer, "'sgd:lr=0.1' or SGD(lr=0.1)"),
    "schedule": (SCHEDULES, Schedule, "'cosine' or xpnn.schedules.Cosine()"),
}


def measuring(method: Method, metrics: Any, model: Sequential, samples: Samples) -> Method:
    """Return a method with metrics; arguments and errors are those of `xpnn.fit`."""
    x, y = samples.train.x, samples.train.y
    found = metrics_for(metrics, method.loss, model.outputs(x.shape[1]), y, samples.task)
    method = method._replace(metrics=found)
    schedule = method.schedule
    while isinstance(schedule, Warmup):
        schedule = schedule.then
    monitor = getattr(schedule, "monitor", None)
    if monitor is not None:
        columns = method.columns(validated=samples.validation is not None)
        if monitor not in columns:
            raise unknown("monitor of the schedule", monitor, columns)
    return method


def metrics_for(
    metrics: Any, loss: Loss, outputs: int, y: np.ndarray, task: Task
) -> tuple[Metric, ...]:
    """Return the metrics that were asked for, checked to fit the loss and the targets."""
    if metrics is None:
        return ()
    some = np.zeros((1, outputs))
    classifies = loss.chosen(some, y[:1], xp=namespace(some)) is not None
    return as_metrics(metrics, task, classifies=classifies)


def made(name: str, value: Any) -> Any:
    """Return a part of a run, which is given as an instance or as its name with parameters.

    Raises
    ------
    ArgumentError
        If it is neither, or the name or a parameter is unknown.
    """
    registry, base, example = _PARTS[name]
    if isinstance(value, str):
        return registry.make(value)
    if not isinstance(value, base):
        raise ArgumentError(f"{name} must be such as {example}, got {value!r}")
    return value


def run_settings(plan: Plan, method: Method, samples: Samples, backend: Backend) -> dict[str, Any]:
    """Return the settings of a run as its history keeps them.

    The loop never reads them back; a resumed run is compared by them.
    """
    task, options = samples.task, backend.options()
    normalizers = {"normalizer": task.normalizer, "target_normalizer": task.target_normalizer}
    return {
        "loss": repr(method.loss),
        "optimizer": repr(method.optimizer),
        "schedule": None if method.schedule is None else repr(method.schedule),
        "clip_norm": method.clip_norm,
        **({"metrics": list(map(repr, method.metrics))} if method.metrics else {}),
        **samples.weighting,
        "epochs": plan.epochs,
        "batch_size": plan.batch_size,
        "seed": plan.seed,
        "shuffle": plan.shuffle,
        "backend": backend.name,
        "device": str(backend.device),
        **({} if backend.card is None else {"card": backend.card}),
        "dtype": backend.dtype_name,
        "reproducible": options.get("reproducible", False),
        "precision": options.get("precision"),
        **backend.arithmetic(),
        **({} if task.image_shape is None else {"image_shape": task.image_shape}),
        **{name: repr(own) for name, own in normalizers.items() if own is not None},
    }
