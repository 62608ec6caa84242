"""Where an element lies: sums of multiples of a kernel's loop variables, and their inverse.

A value's elements are stored without gaps, so its shape and strides turn indices into a position
(`Layout.at`). The inverse (`Layout.indices`) is what lets one loop compute an element of an operand
that is transposed, broadcast or cut out of another array.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple


class Term(NamedTuple):
    """A loop variable, from 0 to ``values - 1``, times a factor."""

    factor: int
    name: str
    values: int


class Position(NamedTuple):
    """A number of C++: ``start`` and the sum of the terms."""

    terms: tuple[Term, ...] = ()
    start: int = 0

    def __str__(self) -> str:
        parts = [t.name if t.factor == 1 else f"{t.factor} * {t.name}" for t in self.terms]
        return " + ".join(parts + ([str(self.start)] if self.start or not parts else []))

    def plus(self, other: Position, factor: int = 1) -> Position:
        """Return this position plus another one, times a factor."""
        terms = {term.name: term for term in self.terms}
        for term in other.terms:
            before = terms[term.name].factor if term.name in terms else 0
            terms[term.name] = term._replace(factor=before + factor * term.factor)
        kept = tuple(term for term in terms.values() if term.factor and term.values > 1)
        return Position(kept, self.start + factor * other.start)

    @property
    def last(self) -> int:
        """The largest value."""
        return self.start + sum(term.factor * (term.values - 1) for term in self.terms)


def variable(name: str, values: int) -> Position:
    """Return a loop variable as a position; one that has a single value is 0."""
    return Position((Term(1, name, values),)) if values > 1 else Position()


class Layout(NamedTuple):
    """The shape of an array, its strides in elements, and where its first element lies."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    start: int = 0

    @property
    def size(self) -> int:
        """The number of elements."""
        size = 1
        for length in self.shape:
            size *= length
        return size

    def at(self, indices: Sequence[Position]) -> Position:
        """Return the position of the element with these indices."""
        position = Position((), self.start)
        for stride, index in zip(self.strides, indices, strict=True):
            position = position.plus(index, stride)
        return position

    def alike(self, other: Layout) -> bool:
        """Return whether elements with the same indices have the same position in both."""
        return self.shape == other.shape and all(
            one == two or length == 1
            for one, two, length in zip(self.strides, other.strides, self.shape, strict=True)
        )

    def indices(self, position: Position, named: Callable[[str], str]) -> list[Position]:
        """Return the indices of the element at a position.

        Where a term belongs to one axis only, its index needs no division. ``named(expression)``
        declares a variable for anything else.
        """
        found = self._split(position)
        if found is not None:
            return found
        whole = str(position)
        indices = []
        for length, stride in zip(self.shape, self.strides, strict=True):
            if length == 1:
                indices.append(Position())
                continue
            text = f"({whole})" if stride == 1 else f"({whole}) / {stride}"
            if stride * length < self.size:
                text += f" % {length}"
            indices.append(variable(named(text), length))
        return indices

    def _split(self, position: Position) -> list[Position] | None:
        indices, rest = [Position()] * len(self.shape), position
        if min((term.factor for term in rest.terms), default=0) < 0 or rest.start < 0:
            return None
        axes = [axis for axis, length in enumerate(self.shape) if length > 1]
        for axis in sorted(axes, key=lambda axis: -self.strides[axis]):
            stride = self.strides[axis]
            own = [t._replace(factor=t.factor // stride) for t in rest.terms if t.factor >= stride]
            if any(t.factor >= stride and t.factor % stride for t in rest.terms):
                return None
            indices[axis] = Position(tuple(own), rest.start // stride)
            rest = Position(tuple(t for t in rest.terms if t.factor < stride), rest.start % stride)
            # otherwise the terms of finer axes would reach into this one
            if rest.last >= stride or indices[axis].last >= self.shape[axis]:
                return None
        return indices


def packed_layout(shape: Sequence[int]) -> Layout:
    """Return the layout of a C-contiguous array."""
    strides, step = [0] * len(shape), 1
    for axis in reversed(range(len(shape))):
        strides[axis] = step
        step *= shape[axis]
    return Layout(tuple(shape), tuple(strides))
