"""The array that a reproducible namespace hands out: an operand with operators."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import array_api_compat

from xpnn.reproducible.dtypes import refusal
from xpnn.reproducible.facts import Facts
from xpnn.reproducible.operand import Operand

Raw = Any


def _unary(name: str) -> Callable[[Array], Array]:
    """Return an operator that calls the namespace's function `name`."""
    return lambda self: getattr(self._xp, name)(self)


def _binary(name: str) -> Callable[[Array, Any], Array]:
    """Return an operator that calls the namespace's function `name`."""
    return lambda self, other: getattr(self._xp, name)(self, other)


def _reflected(name: str) -> Callable[[Array, Any], Array]:
    """Return an operator that calls the namespace's function `name` with swapped operands."""
    return lambda self, other: getattr(self._xp, name)(other, self)


def _exact(operation: Callable[[Raw, Raw], Raw]) -> Any:
    """Return a comparison or a bitwise operator, which the library itself computes exactly."""
    return lambda self, other: self._xp._combine(operation, self, other)


class Array(Operand):
    """An array whose every operation gives the same bits on every backend.

    Made by a `Namespace`; behaves like an array of the array API standard. Python scalars never
    change the dtype. In-place operators never write to a buffer that somebody else can see: a view
    or an unwrapped array keeps its values.

    Parameters
    ----------
    xp
        The `Namespace` whose functions are the operators.
    raw, facts
        As for `Operand`. The dtype is bool, an integer, float32 or float64.
    owned
        Whether nobody else can see the buffer of `raw`, so that it may be overwritten.

    Raises
    ------
    TypeError
        If the dtype can't be kept to the bit. Every array is made here, so none has another dtype.
    """

    __slots__ = ("_xp", "owned")
    __array_ufunc__ = None  # so that numpy_array + Array calls __radd__ here
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, xp: Any, raw: Raw, facts: Facts, *, owned: bool = False) -> None:
        if raw.dtype not in xp.dtypes:
            raise refusal(raw.dtype)
        super().__init__(raw, facts)
        self._xp = xp
        self.owned = owned

    def __array_namespace__(self, *, api_version: str | None = None) -> Any:
        return self._xp

    def view(self, raw: Raw) -> Array:
        """Return `raw`, which holds elements of this array, perhaps in the same buffer."""
        self.owned = False
        return Array(self._xp, raw, self.facts.bounds())

    @property
    def device(self) -> Any:
        """The library's own device."""
        return array_api_compat.device(self.raw)

    @property
    def T(self) -> Array:  # noqa: N802
        """The transpose of a matrix."""
        if self.ndim != 2:
            raise ValueError(f".T needs two dimensions, not {self.ndim}; use .mT or permute_dims")
        return self.mT

    @property
    def mT(self) -> Array:  # noqa: N802
        """The transpose of each matrix of a stack."""
        return self._xp.matrix_transpose(self)  # type: ignore[no-any-return]

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

    def __pos__(self) -> Array:
        return self

    def __invert__(self) -> Array:
        return self._xp.wrap_canonical(~self.raw)  # type: ignore[no-any-return]

    __neg__ = _unary("negative")
    __abs__ = _unary("abs")

    __add__ = _binary("add")
    __radd__ = _binary("add")
    __sub__ = _binary("subtract")
    __rsub__ = _reflected("subtract")
    __mul__ = _binary("multiply")
    __rmul__ = _binary("multiply")
    __truediv__ = _binary("divide")
    __rtruediv__ = _reflected("divide")
    __pow__ = _binary("pow")
    __rpow__ = _reflected("pow")
    __matmul__ = _binary("matmul")

    __lt__ = _exact(operator.lt)
    __le__ = _exact(operator.le)
    __gt__ = _exact(operator.gt)
    __ge__ = _exact(operator.ge)
    __eq__ = _exact(operator.eq)
    __ne__ = _exact(operator.ne)
    __and__ = _exact(operator.and_)
    __or__ = _exact(operator.or_)
    __xor__ = _exact(operator.xor)
    __rshift__ = _exact(operator.rshift)

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
        """Set ``self = operation(self, other)``, in this array's own buffer where that is safe."""
        self._same_dtype(other)
        if self.owned:
            x, y, low = self._xp._operands(self, other, min)
            if getattr(y, "shape", x.shape) == x.shape or len(y.shape) < len(x.shape):
                self.replace(inplace(x, y), Facts(low))
                return self
        return self._become(operation(self, other))

    def _become(self, result: Array) -> Array:
        if result.shape != self.shape:
            raise ValueError(f"in place: {self.shape} cannot become {result.shape}")
        self.replace(result.raw, Facts(result.facts.low))
        self.owned = result.owned
        return self
