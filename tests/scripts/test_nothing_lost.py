"""scripts/checks/nothing_lost.py, a few of its situations."""

import os
import subprocess
import sys

import pytest

from tests.helpers import ROOT


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
def test_nothing_is_lost():
    pytest.importorskip("matplotlib")
    only = ["Ctrl-C while saving", "kill -9 while drawing", "a full disk: model", "vanished: log"]
    script = ROOT / "scripts" / "checks" / "nothing_lost.py"
    command = [sys.executable, str(script), *(word for own in only for word in ("--only", own))]
    found = subprocess.run(command, capture_output=True, text=True, timeout=300)
    rows = [line for line in found.stdout.splitlines() if line.endswith("| 1 | 1 |")]
    assert (len(rows), found.returncode) == (len(only), 0), found.stdout + found.stderr
