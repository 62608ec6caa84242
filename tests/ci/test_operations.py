"""CuPy's operations against NumPy's, on the emulated card of ci/cuda_on_cpu and on real ones."""

import re
from functools import partial
from pathlib import Path

import array_api_compat.numpy
import numpy as np
import pytest

from tests.helpers import ROOT
from xpnn.testing import assert_same_bits

NUMPY = array_api_compat.numpy
FLOATS = ("float32", "float64")
# bytes are pixels, int64 labels, rows and random bits
DTYPES = ("bool", "uint8", "int32", "int64", *FLOATS)
# less than a warp, a warp, more; a block of a reduction and more; several blocks; several axes
SHAPES = ((), (0,), (1,), (31,), (33,), (1025,), (3, 0), (100, 10), (7, 784), (3, 1, 5))
# Correctly rounded on every device, or no rounding at all
EXACT = {
    "abs": DTYPES[1:],
    "negative": DTYPES[2:],
    "positive": DTYPES[1:],
    "square": FLOATS,
    "sqrt": FLOATS,
    "floor": FLOATS,
    "ceil": FLOATS,
    "trunc": FLOATS,
    "round": FLOATS,
    "sign": DTYPES[2:],
    "isfinite": FLOATS,
    "isinf": FLOATS,
    "isnan": FLOATS,
    "logical_not": ("bool",),
    "bitwise_invert": ("bool", "int64"),
    "zeros_like": DTYPES,
    "ones_like": DTYPES,
}
# at most two units in the last place by CUDA's table of errors, and one by NumPy's
FUNCTIONS = ("exp", "expm1", "log", "log1p", "tanh")
ULPS = 4
EXACT_BINARY = {
    "add": DTYPES[1:],
    "subtract": DTYPES[2:],
    "multiply": DTYPES[1:],
    "divide": FLOATS,
    "maximum": DTYPES[1:],
    "minimum": DTYPES[1:],
    "equal": DTYPES,
    "not_equal": DTYPES,
    "less": DTYPES[1:],
    "less_equal": DTYPES[1:],
    "greater": DTYPES[1:],
    "greater_equal": DTYPES[1:],
    "logical_and": ("bool",),
    "logical_or": ("bool",),
    "logical_xor": ("bool",),
    "bitwise_and": ("bool", "int64"),
    "bitwise_or": ("bool", "int64"),
    "bitwise_xor": ("bool", "int64"),
    "bitwise_right_shift": ("int64",),
}
REDUCTIONS = {
    "sum": DTYPES[1:],
    "mean": FLOATS,
    "max": DTYPES[1:],
    "min": DTYPES[1:],
    "argmax": DTYPES[1:],
    "argmin": DTYPES[1:],
    "all": DTYPES,
    "any": DTYPES,
}


def numbers(dtype, shape, seed=0):
    """Return random numbers of all signs and many magnitudes; floats with special ones."""
    rng = np.random.RandomState(seed)
    if dtype == "bool":
        return rng.randint(2, size=shape).astype(bool)
    if dtype not in FLOATS:
        low = 0 if dtype == "uint8" else -100
        return rng.randint(low, 100, size=shape).astype(dtype)
    values = np.ldexp(rng.uniform(-1, 1, shape), rng.randint(-20, 20, shape))
    special = rng.choice([0.0, -0.0, np.inf, -np.inf, np.nan], shape)
    return np.where(rng.uniform(size=shape) < 0.05, special, values).astype(dtype)


CASES = [(name, dtype) for name, dtypes in EXACT.items() for dtype in dtypes]


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_elementwise(cupy, name, dtype):
    for shape in SHAPES:
        x = numbers(dtype, shape)
        with np.errstate(all="ignore"):
            assert_same_bits(cupy.get(getattr(cupy.xp, name)(cupy.put(x))), getattr(NUMPY, name)(x))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(cupy, name, dtype):
    x = np.random.RandomState(1).uniform(-20, 20, 5000).astype(dtype)
    x = np.concatenate([x, np.asarray([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-30, 1e30], dtype)])
    with np.errstate(all="ignore"):
        # float64 of NumPy is far more than float32 needs; of float64 both are a few units off
        expected = getattr(np, name)(x.astype("float64"))
    actual = cupy.get(getattr(cupy.xp, name)(cupy.put(x)))
    assert actual.dtype == x.dtype
    with np.errstate(all="ignore"):
        rounded = expected.astype(dtype)
    # the least normal number: below it, CuPy flushes
    finite = np.isfinite(rounded)
    np.testing.assert_array_equal(actual[~finite], rounded[~finite])
    np.testing.assert_allclose(
        actual[finite], rounded[finite], rtol=ULPS * np.finfo(dtype).eps, atol=np.finfo(dtype).tiny
    )


