"""What the standard asks a namespace about itself."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnn.reproducible.dtypes import FLOATS, SIGNED, UNSIGNED, bounds
from xpnn.reproducible.formats import FLOAT32, FLOAT64

_KINDS = {
    "bool": ("bool",),
    "signed integer": SIGNED,
    "unsigned integer": UNSIGNED,
    "integral": (*SIGNED, *UNSIGNED),
    "real floating": FLOATS,
    "complex floating": (),
    "numeric": (*SIGNED, *UNSIGNED, *FLOATS),
}


class FloatInfo:
    """The limits of a float dtype: what `finfo` returns.

    Parameters
    ----------
    dtype, name
        The library's dtype, and its name.
    """

    def __init__(self, dtype: Any, name: str) -> None:
        limits = np.finfo(name)
        format_ = FLOAT64 if name == "float64" else FLOAT32
        self.dtype = dtype
        self.bits = limits.bits
        self.eps, self.max, self.min = float(limits.eps), float(limits.max), float(limits.min)
        # smaller numbers are multiples of 2^(low + 1), so they have fewer digits
        self.smallest_normal = 2.0 ** (format_.low + 1 + limits.nmant)

    def __repr__(self) -> str:
        return f"finfo({vars(self)})"


class IntegerInfo:
    """The limits of an integer dtype: what `iinfo` returns.

    Parameters
    ----------
    dtype, name
        The library's dtype, and its name.
    """

    def __init__(self, dtype: Any, name: str) -> None:
        self.dtype = dtype
        self.min, self.max = bounds(name)
        self.bits = (self.max - self.min).bit_length()

    def __repr__(self) -> str:
        return f"iinfo({vars(self)})"


class Info:
    """What there is: what `__array_namespace_info__` returns.

    Parameters
    ----------
    xp
        The namespace.
    """

    def __init__(self, xp: Any) -> None:
        self._xp = xp

    def capabilities(self) -> dict[str, Any]:
        """Return what the standard leaves open."""
        return {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": 32}

    def default_device(self) -> Any:
        """Return the device of arrays that are made without another."""
        return self._xp._backend.device

    def default_dtypes(self, *, device: Any = None) -> dict[str, Any]:
        """Return the dtypes of arrays that are made without another; the same on each library."""
        return {
            "real floating": self._xp.float64,
            "complex floating": None,
            "integral": self._xp.int64,
            "indexing": self._xp.int64,
        }

    def dtypes(self, *, device: Any = None, kind: Any = None) -> dict[str, Any]:
        """Return the dtypes of a kind, or of several kinds, by name; complex ones are none."""
        kinds = tuple(_KINDS) if kind is None else kind if isinstance(kind, tuple) else (kind,)
        for one in kinds:
            if one not in _KINDS:
                raise ValueError(f"kind is one of {', '.join(_KINDS)}, not {one!r}")
        names = {name for one in kinds for name in _KINDS[one]}
        return {name: getattr(self._xp, name) for name in self._xp.dtypes.names() if name in names}

    def devices(self) -> list[Any]:
        """Return the devices that the library sees."""
        return [*self._xp._backend._devices().values()]
