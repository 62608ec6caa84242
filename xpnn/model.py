"""`Network`: layers in order, as pure functions. `Sequential`: a network with its arrays."""

from __future__ import annotations

import functools
import hashlib
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from xpnn._core.parts import Part, UnknownPartError, key_of
from xpnn._core.scopes import Place, enter, where
from xpnn._core.tables import html_table, table
from xpnn._core.tree import Tree, flatten
from xpnn.backends import Backend, get_backend
from xpnn.errors import ArgumentError
from xpnn.layers import Layer, Pullback
from xpnn.task import Task

Array = Any


class SummaryRow(NamedTuple):
    """A layer in the summary of a model."""

    layer: str
    kind: str
    inputs: int
    outputs: int
    parameters: int


class Summary(list[SummaryRow]):
    """The summary of a model: a list with a row per layer, shown as a table with the totals."""

    @property
    def parameters(self) -> int:
        """The number of all parameters."""
        return sum(row.parameters for row in self)

    def _cells(self) -> list[list[str]]:
        total = "total", "", self[0].inputs, self[-1].outputs, self.parameters
        return [[str(cell) for cell in row] for row in (SummaryRow._fields, *self, total)]

    def __repr__(self) -> str:
        return table(self._cells(), numeric=_NUMERIC)

    def _repr_html_(self) -> str:
        return html_table(self._cells(), numeric=_NUMERIC)


# the columns of a summary that hold numbers
_NUMERIC = (2, 3, 4)


class Network(Part):
    """Layers in order, each of which works on the output of the one before.

    A network holds no arrays: its functions take them as arguments, and so are pure.

    Parameters
    ----------
    *layers
        The layers from input to output.
    """

    def __init__(self, *layers: Layer) -> None:
        for i, layer in enumerate(layers):
            if not isinstance(layer, Layer):
                raise ArgumentError(
                    f"layers must be xpnn layers such as Dense(10), got {layer!r} at position {i}"
                )
        if not layers:
            raise ArgumentError("layers must hold at least one layer, got none")
        self.layers = layers

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.layers))})"

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """The layers' names in summaries, `xpnn verify` and errors: "dense1", "relu1", "dense2"."""
        kinds = [layer.kind for layer in self.layers]
        return tuple(f"{kind}{kinds[: i + 1].count(kind)}" for i, kind in enumerate(kinds))

    @property
    def by_rows(self) -> bool:
        """Whether the trained network surely computes each row by itself, as all our layers do."""
        try:
            key_of(self.layers)
        except UnknownPartError:
            return False
        return True

    @functools.cached_property
    def _places(self) -> list[tuple[Place, Place]]:
        return [(Place(name, "forward"), Place(name, "backward")) for name in self.names]

    def outputs(self, inputs: int) -> int:
        """Return the number of the network's outputs for this number of features."""
        for layer in self.layers:
            inputs = layer.outputs(inputs)
        return inputs

    def widths(self, inputs: int) -> Iterator[tuple[Layer, int]]:
        """Yield each layer with the number of its inputs, given the number of features."""
        for layer in self.layers:
            yield layer, inputs
            inputs = layer.outputs(inputs)

    def shapes(self, inputs: int) -> list[dict[str, tuple[int, ...]]]:
        """Return the shapes of each layer's parameters, followed by those of its buffers."""
        return [
            {
                **layer.shapes(width),
                **{name: array.shape for name, array in layer.buffers(width).items()},
            }
            for layer, width in self.widths(inputs)
        ]

    def draw(self, inputs: int, rng: np.random.RandomState) -> Tree:
        """Return the initial parameters and buffers on the host, drawn layer by layer.

        Raises
        ------
        ArgumentError
            If the parameters don't fit into the memory of this machine.
        """
        shapes = (
            shape for layer, width in self.widths(inputs) for shape in layer.shapes(width).values()
        )
        needed, memory = 8 * sum(map(math.prod, shapes)), _memory()
        if needed > memory:
            # a float can't hold any integer
            told = min(needed, 10**30) / 1e9
            raise ArgumentError(
                f"the layers have too many parameters: drawing them takes {told:.3g} GB or more, "
                f"and this machine has {memory / 1e9:.3g} GB"
            )
        return [
            {**layer.initialize(width, rng), **layer.buffers(width)}
            for layer, width in self.widths(inputs)
        ]

    def forward(self, arrays: Tree, x: Array, *, xp: Any) -> tuple[Array, Callable[[Array], Tree]]:
        """Return the outputs of the trained network, shape (n, outputs), and their pullback.

        The pullback takes the loss's gradient with respect to the outputs and returns the gradient
        with respect to the parameters. The first layer computes no gradient for its input.
        """
        outer, pullbacks = where(), []
        for (place, _), layer, own in zip(self._places, self.layers, arrays, strict=True):
            enter(place)
            x, pullback = layer.forward(own, x, xp=xp)
            pullbacks.append(pullback)
        enter(outer)
        return x, self._pullback(pullbacks)

    def train(
        self, parameters: Tree, buffers: Tree, x: Array, keys: Mapping[int, Array], *, xp: Any
    ) -> tuple[Array, Callable[[Array], Tree], Tree]:
        """Return outputs and pullback like `forward`, but in training, and the new buffers.

        `keys` has, by index, the key of the random numbers of each layer that draws some.
        """
        outer, pullbacks, moved = where(), [], []
        for i, (layer, own, kept) in enumerate(zip(self.layers, parameters, buffers, strict=True)):
            enter(self._places[i][0])
            x, pullback, after = layer.train(own, kept, x, keys.get(i), xp=xp)
            pullbacks.append(pullback)
            moved.append(after)
        enter(outer)
        return x, self._pullback(pullbacks), moved

    def _pullback(self, pullbacks: Sequence[Pullback]) -> Callable[[Array], Tree]:
        """Return the pullback of the network from those of its layers."""
        places = self._places

        def pullback(dy: Array) -> Tree:
            outer, gradients = where(), []
            for i in reversed(range(len(pullbacks))):
                enter(places[i][1])
                dy, own = pullbacks[i](dy, input_gradient=i > 0)
                gradients.append(own)
            enter(outer)
            return gradients[::-1]

        return pullback


