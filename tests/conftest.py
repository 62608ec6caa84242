"""Fixtures: every test that takes `backend` runs on every library that is installed.

``XPNN_REQUIRE=cupy,torch`` makes the skip of a missing library a failure; ``XPNN_DEVICE=cuda:0``
puts PyTorch and JAX on that device. CuPy runs on its second device where there are two, so that an
array which was made on the current one by mistake meets arrays of another.
"""

import ctypes
import os

# before SciPy is imported, for scikit-learn's checks of its array API
os.environ.setdefault("SCIPY_ARRAY_API", "1")

import numpy as np
import pytest

from tests.helpers import ROOT
from xpnn.backends import get_backend
from xpnn.errors import BackendError

LIBRARIES = ("numpy", "numpy-readonly", "strict", "torch", "jax", "cupy")
REQUIRED = set(filter(None, os.environ.get("XPNN_REQUIRE", "").split(",")))
ARTICLE = ROOT / "xpnn" / "study" / "article" / "published"


def pytest_report_header():
    """Say which card CuPy's tests run on."""
    try:
        return f"cupy: {get_backend('cupy').card}"
    except BackendError as error:
        return f"cupy: {error}"


def emulated_driver():
    """Return the library that counts launches and copies; skip on a real card, which has none."""
    if open_backend("cupy").card != "emulated GPU":
        pytest.skip("launches and copies are counted on the emulated card only")
    driver = ctypes.CDLL("libcuda.so.1")
    for function in (driver.coc_launches, driver.coc_copies, driver.coc_bytes):
        function.restype = ctypes.c_long
    return driver


def open_backend(library, dtype="float64"):
    """Return the backend for a test; skip, or fail if it was required, where it isn't there."""
    name = library.removesuffix("-readonly")
    device = {
        "strict": "device1",
        "torch": os.environ.get("XPNN_DEVICE"),
        "jax": os.environ.get("XPNN_DEVICE"),
    }.get(name)
    try:
        backend = get_backend(name, device=device, dtype=dtype)
        if name == "cupy" and "cuda:1" in backend.devices():
            return get_backend(name, device="cuda:1", dtype=dtype)
        return backend
    except BackendError as error:
        if name in REQUIRED:
            pytest.fail(f"{name} was required: {error}")
        pytest.skip(str(error))


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    return request.param


@pytest.fixture(params=LIBRARIES)
def library(request):
    return request.param


@pytest.fixture
def backend(library, dtype):
    """A backend at each dtype, inside its scope."""
    backend = open_backend(library, dtype)
    with backend.scope():
        yield backend


@pytest.fixture
def array(backend, library):
    """A function that moves a host array to the backend; floats in its dtype.

    The NumPy arrays of "numpy-readonly" refuse to be written to.
    """

    def move(host):
        host = np.array(host)
        if host.dtype.kind == "f":
            host = host.astype(backend.dtype_name)
        moved = backend.asarray(host)
        if library == "numpy-readonly":
            moved.flags.writeable = False
        return moved

    return move


@pytest.fixture(scope="session")
def mnist():
    import xpnn

    return xpnn.datasets.mnist(ROOT / "data" / "mnist")
