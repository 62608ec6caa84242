"""The report of a study: report.html, report.md, tables.csv and the figures."""

from __future__ import annotations

import csv
import importlib.resources
import importlib.util
import io
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xpnn._core import limits
from xpnn._core.files import PathLike
from xpnn._core.tables import printable
from xpnn.errors import DataError
from xpnn.study import figures
from xpnn.study.comparison import NOT_ROUNDING, ComparedLog, ComparedTable, Comparison, compare
from xpnn.study.grid import Experiment, unique
from xpnn.study.job import Job
from xpnn.study.quantities import QUANTITIES, printed
from xpnn.study.results import read_folder, read_study, write_text

REPORT = "report.html"
_MARKDOWN = "report.md"
_NAMED = 10  # damaged files, of however many

_MACHINE = {
    "library": "library",
    "blas": "BLAS",
    "threads": "threads",
    "device": "device",
    "cpu": "CPU",
    "cores": "cores",
    "python": "Python",
    "xpnn": "xpnn",
    "system": "system",
}


@dataclass(frozen=True)
class Picture:
    """A drawn figure: the name of its file, the heading above it, the SVG, and the text below."""

    name: str
    title: str
    svg: str
    about: str = ""


@dataclass(frozen=True)
class Section:
    """An experiment as the page shows it; `anchor` is the id to which links point."""

    anchor: str
    experiment: Experiment
    pictures: Sequence[Picture]


@limits.bounded
def write_report(
    folder: PathLike,
    *,
    parts: Sequence[PathLike] = (),
    max_bytes: int | None = None,
    say: Callable[[str], None] = lambda message: None,
) -> str:
    """Write the report of the study that was last run into a folder.

    The folder is only read: Python files that it names aren't run.

    ``tables.csv`` has a line for each cell. ``report.html``, a single file, and ``report.md`` are
    written if Jinja2 is installed, ``figures/*.svg`` if matplotlib is.

    Parameters
    ----------
    folder
        The folder of the results, where the report goes too.
    parts
        The files of your own parts, if the study has some and they weren't loaded before. They are
        run.
    max_bytes
        As for `read_result`, for each file of the folder.
    say
        Called with a line for each thing that is wrong or missing.

    Returns
    -------
    headline
        The numbers of runs that are done and of cells that equal the published ones, in words.

    Raises
    ------
    DataError
        If there is no study in the folder, or no result.
    ArgumentError
        If the study needs `parts`.
    """
    folder = Path(folder)
    study, fingerprint = read_study(folder, parts)
    results, damaged = read_folder(folder, fingerprint)
    for message in damaged[:_NAMED]:
        say(message)
    if len(damaged) > _NAMED:
        say(f"and {len(damaged) - _NAMED} more files in {folder} are no results")
    comparison = compare(study, results)
    shown = [e for e in study.experiments if any(map(comparison.result, e.jobs))]
    if not shown:
        raise DataError(f"no results of {study.title!r} in {folder}")
    jobs = unique(job for experiment in shown for job in experiment.jobs)
    done = sum(comparison.result(job) is not None for job in jobs)
    headline = f"{done} of {len(jobs)} runs done"
    equal, known, total = comparison.counts()
    if total:
        absent = f" ({total - known} not run)" if known < total else ""
        headline += f"; {equal} of {total} published cells equal{absent}"
    drawn = figures.available()
    if not drawn:
        say("the report has no figures: they need matplotlib; pip install matplotlib")
    sections = _sections(comparison, shown, drawn)
    overview = _overview(comparison) if drawn else []
    spreads = _spread_pictures(comparison) if drawn else []
    for picture in [*overview, *(p for s in sections for p in s.pictures), *spreads]:
        write_text(folder, f"figures/{picture.name}.svg", figures.standalone(picture.svg))
    write_text(folder, "tables.csv", _csv(comparison))
    if importlib.util.find_spec("jinja2") is None:
        say(f"{REPORT} and {_MARKDOWN} are not written: they need Jinja2; pip install jinja2")
        return headline
    values = {
        "comparison": comparison,
        "study": study,
        "headline": headline,
        "sections": sections,
        "overview": overview,
        "spreads": spreads,
        "done": done,
        "epochs": sum(len(result.log["seconds"]) - 1 for result in comparison.results.values()),
        "missing": len(jobs) - done,
        "notes": _same_line(comparison),
        "explanation": _explanation(comparison),
        "quantities": QUANTITIES,
        "machines": _machines(comparison),
        "fingerprint": fingerprint,
        "css": figures.palette(":root") + _text("report.css"),
    }
    for name in (REPORT, _MARKDOWN):
        write_text(folder, name, _rendered(f"{name}.jinja", values))
    return headline


