"""Optimizers: pairs of pure functions, `init` and `update`, over a named state.

`update` owns the parameters and the state that it is given: it may change them in place, and
returns what takes their place. Gradients aren't changed. Weight decay is L2: ``g + weight_decay *
w`` for every parameter, as in PyTorch, except in `AdamW`.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from xpnn._core.parts import Part
from xpnn._core.registry import Registry
from xpnn._core.tree import Tree, tree_map, unzip
from xpnn.backends import namespace
from xpnn.errors import fraction, nonnegative, positive

__all__ = [
    "OPTIMIZERS",
    "SGD",
    "AdaGrad",
    "Adam",
    "AdamW",
    "Momentum",
    "Nesterov",
    "Optimizer",
    "RMSprop",
    "State",
    "clipped",
    "register",
]

Array = Any
State = dict[str, Any]

OPTIMIZERS: Registry[type[Optimizer]] = Registry(
    "optimizer", lambda: Optimizer, lambda optimizer: optimizer.__name__.lower()
)
register = OPTIMIZERS.register


@dataclass(frozen=True)
class Optimizer(Part, ABC):
    """Base class of optimizers; a subclass names its `slots` and implements `rule`."""

    slots: ClassVar[tuple[str, ...]] = ()

    def init(self, parameters: Tree, *, xp: Any = None) -> State:
        """Return the state before the first step: a tree of zeros per slot."""
        xp = _namespace(parameters) if xp is None else xp
        return {name: tree_map(xp.zeros_like, parameters) for name in self.slots}

    def update(
        self, parameters: Tree, gradients: Tree, state: State, *, xp: Any = None
    ) -> tuple[Tree, State]:
        """Return the parameters and the state after one step.

        Parameters
        ----------
        parameters, state
            Taken over: may be changed in place.
        gradients
            In the structure of `parameters`. Not mutated.
        xp
            The namespace to compute with; inferred from `parameters` if None.
        """
        xp = _namespace(parameters) if xp is None else xp
        shared, state = self.advance(state)

        def rule(w: Array, g: Array, *slots: Array) -> tuple[Array, ...]:
            return self.rule(w, self.decayed(w, g), *slots, *shared, xp=xp)

        stepped = tree_map(rule, parameters, gradients, *(state[name] for name in self.slots))
        parameters, *slots = unzip(stepped, 1 + len(self.slots))
        return parameters, {**state, **dict(zip(self.slots, slots, strict=True))}

    def at(self, lr: Any) -> Optimizer:
        """Return the same optimizer with another learning rate, which may be a 0-d array."""
        # not dataclasses.replace, whose check would look at the array's value
        changed = copy.copy(self)
        object.__setattr__(changed, "lr", lr)
        return changed

    def advance(self, state: State) -> tuple[tuple[Array, ...], State]:
        """Return what a step's rule shares between all parameters, and the state with it."""
        return (), state

    def decayed(self, w: Array, g: Array) -> Array:
        """Return the gradient of the loss with L2 weight decay."""
        weight_decay: float = getattr(self, "weight_decay", 0.0)
        return g + weight_decay * w if weight_decay else g

    @abstractmethod
    def rule(self, w: Array, g: Array, *slots: Array, xp: Any) -> tuple[Array, ...]:
        """Return one parameter and its slots after a step, given its gradient."""

    def _check(self, **checks: Any) -> None:
        for name, check in checks.items():
            object.__setattr__(self, name, check(name, getattr(self, name)))


def _namespace(parameters: Tree) -> Any:
    return namespace(*(leaf for layer in parameters for leaf in layer.values()))


def clipped(gradients: Tree, clip_norm: float, *, xp: Any) -> Tree:
    """Return the gradients times ``clip_norm / max(norm, clip_norm)`` (Pascanu et al. 2013).

    The norm is that of all of them together, as one vector; where it is `clip_norm` or less, they
    stay what they are. PyTorch's `clip_grad_norm_` adds 1e-6 to the norm.
    """
    squares = [xp.sum(g * g) for layer in gradients for g in layer.values()]
    norm = xp.sqrt(sum(squares[1:], squares[0]))
    factor = clip_norm / xp.maximum(norm, clip_norm)
    return tree_map(lambda g: g * factor, gradients)


