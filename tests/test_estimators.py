"""The scikit-learn estimators: scikit-learn's own checks, and its own networks as the oracle."""

import inspect
import pickle
import re
import subprocess
import sys
import unittest

import numpy as np
import pytest

pytest.importorskip("sklearn")
import scipy.sparse
from sklearn import neural_network as theirs
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_diabetes, load_digits, load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import d2_pinball_score, r2_score
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler, scale
from sklearn.utils.estimator_checks import estimator_checks_generator

import xpnn
from tests.helpers import ROOT, open_backend
from xpnn import recording
from xpnn._core.mapped import SparseRows
from xpnn.backends import backend_of
from xpnn.errors import DataError
from xpnn.estimators import MLPClassifier, MLPRegressor

pytestmark = [
    pytest.mark.filterwarnings(f"ignore::{ConvergenceWarning.__module__}.ConvergenceWarning"),
    # scikit-learn 1.7 with a newer SciPy
    pytest.mark.filterwarnings("ignore:scipy.optimize. The `disp` and `iprint`:DeprecationWarning"),
]

QUICK = {"hidden_layer_sizes": (20,), "learning_rate_init": 0.02, "max_iter": 60}

# on JAX, which traces each network that a check trains and passes all of them too, but takes five
# times as long as another backend: those that train by each way from X to the device
CORE = {
    "check_classifiers_train",
    "check_estimator_sparse_array",
    "check_fit_idempotent",
    "check_methods_subset_invariance",
    "check_regressors_train",
    "check_sample_weight_equivalence_on_dense_data",
}
BACKENDS = {"strict": None, "torch": None, "jax": CORE, "cupy": None}


def checked(check, estimator):
    try:
        check(estimator)
    except unittest.SkipTest as skipped:
        pytest.fail(f"skipped: {skipped}")


# not parametrize_with_checks, whose oldest version hands pytest a generator
@pytest.mark.parametrize(
    ("estimator", "check"),
    [
        pair
        for kind in (MLPClassifier, MLPRegressor)
        for pair in estimator_checks_generator(kind(**QUICK))
    ],
    ids=lambda value: value.func.__name__ if hasattr(value, "func") else type(value).__name__,
)
def test_scikit_learns_checks(estimator, check):
    checked(check, estimator)


@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
@pytest.mark.parametrize("library", BACKENDS)
def test_scikit_learns_checks_on_other_backends(library, kind):
    open_backend(library)
    found = set()
    for estimator, check in estimator_checks_generator(kind(**QUICK, backend=library)):
        if BACKENDS[library] is None or check.func.__name__ in BACKENDS[library]:
            checked(check, estimator)
            found.add(check.func.__name__)
    # of two checks, one is for classifiers and one for regressors
    assert len(found) >= len(CORE) - 1


def problems(n=24):
    """Name, our estimator, theirs, x, y."""
    rng = np.random.RandomState(3)
    x = rng.randn(n, 4)
    u = x @ rng.randn(4, 3) + 0.3 * rng.randn(n, 3)
    yield "two classes", MLPClassifier, theirs.MLPClassifier, x, np.where(u[:, 0] > 0, "b", "a")
    yield "three classes", MLPClassifier, theirs.MLPClassifier, x, np.argmax(u, axis=1) + 5
    yield "multilabel", MLPClassifier, theirs.MLPClassifier, x, (u > 0).astype(int)
    yield "value", MLPRegressor, theirs.MLPRegressor, x, u[:, 0]
    yield "values", MLPRegressor, theirs.MLPRegressor, x, u


PROBLEMS = {name: rest for name, *rest in problems()}


@pytest.fixture(params=PROBLEMS)
def problem(request):
    return PROBLEMS[request.param]


SOLVERS = [
    {"solver": "adam", "beta_1": 0.8, "beta_2": 0.99, "epsilon": 1e-15},
    {"solver": "sgd", "momentum": 0.0},
    {"solver": "sgd", "momentum": 0.8, "nesterovs_momentum": False},
    {"solver": "sgd", "momentum": 0.8},
    {"solver": "sgd", "learning_rate": "invscaling", "power_t": 0.3},
    {
        "solver": "sgd",
        "learning_rate": "adaptive",
        "tol": 0.01,
        "n_iter_no_change": 1,
        "max_iter": 30,
        # scikit-learn's falls depend on a loss that has the penalty in it
        "alpha": 0.0,
    },
]


@pytest.mark.parametrize("options", SOLVERS, ids=str)
@pytest.mark.parametrize(
    "more",
    [
        {"activation": "tanh", "alpha": 0.0, "batch_size": 8},
        {"activation": "logistic", "alpha": 0.5, "batch_size": 24},
    ],
    ids=str,
)
def test_the_steps_are_those_of_scikit_learn(problem, options, more):
    kind, other, x, y = problem
    options = {
        "hidden_layer_sizes": (5, 3), "shuffle": False, "learning_rate_init": 0.05,
        "max_iter": 10, "random_state": 1, "tol": 0.0, "n_iter_no_change": 100, **more, **options,
    }  # fmt: skip
    weights = np.arange(24) % 3 if more["batch_size"] == 24 else None
    ours, other = kind(**options).fit(x, y, weights), other(**options).fit(x, y, weights)
    assert ours.n_iter_ == other.n_iter_
    for own, given in zip(
        ours.coefs_ + ours.intercepts_, other.coefs_ + other.intercepts_, strict=True
    ):
        # 30 steps, each of which adds rounding errors of 1e-16 and passes on those before; Adam
        # divides them by gradients, of which some are 1e-3 of the others
        np.testing.assert_allclose(own, given, rtol=0, atol=1e-10)
    if not options["alpha"]:
        np.testing.assert_allclose(ours.loss_curve_, other.loss_curve_, rtol=1e-11)
        assert ours.best_loss_ == min(ours.loss_curve_)
    for name in ("n_layers_", "n_outputs_", "out_activation_", "t_", "n_features_in_"):
        assert getattr(ours, name) == getattr(other, name)
    for name in ("predict_proba", "predict_log_proba", "predict"):
        if hasattr(other, name):
            own, given = getattr(ours, name)(x), getattr(other, name)(x)
            assert own.dtype == given.dtype
            if own.dtype.kind == "f":
                np.testing.assert_allclose(own, given, rtol=0, atol=1e-9)
            else:
                np.testing.assert_array_equal(own, given)
    assert ours.score(x, y) == pytest.approx(other.score(x, y), abs=1e-9)


