"""The content of a file held to a dataclass: each field has a type, and may have a rule.

A hash says that a file is whole, and not that it is sound: whoever wrote it wrote the hash too. So
each format describes its fields once, as a dataclass, and `checked` compares what was read with it.
Fields that the dataclass doesn't have are left out; a missing one has its default.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import math
import os
import reprlib
import types
import typing
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal, NamedTuple

from xpnn._core.registry import WANTED
from xpnn.errors import ArgumentError, DataError

_SHOWN = reprlib.Repr()
_SHOWN.maxlevel, _SHOWN.maxstring, _SHOWN.maxother = 3, 60, 60


class Rule(NamedTuple):
    """What a value of a type must be beyond it: ``Annotated[int, between(0, 624)]``.

    Attributes
    ----------
    wanted
        What messages say that the value must be.
    allowed
        Returns whether a value of the type is that.
    """

    wanted: str
    allowed: Callable[[Any], bool]


def between(low: float, high: float) -> Rule:
    """Return the rule for a number from `low` to `high`, both included."""
    return Rule(f"a number from {low} to {high}", lambda value: low <= value <= high)


def at_least(low: int) -> Rule:
    """Return the rule for a whole number that isn't below `low`."""
    return Rule(f"a whole number >= {low}", lambda value: value >= low)


def _is_sha256(text: str) -> bool:
    return len(text) == 64 and set(text) <= set("0123456789abcdef")


FINITE = Rule("a finite number", math.isfinite)
Count = Annotated[int, at_least(1)]
Sha256 = Annotated[str, Rule("a SHA-256 of 64 hexadecimal digits", _is_sha256)]


@dataclasses.dataclass(frozen=True)
class PartEntry:
    """A part in a file, as `xpnn._core.parts.identity` describes it."""

    name: str
    parameters: dict[str, Any]


def as_json(text: str | bytes) -> Any:
    """Return what a JSON text holds.

    Raises
    ------
    DataError
        If it isn't JSON, a number in it has too many digits, or it is nested too deeply.
    """
    try:
        content = json.loads(text)
        if not _is_flat(content, _MOST_LEVELS):
            raise RecursionError
        return content
    except RecursionError:
        raise DataError("its JSON is nested too deeply") from None
    except ValueError as error:
        raise DataError(f"its JSON can't be read: {error}") from None


def _is_flat(content: Any, levels: int) -> bool:
    """Return whether lists and tables are nested in so few levels that any code can follow."""
    if not isinstance(content, list | dict):
        return True
    items = content if isinstance(content, list) else content.values()
    within = [item for item in items if isinstance(item, list | dict)]
    return levels > 0 and all(_is_flat(item, levels - 1) for item in within)


def checked(kind: Any, value: Any, name: str = "") -> Any:
    """Return `value` as a type that annotations can express, with dataclasses for tables.

    Parameters
    ----------
    kind
        A dataclass, bool, int, float, str, Any, list[…], dict[str, …], a tuple of a fixed length,
        a union, Literal, or one of them Annotated with a `Rule`. A whole number may stand for a
        float. The `__post_init__` of a dataclass may check what fields have to do with each other,
        and raise an ArgumentError or a DataError.
    value
        What was read: as JSON and TOML have it.
    name
        What messages call the value: "history[3]"; empty for the whole content.

    Raises
    ------
    DataError
        If the value is of another type or not allowed; the message names the field, what it must
        be, and what was given.
    """
    found = _as(kind, value, name)
    if found is _WRONG:
        raise wrong(name, _wanted(kind), value)
    return found


def wrong(name: str, wanted: str, value: Any) -> DataError:
    """Return the error for a field that has another value than it must have."""
    got = "and is missing" if value is _MISSING else f"got {shown(value)}"
    return DataError(f"{name or 'its content'} must be {wanted}, {got}")


def shown(value: Any) -> str:
    """Return the text of a value from a file for a message, shortened."""
    return _SHOWN.repr(value)


@contextlib.contextmanager
def field(name: str) -> Iterator[None]:
    """Name the field in an error about it, and make a DataError of every error about a value.

    Parts check their own parameters and raise an ArgumentError, or whatever Python raises for an
    argument of another type: here these are faults of the file.
    """
    place = f"{name}: " if name else ""
    try:
        yield
    except (ArgumentError, DataError) as error:
        raise DataError(f"{place}{error}") from None
    except RecursionError:
        raise DataError(f"{place}it is nested too deeply") from None
    except MemoryError:
        raise DataError(f"{place}it asks for more memory than there is") from None
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise DataError(f"{place}{type(error).__name__}: {error}") from None


