"""The pytest plugin in projects of others: which libraries tests run on, and what is refused."""

import importlib.util
import sys

import pytest

from tests.helpers import BACKEND_NAMES, environment, open_backend
from xpnn import pytest_plugin
from xpnn.backends import BACKENDS

SUM = """
def test_sum(xp):
    x = xp.asarray([1.0, 2.0])
    assert float(xp.sum(x)) == 3.0
"""
pytest.importorskip("array_api_extra")

# no test imports them here: `pytester` would drop them, and they can't be imported twice
HERE = [name for name in ("numpy", "torch", "jax", "strict")
        if importlib.util.find_spec(pytest_plugin.LIBRARIES[name])]  # fmt: skip
COUNT, ALL = len(HERE), ",".join(HERE)
with_torch = pytest.mark.skipif("torch" not in HERE, reason="PyTorch is not installed")
LIGHT = "numpy,strict"


@pytest.fixture
def project(pytester, monkeypatch):
    """Make a project of one file of tests, and return what pytest says of it.

    It runs in a process of its own, in which code can run before.
    """
    monkeypatch.setenv("PYTHONPATH", environment()["PYTHONPATH"])
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def run(text, *options, plugin="xpnn.pytest_plugin", before="", without=(), **files):
        pytester.makepyfile(**files, test_it=text)
        argv = ["-p", plugin, "-v", "-p", "no:cacheprovider", *options]
        code = f"""
import functools, importlib.machinery, sys
def found(find, name, *rest):
    return None if name.partition(".")[0] in {without!r} else find(name, *rest)
finder = importlib.machinery.PathFinder
finder.find_spec = functools.partial(found, finder.find_spec)
{before}
import pytest
sys.exit(pytest.main({argv!r}))
"""
        return pytester.run(sys.executable, "-c", code)

    return run


def usage_error(found):
    """Return the line of a run that didn't begin."""
    assert found.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in found.errlines if line.startswith("ERROR: ")]
    assert "Traceback" not in str(found.errlines) + str(found.outlines)
    return line.removeprefix("ERROR: ")


def passed(found):
    return {
        line.split("::", 1)[1].split(" ")[0] for line in found.outlines if " PASSED " in f"{line} "
    }


def test_every_library_is_known_and_so_is_what_is_optional():
    assert {*pytest_plugin.LIBRARIES} == {*BACKENDS, "numpy-readonly"}
    for name, cls in BACKENDS.items():
        assert pytest_plugin.LIBRARIES[name] == cls.module
    info = open_backend("strict").library.__array_namespace_info__().capabilities()
    optional = {name for name, value in info.items() if isinstance(value, bool)}
    assert {*pytest_plugin.FEATURES} == optional | {"linalg", "fft"}


def test_functions_methods_and_parameters_run_on_each_library(project):
    text = f"""{SUM}
import pytest

class TestIt:
    @pytest.mark.parametrize("n", [1, 2])
    def test_ones(self, xp, n):
        assert xp.ones(n).shape == (n,)

    @pytest.mark.parametrize("library", ["numpy"])
    def test_one(self, xp):
        assert "numpy" in xp.__name__

def test_none():
    pass

@pytest.mark.usefixtures("xp")
def test_used(library):
    pass
"""
    found = project(text, "--xp", LIGHT)
    found.assert_outcomes(passed=2 + 4 + 1 + 1 + 2)
    assert passed(found) == {
        "test_none",
        "TestIt::test_one[numpy]",
        *(f"test_sum[{name}]" for name in ("numpy", "strict")),
        *(f"test_used[{name}]" for name in ("numpy", "strict")),
        *(f"TestIt::test_ones[{name}-{n}]" for name in ("numpy", "strict") for n in (1, 2)),
    }
    found.stdout.fnmatch_lines([f"xp: {LIGHT}"])


def test_without_the_option_it_is_what_is_installed(project):
    found = project(SUM, without=("torch", "cupy"))
    assert passed(found) == {f"test_sum[{name}]" for name in ("numpy", "jax", "strict")}
    found = project(SUM, without=("torch", "cupy", "jax", "array_api_strict"))
    assert passed(found) == {"test_sum[numpy]"}
    assert not [line for line in found.outlines if line.startswith("xp: ")]