POSITIVE = {"a count": ("poisson", lambda u: np.exp(u[:, 0])), "counts": ("poisson", np.exp)}


@pytest.fixture(params=[*PROBLEMS, *POSITIVE])
def wider(request):
    """Our class, theirs, x, y, and the loss's parameter: those of `problem`, and Poisson's."""
    if request.param in PROBLEMS:
        return (*PROBLEMS[request.param], {})
    kind, other, x, u = PROBLEMS["values"]
    loss, values = POSITIVE[request.param]
    return kind, other, x, values(u), {"loss": loss}


LBFGS = {"solver": "lbfgs", "hidden_layer_sizes": (5, 3), "random_state": 1, "max_iter": 8}


# of several values, scikit-learn's loss isn't the one whose gradient it takes
@pytest.mark.parametrize(
    "wider", [*[name for name in PROBLEMS if name != "values"], *POSITIVE], indirect=True
)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("activation", ["tanh", "logistic"])
def test_lbfgs_takes_the_iterations_of_scikit_learn(wider, activation, weighted):
    kind, other, x, y, options = wider
    options = {**LBFGS, "activation": activation, "alpha": 0.1, **options}
    weights = np.arange(24) % 3 if weighted else None
    ours, other = kind(**options).fit(x, y, weights), other(**options).fit(x, y, weights)
    assert ours.n_iter_ == other.n_iter_ == len(ours.loss_curve_)
    for own, given in zip(
        ours.coefs_ + ours.intercepts_, other.coefs_ + other.intercepts_, strict=True
    ):
        # 8 iterations, each of which may make rounding errors of 1e-16 ten times larger
        np.testing.assert_allclose(own, given, rtol=0, atol=1e-8)
    penalty = 0.05 * sum(np.sum(w * w) for w in ours.coefs_) / 24
    assert ours.loss_ + penalty == pytest.approx(other.loss_, rel=1e-9)
    for name in ("n_layers_", "n_outputs_", "out_activation_", "t_"):
        assert getattr(ours, name) == getattr(other, name)


def test_lbfgs_on_every_backend(library, wider):
    kind, _, x, y, options = wider
    options = {**LBFGS, "max_iter": 4, **options}
    plain = kind(**options).fit(x, y)
    moved = kind(**options, backend=open_backend(library, "float64")).fit(x, y)
    assert moved.n_iter_ == plain.n_iter_
    for own, given in zip(
        moved.coefs_ + moved.intercepts_, plain.coefs_ + plain.intercepts_, strict=True
    ):
        np.testing.assert_allclose(own, given, rtol=0, atol=1e-9)
    np.testing.assert_allclose(moved.loss_curve_, plain.loss_curve_, rtol=1e-9)


def test_lbfgs_says_what_happened(capsys):
    kind, _, x, y = PROBLEMS["value"]
    x = x.astype("float32")
    options = {**LBFGS, "alpha": 1.0, "max_iter": 500, "tol": 0.1}
    network = kind(**options, verbose=True).fit(x, y)
    # the line search needs float64
    assert network.coefs_[0].dtype == "float64"
    assert "CONVERGENCE" in network.history_.stopped
    assert [row.epoch for row in network.history_] == list(range(network.n_iter_ + 1))
    assert network.loss_curve_ == [row.train_loss / 2 for row in network.history_[1:]]
    assert network.best_loss_ == min(network.loss_curve_)
    assert (network.validation_scores_, network.t_) == (None, 0)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == network.n_iter_
    assert lines[-1] == f"Iteration {network.n_iter_}, loss = {network.loss_:.8f}"
    for few in ({"max_iter": 3}, {"max_fun": 3}):
        with pytest.warns(ConvergenceWarning, match=r"lbfgs failed to converge .* \d iterations"):
            assert clone(network).set_params(**few).fit(x, y).n_iter_ <= 3
    assert not hasattr(network, "partial_fit")
    # as in scikit-learn, nothing is kept for validation
    whole = clone(network).set_params(early_stopping=True).fit(x, y)
    same(network, whole)
    single = clone(network).set_params(dtype="float32").fit(x, y)
    assert single.coefs_[0].dtype == "float32"


def test_solvers_follow_each_other():
    kind, _, x, y = PROBLEMS["three classes"]
    network = kind((5,), solver="lbfgs", max_iter=3, warm_start=True, random_state=0).fit(x, y)
    first = network.loss_
    assert network.fit(x, y).loss_ < first
    before = network.loss_
    network.set_params(solver="adam").fit(x, y)
    # its first epoch begins where the minimizer ended
    assert network.loss_curve_[0] == pytest.approx(before, rel=1e-12)
    assert len(network.loss_curve_) == 3
    assert network.set_params(solver="lbfgs").fit(x, y).loss_ < before


def test_many_rows_are_taken_in_parts(monkeypatch):
    kind, _, x, y = PROBLEMS["values"]
    whole = kind(**LBFGS).fit(x, y)
    monkeypatch.setattr("xpnn.training.lbfgs._ROWS", 7)
    parts = kind(**LBFGS).fit(x, y)
    for own, given in zip(whole.coefs_, parts.coefs_, strict=True):
        np.testing.assert_allclose(own, given, rtol=0, atol=1e-9)


