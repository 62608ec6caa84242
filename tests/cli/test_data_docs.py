"""The examples of docs/guide/data.md, as they stand there."""

import re

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


def test_the_pages_weights(here):
    rows = [[*x, n, t] for x, n, t in zip(FLOWERS, COUNTS, NAMES, strict=True)]
    write_rows(here / "survey.csv", rows, [*COLUMNS, "people", "answer"])
    (command,), (code,) = blocks("sh weights"), blocks("python weights")
    assert run(*command.replace("\\\n", "").split()[1:]) == 0
    exec(compile(code, "docs/guide/data.md", "exec"), space := {})
    assert space["model"].sha256() == xpnn.load("survey.safetensors").sha256()


def test_the_pages_passengers(here, capsys):
    rng = np.random.RandomState(0)
    rows = [
        [i, i + 1, i % 2, rng.randint(1, 4), f"Name {i}", ["male", "female"][i % 2],
         rng.randint(80) if i % 9 else "", i % 5 == 0, f"A/{i}", "SCQ"[i % 3] if i % 20 else ""]
        for i in range(60)
    ]  # fmt: skip
    names = [
        "PassengerId",
        "Survived",
        "Pclass",
        "Name",
        "Sex",
        "Age",
        "Alone",
        "Ticket",
        "Embarked",
    ]
    write_rows(here / "passengers.csv", rows, ["", *names])
    write_rows(here / "new.csv", [row[1:] for row in rows[:5]], names)
    (commands,), (code,) = blocks("sh passengers"), blocks("python passengers")
    for line in commands.replace("\\\n", "").splitlines():
        assert run(*line.split()[1:]) == 0
    printed = capsys.readouterr().out
    assert "10 features from 5 columns (3 encoded: Sex, Alone, Embarked; missing: " in printed
    assert len(read_rows(here / "predictions.csv")) == 6
    exec(compile(code, "docs/guide/data.md", "exec"), {})
    assert capsys.readouterr().out == "[0 1 0]\n"


def blocks(language):
    text = (ROOT / "docs" / "guide" / "data.md").read_text(encoding="utf-8")
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


def test_the_pages_python(iris, capsys, monkeypatch):
    monkeypatch.setattr(
        "xpnn.normalizers.NORMALIZERS._parts", dict(xpnn.normalizers.NORMALIZERS._parts)
    )
    first, second = blocks("python")
    for block in (first, second):
        exec(compile(block, "docs/guide/data.md", "exec"), {})
    out = capsys.readouterr().out
    assert out.startswith("['setosa' 'versicolor' 'virginica']")
    assert out.endswith("['low' 'low' 'high' 'high']\n")
