"""How the cells of a table become features.

`Encoding` is what was asked for, `Columns` what a model knows of its training table.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, Self

import numpy as np

from xpnn._core import schema
from xpnn.backends import device, namespace
from xpnn.datasets.cells import (
    absent_in,
    check_dates,
    each,
    finite_number,
    is_absent,
    is_number,
    shown,
)
from xpnn.datasets.dataset import Dataset, NamedDataset, located
from xpnn.errors import ArgumentError, DataError, position, unknown, written

Array = Any

ENCODINGS = ("onehot", "ordinal", "common")

# without being asked for, a column of text has at most this many categories, ...
MOST_CATEGORIES = 100
# ... and beyond this many, a category has at least two rows on average
_FEW_CATEGORIES = 20
# "common" keeps this many categories
_COMMON = 20

_TRUTH = {"false": 0.0, "true": 1.0}
# what pandas makes of the integer 3 in a column with missing values
_WHOLE = re.compile(r"(-?(?:0|[1-9][0-9]*))\.0")
# the code of a category that the training part didn't have
_UNSEEN = math.inf


_KINDS = ("number", "truth", "onehot", "ordinal")


@dataclass(frozen=True)
class Column:
    """A column of a table: what each of its cells becomes.

    Attributes
    ----------
    name
        The column's name.
    kind
        "number"; "truth", 0 for false and 1 for true; "onehot", a feature of 0 or 1 for each
        category; "ordinal", the number of the category in their order, from 0 on.
    categories
        The categories in order, texts or numbers; empty for numbers and truth values.
    fill
        What a missing cell is taken for: a number, or for "onehot" a category's code; None if it
        is in no category. For "ordinal", also what a category that wasn't seen is taken for.
    missing
        Whether there is one more feature, which is 1 for a missing cell and 0 for others.
    other
        Whether there is one more feature, which is 1 for a category that isn't listed.
    """

    name: str
    kind: str = "number"
    categories: tuple[Any, ...] = ()
    fill: float | None = None
    missing: bool = False
    other: bool = False

    def __post_init__(self) -> None:
        # what a file may hold that no `Encoding` makes
        if self.kind not in _KINDS:
            raise ArgumentError(f"kind must be one of {', '.join(_KINDS)}, got {self.kind!r:.80}")
        listed = self.kind in ("onehot", "ordinal")
        texts = all(isinstance(category, str) for category in self.categories)
        alike = texts or set(map(type, self.categories)) <= {int, float}
        if bool(self.categories) != listed or not alike:
            raise ArgumentError(
                f"categories of a column of kind {self.kind!r} must be "
                f"{'texts, or numbers' if listed else 'none'}, got {list(self.categories)!r:.80}"
            )
        if len(set(self.categories)) < len(self.categories):
            raise ArgumentError(f"categories must differ, got {list(self.categories)!r:.80}")
        codes = self.codes_of_categories
        if self.fill is not None and (
            self.fill not in codes if self.kind == "onehot" else not math.isfinite(self.fill)
        ):
            raise ArgumentError(
                f"fill of a column of kind {self.kind!r} must be "
                f"{'the code of a category' if listed else 'a finite number'}, got {self.fill!r}"
            )

    def __str__(self) -> str:
        listed = ", ".join(map(_label, self.categories))
        told = {"truth": "false 0, true 1", "onehot": f"one-hot of {listed}"}
        words = [told.get(self.kind, "number" if self.kind == "number" else f"ordinal: {listed}")]
        if self.other:
            words.append("all others together")
        if self.fill is not None:
            codes, fill = list(self.codes_of_categories), _label(self.fill)
            if self.kind == "onehot":
                fill = _label(self.categories[codes.index(self.fill)])
            words.append(f"missing as {fill}")
        if self.missing:
            words.append("with an indicator of missing ones")
        return f"{self.name}: {'; '.join(words)}"

    @property
    def texts(self) -> bool:
        """Whether the categories are texts."""
        return bool(self.categories) and isinstance(self.categories[0], str)

    @property
    def codes_of_categories(self) -> tuple[float, ...]:
        """The number that stands for each category.

        Of a text, it is its number in their order, from 0 on; of a number, that number.
        """
        if self.texts:
            return tuple(map(float, range(len(self.categories))))
        return tuple(map(float, self.categories))

    @property
    def features(self) -> list[str]:
        """The names of the features, such as "town=Rome"."""
        names = [self.name]
        if self.kind == "onehot":
            names = [f"{self.name}={_label(category)}" for category in self.categories]
        names += [f"{self.name}=(other)"] * self.other
        return names + [f"{self.name}=(missing)"] * self.missing

    def codes(self, cells: np.ndarray) -> np.ndarray:
        """Return cells as float64 numbers and codes: NaN if missing, inf for another category.

        Raises
        ------
        DataError
            If a cell must be a number or a truth value and isn't; with its row.
        """
        if not self.categories:
            values = np.empty(len(cells))
            if {float}.issuperset(map(type, cells.tolist())):
                values[:] = cells
                if not np.isinf(values).any():
                    return values
            for row, cell in enumerate(cells.tolist()):
                try:
                    values[row] = _value(cell, truth=self.kind == "truth")
                except DataError as error:
                    raise DataError(error.problem, part="x", row=row) from None
            return values
        known = dict(zip(self.categories, self.codes_of_categories, strict=True))
        key = _text_key if self.texts else _number_key
        code = each(lambda cell: known.get(key(cell), _UNSEEN), cells)
        return np.where(absent_in(cells), math.nan, code)

    def apply(self, codes: Array, xp: Any) -> list[Array]:
        """Return the features of codes of shape (n, 1), as arrays of n rows."""

        def row(values: Sequence[float]) -> Array:
            return xp.asarray([list(values)], dtype=codes.dtype, device=device(codes))

        absent = xp.isnan(codes)
        filled = codes if self.fill is None else xp.where(absent, row([self.fill]), codes)
        features = [filled]
        if self.categories:
            features = own = [xp.astype(filled == row(self.codes_of_categories), codes.dtype)]
            known = xp.sum(own[0], axis=1, keepdims=True)
            if self.kind == "ordinal":
                ranks = xp.sum(own[0] * row(range(len(self.categories))), axis=1, keepdims=True)
                features = [xp.where(known > 0, ranks, row([self.fill or 0.0]))]
        absent = xp.astype(absent, codes.dtype)
        if self.other:
            # 1 where the cell is neither missing nor one of the categories
            features.append(xp.where(known + absent > 0, row([0.0]), row([1.0])))
        return [*features, absent] if self.missing else features


@dataclass(frozen=True)
class Columns:
    """What a model knows of the columns of its training table, as `Encoding.fit` found it.

    A table enters as an object array of shape (n, columns), whose cells are numbers, truth values,
    texts, or missing (None, NaN, "", "NA" and the like); or as numbers and codes, in which NaN
    is missing, a text is its number among the column's categories, from 0 on, and a number stands
    for itself.
    """

    columns: tuple[Column, ...]

    def __len__(self) -> int:
        return len(self.columns)

    @property
    def features(self) -> tuple[str, ...]:
        """The names of the features that the network gets."""
        return tuple(name for column in self.columns for name in column.features)

    @property
    def encoded(self) -> list[Column]:
        """The columns that don't enter as numbers."""
        return [column for column in self.columns if column.kind != "number"]

    def codes(self, name: str, x: np.ndarray) -> np.ndarray:
        """Return a table as numbers and codes, float64 of shape (n, columns).

        Raises
        ------
        DataError
            If `x` has another number of columns, or a cell can't be used; `name` is what messages
            call `x`.
        """
        if x.ndim != 2 or x.shape[1] != len(self):
            raise DataError(f"{name} must have shape (n, {len(self)}), got {tuple(x.shape)}")
        if x.dtype.kind in "biuf":
            codes = x.astype(np.float64)
            infinite = np.argwhere(np.isinf(codes))
            if len(infinite):
                row, at = infinite[0].tolist()
                raise DataError(f"{name} must not be infinite", part="x", row=row, column=at)
            return codes
        codes = np.empty(x.shape)
        for at, column in enumerate(self.columns):
            try:
                codes[:, at] = column.codes(x[:, at])
            except DataError as error:
                row = error.row
                where = f"{position(name, row)}, column {column.name!r}"
                raise DataError(error.problem, part="x", row=row, column=at, place=where) from None
        return codes

    def apply(self, codes: Array, *, xp: Any = None) -> Array:
        """Return the features, in the library and the dtype of `codes`: shape (n, features)."""
        xp = namespace(codes) if xp is None else xp
        parts = [
            feature
            for at, column in enumerate(self.columns)
            for feature in column.apply(codes[:, at : at + 1], xp)
        ]
        return xp.concat(parts, axis=1)

    def config(self) -> list[dict[str, Any]]:
        """Return the columns as JSON has them."""
        return [
            {"name": c.name, "kind": c.kind, "categories": list(c.categories), "fill": c.fill,
             "missing": c.missing, "other": c.other}
            for c in self.columns
        ]  # fmt: skip

    @classmethod
    def from_config(cls, config: Sequence[Mapping[str, Any]]) -> Self:
        """Return the columns that `config` returned."""
        return cls(schema.checked(tuple[Column, ...], config, "columns"))