@pytest.mark.parametrize("form", ["csr_matrix", "csc_array", "coo_array", "lil_matrix"])
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_sparse_features_give_the_bits_of_dense_ones(form, solver):
    kind, _, x, y = PROBLEMS["three classes"]
    x = np.where(x > 0, x, 0.0)
    given = getattr(scipy.sparse, form)(x)
    options = {"solver": solver, "max_iter": 3, "random_state": 0}
    dense, sparse = kind(**options).fit(x, y), kind(**options).fit(given, y)
    same(dense, sparse)
    for name in ("predict", "predict_proba", "decision_function"):
        np.testing.assert_array_equal(getattr(sparse, name)(given), getattr(dense, name)(x))
    assert sparse.score(given, y) == dense.score(x, y)
    sparse = kind(**options, early_stopping=True).fit(given, y)
    same(kind(**options, early_stopping=True).fit(x, y), sparse)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_large_sparse_features_stay_sparse(monkeypatch, solver):
    rng = np.random.default_rng(0)
    x = scipy.sparse.random_array((400, 300), density=0.02, rng=rng, format="csr")
    y = np.asarray(x.sum(axis=1)).ravel() > 3
    # chunks of 40 rows, where all are 400
    monkeypatch.setattr("xpnn.training.streams.CHUNK_BYTES", 40 * (300 * 8 + 16))
    monkeypatch.setattr("xpnn._core.mapped.BLOCK_BYTES", 10 * 300 * 8)
    made = []
    inner = SparseRows.__getitem__

    def counted(rows, part):
        made.append(inner(rows, part))
        return made[-1]

    monkeypatch.setattr(SparseRows, "__getitem__", counted)
    options = {"solver": solver, "max_iter": 20, "random_state": 0, "batch_size": 20}
    network = MLPClassifier((10,), **options, learning_rate_init=0.02).fit(x, y)
    # at least once in each epoch
    assert sum(map(len, made)) >= 400 * network.n_iter_
    assert network.score(x, y) > 0.95
    assert max(map(len, made)) <= 40


def test_one_class():
    _, _, x, _ = PROBLEMS["two classes"]
    for label, solver in (("a", "adam"), (3, "lbfgs"), (2.0, "sgd")):
        y = np.full(24, label)
        network = MLPClassifier((3,), solver=solver, max_iter=2, random_state=0).fit(x, y)
        other = theirs.MLPClassifier((3,), solver=solver, max_iter=2, random_state=0).fit(x, y)
        np.testing.assert_array_equal(network.predict(x), other.predict(x))
        assert network.predict(x).dtype == y.dtype
        assert network.classes_.tolist() == [label]
        np.testing.assert_array_equal(network.predict_proba(x), np.ones((24, 1)))
        np.testing.assert_array_equal(network.predict_log_proba(x), np.zeros((24, 1)))
        assert network.score(x, y) == 1.0
        assert network.n_outputs_ == other.n_outputs_


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_losses_of_xpnn(solver):
    options = {"solver": solver, "max_iter": 3, "random_state": 0, "batch_size": 24}
    _, _, x, y = PROBLEMS["values"]
    for text in ("mean_squared_error", "huber:delta=0.5", "mean_absolute_error", "quantile"):
        network = MLPRegressor(text, **options).fit(x, y)
        found = xpnn.evaluate(network.model_, (x, y), loss=xpnn.losses.LOSSES.make(text))
        assert network.model_.task.loss == xpnn.losses.LOSSES.make(text)
        # after the last step, where a log of steps shows the loss before it
        assert found.loss < network.loss_curve_[0]
    square = MLPRegressor("mean_squared_error", **options).fit(x, y[:, 0])
    half = MLPRegressor(**options).fit(x, y[:, 0])
    if solver == "adam":
        assert square.loss_curve_[0] == pytest.approx(2 * half.loss_curve_[0], rel=1e-12)
    for name, outputs, kinds in (
        ("two classes", 1, ["binary_focal", "binary_cross_entropy"]),
        ("three classes", 3, ["focal", "cross_entropy"]),
        ("multilabel", 3, ["binary_focal", "binary_cross_entropy"]),
    ):
        _, _, x, y = PROBLEMS[name]
        for loss, kind in zip(["focal:gamma=1", "cross_entropy"], kinds, strict=True):
            network = MLPClassifier(**options, loss=loss).fit(x, y)
            assert network.model_.task.loss.name == kind
            assert network.n_outputs_ == outputs
            softmax = name == "three classes"
            assert network.out_activation_ == ("softmax" if softmax else "logistic")
        plain = MLPClassifier(**options).fit(x, y)
        same(plain, network)
    with pytest.raises(
        xpnn.ArgumentError, match="loss must be a name such as 'log_loss', got None"
    ):
        MLPClassifier(loss=None).fit(x, y)


@pytest.mark.parametrize("columns", [1, 2])
def test_several_quantiles(columns):
    _, _, x, u = PROBLEMS["values"]
    y = u[:, 0] if columns == 1 else u[:, :columns]
    options = {"hidden_layer_sizes": 20, "random_state": 0, "max_iter": 300}
    network = MLPRegressor("quantile:levels=0.1,0.9", **options, warm_start=True).fit(x, y)
    values = network.predict(x)
    assert values.shape == (24, 2 * columns)
    below = np.mean(y.reshape(24, columns) <= values.reshape(24, 2, columns)[:, 1], axis=0)
    assert (below > 0.6).all()
    expected = np.mean([
        d2_pinball_score(y.reshape(24, -1), part, alpha=level)
        for level, part in zip([0.1, 0.9], np.split(values, 2, axis=1), strict=True)
    ])  # fmt: skip
    assert network.score(x, y) == pytest.approx(expected, rel=1e-12)
    assert 0 < network.score(x, y) < 1
    network.set_params(early_stopping=True, max_iter=2).fit(x, y)
    assert len(network.validation_scores_) == 2
    with pytest.raises(xpnn.DataError, match=f"y must have {columns} columns as before, got 3"):
        network.fit(x, u)


