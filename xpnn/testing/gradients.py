"""Checks of one's own parts: whether a derivative is right, on every backend that is installed.

>>> import xpnn
>>> print(xpnn.testing.check_gradients("tanhexp", backends=["numpy"]))
tanhexp: the derivative is right
backend  dtype    entries  kinks  largest error
numpy    float64  4120     0      1.1e-11
numpy    float32  4120     0      1.6e-06
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from xpnn._core.tree import Tree, flatten
from xpnn.activations import ACTIVATIONS, bind
from xpnn.backends import BACKENDS, DTYPES, Backend, get_backend
from xpnn.errors import ArgumentError, BackendError, integer
from xpnn.layers import Activation, Layer
from xpnn.losses import Loss, mean
from xpnn.model import Sequential
from xpnn.optimizers import OPTIMIZERS, Optimizer

Array = Any
Arrays = dict[str, Any]

_EPS = float(np.finfo(np.float64).eps)
# near eps^(1/3), where a central difference's truncation h² and rounding eps / h are alike
_STEP = 2.0**-17
# roundings that a value is granted, in units of eps
_ROUNDINGS = 64.0
# what the differences of two steps may disagree by, in units of the derivative's size, before the
# point counts as one near a kink; a smooth function's disagree by the order of the step squared
_ROUGH = 1e-5
# float32 results hold to the float64 ones by so much: a wrong dtype's, not a rounding's, is more
_SINGLE = 1e-3
# of a mini-batch that a layer or a model is given: samples, the size of the numbers, and the
# entries of each array that are checked at most
_BATCHES = ((1, 1.0, 25), (2, 1.0, 25), (5, 1.0, 100), (5, 1.0 / 16.0, 25), (5, 16.0, 25))
_STEPS = 5


class PartError(AssertionError):
    """A part doesn't do what it must; the text says where, what was expected and what came."""


class Row(NamedTuple):
    """A backend's line of a report."""

    backend: str
    dtype: str
    entries: int
    kinks: int
    error: float


@dataclasses.dataclass(frozen=True)
class Report:
    """What was checked; `str` of it is a table.

    Attributes
    ----------
    part, verdict
        What was checked and found, in words.
    rows
        For each backend and dtype, the number of entries that were compared, how many of them lie
        near a kink, and the largest error in units of the largest derivative (an optimizer's: of
        the largest weight).
    skipped
        The backends that aren't installed, and why.
    """

    part: str
    verdict: str
    rows: tuple[Row, ...]
    skipped: Mapping[str, str]

    def __str__(self) -> str:
        table = [("backend", "dtype", "entries", "kinks", "largest error")]
        table += [
            (row.backend, row.dtype, str(row.entries), str(row.kinks), f"{row.error:.1e}")
            for row in self.rows
        ]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in table
        ]
        skipped = [f"skipped {name}: {reason}" for name, reason in self.skipped.items()]
        return "\n".join([f"{self.part}: {self.verdict}", *lines, *skipped])


class _Case(NamedTuple):
    """What a function is given: named arrays, and fixed ones beside them."""

    samples: int
    arrays: dict[str, np.ndarray]
    fixed: dict[str, np.ndarray]
    entries: int = 100


class _Subject(NamedTuple):
    """A differentiable function of named arrays, beside fixed ones, and the cases to check.

    ``value(arrays, fixed, xp)`` returns its value, ``run(arrays, fixed, dy, xp)`` that and, by
    name, the gradients of ``sum(dy * value)``. ``alike(arrays, fixed, xp)`` returns pairs of arrays
    that must be the same but for rounding, by what they are.
    """

    cases: tuple[_Case, ...]
    value: Callable[[Arrays, Arrays, Any], Array]
    run: Callable[[Arrays, Arrays, Array, Any], tuple[Array, Arrays]]
    how: str = ""
    elementwise: bool = False
    alike: Callable[[Arrays, Arrays, Any], dict[str, tuple[Array, Array]]] | None = None

    def where(self, case: _Case) -> str:
        """Return in words what a case is."""
        return f"{case.samples} sample{'s' * (case.samples > 1)}{self.how}"


