"""Checks of one's own parts: whether a derivative is right, on every backend that is installed.

>>> import xpnn
>>> print(xpnn.testing.check_gradients("tanhexp", backends=["numpy"]))
tanhexp: the derivative is right
backend  dtype    entries  kinks  largest error
numpy    float64  107      0      1.2e-11
numpy    float32  107      0      3.7e-07
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from xpnn.activations import ACTIVATIONS, bind
from xpnn.backends import BACKENDS, DTYPES, Backend, get_backend
from xpnn.errors import ArgumentError, BackendError, integer
from xpnn.layers import Activation, Layer
from xpnn.losses import Loss, mean
from xpnn.model import Sequential
from xpnn.optimizers import OPTIMIZERS, Optimizer
from xpnn.tree import Tree, flatten

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
# entries of one array that are checked at most, and samples of a batch
_ENTRIES, _SAMPLES = 100, 5
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


class _Subject(NamedTuple):
    """A differentiable function of named arrays, beside fixed ones.

    ``value(arrays, fixed, xp)`` returns its value, ``run(arrays, fixed, dy, xp)`` that and, by
    name, the gradients of ``sum(dy * value)``.
    """

    name: str
    arrays: dict[str, np.ndarray]
    fixed: dict[str, np.ndarray]
    value: Callable[[Arrays, Arrays, Any], Array]
    run: Callable[[Arrays, Arrays, Array, Any], tuple[Array, Arrays]]
    elementwise: bool = False


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
    part's own values, of two steps h = 2^-17 max(1, |x|) and 2 h: what these disagree by bounds
    their error. Near a kink, where they disagree much, the derivative must lie between the
    one-sided differences (at ReLU's 0, between 0 and 1). Float32 results are held to those.
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
        For a loss: shape (n,) or (n, inputs). Random rows that sum to 1 if None.
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
        At the first thing that is wrong: part, backend, dtype, array, index, what was expected and
        what came. It is an AssertionError, as a test's own.
    ArgumentError
        If the part is none of these, or `backends` is empty or a text.

    Notes
    -----
    A layer, or a model with one, that does something else in training is checked in both: with
    its buffers, and with the same random numbers at each call. Of an array of more than 100
    entries, 100 are drawn.
    """
    subjects = _subjects(part, integer("inputs", inputs, minimum=1), targets, seed)

    def check(backend: Backend) -> tuple[int, int, float]:
        entries, kinks, errors = zip(
            *(_check(each, backend, seed) for each in subjects), strict=True
        )
        return sum(entries), sum(kinks), max(errors)

    return _report(subjects[0].name, "the derivative is right", backends, check)


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


def _subjects(part: Any, inputs: int, targets: Any, seed: int) -> list[_Subject]:
    """Return the functions that a part is: one, or for a layer with a `train` of its own two."""
    if targets is not None and not isinstance(part, Loss):
        raise ArgumentError("targets are for a loss alone")
    if not isinstance(part, Layer | Sequential) or isinstance(part, Activation):
        return [_subject(part, inputs, targets, np.random.RandomState(seed))]
    layers = part.layers if isinstance(part, Sequential) else (part,)
    trains = any(type(layer).train is not Layer.train for layer in layers)
    subjects = []
    for training in (False, True) if trains else (False,):
        rng = np.random.RandomState(seed)
        if isinstance(part, Sequential):
            subjects.append(_of_model(part, inputs, rng, training))
        else:
            subjects.append(_of_layer(part, inputs, rng, training))
    return subjects


def _subject(part: Any, inputs: int, targets: Any, rng: np.random.RandomState) -> _Subject:
    if isinstance(part, str):
        name, parameters = ACTIVATIONS.parse(part)
        return _of_activation(part, bind(name, **parameters), rng)
    if isinstance(part, Activation):
        return _of_activation(repr(part), part.function, rng)
    if isinstance(part, Loss):
        return _of_loss(part, inputs, targets, rng)
    if callable(part) and not isinstance(part, type):
        return _of_activation(getattr(part, "__name__", repr(part)), part, rng)
    raise ArgumentError(
        f"part must be an activation (name or function), a layer, a loss or a model, got {part!r}"
    )


def _drawn(rng: np.random.RandomState, *shape: int) -> np.ndarray:
    """Return normal numbers of few digits, which are exact in float32 and after a step."""
    return _short(rng.standard_normal(shape))