def _text(name: str) -> str:
    return importlib.resources.files("xpnn.study").joinpath(name).read_text("utf-8")


def _rendered(template: str, values: dict[str, Any]) -> str:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=".html" in template,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=None if ".html" in template else _as_markdown,
    )
    filters: dict[str, Callable[..., object]] = {
        # a cell of a Markdown table ends at a bar or at the end of the line
        "cell": lambda text: re.sub(r"\s+", " ", text).replace("|", r"\|"),
        "duration": _duration,
        "english": lambda time: time.replace("分", " min ").replace("秒", " s"),
        "minus": lambda number: number.replace("-", "−"),
        "printed": printed,
        "row_name": lambda job: _row_name(values["comparison"], job),
        "sentence": _sentence,
        "where": _where,
    }
    environment.filters.update(filters)
    return environment.from_string(_text(template)).render(values)


def _as_markdown(value: Any) -> Any:
    """Return a text of a study so that Markdown makes no tags, links or pictures of it.

    The signs become entities, which stay what they are in the text of a macro.
    """
    if not isinstance(value, str):
        return value
    text = "\n".join(map(printable, value.split("\n")))
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", text).replace("[", "&#91;")


# --- what is shown


def _sections(comparison: Comparison, shown: Sequence[Experiment], drawn: bool) -> list[Section]:
    anchors, names = {"differing", "machines"}, {"main"}
    sections = []
    for e in shown:
        pictures = []
        for log in comparison.logs[e.name] if drawn else ():
            title = log.log.title
            name = _new_name(names, e.name, "log", title)
            svg = figures.logs(name, [log])
            pictures.append(Picture(name, f"Log of {title}: published and ours", svg))
        for figure in e.figures if drawn else ():
            name = _new_name(names, e.name, figure.title)
            curves = figures.draw(name, figure, comparison)
            if curves is not None:
                pictures.append(Picture(name, figure.title, curves, figure.about))
        sections.append(Section(_new_name(anchors, e.name), e, pictures))
    return sections


def _new_name(taken: set[str], *words: str) -> str:
    """Return words as the name of a file or an anchor that isn't taken, and add it to `taken`."""
    plain = re.sub(r"[^a-z0-9]+", "-", " ".join(words).lower()).strip("-") or "untitled"
    name, number = plain, 1
    while name in taken:
        number += 1
        name = f"{plain}-{number}"
    taken.add(name)
    return name


def _overview(comparison: Comparison) -> list[Picture]:
    """Return the picture of all published logs, if there are any."""
    logs = [log for logs in comparison.logs.values() for log in logs]
    title = "Test accuracy per epoch, published and ours"
    return [Picture("main", title, figures.logs("main", logs, titled=True))] if logs else []


def _spread_pictures(comparison: Comparison) -> list[Picture]:
    """Return a picture of the repeats for each quantity in percent."""
    pictures = []
    for quantity in ("train", "test", "best"):
        found = [
            ("\n".join(_row_name(comparison, spread.cell.job)), spread)
            for spread in comparison.spreads
            if spread.cell.quantity == quantity and spread.draws
        ]
        if found:
            name, heading = f"spread-{quantity}", QUANTITIES[quantity]
            title = f"{heading}: repeats of the runs that differ"
            pictures.append(Picture(name, title, figures.spreads(name, heading, found)))
    return pictures


def _machines(comparison: Comparison) -> list[list[str]]:
    """Return the head and the rows of a table with the number of runs on each machine."""
    counts = Counter(
        tuple(str(result.machine.get(name, "")) for name in _MACHINE)
        for result in comparison.results.values()
    )
    rows = [[str(count), *values] for values, count in counts.most_common()]
    return [["runs", *_MACHINE.values()], *rows]


# --- as words


def _row_name(comparison: Comparison, job: Job) -> tuple[str, str]:
    """Return the labels of the first row of all tables that shows a job, and the table's title."""
    for experiment in comparison.study.experiments:
        for table in experiment.tables:
            for labels, other in zip(table.labels, table.jobs, strict=True):
                if other.key == job.key:
                    (_, first), *more = zip(table.header, labels, strict=True)
                    words = [first, *(f"{head} {label}" for head, label in more)]
                    return ", ".join(words), f"{experiment.title}: {table.title}"
    return str(job), ""


def _where(job: Job) -> str:
    """Return the backend and the environment of a repeat."""
    words = [job.backend, *(["reproducible"] if job.reproducible else [])]
    return " ".join([*words, *(f"{name}={value}" for name, value in job.environment)])


def _same_line(comparison: Comparison) -> list[str]:
    """Return a sentence for each published table that is compared with several of the study's.

    These differ in the number of epochs; the sentence says how many figures of each are equal.
    """
    lines: dict[int, list[ComparedTable]] = {}
    for tables in comparison.tables.values():
        for compared in tables:
            if compared.table.line is not None:
                lines.setdefault(compared.table.line, []).append(compared)
    sentences = []
    for line, same in lines.items():
        parts = [_equal_cells(compared) for compared in same]
        if len(same) > 1 and any(parts):
            title, done = same[0].table.title, "; ".join(filter(None, parts))
            sentences.append(f"“{title}” (line {line} of the article): {done}.")
    return sentences


def _equal_cells(compared: ComparedTable) -> str:
    """Return how many cells of each column are equal; empty if no job has a result."""
    cells = [cell for cell in compared.known if cell.equal is not None]
    if not cells:
        return ""
    counts = []
    for quantity in compared.table.quantities:
        own = [bool(cell.equal) for cell in cells if cell.quantity == quantity]
        counts.append(f"{sum(own)} of {len(own)} in “{QUANTITIES[quantity]}”")
    epochs = cells[0].job.settings.epochs
    return f"of our figures after {epochs} epochs, {', '.join(counts)} are equal"


def _sentence(compared: ComparedLog) -> str:
    """Return how a published log and ours compare."""
    rows, agreed, beyond = len(compared.differences), compared.agreed, compared.beyond
    if agreed == rows:
        largest = max(compared.differences)
        return f"All {rows} rows agree; the largest difference is {largest:.1e}."
    accuracy = 100 * max(beyond["train_accuracy"], beyond["test_accuracy"])
    loss = max(beyond["train_loss"], beyond["test_loss"])
    return (
        f"Rows 0 to {agreed - 1} agree to 1e-12, {agreed} of {rows}; in those after, accuracies "
        f"are at most {accuracy:.2f} percentage points apart, losses at most {loss:.3f}."
    )


def _explanation(comparison: Comparison) -> str:
    """Return what the table of the cells that differ shows."""
    spreads, jobs = comparison.spreads, comparison.differing_jobs()
    text = (
        f"{len(spreads)} different figures, of {len(jobs)} runs; a run that stands in several "
        "tables counts once here. If only rounding separates them from the published ones, then "
        "the same run must differ from itself, too, where it is rounded differently: on other BLAS "
        "kernels, in other libraries, with other numbers of threads. So each was repeated there, "
        "with the same settings and the same seed. "
    )
    drawn = [spread for spread in spreads if spread.draws]
    if not drawn:
        return text + "No repeat is done yet (--repeats)."
    counts = [len(spread.draws) for spread in drawn]
    each = f"{min(counts)} to {max(counts)}" if min(counts) < max(counts) else f"{counts[0]}"
    verdicts = [spread.verdict for spread in drawn]
    text += (
        f"{len(drawn)} of the {len(spreads)} have repeats, {each} each; the published figure lies "
        f"within the range of the repeats for {verdicts.count('ordinary draw')} of them. "
    )
    if firm := verdicts.count(NOT_ROUNDING):
        text += (
            f"For {firm} every repeat gives our figure: rounding does not separate them from the "
            "published ones."
        )
    return text


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _csv(comparison: Comparison) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    head = ["experiment", "table", "line", "row", "figure", "published", "ours", "equal"]
    writer.writerow([*head, "difference"])
    for name, tables in comparison.tables.items():
        for compared in tables:
            where = [name, compared.table.title, compared.table.line or ""]
            for row in compared.rows:
                for cell in row.cells:
                    equal = {True: "yes", False: "no", None: ""}[cell.equal]
                    apart = cell.difference if cell.equal is False else ""
                    shown = [cell.quantity, cell.published or "", cell.ours or "", equal, apart]
                    writer.writerow([*where, ", ".join(row.labels), *shown])
    return text.getvalue()