def check_gradients(
    part: str | Callable[..., Any] | Layer | Loss | Sequential,
    *,
    inputs: int = 4,
    targets: Array | None = None,
    backends: Iterable[str] | None = None,
    seed: int = 0,
) -> Report:
    """Compare a part's derivative with finite differences, on every backend that is installed.

    On each backend, in float64, each entry's derivative is held to central differences of the
    part's own values, of two steps h, about 2^-17 sqrt(max(1, |x|)), and 2 h: what these disagree
    by bounds their error. Where they disagree much, shorter steps are tried; near a kink, where
    these do too, the derivative must lie between the one-sided differences (at ReLU's 0, between 0
    and 1). Float32 results are held to the float64 ones.

    Everything is tried with mini-batches of 1, 2 and more samples. An activation is given 4096
    numbers: all multiples of 1/64 from -16 to 16, random ones between, and powers of two from
    2^-14 to 2^14 and 7 numbers after each, of both signs; layers, models and losses small
    and large numbers too. A loss is checked without and with weights (`Loss.weighted`), uneven
    ones and one of 0; with weights of 1 it must be as without.

    Besides: shapes and dtypes are kept, no input is changed (NumPy's refuse to be written to),
    what is finite has a finite derivative, and the part runs compiled where the backend compiles
    (JAX's `jit`).

    Parameters
    ----------
    part
        An activation (its name with parameters as at the command line, "h_swish:n=4"; a function;
        or a layer `Activation`), a layer, a loss, or a whole model. A layer's parameters are its
        initial ones, a little moved; a model's are its own, if it has any.
    inputs
        The number of features that a layer or an untrained model is given, of outputs that a loss
        is given.
    targets
        For a loss: shape (n,) or (n, inputs), n >= 1. Random rows that sum to 1 if None.
    backends
        Names; every one that is installed if None.
    seed
        Of the random inputs.

    Returns
    -------
    report
        What was compared; printed, it is a table.

    Raises
    ------
    PartError
        At the first thing that is wrong: part, backend, dtype, samples, array, index, input, what
        finite differences say and what came. It is an AssertionError, as a test's own.
    ArgumentError
        If the part is none of these, `targets` are of no sample, or `backends` is empty or a text.

    Notes
    -----
    A layer, or a model with one, that does something else in training is checked in both: with
    its buffers, and with the same random numbers at each call. Of an array of more than 100 entries
    100 are drawn, an activation's apart; of a layer's or a model's, 25 in all mini-batches but one.
    """
    name, subjects = _subjects(part, integer("inputs", inputs, minimum=1), targets, seed)
    doubles: dict[tuple[str, int], list[_Expected]] = {}

    def check(backend: Backend) -> tuple[int, int, float]:
        found = [
            _check(each, backend, seed, doubles.setdefault((backend.name, i), []))
            for i, each in enumerate(subjects)
        ]
        entries, kinks, errors = zip(*found, strict=True)
        return sum(entries), sum(kinks), max(errors)

    return _report(name, "the derivative is right", backends, check)


def check_optimizer(
    optimizer: str | Optimizer, *, backends: Iterable[str] | None = None, seed: int = 0
) -> Report:
    """Check that an optimizer takes the same steps on every backend that is installed.

    A tree of parameters takes five steps with random gradients: the state and the parameters keep
    structure, shapes and dtypes, gradients aren't changed, steps run compiled where the backend
    compiles, and all backends end with the same weights, to the dtype's rounding. An optimizer
    that keeps something in itself instead of in its state is found out: a compiled step runs its
    Python once.

    Parameters
    ----------
    optimizer
        An instance, or a name as at the command line: "nesterov:lr=0.1".
    backends, seed
        As for `check_gradients`.

    Raises
    ------
    PartError
        At the first thing that is wrong.
    ArgumentError
        If it is no optimizer.
    """
    if isinstance(optimizer, str):
        name, parameters = OPTIMIZERS.parse(optimizer)
        optimizer = OPTIMIZERS[name](**parameters)
    if not isinstance(optimizer, Optimizer):
        raise ArgumentError(f"optimizer must be an Optimizer or its name, got {optimizer!r}")
    ends: dict[str, tuple[str, list[np.ndarray]]] = {}
    check = functools.partial(_check_steps, optimizer, ends=ends, seed=seed)
    return _report(repr(optimizer), "takes the same steps everywhere", backends, check)


def _report(
    part: str,
    verdict: str,
    names: Iterable[str] | None,
    check: Callable[[Backend], tuple[int, int, float]],
) -> Report:
    """Return the report of ``check`` on each backend, float64 first."""
    if names is not None:
        names = names if isinstance(names, str) else tuple(names)
        if isinstance(names, str) or not names:
            raise ArgumentError(f"backends must be a list of one name or more, got {names!r}")
    rows, skipped = [], {}
    for name in BACKENDS if names is None else names:
        for dtype in reversed(DTYPES):
            try:
                backend = get_backend(name, dtype=dtype)
            except BackendError as error:
                if names is not None:
                    raise
                skipped[name] = str(error)
                break
            try:
                with backend.scope():
                    rows.append(Row(name, dtype, *check(backend)))
            except PartError as error:
                raise PartError(f"{part} on {name} in {dtype}: {error}") from error.__cause__
    return Report(part, verdict, tuple(rows), skipped)


