"""Tests of the spectra, on every array library: ``pytest --xp numpy,torch,jax,cupy,strict``."""

import numpy as np
import pytest
import spectra
from array_api_extra.testing import assert_close, assert_equal

from xpnn.testing import same_on_all

VALUES = [[0.0, 2.0, 1.0, 4.0, 1.0], [1.0, 1.0, 3.0, 1.0, 0.5]]


@pytest.fixture
def made(xp, device, dtype):
    """A function that makes arrays of the test's library, device and dtype."""
    return lambda values: xp.asarray(values, dtype=getattr(xp, dtype), device=device)


def test_normalized(xp, made):
    found = spectra.normalized(made([*VALUES, [0.0] * 5]))
    expected = [[0.0, 0.5, 0.25, 1.0, 0.25], [1 / 3, 1 / 3, 1.0, 1 / 3, 1 / 6], [0.0] * 5]
    assert_close(found, made(expected), rtol=1e-6, xp=xp)


def test_clipped(xp, made):
    assert_equal(spectra.clipped(made([0.0, 2.0, 4.0]), 1.0, 3.0), made([1.0, 2.0, 3.0]), xp=xp)


def test_the_argument_of_clipped_stays_what_it_is(xp, made, to_numpy):
    values = made([0.0, 2.0, 4.0])
    spectra.clipped(values, 1.0, 3.0)
    np.testing.assert_array_equal(to_numpy(values), [0.0, 2.0, 4.0])


def test_smoothed(xp, made):
    found = spectra.smoothed(made(VALUES), 3)
    expected = [[1.0, 1.0, 7 / 3, 2.0, 2.5], [1.0, 5 / 3, 5 / 3, 1.5, 0.75]]
    assert_close(found, made(expected), rtol=1e-6, xp=xp)


@pytest.mark.parametrize("width", [0, 2, -1])
def test_a_width_is_odd(made, width):
    with pytest.raises(ValueError, match="odd"):
        spectra.smoothed(made(VALUES), width)


def test_baseline(xp, made):
    found = spectra.baseline(made(VALUES))
    expected = [[0.0, 0.25, 0.5, 0.75, 1.0], [1.0, 0.875, 0.75, 0.625, 0.5]]
    assert_close(found, made(expected), rtol=1e-6, xp=xp)


def test_centroid(xp, made):
    found = spectra.centroid(made(VALUES), made([0.0, 1.0, 2.0, 3.0, 4.0]))
    assert_close(found, made([2.5, 12 / 6.5]), rtol=1e-6, xp=xp)


def test_peaks(xp, made, device):
    found = spectra.peaks(made(VALUES), 2.5)
    expected = [[False, False, False, True, False], [False, False, True, False, False]]
    assert_equal(found, xp.asarray(expected, device=device), xp=xp)


def test_distance(xp, made):
    found = spectra.distance(made([[1.0, 0.0], [3.0, 4.0]]), made([[0.0, 2.0], [6.0, 8.0]]))
    assert_close(found, made([2.0**0.5, 0.0]), rtol=1e-6, xp=xp)


@same_on_all(ulps=4)
def test_libraries_agree(xp, device):
    x = xp.asarray(VALUES, dtype=xp.float64, device=device)
    return {"smoothed": spectra.smoothed(x, 3), "normalized": spectra.normalized(x)}


@same_on_all
def test_the_same_bits(reproducible_xp):
    x = reproducible_xp.asarray(VALUES)
    return {
        "smoothed": spectra.smoothed(x, 3),
        "baseline": spectra.baseline(x),
        "distance": spectra.distance(x, x[::-1, :]),
    }
