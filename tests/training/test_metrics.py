"""Metrics of a run: held to scikit-learn's; who monitors, keeps and refuses them."""

import functools
import math
import pickle
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

import xpnn
from tests.helpers import VALIDATION, open_backend, parameters_of, stopped, train_small
from xpnn import metrics, schedules
from xpnn.backends import get_backend
from xpnn.errors import ArgumentError
from xpnn.training import loop, streams

sklearn = pytest.importorskip("sklearn.metrics")

_RNG = np.random.RandomState(3)
X = _RNG.standard_normal((61, 4))
# class 4 of 5 is rare, and nothing but its own
KINDS = np.where(_RNG.rand(61) < 0.05, 4, _RNG.randint(0, 4, 61))
VALUES = 1000.0 + 50.0 * X[:, :2] + _RNG.standard_normal((61, 2)) * 30
WEIGHTS = _RNG.randint(0, 4, 61) / 2.0
# counts are exact, so that only the last operations round; sums of float32 squares are not
EXACT = 1e-13
OF_CLASSES = "precision,recall,f1,f1_weighted,f1_micro,precision_macro,balanced_accuracy,roc_auc"
OF_VALUES = "mae,rmse,r2"


def network(outputs, seed=0):
    """Return a network with parameters, which predicts badly."""
    model = xpnn.Sequential(xpnn.Dense(6), xpnn.Activation("tanh"), xpnn.Dense(outputs))
    model.initialize(4, backend=get_backend(dtype="float64"), rng=np.random.RandomState(seed))
    return model


def figures_of_classes(y, proba, weights=None):
    """Return scikit-learn's figures."""
    found, k = proba.argmax(axis=1), proba.shape[1]
    given = {"sample_weight": weights, "zero_division": 0}
    usual = "binary" if k == 2 else "macro"
    auc = {"sample_weight": weights}
    # absent classes have no area
    areas = [
        sklearn.roc_auc_score(y == c, proba[:, c], **auc) for c in ([1] if k == 2 else range(k))
    ]
    recalls = [sklearn.recall_score(y == c, found == c, **given) for c in np.unique(y)]
    return {
        "precision": sklearn.precision_score(y, found, average=usual, **given),
        "recall": sklearn.recall_score(y, found, average=usual, **given),
        "f1": sklearn.f1_score(y, found, average=usual, **given),
        "f1_weighted": sklearn.f1_score(y, found, average="weighted", **given),
        "f1_micro": sklearn.f1_score(y, found, average="micro", **given),
        "precision_macro": sklearn.precision_score(y, found, average="macro", **given),
        "balanced_accuracy": np.mean(recalls),
        "roc_auc": np.mean(areas),
    }


@pytest.mark.parametrize(
    ("classes", "outputs", "weighted"),
    [(2, 1, True), (2, 2, False), (5, 5, False), (5, 5, True)],
)
def test_figures_of_classes_are_scikit_learns(
    library, dtype, classes, outputs, weighted, monkeypatch
):
    monkeypatch.setattr(loop, "EVALUATION_ROWS", 10)
    y = KINDS % classes
    loss = xpnn.BinaryCrossEntropy() if outputs == 1 else xpnn.CrossEntropy()
    model = network(outputs)
    weights = WEIGHTS if weighted else None
    history = xpnn.fit(
        model, (X, y), validation=(X[:40], y[:40]), loss=loss, optimizer=xpnn.SGD(1e-30),
        sample_weight=weights, epochs=1, batch_size=9, seed=0,
        backend=open_backend(library, dtype), metrics=OF_CLASSES,
    )  # fmt: skip
    proba = np.asarray(xpnn.predict_proba(model, X), float)
    if outputs == 1:
        proba = np.hstack([1 - proba, proba])
    tolerance = EXACT if not weighted or dtype == "float64" else 1e-5
    assert list(history[0].metrics) == [
        f"{part}_{name}" for part in ("train", "test") for name in OF_CLASSES.split(",")
    ]
    # the parameters stay as they are, and so do the figures: mini-batches in order, or shuffled
    for row in history:
        for part, expected in (
            ("train", figures_of_classes(y, proba, weights)),
            ("test", figures_of_classes(y[:40], proba[:40])),
        ):
            for name, value in expected.items():
                found = row.metrics[f"{part}_{name}"]
                np.testing.assert_allclose(found, value, rtol=tolerance, err_msg=f"{part} {name}")
    found = xpnn.evaluate(model, (X[:40], y[:40]), metrics=OF_CLASSES.split(","))
    assert found.metrics == {k[5:]: v for k, v in history[1].metrics.items() if k[:5] == "test_"}
    assert found.f1 == found.metrics["f1"]


