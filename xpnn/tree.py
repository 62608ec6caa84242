"""Parameters, gradients and optimizer slots: a list with one ``{name: array}`` per layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Array = Any
Tree = list[dict[str, Array]]


def tree_map(function: Callable[..., Array], *trees: Tree) -> Tree:
    """Return the tree of ``function(a, b, …)`` over the arrays of `trees` in the same place."""
    return [
        {name: function(*(layer[name] for layer in layers)) for name in layers[0]}
        for layers in zip(*trees, strict=True)
    ]


def unzip(tree: Tree, count: int) -> tuple[Tree, ...]:
    """Turn a tree of `count`-tuples into `count` trees."""
    return tuple(tree_map(lambda leaf, k=k: leaf[k], tree) for k in range(count))


def flatten(tree: Tree) -> dict[str, Array]:
    """Return the arrays of `tree` by layer and name: ``"0.weight"``, ``"0.bias"``."""
    return {f"{i}.{name}": leaf for i, layer in enumerate(tree) for name, leaf in layer.items()}
