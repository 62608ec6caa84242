"""The `xpnn` command."""

from __future__ import annotations

import argparse
import contextlib
import csv
import functools
import itertools
import math
import os
import re
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn, TextIO

import numpy as np

from xpnn import backends, checkpoints, metrics, onnx_export, plots, tables
from xpnn._version import __version__
from xpnn.activations import ACTIVATIONS
from xpnn.backends import BACKENDS, DTYPES, get_backend
from xpnn.callbacks import (
    CALLBACKS,
    MONITORS,
    Checkpoint,
    CSVLogger,
    EarlyStopping,
    TensorBoard,
    Terminal,
    read_log,
)
from xpnn.datasets import (
    Dataset,
    NamedDataset,
    as_dataset,
    load,
    load_training,
    read_idx_folder,
)
from xpnn.errors import ArgumentError, CheckpointWarning, XpnnError, unknown
from xpnn.files import check_writable, replacing
from xpnn.losses import LOSSES
from xpnn.model import Sequential, SummaryRow
from xpnn.normalizers import NORMALIZERS
from xpnn.optimizers import OPTIMIZERS
from xpnn.registry import load_parts
from xpnn.schedules import SCHEDULES
from xpnn.settings import FIELDS, Settings
from xpnn.study import REPORT, Study, cluster, load_study, write_report
from xpnn.study import run as run_study
from xpnn.training import EVALUATION_ROWS, Callback, History, evaluate, predict, predict_proba
from xpnn.verification import (
    Canonical,
    canonical_runs,
    generated,
    run_canonical,
    usable_backends,
    verify,
)

DIFFERENT, FAILED, USAGE_ERROR, INTERRUPTED = 1, 1, 2, 130

# settings of `verify` that differ from those of `train`
_VERIFIED = {"epochs": 3}

_DATA = (
    "a CSV file, an NPZ file, x.npy,y.npy, a folder with a folder of PNG images for each class, "
    "or a folder with IDX files as MNIST's"
)

_MODEL = "a file that xpnn train --save wrote"

# digits of a hash that a table shows, and what it shows instead
_SHOWN = 16
_DIVERGED, _EQUAL, _NO_DATA = "diverged", "equal", "needs MNIST"


