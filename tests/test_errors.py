"""Checks of single values: what they return, and what they refuse."""

import math

import numpy as np
import pytest

from xpnn.activations import ACTIVATIONS
from xpnn.callbacks import MONITORS
from xpnn.errors import (
    ArgumentError,
    counted,
    finite,
    fraction,
    initials,
    integer,
    nearest,
    nonnegative,
    positive,
    unknown,
)
from xpnn.losses import LOSSES
from xpnn.optimizers import OPTIMIZERS

NUMBERS = [-1e308, -1, -5e-324, 0, 5e-324, 0.5, math.nextafter(1, 0), 1, 3]
ALLOWED = {finite: NUMBERS, positive: NUMBERS[4:], nonnegative: NUMBERS[3:], fraction: NUMBERS[3:7]}
# an integer that is too large for a float too
NEVER = [math.nan, math.inf, -math.inf, 10**400, True, None, "x", [1.0], 1j]


@pytest.mark.parametrize("check", ALLOWED)
def test_numbers(check):
    for number in NUMBERS:
        if number in ALLOWED[check]:
            for given in (number, np.float64(number), str(number)):
                assert (check("lr", given), type(check("lr", given))) == (number, float)
        else:
            with pytest.raises(ArgumentError, match=r"^lr must be a .*number"):
                check("lr", number)


@pytest.mark.parametrize("check", ALLOWED)
@pytest.mark.parametrize("value", NEVER, ids=lambda value: str(value)[:9])
def test_what_is_no_number_is_shown(check, value):
    with pytest.raises(ArgumentError, match=r"^lr must be a .*number") as caught:
        check("lr", value)
    assert str(caught.value).endswith(f", got {value!r}")


def test_integers():
    assert integer("n", np.int8(3), minimum=1, maximum=3) == 3
    for wrong in (0, 4, 2.0, "2", True, None):
        with pytest.raises(ArgumentError, match=r"^n must be a whole number >= 1 and <= 3, got "):
            integer("n", wrong, minimum=1, maximum=3)


@pytest.mark.parametrize(
    ("given", "names", "meant"),
    [
        # Keras, PyTorch and scikit-learn call them so
        ("val_loss", MONITORS, "test_loss"),
        ("val_accuracy", MONITORS, "test_accuracy"),
        ("val_acc", MONITORS, "test_accuracy"),
        ("validation_loss", MONITORS, "test_loss"),
        ("training_loss", MONITORS, "train_loss"),
        ("test-loss", MONITORS, "test_loss"),
        ("ReLU", ACTIVATIONS, "relu"),
        ("LeakyReLU", ACTIVATIONS, "leaky_relu"),
        ("SiLU", ACTIVATIONS, "swish"),
        ("Hardswish", ACTIVATIONS, "h_swish"),
        ("logistic", ACTIVATIONS, "sigmoid"),
        ("linear", ACTIVATIONS, "identity"),
        ("CrossEntropy", LOSSES, "cross_entropy"),
        ("sparse_categorical_crossentropy", LOSSES, "cross_entropy"),
        ("log_loss", LOSSES, "cross_entropy"),
        ("squared_error", LOSSES, "mean_squared_error"),
        ("MSE", LOSSES, "mean_squared_error"),
        ("MSELoss", LOSSES, "mean_squared_error"),
        ("bce", LOSSES, "binary_cross_entropy"),
        ("SGD", OPTIMIZERS, "sgd"),
        ("--batch_size", ["--batch-size"], "--batch-size"),
        ("xyz", OPTIMIZERS, None),
        (3, OPTIMIZERS, None),
        ("", [], None),
    ],
)
def test_the_nearest_name(given, names, meant):
    assert nearest(given, names) == meant
    hint = "" if meant is None else f"; did you mean {meant!r}?"
    assert str(unknown("name", given, names)).startswith(f"unknown name {given!r}{hint} (allowed: ")


def test_initials():
    assert [initials(name) for name in ("mean_squared_error", "sgd", "")] == ["mse", "s", ""]


def test_counts():
    assert [counted(n, "row") for n in (0, 1, 2)] == ["0 rows", "1 row", "2 rows"]
