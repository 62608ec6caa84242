"""The examples of all docstrings run, and print what they show."""

import doctest
import importlib.util
import pkgutil
import warnings
from pathlib import Path

import pytest

import xpnn

# an example may register a part
pytestmark = pytest.mark.usefixtures("kept")

MODULES = [
    own.name
    for own in pkgutil.walk_packages(xpnn.__path__, "xpnn.")
    if not own.name.endswith("__main__")
]
WITH_EXAMPLES = [
    name
    for name in MODULES
    if ">>> " in Path(importlib.util.find_spec(name).origin).read_text(encoding="utf-8")
]


def test_most_public_modules_have_examples():
    assert len(WITH_EXAMPLES) > 10


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_the_examples_of_a_module(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if name == "xpnn.interop":
        pytest.importorskip("torch")
    with warnings.catch_warnings(action="ignore"):  # an example may end before it converges
        tested = doctest.testmod(importlib.import_module(name))
    assert not tested.failed
