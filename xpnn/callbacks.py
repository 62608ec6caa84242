"""Callbacks: what joins the loop from outside, log files and what a terminal shows."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any, TextIO

from xpnn.errors import ArgumentError, DataError
from xpnn.files import PathLike, check_writable
from xpnn.model import Sequential
from xpnn.training import Callback, Epoch


class CSVLogger(Callback):
    """Writes each row of the log to a CSV file as soon as it is there.

    Numbers have all their digits, so that they read back as the same floats.

    Parameters
    ----------
    path
        Overwritten when a run starts.
    hashes
        Whether to add a last column "weights_sha256", `Sequential.sha256` after the epoch.
    """

    def __init__(self, path: PathLike, *, hashes: bool = False) -> None:
        self.path = check_writable("log", path)
        self.hashes = hashes
        self._file: TextIO | None = None

    def on_start(self, model: Sequential, epochs: int, batches: int) -> None:
        try:
            self._file = self.path.open("w", encoding="utf-8", newline="")
        except OSError as error:
            raise ArgumentError(
                f"log must be a file that can be written, got {str(self.path)!r}: {error.strerror}"
            ) from None
        self._model = model
        self._write(",".join([*Epoch._fields, *(["weights_sha256"] if self.hashes else [])]))

    def on_epoch(self, epoch: Epoch) -> None:
        hashes = [self._model.sha256()] if self.hashes else []
        self._write(",".join([*map(repr, epoch), *hashes]))

    def on_end(self) -> None:
        if self._file is not None:
            # what a full disk didn't take was reported when it was written
            with contextlib.suppress(OSError):
                self._file.close()

    def _write(self, line: str) -> None:
        assert self._file is not None
        try:
            self._file.write(line + "\n")
            self._file.flush()
        except OSError as error:
            raise ArgumentError(f"can't write log {str(self.path)!r}: {error.strerror}") from None


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

    def on_start(self, model: Sequential, epochs: int, batches: int) -> None:
        import uuid

        # not SummaryWriter: its thread loses errors, and a full disk would make it wait for ever
        from tensorboardX.event_file_writer import EventsWriter

        self._writers = {}
        for part in ("train", "test"):
            place = self.folder / part
            try:
                place.mkdir(parents=True, exist_ok=True)
                # the writer's own name holds no more than the second, and it overwrites
                self._writers[part] = EventsWriter(str(place / "events"), f".{uuid.uuid4().hex}")
            except OSError as error:
                raise self._refused(str(error.strerror)) from None

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

    def on_start(self, model: Sequential, epochs: int, batches: int) -> None:
        self._model, self._batches = model, batches
        self._bar = progress_bar(
            total=epochs * batches,
            unit="batch",
            shown=epochs > 0,
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
