"""`xpnn plot`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from xpnn import plots
from xpnn.activations import ACTIVATIONS
from xpnn.callbacks import read_log
from xpnn.cli.options import (
    Help,
    add_model_and_data,
    data_from,
    model_from,
    number,
)
from xpnn.errors import ArgumentError
from xpnn.inference import confusion


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("plot", help="draw runs, activations, a model's errors")
    parser.description = "Draw a picture to a PNG, PDF or SVG file (needs matplotlib)."
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")

    def kind(name: str, draw: Any, summary: str, description: str) -> argparse.ArgumentParser:
        command: argparse.ArgumentParser = kinds.add_parser(
            name, help=summary, description=description, formatter_class=Help
        )
        command.set_defaults(run=_plot, draw=draw)
        command.add_argument(
            "--out",
            metavar="FILE",
            help=f"the picture, in the format of its ending; {name}.png if left out and there is "
            "no such file",
        )
        command.add_argument("--dark", action="store_true", help="for a dark page")
        return command

    add = kind(
        "history",
        _plot_history,
        "accuracy, loss and metrics of one or several runs",
        "Draw accuracy, loss and metrics per epoch of several runs.",
    ).add_argument
    add("logs", metavar="LOG", nargs="+", help="CSV file that `xpnn train --log` wrote")

    add = kind(
        "activations",
        _plot_activations,
        "activation functions and their derivatives",
        "Draw activation functions and, beside them, their derivatives.",
    ).add_argument
    add("activations", metavar="NAME[:P=V,...],...", help=", ".join(ACTIVATIONS))
    add("--range", metavar="LOW,HIGH", default="-4,4", help="range of u")

    command = kind(
        "confusion",
        _plot_confusion,
        "which classes a model takes for which",
        "Draw how often each class of the test data was taken for each.",
    )
    add_model_and_data(command)

    command = kind(
        "errors",
        _plot_errors,
        "the test images that a model gets wrong",
        "Draw the test images that a model gets wrong, beginning with those that it was surest of, "
        "with the true class, the predicted one and its probability.",
    )
    add_model_and_data(command)
    command.add_argument(
        "--count", metavar="N", type=number(int), default=25, help="at most N images"
    )


def _plot(args: argparse.Namespace) -> int:
    """Draw a picture of the kind that was asked for, unless it can't be written."""
    out = args.out or f"{args.kind}.png"
    if args.out is None and Path(out).exists():
        raise ArgumentError(f"out must be given because {out} already exists")
    plots.check(out, "out")
    with plots.style("dark" if args.dark else "light"):
        args.draw(args, out)
    print(f"picture: {out}")
    return 0


def _plot_history(args: argparse.Namespace, out: str) -> None:
    names = args.logs
    short = [Path(name).stem for name in names]
    if len(set(short)) == len(short):
        names = short
    elif len(set(names)) < len(names):
        raise ArgumentError(f"logs must be different files, got {' '.join(names)}")
    runs = {name: read_log(path) for name, path in zip(names, args.logs, strict=True)}
    plots.plot_histories(runs, out)


def _plot_activations(args: argparse.Namespace, out: str) -> None:
    try:
        low, high = map(float, args.range.split(","))
    except ValueError:
        raise ArgumentError(f"range must be two numbers such as -4,4, got {args.range!r}") from None
    plots.plot_activations(ACTIVATIONS.split(args.activations), out, low=low, high=high)


def _plot_confusion(args: argparse.Namespace, out: str) -> None:
    model = model_from(args)
    matrix = confusion(model, data_from(args, model))
    labels = model.task.labels
    plots.plot_confusion(matrix, out, names=None if labels is None else list(labels))


def _plot_errors(args: argparse.Namespace, out: str) -> None:
    model = model_from(args)
    plots.plot_errors(model, data_from(args, model), out, count=args.count)
