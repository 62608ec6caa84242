"""What commands print, and the status with which they exit."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from xpnn.model import Sequential, SummaryRow

DIFFERENT, FAILED, USAGE_ERROR, INTERRUPTED = 1, 1, 2, 130


def table(rows: Sequence[Sequence[str]], *, numeric: Sequence[int] = ()) -> str:
    """Return rows as text in columns, some of them aligned to the right."""
    # a label may hold a newline
    rows = [[_printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(line(row, widths, numeric) for row in rows)


def _printable(cell: str) -> str:
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in cell)


def line(row: Sequence[str], widths: Sequence[int], numeric: Sequence[int] = ()) -> str:
    """Return a row of a table whose columns have these widths."""
    return "  ".join(
        cell.rjust(width) if i in numeric else cell.ljust(width)
        for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    ).rstrip()


def summary(model: Sequential, inputs: int) -> str:
    """Return a table of a model's layers."""
    rows = model.summary(inputs)
    total = sum(row.parameters for row in rows)
    cells = [SummaryRow._fields, *rows, ("total", "", inputs, model.outputs(inputs), total)]
    return table([[str(cell) for cell in row] for row in cells], numeric=(2, 3, 4))


def complain(message: str) -> None:
    """Print a line to standard error."""
    print(f"xpnn: {message}", file=sys.stderr, flush=True)