class _Parser(argparse.ArgumentParser):
    """A parser whose errors take one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE_ERROR, f"{self.prog}: error: {message}\n")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, with "-4,4" after an option as its value, which argparse takes for an option."""
        joined: list[str] = []
        for text in sys.argv[1:] if args is None else args:
            if re.match(r"-\.?\d.*,", text) and joined and re.fullmatch("--[^=]+", joined[-1]):
                joined[-1] += f"={text}"
            else:
                joined.append(text)
        return super().parse_known_args(joined, namespace)


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Shows defaults, except where there is none."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        plain = action.default is None or action.default is False
        return action.help if plain else super()._get_help_string(action)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="xpnn", description="Train small neural networks, on any array library.")
    parser.add_argument("--version", action="version", version=f"xpnn {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    train = commands.add_parser(
        "train",
        help="train a network on a data set",
        description="Train a network on a data set, and print a line an epoch: epoch, training "
        "accuracy and loss, test accuracy and loss. Epoch 0 is the untrained network.",
        epilog=_parts(),
        formatter_class=_Help,
    )
    train.set_defaults(run=_train)
    add = train.add_argument
    add("data", metavar="DATA", help=_DATA)
    _add_table(train)
    add("--task", metavar="NAME", help=f"{_names(tables.TASKS)}; by the target if left out")
    add("--ignore", metavar="NAME,...", help="columns that are not features")
    add(
        "--validation",
        metavar="P|DATA",
        help="what to test on after each epoch: a share of DATA "
        "such as 0.2, of each class alike, or other data",
    )
    add(
        "--normalize",
        metavar="NAME",
        help=f"the features: {_names(NORMALIZERS)}, none; fitted to "
        "the training part, and kept in the model; if left out, standard for a CSV file, else none",
    )
    add(
        "--normalize-target",
        metavar="NAME",
        help="the values of a regression, likewise; standard if left out",
    )
    _add_settings(train, loss=None)
    add("--backend", metavar="NAME", default="numpy", help=_names(BACKENDS))
    add("--device", metavar="NAME", help="such as cuda:0")
    add("--dtype", metavar="NAME", default="float32", help=_names(DTYPES))
    add("--reproducible", action="store_true", help="the same bits on every backend")
    add("--hash", action="store_true", help="end each line with the SHA-256 of the weights")
    add("--log", metavar="FILE", help="write the lines to a CSV file too")
    add(
        "--callback",
        metavar="NAME[:P=V,...]",
        action="append",
        default=[],
        help="one of your own, from a file of --parts; may be repeated",
    )
    add("--plot", metavar="FILE", help="draw accuracy and loss per epoch (needs matplotlib)")
    add("--tensorboard", metavar="FOLDER", help="write event files (needs tensorboardX)")
    add("--save", metavar="FILE", help="write the trained model to a safetensors file")
    add("--patience", metavar="N", type=int, help="stop after so many epochs without improvement")
    which = f"{_names(MONITORS)}; test_loss if left out"
    add("--monitor", metavar="COLUMN", help=f"what shall improve: {which}")
    add("--checkpoint", metavar="FILE", help="write all that a run needs to go on")
    add("--every", metavar="N", type=int, help="epochs between two checkpoints; 1 if left out")
    add("--resume", metavar="FILE", help="go on from a checkpoint, as if never stopped")
    add("--quiet", action="store_true", help="print nothing but errors")

    _add_models(commands)

    compare = commands.add_parser(
        "verify",
        help="compare the backends bit for bit",
        description="Train on each backend and compare the weights after each epoch. Exit status "
        "0 if all agree; 1 if not, with the first operation that differs.",
        formatter_class=_Help,
    )
    compare.set_defaults(run=_verify)
    add = compare.add_argument
    add(
        "data",
        metavar="DATA",
        nargs="?",
        help="folder with IDX files as MNIST's, gzipped or not; a small generated set if left out",
    )
    add("--backends", metavar="NAME,...", help="the ones to compare; all usable ones if left out")
    add("--device", metavar="NAME", help="of every backend, such as cuda:0")
    add("--dtype", metavar="NAME", default="float32", help=_names(DTYPES))
    add("--native", action="store_true", help="compare native runs, and show how far they part")
    add("--canonical", action="store_true", help="hold standard runs to the published hashes")
    _add_settings(compare, **_VERIFIED)

    _add_study(commands.add_parser("study", help="run a grid of runs, and report on it"))
    _add_plot(commands.add_parser("plot", help="draw runs, activations, a model's errors"))

    _add_export(commands.add_parser("export", help="write a model to an ONNX file"))

    listing = commands.add_parser(
        "backends",
        help="list the backends and what is installed of them",
        description="List each backend: version, devices, BLAS, or what to install.",
    )
    listing.set_defaults(run=_backends)
    for name, command in commands.choices.items():
        if name not in ("backends", "study"):
            command.add_argument(
                "--parts",
                metavar="FILE",
                action="append",
                default=[],
                help="a Python file with parts of your own, known by their names from then on "
                "(docs/own-parts.md); may be repeated",
            )
    return parser


def _add_table(parser: argparse.ArgumentParser) -> None:
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


def _add_models(commands: Any) -> None:
    """Add the commands on a trained model."""
    shown = commands.add_parser(
        "show",
        help="say what is in a model's file",
        description="Show a trained model: layers, normalizers, classes, the settings and the end "
        "of the last run, versions.",
    )
    shown.set_defaults(run=_show)
    shown.add_argument("model", metavar="MODEL", help=_MODEL)

    for name, run, what in (
        ("evaluate", _evaluate, "print accuracy and loss of a model on data that have targets"),
        ("predict", _predict, "write what a model says of data, as CSV, a row for each of theirs"),
    ):
        parser = commands.add_parser(
            name, help=what, description=what.capitalize() + ".", formatter_class=_Help
        )
        parser.set_defaults(run=run)
        if name == "predict":
            add = parser.add_argument
            add(
                "--out", metavar="FILE", help="write there, all or nothing, and not to the terminal"
            )
            add("--proba", action="store_true", help="add the probability of each class")
        _add_use(parser)


def _add_use(parser: argparse.ArgumentParser) -> None:
    """Add what the use of a trained model on data takes."""
    add = parser.add_argument
    add("model", metavar="MODEL", help=_MODEL)
    add(
        "data",
        metavar="DATA",
        help=f"{_DATA}, of which the test part is taken; with the "
        "features that the model was trained on",
    )
    _add_table(parser)
    add("--backend", metavar="NAME", default="numpy", help=_names(BACKENDS))
    add("--device", metavar="NAME", help="such as cuda:0")
    add("--dtype", metavar="NAME", help=f"{_names(DTYPES)}; the model's if left out")


