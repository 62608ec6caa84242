"""What the article published: its tables and logs, as data."""

from __future__ import annotations

import csv
import functools
import importlib.resources
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass

from xpnn.errors import unknown
from xpnn.study.quantities import QUANTITIES

_HEADINGS = {
    "学習正解": "train",
    "テスト正解": "test",
    "テスト最高": "best",
    "TS95%": "ts95",
    "TS97%": "ts97",
    "TS98%": "ts98",
    "所要時間": "time",
}
LOGS = ("h_swish", "tanhexp", "flooding_b0.01", "nesterov")
LOG_COLUMNS = ("train_accuracy", "train_loss", "test_accuracy", "test_loss")


@dataclass(frozen=True)
class PublishedTable:
    """A table of the article.

    Attributes
    ----------
    line
        The line of the article where the table begins.
    header
        The headings of the columns that name a row.
    labels
        For each row, its texts in those columns.
    quantities
        The names in `QUANTITIES` of the other columns.
    rows
        For each row, the printed figures by quantity, and "time" if the table has that column.
    """

    line: int
    header: tuple[str, ...]
    labels: tuple[tuple[str, ...], ...]
    quantities: tuple[str, ...]
    rows: tuple[Mapping[str, str], ...]


def text(name: str) -> str:
    """Return the text of "article.toml", the definition of the study, or of published data."""
    folder = importlib.resources.files("xpnn.study.article")
    path = name if name == "article.toml" else f"published/{name}"
    return folder.joinpath(path).read_text("utf-8")


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


def log(name: str) -> dict[str, list[float]]:
    """Return the columns of a published log."""
    if name not in LOGS:
        raise unknown("published log", name, LOGS)
    rows = list(csv.DictReader(io.StringIO(text(f"{name}.csv"))))
    return {column: [float(row[column]) for row in rows] for column in LOG_COLUMNS}
