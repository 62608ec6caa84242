"""CuPy's operations against NumPy's, and what else the emulated card of ci/cuda_on_cpu must do.

All but the last part hold on a real card too.
"""

import os
import re
import subprocess
import sys
import types
from pathlib import Path

import array_api_compat.numpy
import numpy as np
import pytest

from tests.helpers import ROOT, emulated_driver, open_backend

NUMPY = array_api_compat.numpy
EMULATOR = ROOT / "ci" / "cuda_on_cpu"
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


@pytest.fixture
def cupy():
    """CuPy's namespace, the two copies, and its own module."""
    place = open_backend("cupy", "float64")
    with place.scope():
        yield types.SimpleNamespace(
            xp=place.xp, put=place.asarray, get=place.to_numpy, module=place.library
        )


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


def same(actual, expected):
    """Assert the same bits and dtype; any NaN is as good as another."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
    np.testing.assert_array_equal(actual, expected)
    if expected.dtype.kind == "f":
        number = ~np.isnan(expected)
        np.testing.assert_array_equal(np.signbit(actual)[number], np.signbit(expected)[number])


CASES = [(name, dtype) for name, dtypes in EXACT.items() for dtype in dtypes]


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_elementwise(cupy, name, dtype):
    for shape in SHAPES:
        x = numbers(dtype, shape)
        with np.errstate(all="ignore"):
            same(cupy.get(getattr(cupy.xp, name)(cupy.put(x))), getattr(NUMPY, name)(x))


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
            same(cupy.get(function(cupy.put(a), cupy.put(b))), expected(a, b))
            # and views, whose elements lie apart or backwards
            if a.shape == b.shape:
                u, v = cupy.put(np.stack([a, a]).T), cupy.put(b)
                same(cupy.get(function(u[:, 1], v[::-1])), expected(a, b[::-1]))


def test_whole_numbers_wrap_around(cupy):
    x = np.random.RandomState(9).randint(-(2**63), 2**63 - 1, size=1000)
    factor = -0x61C8864680B583EB
    same(cupy.get(cupy.put(x) * factor + 7), x * np.int64(factor) + np.int64(7))


def test_every_function_that_the_formulas_call_is_here():
    """They call it as ``xp.name(…)``; of their own dtype they ask without a kernel."""
    own = Path(__file__).read_text(encoding="utf-8")
    called: set[str] = set()
    for name in ("activations", "layers", "losses", "optimizers", "random_bits", "steps"):
        text = (ROOT / "xpnn" / f"{name}.py").read_text(encoding="utf-8")
        called |= set(re.findall(r"\bxp\.([a-z_0-9]+)\(", text))
    assert len(called) > 20
    missing = {name for name in called if f'"{name}"' not in own and f"xp.{name}(" not in own}
    assert missing <= {"isdtype"}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["add", "sub", "mul", "truediv", "lt", "ge"])
def test_python_numbers_and_in_place(cupy, name, dtype):
    import operator

    function = getattr(operator, name)
    x = numbers(dtype, (100, 10))
    with np.errstate(all="ignore"):
        same(cupy.get(function(cupy.put(x), 0.1)), function(x, 0.1))
        same(cupy.get(function(0.1, cupy.put(x))), function(0.1, x))
    inplace = getattr(operator, f"i{name}", None)
    if inplace is not None:
        here, there, other = x.copy(), cupy.put(x), numbers(dtype, (100, 10), seed=3)
        with np.errstate(all="ignore"):
            here, there = inplace(here, other), inplace(there, cupy.put(other))
        same(cupy.get(there), here)


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
                same(actual, expected)
            if name.startswith("arg"):
                continue
            kept = cupy.get(getattr(cupy.xp, name)(cupy.put(x), axis=axis, keepdims=True))
            assert kept.shape == getattr(NUMPY, name)(x, axis=axis, keepdims=True).shape


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
        lambda xp, x, rows, c: xp.astype(x, xp.float64),
        lambda xp, x, rows, c: xp.astype(x, xp.bool),
        lambda xp, x, rows, c: xp.asarray(x, copy=True),
        lambda xp, x, rows, c: xp.full((2, 3), 1, dtype=x.dtype),
    ):
        same(cupy.get(make(xp, put(x), put(rows), put(condition))), make(NUMPY, x, rows, condition))


@pytest.mark.parametrize("dtype", FLOATS)
def test_sorted_places_and_ranges(cupy, dtype):
    edges = np.sort(np.random.RandomState(4).uniform(-3, 3, 20)).astype(dtype)
    x = np.random.RandomState(5).uniform(-4, 4, 1000).astype(dtype)
    same(cupy.get(cupy.xp.searchsorted(cupy.put(edges), cupy.put(x))), NUMPY.searchsorted(edges, x))
    same(cupy.get(cupy.xp.arange(3, 90, 4)), np.arange(3, 90, 4))
    same(cupy.get(cupy.xp.zeros((3, 4), dtype=dtype)), np.zeros((3, 4), dtype))


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
    same(cupy.get(cupy.xp.matmul(cupy.put(a), cupy.put(b))), a @ b)
    if len(left) == len(right) == 2:
        u, v = cupy.put(a.T.copy()), cupy.put(b.T.copy())
        same(cupy.get(u.T @ v.T), a @ b)
        same(cupy.get(cupy.put(np.repeat(a, 2, axis=1))[:, ::2] @ cupy.put(b)), a @ b)


@pytest.mark.parametrize("dtype", FLOATS)
def test_joined_operations_round_once(cupy, dtype):
    """As NVRTC does, so that code which needs two roundings is found; -fmad=false keeps two."""
    source = """
    extern "C" __global__ void joined(const T* a, const T* b, const T* c, T* out) {
      int i = blockDim.x * blockIdx.x + threadIdx.x;
      out[i] = a[i] * b[i] + c[i];
    }
    """.replace("T*", ("float" if dtype == "float32" else "double") + "*")
    a, b, c = (np.random.RandomState(k).uniform(1, 2, 128).astype(dtype) for k in (7, 8, 9))
    c = -(a * b)  # so that only the rounding error of the product is left
    twice, once = (
        cupy.module.zeros(128, dtype=dtype),
        cupy.module.zeros(128, dtype=dtype),
    )
    arguments = [cupy.put(x) for x in (a, b, c)]
    for options, out in (((), once), (("-fmad=false",), twice)):
        kernel = cupy.module.RawKernel(source, "joined", options=options)
        kernel((2,), (64,), (*arguments, out))
    same(cupy.get(twice), a * b + c)
    assert np.count_nonzero(cupy.get(once)) > 64


# What threads of a block do together


def test_shared_memory(cupy):
    """A block turns its part round: each thread reads what another one wrote."""
    kernel = cupy.module.RawKernel(
        """
        extern "C" __global__ void turned(const double* x, double* out) {
          __shared__ double own[96];
          own[threadIdx.x] = x[blockIdx.x * blockDim.x + threadIdx.x];
          __syncthreads();
          out[blockIdx.x * blockDim.x + threadIdx.x] = own[blockDim.x - 1 - threadIdx.x];
        }
        """,
        "turned",
    )
    x = np.random.RandomState(0).standard_normal((5, 96))
    out = cupy.module.zeros_like(cupy.put(x))
    kernel((5,), (96,), (cupy.put(x), out))
    same(cupy.get(out), x[:, ::-1])


def test_dynamic_shared_memory_and_exits(cupy):
    """A sum by halves in memory that the launch asks for; threads beyond the end have left."""
    kernel = cupy.module.RawKernel(
        """
        extern "C" __global__ void total(const float* x, float* out, int n) {
          extern __shared__ float part[];
          if (threadIdx.x >= 64) return;
          int i = blockIdx.x * 64 + threadIdx.x;
          part[threadIdx.x] = i < n ? x[i] : 0;
          for (int half = 32; half > 0; half /= 2) {
            __syncthreads();
            if (threadIdx.x < half) part[threadIdx.x] += part[threadIdx.x + half];
          }
          if (threadIdx.x == 0) atomicAdd(out, part[0]);
        }
        """,
        "total",
    )
    x = np.arange(1000, dtype="float32")
    out = cupy.module.zeros(1, dtype="float32")
    kernel((16,), (96,), (cupy.put(x), out, np.int32(1000)), shared_mem=64 * 4)
    assert cupy.get(out)[0] == x.sum()


def test_shuffles_and_votes(cupy):
    kernel = cupy.module.RawKernel(
        """
        extern "C" __global__ void warp(const int* x, int* out) {
          int i = threadIdx.x, v = x[i], n = blockDim.x;
          out[i] = __shfl_sync(~0u, v, 3);
          out[n + i] = __shfl_down_sync(~0u, v, 5);
          out[2 * n + i] = __shfl_up_sync(~0u, v, 2);
          out[3 * n + i] = __shfl_xor_sync(~0u, v, 1);
          out[4 * n + i] = __shfl_down_sync(~0u, v, 1, 8);
          out[5 * n + i] = int(__ballot_sync(~0u, v % 3 == 0));
          out[6 * n + i] = __any_sync(~0u, v == 70) + 2 * __all_sync(~0u, v > 0);
        }
        """,
        "warp",
    )
    x = np.random.RandomState(1).permutation(64).astype("int32")
    out = cupy.module.zeros((7, 64), dtype="int32")
    kernel((1,), (64,), (cupy.put(x), out))
    warps, lane = x.reshape(2, 32), np.arange(32)
    votes = [[np.uint32(sum(1 << k for k in range(32) if w[k] % 3 == 0))] for w in warps]
    expected = [
        np.repeat(warps[:, 3:4], 32, axis=1),
        np.where(lane + 5 < 32, warps[:, np.minimum(lane + 5, 31)], warps),
        np.where(lane >= 2, warps[:, np.maximum(lane - 2, 0)], warps),
        warps[:, lane ^ 1],
        np.where(lane % 8 < 7, warps[:, np.minimum(lane + 1, 31)], warps),
        np.repeat(np.array(votes).view("int32"), 32, axis=1),
        np.repeat([[(70 in w) + 2 * bool((w > 0).all())] for w in warps], 32, axis=1),
    ]
    np.testing.assert_array_equal(cupy.get(out), np.stack(expected).reshape(7, 64))


@pytest.mark.parametrize("dtype", ["int32", "float32", "float64"])
def test_atomics(cupy, dtype):
    """All threads of all blocks on a few whole numbers, whose sum doesn't depend on the order."""
    kernel = cupy.module.RawKernel(
        """
        extern "C" __global__ void tally(const T* x, const int* bin, T* sums, int* counts) {
          int i = blockDim.x * blockIdx.x + threadIdx.x;
          atomicAdd(&sums[bin[i]], x[i]);
          atomicMax(&counts[0], bin[i]);
          atomicAdd(&counts[1], 1);
        }
        """.replace("T*", {"int32": "int", "float32": "float", "float64": "double"}[dtype] + "*"),
        "tally",
    )
    rng = np.random.RandomState(2)
    x, bins = rng.randint(9, size=640).astype(dtype), rng.randint(7, size=640).astype("int32")
    sums, counts = cupy.module.zeros(7, dtype=dtype), cupy.module.zeros(2, dtype="int32")
    kernel((10,), (64,), (cupy.put(x), cupy.put(bins), sums, counts))
    same(cupy.get(sums), np.bincount(bins, x, 7).astype(dtype))
    assert cupy.get(counts).tolist() == [bins.max(), 640]


