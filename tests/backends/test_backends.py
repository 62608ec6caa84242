"""Backends: a name becomes a library on a device, and host arrays go there and come back."""

import copy
import importlib
import os
import pickle
import subprocess
import sys
import tomllib
import types

import array_api_compat
import numpy as np
import pytest

import xpnn
from tests.helpers import BACKEND_NAMES, LIBRARIES, ROOT, open_backend
from xpnn import backends
from xpnn.backends import BACKENDS, BackendInfo, describe, get_backend, namespace, to_numpy
from xpnn.errors import ArgumentError, BackendError

HOST = np.arange(12).reshape(3, 4)
DTYPES = ("float32", "float64", "uint8", "int32", "int64")


def test_every_backend_is_tested_and_banned_outside_of_its_package():
    assert set(BACKEND_NAMES) == set(BACKENDS)
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    banned = settings["tool"]["ruff"]["lint"]["flake8-tidy-imports"]["banned-api"]
    assert {cls.module for cls in BACKENDS.values()} == {"numpy", *banned}


@pytest.fixture
def bare(library):
    """A float64 backend outside its scope."""
    return open_backend(library, "float64")


def test_a_name_becomes_namespace_device_and_dtype(bare, library):
    assert bare.name == library.removesuffix("-readonly")
    assert bare.xp.float64 == bare.dtype
    assert open_backend(library, "float32").dtype == bare.xp.float32
    assert get_backend(bare) is bare
    assert set(bare.devices()) >= {"cuda:0" if bare.name == "cupy" else "cpu"}


@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize(
    "view",
    [
        lambda a: a,
        lambda a: a.T,
        lambda a: a[::-1, ::2],
        lambda a: a[:0],
        lambda a: a[1, 2, ...],
    ],
    ids=["whole", "transposed", "reversed", "empty", "0-d"],
)
def test_arrays_go_to_the_device_and_come_back(bare, kind, view):
    host = view(HOST.astype(kind))
    host.flags.writeable = False
    there = bare.asarray(host)
    assert bare.owns(there)
    assert array_api_compat.device(there) == bare.device
    assert namespace(there) == bare.xp
    for back in (bare.to_numpy(there), to_numpy(there)):
        assert type(back) is np.ndarray
        assert back.dtype == host.dtype
        np.testing.assert_array_equal(back, host, strict=True)


def test_each_library_owns_its_arrays_alone(bare):
    assert [cls.name for cls in BACKENDS.values() if cls.owns(bare.asarray(HOST))] == [bare.name]


@pytest.mark.parametrize("values", [[[1, 2], [3, 4]], (1.5,), 3, np.float32(2), [True]])
def test_to_numpy_takes_what_numpy_takes(values):
    np.testing.assert_array_equal(to_numpy(values), np.asarray(values), strict=True)


def test_to_numpy_says_what_is_no_array():
    with pytest.raises(ArgumentError, match="not an array"):
        to_numpy([[1, 2], [3]])


def test_to_numpy_takes_a_tensor_that_autograd_watches():
    torch = pytest.importorskip("torch")
    np.testing.assert_array_equal(to_numpy(torch.ones(2, requires_grad=True)), [1, 1])


@pytest.mark.parametrize("options", [{}, {"reproducible": True, "precision": "full"}])
def test_a_backend_that_is_pickled_is_found_again(bare, options):
    backend = get_backend(**bare.options() | options)
    for again in (pickle.loads(pickle.dumps(backend)), copy.deepcopy(backend)):
        assert type(again) is type(backend)
        assert again.options() == backend.options()
        assert (again.device, again.dtype) == (backend.device, backend.dtype)
        with again.scope():
            np.testing.assert_array_equal(again.to_numpy(again.asarray(HOST)), HOST)


def test_scope_is_left_as_it_was_entered(bare):
    def state():
        jax = sys.modules.get("jax")
        return np.geterr(), jax and (jax.config.jax_enable_x64, jax.config.jax_default_device)

    before = state()
    scope = bare.scope()
    scope.__enter__()
    try:
        assert bare.xp.ones(1, dtype=bare.dtype, device=bare.device).dtype == bare.xp.float64
        assert np.geterr()["over"] == "ignore"
    finally:
        scope.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert state() == before


