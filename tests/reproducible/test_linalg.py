"""`xp.linalg`: against mpmath and the factors' own properties, and the same bits everywhere."""

from fractions import Fraction

import mpmath
import numpy as np
import pytest

from xpnn import reproducible
from xpnn.testing import assert_same_bits

XP = reproducible.namespace("numpy")
RNG = np.random.default_rng(3)
SIZES = (1, 2, 3, 6)


def matrix(size, seed=0, columns=None):
    return np.random.default_rng(seed).normal(size=(size, columns or size))


def close(found, expected, scale=1.0, units=20):
    """Hold an array to another one within some units of 2^-53 times a scale."""
    error = np.abs(np.asarray(found, dtype=float) - np.asarray(expected, dtype=float)).max(
        initial=0
    )
    assert error <= units * 2.0**-53 * scale, (error, scale)


@pytest.mark.parametrize("size", SIZES)
def test_elimination(size):
    host = matrix(size) + 2 * np.eye(size)
    a, b = XP.asarray(host), XP.asarray(matrix(size, 1, 2))
    with mpmath.workprec(200):
        exact = mpmath.matrix(host.tolist())
        inverse = np.array((exact**-1).tolist(), dtype=float)
        determinant = float(mpmath.det(exact))
        right = mpmath.matrix(matrix(size, 1, 2)[:, 0].tolist())
        solution = np.array(mpmath.lu_solve(exact, right), dtype=float).reshape(-1)
    condition = np.linalg.cond(host)
    close(XP.linalg.inv(a), inverse, condition * np.abs(inverse).max())
    close(XP.linalg.solve(a, b)[:, 0], solution, condition * np.abs(solution).max())
    close(XP.linalg.solve(a, b[:, 0]), solution, condition * np.abs(solution).max())
    close(XP.linalg.det(a), determinant, condition * abs(determinant))
    sign, logarithm = XP.linalg.slogdet(a)
    assert float(sign) == np.sign(determinant)
    close(logarithm, np.log(abs(determinant)), condition)
    close(
        XP.linalg.matrix_power(a, -2),
        inverse @ inverse,
        condition**2 * np.abs(inverse).max() ** 2,
        2**15,
    )


@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (5, 3), (3, 5), (4, 1)])
def test_orthogonal_factors(shape):
    host = matrix(*shape[:1], 2, shape[1])
    a, norm = XP.asarray(host), np.linalg.norm(host)
    for mode in ("reduced", "complete"):
        q, r = (np.asarray(part) for part in XP.linalg.qr(a, mode=mode))
        close(q @ r, host, norm)
        close(q.T @ q, np.eye(q.shape[1]))
        assert np.array_equal(r, np.triu(r))
    for full in (True, False):
        u, s, vh = (np.asarray(part) for part in XP.linalg.svd(a, full_matrices=full))
        close((u[:, : len(s)] * s) @ vh[: len(s)], host, norm)
        close(u.T @ u, np.eye(u.shape[1]))
        close(vh @ vh.T, np.eye(vh.shape[0]))
        assert np.all(np.diff(s) <= 0)
    with mpmath.workprec(200):
        exact = [float(v) for v in mpmath.svd_r(mpmath.matrix(host.tolist()), compute_uv=False)]
    close(XP.linalg.svdvals(a), exact, norm)
    assert int(XP.linalg.matrix_rank(a)) == min(shape)
    close(
        np.asarray(XP.linalg.pinv(a)), np.linalg.pinv(host), np.linalg.cond(host) ** 2 / norm, 100
    )


@pytest.mark.parametrize("size", SIZES)
def test_symmetric_matrices(size):
    host = matrix(size, 4)
    host = host + host.T
    values, vectors = (np.asarray(part) for part in XP.linalg.eigh(XP.asarray(host)))
    norm = np.linalg.norm(host)
    with mpmath.workprec(200):
        exact = sorted(
            float(v) for v in mpmath.eigsy(mpmath.matrix(host.tolist()), eigvals_only=True)
        )
    close(values, exact, norm)
    close(vectors @ np.diag(values) @ vectors.T, host, norm, 60)
    close(vectors.T @ vectors, np.eye(size))
    positive = host @ host.T + np.eye(size)
    lower = np.asarray(XP.linalg.cholesky(XP.asarray(positive)))
    close(lower @ lower.T, positive, np.linalg.norm(positive))
    assert np.array_equal(lower, np.tril(lower))
    assert np.array_equal(np.asarray(XP.linalg.cholesky(XP.asarray(positive), upper=True)), lower.T)


