"""The examples of docs/guide/testing-on-several-libraries.md, and the output that it shows."""

import re
import sys

from scripts.checks import pages
from tests.helpers import ROOT, environment
from xpnn import pytest_plugin

PAGE = ROOT / "docs" / "guide" / "testing-on-several-libraries.md"
TEXT = PAGE.read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(python|console)\n(.*?)^```$", TEXT, flags=re.DOTALL | re.MULTILINE)


def test_the_page_shows_what_its_examples_print():
    # the runs of pytest are in the test below
    for start, end, printed in pages.run_page(TEXT, unrun=("$ pytest", "pip install")):
        assert TEXT[start:end] == printed


def results(lines):
    """Return the tests that fail, and the numbers of tests."""
    failed = {line.split(" ")[1] for line in lines if line.startswith("FAILED ")}
    (counts,) = (
        m[1] for line in lines if (m := re.match(r"(\d+ (?:failed|passed).*?)( in |$)", line))
    )
    return failed, counts


def test_the_runs_of_the_page(pytester, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", environment()["PYTHONPATH"])
    code = ""
    runs = 0
    for kind, text in BLOCKS:
        if kind == "python":
            code += text
            continue
        pytester.makepyfile(test_standardize=code)
        command, *shown = text.splitlines()
        words = command.removeprefix("$ pytest ").split()
        run = pytester.run(sys.executable, "-m", "pytest", "-p", "xpnn.pytest_plugin", *words)
        assert results(run.outlines) == results(shown)
        runs += 1
    assert runs == 2
    # and all that the page has
    pytester.makepyfile(test_standardize=code)
    words = ["-p", "xpnn.pytest_plugin", "--xp", "numpy,numpy-readonly,strict"]
    pytester.run(sys.executable, "-m", "pytest", *words).assert_outcomes(passed=6 + 3 * 4)


def test_the_page_names_what_there_is():
    for name in (*pytest_plugin.LIBRARIES, *pytest_plugin.FEATURES[:3]):
        assert name in TEXT
    fixtures = set(re.findall(r"^\| `(\w+)` \|.*\|.*\|$", TEXT, flags=re.MULTILINE))
    own = {name for name, value in vars(pytest_plugin).items() if "ixture" in type(value).__name__}
    assert fixtures == own - {"open_library"} | {"library"}
