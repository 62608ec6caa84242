"""`xpnn verify`."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from typing import Any

from xpnn._core.tables import line, table
from xpnn.backends import DTYPES, Backend
from xpnn.cli.options import Help, add_settings, listed, settings_from
from xpnn.cli.output import DIFFERENT
from xpnn.datasets import read_idx_folder
from xpnn.errors import ArgumentError
from xpnn.settings import FIELDS
from xpnn.verification import (
    Canonical,
    canonical_runs,
    generated,
    run_canonical,
    usable_backends,
    verify,
)

# the defaults that differ from those of `train`
_VERIFIED: dict[str, Any] = {"epochs": 3}

# the digits of a hash that a table shows, and what it shows instead of a hash
_SHOWN = 16
_DIVERGED, _EQUAL, _NO_DATA = "diverged", "equal", "needs MNIST"


def add(commands: Any) -> None:
    """Add the command."""
    compare = commands.add_parser(
        "verify",
        help="compare the backends bit for bit",
        description="Train on each backend and compare the parameters after each epoch. Exit "
        "status 0 if all agree; 1 if not, with the first operation that differs.",
        formatter_class=Help,
    )
    compare.set_defaults(run=_verify)
    add = compare.add_argument
    add(
        "data",
        metavar="DATA",
        nargs="?",
        help="folder with IDX files like MNIST's, gzipped or not; if left out, a small set is "
        "generated",
    )
    add("--backends", metavar="NAME,...", help="backends to compare; all usable ones if left out")
    add("--device", metavar="NAME", help="device of every backend, such as cuda:0")
    add("--dtype", metavar="NAME", default="float32", help=", ".join(DTYPES))
    add("--native", action="store_true", help="compare native runs, and show how they diverge")
    add("--canonical", action="store_true", help="compare standard runs with published hashes")
    add_settings(compare, **_VERIFIED)


def _verify(args: argparse.Namespace) -> int:
    names = listed(args.backends)
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
    settings = settings_from(args)
    if len(backends) < 2:
        raise ArgumentError(f"backends must be two or more to compare, got {backends[0].name}")
    train, test = generated() if args.data is None else read_idx_folder(args.data)
    _print_cards(backends)
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
        # two that diverge in the same epoch may have done so in different mini-batches
        alike = len(set(cells)) == 1 and (_DIVERGED not in cells or ends == 1)
        rows.append([str(epoch), *(cell[:_SHOWN] for cell in cells), "yes" if alike else "no"])
        if args.native and epoch < len(found.differences):
            rows[-1] += [f"{number:.2g}" for number in found.differences[epoch]]
        elif args.native:
            rows[-1] += ["", ""]
    print(table(rows))
    if found.parted:
        print(found.parted)
    if len(found.diverged) == len(found.hashes) and ends == 1:
        print(f"all diverge alike: {next(iter(found.diverged.values()))}")
    return 0 if found.agree else DIFFERENT


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
