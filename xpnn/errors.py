"""Errors that a user can correct, and the checks that raise them."""

from __future__ import annotations

import contextlib
import json
import math
import operator
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from enum import Enum
from typing import Any

# for users: the errors, the warnings, and the checks of numbers for parts of their own
__all__ = [
    "ArgumentError",
    "BackendError",
    "CheckpointWarning",
    "DataError",
    "DataWarning",
    "DivergenceError",
    "WriteError",
    "XpnnError",
    "finite",
    "fraction",
    "integer",
    "nonnegative",
    "number",
    "positive",
]


class XpnnError(Exception):
    """Base class of the errors that xpnn raises for something that the user can correct."""


class ArgumentError(XpnnError, ValueError):
    """An argument has a value that isn't allowed."""


class DataError(XpnnError, ValueError):
    """A data set, or a file that should hold one, can't be used.

    A check of an array says the row and column; `xpnn.datasets.dataset.located`, which knows the
    file, turns them into file, line and column.

    Parameters
    ----------
    problem
        What is wrong, without its position.
    part
        The array with the problem, "x" or "y"; None if the problem is in no single row or column.
    row, column
        The row and column of that array, counted from 0; None if unknown.
    place
        The position in words, with which the message begins. If None, the message ends with the
        row and the column.

    Attributes
    ----------
    problem, part, row, column
        As given.
    """

    def __init__(
        self,
        problem: str,
        *,
        part: str | None = None,
        row: int | None = None,
        column: int | None = None,
        place: str | None = None,
    ) -> None:
        numbers = position(None, row, column)
        ending = f" in {numbers}" if numbers else ""
        super().__init__(f"{problem}{ending}" if place is None else f"{place}: {problem}")
        self.problem, self.part, self.row, self.column = problem, part, row, column


class BackendError(XpnnError, RuntimeError):
    """A backend isn't installed, or has no such device."""


class DivergenceError(XpnnError, ArithmeticError, ValueError):
    """The loss became NaN or infinite during training."""


class WriteError(ArgumentError, OSError):
    """A file couldn't be written, though it seemed so at first: the disk is full, for example."""


class CheckpointWarning(UserWarning):
    """A checkpoint is damaged, and the run continues from the one before it."""


class DataWarning(UserWarning):
    """Data may mean something else than what xpnn takes them for."""


class Door(Enum):
    """Where a user gives arguments, which messages then call by their names there."""

    PYTHON = "arguments of a function"
    COMMAND = "options of the command"
    STUDY = "keys of a study's file"


_door: ContextVar[Door] = ContextVar("door", default=Door.PYTHON)


@contextlib.contextmanager
def entered(door: Door) -> Iterator[None]:
    """Within the block, arguments come through this door."""
    token = _door.set(door)
    try:
        yield
    finally:
        _door.reset(token)


def written(name: str, value: Any) -> str:
    """Return how an argument is written where the user gives it.

    ``ignore=['id', 'day']`` in Python, ``--ignore id,day`` in the command, and
    ``ignore = "id,day"`` in a study's file.

    Parameters
    ----------
    name
        The name in Python.
    value
        A text, a number, a truth value, a list of columns, or a mapping from columns.
    """
    door = _door.get()
    if door is Door.PYTHON:
        return f"{name}={value!r}"
    if isinstance(value, Mapping):
        text = ",".join(f"{column}={how}" for column, how in value.items())
    elif isinstance(value, bool) and door is Door.COMMAND:
        text = "yes" if value else "no"
    else:
        text = ",".join(map(str, value)) if isinstance(value, list | tuple) else value
    if door is Door.COMMAND:
        return f"--{name.replace('_', '-')} {shlex.quote(str(text))}"
    return f"{name} = {json.dumps(text, ensure_ascii=False)}"


def counted(count: int, thing: str) -> str:
    """Return a number of things in words: "1 row", "2 rows"."""
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def position(name: str | None, row: int | None = None, column: int | None = None) -> str:
    """Return a position in an array in words, such as "x, row 2, column 1"."""
    words = [] if name is None else [name]
    words += [] if row is None else [f"row {row}"]
    words += [] if column is None else [f"column {column}"]
    return ", ".join(words)


# names in Keras, PyTorch and scikit-learn whose letters don't lead to ours, whole or as a word
_ELSEWHERE = {
    "acc": "accuracy",
    "categorical_crossentropy": "cross_entropy",
    "hardswish": "h_swish",
    "hard_swish": "h_swish",
    "linear": "identity",
    "log_loss": "cross_entropy",
    "logistic": "sigmoid",
    "mseloss": "mean_squared_error",
    "silu": "swish",
    "sparse_categorical_crossentropy": "cross_entropy",
    "squared_error": "mean_squared_error",
    "training": "train",
    "val": "test",
    "valid": "test",
    "validation": "test",
}