def _subjects(part: Any, inputs: int, targets: Any, seed: int) -> tuple[str, list[_Subject]]:
    """Return a part's name and the functions that it is: those in training are others."""
    if targets is not None and not isinstance(part, Loss):
        raise ArgumentError("targets are for a loss alone")
    rng = np.random.RandomState(seed)
    if isinstance(part, str):
        name, parameters = ACTIVATIONS.parse(part)
        return part, [_of_activation(bind(name, **parameters), rng)]
    if isinstance(part, Activation):
        return repr(part), [_of_activation(part.function, rng)]
    if isinstance(part, Loss):
        return repr(part), _of_loss(part, inputs, targets, rng)
    if isinstance(part, Layer | Sequential):
        layers = part.layers if isinstance(part, Sequential) else (part,)
        trains = any(type(layer).train is not Layer.train for layer in layers)
        of: Callable[..., _Subject] = _of_model if isinstance(part, Sequential) else _of_layer
        modes = (False, True) if trains else (False,)
        return repr(part), [of(part, inputs, np.random.RandomState(seed), mode) for mode in modes]
    if callable(part) and not isinstance(part, type):
        return getattr(part, "__name__", repr(part)), [_of_activation(part, rng)]
    raise ArgumentError(
        f"part must be an activation (name or function), a layer, a loss or a model, got {part!r}"
    )


def _drawn(rng: np.random.RandomState, *shape: int) -> np.ndarray:
    """Return normal numbers of few digits, which are exact in float32 and after a step."""
    return _short(rng.standard_normal(shape))


def _short(array: Any) -> np.ndarray:
    return np.round(np.asarray(array, dtype=np.float64) * 4096.0) / 4096.0


def _points(rng: np.random.RandomState) -> np.ndarray:
    """Return 4096 numbers, exact in float32: on a fine grid, anywhere, near 0 and far from it."""
    grid = np.arange(-1024, 1025) / 64.0
    octaves = np.ldexp(1.0 + np.arange(8) / 8.0, np.arange(-14, 15)[:, np.newaxis])
    octaves = np.setdiff1d(octaves, grid)
    rest = 4096 - grid.size - 2 * octaves.size
    anywhere = rng.uniform(-1, 1, rest) * np.where(np.arange(rest) % 2, 1.0, 8.0)
    return np.concatenate([grid, octaves, -octaves, _short(anywhere)])


def _of_activation(function: Callable[..., Any], rng: np.random.RandomState) -> _Subject:
    given = [_points(rng).reshape(-1, 8), *(4.0 * _drawn(rng, n, 8) for n in (1, 2))]
    cases = [_Case(len(u), {"u": u}, {}) for u in given]

    def value(arrays: Arrays, fixed: Arrays, xp: Any) -> Array:
        z, _ = function(arrays["u"], xp=xp)
        return z

    def run(arrays: Arrays, fixed: Arrays, dy: Array, xp: Any) -> tuple[Array, Arrays]:
        z, pullback = function(arrays["u"], xp=xp)
        return z, {"u": pullback(dy)}

    return _Subject(tuple(cases), value, run, elementwise=True)


def _of_layer(layer: Layer, inputs: int, rng: np.random.RandomState, training: bool) -> _Subject:
    drawn = {name: _moved(array, rng) for name, array in layer.initialize(inputs, rng).items()}
    for name, shape in layer.shapes(inputs).items():
        if name not in drawn or drawn[name].shape != tuple(shape):
            got = drawn[name].shape if name in drawn else "none"
            raise PartError(f"{layer!r}: initialize must draw {name!r} of shape {shape}, got {got}")
    buffers = {name: _moved(array, rng) for name, array in layer.buffers(inputs).items()}

    def forward(arrays: Arrays, fixed: Arrays, xp: Any) -> tuple[Array, Any]:
        own = {name: arrays[name] for name in drawn}
        kept = {name: fixed[name] for name in buffers}
        if not training:
            return layer.forward({**own, **kept}, arrays["x"], xp=xp)
        key = fixed[_KEY] if layer.draws else None
        y, pullback, after = layer.train(own, kept, arrays["x"], key, xp=xp)
        if set(after) != set(kept):
            raise PartError(f"train must return its buffers {sorted(kept)}, got {sorted(after)}")
        return y, pullback

    def value(arrays: Arrays, fixed: Arrays, xp: Any) -> Array:
        return forward(arrays, fixed, xp)[0]

    def run(arrays: Arrays, fixed: Arrays, dy: Array, xp: Any) -> tuple[Array, Arrays]:
        y, pullback = forward(arrays, fixed, xp)
        dx, gradients = pullback(dy)
        nothing, same = pullback(dy, input_gradient=False)
        if nothing is not None or set(same) != set(gradients):
            raise PartError("without input_gradient, the pullback must return None and gradients")
        return y, {"x": dx, **gradients}

    fixed = {**buffers, **_key(rng)}
    cases = [
        _Case(n, {"x": size * _drawn(rng, n, inputs), **drawn}, fixed, entries)
        for n, size, entries in _BATCHES
    ]
    return _Subject(tuple(cases), value, run, _IN_TRAINING * training)


# of a layer's random numbers in training; no buffer can have the name
_KEY = "random key"
_IN_TRAINING = ", in training"


def _key(rng: np.random.RandomState) -> dict[str, np.ndarray]:
    return {_KEY: rng.randint(1 << 30, size=1).astype(np.int64)}


