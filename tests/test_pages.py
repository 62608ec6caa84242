"""Every block of the site's pages and of the README runs in a test, and prints what the page shows.

`test_a_page_runs` runs the pages that no other test runs. What runs nowhere is in `UNRUN`, with a
reason; there the shell must be able to read it, and commands must have the arguments that it names.
"""

import re
import shlex
import subprocess
import tomllib
from collections import Counter
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

import xpnn
from scripts.checks import pages
from tests.helpers import MNIST, ROOT, open_backend, run, train_small, write_folder, write_rows
from xpnn.study.article import published

# an example may register an activation
pytestmark = pytest.mark.usefixtures("kept")

# blocks that run nowhere, by how they begin
INSTALLS, HOURS, OTHERS = "installs something", "takes too long", "needs what CI hasn't"
FIRST = "is CI's first command, with one epoch"
UNRUN = {
    "CONTRIBUTING.md": {"python3 -m venv": INSTALLS},
    "README.md": {
        "sh scripts/quickstart.sh": FIRST,
        "sh ci/test.sh": HOURS,
        "git clone": INSTALLS,
        "xpnn study run article": HOURS,
    },
    "README.ja.md": {"sh scripts/quickstart.sh": FIRST, "git clone": INSTALLS},
    "ci/cuda_on_cpu/README.md": {"python ci/cuda_on_cpu pytest": HOURS},
    "docs/guide/gpu.md": {"pip download": INSTALLS},
    "docs/guide/onnx.md": {"pip install": INSTALLS},
    "docs/guide/reproducibility.md": {
        "xpnn verify --canonical": HOURS,
        "python scripts/checks/reproducibility.py matrix": HOURS,
    },
    "docs/guide/scale.md": {"python scripts/bench/scale.py": HOURS},
    "docs/guide/studies.md": {
        "xpnn study run article": HOURS,
        "from mpi4py.futures": OTHERS,
        'data = "data/mnist"\nparts': "runs in cli/test_own_parts.py",
    },
    "docs/guide/testing-on-several-libraries.md": {"pip install": INSTALLS},
    "docs/ja/article-tables.md": {"xpnn study run article": HOURS},
    "docs/notes/fuzzing.md": {"python scripts/checks/fuzz_files.py": HOURS},
    "docs/notes/nothing-lost.md": {"python scripts/checks/nothing_lost.py": HOURS},
    "docs/notes/onnx-export.md": {"pip install": INSTALLS},
    "docs/notes/reproducibility-cost.md": {"OPENBLAS_NUM_THREADS=1": HOURS},
    "docs/notes/reproducible-namespace.md": {
        "python scripts/checks/standard_suite.py": OTHERS,
        "python scripts/checks/fuzz_namespace.py": HOURS,
        "OPENBLAS_NUM_THREADS=1": HOURS,
    },
    "docs/reference/performance.md": {"python scripts/bench/epochs.py": HOURS},
    "docs/reference/reproducibility-matrix.md": {"python scripts/checks/reproducibility": HOURS},
}
# pages whose blocks run in another test, and how many blocks of each kind it takes
ELSEWHERE = {
    "README.md": ("test_pages.py", {"sh": 5, "text": 1, "python": 2, "console": 2}),
    # its example is the English one's
    "README.ja.md": ("cli/test_guide_docs.py", {"sh": 2, "python": 1}),
    "docs/index.md": ("ci/test_site.py", {"sh": 1}),
    "docs/guide/data.md": (
        "cli/test_data_docs.py",
        {
            "sh": 1, "python": 2, "sh held-out": 1, "python held-out": 1, "sh weights": 1,
            "python weights": 1, "sh passengers": 1, "text": 1, "python passengers": 1,
        },
    ),
    "docs/guide/estimators.md": ("test_estimators.py", {"python": 3}),
    "docs/guide/losses.md": ("cli/test_losses_docs.py", {"sh": 1, "python": 1}),
    "docs/guide/own-parts.md": (
        "cli/test_own_parts.py", {"python": 9, "python use": 2, "text": 3, "sh": 1},
    ),
    "docs/guide/plots.md": ("cli/test_plot_command.py", {"sh": 5, "python": 2}),
    "docs/guide/python.md": ("test_python_docs.py", {"python": 4}),
    "docs/guide/testing-on-several-libraries.md": (
        "testing/test_page.py", {"sh": 1, "python": 7, "console": 2, "text": 2},
    ),
    "docs/guide/training.md": ("cli/test_training_docs.py", {"python": 2, "sh": 1}),
    "docs/guide/weights.md": ("cli/test_losses_docs.py", {"python": 3}),
}  # fmt: skip
_WHOLE = {
    "cli/test_guide_docs.py": [
        *(f"guide/{name}" for name in ("your-table", "classification", "regression", "safety")),
        *(f"guide/from-{name}" for name in ("scikit-learn", "keras", "pytorch")),
        "guide/from-dezero-and-chainer",
        *(f"tutorials/{name}" for name in ("01-first-network", "02-your-table")),
        *(
            f"ja/{name}"
            for name in (
                "from-dezero-and-chainer",
                "01-first-network",
                "02-your-table",
                "03-same-bits",
                "article",
            )
        ),
    ],
    "reproducible/test_page.py": ["guide/reproducible-namespace"],
}
TUTORIALS = [page.name for page in ROOT.glob("docs/tutorials/*.md")]
ELSEWHERE |= {f"docs/{name}.md": (test, None) for test, names in _WHOLE.items() for name in names}


