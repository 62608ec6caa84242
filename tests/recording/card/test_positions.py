"""Positions of elements, against NumPy's own."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xpnn.recording.card.positions import Layout, Position, packed_layout, variable


def value_of(position, variables):
    return eval(str(position).replace("/", "//"), {}, variables)


def layout_of(view, root):
    strides = tuple(stride // view.itemsize for stride in view.strides)
    return Layout(view.shape, strides, (view.ctypes.data - root.ctypes.data) // view.itemsize)


def check_indices(layout, position, names):
    """Hold the indices that belong to a position to those that lie there."""
    lines = {}

    def named(expression):
        return lines.setdefault(expression, f"x{len(lines)}")

    indices = layout.indices(position, named)
    for values in itertools.product(*(range(count) for count in names.values())):
        variables = dict(zip(names, values, strict=True))
        for expression, name in lines.items():
            variables[name] = eval(expression.replace("/", "//"), {}, variables)
        found = [value_of(index, variables) for index in indices]
        assert all(0 <= i < n for i, n in zip(found, layout.shape, strict=True))
        assert value_of(layout.at([Position((), i) for i in found]), {}) == value_of(
            position, variables
        )
    return lines


SHAPES = st.lists(st.integers(1, 4), min_size=1, max_size=4)


@given(shape=SHAPES, data=st.data())
def test_an_index_is_found_from_a_position(shape, data):
    order = data.draw(st.permutations(range(len(shape))))
    array = np.empty([shape[k] for k in order], np.int8).transpose(np.argsort(order))
    layout = layout_of(array, array)
    check_indices(layout, variable("i", array.size), {"i": array.size})
    # as a reduction has it: some axes by one variable, the others by another
    cut = data.draw(st.integers(0, len(shape)))
    outer, inner = packed_layout(array.shape[:cut]), packed_layout(array.shape[cut:])
    lines = {}

    def named(expression):
        return lines.setdefault(expression, f"y{len(lines)}")

    own = outer.indices(variable("o", outer.size), named)
    own += inner.indices(variable("i", inner.size), named)
    position = layout.at(own)
    seen = set()
    for o, i in itertools.product(range(outer.size), range(inner.size)):
        variables = {"o": o, "i": i}
        for expression, name in lines.items():
            variables[name] = eval(expression.replace("/", "//"), {}, variables)
        seen.add(value_of(position, variables))
    assert seen == set(range(array.size))


def test_rows_and_columns_need_no_division():
    matrix = packed_layout((6, 5))
    position = matrix.at([variable("o", 6), variable("i", 5)])
    assert not check_indices(matrix, position, {"o": 6, "i": 5})
    transposed = Layout((5, 6), (1, 5))
    assert not check_indices(transposed, position, {"o": 6, "i": 5})
    # a part of the rows
    part = matrix.at([variable("o", 3).plus(Position((), 2)), variable("i", 5)])
    assert not check_indices(matrix, part, {"o": 3, "i": 5})


def test_terms_that_reach_into_another_axis_are_divided():
    # 2 o + i, where i is up to 4, isn't the index pair (o, i) of a matrix of two columns
    position = Layout((3, 5), (2, 1)).at([variable("o", 3), variable("i", 5)])
    assert check_indices(packed_layout((5, 2)), position, {"o": 3, "i": 5})


@pytest.mark.parametrize("start", [0, 3])
def test_a_position_is_a_sum_of_terms(start):
    position = variable("i", 4).plus(variable("o", 2), 4).plus(Position((), start))
    assert position.last == 3 + 4 + start
    assert value_of(position, {"i": 2, "o": 1}) == 6 + start
    assert str(position.plus(position, -1)) == "0"
