"""What a reproducible array can't keep to the bit, it refuses: complex numbers and small floats."""

import operator

import numpy as np
import pytest

from tests.helpers import put
from xpnn import reproducible

REFUSED = r"can't be kept to the bit"
BINARY = (
    "add", "sub", "mul", "truediv", "pow", "lt", "le", "gt", "ge", "eq", "ne",
    "iadd", "isub", "imul", "itruediv",
)  # fmt: skip


@pytest.fixture
def ns(backend):
    return reproducible.namespace(backend.name, device=backend.options()["device"])


@pytest.fixture
def x(ns, backend, dtype):
    return put(ns, backend, [1.0, 2.0], dtype)


def unknown(backend):
    """Return the library's own dtypes that are refused."""
    names = ("complex64", "complex128", "float16", "bfloat16")
    return [getattr(backend.xp, name) for name in names if hasattr(backend.xp, name)]


@pytest.mark.parametrize("name", BINARY)
def test_operators_refuse_complex_numbers(x, name):
    with pytest.raises(TypeError, match=f"complex {REFUSED}"):
        getattr(operator, name)(x, 1j)
    if not name.startswith("i"):
        with pytest.raises(TypeError, match=f"complex {REFUSED}"):
            getattr(operator, name)(1j, x)


@pytest.mark.parametrize(
    "call",
    [
        lambda ns, x, d: ns.astype(x, d),
        lambda ns, x, d: ns.astype(x > 0, d),
        lambda ns, x, d: ns.sum(x, dtype=d),
        lambda ns, x, d: ns.zeros(3, dtype=d),
        lambda ns, x, d: ns.ones(3, dtype=d),
        lambda ns, x, d: ns.empty(3, dtype=d),
        lambda ns, x, d: ns.full(3, 1, dtype=d),
        lambda ns, x, d: ns.eye(3, dtype=d),
        lambda ns, x, d: ns.zeros_like(x, dtype=d),
        lambda ns, x, d: ns.full_like(x, 1, dtype=d),
        lambda ns, x, d: ns.asarray([1, 2], dtype=d),
        lambda ns, x, d: ns.result_type(x, d),
        lambda ns, x, d: ns.can_cast(x, d),
        lambda ns, x, d: ns.can_cast(d, x.dtype),
    ],
)
def test_functions_refuse_dtypes(ns, x, backend, call):
    dtypes = unknown(backend)
    assert dtypes
    for dtype in dtypes:
        with pytest.raises(TypeError, match=REFUSED):
            call(ns, x, dtype)


@pytest.mark.parametrize(
    "call",
    [
        lambda ns, x: ns.where(x > 0, x, 1j),
        lambda ns, x: ns.maximum(x, 1j),
        lambda ns, x: ns.clip(x, 0, 1j),
        lambda ns, x: ns.full(3, 1j),
        lambda ns, x: ns.asarray([1.0, 1j]),
        lambda ns, x: ns.asarray([[1j]], dtype=x.dtype),
        lambda ns, x: ns.less(x, 1j),
        lambda ns, x: ns.result_type(x, 1j),
        lambda ns, x: ns.asarray(np.asarray([1j]), dtype=x.dtype),
        lambda ns, x: ns.asarray(np.float16([1.0])),
        lambda ns, x: ns.asarray([np.float16(1.0)], dtype=x.dtype),
        lambda ns, x: ns.asarray(np.float16([1.0]), dtype=x.dtype),
    ],
)
def test_values_are_refused(ns, x, call):
    with pytest.raises(TypeError, match=REFUSED):
        call(ns, x)


def test_the_library_s_own_arrays_are_refused(ns, backend):
    for dtype in unknown(backend):
        with pytest.raises(TypeError, match=REFUSED):
            ns.wrap(backend.xp.ones(2, dtype=dtype))


def test_the_namespace_has_no_complex_dtypes(ns):
    for name in ("complex64", "complex128"):
        with pytest.raises(AttributeError, match="complex numbers can't be kept"):
            getattr(ns, name)


def test_python_numbers_keep_the_dtype_or_are_refused(ns, backend):
    whole = put(ns, backend, [1, 2], "uint8")
    for number in (256, -1):
        with pytest.raises(
            OverflowError, match=f"{number} is outside the range of uint8, 0 to 255"
        ):
            whole + number
        with pytest.raises(OverflowError):
            ns.equal(whole, number)
    for number in (0.5, float("nan")):
        with pytest.raises(TypeError, match="can't be combined with uint8"):
            whole * number
    with pytest.raises(TypeError, match="can't be combined with bool"):
        (whole > 1) & 1


@pytest.mark.parametrize("dtype", ["float32"])
def test_a_wider_array_without_dimensions_counts_like_any_other(ns, x, backend):
    """PyTorch's own operators would keep float32."""
    wide = put(ns, backend, 1 / 3)
    for result in (x + wide, wide * x, x / wide, ns.maximum(x, wide), ns.where(x > 1, x, wide)):
        assert result.dtype == wide.dtype
        assert backend.to_numpy(ns.unwrap(result)).dtype == np.float64
    assert ns.concat([x, ns.reshape(wide, (1,))]).dtype == wide.dtype


def test_kinds_are_not_mixed(ns, x, backend):
    whole, truth = put(ns, backend, [1, 2], "int64"), put(ns, backend, [True, False], "bool")
    for a, b in ((x, whole), (whole, truth), (truth, x)):
        for operation in (operator.add, operator.mul, operator.lt, operator.eq, ns.maximum):
            with pytest.raises(TypeError, match="no common dtype"):
                operation(a, b)
        with pytest.raises(TypeError, match="no common dtype"):
            ns.concat([a, b])