def test_parameters_are_those_of_scikit_learn():
    for ours, other in (
        (MLPClassifier, theirs.MLPClassifier),
        (MLPRegressor, theirs.MLPRegressor),
    ):
        own = inspect.signature(ours).parameters.values()
        given = inspect.signature(other).parameters.values()
        for one, two in zip(own, given, strict=False):
            assert (one.name, one.kind, one.default) == (two.name, two.kind, two.default)
        assert all(one.kind == one.KEYWORD_ONLY for one in list(own)[len(given) :])
        assert ours(**other().get_params()).get_params().items() >= other().get_params().items()
        for method in ("fit", "partial_fit", "predict", "score"):
            own, given = (inspect.signature(getattr(kind(), method)) for kind in (ours, other))
            assert list(own.parameters) == list(given.parameters)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_weights_of_classes(solver):
    kind, _, x, y = PROBLEMS["three classes"]
    options = {"max_iter": 3, "random_state": 0, "batch_size": 24, "solver": solver}
    factors = {5: 2.0, 7: 0.5}
    of_samples = np.array([factors.get(label, 1.0) for label in y])
    base = np.arange(24) % 3 + 1.0
    given = kind(**options).fit(x, y, base * of_samples)
    same(given, kind(**options, class_weight=factors).fit(x, y, base))
    balanced = 24 / (3 * np.bincount(y - 5))[y - 5]
    same(kind(**options).fit(x, y, balanced), kind(**options, class_weight="balanced").fit(x, y))
    if solver == "adam":
        part = kind(**options, class_weight=factors).partial_fit(x, y, classes=[5, 6, 7])
        same(part, kind(**options).partial_fit(x, y, of_samples, classes=[5, 6, 7]))


def test_divergence(recwarn):
    kind, _, x, y = PROBLEMS["value"]
    wild = kind(solver="sgd", learning_rate_init=1e3, random_state=0, activation="identity")
    with pytest.raises(xpnn.DivergenceError, match=r"the loss became .* non-finite") as caught:
        wild.fit(x, y)
    assert isinstance(caught.value, ValueError)
    assert not recwarn.list
    with pytest.warns(ConvergenceWarning, match="parameters are those of the best epoch before"):
        network = wild.set_params(early_stopping=True).fit(x, y)
    assert np.isnan([network.validation_scores_[-1], network.loss_curve_[-1]]).all()
    assert network.n_iter_ == len(network.validation_scores_) == len(network.loss_curve_)
    assert network.best_validation_score_ == np.nanmax(network.validation_scores_)
    assert np.isfinite(network.predict(x)).all()
    with pytest.raises(xpnn.DivergenceError, match="non-finite"):
        kind(solver="lbfgs", loss="poisson", activation="identity").fit(x * 1e200, np.abs(y))


def test_validation_scores_are_weighted_and_those_of_score(wider):
    kind, _, x, y, options = wider
    weights = np.arange(24) % 3 + 0.5
    network = kind(
        hidden_layer_sizes=5, **options, early_stopping=True, validation_fraction=0.5, max_iter=4,
        random_state=2,
    )  # fmt: skip
    network.fit(x, y, weights)
    stratify = y if kind is MLPClassifier and y.ndim == 1 else None
    _, unseen = train_test_split(np.arange(24), test_size=0.5, random_state=2, stratify=stratify)
    score = network.score(x[unseen], y[unseen], weights[unseen])
    assert network.best_validation_score_ == pytest.approx(score, abs=1e-12)


@pytest.mark.parametrize("kind", ["two classes", "value"])
def test_training_stops_where_scikit_learns_does(kind):
    kind, other, x, y = PROBLEMS[kind]
    options = {"solver": "sgd", "alpha": 0.0, "learning_rate_init": 0.3, "random_state": 0,
               "shuffle": False, "tol": 0.02, "n_iter_no_change": 2}  # fmt: skip
    ours, other = kind(**options).fit(x, y), other(**options).fit(x, y)
    assert 3 < ours.n_iter_ == other.n_iter_ < 200
    assert "did not improve" in ours.history_.stopped


def same(one, two):
    """Whether two estimators have the same bits, and logs but for the seconds."""
    arrays = zip(one.coefs_ + one.intercepts_, two.coefs_ + two.intercepts_, strict=True)
    assert all(np.array_equal(a, b) for a, b in arrays)
    logs = [[row[:5] for row in network.history_] for network in (one, two)]
    np.testing.assert_array_equal(*logs)
    assert one.loss_curve_ == two.loss_curve_
    assert one.t_ == two.t_


def test_a_run_in_pieces_has_the_bits_of_a_whole_one(library):
    _, _, x, y = PROBLEMS["three classes"]
    options = {
        "hidden_layer_sizes": (6,), "batch_size": 12, "dropout": 0.5, "batch_norm": True,
        "random_state": 4, "backend": open_backend(library, "float32"),
    }  # fmt: skip
    whole = MLPClassifier(**options, max_iter=3).fit(x, y)
    warm = MLPClassifier(**options, max_iter=1, warm_start=True).fit(x, y)
    same(whole, warm.set_params(max_iter=2).fit(x, y))
    assert (whole.n_iter_, warm.n_iter_) == (3, 2)
    partial = MLPClassifier(**options)
    for _ in range(3):
        partial.partial_fit(x, y, classes=[5, 6, 7])
        assert partial.n_iter_ == 1
    same(whole, partial)


def test_schedules_go_on_too(problem):
    kind, _, x, y = problem
    for options in (
        {"schedule": "cosine", "solver": "sgd"},
        {"learning_rate": "invscaling", "solver": "sgd", "batch_size": 10},
        {"learning_rate": "adaptive", "solver": "sgd", "tol": 1.0, "n_iter_no_change": 1},
    ):
        whole = kind(**options, random_state=4, max_iter=6).fit(x, y)
        pieces = kind(**options, random_state=4, max_iter=2 if "tol" in options else 6)
        if "tol" in options:
            pieces.set_params(warm_start=True).fit(x, y).fit(x, y).fit(x, y)
        else:
            classes = {} if kind is MLPRegressor else {"classes": whole.classes_}
            for _ in range(6):
                pieces.partial_fit(x, y, **classes)
        same(whole, pieces)


