"""The log of a run for TensorBoard."""

from __future__ import annotations

import contextlib
import math
import time
from typing import Any

from xpnn._core.files import PathLike, check_folder, not_a_folder
from xpnn.errors import ArgumentError, WriteError
from xpnn.training.callback import Callback
from xpnn.training.history import Epoch
from xpnn.training.run import Run


class TensorBoard(Callback):
    """Write each row of the log to TensorBoard's event files.

    Training and test figures go to two subfolders, "train" and "test", so that TensorBoard draws
    both in one chart. The tags are "accuracy", "loss", the names of the metrics and, in "train",
    "seconds", the time of the epoch. The step is the epoch. NaN is left out. Event files hold
    float32.

    Parameters
    ----------
    folder
        The folder; created if it doesn't exist. TensorBoard shows event files that are already in
        it together with the new ones, so give each run its own folder unless you resume one.

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
        self.folder = check_folder("tensorboard", folder)
        self._writers: dict[str, Any] = {}

    def on_start(self, run: Run) -> None:
        self._run, self._writers = run, {}

    def _open(self) -> None:
        import uuid

        # not SummaryWriter: its thread loses errors, and waits forever if the disk is full
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        for part in ("train", "test"):
            subfolder = self.folder / part
            subfolder.mkdir(parents=True, exist_ok=True)
            # the writer's own names have a resolution of one second, so that a second run would
            # overwrite the first; TensorBoard reads files in the order of their names
            suffix = f".{time.time_ns()}.{uuid.uuid4().hex}"
            self._writers[part] = EventsWriter(str(subfolder / "events"), suffix)
        if self._run.history.resumed is not None:
            # TensorBoard then discards what it has read of this step and later ones
            step = self._run.history.resumed + 1
            start = SessionLog(status=SessionLog.START)
            for writer in self._writers.values():
                writer.write_event(Event(wall_time=time.time(), step=step, session_log=start))

    def on_epoch(self, epoch: Epoch) -> None:
        try:
            if not self._writers:
                self._open()
            for part, writer in self._writers.items():
                self._write(epoch, part, writer)
        except OSError as error:
            raise WriteError(not_a_folder("tensorboard", self.folder, error.strerror)) from None

    def _write(self, epoch: Epoch, part: str, writer: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import scalar

        begin = f"{part}_"
        own = (pair for pair in epoch.figures.items() if pair[0].startswith(begin))
        figures = {name.removeprefix(begin): value for name, value in own}
        if part == "train":
            figures["seconds"] = epoch.seconds
        for name, value in figures.items():
            if not math.isnan(value):
                now, summary = time.time(), scalar(name, value)
                writer.write_event(Event(wall_time=now, step=epoch.epoch, summary=summary))
        writer.flush()

    def on_end(self) -> None:
        for writer in self._writers.values():
            # if the disk is full, the write that failed has raised already
            with contextlib.suppress(OSError):
                writer.close()
