"""`xpnn.reproducible`: `matmul` and `sum`, against exact rationals and in any order."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers import NUMPY, bits, put
from xpnn import reproducible
from xpnn.backends import get_backend, to_numpy
from xpnn.reproducible import cuts

TRAINING = reproducible.arithmetic(NUMPY)
FULL = reproducible.arithmetic(NUMPY, precision="full")
KINDS = ("normal", "equal", "rows", "huge", "wide", "widest", "cancelling")
LARGEST = {"float64": Fraction(2) ** 1023, "float32": Fraction(2) ** 127}


def exact(a, b):
    """Return the product as rationals."""
    a = [[Fraction(float(v)) for v in row] for row in a]
    b = [[Fraction(float(v)) for v in row] for row in b.T]
    return [[sum((x * y for x, y in zip(r, c, strict=True)), Fraction(0)) for c in b] for r in a]


def normal(rng, *shape):
    return rng.uniform(-1, 1, shape)


def operands(kind, m, k, n, rng):
    a, b = normal(rng, m, k), normal(rng, k, n)
    match kind:
        case "equal":
            a, b = np.ones((m, k)) * (1 / 3), np.ones((k, n)) * (1 - 2.0**-53)
        case "rows":
            a *= 10.0 ** rng.randint(-40, 40, (m, 1))
            b *= 10.0 ** rng.randint(-40, 40, (1, n))
        case "huge":
            a *= 10.0 ** rng.choice([-290, 0, 290], (m, 1))
            b *= 10.0 ** rng.choice([-290, 0, 10], (1, n))
        case "wide":
            a *= 10.0 ** rng.randint(-20, 20, (m, k))
            b *= 10.0 ** rng.randint(-20, 20, (k, n))
        case "widest":
            a *= 10.0 ** rng.randint(-300, 140, (m, k))
            b *= 10.0 ** rng.randint(-140, 140, (k, n))
        case "cancelling":
            a[:, k // 2 :] = a[:, : k - k // 2]
            b[k // 2 :, :] = -b[: k - k // 2, :]
            a[:, 0] += 1e-9
    return a, b


def product(ns, a, b):
    with np.errstate(over="ignore", invalid="ignore"):
        return to_numpy(ns.asarray(a) @ ns.asarray(b))


@pytest.mark.parametrize("inner", [1, 2, 100, 784, 2048, 2049, 5000])
@pytest.mark.parametrize("kind", KINDS[:5])
def test_training_bound(kind, inner):
    a, b = operands(kind, 3, inner, 2, np.random.RandomState(inner))
    found, wanted = product(TRAINING, a, b), exact(a, b)
    for i, j in np.ndindex(3, 2):
        if not np.isfinite(found[i, j]):
            assert abs(wanted[i][j]) >= LARGEST["float64"]
            continue
        scale = inner * Fraction(float(abs(a[i]).max())) * Fraction(float(abs(b[:, j]).max()))
        error = abs(Fraction(float(found[i, j])) - wanted[i][j])
        assert error <= scale / 2**40 + abs(wanted[i][j]) / 2**53 + Fraction(2) ** -1021


@pytest.mark.parametrize("inner", [1, 2, 100, 784, 2048, 2049, 5000])
@pytest.mark.parametrize("kind", ["normal", "equal", "rows", "wide"])
def test_training_bound_in_float32(kind, inner):
    a, b = operands(kind, 3, inner, 2, np.random.RandomState(inner))
    if kind == "rows":
        a, b = np.sign(a) * np.sqrt(abs(a)), np.sign(b) * np.sqrt(abs(b))
    a, b = (x.astype(np.float32) for x in (a, b))
    found, wanted = product(TRAINING, a, b), exact(a, b)
    assert found.dtype == np.float32
    for i, j in np.ndindex(3, 2):
        if not np.isfinite(found[i, j]):
            assert abs(wanted[i][j]) >= LARGEST["float32"]
            continue
        scale = inner * Fraction(float(abs(a[i]).max())) * Fraction(float(abs(b[:, j]).max()))
        error = abs(Fraction(float(found[i, j])) - wanted[i][j])
        bound = scale / 2 ** (19 if inner <= 2**11 else 29)
        rounding = (abs(wanted[i][j]) + bound) / 2**24
        assert error <= bound + rounding + Fraction(2) ** -125


@pytest.mark.parametrize("inner", [1, 7, 100, 1500])
@pytest.mark.parametrize("kind", KINDS)
def test_full_is_correctly_rounded_or_nearly(kind, inner):
    a, b = operands(kind, 2, inner, 2, np.random.RandomState(inner))
    found, wanted, size = product(FULL, a, b), exact(a, b), exact(abs(a), abs(b))
    with np.errstate(all="ignore"):
        native = a @ b
    for i, j in np.ndindex(2, 2):
        if not np.isfinite(found[i, j]):
            assert abs(wanted[i][j]) >= LARGEST["float64"]
            continue
        error = abs(Fraction(float(found[i, j])) - wanted[i][j])
        slack = size[i][j] / 2**80 + Fraction(2) ** -1019
        assert error <= abs(wanted[i][j]) / 2**53 + slack
        if np.isfinite(native[i, j]):
            assert error <= abs(Fraction(float(native[i, j])) - wanted[i][j]) + slack


def test_full_overflows_as_the_true_value_does():
    """Partial sums of the two magnitudes overflow with different signs."""
    a = [float.fromhex("0x1.b8b533d821cccp+702"), float.fromhex("0x1.2ab9f7e7f5250p+680")]
    b = [float.fromhex("-0x1.7483b1613ed08p+494"), float.fromhex("0x1.715aa4334b138p+370")]
    assert product(FULL, np.asarray([a]), np.asarray([b]).T) == -np.inf
    rng = np.random.RandomState(0)
    for case in range(40):
        k = rng.randint(1, 6)
        a, b = np.ldexp(normal(rng, 2, 2, k), rng.randint(400 - 100 * (case % 2), 700, (2, 2, k)))
        b = b.T.copy()
        if case % 3 == 0:
            a[:, -1], b[-1] = a[:, 0], -b[0] * (1 + 2.0**-40)
        found, wanted, size = product(FULL, a, b), exact(a, b), exact(abs(a), abs(b))
        for i, j in np.ndindex(2, 2):
            slack = size[i][j] / 2**80
            if np.isinf(found[i, j]):
                assert abs(wanted[i][j]) + slack >= LARGEST["float64"]
                assert (found[i, j] > 0) == (wanted[i][j] > 0)
            else:
                error = abs(Fraction(float(found[i, j])) - wanted[i][j])
                assert error <= abs(wanted[i][j]) / 2**53 + slack


@pytest.mark.parametrize("ns", [TRAINING, FULL], ids=reproducible.PRECISIONS)
@pytest.mark.parametrize("terms", [1, 3, 1000, 20000])
def test_sum_bound(ns, terms):
    rng = np.random.RandomState(terms)
    spread = normal(rng, terms) * 10.0 ** rng.randint(-250, 250, terms)
    for x in (normal(rng, terms), spread, np.ones(terms) / 3):
        wanted = sum(map(Fraction, map(float, x)), Fraction(0))
        error = abs(Fraction(float(ns.sum(ns.asarray(x)))) - wanted)
        bound = terms * Fraction(float(abs(x).max())) / 2**43
        if ns is FULL:
            bound = sum(map(Fraction, map(float, abs(x))), Fraction(0)) / 2**80
        assert error <= bound + abs(wanted) / 2**53


@pytest.mark.parametrize("name", [f"{sign}int{n}" for sign in ("", "u") for n in (8, 16, 32, 64)])
def test_integers_that_became_floats_are_summed_as_what_they_are(backend, dtype, name):
    xp = reproducible.namespace(backend.name, device=backend.options()["device"])
    host = np.arange(1, 7).reshape(2, 3)
    square = host @ host.T
    for n in (1, 10, 1000):  # much smaller than what the dtype could hold
        if n * 6 > np.iinfo(name).max:
            continue
        x = xp.astype(xp.asarray(n * host, dtype=getattr(xp, name)), getattr(xp, dtype))
        y = xp.asarray((n * host).tolist(), dtype=getattr(xp, dtype))
        for own in (x, y):
            assert float(xp.sum(own)) == 21 * n
            assert float(xp.mean(own)) == 3.5 * n
            np.testing.assert_allclose(float(xp.var(own)), 35 / 12 * n * n, rtol=1e-6)
            assert to_numpy(own @ own.T).tolist() == (n * n * square).tolist()
            assert float(xp.vecdot(own[0, :], own[1, :])) == 32 * n * n
            assert to_numpy(xp.tensordot(own, own.T, axes=1)).tolist() == (n * n * square).tolist()


@pytest.mark.parametrize("ns", [TRAINING, FULL], ids=reproducible.PRECISIONS)
@given(data=st.data())
@settings(max_examples=40, deadline=None, derandomize=True)
def test_order_and_splits_do_not_matter(ns, data):
    m, k, n = (data.draw(st.integers(1, top)) for top in (6, 40, 6))
    rng = np.random.RandomState(data.draw(st.integers(0, 2**31 - 1)))
    a, b = operands(data.draw(st.sampled_from(KINDS[:6])), m, k, n, rng)
    if data.draw(st.booleans()):
        a[rng.randint(m)] = data.draw(st.sampled_from([0.0, -0.0, np.inf, np.nan, 1e-300, 1e300]))
        b[:, rng.randint(n)] = data.draw(st.sampled_from([0.0, -1.0, -np.inf, 1e-290]))
    order = rng.permutation(k)
    i, j = data.draw(st.integers(0, m)), data.draw(st.integers(0, n))
    whole = bits(product(ns, a, b))
    assert whole == bits(product(ns, a[:, order], b[order]))
    assert whole == bits(np.concatenate([product(ns, a[:i], b), product(ns, a[i:], b)]))
    assert whole == bits(np.concatenate([product(ns, a, b[:, :j]), product(ns, a, b[:, j:])], 1))
    w = ns.asarray
    with np.errstate(over="ignore", invalid="ignore"):
        if ns is TRAINING:  # full adds in an order that knows left from right
            assert whole == bits((w(b).T @ w(a).T).T)
        total = bits(ns.sum(w(a), axis=1))
        assert total == bits(ns.sum(w(a[:, order]), axis=1))
        assert total == bits(ns.sum(w(a).T, axis=0))
        parts = [to_numpy(ns.sum(w(part), axis=1)) for part in (a[:i], a[i:])]
        assert total == bits(np.concatenate(parts))
        assert bits(ns.sum(w(a))) == bits(ns.sum(w(a[:, order].T)))


@pytest.mark.parametrize("dtype", ["float64"])
@pytest.mark.parametrize("precision", reproducible.PRECISIONS)
def test_infinities_and_nan_are_as_in_ieee(backend, precision):
    ns = reproducible.arithmetic(backend.xp, precision=precision)
    values = [0.0, 1.5, -2.0, np.inf, -np.inf, np.nan]
    pairs = np.array([(p, q) for p in values for q in values])
    with np.errstate(all="ignore"):
        wanted = np.array([[p[0] * q[0] + p[1] * q[1] for q in pairs] for p in pairs])
        total = pairs.sum(axis=1)
    left, right = put(ns, backend, pairs), put(ns, backend, pairs.T)
    np.testing.assert_array_equal(to_numpy(left @ right), wanted)
    np.testing.assert_array_equal(to_numpy(ns.sum(left, axis=1)), total)


@pytest.mark.parametrize("dtype", ["float64"])
def test_inner_dimension_of_a_million(backend):
    rng = np.random.RandomState(3)
    a, b = normal(rng, 2, 2**20), normal(rng, 2**20, 2)
    found = bits(product(TRAINING, a, b))
    error = abs(product(TRAINING, a[:1], b[:, :1])[0, 0] - math.fsum(a[0] * b[:, 0]))
    # each of the products above is rounded
    assert error <= 2**20 * (2.0**-40 + 2.0**-53)
    ns = reproducible.arithmetic(backend.xp)
    assert bits(put(ns, backend, a) @ put(ns, backend, b)) == found


@pytest.mark.parametrize("shape", [(7, 5), (784, 100)])
def test_slices_may_have_bits_of_their_own(shape):
    x = normal(np.random.RandomState(0), *shape)
    head, tail = cuts.cut(TRAINING.asarray(x), -2, (35, 6), NUMPY).slices
    unit = 2.0 ** np.ceil(np.log2(np.max(np.abs(x), axis=0)))
    for piece, quantum, most in ((head, 2.0**-35, 2**35), (tail, 2.0**-42, 2**6)):
        scaled = piece / (unit * quantum)
        assert np.all(scaled == np.round(scaled))
        assert np.max(np.abs(scaled)) <= most
    assert np.all(np.abs(x - head - tail) <= unit * 2.0**-43)


@pytest.mark.parametrize("shape", [(7, 5), (784, 100), (100, 784), (2**15, 2)])
@pytest.mark.parametrize("axis", [-1, -2])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_cut_has_as_many_slices_as_were_asked_for(shape, axis, count):
    x = normal(np.random.RandomState(0), *shape)
    pieces = cuts.cut(TRAINING.asarray(x), axis, (16,) * count, NUMPY).slices
    assert [piece.shape for piece in pieces] == [shape] * count
    largest = np.max(np.abs(x), axis=axis, keepdims=True)
    assert np.all(np.abs(x - sum(pieces)) <= largest * 2.0 ** (1 - 17 * count))


def test_a_too_long_inner_dimension_is_refused():
    with pytest.raises(ValueError, match=r"2\*\*21"):
        cuts.bits_for(2**21 + 1)


@pytest.mark.parametrize("dtype", ["float64"])
@pytest.mark.parametrize("precision", reproducible.PRECISIONS)
def test_empty_operands(backend, precision):
    ns = reproducible.arithmetic(backend.xp, precision=precision)
    for m, k, n in ((0, 3, 2), (2, 0, 3), (2, 3, 0), (0, 0, 0)):
        a, b = put(ns, backend, np.ones((m, k))), put(ns, backend, np.ones((k, n)))
        np.testing.assert_array_equal(to_numpy(a @ b), np.zeros((m, n)))
    empty = put(ns, backend, np.ones((0, 2)))
    assert float(ns.sum(empty)) == 0.0
    np.testing.assert_array_equal(to_numpy(ns.sum(empty, axis=0)), [0, 0])
    assert np.isnan(float(ns.mean(put(ns, backend, np.ones(0)))))


def test_slices_have_few_bits_on_one_grid_and_add_up():
    rng = np.random.RandomState(0)
    x = normal(rng, 50, 40) * np.exp(rng.uniform(-20, 20, (50, 1)))
    cut = cuts.cut(TRAINING.asarray(x), -1, (21, 21), NUMPY)
    unit = 2.0 ** np.ceil(np.log2(abs(x).max(1, keepdims=True)))
    for depth, piece in zip((21, 43), cut.slices, strict=True):
        scaled = piece / (unit * 2.0**-depth)
        assert np.all(scaled == np.round(scaled))
        assert np.all(abs(scaled) <= 2**21)
    assert np.all(abs(x - cut.slices[0] - cut.slices[1]) <= unit * 2.0**-44)


@pytest.mark.parametrize("inner", [2**11, 2**17])
def test_products_of_slices_are_exact_at_the_longest_inner_dimensions(inner):
    """All terms near the largest and of one sign: the case that the number of bits is for."""
    bits_of_slice = cuts.bits_for(inner)
    odd = np.random.RandomState(0).randint(0, 2**40, (6, inner)) * 2.0**-50
    left = cuts.cut(TRAINING.asarray(1.0 - odd[:3]), -1, (bits_of_slice,) * 2, NUMPY).slices
    right = cuts.cut(TRAINING.asarray(1.0 - odd[3:].T), -2, (bits_of_slice,) * 2, NUMPY).slices
    units = 2.0**bits_of_slice, 2.0 ** (2 * bits_of_slice + 1)
    for p, q in ((0, 0), (0, 1), (1, 0)):
        whole = (left[p] * units[p]).astype(np.int64) @ (right[q] * units[q]).astype(np.int64)
        found = (left[p] @ right[q]) * (units[p] * units[q])
        assert found.astype(np.int64).tolist() == whole.tolist()


def test_prepared_data_needs_no_maxima_and_is_exact():
    ns, rng = TRAINING, np.random.RandomState(0)
    x = (rng.randint(0, 256, (50, 40)) / 255).astype(np.float32).astype(np.float64)
    x[0, 0] = 1.0
    prepared = ns.prepare(ns.asarray(x))
    batch = ns.take(prepared, ns.asarray(np.arange(10)), axis=0)
    assert prepared.facts == batch.facts
    assert prepared.facts.bounds() == (-32, 0, None)
    cut = cuts.cut(batch.T, -1, (21, 21), NUMPY)
    np.testing.assert_array_equal(cut.slices[0] + cut.slices[1], x[:10].T)
    w = normal(rng, 40, 7)
    np.testing.assert_allclose(to_numpy(prepared @ ns.asarray(w)), x @ w, rtol=0, atol=1e-10)
    whole = ns.prepare(ns.asarray(np.arange(12.0).reshape(3, 4)))
    assert whole.facts.bounds() == (-4, 4, None)
    assert ns.prepare(ns.asarray(normal(rng, 9))).facts.high is None
    assert ns.prepare(ns.asarray(np.float32([1.0, 1e-20]))).facts.high is None


def large(ns, backend):
    """Results of operands that are large enough to be cut in other ways than small ones."""
    rng = np.random.RandomState(3)
    tall = rng.standard_normal((5000, 7))
    tall[-1] *= 1e6
    # so many of one sign that a sum of slices of 43 bits is rounded on its way
    terms = rng.uniform(0.5, 1, (20_000, 8))
    pixels = (rng.randint(0, 256, (400, 784)) / 255).astype(np.float32)
    weights = rng.standard_normal((784, 50))
    subnormal = rng.standard_normal(1000) * 2.0**-130
    order = put(ns, backend, rng.permutation(400)[:100], "int64")
    x = ns.take(ns.prepare(put(ns, backend, pixels)), order, axis=0)
    found = {
        "sum": ns.sum(put(ns, backend, terms), axis=0),
        "tall": ns.matrix_transpose(put(ns, backend, tall)) @ put(ns, backend, tall),
        "columns": put(ns, backend, tall[:3000]) @ put(ns, backend, tall[:7]),
        "pixels": x @ put(ns, backend, weights),
        "gradient": ns.matrix_transpose(x) @ put(ns, backend, weights[:100]),
        "float32": ns.astype(put(ns, backend, subnormal), ns.float32),
    }
    return {name: backend.to_numpy(ns.unwrap(array)) for name, array in found.items()}


def test_large_operands_have_the_same_bits_everywhere(backend):
    with backend.scope():
        found = large(reproducible.arithmetic(backend.xp), backend)
    known = large(TRAINING, get_backend(dtype="float64"))
    assert [name for name in known if bits(known[name]) != bits(found[name])] == []
