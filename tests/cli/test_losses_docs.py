"""docs/guide/losses.md and docs/guide/weights.md, and losses at the command line."""

import re
import shlex

import numpy as np
import pytest

from tests.helpers import ROOT, rng, run
from xpnn import metrics
from xpnn.losses import LOSSES

GUIDE = ROOT / "docs" / "guide"
PAGE = (GUIDE / "losses.md").read_text(encoding="utf-8")
X = rng(0).standard_normal((80, 2))
COUNTS = rng(1).poisson(np.exp(0.8 * X[:, 0] + 0.5))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, with a table of counts in it."""
    monkeypatch.chdir(tmp_path)
    rows = [f"{a},{b},{count}" for (a, b), count in zip(X, COUNTS, strict=True)]
    (tmp_path / "visits.csv").write_text("\n".join(["a,b,visits", *rows]), encoding="utf-8")
    return tmp_path


def figures(capsys):
    lines = (line.split() for line in capsys.readouterr().out.splitlines())
    return {name: float(value) for name, value in lines}


def test_every_loss_is_on_the_page():
    named = re.findall(r"^\| `(\w+)\(.*?\)` \| `([^`]*)`", PAGE, flags=re.MULTILINE)
    assert {LOSSES.parse(text)[0]: LOSSES.make(text).__class__.__name__ for _, text in named} == {
        loss.name: name for name, text in named for loss in [LOSSES.make(text)]
    }
    assert {LOSSES.make(text).name for _, text in named} == {
        name for name, part in LOSSES.items() if part.__module__.startswith("xpnn.")
    }


def test_the_example_of_intervals_runs(capsys):
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    exec(block, {})
    # of 200 samples; 0.8 ± 0.03, and what 600 samples teach
    assert 0.7 < float(capsys.readouterr().out) < 0.9


def test_the_commands_of_counts_run(folder, capsys):
    (block,) = re.findall(r"```sh\n(xpnn train .*?)```", PAGE, flags=re.DOTALL)
    for line in block.splitlines():
        assert run(*shlex.split(line)[1:]) == 0
    capsys.readouterr()
    values = np.loadtxt("predicted.csv", skiprows=1)
    assert (folder / "predicted.csv").read_text().startswith("prediction\n")
    assert (values > 0).all()
    assert run("evaluate", "visits.safetensors", "visits.csv") == 0
    found = figures(capsys)
    assert list(found) == ["loss", "r2_score", "root_mean_squared_error"]
    np.testing.assert_allclose(found["r2_score"], metrics.r2_score(COUNTS, values), rtol=1e-5)
    # nearly zero: a difference of two means, which were rounded to float32
    terms = np.mean(values), np.mean(COUNTS * np.log(values))
    loss, rounding = terms[0] - terms[1], np.finfo("float32").eps * np.abs(terms).sum()
    np.testing.assert_allclose(found["loss"], loss, rtol=1e-5, atol=rounding)
    # far better than the best constant
    assert found["loss"] < COUNTS.mean() - COUNTS.mean() * np.log(COUNTS.mean()) - 0.1


def test_quantiles_at_the_command_line(folder, capsys):
    options = "--loss quantile:levels=0.1,0.9 --optimizer adam:lr=0.01 --epochs 60 --quiet"
    assert run("train", "visits.csv", *options.split(), "--save", "model.safetensors") == 0
    assert run("predict", "model.safetensors", "visits.csv", "--out", "predicted.csv") == 0
    assert (folder / "predicted.csv").read_text().startswith("prediction_0.1,prediction_0.9\n")
    values = np.loadtxt("predicted.csv", skiprows=1, delimiter=",")
    assert run("evaluate", "model.safetensors", "visits.csv") == 0
    found = figures(capsys)
    names = ["targets_below_prediction_0.1", "targets_below_prediction_0.9"]
    assert list(found) == ["loss", *names]
    shares = np.mean(COUNTS[:, None] <= values, axis=0)
    np.testing.assert_allclose([found[name] for name in names], shares, rtol=0, atol=1 / 80)
    assert run("show", "model.safetensors") == 0
    assert "Quantile(levels=(0.1, 0.9))" in capsys.readouterr().out


@pytest.mark.parametrize("loss", ["mae", "mean_absolute_error", "huber:delta=0.5"])
def test_whole_numbers_are_values_for_a_loss_of_values(loss, folder, capsys):
    assert run("train", "visits.csv", "--loss", loss, "--epochs", 2, "--save", "m.safetensors") == 0
    capsys.readouterr()
    assert run("show", "m.safetensors") == 0
    printed = capsys.readouterr().out
    assert "classes" not in printed
    assert "target normalizer" in printed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--loss poison", "unknown loss 'poison'; did you mean 'poisson'?"),
        ("--loss huber:delta=-1", "delta must be a finite number > 0, got -1"),
        ("--loss quantile:levels=0.9,0.1", "levels must be increasing numbers > 0 and < 1"),
        ("--loss quantile:levels=0.9,x", "'x' must have the form parameter=value"),
        ("--loss poisson --normalize-target standard", "target_normalizer must be None for"),
        ("--loss poisson --target a", "targets must be >= 0 for the loss Poisson()"),
        ("--loss poisson --task classification", ""),
    ],
)
def test_mistakes(options, message, folder, capsys):
    status = run("train", "visits.csv", "--epochs", 1, "--quiet", *options.split())
    (line, *more) = capsys.readouterr().err.splitlines() or [""]
    assert (status, more) == (2 if message else 0, [])
    assert message in line


def test_the_examples_of_weights_run(tmp_path, monkeypatch, capsys):
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    monkeypatch.chdir(tmp_path)
    page = (GUIDE / "weights.md").read_text(encoding="utf-8")
    space = {}
    for block in re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL):
        exec(block, space)
    labels, difference, *module, same = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"\['[abc]'( '[abc]'){4}\]", labels)
    # two layers of 4 and 20 inputs, and a softmax
    assert float(difference) < 100 * 2.0**-23
    assert module[0] == "Sequential("
    assert same == "True"
    assert (tmp_path / "iris.safetensors").exists()
