"""Normalizers, which shift and scale the features or a regression's targets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, Self

import numpy as np

from xpnn._core.mapped import EXACT, Source, is_mapped
from xpnn._core.parts import Part
from xpnn._core.registry import Registry
from xpnn.backends import device, namespace, to_numpy
from xpnn.errors import ArgumentError, DataError, position

__all__ = [
    "NORMALIZERS",
    "Blocks",
    "MinMaxScaler",
    "Normalizer",
    "StandardScaler",
    "as_normalizer",
    "register",
]

Array = Any

NORMALIZERS: Registry[type[Normalizer]] = Registry(
    "normalizer", lambda: Normalizer, lambda normalizer: normalizer.name
)
register = NORMALIZERS.register

# values that are read at a time
_BLOCK_VALUES = 1 << 16


class Normalizer(Part, ABC):
    """Base class of normalizers: ``z = (x - offset) / scale``, column by column, in float64.

    `fit` finds offset and scale by additions, divisions, square roots and comparisons in a fixed
    order, each correctly rounded: their bits are the same on every machine, in memory and in files.

    Parameters
    ----------
    offset
        Finite, of shape (features,); None before `fit`.
    scale
        The same, and not 0.

    Raises
    ------
    ArgumentError
        If only one is given, or they can't be used.
    """

    name: ClassVar[str]

    def __init__(self, offset: Array | None = None, scale: Array | None = None) -> None:
        if (offset is None) != (scale is None):
            raise ArgumentError("offset and scale must both be given, or neither")
        self.offset: np.ndarray | None = None
        self.scale: np.ndarray | None = None
        if offset is None:
            return
        self.offset, self.scale = (np.array(to_numpy(a), np.float64) for a in (offset, scale))
        if self.offset.ndim != 1 or self.offset.shape != self.scale.shape:
            raise ArgumentError(
                "offset and scale must have shape (features,), got shapes "
                f"{self.offset.shape} and {self.scale.shape}"
            )
        for name, array in (("offset", self.offset), ("scale", self.scale)):
            wrong = ~np.isfinite(array) | ((array == 0) & (name == "scale"))
            if wrong.any():
                found = array[wrong][0]
                raise ArgumentError(f"offset and scale must be finite, scale not 0, got {found}")

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    @property
    def fitted(self) -> bool:
        """Whether offset and scale are known."""
        return self.offset is not None

    @abstractmethod
    def statistics(self, x: Blocks) -> tuple[np.ndarray, np.ndarray]:
        """Return offset and scale for data; those of a constant column don't matter."""

    @np.errstate(all="ignore")
    def fit(self, x: Array) -> Self:
        """Return a normalizer of this class for a data set; this one doesn't change.

        Parameters
        ----------
        x
            Shape (n, features) with n > 0, of any library or mapped from a file. Unsigned bytes are
            pixels and count as ``float32(x / 255)``.

        Raises
        ------
        DataError
            If x isn't an array of numbers, there are no rows, or a column's spread or integers are
            too large for float64.
        """
        host = x if is_mapped(x) else to_numpy(x)
        if host.dtype.kind not in "biuf":
            # NumPy makes floats of texts, of lengths of time, and of complex numbers too
            found = type(x).__name__ if host.ndim == 0 else f"dtype {host.dtype}"
            raise DataError(f"x must be an array of numbers, got {found}")
        if host.ndim != 2:
            raise DataError(f"x must have shape (n, features), got shape {host.shape}")
        data = Blocks(host)
        if not len(host):
            raise DataError("x must hold at least one row to normalize, got none")
        low, high = data.extremes()
        offset, scale = self.statistics(data)
        # rounded, the mean of equal numbers needn't be that number
        constant = low == high
        offset, scale = np.where(constant, low, offset), np.where(constant, 1.0, scale)
        wrong = ~np.isfinite(offset) | ~np.isfinite(scale) | (scale == 0)
        if wrong.any():
            column = int(np.argmax(wrong))
            problem = f"values from {low[column]} to {high[column]} can't be normalized in float64"
            place = position("x", column=column)
            raise DataError(problem, part="x", column=column, place=place)
        return type(self)(offset, scale)

    def apply(self, x: Array, *, xp: Any = None) -> Array:
        """Return ``(x - offset) / scale`` in float64, in the library and on the device of `x`."""
        xp, x, offset, scale = self._prepared(x, xp)
        return (x - offset) / scale

    def invert(self, z: Array, *, xp: Any = None) -> Array:
        """Return ``z * scale + offset`` in float64, which undoes `apply` up to rounding."""
        xp, z, offset, scale = self._prepared(z, xp)
        scaled = z * scale
        return scaled + offset

    def _prepared(self, x: Array, xp: Any) -> tuple[Any, Array, Array, Array]:
        if self.offset is None or self.scale is None:
            raise ArgumentError(f"{self!r} must be fitted first")
        xp = namespace(x) if xp is None else xp
        x = xp.astype(x, xp.float64)
        moved = (
            xp.asarray(a, dtype=xp.float64, device=device(x)) for a in (self.offset, self.scale)
        )
        # XLA divides by a broadcast array by multiplying with a rounded reciprocal
        offset, scale = (xp.zeros_like(x) + a for a in moved)
        return xp, x, offset, scale


