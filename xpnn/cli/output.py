"""What commands print, and their exit statuses."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator

DIFFERENT, FAILED, USAGE_ERROR, INTERRUPTED = 1, 1, 2, 130
# a fault of xpnn; sysexits.h calls it EX_SOFTWARE
OUR_FAULT = 70

# a line is cut in its middle if it is longer, as with a number of thousands of digits
_LONGEST = 2000


def complain(message: str) -> None:
    """Print a line to standard error, if anybody reads it."""
    # print() would take None for standard output
    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):
            print(f"xpnn: {one_line(message)}", file=sys.stderr, flush=True)


def one_line(text: str) -> str:
    """Return a text in one line of letters that any terminal takes, cut if it is very long."""
    line = " ".join(text.split())
    if len(line) > _LONGEST:
        half = _LONGEST // 2
        line = f"{line[:half]} … {line[-half:]}"
    # control characters and halves of surrogate pairs, which names of files may have
    return re.sub(
        r"[^\S ]|[\x00-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]",
        lambda found: found[0].encode("unicode_escape").decode(),
        line,
    )


@contextlib.contextmanager
def any_text() -> Iterator[None]:
    r"""Let standard output and standard error take any text within a ``with`` block.

    A character that a stream's encoding hasn't becomes its code, such as ``\u65e5``.
    """
    streams = [s for s in (sys.stdout, sys.stderr) if hasattr(s, "reconfigure")]
    before = [stream.errors for stream in streams]
    for stream in streams:
        stream.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        for stream, errors in zip(streams, before, strict=True):
            # a user's part may have closed it
            with contextlib.suppress(ValueError, OSError):
                stream.reconfigure(errors=errors)


def flush() -> None:
    """Write what standard output still holds."""
    # unlike sys.stdout.flush(), this works if standard output is closed and sys.stdout is None
    print(end="", flush=True)


def give_up_output() -> None:
    """Let standard output lead nowhere, where the interpreter would fail to write to it at exit."""
    try:
        flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