@with_torch
def test_what_has_no_device_is_skipped_unless_it_was_asked_for(project):
    before = """
from xpnn.backends import BACKENDS
BACKENDS["torch"]._devices = lambda self: {}
"""
    found = project(SUM, "-rs", before=before, without=("jax", "cupy"))
    found.assert_outcomes(passed=2, skipped=1)
    found.stdout.fnmatch_lines(["SKIPPED*backend 'torch' has no device (devices here: none)"])
    assert usage_error(project(SUM, "--xp", "numpy,torch", before=before)) == (
        "--xp torch: backend 'torch' has no device (devices here: none) "
        "(--xp-missing skip skips its tests)"
    )


def test_a_library_that_is_not_installed_is_an_error(project):
    for given in ("jax", "numpy,jax"):
        assert usage_error(project(SUM, "--xp", given, without=("jax",))) == (
            "--xp jax: backend 'jax' is not installed; install it with: pip install jax "
            "(--xp-missing skip skips its tests)"
        )
    assert usage_error(project(SUM, "--xp", "all", without=("torch",))).startswith("--xp torch: ")
    options = ("--xp", "numpy,jax", "--xp-missing", "skip", "-rs")
    found = project(SUM, *options, without=("jax",))
    found.assert_outcomes(passed=1, skipped=1)
    found.stdout.fnmatch_lines(["SKIPPED*backend 'jax' is not installed; install it with:*"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("tensorflow", "--xp: unknown library 'tensorflow' (allowed: numpy, numpy-readonly, torch, "
         "jax, cupy, strict, all, installed)"),
        ("numpy, pytorch", "--xp: unknown library 'pytorch'; did you mean 'torch'? (allowed: "),
        ("numpy,,torch", "--xp: unknown library '' (allowed: "),
        ("", "--xp: unknown library '' (allowed: "),
        ("numpy,all", "--xp: 'all' and 'installed' stand alone, got 'numpy,all'"),
        ("torch:tpu", "--xp torch:tpu: backend 'torch' has no device 'tpu' (devices here: cpu"),
        ("numpy:", "--xp: the device is missing in 'numpy:'"),
    ],
)  # fmt: skip
def test_what_no_library_is(project, given, message):
    if given == "torch:tpu":
        pytest.importorskip("torch")
    assert usage_error(project(SUM, f"--xp={given}")).startswith(message)


def test_marks_of_known_failures(project):
    text = """
import pytest

@pytest.mark.xp_skip("numpy", "strict", reason="takes an hour")
def test_slow(library):
    assert library == "numpy-readonly"

@pytest.mark.xp_xfail("numpy-readonly", reason="its arrays can't be changed", raises=ValueError)
@pytest.mark.xp_xfail("strict", reason="never")
def test_change(xp):
    x = xp.asarray([1.0, 2.0])
    x[0] = 3.0

@pytest.mark.xp_xfail("numpy:cpu", reason="by its device", strict=True)
class TestAll:
    def test_passes(self, library):
        assert library
"""
    found = project(text, "--xp", "numpy,numpy:cpu,numpy-readonly,strict", "-ra")
    found.assert_outcomes(passed=1 + 2 + 3, skipped=3, xfailed=1, xpassed=1, failed=1)
    found.stdout.fnmatch_lines(["SKIPPED ?3? test_it.py:*: takes an hour"])
    found.stdout.fnmatch_lines(["XFAIL*test_change?numpy-readonly?* - its arrays can't be changed"])
    found.stdout.fnmatch_lines(["XPASS*test_change?strict?*never"])
    found.stdout.fnmatch_lines(["FAILED*test_passes?numpy:cpu?*XPASS(strict)*"])


@pytest.mark.parametrize(
    ("mark", "message"),
    [
        ("xp_skip('torch')", "xp_skip of test_it.py::test_it needs a library and a reason"),
        ("xp_xfail(reason='x')", "xp_xfail of test_it.py::test_it needs a library and a reason"),
        ("xp_skip('tosch', reason='x')", "xp_skip of test_it.py::test_it: unknown library 'tosch'; "
         "did you mean 'torch'? (allowed: numpy, "),
        ("xp_needs('linalk')", "xp_needs of test_it.py::test_it: unknown feature 'linalk'; did you "
         "mean 'linalg'? (allowed: linalg, fft, boolean indexing, data-dependent shapes)"),
    ],
)  # fmt: skip
def test_mistakes_in_marks(project, mark, message):
    text = f"import pytest\n@pytest.mark.{mark}\ndef test_it(): pass\n"
    assert usage_error(project(text, "--xp", "numpy")).startswith(message)


