"""`xpnn.reproducible`: functions that networks don't use, against mpmath and exact integers."""

import hashlib
import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest

from tests.helpers import HARD, bits
from xpnn import reproducible

XP = reproducible.namespace("numpy")
SIZE = 400
RNG = np.random.default_rng(5)
# the docstrings' own; two arguments below
BOUNDS = {
    "exp": 2.0, "log": 0.8, "log2": 0.6, "log10": 0.6, "sin": 0.9, "cos": 0.9, "tan": 1.6,
    "asin": 1.3, "acos": 1.3, "atan": 1.3, "sinh": 0.8, "cosh": 0.6, "asinh": 1.5, "acosh": 1.5,
    "atanh": 0.9, "pow": 0.7, "hypot": 0.6, "atan2": 1.3,
}  # fmt: skip
# 1300 bits for a sine of 1e308
EXACT = {
    "log2": lambda x: mpmath.log(x, 2),
    "log10": mpmath.log10,
    "pow": mpmath.power,
}
# nearest to multiples of pi/2 among all float64 numbers, and the largest
HARDEST = [6381956970095103 * 2.0**797, 5.319372648326541e255, 1.7976931348623157e308]
WIDE = np.ldexp(RNG.uniform(1, 2, SIZE), RNG.integers(-960, 1015, SIZE)) * RNG.choice([-1, 1], SIZE)
MIDDLE = RNG.uniform(-1, 1, SIZE) * 10.0 ** RNG.uniform(-8, 2, SIZE)
UNIT = np.concatenate([RNG.uniform(-1, 1, SIZE), 1 - 2.0 ** -RNG.uniform(1, 53, SIZE),
                       2.0 ** -RNG.uniform(1, 900, SIZE)])  # fmt: skip
with mpmath.workprec(200):
    MULTIPLES = np.array([float(int(k) * mpmath.pi / 2) for k in RNG.integers(1, 10**6, SIZE)])
ANGLES = np.concatenate([WIDE, MIDDLE, MULTIPLES, HARDEST])
NEAR_ONE = 1 + RNG.uniform(0.5, 1, SIZE) * 10.0 ** RNG.uniform(-15, -1, SIZE)
POINTS = {
    **dict.fromkeys(("sin", "cos", "tan"), ANGLES),
    "asin": np.concatenate([UNIT, -UNIT]),
    "acos": np.concatenate([UNIT, -UNIT]),
    "atanh": np.concatenate([UNIT, -UNIT]),
    "atan": np.concatenate([WIDE, MIDDLE]),
    "asinh": np.concatenate([WIDE, MIDDLE]),
    "acosh": 1 + 10.0 ** RNG.uniform(-15, 300, 2 * SIZE),
    "sinh": np.concatenate([MIDDLE, MIDDLE * 7.1]),
    "cosh": np.concatenate([MIDDLE, MIDDLE * 7.1]),
    # below -600 it is a square, whose error is twice the root's
    "exp": np.concatenate([RNG.uniform(-707, 709.7, 2 * SIZE), RNG.uniform(-671, -600, 5000)]),
    # 2^-1021 is the least positive number there is
    **dict.fromkeys(("log", "log2", "log10"), np.concatenate([abs(WIDE), NEAR_ONE, [2.0**-1021]])),
}
BASES = np.concatenate([abs(WIDE), abs(MIDDLE), NEAR_ONE])
PAIRS = {
    "pow": (BASES, RNG.uniform(-709, 709, BASES.size) / np.log(BASES)),
    "hypot": (WIDE, WIDE * RNG.uniform(-10, 10, SIZE)),
    "atan2": (np.concatenate([WIDE, MIDDLE]),
              np.concatenate([WIDE * RNG.uniform(-10, 10, SIZE), RNG.permutation(MIDDLE)])),
}  # fmt: skip


def worst(name, *arguments):
    """Return the largest error in ulp, or in 2^-1021 where that is more."""
    function = EXACT.get(name) or getattr(mpmath, name)
    with np.errstate(all="ignore"):
        found = np.asarray(getattr(XP, name)(*map(XP.asarray, arguments)))
    errors = []
    for y, *at in zip(found, *arguments, strict=True):
        with mpmath.workprec(1300 if name in ("sin", "cos", "tan") else 200):
            exact = function(*map(mpmath.mpf, map(float, at)))
            near = float(exact)
            if math.isinf(near):
                assert abs(y) > 1.797e308
                continue
            ulp = max(np.spacing(abs(near)), 2.0**-1021)
            errors.append(float(abs(exact - mpmath.mpf(float(y))) / ulp))
    return max(errors)


