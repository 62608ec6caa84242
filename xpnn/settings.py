"""What a training run is asked for, as text and numbers: at the command line, in files."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from xpnn.activations import ACTIVATIONS
from xpnn.backends import Backend
from xpnn.datasets import Dataset
from xpnn.errors import ArgumentError, fraction, integer, nonnegative, positive
from xpnn.layers import Activation, BatchNorm, Dense, Dropout, Layer
from xpnn.losses import LOSSES, Flooding, Loss
from xpnn.model import Sequential
from xpnn.optimizers import OPTIMIZERS, Optimizer
from xpnn.schedules import SCHEDULES, Constant, Schedule, Warmup
from xpnn.training import fit
from xpnn.training.callback import Callback
from xpnn.training.history import History


@dataclass(frozen=True)
class Settings:
    """A run of a fully connected network; its parts are built, and so checked, at once.

    Parameters
    ----------
    hidden
        Widths of the hidden layers, "100,50"; none if empty.
    activation, optimizer, loss
        A registered name with parameters: "h_swish:n=6", "nesterov:lr=0.1,mu=0.9".
    flood
        The flood level around the loss, no `Flooding` if None.
    weight_decay
        Of the optimizer; its own if None.
    batch_norm
        Whether a `BatchNorm` follows each hidden `Dense` layer.
    dropout
        The p of a `Dropout` after each hidden activation, none if None.
    schedule
        A registered name with parameters, "cosine:final=0.01"; a constant learning rate if None.
    warmup
        Epochs of `Warmup` before the schedule, none if None.
    clip_norm
        As for `fit`.
    class_weight
        "balanced" as for `fit`, or labels with their weights: "0=1,1=2.5", or for labels with
        commas JSON, '{"x, y": 1, "z": 2.5}'.
    epochs, batch_size, seed
        As for `fit`.

    Raises
    ------
    ArgumentError
        If a name, a parameter or a value isn't allowed.
    """

    hidden: str = "100,50"
    activation: str = "relu"
    optimizer: str = "sgd:lr=0.1"
    loss: str = "cross_entropy"
    flood: float | None = None
    weight_decay: float | None = None
    batch_norm: bool = False
    dropout: float | None = None
    schedule: str | None = None
    warmup: float | None = None
    clip_norm: float | None = None
    class_weight: str | None = None
    epochs: int = 50
    batch_size: int = 100
    seed: int = 10

    def __post_init__(self) -> None:
        integer("epochs", self.epochs, minimum=0)
        integer("batch_size", self.batch_size, minimum=1)
        integer("seed", self.seed, minimum=0, maximum=2**32 - 1)
        if self.flood is not None:
            nonnegative("flood", self.flood)
        if self.clip_norm is not None:
            positive("clip_norm", self.clip_norm)
        if self.dropout is not None:
            fraction("dropout", self.dropout)
        if self.warmup is not None:
            positive("warmup", self.warmup)
        self.layers(outputs=2)
        self.make_loss()
        self.make_optimizer()
        self.make_schedule()
        self.make_class_weight()

    def replaced(self, **changes: Any) -> Settings:
        """Return the settings with some changed."""
        return dataclasses.replace(self, **changes)

    def layers(self, outputs: int) -> list[Layer]:
        """Return the layers, up to so many outputs."""
        name, parameters = ACTIVATIONS.parse(self.activation)
        layers: list[Layer] = []
        for width in self.hidden.split(",") if self.hidden else []:
            if not width.strip().isdecimal():
                raise ArgumentError(
                    f"hidden must be whole numbers such as 100,50, got {self.hidden!r}"
                )
            units = integer("hidden", int(width), minimum=1)
            layers.append(Dense(units))
            layers += [BatchNorm()] if self.batch_norm else []
            layers.append(Activation(name, **parameters))
            layers += [Dropout(self.dropout)] if self.dropout is not None else []
        return [*layers, Dense(outputs)]

    def make_loss(self) -> Loss:
        """Return the loss."""
        name, parameters = LOSSES.parse(self.loss)
        loss = LOSSES[name](**parameters)
        return loss if self.flood is None else Flooding(loss, b=self.flood)

    def make_optimizer(self) -> Optimizer:
        """Return the optimizer."""
        name, parameters = OPTIMIZERS.parse(self.optimizer)
        if self.weight_decay is not None:
            if "weight_decay" in parameters:
                raise ArgumentError(
                    f"weight_decay is given twice: in {self.optimizer!r} and as {self.weight_decay}"
                )
            parameters["weight_decay"] = self.weight_decay
        return OPTIMIZERS[name](**parameters)

    def make_schedule(self) -> Schedule | None:
        """Return the learning-rate schedule, if any."""
        schedule = None
        if self.schedule is not None:
            name, parameters = SCHEDULES.parse(self.schedule)
            schedule = SCHEDULES[name](**parameters)
        return schedule if self.warmup is None else Warmup(self.warmup, schedule or Constant())

    def make_class_weight(self) -> dict[str, float] | str | None:
        """Return the classes' weights, if any."""
        if self.class_weight is None or self.class_weight == "balanced":
            return self.class_weight
        weights: dict[str, float] = {}
        for label, weight in _label_weights(self.class_weight):
            if label in weights:
                raise ArgumentError(f"class_weight of {label} is given twice")
            weights[label] = nonnegative(f"class_weight of {label}", weight)
        return weights

    def make_model(self, *data: Dataset) -> Sequential:
        """Return the untrained network for the classes or values in `data`."""
        return Sequential(*self.layers(max(_outputs(part) for part in data)))

    def fit(
        self,
        model: Sequential,
        train: Dataset,
        validation: Dataset | None,
        *,
        backend: Backend,
        callbacks: Iterable[Callback] = (),
        **options: Any,
    ) -> History:
        """Train `model` as `fit` does, with such of its options as aren't settings."""
        arguments = {**self.arguments(), "backend": backend, "callbacks": callbacks, **options}
        return fit(model, train, validation=validation, **arguments)

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of `fit` that the settings stand for."""
        return {
            "loss": self.make_loss(),
            "optimizer": self.make_optimizer(),
            "schedule": self.make_schedule(),
            "clip_norm": self.clip_norm,
            "class_weight": self.make_class_weight(),
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "seed": self.seed,
        }


def _label_weights(text: str) -> list[tuple[str, Any]]:
    """Return the pairs in ``0=1,1=2.5``, or in the JSON of a text that begins with a brace."""
    if text.lstrip().startswith("{"):
        import json

        try:
            # parse_int: a whole number may be too large for a float
            return json.loads(text, object_pairs_hook=list, parse_int=float)  # type: ignore[no-any-return]
        except (RecursionError, ValueError) as error:
            raise ArgumentError(
                f'class_weight must be JSON such as {{"0": 1, "1": 2.5}}, got {text!r}: {error}'
            ) from None
    pairs: list[tuple[str, Any]] = []
    for item in text.split(","):
        label, equals, weight = item.rpartition("=")
        if not equals and item == text:
            raise ArgumentError(
                f"class_weight must be 'balanced' or weights such as 0=1,1=2.5, got {text!r}"
            )
        if not equals:
            raise ArgumentError(
                f"class_weight must be such as 0=1,1=2.5, got {item!r}; a label with a comma "
                'wants JSON, {"x, y": 1}'
            )
        pairs.append((label.strip(), weight))
    return pairs


def _outputs(data: Dataset) -> int:
    if data.y.dtype.kind == "f":
        return int(data.y.shape[1]) if data.y.ndim == 2 else 1
    return max(2, 1 + int(data.y.max(initial=0)))


FIELDS: dict[str, Any] = {field.name: field.default for field in dataclasses.fields(Settings)}