@pytest.mark.parametrize("by_name", [True, False])
def test_a_pickle_goes_on_where_it_was(library, by_name):
    backend = open_backend(library, "float64")
    backend = backend.name if by_name else backend
    kind, _, x, y = PROBLEMS["values"]
    network = kind(max_iter=3, random_state=0, warm_start=True, backend=backend).fit(x, y)
    copy = pickle.loads(pickle.dumps(network))
    same(network.fit(x, y), copy.fit(x, y))


def test_calls_of_partial_fit_have_the_same_bits_whatever_they_begin_from(problem, monkeypatch):
    """An open run, a pickle, another number of rows, a refused call, one that diverges."""
    kind, _, x, y = problem
    classes = {} if kind is MLPRegressor else {"classes": np.unique(y)}

    def trained(between):
        network = kind(
            hidden_layer_sizes=(5,), solver="sgd", random_state=3, shuffle=False
        ).set_params(dtype="float32")
        for rows in (slice(20), slice(20), slice(12), slice(20), slice(20), slice(4, 24)):
            network = between(network) if hasattr(network, "model_") else network
            network.partial_fit(x[rows], y[rows], **classes)
        return network

    def refused(network):
        with pytest.raises(ValueError, match="NaN"):
            network.partial_fit(np.full_like(x[:20], np.nan), y[:20])
        return network

    def diverged(network):
        def evaluation(*args, **options):
            raise xpnn.DivergenceError("after the steps")

        with monkeypatch.context() as patches:
            patches.setattr("xpnn.training.history.Figures.evaluation", evaluation)
            with pytest.raises(xpnn.DivergenceError):
                network.partial_fit(x[5:25], y[5:25])
        return network

    def closed(network):
        network._close()
        return network

    expected = trained(closed)
    for between in (
        lambda network: network,
        lambda network: pickle.loads(pickle.dumps(network)),
        refused,
        diverged,
    ):
        same(expected, trained(between))


@pytest.mark.parametrize("eager", [0, 1000])
def test_a_call_of_partial_fit_makes_few_calls_whatever_their_number(eager, monkeypatch):
    """scikit-learn's makes 1,324 for values and 4,004 for classes."""
    monkeypatch.setattr("xpnn.recording.fold.EAGER_STEPS", eager)
    monkeypatch.setattr("xpnn.recording.fold._EAGER_SECONDS", np.inf)
    recorded = []
    record = recording.RecordingNamespace.record
    monkeypatch.setattr(
        recording.RecordingNamespace, "record", lambda self: recorded.append(1) or record(self)
    )
    x = np.random.RandomState(0).randn(32, 20)
    for network, y, most in (
        (MLPRegressor(random_state=0), x[:, 0], 2000),
        (MLPClassifier(random_state=0), np.arange(32) % 10, 3000),
    ):
        classes = {} if most == 2000 else {"classes": range(10)}
        for number in (6, 50):
            recorded.clear()
            for _ in range(number):
                network.partial_fit(x, y, **classes)
            assert calls_of(lambda: network.partial_fit(x, y)) < most  # noqa: B023
        assert len(recorded) == 0


def calls_of(function):
    """The number of calls that a function makes, in Python and of C."""
    count = 0

    def note(frame, event, argument):
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


def test_another_optimizer_starts_afresh_and_another_network_is_refused():
    _, _, x, y = PROBLEMS["two classes"]
    network = MLPClassifier((5,), max_iter=2, random_state=0, warm_start=True).fit(x, y)
    network.set_params(solver="sgd").fit(x, y)
    assert len(network.loss_curve_) == 4
    with pytest.raises(xpnn.ArgumentError, match="network must be as it was"):
        network.set_params(hidden_layer_sizes=(6,)).fit(x, y)
    # and fit alone begins at the beginning
    network.set_params(warm_start=False).fit(x, y)
    assert len(network.loss_curve_) == 2


@pytest.mark.parametrize("name", ["three classes", "values"])
def test_answers_are_of_the_kind_of_x(name, library):
    backend = open_backend(library, "float32")
    kind, _, x, y = PROBLEMS[name]
    x = x.astype("float32")
    moved = backend.asarray(x)
    # what computes is the library, the device and the dtype of x
    network = kind(hidden_layer_sizes=5, max_iter=2, random_state=0)
    network.fit(moved, backend.asarray(y))
    used = network.model_.backend
    assert (used.name, used.device, used.dtype) == (backend.name, backend.device, backend.dtype)
    for method in ("predict", "predict_proba", "predict_log_proba", "decision_function"):
        if not hasattr(network, method):
            continue
        answer, plain = getattr(network, method)(moved), getattr(network, method)(x)
        assert type(answer) is type(moved)
        assert type(plain) is np.ndarray
        assert plain.dtype == ("int64" if name != "values" and method == "predict" else "float32")
        place = backend_of(answer)
        assert place is None or place.device == backend.device
        np.testing.assert_array_equal(backend.to_numpy(answer), plain)
    assert network.score(moved, backend.asarray(y)) == network.score(x, y)
    assert network.set_params(dtype="float64", backend="numpy").fit(moved, y).predict(x).shape


def test_bytes_are_numbers_and_not_pixels():
    x, y = load_digits(return_X_y=True)
    options = {"max_iter": 2, "random_state": 0, "dtype": "float64"}
    bytes_ = MLPClassifier(**options).fit(x[:100].astype(np.uint8), y[:100])
    floats = MLPClassifier(**options).fit(x[:100], y[:100])
    same(bytes_, floats)
    np.testing.assert_array_equal(
        bytes_.predict_proba(x[100:].astype(np.uint8)), floats.predict_proba(x[100:])
    )


