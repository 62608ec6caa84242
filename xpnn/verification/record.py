"""What a run leaves that must be the same on every backend."""

from __future__ import annotations

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
    """What a run left after each epoch, and the untrained network before it.

    Attributes
    ----------
    hashes
        `Sequential.sha256`.
    log
        Epoch, training accuracy and loss, test accuracy and loss, with all their digits.
    weights
        On the host, by name.
    diverged
        What became of the loss, and where, if the run ended so.
    """

    def __init__(self) -> None:
        self.hashes: list[str] = []
        self.log: list[str] = []
        self.weights: list[dict[str, np.ndarray]] = []
        self.diverged: str | None = None

    def on_start(self, run: Run) -> None:
        self.model = run.model

    def on_epoch(self, epoch: Epoch) -> None:
        self.hashes.append(self.model.sha256())
        self.log.append(" ".join(map(repr, epoch[:5])))
        self.weights.append(flatten(self.model.host_parameters()))


def record(
    settings: Settings, train: Dataset, validation: Dataset | None, backend: Backend
) -> Record:
    """Train on a backend and return what the run left, also where it diverged."""
    found = Record()
    model = settings.make_model(train, *([] if validation is None else [validation]))
    try:
        settings.fit(model, train, validation, backend=backend, callbacks=[found])
    except DivergenceError as error:
        found.diverged = str(error)
    return found
