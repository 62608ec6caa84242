"""The log of a run as a CSV file, written and read."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Iterable
from typing import IO, Any

from xpnn._core import limits
from xpnn._core.files import (
    PathLike,
    check_writable,
    is_direct,
    locked,
    open_direct,
    replacing,
    writing,
)
from xpnn._core.mapped import EXACT
from xpnn.errors import ArgumentError, DataError, counted
from xpnn.training.callback import Callback
from xpnn.training.history import Epoch
from xpnn.training.run import Run


class CSVLogger(Callback):
    """Write each row of the log to a CSV file when its epoch ends.

    Numbers are written with all their digits, so that reading them gives the same floats. The
    metrics of the run follow the losses and accuracies; a regression's log has no accuracies, and
    without a validation set a log has no test figures.

    Only one run at a time may write to a file. One that is removed during the run is written again.

    Parameters
    ----------
    path
        The file. The first row of a new run overwrites it; a resumed run keeps the rows up to the
        checkpoint.
    hashes
        Whether to add a last column "weights_sha256": `Sequential.sha256` after the epoch. If a
        resumed run finds no file, the cells of the epochs before the checkpoint's are empty.

    Raises
    ------
    ArgumentError
        If the file can't be written, if another run is writing to it, or if a resumed run finds
        another run's log in it.
    """

    def __init__(self, path: PathLike, *, hashes: bool = False) -> None:
        self.path = check_writable("log", path)
        self.hashes = hashes
        self._run: Run | None = None
        self._file: IO[str] | None = None
        self._lines: list[str] = []
        self._lock = contextlib.ExitStack()

    def on_start(self, run: Run) -> None:
        self._run, self._file, self._lines = run, None, []
        with contextlib.ExitStack() as lock:
            lock.enter_context(locked("log", self.path))
            self._go_on(run)
            self._lock = lock.pop_all()

    def _go_on(self, run: Run) -> None:
        """Take the lines of a resumed run from the file, or refuse it."""
        if run.history:
            self._figures = run.history[0].logged
            every = list(run.history[0].figures)
            if self._header(every) == self._first_line():
                # of an xpnn whose logs had columns of NaN for what a run hasn't
                self._figures = every
            # a run killed between checkpoint and log has no last row in the file
            hashes = [*[""] * (len(run.history) - 1), run.model.sha256()]
            lines = [self._line(row, own) for row, own in zip(run.history, hashes, strict=True)]
            self._lines = self._continued([self._header(self._figures), *lines])

    def on_epoch(self, epoch: Epoch) -> None:
        assert self._run is not None
        if epoch.epoch == 0:
            self._figures = epoch.logged
        line = self._line(epoch, self._run.model.sha256() if self.hashes else "")
        with writing("log", self.path):
            if self._file is None or self._is_gone():
                self._open()
            self._write(line)

    def on_end(self) -> None:
        with self._lock:
            # a resumed run may have had nothing left to do
            if self._run is not None and self._run.finished and self._lines and not self._file:
                with writing("log", self.path):
                    self._open()
            self._close()

    def _open(self) -> None:
        """Open the file, and write the lines that come before the next row."""
        self._close()
        direct = is_direct(self.path)
        if self._lines and not direct:
            with replacing("log", self.path) as file:
                file.write("".join(f"{line}\n" for line in self._lines).encode())
        if direct:
            self._file = io.TextIOWrapper(open_direct(self.path), encoding="utf-8", newline="")
        else:
            self._file = self.path.open("a" if self._lines else "w", encoding="utf-8", newline="")
        if not self._lines:
            self._write(self._header(self._figures))

    def _write(self, line: str) -> None:
        print(line, file=self._file, flush=True)
        self._lines.append(line)

    def _close(self) -> None:
        if self._file is not None:
            # if the disk is full, the write that failed has raised already
            with contextlib.suppress(OSError):
                self._file.close()

    def _is_gone(self) -> bool:
        """Return whether the open file was removed, with the rows in it."""
        return not (is_direct(self.path) or self.path.exists())

    def _header(self, figures: Iterable[str]) -> str:
        return ",".join(["epoch", *figures, "seconds", *["weights_sha256"] * self.hashes])

    def _line(self, row: Epoch, sha256: str) -> str:
        cells = [row.epoch, *(row.figures[name] for name in self._figures), row.seconds]
        return ",".join([*map(repr, cells), *[sha256] * self.hashes])

    def _first_line(self) -> str:
        if not self.path.is_file():
            return ""
        return limits.read_text(self.path, "replace").partition("\n")[0]

    def _continued(self, lines: list[str]) -> list[str]:
        """Return the lines that come first, those of the file as far as it has them.

        Raises
        ------
        ArgumentError
            If a line of the file belongs to another run.
        """
        if not self.path.is_file():
            return lines
        text = limits.read_text(self.path, "replace")
        # a line without an end was cut off when the run was killed
        there = text.split("\n")[:-1][: len(lines)]
        if not there and not lines[0].startswith(text):
            there = [text]
        for number, (line, wanted) in enumerate(zip(there, lines, strict=False), 1):
            # the seconds may come from another attempt at the same epoch
            width = None if number == 1 else 1 + len(self._figures)
            if line.split(",")[:width] != wanted.split(",")[:width]:
                raise ArgumentError(
                    f"log {str(self.path)!r} belongs to another run, line {number} "
                    "differs; name a new file"
                )
        return there + lines[len(there) :]


@limits.bounded
def read_log(path: PathLike, *, max_bytes: int | None = None) -> list[Epoch]:
    """Return the rows of a CSV file that `CSVLogger` wrote.

    Columns may come in any order. Missing ones are NaN. Others that begin with "train_" or "test_"
    are metrics; the rest are ignored, and so is a last row that was cut off: one without the end of
    a line, whose last number may be a part of itself.

    Parameters
    ----------
    path
        The file.
    max_bytes
        How many bytes of memory it may take; 64 MiB if None.

    Raises
    ------
    DataError
        If the file can't be read, lacks the column "epoch" or has no other column of `Epoch`, a
        cell isn't a number, or the epochs aren't in order.
    """
    import csv

    try:
        text = limits.read_text(path).removeprefix("\ufeff")
    except OSError as error:
        raise DataError(f"can't read log {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not a log: {error}") from None
    whole, end, _ = text.rpartition("\n")
    try:
        lines = list(csv.reader(io.StringIO(whole + end, newline="")))
    except csv.Error as error:
        raise DataError(f"{path} is not a log: {error}") from None
    header = lines[0] if lines else []
    columns = {
        name: header.index(name)
        for name in header
        if name in Epoch._fields or name.startswith(("train_", "test_"))
    }
    if "epoch" not in columns or len(columns) < 2:
        raise DataError(
            f"{path} is not a log: its first line must name the columns {', '.join(Epoch._fields)}"
        )
    rows: list[Epoch] = []
    for number, line in enumerate(lines[1:], 2):
        if len(line) != len(header):
            raise DataError(
                f"{path} must have {counted(len(header), 'cell')} a line, got {len(line)} in line "
                f"{number}"
            )
        cells: dict[str, Any] = dict.fromkeys((*Epoch._fields, *columns), math.nan)
        for name, column in columns.items():
            kind = int if name == "epoch" else float
            try:
                cells[name] = kind(line[column])
            except ValueError:
                raise DataError(
                    f"{path} must hold numbers, got {line[column]!r} in line {number}, "
                    f"column {name}"
                ) from None
        if not (rows[-1].epoch if rows else -1) < cells["epoch"] < EXACT:
            raise DataError(
                f"{path} must hold epochs in order, from 0 on, got {line[columns['epoch']]!r:.40} "
                f"in line {number}"
            )
        own = [cells.pop(name) for name in Epoch._fields]
        rows.append(Epoch(*own).measured(cells))
    return rows
