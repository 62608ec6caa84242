"""`xpnn.reproducible`: elementary functions and elementwise arithmetic, against exact values."""

from fractions import Fraction

import array_api_compat
import mpmath
import numpy as np
import pytest

from tests.helpers import FUNCTIONS, HARD, NUMPY, open_backend, put
from xpnn import reproducible
from xpnn.backends import get_backend, to_numpy

NS = reproducible.arithmetic(NUMPY)
# the docstrings' own
BOUNDS = {
    "exp": 0.6,
    "expm1": 1.3,
    "log": 0.8,
    "log1p": 0.8,
    "tanh": 1.7,
    "sqrt": 0.5,
    "sigmoid": 2,
}


def reference(library, name):
    """Return the function of NumPy or mpmath."""
    return getattr(library, name, None) or (lambda x: 1 / (1 + library.exp(-x)))


def points(name):
    rng = np.random.RandomState(11)
    x = np.concatenate(
        [
            np.exp(rng.uniform(-660, 690, 30_000)) * rng.choice([-1, 1], 30_000),
            rng.uniform(-1, 1, 30_000),
            rng.uniform(-25, 25, 30_000),
            rng.uniform(-665.4, 709.7, 20_000),
        ]
    )
    if name in ("log", "sqrt"):
        near = 1 + rng.uniform(-1, 1, 20_000) * 10.0 ** rng.uniform(-15, -1, 20_000)
        return np.abs(np.concatenate([x, near]))
    if name == "log1p":
        return x[x > -1]
    if name in ("exp", "expm1"):
        return x[(x > -665.4) & (x < 709.78)]
    if name == "sigmoid":
        return x[x > -665.4]
    return x


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_is_as_near_as_its_docstring_says(name):
    x = points(name)
    with np.errstate(all="raise", under="ignore"):
        y = to_numpy(getattr(NS, name)(NS.asarray(x)))
    with np.errstate(all="ignore"):
        guess = reference(np, name)(x.astype(np.longdouble))
    unit = np.spacing(np.abs(guess.astype(float)))
    worst = np.argsort(np.abs((y - guess) / unit))[-50:]
    with mpmath.workprec(160):
        exact = [reference(mpmath, name)(mpmath.mpf(float(x[i]))) for i in worst]
        errors = [abs(e - float(y[i])) / unit[i] for e, i in zip(exact, worst, strict=True)]
    assert max(errors) <= BOUNDS[name]
    text = getattr(NS, name).__doc__
    assert name == "sqrt" or f"at most {BOUNDS[name]} ulp" in text


@pytest.mark.parametrize("dtype", ["float64"])
def test_functions_at_special_values(backend):
    ns, inf, nan = reproducible.arithmetic(backend.xp), np.inf, np.nan
    x = [0.0, -0.0, inf, -inf, nan, 1.0, -1.0, 1e300, -1e300]
    anything = object()
    expected = {
        "exp": [1, 1, inf, 0, nan, anything, anything, inf, 0],
        "expm1": [0, 0, inf, -1, nan, anything, anything, inf, -1],
        "log": [-inf, -inf, inf, nan, nan, 0, nan, anything, nan],
        "log1p": [0, 0, inf, nan, nan, anything, -inf, anything, nan],
        "tanh": [0, 0, 1, -1, nan, anything, anything, 1, -1],
        "sqrt": [0, 0, inf, nan, nan, 1, nan, 1e150, nan],
        "sigmoid": [0.5, 0.5, 1, 0, nan, anything, anything, 1, 0],
    }
    for name, values in expected.items():
        found = to_numpy(getattr(ns, name)(put(ns, backend, x)))
        for y, value in zip(found, values, strict=True):
            assert value is anything or np.array_equal(y, value, equal_nan=True), name


def test_exp_ends_where_its_docstring_says():
    low, high = np.asarray([-665.4, -665.5, -745.0]), np.linspace(709.76, 709.782712893384, 1001)
    assert (to_numpy(NS.exp(NS.asarray(low))) > 0).tolist() == [True, False, False]
    np.testing.assert_allclose(to_numpy(NS.exp(NS.asarray(high))), np.exp(high), rtol=1e-15)
    with np.errstate(over="ignore"):
        assert float(NS.exp(NS.asarray(np.nextafter(709.782712893384, 710)))) == np.inf
        assert float(NS.exp(NS.asarray(1e300))) == np.inf


