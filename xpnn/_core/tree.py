"""Parameters, gradients and optimizer slots: a list with one ``{name: array}`` per layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
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


def leaves(tree: Any) -> list[Array]:
    """Return the arrays of any nest of lists, tuples and dictionaries, in order."""
    return list(_leaves(tree))


def _leaves(tree: Any) -> Iterator[Array]:
    if isinstance(tree, dict):
        tree = tree.values()
    elif not isinstance(tree, (list, tuple)):
        yield tree
        return
    for part in tree:
        yield from _leaves(part)


def paths(tree: Any) -> dict[str, Array]:
    """Return the arrays of any nest by where they are, such as "0.2.weight", as `leaves` does."""
    return dict(_paths(tree, ""))


def _paths(tree: Any, path: str) -> Iterator[tuple[str, Array]]:
    if isinstance(tree, dict):
        parts = list(tree.items())
    elif isinstance(tree, (list, tuple)):
        parts = list(enumerate(tree))
    else:
        yield path, tree
        return
    for name, part in parts:
        yield from _paths(part, f"{path}.{name}" if path else str(name))


def rebuilt(tree: Any, arrays: Iterable[Array]) -> Any:
    """Return the same nest with `arrays` for its own, in the order of `leaves`."""
    rest = iter(arrays)

    def build(part: Any) -> Any:
        if isinstance(part, dict):
            return {name: build(value) for name, value in part.items()}
        if isinstance(part, (list, tuple)):
            return type(part)(build(value) for value in part)
        return next(rest)

    return build(tree)


def structure(tree: Any) -> Any:
    """Return the same nest without its arrays, to be compared: names and their order count."""
    if isinstance(tree, dict):
        return tuple((name, structure(value)) for name, value in tree.items())
    if isinstance(tree, (list, tuple)):
        return (type(tree), *map(structure, tree))
    return None
