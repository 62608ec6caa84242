"""A data set split into a part for training and one for validation."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np

from xpnn._core.mapped import is_mapped
from xpnn.backends import to_numpy
from xpnn.datasets.checks import as_pair, check_lengths
from xpnn.datasets.dataset import Dataset, NamedDataset, Share, fingerprint
from xpnn.datasets.frames import named
from xpnn.datasets.labels import as_labels
from xpnn.errors import ArgumentError, DataError, counted, integer


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


def divided(name: str, data: Any, fraction: Any, seed: int) -> tuple[Dataset, Dataset, np.ndarray]:
    """Return the parts of `split`, and which rows are for training; messages call data `name`."""
    x, y = data = named(as_pair(name, data) if not isinstance(data, Dataset) else data)
    fraction = as_share(fraction, x)
    if not isinstance(data, NamedDataset):
        data = Dataset(to_numpy(x), to_numpy(y))
    if not (data.x.ndim and data.y.ndim):
        raise DataError(
            f"{name} must be arrays with rows, got shapes {data.x.shape} and {data.y.shape}"
        )
    check_lengths(name, data.x, data.y)
    labels = as_labels(data.y) if data.y.dtype.kind != "f" else None
    rows = drawn_rows(len(data.x), fraction, seed, labels)
    train, validation = parted(data, rows)
    if isinstance(train, NamedDataset):
        train.share = Share(fraction, seed, fingerprint(data))
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


def held_out(data: NamedDataset, share: Share | None) -> NamedDataset:
    """Return the rows of a data set that a model wasn't trained on.

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
            "--validation 0.2; this one wasn't"
        )
    if fingerprint(data) != share.sha256:
        raise DataError(
            f"{data.path} must hold the data that the model was trained on, the same rows in the "
            "same order, so that those held out can be found; it holds others"
        )
    rest = split(data, share.fraction, seed=share.seed)[1]
    assert isinstance(rest, NamedDataset)
    return rest


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
