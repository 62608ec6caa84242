"""A folder of results: a file for each job, and one with the study to which they belong."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from xpnn._core import limits, schema
from xpnn._core.files import PathLike, as_path, is_direct, real, replacing, same_file, writing
from xpnn.errors import ArgumentError, DataError, WriteError
from xpnn.study.grid import KINDS, Study, checked_settings, parse_study, unnamed_parts
from xpnn.study.job import EARLIER_INIT, FIGURES, FORMAT, Job, loaded_parts

STUDY_FILE = "study.json"
# what a study writes beside its results, under names that others' files may have
_NAMES = (STUDY_FILE, "report.html", "report.md", "tables.csv", "figures")


@dataclass(frozen=True)
class Result:
    """The result of a finished job.

    Attributes
    ----------
    job
        The job that was done.
    log
        The columns of `Epoch` by name: a value per epoch, that of the untrained network first.
    machine
        Versions, BLAS, CPU and card, as `xpnn.study.machine.machine_record` returns them.
    weights_sha256
        `Sequential.sha256` of the trained model.
    data
        The fingerprint of the data.
    """

    job: Job
    log: dict[str, list[float]]
    machine: dict[str, Any]
    weights_sha256: str
    data: str

    @property
    def seconds(self) -> float:
        """The time of all epochs together."""
        return sum(self.log["seconds"])


@dataclass(frozen=True)
class _Content:
    """The fields of a result's file, but for its hash and its format."""

    run: dict[str, Any]
    log: dict[str, list[float]]
    machine: dict[str, Any]
    weights_sha256: str
    data: schema.Sha256

    def checked_log(self, epochs: int) -> dict[str, list[float]]:
        """Return the columns of the log if they have the rows of epochs from 0 on."""
        rows = len(self.log.get(FIGURES[0], ()))
        for name in FIGURES:
            column = self.log.get(name)
            if column is None or len(column) != rows or not 1 <= rows <= epochs + 1:
                wanted = f"{rows or 1} numbers, of epochs from 0 to {epochs} at most"
                got = None if column is None else f"{len(column)} numbers"
                raise schema.wrong(f"log.{name}", wanted, got)
            low, high = (0.0, 1.0) if name.endswith("accuracy") else (-math.inf, math.inf)
            for epoch, value in enumerate(column):
                usual = math.isfinite(value) and low <= value <= high
                if not usual and not (math.isnan(value) and name != "seconds"):
                    wanted = f"from {low:g} to {high:g}" if high == 1.0 else "finite"
                    raise schema.wrong(f"log.{name}[{epoch}]", f"a number, {wanted}", value)
        return self.log


@dataclass(frozen=True)
class _StudyFile:
    """The fields of the file with the study to which results belong."""

    name: str
    source: str
    overrides: dict[str, Any]
    data: schema.Sha256
    experiments: list[str]
    # there was none when the rule for initial parameters wasn't a setting
    format: Literal[1] | None = None


def write_text(folder: Path, name: str, text: str) -> None:
    """Write a file of a study's folder, which is replaced only once the new one is complete.

    `name` may begin with the name of a folder in it, which is created if there is none.

    Raises
    ------
    WriteError
        If the system refuses, or a link, a pipe or a device has one of these names: whoever made
        the study's folder may have put it there to have another file overwritten.
    """
    path = folder
    for part in Path(name).parts:
        path /= part
        if path.is_symlink() or is_direct(path):
            raise WriteError(
                f"can't write file {str(folder / name)!r}: {path} is a link, a pipe or a device"
            )
    with writing("file", path):
        if path.parent != folder:
            path.parent.mkdir(exist_ok=True)
        with replacing("file", path) as file:
            # JSON can hold half of a character, which UTF-8 can't
            file.write(text.encode(errors="backslashreplace"))


def write_result(path: Path, content: Mapping[str, Any]) -> None:
    """Write what `execute` returned."""
    text = json.dumps({**content, "sha256": _digest(content)}, separators=(",", ":"))
    write_text(path.parent, path.name, text + "\n")


@limits.bounded
def read_result(path: PathLike, *, max_bytes: int | None = None) -> Result:
    """Read the file of a result.

    Parameters
    ----------
    path
        The file.
    max_bytes
        How many bytes of memory it may take; 64 MiB if None.

    Raises
    ------
    DataError
        If the file is damaged, or holds a format or settings that this xpnn doesn't know.
    """
    content = _read_json(path)
    try:
        digest = content.pop("sha256")
    except (KeyError, AttributeError, TypeError):
        raise DataError(f"{path} is damaged: not a whole result") from None
    if digest != _digest(content):
        raise DataError(f"{path} is damaged: its content doesn't match its SHA-256")
    if content.get("format") != FORMAT:
        raise DataError(f"{path} has format {schema.shown(content.get('format'))}, not {FORMAT}")
    with schema.reading(path):
        own = schema.checked(_Content, content)
    try:
        job = Job.from_dict({"init": EARLIER_INIT, **checked_settings(own.run)})
        # what depends on several settings shows only here
        job.file_name(own.data)
    except (ArithmeticError, AttributeError, TypeError, ValueError) as error:
        raise DataError(f"{path} holds a run that this xpnn doesn't know: {error}") from None
    with schema.reading(path):
        log = own.checked_log(job.settings.epochs)
    return Result(job, log, own.machine, own.weights_sha256, own.data)


