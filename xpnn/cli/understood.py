"""What `xpnn train` says of the data before it trains, with a loud word where they are odd."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from xpnn.datasets import Dataset, NamedDataset
from xpnn.datasets.checks import size_of
from xpnn.datasets.columns import missing_in
from xpnn.losses import Flooding, Loss
from xpnn.training.callback import Callback
from xpnn.training.run import Run

# how many classes, columns or features a line lists
_LISTED = 10
# more classes than this are odd if they are integers
_MOST_CLASSES = 20
# fewer rows say nothing of whether a column is an id
_FEWEST_ROWS = 20
# rows that are looked at first
_FIRST_ROWS = 1000


class Understood(Callback):
    """Prints what was understood of the data when all checks are done and a run begins.

    Parameters
    ----------
    train, validation
        The data as they were read.
    """

    def __init__(self, train: Dataset, validation: Dataset | None) -> None:
        self._train, self._validation = train, validation

    def on_start(self, run: Run) -> None:
        for line in (_of_data(self._train, run), _of_task(self._validation, run)):
            print(line)
        for odd in _odd(self._train, run):
            print(f"CAREFUL: {odd}")


def _of_data(train: Dataset, run: Run) -> str:
    task, features = run.samples.task, run.samples.train.x.shape[1]
    path = f" {train.path}" if isinstance(train, NamedDataset) and train.path else ""
    line = f"data{path}: {_count(len(train.x), 'row')}, {_count(features, 'feature')}"
    if task.image_shape is not None:
        line += f" ({size_of(task.image_shape)})"
    if task.columns is None:
        return line
    encoded = [column.name for column in task.columns.encoded]
    missing = [
        f"{count} in {column.name}"
        for column, count in zip(task.columns.columns, missing_in(train.x), strict=True)
        if count
    ]
    about = [f"{len(encoded)} encoded: {_listed(encoded)}"] if encoded else []
    about += [f"missing: {_listed(missing)}"] if missing else []
    line += f" from {_count(len(task.columns), 'column')}"
    return f"{line} ({'; '.join(about)})" if about else line


def _of_task(validation: Dataset | None, run: Run) -> str:
    task, y = run.samples.task, run.samples.train.y
    if task.classes is None:
        kind = f"values from {y.min():.6g} to {y.max():.6g}"
    else:
        labels = range(task.classes) if task.labels is None else task.labels.tolist()
        counts = np.bincount(y, minlength=task.classes)
        classes = [f"{label} ({n})" for label, n in zip(labels, counts.tolist(), strict=True)]
        kind = f"{task.classes} classes"
        if task.classes > _LISTED:
            kind += f" of {_count(counts.min(), 'row')} to {_count(counts.max(), 'row')}"
        else:
            kind += f", {_listed(classes)}"
    rows = "none" if validation is None else _count(len(validation.x), "row")
    scaled = [
        f"{what} by {normalizer.name}"
        for what, normalizer in (
            ("features", task.normalizer), ("target", task.target_normalizer)
        )
        if normalizer is not None
    ]  # fmt: skip
    return "; ".join(
        [
            f"target {task.target_name}: {kind}" if task.target_name else f"target: {kind}",
            f"validation: {rows}",
            f"loss: {_loss_name(run.method.loss)}",
            f"scaled: {', '.join(scaled) or 'nothing'}",
        ]
    )


def _loss_name(loss: Loss) -> str:
    if isinstance(loss, Flooding):
        return f"{_loss_name(loss.loss)} with flooding"
    return getattr(loss, "name", type(loss).__name__)


def _odd(train: Dataset, run: Run) -> Iterator[str]:
    """Yield what is odd about the data."""
    task = run.samples.task
    if task.classes is not None and isinstance(train, NamedDataset) and train.feature_names:
        stem, number = _stem(str(train.target_name))
        alike = [name for name in train.feature_names if stem and _stem(name)[0] == stem]
        if number and 2 * len(alike) > len(train.feature_names):
            yield (
                f"the target {train.target_name!r}, of {task.classes} classes, is named as the "
                f"feature {alike[0]!r} is; another column is the target with --target NAME"
            )
    if task.classes is not None and task.classes > _MOST_CLASSES and train.y.dtype.kind in "iu":
        yield (
            f"{task.classes} classes are many; if the target's integers are values, "
            "say --task regression"
        )
    if task.classes is not None and len(np.unique(run.samples.train.y)) == 1:
        yield "all rows of the training part are of one class"
    for column in task.columns.encoded if task.columns else ():
        # asked for by --encode, or in a table of few rows
        if len(column.categories) >= max(_FEWEST_ROWS // 2, 0.9 * len(train.x)):
            yield (
                f"{column.name} has a different text in almost each row, as a name has; leave it "
                f"out with --ignore {column.name}"
            )
    names = train.feature_names if isinstance(train, NamedDataset) else None
    if names is not None:
        ids = [name for name, cells in zip(names, train.x.T, strict=True) if _is_id(name, cells)]
        if ids:
            yield (
                f"{_listed(ids)}: a different whole number in each row, as an id or the row's "
                f"number has; leave it out with --ignore {','.join(ids)}"
            )


def _stem(name: str) -> tuple[str, str]:
    """Return a name without the number at its end, and that number."""
    number = re.search(r"[0-9]*$", name)
    end = number[0] if number else ""
    return name.removesuffix(end), end


def _is_id(name: str, cells: np.ndarray) -> bool:
    """Return whether a column has whole numbers that differ and are called an id, or are dense."""
    if len(cells) < _FEWEST_ROWS or not (_differ(cells[:_FIRST_ROWS]) and _differ(cells)):
        return False
    values = cells.astype(np.float64)
    called = re.search(r"(?i:(^|[^a-z])(id|index|number|nr|no)$)|[a-z]I[dD]$", name)
    return bool(called) or float(np.ptp(values)) < 2 * len(values)


def _differ(cells: np.ndarray) -> bool:
    if cells.dtype.kind == "O":
        if not all(isinstance(cell, int | float) for cell in cells.tolist()):
            return False
        cells = cells.astype(np.float64)
    # a missing cell isn't whole
    whole = np.isfinite(cells) & (cells == np.round(cells))
    return bool(whole.all()) and len(np.unique(cells)) == len(cells)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _listed(names: list[str]) -> str:
    names = ["".join(c if c.isprintable() else repr(c)[1:-1] for c in name) for name in names]
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")
