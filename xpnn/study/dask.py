"""A Dask cluster as an executor that doesn't wait for ever."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from typing import Any

from xpnn._core.registry import error_text
from xpnn.errors import ArgumentError, XpnnError

# how many workers may die during a job before it counts as failed
RETRIES = 3
# seconds: until a scheduler must have answered, ...
CONNECT = 10.0
# ... between two questions to it, ...
_ASK = 1.0
# ... and until a worker must be there
WORKERS = 60.0

Say = Callable[[str], None]


class ClusterError(XpnnError, RuntimeError):
    """A cluster can't do the jobs any more; the message says what to do."""


@contextlib.contextmanager
def cluster(address: str, *, say: Say = lambda message: None) -> Iterator[Executor]:
    """Connect to a Dask cluster and yield its executor.

    If the scheduler goes away or has no worker for `WORKERS` seconds, all jobs that it has not
    finished end with a `ClusterError`.

    Parameters
    ----------
    address
        The scheduler's address, such as "tcp://scheduler:8786".
    say
        Called with a line when there is no worker to wait for.

    Raises
    ------
    ArgumentError
        If Dask isn't installed, or no scheduler answers within `CONNECT` seconds.
    """
    try:
        import distributed
        from distributed.comm import resolve_address
    except ImportError:
        raise ArgumentError(
            "cluster needs Dask; install it with: pip install distributed"
        ) from None

    class OwnClient(distributed.Client):  # type: ignore[misc]
        def __del__(self) -> None:
            """Do nothing: a client without a scheduler would wait here and print a traceback."""

    def client_of(address: str, **options: Any) -> Any:
        # a client of an address that isn't one prints a traceback when it is deleted
        resolve_address(address)
        return OwnClient(address, **options)

    with _silent("distributed", "tornado", "asyncio"):
        client = _connected(client_of, address)
        watched = _Watched(client, address, say)
        try:
            yield watched
        finally:
            watched.end()
            with contextlib.suppress(Exception):
                client.close(timeout=_ASK)


def _connected(client: Callable[..., Any], address: str) -> Any:
    """Return a client of the scheduler."""
    found: Future[Any] = Future()

    def connect() -> None:
        try:
            found.set_result(client(address, timeout=CONNECT, set_as_default=False))
        except Exception as error:
            found.set_exception(error)

    # another service at that port may take the question, and never answer
    threading.Thread(target=connect, daemon=True).start()
    try:
        return found.result(CONNECT + _ASK)
    except Exception as error:
        reason = f"no answer within {CONNECT:g} s"
        if not isinstance(error, TimeoutError):
            reason = str(error) or type(error).__name__
        raise ArgumentError(
            f"cluster must be the address of a Dask scheduler, got {address!r}: {reason}"
        ) from None


@contextlib.contextmanager
def _silent(*names: str) -> Iterator[None]:
    """Keep what libraries log, tracebacks among it, from the screen."""
    # Dask gives some of its loggers levels and handlers of their own
    known = logging.root.manager.loggerDict.items()
    loggers = [
        logger
        for name, logger in list(known)
        if name.partition(".")[0] in names and isinstance(logger, logging.Logger)
    ]
    before = [logger.disabled for logger in loggers]
    for logger in loggers:
        logger.disabled = True
    try:
        yield
    finally:
        for logger, disabled in zip(loggers, before, strict=True):
            logger.disabled = disabled


class _Watched(Executor):
    """A client's executor whose jobs end with a `ClusterError` if the cluster is lost."""

    def __init__(self, client: Any, address: str, say: Say) -> None:
        self._client, self._address, self._say = client, address, say
        self._inner = client.get_executor(retries=RETRIES)
        self._pending: set[Future[Any]] = set()
        self._lost: str | None = None
        self._ended = threading.Event()
        self._lock = threading.RLock()
        threading.Thread(target=self._watch, daemon=True).start()

    def submit(self, function: Callable[..., Any], /, *args: Any, **options: Any) -> Future[Any]:
        outer: Future[Any] = Future()
        with self._lock:
            if self._lost is not None:
                outer.set_exception(ClusterError(self._lost))
                return outer
            self._pending.add(outer)
        inner = self._inner.submit(function, *args, **options)
        inner.add_done_callback(lambda done: self._finish(outer, done))
        outer.add_done_callback(lambda done: inner.cancel() if done.cancelled() else None)
        return outer

    def _finish(self, outer: Future[Any], inner: Future[Any]) -> None:
        if inner.cancelled():
            # by Dask, which forgets jobs when it loses the scheduler
            self._lose("went away")
            return
        with self._lock:
            if outer in self._pending and not outer.cancelled():
                self._pending.discard(outer)
                error = inner.exception()
                if error is None:
                    outer.set_result(inner.result())
                else:
                    outer.set_exception(error)

    def _watch(self) -> None:
        """Ask the scheduler for its workers again and again."""
        answered = seen = time.monotonic()
        told = False
        while not self._ended.wait(_ASK):
            now = time.monotonic()
            try:
                workers = self._client.sync(self._client.scheduler.ncores, callback_timeout=CONNECT)
                answered = now
            except Exception as error:
                if now - answered >= CONNECT or self._client.status != "running":
                    self._lose(f"doesn't answer any more ({error_text(error)})")
                    return
                continue
            if workers:
                seen, told = now, False
            elif now - seen >= WORKERS:
                self._lose(f"has had no worker for {WORKERS:g} s")
                return
            elif not told and now - seen >= 2 * _ASK:
                told = True
                self._say(
                    f"the Dask scheduler at {self._address} has no worker: start one with `dask "
                    f"worker {self._address}`, or the study ends in {WORKERS:g} s"
                )

    def _lose(self, what: str) -> None:
        """End all jobs that aren't finished."""
        with self._lock:
            if self._lost is None:
                self._lost = (
                    f"the Dask scheduler at {self._address} {what}; the results so far are kept: "
                    "start a scheduler and workers, and then the study again"
                )
            pending, self._pending = self._pending, set()
        for outer in pending:
            if not outer.cancelled():
                outer.set_exception(ClusterError(self._lost))

    def end(self) -> None:
        """Stop watching."""
        self._ended.set()
