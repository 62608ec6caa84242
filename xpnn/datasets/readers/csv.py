"""CSV files as columns of numbers and a target, with the place of each cell for messages."""

from __future__ import annotations

import csv
import itertools
import math
import operator
import os
import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from xpnn.datasets.dataset import place
from xpnn.errors import ArgumentError, DataError, unknown

TASKS = ("classification", "regression")

# integers up to here are all float64s
_EXACT = 2.0**53

_MISSING = {"", "?", "na", "n/a", "nan", "null", "none"}
_INTEGER = re.compile(r"[+-]?[0-9]+")
_DECIMAL_COMMA = re.compile(r"[+-]?[0-9]+,[0-9]+")
# what people write for numbers, and float doesn't read: 0,65  1,007.5  1.007,5  1'007  5 %  $ 5
_OTHER_NUMBER = re.compile(
    r"[$€£¥]?\s*[+-]?[0-9]+([.,' \u00a0\u202f][0-9]+)*([eE][+-]?[0-9]+)?\s*[%‰$€£¥]?"
)

# integers are classes, unless there are many different ones and few of each
_MOST_CLASSES, _FEWEST_EACH = 20, 10

# rows that are looked at to tell a column of text from a stray cell, names that a message lists
_LOOKED_AT, _LISTED = 20, 20


class Table(NamedTuple):
    """What `read_csv` found.

    Attributes
    ----------
    names
        Of the columns of `values`; their numbers where the file has no header.
    values
        The features, float64 of shape (n, features).
    target_name, target
        Name and cells of the target column; None and no cells where there is none.
    lines
        The line of the file that each row begins in, from 1 on.
    header
        Whether the file has one.
    weights
        Of the rows, float64 of shape (n,); None if no column holds them.
    """

    names: tuple[str, ...]
    values: np.ndarray
    target_name: str | None
    target: list[str]
    lines: np.ndarray
    header: bool
    weights: np.ndarray | None = None


