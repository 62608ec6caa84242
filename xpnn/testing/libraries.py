"""`same_on_all`: a test whose results must be the same on all array libraries."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, overload

import array_api_compat
import numpy as np

from xpnn import reproducible
from xpnn._core.tree import leaves
from xpnn.errors import ArgumentError
from xpnn.testing.bits import difference
from xpnn.testing.tracing import named, trace

# arguments that are a namespace, with NumPy's
_NAMESPACES: dict[str, Callable[[], Any]] = {
    "xp": lambda: array_api_compat.array_namespace(np.empty(0)),
    "reproducible_xp": reproducible.namespace,
}

Test = Callable[..., Any]


@overload
def same_on_all(test: Test) -> Test: ...
@overload
def same_on_all(*, ulps: float = 0) -> Callable[[Test], Test]: ...


def same_on_all(test: Test | None = None, *, ulps: float = 0) -> Any:
    """Compare what a test returns on each array library with what it returns on NumPy.

    For tests with the fixture `xp` or `reproducible_xp` of the pytest plugin. If the results
    differ by more, the message names the first operation whose results do, as
    `xpnn.verification.trace` finds it.

    Parameters
    ----------
    test
        A test that returns arrays: one, or a nest of lists, tuples and dictionaries.
    ulps
        The distance of floats, in units in the last place, up to which they are the same.

    Examples
    --------
    >>> from xpnn.testing import same_on_all
    >>> @same_on_all(ulps=4)
    ... def test_softmax(xp):
    ...     e = xp.exp(xp.linspace(-3.0, 3.0, 100))
    ...     return e / xp.sum(e)
    """
    if test is None:
        return functools.partial(_compared, ulps=ulps)
    return _compared(test, ulps=ulps)


def _compared(test: Test, *, ulps: float) -> Test:
    names = [name for name in _NAMESPACES if name in inspect.signature(test).parameters]
    if len(names) != 1:
        raise ArgumentError(f"a test of same_on_all must take xp or reproducible_xp: {test}")
    (name,) = names

    @functools.wraps(test)
    def compared(*args: Any, **kwargs: Any) -> None:
        __tracebackhide__ = True

        there, here = kwargs.pop(name), _NAMESPACES[name]()
        on_host = {**kwargs, "device": "cpu"} if "device" in kwargs else kwargs

        def run(xp: Any) -> Any:
            own = on_host if xp.__name__ == here.__name__ else kwargs
            return test(*args, **own, **{name: xp})

        actual, expected = run(there), run(here)
        results = leaves(expected)
        if not results or any(leaf is None for leaf in (*results, *leaves(actual))):
            raise ArgumentError(f"a test of same_on_all must return arrays: {test}")
        if there is not here and not all(_is_numpys(leaf, here) for leaf in results):
            # it would be compared with itself
            raise ArgumentError(
                f"a test of same_on_all must make its arrays from the {name} that it is given, not "
                f"take them from a fixture: {test}"
            )
        found = difference(actual, expected, (named(there), named(here)), ulps=ulps)
        if found is not None:
            try:
                where = str(trace(run, on=(here, there), ulps=ulps))
            except Exception as error:  # what was found must not be lost
                where = f"no operation could be named: {type(error).__name__}: {error}"
            raise AssertionError(f"{found}\n{where}")

    return compared


def _is_numpys(leaf: Any, xp: Any) -> bool:
    """Return whether a result is a number, or an array of NumPy's namespace `xp`."""
    if isinstance(leaf, reproducible.Array):
        return leaf.__array_namespace__() is xp
    return isinstance(leaf, (np.ndarray, np.generic, bool, int, float, str))
