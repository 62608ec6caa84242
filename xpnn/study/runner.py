"""The jobs of a study, done on the cores of this machine or on any executor."""

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

from xpnn._core.files import PathLike, as_path
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
    """A job that failed, and why."""

    job: Job
    reason: str

    def __str__(self) -> str:
        return f"failed: {self.job}: {self.reason}"


@dataclass
class Outcome:
    """What became of the jobs of a study.

    Attributes
    ----------
    finished
        How many jobs have a result, with those that had one before.
    failures
        The jobs that failed.
    """

    finished: int = 0
    failures: list[Failure] = field(default_factory=list)


def run(
    study: PathLike = "article",
    *,
    out: PathLike = "runs",
    data: PathLike | None = None,
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
    """Do all jobs of a study that have no result yet.

    Parameters
    ----------
    study
        "article", or the path of a TOML file.
    out
        The folder of the results, with a file for each job; created if there is none. A job that
        has a result there isn't done again.
    data
        The folder with the data, instead of the study's own.
    only, long
        Which experiments: see `Study.selected`.
    repeats
        Whether to repeat afterwards each job whose result isn't what was published, in the ways
        that the study lists.
    epochs, backend, device, dtype, reproducible
        Settings for every job, instead of the study's own; see `load_study`.
    jobs
        How many jobs to do at a time on this machine, each in a process of its own with its share
        of the cores; as many as there are cores if None.
    executor
        Where to do the jobs instead: anything with the interface of `concurrent.futures.Executor`,
        such as a Dask client's ``get_executor()``. It isn't shut down.
    progress
        Whether to show a progress bar if standard error is a terminal.
    say
        Called with a line for each damaged file and each failed job, as they are found.

    Returns
    -------
    outcome
        A job that fails doesn't stop the others.

    Raises
    ------
    ArgumentError, DataError, BackendError
        If the study, the data or an argument can't be used; no job was started then.

    Examples
    --------
    >>> import xpnn.study
    >>> outcome = xpnn.study.run("mine.toml", out="runs", jobs=2)  # doctest: +SKIP
    """
    if jobs is not None and executor is not None:
        raise ArgumentError("jobs must not be given with an executor")
    at_a_time = cores() if jobs is None else integer("jobs", jobs, minimum=1)
    folder = as_path("out", out)
    overrides: dict[str, Any] = {
        "data": None if data is None else str(as_path("data", data)),
        "epochs": epochs,
        "backend": backend,
        "device": device,
        "dtype": dtype,
        "reproducible": reproducible,
    }
    overrides = {name: value for name, value in overrides.items() if value is not None}
    source, name = source_of(study), str(study)
    chosen = parse_study(source, name, **overrides).selected(only, long=long)
    if repeats and not chosen.repeats:
        raise ArgumentError(f"{name}: repeats need a [[repeat]]")
    fingerprint = load_data(chosen.jobs[0].data)[2]
    # the cache holds hundreds of megabytes, and each process reads the data itself
    load_data.cache_clear()
    listed = [_absolute(job) for job in chosen.jobs]
    if executor is None:
        _check_backends(listed)
    _create(folder)
    if chosen.parts:
        # absolute paths, so that the report can be written again from any folder
        overrides["parts"] = [path for path, _ in chosen.parts]
    write_study(
        folder, {"name": name, "source": source, "overrides": overrides}, chosen, fingerprint
    )
    work = _Work(folder, fingerprint, at_a_time, executor, progress, say)
    work.do(listed)
    if repeats:
        missing = _missing(chosen, say) if executor is None else set()
        work.do(_repeats(chosen, folder, fingerprint, missing))
    return work.outcome


def _absolute(job: Job) -> Job:
    """Return the job with an absolute path to its data, for workers that start anywhere."""
    return job.replaced(data=str(Path(job.data).resolve()))


def _check_backends(jobs: Sequence[Job]) -> None:
    for name, device, dtype, reproducible in dict.fromkeys(
        (job.backend, job.device, job.dtype, job.reproducible) for job in jobs
    ):
        get_backend(name, device=device, dtype=dtype, reproducible=reproducible)


def _create(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArgumentError(
            f"out must be a folder that can be written, got {str(folder)!r}: {error.strerror}"
        ) from None


def _missing(study: Study, say: Say) -> set[str]:
    """Return the backends of repeats that can't be used on this machine, and say why."""
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


def _repeats(study: Study, folder: Path, fingerprint: str, missing: set[str]) -> list[Job]:
    """Return the repeats of the jobs whose results differ from what was published."""
    comparison = compare(study, read_folder(folder, fingerprint)[0])
    lists = [
        [v for v in study.variants(_absolute(job)) if v.backend not in missing]
        for job in comparison.differing_jobs()
    ]
    # one repeat of each job, then the second of each: if it is stopped, all have about as many
    rounds = itertools.chain(*itertools.zip_longest(*lists))
    return [job for job in rounds if job is not None]


@dataclass
class _Work:
    """Does lists of jobs and keeps their results; the parameters are those of `run`."""

    folder: Path
    fingerprint: str
    at_a_time: int
    executor: Executor | None
    progress: bool
    say: Say
    outcome: Outcome = field(default_factory=Outcome)

    def path(self, job: Job) -> Path:
        return self.folder / job.file_name(self.fingerprint)

    def do(self, jobs: Sequence[Job]) -> None:
        pending = [job for job in jobs if not self.has(job)]
        finished = len(jobs) - len(pending)
        self.outcome.finished += finished
        if not pending:
            return
        with self.submitting() as submit, _Bar(pending, finished, self.progress) as bar:
            futures = {submit(job, bar): job for job in pending}
            remaining = set(futures)
            try:
                while remaining:
                    for future in wait(remaining, return_when=FIRST_COMPLETED).done:
                        self.finish(futures[future], future, bar)
                        remaining.discard(future)
            except BaseException:
                for future in remaining:
                    if not future.cancel() and future.done():
                        self.finish(futures[future], future, bar)
                raise

    def has(self, job: Job) -> bool:
        """Return whether a job has a result; if its file is damaged, say so."""
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
        """Give the function that hands a job to the executor or to a process."""
        if self.executor is not None:
            executor = self.executor

            def remote(job: Job, bar: _Bar) -> Future[dict[str, Any]]:
                # the executor's process is running already: too late to set an environment
                function = execute_apart if job.environment else execute
                return executor.submit(function, job, self.fingerprint)

            yield remote
            return
        processes = Processes(threads_for(self.at_a_time, cores()))
        pool = ThreadPoolExecutor(self.at_a_time)

        def local(job: Job, bar: _Bar) -> Future[dict[str, Any]]:
            return pool.submit(processes.execute, job, self.fingerprint, bar.progress(job))

        try:
            yield local
        finally:
            processes.end()
            pool.shutdown(cancel_futures=True)

    def finish(self, job: Job, future: Future[dict[str, Any]], bar: _Bar) -> None:
        try:
            content = future.result()
        except (Exception, CancelledError) as error:
            failure = Failure(job, reason(error))
            self.outcome.failures.append(failure)
            bar.write(self.say, str(failure))
        else:
            write_result(self.path(job), content)
            self.outcome.finished += 1
        bar.finish(job)


def execute_apart(job: Job, fingerprint: str) -> dict[str, Any]:
    """Do what `execute` does in a new process, which starts with the job's environment."""
    return Processes().execute(job, fingerprint)


class _Bar:
    """A progress bar over the epochs of all jobs."""

    def __init__(self, jobs: Sequence[Job], finished: int, shown: bool) -> None:
        self._lock = threading.Lock()
        self._seen: dict[Job, int] = {}
        self._finished, self._total = finished, finished + len(jobs)
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
        self._bar.set_description_str(f"run {self._finished} of {self._total}")

    def progress(self, job: Job) -> Callable[[int], None]:
        """Return what to call after each epoch; a job that is started again counts from 0."""
        return lambda epoch: self._at(job, epoch)

    def _at(self, job: Job, epoch: int) -> None:
        with self._lock:
            self._bar.update(epoch - self._seen.get(job, 0))
            self._seen[job] = epoch

    def finish(self, job: Job) -> None:
        """Count all epochs of a job as done, also of one that failed before the last."""
        self._at(job, job.settings.epochs)
        self._finished += 1
        self._title()

    def write(self, say: Say, message: str) -> None:
        """Say something while the bar is off the screen."""
        with self._bar.external_write_mode():
            say(message)