def _add_settings(parser: argparse.ArgumentParser, **defaults: Any) -> None:
    parser.set_defaults(**{**FIELDS, **defaults})
    add = parser.add_argument
    part = "NAME[:P=V,...]"
    add("--hidden", metavar="N,N", help="widths of the hidden layers")
    add("--activation", metavar=part, help=_names(ACTIVATIONS))
    add("--optimizer", metavar=part, help=_names(OPTIMIZERS))
    add(
        "--loss",
        metavar=part,
        help=f"{_names(LOSSES)}; without one, the first for classes, the second for values",
    )
    add("--flood", metavar="B", type=float, help="flood level b: |E - b| + b for the loss E")
    add("--weight-decay", metavar="W", type=float, help="L2 weight decay")
    add("--batch-norm", action="store_true", help="batch normalization of each hidden layer")
    add("--dropout", metavar="P", type=float, help="after each hidden activation, drop units by P")
    add("--schedule", metavar=part, help=f"of the learning rate: {_names(SCHEDULES)}")
    add("--warmup", metavar="N", type=float, help="epochs in which the learning rate rises from 0")
    add("--clip-norm", metavar="C", type=float, help="largest norm of the gradient")
    add("--class-weight", metavar="W", help="balanced, or a weight per label: 0=1,1=2.5")
    add("--epochs", metavar="N", type=int, help="passes over the training data")
    add("--batch-size", metavar="N", type=int, help="samples per step")
    add("--seed", metavar="N", type=int, help="of initial weights and shuffles")


def _add_study(parser: argparse.ArgumentParser) -> None:
    parser.description = "Run a grid of runs, and report on it."
    commands = parser.add_subparsers(dest="study_command", required=True, metavar="COMMAND")
    what = "article, or a TOML file"

    start = commands.add_parser(
        "run",
        help="do the runs that have no result yet, and write the report",
        description="Do the runs of a study that have no result yet, and write the report. Exit "
        "status 1 if a run failed; the others finish, and the next start tries it again.",
        formatter_class=_Help,
    )
    start.set_defaults(run=_study_run)
    add = start.add_argument
    add("study", metavar="STUDY", help=what)
    add("--only", metavar="NAME,...", help="experiments; `xpnn study list` names them")
    add("--long", action="store_true", help="the experiments of many epochs too")
    add("--repeats", action="store_true", help="repeat the runs that differ from what's published")
    add("--data", metavar="DATA", help="folder with the data, instead of the study's")
    add("--epochs", metavar="N", type=int, help="instead of the study's, as all that follow")
    add("--backend", metavar="NAME", help=_names(BACKENDS))
    add("--device", metavar="NAME", help="such as cuda:0")
    add("--dtype", metavar="NAME", help=_names(DTYPES))
    add("--reproducible", action="store_true", help="the same bits on every backend")
    add("--jobs", metavar="N", type=int, help="runs at a time; as many as cores if left out")
    add("--cluster", metavar="ADDRESS", help="of a Dask scheduler: run there, not here")
    add("--out", metavar="FOLDER", default="runs", help="of results and report")
    add("--quiet", action="store_true", help="print nothing but errors")

    report = commands.add_parser(
        "report",
        help="write the report anew from the results that are there",
        description="Write report.html, report.md, tables.csv and the figures of the study that "
        "was last run into a folder.",
    )
    report.set_defaults(run=_study_report)
    report.add_argument("out", metavar="FOLDER", help="of the results")

    listing = commands.add_parser(
        "list", help="list a study's runs", description="List a study's experiments and runs."
    )
    listing.set_defaults(run=_study_list)
    listing.add_argument("study", metavar="STUDY", help=what)