class Blocks:
    """The rows of a host array as float64, block by block, for every dtype and for files."""

    def __init__(self, x: np.ndarray) -> None:
        self._x, self._source = x, Source(x, "float64", pixels=True)
        self.rows = len(x)
        self._step = max(1, _BLOCK_VALUES // max(1, x.shape[1]))

    def __iter__(self) -> Iterator[np.ndarray]:
        for start in range(0, self.rows, self._step):
            rows = self._source.rows(start, min(start + self._step, self.rows))
            yield rows.astype(np.float64)

    def extremes(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the smallest and the largest value of each column."""
        lows, highs = zip(*((rows.min(axis=0), rows.max(axis=0)) for rows in self), strict=True)
        low, high = np.min(lows, axis=0), np.max(highs, axis=0)
        outside = np.maximum(-low, high) >= EXACT
        if self._x.dtype.kind in "iu" and outside.any():
            column = int(np.argmax(outside))
            problem = "must hold integers below 2**53 to be normalized, got larger ones"
            place = position("x", column=column)
            raise DataError(problem, part="x", column=column, place=place)
        return low, high

    def mean(self, function: Any = None) -> np.ndarray:
        """Return the mean of each column, of the rows or of a function of them."""
        sums = [_total(rows if function is None else function(rows)) for rows in self]
        mean: np.ndarray = _total(np.stack(sums)) / self.rows
        return mean


def _total(rows: np.ndarray) -> np.ndarray:
    """Return the sum of each column, by halves: an order that depends on no library."""
    while len(rows) > 1:
        half = len(rows) // 2
        pairs = rows[:half] + rows[half : 2 * half]
        rows = np.concatenate([pairs, rows[2 * half :]])
    total: np.ndarray = rows[0]
    return total


class StandardScaler(Normalizer):
    """Scale to mean 0 and standard deviation 1: ``z = (x - mean) / std``, std with divisor n.

    A constant column becomes 0.
    """

    name = "standard"

    def statistics(self, x: Blocks) -> tuple[np.ndarray, np.ndarray]:
        mean = x.mean()
        return mean, np.sqrt(x.mean(lambda rows: (rows - mean) * (rows - mean)))


class MinMaxScaler(Normalizer):
    """Scale to the interval from 0 to 1: ``z = (x - min) / (max - min)``.

    A constant column becomes 0. Values of other data may lie outside.
    """

    name = "minmax"

    def statistics(self, x: Blocks) -> tuple[np.ndarray, np.ndarray]:
        low, high = x.extremes()
        return low, high - low


for _normalizer in (StandardScaler, MinMaxScaler):
    register(_normalizer)


def as_normalizer(name: str, given: object) -> Normalizer | None:
    """Return a normalizer, given as an instance or by its registered name; None for "none"."""
    if given is None or isinstance(given, Normalizer):
        return given
    if given == "none":
        return None
    if isinstance(given, str):
        return NORMALIZERS[given]()
    raise ArgumentError(
        f"{name} must be one of {', '.join(NORMALIZERS)} or an instance such as StandardScaler(), "
        f"or none, got {given!r}"
    )