def test_some_lanes_of_a_warp(cupy):
    """The others wait for the block meanwhile."""
    kernel = cupy.module.RawKernel(
        """
        extern "C" __global__ void f(int* x) {
          int v = threadIdx.x;
          if (threadIdx.x < 16) v += __shfl_down_sync(0xffff, v, 1, 16);
          __syncthreads();
          x[threadIdx.x] = v;
        }
        """,
        "f",
    )
    x = cupy.module.zeros(64, dtype="int32")
    kernel((1,), (64,), (x,))
    lane = np.arange(64)
    expected = np.where(lane < 15, 2 * lane + 1, np.where(lane == 15, 30, lane))
    same(cupy.get(x), expected.astype("int32"))


def test_how_a_kernel_is_run_does_not_depend_on_its_words(cupy, tmp_path):
    """One that waits in a header; one beside CuPy's loop; one that leaves the loop; a comment."""
    (tmp_path / "meet.h").write_text("static inline void meet() { __syncthreads(); }")
    kernel = cupy.module.RawKernel(
        """
        #include "meet.h"
        extern "C" __global__ void f(int* x) {
          __shared__ int own[64];
          own[threadIdx.x] = threadIdx.x;
          meet();
          x[threadIdx.x] = own[63 - threadIdx.x];
        }
        """,
        "f",
        options=(f"-I{tmp_path}",),
    )
    x = cupy.module.zeros(64, dtype="int32")
    kernel((1,), (64,), (x,))
    same(cupy.get(x), np.arange(63, -1, -1, dtype="int32"))
    module = cupy.module.RawModule(
        code="""
        #include <cupy/carray.cuh>
        // extern "C" __global__ void old(int* x) { __syncthreads(); return; }
        extern "C" __global__ void loop(float* x, int n) { CUPY_FOR(i, n) { x[i] += 1; } }
        extern "C" __launch_bounds__(64) __global__ void plain(float* x, unsigned* count) {
          x[threadIdx.x] *= 2;
          atomicAdd(count, 1);
        }
        """
    )
    y, count = cupy.module.ones(4, dtype="float32"), cupy.module.zeros(1, dtype="uint32")
    module.get_function("plain")((1,), (4,), (y, count))
    module.get_function("loop")((1,), (4,), (y, np.int32(4)))
    assert (cupy.get(y).tolist(), cupy.get(count).tolist()) == ([3.0] * 4, [4])
    leaves = cupy.module.ElementwiseKernel(
        "float64 x", "float64 y", "y = x; if (x == 0) break;", "leaves"
    )
    same(cupy.get(leaves(cupy.put(np.arange(4.0)))), np.arange(4.0))


