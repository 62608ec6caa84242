"""The files that a command reads and writes: checked before anything else is done, and kept.

`prepared` takes all of them from the arguments of any command; `Kept` writes what a run has at its
end.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import os
import select
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from xpnn._core import limits
from xpnn._core.files import (
    DAMAGED,
    PREVIOUS,
    check_folder,
    check_writable,
    descriptor,
    is_direct,
    locked,
    real,
    same_file,
    writing,
)
from xpnn._core.registry import error_text
from xpnn.cli.output import complain
from xpnn.errors import ArgumentError, XpnnError

# the arguments that name what is read, and what messages call them
_READ = {
    "data": "data",
    "validation": "validation",
    "model": "model",
    "base": "from",
    "resume": "resume",
    "logs": "log",
    "study": "study",
    "parts": "parts",
}


class _Output(NamedTuple):
    """What an argument that names an output has written.

    Attributes
    ----------
    folder
        Whether it is a folder.
    endings
        The endings of further files, beside the one that is named.
    locked
        Whether no other process may write it as long as the command runs. Logs and checkpoints are
        locked by the callbacks that write them.
    """

    folder: bool = False
    endings: tuple[str, ...] = ()
    locked: bool = False


_WRITTEN = {
    "log": _Output(),
    "plot": _Output(locked=True),
    "tensorboard": _Output(folder=True),
    "save": _Output(locked=True),
    "checkpoint": _Output(endings=(PREVIOUS, DAMAGED)),
    "out": _Output(locked=True),
}

# seconds without data from a pipe after which it is said that the command waits for them
_PATIENCE = 1.0

# the content of pipes, as long as the process lives
_COPIES = contextlib.ExitStack()
atexit.register(_COPIES.close)


@contextlib.contextmanager
def prepared(args: argparse.Namespace) -> Iterator[None]:
    """Check all paths of a command, and read the pipes among its inputs to their ends.

    Within the ``with`` block, no other process writes the outputs.

    "-" is standard input, or standard output for the predictions.

    Raises
    ------
    ArgumentError
        If a path is empty, an output can't be written, another process is writing it, or an output
        is the file of an input or of another output.
    """
    is_study = args.command == "study"
    for name in (*_READ, *_WRITTEN):
        if "" in _listed(getattr(args, name, None)):
            raise ArgumentError(f"{_READ.get(name, name)} must be a path, got ''")
    if getattr(args, "out", None) == "-" and args.command == "predict":
        args.out = None
    outputs: dict[str, str] = {}
    for name, output in _WRITTEN.items():
        path = getattr(args, name, None)
        if path is None or is_study:
            continue
        if path == "-":
            raise ArgumentError(
                f"{name} must be a file, got '-'; write ./- for a file of this name"
            )
        (check_folder if output.folder else check_writable)(name, path)
        _check_different(name, path, outputs, args)
        outputs[name] = path
    with contextlib.ExitStack() as locks:
        for name, path in outputs.items():
            if _WRITTEN[name].locked:
                locks.enter_context(locked(name, path))
        for name in _READ:
            given = getattr(args, name, None)
            if given is not None:
                read = [_spooled(_READ[name], path, kept=not is_study) for path in _listed(given)]
                setattr(args, name, read if isinstance(given, list) else read[0])
        yield


def _listed(given: Any) -> list[str]:
    return given if isinstance(given, list) else [] if given is None else [given]


def _check_different(
    name: str, path: str, others: dict[str, str], args: argparse.Namespace
) -> None:
    """Raise if an output would overwrite what is read, or another output."""
    written = [path, *(f"{path}{ending}" for ending in _WRITTEN[name].endings)]
    for argument, said in _READ.items():
        # the checkpoint that a run is resumed from is its own
        if (name, argument) == ("checkpoint", "resume"):
            continue
        for given in _listed(getattr(args, argument, None)):
            # two arrays may be named with a comma between them
            for own in {given, *given.split(",")}:
                if os.path.isdir(own) and real(own) in real(path).parents:
                    raise ArgumentError(f"{name} must not be in the data's folder, got {path!r}")
                # a damaged checkpoint is replaced by the one before it
                _check_pair(name, said, written, own)
                if argument == "resume":
                    _check_pair(name, said, written, own + PREVIOUS)
    for other, own in others.items():
        for each in (own, *(f"{own}{ending}" for ending in _WRITTEN[other].endings)):
            _check_pair(other, name, written, each)


def _check_pair(name: str, other: str, paths: list[str], own: str) -> None:
    if any(same_file(path, own) for path in paths):
        raise ArgumentError(f"{name} and {other} must be different files, got {own}")


def _spooled(name: str, path: str, *, kept: bool) -> str:
    """Return the path of an input; the content of a pipe is copied, to be read more than once.

    Where the system can, the copy takes the place of the pipe, whose name stays. The processes of
    a study have pipes of their own, so that nothing is `kept` for them.
    """
    path = "/dev/stdin" if path == "-" else path
    try:
        mode = os.stat(path).st_mode
    except OSError:
        # who reads it says what is wrong
        return path
    number = descriptor(path)
    terminal = number is not None and os.isatty(number)
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or terminal):
        return path
    if not kept:
        raise ArgumentError(f"{name} of a study must be a file or a folder, got the pipe {path!r}")
    # a pipe is opened in no other way without waiting in silence for a writer
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK) if number is None else os.dup(number)
    with open(handle, "rb") as pipe:
        if not select.select([pipe], [], [], _PATIENCE)[0]:
            complain(f"waiting for {name} from {path}{', up to Ctrl-D' if terminal else ''}")
            select.select([pipe], [], [])
        os.set_blocking(handle, True)
        linux = sys.platform == "linux"
        kind = tempfile.TemporaryFile if linux else tempfile.NamedTemporaryFile
        copy = _COPIES.enter_context(kind())
        with writing("the content of the pipe", path):
            # it may have no end
            shutil.copyfileobj(limits.Limited(pipe, path, limits.memory() // 4), copy)
            copy.flush()
    if not linux:
        return copy.name
    if number is None:
        return f"/dev/fd/{copy.fileno()}"
    os.dup2(copy.fileno(), number)
    return path


class Kept:
    """Writes what a run has at its end; a failure is said, and takes nothing else along.

    Attributes
    ----------
    paths
        The files that were written.
    failed
        Whether one couldn't be written where it should be.
    """

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.failed = False

    def write(
        self, name: str, path: str, write: Callable[[str], object], *, elsewhere: bool = False
    ) -> None:
        """Write a file; with `elsewhere`, to another place if the first one fails."""
        try:
            write(path)
        except Exception as error:
            self.failed = True
            said = str(error) if isinstance(error, XpnnError) else error_text(error)
            for other in _others(path) if elsewhere else ():
                with contextlib.suppress(Exception):
                    write(other)
                    self.paths.append(other)
                    said += f"; it is in {other} instead"
                    break
            complain(f"error: {' '.join(said.split())}")
        else:
            self.paths.append(path)


def _others(path: str) -> Iterator[str]:
    """Yield the paths of new files: beside `path`, in the working folder, at home, or temporary."""
    target = real(path)
    # short, since a long name may be what is wrong
    name = f"{target.stem[:40]}-{os.urandom(4).hex()}{target.suffix[:20]}"
    if not is_direct(path):
        yield str(target.with_name(name))
    yield name
    yield str(Path("~").expanduser() / name)
    yield str(Path(tempfile.gettempdir()) / name)
