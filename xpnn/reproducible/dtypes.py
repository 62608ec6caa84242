"""The dtypes that are kept to the bit, and those that operations of two of them have."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

Raw = Any

SIGNED = ("int8", "int16", "int32", "int64")
UNSIGNED = ("uint8", "uint16", "uint32", "uint64")
FLOATS = ("float32", "float64")
INTEGERS = (*SIGNED, *UNSIGNED)
# A product of complex numbers is fused on one library and not on another, and numbers of two bytes
# are rounded once on one and twice on another: their bits can't be kept.
KEPT = ("bool", *INTEGERS, *FLOATS)

_BOUNDS = {
    name: (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if name in SIGNED else (0, 2**bits - 1)
    for name in (*SIGNED, *UNSIGNED)
    for bits in [int(name.removeprefix("u").removeprefix("int"))]
}


class Dtypes:
    """The dtypes of one library, by their names in the standard.

    Parameters
    ----------
    xp
        The library's namespace.
    """

    def __init__(self, xp: Any) -> None:
        self._names: dict[Any, str] = {}
        self._own: dict[str, Any] = {}
        for name in KEPT:
            dtype = getattr(xp, name, None)
            if dtype is None:
                continue
            # a library's constant need not equal what .dtype returns, so both are keys
            with warnings.catch_warnings(action="ignore"):
                made = xp.empty(0, dtype=dtype).dtype
            if self._names.get(made, name) != name:
                raise TypeError(
                    f"{xp.__name__} has no {name} here; JAX needs jax.enable_x64(True) around it"
                )
            self._own[name] = made
            self._names |= {dtype: name, made: name}

    def __contains__(self, dtype: Any) -> bool:
        try:
            return dtype in self._names
        except TypeError:  # what can't be hashed is no dtype
            return False

    def names(self) -> tuple[str, ...]:
        """Return the names of the dtypes that the library has and that are kept."""
        return tuple(self._own)

    def name(self, dtype: Any) -> str:
        """Return a dtype's name in the standard.

        Raises
        ------
        TypeError
            If it isn't one that is kept to the bit.
        """
        if dtype not in self:
            raise refusal(dtype)
        return self._names[dtype]

    def own(self, name: str) -> Any:
        """Return the library's dtype of this name."""
        if name not in self._own:
            raise TypeError(f"the library has no {name}")
        return self._own[name]

    def admit(self, value: Any) -> None:
        """Raise unless a value, which shall become an array, has only numbers that are kept.

        A library may convert others in silence: NumPy drops imaginary parts, JAX bits of a
        longdouble.

        Raises
        ------
        TypeError
            If its dtype isn't one that is kept to the bit.
        """
        dtype = getattr(value, "dtype", None)
        if dtype is None:
            dtype = np.asarray(value).dtype
        if not (dtype.name in KEPT if isinstance(dtype, np.dtype) else dtype in self):
            raise refusal(dtype)

    def admit_foreign(self, value: Any) -> None:
        """Raise unless another library's array has a dtype that is kept, by its name."""
        dtype = getattr(value, "dtype", None)
        name = str(getattr(dtype, "name", dtype)).rpartition(".")[2]
        if dtype is not None and name not in KEPT:
            raise refusal(dtype)

    def common(self, *dtypes: Any) -> Any:
        """Return the dtype of an operation's result, by the standard's table.

        Raises
        ------
        TypeError
            If the table has no result, as for integers with floats, or int8 with uint64.
        """
        names = dict.fromkeys(map(self.name, dtypes))
        return self.own(_common(tuple(names)))


def unwrapped(value: Any) -> TypeError:
    """Return the error for what is no reproducible array."""
    kind = type(value).__name__
    return TypeError(f"a reproducible array is needed, not {kind}: wrap it with xp.asarray")


def refusal(dtype: Any) -> TypeError:
    """Return the error for a dtype that isn't kept, or for what is no dtype."""
    if hasattr(dtype, "shape") and not isinstance(dtype, (np.dtype, type)):
        return unwrapped(dtype)
    name = str(getattr(dtype, "name", None) or getattr(dtype, "__name__", None) or dtype)
    name = name.rpartition(".")[2]
    if name in KEPT:
        return TypeError(
            f"{name} of another library, as {dtype!r}: take dtypes and arrays from one namespace, "
            f"such as xp.{name} and xp.asarray(…)"
        )
    # texts, times, records and objects
    other = isinstance(dtype, np.dtype) and (dtype.kind in "OSUTMm" or name.startswith("void"))
    why = "has no numbers" if other else "can't be kept to the bit"
    return TypeError(
        f"{name} {why}: dtypes of reproducible arrays are bool, integers, float32 and float64; "
        "convert before"
    )


def _common(names: tuple[str, ...]) -> str:
    result = names[0]
    for name in names[1:]:
        result = _pair(result, name)
    return result


def _pair(a: str, b: str) -> str:
    for kind in (SIGNED, UNSIGNED, FLOATS):
        if a in kind and b in kind:
            return max(a, b, key=kind.index)
    if a != b:
        signed, unsigned = (a, b) if a in SIGNED else (b, a)
        if signed in SIGNED and unsigned in UNSIGNED[:3]:
            return max(signed, SIGNED[UNSIGNED.index(unsigned) + 1], key=SIGNED.index)
        raise TypeError(
            f"{a} and {b} have no common dtype in the array API standard: convert one with astype"
        )
    return a


def check_scalar(value: Any, name: str) -> None:
    """Raise unless a Python number can be combined with an array of this dtype.

    Raises
    ------
    TypeError
        If it is of a kind that the dtype can't have: complex, a float with integers, a number with
        truth values.
    OverflowError
        If an integer is outside the range of an integer dtype.
    """
    if isinstance(value, complex):
        raise refusal(type(value))
    if isinstance(value, bool) or name in FLOATS:
        return
    if name == "bool" or not isinstance(value, int):
        raise TypeError(f"the Python number {value!r} can't be combined with {name}: use astype")
    check_range(name, value)


def check_range(name: str, *values: float) -> None:
    """Raise an OverflowError unless all values are in the range of an integer dtype."""
    low, high = _BOUNDS[name]
    for value in values:
        if not low <= value <= high:
            raise OverflowError(f"{value} is outside the range of {name}, {low} to {high}")


def bounds(name: str) -> tuple[int, int]:
    """Return the least and the largest number of an integer dtype."""
    return _BOUNDS[name]
