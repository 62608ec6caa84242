"""Results beside what was published: cells, logs, and the spread of repeats."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from xpnn.study.article import published
from xpnn.study.grid import Experiment, Log, Study, Table, unique
from xpnn.study.job import Job
from xpnn.study.quantities import printed
from xpnn.study.results import Result


@dataclass(frozen=True)
class Cell:
    """A figure of a table.

    Attributes
    ----------
    run, quantity
        What it is of.
    published, ours
        As printed; None where there is none.
    """

    job: Job
    quantity: str
    published: str | None
    ours: str | None

    @property
    def equal(self) -> bool | None:
        """Whether both are the same to the last digit; None if one is missing."""
        if self.published is None or self.ours is None:
            return None
        return self.published == self.ours

    @property
    def difference(self) -> str:
        """Ours minus the published one, signed; empty where there is nothing to subtract."""
        try:
            apart = float(self.ours or "-") - float(self.published or "-")
        except ValueError:
            return ""
        return f"{apart:+.2f}" if "." in (self.ours or "") else f"{apart:+.0f}"


@dataclass(frozen=True)
class Row:
    """A row of a table: labels, cells, and how long the run took, if it is there."""

    labels: tuple[str, ...]
    cells: tuple[Cell, ...]
    seconds: float | None
    published_time: str | None


@dataclass(frozen=True)
class ComparedTable:
    """A table with results."""

    table: Table
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class ComparedLog:
    """A published log and ours.

    Attributes
    ----------
    differences
        By row, the largest absolute difference of its four figures.
    agreed
        Rows from the first that agree to 1e-12.
    accuracies, losses
        By column, the largest difference in the rows after those.
    """

    log: Log
    result: Result
    published: Mapping[str, list[float]]
    differences: tuple[float, ...]
    agreed: int
    beyond: Mapping[str, float]


AGREE = 1e-12

NOT_ROUNDING = "not a matter of rounding"


@dataclass(frozen=True)
class Spread:
    """A figure of a run, and the same figure of its repeats.

    Attributes
    ----------
    cell
        The figure that differs.
    draws
        For each repeat with a result, its run and the figure as printed; without those whose
        weights are, bit for bit, another one's.
    """

    cell: Cell
    draws: tuple[tuple[Job, str], ...]

    @property
    def values(self) -> list[float]:
        """The draws as numbers; never reached is infinity."""
        return [number(text) for _, text in self.draws]

    @property
    def rank(self) -> tuple[int, int, int]:
        """How many draws are less than the published figure, equal to it, and more."""
        target = number(self.cell.published or "-")
        values = self.values
        return (
            sum(v < target for v in values),
            sum(v == target for v in values),
            sum(v > target for v in values),
        )

    @property
    def verdict(self) -> str:
        """Whether the published figure is an ordinary draw: within the range of the draws.

        Where all draws are ours, rounding changes nothing, and something else parts the two.
        """
        if all(text == self.cell.ours for _, text in self.draws):
            return NOT_ROUNDING
        below, same, above = self.rank
        if same or (below and above):
            return "ordinary draw"
        return "above all draws" if below else "below all draws"


def number(text: str) -> float:
    """Return a printed figure as a number; "-", never reached, is infinity."""
    return math.inf if text == "-" else float(text)


@dataclass(frozen=True)
class Comparison:
    """A study's results, and how they compare with what was published."""

    study: Study
    results: Mapping[str, Result]
    tables: Mapping[str, tuple[ComparedTable, ...]]
    logs: Mapping[str, tuple[ComparedLog, ...]]
    spreads: tuple[Spread, ...]

    def result(self, job: Job) -> Result | None:
        """Return the result of a run, if it is there."""
        return self.results.get(key(job))

    def cells(self, *, long: bool = False) -> list[Cell]:
        """Return all cells of the experiments that are long, or aren't."""
        return [
            cell
            for experiment in self.study.experiments
            if experiment.long == long
            for table in self.tables[experiment.name]
            for row in table.rows
            for cell in row.cells
        ]

    def counts(self) -> tuple[int, int, int]:
        """Return how many published cells are equal, have a figure of ours, and are in all."""
        cells = [cell for cell in self.cells() if cell.published is not None]
        known = [cell for cell in cells if cell.equal is not None]
        return sum(bool(cell.equal) for cell in known), len(known), len(cells)

    def differing_jobs(self) -> list[Job]:
        """Return the runs with a cell that isn't what was published."""
        return list(unique(cell.job for cell in self.cells() if cell.equal is False))


def key(job: Job) -> str:
    """Return what a run's result is found by."""
    return repr(job.identity())


def compare(study: Study, results: Mapping[str, Result]) -> Comparison:
    """Set results, by file name or any other key, beside what was published."""
    found = {key(result.job): result for result in results.values()}
    tables = {
        e.name: tuple(_compare_table(table, found) for table in e.tables) for e in study.experiments
    }
    logs = {e.name: tuple(_logs(e, found)) for e in study.experiments}
    comparison = Comparison(study, found, tables, logs, ())
    spreads: list[Spread] = []
    seen = set()
    for cell in comparison.cells():
        name = (key(cell.job), cell.quantity)
        if cell.equal is False and name not in seen:
            seen.add(name)
            spreads.append(_spread(study, cell, found))
    return Comparison(study, found, tables, logs, tuple(spreads))


def _compare_table(table: Table, found: Mapping[str, Result]) -> ComparedTable:
    rows = []
    for i, (labels, job) in enumerate(zip(table.labels, table.jobs, strict=True)):
        result = found.get(key(job))
        ours = {} if result is None else printed(result.log)
        theirs = {} if table.published is None else table.published[i]
        cells = tuple(Cell(job, q, theirs.get(q), ours.get(q)) for q in table.quantities)
        seconds = None if result is None else result.seconds
        rows.append(Row(labels, cells, seconds, theirs.get("time")))
    return ComparedTable(table, tuple(rows))


def _logs(experiment: Experiment, found: Mapping[str, Result]) -> list[ComparedLog]:
    compared = []
    for log in experiment.logs:
        result = found.get(key(log.job))
        if result is None:
            continue
        theirs = published.log(log.published)
        columns = published.LOG_COLUMNS
        rows = min(len(theirs["test_loss"]), len(result.log["test_loss"]))
        apart = {c: [abs(result.log[c][i] - theirs[c][i]) for i in range(rows)] for c in columns}
        differences = tuple(max(apart[c][i] for c in columns) for i in range(rows))
        agreed = next((i for i, d in enumerate(differences) if d > AGREE), rows)
        beyond = {c: max(apart[c][agreed:]) for c in columns} if agreed < rows else {}
        compared.append(ComparedLog(log, result, theirs, differences, agreed, beyond))
    return compared


def _spread(study: Study, cell: Cell, found: Mapping[str, Result]) -> Spread:
    draws = []
    # a repeat that rounds as another one did is no draw of its own
    seen = {found[key(cell.job)].weights_sha256}
    for variant in study.variants(cell.job):
        result = found.get(key(variant))
        if result is not None and result.weights_sha256 not in seen:
            seen.add(result.weights_sha256)
            draws.append((variant, printed(result.log)[cell.quantity]))
    return Spread(cell, tuple(draws))