@dataclass(frozen=True)
class Encoding:
    """How the columns of a table shall become features; `as_encoding` reads it.

    Attributes
    ----------
    encode
        For columns by name or number: "onehot", "ordinal", "common", or categories in order.
    missing
        For columns by name or number: "median", or what a missing cell is taken for.
    text
        The encoding of the columns of text that `encode` doesn't name.
    number
        What a missing number in the columns that `missing` doesn't name is taken for.
    """

    encode: Mapping[Any, Any] = field(default_factory=dict)
    missing: Mapping[Any, Any] = field(default_factory=dict)
    text: str = "onehot"
    number: Any = "median"

    def named(self, name_of: Callable[[str, Any], str]) -> Encoding:
        """Return the encoding with ``name_of(option, column)`` in place of each column."""
        encode, missing = (
            {name_of(option, column): value for column, value in getattr(self, option).items()}
            for option in ("encode", "missing")
        )
        return Encoding(encode, missing, self.text, self.number)

    def fit(self, x: np.ndarray, names: Sequence[str]) -> Columns:
        """Return the columns of the training part of a table.

        Parameters
        ----------
        x
            Shape (n, columns); numbers, or an object array of cells.
        names
            The names of the columns.

        Raises
        ------
        DataError
            If columns hold dates, nothing, or too many categories.
        ArgumentError
            If what a missing cell shall be taken for doesn't suit the column.
        """
        columns, refused = [], []
        for at, name in enumerate(names):
            try:
                columns.append(self._column(name, x[:, at]))
            except DataError as error:
                refused.append((name, error.problem))
        if refused:
            told = "; ".join(problem for _, problem in refused)
            leave = written("ignore", [name for name, _ in refused])
            raise DataError(f"{told}; leave out what is no feature with {leave}", part="x")
        return Columns(tuple(columns))

    def _column(self, name: str, cells: np.ndarray) -> Column:
        asked = self.encode.get(name)
        present = cells[~absent_in(cells)].tolist()
        absent = len(present) < len(cells)
        if not present:
            raise DataError(f"column {name!r} holds nothing but missing values")
        truth = all(str(cell).lower() in _TRUTH for cell in present)
        if asked is None and (truth or all(isinstance(cell, Real) for cell in present)):
            kind = "truth" if truth else "number"
            try:
                values = Column(name, kind).codes(np.array(present, object))
            except DataError as error:
                raise DataError(f"column {name!r}: {error.problem}") from None
            return Column(name, kind, fill=self._fill(name, values), missing=absent)
        if asked is None:
            _check_kinds(name, present)
        numbers = all(isinstance(cell, Real) and not isinstance(cell, bool) for cell in present)
        key: Callable[[Any], Any] = _number_key if numbers else _text_key
        keys = list(map(key, present))
        counts = Counter(keys)
        if asked is None:
            _check_count(name, counts, len(present))
        asked = self.text if asked is None else asked
        listed = not isinstance(asked, str)
        given: Any = map(key, asked) if listed else sorted(counts)
        categories = tuple(dict.fromkeys(given))
        if asked == "common":
            # the most common ones that aren't alone, in the order of all
            common = {key for key, count in counts.most_common(_COMMON) if count > 1}
            categories = tuple(key for key in categories if key in common) or categories[:_COMMON]
        if listed:
            _check_order(name, set(keys), categories)
        if asked == "ordinal" or listed:
            rank = {category: float(i) for i, category in enumerate(categories)}
            ranks = [rank[key] for key in keys]
            return Column(
                name, "ordinal", categories, self._fill(name, ranks, categories), missing=absent
            )
        fill = None
        if self.missing.get(name) not in (None, "median"):
            fill = Column(name, "onehot", categories).codes_of_categories[
                self._rank(name, categories)
            ]
        return Column(name, "onehot", categories, fill, absent, asked == "common")

    def _fill(
        self, name: str, values: Sequence[float] | np.ndarray, categories: Sequence[Any] = ()
    ) -> float:
        """Return what a missing cell of a column with these numbers is taken for."""
        asked = self.missing.get(name, "median" if categories else self.number)
        if asked == "median":
            return float(np.median(values))
        if categories:
            return float(self._rank(name, categories))
        found = _TRUTH.get(str(asked).lower(), _number_key(asked))
        if not math.isfinite(found):
            raise ArgumentError(
                f"missing of column {name!r} must be median or a number, got {asked!r}"
            )
        return found

    def _rank(self, name: str, categories: Sequence[Any]) -> int:
        asked = self.missing[name]
        key = (_text_key if isinstance(categories[0], str) else _number_key)(asked)
        if key not in categories:
            raise unknown(
                f"category for what is missing in column {name!r}", asked, map(_label, categories)
            )
        return categories.index(key)