def all_pages():
    """Return the pages that have blocks, by path."""
    every = [*ROOT.glob("*.md"), *ROOT.glob("ci/*/*.md"), *ROOT.glob("docs/**/*.md")]
    texts = {path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in every}
    return {
        name: text
        for name, text in sorted(texts.items())
        if pages.fences(text) and not name.startswith("docs/_build/")
    }


PAGES = all_pages()


def mnist():
    """Make a folder laid out as MNIST's, with few and small images."""
    Path("data").mkdir()
    write_folder(Path("data", "mnist"), counts=(100, 50))


IRIS = ["sepal length", "sepal width", "petal length", "petal width"]


def iris():
    """Write the irises as a CSV file."""
    datasets = pytest.importorskip("sklearn.datasets")
    found = datasets.load_iris()
    kinds = found.target_names[found.target]
    write_rows(
        Path("iris.csv"), [[*x, k] for x, k in zip(found.data, kinds, strict=True)], [*IRIS, "kind"]
    )
    Path("flowers.csv").write_bytes(Path("iris.csv").read_bytes())
    mnist()


def model_file():
    """Save a model."""
    xpnn.save(train_small(epochs=1)[0], "model.safetensors")


def mapped():
    """Save images and their labels."""
    rng = np.random.RandomState(0)
    np.save("images.npy", rng.randint(0, 256, (120, 784)).astype("uint8"))
    np.save("labels.npy", np.arange(120) % 10)


QUICK = {"--epochs": "1"}
PREPARE = {
    "docs/guide/metrics.md": iris,
    "docs/guide/onnx.md": model_file,
    "docs/guide/reproducibility.md": iris,
    "docs/guide/scale.md": mapped,
}
NEEDS = {
    "ci/cuda_on_cpu/README.md": ["cupy"],
    "docs/guide/gpu.md": ["cupy"],
    "docs/guide/reproducibility.md": ["torch"],
    "docs/tutorials/03-same-bits.md": ["cupy", "torch", "jax"],
}


@pytest.mark.parametrize("name", [name for name in PAGES if name not in ELSEWHERE])
def test_a_page_runs(name, here):
    for library in NEEDS.get(name, ()):
        open_backend(library)
    found = pages.run(
        ROOT / name,
        write=False,
        prepare=PREPARE.get(name, mnist),
        unrun=UNRUN.get(name, ()),
        extra={"train": QUICK, "verify": QUICK | {"--backends": "numpy,strict"}},
    )
    assert found == []


def test_every_block_is_where_it_is_said_to_run():
    assert ELSEWHERE.keys() | UNRUN.keys() <= PAGES.keys()
    for name, begins in UNRUN.items():
        for begin in begins:
            assert [b for b in pages.fences(PAGES[name]) if b.code.startswith(begin)], begin


@pytest.mark.parametrize("name", ELSEWHERE)
def test_another_test_takes_the_blocks_of_a_page(name):
    """It reads the page, and asks for each kind of block by its first line."""
    test, kinds = ELSEWHERE[name]
    text = (ROOT / "tests" / test).read_text(encoding="utf-8")
    page = Path(name)
    if kinds is None:  # the whole page, of a list or of the tutorials
        assert "pages.run(" in text or "pages.run_page(" in text
        listed = f'"{page.stem}"' in text or f'"{page.parent.name}/{page.stem}"' in text
        assert listed or (page.name in TUTORIALS and "TUTORIALS" in text) or page.name in text
        return
    assert page.name in text
    # a new block must be taken there too, and be counted here
    assert Counter(block.info for block in pages.fences(PAGES[name])) == kinds
    for kind in kinds:
        asked = [rf"```{kind}\n", f'blocks("{kind}")', "pages.run_page(", "pages.fences("]
        assert any(way in text for way in asked), kind