def test_hard_matrices():
    """Singular ones, equal singular values, and elements whose squares are out of range."""
    for host in (
        np.zeros((3, 3)), np.ones((4, 4)), np.eye(4), np.diag([3.0, 3.0, 0.0]),
        matrix(3, 5) * 1e200, matrix(3, 5) * 1e-200, np.array([[1.0, 1.0], [0.0, 1e-12]]),
    ):  # fmt: skip
        u, s, vh = (np.asarray(part) for part in XP.linalg.svd(XP.asarray(host)))
        norm = np.abs(host).max() * 4
        close((u * s) @ vh, host, norm)
        close(u.T @ u, np.eye(len(host)))
        close(s, np.linalg.svd(host)[1], norm)
    assert float(XP.linalg.det(XP.ones((3, 3)))) == 0.0
    assert float(XP.linalg.slogdet(XP.zeros((2, 2))).logabsdet) == -np.inf
    large = XP.asarray([3e200, 4e200])
    assert float(XP.linalg.vector_norm(large)) == pytest.approx(5e200, rel=1e-15)
    assert float(XP.linalg.vector_norm(large * 1e-300 * 1e-150)) == pytest.approx(5e-250, rel=1e-15)


# the largest number is below 2^1024
@pytest.mark.parametrize("exponent", [0, 1009, 1021, -950])
@pytest.mark.parametrize("shape", [(2, 2), (3, 3), (5, 3), (3, 5)])
def test_matrices_at_the_ends_of_the_range(shape, exponent):
    """Factors are those of the same matrix times 2^-exponent, up to their scale."""
    host = np.random.default_rng(8).integers(-7, 8, shape) + 8.0 * np.eye(*shape)
    host /= 4.0 if exponent > 0 else 1.0  # at most 3.75
    a = XP.asarray(np.ldexp(host, exponent))
    norm = np.linalg.norm(host)
    q, r = map(np.asarray, XP.linalg.qr(a))
    close(q @ np.ldexp(r, -exponent), host, norm)
    close(q.T @ q, np.eye(q.shape[1]))
    u, s, vh = map(np.asarray, XP.linalg.svd(a, full_matrices=False))
    with mpmath.workprec(200):
        exact = [float(v) for v in mpmath.svd_r(mpmath.matrix(host.tolist()), compute_uv=False)]
    close(np.ldexp(s, -exponent), exact, norm)
    close((u * np.ldexp(s, -exponent)) @ vh, host, norm)
    assert int(XP.linalg.matrix_rank(a)) == min(shape)
    # the least number is 2^-1021
    resolution = 2.0 ** max(exponent - 1021, -1000)
    inverse = np.ldexp(np.asarray(XP.linalg.pinv(a)), exponent)
    error = np.abs(inverse - np.linalg.pinv(host)).max()
    assert error <= 100 * 2.0**-53 * np.linalg.cond(host) ** 2 / norm + min(shape) * resolution
    if shape[0] == shape[1]:
        symmetric = (host + host.T) / 2.0
        values, vectors = map(np.asarray, XP.linalg.eigh(XP.asarray(np.ldexp(symmetric, exponent))))
        close(np.ldexp(values, -exponent), np.linalg.eigvalsh(symmetric), norm, 60)
        close(symmetric @ vectors, vectors * np.ldexp(values, -exponent), norm, 60)


def test_singular_values_of_the_least_numbers():
    """Squares of them times 2^500, which is enough for others, would be 0."""
    host = np.ldexp(np.array([[0.0, 3.0], [1.0, 0.0]]), -1015)
    for scale in (1.0, 2.0**40, 2.0**110):
        assert np.asarray(XP.linalg.svdvals(XP.asarray(host * scale))).tolist() == [
            3.0 * 2.0**-1015 * scale, 2.0**-1015 * scale
        ]  # fmt: skip
    assert int(XP.linalg.matrix_rank(XP.asarray(host))) == 2


