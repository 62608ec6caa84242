"""CSV files: rows of cells, and which of their columns are features, target and weights."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import math
import operator
import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np

from xpnn._core import limits
from xpnn.datasets.cells import (
    as_column,
    as_target,
    as_texts,
    is_absent,
    is_missing,
    is_number,
    is_text,
    is_truth,
    numbers_in,
)
from xpnn.datasets.dataset import NamedDataset, located, place
from xpnn.datasets.readers.reader import (
    Reader,
    Request,
    check_gzip,
    check_weights,
    is_gzip,
    reading,
    ungzipped,
)
from xpnn.errors import ArgumentError, DataError, counted, unknown, written

# how the error handler "surrogateescape" shows bytes that aren't UTF-8
_ESCAPED = re.compile("[\udc80-\udcff]")

# how many column names a message lists
_LISTED = 20

# rows that are read to tell a header from values
_FIRST_ROWS = 1000

# blank lines in a row that are skipped: Excel leaves a million below a table, at most
_BLANK = 2_000_000

# a row of more cells than this is compared with the memory: each takes about so many bytes, in the
# row, in its name and in the lists of both
_WIDE, _CELL_BYTES = 1_000_000, 150


class _Head(NamedTuple):
    """Which columns of a file are what, counted from 0, and whether the first row holds names."""

    names: Sequence[str]
    header: bool
    features: Sequence[int]
    target: int | None
    weights: int | None


class _Body(NamedTuple):
    """What the rows of a file hold: features, the target's cells, weights, lines."""

    x: np.ndarray
    target: list[str]
    weights: Sequence[float]
    lines: Sequence[int]


def read_csv(path: Path, request: Request) -> NamedDataset:
    """Read a CSV file: UTF-8 with or without BOM, cells in quotes or not; blank lines are skipped.

    The file may be gzipped. The delimiter is the first of tab, semicolon, comma that is in the
    first line outside quotes. Features are finite numbers with a decimal point, where integers must
    be exact in float64; or, if a cell is missing or a column holds text, an object array of
    numbers, texts and None. `rows` of the data set holds the line in which each row begins.

    Raises
    ------
    DataError
        If the file can't be read or a cell can't be used, with line and column.
    ArgumentError
        If the request names a column that isn't there, or one column for two purposes.
    """
    _check_size(path)
    try:
        return _read(path, request)
    finally:
        _given.pop(path, None)


def _read(path: Path, request: Request) -> NamedDataset:
    head = _head(path, request)
    names, features = head.names, tuple(head.names[i] for i in head.features)
    encoding = request.encoding
    if encoding is not None:
        places, own = _places(names), set(features)
        encoding = encoding.named(
            lambda o, c: names[_known(f"column of {o} in {path}", c, names, places)]
        )
        for name in (*encoding.encode, *encoding.missing):
            if name not in own:
                raise ArgumentError(f"column {name!r} of encode or missing must be a feature")
    encoded = {} if encoding is None else encoding.encode
    known = () if request.columns is None else request.columns.columns
    kinds = {**dict.fromkeys(encoded, False), **{c.name: True for c in known if c.texts}}
    body = (None if kinds else _numbers(path, head)) or _cells(path, head, kinds)
    if not body.lines:
        raise DataError(f"{path} has a header, and no rows below it")
    data = NamedDataset(
        body.x,
        np.empty((len(body.lines), 0)),
        path=str(path),
        feature_names=features,
        target_name=None if head.target is None else names[head.target],
        rows=np.array(body.lines, np.int64),
        row_name="line",
        encoding=encoding,
        header=head.header,
    )
    if head.weights is not None:
        name, lines = names[head.weights], body.lines
        data.weights = check_weights(
            np.array(body.weights, np.float64), lambda row: place(path, lines[row], name)
        )
    if head.target is None:
        return data
    if "" in body.target and all(map(is_absent, body.x[row := body.target.index("")])):
        raise DataError(
            "an empty row: delete such rows (in pandas, df = df.dropna(how='all'))",
            place=place(path, body.lines[row]),
        )
    with located(data):
        return data._replace(y=as_target(names[head.target], body.target, request.task))


def _check_size(path: Path) -> None:
    with reading(path):
        if not path.is_file():
            return
        with path.open("rb") as raw:
            gzipped = is_gzip(raw.read(2))
        if gzipped:
            check_gzip(path)
        else:
            limits.check(path, path.stat().st_size, limits.memory())


