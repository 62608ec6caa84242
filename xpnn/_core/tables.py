"""Tables of text, aligned for a terminal or as HTML for a notebook."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

__all__ = ["html_table", "line", "printable", "table"]


def table(rows: Sequence[Sequence[str]], *, numeric: Sequence[int] = ()) -> str:
    """Return rows as text in columns, with those in `numeric` aligned to the right."""
    rows = [list(map(printable, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(line(row, widths, numeric) for row in rows)


def line(row: Sequence[str], widths: Sequence[int], numeric: Sequence[int] = ()) -> str:
    """Return a row of a table whose columns have these widths."""
    return "  ".join(
        cell.rjust(width) if i in numeric else cell.ljust(width)
        for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    ).rstrip()


def printable(text: str) -> str:
    """Return a text without what would move the cursor, colour a terminal or turn its lines.

    Labels and names of columns may hold a newline, or come from somebody who hides something.
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def html_table(
    rows: Sequence[Sequence[object]], *, numeric: Iterable[int] = (), caption: str = ""
) -> str:
    """Return rows as an HTML table, the first one as its head, with all text escaped."""
    numeric = set(numeric)
    lines = [f"<caption>{html.escape(caption)}</caption>"] if caption else []
    for number, row in enumerate(rows):
        tag = "td" if number else "th"
        cells = (
            f'<{tag} style="text-align: {"right" if i in numeric else "left"}">'
            f"{html.escape(printable(str(cell)))}</{tag}>"
            for i, cell in enumerate(row)
        )
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return "\n".join(["<table>", *lines, "</table>"])
