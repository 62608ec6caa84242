"""How many cores this process has."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")


def cores() -> int:
    """Return on how many cores this process may run at a time, at least 1.

    These are the ones that it is bound to, or that Python was told of (``PYTHON_CPU_COUNT``), and
    not more than the processor time that its control group, and each around it, may use, as in a
    container, rounded up.
    """
    told = getattr(os, "process_cpu_count", None)  # from Python 3.13 on
    bound = getattr(os, "sched_getaffinity", None)
    count = told() if told else len(bound(0)) if bound else os.cpu_count()
    count = count or 1
    for quota, period in _quotas():
        count = min(count, max(1, -(-quota // period)))
    return count


def _quotas() -> Iterator[tuple[int, int]]:
    """Yield how much processor time each control group may use in how much time."""
    # of version 2, which has both numbers in one file, and of version 1; no limit isn't a number
    for root, names, controller in (
        (_GROUPS, ("cpu.max",), ""),
        (_GROUPS / "cpu", ("cpu.cfs_quota_us", "cpu.cfs_period_us"), "cpu"),
    ):
        own = root / _path_in(controller).strip("/")
        for group in (own, *own.parents):
            if not group.is_relative_to(root):
                break
            with contextlib.suppress(OSError, ValueError):
                texts = [(group / name).read_text(encoding="ascii") for name in names]
                quota, period = map(int, " ".join(texts).split())
                if quota > 0:
                    yield quota, period


def _path_in(controller: str) -> str:
    """Return where this process's control group is in a hierarchy; its top if nothing says so."""
    with contextlib.suppress(OSError, ValueError):
        for line in _OWN.read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            if controller in controllers.split(","):
                return path
    return "/"
