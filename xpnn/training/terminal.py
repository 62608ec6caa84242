"""What a terminal or a notebook shows of a run."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Iterable
from typing import Any

from xpnn.errors import ArgumentError
from xpnn.training.callback import Callback
from xpnn.training.history import Epoch
from xpnn.training.run import Run
from xpnn.training.understood import Understood

# characters of a line that goes to a file, a pipe or a notebook
_WIDEST = 160


class Terminal(Callback):
    """Print a line for each epoch, with a progress bar below in a terminal or notebook.

    A line has the epoch, training accuracy and loss, test accuracy and loss, and the metrics of
    the run, in columns below their names; what the run doesn't have, such as the accuracy of a
    regression, has no column. Where the columns don't fit into a line, those of training metrics
    are left out first, from the last one on, then those of test metrics; a line above says which.

    The bar is shown in a terminal, and in a notebook that has ipywidgets; a file or a pipe gets
    only the lines, each when its epoch ends. The bar is hidden while callbacks handle an epoch,
    so that they can print.

    Parameters
    ----------
    hashes
        Whether to end each line with `Sequential.sha256` after the epoch.
    digits
        The number of significant digits, >= 1; or "all", for lines that a program reads: all digits
        of each number, separated by one space, in the order of a log and without the names.

    Raises
    ------
    ArgumentError
        If `digits` is neither.
    """

    def __init__(self, *, hashes: bool = False, digits: int | str = 4) -> None:
        self.hashes = hashes
        if digits != "all" and (type(digits) is not int or not 1 <= digits <= 17):
            raise ArgumentError(
                f"digits must be a whole number from 1 to 17, or 'all', got {digits!r}"
            )
        self.digits = digits
        self._figures: list[str] | None = None
        self._bar: Any = None

    def on_start(self, run: Run) -> None:
        self._model, self._batches, self._figures = run.model, run.batches, None
        self._first = run.history[0] if run.history else None
        self._bar = progress_bar(
            total=run.epochs * run.batches,
            initial=(run.history.resumed or 0) * run.batches,
            unit="batch",
            shown=run.epochs > 0,
            # draw nothing before the first batch, and never from tqdm's monitoring thread,
            # which might draw while a callback prints
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
        first = self._first or epoch
        if self.digits == "all":
            figures = (epoch.figures[name] for name in first.logged)
            print(epoch.epoch, *map(repr, figures), *hashes, flush=True)
            return
        if self._figures is None:
            self._first = first
            self._figures = [name for name in first.logged if not math.isnan(first.figures[name])]
            self._figures = self._fitting(n for n in self._figures if n in first.metrics)
            names = [name.replace("_", " ", 1) for name in self._figures]
            self._print("epoch", names, ["sha256"] * self.hashes)
        cells = [f"{epoch.figures[name]:#.{self.digits}g}" for name in self._figures]
        self._print(epoch.epoch, cells, hashes)

    def _print(self, epoch: object, cells: Iterable[str], ends: Iterable[str]) -> None:
        columns = map(str.rjust, cells, map(self._width, self._figures or ()))
        print(f"{epoch:>5}", *columns, *ends, sep="  ", flush=True)

    def _width(self, figure: str) -> int:
        return max(len(figure), int(self.digits) + 6)

    def _fitting(self, metrics: Iterable[str]) -> list[str]:
        """Return the figures whose columns fit into a line; of the others, say which they are."""
        shown, hidden = [*(self._figures or ())], []
        room = _line_width() - len("epoch") - (66 if self.hashes else 0)
        last_first = list(metrics)[::-1]
        last_first.sort(key=lambda name: name.startswith("test_"))
        while last_first and sum(2 + self._width(name) for name in shown) > room:
            shown.remove(last_first[0])
            hidden.append(last_first.pop(0).replace("_", " ", 1))
        if hidden:
            print(f"too many columns for a line, only in the log: {', '.join(hidden[::-1])}")
        return shown

    def on_end(self) -> None:
        if self._bar is not None:
            self._bar.close()


def shown(
    verbose: bool | None, callbacks: tuple[Callback, ...], *, table: bool = False
) -> tuple[Callback, ...]:
    """Return the callbacks of a run, after those that show it if it is to be shown.

    Of a table, also what was understood is shown.

    If `verbose` is None, it is shown where somebody looks on: in a terminal or a notebook.
    """
    if not (verbose is None or (isinstance(verbose, int) and 0 <= verbose <= 2)):
        raise ArgumentError(f"verbose must be True, False or None, got {verbose!r}")
    own = any(isinstance(callback, Terminal) for callback in callbacks)
    wanted = _is_watched() if verbose is None else bool(verbose)
    if own or not wanted:
        return callbacks
    return (*([Understood()] if table else []), Terminal(), *callbacks)


def _line_width() -> int:
    """Return how many characters a line may have: those of the terminal, if it is one."""
    if sys.stdout is None or not sys.stdout.isatty():
        return _WIDEST
    # it brings bz2 and lzma along
    import shutil

    return shutil.get_terminal_size((_WIDEST, 24)).columns


def _is_watched() -> bool:
    """Return whether standard output is a terminal, or the output of a notebook's cell."""
    if sys.stdout is None or getattr(sys.stdout, "closed", False):
        return False
    # IPython's stream in a kernel says no, and there is no other sign of a notebook
    return sys.stdout.isatty() or type(sys.stdout).__module__ == "ipykernel.iostream"


def progress_bar(*, total: int, unit: str, shown: bool = True, **options: Any) -> Any:
    """Return a tqdm bar: a widget in a notebook, invisible if stderr is not a terminal."""
    with warnings.catch_warnings():
        # tqdm warns in a notebook without ipywidgets, which then gets no bar
        warnings.simplefilter("ignore")
        from tqdm.autonotebook import tqdm

    class Bar(tqdm):  # type: ignore[misc]
        @property
        def format_dict(self) -> Any:
            found = super().format_dict
            if isinstance(found["ncols"], int):
                # leave room for the ^C that a terminal echoes, which would start a new line
                found["ncols"] = max(found["ncols"] - 3, 1)
            return found

        def close(self) -> None:
            drawn = not self.disable
            super().close()
            if drawn and sys.stderr is not None and sys.stderr.isatty():
                # Ctrl-C during drawing leaves text that tqdm doesn't know of
                print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    # None lets tqdm decide by whether the stream is a terminal
    disable = None if shown and sys.stderr is not None else True
    return Bar(total=total, unit=unit, disable=disable, dynamic_ncols=True, leave=False, **options)