def nearest(given: object, allowed: Iterable[str]) -> str | None:
    """Return the name among `allowed` that was probably meant, None if none is near.

    Capitals don't count. A name that other libraries use, such as "val_loss", and the initials of
    a name, such as "mse", or its first word, such as "he", are near too.
    """
    import difflib

    text = _plain(given)
    words = _ELSEWHERE.get(text) or "_".join(_ELSEWHERE.get(w, w) for w in text.split("_"))
    names = {_plain(name): name for name in allowed}
    for found in (text, words):
        if found in names:
            return names[found]
    short = [name for name in names if len(text) > 1 and initials(name) == text]
    near = short or difflib.get_close_matches(words, names, n=1)
    near = near or [name for name in names if len(text) > 1 and name.startswith(f"{text}_")]
    return names[near[0]] if near else None


def _plain(name: object) -> str:
    return str(name).strip().lower().replace("-", "_")


def initials(name: str) -> str:
    """Return the first letters of the words of a name: "mse" of "mean_squared_error"."""
    return "".join(word[:1] for word in name.split("_"))


def unknown(kind: str, given: object, allowed: Iterable[str]) -> ArgumentError:
    """Return the error for a name that isn't among `allowed`, with the nearest one that is."""
    names = list(allowed)
    near = nearest(given, names)
    hint = f"; did you mean {near!r}?" if near is not None else ""
    listed = ", ".join(name or repr(name) for name in names) or "none"
    return ArgumentError(f"unknown {kind} {given!r}{hint} (allowed: {listed})")


def number(
    name: str, value: object, wanted: str, allowed: Callable[[float], bool] = math.isfinite
) -> float:
    """Return `value` as a float if that is `allowed`; the message says that it must be `wanted`."""
    try:
        found = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    # an integer may be too large for a float
    except (OverflowError, TypeError, ValueError):
        found = math.nan
    if not allowed(found):
        raise ArgumentError(f"{name} must be {wanted}, got {value!r}")
    return found


def finite(name: str, value: object) -> float:
    """Return `value` as a float if it is a finite number."""
    return number(name, value, "a finite number")


def positive(name: str, value: object) -> float:
    """Return `value` as a float if it is finite and > 0."""
    return number(name, value, "a finite number > 0", lambda found: 0 < found < math.inf)


def nonnegative(name: str, value: object) -> float:
    """Return `value` as a float if it is finite and >= 0."""
    return number(name, value, "a finite number >= 0", lambda found: 0 <= found < math.inf)


def fraction(name: str, value: object) -> float:
    """Return `value` as a float if 0 <= value < 1."""
    return number(name, value, "a number >= 0 and < 1", lambda found: 0 <= found < 1)


# up to here, a float holds every integer, as in logs and schedules
_LARGEST = 2**53


def integer(name: str, value: object, *, minimum: int, maximum: int | None = None) -> int:
    """Return `value` as an int if it is a whole number from `minimum` to `maximum`.

    Without a `maximum`, a float must hold it exactly: up to 2**53.
    """
    wanted = f"a whole number >= {minimum}" + ("" if maximum is None else f" and <= {maximum}")
    try:
        found = None if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        found = None
    if found is not None and maximum is None and found > _LARGEST:
        wanted, maximum = f"{wanted} and <= 2**53", _LARGEST
    if found is None or found < minimum or (maximum is not None and found > maximum):
        raise ArgumentError(f"{name} must be {wanted}, got {value!r}")
    return found


def check_plain(array: object, name: str = "the array") -> None:
    """Raise an ArgumentError if a NumPy array, or one in a list, is of a subclass.

    A mask, a unit or whatever else it has beside its numbers would be lost.
    """
    import numpy as np

    if isinstance(array, list | tuple):
        for own in array:
            if not isinstance(own, float | int):
                check_plain(own, name)
        return
    # Dask's arrays know what the arrays of their parts are
    own = getattr(array, "_meta", array)
    if isinstance(own, np.ndarray) and type(own) not in (np.ndarray, np.memmap):
        masked = isinstance(own, np.ma.MaskedArray)
        raise ArgumentError(
            f"{name} must be a plain array, got a {type(own).__name__}"
            + (
                ", whose mask would be lost: leave masked rows out, or fill them by filled()"
                if masked
                else ": pass numpy.asarray of it if its numbers are all that it means"
            )
        )
