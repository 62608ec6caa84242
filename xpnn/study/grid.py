"""A study's definition: a TOML file becomes experiments, and these a list of runs."""

from __future__ import annotations

import dataclasses
import itertools
import tomllib
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xpnn.errors import ArgumentError, unknown
from xpnn.settings import Settings
from xpnn.study.article import published
from xpnn.study.job import Job, load_own
from xpnn.study.quantities import QUANTITIES

ARTICLE = "article"


def _kinds() -> dict[str, type]:
    """Return the type of each setting, by name: those of `Settings`, then those of `Run`."""
    hints = {**typing.get_type_hints(Settings), **typing.get_type_hints(Job)}
    del hints["settings"], hints["parts"]
    kinds = {}
    for name, hint in hints.items():
        options = [t for t in typing.get_args(hint) if t is not type(None)]
        kinds[name] = options[0] if typing.get_origin(hint) is not tuple and options else hint
    return {**kinds, "environment": dict}


KINDS = _kinds()
_WANTED = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "a table of texts",
}
_STUDY_KEYS = ("title", "about", "parts", "experiment", "repeat")
_EXPERIMENT_KEYS = ("name", "title", "about", "long", "table", "figure", "log")
_TABLE_KEYS = ("title", "published", "labels", "rows")
_FIGURE_KEYS = ("title", "about", "quantities", "functions", "range", "runs")
_LOG_KEYS = ("title", "published", "rounding")


@dataclass(frozen=True)
class Table:
    """Runs, a row each, and what was published of them, if anything."""

    title: str
    header: tuple[str, ...]
    quantities: tuple[str, ...]
    labels: tuple[tuple[str, ...], ...]
    jobs: tuple[Job, ...]
    published: tuple[Mapping[str, str], ...] | None = None
    line: int | None = None


@dataclass(frozen=True)
class Figure:
    """Columns of runs' logs against the epoch, a line each; or activation functions."""

    title: str
    about: str = ""
    quantities: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    jobs: tuple[Job, ...] = ()
    functions: tuple[str, ...] = ()
    range: tuple[float, float] = (-5.0, 5.0)


@dataclass(frozen=True)
class Log:
    """A run whose every row was published."""

    title: str
    published: str
    job: Job


@dataclass(frozen=True)
class Experiment:
    """Runs that belong together, and how the report shows them."""

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
    """Experiments, and the ways to repeat a run that doesn't give what was published."""

    title: str
    about: str
    experiments: tuple[Experiment, ...]
    repeats: tuple[Mapping[str, Any], ...] = ()
    parts: tuple[tuple[str, str], ...] = ()

    @property
    def jobs(self) -> tuple[Job, ...]:
        """All runs, each once, in order."""
        return unique(job for experiment in self.experiments for job in experiment.jobs)

    def selected(self, only: Sequence[str] | None = None, *, long: bool = False) -> Study:
        """Return the study with the experiments called `only`, and the long ones only if asked.

        A long one that is named is asked for.
        """
        names = [experiment.name for experiment in self.experiments]
        for name in only or ():
            if name not in names:
                raise unknown("experiment", name, names)
        chosen = tuple(
            e for e in self.experiments if (e.name in only if only else long or not e.long)
        )
        return dataclasses.replace(self, experiments=chosen)

    def variants(self, job: Job) -> tuple[Job, ...]:
        """Return the repeats of a run: the same run where rounding differs."""
        return unique(job.replaced(**changes) for changes in self.repeats)


def unique(jobs: typing.Iterable[Job]) -> tuple[Job, ...]:
    """Return the runs without those that are the same as an earlier one."""
    found: dict[str, Job] = {}
    for job in jobs:
        found.setdefault(repr(job.identity()), job)
    return tuple(found.values())


def source_of(name: str) -> str:
    """Return the text of a study: "article", or the path of a TOML file."""
    if name == ARTICLE:
        return published.text("article.toml")
    try:
        return Path(name).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ArgumentError(f"study must be a TOML file, got {name!r}, which isn't text") from None
    except OSError as error:
        raise ArgumentError(
            f"study must be {ARTICLE!r} or a TOML file, got {name!r}: {error.strerror}"
        ) from None


def load_study(name: str, **overrides: Any) -> Study:
    """Return the study called `name`: "article", or the path of a TOML file.

    Parameters
    ----------
    name
        What to read.
    overrides
        Settings that take the place of the file's own, for every run; epochs leave the long
        experiments alone.

    Raises
    ------
    ArgumentError
        If the file can't be read or isn't TOML; a key is unknown; a value has the wrong type or
        isn't allowed; a list is empty; or two runs are the same.
    """
    return parse_study(source_of(name), name, **overrides)


