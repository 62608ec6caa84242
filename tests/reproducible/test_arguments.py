"""Arguments that libraries treat in their own ways: here they have one meaning, or are refused."""

import copy
import operator
import pickle

import numpy as np
import pytest

from tests.helpers import open_backend, skip_without_sorting
from xpnn import reproducible
from xpnn.errors import ArgumentError
from xpnn.reproducible import arguments
from xpnn.testing import same_on_all

XP = reproducible.namespace("numpy")
X = XP.asarray([[1.0, 2.0], [3.0, 4.0]])
NAN = float("nan")

# each takes a namespace and what shall be a number of things
COUNTS = {
    "zeros": lambda xp, n: xp.zeros(n),
    "zeros of several": lambda xp, n: xp.zeros((2, n)),
    "ones": lambda xp, n: xp.ones(n),
    "empty": lambda xp, n: xp.empty(n),
    "full": lambda xp, n: xp.full(n, 1.0),
    "eye": lambda xp, n: xp.eye(n),
    "eye of columns": lambda xp, n: xp.eye(2, n),
    "linspace": lambda xp, n: xp.linspace(0, 1, n),
    "diff": lambda xp, n: xp.diff(xp.ones(3), n=n),
    "repeat": lambda xp, n: xp.repeat(xp.ones(2), n),
    "tile": lambda xp, n: xp.tile(xp.ones(2), (n,)),
    "broadcast_to": lambda xp, n: xp.broadcast_to(xp.ones(()), (n,)),
    "tensordot": lambda xp, n: xp.tensordot(xp.ones((2, 2)), xp.ones((2, 2)), axes=n),
    "uniform": lambda xp, n: xp.random(1).uniform(n),
    "normal": lambda xp, n: xp.random(1).normal((2, n)),
    "integers": lambda xp, n: xp.random(1).integers(5, shape=n),
    "permutation": lambda xp, n: xp.random(1).permutation(n),
    "choice": lambda xp, n: xp.random(1).choice(5, n),
    "choice without replacement": lambda xp, n: xp.random(1).choice(5, n, replace=False),
    "choice from": lambda xp, n: xp.random(1).choice(n, 0),
}
WHOLE = {
    "tril": lambda xp, n: xp.tril(xp.ones((3, 3)), k=n),
    "triu": lambda xp, n: xp.triu(xp.ones((3, 3)), k=n),
    "eye": lambda xp, n: xp.eye(3, k=n),
    "roll": lambda xp, n: xp.roll(xp.ones(3), n),
    "diagonal": lambda xp, n: xp.linalg.diagonal(xp.ones((3, 3)), offset=n),
    "trace": lambda xp, n: xp.linalg.trace(xp.ones((3, 3)), offset=n),
    "matrix_power": lambda xp, n: xp.linalg.matrix_power(xp.eye(2), n),
    "sum": lambda xp, n: xp.sum(xp.ones((3, 3)), axis=n),
    "cumulative_sum": lambda xp, n: xp.cumulative_sum(xp.ones((3, 3)), axis=n),
    "flip": lambda xp, n: xp.flip(xp.ones((3, 3)), axis=n),
    "expand_dims": lambda xp, n: xp.expand_dims(xp.ones((3, 3)), axis=n),
    "concat": lambda xp, n: xp.concat([xp.ones((3, 3))], axis=n),
    "stack": lambda xp, n: xp.stack([xp.ones((3, 3))], axis=n),
    "argmax": lambda xp, n: xp.argmax(xp.ones((3, 3)), axis=n),
    "cross": lambda xp, n: xp.linalg.cross(xp.ones((3, 3)), xp.ones((3, 3)), axis=n),
    "seed": lambda xp, n: xp.random(n),
    "spawn": lambda xp, n: xp.random(1).spawn(n),
}


@pytest.fixture(params=["numpy", "strict", "torch", "jax", "cupy"])
def ns(request):
    return reproducible.namespace(
        request.param, device=open_backend(request.param).options()["device"]
    )