def test_each_block_of_the_readme_is_in_a_test():
    begins = (*UNRUN["README.md"], *EXAMPLES, LOG, VERIFY)
    for block in pages.fences(PAGES["README.md"]):
        assert block.code.startswith(begins)


def test_what_runs_nowhere_can_be_read():
    for name in ("README.md", "README.ja.md", "docs/guide/testing-on-several-libraries.md"):
        for begin in UNRUN[name]:
            for block in pages.fences(PAGES[name]):
                if block.code.startswith(begin):
                    pages.check_commands(block.code)


@pytest.mark.parametrize(
    "block",
    [
        "xpnn train data --epoch-s 3",
        "python scripts/checks/fuzz_files.py --sead 31",
        "python scripts/checks/nothing.py",
        "pip install '.[nothing]'",
        "xpnn verify 'data",
        "rm -r data",
    ],
)
def test_a_command_that_is_wrong_is_found(block, capsys):
    with pytest.raises((SystemExit, ValueError, OSError, subprocess.CalledProcessError)):
        pages.check_commands(block)


# what a page needs, and what it says to install

EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"][
    "optional-dependencies"
]


def _library(name):
    """Return what shows that a block runs on a library."""
    return rf'"{name}[":]|--(?:backends?|xp) \S*\b{name}\b'


# packages of the index, by what shows in a block that it needs them
SIGNS = {
    r"^\s*(?:import|from) (?:pandas|polars)\b|from_table\(": ["narwhals"],
    r"^\s*(?:import|from) pandas\b|\.to_pandas\(": ["pandas"],
    r"^\s*(?:import|from) sklearn\b|xpnn\.estimators": ["scikit-learn"],
    r"^\s*(?:import|from) matplotlib\b|xpnn plot|--plot|\bplot_\w+\(": ["matplotlib"],
    r"^\s*(?:import|from) onnx\b|xpnn export|export_onnx": ["onnx"],
    r"^\s*(?:import|from) onnxruntime\b": ["onnxruntime"],
    r"^\s*(?:import|from) PIL\b": ["pillow"],
    r"^\s*(?:import|from) (?:dask|distributed)\b": ["distributed"],
    r"--tensorboard|TensorBoard\(": ["tensorboardX"],
    r"xpnn study (?:run|report)": ["jinja2", "matplotlib"],
    r"datasets\.mnist\(\)": ["pooch"],
    r"^pytest\b": ["pytest"],
    rf"^\s*(?:import|from) torch\b|{_library('torch')}": ["torch"],
    rf"^\s*(?:import|from) jax\b|{_library('jax')}": ["jax"],
    _library("strict"): ["array-api-strict"],
}
# what a page needs and leaves to its reader, in its own words
LEFT = {"docs/guide/testing-on-several-libraries.md": {"torch", "jax"}}
# a developer has these pages' packages, which CONTRIBUTING.md says how to install
DEVELOPERS = ("docs/notes/", "docs/reference/", "ci/")


def needed(text):
    """Return the packages that a page's blocks need, beside those that xpnn brings."""
    found = set()
    for block in pages.fences(text):
        kind, _, word = block.info.partition(" ")
        if kind in ("sh", "console", "python") and word not in pages.OTHER_LIBRARIES:
            code = re.sub(r"\s#.*", "", block.code)
            found |= {p for sign, own in SIGNS.items() if re.search(sign, code, re.M) for p in own}
    return found


def installed(text):
    """Return the packages that a page says how to install, by name or in an extra of xpnn's."""
    found = set()
    for command in re.findall(r"pip install ([^`\n#;]*)", text):
        for word in shlex.split(command):
            extra = re.fullmatch(r"(?:\.|xpnn)\[(.*)\]", word)
            names = chain(*(EXTRAS[name] for name in extra[1].split(","))) if extra else [word]
            found |= {re.split(r"[\[<>=]", name)[0] for name in names}
    return found


USERS = [name for name in PAGES if not name.startswith(DEVELOPERS)]


@pytest.mark.parametrize("name", USERS)
def test_a_page_says_what_to_install(name):
    assert needed(PAGES[name]) - installed(PAGES[name]) - LEFT.get(name, set()) == set()


def test_pages_install_from_one_place():
    """From the clone as long as the index has no version, and then all of them from there."""
    every = " ".join(PAGES[name] for name in USERS)
    places = re.findall(r"pip install '?(\.|xpnn\b)", every)
    assert len(places) > 30
    assert len(set(places)) == 1


