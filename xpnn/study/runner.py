"""Runs of a study on this machine's cores or on any executor, and the folder of their results."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    CancelledError,
    Executor,
    Future,
    ThreadPoolExecutor,
    wait,
)
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xpnn.backends import get_backend
from xpnn.callbacks import progress_bar
from xpnn.errors import ArgumentError, BackendError, DataError, integer
from xpnn.study.comparison import compare
from xpnn.study.grid import Study, parse_study, source_of
from xpnn.study.job import Job, execute, load_data
from xpnn.study.machine import cores
from xpnn.study.results import read_folder, read_result, write_result, write_study
from xpnn.study.worker import Processes, reason, threads_for

Say = Callable[[str], None]


@dataclass(frozen=True)
class Failure:
    """A run that failed, and why."""

    job: Job
    reason: str

    def __str__(self) -> str:
        return f"failed: {self.job}: {self.reason}"


@dataclass
class Outcome:
    """What a study left.

    Attributes
    ----------
    finished
        How many runs have a result, those of earlier times included.
    failures
        The others.
    """

    finished: int = 0
    failures: list[Failure] = field(default_factory=list)


def run(
    study: str = "article",
    *,
    out: str | Path = "runs",
    data: str | Path | None = None,
    only: Sequence[str] | None = None,
    long: bool = False,
    repeats: bool = False,
    epochs: int | None = None,
    backend: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    reproducible: bool | None = None,
    jobs: int | None = None,
    executor: Executor | None = None,
    progress: bool = True,
    say: Say = lambda message: None,
) -> Outcome:
    """Do all runs of a study that have no result yet.

    Parameters
    ----------
    study
        "article", or the path of a TOML file.
    out
        The folder of the results, a file a run; made if need be. Runs with a result there aren't
        done again.
    data
        The folder with the data, in place of the study's own.
    only, long
        Which experiments: see `Study.selected`.
    repeats
        Whether to repeat, after that, each run that doesn't give what was published, in the ways
        that the study lists.
    epochs, backend, device, dtype, reproducible
        In place of the study's own, for every run.
    jobs
        Runs at a time on this machine, each in a process of its own with its share of the cores;
        as many as there are cores if None.
    executor
        Where to run instead: anything with the interface of `concurrent.futures.Executor`, such as
        a Dask client's ``get_executor()``. Not shut down here.
    progress
        Whether to show a progress bar where standard error is a terminal.
    say
        Told of damaged files and failed runs, a line each, as they are found.

    Returns
    -------
    outcome
        Failed runs don't stop the others.

    Raises
    ------
    ArgumentError, DataError, BackendError
        If the study, the data or an argument can't be used; nothing was started then.

    Examples
    --------
    >>> import xpnn.study
    >>> outcome = xpnn.study.run("mine.toml", out="runs", jobs=2)  # doctest: +SKIP
    """
    if jobs is not None and executor is not None:
        raise ArgumentError("jobs must not be given with an executor")
    jobs = cores() if jobs is None else integer("jobs", jobs, minimum=1)
    overrides: dict[str, Any] = {
        "data": None if data is None else str(data),
        "epochs": epochs,
        "backend": backend,
        "device": device,
        "dtype": dtype,
        "reproducible": reproducible,
    }
    overrides = {name: value for name, value in overrides.items() if value is not None}
    source = source_of(study)
    chosen = parse_study(source, study, **overrides).selected(only, long=long)
    if repeats and not chosen.repeats:
        raise ArgumentError(f"{study}: repeats need a [[repeat]]")
    fingerprint = load_data(chosen.jobs[0].data)[2]
    # hundreds of megabytes, which the runs read for themselves
    load_data.cache_clear()
    listed = [_placed(job) for job in chosen.jobs]
    if executor is None:
        for place in dict.fromkeys((j.backend, j.device, j.dtype, j.reproducible) for j in listed):
            get_backend(place[0], device=place[1], dtype=place[2], reproducible=place[3])
    folder = _folder(out)
    if chosen.parts:
        # where they lie, from wherever the report is asked for
        overrides["parts"] = [path for path, _ in chosen.parts]
    described = {"name": study, "source": source, "overrides": overrides}
    write_study(folder, described, chosen, fingerprint)
    work = _Work(folder, fingerprint, jobs, executor, progress, say)
    outcome = work.do(listed)
    if repeats:
        missing = _missing(chosen, say) if executor is None else set()
        lists = [
            [v for v in chosen.variants(_placed(one)) if v.backend not in missing]
            for one in differing(chosen, folder, fingerprint)
        ]
        # each run once, then each a second time: what is there at any moment is of all of them
        rounds = itertools.chain(*itertools.zip_longest(*lists))
        more = work.do([one for one in rounds if one is not None])
        outcome.finished += more.finished
        outcome.failures += more.failures
    return outcome


def _placed(job: Job) -> Job:
    """Return the run with a path that holds wherever a worker was started."""
    return job.replaced(data=str(Path(job.data).resolve()))


def _missing(study: Study, say: Say) -> set[str]:
    """Return the backends of repeats that can't be used here, and say why."""
    missing = set()
    for name in dict.fromkeys(
        changes["backend"] for changes in study.repeats if "backend" in changes
    ):
        try:
            get_backend(name)
        except BackendError as error:
            missing.add(name)
            say(f"no repeats with {name}: {error}")
    return missing


