"""The report of a study: report.html, report.md, tables.csv and the figures."""

from __future__ import annotations

import csv
import importlib.resources
import io
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from html import escape
from pathlib import Path

from xpnn._core.files import PathLike, replacing
from xpnn.errors import DataError
from xpnn.study import figures
from xpnn.study.comparison import (
    NOT_ROUNDING,
    Cell,
    ComparedLog,
    ComparedTable,
    Comparison,
    Spread,
    compare,
    key,
    number,
)
from xpnn.study.figures import slug
from xpnn.study.grid import Experiment, unique
from xpnn.study.job import Job
from xpnn.study.quantities import QUANTITIES, printed
from xpnn.study.results import read_folder, read_study

REPORT = "report.html"

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


def write_report(folder: PathLike, *, say: Callable[[str], None] = lambda message: None) -> str:
    """Write the report of the study that was last run into a folder.

    ``report.html``, one file that needs nothing else; ``report.md``; ``tables.csv``, a cell a line;
    and, if matplotlib is installed, ``figures/*.svg``.

    Parameters
    ----------
    folder
        Where the results are, and the report goes.
    say
        Told what is wrong, a line each.

    Returns
    -------
    headline
        How many runs are done and how many published cells equal, in words.

    Raises
    ------
    DataError
        If there is no study in the folder, or no result.
    """
    folder = Path(folder)
    study, fingerprint = read_study(folder)
    results, damaged = read_folder(folder, fingerprint)
    for message in damaged:
        say(message)
    comparison = compare(study, results)
    if not any(comparison.result(job) for e in study.experiments for job in e.jobs):
        raise DataError(f"no results of {study.title!r} in {folder}")
    if figures.available():
        drawn = _draw(comparison)
        place = folder / "figures"
        place.mkdir(exist_ok=True)
        for name, svg in drawn.items():
            _write(place / f"{name}.svg", figures.alone(svg))
    else:
        say("the report has no figures: they need matplotlib; pip install matplotlib")
        drawn = {}
    _write(folder / REPORT, _html(comparison, drawn, fingerprint))
    _write(folder / "report.md", _markdown(comparison, drawn))
    _write(folder / "tables.csv", _csv(comparison))
    return headline(comparison)


def _write(path: Path, text: str) -> None:
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")


def headline(comparison: Comparison) -> str:
    """Return how many runs are done and how many published cells equal, in words."""
    jobs = [job for e in _shown(comparison) for job in e.jobs]
    done = sum(comparison.result(job) is not None for job in unique(jobs))
    words = f"{done} of {len(unique(jobs))} runs done"
    equal, known, total = comparison.counts()
    missing = f" ({total - known} not run)" if known < total else ""
    return words + (f"; {equal} of {total} published cells equal{missing}" if total else "")


def _shown(comparison: Comparison) -> list[Experiment]:
    """Return the experiments with a result."""
    study = comparison.study
    return [e for e in study.experiments if any(comparison.result(job) for job in e.jobs)]


def _draw(comparison: Comparison) -> dict[str, str]:
    """Return all figures by name."""
    drawn = {}
    shown = _shown(comparison)
    main = figures.main([log for e in shown for log in comparison.logs[e.name]])
    if main:
        drawn["main"] = main
    for experiment in shown:
        for compared in comparison.logs[experiment.name]:
            name = slug(experiment.name, "log", compared.log.title)
            drawn[name] = figures.log(name, compared)
        for figure in experiment.figures:
            name = slug(experiment.name, figure.title)
            svg = figures.draw(name, figure, comparison)
            if svg:
                drawn[name] = svg
    for quantity in QUANTITIES:
        found = [
            ("\n".join(_named(comparison, spread.cell.job)), spread)
            for spread in comparison.spreads
            if spread.cell.quantity == quantity and spread.draws
        ]
        if found and not quantity.startswith("ts"):
            drawn[f"spread-{quantity}"] = figures.spreads(
                f"spread-{quantity}", QUANTITIES[quantity], found
            )
    return drawn


