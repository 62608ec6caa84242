"""The pytest plugin: tests that run on several array libraries, ``pytest --xp numpy,torch,jax``.

Of the packages that it needs it imports only those whose fixtures a test asks for.
"""

from __future__ import annotations

import importlib.util
import re
import types
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from xpnn.backends import Backend
    from xpnn.reproducible import StandardNamespace

# each library with the module that must be installed
LIBRARIES = {
    "numpy": "numpy",
    "numpy-readonly": "numpy",
    "torch": "torch",
    "jax": "jax",
    "cupy": "cupy",
    "strict": "array_api_strict",
}
# tests run on another device than the default one, where there is one and none was asked for
_OTHER_DEVICES = {"strict": "device1", "cupy": "cuda:1"}
# what the standard leaves optional
FEATURES = ("linalg", "fft", "boolean indexing", "data-dependent shapes")
MARKS = (
    "xp_skip(*libraries, reason): don't run the test on these libraries",
    "xp_xfail(*libraries, reason, **options): the test is known to fail on these libraries; "
    "options are those of xfail",
    "xp_needs(*features): the test needs features that the standard leaves optional: "
    + ", ".join(FEATURES),
)
_DEFAULT = "installed"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("xpnn", "array libraries (xpnn)")
    group.addoption(
        "--xp",
        default=_DEFAULT,
        metavar="LIBRARIES",
        help=f"run tests that take `xp` on these libraries: {', '.join(LIBRARIES)}, with commas "
        "between them, each with a device if it shall not be the default one (torch:cuda:0); "
        f"'all', or '{_DEFAULT}' for NumPy and those that are installed (the default)",
    )
    group.addoption(
        "--xp-missing",
        choices=("error", "skip"),
        default="error",
        help="what a library of --xp is that can't be used: an error (the default), or a reason to "
        "skip its tests",
    )
    parser.addini("xp_needs", "what all tests need, as by the mark xp_needs", type="linelist")


def pytest_configure(config: pytest.Config) -> None:
    """Check the libraries, and make the fixture `library`, whose parameters they are."""
    for mark in MARKS:
        config.addinivalue_line("markers", mark)
    _check_names("xp_needs of the configuration", config.getini("xp_needs"), FEATURES)
    specs = _chosen(config.getoption("xp"))
    if not _skips_missing(config):
        for spec in specs:
            try:
                _open(spec, "float64")
            except RuntimeError as error:
                raise pytest.UsageError(
                    f"--xp {spec}: {error} (--xp-missing skip skips its tests)"
                ) from None
    # a plugin's fixture like any other: a project's own `library` goes before it
    holder = types.ModuleType("xpnn.libraries")
    holder.library = pytest.fixture(params=specs, name="library")(_library)  # type: ignore[attr-defined]
    config.pluginmanager.register(holder, holder.__name__)


def _skips_missing(config: pytest.Config) -> bool:
    return bool(config.getoption("xp") == _DEFAULT or config.getoption("xp_missing") == "skip")


def _chosen(text: str) -> list[str]:
    """Return the libraries that `--xp` names, each perhaps with a device."""
    if text == _DEFAULT:
        names = [name for name in LIBRARIES if not name.endswith("-readonly")]
        return [name for name in names if importlib.util.find_spec(LIBRARIES[name])]
    if text == "all":
        return list(LIBRARIES)
    specs = list(dict.fromkeys(spec.strip() for spec in text.split(",")))
    names = [spec.partition(":")[0] for spec in specs]
    if "all" in names or _DEFAULT in names:
        raise pytest.UsageError(f"--xp: 'all' and '{_DEFAULT}' stand alone, got {text!r}")
    _check_names("--xp", names, (*LIBRARIES, "all", _DEFAULT))
    for spec in specs:
        if spec.endswith(":"):
            raise pytest.UsageError(f"--xp: the device is missing in {spec!r}")
    return specs


def _check_names(where: str, given: list[str], allowed: Any) -> None:
    for name in given:
        if name not in allowed:
            from xpnn.errors import unknown

            kind = "feature" if allowed is FEATURES else "library"
            raise pytest.UsageError(f"{where}: {unknown(kind, name, allowed)}")