CASES = [(name, dtype) for name, dtypes in EXACT_BINARY.items() for dtype in dtypes]


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_two_operands(cupy, name, dtype):
    function, expected = getattr(cupy.xp, name), getattr(NUMPY, name)
    for left, right in [((33,), (33,)), ((100, 10), (10,)), ((100, 10), (100, 1)), ((), (7, 784))]:
        a, b = numbers(dtype, left), numbers(dtype, right, seed=1)
        if name == "bitwise_right_shift":
            b = b % 63 + 1
        if name in ("maximum", "minimum"):  # of 0 and -0 either will do, in NumPy too
            a, b = a + a.dtype.type(0), b + b.dtype.type(0)
        with np.errstate(all="ignore"):
            assert_same_bits(cupy.get(function(cupy.put(a), cupy.put(b))), expected(a, b))
            # and views, whose elements lie apart or backwards
            if a.shape == b.shape:
                u, v = cupy.put(np.stack([a, a]).T), cupy.put(b)
                assert_same_bits(cupy.get(function(u[:, 1], v[::-1])), expected(a, b[::-1]))


def test_whole_numbers_wrap_around(cupy):
    x = np.random.RandomState(9).randint(-(2**63), 2**63 - 1, size=1000)
    factor = -0x61C8864680B583EB
    assert_same_bits(cupy.get(cupy.put(x) * factor + 7), x * np.int64(factor) + np.int64(7))


def test_every_function_that_the_formulas_call_is_here():
    """They call it as ``xp.name(…)``; of their own dtype they ask without a kernel."""
    own = Path(__file__).read_text(encoding="utf-8")
    called: set[str] = set()
    modules = ("activations", "layers", "losses", "optimizers", "normalizers", "metrics")
    modules += ("inference", "_core/functions", "_core/random_bits", "training/steps")
    paths = [ROOT / "xpnn" / f"{name}.py" for name in modules]
    # the rest of reproducible/ is the public namespace, which networks don't use
    arithmetic = "array cuts exact formats functions namespace pixels products survey tables"
    paths += [ROOT / "xpnn" / "reproducible" / f"{name}.py" for name in arithmetic.split()]
    for path in paths:
        called |= set(re.findall(r"\bxp\.([a-z_0-9]+)\(", path.read_text(encoding="utf-8")))
    assert len(called) > 20
    missing = {name for name in called if f'"{name}"' not in own and f"xp.{name}(" not in own}
    # of an empty array there is nothing to compare
    assert missing <= {"isdtype", "empty"}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["add", "sub", "mul", "truediv", "lt", "ge"])
def test_python_numbers_and_in_place(cupy, name, dtype):
    import operator

    function = getattr(operator, name)
    x = numbers(dtype, (100, 10))
    with np.errstate(all="ignore"):
        assert_same_bits(cupy.get(function(cupy.put(x), 0.1)), function(x, 0.1))
        assert_same_bits(cupy.get(function(0.1, cupy.put(x))), function(0.1, x))
    inplace = getattr(operator, f"i{name}", None)
    if inplace is not None:
        here, there, other = x.copy(), cupy.put(x), numbers(dtype, (100, 10), seed=3)
        with np.errstate(all="ignore"):
            here, there = inplace(here, other), inplace(there, cupy.put(other))
        assert_same_bits(cupy.get(there), here)


CASES = [(name, dtype) for name, dtypes in REDUCTIONS.items() for dtype in dtypes]


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_reductions(cupy, name, dtype):
    """Of whole numbers, so that no sum rounds."""
    for shape in SHAPES[2:]:
        if 0 in shape and name not in ("sum", "all", "any"):
            continue
        x = np.random.RandomState(2).randint(-100, 100, size=shape).astype(dtype)
        for axis in (None, *range(len(shape))):
            expected = getattr(NUMPY, name)(x, axis=axis)
            actual = cupy.get(getattr(cupy.xp, name)(cupy.put(x), axis=axis))
            if name == "mean":  # one division, of the same sum
                np.testing.assert_allclose(actual, expected, rtol=np.finfo(dtype).eps, atol=0)
                assert actual.dtype == expected.dtype
            else:
                assert_same_bits(actual, expected)
            if name.startswith("arg"):
                continue
            kept = cupy.get(getattr(cupy.xp, name)(cupy.put(x), axis=axis, keepdims=True))
            assert kept.shape == getattr(NUMPY, name)(x, axis=axis, keepdims=True).shape