def test_templates(cupy):
    module = cupy.module.RawModule(
        code="template <class T> __global__ void twice(T* x) { x[threadIdx.x] *= 2; }",
        name_expressions=["twice<float>", "twice<long long>"],
    )
    for name, dtype in (("twice<float>", "float32"), ("twice<long long>", "int64")):
        x = cupy.put(np.arange(5).astype(dtype))
        module.get_function(name)((1,), (5,), (x,))
        same(cupy.get(x), 2 * np.arange(5).astype(dtype))


# What must go wrong


def test_out_of_memory(cupy):
    _, total = cupy.module.cuda.Device().mem_info
    with pytest.raises(cupy.module.cuda.memory.OutOfMemoryError, match="Out of memory"):
        cupy.module.empty(total + 1, dtype="uint8")
    same(cupy.get(cupy.module.ones(3)), np.ones(3))


def test_a_kernel_that_does_not_compile(cupy):
    kernel = cupy.module.RawKernel('extern "C" __global__ void f(int* x) { x = ; }', "f")
    with pytest.raises(cupy.module.cuda.compiler.CompileException, match="expected"):
        kernel((1,), (1,), (cupy.module.zeros(1, dtype="int32"),))


def test_a_kernel_that_is_not_there(cupy):
    module = cupy.module.RawModule(code='extern "C" __global__ void f(int* x) {}')
    with pytest.raises(cupy.module.cuda.driver.CUDADriverError, match="NOT_FOUND"):
        module.get_function("g")


