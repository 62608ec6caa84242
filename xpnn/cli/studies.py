"""`xpnn study`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from xpnn._core.tables import printable
from xpnn.cli.options import METRICS_HELP, Help, add_backend, listed, number
from xpnn.cli.output import FAILED, complain
from xpnn.errors import ArgumentError, counted
from xpnn.study import REPORT, cluster, load_study, write_report
from xpnn.study import run as run_study


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("study", help="do a grid of runs, and report on it")
    parser.description = "Do a grid of runs, and report on it."
    kinds = parser.add_subparsers(dest="study_command", required=True, metavar="COMMAND")
    what = "article, or a TOML file"

    start = kinds.add_parser(
        "run",
        help="do the runs that have no result yet, and write the report",
        description="Do the runs of a study that have no result yet, and write the report. Exit "
        "status 1 if a run failed; the others finish, and the next start tries it again.",
        formatter_class=Help,
    )
    start.set_defaults(run=_study_run)
    add, whole = start.add_argument, number(int)
    add("study", metavar="STUDY", help=what)
    add("--only", metavar="NAME,...", help="experiments; `xpnn study list` names them")
    add("--long", action="store_true", help="do the long experiments too")
    add("--repeats", action="store_true", help="repeat the runs that differ from the published")
    add("--data", metavar="DATA", help="data instead of the study's, read in the same way")
    add(
        "--validation",
        metavar="P|DATA",
        help="what to test on, instead of the study's: a share of the data such as 0.2, or other "
        "data",
    )
    add("--metrics", metavar="NAME,...", help=f"instead of the study's; {METRICS_HELP}")
    add("--epochs", metavar="N", type=whole, help="instead of the study's")
    add_backend(start, backend=None)
    add("--jobs", metavar="N", type=whole, help="runs at a time; one per core if left out")
    add("--cluster", metavar="ADDRESS", help="Dask scheduler whose workers do the runs")
    add("--out", metavar="FOLDER", default="runs", help="folder of the results and the report")
    add("--quiet", action="store_true", help="print nothing but errors")

    report = kinds.add_parser(
        "report",
        help="write the report again from the existing results",
        description="Write report.html, report.md, tables.csv and the figures of the study that "
        "was last run into a folder.",
    )
    report.set_defaults(run=_study_report)
    report.add_argument("out", metavar="FOLDER", help="folder of the results")

    listing = kinds.add_parser(
        "list",
        help="list the runs of a study",
        description="List the experiments of a study and their runs.",
    )
    listing.set_defaults(run=_study_list)
    listing.add_argument("study", metavar="STUDY", help=what)
    for command in (report, listing):
        command.add_argument(
            "--parts",
            dest="own_parts",
            metavar="FILE",
            action="append",
            default=[],
            help="a Python file with parts of your own that the study needs; it is run, and no "
            "file that only the study names; may be repeated",
        )


def _study_run(args: argparse.Namespace) -> int:
    options = (
        "out", "data", "validation", "long", "repeats", "epochs", "backend", "device", "dtype",
        "metrics",
    )  # fmt: skip
    given = {name: getattr(args, name) for name in options}
    given["reproducible"] = args.reproducible or None
    given["only"] = listed(args.only)
    given["progress"] = not args.quiet
    given["say"] = complain
    if args.cluster is None:
        outcome = run_study(args.study, jobs=args.jobs, **given)
    else:
        if args.jobs is not None:
            raise ArgumentError("jobs must not be given with a cluster, whose workers set it")
        with cluster(args.cluster, say=complain) as executor:
            outcome = run_study(args.study, executor=executor, **given)
    headline = write_report(args.out, say=complain)
    if not args.quiet:
        print(headline)
        if (page := Path(args.out) / REPORT).exists():
            print(f"report: {page}")
    return FAILED if outcome.failures else 0


def _study_report(args: argparse.Namespace) -> int:
    print(write_report(args.out, parts=args.own_parts, say=complain))
    return 0


def _study_list(args: argparse.Namespace) -> int:
    study = load_study(args.study, parts=args.own_parts)
    print(f"{printable(study.title)}: {counted(len(study.selected().jobs), 'run')}")
    for experiment in study.experiments:
        long = ", with --long" if experiment.long else ""
        title = printable(experiment.title)
        print(f"\n{experiment.name}: {title}, {counted(len(experiment.jobs), 'run')}{long}")
        for job in experiment.jobs:
            print(f"  {printable(str(job))}")
    return 0
