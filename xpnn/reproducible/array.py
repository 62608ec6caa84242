"""The array that a reproducible namespace hands out: an operand with operators."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any

import array_api_compat
import numpy as np

from xpnn.reproducible.dtypes import INTEGERS, refusal
from xpnn.reproducible.facts import Facts
from xpnn.reproducible.operand import Operand

Raw = Any

# of the array API standard, each of which has all functions of the one before it
_VERSIONS = ("2021.12", "2022.12", "2023.12", "2024.12")


def _unary(name: str) -> Callable[[Array], Array]:
    """Return an operator that calls the namespace's function `name`."""
    return lambda self: getattr(self._xp, name)(self)


def _binary(name: str) -> Callable[[Array, Any], Array]:
    """Return an operator that calls the namespace's function `name`."""
    return lambda self, other: getattr(self._xp, name)(self, other)


def _reflected(name: str) -> Callable[[Array, Any], Array]:
    """Return an operator that calls the namespace's function `name` with swapped operands."""
    return lambda self, other: getattr(self._xp, name)(other, self)


def _inplace(name: str) -> Callable[[Array, Any], Array]:
    """Return an operator that sets an array to what the namespace's function `name` returns."""
    return lambda self, other: self._become(getattr(self._xp, name)(self._same_dtype(other), other))


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
    # so that numpy_array + Array calls __radd__ here; CuPy looks at the second one
    __array_ufunc__ = None
    __array_priority__ = 1e6
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, xp: Any, raw: Raw, facts: Facts, *, owned: bool = False) -> None:
        if raw.dtype not in xp.dtypes:
            raise refusal(raw.dtype)
        if isinstance(raw, xp._abstract):
            raise TypeError(
                f"{type(raw).__name__}: reproducible arrays can't be traced, by jax.jit, vmap or "
                "grad, because a compiler joins operations; call the function without them"
            )
        super().__init__(raw, facts)
        self._xp = xp
        self.owned = owned

    def __copy__(self) -> Array:
        return self._xp.copy(self)  # type: ignore[no-any-return]

    def __deepcopy__(self, memo: Any) -> Array:
        return self._xp.copy(self)  # type: ignore[no-any-return]

    def __reduce__(self) -> tuple[Any, ...]:
        return self._xp._pickled(self)  # type: ignore[no-any-return]

    def __array_namespace__(self, *, api_version: str | None = None) -> Any:
        if api_version not in (None, *_VERSIONS):
            raise ValueError(
                f"api_version must be one of {', '.join(_VERSIONS)}, got {api_version!r}"
            )
        return self._xp

    def _view(self, raw: Raw) -> Array:
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
        return self._xp.getitem(self, key)  # type: ignore[no-any-return]

    def __setitem__(self, key: Any, value: Any) -> None:
        self._xp.setitem(self, key, value)

    def __iter__(self) -> Iterator[Array]:
        if not self.ndim:
            raise TypeError("an array without axes can't be iterated over")
        return (self[i, ...] for i in range(self.shape[0]))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("a reproducible array can't become NumPy's without a copy")
        host = self._xp.to_numpy(self)
        return host if dtype is None else host.astype(dtype, copy=False)  # type: ignore[no-any-return]

    def __array_function__(
        self, function: Callable[..., Any], types: Any, args: Any, kwargs: Any
    ) -> Any:
        name = function.__name__
        raise TypeError(
            f"numpy.{name} would compute in NumPy's own way: use xp.{name} of the array's "
            "namespace, or numpy.asarray(x) first"
        )

    def __dlpack__(
        self, *, stream: Any = None, max_version: tuple[int, int] | None = None,
        dl_device: tuple[Any, int] | None = None, copy: bool | None = None,
    ) -> Any:  # fmt: skip
        # before version 1 a capsule has no version, as without max_version; JAX refuses (0, 4)
        if max_version is not None and max_version < (1, 0):
            max_version = None
        given = {"stream": stream, "max_version": max_version, "dl_device": dl_device, "copy": copy}
        given = {name: value for name, value in given.items() if value is not None}
        return self._xp.exported(self).__dlpack__(**given)

    def __dlpack_device__(self) -> tuple[Any, int]:
        return self.raw.__dlpack_device__()  # type: ignore[no-any-return]

    def to_device(self, device: Any, /, *, stream: Any = None) -> Array:
        """Return the array on another device of the library."""
        return self._xp.to_device(self, device, stream=stream)  # type: ignore[no-any-return]

    def __len__(self) -> int:
        if not self.ndim:
            raise TypeError("an array without axes has no length")
        return int(self.raw.shape[0])

    def _only(self) -> Raw:
        """Return the only element; some libraries take it from an array with axes, others don't."""
        if self.ndim:
            raise TypeError(f"a Python number needs an array without axes, not of {self.shape}")
        return self.raw

    def __bool__(self) -> bool:
        return bool(self._only())

    def __float__(self) -> float:
        return float(self._only())

    def __int__(self) -> int:
        return int(self._only())

    def __complex__(self) -> complex:
        return complex(float(self._only()))

    def __index__(self) -> int:
        if self._xp.dtypes.name(self.dtype) not in INTEGERS or self.ndim:
            raise TypeError("only an integer array without axes can be an index")
        return int(self.raw)

    def __repr__(self) -> str:
        return f"reproducible.Array({self.raw!r})"

    __pos__ = _unary("positive")
    __neg__ = _unary("negative")
    __invert__ = _unary("bitwise_invert")
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
    __floordiv__ = _binary("floor_divide")
    __rfloordiv__ = _reflected("floor_divide")
    __mod__ = _binary("remainder")
    __rmod__ = _reflected("remainder")
    __matmul__ = _binary("matmul")
    __rmatmul__ = _reflected("matmul")

    __lt__ = _binary("less")
    __le__ = _binary("less_equal")
    __gt__ = _binary("greater")
    __ge__ = _binary("greater_equal")
    __eq__ = _binary("equal")  # type: ignore[assignment]
    __ne__ = _binary("not_equal")  # type: ignore[assignment]

    __and__ = _binary("bitwise_and")
    __rand__ = _reflected("bitwise_and")
    __or__ = _binary("bitwise_or")
    __ror__ = _reflected("bitwise_or")
    __xor__ = _binary("bitwise_xor")
    __rxor__ = _reflected("bitwise_xor")
    __lshift__ = _binary("bitwise_left_shift")
    __rlshift__ = _reflected("bitwise_left_shift")
    __rshift__ = _binary("bitwise_right_shift")
    __rrshift__ = _reflected("bitwise_right_shift")

    __ifloordiv__ = _inplace("floor_divide")
    __imod__ = _inplace("remainder")
    __ipow__ = _inplace("pow")
    __imatmul__ = _inplace("matmul")
    __iand__ = _inplace("bitwise_and")
    __ior__ = _inplace("bitwise_or")
    __ixor__ = _inplace("bitwise_xor")
    __ilshift__ = _inplace("bitwise_left_shift")
    __irshift__ = _inplace("bitwise_right_shift")

    def __iadd__(self, other: Any) -> Array:
        return self._accumulate(operator.iadd, operator.add, other)

    def __isub__(self, other: Any) -> Array:
        return self._accumulate(operator.isub, operator.sub, other)

    def __imul__(self, other: Any) -> Array:
        return self._become(self._same_dtype(other) * other)

    def __itruediv__(self, other: Any) -> Array:
        return self._become(self._same_dtype(other) / other)

    def _same_dtype(self, other: Any) -> Array:
        if (
            isinstance(other, Array)
            and (other._xp is not self._xp or other.raw.dtype != self.raw.dtype)
            and self._xp.result_type(self, other) != self.raw.dtype
        ):
            raise TypeError(f"in place: {self.dtype} cannot take {other.dtype}")
        return self

    def _accumulate(
        self, inplace: Callable[..., Raw], operation: Callable[..., Array], other: Any
    ) -> Array:
        """Set ``self = operation(self, other)``, in this array's own buffer where that is safe."""
        self._same_dtype(other)
        if self.owned and self._xp.accumulate(self, inplace, other):
            return self
        return self._become(operation(self, other))

    def _become(self, result: Array) -> Array:
        if result.dtype != self.dtype:
            raise TypeError(f"in place: {self.dtype} cannot become {result.dtype}")
        if result.shape != self.shape:
            raise ValueError(f"in place: {self.shape} cannot become {result.shape}")
        self.replace(result.raw, Facts(result.facts.low))
        self.owned = result.owned
        return self