def _short(array: Any) -> np.ndarray:
    return np.round(np.asarray(array, dtype=np.float64) * 4096.0) / 4096.0


def _of_activation(name: str, function: Callable[..., Any], rng: Any) -> _Subject:
    # where kinks are likely, anywhere, and far out
    far = np.outer([1.0, -1.0], [12.0, 20.0, 50.0, 100.0, 1e4]).ravel()
    points = np.concatenate([np.arange(-16, 17) / 2.0, _short(rng.uniform(-8, 8, 64)), far])

    def value(arrays: Arrays, fixed: Arrays, xp: Any) -> Array:
        z, _ = function(arrays["u"], xp=xp)
        return z

    def run(arrays: Arrays, fixed: Arrays, dy: Array, xp: Any) -> tuple[Array, Arrays]:
        z, pullback = function(arrays["u"], xp=xp)
        return z, {"u": pullback(dy)}

    return _Subject(name, {"u": points}, {}, value, run, elementwise=True)


def _of_layer(layer: Layer, inputs: int, rng: Any, training: bool) -> _Subject:
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

    arrays = {"x": _drawn(rng, _SAMPLES, inputs), **drawn}
    return _Subject(_named(layer, training), arrays, {**buffers, **_key(rng)}, value, run)


# of a layer's random numbers in training; no buffer can have the name
_KEY = "random key"


def _key(rng: np.random.RandomState) -> dict[str, np.ndarray]:
    return {_KEY: rng.randint(1 << 30, size=1).astype(np.int64)}


def _named(part: Any, training: bool) -> str:
    return f"{part!r} in training" if training else repr(part)


def _moved(array: Any, rng: Any) -> np.ndarray:
    """Return an initial parameter a little beside itself, so that no term is 0 by chance."""
    array = np.asarray(array, dtype=np.float64)
    noise = rng.standard_normal(array.shape)
    return _short(array * (1.0 + noise / 4.0) + noise / 64.0)


def _of_loss(loss: Loss, outputs: int, targets: Any, rng: Any) -> _Subject:
    loss.check(outputs)
    if targets is None:
        targets = rng.uniform(0.1, 1.0, (_SAMPLES, outputs))
        targets /= targets.sum(axis=1, keepdims=True)
    targets = np.asarray(targets)

    def value(arrays: Arrays, fixed: Arrays, xp: Any) -> Array:
        return run(arrays, fixed, None, xp)[0]

    def run(arrays: Arrays, fixed: Arrays, dy: Array, xp: Any) -> tuple[Array, Arrays]:
        samples, gradient = loss.samples(arrays["outputs"], fixed["targets"], xp=xp)
        if tuple(samples.shape) != (targets.shape[0],):
            raise PartError(
                f"samples must have shape {(targets.shape[0],)}, got {tuple(samples.shape)}"
            )
        return loss.value(mean(samples, xp=xp)), {"outputs": gradient}

    drawn = 2.0 * _drawn(rng, targets.shape[0], outputs)
    return _Subject(repr(loss), {"outputs": drawn}, {"targets": targets}, value, run)


def _of_model(model: Sequential, inputs: int, rng: Any, training: bool) -> _Subject:
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
    fixed = {"x": _drawn(rng, _SAMPLES, inputs), **flatten(buffers), **_key(rng)}
    fixed = {name: np.asarray(array) for name, array in fixed.items()}
    return _Subject(_named(model, training), arrays, fixed, value, run)


