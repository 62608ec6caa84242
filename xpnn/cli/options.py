"""What several commands share: options, checks and tables."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from xpnn.activations import ACTIVATIONS
from xpnn.errors import ArgumentError
from xpnn.losses import LOSSES
from xpnn.model import Sequential, SummaryRow
from xpnn.optimizers import OPTIMIZERS
from xpnn.schedules import SCHEDULES
from xpnn.settings import FIELDS, Settings

DIFFERENT, FAILED, USAGE_ERROR, INTERRUPTED = 1, 1, 2, 130

DATA = (
    "a CSV file, an NPZ file, x.npy,y.npy, a folder with a folder of PNG images for each class, "
    "or a folder with IDX files as MNIST's"
)
MODEL = "a file that xpnn train --save wrote"


class Help(argparse.ArgumentDefaultsHelpFormatter):
    """Shows defaults, except where there is none."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        plain = action.default is None or action.default is False
        return action.help if plain else super()._get_help_string(action)


def add_table(parser: argparse.ArgumentParser) -> None:
    """Add how a CSV file is to be read."""
    add = parser.add_argument
    add(
        "--target",
        metavar="NAME",
        help="target column of a CSV file by name or number, from 1 on; the last if left out",
    )
    add(
        "--header",
        metavar="yes|no",
        help="whether a CSV file's first row holds names; by what is below if left out",
    )


def add_settings(parser: argparse.ArgumentParser, **defaults: Any) -> None:
    """Add an option for each of `Settings`."""
    parser.set_defaults(**{**FIELDS, **defaults})
    add = parser.add_argument
    part = "NAME[:P=V,...]"
    add("--hidden", metavar="N,N", help="widths of the hidden layers")
    add("--activation", metavar=part, help=names_of(ACTIVATIONS))
    add("--optimizer", metavar=part, help=names_of(OPTIMIZERS))
    add(
        "--loss",
        metavar=part,
        help=f"{names_of(LOSSES)}; without one, the first for classes, the second for values",
    )
    add("--flood", metavar="B", type=float, help="flood level b: |E - b| + b for the loss E")
    add("--weight-decay", metavar="W", type=float, help="L2 weight decay")
    add("--batch-norm", action="store_true", help="batch normalization of each hidden layer")
    add("--dropout", metavar="P", type=float, help="after each hidden activation, drop units by P")
    add("--schedule", metavar=part, help=f"of the learning rate: {names_of(SCHEDULES)}")
    add("--warmup", metavar="N", type=float, help="epochs in which the learning rate rises from 0")
    add("--clip-norm", metavar="C", type=float, help="largest norm of the gradient")
    add(
        "--class-weight",
        metavar="W",
        help="balanced, or a weight per label: 0=1,1=2.5; labels with commas as JSON: "
        """'{"x, y": 1, "z": 2.5}'""",
    )
    add("--epochs", metavar="N", type=int, help="passes over the training data")
    add("--batch-size", metavar="N", type=int, help="samples per step")
    add("--seed", metavar="N", type=int, help="of initial weights and shuffles")


def settings_of(args: argparse.Namespace) -> Settings:
    """Return the settings that were asked for."""
    given = {name: getattr(args, name) for name in FIELDS}
    return Settings(**{name: value for name, value in given.items() if value is not None})


def names_of(names: Iterable[str]) -> str:
    """Return names as a help text lists them."""
    return ", ".join(names)


def listed(names: str | None) -> list[str] | None:
    """Return the names in ``"a, b"``."""
    return None if names is None else [name.strip() for name in names.split(",")]


def header_of(text: str | None) -> bool | None:
    """Return what ``--header`` says."""
    if text not in (None, "yes", "no"):
        raise ArgumentError(f"header must be yes or no, got {text!r}")
    return None if text is None else text == "yes"


def check_different(paths: dict[str, str | None]) -> None:
    """Raise where an output would overwrite another one, or what is read."""
    given = {name: Path(path).resolve() for name, path in paths.items() if path}
    read = {name: given.pop(name) for name in ("data", "validation", "model") if name in given}
    sources = {name: [path] for name, path in read.items()}
    if paths["data"] and "," in paths["data"]:
        sources["data"] += [Path(path).resolve() for path in paths["data"].split(",")]
    for name, path in given.items():
        for source, places in sources.items():
            if path in places:
                raise ArgumentError(f"{name} and {source} must be different files, got {path}")
            if any(place in path.parents for place in places):
                raise ArgumentError(f"{name} must not be in the data's folder, got {paths[name]!r}")
        for other, its in given.items():
            if other != name and its == path:
                raise ArgumentError(f"{name} and {other} must be different files, got {its}")


def table(rows: Sequence[Sequence[str]], *, numeric: Sequence[int] = ()) -> str:
    """Return rows as text in columns, some of them aligned to the right."""
    # a label may hold a newline
    rows = [[_printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(line(row, widths, numeric) for row in rows)


def _printable(cell: str) -> str:
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in cell)


def line(row: Sequence[str], widths: Sequence[int], numeric: Sequence[int] = ()) -> str:
    """Return a row of a table whose columns have these widths."""
    return "  ".join(
        cell.rjust(width) if i in numeric else cell.ljust(width)
        for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    ).rstrip()


def summary(model: Sequential, inputs: int) -> str:
    """Return a table of a model's layers."""
    rows = model.summary(inputs)
    total = sum(row.parameters for row in rows)
    cells = [SummaryRow._fields, *rows, ("total", "", inputs, model.outputs(inputs), total)]
    return table([[str(cell) for cell in row] for row in cells], numeric=(2, 3, 4))


def complain(message: str) -> None:
    """Print a line to standard error."""
    print(f"xpnn: {message}", file=sys.stderr, flush=True)
