"""The `xpnn` command."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from xpnn import backends, checkpoints, metrics, plots
from xpnn._version import __version__
from xpnn.activations import ACTIVATIONS
from xpnn.backends import BACKENDS, DTYPES, get_backend
from xpnn.callbacks import CSVLogger, Terminal
from xpnn.datasets import read_idx_folder
from xpnn.errors import ArgumentError, XpnnError, integer
from xpnn.files import check_writable
from xpnn.layers import Activation, Dense, Layer
from xpnn.losses import LOSSES, Flooding, Loss
from xpnn.model import Sequential, SummaryRow
from xpnn.optimizers import OPTIMIZERS, Optimizer
from xpnn.training import Callback, Epoch, fit

USAGE_ERROR, INTERRUPTED = 2, 130


class _Parser(argparse.ArgumentParser):
    """A parser whose errors take one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE_ERROR, f"{self.prog}: error: {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="xpnn", description="Train small neural networks, on any array library.")
    parser.add_argument("--version", action="version", version=f"xpnn {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    train = commands.add_parser(
        "train",
        help="train a network on a data set",
        description="Train a network on a data set, and print a line an epoch: epoch, training "
        "accuracy and loss, test accuracy and loss. Epoch 0 is the untrained network.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    train.set_defaults(run=_train)
    add = train.add_argument
    add("data", metavar="DATA", help="folder with IDX files as MNIST's, gzipped or not")
    add("--hidden", metavar="N,N", default="100,50", help="widths of the hidden layers")
    add("--activation", metavar="NAME[:P=V,…]", default="relu", help=_names(ACTIVATIONS))
    add("--optimizer", metavar="NAME[:P=V,…]", default="sgd:lr=0.1", help=_names(OPTIMIZERS))
    add("--loss", metavar="NAME[:P=V,…]", default="cross_entropy", help=_names(LOSSES))
    add("--flood", metavar="B", type=float, help="flood level b: |E - b| + b for the loss E")
    add("--weight-decay", metavar="W", type=float, help="L2 weight decay")
    add("--epochs", metavar="N", type=int, default=50, help="passes over the training data")
    add("--batch-size", metavar="N", type=int, default=100, help="samples per step")
    add("--seed", metavar="N", type=int, default=10, help="of initial weights and shuffles")
    add("--backend", metavar="NAME", default="numpy", help=_names(BACKENDS))
    add("--device", metavar="NAME", help="such as cuda:0")
    add("--dtype", metavar="NAME", default="float32", help=_names(DTYPES))
    add("--log", metavar="FILE", help="write the lines to a CSV file too")
    add("--plot", metavar="FILE", help="draw accuracy and loss per epoch (needs matplotlib)")
    add("--save", metavar="FILE", help="write the trained model to a safetensors file")
    add("--quiet", action="store_true", help="print nothing but errors")

    listing = commands.add_parser(
        "backends",
        help="list the backends and what is installed of them",
        description="List each backend: version, devices, BLAS, or what to install.",
    )
    listing.set_defaults(run=_backends)
    return parser


def _names(names: Sequence[str] | object) -> str:
    return ", ".join(names)  # type: ignore[arg-type]


def _layers(hidden: str, activation: str, outputs: int) -> list[Layer]:
    name, parameters = ACTIVATIONS.parse(activation)
    layers: list[Layer] = []
    for width in hidden.split(",") if hidden else []:
        if not width.strip().isdecimal():
            raise ArgumentError(f"hidden must be whole numbers such as 100,50, got {hidden!r}")
        layers += [Dense(integer("hidden", int(width), minimum=1)), Activation(name, **parameters)]
    return [*layers, Dense(outputs)]


def _loss(text: str, flood: float | None) -> Loss:
    name, parameters = LOSSES.parse(text)
    loss = LOSSES[name](**parameters)
    return loss if flood is None else Flooding(loss, b=flood)


def _optimizer(text: str, weight_decay: float | None) -> Optimizer:
    name, parameters = OPTIMIZERS.parse(text)
    if weight_decay is not None:
        if "weight_decay" in parameters:
            raise ArgumentError("weight_decay is given twice: in --optimizer and --weight-decay")
        parameters["weight_decay"] = weight_decay
    return OPTIMIZERS[name](**parameters)


def _train(args: argparse.Namespace) -> int:
    place = get_backend(args.backend, device=args.device, dtype=args.dtype)
    loss = _loss(args.loss, args.flood)
    optimizer = _optimizer(args.optimizer, args.weight_decay)
    _layers(args.hidden, args.activation, 1)
    if args.plot:
        plots.check(args.plot)
    if args.save:
        check_writable("save", args.save)
    callbacks: list[Callback] = []
    if args.log:
        callbacks.append(CSVLogger(args.log))
    if not args.quiet:
        callbacks.append(Terminal())

    train, test = read_idx_folder(args.data)
    classes = 1 + int(max(train.y.max(initial=1), test.y.max(initial=1)))
    model = Sequential(*_layers(args.hidden, args.activation, classes))
    if not args.quiet:
        print(_summary(model, train.x.shape[1]), flush=True)
    interrupted = False
    try:
        fit(
            model,
            train,
            validation=test,
            loss=loss,
            optimizer=optimizer,
            epochs=args.epochs,
            batch_size=args.batch_size,
            seed=args.seed,
            backend=place,
            callbacks=callbacks,
        )
    except KeyboardInterrupt:
        interrupted = True
    history = model.history or ()
    if args.plot and history:
        plots.plot_history(history, args.plot)
    if args.save and model.parameters is not None:
        checkpoints.save(model, args.save)
    if interrupted:
        done = f"after epoch {history[-1].epoch}" if history else "before the first epoch"
        files = ", ".join(path for path in (args.log, args.plot, args.save) if path and history)
        print(f"xpnn: interrupted {done}{files and f'; kept: {files}'}", file=sys.stderr)
        return INTERRUPTED
    if not args.quiet:
        print(_result(history))
    return 0


def _table(rows: Sequence[Sequence[str]], *, numeric: Sequence[int] = ()) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if i in numeric else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _summary(model: Sequential, inputs: int) -> str:
    rows = model.summary(inputs)
    total = sum(row.parameters for row in rows)
    cells = [SummaryRow._fields, *rows, ("total", "", inputs, model.outputs(inputs), total)]
    return _table([[str(cell) for cell in row] for row in cells], numeric=(2, 3, 4))


def _result(history: Sequence[Epoch]) -> str:
    accuracies = [row.test_accuracy for row in history]
    lines = [f"time {math.fsum(row.seconds for row in history):.1f} s"]
    best = metrics.best(accuracies)
    if best:
        lines.append(f"best test accuracy {best[1]!r} at epoch {best[0]}")
    for level in (95, 97, 98):
        epoch = metrics.first_reached(accuracies, level / 100)
        when = "not reached" if epoch is None else f"first reached at epoch {epoch}"
        lines.append(f"test accuracy {level} % {when}")
    return "\n".join(lines)


def _backends(args: argparse.Namespace) -> int:
    rows = [("backend", "version", "devices", "BLAS", "")]
    for info in backends.describe():
        version = info.version if info.installed else "not installed"
        rows.append((info.name, version, " ".join(info.devices), info.blas, info.hint))
    print(_table(rows))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the `xpnn` command; return its exit status: 0, 2 for an error, 130 for Ctrl-C."""
    args = _parser().parse_args(argv)
    try:
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
    except OSError as error:
        print(f"xpnn: error: {error}", file=sys.stderr)
        return USAGE_ERROR
    return status
