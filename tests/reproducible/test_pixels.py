"""`xpnn.reproducible.pixels`: images as levels, and their products against exact rationals."""

from fractions import Fraction

import numpy as np
import pytest

from tests.helpers import NUMPY, bits, put
from xpnn import reproducible
from xpnn.backends import to_numpy
from xpnn.reproducible import pixels

NS = reproducible.arithmetic(NUMPY)


def images(rng, n, k, levels=None):
    levels = rng.randint(0, 256, (n, k)) if levels is None else levels
    return (levels / 255).astype(np.float32).astype(np.float64)


def exact(a, b, i, j):
    return sum((Fraction(x) * Fraction(y) for x, y in zip(a[i], b[:, j], strict=True)), Fraction(0))


def prepared(x, ns=NS):
    array = ns.prepare(ns.asarray(x))
    assert array.facts.pixels is not None
    return array


def test_each_of_the_256_values_is_near_to_its_level():
    x = images(None, 1, 256, np.arange(256)[None, :])
    np.testing.assert_array_equal(pixels.levels_of(x, np)[0], np.arange(256))
    assert pixels.find_pixels([x], np) == (255 * 128, 255)
    for p, value in enumerate(map(Fraction, x[0])):
        assert abs(value - Fraction(pixels.SLOPE) * p) <= Fraction(pixels.NEAR) * p
        assert (value / Fraction(pixels.GRID)).denominator == 1


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
    assert pixels.find_pixels([x], np) is None
    assert NS.prepare(NS.asarray(x)).facts.pixels is None


def test_a_set_is_looked_at_in_parts(monkeypatch):
    x = images(np.random.RandomState(0), 11, 4)
    levels = np.rint(x * 255)
    whole = levels.sum(axis=1).max(), levels.max()
    assert pixels.find_pixels([x], np) == whole
    monkeypatch.setattr(pixels, "_CHUNK", 12)
    assert pixels.find_pixels([x], np) == whole
    x[10, 3] = 0.7
    assert pixels.find_pixels([x], np) is None


@pytest.fixture
def taken(monkeypatch):
    """Of each product of images, whether it was made by levels."""
    results = []
    product = pixels.product

    def noted(a, b, xp):
        found = product(a, b, xp)
        if a.facts.pixels is not None or a.original is not None:
            results.append(found is not None)
        return found

    monkeypatch.setattr(pixels, "product", noted)
    return results


