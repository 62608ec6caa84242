"""Results compared with published ones: cells, logs, and the spread of repeats."""

from __future__ import annotations

import dataclasses
import functools
import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from xpnn.study.grid import Log, Study, Table, unique
from xpnn.study.job import Job
from xpnn.study.quantities import LOSSES, heading, measured, printed
from xpnn.study.results import Result

# up to this difference, a row of a log agrees with the published one
AGREE = 1e-12

NOT_ROUNDING = "not a matter of rounding"


@dataclass(frozen=True)
class Cell:
    """One quantity of one job.

    Attributes
    ----------
    job, quantity
        The job, and the name of the quantity in `QUANTITIES`.
    published, ours
        The two figures as printed; None if there is no figure.
    """

    job: Job
    quantity: str
    published: str | None
    ours: str | None

    @property
    def equal(self) -> bool | None:
        """Whether both figures are the same to the last digit; None if one is missing."""
        if self.published is None or self.ours is None:
            return None
        return self.published == self.ours

    @property
    def difference(self) -> str:
        """Our figure minus the published one, signed; empty if one of them isn't a number."""
        try:
            difference = float(self.ours or "-") - float(self.published or "-")
        except ValueError:
            return ""
        return f"{difference:+.2f}" if "." in (self.ours or "") else f"{difference:+.0f}"


@dataclass(frozen=True)
class Row:
    """A row of a table: its labels, its cells, our time and the published one."""

    labels: tuple[str, ...]
    cells: tuple[Cell, ...]
    seconds: float | None
    published_time: str | None


@dataclass(frozen=True)
class ComparedTable:
    """A table of the study, with our results and the published ones."""

    table: Table
    rows: tuple[Row, ...]

    @property
    def head(self) -> list[str]:
        """The headings of all columns."""
        return [*self.table.header, *map(heading, self.table.quantities)]

    @property
    def known(self) -> list[Cell]:
        """The cells with a published figure."""
        return [cell for row in self.rows for cell in row.cells if cell.published is not None]

    @property
    def equal(self) -> int:
        """The number of cells whose figure equals the published one."""
        return sum(bool(cell.equal) for cell in self.known)


@dataclass(frozen=True)
class ComparedLog:
    """A published log and ours.

    Attributes
    ----------
    log, result
        The published log, and the result of the same job.
    differences
        For each row, the largest absolute difference of its columns.
    agreed
        The number of rows before the first one that differs by more than `AGREE`.
    beyond
        For each column, its largest difference in that row and the later ones.
    """

    log: Log
    result: Result
    differences: tuple[float, ...]
    agreed: int
    beyond: Mapping[str, float]


@dataclass(frozen=True)
class Spread:
    """A cell whose figures differ, and the same figure in the job's repeats.

    Attributes
    ----------
    draws
        The figure of each repeat with a result, as printed. A repeat that ended in the same bits
        as another one is left out.
    """

    cell: Cell
    draws: tuple[str, ...]

    @property
    def values(self) -> list[float]:
        """The draws as numbers."""
        return [as_float(text) for text in self.draws]

    @property
    def span(self) -> str:
        """The least and the greatest draw, as printed."""
        texts = sorted(self.draws, key=as_float)
        return texts[0] if texts[0] == texts[-1] else f"{texts[0]} to {texts[-1]}"

    @property
    def median(self) -> str:
        """The median of the draws, as printed."""
        middle = statistics.median(self.values)
        digits = 0 if self.cell.quantity.startswith("ts") else 2
        return "-" if middle == math.inf else f"{middle:.{digits}f}"

    @property
    def rank(self) -> tuple[int, int, int]:
        """The numbers of draws that are less than the published figure, equal to it, and more."""
        target, values = as_float(self.cell.published or "-"), self.values
        return (
            sum(v < target for v in values),
            sum(v == target for v in values),
            sum(v > target for v in values),
        )

    @property
    def verdict(self) -> str:
        """Whether the published figure is an ordinary draw, which lies in the range of the draws.

        If all draws equal our figure, rounding can't explain the difference.
        """
        if not self.draws:
            return "not repeated"
        if all(text == self.cell.ours for text in self.draws):
            return NOT_ROUNDING
        below, same, above = self.rank
        if same or (below and above):
            return "ordinary draw"
        return "above all draws" if below else "below all draws"


def as_float(text: str) -> float:
    """Return a printed figure as a number; that of "-", never reached, is infinity."""
    return math.inf if text == "-" else float(text)


