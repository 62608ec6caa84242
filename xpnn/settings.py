"""The settings of a run as text and numbers: options of the command, and keys of study files."""

from __future__ import annotations

import dataclasses
import json
import re
import typing
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from xpnn._core.registry import Registry
from xpnn.activations import ACTIVATIONS
from xpnn.backends import Backend
from xpnn.datasets import Dataset
from xpnn.errors import ArgumentError, fraction, integer, nonnegative, positive
from xpnn.initializers import INITIALIZERS
from xpnn.layers import Activation, BatchNorm, Dense, Dropout, Layer
from xpnn.losses import LOSSES, Flooding, Loss
from xpnn.model import Sequential
from xpnn.optimizers import OPTIMIZERS, Optimizer
from xpnn.schedules import SCHEDULES, Constant, Schedule, Warmup
from xpnn.training import fit
from xpnn.training.callback import Callback
from xpnn.training.defaults import OTHERS, TABLE
from xpnn.training.history import History

# how help texts show a part with its parameters
PART = "NAME[:P=V,...]"


def _setting(
    default: Any,
    metavar: str | None,
    about: str,
    parts: Registry[Any] | None = None,
    *,
    table: Any = None,
) -> Any:
    """Return a field of `Settings` with its text for ``--help``, in which {} names the `parts`.

    `table`, if given, is the default of `xpnn train` for a table.
    """
    metadata = {"metavar": metavar, "about": about, "parts": parts, "table": table}
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Settings:
    """A run of a fully connected network.

    Each field is an option of `xpnn train` and a key of a study's TOML file; its text is that of
    ``xpnn train --help``. The parts are made at once to check them.

    Raises
    ------
    ArgumentError
        If a name, a parameter or a value isn't allowed.
    """

    hidden: str = _setting("100,50", "N,N", "widths of the hidden layers", table="100")
    activation: str = _setting("relu", PART, "{}", ACTIVATIONS)
    init: str = _setting(
        "uniform", "NAME,...", "initializer of all dense layers, or one for each: {}", INITIALIZERS
    )
    optimizer: str = _setting(OTHERS.optimizer, PART, "{}", OPTIMIZERS, table=TABLE.optimizer)
    loss: str | None = _setting(
        None,
        PART,
        "{}; if left out, the first for classes, the second for values, "
        "the third for several columns of 0 and 1",
        LOSSES,
    )
    flood: float | None = _setting(None, "B", "flood level b: |E - b| + b for the loss E")
    weight_decay: float | None = _setting(None, "W", "L2 weight decay")
    batch_norm: bool = _setting(False, None, "batch normalization of each hidden layer")
    dropout: float | None = _setting(
        None, "P", "after each hidden activation, drop units with probability P"
    )
    schedule: str | None = _setting(None, PART, "schedule of the learning rate: {}", SCHEDULES)
    warmup: float | None = _setting(None, "N", "epochs in which the learning rate rises from 0")
    clip_norm: float | None = _setting(None, "C", "largest norm of the gradient")
    class_weight: str | None = _setting(
        None,
        "W",
        "balanced, or a weight per label: 0=1,1=2.5; labels with commas as JSON: "
        """'{"x, y": 1, "z": 2.5}'""",
    )
    epochs: int = _setting(OTHERS.epochs, "N", "passes over the training data", table=TABLE.epochs)
    batch_size: int = _setting(OTHERS.batch_size, "N", "samples per step", table=TABLE.batch_size)
    seed: int = _setting(10, "N", "seed of initial parameters and shuffles")

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
        """Return the settings with some of them changed."""
        return dataclasses.replace(self, **changes)

    def changed(self) -> dict[str, Any]:
        """Return the settings that differ from the defaults."""
        given = dataclasses.asdict(self)
        return {name: value for name, value in given.items() if value != FIELDS[name]}

    def layers(self, outputs: int) -> list[Layer]:
        """Return the layers of a network with this number of outputs."""
        name, parameters = ACTIVATIONS.parse(self.activation)
        layers: list[Layer] = []
        widths = self._widths()
        *hidden, last = self._initializers(len(widths) + 1)
        for width, initializer in zip(widths, hidden, strict=True):
            layers.append(Dense(width, weight=initializer))
            if self.batch_norm:
                layers.append(BatchNorm())
            layers.append(Activation(name, **parameters))
            if self.dropout is not None:
                layers.append(Dropout(self.dropout))
        return [*layers, Dense(outputs, weight=last)]

    def _initializers(self, count: int) -> list[str]:
        names = [name.strip() for name in self.init.split(",")]
        if len(names) not in (1, count):
            raise ArgumentError(
                f"init must be one initializer, or one for each of the {count} dense layers, "
                f"got {self.init!r}"
            )
        return names if len(names) == count else count * names

    def _widths(self) -> list[int]:
        widths = []
        for text in self.hidden.split(",") if self.hidden else []:
            # no network is wider, and Python reads no number of thousands of digits
            if not re.fullmatch(r"\s*\d{1,100}\s*", text):
                raise ArgumentError(
                    f"hidden must be whole numbers such as 100,50, got {self.hidden!r}"
                )
            widths.append(integer("hidden", int(text), minimum=1))
        return widths

    def make_loss(self, loss: Loss | None = None) -> Loss:
        """Return the loss, which is `loss` instead of the setting if it is given."""
        loss = LOSSES.make(self.loss or "cross_entropy") if loss is None else loss
        if self.flood is not None and isinstance(loss, Flooding):
            loss = loss.loss
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
        """Return the schedule of the learning rate, None if it is constant."""
        schedule = None if self.schedule is None else SCHEDULES.make(self.schedule)
        return schedule if self.warmup is None else Warmup(self.warmup, schedule or Constant())

    def make_class_weight(self) -> dict[str, float] | str | None:
        """Return the weights of the classes, in the form that `fit` takes."""
        if self.class_weight is None or self.class_weight == "balanced":
            return self.class_weight
        weights: dict[str, float] = {}
        for label, weight in _label_weights(self.class_weight):
            if label in weights:
                raise ArgumentError(f"class_weight of {label} is given twice")
            weights[label] = nonnegative(f"class_weight of {label}", weight)
        return weights

    def make_model(
        self, train: Dataset, validation: Dataset | None = None, labels: Any = None
    ) -> Sequential:
        """Return an untrained network with an output per label, or as many as the data need."""
        if labels is None:
            columns = max(map(_columns, filter(None, (train, validation))))
        else:
            columns = len(labels)
        return Sequential(*self.layers(columns * self.make_loss().outputs_per_target))

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
        """Train `model` with `xpnn.fit`, which also gets the `options` that aren't settings."""
        return fit(
            model,
            train,
            validation=validation,
            optimizer=self.make_optimizer(),
            schedule=self.make_schedule(),
            clip_norm=self.clip_norm,
            class_weight=self.make_class_weight(),
            epochs=self.epochs,
            batch_size=self.batch_size,
            seed=self.seed,
            backend=backend,
            callbacks=callbacks,
            verbose=False,
            **{"loss": self.make_loss(), **options},
        )


def _label_weights(text: str) -> list[tuple[str, Any]]:
    """Return the pairs in ``0=1,1=2.5``, or in JSON if the text begins with a brace."""
    if text.lstrip().startswith("{"):
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
                'needs JSON, {"x, y": 1}'
            )
        pairs.append((label.strip(), weight))
    return pairs


def _columns(data: Dataset) -> int:
    if data.y.dtype.kind == "f":
        return int(data.y.shape[1]) if data.y.ndim == 2 else 1
    return max(2, 1 + int(data.y.max(initial=0)))


def types_of(fields: type) -> dict[str, type]:
    """Return the type of each field of a dataclass by name; for ``int | None`` it is int."""
    return {
        name: next((kind for kind in typing.get_args(hint) if kind is not type(None)), hint)
        for name, hint in typing.get_type_hints(fields).items()
    }


# what `xpnn train` takes for a table where nothing else is asked for
FOR_TABLES: dict[str, Any] = {
    field.name: field.metadata["table"]
    for field in dataclasses.fields(Settings)
    if field.metadata["table"] is not None
}
FIELDS: dict[str, Any] = {field.name: field.default for field in dataclasses.fields(Settings)}
