"""Fixtures, beside those of the plugin: `library`, `dtype`, `backend` and others.

Every test that takes `backend` runs on every library that is installed. ``XPNN_REQUIRE=cupy,torch``
makes the skip of a missing library a failure; ``XPNN_DEVICE=cuda:0`` puts PyTorch and JAX on that
device. CuPy runs on its second device where there are two, so that an array which was made on the
current one by mistake meets arrays of another.
"""

import os

# before SciPy is imported, for scikit-learn's checks of its array API
os.environ.setdefault("SCIPY_ARRAY_API", "1")

import numpy as np
import pytest

from tests.helpers import MNIST, REGISTRIES, open_backend, write_folder
from xpnn import activations
from xpnn.backends import get_backend
from xpnn.errors import BackendError


def pytest_report_header():
    """Say which card CuPy's tests run on."""
    try:
        return f"cupy: {get_backend('cupy').card}"
    except BackendError as error:
        return f"cupy: {error}"


# modules with fixtures that take a minute: one worker runs all their tests, so once
TOGETHER = ("tests/scripts/test_bench.py", "tests/study/test_published.py")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Hand out tests one by one, but modules of TOGETHER as a whole, and before the others."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            module = nodeid.partition("::")[0]
            return module if module in TOGETHER else nodeid

    return Scheduling(config, log)


@pytest.fixture(autouse=True, scope="session")
def _recorded_at_once():
    """Record steps from the first one on: the runs of tests are too short for the default."""
    with pytest.MonkeyPatch.context() as patches:
        patches.setattr("xpnn.recording.fold.EAGER_STEPS", 0)
        yield


@pytest.fixture(scope="session")
def open_library():
    """How the plugin's fixtures open a library."""
    return open_backend


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

    if not MNIST.exists():
        pytest.skip(f"needs {MNIST}, which the sdist doesn't hold")
    return xpnn.datasets.mnist(MNIST)


@pytest.fixture
def kept(monkeypatch):
    """Every registry, as it was before once the test ends."""
    for registry in REGISTRIES:
        for own in ("_parts", "_known"):
            monkeypatch.setattr(registry, own, dict(getattr(registry, own)))
    monkeypatch.setattr(activations, "_checks", dict(activations._checks))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder that is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def folder(tmp_path):
    """A small data set of images, as IDX files."""
    return write_folder(tmp_path / "data")


@pytest.fixture
def path(tmp_path):
    """Where a run leaves its checkpoint."""
    return tmp_path / "run.ckpt"
