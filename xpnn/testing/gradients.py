"""A check of a part's derivative on every backend that is installed.

>>> import xpnn
>>> print(xpnn.testing.check_gradients("tanhexp", backends=["numpy"]))
tanhexp: the derivative is right
backend  dtype    entries  kinks  largest error
numpy    float64  4120     0      1.1e-11
numpy    float32  4120     0      1.6e-06
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from xpnn.backends import Backend
from xpnn.errors import integer
from xpnn.layers import Layer
from xpnn.losses import Loss
from xpnn.model import Sequential
from xpnn.testing.calls import called, check_array, check_unchanged, to_device, to_host
from xpnn.testing.differences import ROUNDINGS, Slopes, slopes
from xpnn.testing.report import PartError, Report, report
from xpnn.testing.subjects import Case, Subject, drawn, subjects_of

Array = Any

# how far float32 gradients may be from float64 ones, relative to the largest: more than rounding,
# and less than a wrong dtype or formula
_SINGLE = 1e-3
_SINGLE_ROUNDING = ROUNDINGS * float(np.finfo(np.float32).eps)


def check_gradients(
    part: str | Callable[..., Any] | Layer | Loss | Sequential,
    *,
    inputs: int = 4,
    targets: Array | None = None,
    backends: Iterable[str] | None = None,
    seed: int = 0,
) -> Report:
    """Compare a part's derivative with finite differences, on every backend that is installed.

    In float64, each derivative must agree with a central difference of the part's values, of two
    steps h near 2^-17 sqrt(max(1, |x|)) and 2 h, whose disagreement bounds the error. At a kink,
    such as ReLU's 0, it must be between the one-sided differences. Float32 results must agree with
    those in float64.

    A part is tried with mini-batches of 1, 2 and more samples: an activation with 4096 numbers
    (all multiples of 1/64 from -16 to 16, random ones between, and with both signs the powers of
    two from 2^-14 to 2^14 and 7 numbers after each), other parts with small and large numbers. A
    loss is tried without weights and with uneven ones, one of them 0 (`Loss.weighted`); weights of
    1 must change nothing. A layer that computes something else in training is tried in both modes,
    with the same random numbers in each call. Shapes and dtypes must be kept, inputs must not be
    changed, finite values must have finite derivatives, and the part must run compiled where the
    backend compiles.

    Parameters
    ----------
    part
        An activation (a name with parameters as at the command line, "h_swish:n=4"; a function; or
        an `Activation` layer), a layer, a loss, or a model. A layer or an untrained model has its
        initial parameters, changed a little.
    inputs
        The number of features of a layer or an untrained model, or of outputs for a loss.
    targets
        For a loss: shape (n,) or (n, inputs), n >= 1. Random rows that sum to 1 if None.
    backends
        Names; every one that is installed if None.
    seed
        The seed of the random inputs.

    Returns
    -------
    report
        What was compared; printed, it is a table. In each array of a layer or a model, at most 25
        entries are compared, drawn at random, or 100 in one of the mini-batches.

    Raises
    ------
    PartError
        At the first mistake: part, backend, dtype, samples, array, index, input, the result of
        finite differences and that of the part. It is an AssertionError, as in a test.
    ArgumentError
        If `part` is something else, `targets` have no sample, or `backends` is empty or a string.
    """
    name, subjects = subjects_of(part, integer("inputs", inputs, minimum=1), targets, seed)
    # for each case, what the gradients in float32 must be
    singles: list[dict[str, Slopes]] = [{} for subject in subjects for _ in subject.cases]

    def check(backend: Backend) -> tuple[int, int, float]:
        compiled = [_Compiled(subject, backend, seed) for subject in subjects]
        cases = [(each, case) for each in compiled for case in each.subject.cases]
        found = [_check(*pair, single) for pair, single in zip(cases, singles, strict=True)]
        entries, kinks, errors = zip(*found, strict=True)
        return sum(entries), sum(kinks), max(errors)

    return report(name, "the derivative is right", backends, check)


class _Compiled:
    """A subject on a backend: compiled, and called with the host arrays of a case."""

    def __init__(self, subject: Subject, backend: Backend, seed: int) -> None:
        self.subject, self.backend, self.seed, xp = subject, backend, seed, backend.xp

        def run(arrays: Any, fixed: Any, dy: Array) -> tuple[Array, dict[str, Array]]:
            value, pullback = subject.function(arrays, fixed, xp)
            return value, pullback(dy)

        self._run = backend.compile(run)
        self._value = backend.compile(lambda arrays, fixed: subject.function(arrays, fixed, xp)[0])
        self._alike = backend.compile(lambda arrays, fixed: subject.alike(arrays, fixed, xp))

    def _moved(self, *trees: dict[str, np.ndarray]) -> list[dict[str, Array]]:
        return [{name: to_device(self.backend, a) for name, a in tree.items()} for tree in trees]

    def value(self, case: Case, **changed: np.ndarray) -> np.ndarray:
        """Return the value, with some arrays replaced, on the host in float64."""
        value = called(self._value, *self._moved({**case.arrays, **changed}, case.fixed))
        check_array(self.backend, "the value", value)
        return to_host(self.backend, value)

    def cotangent(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return a gradient with respect to a value of some shape; it is 1 for a loss."""
        return drawn(np.random.RandomState(self.seed + 1), *shape) if shape else np.ones(())

    def gradients(self, case: Case) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Check the value and the gradients, and return them on the host in float64."""
        shape = self.value(case).shape
        if self.subject.elementwise and shape != case.arrays["u"].shape:
            raise PartError(f"the value must have shape {case.arrays['u'].shape}, got {shape}")
        given = (case.arrays, case.fixed, {"the output's gradient": self.cotangent(shape)})
        arrays, fixed, output = self._moved(*given)
        value, gradients = called(self._run, arrays, fixed, *output.values())
        for before, after in zip(given, (arrays, fixed, output), strict=True):
            for name, host in before.items():
                check_unchanged(self.backend, name, after[name], host)
        check_array(self.backend, "the value", value, shape)
        if set(gradients) != set(arrays):
            raise PartError(
                f"there must be gradients of {', '.join(sorted(arrays))}, "
                f"got {', '.join(sorted(gradients)) or 'none'}"
            )
        for name, array in case.arrays.items():
            check_array(self.backend, f"the gradient of {name}", gradients[name], array.shape)
        found = {name: to_host(self.backend, gradients[name]) for name in case.arrays}
        return to_host(self.backend, value), found

    def slopes(self, case: Case, name: str) -> Slopes:
        """Return the slopes of ``sum(cotangent * value)`` along entries of one array."""
        x, middle = case.arrays[name], self.value(case)
        cotangent = self.cotangent(middle.shape)

        def stepped(entry: Any, step: Any) -> np.ndarray:
            changed = x.copy()
            changed.flat[entry] += step
            return np.asarray(cotangent * (self.value(case, **{name: changed}) - middle))

        def change(entry: np.ndarray, steps: np.ndarray) -> np.ndarray:
            if self.subject.elementwise:
                return np.asarray(stepped(entry, steps).ravel()[entry])
            pairs = zip(entry, steps, strict=True)
            return np.asarray([stepped(i, step).sum() for i, step in pairs])

        if self.subject.elementwise:
            entry = np.arange(x.size)
            size, weight = np.abs(cotangent * middle).ravel(), np.abs(cotangent).ravel()
        else:
            rng = np.random.RandomState(self.seed + 2)
            entry = np.sort(rng.permutation(x.size)[: case.entries])
            size, weight = np.abs(cotangent * middle).sum(), np.ones(entry.size)
        own = x.ravel()[entry]
        # the value may be 0 and yet be computed from numbers as large as 1 or x
        size = np.maximum(size, weight * np.maximum(np.abs(own), 1.0))
        found = slopes(change, entry, own, size)
        if not found.entry.size:
            raise PartError("the value must be finite")
        rough = int(found.kink.sum())
        # few of the points are at kinks
        if 4 * rough > found.entry.size:
            raise PartError(
                f"the value isn't a smooth function of {name} at {rough} of {found.entry.size} "
                "entries; is a part of it computed in lower precision?"
            )
        return found

    def check_alike(self, case: Case) -> None:
        """Raise if arrays that must be equal differ by more than rounding."""
        bound = ROUNDINGS * float(np.finfo(self.backend.dtype_name).eps)
        pairs = called(self._alike, *self._moved(case.arrays, case.fixed))
        for what, pair in pairs.items():
            got, wanted = (to_host(self.backend, each) for each in pair)
            close = np.abs(got - wanted) <= bound * np.abs(wanted).max(initial=0.0)
            for index in map(tuple, np.argwhere(~(close | (got == wanted)))):
                at = ", ".join(map(str, index))
                raise PartError(f"{what}, {wanted[index]:.9g} at [{at}], got {got[index]:.9g}")


def _check(compiled: _Compiled, case: Case, singles: dict[str, Slopes]) -> tuple[int, int, float]:
    """Check one case; return the entries, kinks and error of a `Row`.

    `singles` holds what gradients in float32 must be: float64 sets it, float32 reads it.
    """
    elementwise, double = compiled.subject.elementwise, compiled.backend.dtype_name == "float64"
    entries, kinks, worst = 0, 0, 0.0
    try:
        value, gradients = compiled.gradients(case)
        sizes = [np.abs(gradient[np.isfinite(gradient)]) for gradient in gradients.values()]
        # of all arrays together: the gradient of a single one may be 0
        largest = max(float(size.max(initial=0.0)) for size in sizes) or 1.0
        for name, gradient in gradients.items():
            wanted = compiled.slopes(case, name) if double else singles[name]
            if elementwise and not double:
                # a value that overflows has no derivative
                wanted = wanted.take(np.isfinite(value.ravel()[wanted.entry]))
            errors = _errors(compiled, case, name, gradient, wanted)
            entries, kinks = entries + errors.size, kinks + int(wanted.kink.sum())
            worst = max(worst, float(errors[~wanted.kink].max(initial=0.0)) / largest)
            if double:
                singles[name] = _in_single(wanted, gradient, None if elementwise else largest)
        compiled.check_alike(case)
    except PartError as error:
        samples = f"{case.samples} sample{'s' * (case.samples > 1)}"
        raise PartError(f"with {samples}{compiled.subject.how}, {error}") from error.__cause__
    return entries, kinks, worst


def _in_single(found: Slopes, gradient: np.ndarray, largest: float | None) -> Slopes:
    """Return what a gradient in float32 must be, from the one in float64.

    `largest` is the largest gradient of all arrays, None for an elementwise function.
    """
    own = gradient.ravel()[found.entry]
    size = np.abs(own) if largest is None else largest
    # how much the derivative changes, per rounding error of its input
    shaken = np.abs(found.x * found.bend) if largest is None else 0.0
    error = _SINGLE * size + _SINGLE_ROUNDING * (1.0 + shaken) + np.zeros(own.shape)
    return found._replace(central=own, error=error, kink=np.zeros(own.shape, bool))


def _errors(
    compiled: _Compiled, case: Case, name: str, gradient: np.ndarray, wanted: Slopes
) -> np.ndarray:
    """Return the errors of a gradient; raise if one of them is too large."""
    own = gradient.ravel()[wanted.entry]
    errors: np.ndarray = np.abs(own - wanted.central)
    (wrong,) = np.nonzero(~(errors <= wanted.error))
    if not wrong.size:
        return errors
    first = int(wrong[0])
    index = np.unravel_index(wanted.entry[first], gradient.shape)
    at, beside, more = ", ".join(str(int(i)) for i in index), "", ""
    if compiled.subject.elementwise:
        beside = f" and its output's gradient {compiled.cotangent(gradient.shape)[index]:g}"
    if compiled.backend.dtype_name == "float32":
        expected = f"{wanted.central[first]:.7g}, as in float64"
    else:
        expected = wanted.expected(first)
        more = f" (and {wrong.size - 1} more of {own.size} are wrong)" * (wrong.size > 1)
    raise PartError(
        f"the gradient of {name}[{at}], where {name} is {case.arrays[name][index]:.9g}{beside}, "
        f"must be {expected}, got {own[first]:.9g}{more}"
    )
