"""Layers: ``forward(parameters, x, xp=xp)`` returns the output and the pullback of its gradient.

A layer that computes something else in training overrides `train`: it may keep buffers, which are
arrays that training changes without a gradient, and use random numbers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np

from xpnn import activations
from xpnn._core import random_bits
from xpnn._core.parts import Part
from xpnn._core.registry import Registry
from xpnn.backends import to_numpy
from xpnn.errors import ArgumentError, fraction, integer, positive
from xpnn.initializers import INITIALIZERS, Initializer

__all__ = [
    "GIVEN",
    "LAYERS",
    "Activation",
    "Arrays",
    "BatchNorm",
    "Dense",
    "Dropout",
    "Gradients",
    "Layer",
    "Pullback",
    "register",
]

Array = Any
Arrays = dict[str, Array]
Gradients = Arrays
Pullback = Callable[..., tuple[Array | None, Gradients]]

# stands in a config for an array or a function, which no config holds
GIVEN = "<given>"

LAYERS: Registry[type[Layer]] = Registry("layer", lambda: Layer)
register = LAYERS.register


class Layer(Part, ABC):
    """Base class of layers. A layer holds only settings; its arrays are arguments."""

    @property
    @abstractmethod
    def kind(self) -> str:
        """What a summary calls the layer."""

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self.config().items())
        return f"{type(self).__name__}({given})"

    def outputs(self, inputs: int) -> int:
        """Return the number of outputs for this number of inputs."""
        return inputs

    def shapes(self, inputs: int) -> dict[str, tuple[int, ...]]:
        """Return the shape of each parameter for this number of inputs."""
        return {}

    def initialize(self, inputs: int, rng: np.random.RandomState) -> dict[str, np.ndarray]:
        """Return the initial parameters as float64 arrays on the host."""
        return {}

    @property
    def draws(self) -> bool:
        """Whether `train` needs random numbers."""
        return False

    def buffers(self, inputs: int) -> dict[str, np.ndarray]:
        """Return the initial buffers as float64 arrays on the host."""
        return {}

    @abstractmethod
    def forward(self, parameters: Arrays, x: Array, *, xp: Any) -> tuple[Array, Pullback]:
        """Return the output of the trained layer and its pullback.

        Parameters
        ----------
        parameters
            The layer's arrays by name, parameters and buffers.
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
            loss with respect to `x` and to each parameter, from that with respect to `y`. Without
            `input_gradient`, dx is None and isn't computed.
        """

    def train(
        self, parameters: Arrays, buffers: Arrays, x: Array, key: Array | None, *, xp: Any
    ) -> tuple[Array, Pullback, Arrays]:
        """Return the output in training, its pullback, and the buffers after the step.

        Parameters
        ----------
        parameters, buffers
            The layer's arrays by name. Not mutated.
        x
            Shape (n, inputs). Not mutated.
        key
            The key of the step's random numbers (see `xpnn._core.random_bits`), None if the layer
            doesn't draw any.
        xp
            The array API namespace to compute with.
        """
        y, pullback = self.forward({**parameters, **buffers}, x, xp=xp)
        return y, pullback, buffers


def _without_parameters(function: activations.Pullback) -> Pullback:
    """Return the pullback of a layer without parameters, from a function of dy that returns dx."""

    def pullback(dy: Array, input_gradient: bool = True) -> tuple[Array | None, Gradients]:
        return function(dy) if input_gradient else None, {}

    return pullback


class Dense(Layer):
    """Fully connected layer: ``y = x W + b``.

    Parameters
    ----------
    units
        The number of outputs.
    weight
        The initial W, shape (inputs, units): an initializer's name ("he_normal", "he_uniform",
        "glorot_normal", "glorot_uniform", "zeros"), a function of (RandomState, inputs, units), or
        an array. A file holds the name, but no array or function.
    bias
        The initial b, an array of shape (units,); no bias if False. If None, an initializer that
        returns a pair (weights, biases) draws it; otherwise it is 0.
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
        self.weight, self._weight_name = weight, GIVEN
        if isinstance(weight, str) and weight != GIVEN:
            self.weight, self._weight_name = INITIALIZERS[weight], weight
        self.bias = bias

    def config(self) -> dict[str, Any]:
        config = {"units": self.units, "weight": self._weight_name}
        if self.bias is not None:
            config["bias"] = False if self.bias is False else GIVEN
        return config

    def __repr__(self) -> str:
        return f"Dense({self.units})"

    def outputs(self, inputs: int) -> int:
        return self.units

    def shapes(self, inputs: int) -> dict[str, tuple[int, ...]]:
        weight: dict[str, tuple[int, ...]] = {"weight": (inputs, self.units)}
        return weight if self.bias is False else {**weight, "bias": (self.units,)}

    def initialize(self, inputs: int, rng: np.random.RandomState) -> dict[str, np.ndarray]:
        weight = self.weight(rng, inputs, self.units) if callable(self.weight) else self.weight
        weight, bias = weight if isinstance(weight, tuple) else (weight, np.zeros(self.units))
        given = {"weight": weight, "bias": bias if self.bias is None else self.bias}
        parameters = {}
        for name, shape in self.shapes(inputs).items():
            if isinstance(given[name], str):
                raise ArgumentError(
                    f"{name} of {self!r} was an array or a function, which its file doesn't hold; "
                    "make a new layer to draw other parameters"
                )
            array = np.array(to_numpy(given[name]), dtype=np.float64)
            if array.shape != shape:
                raise ArgumentError(
                    f"{name} of {self!r} must have shape {shape}, got {array.shape}"
                )
            if not np.isfinite(array).all():
                raise ArgumentError(f"{name} of {self!r} must be finite, got NaN or infinity")
            parameters[name] = array
        return parameters

    def forward(self, parameters: Arrays, x: Array, *, xp: Any) -> tuple[Array, Pullback]:
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
        Those of the activation, such as ``n=6`` of h_swish.
    """

    def __init__(self, name: str, /, **parameters: Any) -> None:
        self.name = name
        self.function = activations.bind(name, **parameters)
        # as checked: plain numbers, which a file can hold
        self.parameters = self.function.keywords

    @property
    def kind(self) -> str:
        return self.name

    def config(self) -> dict[str, Any]:
        return {"name": self.name, "parameters": self.parameters}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Activation:
        return cls(config["name"], **config["parameters"])

    def __repr__(self) -> str:
        given = "".join(
            f", {key}={repr(value).removesuffix('.0')}" for key, value in self.parameters.items()
        )
        return f"Activation({self.name!r}{given})"

    def forward(self, parameters: Arrays, x: Array, *, xp: Any) -> tuple[Array, Pullback]:
        z, pullback = self.function(x, xp=xp)
        return z, _without_parameters(pullback)


class Dropout(Layer):
    """Dropout (Srivastava et al. 2014), inverted: a trained network leaves all units as they are.

    In training, each unit of each sample becomes 0 with the probability p, and is otherwise
    multiplied by ``1 / (1 - p)``. The masks are a function of seed, layer, epoch and mini-batch,
    the same on every backend and in both dtypes.

    Parameters
    ----------
    p
        The probability, >= 0 and < 1, rounded to a multiple of 2^-16.
    """

    kind = "dropout"

    def __init__(self, p: float = 0.5) -> None:
        self.p = fraction("p", p)
        self._dropped = min(round(self.p * random_bits.UNIFORM), random_bits.UNIFORM - 1)

    def __repr__(self) -> str:
        return f"Dropout({self.p})"

    @property
    def draws(self) -> bool:
        return self._dropped > 0

    def forward(self, parameters: Arrays, x: Array, *, xp: Any) -> tuple[Array, Pullback]:
        return x, _without_parameters(lambda dy: dy)

    def train(
        self, parameters: Arrays, buffers: Arrays, x: Array, key: Array | None, *, xp: Any
    ) -> tuple[Array, Pullback, Arrays]:
        if key is None:
            return super().train(parameters, buffers, x, key, xp=xp)
        n, units = x.shape
        kept = random_bits.uniform(key, n * units, xp=xp) >= self._dropped
        scale = random_bits.UNIFORM / (random_bits.UNIFORM - self._dropped)
        mask = xp.astype(xp.reshape(kept, (n, units)), x.dtype) * scale
        return x * mask, _without_parameters(lambda dy: dy * mask), buffers


class BatchNorm(Layer):
    """Batch normalization (Ioffe and Szegedy 2015): ``scale (x - mean) / sqrt(var + eps) + bias``.

    In training, mean and variance are those of the mini-batch, the variance with the divisor n. A
    trained network uses running ones, ``running = (1 - momentum) running + momentum batch``, whose
    variance has the divisor n - 1. This is PyTorch's BatchNorm1d, except that a mini-batch of one
    sample, which has no variance, is normalized by the running ones and leaves them as they are.

    Parameters
    ----------
    momentum
        The mini-batch's share of the running mean and variance, >= 0 and < 1.
    eps
        Keeps the divisor from 0, > 0.
    """

    kind = "batch_norm"

    def __init__(self, momentum: float = 0.1, eps: float = 1e-5) -> None:
        self.momentum, self.eps = fraction("momentum", momentum), positive("eps", eps)

    def shapes(self, inputs: int) -> dict[str, tuple[int, ...]]:
        return {"scale": (inputs,), "bias": (inputs,)}

    def initialize(self, inputs: int, rng: np.random.RandomState) -> dict[str, np.ndarray]:
        return {"scale": np.ones(inputs), "bias": np.zeros(inputs)}

    def buffers(self, inputs: int) -> dict[str, np.ndarray]:
        return {"running_mean": np.zeros(inputs), "running_var": np.ones(inputs)}

    def forward(self, parameters: Arrays, x: Array, *, xp: Any) -> tuple[Array, Pullback]:
        inverse = 1.0 / xp.sqrt(parameters["running_var"] + self.eps)
        return _scaled(parameters, (x - parameters["running_mean"]) * inverse, inverse, xp=xp)

    def train(
        self, parameters: Arrays, buffers: Arrays, x: Array, key: Array | None, *, xp: Any
    ) -> tuple[Array, Pullback, Arrays]:
        n = x.shape[0]
        if n < 2:
            return super().train(parameters, buffers, x, key, xp=xp)
        mean = xp.mean(x, axis=0)
        centred = x - mean
        squares = xp.sum(centred * centred, axis=0)
        inverse = 1.0 / xp.sqrt(squares / n + self.eps)
        y, pullback = _scaled(parameters, centred * inverse, inverse, xp=xp, batch=n)
        batch = {"running_mean": mean, "running_var": squares / (n - 1)}
        moved = {
            name: (1.0 - self.momentum) * running + self.momentum * batch[name]
            for name, running in buffers.items()
        }
        return y, pullback, moved


def _scaled(
    parameters: Arrays, normalized: Array, inverse: Array, *, xp: Any, batch: int | None = None
) -> tuple[Array, Pullback]:
    """Return ``scale normalized + bias``, and its pullback to the layer's input.

    With `batch`, mean and variance are functions of a mini-batch of this size.
    """
    scale = parameters["scale"]

    def pullback(dy: Array, input_gradient: bool = True) -> tuple[Array | None, Gradients]:
        gradients = {"scale": xp.sum(dy * normalized, axis=0), "bias": xp.sum(dy, axis=0)}
        if not input_gradient:
            return None, gradients
        if batch is not None:
            dy = dy - gradients["bias"] / batch - normalized * (gradients["scale"] / batch)
        return dy * (scale * inverse), gradients

    return normalized * scale + parameters["bias"], pullback


for _layer in (Dense, Activation, Dropout, BatchNorm):
    LAYERS.add(_layer.__name__, _layer)
