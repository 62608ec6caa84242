"""What an error that ends a command becomes: a line on standard error, and an exit status."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import tempfile
import traceback
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from xpnn._core.registry import error_text, position_in
from xpnn._version import __version__
from xpnn.cli.output import FAILED, INTERRUPTED, OUR_FAULT, USAGE_ERROR, complain, give_up_output
from xpnn.errors import XpnnError


def ended_by(error: BaseException, parts: Mapping[str, str], *, trace: bool = False) -> int:
    """Say in one line why a command ended, and return its exit status.

    Parameters
    ----------
    error
        What the command raised.
    parts
        The ``__file__`` of each module of the user's parts, with its name in messages.
    trace
        Whether to print the traceback before the line.
    """
    give_up_output()
    if isinstance(error, KeyboardInterrupt):
        complain("interrupted")
        return INTERRUPTED
    if isinstance(error, BrokenPipeError) and error.filename is None:
        # the reader of the output has gone away, and needs no message
        return FAILED
    message = _message(error, parts)
    if message is None and isinstance(error, SystemExit):
        # of argparse, which has said why
        raise error
    if trace and sys.stderr is not None:
        traceback.print_exception(error)
    if message is not None:
        complain(f"error: {message}")
        return USAGE_ERROR
    complain(
        f"error: a fault of xpnn, not of its input: {error_text(error)[:300]}; {_reported(error)}"
    )
    return OUR_FAULT


def _message(error: BaseException, parts: Mapping[str, str]) -> str | None:
    """Return the message for an error, with file and line if one of the user's parts raised it.

    None means a fault of xpnn, whose traceback somebody must read.
    """
    if isinstance(error, XpnnError):
        return str(error)
    position = position_in(error, parts)
    if position is not None:
        return f"{position}: {error_text(error)}"
    if isinstance(error, MemoryError):
        return f"out of memory: {error}".removesuffix(": ")
    if isinstance(error, OSError):
        return str(error) or type(error).__name__
    if parts:
        # raised in xpnn, but usually because of what a part returned
        files = ", ".join(parts.values())
        return f"{error_text(error)}, with the parts of {files}; --traceback shows where"
    return None


def _reported(error: BaseException) -> str:
    """Write the traceback to a new file in the folder for temporary files; say where it is."""
    about = [
        f"xpnn {__version__}, Python {platform.python_version()}, {platform.platform()}",
        f"command: {sys.argv}",
        "".join(traceback.format_exception(error)),
    ]
    try:
        handle, path = tempfile.mkstemp(prefix="xpnn-", suffix=".txt")
        # names of files may have halves of surrogate pairs
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write("\n".join(about))
    except OSError as unwritten:
        return f"its traceback couldn't be written ({unwritten}); --traceback prints it"
    return f"please report it with its traceback, which is in {path}"


@contextlib.contextmanager
def warnings_in_a_line(parts: Mapping[str, str]) -> Iterator[None]:
    """Print the warnings of xpnn and of the user's parts in a line each, within a ``with`` block.

    Warnings of libraries are for programmers: they are printed only if ``python -W`` or the
    variable ``PYTHONWARNINGS`` asks for warnings, and never raised.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        for category in _ours():
            warnings.simplefilter("always", category)

        def show(message: Warning | str, category: type[Warning], file: str, *rest: Any) -> None:
            if issubclass(category, _ours()):
                complain(str(message))
            elif file in parts or sys.warnoptions:
                complain(f"{parts.get(file, file)}, line {rest[0]}: {category.__name__}: {message}")

        warnings.showwarning = show  # type: ignore[assignment]
        yield


def _ours() -> tuple[type[Warning], ...]:
    """Return the warnings that xpnn defines."""
    from xpnn import errors

    own = [getattr(errors, name) for name in errors.__all__]
    return tuple(o for o in own if isinstance(o, type) and issubclass(o, Warning))
