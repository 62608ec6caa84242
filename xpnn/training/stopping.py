"""Early stopping."""

from __future__ import annotations

import math
from typing import Any, NoReturn

import numpy as np

from xpnn.errors import ArgumentError, DataError, counted, integer, nonnegative, unknown
from xpnn.metrics import monitored
from xpnn.training.callback import Callback
from xpnn.training.history import Epoch
from xpnn.training.run import Run


class EarlyStopping(Callback):
    """End a run that no longer improves, and go back to the best parameters (Prechelt 1998).

    As in Keras, an epoch is an improvement if its figure is better than the best one before it by
    more than `min_delta`. The first epoch always is one; the untrained network doesn't count.

    Parameters
    ----------
    monitor
        A column of the log, such as "test_loss", or "test_f1" if the run has this metric. A loss is
        best where it is smallest, an accuracy where it is largest, a metric as its class says; that
        must be registered.
    patience
        Stop after this many epochs in a row without improvement, >= 1.
    min_delta
        The change that a figure must exceed to be an improvement, >= 0.
    restore_best
        Whether the model gets the parameters of the best epoch when the run ends, even if it ends
        with an error.

    Attributes
    ----------
    best
        The epoch of the last improvement, None before the first.

    Raises
    ------
    ArgumentError
        If an argument isn't allowed, the run has no such figure, or the checkpoint that it is
        resumed from lacks the parameters of the best epoch because `monitor` has changed.

    References
    ----------
    L. Prechelt, *Early stopping, but when?*, Neural Networks: Tricks of the Trade (1998).
    """

    def __init__(
        self,
        monitor: str = "test_loss",
        *,
        patience: int = 10,
        min_delta: float = 0.0,
        restore_best: bool = True,
    ) -> None:
        self.monitor = monitored("monitor", monitor)
        self.patience = integer("patience", patience, minimum=1)
        self.min_delta = nonnegative("min_delta", min_delta)
        self.restore_best = restore_best
        self.best: int | None = None
        self._run: Run | None = None
        # the parameters to restore, and their epoch
        self._best: dict[str, np.ndarray] = {}
        self._epoch: int | None = None

    def on_start(self, run: Run) -> None:
        columns = run.method.columns(validated=True)
        if self.monitor not in columns:
            raise unknown("monitor", self.monitor, columns)
        if run.validation is None and self.monitor.startswith("test_"):
            self._missing()
        self._minimized = columns[self.monitor]
        self._begin(run)
        for row in run.history:
            self._note(row)
        self._stop()
        if self._best:
            self._check(run)
        if self.best is None or not self.restore_best:
            return
        if self.best == run.history[-1].epoch:
            self._keep()
        elif self.best != self._epoch:
            raise ArgumentError(
                f"restore_best needs the parameters of epoch {self.best}, the best by "
                f"{self.monitor}, which {run.resumed} doesn't hold"
            )

    def on_epoch(self, epoch: Epoch) -> None:
        self._note(epoch)
        self._stop()
        if self.restore_best and self.best == epoch.epoch:
            self._keep()

    def on_end(self) -> None:
        # a checkpoint of a run with another `monitor` has the parameters of another epoch
        wanted = self.restore_best and self.best is not None and self.best == self._epoch
        if wanted and self._run is not None:
            self._run.restore(self._best)
        self._run = None

    def state(self) -> dict[str, Any]:
        return {**self._best, "epoch": self._epoch} if self._best else {}

    def restore(self, state: dict[str, Any]) -> None:
        epoch = state.get("epoch")
        self._epoch = epoch if isinstance(epoch, int) else None
        self._best = {n: array for n, array in state.items() if isinstance(array, np.ndarray)}

    def _check(self, run: Run) -> None:
        """Raise unless the parameters that a checkpoint holds can be those of the model."""
        was, now = (
            {name: (array.shape, array.dtype) for name, array in arrays.items()}
            for arrays in (self._best, run.learned())
        )
        if was != now or not 0 <= (self._epoch or 0) < len(run.history):
            raise DataError(
                f"{run.resumed or 'resume'} has damaged metadata: the best parameters must be "
                f"those of the model, {now}, at an epoch up to {len(run.history) - 1}, got {was} "
                f"at {self._epoch}"
            )

    def _begin(self, run: Run) -> None:
        self._run, self._figure, self.best = run, math.nan, None
        if run.history.resumed is None:
            self._best, self._epoch = {}, None

    def _note(self, row: Epoch) -> None:
        value = getattr(row, self.monitor)
        if row.epoch == 0:
            if math.isnan(value):
                self._missing()
            return
        value = -value if self._minimized else value
        if self.best is None or value - self.min_delta > self._figure:
            self.best, self._figure = row.epoch, value

    def _stop(self) -> None:
        if self._run is None or self.best is None:
            return
        waited = len(self._run.history) - 1 - self.best
        if waited >= self.patience:
            self._run.stop(
                f"{self.monitor} was best at epoch {self.best}, {counted(waited, 'epoch')} before"
            )

    def _keep(self) -> None:
        assert self._run is not None
        self._best, self._epoch = self._run.learned(), self.best

    def _missing(self) -> NoReturn:
        raise ArgumentError(
            f"monitor must be a figure that the run has, got {self.monitor!r}; test figures need "
            "validation data, accuracies need classes"
        )


def stopped_early(callbacks: tuple[Callback, ...], patience: int | None) -> tuple[Callback, ...]:
    """Return the callbacks of a run, with an `EarlyStopping` before them unless they have one."""
    if patience is None or any(isinstance(callback, EarlyStopping) for callback in callbacks):
        return callbacks
    return (EarlyStopping("test_loss", patience=patience), *callbacks)
