"""`Sequential`: layers in order, their parameters, and where these live."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np

from xpnn._core.tree import Tree, flatten
from xpnn.backends import Backend, get_backend
from xpnn.errors import ArgumentError
from xpnn.layers import Layer, Pullback
from xpnn.losses import Loss
from xpnn.normalizers import Normalizer

Array = Any


class SummaryRow(NamedTuple):
    """A layer in the summary of a model."""

    layer: str
    kind: str
    inputs: int
    outputs: int
    parameters: int


def _pullback(pullbacks: Sequence[Pullback]) -> Callable[[Array], Tree]:
    """Return the pullback of a network from those of its layers."""

    def pullback(dy: Array) -> Tree:
        gradients = []
        for i in reversed(range(len(pullbacks))):
            dy, own = pullbacks[i](dy, input_gradient=i > 0)
            gradients.append(own)
        return gradients[::-1]

    return pullback


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
        One ``{name: array}`` per layer, on `backend`; None before `initialize` or `fit`. A run
        changes these arrays or puts others in their place: copy what is to stay.
    buffers
        Likewise, the arrays that training changes without a gradient; for most layers there are
        none.
    backend
        The backend that parameters and buffers live on.
    inputs
        The number of features, once known.
    apply
        ``apply(arrays, x)`` returns the outputs, compiled for `backend`; see `arrays`.
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
    image_shape
        Height, width and channels of the images that it was trained on, if they came as such from
        files; None if not known.
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
        self.buffers: Tree | None = None
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
        self.image_shape: tuple[int, int, int] | None = None
        self.history: Any = None

    def __getstate__(self) -> dict[str, Any]:
        state = {name: value for name, value in vars(self).items() if name != "apply"}
        if self.backend is not None and self.parameters is not None:
            state["parameters"], state["buffers"] = self.host_parameters(), None
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

    def shapes(self, inputs: int) -> list[dict[str, tuple[int, ...]]]:
        """Return the shape of each layer's parameters, and after them of its buffers."""
        return [
            {
                **layer.shapes(width),
                **{name: array.shape for name, array in layer.buffers(width).items()},
            }
            for layer, width in self.widths(inputs)
        ]

    def initialize(self, inputs: int, *, backend: Backend, rng: np.random.RandomState) -> None:
        """Draw the parameters, layer by layer, and move them and the buffers to `backend`."""
        drawn = [
            {**layer.initialize(width, rng), **layer.buffers(width)}
            for layer, width in self.widths(inputs)
        ]
        self.place(drawn, inputs=inputs, backend=backend)

    def place(self, arrays: Tree, *, inputs: int, backend: Backend) -> None:
        """Take over copies of host parameters and buffers on `backend`, in its dtype."""
        self.parameters, self.buffers = [], []
        for (layer, width), own in zip(self.widths(inputs), arrays, strict=True):
            moved = {
                name: backend.asarray(np.array(array, dtype=backend.dtype_name))
                for name, array in own.items()
            }
            self.buffers.append({name: moved.pop(name) for name in layer.buffers(width)})
            self.parameters.append(moved)
        self.inputs, self.backend = inputs, backend
        xp = backend.xp
        self.apply = backend.compile(lambda arrays, x: self.forward(arrays, x, xp=xp)[0])

    def bare(self) -> Self:
        """Return the same network without its arrays, which `forward` and `train` are handed."""
        network = type(self).__new__(type(self))
        vars(network).update(vars(self), parameters=None, buffers=None, backend=None, history=None)
        vars(network).pop("apply", None)
        return network

    @property
    def arrays(self) -> Tree:
        """The parameters and buffers of each layer, what the trained network computes with."""
        pairs = zip(self.parameters or [], self.buffers or [], strict=True)
        return [{**parameters, **buffers} for parameters, buffers in pairs]

    def host_parameters(self) -> Tree:
        """Return copies of the parameters and buffers on the host, in the order of `shapes`."""
        backend, arrays = self.placed()
        assert self.inputs is not None
        # JAX gives dictionaries back sorted by key
        return [
            {name: np.array(backend.to_numpy(own[name])) for name in shapes}
            for own, shapes in zip(arrays, self.shapes(self.inputs), strict=True)
        ]

    def sha256(self) -> str:
        """Return the SHA-256 of all parameters and buffers in the order of `shapes`.

        Little-endian, C order, NaN as one NaN.
        """
        import hashlib

        digest = hashlib.sha256()
        for array in flatten(self.host_parameters()).values():
            # which of the NaNs an operation gives depends on the processor
            canonical = np.where(np.isnan(array), np.nan, array)
            digest.update(canonical.astype(array.dtype.newbyteorder("<")).tobytes())
        return digest.hexdigest()

    def placed(self) -> tuple[Backend, Tree]:
        """Return the backend and the `arrays` on it, or raise if there are none yet."""
        if self.backend is None or self.parameters is None:
            raise ArgumentError("model has no parameters yet; train it with xpnn.fit first")
        return self.backend, self.arrays

    def forward(self, arrays: Tree, x: Array, *, xp: Any) -> tuple[Array, Callable[[Array], Tree]]:
        """Return the outputs of the trained network, shape (n, outputs), and their pullback.

        The pullback takes the loss's gradient with respect to the outputs and returns that with
        respect to the parameters. The first layer computes none for its input.
        """
        pullbacks = []
        for layer, own in zip(self.layers, arrays, strict=True):
            x, pullback = layer.forward(own, x, xp=xp)
            pullbacks.append(pullback)
        return x, _pullback(pullbacks)

    def train(
        self, parameters: Tree, buffers: Tree, x: Array, keys: Mapping[int, Array], *, xp: Any
    ) -> tuple[Array, Callable[[Array], Tree], Tree]:
        """Return outputs and pullback as `forward`, but in training, and the new buffers.

        `keys` has the random numbers' key for each layer that draws some, by its place from 0 on.
        """
        pullbacks, moved = [], []
        for i, (layer, own, kept) in enumerate(zip(self.layers, parameters, buffers, strict=True)):
            x, pullback, after = layer.train(own, kept, x, keys.get(i), xp=xp)
            pullbacks.append(pullback)
            moved.append(after)
        return x, _pullback(pullbacks), moved

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
