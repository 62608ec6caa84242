"""Each kind of part as a differentiable function of named arrays, with inputs to try."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from xpnn._core.tree import flatten, rebuilt
from xpnn.activations import ACTIVATIONS, bind
from xpnn.errors import ArgumentError
from xpnn.layers import Activation, Layer
from xpnn.losses import Loss, mean
from xpnn.model import Sequential
from xpnn.testing.calls import short
from xpnn.testing.report import PartError

Array = Any
Arrays = Mapping[str, Any]
Pullback = Callable[[Array], dict[str, Array]]
Pairs = dict[str, tuple[Array, Array]]

# mini-batches of layers and models: samples, the size of x, entries to check of each array
_BATCHES = ((1, 1.0, 25), (2, 1.0, 25), (5, 1.0, 100), (5, 1.0 / 16.0, 25), (5, 16.0, 25))

# the name of a layer's random key in training; no buffer can have it
_KEY = "random key"


class Case(NamedTuple):
    """Inputs of a function: arrays that it is differentiated by, and fixed ones."""

    arrays: dict[str, np.ndarray]
    fixed: dict[str, np.ndarray]
    samples: int
    entries: int = 100  # the most that are checked of each array


class Subject(NamedTuple):
    """A differentiable function of named arrays, and the cases to check it with.

    ``function(arrays, fixed, xp)`` returns the value and its pullback, from the gradient with
    respect to the value to those with respect to `arrays` by name. ``alike(arrays, fixed, xp)``
    returns pairs of arrays that must be equal up to rounding, by what an error says of them.
    """

    cases: list[Case]
    function: Callable[[Arrays, Arrays, Any], tuple[Array, Pullback]]
    how: str = ""
    elementwise: bool = False
    alike: Callable[[Arrays, Arrays, Any], Pairs] = lambda arrays, fixed, xp: {}


def subjects_of(part: Any, inputs: int, targets: Any, seed: int) -> tuple[str, list[Subject]]:
    """Return a part's name and its functions; arguments are those of `check_gradients`."""
    if targets is not None and not isinstance(part, Loss):
        raise ArgumentError("targets are only for a loss")
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
        of: Callable[..., Subject] = _of_model if isinstance(part, Sequential) else _of_layer
        modes = (False, True) if trains else (False,)
        return repr(part), [of(part, inputs, np.random.RandomState(seed), mode) for mode in modes]
    if callable(part) and not isinstance(part, type):
        return getattr(part, "__name__", repr(part)), [_of_activation(part, rng)]
    raise ArgumentError(
        f"part must be an activation (name or function), a layer, a loss or a model, got {part!r}"
    )


# activations


def _of_activation(activation: Callable[..., Any], rng: np.random.RandomState) -> Subject:
    def function(arrays: Arrays, fixed: Arrays, xp: Any) -> tuple[Array, Pullback]:
        z, pullback = activation(arrays["u"], xp=xp)
        return z, lambda dz: {"u": pullback(dz)}

    given = [_points(rng).reshape(-1, 8), *(4.0 * drawn(rng, n, 8) for n in (1, 2))]
    return Subject([Case({"u": u}, {}, len(u)) for u in given], function, elementwise=True)


def drawn(rng: np.random.RandomState, *shape: int) -> np.ndarray:
    """Return normally distributed numbers with few digits."""
    return short(rng.standard_normal(shape))


def _points(rng: np.random.RandomState) -> np.ndarray:
    """Return 4096 numbers, exact in float32: a grid, random ones, small and large ones."""
    grid = np.arange(-1024, 1025) / 64.0
    octaves = np.ldexp(1.0 + np.arange(8) / 8.0, np.arange(-14, 15)[:, np.newaxis])
    octaves = np.setdiff1d(octaves, grid)
    rest = 4096 - grid.size - 2 * octaves.size
    anywhere = rng.uniform(-1, 1, rest) * np.where(np.arange(rest) % 2, 1.0, 8.0)
    return np.concatenate([grid, octaves, -octaves, short(anywhere)])


# layers and models


def _of_layer(layer: Layer, inputs: int, rng: np.random.RandomState, training: bool) -> Subject:
    parameters = _shaken(layer.initialize(inputs, rng), rng)
    buffers = _shaken(layer.buffers(inputs), rng)

    def function(arrays: Arrays, fixed: Arrays, xp: Any) -> tuple[Array, Pullback]:
        own = {name: arrays[name] for name in parameters}
        kept = {name: fixed[name] for name in buffers}
        if training:
            key = fixed[_KEY] if layer.draws else None
            y, pullback, after = layer.train(own, kept, arrays["x"], key, xp=xp)
            if set(after) != set(kept):
                raise PartError(f"train must return the buffers {[*kept]}, got {[*after]}")
        else:
            y, pullback = layer.forward({**own, **kept}, arrays["x"], xp=xp)

        def gradients(dy: Array) -> dict[str, Array]:
            dx, found = pullback(dy)
            nothing, same = pullback(dy, input_gradient=False)
            if nothing is not None or set(same) != set(found):
                raise PartError(
                    "without input_gradient, the pullback must return None and gradients"
                )
            return {"x": dx, **found}

        return y, gradients

    cases = _cases(parameters, buffers, inputs, rng, by_x=True)
    return Subject(cases, function, ", in training" * training)


