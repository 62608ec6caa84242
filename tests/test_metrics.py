"""Figures of a run: the first best value, and when a level was first reached."""

import math

import pytest

from xpnn.metrics import best, first_reached

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
