"""Equal chains of elementwise operations, one for each parameter, as one chain on all of them.

An optimizer does the same with each parameter, and most of them are small: what that takes is the
time between the operations. Where a step ends with such chains, their arrays lie one after the
other in one block, and each operation is carried out once, on blocks. Each element goes through
the same arithmetic, hence the bits are the same.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np

from xpnn.recording.recorder import Node, Recording, Ref, copied, refs_in

Array = np.ndarray


class _Chain(NamedTuple):
    nodes: list[Node]
    arrays: list[int]  # that its elements go through, in order of appearance


def joined(recording: Recording, nodes: list[Node], kept: set[int]) -> list[Node]:
    """Return nodes that do the same, with equal chains at the end as one.

    Parameters
    ----------
    recording
        Which learns of the blocks.
    nodes
        Of the step.
    kept
        Arrays that must keep places of their own.
    """
    start = len(nodes)
    while start and _is_elementwise(recording, nodes[start - 1]):
        start -= 1
    head, tail = nodes[:start], nodes[start:]
    numbers = [node for node in tail if not recording.arrays[node.out].ndim]
    changed = [node for node in numbers if node.kind == "mutate"]
    if any(recording.root(node.out) in _read_after(recording, tail, node) for node in changed):
        return nodes
    groups: dict[Hashable, list[_Chain]] = {}
    for chain in _chains(recording, tail):
        groups.setdefault(_description(recording, head, kept, chain), []).append(chain)
    made: list[Node] = [node for node in numbers if node.kind != "mutate"]
    for description, chains in groups.items():
        if description is None or len(chains) == 1:
            made += [node for chain in chains for node in chain.nodes]
            continue
        blocks = {}
        for first, *others in zip(*(chain.arrays for chain in chains), strict=True):
            blocks[first] = recording.join([first, *others])
        made += [_on_blocks(node, blocks) for node in chains[0].nodes]
    parts = {key for keys in recording.parts.values() for key in keys}
    filled = [
        node._replace(kind="part") if node.kind == "call" and node.out in parts else node
        for node in head
    ]
    return [*filled, *made, *changed]


def _is_elementwise(recording: Recording, node: Node) -> bool:
    function, arrays = node.function, recording.arrays
    if node.kind not in ("call", "mutate") or node.kwargs:
        return False
    if function is not copied and not (isinstance(function, np.ufunc) and not function.signature):
        return False
    if any(isinstance(arg, (list, tuple)) and not isinstance(arg, Ref) for arg in node.args):
        return False
    shape = arrays[node.out].shape
    return all(
        not arrays[k].ndim
        or (
            arrays[k].shape == shape
            and recording.sources[k] != "view"
            and arrays[k].flags.c_contiguous
        )
        for k in (node.out, *refs_in(node))
    )


def _read_after(recording: Recording, nodes: Sequence[Node], node: Node) -> set[int]:
    place = next(i for i, other in enumerate(nodes) if other is node)
    return {recording.root(k) for later in nodes[place + 1 :] for k in refs_in(later)}


def _elements(recording: Recording, node: Node) -> list[int]:
    """Return the arrays of a node that have an axis, the one that it makes last."""
    return [k for k in (*refs_in(node), node.out) if recording.arrays[k].ndim]


def _chains(recording: Recording, nodes: Sequence[Node]) -> list[_Chain]:
    """Return the nodes on arrays as chains that have no array in common."""
    chains: list[_Chain] = []
    for node in nodes:
        keys = _elements(recording, node)
        if not keys:
            continue
        meeting = [chain for chain in chains if set(keys) & set(chain.arrays)]
        arrays = [key for chain in meeting for key in chain.arrays]
        whole = _Chain(
            [*(n for chain in meeting for n in chain.nodes), node],
            list(dict.fromkeys([*arrays, *keys])),
        )
        chains = [chain for chain in chains if chain not in meeting]
        chains.append(whole)
    return chains


def _description(
    recording: Recording, head: Sequence[Node], kept: set[int], chain: _Chain
) -> Hashable:
    """Return what is equal for chains that can be one; None for one that must stay by itself."""
    makers = {node.out: node for node in head if node.kind == "call"}
    inside = {node.out for node in chain.nodes if node.kind == "call"}
    described: list[Hashable] = []
    for key in chain.arrays:
        source = recording.sources[key]
        role = "inside" if key in inside else source
        if role == "constant" or key in kept or (role == "call" and key not in makers):
            return None
        described.append((role, str(recording.arrays[key].dtype)))
    places = {key: place for place, key in enumerate(chain.arrays)}
    for node in chain.nodes:
        args = [
            ("element", places[arg.key])
            if isinstance(arg, Ref) and arg.key in places
            else (type(arg), repr(arg))
            for arg in node.args
        ]
        described.append((node.kind, node.function, tuple(args), places[node.out]))
    return tuple(described)


def _on_blocks(node: Node, blocks: dict[int, int]) -> Node:
    args = tuple(
        Ref(blocks.get(arg.key, arg.key)) if isinstance(arg, Ref) else arg for arg in node.args
    )
    return node._replace(args=args, out=blocks[node.out])
