"""The `xpnn` command."""

from __future__ import annotations

import argparse
import itertools
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from xpnn import backends, checkpoints, onnx_export, plots
from xpnn._version import __version__
from xpnn.activations import ACTIVATIONS
from xpnn.backends import BACKENDS, DTYPES, get_backend
from xpnn.callbacks import CALLBACKS, CSVLogger, Terminal
from xpnn.datasets import read_idx_folder
from xpnn.errors import ArgumentError, XpnnError
from xpnn.files import check_writable
from xpnn.losses import LOSSES
from xpnn.model import Sequential, SummaryRow
from xpnn.optimizers import OPTIMIZERS
from xpnn.registry import load_parts
from xpnn.settings import FIELDS, Settings
from xpnn.study import REPORT, Study, cluster, load_study, write_report
from xpnn.study import run as run_study
from xpnn.training import Callback, History
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

# digits of a hash that a table shows, and what it shows instead
_SHOWN = 16
_DIVERGED, _EQUAL, _NO_DATA = "diverged", "equal", "needs MNIST"


class _Parser(argparse.ArgumentParser):
    """A parser whose errors take one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE_ERROR, f"{self.prog}: error: {message}\n")


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
    add("data", metavar="DATA", help="folder with IDX files as MNIST's, gzipped or not")
    _add_settings(train)
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
    add("--save", metavar="FILE", help="write the trained model to a safetensors file")
    add("--quiet", action="store_true", help="print nothing but errors")

    compare = commands.add_parser(
        "verify",
        help="compare the backends bit for bit",
        description="Train on each backend and compare the weights after each epoch. Exit status "
        "0 if all agree; 1 if not, with the first operation that differs.",
        formatter_class=_Help,
    )
    compare.set_defaults(run=_verify)
    add = compare.add_argument
    add("data", metavar="DATA", nargs="?", help="as for train; a small generated set if left out")
    add("--backends", metavar="NAME,...", help="the ones to compare; all usable ones if left out")
    add("--device", metavar="NAME", help="of every backend, such as cuda:0")
    add("--dtype", metavar="NAME", default="float32", help=_names(DTYPES))
    add("--native", action="store_true", help="compare native runs, and show how far they part")
    add("--canonical", action="store_true", help="hold standard runs to the published hashes")
    _add_settings(compare, **_VERIFIED)

    _add_study(commands.add_parser("study", help="run a grid of runs, and report on it"))

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


def _add_settings(parser: argparse.ArgumentParser, **defaults: Any) -> None:
    parser.set_defaults(**{**FIELDS, **defaults})
    add = parser.add_argument
    part = "NAME[:P=V,...]"
    add("--hidden", metavar="N,N", help="widths of the hidden layers")
    add("--activation", metavar=part, help=_names(ACTIVATIONS))
    add("--optimizer", metavar=part, help=_names(OPTIMIZERS))
    add("--loss", metavar=part, help=_names(LOSSES))
    add("--flood", metavar="B", type=float, help="flood level b: |E - b| + b for the loss E")
    add("--weight-decay", metavar="W", type=float, help="L2 weight decay")
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
    for registry in (ACTIVATIONS, OPTIMIZERS, LOSSES):
        listed = []
        for name in registry:
            given = registry.parameters(name).items()
            listed.append(name + ":" * bool(given) + ",".join(f"{k}={v}" for k, v in given))
        lines.append(f"{registry.kind}s with their defaults: {'  '.join(listed)}.")
    return " ".join(lines)


def _settings(args: argparse.Namespace) -> Settings:
    return Settings(**{name: getattr(args, name) for name in FIELDS})


def _names(names: Iterable[str]) -> str:
    return ", ".join(names)


def _train(args: argparse.Namespace) -> int:
    place = get_backend(
        args.backend, device=args.device, dtype=args.dtype, reproducible=args.reproducible
    )
    settings = _settings(args)
    _check_different({name: getattr(args, name) for name in ("data", "log", "plot", "save")})
    if args.plot:
        plots.check(args.plot)
    if args.save:
        check_writable("save", args.save)
    callbacks: list[Callback] = []
    if args.log:
        callbacks.append(CSVLogger(args.log, hashes=args.hash))
    if not args.quiet:
        callbacks.append(Terminal(hashes=args.hash))
    for text in args.callback:
        name, parameters = CALLBACKS.parse(text)
        callbacks.append(CALLBACKS[name](**parameters))

    train, test = read_idx_folder(args.data)
    model = settings.make_model(train, test)
    if not args.quiet:
        print(_summary(model, train.x.shape[1]), flush=True)
    interrupted, stopped = False, None
    try:
        settings.fit(model, train, test, backend=place, callbacks=callbacks)
    except KeyboardInterrupt:
        interrupted = True
    except (ArgumentError, BrokenPipeError) as error:
        # a log that can't be written, or a reader that has gone: keep what was trained
        stopped = error
    history: History | None = model.history
    if args.plot and history:
        plots.plot_history(history, args.plot)
    if args.save and model.parameters is not None and history:
        checkpoints.save(model, args.save)
    if stopped:
        raise stopped
    if interrupted:
        done = f"after epoch {history[-1].epoch}" if history else "before the first epoch"
        files = ", ".join(path for path in (args.log, args.plot, args.save) if path and history)
        print(f"xpnn: interrupted {done}{files and f'; kept: {files}'}", file=sys.stderr)
        return INTERRUPTED
    if history and not args.quiet:
        print(_result(history))
    return 0


def _check_different(paths: dict[str, str | None]) -> None:
    """Raise where an output would overwrite another one, or the data."""
    given = {name: Path(path).resolve() for name, path in paths.items() if path}
    data = given.pop("data")
    for name, path in given.items():
        if path.parent == data:
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
    best = history.best()
    if best:
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
