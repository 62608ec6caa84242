"""Callbacks: what joins the loop from outside.

Log and event files, what a terminal shows, checkpoints, early stopping.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NoReturn

import numpy as np

from xpnn._core.files import PathLike, check_writable, replacing
from xpnn._core.registry import Registry
from xpnn.errors import ArgumentError, DataError, integer, nonnegative, unknown
from xpnn.training import checkpoint
from xpnn.training.history import Epoch
from xpnn.training.run import Callback, Run

# figures that can get better
MONITORS = Epoch._fields[1:5]

CALLBACKS: Registry[type[Callback]] = Registry(
    "callback", lambda: Callback, lambda callback: callback.__name__.lower()
)
register = CALLBACKS.register


class CSVLogger(Callback):
    """Writes each row of the log to a CSV file as soon as it is there.

    Numbers have all their digits, so that they read back as the same floats.

    Parameters
    ----------
    path
        Overwritten when a run starts. A run that was resumed goes on with the rows that are there,
        up to its checkpoint's.
    hashes
        Whether to add a last column "weights_sha256", `Sequential.sha256` after the epoch. Empty
        for rows that come from a checkpoint, where the file isn't there any more.
    """

    def __init__(self, path: PathLike, *, hashes: bool = False) -> None:
        self.path = check_writable("log", path)
        self.hashes = hashes
        self._file: IO[str] | None = None

    def on_start(self, run: Run) -> None:
        self._model, self._file = run.model, None
        if not run.history:
            # the old one stays until all callbacks have begun: one may refuse
            return
        # a kill between checkpoint and log leaves the last row out
        hashes = [*[""] * (len(run.history) - 1), self._model.sha256()]
        lines = [self._header()]
        lines += [self._line(row, own) for row, own in zip(run.history, hashes, strict=True)]
        lines = self._continued(lines)
        with self._writing(), replacing(self.path) as beside:
            beside.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        self._open("a")

    def on_epoch(self, epoch: Epoch) -> None:
        if self._file is None:
            self._open("w")
            self._write(self._header())
        self._write(self._line(epoch, self._model.sha256() if self.hashes else ""))

    def on_end(self) -> None:
        if self._file is not None:
            # what a full disk didn't take was reported when it was written
            with contextlib.suppress(OSError):
                self._file.close()

    def _header(self) -> str:
        return ",".join([*Epoch._fields, *["weights_sha256"] * self.hashes])

    def _line(self, row: Epoch, weights: str) -> str:
        return ",".join([*map(repr, row), *[weights] * self.hashes])

    def _open(self, mode: str) -> None:
        with self._writing():
            self._file = self.path.open(mode, encoding="utf-8", newline="")

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ArgumentError(
                f"log must be a file that can be written, got {str(self.path)!r}: {error.strerror}"
            ) from None

    def _write(self, line: str) -> None:
        assert self._file is not None
        try:
            self._file.write(line + "\n")
            self._file.flush()
        except OSError as error:
            raise ArgumentError(f"can't write log {str(self.path)!r}: {error.strerror}") from None

    def _continued(self, lines: list[str]) -> list[str]:
        """Return the lines to begin with, those of the file where it has them."""
        if not self.path.is_file():
            return lines
        text = self.path.read_bytes().decode(errors="replace")
        # a line that a kill cut off has no end
        there = text.split("\n")[:-1][: len(lines)]
        if not there and not lines[0].startswith(text):
            there = [text]
        for number, (line, wanted) in enumerate(zip(there, lines, strict=False), 1):
            # seconds may be those of another attempt
            width = None if number == 1 else 5
            if line.split(",")[:width] != wanted.split(",")[:width]:
                raise ArgumentError(
                    f"log must be that of the run which goes on, or a new file, got "
                    f"{str(self.path)!r} with another line {number}"
                )
        return there + lines[len(there) :]


def read_log(path: PathLike) -> list[Epoch]:
    """Return the rows of a CSV file that `CSVLogger` wrote.

    Columns may come in any order; of those that aren't there, all but "epoch" are NaN, and those
    that no `Epoch` has are left out. A last row that was cut off is left out too.

    Raises
    ------
    DataError
        If the file can't be read, has no column "epoch" and a figure, or a cell isn't a number.
    """
    import csv

    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            lines = list(csv.reader(file))
    except OSError as error:
        raise DataError(f"can't read log {path}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a log: {error}") from None
    header = lines[0] if lines else []
    places = {name: header.index(name) for name in Epoch._fields if name in header}
    if "epoch" not in places or len(places) < 2:
        raise DataError(
            f"{path} is not a log: its first line must name the columns {', '.join(Epoch._fields)}"
        )
    rows = []
    for number, line in enumerate(lines[1:], 2):
        if len(line) != len(header):
            if number == len(lines):
                break
            raise DataError(
                f"{path} must have {len(header)} cells a line, got {len(line)} in line {number}"
            )
        cells = dict.fromkeys(Epoch._fields, math.nan)
        for name, place in places.items():
            kind = int if name == "epoch" else float
            try:
                cells[name] = kind(line[place])
            except ValueError:
                raise DataError(
                    f"{path} must hold numbers, got {line[place]!r} in line {number}, column {name}"
                ) from None
        rows.append(Epoch(**cells))  # type: ignore[arg-type]
    return rows


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
        import uuid

        # not SummaryWriter: its thread loses errors, and a full disk would make it wait for ever
        from tensorboardX.event_file_writer import EventsWriter

        self._writers = {}
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
        if run.history.resumed is not None:
            self._purge(run.history.resumed + 1)

    def _purge(self, step: int) -> None:
        """Tell TensorBoard that what it read of this step and later ones is void."""
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        start = SessionLog(status=SessionLog.START)
        for writer in self._writers.values():
            writer.write_event(Event(wall_time=time.time(), step=step, session_log=start))

    def on_epoch(self, epoch: Epoch) -> None:
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import scalar

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


class Terminal(Callback):
    """Prints a line an epoch, and a progress bar beneath them where someone looks on.

    A line holds epoch, training accuracy and loss, test accuracy and loss, with all their digits.
    The bar is shown in a terminal, and in a notebook that has ipywidgets; a file or a pipe gets
    the lines alone, each as soon as it is there. It is away while an epoch's callbacks are
    called, so that they may print as they like.

    Parameters
    ----------
    hashes
        Whether to add `Sequential.sha256` after the epoch to each line.
    """

    def __init__(self, *, hashes: bool = False) -> None:
        self.hashes = hashes
        self._bar: Any = None

    def on_start(self, run: Run) -> None:
        self._model, self._batches = run.model, run.batches
        self._bar = progress_bar(
            total=run.epochs * run.batches,
            initial=(run.history.resumed or 0) * run.batches,
            unit="batch",
            shown=run.epochs > 0,
            # not before the first batch, and never by tqdm's own thread, while others print
            delay=1e-9,
            miniters=1,
        )

    def on_batches(self, count: int) -> None:
        self._bar.update(count)
        if self._bar.n % self._batches == 0:
            self._bar.clear()
        elif self._bar.n % self._batches == count:
            self._bar.refresh()

    def on_epoch(self, epoch: Epoch) -> None:
        self._bar.set_description(f"epoch {epoch.epoch + 1}", refresh=False)
        hashes = [self._model.sha256()] if self.hashes else []
        print(*map(repr, epoch[:5]), *hashes, flush=True)

    def on_end(self) -> None:
        if self._bar is not None:
            self._bar.close()


def progress_bar(*, total: int, unit: str, shown: bool = True, **options: Any) -> Any:
    """Return a bar of tqdm's: a widget in a notebook, nothing where stderr is no terminal."""
    with warnings.catch_warnings():
        # of a notebook that has no ipywidgets, and then gets no bar
        warnings.simplefilter("ignore")
        from tqdm.autonotebook import tqdm

    class Bar(tqdm):  # type: ignore[misc]
        @property
        def format_dict(self) -> Any:
            found = super().format_dict
            if isinstance(found["ncols"], int):
                # room for the ^C that a terminal echoes, which else goes to a line of its own
                found["ncols"] = max(found["ncols"] - 3, 1)
            return found

        def close(self) -> None:
            drawn = not self.disable
            super().close()
            if drawn and sys.stderr is not None and sys.stderr.isatty():
                # Ctrl-C in the middle of drawing leaves what tqdm doesn't know of
                print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    # None: as the stream says
    disable = None if shown and sys.stderr is not None else True
    return Bar(total=total, unit=unit, disable=disable, dynamic_ncols=True, leave=False, **options)


