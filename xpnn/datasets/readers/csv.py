"""CSV files: rows of cells, and which of their columns are features, target and weights."""

from __future__ import annotations

import csv
import itertools
import operator
import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from xpnn.datasets.dataset import NamedDataset, located, place
from xpnn.datasets.readers.cells import (
    as_target,
    is_missing,
    is_number,
    is_text,
    numbers_in,
    shown,
)
from xpnn.datasets.readers.reader import Reader, Request, check_weights, reading, ungzipped
from xpnn.errors import ArgumentError, DataError, unknown

# how the error handler "surrogateescape" shows bytes that aren't UTF-8
_ESCAPED = re.compile("[\udc80-\udcff]")

# how many column names a message lists
_LISTED = 20


def read_csv(path: Path, request: Request) -> NamedDataset:
    """Read a CSV file: UTF-8 with or without BOM, cells in quotes or not; blank lines are skipped.

    The file may be gzipped. The delimiter is the first of tab, semicolon, comma that is in the
    first line outside quotes. Features are finite numbers with a decimal point; integers must be
    exact in float64. `rows` of the data set holds the line in which each row begins.

    Raises
    ------
    DataError
        If the file can't be read or a cell can't be used, with line and column.
    ArgumentError
        If the request names a column that isn't there, or one column for two purposes.
    """
    records = _records(path)
    begin = list(itertools.islice(records, 2))
    if not begin:
        raise DataError(f"{path} holds nothing but blank lines")
    width, header = len(begin[0][1]), request.header
    if header is None:
        header = _is_header(*(cells for _, cells in begin))
    names = _names(path, *begin[0]) if header else [str(i + 1) for i in range(width)]
    features, target, weights = _columns(path, names, header, request)
    columns = [*features] if weights is None else [*features, weights]
    # of one column, itemgetter returns the cell and not a tuple
    pick: Callable[[Sequence[str]], Sequence[str]] = (
        operator.itemgetter(*columns) if len(columns) > 1 else lambda row: [row[columns[0]]]
    )

    # arrays of machine numbers, as large files would take several times the memory as lists
    numbers, lines, row_weights = array("d"), array("q"), array("d")
    target_cells = []
    records = itertools.chain(begin[header:], records)
    for line, row in records:
        if len(row) != width:
            found = "1 cell" if len(row) == 1 else f"{len(row)} cells"
            raise DataError(f"{found}, where the first row has {width}", place=place(path, line))
        try:
            values = numbers_in(pick(row))
        except DataError as error:
            index = cast("int", error.column)
            column, is_weight = columns[index], index == len(features)
            below = [] if is_weight or lines else next(records, (0, []))[1]
            if len(below) == width and is_text(row[column]) and is_text(below[column]):
                raise DataError(
                    f"column {names[column]!r} holds text, such as {shown(row[column])}; "
                    "features must be numbers (turn it into numbers, or ignore it)",
                    place=place(path, line),
                ) from None
            raise DataError(
                error.problem,
                part="weights" if is_weight else "x",
                row=len(lines),
                column=None if is_weight else index,
                place=place(path, line, names[column]),
            ) from None
        if weights is not None:
            row_weights.append(values.pop())
        numbers.extend(values)
        lines.append(line)
        if target is not None:
            target_cells.append(row[target])
    if not lines:
        raise DataError(f"{path} has a header, and no rows below it")
    data = NamedDataset(
        np.array(numbers, np.float64).reshape(len(lines), len(features)),
        np.empty((len(lines), 0)),
        path=str(path),
        feature_names=tuple(names[i] for i in features),
        target_name=None if target is None else names[target],
        rows=np.array(lines, np.int64),
        row_name="line",
    )
    if weights is not None:
        name = names[weights]
        data.weights = check_weights(
            np.array(row_weights, np.float64), lambda row: place(path, lines[row], name)
        )
    if target is None:
        return data
    with located(data):
        return data._replace(y=as_target(target_cells, request.task))


# takes any name, and also a device or a pipe
FILE = Reader(
    lambda path: path.exists() and not path.is_dir(),
    read_csv,
    "a CSV file",
    weights="a column of a CSV file",
    columns=lambda path: len(next(_records(path), (0, []))[1]),
)


# rows


