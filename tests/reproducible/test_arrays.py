"""`xpnn.reproducible`: the array and the namespace as objects."""

import numpy as np
import pytest

from tests.helpers import NUMPY, open_backend
from xpnn import reproducible
from xpnn.backends import to_numpy

NS = reproducible.arithmetic(NUMPY)


def values(array):
    return to_numpy(array).tolist()


def test_inputs_are_not_written_to_and_views_keep_their_values():
    base = np.arange(6.0).reshape(2, 3)
    w = NS.asarray(base)
    row, transposed, raw = w[0, :], w.T, NS.unwrap(w)
    w += 1
    again = NS.unwrap(w)
    w += 1
    assert again.tolist() == [[1, 2, 3], [4, 5, 6]]
    _ = w @ w.T
    w *= 2.0
    w -= w
    assert np.array_equal(base, np.arange(6.0).reshape(2, 3))
    assert values(row) == [0, 1, 2]
    assert values(transposed) == [[0, 3], [1, 4], [2, 5]]
    assert raw.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert values(w) == [[0, 0, 0], [0, 0, 0]]


def test_in_place_operations_invalidate_the_cut():
    w, x = NS.asarray(np.ones((3, 3))), NS.asarray(np.eye(3))
    transposed = w.T
    assert values(x @ w) == np.ones((3, 3)).tolist()
    w += 1.0
    assert values(x @ w) == np.full((3, 3), 2.0).tolist()
    assert values(x @ transposed) == np.ones((3, 3)).tolist()
    w += w
    assert values(x @ w.T) == np.full((3, 3), 4.0).tolist()
    w *= 0.5
    assert values(x @ w) == np.full((3, 3), 2.0).tolist()


def test_in_place_operations_keep_shape_and_dtype():
    w = NS.asarray(np.ones(3))
    with pytest.raises(ValueError, match=r"\(3,\) cannot become \(2, 3\)"):
        w += NS.asarray(np.ones((2, 3)))
    single = NS.asarray(np.ones(3, np.float32))
    with pytest.raises(TypeError, match="float32 cannot take float64"):
        single *= w
    w *= single
    assert w.dtype == np.float64


def test_unknown_names_say_what_there_is():
    with pytest.raises(AttributeError, match=r"'sin' isn't available reproducibly.*tanh"):
        NS.sin  # noqa: B018


def test_mixing_with_a_raw_array_is_an_error():
    with pytest.raises(TypeError, match="wrap"):
        np.ones(3) + NS.ones(3)
    with pytest.raises(TypeError, match="wrap"):
        NS.ones(3) * np.ones(3)


def test_one_namespace_for_the_same_arguments():
    assert reproducible.arithmetic(NUMPY) is NS
    assert reproducible.arithmetic(NUMPY, precision="full") is not NS
    with pytest.raises(ValueError, match="'half'"):
        reproducible.arithmetic(NUMPY, precision="half")


def test_a_namespace_needs_float64_when_it_is_made():
    backend = open_backend("jax")
    with backend.library.enable_x64(False), pytest.raises(TypeError, match="enable_x64"):
        reproducible.Namespace(backend.xp)
    with backend.scope():
        ns = reproducible.Namespace(backend.xp)
        assert ns.exp(ns.wrap(backend.asarray(np.ones(1)))).dtype == np.float64
