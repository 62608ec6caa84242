"""Do the jobs of a study on the cores of this machine or on any executor."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import os
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

from xpnn._core import limits
from xpnn._core.cores import cores
from xpnn._core.files import PathLike, as_path, check_folder, locked
from xpnn.backends import get_backend
from xpnn.callbacks import progress_bar
from xpnn.datasets import Dataset
from xpnn.errors import ArgumentError, BackendError, DataError, integer
from xpnn.study.comparison import compare
from xpnn.study.dask import ClusterError
from xpnn.study.grid import Study, named_parts, parse_study, source_of
from xpnn.study.job import Job, Progress, execute, load_data
from xpnn.study.results import check_own, read_folder, read_result, write_result, write_study
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
        The number of jobs that have a result, including those that had one before.
    failures
        The jobs that failed.
    """

    finished: int = 0
    failures: list[Failure] = field(default_factory=list)


@limits.bounded
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
    validation: float | str | None = None,
    metrics: str | Sequence[str] | None = None,
    jobs: int | None = None,
    executor: Executor | None = None,
    max_bytes: int | None = None,
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
        has a result there isn't done again. Only one study at a time may run into a folder.
    data
        The file or folder with the data, instead of the study's own.
    only, long
        Which experiments to do: see `Study.selected`.
    repeats
        Whether to repeat afterwards each job whose result differs from the published one, in the
        ways that the study lists.
    epochs, backend, device, dtype, reproducible, validation, metrics
        Settings of every job, instead of the study's own: see `load_study`.
    jobs
        The number of jobs to do at a time on this machine, each in its own process with its share
        of the cores; the number of cores if None.
    executor
        Where to do the jobs instead: anything with the interface of `concurrent.futures.Executor`,
        such as a Dask client's ``get_executor()``. It isn't shut down.
    max_bytes
        How many bytes of memory each file may take: as for `load_study`, `read_result`, and, for
        the data, `xpnn.datasets.load`.
    progress
        Whether to show a progress bar if standard error is a terminal.
    say
        Called with a line for each damaged file and each failed job, as they are found.

    Returns
    -------
    outcome
        The number of finished jobs, and the failures. A job that fails doesn't stop the others.

    Raises
    ------
    ArgumentError, DataError, BackendError
        If the study, the data or an argument can't be used, if another study is running into the
        folder, or if it holds files that are no study's and have the names of a report; no job was
        started then.
    ClusterError
        If the executor is that of `cluster`, and its cluster was lost.

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
        "validation": validation,
        "metrics": metrics if metrics is None or isinstance(metrics, str) else list(metrics),
    }
    overrides = {name: value for name, value in overrides.items() if value is not None}
    source, name = source_of(study), str(study)
    parts = named_parts(source, name)
    chosen = parse_study(source, name, parts=parts, **overrides).selected(only, long=long)
    if repeats and not chosen.repeats:
        raise ArgumentError(f"{name}: repeats need a [[repeat]]")
    first = chosen.jobs[0]
    given = [study, first.source.data, first.source.validation, *parts]
    check_own(folder, [path for path in given if isinstance(path, str | os.PathLike)])
    read, other, fingerprint = load_data(first.source)
    train, test = first.source.divided(read, other, first.settings.seed)
    if test is None and any(job.patience is not None for job in chosen.jobs):
        raise ArgumentError(f"{name}: patience needs data for validation")
    for job in {job.columns: job for job in chosen.jobs if job.metrics is not None}.values():
        _check_metrics(job, train, test)
    if read.y.dtype.kind == "f" and read.y.ndim == 2:
        for job in chosen.jobs:
            if job.settings.loss is None:
                raise ArgumentError(f"{name}: loss must be given for targets of several columns")
    del read, other, train, test
    # the cache holds hundreds of megabytes, and each process reads the data itself
    load_data.cache_clear()
    if executor is None:
        for job in chosen.jobs:
            job.make_backend()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArgumentError(
            f"out must be a folder that can be written, got {str(folder)!r}: {error.strerror}"
        ) from None
    check_folder("out", folder)
    if chosen.parts:
        # absolute paths, which the report's message shows
        overrides["parts"] = [path for path, _ in chosen.parts]
    described = {"name": name, "source": source, "overrides": overrides}
    with locked("out", folder):
        write_study(folder, described, chosen, fingerprint)
        work = _Work(folder, fingerprint, at_a_time, executor, progress, say)
        work.do(chosen.jobs)
        if repeats:
            work.do(work.repeats(chosen))
    return work.outcome