@pytest.mark.parametrize(("grid", "block"), [((1,), (1025,)), ((1, 70000), (1,))])
def test_a_launch_beyond_the_limits(cupy, grid, block):
    kernel = cupy.module.RawKernel('extern "C" __global__ void f(int* x) {}', "f")
    with pytest.raises(cupy.module.cuda.driver.CUDADriverError, match="INVALID"):
        kernel(grid, block, (cupy.module.zeros(1, dtype="int32"),))


def test_a_device_that_is_not_there(cupy):
    with pytest.raises(cupy.module.cuda.runtime.CUDARuntimeError, match="invalid device ordinal"):
        cupy.module.cuda.Device(99).use()


def test_an_array_of_the_host_is_refused(cupy):
    with pytest.raises(TypeError, match="Unsupported type"):
        cupy.put(np.ones(3)) + np.ones(3)


def test_an_array_of_another_device_is_refused(cupy):
    if cupy.module.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("one device")
    here = cupy.put(np.ones(3))
    other = 1 - cupy.module.cuda.Device().id
    with cupy.module.cuda.Device(other):
        there = cupy.module.ones(3)
    with pytest.raises(ValueError, match="device"):
        here + there
    square = cupy.put(np.ones((3, 3)))
    for product in (lambda: here @ there, lambda: square @ there, lambda: square @ there[:, None]):
        with pytest.raises(Exception, match=r"device|CUBLAS_STATUS_INVALID_VALUE"):
            product()


