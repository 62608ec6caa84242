"""The definition of a study: a TOML file is read as experiments, each with its jobs."""

from __future__ import annotations

import dataclasses
import itertools
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
KINDS = {
    name: kind
    for name, kind in {**types_of(Settings), **types_of(Job), "environment": dict}.items()
    if name not in ("settings", "parts")
}
_WANTED = {**WANTED, dict: "a table of texts"}
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
        What stands above it.
    header
        The headings of the columns that name a row.
    quantities
        The names in `QUANTITIES` that it shows.
    labels
        For each row, its texts in the columns that name it.
    jobs
        For each row, its job.
    published
        For each row, what was published, by quantity; None if nothing was.
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
        What stands above it and below.
    quantities
        The columns of the logs.
    labels
        For each job, its name in the legend.
    jobs
        The jobs whose logs are drawn.
    functions
        The activation functions that are drawn instead.
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
    """A job whose log was published: the columns of that log by name."""

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
        Whether it is done only if it is asked for.
    jobs
        All jobs of its tables, figures and logs, each once.
    tables, figures, logs
        What the report shows.
    """

    name: str
    title: str
    about: str
    long: bool
    jobs: tuple[Job, ...]
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()
    logs: tuple[Log, ...] = ()


@dataclass(frozen=True)
class Study:
    """Experiments, and the ways to repeat a job whose result isn't what was published.

    Attributes
    ----------
    title, about
        What stands at the top of the report.
    experiments
        In the order of the report.
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
        """All jobs, each once, in order."""
        return unique(job for experiment in self.experiments for job in experiment.jobs)

    def selected(self, only: Sequence[str] | None = None, *, long: bool = False) -> Study:
        """Return the study with some of its experiments.

        Parameters
        ----------
        only
            The names of the experiments, long or not; all if None.
        long
            Whether all means the long ones too.

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
        """Return the repeats of a job: the same run where it is rounded differently."""
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
    except UnicodeDecodeError:
        raise ArgumentError(
            f"study must be a TOML file, got {str(study)!r}, which isn't text"
        ) from None
    except OSError as error:
        raise ArgumentError(
            f"study must be {ARTICLE!r} or a TOML file, got {str(study)!r}: {error.strerror}"
        ) from None


def load_study(study: PathLike, **overrides: Any) -> Study:
    """Read the definition of a study.

    Parameters
    ----------
    study
        "article", or the path of a TOML file.
    overrides
        Settings for every job, instead of the file's own. `epochs` doesn't change the long
        experiments.

    Returns
    -------
    study
        With all its experiments, long ones too.

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
    """Return the study that a text describes, and load the parts that it names.

    Parameters
    ----------
    text
        TOML.
    name
        The path of its file: messages begin with it, and the study's `parts` are relative to it.
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
            given = _list("parts", content["parts"]) if "parts" in content else []
            parts = [str((Path(name).parent / _typed("parts", p, str)).resolve()) for p in given]
        fixed = {k: _checked(k, v) for k, v in overrides.items() if v is not None}
        return _study(content, fixed, load_own_parts(parts))
    except ArgumentError as error:
        raise ArgumentError(f"{name}: {error}") from None


def _study(
    content: dict[str, Any], fixed: dict[str, Any], parts: tuple[tuple[str, str], ...]
) -> Study:
    """Return the study that a TOML file holds; `fixed` are settings that override the file's."""
    settings, own = _split(content, _STUDY_KEYS, "study")
    title, about = _text(own, "title", "Study"), _text(own, "about", "")
    repeats = []
    for i, entry in enumerate(_tables(own, "repeat"), 1):
        changes, _ = _split(entry, (), f"repeat {i}")
        repeats.append({k: _checked(k, v) for k, v in changes.items()})
    fixed = {**fixed, "parts": dict(parts)}
    experiments: list[Experiment] = []
    if "experiment" not in own:
        jobs = _grid(settings, fixed)
        experiments.append(Experiment("study", title, "", False, jobs, (_varied(title, jobs),)))
    for entry in _tables(own, "experiment"):
        found = _experiment(entry, settings, fixed)
        if found.name in [e.name for e in experiments]:
            raise ArgumentError(f"two experiments have the name {found.name!r}")
        experiments.append(found)
    if not experiments:
        raise ArgumentError("experiment must not be empty")
    folders = sorted({job.data for experiment in experiments for job in experiment.jobs})
    if len(folders) > 1:
        raise ArgumentError(f"data must be one folder for all runs, got {', '.join(folders)}")
    return Study(title, about, tuple(experiments), tuple(repeats), parts)


