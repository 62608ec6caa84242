"""Layers: ``forward(parameters, x, xp=xp)`` returns the output and the pullback of its gradient."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from xpnn import activations
from xpnn.backends import to_numpy
from xpnn.errors import ArgumentError, integer
from xpnn.initializers import INITIALIZERS, Initializer
from xpnn.registry import Registry

Array = Any
Gradients = dict[str, Array]
Pullback = Callable[..., tuple[Array | None, Gradients]]

LAYERS: Registry[type[Layer]] = Registry("layer", lambda: Layer)
register = LAYERS.register


class Layer(ABC):
    """Base of layers. A layer holds settings alone; its parameters are handed to it."""

    @property
    @abstractmethod
    def kind(self) -> str:
        """What a summary calls the layer."""

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Return the settings from which an equal layer can be made, as JSON would hold them."""

    def outputs(self, inputs: int) -> int:
        """Return the number of outputs for so many inputs."""
        return inputs

    def shapes(self, inputs: int) -> dict[str, tuple[int, ...]]:
        """Return the shape of each parameter for so many inputs."""
        return {}

    def initialize(self, inputs: int, rng: np.random.RandomState) -> dict[str, np.ndarray]:
        """Return the initial parameters as float64 arrays on the host."""
        return {}

    @abstractmethod
    def forward(
        self, parameters: Mapping[str, Array], x: Array, *, xp: Any
    ) -> tuple[Array, Pullback]:
        """Return the output and its pullback.

        Parameters
        ----------
        parameters
            The layer's arrays by name.
        x
            Shape (n, inputs). Not mutated.
        xp
            The array API namespace to compute with.

        Returns
        -------
        y
            Shape (n, outputs).
        pullback
            ``pullback(dy, input_gradient=True)`` returns ``(dx, gradients)``: the gradients of the
            loss with respect to `x` and to each parameter, given that with respect to `y`. Without
            `input_gradient`, dx is None and isn't computed.
        """


class Dense(Layer):
    """Fully connected layer: ``y = x W + b``.

    Parameters
    ----------
    units
        Number of outputs.
    weight
        The initial W, shape (inputs, units): an initializer's name ("he_normal", "he_uniform",
        "glorot_normal", "glorot_uniform", "zeros"), a function of (RandomState, inputs, units), or
        the array itself.
    bias
        The initial b, shape (units,): zeros if None, or the array itself; no bias if False.
    """

    kind = "dense"

    def __init__(
        self,
        units: int,
        *,
        weight: str | Initializer | Array = "he_normal",
        bias: Array | None = None,
    ) -> None:
        self.units = integer("units", units, minimum=1)
        self.weight = INITIALIZERS[weight] if isinstance(weight, str) else weight
        self._weight_name = weight if isinstance(weight, str) else "he_normal"
        self.bias = bias

    def config(self) -> dict[str, Any]:
        bias = {} if self.bias is not False else {"bias": False}
        return {"units": self.units, "weight": self._weight_name, **bias}

    def __repr__(self) -> str:
        return f"Dense({self.units})"

    def outputs(self, inputs: int) -> int:
        return self.units

    def shapes(self, inputs: int) -> dict[str, tuple[int, ...]]:
        weight: dict[str, tuple[int, ...]] = {"weight": (inputs, self.units)}
        return weight if self.bias is False else {**weight, "bias": (self.units,)}

    def initialize(self, inputs: int, rng: np.random.RandomState) -> dict[str, np.ndarray]:
        weight = self.weight(rng, inputs, self.units) if callable(self.weight) else self.weight
        given = {"weight": weight, "bias": np.zeros(self.units) if self.bias is None else self.bias}
        parameters = {}
        for name, shape in self.shapes(inputs).items():
            array = np.array(to_numpy(given[name]), dtype=np.float64)
            if array.shape != shape:
                raise ArgumentError(
                    f"{name} of {self!r} must have shape {shape}, got {array.shape}"
                )
            if not np.isfinite(array).all():
                raise ArgumentError(f"{name} of {self!r} must be finite, got NaN or infinity")
            parameters[name] = array
        return parameters

    def forward(
        self, parameters: Mapping[str, Array], x: Array, *, xp: Any
    ) -> tuple[Array, Pullback]:
        weight, bias = parameters["weight"], parameters.get("bias")
        y = x @ weight if bias is None else x @ weight + bias

        def pullback(dy: Array, input_gradient: bool = True) -> tuple[Array | None, Gradients]:
            gradients = {"weight": xp.matrix_transpose(x) @ dy}
            if bias is not None:
                gradients["bias"] = xp.sum(dy, axis=0)
            return dy @ xp.matrix_transpose(weight) if input_gradient else None, gradients

        return y, pullback


class Activation(Layer):
    """Elementwise activation by its registered name.

    Parameters
    ----------
    name
        One of `xpnn.activations.ACTIVATIONS`.
    **parameters
        The activation's own, such as ``n=6`` of h_swish.
    """

    def __init__(self, name: str, **parameters: Any) -> None:
        self.name = name
        self.function = activations.bind(name, **parameters)
        # as checked: plain numbers, that a file can hold
        self.parameters = self.function.keywords

    @property
    def kind(self) -> str:
        return self.name

    def config(self) -> dict[str, Any]:
        return {"name": self.name, **self.parameters}

    def __repr__(self) -> str:
        given = "".join(
            f", {key}={repr(value).removesuffix('.0')}" for key, value in self.parameters.items()
        )
        return f"Activation({self.name!r}{given})"

    def forward(
        self, parameters: Mapping[str, Array], x: Array, *, xp: Any
    ) -> tuple[Array, Pullback]:
        z, pullback = self.function(x, xp=xp)

        def layer_pullback(
            dy: Array, input_gradient: bool = True
        ) -> tuple[Array | None, Gradients]:
            return pullback(dy) if input_gradient else None, {}

        return z, layer_pullback


for _layer in (Dense, Activation):
    LAYERS.add(_layer.__name__, _layer)
