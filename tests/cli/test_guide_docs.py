"""Pages of the guide, whose commands and examples run and print what the pages show."""

import importlib
import re
import runpy
import sys

import pytest

from tests.helpers import MNIST, ROOT

# an example may register a part
pytestmark = pytest.mark.usefixtures("kept")

GUIDE = ROOT / "docs" / "guide"
PAGES = (
    "your-table",
    "classification",
    "regression",
    "from-scikit-learn",
    "from-keras",
    "from-pytorch",
    "from-dezero-and-chainer",
    "safety",
)
# of these, each line of output is what both libraries give
BOTH = ("from-pytorch", "from-dezero-and-chainer")
TUTORIALS = sorted(page.stem for page in (ROOT / "docs" / "tutorials").glob("*.md"))


@pytest.fixture(scope="module")
def pages():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "scripts" / "checks")
        yield importlib.import_module("pages")


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_page_shows_what_is_printed(name, pages, here):
    pytest.importorskip("matplotlib")
    if name == "from-pytorch":
        pytest.importorskip("torch")
    outputs = 5 if name in BOTH else 6
    check(GUIDE / f"{name}.md", pages, outputs=outputs, exact=name in BOTH)


# the third's first commands are for a GPU: it runs with small data, in tests/test_pages.py
@pytest.mark.parametrize("path", [*(f"tutorials/{name}" for name in TUTORIALS[:2]), "ja/article"])
def test_a_tutorial_shows_what_is_printed(path, pages, here):
    page = ROOT / "docs" / f"{path}.md"
    if "data/mnist" in page.read_text(encoding="utf-8") and not MNIST.exists():
        pytest.skip("the sdist doesn't hold MNIST")
    check(page, pages, outputs=3)


def check(page, pages, *, outputs, exact=False):
    """Run a page, and hold it to so many outputs and to lines that need no scroll bar."""
    assert pages.run(page, write=False, exact=exact) == []
    text = page.read_text(encoding="utf-8")
    assert text.count("```text\n") >= outputs
    assert "```text\n```" not in text
    code = [line for _, block in pages.blocks(text) for line in block.splitlines()]
    assert [line for line in code if len(line) > 100] == []


@pytest.mark.parametrize(
    ("folder", "name"),
    [*(("tutorials", name) for name in TUTORIALS), ("guide", "from-dezero-and-chainer")],
)
def test_a_page_in_japanese_has_the_same_blocks(folder, name):
    english, japanese = (
        [
            # comments are in the language of the page
            re.sub(r" +# .*", "", block)
            for block in re.findall(
                r"^```.*?^```$",
                (ROOT / "docs" / one / f"{name}.md").read_text(encoding="utf-8"),
                flags=re.DOTALL | re.MULTILINE,
            )
        ]
        for one in (folder, "ja")
    )
    assert len(english) >= 6
    assert japanese == english


def test_the_example_of_the_japanese_readme_is_that_of_the_english_one():
    (english,), (japanese,) = (
        re.findall(r"^```python\nimport.*?^```$", (ROOT / name).read_text("utf-8"), re.S | re.M)
        for name in ("README.md", "README.ja.md")
    )
    assert japanese == english


def test_the_articles_tables_in_japanese_are_generated():
    folder = ROOT / "docs" / "ja"
    tables = runpy.run_path(str(folder / "article_tables.py"))
    page, picture = tables["page"](), tables["picture"]()
    assert (folder / "article-tables.md").read_text(encoding="utf-8") == page
    assert (folder / "article-tables.svg").read_text(encoding="utf-8") == picture
    assert page.count("\n### ") == 13


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("accuracy 0.800", "accuracy 0.805", True),
        ("accuracy 0.80", "accuracy 0.81", False),
        ("accuracy 0.80", "loss 0.80", False),
        ("mae 50.5", "mae 50.7", True),
        ("mae 50.5", "mae 50.8", False),
        ("0    77  18", "0   76  19", True),
        ("0    77  18", "0   75  20", False),
        ("[1 0 0]", "[1 0 0]", True),
        ("data t.csv: 640 rows", "data t.csv: 641 rows", False),
        ("total   12   2   1502", "total   12   2   1503", False),
        ("time 0.5 s", "time 9.1 s", True),
        ("best test accuracy 0.812 at epoch 3", "best test accuracy 0.817 at epoch 30", True),
        ("best test accuracy 0.81 at epoch 3", "best test accuracy 0.83 at epoch 3", False),
        ("   30    0.841    0.362", "   31     0.838    0.365", True),
        ("   30    0.84    0.36", "   30     0.84    0.38", False),
        ("x 1", "x 1\ny 1", False),
    ],
)
def test_the_rule_of_what_may_differ(shown, printed, same, pages):
    assert (pages.differences(shown, printed) == []) == same


def test_errors_and_outputs_must_be_shown(pages, here):
    with pytest.raises(ValueError, match="a page must show its errors: xpnn: error: no file"):
        list(pages.run_page("```sh\nxpnn train no.csv\n```\n```sh\nxpnn backends\n```\n"))
    with pytest.raises(ValueError, match="nothing ran before"):
        list(pages.run_page("```text\nx\n```\n"))
    with pytest.raises(ValueError, match="no such command here: rm -r x"):
        list(pages.run_page("```sh\nrm -r x\n```\n"))


def test_output_is_written_into_a_page(pages, here):
    page = here / "page.md"
    page.write_text("```python\nprint(1 + 1)\n```\n\n```text\n3000\n```\n", encoding="utf-8")
    assert pages.run(page, write=False) == [("3000", "2")]
    assert pages.run(page, write=True) == []
    assert page.read_text(encoding="utf-8") == "```python\nprint(1 + 1)\n```\n\n```text\n2\n```\n"


def test_the_table_is_as_tables_are(monkeypatch):
    """Names of which most differ, and missing numbers and texts."""
    pandas = pytest.importorskip("pandas")
    monkeypatch.syspath_prepend(GUIDE)
    monkeypatch.delitem(sys.modules, "tables", raising=False)
    tables = importlib.import_module("tables")
    table = pandas.DataFrame(tables.passengers())
    assert table["Name"].nunique() > 0.5 * len(table)
    assert table["Ticket"].nunique() > 0.9 * len(table)
    assert {"Age", "Embarked"} == set(table.columns[table.isna().any()])
