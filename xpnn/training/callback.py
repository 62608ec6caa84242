"""`Callback`: what a run calls while it goes on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from xpnn.errors import ArgumentError
from xpnn.training.history import Epoch

if TYPE_CHECKING:
    from xpnn.training.run import Run


class Callback:
    """Base class of callbacks, with hooks that do nothing.

    A hook may raise: the run ends there, and the caller of `fit` gets what was raised.
    """

    def on_start(self, run: Run) -> None:
        """Note the run that begins, or refuse it by raising.

        Parameters are in place, and so are the rows of a run that is resumed. Nothing is to be
        written yet: another callback may refuse the run.
        """

    def on_batches(self, count: int) -> None:
        """Note that `count` more mini-batches have been handed to the backend."""

    def on_epoch(self, epoch: Epoch) -> None:
        """Note a finished row of the log."""

    def on_end(self) -> None:
        """Clean up. Called after an error as well, but only if `on_start` has returned."""

    def state(self) -> dict[str, Any]:
        """Return what the callback needs when the run is resumed, by name.

        NumPy arrays of numbers, numbers, and texts; a checkpoint takes copies of them. What follows
        from the history need not be included.
        """
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `state` returned, before `on_start` of a resumed run.

        The dictionary is empty if the checkpoint holds nothing of this callback.
        """


def as_callbacks(given: Any) -> tuple[Callback, ...]:
    """Return callbacks as a tuple, or raise `ArgumentError` if they aren't callbacks."""
    callbacks = tuple(given) if isinstance(given, Iterable) else None
    if callbacks is None or not all(isinstance(callback, Callback) for callback in callbacks):
        raise ArgumentError(
            f"callbacks must be a list of instances such as CSVLogger('run.csv'), got {given!r}"
        )
    return callbacks
