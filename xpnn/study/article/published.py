"""What the article published: its tables and logs, as data, and how a figure of ours is written."""

from __future__ import annotations

import csv
import functools
import importlib.resources
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

from xpnn import metrics
from xpnn.errors import unknown

# quantity: its heading in the article, and in ours
QUANTITIES = {
    "train": "train %",
    "test": "test %",
    "best": "best test %",
    "ts95": "TS95",
    "ts97": "TS97",
    "ts98": "TS98",
}
_HEADINGS = {
    "学習正解": "train",
    "テスト正解": "test",
    "テスト最高": "best",
    "TS95%": "ts95",
    "TS97%": "ts97",
    "TS98%": "ts98",
    "所要時間": "time",
}
_LEVELS = {"ts95": 0.95, "ts97": 0.97, "ts98": 0.98}
LOG_COLUMNS = ("train_accuracy", "train_loss", "test_accuracy", "test_loss")


@dataclass(frozen=True)
class PublishedTable:
    """A table of the article.

    Attributes
    ----------
    line
        Where it begins in the article.
    header, labels
        What names a row: the headings, and a tuple of texts for each row.
    quantities
        Which of `QUANTITIES` it has.
    rows
        For each row, what was printed, by quantity; "time" too, where there is one.
    """

    line: int
    header: tuple[str, ...]
    labels: tuple[tuple[str, ...], ...]
    quantities: tuple[str, ...]
    rows: tuple[Mapping[str, str], ...]


def text(name: str) -> str:
    """Return the text of a file that came with the study: "article.toml", or published data."""
    folder = importlib.resources.files("xpnn.study.article")
    place = folder if name == "article.toml" else folder.joinpath("published")
    return place.joinpath(name).read_text("utf-8")


@functools.cache
def tables() -> dict[int, PublishedTable]:
    """Return the article's tables by the line where they begin."""
    found = {}
    for entry in json.loads(text("tables.json")):
        names = [_HEADINGS.get(heading) for heading in entry["header"]]
        first = next(i for i, name in enumerate(names) if name)
        found[entry["line"]] = PublishedTable(
            entry["line"],
            tuple(entry["header"][:first]),
            tuple(tuple(row[:first]) for row in entry["rows"]),
            tuple(name for name in names if name in QUANTITIES),
            tuple(
                {name: cell for name, cell in zip(names, row, strict=True) if name}
                for row in entry["rows"]
            ),
        )
    return found


def table(line: int) -> PublishedTable:
    """Return the table that begins at this line of the article."""
    if line not in tables():
        raise unknown("published table", line, map(str, tables()))
    return tables()[line]


LOGS = ("h_swish", "tanhexp", "flooding_b0.01", "nesterov")


def log(name: str) -> dict[str, list[float]]:
    """Return a published log by column."""
    if name not in LOGS:
        raise unknown("published log", name, LOGS)
    rows = list(csv.DictReader(io.StringIO(text(f"{name}.csv"))))
    return {column: [float(row[column]) for row in rows] for column in LOG_COLUMNS}


def percent(accuracy: float) -> str:
    """Return an accuracy as the article prints it: in percent, two digits, ties away from zero."""
    # 12 digits give back the decimal fraction that a count of samples made
    exact = Decimal(f"{accuracy * 100:.12g}")
    return str(exact.quantize(Decimal("0.01"), ROUND_HALF_UP))


def figures(log: Mapping[str, Sequence[float]]) -> dict[str, str]:
    """Return all of `QUANTITIES` for a log, as the article prints them; "-" if never reached."""
    test = log["test_accuracy"]
    best = metrics.best(test)
    reached = {name: metrics.first_reached(test, level) for name, level in _LEVELS.items()}
    return {
        "train": percent(log["train_accuracy"][-1]),
        "test": percent(test[-1]),
        "best": "-" if best is None else percent(best[1]),
        **{name: "-" if epoch is None else str(epoch) for name, epoch in reached.items()},
    }