def _add_plot(parser: argparse.ArgumentParser) -> None:
    parser.description = "Draw a picture to a PNG, PDF or SVG file (needs matplotlib)."
    commands = parser.add_subparsers(dest="kind", required=True, metavar="KIND")

    def kind(name: str, draw: Any, summary: str, description: str) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name, help=summary, description=description, formatter_class=_Help
        )
        command.set_defaults(run=draw)
        command.add_argument(
            "--out",
            metavar="FILE",
            help=f"the picture, as its ending says; {name}.png if left out and not there yet",
        )
        return command

    add = kind(
        "history",
        _plot_history,
        "accuracy and loss of one or several runs",
        "Draw accuracy and loss per epoch of several runs, with one legend.",
    ).add_argument
    add("logs", metavar="LOG", nargs="+", help="CSV file that `xpnn train --log` wrote")

    add = kind(
        "activations",
        _plot_activations,
        "activation functions and their derivatives",
        "Draw activation functions and, beside them, their derivatives.",
    ).add_argument
    add("activations", metavar="NAME[:P=V,...],...", help=_names(ACTIVATIONS))
    add("--range", metavar="LOW,HIGH", default="-4,4", help="of u")

    for name, draw, summary, description in (
        (
            "confusion",
            _plot_confusion,
            "which classes a model takes for which",
            "Draw how often each class of the test data was taken for each.",
        ),
        (
            "errors",
            _plot_errors,
            "the test images that a model gets wrong",
            "Draw the test images that a model gets wrong, those first that it was surest of, "
            "with the true class, the predicted one and its probability.",
        ),
    ):
        command = kind(name, draw, summary, description)
        _add_use(command)
        if name == "errors":
            command.add_argument(
                "--count", metavar="N", type=int, default=25, help="the most images"
            )


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Write a trained model to an ONNX file. Input: x, floats of shape (batch, features). "
        "Outputs: logits and probabilities, or for a regression outputs (docs/onnx.md)."
    )
    parser.set_defaults(run=_export)
    add = parser.add_argument
    add("model", metavar="MODEL", help="a file that `xpnn train --save` wrote")
    add("out", metavar="FILE", help="such as model.onnx")
    add("--dtype", metavar="NAME", help=f"{_names(DTYPES)}; the model's own if left out")


def _export(args: argparse.Namespace) -> int:
    if Path(args.out).resolve() == Path(args.model).resolve():
        raise ArgumentError(f"FILE and MODEL must be different files, got {args.out!r}")
    onnx_export.export_onnx(checkpoints.load(args.model, dtype=args.dtype), args.out)
    return 0


def _parts() -> str:
    """Return the names of all parts with their parameters and defaults."""
    lines = []
    for registry in (ACTIVATIONS, OPTIMIZERS, LOSSES, SCHEDULES):
        listed = []
        for name in registry:
            given = registry.parameters(name).items()
            listed.append(name + ":" * bool(given) + ",".join(f"{k}={v}" for k, v in given))
        lines.append(f"{registry.kind}s with their defaults: {'  '.join(listed)}.")
    return " ".join(lines)


def _settings(args: argparse.Namespace) -> Settings:
    given = {name: getattr(args, name) for name in FIELDS}
    return Settings(**{name: value for name, value in given.items() if value is not None})


def _names(names: Iterable[str]) -> str:
    return ", ".join(names)


def _train(args: argparse.Namespace) -> int:
    place = get_backend(
        args.backend, device=args.device, dtype=args.dtype, reproducible=args.reproducible
    )
    settings = _settings(args)
    outputs = ("log", "plot", "tensorboard", "save")
    paths = {name: getattr(args, name) for name in ("data", "validation", *outputs)}
    _check_different({**paths, "checkpoint": args.checkpoint})
    _check_different({**paths, "resume": args.resume})
    if args.plot:
        plots.check(args.plot)
    if args.save:
        check_writable("save", args.save)
    callbacks: list[Callback] = _stopping(args)
    if args.log:
        callbacks.append(CSVLogger(args.log, hashes=args.hash))
    if args.tensorboard:
        callbacks.append(TensorBoard(args.tensorboard))
    if not args.quiet:
        callbacks.append(Terminal(hashes=args.hash))
    for text in args.callback:
        name, parameters = CALLBACKS.parse(text)
        callbacks.append(CALLBACKS[name](**parameters))

    train, test = _training_data(args, settings.seed)
    options = _data_options(args, train)
    if train.y.dtype.kind == "f" and args.loss is None:
        settings = settings.replaced(loss="mean_squared_error")
    if options["labels"] is None:
        model = settings.make_model(train, *([] if test is None else [test]))
    else:
        model = Sequential(*settings.layers(len(options["labels"])))
    if not args.quiet:
        print(_summary(model, train.x.shape[1]), flush=True)
    interrupted, stopped = False, None
    try:
        with _warnings_in_a_line():
            settings.fit(
                model, train, test, backend=place, callbacks=callbacks, resume=args.resume,
                **options,
            )  # fmt: skip
    except KeyboardInterrupt:
        interrupted = True
    except (ArgumentError, BrokenPipeError) as error:
        # a log that can't be written, or a reader that has gone: keep what was trained
        stopped = error
    history: History | None = model.history
    if stopped and history and history.resumed == history[-1].epoch:
        # nothing was trained yet
        raise stopped
    if args.plot and history:
        plots.plot_history(history, args.plot)
    if args.save and model.parameters is not None and history:
        checkpoints.save(model, args.save)
    if stopped:
        raise stopped
    if interrupted:
        done = f"after epoch {history[-1].epoch}" if history else "before the first epoch"
        given = [getattr(args, name) for name in outputs]
        files = ", ".join(path for path in given if path and history)
        again = f"; go on with --resume {args.checkpoint}" if _is_there(args.checkpoint) else ""
        print(f"xpnn: interrupted {done}{files and f'; kept: {files}'}{again}", file=sys.stderr)
        return INTERRUPTED
    if history and history.resumed == history[-1].epoch and not args.quiet:
        _complain(f"nothing left to do: {args.resume} holds all epochs up to {history.resumed}")
    if history and not args.quiet:
        print(_result(history))
    return 0


