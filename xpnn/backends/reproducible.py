"""A backend around another one, whose operations give the same bits on every library."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnn._core.tree import leaves, rebuilt
from xpnn.backends.base import Backend, Step, WrappedBackend
from xpnn.errors import unknown

if TYPE_CHECKING:
    from xpnn import recording

Array = Any

_LOG = logging.getLogger(__name__)


class ReproducibleBackend(WrappedBackend):
    """A backend whose operations give the same bits whichever backend does the work.

    Parameters
    ----------
    inner
        The backend that does the work.
    precision
        The precision of products and sums, "training" or "full"; see `xpnn.reproducible`.
    """

    def __init__(self, inner: Backend, precision: str = "training") -> None:
        from xpnn import reproducible

        if precision not in reproducible.PRECISIONS:
            raise unknown("precision", precision, reproducible.PRECISIONS)
        with inner.scope():
            super().__init__(inner, reproducible.arithmetic(inner.xp, precision=precision))
            self.xp.probe(inner.device)
        # whether steps look at the conditions of a product instead of assuming them
        self._looks = not inner.apart

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.inner, self.xp.precision)

    def options(self) -> dict[str, Any]:
        return {**super().options(), "reproducible": True, "precision": self.xp.precision}

    @classmethod
    def owns(cls, array: Array) -> bool:
        return type(array).__module__.startswith("xpnn.reproducible")

    def to_numpy(self, array: Array) -> np.ndarray:  # type: ignore[override]
        return self.inner.to_numpy(self.xp.unwrap(array))

    def asarray(self, host: np.ndarray) -> Array:
        with self.inner.scope():
            return self.xp.wrap(self.inner.asarray(host))

    def dataset(
        self, values: Callable[[], Iterable[np.ndarray]] | None = None
    ) -> Callable[[np.ndarray], Array]:
        from xpnn import reproducible

        pixels = self.dtype_name == "float64"
        if values is None:
            return lambda host: self.xp.prepare(self.asarray(host), pixels=pixels)
        known = reproducible.survey(values, pixels=pixels)

        def moved(part: np.ndarray) -> Array:
            # made canonical in place on the host, so that NumPy's parts need no copy
            reproducible.canonical(part)
            return self.xp.wrap_canonical(self.inner.asarray(part), known)

        return moved

    def random_state(self, seed: int) -> np.random.RandomState:
        from xpnn import reproducible

        return reproducible.RandomState(seed)

    def sweep(
        self,
        fold: Step,
        carry: Any,
        pieces: Sequence[Array],
        context: Sequence[Array],
        told: Callable[[int], None],
    ) -> tuple[Any, list[tuple[Array, ...]]]:
        from xpnn.reproducible.assumptions import Assumptions, WrongAssumptionError

        if self._looks:
            return super().sweep(fold, carry, pieces, context, told)
        # for a second try: steps change the arrays of the carry
        again = rebuilt(carry, map(self._copied, leaves(carry)))
        assumptions = Assumptions()
        told_already: list[int] = []

        def tell(count: int) -> None:
            told_already.append(count)
            told(count)

        def tell_the_rest(count: int) -> None:
            if told_already:
                told_already.pop()
            else:
                told(count)

        with contextlib.suppress(WrongAssumptionError):
            result = super().sweep(assumptions.guard(fold), carry, pieces, context, tell)
            assumptions.check()
            return result
        # the assumption would be wrong again in later steps
        self._looks = True
        _LOG.info(
            "an operand is beyond 2^400 or below 2^-400: steps wait for the device from now on"
        )
        return super().sweep(fold, again, pieces, context, tell_the_rest)

    def _copied(self, array: Array) -> Array:
        if not self.owns(array):
            return array
        raw = self.inner.xp.asarray(array.raw, dtype=array.raw.dtype, device=self.device, copy=True)
        return self.xp.wrap_canonical(raw, array.facts)

    def fold(self, step: Step) -> Step:
        from xpnn.reproducible import assumptions

        eager = super().fold(step)
        # at full precision the number of slices depends on values, so steps can't be recorded
        if self.xp.precision == "full":
            return eager
        if not self.inner.apart:
            return self.inner.recorded(step, eager, self._leaf)

        def noted(carry: Any, rows: Array, *context: Any) -> tuple[Any, tuple[Array, ...]]:
            # what it assumes is noted by those whose steps these are
            carry, outputs = eager(carry, rows, *context)
            holds = self.xp.ones(rows.shape[:1], dtype=self.xp.bool, device=self.device)
            return carry, (*outputs, holds)

        noting = assumptions.NotingStep(step, self.xp.precision)
        recorded = self.inner.recorded(noting, noted, self._leaf)
        return eager if recorded is noted else assumptions.AssumingFold(recorded, eager)

    def _leaf(self, recorder: recording.RecordingNamespace) -> recording.Leaf:
        from xpnn import recording, reproducible

        recorded = reproducible.arithmetic(recorder, precision=self.xp.precision)
        # it can't look itself while it records
        recorded.know(self.xp, self.device)

        def raw(leaf: Any) -> tuple[Any, Any]:
            return leaf.raw, leaf.facts

        def wrapper(xp: Any) -> Callable[[Any, Any], Any]:
            def wrapped(raw: Any, facts: reproducible.Facts | None) -> Any:
                if facts is None:
                    return xp.wrap_canonical(raw)
                return reproducible.Array(xp, raw, facts, owned=True)

            return wrapped

        return recording.Leaf(raw, wrapper(recorded), wrapper(self.xp))
