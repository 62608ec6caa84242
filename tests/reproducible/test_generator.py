"""`xp.random`: Threefry's published numbers, the same ones everywhere, and their distributions."""

import math

import numpy as np
import pytest

from xpnn import reproducible
from xpnn.reproducible.generator import threefry
from xpnn.testing import same_on_all

XP = reproducible.namespace("numpy")
COUNT = 40_000


@pytest.mark.parametrize(
    ("key", "counter", "expected"),
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((2**32 - 1,) * 2, (2**32 - 1,) * 2, (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_threefry_is_that_of_random123(key, counter, expected):
    """The known answers of its authors' library, ``threefry2x32 20``."""
    found = threefry(key, np.array([counter[0]]), np.array([counter[1]]))
    assert [int(word[0]) for word in found] == list(expected)


def draws(xp):
    g = xp.random(2**40 + 3)
    weights = xp.asarray([0.1, 0.0, 0.7, 0.2])
    return [
        g.uniform((3, 4)), g.uniform(5, low=-2.0, high=3.0, dtype=xp.float32), g.normal((2, 3)),
        g.normal(7, mean=5.0, std=0.1, dtype=xp.float32), g.integers(10, shape=20),
        g.integers(-(2**63), 2**63, (4,)), g.permutation(9), g.permutation(xp.arange(6.0)),
        g.choice(5, (2, 2)), g.choice(xp.arange(9) * 2, 4, replace=False),
        g.choice(4, 10, p=weights), g.choice(4, 3, replace=False, p=weights),
        g.spawn(7).uniform(3), g.uniform(),
    ]  # fmt: skip


@pytest.mark.parametrize("library", ["strict", "torch", "jax"])
@same_on_all
def test_every_library_draws_the_same(reproducible_xp):
    return draws(reproducible_xp)


def test_a_draw_depends_on_the_seed_and_the_position_only():
    one, other = XP.random(5), XP.random(5)
    whole = np.asarray(one.uniform(10))
    parts = [np.asarray(other.uniform(n)) for n in (3, 0, 7)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert not np.array_equal(np.asarray(XP.random(6).uniform(10)), whole)
    assert not np.array_equal(np.asarray(XP.random(5).spawn(0).uniform(10)), whole)


def chi_squared(counts, expected):
    """Return how many standard deviations chi squared is above its mean, about."""
    counts, expected = np.asarray(counts, dtype=float), np.asarray(expected, dtype=float)
    freedom = counts.size - 1
    return (((counts - expected) ** 2 / expected).sum() - freedom) / math.sqrt(2 * freedom)


def test_uniform_numbers_are_uniform_and_independent():
    x = np.asarray(XP.random(1).uniform(COUNT))
    assert x.min() >= 0
    assert x.max() < 1
    counts = np.histogram(x, 100, (0, 1))[0]
    assert abs(chi_squared(counts, np.full(100, COUNT / 100))) < 5
    pairs = np.histogram2d(x[:-1:2], x[1::2], 10, [(0, 1), (0, 1)])[0]
    assert abs(chi_squared(pairs.reshape(-1), np.full(100, COUNT / 200))) < 5
    # each of the 53 bits
    whole = (x * 2.0**53).astype(np.int64)
    ones = [((whole >> k) & 1).sum() for k in range(53)]
    assert np.all(np.abs(np.array(ones) - COUNT / 2) < 5 * math.sqrt(COUNT) / 2)


def test_normal_deviates_are_normal():
    x = np.asarray(XP.random(2).normal(COUNT))
    # Kolmogorov and Smirnov: the distance is above 2 / sqrt(n) once in 1500 times
    ordered = np.sort(x)
    exact = np.array([0.5 * math.erfc(-v / math.sqrt(2)) for v in ordered])
    assert np.abs(exact - (np.arange(COUNT) + 0.5) / COUNT).max() < 2 / math.sqrt(COUNT)
    moments = [(x**k).mean() for k in range(1, 5)]
    np.testing.assert_allclose(moments, [0, 1, 0, 3], rtol=0, atol=5 * 10 / math.sqrt(COUNT))
    half = COUNT // 2
    assert abs(np.corrcoef(x[:half], x[half:])[0, 1]) < 5 / math.sqrt(half)


@pytest.mark.parametrize("size", [1, 2, 6, 100, 2**32 + 1])
def test_integers_are_equally_likely(size):
    x = np.asarray(XP.random(3).integers(-4, size - 4, COUNT)) + 4
    assert x.min() >= 0
    assert x.max() < size
    parts = min(size, 50)
    counts = np.bincount((x * parts // size).astype(np.int64), minlength=parts)
    expected = np.bincount(np.arange(600) * parts // 600, minlength=parts) if size > 100 else None
    if size == 1:
        assert counts.tolist() == [COUNT]
    else:
        shares = expected if size > 100 else np.bincount(np.arange(size) * parts // size)
        assert abs(chi_squared(counts, shares * COUNT / shares.sum())) < 5


def test_permutations_and_choices():
    g = XP.random(4)
    orders = [tuple(np.asarray(g.permutation(3)).tolist()) for _ in range(600)]
    counts = [orders.count(order) for order in set(orders)]
    assert len(counts) == 6
    assert abs(chi_squared(counts, [100] * 6)) < 5
    p = np.array([0.1, 0.0, 0.7, 0.2])
    chosen = np.asarray(g.choice(4, COUNT, p=XP.asarray(p)))
    found = np.bincount(chosen, minlength=4)
    assert found[1] == 0
    assert abs(chi_squared(found[p > 0], p[p > 0] * COUNT)) < 5
    # without replacement, the first one has the same distribution
    first = np.array([int(g.choice(4, 2, replace=False, p=XP.asarray(p))[0]) for _ in range(600)])
    assert abs(chi_squared(np.bincount(first, minlength=4)[p > 0], p[p > 0] * 600)) < 5
    assert sorted(np.asarray(g.choice(8, 8, replace=False)).tolist()) == list(range(8))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda g: g.choice(3, 4, replace=False), "4 elements of 3"),
        (lambda g: g.choice(0, 1), "1 elements of 0"),
        (lambda g: g.choice(2, 2, replace=False, p=XP.asarray([1.0, 0.0])), "2 elements of 1"),
        (lambda g: g.choice(2, p=XP.asarray([1.0])), "p must have the shape"),
        (lambda g: g.choice(2, p=XP.asarray([1.0, -1.0])), "p must have finite numbers"),
        (lambda g: g.integers(3, 3), "no int64 from 3"),
        (lambda g: g.integers(0, 2**63 + 1), "no int64"),
        (lambda g: XP.random(-1), "seed must be from 0"),
        (lambda g: g.spawn(-1), "number must be from 0"),
    ],
)
def test_what_cannot_be_drawn(call, message):
    with pytest.raises(ValueError, match=message):
        call(XP.random(0))


def test_probabilities_of_any_size():
    """Only their proportions count."""
    weights = np.array([0.0, 1.0, 3.0, 0.0, 0.5, 0.0])
    for replace, count in ((True, 200), (False, 3)):
        drawn = [
            np.asarray(XP.random(3).choice(6, count, replace=replace, p=XP.asarray(weights * size)))
            for size in (1.0, 2.0**-900, 2.0**1022, 2.0**-1019)
        ]
        for other in drawn[1:]:
            np.testing.assert_array_equal(drawn[0], other)
    halves = XP.random(1).choice(2, COUNT, p=XP.asarray([1e308, 1e308]))
    assert abs(np.asarray(halves).mean() - 0.5) < 4 * 0.5 / math.sqrt(COUNT)
    for seed in range(20):  # those without a probability come after the least likely one
        last = XP.random(seed).choice(3, 2, replace=False, p=XP.asarray([0.0, 1e-300, 1e308]))
        assert np.asarray(last).tolist() == [2, 1]


def test_the_widest_range():
    drawn = np.asarray(XP.random(4).uniform(COUNT, low=-1e308, high=1.5e308))
    assert np.isfinite(drawn).all()
    assert drawn.min() >= -1e308
    assert drawn.max() < 1.5e308
    unit = np.asarray(XP.random(4).uniform(COUNT))
    np.testing.assert_allclose(drawn / 1e308, unit * 2.5 - 1.0, rtol=1e-14, atol=1e-15)


def test_nothing_is_drawn_from_nothing():
    for x in (0, XP.zeros((0, 2))):
        for replace in (True, False):
            stream = XP.random(1)
            assert 0 in stream.choice(x, 0, replace=replace).shape
            assert stream.position == 0
            with pytest.raises(ValueError, match="can't be drawn"):
                stream.choice(x, 1, replace=replace)
