"""The log of a run for TensorBoard."""

from __future__ import annotations

import contextlib
import math
import os
import time
from pathlib import Path
from typing import Any

from xpnn._core.files import PathLike
from xpnn.errors import ArgumentError
from xpnn.training.callback import Callback
from xpnn.training.history import Epoch
from xpnn.training.run import Run


class TensorBoard(Callback):
    """Writes each row of the log to TensorBoard's event files.

    Training and test are two runs, in the folders "train" and "test" beneath, so that TensorBoard
    draws the two into one chart: "accuracy" and "loss", and "seconds", the epoch's time. The step
    is the epoch. What isn't known is left out. Event files hold float32.

    Parameters
    ----------
    folder
        Made if it isn't there. Event files that are there stay, and TensorBoard shows them
        together with the new ones: a folder for each run, unless a run goes on.

    Raises
    ------
    ArgumentError
        If tensorboardX isn't installed, or the folder can't be written to.
    """

    def __init__(self, folder: PathLike) -> None:
        try:
            import tensorboardX  # noqa: F401
        except ImportError:
            raise ArgumentError(
                "tensorboard needs tensorboardX; install it with: pip install tensorboardX"
            ) from None
        self.folder = Path(folder)
        self._writers: dict[str, Any] = {}
        nearest = next(p for p in (self.folder, *self.folder.absolute().parents) if p.exists())
        if not nearest.is_dir():
            raise self._refused(f"{nearest} is a file")
        if not os.access(nearest, os.W_OK):
            raise self._refused("permission denied")

    def on_start(self, run: Run) -> None:
        self._run, self._writers = run, {}

    def _open(self) -> None:
        import uuid

        # not SummaryWriter: its thread loses errors, and a full disk would make it wait for ever
        from tensorboardX.event_file_writer import EventsWriter

        for part in ("train", "test"):
            place = self.folder / part
            try:
                place.mkdir(parents=True, exist_ok=True)
                # the writer's own name holds no more than the second, and it overwrites;
                # TensorBoard reads files in the order of their names
                suffix = f".{time.time_ns()}.{uuid.uuid4().hex}"
                self._writers[part] = EventsWriter(str(place / "events"), suffix)
            except OSError as error:
                raise self._refused(str(error.strerror)) from None
        if self._run.history.resumed is not None:
            self._purge(self._run.history.resumed + 1)

    def _purge(self, step: int) -> None:
        """Tell TensorBoard that what it read of this step and later ones is void."""
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        start = SessionLog(status=SessionLog.START)
        for writer in self._writers.values():
            writer.write_event(Event(wall_time=time.time(), step=step, session_log=start))

    def on_epoch(self, epoch: Epoch) -> None:
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import scalar

        if not self._writers:
            self._open()
        for part, writer in self._writers.items():
            figures = {name: getattr(epoch, f"{part}_{name}") for name in ("accuracy", "loss")}
            if part == "train":
                figures["seconds"] = epoch.seconds
            try:
                for name, value in figures.items():
                    if not math.isnan(value):
                        summary = scalar(name, value)
                        writer.write_event(
                            Event(wall_time=time.time(), step=epoch.epoch, summary=summary)
                        )
                writer.flush()
            except OSError as error:
                raise self._refused(str(error.strerror)) from None

    def on_end(self) -> None:
        for writer in self._writers.values():
            # what a full disk didn't take was reported when it was written
            with contextlib.suppress(OSError):
                writer.close()

    def _refused(self, reason: str) -> ArgumentError:
        return ArgumentError(
            f"tensorboard must be a folder that can be written to, got {str(self.folder)!r}: "
            f"{reason}"
        )
