"""Which kernel computes which values: as few launches as the products and sums leave.

A launch can read only what earlier launches stored, except that an elementwise value is computed
anew wherever it is needed. So elementwise operations cost no launch. Reductions and products of
matrices do: what reads their results belongs into a later kernel. A step is thus

    products, kernel 0, products, kernel 1, products, ..., the last kernel

where each kernel has many tasks that don't depend on each other: one for each layout in which
values are stored, and one for each shape that is reduced. The last kernel writes the carry.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from xpnn.recording.card.positions import Layout
from xpnn.recording.card.values import Operand, Value


@dataclass
class Map:
    """Values that are stored in one layout: a thread computes an element of each."""

    layout: Layout
    values: list[Value] = field(default_factory=list)


@dataclass
class Reduce:
    """Reductions of values of one shape along the same axes: a group of threads for each result."""

    shape: tuple[int, ...]
    axes: tuple[int, ...]
    values: list[Value] = field(default_factory=list)


class Launches(NamedTuple):
    """The order in which a step is carried out.

    Attributes
    ----------
    kernels
        The tasks of each kernel.
    products
        The products before each kernel, and those after the last one (none).
    kernel
        The kernel that computes a value first, for elementwise values and reductions.
    stored
        The values that are stored for later launches, beside reductions and products.
    """

    kernels: list[list[Map | Reduce]]
    products: list[list[Value]]
    kernel: dict[Value, int]
    stored: set[Value]


def launches_of(
    values: Sequence[Value], results: Sequence[Value], early: Sequence[tuple[Value, int]] = ()
) -> Launches:
    """Return the launches that compute `results`, elementwise values, in the last kernel.

    Parameters
    ----------
    values
        All values, each after those that it is computed from.
    results
        What the last kernel stores for the next step, or for the caller.
    early
        Elementwise values that must be stored before the last kernel, and how many kernels before.
    """
    wanted = _reachable([*results, *(value for value, _ in early)])
    order = [value for value in values if value in wanted]
    first: dict[Value, int] = {}  # the first kernel that can read a value
    ready: dict[Value, int] = {}  # the first that can compute it; for products that before it
    for value in order:
        if value.kind == "product":
            ready[value] = max(_stored_in(v, first, ready) for v in value.sources)
        else:
            ready[value] = max((first[v] for v in value.sources), default=0)
        later = value.kind in ("reduction", "product")
        first[value] = ready[value] + later
    last = max(first.values(), default=0)
    if early:
        last = max(last, *(ready[value] + before for value, before in early))
    deadlines = {value: last - before for value, before in early}
    kernel, stored = _assigned(order, set(results), deadlines, ready, last)
    return Launches(
        _tasks(order, kernel, stored, last),
        [[v for v in order if v.kind == "product" and ready[v] == k] for k in range(-1, last + 1)],
        kernel,
        stored,
    )


def _reachable(results: Sequence[Value]) -> set[Value]:
    found: set[Value] = set()
    waiting = list(results)
    while waiting:
        value = waiting.pop()
        if value not in found:
            found.add(value)
            waiting += value.sources
    return found


def _stored_in(value: Value, first: dict[Value, int], ready: dict[Value, int]) -> int:
    """Return the kernel that stores a product's operand at the earliest; -1 if it is there."""
    return -1 if value.kind in ("given", "constant") else ready[value]


def _assigned(
    order: Sequence[Value],
    results: set[Value],
    deadlines: dict[Value, int],
    ready: dict[Value, int],
    last: int,
) -> tuple[dict[Value, int], set[Value]]:
    """Return in which kernel each value is computed, and which are stored.

    An elementwise value is computed where it is first needed, not where it first could be: so
    less is stored. If a later launch needs it too, that reads what the first one stored.
    """
    uses: dict[Value, list[int]] = {value: [] for value in order}  # the kernels that need a value
    products: dict[Value, list[int]] = {value: [] for value in order}
    kernel: dict[Value, int] = {}
    stored: set[Value] = set()
    for value in reversed(order):
        needed = uses[value] + products[value]
        if value.kind == "elementwise":
            if value in results:
                needed.append(last)
            if value in deadlines:
                needed.append(deadlines[value])
            kernel[value] = min(needed)
            kept = value in results or value in deadlines or bool(products[value])
            if kept or max(needed) > kernel[value]:
                stored.add(value)
        elif value.kind == "reduction":
            latest = min([use - 1 for use in uses[value]] + products[value])
            # what a product reads is stored anyway; one kernel later it needn't be computed again
            source = value.sources[0]
            there = [use + 1 for use in products.get(source, ())]
            kernel[value] = min(max([ready[value], *there]), latest)
        for source in value.sources:
            if source in uses:
                if value.kind == "product":
                    products[source].append(ready[value])
                else:
                    uses[source].append(kernel[value])
    return kernel, stored


def _tasks(
    order: Sequence[Value], kernel: dict[Value, int], stored: set[Value], last: int
) -> list[list[Map | Reduce]]:
    """Return the tasks of each kernel."""
    tasks: list[dict[Any, Map | Reduce]] = [{} for _ in range(last + 1)]
    for value in order:
        if value in stored:
            layout = Layout(value.layout.shape, value.layout.strides)
            own: Map | Reduce = tasks[kernel[value]].setdefault(layout, Map(layout))
        elif value.kind == "reduction":
            (operand,) = value.operands
            assert isinstance(operand, Operand)
            key = operand.layout.shape, value.axes
            own = tasks[kernel[value]].setdefault(key, Reduce(*key))
        else:
            continue
        own.values.append(value)
    return [list(own.values()) for own in tasks]
