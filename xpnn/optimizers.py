"""Optimizers: pairs of pure functions, `init` and `update`, over a named state.

`update` may change the parameters and the state in place, and returns the new ones. It doesn't
change gradients. Weight decay is L2, ``g + weight_decay * w`` for every parameter as in PyTorch,
except in `AdamW`.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from xpnn._core.parts import Part, checked
from xpnn._core.registry import Registry
from xpnn._core.tree import Tree, leaves, tree_map, unzip
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
        """Return the state before the first step: a tree of zeros for each slot."""
        xp = namespace(*leaves(parameters)) if xp is None else xp
        return {name: tree_map(xp.zeros_like, parameters) for name in self.slots}

    def update(
        self, parameters: Tree, gradients: Tree, state: State, *, xp: Any = None
    ) -> tuple[Tree, State]:
        """Return the parameters and the state after one step.

        Parameters
        ----------
        parameters, state
            May be changed in place.
        gradients
            Of the same form as `parameters`. Not mutated.
        xp
            The namespace to compute with; inferred from `parameters` if None.
        """
        xp = namespace(*leaves(parameters)) if xp is None else xp
        shared, state = self.advance(state)

        def rule(w: Array, g: Array, *slots: Array) -> tuple[Array, ...]:
            return self.rule(w, self.decayed(w, g), *slots, *shared, xp=xp)

        stepped = tree_map(rule, parameters, gradients, *(state[name] for name in self.slots))
        parameters, *slots = unzip(stepped, 1 + len(self.slots))
        return parameters, {**state, **dict(zip(self.slots, slots, strict=True))}

    def at(self, lr: Any) -> Optimizer:
        """Return the same optimizer with another learning rate, which may be a 0-d array."""
        # not dataclasses.replace, which would check the array's value
        changed = copy.copy(self)
        object.__setattr__(changed, "lr", lr)
        return changed

    def advance(self, state: State) -> tuple[tuple[Array, ...], State]:
        """Return what `rule` needs for every parameter, and the state after the step."""
        return (), state

    def decayed(self, w: Array, g: Array) -> Array:
        """Return the gradient with L2 weight decay."""
        weight_decay: float = getattr(self, "weight_decay", 0.0)
        return g + weight_decay * w if weight_decay else g

    @abstractmethod
    def rule(self, w: Array, g: Array, *slots: Array, xp: Any) -> tuple[Array, ...]:
        """Return one parameter and its slots after a step, given its gradient."""


def clipped(gradients: Tree, clip_norm: float, *, xp: Any) -> Tree:
    """Return the gradients times ``clip_norm / max(norm, clip_norm)`` (Pascanu et al. 2013).

    The norm is that of all gradients as one vector. PyTorch's `clip_grad_norm_` adds 1e-6 to it.
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

    lr: float = checked(0.1, positive)
    weight_decay: float = checked(0.0, nonnegative)

    def rule(self, w: Array, g: Array, *slots: Array, xp: Any) -> tuple[Array, ...]:
        w -= self.lr * g
        return (w,)


@dataclass(frozen=True)
class Momentum(Optimizer):
    """Momentum: ``v = mu v - lr g``, ``w + v`` (Polyak 1964).

    PyTorch's SGD with momentum keeps ``-v / lr``: it takes the same steps while lr is constant.

    Parameters
    ----------
    lr
        Learning rate, > 0.
    mu
        Momentum: the part of the velocity that is kept, >= 0 and < 1.
    weight_decay
        L2 weight decay, >= 0; 0 for no decay.
    """

    lr: float = checked(0.01, positive)
    mu: float = checked(0.9, fraction)
    weight_decay: float = checked(0.0, nonnegative)

    slots: ClassVar[tuple[str, ...]] = ("velocity",)

    def rule(self, w: Array, g: Array, *slots: Array, xp: Any) -> tuple[Array, ...]:
        (v,) = slots
        v *= self.mu
        v -= self.lr * g
        w += v
        return w, v


@dataclass(frozen=True)
class Nesterov(Momentum):
    """Nesterov's accelerated gradient without the look-ahead step (Nesterov 1983; Bengio 2013).

    ``v' = mu v - lr g``, ``w - mu v + mu v' + v'``: `w` is the point after the look-ahead, where
    the gradient is taken. PyTorch's ``nesterov=True`` takes the same steps.

    Parameters
    ----------
    lr, mu, weight_decay
        As for `Momentum`.
    """

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

    lr: float = checked(0.01, positive)
    eps: float = checked(1e-10, positive)
    weight_decay: float = checked(0.0, nonnegative)

    slots: ClassVar[tuple[str, ...]] = ("sum_of_squares",)

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

    lr: float = checked(0.01, positive)
    rho: float = checked(0.99, fraction)
    eps: float = checked(1e-8, positive)
    weight_decay: float = checked(0.0, nonnegative)

    slots: ClassVar[tuple[str, ...]] = ("mean_of_squares",)

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
    beta1
        The part of the mean of gradients that is kept, >= 0 and < 1.
    beta2
        The part of the mean of squares that is kept, >= 0 and < 1.
    eps
        Keeps the divisor from 0, > 0.
    weight_decay
        L2 weight decay, >= 0; 0 for no decay.
    """

    lr: float = checked(0.001, positive)
    beta1: float = checked(0.9, fraction)
    beta2: float = checked(0.999, fraction)
    eps: float = checked(1e-8, positive)
    weight_decay: float = checked(0.0, nonnegative)

    slots: ClassVar[tuple[str, ...]] = ("mean", "mean_of_squares")

    def init(self, parameters: Tree, *, xp: Any = None) -> State:
        xp = namespace(*leaves(parameters)) if xp is None else xp
        some = leaves(parameters)[0]
        zero = xp.zeros_like(xp.sum(some))
        return {**super().init(parameters, xp=xp), "correction1": zero, "correction2": zero}

    def advance(self, state: State) -> tuple[tuple[Array, ...], State]:
        # not 1 - beta^t, which loses 4 digits in float32: c = beta c + (1 - beta) is equal to it
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

    weight_decay: float = checked(0.01, nonnegative)

    def decayed(self, w: Array, g: Array) -> Array:
        return g

    def rule(self, w: Array, g: Array, *slots: Array, xp: Any) -> tuple[Array, ...]:
        w *= 1.0 - self.lr * self.weight_decay
        return super().rule(w, g, *slots, xp=xp)


for _optimizer in (SGD, Momentum, Nesterov, AdaGrad, RMSprop, Adam, AdamW):
    OPTIMIZERS.add(_optimizer.__name__.lower(), _optimizer)