class _Place:
    """A subject on a backend: compiled, and called with host arrays."""

    def __init__(self, subject: _Subject, backend: Backend) -> None:
        self.subject, self.backend = subject, backend
        xp = backend.xp
        self._run = backend.compile(lambda arrays, fixed, dy: subject.run(arrays, fixed, dy, xp))
        self._value = backend.compile(lambda arrays, fixed: subject.value(arrays, fixed, xp))
        self.fixed = self._moved(subject.fixed)

    def _moved(self, arrays: Mapping[str, np.ndarray]) -> Arrays:
        return {name: _on(self.backend, array) for name, array in arrays.items()}

    def value(self, arrays: dict[str, np.ndarray]) -> np.ndarray:
        """Return the value on the host, in float64."""
        value = _called(self._value, self._moved(arrays), self.fixed)
        _owned(self.backend, "the value", value)
        return np.asarray(self.backend.to_numpy(value), np.float64)

    def gradients(self, cotangent: np.ndarray) -> dict[str, np.ndarray]:
        """Return the gradients on the host, in float64, once they and the inputs are checked."""
        subject, backend = self.subject, self.backend
        moved, dy = self._moved(subject.arrays), _on(backend, cotangent)
        value, gradients = _called(self._run, moved, self.fixed, dy)
        given = {**subject.arrays, **subject.fixed, "the output's gradient": cotangent}
        after = {**moved, **self.fixed, "the output's gradient": dy}
        for name, host in given.items():
            now = backend.to_numpy(after[name])
            if not np.array_equal(now, host.astype(now.dtype)):
                raise PartError(f"it changes an input, {name}")
        _like(backend, "the value", value, cotangent.shape)
        if set(gradients) != set(subject.arrays):
            raise PartError(
                f"there must be gradients of {', '.join(sorted(subject.arrays))}, "
                f"got {', '.join(sorted(gradients)) or 'none'}"
            )
        for name, array in subject.arrays.items():
            _like(backend, f"the gradient of {name}", gradients[name], array.shape)
        return {
            name: np.asarray(backend.to_numpy(gradients[name]), np.float64)
            for name in subject.arrays
        }


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


class _Line(NamedTuple):
    """The value along one entry: at x - 2 h, x - h, x + h and x + 2 h, less that at x.

    Where the function is smooth, the differences of the steps h and 2 h agree to the order of h²,
    and the second differences to that of h³. At a kink whose slopes differ by j, at x or less than
    2 h beside it, `disagreement` is j / 6 or more, and so bounds the central difference's error.
    """

    x: float
    h: float
    changes: tuple[float, float, float, float]
    size: float

    @property
    def slopes(self) -> tuple[float, float]:
        """The one-sided differences, left and right."""
        _, before, after, _ = self.changes
        return -before / self.h, after / self.h

    @property
    def central(self) -> float:
        """The central difference of both steps, the error of order h² taken off (Richardson)."""
        near, far = self._central()
        return near + (near - far) / 3.0

    def _central(self) -> tuple[float, float]:
        far_before, before, after, far_after = self.changes
        return (after - before) / (2.0 * self.h), (far_after - far_before) / (4.0 * self.h)

    @property
    def disagreement(self) -> float:
        """How far the differences of both steps are from those of a smooth function."""
        far_before, before, after, far_after = self.changes
        near, far = self._central()
        bend, far_bend = (after + before) / self.h, (far_after + far_before) / (4.0 * self.h)
        return abs(bend - far_bend) + abs(near - far)

    @property
    def rounding(self) -> float:
        """What rounding makes of a difference."""
        return _ROUNDINGS * _EPS * (self.size + abs(self.x * self._central()[0])) / self.h

    @property
    def rough(self) -> float:
        """What the differences may disagree by where there is no kink."""
        return 4.0 * self.rounding + _ROUGH * (self.size + sum(map(abs, self._central())))

    @property
    def kink(self) -> bool:
        """Whether the point lies at a kink, or nearer to one than 2 h."""
        return self.disagreement > self.rough

    def agrees(self, derivative: float) -> bool:
        """Return whether a derivative can be right."""
        if self.kink:
            low, high = sorted(self.slopes)
            return low - self.rough <= derivative <= high + self.rough
        return abs(derivative - self.central) <= 2.0 * self.disagreement + self.rounding

    def expected(self) -> str:
        """Return in words what the derivative must be."""
        if self.kink:
            low, high = sorted(self.slopes)
            return f"between {low:.9g} and {high:.9g}, at a kink"
        return f"{self.central:.9g}"


def _lines(
    place: _Place, name: str, cotangent: np.ndarray, rng: np.random.RandomState
) -> dict[tuple[int, ...], _Line]:
    """Return by index the lines through the entries of one array, through 100 of them at most."""
    arrays, middle = place.subject.arrays, place.value(place.subject.arrays)
    x = arrays[name]
    # powers of two, so that a step is exact where x has few digits
    h = _STEP * np.exp2(np.floor(np.log2(np.maximum(np.abs(x), 1.0))))
    offsets = (-2.0, -1.0, 1.0, 2.0)
    if place.subject.elementwise:
        values = [place.value({name: x + k * h}) for k in offsets]
        changes = [cotangent * (value - middle) for value in values]
        return {
            index: _Line(
                float(x[index]),
                float(h[index]),
                tuple(float(change[index]) for change in changes),  # type: ignore[arg-type]
                abs(float(cotangent[index] * middle[index])),
            )
            for index in np.ndindex(x.shape)
            if all(np.isfinite(value[index]) for value in (middle, *values))
        }
    size = float(np.abs(cotangent * middle).sum())
    lines = {}
    for index in _entries(x.shape, rng):
        found = []
        for k in offsets:
            stepped = x.copy()
            stepped[index] += k * h[index]
            found.append(
                float(np.sum(cotangent * (place.value({**arrays, name: stepped}) - middle)))
            )
        lines[index] = _Line(float(x[index]), float(h[index]), tuple(found), size)  # type: ignore[arg-type]
    return lines


