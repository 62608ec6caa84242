"""Figures of a run, the first best value and when a level was first reached, and of predictions."""

import math
from collections import Counter

import numpy as np
import pytest

import xpnn
from xpnn.metrics import best, confusion_matrix, first_reached

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
