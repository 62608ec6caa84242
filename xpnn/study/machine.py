"""The machine on which a run was done, as its result records it."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from xpnn._core.cores import cores
from xpnn._version import __version__
from xpnn.backends import Backend

# the environment variables from which BLAS libraries take their number of threads
THREADS = (
    "OPENBLAS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


def machine_record(backend: Backend) -> dict[str, Any]:
    """Return versions, BLAS and its kernel, CPU and card: what results depend on."""
    inner = getattr(backend, "inner", backend)
    return {
        "xpnn": __version__,
        **backend.arithmetic(),
        "python": platform.python_version(),
        "library": f"{inner.name} {inner.library.__version__}",
        "blas": " ".join([inner.blas(), *kernels()]),
        "threads": os.environ.get("OPENBLAS_NUM_THREADS") or os.environ.get("OMP_NUM_THREADS", ""),
        "device": backend.card or str(backend.device),
        "cpu": cpu(),
        "cores": cores(),
        "system": platform.platform(terse=True),
    }


def kernels() -> list[str]:
    """Return the names of the BLAS kernels in use."""
    from threadpoolctl import threadpool_info

    return sorted({i["architecture"] for i in threadpool_info() if i.get("architecture")})


def cpu() -> str:
    """Return the name of the CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
