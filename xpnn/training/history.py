"""The log of a run: `History`, a sequence of `Epoch`, and the figures that it is made of."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from xpnn import metrics
from xpnn.errors import DivergenceError
from xpnn.losses import Loss


class Evaluation(NamedTuple):
    """Accuracy, from 0 to 1, and loss on a data set. NaN where there is nothing to count."""

    accuracy: float
    loss: float


UNKNOWN = Evaluation(math.nan, math.nan)


class Figures:
    """The sums over mini-batches that the figures of a data set are made of.

    Parameters
    ----------
    loss
        Whose sums they are.
    epoch
        For messages.
    training
        Whether the mini-batches are those of training steps, and not of an evaluation.
    """

    def __init__(self, loss: Loss, epoch: int, *, training: bool) -> None:
        self._loss, self._epoch, self._training = loss, epoch, training
        self._columns: list[list[float]] = []

    def add(self, *sums: Iterable[np.ndarray]) -> None:
        """Add those of mini-batches: of the losses, and of the hits if any, in parts on the host.

        Raises
        ------
        DivergenceError
            If one of the losses is NaN or infinite.
        """
        self._columns = self._columns or [[] for _ in sums]
        done = len(self._columns[0])
        for column, parts in zip(self._columns, sums, strict=True):
            for part in parts:
                column += map(float, part)
        for i, value in enumerate(self._columns[0][done:], done + 1):
            if not math.isfinite(value):
                where = f"batch {i}" if self._training else "the evaluation"
                hint = "; a smaller learning rate may help" if self._epoch else ""
                raise DivergenceError(
                    f"the loss became {value} at epoch {self._epoch}, in {where}{hint}"
                )

    def evaluation(self, samples: int) -> Evaluation:
        """Return the figures over so many samples."""
        losses, *hits = (math.fsum(column) / samples for column in self._columns)
        return Evaluation(hits[0] if hits else math.nan, self._loss.value(losses))


class Epoch(NamedTuple):
    """A row of a run's log. Row 0 is the untrained network, evaluated on both sets.

    The training figures of the other rows are running ones: each mini-batch counts as it was
    predicted before its step. Without a validation set, the test figures are NaN; so are
    accuracies where the targets aren't classes.
    """

    epoch: int
    train_accuracy: float
    train_loss: float
    test_accuracy: float
    test_loss: float
    seconds: float


class History(Sequence[Epoch]):
    """The log of a run: a sequence of `Epoch`, row 0 first.

    Parameters
    ----------
    settings
        What the run was asked for, the seed that was drawn included. If a step of NumPy's couldn't
        be recorded, ``settings["not_recorded"]`` says why.

    Attributes
    ----------
    resumed
        The last epoch that came from a checkpoint, None if the run began at its beginning.
    stopped
        Why the run ended before its last epoch, None if it didn't.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.resumed: int | None = None
        self.stopped: str | None = None
        self._epochs: list[Epoch] = []

    def __getitem__(self, index: Any) -> Any:
        return self._epochs[index]

    def __len__(self) -> int:
        return len(self._epochs)

    def __repr__(self) -> str:
        return f"History({len(self)} epochs, last: {self[-1] if self else None})"

    def append(self, epoch: Epoch) -> None:
        """Add a row."""
        self._epochs.append(epoch)

    def column(self, name: str) -> list[float]:
        """Return the values of one column, such as "test_loss"."""
        return [getattr(epoch, name) for epoch in self._epochs]

    @property
    def seconds(self) -> float:
        """The time that all epochs took."""
        return math.fsum(self.column("seconds"))

    def best(self, name: str = "test_accuracy") -> tuple[int, float] | None:
        """Return the epoch where a column is largest, and its value there; None if all are NaN."""
        return metrics.best(self.column(name))

    def first_reached(self, level: float, name: str = "test_accuracy") -> int | None:
        """Return the first epoch where a column is `level` or more, None if there is none."""
        return metrics.first_reached(self.column(name), level)
