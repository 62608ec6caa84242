"""`xpnn show`, `evaluate`, `predict` and `export`: a trained model's file."""

from __future__ import annotations

import argparse
import contextlib
import csv
import math
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from xpnn import metrics, saving
from xpnn._core.files import check_writable, replacing
from xpnn.backends import DTYPES
from xpnn.cli.options import (
    MODEL,
    Help,
    add_model_and_data,
    check_different,
    data_from,
    inputs_from,
    model_from,
)
from xpnn.cli.output import summary, table
from xpnn.datasets.checks import as_inputs, check_images, size_of
from xpnn.datasets.dataset import located
from xpnn.errors import ArgumentError
from xpnn.export import onnx
from xpnn.inference import class_probabilities, evaluate, predict
from xpnn.model import Sequential
from xpnn.task import Task
from xpnn.training.loop import EVALUATION_ROWS


def add(commands: Any) -> None:
    """Add the commands."""
    shown = commands.add_parser(
        "show",
        help="show what is in a model's file",
        description="Show a trained model: layers, normalizers, classes, settings and last epoch "
        "of the last run, versions.",
    )
    shown.set_defaults(run=_show)
    shown.add_argument("model", metavar="MODEL", help=MODEL)

    for name, run, what in (
        ("evaluate", _evaluate, "print accuracy and loss of a model on data that have targets"),
        ("predict", _predict, "write a model's predictions as CSV, one row for each row of data"),
    ):
        parser = commands.add_parser(
            name, help=what, description=what.capitalize() + ".", formatter_class=Help
        )
        parser.set_defaults(run=run)
        if name == "predict":
            add = parser.add_argument
            add("--out", metavar="FILE", help="write a complete file instead of to the terminal")
            add("--proba", action="store_true", help="add the probability of each class")
        add_model_and_data(parser)

    parser = commands.add_parser("export", help="write a model to an ONNX file")
    parser.description = (
        "Write a trained model to an ONNX file. Input: x, floats of shape (batch, features). "
        "Outputs: logits and probabilities, or for a regression outputs (docs/guide/onnx.md)."
    )
    parser.set_defaults(run=_export)
    add = parser.add_argument
    add("model", metavar="MODEL", help=MODEL)
    add("out", metavar="FILE", help="such as model.onnx")
    add("--dtype", metavar="NAME", help=f"{', '.join(DTYPES)}; the model's own if left out")


def _show(args: argparse.Namespace) -> int:
    model = saving.load(args.model)
    about, task = saving.describe(args.model), model.task
    print(summary(model))
    lines: list[tuple[str, object]] = [
        ("normalizer", task.normalizer),
        ("target normalizer", task.target_normalizer),
        ("classes", None if task.classes is None else ", ".join(map(str, _labels(task)))),
        ("features", task.feature_names and ", ".join(task.feature_names)),
        ("target", task.target_name),
        ("images", task.image_shape and size_of(task.image_shape)),
        ("held out", task.share and f"{task.share.fraction} of the rows, seed {task.share.seed}"),
        ("loss", task.loss),
        ("dtype", about["dtype"]),
    ]
    if model.history:
        settings, last = model.history.settings, model.history[-1]
        lines += [
            ("settings", ", ".join(f"{name}={value}" for name, value in settings.items())),
            ("last epoch", ", ".join(f"{n}={v!r}" for n, v in last._asdict().items())),
        ]
    versions = {"xpnn": about["xpnn"], **about.get("versions", {})}
    lines += [
        ("written by", ", ".join(f"{name} {version}" for name, version in versions.items())),
        ("format", about["format"]),
        ("weights sha256", model.sha256()),
    ]
    print(table([(name, str(value)) for name, value in lines if value is not None]))
    return 0


def _labels(task: Task) -> Iterable[Any]:
    """Return the labels of the classes, which are their numbers if they have no others."""
    return range(task.classes or 0) if task.labels is None else task.labels


def _evaluate(args: argparse.Namespace) -> int:
    model = model_from(args)
    data = data_from(args, model)
    found = evaluate(model, data)
    regression = math.isnan(found.accuracy)
    if not regression:
        print(f"accuracy {found.accuracy!r}")
    print(f"loss {found.loss!r}")
    if regression:
        values = predict(model, data.x)
        print(f"r2_score {metrics.r2_score(data.y, values)!r}")
        print(f"root_mean_squared_error {metrics.root_mean_squared_error(data.y, values)!r}")
    return 0


def _predict(args: argparse.Namespace) -> int:
    if args.out is not None:
        check_different({"data": args.data, "model": args.model, "out": args.out})
        check_writable("out", args.out)
    model = model_from(args)
    if args.proba and model.task.classes is None:
        raise ArgumentError("proba needs a model of classes, but this one predicts values")
    data = data_from(args, model) if args.held_out else inputs_from(args, model)
    check_images(data, model.task.image_shape)
    # all data are checked before anything is written
    with located(data):
        as_inputs("x", data.x)
    with _written(args.out) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*([] if data.files is None else ["file"]), *_columns(model, args.proba)])
        for start in range(0, len(data.x), EVALUATION_ROWS):
            rows = data.part(slice(start, start + EVALUATION_ROWS))
            columns = [] if rows.files is None else [rows.files]
            with located(rows):
                columns.append(predict(model, rows.x))
                if args.proba:
                    columns.append(class_probabilities(model, rows.x))
            groups = [column.reshape(len(rows.x), -1) for column in columns]
            for row in zip(*groups, strict=True):
                # `str` writes as many digits as float32 or float64 needs to be read back exactly
                writer.writerow([str(cell) for group in row for cell in group])
    return 0


def _columns(model: Sequential, proba: bool) -> list[str]:
    if model.task.classes is not None:
        return ["prediction", *(f"proba_{label}" for label in _labels(model.task) if proba)]
    assert model.inputs is not None
    outputs = model.outputs(model.inputs)
    return ["prediction"] if outputs == 1 else [f"prediction{i + 1}" for i in range(outputs)]


@contextlib.contextmanager
def _written(path: str | None) -> Iterator[TextIO]:
    """Yield a file that appears at `path` once it is complete; standard output for None."""
    if path is None:
        yield sys.stdout
    else:
        with replacing(path) as beside, beside.open("w", encoding="utf-8", newline="") as file:
            yield file


def _export(args: argparse.Namespace) -> int:
    if Path(args.out).resolve() == Path(args.model).resolve():
        raise ArgumentError(f"FILE and MODEL must be different files, got {args.out!r}")
    if Path(args.out).suffix != ".onnx":
        raise ArgumentError(f"FILE must end in .onnx, got {args.out!r}")
    onnx.export_onnx(saving.load(args.model, dtype=args.dtype), args.out)
    return 0