def _experiment(
    entry: dict[str, Any], settings: dict[str, Any], fixed: dict[str, Any]
) -> Experiment:
    if "name" not in entry:
        raise ArgumentError("each experiment must have a name")
    name = _text(entry, "name", "")
    where = f"experiment {name!r}"
    given, own = _split(entry, _EXPERIMENT_KEYS, where)
    base = {**settings, **given}
    try:
        title, about = _text(own, "title", name), _text(own, "about", "")
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
    groups = [*(table.jobs for table in tables), *(figure.jobs for figure in figures)]
    jobs = unique([*itertools.chain(*groups), *(log.job for log in logs)])
    return Experiment(name, title, about, long, jobs, tuple(tables), tuple(figures), tuple(logs))


def _table(entry: dict[str, Any], base: dict[str, Any], fixed: dict[str, Any]) -> Table:
    given, own = _split(entry, _TABLE_KEYS, "table")
    title = _text(own, "title", "")
    rows = _list("rows", own.get("rows"))
    jobs = tuple(_job({**base, **given, **_typed("rows", row, dict)}, fixed) for row in rows)
    _check_distinct(jobs)
    if "published" not in own:
        return _varied(title, jobs)
    source = published.table(_typed("published", own["published"], int))
    if len(source.rows) != len(jobs):
        raise ArgumentError(
            f"table {title!r} has {len(jobs)} rows, the published one {len(source.rows)}"
        )
    header = source.header
    if "labels" in own:
        header = tuple(_typed("labels", text, str) for text in _list("labels", own["labels"]))
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
    title, about = _text(own, "title", ""), _text(own, "about", "")
    if "functions" in own:
        names = [_typed("functions", name, str) for name in _list("functions", own["functions"])]
        for name in names:
            Settings(activation=name)
        span = _list("range", own.get("range", [-5, 5]))
        ends = tuple(finite("range", _typed("range", end, float)) for end in span)
        if len(ends) != 2 or ends[0] >= ends[1]:
            raise ArgumentError(f"range must be two numbers, the lower one first, got {span!r}")
        return Figure(title, about, functions=tuple(names), range=ends)
    quantities = _list("quantities", own.get("quantities", ["test_accuracy"]))
    for quantity in quantities:
        if quantity not in published.LOG_COLUMNS:
            raise ArgumentError(f"unknown quantity {quantity!r} of a figure")
    labels, jobs = [], []
    for row in _list("runs", own.get("runs")):
        row = dict(_typed("runs", row, dict))
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
    free = {name: _values(name, v) for name, v in settings.items() if name not in fixed}
    combinations = itertools.product(*free.values())
    jobs = tuple(
        Job.from_dict({**dict(zip(free, values, strict=True)), **fixed}) for values in combinations
    )
    _check_distinct(jobs)
    return jobs


def _values(name: str, value: Any) -> list[Any]:
    if name == "data" and isinstance(value, list):
        raise ArgumentError("data must be one folder for all runs, got a list")
    given = _list(name, value) if isinstance(value, list) else [value]
    return [_checked(name, v) for v in given]


def _job(settings: Mapping[str, Any], fixed: Mapping[str, Any]) -> Job:
    free = {name: _checked(name, v) for name, v in settings.items() if name not in fixed}
    return Job.from_dict({**free, **fixed})


def _check_distinct(jobs: Sequence[Job]) -> None:
    seen: dict[str, Job] = {}
    for job in jobs:
        if seen.setdefault(job.key, job) is not job:
            raise ArgumentError(f"two runs are the same: {job}")


def _checked(name: str, value: Any) -> Any:
    """Return the value of a setting if there is such a setting and it has the right type."""
    if name not in KINDS:
        raise unknown("setting", name, KINDS)
    value = _typed(name, value, KINDS[name])
    if name == "environment":
        return {k: _typed(f"environment variable {k}", v, str) for k, v in value.items()}
    return value


def _typed(name: str, value: Any, kind: type) -> Any:
    """Return `value` if it has this type; integers are accepted as floats, truth values aren't."""
    accepted = (int, float) if kind is float else kind
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        raise ArgumentError(f"{name} must be {_WANTED[kind]}, got {_shown(value)}")
    return float(value) if isinstance(value, int) and kind is float else value


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "nothing" if value is None else repr(value)


def _text(entry: Mapping[str, Any], name: str, default: str) -> str:
    text: str = _typed(name, entry.get(name, default), str)
    return text


def _list(name: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ArgumentError(f"{name} must be a list, got {_shown(value)}")
    if not value:
        raise ArgumentError(f"{name} must not be an empty list")
    return value


def _tables(entry: Mapping[str, Any], name: str) -> Iterator[dict[str, Any]]:
    given = entry.get(name, [])
    if not isinstance(given, list):
        raise ArgumentError(f"{name} must be written [[{name}]], got {_shown(given)}")
    for value in given:
        if not isinstance(value, dict):
            raise ArgumentError(f"{name} must be written [[{name}]], got {_shown(value)}")
        yield value
