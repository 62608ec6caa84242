"""The emulator itself: what it counts, what it refuses, where it shows."""

import os
import subprocess
import sys

import numpy as np
import pytest

from tests.helpers import ROOT, emulated_driver
from xpnn.testing import assert_same_bits

EMULATOR = ROOT / "ci" / "cuda_on_cpu"


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
    products, a = driver.coc_products(), cupy.put(np.ones((3, 4)))
    a @ cupy.xp.matrix_transpose(a)
    assert driver.coc_products() - products == 1


def test_float32_is_flushed_and_float64_is_not(cupy, driver):
    """CuPy compiles its kernels with -ftz=true."""
    assert cupy.get(cupy.put(np.full(3, 1e-30, "float32")) * 1e-10).tolist() == [0.0] * 3
    assert cupy.get(cupy.put(np.full(3, 1e-300)) * 1e-10).tolist() == [1e-310] * 3


def test_sums_of_products_are_in_another_order_than_numpys(cupy, driver):
    a = np.random.RandomState(0).standard_normal((50, 784))
    ours, numpys = cupy.get(cupy.put(a) @ cupy.put(a.T)), a @ a.T
    assert (ours != numpys).any()
    np.testing.assert_allclose(ours, numpys, rtol=1e-12, atol=1e-12)


def test_reductions_need_no_fibers(cupy, driver):
    """They take most of the time otherwise; the text of CuPy's kernels is cut at its waits."""
    x = cupy.put(np.random.RandomState(0).standard_normal((7, 700)))
    fibers = driver.coc_fibers()
    for name in ("sum", "max", "min", "argmax", "mean", "all", "any", "count_nonzero"):
        for axis in (None, 0, 1):
            getattr(cupy.xp, name)(x != 0 if name in ("all", "any") else x, axis=axis)
    assert driver.coc_fibers() == fibers


def test_sums_are_by_halves_as_on_a_card(cupy, driver):
    """512 threads add every 512th number each, then half of them the other half's."""
    x = np.random.RandomState(0).standard_normal((7, 700))
    parts = np.zeros((7, 512))
    for start in (0, 512):
        piece = x[:, start : start + 512]
        parts[:, : piece.shape[1]] += piece
    while parts.shape[1] > 1:
        half = parts.shape[1] // 2
        parts = parts[:, :half] + parts[:, half:]
    assert (parts[:, 0] != x.sum(axis=1)).any()
    assert_same_bits(cupy.get(cupy.xp.sum(cupy.put(x), axis=1)), parts[:, 0])


def test_threads_that_wait_for_each_other(cupy, driver):
    kernel = cupy.module.RawKernel(
        'extern "C" __global__ void f(int* x) { threadIdx.x ? __syncwarp() : __syncthreads(); }',
        "f",
    )
    with pytest.raises(cupy.module.cuda.driver.CUDADriverError, match="LAUNCH_FAILED"):
        kernel((1,), (2,), (cupy.module.zeros(1, dtype="int32"),))


def test_a_copy_from_where_nothing_is(cupy, driver):
    """What a card would fault on, in an allocation of its own: CuPy's pool cuts large ones up."""
    runtime, host = cupy.module.cuda.runtime, np.ones(3)
    own = runtime.malloc(512)
    try:
        for to, source, size, kind in (
            (own, host.ctypes.data, 25 + 512, 1),  # beyond its end
            (host.ctypes.data, host.ctypes.data, 24, 2),
            (own, own + 24, 1024, 3),
            (own, own, 24, 1),
        ):
            with pytest.raises(runtime.CUDARuntimeError, match="invalid argument"):
                runtime.memcpy(to, source, size, kind)
    finally:
        runtime.free(own)


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
