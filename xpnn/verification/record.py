"""The record of a run: what must be the same on every backend."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnn._core.tree import flatten
from xpnn.backends import Backend
from xpnn.datasets import Dataset
from xpnn.errors import DivergenceError
from xpnn.settings import Settings
from xpnn.training.callback import Callback
from xpnn.training.history import Epoch
from xpnn.training.run import Run


class Record(Callback):
    """Record the model and the log line before training and after each epoch.

    Attributes
    ----------
    hashes
        `Sequential.sha256` of each model.
    log
        Epoch, training accuracy and loss, test accuracy and loss, with all digits.
    arrays
        Parameters and buffers of each model on the host, by layer and name.
    diverged
        Where the loss became NaN or infinite, in words; the run ends there. None if it didn't.
    """

    def __init__(self) -> None:
        self.hashes: list[str] = []
        self.log: list[str] = []
        self.arrays: list[dict[str, np.ndarray]] = []
        self.diverged: str | None = None

    def on_start(self, run: Run) -> None:
        self.model = run.model

    def on_epoch(self, epoch: Epoch) -> None:
        self.hashes.append(self.model.sha256())
        self.log.append(" ".join(map(repr, epoch[:5])))
        self.arrays.append(flatten(self.model.host_parameters()))


def record(
    settings: Settings,
    train: Dataset,
    validation: Dataset | None,
    backend: Backend,
    **options: Any,
) -> Record:
    """Train on a backend, and return the record of the run until it ends or diverges.

    `options` are those of `xpnn.fit` that depend on the data, such as ``labels``.
    """
    found = Record()
    model = settings.make_model(train, validation, options.get("labels"))
    try:
        settings.fit(model, train, validation, backend=backend, callbacks=[found], **options)
    except DivergenceError as error:
        found.diverged = str(error)
    return found
