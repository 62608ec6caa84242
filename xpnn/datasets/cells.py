"""What the cells of a table hold: numbers, texts, dates, labels, missing values."""

from __future__ import annotations

import contextlib
import math
import operator
import re
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np

from xpnn._core.mapped import EXACT
from xpnn.datasets.labels import check_count
from xpnn.errors import DataError, written

_MISSING = {"", "?", "na", "n/a", "nan", "-nan", "null", "none", "<na>", "#n/a", "#na", "nat"}
_TRUTH = {"true", "false"}
_INTEGER = re.compile(r"[+-]?[0-9]+")
_DECIMAL_COMMA = re.compile(r"[+-]?[0-9]+,[0-9]+")
# numbers as people write them, and float doesn't read: 0,65  1,007.5  1.007,5  1'007  5 %  $ 5
_OTHER_NUMBER = re.compile(
    r"[$€£¥]?\s*[+-]?[0-9]+([.,' \u00a0\u202f][0-9]+)*([eE][+-]?[0-9]+)?\s*[%‰$€£¥]?"
)
# 2024-01-31, 31.1.2024, 1/31/24, each with or without a time
_DATE = re.compile(
    r"([0-9]{4}[-/.][0-9]{1,2}[-/.][0-9]{1,2}|[0-9]{1,2}([-/.])[0-9]{1,2}\2([0-9]{4}|[0-9]{2}))"
    r"([T ]+[0-9]{1,2}:[0-9]{2}.*)?"
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


def is_truth(cell: str) -> bool:
    """Return whether a cell holds true or false, in capitals or not."""
    return cell.lower() in _TRUTH


def is_absent(cell: Any) -> bool:
    """Return whether a cell of any type is missing: None, NaN, pandas' NA, or a mark of it."""
    if cell is None or isinstance(cell, str):
        return cell is None or is_missing(cell.strip())
    try:
        return bool(cell != cell)
    except TypeError:  # pandas' NA is neither true nor false
        return True
    except Exception:  # an array in a cell, of any library
        return False


def value_of(cell: Any) -> float | str:
    """Return what a cell of any type holds, equal for each way in which it can be read.

    A number, and a text that is one, is that number; true and false, also as texts, are 1 and 0;
    what is missing is NaN; everything else is its text.
    """
    if type(cell) is float:
        return cell
    if is_absent(cell):
        return math.nan
    text = cell.strip() if isinstance(cell, str) else str(cell)
    if text.lower() in _TRUTH:
        return float(text.lower() == "true")
    number = _number(text)
    return text if number is None else number


def each(function: Callable[[Any], Any], cells: np.ndarray) -> list[Any]:
    """Return a function of each cell, called once for each text: most columns have few."""
    listed = cells.tolist()
    if not {str, type(None)}.issuperset(map(type, listed)):
        return list(map(function, listed))
    known = {cell: function(cell) for cell in set(listed)}
    return [known[cell] for cell in listed]


def absent_in(cells: np.ndarray) -> np.ndarray:
    """Return which cells of a column are missing."""
    if {float}.issuperset(map(type, cells.tolist())):
        return np.isnan(cells.astype(np.float64))
    return np.array(each(is_absent, cells), bool)


def date_in(cell: Any) -> bool:
    """Return whether a cell holds a date, as an object or in figures."""
    if isinstance(cell, str):
        return _DATE.fullmatch(cell.strip()) is not None
    return isinstance(cell, np.datetime64) or hasattr(cell, "isoformat")


def check_dates(name: str, present: Sequence[Any], *, target: bool = False) -> None:
    """Raise a DataError if most of the cells of a column are dates."""
    dates = [cell for cell in present if date_in(cell)]
    if 2 * len(dates) > len(present):
        raise DataError(
            f"{'the target' if target else f'column {name!r}'} holds dates, such as "
            f"{shown(str(dates[0]))}: turn them into numbers first, such as days since the first "
            f"one (in pandas, d = pandas.to_datetime(df[{name!r}]); df[{name!r}] = "
            "(d - d.min()).dt.days)",
            part="y" if target else None,
        )


def no_target(name: str, row: int, mark: object = "") -> DataError:
    """Return the error about a row whose target is missing, or holds a mark of that."""
    told = f" ({mark!r})" if mark else ""
    return DataError(
        f"a missing value{told}; leave out the rows without a target (in pandas, "
        f"df = df.dropna(subset=[{name!r}]))",
        part="y",
        row=row,
    )


def as_column(cells: Sequence[str]) -> np.ndarray:
    """Return a column of a table: float64, NaN if missing; or an object array of texts and None.

    A column holds numbers if all cells that aren't missing are numbers, and texts if more than a
    tenth of them, and more than one, is text, or all are.

    Raises
    ------
    DataError
        With the row, in all other cases: a few texts among numbers, a number in another style, or
        one that isn't finite or exact in float64.
    """
    present = [row for row, cell in enumerate(cells) if not is_missing(cell)]
    numbers = np.full(len(cells), np.nan)
    try:
        numbers[present] = numbers_in([cells[row] for row in present])
        return numbers
    except DataError as error:
        wrong, problem = present[cast("int", error.column)], error.problem
    texts = sum(is_text(cells[row]) or date_in(cells[row]) for row in present)
    if texts < len(present) and texts <= max(1, len(present) // 10):
        raise DataError(problem, part="x", row=wrong)
    return as_texts(cells)


def as_texts(cells: Sequence[str]) -> np.ndarray:
    """Return a column of a table as an object array of texts, None if missing."""
    known: dict[str, str | None] = {}
    # equal cells are one object
    texts = [known.setdefault(cell, None if is_missing(cell) else cell) for cell in cells]
    return np.array(texts, object)


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


def as_target(name: str, cells: Sequence[str], task: str | None) -> np.ndarray:
    """Return the target of a table: labels for a classification, float64 for a regression.

    Labels are int64 if each cell is an integer in plain form ("7", not "007") that fits, and
    otherwise strings as they are written.

    Parameters
    ----------
    name, cells
        The target's column.
    task
        "classification" or "regression"; None to tell it by the cells.

    Raises
    ------
    DataError
        If a cell is empty, a value of a regression isn't a finite number, or the cells are dates or
        don't show which task is meant.
    """
    if "" in cells:
        raise no_target(name, cells.index(""))
    if task != "classification":
        check_dates(name, cells, target=True)
    if (task or _task(name, cells)) == "classification":
        with contextlib.suppress(OverflowError, ValueError):
            labels = np.array(list(map(int, cells)), np.int64)
            if all(map(operator.eq, map(str, labels.tolist()), cells)):
                return labels
        return np.array(cells)
    try:
        return np.array(numbers_in(cells))
    except DataError as error:
        row = cast("int", error.column)
        if is_missing(cells[row]):
            raise no_target(name, row, cells[row]) from None
        raise DataError(error.problem, part="y", row=row) from None


def _task(name: str, cells: Sequence[str]) -> str:
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
        problem = no_target(name, row, cells[row]).problem
    elif all(map(_OTHER_NUMBER.fullmatch, cells)):
        problem += _hint(cells[row])
    elif others == list(range(1, len(cells))):
        raise DataError(
            f"{shown(cells[0])} is a number, and all cells below are text: if it is the name of "
            f"the column, say {written('header', True)}; if a label, "
            f"{written('task', 'classification')}",
            part="y",
            row=0,
        )
    else:
        check_count("texts", len(set(cells)), len(cells))
        return "classification"
    raise DataError(
        f"{problem}; {condition}, say {written('task', 'classification')}", part="y", row=row
    )
