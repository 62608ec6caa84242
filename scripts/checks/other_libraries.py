"""Run the examples that pages show for another library, where that library is and xpnn isn't.

    python scripts/checks/other_libraries.py dezero docs/guide/from-dezero-and-chainer.md

Of the page's blocks those of the library run, and those of Python that don't name xpnn, in turn, in
an empty folder. What one with a `print` prints must stand in the next block `text`, to the last
digit; progress bars aren't looked at.
ci/other_libraries.sh makes the environments.
"""

import contextlib
import io
import re
import sys
import tempfile
from pathlib import Path

BLOCK = re.compile(r"^```(\S+)(?: (\S+))?\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)


def run(library, page):
    """Run the blocks of a page; return how many the library has, and the outputs that differ."""
    names, count, printed, wrong = {"__name__": "example"}, 0, None, []
    for kind, word, code in BLOCK.findall(page.read_text(encoding="utf-8")):
        if kind == "text":
            if printed is not None and printed != code:
                wrong.append((code, printed))
            printed = None
        elif kind == "python" and (word == library or (not word and "xpnn" not in code)):
            count += word == library
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(compile(code, f"{page.name}, example {count}", "exec"), names)
            if "print(" in code:
                printed = out.getvalue()
    return count, wrong


def main(library, *pages):
    for page in [Path(page).resolve() for page in pages]:
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            count, wrong = run(library, page)
        print(f"{page.name}: {count} examples of {library} run, {len(wrong)} print something else")
        for shown, printed in wrong:
            print(f"- {shown}+ {printed}", end="")
        if wrong or not count:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