def test_early_stopping_goes_back_to_the_best_weights():
    x, y = load_digits(return_X_y=True)
    # labels of which a third are noise
    x, y = x[:300] / 16, np.where(np.arange(300) % 3, y[:300], np.arange(300) % 7)
    network = MLPClassifier(
        early_stopping=True, validation_fraction=0.2, learning_rate_init=0.03,
        n_iter_no_change=4, random_state=6,
    ).fit(x, y)  # fmt: skip
    _, unseen, _, labels = train_test_split(x, y, test_size=0.2, random_state=6, stratify=y)
    assert network.best_validation_score_ == max(network.validation_scores_)
    assert network.best_validation_score_ > network.validation_scores_[-1]
    assert network.score(unseen, labels) == network.best_validation_score_
    assert network.n_iter_ == len(network.validation_scores_) < 200
    assert network.best_loss_ is None
    assert "Validation score" in network.history_.stopped
    x, y = load_diabetes(return_X_y=True)
    y = np.column_stack([y, 2 - y * y]) / 100
    network = MLPRegressor(early_stopping=True, random_state=5, max_iter=20).fit(x, y)
    _, unseen, _, values = train_test_split(x, y, test_size=0.1, random_state=5)
    score = r2_score(values, network.predict(unseen))
    assert network.best_validation_score_ == pytest.approx(score, abs=1e-9)


@pytest.mark.parametrize("library", ["strict", "torch"])
def test_reproducible_networks_are_the_same_everywhere(library):
    backend = open_backend(library)
    _, _, x, y = PROBLEMS["three classes"]
    options = {"hidden_layer_sizes": (5,), "max_iter": 2, "random_state": 0}
    options |= {"reproducible": True, "flood": 0.5}
    one = MLPClassifier(**options).fit(x, y)
    same(one, MLPClassifier(**options, backend=backend.name).fit(x, y))


def test_it_takes_part_in_scikit_learn():
    x, y = load_iris(return_X_y=True, as_frame=True)
    network = make_pipeline(
        StandardScaler(), MLPClassifier((20,), learning_rate_init=0.02, random_state=0)
    )
    # 4 of 150 are on the wrong side of any plane
    assert cross_val_score(network, x, y).mean() > 0.93
    grid = {"mlpclassifier__activation": ["h_swish:n=6", "tanh"]}
    search = GridSearchCV(network, grid, n_jobs=2, cv=2).fit(x, y)
    assert search.best_score_ > 0.93
    assert set(search.best_estimator_.predict(x)) == {0, 1, 2}
    ours = clone(network)[-1].fit(x, y)
    assert list(ours.feature_names_in_) == list(x.columns)
    with pytest.raises(ValueError, match="feature names"):
        ours.predict(x[x.columns[::-1]])


def _frame(library):
    """A DataFrame of numbers, truth values and text, and labels that follow from the numbers."""
    rng = np.random.RandomState(0)
    cells = {"age": rng.uniform(0, 80, 90), "paid": rng.rand(90) > 0.5}
    cells["town"] = rng.choice(["Oslo", "Rome"], 90).tolist()
    y = np.where(cells["age"] > 40, "old", "young")
    return pytest.importorskip(library).DataFrame(cells), y


@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_data_frames_have_names(library, kind):
    table, y = _frame(library)
    y = y if kind is MLPClassifier else np.asarray(table["age"])
    numbers = table[["age", "paid"]]
    ours = kind(**QUICK, random_state=0).fit(numbers, y)
    plain = kind(**QUICK, random_state=0).fit(np.asarray(numbers, float), y)
    assert list(ours.feature_names_in_) == ["age", "paid"]
    expected = plain.predict(np.asarray(numbers, float))
    for again in (ours, pickle.loads(pickle.dumps(ours)), clone(ours).fit(numbers, y)):
        np.testing.assert_array_equal(again.predict(numbers), expected)
        assert again.feature_names_in_.tolist() == ["age", "paid"]
        with pytest.raises(ValueError, match="must be in the same order as they were in fit"):
            again.predict(numbers[["paid", "age"]])
        with pytest.raises(ValueError, match=r"yet now missing:\n- paid"):
            again.predict(numbers[["age"]])
        # text or not, it is the wrong column
        with pytest.raises(ValueError, match=r"unseen at fit time:\n- town"):
            again.predict(table)
    ours.set_params(warm_start=True)
    with pytest.raises(ValueError, match="must be in the same order"):
        ours.fit(numbers[["paid", "age"]], y)


@pytest.mark.parametrize("categories", [False, True])
@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_columns_of_text_have_a_recipe(library, categories):
    table, y = _frame(library)
    if categories:
        own = table["town"]
        own = own.astype("category") if library == "pandas" else own.cast(sys.modules[library].Enum(
            ["Oslo", "Rome"]
        ))  # fmt: skip
        table = table.assign(town=own) if library == "pandas" else table.with_columns(own)
    network = MLPClassifier(**QUICK, random_state=0)
    with pytest.raises(
        xpnn.DataError, match="X must hold numbers, not text as in column 'town'"
    ) as e:
        network.fit(table, y)
    # the recipe works
    recipe = re.search(r"make_pipeline\(.*\)", str(e.value))[0]
    names = {"make_pipeline": make_pipeline, "make_column_transformer": make_column_transformer}
    whole = eval(recipe, {**names, "OneHotEncoder": OneHotEncoder, "estimator": clone(network)})
    assert whole.fit(table, y).predict(table).tolist()[:2] in (["old", "old"], ["old", "young"])
    network.fit(table[["age"]], y)
    other = table[["town"]].rename(**(
        {"columns": {"town": "age"}} if library == "pandas" else {"mapping": {"town": "age"}}
    ))  # fmt: skip
    with pytest.raises(xpnn.DataError, match="not text as in column 'age'; encode it"):
        network.predict(other)


def test_columns_that_are_no_numbers_otherwise():
    pandas = pytest.importorskip("pandas")
    table, y = _frame("pandas")
    network = MLPClassifier(**QUICK)
    with pytest.raises(ValueError, match="Input X contains NaN"):
        network.fit(table[["age"]].where(table.age > 9), y)
    with pytest.raises(xpnn.DataError, match=r"not dates .* column 'day'; .*X\['day'\].dt.year"):
        network.fit(table[["age"]].assign(day=pandas.date_range("2020", periods=90)), y)
    # of an array, scikit-learn's message says the cell
    with pytest.raises(ValueError, match="could not convert string to float"):
        network.fit(table.to_numpy(), y)
    # what only looks like something else is a number
    whole = pandas.DataFrame({"a": pandas.array([1, 2] * 45, dtype="Int64"), "b": table.age})
    network.fit(whole, y).predict(whole)


