"""`xpnn train`."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from xpnn import metrics, plots, saving
from xpnn._core.interrupts import held
from xpnn.activations import ACTIVATIONS
from xpnn.callbacks import (
    CALLBACKS,
    MONITORS,
    Checkpoint,
    CSVLogger,
    EarlyStopping,
    TensorBoard,
    Terminal,
)
from xpnn.cli.files import Kept
from xpnn.cli.options import (
    DATA,
    METRICS_HELP,
    Help,
    add_backend,
    add_settings,
    add_source,
    backend_from,
    number,
    settings_from,
    source_from,
)
from xpnn.cli.output import INTERRUPTED, USAGE_ERROR, complain
from xpnn.errors import ArgumentError, DivergenceError
from xpnn.losses import LOSSES
from xpnn.metrics import METRICS, is_minimized
from xpnn.model import Sequential
from xpnn.optimizers import OPTIMIZERS
from xpnn.schedules import SCHEDULES
from xpnn.settings import PART, Settings
from xpnn.source import Source
from xpnn.training.callback import Callback
from xpnn.training.defaults import OTHERS, TABLE
from xpnn.training.history import History
from xpnn.training.run import Run
from xpnn.training.understood import Understood


def add(commands: Any) -> None:
    """Add the command."""
    train = commands.add_parser(
        "train",
        help="train a network on a data set",
        description="Train a network on a data set, and print a line per epoch: epoch, training "
        "accuracy and loss, test accuracy and loss, and the metrics that were asked for. Epoch 0 "
        "is the untrained network.",
        epilog=_parts(),
        formatter_class=Help,
    )
    train.set_defaults(run=_train)
    add, whole = train.add_argument, number(int)
    add("data", metavar="DATA", help=DATA)
    add_source(train)
    add_settings(train, tables=True, loss=None)
    add_backend(train, dtype="float32")
    add("--metrics", metavar="NAME,...", help=METRICS_HELP)
    add(
        "--digits",
        metavar="N|all",
        default="4",
        help="digits of the numbers that are printed; all for lines without a header, as a program "
        "reads them; a log has all digits anyway",
    )
    add("--hash", action="store_true", help="end each line with the SHA-256 of the parameters")
    add("--log", metavar="FILE", help="write the lines to a CSV file too")
    add(
        "--callback",
        metavar=PART,
        action="append",
        default=[],
        help="a callback of your own, from a file of --parts; may be repeated",
    )
    add("--plot", metavar="FILE", help="draw the figures per epoch (needs matplotlib)")
    add("--tensorboard", metavar="FOLDER", help="write event files (needs tensorboardX)")
    add("--save", metavar="FILE", help="write the trained model to a safetensors file")
    add(
        "--patience",
        metavar="N",
        type=whole,
        help="stop after N epochs without improvement; if neither this nor --epochs is given, a "
        f"table with --validation has {TABLE.patience}",
    )
    which = f"{', '.join(MONITORS)}, or one of --metrics such as test_f1; test_loss if left out"
    add("--monitor", metavar="COLUMN", help=f"the figure that must improve: {which}")
    add("--min-delta", metavar="D", type=number(float), help="improve by more than D")
    add(
        "--no-restore-best",
        action="store_true",
        default=None,
        help="after --patience, keep the last parameters, not those of the best epoch",
    )
    add("--checkpoint", metavar="FILE", help="write all that is needed to resume the run")
    add("--every", metavar="N", type=whole, help="epochs between checkpoints; 1 if left out")
    add("--resume", metavar="FILE", help="continue from a checkpoint, as if never stopped")
    add(
        "--from",
        dest="base",
        metavar="MODEL",
        help="go on from the parameters of a trained model, with its layers, classes and "
        "normalizers, on other data or in another way: a file that xpnn train --save wrote",
    )
    add("--quiet", action="store_true", help="print nothing but errors")


def _parts() -> str:
    """Return the names of all parts with their parameters and defaults."""
    lines = []
    for registry in (ACTIVATIONS, OPTIMIZERS, LOSSES, SCHEDULES, METRICS):
        listed = []
        for name in registry:
            given = registry.parameters(name).items()
            listed.append(name + ":" * bool(given) + ",".join(f"{k}={v}" for k, v in given))
        lines.append(f"{registry.plural} with their defaults: {'  '.join(listed)}.")
    return " ".join(lines)


class _Summary(Callback):
    """Prints the layers, and the GPU if there is one, when all checks are done and a run begins."""

    def on_start(self, run: Run) -> None:
        print(run.model.summary(), flush=True)
        card = run.settings.get("card")
        if card is not None:
            print(f"on {card}", flush=True)


def _train(args: argparse.Namespace) -> int:
    backend = backend_from(args)
    settings, source = settings_from(args), source_from(args)
    if args.plot is not None:
        plots.check(args.plot)
    usual = TABLE if source.is_table else OTHERS
    by_default = usual.waits(epochs=args.epochs, validation=source.validation)
    callbacks = _callbacks(args, by_default if args.patience is None else args.patience)
    base, features = _base(args, settings), None
    if base is not None:
        source, features = _like(base, source), base.task.feature_names
    elif source.task is None and settings.make_loss().of_values:
        source = dataclasses.replace(source, task="regression")
    train, validation = source.divided(
        *source.read(features), settings.seed, remembered=args.save is not None
    )
    if source.is_table:
        settings = settings_from(args, table=True)
    settings, options = source.options(settings, train)
    if base is None:
        model = settings.make_model(train, validation, options["labels"])
    else:
        model = base
        # labels and normalizers are the model's, and so is the loss unless another one is given
        options = {"sample_weight": options["sample_weight"]}
        if args.loss is None:
            options["loss"] = settings.make_loss(base.task.loss)
    ended: BaseException | None = None
    kept = Kept()
    # from the end of the training on, a Ctrl-C waits until all is written
    with held() as interrupts:
        try:
            with interrupts.raised():
                settings.fit(
                    model, train, validation, backend=backend, callbacks=callbacks,
                    resume=args.resume, metrics=args.metrics, **options,
                )  # fmt: skip
        except (Exception, KeyboardInterrupt, SystemExit) as error:
            # what was trained is kept even after Ctrl-C, or if a log can't be written, the reader
            # of the output has gone away, or one of the user's parts raises
            ended = error
        history: History | None = model.history
        if history and (_has_trained(history) or not isinstance(ended, Exception | SystemExit)):
            try:
                _keep(args, model, history, callbacks, ended, kept)
            except KeyboardInterrupt as error:
                ended = ended or error
        interrupted = isinstance(ended, KeyboardInterrupt) or interrupts.pending
        interrupts.pending = False
    if interrupted:
        complain(_interrupted(args, history, kept))
        return INTERRUPTED
    if ended:
        for other in getattr(ended, "others", ()):
            complain(f"error: {other}")
        raise ended
    if kept.failed:
        return USAGE_ERROR
    if history and not args.quiet:
        if not _has_trained(history) and history.resumed is not None:
            complain(f"nothing left to do: {args.resume} holds all epochs up to {history.resumed}")
        print(_result(history, _digits(args.digits)))
    return 0


def _has_trained(history: History | None) -> bool:
    """Return whether a run has finished an epoch since it was started or resumed."""
    return bool(history and history[-1].epoch > (history.resumed or 0))


def _callbacks(args: argparse.Namespace, patience: int | None) -> list[Callback]:
    """Return the callbacks that the options ask for."""
    needs = {"patience": patience, "checkpoint": args.checkpoint}
    for name, needed in (
        ("monitor", "patience"),
        ("min_delta", "patience"),
        ("no_restore_best", "patience"),
        ("every", "checkpoint"),
    ):
        if getattr(args, name) is not None and needs[needed] is None:
            raise ArgumentError(f"{name} needs {needed}: give --{needed} too")
    callbacks: list[Callback] = []
    if patience is not None:
        callbacks.append(
            EarlyStopping(
                "test_loss" if args.monitor is None else args.monitor,
                patience=patience,
                min_delta=0.0 if args.min_delta is None else args.min_delta,
                restore_best=not args.no_restore_best,
            )
        )
    if args.checkpoint is not None:
        every = 1 if args.every is None else args.every
        callbacks.append(Checkpoint(args.checkpoint, every=every))
    if args.log is not None:
        callbacks.append(CSVLogger(args.log, hashes=args.hash))
    if args.tensorboard is not None:
        callbacks.append(TensorBoard(args.tensorboard))
    if not args.quiet:
        callbacks += [
            Understood(),
            _Summary(),
            Terminal(hashes=args.hash, digits=_digits(args.digits)),
        ]
    return callbacks + [CALLBACKS.make(text) for text in args.callback]


def _digits(text: str) -> int | str:
    # Python reads no number of thousands of digits
    return int(text) if text.isdecimal() and len(text) < 100 else text


def _keep(
    args: argparse.Namespace,
    model: Sequential,
    history: History,
    callbacks: list[Callback],
    ended: BaseException | None,
    kept: Kept,
) -> None:
    """Write the model and the picture of a run, even if an error ended it.

    First comes the model: a picture can be drawn again from the log.
    """
    kept.paths += [path for path in (args.log, args.tensorboard) if path is not None]
    # after a divergence, a model is useful only if early stopping restored the best parameters
    best = any(isinstance(c, EarlyStopping) and c.restore_best and c.best for c in callbacks)
    usable = best or not isinstance(ended, DivergenceError)
    if args.save is not None and usable:
        kept.write("model", args.save, lambda path: saving.save(model, path), elsewhere=True)
    if args.plot is not None:
        kept.write("plot", args.plot, lambda path: plots.plot_history(history, path))


def _interrupted(args: argparse.Namespace, history: History | None, kept: Kept) -> str:
    """Return the message after Ctrl-C."""
    if not history:
        said = "interrupted before the first epoch"
    else:
        said = f"interrupted after epoch {history[-1].epoch}"
        said += f"; kept: {', '.join(kept.paths)}" if kept.paths else ""
    there = args.checkpoint is not None and Path(args.checkpoint).is_file()
    return f"{said}; continue with --resume {args.checkpoint}" if there else said


def _base(args: argparse.Namespace, settings: Settings) -> Sequential | None:
    """Return the model to go on from, None if there is none."""
    if args.base is None:
        return None
    changed = settings.changed()
    given: list[str] = [
        name
        for name in ("hidden", "activation", "init", "batch_norm", "dropout")
        if name in changed
    ]
    given += [name for name in ("normalize", "normalize_target") if getattr(args, name) is not None]
    if given:
        raise ArgumentError(
            f"{given[0]} must be left out with --from: layers and normalizers are the model's"
        )
    model = saving.load(args.base)
    # of another run
    model.history = None
    return model


def _like(base: Sequential, source: Source) -> Source:
    """Return a source that is read as the data of a trained model were."""
    task = "regression" if base.task.classes is None else "classification"
    own = base.task.target_name if source.is_table else None
    target = own if source.target is None else source.target
    return dataclasses.replace(source, target=target, task=source.task or task)


def _result(history: History, digits: int | str) -> str:
    def shown(value: float) -> str:
        return repr(value) if digits == "all" else f"{value:.{digits}g}"

    lines = [f"time {history.seconds:.1f} s"]
    if history.stopped is not None:
        lines.append(f"stopped after epoch {history[-1].epoch}: {history.stopped}")
    best = history.best()
    figures = ["test_loss" if best is None else "test_accuracy"]
    figures += [name for name in history[0].metrics if name.startswith("test_")]
    for name in figures:
        sign = -1.0 if is_minimized(name) else 1.0
        found = metrics.best([sign * value for value in history.column(name)])
        if found is not None:
            value = history.column(name)[found[0]]
            text = name.replace("_", " ", 1)
            lines.append(f"best {text} {shown(value)} at epoch {history[found[0]].epoch}")
    if best is None:
        return "\n".join(lines)
    for level in (95, 97, 98):
        epoch = history.first_reached(level / 100)
        when = "not reached" if epoch is None else f"first reached at epoch {epoch}"
        # a program finds the same lines in each run; a person reads what happened
        if epoch is not None or digits == "all":
            lines.append(f"test accuracy {level} % {when}")
    return "\n".join(lines)