@pytest.mark.parametrize("k", [1, 2, 4])
def test_top_k(library, k):
    model = network(5)
    xpnn.fit(model, (X, KINDS), epochs=0, backend=open_backend(library, "float32"))
    proba = np.asarray(xpnn.predict_proba(model, X), float)
    found = xpnn.evaluate(model, (X, KINDS), metrics=f"top_k:k={k}").metrics
    expected = sklearn.top_k_accuracy_score(KINDS, proba, k=k, labels=range(5))
    np.testing.assert_allclose(found[f"top_k_{k}" if k != 5 else "top_k"], expected, rtol=EXACT)


@pytest.mark.parametrize(
    ("offset", "normalizer", "weighted"),
    [(0.0, None, False), (1e6, None, True), (1e6, "standard", False), (0.0, "standard", True)],
)
def test_figures_of_values_are_scikit_learns(
    library, dtype, normalizer, offset, weighted, monkeypatch
):
    monkeypatch.setattr(loop, "EVALUATION_ROWS", 10)
    y, weights = VALUES + offset, WEIGHTS if weighted else None
    model = xpnn.Sequential(xpnn.Dense(2))
    backend = open_backend(library, dtype)
    history = xpnn.fit(
        model, (X, y), validation=(X[:40], y[:40]), loss=xpnn.MeanSquaredError(),
        optimizer=xpnn.SGD(1e-30), target_normalizer=normalizer, sample_weight=weights, epochs=1,
        batch_size=9, seed=0, backend=backend, metrics=OF_VALUES,
    )  # fmt: skip
    found = np.asarray(xpnn.predict_proba(model, X), float)
    # of a difference of numbers as large as the targets
    tolerance = 20 * np.finfo(dtype).eps * (1.0 if normalizer else np.abs(y).max() / 30)
    for row in history:
        for part, rows, given in (("train", 61, weights), ("test", 40, None)):
            t, p = y[:rows], found[:rows]
            squares = sklearn.mean_squared_error(t, p, sample_weight=given)
            for name, value in {
                "mae": sklearn.mean_absolute_error(t, p, sample_weight=given),
                "rmse": math.sqrt(squares),
                "r2": sklearn.r2_score(t, p, sample_weight=given),
            }.items():
                np.testing.assert_allclose(
                    row.metrics[f"{part}_{name}"], value, rtol=max(tolerance, 1e-12) * 10,
                    err_msg=f"{part} {name}",
                )  # fmt: skip


@pytest.mark.parametrize("library", ["numpy"])
def test_r2_of_targets_that_are_all_the_same(library, dtype):
    model = xpnn.Sequential(xpnn.Dense(1))
    y = np.full(61, 0.1)
    backend = open_backend(library, dtype)
    history = xpnn.fit(
        model, (X, y), loss=xpnn.MeanSquaredError(), epochs=0, metrics="r2", backend=backend
    )
    assert math.isnan(history[0].train_r2)


@pytest.mark.parametrize(
    "name", ["matthews_corrcoef", "neg_log_loss", "log_loss", "roc_auc_ovo", "hamming_loss"]
)
def test_scikit_learns_own_of_classes(name):
    names = np.array(["c", "a", "b", "e", "d"])
    model = network(5)
    xpnn.fit(model, (X, names[KINDS]), labels=names, epochs=0, dtype="float64")
    y, proba = names[KINDS], xpnn.predict_proba(model, X)
    found = names[proba.argmax(axis=1)]
    order = np.argsort(names)
    expected = {
        "matthews_corrcoef": lambda: sklearn.matthews_corrcoef(y, found),
        "neg_log_loss": lambda: -sklearn.log_loss(y, proba[:, order]),
        "log_loss": lambda: sklearn.log_loss(y, proba[:, order]),
        "roc_auc_ovo": lambda: sklearn.roc_auc_score(y, proba[:, order], multi_class="ovo"),
        "hamming_loss": lambda: sklearn.hamming_loss(y, found),
    }[name]()
    result = xpnn.evaluate(model, (X, names[KINDS]), metrics=[name])
    np.testing.assert_allclose(result.metrics[name], expected, rtol=1e-12)
    assert metrics.is_minimized(f"test_{name}") == name.endswith("loss") - (name[:4] == "neg_")