def _named(comparison: Comparison, job: Job) -> tuple[str, str]:
    """Return the labels of a run's first row, and the title of the table where it stands."""
    for experiment in comparison.study.experiments:
        for compared in comparison.tables[experiment.name]:
            table = compared.table
            for labels, other in zip(table.labels, table.jobs, strict=True):
                if key(other) == key(job):
                    named = [
                        label if i == 0 else f"{head} {label}"
                        for i, (head, label) in enumerate(zip(table.header, labels, strict=True))
                    ]
                    return ", ".join(named), f"{experiment.title}: {table.title}"
    return str(job), ""


def _same_line(comparison: Comparison) -> list[str]:
    """Return a sentence for each published table that runs of different lengths stand beside."""
    lines: dict[int, list[ComparedTable]] = {}
    for experiment in comparison.study.experiments:
        for compared in comparison.tables[experiment.name]:
            if compared.table.line is not None:
                lines.setdefault(compared.table.line, []).append(compared)
    sentences = []
    for line, tables in lines.items():
        parts = []
        for compared in tables:
            cells = [c for row in compared.rows for c in row.cells if c.equal is not None]
            if cells:
                counts = []
                for quantity in compared.table.quantities:
                    own = [bool(cell.equal) for cell in cells if cell.quantity == quantity]
                    counts.append(f"{sum(own)} of {len(own)} in “{QUANTITIES[quantity]}”")
                epochs = cells[0].job.settings.epochs
                parts.append(f"of our figures after {epochs} epochs, {', '.join(counts)} are equal")
        if len(tables) > 1 and parts:
            title = tables[0].table.title
            sentences.append(f"“{title}” (line {line} of the article): {'; '.join(parts)}.")
    return sentences


def _log_sentence(compared: ComparedLog) -> str:
    rows, agreed = len(compared.differences), compared.agreed
    if agreed == rows:
        largest = max(compared.differences)
        return f"All {rows} rows agree; the largest difference is {largest:.1e}."
    beyond = compared.beyond
    return (
        f"Rows 0 to {agreed - 1} agree to 1e-12, {agreed} of {rows}; in those after, accuracies "
        f"are at most {100 * max(beyond['train_accuracy'], beyond['test_accuracy']):.2f} "
        f"percentage points apart, losses at most "
        f"{max(beyond['train_loss'], beyond['test_loss']):.3f}."
    )


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _published_time(text: str) -> str:
    return text.replace("分", " min ").replace("秒", " s")


# --- HTML


def _tag(name: str, content: str, **attributes: str) -> str:
    given = "".join(f' {k.rstrip("_")}="{escape(v)}"' for k, v in attributes.items())
    return f"<{name}{given}>{content}</{name}>"


