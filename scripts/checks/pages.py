"""Run the commands and examples of pages, and compare or write the output that they show.

    python scripts/checks/pages.py docs/guide/your-table.md         # writes it
    python scripts/checks/pages.py --check docs/guide/your-table.md

The blocks of a page run in turn, in a folder of their own, with a copy of `data/mnist` if the page
names it: `sh` (xpnn, python docs/…, head -n), and `python`, which share their names. A block `text`
after one is what it prints, standard error too; without it, the output isn't compared. A command
that fails must show its error.

Of more than eight epochs, the first three and the last two are shown. What doesn't depend on
training is equal to the last digit: all words, and the lines in `EXACT`. Where training decides,
machines differ: numbers with a point may differ by 0.02 + 5 %, whole numbers by 3 + 5 %. Times, and
the epochs at which something happened, aren't compared.
"""

import argparse
import contextlib
import io
import os
import re
import runpy
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

from xpnn.cli import main

ROOT = Path(__file__).resolve().parents[2]
_BLOCK = re.compile(r"^```(sh|python|text)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)
_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e[+-]?\d+)?(?!\w)")
_EPOCH = re.compile(r" *\d+(?:  +-?[\d.e+-]+){2,}")
EXACT = re.compile(
    r"data |target |CAREFUL|column |features |classes |held out |layer |total |dense|xpnn: "
)
_WHEN = re.compile(
    r"^time .*|^stopped .*|(?<= at epoch )\d+|^ *\d+(?=(?:  +-?[\d.e+-]+){2,}$)", re.M
)
TIGHT, LOOSE, COUNTS = 0.02, 0.05, 3


def blocks(text):
    """Return the kind and the lines of each block that runs."""
    return [pair for pair in _BLOCK.findall(text) if pair[0] != "text"]


def run_page(text):
    """Yield start, end and what should be there of each block `text`."""
    names = {"__name__": "example"}
    printed = None
    for block in _BLOCK.finditer(text):
        kind, code = block.groups()
        if kind != "text" and (printed or "").startswith("xpnn: error: "):
            raise ValueError(f"a page must show its errors: {printed}")
        if kind == "text":
            if printed is None:
                raise ValueError(f"nothing ran before {code!r}")
            yield block.start(2), block.end(2), printed
            printed = None
        elif kind == "sh":
            printed = _shortened(_printed_by_commands(code))
        else:
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(compile(code, "example", "exec"), names)
            printed = _shortened(out.getvalue())


def _printed_by_commands(block):
    out = io.StringIO()
    for line in block.replace("\\\n", " ").splitlines():
        name, *words = shlex.split(line)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            if name == "xpnn":
                try:
                    status = main(words)
                except SystemExit as error:
                    status = error.code
                if status != 0 and not out.getvalue().startswith("xpnn: error: "):
                    raise ValueError(f"{line}: exit status {status}\n{out.getvalue()}")
            elif name == "python":
                runpy.run_path(str(ROOT / words[0]), run_name="__main__")
            elif name == "head":
                lines = Path(words[2]).read_text(encoding="utf-8").splitlines(keepends=True)
                out.write("".join(lines[: int(words[1])]))
            else:
                raise ValueError(f"no such command here: {line}")
    return out.getvalue()


def _shortened(printed):
    lines = [line.rstrip() for line in printed.splitlines()]
    rows = [i for i, line in enumerate(lines) if _EPOCH.fullmatch(line)]
    if len(rows) > 8:
        lines[rows[3] : rows[-2]] = ["…"]
    return "".join(line + "\n" for line in lines)


def differences(shown, printed):
    """Return the pairs of lines that differ by more than machines may."""
    pairs = list(zip(shown.splitlines(), printed.splitlines(), strict=False))
    found = [(a, b) for a, b in pairs if not _alike(a, b)]
    if len(shown.splitlines()) != len(printed.splitlines()):
        found.append((shown, printed))
    return found


def _alike(shown, printed):
    if EXACT.match(shown):
        return shown.split() == printed.split()
    shown, printed = (_WHEN.sub("…", line) for line in (shown, printed))
    words = [re.sub(r"[-\s]+", " ", _NUMBER.sub("#", line)) for line in (shown, printed)]
    numbers = [_NUMBER.findall(line) for line in (shown, printed)]
    return words[0] == words[1] and all(
        abs(float(a) - float(b)) <= (TIGHT if "." in a + b else COUNTS) + LOOSE * abs(float(a))
        for a, b in zip(*numbers, strict=True)
    )


def run(page, *, write):
    """Run a page in a folder of its own; return what differs, or write what was printed."""
    text = page.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        if "data/mnist" in text:
            shutil.copytree(ROOT / "data" / "mnist", Path("data", "mnist"))
        blocks = list(run_page(text))
    if write:
        for start, end, printed in reversed(blocks):
            text = text[:start] + printed + text[end:]
        page.write_text(text, encoding="utf-8")
        return []
    return [
        pair for start, end, printed in blocks for pair in differences(text[start:end], printed)
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
