"""Ctrl-C, held back where something is written that must not stop half-way."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any


class Held:
    """What `held` yields.

    Attributes
    ----------
    pending
        Whether a Ctrl-C is held back.
    """

    def __init__(self) -> None:
        self.pending = False
        self._raising = False

    @contextlib.contextmanager
    def raised(self) -> Iterator[None]:
        """Let the first Ctrl-C within the block interrupt it, as usual."""
        self._raising = True
        try:
            yield
        finally:
            self._raising = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._raising or self.pending:
            # what follows must finish: from now on, the next one is held back
            self._raising = False
            raise KeyboardInterrupt
        self.pending = True


@contextlib.contextmanager
def held() -> Iterator[Held]:
    """Hold back a Ctrl-C until the end of the block; a second one interrupts it at once.

    Only the main thread is ever interrupted, so that the block is a plain one in others; and so it
    is where Ctrl-C is ignored, or handled outside Python.
    """
    own = Held()
    before: Any = signal.getsignal(signal.SIGINT)
    main = threading.current_thread() is threading.main_thread()
    if not main or not callable(before):
        yield own
        return
    signal.signal(signal.SIGINT, own._handle)
    try:
        yield own
    finally:
        signal.signal(signal.SIGINT, before)
    if own.pending:
        signal.raise_signal(signal.SIGINT)