def as_encoding(encode: Any = None, missing: Any = None) -> Encoding:
    """Return an encoding as it is asked for, in Python or as text at the command line.

    Parameters
    ----------
    encode
        An encoding for all columns of text; or a mapping from columns, by name or by number from 1
        on, to encodings. As text ``"town=ordinal,size=small<medium<large"``. Encodings:

        - "onehot" (the default): a feature of 0 or 1 for each category of the training part; all
          are 0 for another category;
        - "common": the same for the 20 most common categories that occur more than once, and one
          feature for all others;
        - "ordinal": the number of the category in sorted order, from 0 on;
        - a sequence of categories, or ``small<medium<large`` as text: the same in this order.
    missing
        "median" (the default) or a number for all columns of numbers; or a mapping from columns to
        such values, or to a category for columns of categories. As text ``"age=30,town=Rome"``.

    Raises
    ------
    ArgumentError
        If there is no such encoding.
    """
    encode, missing = _pairs(encode), _pairs(missing)
    text, number = "onehot", "median"
    if isinstance(encode, str):
        encode, text = {}, encode
    if missing is not None and not isinstance(missing, Mapping):
        missing, number = {}, missing
        if number != "median" and not math.isfinite(_number_key(number)):
            raise ArgumentError(
                "missing must be median, a finite number, or one of them for each column as "
                f"age=30,fare=median; got {number!r}"
            )
    encode = {} if encode is None else encode
    if not isinstance(encode, Mapping):
        raise ArgumentError(
            f"encode must be one of {', '.join(ENCODINGS)}, or a mapping from columns to them, "
            f"got {encode!r}"
        )
    if text not in ENCODINGS:
        raise unknown("encoding", text, ENCODINGS)
    checked: dict[Any, Any] = {}
    for column, asked in encode.items():
        if isinstance(asked, str) and "<" in asked:
            asked = [category.strip() for category in asked.split("<")]
        if isinstance(asked, str) or not isinstance(asked, Sequence):
            if asked not in ENCODINGS:
                raise unknown("encoding", asked, ENCODINGS)
        elif len(set(asked)) < max(2, len(asked)):
            raise ArgumentError(
                f"an order must be of two or more different categories, got {asked!r}"
            )
        checked[column] = asked if isinstance(asked, str) else tuple(asked)
    return Encoding(checked, dict(missing or {}), text, number)