def test_what_needs_a_package_is_found():
    text = "```sh\nxpnn export a b  # --plot\n```\n```python\nimport pandas\n```\n"
    assert needed(text) == {"onnx", "pandas", "narwhals"}
    assert needed("```python keras\nimport torch\n```\n") == set()
    assert needed("```sh\nxpnn verify --backends numpy,strict\n```\n") == {"array-api-strict"}
    assert installed("`pip install '.[table]' pandas` or `onnx`") == {"narwhals", "pandas"}


def test_the_readme_names_every_extra_of_users():
    shown = set(re.findall(r"'(?:\.|xpnn)\[(\w+)\]'", PAGES["README.md"]))
    assert shown == EXTRAS.keys() - {"test", "docs", "dev"}


# the README

# how the blocks begin that the tests below take
LOG, VERIFY = "data data/mnist", "$ xpnn verify"
EXAMPLES = ("import xpnn", "xpnn train", "$ xpnn train", "@xpnn")


@pytest.mark.skipif(not MNIST.exists(), reason="the sdist doesn't hold it")
def test_the_readme_shows_the_published_log(here, capsys):
    """What quickstart.sh prints: its first lines, and the rows and figures of the published log."""
    (shown,) = (b.code for b in pages.fences(PAGES["README.md"]) if b.code.startswith(LOG))
    script = (ROOT / "scripts" / "quickstart.sh").read_text(encoding="utf-8")
    options = shlex.split(script.partition("train data/mnist ")[2].partition("--log")[0])
    options = [word for word in options if word != "\n"]
    options[options.index("--epochs") + 1] = "1"
    (here / "data").mkdir()
    (here / "data" / "mnist").symlink_to(MNIST)
    assert run("train", "data/mnist", *options) == 0
    lines, printed = shown.splitlines(), capsys.readouterr().out.splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("0 "))
    assert lines[:first] == printed[:first]
    log = published.log("h_swish")
    rows = [line.split() for line in lines if re.match(r"\d+ 0\.", line)]
    assert [int(row[0]) for row in rows] == [0, 1, 2, 50]
    ours = [line.split() for line in printed if re.match(r"[01] 0\.", line)]
    for row in [*rows, *ours]:
        expected = [column[int(row[0])] for name, column in log.items() if name != "epoch"]
        np.testing.assert_allclose([float(w) for w in row[1:5]], expected, rtol=1e-12)
    best = max(log["test_accuracy"])
    assert f"best test accuracy {best} at epoch {log['test_accuracy'].index(best)}" in lines
    for level in (95, 97, 98):
        reached = [i for i, value in enumerate(log["test_accuracy"]) if value >= level / 100]
        told = f"first reached at epoch {reached[0]}" if reached else "not reached"
        assert f"test accuracy {level} % {told}" in lines


def test_the_readme_shows_the_hashes(capsys):
    (block,) = (b.code for b in pages.fences(PAGES["README.md"]) if b.code.startswith(VERIFY))
    assert run("verify", "--epochs", 1, "--backends", "numpy,strict") == 0
    hashes = re.findall(r"^\d +([0-9a-f]{16})", capsys.readouterr().out, re.MULTILINE)
    rows = [line.split() for line in block.splitlines() if line[0].isdigit()]
    assert rows[:2] == [[str(i), *[value] * 4, "yes"] for i, value in enumerate(hashes)]
    # native runs have the same parameters to begin with, and then each library's own bits
    assert rows[3][:6] == rows[0]
    assert [row[5] for row in rows[4:]] == ["no", "no"]


def test_the_readmes_examples_run(here):
    open_backend("torch")  # on which one of them trains
    iris()
    write_rows(Path("new.csv"), [[5.1, 3.5, 1.4, 0.2]], IRIS)
    train_small(xpnn.CSVLogger("other.csv"), epochs=1)
    text = "".join(
        f"```{block.info}\n{block.code}```\n"
        for block in pages.fences(PAGES["README.md"])
        if block.code.startswith(EXAMPLES)
    )
    for long, short in [
        ("epochs=50", "epochs=1"),
        ("--epochs 50", "--epochs 1"),
        ("verify data/mnist --epochs 1", "verify data/mnist --epochs 1 --backends numpy,strict"),
        ("xpnn study run article --jobs 2", "xpnn study list article"),
    ]:
        assert long in text
        text = text.replace(long, short)
    # what another test holds to a machine
    text = re.sub(r"^(\$ )?xpnn backends\n(backend .*\n(.*\n)*?(?=```))?", "", text, flags=re.M)
    ((start, end, printed),) = pages.run_page(text)
    assert pages.differences(text[start:end], printed) == []
