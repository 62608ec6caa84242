"""`trace` finds an operation that was made wrong on purpose, and nothing where nothing is."""

import array_api_compat
import numpy as np
import pytest

from tests.helpers import NUMPY, open_backend
from xpnn import reproducible
from xpnn.errors import ArgumentError, BackendError
from xpnn.verification import trace

X = np.linspace(-2.0, 3.0, 6)


class Wrong:
    """NumPy's namespace with one function that is a step too large at one element."""

    __name__ = "wrong"

    def __init__(self, name, index=(4,), xp=NUMPY):
        self.wrong, self.index, self.xp = name, index, xp

    def __getattr__(self, name):
        attribute = getattr(self.xp, name)
        if name == "linalg":
            return (
                type(np)("linalg") if self.wrong is None else Wrong(self.wrong, (0, 0), attribute)
            )
        if name != self.wrong:
            return attribute

        def wrong(*args, **kwargs):
            result = attribute(*args, **kwargs).copy()
            result[self.index] = np.nextafter(result[self.index], np.inf)
            return result

        return wrong


def softmax(x, xp):
    e = xp.exp(x - xp.max(x))
    return e / xp.sum(e)


LINE = softmax.__code__.co_firstlineno + 1


def test_the_operation_is_named_with_its_place_operand_and_results():
    found = trace(softmax, X, on=("numpy", Wrong("exp")))
    assert not found.agree
    assert found.names == ("numpy", "wrong")
    assert (found.operations, found.operation) == (2, "exp")
    assert found.place == f"test_tracing.py:{LINE}"
    np.testing.assert_array_equal(found.operands[0], X - 3.0)
    right, wrong = found.results
    np.testing.assert_array_equal(right, np.exp(X - 3.0))
    assert np.flatnonzero(right != wrong).tolist() == [4]
    assert str(found) == (
        f"numpy and wrong differ first in operation 3, exp(-1.0) in test_tracing.py:{LINE}: numpy "
        f"is {right[4]}, wrong is {wrong[4]}, 1 ulp apart, at [4]; 1 of 6 elements differs, by at "
        "most 1 ulp"
    )
    assert trace(softmax, X, on=("numpy", Wrong("exp")), ulps=1).agree


@pytest.mark.parametrize("library", ["numpy", "strict", "torch", "jax", "cupy"])
def test_a_library_agrees_with_itself(library):
    # which has neither CUB, and so no sort, nor cuSOLVER
    emulated = open_backend(library).card == "emulated GPU"

    def everything(x, pair, *, xp, number=1):
        y, k = pair["y"], pair["k"]
        x = x[1:]
        z = -(x**2) + number * abs(y) // 2 % 3 - 1 / (x + 10) + (x @ y)
        z += 1
        z *= xp.where(x > 0, x, 0.5)
        low, high = xp.astype(k, xp.int64) << 2 & 7 | 1, ~(k ^ 3) >> 1
        flag = bool(xp.all(x == x)) and float(x[0]) < 9 and int(k[0]) == 0 and k.shape == (3,)
        values = xp.sum(k) if emulated else xp.unique_counts(k)
        info = xp.finfo(x.dtype), xp.isdtype(x.dtype, "real floating"), xp.pi
        stack = xp.concat([xp.reshape(z, (1, -1)), xp.stack([x, y])])
        stack = stack[:, :3] + 20 * xp.eye(3, dtype=x.dtype)
        solved = stack @ y[:3] if emulated else xp.linalg.solve(stack, y[:3])
        return [z, low, high, flag, values, info, solved.T if solved.ndim > 1 else solved, stack.mT]

    given = X, {"y": X[:5] / 3, "k": np.array([0, 2, 2])}
    found = trace(everything, *given, on=(library, library), number=3)
    assert found.agree
    assert found.operations > 30
    assert str(found) == f"{library} and {library} agree in {found.operations} operations"


def test_the_reproducible_namespaces_agree():
    open_backend("torch")

    def walk(x, xp):
        stream = xp.random(3)
        steps = stream.normal(x.shape) + stream.choice(x, 6)
        return xp.linalg.qr(xp.reshape(xp.cumulative_sum(steps), (3, 2)))

    on = tuple(map(reproducible.namespace, ("numpy", "torch")))
    found = trace(walk, X, on=on)
    assert found.agree, found
    assert found.operations == 7
    assert found.names == ("reproducible numpy", "reproducible torch")
    own = trace(softmax, X, on=(array_api_compat.numpy, "strict"))
    assert own.names == ("numpy", "strict")
    assert own.agree


def test_functions_of_an_extension_have_its_name():
    found = trace(lambda a, xp: xp.linalg.inv(a), np.eye(2), on=("numpy", Wrong("inv")))
    assert found.operation == "linalg.inv"
    assert "linalg.inv(float64[2, 2]) in" in str(found)


def test_a_namespace_is_found_by_the_arrays():
    def double(x, factor=2.0):
        xp = array_api_compat.array_namespace(x)
        return xp.multiply(x, factor)

    found = trace(double, X, on=("numpy", Wrong("multiply")))
    assert found.operation == "multiply"
    assert "multiply(2.0, 2.0)" in str(found)


def test_another_way_is_named():
    def way(x, xp):
        return xp.abs(x) if xp.__name__ == "wrong" else xp.exp(-x)

    found = trace(way, X, on=("numpy", Wrong(None)))
    line = way.__code__.co_firstlineno + 1
    assert found.parted == (
        f"what they compute, after 0 operations: numpy calls neg in test_tracing.py:{line}, "
        f"wrong calls abs in test_tracing.py:{line}"
    )

    def ends(x, xp):
        return x + 1 if xp.__name__ == "wrong" else xp.exp(x + 1)

    assert trace(ends, X, on=("numpy", Wrong(None))).parted.endswith("wrong ends")
    found = trace(ends, X, on=(Wrong(None), "numpy"))
    assert found.parted.startswith("what they compute, after 1 operation: wrong ends, numpy calls")


def test_an_array_that_is_changed_in_place_is_found():
    open_backend("jax")

    def shifted(x):
        y = x
        y += 1.0
        return x

    given = X.copy()
    found = trace(shifted, given, on=("numpy", "jax"))
    assert found.operation is None
    assert found.parted.startswith("the result, though 1 operation agree")
    np.testing.assert_array_equal(given, X)

    def set_item(x):
        x[2] = 7.0
        return x * 2

    np.testing.assert_array_equal(trace(set_item, X, on=("numpy", "strict")).operations, 2)
    with pytest.raises(TypeError, match="immutable"):
        trace(set_item, X, on=("numpy", "jax"))


@pytest.mark.parametrize("on", ["numpy", ("numpy",), ("numpy", "strict", "numpy"), None, 3])
def test_two_namespaces_are_needed(on):
    with pytest.raises(ArgumentError, match="on must be two namespaces"):
        trace(softmax, X, on=on)


def test_what_is_no_namespace():
    for wrong in (3, None, X[0]):
        with pytest.raises(ArgumentError, match="on must have names of libraries or namespaces"):
            trace(softmax, X, on=("numpy", wrong))
    for wrong in (-1, "few", float("nan")):
        with pytest.raises(ArgumentError, match="ulps must be a finite number >= 0"):
            trace(softmax, X, ulps=wrong)
    with pytest.raises(ArgumentError, match="unknown backend 'nunpy'; did you mean 'numpy'"):
        trace(softmax, X, on=("numpy", "nunpy"))
    with pytest.raises(BackendError, match="no device 'cuda:0'"):
        trace(softmax, X, on=("numpy:cuda:0", "numpy"))
