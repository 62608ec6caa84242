"""The definition of a study: a TOML file with experiments, each with its jobs."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import re
import shlex
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xpnn._core import limits
from xpnn._core.files import PathLike, as_path, real
from xpnn._core.registry import WANTED
from xpnn.errors import ArgumentError, finite, integer, unknown
from xpnn.metrics import METRICS, as_metric
from xpnn.settings import FOR_TABLES, Settings, types_of
from xpnn.source import READING, SHARED, Source
from xpnn.study.article import published
from xpnn.study.job import Job, load_own_parts, loaded_parts
from xpnn.study.quantities import QUANTITIES
from xpnn.training.defaults import OTHERS, TABLE

Entries = dict[str, Any]

ARTICLE = "article"

# the runs of a grid: a few short lists make more than memory holds
_MOST_JOBS = 100_000

# each setting with its type or types: those of `Settings`, `Source` and `Job`
KINDS: dict[str, Any] = {**types_of(Settings), **types_of(Source), **types_of(Job)}
KINDS |= {"environment": dict, "validation": (float, str), "target": (int, str)}
del KINDS["settings"], KINDS["source"], KINDS["parts"]
_WANTED = {**WANTED, dict: "a table"}
_OPTIONAL = {
    field.name
    for kind in (Settings, Source, Job)
    for field in dataclasses.fields(kind)
    if field.default is None
}

# the other keys of each table in the file with their types; [str] is a list of texts
_TABLES = [[dict]]
_TITLES = {"title": str, "about": str}
_STUDY = {**_TITLES, "parts": [str], "experiment": _TABLES, "repeat": _TABLES}
_SHOWN = {"table": _TABLES, "figure": _TABLES, "log": _TABLES}
_EXPERIMENT = {**_TITLES, "name": str, "long": bool, **_SHOWN}
_TABLE = {"title": str, "published": int, "labels": [str], "rows": [dict]}
_FIGURE = _TITLES | {"quantities": [str], "runs": [dict], "functions": [str], "range": [float]}
# "rounding" is a note for readers of the file: whether only rounding separates the two logs
_LOG = {"title": str, "published": str, "rounding": bool}


@dataclass(frozen=True)
class Table:
    """A table with a row for each of its jobs.

    Attributes
    ----------
    header
        The headings of the columns that name a row.
    quantities
        The names in `QUANTITIES` of the other columns.
    labels
        For each row, its texts in the columns that name it.
    published
        For each row, the published figures by quantity; None if there is no published table.
    line
        The line of the article where the published table begins.
    """

    title: str
    header: tuple[str, ...]
    quantities: tuple[str, ...]
    labels: tuple[tuple[str, ...], ...]
    jobs: tuple[Job, ...]
    published: tuple[Mapping[str, str], ...] | None = None
    line: int | None = None


@dataclass(frozen=True)
class Figure:
    """Curves: columns of the jobs' logs against the epoch, or activation functions.

    Attributes
    ----------
    quantities
        The columns of the logs.
    labels
        The name of each job in the legend.
    functions
        The activation functions that are drawn instead of logs.
    range
        The lowest and the highest argument of the functions.
    """

    title: str
    about: str = ""
    quantities: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    jobs: tuple[Job, ...] = ()
    functions: tuple[str, ...] = ()
    range: tuple[float, float] = (-5.0, 5.0)


@dataclass(frozen=True)
class Log:
    """A job whose log was published, and the columns of the published log by name."""

    title: str
    published: Mapping[str, Sequence[float]]
    job: Job


@dataclass(frozen=True)
class Experiment:
    """Jobs that belong together, and how the report shows them.

    Attributes
    ----------
    name, title, about
        Its name in commands, its title in the report, and a text that describes it.
    long
        Whether it is done only on request.
    tables, figures, logs
        What the report shows.
    """

    name: str
    title: str
    about: str = ""
    long: bool = False
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()
    logs: tuple[Log, ...] = ()

    @functools.cached_property
    def jobs(self) -> tuple[Job, ...]:
        """All jobs of the tables, figures and logs, each once."""
        groups = [
            *(table.jobs for table in self.tables),
            *(figure.jobs for figure in self.figures),
            [log.job for log in self.logs],
        ]
        return unique(itertools.chain(*groups))


@dataclass(frozen=True)
class Study:
    """Experiments, and the ways to repeat a job whose result differs from the published one.

    Attributes
    ----------
    title, about
        The heading of the report, and the text below.
    experiments
        The experiments, in the order of the report.
    repeats
        For each way to repeat a job, the settings that it changes.
    parts
        The files of the user's own parts, each with its SHA-256.
    """

    title: str
    about: str
    experiments: tuple[Experiment, ...]
    repeats: tuple[Mapping[str, Any], ...] = ()
    parts: tuple[tuple[str, str], ...] = ()

    @property
    def jobs(self) -> tuple[Job, ...]:
        """All jobs of the experiments, each once."""
        return unique(job for experiment in self.experiments for job in experiment.jobs)

    def selected(self, only: Sequence[str] | None = None, *, long: bool = False) -> Study:
        """Return the study with some of its experiments.

        Parameters
        ----------
        only
            The names of the experiments, long or not. If None, all that aren't long.
        long
            Whether to include the long ones if `only` is None.

        Raises
        ------
        ArgumentError
            If there is no experiment of that name.
        """
        names = [experiment.name for experiment in self.experiments]
        if isinstance(only, str):
            raise ArgumentError(f"only must be a list of names such as [{only!r}], got {only!r}")
        for name in only or ():
            if name not in names:
                raise unknown("experiment", name, names)
        chosen = tuple(
            e for e in self.experiments if (e.name in only if only else long or not e.long)
        )
        return dataclasses.replace(self, experiments=chosen)

    def variants(self, job: Job) -> tuple[Job, ...]:
        """Return the repeats of a job: the same run, but rounded differently."""
        return unique(job.replaced(**changes) for changes in self.repeats)


def unique(jobs: Iterable[Job]) -> tuple[Job, ...]:
    """Return the jobs without those that ask for the same as an earlier one."""
    found: dict[str, Job] = {}
    for job in jobs:
        found.setdefault(job.key, job)
    return tuple(found.values())


def source_of(study: PathLike) -> str:
    """Return the text of a study: "article", or the path of a TOML file."""
    if study == ARTICLE:
        return published.text("article.toml")
    path = as_path("study", study)
    try:
        return limits.read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it isn't text"
        raise ArgumentError(
            f"study must be {ARTICLE!r} or a TOML file, got {str(study)!r}: {reason}"
        ) from None


@limits.bounded
def load_study(
    study: PathLike,
    *,
    parts: Sequence[PathLike] = (),
    max_bytes: int | None = None,
    **overrides: Any,
) -> Study:
    """Read the definition of a study.

    Parameters
    ----------
    study
        "article", or the path of a TOML file.
    parts
        The files of your own parts that the study needs. They are run; those that only the file
        names aren't.
    max_bytes
        How many bytes of memory the file may take; 64 MiB if None.
    overrides
        Settings of every job, which replace those in the file. `epochs` doesn't change the long
        experiments.

    Returns
    -------
    study
        The study with all its experiments, also the long ones.

    Raises
    ------
    ArgumentError
        If the file can't be read or isn't TOML; a key is unknown; a value has the wrong type or
        isn't allowed; a list is empty; two jobs are the same; or it needs `parts`.
    """
    paths = [str(real(as_path("parts", path))) for path in parts]
    return parse_study(source_of(study), str(study), parts=paths, **overrides)


def named_parts(text: str, name: str) -> list[str]:
    """Return the absolute paths of the parts that the text of a study names; nothing is run."""
    content = _content(text, name)
    try:
        given = _typed("parts", content["parts"], [str]) if "parts" in content else []
    except ArgumentError as error:
        raise ArgumentError(f"{name}: {error}") from None
    return [str(real(Path(name).parent / path)) for path in given]


def parse_study(text: str, name: str, *, parts: Sequence[str] = (), **overrides: Any) -> Study:
    """Return the study that a text in TOML describes.

    Parameters
    ----------
    text
        The content of the file.
    name
        The path of the file, with which messages begin.
    parts
        The files of parts to load. If the study names some and none are given, they must have
        been loaded before: whoever only reads a study runs nothing.
    overrides
        As for `load_study`.
    """
    content, named = _content(text, name), named_parts(text, name)
    try:
        # a setting may name a part of the user's
        loaded = loaded_parts(named) if named and not parts else load_own_parts(parts)
        if loaded is None:
            raise unnamed_parts(named)
        fixed = {k: _checked(k, v) for k, v in overrides.items() if v is not None}
        return _study(content, fixed, loaded)
    except ArgumentError as error:
        raise ArgumentError(f"{name}: {error}") from None
    except RecursionError:
        raise ArgumentError(f"{name}: it is nested too deeply") from None


def unnamed_parts(paths: Sequence[str]) -> ArgumentError:
    """Return the error about parts that a file names, and the user doesn't."""
    options = " ".join(f"--parts {shlex.quote(path)}" for path in paths)
    return ArgumentError(
        "it needs parts, which are Python code and don't run because a file names them; if you "
        f"trust them, name them yourself: {options}, or in Python parts=[…]"
    )