@contextlib.contextmanager
def reading(path: str | os.PathLike[str], name: str = "") -> Iterator[None]:
    """Name the file, and the field, in an error about what the file holds: see `field`."""
    try:
        with field(name):
            yield
    except DataError as error:
        raise DataError(f"{path} has damaged metadata: {error}") from None


# lists and tables within each other; no file of ours has more than ten
_MOST_LEVELS = 100

_MISSING: Any = object()
_WRONG: Any = object()

_NAMES = {**WANTED, list: "a list", dict: "a table of names and values", type(None): "none"}


def _wanted(kind: Any) -> str:
    """Return what a value of a type is called in messages."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return str(parts[1].wanted)
    if origin is Literal:
        return " or ".join(map(repr, parts))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(_wanted, parts)))
    if origin is tuple:
        return _NAMES[list] if parts[-1] is ... else f"a list of {len(parts)} values"
    if dataclasses.is_dataclass(kind):
        return _NAMES[dict]
    return _NAMES.get(origin or kind, str(kind))


def _as(kind: Any, value: Any, name: str) -> Any:
    """Return `value` as `kind`, or `_WRONG`; raise about a value within it."""
    if kind is Any:
        return value
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        found = _as(parts[0], value, name)
        return found if found is not _WRONG and all(r.allowed(found) for r in parts[1:]) else _WRONG
    if origin is Literal:
        same = (own for own in parts if type(own) is type(value) and own == value)
        return next(same, _WRONG)
    if origin in (typing.Union, types.UnionType):
        return _as_one_of(parts, value, name)
    if origin is list:
        return _as_list(parts[0], value, name)
    if origin is tuple and parts[-1] is ...:
        found = _as_list(parts[0], value, name)
        return found if found is _WRONG else tuple(found)
    if origin is tuple:
        if not isinstance(value, list) or len(value) != len(parts):
            return _WRONG
        pairs = enumerate(zip(parts, value, strict=True))
        return tuple(checked(part, item, f"{name}[{i}]") for i, (part, item) in pairs)
    if origin is dict:
        if not isinstance(value, dict):
            return _WRONG
        prefix = f"{name}." if name else ""
        return {key: checked(parts[1], item, f"{prefix}{key}") for key, item in value.items()}
    if dataclasses.is_dataclass(kind):
        return _as_fields(kind, value, name)
    if kind is float and type(value) is int:
        # a whole number may be too large
        return float(value) if abs(value) < 2**1023 else _WRONG
    return value if type(value) is kind else _WRONG


def _as_one_of(kinds: tuple[Any, ...], value: Any, name: str) -> Any:
    """Return `value` as the first of the types that it has, whose errors are then those within."""
    error: DataError | None = None
    for kind in kinds:
        if kind is type(None):
            if value is None:
                return None
            continue
        try:
            found = _as(kind, value, name)
        except DataError as within:
            error = error or within
            continue
        if found is not _WRONG:
            return found
    if error is not None:
        raise error
    return _WRONG


def _as_list(kind: Any, value: Any, name: str) -> Any:
    if not isinstance(value, list):
        return _WRONG
    # a log has many numbers
    if kind in (float, int, str) and set(map(type, value)) <= {kind}:
        return value
    return [checked(kind, item, f"{name}[{i}]") for i, item in enumerate(value)]


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind, include_extras=True)


def _as_fields(kind: Any, value: Any, name: str) -> Any:
    """Return a table as a dataclass."""
    if not isinstance(value, dict):
        return _WRONG
    prefix, hints, given = f"{name}." if name else "", _hints(kind), {}
    for own in dataclasses.fields(kind):
        item = value.get(own.name, _MISSING)
        optional = (own.default, own.default_factory) != (dataclasses.MISSING,) * 2
        if item is _MISSING and optional:
            continue
        given[own.name] = checked(hints[own.name], item, f"{prefix}{own.name}")
    try:
        return kind(**given)
    except (ArgumentError, DataError) as error:
        raise DataError(f"{prefix}{error}") from None