@pytest.mark.parametrize("function", COUNTS)
def test_a_number_of_things_is_whole_and_not_negative(ns, function):
    for wrong in (-1, -3, 1.5, True, "3", NAN):
        with pytest.raises(ArgumentError, match=r"must not|must be a whole number"):
            COUNTS[function](ns, wrong)
    # NumPy's integers, and arrays without axes, are numbers too
    for right in (np.int64(2), np.uint8(2), XP.asarray(2)):
        assert COUNTS[function](XP, right).shape == COUNTS[function](XP, 2).shape


@pytest.mark.parametrize("function", WHOLE)
def test_a_whole_number_is_one(ns, function):
    for wrong in (0.5, 1.0, True, "1", [[1]]):
        with pytest.raises(ArgumentError, match="must be a whole number"):
            WHOLE[function](ns, wrong)
    if function not in ("seed", "spawn"):
        found, expected = (WHOLE[function](ns, n) for n in (np.int16(1), 1))
        np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))


def test_axes():
    assert arguments.axes((-1, 0), 3) == (2, 0)
    with pytest.raises(IndexError, match="axis 3 is out of range for an array of 3 axes"):
        arguments.axes(3, 3)
    with pytest.raises(ArgumentError, match="has an axis twice"):
        arguments.axes((0, -3), 3)


def arranged(xp):
    x = xp.reshape(xp.arange(6), (2, 3))
    times = xp.asarray([0, 2, 1])
    return [
        xp.roll(x, (1, 2), axis=(1, 0)), xp.roll(x, 4), xp.roll(x, 1, axis=(0, 1)),
        xp.roll(x, (1, 4), axis=(1, -1)), xp.roll(x, 1, axis=(1, 1)), xp.roll(x, (), axis=()),
        xp.roll(x, 2**70, axis=1), xp.roll(x, -(2**70)), xp.roll(x[:0], 1, axis=0),
        xp.roll(xp.asarray(3), 1),
        xp.expand_dims(x, axis=(0, -1)), xp.squeeze(xp.reshape(x, (1, 6, 1)), axis=(0, 2)),
        xp.repeat(x, times, axis=1), xp.repeat(x, xp.asarray([2]), axis=0), xp.repeat(x, 2),
        xp.tile(x, (2, 1, 1)), xp.reshape(x, (-1, 2)), xp.reshape(x[:0], (-1, 3)),
        xp.tril(x, k=9), xp.triu(x, k=-(10**20)), xp.flip(x, axis=(0, -1)),
        xp.permute_dims(x, (-1, 0)), *xp.unstack(x, axis=-1),
    ]  # fmt: skip


@pytest.mark.parametrize("library", ["strict", "torch", "jax"])
@same_on_all
def test_elements_are_arranged_alike(reproducible_xp):
    return arranged(reproducible_xp)


def test_elements_are_where_numpy_has_them():
    x = np.arange(6).reshape(2, 3)
    expected = [
        np.roll(x, (1, 2), (1, 0)), np.roll(x, 4), np.roll(x, 1, (0, 1)),
        np.roll(x, (1, 4), (1, -1)), np.roll(x, 1, (1, 1)), x,
        np.roll(x, 2**70 % 3, 1), np.roll(x, -(2**70) % 6), x[:0], 3,
        np.expand_dims(x, (0, -1)), x.ravel(), np.repeat(x, [0, 2, 1], 1), np.repeat(x, 2, 0),
        np.repeat(x, 2), np.tile(x, (2, 1, 1)), x.reshape(-1, 2), x[:0], x, x, x[::-1, ::-1], x.T,
        *np.moveaxis(x, -1, 0),
    ]  # fmt: skip
    for found, right in zip(arranged(XP), expected, strict=True):
        np.testing.assert_array_equal(np.asarray(found), right)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda xp, x: xp.concat([x, xp.zeros(0)]), r"\(2, 2\), \(0,\) don't fit along axis 0"),
        (lambda xp, x: xp.concat([x, xp.ones((2, 3))]), "don't fit"),
        (lambda xp, x: xp.stack([x, x[:1]]), "don't fit"),
        (lambda xp, x: xp.roll(x, (1, 2)), "one number without an axis"),
        (lambda xp, x: xp.roll(x, (1, 2), axis=0), "different lengths"),
        (lambda xp, x: xp.squeeze(x, axis=0), "has not one element"),
        (lambda xp, x: xp.permute_dims(x, (0,)), "must be all 2 axes"),
        (lambda xp, x: xp.reshape(x, (3, -1)), r"can't have the shape \(3, -1\)"),
        (lambda xp, x: xp.reshape(x, (-1, -1)), "can't have the shape"),
        (lambda xp, x: xp.reshape(x[:0], (0, -1)), "can't have the shape"),
        (lambda xp, x: xp.repeat(x, xp.asarray([1, -1])), "must not have negative numbers"),
        (lambda xp, x: xp.repeat(x, xp.asarray([1, 1, 1]), axis=0), "don't fit 2 elements"),
        (lambda xp, x: xp.searchsorted(x, x), "x1 must have one axis"),
        (lambda xp, x: xp.arange(NAN), "arange needs finite numbers"),
        (lambda xp, x: xp.full(2, x), "fill_value must be a number"),
        (lambda xp, x: xp.linspace([0, 1], 1, 3), "start must be a number"),
        (lambda xp, x: xp.random(1).normal(std=-1.0), "std must be a finite number >= 0"),
        (lambda xp, x: xp.random(1).uniform(high=float("inf")), "high must be a finite number"),
    ],
)
def test_what_does_not_fit(ns, call, message):
    with pytest.raises(ValueError, match=message):
        call(ns, ns.ones((2, 2)))


