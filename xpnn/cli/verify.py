"""`xpnn verify`."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from xpnn import saving
from xpnn._core.tables import line, table
from xpnn.backends import DTYPES, Backend
from xpnn.cli.options import (
    DATA,
    MODEL,
    Help,
    add_held_out,
    add_settings,
    add_source,
    inputs_from,
    listed,
    settings_from,
    source_from,
)
from xpnn.cli.output import DIFFERENT
from xpnn.datasets import Dataset, read_idx_folder
from xpnn.datasets.checks import check_images
from xpnn.errors import ArgumentError
from xpnn.settings import FIELDS
from xpnn.source import Source
from xpnn.verification import (
    Canonical,
    Difference,
    canonical_runs,
    generated,
    run_canonical,
    usable_backends,
    verify,
    verify_model,
)

# the defaults that differ from those of `train`
_VERIFIED: dict[str, Any] = {"epochs": 3}

# the options for reading DATA
_READING = [field.name for field in dataclasses.fields(Source) if field.name != "data"]

# those of them that a trained model leaves open
_COLUMNS = ("target", "header", "ignore")

# the digits of a hash that a table shows, and what it shows instead of a hash
_SHOWN = 16
_DIVERGED, _EQUAL, _NO_DATA = "diverged", "equal", "needs MNIST"


def add(commands: Any) -> None:
    """Add the command."""
    compare = commands.add_parser(
        "verify",
        help="compare the backends bit for bit",
        description="Train on each backend and compare the parameters after each epoch; or, given "
        "a trained model, compare its outputs layer by layer. Exit status 0 if all agree; 1 if "
        "not, with the first operation, or the first row and layer, that differs.",
        formatter_class=Help,
    )
    compare.set_defaults(run=_verify)
    add = compare.add_argument
    add("model", metavar="MODEL", nargs="?", help=f"{MODEL}; DATA then needn't have targets")
    add(
        "data",
        metavar="DATA",
        nargs="?",
        help=f"{DATA}; may be the only argument; if left out, a small set is generated",
    )
    add("--backends", metavar="NAME,...", help="backends to compare; all usable ones if left out")
    add("--device", metavar="NAME", help="device of every backend, such as cuda:0")
    add("--dtype", metavar="NAME", help=f"{', '.join(DTYPES)}; the model's or float32 if left out")
    add("--native", action="store_true", help="compare native runs, and show how they diverge")
    add("--canonical", action="store_true", help="compare standard runs with published hashes")
    add_held_out(compare)
    add_source(compare)
    add_settings(compare, tables=True, **_VERIFIED)


def _verify(args: argparse.Namespace) -> int:
    if args.data is None:
        args.model, args.data = None, args.model
    names = listed(args.backends)
    asked = {name: getattr(args, name) for name in FIELDS}
    usual = {**FIELDS, **_VERIFIED}
    changed = [name for name, value in asked.items() if value not in (None, usual[name])]
    reading = [name for name in _READING if getattr(args, name) is not None]
    if args.canonical:
        others = [*changed, *reading, args.native, args.held_out]
        if any(others) or args.dtype is not None or args.model is not None:
            raise ArgumentError("canonical runs take no options but DATA, backends and device")
        return _verify_canonical(args.data, names, args.device)
    if args.model is not None:
        wrong = [*changed, *(name for name in reading if name not in _COLUMNS)]
        if wrong:
            raise ArgumentError(f"{wrong[0]} is for training, and a model is trained already")
        return _verify_model(args, names)
    if args.held_out:
        raise ArgumentError("held_out needs MODEL and DATA: xpnn verify MODEL DATA --held-out")
    if args.data is None and reading:
        raise ArgumentError(f"{reading[0]} needs DATA, got none")
    if args.data is not None and Path(args.data).suffix == ".safetensors":
        raise ArgumentError("MODEL needs DATA: xpnn verify MODEL DATA")
    settings = settings_from(args)
    backends = _backends(args, names, args.dtype or "float32")
    test: Dataset | None
    options: dict[str, Any] = {}
    if args.data is None:
        train, test = generated()
    else:
        source = source_from(args)
        settings = settings_from(args, table=source.is_table)
        train, test = source.divided(*source.read(), settings.seed)
        settings, options = source.options(settings, train)
    _print_cards(backends)
    found = verify(settings, train, test, backends, **options)
    columns = [
        [*own, *([_DIVERGED] if name in found.diverged else [])]
        for name, own in found.hashes.items()
    ]
    ends = len(set(found.diverged.values()))
    rows = []
    for epoch, cells in enumerate(itertools.zip_longest(*columns, fillvalue="")):
        # two that diverge in the same epoch may have done so in different mini-batches
        alike = len(set(cells)) == 1 and (_DIVERGED not in cells or ends == 1)
        reached = epoch < len(found.differences)
        rows.append((str(epoch), cells, alike, found.differences[epoch] if reached else None))
    _print_rows("epoch", found.hashes, rows, args.native)
    if found.parted:
        print(found.parted)
    if len(found.diverged) == len(found.hashes) and ends == 1:
        print(f"all diverge alike: {next(iter(found.diverged.values()))}")
    return 0 if found.agree else DIFFERENT


def _verify_model(args: argparse.Namespace, names: Sequence[str] | None) -> int:
    model = saving.load(args.model)
    backends = _backends(args, names, args.dtype or model.placed()[0].dtype_name)
    data = inputs_from(args, model)
    check_images(data, model.task.image_shape)
    _print_cards(backends)
    found = verify_model(model, data, backends)
    rows = []
    for stage in found.stages:
        cells = tuple(stage.hashes.values())
        rows.append((stage.name, cells, len(set(cells)) == 1, stage.difference))
    _print_rows("layer", found.stages[0].hashes, rows, args.native)
    if found.parted:
        print(found.parted)
    return 0 if found.agree else DIFFERENT


def _backends(
    args: argparse.Namespace, names: Sequence[str] | None, dtype: str
) -> Sequence[Backend]:
    backends = usable_backends(names, device=args.device, dtype=dtype, reproducible=not args.native)
    if len(backends) < 2:
        raise ArgumentError(f"backends must be two or more to compare, got {backends[0].name}")
    return backends


def _print_rows(
    head: str,
    backends: Iterable[str],
    rows: Iterable[tuple[str, Sequence[str], bool, Difference | None]],
    native: bool,
) -> None:
    """Print a row for each epoch or layer: hashes, whether they agree, and how far they differ."""
    cells = [[head, *backends, "agree", *(Difference._fields if native else ())]]
    for name, hashes, alike, apart in rows:
        numbers = ["", ""] if apart is None else [f"{number:.2g}" for number in apart]
        shown = [each[:_SHOWN] for each in hashes]
        cells.append([name, *shown, "yes" if alike else "no", *(numbers if native else ())])
    print(table(cells))


def _verify_canonical(folder: str | None, names: Sequence[str] | None, device: str | None) -> int:
    available = {"generated": generated()}
    if folder is not None:
        available["mnist"] = read_idx_folder(folder)
    usable = usable_backends(names, device=device)
    _print_cards(usable)
    backends = [backend.name for backend in usable]
    runs = canonical_runs()
    widths = [
        max(len(run.name) for run in runs),
        _SHOWN,
        *([len("differs at epoch 00")] * len(backends)),
    ]
    print(line(["run", "published", *backends], widths), flush=True)
    good = True
    for run in runs:
        # printed row by row, because five epochs of the article's networks take long
        cells = [_canonical_cell(run, available.get(run.data), name, device) for name in backends]
        good = good and all(cell in (_EQUAL, _NO_DATA) for cell in cells)
        print(line([run.name, run.hashes[-1][:_SHOWN], *cells], widths), flush=True)
    return 0 if good else DIFFERENT


def _print_cards(backends: Sequence[Backend]) -> None:
    for backend in backends:
        if backend.card is not None:
            print(f"{backend.name} on {backend.card}", flush=True)


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