def _stopping(args: argparse.Namespace) -> list[Callback]:
    """Return the callbacks for early stopping and checkpoints."""
    callbacks: list[Callback] = []
    for name, needed in (("monitor", "patience"), ("every", "checkpoint")):
        if getattr(args, name) is not None and getattr(args, needed) is None:
            raise ArgumentError(f"{name} needs {needed}: give --{needed} too")
    if args.patience is not None:
        callbacks.append(EarlyStopping(args.monitor or "test_loss", patience=args.patience))
    if args.checkpoint is not None:
        every = 1 if args.every is None else args.every
        callbacks.append(Checkpoint(args.checkpoint, every=every))
    return callbacks


@contextlib.contextmanager
def _warnings_in_a_line() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("always", CheckpointWarning)
        usual = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *rest: Any) -> None:
            if issubclass(category, CheckpointWarning):
                _complain(str(message))
            else:
                usual(message, category, *rest)

        warnings.showwarning = show  # type: ignore[assignment]
        yield


def _is_there(path: str | None) -> bool:
    return path is not None and Path(path).is_file()


def _training_data(args: argparse.Namespace, seed: int) -> tuple[Dataset, Dataset | None]:
    validation: str | float | None = args.validation
    if args.validation is not None:
        with contextlib.suppress(ValueError):
            validation = float(args.validation)
    return load_training(
        args.data,
        validation,
        seed=seed,
        target=-1 if args.target is None else args.target,
        task=args.task,
        header=_header(args.header),
        ignore=_listed(args.ignore) or (),
    )


def _data_options(args: argparse.Namespace, train: Dataset) -> dict[str, Any]:
    """Return the options of `fit` that the data decide."""
    options: dict[str, Any] = {"labels": None}
    values = train.y.dtype.kind == "f"
    table = False
    if isinstance(train, NamedDataset):
        table = train.feature_names is not None
        options["labels"] = None if values else np.unique(train.y)
    by_data = {"normalize": table, "normalize_target": values}
    for argument, name in (("normalize", "normalizer"), ("normalize_target", "target_normalizer")):
        asked = getattr(args, argument) or ("standard" if by_data[argument] else "none")
        if asked not in (*NORMALIZERS, "none"):
            raise unknown(argument, asked, (*NORMALIZERS, "none"))
        options[name] = None if asked == "none" else asked
    return options


def _header(text: str | None) -> bool | None:
    if text not in (None, "yes", "no"):
        raise ArgumentError(f"header must be yes or no, got {text!r}")
    return None if text is None else text == "yes"