@pytest.mark.parametrize(
    "call",
    [
        lambda xp, raw: xp.sin(raw),
        lambda xp, raw: xp.floor(raw),
        lambda xp, raw: xp.concat([raw]),
        lambda xp, raw: xp.matrix_transpose(raw),
        lambda xp, raw: xp.random(1).permutation(raw),
        lambda xp, raw: xp.random(1).choice(4, p=raw),
        lambda xp, raw: xp.linalg.solve(raw, raw),
    ],
)
def test_arrays_that_are_not_wrapped(ns, call):
    with pytest.raises(TypeError, match="reproducible array"):
        call(ns, np.ones((2, 2)))


def test_a_refused_draw_takes_no_numbers():
    stream = XP.random(1)
    for call in (
        lambda: stream.uniform(3, dtype=XP.int64),
        lambda: stream.normal((3, -1)),
        lambda: stream.normal(3, std="wide"),
    ):
        with pytest.raises((TypeError, ValueError)):
            call()
    assert stream.position == 0


# What an array is made of


class Quantity(np.ndarray):
    """An array with a unit, as of Astropy."""


MASKED = np.ma.masked_array([1.0, 2.0], [False, True])


@pytest.mark.parametrize(
    "value", [MASKED, [MASKED, np.ones(2)], [[1.0, 2.0], (MASKED,)], np.ma.masked,
              np.ones((1, 1)).view(np.matrix), np.ones(2).view(Quantity)]
)  # fmt: skip
def test_an_array_that_means_more_than_its_numbers_is_refused(ns, value):
    with pytest.raises(ArgumentError, match="must be a plain array, got a"):
        ns.asarray(value)
    if isinstance(value, np.ndarray):
        with pytest.raises(ArgumentError, match="must be a plain array"):
            ns.from_dlpack(value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("abc", "has no numbers"),
        (["a"], "has no numbers"),
        (np.array(["2026-01-01"], dtype="M8[D]"), "has no numbers"),
        (np.zeros(2, dtype=[("a", "f8")]), "has no numbers"),
        (np.array([1, 2], dtype=object), "object has no numbers"),
        (None, "must have numbers only, not NoneType"),
        ([1.0, None], "not NoneType"),
        ({1, 2}, "not set"),
        (np.longdouble([1.0]), "can't be kept to the bit"),
    ],
)
def test_what_is_no_number(ns, value, message):
    with pytest.raises(TypeError, match=message):
        ns.asarray(value)


def test_integers_of_more_than_64_bits(ns):
    for large in (2**64, [1, 10**30], -(2**63) - 1, [[-1], [2**63]]):
        with pytest.raises(OverflowError, match="outside the range of int64 and of uint64"):
            ns.asarray(large)
        floats = ns.asarray(large, dtype=ns.float64)
        np.testing.assert_array_equal(np.asarray(floats), np.asarray(large, dtype=float))
    np.testing.assert_array_equal(np.asarray(ns.asarray([0.5, 2**70])), [0.5, 2.0**70])