class Checkpoint(Callback):
    """Writes all that a run needs to go on to a file, for ``fit(…, resume=path)``.

    The file is whole at any time, and the one before it is kept as ``FILE.previous``: `resume`
    takes that one where the other is damaged. A run that is resumed ends with the same bits as one
    that was never stopped.

    Parameters
    ----------
    path
        A new file, or the one that the run is resumed from: the checkpoint of another run isn't
        overwritten.
    every
        Epochs from one checkpoint to the next; there is one of the run's end in any case.

    Raises
    ------
    ArgumentError
        If the file can't be written, when the run starts or later, or the state of a callback isn't
        what a file can hold; the last one that was whole is still there.
    """

    def __init__(self, path: PathLike, *, every: int = 1) -> None:
        self.path = check_writable("checkpoint", path)
        self.every = integer("every", every, minimum=1)
        self._run: Run | None = None

    def on_start(self, run: Run) -> None:
        self._run, self._rows = run, 0
        if run.resumed is not None and run.resumed.resolve() == self.path.resolve():
            self._rows = len(run.history)
            return
        for path in (self.path, checkpoint.previous(self.path)):
            if path.is_file() and path.stat().st_size:
                raise ArgumentError(
                    f"checkpoint must be a new file, or the one to resume from, got {str(path)!r}, "
                    "which is there already: resume from it, or delete it"
                )

    def on_epoch(self, epoch: Epoch) -> None:
        if epoch.epoch % self.every == 0:
            self._save()

    def on_end(self) -> None:
        if self._run is not None and self._run.finished and self._rows < len(self._run.history):
            self._save()

    def _save(self) -> None:
        assert self._run is not None
        checkpoint.write(self._run.snapshot(), self.path)
        self._rows = len(self._run.history)


