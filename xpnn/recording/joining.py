"""Equal chains of elementwise operations, one for each parameter, as one chain on all of them.

An optimizer does the same with each parameter, and most parameters are so small that the time goes
into what is between the operations. So where a step ends in such chains, as in

    w1 -= 0.1 * g1                        [w1 w2] -= 0.1 * [g1 g2]
    w2 -= 0.1 * g2        becomes

the arrays are laid side by side in blocks, and each operation is carried out once, on blocks. Each
element goes through the same arithmetic as before, hence has the same bits (except for the sign of
a NaN, which may depend on an element's position in NumPy's vector loops).

This is allowed because of what is asked of the operations, one check after the other:

1. They are the last ones of the step (`tail`), and elementwise (`_is_elementwise`): of ufuncs, on
   arrays of one shape and scalars. Whatever they read that they didn't make themselves is complete
   when the first of them begins, so their order matters only where they share an array.
2. Operations that share an array are one chain (`_chains`). Different chains share none, so the
   operations of one can be put between those of another.
3. Each array of a chain may be laid into a block (`_is_movable`): the program must be free to say
   where it is. That isn't so for the caller's data and for outputs of the step.
4. Chains can be one if they do the same operations, with the same numbers, on arrays of the same
   dtypes and sources (`_form`). Shapes may differ: a block is 1-D.
5. Scalars such as Adam's count aren't in any block. They are computed from scalars only, so all of
   them can go before the chains, except those that are changed in place: these go last, if nothing
   reads them after the change.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np

from xpnn.recording.nodes import Node, Ref, copied, exact, refs_in
from xpnn.recording.recorder import Recording

# they return either of two zeros of different sign, depending on the element's position
_BY_POSITION = (np.fmax, np.fmin)


class _Chain(NamedTuple):
    nodes: list[Node]
    arrays: list[int]  # all that the nodes work on, in order of appearance


def join_chains(
    recording: Recording, nodes: list[Node], carried: set[int], kept: set[int]
) -> list[Node]:
    """Return nodes that do the same, but equal chains at the end as one chain on blocks.

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
    # the head's results may be moved too: each call can write into a piece of a block
    makers = {node.out for node in head if node.kind == "call"}
    groups: dict[Hashable, list[_Chain]] = {}
    for chain in _chains(recording, tail):
        if _is_movable(chain, carried, makers, kept):
            groups.setdefault(_form(recording, chain), []).append(chain)
    equal = [chains for chains in groups.values() if len(chains) > 1]
    scalars = [node for node in tail if not recording.arrays[node.out].ndim]
    changed = [node for node in scalars if node.kind == "mutate"]
    if not equal or any(_is_read_after(recording, tail, node) for node in changed):
        return nodes
    before = [node for node in scalars if node.kind != "mutate"]
    joined: list[Node] = []
    done = {id(node) for node in scalars}
    for chains in equal:
        blocks = {}
        # the chains' first arrays are the pieces of one block, their second ones of the next, …
        for first, *others in zip(*(chain.arrays for chain in chains), strict=True):
            blocks[first] = recording.join([first, *others])
        joined += [_on_blocks(node, blocks) for node in chains[0].nodes]
        done |= {id(node) for chain in chains for node in chain.nodes}
    single = [node for node in tail if id(node) not in done]
    pieces = {key for keys in recording.pieces.values() for key in keys}
    filled = [
        node._replace(kind="piece") if node.kind == "call" and node.out in pieces else node
        for node in head
    ]
    return [*filled, *before, *single, *joined, *changed]


def _is_elementwise(recording: Recording, node: Node) -> bool:
    """Return whether each element of a node's result depends on one element of each operand.

    All operands must be C-contiguous: the elements of a block are in that order. A view won't do,
    for its memory may be changed under another name, which would connect chains unseen.
    """
    function, arrays = node.function, recording.arrays
    if node.kind not in ("call", "mutate") or node.kwargs:
        return False
    # a ufunc with a signature is a product of matrices or the like
    ufunc = isinstance(function, np.ufunc) and not function.signature
    if function in _BY_POSITION or not (ufunc or function is copied):
        return False
    if any(isinstance(arg, (list, tuple)) and not isinstance(arg, Ref) for arg in node.args):
        return False
    shape = arrays[node.out].shape
    return all(
        recording.sources[k] != "view"
        and (not arrays[k].ndim or (arrays[k].shape == shape and arrays[k].flags.c_contiguous))
        for k in (node.out, *refs_in(node))
    )


def _is_read_after(recording: Recording, nodes: Sequence[Node], node: Node) -> bool:
    position = next(i for i, other in enumerate(nodes) if other is node)
    reads = {recording.root(k) for later in nodes[position + 1 :] for k in refs_in(later)}
    return recording.root(node.out) in reads


def _elements(recording: Recording, node: Node) -> list[int]:
    """Return the arrays of a node that aren't scalars, the one that it makes last."""
    return [k for k in (*refs_in(node), node.out) if recording.arrays[k].ndim]


def _chains(recording: Recording, nodes: Sequence[Node]) -> list[_Chain]:
    """Return the nodes on arrays as chains that have no array in common.

    Each node begins a chain, and takes in the chains before that it shares an array with.
    """
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


def _is_movable(chain: _Chain, carried: set[int], makers: set[int], kept: set[int]) -> bool:
    """Return whether each array of a chain may lie in a block: it is carried, or made by a call."""
    made = makers | {node.out for node in chain.nodes if node.kind == "call"}
    return all(key in carried | made and key not in kept for key in chain.arrays)


def _form(recording: Recording, chain: _Chain) -> Hashable:
    """Return a value that is equal for chains that can be one.

    In it, an array of the chain is known by its position there.
    """
    positions = {key: position for position, key in enumerate(chain.arrays)}
    inside = {node.out for node in chain.nodes if node.kind == "call"}
    arrays = tuple(
        (key in inside, recording.sources[key], str(recording.arrays[key].dtype))
        for key in chain.arrays
    )
    operations = tuple(
        (
            *(node.kind, node.function, positions[node.out]),
            *(
                ("element", positions[a.key]) if _is_in(a, positions) else exact(a)
                for a in node.args
            ),
        )
        for node in chain.nodes
    )
    return arrays, operations


def _is_in(arg: object, positions: dict[int, int]) -> bool:
    return isinstance(arg, Ref) and arg.key in positions


def _on_blocks(node: Node, blocks: dict[int, int]) -> Node:
    args = tuple(
        Ref(blocks.get(arg.key, arg.key)) if isinstance(arg, Ref) else arg for arg in node.args
    )
    return node._replace(args=args, out=blocks[node.out])