def test_integers_that_need_all_bits_of_uint64(ns):
    for value in (2**63, [2**64 - 1, 0], np.array([3, 2**64 - 1], dtype=np.ulonglong)):
        for dtype in (None, ns.uint64):
            found = np.asarray(ns.asarray(value, dtype=dtype))
            assert found.dtype == np.uint64
            assert found.tolist() == np.asarray(value, dtype=object).tolist()
    assert np.asarray(ns.asarray(np.array([-1], dtype=np.longlong))).tolist() == [-1]


def test_large_python_integers_become_the_nearest_floats(ns):
    for value in (2**70, 2**53 + 1, -(2**63) - 2**10, 10**30):
        for dtype, kind in ((ns.float64, np.float64), (ns.float32, np.float32)):
            expected = kind(float(value))
            for found in (ns.full(2, value, dtype=dtype), ns.asarray([value, -1], dtype=dtype),
                          ns.asarray([-1, value], dtype=dtype)[::-1],
                          ns.ones(1, dtype=dtype) * value):  # fmt: skip
                assert np.asarray(found)[0] == expected
    assert np.asarray(ns.asarray([2**63, -1], dtype=ns.float64)).tolist() == [2.0**63, -1.0]
    for dtype in (None, ns.int64, ns.uint64):
        with pytest.raises(OverflowError, match=r"is outside the range of u?int64"):
            ns.asarray([2**63, -1], dtype=dtype)


@pytest.mark.parametrize(
    ("arguments", "dtype"),
    [
        ((2**63, 2**63 + 2), None), ((2**63 - 1, 2**63 + 1), None),
        ((-(2**63), -(2**63) - 3, -1), None),
        ((300,), "uint8"), ((-129, 0), "int8"), ((-5, 5), "uint64"), ((5, -2, -1), "uint32"),
        ((2**64 - 1, 2**64 + 1), "uint64"), ((-1, 2**64, 2**62 + 1), "float64"),
    ],
)  # fmt: skip
def test_a_range_beyond_the_dtype_is_refused(ns, arguments, dtype):
    with pytest.raises(OverflowError, match="is outside the range of"):
        ns.arange(*arguments, dtype=dtype and getattr(ns, dtype))


@pytest.mark.parametrize(
    ("arguments", "dtype"),
    [
        ((2**63, 2**63 + 2), "uint64"), ((2**63 - 1, 2**63 + 1), "uint64"), ((256,), "uint8"),
        ((-(2**63), 2**63, 2**62), "int64"), ((2**64 - 1, -1, -(2**62)), "uint64"),
        ((0, 2**64, 2**63), "uint64"), ((128, -129, -128), "int16"), ((400, 400), "uint8"),
        ((400, 0, 7), "int8"), ((2**63 - 1, -(2**63) - 1, -(2**64) + 1), "int64"),
    ],
)  # fmt: skip
def test_ranges_are_those_of_python(ns, arguments, dtype):
    found = np.asarray(ns.arange(*arguments, dtype=getattr(ns, dtype)))
    assert found.tolist() == list(range(*arguments))
    assert found.dtype == dtype


def test_numbers_between_the_largest(ns):
    for start, stop in ((-1e308, 1e308), (1.5e308, -1.5e308)):
        for endpoint in (True, False):
            found = ns.linspace(start, stop, 4, endpoint=endpoint)
            expected = np.linspace(start / 4, stop / 4, 4, endpoint=endpoint) * 4
            np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-15, atol=0)


def test_bytes_in_another_order(ns):
    for dtype in (">f8", ">f4", ">i2", ">u8"):
        host = np.asarray([1, 2, 300], dtype=dtype)
        found = np.asarray(ns.asarray(host))
        np.testing.assert_array_equal(found, host)
        assert found.dtype == host.dtype.newbyteorder("=")


@pytest.mark.parametrize("name", ["float16", "bfloat16", "complex64", "complex128"])
def test_a_dtype_that_is_refused_says_why(ns, name):
    assert not hasattr(ns, name)
    with pytest.raises(AttributeError, match=f"{name}' is refused: .* can't be kept to the bit"):
        getattr(ns, name)