def _records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield, for each row, the line in which it begins and its cells, stripped of spaces."""
    with reading(path):
        with path.open("rb") as raw:
            begin = raw.read(8)
        opened: Any = open
        if begin[:2] == b"\x1f\x8b":
            import gzip

            opened = gzip.open
            with ungzipped(path), opened(path) as raw:
                begin = raw.read(8)
        if not begin:
            raise DataError(f"{path} is empty")
        if begin[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise DataError(f"{path} is UTF-16; save it as UTF-8")
        if b"\0" in begin:
            raise DataError(f"{path} is not a text file: it begins with {begin.hex(' ')}")
        # utf-8-sig drops a BOM
        decoded = {"encoding": "utf-8-sig", "errors": "surrogateescape", "newline": ""}
        with ungzipped(path), opened(path, "rt", **decoded) as file:
            delimiter = _delimiter(file)
            file.seek(0)
            text = _text(path, file, delimiter)
            reader = csv.reader(text, delimiter=delimiter, skipinitialspace=True, strict=True)
            line = 1
            try:
                for row in reader:
                    cells = [cell.strip() for cell in row]
                    if len(cells) > 1 or any(cells):
                        yield line, cells
                    line = reader.line_num + 1
            except csv.Error as error:
                raise DataError(str(error), place=place(path, reader.line_num)) from None


def _delimiter(lines: Iterable[str]) -> str:
    """Return the delimiter of the first line that isn't blank, quoted cells left out."""
    first = next((line for line in lines if line.strip()), "")
    bare = re.sub(r'"[^"]*"?', "", first)
    return next((mark for mark in "\t;" if mark in bare), ",")


def _text(path: Path, lines: Iterable[str], delimiter: str) -> Iterator[str]:
    """Yield the lines; raise if one isn't UTF-8 or has a NUL, which NumPy drops from labels."""
    for number, line in enumerate(lines, 1):
        if "\0" in line:
            raise DataError(f"{path} is not a text file: line {number} holds a NUL character")
        wrong = None if line.isascii() else _ESCAPED.search(line)
        if wrong is not None:
            # the cells up to the one with the byte, for which "x" stands
            before = next(csv.reader([line[: wrong.start()] + "x"], delimiter=delimiter))
            raise DataError(
                f"{path}, line {number}, column {len(before)}: the byte "
                f"{ord(wrong[0]) - 0xDC00:#04x} is not UTF-8 text; save the file as UTF-8"
            )
        yield line


# columns


def _is_header(first: Sequence[str], second: Sequence[str] | None = None) -> bool:
    """Return whether the first row holds names: one of its cells is text above a number.

    The only row of a file holds names if none of its cells is a number.
    """
    if second is None:
        return not any(map(is_number, first))
    return any(
        is_text(cell) and not (is_text(below) or is_missing(below))
        for cell, below in zip(first, second, strict=False)
    )


def _names(path: Path, line: int, names: list[str]) -> list[str]:
    """Return the names of the columns, or raise if one is empty or occurs twice."""
    for i, name in enumerate(names):
        if not name:
            problem = f"column {i + 1} has no name (an index should not be there)"
        elif name in names[:i]:
            problem = f"columns {names.index(name) + 1} and {i + 1} are both called {name!r}"
        else:
            continue
        raise DataError(problem, place=place(path, line))
    return names


def _columns(
    path: Path, names: Sequence[str], header: bool, request: Request
) -> tuple[Sequence[int], int | None, int | None]:
    """Return the columns of the features, the target and the weights, counted from 0."""
    target = _position(f"target of {path}", request.target, names)
    weights = _position(f"weights of {path}", request.weights, names)
    if weights is not None and weights == target:
        raise ArgumentError(
            f"target and weights must be different columns, got {names[weights]!r} for both; say "
            "which is the target"
        )
    if request.features is not None:
        if not header and target is None and len(request.features) == len(names):
            return range(len(names)), None, weights
        for name in request.features:
            if name not in names:
                raise DataError(f"{path} has no column {name!r}, which is one of the features")
        return [names.index(name) for name in request.features], target, weights
    ignored = {_position(f"ignored column of {path}", name, names) for name in request.ignore}
    for what, column in (("target", target), ("weights", weights)):
        if column is not None and column in ignored:
            raise ArgumentError(f"{what} {names[column]!r} must not be ignored")
    features = [i for i in range(len(names)) if i not in {target, weights, *ignored}]
    if not features:
        raise DataError(f"{path} has no column for features, only {', '.join(names)}")
    return features, target, weights


def _position(what: str, column: str | int | None, names: Sequence[str]) -> int | None:
    """Return the index of a column, given by name or by number (1 the first, -1 the last)."""
    if column is None:
        return None
    if isinstance(column, str) and column in names:
        return names.index(column)
    number = int(column) if re.fullmatch(r"-?[0-9]{1,9}", str(column)) else 0
    if 1 <= abs(number) <= len(names):
        return number - 1 if number > 0 else len(names) + number
    listed = [*names[:_LISTED], *(["…"] if len(names) > _LISTED else [])]
    raise unknown(what, column, listed)
