"""`xpnn.reproducible` as a whole: the same bits on every library, and those pinned here."""

import functools
import hashlib

import array_api_compat.numpy
import numpy as np
import pytest

from xpnn import reproducible
from xpnn.backends import get_backend, to_numpy

NUMPY = array_api_compat.numpy
FUNCTIONS = ("exp", "expm1", "log", "log1p", "tanh", "sqrt", "sigmoid")
DTYPES = ("float64", "float32")


def put(ns, backend, value, dtype="float64"):
    """Return a host array in a reproducible namespace, which may not write to it."""
    with np.errstate(over="ignore"):
        value = np.array(value).astype(dtype)
    value.flags.writeable = False
    return ns.wrap(backend.asarray(value))


def bits(array):
    """Return shape, dtype and bytes of any array; all NaN alike."""
    host = np.ascontiguousarray(to_numpy(array))
    host = np.where(host != host, np.nan, host).astype(host.dtype)
    return host.shape, host.dtype, host.tobytes()


def spread(seed, low, high, *shape):
    """Return random numbers of random magnitudes, by exact operations alone: alike everywhere."""
    rng = np.random.RandomState(seed)
    return np.ldexp(rng.uniform(-1, 1, shape), rng.randint(low, high, shape))


HARD = np.concatenate(
    [
        np.random.RandomState(0).uniform(-760, 760, 3000),
        np.random.RandomState(1).uniform(-2, 2, 3000),
        spread(2, -1021, 1021, 3000),
        1 + spread(4, -52, 0, 1000),
        [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 5e-324, 2.3e-308, 1.8e308, -1.8e308],
        [709.782712893384, 709.7827128933841, 709.79, -665.4, -665.5, -708.0, -745.2],
        np.ldexp(1.0, np.arange(-1074, -960)),
        np.ldexp(-1.5, np.arange(-1074, -960)),
        np.ldexp(1.0, np.arange(-149, -90)),
        np.ldexp(-1.5, np.arange(-149, -90)),
    ]
)


def everything(ns, backend, dtype):
    """Return the results of all that the namespace computes, by name."""
    rng = np.random.RandomState(7)
    at = functools.partial(put, ns, backend, dtype=dtype)
    x, y = at(HARD), at(rng.permutation(HARD))
    a = at(np.ldexp(rng.uniform(-1, 1, (37, 300)), rng.randint(-9, 9, (37, 1))))
    b = at(np.ldexp(rng.uniform(-1, 1, (300, 23)), rng.randint(-9, 9, (1, 23))))
    wide = at(spread(8, -60, 60, 20, 30))
    special = rng.uniform(-1, 1, (12, 12))
    special[0, 0], special[1, 1], special[2, 2], special[3, :2] = np.inf, -np.inf, np.nan, np.inf
    special[4:7] = 0.0
    special[:, 5] = -0.0
    special = at(special)
    cube = ns.reshape(a, (37, 10, 30))
    out = {name: getattr(ns, name)(x) for name in FUNCTIONS}
    out |= {
        "add": x + y,
        "subtract": x - y,
        "multiply": x * y,
        "divide": x / y,
        "negative": -x,
        "scalar": 0.1 * x / 3.3 - 1 / 7,
        "rdivide": 1.0 / x,
        "abs": abs(x),
        "cube": x**3,
        "inverse": x**-2,
        "root": x**0.5,
        "power": ns.abs(x) ** 0.3,
        "broadcast": a / a[:, :1],
        "row": a / b[:1, :1],
        "relu": ns.where(x > 0, x, 0.0),
        "maximum": ns.maximum(x, y),
        "maximum0": ns.maximum(x, -0.0),
        "clip": ns.clip(x, -1, 1),
        "sign": ns.sign(x),
        "negative scalar": -0.5 * ns.sign(x),
        "negative scalar first": ns.multiply(-0.5, ns.sign(x)),
        "floor": ns.floor(x),
        "matmul": a @ b,
        "transposed": b.T @ a.T,
        "same": a @ a.mT,
        "wide": wide @ wide.mT,
        "special": special @ special,
        "special2": special @ b[:12, :],
        "vector": a[0, :] @ b,
        "dot": a[0, :] @ b[:, 0],
        "batch": cube @ wide.mT,
        "sum of all": ns.sum(x[:9000]),
        "sum3": ns.sum(cube, axis=(0, 2)),
    }
    for axis in (None, 0, 1, (0, 1)):
        out[f"sum{axis}"] = ns.sum(a, axis=axis)
        out[f"mean{axis}"] = ns.mean(special, axis=axis, keepdims=True)
        out[f"wide{axis}"] = ns.sum(wide, axis=axis)
    w = at(rng.uniform(-1, 1, (300, 23)))
    for step in range(5):
        y = ns.tanh(ns.exp(a[:5, :] @ w * 0.01))
        w -= 0.1 * (a[:5, :].T @ (y * y))
        w *= 0.99
        w /= 1.01
        w += step
    out["w"] = w
    return {name: to_numpy(value) for name, value in out.items()}


@functools.cache
def expected(dtype, precision):
    with np.errstate(all="ignore"):
        return everything(
            reproducible.namespace(NUMPY, precision=precision), get_backend("numpy"), dtype
        )


@pytest.mark.parametrize(
    ("precision", "dtype"), [("training", "float64"), ("training", "float32"), ("full", "float64")]
)
def test_every_backend_gives_the_same_bits(backend, dtype, precision):
    ns = reproducible.namespace(backend.xp, precision=precision)
    found = everything(ns, backend, dtype)
    known = expected(dtype, precision)
    assert [name for name in known if bits(known[name]) != bits(found[name])] == []
    assert {value.dtype for value in found.values()} == {np.dtype(dtype)}


def digest():
    """Return a hash of everything, and of normal deviates: what no machine may change."""
    found = hashlib.sha256()
    for dtype in DTYPES:
        for precision in reproducible.PRECISIONS:
            for value in expected(dtype, precision).values():
                found.update(bits(value)[2])
    found.update(reproducible.randn(np.random.RandomState(10), 1001).tobytes())
    return found.hexdigest()


def test_pinned_bits():
    """They change only with this package's arithmetic, not with the machine or the library."""
    assert digest() == "fce1a83cb3236ad1b16a3dd2aa81bcfc171b10a7dd6f3c2dca0ed3ca165b1d1d"


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_number_is_a_multiple_of_the_quantum_and_zero_has_no_sign(dtype):
    quantum = np.longdouble(2) ** {"float64": -1022, "float32": -126}[dtype]
    for name, value in expected(dtype, "training").items():
        finite = value[np.isfinite(value)].astype(np.longdouble)
        assert np.all(finite / quantum == np.rint(finite / quantum)), name
        assert not np.any(np.signbit(finite) & (finite == 0)), name