OPTIONAL = """
{}
class Test{}:
    def test_linalg(self, xp):
        xp.linalg.inv(xp.eye(2))
    def test_boolean_indexing(self, xp):
        x = xp.ones(2)
        x[x > 0]
    def test_data_dependent_shapes(self, xp):
        xp.nonzero(xp.ones(2))
    def test_fft(self, xp):
        xp.fft.fft(xp.ones(2, dtype=xp.complex128))
"""


def test_the_strict_library_has_what_is_optional_if_it_is_needed(project):
    text = "import pytest" + OPTIONAL.format("", "Nothing")
    expected = set()
    for feature in pytest_plugin.FEATURES:
        name = feature.replace(" ", "_").replace("-", "_")
        text += OPTIONAL.format(f"@pytest.mark.xp_needs({feature!r})", f"_{name}")
        expected.add(f"Test_{name}::test_{name}[strict]")
    found = project(text, "--xp", "strict", "--tb=line")
    found.assert_outcomes(passed=4, failed=16)
    assert passed(found) == expected
    found = project("import pytest" + OPTIONAL.format("", "Nothing"), "--xp", "strict")
    found.stdout.fnmatch_lines_random(
        [f"*@pytest.mark.xp_needs({own!r})" for own in pytest_plugin.FEATURES]
    )


def test_a_whole_project_can_need_what_is_optional(project, pytester):
    lines = "\n    ".join(pytest_plugin.FEATURES)
    pytester.makeini(f"[pytest]\nxp_needs =\n    {lines}\n")
    project(OPTIONAL.format("", ""), "--xp", "numpy,strict").assert_outcomes(passed=8)
    pytester.makeini("[pytest]\nxp_needs = linalgebra\n")
    assert usage_error(project(SUM)).startswith(
        "xp_needs of the configuration: unknown feature 'linalgebra'; did you mean 'linalg'?"
    )


def test_settings_are_the_strictest_and_end_with_the_test(project):
    text = """
import numpy as np
import pytest

def test_jax(xp, library):
    if library == "jax":
        import jax
        assert jax.config.jax_transfer_guard_device_to_host == "disallow"
        assert jax.config.jax_transfer_guard_device_to_device == "disallow"
    assert xp.asarray([1.0], dtype=xp.float64).dtype == xp.float64

def test_arrays_of_strict_leave_its_device_when_asked(xp, device, to_numpy, library):
    x = xp.asarray([1.0, 2.0], device=device)
    assert x.device == device
    if library == "strict":
        assert "device1" in str(device)
        with pytest.raises(RuntimeError):
            np.asarray(x)
        with pytest.raises(ValueError):
            x + xp.asarray([1.0, 2.0])
    assert type(to_numpy(x)) is np.ndarray
    assert to_numpy(x).tolist() == [1, 2]

@pytest.mark.parametrize("library", ["numpy-readonly", "numpy"])
def test_inputs(xp, library):
    import array_api_compat
    x = xp.asarray([1.0])
    if library == "numpy":
        x += 1.0
    else:
        with pytest.raises(ValueError, match="read-only"):
            x += 1.0
    own = array_api_compat.array_namespace(x)
    assert own == xp and xp == own and own in {xp}
    own.asarray(x, copy=True)[0] = 3.0
    xp.zeros(1)[0] = 2.0
    xp.float64, xp.asarray(x, copy=None)
"""
    ends = """
def test_ends(library):
    if library == "jax":
        import jax
        assert jax.config.jax_transfer_guard_device_to_host != "disallow"
        assert not jax.config.jax_enable_x64
    if library == "strict":
        import array_api_strict
        flags = array_api_strict.get_array_api_strict_flags()
        assert flags["enabled_extensions"] == ("linalg", "fft")
"""
    project(text + ends, "--xp", ALL).assert_outcomes(passed=3 * COUNT + 2)


@with_torch
def test_torch_makes_arrays_on_the_device_of_the_test(project):
    before = "import torch; torch.set_default_device('meta')"
    project(SUM, "--xp", "torch:cpu", before=before).assert_outcomes(passed=1)


