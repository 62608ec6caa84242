"""`xpnn.reproducible.namespace`: what a user of the array API standard meets."""

import inspect
import operator
import subprocess
import sys

import array_api_strict
import numpy as np
import pytest

from scripts.checks import standard
from tests.helpers import environment, open_backend, skip_without_sorting
from xpnn import reproducible


@pytest.fixture
def xp(reproducible_xp):
    """The namespace, opened by its library's name and outside of any scope."""
    return reproducible_xp


HOST = np.arange(24.0).reshape(2, 3, 4) - 7
KEYS = [
    0, -1, (1, 2), (1, 2, 3), slice(None), slice(1, None), slice(None, None, -1), slice(5, 1, -2),
    (slice(None), slice(None, None, 2)), (Ellipsis, 0), (Ellipsis, slice(1, 3)), (None, 1),
    (slice(None), None, 2), (0, Ellipsis, -1), Ellipsis, (slice(3, 1), 0), (slice(-99, 99), 1),
    np.array([1, 0, 1, -1]), np.array([[0, 1], [1, 1]]), (np.array([0, 1]), np.array([2, -1])),
    (np.array([[0], [1]]), np.array([0, 2]), np.array([3, 1])), (1, np.array([2, 0])),
    HOST > 0, HOST[:, :, 0] > 0, np.zeros_like(HOST, dtype=bool), np.array([True, False]),
    (slice(None), np.array([0, 2])), np.zeros(0, dtype=np.int64),
]  # fmt: skip


def moved(xp, key):
    parts = key if isinstance(key, tuple) else (key,)
    parts = tuple(xp.asarray(k) if isinstance(k, np.ndarray) else k for k in parts)
    return parts if isinstance(key, tuple) else parts[0]


def test_keys_mean_what_they_mean_in_numpy(xp):
    x = xp.asarray(HOST)
    for key in KEYS:
        np.testing.assert_array_equal(np.asarray(x[moved(xp, key)]), HOST[key], strict=True)


def test_item_assignment_is_numpys(xp):
    for dtype in ("float64", "float32", "int16", "uint32", "uint64"):
        for key in KEYS:
            host = HOST.astype("int64").astype(dtype)
            x = xp.asarray(host)
            row, view = host.copy(), x[0]
            value = np.asarray(np.arange(host[key].size).reshape(host[key].shape) + 50, dtype=dtype)
            for one in (3, value):
                row[key] = one
                x[moved(xp, key)] = xp.asarray(one) if isinstance(one, np.ndarray) else one
                np.testing.assert_array_equal(np.asarray(x), row, strict=True)
            # neither what was given nor a view changes
            np.testing.assert_array_equal(host, HOST.astype("int64").astype(dtype))
            np.testing.assert_array_equal(np.asarray(view), host[0])


def test_of_several_values_for_one_element_the_last_counts(xp):
    x = xp.zeros(3)
    x[xp.asarray([1, 1, 0, 1])] = xp.asarray([5.0, 6.0, 7.0, 8.0])
    assert np.asarray(x).tolist() == [7.0, 8.0, 0.0]


@pytest.mark.parametrize("key", [3, -4, (0, 0), np.array([0, 3]), np.array([-4]), 1.0])
def test_indices_out_of_range_are_errors(xp, key):
    """JAX takes the last element."""
    x = xp.asarray([1.0, 2.0, 3.0])
    with pytest.raises(IndexError):
        x[moved(xp, key)]
    with pytest.raises(IndexError):
        x[moved(xp, key)] = 1.0
    if isinstance(key, np.ndarray):
        with pytest.raises(IndexError, match="axis of 3"):
            xp.take(x, xp.asarray(key))
        with pytest.raises(IndexError, match="axis of 3"):
            xp.take_along_axis(x, xp.asarray(key), axis=0)


def test_an_item_must_fit(xp):
    x, whole = xp.zeros(3, dtype=xp.float32), xp.zeros(3, dtype=xp.uint8)
    with pytest.raises(TypeError, match="float32 cannot take float64"):
        x[0] = xp.asarray(1.0)
    with pytest.raises(TypeError, match="complex"):
        x[0] = 1j
    with pytest.raises(OverflowError, match="256 is outside the range of uint8"):
        whole[0] = 256
    with pytest.raises(TypeError, match="can't be combined with uint8"):
        whole[0] = 0.5
    with pytest.raises(ValueError, match=r"shape \(3,\) can't be broadcast to \(2,\)"):
        x[:2] = xp.zeros(3, dtype=xp.float32)
    assert np.asarray(x).tolist() == [0, 0, 0]