def _folder(out: str | Path) -> Path:
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArgumentError(
            f"out must be a folder that can be written, got {str(out)!r}: {error.strerror}"
        ) from None
    return folder


def differing(study: Study, folder: Path, fingerprint: str) -> list[Job]:
    """Return the runs with a result in `folder`, for these data, that isn't what was published."""
    return compare(study, read_folder(folder, fingerprint)[0]).differing_jobs()


class _Work:
    """Does lists of runs, and keeps their results."""

    def __init__(
        self,
        folder: Path,
        fingerprint: str,
        jobs: int,
        executor: Executor | None,
        progress: bool,
        say: Say,
    ) -> None:
        self.folder, self.fingerprint, self.jobs = folder, fingerprint, jobs
        self.executor, self.progress, self.say = executor, progress, say

    def path(self, job: Job) -> Path:
        return self.folder / job.file_name(self.fingerprint)

    def do(self, jobs: Sequence[Job]) -> Outcome:
        pending = [job for job in jobs if not self.has(job)]
        outcome = Outcome(finished=len(jobs) - len(pending))
        if not pending:
            return outcome
        with self.submitting() as submit, _Bar(pending, outcome.finished, self.progress) as bar:
            futures = {submit(job, bar): job for job in pending}
            remaining = set(futures)
            try:
                while remaining:
                    for future in wait(remaining, return_when=FIRST_COMPLETED).done:
                        self.finish(futures[future], future, outcome, bar)
                        remaining.discard(future)
            except BaseException:
                for future in remaining:
                    if not future.cancel() and future.done():
                        self.finish(futures[future], future, outcome, bar)
                raise
        return outcome

    def has(self, job: Job) -> bool:
        """Return whether a run has a result; say so if its file is damaged."""
        path = self.path(job)
        if not path.exists():
            return False
        try:
            read_result(path)
        except DataError as error:
            self.say(f"{error}; the run is done again")
            return False
        return True

    @contextlib.contextmanager
    def submitting(self) -> Iterator[Callable[[Job, _Bar], Future[dict[str, Any]]]]:
        """Give the function that hands a run to whoever does it."""
        if self.executor is not None:
            executor = self.executor

            def remote(job: Job, bar: _Bar) -> Future[dict[str, Any]]:
                # an environment can't be set in a process that lives already
                function = apart_from_worker if job.environment else execute
                return executor.submit(function, job, self.fingerprint)

            yield remote
            return
        processes = Processes(threads_for(self.jobs, cores()))
        pool = ThreadPoolExecutor(self.jobs)

        def local(job: Job, bar: _Bar) -> Future[dict[str, Any]]:
            return pool.submit(processes.execute, job, self.fingerprint, bar.progress(job))

        try:
            yield local
        finally:
            processes.end()
            pool.shutdown(cancel_futures=True)

    def finish(self, job: Job, future: Future[dict[str, Any]], outcome: Outcome, bar: _Bar) -> None:
        try:
            content = future.result()
        except (Exception, CancelledError) as error:
            failure = Failure(job, reason(error))
            outcome.failures.append(failure)
            bar.write(self.say, str(failure))
        else:
            write_result(self.path(job), content)
            outcome.finished += 1
        bar.finish(job)


def apart_from_worker(job: Job, fingerprint: str) -> dict[str, Any]:
    """Do what `execute` does, in a process that has the run's environment."""
    return Processes().execute(job, fingerprint)


class _Bar:
    """A progress bar over the epochs of all runs."""

    def __init__(self, jobs: Sequence[Job], finished: int, shown: bool) -> None:
        self._lock = threading.Lock()
        self._seen: dict[Job, int] = {}
        self._finished, self._runs = finished, finished + len(jobs)
        self._bar = progress_bar(
            total=sum(job.settings.epochs for job in jobs),
            unit="epoch",
            shown=shown,
            smoothing=0.02,
        )
        self._title()

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def _title(self) -> None:
        self._bar.set_description_str(f"run {self._finished} of {self._runs}")

    def progress(self, job: Job) -> Callable[[int], None]:
        """Return what a run tells of its epochs; one that was begun anew starts at 0 again."""
        return lambda epoch: self._at(job, epoch)

    def _at(self, job: Job, epoch: int) -> None:
        with self._lock:
            self._bar.update(epoch - self._seen.get(job, 0))
            self._seen[job] = epoch

    def finish(self, job: Job) -> None:
        """Count a run as done, whatever it told."""
        self._at(job, job.settings.epochs)
        self._finished += 1
        self._title()

    def write(self, say: Say, message: str) -> None:
        """Say something without tearing the bar."""
        with self._bar.external_write_mode():
            say(message)