@pytest.mark.parametrize("name", ["max_error", "neg_median_absolute_error", "explained_variance"])
def test_scikit_learns_own_of_values(name):
    model = xpnn.Sequential(xpnn.Dense(1))
    y = VALUES[:, 0]
    xpnn.fit(
        model, (X, y), loss=xpnn.MeanSquaredError(), target_normalizer="standard", epochs=0,
        dtype="float64",
    )  # fmt: skip
    found = xpnn.predict(model, X)
    expected = {
        "max_error": lambda: sklearn.max_error(y, found),
        "neg_median_absolute_error": lambda: -sklearn.median_absolute_error(y, found),
        "explained_variance": lambda: sklearn.explained_variance_score(y, found),
    }[name]()
    result = xpnn.evaluate(model, (X, y), metrics=name)
    np.testing.assert_allclose(abs(result.metrics[name]), abs(expected), rtol=1e-12)


def _always(y_true, y_pred):
    return 0.25


def _right(estimator, X, y):
    return np.mean(estimator.predict(X) == y)


# whatever scikit-learn takes for a scorer, and what it gives for targets and probabilities
OBJECTS = {
    "cohen_kappa_score": (
        sklearn.cohen_kappa_score, lambda y, p: sklearn.cohen_kappa_score(y, p.argmax(1)), False
    ),
    "fbeta_score_2_macro": (
        sklearn.make_scorer(sklearn.fbeta_score, beta=2, average="macro"),
        lambda y, p: sklearn.fbeta_score(y, p.argmax(1), beta=2, average="macro"), False,
    ),
    "fbeta_score_0_5_micro": (
        functools.partial(sklearn.fbeta_score, beta=0.5, average="micro"),
        lambda y, p: sklearn.fbeta_score(y, p.argmax(1), beta=0.5, average="micro"), False,
    ),
    "neg_log_loss": (
        sklearn.make_scorer(
            sklearn.log_loss, greater_is_better=False, response_method="predict_proba"
        ),
        lambda y, p: -sklearn.log_loss(y, p), False,
    ),
    "hamming_loss": (
        sklearn.hamming_loss, lambda y, p: sklearn.hamming_loss(y, p.argmax(1)), True
    ),
    "adjusted_rand_score": (
        "adjusted_rand_score", lambda y, p: sklearn.adjusted_rand_score(y, p.argmax(1)), False
    ),
    "f1_score_weighted": (
        sklearn.get_scorer("f1_weighted"),
        lambda y, p: sklearn.f1_score(y, p.argmax(1), average="weighted"), False,
    ),
    "_always": (_always, lambda y, p: 0.25, None),
    "_right": (_right, lambda y, p: np.mean(y == p.argmax(1)), None),
}  # fmt: skip


@pytest.mark.parametrize("column", OBJECTS)
def test_scorers_and_functions_of_scikit_learn(column):
    scorer, expected, minimized = OBJECTS[column]
    model = network(5)
    history = xpnn.fit(
        model, (X, KINDS), validation=(X, KINDS), optimizer=xpnn.Adam(0.01), epochs=4, seed=0,
        dtype="float64", metrics=[scorer],
        callbacks=[] if minimized is None else [xpnn.EarlyStopping(f"test_{column}", patience=1)],
    )  # fmt: skip
    assert list(history[0].metrics) == [f"train_{column}", f"test_{column}"]
    assert "0x" not in str(history.settings["metrics"])
    result = xpnn.evaluate(model, (X, KINDS), metrics=scorer)
    value = expected(KINDS, xpnn.predict_proba(model, X))
    np.testing.assert_allclose(result.metrics[column], value, rtol=1e-12)
    if minimized is not None:
        assert metrics.is_minimized(f"test_{column}") == minimized
        values = history.column(f"test_{column}")[1:]
        assert result.metrics[column] == (min if minimized else max)(values)


