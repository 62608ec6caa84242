"""How many cores this process has."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_GROUP = Path("/sys/fs/cgroup")


def cores() -> int:
    """Return on how many cores this process may run at a time, at least 1.

    These are the ones that it is bound to, and not more than the processor time that its control
    group may use, as in a container, rounded up.
    """
    bound = getattr(os, "sched_getaffinity", None)
    count = len(bound(0)) if bound else os.cpu_count() or 1
    for quota, period in _quotas():
        count = min(count, max(1, -(-quota // period)))
    return count


def _quotas() -> list[tuple[int, int]]:
    """Return how much processor time the control group may use in how much time."""
    found = []
    # of version 2, which has both numbers in one file, and of version 1; no limit isn't a number
    for names in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        with contextlib.suppress(OSError, ValueError):
            texts = [(_GROUP / name).read_text(encoding="ascii") for name in names]
            quota, period = map(int, " ".join(texts).split())
            if quota > 0:
                found.append((quota, period))
    return found