def read_csv(
    path: str | os.PathLike[str],
    *,
    target: str | int | None = -1,
    header: bool | None = None,
    ignore: Sequence[str | int] = (),
    features: Sequence[str] | None = None,
    weights: str | int | None = None,
) -> Table:
    """Read a CSV file: UTF-8 with or without BOM, cells in quotes or not, blank lines skipped.

    The delimiter is the first of tab, semicolon, comma that is in the first line outside quotes.
    Features must be finite numbers with a decimal point; integers must be float64s exactly.

    Parameters
    ----------
    path
        The file.
    target
        The target column by name, or by number: from 1 on, or from -1, the last, backwards. No
        target if None.
    header
        Whether the first row is one of names. If None, it is where one of its cells is text while
        the cell below is a number; a row alone is a header if none of its cells is a number.
    ignore
        Columns by name or number that are neither features nor target.
    features
        The names of the columns that are features, in order; all others are ignored. Without a
        header and a target, a file may also have these columns alone, in order.
    weights
        The column, by name or number, of what each row counts: numbers >= 0. It is neither feature
        nor target.

    Raises
    ------
    DataError
        With file, line and column where something isn't as it must be.
    ArgumentError
        If `target`, `ignore` or `weights` names no column, or one of them that of another.
    """
    path = Path(path)
    records = _records(path)
    first = next(records, None)
    if first is None:
        raise DataError(f"{path} holds nothing but blank lines")
    second = next(records, None)
    width = len(first[1])
    if header is None:
        header = _is_header(first[1], None if second is None else second[1])
    names = _names(path, first) if header else [str(i + 1) for i in range(width)]
    rest = [record for record in ([second] if header else [first, second]) if record is not None]
    records = itertools.chain(rest, records)

    at = None if target is None else _position(f"target of {path}", target, names)
    scale = None if weights is None else _position(f"weights of {path}", weights, names)
    if scale is not None and scale == at:
        raise ArgumentError(
            f"target and weights must be different columns, got {names[scale]!r} for both; say "
            "which is the target"
        )
    if features is None:
        ignored = {_position(f"ignored column of {path}", name, names) for name in ignore}
        if at in ignored:
            raise ArgumentError(f"target {names[at]!r} must not be ignored")
        if scale in ignored:
            raise ArgumentError(f"weights {names[scale]!r} must not be ignored")
        chosen = [i for i in range(width) if i not in (at, scale) and i not in ignored]
        if not chosen:
            raise DataError(f"{path} has no column for features, only {', '.join(names)}")
    elif set(features) <= set(names):
        chosen = [names.index(name) for name in features]
    elif not header and at is None and len(features) == width:
        chosen = list(range(width))
    else:
        lacking = next(name for name in features if name not in names)
        raise DataError(f"{path} has no column {lacking!r}, which is one of the features")

    values, cells, lines, counts = array("d"), [], array("q"), array("d")
    pick = _picker(chosen)
    for line, row in records:
        if len(row) != width:
            raise DataError(
                f"{path}, line {line}: {_cells(len(row))}, where the first row has {width}"
            )
        picked = pick(row)
        try:
            numbers = list(map(float, picked))
            # false for NaN too
            plain = math.fsum(map(abs, numbers)) < _EXACT and "_" not in "".join(picked)
        except (OverflowError, ValueError):
            plain = False
        if not plain:
            numbers = []
            for i in chosen:
                try:
                    numbers.append(finite_number(row[i]))
                except ValueError as error:
                    _check_not_text(path, line, i, names, row, lines, records)
                    raise DataError(f"{place(path, line, names[i])}: {error}") from None
        values.extend(numbers)
        lines.append(line)
        if at is not None:
            cells.append(row[at])
        if scale is not None:
            try:
                counts.append(_weight(row[scale]))
            except ValueError as error:
                raise DataError(f"{place(path, line, names[scale])}: {error}") from None
    if not lines:
        raise DataError(f"{path} has a header, and no rows below it")
    return Table(
        tuple(names[i] for i in chosen),
        np.array(values, np.float64).reshape(len(lines), len(chosen)),
        None if at is None else names[at],
        cells,
        np.array(lines, np.int64),
        header,
        None if scale is None else np.array(counts, np.float64),
    )


def count_columns(path: str | os.PathLike[str]) -> int:
    """Return how many cells the first row of a CSV file has."""
    return len(next(_records(Path(path)), (0, []))[1])


def finite_number(cell: str) -> float:
    """Return the number in a cell, or raise a ValueError that says what is wrong with it."""
    if _is_missing(cell):
        raise ValueError(f"a missing value{cell and f' ({cell!r})'}")
    number = _number(cell)
    if number is None:
        raise ValueError(f"{_shown(cell)} is not a number{_hint(cell)}")
    if not math.isfinite(number):
        raise ValueError(f"{_shown(cell)} is not finite in float64")
    if abs(number) >= _EXACT and _INTEGER.fullmatch(cell) and int(cell) != int(number):
        raise ValueError(
            f"{_shown(cell)} is an integer beyond 2**53 that float64 can't hold exactly"
        )
    return number


def _weight(cell: str) -> float:
    number = finite_number(cell)
    if number < 0:
        raise ValueError(f"a weight must be >= 0, got {_shown(cell)}")
    return number


def read_target(path: str | os.PathLike[str], table: Table, task: str | None = None) -> np.ndarray:
    """Return the target column of `table`: labels for a classification, floats for a regression.

    Parameters
    ----------
    path
        Of the file, for messages.
    table
        One that has a target.
    task
        "classification" or "regression". If None, integers and text are labels, and numbers of
        which one is written with a point or an exponent are values; asked about are numbers beside
        text, numbers in another style (0,65 or 5 %), many different integers or texts, marks of
        missing values (NA, ?), and a single number above text alone, which may be a name.

    Returns
    -------
    target
        int64 if all labels are integers in their plain form that fit, else strings, as they are
        written; float64 for a regression.
    """
    assert table.target_name is not None
    cells, name = table.target, table.target_name

    def fault(row: int, message: object) -> DataError:
        return DataError(f"{place(path, int(table.lines[row]), name)}: {message}")

    for row, cell in enumerate(cells):
        if not cell:
            raise fault(row, "a missing value")
    if task is None:
        task = _task(f"{path}, column {name!r}", table, fault)
    if task == "regression":
        values = np.empty(len(cells))
        for row, cell in enumerate(cells):
            try:
                values[row] = finite_number(cell)
            except ValueError as error:
                raise fault(row, error) from None
        return values
    if all(map(_is_int64, cells)):
        return np.array([int(cell) for cell in cells], np.int64)
    return np.array(cells)


