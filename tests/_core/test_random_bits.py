"""Counter-based random numbers: SplitMix64 in Python's own integers, and statistics."""

import itertools

import numpy as np
import pytest

from tests.helpers import BACKEND_NAMES, open_backend
from xpnn._core import random_bits
from xpnn._core.random_bits import UNIFORM, split, stream_key, uniform
from xpnn.backends import get_backend

MASK = (1 << 64) - 1


def splitmix64(seed, count):
    """The published generator (Steele, Lea and Flood 2014), with a state that moves on."""
    state = seed & MASK
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & MASK
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        yield z ^ (z >> 31)


def test_the_published_numbers():
    """Of Vigna's C program with the seed 1234567, as its users' test suites quote them."""
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert list(splitmix64(1234567, 3)) == published
    assert split(1234567, np.arange(3)).view(np.uint64).tolist() == published


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1, -(2**63), 2**63 - 1])
def test_split_is_splitmix64(seed, backend):
    here = backend.asarray(np.arange(50))
    expected = np.array(list(splitmix64(seed, 50)), np.uint64).view(np.int64)
    moved = backend.asarray(np.array([seed]))
    for key in (seed, moved):
        np.testing.assert_array_equal(backend.to_numpy(split(key, here)), expected)
    assert stream_key(seed, 7) == expected[7]


@pytest.mark.parametrize("count", [0, 1, 4, 7])
def test_uniform_takes_the_hash_apart(count, backend):
    key = backend.asarray(np.array([5]))
    found = backend.to_numpy(uniform(key, count, xp=backend.xp))
    parts = [z >> s & 0xFFFF for z in splitmix64(5, 2) for s in (0, 16, 32, 48)]
    assert (found.dtype, found.tolist()) == (np.int64, parts[:count])


@pytest.mark.parametrize("reproducible", [False, True])
@pytest.mark.parametrize("library", BACKEND_NAMES)
def test_bits_within_a_fold(library, reproducible):
    """In JAX's scan, in NumPy's recorded steps, and of reproducible arrays."""
    options = open_backend(library, "float32").options()
    backend = get_backend(**{**options, "reproducible": reproducible})
    xp = backend.xp

    def step(carry, row):
        (bits,) = carry
        drawn = uniform(split(split(11, row[-1:]), row[-2:-1]), 10, xp=namespace_of(row))
        return (bits * 3 + drawn,), (namespace_of(row).sum(drawn),)

    def namespace_of(array):
        return array.__array_namespace__() if hasattr(array, "__array_namespace__") else xp

    rows = np.array([[9, number, epoch] for epoch in (1, 2) for number in range(6)])
    with backend.scope():
        fold = backend.fold(step)
        carry, (sums,) = fold((backend.asarray(np.zeros(10, np.int64)),), backend.asarray(rows))
        found, sums = backend.to_numpy(carry[0]), backend.to_numpy(sums)
    if library == "numpy":
        assert len(fold.programs) == 1
        assert fold.reason is None
    drawn = []
    for _, number, epoch in rows:
        key = [*itertools.islice(splitmix64([*splitmix64(11, epoch + 1)][-1], number + 1), 99)][-1]
        drawn.append([z >> s & 0xFFFF for z in splitmix64(key, 3) for s in (0, 16, 32, 48)][:10])
    assert sums.tolist() == [sum(part) for part in drawn]
    expected = np.zeros(10, np.int64)
    for part in drawn:
        expected = expected * 3 + part
    np.testing.assert_array_equal(found, expected)


DRAWS = 1 << 16


def draws(seed, layer, epoch, number):
    key = split(split(stream_key(seed, layer), np.array([epoch])), np.array([number]))
    return uniform(key, DRAWS, xp=get_backend("numpy").xp) / UNIFORM


PLACES = [(0, 0, 1, 0), (0, 0, 1, 1), (0, 0, 2, 0), (0, 1, 1, 0), (1, 0, 1, 0), (10, 3, 50, 599)]


@pytest.mark.parametrize("place", PLACES)
def test_draws_are_uniform(place):
    """Mean, variance, and a chi-square of 256 bins, each within 5 standard deviations."""
    x = draws(*place)
    assert abs(x.mean() - 0.5) < 5 * np.sqrt(1 / 12 / DRAWS)
    # the variance of (x - 1/2)² is 1/80 - 1/144
    assert abs(((x - 0.5) ** 2).mean() - 1 / 12) < 5 * np.sqrt(1 / 180 / DRAWS)
    counts = np.bincount((x * 256).astype(int), minlength=256)
    chi_square = ((counts - DRAWS / 256) ** 2).sum() / (DRAWS / 256)
    assert abs(chi_square - 255) < 5 * np.sqrt(2 * 255)


@pytest.mark.parametrize("lag", [1, 2, 3, 4, 5, 100])
def test_neighbours_are_independent(lag):
    """Units of a sample, those of one hash too, and samples of a mini-batch."""
    x = draws(0, 0, 1, 0) - 0.5
    r = 12 * (x[:-lag] * x[lag:]).mean()
    assert abs(r) < 5 / np.sqrt(DRAWS - lag)


def test_steps_layers_epochs_and_seeds_are_independent():
    drawn = [draws(*place) for place in PLACES]
    r = np.corrcoef(drawn) - np.eye(len(PLACES))
    assert np.abs(r).max() < 5 / np.sqrt(DRAWS)


def test_no_key_is_drawn_twice():
    """64 bits each: a repeat among 60,000 has a probability of 1e-10."""
    steps = np.arange(100)
    keys = [
        split(split(stream_key(seed, layer), np.array([epoch])), steps)
        for seed, layer, epoch in itertools.product(range(10), range(6), range(10))
    ]
    assert len(np.unique(keys)) == 60_000


def test_the_bound_is_that_of_sixteen_bits():
    assert random_bits.UNIFORM == 65536