def test_the_model_is_xpnns_own(tmp_path):
    _, _, x, y = PROBLEMS["two classes"]
    network = MLPClassifier(max_iter=3, random_state=0).fit(x, y)
    xpnn.save(network.model_, tmp_path / "model.safetensors")
    loaded = xpnn.load(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(xpnn.predict(loaded, x), network.predict(x))
    assert [row.train_loss for row in network.history_[1:]] == network.loss_curve_


def test_labels_of_any_kind():
    x = scale(load_iris().data)
    for labels in ([1.0, 2.0, 4.0], [True, False, False], ["c", "a", "b"], [-3, 7, 2]):
        y = np.array(labels)[load_iris().target]
        network = MLPClassifier(learning_rate_init=0.05, max_iter=30, random_state=0).fit(x, y)
        np.testing.assert_array_equal(network.classes_, np.unique(labels))
        assert network.score(x, y) > 0.93
        assert network.predict(x).dtype == y.dtype


def test_ctrl_c_keeps_what_is_there(monkeypatch):
    _, _, x, y = PROBLEMS["two classes"]
    network = MLPClassifier(random_state=0)
    monkeypatch.setattr("builtins.print", interrupted(at=3))
    with pytest.warns(UserWarning, match="interrupted"):
        network.set_params(verbose=True).fit(x, y)
    assert network.n_iter_ == 3
    assert network.predict(x).shape == (24,)
    monkeypatch.setattr("xpnn.estimators.fit", interrupted(at=1))
    with pytest.raises(KeyboardInterrupt):
        clone(network).fit(x, y)


def interrupted(at):
    """A function that raises KeyboardInterrupt when it is called for the `at`-th time."""
    calls = []

    def stand_in(*args, **options):
        calls.append(args)
        if len(calls) == at:
            raise KeyboardInterrupt

    return stand_in


def test_verbose_prints_a_line_an_epoch(capsys):
    _, _, x, y = PROBLEMS["two classes"]
    network = MLPClassifier(max_iter=2, random_state=0, verbose=True).fit(x, y)
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"Iteration 1, loss = {network.loss_curve_[0]:.8f}"
    assert second == f"Iteration 2, loss = {network.loss_curve_[1]:.8f}"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"solver": "lbfgs", "dropout": 0.5}, "dropout must be None for solver 'lbfgs', got 0.5"),
        ({"solver": "lbfgs", "flood": 0.5}, "flood must be None for solver 'lbfgs'"),
        ({"solver": "lbfgs", "batch_norm": True}, "batch_norm must be False for solver 'lbfgs'"),
        ({"solver": "lbfgs", "schedule": "cosine"}, "schedule must be None for solver 'lbfgs'"),
        ({"solver": "lbfgs", "reproducible": True}, "reproducible must be False for solver 'lb"),
        ({"solver": "lbfgs", "max_fun": 0}, "max_fun must be a whole number >= 1, got 0"),
        ({"solver": "lbfgs", "max_iter": 0}, "max_iter must be a whole number >= 1, got 0"),
        ({"solver": "lbfgs", "tol": -1.0}, "tol must be"),
        ({"solver": "lbfgs", "alpha": -1.0}, "alpha must be"),
        ({"loss": (50,)}, r"loss must be a name such as 'squared_error', got \(50,\)"),
        ({"loss": "poison"}, "unknown loss 'poison'; did you mean 'poisson'"),
        ({"loss": "cross_entropy"}, "'cross_entropy' needs a network with 2 or more outputs"),
        ({"solver": "adem"}, "unknown solver 'adem'; did you mean 'adam'"),
        ({"activation": "hswish"}, "unknown activation 'hswish'; did you mean 'h_swish'"),
        ({"hidden_layer_sizes": (5, 0)}, "hidden_layer_sizes must be a whole number >= 1, got 0"),
        ({"hidden_layer_sizes": "100"}, "hidden_layer_sizes must be whole numbers such as"),
        ({"learning_rate": "cosine"}, "unknown learning_rate 'cosine'"),
        ({"learning_rate_init": 0}, "learning_rate_init must be a finite number > 0"),
        ({"solver": "sgd", "power_t": -1, "learning_rate": "invscaling"}, "power_t must be"),
        ({"solver": "sgd", "momentum": 1.0}, "momentum must be a number >= 0 and < 1"),
        ({"beta_1": 1.0}, "beta_1 must be"),
        ({"epsilon": 0.0}, "epsilon must be"),
        ({"alpha": -1.0}, "alpha must be"),
        ({"batch_size": 0}, "batch_size must be a whole number >= 1"),
        ({"batch_size": "all"}, "batch_size must be a whole number >= 1, got 'all'"),
        ({"max_iter": 0}, "max_iter must be"),
        ({"tol": -1.0}, "tol must be"),
        ({"n_iter_no_change": 0}, "n_iter_no_change must be"),
        ({"random_state": -1}, "random_state must be"),
        ({"early_stopping": True, "validation_fraction": 1.5}, "validation_fraction must be"),
        (
            {"early_stopping": True, "validation_fraction": 0.01},
            "Increase 'validation_fraction' or the size of your dataset; two samples are needed",
        ),
        ({"backend": "numpi"}, "unknown backend 'numpi'"),
        ({"dtype": "float16"}, "unknown dtype 'float16'"),
        ({"flood": -1.0}, "flood must be"),
        ({"dropout": 1.0}, "dropout must be"),
        ({"schedule": "cosin"}, "unknown schedule 'cosin'"),
        (
            {"solver": "sgd", "learning_rate": "adaptive", "schedule": "cosine"},
            "learning_rate must be 'constant' beside a schedule",
        ),
    ],
    ids=str,
)
def test_a_parameter_that_is_wrong_is_named(options, message):
    _, _, x, y = PROBLEMS["value"]
    with pytest.raises(xpnn.ArgumentError, match=message):
        MLPRegressor(**options).fit(x, y)


