"""The `xpnn` command, with a module for each group of its commands."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from xpnn import backends
from xpnn._core import limits
from xpnn._core.registry import load_parts
from xpnn._core.tables import table
from xpnn._version import __version__
from xpnn.cli import files, models, pictures, studies, train, verify
from xpnn.cli.faults import ended_by, warnings_in_a_line
from xpnn.cli.options import number, unrecognized
from xpnn.cli.output import USAGE_ERROR, any_text, flush, one_line
from xpnn.errors import Door, entered


class _Parser(argparse.ArgumentParser):
    """A parser with errors of one line, and options that can't be abbreviated."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE_ERROR, f"{self.prog}: error: {one_line(message)}\n")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse arguments; "-4,4" after an option is its value, not an option as for argparse."""
        joined: list[str] = []
        for text in sys.argv[1:] if args is None else args:
            if re.fullmatch("--[^=]+=--", text):
                # argparse takes it for the end of the options, and returns an empty list
                self.error(f"argument {text[:-3]}: must have a value, got '--'")
            if re.match(r"-\.?\d.*,", text) and joined and re.fullmatch("--[^=]+", joined[-1]):
                joined[-1] += f"={text}"
            else:
                joined.append(text)
        namespace, rest = super().parse_known_args(joined, namespace)
        # argparse leaves out an optional argument that comes after an option, as in
        # "verify MODEL --native DATA"
        for action in self._get_positional_actions():
            free = action.nargs == "?" and getattr(namespace, action.dest) is None
            if free and rest and not rest[0].startswith("-"):
                setattr(namespace, action.dest, rest.pop(0))
        return namespace, rest


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="xpnn", description="Train small neural networks, on any array library.")
    parser.add_argument("--version", action="version", version=f"xpnn {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    for module in (train, models, verify, studies, pictures):
        module.add(commands)

    listing = commands.add_parser(
        "backends",
        help="list the backends, and whether they are installed",
        description="List each backend: version, devices, BLAS; or what to install.",
    )
    listing.set_defaults(run=_backends)
    _add_limit(parser)
    for name, command in commands.choices.items():
        if name not in ("backends", "study"):
            command.add_argument(
                "--parts",
                metavar="FILE",
                action="append",
                default=[],
                help="a Python file that registers parts of your own, so that options can name "
                "them (docs/guide/own-parts.md); may be repeated",
            )
            command.add_argument(
                "--traceback",
                action="store_true",
                help="before the line of an error, print where in the code it was raised",
            )
    return parser


def _add_limit(parser: argparse.ArgumentParser) -> None:
    """Add the option that every command has which reads a file."""
    kinds = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    for kind in kinds:
        for name, command in kind.choices.items():
            if name not in ("backends", "activations"):
                _add_limit(command)
    if not kinds:
        parser.add_argument(
            "--max-bytes",
            metavar="N",
            type=number(int),
            help="how many bytes of memory a file may take once it is decompressed, if you trust "
            "it with more than a hundred times its size",
        )


def _backends(args: argparse.Namespace) -> int:
    rows = [("backend", "version", "devices", "BLAS", "")]
    for info in backends.describe():
        version = info.version if info.installed else "not installed"
        about = info.hint or ", ".join(dict.fromkeys(info.cards))
        rows.append((info.name, version, " ".join(info.devices), info.blas, about))
    print(table(rows))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the `xpnn` command and return its exit status.

    The status is 0 for success; 1 if `verify` found a difference, a job of a study failed, or
    nobody reads the output any more; 2 for an error that the user can correct; 70 for a fault of
    xpnn, whose traceback is then in a file that the message names; 130 for Ctrl-C.
    """
    parts: dict[str, str] = {}
    args = argparse.Namespace()
    with any_text(), warnings_in_a_line(parts):
        try:
            parser = _parser()
            args, rest = parser.parse_known_args(argv)
            if rest:
                parser.error(unrecognized(rest, args, parser))
            usual = limits.at_most(getattr(args, "max_bytes", None))
            with entered(Door.COMMAND), usual, files.prepared(args):
                for path in getattr(args, "parts", ()):
                    parts[str(load_parts(path).__file__)] = path
                status: int = args.run(args)
            flush()
        except BaseException as error:
            return ended_by(error, parts, trace=getattr(args, "traceback", False))
    return status