class Sequential(Network):
    """A network of layers in order, with its arrays, its backend and its task.

    Parameters
    ----------
    *layers
        The layers from input to output.

    Attributes
    ----------
    layers
        The layers, a tuple.
    parameters
        One ``{name: array}`` per layer, on `backend`; None before `initialize` or `fit`. Training
        changes these arrays or replaces them, so copy those that you want to keep.
    buffers
        Likewise, the arrays that training changes without a gradient; most layers have none.
    backend
        The backend of parameters and buffers.
    inputs
        The number of features, once known.
    apply
        ``apply(arrays, x)`` returns the outputs, compiled for `backend`; see `arrays`.
    task
        What the network was last trained for: its loss, the labels of the classes, the normalizers,
        the names of the columns.
    history
        The log of the last run, even if it was interrupted.
    """

    def __init__(self, *layers: Layer) -> None:
        super().__init__(*layers)
        self.parameters: Tree | None = None
        self.buffers: Tree | None = None
        self.backend: Backend | None = None
        self.inputs: int | None = None
        self.apply: Callable[[Tree, Array], Array]
        self.task = Task()
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

    @property
    def network(self) -> Network:
        """The network without its arrays."""
        return Network(*self.layers)

    def initialize(self, inputs: int, *, backend: Backend, rng: np.random.RandomState) -> None:
        """Draw the parameters, layer by layer, and move them and the buffers to `backend`."""
        self.place(self.draw(inputs, rng), inputs=inputs, backend=backend)

    def place(self, arrays: Tree, *, inputs: int, backend: Backend) -> None:
        """Hold copies of host parameters and buffers on `backend`, in its dtype."""
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

    @property
    def arrays(self) -> Tree:
        """The parameters and buffers of each layer, with which the trained network computes."""
        pairs = zip(self.parameters or [], self.buffers or [], strict=True)
        return [{**parameters, **buffers} for parameters, buffers in pairs]

    def host_parameters(self) -> Tree:
        """Return copies of the parameters and buffers on the host, in the order of `shapes`."""
        backend, arrays = self.placed()
        assert self.inputs is not None
        # JAX returns dictionaries sorted by key
        return [
            {name: np.array(backend.to_numpy(own[name])) for name in shapes}
            for own, shapes in zip(arrays, self.shapes(self.inputs), strict=True)
        ]

    def sha256(self) -> str:
        """Return the SHA-256 of all parameters and buffers in the order of `shapes`.

        Their bytes are little-endian, in C order, and every NaN has the same ones.
        """
        digest = hashlib.sha256()
        for array in flatten(self.host_parameters()).values():
            # which NaN an operation gives depends on the processor
            canonical = np.where(np.isnan(array), np.nan, array)
            digest.update(canonical.astype(array.dtype.newbyteorder("<")).tobytes())
        return digest.hexdigest()

    def placed(self) -> tuple[Backend, Tree]:
        """Return the backend and the `arrays` on it, or raise if there are none yet."""
        if self.backend is None or self.parameters is None:
            raise ArgumentError("model has no parameters yet; train it with xpnn.fit first")
        return self.backend, self.arrays

    def summary(self, inputs: int | None = None) -> Summary:
        """Return a row per layer: name, kind, inputs, outputs, number of parameters.

        In a terminal or a notebook, and with `print`, it is a table.

        Parameters
        ----------
        inputs
            The number of features; not needed once the model has seen data.
        """
        features = inputs if inputs is not None else self.inputs
        if features is None:
            raise ArgumentError("inputs must be given for a model that has seen no data yet")
        rows = Summary()
        for name, (layer, width) in zip(self.names, self.widths(features), strict=True):
            size = sum(math.prod(shape) for shape in layer.shapes(width).values())
            rows.append(SummaryRow(name, layer.kind, width, layer.outputs(width), size))
        return rows

    def _repr_html_(self) -> str:
        if self.inputs is not None:
            return self.summary()._repr_html_()
        rows = [(name, repr(layer)) for name, layer in zip(self.names, self.layers, strict=True)]
        return html_table([("layer", "not trained yet"), *rows])


def _memory() -> int:
    """Return the bytes of memory of this machine, or what no machine has if they aren't known."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return 1 << 48
