"""Run the commands and examples of pages, and compare or write the output that they show.

    python scripts/checks/pages.py docs/guide/your-table.md         # writes it
    python scripts/checks/pages.py --check docs/guide/your-table.md

The blocks of a page run in turn, in a folder of their own, with a copy of `data/mnist` if the page
names it. A block `sh` has commands (xpnn, python docs/…, head -n), `python` blocks share their
names, and `toml NAME` is a study that becomes a file of that name and is read. A block
`text` after one is what it prints, standard error too; without it, the output isn't compared. A
`console` has commands after `$ `, each with what it prints. A command that fails must show its
error. "…" stands for anything.

Of more than eight epochs, the first three and the last two are shown. What doesn't depend on
training is equal to the last digit: all words, and the lines in `EXACT`. Where training decides,
machines differ: numbers with a point may differ by 0.005 + 0.5 %, whole numbers by 1 + 0.5 %. With
other kernels of OpenBLAS, figures of a table differ by up to 0.06 %, mostly by less than 0.0001 %,
and an accuracy on 1000 images by 0.001. Times, and the epochs at which something happened, aren't
compared.
"""

import argparse
import contextlib
import io
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from xpnn.cli import _parser, main
from xpnn.study import load_study

ROOT = Path(__file__).resolve().parents[2]
_FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)
_PROMPT = re.compile(r"^\$ ((?:[^\n]*\\\n)*[^\n]*\n)((?:(?!\$ )[^\n]*\n)*)", flags=re.MULTILINE)
# libraries that a page is about, and which aren't here: ci/other_libraries.sh runs their examples
OTHER_LIBRARIES = ("chainer", "dezero", "keras")
_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e[+-]?\d+)?(?!\w)")
_EPOCH = re.compile(r" *\d+(?:  +-?[\d.e+-]+){2,}")
EXACT = re.compile(
    r"data |target |CAREFUL|column |features |classes |held out |layer |total |dense|xpnn: "
)
_WHEN = re.compile(
    r"^time .*|^stopped .*|(?<= at epoch )\d+|^ *\d+(?=(?:  +-?[\d.e+-]+){2,}$)", re.M
)
TIGHT, LOOSE, COUNTS = 0.005, 0.005, 1


class Block(NamedTuple):
    """A block of a page: its language with what stands behind, and where its lines are."""

    info: str
    code: str
    start: int
    end: int


def fences(text):
    """Return all blocks of a page, except MyST's directives."""
    found = [Block(m[1], m[2], m.start(2), m.end(2)) for m in _FENCE.finditer(text)]
    return [block for block in found if not block.info.startswith("{")]


def blocks(text):
    """Return the kind and the lines of each block that runs."""
    return [(b.info, b.code) for b in fences(text) if b.info in ("sh", "python")]


def run_page(text, *, unrun=(), extra=None):
    """Yield start, end and what should be there of each output.

    Blocks that begin with a line of `unrun` are checked and not run. `extra` has options with their
    values by the name of a command, for commands without them whose output isn't shown.
    """
    names = {"__name__": "example"}
    printed = None
    every = fences(text)
    for block, after in zip(every, [*every[1:], None], strict=True):
        kind, _, word = block.info.partition(" ")
        if kind != "text" and (printed or "").startswith("xpnn: error: "):
            raise ValueError(f"a page must show its errors: {printed}")
        if kind == "text":
            if printed is None:
                raise ValueError(f"nothing ran before {block.code!r}")
            yield block.start, block.end, printed
            printed = None
        elif block.code.startswith(tuple(unrun)):
            check(kind, block.code)
            printed = None
        elif kind == "sh":
            more = {} if after is not None and after.info == "text" else extra or {}
            printed = _shortened(_printed_by_commands(block.code, more))
        elif kind == "console":
            for command in _PROMPT.finditer(block.code):
                begin = block.start + command.start(2)
                printed = _shortened(_printed_by_commands(command[1]))
                yield begin, begin + len(command[2]), printed
            printed = None
        elif kind == "toml":
            Path(word).write_text(block.code, encoding="utf-8")
            load_study(word)
            printed = None
        elif kind == "python" and word in OTHER_LIBRARIES:
            _compiled(block.code)
        elif kind == "python":
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(_compiled(block.code), names)
            printed = _shortened(out.getvalue())
        else:
            raise ValueError(f"a block must say what it is, got {block.info!r}")


def _compiled(code):
    return compile(code, "example", "exec")


def _commands(block):
    """Return the words of each command, without comments."""
    lines = block.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def _printed_by_commands(block, extra=None):
    out = io.StringIO()
    for name, *words in _commands(block):
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            if name == "xpnn":
                try:
                    status = main([*words, *_more(words, extra or {})])
                except SystemExit as error:
                    status = error.code
                differ = words[0] == "verify" and "--native" in words and status == 1
                if status != 0 and not differ and not out.getvalue().startswith("xpnn: error: "):
                    raise ValueError(f"{words}: exit status {status}\n{out.getvalue()}")
            elif name == "python" and words[0].startswith("docs/"):
                runpy.run_path(str(ROOT / words[0]), run_name="__main__")
            elif name == "head":
                lines = Path(words[2]).read_text(encoding="utf-8").splitlines(keepends=True)
                out.write("".join(lines[: int(words[1])]))
            else:
                raise ValueError(f"no such command here: {shlex.join([name, *words])}")
    return out.getvalue()