def _open(spec: str, dtype: str) -> Backend:
    """Return the backend of a library, on the device that was asked for or another one."""
    from xpnn.backends import get_backend

    name, _, device = spec.partition(":")
    name = name.removesuffix("-readonly")
    backend = get_backend(name, device=device or None, dtype=dtype)
    other = _OTHER_DEVICES.get(name)
    if device or other not in backend.devices():
        return backend
    return get_backend(name, device=other, dtype=dtype)


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say which libraries were asked for."""
    given = config.getoption("xp")
    return None if given == _DEFAULT else f"xp: {given}"


def pytest_itemcollected(item: pytest.Item) -> None:
    """Apply the marks `xp_skip` and `xp_xfail` that name the library of a test."""
    parameters = getattr(item, "callspec", None)
    library = parameters and parameters.params.get("library")
    for mark in list(item.iter_markers()):
        if mark.name == "xp_needs":
            _check_names(f"xp_needs of {item.nodeid}", list(mark.args), FEATURES)
        if mark.name not in ("xp_skip", "xp_xfail"):
            continue
        names = [str(spec).partition(":")[0] for spec in mark.args]
        _check_names(f"{mark.name} of {item.nodeid}", names, LIBRARIES)
        if not names or not mark.kwargs.get("reason"):
            raise pytest.UsageError(f"{mark.name} of {item.nodeid} needs a library and a reason")
        if library in mark.args or str(library).partition(":")[0] in mark.args:
            item.add_marker(getattr(pytest.mark, mark.name.removeprefix("xp_"))(**mark.kwargs))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Say how a test asks for what array-api-strict refuses because it is optional."""
    report = yield
    words = re.sub("[_ ]", "-", str(call.excinfo.value)) if call.excinfo else ""
    for feature in FEATURES:
        if "array-api-strict" in words and feature.replace(" ", "-") in words:
            text = f"a test that needs it has the mark @pytest.mark.xp_needs({feature!r})"
            report.sections.append(("xpnn", text))
    return report


def _library(request: pytest.FixtureRequest) -> Any:
    """Name of an array library, with a device if one was asked for: one of --xp."""
    return request.param


@pytest.fixture(params=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> Any:
    """Name of a dtype: "float32" or "float64"."""
    return request.param


@pytest.fixture(scope="session")
def open_library(request: pytest.FixtureRequest) -> Callable[[str, str], Backend]:
    """Open the backend of a library at a dtype; a project can override it."""

    def opened(library: str, dtype: str) -> Backend:
        try:
            return _open(library, dtype)
        except RuntimeError as error:
            if _skips_missing(request.config):
                pytest.skip(str(error))
            raise

    return opened


@pytest.fixture
def backend(
    library: str, dtype: str, open_library: Callable[[str, str], Backend]
) -> Iterator[Backend]:
    """Backend of xpnn at each dtype, for `xpnn.fit` and the like, inside its scope."""
    backend = open_library(library, dtype)
    with backend.scope():
        yield backend


@pytest.fixture
def device(library: str, open_library: Callable[[str, str], Backend]) -> Any:
    """Device of the library, where `xp` shall make arrays; for `strict` not the default one."""
    return open_library(library, "float64").device


@pytest.fixture
def xp(
    request: pytest.FixtureRequest, library: str, open_library: Callable[[str, str], Backend]
) -> Iterator[Any]:
    """Array API namespace of each library, with its strictest settings."""
    if importlib.util.find_spec("array_api_extra") is None:
        pytest.fail("the fixture xp needs array-api-extra: pip install 'xpnn[testing]'", False)
    import array_api_compat
    import numpy as np
    from array_api_extra.testing import patch_lazy_xp_functions

    backend = open_library(library, "float64")
    needs = {*request.config.getini("xp_needs")}
    needs.update(*(mark.args for mark in request.node.iter_markers("xp_needs")))
    namespace = array_api_compat.array_namespace(backend.asarray(np.empty(0)))
    with backend.strictest(needs), patch_lazy_xp_functions(request, xp=namespace):
        yield _ReadOnly(namespace) if library == "numpy-readonly" else namespace


class _ReadOnly:
    """NumPy's namespace, whose `asarray` makes arrays that refuse to be written to."""

    def __init__(self, xp: Any) -> None:
        self._xp = xp

    def __getattr__(self, name: str) -> Any:
        return getattr(self._xp, name)

    def __eq__(self, other: object) -> bool:
        return other is self._xp or other is self

    def __hash__(self) -> int:
        return hash(self._xp)

    def asarray(
        self, obj: Any, /, *, dtype: Any = None, device: Any = None, copy: bool | None = None
    ) -> Any:
        """Return an array that can't be written to."""
        array = self._xp.asarray(obj, dtype=dtype, device=device, copy=copy).view()
        array.flags.writeable = False
        return array


@pytest.fixture
def reproducible_xp(library: str, open_library: Callable[[str, str], Backend]) -> StandardNamespace:
    """Namespace of `xpnn.reproducible` over each library: the same bits on all."""
    from xpnn import reproducible

    backend = open_library(library, "float64")
    return reproducible.namespace(backend.name, device=backend.options()["device"])


@pytest.fixture
def to_numpy() -> Callable[..., Any]:
    """Move an array of any library to the host, though silent transfers are refused."""
    from xpnn.backends import to_numpy

    return to_numpy