def test_backends_dtypes_and_reproducible_namespaces(project):
    text = """
import hashlib
import numpy as np
import xpnn

def test_backend(backend, dtype, library):
    assert backend.name == library
    assert backend.dtype_name == dtype
    model = xpnn.Sequential(xpnn.Dense(2))
    xpnn.fit(model, (np.eye(4), [0, 1, 1, 0]), epochs=1, batch_size=4, backend=backend)

def test_dtype(xp, dtype):
    assert xp.zeros(1, dtype=getattr(xp, dtype)).dtype == getattr(xp, dtype)

def test_bits(reproducible_xp, device):
    x = reproducible_xp.sin(reproducible_xp.linspace(0.0, 9.0, 99))
    assert x.device == device
    assert hashlib.sha256(np.asarray(x).tobytes()).hexdigest()[:8] == HASH
"""
    import hashlib

    import numpy as np

    from xpnn import reproducible

    xp = reproducible.namespace()
    bits = np.asarray(xp.sin(xp.linspace(0.0, 9.0, 99))).tobytes()
    text += f"\nHASH = {hashlib.sha256(bits).hexdigest()[:8]!r}\n"
    project(text, "--xp", ALL).assert_outcomes(passed=(2 + 2 + 1) * COUNT)


def test_functions_that_are_tagged_are_compiled_by_jax(project):
    text = """
from array_api_extra.testing import lazy_xp_function

def doubled(x):
    return x * 2 if float(x[0]) > 0 else x

lazy_xp_function(doubled)

def test_doubled(xp):
    doubled(xp.ones(2))
"""
    found = project(text, "--xp", "numpy,jax")
    found.assert_outcomes(passed=1, failed=1)
    found.stdout.fnmatch_lines(["*ConcretizationTypeError*"])


SAME = """
import pytest
from xpnn.testing import same_on_all

def softmax(x, xp):
    e = xp.exp(x - xp.max(x))
    return e / xp.sum(e) * FAULT.get(xp.__name__, 1.0)

FAULT = {}

@same_on_all(ulps=16)
def test_native(xp):
    return softmax(xp.astype(xp.arange(100), xp.float64) / 16.0 - 3.0, xp)

@same_on_all
def test_reproducible(reproducible_xp):
    return {"softmax": softmax(reproducible_xp.linspace(-3.0, 3.0, 100), reproducible_xp)}

class TestIt:
    @pytest.mark.parametrize("n", [2, 3])
    @same_on_all
    def test_devices(self, n, xp, device, dtype):
        x = xp.ones(n, dtype=getattr(xp, dtype), device=device)
        return [x, x * 2]
"""


def test_same_on_all(project):
    project(SAME, "--xp", ALL).assert_outcomes(passed=(1 + 1 + 4) * COUNT)


def test_a_planted_fault_is_named(project):
    text = SAME.replace("FAULT = {}", "FAULT = {'jax.numpy': 1 + 2**-40}")
    found = project(text, "--xp", "numpy,jax")
    found.assert_outcomes(passed=1 + 2 + 8, failed=1)
    found.stdout.fnmatch_lines(["E*AssertionError: jax is 0.*, numpy is 0.* ulps apart, at ?0?; *"])
    found.stdout.fnmatch_lines(
        ["*numpy and jax differ first in operation 10, mul(* in test_it.py:6: *"]
    )
    # and where nothing may differ
    fault = "FAULT = {reproducible.namespace('strict', device='device1').__name__: 1 + 2**-40}"
    text = "from xpnn import reproducible\n" + SAME.replace("FAULT = {}", fault)
    found = project(text, "--xp", "strict")
    found.assert_outcomes(passed=1 + 4, failed=1)
    found.stdout.fnmatch_lines(["E*AssertionError: part softmax: reproducible strict is 0.*"])
    found.stdout.fnmatch_lines(["*operation 7, mul(*, 1.0000000000009095) in test_it.py:8: *"])
    # no line of ours is between
    assert "site-packages" not in found.stdout.str()
    assert "/xpnn/" not in found.stdout.str()


