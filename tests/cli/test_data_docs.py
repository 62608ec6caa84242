"""The examples of docs/guide/data.md, as they stand there."""

import re
import runpy

import numpy as np
import pytest

import xpnn
from tests.helpers import (
    CODES,
    COLUMNS,
    COUNTS,
    FLOWERS,
    NAMES,
    ROOT,
    read_rows,
    run,
    write_rows,
    write_table,
)
from xpnn.study import load_study, read_folder


def test_the_pages_weights(here):
    rows = [[*x, n, t] for x, n, t in zip(FLOWERS, COUNTS, NAMES, strict=True)]
    write_rows(here / "survey.csv", rows, [*COLUMNS, "people", "answer"])
    (command,), (code,) = blocks("sh weights"), blocks("python weights")
    assert run(*command.replace("\\\n", "").split()[1:]) == 0
    exec(compile(code, "docs/guide/data.md", "exec"), space := {})
    assert space["model"].sha256() == xpnn.load("survey.safetensors").sha256()


def test_the_pages_passengers(here, capsys):
    pytest.importorskip("pandas")
    runpy.run_path(str(ROOT / "docs" / "guide" / "tables.py"), run_name="__main__")
    (commands,), (code,) = blocks("sh passengers"), blocks("python passengers")
    (shown,) = blocks("text")
    for line in commands.replace("\\\n", "").splitlines():
        assert run(*line.split()[1:]) == 0
    assert capsys.readouterr().out.startswith(shown)
    assert len(read_rows(here / "predictions.csv")) == 101
    exec(compile(code, "docs/guide/data.md", "exec"), {})
    assert re.fullmatch(r"\[[01] [01] [01]\]\n", capsys.readouterr().out)


def blocks(language, page="data.md"):
    text = (ROOT / "docs" / "guide" / page).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


@pytest.fixture
def iris(here):
    """Files as the page has them; the three classes are as far apart as Iris's."""
    write_table(here / "iris.csv", np.array(["setosa", "versicolor", "virginica"])[CODES])
    write_rows(here / "new.csv", FLOWERS[:5], COLUMNS)


def test_the_pages_commands(iris, here, capsys):
    (block,) = blocks("sh")
    lines = [line.split() for line in block.splitlines()]
    assert [line[:2] for line in lines] == [
        ["xpnn", name] for name in ("train", "show", "evaluate", "predict")
    ]
    for line in lines:
        assert run(*line[1:]) == 0
    assert len(read_rows(here / "predictions.csv")) == 6


def test_the_pages_held_out_rows(iris, here, capsys):
    pytest.importorskip("matplotlib")
    (train, *_), (commands,) = (b.splitlines() for b in blocks("sh")), blocks("sh held-out")
    for line in (train[0], *commands.splitlines()):
        assert run(*line.split()[1:]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^prediction,proba_setosa,proba_versicolor,", out, re.MULTILINE)
    accuracy = re.search(r"^accuracy (.*)$", out, re.MULTILINE)[1]
    (code,) = blocks("python held-out")
    exec(compile(code, "docs/guide/data.md", "exec"), {})
    assert capsys.readouterr().out == f"18 {accuracy}\n"
    assert (here / "iris.png").exists()


def test_the_pages_study(iris, here):
    (text,) = blocks("toml table.toml", "studies.md")
    (here / "mine.toml").write_text(text)
    assert len(load_study("mine.toml").jobs) == 9
    assert run("study", "run", "mine.toml", "--epochs", 1, "--out", "out", "--jobs", 2) == 0
    found, _ = read_folder("out")
    assert run("train", "iris.csv", "--batch-size", 10, "--hidden", 5, "--seed", 2, "--validation",
               0.2, "--epochs", 1, "--save", "m", "--quiet") == 0  # fmt: skip
    (cell,) = (
        result for result in found.values()
        if (result.job.settings.hidden, result.job.settings.seed) == ("5", 2)
    )  # fmt: skip
    assert cell.weights_sha256 == xpnn.load("m").sha256()


def test_the_pages_python(iris, capsys, kept):
    first, second = blocks("python")
    for block in (first, second):
        exec(compile(block, "docs/guide/data.md", "exec"), {})
    out = capsys.readouterr().out
    assert out.startswith("['setosa' 'versicolor' 'virginica']")
    assert out.endswith("['low' 'low' 'high' 'high']\n")