def _moved(array: Any, rng: np.random.RandomState) -> np.ndarray:
    """Return an initial parameter a little beside itself, so that no term is 0 by chance."""
    array = np.asarray(array, dtype=np.float64)
    noise = rng.standard_normal(array.shape)
    return _short(array * (1.0 + noise / 4.0) + noise / 64.0)


def _of_loss(loss: Loss, outputs: int, targets: Any, rng: np.random.RandomState) -> list[_Subject]:
    """Return a loss without weights and with them."""
    loss.check(outputs)
    if targets is None:
        targets = rng.uniform(0.1, 1.0, (5, outputs))
        targets /= targets.sum(axis=1, keepdims=True)
    targets = np.asarray(targets)
    if targets.ndim == 0 or not len(targets):
        raise ArgumentError(f"targets must be of 1 sample or more, got shape {targets.shape}")

    def subject(cases: Iterable[_Case], weighted: bool) -> _Subject:
        def value(arrays: Arrays, fixed: Arrays, xp: Any) -> Array:
            return run(arrays, fixed, None, xp)[0]

        def run(arrays: Arrays, fixed: Arrays, dy: Array, xp: Any) -> tuple[Array, Arrays]:
            u, t = arrays["outputs"], fixed["targets"]
            if weighted:
                samples, gradient = loss.weighted(u, t, fixed["weights"], xp=xp)
            else:
                samples, gradient = loss.samples(u, t, xp=xp)
            if tuple(samples.shape) != (u.shape[0],):
                raise PartError(
                    f"samples must have shape {(u.shape[0],)}, got {tuple(samples.shape)}"
                )
            total = fixed["weights"] * samples if weighted else samples
            return loss.value(mean(total, xp=xp)), {"outputs": gradient}

        def alike(arrays: Arrays, fixed: Arrays, xp: Any) -> dict[str, tuple[Array, Array]]:
            u, t, w = arrays["outputs"], fixed["targets"], fixed["weights"]
            samples, gradient = loss.samples(u, t, xp=xp)
            with_ones, same = loss.weighted(u, t, xp.ones_like(w), xp=xp)
            return {
                "weighted must return the samples of `samples`, without their weights": (
                    loss.weighted(u, t, w, xp=xp)[0],
                    samples,
                ),
                "weighted with weights of 1 must return the samples of `samples`": (
                    with_ones,
                    samples,
                ),
                "weighted with weights of 1 must return the gradient of `samples`": (
                    same,
                    gradient,
                ),
            }

        how = ", weighted" if weighted else ""
        return _Subject(tuple(cases), value, run, how, alike=alike if weighted else None)

    cases = list(_loss_cases(targets, outputs, rng))
    many = [case for case in cases if case.samples > 1]
    weighted = []
    for case in (cases[0], *many):
        weights = _short(rng.uniform(0.25, 2.0, case.samples))
        weights[2:3] = 0.0
        weighted.append(case._replace(fixed={**case.fixed, "weights": weights}))
    return [subject(cases, False), subject(weighted, True)]


def _loss_cases(targets: np.ndarray, outputs: int, rng: np.random.RandomState) -> Iterable[_Case]:
    """Yield cases of one sample from near 0 or its target to far out, and of some, of all."""

    def case(rows: np.ndarray, size: float, about: bool) -> _Case:
        own = targets[rows]
        u = size * _drawn(rng, len(rows), outputs)
        if about and own.shape == u.shape:
            u += own
        return _Case(len(rows), {"outputs": _short(u)}, {"targets": own})

    n = len(targets)
    for i, size in enumerate(np.exp2(np.arange(-6.0, 6.5, 0.5))):
        for about in (False, True):
            yield case(np.asarray([i % n]), size, about)
    for count in sorted({min(2, n), n} - {1}):
        for size in (0.125, 2.0, 32.0):
            yield case(np.arange(count), size, False)


def _of_model(
    model: Sequential, inputs: int, rng: np.random.RandomState, training: bool
) -> _Subject:
    if model.parameters is None:
        layers = [layer.initialize(width, rng) for layer, width in model.widths(inputs)]
        buffers = [layer.buffers(width) for layer, width in model.widths(inputs)]
        tree = [{name: _moved(a, rng) for name, a in own.items()} for own in layers]
    else:
        assert model.inputs is not None
        assert model.buffers is not None
        inputs, host = model.inputs, model.host_parameters()
        tree, buffers = (
            [{name: own[name] for name in names} for own, names in zip(host, kind, strict=True)]
            for kind in (model.parameters, model.buffers)
        )

    def nest(arrays: Arrays, like: Tree) -> Tree:
        return [{name: arrays[f"{i}.{name}"] for name in own} for i, own in enumerate(like)]

    def forward(arrays: Arrays, fixed: Arrays, xp: Any) -> tuple[Array, Any]:
        parameters, kept = nest(arrays, tree), nest(fixed, buffers)
        if training:
            keys = {i: fixed[_KEY] + i for i, layer in enumerate(model.layers) if layer.draws}
            return model.train(parameters, kept, fixed["x"], keys, xp=xp)[:2]
        both = [{**own, **other} for own, other in zip(parameters, kept, strict=True)]
        return model.forward(both, fixed["x"], xp=xp)

    def value(arrays: Arrays, fixed: Arrays, xp: Any) -> Array:
        return forward(arrays, fixed, xp)[0]

    def run(arrays: Arrays, fixed: Arrays, dy: Array, xp: Any) -> tuple[Array, Arrays]:
        y, pullback = forward(arrays, fixed, xp)
        return y, flatten(pullback(dy))

    arrays = {name: np.asarray(array, np.float64) for name, array in flatten(tree).items()}
    fixed = {name: np.asarray(array) for name, array in {**flatten(buffers), **_key(rng)}.items()}
    cases = [
        _Case(n, arrays, {"x": size * _drawn(rng, n, inputs), **fixed}, entries)
        for n, size, entries in _BATCHES
    ]
    return _Subject(tuple(cases), value, run, _IN_TRAINING * training)


