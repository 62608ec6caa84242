"""Variables of the environment that change how this machine computes, and whether they were taken.

Each is read when a library is loaded, so a process of its own is needed for each.
"""

import hashlib
import importlib.util
import os
import platform

import numpy as np
import threadpoolctl

_umath = np._core._multiarray_umath


def usable():
    """Return pairs of a variable and those of its values that this machine can take."""
    features = _umath.__cpu_features__
    x86 = features.get("AVX", False)
    avx2, avx512 = features.get("AVX2", False), features.get("AVX512F", False)
    found = {"OPENBLAS_NUM_THREADS": ["1", *(["2"] if (os.cpu_count() or 1) > 1 else [])]}
    if x86:
        found["OPENBLAS_CORETYPE"] = [
            "Sandybridge",
            *(["Haswell"] if avx2 else []),
            *(["SkylakeX"] if avx512 else []),
        ]
    elif platform.machine() in ("aarch64", "arm64"):
        found["OPENBLAS_CORETYPE"] = ["ARMV8", "NEOVERSEN1"]
    if dispatched():
        # their names differ between NumPy's versions
        found["NPY_DISABLE_CPU_FEATURES"] = [" ".join(dispatched())]
    if x86 and avx2 and platform.libc_ver()[0] == "glibc":
        # without FMA glibc's log, and with it NumPy's randn, has other bits
        found["GLIBC_TUNABLES"] = ["glibc.cpu.hwcaps=-AVX2,-FMA,-FMA4,-AVX512F"]
    if importlib.util.find_spec("torch"):
        found["OMP_NUM_THREADS"] = found["OPENBLAS_NUM_THREADS"]
        if x86:
            found["ATEN_CPU_CAPABILITY"] = [
                "default",
                *(["avx2"] if avx2 else []),
                *(["avx512"] if avx512 else []),
            ]
    return found


def environment(changes):
    """Return this process's environment with `changes`: one thread, and the rest as found."""
    found = {name: value for name, value in os.environ.items() if name not in usable()}
    return found | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"} | changes


def backend(variable):
    """Return the backend that a variable belongs to."""
    return "torch" if variable in ("ATEN_CPU_CAPABILITY", "OMP_NUM_THREADS") else "numpy"


def dispatched():
    """Return the CPU features that NumPy uses here beyond those that it was built for."""
    return [name for name in _umath.__cpu_dispatch__ if _umath.__cpu_features__[name]]


def state(backend):
    """Return how this process computes with a backend, as far as the library says."""
    found = {
        "NPY_DISABLE_CPU_FEATURES": dispatched(),
        "GLIBC_TUNABLES": _digest(np.random.RandomState(10).randn(10_000)),
    }
    if backend == "torch":
        import torch

        found["ATEN_CPU_CAPABILITY"] = torch.backends.cpu.get_cpu_capability()
        found["OMP_NUM_THREADS"] = torch.get_num_threads()
    for library in threadpoolctl.threadpool_info():
        if library["internal_api"] == "openblas" and "numpy" in library["filepath"]:
            found["OPENBLAS_CORETYPE"] = library["architecture"]
            found["OPENBLAS_NUM_THREADS"] = library["num_threads"]
    return found


def taken(variable, value, found, plain):
    """Return whether a process took a value, by its `state` and that of a process without it."""
    if variable == "NPY_DISABLE_CPU_FEATURES":
        return not found[variable]
    if variable == "GLIBC_TUNABLES":
        return found[variable] != plain[variable]
    return str(found.get(variable)).casefold() == value.casefold()


def native(backend):
    """Return a hash of products and functions as the backend's library itself computes them."""
    rng = np.random.RandomState(0)
    a, b = rng.uniform(-1, 1, (100, 784)), rng.uniform(-1, 1, (784, 100))
    if backend == "torch":
        import torch

        a, b = torch.from_numpy(a), torch.from_numpy(b)
        results = a @ b, torch.sigmoid(a), torch.expm1(a), torch.softmax(a, 1)
        return _digest(*(result.numpy() for result in results))
    return _digest(a @ b, np.exp(a), np.tanh(a), np.sum(a))


def _digest(*arrays):
    found = hashlib.sha256()
    for array in arrays:
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:16]
