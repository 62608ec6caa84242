"""What the cells of a CSV file hold: numbers, labels, missing values."""

from __future__ import annotations

import contextlib
import math
import operator
import re
from collections.abc import Sequence

import numpy as np

from xpnn._core.mapped import EXACT
from xpnn.datasets.labels import check_count
from xpnn.errors import DataError

_MISSING = {"", "?", "na", "n/a", "nan", "null", "none"}
_INTEGER = re.compile(r"[+-]?[0-9]+")
_DECIMAL_COMMA = re.compile(r"[+-]?[0-9]+,[0-9]+")
# numbers as people write them, and float doesn't read: 0,65  1,007.5  1.007,5  1'007  5 %  $ 5
_OTHER_NUMBER = re.compile(
    r"[$€£¥]?\s*[+-]?[0-9]+([.,' \u00a0\u202f][0-9]+)*([eE][+-]?[0-9]+)?\s*[%‰$€£¥]?"
)


def finite_number(cell: str) -> float:
    """Return the number in a cell, or raise a DataError that says what is wrong with it."""
    if is_missing(cell):
        raise DataError(f"a missing value ({cell!r})" if cell else "a missing value")
    number = _number(cell)
    if number is None:
        raise DataError(f"{shown(cell)} is not a number{_hint(cell)}")
    if not math.isfinite(number):
        raise DataError(f"{shown(cell)} is not finite in float64")
    # zeros in front are cut off, because Python refuses to read thousands of digits
    if abs(number) >= EXACT and _INTEGER.fullmatch(cell) and int(cell.lstrip("+-0")) != abs(number):
        raise DataError(f"{shown(cell)} is an integer beyond 2**53 that float64 can't hold exactly")
    return number


def numbers_in(cells: Sequence[str]) -> list[float]:
    """Return the numbers in a row of cells; an error about one of them has its `column`."""
    try:
        # the common case, fast: finite numbers that are far below 2**53
        numbers = list(map(float, cells))
        # a sum of NaN or infinities isn't < EXACT; float reads 1_000 as a number
        if math.fsum(map(abs, numbers)) < EXACT and "_" not in "".join(cells):
            return numbers
    except (OverflowError, ValueError):
        pass
    numbers = []
    for column, cell in enumerate(cells):
        try:
            numbers.append(finite_number(cell))
        except DataError as error:
            raise DataError(error.problem, column=column) from None
    return numbers


def _number(cell: str) -> float | None:
    # float reads 1_000 as a number
    if "_" in cell:
        return None
    try:
        return float(cell)
    except ValueError:
        return None


def is_number(cell: str) -> bool:
    """Return whether a cell holds a number with a decimal point, finite or not."""
    return _number(cell) is not None


def is_text(cell: str) -> bool:
    """Return whether a cell holds neither a number, in any style, nor a missing value."""
    return not (is_missing(cell) or is_number(cell) or _OTHER_NUMBER.fullmatch(cell))


def is_missing(cell: str) -> bool:
    """Return whether a cell is empty or holds a mark of a missing value."""
    return cell.lower() in _MISSING


def _hint(cell: str) -> str:
    """Return, in brackets, how a number in another style must be written; "" for other text."""
    if _DECIMAL_COMMA.fullmatch(cell):
        return " (a decimal point is wanted)"
    if _OTHER_NUMBER.fullmatch(cell):
        return " (plain digits with a decimal point are wanted)"
    return ""


def shown(cell: str) -> str:
    """Return a cell as messages show it."""
    return repr(cell if len(cell) <= 40 else cell[:39] + "…")


def as_target(cells: Sequence[str], task: str | None) -> np.ndarray:
    """Return the target of a table: labels for a classification, float64 for a regression.

    Labels are int64 if each cell is an integer in plain form ("7", not "007") that fits, and
    otherwise strings as they are written.

    Parameters
    ----------
    cells
        The cells of the target's column.
    task
        "classification" or "regression"; None to tell it by the cells.

    Raises
    ------
    DataError
        If a cell is empty, a value of a regression isn't a finite number, or the cells don't show
        which task is meant.
    """
    if "" in cells:
        raise DataError("a missing value", part="y", row=cells.index(""))
    if (task or _task(cells)) == "classification":
        with contextlib.suppress(OverflowError, ValueError):
            labels = np.array(list(map(int, cells)), np.int64)
            if all(map(operator.eq, map(str, labels.tolist()), cells)):
                return labels
        return np.array(cells)
    try:
        return np.array(numbers_in(cells))
    except DataError as error:
        raise DataError(error.problem, part="y", row=error.column) from None


def _task(cells: Sequence[str]) -> str:
    """Return the task that the cells of a target show, or raise an error that asks for it."""
    if all(map(_INTEGER.fullmatch, cells)):
        check_count("integers", len(set(cells)), len(cells))
        return "classification"
    numbers = [_number(cell) for cell in cells]
    missing = [row for row, cell in enumerate(cells) if is_missing(cell)]
    others = [row for row, number in enumerate(numbers) if number is None]
    if set(others) <= set(missing):
        return "regression"
    row, condition = others[0], "if all are labels"
    problem = f"{shown(cells[row])} is not a number"
    values = (
        cell
        for cell, number in zip(cells, numbers, strict=True)
        if number is not None and math.isfinite(number) and not _INTEGER.fullmatch(cell)
    )
    value = next(values, None)
    if value is not None:
        problem += f", as {value} in the same column is"
    elif missing:
        row, condition = missing[0], "if it is a label"
        problem = f"a missing value ({cells[row]!r})"
    elif all(map(_OTHER_NUMBER.fullmatch, cells)):
        problem += _hint(cells[row])
    elif others == list(range(1, len(cells))):
        raise DataError(
            f"{shown(cells[0])} is a number, and all cells below are text: if it is the name of "
            "the column, say header yes; if a label, task classification",
            part="y",
            row=0,
        )
    else:
        check_count("texts", len(set(cells)), len(cells))
        return "classification"
    raise DataError(f"{problem}; {condition}, say task classification", part="y", row=row)