@dataclass(frozen=True)
class Comparison:
    """The results of a study, and how they compare with what was published.

    Attributes
    ----------
    results
        The results by the key of their jobs.
    tables, logs
        For each experiment, by name, its tables and its logs; a log without a result is left out.
    """

    study: Study
    results: Mapping[str, Result]
    tables: Mapping[str, tuple[ComparedTable, ...]]
    logs: Mapping[str, tuple[ComparedLog, ...]]

    @property
    def cells(self) -> list[Cell]:
        """The cells with a published figure.

        Without those of long experiments, which have more epochs than the published ones.
        """
        usual = [e.name for e in self.study.experiments if not e.long]
        return [cell for name in usual for table in self.tables[name] for cell in table.known]

    @functools.cached_property
    def spreads(self) -> tuple[Spread, ...]:
        """The published cells that differ, each once, with the repeats."""
        differing: dict[tuple[str, str], Cell] = {}
        for cell in self.cells:
            if cell.equal is False:
                differing.setdefault((cell.job.key, cell.quantity), cell)
        return tuple(map(self._spread, differing.values()))

    def _spread(self, cell: Cell) -> Spread:
        draws = []
        # a repeat with the same bits as another one isn't an independent draw
        seen = {self.results[cell.job.key].weights_sha256}
        for variant in self.study.variants(cell.job):
            result = self.result(variant)
            if result is not None and result.weights_sha256 not in seen:
                seen.add(result.weights_sha256)
                draws.append(printed(result.log)[cell.quantity])
        return Spread(cell, tuple(draws))

    def result(self, job: Job) -> Result | None:
        """Return the result of a job, or None."""
        return self.results.get(job.key)

    def counts(self) -> tuple[int, int, int]:
        """Return how many cells equal the published ones, have results, and there are in all."""
        found = [cell.equal for cell in self.cells]
        return found.count(True), len(found) - found.count(None), len(found)

    def differing_jobs(self) -> list[Job]:
        """Return the jobs with a cell that differs from the published one."""
        return list(unique(spread.cell.job for spread in self.spreads))


def compare(study: Study, results: Mapping[str, Result]) -> Comparison:
    """Compare results with the published ones.

    Parameters
    ----------
    study
        The study.
    results
        The results by the names of their files, as `read_folder` returns them.
    """
    found = {result.job.key: result for result in results.values()}
    tables, logs = {}, {}
    for e in study.experiments:
        tables[e.name] = tuple(_compare_table(table, found) for table in e.tables)
        done = [log for log in e.logs if log.job.key in found]
        logs[e.name] = tuple(_compare_log(log, found[log.job.key]) for log in done)
    return Comparison(study, found, tables, logs)


def _compare_table(table: Table, found: Mapping[str, Result]) -> ComparedTable:
    figures = {job.key: printed(found[job.key].log) for job in table.jobs if job.key in found}
    regression = figures and all(own.keys() == LOSSES.keys() for own in figures.values())
    if table.published is None:
        more = {key: measured(found[key].log) for key in figures}
        named = dict.fromkeys(name for own in more.values() for name in own)
        own = LOSSES if regression else table.quantities
        table = dataclasses.replace(table, quantities=(*own, *named))
        figures = {key: {**figures[key], **more[key]} for key in figures}
    rows = []
    for i, (labels, job) in enumerate(zip(table.labels, table.jobs, strict=True)):
        result = found.get(job.key)
        ours = figures.get(job.key, {})
        theirs = {} if table.published is None else table.published[i]
        cells = tuple(Cell(job, q, theirs.get(q), ours.get(q)) for q in table.quantities)
        seconds = None if result is None else result.seconds
        rows.append(Row(labels, cells, seconds, theirs.get("time")))
    return ComparedTable(table, tuple(rows))


def _compare_log(log: Log, result: Result) -> ComparedLog:
    pairs = {
        name: zip(result.log[name], theirs, strict=False) for name, theirs in log.published.items()
    }
    apart = {name: [abs(a - b) for a, b in both] for name, both in pairs.items()}
    differences = tuple(max(row) for row in zip(*apart.values(), strict=True))
    agreed = next((i for i, d in enumerate(differences) if d > AGREE), len(differences))
    beyond = {name: max(column[agreed:], default=0.0) for name, column in apart.items()}
    return ComparedLog(log, result, differences, agreed, beyond)