def _show(args: argparse.Namespace) -> int:
    model = checkpoints.load(args.model)
    about = checkpoints.describe(args.model)
    assert model.inputs is not None
    print(_summary(model, model.inputs))
    labels = model.labels
    if labels is None and model.classes is not None:
        labels = np.arange(model.classes)
    lines: list[tuple[str, object]] = [
        ("normalizer", model.normalizer),
        ("target normalizer", model.target_normalizer),
        ("classes", None if labels is None else ", ".join(map(str, labels))),
        ("features", model.feature_names and ", ".join(model.feature_names)),
        ("target", model.target_name),
        ("loss", model.loss),
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
    print(_table([(name, str(value)) for name, value in lines if value is not None]))
    return 0


def _opened(args: argparse.Namespace) -> Sequential:
    return checkpoints.load(args.model, backend=args.backend, device=args.device, dtype=args.dtype)


def _known_data(args: argparse.Namespace, model: Sequential) -> Dataset:
    """Return DATA with its targets, as a trained model knows them."""
    target = model.target_name if args.target is None else args.target
    return load(
        args.data,
        target=-1 if target is None else target,
        task="regression" if model.classes is None else "classification",
        header=_header(args.header),
        features=model.feature_names,
        part="test",
    )


def _evaluate(args: argparse.Namespace) -> int:
    model = _opened(args)
    data = _known_data(args, model)
    found = evaluate(model, data)
    values_alone = math.isnan(found.accuracy)
    if not values_alone:
        print(f"accuracy {found.accuracy!r}")
    print(f"loss {found.loss!r}")
    if values_alone:
        values = predict(model, data.x)
        print(f"r2_score {metrics.r2_score(data.y, values)!r}")
        print(f"root_mean_squared_error {metrics.root_mean_squared_error(data.y, values)!r}")
    return 0


def _predict(args: argparse.Namespace) -> int:
    if args.out:
        _check_different({"data": args.data, "model": args.model, "out": args.out})
        check_writable("out", args.out)
    model = _opened(args)
    if args.proba and model.classes is None:
        raise ArgumentError("proba is for models of classes, and this one gives values")
    data = _inputs(args, model)
    # images are files of their own
    files = None if data.feature_names or data.rows is None else data.rows
    with _written(args.out) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*([] if files is None else ["file"]), *_columns(model, args.proba)])
        for start in range(0, len(data.x), EVALUATION_ROWS):
            part = slice(start, start + EVALUATION_ROWS)
            rows = data.x[part]
            columns = [] if files is None else [files[part]]
            columns.append(predict(model, rows))
            if args.proba:
                proba = predict_proba(model, rows)
                columns.append(np.hstack([1 - proba, proba]) if proba.shape[1] == 1 else proba)
            table = [column.reshape(len(rows), -1) for column in columns]
            for cells in zip(*table, strict=True):
                # all the digits, and no more, of either dtype
                writer.writerow([str(cell) for group in cells for cell in group])
    return 0


def _inputs(args: argparse.Namespace, model: Sequential) -> NamedDataset:
    """Return the features in DATA, whether it has a target or not."""
    read = functools.partial(load, args.data, target=None, header=_header(args.header), part="test")
    if model.feature_names is not None:
        return read(features=model.feature_names)
    if not Path(args.data).is_file() or Path(args.data).suffix in (".npy", ".npz"):
        return read()
    # nothing says which columns are the features: all, or all but the target
    if args.target is None and tables.count_columns(args.data) == model.inputs:
        return read()
    return read(ignore=[-1 if args.target is None else args.target])


def _columns(model: Sequential, proba: bool) -> list[str]:
    assert model.inputs is not None
    outputs = model.outputs(model.inputs)
    if model.classes is None:
        return ["prediction"] if outputs == 1 else [f"prediction{i + 1}" for i in range(outputs)]
    labels = np.arange(model.classes) if model.labels is None else model.labels
    return ["prediction", *(f"proba_{label}" for label in labels if proba)]


@contextlib.contextmanager
def _written(path: str | None) -> Iterator[TextIO]:
    """Give a file to write to, which is there when all is written; standard output for None."""
    if path is None:
        yield sys.stdout
        return
    with replacing(path) as beside, beside.open("w", encoding="utf-8", newline="") as file:
        yield file


def _plot_history(args: argparse.Namespace) -> int:
    out = _picture(args)
    names = args.logs
    short = [Path(name).stem for name in names]
    if len(set(short)) == len(short):
        names = short
    elif len(set(names)) < len(names):
        raise ArgumentError(f"logs must be different files, got {' '.join(names)}")
    runs = {name: read_log(path) for name, path in zip(names, args.logs, strict=True)}
    plots.plot_histories(runs, out)
    return _drawn(out)


def _plot_activations(args: argparse.Namespace) -> int:
    out = _picture(args)
    try:
        low, high = map(float, args.range.split(","))
    except ValueError:
        raise ArgumentError(f"range must be two numbers such as -4,4, got {args.range!r}") from None
    plots.plot_activations(ACTIVATIONS.split(args.activations), out, low=low, high=high)
    return _drawn(out)