# The emulator itself


@pytest.fixture
def driver():
    return emulated_driver()


def test_it_counts(cupy, driver):
    x = cupy.put(np.ones(3))
    launches, copies = driver.coc_launches(), [driver.coc_copies(kind) for kind in (1, 2)]
    y = (x + 1) * 2
    assert driver.coc_launches() - launches == 2
    cupy.put(np.ones(3))
    cupy.get(y)
    cupy.get(y)
    assert [driver.coc_copies(kind) for kind in (1, 2)] == [copies[0] + 1, copies[1] + 2]


def test_float32_is_flushed_and_float64_is_not(cupy, driver):
    """CuPy compiles its kernels with -ftz=true."""
    assert cupy.get(cupy.put(np.full(3, 1e-30, "float32")) * 1e-10).tolist() == [0.0] * 3
    assert cupy.get(cupy.put(np.full(3, 1e-300)) * 1e-10).tolist() == [1e-310] * 3


def test_sums_of_products_are_in_another_order_than_numpys(cupy, driver):
    a = np.random.RandomState(0).standard_normal((50, 784))
    ours, numpys = cupy.get(cupy.put(a) @ cupy.put(a.T)), a @ a.T
    assert (ours != numpys).any()
    np.testing.assert_allclose(ours, numpys, rtol=1e-12, atol=1e-12)


def test_threads_that_wait_for_each_other(cupy, driver):
    kernel = cupy.module.RawKernel(
        'extern "C" __global__ void f(int* x) { threadIdx.x ? __syncwarp() : __syncthreads(); }',
        "f",
    )
    with pytest.raises(cupy.module.cuda.driver.CUDADriverError, match="LAUNCH_FAILED"):
        kernel((1,), (2,), (cupy.module.zeros(1, dtype="int32"),))


def test_a_copy_from_where_nothing_is(cupy, driver):
    """What a card would fault on."""
    own, host = cupy.put(np.ones(3)), np.ones(3)
    runtime = cupy.module.cuda.runtime
    for to, source, size, kind in (
        (own.data.ptr, host.ctypes.data, 25 + 512, 1),  # beyond its end
        (host.ctypes.data, host.ctypes.data, 24, 2),
        (own.data.ptr, own.data.ptr + 24, 1024, 3),
        (own.data.ptr, own.data.ptr, 24, 1),
    ):
        with pytest.raises(runtime.CUDARuntimeError, match="invalid argument"):
            runtime.memcpy(to, source, size, kind)


@pytest.fixture
def run(tmp_path):
    """A function that runs Python on the emulator's files, changed or not."""
    pytest.importorskip("cupy")

    def run(code, **variables):
        own = {k: v for k, v in os.environ.items() if not k.startswith(("CUDA_ON_CPU", "PYTHONP"))}
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True,
            env={**own, "PYTHONPATH": str(EMULATOR), **variables},
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    return run


