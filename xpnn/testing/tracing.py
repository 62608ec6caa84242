"""A namespace that records each operation, and `trace`, which finds where two libraries part."""

from __future__ import annotations

import contextlib
import functools
import inspect
import operator
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import array_api_compat
import numpy as np

from xpnn.backends import BACKENDS, get_backend, to_numpy
from xpnn.errors import ArgumentError, counted, nonnegative
from xpnn.reproducible import Generator, StandardNamespace
from xpnn.testing.bits import difference, differing

Array = Any

# from an operation's name, its operands and the call that computes it, its result
Record = Callable[[str, tuple[Any, ...], Callable[[], Any]], Any]


class TracedArray:
    """An array of another library; each operation on it is recorded."""

    __slots__ = ("raw", "xp")
    __hash__ = None  # type: ignore[assignment]
    # so that numpy_array + traced_array calls __radd__ here
    __array_ufunc__ = None

    def __init__(self, raw: Array, xp: TracedNamespace) -> None:
        self.raw, self.xp = raw, xp

    def __array_namespace__(self, *, api_version: str | None = None) -> TracedNamespace:
        return self.xp

    def __getattr__(self, name: str) -> Any:
        return self.xp.wrapped(name, getattr(self.raw, name))

    def __getitem__(self, key: Any) -> Any:
        return self.xp.call("getitem", operator.getitem, self, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.xp.call("setitem", _set, self, key, value)

    def __repr__(self) -> str:
        return repr(self.raw)


def _set(array: Array, key: Any, value: Any) -> Array:
    array[key] = value
    return array


def _operator(name: str) -> Callable[..., Any]:
    function = getattr(operator, name)
    # += has the name of +
    operation = name.strip("_")
    operation = operation.removeprefix("i") if operation[1:] in _BINARY else operation

    def recorded(*operands: Any) -> Any:
        xp = next(x.xp for x in operands if isinstance(x, TracedArray))
        return xp.call(operation, function, *operands)

    return recorded


_BINARY = (
    "add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor",
    "lshift", "rshift",
)  # fmt: skip
for _name in _BINARY:
    _function = _operator(f"__{_name}__")
    setattr(TracedArray, f"__{_name}__", _function)
    setattr(TracedArray, f"__r{_name}__", lambda a, b, f=_function: f(b, a))
    setattr(TracedArray, f"__i{_name}__", _operator(f"__i{_name}__"))
for _name in ("neg", "pos", "abs", "invert", "lt", "le", "gt", "ge", "eq", "ne"):
    setattr(TracedArray, f"__{_name}__", _operator(f"__{_name}__"))
for _type in (bool, int, float, complex, len):
    setattr(TracedArray, f"__{_type.__name__}__", lambda x, f=_type: f(x.raw))
TracedArray.__index__ = lambda x: operator.index(x.raw)  # type: ignore[attr-defined]


class TracedNamespace:
    """Another namespace, with `TracedArray` for its arrays.

    Parameters
    ----------
    inner
        The other namespace.
    record
        Called with each operation.
    """

    def __init__(self, inner: Any, record: Record) -> None:
        self._inner, self._record = inner, record

    def __getattr__(self, name: str) -> Any:
        return self.wrapped(name, getattr(self._inner, name))

    def wrapped(self, name: str, value: Any) -> Any:
        """Return an attribute, so that what it computes is recorded by its name."""
        if _is_array(value):
            return TracedArray(value, self)
        if name in ("linalg", "fft") or isinstance(value, Generator):
            return _Part(value, name, self)
        # dtypes may be types; limits take arrays
        if not callable(value) or (isinstance(value, type) and name not in ("finfo", "iinfo")):
            return value
        return functools.partial(self.call, name, value)

    def call(self, operation: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a function of the other namespace, and record it."""
        raw = self.unwrapped(args)
        named = {key: self.unwrapped(value) for key, value in kwargs.items()}
        result = self._record(operation, (*raw, *named.values()), lambda: function(*raw, **named))
        if isinstance(result, tuple):
            made = (self.wrapped(operation, own) for own in result)
            return type(result)(*made) if hasattr(result, "_fields") else tuple(made)
        return self.wrapped(operation, result)

    def unwrapped(self, value: Any) -> Any:
        """Return `value` with the other library's own arrays in it."""
        if isinstance(value, TracedArray):
            return value.raw
        if isinstance(value, list | tuple):
            return (list if isinstance(value, list) else tuple)(map(self.unwrapped, value))
        return value


class _Part:
    """A part of another namespace: an extension, or a stream of random numbers."""

    def __init__(self, inner: Any, name: str, xp: TracedNamespace) -> None:
        self._inner, self._name, self._xp = inner, name, xp

    def __getattr__(self, name: str) -> Any:
        return self._xp.wrapped(f"{self._name}.{name}", getattr(self._inner, name))


def _is_array(value: Any) -> bool:
    return array_api_compat.is_array_api_obj(value)


@dataclass(frozen=True)
class Tracing:
    """What `trace` found; printed, it is a sentence.

    Attributes
    ----------
    names
        The two namespaces.
    operations
        How many operations agree, until the first that doesn't.
    operation
        The name of the first operation that differs, "add" or "linalg.solve"; None if all agree.
    place
        The file and the line that called it.
    operands
        What it was called with, in the second namespace: arrays on the host, and other arguments.
    results
        Its results in the two namespaces, on the host.
    parted
        Where the namespaces differ first, in words; None if they don't.
    """

    names: tuple[str, str]
    operations: int
    operation: str | None = None
    place: str | None = None
    operands: tuple[Any, ...] = ()
    results: tuple[Any, ...] = ()
    parted: str | None = None

    @property
    def agree(self) -> bool:
        """Whether all operations have the same results, and so has the function."""
        return self.parted is None

    def __str__(self) -> str:
        first, second = self.names
        if self.parted is None:
            return f"{first} and {second} agree in {counted(self.operations, 'operation')}"
        return f"{first} and {second} differ first in {self.parted}"


def trace(
    function: Callable[..., Any],
    *args: Any,
    on: tuple[Any, Any] = ("numpy", "torch"),
    ulps: float = 0,
    **options: Any,
) -> Tracing:
    """Run a function on two namespaces, and find the first operation whose results differ.

    The function runs once on each, operation by operation, as it does without `trace`: it gets
    arrays that record what is done with them, by functions of their namespace and by operators.
    What it does in another way, such as NumPy's functions, isn't seen.

    Parameters
    ----------
    function
        Any function of arrays that is written against the array API standard. If it has a parameter
        `xp`, it gets the namespace there; else it finds it by ``x.__array_namespace__()``.
    *args
        Its arguments. Arrays, of any library, become arrays of each namespace.
    on
        Two of: a library's name, with a device if it shall not be the default one ("numpy",
        "torch:cuda:0", "jax", "cupy", "strict"); a namespace, such as ``array_api_compat.torch`` or
        that of `xpnn.reproducible.namespace`.
    ulps
        The distance of results, in units in the last place, up to which they don't differ.
    **options
        Further arguments of the function.

    Returns
    -------
    Tracing
        The operation, where it was called, with what, and both results. Results of the first
        namespace are kept on the host until the function has run on the second.

    Raises
    ------
    ArgumentError
        If `on` doesn't name two namespaces, or `ulps` isn't a number from 0 on.
    BackendError
        If a library isn't installed, or has no such device.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn.verification import trace
    >>> def softmax(x, xp):
    ...     e = xp.exp(x - xp.max(x))
    ...     return e / xp.sum(e)
    >>> print(trace(softmax, np.linspace(0.0, 1.0, 5), on=("numpy", "strict")))
    numpy and strict agree in 5 operations
    """
    if not isinstance(on, (tuple, list)) or len(on) != 2:
        raise ArgumentError(f"on must be two namespaces, got {on!r}")
    for where in on:
        if not isinstance(where, str) and not hasattr(where, "asarray"):
            raise ArgumentError(f"on must have names of libraries or namespaces, got {where!r}")
    ulps = nonnegative("ulps", ulps)
    names = named(on[0]), named(on[1])
    comparison = _Comparison(names, ulps)
    expected = _run(function, args, options, on[0], comparison.remember)
    actual = _run(function, args, options, on[1], comparison.compare)
    return comparison.ended(expected, actual)


def named(where: Any) -> str:
    """Return what messages call a namespace: by its library, if it is one that xpnn knows."""
    if isinstance(where, str):
        return where
    if isinstance(where, StandardNamespace):
        return f"reproducible {where._backend.name}"
    name = getattr(where, "__name__", repr(where))
    return next((own for own, cls in BACKENDS.items() if name == cls.namespace), name)


def _run(
    function: Callable[..., Any], args: Any, options: dict[str, Any], where: Any, record: Record
) -> Any:
    """Call a function with arrays of a namespace, and return its result on the host."""
    scope: Any = contextlib.nullcontext()
    if isinstance(where, str):
        library, _, device = where.partition(":")
        backend = get_backend(library, device=device or None)
        move, scope = backend.asarray, backend.scope()
        where = array_api_compat.array_namespace(move(np.empty(0)))
    else:
        move = where.asarray
    xp = TracedNamespace(where, record)

    def moved(value: Any) -> Any:
        return TracedArray(move(np.array(to_numpy(value))), xp) if _is_array(value) else value

    with scope:
        if "xp" in inspect.signature(function).parameters:
            options = {**options, "xp": xp}
        return _hosts(function(*_mapped(moved, args), **_mapped(moved, options)))


class _Step(NamedTuple):
    """An operation of the first namespace."""

    operation: str
    place: str
    result: Any


class _Comparison:
    """The operations of the first namespace, and the first of the second one that differs."""

    def __init__(self, names: tuple[str, str], ulps: float) -> None:
        self.names, self.ulps = names, ulps
        self.steps: list[_Step] = []
        self.equal = 0
        self.found: Tracing | None = None

    def remember(self, operation: str, operands: tuple[Any, ...], call: Callable[[], Any]) -> Any:
        result = call()
        self.steps.append(_Step(operation, _place(), _hosts(result)))
        return result

    def compare(self, operation: str, operands: tuple[Any, ...], call: Callable[[], Any]) -> Any:
        if self.found is not None:
            return call()
        before = tuple(_mapped(_host, operands))
        result = call()
        here = _Step(operation, _place(), _hosts(result))
        step = self.steps[self.equal] if self.equal < len(self.steps) else None
        if step is None or step.operation != operation:
            self._part(step, here)
            return result
        words = self._difference(step.result, here.result)
        if words is None:
            self.equal += 1
            return result
        results = (step.result, here.result)
        shown = ", ".join(_shown(value, operation, results, self.ulps) for value in before)
        words = f"operation {self.equal + 1}, {operation}({shown}) in {here.place}: {words}"
        self.found = Tracing(self.names, self.equal, operation, here.place, before, results, words)
        return result

    def ended(self, expected: Any, actual: Any) -> Tracing:
        """Return what was found, given the results of the function."""
        if self.found is None and self.equal < len(self.steps):
            self._part(self.steps[self.equal], None)
        if self.found is None:
            words = self._difference(expected, actual)
            if words is not None:
                words = f"the result, though {counted(self.equal, 'operation')} agree: {words}"
            self.found = Tracing(self.names, self.equal, parted=words)
        return self.found

    def _difference(self, a: Any, b: Any) -> str | None:
        return difference(a, b, self.names, ulps=self.ulps)

    def _part(self, *steps: _Step | None) -> None:
        """Note that the namespaces go on with different operations."""
        ways = (
            f"{name} {'ends' if step is None else f'calls {step.operation} in {step.place}'}"
            for name, step in zip(self.names, steps, strict=True)
        )
        words = f"what they compute, after {counted(self.equal, 'operation')}: {', '.join(ways)}"
        self.found = Tracing(self.names, self.equal, parted=words)


def _mapped(function: Callable[[Any], Any], value: Any) -> Any:
    """Return a nest of lists, tuples and dictionaries with what a function makes of its leaves."""
    if isinstance(value, dict):
        return {key: _mapped(function, own) for key, own in value.items()}
    if isinstance(value, list | tuple):
        return [_mapped(function, own) for own in value]
    return function(value)


def _host(value: Any) -> Any:
    value = value.raw if isinstance(value, TracedArray) else value
    return np.array(to_numpy(value)) if _is_array(value) else value


def _hosts(result: Any) -> Any:
    """Return the arrays and numbers of a result on the host."""

    def leaf(value: Any) -> Any:
        value = _host(value)
        return value if isinstance(value, np.ndarray | bool | int | float | complex) else None

    return _mapped(leaf, result)


def _place() -> str:
    """Return the file and the line that called an operation."""
    frame: Any = sys._getframe()
    while frame.f_globals.get("__name__") == __name__:
        frame = frame.f_back
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"


def _shown(value: Any, operation: str, results: tuple[Any, Any], ulps: float) -> str:
    """Return an operand in words: its element where the results differ first, if it has one."""
    if not isinstance(value, np.ndarray):
        return repr(value)
    first, second = results
    elementwise = operation != "matmul" and "." not in operation
    if elementwise and isinstance(second, np.ndarray) and first.shape == second.shape:
        index = differing(first, second, ulps)[0]
        with contextlib.suppress(ValueError):
            return str(np.broadcast_to(value, second.shape)[tuple(index)])
    return f"{value.dtype}[{', '.join(map(str, value.shape))}]"
