"""`xpnn.reproducible.pixels`: images in two parts, and their products against exact rationals."""

from fractions import Fraction

import numpy as np
import pytest

from tests.test_reproducible import NUMPY, bits, put
from xpnn import reproducible
from xpnn.backends import to_numpy
from xpnn.reproducible import pixels

NS = reproducible.namespace(NUMPY)
LARGEST = pixels.MOST_TERMS


def images(rng, n, k, levels=None):
    levels = rng.randint(0, 256, (n, k)) if levels is None else levels
    return (levels / 255).astype(np.float32).astype(np.float64)


def exact(a, b, i, j):
    return sum((Fraction(x) * Fraction(y) for x, y in zip(a[i], b[:, j], strict=True)), Fraction(0))


def prepared(x, ns=NS):
    array = ns.prepare(ns.asarray(x))
    assert array.pixels is not None
    return array


def test_each_of_the_256_values_is_in_two_parts_of_eight_bits():
    found = pixels.find_pixels(images(None, 1, 256, np.arange(256)[None, :]), np)
    np.testing.assert_array_equal(found.levels[0], np.arange(256))
    assert found.levels.dtype == found.rest.dtype == np.uint8
    for p in range(256):
        value = Fraction(float(np.float32(p / 255)))
        step, grid = Fraction(pixels.STEP), Fraction(pixels.GRID)
        assert step * p + grid * int(found.rest[0, p]) == value


@pytest.mark.parametrize(
    "other",
    [
        np.arange(256) / 255,  # not rounded to float32
        np.float32(-1 / 255), np.float32(256 / 255), np.float32(0.5), 2.0**-32, 1.0 + 2.0**-23,
    ],
)  # fmt: skip
def test_what_is_no_pixel(other):
    x = images(np.random.RandomState(0), 3, 256)
    x[1] = np.asarray(other, dtype=np.float64)
    assert pixels.find_pixels(x, np) is None
    assert not pixels.are_pixels(x, np)
    assert NS.prepare(NS.asarray(x)).pixels is None


def test_a_set_is_looked_at_in_parts(monkeypatch):
    x = images(np.random.RandomState(0), 11, 4)
    whole = pixels.find_pixels(x, np)
    monkeypatch.setattr(pixels, "_CHUNK", 12)
    parts = pixels.find_pixels(x, np)
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(one, other)
    x[10, 3] = 0.7
    assert pixels.find_pixels(x, np) is None


@pytest.mark.parametrize("scale", [0, 50, 300])
@pytest.mark.parametrize(
    ("n", "k", "m"), [(5, 3, 4), (6, 250, 3), (3, LARGEST, 2), (3, LARGEST + 1, 2)]
)
def test_the_error_is_bounded_in_both_directions(n, k, m, scale):
    """Columns of all sizes, beyond float32's range too, where the other products are taken."""
    rng = np.random.RandomState(0)
    x = images(rng, n, k)
    x[0, 0] = 1.0
    for left, array in ((x, prepared(x)), (x.T, prepared(x).T)):
        b = rng.uniform(-1, 1, (left.shape[1], m)) * 2.0 ** rng.randint(-scale, scale + 1, m)
        found = to_numpy(array @ NS.asarray(b))
        for i in range(min(5, len(left))):
            for j in range(m):
                bound = 2.0**-40 * left.shape[1] * np.max(np.abs(b[:, j]))
                assert abs(Fraction(found[i, j]) - exact(left, b, i, j)) <= Fraction(bound)