def parse_study(
    text: str, name: str, *, parts: Sequence[str] | None = None, **overrides: Any
) -> Study:
    """Return the study that `text` describes, and load the parts that it names.

    `name` is the path of its file, for messages and for `parts`, which are relative to it unless
    they are given here.
    """
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ArgumentError(f"{name}: not TOML: {error}") from None
    try:
        if parts is None:
            given = _list("parts", content["parts"]) if "parts" in content else []
            parts = [str((Path(name).parent / _typed("parts", p, str)).resolve()) for p in given]
        own = load_own(parts)
        study = _study(content, {k: v for k, v in overrides.items() if v is not None})
        return _with_parts(study, own) if own else study
    except ArgumentError as error:
        raise ArgumentError(f"{name}: {error}") from None


def _study(content: dict[str, Any], overrides: dict[str, Any]) -> Study:
    settings, own = _split(content, _STUDY_KEYS, "study")
    title = _text(own, "title", "Study")
    about = _text(own, "about", "")
    repeats = []
    for i, entry in enumerate(_tables(own, "repeat"), 1):
        changes, _ = _split(entry, (), f"repeat {i}")
        repeats.append({k: _checked(k, v) for k, v in changes.items()})
    if "experiment" not in own:
        jobs = _grid({**settings, **overrides})
        only = Experiment("study", title, "", False, jobs, tables=(_varied(title, jobs),))
        return Study(title, about, (only,), tuple(repeats))
    experiments: list[Experiment] = []
    for entry in _tables(own, "experiment"):
        found = _experiment(entry, settings, overrides)
        if found.name in [e.name for e in experiments]:
            raise ArgumentError(f"two experiments have the name {found.name!r}")
        experiments.append(found)
    if not experiments:
        raise ArgumentError("experiment must not be empty")
    places = sorted({job.data for experiment in experiments for job in experiment.jobs})
    if len(places) > 1:
        raise ArgumentError(f"data must be one folder for all runs, got {', '.join(places)}")
    return Study(title, about, tuple(experiments), tuple(repeats))


def _with_parts(study: Study, parts: tuple[tuple[str, str], ...]) -> Study:
    """Return the study with these parts in each of its runs."""

    def own(jobs: tuple[Job, ...]) -> tuple[Job, ...]:
        return tuple(dataclasses.replace(job, parts=parts) for job in jobs)

    experiments = tuple(
        dataclasses.replace(
            each,
            jobs=own(each.jobs),
            tables=tuple(dataclasses.replace(part, jobs=own(part.jobs)) for part in each.tables),
            figures=tuple(dataclasses.replace(part, jobs=own(part.jobs)) for part in each.figures),
            logs=tuple(dataclasses.replace(log, job=own((log.job,))[0]) for log in each.logs),
        )
        for each in study.experiments
    )
    return dataclasses.replace(study, experiments=experiments, parts=parts)


def _experiment(
    entry: dict[str, Any], settings: dict[str, Any], overrides: dict[str, Any]
) -> Experiment:
    if "name" not in entry:
        raise ArgumentError("each experiment must have a name")
    name = _text(entry, "name", "")
    where = f"experiment {name!r}"
    given, own = _split(entry, _EXPERIMENT_KEYS, where)
    title = _text(own, "title", name)
    long = _typed("long", own.get("long", False), bool)
    if long:
        overrides = {k: v for k, v in overrides.items() if k != "epochs"}
    base = {**settings, **given}
    parts = ("table", "figure", "log")
    try:
        tables = [_table(e, base, overrides) for e in _tables(own, "table")]
        figures = [_figure(e, base, overrides) for e in _tables(own, "figure")]
        logs = [_log(e, base, overrides) for e in _tables(own, "log")]
        jobs: tuple[Job, ...] = ()
        if not any(part in own for part in parts):
            jobs = _grid({**base, **overrides})
            tables = [_varied(title, jobs)]
    except ArgumentError as error:
        raise ArgumentError(f"{where}: {error}") from None
    groups = [*(table.jobs for table in tables), *(figure.jobs for figure in figures)]
    jobs = unique([*jobs, *itertools.chain(*groups), *(log.job for log in logs)])
    about = _text(own, "about", "")
    return Experiment(name, title, about, long, jobs, tuple(tables), tuple(figures), tuple(logs))


