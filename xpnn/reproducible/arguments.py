"""Counts, shapes and axes, checked before a library sees them: what one refuses, another takes."""

from __future__ import annotations

import operator
from typing import Any

from xpnn.errors import ArgumentError


def whole(name: str, value: Any) -> int:
    """Return a whole number as Python's.

    Raises
    ------
    ArgumentError
        If it isn't one; truth values and whole floats aren't.
    """
    if type(value) is int:
        return value
    try:
        if isinstance(value, bool):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise ArgumentError(f"{name} must be a whole number, got {value!r}") from None


def count(name: str, value: Any) -> int:
    """Return a number of things, a whole number from 0 on, as Python's."""
    found = whole(name, value)
    if found < 0:
        raise ArgumentError(f"{name} must not be negative, got {value!r}")
    return found


def several(name: str, value: Any) -> tuple[int, ...]:
    """Return one whole number, or a sequence of them, as a tuple."""
    if isinstance(value, str) or not hasattr(value, "__iter__") or getattr(value, "ndim", 1) == 0:
        return (whole(name, value),)
    return tuple(whole(f"each number of {name}", n) for n in value)


def shape(value: Any, name: str = "shape") -> tuple[int, ...]:
    """Return the shape that a number or a sequence of numbers means."""
    found = several(name, value)
    if any(n < 0 for n in found):
        raise ArgumentError(f"{name} must not have negative numbers, got {value!r}")
    return found


def axis(value: Any, ndim: int) -> int:
    """Return an axis, counted from 0; see `axes`."""
    return axes(whole("axis", value), ndim)[0]


def axes(value: Any, ndim: int, name: str = "axis") -> tuple[int, ...]:
    """Return axes, in their order, counted from 0.

    Raises
    ------
    IndexError
        If there is no such axis.
    ArgumentError
        If one is there twice, or isn't a whole number.
    """
    found = []
    for k in several(name, value):
        if not -ndim <= k < ndim:
            raise IndexError(f"axis {k} is out of range for an array of {ndim} axes")
        found.append(k % ndim)
    if len(set(found)) < len(found):
        raise ArgumentError(f"{name} {value!r} has an axis twice")
    return tuple(found)