def test_no_sum_is_rounded_at_the_longest_inner_dimension():
    """All pixels white and all values near the largest: the case that the number of bits is for."""
    rng = np.random.RandomState(1)
    x = images(rng, 3, LARGEST, np.full((3, LARGEST), 255))
    b = 1.0 - rng.randint(0, 2**20, (LARGEST, 5)) * 2.0**-50
    array, operand = prepared(x), NS.asarray(b)
    order = rng.permutation(LARGEST)
    other = prepared(x[:, order]) @ NS.asarray(b[order])
    assert bits(array @ operand) == bits(other)
    head, tail = pixels.cuts.cut(operand, -2, pixels.BITS, NUMPY).slices
    whole = [int(v) for v in head[:, 0] * 2.0**35]
    assert 255 * LARGEST * max(map(abs, whole)) <= 2**53
    assert float((np.full(LARGEST, 255.0) @ head)[0]) * 2.0**35 == 255 * sum(whole)
    white, single = np.full(LARGEST, 255, np.float32), tail.astype(np.float32)
    np.testing.assert_array_equal(single, tail)
    assert float((white @ single)[0]) * 2.0**42 == 255 * sum(int(v) for v in tail[:, 0] * 2.0**42)


@pytest.mark.parametrize("transposed", [False, True])
def test_the_same_bits_under_any_order_and_any_split(transposed):
    rng = np.random.RandomState(2)
    x = images(rng, 60, 50)
    b = rng.uniform(-1, 1, (60 if transposed else 50, 20))
    order, rows = rng.permutation(len(b)), slice(7, 23)

    def product(x, b):
        array = prepared(x)
        return to_numpy((array.T if transposed else array) @ NS.asarray(b))

    found = product(x, b)
    permuted = product(x[order] if transposed else x[:, order], b[order])
    assert bits(permuted) == bits(found)
    part = product(x[:, rows] if transposed else x[rows], b[:, 3:9])
    assert bits(part) == bits(found[rows, 3:9])


def test_products_are_alike_on_every_backend(backend):
    rng = np.random.RandomState(3)
    x, w, d = images(rng, 30, 40), rng.uniform(-1, 1, (40, 7)), rng.uniform(-1, 1, (12, 5))
    rows = rng.permutation(30)[:12]

    def products(ns, move, order):
        batch = ns.take(ns.prepare(move(x)), order, axis=0)
        assert batch.pixels is not None
        return to_numpy(batch @ move(w)), to_numpy(batch.T @ move(d))

    ns = reproducible.namespace(backend.xp)
    expected = products(NS, NS.asarray, NS.asarray(rows))
    moved = ns.wrap(backend.asarray(rows))
    found = products(ns, lambda value: put(ns, backend, value), moved)
    assert list(map(bits, found)) == list(map(bits, expected))


def test_black_columns_have_no_gradient_and_black_rows_no_output():
    rng = np.random.RandomState(4)
    levels = rng.randint(0, 256, (9, 6))
    levels[:, 2] = levels[5] = 0
    array = prepared(images(rng, 9, 6, levels))
    assert not np.any(to_numpy(array.T @ NS.asarray(rng.uniform(-1, 1, (9, 4))))[2])
    found = to_numpy(array @ NS.asarray(-rng.uniform(0, 1, (6, 4))))
    assert not np.any(found[5])
    assert not np.any(np.signbit(found[5]))


def test_not_finite_operands_are_as_ieee_has_them():
    x = images(np.random.RandomState(5), 4, 3)
    x[0, 0] = 0.0
    b = np.array([[np.inf, 1.0], [1.0, np.nan], [1.0, 1.0]])
    with np.errstate(invalid="ignore"):
        expected, found = x @ b, to_numpy(prepared(x) @ NS.asarray(b))
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    np.testing.assert_array_equal(np.isinf(found), np.isinf(expected))


def test_what_is_changed_in_place_is_no_image_any_more():
    array = prepared(images(np.random.RandomState(6), 4, 3))
    wider = NS.take(array, NS.asarray(np.arange(4)), axis=0)
    wider += 1.0
    assert wider.pixels is None
    w = NS.asarray(np.ones((3, 1)))
    np.testing.assert_allclose(to_numpy(wider @ w), to_numpy(array @ w) + 3.0, rtol=1e-12)
