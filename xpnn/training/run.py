"""`Run`: a run of `fit` as its callbacks see it."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from xpnn._core.tree import flatten
from xpnn.datasets import Dataset
from xpnn.model import Sequential
from xpnn.training import checkpoint
from xpnn.training.callback import Callback
from xpnn.training.checkpoint import SavedRun
from xpnn.training.history import History
from xpnn.training.plan import Method, Plan
from xpnn.training.samples import Samples


@dataclass(eq=False)
class Run:
    """A run of `fit`, as its callbacks see it.

    Attributes
    ----------
    model
        The model being trained; it has its parameters.
    plan
        The numbers that drive the loop: epochs, batch size, seed, whether samples are shuffled.
    method
        What the loop trains with: loss, optimizer, schedule, largest norm of the gradient.
    samples
        The data, on the host.
    history
        The rows of the log so far. A resumed run begins with some.
    rng
        The stream of random numbers for initial parameters and the order of samples.
    callbacks
        All callbacks of the run.
    resumed
        The file that the run was resumed from, None if there was none.
    finished
        Whether all epochs are done or a callback stopped the run; False after an error or Ctrl-C.
    carry
        What one training step passes to the next, on the device; None during an epoch.
    identities
        What distinguishes each callback from others of its class, noted before the run begins.
    """

    model: Sequential
    plan: Plan
    method: Method
    samples: Samples
    history: History
    rng: np.random.RandomState
    callbacks: tuple[Callback, ...] = ()
    resumed: Path | None = None
    finished: bool = False
    carry: Any = None
    identities: tuple[Any, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.identities = tuple(map(checkpoint.callback_identity, self.callbacks))

    @property
    def epochs(self) -> int:
        """The last epoch of the run."""
        return self.plan.epochs

    @property
    def batches(self) -> int:
        """The number of mini-batches in an epoch."""
        return -(-len(self.samples.train.x) // self.plan.batch_size)

    @property
    def train(self) -> Dataset:
        """The training set."""
        return self.samples.train

    @property
    def validation(self) -> Dataset | None:
        """The validation set, if there is one."""
        return self.samples.validation

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the run, including a seed that was drawn."""
        return self.history.settings

    @functools.cached_property
    def parts(self) -> dict[str, Any]:
        """What must be equal in a resumed run: its parts, and the names in its data."""
        return checkpoint.parts_of(self)

    @functools.cached_property
    def fingerprints(self) -> dict[str, Any]:
        """The fingerprint of each data set; the data are read once for it."""
        return checkpoint.fingerprints(self.samples)

    def stop(self, reason: str) -> None:
        """End the run after this row of the log, as if it had been the last one.

        Parameters
        ----------
        reason
            Kept as `History.stopped`, such as "test_loss hasn't improved for 10 epochs".
        """
        self.history.stopped = reason

    def learned(self) -> dict[str, np.ndarray]:
        """Return copies of all arrays that the model has learned, on the host, by name."""
        return flatten(self.model.host_parameters())

    def restore(self, learned: dict[str, np.ndarray]) -> None:
        """Give the model what `learned` returned; the run itself continues from its own arrays."""
        backend, arrays = self.model.placed()
        assert self.model.inputs is not None
        tree = [{name: learned[f"{i}.{name}"] for name in layer} for i, layer in enumerate(arrays)]
        self.model.place(tree, inputs=self.model.inputs, backend=backend)

    def checkpoint(self) -> SavedRun:
        """Return everything that is needed to continue the run from here.

        Call it between two epochs: in `Callback.on_epoch`, or in `Callback.on_end` if the run is
        `finished`. Pass the result to `xpnn.fit` as ``resume=``.

        Raises
        ------
        ArgumentError
            If a checkpoint can't hold the state of a callback.
        """
        return checkpoint.taken(self)