def _content(text: str, name: str) -> Entries:
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ArgumentError(f"{name}: not TOML: it is nested too deeply") from None
    # a number may have too many digits
    except ValueError as error:
        raise ArgumentError(f"{name}: not TOML: {error}") from None


def _study(content: Entries, fixed: Entries, parts: tuple[tuple[str, str], ...]) -> Study:
    """Return the study that a TOML file holds; `fixed` are settings that override the file's."""
    settings, own = _split(_flattened(content), _STUDY, "study")
    title = own.get("title", "Study")
    repeats = []
    for i, entry in enumerate(own.get("repeat", ()), 1):
        changes, _ = _split(entry, {}, f"repeat {i}")
        repeats.append({k: _checked(k, v) for k, v in changes.items()})
    fixed = {**fixed, "parts": dict(parts)}
    if "experiment" in own:
        experiments = [_experiment(entry, settings, fixed) for entry in own["experiment"]]
    else:
        table = _varied(title, _grid(settings, fixed))
        experiments = [Experiment("study", title, tables=(table,))]
    if not experiments:
        raise ArgumentError("experiment must not be empty")
    names = [experiment.name for experiment in experiments]
    for i, name in enumerate(names):
        if name in names[:i]:
            raise ArgumentError(f"two experiments have the name {name!r}")
    jobs = [job for experiment in experiments for job in experiment.jobs]
    for name in SHARED:
        given = sorted({str(getattr(job.source, name)) for job in jobs})
        if len(given) > 1:
            raise ArgumentError(f"{name} must be the same for all runs, got {', '.join(given)}")
    return Study(title, own.get("about", ""), tuple(experiments), tuple(repeats), parts)