def test_singular_vectors_of_tiny_columns_are_orthogonal():
    """Turns make a column that depends on others smaller and smaller, until its square is none."""
    rng = np.random.default_rng(11)
    equal = rng.normal(size=(40, 5, 3))
    equal[..., -1] = equal[..., 0]
    graded = rng.normal(size=(40, 4, 4)) * 2.0 ** rng.integers(-600, 1, (40, 1, 4))
    spread = rng.normal(size=(40, 4, 4)) * 2.0 ** rng.integers(-600, 1, (40, 4, 4))
    for host in (equal, equal * 1e290, graded, graded * 1e-90, spread, np.diag([1.0, 3e-154])):
        u, s, vh = map(np.asarray, XP.linalg.svd(XP.asarray(host), full_matrices=False))
        norm = np.abs(host).max(axis=(-2, -1), keepdims=True)
        close(np.swapaxes(u, -1, -2) @ u, np.eye(host.shape[-1]))
        close(vh @ np.swapaxes(vh, -1, -2), np.eye(host.shape[-1]))
        close((u * (s[..., None, :] / norm)) @ vh, host / norm)


def test_ranks_and_inverses_where_singular_values_are_out_of_range():
    for largest, dtype in ((1.7e308, XP.float64), (3e38, XP.float32)):
        equal = XP.full((2, 2), largest, dtype=dtype)
        turned = XP.asarray([[largest, largest], [largest, -largest]], dtype=dtype)
        assert np.asarray(XP.linalg.svdvals(equal))[0] == np.inf
        ranks = XP.linalg.matrix_rank(XP.stack([equal, turned, XP.eye(2, dtype=dtype)]))
        assert np.asarray(ranks).tolist() == [1, 2, 2]
    inverse = XP.linalg.pinv(XP.asarray([[1.7e308, 1.7e308], [1e300, -1e300]]))
    np.testing.assert_allclose(np.asarray(inverse), [[0.0, 5e-301], [0.0, -5e-301]], rtol=1e-7)


@pytest.mark.parametrize("order", [3, 100, 1.5, 0.5, -0.5, -1, -3])
def test_norms_whose_powers_are_out_of_range(order):
    rng = np.random.default_rng(6)
    for exponent in (-900, -400, 0, 400, 1020):
        host = np.ldexp(rng.uniform(1, 2, (20, 3)), exponent)
        host[:, 1] *= 2.0 ** -rng.integers(0, 30, 20)
        found = np.asarray(XP.linalg.vector_norm(XP.asarray(host), axis=1, ord=order))
        for row, norm in zip(host, found, strict=True):
            with mpmath.workprec(200):
                powers = [mpmath.mpf(x) ** mpmath.mpf(order) for x in row]
                exact = mpmath.fsum(powers) ** (1 / mpmath.mpf(order))
                if exact > 1.8e308:
                    assert norm == np.inf
                else:
                    # a sum up to 2^900, whose logarithm is 624, to the power 1 / order
                    assert abs(norm - exact) <= 1e-13 * exact
    rows = XP.asarray([[0.0, 1e300], [np.inf, 1e300], [np.nan, 1e300], [0.0, 0.0]])
    expected = [1e300, np.inf, np.nan, 0.0] if order > 0 else [0.0, 1e300, np.nan, 0.0]
    found = np.asarray(XP.linalg.vector_norm(rows, axis=1, ord=order))
    np.testing.assert_allclose(found, expected, rtol=1e-13)


