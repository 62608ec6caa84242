"""`Sequential`: layers in order, their parameters, and where these live."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from xpnn.backends import Backend, get_backend
from xpnn.errors import ArgumentError
from xpnn.layers import Layer
from xpnn.losses import Loss
from xpnn.normalizers import Normalizer
from xpnn.tree import Tree, flatten

Array = Any


class SummaryRow(NamedTuple):
    """A layer in the summary of a model."""

    layer: str
    kind: str
    inputs: int
    outputs: int
    parameters: int


class Sequential:
    """A network of layers, each of which works on the output of the one before.

    Parameters
    ----------
    *layers
        In order from the input to the output.

    Attributes
    ----------
    layers
        The layers, a tuple.
    parameters
        One ``{name: array}`` per layer, on `backend`; None before `initialize` or `fit`.
    backend
        The backend that `parameters` live on.
    inputs
        The number of features, once known.
    apply
        ``apply(parameters, x)`` returns the outputs, compiled for `backend`.
    loss, classes
        What the network was last trained for: the loss, and the number of classes if the targets
        were class labels.
    labels
        What each class is called, integers or strings in order of the outputs; None if they are
        the integers from 0 on.
    normalizer, target_normalizer
        What the features are normalized by before the first layer, and the values that the outputs
        stand for; None if as they are.
    feature_names, target_name
        Of the columns of the table that it was trained on, if it was one.
    history
        The log of the last run, also of one that was interrupted.
    """

    def __init__(self, *layers: Layer) -> None:
        for i, layer in enumerate(layers):
            if not isinstance(layer, Layer):
                raise ArgumentError(
                    f"layers must be xpnn layers such as Dense(10), got {layer!r} in place {i}"
                )
        if not layers:
            raise ArgumentError("layers must hold at least one layer, got none")
        self.layers = layers
        self.parameters: Tree | None = None
        self.backend: Backend | None = None
        self.inputs: int | None = None
        self.apply: Callable[[Tree, Array], Array]
        self.loss: Loss | None = None
        self.classes: int | None = None
        self.labels: np.ndarray | None = None
        self.normalizer: Normalizer | None = None
        self.target_normalizer: Normalizer | None = None
        self.feature_names: tuple[str, ...] | None = None
        self.target_name: str | None = None
        self.history: Any = None

    def __getstate__(self) -> dict[str, Any]:
        state = {name: value for name, value in vars(self).items() if name != "apply"}
        if self.backend is not None and self.parameters is not None:
            state["parameters"] = self.host_parameters()
            state["backend"] = self.backend.options()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if state["parameters"] is not None:
            self.place(
                state["parameters"], inputs=state["inputs"], backend=get_backend(**state["backend"])
            )

    def __repr__(self) -> str:
        return f"Sequential({', '.join(map(repr, self.layers))})"

    def outputs(self, inputs: int) -> int:
        """Return the number of the network's outputs for so many features."""
        for layer in self.layers:
            inputs = layer.outputs(inputs)
        return inputs

    def widths(self, inputs: int) -> Iterator[tuple[Layer, int]]:
        """Yield each layer with the number of its inputs, for so many features."""
        for layer in self.layers:
            yield layer, inputs
            inputs = layer.outputs(inputs)

    def initialize(self, inputs: int, *, backend: Backend, rng: np.random.RandomState) -> None:
        """Draw the parameters, layer by layer, and move them to `backend`."""
        drawn = [layer.initialize(width, rng) for layer, width in self.widths(inputs)]
        self.place(drawn, inputs=inputs, backend=backend)

    def place(self, parameters: Tree, *, inputs: int, backend: Backend) -> None:
        """Take over copies of host `parameters` on `backend`, in its dtype."""
        self.parameters = [
            {
                name: backend.asarray(np.array(array, dtype=backend.dtype_name))
                for name, array in layer.items()
            }
            for layer in parameters
        ]
        self.inputs, self.backend = inputs, backend
        xp = backend.xp
        self.apply = backend.compile(lambda parameters, x: self.forward(parameters, x, xp=xp)[0])

    def host_parameters(self) -> Tree:
        """Return copies of the parameters on the host, in the order of each layer's `shapes`."""
        backend, parameters = self.placed()
        assert self.inputs is not None
        # JAX gives dictionaries back sorted by key
        return [
            {name: np.array(backend.to_numpy(own[name])) for name in layer.shapes(width)}
            for own, (layer, width) in zip(parameters, self.widths(self.inputs), strict=True)
        ]

    def sha256(self) -> str:
        """Return the SHA-256 of all parameters in order: little-endian, C order, NaN as one NaN."""
        import hashlib

        digest = hashlib.sha256()
        for array in flatten(self.host_parameters()).values():
            # which of the NaNs an operation gives depends on the processor
            canonical = np.where(np.isnan(array), np.nan, array)
            digest.update(canonical.astype(array.dtype.newbyteorder("<")).tobytes())
        return digest.hexdigest()

    def placed(self) -> tuple[Backend, Tree]:
        """Return the backend and the parameters on it, or raise if there are none yet."""
        if self.backend is None or self.parameters is None:
            raise ArgumentError("model has no parameters yet; train it with xpnn.fit first")
        return self.backend, self.parameters

    def forward(
        self, parameters: Tree, x: Array, *, xp: Any
    ) -> tuple[Array, Callable[[Array], Tree]]:
        """Return the outputs, shape (n, outputs), and their pullback.

        The pullback takes the loss's gradient with respect to the outputs and returns that with
        respect to the parameters. The first layer computes none for its input.
        """
        pullbacks = []
        for layer, own in zip(self.layers, parameters, strict=True):
            x, pullback = layer.forward(own, x, xp=xp)
            pullbacks.append(pullback)

        def model_pullback(dy: Array) -> Tree:
            gradients = []
            for i in reversed(range(len(pullbacks))):
                dy, own = pullbacks[i](dy, input_gradient=i > 0)
                gradients.append(own)
            return gradients[::-1]

        return x, model_pullback

    def summary(self, inputs: int | None = None) -> Sequence[SummaryRow]:
        """Return a row per layer: name, kind, inputs, outputs, number of parameters.

        Parameters
        ----------
        inputs
            The number of features; not needed once the model has seen data.
        """
        features = inputs if inputs is not None else self.inputs
        if features is None:
            raise ArgumentError("inputs must be given for a model that has seen no data yet")
        rows: list[SummaryRow] = []
        for layer, width in self.widths(features):
            number = 1 + sum(row.kind == layer.kind for row in rows)
            size = sum(math.prod(shape) for shape in layer.shapes(width).values())
            name = f"{layer.kind}{number}"
            rows.append(SummaryRow(name, layer.kind, width, layer.outputs(width), size))
        return rows
