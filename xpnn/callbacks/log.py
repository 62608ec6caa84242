"""The log of a run as a CSV file, written and read."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from xpnn._core.files import PathLike, check_writable, replacing
from xpnn.errors import ArgumentError, DataError
from xpnn.training.callback import Callback
from xpnn.training.history import Epoch
from xpnn.training.run import Run


class CSVLogger(Callback):
    """Write each row of the log to a CSV file as soon as it is known.

    Numbers have all their digits, so that they read back as the same floats.

    Parameters
    ----------
    path
        Overwritten by the first row of a run. A resumed run keeps the rows that are there, up to
        the one of its checkpoint.
    hashes
        Whether to add a last column "weights_sha256", `Sequential.sha256` after the epoch. It is
        empty for rows that come from a checkpoint if the file isn't there any more.

    Raises
    ------
    ArgumentError
        If the file can't be written, or a resumed run finds the log of another one in it.
    """

    def __init__(self, path: PathLike, *, hashes: bool = False) -> None:
        self.path = check_writable("log", path)
        self.hashes = hashes
        self._run: Run | None = None
        self._file: IO[str] | None = None

    def on_start(self, run: Run) -> None:
        self._run, self._file, self._lines = run, None, []
        if run.history:
            # a kill between checkpoint and log leaves the last row out
            hashes = [*[""] * (len(run.history) - 1), run.model.sha256()]
            lines = [self._line(row, own) for row, own in zip(run.history, hashes, strict=True)]
            self._lines = self._continued([self._header(), *lines])

    def on_epoch(self, epoch: Epoch) -> None:
        assert self._run is not None
        if self._file is None:
            self._begin()
        self._write(self._line(epoch, self._run.model.sha256() if self.hashes else ""))

    def on_end(self) -> None:
        # a resumed run may have had nothing left to do
        if self._run is not None and self._run.finished and self._lines and self._file is None:
            self._begin()
        if self._file is not None:
            # what a full disk didn't take was reported when it was written
            with contextlib.suppress(OSError):
                self._file.close()

    def _begin(self) -> None:
        """Open the file, with the lines in it that come before the first new row."""
        with self._writing():
            if self._lines:
                text = "".join(f"{line}\n" for line in self._lines)
                with replacing(self.path) as beside:
                    beside.write_text(text, encoding="utf-8")
            self._file = self.path.open("a" if self._lines else "w", encoding="utf-8", newline="")
        if not self._lines:
            self._write(self._header())

    def _header(self) -> str:
        return ",".join([*Epoch._fields, *["weights_sha256"] * self.hashes])

    def _line(self, row: Epoch, weights: str) -> str:
        return ",".join([*map(repr, row), *[weights] * self.hashes])

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
