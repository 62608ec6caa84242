"""`scripts/checks/fuzz_files.py`: a few cases of each format, and what it takes for a fault."""

import importlib.util
import os
import random
import subprocess
import sys

import pytest

import xpnn.cli
from tests.helpers import ROOT, environment

if sys.platform != "linux":
    pytest.skip("resource limits of Linux", allow_module_level=True)
pytest.importorskip("PIL", reason="pictures are among the formats")

SCRIPT = ROOT / "scripts" / "checks" / "fuzz_files.py"


@pytest.fixture(scope="module")
def fuzz():
    spec = importlib.util.spec_from_file_location("fuzz_files", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_few_cases_of_each_format(fuzz):
    options = ("--count", "10", "--seed", "3", "--seconds", "60")
    done = subprocess.run(
        [sys.executable, SCRIPT, *options], capture_output=True, text=True, env=environment()
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert len(done.stdout.splitlines()) == 1 + len(fuzz.FORMATS) + 1


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
    options = type("Options", (), {"count": 3, "batch": 3, "seed": 0, "seconds": 5, "megabytes": 9})

    monkeypatch.setattr(fuzz, "child", dies_in_the_second)
    failures, refused, _, peak = fuzz.fuzzed("model", tmp_path, options)
    assert [case[1:4] for case in failures] == [(1, ["show"], "the process ended with 7")]
    assert (refused, peak) == (2, 5)


def dies_in_the_second(pipe, name, source, numbers, *rest):
    for number in numbers:
        pipe.send(("begin", number, ["show"]))
        if number == 1:
            pipe.close()
            os._exit(7)
        pipe.send(("end", number, ["show"], 2, None, 0.1, {}))
    pipe.send(("done", 5))


def test_a_seed_determines_the_changes(fuzz):
    tree = {"a": [1, 2, {"b": "text"}], "c": None}
    found = [fuzz.changed_tree(random.Random(str(seed)), tree) for seed in (*range(50), *range(50))]
    assert list(map(repr, found[:50])) == list(map(repr, found[50:]))
    assert tree == {"a": [1, 2, {"b": "text"}], "c": None}
    assert len(set(map(repr, found))) > 25
