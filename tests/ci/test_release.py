"""What the package index shows, and what a release names in several places."""

import re
import tomllib

import pytest

import xpnn
from tests.helpers import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SITE = "https://github.com/xpnn/xpnn/blob/v$HFPR_VERSION/"
RAW = "https://raw.githubusercontent.com/xpnn/xpnn/v$HFPR_VERSION/"


def test_the_description_has_no_relative_link():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    own = PROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]
    for rule in own["substitutions"]:
        text = re.sub(rule["pattern"], rule["replacement"], text)
    links = re.findall(r"(!?)\[[^\]]*\]\(([^)\s]+)\)", text)
    assert [link for _, link in links if not link.startswith(("https://", "#"))] == []
    ours = [(RAW if image else SITE, link) for image, link in links if "HFPR_VERSION" in link]
    assert len(ours) >= 28
    for start, link in ours:
        assert link.startswith(start)
        assert (ROOT / link.removeprefix(start).partition("#")[0]).exists()


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("CITATION.cff", f"version: {xpnn.__version__}"),
        ("recipe/recipe.yaml", f'  version: "{xpnn.__version__}"'),
    ],
)
def test_the_version_is_the_same_everywhere(file, line):
    assert line in (ROOT / file).read_text(encoding="utf-8").splitlines()


def test_the_recipe_needs_what_the_package_needs():
    text = (ROOT / "recipe" / "recipe.yaml").read_text(encoding="utf-8")
    needed = re.findall(
        r"^    - (\S+) (>=[\d.]+)$", text.partition("  run:")[2], flags=re.MULTILINE
    )
    assert sorted(map("".join, needed)) == sorted(PROJECT["project"]["dependencies"])
    build = re.findall(r"^    - (hatch\S+) (>=\S+)$", text, flags=re.MULTILINE)
    assert sorted(map("".join, build)) == sorted(PROJECT["build-system"]["requires"])


def test_actions_are_pinned_by_their_commits():
    for path in ROOT.glob(".github/workflows/*.yml"):
        used = re.findall(r"uses: (\S+)", path.read_text(encoding="utf-8"))
        assert used
        assert [own for own in used if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", own)] == []


def test_classifiers_name_the_versions_of_python_that_are_tested():
    listed = re.findall(r":: (3\.\d+)$", "\n".join(PROJECT["project"]["classifiers"]), re.MULTILINE)
    for name in ("tests", "release"):
        text = (ROOT / ".github" / "workflows" / f"{name}.yml").read_text(encoding="utf-8")
        assert listed == sorted(set(re.findall(r"^ {12}(3\.\d+)$", text, re.MULTILINE)))
    assert PROJECT["project"]["requires-python"] == f">={listed[0]}"