def test_finite_arguments_give_no_warning():
    x = NS.asarray(np.concatenate([HARD[np.isfinite(HARD)], [0.0, -1.0]]))
    with np.errstate(divide="raise", over="raise", invalid="raise"):
        for name in FUNCTIONS:
            # these may overflow, and NumPy's own say so too
            with np.errstate(over="ignore" if name in ("exp", "expm1") else "raise"):
                getattr(NS, name)(x)
        _ = x[:100] @ x[:100]
        NS.sum(NS.asarray([1e300, 0.0, 1.0]))


def test_square_root_correction():
    """Also at its hardest: next to powers of four, and from one ulp on either side."""
    rng = np.random.RandomState(0)
    x = np.concatenate(
        [
            4.0 ** np.arange(-500, 500),
            np.nextafter(4.0 ** np.arange(-480, 500), 0),
            np.nextafter(4.0 ** np.arange(-480, 500), np.inf),
            2 * 4.0 ** np.arange(-480, 500),
            np.exp(rng.uniform(-600, 700, 20000)),
            [0.0, np.inf],
        ]
    )
    root = np.sqrt(x)
    for start in (root, np.nextafter(root, 0), np.nextafter(root, np.inf)):
        start = np.where(np.isinf(x) | (x == 0), root, start)
        with np.errstate(invalid="ignore"):
            found = NS._functions._corrected_root(x, start)
        np.testing.assert_array_equal(found, root)


def test_multiplication_is_correctly_rounded_to_the_format():
    rng = np.random.RandomState(0)
    x, y = np.ldexp(rng.uniform(-1, 1, (2, 2000)), rng.randint(-520, -470, (2, 2000)))
    z = to_numpy(NS.asarray(x) * NS.asarray(y))
    for a, b, c in zip(x, y, z, strict=True):
        error = abs(Fraction(a) * Fraction(b) - Fraction(c))
        assert error <= Fraction(2) ** -1022 + Fraction(np.spacing(abs(c))) * Fraction(3, 2)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_products_and_quotients_are_correctly_rounded_above_the_smallest(dtype):
    number, low = (np.float64, -914) if dtype == "float64" else (np.float32, -76)
    rng = np.random.RandomState(0)
    exponents = np.arange(low, low + 60)
    z = np.ldexp(rng.uniform(0.5, 1, (300, 60)) * rng.choice([-1, 1], (300, 60)), exponents + 1)
    x, y = z.astype(number), rng.uniform(0.5, 1, z.shape).astype(number)
    x, y = NS.asarray(x / 2), NS.asarray(y * 2)
    x, y = (NS.astype(v, getattr(NUMPY, dtype)) for v in (x, y))
    a, b = to_numpy(x), to_numpy(y)
    np.testing.assert_array_equal(to_numpy(x * y), a * b)
    np.testing.assert_array_equal(to_numpy(x / y), a / b)


# What libraries do that IEEE 754 doesn't say. When one of these fails, a library has been mended.


def test_xla_divides_by_a_broadcast_value_through_its_reciprocal():
    backend = open_backend("jax")
    host = np.random.RandomState(0).uniform(0.5, 1, (1000, 7))
    with backend.scope():
        x = backend.asarray(host)
        found = backend.to_numpy(x / x[:, :1])
    assert (found != host / host[:, :1]).any()


def test_xla_flushes_subnormals():
    backend = open_backend("jax")
    with backend.scope():
        assert float(backend.asarray(np.asarray([1e-310]))[0] + 0.0) == 0.0


def test_mkl_rounds_some_square_roots_wrong_and_ours_does_not():
    backend = open_backend("torch")
    host = np.random.RandomState(0).uniform(0, 10, 200_000) ** 7
    ns = reproducible.arithmetic(backend.xp)
    np.testing.assert_array_equal(to_numpy(ns.sqrt(put(ns, backend, host))), np.sqrt(host))
    if backend.device.type == "cpu" and backend.blas() == "mkl":
        native = backend.to_numpy(backend.xp.sqrt(backend.asarray(host)))
        assert (native != np.sqrt(host)).any()


@pytest.mark.parametrize("library", ["strict", "torch", "cupy"])
def test_each_device_has_tables_of_its_own(library):
    """In one process, where the functions' tables are kept from call to call."""
    x = np.linspace(-3.0, 3.0, 7)
    expected = NS.exp(NS.wrap(x)).raw
    for device in open_backend(library).devices():
        backend = get_backend(library, device=device, dtype="float64", reproducible=True)
        with backend.scope():
            y = backend.xp.exp(backend.asarray(x))
        assert array_api_compat.device(y.raw) == backend.device
        np.testing.assert_array_equal(backend.to_numpy(y), expected, strict=True)