def test_cross_products_whose_products_are_out_of_range():
    rng = np.random.default_rng(7)
    a = np.ldexp(rng.uniform(-2, 2, (60, 3)), rng.integers(-600, 1023, (60, 3)))
    b = np.ldexp(rng.uniform(-2, 2, (60, 3)), rng.integers(-100, 1023, (60, 3)))
    b[:20] = a[:20] * 0.75
    found = np.asarray(XP.linalg.cross(XP.asarray(a), XP.asarray(b)))
    for p, q, three in zip(a, b, found, strict=True):
        for k, one in enumerate(three):
            i, j = (k + 1) % 3, (k + 2) % 3
            terms = Fraction(p[i]) * Fraction(q[j]), Fraction(p[j]) * Fraction(q[i])
            exact = terms[0] - terms[1]
            # three roundings, and numbers below 2^-914
            bound = sum(map(abs, terms)) / 2**52 + Fraction(2.0**-966)
            if np.isinf(one):
                assert abs(exact) + bound > Fraction(np.finfo(float).max)
                assert (one > 0) == (exact > 0)
            else:
                assert abs(Fraction(one) - exact) <= bound
    a, b = np.array([np.inf, 1.0, 2.0]), np.array([[3.0, 4.0, 1.0], [3.0, np.nan, 0.0]])
    with np.errstate(invalid="ignore"):
        expected = np.cross(a, b)
    found = np.asarray(XP.linalg.cross(XP.asarray([a, a]), XP.asarray(b)))
    np.testing.assert_array_equal(found, expected)


def fractions_solved(rows, right):
    """Return the solution and the determinant, by elimination of fractions."""
    m = [[Fraction(x) for x in (*row, b)] for row, b in zip(rows, right, strict=True)]
    size, det = len(m), Fraction(1)
    for k in range(size):
        pivot = next(i for i in range(k, size) if m[i][k])
        m[k], m[pivot], det = m[pivot], m[k], det if pivot == k else -det
        det *= m[k][k]
        m[k] = [x / m[k][k] for x in m[k]]
        for i in range(size):
            if i != k:
                m[i] = [x - m[i][k] * y for x, y in zip(m[i], m[k], strict=True)]
    return [row[-1] for row in m], det


def test_elimination_of_large_numbers():
    """Differences in it are beyond the range, though solutions and determinants aren't."""
    large, small = 2.0**1023, 2.0**-500
    for rows in (
        [[large, large], [large, -large]],
        [[large, 1.0], [-large, 2.0]],
        [[1.0, large], [1.0, -large]],
        [[large, large, 0.0], [large, -large, 0.0], [0.0, 0.0, small]],
    ):
        for right in ([1e300, -2e300, 1.0], [1e308, -1e308, 1e-200], [3.0, 5.0, 0.0]):
            right = right[: len(rows)]
            exact, det = fractions_solved(rows, right)
            a, b = XP.asarray(rows), XP.asarray(right)
            found = np.asarray(XP.linalg.solve(a, b))
            expected = [float(x) for x in exact]
            np.testing.assert_allclose(found, expected, rtol=1e-15, atol=2.0**-1021)
            sign, logarithm = XP.linalg.slogdet(a)
            assert float(sign) == (1 if det > 0 else -1)
            with mpmath.workprec(200):
                magnitude = mpmath.log(mpmath.mpf(abs(det.numerator)) / det.denominator)
                assert float(logarithm) == pytest.approx(float(magnitude), rel=1e-14)
            if abs(det) < Fraction(large):
                assert float(XP.linalg.det(a)) == pytest.approx(float(det), rel=1e-15)
    a = XP.asarray([[large, large, 0, 0], [large, -large, 0, 0],
                    [0, 0, 2.0**-1000, 0], [0, 0, 0, 2.0**-1000]])  # fmt: skip
    assert float(XP.linalg.det(a)) == -(2.0**47)