@pytest.mark.parametrize(("classes", "k"), [(2, 1), (3, 2), (5, 4), (8, 5)])
def test_top_k_is_below_the_number_of_classes(classes, k):
    y = np.arange(61) % classes
    model = network(classes)
    xpnn.fit(model, (X, y), epochs=0, dtype="float64", loss=xpnn.CrossEntropy())
    found = xpnn.evaluate(model, (X, y), metrics=f"top_k,top_k:k={k}").metrics
    assert found["top_k"] == found[f"top_k_{k}"]


def test_yes_or_no_questions_and_one_hot_rows():
    rows = (_RNG.rand(61, 3) > 0.5).astype(float)
    model = network(3)
    xpnn.fit(model, (X, rows), loss=xpnn.BinaryCrossEntropy(), epochs=0, dtype="float64")
    found = xpnn.predict_proba(model, X) > 0.5
    figure = xpnn.evaluate(model, (X, rows), metrics="f1").f1
    np.testing.assert_allclose(figure, sklearn.f1_score(rows, found, average="macro"), rtol=EXACT)
    model = network(5)
    xpnn.fit(model, (X, np.eye(5)[KINDS]), epochs=0, dtype="float64")
    figure = xpnn.evaluate(model, (X, np.eye(5)[KINDS]), metrics="f1").f1
    found = xpnn.predict_proba(model, X).argmax(axis=1)
    expected = sklearn.f1_score(KINDS, found, average="macro", zero_division=0)
    np.testing.assert_allclose(figure, expected, rtol=EXACT)


@pytest.mark.parametrize("reproducible", [False, True])
def test_a_run_has_the_same_bits_with_and_without_metrics(library, dtype, reproducible):
    if library == "numpy-readonly":
        pytest.skip("as numpy")
    inner = open_backend(library, dtype)
    backend = get_backend(
        inner.name, device=inner.options()["device"], dtype=dtype, reproducible=reproducible
    )
    found = []
    for asked in (None, "f1,top_k:k=2,roc_auc"):  # the last one's history is compared below
        model, history = train_small(metrics=asked, backend=backend)
        assert "not_recorded" not in history.settings
        found.append(([row[:5] for row in history], parameters_of(model).tobytes()))
    assert found[0] == found[1]
    if reproducible:
        reference = train_small(
            metrics="f1,top_k:k=2,roc_auc",
            backend=get_backend("numpy", dtype=dtype, reproducible=True),
        )[1]
        assert [row.metrics for row in history] == [row.metrics for row in reference]


def test_without_metrics_a_step_returns_what_it_did():
    _, history = train_small()
    assert "metrics" not in history.settings
    assert all(row.metrics == {} for row in history)
    assert history[0].figures == dict(zip(xpnn.Epoch._fields[1:5], history[0][1:5], strict=True))


def test_a_stream_has_the_figures_of_the_same_data_in_memory(tmp_path, monkeypatch):
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    whole = xpnn.fit(network(5), (X, KINDS), epochs=0, metrics=OF_CLASSES, dtype="float64")
    monkeypatch.setattr(streams, "CHUNK_BYTES", 800)
    parts = xpnn.fit(network(5), (mapped, KINDS), epochs=0, metrics=OF_CLASSES, dtype="float64")
    for name, value in whole[0].metrics.items():
        np.testing.assert_allclose(parts[0].metrics[name], value, rtol=1e-13)


# who monitors and keeps them


def test_early_stopping_monitors_a_metric():
    for monitor, metric, best in (("test_f1", "f1", max), ("test_log_loss", "log_loss", min)):
        early = xpnn.EarlyStopping(monitor, patience=3)
        _, history = train_small(early, metrics=metric, epochs=40, optimizer=xpnn.Momentum(0.1))
        values = history.column(monitor)[1:]
        assert early.best == values.index(best(values)) + 1
        assert len(values) == min(early.best + 3, 40)


