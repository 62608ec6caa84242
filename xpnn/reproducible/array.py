"""The array that a reproducible namespace hands out."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import array_api_compat

if TYPE_CHECKING:
    from xpnn.reproducible.namespace import Namespace
    from xpnn.reproducible.pixels import Pixels

Raw = Any


class Array:
    """An array whose every operation gives the same bits on every backend.

    Made by a `Namespace`; behaves as an array of the array API standard. Python scalars never
    change the dtype. In-place operators never touch a buffer that anybody else can see: a view
    or an unwrapped array keeps its values.

    Attributes
    ----------
    raw
        The library's own array.
    low
        Every finite element is a multiple of ``2**low``; a fact known without a look.
    high
        Every element is at most ``2**high`` in absolute value, or None where unknown.
    owned
        Nobody else can see the buffer.
    cuts
        What `xpnn.reproducible.cuts` keeps of this array, by its own keys.
    base
        For a transpose: the original and the buffer that it had.
    pixels
        For images: what `xpnn.reproducible.pixels` makes of them.
    """

    __slots__ = ("_xp", "base", "cuts", "high", "low", "owned", "pixels", "raw")
    __array_ufunc__ = None  # numpy_array + Array must come to us, not be done elementwise

    def __init__(
        self, xp: Namespace, raw: Raw, low: int, *, high: int | None = None, owned: bool = False
    ) -> None:
        self._xp = xp
        self.raw = raw
        self.low = low
        self.high = high
        self.owned = owned
        self.cuts: dict[Any, Any] | None = None
        self.base: tuple[Array, Raw] | None = None
        self.pixels: Pixels | None = None

    def __array_namespace__(self, *, api_version: str | None = None) -> Namespace:
        return self._xp

    def view(self, raw: Raw) -> Array:
        """Return `raw`, which holds elements of this array, perhaps in the same buffer."""
        self.owned = False
        return Array(self._xp, raw, self.low, high=self.high)

    @property
    def original(self) -> Array | None:
        """What this is the transpose of; None if it is of none, or that was changed since."""
        unchanged = self.base is not None and self.base[0].raw is self.base[1]
        return self.base[0] if self.base is not None and unchanged else None

    @property
    def shape(self) -> tuple[int, ...]:
        """The lengths along the axes."""
        return tuple(self.raw.shape)

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.raw.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.raw.shape)

    @property
    def dtype(self) -> Any:
        """The library's own dtype."""
        return self.raw.dtype

    @property
    def device(self) -> Any:
        """The library's own device."""
        return array_api_compat.device(self.raw)

    @property
    def T(self) -> Array:  # noqa: N802
        """The transpose of a matrix."""
        if self.ndim != 2:
            raise ValueError(f".T needs two dimensions, not {self.ndim}; use .mT or permute_dims")
        return self._xp.matrix_transpose(self)

    @property
    def mT(self) -> Array:  # noqa: N802
        """The transpose of each matrix of a stack."""
        return self._xp.matrix_transpose(self)

    def __getitem__(self, key: Any) -> Array:
        if isinstance(key, tuple):
            key = tuple(k.raw if isinstance(k, Array) else k for k in key)
        elif isinstance(key, Array):
            key = key.raw
        return self.view(self.raw[key])

    def __setitem__(self, key: Any, value: Any) -> None:
        raise TypeError("reproducible arrays have no item assignment; use where or concat")

    def __len__(self) -> int:
        return int(self.raw.shape[0])

    def __bool__(self) -> bool:
        return bool(self.raw)

    def __float__(self) -> float:
        return float(self.raw)

    def __int__(self) -> int:
        return int(self.raw)

    def __index__(self) -> int:
        return operator.index(self.raw)

    def __repr__(self) -> str:
        return f"reproducible.Array({self.raw!r})"

    __hash__ = None  # type: ignore[assignment]

    def __add__(self, other: Any) -> Array:
        return self._xp.add(self, other)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Array:
        return self._xp.subtract(self, other)

    def __rsub__(self, other: Any) -> Array:
        return self._xp.subtract(other, self)

    def __mul__(self, other: Any) -> Array:
        return self._xp.multiply(self, other)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Array:
        return self._xp.divide(self, other)

    def __rtruediv__(self, other: Any) -> Array:
        return self._xp.divide(other, self)

    def __pow__(self, other: Any) -> Array:
        return self._xp.pow(self, other)

    def __rpow__(self, other: Any) -> Array:
        return self._xp.pow(other, self)

    def __matmul__(self, other: Any) -> Array:
        return self._xp.matmul(self, other)

    def __neg__(self) -> Array:
        return self._xp.negative(self)

    def __pos__(self) -> Array:
        return self

    def __abs__(self) -> Array:
        return self._xp.abs(self)

    def __invert__(self) -> Array:
        return self._xp._plain(~self.raw)

    def __and__(self, other: Any) -> Array:
        return self._xp._combine(operator.and_, self, other)

    def __or__(self, other: Any) -> Array:
        return self._xp._combine(operator.or_, self, other)

    def __xor__(self, other: Any) -> Array:
        return self._xp._combine(operator.xor, self, other)

    def __rshift__(self, other: Any) -> Array:
        return self._xp._combine(operator.rshift, self, other)

    def __lt__(self, other: Any) -> Array:
        return self._xp._combine(operator.lt, self, other)

    def __le__(self, other: Any) -> Array:
        return self._xp._combine(operator.le, self, other)

    def __gt__(self, other: Any) -> Array:
        return self._xp._combine(operator.gt, self, other)

    def __ge__(self, other: Any) -> Array:
        return self._xp._combine(operator.ge, self, other)

    def __eq__(self, other: Any) -> Array:  # type: ignore[override]
        return self._xp._combine(operator.eq, self, other)

    def __ne__(self, other: Any) -> Array:  # type: ignore[override]
        return self._xp._combine(operator.ne, self, other)

    def __iadd__(self, other: Any) -> Array:
        return self._accumulate(operator.iadd, operator.add, other)

    def __isub__(self, other: Any) -> Array:
        return self._accumulate(operator.isub, operator.sub, other)

    def __imul__(self, other: Any) -> Array:
        return self._become(self._same_dtype(other) * other)

    def __itruediv__(self, other: Any) -> Array:
        return self._become(self._same_dtype(other) / other)

    def _same_dtype(self, other: Any) -> Array:
        if isinstance(other, Array) and other.raw.dtype != self.raw.dtype:
            raise TypeError(f"in place: {self.dtype} cannot take {other.dtype}")
        return self

    def _accumulate(
        self, inplace: Callable[..., Raw], operation: Callable[..., Array], other: Any
    ) -> Array:
        """Set ``self = operation(self, other)``, in our own buffer where that is safe."""
        self._same_dtype(other)
        if self.owned:
            x, y, low = self._xp._operands(self, other, min)
            if getattr(y, "shape", x.shape) == x.shape or len(y.shape) < len(x.shape):
                self.raw, self.low = inplace(x, y), low
                self.high = self.cuts = self.base = self.pixels = None
                return self
        return self._become(operation(self, other))

    def _become(self, result: Array) -> Array:
        if result.shape != self.shape:
            raise ValueError(f"in place: {self.shape} cannot become {result.shape}")
        self.raw, self.low, self.owned = result.raw, result.low, result.owned
        self.high = self.cuts = self.base = self.pixels = None
        return self
