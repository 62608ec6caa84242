"""`scripts/checks/break_cupy.py`: its faults still fit the package, without running them."""

import ast
import importlib

import pytest

from tests.helpers import ROOT


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts" / "checks"))
    return importlib.import_module("break_cupy")


def test_every_fault_changes_its_file(script):
    """All at once too, as they are in the script's last run; what they make of it is Python."""
    texts = {}
    for fault in script.FAULTS:
        text = (ROOT / "xpnn" / fault.file).read_text(encoding="utf-8")
        ast.parse(script.broken(text, fault))
        texts[fault.file] = script.broken(texts.get(fault.file, text), fault)
    for text in texts.values():
        ast.parse(text)


def test_faults_have_names_of_their_own(script):
    names = [fault.name for fault in script.FAULTS]
    assert len(set(names)) == len(names)


def test_the_tests_that_it_runs_exist(script):
    assert [path for path in script.test_files() if not (ROOT / path).is_file()] == []
