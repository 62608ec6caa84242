"""Functions that both activations and losses are made of."""

from __future__ import annotations

from typing import Any

Array = Any


def sigmoid(u: Array, xp: Any) -> Array:
    """Return ``1 / (1 + exp(-u))``, the library's own if it has one."""
    own = getattr(xp, "sigmoid", None)
    if own is not None:
        return own(u)
    e = xp.exp(-xp.abs(u))
    # e <= 1: its maximum with a truth value is 1 for u >= 0, else e
    return xp.maximum(e, xp.astype(u >= 0, e.dtype)) / (1.0 + e)


def clip(u: Array, low: float, high: float, xp: Any) -> Array:
    """Return ``min(max(u, low), high)``.

    Where array-api-compat builds it, `xp.clip` takes a dozen operations and a synchronisation.
    """
    return xp.minimum(xp.maximum(u, low), high)


def softmax(u: Array, xp: Any) -> Array:
    """Return ``exp(u) / sum(exp(u))`` along the last axis."""
    e = xp.exp(u - xp.max(u, axis=-1, keepdims=True))
    return e / xp.sum(e, axis=-1, keepdims=True)
