"""The log of a run: `History`, a sequence of `Epoch`, and the sums that its figures come from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from xpnn import metrics
from xpnn._core.tables import html_table
from xpnn.errors import ArgumentError, DivergenceError, unknown
from xpnn.losses import Loss
from xpnn.metrics import Metric
from xpnn.task import Task

if TYPE_CHECKING:
    import pandas as pd

# rows of a log in a notebook
_SHOWN = 20


class _Measured:
    """Base class of named tuples of figures with metrics, which are attributes too.

    A figure that isn't defined is NaN, and neither its text nor `_asdict` has it.
    """

    metrics: Mapping[str, float] = MappingProxyType({})

    def measured(self, metrics: Mapping[str, float]) -> Self:
        """Return the figures with these metrics."""
        if metrics:
            self.metrics = dict(metrics)
        return self

    def __getattr__(self, name: str) -> float:
        if name in self.metrics:
            return self.metrics[name]
        kind = type(self).__name__
        raise AttributeError(f"{kind!r} object has no attribute {name!r}", name=name, obj=self)

    def _asdict(self) -> dict[str, float]:
        """Return what there is by name: the fields that are defined, then the metrics."""
        fields: dict[str, float] = super()._asdict()  # type: ignore[misc]
        known = {name: value for name, value in fields.items() if not math.isnan(value)}
        return {**known, **self.metrics}

    def __repr__(self) -> str:
        listed = (f"{name}={value!r}" for name, value in self._asdict().items())
        return f"{type(self).__name__}({', '.join(listed)})"


class _Evaluation(NamedTuple):
    accuracy: float
    loss: float


class Evaluation(_Measured, _Evaluation):
    """Accuracy, from 0 to 1, and loss on a data set.

    Attributes
    ----------
    accuracy, loss
        The two of which the tuple consists. The accuracy is NaN if the targets are values; the text
        of an evaluation and its `_asdict` then don't have it.
    metrics
        The value of each metric that was asked for, by its `Metric.column`; each is also an
        attribute.
    """


UNKNOWN = Evaluation(math.nan, math.nan)


class Figures:
    """Accuracy and loss of a data set, collected as sums over mini-batches.

    Parameters
    ----------
    loss
        The loss function, which turns the mean of its sums into the value in the log.
    epoch
        The number of the epoch, for messages.
    training
        Whether the mini-batches belong to training steps, not to an evaluation.
    metrics
        The metrics of the run.
    """

    def __init__(
        self, loss: Loss, epoch: int, *, training: bool, metrics: Sequence[Metric] = ()
    ) -> None:
        self._loss, self._epoch, self._training = loss, epoch, training
        self._columns: list[list[float]] = []
        self._metrics, self._measures = metrics, list[list[np.ndarray]]()

    def add(self, *sums: Iterable[np.ndarray], weighted: bool = False) -> None:
        """Add the sums of mini-batches.

        Parameters
        ----------
        sums
            The sums of the losses and, if the loss counts them, of the hits: each an iterable of
            1-D arrays on the host, one value for each mini-batch. Then what `metrics.measures`
            returned, stacked.
        weighted
            Whether the samples have weights.

        Raises
        ------
        DivergenceError
            If one of the losses is NaN or infinite.
        """
        first = len(sums) - metrics.count_of_measures(self._metrics, weighted=weighted)
        sums, more = sums[:first], sums[first:]
        self._measures = self._measures or [[] for _ in more]
        for kept, parts in zip(self._measures, more, strict=True):
            kept += parts
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

    def evaluation(self, samples: int, task: Task, *, padded: bool = False) -> Evaluation:
        """Return the figures of this many samples; `padded` if others without weight are last."""
        losses, *hits = (math.fsum(column) / samples for column in self._columns)
        loss = self._loss.value(losses)
        if not math.isfinite(loss):
            raise DivergenceError(
                f"the loss became {loss} at epoch {self._epoch}, though its sums are finite: "
                f"{self._loss!r} makes it of {losses}"
            )
        found = Evaluation(hits[0] if hits else math.nan, loss)
        if not self._metrics:
            return found
        count = samples if padded else None
        values = metrics.measured(self._metrics, self._measures, task, count=count)
        return found.measured(values)


class _Epoch(NamedTuple):
    epoch: int
    train_accuracy: float
    train_loss: float
    test_accuracy: float
    test_loss: float
    seconds: float


class Epoch(_Measured, _Epoch):
    """A row of a run's log. Row 0 is the untrained network, evaluated on both sets.

    In the other rows the training figures are running ones: each mini-batch is evaluated with the
    parameters before its step. Test figures are NaN without a validation set, and accuracies are
    NaN if the targets aren't classes.

    Attributes
    ----------
    epoch, train_accuracy, train_loss, test_accuracy, test_loss, seconds
        The six of which the tuple consists. The text of a row and its `_asdict` have those that
        aren't NaN.
    metrics
        The values of the metrics of the run by name, such as "train_f1" and "test_f1", the latter
        only with a validation set; each is also an attribute.
    """

    def _replace(self, **changes: Any) -> Epoch:
        return Epoch(*super()._replace(**changes)).measured(self.metrics)

    @property
    def figures(self) -> dict[str, float]:
        """The figures by name, in the order of a log: all but the epoch and the seconds."""
        return {**dict(zip(self._fields[1:5], self[1:5], strict=True)), **self.metrics}

    @property
    def logged(self) -> list[str]:
        """The names of the figures that a log has.

        A regression has no accuracy, and a run without a validation set no test figures. Row 0
        decides for the whole log.
        """
        return [
            name
            for name, value in self.figures.items()
            if not (math.isnan(value) and name in self._fields)
        ]


class History(Sequence[Epoch]):
    """The log of a run: a sequence of `Epoch`, row 0 first.

    Parameters
    ----------
    settings
        The settings of the run, including a seed that was drawn. If a step on NumPy couldn't be
        recorded and so ran more slowly, ``settings["not_recorded"]`` says why.

    Attributes
    ----------
    resumed
        The last epoch that came from a checkpoint, None if the run began at its beginning.
    stopped
        Why a callback stopped the run, None if none did.
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

    @property
    def names(self) -> list[str]:
        """The names of the columns of a log: those of the figures that there are, metrics too."""
        if not self:
            return list(Epoch._fields)
        known = {name for row in self for name in row.logged}
        return ["epoch", *(name for name in self[0].figures if name in known), "seconds"]

    def _repr_html_(self) -> str:
        names = self.names
        rows = []
        for row in self:
            values = (getattr(row, name) for name in names[1:])
            rows.append([str(row.epoch), *("" if math.isnan(v) else f"{v:.4g}" for v in values)])
        # the middle of a long run is left out
        if len(rows) > _SHOWN:
            half = _SHOWN // 2
            rows[half:-half] = [["…"] * len(names)]
        names = [name.replace("_", " ") for name in names]
        caption = f"stopped: {self.stopped}" if self.stopped is not None else ""
        return html_table([names, *rows], numeric=range(len(names)), caption=caption)

    def to_pandas(self) -> pd.DataFrame:
        """Return the log as a pandas DataFrame: its columns by name, its epochs as the index.

        Raises
        ------
        ArgumentError
            If pandas isn't installed.
        """
        try:
            import pandas as pd
        except ImportError:
            raise ArgumentError(
                "to_pandas needs pandas; install it with: pip install pandas"
            ) from None
        columns = {name: self.column(name) for name in self.names}
        return pd.DataFrame(columns).set_index("epoch")

    def append(self, epoch: Epoch) -> None:
        """Add a row."""
        self._epochs.append(epoch)

    def extend(self, epochs: Iterable[Epoch]) -> None:
        """Add rows."""
        self._epochs.extend(epochs)

    def column(self, name: str) -> list[float]:
        """Return the values of one column, such as "test_loss".

        Raises
        ------
        ArgumentError
            If there is no such column.
        """
        known = (*Epoch._fields, *(self[0].metrics if self else ()))
        if name not in known:
            raise unknown("column", name, known)
        return [getattr(epoch, name) for epoch in self._epochs]

    @property
    def seconds(self) -> float:
        """The total time of all epochs in seconds."""
        return math.fsum(self.column("seconds"))

    def best(self, name: str = "test_accuracy") -> tuple[int, float] | None:
        """Return the epoch where a column is largest, and its value there; None if all are NaN."""
        return metrics.best(self.column(name))

    def first_reached(self, level: float, name: str = "test_accuracy") -> int | None:
        """Return the first epoch where a column is `level` or more, None if there is none."""
        return metrics.first_reached(self.column(name), level)