def test_a_users_own_sitecustomize_and_modules(run, tmp_path, driver):
    """Names that ours have too; and an emulator that can't be installed isn't skipped."""
    (tmp_path / "sitecustomize.py").write_text("print('mine')")
    (tmp_path / "patch.py").write_text("own = 1")
    site = str(EMULATOR / "site")
    names = ("CUDA_ON_CPU", "CUDA_ON_CPU_BLAS", "CUPY_CACHE_DIR", "CUPY_ACCELERATORS", "CUDA_PATH")
    given = {name: os.environ[name] for name in names}
    code = "import patch, cupy; print(int(cupy.ones(3).sum())); import patch; print(patch.own)"
    path = os.pathsep.join([site, str(tmp_path)])
    assert run(code, PYTHONPATH=path, **given) == (0, "mine\n3\n1\n", "")
    (tmp_path / "patches.json").write_text('{"runtime": "of another"}')
    code = """
for _ in range(2):
    try:
        import cupy
    except ImportError as error:
        print("built for another CuPy" in str(error))
"""
    given["CUDA_ON_CPU"] = str(tmp_path)
    assert run(code, PYTHONPATH=site, **given)[:2] == (0, "True\nTrue\n")


def refused(change):
    return f"""
import sys, runpy, build, platform, importlib.metadata, pathlib
{change}
sys.argv = ["cuda_on_cpu", "echo", "never"]
runpy.run_path({str(EMULATOR / "__main__.py")!r}, run_name="__main__")
"""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("platform.machine = lambda: 'aarch64'", "runs on x86-64 Linux, not on Linux aarch64"),
        ("platform.system = lambda: 'Darwin'", "runs on x86-64 Linux, not on Darwin x86_64"),
        ("pathlib.Path.read_text = lambda path: 'sse2'", "needs an x86-64 processor with fused"),
        ("importlib.metadata.version = lambda name: '99.1'", "needs one wheel of cupy-cuda12x or"),
        (
            "real = importlib.metadata.version\n"
            "importlib.metadata.version = lambda n: n == 'cupy-cuda12x' and '12.3.0' or real('no')",
            "knows cupy-cuda12x or cupy-cuda13x 13.4 to below 15.0, not cupy-cuda12x 12.3.0",
        ),
        ("build.blas = None; import os; os.environ['PATH'] = '/'", "needs g++, which is not"),
    ],
)
def test_what_it_does_not_know_is_refused_in_a_line(run, change, message):
    status, out, err = run(refused(change))
    assert (status, out, err.count("\n")) == (1, "", 1), err
    assert err.startswith(f"cuda-on-cpu: {message}")


def test_it_never_switches_itself_on(run):
    """Not even with its folder on the path: CUDA_ON_CPU must name it."""
    code = """
import cupy
try:
    print(cupy.cuda.runtime.getDeviceProperties(0)["name"])
except cupy.cuda.runtime.CUDARuntimeError:
    print("no card")
"""
    status, out, err = run(code, PYTHONPATH=str(EMULATOR / "site"))
    assert (status, "emulated" in out) == (0, False), err
    assert out


def test_the_package_knows_nothing_of_it():
    words = ("cuda_on_cpu", "cuda-on-cpu", "emulated", "CUDA_ON_CPU")
    for path in (ROOT / "xpnn").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not [word for word in words if word in text], path


def test_every_log_says_so(cupy, driver, tmp_path, capsys):
    """The list of backends, what training prints, what a model's file keeps, verify."""
    from xpnn.cli import main

    model, name = tmp_path / "model.safetensors", "emulated GPU"
    (tmp_path / "t.csv").write_text("a,b\n" + "\n".join(f"{i},{i % 2}" for i in range(20)))
    assert main(["backends"]) == 0
    assert name in capsys.readouterr().out
    words = f"train {tmp_path / 't.csv'} --hidden 3 --epochs 1 --backend cupy --save {model}"
    assert main(words.split()) == 0
    assert f"on {name}\n" in capsys.readouterr().out
    assert main(["show", str(model)]) == 0
    assert f"card={name}" in capsys.readouterr().out
    assert main(["verify", "--backends", "numpy,cupy", "--epochs", "1", "--hidden", "3"]) == 0
    assert capsys.readouterr().out.startswith(f"cupy on {name}\n")