def _grid(head: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """Return a table in a box that scrolls; cells are HTML, those that begin with <td> whole."""

    def cells(tag: str, row: Sequence[str]) -> str:
        return "".join(
            cell if cell.startswith("<td") else f"<{tag}{' class=l' * (i < left)}>{cell}</{tag}>"
            for i, cell in enumerate(row)
        )

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return (
        f'<div class="scroll" tabindex="0"><table><thead><tr>{cells("th", head)}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _html_cell(cell: Cell) -> str:
    ours = escape(cell.ours or "–")
    if cell.published is None:
        return f"<td>{ours}</td>"
    beside = f'<small title="published">{escape(cell.published)}</small>'
    if cell.equal is None:
        return f"<td>{ours}{beside}</td>"
    if cell.equal:
        return f'<td class="same">{ours} <i title="equal">✓</i>{beside}</td>'
    apart = cell.difference or "≠"
    return f'<td class="other">{ours} <i>{escape(apart.replace("-", "−"))}</i>{beside}</td>'


def _html_table(compared: ComparedTable) -> str:
    table = compared.table
    timed = any(row.published_time for row in compared.rows)
    head = [*table.header, *(QUANTITIES[q] for q in table.quantities), "time"]
    rows = []
    for row in compared.rows:
        time = "–" if row.seconds is None else _duration(row.seconds)
        if timed and row.published_time:
            time += f'<small title="published">{_published_time(row.published_time)}</small>'
        rows.append([*map(escape, row.labels), *map(_html_cell, row.cells), time])
    known = [c for row in compared.rows for c in row.cells if c.published is not None]
    count = sum(bool(c.equal) for c in known)
    note = f" <small>{count} of {len(known)} equal</small>" if known else ""
    return f"<h3>{escape(table.title)}{note}</h3>" + _grid(head, rows, len(table.header))


def _figure(title: str, svg: str | None, about: str = "", wide: bool = False) -> str:
    if svg is None:
        return ""
    more = f"<p class=soft>{escape(about)}</p>" if about else ""
    kind = {"class": "all"} if wide else {}
    return _tag("figure", f"<figcaption>{escape(title)}</figcaption>{svg}{more}", **kind)


def _html_experiment(comparison: Comparison, experiment: Experiment, drawn: dict[str, str]) -> str:
    parts = [f'<h2 id="{slug(experiment.name)}">{escape(experiment.title)}</h2>']
    parts.append(f"<p>{escape(experiment.about)}</p>" if experiment.about else "")
    pictures = []
    for compared in comparison.logs[experiment.name]:
        parts.append(f"<p><b>Published log:</b> {escape(_log_sentence(compared))}</p>")
        title = f"Log of {compared.log.title}: published and ours"
        name = slug(experiment.name, "log", compared.log.title)
        pictures.append(_figure(title, drawn.get(name)))
    parts += [_html_table(compared) for compared in comparison.tables[experiment.name]]
    pictures += [
        _figure(figure.title, drawn.get(slug(experiment.name, figure.title)), figure.about)
        for figure in experiment.figures
    ]
    if any(pictures):
        parts.append(f'<div class="figures">{"".join(pictures)}</div>')
    return "".join(parts)


def _draw_summary(spread: Spread) -> list[str]:
    """Return number, range and median of the draws, and the verdict, as text."""
    if not spread.draws:
        return ["0", "–", "–", "not repeated"]
    values = sorted(spread.values)
    texts = sorted((text for _, text in spread.draws), key=number)
    middle = statistics.median(values)
    digits = 0 if spread.cell.quantity.startswith("ts") else 2
    median = "-" if middle == float("inf") else f"{middle:.{digits}f}"
    span = texts[0] if texts[0] == texts[-1] else f"{texts[0]} to {texts[-1]}"
    return [str(len(values)), span, median, spread.verdict]


def _where(spread: Spread) -> str:
    below, same, above = spread.rank
    return f"{below} below, {same} equal, {above} above" if spread.draws else ""


def _differing(comparison: Comparison, drawn: dict[str, str]) -> str:
    spreads = comparison.spreads
    if not spreads:
        return ""
    parts = [
        '<h2 id="differing">Cells that differ</h2>',
        f"<p>{escape(_explanation(comparison))}</p>",
    ]
    rows = []
    for spread in spreads:
        cell = spread.cell
        count, span, median, verdict = _draw_summary(spread)
        good = "same" if verdict == "ordinary draw" else "other" if spread.draws else ""
        labels, title = _named(comparison, cell.job)
        apart = cell.difference.replace("-", "−") or "≠"
        rows.append(
            [
                f"{escape(labels)}<small>{escape(title)}</small>",
                QUANTITIES[cell.quantity],
                escape(cell.published or ""),
                f"{escape(cell.ours or '')} <i>{apart}</i>",
                count,
                f"{span}<small>median {median}</small>" if spread.draws else span,
                f'<td class="l {good}"><i>{verdict}</i><small>{_where(spread)}</small></td>',
            ]
        )
    head = ["run", "figure", "published", "ours", "repeats", "their range"]
    parts.append(_grid([*head, "so the published one is"], rows, 2))
    pictures = [
        _figure(f"{QUANTITIES[q]}: repeats of the runs that differ", drawn.get(f"spread-{q}"))
        for q in QUANTITIES
    ]
    parts.append(f'<div class="figures">{"".join(pictures)}</div>')
    parts.append("<h3>The repeats</h3>" + _repeats(comparison))
    return "".join(parts)


def _explanation(comparison: Comparison) -> str:
    spreads = comparison.spreads
    drawn = [spread for spread in spreads if spread.draws]
    text = (
        f"{len(spreads)} different figures, of {len(comparison.differing_jobs())} runs; a run that "
        "stands in several tables counts once here. If rounding is what parts them from the "
        "published ones, the same run must also part from itself where rounding differs: on other "
        "BLAS kernels, in other libraries, with other numbers of threads. So each was repeated "
        "there, with the same settings and the same seed. "
    )
    if not drawn:
        return text + "No repeat is done yet (--repeats)."
    ordinary = sum(spread.verdict == "ordinary draw" for spread in drawn)
    firm = sum(spread.verdict == NOT_ROUNDING for spread in drawn)
    counts = sorted({len(spread.draws) for spread in drawn})
    each = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else f"{counts[0]}"
    text += (
        f"{len(drawn)} of the {len(spreads)} have repeats, {each} each; the published figure lies "
        f"within the range of the repeats for {ordinary} of them. "
    )
    if firm:
        text += (
            f"For {firm} every repeat gives our figure: rounding does not part them from the "
            "published ones."
        )
    return text


def _repeats(comparison: Comparison) -> str:
    """Return a table of the repeats: for each run that differs, the figures of every draw."""
    rows = []
    for job in comparison.differing_jobs():
        labels, title = _named(comparison, job)
        for variant in (job, *comparison.study.variants(job)):
            result = comparison.result(variant)
            if result is None:
                continue
            ours = printed(result.log)
            how = "as in the tables" if variant == job else _how(variant.as_dict())
            rows.append(
                [
                    f"{escape(labels)}<small>{escape(title)}</small>",
                    escape(how),
                    *(escape(ours[q]) for q in QUANTITIES),
                    escape(result.weights_sha256[:8]),
                ]
            )
    return _grid(["run", "where", *QUANTITIES.values(), "weights"], rows, 2)


def _how(job: dict[str, object]) -> str:
    environment = job["environment"]
    assert isinstance(environment, dict)
    words = [str(job["backend"]), "reproducible" if job["reproducible"] else ""]
    return " ".join(filter(None, [*words, *(f"{k}={v}" for k, v in environment.items())]))


def _machines(comparison: Comparison) -> list[tuple[dict[str, str], int]]:
    """Return each kind of machine that the runs of the experiments ran on, and how many did."""
    counts: Counter[tuple[str, ...]] = Counter()
    for result in comparison.results.values():
        counts[tuple(str(result.machine.get(name, "")) for name in _MACHINE)] += 1
    return [
        (dict(zip(_MACHINE, values, strict=True)), count) for values, count in counts.most_common()
    ]


def _html(comparison: Comparison, drawn: dict[str, str], fingerprint: str) -> str:
    study, shown = comparison.study, _shown(comparison)
    jobs = [job for job in study.jobs if comparison.result(job)]
    equal, _, total = comparison.counts()
    seconds = sum(result.seconds for result in comparison.results.values())
    epochs = sum(len(result.log["seconds"]) - 1 for result in comparison.results.values())
    tiles = [(f"{equal} of {total}", "published cells equal")] if total else []
    for experiment in shown:
        tiles += [
            (
                f"{log.agreed} of {len(log.differences)}",
                f"equal rows of the log: {log.log.title}",
            )
            for log in comparison.logs[experiment.name]
        ]
    repeats = len(comparison.results) - len(jobs)
    done = f"{len(jobs)} + {repeats}" if repeats > 0 else str(len(jobs))
    tiles.append((done, "runs" + (" + repeats" if repeats > 0 else "") + f", {epochs} epochs"))
    tiles.append((_duration(seconds), "training, all runs added up"))
    links = [(slug(e.name), e.title) for e in shown]
    links += [("differing", "Cells that differ")] if comparison.spreads else []
    links.append(("machines", "What it ran on"))
    missing = len([r for e in shown for r in e.jobs if comparison.result(r) is None])
    notes = [*_same_line(comparison)]
    if missing:
        notes.append(f"{missing} runs of these experiments have no result yet.")
    machines = [
        [str(count), *(escape(machine[name]) for name in _MACHINE)]
        for machine, count in _machines(comparison)
    ]
    css = importlib.resources.files("xpnn.study").joinpath("report.css").read_text("utf-8")
    parts = [
        "<!doctype html><html lang=en><head><meta charset=utf-8>",
        '<meta name=viewport content="width=device-width,initial-scale=1">',
        f"<title>{escape(study.title)}</title><style>:root{{{figures.variables()}}}",
        f"@media(prefers-color-scheme:dark){{:root{{{figures.variables(dark=True)}}}}}",
        f"{css}</style></head><body>",
        f"<header><div><h1>{escape(study.title)}</h1>",
        f"<p>{escape(study.about)}</p>" if study.about else "",
        '<div class="tiles">',
        *(f'<div class="tile"><b>{a}</b><span>{escape(b)}</span></div>' for a, b in tiles),
        "</div></div></header><nav><div>",
        *(f'<a href="#{link}">{escape(title)}</a>' for link, title in links),
        "</div></nav><main>",
        _legend_of_cells() if total else "",
        *(f"<p>{escape(note)}</p>" for note in notes),
        *(_html_experiment(comparison, experiment, drawn) for experiment in shown),
        _differing(comparison, drawn),
        '<h2 id="machines">What it ran on</h2>',
        _grid(["runs", *_MACHINE.values()], machines, 0),
        f"<p class=soft>Data: SHA-256 {fingerprint[:16]}… of the arrays.</p>",
        "<footer>Made by <code>xpnn study</code>.</footer></main></body></html>",
    ]
    return "".join(parts) + "\n"


def _legend_of_cells() -> str:
    return (
        "<p class=soft>In the tables, our figure stands above the published one: "
        "<span class='key same'>✓ equal to the last printed digit</span> "
        "<span class='key other'>the difference, where not</span>. "
        "Times are shown, not compared.</p>"
    )


# --- Markdown and CSV


def _markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _markdown_cell(cell: Cell) -> str:
    ours = cell.ours or "–"
    if cell.published is None:
        return ours
    if cell.equal is None:
        return f"{ours} (published {cell.published})"
    return f"{ours} ✓" if cell.equal else f"**{ours}** (published {cell.published})"


def _markdown(comparison: Comparison, drawn: dict[str, str]) -> str:
    study = comparison.study
    parts = [f"# {study.title}\n", study.about + "\n", f"**{headline(comparison)}.**\n"]
    if "main" in drawn:
        parts.append("![Test accuracy per epoch, published and ours](figures/main.svg)\n")
    parts += [f"{sentence}\n" for sentence in _same_line(comparison)]
    for experiment in _shown(comparison):
        parts += [f"## {experiment.title}\n", experiment.about + "\n"]
        for compared in comparison.logs[experiment.name]:
            parts.append(f"Log of {compared.log.title}: {_log_sentence(compared)}\n")
        for table in comparison.tables[experiment.name]:
            head = [*table.table.header, *(QUANTITIES[q] for q in table.table.quantities)]
            rows = [[*row.labels, *map(_markdown_cell, row.cells)] for row in table.rows]
            parts += [f"### {table.table.title}\n", _markdown_table(head, rows)]
    if comparison.spreads:
        head = ["run", "figure", "published", "ours", "repeats", "their range", "median"]
        rows = [
            [
                " – ".join(_named(comparison, s.cell.job)),
                QUANTITIES[s.cell.quantity],
                s.cell.published or "",
                s.cell.ours or "",
                *_draw_summary(s),
            ]
            for s in comparison.spreads
        ]
        parts += ["## Cells that differ\n", _explanation(comparison) + "\n"]
        parts.append(_markdown_table([*head, "so the published one is"], rows))
    head = ["runs", *_MACHINE.values()]
    rows = [[str(count), *machine.values()] for machine, count in _machines(comparison)]
    parts += ["## What it ran on\n", _markdown_table(head, rows)]
    return "\n".join(parts)


def _csv(comparison: Comparison) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    head = ["experiment", "table", "line", "row", "figure", "published", "ours", "equal"]
    writer.writerow([*head, "difference"])
    for experiment in comparison.study.experiments:
        for compared in comparison.tables[experiment.name]:
            for row in compared.rows:
                for cell in row.cells:
                    writer.writerow(
                        [
                            experiment.name,
                            compared.table.title,
                            compared.table.line or "",
                            ", ".join(row.labels),
                            cell.quantity,
                            cell.published or "",
                            cell.ours or "",
                            {True: "yes", False: "no", None: ""}[cell.equal],
                            cell.difference if cell.equal is False else "",
                        ]
                    )
    return text.getvalue()