def _of_model(
    model: Sequential, inputs: int, rng: np.random.RandomState, training: bool
) -> Subject:
    if model.parameters is None:
        host = [_shaken(own, rng) for own in model.draw(inputs, rng)]
    else:
        assert model.inputs is not None
        inputs, host = model.inputs, model.host_parameters()
    buffers = [
        {name: own.pop(name) for name in layer.buffers(width)}
        for own, (layer, width) in zip(host, model.widths(inputs), strict=True)
    ]

    def function(arrays: Arrays, fixed: Arrays, xp: Any) -> tuple[Array, Pullback]:
        parameters = rebuilt(host, (arrays[name] for name in flatten(host)))
        kept = rebuilt(buffers, (fixed[name] for name in flatten(buffers)))
        if training:
            keys = {i: fixed[_KEY] + i for i, layer in enumerate(model.layers) if layer.draws}
            y, pullback, _ = model.train(parameters, kept, fixed["x"], keys, xp=xp)
        else:
            both = [{**own, **other} for own, other in zip(parameters, kept, strict=True)]
            y, pullback = model.forward(both, fixed["x"], xp=xp)
        return y, lambda dy: flatten(pullback(dy))

    arrays = {name: array.astype(np.float64) for name, array in flatten(host).items()}
    cases = _cases(arrays, flatten(buffers), inputs, rng, by_x=False)
    return Subject(cases, function, ", in training" * training)


def _shaken(arrays: Arrays, rng: np.random.RandomState) -> dict[str, np.ndarray]:
    """Return initial arrays with a little noise, so that no term is 0 by chance."""
    shaken = {}
    for name, array in arrays.items():
        noise = rng.standard_normal(np.shape(array))
        shaken[name] = short(np.asarray(array) * (1.0 + noise / 4.0) + noise / 64.0)
    return shaken


def _cases(
    parameters: Arrays, buffers: Arrays, inputs: int, rng: np.random.RandomState, *, by_x: bool
) -> list[Case]:
    """Return mini-batches; the function is differentiated by the features only if `by_x`."""
    fixed = {**buffers, _KEY: rng.randint(1 << 30, size=1).astype(np.int64)}
    cases = []
    for samples, size, entries in _BATCHES:
        x = {"x": size * drawn(rng, samples, inputs)}
        given = ({**x, **parameters}, fixed) if by_x else ({**parameters}, {**x, **fixed})
        cases.append(Case(*given, samples, entries))
    return cases


# losses


def _of_loss(loss: Loss, outputs: int, targets: Any, rng: np.random.RandomState) -> list[Subject]:
    loss.check(outputs)
    if targets is None:
        targets = rng.uniform(0.1, 1.0, (5, outputs))
        targets /= targets.sum(axis=1, keepdims=True)
    targets = np.asarray(targets)
    if targets.ndim == 0 or not len(targets):
        raise ArgumentError(f"targets must be of 1 sample or more, got shape {targets.shape}")

    def function(arrays: Arrays, fixed: Arrays, xp: Any) -> tuple[Array, Pullback]:
        u, t, weights = arrays["outputs"], fixed["targets"], fixed.get("weights")
        if weights is None:
            samples, gradient = loss.samples(u, t, xp=xp)
        else:
            samples, gradient = loss.weighted(u, t, weights, xp=xp)
        if tuple(samples.shape) != (u.shape[0],):
            raise PartError(f"samples must have shape {(u.shape[0],)}, got {tuple(samples.shape)}")
        total = samples if weights is None else weights * samples
        return loss.value(mean(total, xp=xp)), lambda _: {"outputs": gradient}

    def alike(arrays: Arrays, fixed: Arrays, xp: Any) -> Pairs:
        u, t = arrays["outputs"], fixed["targets"]
        ones = loss.weighted(u, t, xp.ones_like(fixed["weights"]), xp=xp)
        pairs = zip(ones, loss.samples(u, t, xp=xp), strict=True)
        wanted = "weighted with weights of 1 must return the {} of `samples`"
        return dict(zip(map(wanted.format, ("samples", "gradient")), pairs, strict=True))

    cases = list(_loss_cases(targets, outputs, rng))
    weighted = []
    for case in (cases[0], *(case for case in cases if case.samples > 1)):
        weights = short(rng.uniform(0.25, 2.0, case.samples))
        weights[2:3] = 0.0
        weighted.append(case._replace(fixed={**case.fixed, "weights": weights}))
    return [Subject(cases, function), Subject(weighted, function, ", weighted", alike=alike)]


def _loss_cases(targets: np.ndarray, outputs: int, rng: np.random.RandomState) -> Iterator[Case]:
    """Yield cases of one sample, from near 0 or its target to far away, and of two and all."""

    def case(rows: np.ndarray, size: float, about: bool = False) -> Case:
        own = targets[rows]
        u = size * drawn(rng, len(rows), outputs)
        if about and own.shape == u.shape:
            u += own
        return Case({"outputs": short(u)}, {"targets": own}, len(rows))

    n = len(targets)
    for i, size in enumerate(np.exp2(np.arange(-6.0, 6.5, 0.5))):
        for about in (False, True):
            yield case(np.asarray([i % n]), size, about)
    for count in sorted({min(2, n), n} - {1}):
        for size in (0.125, 2.0, 32.0):
            yield case(np.arange(count), size)
