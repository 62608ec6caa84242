"""`xpnn train`."""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from xpnn import plots, saving
from xpnn._core.files import check_writable
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
)
from xpnn.cli.options import (
    DATA,
    INTERRUPTED,
    Help,
    add_settings,
    add_table,
    check_different,
    complain,
    header_of,
    listed,
    names_of,
    settings_of,
    summary,
)
from xpnn.datasets import (
    Dataset,
    NamedDataset,
    load_training,
)
from xpnn.datasets.labels import TASKS
from xpnn.errors import ArgumentError, CheckpointWarning, DivergenceError, unknown
from xpnn.losses import LOSSES
from xpnn.model import Sequential
from xpnn.normalizers import NORMALIZERS
from xpnn.optimizers import OPTIMIZERS
from xpnn.schedules import SCHEDULES
from xpnn.training.callback import Callback
from xpnn.training.history import History
from xpnn.training.run import Run


def add(commands: Any) -> None:
    """Add the command."""
    train = commands.add_parser(
        "train",
        help="train a network on a data set",
        description="Train a network on a data set, and print a line an epoch: epoch, training "
        "accuracy and loss, test accuracy and loss. Epoch 0 is the untrained network.",
        epilog=_parts(),
        formatter_class=Help,
    )
    train.set_defaults(run=_train)
    add = train.add_argument
    add("data", metavar="DATA", help=DATA)
    add_table(train)
    add("--task", metavar="NAME", help=f"{names_of(TASKS)}; by the target if left out")
    add("--ignore", metavar="NAME,...", help="columns that are not features")
    add(
        "--weights",
        metavar="NAME",
        help="column of a CSV file, or array of an NPZ file, that says what each row counts in "
        "training: numbers >= 0, scaled to a mean of 1; in validation all rows count alike",
    )
    add(
        "--validation",
        metavar="P|DATA",
        help="what to test on after each epoch: a share of DATA "
        "such as 0.2, of each class alike, or other data",
    )
    add(
        "--normalize",
        metavar="NAME",
        help=f"the features: {names_of(NORMALIZERS)}, none; fitted to "
        "the training part, and kept in the model; if left out, standard for a CSV file, else none",
    )
    add(
        "--normalize-target",
        metavar="NAME",
        help="the values of a regression, likewise; standard if left out",
    )
    add_settings(train, loss=None)
    add("--backend", metavar="NAME", default="numpy", help=names_of(BACKENDS))
    add("--device", metavar="NAME", help="such as cuda:0")
    add("--dtype", metavar="NAME", default="float32", help=names_of(DTYPES))
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
    which = f"{names_of(MONITORS)}; test_loss if left out"
    add("--monitor", metavar="COLUMN", help=f"what shall improve: {which}")
    add("--min-delta", metavar="D", type=float, help="what counts as improvement is more than this")
    add(
        "--no-restore-best",
        action="store_true",
        default=None,
        help="keep the last weights after --patience, not those of the best epoch",
    )
    add("--checkpoint", metavar="FILE", help="write all that a run needs to go on")
    add("--every", metavar="N", type=int, help="epochs between two checkpoints; 1 if left out")
    add("--resume", metavar="FILE", help="go on from a checkpoint, as if never stopped")
    add("--quiet", action="store_true", help="print nothing but errors")


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


class _Summary(Callback):
    """Prints the layers, and the card if there is one, once it is sure that the run begins."""

    def on_start(self, run: Run) -> None:
        assert run.model.inputs is not None
        print(summary(run.model, run.model.inputs), flush=True)
        card = run.settings.get("card")
        if card is not None:
            print(f"on {card}", flush=True)


def _train(args: argparse.Namespace) -> int:
    place = get_backend(
        args.backend, device=args.device, dtype=args.dtype, reproducible=args.reproducible
    )
    settings = settings_of(args)
    outputs = ("log", "plot", "tensorboard", "save")
    paths = {name: getattr(args, name) for name in ("data", "validation", *outputs)}
    check_different({**paths, "checkpoint": args.checkpoint})
    check_different({**paths, "resume": args.resume})
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
        callbacks += [_Summary(), Terminal(hashes=args.hash)]
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
    interrupted = False
    stopped: BaseException | None = None
    try:
        with _warnings_in_a_line():
            settings.fit(
                model, train, test, backend=place, callbacks=callbacks, resume=args.resume,
                **options,
            )  # fmt: skip
    except KeyboardInterrupt:
        interrupted = True
    except (Exception, SystemExit) as error:
        # a log that can't be written, a reader that has gone, a part of the user's that raises:
        # keep what was trained
        stopped = error
    history: History | None = model.history
    if stopped and history and history[-1].epoch == (history.resumed or 0):
        # nothing was trained yet
        raise stopped
    if args.plot and history:
        plots.plot_history(history, args.plot)
    # weights that diverged are of no use, but the best ones, which early stopping gave back, are
    best = any(isinstance(c, EarlyStopping) and c.restore_best and c.best for c in callbacks)
    usable = best or not isinstance(stopped, DivergenceError)
    if args.save and usable and model.parameters is not None and history:
        saving.save(model, args.save)
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
        complain(f"nothing left to do: {args.resume} holds all epochs up to {history.resumed}")
    if history and not args.quiet:
        print(_result(history))
    return 0


def _stopping(args: argparse.Namespace) -> list[Callback]:
    """Return the callbacks for early stopping and checkpoints."""
    callbacks: list[Callback] = []
    for name, needed in (
        ("monitor", "patience"),
        ("min_delta", "patience"),
        ("no_restore_best", "patience"),
        ("every", "checkpoint"),
    ):
        if getattr(args, name) is not None and getattr(args, needed) is None:
            raise ArgumentError(f"{name} needs {needed}: give --{needed} too")
    if args.patience is not None:
        delta = 0.0 if args.min_delta is None else args.min_delta
        callbacks.append(
            EarlyStopping(
                args.monitor or "test_loss",
                patience=args.patience,
                min_delta=delta,
                restore_best=not args.no_restore_best,
            )
        )
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
                complain(str(message))
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
        header=header_of(args.header),
        ignore=listed(args.ignore) or (),
        weights=args.weights,
    )


def _data_options(args: argparse.Namespace, train: Dataset) -> dict[str, Any]:
    """Return the options of `fit` that the data decide."""
    options: dict[str, Any] = {"labels": None}
    values = train.y.dtype.kind == "f"
    table = False
    if isinstance(train, NamedDataset):
        table = train.feature_names is not None
        # those of IDX files are the outputs' numbers
        numbers = train.image_shape is not None and train.y.dtype.kind == "i"
        options["labels"] = None if values or numbers else np.unique(train.y)
        options["sample_weight"] = train.weights
    by_data = {"normalize": table, "normalize_target": values}
    for argument, name in (("normalize", "normalizer"), ("normalize_target", "target_normalizer")):
        asked = getattr(args, argument) or ("standard" if by_data[argument] else "none")
        if asked not in (*NORMALIZERS, "none"):
            raise unknown(argument, asked, (*NORMALIZERS, "none"))
        options[name] = None if asked == "none" else asked
    return options


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