def _entries(shape: tuple[int, ...], rng: np.random.RandomState) -> Iterable[tuple[int, ...]]:
    every = list(np.ndindex(shape))
    if len(every) <= _ENTRIES:
        return every
    return [every[i] for i in np.sort(rng.permutation(len(every))[:_ENTRIES])]


def _check(subject: _Subject, backend: Backend, seed: int) -> tuple[int, int, float]:
    """Return the number of entries, of kinks among them, and the largest relative error."""
    place, rng = _Place(subject, backend), np.random.RandomState(seed + 1)
    shape = place.value(subject.arrays).shape
    if subject.elementwise and shape != subject.arrays["u"].shape:
        raise PartError(f"the value must have shape {subject.arrays['u'].shape}, got {shape}")
    cotangent = _drawn(rng, *shape) if shape else np.ones(())
    gradients = place.gradients(cotangent)
    if backend.dtype_name == "float64":
        return _held_to_differences(place, gradients, cotangent, rng)
    return _held_to_float64(place, gradients, cotangent)


def _held_to_differences(
    place: _Place,
    gradients: dict[str, np.ndarray],
    cotangent: np.ndarray,
    rng: np.random.RandomState,
) -> tuple[int, int, float]:
    largest = _largest(gradients)
    entries, kinks, worst = 0, 0, 0.0
    for name, gradient in gradients.items():
        lines = _lines(place, name, cotangent, rng)
        rough = sum(line.kink for line in lines.values())
        if 2 * rough > len(lines):
            raise PartError(
                f"the value isn't a smooth function of {name} at {rough} of {len(lines)} entries; "
                "is a part of it computed in lower precision?"
            )
        for index, line in lines.items():
            if not line.agrees(float(gradient[index])):
                raise _wrong(name, index, line.x, cotangent, line.expected(), gradient[index])
        smooth = [index for index, line in lines.items() if not line.kink]
        errors = [abs(gradient[index] - lines[index].central) for index in smooth]
        entries, kinks = entries + len(lines), kinks + rough
        worst = max([worst, *(float(error) / largest for error in errors)])
    return entries, kinks, worst


def _held_to_float64(
    place: _Place, gradients: dict[str, np.ndarray], cotangent: np.ndarray
) -> tuple[int, int, float]:
    """Hold float32 gradients to those in float64, which were checked before."""
    subject = place.subject
    middle = place.value(subject.arrays)
    double = get_backend(place.backend.name, dtype="float64")
    with double.scope():
        expected = _Place(subject, double).gradients(cotangent)
    largest = _largest(expected)
    entries, worst = 0, 0.0
    for name, right in expected.items():
        errors = np.abs(gradients[name] - right) / largest
        if subject.elementwise:
            # a value beyond the dtype's largest has no derivative
            errors = np.where(np.isfinite(middle), errors, 0.0)
        for index in map(tuple, np.argwhere(~(errors <= _SINGLE))):
            x = float(subject.arrays[name][index])
            raise _wrong(name, index, x, cotangent, f"{right[index]:.7g}", gradients[name][index])
        entries, worst = entries + right.size, max(worst, float(errors.max(initial=0.0)))
    return entries, 0, worst


def _largest(gradients: dict[str, np.ndarray]) -> float:
    """Return the size of all gradients: one alone may be 0."""
    return max(float(np.abs(gradient).max(initial=0.0)) for gradient in gradients.values()) or 1.0


def _wrong(
    name: str, index: tuple[int, ...], x: float, cotangent: np.ndarray, expected: str, got: Any
) -> PartError:
    at = ", ".join(str(int(i)) for i in index)
    beside = f" and its output's gradient {cotangent[index]:g}" if cotangent.ndim == 1 else ""
    return PartError(
        f"the gradient of {name}[{at}], where {name} is {x:g}{beside}, must be {expected}, "
        f"got {got:.9g}"
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
