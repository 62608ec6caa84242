"""A process for each job, with an environment that is set before any library is imported."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xpnn._core.registry import error_text
from xpnn.errors import XpnnError
from xpnn.study.job import Job, Progress, execute, load_own_parts
from xpnn.study.machine import THREADS

# how many processes may die during a job before it counts as failed
ATTEMPTS = 3


class RunError(XpnnError, RuntimeError):
    """A job failed in its process; the message is the reason."""


class StoppedError(Exception):
    """The study was stopped during a job."""


def threads_for(jobs: int, cores: int) -> dict[str, str]:
    """Return the environment that keeps `jobs` processes from using more than `cores` cores."""
    # XLA sizes its pool by NPROC
    return dict.fromkeys((*THREADS, "NPROC"), str(max(1, cores // jobs)))


class Processes:
    """Does what `execute` does, each job in its own process.

    Parameters
    ----------
    environment
        Environment variables of every process; those of a job take precedence.
    max_bytes
        As for `execute`.
    """

    def __init__(
        self, environment: Mapping[str, str] | None = None, max_bytes: int | None = None
    ) -> None:
        self.environment, self.max_bytes = dict(environment or {}), max_bytes
        self._alive: set[subprocess.Popen[bytes]] = set()
        self._ended = False

    def execute(
        self, job: Job, fingerprint: str, progress: Progress | None = None
    ) -> dict[str, Any]:
        """Do a job and return its result; if its process dies, it is started again.

        Raises
        ------
        RunError
            If the job failed, or its process died `ATTEMPTS` times.
        StoppedError
            If `end` was called.
        """
        for _ in range(ATTEMPTS):
            outcome, died = self._attempt(job, fingerprint, progress)
            if self._ended:
                raise StoppedError
            if outcome is not None and "error" in outcome:
                raise RunError(outcome["error"])
            if outcome is not None:
                return dict(outcome["result"])
        raise RunError(f"its process ended {ATTEMPTS} times, the last time {died}")

    def end(self) -> None:
        """Kill all processes."""
        self._ended = True
        for process in list(self._alive):
            process.kill()

    def _attempt(
        self, job: Job, fingerprint: str, progress: Progress | None
    ) -> tuple[dict[str, Any] | None, str]:
        """Return what a process wrote last (None if it died), and how it ended."""
        environment = {**os.environ, **self.environment, **dict(job.environment)}
        package = str(Path(__file__).parents[2])
        paths = [package, environment.get("PYTHONPATH")]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        outcome = None
        with tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(
                # -P: a file in the working folder must not shadow a library's module
                [sys.executable, "-P", "-c", "from xpnn.study.worker import main; main()"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                # Ctrl-C in a terminal is for the study, which ends its processes itself
                start_new_session=True,
                env=environment,
            )
            self._alive.add(process)
            if self._ended:
                process.kill()
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                order = {
                    "job": job.as_dict(), "fingerprint": fingerprint, "max_bytes": self.max_bytes
                }  # fmt: skip
                # left open: the process ends when its standard input does
                process.stdin.write(json.dumps(order).encode() + b"\n")
                process.stdin.flush()
                for line in process.stdout:
                    message = json.loads(line)
                    if "epoch" not in message:
                        outcome = message
                    elif progress is not None:
                        progress(message["epoch"])
                process.wait()
            except (BrokenPipeError, ValueError):
                # it died before it had read its order, or in the middle of a line
                outcome = None
            finally:
                process.kill()
                process.wait()
                self._alive.discard(process)
                process.stdout.close()
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.close()
            errors.seek(0)
            last = errors.read().decode(errors="replace").strip().splitlines()[-1:]
        return outcome, ": ".join([f"with status {process.returncode}", *last])


def main() -> None:
    """Read a job from standard input and do it; write a line of JSON per epoch, then the result.

    The process ends when its standard input does, so it never outlives the study that started it,
    even if that was killed.
    """
    # what libraries print goes to standard error
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as output:
        os.dup2(2, 1)
        order = json.loads(sys.stdin.buffer.readline())
        threading.Thread(target=_end_with_parent, daemon=True).start()

        def write(message: dict[str, Any]) -> None:
            output.write(json.dumps(message) + "\n")
            output.flush()

        try:
            # first the parts, whose names a job's settings may hold
            load_own_parts(order["job"]["parts"])
            job = Job.from_dict(order["job"])
            result = execute(
                job,
                order["fingerprint"],
                lambda epoch: write({"epoch": epoch}),
                max_bytes=order["max_bytes"],
            )
        except Exception as error:
            write({"error": reason(error)})
        else:
            write({"result": result})


def _end_with_parent() -> None:
    # not sys.stdin: a thread that waits with its lock would keep the interpreter from exiting
    os.read(0, 1)
    os._exit(1)


def reason(error: BaseException) -> str:
    """Return why a job failed, in one line."""
    text = str(error) if isinstance(error, XpnnError) else error_text(error)
    return " ".join(text.split())