OPERATORS = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and_", "or_", "xor",
             "lshift", "rshift", "matmul", "lt", "le", "gt", "ge", "eq", "ne")  # fmt: skip


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_reflected_and_in_place(xp, name):
    bits = name in ("and_", "or_", "xor", "lshift", "rshift")
    dtype = "int64" if bits else "float64"
    host = np.array([[3, 1], [2, 5]]).astype(dtype)
    x = xp.asarray(host)
    function = getattr(operator, name)
    expected = function(host, host)
    np.testing.assert_allclose(np.asarray(function(x, x)), expected, rtol=1e-15)
    if name != "matmul":
        number = 3 if bits else 2.5
        for left in (True, False):
            pair = (number, x) if left else (x, number)
            wanted = function(*((number, host) if left else (host, number)))
            np.testing.assert_allclose(np.asarray(function(*pair)), wanted, rtol=1e-15)
    inplace = getattr(operator, f"i{name.rstrip('_')}", None)
    if inplace is not None:
        y = xp.asarray(host)
        same, view = y, y[0]
        y = inplace(y, x)
        assert y is same
        np.testing.assert_allclose(np.asarray(y), expected, rtol=1e-15)
        np.testing.assert_array_equal(np.asarray(view), host[0])


def test_sorting(xp, library):
    skip_without_sorting(library)
    host = np.array([0xFFF8000000000123, 0x8000000000000000, 0x3FF0000000000000], dtype=np.uint64)
    order = xp.sort(xp.asarray(host.view(np.float64)))
    assert np.asarray(order).view(np.uint64).tolist() == [0, host[2], 0x7FF8000000000000]
    assert np.asarray(xp.argsort(xp.ones(2))).dtype == np.int64


def test_dtypes_are_the_same_everywhere(xp):
    """PyTorch's own default is float32."""
    for made, name in (
        (xp.zeros(2), "float64"), (xp.ones(2), "float64"), (xp.eye(2), "float64"),
        (xp.asarray(0.5), "float64"), (xp.asarray([1, 2]), "int64"), (xp.asarray(True), "bool"),
        (xp.arange(3), "int64"), (xp.arange(3.0), "float64"), (xp.linspace(0, 1, 3), "float64"),
        (xp.full(2, 1), "int64"), (xp.full(2, 1.0), "float64"), (xp.full(2, True), "bool"),
        (xp.sum(xp.ones(2, dtype=xp.int8)), "int64"),
        (xp.prod(xp.ones(2, dtype=xp.uint8)), "uint64"),
        (xp.count_nonzero(xp.ones(2)), "int64"),
        (xp.asarray([2**63, 1]), "uint64"), (xp.asarray(np.float32([1])), "float32"),
        (xp.asarray(np.array([1.0, 2.0], dtype=">f8")), "float64"),
    ):  # fmt: skip
        assert str(np.asarray(made).dtype) == name
    big = xp.asarray([2**64 - 1, 2**64 - 2, 0], dtype=xp.uint64)
    assert np.asarray(big).tolist() == [2**64 - 1, 2**64 - 2, 0]


@pytest.mark.parametrize("name", ["int8", "int64", "uint8", "uint64"])
def test_limits_of_integers(xp, name):
    dtype, expected = getattr(xp, name), np.iinfo(name)
    found = xp.iinfo(dtype)
    assert (found.bits, found.min, found.max) == (expected.bits, expected.min, expected.max)
    assert found.dtype == dtype  # PyTorch's own has a string


def test_ranges_and_their_ends(xp):
    assert np.asarray(xp.arange(5, 0, -2)).tolist() == [5, 3, 1]
    assert np.asarray(xp.arange(0.0, 1.0, 0.1)).tolist() == [k * 0.1 for k in range(10)]
    grid = np.asarray(xp.linspace(0.0, 0.7, 8))
    assert grid.tolist() == [k * (0.7 / 7) for k in range(7)] + [0.7]
    assert np.asarray(xp.linspace(1, 2, 4, endpoint=False)).tolist() == [1, 1.25, 1.5, 1.75]


def test_nan_and_zero_leave_with_one_pattern(xp):
    """Of a NaN with another sign and payload, the same bits come out everywhere."""
    patterns = [0x7FF8000000000001, 0xFFF8000000000123, 0x8000000000000000, 0x7FF0000000000001]
    host = np.array(patterns, dtype=np.uint64).view(np.float64)
    x = xp.asarray(host)
    for array in (x, x + 1.0 - 1.0, xp.where(x == x, x, -x)):
        found = np.asarray(array).view(np.uint64)
        assert set(found.tolist()) <= {0x7FF8000000000000, 0}
    assert not np.asarray(xp.signbit(x)).any()
    with np.errstate(invalid="ignore"):
        single = np.asarray(xp.astype(x, xp.float32)).view(np.uint32)
    assert set(single.tolist()) == {0x7FC00000, 0}


def test_arrays_of_other_kinds(xp):
    read_only = np.arange(6.0)[::-2]
    read_only.flags.writeable = False
    assert np.asarray(xp.asarray(read_only)).tolist() == [5, 3, 1]
    other = reproducible.namespace("numpy").asarray([1.5, 2.5])
    assert np.asarray(xp.asarray(other)).tolist() == [1.5, 2.5]
    assert np.asarray(xp.from_dlpack(np.array([1.5, 2.5]))).tolist() == [1.5, 2.5]
    x = xp.asarray([1.5, float("nan")])
    if open_backend(x.__array_namespace__()._backend.name).card is None:
        np.testing.assert_array_equal(np.from_dlpack(x), [1.5, np.nan])
    reason = "can't be kept to the bit|has no numbers|must have numbers only"
    refused = [np.zeros(2, name) for name in ("complex64", "float16", "longdouble", "M8[s]")]
    for value in (*refused, np.array(["a"]), np.array([None]), "text", None):
        with pytest.raises(TypeError, match=reason):
            xp.asarray(value)
        if isinstance(value, np.ndarray):
            with pytest.raises(TypeError, match=reason):
                xp.from_dlpack(value)