def test_fold_is_a_loop(bare):
    """The carry goes from step to step, rows come in order, the context stays."""
    xp = bare.xp

    def step(carry, row, weights, offset):
        a, b = carry
        a = 0.5 * a + xp.sum(row * weights)
        return (a, b + offset), (a, xp.max(row))

    rows, weights = np.random.RandomState(0).randn(5, 3), np.array([1.0, 2.0, 3.0])
    a, expected = 1.0, []
    for row in rows:
        a = 0.5 * a + (row * weights).sum()
        expected.append((a, row.max()))
    with bare.scope():
        start = tuple(bare.asarray(np.array(x)) for x in (1.0, 10.0))
        context = bare.asarray(weights), bare.asarray(np.array(2.0))
        carry, outputs = bare.fold(step)(start, bare.asarray(rows), *context)
    np.testing.assert_allclose([bare.to_numpy(x) for x in carry], [a, 20.0], rtol=1e-14)
    for output, column in zip(outputs, zip(*expected, strict=True), strict=True):
        assert output.shape == (5,)
        np.testing.assert_allclose(bare.to_numpy(output), column, rtol=1e-14)


def test_compile_keeps_the_function(bare):
    with bare.scope():
        double = bare.compile(lambda tree: [{"a": 2 * tree[0]["a"]}])
        result = double([{"a": bare.asarray(HOST)}])[0]["a"]
    np.testing.assert_array_equal(bare.to_numpy(result), 2 * HOST)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"backend": "nunpy"},
            f"unknown backend 'nunpy'; did you mean 'numpy'? (allowed: {', '.join(BACKENDS)})",
        ),
        (
            {"dtype": "float16"},
            "unknown dtype 'float16'; did you mean 'float64'? (allowed: float32, float64)",
        ),
        ({"backend": None}, f"unknown backend None (allowed: {', '.join(BACKENDS)})"),
    ],
)
def test_what_is_unknown_is_an_argument_error(arguments, message):
    with pytest.raises(ArgumentError) as error:
        get_backend(**arguments)
    assert str(error.value) == message


@pytest.mark.parametrize(
    "given",
    [
        {"backend": ["numpy"]},
        {"backend": np},
        {"dtype": np.float32},
        {"dtype": np.dtype("float32")},
        {"dtype": ["float32"]},
    ],
)
def test_what_is_no_name_is_an_argument_error(given):
    with pytest.raises(ArgumentError, match=f"unknown {next(iter(given))} "):
        get_backend(**given)


@pytest.mark.parametrize("name", [name for name in LIBRARIES if "-" not in name])
@pytest.mark.parametrize("device", ["cuda:99", "tpu", "cuda:x", ""])
def test_a_device_that_is_not_there(name, device):
    backend = open_backend(name)
    has = ", ".join(backend.devices())
    with pytest.raises(BackendError) as error:
        get_backend(name, device=device)
    assert str(error.value) == (f"backend {name!r} has no device {device!r} (devices here: {has})")


def test_cupy_without_a_card():
    pytest.importorskip("cupy")
    code = """
from xpnn.backends import describe, get_backend
from xpnn.errors import BackendError
(info,) = [info for info in describe() if info.name == "cupy"]
print(info.installed, info.devices, info.cards)
print(info.hint)
try:
    get_backend("cupy")
except BackendError as error:
    print(error)
"""
    hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "CUDA_ON_CPU": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=hidden, check=True
    )
    message = "backend 'cupy' has no device (devices here: none)"
    assert done.stdout.splitlines() == ["True () ()", message, message], done.stderr


@pytest.mark.parametrize("name", [name for name in BACKENDS if name != "numpy"])
def test_a_library_that_is_not_installed(monkeypatch, name):
    cls = BACKENDS[name]
    monkeypatch.setitem(sys.modules, cls.module, None)
    with pytest.raises(BackendError) as error:
        get_backend(name)
    assert str(error.value) == (
        f"backend {name!r} is not installed; install it with: {cls.install}"
    )
    (info,) = [info for info in describe() if info.name == name]
    assert info == BackendInfo(name, False, "", (), "", cls.install)


