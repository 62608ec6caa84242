"""A user's global settings: the same bits with them, and they are as before afterwards."""

import contextlib
import decimal
import random
import sys
import threading
import types
import warnings

import numpy as np
import pytest

import xpnn
from tests.helpers import open_backend
from xpnn.backends.torch import _Older, _WholePrecision

_RNG = np.random.RandomState(0)
X = _RNG.standard_normal((40, 4)) * [1, 30, 1e-3, 300]
Y = (X[:, 0] > 0).astype(np.int64)


def fit_and_predict(library):
    """Return the bits of a run whose loss underflows, and of what is done with its model."""
    backend = open_backend(library, "float32")
    model = xpnn.Sequential(xpnn.Dense(6), xpnn.BatchNorm(), xpnn.Activation("tanhexp"))
    model = xpnn.Sequential(*model.layers, xpnn.Dropout(0.2), xpnn.Dense(2))
    history = xpnn.fit(
        model, (X, Y), validation=0.2, normalizer="minmax", optimizer="adam:lr=0.3", epochs=2,
        metrics=["f1"], class_weight="balanced", clip_norm=1.0, batch_size=8, seed=1,
        backend=backend, verbose=False,
    )  # fmt: skip
    figures = np.array([row[:5] for row in history])
    found = xpnn.evaluate(model, (X, Y), metrics=["f1"])
    values = [xpnn.predict_proba(model, X), xpnn.predict(model, X), np.array([*found])]
    # as floats of any size enter, underflow and overflow included
    plain = xpnn.Sequential(xpnn.Dense(2, weight="he_normal"))
    plain.initialize(4, backend=backend, rng=np.random.RandomState(2))
    values.append(xpnn.predict_proba(plain, X * 1e3))
    return [figures.tobytes(), model.sha256(), *(np.asarray(v).tobytes() for v in values)]


def table(library):
    """Return the bits of a run on a DataFrame with texts and missing cells."""
    pandas = pytest.importorskip("pandas")
    columns = {"a": X[:, 0], "town": ["Rome", "Oslo", None, "Rome"] * 10, "kind": Y}
    frame = pandas.DataFrame(columns)
    data = xpnn.datasets.from_table(frame, target="kind")
    model = xpnn.Sequential(xpnn.Dense(2))
    backend = open_backend(library, "float64")
    xpnn.fit(model, data, validation=0.2, epochs=1, seed=1, backend=backend, verbose=False)
    return [model.sha256(), repr(xpnn.predict(model, frame).tolist()), model.task.share.sha256]


def estimator(library):
    """Return the bits of estimators, which call scikit-learn."""
    pytest.importorskip("sklearn")
    from xpnn.estimators import MLPClassifier, MLPRegressor

    backend = open_backend(library, "float64")
    options = {"hidden_layer_sizes": (3,), "random_state": 1, "max_iter": 6}
    options |= {"backend": backend.name, "n_iter_no_change": 1, "tol": 1e9}
    found = []
    for made in (
        MLPClassifier(**options, early_stopping=True),
        MLPRegressor(**options),
    ):
        made.fit(X, Y)
        score = made.score(X, Y)
        found += [np.asarray(made.predict(X)).tobytes(), score, made.model_.sha256()]
    return found


def numpy_raises():
    return np.errstate(all="raise")


def numpy_calls():
    def call(kind, flag):
        raise AssertionError(kind)

    return np.errstate(all="call", call=call)


def decimals():
    traps = [decimal.Inexact, decimal.Rounded, decimal.FloatOperation]
    return decimal.localcontext(decimal.Context(prec=2, traps=traps))


@contextlib.contextmanager
def warnings_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@contextlib.contextmanager
def _set(get, put, value):
    before = get()
    put(value)
    try:
        yield
        assert get() == value
    finally:
        put(before)


def few_digits():
    return _set(sys.get_int_max_str_digits, sys.set_int_max_str_digits, 640)


def _jax(name, value):
    jax = pytest.importorskip("jax")
    # not the thread's context: what `jax.config.update` sets
    return _set(lambda: jax.config.values[name], lambda new: jax.config.update(name, new), value)


def _torch(get, put, value):
    torch = pytest.importorskip("torch")
    return _set(getattr(torch, get), getattr(torch, put), value)


def torch_infers():
    return pytest.importorskip("torch").inference_mode()


def torch_has_no_gradients():
    return pytest.importorskip("torch").no_grad()


def torch_casts():
    torch = pytest.importorskip("torch")
    return torch.autocast("cpu", dtype=torch.bfloat16)


def torch_is_anomalous():
    return pytest.importorskip("torch").autograd.set_detect_anomaly(True)


def _pandas(name, value):
    pandas = pytest.importorskip("pandas")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        context = pandas.option_context(name, value)
        context.__enter__()
    stack = contextlib.ExitStack()

    def leave():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            context.__exit__(None, None, None)

    stack.callback(leave)
    return stack


def _sklearn(**options):
    pytest.importorskip("sklearn")
    import sklearn

    return sklearn.config_context(**options)