def _check_metrics(job: Job, train: Dataset, test: Dataset | None) -> None:
    """Raise `ArgumentError` if the metrics of a job don't fit its targets."""
    settings, options = job.source.options(job.settings.replaced(epochs=0), train)
    model = settings.make_model(train, test, options["labels"])
    settings.fit(model, train, None, backend=get_backend(), metrics=job.metrics, **options)


@dataclass
class _Work:
    """Does lists of jobs, and keeps their results and failures."""

    folder: Path
    fingerprint: str
    at_a_time: int
    executor: Executor | None
    progress: bool
    say: Say
    outcome: Outcome = field(default_factory=Outcome)

    def do(self, jobs: Sequence[Job]) -> None:
        """Do the jobs that have no result yet, with a progress bar over their epochs."""
        # a worker may have been started in another folder
        absolute = [dataclasses.replace(job, source=job.source.absolute()) for job in jobs]
        pending = [job for job in absolute if not self.has(job)]
        self.outcome.finished += len(jobs) - len(pending)
        if not pending:
            return
        epochs = sum(job.settings.epochs for job in pending)
        bar = progress_bar(total=epochs, unit="epoch", shown=self.progress, smoothing=0.02)
        lock, seen = threading.Lock(), dict.fromkeys(pending, 0)

        def show(job: Job, epoch: int) -> None:
            # each job has a thread; one that is started again counts from 0
            with lock:
                bar.update(epoch - seen[job])
                seen[job] = epoch

        def finish(future: Future[dict[str, Any]]) -> None:
            job = futures[future]
            try:
                content = future.result()
            except ClusterError:
                # not this job's fault, but the end of all
                raise
            except (Exception, CancelledError) as error:
                failure = Failure(job, reason(error))
                self.outcome.failures.append(failure)
                with bar.external_write_mode():
                    self.say(str(failure))
            else:
                write_result(self.path(job), content)
                self.outcome.finished += 1
            remaining.discard(future)
            # the epochs that a failed job hasn't done
            show(job, job.settings.epochs)
            bar.set_description_str(f"run {len(jobs) - len(remaining)} of {len(jobs)}")

        with self.submitting() as submit, contextlib.closing(bar):
            bar.set_description_str(f"run {len(jobs) - len(pending)} of {len(jobs)}")
            futures = {submit(job, functools.partial(show, job)): job for job in pending}
            remaining = set(futures)
            try:
                while remaining:
                    for future in wait(remaining, return_when=FIRST_COMPLETED).done:
                        finish(future)
            except BaseException:
                for future in list(remaining):
                    if not future.cancel() and future.done():
                        with contextlib.suppress(ClusterError):
                            finish(future)
                raise

    def path(self, job: Job) -> Path:
        return self.folder / job.file_name(self.fingerprint)

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
    def submitting(self) -> Iterator[Callable[[Job, Progress], Future[dict[str, Any]]]]:
        """Give the function that hands a job to the executor or to a process."""
        executor, fingerprint = self.executor, self.fingerprint
        if executor is not None:

            def remote(job: Job, progress: Progress) -> Future[dict[str, Any]]:
                # the executor's process is running already: too late to set an environment
                max_bytes = limits.asked()
                if job.environment:
                    work = Processes(max_bytes=max_bytes).execute
                    return executor.submit(work, job, fingerprint)
                return executor.submit(execute, job, fingerprint, max_bytes=max_bytes)

            yield remote
            return
        # the pool's threads don't have this one's limit
        processes = Processes(threads_for(self.at_a_time, cores()), limits.asked())
        pool = ThreadPoolExecutor(self.at_a_time)
        try:
            yield lambda job, progress: pool.submit(processes.execute, job, fingerprint, progress)
        finally:
            processes.end()
            pool.shutdown(cancel_futures=True)

    def repeats(self, study: Study) -> list[Job]:
        """Return the repeats of the jobs whose results differ from the published ones.

        If a backend can't be used on this machine, its repeats are left out, and `say` is told why.
        """
        missing = set()
        if self.executor is None:
            for name in dict.fromkeys(own.get("backend", "numpy") for own in study.repeats):
                try:
                    get_backend(name)
                except BackendError as error:
                    missing.add(name)
                    self.say(f"no repeats with {name}: {error}")
        comparison = compare(study, read_folder(self.folder, self.fingerprint)[0])
        lists = [
            [variant for variant in study.variants(job) if variant.backend not in missing]
            for job in comparison.differing_jobs()
        ]
        # the first repeat of each job, then the second: if stopped, all have about equally many
        rounds = itertools.chain(*itertools.zip_longest(*lists))
        return [job for job in rounds if job is not None]