def cast(xp, x, rows, condition, *, dtype):
    return xp.astype(x, getattr(xp, dtype))


@pytest.mark.parametrize("dtype", FLOATS)
def test_whole_floats_become_integers(cupy, dtype):
    """Of exponents and labels: fractions are cut off, toward zero."""
    x = np.concatenate([np.arange(-2000.0, 2000.0) / 4, [2.0**23 - 1, -(2.0**23)]]).astype(dtype)
    for to in ("int32", "int64"):
        assert_same_bits(cupy.get(cast(cupy.xp, cupy.put(x), None, None, dtype=to)), x.astype(to))


@pytest.mark.parametrize("dtype", DTYPES)
def test_elements_elsewhere(cupy, dtype):
    xp, put = cupy.xp, cupy.put
    x = numbers(dtype, (20, 30))
    rows = np.random.RandomState(3).randint(20, size=50)
    condition = numbers("bool", (20, 1))
    for make in (
        lambda xp, x, rows, c: xp.take(x, rows, axis=0),
        lambda xp, x, rows, c: xp.take(x, rows, axis=1),
        lambda xp, x, rows, c: x[rows[0] : 15 : 2, ::-1],
        lambda xp, x, rows, c: x[..., None],
        lambda xp, x, rows, c: xp.where(c, x, xp.flip(x, axis=0)),
        lambda xp, x, rows, c: xp.concat([x, xp.flip(x)], axis=1),
        lambda xp, x, rows, c: xp.stack([x, x], axis=2),
        lambda xp, x, rows, c: xp.reshape(xp.matrix_transpose(x), (-1,)),
        lambda xp, x, rows, c: xp.permute_dims(x[None, ...], (2, 0, 1)),
        lambda xp, x, rows, c: xp.squeeze(x[None, ...], axis=0),
        lambda xp, x, rows, c: xp.expand_dims(x, axis=1),
        lambda xp, x, rows, c: xp.broadcast_to(x[:1, :], (4, 30)),
        *(partial(cast, dtype=to) for to in DTYPES if to in FLOATS or dtype not in FLOATS),
        lambda xp, x, rows, c: xp.astype(x, xp.bool),
        lambda xp, x, rows, c: xp.asarray(x, copy=True),
        lambda xp, x, rows, c: xp.full((2, 3), 1, dtype=x.dtype),
        lambda xp, x, rows, c: xp.ones((2, 3), dtype=x.dtype),
    ):
        assert_same_bits(
            cupy.get(make(xp, put(x), put(rows), put(condition))), make(NUMPY, x, rows, condition)
        )


@pytest.mark.parametrize("dtype", FLOATS)
def test_sorted_places_and_ranges(cupy, dtype):
    edges = np.sort(np.random.RandomState(4).uniform(-3, 3, 20)).astype(dtype)
    x = np.random.RandomState(5).uniform(-4, 4, 1000).astype(dtype)
    x = np.concatenate([x, edges])
    for side in ("left", "right"):
        found = cupy.xp.searchsorted(cupy.put(edges), cupy.put(x), side=side)
        assert_same_bits(cupy.get(found), NUMPY.searchsorted(edges, x, side=side))
    assert_same_bits(cupy.get(cupy.xp.arange(3, 90, 4)), np.arange(3, 90, 4))
    assert_same_bits(cupy.get(cupy.xp.zeros((3, 4), dtype=dtype)), np.zeros((3, 4), dtype))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("left", "right"),
    [((5, 7), (7, 3)), ((100, 784), (784, 100)), ((1, 9), (9, 1)), ((9,), (9, 4)), ((4, 9), (9,)),
     ((9,), (9,)), ((3, 5, 7), (3, 7, 2)), ((5, 0), (0, 3))],
)  # fmt: skip
def test_products(cupy, left, right, dtype):
    """Of whole numbers, so that no product rounds; of every layout."""
    rng = np.random.RandomState(6)
    a, b = (rng.randint(-30, 30, size=shape).astype(dtype) for shape in (left, right))
    assert_same_bits(cupy.get(cupy.xp.matmul(cupy.put(a), cupy.put(b))), a @ b)
    if len(left) == len(right) == 2:
        u, v = cupy.put(a.T.copy()), cupy.put(b.T.copy())
        assert_same_bits(cupy.get(u.T @ v.T), a @ b)
        assert_same_bits(cupy.get(cupy.put(np.repeat(a, 2, axis=1))[:, ::2] @ cupy.put(b)), a @ b)