def _flattened(content: Entries) -> Entries:
    """Return the file's content with the keys of a table [data] beside the others."""
    table = content.get("data")
    if not isinstance(table, dict):
        return content
    allowed = ["path", *READING[1:]]
    for key in table:
        if key not in allowed:
            raise unknown("key of the data:", key, allowed)
        if key in content:
            raise ArgumentError(f"{key} is given twice, in [data] and outside")
    path = _typed("path of the data", _given(table, "path"), str)
    rest = {key: value for key, value in table.items() if key != "path"}
    return {**content, **rest, "data": path}


def _experiment(entry: Entries, settings: Entries, fixed: Entries) -> Experiment:
    if "name" not in entry:
        raise ArgumentError("each experiment must have a name")
    name = _typed("name", entry["name"], str)
    try:
        base, own = _split(entry, _EXPERIMENT, "experiment", settings)
        title, long = own.get("title", name), own.get("long", False)
        if long:
            fixed = {k: v for k, v in fixed.items() if k != "epochs"}
        tables = [_table(e, base, fixed) for e in own.get("table", ())]
        figures = [_figure(e, base, fixed) for e in own.get("figure", ())]
        logs = [_log(e, base, fixed) for e in own.get("log", ())]
        if not _SHOWN.keys() & own.keys():
            tables = [_varied(title, _grid(base, fixed))]
    except ArgumentError as error:
        raise ArgumentError(f"experiment {name!r}: {error}") from None
    shown = tuple(tables), tuple(figures), tuple(logs)
    return Experiment(name, title, own.get("about", ""), long, *shown)