@pytest.mark.parametrize(
    ("test", "message"),
    [
        ("def test_it(n): pass", "must take xp or reproducible_xp"),
        ("def test_it(xp, reproducible_xp): pass", "must take xp or reproducible_xp"),
        ("def test_it(xp): pass", "must return arrays"),
        ("def test_it(xp): return [], {'a': None}", "must return arrays"),
    ],
)
def test_tests_that_can_not_be_compared(project, test, message):
    found = project(f"from xpnn.testing import same_on_all\n@same_on_all\n{test}", "--xp", "numpy")
    found.stdout.fnmatch_lines([f"E*ArgumentError: *{message}: *test_it*"])
    assert found.ret != 0


def test_arrays_of_a_fixture_would_be_compared_with_themselves(project):
    text = """
import pytest
from xpnn.testing import same_on_all

@pytest.fixture
def x(xp):
    return xp.ones(3)

@same_on_all
def test_it(xp, x):
    return x
"""
    found = project(text, "--xp", "numpy,strict")
    found.assert_outcomes(passed=1, failed=1)
    found.stdout.fnmatch_lines(["E*ArgumentError: *must make its arrays from the xp that*"])


def test_what_differs_is_told_if_no_operation_can_be_named(project):
    text = """
from xpnn.testing import same_on_all

@same_on_all
def test_it(xp):
    if "xpnn" in type(xp.ones(1)).__module__:
        raise RuntimeError("not while it is traced")
    return xp.ones(3) * (1.0 if "numpy" in xp.__name__ else 2.0)
"""
    found = project(text, "--xp", "strict")
    found.stdout.fnmatch_lines(["E*AssertionError: strict is 2.0, numpy is 1.0*"])
    found.stdout.fnmatch_lines(["*no operation could be named: RuntimeError: not while*"])


def test_with_xdist(project):
    pytest.importorskip("xdist")
    found = project(SAME, "-p", "xdist", "-n2", "--xp", LIGHT)
    found.assert_outcomes(passed=12)
    line = usage_error(project(SAME, "-p", "xdist", "-n2", "--xp", "numpy,pytorch"))
    assert line.startswith("--xp: unknown library 'pytorch'; did you mean 'torch'?")


def test_it_can_be_left_out_and_loads_nothing_by_itself(project):
    found = project(SUM, plugin="no:xpnn.pytest_plugin")
    found.stdout.fnmatch_lines(["E * fixture 'xp' not found"])
    text = """
def test_light():
    import sys
    assert not {"numpy", "torch", "jax", "array_api_strict"} & {*sys.modules}
"""
    project(text).assert_outcomes(passed=1)


def test_fixtures_of_the_project_go_before(project):
    conftest = """
import pytest

@pytest.fixture
def xp():
    return "mine"

@pytest.fixture(params=["a", "b"])
def library(request):
    return request.param
"""
    text = """
import pytest

def test_mine(xp):
    assert xp == "mine"

@pytest.mark.xp_skip("numpy", reason="is not there")
def test_libraries(library):
    assert library in "ab"
"""
    project(text, "--xp", LIGHT, conftest=conftest).assert_outcomes(passed=3)


def test_a_project_opens_libraries_in_its_own_way(project):
    conftest = """
import pytest
import xpnn

@pytest.fixture(scope="session")
def open_library():
    return lambda library, dtype: xpnn.backends.get_backend(library, device="device2", dtype=dtype)
"""
    text = "def test_it(device): assert 'device2' in str(device)"
    project(text, "--xp", "strict", conftest=conftest).assert_outcomes(passed=1)


def test_the_names_of_helpers_are_those_of_the_plugin():
    assert {*BACKEND_NAMES, "numpy-readonly"} == {*pytest_plugin.LIBRARIES}


def test_hypothesis(project):
    pytest.importorskip("hypothesis")
    text = """
from hypothesis import HealthCheck, given, settings, strategies as st
from xpnn.testing import same_on_all

FIXTURES = [HealthCheck.function_scoped_fixture]

@settings(max_examples=5, deadline=None, suppress_health_check=FIXTURES)
@given(n=st.integers(1, 9))
@same_on_all
def test_ones(n, xp):
    return xp.ones(n)
"""
    project(text, "--xp", "numpy,strict").assert_outcomes(passed=2)


def test_the_extra_is_asked_for(project):
    found = project(SUM, "--xp", "numpy", without=("array_api_extra",))
    found.assert_outcomes(errors=1)
    found.stdout.fnmatch_lines(
        ["*the fixture xp needs array-api-extra: pip install 'xpnn?testing?'*"]
    )