def _plot_confusion(args: argparse.Namespace) -> int:
    out = _picture(args)
    model = _opened(args)
    if model.classes is None:
        raise ArgumentError("model must have been trained on class labels, got one that wasn't")
    true = as_dataset("data", _known_data(args, model), model.labels)
    found = as_dataset("predictions", (true.x, predict(model, true.x)), model.labels)
    matrix = metrics.confusion_matrix(true.y, found.y, classes=model.classes)
    plots.plot_confusion(matrix, out, names=None if model.labels is None else list(model.labels))
    return _drawn(out)


def _plot_errors(args: argparse.Namespace) -> int:
    out = _picture(args)
    model = _opened(args)
    plots.plot_errors(model, _known_data(args, model), out, count=args.count)
    return _drawn(out)


def _picture(args: argparse.Namespace) -> str:
    """Return where the picture goes, once it is sure that it may."""
    out: str = args.out or f"{args.kind}.png"
    if args.out is None and Path(out).exists():
        raise ArgumentError(f"out must be given where there is a {out} already")
    plots.check(out, "out")
    if "data" in args:
        _check_different({"data": args.data, "out": out})
    return out


def _drawn(out: str) -> int:
    print(f"picture: {out}")
    return 0


def _check_different(paths: dict[str, str | None]) -> None:
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


def _table(rows: Sequence[Sequence[str]], *, numeric: Sequence[int] = ()) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(_line(row, widths, numeric) for row in rows)


def _line(row: Sequence[str], widths: Sequence[int], numeric: Sequence[int] = ()) -> str:
    return "  ".join(
        cell.rjust(width) if i in numeric else cell.ljust(width)
        for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    ).rstrip()


def _summary(model: Sequential, inputs: int) -> str:
    rows = model.summary(inputs)
    total = sum(row.parameters for row in rows)
    cells = [SummaryRow._fields, *rows, ("total", "", inputs, model.outputs(inputs), total)]
    return _table([[str(cell) for cell in row] for row in cells], numeric=(2, 3, 4))


def _result(history: History) -> str:
    lines = [f"time {history.seconds:.1f} s"]
    if history.stopped is not None:
        lines.append(f"stopped after epoch {history[-1].epoch}: {history.stopped}")
    best = history.best()
    if best is None:
        losses = [(row.test_loss, row.epoch) for row in history if not math.isnan(row.test_loss)]
        if losses:
            lines.append("best test loss {!r} at epoch {}".format(*min(losses)))
        return "\n".join(lines)
    lines.append(f"best test accuracy {best[1]!r} at epoch {best[0]}")
    for level in (95, 97, 98):
        epoch = history.first_reached(level / 100)
        when = "not reached" if epoch is None else f"first reached at epoch {epoch}"
        lines.append(f"test accuracy {level} % {when}")
    return "\n".join(lines)


def _verify(args: argparse.Namespace) -> int:
    names = _listed(args.backends)
    if args.canonical:
        changed = [
            name for name in FIELDS if getattr(args, name) != _VERIFIED.get(name, FIELDS[name])
        ]
        if args.native or args.dtype != "float32" or changed:
            raise ArgumentError("canonical runs take no options but DATA, backends and device")
        return _verify_canonical(args.data, names, args.device)
    backends = usable_backends(
        names, device=args.device, dtype=args.dtype, reproducible=not args.native
    )
    settings = _settings(args)
    if len(backends) < 2:
        raise ArgumentError(f"backends must be two or more to compare, got {backends[0].name}")
    train, test = generated() if args.data is None else read_idx_folder(args.data)
    found = verify(settings, train, test, backends)
    head = ["epoch", *found.hashes, "agree"]
    head += ["absolute", "relative"] if args.native else []
    rows = [head]
    columns = [
        [*own, *([_DIVERGED] if name in found.diverged else [])]
        for name, own in found.hashes.items()
    ]
    ends = len(set(found.diverged.values()))
    for epoch, cells in enumerate(itertools.zip_longest(*columns, fillvalue="")):
        # two that diverge in the same epoch may do so in different batches
        alike = len(set(cells)) == 1 and (_DIVERGED not in cells or ends == 1)
        rows.append([str(epoch), *(cell[:_SHOWN] for cell in cells), "yes" if alike else "no"])
        if args.native and epoch < len(found.differences):
            rows[-1] += [f"{number:.2g}" for number in found.differences[epoch]]
        elif args.native:
            rows[-1] += ["", ""]
    print(_table(rows))
    if found.parted:
        print(found.parted)
    if len(found.diverged) == len(found.hashes) and ends == 1:
        print(f"all diverge alike: {next(iter(found.diverged.values()))}")
    return 0 if found.agree else DIFFERENT


