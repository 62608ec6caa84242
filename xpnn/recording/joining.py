"""Equal chains of elementwise operations, one for each parameter, as one chain on all of them.

An optimizer does the same with each parameter, and most parameters are so small that the calls cost
more time than the arithmetic. So where a step ends in such chains, as in

    w1 -= 0.1 * g1                        [w1 w2] -= 0.1 * [g1 g2]
    w2 -= 0.1 * g2        becomes

the arrays are laid side by side in blocks, and each operation is carried out once, on blocks. Each
element goes through the same arithmetic as before, hence has the same bits (except for the sign of
a NaN, which may depend on an element's position in NumPy's vector loops).

This puts the operations into another order. Five conditions make sure that it changes no result:

1. They are the last ones of the step, its tail, and elementwise (`_is_elementwise`): ufuncs, on
   arrays of one shape and scalars. All that they read and didn't make themselves is complete when
   the first of them begins, so their order matters only where they share an array.
2. Operations that share an array belong to one chain (`_chains`). Different chains share none, so
   the operations of one can be put between those of another.
3. Each array of a chain may be moved into a block (`_is_movable`): the program must be free to
   choose where it lies. That isn't so for the caller's data and for outputs of the step.
4. Chains become one only if they do the same operations, with the same numbers, on arrays of the
   same dtypes and sources (`_form`). Shapes may differ: a block is 1-D.
5. Scalars such as Adam's count aren't in any block. They are computed from scalars only, so all of
   them can go before the chains, except those that are changed in place: these go last, if nothing
   reads them after the change.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Sequence
from typing import NamedTuple

from xpnn.recording.nodes import Node, Ref, exact
from xpnn.recording.recorder import Recording


class _Chain(NamedTuple):
    """Operations of the tail, and what they work on."""

    nodes: list[Node]  # in an order in which they can be carried out
    # The numbers of their arrays, scalars excepted, in order of appearance. In equal chains, the
    # arrays at the same position play the same part.
    arrays: list[int]


def join_chains(
    recording: Recording, nodes: list[Node], carried: set[int], kept: set[int]
) -> list[Node]:
    """Return nodes that do the same, with one chain on blocks for equal chains at the end.

    Parameters
    ----------
    recording
        The recording; its arrays of the chains become views of blocks.
    nodes
        The nodes of the step.
    carried
        Arrays that are handed from step to step. They may be moved, see `Program.carry`.
    kept
        Arrays that must stay where they are.
    """
    start = len(nodes)
    while start and _is_elementwise(recording, nodes[start - 1]):
        start -= 1
    head, tail = nodes[:start], nodes[start:]
    # Gradients are results of the head. They may be moved too: a call of the head can write into a
    # piece of a block as well as into a buffer of its own.
    makers = {node.out for node in head if node.kind == "call"}
    groups: dict[Hashable, list[_Chain]] = {}
    for chain in _chains(recording, tail):
        if _is_movable(chain, carried, makers, kept):
            groups.setdefault(_form(recording, chain), []).append(chain)
    equal = [chains for chains in groups.values() if len(chains) > 1]
    scalars = [node for node in tail if not recording.arrays[node.out].ndim]
    changed = [node for node in scalars if node.kind == "mutate"]
    if not equal or any(_is_read_after(recording, tail, node) for node in changed):
        # a scalar that is read before its change and after it can go neither first nor last
        return nodes
    before = [node for node in scalars if node.kind != "mutate"]
    joined: list[Node] = []
    done = {id(node) for node in scalars}
    for chains in equal:
        blocks = {}
        # The chains' first arrays are the pieces of one block, their second ones those of the next,
        # and so on. All blocks have their pieces in the same order, that of the chains, so an
        # element has the same position in each.
        for first, *others in zip(*(chain.arrays for chain in chains), strict=True):
            blocks[first] = recording.join([first, *others])
        # the other chains differ from the first only in their arrays, which are in the blocks now
        joined += [_on_blocks(node, blocks) for node in chains[0].nodes]
        done |= {id(node) for chain in chains for node in chain.nodes}
    single = [node for node in tail if id(node) not in done]  # of chains that have no equal
    pieces = {key for keys in recording.pieces.values() for key in keys}
    filled = [
        dataclasses.replace(node, kind="piece")
        if node.kind == "call" and node.out in pieces
        else node
        for node in head
    ]
    return [*filled, *before, *single, *joined, *changed]


def _is_elementwise(recording: Recording, node: Node) -> bool:
    """Return whether each element of a node's result depends on one element of each operand.

    All operands must be C-contiguous, because the elements of a block are in that order. None may
    be a view: its memory may be changed under another number, and `_chains`, which goes by numbers,
    would take two chains that share it for separate ones.
    """
    arrays = recording.arrays
    if node.kind not in ("call", "mutate") or not node.is_elementwise():
        return False
    # An operand of another shape would be broadcast. In a block, which is 1-D and has pieces of
    # several shapes, only scalars still are.
    shape = arrays[node.out].shape
    return all(
        recording.sources[k] != "view"
        and (not arrays[k].ndim or (arrays[k].shape == shape and arrays[k].flags.c_contiguous))
        for k in (node.out, *node.refs)
    )


def _is_read_after(recording: Recording, nodes: Sequence[Node], node: Node) -> bool:
    """Return whether a later one of `nodes` reads the array that `node` changes."""
    position = next(i for i, other in enumerate(nodes) if other is node)
    reads = {recording.root(k) for later in nodes[position + 1 :] for k in later.refs}
    return recording.root(node.out) in reads


def _chains(recording: Recording, nodes: Sequence[Node]) -> list[_Chain]:
    """Return the nodes that work on arrays, as chains of which no two share an array.

    Each node begins a chain, and takes in the earlier chains that it shares an array with. These
    shared none with each other until now, so all nodes of one may go before those of the other.
    The order within each is kept.
    """
    chains: list[_Chain] = []
    for node in nodes:
        keys = [k for k in (*node.refs, node.out) if recording.arrays[k].ndim]
        if not keys:
            continue  # of scalars only
        meeting = [chain for chain in chains if set(keys) & set(chain.arrays)]
        arrays = [key for chain in meeting for key in chain.arrays]
        whole = _Chain(
            [*(n for chain in meeting for n in chain.nodes), node],
            list(dict.fromkeys([*arrays, *keys])),
        )
        chains = [*(chain for chain in chains if chain not in meeting), whole]
    return chains


def _is_movable(chain: _Chain, carried: set[int], makers: set[int], kept: set[int]) -> bool:
    """Return whether each array of a chain may lie in a block.

    It must be made by a call, whose result can be written anywhere, or be carried: then
    `Program.carry` says where it lies. A constant or the caller's data stays where it is.
    """
    made = makers | {node.out for node in chain.nodes if node.kind == "call"}
    return all(key in carried | made and key not in kept for key in chain.arrays)


def _form(recording: Recording, chain: _Chain) -> Hashable:
    """Return a value that is equal for chains that can become one.

    In it, an array of the chain is named by its position there, because the numbers of arrays
    differ from chain to chain. A scalar keeps its number: equal chains read the same one.
    """
    positions = {key: position for position, key in enumerate(chain.arrays)}
    inside = {node.out for node in chain.nodes if node.kind == "call"}
    # a block has one dtype and one source, and the tail makes all of its pieces or none
    arrays = tuple(
        (key in inside, recording.sources[key], str(recording.arrays[key].dtype))
        for key in chain.arrays
    )
    operations = tuple(
        (
            *(node.kind, node.function, positions[node.out]),
            *(
                ("element", positions[arg.key])
                if isinstance(arg, Ref) and arg.key in positions
                else exact(arg)
                for arg in node.args
            ),
        )
        for node in chain.nodes
    )
    return arrays, operations


def _on_blocks(node: Node, blocks: dict[int, int]) -> Node:
    """Return a node that does on blocks what `node` does on their first pieces."""
    args = tuple(
        Ref(blocks.get(arg.key, arg.key)) if isinstance(arg, Ref) else arg for arg in node.args
    )
    return dataclasses.replace(node, args=args, out=blocks[node.out])
