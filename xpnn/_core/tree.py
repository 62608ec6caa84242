"""Parameters, gradients and optimizer slots: a list with one ``{name: array}`` per layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

Array = Any
Tree = list[dict[str, Array]]


def tree_map(function: Callable[..., Array], *trees: Tree) -> Tree:
    """Return the tree of ``function(a, b, …)`` of the arrays at the same position in `trees`."""
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


def paths(tree: Any, path: str = "") -> dict[str, Array]:
    """Return the arrays of any nest of lists, tuples and dictionaries by path: "0.2.weight"."""
    found: dict[str, Array] = {}

    def add(tree: Any, path: str) -> None:
        if not isinstance(tree, (dict, list, tuple)):
            found[path] = tree
            return
        for name, part in tree.items() if isinstance(tree, dict) else enumerate(tree):
            add(part, f"{path}.{name}" if path else str(name))

    add(tree, path)
    return found


def leaves(tree: Any) -> list[Array]:
    """Return the arrays of any nest, in the order of `paths`."""
    found: list[Array] = []

    def add(parts: Iterable[Any]) -> None:
        for part in parts:
            if isinstance(part, (dict, list, tuple)):
                add(part.values() if isinstance(part, dict) else part)
            else:
                found.append(part)

    add((tree,))
    return found


def rebuilt(tree: Any, arrays: Iterable[Array]) -> Any:
    """Return a nest of the same form that holds `arrays`, given in the order of `leaves`."""
    rest = iter(arrays)

    def build(part: Any) -> Any:
        if isinstance(part, dict):
            return {name: build(value) for name, value in part.items()}
        if isinstance(part, (list, tuple)):
            return type(part)(build(value) for value in part)
        return next(rest)

    return build(tree)


def structure(tree: Any) -> Any:
    """Return the form of a nest, without its arrays, to be compared: names and their order."""
    if isinstance(tree, dict):
        return tuple((name, structure(value)) for name, value in tree.items())
    if isinstance(tree, (list, tuple)):
        return (type(tree), *map(structure, tree))
    return None
