"""The definition of a study: a TOML file with experiments, each with its jobs."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xpnn._core.files import PathLike, as_path
from xpnn._core.registry import WANTED
from xpnn.errors import ArgumentError, finite, unknown
from xpnn.settings import Settings, types_of
from xpnn.study.article import published
from xpnn.study.job import Job, load_own_parts
from xpnn.study.quantities import QUANTITIES

ARTICLE = "article"

# each setting with its type: those of `Settings`, then those of `Job`
KINDS = {**types_of(Settings), **types_of(Job), "environment": dict}
del KINDS["settings"], KINDS["parts"]
_WANTED = {**WANTED, dict: "a table"}
_STUDY_KEYS = ("title", "about", "parts", "experiment", "repeat")
_EXPERIMENT_KEYS = ("name", "title", "about", "long", "table", "figure", "log")
_TABLE_KEYS = ("title", "published", "labels", "rows")
_FIGURE_KEYS = ("title", "about", "quantities", "functions", "range", "runs")
# "rounding" is a note for readers of the file: whether only rounding separates the two logs
_LOG_KEYS = ("title", "published", "rounding")


@dataclass(frozen=True)
class Table:
    """A table with a row for each of its jobs.

    Attributes
    ----------
    title
        The heading above it.
    header
        The headings of the columns that name a row.
    quantities
        The names in `QUANTITIES` of the other columns.
    labels
        For each row, its texts in the columns that name it.
    jobs
        The job of each row.
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
    title, about
        The heading above it, and the text below.
    quantities
        The columns of the logs.
    labels
        The name of each job in the legend.
    jobs
        The jobs whose logs are drawn.
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
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it isn't text"
        raise ArgumentError(
            f"study must be {ARTICLE!r} or a TOML file, got {str(study)!r}: {reason}"
        ) from None


def load_study(study: PathLike, **overrides: Any) -> Study:
    """Read the definition of a study.

    Parameters
    ----------
    study
        "article", or the path of a TOML file.
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
        isn't allowed; a list is empty; or two jobs are the same.
    """
    return parse_study(source_of(study), str(study), **overrides)


def parse_study(
    text: str, name: str, *, parts: Sequence[str] | None = None, **overrides: Any
) -> Study:
    """Return the study that a text in TOML describes, and load the parts that it names.

    Parameters
    ----------
    text
        The content of the file.
    name
        The path of the file: messages begin with it, and the study's `parts` are relative to it.
    parts
        The files to load instead of those that the study names.
    overrides
        As for `load_study`.
    """
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ArgumentError(f"{name}: not TOML: {error}") from None
    try:
        if parts is None:
            given = _list("parts", content["parts"], str) if "parts" in content else []
            parts = [str((Path(name).parent / path).resolve()) for path in given]
        fixed = {k: _checked(k, v) for k, v in overrides.items() if v is not None}
        return _study(content, fixed, load_own_parts(parts))
    except ArgumentError as error:
        raise ArgumentError(f"{name}: {error}") from None


def _study(
    content: dict[str, Any], fixed: dict[str, Any], parts: tuple[tuple[str, str], ...]
) -> Study:
    """Return the study that a TOML file holds; `fixed` are settings that override the file's."""
    settings, own = _split(content, _STUDY_KEYS, "study")
    title, about = _text(own, "title", "Study"), _text(own, "about")
    repeats = []
    for i, entry in enumerate(_tables(own, "repeat"), 1):
        changes, _ = _split(entry, (), f"repeat {i}")
        repeats.append({k: _checked(k, v) for k, v in changes.items()})
    fixed = {**fixed, "parts": dict(parts)}
    if "experiment" in own:
        experiments = [_experiment(e, settings, fixed) for e in _tables(own, "experiment")]
    else:
        table = _varied(title, _grid(settings, fixed))
        experiments = [Experiment("study", title, tables=(table,))]
    if not experiments:
        raise ArgumentError("experiment must not be empty")
    names = [experiment.name for experiment in experiments]
    for i, name in enumerate(names):
        if name in names[:i]:
            raise ArgumentError(f"two experiments have the name {name!r}")
    folders = sorted({job.data for experiment in experiments for job in experiment.jobs})
    if len(folders) > 1:
        raise ArgumentError(f"data must be one folder for all runs, got {', '.join(folders)}")
    return Study(title, about, tuple(experiments), tuple(repeats), parts)


def _experiment(
    entry: dict[str, Any], settings: dict[str, Any], fixed: dict[str, Any]
) -> Experiment:
    if "name" not in entry:
        raise ArgumentError("each experiment must have a name")
    name = _text(entry, "name")
    where = f"experiment {name!r}"
    given, own = _split(entry, _EXPERIMENT_KEYS, where)
    base = {**settings, **given}
    try:
        title, about = _text(own, "title", name), _text(own, "about")
        long = _typed("long", own.get("long", False), bool)
        if long:
            fixed = {k: v for k, v in fixed.items() if k != "epochs"}
        tables = [_table(e, base, fixed) for e in _tables(own, "table")]
        figures = [_figure(e, base, fixed) for e in _tables(own, "figure")]
        logs = [_log(e, base, fixed) for e in _tables(own, "log")]
        if not {"table", "figure", "log"} & own.keys():
            tables = [_varied(title, _grid(base, fixed))]
    except ArgumentError as error:
        raise ArgumentError(f"{where}: {error}") from None
    return Experiment(name, title, about, long, tuple(tables), tuple(figures), tuple(logs))