def dark(rng, n, k, total):
    """Levels of which each row adds up to `total` pixels, all in one place or spread out."""
    levels = np.zeros((n, k))
    levels[:, : total + 1] = 255
    levels[:, total // 2] = 1
    levels[:, total // 3] = 254
    return np.stack([rng.permutation(row) for row in levels])


@pytest.mark.parametrize("scale", [0, 50, 300])
@pytest.mark.parametrize(
    ("n", "k", "total", "by_levels"),
    [
        (5, 3, None, True), (6, 126, None, True), (6, 127, 126, True), (6, 140, 139, False),
        (126, 5, None, True), (127, 5, None, False), (3, 784, 313, True), (3, 784, 317, False),
        (2, 9000, 1000, True), (2, 9000, 1030, False),
    ],
)  # fmt: skip
def test_the_error_is_bounded_in_both_directions(taken, n, k, total, by_levels, scale):
    """Up to the brightest images and the largest mini-batches that are taken by levels."""
    rng = np.random.RandomState(0)
    x = images(rng, n, k, None if total is None else dark(rng, n, k, total))
    x[0, 0] = 1.0
    for left, array in ((x, prepared(x)), (x.T, prepared(x).T)):
        terms = left.shape[1]
        b = rng.uniform(-1, 1, (terms, 3)) * 2.0 ** rng.randint(-scale, scale + 1, 3)
        b[:, 1] = b[0, 1] * (1 - np.arange(terms) * 2.0**-41)  # all cut the same way
        found = to_numpy(array @ NS.asarray(b))
        for i in range(min(5, len(left))):
            for j in range(3):
                bound = 2.0**-40 * terms * np.max(np.abs(b[:, j]))
                assert abs(Fraction(found[i, j]) - exact(left, b, i, j)) <= Fraction(bound)
    assert by_levels == all(taken)


@pytest.mark.parametrize("size", 2.0 ** (np.arange(8) / 8))
@pytest.mark.parametrize(("k", "total"), [(126, None), (784, 313), (9000, 1000)])
def test_no_sum_is_rounded_where_images_are_brightest(taken, k, total, size):
    """And where all values are near the largest, wherever that is between powers of two."""
    rng = np.random.RandomState(1)
    x = images(rng, 3, k, np.full((3, k), 255) if total is None else dark(rng, 3, k, total))
    b = size * (1.0 - rng.randint(0, 2**20, (k, 2)) * 2.0**-30)
    array, operand = prepared(x), NS.asarray(b)
    order = rng.permutation(k)
    other = prepared(x[:, order]) @ NS.asarray(b[order])
    assert bits(array @ operand) == bits(other)
    assert taken == [True, True]
    (found,) = [kept for name, kept in operand.kept.items() if name[0] == -2]
    (unit,) = [kept for name, kept in operand.kept.items() if name[0] == "unit"]
    quantum = Fraction(float(np.ravel(unit)[0]))
    for part, unit, values in (
        (found.slices[0], quantum, x * 2.0**31),
        (found.slices[1], quantum / 2**32, np.rint(x * 255)),
    ):
        whole = [Fraction(v) / unit for v in part[:, 0]]
        assert all(v.denominator == 1 for v in whole)
        for row in values:
            assert sum(int(p) * abs(v) for p, v in zip(row, whole, strict=True)) <= 2**53


@pytest.mark.parametrize("transposed", [False, True])
def test_the_same_bits_under_any_order_and_any_split(transposed):
    rng = np.random.RandomState(2)
    x = images(rng, 60, 50)
    x[3] = 1.0  # the brightest is in no part, but has no brighter level
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
        assert batch.facts.pixels is not None
        return to_numpy(batch @ move(w)), to_numpy(batch.T @ move(d))

    ns = reproducible.arithmetic(backend.xp)
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


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("other", [np.nan, np.inf, -np.inf, 1e150, 1e-130, 1e-320])
def test_a_column_that_is_out_of_range_changes_no_other(other, transposed, taken):
    rng = np.random.RandomState(5)
    array = prepared(images(rng, 30, 30))
    array = array.T if transposed else array
    b = rng.uniform(-1, 1, (30, 3))
    b[:, 1] *= other if np.isfinite(other) and other < 1 else 1.0
    b[5, 1] = other
    with np.errstate(invalid="ignore"):
        found = to_numpy(array @ NS.asarray(b))
        expected = to_numpy(array) @ b
        for j in range(3):
            assert bits(found[:, [j]]) == bits(to_numpy(array @ NS.asarray(b[:, [j]])))
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    np.testing.assert_array_equal(np.isinf(found), np.isinf(expected))
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9 * np.max(np.abs(b[:, [0, 2]])))
    assert all(taken)


def test_a_row_that_is_out_of_range_changes_no_block_of_columns():
    """A small operand has its rows looked at together with its columns."""
    rng = np.random.RandomState(8)
    array, b = prepared(images(rng, 4, 20)), rng.uniform(-1, 1, (20, 30))
    b[7] *= 1e-130
    found = to_numpy(array @ NS.asarray(b))
    clean = b.copy()
    clean[7] = 0.0
    assert bits(found) == bits(array @ NS.asarray(clean))


def test_what_is_changed_in_place_is_no_image_any_more():
    array = prepared(images(np.random.RandomState(6), 4, 3))
    wider = NS.take(array, NS.asarray(np.arange(4)), axis=0)
    wider += 1.0
    assert wider.facts.pixels is None
    w = NS.asarray(np.ones((3, 1)))
    np.testing.assert_allclose(to_numpy(wider @ w), to_numpy(array @ w) + 3.0, rtol=1e-12)
