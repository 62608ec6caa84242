"""A folder of results: a file for each job, and the study that was run into it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xpnn._core.files import replacing
from xpnn.errors import ArgumentError, DataError
from xpnn.study.grid import Study, parse_study
from xpnn.study.job import FORMAT, Job

STUDY_FILE = "study.json"


@dataclass(frozen=True)
class Result:
    """What a finished run left.

    Attributes
    ----------
    run
        What was asked for.
    log
        By name, a column of `Epoch`: a value per epoch, the untrained network's first.
    machine
        Versions, BLAS, and what it ran on.
    weights_sha256
        `Sequential.sha256` at the end.
    data
        The data's fingerprint.
    """

    job: Job
    log: dict[str, list[float]]
    machine: dict[str, Any]
    weights_sha256: str
    data: str

    @property
    def seconds(self) -> float:
        """The time that all epochs took."""
        return sum(self.log["seconds"])


def _digest(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def write_result(path: Path, content: Mapping[str, Any]) -> None:
    """Write a result to its file, all of it or nothing."""
    with replacing(path) as beside:
        text = json.dumps({**content, "sha256": _digest(content)}, separators=(",", ":"))
        beside.write_text(text + "\n", encoding="utf-8")
        # what a reader finds after a crash of the machine is whole as well
        with beside.open("rb") as file:
            os.fsync(file.fileno())


def read_result(path: Path) -> Result:
    """Read a result's file.

    Raises
    ------
    DataError
        If it is damaged, or isn't a result.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
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
        job = Job.from_dict(content["run"])
    except (ArgumentError, TypeError) as error:
        raise DataError(f"{path} holds a run that this xpnn doesn't know: {error}") from None
    own = ("log", "machine", "weights_sha256", "data")
    return Result(job, **{name: content[name] for name in own})


def write_study(folder: Path, described: dict[str, Any], study: Study, fingerprint: str) -> None:
    """Keep with the results what the report needs: the study, and which experiments were run."""
    path = folder / STUDY_FILE
    names = [experiment.name for experiment in study.experiments]
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        before = json.loads(path.read_text(encoding="utf-8"))
        if described.items() <= before.items():
            names = list(dict.fromkeys([*before["experiments"], *names]))
    content = {**described, "data": fingerprint, "experiments": names}
    with replacing(path) as beside:
        beside.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_study(folder: str | Path) -> tuple[Study, str]:
    """Return the study that was last run into `folder`, and the fingerprint of its data.

    With those experiments alone that were ever run there.
    """
    path = Path(folder) / STUDY_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        study = parse_study(content["source"], content["name"], **content["overrides"])
        return study.selected(content["experiments"]), content["data"]
    except OSError as error:
        raise DataError(f"no study in {folder}: can't read {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, ArgumentError):
            raise
        raise DataError(f"{path} is damaged; run the study again") from None


def read_folder(
    folder: str | Path, fingerprint: str | None = None
) -> tuple[dict[str, Result], list[str]]:
    """Return the results in a folder by file name, and what is wrong with the damaged files.

    With a fingerprint, those for other data are left out.
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
