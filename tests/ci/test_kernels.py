"""Kernels of one's own on CuPy, and what must go wrong; on real cards too."""

import numpy as np
import pytest

from xpnn.testing import assert_same_bits


@pytest.mark.parametrize("dtype", ["float32", "float64"])
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
    assert_same_bits(cupy.get(twice), a * b + c)
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
    assert_same_bits(cupy.get(out), x[:, ::-1])


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
    assert_same_bits(cupy.get(sums), np.bincount(bins, x, 7).astype(dtype))
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
    assert_same_bits(cupy.get(x), expected.astype("int32"))


def test_how_a_kernel_is_run_does_not_depend_on_its_words(cupy, tmp_path):
    """One that waits in a header; one beside CuPy's loop; one that leaves the loop; a comment."""
    (tmp_path / "meet.h").write_text("static __device__ inline void meet() { __syncthreads(); }")
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
    assert_same_bits(cupy.get(x), np.arange(63, -1, -1, dtype="int32"))
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
    assert_same_bits(cupy.get(leaves(cupy.put(np.arange(4.0)))), np.arange(4.0))


def test_templates(cupy):
    module = cupy.module.RawModule(
        code="template <class T> __global__ void twice(T* x) { x[threadIdx.x] *= 2; }",
        name_expressions=["twice<float>", "twice<long long>"],
    )
    for name, dtype in (("twice<float>", "float32"), ("twice<long long>", "int64")):
        x = cupy.put(np.arange(5).astype(dtype))
        module.get_function(name)((1,), (5,), (x,))
        assert_same_bits(cupy.get(x), 2 * np.arange(5).astype(dtype))


# What must go wrong


def test_out_of_memory(cupy):
    _, total = cupy.module.cuda.Device().mem_info
    with pytest.raises(cupy.module.cuda.memory.OutOfMemoryError, match="Out of memory"):
        cupy.module.empty(total + 1, dtype="uint8")
    assert_same_bits(cupy.get(cupy.module.ones(3)), np.ones(3))


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
    if cupy.module.cuda.runtime.deviceCanAccessPeer(0, 1):
        pytest.skip("these two devices read each other's memory: CuPy warns, and computes")
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