def _more(words, extra):
    """Return the options of `extra` that a command has not."""
    options = extra.get(words[0], {}).items()
    return [word for option in options if option[0] not in words for word in option]


class _Parsed(Exception):  # noqa: N818
    """A script's arguments are good: it goes no further."""


def check(kind, code):
    """Raise unless a block that isn't run can be read; a console isn't looked at."""
    if kind != "console":
        {"sh": check_commands, "toml": tomllib.loads, "python": _compiled}[kind](code)


def check_commands(block):
    """Raise unless the shell can read a block, and its commands have the arguments that they name.

    For commands that take too long, or need a network or a card: xpnn, scripts of the repository,
    pip with the extras of pyproject.toml.
    """
    subprocess.run(["sh", "-n"], input=block, text=True, check=True, capture_output=True)
    for words in _commands(block):
        while re.fullmatch(r"[A-Z_]+=\S*", words[0]):
            words = words[1:]
        name, *rest = words[: words.index(">")] if ">" in words else words
        if name == "xpnn":
            _parser().parse_args(rest)
        elif name == "python" and rest[0].endswith(".py"):
            _parse_arguments(ROOT / rest[0], rest[1:])
        elif name == "sh":
            subprocess.run([name, "-n", ROOT / rest[0]], check=True)
        elif name == "pip" and rest[0] == "install":
            project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
            named = {e for w in rest for e in re.findall(r"\[(.*)\]", w)}
            if not named <= project["optional-dependencies"].keys():
                raise ValueError(f"no such extra: {named}")
        elif name not in ("git", "pip", "pre-commit", "pytest", "python", "python3"):
            raise ValueError(f"no such command: {shlex.join(words)}")


def _parse_arguments(script, words):
    """Run a script up to its arguments, if it gets any; they must be good."""
    if not words and script.is_file():
        return
    parse, parse_known = (
        getattr(argparse.ArgumentParser, f"parse_{n}args") for n in ("", "known_")
    )

    def parse_only(self, *args, **kwargs):
        with mock.patch.object(argparse.ArgumentParser, "parse_known_args", parse_known):
            parse(self, *args, **kwargs)
        raise _Parsed

    def parse_known_only(self, *args, **kwargs):
        parse_known(self, *args, **kwargs)
        raise _Parsed

    with (
        mock.patch.multiple(sys, argv=[str(script), *words], path=[str(script.parent), *sys.path]),
        mock.patch.multiple(
            argparse.ArgumentParser, parse_args=parse_only, parse_known_args=parse_known_only
        ),
        contextlib.suppress(_Parsed),
    ):
        runpy.run_path(str(script), run_name="__main__")
        raise ValueError(f"{script.name} takes no arguments, got {words}")


def _shortened(printed):
    lines = [line.rstrip() for line in printed.splitlines()]
    rows = [i for i, line in enumerate(lines) if _EPOCH.fullmatch(line)]
    if len(rows) > 8:
        lines[rows[3] : rows[-2]] = ["…"]
    return "".join(line + "\n" for line in lines)


def differences(shown, printed, *, exact=False):
    """Return the pairs of lines that differ by more than machines may, or at all if `exact`."""
    pairs = list(zip(shown.splitlines(), printed.splitlines(), strict=False))
    found = [(a, b) for a, b in pairs if not (a == b if exact else _alike(a, b))]
    if len(shown.splitlines()) != len(printed.splitlines()):
        found.append((shown, printed))
    return found


def _alike(shown, printed):
    if "…" in shown:
        return re.fullmatch(".*".join(map(re.escape, shown.split("…"))), printed) is not None
    if EXACT.match(shown):
        return shown.split() == printed.split()
    shown, printed = (_WHEN.sub("…", line) for line in (shown, printed))
    words = [re.sub(r"[-\s]+", " ", _NUMBER.sub("#", line)) for line in (shown, printed)]
    numbers = [_NUMBER.findall(line) for line in (shown, printed)]
    return words[0] == words[1] and all(
        abs(float(a) - float(b)) <= (TIGHT if "." in a + b else COUNTS) + LOOSE * abs(float(a))
        for a, b in zip(*numbers, strict=True)
    )


def run(page, *, write, prepare=None, exact=False, **options):
    """Run a page in a folder of its own; return what differs, or write what was printed.

    `prepare` makes the files that the page begins with; `options` are those of `run_page`. With
    `exact`, all digits count: a page whose few steps in float64 round alike on all machines.
    """
    text = page.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        if prepare is not None:
            prepare()
        elif "data/mnist" in text:
            shutil.copytree(ROOT / "data" / "mnist", Path("data", "mnist"))
        blocks = list(run_page(text, **options))
    if write:
        for start, end, printed in reversed(blocks):
            text = text[:start] + printed + text[end:]
        page.write_text(text, encoding="utf-8")
        return []
    return [
        pair
        for start, end, printed in blocks
        for pair in differences(text[start:end], printed, exact=exact)
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("pages", nargs="+", type=Path)
    parser.add_argument("--check", action="store_true", help="write nothing")
    args = parser.parse_args()
    os.environ.setdefault("COLUMNS", "100")
    wrong = [pair for page in args.pages for pair in run(page.resolve(), write=not args.check)]
    for shown, printed in wrong:
        print(f"- {shown}\n+ {printed}")
    sys.exit(bool(wrong))