def check_count(place: str, kind: str, distinct: int, rows: int) -> None:
    """Raise where integers or texts may be no classes: many different ones, and few of each."""
    if distinct > _MOST_CLASSES and rows < _FEWEST_EACH * distinct:
        ask = (
            "may be classes or values; say which: task classification or regression"
            if kind == "integers"
            else "are many for classes; if they are, say task classification"
        )
        raise DataError(f"{place}: {distinct} different {kind} in {rows} rows {ask}")


def _task(where: str, table: Table, fault: Callable[[int, object], DataError]) -> str:
    cells = table.target
    numbers = [_number(cell) for cell in cells]
    if all(map(_INTEGER.fullmatch, cells)):
        check_count(where, "integers", len(set(cells)), len(cells))
        return "classification"
    if all(number is not None or _is_missing(c) for number, c in zip(numbers, cells, strict=True)):
        return "regression"
    for cell, number in zip(cells, numbers, strict=True):
        if number is not None and math.isfinite(number) and not _INTEGER.fullmatch(cell):
            row = numbers.index(None)
            raise fault(
                row,
                f"{_shown(cells[row])} is not a number, as {cell} in the same column is; if all "
                "are labels, say task classification",
            )
    for row, cell in enumerate(cells):
        if _is_missing(cell):
            raise fault(
                row, f"a missing value ({cell!r}); if it is a label, say task classification"
            )
    if all(map(_OTHER_NUMBER.fullmatch, cells)):
        row = numbers.index(None)
        raise fault(
            row,
            f"{_shown(cells[row])} is not a number{_hint(cells[row])}; if all are labels, say task "
            "classification",
        )
    if len(cells) > 1 and numbers[0] is not None and not any(n is not None for n in numbers[1:]):
        raise fault(
            0,
            f"{_shown(cells[0])} is a number, and all below is text: if it is a name, say header "
            "yes; if a label, task classification",
        )
    check_count(where, "texts", len(set(cells)), len(cells))
    return "classification"


def _records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the line that each row begins in, and its cells without the space around them."""
    try:
        with path.open("rb") as raw:
            begin = raw.read(1 << 16)
        if not begin:
            raise DataError(f"{path} is empty")
        if begin[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise DataError(f"{path} is UTF-16; save it as UTF-8")
        if b"\0" in begin[:8]:
            raise DataError(f"{path} is not a text file: it begins with {begin[:8].hex(' ')}")
        # utf-8-sig drops a BOM
        with path.open(encoding="utf-8-sig", newline="") as file:
            delimiter = _delimiter(file)
            file.seek(0)
            reader = csv.reader(
                _text(path, file), delimiter=delimiter, skipinitialspace=True, strict=True
            )
            line = 1
            for row in reader:
                if row:
                    cells = [cell.strip() for cell in row]
                    if len(cells) > 1 or cells[0]:
                        yield line, cells
                line = reader.line_num + 1
    except OSError as error:
        raise DataError(f"can't read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise _not_utf8(path) from None
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}") from None


def _text(path: Path, lines: Iterable[str]) -> Iterator[str]:
    """Yield lines; NumPy would drop a NUL at the end of a string, and make two labels one."""
    for number, line in enumerate(lines, 1):
        if "\0" in line:
            raise DataError(f"{path} is not a text file: line {number} holds a NUL character")
        yield line


def _not_utf8(path: Path) -> DataError:
    """Return the error for the first bytes that aren't UTF-8."""
    delimiter = ","
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            before = next(csv.reader([line[: error.start].decode() + "x"], delimiter=delimiter))
            return DataError(
                f"{path}, line {number}, column {len(before)}: the byte {line[error.start]:#04x} "
                "is not UTF-8 text; save the file as UTF-8"
            )
        if number == 1:
            delimiter = _delimiter([text])
    return DataError(f"{path} is not UTF-8 text")


