"""Trees of parameters: a list with one dictionary per layer."""

import pytest

from xpnn._core.tree import flatten, leaves, paths, rebuilt, tree_map, unzip

TREE = [{"weight": 1, "bias": 2}, {}, {"weight": 3}]


def test_map_keeps_the_form():
    assert tree_map(lambda a: -a, TREE) == [{"weight": -1, "bias": -2}, {}, {"weight": -3}]
    assert tree_map(lambda a: a, []) == []
    # dictionaries are matched by name, not by order
    other = [{"bias": 20, "weight": 10}, {}, {"weight": 30}]
    assert tree_map(lambda a, b: a + b, TREE, other) == [
        {"weight": 11, "bias": 22},
        {},
        {"weight": 33},
    ]


def test_map_leaves_its_trees_alone():
    mapped = tree_map(lambda a: a, TREE)
    mapped[0]["weight"] = 99
    assert TREE[0]["weight"] == 1


@pytest.mark.parametrize("other", [TREE[:2], [*TREE, {}], [{"weight": 1}, {}, {"weight": 3}]])
def test_map_needs_trees_of_one_form(other):
    with pytest.raises((ValueError, KeyError)):
        tree_map(lambda a, b: a, TREE, other)


def test_unzip_undoes_zip():
    other = tree_map(lambda a: str(a), TREE)
    zipped = tree_map(lambda a, b: (a, b), TREE, other)
    assert unzip(zipped, 2) == (TREE, other)
    assert unzip(tree_map(lambda a: (a,), TREE), 1) == (TREE,)


def test_flatten_names_by_layer():
    assert flatten(TREE) == {"0.weight": 1, "0.bias": 2, "2.weight": 3}
    assert flatten([{}, {}]) == {}


def test_paths_are_those_of_the_leaves():
    tree = ([{"b": 1, "a": 2}, {}], {"v": [{"a": 3}], "c": 4})
    assert paths(tree) == {"0.0.b": 1, "0.0.a": 2, "1.v.0.a": 3, "1.c": 4}
    assert list(paths(tree).values()) == leaves(tree)
    assert rebuilt(tree, paths(tree).values()) == tree