@pytest.mark.parametrize("monitor", ["test_f1", "train_log_loss"])
def test_a_plateau_monitors_a_metric(monitor):
    schedule = schedules.Plateau(0.5, patience=0, monitor=monitor)
    asked = monitor.partition("_")[2]
    plain = xpnn.Epoch(0, 0.5, 1.0, 0.5, 1.0, 0.0)
    better = [plain._replace(epoch=i).measured({monitor: i / 8.0}) for i in range(4)]
    rises, falls = (schedule.factors(np.zeros(1), 9, rows)[0] for rows in (better, [*better[::-1]]))
    assert (rises, falls) == ((1.0, 0.25) if asked == "f1" else (0.25, 1.0))
    _, history = train_small(metrics=asked, schedule=schedule)
    _, warmed = train_small(metrics=asked, schedule=schedules.Warmup(1, schedule))
    assert len(history) == len(warmed) == 6


def test_a_resumed_run_goes_on_with_its_metrics(tmp_path):
    whole = train_small(metrics="f1,roc_auc")[1]
    stopped(tmp_path / "c", metrics="f1,roc_auc")
    with pytest.raises(ArgumentError, match=r"metrics must be .* as in"):
        train_small(resume=tmp_path / "c")
    resumed = train_small(resume=tmp_path / "c", metrics="f1,roc_auc")[1]
    assert [row.metrics for row in resumed] == [row.metrics for row in whole]


def test_files_keep_metrics(tmp_path):
    log = tmp_path / "log.csv"
    model, history = train_small(xpnn.CSVLogger(log), metrics=["f1", metrics.RocAuc()])
    header = log.read_text().splitlines()[0]
    assert header == (
        "epoch,train_accuracy,train_loss,test_accuracy,test_loss,"
        "train_f1,train_roc_auc,test_f1,test_roc_auc,seconds"
    )
    xpnn.save(model, tmp_path / "m")
    for rows in (xpnn.read_log(log), xpnn.load(tmp_path / "m").history):
        assert list(rows) == list(history)
        assert [row.metrics for row in rows] == [row.metrics for row in history]
    row = pickle.loads(pickle.dumps(history[2]))
    assert row == history[2]
    assert row.metrics == history[2].metrics
    assert repr(row).endswith(f", test_roc_auc={row.test_roc_auc!r})")
    assert history.best("test_f1")[1] == max(history.column("test_f1"))
    with pytest.raises(AttributeError, match="'Epoch' object has no attribute 'test_f2'"):
        _ = history[0].test_f2
    with pytest.raises(xpnn.ArgumentError, match="unknown column 'test_f2'; did you mean"):
        history.column("test_f2")


# metrics of one's own


@dataclass(frozen=True)
class Bias(metrics.SummedMetric):
    """The mean of all errors."""

    name: ClassVar[str] = "bias"
    of: ClassVar[str] = "values"

    def sums(self, outputs, targets, weights, *, loss, xp):
        return xp.sum(outputs - targets, axis=0)

    def value(self, sums, task):
        return float(sums.sum() / 61)


class Surest(metrics.PredictionMetric):
    """The largest probability."""

    name: ClassVar[str] = "surest"

    def value(self, targets, predictions, weights, task):
        return predictions.max()


@pytest.fixture
def registered(kept):
    for own in (Bias, Surest):
        assert metrics.register(own) is own


def test_a_metric_of_ones_own(library, registered):
    backend = open_backend(library, "float64")
    model = network(2)
    xpnn.fit(model, (X, VALUES), loss=xpnn.MeanSquaredError(), epochs=0, backend=backend)
    found = xpnn.evaluate(model, (X, VALUES), metrics="bias").bias
    outputs = np.asarray(xpnn.predict(model, X))
    np.testing.assert_allclose(found, np.sum(outputs - VALUES) / 61, rtol=1e-12)
    model, history = train_small(metrics=["surest"], backend=backend)
    proba = np.asarray(xpnn.predict_proba(model, VALIDATION[0]))
    np.testing.assert_allclose(history[-1].test_surest, proba.max(), rtol=1e-12)