def test_tensors_without_plain_numbers_are_refused():
    torch = open_backend("torch").library
    xp = reproducible.namespace("torch")
    for tensor in (torch.eye(2).to_sparse(), torch.ones(2, device="meta")):
        with pytest.raises(TypeError, match="must be a dense tensor of numbers"):
            xp.asarray(tensor)
    x = torch.ones(2, requires_grad=True)
    with pytest.raises(TypeError, match=r"requires grad.*use x.detach\(\)"):
        xp.asarray(x)
    with pytest.raises(TypeError, match="requires grad"):
        torch.func.grad(lambda v: (xp.asarray(v) * 2.0).raw)(torch.tensor(1.0))
    assert np.asarray(xp.asarray(x.detach())).tolist() == [1.0, 1.0]
    with pytest.raises(ArgumentError, match="no library here has a Tensor on the device meta"):
        reproducible.namespace(torch.ones(2, device="meta"))


def test_jax_does_not_compile_reproducible_arrays():
    jax = open_backend("jax").library
    xp = reproducible.namespace("jax")
    x, one = xp.asarray([1.0, 2.0]), jax.numpy.ones(2)
    for call in (
        lambda: jax.jit(lambda v: (xp.asarray(v) * 3.0).raw)(one),
        lambda: jax.jit(lambda v: (x * x).raw + v)(one),
        lambda: jax.jit(lambda v: xp.ones(2).raw + v)(one),
        lambda: jax.vmap(lambda v: (xp.asarray(v) + 1.0).raw)(one),
        lambda: jax.grad(lambda v: (xp.asarray(v) * 2.0).raw)(1.0),
    ):
        with pytest.raises(TypeError, match=r"can't be traced, by jax.jit, vmap or grad"):
            call()


def nan_first(xp):
    rows = xp.asarray([[1.0, NAN, NAN], [NAN, 1.0, NAN], [-np.inf, NAN, NAN], [2.0, 1.0, 1.0]])
    single = xp.astype(rows, xp.float32)
    return [
        *(getattr(xp, f)(a, axis=axis) for f in ("argmin", "argmax") for a in (rows, single)
          for axis in (-1, 0, None)),
    ]  # fmt: skip


def test_the_first_nan_is_found(ns):
    """Of several, CuPy's own reduction finds any."""
    rows = np.array([[1.0, NAN, NAN], [NAN, 1.0, NAN], [-np.inf, NAN, NAN], [2.0, 1.0, 1.0]])
    expected = [f(rows, axis=axis) for f in (np.argmin, np.argmax) for _ in range(2)
                for axis in (-1, 0, None)]  # fmt: skip
    for found, right in zip(nan_first(ns), expected, strict=True):
        np.testing.assert_array_equal(np.asarray(found), right)


# Namespaces


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1, 2],), r"library must be one of numpy, .* got \[1, 2\]"),
        (({},), "library must be one of"),
        ((None,), "library must be one of"),
        ((np.ones((1, 1)).view(np.matrix),), "library must be one of"),
        (("nunpy",), "did you mean 'numpy'"),
        (("numpy", ["cpu"]), r"device must be a name such as 'cuda:0', got \['cpu'\]"),
        (("numpy", 0), "device must be a name"),
        (("numpy", None, []), "unknown precision"),
        (("numpy", None, "half"), "unknown precision 'half'"),
        ((np.ones(2), "cpu"), "device must be None with an array"),
    ],
)
def test_the_error_names_the_argument(arguments, message):
    options = dict(zip(("device", "precision"), arguments[1:], strict=False))
    with pytest.raises(ArgumentError, match=message):
        reproducible.namespace(arguments[0], **options)


