"""Distances in units in the last place, counted step by step, and messages that say where."""

import math

import numpy as np
import pytest

from tests.helpers import open_backend
from xpnn.testing import assert_same_bits
from xpnn.testing.bits import difference, distances


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_distances_are_the_steps_of_nextafter(dtype):
    kind = np.dtype(dtype).type
    starts = [0.0, -0.0, 1.0, -1.0, 0.1, 2.0**-14, -np.finfo(dtype).smallest_subnormal * 3,
              np.finfo(dtype).max / 2]  # fmt: skip
    for start in map(kind, starts):
        for direction in (np.inf, -np.inf):
            other = start
            for steps in range(9):
                assert distances(np.array(start), np.array(other)) == steps
                assert distances(np.array(other), np.array(start)) == steps
                other = np.nextafter(other, kind(direction))


def test_distances_over_many_binades():
    for a, b in ((1.0, 2.0), (-1.0, 1.0), (5e-324, 1e308), (-1.7e308, 1.7e308), (0.0, 1.0)):

        def place(x):
            # the number of doubles between 0 and x: 2^52 for each binade below
            exponent = max(math.frexp(x)[1], -1021) if x else -1021
            steps = int(math.ldexp(abs(x), 53 - exponent))
            return (1 if x >= 0 else -1) * (steps + (exponent + 1021) * 2**52)

        expected = place(b) - place(a)
        assert distances(np.array(a), np.array(b)) == float(expected)


def test_distances_of_what_is_not_finite():
    a = np.array([np.nan, np.nan, np.inf, np.inf, np.inf, -np.inf, 0.0])
    b = np.array([-np.nan, 1.0, np.inf, -np.inf, 1.7976931348623157e308, -np.inf, -0.0])
    far = math.inf
    assert distances(a, b).tolist() == [0, far, 0, far, far, 0, 0]
    assert distances(np.array([1, 2]), np.array([1, 3])).tolist() == [0, far]
    z = np.array([1 + 1j, complex(1.0, np.nextafter(1.0, 2.0))])
    assert distances(z, np.full(2, 1 + 1j)).tolist() == [0, 1]


X = np.array([1.0, 2.0, 3.0])
NEXT = np.nextafter(X, 9.0)


@pytest.mark.parametrize(
    ("actual", "expected", "message"),
    [
        (X, NEXT, "actual is 1.0, expected is 1.0000000000000002, 1 ulp apart, at [0]; "
         "3 of 3 elements differ, by at most 1 ulp"),
        (X, np.array([1.0, 2.0, 3.0000000000000013]), "actual is 3.0, expected is "
         "3.0000000000000013, 3 ulps apart, at [2]; 1 of 3 elements differs, by at most 3 ulps"),
        (X[0], NEXT[0], "actual is 1.0, expected is 1.0000000000000002, 1 ulp apart"),
        (X[:2].reshape(1, 2), np.array([[1.0, np.nan]]),
         "actual is 2.0, expected is nan, at [0, 1]; 1 of 2 elements differs"),
        (0.0, -0.0, "actual is 0.0, expected is -0.0"),
        (np.array([1, 0]) + 0j, np.array([1, complex(0, -0.0)]),
         "actual is 0j, expected is -0j, at [1]; 1 of 2 elements differs"),
        (np.array([1, 5]), np.array([1, 6]),
         "actual is 5, expected is 6, at [1]; 1 of 2 elements differs"),
        (np.array([True]), np.array([False]),
         "actual is True, expected is False, at [0]; 1 of 1 elements differs"),
        (X, X[:2], "actual has shape (3,), expected (2,)"),
        (X, X.astype(np.float32), "actual has dtype float64, expected float32"),
        (X, X.astype(int), "actual has dtype float64, expected int64"),
        ({"a": X, "b": [X, X]}, {"a": X, "b": [X, NEXT]}, "part b.1: actual is 1.0, expected"),
        ((X, X), [X], "actual has the parts 0, 1, expected has 0"),
        ({}, [], "actual is a dictionary, expected is a list"),
        ([], [[]], "actual has the parts none, expected has 0"),
        ([[]], [X], "part 0: actual is a list, expected is an array"),
        ([1.0], 1.0, "actual is a list, expected is an array"),
        ({0: 1.0}, [1.0], "actual is a dictionary, expected is a list"),
        ({0: 1.0}, {"0": 1.0}, "actual has the parts 0, expected has '0'"),
        ({"a": {}}, {"a": []}, "part a: actual is a dictionary, expected is a list"),
        ({"a": [{"b": X}]}, {"a": [{"c": X}]},
         "part a.0: actual has the parts 'b', expected has 'c'"),
    ],
)  # fmt: skip
def test_what_differs_is_said(actual, expected, message):
    with pytest.raises(AssertionError) as error:
        assert_same_bits(actual, expected)
    assert str(error.value).startswith(message)
    if not message.startswith("part"):
        assert str(error.value) == message
    with pytest.raises(AssertionError) as error:
        assert_same_bits(actual, expected, "the sum")
    assert str(error.value).startswith(f"the sum: {message}")