@pytest.mark.parametrize("name", POINTS)
def test_a_function_is_as_near_as_its_docstring_says(name):
    assert worst(name, POINTS[name]) <= BOUNDS[name]
    assert f"at most {BOUNDS[name]} ulp off" in getattr(XP, name).__doc__


@pytest.mark.parametrize("name", PAIRS)
def test_a_function_of_two_is_as_near_as_its_docstring_says(name):
    assert worst(name, *PAIRS[name]) <= BOUNDS[name]
    assert f"at most {BOUNDS[name]} ulp off" in getattr(XP, name).__doc__


def test_a_float32_result_is_the_float64_one_rounded():
    x = MIDDLE.astype(np.float32)
    for name in ("sin", "asinh", "cosh", "log2", "atan"):
        with np.errstate(all="ignore"):
            single = np.asarray(getattr(XP, name)(XP.asarray(abs(x))))
            double = np.asarray(getattr(XP, name)(XP.asarray(abs(x).astype(np.float64))))
            np.testing.assert_array_equal(single, double.astype(np.float32))


INF, NAN = math.inf, math.nan
SPECIAL = {
    "sin": [(0.0, 0.0), (INF, NAN), (-INF, NAN), (NAN, NAN)],
    "cos": [(0.0, 1.0), (INF, NAN), (NAN, NAN)],
    "tan": [(0.0, 0.0), (-INF, NAN), (NAN, NAN)],
    "asin": [(0.0, 0.0), (1.0, math.pi / 2), (-1.0, -math.pi / 2), (1.1, NAN), (INF, NAN)],
    "acos": [(1.0, 0.0), (-1.0, math.pi), (0.0, math.pi / 2), (-2.0, NAN), (NAN, NAN)],
    "atan": [(0.0, 0.0), (INF, math.pi / 2), (-INF, -math.pi / 2), (NAN, NAN)],
    "sinh": [(0.0, 0.0), (INF, INF), (-INF, -INF), (NAN, NAN), (711.0, INF)],
    "cosh": [(0.0, 1.0), (INF, INF), (-INF, INF), (NAN, NAN)],
    "asinh": [(0.0, 0.0), (INF, INF), (-INF, -INF), (NAN, NAN)],
    "acosh": [(1.0, 0.0), (INF, INF), (0.5, NAN), (-INF, NAN), (NAN, NAN)],
    "atanh": [(0.0, 0.0), (1.0, INF), (-1.0, -INF), (1.5, NAN), (NAN, NAN)],
    "log2": [(0.0, -INF), (8.0, 3.0), (2.0**-1021, -1021.0), (-1.0, NAN), (INF, INF), (NAN, NAN)],
    "log10": [(0.0, -INF), (1e22, 22.0), (1e-5, -5.0), (-INF, NAN), (INF, INF), (NAN, NAN)],
}


@pytest.mark.parametrize("dtype", ["float64"])
def test_special_values(backend):
    ns = reproducible.namespace(backend.name, device=backend.options()["device"])
    for name, cases in SPECIAL.items():
        x, expected = np.array(cases).T
        found = np.asarray(getattr(ns, name)(ns.asarray(x)))
        np.testing.assert_array_equal(found, expected, err_msg=name)
        assert not np.signbit(found[found == 0]).any()


@pytest.mark.parametrize("dtype", ["float64"])
def test_special_values_of_two(backend):
    """Those of C's pow, hypot and atan2, where zero is +0."""
    ns = reproducible.namespace(backend.name, device=backend.options()["device"])
    values = np.array([0.0, 1.0, -1.0, 0.5, -0.5, 2.0, -2.0, 3.0, -3.0, INF, -INF, NAN])
    x, y = (v.reshape(-1) for v in np.meshgrid(values, values))
    for name, function in (("pow", np.power), ("hypot", np.hypot), ("atan2", np.arctan2)):
        with np.errstate(all="ignore"):
            expected = function(x, y) + 0.0
        found = np.asarray(getattr(ns, name)(ns.asarray(x), ns.asarray(y)))
        np.testing.assert_allclose(found, expected, rtol=1e-15, atol=0, err_msg=name)