def _read_json(path: PathLike) -> Any:
    """Return what a file of JSON holds, with errors that name it."""
    try:
        return schema.as_json(_text(path))
    except OSError as error:
        raise DataError(f"can't read {path}: {error.strerror}") from None
    except ValueError as error:
        raise DataError(f"{path} is damaged: not a whole result: {error}") from None


def _text(path: PathLike) -> str:
    """Return the text of a file; a pipe, which may have no writer, is refused."""
    if is_direct(path):
        raise OSError(errno.EINVAL, "it is a pipe or a device")
    return limits.read_text(path)


def _digest(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@limits.bounded
def read_folder(
    folder: PathLike, fingerprint: str | None = None, *, max_bytes: int | None = None
) -> tuple[dict[str, Result], list[str]]:
    """Read all results in a folder.

    Parameters
    ----------
    folder
        The folder of the results.
    fingerprint
        If given, results for data with another fingerprint are left out.
    max_bytes
        As for `read_result`, for each file.

    Returns
    -------
    results
        The results by the names of their files.
    damaged
        For each file that can't be read, what is wrong with it.
    """
    results, damaged = {}, []
    for path in sorted(Path(folder).glob("*.json")):
        if path.name == STUDY_FILE or path.name.startswith("."):
            continue
        try:
            result = read_result(path)
        except DataError as error:
            damaged.append(str(error))
        else:
            if fingerprint in (None, result.data):
                results[path.name] = result
    return results, damaged


def check_own(folder: Path, inputs: Sequence[PathLike] = ()) -> None:
    """Raise if a study would overwrite one of its inputs, or somebody else's files.

    Raises
    ------
    ArgumentError
        If an input is in the folder under the name of a study's file, or another file is, and the
        folder holds neither a study nor a result.
    """
    for path, name in itertools.product(inputs, _NAMES):
        if same_file(path, folder / name):
            raise ArgumentError(
                f"out must be another folder, got {str(folder)!r}, in which {name} is read"
            )
    there = [name for name in _NAMES if (folder / name).exists()]
    if not there:
        return
    with contextlib.suppress(OSError, ValueError, AttributeError):
        study = _read_json(folder / STUDY_FILE)
        if {"name", "source", "experiments"} <= study.keys():
            return
    if not read_folder(folder)[0]:
        raise ArgumentError(
            f"out must be a new folder or a study's, got {str(folder)!r}, whose "
            f"{' and '.join(there)} no study has written: name another one"
        )


def write_study(folder: Path, described: dict[str, Any], study: Study, fingerprint: str) -> None:
    """Write the file from which the report is made: the study, and which experiments were run.

    Parameters
    ----------
    folder
        The folder of the results.
    described
        The study's name, source and overrides, as `parse_study` takes them.
    study
        The experiments that are run now; those that were run before are kept if the study is the
        same.
    fingerprint
        The fingerprint of the data.
    """
    path = folder / STUDY_FILE
    names = [experiment.name for experiment in study.experiments]
    with contextlib.suppress(DataError):
        before = schema.checked(_StudyFile, _read_json(path))
        if all(getattr(before, name) == own for name, own in described.items()):
            names = list(dict.fromkeys([*before.experiments, *names]))
    content = {"format": FORMAT, **described, "data": fingerprint, "experiments": names}
    write_text(folder, STUDY_FILE, json.dumps(content, indent=1) + "\n")


@limits.bounded
def read_study(
    folder: PathLike, parts: Sequence[PathLike] = (), *, max_bytes: int | None = None
) -> tuple[Study, str]:
    """Return the study that was last run into a folder, and the fingerprint of its data.

    The study holds only the experiments that were run there. Nothing that the folder names is run.

    Parameters
    ----------
    folder
        The folder of the results.
    parts
        The files of your own parts that the study needs, which are run.
    max_bytes
        As for `load_study`.

    Raises
    ------
    ArgumentError, DataError
        If there is no study in the folder, it can't be read, or it needs `parts`.
    """
    path = Path(folder) / STUDY_FILE
    try:
        own = schema.checked(_StudyFile, schema.as_json(_text(path)))
        named = schema.checked(list[str], own.overrides.pop("parts", []), "overrides.parts")
        unknown = own.overrides.keys() - KINDS.keys()
        if unknown:
            raise schema.wrong("overrides", "settings of the jobs", sorted(unknown))
    except OSError as error:
        raise DataError(f"no study in {folder}: can't read {path}: {error.strerror}") from None
    except ValueError as error:
        raise DataError(f"{path} is damaged; run the study again: {error}") from None
    files = [str(real(as_path("parts", part))) for part in parts]
    if not files and named:
        if loaded_parts(named) is None:
            raise ArgumentError(f"{path}: {unnamed_parts(named)}")
        files = named
    # a study without a format is from when the rule for initial parameters wasn't a setting
    earlier = f'init = "{EARLIER_INIT}"\n' if own.format is None else ""
    try:
        study = parse_study(earlier + own.source, own.name, parts=files, **own.overrides)
        return study.selected(own.experiments), own.data
    except ArgumentError as error:
        raise ArgumentError(f"{path}: {error}") from None
