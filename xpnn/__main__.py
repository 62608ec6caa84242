"""The start of the `xpnn` command, also as `python -m xpnn`.

It imports nothing but a few modules of the interpreter until it has seen to Ctrl-C and to streams
that are closed: importing the commands takes some tenths of a second.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType

INTERRUPTED = 130


def main() -> int:
    """Run the command and return its exit status; see `xpnn.cli.main`."""
    _open_streams()
    try:
        with _ends_at_once():
            from xpnn.cli import main as command
        status = command()
    except KeyboardInterrupt:
        # a second Ctrl-C, while the line about the first one was printed
        status = INTERRUPTED
    _end_at_once()
    return status


def _open_streams() -> None:
    """Open a closed standard stream, or its number would be given to the next file of a run."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


@contextlib.contextmanager
def _ends_at_once() -> Iterator[None]:
    """Let Ctrl-C end the process within a ``with`` block, in which nothing can be lost.

    An exception instead would come out of any import, or would be taken for a missing library.
    """
    before = _end_at_once()
    yield
    if before is not None:
        signal.signal(signal.SIGINT, before)


def _end_at_once() -> signal.Handlers | None:
    """Let Ctrl-C end the process from now on, unless it is ignored; return what it did before."""
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:
        return None
    signal.signal(signal.SIGINT, _end)
    return before  # type: ignore[return-value]


def _end(number: int, frame: FrameType | None) -> None:
    with contextlib.suppress(OSError):
        os.write(2, b"xpnn: interrupted\n")
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    sys.exit(main())