GENERAL = {f.__name__: f for f in (numpy_raises, numpy_calls, decimals)}
GENERAL |= {"few_digits": few_digits, "warnings_are_errors": warnings_are_errors}
GENERAL["numpy_prints"] = lambda: np.printoptions(legacy="1.13", precision=2, threshold=1)
OF_JAX = {
    f"{name}={value}": (lambda name=name, value=value: _jax(f"jax_{name}", value))
    for name, value in {
        "numpy_rank_promotion": "raise", "numpy_dtype_promotion": "strict",
        "transfer_guard": "disallow_explicit", "debug_nans": True, "debug_infs": True,
        "disable_jit": True, "default_matmul_precision": "bfloat16", "enable_x64": True,
        "check_tracer_leaks": True,
    }.items()
}  # fmt: skip
OF_TORCH = {
    "default_dtype": lambda: _torch("get_default_dtype", "set_default_dtype", _bfloat16()),
    "default_device": lambda: _torch("get_default_device", "set_default_device", _meta()),
    "deterministic": lambda: _torch(
        "are_deterministic_algorithms_enabled", "use_deterministic_algorithms", True
    ),
    "precision": lambda: _torch(
        "get_float32_matmul_precision", "set_float32_matmul_precision", "medium"
    ),
    "inference": torch_infers,
    "no_grad": torch_has_no_gradients,
    "autocast": torch_casts,
    "anomaly": torch_is_anomalous,
}


def _bfloat16():
    return pytest.importorskip("torch").bfloat16


def _meta():
    return pytest.importorskip("torch").device("meta")


OF_PANDAS = {
    "infer_string": lambda: _pandas("future.infer_string", False),
    "string_storage": lambda: _pandas("mode.string_storage", "python"),
}
OF_SKLEARN = {
    f"{name}={value}": (lambda name=name, value=value: _sklearn(**{name: value}))
    for name, value in {
        "transform_output": "pandas", "enable_metadata_routing": True, "assume_finite": True,
        "array_api_dispatch": True, "skip_parameter_validation": True,
    }.items()
}  # fmt: skip

CASES = [
    *((s, library, fit_and_predict) for s in GENERAL for library in ("numpy", "jax", "torch")),
    *((s, "jax", fit_and_predict) for s in OF_JAX),
    *((s, "torch", fit_and_predict) for s in OF_TORCH),
    *((s, "numpy", table) for s in [*GENERAL, *OF_PANDAS]),
    *((s, "numpy", estimator) for s in [*GENERAL, *OF_SKLEARN]),
    *((s, "torch", estimator) for s in OF_TORCH),
]  # fmt: skip
ALL = GENERAL | OF_JAX | OF_TORCH | OF_PANDAS | OF_SKLEARN
_PLAIN = {}


@pytest.mark.parametrize(("setting", "library", "use"), CASES)
def test_the_same_bits_under_every_setting(setting, library, use):
    if (library, use) not in _PLAIN:
        _PLAIN[library, use] = use(library)
    with ALL[setting]():
        found = use(library)
    assert found == _PLAIN[library, use]


def test_what_was_trained_in_inference_mode_goes_on_outside():
    torch = pytest.importorskip("torch")
    model = xpnn.Sequential(xpnn.Dense(2))
    options = {"epochs": 1, "seed": 1, "backend": "torch", "verbose": False}
    with torch.inference_mode():
        xpnn.fit(model, (X, Y), **options)
    xpnn.fit(model, (X, Y), **options)
    assert np.isfinite(np.asarray(xpnn.predict_proba(model, X))).all()


def seed(number):
    """Seed all generators of the process."""
    random.seed(number)
    np.random.seed(number)
    pytest.importorskip("torch").manual_seed(number)


def test_random_streams_are_the_users_own():
    """The user's generators are neither read nor moved."""
    torch = pytest.importorskip("torch")
    seed(1)
    first = fit_and_predict("torch")
    state = random.getstate(), repr(np.random.get_state()), torch.get_rng_state().tolist()
    seed(1)
    assert state == (random.getstate(), repr(np.random.get_state()), torch.get_rng_state().tolist())
    seed(2)
    assert fit_and_predict("torch") == first


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_threads_with_settings_of_their_own(library):
    expected, found, errors = fit_and_predict(library), [], []

    def work():
        try:
            with np.errstate(all="raise"):
                found.append(fit_and_predict(library))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert found == [expected] * 3


def test_the_precision_of_products_comes_back_when_the_last_has_left():
    torch = pytest.importorskip("torch")
    backend = open_backend("torch", "float32")
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        owner, *_ = _WholePrecision()._owners()
        lowered = owner.fp32_precision
        outer, inner = backend.scope(), backend.scope()
        outer.__enter__()
        inner.__enter__()
        outer.__exit__(None, None, None)
        assert owner.fp32_precision == ("none" if isinstance(owner, _Older) else "ieee") != lowered
        inner.__exit__(None, None, None)
        assert owner.fp32_precision == lowered
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


def test_the_precision_of_products_in_older_versions_of_pytorch(monkeypatch):
    value = ["medium"]
    torch = types.SimpleNamespace(
        backends=types.SimpleNamespace(
            cuda=types.SimpleNamespace(matmul=types.SimpleNamespace()), mkldnn=object()
        ),
        get_float32_matmul_precision=lambda: value[0],
        set_float32_matmul_precision=lambda new: value.__setitem__(0, new),
    )
    monkeypatch.setitem(sys.modules, "torch", torch)
    with _WholePrecision():
        assert value == ["highest"]
    assert value == ["medium"]


@pytest.mark.parametrize(
    "settings", [{"text.usetex": True}, {"figure.dpi": 7}, {"axes.grid": True}]
)
def test_pictures_have_matplotlibs_own_settings(settings, tmp_path):
    matplotlib = pytest.importorskip("matplotlib")
    paths = tmp_path / "a.png", tmp_path / "b.png"
    xpnn.plot_activations(["relu"], paths[0])
    with matplotlib.rc_context(settings):
        held = dict(matplotlib.rcParams)
        xpnn.plot_activations(["relu"], paths[1])
        assert dict(matplotlib.rcParams) == held
    assert paths[0].read_bytes() == paths[1].read_bytes()
