"""What a run says of the data before it trains, with a loud word where they are odd."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from xpnn._core.tables import printable
from xpnn.datasets import NamedDataset
from xpnn.datasets.cells import is_absent
from xpnn.datasets.checks import size_of
from xpnn.datasets.columns import missing_in
from xpnn.errors import counted, written
from xpnn.losses import Flooding, Loss
from xpnn.training.callback import Callback
from xpnn.training.run import Run
from xpnn.training.samples import Samples

# how many classes, columns or features a line lists
_LISTED = 10
# more classes than this are odd if they are integers
_MOST_CLASSES = 20
# fewer rows say nothing of whether a column is an id
_FEWEST_ROWS = 20
# rows that are looked at first
_FIRST_ROWS = 1000


class Understood(Callback):
    """Prints what was understood of the data when all checks are done and a run begins."""

    def on_start(self, run: Run) -> None:
        for line in (_of_data(run.samples), _of_task(run.samples)):
            print(printable(line))
        for odd in _odd(run.samples):
            print(f"CAREFUL: {printable(odd)}", flush=True)


def _of_data(samples: Samples) -> str:
    task, train, features = samples.task, samples.train, samples.train.x.shape[1]
    path = f" {train.path}" if isinstance(train, NamedDataset) and train.path else ""
    line = f"data{path}: {counted(len(train.x), 'row')}, {counted(features, 'feature')}"
    if isinstance(train, NamedDataset) and not train.header:
        line += ", no header"
    if task.image_shape is not None:
        line += f" ({size_of(task.image_shape)})"
    if task.columns is None:
        return line
    encoded = [column.name for column in task.columns.encoded]
    missing = [
        f"{count} in {column.name}"
        for column, count in zip(task.columns.columns, missing_in(_cells(samples)), strict=True)
        if count
    ]
    about = [f"{len(encoded)} encoded: {_listed(encoded)}"] if encoded else []
    about += [f"missing: {_listed(missing)}"] if missing else []
    line += f" from {counted(len(task.columns), 'column')}"
    return f"{line} ({'; '.join(about)})" if about else line


def _cells(samples: Samples) -> np.ndarray:
    return samples.train.x if samples.cells is None else samples.cells


def _of_task(samples: Samples) -> str:
    task, y, validation = samples.task, samples.train.y, samples.validation
    if task.classes is None:
        kind = f"values from {y.min():.6g} to {y.max():.6g}"
    else:
        labels = range(task.classes) if task.labels is None else task.labels.tolist()
        counts = np.bincount(y, minlength=task.classes)
        classes = [f"{label} ({n})" for label, n in zip(labels, counts.tolist(), strict=True)]
        kind = f"{task.classes} classes"
        if task.classes > _LISTED:
            kind += f" of {counted(counts.min(), 'row')} to {counted(counts.max(), 'row')}"
        else:
            kind += f", {_listed(classes)}"
    rows = "none" if validation is None else counted(len(validation.x), "row")
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
            f"loss: {_loss_name(task.loss)}",
            f"scaled: {', '.join(scaled) or 'nothing'}",
        ]
    )


def _loss_name(loss: Loss | None) -> str:
    if isinstance(loss, Flooding):
        return f"{_loss_name(loss.loss)} with flooding"
    return getattr(loss, "name", type(loss).__name__)


def _odd(samples: Samples) -> Iterator[str]:
    """Yield what is odd about the data."""
    task, train = samples.task, samples.train
    names = train.feature_names if isinstance(train, NamedDataset) else None
    if task.classes is not None:
        yield from _odd_classes(samples, task.classes, names or ())
    elif names is not None and train.y.ndim == 1:
        yield from _odd_values(train.y)
    for column in task.columns.encoded if task.columns else ():
        # asked for by an encoding, or in a table of few rows
        if len(column.categories) >= max(_FEWEST_ROWS // 2, 0.9 * len(train.x)):
            yield (
                f"{column.name} has a different text in almost each row, as a name has; "
                f"{_leave_out([column.name])}"
            )
    if names is None:
        return
    columns = dict(zip(names, _cells(samples).T, strict=True))
    ids = [name for name, cells in columns.items() if _is_id(name, cells)]
    if ids:
        yield (
            f"{_listed(ids)}: a different whole number in each row, as an id or the row's "
            f"number has; {_leave_out(ids)}"
        )
    constant = [name for name, cells in columns.items() if _is_constant(cells)]
    if constant:
        yield f"{_listed(constant)}: the same in all rows, which says nothing; " + _leave_out(
            constant
        )
    target = train.y if task.labels is None else task.labels[train.y]
    same = [name for name, cells in columns.items() if _is_same(cells, target)]
    if same:
        yield (
            f"{_listed(same)}: the same as the target in each row, which new data won't have; "
            f"{_leave_out(same)}"
        )


def _odd_classes(samples: Samples, classes: int, features: Sequence[str]) -> Iterator[str]:
    """Yield what is odd about the classes of a target, whose table has these features."""
    task, train = samples.task, samples.train
    if features and isinstance(train, NamedDataset):
        stem, number = _stem(str(train.target_name))
        alike = [name for name in features if stem and _stem(name)[0] == stem]
        if number and 2 * len(alike) > len(features):
            yield (
                f"the target {train.target_name!r}, of {classes} classes, is named as the "
                f"feature {alike[0]!r} is; another column is the target with "
                f"{written('target', 'NAME')}"
            )
    labels = np.arange(classes) if task.labels is None else task.labels
    if classes > _MOST_CLASSES and labels.dtype.kind in "iu":
        yield (
            f"{classes} classes are many; if the target's integers are values, "
            f"say {written('task', 'regression')}"
        )
    counts = np.bincount(train.y, minlength=classes)
    if np.count_nonzero(counts) == 1:
        yield "all rows of the training part are of one class"
    rare = [str(label) for label in labels[counts == 1].tolist()]
    if rare and len(train.x) >= _FEWEST_ROWS:
        one = "class" if len(rare) == 1 else "classes"
        yield (
            f"{one} {_listed(rare)}: a single row of the training part, from which nothing can be "
            "learned; find more, or leave it out"
        )


def _odd_values(y: np.ndarray) -> Iterator[str]:
    """Yield what is odd about the values of a table's target: two different ones may be classes."""
    if len(y) < _FEWEST_ROWS or len(np.unique(y[:_FIRST_ROWS])) > 2:
        return
    different = np.unique(y).tolist()
    if len(different) == 2:
        yield (
            f"the target has no other values than {different[0]:.6g} and {different[1]:.6g}; if "
            f"they are classes, make them integers or say {written('task', 'classification')}"
        )


def _leave_out(columns: list[str]) -> str:
    """Return how to leave out columns."""
    it = "it" if len(columns) == 1 else "them"
    return f"leave {it} out with {written('ignore', columns)}"


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


def _is_constant(cells: np.ndarray) -> bool:
    """Return whether all cells of a column are the same, and not missing."""
    if len(cells) < _FEWEST_ROWS or is_absent(cells[0]):
        return False
    return _are_equal(cells, itertools.repeat(cells[0]))


def _is_same(cells: np.ndarray, target: np.ndarray) -> bool:
    """Return whether a column has the target's values, or its labels, in all rows."""
    if len(cells) < _FEWEST_ROWS or target.ndim != 1:
        return False
    return _are_equal(cells, target)


def _are_equal(cells: Iterable[Any], others: Iterable[Any]) -> bool:
    """Return whether cells are equal pair by pair; most columns differ in one of the first rows."""
    return all(
        not is_absent(cell) and (str(cell) == other if isinstance(other, str) else cell == other)
        for cell, other in zip(cells, others, strict=False)
    )


def _listed(names: list[str]) -> str:
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")
