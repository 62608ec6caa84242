"""A data set split into a part for training and one for validation."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from numbers import Real
from typing import Any

import numpy as np

from xpnn._core.mapped import EXACT, blocks, is_mapped
from xpnn.backends import to_numpy
from xpnn.datasets.cells import each, value_of
from xpnn.datasets.checks import as_pair, check_lengths
from xpnn.datasets.dataset import Dataset, NamedDataset, Share, fingerprint
from xpnn.datasets.frames import named
from xpnn.datasets.labels import as_labels
from xpnn.errors import ArgumentError, DataError, counted, integer, written


@np.errstate(all="ignore")
def split(
    data: Dataset | tuple[Any, Any], fraction: float, *, seed: int = 0
) -> tuple[Dataset, Dataset]:
    """Split ``round(fraction * n)`` rows, drawn at random, off a data set for validation.

    Class labels are stratified: each class gives its share, by the method of the largest
    remainder, and keeps at least one row for training. Both parts keep the order of the rows. The
    rows are drawn from a stream of random numbers of their own: a run draws the same numbers as
    without a split.

    Parameters
    ----------
    data
        A pair (x, y) in memory.
    fraction
        A number > 0 and < 1.
    seed
        The same seed gives the same parts on every machine.

    Returns
    -------
    train, validation

    Raises
    ------
    ArgumentError
        If data isn't a pair or is mapped from a file, the fraction or the seed isn't as above, or
        the fraction leaves one part empty.
    DataError
        If x or y has no axis of rows, or they differ in length.
    """
    train, validation, _ = divided("data", data, fraction, seed)
    return train, validation


def divided(
    name: str, data: Any, fraction: Any, seed: int, *, remembered: bool = True
) -> tuple[Dataset, Dataset, np.ndarray]:
    """Return the parts of `split`, and which rows are for training.

    Parameters
    ----------
    name
        What messages call `data`.
    data, fraction, seed
        As for `split`.
    remembered
        Whether the training part knows its share, for which all data are read once.
    """
    x, y = data = named(as_pair(name, data) if not isinstance(data, Dataset) else data)
    fraction = as_share(fraction, x)
    arrays = {"x": to_numpy(x, "data.x"), "y": to_numpy(y, "data.y")}
    data = data._replace(**arrays) if isinstance(data, NamedDataset) else Dataset(**arrays)
    if not (data.x.ndim and data.y.ndim):
        raise DataError(
            f"{name} must be arrays with rows, got shapes {data.x.shape} and {data.y.shape}"
        )
    check_lengths(name, data.x, data.y)
    labels = as_labels(data.y) if data.y.dtype.kind != "f" else None
    rows = drawn_rows(len(data.x), fraction, seed, labels)
    train, validation = parted(data, rows)
    if remembered and isinstance(train, NamedDataset):
        train.share = share_of(data, fraction, seed, rows[1])
    return train, validation, rows[0]


def as_share(fraction: Any, x: Any) -> float:
    """Return the share of the rows of `x` that validation gets, or raise `ArgumentError`."""
    # checked before float(), which also reads a text such as "0.2"
    share: object = fraction
    if not (isinstance(share, Real) and 0 < fraction < 1):
        raise ArgumentError(f"validation must be a fraction > 0 and < 1, got {fraction!r}")
    if is_mapped(x):
        raise ArgumentError(
            "validation must be files of its own for data that are mapped from a file, got "
            f"{float(fraction)!r}"
        )
    return float(fraction)


def drawn_rows(
    count: int, fraction: float, seed: int, labels: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return which of `count` rows are for training, and which for validation; see `split`.

    `labels` are those of the rows by which they are stratified, None if they aren't.
    """
    seed = integer("seed", seed, minimum=0, maximum=2**32 - 1)
    if not count:
        raise ArgumentError(f"validation must be a share of one row or more, got {fraction!r} of 0")
    wanted = round(fraction * count)
    rng = np.random.RandomState([seed, 1])
    order = rng.permutation(count)
    if labels is not None:
        order = np.concatenate(_stratified(labels[order], order, fraction, wanted))
        wanted = len(order)
    chosen = np.zeros(count, bool)
    chosen[order[:wanted]] = True
    if not 0 < wanted < count:
        raise ArgumentError(
            f"validation must leave a row or more on either side, got {fraction!r} of "
            f"{counted(count, 'row')}"
        )
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def parted(data: Dataset, parts: tuple[np.ndarray, np.ndarray]) -> tuple[Dataset, Dataset]:
    """Return a data set with each of two lists of rows."""
    if isinstance(data, NamedDataset):
        return data.part(parts[0]), data.part(parts[1])
    first, second = (Dataset(data.x[rows], data.y[rows]) for rows in parts)
    return first, second


def share_of(data: Dataset, fraction: float, seed: int, rows: np.ndarray) -> Share:
    """Return the share that was split off a data set by drawing these rows."""
    return Share(fraction, seed, _drawn_from(_content(data), rows))


