"""What commands print, and their exit statuses."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from xpnn.model import Sequential, SummaryRow

DIFFERENT, FAILED, USAGE_ERROR, INTERRUPTED = 1, 1, 2, 130


def table(rows: Sequence[Sequence[str]], *, numeric: Sequence[int] = ()) -> str:
    """Return rows as text in columns, with those in `numeric` aligned to the right."""

    def printable(cell: str) -> str:
        # a label may contain a newline
        return "".join(c if c.isprintable() else repr(c)[1:-1] for c in cell)

    rows = [list(map(printable, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(line(row, widths, numeric) for row in rows)


def line(row: Sequence[str], widths: Sequence[int], numeric: Sequence[int] = ()) -> str:
    """Return a row of a table whose columns have these widths."""
    return "  ".join(
        cell.rjust(width) if i in numeric else cell.ljust(width)
        for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    ).rstrip()


def summary(model: Sequential) -> str:
    """Return a table of the layers of a model that has its parameters."""
    rows = model.summary()
    total = sum(row.parameters for row in rows)
    ends = rows[0].inputs, rows[-1].outputs
    cells = [SummaryRow._fields, *rows, ("total", "", *ends, total)]
    return table([[str(cell) for cell in row] for row in cells], numeric=(2, 3, 4))


def complain(message: str) -> None:
    """Print a line to standard error."""
    print(f"xpnn: {message}", file=sys.stderr, flush=True)
