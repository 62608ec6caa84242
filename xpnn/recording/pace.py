"""`Pace`: whether several threads do a step faster than one does, at present."""

from __future__ import annotations

import time
from collections.abc import Iterator

# a turn has at most so many steps, and fewer if they take longer than so many seconds together
_STEPS, _SECONDS = 8, 0.004
# This thread never sleeps in a turn. If the turn took so many times its own processor time, there
# are more threads than processors, and who waits for another thread waits for long.
_CROWDED = 1.15
# After so many turns one thread is timed again.
_OFTEN = 256
# Seconds before several threads are tried again that weren't faster: four times as many each time,
# up to the second figure, but the first one if they were faster for so many turns before.
_WAIT, _LONGEST, _STEADY = 0.01, 1.28, 8


class Pace:
    """Chooses between one thread and several, turn by turn: other processes come and go."""

    def __init__(self) -> None:
        self._turns = 0
        self._seconds = {False: 0.0, True: 0.0}  # of a step, by whether several threads do it
        self._until, self._wait = 0.0, _WAIT  # when several threads may be used again
        self._steady = 0  # turns of several threads since then

    def turns(self, count: int) -> Iterator[tuple[bool, int]]:
        """Return how to do `count` steps: whether with several threads, and for how many steps."""
        while count:
            begun, used = time.perf_counter(), time.thread_time()
            several = begun >= self._until and self._turns % _OFTEN > 0
            steps = min(count, _STEPS if self._seconds[False] * _STEPS < _SECONDS else 1)
            yield several, steps
            ended = time.perf_counter()
            crowded = ended - begun > _CROWDED * (time.thread_time() - used)
            self._note(several, (ended - begun) / steps, crowded, ended)
            count -= steps

    def _note(self, several: bool, seconds: float, crowded: bool, now: float) -> None:
        self._turns += 1
        if not crowded:
            # the last few turns: a single one may have been disturbed
            before = self._seconds[several] or seconds
            self._seconds[several] = 0.75 * before + 0.25 * seconds
        if not several:
            return
        self._steady += 1
        if crowded or self._seconds[True] > self._seconds[False] > 0.0:
            self._wait = _WAIT if self._steady > _STEADY else min(4 * self._wait, _LONGEST)
            self._until, self._steady, self._seconds[True] = now + self._wait, 0, 0.0