def _verify_canonical(folder: str | None, names: Sequence[str] | None, device: str | None) -> int:
    available = {"generated": generated()}
    if folder is not None:
        available["mnist"] = read_idx_folder(folder)
    backends = [backend.name for backend in usable_backends(names, device=device)]
    runs = canonical_runs()
    widths = [
        max(len(run.name) for run in runs),
        _SHOWN,
        *([len("differs at epoch 00")] * len(backends)),
    ]
    print(_line(["run", "published", *backends], widths), flush=True)
    good = True
    for run in runs:
        # row by row: five epochs of the article's networks take their time
        cells = [_canonical_cell(run, available.get(run.data), name, device) for name in backends]
        good = good and all(cell in (_EQUAL, _NO_DATA) for cell in cells)
        print(_line([run.name, run.hashes[-1][:_SHOWN], *cells], widths), flush=True)
    return 0 if good else DIFFERENT


def _canonical_cell(run: Canonical, data: Any, name: str, device: str | None) -> str:
    if data is None:
        return _NO_DATA
    ours = run_canonical(run, data, name, device=device)
    if (ours.hashes, ours.log) == (run.hashes, run.log):
        return _EQUAL
    # a run that diverged has fewer epochs
    pairs = zip(ours.hashes, ours.log, run.hashes, run.log, strict=False)
    same = itertools.takewhile(lambda pair: pair[:2] == pair[2:], pairs)
    return f"differs at epoch {sum(1 for _ in same)}"


def _study_run(args: argparse.Namespace) -> int:
    options = ("out", "data", "long", "repeats", "epochs", "backend", "device", "dtype")
    given = {name: getattr(args, name) for name in options}
    given["reproducible"] = args.reproducible or None
    given["only"] = _listed(args.only)
    given["progress"] = not args.quiet
    given["say"] = _complain
    if args.cluster is None:
        outcome = run_study(args.study, jobs=args.jobs, **given)
    else:
        if args.jobs is not None:
            raise ArgumentError("jobs must not be given with a cluster, whose workers set it")
        with cluster(args.cluster) as executor:
            outcome = run_study(args.study, executor=executor, **given)
    headline = write_report(args.out, say=_complain)
    if not args.quiet:
        print(headline)
        print(f"report: {Path(args.out) / REPORT}")
    return FAILED if outcome.failures else 0


def _complain(message: str) -> None:
    print(f"xpnn: {message}", file=sys.stderr, flush=True)


def _listed(names: str | None) -> list[str] | None:
    return None if names is None else [name.strip() for name in names.split(",")]


def _study_report(args: argparse.Namespace) -> int:
    print(write_report(args.out, say=_complain))
    return 0


def _study_list(args: argparse.Namespace) -> int:
    study: Study = load_study(args.study)
    print(f"{study.title}: {len(study.selected().runs)} runs")
    for experiment in study.experiments:
        long = ", with --long" if experiment.long else ""
        print(f"\n{experiment.name}: {experiment.title}, {len(experiment.runs)} runs{long}")
        for run in experiment.runs:
            print(f"  {run}")
    return 0


def _backends(args: argparse.Namespace) -> int:
    rows = [("backend", "version", "devices", "BLAS", "")]
    for info in backends.describe():
        version = info.version if info.installed else "not installed"
        rows.append((info.name, version, " ".join(info.devices), info.blas, info.hint))
    print(_table(rows))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the `xpnn` command and return its exit status.

    0 if all went well; 1 if `verify` found a difference, a study's run failed, or the reader of a
    pipe has gone; 2 for an error; 130 for Ctrl-C.
    """
    args = _parser().parse_args(argv)
    try:
        for path in getattr(args, "parts", ()):
            load_parts(path)
        status: int = args.run(args)
        sys.stdout.flush()
    except XpnnError as error:
        print(f"xpnn: error: {' '.join(str(error).split())}", file=sys.stderr)
        return USAGE_ERROR
    except KeyboardInterrupt:
        print("xpnn: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # the reader has gone: keep the interpreter from a second complaint at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except MemoryError as error:
        print(f"xpnn: error: out of memory: {error}", file=sys.stderr)
        return USAGE_ERROR
    except OSError as error:
        print(f"xpnn: error: {error}", file=sys.stderr)
        return USAGE_ERROR
    return status