def _head(path: Path, request: Request) -> _Head:
    begin = list(itertools.islice(_records(path), 2))
    if not begin:
        raise DataError(f"{path} holds nothing but blank lines")
    line, cells = begin[0]
    header = request.header
    if header is None:
        header = _is_header(*(cells for _, cells in begin)) or _has_names(cells, request)
        if not header and _may_be_names(cells, itertools.islice(_records(path), 1, _FIRST_ROWS)):
            shown = ", ".join(cells[:_LISTED]) + (", …" if len(cells) > _LISTED else "")
            raise DataError(
                f"the first row ({shown}) may hold the names of columns, or values; "
                f"say {written('header', True)} or {written('header', False)}",
                place=place(path, line),
            )
    names = cells if header else [str(i + 1) for i in range(len(cells))]
    features, target, weights = _columns(path, line, names, header, request)
    for i in [*features, *([] if target is None else [target])]:
        if not names[i]:
            why = "as the index of a DataFrame that was written with it"
            leave = written("ignore", [i + 1])
            if i == target and i > 0:
                why = "as a delimiter at the end of each line makes"
                leave += f" and {written('target', names[i - 1])}"
            raise DataError(
                f"column {i + 1} has no name, {why}: leave it out with {leave}",
                place=place(path, line),
            )
    return _Head(names, header, features, target, weights)


def _rows(path: Path, head: _Head) -> Iterator[tuple[int, list[str]]]:
    """Yield the line and the cells of each row below the header."""
    width = len(head.names)
    for line, row in itertools.islice(_records(path), int(head.header), None):
        if len(row) != width:
            found = counted(len(row), "cell")
            raise DataError(f"{found}, where the first row has {width}", place=place(path, line))
        yield line, row


def _numbers(path: Path, head: _Head) -> _Body | None:
    """Return the rows of a file whose features are all numbers; None if one isn't."""
    features, target, weights = head.features, head.target, head.weights
    columns = [*features] if weights is None else [*features, weights]
    # of one column, itemgetter returns the cell and not a tuple
    pick: Callable[[Sequence[str]], Sequence[str]] = (
        operator.itemgetter(*columns) if len(columns) > 1 else lambda row: [row[columns[0]]]
    )
    # arrays of machine numbers, as large files would take several times the memory as lists
    numbers, lines, row_weights = array("d"), array("q"), array("d")
    target_cells = []
    for line, row in _rows(path, head):
        try:
            values = numbers_in(pick(row))
        except DataError:
            return None
        if weights is not None:
            row_weights.append(values.pop())
        numbers.extend(values)
        lines.append(line)
        if target is not None:
            target_cells.append(row[target])
    x = np.array(numbers, np.float64).reshape(len(lines), len(features))
    return _Body(x, target_cells, row_weights, lines)


def _cells(path: Path, head: _Head, kinds: Mapping[str, bool]) -> _Body:
    """Return the rows of a file with missing cells or columns of text.

    Those that `kinds` names may hold texts, and if it says True, all their cells are texts.
    """
    lines = array("q")
    columns: list[list[str]] = [[] for _ in head.names]
    for line, row in _rows(path, head):
        lines.append(line)
        for column, cell in zip(columns, row, strict=True):
            column.append(cell)
    x = np.empty((len(lines), len(head.features)), object)
    for at, i in enumerate(head.features):
        name = head.names[i]
        try:
            x[:, at] = as_texts(columns[i]) if kinds.get(name) else as_column(columns[i])
        except DataError as error:
            if name in kinds:
                x[:, at] = as_texts(columns[i])
                continue
            row_at = cast("int", error.row)
            where, problem = place(path, lines[row_at], name), error.problem
            if columns[i][row_at].lstrip("+-").isdecimal():
                # the only thing wrong with an integer is its size
                problem += f"; leave an id out with {written('ignore', [name])}"
            raise DataError(problem, part="x", row=row_at, column=at, place=where) from None
    weights: list[float] = []
    if head.weights is not None:
        try:
            weights = numbers_in(columns[head.weights])
        except DataError as error:
            row_at = cast("int", error.column)
            where = place(path, lines[row_at], head.names[head.weights])
            raise DataError(error.problem, part="weights", row=row_at, place=where) from None
    return _Body(x, [] if head.target is None else columns[head.target], weights, lines)