def test_no_matrix_has_elements():
    """NumPy's shapes of stacks of matrices of no rows."""
    for shape in ((0, 0), (2, 0, 0)):
        found, expected = XP.linalg.eigh(XP.zeros(shape)), np.linalg.eigh(np.zeros(shape))
        assert [a.shape for a in found] == [a.shape for a in expected]
        assert XP.linalg.eigvalsh(XP.zeros(shape)).shape == expected[0].shape
        for name in ("det", "slogdet", "qr", "svd", "svdvals", "inv", "matrix_rank"):
            found, expected = (
                value if isinstance(value, tuple) else (value,)
                for value in (getattr(XP.linalg, name)(XP.zeros(shape)),
                              getattr(np.linalg, name)(np.zeros(shape)))
            )  # fmt: skip
            for one, right in zip(found, expected, strict=True):
                np.testing.assert_array_equal(np.asarray(one), right)
    for shape in ((3, 0), (0, 3), (2, 0, 0), (0, 3, 3)):
        for order in ("fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf):
            norm = np.asarray(XP.linalg.matrix_norm(XP.zeros(shape), ord=order))
            np.testing.assert_array_equal(norm, np.zeros(shape[:-2]))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda la: la.solve(XP.ones((2, 2)), XP.ones(2)), np.linalg.LinAlgError, "singular"),
        (lambda la: la.inv(XP.zeros((2, 2))), np.linalg.LinAlgError, "singular"),
        (lambda la: la.cholesky(-XP.eye(2)), np.linalg.LinAlgError, "positive definite"),
        (lambda la: la.svd(XP.eye(2) * float("nan")), np.linalg.LinAlgError, "finite"),
        (
            lambda la: la.eigh(XP.asarray([[1.0, 0.0], [np.inf, 1.0]])),
            np.linalg.LinAlgError,
            "finite",
        ),
        (lambda la: la.eigvalsh(XP.eye(2) * float("nan")), np.linalg.LinAlgError, "finite"),
        (lambda la: la.trace(XP.ones(3)), ValueError, "trace takes matrices, not an array of 1"),
        (lambda la: la.diagonal(XP.ones(3)), ValueError, "diagonal takes matrices"),
        (lambda la: la.solve(XP.eye(2), XP.asarray(1.0)), ValueError, "not an array of 0 axes"),
        (lambda la: la.inv(XP.ones((2, 3))), ValueError, "square"),
        (lambda la: la.det(XP.ones((2, 2), dtype=XP.int64)), TypeError, "float32 and float64"),
        (lambda la: la.qr(XP.ones(2)), ValueError, "matrices"),
        (lambda la: la.matrix_norm(XP.eye(2), ord=3), ValueError, "ord is"),
        (lambda la: la.matrix_norm(XP.zeros((2, 0)), ord=3), ValueError, "ord is"),
        (lambda la: la.vector_norm(XP.ones(2), ord="fro"), ValueError, "ord is a number"),
        (lambda la: la.vector_norm(XP.ones(2), ord=None), ValueError, "ord is a number"),
    ],
)
def test_what_has_no_answer(call, error, message):
    with pytest.raises(error, match=message):
        call(XP.linalg)


def test_norms_are_numpys():
    host = matrix(3, 6, 4)
    for order in ("fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf):
        found = XP.linalg.matrix_norm(XP.asarray(host), ord=order)
        np.testing.assert_allclose(np.asarray(found), np.linalg.norm(host, order), rtol=1e-14)
    for order in (0, 1, 2, 3, 0.5, np.inf, -np.inf):
        for axis in (0, 1):
            found = XP.linalg.vector_norm(XP.asarray(host), axis=axis, ord=order)
            expected = np.linalg.norm(host, order, axis=axis)
            np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-14)


@pytest.mark.parametrize("library", ["strict", "torch", "jax", "numpy"])
def test_stacks_have_the_bits_of_their_matrices(reproducible_xp):
    hosts = [matrix(3, 7), np.eye(3), np.ones((3, 3)) + np.eye(3)]
    large = reproducible_xp.asarray(np.stack(hosts) * [[[2.0**1020]], [[1.0]], [[2.0**1021]]])
    for name in ("det", "slogdet", "inv", "qr", "svd", "eigh"):
        found = getattr(reproducible_xp.linalg, name)(large)
        for k in range(3):
            one = getattr(XP.linalg, name)(XP.asarray(np.asarray(large[k, ...])))
            parts = [a[k, ...] for a in (found if isinstance(found, tuple) else [found])]
            assert_same_bits(parts, list(one) if isinstance(one, tuple) else [one], name)
    stack = reproducible_xp.asarray(np.stack(hosts)[None].astype(np.float32))
    for name in ("inv", "det", "qr", "svd", "eigh"):
        found = getattr(reproducible_xp.linalg, name)(stack)
        for k, host in enumerate(hosts):
            one = getattr(XP.linalg, name)(XP.asarray(host.astype(np.float32)))
            parts = [a[0, k, ...] for a in (found if isinstance(found, tuple) else [found])]
            assert_same_bits(parts, list(one) if isinstance(one, tuple) else [one], name)
