"""`Callback`: the base class of what a run calls while it trains."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from xpnn.errors import ArgumentError
from xpnn.training.history import Epoch

if TYPE_CHECKING:
    from xpnn.training.run import Run


class Callback:
    """Base class of callbacks, with hooks that do nothing.

    A hook that raises ends the run, and `fit` raises the same error. If `on_epoch` raises an
    `OSError`, as where the disk is full, the callbacks after it have the row all the same.

    A Ctrl-C during `on_epoch` waits until all callbacks have the row, so that what they write is
    whole; a second one doesn't wait.
    """

    def on_start(self, run: Run) -> None:
        """Prepare for a run, or refuse it by raising an error.

        The model has its parameters, and a resumed run has its earlier rows. Don't write any file
        here: another callback may still refuse the run.
        """

    def on_batches(self, count: int) -> None:
        """Handle progress: `count` more mini-batches have been handed to the backend."""

    def on_epoch(self, epoch: Epoch) -> None:
        """Handle a finished row of the log."""

    def on_end(self) -> None:
        """Clean up. Called after an error as well, but only if `on_start` has returned."""

    def state(self) -> dict[str, Any]:
        """Return what the callback needs when the run is resumed, by name.

        The values are NumPy arrays of numbers, numbers, or strings; a checkpoint copies them.
        Leave out what can be computed from the history.
        """
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `state` returned; called before `on_start` of a resumed run.

        The dictionary is empty if the checkpoint has no state of this callback.
        """


def as_callbacks(given: Any) -> tuple[Callback, ...]:
    """Return callbacks as a tuple, or raise `ArgumentError` if they aren't callbacks."""
    callbacks = tuple(given) if isinstance(given, Iterable) else None
    if callbacks is None or not all(isinstance(callback, Callback) for callback in callbacks):
        raise ArgumentError(
            f"callbacks must be a list of instances such as CSVLogger('run.csv'), got {given!r}"
        )
    return callbacks
