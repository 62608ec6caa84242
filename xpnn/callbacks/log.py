"""The log of a run as a CSV file, written and read."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator
from typing import IO, Any

from xpnn._core import limits
from xpnn._core.files import PathLike, check_writable, replacing
from xpnn._core.mapped import EXACT
from xpnn.errors import ArgumentError, DataError, counted
from xpnn.training.callback import Callback
from xpnn.training.history import Epoch
from xpnn.training.run import Run


class CSVLogger(Callback):
    """Write each row of the log to a CSV file when its epoch ends.

    Numbers are written with all their digits, so that reading them gives the same floats. The
    metrics of the run follow the losses and accuracies; a regression's log has no accuracies.

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
        If the file can't be written, or a resumed run finds another run's log in it.
    """

    def __init__(self, path: PathLike, *, hashes: bool = False) -> None:
        self.path = check_writable("log", path)
        self.hashes = hashes
        self._run: Run | None = None
        self._file: IO[str] | None = None

    def on_start(self, run: Run) -> None:
        self._run, self._file, self._lines = run, None, []
        if run.history:
            self._figures = run.history[0].logged
            if self._header(Epoch._fields[1:5]) == self._first_line():
                # of an xpnn whose logs had these columns in regressions too
                self._figures = list(Epoch._fields[1:5])
            # a run killed between checkpoint and log has no last row in the file
            hashes = [*[""] * (len(run.history) - 1), run.model.sha256()]
            lines = [self._line(row, own) for row, own in zip(run.history, hashes, strict=True)]
            self._lines = self._continued([self._header(self._figures), *lines])

    def on_epoch(self, epoch: Epoch) -> None:
        assert self._run is not None
        if epoch.epoch == 0:
            self._figures = epoch.logged
        line = self._line(epoch, self._run.model.sha256() if self.hashes else "")
        with self._writing():
            print(line, file=self._file or self._open(), flush=True)

    def on_end(self) -> None:
        # a resumed run may have had nothing left to do
        if self._run is not None and self._run.finished and self._lines and self._file is None:
            with self._writing():
                self._open()
        if self._file is not None:
            # if the disk is full, the write that failed has raised already
            with contextlib.suppress(OSError):
                self._file.close()

    def _open(self) -> IO[str]:
        """Open the file, and write the lines that come before the first new row."""
        if self._lines:
            with replacing(self.path) as beside:
                beside.write_text("".join(f"{line}\n" for line in self._lines), encoding="utf-8")
        self._file = self.path.open("a" if self._lines else "w", encoding="utf-8", newline="")
        if not self._lines:
            print(self._header(self._figures), file=self._file, flush=True)
        return self._file

    def _header(self, figures: Iterable[str]) -> str:
        return ",".join(["epoch", *figures, "seconds", *["weights_sha256"] * self.hashes])

    def _line(self, row: Epoch, sha256: str) -> str:
        cells = [row.epoch, *(row.figures[name] for name in self._figures), row.seconds]
        return ",".join([*map(repr, cells), *[sha256] * self.hashes])

    def _first_line(self) -> str:
        if not self.path.is_file():
            return ""
        with self.path.open(encoding="utf-8", errors="replace") as file:
            return file.readline().rstrip("\n")

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ArgumentError(f"can't write log {str(self.path)!r}: {error.strerror}") from None

    def _continued(self, lines: list[str]) -> list[str]:
        """Return the lines that come first, those of the file as far as it has them.

        Raises
        ------
        ArgumentError
            If a line of the file belongs to another run.
        """
        if not self.path.is_file():
            return lines
        text = self.path.read_bytes().decode(errors="replace")
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


def read_log(path: PathLike) -> list[Epoch]:
    """Return the rows of a CSV file that `CSVLogger` wrote.

    Columns may come in any order. Missing ones are NaN. Others that begin with "train_" or "test_"
    are metrics; the rest are ignored, and so is a last row that was cut off.

    Raises
    ------
    DataError
        If the file can't be read, lacks the column "epoch" or has no other column of `Epoch`, a
        cell isn't a number, or the epochs aren't in order.
    """
    import csv
    import io

    try:
        text = limits.read_text(path).removeprefix("\ufeff")
        lines = list(csv.reader(io.StringIO(text, newline="")))
    except OSError as error:
        raise DataError(f"can't read log {path}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
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
            if number == len(lines):
                break
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
