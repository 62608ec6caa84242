"""A validation part cut off a data set."""

from __future__ import annotations

import numpy as np

from xpnn._core.mapped import is_mapped
from xpnn.datasets.dataset import Dataset, NamedDataset
from xpnn.datasets.labels import as_labels
from xpnn.errors import ArgumentError, integer


def split(data: Dataset, fraction: float, *, seed: int = 0) -> tuple[Dataset, Dataset]:
    """Cut a validation part of ``round(fraction * n)`` rows off a data set, at random.

    Class labels are stratified: each class gives its share, by the method of the largest
    remainder, and keeps a row or more for training. Both parts keep their order. The stream that
    is drawn from is one of its own, so that a run's own random numbers stay what they were.

    Parameters
    ----------
    data
        In memory.
    fraction
        A number > 0 and < 1.
    seed
        The same seed gives the same parts, everywhere.

    Returns
    -------
    train, validation

    Raises
    ------
    ArgumentError
        If the fraction leaves one part empty, or the data are mapped from a file.
    """
    seed = integer("seed", seed, minimum=0, maximum=2**32 - 1)
    count = len(data.x)
    if not 0 < fraction < 1:
        raise ArgumentError(f"validation must be a fraction > 0 and < 1, got {fraction!r}")
    if is_mapped(data.x):
        raise ArgumentError(
            "validation must be files of its own for data that are mapped from a file, got "
            f"{fraction!r}"
        )
    if not count:
        raise ArgumentError(f"validation must be a share of one row or more, got {fraction!r} of 0")
    wanted = round(fraction * count)
    rng = np.random.RandomState([seed, 1])
    order = rng.permutation(count)
    labels = as_labels(data.y) if data.y.dtype.kind != "f" else None
    if labels is not None:
        order = np.concatenate(_stratified(labels[order], order, fraction, wanted))
        wanted = len(order)
    chosen = np.zeros(count, bool)
    chosen[order[:wanted]] = True
    if not 0 < wanted < count:
        raise ArgumentError(
            f"validation must leave a row or more on either side, got {fraction!r} of {count} rows"
        )
    parts = np.flatnonzero(~chosen), np.flatnonzero(chosen)
    if isinstance(data, NamedDataset):
        return data.part(parts[0]), data.part(parts[1])
    train, validation = (Dataset(data.x[rows], data.y[rows]) for rows in parts)
    return train, validation


def _stratified(
    labels: np.ndarray, order: np.ndarray, fraction: float, wanted: int
) -> list[np.ndarray]:
    """Return for each class those of its rows, in a random order, that are for validation."""
    _, codes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    shares = fraction * sizes
    counts = np.floor(shares).astype(int)
    for k in np.argsort(counts - shares, kind="stable"):
        if counts.sum() >= wanted:
            break
        counts[k] = min(counts[k] + 1, sizes[k] - 1)
    return [order[codes == k][:number] for k, number in enumerate(counts)]
