"""A folder of results: a file for each job, and one with the study to which they belong."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xpnn._core.files import PathLike, replacing
from xpnn.errors import ArgumentError, DataError
from xpnn.study.grid import Study, parse_study
from xpnn.study.job import EARLIER_INIT, FORMAT, Job

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


def write_text(path: Path, text: str) -> None:
    """Write a file, which is replaced only once the new one is complete."""
    with replacing(path) as file:
        file.write(text.encode())


def write_result(path: Path, content: Mapping[str, Any]) -> None:
    """Write what `execute` returned."""
    text = json.dumps({**content, "sha256": _digest(content)}, separators=(",", ":"))
    write_text(path, text + "\n")


def read_result(path: PathLike) -> Result:
    """Read the file of a result.

    Raises
    ------
    DataError
        If the file is damaged, or holds a format or settings that this xpnn doesn't know.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        digest = content.pop("sha256")
    except OSError as error:
        raise DataError(f"can't read {path}: {error.strerror}") from None
    except (ValueError, KeyError, AttributeError, TypeError):
        raise DataError(f"{path} is damaged: not a whole result") from None
    if digest != _digest(content):
        raise DataError(f"{path} is damaged: its content doesn't match its SHA-256")
    if content.get("format") != FORMAT:
        raise DataError(f"{path} has format {content.get('format')!r}, not {FORMAT}")
    try:
        job = Job.from_dict({"init": EARLIER_INIT, **content["run"]})
    except (ArgumentError, TypeError) as error:
        raise DataError(f"{path} holds a run that this xpnn doesn't know: {error}") from None
    own = ("log", "machine", "weights_sha256", "data")
    return Result(job, **{name: content[name] for name in own})


def _digest(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def read_folder(
    folder: PathLike, fingerprint: str | None = None
) -> tuple[dict[str, Result], list[str]]:
    """Read all results in a folder.

    Parameters
    ----------
    folder
        The folder of the results.
    fingerprint
        If given, results for data with another fingerprint are left out.

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


def check_own(folder: Path) -> None:
    """Raise if a folder holds somebody else's files under the names of a study's files.

    Raises
    ------
    ArgumentError
        If it does, and holds neither a study nor a result.
    """
    there = [name for name in _NAMES if (folder / name).exists()]
    if not there:
        return
    with contextlib.suppress(OSError, ValueError, AttributeError):
        study = json.loads((folder / STUDY_FILE).read_bytes())
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
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        before = json.loads(path.read_text(encoding="utf-8"))
        if described.items() <= before.items():
            names = list(dict.fromkeys([*before["experiments"], *names]))
    content = {"format": FORMAT, **described, "data": fingerprint, "experiments": names}
    write_text(path, json.dumps(content, indent=1) + "\n")


def read_study(folder: PathLike) -> tuple[Study, str]:
    """Return the study that was last run into a folder, and the fingerprint of its data.

    The study holds only the experiments that were run there.

    Raises
    ------
    ArgumentError, DataError
        If there is no study in the folder, or it can't be read.
    """
    path = Path(folder) / STUDY_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        # a study without a format is from when the rule for initial parameters wasn't a setting
        earlier = "" if "format" in content else f'init = "{EARLIER_INIT}"\n'
        study = parse_study(earlier + content["source"], content["name"], **content["overrides"])
        return study.selected(content["experiments"]), content["data"]
    except OSError as error:
        raise DataError(f"no study in {folder}: can't read {path}: {error.strerror}") from None
    except ArgumentError:
        raise
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{path} is damaged; run the study again") from None
