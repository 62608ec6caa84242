"""Every block of the site's pages and of the README runs in a test, and prints what the page shows.

`test_a_page_runs` runs the pages that no other test runs. What runs nowhere is in `UNRUN`, with a
reason; there the shell must be able to read it, and commands must have the arguments that it names.
"""

import re
import shlex
import subprocess
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
# pages whose blocks run in another test, and how many blocks they have
ELSEWHERE = {
    "README.md": ("test_pages.py", 10),
    # its example is the English one's
    "README.ja.md": ("cli/test_guide_docs.py", 3),
    "docs/index.md": ("ci/test_site.py", 1),
    "docs/guide/data.md": ("cli/test_data_docs.py", 10),
    "docs/guide/estimators.md": ("test_estimators.py", 3),
    "docs/guide/losses.md": ("cli/test_losses_docs.py", 2),
    "docs/guide/own-parts.md": ("cli/test_own_parts.py", 15),
    "docs/guide/plots.md": ("cli/test_plot_command.py", 7),
    "docs/guide/python.md": ("test_python_docs.py", 4),
    "docs/guide/testing-on-several-libraries.md": ("testing/test_page.py", 12),
    "docs/guide/training.md": ("cli/test_training_docs.py", 3),
    "docs/guide/weights.md": ("cli/test_losses_docs.py", 3),
}
_WHOLE = {
    "cli/test_guide_docs.py": [
        *(f"guide/{name}" for name in ("your-table", "classification", "regression", "safety")),
        *(f"guide/from-{name}" for name in ("scikit-learn", "keras", "pytorch")),
        "guide/from-dezero-and-chainer",
        *(f"tutorials/{name}" for name in ("01-first-network", "02-your-table")),
        *(
            f"ja/{name}"
            for name in ("01-first-network", "02-your-table", "03-same-bits", "article")
        ),
    ],
    "reproducible/test_page.py": ["guide/reproducible-namespace"],
}
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
    for name, (test, count) in ELSEWHERE.items():
        text = (ROOT / "tests" / test).read_text(encoding="utf-8")
        assert Path(name).stem in text or name.rpartition("/")[0].removeprefix("docs/") in text
        # a new block must run in that test too, and be counted here
        found = len(pages.fences(PAGES[name]))
        assert (name, found) == (name, count or found)
    for name, begins in UNRUN.items():
        for begin in begins:
            assert [b for b in pages.fences(PAGES[name]) if b.code.startswith(begin)], begin


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


# the README


@pytest.mark.skipif(not MNIST.exists(), reason="the sdist doesn't hold it")
def test_the_readme_shows_the_published_log(here, capsys):
    """What quickstart.sh prints: its first lines, and the rows and figures of the published log."""
    (shown,) = (b.code for b in pages.fences(PAGES["README.md"]) if b.code.startswith("data data/"))
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
    (block,) = (b.code for b in pages.fences(PAGES["README.md"]) if "verify" in b.code[:14])
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
        if block.code.startswith(("import xpnn", "xpnn train", "$ xpnn train", "@xpnn"))
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
