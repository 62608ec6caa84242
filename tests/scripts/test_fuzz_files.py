"""`scripts/checks/fuzz_files.py`: a few cases of each format, and what it takes for a fault."""

import importlib
import os
import random
import resource
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest

import xpnn.cli
from tests.helpers import ROOT, environment

if sys.platform != "linux":
    pytest.skip("resource limits of Linux", allow_module_level=True)
pytest.importorskip("PIL", reason="pictures are among the formats")

SCRIPT = ROOT / "scripts" / "checks" / "fuzz_files.py"


@pytest.fixture(scope="module")
def fuzz():
    with pytest.MonkeyPatch.context() as patch:
        # by its name, under which another process imports it too
        patch.syspath_prepend(SCRIPT.parent)
        yield importlib.import_module("fuzz_files")


def test_a_few_cases_of_each_format(fuzz):
    options = ("--count", "10", "--seed", "3", "--seconds", "60")
    done = subprocess.run(
        [sys.executable, SCRIPT, *options], capture_output=True, text=True, env=environment()
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    rows = [line.split()[:3] for line in done.stdout.splitlines()[1:]]
    assert rows == [[name, "10", "0"] for name in (*fuzz.FORMATS, "arguments")]


def complains(*lines, status=2):
    def main(argv):
        print(*lines, sep="\n", file=sys.stderr)
        return status

    return main


def raises(error):
    def main(argv):
        raise error

    return main


@pytest.mark.parametrize(
    ("main", "fault"),
    [
        (complains("xpnn: error: a"), None),
        (complains("xpnn: CAREFUL: a", status=0), None),
        (raises(SystemExit(0)), None),
        (complains("xpnn: error: a", "b"), "2 lines for an error"),
        (complains("a"), "1 lines for an error"),
        (complains("xpnn: error: out of memory: 5"), "ran out of memory"),
        (complains("Traceback (most recent call last):", status=1), "a traceback"),
        (complains("a", status=-11), "exit status -11"),
        (raises(IndexError("a")), "IndexError: a at"),
        (raises(MemoryError()), "MemoryError"),
    ],
)
def test_what_is_a_fault(main, fault, fuzz, monkeypatch):
    monkeypatch.setattr(xpnn.cli, "main", main)
    _, wrong = fuzz.outcome(["show", "m"])
    assert wrong == fault if fault is None else wrong.startswith(fault)


def test_a_process_that_ends_is_a_fault(fuzz, tmp_path, monkeypatch):
    """And the cases after it are done in another one."""
    monkeypatch.setattr(fuzz, "child", dies_in_the_second)
    options = types.SimpleNamespace(batch=3, seconds=5)
    cases = [("model", number) for number in range(4)]
    found = list(fuzz.fuzzed(tmp_path, cases, options))
    assert [case for case, *_ in found] == cases
    assert [wrong for *_, wrong, _, _ in found] == [None, "the process ended with 7", None, None]


def dies_in_the_second(pipe, source, cases, options):
    for _, number in cases:
        pipe.send(["show"])
        if number == 1:
            pipe.close()
            os._exit(7)
        pipe.send((2, None, 0.1, 5))


def test_a_fault_of_the_changes_is_one_too(fuzz, tmp_path):
    """A folder without the file that should be changed."""
    options = types.SimpleNamespace(batch=3, seconds=60, seed=0, keep=None, megabytes=9)
    ((*_, argv, status, wrong, _, _),) = fuzz.fuzzed(tmp_path, [("model", 0)], options)
    assert (argv, status, wrong) == ([], None, "the process ended with 1")


def test_what_takes_too_long_is_a_fault(fuzz, monkeypatch):
    monkeypatch.setattr(xpnn.cli, "main", lambda argv: time.sleep(60))
    _, wrong = fuzz.outcome(["show", "m"], 0.2)
    assert wrong.startswith("took more than 0.2 s, in ")


def test_memory_is_limited(fuzz):
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    with pytest.raises(MemoryError), fuzz.limited(used + 2**28):
        bytearray(2**29)
    with fuzz.limited(used + 2**28) as peak:
        bytearray(b"x") * 2**27
    assert peak[0] >= 128
    assert len(bytearray(2**29)) == 2**29


def test_a_seed_determines_the_changes(fuzz):
    tree = {"a": [1, 2, {"b": "text"}], "c": None}
    found = [fuzz.changed_tree(random.Random(str(seed)), tree) for seed in (*range(50), *range(50))]
    assert list(map(repr, found[:50])) == list(map(repr, found[50:]))
    assert tree == {"a": [1, 2, {"b": "text"}], "c": None}
    assert len(set(map(repr, found))) > 25