def _table(entry: dict[str, Any], base: dict[str, Any], fixed: dict[str, Any]) -> Table:
    given, own = _split(entry, _TABLE_KEYS, "table")
    title = _text(own, "title")
    rows = _list("rows", own.get("rows"), dict)
    jobs = _jobs(({**base, **given, **row} for row in rows), fixed)
    if "published" not in own:
        return _varied(title, jobs)
    source = published.table(_typed("published", own["published"], int))
    if len(source.rows) != len(jobs):
        raise ArgumentError(
            f"table {title!r} has {len(jobs)} rows, the published one {len(source.rows)}"
        )
    header = tuple(_list("labels", own["labels"], str)) if "labels" in own else source.header
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


def _figure(entry: dict[str, Any], base: dict[str, Any], fixed: dict[str, Any]) -> Figure:
    given, own = _split(entry, _FIGURE_KEYS, "figure")
    title, about = _text(own, "title"), _text(own, "about")
    if "functions" in own:
        functions = _list("functions", own["functions"], str)
        for function in functions:
            Settings(activation=function)
        ends = _list("range", own.get("range", [-5, 5]), float)
        low, high = (finite("range", end) for end in (ends[0], ends[-1]))
        if len(ends) != 2 or low >= high:
            raise ArgumentError(f"range must be two numbers, the lower one first, got {ends!r}")
        return Figure(title, about, functions=tuple(functions), range=(low, high))
    quantities = _list("quantities", own.get("quantities", ["test_accuracy"]), str)
    for quantity in quantities:
        if quantity not in published.LOG_COLUMNS:
            raise unknown("quantity", quantity, published.LOG_COLUMNS)
    labels, jobs = [], []
    for row in _list("runs", own.get("runs"), dict):
        labels.append(_typed("label", row.pop("label", ""), str))
        jobs.append(_job({**base, **given, **row}, fixed))
    return Figure(title, about, tuple(quantities), tuple(labels), tuple(jobs))


def _log(entry: dict[str, Any], base: dict[str, Any], fixed: dict[str, Any]) -> Log:
    given, own = _split(entry, _LOG_KEYS, "log")
    name = _typed("published", own.get("published"), str)
    columns = published.log(name)
    return Log(_text(own, "title", name), columns, _job({**base, **given}, fixed))


def _split(
    entry: Mapping[str, Any], keys: Sequence[str], where: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the settings in `entry`, and the rest, whose keys must be among `keys`."""
    settings = {k: v for k, v in entry.items() if k in KINDS}
    own = {k: v for k, v in entry.items() if k not in KINDS}
    for key in own:
        if key not in keys:
            raise unknown(f"key of the {where}:", key, [*KINDS, *keys])
    return settings, own


def _grid(settings: Mapping[str, Any], fixed: Mapping[str, Any]) -> tuple[Job, ...]:
    """Return a job for every combination of the values in lists."""
    free = {name: value for name, value in settings.items() if name not in fixed}
    if isinstance(free.get("data"), list):
        raise ArgumentError("data must be one folder for all runs, got a list")
    lists = [_list(name, v) if isinstance(v, list) else [v] for name, v in free.items()]
    combined = itertools.product(*lists)
    return _jobs([dict(zip(free, values, strict=True)) for values in combined], fixed)


def _jobs(listed: Iterable[Mapping[str, Any]], fixed: Mapping[str, Any]) -> tuple[Job, ...]:
    """Return a job for each of these settings; no two may be the same."""
    jobs: dict[str, Job] = {}
    for settings in listed:
        job = _job(settings, fixed)
        if job.key in jobs:
            raise ArgumentError(f"two runs are the same: {job}")
        jobs[job.key] = job
    return tuple(jobs.values())


def _job(settings: Mapping[str, Any], fixed: Mapping[str, Any]) -> Job:
    free = {name: _checked(name, v) for name, v in settings.items() if name not in fixed}
    return Job.from_dict({**free, **fixed})


def _checked(name: str, value: Any) -> Any:
    """Return the value of a setting if there is such a setting and it has the right type."""
    if name not in KINDS:
        raise unknown("setting", name, KINDS)
    value = _typed(name, value, KINDS[name])
    if name == "environment":
        return {k: _typed(f"environment variable {k}", v, str) for k, v in value.items()}
    return value


def _typed(name: str, value: Any, kind: type) -> Any:
    """Return `value` if it has this type; an integer is accepted as a float, a bool isn't."""
    accepted = (int, float) if kind is float else kind
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        raise ArgumentError(f"{name} must be {_WANTED[kind]}, got {_shown(value)}")
    return finite(name, value) if isinstance(value, int) and kind is float else value


def _shown(value: object) -> str:
    """Return a value as TOML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return "nothing" if value is None else repr(value)


def _text(entry: Mapping[str, Any], name: str, default: str = "") -> str:
    text: str = _typed(name, entry.get(name, default), str)
    return text


def _list(name: str, value: Any, kind: type | None = None) -> list[Any]:
    """Return `value` if it is a list that isn't empty, with its items checked to be of `kind`."""
    if not isinstance(value, list):
        raise ArgumentError(f"{name} must be a list, got {_shown(value)}")
    if not value:
        raise ArgumentError(f"{name} must not be an empty list")
    return value if kind is None else [_typed(name, item, kind) for item in value]


def _tables(entry: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    given = entry.get(name, [])
    if not isinstance(given, list) or not all(isinstance(table, dict) for table in given):
        raise ArgumentError(f"{name} must be written [[{name}]], got {_shown(given)}")
    return given
