"""`xpnn.reproducible`: BLAS kernels, numbers of threads, instruction sets, the C library."""

import ast
import functools
import hashlib
import sys
from pathlib import Path

import numpy as np
import pytest

from scripts.checks import platforms
from tests.helpers import (
    bits,
    deviates_hash,
    digest,
    everything,
    numpy_deviates_hash,
    open_backend,
    printed,
)
from xpnn import reproducible

USABLE = platforms.usable()


def run(expression, environment):
    """Return the value of an expression in a process of its own, which has these variables set."""
    code = (
        "import json, numpy as np; from scripts.checks import platforms; "
        "from tests import helpers; from tests.reproducible import test_platforms; "
        f"np.seterr(all='ignore'); print(json.dumps({expression}))"
    )
    return printed(code, environment)


def outcome(backend, digest):
    """Return an expression for how a process computes, and what."""
    return f"[platforms.state('{backend}'), platforms.native('{backend}'), {digest}()]"


@functools.cache
def plain(backend, digest):
    """Return the outcome of a process without any variable set."""
    return run(outcome(backend, digest), {})


def check(backend, digest, environments):
    """Hold the bits to those of the process without variables, each of which must be taken."""
    state, native, bits = plain(backend, digest)
    natives = {native}
    for environment in environments:
        found_state, found_native, found_bits = run(outcome(backend, digest), environment)
        for variable, value in environment.items():
            assert platforms.taken(variable, value, found_state, state), (variable, value)
        assert found_bits == bits, environment
        natives.add(found_native)
    # else no machine could be told from another here, and the test couldn't fail
    assert len(natives) > 1


def combined(*variables):
    """Return environments in which each value of each variable occurs."""
    columns = [[(name, value) for value in USABLE[name]] for name in variables if name in USABLE]
    length = max(map(len, columns))
    return [dict(column[i % len(column)] for column in columns) for i in range(length)]


def test_numpy():
    environments = combined("OPENBLAS_CORETYPE", "OPENBLAS_NUM_THREADS")
    for name in ("NPY_DISABLE_CPU_FEATURES", "GLIBC_TUNABLES"):
        environments += [{name: value} for value in USABLE.get(name, [])]
    check("numpy", "helpers.digest", environments)
    assert plain("numpy", "helpers.digest")[2] == digest()


def torch_digest():
    backend = open_backend("torch")
    found = hashlib.sha256()
    for dtype in ("float64", "float32"):
        for value in everything(reproducible.arithmetic(backend.xp), backend, dtype).values():
            found.update(bits(value)[2])
    return found.hexdigest()


@pytest.mark.skipif("ATEN_CPU_CAPABILITY" not in USABLE, reason="needs PyTorch on x86-64")
def test_torch():
    environments = combined("ATEN_CPU_CAPABILITY", "OMP_NUM_THREADS")
    check("torch", "test_platforms.torch_digest", environments)


def flushed_digests():
    """Return digests of NumPy's and PyTorch's bits in a process that flushes subnormals."""
    torch = open_backend("torch").library
    assert torch.set_flush_denormal(True)
    # that of the processor, for all libraries; as a library built with -ffast-math would do
    assert np.asarray(1e-310) * 1.0 == 0.0
    return digest(), torch_digest()


@pytest.mark.skipif("ATEN_CPU_CAPABILITY" not in USABLE, reason="needs PyTorch on x86-64")
def test_subnormals_that_are_flushed_change_nothing():
    digests = run("test_platforms.flushed_digests()", {})
    assert digests == run("[helpers.digest(), test_platforms.torch_digest()]", {})


def test_a_variable_that_is_not_taken_is_noticed():
    state = platforms.state("numpy")
    for variable in USABLE:
        if platforms.backend(variable) == "numpy":
            assert not platforms.taken(variable, "nothing", state, state), variable


@pytest.mark.skipif("GLIBC_TUNABLES" not in USABLE, reason="needs glibc and FMA")
def test_randn_without_the_c_library_s_fma():
    """NumPy's own deviates change there; ours don't."""
    environment = {"GLIBC_TUNABLES": USABLE["GLIBC_TUNABLES"][0]}
    ours, theirs = run("[helpers.deviates_hash(), helpers.numpy_deviates_hash()]", environment)
    assert ours == deviates_hash()
    assert theirs != numpy_deviates_hash()


def test_the_package_stands_on_numpy_and_array_api_compat_alone():
    """Beside the errors that a user can correct, which stand on NumPy."""
    names, files = set(), list(Path(reproducible.__file__).parent.glob("*.py"))
    files.append(Path(reproducible.__file__).parents[1] / "errors.py")
    # which opens a backend when it is called
    files = [path for path in files if path.stem != "public"]
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            if isinstance(node, ast.ImportFrom):
                names.add(node.module)
    own = {"xpnn.reproducible", "xpnn.reproducible.public", "xpnn.errors"}
    own |= {f"xpnn.reproducible.{path.stem}" for path in files}
    assert {name for name in names if name.startswith("xpnn")} <= own
    roots = {name.partition(".")[0] for name in names} - sys.stdlib_module_names
    assert roots == {"array_api_compat", "numpy", "xpnn"}
