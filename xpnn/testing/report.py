"""The results of a check on each backend that is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from xpnn.backends import BACKENDS, DTYPES, Backend, get_backend
from xpnn.errors import ArgumentError, BackendError


class PartError(AssertionError):
    """A part has a mistake; the message says where, what was expected and what came instead."""


class Row(NamedTuple):
    """A report's line for a backend and a dtype."""

    backend: str
    dtype: str
    entries: int
    kinks: int
    error: float


@dataclass(frozen=True)
class Report:
    """The result of a check; printed, it is a table.

    Attributes
    ----------
    part
        The part that was checked.
    verdict
        The result, in words.
    rows
        For each backend and dtype: the number of entries that were compared, how many of them are
        near a kink, and the largest error in units of the largest derivative (for an optimizer, of
        the largest parameter).
    skipped
        The backends that aren't installed, each with the reason.
    """

    part: str
    verdict: str
    rows: tuple[Row, ...]
    skipped: Mapping[str, str]

    def __str__(self) -> str:
        table = [("backend", "dtype", "entries", "kinks", "largest error")]
        table += [
            (row.backend, row.dtype, str(row.entries), str(row.kinks), f"{row.error:.1e}")
            for row in self.rows
        ]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = ["  ".join(map(str.ljust, cells, widths)).rstrip() for cells in table]
        skipped = [f"skipped {name}: {reason}" for name, reason in self.skipped.items()]
        return "\n".join([f"{self.part}: {self.verdict}", *lines, *skipped])


def report(
    part: str,
    verdict: str,
    names: Iterable[str] | None,
    check: Callable[[Backend], tuple[int, int, float]],
) -> Report:
    """Return the report of a check on each backend, in float64 first.

    `check` returns entries, kinks and error of a `Row`; `names` are `check_gradients`'s `backends`.
    """
    if names is not None:
        names = names if isinstance(names, str) else tuple(names)
        if isinstance(names, str) or not names:
            raise ArgumentError(f"backends must be a list of one name or more, got {names!r}")
    rows, skipped = [], {}
    for name in BACKENDS if names is None else names:
        for dtype in reversed(DTYPES):
            try:
                backend = get_backend(name, dtype=dtype)
            except BackendError as error:
                if names is not None:
                    raise
                skipped[name] = str(error)
                break
            try:
                with backend.scope():
                    rows.append(Row(name, dtype, *check(backend)))
            except PartError as error:
                raise PartError(f"{part} on {name} in {dtype}: {error}") from error.__cause__
    return Report(part, verdict, tuple(rows), skipped)
