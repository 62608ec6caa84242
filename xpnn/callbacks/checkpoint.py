"""Checkpoints of a run, written while it trains."""

from __future__ import annotations

import contextlib

from xpnn._core.files import PathLike, check_writable, locked, same_file
from xpnn.errors import ArgumentError, integer
from xpnn.training import checkpoint
from xpnn.training.callback import Callback
from xpnn.training.history import Epoch
from xpnn.training.run import Run


class Checkpoint(Callback):
    """Write everything that ``fit(…, resume=path)`` needs to continue a run.

    The file is complete at any time. The one before it is kept as ``FILE.previous``, which
    `resume` reads if the newer one is damaged. A resumed run ends with the same bits as one that
    was never stopped. Only one run at a time may write to a file.

    Parameters
    ----------
    path
        A new file, or the one that the run is resumed from. The checkpoint of another run is never
        overwritten.
    every
        The number of epochs from one checkpoint to the next. The end of the run is always saved.

    Raises
    ------
    ArgumentError
        If the file can't be written, at the start or later, if another run is writing to it, or if
        it can't hold the state of a callback.
        The last complete checkpoint is still there.
    """

    def __init__(self, path: PathLike, *, every: int = 1) -> None:
        self.path = check_writable("checkpoint", path)
        self.every = integer("every", every, minimum=1)
        self._run: Run | None = None
        self._lock = contextlib.ExitStack()

    def on_start(self, run: Run) -> None:
        self._run, self._rows = run, 0
        with contextlib.ExitStack() as lock:
            for path in (self.path, *checkpoint.kept(self.path)):
                lock.enter_context(locked("checkpoint", path))
            self._check_own(run)
            self._lock = lock.pop_all()

    def _check_own(self, run: Run) -> None:
        """Raise if the file is the checkpoint of another run."""
        if run.resumed is not None and same_file(run.resumed, self.path):
            self._rows = len(run.history)
            return
        for path in (self.path, *checkpoint.kept(self.path)):
            if path.is_file() and path.stat().st_size:
                raise ArgumentError(
                    f"checkpoint must be a new file, or the one to resume from, got {str(path)!r}, "
                    "which is there already: resume from it, or delete it"
                )

    def on_epoch(self, epoch: Epoch) -> None:
        if epoch.epoch % self.every == 0:
            self._save()

    def on_end(self) -> None:
        with self._lock:
            if self._run is not None and self._run.finished and self._rows < len(self._run.history):
                self._save()

    def _save(self) -> None:
        assert self._run is not None
        checkpoint.write(self._run.checkpoint(), self.path)
        self._rows = len(self._run.history)