class _Place:
    """A subject on a backend: compiled, and called with a case's host arrays."""

    def __init__(self, subject: _Subject, backend: Backend) -> None:
        self.subject, self.backend = subject, backend
        xp = backend.xp
        self._run = backend.compile(lambda arrays, fixed, dy: subject.run(arrays, fixed, dy, xp))
        self._value = backend.compile(lambda arrays, fixed: subject.value(arrays, fixed, xp))
        self._alike = backend.compile(
            lambda arrays, fixed: {} if subject.alike is None else subject.alike(arrays, fixed, xp)
        )
        self.take(subject.cases[0])

    def take(self, case: _Case) -> None:
        """Go on with another case."""
        self.case, self.fixed = case, self._moved(case.fixed)

    def _moved(self, arrays: Mapping[str, np.ndarray]) -> Arrays:
        return {name: _on(self.backend, array) for name, array in arrays.items()}

    def value(self, changed: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the value with some arrays changed, on the host, in float64."""
        moved = self._moved({**self.case.arrays, **changed})
        value = _called(self._value, moved, self.fixed)
        _owned(self.backend, "the value", value)
        return np.asarray(self.backend.to_numpy(value), np.float64)

    def gradients(self, cotangent: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return value and gradients on the host, in float64, once they and inputs are checked."""
        case, backend = self.case, self.backend
        moved, dy = self._moved(case.arrays), _on(backend, cotangent)
        value, gradients = _called(self._run, moved, self.fixed, dy)
        given = {**case.arrays, **case.fixed, "the output's gradient": cotangent}
        after = {**moved, **self.fixed, "the output's gradient": dy}
        for name, host in given.items():
            now = backend.to_numpy(after[name])
            if not np.array_equal(now, host.astype(now.dtype)):
                raise PartError(f"it changes an input, {name}")
        _like(backend, "the value", value, cotangent.shape)
        if set(gradients) != set(case.arrays):
            raise PartError(
                f"there must be gradients of {', '.join(sorted(case.arrays))}, "
                f"got {', '.join(sorted(gradients)) or 'none'}"
            )
        for name, array in case.arrays.items():
            _like(backend, f"the gradient of {name}", gradients[name], array.shape)
        return np.asarray(backend.to_numpy(value), np.float64), {
            name: np.asarray(backend.to_numpy(gradients[name]), np.float64) for name in case.arrays
        }

    def check_alike(self) -> None:
        """Raise if what must be alike isn't."""
        bound = _ROUNDINGS * float(np.finfo(self.backend.dtype_name).eps)
        pairs = _called(self._alike, self._moved(self.case.arrays), self.fixed)
        for what, pair in pairs.items():
            got, wanted = (np.asarray(self.backend.to_numpy(each), np.float64) for each in pair)
            if got.shape != wanted.shape:
                raise PartError(f"{what}, of shape {wanted.shape}, got {got.shape}")
            close = np.abs(got - wanted) <= bound * np.abs(wanted).max(initial=0.0)
            for index in map(tuple, np.argwhere(~(close | (got == wanted)))):
                at = ", ".join(map(str, index))
                raise PartError(f"{what}, {wanted[index]:.9g} at [{at}], got {got[index]:.9g}")


def _on(backend: Backend, host: np.ndarray) -> Array:
    """Return a host array on a backend, floats in its dtype; NumPy's can't be written to."""
    moved = backend.asarray(
        np.array(host, dtype=backend.dtype_name if host.dtype.kind == "f" else host.dtype)
    )
    if isinstance(moved, np.ndarray):
        moved.flags.writeable = False
    return moved


def _called(function: Callable[..., Any], *args: Any) -> Any:
    try:
        return function(*args)
    except PartError:
        raise
    except Exception as error:
        first = str(error).strip().partition("\n")[0]
        hint = "it changes an input: " if "read-only" in first else ""
        raise PartError(f"{hint}{type(error).__name__}: {first}") from error


def _owned(backend: Backend, what: str, result: Any) -> None:
    if not backend.owns(result):
        raise PartError(f"{what} must be an array of {backend.name}, got {type(result).__name__}")


def _like(backend: Backend, what: str, result: Any, shape: tuple[int, ...]) -> None:
    _owned(backend, what, result)
    if tuple(result.shape) != shape:
        raise PartError(f"{what} must have shape {shape}, got {tuple(result.shape)}")
    if result.dtype != backend.dtype:
        raise PartError(f"{what} must be {backend.dtype_name}, got {result.dtype}")


class _Lines(NamedTuple):
    """The value along some entries: at x - 2 h, x - h, x + h and x + 2 h, less that at x.

    Where the function is smooth, the differences of the steps h and 2 h agree to the order of h²,
    and the second differences to that of h³. At a kink whose slopes differ by j, at x or less than
    2 h beside it, `disagreement` is j / 6 or more, and so bounds the central difference's error.

    All are host arrays of shape (k,), but for `changes` with (4, k). `entry` is where x lies in its
    array, raveled; `kink` is whether a kink lies at x or nearer than 2 h.
    """

    entry: Array
    x: Array
    h: Array
    changes: Array
    size: Array
    kink: Array

    def take(self, which: Array) -> _Lines:
        """Return some of the lines."""
        return _Lines(*(field[..., which] for field in self))

    @property
    def slopes(self) -> Array:
        """The one-sided differences, the lesser first."""
        _, before, after, _ = self.changes
        return np.sort(np.stack([-before / self.h, after / self.h]), axis=0)

    @property
    def central(self) -> Array:
        """The central difference of both steps, the error of order h² taken off (Richardson)."""
        near, far = self._central()
        return near + (near - far) / 3.0

    @property
    def bend(self) -> Array:
        """The difference of the one-sided ones."""
        _, before, after, _ = self.changes
        return (after + before) / self.h

    def _central(self) -> Array:
        far_before, before, after, far_after = self.changes
        return np.stack([(after - before) / 2.0, (far_after - far_before) / 4.0]) / self.h

    @property
    def disagreement(self) -> Array:
        """How far the differences of both steps are from those of a smooth function."""
        far_before, _, _, far_after = self.changes
        near, far = self._central()
        return np.abs(self.bend - (far_after + far_before) / (4.0 * self.h)) + np.abs(near - far)

    @property
    def rounding(self) -> Array:
        """What rounding makes of a difference."""
        return _ROUNDINGS * _EPS * (self.size + np.abs(self.x * self._central()[0])) / self.h

    @property
    def rough(self) -> Array:
        """What the differences may disagree by where there is no kink."""
        return 4.0 * self.rounding + _ROUGH * (self.size + np.abs(self._central()).sum(axis=0))

    @property
    def sharp(self) -> Array:
        """Whether there is a kink as far as these steps can tell."""
        return self.disagreement > self.rough

    def agrees(self, derivative: Array) -> Array:
        """Return whether each derivative can be right."""
        low, high = self.slopes
        within = (low - self.rough <= derivative) & (derivative <= high + self.rough)
        near = np.abs(derivative - self.central) <= 2.0 * self.disagreement + self.rounding
        return np.where(self.kink, within, near)

    def expected(self, i: int) -> str:
        """Return in words what a derivative must be."""
        if self.kink[i]:
            low, high = self.slopes[:, i]
            return f"between {low:.9g} and {high:.9g}, the differences at a kink"
        return f"{self.central[i]:.9g} by finite differences"


def _lines(place: _Place, name: str, cotangent: np.ndarray, rng: np.random.RandomState) -> _Lines:
    """Return the lines through entries of one array that have finite values."""
    x, middle = place.case.arrays[name], place.value({})
    if place.subject.elementwise:
        entry, size = np.arange(x.size), np.abs(cotangent * middle).ravel()
        weight = np.abs(cotangent).ravel()
    else:
        entry = np.sort(rng.permutation(x.size)[: place.case.entries])
        size, weight = np.full(entry.size, np.abs(cotangent * middle).sum()), np.ones(entry.size)
    own = x.ravel()[entry]
    # what a value is computed from may be as large as 1 or x, also where it is 0
    size = np.maximum(size, weight * np.maximum(np.abs(own), 1.0))
    # powers of two, so that a step is exact where x has few digits
    h = _STEP * np.exp2(np.round(np.log2(np.maximum(np.abs(own), 1.0)) / 2.0))
    changes = _changes(place, name, cotangent, entry, h)
    lines = _Lines(entry, own, h, changes, size, np.zeros(entry.size, bool))
    lines = lines.take(np.isfinite(changes).all(axis=0))
    lines = lines._replace(kink=lines.sharp)
    kinks = np.flatnonzero(lines.kink)
    if kinks.size:
        coarse = lines.take(kinks)
        h = coarse.h / 16.0
        finer = coarse._replace(h=h, changes=_changes(place, name, cotangent, coarse.entry, h))
        # at a kink, shorter steps disagree as much
        smooth = ~finer.sharp | (4.0 * finer.disagreement < coarse.disagreement)
        lines.kink[kinks[smooth]] = False
        lines.h[kinks[smooth]] = h[smooth]
        lines.changes[:, kinks[smooth]] = finer.changes[:, smooth]
    return lines


def _changes(
    place: _Place, name: str, cotangent: np.ndarray, entry: np.ndarray, h: np.ndarray
) -> np.ndarray:
    """Return what steps of -2, -1, 1 and 2 times h change, shape (4, k); see `_Lines`."""
    x, middle = place.case.arrays[name], place.value({})

    def change(entry: Any, step: Any) -> np.ndarray:
        stepped = x.copy()
        stepped.flat[entry] += step
        # no line that isn't finite is taken
        with np.errstate(invalid="ignore"):
            return np.asarray(cotangent * (place.value({name: stepped}) - middle))

    steps = np.outer([-2.0, -1.0, 1.0, 2.0], h)
    if place.subject.elementwise:
        return np.stack([change(entry, step).ravel()[entry] for step in steps])
    return np.asarray(
        [[change(i, each).sum() for i, each in zip(entry, step, strict=True)] for step in steps]
    )


class _Expected(NamedTuple):
    """Gradients in float64 for a cotangent, and what those in float32 may differ from them by."""

    cotangent: np.ndarray
    gradients: dict[str, np.ndarray]
    bounds: dict[str, np.ndarray]


def _check(
    subject: _Subject, backend: Backend, seed: int, doubles: list[_Expected]
) -> tuple[int, int, float]:
    """Return the number of entries, of kinks among them, and the largest relative error.

    `doubles` takes what the gradients in float64 are, and gives what those in float32 must be.
    """
    place = _Place(subject, backend)
    entries, kinks, worst = 0, 0, 0.0
    for i, case in enumerate(subject.cases):
        place.take(case)
        try:
            if backend.dtype_name == "float64":
                found, expected = _held_to_differences(place, np.random.RandomState(seed + 1))
                doubles.append(expected)
            else:
                found = _held_to_float64(place, doubles[i])
            if case is subject.cases[-1]:
                place.check_alike()
        except PartError as error:
            raise PartError(f"with {subject.where(case)}, {error}") from error.__cause__
        entries, kinks, worst = entries + found[0], kinks + found[1], max(worst, found[2])
    return entries, kinks, worst


def _held_to_differences(
    place: _Place, rng: np.random.RandomState
) -> tuple[tuple[int, int, float], _Expected]:
    shape = place.value({}).shape
    if place.subject.elementwise and shape != place.case.arrays["u"].shape:
        raise PartError(f"the value must have shape {place.case.arrays['u'].shape}, got {shape}")
    cotangent = _drawn(rng, *shape) if shape else np.ones(())
    _, gradients = place.gradients(cotangent)
    largest = _largest(gradients)
    bounds, single = {}, _ROUNDINGS * float(np.finfo(np.float32).eps)
    entries, kinks, worst = 0, 0, 0.0
    for name, gradient in gradients.items():
        lines = _lines(place, name, cotangent, rng)
        if not lines.entry.size:
            raise PartError("the value must be finite")
        own, rough = gradient.ravel()[lines.entry], int(lines.kink.sum())
        # of points that are drawn, few lie at kinks
        if 4 * rough > own.size:
            raise PartError(
                f"the value isn't a smooth function of {name} at {rough} of {own.size} "
                "entries; is a part of it computed in lower precision?"
            )
        wrong = np.flatnonzero(~lines.agrees(own))
        if wrong.size:
            i = int(wrong[0])
            index = np.unravel_index(lines.entry[i], gradient.shape)
            more = f" (and {wrong.size - 1} more of {own.size} are wrong)" * (wrong.size > 1)
            raise _wrong(place, name, index, cotangent, lines.expected(i), own[i], more)
        errors = np.abs(own - lines.central)[~lines.kink]
        entries, kinks = entries + own.size, kinks + rough
        worst = max(worst, float(errors.max(initial=0.0)) / largest)
        bound = np.full(gradient.shape, _SINGLE * largest + single)
        if place.subject.elementwise:
            # large derivatives far out hide nothing near 0
            far = np.abs(lines.x)
            order = np.argsort(far)
            largest_within = np.maximum.accumulate(np.abs(own[order]))
            count = np.searchsorted(far[order], np.maximum(far, 1.0), side="right")
            # what the derivative changes by if the input is rounded
            shaken = far * np.abs(lines.bend) / lines.h
            bound.flat[lines.entry] = _SINGLE * largest_within[count - 1] + single * (1.0 + shaken)
        bounds[name] = bound
    return (entries, kinks, worst), _Expected(cotangent, gradients, bounds)


def _held_to_float64(place: _Place, expected: _Expected) -> tuple[int, int, float]:
    """Hold float32 gradients to those in float64, which were checked before."""
    value, gradients = place.gradients(expected.cotangent)
    largest = _largest(expected.gradients)
    entries, worst = 0, 0.0
    for name, right in expected.gradients.items():
        errors = np.abs(gradients[name] - right)
        if place.subject.elementwise:
            # a value beyond the dtype's largest has no derivative
            errors = np.where(np.isfinite(value), errors, 0.0)
        for index in map(tuple, np.argwhere(~(errors <= expected.bounds[name]))):
            wanted = f"{right[index]:.7g}, as in float64"
            raise _wrong(place, name, index, expected.cotangent, wanted, gradients[name][index])
        entries, worst = entries + right.size, max(worst, float(errors.max(initial=0.0)) / largest)
    return entries, 0, worst


def _largest(gradients: dict[str, np.ndarray]) -> float:
    """Return the size of all gradients: one alone may be 0."""
    sizes = [np.abs(gradient[np.isfinite(gradient)]) for gradient in gradients.values()]
    return max(float(size.max(initial=0.0)) for size in sizes) or 1.0


def _wrong(
    place: _Place,
    name: str,
    index: tuple[Any, ...],
    cotangent: np.ndarray,
    expected: str,
    got: Any,
    more: str = "",
) -> PartError:
    at = ", ".join(str(int(i)) for i in index)
    x = float(place.case.arrays[name][index])
    elementwise = place.subject.elementwise
    beside = f" and its output's gradient {cotangent[index]:g}" if elementwise else ""
    return PartError(
        f"the gradient of {name}[{at}], where {name} is {x:.9g}{beside}, must be {expected}, "
        f"got {got:.9g}{more}"
    )


def _check_steps(
    optimizer: Optimizer,
    backend: Backend,
    *,
    ends: dict[str, tuple[str, list[np.ndarray]]],
    seed: int,
) -> tuple[int, int, float]:
    """Take the steps twice; hold the weights to those of the backend before, in `ends`."""
    first, again = (_stepped(optimizer, backend, seed) for _ in range(2))
    if not all(map(np.array_equal, first, again)):
        raise PartError(
            "the same steps don't end with the same weights twice: is something kept in the "
            "optimizer instead of in its state?"
        )
    dtype = backend.dtype_name
    name, expected = ends.setdefault(dtype, (backend.name, first))
    largest = max(float(np.abs(array).max()) for array in expected)
    errors = [float(np.abs(a - b).max()) / largest for a, b in zip(first, expected, strict=True)]
    bound = _STEPS * _ROUNDINGS * float(np.finfo(dtype).eps)
    if not max(errors) <= bound:
        raise PartError(
            f"its weights differ from those on {name} by {max(errors):.3g} of the largest, more "
            f"than rounding does ({bound:.3g})"
        )
    return sum(array.size for array in first), 0, max(errors)


def _stepped(optimizer: Optimizer, backend: Backend, seed: int) -> list[np.ndarray]:
    """Return the weights after five steps, in which all that must be kept was kept."""
    rng, xp = np.random.RandomState(seed), backend.xp
    shapes: list[dict[str, tuple[int, ...]]] = [{"weight": (4, 3), "bias": (3,)}, {"scale": (2,)}]

    def drawn() -> Tree:
        return [{name: _drawn(rng, *shape) for name, shape in own.items()} for own in shapes]

    def moved(tree: Tree, on: Callable[[np.ndarray], Array]) -> Tree:
        return [{name: on(array) for name, array in own.items()} for own in tree]

    init = backend.compile(lambda parameters: optimizer.init(parameters, xp=xp))
    update = backend.compile(lambda *trees: optimizer.update(*trees, xp=xp))
    parameters = moved(drawn(), lambda a: backend.asarray(a.astype(backend.dtype_name)))
    state = _called(init, parameters)
    kept = _described(parameters), _described(state)
    for _ in range(_STEPS):
        host = drawn()
        gradients = moved(host, functools.partial(_on, backend))
        parameters, state = _called(update, parameters, gradients, state)
        for what, tree, before in zip(
            ("parameters", "state"), (parameters, state), kept, strict=True
        ):
            if _described(tree) != before:
                raise PartError(f"a step must keep the {what}, {before}, got {_described(tree)}")
        for name, array in flatten(gradients).items():
            now = backend.to_numpy(array)
            if not np.array_equal(now, flatten(host)[name].astype(now.dtype)):
                raise PartError(f"it changes an input, the gradient of {name}")
    return [
        np.array(backend.to_numpy(w), np.float64) for _, w in sorted(flatten(parameters).items())
    ]


def _described(tree: Any) -> Any:
    """Return a nest with dtype and shape in place of arrays, names in order."""
    if isinstance(tree, dict):
        return {name: _described(tree[name]) for name in sorted(tree)}
    if isinstance(tree, (list, tuple)):
        return [_described(part) for part in tree]
    return f"{getattr(tree, 'dtype', type(tree).__name__)}{list(getattr(tree, 'shape', ()))}"
