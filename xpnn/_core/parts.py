"""What a part is: its class and its settings.

Layers, losses, optimizers, schedules and normalizers extend `Part`. Model files, the comparison of
a resumed run and the keys of compiled programs all derive from `Part.config`.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import types
from collections.abc import Callable, Hashable
from dataclasses import field, fields
from typing import Any

import numpy as np

from xpnn.errors import ArgumentError, unknown

_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class Part:
    """Base class of layers and networks of them, losses, optimizers, schedules, normalizers."""

    def __post_init__(self) -> None:
        # a part that is a dataclass calls this once its fields are set
        for own in fields(self):  # type: ignore[arg-type]
            if "check" in own.metadata:
                value = own.metadata["check"](own.name, getattr(self, own.name))
                object.__setattr__(self, own.name, value)

    def config(self) -> dict[str, Any]:
        """Return the settings by name: ``type(part)(**part.config())`` makes an equal part.

        Values are numbers, texts, lists, arrays or other parts. By default they are the public
        attributes; a class whose attributes aren't its arguments overrides this.
        """
        return public_attributes(self)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """Return the part that `config` describes.

        Raises
        ------
        ArgumentError
            If the class has no such setting, or needs one that isn't there.
        """
        parameters = inspect.signature(cls).parameters
        open_ended = any(own.kind is own.VAR_KEYWORD for own in parameters.values())
        for name in () if open_ended else config:
            if name not in parameters:
                raise unknown(f"setting of {cls.__name__}:", name, parameters)
        for name, own in parameters.items():
            if name not in config and own.default is own.empty and own.kind in _NAMED:
                raise ArgumentError(f"{name} of {cls.__name__} must be given, and is missing")
        return cls(**config)


def checked(default: Any, check: Callable[[str, Any], Any]) -> Any:
    """Return a dataclass field of a part that holds ``check(name, value)`` of its value."""
    return field(default=default, metadata={"check": check})


def _attributes(part: Any) -> dict[str, Any]:
    """Return the attributes that were set on a part, without cached properties."""
    return {
        name: value
        for name, value in getattr(part, "__dict__", {}).items()
        if not isinstance(getattr(type(part), name, None), functools.cached_property)
    }


def public_attributes(value: Any) -> dict[str, Any]:
    """Return the public attributes that were set on any object."""
    return {name: own for name, own in _attributes(value).items() if name[0] != "_"}


def identity(value: Any) -> Any:
    """Return nested lists and dictionaries of plain values, which differ between different parts.

    A part becomes ``{"name": class, "parameters": {...}}``.
    """
    if isinstance(value, Part):
        settings = value.config()
        if not _is_own(type(value)):
            # a user's class may compute with attributes that its config leaves out
            hidden = {name: own for name, own in _attributes(value).items() if is_plain(own)}
            settings = {**hidden, **settings}
        return {
            "name": type(value).__name__,
            "parameters": {name: identity(own) for name, own in settings.items()},
        }
    if isinstance(value, np.ndarray):
        digest = hashlib.sha256(np.ascontiguousarray(value).data).hexdigest()
        return {"shape": list(value.shape), "dtype": value.dtype.name, "sha256": digest}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, list | tuple):
        return [identity(own) for own in value]
    if isinstance(value, dict):
        return {str(name): identity(own) for name, own in value.items()}
    if value is None or isinstance(value, str | bool | int | float):
        return value
    return getattr(value, "__qualname__", type(value).__name__)


def is_plain(value: Any) -> bool:
    """Return whether a value is a number, a text, None, a part, or a list of these."""
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    return value is None or isinstance(value, str | bool | int | float | np.generic | Part)


def part_text(identified: Any) -> str:
    """Return an `identity` as a message shows it, such as ``SGD(lr=0.1, weight_decay=0.0)``."""
    match identified:
        case {"name": str(name), "parameters": dict(parameters)}:
            given = (f"{key}={part_text(own)}" for key, own in parameters.items())
            return f"{name}({', '.join(given)})"
        case {"sha256": str(digest), "shape": list(shape), "dtype": dtype}:
            return f"{dtype} of shape {tuple(shape)} with SHA-256 {digest[:16]}…"
        case list():
            return f"[{', '.join(map(part_text, identified))}]"
    return repr(identified)


class UnknownPartError(Exception):
    """A part may compute anything, so that it is equal only to itself."""


def key_of(value: Any) -> Hashable:
    """Return a key that is equal only for values that are known to compute the same.

    Raises
    ------
    UnknownPartError
        For parts and functions that aren't xpnn's own.
    """
    if value is None or isinstance(value, bool | int | float | str):
        # not the number itself: 0.0 is equal to -0.0, and to 0
        return type(value), repr(value)
    if isinstance(value, type | np.dtype):
        return value
    if isinstance(value, list | tuple):
        return tuple(map(key_of, value))
    if isinstance(value, dict):
        return tuple((name, key_of(own)) for name, own in value.items())
    if isinstance(value, functools.partial):
        return key_of(value.func), key_of(value.args), key_of(value.keywords)
    if isinstance(value, types.FunctionType) and _is_own(value):
        return value
    if isinstance(value, Part) and _is_own(type(value)):
        return type(value), key_of(public_attributes(value))
    raise UnknownPartError


def _is_own(part: Any) -> bool:
    return part.__module__.startswith("xpnn.")  # type: ignore[no-any-return]


def as_plain(identified: Any) -> Any:
    """Return an `identity` as it comes back from a JSON text."""
    return json.loads(json.dumps(identified))