def listed(name: str, given: Any) -> tuple[Any, ...]:
    """Return columns that are given as a sequence, or a single one by its name."""
    if isinstance(given, str):
        return (given,)
    if isinstance(given, bytes) or not isinstance(given, Iterable):
        raise ArgumentError(f"{name} must be a sequence of columns, got {given!r}")
    return tuple(given)


def fitted(data: Dataset) -> Columns:
    """Return the columns of a table to train on, with the encoding that it was read with.

    Errors are those of `Encoding.fit`.
    """
    names, encoding = None, None
    if isinstance(data, NamedDataset):
        names, encoding = data.feature_names, data.encoding
    if names is None:
        names = tuple(str(i + 1) for i in range(data.x.shape[1]))
    with located(data):
        return (encoding or Encoding()).fit(data.x, names)


def _pairs(given: Any) -> Any:
    """Return ``"a=1,b=2"`` as a mapping, and anything else as it is."""
    if not (isinstance(given, str) and "=" in given):
        return given
    pairs = {}
    for item in given.split(","):
        column, equals, value = item.rpartition("=")
        if not equals:
            raise ArgumentError(f"{item!r} in {given!r} must be as COLUMN=VALUE")
        pairs[column.strip()] = value.strip()
    return pairs


def missing_in(x: np.ndarray) -> list[int]:
    """Return the number of missing cells in each column of a table."""
    if x.dtype.kind != "O":
        return np.isnan(x).sum(axis=0).tolist() if x.dtype.kind == "f" else [0] * x.shape[1]
    return [int(np.count_nonzero(absent_in(column))) for column in x.T]


