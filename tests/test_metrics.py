"""Figures of a run, the first best value and when a level was first reached, and of predictions."""

import math
from collections import Counter

import numpy as np
import pytest

import xpnn
from xpnn.metrics import best, confusion_matrix, first_reached
from xpnn.task import Task

nan = math.nan


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.1, 0.9, 0.5], (1, 0.9)),
        ([0.9, 0.5, 0.9], (0, 0.9)),
        ([nan, 0.5, nan, 0.6], (3, 0.6)),
        ([-math.inf, -3.0], (1, -3.0)),
        ([nan, nan], None),
        ([], None),
    ],
)
def test_best(values, expected):
    assert best(values) == expected


@pytest.mark.parametrize(
    ("values", "level", "expected"),
    [
        ([0.1, 0.95, 0.94, 0.97], 0.95, 1),
        ([0.1, 0.95, 0.94, 0.97], 0.96, 3),
        ([0.96, 0.1], 0.95, 0),
        ([nan, 0.95], 0.95, 1),
        ([0.1, 0.9499999999999999], 0.95, None),
        ([], 0.5, None),
    ],
)
def test_first_reached(values, level, expected):
    assert first_reached(values, level) == expected


@pytest.mark.parametrize(("classes", "size"), [(None, 4), (4, 4), (6, 6)])
def test_a_confusion_matrix_counts_pairs(backend, array, classes, size):
    rng = np.random.RandomState(0)
    true, predicted = rng.randint(0, 3, 50), rng.randint(0, 4, 50)
    true, predicted = np.append(true, 3), np.append(predicted, 0)
    matrix = confusion_matrix(array(true), array(predicted), classes=classes)
    counts = Counter(zip(true.tolist(), predicted.tolist(), strict=True))
    assert isinstance(matrix, np.ndarray)
    assert matrix.dtype == np.int64
    assert matrix.tolist() == [[counts[i, j] for j in range(size)] for i in range(size)]


def test_small_integers_do_not_overflow():
    labels = np.full(3, 250, dtype=np.uint8)
    assert confusion_matrix(labels, labels)[250, 250] == 3


def test_no_samples():
    assert confusion_matrix(np.zeros(0, int), np.zeros(0, int), classes=2).tolist() == [[0, 0]] * 2


@pytest.mark.parametrize(
    ("true", "predicted", "options", "message"),
    [
        ([0, 1], [0], {}, "true and predicted must have the same length, got 2 and 1"),
        ([0.5], [0], {}, r"true must hold integer class labels of shape \(n,\), got float64"),
        ([0], [[0]], {}, "predicted must hold integer class labels"),
        ([0, -1], [0, 0], {}, "true must hold labels from 0 to 0, got -1 in row 1"),
        ([0], [2], {"classes": 2}, "predicted must hold labels from 0 to 1, got 2 in row 0"),
        ([0], [0], {"classes": 0}, "classes must be a whole number >= 1, got 0"),
    ],
)
def test_what_cannot_be_counted(true, predicted, options, message):
    with pytest.raises(xpnn.XpnnError, match=message):
        confusion_matrix(np.array(true), np.array(predicted), **options)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("average", ["macro", "weighted"])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_area_under_the_curve_with_equal_scores(classes, average, weighted):
    sklearn = pytest.importorskip("sklearn.metrics")
    rng = np.random.RandomState(1)
    targets = rng.randint(0, classes, 80)
    scores = rng.randint(1, 5, (80, classes)) / 8.0
    scores[:, 0] += targets == 0
    scores /= scores.sum(axis=1, keepdims=True)
    weights = rng.randint(0, 4, 80) / 2.0 if weighted else None
    found = xpnn.metrics.RocAuc(average).value(targets, scores, weights, Task(classes=classes))
    expected = sklearn.roc_auc_score(
        targets, scores[:, 1] if classes == 2 else scores, sample_weight=weights,
        multi_class="ovr", average=average,
    )  # fmt: skip
    np.testing.assert_allclose(found, expected, rtol=1e-13)


def test_the_area_of_one_class_alone_is_unknown():
    proba = np.array([[0.2, 0.8], [0.6, 0.4]])
    assert math.isnan(xpnn.metrics.RocAuc().value(np.ones(2, int), proba, None, Task(classes=2)))


def test_figures_of_each_class():
    rows = xpnn.metrics.per_class(np.array([[3, 1, 0], [0, 2, 0], [2, 0, 0]]))
    assert rows == [(0.6, 0.75, 2 / 3, 4), (2 / 3, 1.0, 0.8, 2), (0.0, 0.0, 0.0, 2)]
    assert rows[0].support == 4


@pytest.mark.parametrize(
    ("column", "smaller"),
    [
        ("test_loss", True), ("train_accuracy", False), ("test_mae", True),
        ("train_top_k_3", False), ("test_roc_auc_weighted", False), ("test_f1", False),
        ("rmse", True), ("test_accuracy", False),
    ],
)  # fmt: skip
def test_which_figures_are_better_small(column, smaller):
    assert xpnn.metrics.is_minimized(column) == smaller


def test_metrics_are_their_settings():
    metrics = xpnn.metrics
    for text, metric in (
        ("f1", metrics.F1()), ("f1_weighted", metrics.F1("weighted")),
        ("top_k:k=3", metrics.TopK(3)), ("recall:average=micro", metrics.Recall(average="micro")),
    ):  # fmt: skip
        assert metrics.as_metric(text) == metric
        assert metrics.as_metric(metric) is metric
    assert repr(metrics.F1("macro")) == "F1(average='macro')"
    assert metrics.TopK(3).column == "top_k_3"
    assert {type(metric)() for metric in (metrics.R2(), metrics.MAE())} == {
        metrics.R2(),
        metrics.MAE(),
    }