# mistakes


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            "recal",
            r"unknown metric 'recal'; did you mean 'recall'\?.*or a scorer or metric of scik",
        ),
        ("f1,f1", "metrics has 'f1' twice"),
        ("f1:average=mean", r"unknown average 'mean'"),
        ("f1_binary", r"average of metric 'f1' must be macro, micro or weighted for 3 classes"),
        ("top_k:k=3", "k of metric 'top_k' must be less than the number of classes, 3, got 3"),
        ("top_k:k=0", "k must be a whole number >= 1, got 0"),
        ("mae", "metric 'mae' needs values, and the targets are classes"),
        ([3], r"metrics must be names .*, or instances such as F1\(\), got 3"),
        (3, r"metrics must be names .*, or instances such as F1\(\), got 3"),
        ("roc_auc:average=micro", "unknown average 'micro'"),
        ("roc_curve", "metric 'roc_curve' of scikit-learn: "),
        ("classification_report", "'classification_report' of .*: must be a number, got str"),
        (
            "confusion_matrix",
            r"'confusion_matrix' .*must be a number, got an array of shape \(3, 3",
        ),
        (sklearn.multilabel_confusion_matrix, r"must be a number, got an array of shape \(3, 2, 2"),
        (sklearn.make_scorer(sklearn.f1_score, average=None), r"an array of shape \(3,\)"),
        (sklearn.make_scorer, "metric 'make_scorer' of scikit-learn: "),
        (
            sklearn.make_scorer(sklearn.hinge_loss, response_method="decision_function"),
            "metric 'hinge_loss' of .* models have none of .*: decision_function",
        ),
        ([sklearn.cohen_kappa_score] * 2, "metrics has 'cohen_kappa_score' twice"),
        ("silhouette_score", "unknown metric 'silhouette_score'"),
        ("f1_score", "metric 'f1_score' of scikit-learn: Target is multiclass"),
        ("loss", "unknown metric 'loss'"),
    ],
)
def test_metrics_that_are_refused(asked, message):
    model = xpnn.Sequential(xpnn.Dense(3))
    with pytest.raises(ArgumentError, match=message):
        train_small(model=model, metrics=asked)
    assert model.parameters is None
    assert model.history is None


def test_classes_have_their_accuracy_already():
    assert list(train_small(metrics=["accuracy", "f1"])[1][0].metrics) == ["train_f1", "test_f1"]
    with pytest.raises(ArgumentError, match="'accuracy' needs classes, and the targets are values"):
        xpnn.fit(network(2), (X, VALUES), loss=xpnn.MeanSquaredError(), metrics="accuracy")
    with pytest.raises(ArgumentError, match="'f1' needs classes, and the targets are values"):
        xpnn.fit(network(2), (X, VALUES), loss=xpnn.MeanSquaredError(), metrics="f1")
    with pytest.raises(ArgumentError, match=r"'roc_auc' needs class labels of shape \(n,\)"):
        xpnn.fit(network(5), (X, np.eye(5)[KINDS]), metrics="roc_auc")


def test_scikit_learn_may_be_missing(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sklearn.metrics", None)
    with pytest.raises(ArgumentError, match="install it with: pip install scikit-learn"):
        train_small(metrics="matthews_corrcoef")
    assert train_small(metrics="f1,roc_auc")[1][0].metrics


def test_figures_that_nobody_can_monitor():
    with pytest.raises(ArgumentError, match=r"unknown monitor 'test_los'; did you mean 'test_loss"):
        train_small(xpnn.EarlyStopping("test_los"))
    with pytest.raises(ArgumentError, match="unknown monitor 'test_f1'"):
        train_small(xpnn.EarlyStopping("test_f1"), metrics="recall")
    with pytest.raises(ArgumentError, match="unknown monitor of the schedule 'test_f1'"):
        train_small(schedule=schedules.Plateau(monitor="test_f1"))
    with pytest.raises(ArgumentError, match="unknown monitor of the schedule 'train_f1'"):
        train_small(schedule=schedules.Warmup(1, schedules.Plateau(monitor="train_f1")))
    model = xpnn.Sequential(xpnn.Dense(3))
    with pytest.raises(ArgumentError, match="monitor must be a figure that the run has"):
        train_small(xpnn.EarlyStopping("test_f1"), model=model, metrics="f1", validation=None)