def _table(entry: Entries, base: Entries, fixed: Entries) -> Table:
    base, own = _split(entry, _TABLE, "table", base)
    title = own.get("title", "")
    jobs = _jobs(({**base, **row} for row in _given(own, "rows")), fixed)
    if "published" not in own:
        return _varied(title, jobs)
    source = published.table(own["published"])
    if len(source.rows) != len(jobs):
        raise ArgumentError(
            f"table {title!r} has {len(jobs)} rows, the published one {len(source.rows)}"
        )
    header = tuple(own.get("labels", source.header))
    if len(header) != len(source.header):
        raise ArgumentError(f"labels must be {len(source.header)} texts, got {list(header)!r}")
    return Table(title, header, source.quantities, source.labels, jobs, source.rows, source.line)


def _varied(title: str, jobs: tuple[Job, ...]) -> Table:
    """Return a table whose rows are labelled with the settings in which the jobs differ."""
    listed = [job.as_dict() for job in jobs]
    names = [n for n in listed[0] if len({repr(entry[n]) for entry in listed}) > 1]
    names = names or ["activation"]
    labels = tuple(tuple(_label(entry[n]) for n in names) for entry in listed)
    return Table(title, tuple(names), tuple(QUANTITIES), labels, jobs)


def _label(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(f"{k}={v}" for k, v in value.items()) or "–"
    return "–" if value is None else str(value)


def _figure(entry: Entries, base: Entries, fixed: Entries) -> Figure:
    base, own = _split(entry, _FIGURE, "figure", base)
    title, about = own.get("title", ""), own.get("about", "")
    if "functions" in own:
        for function in own["functions"]:
            Settings(activation=function)
        ends = own.get("range", Figure.range)
        low, high = (finite("range", end) for end in (ends[0], ends[-1]))
        if len(ends) != 2 or low >= high:
            raise ArgumentError(f"range must be two numbers, the lower one first, got {ends!r}")
        return Figure(title, about, functions=tuple(own["functions"]), range=(low, high))
    quantities = own.get("quantities", ["test_accuracy"])
    rows = _given(own, "runs")
    labels = tuple(_typed("label", row.pop("label", ""), str) for row in rows)
    jobs = tuple(_job({**base, **row}, fixed) for row in rows)
    for job in jobs:
        metrics = [f"{part}_{name}" for part in ("train", "test") for name in job.columns]
        for quantity in quantities:
            if quantity not in (*published.LOG_COLUMNS, *metrics):
                raise unknown("quantity", quantity, [*published.LOG_COLUMNS, *metrics])
    return Figure(title, about, tuple(quantities), labels, jobs)


def _log(entry: Entries, base: Entries, fixed: Entries) -> Log:
    base, own = _split(entry, _LOG, "log", base)
    name = _given(own, "published")
    columns = published.log(name)
    return Log(own.get("title", name), columns, _job(base, fixed))


def _split(
    entry: Entries, keys: Mapping[str, Any], where: str, base: Mapping[str, Any] = {}
) -> tuple[Entries, Entries]:
    """Return the settings in `entry` or else in `base`, and the values of its other keys."""
    settings, own = dict(base), {}
    for key, value in entry.items():
        if key in KINDS:
            settings[key] = value
        elif key in keys:
            own[key] = _typed(key, value, keys[key])
        else:
            raise unknown(f"key of the {where}:", key, [*KINDS, *keys])
    return settings, own


def _given(own: Entries, key: str) -> Any:
    if key not in own:
        raise ArgumentError(f"{key} must be given")
    return own[key]


def _grid(settings: Entries, fixed: Entries) -> tuple[Job, ...]:
    """Return a job for every combination of the values in lists."""
    free = {name: _whole(name, v) for name, v in settings.items() if name not in fixed}
    for name in SHARED:
        if isinstance(free.get(name), list):
            raise ArgumentError(
                f"{name} must be the same for all runs, got a list"
                + '; several columns are one text: ignore = "1,name"' * (name == "ignore")
            )
    listed = ((name, v if isinstance(v, list) else [v]) for name, v in free.items())
    lists = [_typed(name, values, [KINDS[name]]) for name, values in listed]
    if (count := math.prod(map(len, lists))) > _MOST_JOBS:
        raise ArgumentError(f"the lists must make {_MOST_JOBS} runs at most, got {count:.3g}")
    combined = itertools.product(*lists)
    return _jobs([dict(zip(free, values, strict=True)) for values in combined], fixed)


def _jobs(listed: Iterable[Entries], fixed: Entries) -> tuple[Job, ...]:
    """Return a job for each of these settings; no two may be the same."""
    jobs: dict[str, Job] = {}
    for settings in listed:
        job = _job(settings, fixed)
        if job.key in jobs:
            raise ArgumentError(f"two runs are the same: {job}")
        jobs[job.key] = job
    return tuple(jobs.values())


def _job(settings: Entries, fixed: Entries) -> Job:
    free = {name: _checked(name, v) for name, v in settings.items() if name not in fixed}
    given = {**free, **fixed}
    # what isn't said is the default of `xpnn train`
    table = Source(given["data"]).is_table if "data" in given else False
    usual = dict(FOR_TABLES) if table else {}
    asked = {name: given.get(name) for name in ("epochs", "validation")}
    usual["patience"] = (TABLE if table else OTHERS).waits(**asked)
    return Job.from_dict({**usual, **given})


def _checked(name: str, value: Any) -> Any:
    """Return the value of a setting if there is such a setting and it has the right type."""
    if name not in KINDS:
        raise unknown("setting", name, KINDS)
    value = _typed(name, _whole(name, value), KINDS[name])
    if name == "environment":
        return {
            _variable(k): _variable_text(f"environment variable {k}", v) for k, v in value.items()
        }
    if name == "metrics":
        for text in METRICS.split(value):
            as_metric(text)
    if name == "patience":
        integer(name, value, minimum=1)
    return value


def _whole(name: str, value: Any) -> Any:
    """Return a list of metrics as one text: each run has all of them, where other lists vary."""
    if name == "metrics" and isinstance(value, list):
        return ",".join(_typed(name, value, [str]))
    return value


def checked_settings(given: Mapping[str, Any]) -> Entries:
    """Return the settings of a saved job, of which those without a value are None."""
    settings: Entries = {}
    for name, value in given.items():
        if name == "parts":
            files = value.items() if isinstance(value, dict) else [(value, value)]
            settings[name] = {_typed(name, k, str): _typed(name, v, str) for k, v in files}
        elif value is None and name in _OPTIONAL:
            settings[name] = None
        else:
            settings[name] = _checked(name, value)
    return settings


def _variable(name: str) -> str:
    """Return the name of an environment variable if a process can have it."""
    if not re.fullmatch(r"[^=\0]+", name):
        raise ArgumentError(f"environment must have names without '=' and NUL, got {name!r}")
    return name


def _variable_text(name: str, value: Any) -> str:
    text: str = _typed(name, value, str)
    if "\0" in text:
        raise ArgumentError(f"{name} must be text without NUL, got {text!r}")
    return text


def _typed(name: str, value: Any, kind: Any) -> Any:
    """Return `value` if it has this type, or is a list of it; an integer may stand for a float."""
    if kind is _TABLES:
        if not isinstance(value, list) or not all(isinstance(table, dict) for table in value):
            raise ArgumentError(f"{name} must be written [[{name}]], got {value!r}")
        return value
    if isinstance(kind, list):
        if not isinstance(value, list):
            raise ArgumentError(f"{name} must be a list, got {value!r}")
        if not value:
            raise ArgumentError(f"{name} must not be an empty list")
        return [_typed(name, item, kind[0]) for item in value]
    kinds = kind if isinstance(kind, tuple) else (kind,)
    as_float = float in kinds and isinstance(value, int)
    if not (isinstance(value, kinds) or as_float) or (isinstance(value, bool) and kind is not bool):
        # as TOML writes it
        shown = str(value).lower() if isinstance(value, bool) else repr(value)
        wanted = " or ".join(_WANTED[own] for own in kinds)
        raise ArgumentError(f"{name} must be {wanted}, got {shown}")
    return finite(name, value) if as_float else value