def held_out(data: NamedDataset, share: Share | None) -> NamedDataset:
    """Return the rows of a data set that a model wasn't trained on.

    It doesn't matter how the data set was read: a DataFrame and the CSV file that it was written to
    are the same data. The columns must be in the same order.

    Parameters
    ----------
    data
        The whole data set, of which a share was split off before the model was trained.
    share
        The share: ``model.task.share``, which a model's file holds.

    Raises
    ------
    ArgumentError
        If `share` is None: no share was held out when the model was trained.
    DataError
        If `data` isn't the data set that was split: a value, a label or the order of rows differs.

    Examples
    --------
    >>> model = xpnn.load("iris.safetensors")  # doctest: +SKIP
    >>> data = xpnn.datasets.load("iris.csv")  # doctest: +SKIP
    >>> xpnn.evaluate(model, xpnn.datasets.held_out(data, model.task.share))  # doctest: +SKIP
    """
    if share is None:
        raise ArgumentError(
            "held_out needs a model that was trained on a part of its data, as with "
            f"{written('validation', 0.2)}; this one wasn't"
        )
    drawn: list[np.ndarray] = []
    for labels in _strata(data.y):
        try:
            drawn.append(drawn_rows(len(data.x), share.fraction, share.seed, labels)[1])
        except ArgumentError:  # too few rows for this fraction
            continue
    content = _content(data)
    for rows in drawn:
        if _drawn_from(content, rows) == share.sha256:
            return data.part(rows)
    # up to version 0.1.0, shares held the hash of the arrays as they were
    if drawn and fingerprint(data) == share.sha256:
        return data.part(drawn[0])
    raise DataError(
        f"{data.path} must hold the data that the model was trained on, the same rows in the "
        "same order, so that those held out can be found; it holds others"
    )


def _drawn_from(content: bytes, rows: np.ndarray) -> str:
    """Return the hash of a data set's content and of the rows that were drawn from it.

    With the rows in the hash, data that are equal but would be drawn from in another way, as by
    labels of another kind, can't be taken for those that were split.
    """
    return hashlib.sha256(content + rows.astype("<i8").tobytes()).hexdigest()


def _content(data: Dataset) -> bytes:
    """Return a hash of what a data set holds, in whichever way it was read.

    It is of the shapes, of `value_of` each cell as `_exact` has it, and of the texts.
    """
    numbers, texts = hashlib.sha256(), hashlib.sha256()
    for array in map(to_numpy, data):
        array = array.reshape(len(array), -1)
        numbers.update(repr(array.shape).encode())
        for first, rows in blocks(array):
            values = np.empty(rows.shape)
            if rows.dtype.kind in "biuf":
                values[:] = rows
            else:
                for column, cells in enumerate(rows.T):
                    found = each(value_of, cells)
                    values[:, column] = [np.nan if type(cell) is str else cell for cell in found]
                    text = "".join(
                        f"{row} {column} {cell}\0"
                        for row, cell in enumerate(found, first)
                        if type(cell) is str
                    )
                    texts.update(text.encode("utf-8", "backslashreplace"))
            if rows.dtype not in (np.uint8, np.float32):
                _exact(values)
            values[values == 0] = 0  # without a sign
            values[np.isnan(values)] = np.nan
            numbers.update(values.astype("<f8", copy=False).data)
    return numbers.digest() + texts.digest()


def _exact(values: np.ndarray) -> None:
    """Replace fractions of up to nine digits by the nearest float32, in place.

    A column of float32 is written to a CSV file with so many digits, and read as float64. So both
    become equal, and numbers that differ by more than float32 can tell stay different.
    """
    with np.errstate(all="ignore"):
        single = values.astype(np.float32).astype(np.float64)
        at = np.nonzero((values != single) & np.isfinite(single) & (values != np.round(values)))
        given = values[at]
        scale = 10.0 ** (8 - np.floor(np.log10(abs(given))))
        short = np.round(given * scale) / scale == given
    values[at] = np.where(short, single[at], given)


def _strata(y: np.ndarray) -> Iterator[np.ndarray | None]:
    """Yield the labels by which a split may have stratified, None for none.

    The labels of one target are integers, whole numbers as floats, or texts, by how it was read.
    """
    labels = as_labels(y) if y.dtype.kind != "f" else None
    yield labels
    if labels is not None:
        yield None
        y = labels
    if y.dtype.kind == "U":
        values = list(map(value_of, y.tolist()))
        if str in map(type, values):
            return
        y = np.array(values, np.float64)
    if y.ndim == 1 and (y == np.round(y)).all() and (abs(y) < EXACT).all():
        yield y.astype(np.int64)
        yield y.astype(np.int64).astype(str)


def _stratified(
    labels: np.ndarray, order: np.ndarray, fraction: float, wanted: int
) -> list[np.ndarray]:
    """Return, for each class, those of its rows that are for validation.

    Parameters
    ----------
    labels
        The label of each row in `order`.
    order
        The numbers of all rows, shuffled.
    fraction
        The share that each class gives.
    wanted
        The number of rows that all classes give; fewer if a class would keep none for training.
    """
    _, codes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    shares = fraction * sizes
    counts = np.floor(shares).astype(int)
    # the largest remainders are rounded up first, until there are as many rows as wanted
    for k in np.argsort(counts - shares, kind="stable"):
        if counts.sum() >= wanted:
            break
        counts[k] = min(counts[k] + 1, sizes[k] - 1)
    return [order[codes == k][:number] for k, number in enumerate(counts)]