# takes any name, and also a device or a pipe
FILE = Reader(
    lambda path: path.exists() and not path.is_dir(),
    read_csv,
    "a CSV file",
    weights="a column of a CSV file",
    columns=lambda path: len(next(_records(path), (0, []))[1]),
)


# rows

# what pipes have given, by path, until a data set is read from it: they can be read only once
_given: dict[Path, bytes] = {}


def _opened(path: Path) -> BinaryIO:
    """Return a file that can be read from its beginning, again and again, also if it is a pipe."""
    if path.is_file():
        return path.open("rb")
    if path not in _given:
        # a pipe may have no end
        with path.open("rb") as pipe:
            _given[path] = limits.read(pipe, path, limits.memory() // 4)
    return io.BytesIO(_given[path])


def _records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield, for each row, the line in which it begins and its cells, stripped of spaces."""
    with contextlib.ExitStack() as stack, reading(path):
        file: Any = stack.enter_context(_opened(path))
        begin = file.read(8)
        file.seek(0)
        if is_gzip(begin):
            import gzip

            file = stack.enter_context(gzip.open(file))
            with ungzipped(path):
                begin = file.read(8)
                file.seek(0)
        if not begin:
            raise DataError(f"{path} is empty")
        if begin[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise DataError(f"{path} is UTF-16; save it as UTF-8")
        if b"\0" in begin:
            raise DataError(f"{path} is not a text file: it begins with {begin.hex(' ')}")
        # utf-8-sig drops a BOM
        lines = io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="")
        with ungzipped(path), lines:
            delimiter = _delimiter(lines)
            lines.seek(0)
            text = _text(path, lines, delimiter)
            reader = csv.reader(text, delimiter=delimiter, skipinitialspace=True, strict=True)
            line, blank = 1, 0
            try:
                for row in reader:
                    cells = [cell.strip() for cell in row]
                    if len(cells) > 1 or any(cells):
                        yield line, cells
                        blank = 0
                    elif (blank := blank + 1) > _BLANK:
                        problem = f"more than {_BLANK:,} blank lines in a row: delete them"
                        raise DataError(problem, place=place(path, line))
                    line = reader.line_num + 1
            except csv.Error as error:
                raise DataError(str(error), place=place(path, reader.line_num)) from None


def _delimiter(lines: Iterable[str]) -> str:
    """Return the delimiter of the first line that isn't blank, quoted cells left out."""
    first = next((line for line in itertools.islice(lines, _BLANK) if line.strip()), "")
    bare = re.sub(r'"[^"]*"?', "", first)
    return next((mark for mark in "\t;" if mark in bare), ",")


def _text(path: Path, lines: Iterable[str], delimiter: str) -> Iterator[str]:
    """Yield the lines; raise if one isn't UTF-8 or has a NUL, which NumPy drops from labels."""
    for number, line in enumerate(lines, 1):
        if "\0" in line:
            raise DataError(f"{path} is not a text file: line {number} holds a NUL character")
        cells = line.count(delimiter)
        if cells > _WIDE:
            limits.check(path, cells * _CELL_BYTES, limits.memory())
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
        is_text(cell) and not is_truth(cell) and (is_truth(below) or not _is_wordy(below))
        for cell, below in zip(first, second, strict=False)
    )


def _has_names(first: Sequence[str], request: Request) -> bool:
    """Return whether a column that is asked for by name has its name in the first row.

    Numbers are names there if they are those of all features that are asked for, and aren't just
    what columns without names are called.
    """
    features = [name for name in request.features or () if isinstance(name, str)]
    asked = [request.target, request.weights, *request.ignore, *features]
    found = set(first)
    if any(isinstance(name, str) and name in found and is_text(name) for name in asked):
        return True
    numbered = {str(i + 1) for i in range(len(first))}
    return bool(features) and found.issuperset(features) and not numbered.issuperset(features)


