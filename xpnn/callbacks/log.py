"""The log of a run as a CSV file, written and read."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from xpnn._core.files import PathLike, check_writable, replacing
from xpnn.errors import ArgumentError, DataError
from xpnn.training.history import Epoch
from xpnn.training.run import Callback, Run


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
