"""Callbacks: what joins the loop from outside, a log file and what a terminal shows."""

from __future__ import annotations

import contextlib
import sys
from typing import Any, TextIO

from xpnn.errors import ArgumentError
from xpnn.files import PathLike, check_writable
from xpnn.model import Sequential
from xpnn.registry import Registry
from xpnn.training import Callback, Epoch

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


class Terminal(Callback):
    """Prints a line an epoch, and a progress bar beneath them where there is a terminal.

    A line holds epoch, training accuracy and loss, test accuracy and loss, with all their digits.

    Parameters
    ----------
    hashes
        Whether to add `Sequential.sha256` after the epoch to each line.
    """

    def __init__(self, *, hashes: bool = False) -> None:
        self.hashes = hashes
        self._bar: Any = None

    def on_start(self, model: Sequential, epochs: int, batches: int) -> None:
        from tqdm import tqdm

        self._model = model
        # disable=None: no bar where stderr is a file
        self._bar = tqdm(
            total=epochs * batches, unit="batch", disable=None, dynamic_ncols=True, leave=False
        )

    def on_batches(self, count: int) -> None:
        self._bar.update(count)

    def on_epoch(self, epoch: Epoch) -> None:
        self._bar.set_description(f"epoch {epoch.epoch}", refresh=False)
        hashes = [self._model.sha256()] if self.hashes else []
        self._bar.write(" ".join([*map(repr, epoch[:5]), *hashes]), file=sys.stdout)
        sys.stdout.flush()

    def on_end(self) -> None:
        if self._bar is not None:
            self._bar.close()
