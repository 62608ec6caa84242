"""What the cells of a CSV file hold: numbers, labels, missing values."""

from __future__ import annotations

import math
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
        raise DataError(f"a missing value{cell and f' ({cell!r})'}")
    number = _number(cell)
    if number is None:
        raise DataError(f"{shown(cell)} is not a number{_hint(cell)}")
    if not math.isfinite(number):
        raise DataError(f"{shown(cell)} is not finite in float64")
    # without zeros in front: Python refuses to read thousands of digits
    if abs(number) >= EXACT and _INTEGER.fullmatch(cell) and int(cell.lstrip("+-0")) != abs(number):
        raise DataError(f"{shown(cell)} is an integer beyond 2**53 that float64 can't hold exactly")
    return number


def numbers_in(cells: Sequence[str]) -> list[float]:
    """Return the numbers in cells; an error says the column of the first that isn't one."""
    try:
        numbers = list(map(float, cells))
        # false for NaN too; float takes 1_000
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


def as_weight(cell: str) -> float:
    """Return the weight in a cell, or raise a DataError that says what is wrong with it."""
    number = finite_number(cell)
    if number < 0:
        raise DataError(f"a weight must be >= 0, got {shown(cell)}")
    return number


def _number(cell: str) -> float | None:
    # float takes 1_000 too
    if "_" in cell:
        return None
    try:
        return float(cell)
    except ValueError:
        return None


def is_number(cell: str) -> bool:
    """Return whether a cell holds a number with a decimal point, finite or not."""
    return _number(cell) is not None


def _is_int64(cell: str) -> bool:
    # Python refuses to read thousands of digits
    return (
        len(cell) <= 20
        and _INTEGER.fullmatch(cell) is not None
        and str(int(cell)) == cell
        and -(2**63) <= int(cell) < 2**63
    )


def is_text(*cells: str) -> bool:
    """Return whether cells hold neither numbers, in whatever style, nor missing values."""
    return not any(
        is_missing(cell) or is_number(cell) or _OTHER_NUMBER.fullmatch(cell) for cell in cells
    )


def is_missing(cell: str) -> bool:
    """Return whether a cell is empty or holds a mark of a missing value."""
    return cell.lower() in _MISSING


def _hint(cell: str) -> str:
    """Return what would make a number of a cell, in brackets."""
    if _DECIMAL_COMMA.fullmatch(cell):
        return " (a decimal point is wanted)"
    if _OTHER_NUMBER.fullmatch(cell):
        return " (plain digits with a decimal point are wanted)"
    return ""


def shown(cell: str) -> str:
    """Return a cell as messages show it."""
    return repr(cell if len(cell) <= 40 else cell[:39] + "…")


def as_target(cells: Sequence[str], task: str | None) -> np.ndarray:
    """Return labels for a classification, float64 for a regression.

    Labels are int64 if all are integers in their plain form that fit, else strings as they are
    written.
    """
    if "" in cells:
        raise DataError("a missing value", part="y", row=cells.index(""))
    if (task or _task(cells)) == "classification":
        if all(map(_is_int64, cells)):
            return np.array([int(cell) for cell in cells], np.int64)
        return np.array(cells)
    values = np.empty(len(cells))
    for row, cell in enumerate(cells):
        try:
            values[row] = finite_number(cell)
        except DataError as error:
            raise DataError(error.problem, part="y", row=row) from None
    return values


def _task(cells: Sequence[str]) -> str:
    """Return the task that the cells of a target are for, or raise an error that asks for it."""
    numbers = [_number(cell) for cell in cells]
    if all(map(_INTEGER.fullmatch, cells)):
        check_count("integers", len(set(cells)), len(cells))
        return "classification"
    if all(number is not None or is_missing(c) for number, c in zip(numbers, cells, strict=True)):
        return "regression"
    row = numbers.index(None)
    problem, ask = f"{shown(cells[row])} is not a number", "if all are labels"
    values = (
        cell
        for cell, number in zip(cells, numbers, strict=True)
        if number is not None and math.isfinite(number) and not _INTEGER.fullmatch(cell)
    )
    value = next(values, None)
    missing = next((row for row, cell in enumerate(cells) if is_missing(cell)), None)
    if value is not None:
        problem += f", as {value} in the same column is"
    elif missing is not None:
        row, problem, ask = missing, f"a missing value ({cells[missing]!r})", "if it is a label"
    elif all(map(_OTHER_NUMBER.fullmatch, cells)):
        problem += _hint(cells[row])
    elif row == 1 and numbers.count(None) == len(cells) - 1:
        raise DataError(
            f"{shown(cells[0])} is a number, and all below is text: if it is a name, say header "
            "yes; if a label, task classification",
            part="y",
            row=0,
        )
    else:
        check_count("texts", len(set(cells)), len(cells))
        return "classification"
    raise DataError(f"{problem}; {ask}, say task classification", part="y", row=row)