def _table(entry: dict[str, Any], base: dict[str, Any], overrides: dict[str, Any]) -> Table:
    given, own = _split(entry, _TABLE_KEYS, "table")
    title = _text(own, "title", "")
    rows = _list("rows", own.get("rows"))
    jobs = tuple(_one({**base, **given, **_typed("rows", row, dict), **overrides}) for row in rows)
    _check_distinct(jobs)
    if "published" not in own:
        return _varied(title, jobs)
    source = published.table(_typed("published", own["published"], int))
    if len(source.rows) != len(jobs):
        raise ArgumentError(
            f"table {title!r} has {len(jobs)} rows, the published one {len(source.rows)}"
        )
    header = own.get("labels", source.header)
    if len(header) != len(source.header):
        raise ArgumentError(f"labels must be {len(source.header)} texts, got {header!r}")
    return Table(
        title,
        tuple(header),
        source.quantities,
        source.labels,
        jobs,
        source.rows,
        source.line,
    )


def _varied(title: str, jobs: tuple[Job, ...]) -> Table:
    """Return a table of runs that are labelled with the settings in which they differ."""
    listed = [job.as_dict() for job in jobs]
    names = [n for n in listed[0] if len({repr(entry[n]) for entry in listed}) > 1]
    names = names or ["activation"]
    labels = tuple(tuple(_label(entry[n]) for n in names) for entry in listed)
    return Table(title, tuple(names), tuple(QUANTITIES), labels, jobs)


def _label(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(f"{k}={v}" for k, v in value.items()) or "–"
    return "–" if value is None else str(value)


def _figure(entry: dict[str, Any], base: dict[str, Any], overrides: dict[str, Any]) -> Figure:
    given, own = _split(entry, _FIGURE_KEYS, "figure")
    title, about = _text(own, "title", ""), _text(own, "about", "")
    if "functions" in own:
        names = [_typed("functions", name, str) for name in _list("functions", own["functions"])]
        for name in names:
            Settings(activation=name)
        span = _list("range", own.get("range", [-5, 5]))
        low, high = (float(_typed("range", limit, float)) for limit in span)
        return Figure(title, about, functions=tuple(names), range=(low, high))
    quantities = _list("quantities", own.get("quantities", ["test_accuracy"]))
    for quantity in quantities:
        if quantity not in ("train_accuracy", "train_loss", "test_accuracy", "test_loss"):
            raise ArgumentError(f"unknown quantity {quantity!r} of a figure")
    labels, jobs = [], []
    for row in _list("runs", own.get("runs")):
        row = dict(_typed("runs", row, dict))
        labels.append(_typed("label", row.pop("label", ""), str))
        jobs.append(_one({**base, **given, **row, **overrides}))
    return Figure(title, about, tuple(quantities), tuple(labels), tuple(jobs))


def _log(entry: dict[str, Any], base: dict[str, Any], overrides: dict[str, Any]) -> Log:
    given, own = _split(entry, _LOG_KEYS, "log")
    name = _typed("published", own.get("published"), str)
    published.log(name)
    return Log(_text(own, "title", name), name, _one({**base, **given, **overrides}))


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


def _grid(settings: Mapping[str, Any]) -> tuple[Job, ...]:
    """Return a run for every combination of the lists' values."""
    choices = [_values(name, value) for name, value in settings.items()]
    product = itertools.product(*choices)
    jobs = tuple(_job(dict(zip(settings, values, strict=True))) for values in product)
    _check_distinct(jobs)
    return jobs


def _values(name: str, value: Any) -> list[Any]:
    if name == "data" and isinstance(value, list):
        raise ArgumentError("data must be one folder for all runs, got a list")
    return [_checked(name, v) for v in (_list(name, value) if isinstance(value, list) else [value])]


def _one(settings: Mapping[str, Any]) -> Job:
    for name in settings:
        if name not in KINDS:
            raise unknown("setting", name, KINDS)
    return _job({name: _checked(name, value) for name, value in settings.items()})


def _job(settings: Mapping[str, Any]) -> Job:
    return Job.from_dict(settings)


def _check_distinct(jobs: Sequence[Job]) -> None:
    seen: dict[str, Job] = {}
    for job in jobs:
        other = seen.setdefault(repr(job.identity()), job)
        if other is not job:
            raise ArgumentError(f"two runs are the same: {job}")


def _checked(name: str, value: Any) -> Any:
    value = _typed(name, value, KINDS[name])
    if name == "environment":
        return {k: _typed(f"environment variable {k}", v, str) for k, v in value.items()}
    return value


def _typed(name: str, value: Any, kind: type) -> Any:
    """Return `value` if it is of this kind; a whole number is a number, true and false aren't."""
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