# Copies


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
)
def test_copies(ns, copied):
    dtypes = ("float64", "float32", "int64", "uint16", "bool")
    for x in [ns.asarray([[0, 1], [1, 0]], dtype=getattr(ns, name)) for name in dtypes]:
        other = copied(x)
        assert isinstance(other, reproducible.Array)
        assert other.__array_namespace__() is ns
        assert (other.dtype, other.shape, other.device) == (x.dtype, x.shape, x.device)
        np.testing.assert_array_equal(np.asarray(other), np.asarray(x))
    x = ns.asarray([NAN, 0.1, -np.inf])
    before, other = np.asarray(x).tobytes(), copied(x)
    assert np.asarray(other).tobytes() == before
    other += 1.0
    assert np.asarray(x).tobytes() == before
    x *= 2.0
    assert np.asarray(other).tobytes() == np.asarray(ns.asarray([NAN, 1.1, -np.inf])).tobytes()
    assert copied(ns) is ns
    assert copied(ns.linalg) is ns.linalg


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
)
def test_a_copied_stream_goes_on_by_itself(copied):
    stream = XP.random(7)
    stream.uniform(5)
    other = copied(stream)
    drawn = np.asarray(other.uniform(4))
    assert stream.position == 5
    np.testing.assert_array_equal(np.asarray(stream.uniform(4)), drawn)


def test_a_copy_does_not_share_the_caller_s_buffer():
    host = np.ones(3)
    x = XP.asarray(host, copy=False)
    others = copy.copy(x), copy.deepcopy(x)
    host[:] = 7.0
    assert [np.asarray(a).tolist() for a in others] == [[1.0] * 3] * 2


def test_arrays_of_networks_copy_but_do_not_pickle():
    x = reproducible.arithmetic(open_backend("numpy").xp).ones(3)
    other = copy.deepcopy(x)
    other += 1.0
    assert x.raw.tolist() == [1.0] * 3
    with pytest.raises(TypeError, match="save the model"):
        pickle.dumps(x)


UNCHANGED = {
    "+x": lambda xp, x: +x,
    "real": lambda xp, x: xp.real(x),
    "conj": lambda xp, x: xp.conj(x),
    "abs": lambda xp, x: abs(x),
    "floor": lambda xp, x: xp.floor(x),
    "ceil": lambda xp, x: xp.ceil(x),
    "round": lambda xp, x: xp.round(x),
    "trunc": lambda xp, x: xp.trunc(x),
    "clip": lambda xp, x: xp.clip(x),
    "diff": lambda xp, x: xp.diff(x, n=0),
    "to_device": lambda xp, x: x.to_device(x.device),
    "reshape": lambda xp, x: xp.reshape(x, (2,)),
    "roll": lambda xp, x: xp.roll(x, 0),
    "tile": lambda xp, x: xp.tile(x, (1,)),
    "concat": lambda xp, x: xp.concat([x]),
    "broadcast_arrays": lambda xp, x: xp.broadcast_arrays(x)[0],
    "meshgrid": lambda xp, x: xp.meshgrid(x)[0],
    "astype": lambda xp, x: xp.astype(x, x.dtype),
    "asarray": lambda xp, x: xp.asarray(x),
}


@pytest.mark.parametrize("function", UNCHANGED)
def test_what_returns_the_elements_unchanged_returns_another_array(ns, function):
    for dtype in (ns.float64, ns.uint8, ns.int64):
        for changed in (0, 1):
            x = ns.asarray([1, 2], dtype=dtype)
            x += 1  # the array has a buffer of its own, which it may overwrite
            both = [x, UNCHANGED[function](ns, x)]
            both[changed] += 1
            both[changed][0] = 9
            assert np.asarray(both[changed]).tolist() == [9, 4]
            assert np.asarray(both[1 - changed]).tolist() == [2, 3]


# Arrays that don't fit


OTHER = {
    "x + y": lambda xp, x, y: x + y,
    "y + x": lambda xp, x, y: y + x,
    "x += y": lambda xp, x, y: operator.iadd(x, y),
    "x == y": lambda xp, x, y: x == y,
    "sin": lambda xp, x, y: xp.sin(y),
    "concat": lambda xp, x, y: xp.concat([x, y]),
    "meshgrid": lambda xp, x, y: xp.meshgrid(x, y),
    "where": lambda xp, x, y: xp.where(x > 0, x, y),
    "matmul": lambda xp, x, y: x @ y,
    "sum": lambda xp, x, y: xp.sum(y),
    "diff": lambda xp, x, y: xp.diff(x, append=y),
    "key": lambda xp, x, y: x[y.__array_namespace__().arange(1)],
    "key of several": lambda xp, x, y: x[y.__array_namespace__().arange(1), ...],
    "item": lambda xp, x, y: x.__setitem__(0, y[0]),
    "result_type": lambda xp, x, y: xp.result_type(x, y),
    "linalg": lambda xp, x, y: xp.linalg.vector_norm(y),
    "choice": lambda xp, x, y: xp.random(1).choice(3, 2, p=y),
}