@pytest.mark.parametrize("version", [None, (0, 0), (0, 8), (1, 0), (2, 0)])
def test_each_version_of_dlpack_is_exported(xp, version):
    assert "dltensor" in repr(xp.ones(2).__dlpack__(max_version=version))


def test_numpys_functions_and_arrays_are_refused(xp):
    x = xp.ones(3)
    with pytest.raises(TypeError, match=r"numpy\.sum would compute in NumPy's own way"):
        np.sum(x)
    for call in (
        lambda: np.ones(3) + x, lambda: x * np.ones(3), lambda: np.add(np.ones(3), x),
        lambda: np.float32(2) * x, lambda: x @ np.ones(3), lambda: x < np.ones(3),
    ):  # fmt: skip
        with pytest.raises(TypeError):
            call()


def test_what_is_refused_says_why(xp):
    with pytest.raises(AttributeError, match="'fft' is refused: Fourier transforms are complex"):
        xp.fft  # noqa: B018
    with pytest.raises(AttributeError, match=r"linalg\.eig isn't available .* complex"):
        xp.linalg.eig  # noqa: B018
    with pytest.raises(AttributeError, match="'einsum' isn't available reproducibly"):
        xp.einsum  # noqa: B018


def test_arguments_are_those_of_the_standard():
    """Those that are given by name."""
    own = reproducible.namespace("numpy")
    main, algebra, _ = standard.functions()
    for name in {*main, *algebra} - {"imag"}:
        if name in ("linalg.eig", "linalg.eigvals"):
            continue
        mine, theirs = (
            inspect.signature(operator.attrgetter(name)(xp)).parameters
            for xp in (own, array_api_strict)
        )
        for key, parameter in theirs.items():
            if parameter.kind is not parameter.POSITIONAL_ONLY:
                assert mine[key].kind == parameter.kind, name
                if key not in ("device", "copy"):  # a default of array-api-strict's own
                    assert mine[key].default == parameter.default, name
    with pytest.raises(TypeError, match="dtype"):
        own.concat([own.ones(2)], dtype=own.float32)
    assert type(own.broadcast_arrays(own.ones(2), own.ones(1))) is list  # 2024.12 has no tuple


def test_asarray_without_a_copy_is_the_same_array():
    own = reproducible.namespace("numpy")
    x = own.zeros(2)
    y = own.asarray(x, copy=False)
    z = own.asarray(x)
    x[0] = 1.0
    assert np.asarray(y).tolist() == [1.0, 0.0]
    assert np.asarray(z).tolist() == [0.0, 0.0]


def test_a_library_is_found_by_name_module_or_array():
    numpy = reproducible.namespace("numpy")
    assert reproducible.namespace() is numpy
    assert reproducible.namespace(np) is numpy
    assert reproducible.namespace(np.ones(2)) is numpy
    assert reproducible.namespace(numpy.ones(2)) is numpy
    backend = open_backend("torch")
    torch = reproducible.namespace("torch", device="cpu")
    assert reproducible.namespace(backend.library.ones(2)) is torch
    assert torch.ones(2).device == backend.library.device("cpu")
    with pytest.raises(ValueError, match="backend"):
        reproducible.namespace("tensorflow")
    with pytest.raises(ValueError, match="device must be None with an array"):
        reproducible.namespace(np.ones(2), device="cpu")
    with pytest.raises(ValueError, match="'half'"):
        reproducible.namespace("numpy", precision="half")


def test_users_settings_change_nothing():
    """PyTorch's default dtype and autocast; JAX without x64, which is how it starts."""
    expected = np.asarray(reproducible.namespace("numpy").sin(
        reproducible.namespace("numpy").linspace(0, 9, 5))).tobytes()  # fmt: skip
    torch = open_backend("torch").library
    default = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float16)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            xp = reproducible.namespace("torch")
            assert np.asarray(xp.sin(xp.linspace(0, 9, 5))).tobytes() == expected
    finally:
        torch.set_default_dtype(default)
    jax = open_backend("jax").library
    with jax.enable_x64(False):
        xp = reproducible.namespace("jax")
        x = xp.linspace(0, 9, 5)
        x += 1.0
        x -= 1.0
        assert np.asarray(xp.sin(x / 1.0)).tobytes() == expected
        assert np.asarray(xp.linalg.inv(xp.eye(2) * 3.0)).dtype == np.float64


def test_the_import_stays_light():
    code = "import sys, xpnn; print('xpnn.reproducible' in sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment()
    )
    assert found.stdout == "False\n"
