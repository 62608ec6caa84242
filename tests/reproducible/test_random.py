"""`xpnn.reproducible`: NumPy's stream of normal deviates, without the platform's logarithm."""

import numpy as np
import pytest

from tests.helpers import deviates_hash
from xpnn.reproducible import RandomState, randn


def test_pinned_deviates():
    assert deviates_hash() == "478481bbdfc9d57228ae8be159c170092eeff022d47da4b86c8c17c954717a69"


@pytest.mark.parametrize("shape", [(), (1,), (2,), (7,), (784, 100), (0,), (3, 0)])
@pytest.mark.parametrize("before", [0, 1, 3])
def test_randn_leaves_the_stream_where_numpy_does(shape, before):
    ours, theirs = RandomState(10), np.random.RandomState(10)
    ours.randn(before)
    theirs.randn(before)
    for _ in range(3):
        found, expected = ours.randn(*shape), theirs.randn(*shape)
        assert np.shape(found) == np.shape(expected)
        assert np.all(np.abs(found - expected) <= 2 * np.spacing(np.abs(expected)))
        name, key, *place, value = ours.get_state()
        wanted_name, wanted_key, *wanted_place, wanted_value = theirs.get_state()
        assert (name, place) == (wanted_name, wanted_place)
        np.testing.assert_array_equal(key, wanted_key)
        assert abs(value - wanted_value) <= 2 * np.spacing(abs(wanted_value))


def test_one_stream_gives_one_sequence_however_it_is_drawn():
    whole = randn(np.random.RandomState(3), 12)
    rng = np.random.RandomState(3)
    np.testing.assert_array_equal(np.concatenate([randn(rng, n) for n in (5, 0, 1, 6)]), whole)