class EarlyStopping(Callback):
    """Ends a run whose figures get no better, and goes back to the best weights (Prechelt 1998).

    As in Keras: an epoch is an improvement if its figure is better than the best one before it by
    more than `min_delta`, and the run ends once `patience` epochs in a row weren't. The first
    epoch after the untrained network is an improvement.

    Parameters
    ----------
    monitor
        A column of the log: of a loss the least, of an accuracy the largest is best.
    patience
        So many epochs without an improvement end the run, >= 1.
    min_delta
        An improvement by no more than this is none, >= 0.
    restore_best
        Whether the model is given the weights of the best epoch at the end, however the run ended.

    Attributes
    ----------
    best
        The epoch of the last improvement, None before the first.

    Raises
    ------
    ArgumentError
        If an argument isn't allowed, or the run has no such figure; and if it was resumed from a
        checkpoint that lacks the weights of the best epoch, because `monitor` was another one then.

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
        if monitor not in MONITORS:
            raise unknown("monitor", monitor, MONITORS)
        self.monitor = monitor
        self.patience = integer("patience", patience, minimum=1)
        self.min_delta = nonnegative("min_delta", min_delta)
        self.restore_best = restore_best
        self.best: int | None = None
        self._run: Run | None = None
        self._weights: dict[str, np.ndarray] = {}
        self._weights_of: int | None = None

    def on_start(self, run: Run) -> None:
        if run.validation is None and self.monitor.startswith("test_"):
            self._missing()
        self._begin(run)
        for row in run.history:
            self._note(row)
        self._stop()
        if self.best is None or not self.restore_best:
            return
        if self.best == run.history[-1].epoch:
            self._keep()
        elif self.best != self._weights_of:
            raise ArgumentError(
                f"restore_best needs the weights of epoch {self.best}, the best by "
                f"{self.monitor}, which {run.resumed} doesn't hold"
            )

    def on_epoch(self, epoch: Epoch) -> None:
        self._note(epoch)
        self._stop()
        if self.restore_best and self.best == epoch.epoch:
            self._keep()

    def on_end(self) -> None:
        # others may be there: of a run with other arguments, from a checkpoint
        own = self.restore_best and self.best is not None and self._weights_of == self.best
        if own and self._run is not None:
            self._run.restore(self._weights)
        self._run = None

    def state(self) -> dict[str, Any]:
        return {**self._weights, "epoch": self._weights_of} if self._weights else {}

    def restore(self, state: dict[str, Any]) -> None:
        self._weights_of = state.get("epoch")
        self._weights = {name: array for name, array in state.items() if name != "epoch"}

    def _begin(self, run: Run) -> None:
        self._run, self._figure, self.best = run, math.nan, None
        if run.history.resumed is None:
            self._weights, self._weights_of = {}, None

    def _note(self, row: Epoch) -> None:
        value = getattr(row, self.monitor)
        if row.epoch == 0:
            if math.isnan(value):
                self._missing()
            return
        value = -value if self.monitor.endswith("loss") else value
        if self.best is None or value - self.min_delta > self._figure:
            self.best, self._figure = row.epoch, value

    def _stop(self) -> None:
        if self._run is None or self.best is None:
            return
        waited = len(self._run.history) - 1 - self.best
        if waited >= self.patience:
            self._run.stop(f"{self.monitor} was best at epoch {self.best}, {waited} epochs before")

    def _keep(self) -> None:
        assert self._run is not None
        self._weights, self._weights_of = self._run.learned(), self.best

    def _missing(self) -> NoReturn:
        raise ArgumentError(
            f"monitor must be a figure that the run has, got {self.monitor!r}; test figures need "
            "validation data, accuracies need classes"
        )