def _delimiter(lines: Iterable[str]) -> str:
    first = next((line for line in lines if line.strip()), "")
    bare = re.sub(r'"[^"]*"?', "", first)
    return next((mark for mark in "\t;" if mark in bare), ",")


def _is_header(first: Sequence[str], second: Sequence[str] | None) -> bool:
    if second is None:
        return all(_number(cell) is None for cell in first)
    return any(
        _number(cell) is None
        and not _is_missing(cell)
        and (_number(below) is not None or _DECIMAL_COMMA.fullmatch(below))
        for cell, below in zip(first, second, strict=False)
    )


def _names(path: Path, header: tuple[int, list[str]]) -> list[str]:
    line, names = header
    for i, name in enumerate(names):
        if not name:
            raise DataError(
                f"{path}, line {line}: column {i + 1} has no name (an index should not be there)"
            )
        if name in names[:i]:
            raise DataError(
                f"{path}, line {line}: columns {names.index(name) + 1} and {i + 1} are both "
                f"called {name!r}"
            )
    return names


def _position(what: str, column: str | int, names: Sequence[str]) -> int:
    if isinstance(column, str) and column in names:
        return names.index(column)
    number = int(column) if re.fullmatch(r"-?[0-9]{1,9}", str(column)) else 0
    if 1 <= abs(number) <= len(names):
        return number - 1 if number > 0 else len(names) + number
    listed = [*names[:_LISTED], *(["…"] if len(names) > _LISTED else [])]
    raise unknown(what, column, listed)


def _picker(columns: Sequence[int]) -> Callable[[Sequence[str]], Sequence[str]]:
    if len(columns) > 1:
        return operator.itemgetter(*columns)
    only = columns[0]
    return lambda row: (row[only],)


def _check_not_text(
    path: Path,
    line: int,
    column: int,
    names: Sequence[str],
    row: Sequence[str],
    before: Sequence[int],
    after: Iterator[tuple[int, list[str]]],
) -> None:
    """Raise if not this cell alone, but its column is text."""
    cell = row[column]
    if before or _is_missing(cell) or _number(cell) is not None or _DECIMAL_COMMA.fullmatch(cell):
        return
    below = [cells for _, cells in itertools.islice(after, _LOOKED_AT) if len(cells) > column]
    texts = [cells for cells in below if _number(cells[column]) is None]
    if below and 2 * len(texts) > len(below):
        raise DataError(
            f"{path}, line {line}: column {names[column]!r} holds text, such as "
            f"{_shown(cell)}; features must be numbers (turn it into numbers, or ignore it)"
        )


def _number(cell: str) -> float | None:
    # float takes 1_000 too
    if "_" in cell:
        return None
    try:
        return float(cell)
    except ValueError:
        return None


def _is_int64(cell: str) -> bool:
    # Python refuses to read thousands of digits
    return (
        len(cell) <= 20
        and _INTEGER.fullmatch(cell) is not None
        and str(int(cell)) == cell
        and -(2**63) <= int(cell) < 2**63
    )


def _hint(cell: str) -> str:
    """Return what would make a number of a cell, in brackets."""
    if _DECIMAL_COMMA.fullmatch(cell):
        return " (a decimal point is wanted)"
    if _OTHER_NUMBER.fullmatch(cell):
        return " (plain digits with a decimal point are wanted)"
    return ""


def _is_missing(cell: str) -> bool:
    return cell.lower() in _MISSING


def _shown(cell: str) -> str:
    return repr(cell if len(cell) <= 40 else cell[:39] + "…")


def _cells(count: int) -> str:
    return "1 cell" if count == 1 else f"{count} cells"