def remainders(x, y):
    """Return x - floor(x/y) y, exactly."""
    x, y = Fraction(float(x)), Fraction(float(y))
    return x - (x // y) * y


def test_quotients_of_large_numbers_are_rounded_down():
    """A number minus a remainder of the other sign may overflow."""
    rng, largest = np.random.default_rng(5), 1.7976931348623157e308
    x = rng.choice([-1.7e308, 1.7e308, largest], 200)
    y = rng.uniform(-1, 1, 200) * largest
    x[:5], y[:5] = [largest, -largest, 1.7e308, 1.0, -1.0], [-1e308, 1e300, -1.5e308, -largest, 9.0]
    found = np.asarray(XP.floor_divide(XP.asarray(x), XP.asarray(y)))
    expected = [float(Fraction(a) // Fraction(b)) for a, b in zip(x, y, strict=True)]
    np.testing.assert_array_equal(found, expected)


def test_logaddexp_of_any_size():
    values = np.concatenate([WIDE[:60], MIDDLE[:60], [1.7e308, -1.7e308, -(2.0**1000), 0.0]])
    x, y = (v.reshape(-1) for v in np.meshgrid(values, values))
    found = np.asarray(XP.logaddexp(XP.asarray(x), XP.asarray(y)))
    with mpmath.workprec(120):
        for a, b, one in zip(x, y, found, strict=True):
            exact = max(a, b) + mpmath.log1p(mpmath.exp(-abs(mpmath.mpf(a) - b)))
            ulp = np.spacing(min(max(abs(a), abs(b), abs(float(exact))), 1.7e308))
            assert abs(mpmath.mpf(float(one)) - exact) <= 2 * ulp, (a, b)
    for a, b, expected in ((-1e308, -INF, -1e308), (-INF, -INF, -INF), (-1e308, INF, INF),
                           (-INF, NAN, NAN)):  # fmt: skip
        for pair in ((a, b), (b, a)):
            one = float(XP.logaddexp(*(XP.asarray(v) for v in pair)))
            assert one == pytest.approx(expected, nan_ok=True)


def test_remainders_of_any_quotient_are_exact():
    x = np.concatenate([WIDE, MIDDLE, [1e308, -1e308, 5.0, -5.0, 7.5]])
    y = np.concatenate([RNG.permutation(WIDE), RNG.permutation(MIDDLE), [3.0, 3.0, 3.0, 3.0, -2.5]])
    for dtype in (np.float64, np.float32):
        with np.errstate(all="ignore"):
            a, b = x.astype(dtype), y.astype(dtype)
            a, b = (np.asarray(XP.asarray(v)) for v in (a, b))
            keep = np.isfinite(a) & np.isfinite(b) & (b != 0)
            a, b = a[keep], b[keep]
            found = np.asarray(XP.remainder(XP.asarray(a), XP.asarray(b)))
        for p, q, r in zip(a, b, found, strict=True):
            exact = remainders(p, q)
            if (p < 0) == (q < 0):
                assert Fraction(float(r)) == exact
            else:
                assert abs(Fraction(float(r)) - exact) <= Fraction(float(np.spacing(abs(r)))) / 2


@pytest.mark.parametrize("name", ["int8", "uint8", "int32", "uint32", "int64", "uint64"])
@pytest.mark.parametrize("dtype", ["float64"])
def test_integers_are_exact_modulo_their_bits(backend, name, dtype):
    ns = reproducible.namespace(backend.name, device=backend.options()["device"])
    info = np.iinfo(name)
    size = 2**info.bits
    values = [
        info.min,
        info.max,
        info.max - 1,
        0,
        1,
        2,
        3,
        7,
        100,
        info.max // 2,
        info.max // 3 + 1,
    ]
    values += [-1, -2, -3, -7, info.min + 1] if info.min else []
    x, y = ([a for a in values for _ in values], values * len(values))

    def wrapped(n):
        n %= size
        return n - size if n > info.max else n

    def power(a, b):
        if b >= 0:
            return pow(a, b, size)
        return {1: 1, -1: -1 if b % 2 else 1}.get(a, 0)

    def shift(a, b, left):
        if not 0 <= b < info.bits:
            return 0 if left or a >= 0 else -1
        return a << b if left else a >> b

    expected = {
        "add": lambda a, b: a + b, "subtract": lambda a, b: a - b, "multiply": lambda a, b: a * b,
        "floor_divide": lambda a, b: a // b if b else 0, "pow": power,
        "remainder": lambda a, b: a % b if b else 0,
        "bitwise_and": lambda a, b: a & b, "bitwise_xor": lambda a, b: a ^ b,
        "bitwise_left_shift": lambda a, b: shift(a, b, True),
        "bitwise_right_shift": lambda a, b: shift(a, b, False),
        "maximum": max, "minimum": min,
    }  # fmt: skip
    left, right = (ns.asarray(v, dtype=getattr(ns, name)) for v in (x, y))
    for function, exact in expected.items():
        found = np.asarray(getattr(ns, function)(left, right))
        assert str(found.dtype) == name
        assert found.tolist() == [wrapped(exact(a, b)) for a, b in zip(x, y, strict=True)], function
    assert np.asarray(ns.less(left, right)).tolist() == [a < b for a, b in zip(x, y, strict=True)]
    if not (backend.name == "cupy" and backend.card == "emulated GPU"):
        # the emulated card has no CUB, and so no sort
        assert np.asarray(ns.sort(left)).tolist() == sorted(x)
    assert int(np.asarray(ns.max(left))) == max(values)
    assert np.asarray(ns.astype(left, ns.float64)).tolist() == [float(a) for a in x]
    single = np.asarray(ns.astype(left, ns.float32))
    with mpmath.workprec(24):
        assert single.tolist() == [float(mpmath.mpf(a)) for a in x]


@pytest.mark.parametrize("dtype", ["float64"])
def test_floats_become_the_nearest_integers_in_range(backend):
    ns = reproducible.namespace(backend.name, device=backend.options()["device"])
    x = [0.0, 1.9, -1.9, 300.5, -300.5, 1e30, -1e30, INF, -INF, NAN, 2.0**63, 2.0**64, 2.0**62 * 3]
    for name in ("int8", "uint8", "uint32", "int64", "uint64"):
        info = np.iinfo(name)
        exact = [
            0 if v != v else max(info.min, min(info.max, math.trunc(v) if abs(v) < INF else
                                               (info.max if v > 0 else info.min)))
            for v in x
        ]  # fmt: skip
        assert np.asarray(ns.astype(ns.asarray(x), getattr(ns, name))).tolist() == exact
    truth = np.asarray(ns.astype(ns.asarray(x), ns.bool))
    assert truth.tolist() == [v != 0 for v in x]


def test_neighbours():
    x = np.concatenate([WIDE[abs(WIDE) > 1e-280], [0.0, 1.0, -1.0, 1.7976931348623157e308]])
    for goal in (INF, -INF):
        with np.errstate(over="ignore"):
            found = np.asarray(XP.nextafter(XP.asarray(x), goal))
            expected = np.nextafter(x, goal)
        expected[x == 0] = math.copysign(2.0**-1021, goal)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_neighbours_of_infinities(dtype):
    x, goal = (v.astype(dtype) for v in np.meshgrid([INF, -INF], [INF, -INF, 0.0, 7.0, NAN]))
    found = np.asarray(XP.nextafter(XP.asarray(x), XP.asarray(goal)))
    np.testing.assert_array_equal(found, np.nextafter(x, goal), strict=True)


@pytest.mark.parametrize(
    ("dtype", "other"),
    [("float32", "float64"), ("int8", "int64"), ("int8", "uint8"), ("uint8", "int16"),
     ("uint64", "uint8"), ("float64", "float32")],
)  # fmt: skip
def test_clip_keeps_the_dtype(dtype, other):
    numbers = [-1000, -3, 0, 5, 130, 1000]
    x, low, high = (
        np.array([n for n in numbers if kind.startswith("f")
                  or np.iinfo(kind).min <= n <= np.iinfo(kind).max])
        for kind in (dtype, other, other)
    )  # fmt: skip
    if other == "float64":
        low = low + 0.1
    x, low, high = (v.ravel() for v in np.meshgrid(x, low, high))
    found = np.asarray(XP.clip(*(XP.asarray(v.astype(kind)) for v, kind in
                                 ((x, dtype), (low, other), (high, other)))))  # fmt: skip
    ends = np.finfo(dtype) if dtype.startswith("f") else np.iinfo(dtype)
    expected = [
        np.dtype(dtype).type(max(ends.min, min(ends.max, min(max(v, a), b))))
        for v, a, b in zip(x.tolist(), low.tolist(), high.tolist(), strict=True)
    ]
    np.testing.assert_array_equal(found, np.array(expected, dtype), strict=True)


def test_pinned_bits():
    """They change only with this package's arithmetic, not with the machine or the library."""
    found = hashlib.sha256()
    with np.errstate(all="ignore"):
        for dtype in (np.float64, np.float32):
            x = XP.asarray(HARD.astype(dtype))
            y = XP.asarray(np.random.RandomState(3).permutation(HARD).astype(dtype))
            for name in POINTS:
                found.update(bits(getattr(XP, name)(x))[2])
            for name in (*PAIRS, "logaddexp", "remainder", "floor_divide"):
                found.update(bits(getattr(XP, name)(x, y))[2])
            for name in ("cumulative_sum", "cumulative_prod", "prod", "var"):
                found.update(bits(getattr(XP, name)(x[:3000]))[2])
    assert found.hexdigest() == "f7e660bbe1c68c61da551dee47e1388dd97aac272a4d2d692a4dc4877eb07fab"