def test_what_is_the_same():
    for array in (X, X[::-1], X[:0], X[0], X.astype(">f8"), X.astype(np.longdouble), [], 1, True):
        assert_same_bits(array, array)
    nans = np.array([0x7FF8000000000001, 0xFFF8000000000123], dtype=np.uint64).view(np.float64)
    assert_same_bits(nans, nans[::-1])
    assert_same_bits({"a": (X, 1)}, {"a": [X, 1]})
    assert_same_bits({"a": 1.0, "b": [2.0]}, {"b": [2.0], "a": 1.0})
    for nothing in ({}, [], (), [[]], {"a": {}}):
        assert_same_bits(nothing, nothing)
    assert difference(X, NEXT, ulps=1) is None
    assert difference(X, NEXT, ulps=0.5) is not None
    assert difference(0.0, -0.0, ulps=1) is None


@pytest.mark.parametrize("library", ["torch", "jax", "strict", "cupy"])
def test_arrays_of_any_library(library):
    backend = open_backend(library)
    assert_same_bits(backend.asarray(X), X)
    with pytest.raises(AssertionError, match=r"1 ulp apart, at \[0\]"):
        assert_same_bits(X, backend.asarray(NEXT))


@pytest.mark.parametrize("library", ["torch", "jax"])
def test_bfloat16(library):
    """Its numbers are the float32 whose last 16 bits are 0."""
    xp = open_backend(library).xp

    def short(*bits):
        host = (np.array(bits, dtype=np.uint32) << 16).view(np.float32)
        return xp.astype(xp.asarray(host), xp.bfloat16)

    # 1.0, the next number, the least one, NaN and the two zeros
    one, above, nan, zero, minus = 0x3F80, 0x3F81, 0x7FC0, 0x0000, 0x8000
    assert_same_bits(short(one, above, nan, zero, minus), short(one, above, nan, zero, minus))
    for actual, expected, message in (
        (short(one, one), short(one, above), "actual is 1.0, expected is 1.0078125, 1 ulp apart, "
         "at [1]; 1 of 2 elements differs, by at most 1 ulp"),
        (short(one), short(one + 5), "actual is 1.0, expected is 1.0390625, 5 ulps apart, at [0]; "
         "1 of 1 elements differs, by at most 5 ulps"),
        (short(zero), short(minus), "actual is 0.0, expected is -0.0, at [0]; "
         "1 of 1 elements differs"),
    ):  # fmt: skip
        with pytest.raises(AssertionError) as error:
            assert_same_bits(actual, expected)
        assert str(error.value) == message
    with pytest.raises(AssertionError, match=r"actual has dtype .*bfloat16, expected float32"):
        assert_same_bits(short(one), np.ones(1, dtype=np.float32))
    assert difference(short(one), short(above), ulps=1) is None
    assert difference(short(one), short(above), ulps=0.5) is not None