@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent: ``w - lr g`` (Robbins and Monro 1951).

    Parameters
    ----------
    lr
        Learning rate, > 0.
    weight_decay
        L2 weight decay, >= 0; 0 for no decay.
    """

    lr: float = 0.1
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        self._check(lr=positive, weight_decay=nonnegative)

    def rule(self, w: Array, g: Array, *slots: Array, xp: Any) -> tuple[Array, ...]:
        w -= self.lr * g
        return (w,)


@dataclass(frozen=True)
class Momentum(Optimizer):
    """Momentum: ``v = mu v - lr g``, ``w + v`` (Polyak 1964).

    PyTorch's SGD with momentum keeps ``-v / lr``: the same steps as long as lr doesn't change.

    Parameters
    ----------
    lr
        Learning rate, > 0.
    mu
        Momentum: the part of the velocity that is kept, >= 0 and < 1.
    weight_decay
        L2 weight decay, >= 0; 0 for no decay.
    """

    lr: float = 0.01
    mu: float = 0.9
    weight_decay: float = 0.0

    slots: ClassVar[tuple[str, ...]] = ("velocity",)

    def __post_init__(self) -> None:
        self._check(lr=positive, mu=fraction, weight_decay=nonnegative)

    def rule(self, w: Array, g: Array, *slots: Array, xp: Any) -> tuple[Array, ...]:
        (v,) = slots
        v *= self.mu
        v -= self.lr * g
        w += v
        return w, v


@dataclass(frozen=True)
class Nesterov(Optimizer):
    """Nesterov's accelerated gradient without the look-ahead step (Nesterov 1983; Bengio 2013).

    ``v' = mu v - lr g``, ``w - mu v + mu v' + v'``: `w` stands for the point looked ahead to, where
    the gradient is taken. PyTorch's ``nesterov=True`` takes the same steps.

    Parameters
    ----------
    lr
        Learning rate, > 0.
    mu
        Momentum: the part of the velocity that is kept, >= 0 and < 1.
    weight_decay
        L2 weight decay, >= 0; 0 for no decay.
    """

    lr: float = 0.01
    mu: float = 0.9
    weight_decay: float = 0.0

    slots: ClassVar[tuple[str, ...]] = ("velocity",)

    def __post_init__(self) -> None:
        self._check(lr=positive, mu=fraction, weight_decay=nonnegative)

    def rule(self, w: Array, g: Array, *slots: Array, xp: Any) -> tuple[Array, ...]:
        (v,) = slots
        v *= self.mu
        w -= v
        v -= self.lr * g
        w += self.mu * v
        w += v
        return w, v


@dataclass(frozen=True)
class AdaGrad(Optimizer):
    """AdaGrad: ``s + g²``, ``w - lr g / (sqrt(s) + eps)`` (Duchi, Hazan and Singer 2011).

    Parameters
    ----------
    lr
        Learning rate, > 0.
    eps
        Keeps the divisor from 0, > 0.
    weight_decay
        L2 weight decay, >= 0; 0 for no decay.
    """

    lr: float = 0.01
    eps: float = 1e-10
    weight_decay: float = 0.0

    slots: ClassVar[tuple[str, ...]] = ("sum_of_squares",)

    def __post_init__(self) -> None:
        self._check(lr=positive, eps=positive, weight_decay=nonnegative)

    def rule(self, w: Array, g: Array, *slots: Array, xp: Any) -> tuple[Array, ...]:
        (s,) = slots
        s += g * g
        w -= self.lr * g / (xp.sqrt(s) + self.eps)
        return w, s


@dataclass(frozen=True)
class RMSprop(Optimizer):
    """RMSprop: ``s = rho s + (1 - rho) g²``, ``w - lr g / (sqrt(s) + eps)`` (Hinton 2012).

    `rho` is PyTorch's ``alpha``.

    Parameters
    ----------
    lr
        Learning rate, > 0.
    rho
        The part of the mean of squares that is kept, >= 0 and < 1.
    eps
        Keeps the divisor from 0, > 0.
    weight_decay
        L2 weight decay, >= 0; 0 for no decay.
    """

    lr: float = 0.01
    rho: float = 0.99
    eps: float = 1e-8
    weight_decay: float = 0.0

    slots: ClassVar[tuple[str, ...]] = ("mean_of_squares",)

    def __post_init__(self) -> None:
        self._check(lr=positive, rho=fraction, eps=positive, weight_decay=nonnegative)

    def rule(self, w: Array, g: Array, *slots: Array, xp: Any) -> tuple[Array, ...]:
        (s,) = slots
        s *= self.rho
        s += (1.0 - self.rho) * (g * g)
        w -= self.lr * g / (xp.sqrt(s) + self.eps)
        return w, s


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam (Kingma and Ba 2015), with L2 weight decay.

    ``m = beta1 m + (1 - beta1) g``, ``s = beta2 s + (1 - beta2) g²``, and after t steps
    ``w - lr m / (1 - beta1^t) / (sqrt(s / (1 - beta2^t)) + eps)``.

    Parameters
    ----------
    lr
        Learning rate, > 0.
    beta1, beta2
        The parts of the means of gradients and of squares that are kept, >= 0 and < 1.
    eps
        Keeps the divisor from 0, > 0.
    weight_decay
        L2 weight decay, >= 0; 0 for no decay.
    """

    lr: float = 0.001
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0

    slots: ClassVar[tuple[str, ...]] = ("mean", "mean_of_squares")

    def __post_init__(self) -> None:
        self._check(
            lr=positive, beta1=fraction, beta2=fraction, eps=positive, weight_decay=nonnegative
        )

    def init(self, parameters: Tree, *, xp: Any = None) -> State:
        xp = _namespace(parameters) if xp is None else xp
        some = next(leaf for layer in parameters for leaf in layer.values())
        zero = xp.zeros_like(xp.sum(some))
        return {**super().init(parameters, xp=xp), "correction1": zero, "correction2": zero}

    def advance(self, state: State) -> tuple[tuple[Array, ...], State]:
        # c = 1 - beta^t by c = beta c + (1 - beta): in float32, 1 - beta² from beta loses 4 digits
        c1 = self.beta1 * state["correction1"] + (1.0 - self.beta1)
        c2 = self.beta2 * state["correction2"] + (1.0 - self.beta2)
        return (c1, c2), {**state, "correction1": c1, "correction2": c2}

    def rule(self, w: Array, g: Array, *slots: Array, xp: Any) -> tuple[Array, ...]:
        m, s, c1, c2 = slots
        m *= self.beta1
        m += (1.0 - self.beta1) * g
        s *= self.beta2
        s += (1.0 - self.beta2) * (g * g)
        w -= self.lr / c1 * m / (xp.sqrt(s) / xp.sqrt(c2) + self.eps)
        return w, m, s


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam after decoupled weight decay ``w - lr weight_decay w`` (Loshchilov and Hutter 2019).

    Parameters
    ----------
    lr, beta1, beta2, eps
        As for `Adam`.
    weight_decay
        Decoupled, >= 0; 0 for no decay.
    """

    weight_decay: float = 0.01

    def decayed(self, w: Array, g: Array) -> Array:
        return g

    def rule(self, w: Array, g: Array, *slots: Array, xp: Any) -> tuple[Array, ...]:
        w *= 1.0 - self.lr * self.weight_decay
        return super().rule(w, g, *slots, xp=xp)


for _optimizer in (SGD, Momentum, Nesterov, AdaGrad, RMSprop, Adam, AdamW):
    OPTIMIZERS.add(_optimizer.__name__.lower(), _optimizer)
