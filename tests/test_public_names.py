"""No public name, parameter or option goes without two versions of warning: docs/versions.md."""

import runpy
import subprocess
import sys

import pytest

from tests.helpers import ROOT
from xpnn._core import deprecation

SCRIPT = ROOT / "scripts" / "checks" / "public_names.py"


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(SCRIPT))


def test_nothing_that_is_listed_is_gone_and_all_is_listed():
    pytest.importorskip("sklearn")
    # in a process of its own: other tests register parts
    found = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (0, ""), found.stdout + found.stderr


@pytest.mark.parametrize(
    ("line", "gone"),
    [
        ("f(a, b, *, c, d)", []),
        ("f(a, b, c)", []),
        ("f(a, *, b, c)", ["b as argument 2 of f"]),
        ("f(b, a, *, c)", ["a as argument 1 of f", "b as argument 2 of f"]),
        ("f(a, b, *, d)", ["c of f"]),
        ("f", ["a as argument 1 of f", "a of f", "b as argument 2 of f", "b of f", "c of f"]),
    ],
)
def test_what_a_change_takes_away(script, line, gone):
    listed = ["f(a, b, *, c)", "g()"]
    assert script["compare"](listed, [line, "g()"])[0] == gone
    assert script["compare"](listed, [line])[0] == sorted([*gone, "g"])


def test_an_option_that_is_renamed_is_gone(script):
    listed, lines = ["xpnn train(data, *, --out)"], ["xpnn train(data, *, --output)"]
    assert script["compare"](listed, lines) == (
        ["--out of xpnn train"],
        ["--output of xpnn train"],
    )


def test_an_old_name_that_still_works_is_not_gone(script, monkeypatch):
    monkeypatch.setattr(deprecation, "DEPRECATED", [])

    def train(x, *, lr):
        return x, lr

    train.__module__ = "xpnn.training"
    renamed = deprecation.renamed("step", "lr", since=(0, 3))(train)
    listed, line = ["xpnn.fit(x, *, step)"], script["_line"]("xpnn.fit", renamed)
    assert script["compare"](listed, [line]) == ([], ["lr of xpnn.fit"])
    monkeypatch.setattr(deprecation, "DEPRECATED", [])
    line = script["_line"]("xpnn.fit", renamed)
    assert script["compare"](listed, [line])[0] == ["step of xpnn.fit"]
