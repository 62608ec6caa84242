"""Products and sums whose partial results are out of range, against exact fractions."""

import math
from fractions import Fraction

import numpy as np
import pytest

from xpnn import reproducible
from xpnn.testing import same_on_all

XP = reproducible.namespace("numpy")
INF, NAN = math.inf, math.nan
LARGEST, LEAST = 1.7976931348623157e308, 2.0**-1021


def wide(seed, count):
    """Return numbers of all magnitudes with 53 bits each, for odd seeds in pairs."""
    rng = np.random.default_rng(seed)
    exponents = rng.integers(-960, 960, count)
    if seed % 2:
        exponents[count // 2 :] = -exponents[: count - count // 2][::-1]
    return np.ldexp(rng.uniform(1, 2, count) * rng.choice([-1, 1], count), exponents)


def near(found, exact, count):
    """Hold a product of `count` terms to the exact one."""
    if abs(exact) > Fraction(LARGEST):
        assert found == (INF if exact > 0 else -INF)
    elif abs(exact) < Fraction(LEAST) / 2:
        assert found == 0.0
    else:
        # a result with fewer digits is rounded to a multiple of LEAST at the end
        bound = count * abs(exact) / 2**53 + Fraction(LEAST) / 2 * (abs(exact) < 2.0**-960)
        assert bool(abs(Fraction(found) - exact) <= bound)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 64, 301])
def test_products_whose_parts_are_out_of_range(count):
    for seed in range(5):
        x = wide(seed, count)
        exact = [Fraction(1)]
        for one in x.tolist():
            exact.append(exact[-1] * Fraction(one))
        near(float(XP.prod(XP.asarray(x))), exact[-1], count)
        running = np.asarray(XP.cumulative_prod(XP.asarray(x), include_initial=True))
        for k, (found, right) in enumerate(zip(running.tolist(), exact, strict=True)):
            near(found, right, max(k, 1))


def test_products_within_range_are_those_of_the_plain_tree():
    for count in (1, 2, 5, 100):
        x = np.random.default_rng(count).normal(size=(3, count))
        tree = x
        while tree.shape[1] > 1:
            half = tree.shape[1] // 2
            tree = np.concatenate(
                [tree[:, :half] * tree[:, half : 2 * half], tree[:, 2 * half :]], axis=1
            )
        np.testing.assert_array_equal(np.asarray(XP.prod(XP.asarray(x), axis=1)), tree[:, 0])


def sums(xp):
    return xp.asarray([[-1e308, 1e308, 1e308, 1.0], [1e308, 1e308, -1e308, LEAST],
                       [LEAST, 0.5, -1e308, -INF], [LEAST, 1e308, NAN, 0.0]])  # fmt: skip


def test_sums_whose_parts_are_out_of_range():
    """NumPy adds from the first one on."""
    with np.errstate(all="ignore"):
        expected = np.cumsum(np.asarray(sums(XP)), axis=1)
    found = np.asarray(XP.cumulative_sum(sums(XP), axis=1))
    assert expected[0].tolist() == [-1e308, 0.0, 1e308, 1e308]
    np.testing.assert_array_equal(found[[0, 2, 3]], expected[[0, 2, 3]])
    # a sum that is itself out of range, and what the tree adds to the first two
    assert found[1].tolist() == [1e308, INF, 1e308, 1e308]


def cases(xp):
    x = xp.asarray([
        [1e200, 1e-200, 1e200, 1e-200], [1e-200, 1e200, 1e200, 1e-280], [1e308, 10.0, 0.1, 0.1],
        [0.0, 1e300, 1e300, 1e300], [1e-280, 1e-280, INF, 1.0], [1e300, 1e300, 0.0, INF],
        [NAN, 1.0, 1.0, 0.0], [-1e300, 1e300, 1e300, 1e-280], [LEAST, 0.5, 4.0, 1.0],
        [LARGEST, LEAST, 1.0, 1.0],
    ])  # fmt: skip
    single = xp.asarray([[1e30, 1e30, 1e-30, 1e-30], [1e-30, 1e-30, 1e30, 1e38]], dtype=xp.float32)
    return [
        xp.prod(x, axis=1), xp.cumulative_prod(x, axis=1), xp.prod(x, axis=(0, 1)),
        xp.prod(x, axis=1, keepdims=True), xp.prod(x[:, :0], axis=1), xp.prod(x[:0, :], axis=1),
        xp.prod(single, axis=1), xp.cumulative_prod(single, axis=1), xp.prod(x[0, 0]),
        xp.cumulative_sum(sums(xp), axis=1), xp.linalg.det(x[:4, :]),
        xp.cumulative_prod(x[:, :0], axis=1, include_initial=True),
    ]  # fmt: skip


@pytest.mark.parametrize("library", ["strict", "torch", "jax", "cupy"])
@same_on_all
def test_products_have_the_same_bits(reproducible_xp):
    return cases(reproducible_xp)


def test_special_values():
    found = cases(XP)
    expected = [1.0, 1e-80, 1e307, 0.0, INF, NAN, NAN, -INF, 2 * LEAST, LARGEST * LEAST]
    np.testing.assert_allclose(np.asarray(found[0]), expected, rtol=1e-15)
    assert np.isnan(float(found[2]))
    assert np.asarray(found[4]).tolist() == [1.0] * 10
    np.testing.assert_allclose(np.asarray(found[6]), [1.0, 1e8], rtol=1e-6)
    assert not np.signbit(np.asarray(found[0]))[:4].any()


def test_a_determinant_whose_partial_products_are_out_of_range():
    det = XP.linalg.det(XP.asarray(np.diag([1e200, 1e-200, 1e200, 1e-200])))
    assert float(det) == pytest.approx(1.0, rel=1e-15)
