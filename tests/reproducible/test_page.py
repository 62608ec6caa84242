"""The examples of docs/guide/reproducible-namespace.md, and the table that it leads to."""

import re
import warnings

import pytest

from scripts.checks import adversarial, pages, standard
from tests.helpers import ROOT, open_backend
from xpnn import reproducible

PAGE = (ROOT / "docs" / "guide" / "reproducible-namespace.md").read_text(encoding="utf-8")
TABLE = standard.PAGE.read_text(encoding="utf-8")


@pytest.mark.filterwarnings("default")
def test_the_page_shows_what_its_examples_print():
    for library in ("strict", "torch", "jax"):
        open_backend(library)
    for start, end, printed in pages.run_page(PAGE):
        assert PAGE[start:end] == printed
    hashes = re.findall(r"^(?:numpy|torch|jax|strict) +([0-9a-f]{16})$", PAGE, re.MULTILINE)
    assert len(hashes) == 4
    assert len(set(hashes)) == 1


def test_k_means_is_the_same_wherever_it_is_shown():
    """Each page shows it whole, in the guide, the gallery and the examples."""
    others = ("docs/gallery/plot_10_k_means.py", "examples/same_bits.py")
    steps = [
        re.findall(r"^ {8}(?:distances|nearest|belongs|centres) = .*$", text, re.MULTILINE)
        for text in (PAGE, *((ROOT / name).read_text(encoding="utf-8") for name in others))
    ]
    steps = [[line.replace("arange(3)", "arange(clusters)") for line in step] for step in steps]
    assert len(steps[0]) == 4
    assert steps[0] == steps[1] == steps[2]


def test_the_bounds_of_the_page_are_those_of_the_docstrings():
    xp = reproducible.namespace("numpy")
    rows = re.findall(r"^  \| (`.*`) \| ([\d.]+) \|$", PAGE, re.MULTILINE)
    bounds = {name: bound for names, bound in rows for name in re.findall(r"`(\w+)`", names)}
    assert len(bounds) > 20
    for name, bound in bounds.items():
        text = getattr(xp, name).__doc__
        found = re.search(r"at most ([\d.]+) ulp", text)
        if bound == "0.5":
            assert "correctly rounded" in text
        else:
            assert found
            assert float(found[1]) <= float(bound)


def test_a_function_without_a_stated_error_is_refused():
    xp = reproducible.namespace("numpy")
    assert standard.promised("imag", xp) == ("", "")
    assert standard.promised("abs", xp) == ("exact", "elementwise")
    with pytest.raises(LookupError, match=r"no error of random: give it one in ERRORS"):
        standard.promised("random", xp)


def test_what_computes_with_floats_is_called_in_both_float_dtypes():
    xp = reproducible.namespace("numpy")
    given = set()

    class Noted(standard.Inputs):
        def __getattribute__(self, name):
            array = super().__getattribute__(name)
            given.add(str(getattr(array, "dtype", None)))
            return array

    names = [name for name in adversarial.names() if standard.promised(name, xp)[1]]
    for name in names:
        given.clear()
        standard.case_of(name)(xp, Noted(xp))
        assert {"float32", "float64"} <= given or not {"float32", "float64"} & given, name
    assert len(names) > 100


def test_the_table_has_every_function_of_the_standard_and_is_true():
    """The page is written with all libraries; here, NumPy and the strict one."""
    names = [name for group in standard.functions() for name in group]
    assert re.findall(r"^\| ([\w.]+) \|", TABLE, re.MULTILINE)[1:] == names
    assert len(names) > 150
    with warnings.catch_warnings(action="ignore"):
        rows, good = standard.table(["numpy", "strict"])
    assert good
    refused = [row for row in rows if "| no |" in row]
    shown = [line for line in TABLE.splitlines() if "| no |" in line]
    assert [row.split(" | ")[-1] for row in refused] == [line.split(" | ")[-1] for line in shown]
    assert [row.split(" | ")[0] for row in refused] == [line.split(" | ")[0] for line in shown]
    others = [line for line in TABLE.splitlines() if line.startswith("| ") and line not in shown][
        1:
    ]
    assert all({*line.split(" | ")[3:-1]} == {"yes"} for line in others)
    assert [line.split(" | ")[:3] for line in others] == [
        row.split(" | ")[:3] for row in rows if row not in refused
    ]