def test_data_that_are_wrong_are_named():
    _, _, x, y = PROBLEMS["two classes"]
    network = MLPClassifier(max_iter=1)
    with pytest.raises(xpnn.ArgumentError, match="classes must be given in the first call"):
        network.partial_fit(x, y)
    network.partial_fit(x, y, classes=["a", "b"])
    with pytest.raises(xpnn.DataError, match="y must hold the classes 'a', 'b', got 'c'"):
        network.partial_fit(x, np.where(y == "b", "c", y))
    with pytest.raises(
        xpnn.ArgumentError, match="classes must be 'a', 'b' as in the first call, got"
    ):
        network.partial_fit(x, y, classes=["a", "c"])
    with pytest.raises(xpnn.DataError, match="y must be a label for each row as before"):
        network.partial_fit(x, np.eye(2, dtype=int)[np.arange(24) % 2])
    with pytest.raises(xpnn.ArgumentError, match="does not support early_stopping=True"):
        clone(network).set_params(early_stopping=True).partial_fit(x, y, classes=["a", "b"])
    with pytest.raises(xpnn.DataError, match="sample_weight must be finite and >= 0"):
        network.fit(x, y, sample_weight=-np.ones(24))
    for weights in ("balance", {"a": 1.0, "c": 2.0}):
        with pytest.raises(ValueError, match=r"class_weight"):
            clone(network).set_params(class_weight=weights).fit(x, y)
    with pytest.raises(
        xpnn.ArgumentError, match=r"class_weight must be weights .* for partial_fit"
    ):
        clone(network).set_params(class_weight="balanced").partial_fit(x, y, classes=["a", "b"])
    with pytest.raises(xpnn.DataError, match="y must be >= 0 for loss 'poisson', got -2"):
        MLPRegressor("poisson").fit(x, np.arange(24.0) - 2)
    with pytest.warns(UserWarning, match="batch_size is 100, more than the 24 samples"):
        clone(network).set_params(batch_size=100).fit(x, y)
    values = MLPRegressor(max_iter=1).partial_fit(x, x)
    with pytest.raises(xpnn.DataError, match="y must have 4 columns as before, got 1"):
        values.partial_fit(x, x[:, 0])


def test_the_examples_of_the_page_run(capsys):
    pytest.importorskip("torch")
    page = (ROOT / "docs" / "guide" / "estimators.md").read_text(encoding="utf-8")
    wine, drop_in, tensors = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    exec(drop_in, {})
    theirs, ours = capsys.readouterr().out.split()
    assert theirs == ours
    exec(wine, {})
    # three classes that a plane parts: 2 or 3 of 178 are wrong in the published results
    assert float(capsys.readouterr().out) > 0.95
    exec(tensors, {})
    assert capsys.readouterr().out == "<class 'torch.Tensor'> torch\n"


def test_without_scikit_learn_it_says_how_to_get_it():
    code = "import sys; sys.modules['sklearn'] = None; import xpnn.estimators"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr
    assert "pip install 'xpnn[sklearn]'" in told.splitlines()[-1]


# dates, and the names of targets


@pytest.mark.parametrize("dtype", ["m8[s]", "M8[D]"])
def test_dates_and_times_are_no_numbers(dtype):
    times = np.arange(60).reshape(30, 2).astype(dtype)
    x, y = np.random.RandomState(0).randn(30, 2), np.arange(30) % 2
    network = MLPRegressor(max_iter=2, hidden_layer_sizes=3).fit(x, y)
    classifier = MLPClassifier(max_iter=2, hidden_layer_sizes=3).fit(x, y)
    for name, call in (
        ("X", lambda: network.fit(times, y)),
        ("X", lambda: network.predict(times)),
        ("X", lambda: network.score(times, y)),
        ("X", lambda: network.partial_fit(times, y)),
        ("X", lambda: classifier.predict_proba(times)),
        ("y", lambda: network.fit(x, times[:, 0])),
        ("y", lambda: network.partial_fit(x, times[:, 0])),
        ("y", lambda: network.score(x, times[:, 0])),
        ("sample_weight", lambda: classifier.fit(x, y, times[:, 0])),
        ("sample_weight", lambda: classifier.score(x, y, times[:, 0])),
    ):
        with pytest.raises(DataError, match=f"{name} must hold numbers, got dates or times of"):
            call()
    # as labels they mean themselves
    days = np.where(y, times[0, 0], times[1, 0])
    assert classifier.fit(x, days).predict(x).dtype == days.dtype


def test_targets_of_a_frame_are_found_by_their_names():
    pandas = pytest.importorskip("pandas")
    x = np.random.RandomState(0).randn(60, 2)
    y = pandas.DataFrame({"p": x[:, 0], "q": 20 - 3 * x[:, 1]})
    swapped = y[["q", "p"]]
    options = {"hidden_layer_sizes": 4, "random_state": 0, "max_iter": 5}
    network = MLPRegressor(**options).fit(x, y)
    assert network.score(x, swapped) == network.score(x, y) == network.score(x, y.to_numpy())
    twice = MLPRegressor(**options).fit(x, y).partial_fit(x, swapped)
    plain = MLPRegressor(**options).fit(x, y.to_numpy()).partial_fit(x, y.to_numpy())
    assert twice.model_.sha256() == plain.model_.sha256()
    warm = MLPRegressor(**options, warm_start=True).fit(x, y).fit(x, swapped)
    plain = MLPRegressor(**options, warm_start=True).fit(x, y.to_numpy()).fit(x, y.to_numpy())
    assert warm.model_.sha256() == plain.model_.sha256()
    # a new fit has new names
    network.fit(x, swapped)
    assert network.score(x, swapped) == network.score(x, y)
    with pytest.raises(DataError, match="no column 'q', which is one of the targets"):
        network.score(x, y.rename(columns={"q": "r"}))