@pytest.fixture
def broken(monkeypatch, tmp_path):
    """A CuPy that is installed but can't be imported, as one without its CUDA libraries."""
    (tmp_path / "cupy.py").write_text("raise ImportError('libcudart.so.13: not found')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    importlib.invalidate_caches()


@pytest.mark.usefixtures("broken")
def test_a_library_that_can_not_be_imported():
    with pytest.raises(BackendError) as error:
        get_backend("cupy")
    assert str(error.value) == "backend 'cupy' can't be imported: libcudart.so.13: not found"


@pytest.mark.usefixtures("broken")
def test_describe_lives_with_a_library_that_can_not_be_imported():
    (info,) = [info for info in describe() if info.name == "cupy"]
    assert info.devices == ()
    assert "libcudart.so.13: not found" in info.hint


def test_describe_tells_what_is_here(bare):
    assert [info.name for info in describe()] == list(BACKENDS)
    (info,) = [info for info in describe() if info.name == bare.name]
    version = importlib.import_module(bare.module).__version__
    cards = () if bare.card is None else (bare.card,) * len(bare.devices())
    assert info == BackendInfo(bare.name, True, version, bare.devices(), bare.blas(), "", cards)
    assert info.blas
    assert (bare.card is None) == (bare.name != "cupy" and "cuda" not in str(bare.device))


def test_jax_keeps_to_the_device_that_was_asked_for():
    """On the second of two: nothing is made on the default one and moved."""
    pytest.importorskip("jax")
    code = """
import jax, numpy as np, xpnn
assert xpnn.get_backend("jax").devices() == ("cpu", "cpu:1")
model = xpnn.Sequential(xpnn.Dense(3), xpnn.Activation("gelu"), xpnn.Dense(2))
data = np.eye(4), np.array([0, 1, 1, 0])
with jax.transfer_guard("disallow"):
    xpnn.fit(model, data, epochs=2, batch_size=3, optimizer=xpnn.Adam(), backend="jax",
             device="cpu:1")
    xpnn.evaluate(model, data)
print(*{device.id for array in jax.live_arrays() for device in array.devices()})
"""
    two = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **two}
    )
    assert (done.stdout, done.returncode) == ("1\n", 0), done.stderr


def test_a_backend_of_ones_own_trains(monkeypatch):
    """A subclass is a backend: nothing but its own methods is asked."""

    class Mine(backends.NumpyBackend):
        name = "mine"
        calls = types.SimpleNamespace(folds=0)

        def fold(self, step):
            self.calls.folds += 1
            return super().fold(step)

    model = xpnn.Sequential(xpnn.Dense(2))
    history = xpnn.fit(model, (HOST, [0, 1, 1]), epochs=1, seed=0, backend=Mine())
    assert history.settings["backend"] == "mine"
    assert Mine.calls.folds == 2


def test_a_callers_autocast_changes_nothing():
    torch = pytest.importorskip("torch")
    place = get_backend("torch", dtype="float32")
    with torch.autocast("cpu", dtype=torch.bfloat16), place.scope():
        x = place.asarray(np.full((2, 2), 1.01, np.float32))
        assert (x @ x).dtype == torch.float32


def test_bounds_in_pytorchs_namespace():
    """Those that are numbers go another way, which must be the standard's."""
    torch = pytest.importorskip("torch")
    import array_api_compat.torch as compat

    xp = get_backend("torch").xp
    assert namespace(torch.ones(1)) is xp
    nan, inf = float("nan"), float("inf")
    for dtype in (torch.float32, torch.float64):
        x = torch.tensor([-inf, -2.0, 0.0, 0.5, 3.0, inf, nan], dtype=dtype)
        for bound in (-1.0, 0.0, 2, 1e39, -1e39, inf, nan):
            for name in ("maximum", "minimum"):
                got, want = (getattr(own, name)(x, bound) for own in (xp, compat))
                assert got.dtype == dtype
                np.testing.assert_array_equal(to_numpy(got), to_numpy(want), err_msg=f"{bound}")
    whole = torch.tensor([1, 5])
    assert xp.maximum(whole, 3).tolist() == [3, 5]
    assert xp.minimum(2.0, torch.tensor([1.0, 5.0])).tolist() == [1.0, 2.0]
    assert copy.copy(xp).exp is compat.exp


def test_pytorch_takes_rows_without_a_look_at_their_indices_on_the_cpu(monkeypatch):
    """But counts negative ones from the end, as array-api-compat's function does."""
    backend = open_backend("torch", "float32")
    host = np.arange(12.0, dtype=np.float32).reshape(4, 3)
    x, compat = backend.asarray(host), backend.xp._xp
    asked, take = [], compat.take
    monkeypatch.setattr(compat, "take", lambda *args, **kw: asked.append(1) or take(*args, **kw))
    for indices, count in (([3, 0, 3], 0), ([-1, 2], 1)):
        found = backend.xp.take(x, backend.asarray(np.array(indices)), axis=0)
        assert np.array_equal(backend.to_numpy(found), host[indices])
        assert backend.apart or len(asked) == count
    if not backend.apart:
        with pytest.raises(IndexError):
            backend.xp.take(x, backend.asarray(np.array([4])), axis=0)
