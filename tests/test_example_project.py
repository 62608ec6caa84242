"""`examples/spectra`: a project of others, whose tests run on every library and find its faults."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import environment, open_backend

PROJECT = Path(__file__).parents[1] / "examples" / "spectra"
LIBRARIES = ("numpy", "strict", "torch", "jax", "cupy")
WEIGHTS = "weights = xp.astype(near, spectra.dtype)"
ENDS = "    return xp.concat([end, found, end], axis=-1)"
# for each library what somebody who tests on others only would write, and the test that finds it
FAULTS = {
    "numpy": (
        # PyTorch and Python numbers don't change the dtype, an array of NumPy without axes does
        "xp.asarray(value, dtype=x.dtype, device=", "xp.asarray(value, device=",
        "test_clipped",
    ),
    "strict": (
        "dtype=x.dtype, device=array_api_compat.device(x))", "dtype=x.dtype)",
        "test_clipped",
    ),
    "torch": (
        WEIGHTS, f"{WEIGHTS}[::-1, ::-1]",  # negative steps
        "test_smoothed",
    ),
    "jax": (
        ENDS,
        "    whole = xp.zeros_like(spectra, dtype=xp.bool)\n    whole[..., 1:-1] = found\n"
        "    return whole",
        "test_peaks",
    ),
    "cupy": (
        "largest = xp.max(", "import numpy\n    if numpy.isnan(numpy.asarray(spectra)).any():\n"
        "        raise ValueError('NaN')\n    largest = xp.max(",
        "test_normalized",
    ),
}  # fmt: skip


@pytest.fixture
def run(tmp_path):
    """A function that runs the project's tests on libraries, after a change of its module."""
    project = shutil.copytree(PROJECT, tmp_path / "spectra")

    def run(libraries, old="", new="", *options):
        for library in libraries.split(","):
            open_backend(library)  # skips
        path = project / "spectra.py"
        text = (PROJECT / "spectra.py").read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1) if old else text, encoding="utf-8")
        argv = ["-m", "pytest", "-p", "xpnn.pytest_plugin", "-p", "no:cacheprovider", "-q"]
        done = subprocess.run(
            [sys.executable, *argv, "--xp", libraries, *options],
            cwd=project, env=environment(PYTEST_DISABLE_PLUGIN_AUTOLOAD="1"), text=True,
            capture_output=True, check=False,
        )  # fmt: skip
        failed = re.findall(r"^FAILED tests/test_spectra.py::(\w+)\[(\w+)", done.stdout, re.M)
        return done.returncode, set(failed), done.stdout

    return run


@pytest.mark.parametrize("library", LIBRARIES)
def test_its_tests_pass(run, library):
    libraries = library if library == "numpy" else f"numpy,{library}"
    code, failed, text = run(libraries)
    assert (code, failed) == (0, set()), text


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_fault_is_found_on_its_library(run, library):
    """And not on another one, which is why it would have stayed."""
    old, new, test = FAULTS[library]
    other = "torch" if library == "numpy" else "numpy"
    code, failed, text = run(f"{library},{other}", old, new, "-k", test)
    assert code == 1, text
    assert (test, library) in failed, text
    assert (test, other) not in failed, text
