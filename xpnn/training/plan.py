"""How a run trains: `Plan`, its numbers, and `Method`, its parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from xpnn._core.registry import Registry
from xpnn.backends import Backend
from xpnn.errors import ArgumentError, integer, positive
from xpnn.losses import LOSSES, Loss
from xpnn.optimizers import OPTIMIZERS, SGD, Optimizer
from xpnn.schedules import SCHEDULES, Schedule
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
    """The parts that a run trains with, as in `xpnn.fit`; the last two may be None."""

    loss: Loss
    optimizer: Optimizer
    schedule: Schedule | None = None
    clip_norm: float | None = None


def as_method(
    loss: Loss, optimizer: Any, schedule: Any, clip_norm: Any, *, validated: bool
) -> Method:
    """Return the checked parts of a run; arguments and errors are those of `xpnn.fit`."""
    optimizer = SGD() if optimizer is None else made("optimizer", optimizer)
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
        **({} if task.image_shape is None else {"image_shape": task.image_shape}),
        **{name: repr(own) for name, own in normalizers.items() if own is not None},
    }
