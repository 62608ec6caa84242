"""`xpnn.reproducible`: BLAS kernels, numbers of threads, instruction sets, the C library."""

import ast
import hashlib
import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT, open_backend
from tests.test_reproducible import bits, digest, everything
from tests.test_reproducible_random import numpy_weights_hash, weights_hash
from xpnn import reproducible

# what NumPy may use beyond its baseline, over its versions
VECTORS = "AVX2 FMA3 AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL X86_V3 X86_V4"
NO_FMA = "glibc.cpu.hwcaps=-AVX2,-FMA,-FMA4,-AVX512F"


def run(module, function, environment):
    """Return what a function of a test module returns in a process of its own."""
    code = f"import {module} as m, numpy as np; np.seterr(all='ignore'); print(m.{function}())"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=os.environ | environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def cpu_flags():
    info = Path("/proc/cpuinfo")
    return set(info.read_text(encoding="utf-8").split()) if info.exists() else set()


def dispatched():
    """Return those of `VECTORS` that this NumPy can leave out."""
    known = set(np._core._multiarray_umath.__cpu_dispatch__)
    return " ".join(name for name in VECTORS.split() if name in known)


@pytest.mark.parametrize(
    "environment",
    [
        {"OPENBLAS_NUM_THREADS": "1", "OPENBLAS_CORETYPE": "Haswell"},
        {"OPENBLAS_NUM_THREADS": "2", "OPENBLAS_CORETYPE": "SkylakeX"},
        {"OPENBLAS_CORETYPE": "Sandybridge", "NPY_DISABLE_CPU_FEATURES": dispatched()},
    ],
    ids=["haswell", "skylakex-2-threads", "sandybridge-no-vectors"],
)
def test_numpy(environment):
    if environment["OPENBLAS_CORETYPE"] == "SkylakeX" and "avx512f" not in cpu_flags():
        pytest.skip("this CPU has no AVX-512")
    assert run("tests.test_reproducible", "digest", environment) == digest()


def torch_digest():
    backend = open_backend("torch")
    found = hashlib.sha256()
    for dtype in ("float64", "float32"):
        for value in everything(reproducible.namespace(backend.xp), backend, dtype).values():
            found.update(bits(value)[2])
    return found.hexdigest()


def test_torch():
    open_backend("torch")
    found = {
        run("tests.test_reproducible_platforms", "torch_digest", {"ATEN_CPU_CAPABILITY": name})
        for name in ("default", "avx2", "avx512")
    }
    assert len(found) == 1


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc" or "fma" not in cpu_flags(), reason="needs glibc and FMA"
)
def test_randn_without_the_c_library_s_fma():
    """NumPy's own deviates change there, so the switch works; ours don't."""
    environment, module = {"GLIBC_TUNABLES": NO_FMA}, "tests.test_reproducible_random"
    assert run(module, "weights_hash", environment) == weights_hash()
    assert run(module, "numpy_weights_hash", environment) != numpy_weights_hash()


def test_the_package_stands_on_numpy_and_array_api_compat_alone():
    names, files = set(), list(Path(reproducible.__file__).parent.glob("*.py"))
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            if isinstance(node, ast.ImportFrom):
                names.add(node.module)
    own = {"xpnn.reproducible", *(f"xpnn.reproducible.{path.stem}" for path in files)}
    assert {name for name in names if name.startswith("xpnn")} <= own
    roots = {name.partition(".")[0] for name in names} - sys.stdlib_module_names
    assert roots == {"array_api_compat", "numpy", "xpnn"}
