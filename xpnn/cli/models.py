"""`xpnn show`, `evaluate`, `predict` and `export`: a trained model's file."""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import json
import math
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from xpnn import metrics, saving
from xpnn._core.files import replacing
from xpnn._core.tables import printable, table
from xpnn.backends import DTYPES
from xpnn.cli.options import (
    METRICS_HELP,
    MODEL,
    Help,
    add_model_and_data,
    data_from,
    inputs_from,
    model_from,
)
from xpnn.cli.output import complain
from xpnn.datasets.checks import as_inputs, check_images, size_of
from xpnn.datasets.dataset import located
from xpnn.errors import ArgumentError
from xpnn.export import onnx
from xpnn.inference import class_probabilities, confusion, evaluate, predict
from xpnn.losses import ROUNDING, CrossEntropy
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
            name, help=what, description=what[0].upper() + what[1:] + ".", formatter_class=Help
        )
        parser.set_defaults(run=run)
        add = parser.add_argument
        if name == "evaluate":
            add(
                "--metrics",
                metavar="NAME,...",
                help=f"{METRICS_HELP}; for classes, also precision, recall and F1 of each, and how "
                "often each was predicted for each",
            )
            add("--json", action="store_true", help="print all of it as JSON, for a program")
        if name == "predict":
            add("--out", metavar="FILE", help="write a complete file instead of to the terminal")
            add(
                "--proba",
                action="store_true",
                help="add the probability of each class; those of a row sum to 1 if the loss is "
                "cross_entropy, or if there is one output",
            )
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
    print(model.summary())
    pixels = ", pixels that are divided by 255" if task.input_kind == "bytes" else ""
    lines: list[tuple[str, object]] = [
        ("trained on", task.input_kind and f"{task.input_kind}{pixels}"),
        ("normalizer", task.normalizer),
        ("target normalizer", task.target_normalizer),
        ("classes", None if task.classes is None else ", ".join(map(str, _labels(task)))),
        ("features", task.feature_names and ", ".join(task.feature_names)),
        *(("column", column) for column in (task.columns.columns if task.columns else ())),
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
    found = evaluate(model, data, metrics=args.metrics)
    regression = math.isnan(found.accuracy)
    figures = {n: v for n, v in found._asdict().items() if n not in found.metrics}
    loss = model.task.loss
    if regression and loss is not None and loss.outputs_per_target > 1:
        values = predict(model, data.x)
        targets = np.tile(data.y.reshape(len(data.y), -1), loss.outputs_per_target)
        shares = np.mean(targets <= values, axis=0).tolist()
        for name, share in zip(_columns(model, False), shares, strict=True):
            figures[f"targets_below_{name}"] = share
    elif regression:
        values = predict(model, data.x)
        for asked, figure in (("r2", metrics.r2_score), ("rmse", metrics.root_mean_squared_error)):
            if asked not in found.metrics:
                figures[figure.__name__] = figure(data.y, values)
    figures |= found.metrics
    matrix = None
    if model.task.classes is not None and (args.json or args.metrics is not None):
        matrix = confusion(model, data)
    if args.json:
        print(_as_json(figures, len(data.x), model.task, matrix))
        return 0
    for name, value in figures.items():
        print(f"{name} {value!r}")
    if matrix is not None:
        print(_of_classes(model.task, matrix))
    return 0


def _as_json(figures: dict[str, float], rows: int, task: Task, matrix: np.ndarray | None) -> str:
    """Return an evaluation as JSON, which has no NaN: null stands for it."""
    found: dict[str, Any] = {"rows": rows}
    found |= {name: None if math.isnan(value) else value for name, value in figures.items()}
    if matrix is not None:
        labels = np.asarray(_labels(task)).tolist()
        each = zip(labels, metrics.per_class(matrix), strict=True)
        found["classes"] = [{"label": label, **own._asdict()} for label, own in each]
        found["confusion_matrix"] = matrix.tolist()
    # an encoding that hasn't all characters gets JSON's codes for them
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return json.dumps(found, ensure_ascii="utf" not in encoding.lower())


def _of_classes(task: Task, matrix: np.ndarray) -> str:
    """Return tables with the figures of each class and, of up to 30, with the confusion matrix."""
    labels = list(map(str, _labels(task)))
    rows = [["class", *metrics.ClassFigures._fields]]
    for label, own in zip(labels, metrics.per_class(matrix), strict=True):
        rows.append([label, *(f"{value:.4f}" for value in own[:3]), str(own.support)])
    text = "\n" + table(rows, numeric=range(1, 5))
    if len(labels) > 30:
        return f"{text}\n\n`xpnn plot confusion` draws the confusion matrix, --json prints it"
    rows = [["true \\ predicted", *labels]]
    rows += [
        [label, *map(str, counts)] for label, counts in zip(labels, matrix.tolist(), strict=True)
    ]
    return f"{text}\n\n{table(rows, numeric=range(1, len(labels) + 1))}"


def _predict(args: argparse.Namespace) -> int:
    model = model_from(args)
    if args.proba and model.task.classes is None:
        raise ArgumentError("proba needs a model of classes, but this one predicts values")
    data = inputs_from(args, model)
    check_images(data, model.task.image_shape)
    # all data are checked before anything is written
    with located(data):
        as_inputs("x", data.x, model.task)
    one = True
    header = [*([] if data.files is None else ["file"]), *_columns(model, args.proba)]
    with _written(args.out) as file:
        names = () if data.files is None else data.files.tolist()
        _check_encoded(file, [*header, *map(str, _labels(model.task)), *names])
        writer = csv.writer(file, lineterminator="\n")
        # a terminal obeys some characters
        terminal = file.isatty()

        def as_text(cell: object) -> str:
            return printable(str(cell)) if terminal else str(cell)

        writer.writerow(map(as_text, header))
        for start in range(0, len(data.x), EVALUATION_ROWS):
            rows = data.part(slice(start, start + EVALUATION_ROWS))
            columns = [] if rows.files is None else [rows.files]
            with located(rows):
                columns.append(predict(model, rows.x))
                if args.proba:
                    columns.append(class_probabilities(model, rows.x))
                    one &= bool((abs(columns[-1].sum(axis=1) - 1) <= ROUNDING).all())
            groups = [column.reshape(len(rows.x), -1) for column in columns]
            for row in zip(*groups, strict=True):
                # `str` writes as many digits as float32 or float64 needs to be read back exactly
                writer.writerow([as_text(cell) for group in row for cell in group])
    if not one:
        loss = (model.task.loss or CrossEntropy()).name
        complain(f"the proba columns don't sum to 1: outputs of {loss!r} are independent")
    return 0


def _check_encoded(file: TextIO, texts: Iterable[str]) -> None:
    """Raise unless a file's encoding has all characters of the texts, as UTF-8 has."""
    for text in texts:
        try:
            text.encode(file.encoding or "utf-8")
        except UnicodeEncodeError as error:
            if error.encoding == "utf-8":
                raise ArgumentError(
                    f"{text!r} can't be written as UTF-8: give it a name of whole characters"
                ) from None
            raise ArgumentError(
                f"standard output has the encoding {file.encoding}, which can't write {text!r}: "
                "write to a file with --out FILE, or set PYTHONIOENCODING=utf-8"
            ) from None


def _columns(model: Sequential, proba: bool) -> list[str]:
    if model.task.classes is not None:
        return ["prediction", *(f"proba_{label}" for label in _labels(model.task) if proba)]
    assert model.inputs is not None
    return (model.task.loss or CrossEntropy()).columns(model.outputs(model.inputs))


@contextlib.contextmanager
def _written(path: str | None) -> Iterator[TextIO]:
    """Yield a file that appears at `path` once it is complete; standard output for None."""
    if path is None:
        if sys.stdout is None:
            raise ArgumentError("out must be given where there is no standard output")
        yield sys.stdout
    else:
        with replacing("out", path) as file:
            # names of files that aren't UTF-8 stay what they are
            text = io.TextIOWrapper(file, "utf-8", errors="surrogateescape", newline="")
            yield text
            text.detach()


def _export(args: argparse.Namespace) -> int:
    if Path(args.out).suffix != ".onnx":
        raise ArgumentError(f"FILE must end in .onnx, got {args.out!r}")
    onnx.export_onnx(saving.load(args.model, dtype=args.dtype), args.out)
    return 0
