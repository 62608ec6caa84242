"""Equal chains of elementwise operations, one for each parameter, as one chain on all of them.

An optimizer does the same with each parameter, and most of them are small: what that takes is the
time between the operations. Where a step ends with such chains, their arrays lie one after the
other in one block, and each operation is carried out once, on blocks. Each element goes through
the same arithmetic, hence the bits are the same, but for the sign of a NaN.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np

from xpnn.recording.nodes import Node, Ref, copied, refs_in, told
from xpnn.recording.recorder import Recording

# of zeros of either sign, which they return depends on the place in the array
_BY_PLACE = (np.fmax, np.fmin)


class _Chain(NamedTuple):
    nodes: list[Node]
    arrays: list[int]  # that its elements go through, in order of appearance


def joined(
    recording: Recording, nodes: list[Node], carried: set[int], kept: set[int]
) -> list[Node]:
    """Return nodes that do the same, with equal chains at the end as one.

    Parameters
    ----------
    recording
        Which learns of the blocks.
    nodes
        Of the step.
    carried
        Arrays that the step is given and may be handed in another place, see `Program.carry`.
    kept
        Arrays that must keep places of their own.
    """
    start = len(nodes)
    while start and _is_elementwise(recording, nodes[start - 1]):
        start -= 1
    head, tail = nodes[:start], nodes[start:]
    makers = {node.out for node in head if node.kind == "call"}
    groups: dict[Hashable, list[_Chain]] = {}
    for chain in _chains(recording, tail):
        if _is_movable(recording, chain, carried, makers, kept):
            groups.setdefault(_description(recording, chain), []).append(chain)
    equal = [chains for chains in groups.values() if len(chains) > 1]
    numbers = [node for node in tail if not recording.arrays[node.out].ndim]
    changed = [node for node in numbers if node.kind == "mutate"]
    if not equal or any(_is_read_after(recording, tail, node) for node in changed):
        return nodes
    # numbers are made of numbers alone, so they can come first; nothing reads what changes one
    before = [node for node in numbers if node.kind != "mutate"]
    one, done = [], {id(node) for node in numbers}
    for chains in equal:
        blocks = {}
        for first, *others in zip(*(chain.arrays for chain in chains), strict=True):
            blocks[first] = recording.join([first, *others])
        one += [_on_blocks(node, blocks) for node in chains[0].nodes]
        done |= {id(node) for chain in chains for node in chain.nodes}
    alone = [node for node in tail if id(node) not in done]
    parts = {key for keys in recording.parts.values() for key in keys}
    filled = [
        node._replace(kind="part") if node.kind == "call" and node.out in parts else node
        for node in head
    ]
    return [*filled, *before, *alone, *one, *changed]


def _is_elementwise(recording: Recording, node: Node) -> bool:
    function, arrays = node.function, recording.arrays
    if node.kind not in ("call", "mutate") or node.kwargs:
        return False
    ufunc = isinstance(function, np.ufunc) and not function.signature
    if function in _BY_PLACE or not (ufunc or function is copied):
        return False
    if any(isinstance(arg, (list, tuple)) and not isinstance(arg, Ref) for arg in node.args):
        return False
    shape = arrays[node.out].shape
    # a view's memory may be changed under another name
    return all(
        recording.sources[k] != "view"
        and (not arrays[k].ndim or (arrays[k].shape == shape and arrays[k].flags.c_contiguous))
        for k in (node.out, *refs_in(node))
    )


def _is_read_after(recording: Recording, nodes: Sequence[Node], node: Node) -> bool:
    place = next(i for i, other in enumerate(nodes) if other is node)
    reads = {recording.root(k) for later in nodes[place + 1 :] for k in refs_in(later)}
    return recording.root(node.out) in reads


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


def _is_movable(
    recording: Recording, chain: _Chain, carried: set[int], makers: set[int], kept: set[int]
) -> bool:
    """Return whether each array of a chain may lie in a block: one carried, or made by a call."""
    made = makers | {node.out for node in chain.nodes if node.kind == "call"}
    return all(key in carried | made and key not in kept for key in chain.arrays)


def _description(recording: Recording, chain: _Chain) -> Hashable:
    """Return what is equal for chains that can be one."""
    places = {key: place for place, key in enumerate(chain.arrays)}
    inside = {node.out for node in chain.nodes if node.kind == "call"}
    arrays = tuple(
        (key in inside, recording.sources[key], str(recording.arrays[key].dtype))
        for key in chain.arrays
    )
    operations = tuple(
        (
            *(node.kind, node.function, places[node.out]),
            *(("element", places[a.key]) if _is_in(a, places) else told(a) for a in node.args),
        )
        for node in chain.nodes
    )
    return arrays, operations


def _is_in(arg: object, places: dict[int, int]) -> bool:
    return isinstance(arg, Ref) and arg.key in places


def _on_blocks(node: Node, blocks: dict[int, int]) -> Node:
    args = tuple(
        Ref(blocks.get(arg.key, arg.key)) if isinstance(arg, Ref) else arg for arg in node.args
    )
    return node._replace(args=args, out=blocks[node.out])