@pytest.mark.parametrize("function", OTHER)
def test_arrays_of_another_library_are_refused(ns, function):
    """NumPy would compute with JAX's, whose dtypes equal its own, in float32."""
    for own, other in ((ns, XP), (XP, ns)):
        if own is not other:
            with pytest.raises(TypeError, match=r"take it over with xp\.asarray"):
                OTHER[function](own, own.ones(3), other.ones(3))
            taken = own.asarray(other.ones(3))
            assert np.asarray(own.ones(3) + taken).tolist() == [2.0] * 3
    assert np.asarray(ns.ones(3)).tolist() == [1.0] * 3


@pytest.mark.parametrize(
    "call",
    [
        lambda xp: xp.ones(3) + xp.ones(4),
        lambda xp: xp.ones((3, 1)) == xp.ones((4, 1)),
        lambda xp: xp.where(xp.ones(3) > 0, 1.0, xp.ones(4)),
        lambda xp: xp.maximum(xp.ones(3), xp.ones(2)),
        lambda xp: operator.iadd(xp.ones(3), xp.ones(4)),
        lambda xp: operator.iadd(xp.ones((3, 1)), xp.ones(5)),
        lambda xp: operator.isub(xp.ones((3, 1)), xp.ones((1, 3))),
        lambda xp: operator.imul(xp.ones((1, 3)), xp.ones((2, 3))),
        lambda xp: operator.iadd(xp.ones(1), xp.ones((1, 1))),
        lambda xp: xp.ones((2, 3)) @ xp.ones((2, 3)),
        lambda xp: xp.arange(3) @ xp.arange(2),
        lambda xp: xp.ones((2, 3, 3)) @ xp.ones((4, 3, 3)),
    ],
)
def test_shapes_that_do_not_fit(ns, call):
    with pytest.raises(ValueError, match=r"fit|broadcast|in place"):
        call(ns)


def test_in_place_with_shapes_that_fit(ns):
    for shape in ((2, 3), (3,), (1, 3), (2, 1), (1, 1), (1,), ()):
        x, host = ns.ones((2, 3)) * 1.0, np.ones((2, 3))
        other = np.arange(np.prod(shape, dtype=int)).reshape(shape) + 0.5
        x += ns.asarray(other)
        host += other
        np.testing.assert_array_equal(np.asarray(x), host, strict=True)


@pytest.mark.parametrize(
    "call",
    [
        lambda xp: xp.sin(1.0),
        lambda xp: xp.zeros_like([1, 2]),
        lambda xp: xp.reshape([1, 2], (2, 1)),
        lambda xp: xp.expand_dims(np.ones(2), axis=0),
        lambda xp: xp.tensordot([1.0], [1.0], axes=1),
        lambda xp: xp.linalg.trace([[1.0]]),
    ],
)
def test_what_is_no_array(ns, call):
    with pytest.raises(TypeError, match="a reproducible array is needed, not"):
        call(ns)


LARGE = np.array([2**64 - 1, 0, 2**63], dtype=np.uint64)


@pytest.mark.parametrize(
    "call",
    [
        lambda x, i: x[i],
        lambda x, i: x[i, ...],
        lambda x, i: x[i[0], ...],
        lambda x, i: operator.setitem(x, i, 7.0),
        lambda x, i: x.__array_namespace__().take(x, i),
        lambda x, i: x.__array_namespace__().take_along_axis(x, i),
    ],
)
def test_large_indices_of_uint64_are_out_of_range(ns, call):
    """They aren't those modulo 2^64."""
    x = ns.asarray([1.0, 2.0, 3.0])
    for dtype in ("uint8", "uint64"):
        call(x, ns.asarray(np.array([2, 0, 1], dtype=dtype)))
    x = ns.asarray([1.0, 2.0, 3.0])
    for indices in (LARGE, LARGE[:1], LARGE[2:]):
        with pytest.raises(IndexError, match="out of range"):
            call(x, ns.asarray(indices))
    assert np.asarray(x).tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("sorter", "error"),
    [
        ([1, 7, 0], IndexError), ([-4, 1, 0], IndexError), ([-1, 1, 0], IndexError),
        (LARGE, IndexError), ([1.0, 2.0, 0.0], TypeError), ([True, False, True], TypeError),
        ([1, 0], ValueError), ([0, 1, 2, 0], ValueError), ([[0, 1, 2]], ValueError),
        (0, ValueError),
    ],
)  # fmt: skip
def test_a_sorter_must_order_the_array(ns, sorter, error):
    x, y = (ns.asarray([3.0, 1.0, 2.0]) for _ in range(2))
    with pytest.raises(error):
        ns.searchsorted(x, y, sorter=ns.asarray(sorter))
    for dtype in (ns.int8, ns.uint64):
        found = ns.searchsorted(x, y, sorter=ns.asarray([1, 2, 0], dtype=dtype))
        assert np.asarray(found).tolist() == np.searchsorted(
            [3.0, 1.0, 2.0], [3.0, 1.0, 2.0], sorter=[1, 2, 0]
        ).tolist()  # fmt: skip


