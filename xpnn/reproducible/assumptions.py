"""Conditions on values of the device: looked at on the host, or assumed until the epoch ends.

A product is cut one way if its operands are in the safe range, and another way if they are not.
Looking at that condition copies it from the device to the host, which waits for the device. So the
steps of an epoch assume that all operands are in range, and the device notes whether they were. The
host looks once, after the last step. If an assumption was wrong, the results are thrown away, and
the steps are done again from where they began, looking at each condition.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

Raw = Any


class WrongAssumptionError(Exception):
    """A condition that steps assumed does not hold, so their results are of no use."""


class Assumptions:
    """The conditions that steps have assumed, as one truth value on the device."""

    def __init__(self) -> None:
        self._all: Raw | None = None
        self._later: list[Any] = []

    def add(self, condition: Raw) -> None:
        """Assume another condition, a raw array without dimensions."""
        self._all = condition if self._all is None else self._all & condition

    def add_later(self, conditions: Any) -> None:
        """Assume an array of conditions, which is looked at only in the end."""
        self._later.append(conditions)

    def hold(self) -> bool:
        """Return whether all conditions hold. Synchronises."""
        for conditions in self._later:
            self.add(conditions.__array_namespace__().all(conditions).raw)
        self._later.clear()
        return self._all is None or bool(self._all)

    def check(self) -> None:
        """Raise WrongAssumptionError unless all conditions hold. Synchronises."""
        if not self.hold():
            raise WrongAssumptionError

    def guard(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return `function` made to assume conditions instead of looking at them.

        If it raises an error after a wrong assumption, that is a WrongAssumptionError instead.
        """

        def assuming(*arguments: Any) -> Any:
            try:
                with self.made():
                    return function(*arguments)
            except Exception:
                self.check()
                raise

        return assuming

    @contextlib.contextmanager
    def made(self) -> Iterator[None]:
        """Assume conditions within a block instead of looking at them."""
        before, _current.assumptions = _current.assumptions, self
        try:
            yield
        finally:
            _current.assumptions = before

    def truth(self, like: Any) -> Any:
        """Return whether all conditions hold, as an array of the kind and device of `like`."""
        xp = like.__array_namespace__()
        if self._all is None:
            return xp.ones((), dtype=xp.bool, device=like.device)
        return xp.wrap_canonical(self._all)


class NotingStep:
    """A step that assumes conditions, and returns whether they hold as one output more.

    It is for recording: the conditions of a step that is carried out have their own `Assumptions`.

    Parameters
    ----------
    step
        The step, as `xpnn.backends.Backend.fold` says.
    precision
        That of its products and sums.
    """

    def __init__(self, step: Callable[..., Any], precision: str) -> None:
        self._step = step
        self.__qualname__ = getattr(step, "__qualname__", type(step).__name__)
        own = getattr(step, "key", None)
        # only steps with the same computation share it
        self.key = None if own is None else (type(self), precision, own)

    def __call__(self, carry: Any, row: Any, *context: Any) -> Any:
        own = Assumptions()
        with own.made():
            carry, outputs = self._step(carry, row, *context)
        return carry, (*outputs, own.truth(row))


class AssumingFold:
    """The fold of a step that is recorded with its assumptions.

    Parameters
    ----------
    recorded
        The fold of the `NotingStep`.
    looking
        That of the step itself, for a caller who assumes nothing.
    """

    def __init__(self, recorded: Callable[..., Any], looking: Callable[..., Any]) -> None:
        self._recorded, self._looking = recorded, looking

    def __call__(self, carry: Any, rows: Any, *context: Any) -> Any:
        """Step through the rows, as `xpnn.backends.Backend.fold` says."""
        assumptions = _current.assumptions
        if assumptions is None:
            return self._looking(carry, rows, *context)
        carry, (*outputs, held) = self._recorded(carry, rows, *context)
        assumptions.add_later(held)
        return carry, tuple(outputs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._recorded, name)


class _Current(threading.local):
    assumptions: Assumptions | None = None


_current = _Current()


class Condition:
    """A truth value on the device, in a raw array without dimensions.

    ``bool(condition)`` looks at it, or assumes that it is True.
    """

    __slots__ = ("_assumed_by", "_raw", "_seen")

    def __init__(self, raw: Raw) -> None:
        self._raw = raw
        self._seen: bool | None = None
        self._assumed_by: Assumptions | None = None

    def __bool__(self) -> bool:
        if self._seen is not None:
            return self._seen
        assumptions = _current.assumptions
        if assumptions is None:
            self._seen = bool(self._raw)
            return self._seen
        if self._assumed_by is not assumptions:
            assumptions.add(self._raw)
            self._assumed_by = assumptions
        return True