def _may_be_names(first: Sequence[str], rows: Iterable[tuple[int, Sequence[str]]]) -> bool:
    """Return whether the first row may hold names, although none of them is text above a number.

    It may if its numbers count the columns, from 0 on, or from 1, and its texts occur in no other
    of the rows. It may too if none of its cells occurs again below it, and its numbers, such as
    years, have equal steps, which those of the second row don't have; or a text is the only one in
    its column that occurs once.
    """
    numbers = [cell for cell in first if is_number(cell)]
    begins = [0, 1] if len(numbers) > 2 else [0]
    counting = bool(numbers) and any(
        numbers == [str(i + begin) for i in range(len(numbers))] for begin in begins
    )
    if not counting and len(set(first)) < len(first):
        return False
    texts = [i for i, cell in enumerate(first) if is_text(cell)]
    compared = texts if counting else range(len(first))
    below: dict[int, Counter[str]] = {i: Counter() for i in texts}
    steady = False
    for number, (_, row) in enumerate(rows):
        if any(first[i] == row[i] for i in compared if i < len(row)):
            return False
        if number == 0:
            steady = _has_equal_steps(first) and not _has_equal_steps(row)
        for i in texts:
            below[i].update(row[i : i + 1])
    return counting or steady or any(min(c.values()) > 1 for c in below.values() if c)


def _has_equal_steps(row: Sequence[str]) -> bool:
    """Return whether the numbers of a row, three or more, go up or down by the same."""
    numbers = [float(cell) for cell in row if is_number(cell)]
    steps = [after - before for before, after in itertools.pairwise(numbers)]
    return len(steps) > 1 and all(math.isclose(step, steps[0], rel_tol=1e-9) for step in steps)


def _is_wordy(cell: str) -> bool:
    return is_text(cell) or is_missing(cell)


def _check_names(path: Path, line: int, names: Sequence[str], ignored: set[int]) -> None:
    """Raise if two columns that aren't ignored have the same name; "" is none."""
    first: dict[str, int] = {}
    for i, name in enumerate(names):
        if name and i not in ignored and first.setdefault(name, i) != i:
            raise DataError(
                f"columns {first[name] + 1} and {i + 1} are both called {name!r}: rename one, or "
                f"leave it out with {written('ignore', [i + 1])}",
                place=place(path, line),
            )


def _columns(
    path: Path, line: int, names: Sequence[str], header: bool, request: Request
) -> tuple[Sequence[int], int | None, int | None]:
    """Return the columns of the features, the target and the weights, counted from 0."""
    target = _position(f"target of {path}", request.target, names)
    weights = _position(f"weights of {path}", request.weights, names)
    if weights is not None and weights == target:
        raise ArgumentError(
            f"target and weights must be different columns, got {names[weights]!r} for both; say "
            "which is the target"
        )
    places = _places(names)
    ignored = {_known(f"ignored column of {path}", n, names, places) for n in request.ignore}
    _check_names(path, line, names, ignored)
    if request.features is not None:
        if not header and target is None and len(request.features) == len(names):
            return range(len(names)), None, weights
        for name in request.features:
            if not isinstance(name, str) or name not in places:
                raise DataError(f"{path} has no column {name!r}, which is one of the features")
            if places[name] in ignored:
                raise ArgumentError(f"ignored column {name!r} of {path} is one of the features")
        return [places[name] for name in request.features], target, weights
    for what, column in (("target", target), ("weights", weights)):
        if column is not None and column in ignored:
            raise ArgumentError(f"{what} {names[column]!r} must not be ignored")
    left_out = {target, weights, *ignored}
    features = [i for i in range(len(names)) if i not in left_out]
    if not features:
        raise DataError(f"{path} has no column for features, only {', '.join(names)}")
    return features, target, weights


def _position(what: str, column: str | int | None, names: Sequence[str]) -> int | None:
    """Return the index of a column, given by name or by number (1 the first, -1 the last)."""
    return None if column is None else _known(what, column, names, _places(names))


def _places(names: Sequence[str]) -> dict[str, int]:
    """Return the index of each name; the first one of several columns without a name."""
    return {name: len(names) - 1 - i for i, name in enumerate(reversed(names))}


def _known(what: str, column: str | int, names: Sequence[str], places: Mapping[str, int]) -> int:
    if isinstance(column, str) and column in places:
        return places[column]
    number = int(column) if re.fullmatch(r"-?[0-9]{1,9}", str(column)) else 0
    if 1 <= abs(number) <= len(names):
        return number - 1 if number > 0 else len(names) + number
    # what pandas calls a column without a name, counted from 0
    nameless = re.fullmatch(r"Unnamed: ([0-9]{1,9})", str(column))
    if nameless and int(nameless[1]) < len(names) and not names[int(nameless[1])]:
        return int(nameless[1])
    listed = [*names[:_LISTED], *(["…"] if len(names) > _LISTED else [])]
    raise unknown(what, column, listed)
