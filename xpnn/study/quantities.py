"""The quantities of a run that the tables of a study show, and how they are printed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_UP, Context, Decimal

from xpnn import metrics
from xpnn.training.history import Epoch

# each quantity with its heading
QUANTITIES = {
    "train": "train %",
    "test": "test %",
    "best": "best test %",
    "ts95": "TS95",
    "ts97": "TS97",
    "ts98": "TS98",
}
# those of a regression
LOSSES = {"train_loss": "train loss", "test_loss": "test loss", "best_loss": "best test loss"}
# each of these quantities is the first epoch whose test accuracy is at least this one
_LEVELS = {"ts95": 0.95, "ts97": 0.97, "ts98": 0.98}


def printed(log: Mapping[str, Sequence[float]]) -> dict[str, str]:
    """Return every quantity of a log as a table prints it.

    Parameters
    ----------
    log
        The columns of `Epoch` by name: a value per epoch.

    Returns
    -------
    texts
        A text for each of `QUANTITIES`, "-" for an accuracy that was never reached or isn't known;
        for each of `LOSSES` if there are no accuracies.
    """
    test = log["test_accuracy"]
    if all(map(math.isnan, log["train_accuracy"])):
        losses = [loss for loss in log["test_loss"] if not math.isnan(loss)]
        found = log["train_loss"][-1], log["test_loss"][-1], min(losses, default=math.nan)
        return {
            name: "-" if math.isnan(loss) else f"{loss:.4g}"
            for name, loss in zip(LOSSES, found, strict=True)
        }
    best = metrics.best(test)
    reached = {name: metrics.first_reached(test, level) for name, level in _LEVELS.items()}
    return {
        "train": percent(log["train_accuracy"][-1]),
        "test": percent(test[-1]),
        "best": "-" if best is None else percent(best[1]),
        **{name: "-" if epoch is None else str(epoch) for name, epoch in reached.items()},
    }


def measured(log: Mapping[str, Sequence[float]]) -> dict[str, str]:
    """Return the quantities of the metrics of a log as a table prints them.

    For each metric, these are its last value in validation and its best one there; without
    validation, the last value in training.
    """
    found: dict[str, float] = {}
    columns = [name for name in log if name not in Epoch._fields]
    tested = [name for name in columns if name.startswith("test_")]
    for column in tested or columns:
        values = log[column]
        found[column] = values[-1]
        if tested:
            known = [value for value in values if not math.isnan(value)]
            pick = min if metrics.is_minimized(column) else max
            found[f"best_{column.removeprefix('test_')}"] = pick(known, default=math.nan)
    return {name: "-" if math.isnan(value) else f"{value:.4g}" for name, value in found.items()}


def heading(quantity: str) -> str:
    """Return the heading of a quantity's column."""
    known = {**QUANTITIES, **LOSSES}
    word, _, metric = quantity.partition("_")
    return known.get(quantity, f"best test {metric}" if word == "best" else f"{word} {metric}")


def percent(accuracy: float) -> str:
    """Return an accuracy as the article prints it: in percent, two digits, ties away from zero.

    An unknown accuracy, of a run without validation, is "-".
    """
    if math.isnan(accuracy):
        return "-"
    # 12 digits give back the decimal fraction that a count of samples made
    exact = Decimal(f"{accuracy * 100:.12g}")
    return str(exact.quantize(Decimal("0.01"), ROUND_HALF_UP, Context(prec=28)))