def _check_kinds(name: str, present: Sequence[Any]) -> None:
    """Raise a DataError if most cells are dates, or one is neither a number nor a text."""
    check_dates(name, present)
    for cell in present:
        if not isinstance(cell, str | Real | np.bool_):
            raise DataError(
                f"column {name!r} holds values of type {type(cell).__name__}, such as "
                f"{shown(str(cell))}: turn them into numbers or texts first"
            )


def _check_count(name: str, counts: Counter[Any], rows: int) -> None:
    """Raise a DataError if a column of text has more categories than make sense."""
    found = len(counts)
    if found > MOST_CATEGORIES or found > max(_FEW_CATEGORIES, rows / 2):
        listed = f"different texts, such as {shown(str(next(iter(counts))))}"
        if found == rows:
            raise DataError(f"column {name!r} holds nothing but {listed}")
        raise DataError(
            f"column {name!r} holds {found} {listed} ({written('encode', {name: 'common'})} keeps "
            "the most common ones)"
        )


def _check_order(name: str, found: set[Any], order: Sequence[Any]) -> None:
    """Raise an ArgumentError if an order leaves out a category of the training part."""
    for key in sorted(found.difference(order)):
        listed = "<".join(map(_label, order))
        raise ArgumentError(
            f"the order of column {name!r} must have all of its categories, and {listed} has no "
            f"{_label(key)!r}"
        )


def _value(cell: Any, *, truth: bool) -> float:
    """Return a cell as a number, NaN if it is missing."""
    if is_absent(cell):
        return math.nan
    if truth and str(cell).lower() in _TRUTH:
        return _TRUTH[str(cell).lower()]
    if isinstance(cell, str):
        return finite_number(cell)
    number = _number_key(cell)
    if not math.isfinite(number):
        raise DataError(f"{shown(str(cell))} is not a finite number")
    if isinstance(cell, int) and int(number) != cell:
        raise DataError(f"{cell} is an integer that float64 can't hold exactly")
    return number


def _number_key(cell: Any) -> float:
    if isinstance(cell, str) and not is_number(cell):
        return math.inf
    try:
        return float(cell)
    except (OverflowError, TypeError, ValueError):
        return math.inf


def _text_key(cell: Any) -> str:
    text = _label(cell).strip()
    whole = _WHOLE.fullmatch(text)
    return whole[1] if whole else text


def _label(category: Any) -> str:
    """Return a category as names of features have it."""
    if isinstance(category, float) and category.is_integer():
        return str(int(category))
    return str(category)