# Python's numbers


def test_only_an_array_without_axes_is_a_python_number(ns):
    assert [kind(ns.asarray(2)) for kind in (bool, int, float, complex)] == [True, 2, 2.0, 2 + 0j]
    assert [10, 20][ns.asarray(1)] == 20
    for shape in ((1,), (1, 1), (2,), (0,)):
        for kind in (bool, int, float, complex, operator.index):
            with pytest.raises(TypeError, match="without axes"):
                kind(ns.ones(shape, dtype=ns.int64))
    for value in (True, 1.0):
        with pytest.raises(TypeError, match="only an integer array"):
            operator.index(ns.asarray(value))


def test_truth_values_are_numbers(ns):
    for dtype in (ns.float64, ns.float32, ns.int64, ns.uint8):
        x = ns.asarray([0, 1, 2], dtype=dtype)
        for found, expected in (
            (True * x, [0, 1, 2]), (x + True, [1, 2, 3]), (x * False, [0, 0, 0]),
            (x == True, [False, True, False]), (ns.maximum(x, True), [1, 1, 2]),  # noqa: E712
        ):  # fmt: skip
            assert np.asarray(found).tolist() == expected


def test_versions_of_the_standard(ns):
    x = ns.ones(1)
    for version in (None, "2022.12", "2024.12"):
        assert x.__array_namespace__(api_version=version) is ns
    for version in ("1999.1", "", 2024):
        with pytest.raises(ValueError, match="api_version must be one of"):
            x.__array_namespace__(api_version=version)


def test_a_sum_is_no_truth_value(ns):
    for function in ("sum", "prod", "cumulative_sum", "cumulative_prod"):
        for dtype in (ns.float64, ns.int64):
            with pytest.raises(TypeError, match="dtype can't be bool"):
                getattr(ns, function)(ns.ones(2, dtype=dtype), dtype=ns.bool)


def test_isin_takes_a_number_in_the_dtype_of_the_array(ns):
    skip_without_sorting(ns._backend.name)
    single = ns.asarray([0.1, 0.2], dtype=ns.float32)
    assert np.asarray(ns.isin(single, 0.1)).tolist() == [True, False]
    truth = ns.asarray([True, False])
    assert np.asarray(ns.isin(truth, True)).tolist() == [True, False]
    with pytest.raises(OverflowError, match="outside the range of uint8"):
        ns.isin(ns.asarray([1], dtype=ns.uint8), -1)
    with pytest.raises(TypeError, match="can't be combined with int64"):
        ns.isin(ns.asarray([1]), 1.5)


@pytest.mark.parametrize("other", ["numpy", "strict", "torch", "jax"])
def test_asarray_takes_arrays_of_any_library(ns, other):
    library = open_backend(other).xp
    for dtype in ("float32", "int8", "bool"):
        array = library.asarray([[1, 0], [2, 3]], dtype=getattr(library, dtype))
        found = ns.asarray(array)
        assert ns.dtypes.name(found.dtype) == dtype
        np.testing.assert_array_equal(np.asarray(found), np.asarray(array))
    with pytest.raises(TypeError, match="complex64 can't be kept to the bit"):
        ns.asarray(library.asarray([1j], dtype=library.complex64))
